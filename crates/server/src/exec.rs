//! Runs one command: takes its locks, calls its handler, applies its effects, releases.
//!
//! On an error the reply is cut back to where the command began and the error takes its place.

use crate::command::context::Effects;
use crate::command::{AdminCtx, Args, Command, Commands, Kind, Reach, ReadCtx, WriteCtx};
use crate::config::Config;
use crate::error::{Error, Result};
use crate::session::Session;
use crate::state::State;
use crate::stats::counters::{Counter, ThreadCounters};
use datatypes::encoding::table::hash;
use datatypes::home::Limits;
use keyspace::db::{Db, Departed, Terms, View, expire_shard};
use keyspace::keyspace::ShardId;
use keyspace::locked::Locked;
use keyspace::protocol::Refusal;
use resp::reply::Reply;
use std::cell::RefCell;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Keys of one shard that expire under one hold of its lock.
const EXPIRE_SLICE: usize = 64;
/// How long the transaction lock is waited for at a time.
const TRANSACTION_PATIENCE: Duration = Duration::from_millis(10);

/// What one thread keeps from command to command.
pub struct Engine {
    now_ms: u64,
    limits: Limits,
    random: u64,
    departed: RefCell<Vec<Departed>>,
    shards: Vec<ShardId>,
    effects: Effects,
    n_commands: u64,
    n_expired: u64,
    /// A deadline was set that a sleeping loop may have to wake up for.
    pub has_lowered_due: bool,
}

/// The thresholds of small encodings as the directives set them.
fn limits(config: &Config) -> Limits {
    Limits {
        hash_max_listpack_entries: config.hash_max_listpack_entries(),
        hash_max_listpack_value: config.hash_max_listpack_value(),
        list_max_listpack_size: config.list_max_listpack_size().into(),
        set_max_intset_entries: config.set_max_intset_entries(),
        set_max_listpack_entries: config.set_max_listpack_entries(),
        set_max_listpack_value: config.set_max_listpack_value(),
        zset_max_listpack_entries: config.zset_max_listpack_entries(),
        zset_max_listpack_value: config.zset_max_listpack_value(),
    }
}

/// Unix time in milliseconds.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

impl Engine {
    /// An engine whose random numbers start at `seed`.
    pub fn new(seed: u64) -> Engine {
        Engine {
            now_ms: unix_ms(),
            limits: Limits::default(),
            random: seed,
            departed: RefCell::default(),
            shards: Vec::new(),
            effects: Effects::default(),
            n_commands: 0,
            n_expired: 0,
            has_lowered_due: false,
        }
    }

    /// Runs `command` with the arguments of `request`, of which the first `skip` are its names.
    #[expect(
        clippy::too_many_arguments,
        reason = "the one call everything goes through"
    )]
    pub fn call(
        &mut self,
        state: &State,
        commands: &Commands,
        session: &mut Session,
        (command, name, skip): (&'static Command, &'static str, usize),
        request: &[&[u8]],
        known_hash: Option<u64>,
        reply: &mut Reply<'_>,
    ) {
        self.n_commands += 1;
        let mark = reply.len();
        let mut args = Args::new(name, &request[skip..]);
        let result = match command.kind {
            Kind::Admin(run) => run(
                &mut AdminCtx {
                    session,
                    state,
                    commands,
                },
                &mut args,
                reply,
            ),
            Kind::Container(_) => Err(Error::Syntax),
            Kind::Read(_) | Kind::Write(_) => self.on_keys(
                state,
                session.database,
                command,
                request,
                known_hash,
                &mut args,
                reply,
            ),
        };
        if let Err(error) = result {
            reply.truncate(mark);
            reply.error(error.to_string().as_bytes());
        }
    }

    #[expect(clippy::too_many_arguments, reason = "one step of `call`")]
    fn on_keys(
        &mut self,
        state: &State,
        database: u16,
        command: &Command,
        request: &[&[u8]],
        known_hash: Option<u64>,
        args: &mut Args<'_>,
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        let locked = self.lock(state, database, command, request, known_hash);
        let clock = (self.now_ms / 1000) as u32 & 0x00ff_ffff;
        let terms = Terms {
            now_ms: self.now_ms,
            clock: (!command.leaves_clock).then_some(clock),
            limits: &self.limits,
            departed: &self.departed,
        };
        let first = command.keys.first(request).zip(known_hash);
        let result = match command.kind {
            Kind::Read(run) => {
                let db = View::new(&locked, database, terms);
                if let Some((key, hash)) = first {
                    db.remember_hash(key, hash);
                }
                run(
                    &mut ReadCtx {
                        db,
                        random: &mut self.random,
                    },
                    args,
                    reply,
                )
            }
            Kind::Write(run) => {
                let db = Db::new(&locked, database, terms);
                if let Some((key, hash)) = first {
                    db.remember_hash(key, hash);
                }
                let effects = &mut self.effects;
                run(
                    &mut WriteCtx {
                        db,
                        effects,
                        random: &mut self.random,
                    },
                    args,
                    reply,
                )
            }
            Kind::Admin(_) | Kind::Container(_) => Err(Error::Syntax),
        };
        if self.effects.n_changes > 0 {
            state.n_changes.fetch_add(self.effects.n_changes, Relaxed);
            self.effects.n_changes = 0;
        }
        self.settle_departed();
        self.has_lowered_due |= locked.has_lowered_due();
        result
    }

    fn settle_departed(&mut self) {
        let departed = self.departed.get_mut();
        if departed.is_empty() {
            return;
        }
        let n_keys = departed
            .iter()
            .filter(|one| matches!(one, Departed::Key { .. }))
            .count();
        self.n_expired += n_keys as u64;
        departed.clear();
    }

    /// The locks that `command` needs for these arguments.
    #[inline]
    fn lock<'k>(
        &mut self,
        state: &'k State,
        database: u16,
        command: &Command,
        request: &[&[u8]],
        known_hash: Option<u64>,
    ) -> Locked<'k> {
        let keyspace = &state.keyspace;
        match command.reach {
            Reach::Keyspace => return Locked::roaming(keyspace),
            Reach::Transaction => return transaction(state),
            Reach::Keys => {}
        }
        self.shards.clear();
        let shards = &mut self.shards;
        let mut known = known_hash;
        command.keys.each(request, &mut |key| {
            let hash = known.take().unwrap_or_else(|| hash(key));
            shards.push(keyspace.shard_of(database, hash));
        });
        if shards.len() > 1 {
            shards.sort_unstable();
            shards.dedup();
        }
        loop {
            let taken = match shards[..] {
                [one] => Locked::one(keyspace, one),
                _ => Locked::several(keyspace, shards),
            };
            match taken {
                Ok(locked) => return locked,
                Err(Refusal::Busy) => std::thread::yield_now(),
                Err(Refusal::Contended) => return transaction(state),
            }
        }
    }

    /// Removes the keys of `group` that are due, in slices. Whether some are left.
    pub fn expire(&mut self, state: &State, group: usize, due: &mut Vec<ShardId>) -> bool {
        if due.is_empty() {
            state.keyspace.take_due_shards(group, self.now_ms, due);
        }
        let started = std::time::Instant::now();
        while let Some(&id) = due.last() {
            let Ok(locked) = Locked::one(&state.keyspace, id) else {
                return true;
            };
            let terms = Terms {
                now_ms: self.now_ms,
                clock: None,
                limits: &self.limits,
                departed: &self.departed,
            };
            let is_more = expire_shard(&locked, id, terms, EXPIRE_SLICE);
            drop(locked);
            self.settle_departed();
            if !is_more {
                due.pop();
            }
            if started.elapsed() > Duration::from_micros(500) {
                return !due.is_empty();
            }
        }
        false
    }

    /// Unix time of this tick.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Fixes what stays the same for all commands of a tick: the time and the thresholds.
    pub fn begin_tick(&mut self, state: &State) {
        self.now_ms = unix_ms();
        self.limits = limits(&state.config);
    }

    /// Adds this tick's counts to those of the thread.
    pub fn end_tick(&mut self, counters: &ThreadCounters) {
        counters.add(Counter::CommandsProcessed, std::mem::take(&mut self.n_commands));
        counters.add(Counter::ExpiredKeys, std::mem::take(&mut self.n_expired));
    }
}

/// The transaction, as soon as it is to be had.
fn transaction(state: &State) -> Locked<'_> {
    loop {
        if let Ok(locked) = Locked::transaction(&state.keyspace, TRANSACTION_PATIENCE) {
            return locked;
        }
    }
}
