//! The link to the source, by which this program is a replica of it: what it sends is read as `server` reads
//! a primary.
//!
//! `offset` is where in the stream the next command begins. With that and the name of the history a link
//! that was cut goes on where it was left, if the source still has what is missing.

use std::io::{self, ErrorKind, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use client::connection::Stream;
use resp::decode::encode_command;
use server::replication::handshake::Introduction;
use server::replication::reader::{Event, Reader};

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

/// What interrupted work says of itself.
pub const INTERRUPTED: &str = "interrupted";

pub struct Source<'a> {
    side: &'a Side,
    stop: &'a AtomicBool,
    stream: Stream,
    pub reader: Reader,
    replid: String,
    /// Where in the stream the next command begins.
    pub offset: u64,
    /// When something came last.
    heard: Instant,
}

/// What the source sends after the handshake.
enum Answer {
    Everything { replid: String, offset: u64 },
    Rest { replid: Option<String> },
}

impl<'a> Source<'a> {
    /// Asks for everything.
    pub fn open(side: &'a Side, stop: &'a AtomicBool) -> Result<Source<'a>, String> {
        let stream = connect(side)?;
        let (reader, first) = Reader::begin(introduction(side, None));
        let mut source = Source {
            side,
            stop,
            stream,
            reader,
            replid: String::new(),
            offset: 0,
            heard: Instant::now(),
        };
        match source.shake_hands(&first)? {
            Answer::Everything { replid, offset } => {
                (source.replid, source.offset) = (replid, offset);
                Ok(source)
            }
            Answer::Rest { .. } => Err(format!("{} does not send its data", side.named())),
        }
    }

    /// Seeks the source again, to go on where the stream was left.
    pub fn resume(&mut self) -> Result<(), String> {
        let started = Instant::now();
        loop {
            match self.go_on() {
                Ok(Answer::Rest { replid }) => {
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

    fn go_on(&mut self) -> Result<Answer, String> {
        self.stream = connect(self.side)?;
        let history = (self.replid.clone(), self.offset + 1);
        let (reader, first) = Reader::begin(introduction(self.side, Some(history)));
        self.reader = reader;
        self.heard = Instant::now();
        self.shake_hands(&first)
    }

    fn shake_hands(&mut self, first: &[String]) -> Result<Answer, String> {
        self.say(first)?;
        loop {
            match self.event()? {
                Some(Event::Say(words)) => self.say(&words)?,
                Some(Event::Full { replid, offset }) => {
                    return Ok(Answer::Everything { replid, offset });
                }
                Some(Event::Continue { replid }) => return Ok(Answer::Rest { replid }),
                Some(_) => return Err(self.strange()),
                None => self.await_more()?,
            }
        }
    }

    /// See [`Reader::read`].
    fn event(&mut self) -> Result<Option<Event<'_>>, String> {
        let event = self.reader.read();
        event.map_err(|why| format!("{}: {why}", self.side.named()))
    }

    fn strange(&self) -> String {
        format!("{} does not speak as a primary does", self.side.named())
    }

    fn say(&mut self, words: &[String]) -> Result<(), String> {
        let sent = self.stream.write_all(&encode_command(words));
        sent.map_err(|error| format!("{} is lost: {error}", self.side.named()))
    }

    /// Tells the source up to where the target has everything.
    pub fn acknowledge(&mut self, offset: u64) -> Result<(), String> {
        self.say(&["REPLCONF".to_owned(), "ACK".to_owned(), offset.to_string()])
    }

    /// Reads once, behind what is there; 0 if nothing came within a tick. A source that has been silent for
    /// long is lost: one that lives says so each few seconds.
    pub fn read(&mut self) -> Result<usize, String> {
        let stream = &mut self.stream;
        match self.reader.fill(READ_BYTES, |room| stream.read(room)) {
            Ok(0) => Err(format!("{} closed the connection", self.side.named())),
            Ok(n) => {
                self.heard = Instant::now();
                Ok(n)
            }
            Err(error) => match error.kind() {
                ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => {
                    match self.heard.elapsed() > PATIENCE {
                        true => Err(format!("{} sends nothing any more", self.side.named())),
                        false => Ok(0),
                    }
                }
                _ => Err(format!("{} is lost: {error}", self.side.named())),
            },
        }
    }

    /// Reads more, for as long as the source may take.
    fn await_more(&mut self) -> Result<(), String> {
        while self.read()? == 0 {
            if self.stop.load(Relaxed) {
                return Err(INTERRUPTED.to_owned());
            }
        }
        Ok(())
    }

    /// The snapshot, which a source may have to save first.
    pub fn snapshot(&mut self) -> Snapshot<'_, 'a> {
        Snapshot {
            source: self,
            piece: Vec::new(),
            n_read: 0,
            is_whole: false,
        }
    }
}

/// What this replica says of itself, and where it wants to go on.
fn introduction(side: &Side, history: Option<(String, u64)>) -> Introduction {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let login = side.login.as_ref().map(|login| {
        let user = login.user.as_deref().map_or(String::new(), text);
        (user, text(&login.password))
    });
    Introduction {
        login: login.unwrap_or_default(),
        history,
        ..Introduction::default()
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
    /// What came last, and how much of it was read.
    piece: Vec<u8>,
    n_read: usize,
    is_whole: bool,
}

impl Snapshot<'_, '_> {
    fn receive(&mut self) -> Result<(), String> {
        self.n_read = 0;
        self.piece.clear();
        while self.piece.is_empty() && !self.is_whole {
            match self.source.event()? {
                Some(Event::Snapshot { .. }) => {}
                Some(Event::Piece(piece)) => self.piece.extend_from_slice(piece),
                Some(Event::Whole) => self.is_whole = true,
                Some(_) => return Err(self.source.strange()),
                None => self.source.await_more()?,
            }
        }
        Ok(())
    }
}

impl Read for Snapshot<'_, '_> {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        if self.n_read == self.piece.len() {
            self.receive().map_err(io::Error::other)?;
        }
        let mut unread = &self.piece[self.n_read..];
        let n = unread.read(room)?;
        self.n_read += n;
        Ok(n)
    }
}
