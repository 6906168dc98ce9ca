//! The snapshot of the primary: received whole, into a file, before anything of the old data goes, unless
//! it is to be loaded as it comes (`direct`).

use std::fs::File;
use std::io::{Read, Seek, Write};
use std::net::TcpStream;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::thread::{Builder, JoinHandle};

use keyspace::locked::Locked;
use parking_lot::MutexGuard;

use super::SIGN;
use super::direct::Way;
use super::link::Link;
use super::reader::{Event, Reader};
use super::temporary::Temporary;
use crate::error::reason;
use crate::persistence::load;
use crate::role::LinkState;

pub(super) const NO_SNAPSHOT: &str = "the primary sends something else than a snapshot";
pub(super) const NO_LONGER_WANTED: &str = "the primary is no longer wanted";

fn cannot_write(error: &std::io::Error) -> String {
    let why = reason(error);
    format!(
        "Write error or short write writing to the DB dump file needed for MASTER <-> REPLICA \
         synchronization: {why}"
    )
}

/// Where a snapshot stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) replid: &'a str,
    pub(super) offset: u64,
    /// The database of the stream behind it, unless that names it.
    pub(super) database: u16,
}

impl Place<'_> {
    pub(super) fn new(replid: &str, offset: u64) -> Place<'_> {
        Place {
            replid,
            offset,
            database: 0,
        }
    }
}

/// Has the primary hear an empty line each second, until it is dropped: while the snapshot is loaded nothing
/// else tells it that this server is alive, and its patience has an end.
pub(super) struct Signs {
    /// Taken to end the thread.
    thread: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Signs {
    pub(super) fn start(mut stream: TcpStream) -> Result<Signs, String> {
        let (end, ended) = channel::<()>();
        let give = move || {
            while ended.recv_timeout(SIGN) == Err(RecvTimeoutError::Timeout) {
                // The keeper may say something here, too, each time in one piece: a primary passes over empty
                // lines in between.
                let _ = stream.write(b"\n"); // who reads the stream finds out that it is lost
            }
        };
        let thread = Builder::new().name("repl-signs".to_owned()).spawn(give);
        let thread = thread.map_err(|error| reason(&error))?;
        Ok(Signs {
            thread: Some((end, thread)),
        })
    }
}

impl Drop for Signs {
    fn drop(&mut self) {
        if let Some((end, thread)) = self.thread.take() {
            drop(end);
            let _ = thread.join(); // it does not panic
        }
    }
}

impl Link {
    /// Receives a snapshot and puts it in the place of the data.
    pub(super) fn full(
        &mut self,
        stream: &mut TcpStream,
        reader: &mut Reader,
        place: Place<'_>,
    ) -> Result<(), String> {
        log::info!("Full resync from master: {}:{}", place.replid, place.offset);
        self.note(|primary| {
            primary.link = LinkState::Sync;
            primary.snapshot = (0, 0);
        });
        let n_bytes = self.header(stream, reader)?;
        let way = self.way();
        let whereto = if way == Way::Disk { "disk" } else { "parser" };
        let what = n_bytes.map_or("streamed RDB".to_owned(), |n| format!("{n} bytes"));
        let how = n_bytes.map_or(" with EOF", |_| "");
        log::info!("MASTER <-> REPLICA sync: receiving {what} from master{how} to {whereto}");
        self.note(|primary| primary.snapshot.0 = n_bytes.unwrap_or(0));
        if way != Way::Disk {
            let incoming = self.incoming(stream, reader);
            return self.full_direct((incoming, way), n_bytes.unwrap_or(0), place);
        }
        let folder = std::env::current_dir().map_err(|error| reason(&error))?;
        let created = Temporary::create(&folder);
        let mut temporary = created.map_err(|error| cannot_write(&error))?;
        let received = temporary.file().map_err(|error| cannot_write(&error))?;
        let n_bytes = self.receive(stream, reader, received)?;
        if self.state.aof.is_fed() || self.state.config.appends() {
            let synced = received.sync_all(); // it becomes a part of that
            synced.map_err(|error| reason(&error))?;
        }
        let file = received.rewind().and_then(|()| received.try_clone());
        let file = file.map_err(|error| reason(&error))?;
        let heard = self.first.as_ref().unwrap_or(stream).try_clone();
        let _signs = Signs::start(heard.map_err(|error| reason(&error))?)?;
        self.load((file, Some(&temporary.path)), n_bytes, place)?;
        log::info!("MASTER <-> REPLICA sync: Finished with success");
        Ok(())
    }

    /// Up to the snapshot; its length, if that is known.
    fn header(
        &mut self,
        stream: &mut TcpStream,
        reader: &mut Reader,
    ) -> Result<Option<u64>, String> {
        loop {
            match reader.read()? {
                Some(Event::Snapshot { n_bytes }) => return Ok(n_bytes),
                Some(_) => return Err(NO_SNAPSHOT.to_owned()),
                None => self.await_more(stream, reader)?,
            }
        }
    }

    /// Writes the snapshot to a file; its length.
    fn receive(
        &mut self,
        stream: &mut TcpStream,
        reader: &mut Reader,
        file: &mut File,
    ) -> Result<u64, String> {
        let mut n_done = 0;
        loop {
            if !self.is_wanted() {
                return Err(NO_LONGER_WANTED.to_owned());
            }
            match reader.read()? {
                Some(Event::Piece(piece)) => {
                    let written = file.write_all(piece);
                    written.map_err(|error| cannot_write(&error))?;
                    n_done += piece.len() as u64;
                    self.note(|primary| primary.snapshot.1 = n_done);
                }
                Some(Event::Whole) => return Ok(n_done),
                Some(_) => return Err(NO_SNAPSHOT.to_owned()),
                None => self.await_more(stream, reader)?,
            }
        }
    }

    /// Puts the snapshot in the place of the data.
    pub(super) fn load<R: Read + Send>(
        &mut self,
        (snapshot, path): (R, Option<&Path>),
        n_bytes: u64,
        place: Place<'_>,
    ) -> Result<(), String> {
        // What is no snapshot at all is no reason to throw anything away.
        let parts = load::parts(self.state, snapshot).map_err(|error| error.to_string())?;
        let (applying, locked) = self.hold_everything()?;
        if path.is_none() && self.way() != Way::InPlace {
            return Err("the data may not go any more before the new is there".to_owned());
        }
        log::info!("MASTER <-> REPLICA sync: Flushing old data");
        log::info!("MASTER <-> REPLICA sync: Loading DB in memory");
        self.state
            .role
            .stream_database
            .store(place.database.into(), Relaxed);
        self.state.close_replicas(); // what they have is of another history
        self.engine.begin_tick();
        let parts = (parts, path);
        self.engine.load_from_primary(locked, parts, n_bytes)?;
        self.follow_on(place, applying)
    }

    /// All shards, and that nobody else applies anything.
    pub(super) fn hold_everything(
        &self,
    ) -> Result<(MutexGuard<'static, ()>, Locked<'static>), String> {
        loop {
            let applying = self.state.role.applying.lock();
            if !self.is_wanted() {
                return Err(NO_LONGER_WANTED.to_owned());
            }
            if let Some(locked) = self.engine.everything() {
                if !self.is_wanted() {
                    return Err(NO_LONGER_WANTED.to_owned()); // since it waited for the locks
                }
                return Ok((applying, locked));
            }
            drop(applying); // who has the locks may be about to end this history
        }
    }

    /// The data is that of this place: what comes from now on follows on it.
    pub(super) fn follow_on(
        &mut self,
        place: Place<'_>,
        applying: MutexGuard<'static, ()>,
    ) -> Result<(), String> {
        self.durable.forget();
        self.state.role.begin_history(place.replid.to_owned());
        self.state.journal.backlog.follow(place.offset);
        drop(applying);
        self.is_astray = false;
        self.session.queue = None;
        self.find_database()
    }
}
