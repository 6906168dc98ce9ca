//! What a primary sends, from its first answer on, without any input or output: bytes in, events out.
//!
//! ```text
//!   lines of the handshake ─► +FULLRESYNC ─► $length | $EOF:mark ─► snapshot ─┐
//!                       └───► +CONTINUE, +RDBCHANNELSYNC ──────────────────►  └─► commands
//! ```
//!
//! The events are the same wherever the bytes are cut. Nothing is kept of a snapshot but what may be the
//! beginning of its mark, and nothing is allocated for a length that was only claimed. After an error the
//! connection is of no use any more.

use memchr::memmem;
use resp::request::{Limits, Parser, Span};

use super::handshake::{Handshake, Introduction, Offered, Step};

/// The longest line.
const LINE_BYTES_MAX: usize = 4096;
/// Bytes of the mark at the end of a snapshot.
const MARK_BYTES: usize = 40;
/// The longest argument of a command: what a span can tell.
const BULK_BYTES_MAX: usize = u32::MAX as usize;
/// More memory than this is not kept for the next bytes.
const INPUT_KEPT_MAX: usize = 1 << 20;

/// What the primary means.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<'a> {
    /// This command is to be sent to it.
    Say(Vec<String>),
    /// A snapshot follows, then the stream from this offset on.
    Full {
        /// The history.
        replid: String,
        /// The offset of the snapshot.
        offset: u64,
    },
    /// The stream follows where it was left.
    Continue {
        /// The name that the history has now, if it has another one.
        replid: Option<String>,
    },
    /// The snapshot comes through another connection, and the stream through this one.
    Apart {
        /// What the other one is to name.
        id: u64,
    },
    /// Likewise, in Valkey's way: see [`Reader::join`].
    Dual,
    /// The snapshot of such a stream follows.
    Offered(Offered),
    /// The snapshot begins.
    Snapshot {
        /// Its length, unless a mark ends it.
        n_bytes: Option<u64>,
    },
    /// A part of the snapshot.
    Piece(&'a [u8]),
    /// All of the snapshot was there.
    Whole,
    /// A command of the stream.
    Command {
        /// Its words; none if it is an empty line.
        words: Vec<&'a [u8]>,
        /// The bytes as they came.
        raw: &'a [u8],
    },
}

#[derive(Debug)]
enum Phase {
    Handshake(Handshake),
    /// The line before the snapshot.
    Header,
    /// A snapshot of which so many bytes are missing.
    Counted(u64),
    /// A snapshot that this mark ends.
    Marked([u8; MARK_BYTES]),
    Stream(Parser),
}

/// See the top of the file.
#[derive(Debug)]
pub struct Reader {
    phase: Phase,
    /// What came and was not used yet, from `pos` on.
    input: Vec<u8>,
    pos: usize,
    spans: Vec<Span>,
}

impl Reader {
    /// Begins; the first command.
    pub fn begin(about: Introduction) -> (Reader, Vec<String>) {
        let (handshake, first) = Handshake::begin(about);
        let reader = Reader {
            phase: Phase::Handshake(handshake),
            input: Vec::new(),
            pos: 0,
            spans: Vec::new(),
        };
        (reader, first)
    }

    /// Whether PSYNC was said.
    pub fn has_asked(&self) -> bool {
        match &self.phase {
            Phase::Handshake(handshake) => handshake.has_asked(),
            _ => true,
        }
    }

    /// After [`Event::Dual`]: what to say once the other connection has told where the snapshot stands.
    pub fn join(&mut self, offered: &Offered) -> Option<Vec<String>> {
        match &mut self.phase {
            Phase::Handshake(handshake) => Some(handshake.join(offered)),
            _ => None,
        }
    }

    /// Appends what `read` puts into at most `n` bytes; its answer is how many it did.
    pub fn fill<E>(
        &mut self,
        n: usize,
        read: impl FnOnce(&mut [u8]) -> Result<usize, E>,
    ) -> Result<usize, E> {
        self.input.drain(..self.pos);
        self.pos = 0;
        if self.input.is_empty() {
            self.input.shrink_to(INPUT_KEPT_MAX);
        }
        let before = self.input.len();
        self.input.resize(before + n, 0);
        let result = read(&mut self.input[before..]);
        let n = result.as_ref().map_or(0, |n| *n);
        self.input.truncate(before + n);
        result
    }

    /// Bytes that came and were not used yet.
    pub fn n_unused(&self) -> usize {
        self.input.len() - self.pos
    }

    /// What follows; `None` if more bytes are needed to tell. The error is for the log.
    pub fn read(&mut self) -> Result<Option<Event<'_>>, String> {
        match self.phase {
            Phase::Handshake(_) => self.answer(),
            Phase::Header => self.header(),
            Phase::Counted(_) | Phase::Marked(_) => Ok(self.piece()),
            Phase::Stream(_) => self.command(),
        }
    }

    /// The next line that is not empty: empty ones say that the primary is alive.
    fn line(&mut self) -> Result<Option<String>, String> {
        loop {
            let unread = &self.input[self.pos..];
            let window = &unread[..unread.len().min(LINE_BYTES_MAX + 1)];
            match window.iter().position(|byte| *byte == b'\n') {
                Some(n) => {
                    let line = String::from_utf8_lossy(&unread[..n]);
                    let line = line.trim_end().replace(char::is_control, "?");
                    self.pos += n + 1;
                    if !line.is_empty() {
                        return Ok(Some(line));
                    }
                }
                None if window.len() > LINE_BYTES_MAX => {
                    return Err("the primary sends something else than lines".to_owned());
                }
                None => return Ok(None),
            }
        }
    }

    fn answer(&mut self) -> Result<Option<Event<'_>>, String> {
        let Some(line) = self.line()? else {
            return Ok(None);
        };
        let Phase::Handshake(handshake) = &mut self.phase else {
            return Ok(None);
        };
        Ok(Some(match handshake.hear(&line) {
            Step::Send(words) => Event::Say(words),
            Step::Full { replid, offset } => {
                self.phase = Phase::Header;
                Event::Full { replid, offset }
            }
            Step::Apart { id } => {
                self.phase = Phase::Stream(Parser::default());
                Event::Apart { id }
            }
            Step::Dual => Event::Dual,
            Step::Offered(offered) => {
                self.phase = Phase::Header;
                Event::Offered(offered)
            }
            Step::Continue { replid } => {
                self.phase = Phase::Stream(Parser::default());
                Event::Continue { replid }
            }
            Step::Failed(why) => return Err(why),
        }))
    }

    /// `$length` or `$EOF:mark`.
    fn header(&mut self) -> Result<Option<Event<'_>>, String> {
        let Some(line) = self.line()? else {
            return Ok(None);
        };
        let wrong = || {
            format!("Bad protocol from MASTER, the first byte is not '$' (we received '{line}')")
        };
        if let Some(why) = line.strip_prefix('-') {
            return Err(format!("MASTER aborted replication with an error: {why}"));
        }
        let what = line.strip_prefix('$').ok_or_else(wrong)?;
        let (phase, n_bytes) = match what.strip_prefix("EOF:") {
            Some(mark) => {
                let mark = mark.as_bytes().try_into().map_err(|_| wrong())?;
                (Phase::Marked(mark), None)
            }
            None if what.starts_with(|first: char| first.is_ascii_digit()) => {
                let n_bytes = what.parse().map_err(|_| wrong())?;
                (Phase::Counted(n_bytes), Some(n_bytes))
            }
            None => return Err(wrong()),
        };
        self.phase = phase;
        Ok(Some(Event::Snapshot { n_bytes }))
    }

    fn piece(&mut self) -> Option<Event<'_>> {
        let unread = &self.input[self.pos..];
        let (n, n_end) = match &mut self.phase {
            Phase::Counted(0) => (0, Some(0)),
            Phase::Counted(n_left) => {
                let n = unread
                    .len()
                    .min(usize::try_from(*n_left).unwrap_or(usize::MAX));
                *n_left -= n as u64;
                (n, None)
            }
            Phase::Marked(mark) => match memmem::find(unread, mark) {
                Some(0) => (0, Some(MARK_BYTES)),
                Some(at) => (at, None),
                // What may be the beginning of the mark is held back.
                None => (unread.len().saturating_sub(MARK_BYTES - 1), None),
            },
            _ => return None,
        };
        if let Some(n_end) = n_end {
            self.pos += n_end;
            self.phase = Phase::Stream(Parser::default());
            return Some(Event::Whole);
        }
        self.pos += n;
        (n > 0).then(|| Event::Piece(&self.input[self.pos - n..self.pos]))
    }

    fn command(&mut self) -> Result<Option<Event<'_>>, String> {
        let Phase::Stream(parser) = &mut self.phase else {
            return Ok(None);
        };
        // A line of words is none of a primary's: the place in its stream is lost.
        let first = self.input.get(self.pos).copied();
        if first.is_some_and(|first| !b"*\r\n".contains(&first)) {
            return Err("Master using the inline protocol. Desync?".to_owned());
        }
        let limits = Limits {
            max_bulk_bytes: BULK_BYTES_MAX,
            authenticated: true,
        };
        self.spans.clear();
        let start = self.pos;
        let is_there = parser
            .next(&mut self.input, &mut self.pos, &mut self.spans, &limits)
            .map_err(|error| format!("Protocol error from MASTER: {error}"))
            .map_err(|why| why.replace(char::is_control, "?"))?;
        Ok(is_there.then(|| Event::Command {
            words: self.spans.iter().map(|span| span.of(&self.input)).collect(),
            raw: &self.input[start..self.pos],
        }))
    }
}

#[cfg(test)]
mod tests;
