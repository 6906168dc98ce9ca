//! The shipped lock and waiter code under loom, which runs every interleaving of a few threads.
//!
//! `RUSTFLAGS="--cfg loom" cargo test -p keyspace --test loom --release`. A shard's room is loom's
//! cell here, so two holders that their lock does not order fail the model by themselves.

#![cfg(loom)]
#![allow(clippy::unwrap_used)]

use datatypes::encoding::table::hash;
use datatypes::home::Limits;
use keyspace::access::AccessClock;
use keyspace::db::{Db, Expiry, Terms};
use keyspace::keyspace::{Keyspace, Layout, ShardId};
use keyspace::locked::Locked;
use keyspace::registry::{Waiter, Watch};
use keyspace::sync::Arc;
use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread;
use std::cell::RefCell;
use std::time::Duration;

const LOW: ShardId = ShardId::new(0, 0);
const HIGH: ShardId = ShardId::new(0, 1);

/// Two shards, made before any thread starts.
fn keyspace() -> Arc<Keyspace> {
    let keyspace = Keyspace::new(Layout {
        n_databases: 1,
        n_shards: 2,
        n_groups: 1,
    });
    let locked = Locked::transaction(&keyspace, Duration::ZERO).unwrap();
    locked.take_database(0);
    drop(locked);
    Arc::new(keyspace)
}

/// Explores with at most so many preemptions, which bounds the time.
fn model(preemptions: usize, run: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(run);
}

/// As the engine takes one shard, but for its patience: a model must not spin.
fn one(keyspace: &Keyspace, id: ShardId) -> Locked<'_> {
    Locked::one(keyspace, id).unwrap_or_else(|_| transaction(keyspace))
}

fn transaction(keyspace: &Keyspace) -> Locked<'_> {
    Locked::transaction(keyspace, Duration::ZERO).unwrap()
}

/// As the engine takes several shards.
fn both(keyspace: &Keyspace) -> Locked<'_> {
    Locked::several(keyspace, &[LOW, HIGH]).unwrap_or_else(|_| transaction(keyspace))
}

/// A key of the shard.
fn key_in(keyspace: &Keyspace, id: ShardId) -> Vec<u8> {
    (0..)
        .map(|n: u32| n.to_string().into_bytes())
        .find(|key| keyspace.shard_of(0, hash(key)) == id)
        .unwrap()
}

/// Adds one to the shard's counter by reading and writing it.
fn count(locked: &Locked<'_>, id: ShardId) {
    let key = key_in(locked.keyspace(), id);
    on(locked, |db| {
        let n = db.string(&key).unwrap().and_then(|n| n.int()).unwrap_or(0);
        db.set_string(&key, (n + 1).to_string().as_bytes(), Expiry::Clear);
    });
}

fn counted(keyspace: &Keyspace, id: ShardId) -> i64 {
    let key = key_in(keyspace, id);
    on(&one(keyspace, id), |db| db.string(&key).unwrap().unwrap().int().unwrap())
}

fn on<T>(locked: &Locked<'_>, work: impl FnOnce(&mut Db<'_>) -> T) -> T {
    let clock = AccessClock::default();
    let terms = Terms {
        now_ms: 0,
        trace: clock.leaving(),
        limits: &Limits::default(),
        keeps_due: false,
        departed: &RefCell::default(),
    };
    work(&mut Db::new(locked, 0, terms))
}

#[test]
fn one_shard_has_one_holder() {
    model(3, || {
        let keyspace = keyspace();
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let keyspace = keyspace.clone();
                thread::spawn(move || count(&one(&keyspace, LOW), LOW))
            })
            .collect();
        count(&one(&keyspace, LOW), LOW);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(counted(&keyspace, LOW), 3);
    });
}

#[test]
fn several_shards_one_and_the_transaction_exclude_each_other_and_finish() {
    model(4, || {
        let keyspace = keyspace();
        let several = thread::spawn({
            let keyspace = keyspace.clone();
            move || {
                let locked = both(&keyspace);
                count(&locked, LOW);
                count(&locked, HIGH);
            }
        });
        let wide = thread::spawn({
            let keyspace = keyspace.clone();
            move || {
                // Against the order, on first touch: only the transaction may.
                let locked = transaction(&keyspace);
                count(&locked, HIGH);
                count(&locked, LOW);
            }
        });
        count(&one(&keyspace, HIGH), HIGH);
        several.join().unwrap();
        wide.join().unwrap();
        assert_eq!((counted(&keyspace, LOW), counted(&keyspace, HIGH)), (2, 3));
    });
}

#[test]
fn two_that_take_all_finish() {
    model(3, || {
        let keyspace = keyspace();
        let other = thread::spawn({
            let keyspace = keyspace.clone();
            move || count(&both(&keyspace), HIGH)
        });
        count(&both(&keyspace), HIGH);
        other.join().unwrap();
        assert_eq!(counted(&keyspace, HIGH), 2);
    });
}

#[test]
fn a_waiter_is_served_once_or_cancelled_and_never_both() {
    model(3, || {
        let waiter = Arc::new(Waiter::new(Box::new(()), false));
        let ends = Arc::new(AtomicUsize::new(0));
        let servers: Vec<_> = (0..2)
            .map(|_| {
                let (waiter, ends) = (waiter.clone(), ends.clone());
                thread::spawn(move || {
                    if waiter.claim() {
                        assert!(waiter.finish(), "who claimed may finish");
                        ends.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        if waiter.cancel() {
            ends.fetch_add(1, SeqCst);
        }
        servers
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert_eq!(ends.load(SeqCst), 1);
        assert!(waiter.is_over() && !waiter.claim() && !waiter.cancel());
    });
}

#[test]
fn a_claim_given_back_loses_neither_a_ready_key_nor_a_timeout() {
    model(3, || {
        let waiter = Arc::new(Waiter::new(Box::new(()), false));
        let ends = Arc::new(AtomicUsize::new(0));
        let idle = thread::spawn({
            let (waiter, ends) = (waiter.clone(), ends.clone());
            move || {
                if waiter.claim() && !waiter.release() {
                    ends.fetch_add(1, SeqCst); // tells the session to look again
                }
            }
        });
        let server = thread::spawn({
            let (waiter, ends) = (waiter.clone(), ends.clone());
            move || {
                if waiter.claim() {
                    assert!(waiter.finish());
                    ends.fetch_add(1, SeqCst);
                }
            }
        });
        if waiter.cancel() {
            ends.fetch_add(1, SeqCst);
        }
        idle.join().unwrap();
        server.join().unwrap();
        assert_eq!(ends.load(SeqCst), 1, "the session hears of the end exactly once");
        assert!(waiter.is_over());
    });
}

#[test]
fn a_waiter_of_two_keys_in_two_shards_is_served_by_one_of_them() {
    model(4, || {
        let keyspace = keyspace();
        let waiter = Arc::new(Waiter::new(Box::new(()), false));
        {
            let locked = both(&keyspace);
            locked.registry_or_new(LOW).wait(b"a", waiter.clone());
            locked.registry_or_new(HIGH).wait(b"b", waiter.clone());
        }
        let n_served = Arc::new(AtomicUsize::new(0));
        let serve = |id: ShardId, key: &'static [u8]| {
            let (keyspace, n_served) = (keyspace.clone(), n_served.clone());
            move || {
                let locked = one(&keyspace, id);
                let Some(first) = locked.registry_or_new(id).waiter(key, 0) else {
                    return;
                };
                if first.claim() {
                    assert!(first.finish());
                    n_served.fetch_add(1, SeqCst);
                }
            }
        };
        let other = thread::spawn(serve(HIGH, b"b"));
        serve(LOW, b"a")();
        other.join().unwrap();
        assert_eq!(n_served.load(SeqCst), 1);
    });
}

#[test]
fn exec_sees_every_write_that_came_before_it_under_the_lock() {
    model(3, || {
        let keyspace = keyspace();
        let key: &[u8] = b"watched";
        let id = keyspace.shard_of(0, hash(key));
        let watch = Arc::new(Watch::default());
        one(&keyspace, id)
            .registry_or_new(id)
            .watch(key, watch.clone(), false);
        let writer = thread::spawn({
            let keyspace = keyspace.clone();
            move || {
                let locked = one(&keyspace, id);
                on(&locked, |db| db.set_string(key, b"1", Expiry::Clear));
                locked.registry_or_new(id).touch(key);
            }
        });
        {
            let locked = both(&keyspace);
            assert_eq!(on(&locked, |db| db.exists(key)), watch.is_dirty());
        }
        writer.join().unwrap();
        assert!(watch.is_dirty());
    });
}
