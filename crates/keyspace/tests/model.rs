//! The keyspace as its users see it: values and deadlines against a map, a snapshot against the
//! state at its cut, and locks under several threads.

#![allow(clippy::unwrap_used)]

use datatypes::encoding::table::{Record, hash};
use datatypes::home::{Limits, Piece};
use datatypes::value::ValueRef;
use keyspace::access::AccessClock;
use keyspace::db::{Db, Departed, Expiry, Terms, expire_shard};
use keyspace::entry::Entry;
use keyspace::keyspace::{Keyspace, Layout, ShardId};
use keyspace::locked::Locked;
use keyspace::protocol::Refusal;
use keyspace::snapshot::{Sink, Walk};
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

const PATIENCE: Duration = Duration::from_secs(10);

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % n
    }
}

fn small() -> Keyspace {
    Keyspace::new(Layout {
        n_databases: 4,
        n_shards: 4,
        n_groups: 2,
    })
}

/// Runs `work` on a database with everything within reach, at the time `now_ms`.
fn on<T>(
    keyspace: &Keyspace,
    database: u16,
    now_ms: u64,
    departed: &RefCell<Vec<Departed>>,
    work: impl FnOnce(&mut Db<'_>) -> T,
) -> T {
    let (limits, clock) = (Limits::default(), AccessClock::default());
    let locked = Locked::transaction(keyspace, PATIENCE).expect("no other transaction runs");
    work(&mut Db::new(
        &locked,
        database,
        Terms {
            now_ms,
            trace: clock.leaving(),
            limits: &limits,
            keeps_due: false,
            departed,
        },
    ))
}

fn text_of(entry: &Entry) -> Vec<u8> {
    match ValueRef::new(entry.encoding(), entry.payload()) {
        ValueRef::String(text) => text.to_vec(),
        other => panic!("a test's value is a string: {other:?}"),
    }
}

fn unix_ms() -> u64 {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    now.as_millis() as u64
}

#[test]
fn keys_with_deadlines_behave_like_a_map() {
    let (keyspace, mut random) = (small(), Random(1));
    let departed = RefCell::default();
    let mut model: HashMap<Vec<u8>, (Vec<u8>, Option<u64>)> = HashMap::new();
    let mut now_ms = unix_ms();
    for step in 0..30_000_u64 {
        now_ms += random.below(3);
        model.retain(|_, (_, deadline_ms)| deadline_ms.is_none_or(|ms| ms > now_ms));
        let key = format!("key:{}", random.below(400)).into_bytes();
        let value = format!("value:{step}").into_bytes();
        let deadline_ms = now_ms + 1 + random.below(500);
        on(&keyspace, 0, now_ms, &departed, |db| match random.below(6) {
            0 => {
                db.set_string(&key, &value, Expiry::Clear);
                model.insert(key, (value, None));
            }
            1 => {
                db.set_string(&key, &value, Expiry::At(deadline_ms));
                model.insert(key, (value, Some(deadline_ms)));
            }
            2 => {
                db.set_string(&key, &value, Expiry::Keep);
                model.entry(key).or_insert((vec![], None)).0 = value;
            }
            3 => {
                let known = model.get_mut(&key);
                assert_eq!(db.set_deadline(&key, Some(deadline_ms)), known.is_some());
                if let Some(known) = known {
                    known.1 = Some(deadline_ms);
                }
            }
            4 => assert_eq!(db.remove(&key), model.remove(&key).is_some()),
            _ => {
                let found = db
                    .entry(&key)
                    .map(|entry| (text_of(&entry), entry.deadline_ms()));
                assert_eq!(found, model.get(&key).cloned());
            }
        });
    }
    // Who expires what is due leaves exactly the keys that are not.
    let mut due = Vec::new();
    (0..2).for_each(|group| keyspace.take_due_shards(group, now_ms, &mut due));
    let (limits, clock) = (Limits::default(), AccessClock::default());
    for id in due {
        let locked = Locked::transaction(&keyspace, PATIENCE).unwrap();
        let terms = Terms {
            now_ms,
            trace: clock.leaving(),
            limits: &limits,
            keeps_due: false,
            departed: &departed,
        };
        while expire_shard(&locked, id, terms, 8) {}
    }
    assert_eq!(keyspace.len(0), model.len());
    assert!((0..2).all(|group| keyspace.next_due_ms(group) > now_ms));
}

type State = BTreeMap<(u16, Vec<u8>), (Vec<u8>, Option<u64>)>;

#[derive(Default)]
struct Saved(Mutex<State>);

impl Sink for Saved {
    fn save(&self, database: u16, entry: &Entry) {
        let value = (text_of(entry), entry.deadline_ms());
        let before = self
            .0
            .lock()
            .unwrap()
            .insert((database, entry.key().to_vec()), value);
        assert!(before.is_none(), "a key is saved once");
    }

    fn begin(&self, _id: u64, _database: u16, entry: &Entry) {
        panic!("{entry:?} is short");
    }

    fn piece(&self, _id: u64, piece: Piece<'_>) {
        panic!("{piece:?} belongs to nothing");
    }

    fn end(&self, _id: u64) {}
}

#[test]
fn a_snapshot_is_the_state_at_its_cut() {
    let keyspace = small();
    let departed = RefCell::default();
    let (mut random, mut model, base_ms) = (Random(9), State::new(), unix_ms());
    let change = |model: &mut State, random: &mut Random| {
        let database = random.below(3) as u16;
        let key = format!("key:{}", random.below(600)).into_bytes();
        let value = format!("value:{}", random.below(1 << 40)).into_bytes();
        on(&keyspace, database, base_ms, &departed, |db| match random.below(200) {
            0 => {
                db.clear();
                model.retain(|(other, _), _| *other != database);
            }
            1..=2 => {
                let other = (database + 1) % 3;
                db.swap(other);
                let swapped = std::mem::take(model).into_iter().map(|((at, key), value)| {
                    let at = match at {
                        at if at == database => other,
                        at if at == other => database,
                        at => at,
                    };
                    ((at, key), value)
                });
                model.extend(swapped);
            }
            3..=40 => {
                db.remove(&key);
                model.remove(&(database, key));
            }
            41..=60 => {
                let target = [&key[..], b"'"].concat();
                if let Some(entry) = db.take(&key) {
                    db.put_entry(&target, entry);
                    let moved = model.remove(&(database, key)).unwrap();
                    model.insert((database, target), moved);
                }
            }
            61..=90 => {
                let deadline_ms = base_ms + 1000 + random.below(1000);
                if db.set_deadline(&key, Some(deadline_ms)) {
                    model.get_mut(&(database, key)).unwrap().1 = Some(deadline_ms);
                }
            }
            _ => {
                db.set_string(&key, &value, Expiry::Clear);
                model.insert((database, key), (value, None));
            }
        });
    };
    for round in 0..30 {
        (0..300).for_each(|_| change(&mut model, &mut random));
        let (sink, at_cut) = (Arc::new(Saved::default()), model.clone());
        let locked = Locked::transaction(&keyspace, PATIENCE).unwrap();
        let mut walk = Walk::cut(&locked, sink.clone()).expect("no other walk is under way");
        drop(locked);
        let is_aborted = round % 5 == 4;
        while walk.step() {
            (0..random.below(8)).for_each(|_| change(&mut model, &mut random));
            if is_aborted {
                walk.abort();
            }
        }
        if !is_aborted {
            assert_eq!(*sink.0.lock().unwrap(), at_cut, "round {round}");
        }
    }
}

#[test]
fn transfers_between_shards_on_several_threads_keep_the_sum() {
    let keyspace = small();
    let departed = RefCell::default();
    let name = |i: u64| format!("account:{i}").into_bytes();
    for account in 0..16 {
        on(&keyspace, 0, 0, &departed, |db| db.set_string(&name(account), b"100", Expiry::Clear));
    }
    std::thread::scope(|scope| {
        for seed in 0..4 {
            let keyspace = &keyspace;
            scope.spawn(move || {
                let (mut random, limits) = (Random(seed), Limits::default());
                let clock = AccessClock::default();
                let departed = RefCell::default();
                for _ in 0..3_000 {
                    let (from, to) = (name(random.below(16)), name(random.below(16)));
                    let mut ids: Vec<ShardId> = [&from, &to]
                        .iter()
                        .map(|key| keyspace.shard_of(0, hash(key)))
                        .collect();
                    ids.sort_unstable();
                    ids.dedup();
                    let locked = loop {
                        match Locked::several(keyspace, &ids) {
                            Ok(locked) => break locked,
                            Err(Refusal::Busy) => std::thread::yield_now(),
                            Err(Refusal::Contended) => {
                                break Locked::transaction(keyspace, PATIENCE).unwrap();
                            }
                        }
                    };
                    let departed = &departed;
                    let terms = Terms {
                        now_ms: 0,
                        trace: clock.leaving(),
                        limits: &limits,
                        keeps_due: false,
                        departed,
                    };
                    let mut db = Db::new(&locked, 0, terms);
                    for (key, delta) in [(&from, -1), (&to, 1)] {
                        let mut text = db.string_mut(key).unwrap().expect("accounts stay");
                        text.increment(delta).unwrap();
                    }
                }
            });
        }
    });
    let sum: i64 = (0..16)
        .map(|account| {
            on(&keyspace, 0, 0, &departed, |db| {
                db.string(&name(account))
                    .unwrap()
                    .and_then(|text| text.int())
                    .unwrap()
            })
        })
        .sum();
    assert_eq!(sum, 1600);
}
