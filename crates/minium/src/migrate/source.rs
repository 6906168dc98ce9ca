//! The link to the source, by which this program is a replica of it: the handshake of `server`, a snapshot
//! as bytes to read, then the stream.
//!
//! `offset` is where in the stream the next command begins. With that and the name of the history a link
//! that was cut goes on where it was left, if the source still has what is missing.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use client::connection::Stream;
use resp::decode::encode_command;
use server::replication::handshake::{Handshake, Introduction, Step};
use server::replication::transfer::Transfer;

use super::args::Side;
use super::side::PATIENCE;

/// How long a read waits before a look at what else is to be done.
pub const TICK: Duration = Duration::from_millis(100);
const CONNECTING: Duration = Duration::from_secs(10);
/// How long it waits before it seeks a lost source again, and for how long it does.
const RETRY: Duration = Duration::from_millis(500);
const SOUGHT_FOR: Duration = Duration::from_secs(60);
/// Bytes read at a time.
pub const READ_BYTES: usize = 256 << 10;
/// The longest line of a handshake.
const LINE_BYTES_MAX: usize = 4096;

/// What interrupted work says of itself.
pub const INTERRUPTED: &str = "interrupted";

pub struct Source<'a> {
    side: &'a Side,
    stop: &'a AtomicBool,
    stream: Stream,
    /// What came and was not used yet, from `pos` on.
    pub input: Vec<u8>,
    pub pos: usize,
    replid: String,
    /// Where in the stream the next command begins.
    pub offset: u64,
}

impl<'a> Source<'a> {
    /// Asks for everything.
    pub fn open(side: &'a Side, stop: &'a AtomicBool) -> Result<Source<'a>, String> {
        let stream = connect(side)?;
        let mut source = Source {
            side,
            stop,
            stream,
            input: Vec::new(),
            pos: 0,
            replid: String::new(),
            offset: 0,
        };
        match source.shake_hands(None)? {
            Step::Full { replid, offset } => {
                (source.replid, source.offset) = (replid, offset);
                Ok(source)
            }
            _ => Err(format!("{} does not send its data", side.named())),
        }
    }

    /// Seeks the source again, to go on where the stream was left.
    pub fn resume(&mut self) -> Result<(), String> {
        let started = Instant::now();
        loop {
            self.input.clear();
            self.pos = 0;
            match self.go_on() {
                Ok(Step::Continue { replid }) => {
                    self.replid = replid.unwrap_or_else(|| self.replid.clone());
                    return Ok(());
                }
                Ok(_) => {
                    return Err(format!(
                        "{} no longer has the writes that are missing: its repl-backlog-size was too \
                         small for the time that the link was down, or it was restarted. Empty the \
                         target and start again",
                        self.side.named()
                    ));
                }
                Err(why) if self.stop.load(Relaxed) || started.elapsed() > SOUGHT_FOR => {
                    return Err(format!("The link to the source was lost: {why}"));
                }
                Err(_) => std::thread::sleep(RETRY),
            }
        }
    }

    fn go_on(&mut self) -> Result<Step, String> {
        self.stream = connect(self.side)?;
        let history = (self.replid.clone(), self.offset + 1);
        self.shake_hands(Some(history))
    }

    fn shake_hands(&mut self, history: Option<(String, u64)>) -> Result<Step, String> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let login = self.side.login.as_ref().map(|login| {
            let user = login.user.as_deref().map_or(String::new(), text);
            (user, text(&login.password))
        });
        let about = Introduction {
            login: login.unwrap_or_default(),
            history,
            ..Introduction::default()
        };
        let (mut handshake, mut words) = Handshake::begin(about);
        loop {
            self.say(&words)?;
            match handshake.hear(&self.line()?) {
                Step::Send(next) => words = next,
                Step::Failed(why) => return Err(format!("{}: {why}", self.side.named())),
                step => return Ok(step),
            }
        }
    }

    fn say(&mut self, words: &[String]) -> Result<(), String> {
        let sent = self.stream.write_all(&encode_command(words));
        sent.map_err(|error| format!("{} is lost: {error}", self.side.named()))
    }

    /// Tells the source up to where the target has everything.
    pub fn acknowledge(&mut self, offset: u64) -> Result<(), String> {
        self.say(&["REPLCONF".to_owned(), "ACK".to_owned(), offset.to_string()])
    }

    /// Reads once, behind what is there; 0 if nothing came within a tick.
    pub fn read(&mut self) -> Result<usize, String> {
        self.input.drain(..self.pos);
        self.pos = 0;
        let before = self.input.len();
        self.input.resize(before + READ_BYTES, 0);
        let received = self.stream.read(&mut self.input[before..]);
        let n = received.as_ref().copied().unwrap_or(0);
        self.input.truncate(before + n);
        match received {
            Ok(0) => Err(format!("{} closed the connection", self.side.named())),
            Ok(n) => Ok(n),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(0),
                _ => Err(format!("{} is lost: {error}", self.side.named())),
            },
        }
    }

    /// Reads more, for as long as the source may take.
    fn await_more(&mut self) -> Result<(), String> {
        let started = Instant::now();
        while self.read()? == 0 {
            if self.stop.load(Relaxed) {
                return Err(INTERRUPTED.to_owned());
            }
            if started.elapsed() > PATIENCE {
                return Err(format!("{} sends nothing any more", self.side.named()));
            }
        }
        Ok(())
    }

    /// The next line that is not empty: empty ones say that the source is alive.
    fn line(&mut self) -> Result<String, String> {
        loop {
            let unread = &self.input[self.pos..];
            if let Some(n) = unread.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&unread[..n]).trim_end().to_owned();
                self.pos += n + 1;
                if !line.is_empty() {
                    return Ok(line);
                }
            } else if unread.len() > LINE_BYTES_MAX {
                return Err(format!("{} does not speak as a primary does", self.side.named()));
            } else {
                self.await_more()?;
            }
        }
    }

    /// Waits until the snapshot begins, which a source may have to save first.
    pub fn snapshot(&mut self) -> Result<Snapshot<'_, 'a>, String> {
        let line = self.line()?;
        let transfer = Transfer::announced(&line);
        let transfer = transfer
            .ok_or_else(|| format!("{} sends no snapshot but '{line}'", self.side.named()))?;
        Ok(Snapshot {
            source: self,
            transfer,
            n_ready: 0,
            n_behind: 0,
            is_whole: false,
        })
    }
}

fn connect(side: &Side) -> Result<Stream, String> {
    let stream = Stream::open(&side.endpoint, Some(CONNECTING));
    let stream = stream.map_err(|error| format!("{} cannot be reached: {error}", side.named()))?;
    let set = stream.set_timeouts(Some(TICK), Some(PATIENCE));
    set.map_err(|error| format!("{}: {error}", side.named()))?;
    Ok(stream)
}

/// The snapshot, to be read as it comes.
pub struct Snapshot<'s, 'a> {
    source: &'s mut Source<'a>,
    transfer: Transfer,
    /// Bytes of the snapshot that are in the source's input, and what is to be passed behind them.
    n_ready: usize,
    n_behind: usize,
    is_whole: bool,
}

impl Read for Snapshot<'_, '_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        while self.n_ready == 0 && !self.is_whole {
            let taken = self.transfer.take(&self.source.input[self.source.pos..]);
            (self.n_ready, self.n_behind) = (taken.n_data, taken.n_behind);
            self.is_whole = taken.is_whole;
            if self.n_ready == 0 && !self.is_whole {
                self.source.await_more().map_err(io::Error::other)?;
            }
        }
        let n = self.n_ready.min(room.len());
        let at = self.source.pos;
        room[..n].copy_from_slice(&self.source.input[at..at + n]);
        self.n_ready -= n;
        self.source.pos += n;
        if self.n_ready == 0 {
            self.source.pos += std::mem::take(&mut self.n_behind);
        }
        Ok(n)
    }
}
