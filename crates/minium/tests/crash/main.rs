//! The crash test: the server is killed, or the power fails, at any moment under load, and what its
//! clients were told must be there. See `docs/crash.md`.
//!
//! MINIUM_CRASH_SECONDS says how long each test of chance goes on.

#![allow(clippy::unwrap_used)] // a test crate: only its #[test] functions are exempt by themselves

mod disk;
mod faults;
mod life;
mod load;
mod server;
mod site;
mod syncs;

use std::time::{Duration, Instant};

use disk::{Chance, Loss};
use life::{Life, Plan, Trouble};
use load::Promise;
use server::Place;

/// How long each test of chance goes on unless somebody says otherwise.
const SECONDS: u64 = 10;

/// Kills, failures of the power and what was checked.
#[derive(Default)]
struct Sum {
    n_kills: usize,
    n_failures: usize,
    n_writes: u64,
}

fn budget() -> Duration {
    let told = std::env::var("MINIUM_CRASH_SECONDS").ok();
    Duration::from_secs(told.map_or(SECONDS, |told| told.parse().expect("a number of seconds")))
}

/// Kills the server again and again. Each life begins with what the last one left: on the disk as it was, or as the
/// power would have left it.
fn crash(plan: &Plan, n_steps_max: u64) {
    let (started, mut sum) = (Instant::now(), Sum::default());
    let mut chance = Chance(std::process::id().into());
    let place = Place::new(plan.name);
    let mut found = load::Reached::default();
    while sum.n_kills < 3 || started.elapsed() < budget() {
        let seed = chance.next();
        let told = format!("{}, life {} of seed {seed}", plan.name, sum.n_kills);
        let n_steps = chance.below(n_steps_max);
        let life = Life::lead(&place, plan, found, n_steps, seed);
        sum.n_kills += 1;
        sum.n_writes += life.history.n_acknowledged();
        for _ in 0..plan.n_failures {
            let at = life.any_moment(&mut chance);
            let loss = match chance.below(3) {
                0 => Loss::Everything,
                _ => Loss::Some(chance.next()),
            };
            if let Err(reason) = life.check(&place, plan, at, loss, &|_| true) {
                panic!("{told}, power lost after call {at}, {loss:?}: {reason}");
            }
            sum.n_failures += 1;
        }
        let loss = match chance.below(3) {
            0 => Loss::Nothing,
            1 => Loss::Everything,
            _ => Loss::Some(chance.next()),
        };
        let end = life.record.len();
        match life.check(&place, plan, end, loss, &|_| true) {
            Ok(reached) => found = reached,
            Err(reason) => panic!("{told}, killed, {loss:?}: {reason}"),
        }
        // Large keys would make each life slow.
        let is_long = found.iter().any(|found| found.0 > 2_000);
        match is_long {
            true => {
                Place::new(plan.name);
                found = load::Reached::default();
            }
            false => disk::write_tree(&life.after(end, loss, &|_| true), &place.disk()),
        }
    }
    println!(
        "{}: {} kills, the power failed {} times, {} acknowledged writes, lost beyond the promise: 0",
        plan.name, sum.n_kills, sum.n_failures, sum.n_writes
    );
}

const SECOND: u64 = 1_000_000_000;

#[test]
fn always_loses_nothing() {
    let plan = Plan {
        name: "always",
        flags: &[
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--threads",
            "3", // two of which have connections
            "--save",
            "",
        ],
        promise: Promise::Within(0),
        trouble: Trouble::Rewrites,
        lasts: None,
        n_failures: 4,
    };
    crash(&plan, 300);
}

#[test]
fn switching_the_file_off_and_on_loses_nothing() {
    let plan = Plan {
        name: "switches",
        flags: &[
            "--appendonly",
            "yes",
            "--appendfsync",
            "always",
            "--threads",
            "3", // two of which have connections
            "--save",
            "",
        ],
        promise: Promise::Within(0),
        trouble: Trouble::Switches,
        lasts: None,
        n_failures: 4,
    };
    crash(&plan, 500);
}

#[test]
fn everysec_loses_two_seconds_at_most() {
    let plan = Plan {
        name: "everysec",
        flags: &[
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--save",
            "",
        ],
        promise: Promise::Within(2 * SECOND),
        trouble: Trouble::Rewrites,
        lasts: Some(Duration::from_millis(2_500)),
        n_failures: 30,
    };
    crash(&plan, 100_000);
}

#[test]
fn no_keeps_order_and_what_the_process_has_handed_over() {
    let plan = Plan {
        name: "no",
        flags: &["--appendonly", "yes", "--appendfsync", "no", "--save", ""],
        promise: Promise::Handed,
        trouble: Trouble::Rewrites,
        lasts: None,
        n_failures: 4,
    };
    crash(&plan, 300);
}

#[test]
fn snapshots_keep_what_came_before_them() {
    let plan = Plan {
        name: "snapshots",
        flags: &["--appendonly", "no", "--save", ""],
        promise: Promise::None,
        trouble: Trouble::Saves,
        lasts: None,
        n_failures: 4,
    };
    crash(&plan, 300);
}
