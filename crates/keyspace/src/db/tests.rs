//! What the keyspace's users do not see: hints, flags and counts of a shard.

use super::*;
use crate::keyspace::{Keyspace, Layout};
use datatypes::encoding::quicklist::Side;
use datatypes::hash::FieldDeadline;
use std::time::Duration;

const ONE: ShardId = ShardId::new(0, 0);

fn on_one_shard(work: impl FnOnce(&Locked<'_>, &mut Db<'_>)) {
    let keyspace = Keyspace::new(Layout {
        n_databases: 1,
        n_shards: 1,
        n_groups: 1,
    });
    let locked = Locked::transaction(&keyspace, Duration::ZERO).expect("nobody else is here");
    let (limits, departed) = (Limits::default(), RefCell::default());
    let clock = AccessClock::default();
    let terms = Terms {
        now_ms: 1_000,
        trace: clock.leaving(),
        limits: &limits,
        keeps_due: false,
        departed: &departed,
    };
    work(&locked, &mut Db::new(&locked, 0, terms));
}

#[test]
fn a_deadline_set_and_dropped_again_and_again_leaves_few_hints() {
    on_one_shard(|locked, db| {
        db.set_string(b"key", b"text", Expiry::Clear);
        for round in 0..10_000 {
            db.set_deadline(b"key", Some(1 << 41));
            db.set_deadline(b"key", Some((1 << 40) - round));
            db.set_deadline(b"key", None);
            db.set_string(b"other", b"text", Expiry::At((1 << 42) - round));
            db.remove(b"other");
        }
        let hints = locked.room(ONE).deadlines.as_ref();
        assert!(hints.is_some_and(|hints| hints.len() <= 2 + STALE_ALLOWED + 1));
        assert_eq!(locked.room(ONE).n_volatile, 0);
    });
}

#[test]
fn keys_with_deadlines_are_counted_through_every_change() {
    on_one_shard(|locked, db| {
        let count = || locked.keyspace().deadlines(0);
        db.set_string(b"a", b"1", Expiry::At(5_000));
        db.set_string(b"b", b"1", Expiry::At(9_000));
        db.set_string(b"c", b"1", Expiry::Clear);
        assert_eq!(count(), (2, 7_000));
        db.set_string(b"a", b"2", Expiry::Keep);
        db.set_deadline(b"b", Some(7_000));
        assert_eq!(count(), (2, 6_000));
        db.set_deadline(b"c", Some(6_000));
        db.set_string(b"a", b"3", Expiry::Clear);
        assert_eq!(count(), (2, 6_500));
        let taken = db.take(b"b").expect("it is there");
        assert_eq!(count(), (1, 6_000));
        db.put_entry(b"d", taken);
        db.remove(b"c");
        assert_eq!(count(), (1, 7_000));
        db.set_deadline(b"d", None);
        assert_eq!(count(), (0, 0));
    });
}

#[test]
fn the_count_of_volatile_keys_follows_every_change() {
    on_one_shard(|locked, db| {
        let count = || locked.room(ONE).n_volatile;
        db.set_string(b"a", b"1", Expiry::At(5_000));
        db.set_string(b"b", b"1", Expiry::Clear);
        assert_eq!(count(), 1);
        db.set_string(b"b", b"2", Expiry::At(5_000));
        db.set_string(b"a", b"2", Expiry::Keep);
        assert_eq!(count(), 2);
        db.set_string(b"a", b"3", Expiry::Clear);
        assert_eq!(count(), 1);
        let taken = db.take(b"b").expect("it is there");
        assert_eq!(count(), 0);
        db.put_entry(b"c", taken);
        assert_eq!((count(), db.deadline_ms(b"c")), (1, Some(Some(5_000))));
        db.hash_or_new(b"h")
            .expect("no other type")
            .set(b"field", b"value", FieldDeadline::Clear);
        assert_eq!(count(), 1);
        db.clear();
        assert_eq!((count(), db.len()), (0, 0));
    });
}

#[test]
fn only_what_takes_long_to_free_is_freed_elsewhere() {
    let keyspace = Keyspace::new(Layout {
        n_databases: 1,
        n_shards: 4,
        n_groups: 1,
    });
    let (sender, trash) = std::sync::mpsc::channel();
    keyspace.set_trash(sender);
    let locked = Locked::transaction(&keyspace, Duration::ZERO).expect("nobody else is here");
    let (limits, departed) = (Limits::default(), RefCell::default());
    let clock = AccessClock::default();
    let terms = Terms {
        now_ms: 1_000,
        trace: clock.leaving(),
        limits: &limits,
        keeps_due: false,
        departed: &departed,
    };
    let mut db = Db::new(&locked, 0, terms);
    for (n, is_heavy) in [(10, false), (50_000, true)] {
        let items: Vec<Vec<u8>> = (0..n).map(|i: u32| i.to_string().into_bytes()).collect();
        for item in &items {
            let hash = db.hash_or_new(b"hash");
            hash.expect("a hash")
                .set(item, b"value", FieldDeadline::Clear);
            db.set_or_new(b"set", b"x", 2).expect("a set").add(item);
            db.zset_or_new(b"zset")
                .expect("a zset")
                .set_score(item, 1.0);
        }
        let items = items.iter().map(|item| &item[..]);
        let list = db.list_or_new(b"list");
        list.expect("a list").push(Side::Tail, items);
        db.set_string(b"string", &vec![b'x'; 100 * n as usize], Expiry::Clear);
        for key in [&b"hash"[..], b"set", b"zset", b"list", b"string"] {
            assert!(db.remove(key));
            let went = trash.try_recv().is_ok();
            // A list of so many short numbers is some tens of nodes.
            assert!(went == is_heavy || key == b"list", "{}", String::from_utf8_lossy(key));
        }
    }
    db.set_string(b"key", b"value", Expiry::Clear);
    assert_eq!(db.clear(), 1);
    assert!(matches!(trash.try_recv(), Ok(Trash::Tables(tables)) if tables.len() == 1));
    assert_eq!(db.clear(), 0);
    assert!(trash.try_recv().is_err(), "nothing was flushed");
}

#[test]
fn a_thousand_keys_due_at_once_all_go() {
    on_one_shard(|locked, db| {
        let base = 1 << 42; // hints count from the start of the process
        for i in 0..1_000_u64 {
            let deadline_ms = base + 1 + i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 3_600_000;
            db.set_string(i.to_string().as_bytes(), b"v", Expiry::At(deadline_ms));
        }
        assert_eq!(locked.room(ONE).n_volatile, 1_000);
        let terms = Terms {
            now_ms: base + 4_000_000,
            ..db.view.terms
        };
        let mut slices = 1;
        while expire_shard(locked, ONE, terms, 64) {
            slices += 1;
        }
        assert_eq!((db.len(), slices), (0, 16));
        assert!(
            locked
                .room(ONE)
                .deadlines
                .as_ref()
                .is_none_or(|hints| hints.is_empty())
        );
    });
}

#[test]
fn a_key_where_another_was_in_memory_is_another_key() {
    on_one_shard(|locked, db| {
        let mut key = *b"key:0";
        for digit in b'0'..=b'9' {
            key[4] = digit;
            db.set_string(&key, b"v", Expiry::Clear);
        }
        locked.room(ONE).table.check_invariants();
        assert_eq!(db.len(), 10);
    });
}
