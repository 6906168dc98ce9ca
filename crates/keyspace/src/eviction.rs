//! Which keys go first when memory is full: samples of a shard, and how much each deserves to go.
//!
//! A sample of all keys reads whole buckets, which cost one cache miss for up to seven records. A
//! sample of the keys with a deadline takes hints of the deadline index, so it is as quick where few
//! keys have one; and the keys due soonest are on top of that heap, so they are found, not guessed.

use datatypes::encoding::table::{Record, Ref, hash};

use crate::access::AccessClock;
use crate::entry::Entry;
use crate::keyspace::{Keyspace, ShardId};
use crate::locked::Locked;

/// Hints looked at for each key that is wanted: some are stale.
const HINTS_PER_KEY: usize = 4;

/// What makes a key the first to go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Preference {
    /// It was not used for the longest time.
    LeastRecent,
    /// It was used least often.
    LeastFrequent,
    /// Its deadline is the nearest.
    SoonestDue,
    /// Chance.
    Any,
}

/// Which keys may go, and which of them first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Which go first.
    pub preference: Preference,
    /// Only keys with a deadline may go.
    pub is_volatile_only: bool,
}

impl Policy {
    /// How much an entry deserves to go, the more the sooner; `None` if it must stay.
    pub fn score(self, entry: &Entry, clock: &AccessClock) -> Option<u64> {
        let deadline_ms = entry.deadline_ms();
        if self.is_volatile_only && deadline_ms.is_none() {
            return None;
        }
        Some(match self.preference {
            Preference::LeastRecent => clock.idle_s(entry).into(),
            Preference::LeastFrequent => (u8::MAX - clock.counter(entry)).into(),
            Preference::SoonestDue => u64::MAX - deadline_ms.unwrap_or(u64::MAX),
            Preference::Any => 0,
        })
    }

    /// Whether a shard may have something for this policy. Without its lock, as a hint.
    pub fn may_find_in(self, keyspace: &Keyspace, id: ShardId) -> bool {
        let shard = keyspace.shard(id);
        match self.is_volatile_only {
            true => shard.deadline_count().0 > 0,
            false => shard.len.load(std::sync::atomic::Ordering::Relaxed) > 0,
        }
    }
}

/// Shows about `n` entries of a shard that is locked, chosen by `random`; fewer where there are fewer.
pub fn sample(
    locked: &Locked<'_>,
    id: ShardId,
    policy: Policy,
    (n, random): (usize, u64),
    visit: &mut dyn FnMut(&Entry),
) {
    let room = locked.room(id);
    if !policy.is_volatile_only {
        return room
            .table
            .sample_some(random, n, &mut |entry: Ref<'_, Entry>| visit(&entry));
    }
    let Some(deadlines) = &room.deadlines else {
        return;
    };
    let mut n_seen = 0;
    let mut look = |low: u64| {
        room.table.with_low_hash(low, &mut |entry| {
            if entry.flag && entry.deadline_ms().is_some() {
                n_seen += 1;
                visit(&entry);
            }
        });
        n_seen < n
    };
    let n_hints = deadlines.len().min(n * HINTS_PER_KEY);
    match policy.preference {
        Preference::SoonestDue => {
            let _ = deadlines.soonest(n_hints).all(&mut look);
        }
        _ => {
            let _ = deadlines.some(n_hints, random).all(&mut look);
        }
    }
}

/// The key with this hash in a shard that is locked, if it is there. O(1).
pub fn key_of(locked: &Locked<'_>, id: ShardId, whole: u64) -> Option<Box<[u8]>> {
    let mut found = None;
    locked.room(id).table.with_low_hash(whole, &mut |entry| {
        let key = entry.key();
        if found.is_none() && hash(key) == whole {
            found = Some(key.into());
        }
    });
    found
}
