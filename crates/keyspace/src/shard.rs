//! One lock's worth of keys: the table, the deadline index and the registry behind one lock.
//!
//! A shard never moves and is never freed while its keyspace lives, so its table's first line can
//! be prefetched by anybody. What it holds is reached through `Locked` alone.
//!
//! An empty shard is all zeros, so that the shards of a database are memory the system has not had
//! to provide yet: each page comes with the first key that falls on it. They come from the system and not
//! from the allocator, whose count is what `maxmemory` limits: nobody can make room there by deleting.

#![allow(unsafe_code)]

use crate::deadline::DeadlineIndex;
use crate::entry::Entry;
use crate::keyspace::ShardId;
use crate::registry::Registry;
use crate::sync::{Guarded, RawLock};
use datatypes::encoding::table::{Inline, Table};
use datatypes::home::{Collection, Payload};
use std::ops::Deref;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
#[cfg(not(any(loom, miri, fuzzing)))]
use std::{
    alloc::{Layout, handle_alloc_error},
    ptr::null_mut,
};

/// A shard's table.
pub type Entries = Table<Entry, Inline>;

/// Later deadlines count as this one in sums, some five centuries off: sums stay below 2^64.
const FAR_MS: u64 = 1 << 44;

/// What a shard's lock protects.
#[derive(Default)]
pub(crate) struct Room {
    pub table: Entries,
    /// Absent until the first deadline.
    pub deadlines: Option<Box<DeadlineIndex>>,
    /// Entries whose slot is flagged: they have a deadline, or a field of theirs may.
    pub n_volatile: usize,
    /// How the number of the database that these entries belonged to at the last snapshot's cut
    /// differs from that of the shard: 0 unless databases were swapped since.
    pub displaced: u16,
    /// Equals the snapshot's mark when the walk has been through these entries.
    pub walk_mark: bool,
    pub registry: Option<Box<Registry>>,
}

impl Room {
    /// The database these entries belonged to at the last snapshot's cut.
    #[inline]
    pub fn database_at_cut(&self, id: ShardId) -> u16 {
        id.database() ^ self.displaced
    }
}

/// See the top of the file.
#[derive(Default)]
#[repr(align(64))]
pub struct Shard {
    pub(crate) lock: RawLock,
    /// `u64::MAX` less the Unix time before which no key of this shard falls due. Read without the
    /// lock, as a hint.
    urgency: AtomicU64,
    /// Entries, readable without the lock.
    pub(crate) len: AtomicUsize,
    room: Guarded<Room>,
    /// Entries that have a deadline themselves, readable without the lock.
    n_expiring: AtomicUsize,
    /// The sum of their deadlines, each at most `FAR_MS`.
    deadline_sum: AtomicU64,
    /// Hashes of which fields have deadlines, readable without the lock.
    n_fielded: AtomicUsize,
}

// SAFETY: the room is only reached by the holder of `lock`, see `room`.
unsafe impl Sync for Shard {}

/// The shards of a database, see the top of the file.
pub struct Shards {
    first: NonNull<Shard>,
    n: usize,
}

// SAFETY: shards are shared by reference alone, and `Shard` is `Sync`.
unsafe impl Sync for Shards {}
// SAFETY: who drops them has them alone, and what they hold may be dropped by any thread.
unsafe impl Send for Shards {}

impl Shards {
    /// `n` empty shards.
    #[cfg(not(any(loom, miri, fuzzing)))]
    pub(crate) fn new(n: usize) -> Shards {
        use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};
        let layout = Layout::array::<Shard>(n).expect("some hundred shards");
        let access = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping, which touches no other. Its zeros are an open lock, which `sync`
        // asserts, no deadline, no entries, and a room of an empty table (see `Table::new`), null
        // boxes and zeros; a page's alignment is enough for a shard.
        let first = unsafe { mmap_anonymous(null_mut(), layout.size(), access, MapFlags::PRIVATE) };
        let first = first.ok().and_then(|first| NonNull::new(first.cast()));
        let first = first.unwrap_or_else(|| handle_alloc_error(layout));
        Shards { first, n }
    }

    // Who looks for leaks does not look into mappings.
    #[cfg(any(loom, miri, fuzzing))]
    pub(crate) fn new(n: usize) -> Shards {
        let shards: Box<[Shard]> = (0..n).map(|_| Shard::default()).collect();
        let first = NonNull::new(Box::into_raw(shards).cast());
        Shards {
            first: first.expect("a box is somewhere"),
            n,
        }
    }
}

impl Deref for Shards {
    type Target = [Shard];

    #[inline]
    fn deref(&self) -> &[Shard] {
        // SAFETY: `n` shards, which live for as long as this.
        unsafe { std::slice::from_raw_parts(self.first.as_ptr(), self.n) }
    }
}

impl Drop for Shards {
    fn drop(&mut self) {
        let all = std::ptr::slice_from_raw_parts_mut(self.first.as_ptr(), self.n);
        // SAFETY: nobody uses them any more, and they go the way they came.
        unsafe {
            #[cfg(any(loom, miri, fuzzing))]
            drop(Box::from_raw(all));
            #[cfg(not(any(loom, miri, fuzzing)))]
            {
                all.drop_in_place();
                let _ = rustix::mm::munmap(self.first.as_ptr().cast(), self.n * size_of::<Shard>());
            }
        }
    }
}

impl Shard {
    /// No key of this shard falls due before this Unix time. A hint.
    pub(crate) fn due_ms(&self) -> u64 {
        !self.urgency.load(Relaxed)
    }

    /// See [`Shard::due_ms`].
    pub(crate) fn set_due_ms(&self, due_ms: u64) {
        self.urgency.store(!due_ms, Relaxed);
    }

    /// Counts an entry whose deadline was `old` and is `new`. For the holder of the lock.
    pub(crate) fn count_deadline(&self, old: Option<u64>, new: Option<u64>) {
        if old == new {
            return;
        }
        let n = self.n_expiring.load(Relaxed) + usize::from(new.is_some());
        let sum = self.deadline_sum.load(Relaxed);
        let sum = sum + new.map_or(0, |ms| ms.min(FAR_MS));
        self.n_expiring
            .store(n - usize::from(old.is_some()), Relaxed);
        self.deadline_sum
            .store(sum - old.map_or(0, |ms| ms.min(FAR_MS)), Relaxed);
    }

    /// Counts anew for a table that came or went as a whole. For the holder of the lock.
    pub(crate) fn set_deadline_count(&self, (n, sum, n_fielded): (usize, u64, usize)) {
        self.n_fielded.store(n_fielded, Relaxed);
        self.n_expiring.store(n, Relaxed);
        self.deadline_sum.store(sum, Relaxed);
    }

    /// How many entries have a deadline themselves, the sum of those, far ones cut, and how many
    /// hashes have fields with deadlines.
    pub(crate) fn deadline_count(&self) -> (usize, u64, usize) {
        let (n, sum) = (self.n_expiring.load(Relaxed), self.deadline_sum.load(Relaxed));
        (n, sum, self.n_fielded())
    }

    /// Counts a hash whose fields had deadlines or not, and have or not. For the holder of the lock.
    pub(crate) fn count_fielded(&self, old: bool, new: bool) {
        let n = self.n_fielded.load(Relaxed) + usize::from(new);
        self.n_fielded.store(n - usize::from(old), Relaxed);
    }

    /// How many hashes have fields with deadlines.
    pub(crate) fn n_fielded(&self) -> usize {
        self.n_fielded.load(Relaxed)
    }

    /// What the lock protects.
    ///
    /// # Safety
    /// The caller holds the lock, and uses one reference at a time.
    #[inline]
    #[expect(clippy::mut_from_ref, reason = "the lock makes it exclusive")]
    pub(crate) unsafe fn room(&self) -> &mut Room {
        // SAFETY: passed on to the caller.
        unsafe { &mut *self.room.held() }
    }

    /// Asks the processor for the bucket of `hash`, without the lock.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) {
        // SAFETY: only atomics inside the table are read, which other threads may change meanwhile;
        // a stale answer prefetches a useless line.
        let table = unsafe { &*std::ptr::addr_of!((*self.room.unlocked()).table) };
        table.prefetch_bucket(hash);
    }

    /// Asks the processor for the entry of `hash`, if the lock is free: see [`Table::prefetch_record`].
    #[inline]
    pub fn prefetch_entry(&self, hash: u64) -> bool {
        let prefetch = |room: &Room| room.table.prefetch_record(hash);
        self.if_free(prefetch).unwrap_or(true)
    }

    /// Likewise after that, if it is in the bucket behind its first one.
    pub fn prefetch_late_entry(&self, hash: u64) {
        self.if_free(|room| room.table.prefetch_late_record(hash));
    }

    /// What `look` says of the collection that the key of `hash` most likely holds, if it holds one that
    /// is no blob and the lock is free. Reads the entry.
    #[inline]
    pub fn peek(&self, hash: u64, look: impl FnOnce(&Collection) -> bool) -> Option<bool> {
        self.if_free(|room| match room.table.likely(hash)?.payload() {
            Payload::Big(big) => Some(look(big)),
            _ => None,
        })?
    }

    #[inline]
    fn if_free<T>(&self, look: impl FnOnce(&Room) -> T) -> Option<T> {
        if !self.lock.try_lock() {
            return None;
        }
        // SAFETY: the lock was just taken, and is released below.
        let seen = look(unsafe { self.room() });
        // SAFETY: as above.
        unsafe { self.lock.unlock() };
        Some(seen)
    }

    /// Notes that a key falls due at `deadline_ms`; whether that is sooner than all before.
    pub(crate) fn lower_due(&self, deadline_ms: u64) -> bool {
        let is_sooner = deadline_ms < self.due_ms();
        if is_sooner {
            self.set_due_ms(deadline_ms);
        }
        is_sooner
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn zeros_are_an_empty_shard_that_works() {
        let shards = Shards::new(3);
        for shard in &*shards {
            let made = Shard::default();
            assert_eq!((shard.due_ms(), made.due_ms()), (u64::MAX, u64::MAX));
            assert!(shard.lock.try_lock());
            // SAFETY: the lock was just taken, and the other shard is nobody else's.
            let (room, other) = unsafe { (shard.room(), made.room()) };
            room.table.check_invariants();
            assert!(room.table.is_empty() && room.deadlines.is_none() && room.registry.is_none());
            assert_eq!((room.n_volatile, room.displaced), (other.n_volatile, other.displaced));
            assert_eq!(room.table.shape(), other.table.shape());
        }
    }
}
