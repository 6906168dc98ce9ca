//! Commands to the target, in a pipeline: many are on their way at a time, and each reply is looked at. An
//! error ends everything, as what follows may build on what was refused.

use std::collections::VecDeque;

use client::connection::{Connection, Error};
use resp::decode::Value;

use super::args::Side;

/// Commands and bytes that may be on their way.
const IN_FLIGHT_MAX: usize = 4096;
const BYTES_IN_FLIGHT_MAX: usize = 16 << 20;
/// Bytes of a key that a message shows.
const SHOWN_BYTES: usize = 100;

pub struct Target<'a> {
    side: &'a Side,
    connection: Connection,
    in_flight: VecDeque<Sent>,
    n_bytes_in_flight: usize,
    /// What was queued for EXEC, to be named.
    queued: Vec<Vec<u8>>,
    /// Where in the source's stream the first command begins that the target has not answered.
    pub applied: u64,
    pub n_done: u64,
}

/// A command on its way.
struct Sent {
    /// Its name and its key, for messages.
    what: Vec<u8>,
    n_bytes: usize,
    /// Where in the stream it ends.
    end: u64,
}

impl<'a> Target<'a> {
    pub fn new(side: &'a Side, connection: Connection) -> Target<'a> {
        Target {
            side,
            connection,
            in_flight: VecDeque::new(),
            n_bytes_in_flight: 0,
            queued: Vec::new(),
            applied: 0,
            n_done: 0,
        }
    }

    /// Sends a command that ends there in the stream; waits for older ones if many are on their way.
    pub fn send(&mut self, words: &[&[u8]], end: u64) -> Result<(), String> {
        let key = words.get(1).copied().unwrap_or_default();
        let mut what = words[0].to_vec();
        what.push(b' ');
        what.extend_from_slice(&key[..key.len().min(SHOWN_BYTES)]);
        let n_bytes = words.iter().map(|word| word.len()).sum();
        self.n_bytes_in_flight += n_bytes;
        self.in_flight.push_back(Sent { what, n_bytes, end });
        if let Err(error) = self.connection.send(words) {
            return Err(self.lost(&error));
        }
        let is_much = |target: &Target<'_>, part: usize| {
            target.in_flight.len() > IN_FLIGHT_MAX / part
                || target.n_bytes_in_flight > BYTES_IN_FLIGHT_MAX / part
        };
        if is_much(self, 1) {
            while is_much(self, 2) {
                self.receive()?;
            }
        }
        Ok(())
    }

    /// Waits until everything is answered that was sent, up to this place in the stream.
    pub fn settle(&mut self, offset: u64) -> Result<(), String> {
        while !self.in_flight.is_empty() {
            self.receive()?;
        }
        self.applied = offset;
        Ok(())
    }

    fn receive(&mut self) -> Result<(), String> {
        let reply = match self.connection.receive() {
            Ok(reply) => reply,
            Err(error) => return Err(self.lost(&error)),
        };
        match self.in_flight.pop_front() {
            Some(sent) => self.look_at(reply, sent),
            None => Ok(()),
        }
    }

    fn look_at(&mut self, reply: Value, sent: Sent) -> Result<(), String> {
        self.n_bytes_in_flight -= sent.n_bytes;
        self.n_done += 1;
        self.applied = sent.end;
        match reply {
            Value::Error(line) => Err(self.refused(&sent.what, &line)),
            Value::Simple(word) if word == b"QUEUED" => {
                self.queued.push(sent.what);
                Ok(())
            }
            Value::Array(replies) if sent.what.eq_ignore_ascii_case(b"EXEC ") => {
                let queued = std::mem::take(&mut self.queued);
                for (what, reply) in queued.iter().zip(&replies) {
                    if let Value::Error(line) = reply {
                        return Err(self.refused(what, line));
                    }
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn refused(&self, what: &[u8], line: &[u8]) -> String {
        let (what, line) = (what.trim_ascii().escape_ascii(), line.escape_ascii());
        format!("{} refuses {what}: {line}", self.side.named())
    }

    /// Why the connection is gone: the target may have said it before.
    fn lost(&mut self, error: &Error) -> String {
        self.connection.forget_unsent();
        while let Some(sent) = self.in_flight.pop_front() {
            match self.connection.receive() {
                Ok(Value::Error(line)) => return self.refused(&sent.what, &line),
                Ok(_) => {}
                Err(_) => break,
            }
        }
        format!("{} is lost: {error}", self.side.named())
    }
}
