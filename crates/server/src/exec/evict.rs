//! Keys that go because memory is full.
//!
//! ```text
//!   gate, end of a tick ──► make_room ──► fill the pool: a sample of a shard of each database
//!                                    └──► take the best of the pool, lock its shard, look again, evict
//! ```
//!
//! Clients that take up more than `maxmemory-clients` are closed before a key goes for them.
//! Nothing is locked between the two, so a candidate is looked at again before it goes: what has been
//! used meanwhile stays. It is known by its hash alone, so that the pool takes up nothing to speak of. A command makes room before it runs, for no longer than the slice that
//! `maxmemory-eviction-tenacity` allows in each tick; then each command evicts a few keys only, and the
//! loop goes on evicting between its ticks until the limit is kept. Commands are refused only when
//! nothing is left that may go.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use datatypes::encoding::table::{Record, hash};
use keyspace::access::AccessClock;
use keyspace::db::{Db, Terms};
use keyspace::entry::Entry;
use keyspace::eviction::{Policy, key_of, sample};
use keyspace::keyspace::ShardId;
use keyspace::locked::Locked;

use super::Engine;
use crate::command::context::{Removal, next_random};
use crate::command::event::Event;
use crate::mailbox::{Address, Mail};
use crate::session::Session;
use crate::session::client::Client;
use crate::stats::counters::Counter;

/// Candidates kept from round to round.
const POOL: usize = 16;
/// Keys that a command evicts when the tick's time is used up, so that evicting keeps up with writing.
const KEYS_PER_COMMAND: usize = 16;
/// Busy shards met before a sample is given up: trying each costs some microseconds.
const BUSY_SHARDS_MAX: usize = 4;
/// Rounds of sampling and looking again for one key that goes.
const ROUNDS_MAX: usize = 64;

/// What one thread keeps of evicting.
#[derive(Default)]
pub(super) struct Eviction {
    /// `maxmemory`; 0 is no limit.
    limit_bytes: u64,
    policy: Option<Policy>,
    n_samples: usize,
    slice: Option<Duration>,
    /// The worst candidate first.
    pool: Vec<Candidate>,
    /// Time used up in this tick.
    spent: Duration,
    /// Memory is full, and nothing may go: what needs memory is refused.
    pub(super) is_full: bool,
    /// There was not time enough to make room: it goes on in the next tick.
    is_unfinished: bool,
}

/// A key that may go, and how much it deserved to when it was seen. Two keys with one hash are as good
/// as each other: what goes is judged anew.
struct Candidate {
    score: u64,
    database: u16,
    hash: u64,
}

/// What there is to evict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Some,
    Nothing,
    /// Somebody holds the shards where there may be something.
    Busy,
}

/// What becomes of a candidate.
enum Goes {
    Now,
    /// It is gone already, or was used since.
    Not,
    /// Somebody holds its shard, or a pause has begun.
    Later,
}

impl Eviction {
    /// Takes an entry into the pool if it is among the best; whether it may go at all.
    fn offer(&mut self, policy: Policy, database: u16, entry: &Entry, clock: &AccessClock) -> bool {
        let Some(score) = policy.score(entry, clock) else {
            return false;
        };
        let is_full = self.pool.len() >= POOL;
        if is_full && self.pool.first().is_some_and(|worst| worst.score >= score) {
            return true;
        }
        let hash = hash(entry.key());
        let is_same = |known: &Candidate| known.database == database && known.hash == hash;
        if self.pool.iter().any(is_same) {
            return true;
        }
        if is_full {
            self.pool.remove(0);
        }
        let at = self.pool.partition_point(|known| known.score <= score);
        let candidate = Candidate {
            score,
            database,
            hash,
        };
        self.pool.insert(at, candidate);
        true
    }
}

impl Engine {
    /// Whether `maxmemory` is set.
    #[inline]
    pub fn has_memory_limit(&self) -> bool {
        self.eviction.limit_bytes > 0
    }

    /// Whether memory is full, and nothing may go for it.
    #[inline]
    pub fn is_memory_full(&self) -> bool {
        self.eviction.is_full
    }

    /// Whether evicting goes on as soon as there is time.
    pub fn is_evicting(&self) -> bool {
        self.eviction.is_unfinished
    }

    pub(super) fn read_memory_limit(&mut self) {
        let config = &self.state.config;
        self.eviction = Eviction {
            limit_bytes: config.max_memory_bytes(),
            policy: config.eviction_policy(),
            n_samples: config.eviction_samples(),
            slice: config.eviction_slice(),
            ..Eviction::default()
        };
    }

    /// Evicts until the limit is kept or time is up. Takes locks, one at a time.
    #[cold]
    pub fn make_room(&mut self) {
        (self.eviction.is_full, self.eviction.is_unfinished) = (false, false);
        let is_spared =
            self.state.role.is_replica() && self.state.config.replica_ignores_max_memory();
        let may_not_write = is_spared
            || self.is_paused()
            || self.state.scripts.running.is_busy()
            || self.state.saving.loads_any();
        if may_not_write || !self.state.is_out_of_memory() {
            return;
        }
        if !self.shed().is_empty() && !self.state.is_out_of_memory() {
            return;
        }
        let is_importing = self.directives.is_importing;
        let Some(policy) = self.eviction.policy.filter(|_| !is_importing) else {
            self.eviction.is_full = true;
            return;
        };
        let started = Instant::now();
        let left = self
            .eviction
            .slice
            .map(|slice| slice.saturating_sub(self.eviction.spent));
        for n_evicted in 1.. {
            match self.evict_one(policy) {
                Found::Some => {}
                Found::Busy => {
                    self.eviction.is_unfinished = true;
                    break;
                }
                Found::Nothing => {
                    // What was evicted before may still be on its way out.
                    self.eviction.is_full = !self.is_freeing();
                    break;
                }
            }
            if !self.state.is_out_of_memory() {
                break;
            }
            let is_time_up = left.is_some_and(|left| started.elapsed() >= left);
            if (is_time_up && n_evicted >= KEYS_PER_COMMAND) || self.is_freeing() {
                self.eviction.is_unfinished = true;
                break;
            }
        }
        let elapsed = started.elapsed();
        self.eviction.spent += elapsed;
        self.counters
            .add(Counter::EvictionExceededUs, elapsed.as_micros() as u64);
    }

    /// Has the largest clients closed while all together take up more than `maxmemory-clients`: those.
    /// What they take up counts for nothing from here on.
    pub fn shed(&self) -> Vec<Address> {
        let clients = &self.state.clients;
        let limit = self.state.config.max_client_memory_bytes();
        let Some(limit) = limit.filter(|&limit| clients.memory_bytes() > limit) else {
            return Vec::new();
        };
        let shed = clients.shed(limit, self.now_ms());
        let close = |client: &Arc<Client>| {
            let line = client.line(self.now_ms());
            log::info!("Evicting client: {}", String::from_utf8_lossy(&line));
            self.state.stats.count(Counter::EvictedClients, 1);
            let to = client.address;
            self.state.mailboxes.post(to.group.into(), Mail::Kill(to));
            to
        };
        shed.iter().map(close).collect()
    }

    /// Has a session's replies counted that are not with its connection yet: so many bytes by now.
    pub fn charge_replies(&self, session: &mut Session, n_bytes: usize) {
        if self.state.config.max_client_memory_bytes().is_some() {
            let before = std::mem::replace(&mut session.n_charged_reply_bytes, n_bytes);
            let charged = session.client.charged_bytes.load(Relaxed) + n_bytes;
            self.state
                .clients
                .charge(&session.client, charged.saturating_sub(before));
        }
    }

    /// A new tick has its own time for evicting.
    pub(super) fn renew_eviction_slice(&mut self) {
        self.eviction.spent = Duration::ZERO;
    }

    /// Whether big values are being freed by another thread: their memory counts until that is done.
    fn is_freeing(&self) -> bool {
        self.state.keyspace.n_pending() > 0
    }

    /// Evicts the best candidate.
    fn evict_one(&mut self, policy: Policy) -> Found {
        for _ in 0..ROUNDS_MAX {
            // Each time: what is left of a sample is what should stay.
            let found = self.fill_pool(policy);
            let Some(candidate) = self.eviction.pool.pop() else {
                return found;
            };
            match self.evict(policy, &candidate) {
                Goes::Now => return Found::Some,
                Goes::Not => {}
                Goes::Later => return Found::Busy,
            }
        }
        Found::Busy
    }

    /// Samples a shard of each database that may have something.
    fn fill_pool(&mut self, policy: Policy) -> Found {
        let keyspace = &self.state.keyspace;
        let mut n_busy = 0;
        for database in 0..keyspace.n_databases() {
            let Some(shards) = keyspace.existing_shards(database) else {
                continue;
            };
            let random = next_random(&mut self.random);
            let first = random as usize % shards.len();
            let places = (first..shards.len()).chain(0..first);
            let ids = places.map(|shard| ShardId::new(database, shard as u16));
            for id in ids.filter(|&id| policy.may_find_in(keyspace, id)) {
                let Ok(locked) = Locked::one(keyspace, id) else {
                    n_busy += 1;
                    if n_busy >= BUSY_SHARDS_MAX {
                        return Found::Busy;
                    }
                    continue;
                };
                let how = (self.eviction.n_samples, random >> 16);
                let (eviction, clock) = (&mut self.eviction, &self.access_clock);
                let mut has_some = false;
                sample(&locked, id, policy, how, &mut |entry| {
                    has_some |= eviction.offer(policy, database, entry, clock);
                });
                if has_some {
                    break;
                }
            }
        }
        match (self.eviction.pool.is_empty(), n_busy) {
            (false, _) => Found::Some,
            (true, 0) => Found::Nothing,
            (true, _) => Found::Busy,
        }
    }

    /// Lets a candidate go, if it still deserves it; or because it is due anyway.
    fn evict(&mut self, policy: Policy, candidate: &Candidate) -> Goes {
        let Candidate {
            score,
            database,
            hash,
        } = candidate;
        let id = self.state.keyspace.shard_of(*database, *hash);
        let Ok(mut locked) = Locked::one(&self.state.keyspace, id) else {
            return Goes::Later;
        };
        let registry = locked.registry(id);
        if registry.is_some_and(|registry| registry.has_wide_waiter()) {
            // Somebody may have to be told that a key went, by a command with more keys.
            drop(locked);
            let Some(all) = self.lock_all() else {
                return Goes::Later;
            };
            locked = all;
        }
        if self.is_paused() || self.directives.is_importing {
            return Goes::Later; // since the pause was looked at without a lock
        }
        let Some(key) = &key_of(&locked, id, *hash) else {
            return Goes::Not;
        };
        let terms = Terms {
            now_ms: self.now_ms,
            trace: self.access_clock.leaving(),
            limits: &self.limits,
            keeps_due: false,
            departed: &self.departed,
        };
        self.effects.is_recorded = self.state.journal.has_readers();
        let mut db = Db::new(&locked, *database, terms);
        let now = db
            .entry(key)
            .and_then(|entry| policy.score(&entry, &self.access_clock));
        let goes = now.is_some_and(|now| now >= *score) && db.remove(key);
        let is_due = !self.departed.get_mut().is_empty();
        self.settle_departed(&locked);
        if goes {
            self.counters.add(Counter::EvictedKeys, 1);
            self.note_departure(
                &locked,
                *database,
                key,
                &[self.directives.removal(Removal::Evicted), key],
            );
            self.effects
                .event(Event::evicted("evicted"), *database, key);
        }
        self.release(locked);
        match goes || is_due {
            true => Goes::Now,
            false => Goes::Not,
        }
    }
}
