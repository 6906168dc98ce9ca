//! A snapshot that comes through a connection of its own, while the first one brings the stream.
//!
//! ```text
//!   first connection    +RDBCHANNELSYNC id ─► the stream from the cut on ─► kept here ─────────┐ run
//!   second connection   REPLCONF main-ch-client-id id ─► PSYNC ? -1 ─► snapshot ─► file, loaded ┘
//! ```
//!
//! In Valkey's way (`dual-channel-replication-enabled`) the second connection is asked first, tells where its
//! snapshot stands, and the first one asks for the stream from there on.
//!
//! A thread reads the first connection meanwhile, so that the primary need not keep the stream; beyond a
//! limit it reads no further, and the primary keeps what follows. What is kept is run only once the snapshot
//! is the data: until then nothing of either is seen.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use parking_lot::Mutex;

use super::handshake::Introduction;
use super::link::{Answer, Link, READ_BYTES};
use super::reader::Reader;
use crate::error::reason;
use crate::io::process::stop_process;
use crate::role::Primary;
use crate::state::State;

const NOT_BEGUN: &str = "the primary does not begin the snapshot that it has announced";

/// How long it waits before a look whether there is room again.
const PAUSE: Duration = Duration::from_millis(20);

/// The part of the stream that came while the snapshot did.
#[derive(Default)]
pub(super) struct Kept {
    chunks: VecDeque<Vec<u8>>,
    /// Bytes of the first chunk that were taken.
    pos: usize,
    n_bytes: u64,
}

impl Kept {
    fn push(&mut self, bytes: &[u8]) {
        self.n_bytes += bytes.len() as u64;
        match self.chunks.back_mut() {
            Some(last) if last.len() + bytes.len() <= READ_BYTES => last.extend_from_slice(bytes),
            _ => self.chunks.push_back(bytes.to_vec()),
        }
    }

    /// Bytes that were not taken yet.
    pub(super) fn len(&self) -> u64 {
        self.n_bytes
    }

    /// Takes the next bytes, as a socket would give them; 0 if there are none.
    pub(super) fn take(&mut self, room: &mut [u8]) -> usize {
        let Some(first) = self.chunks.front() else {
            return 0;
        };
        let n = room.len().min(first.len() - self.pos);
        room[..n].copy_from_slice(&first[self.pos..self.pos + n]);
        self.pos += n;
        self.n_bytes -= n as u64;
        if self.pos == first.len() {
            self.chunks.pop_front();
            self.pos = 0;
        }
        n
    }
}

/// What the thread that keeps the stream and the link know of each other.
#[derive(Default)]
struct Keeping {
    kept: Mutex<Kept>,
    /// The connection has ended, or is to be left to the link.
    is_over: AtomicBool,
    is_lost: AtomicBool,
}

impl Keeping {
    /// Keeps what comes until it is told to end, or the connection does.
    fn run(&self, mut stream: TcpStream, state: &State, note: impl Fn(u64)) {
        let mut room = vec![0; READ_BYTES];
        while !self.is_over.load(Relaxed) {
            let n_kept = self.kept.lock().len();
            let limit = state.config.full_sync_buffer_bytes().unwrap_or(u64::MAX);
            let n_free = limit.saturating_sub(n_kept).min(READ_BYTES as u64) as usize;
            if n_free == 0 {
                std::thread::sleep(PAUSE);
                continue;
            }
            match stream.read(&mut room[..n_free]) {
                Ok(0) => return self.is_lost.store(true, Relaxed),
                Ok(n) => {
                    self.kept.lock().push(&room[..n]);
                    note(n_kept + n as u64);
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {}
                    _ => return self.is_lost.store(true, Relaxed),
                },
            }
        }
    }
}

impl Link {
    /// Gets the snapshot through another connection, and keeps what comes through this one.
    pub(super) fn full_apart(
        &mut self,
        stream: &TcpStream,
        primary: &Primary,
        id: u64,
    ) -> Result<(), String> {
        self.keep_while(stream, |link| link.snapshot_of(primary, id))
    }

    /// Likewise, in Valkey's way.
    pub(super) fn full_dual(
        &mut self,
        (stream, reader): (&mut TcpStream, &mut Reader),
        primary: &Primary,
    ) -> Result<(), String> {
        let mut second = self.connect(primary)?;
        let about = Introduction {
            is_dual: true,
            takes_dual: false,
            history: None,
            hands_over: false,
            ..self.introduction()
        };
        let (mut second_reader, words) = Reader::begin(about);
        Link::say(&mut second, &words)?;
        let Answer::Offered(offered) = self.shake_hands(&mut second, &mut second_reader)? else {
            return Err(NOT_BEGUN.to_owned());
        };
        let words = reader.join(&offered).ok_or(NOT_BEGUN)?;
        if self.state.role.stops_at_sync.load(Relaxed) {
            stop_process();
        }
        Link::say(stream, &words)?;
        match self.shake_hands(stream, reader)? {
            // Under another name the history has turned since the snapshot was begun.
            Answer::Continue(name) if name.as_ref().is_none_or(|it| *it == offered.replid) => {}
            _ => return Err("the primary has no stream for the snapshot that it makes".to_owned()),
        }
        self.keep_while(stream, |link| {
            let place = (&*offered.replid, offered.offset);
            link.full(&mut second, &mut second_reader, place)
        })?;
        if let Some(database) = offered.database {
            let place = &self.state.role.stream_database;
            place.store(database.into(), Relaxed);
        }
        self.find_database()
    }

    /// Keeps what comes through one connection while `get` gets the snapshot through another one.
    fn keep_while(
        &mut self,
        stream: &TcpStream,
        get: impl FnOnce(&mut Link) -> Result<(), String>,
    ) -> Result<(), String> {
        let first = stream.try_clone().map_err(|error| reason(&error))?;
        let keeping = Arc::new(Keeping::default());
        let (state, generation) = (self.state, self.generation());
        let note = move |n_kept: u64| {
            state.role.note_link(generation, |primary| {
                let (now, most) = &mut primary.kept;
                (*now, *most) = (n_kept, n_kept.max(*most));
            });
        };
        self.note(|primary| primary.kept = (0, 0));
        let of_thread = keeping.clone();
        let keeper = std::thread::Builder::new()
            .name("repl-keeper".to_owned())
            .spawn(move || of_thread.run(first, state, note))
            .map_err(|error| reason(&error))?;
        let is_lost = keeping.clone();
        self.set_lost(Some(Box::new(move || is_lost.is_lost.load(Relaxed))));
        self.first = stream.try_clone().ok();
        let result = get(self);
        self.first = None;
        self.set_lost(None);
        keeping.is_over.store(true, Relaxed);
        let ended = keeper
            .join()
            .map_err(|_| "the stream was not kept".to_owned());
        result.and(ended)?;
        self.kept = std::mem::take(&mut *keeping.kept.lock());
        log::info!(
            "MASTER <-> REPLICA sync: Starting to stream replication buffer into the db ({} bytes).",
            self.kept.len()
        );
        Ok(())
    }

    fn snapshot_of(&mut self, primary: &Primary, id: u64) -> Result<(), String> {
        let mut second = self.connect(primary)?;
        let about = Introduction {
            channel_of: Some(id),
            history: None,
            hands_over: false,
            ..self.introduction()
        };
        let (mut reader, words) = Reader::begin(about);
        Link::say(&mut second, &words)?;
        match self.shake_hands(&mut second, &mut reader)? {
            Answer::Full(replid, offset) => self.full(&mut second, &mut reader, (&replid, offset)),
            _ => Err(NOT_BEGUN.to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_kept_comes_out_as_it_came() {
        let (mut kept, mut came, mut taken) = (Kept::default(), Vec::new(), Vec::new());
        for n in 0..300_usize {
            let bytes = vec![n as u8; n * 7 % 3000];
            kept.push(&bytes);
            came.extend(bytes);
        }
        assert_eq!(kept.len(), came.len() as u64);
        let mut room = [0; 1000];
        loop {
            match kept.take(&mut room) {
                0 => break,
                n => taken.extend_from_slice(&room[..n]),
            }
        }
        assert!(taken == came);
        assert_eq!(kept.len(), 0);
    }
}
