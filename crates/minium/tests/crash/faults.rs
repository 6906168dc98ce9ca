//! A disk that fails, is full or takes little at a time: nothing is acknowledged that it does not hold.

use resp::decode::Value;

use super::SECOND;
use super::disk::Loss;
use super::life::{Life, Plan, Trouble, info, is_ok, wait_for, wait_until_idle};
use super::load::{Promise, Reached};
use super::server::{Faults, Place};

const EIO: u32 = 5;
const ENOSPC: u32 = 28;

fn plan(name: &'static str, policy: &'static str) -> Plan {
    let (flags, promise): (&[&str], _) = match policy {
        "always" => (
            &[
                "--appendonly",
                "yes",
                "--appendfsync",
                "always",
                "--save",
                "",
            ],
            Promise::Within(0),
        ),
        _ => (
            &[
                "--appendonly",
                "yes",
                "--appendfsync",
                "everysec",
                "--save",
                "",
            ],
            Promise::Within(2 * SECOND),
        ),
    };
    Plan {
        name,
        flags,
        promise,
        trouble: Trouble::None,
        lasts: None,
        n_failures: 0,
    }
}

fn check_end(life: &Life, place: &Place, plan: &Plan) {
    Faults::default().happen(place);
    for loss in [
        Loss::Everything,
        Loss::Some(1),
        Loss::Some(2),
        Loss::Some(3),
    ] {
        let checked = life.check(place, plan, life.record.len(), loss, &|_| true);
        checked.unwrap_or_else(|reason| panic!("{loss:?}: {reason}"));
    }
}

#[test]
fn short_writes_are_gone_on_with() {
    let (place, plan) = (Place::new("short"), plan("short", "always"));
    let life = Life::with(&place, &plan, Reached::default(), 1, |_, history| {
        Faults {
            n_bytes_max: 7,
            ..Faults::default()
        }
        .happen(&place);
        let n = history.n_acknowledged();
        wait_for("the load goes on", || history.n_acknowledged() > n + 30);
    });
    check_end(&life, &place, &plan);
}

#[test]
fn with_always_a_failure_of_the_disk_ends_the_process_before_an_answer() {
    let sync = Faults {
        path: ".incr.aof",
        sync_errno: EIO,
        ..Faults::default()
    };
    let full = Faults {
        path: ".incr.aof",
        write_errno: ENOSPC,
        n_bytes_left: 12_345,
        ..Faults::default()
    };
    for (name, faults) in [("always-eio", sync), ("always-full", full)] {
        let (place, plan) = (Place::new(name), plan(name, "always"));
        let life = Life::with(&place, &plan, Reached::default(), 1, |client, history| {
            wait_for("the load goes on", || history.n_acknowledged() > 30);
            faults.happen(&place);
            wait_for("the process ends", || client.call(&["PING"]).is_err());
        });
        assert_eq!(life.exit_code, Some(1), "{name}");
        check_end(&life, &place, &plan);
    }
}

#[test]
fn with_everysec_writes_are_refused_until_the_disk_works_again() {
    let sync = Faults {
        path: ".incr.aof",
        sync_errno: EIO,
        ..Faults::default()
    };
    let full = Faults {
        path: ".incr.aof",
        write_errno: ENOSPC,
        n_bytes_left: 12_345,
        ..Faults::default()
    };
    for (name, faults) in [("everysec-eio", sync), ("everysec-full", full)] {
        let (place, plan) = (Place::new(name), plan(name, "everysec"));
        let life = Life::with(&place, &plan, Reached::default(), 1, |client, history| {
            wait_for("the load goes on", || history.n_acknowledged() > 30);
            faults.happen(&place);
            wait_for("writes are refused", || {
                let answer = client.call(&["SET", "other", "x"]).unwrap();
                matches!(answer, Value::Error(line) if line.starts_with(b"MISCONF"))
            });
            assert_eq!(is_ok(client, &["GET", "s:0"]), Some(true), "reads go on");
            Faults::default().happen(&place);
            wait_for("writes are taken again", || {
                is_ok(client, &["SET", "other", "x"]) == Some(true)
            });
            let n = history.n_acknowledged();
            let started = std::time::Instant::now();
            wait_for("the load goes on", || {
                history.n_acknowledged() > n + 30 && started.elapsed().as_millis() > 2_500
            });
        });
        check_end(&life, &place, &plan);
    }
}

#[test]
fn a_save_that_the_disk_refuses_leaves_the_last_one() {
    let failures = [
        Faults {
            path: ".rdb",
            sync_errno: EIO,
            ..Faults::default()
        },
        Faults {
            path: ".rdb",
            write_errno: ENOSPC,
            n_bytes_left: 100,
            ..Faults::default()
        },
    ];
    let place = Place::new("save");
    let plan = Plan {
        name: "save",
        flags: &["--appendonly", "no", "--save", ""],
        promise: Promise::None,
        trouble: Trouble::None,
        lasts: None,
        n_failures: 0,
    };
    let life = Life::with(&place, &plan, Reached::default(), 1, |client, history| {
        wait_for("the load goes on", || history.n_acknowledged() > 30);
        let before = history.acknowledged(super::load::now_ns());
        assert_eq!(is_ok(client, &["SAVE"]), Some(true));
        history.mark(before);
        for faults in failures {
            faults.happen(&place);
            assert_eq!(is_ok(client, &["SAVE"]), Some(false));
            assert_eq!(is_ok(client, &["BGSAVE"]), Some(true));
            wait_until_idle(client).unwrap();
            let left = std::fs::read_dir(place.disk()).unwrap().count();
            assert_eq!(left, 1, "only the last one is there");
        }
    });
    check_end(&life, &place, &plan);
}

#[test]
fn a_rewrite_that_the_disk_refuses_changes_nothing() {
    let files = ["temp-rewriteaof", ".manifest", "appendonlydir/"];
    let (place, plan) = (Place::new("rewrite"), plan("rewrite", "always"));
    let life = Life::with(&place, &plan, Reached::default(), 1, |client, history| {
        for path in files {
            for (sync_errno, write_errno) in [(EIO, 0), (0, ENOSPC)] {
                let n = history.n_acknowledged();
                wait_for("the load goes on", || history.n_acknowledged() > n + 20);
                Faults {
                    path,
                    sync_errno,
                    write_errno,
                    ..Faults::default()
                }
                .happen(&place);
                is_ok(client, &["BGREWRITEAOF"]).unwrap();
                wait_until_idle(client).unwrap();
                Faults::default().happen(&place);
                is_ok(client, &["BGREWRITEAOF"]).unwrap();
                wait_until_idle(client).unwrap();
            }
        }
        assert_eq!(info("aof_enabled", client), Some(1));
    });
    let mut chance = super::disk::Chance(7);
    for n in 0..40 {
        let (at, loss) = (life.any_moment(&mut chance), Loss::Some(n));
        let checked = life.check(&place, &plan, at, loss, &|_| true);
        checked.unwrap_or_else(|reason| panic!("after call {at}, {loss:?}: {reason}"));
    }
    check_end(&life, &place, &plan);
}
