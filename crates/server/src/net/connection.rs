//! One connection: its socket, its session, and what is unfinished in either direction.
//!
//! Most of the time both buffers are empty and unallocated: requests are parsed in the thread's
//! read buffer and replies written from the thread's reply buffer. Only a partial request or an
//! unsent reply is kept here.

use crate::io::stream::Stream;
use crate::session::Session;
use crate::session::client::Buffers;
use crate::session::queue::Queued;
use resp::reply::Proto;
use resp::request::Parser;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read, Write};
use std::time::Instant;

/// A buffer of replies up to this size is copied from rather than given away.
const COPIED_BYTES: usize = 256 * 1024;

/// See the top of the file.
pub struct Connection {
    /// The socket.
    pub stream: Stream,
    /// What commands see.
    pub session: Session,
    /// Progress inside a partial request.
    pub parser: Parser,
    /// The partial request.
    pub input: Vec<u8>,
    /// Replies that the socket did not take yet, from `n_sent` on.
    pub output: Vec<u8>,
    /// Bytes of `output` that are sent.
    pub n_sent: usize,
    /// When the other side was last heard.
    pub last_heard: Instant,
    /// Requests that wait for one before them: it blocks, or its locks were busy.
    pub kept: VecDeque<Queued>,
    /// When the command that blocks gives up, Unix time.
    pub until_ms: Option<u64>,
    /// The most that was allocated for `output` lately.
    pub output_peak: usize,
    /// Since when there is more unsent than the soft limit allows.
    pub soft_since: Option<Instant>,
    /// What is unsent waits for the append-only file: its first part until that has the stream up to the
    /// first place, all of it until it has it up to the second. Who waits is listed, or lent.
    pub awaits_file: Option<(u64, u64)>,
    /// It is on its loop's list of those with something to send.
    pub is_listed: bool,
    /// It is on its loop's list of those with more to read.
    pub is_read_again: bool,
}

/// What a read has found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Received {
    /// So many bytes; the flag says that more may be waiting.
    Bytes(usize, bool),
    /// Nothing for now.
    Nothing,
    /// The end of the connection.
    End,
}

/// Reads once into `buffer`.
pub fn receive(stream: &mut Stream, buffer: &mut [u8]) -> Received {
    loop {
        if let Some(received) = received(stream.read(buffer), buffer.len()) {
            return received;
        }
    }
}

/// Reads once into what is allocated behind `buffer`.
pub fn receive_behind(stream: &Stream, buffer: &mut Vec<u8>) -> Received {
    let n_free = buffer.capacity() - buffer.len();
    loop {
        if let Some(received) = received(stream.read_behind(buffer), n_free) {
            return received;
        }
    }
}

/// What a read of at most `n_bytes_max` tells; nothing if it was interrupted.
fn received(result: io::Result<usize>, n_bytes_max: usize) -> Option<Received> {
    Some(match result {
        Ok(0) => Received::End,
        Ok(n) => Received::Bytes(n, n == n_bytes_max),
        Err(error) if error.kind() == ErrorKind::Interrupted => return None,
        Err(error) if error.kind() == ErrorKind::WouldBlock => Received::Nothing,
        Err(_) => Received::End,
    })
}

impl Connection {
    /// A connection that has sent nothing yet.
    pub fn new(stream: Stream, session: Session) -> Connection {
        Connection {
            stream,
            session,
            parser: Parser::default(),
            input: Vec::new(),
            output: Vec::new(),
            n_sent: 0,
            last_heard: Instant::now(),
            kept: VecDeque::new(),
            until_ms: None,
            output_peak: 0,
            soft_since: None,
            awaits_file: None,
            is_listed: false,
            is_read_again: false,
        }
    }

    /// Whether what it sends must wait for a command before.
    pub fn is_held(&self) -> bool {
        self.session.waiter.is_some() || !self.kept.is_empty()
    }

    /// Has what is unsent wait for the append-only file up to `place`, or for nothing.
    pub fn await_file(&mut self, place: Option<u64>) {
        let first = self.awaits_file.map(|(first, _)| first);
        self.awaits_file = place.map(|last| (first.unwrap_or(last), last));
    }

    /// Bytes of the requests that were taken and not run: kept ones, and those since MULTI.
    pub fn waiting_bytes(&self) -> usize {
        let kept: usize = self.kept.iter().map(Queued::len_bytes).sum();
        kept + self.session.queue.as_ref().map_or(0, |all| all.len_bytes())
    }

    /// Bytes that its buffers hold.
    pub fn buffers(&mut self) -> Buffers {
        self.output_peak = self.output_peak.max(self.output.capacity());
        // None while the input is elsewhere to be read on.
        let understood = self.parser.understood_bytes().min(self.input.len());
        Buffers {
            input: self.input.len() - understood,
            input_free: self.input.capacity() - self.input.len(),
            kept: understood + self.kept.iter().map(Queued::len_bytes).sum::<usize>(),
            output: self.unsent_bytes(),
            output_held: self.output.capacity(),
            output_peak: self.output_peak,
        }
    }

    /// Whether it is to be closed and has nothing left to send.
    pub fn is_done(&self) -> bool {
        self.session.is_closing && self.output.is_empty()
    }

    /// Puts a message behind what is unsent, in the session's protocol.
    pub fn push(&mut self, bytes: &[u8]) {
        let at = self.output.len();
        self.output.extend_from_slice(bytes);
        if self.session.proto == Proto::Resp2 {
            self.output[at] = b'*';
        }
    }

    /// Sends `bytes`, behind what was unsent; keeps what the socket does not take.
    /// False if the connection is broken.
    pub fn send(&mut self, bytes: &[u8]) -> bool {
        let n_sent = self.send_some(bytes);
        if let Some(n) = n_sent {
            self.output.extend_from_slice(&bytes[n..]);
        }
        n_sent.is_some()
    }

    /// Sends what is unsent, and behind it so much of `bytes` as the socket takes: how many of them.
    /// `None` if the connection is broken.
    pub fn send_some(&mut self, bytes: &[u8]) -> Option<usize> {
        if !self.flush() {
            return None;
        }
        match self.output.is_empty() {
            true => write_some(&mut self.stream, bytes),
            false => Some(0),
        }
    }

    /// Bytes that it takes to keep what is unsent of `replies`.
    pub fn growth_bytes(&self, replies: &Vec<u8>, n_sent: usize) -> usize {
        let rest = replies.len() - n_sent;
        match self.takes(replies, n_sent) {
            true => replies.capacity(),
            false if self.output.capacity() - self.output.len() >= rest => 0,
            false => rest.max(self.output.len() / 2),
        }
    }

    /// Keeps what is unsent of `replies`; their buffer itself, if that is large and mostly unsent.
    pub fn keep(&mut self, replies: &mut Vec<u8>, n_sent: usize) {
        if self.takes(replies, n_sent) {
            self.output = std::mem::take(replies);
            self.n_sent = n_sent;
            return;
        }
        let growth = self.growth_bytes(replies, n_sent);
        let room = self.output.capacity() - self.output.len();
        self.output.reserve_exact(room + growth);
        self.output.extend_from_slice(&replies[n_sent..]);
    }

    fn takes(&self, replies: &Vec<u8>, n_sent: usize) -> bool {
        let rest = replies.len() - n_sent;
        let capacity = replies.capacity();
        self.output.is_empty() && capacity > COPIED_BYTES && rest > capacity / 2
    }

    /// Gives back what its buffers do not use.
    pub fn shrink(&mut self) {
        self.input.shrink_to_fit();
        self.output.drain(..self.n_sent);
        self.n_sent = 0;
        self.output.shrink_to_fit();
    }

    /// Frees its buffers, and what waits in them.
    pub fn free(&mut self) {
        (self.input, self.output, self.n_sent) = (Vec::new(), Vec::new(), 0);
        self.kept = VecDeque::new();
        self.session.queue = None;
    }

    /// Sends what is unsent. False if the connection is broken.
    pub fn flush(&mut self) -> bool {
        if self.output.is_empty() {
            return true;
        }
        let Some(n) = write_some(&mut self.stream, &self.output[self.n_sent..]) else {
            return false;
        };
        self.n_sent += n;
        if self.n_sent == self.output.len() {
            self.output = Vec::new();
            self.n_sent = 0;
        } else if self.n_sent > self.output.len() / 2 {
            self.output.drain(..self.n_sent);
            self.n_sent = 0;
            self.output.shrink_to(2 * self.output.len());
        }
        true
    }

    /// Bytes of replies that wait for the other side.
    pub fn unsent_bytes(&self) -> usize {
        self.output.len() - self.n_sent
    }
}

/// Writes until the socket takes no more; how many bytes it took. `None` if it is broken.
fn write_some(stream: &mut Stream, bytes: &[u8]) -> Option<usize> {
    let mut n_written = 0;
    while n_written < bytes.len() {
        match stream.write(&bytes[n_written..]) {
            Ok(0) => return None,
            Ok(n) => n_written += n,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            Err(_) => return None,
        }
    }
    Some(n_written)
}
