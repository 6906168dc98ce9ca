//! Hashes against a model, through all encodings, with and without deadlines.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::home::Owned;
use crate::testing::Random;

type Model = BTreeMap<Vec<u8>, (Vec<u8>, Option<u64>)>;

fn limits() -> Limits {
    Limits {
        hash_max_listpack_entries: 12,
        hash_max_listpack_value: 60,
        ..Limits::default()
    }
}

fn empty() -> Owned {
    let (encoding, payload) = fresh();
    Owned::new(encoding, payload)
}

fn view(home: &Owned) -> HashRef<'_> {
    HashRef::new(home.encoding(), home.payload()).unwrap()
}

#[test]
fn operations_agree_with_a_map_in_every_encoding() {
    let limits = limits();
    let mut random = Random(9);
    let mut seen = BTreeSet::new();
    for round in 0..200 {
        let (mut home, mut model) = (empty(), Model::new());
        let space = [6, 30, 300][round % 3];
        for _ in 0..120 {
            let field = short(random.item(space));
            match round % 4 {
                0 => plain_step(&mut random, &mut home, &limits, &mut model, field),
                _ => volatile_step(&mut random, &mut home, &limits, &mut model, field),
            }
            check(&mut random, &home, &model);
            seen.insert(home.encoding() as u8);
        }
    }
    assert_eq!(seen.len(), 3);
}

fn short(mut text: Vec<u8>) -> Vec<u8> {
    text.truncate(58);
    text
}

fn value(random: &mut Random) -> Vec<u8> {
    match random.below(400) {
        0 => b"long".repeat(20),
        _ => short(random.item(500)),
    }
}

fn plain_step(
    random: &mut Random,
    home: &mut Owned,
    limits: &Limits,
    model: &mut Model,
    field: Vec<u8>,
) {
    let mut hash = HashMut::new(home, limits);
    match random.below(3) {
        0 => assert_eq!(hash.remove(&field), model.remove(&field).is_some()),
        _ => {
            let value = value(random);
            let is_new = hash.set(&field, &value, FieldDeadline::Clear);
            assert_eq!(is_new, model.insert(field, (value, None)).is_none());
        }
    }
}

fn volatile_step(
    random: &mut Random,
    home: &mut Owned,
    limits: &Limits,
    model: &mut Model,
    field: Vec<u8>,
) {
    let deadline_ms = 1 + random.below(40);
    let mut hash = HashMut::new(&mut *home, limits);
    match random.below(8) {
        0 | 1 => {
            let value = value(random);
            let is_new = hash.set(&field, &value, FieldDeadline::Keep);
            let deadline = model.get(&field).and_then(|old| old.1);
            assert_eq!(is_new, model.insert(field, (value, deadline)).is_none());
        }
        2 => {
            let value = value(random);
            let is_new = hash.set(&field, &value, FieldDeadline::At(deadline_ms));
            assert_eq!(is_new, model.insert(field, (value, Some(deadline_ms))).is_none());
        }
        3 | 4 => {
            let exists = hash.set_deadline(&field, deadline_ms);
            let old = model.get_mut(&field);
            assert_eq!(exists, old.is_some());
            old.into_iter().for_each(|old| old.1 = Some(deadline_ms));
        }
        5 => {
            let old = model.get_mut(&field).and_then(|old| old.1.take());
            assert_eq!(hash.persist(&field), old.is_some());
        }
        6 if random.below(3) == 0 => expire(&mut hash, deadline_ms / 4, model),
        _ => return plain_step(random, home, limits, model, field),
    }
    let scheduled = home.scheduled_ms;
    let next = view(home).next_deadline();
    assert!(next.is_none_or(|next| scheduled.is_some_and(|scheduled| scheduled <= next)));
}

fn expire(hash: &mut HashMut<'_, &mut Owned>, now_ms: u64, model: &mut Model) {
    let mut expired = BTreeSet::new();
    let mut last_ms = 0;
    let n = hash.expire_due(now_ms, &mut |field: &[u8]| {
        let deadline_ms = model[field].1.unwrap();
        assert!(last_ms <= deadline_ms && deadline_ms <= now_ms);
        last_ms = deadline_ms;
        expired.insert(field.to_vec());
    });
    assert_eq!(n, expired.len());
    model.retain(|field, entry| {
        let due = entry.1.is_some_and(|deadline_ms| deadline_ms <= now_ms);
        assert_eq!(due, expired.contains(field));
        !due
    });
}

fn check(random: &mut Random, home: &Owned, model: &Model) {
    let hash = view(home);
    assert_eq!((hash.len(), hash.is_empty()), (model.len(), model.is_empty()));
    let entry =
        |found: Field<'_>| (found.field.to_vec(), (found.value.to_vec(), found.deadline_ms));
    assert_eq!(hash.iter().map(entry).collect::<Model>(), *model);
    assert_eq!(hash.next_deadline(), model.values().filter_map(|entry| entry.1).min());
    let probe = short(random.item(30));
    assert_eq!(hash.get(&probe).map(Item::to_vec), model.get(&probe).map(|e| e.0.clone()));
    assert_eq!(hash.field(&probe).map(|found| entry(found).1), model.get(&probe).cloned());
    assert_eq!(hash.contains(&probe), model.contains_key(&probe));
    let found = hash.random(random.next()).map(entry);
    assert_eq!(found.is_some(), !model.is_empty());
    assert!(found.is_none_or(|(field, entry)| model[&field] == entry));
    let count = random.below(20) as usize;
    let picked = hash.pick_distinct(count, &mut || random.next());
    let picked: Model = picked.into_iter().map(entry).collect();
    assert_eq!(picked.len(), count.min(model.len()));
    check_scan(hash, model);
    match hash {
        HashRef::Pack(pack) | HashRef::PackEx(pack) => {
            assert_eq!(listpack::validate(pack), Ok(()));
        }
        HashRef::Table(table) => table.check_invariants(),
    }
}

fn check_scan(hash: HashRef<'_>, model: &Model) {
    let (mut scanned, mut cursor) = (BTreeSet::new(), 0);
    loop {
        cursor = hash.scan(cursor, &mut |found| {
            scanned.insert(found.field.to_vec());
        });
        if cursor == 0 {
            break;
        }
    }
    assert!(scanned.iter().eq(model.keys()));
}

#[test]
fn encodings_change_where_the_directives_say() {
    let limits = limits();
    let mut home = empty();
    let mut hash = HashMut::new(&mut home, &limits);
    for n in 0..12 {
        assert!(hash.set(format!("f{n}").as_bytes(), b"v", FieldDeadline::Clear));
    }
    assert!(!hash.set(b"f0", &[b'v'; 60], FieldDeadline::Clear));
    assert!(matches!(hash.view(), HashRef::Pack(_)));
    assert!(hash.set_deadline(b"f3", 77));
    assert!(!hash.set_deadline(b"absent", 77));
    assert!(matches!(hash.view(), HashRef::PackEx(_)));
    assert_eq!(hash.view().iter().next().unwrap().field, Item::Bytes(b"f3"));
    assert!(!hash.set(b"f0", &[b'v'; 61], FieldDeadline::Clear));
    assert!(matches!(hash.view(), HashRef::Table(_)));
    assert_eq!(hash.next_deadline(), Some(77));
    assert!(!hash.set(b"f3", b"9", FieldDeadline::Keep));
    assert_eq!(hash.next_deadline(), Some(77));
    assert!(!hash.set(b"f3", b"9", FieldDeadline::Clear));
    assert_eq!(hash.next_deadline(), None);
    assert_eq!(home.scheduled_ms, Some(77));
}

#[test]
fn a_deadline_set_again_and_again_leaves_no_heap_behind() {
    let limits = limits();
    let mut home = empty();
    let mut hash = HashMut::new(&mut home, &limits);
    for n in 0..1000 {
        let field = format!("field:{n}");
        hash.set(field.as_bytes(), &[b'v'; 30], FieldDeadline::At(10_000 + n));
    }
    for round in 0..50_000 {
        hash.set_deadline(b"field:7", 20_000 + round % 100);
    }
    let HashRef::Table(table) = hash.view() else {
        unreachable!()
    };
    table.check_invariants();
    assert!(hash.view().allocated_bytes() < 1000 * 96);
    let mut n_seen = 0;
    assert_eq!(hash.expire_due(10_499, &mut |_: &[u8]| n_seen += 1), 499);
    assert_eq!((n_seen, hash.view().len()), (499, 501));
}
