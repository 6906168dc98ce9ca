//! Snapshots without fork: the state at one instant, while writers go on.
//!
//! ```text
//!   cut    a transaction holds everything, turns the epoch: every entry is now unmarked
//!   walk   shard after shard, a slice at a time under its lock: save what is unmarked, mark it
//!   help   whoever changes or removes an unmarked entry saves and marks it first
//!   born   new entries are marked; a flushed table is handed to the walk whole
//!   swap   exchanged shards take along whether they were walked, and the walk starts over
//! ```
//!
//! The mark is one bit of the entry that alternates in meaning from epoch to epoch, so a walk must
//! mark everything before the next cut: an aborted one goes on without saving.
//! A collection is saved as a whole by whoever meets it first.

use crate::entry::Entry;
use crate::keyspace::{Keyspace, ShardId, Trash};
use crate::locked::Locked;
use crate::shard::Entries;
use datatypes::encoding::table::Record;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

/// Buckets' worth of entries that a walk saves under one hold of a lock.
const SLICE_ENTRIES: usize = 256;

/// Takes what a snapshot saves, from several threads, under shard locks: it must not block.
pub trait Sink: Send + Sync {
    /// Saves one key as it was at the cut, in the database it was in then.
    fn save(&self, database: u16, entry: &Entry);
}

/// The snapshot part of a keyspace.
#[derive(Default)]
pub struct Snapshot {
    /// The mark that saved and new entries bear.
    mark: AtomicBool,
    /// A walk is under way: entries without the mark must be saved before they change.
    is_walking: AtomicBool,
    sink: Mutex<Option<Arc<dyn Sink>>>,
    /// Tables that were flushed during the walk, with their database at the cut.
    detached: Mutex<Vec<(u16, Entries)>>,
    /// Databases were exchanged, so that there may be entries behind the walk.
    is_swapped: AtomicBool,
}

impl Snapshot {
    /// The mark for new entries.
    #[inline]
    pub(crate) fn mark(&self) -> bool {
        self.mark.load(Relaxed)
    }

    /// Whether entries have to be saved before they change.
    #[inline]
    pub(crate) fn is_walking(&self) -> bool {
        self.is_walking.load(Relaxed)
    }

    /// Saves an entry that is about to change, if the walk has not come to it.
    #[cold]
    pub(crate) fn save_first(&self, database_at_cut: u16, entry: &mut Entry) {
        if entry.is_marked() == self.mark() {
            return;
        }
        if let Some(sink) = &*self.sink.lock() {
            sink.save(database_at_cut, entry);
        }
        entry.set_mark(self.mark());
    }

    /// Says that databases are being exchanged, by somebody who holds all their shards.
    pub(crate) fn note_swap(&self) {
        let _detached = self.detached.lock(); // so that a walk does not end meanwhile
        self.is_swapped.store(true, Relaxed);
    }

    /// Hands a flushed table over; it is freed when the walk has saved it.
    pub(crate) fn detach(&self, database_at_cut: u16, table: Entries) {
        self.detached.lock().push((database_at_cut, table));
    }
}

/// A snapshot on its way through the keyspace. Dropping it early leaves a walk that must still
/// be finished: [`Walk::abort`], then [`Walk::step`] to the end.
pub struct Walk<'k> {
    keyspace: &'k Keyspace,
    next: ShardId,
    cursor: u64,
    is_done: bool,
}

impl<'k> Walk<'k> {
    /// Cuts: from here on `sink` gets the state of this instant. `locked` is a transaction.
    /// `None` while another walk is under way.
    pub fn cut(locked: &Locked<'k>, sink: Arc<dyn Sink>) -> Option<Walk<'k>> {
        let keyspace = locked.keyspace();
        let snapshot = &keyspace.snapshot;
        if snapshot.is_walking() {
            return None;
        }
        locked.take_everything();
        for database in 0..keyspace.n_databases() {
            for shard in 0..keyspace.existing_shards(database).map_or(0, <[_]>::len) {
                let room = locked.room(ShardId::new(database, shard as u16));
                if room.displaced != 0 {
                    room.displaced = 0;
                }
                if room.walk_mark != snapshot.mark() {
                    room.walk_mark = snapshot.mark();
                }
            }
        }
        *snapshot.sink.lock() = Some(sink);
        snapshot.mark.store(!snapshot.mark(), Relaxed);
        snapshot.is_walking.store(true, Relaxed);
        Some(Walk {
            keyspace,
            next: ShardId::new(0, 0),
            cursor: 0,
            is_done: false,
        })
    }

    /// Stops saving; the walk goes on only to mark what is left.
    pub fn abort(&mut self) {
        *self.keyspace.snapshot.sink.lock() = None;
    }

    /// Saves a slice. False when everything is saved and the walk is over. Holds one shard's lock
    /// for at most some hundred entries.
    pub fn step(&mut self) -> bool {
        if self.is_done {
            return false;
        }
        self.save_detached();
        if self.keyspace.snapshot.is_swapped.swap(false, Relaxed) {
            (self.next, self.cursor) = (ShardId::new(0, 0), 0);
        }
        if self.next.database() < self.keyspace.n_databases() {
            self.save_slice();
            return true;
        }
        self.finish()
    }

    fn save_slice(&mut self) {
        let database = self.next.database();
        let Some(shards) = self.keyspace.existing_shards(database) else {
            self.next = ShardId::new(database + 1, 0);
            return;
        };
        let shard = &shards[usize::from(self.next.shard())];
        shard.lock.lock();
        // SAFETY: the lock is held until the end of the block.
        unsafe {
            let room = shard.room();
            let (mut n_seen, database_at_cut) = (0, room.database_at_cut(self.next));
            let snapshot = &self.keyspace.snapshot;
            // An exchange since the last look has the walk start over, at the next step.
            while room.walk_mark != snapshot.mark() && !snapshot.is_swapped.load(Relaxed) {
                self.cursor = room.table.scan(self.cursor, &mut |entry| {
                    n_seen += 1;
                    save(snapshot, database_at_cut, &entry);
                });
                if self.cursor == 0 {
                    room.walk_mark = snapshot.mark();
                } else if n_seen >= SLICE_ENTRIES {
                    break;
                }
            }
            shard.lock.unlock();
        }
        if self.cursor == 0 {
            let is_last = self.next.shard() + 1 == self.keyspace.n_shards();
            self.next = if is_last {
                ShardId::new(database + 1, 0)
            } else {
                ShardId::new(database, self.next.shard() + 1)
            };
        }
    }

    fn save_detached(&self) {
        let detached = std::mem::take(&mut *self.keyspace.snapshot.detached.lock());
        for (database_at_cut, table) in detached {
            for entry in table.iter() {
                save(&self.keyspace.snapshot, database_at_cut, &entry);
            }
            self.keyspace.discard(Trash::Tables(vec![table]));
        }
    }

    /// Ends the walk, unless a table was flushed since it was last looked for.
    fn finish(&mut self) -> bool {
        let snapshot = &self.keyspace.snapshot;
        let detached = snapshot.detached.lock();
        if !detached.is_empty() || snapshot.is_swapped.load(Relaxed) {
            return true;
        }
        snapshot.is_walking.store(false, Relaxed);
        *snapshot.sink.lock() = None;
        self.is_done = true;
        false
    }
}

/// Saves and marks an entry that a walk meets under its lock.
fn save(snapshot: &Snapshot, database_at_cut: u16, entry: &Entry) {
    if entry.is_marked() == snapshot.mark() {
        return;
    }
    // SAFETY: the caller has the entry to itself, by its shard's lock or as a detached table's
    // owner; the second handle is forgotten, so the table keeps ownership.
    unsafe {
        let raw = std::ptr::from_ref(entry)
            .cast::<std::ptr::NonNull<u8>>()
            .read();
        let mut handle = std::mem::ManuallyDrop::new(Entry::from_raw(raw));
        snapshot.save_first(database_at_cut, &mut handle);
    }
}
