//! One database as a command sees it: reading through [`View`], changing through [`Db`].
//!
//! What is past its deadline is gone before anybody sees it: the look-up removes it and notes the
//! departure, for the engine to journal and announce. Before anything changes, a running snapshot
//! gets the entry as it was.

mod swap;

use crate::entry::{Birth, Entry};
use crate::keyspace::{ShardId, Trash};
use crate::locked::Locked;
use crate::shard::Room;
use datatypes::encoding::listpack;
use datatypes::encoding::table::{Inline, Occupied, Record, Ref, hash};
use datatypes::hash::{self, HashMut, HashRef};
use datatypes::home::{Collection, Encoding, Home, Kind, Limits, NewPayload, Payload};
use datatypes::list::{ListMut, ListRef};
use datatypes::set::{self, SetMut, SetRef};
use datatypes::string::{self, StringMut, StringRef};
use datatypes::value::ValueRef;
use datatypes::zset::{ZsetMut, ZsetRef};
use std::cell::{Cell, RefCell};
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::sync::atomic::Ordering::Relaxed;

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

/// Something that went because its time had come.
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
}

/// What a command's view of the data depends on, fixed while it runs.
#[derive(Clone, Copy)]
pub struct Terms<'a> {
    /// Unix time.
    pub now_ms: u64,
    /// The access clock for what is touched; `None` leaves clocks alone.
    pub clock: Option<u32>,
    /// The thresholds of small encodings.
    pub limits: &'a Limits,
    /// Where departures are noted.
    pub departed: &'a RefCell<Vec<Departed>>,
}

/// A database, for reading.
pub struct View<'a> {
    locked: &'a Locked<'a>,
    database: u16,
    terms: Terms<'a>,
    /// The last key hashed, by address, so that a command hashes its key once.
    memo: Cell<(*const u8, usize, u64)>,
}

impl<'a> View<'a> {
    /// The database `database` through the shards in `locked`.
    #[inline]
    pub fn new(locked: &'a Locked<'a>, database: u16, terms: Terms<'a>) -> View<'a> {
        View {
            locked,
            database,
            terms,
            memo: Cell::new((std::ptr::null(), 0, 0)),
        }
    }

    /// Says the hash of a key that is about to be used.
    #[inline]
    pub fn remember_hash(&self, key: &[u8], hash: u64) {
        self.memo.set((key.as_ptr(), key.len(), hash));
    }

    #[inline]
    fn hash_of(&self, key: &[u8]) -> u64 {
        let (at, len, known) = self.memo.get();
        if at == key.as_ptr() && len == key.len() {
            return known;
        }
        let hash = hash(key);
        self.memo.set((key.as_ptr(), key.len(), hash));
        hash
    }

    #[inline]
    fn shard_of(&self, hash: u64) -> ShardId {
        self.locked.keyspace().shard_of(self.database, hash)
    }

    /// Another database under the same locks; for the transaction.
    pub fn at(&self, database: u16) -> View<'a> {
        View::new(self.locked, database, self.terms)
    }

    /// Unix time, the same for the whole command.
    pub fn now_ms(&self) -> u64 {
        self.terms.now_ms
    }

    /// The database's number.
    pub fn number(&self) -> u16 {
        self.database
    }

    /// The thresholds of small encodings.
    pub fn limits(&self) -> &'a Limits {
        self.terms.limits
    }

    /// The locks this view works under.
    pub fn locked(&self) -> &'a Locked<'a> {
        self.locked
    }

    /// Keys, those past their deadline included until they are met. O(shards).
    pub fn len(&self) -> usize {
        self.locked.keyspace().len(self.database)
    }

    /// Whether there are no keys.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The entry of `key`. O(1).
    #[inline]
    pub fn entry(&self, key: &[u8]) -> Option<Ref<'_, Entry>> {
        let hash = self.hash_of(key);
        let id = self.shard_of(hash);
        if !self.locked.reaches(id)
            && self
                .locked
                .keyspace()
                .existing_shards(self.database)
                .is_none()
        {
            return None;
        }
        let mut found = self.locked.room(id).table.get(hash, key)?;
        if found.flag {
            purge(self.locked, id, self.locked.room(id), self.terms, hash, key);
            found = self.locked.room(id).table.get(hash, key)?;
        }
        if let Some(clock) = self.terms.clock {
            found.touch(clock);
        }
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

    /// Visits the entries behind `cursor` (0 starts) and returns the next cursor (0: done). What
    /// is past its deadline is passed over. O(entries of one bucket, or 64 empty shards).
    pub fn scan(&self, cursor: u64, visit: &mut dyn FnMut(&Entry)) -> u64 {
        let keyspace = self.locked.keyspace();
        if keyspace.existing_shards(self.database).is_none() {
            return 0;
        }
        let n_shards = u64::from(keyspace.n_shards());
        let (mut shard, mut inner) = (cursor % n_shards, cursor / n_shards);
        let mut n_seen = 0;
        loop {
            let id = ShardId::new(self.database, shard as u16);
            inner = self.locked.with_room(id, |room| {
                room.table.scan(inner, &mut |entry| {
                    if entry
                        .deadline_ms()
                        .is_none_or(|deadline_ms| deadline_ms > self.terms.now_ms)
                    {
                        n_seen += 1;
                        visit(&entry);
                    }
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

    /// A key chosen by `random`: a shard in proportion to its entries, then an entry in it.
    pub fn random_key(&self, random: u64) -> Option<Vec<u8>> {
        let keyspace = self.locked.keyspace();
        let shards = keyspace.existing_shards(self.database)?;
        let mut random = random;
        for _ in 0..100 {
            let total = self.len() as u64;
            let mut pick = random % total.max(1);
            let shard = shards.iter().position(|shard| {
                let len = shard.len.load(Relaxed) as u64;
                let here = pick < len;
                pick = pick.saturating_sub(len);
                here
            })?;
            let id = ShardId::new(self.database, shard as u16);
            let key = self.locked.with_room(id, |room| {
                let entry = room.table.sample(random)?;
                let is_due = entry
                    .deadline_ms()
                    .is_some_and(|ms| ms <= self.terms.now_ms);
                (!is_due).then(|| entry.key().to_vec())
            });
            if key.is_some() {
                return key;
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
        first
    }
}

/// Removes `key` if its deadline has passed, and fields of it whose deadlines have.
#[cold]
fn purge(
    locked: &Locked<'_>,
    id: ShardId,
    room: &mut Room,
    terms: Terms<'_>,
    hash: u64,
    key: &[u8],
) {
    let Some(place) = room.table.find_mut(hash, key) else {
        return;
    };
    let (is_due, has_fields) = {
        let entry = place.read();
        let is_due = entry.deadline_ms().is_some_and(|ms| ms <= terms.now_ms);
        (is_due, entry.may_hold_field_deadlines())
    };
    if is_due {
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
    let next = field_deadline_ms(home.encoding(), home.payload());
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
fn field_deadline_ms(encoding: Encoding, payload: Payload<'_>) -> Option<u64> {
    match ValueRef::new(encoding, payload) {
        ValueRef::Hash(hash) => hash.next_deadline(),
        _ => None,
    }
}

/// Takes an entry out of its shard; a running snapshot gets it first.
fn take(locked: &Locked<'_>, id: ShardId, room: &mut Room, hash: u64, key: &[u8]) -> Option<Entry> {
    let at_cut = room.database_at_cut;
    let place = room.table.find_mut(hash, key)?;
    room.n_volatile -= usize::from(place.flag());
    let mut entry = place.remove();
    let snapshot = &locked.keyspace().snapshot;
    if snapshot.is_walking() {
        snapshot.save_first(at_cut, &mut entry);
    }
    let len = &locked.keyspace().shard(id).len;
    len.store(room.table.len(), Relaxed);
    Some(entry)
}

fn remove(locked: &Locked<'_>, id: ShardId, room: &mut Room, hash: u64, key: &[u8]) -> bool {
    let entry = take(locked, id, room, hash, key);
    let existed = entry.is_some();
    if let Some(entry) = entry {
        locked.keyspace().discard(Trash::Entry(entry));
    }
    existed
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

    /// The entry of `key`, to be changed in place.
    fn open(&mut self, key: &[u8]) -> Option<EntryMut<'_>> {
        self.view.entry(key)?;
        let hash = self.view.hash_of(key);
        let id = self.view.shard_of(hash);
        let mut home = EntryMut::open(self.view.locked, id, self.view.locked.room(id), hash, key)?;
        home.save_first();
        Some(home)
    }

    fn open_kind(&mut self, key: &[u8], kind: Kind) -> Result<Option<EntryMut<'_>>, WrongType> {
        match self.open(key) {
            Some(home) if home.encoding().kind() != kind => Err(WrongType),
            found => Ok(found),
        }
    }

    /// The entry of `key`, made with this payload if there is none.
    fn open_or_new(
        &mut self,
        key: &[u8],
        kind: Kind,
        fresh: impl FnOnce() -> (Encoding, NewPayload<'static>),
    ) -> Result<EntryMut<'_>, WrongType> {
        match self.view.kind(key) {
            Some(found) if found != kind => return Err(WrongType),
            Some(_) => {}
            None => {
                let (encoding, payload) = fresh();
                self.put(key, encoding, payload, Expiry::Clear);
            }
        }
        Ok(self.open(key).expect("the entry was found or made above"))
    }

    /// Replaces the value of `key`, whatever it held. O(1).
    #[inline]
    pub fn put(&mut self, key: &[u8], encoding: Encoding, payload: NewPayload<'_>, expiry: Expiry) {
        let _ = self.view.entry(key); // what has expired goes first, with its own event
        let hash = self.view.hash_of(key);
        let id = self.view.shard_of(hash);
        let (locked, terms) = (self.view.locked, self.view.terms);
        let room = locked.room(id);
        let mark = locked.keyspace().snapshot.mark();
        let Some(mut place) = room.table.find_mut(hash, key) else {
            let deadline_ms = match expiry {
                Expiry::At(deadline_ms) => Some(deadline_ms),
                Expiry::Keep | Expiry::Clear => None,
            };
            let birth = Birth {
                key,
                deadline_ms,
                mark,
                clock: terms.clock.unwrap_or(0),
            };
            insert(locked, id, room, hash, Entry::new(birth, encoding, payload));
            return;
        };
        let old = place.read().deadline_ms();
        let new = match expiry {
            Expiry::Keep => old,
            Expiry::Clear => None,
            Expiry::At(deadline_ms) => Some(deadline_ms),
        };
        if locked.keyspace().snapshot.is_walking() {
            save_first(locked, room.database_at_cut, &mut place);
        }
        if place.read().is_heavy() {
            let birth = Birth {
                key,
                deadline_ms: new,
                mark,
                clock: terms.clock.unwrap_or(0),
            };
            let heavy = place.replace(Entry::new(birth, encoding, payload));
            locked.keyspace().discard(Trash::Entry(heavy));
        } else {
            place.update(|entry| {
                let mut entry = entry.with_payload(encoding, payload).with_deadline(new);
                entry.set_field_deadlines(false);
                entry
            });
        }
        let was_volatile = place.flag();
        place.set_flag(new.is_some());
        room.n_volatile = room.n_volatile + usize::from(new.is_some()) - usize::from(was_volatile);
        if let Some(deadline_ms) = new.filter(|&new| old.is_none_or(|old| new < old)) {
            file(locked, id, room, hash, deadline_ms);
        }
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

    /// Takes `key` out, with value and deadline.
    pub fn take(&mut self, key: &[u8]) -> Option<Entry> {
        self.view.entry(key)?;
        let hash = self.view.hash_of(key);
        let id = self.view.shard_of(hash);
        take(self.view.locked, id, self.view.locked.room(id), hash, key)
    }

    /// Puts an entry taken from elsewhere under `key`, in place of what is there.
    pub fn put_entry(&mut self, key: &[u8], entry: Entry) {
        self.remove(key);
        let hash = self.view.hash_of(key);
        let id = self.view.shard_of(hash);
        let locked = self.view.locked;
        let entry = entry.with_key(key, locked.keyspace().snapshot.mark());
        let fields = field_deadline_ms(entry.encoding(), entry.payload());
        insert(locked, id, locked.room(id), hash, entry);
        if let (Some(deadline_ms), Some(mut home)) = (fields, self.open(key)) {
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
        if let Some(deadline_ms) = deadline_ms.filter(|&new| old.is_none_or(|old| new < old)) {
            home.file(deadline_ms);
        }
        true
    }

    /// Works on another database under the same locks; for the transaction.
    pub fn other<T>(&mut self, database: u16, work: impl FnOnce(&mut Db<'a>) -> T) -> T {
        work(&mut Db::new(self.view.locked, database, self.view.terms))
    }

    /// Deletes every key; how many there were. For the transaction. O(shards).
    pub fn clear(&mut self) -> usize {
        let (locked, database) = (self.view.locked, self.view.database);
        let keyspace = locked.keyspace();
        let n_shards = keyspace.existing_shards(database).map_or(0, <[_]>::len);
        let (mut n_keys, mut tables) = (0, Vec::new());
        for shard in 0..n_shards {
            let id = ShardId::new(database, shard as u16);
            let room = locked.room(id);
            n_keys += room.table.len();
            let table = std::mem::take(&mut room.table);
            room.deadlines = Default::default();
            room.n_volatile = 0;
            keyspace.shard(id).len.store(0, Relaxed);
            keyspace.renew_due(id, None);
            if keyspace.snapshot.is_walking() {
                keyspace.snapshot.detach(room.database_at_cut, table);
            } else if !table.is_empty() {
                tables.push(table);
            }
        }
        keyspace.discard(Trash::Tables(tables));
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
        let Some(low) = room.deadlines.pop_due(terms.now_ms) else {
            break;
        };
        let mut later = None;
        room.table.with_low_hash(low, &mut |entry| {
            if !entry.flag {
                return;
            }
            let fields = field_deadline_ms(entry.encoding(), entry.payload());
            let next = entry.deadline_ms().into_iter().chain(fields).min();
            match next {
                Some(ms) if ms <= terms.now_ms => keys.push(entry.key().to_vec()),
                Some(ms) => later = Some(later.map_or(ms, |other: u64| other.min(ms))),
                None => {}
            }
        });
        for key in keys.drain(..) {
            let hash = hash(&key);
            purge(locked, id, locked.room(id), terms, hash, &key);
            let left = locked
                .room(id)
                .table
                .get(hash, &key)
                .and_then(|entry| field_deadline_ms(entry.encoding(), entry.payload()));
            later = later.into_iter().chain(left).min();
        }
        let room = locked.room(id);
        if let Some(ms) = later {
            room.deadlines.file(ms, low);
        }
    }
    let earliest = locked.room(id).deadlines.earliest_ms();
    let is_more = earliest.is_some_and(|ms| ms <= terms.now_ms);
    if !is_more {
        locked.keyspace().renew_due(id, earliest);
    }
    is_more
}

fn insert(locked: &Locked<'_>, id: ShardId, room: &mut Room, hash: u64, entry: Entry) {
    let deadline_ms = entry.deadline_ms();
    let mut place = room.table.insert(hash, entry);
    place.set_flag(deadline_ms.is_some());
    locked
        .keyspace()
        .shard(id)
        .len
        .store(room.table.len(), Relaxed);
    if let Some(deadline_ms) = deadline_ms {
        room.n_volatile += 1;
        file(locked, id, room, hash, deadline_ms);
    }
}

/// Files a deadline; hints that outnumber the volatile keys by two are gathered anew.
fn file(locked: &Locked<'_>, id: ShardId, room: &mut Room, hash: u64, deadline_ms: u64) {
    if room.deadlines.len() > 2 * room.n_volatile + 64 {
        compact(room);
    }
    room.deadlines.file(deadline_ms, hash);
    locked.lower_due(id, deadline_ms);
}

#[cold]
fn compact(room: &mut Room) {
    let mut fresh = crate::deadline::DeadlineIndex::new();
    for entry in room.table.iter().filter(|entry| entry.flag) {
        let fields = field_deadline_ms(entry.encoding(), entry.payload());
        if let Some(deadline_ms) = entry.deadline_ms().into_iter().chain(fields).min() {
            fresh.file(deadline_ms, hash(entry.key()));
        }
    }
    room.deadlines = fresh;
}

fn save_first(locked: &Locked<'_>, at_cut: u16, place: &mut Occupied<'_, Entry, Inline>) {
    place.update(|mut entry| {
        locked.keyspace().snapshot.save_first(at_cut, &mut entry);
        entry
    });
}

/// An entry in its shard: the home of a value.
pub struct EntryMut<'a> {
    locked: &'a Locked<'a>,
    id: ShardId,
    place: Occupied<'a, Entry, Inline>,
    deadlines: &'a mut crate::deadline::DeadlineIndex,
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
        let at_cut = room.database_at_cut;
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
            save_first(self.locked, self.at_cut, &mut self.place);
        }
    }

    fn set_volatile(&mut self, is_volatile: bool) {
        let was_volatile = self.place.flag();
        self.place.set_flag(is_volatile);
        *self.n_volatile = *self.n_volatile + usize::from(is_volatile) - usize::from(was_volatile);
    }

    fn file(&mut self, deadline_ms: u64) {
        self.deadlines.file(deadline_ms, self.place.hash());
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
        self.handle().set_field_deadlines(true);
        self.set_volatile(true);
        self.file(deadline_ms);
    }
}
