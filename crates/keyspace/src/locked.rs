//! Locked shards: the only way to what is in them.
//!
//! A [`Locked`] is made with the locks a command declared and releases them when it is dropped.
//! The transaction may take more on first touch; a *roaming* one holds nothing and takes one shard
//! at a time, for commands that go over the whole keyspace without being atomic (SCAN, KEYS).

#![allow(unsafe_code)]

use crate::keyspace::{Keyspace, ShardId};
use crate::protocol::{Refusal, take_all, take_one};
use crate::registry::Registry;
use crate::shard::{Room, Shard};
use std::cell::{Cell, RefCell};
use std::ptr::NonNull;
use std::time::Duration;

/// How much a [`Locked`] may touch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// What it declared.
    Declared,
    /// Everything, taking locks on first touch, and holding the transaction lock.
    All,
    /// One shard at a time.
    Roaming,
}

/// A shard whose lock is held. A pointer, so that a `Locked` may stand for a shorter-lived one.
#[derive(Clone, Copy)]
struct Held {
    id: ShardId,
    shard: NonNull<Shard>,
}

impl Held {
    fn new(keyspace: &Keyspace, id: ShardId) -> Held {
        let shard = NonNull::from(keyspace.shard(id));
        Held { id, shard }
    }
}

/// See the top of the file.
pub struct Locked<'k> {
    keyspace: &'k Keyspace,
    reach: Reach,
    /// The first shard, which for most commands is the only one.
    first: Cell<Option<Held>>,
    /// The others, sorted.
    more: RefCell<Vec<Held>>,
    /// Which of them was asked for last, and will be again.
    recent: Cell<Option<Held>>,
    /// A deadline was set that a sleeping loop may have to wake up for.
    lowered_due: Cell<bool>,
}

impl<'k> Locked<'k> {
    fn new(keyspace: &'k Keyspace, reach: Reach, first: Option<Held>) -> Locked<'k> {
        Locked {
            keyspace,
            reach,
            first: Cell::new(first),
            more: RefCell::new(Vec::new()),
            recent: Cell::new(None),
            lowered_due: Cell::new(false),
        }
    }

    /// Locks one shard.
    #[inline]
    pub fn one(keyspace: &'k Keyspace, id: ShardId) -> Result<Locked<'k>, Refusal> {
        let held = Held::new(keyspace, id);
        // SAFETY: shards live as long as their keyspace.
        take_one(&unsafe { held.shard.as_ref() }.lock)?;
        Ok(Locked::new(keyspace, Reach::Declared, Some(held)))
    }

    /// Locks one shard, unless its waiters and watchers say that the caller should come as a transaction
    /// ([`Refusal::Contended`]).
    #[inline(always)]
    pub fn one_unless(
        keyspace: &'k Keyspace,
        id: ShardId,
        is_wanted_whole: impl FnOnce(&Registry) -> bool,
    ) -> Result<Locked<'k>, Refusal> {
        let held = Held::new(keyspace, id);
        // SAFETY: shards live as long as their keyspace.
        let shard = unsafe { held.shard.as_ref() };
        take_one(&shard.lock)?;
        // SAFETY: taken in the line above, and the reference ends before it is given back.
        let registry = unsafe { shard.room() }.registry.as_deref();
        if registry.is_some_and(is_wanted_whole) {
            // SAFETY: taken above.
            unsafe { shard.lock.unlock() };
            return Err(Refusal::Contended);
        }
        Ok(Locked::new(keyspace, Reach::Declared, Some(held)))
    }

    /// Locks several shards, given in ascending order without repetition.
    pub fn several(keyspace: &'k Keyspace, ids: &[ShardId]) -> Result<Locked<'k>, Refusal> {
        debug_assert!(ids.is_sorted_by(|a, b| a < b));
        take_all(ids.iter().map(|&id| &keyspace.shard(id).lock))?;
        let mut held = ids.iter().map(|&id| Held::new(keyspace, id));
        let mut locked = Locked::new(keyspace, Reach::Declared, held.next());
        locked.more.get_mut().extend(held);
        Ok(locked)
    }

    /// Becomes the transaction, which may touch every shard. Waits at most `patience`.
    pub fn transaction(keyspace: &'k Keyspace, patience: Duration) -> Result<Locked<'k>, Refusal> {
        if !keyspace.transaction.lock_for(patience) {
            return Err(Refusal::Busy);
        }
        Ok(Locked::new(keyspace, Reach::All, None))
    }

    /// Becomes the transaction and takes every shard of the databases that have had keys, without
    /// holding any while it waits: if a holder takes its time, everything is released and that one
    /// waited for. Then, and if the transaction is not to be had, the caller tries again.
    pub fn everything(keyspace: &'k Keyspace, patience: Duration) -> Result<Locked<'k>, Refusal> {
        let locked = Locked::transaction(keyspace, patience)?;
        let databases = 0..keyspace.n_databases();
        let busy = databases
            .filter(|&database| keyspace.existing_shards(database).is_some())
            .flat_map(|database| {
                (0..keyspace.n_shards()).map(move |shard| ShardId::new(database, shard))
            })
            .find(|&id| {
                let is_taken = take_one(&keyspace.shard(id).lock).is_ok();
                if is_taken {
                    locked.add(id);
                }
                !is_taken
            });
        let Some(busy) = busy else {
            return Ok(locked);
        };
        drop(locked);
        let lock = &keyspace.shard(busy).lock;
        if lock.lock_for(patience) {
            // SAFETY: taken in the line above.
            unsafe { lock.unlock() };
        }
        Err(Refusal::Busy)
    }

    /// Holds nothing, and takes shards one at a time.
    pub fn roaming(keyspace: &'k Keyspace) -> Locked<'k> {
        Locked::new(keyspace, Reach::Roaming, None)
    }

    /// The keyspace these locks belong to.
    #[inline]
    pub fn keyspace(&self) -> &'k Keyspace {
        self.keyspace
    }

    /// Whether every shard may be touched.
    pub fn is_transaction(&self) -> bool {
        self.reach == Reach::All
    }

    /// Asks the processor for the entry of `hash` in a shard that is held.
    pub fn prefetch(&self, id: ShardId, hash: u64) {
        if self.holds(id) {
            self.room(id).table.prefetch_record(hash);
        }
    }

    /// Whether a key of this shard may be touched now.
    #[inline]
    pub fn reaches(&self, id: ShardId) -> bool {
        self.holds(id) || self.is_transaction()
    }

    #[inline]
    fn holds(&self, id: ShardId) -> bool {
        self.held(id).is_some()
    }

    /// The shard, if its lock is held.
    #[inline]
    fn held(&self, id: ShardId) -> Option<&'k Shard> {
        let held = match (self.first.get(), self.recent.get()) {
            (Some(first), _) if first.id == id => first,
            (_, Some(recent)) if recent.id == id => recent,
            _ => self.held_further(id)?,
        };
        // SAFETY: shards live as long as their keyspace, which outlives 'k.
        Some(unsafe { held.shard.as_ref() })
    }

    fn held_further(&self, id: ShardId) -> Option<Held> {
        let more = self.more.borrow();
        let at = more.binary_search_by_key(&id, |held| held.id).ok()?;
        self.recent.set(Some(more[at]));
        Some(more[at])
    }

    /// Takes every shard of the databases that have had keys, in order; for the transaction.
    pub fn take_everything(&self) {
        for database in 0..self.keyspace.n_databases() {
            if self.keyspace.existing_shards(database).is_some() {
                self.take_database(database);
            }
        }
    }

    /// Takes every shard of one database; for the transaction.
    pub fn take_database(&self, database: u16) {
        for shard in 0..self.keyspace.n_shards() {
            self.take(ShardId::new(database, shard));
        }
    }

    #[cold]
    fn take(&self, id: ShardId) -> &'k Shard {
        if let Some(shard) = self.held(id) {
            return shard;
        }
        assert!(self.is_transaction(), "a command touched a key that it did not declare");
        let shard = self.keyspace.shard(id);
        shard.lock.lock();
        self.add(id);
        shard
    }

    /// Notes a shard whose lock was taken.
    fn add(&self, id: ShardId) {
        let held = Held::new(self.keyspace, id);
        if self.first.get().is_none() {
            self.first.set(Some(held));
            return;
        }
        let mut more = self.more.borrow_mut();
        let at = more.partition_point(|other| other.id < id);
        more.insert(at, held);
    }

    /// The inside of a shard, which is locked now at the latest.
    #[inline]
    #[expect(
        clippy::mut_from_ref,
        reason = "the lock makes it exclusive; callers hold one at a time"
    )]
    pub(crate) fn room(&self, id: ShardId) -> &mut Room {
        // SAFETY: the lock is held until self is dropped, and the crate's callers do not keep two
        // mutable references to one room.
        unsafe { self.shard(id).room() }
    }

    /// The shard, which is locked now at the latest.
    #[inline]
    pub(crate) fn shard(&self, id: ShardId) -> &'k Shard {
        self.held(id).unwrap_or_else(|| self.take(id))
    }

    /// Runs `work` on a shard: one that is held, or when roaming one that is locked for that long.
    pub(crate) fn with_room<T>(&self, id: ShardId, work: impl FnOnce(&mut Room) -> T) -> T {
        if self.reach == Reach::Roaming {
            let shard = self.keyspace.shard(id);
            shard.lock.lock();
            let _unlock = Unlock(shard);
            // SAFETY: the lock was just taken.
            return work(unsafe { shard.room() });
        }
        work(self.room(id))
    }

    pub(crate) fn lower_due(&self, id: ShardId, deadline_ms: u64) {
        if self.shard(id).lower_due(deadline_ms) && self.keyspace.lower_group(id, deadline_ms) {
            self.lowered_due.set(true);
        }
    }

    /// Whether a deadline was set that is sooner than all others of its group.
    pub fn has_lowered_due(&self) -> bool {
        self.lowered_due.get()
    }

    /// The waiters and watchers of a shard, if it has had any.
    #[inline]
    pub fn registry(&self, id: ShardId) -> Option<&mut Registry> {
        self.room(id).registry.as_deref_mut()
    }

    /// The waiters and watchers of a shard, made now if there were none.
    pub fn registry_or_new(&self, id: ShardId) -> &mut Registry {
        self.room(id).registry.get_or_insert_default()
    }

    /// Every key of a database that somebody watches; for the transaction. O(shards).
    pub fn watched_keys(&self, database: u16) -> Vec<Box<[u8]>> {
        let n_shards = self
            .keyspace
            .existing_shards(database)
            .map_or(0, <[_]>::len);
        (0..n_shards)
            .filter_map(|shard| self.registry(ShardId::new(database, shard as u16)))
            .flat_map(|registry| registry.watched_keys())
            .collect()
    }

    /// Every key of a database that somebody waits for; for the transaction. O(shards).
    pub fn waited_keys(&self, database: u16) -> Vec<Box<[u8]>> {
        let n_shards = self
            .keyspace
            .existing_shards(database)
            .map_or(0, <[_]>::len);
        (0..n_shards)
            .filter_map(|shard| self.registry(ShardId::new(database, shard as u16)))
            .flat_map(|registry| registry.waited_keys())
            .collect()
    }

    /// Gives an empty registry's memory back.
    pub fn trim_registry(&self, id: ShardId) {
        let room = self.room(id);
        if room
            .registry
            .as_ref()
            .is_some_and(|registry| registry.is_empty())
        {
            room.registry = None;
        }
    }
}

struct Unlock<'a>(&'a Shard);

impl Drop for Unlock<'_> {
    fn drop(&mut self) {
        // SAFETY: made by the holder of the lock.
        unsafe { self.0.lock.unlock() }
    }
}

impl Drop for Locked<'_> {
    #[inline]
    fn drop(&mut self) {
        // SAFETY: these locks were taken by this value and by nobody released since, and shards live
        // as long as their keyspace.
        unsafe {
            if let Some(first) = self.first.get() {
                first.shard.as_ref().lock.unlock();
            }
            for held in self.more.get_mut() {
                held.shard.as_ref().lock.unlock();
            }
            if self.reach == Reach::All {
                self.keyspace.transaction.unlock();
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::keyspace::Layout;

    #[test]
    fn who_wants_everything_holds_nothing_while_one_shard_is_busy() {
        let keyspace = Keyspace::new(Layout {
            n_databases: 2,
            n_shards: 4,
            n_groups: 1,
        });
        let last = Locked::one(&keyspace, ShardId::new(1, 3)).ok();
        assert!(last.is_some());
        let refusal = Locked::everything(&keyspace, Duration::from_millis(1)).err();
        assert_eq!(refusal, Some(Refusal::Busy));
        assert!(Locked::one(&keyspace, ShardId::new(1, 0)).is_ok());
        assert!(Locked::transaction(&keyspace, Duration::ZERO).is_ok());
        drop(last);
        let all = Locked::everything(&keyspace, Duration::ZERO).ok();
        assert!(all.is_some_and(|all| all.holds(ShardId::new(1, 0))));
    }
}
