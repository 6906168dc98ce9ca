//! Random operations against a deque, across both encodings and every kind of node.

use std::collections::VecDeque;

use super::*;
use crate::home::Owned;
use crate::testing::Random;

type Model = VecDeque<Vec<u8>>;

fn empty() -> Owned {
    Owned::new(Encoding::ListPack, NewPayload::Blob(&listpack::EMPTY))
}

fn limits(size: i64) -> Limits {
    Limits {
        list_max_listpack_size: size,
        ..Limits::default()
    }
}

fn texts(items: Items<'_>) -> Vec<Vec<u8>> {
    items.map(Item::to_vec).collect()
}

fn some_item(random: &mut Random) -> Vec<u8> {
    match random.below(120) {
        0 => vec![b'L'; 4200 + random.below(9000) as usize],
        1..4 => vec![b'M'; random.below(2000) as usize],
        _ => random.item(25),
    }
}

fn check(list: ListRef<'_>, model: &Model, random: &mut Random) {
    list.check_invariants();
    assert_eq!(list.len(), model.len());
    let from = random.below(list.len() as u64 + 2) as usize;
    let to = from + random.below(80) as usize;
    let part = from.min(model.len())..to.min(model.len());
    let part: Vec<_> = model.range(part).cloned().collect();
    assert_eq!(texts(list.range(from..to, false)), part);
    let mut back = texts(list.range(from..to, true));
    back.reverse();
    assert_eq!(back, part);
    let at = random.below(list.len() as u64 + 1) as usize;
    assert_eq!(list.index(at as i64).map(Item::to_vec), model.get(at).cloned());
    let from_end = model.len().checked_sub(at + 1).map(|at| model[at].clone());
    assert_eq!(list.index(-1 - at as i64).map(Item::to_vec), from_end);
    assert!(list.iter().map(Item::to_vec).eq(model.iter().cloned()));
}

fn step(list: &mut ListMut<'_, &mut Owned>, model: &mut Model, random: &mut Random, grow: u64) {
    let item = some_item(random);
    let side = if random.below(2) == 0 {
        Side::Head
    } else {
        Side::Tail
    };
    match random.below(12 + grow) {
        0 => {
            let count = random.below(4) as usize;
            let mut popped = Vec::new();
            list.pop(side, count, &mut |item| popped.push(item.to_vec()));
            let pop = |_| {
                if side == Side::Head {
                    model.pop_front()
                } else {
                    model.pop_back()
                }
            };
            assert_eq!(popped, (0..count).map_while(pop).collect::<Vec<_>>());
        }
        1 | 2 => {
            let at = random.below(model.len() as u64 + 1) as usize;
            assert_eq!(list.set(at as i64, &item), at < model.len());
            if let Some(slot) = model.get_mut(at) {
                *slot = item;
            }
        }
        3..6 => {
            let pivot = random.item(25);
            let found = model.iter().position(|item| *item == pivot);
            let before = random.below(2) == 0;
            assert_eq!(list.insert(&pivot, before, &item), found.is_some());
            if let Some(at) = found {
                model.insert(if before { at } else { at + 1 }, item);
            }
        }
        6 => remove(list, model, &random.item(25), random.below(5) as i64 - 2),
        7 if random.below(8) == 0 => {
            let from = random.below(model.len() as u64 / 2 + 1) as usize;
            let to = from + random.below(model.len() as u64 + 1) as usize;
            list.trim(from..to);
            model.truncate(to);
            model.drain(..from.min(model.len()));
        }
        _ => {
            let items: Vec<_> = (0..1 + random.below(3))
                .map(|_| some_item(random))
                .collect();
            list.push(side, items.iter().map(Vec::as_slice));
            for item in items {
                match side {
                    Side::Head => model.push_front(item),
                    Side::Tail => model.push_back(item),
                }
            }
        }
    }
}

fn remove(list: &mut ListMut<'_, &mut Owned>, model: &mut Model, needle: &[u8], count: i64) {
    let mut places: Vec<_> = list
        .view()
        .positions(needle, count < 0, usize::MAX)
        .collect();
    let all: Vec<_> = (0..model.len()).filter(|at| model[*at] == needle).collect();
    let mut sorted = places.clone();
    sorted.sort_unstable();
    assert_eq!(sorted, all);
    places.truncate(if count == 0 {
        usize::MAX
    } else {
        count.unsigned_abs() as usize
    });
    assert_eq!(list.remove(needle, count), places.len());
    places.sort_unstable();
    for at in places.into_iter().rev() {
        model.remove(at);
    }
}

#[test]
fn operations_agree_with_a_deque() {
    for (seed, size) in [-1, -2, -5, 1, 3, 16, 128, 0].into_iter().enumerate() {
        let limits = limits(size);
        let mut random = Random(seed as u64);
        let (mut home, mut model) = (empty(), Model::new());
        for round in 0..1500 {
            let mut list = ListMut::new(&mut home, &limits);
            step(&mut list, &mut model, &mut random, if round % 500 < 400 { 4 } else { 0 });
            check(list.view(), &model, &mut random);
        }
    }
}

#[test]
fn size_decides_the_encoding_both_ways() {
    let limits = limits(8);
    let mut home = empty();
    let mut list = ListMut::new(&mut home, &limits);
    list.push(Side::Tail, [b"x".as_slice(); 8].into_iter());
    assert_eq!(list.home.encoding(), Encoding::ListPack);
    list.push(Side::Tail, [b"y".as_slice()].into_iter());
    assert_eq!(list.home.encoding(), Encoding::QuickList);
    list.pop(Side::Tail, 1, &mut |_| ());
    assert_eq!(list.home.encoding(), Encoding::QuickList);
    list.pop(Side::Tail, 3, &mut |_| ());
    assert_eq!(list.home.encoding(), Encoding::QuickList);
    list.pop(Side::Tail, 1, &mut |_| ());
    assert_eq!(list.home.encoding(), Encoding::ListPack);
    assert_eq!(list.view().len(), 4);

    list.push(Side::Head, [[b'b'; 9000].as_slice()].into_iter());
    assert_eq!(list.home.encoding(), Encoding::QuickList);
    assert_eq!(list.view().index(0).map(Item::text_len), Some(9000));
    list.set(0, b"small again");
    assert_eq!(list.home.encoding(), Encoding::QuickList, "two nodes");
    list.trim(1..3);
    assert_eq!(list.home.encoding(), Encoding::ListPack);
}

#[test]
fn nodes_are_nearly_full_from_both_ends() {
    for side in [Side::Head, Side::Tail] {
        let limits = limits(-2);
        let mut home = empty();
        let mut list = ListMut::new(&mut home, &limits);
        for n in 0..100_000 {
            let item = format!("element:{n:08}");
            list.push(side, [item.as_bytes()].into_iter());
        }
        let bytes = list.view().allocated_bytes();
        assert!(bytes < 100_000 * 19, "{bytes}");
        let middle = list.view().index(50_000).map(Item::to_vec);
        let n = if side == Side::Tail { 50_000 } else { 49_999 };
        assert_eq!(middle, Some(format!("element:{n:08}").into_bytes()));
    }
}

#[test]
fn a_queue_keeps_its_size() {
    let limits = limits(-2);
    let mut home = empty();
    let mut list = ListMut::new(&mut home, &limits);
    list.push(Side::Tail, [[b'q'; 50].as_slice(); 1000].into_iter());
    for _ in 0..20_000 {
        assert_eq!(list.pop(Side::Head, 1, &mut |_| ()), 1);
        list.push(Side::Tail, [[b'q'; 50].as_slice()].into_iter());
    }
    list.view().check_invariants();
    assert!(list.view().allocated_bytes() < 70_000, "{}", list.view().allocated_bytes());
}

#[test]
fn indexes_and_ranges_resolve() {
    assert_eq!(resolve_range(5, 0, -1), 0..5);
    assert_eq!(resolve_range(5, -100, 2), 0..3);
    assert_eq!(resolve_range(5, 3, 100), 3..5);
    assert!(resolve_range(5, 4, 3).is_empty());
    assert!(resolve_range(0, 0, -1).is_empty());
    assert!(resolve_range(5, i64::MAX, i64::MIN).is_empty());
    assert_eq!(resolve_index(5, -5), Some(0));
    assert_eq!(resolve_index(5, -6), None);
    assert_eq!(resolve_index(5, i64::MIN), None);
    assert_eq!(resolve_index(5, 5), None);
}
