//! Shards stay where they are and exchange what is in them: those of two databases (SWAPDB), or of two
//! keyspaces.

use super::{Db, Terms};
use crate::keyspace::ShardId;
use crate::locked::Locked;
use crate::shard::Room;
use datatypes::encoding::table::hash;
use std::sync::atomic::Ordering::Relaxed;

impl Db<'_> {
    /// Exchanges all keys with another database; for the transaction. Waiters and watchers stay.
    /// O(shards).
    pub fn swap(&mut self, other: u16) {
        let (locked, database) = (self.view.locked, self.view.number());
        if database == other {
            return;
        }
        let (keyspace, now_ms) = (locked.keyspace(), self.view.terms.now_ms);
        locked.take_database(database.min(other));
        locked.take_database(database.max(other));
        keyspace.snapshot.note_swap();
        for shard in 0..keyspace.n_shards() {
            let (here, there) = (ShardId::new(database, shard), ShardId::new(other, shard));
            let (one, two) = (locked.room(here), locked.room(there));
            for registry in [&one.registry, &two.registry].into_iter().flatten() {
                registry.touch_if(|key| exists(one, key, now_ms) || exists(two, key, now_ms));
            }
            let (one_at_cut, two_at_cut) = (one.database_at_cut(here), two.database_at_cut(there));
            one.displaced = two_at_cut ^ database;
            two.displaced = one_at_cut ^ other;
            std::mem::swap(&mut one.table, &mut two.table);
            std::mem::swap(&mut one.deadlines, &mut two.deadlines);
            std::mem::swap(&mut one.n_volatile, &mut two.n_volatile);
            std::mem::swap(&mut one.walk_mark, &mut two.walk_mark);
            let (one_count, two_count) =
                (keyspace.shard(here).deadline_count(), keyspace.shard(there).deadline_count());
            keyspace.shard(here).set_deadline_count(two_count);
            keyspace.shard(there).set_deadline_count(one_count);
            for (id, len, earliest_ms) in [
                (here, one.table.len(), earliest_ms(one)),
                (there, two.table.len(), earliest_ms(two)),
            ] {
                keyspace.shard(id).len.store(len, Relaxed);
                keyspace.renew_due(id, earliest_ms);
            }
        }
    }

    /// Puts the keys of another keyspace, a [sibling](crate::keyspace::Keyspace::sibling), in the place of all keys
    /// of this one; for the transactions of both. Waiters and watchers stay. False, and nothing is done, if a
    /// snapshot is under way that has begun since the other one was made: then the caller tries again later.
    /// O(shards).
    pub fn replace_all(locked: &Locked<'_>, by: &Locked<'_>, terms: Terms<'_>) -> bool {
        let keyspace = locked.keyspace();
        locked.take_everything();
        if !keyspace.snapshot.mark_as(&by.keyspace().snapshot) {
            return false;
        }
        for database in 0..keyspace.n_databases() {
            Db::new(locked, database, terms).clear();
            if by.keyspace().existing_shards(database).is_some() {
                take_keys(locked, by, database);
            }
        }
        if by.keyspace().may_hold_field_deadlines() {
            keyspace.note_field_deadline();
        }
        true
    }
}

/// Takes the keys of the same database of another keyspace. This one's is empty.
fn take_keys(locked: &Locked<'_>, from: &Locked<'_>, database: u16) {
    for shard in 0..locked.keyspace().n_shards() {
        let id = ShardId::new(database, shard);
        let (room, other) = (locked.room(id), from.room(id));
        room.table = std::mem::take(&mut other.table);
        room.deadlines = other.deadlines.take();
        room.n_volatile = std::mem::take(&mut other.n_volatile);
        if let Some(registry) = &room.registry {
            registry.touch_if(|key| room.table.get(hash(key), key).is_some());
        }
        locked.shard(id).len.store(room.table.len(), Relaxed);
        let counts = from.shard(id).deadline_count();
        locked.shard(id).set_deadline_count(counts);
        from.shard(id).len.store(0, Relaxed);
        from.shard(id).set_deadline_count((0, 0, 0));
        if let Some(deadline_ms) = earliest_ms(room) {
            locked.lower_due(id, deadline_ms);
        }
    }
}

fn exists(room: &Room, key: &[u8], now_ms: u64) -> bool {
    let entry = room.table.get(hash(key), key);
    entry.is_some_and(|entry| entry.deadline_ms().is_none_or(|ms| ms > now_ms))
}

fn earliest_ms(room: &Room) -> Option<u64> {
    room.deadlines.as_ref()?.earliest_ms()
}
