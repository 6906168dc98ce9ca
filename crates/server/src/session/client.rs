//! What other threads may know of a session and do to it: CLIENT LIST, KILL, UNBLOCK.

use std::collections::{BTreeMap, HashMap};
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};

use keyspace::registry::Waiter;
use parking_lot::Mutex;
use resp::reply::Proto;

use crate::acl::User;
use crate::mailbox::Address;

/// Bytes that a connection holds in its own buffers.
#[derive(Clone, Copy, Debug, Default)]
pub struct Buffers {
    /// Of an unfinished request, what is not understood yet.
    pub input: usize,
    /// Allocated for more of it.
    pub input_free: usize,
    /// Of the words before it, and of requests that wait for one before them.
    pub kept: usize,
    /// Of unsent replies.
    pub output: usize,
    /// Allocated for them.
    pub output_held: usize,
    /// The most that was allocated for them lately.
    pub output_peak: usize,
}

/// How a session tracks.
#[derive(Clone, Copy, Debug)]
pub struct TrackingFacts {
    /// The session that gets the notices; 0 if it is itself.
    pub redirect: u64,
    /// That one is gone.
    pub is_broken: bool,
    /// It is told of all keys with its prefixes.
    pub is_broadcast: bool,
}

/// The letters that CLIENT LIST may show as flags.
pub const FLAGS: &[u8] = b"NOSMPxbcUeTtRBI";

/// How a session stood when it last ran something.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The database chosen by SELECT.
    pub database: u16,
    /// The protocol chosen by HELLO.
    pub proto: Proto,
    /// When it last sent something, Unix time.
    pub last_ms: u64,
    /// The last command.
    pub last_command: &'static str,
    /// Channels it is subscribed to.
    pub n_channels: usize,
    /// Patterns it is subscribed to.
    pub n_patterns: usize,
    /// Shard channels it is subscribed to.
    pub n_shard_channels: usize,
    /// Commands queued since MULTI.
    pub n_queued: Option<usize>,
    /// Keys watched.
    pub n_watched: usize,
    /// It waits in a blocking command.
    pub is_blocked: bool,
    /// It is closed once its replies are sent.
    pub is_closing: bool,
    /// CLIENT NO-EVICT.
    pub is_kept: bool,
    /// CLIENT NO-TOUCH.
    pub leaves_clock: bool,
    /// CLIENT IMPORT-SOURCE.
    pub is_importer: bool,
    /// MONITOR.
    pub is_monitor: bool,
    /// It follows this server.
    pub is_replica: bool,
    /// It is the link to the primary.
    pub is_primary: bool,
    /// CLIENT TRACKING.
    pub tracking: Option<TrackingFacts>,
    /// Bytes of the commands queued since MULTI.
    pub queued_bytes: usize,
    /// The buffers of its connection.
    pub buffers: Buffers,
    /// Commands run.
    pub n_commands: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

/// See the top of the file.
#[derive(Debug)]
pub struct Client {
    /// Where it is; its session part is the CLIENT ID.
    pub address: Address,
    /// The other side's address.
    pub peer: String,
    /// This side's address.
    pub local: String,
    /// Whether the other side is on this machine.
    pub is_local: bool,
    /// It came through the unix socket.
    pub is_unix: bool,
    /// The number of its socket; -1 where there is none.
    pub socket: i32,
    /// When it connected, Unix time.
    pub since_ms: u64,
    /// CLIENT SETNAME.
    pub name: Mutex<Vec<u8>>,
    /// Who it is.
    pub user: Mutex<Arc<User>>,
    /// CLIENT SETINFO: library name and version.
    pub library: Mutex<(Vec<u8>, Vec<u8>)>,
    /// CLIENT CAPA: it follows where it is redirected to.
    pub follows_redirects: AtomicBool,
    /// READONLY of such a one: it reads here though this is a replica.
    pub reads_here: AtomicBool,
    /// The command that it last blocked in only reads.
    pub waits_to_read: AtomicBool,
    /// CLIENT KILL: it runs nothing more.
    pub is_killed: AtomicBool,
    /// The blocking command it waits in.
    pub waiter: Mutex<Option<Arc<Waiter>>>,
    /// How it stood lately.
    pub facts: Mutex<Facts>,
    /// Bytes that it takes up, as they are counted in [`Clients::memory_bytes`].
    pub charged_bytes: AtomicUsize,
    /// Of that, what is about to go because the session was killed for memory.
    pub going_bytes: AtomicUsize,
}

impl Client {
    /// Whether it is closed for what it takes up.
    #[inline]
    pub fn is_shed(&self) -> bool {
        self.going_bytes.load(Relaxed) > 0
    }

    /// The type as CLIENT LIST TYPE names it.
    pub fn kind(&self) -> &'static str {
        let facts = self.facts.lock();
        if facts.is_replica {
            return "replica";
        }
        if facts.is_primary {
            return "master";
        }
        match facts.n_channels + facts.n_patterns + facts.n_shard_channels {
            0 => "normal",
            _ => "pubsub",
        }
    }

    /// For how many seconds it is connected. `now_ms` is Unix time.
    pub fn age_s(&self, now_ms: u64) -> u64 {
        now_ms.saturating_sub(self.since_ms) / 1000
    }

    /// For how many seconds it has sent nothing. `now_ms` is Unix time.
    pub fn idle_s(&self, now_ms: u64) -> u64 {
        let last_ms = self.facts.lock().last_ms.max(self.since_ms);
        now_ms.saturating_sub(last_ms) / 1000
    }

    /// What is true of it, as letters of [`FLAGS`].
    pub fn flags(&self) -> String {
        flags(&self.facts.lock(), self)
    }

    /// A line of CLIENT LIST, without its end. `now_ms` is Unix time.
    pub fn line(&self, now_ms: u64) -> Vec<u8> {
        let facts = self.facts.lock().clone();
        let (age_s, idle_s) = (self.age_s(now_ms), self.idle_s(now_ms));
        let (id, peer, local) = (self.address.session, &self.peer, &self.local);
        let socket = self.socket;
        let mut text = format!("id={id} addr={peer} laddr={local} fd={socket} name=").into_bytes();
        text.extend_from_slice(&self.name.lock());
        let multi = facts.n_queued.map_or(-1, |n| n as i64);
        let resp = if facts.proto == Proto::Resp3 { 3 } else { 2 };
        let mut rest = format!(
            " age={age_s} idle={idle_s} flags={} capa={} db={} sub={} psub={} ssub={} multi={multi} watch={} \
             qbuf={} qbuf-free={} argv-mem={} multi-mem={} rbs={} rbp={} obl={} oll=0 omem={} \
             tot-mem={} events={} cmd=",
            flags(&facts, self),
            if self.follows_redirects.load(Relaxed) {
                "r"
            } else {
                ""
            },
            facts.database,
            facts.n_channels,
            facts.n_patterns,
            facts.n_shard_channels,
            facts.n_watched,
            facts.buffers.input,
            facts.buffers.input_free,
            facts.buffers.kept,
            facts.queued_bytes,
            facts.buffers.output_held,
            facts.buffers.output_peak,
            facts.buffers.output,
            facts.buffers.output_held,
            self.charged_bytes.load(Relaxed),
            if facts.buffers.output > 0 { "rw" } else { "r" },
        );
        let redir = facts
            .tracking
            .map_or(-1, |tracking| tracking.redirect as i64);
        let command = match facts.last_command {
            "" => "NULL",
            name => name,
        };
        let _ = write!(rest, "{command} user=");
        text.extend_from_slice(rest.as_bytes());
        match facts.is_primary {
            true => text.extend_from_slice(b"(superuser)"),
            false => text.extend_from_slice(self.user.lock().name()),
        }
        text.extend_from_slice(format!(" redir={redir} resp={resp} lib-name=").as_bytes());
        let library = self.library.lock();
        text.extend_from_slice(&library.0);
        text.extend_from_slice(b" lib-ver=");
        text.extend_from_slice(&library.1);
        text.extend_from_slice(
            format!(
                " io-thread={} tot-net-in={} tot-net-out={} tot-cmds={}",
                self.address.group, facts.bytes_in, facts.bytes_out, facts.n_commands
            )
            .as_bytes(),
        );
        text
    }
}

fn flags(facts: &Facts, client: &Client) -> String {
    let all = [
        (facts.is_monitor, 'O'),
        (facts.is_replica, 'S'),
        (facts.is_primary, 'M'),
        (facts.n_channels + facts.n_patterns + facts.n_shard_channels > 0, 'P'),
        (facts.n_queued.is_some(), 'x'),
        (facts.is_blocked, 'b'),
        (facts.tracking.is_some(), 't'),
        (facts.tracking.is_some_and(|one| one.is_broken), 'R'),
        (facts.tracking.is_some_and(|one| one.is_broadcast), 'B'),
        (facts.is_closing, 'c'),
        (client.is_unix, 'U'),
        (facts.is_kept, 'e'),
        (facts.leaves_clock, 'T'),
        (facts.is_importer, 'I'),
    ];
    let text: String = all.iter().filter(|(is, _)| *is).map(|(_, c)| *c).collect();
    if text.is_empty() {
        "N".to_owned()
    } else {
        text
    }
}

/// How long nobody is closed for memory after that did not help.
const SHED_PAUSE_MS: u64 = 100;

/// All sessions of all loops.
#[derive(Default)]
pub struct Clients {
    by_id: Mutex<BTreeMap<u64, Arc<Client>>>,
    last_id: AtomicU64,
    n_blocked: AtomicU64,
    /// Keys that somebody watches.
    pub n_watched_keys: AtomicU64,
    /// Blocked sessions that give up some day.
    pub n_timed: AtomicU64,
    /// What all sessions take up.
    memory_bytes: AtomicUsize,
    /// What those take up that are killed for memory and not gone yet.
    going_bytes: AtomicUsize,
    /// Held by the loop that closes sessions for memory: when that was in vain, Unix time.
    closing: Mutex<u64>,
}

impl Clients {
    /// The id of the next connection.
    pub fn next_id(&self) -> u64 {
        self.last_id.fetch_add(1, Relaxed) + 1
    }

    /// Adds a session.
    pub fn add(&self, client: Arc<Client>) {
        self.by_id.lock().insert(client.address.session, client);
    }

    /// Removes a session.
    pub fn remove(&self, id: u64) {
        let client = self.by_id.lock().remove(&id);
        if let Some(client) = client {
            client.is_killed.store(true, Relaxed);
            self.charge(&client, 0);
            self.going_bytes
                .fetch_sub(client.going_bytes.swap(0, Relaxed), Relaxed);
        }
    }

    /// The session with this id.
    pub fn get(&self, id: u64) -> Option<Arc<Client>> {
        self.by_id.lock().get(&id).cloned()
    }

    /// All sessions but those that are killed and about to go, in order of id.
    pub fn all(&self) -> Vec<Arc<Client>> {
        let by_id = self.by_id.lock();
        let alive = by_id.values().filter(|one| !one.is_killed.load(Relaxed));
        alive.cloned().collect()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.by_id.lock().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Sessions that wait in a blocking command.
    pub fn n_blocked(&self) -> u64 {
        self.n_blocked.load(Relaxed)
    }

    /// What all sessions take up, as it was when each last stood still.
    pub fn memory_bytes(&self) -> usize {
        self.memory_bytes.load(Relaxed)
    }

    /// What those take up that are killed for memory and not gone yet.
    pub fn going_bytes(&self) -> usize {
        self.going_bytes.load(Relaxed)
    }

    /// A session takes up so much now. One that is killed and about to go is counted no more.
    pub fn charge(&self, client: &Client, bytes: usize) {
        let bytes = match client.is_killed.load(Relaxed) {
            true => 0,
            false => bytes,
        };
        let before = client.charged_bytes.swap(bytes, Relaxed);
        if bytes > before {
            self.memory_bytes.fetch_add(bytes - before, Relaxed);
        } else if bytes < before {
            self.memory_bytes.fetch_sub(before - bytes, Relaxed);
        }
    }

    /// Marks the largest sessions as killed until the rest takes up at most `limit` bytes; those are
    /// to be closed. Those of CLIENT NO-EVICT stay. O(clients * log(clients)), so not for a while
    /// after it did not help, and not by two loops at once: one waits for
    /// the other.
    pub fn shed(&self, limit: usize, now_ms: u64) -> Vec<Arc<Client>> {
        let mut in_vain_ms = self.closing.lock();
        if now_ms < in_vain_ms.saturating_add(SHED_PAUSE_MS) {
            return Vec::new();
        }
        let mut all = self.all();
        all.retain(|client| {
            let facts = client.facts.lock();
            !facts.is_kept && !facts.is_primary
        });
        all.sort_by_cached_key(|client| client.charged_bytes.load(Relaxed));
        let mut shed = Vec::new();
        while self.memory_bytes() > limit {
            let Some(client) = all.pop() else {
                *in_vain_ms = now_ms;
                break;
            };
            let by_id = self.by_id.lock(); // it is not removed meanwhile
            if by_id.contains_key(&client.address.session) {
                client.is_killed.store(true, Relaxed);
                let bytes = client.charged_bytes.load(Relaxed);
                client.going_bytes.store(bytes, Relaxed);
                self.going_bytes.fetch_add(bytes, Relaxed);
                self.charge(&client, 0);
                shed.push(client.clone());
            }
        }
        shed
    }

    /// Keys that somebody waits for, and those of them whose loss is waited for, too. O(clients).
    pub fn n_waited_keys(&self) -> (usize, usize) {
        if self.n_blocked() == 0 {
            return (0, 0);
        }
        let waiters = self
            .all()
            .into_iter()
            .filter_map(|client| client.waiter.lock().clone());
        let mut heeding = HashMap::new();
        for waiter in waiters {
            let cause = &waiter.cause;
            for key in &cause.keys {
                *heeding
                    .entry((cause.database, key.clone()))
                    .or_insert(false) |= cause.heeds_loss;
            }
        }
        (heeding.len(), heeding.values().filter(|heeds| **heeds).count())
    }

    /// A session begins to wait for the end of a pause.
    pub fn postpones(&self, session: &mut super::Session) {
        if !std::mem::replace(&mut session.is_postponed, true) {
            self.n_blocked.fetch_add(1, Relaxed);
        }
    }

    /// That wait is over.
    pub fn resumes(&self, session: &mut super::Session) {
        if std::mem::replace(&mut session.is_postponed, false) {
            self.n_blocked.fetch_sub(1, Relaxed);
        }
    }

    /// A session begins to wait.
    pub fn blocks(&self, client: &Client, waiter: Arc<Waiter>) {
        *client.waiter.lock() = Some(waiter);
        client.facts.lock().is_blocked = true;
        self.n_blocked.fetch_add(1, Relaxed);
    }

    /// A session's wait is over.
    pub fn unblocks(&self, client: &Client) {
        if client.waiter.lock().take().is_some() {
            client.facts.lock().is_blocked = false;
            self.n_blocked.fetch_sub(1, Relaxed);
        }
    }
}
