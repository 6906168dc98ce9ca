//! A server whose memory is limited, under each policy.

use client::connection::Connection;
use resp::decode::Value;

use crate::{PATIENCE, Server};
use std::time::Instant;

/// A reply as text, without what tells its type.
fn text(words: &str, client: &mut Connection) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    match client.call(&words).unwrap() {
        Value::Simple(text) | Value::Bulk(text) | Value::Error(text) => {
            String::from_utf8(text).unwrap()
        }
        Value::Int(number) => number.to_string(),
        other => panic!("{words:?}: {other:?}"),
    }
}

/// Memory used, as INFO says.
fn used_bytes(client: &mut Connection) -> u64 {
    field(client, "memory", "used_memory")
}

fn field(client: &mut Connection, section: &str, name: &str) -> u64 {
    let info = text(&format!("INFO {section}"), client);
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    line.unwrap().trim().parse().unwrap()
}

/// Room for so many bytes more than are in use now, under a policy.
fn limit(client: &mut Connection, policy: &str, more_bytes: u64) -> u64 {
    let limit = used_bytes(client) + more_bytes;
    assert_eq!(text(&format!("CONFIG SET maxmemory-policy {policy}"), client), "OK");
    assert_eq!(text(&format!("CONFIG SET maxmemory {limit}"), client), "OK");
    limit
}

fn set(client: &mut Connection, key: &str, options: &str) -> String {
    let value = "x".repeat(200);
    text(format!("SET {key} {value} {options}").trim_end(), client)
}

#[test]
fn telling_who_tracks_what_was_evicted_evicts_no_more() {
    let server = Server::start(&["--threads", "2", "--latency-tracking", "no"]);
    let mut client = server.client();
    let mut trackers: Vec<Connection> = (0..10).map(|_| server.client()).collect();
    for tracker in &mut trackers {
        tracker.call(&["HELLO", "3"]).unwrap();
        assert_eq!(text("CLIENT TRACKING ON", tracker), "OK");
    }
    for i in 0..300 {
        let key = format!("{i}{}", "x".repeat(1000));
        assert_eq!(text(&format!("SET {key} x"), &mut client), "OK");
        for tracker in &mut trackers {
            assert_eq!(text(&format!("GET {key}"), tracker), "x");
        }
    }
    let limit = used_bytes(&mut client) - 40_000;
    let how =
        format!("maxmemory-eviction-tenacity 100 maxmemory-policy allkeys-lru maxmemory {limit}");
    assert_eq!(text(&format!("CONFIG SET {how}"), &mut client), "OK");
    let n_left: u64 = text("DBSIZE", &mut client).parse().unwrap();
    assert!((250..300).contains(&n_left), "{n_left} of 300 keys");
}

#[test]
fn memory_stays_at_the_limit_and_what_is_used_stays() {
    for policy in ["allkeys-lru", "allkeys-lfu"] {
        let server = Server::start(&["--threads", "1", "--lfu-log-factor", "0"]);
        let mut client = server.client();
        (0..20).for_each(|i| assert_eq!(set(&mut client, &format!("used:{i}"), ""), "OK"));
        let limit = limit(&mut client, policy, 2 << 20);
        for i in 0..20_000 {
            assert_eq!(set(&mut client, &format!("fresh:{i}"), ""), "OK");
            if policy == "allkeys-lfu" {
                text(&format!("GET used:{}", i % 20), &mut client);
            }
        }
        assert!(used_bytes(&mut client) < limit + (256 << 10), "{policy}");
        let n_evicted = field(&mut client, "stats", "evicted_keys");
        let n_left = text("DBSIZE", &mut client).parse::<u64>().unwrap();
        assert_eq!(n_evicted + n_left, 20_020, "{policy}");
        assert!(n_evicted > 5_000, "{policy}: {n_evicted}");
        if policy == "allkeys-lfu" {
            let kept = (0..20).filter(|i| text(&format!("EXISTS used:{i}"), &mut client) == "1");
            assert!(kept.count() >= 19, "what is used most goes last");
        }
    }
}

#[test]
fn only_keys_with_a_deadline_go_and_the_soonest_due_first() {
    let server = Server::start(&["--threads", "1"]);
    let mut client = server.client();
    for i in 0..500 {
        assert_eq!(set(&mut client, &format!("kept:{i}"), ""), "OK");
        assert_eq!(set(&mut client, &format!("soon:{i}"), "EX 1000"), "OK");
        assert_eq!(set(&mut client, &format!("late:{i}"), "EX 100000"), "OK");
    }
    limit(&mut client, "volatile-ttl", 16 << 10);
    (0..300).for_each(|i| assert_eq!(set(&mut client, &format!("new:{i}"), ""), "OK"));
    text("CONFIG SET maxmemory 0", &mut client);
    let mut count = |name: &str| {
        let exists = |i: &usize| text(&format!("EXISTS {name}:{i}"), &mut client) == "1";
        (0..500).filter(exists).count()
    };
    assert_eq!((count("kept"), count("new")), (500, 300));
    let (n_soon, n_late) = (count("soon"), count("late"));
    assert!(n_soon < 350 && n_late > 480, "{n_soon} soon due, {n_late} due later");
}

#[test]
fn when_nothing_may_go_what_needs_memory_is_refused() {
    let server = Server::start(&["--threads", "2"]);
    let mut client = server.client();
    assert_eq!(set(&mut client, "kept", ""), "OK");
    text("CONFIG SET maxmemory-policy volatile-lru", &mut client);
    text("CONFIG SET maxmemory 1", &mut client);
    let refused = set(&mut client, "more", "");
    assert!(refused.starts_with("OOM command not allowed"), "{refused}");
    assert_eq!(text("STRLEN kept", &mut client), "200");
    let script = "EVAL return(redis.call('set','more','1')) 0";
    assert!(text(script, &mut client).contains("OOM"));
    assert_eq!(text("DEL kept", &mut client), "1");
    text("CONFIG SET maxmemory 0", &mut client);
    assert_eq!(set(&mut client, "more", ""), "OK");
}

#[test]
fn a_lower_limit_is_reached_without_another_command_and_told_as_events() {
    let server = Server::start(&["--threads", "2"]);
    let mut client = server.client();
    (0..5_000).for_each(|i| assert_eq!(set(&mut client, &format!("k:{i}"), ""), "OK"));
    text("CONFIG SET notify-keyspace-events Ee", &mut client);
    let mut listener = server.client();
    listener
        .call(&["SUBSCRIBE", "__keyevent@0__:evicted"])
        .unwrap();
    let limit = used_bytes(&mut client) - (256 << 10);
    text("CONFIG SET maxmemory-policy allkeys-random", &mut client);
    text(&format!("CONFIG SET maxmemory {limit}"), &mut client);
    for _ in 0..500 {
        listener.receive().unwrap();
    }
    let started = Instant::now();
    while used_bytes(&mut client) > limit {
        assert!(started.elapsed() < PATIENCE, "memory stays over its limit");
    }
}

#[test]
fn a_use_is_counted_under_lfu_and_timed_otherwise() {
    let server = Server::start(&["--threads", "1"]);
    let mut client = server.client();
    set(&mut client, "k", "");
    assert_eq!(text("OBJECT IDLETIME k", &mut client), "0");
    assert!(text("OBJECT FREQ k", &mut client).contains("An LFU maxmemory policy is not selected"));
    text("CONFIG SET maxmemory-policy allkeys-lfu", &mut client);
    text("CONFIG SET lfu-log-factor 0", &mut client);
    text("DEL k", &mut client);
    set(&mut client, "k", "");
    assert_eq!(text("OBJECT FREQ k", &mut client), "5");
    (0..3).for_each(|_| drop(text("GET k", &mut client)));
    assert_eq!(text("OBJECT FREQ k", &mut client), "8");
    assert!(text("OBJECT IDLETIME k", &mut client).contains("An LFU maxmemory policy is selected"));
}
