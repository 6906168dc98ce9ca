//! One of N identical event loops: it owns its connections and runs their commands to completion.
//!
//! Requests are executed in batches of 16. Before a batch runs, its first keys are hashed and the
//! buckets, then the entries, are fetched into the cache, so that their misses overlap.

use crate::command::Commands;
use crate::config::live::OutputClass;
use crate::dispatch;
use crate::exec::{Engine, unix_ms};
use crate::net::connection::{Connection, Received, receive};
use crate::net::stream::Incoming;
use crate::session::Session;
use crate::state::State;
use datatypes::encoding::table::hash;
use keyspace::keyspace::ShardId;
use mio::{Events, Interest, Poll, Token, Waker};
use parking_lot::Mutex;
use resp::reply::{Proto, Reply};
use resp::request::{Limits, Parser, Span};
use slab::Slab;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

/// Bytes read from a socket at a time.
const READ_BYTES: usize = 64 * 1024;
/// Reply bytes gathered before they are sent within one read.
const REPLY_BYTES: usize = 64 * 1024;
/// Requests executed together.
const BATCH: usize = 16;
/// Unsent replies at which a connection is read no further until the other side takes some.
const UNSENT_BYTES_MAX: usize = 256 << 20;
/// The waker's token; connections count from 0.
const WAKE: Token = Token(usize::MAX);

/// What other threads may do to a loop: hand it sockets and wake it.
pub struct Handle {
    /// New connections.
    pub sockets: Mutex<Vec<Incoming>>,
    /// Ends the loop's sleep.
    pub waker: Waker,
}

/// See the top of the file.
pub struct EventLoop {
    state: Arc<State>,
    commands: Arc<Commands>,
    handles: Arc<[Handle]>,
    group: usize,
    poll: Poll,
    connections: Slab<Connection>,
    engine: Engine,
    buffer: Vec<u8>,
    replies: Vec<u8>,
    spans: Vec<Span>,
    /// Connections that have more to read than one buffer held.
    again: Vec<usize>,
    due: Vec<ShardId>,
    last_sweep: Instant,
}

/// A poll and the waker that ends its sleep.
pub fn poll_and_waker() -> std::io::Result<(Poll, Waker)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    Ok((poll, waker))
}

impl EventLoop {
    /// The loop number `group`, which also looks after the deadlines of that group of shards.
    pub fn new(
        state: Arc<State>,
        commands: Arc<Commands>,
        handles: Arc<[Handle]>,
        group: usize,
        poll: Poll,
    ) -> EventLoop {
        let seed = hash(&[b"loop", &group.to_le_bytes()[..]].concat());
        EventLoop {
            state,
            commands,
            handles,
            group,
            poll,
            connections: Slab::new(),
            engine: Engine::new(seed),
            buffer: vec![0; READ_BYTES],
            replies: Vec::new(),
            spans: Vec::new(),
            again: Vec::new(),
            due: Vec::new(),
            last_sweep: Instant::now(),
        }
    }

    /// Serves until the server stops.
    pub fn run(&mut self) -> std::io::Result<()> {
        let mut events = Events::with_capacity(256);
        while !self.state.is_stopping.load(Relaxed) {
            let timeout = self.timeout();
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error),
                _ => {}
            }
            self.engine.begin_tick(&self.state);
            for idx in std::mem::take(&mut self.again) {
                self.read(idx);
            }
            for event in &events {
                match event.token() {
                    WAKE => self.accept(),
                    Token(idx) => {
                        if event.is_writable() {
                            self.flush(idx);
                        }
                        if event.is_readable() || event.is_error() {
                            self.read(idx);
                        }
                    }
                }
            }
            self.expire();
            self.sweep();
            self.engine.end_tick(self.state.stats.thread(self.group));
            self.state.stats.sample(self.engine.now_ms());
            if std::mem::take(&mut self.engine.has_lowered_due) {
                self.wake_others();
            }
        }
        self.wake_others();
        Ok(())
    }

    fn wake_others(&self) {
        for handle in self.handles.iter() {
            // A loop that cannot be woken has ended.
            let _ = handle.waker.wake();
        }
    }

    fn timeout(&self) -> Option<Duration> {
        if !self.again.is_empty() || !self.due.is_empty() {
            return Some(Duration::ZERO);
        }
        let due_ms = self.state.keyspace.next_due_ms(self.group);
        let until_due = (due_ms != u64::MAX)
            .then(|| Duration::from_millis(due_ms.saturating_sub(unix_ms()).min(60_000)));
        let until_sweep = (self.state.config.timeout_s() > 0).then(|| Duration::from_secs(1));
        until_due.into_iter().chain(until_sweep).min()
    }

    fn expire(&mut self) {
        let is_due = self.state.keyspace.next_due_ms(self.group) <= self.engine.now_ms();
        if is_due || !self.due.is_empty() {
            self.engine.expire(&self.state, self.group, &mut self.due);
        }
    }

    /// Closes connections that were silent for longer than `timeout`.
    fn sweep(&mut self) {
        let timeout_s = self.state.config.timeout_s();
        if timeout_s == 0 || self.last_sweep.elapsed() < Duration::from_secs(1) {
            return;
        }
        self.last_sweep = Instant::now();
        let silent: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, one)| one.last_heard.elapsed().as_secs() > timeout_s)
            .map(|(idx, _)| idx)
            .collect();
        silent.into_iter().for_each(|idx| self.close(idx));
    }

    fn accept(&mut self) {
        let sockets = std::mem::take(&mut *self.handles[self.group].sockets.lock());
        for incoming in sockets {
            let mut stream = incoming.stream;
            let entry = self.connections.vacant_entry();
            let interest = Interest::READABLE | Interest::WRITABLE;
            let token = Token(entry.key());
            if self
                .poll
                .registry()
                .register(&mut stream, token, interest)
                .is_err()
            {
                self.state.n_clients.fetch_sub(1, Relaxed);
                continue;
            }
            let session = Session {
                id: self.state.n_connections.fetch_add(1, Relaxed) + 1,
                database: 0,
                proto: Proto::Resp2,
                is_authenticated: !self.state.config.requires_password(),
                name: Vec::new(),
                library: (Vec::new(), Vec::new()),
                is_closing: false,
                is_local: incoming.is_local,
                address: incoming.address,
            };
            entry.insert(Connection {
                stream,
                session,
                parser: Parser::default(),
                input: Vec::new(),
                output: Vec::new(),
                n_sent: 0,
                last_heard: Instant::now(),
            });
        }
    }

    fn close(&mut self, idx: usize) {
        if let Some(mut connection) = self.connections.try_remove(idx) {
            // The socket is closed right after; that it was registered no longer matters.
            let _ = self.poll.registry().deregister(&mut connection.stream);
            self.state.n_clients.fetch_sub(1, Relaxed);
        }
    }

    fn flush(&mut self, idx: usize) {
        let Some(connection) = self.connections.get_mut(idx) else {
            return;
        };
        let was_full = connection.unsent_bytes() > UNSENT_BYTES_MAX;
        let is_alive = connection.flush();
        let is_done = connection.session.is_closing && connection.output.is_empty();
        if !is_alive || is_done {
            self.close(idx);
        } else if was_full {
            self.again.push(idx);
        }
    }

    /// Reads what has come and answers it.
    fn read(&mut self, idx: usize) {
        let Some(connection) = self.connections.get_mut(idx) else {
            return;
        };
        if connection.unsent_bytes() > UNSENT_BYTES_MAX || connection.session.is_closing {
            return;
        }
        let is_fresh = connection.input.is_empty();
        let mut buffer = std::mem::take(if is_fresh {
            &mut self.buffer
        } else {
            &mut connection.input
        });
        let n_kept = if is_fresh { 0 } else { buffer.len() };
        if !is_fresh {
            // Grows with what has come, up to what the request is known to lack.
            let room = connection.parser.hint().min(n_kept).max(READ_BYTES);
            buffer.resize(n_kept + room, 0);
        }
        let received = receive(&mut connection.stream, &mut buffer[n_kept..]);
        let n = match received {
            Received::Bytes(n, _) => n,
            Received::Nothing => 0,
            Received::End => {
                if is_fresh {
                    self.buffer = buffer;
                }
                return self.close(idx);
            }
        };
        connection.last_heard = Instant::now();
        let (n_used, is_alive) = self.answer(idx, &mut buffer[..n_kept + n]);
        self.keep(idx, buffer, is_fresh, n_used..n_kept + n);
        let Some(connection) = self.connections.get_mut(idx) else {
            return;
        };
        let limit = self.state.config.query_buffer_limit_bytes();
        let is_done = connection.session.is_closing && connection.output.is_empty();
        if !is_alive || is_done || connection.input.len() > limit {
            self.close(idx);
        } else if matches!(received, Received::Bytes(_, true)) {
            self.again.push(idx);
        }
    }

    /// Keeps the partial request at `rest` of the buffer with its connection.
    fn keep(
        &mut self,
        idx: usize,
        mut buffer: Vec<u8>,
        is_shared: bool,
        rest: std::ops::Range<usize>,
    ) {
        let Some(connection) = self.connections.get_mut(idx) else {
            return;
        };
        if is_shared {
            connection.input = buffer[rest].to_vec();
            self.buffer = buffer;
        } else if !rest.is_empty() {
            buffer.truncate(rest.end);
            buffer.drain(..rest.start);
            connection.input = buffer;
        }
    }

    /// Answers the requests in `input`; how many bytes they took, and whether the connection lives.
    fn answer(&mut self, idx: usize, input: &mut [u8]) -> (usize, bool) {
        let Some(connection) = self.connections.get_mut(idx) else {
            return (0, false);
        };
        let limits = Limits {
            max_bulk_bytes: self.state.config.proto_max_bulk_bytes(),
            authenticated: connection.session.is_authenticated,
        };
        let (mut pos, mut is_alive) = (0, true);
        let mut ends = [0; BATCH];
        loop {
            self.spans.clear();
            let (mut n, mut broken, mut is_starved) = (0, None, false);
            while n < BATCH {
                match connection
                    .parser
                    .next(input, &mut pos, &mut self.spans, &limits)
                {
                    Ok(true) if n > 0 && self.spans.len() == ends[n - 1] => {}
                    Ok(true) if self.spans.is_empty() => {}
                    Ok(true) => {
                        ends[n] = self.spans.len();
                        n += 1;
                    }
                    Ok(false) => {
                        is_starved = true;
                        break;
                    }
                    Err(error) => {
                        broken = Some(error);
                        break;
                    }
                }
            }
            let mut batch = Batch {
                state: &self.state,
                commands: &self.commands,
                engine: &mut self.engine,
                session: &mut connection.session,
                replies: &mut self.replies,
            };
            batch.run(input, &self.spans, &ends[..n]);
            if let Some(error) = broken {
                let mut reply = Reply::new(&mut self.replies, connection.session.proto);
                reply.error(format!("ERR {error}").as_bytes());
                connection.session.is_closing = true;
            }
            let is_over = is_starved || connection.session.is_closing;
            if is_over || self.replies.len() > REPLY_BYTES {
                is_alive = self.replies.is_empty() || connection.send(&self.replies);
                self.replies.clear();
                self.replies.shrink_to(4 * REPLY_BYTES);
            }
            let limit = self
                .state
                .config
                .output_limit(OutputClass::Normal)
                .hard_bytes;
            let is_hoarding = limit > 0 && connection.unsent_bytes() as u64 > limit;
            if is_over || !is_alive || is_hoarding {
                return (pos, is_alive && !is_hoarding);
            }
        }
    }
}

/// What running a batch of requests needs.
struct Batch<'a> {
    state: &'a State,
    commands: &'a Commands,
    engine: &'a mut Engine,
    session: &'a mut Session,
    replies: &'a mut Vec<u8>,
}

impl Batch<'_> {
    /// Runs requests whose arguments are `spans` of `input`; request i ends at `ends[i]`.
    fn run(&mut self, input: &[u8], spans: &[Span], ends: &[usize]) {
        let arguments: Vec<&[u8]> = spans.iter().map(|span| span.of(input)).collect();
        let mut hashes = [None; BATCH];
        let is_worth_it = ends.len() > 1;
        let mut start = 0;
        let mut admitted = [const { None }; BATCH];
        for (i, &end) in ends.iter().enumerate() {
            let request = &arguments[start..end];
            start = end;
            if let Some(command) = dispatch::find(self.commands, request[0]) {
                hashes[i] = command.keys.first(request).map(hash);
                admitted[i] = Some(command);
            }
            if let (true, Some(hash)) = (is_worth_it, hashes[i]) {
                self.shard(hash, |shard| shard.prefetch_bucket(hash));
            }
        }
        if is_worth_it {
            for hash in hashes.iter().flatten() {
                self.shard(*hash, |shard| shard.prefetch_entry(*hash));
            }
        }
        let mut start = 0;
        for (i, &end) in ends.iter().enumerate() {
            let request = &arguments[start..end];
            start = end;
            if !self.session.is_closing {
                self.run_one(request, hashes[i]);
            }
        }
    }

    fn shard(&self, hash: u64, work: impl FnOnce(&keyspace::shard::Shard)) {
        let id = self.state.keyspace.shard_of(self.session.database, hash);
        if let Some(shards) = self.state.keyspace.existing_shards(id.database()) {
            work(&shards[usize::from(id.shard())]);
        }
    }

    fn run_one(&mut self, request: &[&[u8]], known_hash: Option<u64>) {
        let mut reply = Reply::new(self.replies, self.session.proto);
        match dispatch::admit(self.commands, self.session, request) {
            Ok(admitted) => self.engine.call(
                self.state,
                self.commands,
                self.session,
                admitted,
                request,
                known_hash,
                &mut reply,
            ),
            Err(error) => reply.error(error.to_string().as_bytes()),
        }
    }
}
