//! The table against a `HashMap`, and the promises of its scan, its memory and its sampling.

use super::*;
use std::collections::{HashMap, HashSet};

struct Number(Box<(u64, [u8; 8])>);

// SAFETY: a box's address is stable and owned by the record.
unsafe impl Record for Number {
    fn into_raw(self) -> NonNull<u8> {
        NonNull::from(Box::leak(self.0)).cast()
    }
    unsafe fn from_raw(raw: NonNull<u8>) -> Number {
        // SAFETY: made by `into_raw`.
        Number(unsafe { Box::from_raw(raw.cast().as_ptr()) })
    }
    fn key(&self) -> &[u8] {
        &self.0.1
    }
}

fn number(key: u64, value: u64) -> Number {
    Number(Box::new((value, key.to_le_bytes())))
}

fn at(key: u64) -> (u64, [u8; 8]) {
    (hash(&key.to_le_bytes()), key.to_le_bytes())
}

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

fn filled(n: u64) -> Table<Number> {
    let mut table = Table::new();
    for key in 0..n {
        table.insert(at(key).0, number(key, key));
    }
    table
}

#[test]
fn behaves_like_a_map() {
    for seed in 0..8 {
        let mut random = Random(seed);
        let (mut table, mut model) = (Table::<Number>::new(), HashMap::new());
        for step in 0..40_000_u64 {
            // Grows for a while, then shrinks, with every operation in between.
            let growing = step / 8_000 % 2 == 0;
            let key = random.next() % 3_000;
            let (hash, bytes) = at(key);
            match random.next() % 10 {
                0..=2 => {
                    let mut place = table.find_mut(hash, &bytes);
                    if let Some(place) = &mut place {
                        place.update(|_| number(key, step));
                        model.insert(key, step);
                    }
                    assert_eq!(place.is_some(), model.contains_key(&key));
                }
                op if (op < 8) == growing => {
                    model.entry(key).or_insert_with(|| {
                        table.insert(hash, number(key, step));
                        step
                    });
                }
                _ => {
                    let gone = table.find_mut(hash, &bytes).map(|place| place.remove().0.0);
                    assert_eq!(gone, model.remove(&key));
                }
            }
            assert_eq!(table.len(), model.len());
            assert_eq!(table.get(hash, &bytes).map(|r| r.0.0), model.get(&key).copied());
            if step % 4_000 == 0 {
                table.check_invariants();
                let all: HashMap<u64, u64> = table
                    .iter()
                    .map(|r| (u64::from_le_bytes(r.0.1), r.0.0))
                    .collect();
                assert_eq!(all, model);
            }
        }
        for key in model.keys() {
            let (hash, bytes) = at(*key);
            table.find_mut(hash, &bytes).unwrap().remove();
        }
        table.check_invariants();
        assert!(table.shape().0 <= 2, "an emptied table gives its buckets back");
    }
}

#[test]
fn stays_under_its_bytes_per_record() {
    let mut total = 0.0;
    for step in 0..20_u64 {
        let n = 65_536 + step * 65_536 / 20;
        total += filled(n).allocated_bytes() as f64 / n as f64;
    }
    assert!(total / 20.0 < 13.0, "{} bytes per record on average", total / 20.0);
}

#[test]
fn a_scan_loses_nothing_while_the_table_grows_and_shrinks() {
    for seed in 0..20 {
        let mut random = Random(seed);
        let mut table = filled(500);
        let (mut seen, mut cursor, mut extra) = (HashSet::new(), 0, 10_000);
        loop {
            cursor = table.scan(cursor, &mut |r| {
                seen.insert(u64::from_le_bytes(r.0.1));
            });
            if cursor == 0 {
                break;
            }
            for _ in 0..random.next() % 60 {
                if seed % 2 == 0 {
                    table.insert(at(extra).0, number(extra, 0));
                    extra += 1;
                } else {
                    let key = 100 + random.next() % 400; // 0..100 stay
                    let (hash, bytes) = at(key);
                    if let Some(place) = table.find_mut(hash, &bytes) {
                        place.remove();
                    }
                }
            }
        }
        let kept = if seed % 2 == 0 { 500 } else { 100 };
        assert!((0..kept).all(|key| seen.contains(&key)), "seed {seed}");
    }
}

#[test]
fn samples_are_spread_evenly() {
    let table = filled(100);
    let (mut random, mut hits) = (Random(7), [0_u32; 100]);
    for _ in 0..100_000 {
        let sample = table.sample(random.next()).unwrap();
        hits[u64::from_le_bytes(sample.0.1) as usize] += 1;
    }
    assert!(hits.iter().all(|&n| (700..1300).contains(&n)), "{hits:?}");
}

#[test]
fn a_flag_survives_updates_and_splits() {
    let mut table = Table::<Number>::new();
    for key in 0..5_000 {
        table
            .insert(at(key).0, number(key, 0))
            .set_flag(key % 3 == 0);
    }
    for key in 0..5_000 {
        let (hash, bytes) = at(key);
        let mut place = table.find_mut(hash, &bytes).unwrap();
        place.update(|_| number(key, 1));
        assert_eq!(place.flag(), key % 3 == 0);
    }
}

#[test]
fn finds_records_by_the_low_bits_of_their_hash() {
    let table = filled(3_000);
    for key in 0..3_000 {
        let mut found = false;
        table.with_low_hash(at(key).0 & 0x0fff_ffff, &mut |r| found |= r.0.1 == key.to_le_bytes());
        assert!(found);
    }
}
