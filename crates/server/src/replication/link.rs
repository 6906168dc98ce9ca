//! The link to the primary: connects, gets the data or goes on where it was, and runs what comes.
//!
//! A snapshot is received whole before anything is thrown away, unless it may be loaded as it comes (`direct`):
//! at every moment the data is the old or the new. A command of the primary runs as one of a client does, and its bytes are handed on, as they
//! came, to replicas of this server; those of a transaction together, when it ends.

use std::io::Write;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use resp::reply::{Proto, Reply};

use super::apart::{Kept, read_some};
use super::disk::Durable;
use super::handshake::{Introduction, Offered};
use super::reader::{Event, Reader};
use super::receive::{NO_LONGER_WANTED, Place};
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
/// After how many copies in vain it waits no longer than before: for 8 seconds.
const VAIN_MAX: u32 = 4;
/// How long the stream must have been followed for its copy not to be in vain.
const WORTH: Duration = Duration::from_secs(10);
/// How long a command whose locks are busy waits.
const BUSY: Duration = Duration::from_micros(50);
/// Bytes of the stream that are read ahead while writes are paused; what follows waits at the primary.
const PAUSED_BYTES_MAX: u64 = 1 << 20;
/// Bytes read at a time.
pub(super) const READ_BYTES: usize = 64 << 10;
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
        link.note(|primary| {
            primary.link = LinkState::Connect;
            primary.kept.0 = 0;
        });
        link.hide();
        link.leave_block();
        let patience = link.patience();
        if link.is_wanted() && patience > Duration::ZERO {
            state.role.wait(generation, patience);
        }
    }
}

/// The answer to PSYNC.
pub(super) enum Answer {
    /// History and offset of the snapshot that follows.
    Full(String, u64),
    /// The snapshot comes through another connection, which names this number; the stream through this one.
    Apart(u64),
    /// Likewise, in Valkey's way.
    Dual,
    /// What another connection tells of the snapshot that follows there.
    Offered(Offered),
    /// The name that the history has now, if it has another one.
    Continue(Option<String>),
}

/// What ends a wait for the primary.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) state: &'static State,
    generation: u64,
    /// Whether the connection is lost that is not read meanwhile.
    pub(super) is_lost: Arc<AtomicBool>,
}

impl Watch {
    pub(super) fn note(&self, change: impl FnOnce(&mut Primary)) {
        self.state.role.note_link(self.generation, change);
    }

    /// Whether to wait on, who has waited since then.
    pub(super) fn look(&self, since: Instant) -> Result<(), String> {
        let (role, config) = (&self.state.role, &self.state.config);
        if role.generation() != self.generation || self.state.is_stopping.load(Relaxed) {
            return Err(NO_LONGER_WANTED.to_owned());
        }
        if self.is_lost.load(Relaxed) {
            return Err("Connection with master lost.".to_owned());
        }
        match since.elapsed() > config.replication_timeout() {
            true => Err("Timeout connecting to the MASTER...".to_owned()),
            false => Ok(()),
        }
    }
}

pub(super) struct Link {
    pub(super) state: &'static State,
    pub(super) engine: Engine,
    pub(super) session: Session,
    pub(super) watch: Watch,
    /// Bytes of the transaction that is coming.
    block: Vec<u8>,
    acked_at: Instant,
    /// What of the stream is on this server's disk.
    pub(super) durable: Durable,
    /// Up to where the primary was told that it is.
    durable_to: Option<u64>,
    /// The place in the primary's stream is lost: only everything will do.
    pub(super) is_astray: bool,
    /// Since when the stream is followed.
    followed_since: Option<Instant>,
    /// Everything was asked for and began to come.
    is_copied: bool,
    /// Copies that were lost before, or just after, they were there, one after the other.
    n_vain: u32,
    /// What came of the stream while the snapshot did.
    pub(super) kept: Kept,
    /// The connection that the stream comes through, while another one is read.
    pub(super) first: Option<TcpStream>,
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
            watch: Watch {
                state,
                generation,
                is_lost: Arc::default(),
            },
            block: Vec::new(),
            acked_at: Instant::now(),
            durable: Durable::default(),
            durable_to: None,
            is_astray: false,
            followed_since: None,
            is_copied: false,
            n_vain: 0,
            kept: Kept::default(),
            first: None,
            shown: None,
        }
    }

    pub(super) fn is_wanted(&self) -> bool {
        self.state.role.generation() == self.generation() && !self.state.is_stopping.load(Relaxed)
    }

    pub(super) fn generation(&self) -> u64 {
        self.watch.generation
    }

    pub(super) fn note(&self, change: impl FnOnce(&mut Primary)) {
        self.watch.note(change);
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
    }

    /// One connection, from its beginning to its end. The error is for the log.
    fn once(&mut self) -> Result<(), String> {
        let Some(primary) = self.state.role.primary() else {
            return Ok(());
        };
        self.sleep_along();
        log::info!("Connecting to MASTER {}:{}", primary.host, primary.port);
        self.note(|primary| primary.link = LinkState::Connecting);
        self.kept = Kept::default(); // of the last connection
        let mut stream = self.connect(&primary)?;
        log::info!("MASTER <-> REPLICA sync started");
        self.note(|primary| primary.link = LinkState::Handshake);
        // The link before this one may be running a command: it counts from its end on.
        drop(self.state.role.applying.lock());
        let about = self.introduction();
        match &about.history {
            Some((replid, wanted)) => {
                log::info!("Trying a partial resynchronization (request {replid}:{wanted}).");
            }
            None => log::info!("Partial resynchronization not possible (no cached master)"),
        }
        let (mut reader, first) = Reader::begin(about);
        let said = Link::say(&mut stream, &first);
        let answer = said.and_then(|()| self.shake_hands(&mut stream, &mut reader));
        self.settle_failover(answer.is_ok(), reader.has_asked());
        match answer? {
            Answer::Full(replid, offset) => {
                self.is_copied = true;
                self.full(&mut stream, &mut reader, Place::new(&replid, offset))?;
            }
            Answer::Apart(id) => {
                self.is_copied = true;
                self.full_apart(&stream, &primary, id)?;
            }
            Answer::Dual => {
                self.is_copied = true;
                self.full_dual((&mut stream, &mut reader), &primary)?;
            }
            Answer::Offered(_) => return Err("the primary offers what nobody asked for".into()),
            Answer::Continue(replid) => {
                self.n_vain = 0;
                self.go_on(replid)?;
            }
        }
        self.note(|primary| {
            primary.link = LinkState::Connected;
            primary.heard_at = Some(Instant::now());
        });
        self.show(&stream);
        self.followed_since = Some(Instant::now());
        self.acknowledge(&mut stream)?;
        self.follow(&mut stream, &mut reader)
    }

    /// How long to wait before the next connection. One that was there and is lost is sought again at once,
    /// if it was more than a glimpse. Who is too slow for his primary does not keep it busy with copies.
    fn patience(&mut self) -> Duration {
        let followed = self.followed_since.take().map(|since| since.elapsed());
        if std::mem::take(&mut self.is_copied) {
            let is_worth_it = followed.is_some_and(|followed| followed > WORTH);
            self.n_vain = if is_worth_it { 0 } else { self.n_vain + 1 };
            if self.n_vain > 1 {
                let patience = RETRY * (1 << (self.n_vain.min(VAIN_MAX) - 1));
                let (n, s) = (self.n_vain, patience.as_secs());
                log::warn!(
                    "{n} copies of MASTER's data were lost before long: trying again in {s} s"
                );
                return patience;
            }
        }
        match followed {
            Some(followed) if followed > TICK => Duration::ZERO,
            _ => RETRY,
        }
    }

    /// Ends a failover with the answer of the replica that was asked to take over.
    fn settle_failover(&self, is_accepted: bool, has_asked: bool) {
        let state = self.state;
        if state.role.failover.phase() != Phase::Moving || !self.is_wanted() {
            return;
        }
        match (is_accepted, has_asked) {
            (true, _) => {
                let plan = state.role.failover.end();
                plan.iter().for_each(|_| state.end_handover());
            }
            (false, true) => {
                state.abort_failover("Failover target rejected psync request");
            }
            (false, false) => {} // it is tried again
        }
    }

    pub(super) fn connect(&self, primary: &Primary) -> Result<TcpStream, String> {
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

    /// Reads once; whether something came.
    fn read(&mut self, stream: &mut TcpStream, reader: &mut Reader) -> Result<bool, String> {
        let n_kept = self.kept.len();
        let kept = &mut self.kept;
        let read = |room: &mut [u8]| match kept.take(room) {
            0 => read_some(stream, room),
            n => Ok(n),
        };
        let n = reader.fill(READ_BYTES, read);
        if n_kept > 0 {
            let n_kept = self.kept.len();
            self.note(|primary| primary.kept.0 = n_kept);
        }
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
    pub(super) fn await_more(
        &mut self,
        stream: &mut TcpStream,
        reader: &mut Reader,
    ) -> Result<(), String> {
        let started = Instant::now();
        while !self.read(stream, reader)? {
            self.watch.look(started)?;
        }
        Ok(())
    }

    pub(super) fn say(stream: &mut TcpStream, words: &[String]) -> Result<(), String> {
        let mut bytes = format!("*{}\r\n", words.len());
        for word in words {
            bytes.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        let sent = stream.write_all(bytes.as_bytes());
        sent.map_err(|error| format!("Error writing to MASTER: {}", reason(&error)))
    }

    /// What this server says of itself.
    pub(super) fn introduction(&self) -> Introduction {
        let (config, backlog) = (&self.state.config, &self.state.journal.backlog);
        let (ip, port) = config.announced();
        let replid = self.state.role.ids().replid;
        let has_history = backlog.is_on() && !self.is_astray;
        Introduction {
            login: config.primary_login(),
            port: port.unwrap_or(config.port()),
            ip,
            history: has_history.then(|| (replid, backlog.end() + 1)),
            takes_channel: config.uses_rdb_channel(),
            channel_of: None,
            takes_dual: config.uses_dual_channel(),
            is_dual: false,
            hands_over: self.state.role.failover.phase() == Phase::Moving,
        }
    }

    /// Up to the answer to PSYNC.
    pub(super) fn shake_hands(
        &mut self,
        stream: &mut TcpStream,
        reader: &mut Reader,
    ) -> Result<Answer, String> {
        loop {
            match reader.read()? {
                Some(Event::Say(words)) => Link::say(stream, &words)?,
                Some(Event::Full { replid, offset }) => return Ok(Answer::Full(replid, offset)),
                Some(Event::Apart { id }) => return Ok(Answer::Apart(id)),
                Some(Event::Dual) => return Ok(Answer::Dual),
                Some(Event::Offered(offered)) => return Ok(Answer::Offered(offered)),
                Some(Event::Continue { replid }) => return Ok(Answer::Continue(replid)),
                Some(_) => return Err("the handshake did not end".to_owned()),
                None => self.await_more(stream, reader)?,
            }
        }
    }

    // ---- The data --------------------------------------------------------------------------------

    /// Goes on where the stream was left.
    fn go_on(&mut self, replid: Option<String>) -> Result<(), String> {
        let (role, backlog) = (&self.state.role, &self.state.journal.backlog);
        let _applying = role.applying.lock();
        if !self.is_wanted() {
            return Err(NO_LONGER_WANTED.to_owned()); // the history may be this server's own by now
        }
        self.find_database()?;
        log::info!("Successful partial resynchronization with master.");
        let end = backlog.end();
        backlog.follow(end);
        if let Some(replid) = replid.filter(|replid| *replid != role.ids().replid) {
            log::info!("Master replication ID changed to {replid}");
            role.rename_history(replid, end);
            self.state.close_replicas();
        }
        Ok(())
    }

    /// Goes on in the database in which the stream stands.
    pub(super) fn find_database(&mut self) -> Result<(), String> {
        let database = self.state.role.stream_database.load(Relaxed);
        let n_databases = self.state.keyspace.n_databases();
        match u16::try_from(database) {
            Ok(database) if database < n_databases => {
                self.session.database = database;
                Ok(())
            }
            _ => {
                self.is_astray = true;
                Err(format!("the stream is about database {database} of {n_databases} here"))
            }
        }
    }

    // ---- The stream ------------------------------------------------------------------------------

    /// Runs what comes until the connection ends. While writes are paused here it is only read, up to a limit.
    fn follow(&mut self, stream: &mut TcpStream, reader: &mut Reader) -> Result<(), String> {
        let mut heard_at = Instant::now();
        loop {
            let is_paused = self.state.pause.now(unix_ms()).is_some();
            if !is_paused {
                self.run_all(stream, reader)?;
            }
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
            if is_paused {
                let n_ahead = (self.block.len() + reader.n_unused()) as u64;
                let read = self.state.journal.backlog.end() + n_ahead;
                self.note(|primary| primary.read = read);
                if n_ahead >= PAUSED_BYTES_MAX {
                    std::thread::sleep(TICK);
                    heard_at = Instant::now(); // there is more
                    continue;
                }
            }
            match self.read(stream, reader)? {
                true => heard_at = Instant::now(),
                false if heard_at.elapsed() > self.state.config.replication_timeout() => {
                    return Err("MASTER timeout: no data nor PING received...".to_owned());
                }
                false => {}
            }
        }
    }

    fn run_all(&mut self, stream: &mut TcpStream, reader: &mut Reader) -> Result<(), String> {
        self.engine.begin_tick();
        let mut result = Ok(());
        while result.is_ok() && self.is_wanted() && !self.is_killed() {
            result = match reader.read() {
                Ok(Some(Event::Command { words, raw })) => self.one(stream, &words, raw),
                Ok(_) => break,
                Err(error) => {
                    self.is_astray = true;
                    Err(error)
                }
            };
        }
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
