//! A snapshot that is loaded as it comes and never stands on the disk: `repl-diskless-load` `on-empty-db`, if
//! there is nothing to lose, and `flush-before-load`, which throws the old data away before.
//!
//! The thread that unpacks a file reads the connection instead. Whatever ends that ends the load, and half a
//! data set is thrown away.

use std::io::{self, Read};
use std::net::TcpStream;
use std::time::Instant;

use super::apart::read_some;
use super::link::{Link, READ_BYTES, Watch};
use super::reader::{Event, Reader};
use super::receive::{NO_SNAPSHOT, Place, Signs};
use crate::error::reason;
use crate::stats::counters::Counter;

/// What comes of a snapshot, up to its end.
struct Incoming<'a> {
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

impl Link {
    /// Whether the old data may go before the new is there.
    pub(super) fn loads_at_once(&self) -> bool {
        let config = &self.state.config;
        config.flushes_before_load()
            || config.loads_empty_at_once() && self.state.keyspace.is_empty()
    }

    /// Loads the snapshot while it comes.
    pub(super) fn full_at_once(
        &mut self,
        stream: &mut TcpStream,
        reader: &mut Reader,
        n_bytes: u64,
        place: Place<'_>,
    ) -> Result<(), String> {
        let heard = self.first.as_ref().unwrap_or(stream).try_clone();
        let mut incoming = Incoming {
            watch: self.watch.clone(),
            stream,
            reader,
            piece: Vec::new(),
            pos: 0,
            n_bytes: 0,
            is_whole: false,
        };
        let _signs = Signs::start(heard.map_err(|error| reason(&error))?)?;
        self.load((&mut incoming, None), n_bytes, place)?;
        while !incoming.is_whole {
            incoming.next()?; // the mark at the end
        }
        log::info!("MASTER <-> REPLICA sync: Finished with success");
        Ok(())
    }
}
