//! One of N identical event loops: it owns its connections and runs their commands to completion.
//!
//! ```text
//!   wait ── read and answer every ready socket ── letters ── due keys ── wake the others ── wait
//! ```
//!
//! A connection whose command blocks, or finds its locks busy, is held: what it sends is kept, not
//! run, until a letter, the time, or a release lets it go on.
//!
//! A script that runs for too long calls the loop again from within ([`Meanwhile`]): what is ready by
//! then, and what becomes ready, is read and meets a gate that refuses nearly everything.

mod letters;
mod sending;

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use keyspace::keyspace::ShardId;
use mio::{Events, Interest, Poll, Token, Waker};
use resp::reply::Reply;
use resp::request::{Limits, Parser, ProtocolError, Span};

use self::sending::{charge, is_hoarding, list_held, send_replies};
use crate::exec::{Engine, Meanwhile, unix_ms};
use crate::io::stream::{Incoming, Stream};
use crate::mailbox::{Address, Mail};
use crate::net::batch::{BATCH, Batch, REPLY_BYTES, Ran, Stop, WORDS_KEPT_MAX, run_kept};
use crate::net::connection::{Connection, Received, receive, receive_behind};
use crate::net::connections::Connections;
use crate::session::Session;
use crate::session::client::Client;
use crate::state::State;
use crate::stats::counters::Counter;

/// Bytes read from a socket at a time.
const READ_BYTES: usize = 64 * 1024;
/// Bytes of a long word that are read before others have their turn: a millisecond's work.
const TURN_BYTES: usize = 4 << 20;
/// Unsent replies at which a connection is read no further until the other side takes some.
const UNSENT_BYTES_MAX: usize = 256 << 20;
/// Bytes by which a buffer of many short words grows at most.
const GROWTH_BYTES_MAX: usize = 1 << 20;
/// Commands that find their locks busy again, after which the others wait for the next turn: each try
/// takes some ten microseconds.
const BUSY_TRIES: usize = 8;
/// How long commands whose locks were busy wait for word of a release before they try again.
const BUSY_PATIENCE: Duration = Duration::from_millis(1);
/// How often silent connections and full output buffers are looked for.
const SWEEP: Duration = Duration::from_secs(1);
/// How long a connection sends nothing before it gives back what it holds for more.
const IDLE: Duration = Duration::from_secs(2);
/// How long the most that replies took up is remembered.
const PEAK_KEPT: Duration = Duration::from_secs(5);
/// The waker's token; connections count from 0.
const WAKE: Token = Token(usize::MAX);

/// How often a loop that may not expire keys looks whether it may again.
const EXPIRE_POLL: Duration = Duration::from_millis(100);

/// See the top of the file.
pub struct EventLoop {
    state: &'static State,
    group: usize,
    poll: Poll,
    connections: Connections,
    /// Sockets that are ready and were not looked at yet.
    ready: VecDeque<Ready>,
    buffer: Vec<u8>,
    replies: Vec<u8>,
    spans: Vec<Span>,
    /// Empty between batches: memory that they use again.
    words: Vec<&'static [u8]>,
    /// Connections that have more to read than one buffer held.
    again: Vec<usize>,
    /// Connections whose next command found its locks busy.
    aside: VecDeque<usize>,
    /// Connections whose next command waits for the end of a pause.
    postponed: Vec<usize>,
    /// Letters that were taken and not opened yet.
    letters: VecDeque<Mail>,
    /// Connections with messages that were not sent yet.
    listed: Vec<usize>,
    /// How many of them the append-only file knows to wait.
    n_noted: usize,
    /// Connections that follow this server.
    replicas: Vec<usize>,
    /// What is on its way to one of them. Empty in between.
    piece: Vec<u8>,
    /// What the notices of this tick take up, until they are sent.
    n_told_bytes: usize,
    /// When blocked commands give up: Unix time, place, session.
    timers: BTreeSet<(u64, usize, u64)>,
    due: Vec<ShardId>,
    last_sweep: Instant,
    last_peak: Instant,
    /// Since the last sweep there was a connection with unsent bytes.
    has_unsent: bool,
    /// There is one that holds room for more, or remembers that it did.
    has_slack: bool,
    /// When this tick began.
    woken_at: Instant,
}

/// A socket that can be read, written, or both.
#[derive(Clone, Copy)]
struct Ready {
    idx: usize,
    read: bool,
    write: bool,
}

/// Requests that were found in what came.
#[derive(Default)]
struct Parsed {
    /// Where the words of each end.
    ends: [usize; BATCH],
    n: usize,
    /// Those that were run.
    n_run: usize,
    /// What follows them is none.
    broken: Option<ProtocolError>,
    /// There is no more that is whole.
    is_starved: bool,
}

/// Whether a word that is longer than a read has come in part, if `n_bytes` of its request have.
fn is_amid_long(parser: &Parser, n_bytes: usize) -> bool {
    parser.hint() > 0 && parser.bulk_bytes(n_bytes) >= READ_BYTES
}

/// A poll and the waker that ends its sleep.
pub fn poll_and_waker() -> std::io::Result<(Poll, Waker)> {
    let poll = Poll::new()?;
    let waker = Waker::new(poll.registry(), WAKE)?;
    Ok((poll, waker))
}

impl EventLoop {
    /// The loop number `group`, which also looks after the deadlines of that group of shards.
    pub fn new(state: &'static State, group: usize, poll: Poll) -> EventLoop {
        EventLoop {
            state,
            group,
            poll,
            connections: Connections::default(),
            ready: VecDeque::new(),
            buffer: Vec::new(),
            replies: Vec::new(),
            spans: Vec::new(),
            words: Vec::new(),
            again: Vec::new(),
            aside: VecDeque::new(),
            postponed: Vec::new(),
            letters: VecDeque::new(),
            listed: Vec::new(),
            n_noted: 0,
            replicas: Vec::new(),
            piece: Vec::new(),
            n_told_bytes: 0,
            timers: BTreeSet::new(),
            due: Vec::new(),
            last_sweep: Instant::now(),
            last_peak: Instant::now(),
            has_unsent: false,
            has_slack: false,
            woken_at: Instant::now(),
        }
    }

    /// Serves until the server stops.
    pub fn run(&mut self, engine: &mut Engine) -> std::io::Result<()> {
        let mut events = Events::with_capacity(256);
        while !self.state.is_stopping.load(Relaxed) {
            let timeout = self.timeout(engine);
            self.await_sockets(&mut events, timeout)?;
            self.state.sleep_along();
            self.woken_at = Instant::now();
            engine.begin_tick();
            // What happened before a request came is told before its reply.
            self.open_letters(engine);
            self.look_at_ready(engine);
            self.finish_tick(engine);
        }
        if !self.listed.is_empty() {
            self.state.aof.settle(&self.state.config);
            self.send_listed(engine);
        }
        self.state.mailboxes.wake_all();
        Ok(())
    }

    /// Waits for sockets and notes which are ready.
    fn await_sockets(
        &mut self,
        events: &mut Events,
        timeout: Option<Duration>,
    ) -> std::io::Result<()> {
        match self.poll.poll(events, timeout) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for idx in std::mem::take(&mut self.again) {
            if let Some(connection) = self.connections.get_mut(idx) {
                connection.is_read_again = false;
            }
            self.ready.push_back(Ready {
                idx,
                read: true,
                write: false,
            });
        }
        let sockets = events.iter().filter(|event| event.token() != WAKE);
        for event in sockets {
            let Token(idx) = event.token();
            self.ready.push_back(Ready {
                idx,
                read: event.is_readable() || event.is_error(),
                write: event.is_writable(),
            });
            if event.is_read_closed() {
                self.read_again(idx); // the end stands behind what is read, and has no event
            }
        }
        Ok(())
    }

    /// Notes that there is more to read than was read. Once: an event may bring the same
    /// connection, and two notes would become three.
    fn read_again(&mut self, idx: usize) {
        let is_noted = match self.connections.get_mut(idx) {
            Some(connection) => std::mem::replace(&mut connection.is_read_again, true),
            None => false, // it is lent out
        };
        if !is_noted {
            self.again.push(idx);
        }
    }

    fn look_at_ready(&mut self, engine: &mut Engine) {
        while let Some(Ready { idx, read, write }) = self.ready.pop_front() {
            if write {
                self.flush(engine, idx);
            }
            if read {
                self.read(engine, idx);
            }
        }
    }

    /// What follows the reading of sockets.
    fn finish_tick(&mut self, engine: &mut Engine) {
        self.time_out(engine);
        self.open_letters(engine);
        self.end_pause(engine);
        self.retry(engine);
        self.send_listed(engine);
        self.expire(engine);
        if engine.has_memory_limit() {
            engine.make_room();
        }
        self.sweep(engine);
        self.shed(engine);
        let active = engine.last_clock().saturating_duration_since(self.woken_at);
        engine.counters().add(Counter::LoopCycles, 1);
        engine
            .counters()
            .add(Counter::LoopActiveNs, active.as_nanos() as u64);
        self.state.stats.sample(engine.now_ms());
        if self.state.journal.backlog.take_news() {
            self.state.announce_stream();
        }
        self.state.mailboxes.wake();
        if std::mem::take(&mut engine.has_lowered_due) {
            self.state.mailboxes.wake_all();
        }
    }

    fn timeout(&self, engine: &Engine) -> Option<Duration> {
        let expires = self.state.is_expiring(unix_ms());
        if !self.again.is_empty() || (expires && !self.due.is_empty()) || engine.is_evicting() {
            return Some(Duration::ZERO);
        }
        let until = |ms: u64| Duration::from_millis(ms.saturating_sub(unix_ms()).min(60_000));
        let due_ms = self.state.keyspace.next_due_ms(self.group);
        let is_swept = self.state.config.timeout_s() > 0 && !self.connections.is_empty();
        [
            (due_ms != u64::MAX).then(|| match expires {
                true => until(due_ms),
                false => EXPIRE_POLL, // nobody tells when it is allowed again
            }),
            self.timers.first().map(|(ms, ..)| until(*ms)),
            (!self.postponed.is_empty()).then(|| {
                let left_ms = self.state.pause.left_ms(unix_ms());
                Duration::from_millis(left_ms.min(60_000))
            }),
            (is_swept || self.has_unsent || self.has_slack).then_some(SWEEP),
            (!self.aside.is_empty() || engine.has_remains()).then_some(BUSY_PATIENCE),
            (!self.listed.is_empty()).then(|| self.state.aof.patience()),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    fn expire(&mut self, engine: &mut Engine) {
        let is_due = self.state.keyspace.next_due_ms(self.group) <= engine.now_ms();
        let is_wanted = self.state.is_expiring(engine.now_ms());
        if is_wanted && (is_due || !self.due.is_empty()) {
            engine.expire(self.group, &mut self.due);
        } else if !self.state.role.own_keys.is_empty() && !engine.is_paused() {
            engine.expire_own();
        }
    }

    /// Closes connections that were silent for longer than `timeout`, or too full for too long.
    fn sweep(&mut self, engine: &mut Engine) {
        let is_paused = self.state.is_cron_paused.load(Relaxed);
        if self.woken_at - self.last_sweep < SWEEP || is_paused {
            return;
        }
        self.last_sweep = self.woken_at;
        let timeout_s = self.state.config.timeout_s();
        let is_silent = |one: &Connection| {
            let is_idle = one.session.waiter.is_none()
                && one.session.subscriptions.is_none()
                && !one.session.is_replica()
                && !one.session.waits_for_snapshot();
            timeout_s > 0 && is_idle && one.last_heard.elapsed().as_secs() > timeout_s
        };
        let over: Vec<usize> = self
            .connections
            .iter_mut()
            .filter_map(|(idx, one)| {
                (is_silent(one) || is_hoarding(self.state, one, 0)).then_some(idx)
            })
            .collect();
        over.into_iter().for_each(|idx| self.close(engine, idx));
        if self.has_slack || self.has_unsent {
            self.trim();
        }
    }

    /// Has idle connections give back what they hold for more to come, and forgets old peaks.
    fn trim(&mut self) {
        let forgets = self.woken_at - self.last_peak >= PEAK_KEPT;
        if forgets {
            self.last_peak = self.woken_at;
        }
        (self.has_slack, self.has_unsent) = (false, false);
        for (_, one) in self.connections.iter_mut() {
            if self.woken_at.saturating_duration_since(one.last_heard) >= IDLE {
                one.shrink();
            }
            if forgets {
                one.output_peak = 0;
            }
            let buffers = one.buffers();
            self.has_unsent |= buffers.output > 0;
            self.has_slack |= buffers.input_free > 0 || buffers.output_peak > buffers.output_held;
            one.session.client.facts.lock().buffers = buffers;
            charge(self.state, &mut one.session, &buffers, 0);
        }
    }

    fn accept(&mut self, engine: &Engine, incoming: Incoming) {
        let mut stream = incoming.stream;
        let place = self.connections.next_place();
        let interest = Interest::READABLE | Interest::WRITABLE;
        let token = Token(place);
        let registry = self.poll.registry();
        if registry.register(&mut stream, token, interest).is_err() {
            self.state.n_clients.fetch_sub(1, Relaxed);
            return;
        }
        let client = Arc::new(Client {
            address: Address {
                group: self.group as u16,
                slot: place as u32,
                session: self.state.clients.next_id(),
            },
            is_unix: matches!(stream, Stream::Unix(_)),
            socket: stream.number(),
            peer: incoming.address,
            local: incoming.local_address,
            is_local: incoming.is_local,
            since_ms: engine.now_ms(),
            name: Default::default(),
            user: self.state.acl.default_user().clone().into(),
            library: Default::default(),
            follows_redirects: false.into(),
            reads_here: false.into(),
            waits_to_read: false.into(),
            is_killed: false.into(),
            waiter: Default::default(),
            facts: Default::default(),
            charged_bytes: Default::default(),
            going_bytes: Default::default(),
        });
        self.state.clients.add(client.clone());
        if self.state.control.is_ending() {
            client.is_killed.store(true, Relaxed); // the data was saved, or will not be
        }
        let is_authenticated = !self.state.acl.needs_login();
        let session = Session::new(client, is_authenticated);
        self.connections.insert(Connection::new(stream, session));
        self.take_stock(place);
    }

    fn close(&mut self, engine: &mut Engine, idx: usize) {
        let Some(mut connection) = self.connections.remove(idx) else {
            return;
        };
        // The socket is closed right after; that it was registered no longer matters.
        let _ = self.poll.registry().deregister(&mut connection.stream);
        self.drop_timer(idx, connection.session.id(), connection.until_ms);
        if let Some(replica) = &connection.session.replica {
            self.replicas.retain(|other| *other != idx);
            self.state.role.remove(replica);
            self.state.role.trim(&self.state.journal.backlog); // what was kept for it goes with it
            self.state.announce_stream(); // another connection may have lost its purpose
            self.state.mailboxes.wake();
        }
        engine.end_session(&mut connection.session);
        connection.free(); // while it is counted
        self.state.clients.remove(connection.session.id());
        self.state.n_clients.fetch_sub(1, Relaxed);
    }

    fn drop_timer(&mut self, idx: usize, session: u64, until_ms: Option<u64>) {
        if let Some(until_ms) = until_ms
            && self.timers.remove(&(until_ms, idx, session))
        {
            self.state.clients.n_timed.fetch_sub(1, Relaxed);
        }
    }

    // ---- Requests ------------------------------------------------------------------------------

    /// Reads what has come and answers it. Of a word that is longer than a read, a good part is taken before
    /// others have their turn, and before anybody is told how much has come.
    fn read(&mut self, engine: &mut Engine, idx: usize) {
        let mut n_bytes = 0;
        while self.read_some(engine, idx, &mut n_bytes) {}
    }

    /// Reads once; whether the rest of a word follows at once.
    #[inline(always)]
    fn read_some(&mut self, engine: &mut Engine, idx: usize, n_bytes: &mut usize) -> bool {
        let Some(connection) = self.connections.get_mut(idx) else {
            if self.connections.is_lent(idx) {
                self.read_again(idx);
            }
            return false;
        };
        if connection.unsent_bytes() > UNSENT_BYTES_MAX || connection.session.is_closing {
            return false;
        }
        let is_fresh = connection.input.is_empty();
        let mut buffer = std::mem::take(if is_fresh {
            &mut self.buffer
        } else {
            &mut connection.input
        });
        let n_kept = if is_fresh { 0 } else { buffer.len() };
        if buffer.is_empty() {
            buffer = vec![0; READ_BYTES]; // the first time, of pages that nobody has touched
        } else if !is_fresh {
            // Grows by a quarter, or by what waits if that is more, up to what a long word lacks and no
            // further; by less where many short ones come.
            let is_long = !connection.is_held() && is_amid_long(&connection.parser, n_kept);
            let (least, room) = if is_long {
                let hint = connection.parser.hint();
                let waiting = connection.stream.waiting_bytes().min(TURN_BYTES);
                let room = waiting.max(n_kept / 4).max(READ_BYTES);
                // No read for the little that is left then.
                let room = if hint < room + room / 8 { hint } else { room };
                (room.min(READ_BYTES), room)
            } else {
                (READ_BYTES, (n_kept / 64).clamp(READ_BYTES, GROWTH_BYTES_MAX))
            };
            if buffer.capacity() - n_kept < least {
                buffer.reserve_exact(room);
            }
        }
        let received = match is_fresh {
            true => receive(&mut connection.stream, &mut buffer),
            false => receive_behind(&connection.stream, &mut buffer),
        };
        let n = match received {
            Received::Bytes(n, _) => n,
            Received::Nothing => 0,
            Received::End => {
                if is_fresh {
                    self.buffer = buffer;
                }
                if connection.awaits_file.is_some() {
                    connection.session.is_closing = true; // when its replies are sent
                } else {
                    self.close(engine, idx);
                }
                return false;
            }
        };
        connection.last_heard = self.woken_at;
        connection.session.bytes_in += n as u64;
        engine.counters().add(Counter::NetInputBytes, n as u64);
        engine.counters().add(Counter::ReadsProcessed, 1);
        if !is_fresh && self.is_shed(engine, idx, buffer.capacity()) {
            return false;
        }
        let Some(connection) = self.connections.get_mut(idx) else {
            return false;
        };
        // Beyond the limit it is closed, though all of the request should be there by now.
        let limit = self.state.config.query_buffer_limit_bytes();
        let is_over = !is_fresh && n_kept + n + connection.waiting_bytes() > limit;
        let (n_used, is_alive) = match connection.is_held() || is_over {
            true => (0, true),
            false => self.answer(engine, idx, &mut buffer[..n_kept + n]),
        };
        self.keep(idx, buffer, is_fresh, n_used..n_kept + n);
        let is_more = matches!(received, Received::Bytes(_, true));
        *n_bytes += n;
        let goes_on = |one: &Connection| {
            !one.session.is_closing
                && !one.is_held()
                && one.unsent_bytes() <= UNSENT_BYTES_MAX
                && is_amid_long(&one.parser, one.input.len())
        };
        if is_alive
            && is_more
            && !is_over
            && *n_bytes < TURN_BYTES
            && self.connections.get(idx).is_some_and(goes_on)
        {
            return true;
        }
        if self.settle(engine, idx, is_alive) && is_more {
            self.read_again(idx);
        }
        if engine.has_memory_limit() && self.state.is_out_of_memory() {
            self.shed(engine); // before keys are evicted for what clients take up
        }
        false
    }

    /// Closes a connection that is done or beyond its limits; whether it stays.
    fn settle(&mut self, engine: &mut Engine, idx: usize, is_alive: bool) -> bool {
        let Some(connection) = self.connections.get_mut(idx) else {
            return false;
        };
        let limit = self.state.config.query_buffer_limit_bytes();
        let is_done = connection.is_done() && !self.state.control.is_ending();
        let n_waiting = connection.input.len() + connection.waiting_bytes();
        self.has_unsent |= connection.unsent_bytes() > 0;
        let buffers = connection.buffers();
        connection.session.publish(engine.now_ms(), buffers);
        charge(self.state, &mut connection.session, &buffers, 0);
        if n_waiting > limit {
            self.state
                .stats
                .count(Counter::QueryBufferDisconnections, 1);
            log::warn!(
                "Closing client {} that reached max query buffer length",
                connection.session.client.peer
            );
        }
        let is_replica = connection.session.is_replica();
        if !is_alive || is_done || n_waiting > limit {
            self.close(engine, idx);
            return false;
        }
        if is_replica {
            self.attend(idx);
            self.feed(engine, idx);
        }
        true
    }

    /// Keeps the partial request at `rest` of the buffer with its connection.
    fn keep(
        &mut self,
        idx: usize,
        mut buffer: Vec<u8>,
        is_shared: bool,
        rest: std::ops::Range<usize>,
    ) {
        let connection = self.connections.get_mut(idx);
        if is_shared {
            if let Some(connection) = connection {
                connection.input = buffer[rest].to_vec();
            }
            self.buffer = buffer;
        } else if let Some(connection) = connection
            && !rest.is_empty()
        {
            buffer.truncate(rest.end);
            buffer.drain(..rest.start);
            if buffer.capacity() > READ_BYTES + 4 * buffer.len() {
                buffer.shrink_to(buffer.len()); // a long request is over
            }
            self.has_slack |= buffer.capacity() > buffer.len();
            connection.input = buffer;
        }
    }

    /// Answers the requests in `input`; how many bytes they took, and whether the connection lives.
    fn answer(&mut self, engine: &mut Engine, idx: usize, input: &mut [u8]) -> (usize, bool) {
        let Some(mut connection) = self.connections.lend(idx) else {
            return (0, false);
        };
        let mut replies = std::mem::take(&mut self.replies);
        let mut spans = std::mem::take(&mut self.spans);
        let mut words = std::mem::take(&mut self.words);
        let gathered = (&mut spans, &mut words, &mut replies);
        let (n_used, is_alive, stop) = self.answer_on(engine, &mut connection, input, gathered);
        list_held(&mut self.listed, idx, &mut connection);
        spans.clear();
        spans.shrink_to(WORDS_KEPT_MAX); // one request may have had very many
        (self.spans, self.words, self.replies) = (spans, words, replies);
        self.connections.give_back(idx, connection);
        if let Some(stop) = stop {
            self.hold(idx, stop);
        }
        (n_used, is_alive)
    }

    /// Finds the next requests in `input`, from `pos` on.
    #[inline]
    fn parse(
        &self,
        connection: &mut Connection,
        input: &mut [u8],
        pos: &mut usize,
        spans: &mut Vec<Span>,
        parsed: &mut Parsed,
    ) {
        let is_authenticated = connection.session.is_authenticated || !self.state.acl.needs_login();
        let limits = Limits {
            max_bulk_bytes: self.state.config.proto_max_bulk_bytes(),
            authenticated: is_authenticated,
        };
        spans.clear();
        // Whether a request may be long depends on the AUTH before it.
        let n_max = if is_authenticated { BATCH } else { 1 };
        let ends = &mut parsed.ends;
        let (mut n, mut broken, mut is_starved) = (0, None, false);
        while n < n_max {
            match connection.parser.next(input, pos, spans, &limits) {
                Ok(true) if n > 0 && spans.len() == ends[n - 1] => {}
                Ok(true) if spans.is_empty() => {}
                Ok(true) => {
                    ends[n] = spans.len();
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
        (parsed.n, parsed.n_run) = (n, 0);
        (parsed.broken, parsed.is_starved) = (broken, is_starved);
    }

    fn answer_on(
        &mut self,
        engine: &mut Engine,
        connection: &mut Connection,
        input: &mut [u8],
        (spans, words, replies): (&mut Vec<Span>, &mut Vec<&'static [u8]>, &mut Vec<u8>),
    ) -> (usize, bool, Option<Stop>) {
        let mut pos = 0;
        let mut parsed = Parsed::default();
        loop {
            if parsed.n_run == parsed.n {
                self.parse(connection, input, &mut pos, spans, &mut parsed);
            }
            let batch = Batch {
                n_run: parsed.n_run,
                input,
                spans,
                ends: &parsed.ends[..parsed.n],
            };
            let session = &mut connection.session;
            let (stopped, n_run) = match batch.run(engine, session, replies, words, self) {
                Ran::Through => (None, parsed.n),
                Ran::UpTo(n_run) => (None, n_run),
                Ran::Stopped(stop, kept) => (Some((stop, kept)), parsed.n),
            };
            parsed.n_run = n_run;
            let is_through = stopped.is_none() && n_run == parsed.n;
            if let Some(error) = parsed.broken.take_if(|_| is_through) {
                let mut reply = Reply::new(replies, session.proto);
                reply.error(format!("ERR {error}").as_bytes());
                session.is_closing = true;
            }
            let is_starved = is_through && parsed.is_starved;
            let is_over = is_starved || session.is_closing || stopped.is_some();
            if session.becomes_notable() {
                let buffers = session.client.facts.lock().buffers;
                session.publish(engine.now_ms(), buffers); // known before the reply is
            }
            let mut is_alive = true;
            let mut is_hoarding = is_hoarding(self.state, connection, replies.len());
            if is_hoarding {
                *replies = Vec::new();
            } else if is_over || replies.len() > REPLY_BYTES {
                let counters = engine.counters();
                is_alive = send_replies(self.state, connection, replies, counters);
                is_hoarding = sending::is_hoarding(self.state, connection, 0);
            }
            if let Some((stop, kept)) = stopped {
                connection.kept.extend(kept);
                return (pos, is_alive && !is_hoarding, Some(stop));
            }
            if is_over || !is_alive || is_hoarding {
                return (pos, is_alive && !is_hoarding, None);
            }
            if self.is_crowded(connection) {
                self.shed(engine);
                if connection.session.client.is_killed.load(Relaxed) {
                    *replies = Vec::new(); // its connection is closed now
                    return (pos, false, None);
                }
            }
        }
    }

    /// Notes why a connection is held.
    #[cold]
    fn hold(&mut self, idx: usize, stop: Stop) {
        match stop {
            Stop::Busy => {
                self.state.mailboxes.wait_for_release(self.group);
                self.aside.push_back(idx);
            }
            Stop::Postponed => {
                if let Some(connection) = self.connections.get_mut(idx) {
                    self.state.clients.postpones(&mut connection.session);
                    self.postponed.push(idx);
                }
            }
            Stop::Blocked(until_ms) => {
                let Some(connection) = self.connections.get_mut(idx) else {
                    return;
                };
                connection.until_ms = until_ms;
                if let Some(until_ms) = until_ms {
                    self.timers.insert((until_ms, idx, connection.session.id()));
                    self.state.clients.n_timed.fetch_add(1, Relaxed);
                }
            }
        }
    }

    /// Goes on with a connection that is not held any more: first what was kept of it.
    fn resume(&mut self, engine: &mut Engine, idx: usize) {
        let mut replies = std::mem::take(&mut self.replies);
        self.resume_kept(engine, idx, &mut replies);
        self.replies = replies;
        let Some(connection) = self.connections.get_mut(idx) else {
            return;
        };
        if !connection.output.is_empty() {
            connection.await_file(self.state.aof.awaited()); // as what was answered before
        }
        let mut replies = std::mem::take(&mut self.replies);
        let mut is_alive = send_replies(self.state, connection, &mut replies, engine.counters());
        self.replies = replies;
        list_held(&mut self.listed, idx, connection);
        let mut input = std::mem::take(&mut connection.input);
        let end = input.len();
        let mut n_used = 0;
        if is_alive && !connection.is_held() && !input.is_empty() {
            (n_used, is_alive) = self.answer(engine, idx, &mut input);
        }
        self.keep(idx, input, false, n_used..end);
        self.settle(engine, idx, is_alive);
    }

    fn resume_kept(&mut self, engine: &mut Engine, idx: usize, replies: &mut Vec<u8>) {
        let Some(mut connection) = self.connections.lend(idx) else {
            return;
        };
        let mut stop = None;
        while connection.session.waiter.is_none()
            && !connection.session.is_closing
            && stop.is_none()
            && let Some(kept) = connection.kept.pop_front()
        {
            stop = run_kept(engine, &mut connection.session, &kept, replies, self);
            if matches!(stop, Some(Stop::Busy | Stop::Postponed)) {
                connection.kept.push_front(kept);
            }
            if replies.len() > REPLY_BYTES
                && !send_replies(self.state, &mut connection, replies, engine.counters())
            {
                break; // what follows finds that out again
            }
        }
        self.connections.give_back(idx, connection);
        if let Some(stop) = stop {
            self.hold(idx, stop);
        }
    }

    /// Tries the commands again that a pause has held back, when it is over.
    fn end_pause(&mut self, engine: &mut Engine) {
        if self.postponed.is_empty() || engine.is_paused() {
            return;
        }
        for idx in std::mem::take(&mut self.postponed) {
            let connection = self.connections.get_mut(idx);
            if let Some(connection) = connection.filter(|one| one.session.is_postponed) {
                self.state.clients.resumes(&mut connection.session);
                self.resume(engine, idx);
            }
        }
    }

    /// Tries the commands again that found their locks busy.
    fn retry(&mut self, engine: &mut Engine) {
        let (n_aside, mut n_busy) = (self.aside.len(), 0);
        for _ in 0..n_aside {
            let Some(idx) = self.aside.pop_front() else {
                return;
            };
            let n_others = self.aside.len();
            self.resume(engine, idx);
            n_busy += self.aside.len().saturating_sub(n_others);
            if n_busy >= BUSY_TRIES {
                return;
            }
        }
    }

    /// Answers a blocked command and goes on with its connection.
    fn go_on(&mut self, engine: &mut Engine, idx: usize, reply: &[u8]) {
        let Some(connection) = self.connections.get_mut(idx) else {
            return;
        };
        let until_ms = connection.until_ms.take();
        let id = connection.session.id();
        connection.output.extend_from_slice(reply);
        connection.session.bytes_out += reply.len() as u64;
        engine
            .counters()
            .add(Counter::NetOutputBytes, reply.len() as u64);
        self.drop_timer(idx, id, until_ms);
        self.resume(engine, idx);
    }

    fn time_out(&mut self, engine: &mut Engine) {
        while let Some(&(until_ms, idx, id)) = self.timers.first() {
            if until_ms > engine.now_ms() {
                return;
            }
            self.timers.pop_first();
            self.state.clients.n_timed.fetch_sub(1, Relaxed);
            let connection = self.connections.get_mut(idx);
            let Some(connection) = connection.filter(|one| one.session.id() == id) else {
                continue;
            };
            connection.until_ms = None;
            if let Some(reply) = engine.time_out(&mut connection.session) {
                self.go_on(engine, idx, &reply);
            }
        }
    }
}

impl Meanwhile for EventLoop {
    /// Reads and answers what is there; letters but new connections stay closed.
    fn serve(&mut self, engine: &mut Engine) {
        let mut events = Events::with_capacity(64);
        if let Err(error) = self.await_sockets(&mut events, Some(Duration::ZERO)) {
            log::warn!("cannot look after connections while a script runs: {error}");
        }
        self.look_at_ready(engine);
        self.letters.extend(self.state.mailboxes.take(self.group));
        for _ in 0..self.letters.len() {
            match self.letters.pop_front() {
                Some(Mail::Socket(incoming)) => self.accept(engine, incoming),
                Some(other) => self.letters.push_back(other),
                None => {}
            }
        }
        self.retry(engine);
        self.send_listed(engine);
    }
}
