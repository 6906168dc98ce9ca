//! Which locks a command needs, and how the engine gets them without ever parking for long.

use std::time::Duration;

use datatypes::encoding::table::hash;
use keyspace::db::KnownHash;
use keyspace::keyspace::ShardId;
use keyspace::locked::Locked;
use keyspace::protocol::Refusal;
use keyspace::registry::Registry;

use super::Engine;
use crate::command::{Command, Kind, Reach};

/// How often busy locks are tried before the command is set aside; each try spins some microseconds.
const TRIES: usize = 3;
/// Entries of one command that are fetched ahead: more would push each other out of the cache.
const FETCHED_MAX: usize = 64;
/// How long the transaction lock is waited for before the command is set aside.
const TRANSACTION_PATIENCE: Duration = Duration::from_micros(50);

impl Engine {
    /// See [`Engine::lock`]; the hash is not known.
    #[inline(never)]
    pub(super) fn lock_apart(
        &mut self,
        database: u16,
        command: &Command,
        request: &[&[u8]],
    ) -> Option<Locked<'static>> {
        self.lock(database, command, request, None)
    }

    /// The locks that `command` needs for these arguments; `None` if they are not to be had now. In
    /// line in the path of clients.
    #[inline(always)]
    pub(super) fn lock(
        &mut self,
        database: u16,
        command: &Command,
        request: &[&[u8]],
        known_hash: Option<u64>,
    ) -> Option<Locked<'static>> {
        self.known.clear();
        match command.reach_of(request) {
            // One that goes from shard to shard waits for each; who holds one for long is met first.
            Reach::Keyspace => {
                let is_free = !self.state.keyspace.has_busy_shard(database);
                return is_free.then(|| Locked::roaming(&self.state.keyspace));
            }
            Reach::Transaction | Reach::Vary(_) => return self.lock_all(),
            Reach::Keys => {}
        }
        if let Some(key) = command.keys.only(request) {
            let hash = known_hash.unwrap_or_else(|| hash(key));
            self.known.push(KnownHash::new(key, hash));
            return self.lock_one(database, command, hash);
        }
        self.shards.clear();
        self.add_shards(database, command, request, known_hash);
        let locked = self.lock_shards()?;
        self.fetch_entries(database, &locked);
        if matches!(command.kind, Kind::Write(_)) && self.meets_wide_waiter(&locked) {
            drop(locked);
            return self.lock_all();
        }
        Some(locked)
    }

    /// The lock of the one key that most commands have.
    #[inline(always)]
    fn lock_one(&mut self, database: u16, command: &Command, hash: u64) -> Option<Locked<'static>> {
        let keyspace = &self.state.keyspace;
        let id = keyspace.shard_of(database, hash);
        let is_write = matches!(command.kind, Kind::Write(_));
        let is_wide = |registry: &Registry| is_write && registry.has_wide_waiter();
        match Locked::one_unless(keyspace, id, is_wide) {
            Ok(locked) => Some(locked),
            Err(Refusal::Contended) => self.lock_all(),
            Err(Refusal::Busy) => self.lock_one_again(id, is_wide),
        }
    }

    /// The same, where the lock was busy.
    #[cold]
    fn lock_one_again(
        &mut self,
        id: ShardId,
        is_wide: impl Fn(&Registry) -> bool,
    ) -> Option<Locked<'static>> {
        self.shards.clear();
        self.shards.push(id);
        let locked = self.lock_shards()?;
        match locked
            .registry(id)
            .is_some_and(|registry| is_wide(registry))
        {
            true => {
                drop(locked);
                self.lock_all()
            }
            false => Some(locked),
        }
    }

    /// Notes the shards of a command's keys.
    pub(super) fn add_shards(
        &mut self,
        database: u16,
        command: &Command,
        request: &[&[u8]],
        known_hash: Option<u64>,
    ) {
        let keyspace = &self.state.keyspace;
        let mut first = known_hash;
        let (shards, known) = (&mut self.shards, &mut self.known);
        let places = keyspace.existing_shards(database);
        command.keys.each(request, &mut |key| {
            let hash = first.take().unwrap_or_else(|| hash(key));
            let id = keyspace.shard_of(database, hash);
            shards.push(id);
            known.push(KnownHash::new(key, hash));
            if let Some(places) = places {
                places[usize::from(id.shard())].prefetch_bucket(hash);
            }
        });
    }

    /// Asks for the entries of all keys of a command before it looks for the first: their cache misses
    /// overlap.
    #[inline]
    fn fetch_entries(&self, database: u16, locked: &Locked<'static>) {
        for known in self.known.iter().take(FETCHED_MAX) {
            let hash = known.hash();
            locked.prefetch(self.state.keyspace.shard_of(database, hash), hash);
        }
    }

    /// Locks the shards noted; as the transaction, if others keep getting in between.
    #[inline]
    pub(super) fn lock_shards(&mut self) -> Option<Locked<'static>> {
        let keyspace = &self.state.keyspace;
        if self.shards.len() > 1 {
            self.shards.sort_unstable();
            self.shards.dedup();
        }
        for _ in 0..TRIES {
            let taken = match self.shards[..] {
                [one] => Locked::one(keyspace, one),
                _ => Locked::several(keyspace, &self.shards),
            };
            match taken {
                Ok(locked) => return Some(locked),
                // A saver that has this processor next learns of who waits when that is set aside.
                Err(Refusal::Busy) if keyspace.is_walked() => return None,
                Err(Refusal::Busy) => std::thread::yield_now(),
                Err(Refusal::Contended) => return self.lock_all(),
            }
        }
        None
    }

    /// Becomes the transaction.
    pub(super) fn lock_all(&self) -> Option<Locked<'static>> {
        Locked::transaction(&self.state.keyspace, TRANSACTION_PATIENCE).ok()
    }

    /// Locks these shards, if they are to be had now.
    pub(super) fn lock_these(&mut self, shards: &[ShardId]) -> Option<Locked<'static>> {
        self.shards.clear();
        self.shards.extend_from_slice(shards);
        self.lock_shards()
    }

    /// Whether somebody who may need other shards, too, waits in a shard that is held: then what
    /// makes a key ready must be the transaction, as it will run that command.
    #[inline]
    pub(super) fn meets_wide_waiter(&self, locked: &Locked<'static>) -> bool {
        if locked.is_transaction() {
            return false;
        }
        self.shards.iter().any(|&id| {
            locked
                .registry(id)
                .is_some_and(|registry| registry.has_wide_waiter())
        })
    }
}
