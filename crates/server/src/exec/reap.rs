//! Keys that go because their time has come, in slices between commands.

use std::time::{Duration, Instant};

use datatypes::encoding::table::hash;
use keyspace::db::{Terms, View, expire_shard};
use keyspace::keyspace::ShardId;
use keyspace::locked::Locked;

use super::Engine;

/// Keys of one shard that expire under one hold of its lock.
const EXPIRE_SLICE: usize = 64;
/// How long clients wait for a slice at most.
const SLICE: Duration = Duration::from_micros(500);

impl Engine {
    /// Removes what clients of this writable replica have written themselves and is due.
    pub fn expire_own(&mut self) {
        let state = self.state;
        let started = Instant::now();
        while started.elapsed() < SLICE
            && let Some((database, key)) = state.role.own_keys.take_due(self.now_ms)
        {
            let id = state.keyspace.shard_of(database, hash(&key));
            let Some(locked) = self.lock_these(&[id]) else {
                return state.role.own_keys.note(database, &key, Some(self.now_ms));
            };
            let terms = Terms {
                now_ms: self.now_ms,
                trace: self.access_clock.leaving(),
                limits: &self.limits,
                keeps_due: false,
                departed: &self.departed,
            };
            self.effects.is_recorded = state.journal.has_readers();
            // It goes when it is looked at. If it stays, the primary has changed it, whose key it is now.
            View::new(&locked, database, terms).deadline_ms(&key);
            self.settle_departed(&locked);
            self.release(locked);
        }
    }

    /// Removes the keys of `group` that are due. Whether some are left; then it is called again soon
    /// with the same `due`.
    pub fn expire(&mut self, group: usize, due: &mut Vec<ShardId>) -> bool {
        let keyspace = &self.state.keyspace;
        if due.is_empty() {
            keyspace.take_due_shards(group, self.now_ms, due);
        }
        let started = Instant::now();
        while let Some(&id) = due.last() {
            let Ok(mut locked) = Locked::one(keyspace, id) else {
                return true;
            };
            if self.is_paused() || self.directives.is_importing {
                return false; // since the pause was looked at without a lock
            }
            if locked
                .registry(id)
                .is_some_and(|registry| registry.has_wide_waiter())
            {
                // Somebody may have to be told that a key went, by a command with more keys.
                drop(locked);
                let Some(all) = self.lock_all() else {
                    return true;
                };
                locked = all;
            }
            let terms = Terms {
                now_ms: self.now_ms,
                trace: self.access_clock.leaving(),
                limits: &self.limits,
                keeps_due: false,
                departed: &self.departed,
            };
            self.effects.is_recorded = self.state.journal.has_readers();
            let is_more = expire_shard(&locked, id, terms, EXPIRE_SLICE);
            self.settle_departed(&locked);
            self.unit.loosen(); // the keys have nothing to do with each other
            self.release(locked);
            if !is_more {
                due.pop();
            }
            if started.elapsed() > SLICE {
                break;
            }
        }
        let (took_ms, limit_ms) = (started.elapsed().as_millis() as u64, self.latency_limit_ms());
        if limit_ms > 0 && took_ms >= limit_ms {
            self.note_latency("expire-cycle", took_ms);
        }
        !due.is_empty()
    }
}
