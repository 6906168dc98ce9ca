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
//!
//! A small entry is saved as a whole by whoever meets it first. A long collection is only begun: a
//! list shares its nodes with the snapshot, a table turns its marks (`encoding/marks.rs`). Then the
//! walk takes it piece by piece, and a writer copies the node or the record that it changes.
//! Wherever the collection goes meanwhile, the walk follows it:
//!
//! ```text
//!   InShard  under its key            renamed or moved: a second work says where to
//!   Taken    deleted, overwritten, expired: kept until it is saved, then freed
//!   Frozen   the shared nodes of a list, needing nobody
//! ```

#![allow(unsafe_code)]

use crate::entry::Entry;
use crate::keyspace::{Keyspace, ShardId, Trash};
use crate::locked::Locked;
use crate::shard::Entries;
use datatypes::encoding::quicklist::{Frozen, NodeRef};
use datatypes::encoding::table::{Record, hash};
use datatypes::home::{Begun, Payload, Piece};
use parking_lot::Mutex;
use std::mem::ManuallyDrop;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU64, AtomicUsize,
    Ordering::{AcqRel, Acquire, Relaxed},
};

/// Entries, pieces or nodes that a walk saves under one hold of a lock.
const SLICE_ENTRIES: usize = 256;
/// Bytes of values after which it lets go before that.
const SLICE_BYTES: usize = 64 << 10;
/// Nodes of a frozen list, of some kilobytes each, that are saved in one step.
const SLICE_NODES: usize = 16;

/// Takes what a snapshot saves, from several threads, under shard locks: it must not block.
pub trait Sink: Send + Sync {
    /// Saves one key as it was at the cut, in the database it was in then.
    fn save(&self, database: u16, entry: &Entry);
    /// Begins a long collection: `entry` is as it was at the cut, with key, deadline and length;
    /// its content follows in pieces with the same number.
    fn begin(&self, id: u64, database: u16, entry: &Entry);
    /// Saves a part of a collection.
    fn piece(&self, id: u64, piece: Piece<'_>);
    /// Ends a collection.
    fn end(&self, id: u64);
}

/// A collection that was begun.
struct Work {
    id: u64,
    place: Place,
}

/// A table that was flushed during the walk, with its database at the cut and how far it was saved.
struct Detached {
    database_at_cut: u16,
    table: Entries,
    cursor: u64,
}

enum Place {
    InShard(ShardId, Box<[u8]>),
    Taken(Entry),
    Frozen(Frozen),
}

/// The snapshot part of a keyspace.
#[derive(Default)]
pub struct Snapshot {
    /// The mark that saved and new entries bear.
    mark: AtomicBool,
    /// A walk is under way: entries without the mark must be saved before they change.
    is_walking: AtomicBool,
    sink: Mutex<Option<Arc<dyn Sink>>>,
    detached: Mutex<Vec<Detached>>,
    /// Databases were exchanged, so that there may be entries behind the walk.
    is_swapped: AtomicBool,
    n_swaps: AtomicU64,
    /// Collections that are being saved in pieces.
    works: Mutex<Vec<Work>>,
    /// The one that is taken first, so that one is whole before the next: the last that was, until
    /// it ends.
    preferred: AtomicU64,
    last_id: AtomicU64,
    /// Collections that were begun and not ended, wherever they are: one that is renamed belongs
    /// to no work for a moment.
    n_open: AtomicUsize,
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

    /// Whether no walk is under way that marks otherwise than another one.
    pub(crate) fn may_mark_as(&self, other: &Snapshot) -> bool {
        !self.is_walking() || self.mark() == other.mark()
    }

    /// Marks as another one does, if it may. For who holds everything, and all entries are about to go.
    pub(crate) fn mark_as(&self, other: &Snapshot) -> bool {
        let may = self.may_mark_as(other);
        if may {
            self.mark.store(other.mark(), Relaxed);
        }
        may
    }

    /// Saves an entry of a shard that is about to change, if the walk has not come to it; one that
    /// takes long is begun.
    #[cold]
    pub(crate) fn save_first(&self, (id, database_at_cut): (ShardId, u16), entry: &mut Entry) {
        if entry.is_marked() == self.mark() {
            return;
        }
        if let Some(sink) = &*self.sink.lock() {
            if entry.is_long() {
                self.begin(&**sink, (id, database_at_cut), entry);
            } else {
                sink.save(database_at_cut, entry);
            }
        }
        entry.set_mark(self.mark());
    }

    /// Says that databases are being exchanged, by somebody who holds all their shards.
    pub(crate) fn note_swap(&self) {
        let _detached = self.detached.lock(); // so that a walk does not end meanwhile
        self.n_swaps.fetch_add(1, AcqRel);
        self.is_swapped.store(true, Relaxed);
    }

    fn begin(&self, sink: &dyn Sink, (shard, database): (ShardId, u16), entry: &mut Entry) {
        let id = self.last_id.fetch_add(1, AcqRel) + 1;
        sink.begin(id, database, entry);
        let key = entry.key().into();
        let place = match entry.big_mut().map(|collection| collection.begin(id)) {
            Some(Begun::Frozen(list)) => Place::Frozen(list),
            Some(Begun::Walk) => Place::InShard(shard, key),
            None => return,
        };
        self.n_open.fetch_add(1, AcqRel);
        self.works.lock().push(Work { id, place });
    }

    /// Says where a collection that is being saved has gone to.
    pub(crate) fn follow(&self, id: u64, shard: ShardId, key: &[u8]) {
        let place = Place::InShard(shard, key.into());
        self.works.lock().push(Work { id, place });
    }

    /// Keeps an entry that was to be freed, but is being saved.
    pub(crate) fn keep_walking(&self, entry: Entry) {
        if let Some(id) = entry.walk_id() {
            let place = Place::Taken(entry);
            self.works.lock().push(Work { id, place });
        }
    }

    /// A collection to go on with: that of the last time, unless it is ended or on its way elsewhere.
    fn next_work(&self) -> Option<Work> {
        let mut works = self.works.lock();
        let preferred = self.preferred.load(Relaxed);
        let at = works.iter().rposition(|work| work.id == preferred);
        let at = at.or(works.len().checked_sub(1))?;
        let work = works.swap_remove(at);
        if preferred == 0 {
            self.preferred.store(work.id, Relaxed);
        }
        Some(work)
    }

    /// Hands a flushed table over; it is freed when the walk has saved it.
    pub(crate) fn detach(&self, database_at_cut: u16, table: Entries) {
        self.detached.lock().push(Detached {
            database_at_cut,
            table,
            cursor: 0,
        });
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
        if self.keyspace.snapshot.is_swapped.swap(false, Relaxed) {
            (self.next, self.cursor) = (ShardId::new(0, 0), 0);
        }
        if self.step_work() || self.step_detached() {
            return true;
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
            let (mut n_seen, mut n_bytes) = (0, 0);
            let database_at_cut = room.database_at_cut(self.next);
            let snapshot = &self.keyspace.snapshot;
            // An exchange since the last look has the walk start over, at the next step.
            while room.walk_mark != snapshot.mark() && !snapshot.is_swapped.load(Relaxed) {
                room.table.prefetch_scan(self.cursor);
                self.cursor = room.table.scan(self.cursor, &mut |entry| {
                    n_seen += 1;
                    n_bytes += bytes_about(&entry);
                    save(snapshot, (self.next, database_at_cut), &entry);
                });
                if self.cursor == 0 {
                    room.walk_mark = snapshot.mark();
                } else if n_seen >= SLICE_ENTRIES || n_bytes >= SLICE_BYTES {
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

    /// Saves a slice of a table that was flushed; whether there was one. Collections that take long are
    /// taken out of it and are works of their own.
    fn step_detached(&self) -> bool {
        let snapshot = &self.keyspace.snapshot;
        let Some(mut detached) = snapshot.detached.lock().pop() else {
            return false;
        };
        let (mut n_seen, mut n_bytes, mut long) = (0, 0, Vec::new());
        // It is nobody else's, so there is a shard only in name.
        let place = (ShardId::new(detached.database_at_cut, 0), detached.database_at_cut);
        loop {
            let cursor = detached.cursor;
            detached.cursor = detached.table.scan(cursor, &mut |entry| {
                n_seen += 1;
                n_bytes += bytes_about(&entry);
                save(snapshot, place, &entry);
                if entry.walk_id().is_some() {
                    long.push(entry.key().to_vec());
                }
            });
            if detached.cursor == 0 || n_seen >= SLICE_ENTRIES || n_bytes >= SLICE_BYTES {
                break;
            }
        }
        for key in long {
            if let Some(place) = detached.table.find_mut(hash(&key), &key) {
                snapshot.keep_walking(place.remove());
            }
        }
        match detached.cursor {
            0 => self.keyspace.discard(Trash::Tables(vec![detached.table])),
            _ => snapshot.detached.lock().push(detached),
        }
        true
    }

    /// Saves a slice of a collection that was begun; whether there was one.
    fn step_work(&self) -> bool {
        let snapshot = &self.keyspace.snapshot;
        let Some(Work { id, place }) = snapshot.next_work() else {
            return false;
        };
        let rest = match place {
            Place::Frozen(mut list) => self.step_list(id, &mut list).then_some(Place::Frozen(list)),
            Place::Taken(mut entry) => {
                if self.step_collection(id, &mut entry) {
                    Some(Place::Taken(entry))
                } else {
                    self.keyspace.discard(Trash::Entry(entry));
                    None
                }
            }
            Place::InShard(shard, key) => self
                .step_in_shard(id, shard, &key)
                .then_some(Place::InShard(shard, key)),
        };
        match rest {
            Some(place) => snapshot.works.lock().push(Work { id, place }),
            None => snapshot.preferred.store(0, Relaxed),
        }
        true
    }

    fn step_list(&self, id: u64, list: &mut Frozen) -> bool {
        let sink = self.keyspace.snapshot.sink.lock().clone();
        let mut see = |node: NodeRef<'_>| {
            if let Some(sink) = &sink {
                sink.piece(id, Piece::Node(node));
            }
        };
        if (0..SLICE_NODES).all(|_| list.step(&mut see)) {
            return true;
        }
        self.end(id);
        false
    }

    fn end(&self, id: u64) {
        let snapshot = &self.keyspace.snapshot;
        if let Some(sink) = &*snapshot.sink.lock() {
            sink.end(id);
        }
        snapshot.n_open.fetch_sub(1, AcqRel);
    }

    /// Saves some pieces of a collection; whether some are left.
    fn step_collection(&self, id: u64, entry: &mut Entry) -> bool {
        let sink = self.keyspace.snapshot.sink.lock().clone();
        let mut see = |piece: Piece<'_>| {
            if let Some(sink) = &sink {
                sink.piece(id, piece);
            }
        };
        let is_more = entry
            .big_mut()
            .is_some_and(|collection| collection.step(SLICE_ENTRIES, &mut see));
        if !is_more {
            self.end(id);
        }
        is_more
    }

    /// The same for one that is in a shard, or in that of another database since an exchange. False
    /// too if it has gone from there: then another work follows it.
    fn step_in_shard(&self, id: u64, shard: ShardId, key: &[u8]) -> bool {
        let n_swaps = &self.keyspace.snapshot.n_swaps;
        loop {
            let before = n_swaps.load(Acquire);
            let others = (0..self.keyspace.n_databases())
                .filter(|&database| self.keyspace.existing_shards(database).is_some())
                .map(|database| ShardId::new(database, shard.shard()));
            let found = std::iter::once(shard)
                .chain(others)
                .find_map(|shard| self.step_there(id, shard, key));
            // Whoever exchanges holds the locks from before it counts, so nothing was overlooked.
            if found.is_some() || n_swaps.load(Acquire) == before {
                return found == Some(true);
            }
        }
    }

    /// `None`: it is not there.
    fn step_there(&self, id: u64, shard: ShardId, key: &[u8]) -> Option<bool> {
        let home = self.keyspace.shard(shard);
        home.lock.lock();
        // SAFETY: the lock is held until the end of the block.
        unsafe {
            let found = home.room().table.get(hash(key), key);
            let is_more = found
                .filter(|entry| entry.walk_id() == Some(id))
                .map(|entry| self.step_collection(id, &mut handle_of(&entry)));
            home.lock.unlock();
            is_more
        }
    }

    /// Ends the walk, unless a table was flushed since it was last looked for, or a collection that
    /// is being saved is about to be put somewhere else.
    fn finish(&mut self) -> bool {
        let snapshot = &self.keyspace.snapshot;
        let detached = snapshot.detached.lock();
        if !detached.is_empty()
            || snapshot.is_swapped.load(Relaxed)
            || snapshot.n_open.load(Acquire) > 0
        {
            return true;
        }
        snapshot.is_walking.store(false, Relaxed);
        *snapshot.sink.lock() = None;
        self.is_done = true;
        false
    }
}

/// About how much saving an entry is. O(1).
fn bytes_about(entry: &Entry) -> usize {
    match entry.payload() {
        Payload::Int(_) => size_of::<i64>(),
        Payload::Blob(bytes) => bytes.len(),
        Payload::Big(_) => SLICE_BYTES / 4, // it has no more than a slice's, or is only begun
    }
}

/// Saves and marks an entry that a walk meets under its lock.
fn save(snapshot: &Snapshot, place: (ShardId, u16), entry: &Entry) {
    if entry.is_marked() != snapshot.mark() {
        snapshot.save_first(place, &mut handle_of(entry));
    }
}

/// A second handle on an entry that the caller has to itself, by its shard's lock or as a detached
/// table's owner. It does not own the entry.
fn handle_of(entry: &Entry) -> ManuallyDrop<Entry> {
    // SAFETY: an entry is one pointer, and the handle is forgotten, so the table keeps ownership.
    unsafe {
        let raw = std::ptr::from_ref(entry).cast::<NonNull<u8>>().read();
        ManuallyDrop::new(Entry::from_raw(raw))
    }
}
