//! Data sets compared by DEBUG DIGEST, which must see values and nothing else.

use std::time::Instant;

use client::connection::Connection;

use super::{PATIENCE, Server, text};

const DEBUG: &[&str] = &["--enable-debug-command", "local"];

/// `numbers` as words, each made by `word`.
fn words(numbers: impl Iterator<Item = u32>, word: impl Fn(u32) -> String) -> String {
    let words: Vec<String> = numbers.map(word).collect();
    words.join(" ")
}

/// One key of each type that is too big for its small encoding.
fn fill(client: &mut Connection) {
    let members = words(0..700, |n| format!("member:{n}"));
    let pairs = words(0..700, |n| format!("field:{n} {n}"));
    let scored = words(0..700, |n| format!("{n}.5 member:{n}"));
    let items = words(0..3000, |n| format!("item:{n}"));
    for command in [
        format!("SADD set {members}"),
        format!("HSET hash {pairs}"),
        format!("ZADD zset {scored}"),
        format!("RPUSH list {items}"),
        "HEXPIRE hash 1000 FIELDS 2 field:1 field:2".to_owned(),
        "SET string value EX 1000".to_owned(),
    ] {
        text(&command, client);
    }
}

#[test]
fn equal_data_sets_have_equal_digests_on_two_servers() {
    let (one, two) = (Server::start(DEBUG), Server::start(DEBUG));
    let (mut one, mut two) = (one.client(), two.client());
    assert_eq!(text("DEBUG DIGEST", &mut one), format!("+{}", "0".repeat(40)));

    let up = words(0..600, |n| format!("{n} v{n}"));
    let down = words((0..600).rev(), |n| format!("{n} v{n}"));
    text(&format!("HSET h {up}"), &mut one);
    text("SADD s 1 2 3", &mut one);
    text("SELECT 3", &mut one);
    text("ZADD z 1 a 2 b", &mut one);

    text("SELECT 3", &mut two);
    text("ZADD z 2 b 1 a", &mut two);
    text("SELECT 0", &mut two);
    text("CONFIG SET set-max-intset-entries 0", &mut two);
    text("SADD s 3 2 1", &mut two);
    text("CONFIG SET hash-max-listpack-entries 10000", &mut two);
    text(&format!("HSET h {down}"), &mut two);
    assert_ne!(text("OBJECT ENCODING h", &mut two), "\"hashtable\"");
    assert_eq!(text("DEBUG DIGEST", &mut one), text("DEBUG DIGEST", &mut two));

    text("HSET h 7 other", &mut two);
    assert_ne!(text("DEBUG DIGEST", &mut one), text("DEBUG DIGEST", &mut two));
}

#[test]
fn a_copy_is_equal_and_independent_in_another_database_too() {
    let server = Server::start(DEBUG);
    let mut client = server.client();
    fill(&mut client);
    for key in ["set", "hash", "zset", "list", "string"] {
        let digest = text(&format!("DEBUG DIGEST-VALUE {key}"), &mut client);
        let encoding = text(&format!("OBJECT ENCODING {key}"), &mut client);
        let ttl = text(&format!("TTL {key}"), &mut client);
        assert_eq!(text(&format!("COPY {key} copy DB 2 REPLACE"), &mut client), ":1");
        text("SELECT 2", &mut client);
        assert_eq!(text("DEBUG DIGEST-VALUE copy", &mut client), digest, "{key}");
        assert_eq!(text("OBJECT ENCODING copy", &mut client), encoding, "{key}");
        assert_eq!(text("TTL copy", &mut client), ttl, "{key}");
        text("DEL copy", &mut client);
        text("SELECT 0", &mut client);
        assert_eq!(text(&format!("DEBUG DIGEST-VALUE {key}"), &mut client), digest, "{key}");
    }
}

#[test]
fn exchanged_databases_keep_their_keys_and_deadlines() {
    let server = Server::start(DEBUG);
    let mut client = server.client();
    fill(&mut client);
    text("SELECT 1", &mut client);
    text("SET short lived PX 30", &mut client);
    let digest = text("DEBUG DIGEST-VALUE short", &mut client);
    assert_eq!(text("SWAPDB 0 1", &mut client), "+OK");
    assert_eq!(text("DBSIZE", &mut client), ":5");
    assert_eq!(text("HTTL hash FIELDS 1 field:1", &mut client), "*1\n  :1000");
    text("SELECT 0", &mut client);
    assert_eq!(text("DEBUG DIGEST-VALUE short", &mut client), digest);
    let started = Instant::now();
    while text("DBSIZE", &mut client) != ":0" {
        assert!(started.elapsed() < PATIENCE, "the deadline came along");
    }
    assert_eq!(text("SWAPDB 1 0", &mut client), "+OK");
    assert_eq!(text("DBSIZE", &mut client), ":5");
}
