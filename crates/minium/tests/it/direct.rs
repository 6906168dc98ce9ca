//! Snapshots that are loaded as they come: `repl-diskless-load`.

use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::time::Duration;

use resp::decode::Value;

use crate::replicas::{FLAGS, field, follow, start, wait_for_link, wait_for_same};
use crate::{Server, folder, signal, text, wait_for};

const BEFORE: [&str; 2] = ["--repl-diskless-load", "flush-before-load"];
const ASIDE: [&str; 2] = ["--repl-diskless-load", "swapdb"];
const IF_EMPTY: [&str; 2] = ["--repl-diskless-load", "on-empty-db"];
/// One connection, two in Redis's way, two in Valkey's, and a snapshot whose length is known.
const WAYS: [&[&str]; 4] = [
    &["--repl-rdb-channel", "no"],
    &[],
    &["--dual-channel-replication-enabled", "yes"],
    &["--repl-diskless-sync", "no"],
];
const BY_FILE: &[&str] = WAYS[3];

/// A primary whose snapshots take twenty seconds and as long to load, with data, and a replica that has asked for it.
fn begun(way: &[&str], more: &[&str], data: &str) -> (Server, Server) {
    let primary = start(way);
    let mut one = primary.client();
    text("DEBUG POPULATE 20000 key 100", &mut one);
    let library = "#!lua name=lib\nredis.register_function{function_name='f', \
                   callback=function() return 1 end, flags={'no-writes'}}";
    one.call(&["FUNCTION", "LOAD", library]).unwrap();
    if way != BY_FILE {
        text("CONFIG SET rdb-key-save-delay 1000", &mut one);
    }
    let replica = start(&[way, more, &["--key-load-delay", "1000"]].concat());
    let mut other = replica.client();
    text(data, &mut other);
    text(&format!("REPLICAOF 127.0.0.1 {}", primary.port), &mut other);
    (primary, replica)
}

fn hurry(primary: &Server, replica: &Server) {
    text("CONFIG SET rdb-key-save-delay 0", &mut primary.client());
    text("CONFIG SET key-load-delay 0", &mut replica.client());
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
        hurry(&primary, &replica);
        wait_for_link(&replica);
        wait_for_same(&primary, &replica);
        assert_eq!(text("FCALL_RO f 0", &mut other), text("FCALL_RO f 0", &mut one));
        text("SET written after", &mut one);
        assert_eq!(text("WAIT 1 20000", &mut one), ":1");
        assert_eq!(text("GET written", &mut other), "\"after\"");
    }
}

/// A replica that had the data of its primary and gets all of it again, under the same history: it holds `own data`
/// for itself, a key with a deadline and an older library.
fn begun_again() -> (Server, Server) {
    let primary = start(&["--repl-backlog-size", "16kb"]);
    let mut one = primary.client();
    let library = |n: u32| {
        format!(
            "#!lua name=lib\nredis.register_function{{function_name='f', \
             callback=function() return {n} end, flags={{'no-writes'}}}}"
        )
    };
    one.call(&["FUNCTION", "LOAD", &library(1)]).unwrap();
    text("SET old data", &mut one);
    let replica = start(&[&ASIDE[..], &["--replica-read-only", "no"]].concat());
    follow(&replica, &primary);
    wait_for_same(&primary, &replica);
    let mut other = replica.client();
    text("SET own data", &mut other);
    text("DEBUG POPULATE 2000 key 100", &mut one);
    wait_for("they come", || (text("DBSIZE", &mut other) == ":2002").then_some(()));
    text("CONFIG SET rdb-key-save-delay 10000", &mut one);
    text("REPLICAOF 127.0.0.1 1", &mut other); // where nobody is
    wait_for("it has left", || (field("connected_slaves", &mut one) == "0").then_some(()));
    let (large, load) = ("x".repeat(100_000), library(2));
    for request in [
        vec!["SET", "large", &large],
        vec!["SET", "brief", "data", "PX", "5000"],
        vec!["FUNCTION", "LOAD", "REPLACE", &load],
        vec!["DEL", "old"],
        vec!["RPUSH", "list", "item"],
        vec!["SELECT", "3"],
        vec!["SET", "elsewhere", "data"],
    ] {
        one.call(&request).unwrap();
    }
    wait_for("what it lacks is forgotten", || {
        let n_kept = field("repl_backlog_histlen", &mut one)
            .parse::<u64>()
            .unwrap();
        (n_kept < 100_000).then_some(())
    });
    text(&format!("REPLICAOF 127.0.0.1 {}", primary.port), &mut other);
    wait_for("it loads", || (field("async_loading", &mut other) == "1").then_some(()));
    (primary, replica)
}

#[test]
fn old_data_of_the_same_history_is_served_until_the_new_takes_its_place() {
    let (primary, replica) = begun_again();
    let (mut one, mut other) = (primary.client(), replica.client());
    assert_eq!(field("loading", &mut other), "0");
    for key in ["own", "old"] {
        assert_eq!(text(&format!("GET {key}"), &mut other), "\"data\"");
    }
    assert_eq!(text("FCALL_RO f 0", &mut other), ":1");
    for refused in [
        "REPLICAOF NO ONE",
        "CONFIG SET appendonly yes",
        "BGSAVE",
        "SAVE",
    ] {
        assert!(text(refused, &mut other).starts_with("-LOADING"), "{refused}");
    }
    let mut watcher = replica.client();
    for (request, answer) in [
        ("WATCH large", "+OK"),
        ("MULTI", "+OK"),
        ("PING", "+QUEUED"),
    ] {
        assert_eq!(text(request, &mut watcher), answer);
    }
    text("SET written meanwhile", &mut one);
    hurry(&primary, &replica);
    wait_for_link(&replica);
    wait_for_same(&primary, &replica);
    assert_eq!(field("async_loading", &mut other), "0");
    assert_eq!(text("GET own", &mut other), "(nil)");
    assert_eq!(text("FCALL_RO f 0", &mut other), ":2");
    assert_eq!(text("DBSIZE", &mut other), text("DBSIZE", &mut one));
    assert_eq!(text("EXEC", &mut watcher), "*-1", "a key that was watched has come");
    text("SET written after", &mut one);
    assert_eq!(text("WAIT 1 20000", &mut one), ":1");
    assert_eq!(text("GET written", &mut other), "\"after\"");
    assert_eq!(text("REPLICAOF NO ONE", &mut other), "+OK");
    wait_for("a key goes in its time, though nobody looks for it", || {
        field("db0", &mut other).contains("expires=0").then_some(())
    });
    let digest = text("DEBUG DIGEST", &mut other);
    assert_eq!(text("DEBUG RELOAD", &mut other), "+OK");
    assert_eq!(text("DEBUG DIGEST", &mut other), digest);
}

#[test]
fn a_transaction_from_before_a_load_is_refused_what_its_commands_are() {
    let primary = start(&[]);
    let mut one = primary.client();
    text("DEBUG POPULATE 2000 key 100", &mut one);
    text("CONFIG SET rdb-key-save-delay 10000", &mut one);
    let replica = start(&ASIDE);
    let (mut reader, mut other) = (replica.client(), replica.client());
    for (request, answer) in [("MULTI", "+OK"), ("GET old", "+QUEUED")] {
        assert_eq!(text(request, &mut reader), answer);
    }
    text(&format!("REPLICAOF 127.0.0.1 {}", primary.port), &mut other);
    wait_until_it_loads(&replica);
    let answer = text("EXEC", &mut reader);
    assert!(answer.starts_with("-EXECABORT") && answer.contains("LOADING"), "{answer}");
}

#[test]
fn who_waits_for_a_key_is_served_by_what_takes_the_place_of_the_data() {
    let (primary, replica) = begun_again();
    let mut waiter = replica.client();
    waiter.set_timeout(Some(Duration::from_secs(20))).unwrap();
    waiter.send(&["BLPOP", "list", "0"]).unwrap();
    waiter.flush().unwrap();
    let mut other = replica.client();
    wait_for("it waits", || (field("blocked_clients", &mut other) == "1").then_some(()));
    hurry(&primary, &replica);
    let items = ["list", "item"].map(|word| Value::Bulk(word.as_bytes().to_vec()));
    assert_eq!(waiter.receive().unwrap(), Value::Array(items.to_vec()));
}

#[test]
fn what_is_lost_on_its_way_leaves_the_old_data() {
    let (primary, replica) = begun_again();
    let mut other = replica.client();
    signal("KILL", primary.process.id());
    wait_for("it gives up", || (field("async_loading", &mut other) == "0").then_some(()));
    for key in ["own", "old"] {
        assert_eq!(text(&format!("GET {key}"), &mut other), "\"data\"");
    }
    assert_eq!(text("FCALL_RO f 0", &mut other), ":1");
    assert_eq!(text("REPLICAOF NO ONE", &mut other), "+OK");
    assert_eq!(text("SET own still", &mut other), "+OK");

    for way in WAYS {
        let (primary, replica) = begun(way, &ASIDE, "SET old data");
        wait_until_it_loads(&replica);
        let mut other = replica.client();
        assert!(text("GET old", &mut other).starts_with("-LOADING"), "it is of another history");
        signal("KILL", primary.process.id());
        text("CONFIG SET key-load-delay 0", &mut other);
        wait_for("it gives up", || (field("loading", &mut other) == "0").then_some(()));
        let n_keys = text("DBSIZE", &mut other);
        // One that was in a file may have been on its way whole.
        assert!(n_keys == ":1" || n_keys == ":20000" && way == BY_FILE, "{n_keys} keys, {way:?}");
    }
}

#[test]
fn data_of_another_history_takes_the_place_of_what_is_not_served_meanwhile() {
    for way in WAYS {
        let more = [&ASIDE[..], &["--appendonly", "yes"]].concat();
        let (primary, replica) = begun(way, &more, "SET old data");
        wait_until_it_loads(&replica);
        let (mut one, mut other) = (primary.client(), replica.client());
        assert!(text("GET old", &mut other).starts_with("-LOADING"));
        text("SET written meanwhile", &mut one);
        hurry(&primary, &replica);
        wait_for_link(&replica);
        wait_for_same(&primary, &replica);
        assert_eq!(text("FCALL_RO f 0", &mut other), ":1");
        wait_for("it is written", || {
            (field("aof_rewrite_in_progress", &mut other) == "0").then_some(())
        });
        text("REPLICAOF NO ONE", &mut other);
        let digest = text("DEBUG DIGEST", &mut other);
        assert_eq!(text("DEBUG LOADAOF", &mut other), "+OK");
        assert_eq!(text("DEBUG DIGEST", &mut other), digest);
    }
}

#[test]
fn what_is_lost_on_its_way_leaves_nothing_of_itself() {
    for way in WAYS {
        let (primary, replica) = begun(way, &BEFORE, "SET old data");
        wait_until_it_loads(&replica);
        signal("KILL", primary.process.id());
        text("CONFIG SET key-load-delay 0", &mut replica.client());
        let mut client = replica.client();
        wait_for("it has given up", || (field("loading", &mut client) == "0").then_some(()));
        let n_keys = text("DBSIZE", &mut client);
        // One that was in a file may have been on its way whole.
        let is_whole = n_keys == ":20000" && way == BY_FILE;
        assert!(n_keys == ":0" || is_whole, "{n_keys} keys by way {way:?}");
        let answer = text("FCALL_RO f 0", &mut client);
        assert_eq!(answer == ":1", is_whole, "{answer}");
    }
}

#[test]
fn who_is_stopped_need_not_wait_for_the_rest() {
    let (_primary, mut replica) = begun(&[], &BEFORE, "SET old data");
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
    let mut other = replica.client();
    wait_for("it comes", || {
        let n_bytes = field("master_sync_read_bytes", &mut other).parse::<u64>();
        n_bytes.is_ok_and(|n| n > 0).then_some(())
    });
    assert_eq!(text("GET old", &mut other), "\"data\"");
    hurry(&primary, &replica);
    wait_for_same(&primary, &replica);

    let (primary, replica) = begun(&[], &IF_EMPTY, "PING");
    wait_until_it_loads(&replica);
    hurry(&primary, &replica);
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

#[test]
fn a_copy_in_vain_leaves_the_append_only_file_as_it_was() {
    for is_promoted in [false, true] {
        let primary = start(&[]);
        let mut one = primary.client();
        text("DEBUG POPULATE 20000", &mut one);
        text("CONFIG SET rdb-key-save-delay 1000", &mut one);
        let folder = folder(&format!("copy-in-vain-{is_promoted}"));
        let flags = [&FLAGS[..], &BEFORE, &["--appendonly", "yes"]].concat();
        let replica = Server::start_in(&folder, &flags);
        let mut other = replica.client();
        text("SET old data", &mut other);
        text(&format!("REPLICAOF 127.0.0.1 {}", primary.port), &mut other);
        wait_until_it_loads(&replica);
        signal("KILL", primary.process.id());
        wait_for("it has given up", || (field("loading", &mut other) == "0").then_some(()));
        assert_eq!(text("DBSIZE", &mut other), ":0");
        if is_promoted {
            assert_eq!(text("REPLICAOF NO ONE", &mut other), "+OK");
            text("SET new data", &mut other);
            wait_for("the file begins anew", || {
                let left = ["aof_rewrite_in_progress", "aof_rewrite_scheduled"];
                let is_done = left.iter().all(|name| field(name, &mut other) == "0");
                is_done.then_some(())
            });
        }
        signal("KILL", replica.process.id());
        let replica = Server::start_in(&folder, &flags);
        let mut client = replica.client();
        let (old, new) = (text("GET old", &mut client), text("GET new", &mut client));
        let is_there = [&old, &new].map(|value| value == "\"data\"");
        assert_eq!(is_there, [!is_promoted, is_promoted], "{old} {new}");
    }
}

#[test]
fn a_primary_that_begins_and_falls_silent_holds_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let replica = start(&[&BEFORE[..], &["--repl-rdb-channel", "no"]].concat());
    let mut client = replica.client();
    text("SET old data", &mut client);
    text(&format!("REPLICAOF 127.0.0.1 {port}"), &mut client);
    let (mut link, _) = listener.accept().unwrap();
    let mut reader = BufReader::new(link.try_clone().unwrap());
    loop {
        let mut line = String::new();
        assert_ne!(reader.read_line(&mut line).unwrap(), 0, "it has left");
        match line.trim_end() {
            "PING" => link.write_all(b"+PONG\r\n").unwrap(),
            "REPLCONF" => link.write_all(b"+OK\r\n").unwrap(),
            "PSYNC" => break,
            _ => {}
        }
    }
    let mark = "m".repeat(40);
    let begun = format!("+FULLRESYNC {} 0\r\n$EOF:{mark}\r\nR", "a".repeat(40));
    link.write_all(begun.as_bytes()).unwrap();
    wait_for("it has begun", || {
        let info = text("INFO replication", &mut client);
        info.contains("master_sync_in_progress:1").then_some(())
    });
    assert_eq!(text("GET old", &mut client), "\"data\"");
    assert_eq!(text("SET old still", &mut client).split(' ').next(), Some("-READONLY"));
    assert_eq!(text("REPLICAOF NO ONE", &mut client), "+OK");
    assert_eq!(text("GET old", &mut client), "\"data\"");
}
