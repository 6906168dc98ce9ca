//! The link to the primary: connects, gets the data or goes on where it was, and runs what comes.
//!
//! A snapshot is received whole before anything is thrown away: at every moment the data is the old or
//! the new. A command of the primary runs as one of a client does, and its bytes are handed on, as they
//! came, to replicas of this server; those of a transaction together, when it ends.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use resp::reply::{Proto, Reply};
use resp::request::{Limits, Parser, Span};

use super::disk::Durable;
use super::handshake::{Handshake, Introduction, Step};
use crate::command::Commands;
use crate::dispatch;
use crate::error::reason;
use crate::exec::{Engine, Outcome, unix_ms};
use crate::io::sockets::connect_from;
use crate::role::failover::Phase;
use crate::role::{LinkState, Primary};
use crate::session::Session;
use crate::session::client::{Buffers, Client, Facts};
use crate::state::State;
use crate::stats::counters::Counter;

/// How long a read waits before a look at what else is to be done.
const TICK: Duration = Duration::from_millis(100);
/// How often the primary is told how far this server is.
const ACK: Duration = Duration::from_secs(1);
/// How long it waits before it tries again.
const RETRY: Duration = Duration::from_secs(1);
/// How long a command whose locks are busy waits.
const BUSY: Duration = Duration::from_micros(50);
/// Bytes read at a time.
const READ_BYTES: usize = 64 << 10;
/// The longest line of a handshake.
const LINE_BYTES_MAX: usize = 4096;
/// Where this thread's random numbers start.
const SEED: u64 = 0x6c69_6e6b;

/// Follows the primary until somebody else, or nobody, is to be followed.
pub fn run(state: &'static State, commands: &'static Commands, generation: u64) {
    let mut link = Link::new(state, commands, generation);
    while link.is_wanted() {
        if let Err(why) = link.once()
            && link.is_wanted()
        {
            log::warn!("{why}");
        }
        link.note(|primary| primary.link = LinkState::Connect);
        link.hide();
        link.leave_block();
        // One that was there and is lost is sought again at once, if it was more than a glimpse.
        let followed = link.followed_since.take();
        let was_there = followed.is_some_and(|since| since.elapsed() > TICK);
        if link.is_wanted() && !was_there {
            state.role.wait(generation, RETRY);
        }
    }
}

pub(super) struct Link {
    pub(super) state: &'static State,
    pub(super) engine: Engine,
    pub(super) session: Session,
    generation: u64,
    /// What came and was not used yet, from `pos` on.
    pub(super) input: Vec<u8>,
    pub(super) pos: usize,
    /// Bytes of the transaction that is coming.
    block: Vec<u8>,
    acked_at: Instant,
    /// What of the stream is on this server's disk.
    pub(super) durable: Durable,
    /// Up to where the primary was told that it is.
    durable_to: Option<u64>,
    /// PSYNC was said.
    has_asked: bool,
    /// Since when the stream is followed.
    followed_since: Option<Instant>,
    /// The connection as CLIENT LIST shows it, and CLIENT KILL ends it: between two commands.
    shown: Option<Arc<Client>>,
}

impl Link {
    fn new(state: &'static State, commands: &'static Commands, generation: u64) -> Link {
        let mut engine = Engine::new(state, commands, state.n_threads, SEED);
        let session = engine.session_of_primary();
        Link {
            state,
            engine,
            session,
            generation,
            input: Vec::new(),
            pos: 0,
            block: Vec::new(),
            acked_at: Instant::now(),
            durable: Durable::default(),
            durable_to: None,
            has_asked: false,
            followed_since: None,
            shown: None,
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.state.role.generation() == self.generation && !self.state.is_stopping.load(Relaxed)
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Primary)) {
        self.state.role.note_link(self.generation, change);
    }

    /// Does nothing while DEBUG SLEEP makes the server look dead.
    fn sleep_along(&self) {
        while self.state.n_asleep.load(Relaxed) > 0 && self.is_wanted() {
            std::thread::sleep(TICK);
        }
    }

    /// Lets others see the connection.
    fn show(&mut self, stream: &TcpStream) {
        let text = |address: std::io::Result<SocketAddr>| {
            address.map_or(String::new(), |address| address.to_string())
        };
        let (peer, local) = (text(stream.peer_addr()), text(stream.local_addr()));
        let client = self
            .engine
            .client_of_primary(peer, local, stream.as_raw_fd());
        self.state.clients.add(client.clone());
        self.session.n_commands = 0;
        (self.session.bytes_in, self.session.bytes_out) = (0, 0);
        self.session.last_command = "";
        self.shown = Some(client);
        self.update_shown();
    }

    fn update_shown(&self) {
        if let Some(shown) = &self.shown {
            self.session.publish(unix_ms(), Buffers::default());
            *shown.facts.lock() = Facts {
                is_primary: true,
                ..self.session.client.facts.lock().clone()
            };
        }
    }

    /// Whether a client has ended the connection.
    fn is_killed(&self) -> bool {
        self.shown
            .as_ref()
            .is_some_and(|shown| shown.is_killed.load(Relaxed))
    }

    fn hide(&mut self) {
        if let Some(shown) = self.shown.take() {
            self.state.clients.remove(shown.address.session);
        }
    }

    /// Forgets half a transaction.
    fn leave_block(&mut self) {
        self.session.queue = None;
        self.block.clear();
        self.input.clear();
        self.pos = 0;
    }

    /// One connection, from its beginning to its end. The error is for the log.
    fn once(&mut self) -> Result<(), String> {
        let Some(primary) = self.state.role.primary() else {
            return Ok(());
        };
        self.sleep_along();
        log::info!("Connecting to MASTER {}:{}", primary.host, primary.port);
        self.note(|primary| primary.link = LinkState::Connecting);
        let mut stream = self.connect(&primary)?;
        log::info!("MASTER <-> REPLICA sync started");
        self.note(|primary| primary.link = LinkState::Handshake);
        self.has_asked = false;
        let answer = self.shake_hands(&mut stream);
        self.settle_failover(&answer);
        match answer? {
            Step::Full { replid, offset } => self.full(&mut stream, &replid, offset)?,
            Step::Continue { replid } => self.go_on(replid),
            Step::Send(_) => return Err("the handshake did not end".to_owned()),
            Step::Failed(why) => return Err(why),
        }
        self.note(|primary| {
            primary.link = LinkState::Connected;
            primary.heard_at = Some(Instant::now());
        });
        self.show(&stream);
        self.followed_since = Some(Instant::now());
        self.acknowledge(&mut stream)?;
        self.follow(&mut stream)
    }

    /// Ends a failover with the answer of the replica that was asked to take over.
    fn settle_failover(&self, answer: &Result<Step, String>) {
        let state = self.state;
        if state.role.failover.phase() != Phase::Moving || !self.is_wanted() {
            return;
        }
        match answer {
            Ok(Step::Full { .. } | Step::Continue { .. }) => {
                let plan = state.role.failover.end();
                plan.iter().for_each(|_| state.end_handover());
            }
            _ if self.has_asked => {
                state.abort_failover("Failover target rejected psync request");
            }
            _ => {} // it is tried again
        }
    }

    fn connect(&self, primary: &Primary) -> Result<TcpStream, String> {
        let failed = |error: std::io::Error| {
            format!("Error condition on socket for SYNC: {}", reason(&error))
        };
        let timeout = self.state.config.replication_timeout();
        let source = self.state.config.source_address();
        let addresses = (primary.host.as_str(), primary.port).to_socket_addrs();
        let mut last = "no address".to_owned();
        for address in addresses.map_err(failed)? {
            match connect_from(source.as_deref(), &address, timeout) {
                Ok(stream) => {
                    let set = stream
                        .set_read_timeout(Some(TICK))
                        .and_then(|()| stream.set_write_timeout(Some(timeout)))
                        .and_then(|()| stream.set_nodelay(true));
                    return set.map_err(failed).map(|()| stream);
                }
                Err(error) => last = failed(error),
            }
        }
        Err(last)
    }

    // ---- Reading ---------------------------------------------------------------------------------

    /// Reads once, behind what is there; whether something came.
    fn read(&mut self, stream: &mut TcpStream) -> Result<bool, String> {
        if self.pos > 0 {
            self.input.drain(..self.pos);
            self.pos = 0;
        }
        let before = self.input.len();
        self.input.resize(before + READ_BYTES, 0);
        let n = match stream.read(&mut self.input[before..]) {
            Ok(0) => Err("Connection with master lost.".to_owned()),
            Ok(n) => Ok(n),
            Err(error) => match error.kind() {
                ErrorKind::Interrupted | ErrorKind::WouldBlock | ErrorKind::TimedOut => Ok(0),
                _ => Err(format!("Error reading from MASTER: {}", reason(&error))),
            },
        };
        self.input
            .truncate(before + n.as_ref().copied().unwrap_or(0));
        let n = n?;
        self.session.bytes_in += n as u64;
        let counter = Counter::ReplicationInputBytes;
        self.state.stats.count(counter, n as u64);
        if n > 0 {
            self.note(|primary| primary.heard_at = Some(Instant::now()));
        }
        Ok(n > 0)
    }

    /// Reads more, for as long as the primary may take.
    pub(super) fn await_more(&mut self, stream: &mut TcpStream) -> Result<(), String> {
        let started = Instant::now();
        while !self.read(stream)? {
            if !self.is_wanted() {
                return Err("the primary is no longer wanted".to_owned());
            }
            if started.elapsed() > self.state.config.replication_timeout() {
                return Err("Timeout connecting to the MASTER...".to_owned());
            }
        }
        Ok(())
    }

    /// The next line that is not empty: empty ones say that the primary is alive.
    pub(super) fn line(&mut self, stream: &mut TcpStream) -> Result<String, String> {
        loop {
            let unread = &self.input[self.pos..];
            if let Some(n) = unread.iter().position(|byte| *byte == b'\n') {
                let line = String::from_utf8_lossy(&unread[..n]).trim_end().to_owned();
                self.pos += n + 1;
                if !line.is_empty() {
                    return Ok(line);
                }
            } else if unread.len() > LINE_BYTES_MAX {
                return Err("the primary sends something else than lines".to_owned());
            } else {
                self.await_more(stream)?;
            }
        }
    }

    fn say(stream: &mut TcpStream, words: &[String]) -> Result<(), String> {
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        let sent = stream.write_all(bytes.as_bytes());
        sent.map_err(|error| format!("Error writing to MASTER: {}", reason(&error)))
    }

    fn shake_hands(&mut self, stream: &mut TcpStream) -> Result<Step, String> {
        let (config, backlog) = (&self.state.config, &self.state.journal.backlog);
        let (ip, port) = config.announced();
        let replid = self.state.role.ids().replid;
        let about = Introduction {
            login: config.primary_login(),
            port: port.unwrap_or(config.port()),
            ip,
            history: backlog.is_on().then(|| (replid, backlog.end() + 1)),
            hands_over: self.state.role.failover.phase() == Phase::Moving,
        };
        match &about.history {
            Some((replid, wanted)) => {
                log::info!("Trying a partial resynchronization (request {replid}:{wanted}).");
            }
            None => log::info!("Partial resynchronization not possible (no cached master)"),
        }
        let (mut handshake, first) = Handshake::begin(about);
        Link::say(stream, &first)?;
        loop {
            let line = self.line(stream)?;
            match handshake.hear(&line) {
                Step::Send(words) => {
                    self.has_asked = handshake.has_asked();
                    Link::say(stream, &words)?;
                }
                end => return Ok(end),
            }
        }
    }

    // ---- The data --------------------------------------------------------------------------------

    /// Goes on where the stream was left.
    fn go_on(&mut self, replid: Option<String>) {
        let (role, backlog) = (&self.state.role, &self.state.journal.backlog);
        log::info!("Successful partial resynchronization with master.");
        let end = backlog.end();
        backlog.follow(end);
        if let Some(replid) = replid.filter(|replid| *replid != role.ids().replid) {
            log::info!("Master replication ID changed to {replid}");
            role.rename_history(replid, end);
            self.state.close_replicas();
        }
        self.session.database = role.stream_database.load(Relaxed) as u16;
    }

    // ---- The stream ------------------------------------------------------------------------------

    /// Runs what comes until the connection ends.
    fn follow(&mut self, stream: &mut TcpStream) -> Result<(), String> {
        let mut heard_at = Instant::now();
        let (mut parser, mut spans) = (Parser::default(), Vec::new());
        loop {
            self.run_all(stream, &mut parser, &mut spans)?;
            if !self.is_wanted() {
                return Ok(());
            }
            self.update_shown();
            if self.is_killed() {
                return Err("Connection with master lost.".to_owned());
            }
            self.sleep_along();
            let since = self.acked_at.elapsed();
            if since >= ACK || since >= TICK && self.has_more_on_disk() {
                self.acknowledge(stream)?;
            }
            match self.read(stream)? {
                true => heard_at = Instant::now(),
                false if heard_at.elapsed() > self.state.config.replication_timeout() => {
                    return Err("MASTER timeout: no data nor PING received...".to_owned());
                }
                false => {}
            }
        }
    }

    fn run_all(
        &mut self,
        stream: &mut TcpStream,
        parser: &mut Parser,
        spans: &mut Vec<Span>,
    ) -> Result<(), String> {
        let limits = Limits {
            max_bulk_bytes: usize::MAX,
            authenticated: true,
        };
        self.engine.begin_tick();
        let mut input = std::mem::take(&mut self.input);
        let mut result = Ok(());
        while result.is_ok() && self.is_wanted() && !self.is_killed() {
            spans.clear();
            let mut next = self.pos;
            match parser.next(&mut input, &mut next, spans, &limits) {
                Ok(false) => break,
                Ok(true) => {}
                Err(error) => {
                    result = Err(format!("Protocol error from MASTER: {error}"));
                    break;
                }
            }
            let words: Vec<&[u8]> = spans.iter().map(|span| span.of(&input)).collect();
            result = self.one(stream, &words, &input[self.pos..next]);
            self.pos = next;
        }
        self.input = input;
        if self.state.journal.backlog.take_news() {
            self.state.announce_stream();
        }
        self.state.mailboxes.wake();
        result
    }

    /// Runs one command and hands its bytes on.
    fn one(&mut self, stream: &mut TcpStream, words: &[&[u8]], raw: &[u8]) -> Result<(), String> {
        let role = &self.state.role;
        let is = |word: &str| {
            words
                .first()
                .is_some_and(|name| name.eq_ignore_ascii_case(word.as_bytes()))
        };
        let must_answer = is("replconf");
        let runs = !words.is_empty() && !must_answer && !is("ping");
        let applying = loop {
            let applying = role.applying.lock();
            if !self.is_wanted() {
                return Ok(()); // it belongs to a history that ends before it
            }
            if !runs || self.apply(words) {
                break applying;
            }
            drop(applying); // who has the locks may be about to end this history
            std::thread::sleep(BUSY);
        };
        role.stream_database
            .store(self.session.database.into(), Relaxed);
        self.block.extend_from_slice(raw);
        if self.session.queue.is_none() {
            self.state.journal.backlog.forward(&self.block);
            self.block.clear();
        }
        drop(applying);
        match must_answer {
            true => self.acknowledge(stream),
            false => Ok(()),
        }
    }

    /// Runs a command; false if its locks are busy.
    fn apply(&mut self, words: &[&[u8]]) -> bool {
        let mut answer = Vec::new();
        let mut reply = Reply::new(&mut answer, Proto::Resp2);
        match dispatch::apply(&mut self.engine, &mut self.session, words, &mut reply) {
            Ok(Outcome::Done) => {}
            Ok(Outcome::Busy | Outcome::Postponed) => return false,
            Ok(Outcome::Blocked(_)) => {
                self.engine.end_wait(&mut self.session, true);
            }
            Err(error) => answer = format!("-{error}\r\n").into_bytes(),
        }
        if answer.first() == Some(&b'-') {
            let line = answer[1..].trim_ascii_end().escape_ascii();
            let name = words[0].to_ascii_lowercase();
            let name = name.escape_ascii();
            log::error!(
                "== CRITICAL == This replica is sending an error to its master: '{line}' after \
                 processing the command '{name}'"
            );
        }
        true
    }

    /// Whether more of the stream is on the disk than the primary knows of.
    fn has_more_on_disk(&mut self) -> bool {
        self.on_disk() > self.durable_to
    }

    /// Up to where the stream is on this server's disk, if it has an append-only file.
    fn on_disk(&mut self) -> Option<u64> {
        let state = self.state;
        let (aof, backlog) = (&state.aof, &state.journal.backlog);
        if !aof.is_fed() {
            self.durable.forget();
            return None;
        }
        self.durable.note(aof.reader().n_appended(), backlog.end());
        self.durable.look(|end| aof.is_durable(end, &state.config))
    }

    /// Tells the primary how far this server is, and its disk.
    fn acknowledge(&mut self, stream: &mut TcpStream) -> Result<(), String> {
        self.acked_at = Instant::now();
        self.state.aof.settle(&self.state.config);
        self.durable_to = self.on_disk();
        let offset = self.state.journal.backlog.end().to_string();
        let mut words = vec!["REPLCONF".to_owned(), "ACK".to_owned(), offset];
        if let Some(durable_to) = self.durable_to {
            words.extend(["FACK".to_owned(), durable_to.to_string()]);
        }
        self.session.bytes_out += words.iter().map(|word| word.len() as u64).sum::<u64>();
        Link::say(stream, &words)
    }
}
