//! Commands to the target, in a pipeline: many are on their way at a time, and each reply is looked at. An
//! error ends everything, as what follows may build on what was refused.

use std::collections::{BTreeSet, VecDeque};

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
    /// Another connection, by which a database is tried before the first command goes there: had it been
    /// refused, what follows would be written to the one before.
    trial: Connection,
    databases: BTreeSet<Vec<u8>>,
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
    pub fn new(side: &'a Side, connection: Connection) -> Result<Target<'a>, String> {
        Ok(Target {
            side,
            connection,
            trial: side.connect()?,
            databases: BTreeSet::new(),
            in_flight: VecDeque::new(),
            n_bytes_in_flight: 0,
            queued: Vec::new(),
            applied: 0,
            n_done: 0,
        })
    }

    /// Sends a command that ends there in the stream; waits for older ones if many are on their way.
    pub fn send(&mut self, words: &[&[u8]], end: u64) -> Result<(), String> {
        let key = words.get(1).copied().unwrap_or_default();
        if words[0].eq_ignore_ascii_case(b"select") && !self.databases.contains(key) {
            let number = String::from_utf8_lossy(key);
            self.side.ask(&mut self.trial, &["SELECT", &number])?;
            self.databases.insert(key.to_vec());
        }
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

    /// Says something if nothing else is being said, as a server may close who is silent for long.
    pub fn greet(&mut self) -> Result<(), String> {
        if !self.in_flight.is_empty() {
            return Ok(());
        }
        let (applied, n_done) = (self.applied, self.n_done);
        self.send(&[b"PING"], applied)?;
        self.settle(applied)?;
        self.n_done = n_done;
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
        let hint = match line.to_string().contains("invalid bulk length") {
            true => " (the value is too large for one command: raise proto-max-bulk-len there)",
            false => "",
        };
        format!("{} refuses {what}: {line}{hint}", self.side.named())
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
