//! A snapshot that is loaded as it comes and never stands on the disk: `repl-diskless-load` `on-empty-db`, if
//! there is nothing to lose, `flush-before-load`, which throws the old data away before, and `swapdb`, which
//! loads it beside the old data and exchanges the two when all of it is there. Meanwhile the old data is served
//! if it is of the same history.
//!
//! The thread that unpacks a file reads the connection instead. Whatever ends that ends the load, and half a
//! data set is thrown away.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::apart::read_some;
use super::link::{Link, READ_BYTES, Watch};
use super::reader::{Event, Reader};
use super::receive::{NO_LONGER_WANTED, NO_SNAPSHOT, Place, Signs};
use crate::error::reason;
use crate::exec::sibling::Sibling;
use crate::persistence::{append, load};
use crate::stats::counters::Counter;

/// How often it looks whether a snapshot of this server has ended.
const SNAPSHOT_LOOK: Duration = Duration::from_millis(20);

/// What comes of a snapshot, up to its end.
pub(super) struct Incoming<'a> {
    watch: Watch,
    stream: &'a mut TcpStream,
    reader: &'a mut Reader,
    /// What came and was not taken yet, from `pos` on.
    piece: Vec<u8>,
    pos: usize,
    n_bytes: u64,
    is_whole: bool,
}

impl Incoming<'_> {
    /// Waits for the mark at the end.
    fn finish(&mut self) -> Result<(), String> {
        while !self.is_whole {
            self.next()?;
        }
        Ok(())
    }

    /// Waits for the next piece, or the end.
    fn next(&mut self) -> Result<(), String> {
        let mut since = Instant::now();
        loop {
            match self.reader.read()? {
                Some(Event::Piece(piece)) => {
                    self.piece.clear();
                    self.piece.extend_from_slice(piece);
                    self.pos = 0;
                    self.n_bytes += piece.len() as u64;
                    let n_bytes = self.n_bytes;
                    self.watch.note(|primary| primary.snapshot.1 = n_bytes);
                    return Ok(());
                }
                Some(Event::Whole) => {
                    self.is_whole = true;
                    return Ok(());
                }
                Some(_) => return Err(NO_SNAPSHOT.to_owned()),
                None => {
                    self.watch.look(since)?;
                    let read = |room: &mut [u8]| read_some(self.stream, room);
                    let n = self.reader.fill(READ_BYTES, read)?;
                    let counter = Counter::ReplicationInputBytes;
                    self.watch.state.stats.count(counter, n as u64);
                    if n > 0 {
                        since = Instant::now();
                        self.watch.note(|primary| primary.heard_at = Some(since));
                    }
                }
            }
        }
    }
}

impl Read for Incoming<'_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.pos == self.piece.len() && !self.is_whole {
            self.next().map_err(io::Error::other)?;
        }
        let n = room.len().min(self.piece.len() - self.pos);
        room[..n].copy_from_slice(&self.piece[self.pos..self.pos + n]);
        self.pos += n;
        Ok(n)
    }
}

/// Whereto a snapshot goes.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Into a file, and from there into memory.
    Disk,
    /// Into memory, where the old data was.
    InPlace,
    /// Into memory, beside the old data.
    Aside,
}

impl Link {
    pub(super) fn way(&self) -> Way {
        let config = &self.state.config;
        let is_free = || config.loads_empty_at_once() && self.state.keyspace.is_empty();
        match config.loads_aside() {
            true => Way::Aside,
            false if config.flushes_before_load() || is_free() => Way::InPlace,
            false => Way::Disk,
        }
    }

    pub(super) fn incoming<'a>(
        &self,
        stream: &'a mut TcpStream,
        reader: &'a mut Reader,
    ) -> Incoming<'a> {
        Incoming {
            watch: self.watch.clone(),
            stream,
            reader,
            piece: Vec::new(),
            pos: 0,
            n_bytes: 0,
            is_whole: false,
        }
    }

    /// Loads the snapshot while it comes.
    pub(super) fn full_direct(
        &mut self,
        (mut incoming, way): (Incoming<'_>, Way),
        n_bytes: u64,
        place: Place<'_>,
    ) -> Result<(), String> {
        let heard = self.first.as_ref().unwrap_or(incoming.stream).try_clone();
        let _signs = Signs::start(heard.map_err(|error| reason(&error))?)?;
        if way == Way::Aside {
            let saving = &self.state.saving;
            match self.state.role.ids().replid == place.replid {
                true => saving.begin_loading_aside(n_bytes),
                false => saving.begin_loading(n_bytes),
            }
            let mut sibling = Sibling::new(self.state, place.database);
            let loaded = self.load_aside(&mut incoming, &mut sibling, place);
            saving.end_loading();
            self.engine.forget_sibling(sibling); // which may take long
            loaded?;
        } else {
            self.load((&mut incoming, None), n_bytes, place)?;
            incoming.finish()?;
        }
        log::info!("MASTER <-> REPLICA sync: Finished with success");
        Ok(())
    }

    /// Loads it beside the data, and puts it in its place.
    fn load_aside(
        &mut self,
        incoming: &mut Incoming<'_>,
        sibling: &mut Sibling,
        place: Place<'_>,
    ) -> Result<(), String> {
        log::info!("MASTER <-> REPLICA sync: Loading DB in memory");
        let parts = load::parts(self.state, &mut *incoming).map_err(|error| error.to_string())?;
        self.engine.load_sibling(sibling, parts)?;
        incoming.finish()?;
        append::bring_to_disk(self.state);
        loop {
            if sibling.may_take_over(self.state) {
                let (applying, locked) = self.hold_everything()?;
                self.engine.begin_tick();
                if self.engine.take_over(locked, sibling)? {
                    log::info!("MASTER <-> REPLICA sync: Swapping active DB with loaded DB");
                    self.state.close_replicas(); // what they have is of another history
                    return self.follow_on(place, applying);
                }
            }
            if !self.is_wanted() {
                return Err(NO_LONGER_WANTED.to_owned());
            }
            self.state.saving.cancel_rewrite(); // of a file that is about to begin anew
            std::thread::sleep(SNAPSHOT_LOOK);
        }
    }
}
