//! A snapshot that comes through a connection of its own, while the first one brings the stream.
//!
//! ```text
//!   first connection    +RDBCHANNELSYNC id ─► the stream from the cut on ─► kept here ─────────┐ run
//!   second connection   REPLCONF main-ch-client-id id ─► PSYNC ? -1 ─► snapshot ─► file, loaded ┘
//! ```
//!
//! In Valkey's way (`dual-channel-replication-enabled`) the second connection is asked first, tells where its
//! snapshot stands, and the first one asks for the stream from there on, while the snapshot comes: the
//! primary may be slow to answer.
//!
//! A thread reads the first connection meanwhile, so that the primary need not keep the stream; beyond a
//! limit it reads no further, and the primary keeps what follows. What is kept is run only once the snapshot
//! is the data: until then nothing of either is seen.

use std::collections::VecDeque;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool,
    Ordering::{Acquire, Relaxed, Release},
};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::handshake::{Introduction, Offered};
use super::link::{Answer, Link, READ_BYTES};
use super::reader::{Event, Reader};
use super::receive::{NO_LONGER_WANTED, Place};
use crate::error::reason;
use crate::io::process::stop_process;
use crate::role::Primary;
use crate::state::State;

const NOT_BEGUN: &str = "the primary does not begin the snapshot that it has announced";
const NO_STREAM: &str = "the primary has no stream for the snapshot that it makes";

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
    /// The stream comes, if the connection is not lost.
    has_begun: AtomicBool,
    /// The connection has ended, or is to be left to the link.
    is_over: AtomicBool,
    is_lost: Arc<AtomicBool>,
}

impl Keeping {
    /// Begins, then keeps what comes until it is told to end, or the connection does.
    fn run(
        &self,
        mut stream: TcpStream,
        state: &State,
        begin: impl FnOnce(&Keeping, &mut TcpStream) -> Result<(), String>,
        note: impl Fn(u64),
    ) -> Result<(), String> {
        let begun = begin(self, &mut stream);
        self.is_lost.store(begun.is_err(), Relaxed);
        self.has_begun.store(true, Release);
        begun?;
        let mut room = vec![0; READ_BYTES];
        while !self.is_over.load(Relaxed) {
            let n_kept = self.kept.lock().len();
            let limit = state.config.full_sync_buffer_bytes().unwrap_or(u64::MAX);
            let n_free = limit.saturating_sub(n_kept).min(READ_BYTES as u64) as usize;
            if n_free == 0 {
                std::thread::sleep(PAUSE);
                continue;
            }
            match read_some(&mut stream, &mut room[..n_free]) {
                Ok(0) => {}
                Ok(n) => {
                    self.kept.lock().push(&room[..n]);
                    note(n_kept + n as u64);
                }
                Err(_) => {
                    self.is_lost.store(true, Relaxed);
                    break; // the link finds that out when it has run what was kept
                }
            }
        }
        Ok(())
    }

    /// Has the primary begin the stream behind the snapshot that it has offered.
    fn join(
        &self,
        stream: &mut TcpStream,
        reader: &mut Reader,
        offered: &Offered,
        patience: Duration,
    ) -> Result<(), String> {
        Link::say(stream, &reader.join(offered).ok_or(NOT_BEGUN)?)?;
        let mut heard_at = Instant::now();
        while !self.is_over.load(Relaxed) && heard_at.elapsed() <= patience {
            match reader.read()? {
                Some(Event::Say(words)) => Link::say(stream, &words)?,
                // Under another name the history has turned since the snapshot was begun.
                Some(Event::Continue { replid })
                    if replid.as_ref().is_none_or(|it| *it == offered.replid) =>
                {
                    return Ok(());
                }
                Some(_) => return Err(NO_STREAM.to_owned()),
                None => {
                    let n = reader.fill(READ_BYTES, |room| read_some(stream, room))?;
                    if n > 0 {
                        heard_at = Instant::now();
                    }
                }
            }
        }
        match self.is_over.load(Relaxed) {
            true => Ok(()), // there is another reason
            false => Err("Timeout connecting to the MASTER...".to_owned()),
        }
    }
}

/// Reads once; 0 if nothing came in time.
pub(super) fn read_some(stream: &mut TcpStream, room: &mut [u8]) -> Result<usize, String> {
    match stream.read(room) {
        Ok(0) => Err("Connection with master lost.".to_owned()),
        Ok(n) => Ok(n),
        Err(error) => match error.kind() {
            ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(0),
            _ => Err(format!("Error reading from MASTER: {}", reason(&error))),
        },
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
        self.keep_while(stream, |_, _| Ok(()), |link| link.snapshot_of(primary, id))
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
        if self.state.role.stops_at_sync.load(Relaxed) {
            stop_process();
        }
        let patience = self.state.config.replication_timeout();
        self.keep_while(
            stream,
            |keeping, stream| keeping.join(stream, reader, &offered, patience),
            |link| {
                let place = Place {
                    replid: &offered.replid,
                    offset: offered.offset,
                    database: offered.database.unwrap_or(0),
                };
                link.full(&mut second, &mut second_reader, place)
            },
        )
    }

    /// Keeps what comes through one connection, once `begin` has it come, while `get` gets the snapshot through
    /// another one. If only the stream is missing in the end, the data is there, and can be gone on from.
    fn keep_while(
        &mut self,
        stream: &TcpStream,
        begin: impl FnOnce(&Keeping, &mut TcpStream) -> Result<(), String> + Send,
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
        self.watch.is_lost = keeping.is_lost.clone();
        self.first = stream.try_clone().ok();
        let result = std::thread::scope(|scope| {
            let keeper = std::thread::Builder::new()
                .name("repl-keeper".to_owned())
                .spawn_scoped(scope, || keeping.run(first, state, begin, note))
                .map_err(|error| reason(&error))?;
            let result = get(self).and_then(|()| self.await_stream(&keeping));
            keeping.is_over.store(true, Relaxed);
            let kept = keeper.join();
            let kept = kept.unwrap_or_else(|_| Err("the stream was not kept".to_owned()));
            kept.and(result)
        });
        self.first = None;
        self.watch.is_lost = Arc::default();
        result?;
        self.kept = std::mem::take(&mut *keeping.kept.lock());
        log::info!(
            "MASTER <-> REPLICA sync: Starting to stream replication buffer into the db ({} bytes).",
            self.kept.len()
        );
        Ok(())
    }

    /// Waits until the stream comes, or is known not to.
    fn await_stream(&self, keeping: &Keeping) -> Result<(), String> {
        let is_late = !keeping.has_begun.load(Acquire);
        while !keeping.has_begun.load(Acquire) {
            if !self.is_wanted() {
                return Err(NO_LONGER_WANTED.to_owned());
            }
            std::thread::sleep(PAUSE);
        }
        if is_late && !keeping.is_lost.load(Relaxed) {
            log::info!("Dual channel replication: Psync established after rdb load");
        }
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
            Answer::Full(replid, offset) => {
                self.full(&mut second, &mut reader, Place::new(&replid, offset))
            }
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
