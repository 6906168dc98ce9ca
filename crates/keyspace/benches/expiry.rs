//! What the deadline index costs: filing hints, taking due ones, and the whole of expiring a key.
//!
//! `cargo bench -p keyspace --bench expiry` prints nanoseconds; for instructions, run the binary it
//! names under `valgrind --tool=callgrind` with the name of one part as its argument.

#![allow(missing_docs)]

use datatypes::home::Limits;
use keyspace::access::AccessClock;
use keyspace::db::{Db, Expiry, Terms, expire_shard};
use keyspace::deadline::DeadlineIndex;
use keyspace::keyspace::{Keyspace, Layout};
use keyspace::locked::Locked;
use std::cell::RefCell;
use std::hint::black_box;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

const KEYS: u64 = 1_000_000;
const SHARDS: u64 = 1024;

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let parts: [(&str, fn()); 3] = [
        ("index_per_shard", || index(KEYS / SHARDS, SHARDS)),
        ("index_of_all", || index(KEYS, 1)),
        ("keys", keys),
    ];
    for (name, run) in parts {
        if wanted.iter().all(|word| word.starts_with('-')) || wanted.iter().any(|w| w == name) {
            println!("{name}");
            run();
        }
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().as_millis() as u64
}

fn timed<T>(what: &str, n: u64, work: impl FnOnce() -> T) -> T {
    let start = Instant::now();
    let result = work();
    println!("  {what}: {:.1} ns each", start.elapsed().as_nanos() as f64 / n as f64);
    result
}

/// Hints of one hour in random order, `n` in each of `n_indexes` indexes.
fn index(n: u64, n_indexes: u64) {
    let (base, total) = (now_ms(), n * n_indexes);
    let mut indexes: Vec<DeadlineIndex> = Vec::new();
    indexes.resize_with(n_indexes as usize, DeadlineIndex::new);
    let hash = |i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(29);
    timed("file", total, || {
        for i in 0..total {
            let at = (hash(i) >> 20) % n_indexes;
            indexes[at as usize].file(base + hash(i) % 3_600_000, hash(i));
        }
    });
    timed("pop_due", total, || {
        for index in &mut indexes {
            while let Some(low) = index.pop_due(base + 3_600_000) {
                black_box(low);
            }
        }
    });
}

/// Keys that all fall due, expired as an event loop does: 64 under one hold of a lock.
fn keys() {
    let keyspace = Keyspace::new(Layout {
        n_databases: 1,
        n_shards: SHARDS as u16,
        n_groups: 1,
    });
    let (limits, departed, base) = (Limits::default(), RefCell::default(), now_ms());
    let clock = AccessClock::default();
    let terms = |now_ms| Terms {
        now_ms,
        trace: clock.leaving(),
        limits: &limits,
        keeps_due: false,
        departed: &departed,
    };
    let locked = Locked::transaction(&keyspace, Duration::ZERO).expect("nobody else is here");
    timed("set with a deadline", KEYS, || {
        let mut db = Db::new(&locked, 0, terms(base));
        for i in 0..KEYS {
            let deadline_ms = base + 1_000 + i.wrapping_mul(0x9e37_79b9_7f4a_7c15) % 3_600_000;
            db.set_string(format!("key:{i:012}").as_bytes(), &[b'v'; 32], Expiry::At(deadline_ms));
        }
    });
    drop(locked);
    let mut slowest = Duration::ZERO;
    timed("expire", KEYS, || {
        let mut due = Vec::new();
        keyspace.take_due_shards(0, base + 4_000_000, &mut due);
        for id in due {
            loop {
                let start = Instant::now();
                let locked = Locked::one(&keyspace, id).expect("nobody else is here");
                let is_more = expire_shard(&locked, id, terms(base + 4_000_000), 64);
                drop(locked);
                departed.borrow_mut().clear();
                slowest = slowest.max(start.elapsed());
                if !is_more {
                    break;
                }
            }
        }
    });
    println!("  slowest slice of 64: {slowest:?}");
    assert_eq!(keyspace.len(0), 0);
}
