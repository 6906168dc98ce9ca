//! Which locks a command needs, and how the engine gets them without ever parking for long.

use std::time::Duration;

use datatypes::encoding::table::hash;
use keyspace::keyspace::ShardId;
use keyspace::locked::Locked;
use keyspace::protocol::Refusal;

use super::Engine;
use crate::command::{Command, Kind, Reach};

/// How often busy locks are tried before the command is set aside; each try spins some microseconds.
const TRIES: usize = 3;
/// How long the transaction lock is waited for before the command is set aside.
const TRANSACTION_PATIENCE: Duration = Duration::from_micros(50);

impl Engine {
    /// The locks that `command` needs for these arguments; `None` if they are not to be had now.
    #[inline]
    pub(super) fn lock(
        &mut self,
        database: u16,
        command: &Command,
        request: &[&[u8]],
        known_hash: Option<u64>,
    ) -> Option<Locked<'static>> {
        match command.reach_of(request) {
            Reach::Keyspace => return Some(Locked::roaming(&self.state.keyspace)),
            Reach::Transaction | Reach::Vary(_) => return self.lock_all(),
            Reach::Keys => {}
        }
        self.shards.clear();
        self.add_shards(database, command, request, known_hash);
        let locked = self.lock_shards()?;
        if matches!(command.kind, Kind::Write(_)) && self.meets_wide_waiter(&locked) {
            drop(locked);
            return self.lock_all();
        }
        Some(locked)
    }

    /// Notes the shards of a command's keys.
    #[inline]
    pub(super) fn add_shards(
        &mut self,
        database: u16,
        command: &Command,
        request: &[&[u8]],
        known_hash: Option<u64>,
    ) {
        let keyspace = &self.state.keyspace;
        let mut known = known_hash;
        let shards = &mut self.shards;
        command.keys.each(request, &mut |key| {
            let hash = known.take().unwrap_or_else(|| hash(key));
            shards.push(keyspace.shard_of(database, hash));
        });
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

    /// Locks these shards however long it takes; for short work outside of commands.
    pub(super) fn lock_surely(&mut self, shards: &[ShardId]) -> Locked<'static> {
        loop {
            self.shards.clear();
            self.shards.extend_from_slice(shards);
            if let Some(locked) = self.lock_shards() {
                return locked;
            }
            std::thread::yield_now();
        }
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
