//! Sets against a model, through all encodings.

use std::collections::BTreeSet;

use super::*;
use crate::home::Owned;
use crate::testing::Random;

fn limits() -> Limits {
    Limits {
        set_max_intset_entries: 8,
        set_max_listpack_entries: 12,
        set_max_listpack_value: 40,
        ..Limits::default()
    }
}

fn set_of(members: &[&str], limits: &Limits) -> Owned {
    let (encoding, payload) = fresh(members[0].as_bytes(), 1, limits);
    let mut home = Owned::new(encoding, payload);
    for member in members {
        SetMut::new(&mut home, limits).add(member.as_bytes());
    }
    home
}

fn view(home: &Owned) -> SetRef<'_> {
    SetRef::new(home.encoding(), home.payload()).unwrap()
}

#[test]
fn operations_agree_with_a_tree_in_every_encoding() {
    let limits = limits();
    let mut random = Random(7);
    let mut seen = BTreeSet::new();
    for round in 0..300 {
        let space = [8, 40, 400][round % 3];
        let first = random.item(space);
        let (encoding, payload) = fresh(&first, 1 + round % 14, &limits);
        let mut home = Owned::new(encoding, payload);
        let mut model = BTreeSet::new();
        for _ in 0..60 {
            let member = match round % 2 {
                0 => random.item(space),
                _ => random.below(space).to_string().into_bytes(),
            };
            step(&mut random, &mut home, &limits, &mut model, member);
            check(&mut random, &home, &model);
            seen.insert(home.encoding() as u8);
        }
    }
    assert_eq!(seen.len(), 3);
}

fn step(
    random: &mut Random,
    home: &mut Owned,
    limits: &Limits,
    model: &mut BTreeSet<Vec<u8>>,
    member: Vec<u8>,
) {
    let mut set = SetMut::new(home, limits);
    match random.below(8) {
        0 | 1 => assert_eq!(set.remove(&member), model.remove(&member)),
        2 => {
            let mut popped = None;
            let any = set.pop_random(random.next(), |item| popped = Some(item.to_vec()));
            assert_eq!(any, !model.is_empty());
            assert!(popped.is_none_or(|member| model.remove(&member)));
        }
        _ => assert_eq!(set.add(&member), model.insert(member)),
    }
}

fn check(random: &mut Random, home: &Owned, model: &BTreeSet<Vec<u8>>) {
    let set = view(home);
    assert_eq!((set.len(), set.is_empty()), (model.len(), model.is_empty()));
    assert_eq!(set.iter().map(Item::to_vec).collect::<BTreeSet<_>>(), *model);
    let probe = random.item(40);
    assert_eq!(set.contains(&probe), model.contains(&probe));
    assert_eq!(set.contains_item(Item::of(&probe)), model.contains(&probe));
    assert_eq!(set.random(random.next()).is_some(), !model.is_empty());
    let count = random.below(12) as usize;
    let picked = set.pick_distinct(count, &mut || random.next());
    let picked: BTreeSet<_> = picked.into_iter().map(Item::to_vec).collect();
    assert_eq!(picked.len(), count.min(model.len()));
    assert!(picked.is_subset(model));
    let (mut scanned, mut cursor) = (BTreeSet::new(), 0);
    loop {
        cursor = set.scan(cursor, &mut |item| {
            scanned.insert(item.to_vec());
        });
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(scanned, *model);
    match set {
        SetRef::Ints(bytes) => assert_eq!(intset::validate(bytes), Ok(())),
        SetRef::Pack(bytes) => assert_eq!(listpack::validate(bytes), Ok(())),
        SetRef::Table(table) => table.check_invariants(),
    }
}

#[test]
fn encodings_change_where_the_directives_say() {
    let limits = limits();
    assert_eq!(set_of(&["1", "2"], &limits).encoding(), Encoding::IntSet);
    assert_eq!(set_of(&["1", "a"], &limits).encoding(), Encoding::SetPack);
    assert_eq!(set_of(&["a", "1"], &limits).encoding(), Encoding::SetPack);
    assert_eq!(set_of(&["1", &"a".repeat(41)], &limits).encoding(), Encoding::SetTable);
    assert_eq!(set_of(&["b", &"a".repeat(40)], &limits).encoding(), Encoding::SetPack);
    let nine: Vec<String> = (0..9).map(|n| n.to_string()).collect();
    let nine: Vec<&str> = nine.iter().map(String::as_str).collect();
    assert_eq!(set_of(&nine[..8], &limits).encoding(), Encoding::IntSet);
    assert_eq!(set_of(&nine, &limits).encoding(), Encoding::SetTable);
    let mut home = set_of(&nine[..3], &limits);
    SetMut::new(&mut home, &limits).expect_members(9);
    assert_eq!(home.encoding(), Encoding::SetTable);
    assert_eq!(fresh(b"1", 9, &limits).0, Encoding::SetPack);
    assert_eq!(fresh(b"1", 13, &limits).0, Encoding::SetTable);
}

#[test]
fn a_big_set_samples_distinct_members_quickly() {
    let limits = Limits::default();
    let mut home = set_of(&["member"], &limits);
    let mut random = Random(8);
    for n in 0..5000 {
        SetMut::new(&mut home, &limits).add(format!("m{n}").as_bytes());
    }
    let set = view(&home);
    for count in [10, 1000, 3000, 6000] {
        let picked = set.pick_distinct(count, &mut || random.next());
        let distinct: BTreeSet<_> = picked.into_iter().map(Item::to_vec).collect();
        assert_eq!(distinct.len(), count.min(5001));
    }
    assert!(set.allocated_bytes() < 5001 * 24);
}
