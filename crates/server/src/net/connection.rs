//! One connection: its socket, its session, and what is unfinished in either direction.
//!
//! Most of the time both buffers are empty and unallocated: requests are parsed in the thread's
//! read buffer and replies written from the thread's reply buffer. Only a partial request or an
//! unsent reply is kept here.

use crate::net::stream::Stream;
use crate::session::Session;
use resp::request::Parser;
use std::io::{ErrorKind, Read, Write};
use std::time::Instant;

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
        return match stream.read(buffer) {
            Ok(0) => Received::End,
            Ok(n) => Received::Bytes(n, n == buffer.len()),
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) if error.kind() == ErrorKind::WouldBlock => Received::Nothing,
            Err(_) => Received::End,
        };
    }
}

impl Connection {
    /// Sends `replies`, behind what was unsent; keeps what the socket does not take.
    /// False if the connection is broken.
    pub fn send(&mut self, replies: &[u8]) -> bool {
        if !self.flush() {
            return false;
        }
        if !self.output.is_empty() {
            self.output.extend_from_slice(replies);
            return true;
        }
        match write_some(&mut self.stream, replies) {
            Some(n) => {
                self.output.extend_from_slice(&replies[n..]);
                true
            }
            None => false,
        }
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
