//! Snapshots that are loaded as they come: `repl-diskless-load`.

use crate::replicas::{field, follow, start, wait_for_link, wait_for_same};
use crate::{Server, signal, text, wait_for};

const BEFORE: [&str; 2] = ["--repl-diskless-load", "flush-before-load"];
const IF_EMPTY: [&str; 2] = ["--repl-diskless-load", "on-empty-db"];
/// One connection, two in Redis's way, two in Valkey's, and a snapshot whose length is known.
const WAYS: [&[&str]; 4] = [
    &["--repl-rdb-channel", "no"],
    &[],
    &["--dual-channel-replication-enabled", "yes"],
    &["--repl-diskless-sync", "no"],
];

/// A primary whose snapshots take a second, with data, and a replica that has asked for it.
fn begun(way: &[&str], more: &[&str], data: &str) -> (Server, Server) {
    let primary = start(way);
    let mut one = primary.client();
    text("DEBUG POPULATE 20000 key 100", &mut one);
    text(
        "FUNCTION LOAD '#!lua name=lib\nredis.register_function(\"f\", function() return 1 end)'",
        &mut one,
    );
    text("CONFIG SET rdb-key-save-delay 50", &mut one);
    let replica = start(&[way, more].concat());
    let mut other = replica.client();
    text(data, &mut other);
    text(&format!("REPLICAOF 127.0.0.1 {}", primary.port), &mut other);
    (primary, replica)
}

fn wait_until_it_loads(replica: &Server) {
    let mut client = replica.client();
    wait_for("it loads", || (field("loading", &mut client) == "1").then_some(()));
}

#[test]
fn what_is_loaded_as_it_comes_is_the_same() {
    for way in WAYS {
        let (primary, replica) = begun(way, &BEFORE, "SET old data");
        wait_until_it_loads(&replica);
        let (mut one, mut other) = (primary.client(), replica.client());
        assert!(text("GET old", &mut other).starts_with("-LOADING"));
        text("SET written meanwhile", &mut one);
        wait_for_link(&replica);
        wait_for_same(&primary, &replica);
        assert_eq!(text("FCALL_RO f 0", &mut other), text("FCALL_RO f 0", &mut one));
        text("SET written after", &mut one);
        assert_eq!(text("WAIT 1 20000", &mut one), ":1");
        assert_eq!(text("GET written", &mut other), "\"after\"");
    }
}

#[test]
fn what_is_lost_on_its_way_leaves_nothing_of_itself() {
    for way in WAYS {
        let (primary, replica) = begun(way, &BEFORE, "SET old data");
        wait_until_it_loads(&replica);
        signal("KILL", primary.process.id());
        let mut client = replica.client();
        wait_for("it has given up", || (field("loading", &mut client) == "0").then_some(()));
        let n_keys = text("DBSIZE", &mut client);
        // One that was in a file may have been on its way whole.
        let is_whole = n_keys == ":20000" && way == WAYS[3];
        assert!(n_keys == ":0" || is_whole, "{n_keys} keys by way {way:?}");
    }
}

#[test]
fn who_is_stopped_need_not_wait_for_the_rest() {
    let (primary, mut replica) = begun(&[], &BEFORE, "SET old data");
    text("CONFIG SET rdb-key-save-delay 100000", &mut primary.client()); // half an hour
    wait_until_it_loads(&replica);
    let mut client = replica.client();
    assert!(text("REPLICAOF NO ONE", &mut client).starts_with("-LOADING"), "as in Redis");
    signal("TERM", replica.process.id());
    let ended = wait_for("it ends", || replica.process.try_wait().unwrap());
    assert!(ended.success(), "{ended}");
}

#[test]
fn data_that_is_there_stays_until_the_new_has_come_unless_it_may_go() {
    let (primary, replica) = begun(&[], &IF_EMPTY, "SET old data");
    let (mut one, mut other) = (primary.client(), replica.client());
    wait_for("it comes", || (field("master_sync_read_bytes", &mut other) != "0").then_some(()));
    assert_eq!(text("GET old", &mut other), "\"data\"");
    text("CONFIG SET rdb-key-save-delay 0", &mut one);
    wait_for_same(&primary, &replica);

    let (primary, replica) = begun(&[], &IF_EMPTY, "PING");
    wait_until_it_loads(&replica);
    text("CONFIG SET rdb-key-save-delay 0", &mut primary.client());
    wait_for_same(&primary, &replica);
}

#[test]
fn its_append_only_file_has_it() {
    let primary = start(&[]);
    text("DEBUG POPULATE 1000 key 100", &mut primary.client());
    let replica = start(&[&BEFORE[..], &["--appendonly", "yes"]].concat());
    follow(&replica, &primary);
    let mut client = replica.client();
    wait_for("it is written", || {
        (field("aof_rewrite_in_progress", &mut client) == "0").then_some(())
    });
    text("REPLICAOF NO ONE", &mut client);
    let before = text("DEBUG DIGEST", &mut client);
    text("DEBUG LOADAOF", &mut client);
    assert_eq!(text("DEBUG DIGEST", &mut client), before);
}
