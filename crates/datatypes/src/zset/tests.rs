//! Random operations against a sorted vector, across both encodings.

use super::*;
use crate::home::Owned;
use crate::testing::Random;

fn empty() -> Owned {
    Owned::new(Encoding::ZsetPack, NewPayload::Blob(&listpack::EMPTY))
}

fn small() -> Limits {
    Limits {
        zset_max_listpack_entries: 16,
        zset_max_listpack_value: 60,
        ..Limits::default()
    }
}

#[derive(Default)]
struct Model(Vec<(f64, Vec<u8>)>);

impl Model {
    fn find(&self, member: &[u8]) -> Option<usize> {
        self.0.iter().position(|(_, m)| m == member)
    }

    fn set(&mut self, member: &[u8], score: f64) -> Option<f64> {
        let old = self.find(member).map(|at| self.0.remove(at).0);
        let at = self
            .0
            .partition_point(|(s, m)| *s < score || *s == score && **m < *member);
        self.0.insert(at, (score, member.to_vec()));
        old
    }
}

fn owned(pair: (Item<'_>, f64)) -> (f64, Vec<u8>) {
    (pair.1, pair.0.to_vec())
}

fn some_score(random: &mut Random) -> f64 {
    match random.below(8) {
        0 => f64::INFINITY,
        1 => f64::NEG_INFINITY,
        2 => random.below(5) as f64 / 8.0,
        3 => -1e300 * random.below(3) as f64 + 0.0,
        4 => 5e18,
        _ => random.below(20) as f64 - 10.0,
    }
}

fn check(set: ZsetRef<'_>, model: &Model, random: &mut Random) {
    set.check_invariants();
    assert_eq!(set.len(), model.0.len());
    assert!(set.iter().map(owned).eq(model.0.iter().cloned()));
    let from = random.below(set.len() as u64 + 2) as usize;
    let to = from + random.below(20) as usize;
    let part = &model.0[from.min(set.len())..to.min(set.len())];
    assert!(
        set.range(from..to, false)
            .map(owned)
            .eq(part.iter().cloned())
    );
    assert!(
        set.range(from..to, true)
            .map(owned)
            .eq(part.iter().rev().cloned())
    );
    assert_eq!(set.range(from..to, true).len(), part.len());
    for (rank, (score, member)) in model.0.iter().enumerate() {
        assert_eq!(set.rank(member, false), Some((rank, *score)));
        assert_eq!(set.rank(member, true), Some((set.len() - 1 - rank, *score)));
        assert_eq!(set.score(member), Some(*score));
    }
    let mut seen = 0;
    let mut cursor = 0;
    loop {
        cursor = set.scan(cursor, &mut |_, _| seen += 1);
        if cursor == 0 {
            break;
        }
    }
    assert_eq!(seen, set.len());
    let count = random.below(12) as usize;
    let mut picked: Vec<_> = set
        .pick_distinct(count, &mut || random.next())
        .into_iter()
        .map(owned)
        .collect();
    picked.sort_by(|a, b| a.1.cmp(&b.1));
    picked.dedup();
    assert_eq!(picked.len(), count.min(set.len()));
    assert!(picked.iter().all(|pair| model.0.contains(pair)));
    let sampled = set.random(random.next()).map(owned);
    assert_eq!(sampled.is_some(), !set.is_empty());
    assert!(sampled.is_none_or(|pair| model.0.contains(&pair)));
    check_bounds(set, model, random);
}

fn check_bounds(set: ZsetRef<'_>, model: &Model, random: &mut Random) {
    let mut bound = || ScoreBound {
        value: some_score(random),
        exclusive: random.below(2) == 0,
    };
    let (min, max) = (bound(), bound());
    let ranks = set.ranks_by_score(min, max);
    for (rank, (score, _)) in model.0.iter().enumerate() {
        let above = score > &min.value || !min.exclusive && *score == min.value;
        let below = score < &max.value || !max.exclusive && *score == max.value;
        assert_eq!(ranks.contains(&rank), above && below, "{score} in {min:?} {max:?}");
    }
}

fn step(home: &mut Owned, limits: &Limits, model: &mut Model, random: &mut Random) {
    let mut set = ZsetMut::new(home, limits);
    let member = random.item(60);
    let score = some_score(random);
    let mut removed = Vec::new();
    let mut note = |member: &[u8], score: f64| removed.push((score, member.to_vec()));
    match random.below(12) {
        0..7 => {
            let change = set.set_score(&member, score);
            match model.set(&member, score) {
                None => assert_eq!(change, Change::Added(score)),
                Some(old) if old == score => assert_eq!(change, Change::Same(old)),
                Some(old) => assert_eq!(change, Change::Updated { old, new: score }),
            }
        }
        7 => {
            assert_eq!(set.update(&member, |_| None), Change::Skipped);
            let change = set.update(&member, |old| old.map(|old| old + 1.0));
            if let Some(at) = model.find(&member) {
                let new = model.0[at].0 + 1.0;
                model.set(&member, new);
                assert!(matches!(change, Change::Updated { .. } | Change::Same(_)));
            }
        }
        8 => {
            let had = model.find(&member).map(|at| model.0.remove(at).0);
            assert_eq!(set.remove(&member), had);
        }
        9 => {
            assert_eq!(set.pop_min(&mut note), !model.0.is_empty());
            assert_eq!(removed, model.0.drain(..model.0.len().min(1)).collect::<Vec<_>>());
        }
        10 => {
            assert_eq!(set.pop_max(&mut note), !model.0.is_empty());
            assert_eq!(removed, model.0.pop().into_iter().collect::<Vec<_>>());
        }
        _ => {
            let from = random.below(model.0.len() as u64 + 1) as usize;
            let to = from + random.below(6) as usize;
            set.remove_ranks(from..to, &mut note);
            let to = to.min(model.0.len());
            assert_eq!(removed, model.0.drain(from..to).collect::<Vec<_>>());
        }
    }
    check(set.view(), model, random);
}

#[test]
fn operations_agree_with_a_sorted_vector() {
    let limits = small();
    for seed in 0..12 {
        let mut random = Random(seed);
        let (mut home, mut model) = (empty(), Model::default());
        for _ in 0..400 {
            step(&mut home, &limits, &mut model, &mut random);
        }
    }
}

#[test]
fn entries_and_length_decide_the_encoding() {
    let limits = small();
    let mut home = empty();
    let mut set = ZsetMut::new(&mut home, &limits);
    for n in 0..16 {
        set.set_score(format!("{n}").as_bytes(), 1.0);
    }
    set.set_score(b"3", 2.0);
    assert_eq!(set.home.encoding(), Encoding::ZsetPack);
    set.set_score(b"m", 2.0);
    assert_eq!(set.home.encoding(), Encoding::ZsetTree);
    assert_eq!(set.view().len(), 17);

    let mut home = empty();
    let mut set = ZsetMut::new(&mut home, &limits);
    set.set_score(&[b'x'; 60], 1.0);
    assert_eq!(set.home.encoding(), Encoding::ZsetPack);
    set.set_score(&[b'x'; 61], 1.0);
    assert_eq!(set.home.encoding(), Encoding::ZsetTree);

    let mut home = empty();
    ZsetMut::new(&mut home, &limits).reserve(17, 1);
    assert_eq!(home.encoding(), Encoding::ZsetTree);
}

#[test]
fn lex_bounds_in_both_encodings() {
    for limit in [0, 128] {
        let limits = Limits {
            zset_max_listpack_entries: limit,
            ..Limits::default()
        };
        let mut home = empty();
        let mut set = ZsetMut::new(&mut home, &limits);
        for member in ["a", "b", "c", "10", "9"] {
            set.set_score(member.as_bytes(), 0.0);
        }
        let ranks = |min, max| set.view().ranks_by_lex(min, max);
        assert_eq!(ranks(LexBound::Min, LexBound::Max), 0..5);
        assert_eq!(ranks(LexBound::Inclusive(b"9"), LexBound::Exclusive(b"c")), 1..4);
        assert_eq!(ranks(LexBound::Exclusive(b"9"), LexBound::Inclusive(b"c")), 2..5);
        assert!(ranks(LexBound::Max, LexBound::Min).is_empty());
        assert!(ranks(LexBound::Inclusive(b"c"), LexBound::Inclusive(b"a")).is_empty());
        let removed = set.remove_by_lex(LexBound::Inclusive(b"a"), LexBound::Max, &mut |_, _| ());
        assert_eq!((removed, set.view().len()), (3, 2));
    }
}

#[test]
fn limits_count_from_either_end() {
    assert_eq!(limit_ranks(2..10, false, 1, 3), 3..6);
    assert_eq!(limit_ranks(2..10, true, 1, 3), 6..9);
    assert_eq!(limit_ranks(2..10, false, 7, -1), 9..10);
    assert_eq!(limit_ranks(2..10, true, 100, 5).len(), 0);
    assert_eq!(limit_ranks(2..10, false, -1, 5).len(), 0);
    assert_eq!(limit_ranks(2..10, false, 0, 0).len(), 0);
}

#[test]
fn a_listpack_forgets_the_sign_of_zero_and_a_tree_keeps_it() {
    for (limit, negative) in [(128, false), (0, true)] {
        let limits = Limits {
            zset_max_listpack_entries: limit,
            ..Limits::default()
        };
        let mut home = empty();
        let mut set = ZsetMut::new(&mut home, &limits);
        set.set_score(b"m", -0.0);
        assert_eq!(set.view().score(b"m").map(f64::is_sign_negative), Some(negative));
        assert_eq!(set.set_score(b"m", 0.0), Change::Same(0.0));
    }
}

#[test]
fn members_of_a_tree_cost_little_memory() {
    let limits = Limits::default();
    let mut home = empty();
    let mut set = ZsetMut::new(&mut home, &limits);
    let count = 50_000;
    let mut random = Random(3);
    for n in 0..count {
        set.set_score(format!("member:{n:06}").as_bytes(), random.below(1 << 40) as f64);
    }
    let per_member = set.view().allocated_bytes() / count;
    assert!(per_member < 56, "{per_member}");
    assert_eq!(set.remove_ranks(10..count, &mut |_, _| ()), count - 10);
    set.view().check_invariants();
    assert!(set.view().allocated_bytes() < 4096);
}
