//! No sync of the server is there in vain: when any one of them is taken away, the checks find a loss.
//!
//! A life is recorded once. The disk is worked out with all syncs, and once more without those of one site:
//! the same moment, the same chances, and only the second may be wrong.

use std::collections::BTreeSet;
use std::fs;
use std::time::Duration;

use super::SECOND;
use super::disk::{Call, Loss, Tree};
use super::life::{Life, Plan, Trouble, info, is_ok, wait_for, wait_until_idle};
use super::load::{self, Promise, Reached, now_ns};
use super::server::{Faults, Place, Server};
use super::site::{self, Site};

const ALWAYS: Plan = Plan {
    name: "syncs-always",
    flags: &[
        "--appendonly",
        "yes",
        "--appendfsync",
        "always",
        "--save",
        "",
    ],
    promise: Promise::Within(0),
    trouble: Trouble::Rewrites,
    lasts: None,
    n_failures: 0,
};

/// Moments at which a missing sync shows, the likeliest first: the end, and around changes of names.
fn moments(life: &Life) -> Vec<usize> {
    let is_naming = |at: &usize| {
        let call = &life.record[*at].call;
        matches!(call, Call::Renamed { .. } | Call::Removed { .. } | Call::Created { .. })
    };
    let mut moments = vec![life.record.len()];
    let changes = (0..life.record.len()).filter(is_naming);
    moments.extend(changes.flat_map(|at| [at + 1, (at + 2).min(life.record.len())]));
    moments.dedup();
    moments
}

/// Finds a moment at which the loss shows if the syncs of `site` do not count; with them it must not.
fn must_matter(place: &Place, plan: &Plan, life: &Life, site: Site) -> String {
    let sites: Vec<Option<Site>> = (0..life.record.len())
        .map(|at| site::of(&life.record, at))
        .collect();
    let n_syncs = sites.iter().flatten().filter(|of| **of == site).count();
    assert!(
        n_syncs > 0,
        "{site:?} does not occur: {:?}",
        sites.iter().flatten().collect::<BTreeSet<_>>()
    );
    let without = |at: usize| sites[at] != Some(site);
    let losses = [Loss::Everything].into_iter().chain((1..5).map(Loss::Some));
    for loss in losses {
        for at in moments(life) {
            if let Err(reason) = life.check(place, plan, at, loss, &without) {
                let with = life.check(place, plan, at, loss, &|_| true);
                assert!(with.is_ok(), "{site:?} is not to blame: {with:?}");
                let reason = reason.lines().last().unwrap_or_default();
                let told = format!("{site:?} ({n_syncs} syncs) left out: {reason}");
                println!("{told}");
                return told;
            }
        }
    }
    panic!("nothing is lost without the {n_syncs} syncs of {site:?}");
}

#[test]
fn each_sync_of_the_append_only_file_matters() {
    let place = Place::new(ALWAYS.name);
    let life = Life::with(&place, &ALWAYS, Reached::default(), 1, |client, history| {
        for n in 1..=3 {
            wait_for("the load goes on", || history.n_acknowledged() > n * 20);
            is_ok(client, &["BGREWRITEAOF"]).unwrap();
            wait_until_idle(client).unwrap();
        }
        wait_for("the load goes on", || history.n_acknowledged() > 100);
    });
    for site in [
        Site::Increment,
        Site::Base,
        Site::Manifest,
        Site::NamesBeforeManifest,
        Site::NameOfManifest,
        Site::NameOfFolder,
    ] {
        must_matter(&place, &ALWAYS, &life, site);
    }
}

#[test]
fn the_sync_of_each_second_matters() {
    let plan = Plan {
        name: "syncs-everysec",
        flags: &[
            "--appendonly",
            "yes",
            "--appendfsync",
            "everysec",
            "--auto-aof-rewrite-percentage",
            "0", // a fast machine writes 64 MB meanwhile, and a base makes up for what is not synced
            "--save",
            "",
        ],
        promise: Promise::Within(2 * SECOND),
        trouble: Trouble::None,
        lasts: Some(Duration::from_millis(2_600)),
        n_failures: 0,
    };
    let place = Place::new(plan.name);
    let life = Life::lead(&place, &plan, Reached::default(), 0, 1);
    must_matter(&place, &plan, &life, Site::Increment);
}

#[test]
fn the_syncs_of_a_snapshot_matter() {
    let plan = Plan {
        name: "syncs-snapshot",
        flags: &["--appendonly", "no", "--save", ""],
        promise: Promise::None,
        trouble: Trouble::None,
        lasts: None,
        n_failures: 0,
    };
    let place = Place::new(plan.name);
    let life = Life::with(&place, &plan, Reached::default(), 1, |client, history| {
        for n in 1..=3 {
            wait_for("the load goes on", || history.n_acknowledged() > n * 20);
            let before = history.acknowledged(now_ns());
            assert_eq!(is_ok(client, &["SAVE"]), Some(true));
            history.mark(before);
        }
    });
    for site in [Site::Snapshot, Site::NameOfSnapshot] {
        must_matter(&place, &plan, &life, site);
    }
}

/// With `appendfsync no` the only syncs are those that something else asks for.
const NO: Plan = Plan {
    name: "syncs-close",
    flags: &["--appendonly", "yes", "--appendfsync", "no", "--save", ""],
    promise: Promise::None,
    trouble: Trouble::None,
    lasts: None,
    n_failures: 0,
};

#[test]
fn the_sync_of_a_file_that_is_switched_off_matters() {
    let place = Place::new(NO.name);
    let life = Life::with(&place, &NO, Reached::default(), 1, |client, history| {
        wait_for("the load goes on", || history.n_acknowledged() > 50);
        let before = history.acknowledged(now_ns());
        assert_eq!(is_ok(client, &["CONFIG", "SET", "appendonly", "no"]), Some(true));
        history.mark(before);
    });
    must_matter(&place, &NO, &life, Site::Increment);
}

#[test]
fn the_sync_of_a_file_before_the_next_is_written_matters() {
    let plan = Plan {
        name: "syncs-next",
        ..NO
    };
    let place = Place::new(plan.name);
    let life = Life::with(&place, &plan, Reached::default(), 1, |client, history| {
        wait_for("the load goes on", || history.n_acknowledged() > 50);
        is_ok(client, &["CONFIG", "SET", "rdb-key-save-delay", "20000"]).unwrap();
        // Something is written between the last sync and the cut.
        let slow = Faults {
            path: "appendonlydir/",
            sync_us: 100_000,
            ..Faults::default()
        };
        slow.happen(&place);
        is_ok(client, &["BGREWRITEAOF"]).unwrap();
        let next = place
            .folder
            .join("disk/appendonlydir/appendonly.aof.2.incr.aof");
        wait_for("the next is written", || fs::metadata(&next).is_ok_and(|file| file.len() > 0));
        let n = history.n_acknowledged();
        wait_for("the load goes on", || history.n_acknowledged() > n + 60);
        assert_eq!(info("aof_rewrite_in_progress", client), Some(1), "the walk is slow");
    });
    must_matter(&place, &plan, &life, Site::IncrementBeforeNext);
}

#[test]
fn the_sync_of_a_file_that_is_switched_on_matters() {
    let plan = Plan {
        name: "syncs-open",
        flags: &["--appendonly", "no", "--appendfsync", "no", "--save", ""],
        ..NO
    };
    let place = Place::new(plan.name);
    let life = Life::with(&place, &plan, Reached::default(), 1, |client, history| {
        wait_for("the load goes on", || history.n_acknowledged() > 50);
        is_ok(client, &["CONFIG", "SET", "rdb-key-save-delay", "20000"]).unwrap();
        is_ok(client, &["CONFIG", "SET", "appendonly", "yes"]).unwrap();
        // What comes after the cut is in the increment alone.
        let increment = place
            .folder
            .join("disk/appendonlydir/temp-appendonly.aof.incr");
        wait_for("the cut is made", || fs::metadata(&increment).is_ok_and(|file| file.len() > 0));
        let n = history.n_acknowledged();
        wait_for("the load goes on", || history.n_acknowledged() > n + 30);
        let before = history.acknowledged(now_ns());
        assert_eq!(info("aof_rewrite_in_progress", client), Some(1), "the walk is slow");
        wait_until_idle(client).unwrap();
        history.mark(before);
    });
    let served = Plan {
        flags: NO.flags,
        ..plan
    };
    must_matter(&place, &served, &life, Site::Increment);
}

#[test]
fn the_sync_of_what_was_loaded_matters() {
    let place = Place::new("syncs-loaded");
    let mut life = Life::with(&place, &NO, Reached::default(), 1, |_, history| {
        wait_for("the load goes on", || history.n_acknowledged() > 50);
    });
    // The process was killed, the system was not. Another serves what it finds.
    let always = [NO.flags, &["--appendfsync", "always"]].concat();
    let mut server = Server::watched(&place, &always);
    let found = load::find(&mut server.ready().unwrap()).unwrap();
    life.history.mark(found);
    life.killed_ns = now_ns();
    server.kill();
    life.record = place.record();
    must_matter(&place, &NO, &life, Site::Increment);
}

/// An append-only file as Redis wrote it before version 7, with half a command at its end.
const OLD_FILE: &[u8] = b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n*2\r\n$3\r\nDEL";

#[test]
fn the_syncs_of_a_file_of_an_old_server_matter() {
    let place = Place::new("syncs-old");
    fs::write(place.disk().join("appendonly.aof"), OLD_FILE).unwrap();
    let plan = Plan {
        promise: Promise::Within(0),
        flags: ALWAYS.flags,
        ..NO
    };
    let life = Life::with(&place, &plan, Reached::default(), 1, |_, history| {
        wait_for("the load goes on", || history.n_acknowledged() > 50);
    });
    must_matter(&place, &plan, &life, Site::Cut);
    must_matter(&place, &plan, &life, Site::NameOfOldFile);
}

#[test]
fn the_syncs_of_the_configuration_file_matter() {
    let place = Place::new("syncs-settings");
    fs::write(place.disk().join("minium.conf"), "save \"\"\n").unwrap();
    let plan = Plan {
        flags: &["minium.conf"],
        ..NO
    };
    let life = Life::with(&place, &plan, Reached::default(), 1, |client, _| {
        assert_eq!(is_ok(client, &["CONFIG", "SET", "timeout", "1234"]), Some(true));
        assert_eq!(is_ok(client, &["CONFIG", "REWRITE"]), Some(true));
    });
    let is_there = |tree: Tree| {
        let bytes = tree["minium.conf"].clone().unwrap_or_default();
        String::from_utf8(bytes).unwrap().contains("timeout 1234")
    };
    let (end, loss) = (life.record.len(), Loss::Everything);
    assert!(is_there(life.after(end, loss, &|_| true)));
    for site in [Site::Settings, Site::NameOfSettings] {
        let without = |at: usize| site::of(&life.record, at) != Some(site);
        assert!(!is_there(life.after(end, loss, &without)), "{site:?}");
    }
}
