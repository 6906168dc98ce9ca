//! One lock's worth of keys: the table, the deadline index and the registry behind one lock.
//!
//! A shard never moves and is never freed while its keyspace lives, so its table's first line can
//! be prefetched by anybody. What it holds is reached through `Locked` alone.

use crate::deadline::DeadlineIndex;
use crate::entry::Entry;
use crate::registry::Registry;
use crate::sync::RawLock;
use datatypes::encoding::table::{Inline, Table};
use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// A shard's table.
pub type Entries = Table<Entry, Inline>;

/// What a shard's lock protects.
pub(crate) struct Room {
    pub table: Entries,
    pub deadlines: DeadlineIndex,
    /// Entries whose slot is flagged: they have a deadline, or a field of theirs may.
    pub n_volatile: usize,
    /// The database these entries belonged to at the last snapshot's cut.
    pub database_at_cut: u16,
    /// Equals the snapshot's mark when the walk has been through these entries.
    pub walk_mark: bool,
    pub registry: Option<Box<Registry>>,
}

/// See the top of the file.
#[repr(align(64))]
pub struct Shard {
    pub(crate) lock: RawLock,
    /// No key of this shard falls due before this Unix time. Read without the lock, as a hint.
    pub(crate) due_ms: AtomicU64,
    /// Entries, readable without the lock.
    pub(crate) len: AtomicUsize,
    room: UnsafeCell<Room>,
}

// SAFETY: the room is only reached by the holder of `lock`, see `room`.
unsafe impl Sync for Shard {}

impl Shard {
    pub(crate) fn new(database: u16) -> Shard {
        Shard {
            lock: RawLock::new(),
            due_ms: AtomicU64::new(u64::MAX),
            len: AtomicUsize::new(0),
            room: UnsafeCell::new(Room {
                table: Entries::new(),
                deadlines: DeadlineIndex::new(),
                n_volatile: 0,
                database_at_cut: database,
                walk_mark: false,
                registry: None,
            }),
        }
    }

    /// What the lock protects.
    ///
    /// # Safety
    /// The caller holds the lock, and uses one reference at a time.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "the lock makes it exclusive")]
    pub(crate) unsafe fn room(&self) -> &mut Room {
        // SAFETY: passed on to the caller.
        unsafe { &mut *self.room.get() }
    }

    /// Asks the processor for the bucket of `hash`, without the lock.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        // SAFETY: only atomics inside the table are read, which other threads may change meanwhile;
        // a stale answer prefetches a useless line.
        let table = unsafe { &*std::ptr::addr_of!((*self.room.get()).table) };
        table.prefetch_bucket(hash);
    }

    /// Asks the processor for the entry of `hash`, if the lock is free.
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) {
        if self.lock.try_lock() {
            // SAFETY: the lock was just taken, and is released below.
            unsafe {
                self.room().table.prefetch_record(hash);
                self.lock.unlock();
            }
        }
    }

    /// Notes that a key falls due at `deadline_ms`; whether that is sooner than all before.
    pub(crate) fn lower_due(&self, deadline_ms: u64) -> bool {
        if deadline_ms >= self.due_ms.load(Relaxed) {
            return false;
        }
        self.due_ms.store(deadline_ms, Relaxed);
        true
    }
}
