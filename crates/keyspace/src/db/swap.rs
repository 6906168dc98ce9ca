//! SWAPDB: two databases exchange what is in their shards, which themselves stay where they are.

use super::Db;
use crate::keyspace::ShardId;
use crate::shard::Room;
use datatypes::encoding::table::hash;
use std::sync::atomic::Ordering::Relaxed;

impl Db<'_> {
    /// Exchanges all keys with another database; for the transaction. Waiters and watchers stay.
    /// O(shards).
    pub fn swap(&mut self, other: u16) {
        let (locked, database) = (self.view.locked, self.view.database);
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
}

fn exists(room: &Room, key: &[u8], now_ms: u64) -> bool {
    let entry = room.table.get(hash(key), key);
    entry.is_some_and(|entry| entry.deadline_ms().is_none_or(|ms| ms > now_ms))
}

fn earliest_ms(room: &Room) -> Option<u64> {
    room.deadlines.as_ref()?.earliest_ms()
}
