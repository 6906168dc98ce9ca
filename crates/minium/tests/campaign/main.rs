//! The network campaign: servers on links that are cut, late, slow or half-open, and processes that stand still.
//! In the end all have the same data, and every write that was confirmed. See `docs/replication.md`.
//!
//! MINIUM_CAMPAIGN_SEED says with which schedule to begin, MINIUM_CAMPAIGN_ROUNDS how many there are,
//! MINIUM_CAMPAIGN_HOSTS=1 that each server gets a host of its own (`hosts.rs`).

#![allow(clippy::unwrap_used)] // a test crate: only its #[test] functions are exempt by themselves

mod hosts;
mod network;
mod node;
mod writers;

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use hosts::{Net, Route};
use network::Link;
use node::{Node, text, wait_for, wait_for_same};
use writers::Writers;

/// Schedules, and cuts of a snapshot, unless somebody says otherwise.
const ROUNDS: u64 = 4;
const CUTS_PER_ROUND: u64 = 25;
const N_NODES: usize = 3;
/// How long a primary without replicas may still accept writes, where it is told to: a second, and some for a
/// machine that is busy.
const LAG_MAX: Duration = Duration::from_millis(2500);

/// A small generator of numbers.
pub struct Chance(u64);

impl Chance {
    /// A number less than `n`.
    pub fn below(&mut self, n: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % n
    }
}

fn told(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(text.parse().expect("a number"))
}

/// The seeds of this run.
fn seeds() -> std::ops::Range<u64> {
    let seed = told("MINIUM_CAMPAIGN_SEED").unwrap_or(u64::from(std::process::id()) << 8);
    seed..seed + told("MINIUM_CAMPAIGN_ROUNDS").unwrap_or(ROUNDS)
}

#[test]
fn all_have_the_same_after_every_schedule() {
    for seed in seeds() {
        let started = Instant::now();
        let result = std::panic::catch_unwind(|| schedule(seed));
        match result {
            Ok(told) => {
                println!("schedule {seed}: {told}, {:.1} s", started.elapsed().as_secs_f32())
            }
            Err(panic) => {
                let hosts = if hosts::are_wanted() { " --hosts" } else { "" };
                eprintln!("fails: cargo xtask campaign --seed {seed} --rounds 1{hosts}");
                std::panic::resume_unwind(panic);
            }
        }
    }
}

/// The servers, and the way from each to each other.
struct Hosts {
    nodes: Vec<Node>,
    links: Vec<Vec<Link>>,
    /// What they stand on; it goes last.
    _net: Option<Net>,
}

impl Hosts {
    fn start(seed: u64, more: &[&str]) -> Hosts {
        let net = hosts::are_wanted().then(|| Net::new(N_NODES));
        let start = |i: usize| {
            let name = format!("{seed}-{i}");
            match &net {
                Some(net) => Node::start_on(&net.hosts[i], &name, more),
                None => Node::start(&name, more),
            }
        };
        let nodes: Vec<Node> = (0..N_NODES).map(start).collect();
        let link = |i: usize, j: usize| match &net {
            Some(net) => Link::Route(Route::new(net.hosts[i].clone(), net.hosts[j].clone())),
            None => Link::to(nodes[j].port),
        };
        let links = (0..N_NODES).map(|i| (0..N_NODES).map(|j| link(i, j)).collect());
        Hosts {
            links: links.collect(),
            nodes,
            _net: net,
        }
    }

    /// The way of `replica` to `primary`.
    fn link(&self, replica: usize, primary: usize) -> &Link {
        &self.links[replica][primary]
    }

    fn follow(&self, replica: usize, primary: usize) {
        let link = self.link(replica, primary);
        link.lead(&self.nodes[replica], &self.nodes[primary]);
    }

    fn mend(&self) {
        self.links.iter().flatten().for_each(Link::mend);
        self.nodes.iter().for_each(|node| node.signal("CONT"));
    }
}

/// One schedule of chance; what happened.
fn schedule(seed: u64) -> String {
    let mut chance = Chance(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let must_be_followed = chance.below(2) == 0;
    let mut flags = vec![
        "--repl-diskless-sync",
        ["yes", "no"][chance.below(2) as usize],
    ];
    flags.extend([
        "--repl-backlog-size",
        ["16kb", "1mb"][chance.below(2) as usize],
    ]);
    if must_be_followed {
        flags.extend([
            "--min-replicas-to-write",
            "1",
            "--min-replicas-max-lag",
            "1",
        ]);
    }
    let hosts = Hosts::start(seed, &flags);
    let writers = Writers::new(N_NODES);
    (1..N_NODES).for_each(|i| hosts.follow(i, 0));
    let n_splits = thread::scope(|scope| {
        let (hosts, writers) = (&hosts, &writers);
        for id in 0..2 {
            let mut chance = Chance(chance.below(u64::MAX) | 1);
            scope.spawn(move || writers.write(id, &hosts.nodes, &mut chance));
        }
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut n_splits = 0;
            for _ in 0..6 + chance.below(6) {
                trouble(hosts, writers, &mut chance);
                if chance.below(8) == 0 {
                    split(hosts, writers, must_be_followed, &mut chance);
                    n_splits += 1;
                }
            }
            hosts.mend();
            n_splits
        }));
        writers.is_done.store(true, Relaxed);
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    });
    let nodes: Vec<&Node> = hosts.nodes.iter().collect();
    wait_for_same("they do not come to the same", &nodes);
    let primary = writers.primary.load(Relaxed);
    let confirmed = writers.confirmed.lock().unwrap();
    let mut client = hosts.nodes[primary].client();
    for (id, n) in confirmed.iter() {
        let found = text(&mut client, &format!("HEXISTS confirmed:{id} {n}"));
        assert_eq!(found, ":1", "write {n} of {id} was confirmed and is lost");
    }
    for node in &hosts.nodes {
        assert!(!node.log().contains("CRITICAL"), "{}", node.log());
    }
    let (n_full, n_partial) = ("sync_full", "sync_partial_ok");
    let sum = |field: &str| -> u64 { hosts.nodes.iter().map(|node| node.figure(field)).sum() };
    format!(
        "{} keys, {} confirmed writes, {n_splits} splits, {} whole copies, {} resumed",
        text(&mut client, "DBSIZE").trim_start_matches(':'),
        confirmed.len(),
        sum(n_full),
        sum(n_partial),
    )
}

fn sleep_ms(ms: u64) {
    thread::sleep(Duration::from_millis(ms));
}

/// One trouble of a link or of a process, for a while.
fn trouble(hosts: &Hosts, writers: &Writers, chance: &mut Chance) {
    let primary = writers.primary.load(Relaxed);
    let replica = (primary + 1 + chance.below(N_NODES as u64 - 1) as usize) % N_NODES;
    let link = hosts.link(replica, primary);
    match chance.below(9) {
        0 | 1 => link.cut(),
        2 => link.hold(),
        3 => link.delay(chance.below(60)),
        4 => link.slow_down(2_000 + chance.below(100_000)),
        5 => hosts.nodes[replica].signal("STOP"),
        6 => hosts.nodes[primary].signal("STOP"),
        7 => _ = hosts.nodes[primary].ask("CLIENT KILL TYPE replica"),
        _ => {
            // Another history: everything is copied, perhaps into the next trouble.
            // While it loads what it got, it does not listen.
            let node = &hosts.nodes[replica];
            wait_for("it is let go", || (node.ask("REPLICAOF NO ONE") == "+OK").then_some(()));
            node.ask("SET only here");
            hosts.follow(replica, primary);
        }
    }
    // Longer than repl-timeout now and then: both sides give up by themselves.
    let ms = match chance.below(6) {
        0 => 3_500,
        _ => 20 + chance.below(400),
    };
    sleep_ms(ms);
    // A trouble may last into the next one, but not the silence of a process.
    hosts.nodes[replica].signal("CONT");
    hosts.nodes[primary].signal("CONT");
    if chance.below(3) > 0 {
        hosts.mend();
    }
}

/// The primary is alone with its clients; who has most of its stream becomes the primary.
fn split(hosts: &Hosts, writers: &Writers, must_be_followed: bool, chance: &mut Chance) {
    hosts.mend();
    let old = writers.primary.load(Relaxed);
    let others: Vec<usize> = (0..N_NODES).filter(|i| *i != old).collect();
    // Who is on the way to a whole copy has nothing of its own to stand for what was confirmed.
    wait_for("both follow", || {
        others
            .iter()
            .all(|i| hosts.nodes[*i].is_linked())
            .then_some(())
    });
    let is_silent = chance.below(2) == 0;
    for i in &others {
        match is_silent {
            true => hosts.link(*i, old).hold(),
            false => hosts.link(*i, old).cut(),
        }
    }
    let split_at = Instant::now();
    let lasts = if must_be_followed { 3_500 } else { 300 };
    sleep_ms(lasts);
    if must_be_followed && let Some(at) = writers.accepted_at(old) {
        let late = at.saturating_duration_since(split_at);
        assert!(late < LAG_MAX, "a write is accepted {late:?} after the last replica is gone");
    }
    let new = others.iter().copied();
    let new = new
        .max_by_key(|i| hosts.nodes[*i].figure("slave_repl_offset"))
        .unwrap();
    assert_eq!(hosts.nodes[new].ask("REPLICAOF NO ONE"), "+OK");
    writers.primary.store(new, Relaxed);
    for i in others.iter().filter(|i| **i != new) {
        hosts.follow(*i, new);
    }
    sleep_ms(chance.below(300));
    hosts.follow(old, new);
    hosts.mend();
}

/// Twenty keys that are always written together.
fn versions(client: &mut client::connection::Connection, version: &str) -> String {
    let pairs: Vec<String> = (0..20).map(|i| format!("version:{i} {version}")).collect();
    text(client, &format!("MSET {}", pairs.join(" ")))
}

#[test]
fn a_snapshot_that_is_cut_at_any_byte_is_not_there_or_all_there() {
    let mut chance = Chance(seeds().start | 1);
    println!("cuts of seed {}", chance.0);
    for way in ["yes", "no"] {
        let primary = Node::start(&format!("bytes-{way}-0"), &["--repl-diskless-sync", way]);
        let replica = Node::start(&format!("bytes-{way}-1"), &["--appendonly", way]);
        let (mut ours, mut theirs) = (primary.client(), replica.client());
        let script = "for i=1,2000 do redis.call('hset','h:'..i%50,i,ARGV[1]) \
                      redis.call('set','k:'..i,ARGV[1]) end";
        ours.call(&["EVAL", script, "0", "new"]).unwrap();
        theirs.call(&["EVAL", script, "0", "old"]).unwrap();
        versions(&mut ours, "new");
        versions(&mut theirs, "old");
        let old = replica.ask("DEBUG DIGEST");
        let link = Link::to(primary.port);
        // How much there is to be cut.
        let scratch = Node::start(&format!("bytes-{way}-2"), &[]);
        link.lead(&scratch, &primary);
        wait_for_same("nothing is copied", &[&primary, &scratch]);
        let n_bytes = link.n_bytes();
        drop(scratch);
        let is_done = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| look_for_a_mix(&replica, &is_done));
            let n_cuts = (seeds().end - seeds().start) * CUTS_PER_ROUND;
            for i in 0..n_cuts {
                let at = match i % 3 {
                    0 => n_bytes - 1 - chance.below(200), // the end is where it may seem whole
                    _ => 1 + chance.below(n_bytes - 1),
                };
                link.cut_after(at);
                link.lead(&replica, &primary);
                wait_for("the link is not cut", || (link.n_cut_after() > 0).then_some(()));
                assert_eq!(replica.ask("REPLICAOF NO ONE"), "+OK");
                let digest = replica.ask("DEBUG DIGEST");
                let is_new = digest == primary.ask("DEBUG DIGEST");
                assert!(digest == old || is_new, "cut after {at} of {n_bytes} bytes: a mix");
                if is_new {
                    replica
                        .client()
                        .call(&["EVAL", script, "0", "old"])
                        .unwrap();
                    versions(&mut replica.client(), "old");
                    assert_eq!(replica.ask("DEBUG DIGEST"), old);
                }
            }
            link.mend();
            link.lead(&replica, &primary);
            wait_for_same("nothing is copied in the end", &[&primary, &replica]);
            is_done.store(true, Relaxed);
        });
        println!("repl-diskless-sync {way}: {n_bytes} bytes");
    }
}

/// A client of the replica sees the old data, the new, or that it is loading.
fn look_for_a_mix(replica: &Node, is_done: &AtomicBool) {
    let keys: Vec<String> = (0..20).map(|i| format!("version:{i}")).collect();
    let line = format!("MGET {}", keys.join(" "));
    let mut client = replica.client();
    while !is_done.load(Relaxed) {
        let seen = text(&mut client, &line);
        let values: Vec<&str> = seen.lines().skip(1).collect();
        let is_one = values.iter().all(|value| *value == values[0]) && values.len() == 20;
        assert!(is_one || seen.starts_with("-LOADING"), "{seen}");
    }
}

#[test]
fn a_replica_that_is_too_slow_is_dropped_and_comes_back_when_it_can() {
    let limit = "replica 1mb 0 0";
    let flags = [
        "--client-output-buffer-limit",
        limit,
        "--repl-backlog-size",
        "16kb",
    ];
    let (primary, replica) = (Node::start("slow-0", &flags), Node::start("slow-1", &[]));
    let link = Link::to(primary.port);
    link.lead(&replica, &primary);
    wait_for("it follows", || replica.is_linked().then_some(()));
    link.slow_down(100_000);
    let (started, value) = (Instant::now(), "x".repeat(20_000));
    let mut client = primary.client();
    let mut n = 0;
    while started.elapsed() < Duration::from_secs(8) {
        n += 1;
        text(&mut client, &format!("SET k:{} {value}", n % 50));
    }
    let log = primary.log();
    let is_drop = |line: &&str| line.contains("for overcoming of output buffer limits");
    let n_drops = log.lines().filter(is_drop).count();
    assert!(n_drops >= 1, "{log}");
    // It comes again at once, then after two and four seconds.
    assert!(n_drops <= 5, "{n_drops} times in {:?}: {log}", started.elapsed());
    let its_log = replica.log();
    assert!(n_drops < 3 || its_log.contains("lost before long: trying again in 2 s"), "{its_log}");
    link.mend();
    wait_for_same("it does not come back", &[&primary, &replica]);
    println!("dropped {n_drops} times in 8 s of {n} writes");
}
