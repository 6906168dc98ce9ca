//! One database as a command sees it: reading through [`View`], changing through [`Db`].
//!
//! What is past its deadline is gone before anybody sees it: the look-up removes it and notes the
//! departure, for the engine to journal and announce. Before anything changes, a running snapshot
//! gets the entry as it was.

#![allow(unsafe_code)]

mod made;
mod swap;

pub use made::Made;

use crate::access::{AccessClock, Trace};
use crate::deadline::DeadlineIndex;
use crate::entry::{Birth, Entry};
use crate::keyspace::{ShardId, Trash};
use crate::locked::Locked;
use crate::shard::{Entries, Room};
use datatypes::encoding::listpack;
use datatypes::encoding::table::{Inline, Occupied, Record, Ref, hash};
use datatypes::hash::{self, HashMut, HashRef};
use datatypes::home::{Collection, Encoding, Home, Kind, Limits, NewPayload, Payload};
use datatypes::list::{ListMut, ListRef};
use datatypes::set::{self, SetMut, SetRef};
use datatypes::stream::{self, Stream, StreamMut};
use datatypes::string::{self, StringMut, StringRef};
use datatypes::value::ValueRef;
use datatypes::zset::{ZsetMut, ZsetRef};
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::Ordering::Relaxed;

/// Hints of a shard that may be stale beyond one for each volatile key.
const STALE_ALLOWED: usize = 64;

/// The key holds a value of another type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WrongType;

/// What happens to a deadline when a value is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Expiry {
    /// It stays.
    Keep,
    /// It goes.
    Clear,
    /// It becomes this Unix time.
    At(u64),
}

impl Expiry {
    /// The deadline of a value that follows one with the deadline `old_ms`.
    #[inline]
    fn after(self, old_ms: Option<u64>) -> Option<u64> {
        match self {
            Expiry::Keep => old_ms,
            Expiry::Clear => None,
            Expiry::At(deadline_ms) => Some(deadline_ms),
        }
    }
}

/// What a view notes besides, where departures are noted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Noted {
    /// Keys that come to be.
    pub arrivals: bool,
    /// Keys that were looked for in vain.
    pub misses: bool,
}

/// Something that went because its time had come, or that [`Noted`] asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Departed {
    /// A key.
    Key {
        /// Its database.
        database: u16,
        /// The key.
        key: Box<[u8]>,
    },
    /// Fields of a hash.
    Fields {
        /// The hash's database.
        database: u16,
        /// The hash's key.
        key: Box<[u8]>,
        /// The fields.
        fields: Vec<Box<[u8]>>,
        /// No field was left, so the key went too.
        emptied: bool,
    },
    /// A key came to be, for whoever is told of that.
    Arrived {
        /// Its database.
        database: u16,
        /// The key.
        key: Box<[u8]>,
    },
    /// A key was looked for and is not there, for whoever is told of that.
    Missed {
        /// The database.
        database: u16,
        /// The key.
        key: Box<[u8]>,
    },
    /// A key that is due and still there: a walk met it, which holds nothing for longer than a look.
    Met {
        /// Its database.
        database: u16,
        /// The key.
        key: Box<[u8]>,
    },
}

/// What a command's view of the data depends on, fixed while it runs.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Unix time.
    pub now_ms: u64,
    /// The trace that a use leaves.
    pub trace: Trace<'a>,
    /// The thresholds of small encodings.
    pub limits: &'a Limits,
    /// What is due is not there for who reads, but stays: nothing changes now.
    pub keeps_due: bool,
    /// Where departures are noted.
    pub departed: &'a RefCell<Vec<Departed>>,
}

/// A database, for reading.
pub struct View<'a> {
    locked: &'a Locked<'a>,
    /// A `u32` as in [`ShardId`], which reads it: a read that is wider than the write before it waits for that.
    database: u32,
    terms: Terms<'a>,
    /// Keys looked for, and keys found.
    lookups: Cell<(u32, u32)>,
    /// Keys whose hashes are known, from the one looked for last.
    known: Cell<&'a [KnownHash]>,
    /// What is due is there as if it were not.
    sees_due: Cell<bool>,
    noted: Cell<Noted>,
}

/// A key whose hash is known. The key outlives every view that is told of it, so its address stands
/// for its bytes.
#[derive(Clone, Copy, Debug)]
pub struct KnownHash {
    key: *const [u8],
    hash: u64,
}

impl KnownHash {
    /// The hash of `key`.
    #[inline]
    pub fn new(key: &[u8], hash: u64) -> KnownHash {
        KnownHash { key, hash }
    }

    /// The hash.
    #[inline]
    pub fn hash(self) -> u64 {
        self.hash
    }
}

impl<'a> View<'a> {
    /// The database `database` through the shards in `locked`.
    #[inline]
    pub fn new(locked: &'a Locked<'a>, database: u16, terms: Terms<'a>) -> View<'a> {
        View {
            locked,
            database: database.into(),
            terms,
            lookups: Cell::new((0, 0)),
            known: Cell::new(&[]),
            sees_due: Cell::new(false),
            noted: Cell::new(Noted::default()),
        }
    }

    /// Says what to note from here on.
    #[inline]
    pub fn note(&self, what: Noted) {
        self.noted.set(what);
    }

    /// From here on what is due is there, and stays: for who brings in another server's data.
    pub fn see_due(&self) {
        self.sees_due.set(true);
    }

    /// Unix time up to which deadlines count as passed.
    fn due_ms(&self) -> u64 {
        match self.sees_due.get() {
            true => 0,
            false => self.terms.now_ms,
        }
    }

    /// Says the hashes of the keys that the command is about, in its order, so that they are computed
    /// once. The keys must outlive the view.
    #[inline]
    pub fn remember_hashes(&self, known: &'a [KnownHash]) {
        self.known.set(known);
    }

    #[inline]
    fn hash_of(&self, key: &[u8]) -> u64 {
        match self.known.get() {
            [first, ..] if std::ptr::eq(first.key, key) => first.hash,
            known @ [_, next, ..] if std::ptr::eq(next.key, key) => {
                self.known.set(&known[1..]);
                next.hash
            }
            _ => hash(key),
        }
    }

    #[inline]
    fn shard_of(&self, hash: u64) -> ShardId {
        self.locked.keyspace().shard_of(self.number(), hash)
    }

    /// Another database under the same locks; for the transaction.
    pub fn at(&self, database: u16) -> View<'a> {
        let other = View::new(self.locked, database, self.terms);
        other.sees_due.set(self.sees_due.get());
        other.noted.set(self.noted.get());
        other
    }

    /// Unix time, the same for the whole command.
    pub fn now_ms(&self) -> u64 {
        self.terms.now_ms
    }

    /// The database's number.
    pub fn number(&self) -> u16 {
        self.database as u16
    }

    /// The thresholds of small encodings.
    pub fn limits(&self) -> &'a Limits {
        self.terms.limits
    }

    /// The present as access clocks see it.
    pub fn access_clock(&self) -> &'a AccessClock {
        self.terms.trace.clock
    }

    /// The locks this view works under.
    pub fn locked(&self) -> &'a Locked<'a> {
        self.locked
    }

    /// Keys, those past their deadline included until they are met. O(shards).
    pub fn len(&self) -> usize {
        self.locked.keyspace().len(self.number())
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many keys this view was asked for, and how many of them there were.
    #[inline]
    pub fn lookups(&self) -> (u32, u32) {
        self.lookups.get()
    }

    /// The entry of `key`. O(1).
    #[inline]
    pub fn entry(&self, key: &[u8]) -> Option<Ref<'_, Entry>> {
        let found = self.look_up(key);
        let (asked, hits) = self.lookups.get();
        self.lookups
            .set((asked + 1, hits + u32::from(found.is_some())));
        if found.is_none() && self.noted.get().misses {
            self.note_miss(key);
        }
        found
    }

    #[cold]
    fn note_miss(&self, key: &[u8]) {
        let (database, key) = (self.number(), key.into());
        let missed = Departed::Missed { database, key };
        self.terms.departed.borrow_mut().push(missed);
    }

    #[inline]
    fn look_up(&self, key: &[u8]) -> Option<Ref<'_, Entry>> {
        let hash = self.hash_of(key);
        let id = self.shard_of(hash);
        if !self.locked.reaches(id) && !self.is_made() {
            return None;
        }
        let room = self.locked.room(id);
        let found = room.table.get(hash, key)?;
        if found.flag && is_due(&found, self.due_ms()) {
            return self.purged(id, hash, key);
        }
        self.terms.trace.touch(&found);
        Some(found)
    }

    /// Whether this database has shards; one that has had no key may not.
    fn is_made(&self) -> bool {
        let keyspace = self.locked.keyspace();
        keyspace.existing_shards(self.number()).is_some()
    }

    /// What is left of a key that is due, or whose fields are: nothing, or a smaller hash.
    #[cold]
    fn purged(&self, id: ShardId, hash: u64, key: &[u8]) -> Option<Ref<'_, Entry>> {
        if self.terms.keeps_due {
            let found = self.locked.room(id).table.get(hash, key)?;
            let is_gone = found
                .deadline_ms()
                .is_some_and(|ms| ms <= self.terms.now_ms);
            return (!is_gone).then_some(found);
        }
        purge(self.locked, id, self.terms, hash, key);
        let found = self.locked.room(id).table.get(hash, key)?;
        self.terms.trace.touch(&found);
        Some(found)
    }

    /// Whether `key` exists.
    pub fn exists(&self, key: &[u8]) -> bool {
        self.entry(key).is_some()
    }

    /// The type of `key`.
    pub fn kind(&self, key: &[u8]) -> Option<Kind> {
        self.entry(key).map(|entry| entry.encoding().kind())
    }

    /// When `key` is gone, if it exists.
    pub fn deadline_ms(&self, key: &[u8]) -> Option<Option<u64>> {
        self.entry(key).map(|entry| entry.deadline_ms())
    }

    #[inline]
    fn payload(&self, key: &[u8]) -> Option<(Encoding, Payload<'_>)> {
        let entry = self.entry(key)?;
        let payload = entry.payload();
        // SAFETY: the payload lives in the entry's block, which stays while the shard is locked
        // and unchanged while the view is borrowed; only the handle `entry` ends here.
        let payload = unsafe { std::mem::transmute::<Payload<'_>, Payload<'_>>(payload) };
        Some((entry.encoding(), payload))
    }

    /// Bytes that the value of `key` occupies outside its entry.
    pub fn big_bytes(&self, key: &[u8]) -> usize {
        match self.payload(key) {
            Some((encoding, payload @ Payload::Big(_))) => {
                ValueRef::new(encoding, payload).allocated_bytes()
            }
            _ => 0,
        }
    }

    /// The value of `key`.
    pub fn value(&self, key: &[u8]) -> Option<ValueRef<'_>> {
        self.payload(key)
            .map(|(encoding, payload)| ValueRef::new(encoding, payload))
    }

    #[inline]
    fn of_kind(
        &self,
        key: &[u8],
        kind: Kind,
    ) -> Result<Option<(Encoding, Payload<'_>)>, WrongType> {
        match self.payload(key) {
            Some((encoding, _)) if encoding.kind() != kind => Err(WrongType),
            found => Ok(found),
        }
    }

    /// The string at `key`.
    #[inline]
    pub fn string(&self, key: &[u8]) -> Result<Option<StringRef<'_>>, WrongType> {
        let found = self.of_kind(key, Kind::String)?;
        Ok(found.and_then(|(encoding, payload)| string::view(encoding, payload)))
    }

    /// The list at `key`.
    pub fn list(&self, key: &[u8]) -> Result<Option<ListRef<'_>>, WrongType> {
        let found = self.of_kind(key, Kind::List)?;
        Ok(found.and_then(|(encoding, payload)| ListRef::new(encoding, payload)))
    }

    /// The set at `key`.
    pub fn set(&self, key: &[u8]) -> Result<Option<SetRef<'_>>, WrongType> {
        let found = self.of_kind(key, Kind::Set)?;
        Ok(found.and_then(|(encoding, payload)| SetRef::new(encoding, payload)))
    }

    /// The hash at `key`.
    pub fn hash(&self, key: &[u8]) -> Result<Option<HashRef<'_>>, WrongType> {
        let found = self.of_kind(key, Kind::Hash)?;
        Ok(found.and_then(|(encoding, payload)| HashRef::new(encoding, payload)))
    }

    /// The sorted set at `key`.
    pub fn zset(&self, key: &[u8]) -> Result<Option<ZsetRef<'_>>, WrongType> {
        let found = self.of_kind(key, Kind::Zset)?;
        Ok(found.and_then(|(encoding, payload)| ZsetRef::new(encoding, payload)))
    }

    /// The stream at `key`.
    pub fn stream(&self, key: &[u8]) -> Result<Option<&Stream>, WrongType> {
        let found = self.of_kind(key, Kind::Stream)?;
        Ok(found.and_then(|(encoding, payload)| stream::view(encoding, payload)))
    }

    /// Visits the entries behind `cursor` (0 starts) and returns the next cursor (0: done). What
    /// is past its deadline is passed over. O(entries of one bucket, or 64 empty shards).
    pub fn scan(&self, cursor: u64, visit: &mut dyn FnMut(&Entry)) -> u64 {
        self.scan_all(cursor, &mut |entry, is_due| {
            if !is_due {
                visit(entry);
            }
        })
    }

    /// Notes a key that is due, for the engine to remove, unless what is due stays.
    pub fn note_due(&self, key: &[u8]) {
        if self.terms.keeps_due {
            return;
        }
        let met = Departed::Met {
            database: self.number(),
            key: key.into(),
        };
        self.terms.departed.borrow_mut().push(met);
    }

    /// The same as [`View::scan`], with what is past its deadline; which the second argument says.
    pub fn scan_all(&self, cursor: u64, visit: &mut dyn FnMut(&Entry, bool)) -> u64 {
        let keyspace = self.locked.keyspace();
        if keyspace.existing_shards(self.number()).is_none() {
            return 0;
        }
        let n_shards = u64::from(keyspace.n_shards());
        let (mut shard, mut inner) = (cursor % n_shards, cursor / n_shards);
        let mut n_seen = 0;
        loop {
            let id = ShardId::new(self.number(), shard as u16);
            inner = self.locked.with_room(id, |room| {
                room.table.scan(inner, &mut |entry| {
                    let deadline_ms = entry.deadline_ms();
                    let is_due = deadline_ms.is_some_and(|ms| ms <= self.due_ms());
                    n_seen += usize::from(!is_due);
                    visit(&entry, is_due);
                })
            });
            if inner != 0 {
                return inner * n_shards + shard;
            }
            shard += 1;
            if shard == n_shards {
                return 0;
            }
            if n_seen > 0 {
                return shard;
            }
        }
    }

    /// Visits all entries that are not past their deadline, shard by shard. O(entries).
    pub fn each(&self, visit: &mut dyn FnMut(&Entry)) {
        let mut cursor = 0;
        loop {
            cursor = self.scan(cursor, visit);
            if cursor == 0 {
                return;
            }
        }
    }

    /// A key chosen by `random`: a shard in proportion to its entries, then an entry in it. Where what is due
    /// stays, it may be one of these if there is nothing else.
    pub fn random_key(&self, random: u64) -> Option<Vec<u8>> {
        let keyspace = self.locked.keyspace();
        let shards = keyspace.existing_shards(self.number())?;
        let (mut random, mut late) = (random, None);
        for _ in 0..100 {
            let total = self.len() as u64;
            let mut pick = random % total.max(1);
            let shard = shards.iter().position(|shard| {
                let len = shard.len.load(Relaxed) as u64;
                let here = pick < len;
                pick = pick.saturating_sub(len);
                here
            })?;
            let id = ShardId::new(self.number(), shard as u16);
            let found = self.locked.with_room(id, |room| {
                let entry = room.table.sample(random)?;
                let is_due = entry.deadline_ms().is_some_and(|ms| ms <= self.due_ms());
                Some((entry.key().to_vec(), is_due))
            });
            match found {
                Some((key, false)) => return Some(key),
                Some((key, true)) => {
                    self.note_due(&key);
                    late = Some(key);
                }
                None => {}
            }
            random = random
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(31)
                .wrapping_add(1);
        }
        let mut first = None;
        self.each(&mut |entry| {
            first.get_or_insert_with(|| entry.key().to_vec());
        });
        first.or(late.filter(|_| self.terms.keeps_due))
    }
}

/// Whether an entry, or a field of it, is past its deadline. Asked of flagged entries only.
fn is_due(entry: &Entry, now_ms: u64) -> bool {
    entry.deadline_ms().is_some_and(|ms| ms <= now_ms)
        || next_field_ms(entry).is_some_and(|ms| ms <= now_ms)
}

/// Removes `key` if its deadline has passed, and fields of it whose deadlines have.
#[cold]
fn purge(locked: &Locked<'_>, id: ShardId, terms: Terms<'_>, hash: u64, key: &[u8]) {
    let room = locked.room(id);
    let due_at = room
        .table
        .get(hash, key)
        .map(|entry| (entry.deadline_ms(), entry.may_hold_field_deadlines()));
    let Some((deadline_ms, has_fields)) = due_at else {
        return;
    };
    if deadline_ms.is_some_and(|ms| ms <= terms.now_ms) {
        remove(locked, id, room, hash, key);
        let departed = Departed::Key {
            database: id.database(),
            key: key.into(),
        };
        terms.departed.borrow_mut().push(departed);
    } else if has_fields {
        purge_fields(locked, id, room, terms, hash, key);
    }
}

fn purge_fields(
    locked: &Locked<'_>,
    id: ShardId,
    room: &mut Room,
    terms: Terms<'_>,
    hash: u64,
    key: &[u8],
) {
    let Some(home) = EntryMut::open(locked, id, room, hash, key) else {
        return;
    };
    let next = next_field_ms(&home.place.read());
    if next.is_none_or(|ms| ms > terms.now_ms) {
        return;
    }
    let mut home = home;
    home.save_first();
    let mut handle = HashMut::new(home, terms.limits);
    let mut fields: Vec<Box<[u8]>> = Vec::new();
    handle.expire_due(terms.now_ms, &mut |field: &[u8]| fields.push(field.into()));
    let emptied = handle.view().is_empty();
    if emptied {
        remove(locked, id, room, hash, key);
    }
    let key = key.into();
    let departed = Departed::Fields {
        database: id.database(),
        key,
        fields,
        emptied,
    };
    terms.departed.borrow_mut().push(departed);
}

/// When the first field of a hash falls due; `None` for other values.
fn next_field_ms(entry: &Entry) -> Option<u64> {
    if !entry.may_hold_field_deadlines() {
        return None;
    }
    match ValueRef::new(entry.encoding(), entry.payload()) {
        ValueRef::Hash(hash) => hash.next_deadline(),
        _ => None,
    }
}

/// Takes an entry out of its shard; a running snapshot gets it first.
fn take_out(locked: &Locked<'_>, id: ShardId, mut home: EntryMut<'_>) -> Entry {
    home.save_first();
    home.set_volatile(false);
    let deadline_ms = home.place.read().deadline_ms();
    let is_fielded = home.place.read().may_hold_field_deadlines();
    locked.shard(id).count_deadline(deadline_ms, None);
    locked.shard(id).count_fielded(is_fielded, false);
    let entry = home.place.remove();
    let len = locked.room(id).table.len();
    locked.shard(id).len.store(len, Relaxed);
    entry
}

fn remove(locked: &Locked<'_>, id: ShardId, room: &mut Room, hash: u64, key: &[u8]) {
    if let Some(home) = EntryMut::open(locked, id, room, hash, key) {
        let entry = take_out(locked, id, home);
        locked.keyspace().discard(Trash::Entry(entry));
    }
}

/// A database, for changing. Reads as its [`View`].
pub struct Db<'a> {
    view: View<'a>,
}

impl<'a> Deref for Db<'a> {
    type Target = View<'a>;
    fn deref(&self) -> &View<'a> {
        &self.view
    }
}

impl<'a> Db<'a> {
    /// See [`View::new`].
    #[inline]
    pub fn new(locked: &'a Locked<'a>, database: u16, terms: Terms<'a>) -> Db<'a> {
        Db {
            view: View::new(locked, database, terms),
        }
    }

    /// The entry of `key` as it is, with no snapshot told. One walk through its bucket.
    #[inline]
    fn find(&self, key: &[u8]) -> (ShardId, u64, Option<EntryMut<'a>>) {
        self.find_hashed(key, self.view.hash_of(key))
    }

    #[inline]
    fn find_hashed(&self, key: &[u8], hash: u64) -> (ShardId, u64, Option<EntryMut<'a>>) {
        let id = self.view.shard_of(hash);
        let (locked, terms) = (self.view.locked, self.view.terms);
        let mut found = EntryMut::open(locked, id, locked.room(id), hash, key);
        if let Some(home) = &found {
            let entry = home.place.read();
            if home.place.flag() && is_due(&entry, self.view.due_ms()) {
                purge(locked, id, terms, hash, key);
                found = EntryMut::open(locked, id, locked.room(id), hash, key);
            } else {
                terms.trace.touch(&entry);
            }
        }
        (id, hash, found)
    }

    /// The entry of `key`, to be changed in place.
    #[inline]
    fn open(&mut self, key: &[u8]) -> Option<EntryMut<'a>> {
        let mut home = self.find(key).2?;
        home.save_first();
        Some(home)
    }

    #[inline]
    fn open_kind(&mut self, key: &[u8], kind: Kind) -> Result<Option<EntryMut<'a>>, WrongType> {
        match self.open(key) {
            Some(home) if home.encoding().kind() != kind => Err(WrongType),
            found => Ok(found),
        }
    }

    /// The entry of `key`, made with this payload if there is none.
    #[inline]
    fn open_or_new(
        &mut self,
        key: &[u8],
        kind: Kind,
        fresh: impl FnOnce() -> (Encoding, NewPayload<'static>),
    ) -> Result<EntryMut<'a>, WrongType> {
        let (id, hash, found) = self.find(key);
        if let Some(mut home) = found {
            if home.encoding().kind() != kind {
                return Err(WrongType);
            }
            home.save_first();
            return Ok(home);
        }
        let (encoding, payload) = fresh();
        let entry = Entry::new(self.birth(key, None), encoding, payload);
        let locked = self.view.locked;
        self.arrived(key);
        Ok(insert(locked, id, locked.room(id), hash, entry))
    }

    #[inline]
    fn arrived(&self, key: &[u8]) {
        if self.view.noted.get().arrivals {
            self.note_arrival(key);
        }
    }

    #[cold]
    fn note_arrival(&self, key: &[u8]) {
        let (database, key) = (self.view.number(), key.into());
        let arrived = Departed::Arrived { database, key };
        self.view.terms.departed.borrow_mut().push(arrived);
    }

    /// Takes the keys that came to be, as noted.
    pub fn take_arrivals(&self) -> Vec<(u16, Box<[u8]>)> {
        let mut arrivals = Vec::new();
        self.view
            .terms
            .departed
            .borrow_mut()
            .retain_mut(|one| match one {
                Departed::Arrived { database, key } => {
                    arrivals.push((*database, std::mem::take(key)));
                    false
                }
                _ => true,
            });
        arrivals
    }

    fn birth<'k>(&self, key: &'k [u8], deadline_ms: Option<u64>) -> Birth<'k> {
        Birth {
            key,
            deadline_ms,
            mark: self.view.locked.keyspace().snapshot.mark(),
            clock: self.view.terms.trace.birth(),
        }
    }

    /// Replaces the value of `key`, whatever it held; whether it held something. O(1).
    #[inline]
    pub fn put(
        &mut self,
        key: &[u8],
        encoding: Encoding,
        payload: NewPayload<'_>,
        expiry: Expiry,
    ) -> bool {
        let locked = self.view.locked;
        let (id, hash, found) = self.find(key); // what has expired goes first, with its own event
        let Some(mut home) = found else {
            let entry = Entry::new(self.birth(key, expiry.after(None)), encoding, payload);
            insert(locked, id, locked.room(id), hash, entry);
            self.arrived(key);
            return false;
        };
        home.save_first();
        let (old, is_heavy) = {
            let entry = home.place.read();
            let is_heavy = entry.is_heavy() || entry.walk_id().is_some();
            (entry.deadline_ms(), is_heavy)
        };
        let new = expiry.after(old);
        let was_fielded = home.place.read().may_hold_field_deadlines();
        locked.shard(id).count_fielded(was_fielded, false);
        if is_heavy {
            let fresh = Entry::new(self.birth(key, new), encoding, payload);
            let heavy = home.place.replace(fresh);
            locked.keyspace().discard(Trash::Entry(heavy));
        } else {
            home.place.update(|entry| {
                let mut entry = entry.with_payload(encoding, payload).with_deadline(new);
                entry.set_field_deadlines(false);
                entry
            });
        }
        home.settle_deadline(old, new);
        true
    }

    /// Sets a string, as an integer where its text is one. O(bytes).
    #[inline]
    pub fn set_string(&mut self, key: &[u8], value: &[u8], expiry: Expiry) {
        let (encoding, payload) = string::fresh(value);
        self.put(key, encoding, payload, expiry);
    }

    /// The string at `key`, for changing.
    pub fn string_mut(&mut self, key: &[u8]) -> Result<Option<StringMut<EntryMut<'_>>>, WrongType> {
        Ok(self.open_kind(key, Kind::String)?.map(StringMut::new))
    }

    /// The list at `key`, for changing.
    pub fn list_mut(&mut self, key: &[u8]) -> Result<Option<ListMut<'a, EntryMut<'_>>>, WrongType> {
        let limits = self.view.terms.limits;
        Ok(self
            .open_kind(key, Kind::List)?
            .map(|home| ListMut::new(home, limits)))
    }

    /// The set at `key`, for changing.
    pub fn set_mut(&mut self, key: &[u8]) -> Result<Option<SetMut<'a, EntryMut<'_>>>, WrongType> {
        let limits = self.view.terms.limits;
        Ok(self
            .open_kind(key, Kind::Set)?
            .map(|home| SetMut::new(home, limits)))
    }

    /// The hash at `key`, for changing.
    pub fn hash_mut(&mut self, key: &[u8]) -> Result<Option<HashMut<'a, EntryMut<'_>>>, WrongType> {
        let limits = self.view.terms.limits;
        Ok(self
            .open_kind(key, Kind::Hash)?
            .map(|home| HashMut::new(home, limits)))
    }

    /// The sorted set at `key`, for changing.
    pub fn zset_mut(&mut self, key: &[u8]) -> Result<Option<ZsetMut<'a, EntryMut<'_>>>, WrongType> {
        let limits = self.view.terms.limits;
        Ok(self
            .open_kind(key, Kind::Zset)?
            .map(|home| ZsetMut::new(home, limits)))
    }

    /// The stream at `key`, for changing.
    pub fn stream_mut(&mut self, key: &[u8]) -> Result<Option<StreamMut<EntryMut<'_>>>, WrongType> {
        Ok(self.open_kind(key, Kind::Stream)?.map(StreamMut::new))
    }

    /// The stream at `key`, an empty one if there is none.
    pub fn stream_or_new(&mut self, key: &[u8]) -> Result<StreamMut<EntryMut<'_>>, WrongType> {
        let fresh = || stream::payload_of(Stream::new());
        Ok(StreamMut::new(self.open_or_new(key, Kind::Stream, fresh)?))
    }

    /// The list at `key`, an empty one if there is none.
    pub fn list_or_new(&mut self, key: &[u8]) -> Result<ListMut<'a, EntryMut<'_>>, WrongType> {
        let limits = self.view.terms.limits;
        Ok(ListMut::new(self.open_or_new(key, Kind::List, fresh_list)?, limits))
    }

    /// The hash at `key`, an empty one if there is none.
    pub fn hash_or_new(&mut self, key: &[u8]) -> Result<HashMut<'a, EntryMut<'_>>, WrongType> {
        let limits = self.view.terms.limits;
        Ok(HashMut::new(self.open_or_new(key, Kind::Hash, hash::fresh)?, limits))
    }

    /// The sorted set at `key`, an empty one if there is none.
    pub fn zset_or_new(&mut self, key: &[u8]) -> Result<ZsetMut<'a, EntryMut<'_>>, WrongType> {
        let limits = self.view.terms.limits;
        Ok(ZsetMut::new(self.open_or_new(key, Kind::Zset, fresh_zset)?, limits))
    }

    /// The set at `key`, an empty one fit for `n` members like `first` if there is none.
    pub fn set_or_new(
        &mut self,
        key: &[u8],
        first: &[u8],
        n: usize,
    ) -> Result<SetMut<'a, EntryMut<'_>>, WrongType> {
        let limits = self.view.terms.limits;
        let home = self.open_or_new(key, Kind::Set, || set::fresh(first, n, limits))?;
        Ok(SetMut::new(home, limits))
    }

    /// Removes `key`; whether it was there. O(1), big values are freed elsewhere.
    pub fn remove(&mut self, key: &[u8]) -> bool {
        self.take(key)
            .map(|entry| self.view.locked.keyspace().discard(Trash::Entry(entry)))
            .is_some()
    }

    /// Takes `key` out, with value and deadline, to be put elsewhere by [`Db::put_entry`] under the
    /// same locks.
    pub fn take(&mut self, key: &[u8]) -> Option<Entry> {
        let (id, _, found) = self.find(key);
        Some(take_out(self.view.locked, id, found?))
    }

    /// Puts an entry taken from elsewhere under `key`, in place of what is there.
    pub fn put_entry(&mut self, key: &[u8], entry: Entry) {
        self.remove(key);
        let hash = self.view.hash_of(key);
        let id = self.view.shard_of(hash);
        let locked = self.view.locked;
        let entry = entry.with_key(key, locked.keyspace().snapshot.mark());
        let fields = next_field_ms(&entry);
        if let Some(walk_id) = entry.walk_id() {
            locked.keyspace().snapshot.follow(walk_id, id, key);
        }
        self.arrived(key);
        let mut home = insert(locked, id, locked.room(id), hash, entry);
        if let Some(deadline_ms) = fields {
            home.schedule(deadline_ms);
        }
    }

    /// Sets or clears the deadline of `key`; whether the key is there. O(entry).
    pub fn set_deadline(&mut self, key: &[u8], deadline_ms: Option<u64>) -> bool {
        let Some(mut home) = self.open(key) else {
            return false;
        };
        let old = home.place.read().deadline_ms();
        home.place.update(|entry| entry.with_deadline(deadline_ms));
        let is_volatile = deadline_ms.is_some() || home.place.read().may_hold_field_deadlines();
        home.set_volatile(is_volatile);
        home.locked.shard(home.id).count_deadline(old, deadline_ms);
        if let Some(deadline_ms) = deadline_ms.filter(|&new| old.is_none_or(|old| new < old)) {
            home.file(deadline_ms);
        }
        true
    }

    /// Tells the watchers of `key` that it changed; whether somebody waits for it. O(1).
    #[inline]
    pub fn touch(&self, key: &[u8]) -> bool {
        let id = self.view.shard_of(self.view.hash_of(key));
        match self.view.locked.registry(id) {
            None => false,
            Some(registry) => {
                registry.touch(key);
                registry.has_waiter(key)
            }
        }
    }

    /// Whether somebody waits for `key`. O(1).
    pub fn has_waiter(&self, key: &[u8]) -> bool {
        let id = self.view.shard_of(self.view.hash_of(key));
        let registry = self.view.locked.registry(id);
        registry.is_some_and(|registry| registry.has_waiter(key))
    }

    /// Works on another database under the same locks; for the transaction.
    pub fn other<T>(&mut self, database: u16, work: impl FnOnce(&mut Db<'a>) -> T) -> T {
        let mut other = Db::new(self.view.locked, database, self.view.terms);
        other.view.noted.set(self.view.noted.get());
        work(&mut other)
    }

    /// Deletes every key; how many there were. For the transaction. O(shards).
    pub fn clear(&mut self) -> usize {
        let (locked, database) = (self.view.locked, self.view.number());
        let keyspace = locked.keyspace();
        let n_shards = keyspace.existing_shards(database).map_or(0, <[_]>::len);
        let (mut n_keys, mut tables) = (0, Vec::new());
        for shard in 0..n_shards {
            let id = ShardId::new(database, shard as u16);
            let room = locked.room(id);
            if room.table.is_empty() && room.deadlines.is_none() {
                continue;
            }
            n_keys += room.table.len();
            if let Some(registry) = &room.registry {
                registry.touch_if(|key| room.table.get(hash(key), key).is_some());
            }
            let table = std::mem::take(&mut room.table);
            room.deadlines = None;
            room.n_volatile = 0;
            locked.shard(id).len.store(0, Relaxed);
            locked.shard(id).set_deadline_count((0, 0, 0));
            keyspace.renew_due(id, None);
            if keyspace.snapshot.is_walking() {
                keyspace.snapshot.detach(room.database_at_cut(id), table);
            } else {
                tables.push(table);
            }
        }
        if !tables.is_empty() {
            keyspace.discard(Trash::Tables(tables));
        }
        n_keys
    }
}

fn fresh_list() -> (Encoding, NewPayload<'static>) {
    (Encoding::ListPack, NewPayload::Blob(&listpack::EMPTY))
}

fn fresh_zset() -> (Encoding, NewPayload<'static>) {
    (Encoding::ZsetPack, NewPayload::Blob(&listpack::EMPTY))
}

/// Expires what is due in one shard, at most `keys_max` keys. Whether some are left;
/// then the caller comes back, as the shard's next deadline is renewed only when none are.
pub fn expire_shard(locked: &Locked<'_>, id: ShardId, terms: Terms<'_>, keys_max: usize) -> bool {
    let mut keys = Vec::new();
    for _ in 0..keys_max {
        let room = locked.room(id);
        let deadlines = room.deadlines.as_mut();
        let Some(low) = deadlines.and_then(|deadlines| deadlines.pop_due(terms.now_ms)) else {
            break;
        };
        let mut later = None;
        room.table.with_low_hash(low, &mut |entry| {
            if !entry.flag {
                return;
            }
            let fields = next_field_ms(&entry);
            let next = entry.deadline_ms().into_iter().chain(fields).min();
            match next {
                Some(ms) if ms <= terms.now_ms => keys.push(entry.key().to_vec()),
                Some(ms) => later = Some(later.map_or(ms, |other: u64| other.min(ms))),
                None => {}
            }
        });
        for key in keys.drain(..) {
            let hash = hash(&key);
            purge(locked, id, terms, hash, &key);
            let left = locked
                .room(id)
                .table
                .get(hash, &key)
                .and_then(|entry| next_field_ms(&entry));
            later = later.into_iter().chain(left).min();
        }
        let room = locked.room(id);
        if let Some(ms) = later {
            room.deadlines.get_or_insert_default().file(ms, low);
        }
    }
    let deadlines = locked.room(id).deadlines.as_ref();
    let earliest = deadlines.and_then(|deadlines| deadlines.earliest_ms());
    let is_more = earliest.is_some_and(|ms| ms <= terms.now_ms);
    if !is_more {
        locked.keyspace().renew_due(id, earliest);
    }
    is_more
}

fn insert<'a>(
    locked: &'a Locked<'a>,
    id: ShardId,
    room: &'a mut Room,
    hash: u64,
    entry: Entry,
) -> EntryMut<'a> {
    let deadline_ms = entry.deadline_ms();
    locked
        .shard(id)
        .count_fielded(false, entry.may_hold_field_deadlines());
    let at_cut = room.database_at_cut(id);
    let len = room.table.len() + 1;
    let place = room.table.insert(hash, entry);
    locked.shard(id).len.store(len, Relaxed);
    let mut home = EntryMut {
        locked,
        id,
        place,
        deadlines: &mut room.deadlines,
        n_volatile: &mut room.n_volatile,
        at_cut,
    };
    if let Some(deadline_ms) = deadline_ms {
        home.set_volatile(true);
        locked.shard(id).count_deadline(None, Some(deadline_ms));
        home.file(deadline_ms);
    }
    home
}

/// Every deadline of a table, without the hints that nothing needs any more. O(entries).
#[cold]
fn gather(table: &Entries) -> DeadlineIndex {
    let mut fresh = DeadlineIndex::new();
    for entry in table.iter().filter(|entry| entry.flag) {
        let fields = next_field_ms(&entry);
        if let Some(deadline_ms) = entry.deadline_ms().into_iter().chain(fields).min() {
            fresh.file(deadline_ms, hash(entry.key()));
        }
    }
    fresh
}

fn save_first(
    locked: &Locked<'_>,
    (id, at_cut): (ShardId, u16),
    place: &mut Occupied<'_, Entry, Inline>,
) {
    place.update(|mut entry| {
        let snapshot = &locked.keyspace().snapshot;
        snapshot.save_first((id, at_cut), &mut entry);
        entry
    });
}

/// An entry in its shard: the home of a value.
pub struct EntryMut<'a> {
    locked: &'a Locked<'a>,
    id: ShardId,
    place: Occupied<'a, Entry, Inline>,
    deadlines: &'a mut Option<Box<DeadlineIndex>>,
    n_volatile: &'a mut usize,
    at_cut: u16,
}

impl<'a> EntryMut<'a> {
    fn open(
        locked: &'a Locked<'a>,
        id: ShardId,
        room: &'a mut Room,
        hash: u64,
        key: &[u8],
    ) -> Option<EntryMut<'a>> {
        let at_cut = room.database_at_cut(id);
        let place = room.table.find_mut(hash, key)?;
        let (deadlines, n_volatile) = (&mut room.deadlines, &mut room.n_volatile);
        Some(EntryMut {
            locked,
            id,
            place,
            deadlines,
            n_volatile,
            at_cut,
        })
    }

    fn save_first(&mut self) {
        if self.locked.keyspace().snapshot.is_walking() {
            save_first(self.locked, (self.id, self.at_cut), &mut self.place);
        }
    }

    fn set_volatile(&mut self, is_volatile: bool) {
        let was_volatile = self.place.flag();
        self.place.set_flag(is_volatile);
        *self.n_volatile = *self.n_volatile + usize::from(is_volatile) - usize::from(was_volatile);
    }

    /// Counts and files what the key's deadline has become.
    fn settle_deadline(&mut self, old: Option<u64>, new: Option<u64>) {
        self.set_volatile(new.is_some());
        self.locked.shard(self.id).count_deadline(old, new);
        if let Some(deadline_ms) = new.filter(|&new| old.is_none_or(|old| new < old)) {
            self.file(deadline_ms);
        }
    }

    /// Files a deadline; hints that outnumber the volatile keys by two are gathered anew.
    fn file(&mut self, deadline_ms: u64) {
        let deadlines = self.deadlines.get_or_insert_default();
        if deadlines.len() > 2 * *self.n_volatile + STALE_ALLOWED {
            **deadlines = gather(self.place.table());
        }
        deadlines.file(deadline_ms, self.place.hash());
        self.locked.lower_due(self.id, deadline_ms);
    }

    /// A second handle on the entry, which does not own it.
    fn handle(&self) -> ManuallyDrop<Entry> {
        let entry = self.place.read();
        let entry: &Entry = &entry;
        // SAFETY: an entry is one pointer; the copy is never dropped, and every use of it below
        // ends before the original is used again.
        unsafe {
            std::ptr::from_ref(entry)
                .cast::<ManuallyDrop<Entry>>()
                .read()
        }
    }
}

impl Home for EntryMut<'_> {
    #[inline]
    fn encoding(&self) -> Encoding {
        self.place.read().encoding()
    }

    #[inline]
    fn payload(&self) -> Payload<'_> {
        let entry = self.place.read();
        // SAFETY: the payload lives in the block, which stays while self is borrowed.
        unsafe { std::mem::transmute::<Payload<'_>, Payload<'_>>(entry.payload()) }
    }

    fn blob_mut(&mut self) -> &mut [u8] {
        let mut handle = self.handle();
        // SAFETY: as in `payload`, and the borrow of self is exclusive.
        unsafe { std::mem::transmute::<&mut [u8], &mut [u8]>(handle.blob_mut()) }
    }

    fn splice(&mut self, at: usize, remove: usize, insert: &[u8]) {
        self.place.update(|entry| entry.splice(at, remove, insert));
    }

    fn big_mut(&mut self) -> Option<&mut Collection> {
        let mut handle = self.handle();
        // SAFETY: as in `blob_mut`.
        unsafe {
            std::mem::transmute::<Option<&mut Collection>, Option<&mut Collection>>(
                handle.big_mut(),
            )
        }
    }

    fn put(&mut self, encoding: Encoding, payload: NewPayload<'_>) {
        self.place
            .update(|entry| entry.with_payload(encoding, payload));
    }

    fn schedule(&mut self, deadline_ms: u64) {
        self.locked.keyspace().note_field_deadline();
        let was_fielded = self.place.read().may_hold_field_deadlines();
        self.locked.shard(self.id).count_fielded(was_fielded, true);
        self.handle().set_field_deadlines(true);
        self.set_volatile(true);
        self.file(deadline_ms);
    }

    fn unschedule(&mut self) {
        if self.place.read().may_hold_field_deadlines() {
            self.locked.shard(self.id).count_fielded(true, false);
            self.handle().set_field_deadlines(false);
            let has_own = self.place.read().deadline_ms().is_some();
            self.set_volatile(has_own);
        }
    }
}

#[cfg(test)]
mod tests;
