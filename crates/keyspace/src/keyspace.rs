//! All databases: arrays of shards, made when a database gets its first key, never freed.
//!
//! A shard's number comes from hash bits that its table does not use. Shards are also dealt into
//! *groups*, one for each event loop, which looks after the deadlines of its group.

#![allow(unsafe_code)]

use crate::entry::Entry;
use crate::shard::{Entries, Shard, Shards};
use crate::snapshot::Snapshot;
use crate::sync::RawLock;
use std::sync::OnceLock;
use std::sync::atomic::{
    AtomicBool, AtomicU64,
    Ordering::{AcqRel, Relaxed},
};
use std::sync::mpsc::Sender;

/// The hash bits that choose the shard start here: below the table's tag, above its bucket.
const SHARD_SHIFT: u32 = 40;

/// One shard of one database. Locks are taken in this order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ShardId(u32);

impl ShardId {
    /// The shard `shard` of `database`.
    #[inline]
    pub const fn new(database: u16, shard: u16) -> ShardId {
        ShardId(((database as u32) << 16) | shard as u32)
    }

    /// The database's number.
    #[inline]
    pub const fn database(self) -> u16 {
        (self.0 >> 16) as u16
    }

    /// The shard's number in its database.
    #[inline]
    pub const fn shard(self) -> u16 {
        self.0 as u16
    }
}

/// What is freed somewhere else than on an event loop.
pub enum Trash {
    /// A removed key with a big value.
    Entry(Entry),
    /// The tables of a flushed database.
    Tables(Vec<Entries>),
}

/// How a keyspace is laid out.
#[derive(Clone, Copy, Debug)]
pub struct Layout {
    /// Databases that SELECT reaches.
    pub n_databases: u16,
    /// Shards of a database, a power of two up to 1024.
    pub n_shards: u16,
    /// Groups that shards are dealt into.
    pub n_groups: usize,
}

/// A group's next deadline, on a cache line of its own.
#[repr(align(64))]
struct Due(AtomicU64);

/// The data set.
pub struct Keyspace {
    layout: Layout,
    databases: Box<[OnceLock<Shards>]>,
    due_ms: Box<[Due]>,
    pub(crate) transaction: RawLock,
    /// The snapshot in progress, if any.
    pub snapshot: Snapshot,
    trash: OnceLock<Sender<Trash>>,
    n_pending: AtomicU64,
    /// A field of a hash has had a deadline at some time.
    has_had_field_deadlines: AtomicBool,
}

impl Keyspace {
    /// An empty keyspace, which has allocated no shards.
    pub fn new(layout: Layout) -> Keyspace {
        assert!(layout.n_shards.is_power_of_two() && layout.n_groups > 0);
        Keyspace {
            layout,
            databases: (0..layout.n_databases).map(|_| OnceLock::new()).collect(),
            due_ms: (0..layout.n_groups)
                .map(|_| Due(AtomicU64::new(u64::MAX)))
                .collect(),
            transaction: RawLock::new(),
            snapshot: Snapshot::default(),
            trash: OnceLock::new(),
            n_pending: AtomicU64::new(0),
            has_had_field_deadlines: AtomicBool::new(false),
        }
    }

    /// Another one, empty, with the same layout: its keys may take the place of this one's, see
    /// [`Db::replace_all`](crate::db::Db::replace_all).
    pub fn sibling(&self) -> Keyspace {
        let sibling = Keyspace::new(self.layout);
        sibling.snapshot.mark_as(&self.snapshot);
        sibling
    }

    /// Whether nothing hinders a sibling's keys from taking the place of this one's, as it seems without locks.
    pub fn takes(&self, sibling: &Keyspace) -> bool {
        self.snapshot.may_mark_as(&sibling.snapshot)
    }

    /// Where big values go to be freed; without it they are freed on the spot.
    pub fn set_trash(&self, trash: Sender<Trash>) {
        let _ = self.trash.set(trash);
    }

    pub(crate) fn discard(&self, trash: Trash) {
        let trash = match trash {
            Trash::Entry(entry) if entry.walk_id().is_some() => {
                return self.snapshot.keep_walking(entry); // it is freed when it is saved
            }
            other => other,
        };
        match (&trash, self.trash.get()) {
            (Trash::Entry(entry), _) if !entry.is_heavy() => drop(trash),
            // The receiver is gone at shutdown only; then freeing here is as good.
            (_, Some(sender)) => {
                self.n_pending.fetch_add(1, Relaxed);
                drop(sender.send(trash));
            }
            _ => drop(trash),
        }
    }

    /// Values sent to where big values go to be freed, and not yet reported by [`Keyspace::freed`].
    pub fn n_pending(&self) -> u64 {
        self.n_pending.load(Relaxed)
    }

    /// One of them is freed.
    pub fn freed(&self) {
        self.n_pending.fetch_sub(1, Relaxed);
    }

    /// Whether a field of a hash may have a deadline: none has had one so far if not.
    pub fn may_hold_field_deadlines(&self) -> bool {
        self.has_had_field_deadlines.load(Relaxed)
    }

    pub(crate) fn note_field_deadline(&self) {
        if !self.has_had_field_deadlines.load(Relaxed) {
            self.has_had_field_deadlines.store(true, Relaxed);
        }
    }

    /// How many databases there are.
    pub fn n_databases(&self) -> u16 {
        self.layout.n_databases
    }

    /// Shards of a database.
    pub fn n_shards(&self) -> u16 {
        self.layout.n_shards
    }

    /// The shard of `database` that the key of `hash` belongs to.
    #[inline]
    pub fn shard_of(&self, database: u16, hash: u64) -> ShardId {
        ShardId::new(database, (hash >> SHARD_SHIFT) as u16 & (self.layout.n_shards - 1))
    }

    /// The group of a shard.
    #[inline]
    pub fn group_of(&self, id: ShardId) -> usize {
        usize::from(id.shard()) % self.layout.n_groups
    }

    /// The shards of a database, made now if they were not.
    #[inline]
    pub(crate) fn shards(&self, database: u16) -> &[Shard] {
        self.databases[usize::from(database)]
            .get_or_init(|| Shards::new(self.layout.n_shards.into()))
    }

    /// The shards of a database that has had keys.
    #[inline]
    pub fn existing_shards(&self, database: u16) -> Option<&[Shard]> {
        self.databases
            .get(usize::from(database))?
            .get()
            .map(|shards| &shards[..])
    }

    /// One shard.
    #[inline]
    pub fn shard(&self, id: ShardId) -> &Shard {
        &self.shards(id.database())[usize::from(id.shard())]
    }

    /// Whether a snapshot is being taken. O(1).
    pub fn is_walked(&self) -> bool {
        self.snapshot.is_walking()
    }

    /// Whether a transaction is under way that holds a shard of a database for longer than some
    /// microseconds. O(1) without a transaction, else O(shards).
    pub fn has_busy_shard(&self, database: u16) -> bool {
        if self.transaction.try_lock() {
            // SAFETY: taken in the line above.
            unsafe { self.transaction.unlock() };
            return false;
        }
        let shards = self.existing_shards(database).unwrap_or_default();
        shards.iter().any(|shard| {
            let is_free = shard.lock.lock_soon();
            if is_free {
                // SAFETY: taken by `lock_soon`.
                unsafe { shard.lock.unlock() };
            }
            !is_free
        })
    }

    /// Keys of a database, expired ones included. O(shards), without locks.
    pub fn len(&self, database: u16) -> usize {
        let shards = self.existing_shards(database).unwrap_or_default();
        shards.iter().map(|shard| shard.len.load(Relaxed)).sum()
    }

    /// Keys of a database that have a deadline, expired ones included, and the average of those
    /// deadlines, Unix time. O(shards), without locks: exact while nothing changes.
    pub fn deadlines(&self, database: u16) -> (usize, u64) {
        let shards = self.existing_shards(database).unwrap_or_default();
        let (n, sum) = shards
            .iter()
            .map(Shard::deadline_count)
            .fold((0, 0), |(n, sum), (n_here, sum_here, _)| {
                (n + n_here, sum + u128::from(sum_here))
            });
        (n, (sum / n.max(1) as u128) as u64)
    }

    /// How many hashes of a database have fields with deadlines. O(shards).
    pub fn n_fielded(&self, database: u16) -> usize {
        let shards = self.existing_shards(database).unwrap_or_default();
        shards.iter().map(Shard::n_fielded).sum()
    }

    /// Whether no database has keys.
    pub fn is_empty(&self) -> bool {
        (0..self.layout.n_databases).all(|database| self.len(database) == 0)
    }

    /// The time before which nothing of `group` falls due, Unix time; a hint.
    #[inline]
    pub fn next_due_ms(&self, group: usize) -> u64 {
        self.due_ms[group].0.load(Relaxed)
    }

    /// Notes a deadline of a shard; whether it is sooner than all others of its group.
    pub(crate) fn lower_group(&self, id: ShardId, deadline_ms: u64) -> bool {
        let group = &self.due_ms[self.group_of(id)].0;
        group.fetch_min(deadline_ms, AcqRel) > deadline_ms
    }

    /// The shards of `group` that may have keys due at `now_ms`. Resets the group's next deadline
    /// to that of the other shards; who works off the answer lowers it again. O(shards).
    pub fn take_due_shards(&self, group: usize, now_ms: u64, due: &mut Vec<ShardId>) {
        let next = &self.due_ms[group].0;
        // Whatever lowered it before this swap has lowered its shard's, which is read below.
        next.swap(u64::MAX, AcqRel);
        for database in 0..self.layout.n_databases {
            let Some(shards) = self.existing_shards(database) else {
                continue;
            };
            for (at, shard) in shards
                .iter()
                .enumerate()
                .skip(group)
                .step_by(self.layout.n_groups)
            {
                let due_ms = shard.due_ms();
                if due_ms <= now_ms {
                    due.push(ShardId::new(database, at as u16));
                } else if due_ms != u64::MAX {
                    next.fetch_min(due_ms, Relaxed);
                }
            }
        }
    }

    /// Sets the next deadline of a shard after its due keys were worked off.
    pub(crate) fn renew_due(&self, id: ShardId, deadline_ms: Option<u64>) {
        let deadline_ms = deadline_ms.unwrap_or(u64::MAX);
        self.shard(id).set_due_ms(deadline_ms);
        self.due_ms[self.group_of(id)]
            .0
            .fetch_min(deadline_ms, AcqRel);
    }
}
