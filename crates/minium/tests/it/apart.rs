//! Snapshots through a connection of their own: what is written meanwhile, and what is left when either
//! connection is lost.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering::SeqCst};

use client::connection::Connection;

use crate::replicas::{field, follow, start, wait_for_link, wait_for_same};
use crate::{Server, is_stopped, signal, text, wait_for};

/// Valkey's way.
const DUAL: [&str; 2] = ["--dual-channel-replication-enabled", "yes"];

/// A primary whose snapshots take seconds, with so many keys.
fn slow_primary(n_keys: usize, more: &[&str]) -> Server {
    let primary = start(more);
    let mut client = primary.client();
    text(&format!("DEBUG POPULATE {n_keys} key 100"), &mut client);
    text("SET data new", &mut client);
    text("CONFIG SET rdb-key-save-delay 500", &mut client);
    primary
}

fn ask_to_follow(replica: &Server, port: u16) {
    text(&format!("REPLICAOF 127.0.0.1 {port}"), &mut replica.client());
}

/// Waits until the replica gets a snapshot and keeps what is written meanwhile.
fn wait_for_kept(primary: &Server, replica: &Server) {
    let (mut one, mut other) = (primary.client(), replica.client());
    wait_for("the replica keeps what comes", || {
        text("INCR n", &mut one);
        let kept = field("replica_full_sync_buffer_size", &mut other);
        kept.parse::<u64>().is_ok_and(|n| n > 0).then_some(())
    });
}

#[test]
fn the_stream_comes_while_the_snapshot_does() {
    for way in [&[][..], &DUAL] {
        let primary = slow_primary(6000, &[way, &["--threads", "4"]].concat());
        let replica = start(way);
        let is_dual = !way.is_empty();
        ask_to_follow(&replica, primary.port);
        wait_for_kept(&primary, &replica);
        let (mut one, mut other) = (primary.client(), replica.client());
        let info = text("INFO replication", &mut one);
        let (n, state) = match is_dual {
            false => (1, "state=send_bulk_and_stream"),
            true => (2, "state=bg_transfer"),
        };
        assert!(info.contains(&format!("connected_slaves:{n}")), "{info}");
        assert!(info.contains(state), "{info}");
        assert_eq!(info.contains("type=rdb-channel"), is_dual, "{info}");
        assert_eq!(info.contains("type=main-channel"), is_dual, "{info}");
        assert_eq!(text("GET data", &mut other), "(nil)", "nothing of it is seen before");
        assert_eq!(text("WAIT 1 10", &mut one), ":0", "it has nothing yet");
        text("MULTI", &mut one);
        text("SELECT 5", &mut one);
        text("SET inside value", &mut one);
        text("EXEC", &mut one);
        text("CONFIG SET rdb-key-save-delay 0", &mut one);
        wait_for_link(&replica);
        wait_for_same(&primary, &replica);
        assert_eq!(text("WAIT 1 20000", &mut one), ":1");
        assert_eq!(field("sync_full", &mut one), "1");
        assert_eq!(field("sync_partial_ok", &mut one), if is_dual { "1" } else { "0" });
        assert_eq!(field("replica_full_sync_buffer_size", &mut other), "0");
        assert_ne!(field("replica_full_sync_buffer_peak", &mut other), "0");
        wait_for("the second connection is gone", || {
            let n = text("CLIENT LIST TYPE replica", &mut one)
                .matches("id=")
                .count();
            (n == 1).then_some(())
        });
    }
}

#[test]
fn either_side_can_do_without() {
    for (of_primary, of_replica) in [("no", "yes"), ("yes", "no")] {
        let primary = slow_primary(2000, &["--repl-rdb-channel", of_primary]);
        let replica = start(&["--repl-rdb-channel", of_replica]);
        ask_to_follow(&replica, primary.port);
        let mut client = primary.client();
        wait_for("the snapshot is on its way", || {
            text("INCR n", &mut client);
            let info = text("INFO replication", &mut client);
            info.contains("state=wait_bgsave").then_some(())
        });
        text("CONFIG SET rdb-key-save-delay 0", &mut client);
        wait_for_same(&primary, &replica);
        assert_eq!(field("replica_full_sync_buffer_peak", &mut replica.client()), "0");
    }
}

#[test]
fn a_slow_snapshot_is_waited_for_longer_than_the_timeout() {
    let ways = [
        ("no", "no"),   // by way of a file
        ("yes", "no"),  // through the one connection
        ("yes", "yes"), // through another
        ("yes", "dual"),
    ];
    for (diskless, channel) in ways {
        let (channel, dual) = match channel {
            "dual" => ("yes", "yes"),
            channel => (channel, "no"),
        };
        let more = [
            "--repl-diskless-sync",
            diskless,
            "--repl-rdb-channel",
            channel,
            "--repl-timeout",
            "2",
            "--repl-ping-replica-period",
            "1",
            DUAL[0],
            dual,
        ];
        let (primary, replica) = (start(&more), start(&more));
        let mut one = primary.client();
        text("DEBUG POPULATE 400 key 100", &mut one);
        text("CONFIG SET rdb-key-save-delay 12000", &mut one); // 5 s
        ask_to_follow(&replica, primary.port);
        wait_for_link(&replica);
        wait_for_same(&primary, &replica);
        assert_eq!(field("sync_full", &mut one), "1", "{diskless} {channel}");
    }
}

#[test]
fn who_waits_for_a_snapshot_to_begin_waits_longer_than_the_timeout() {
    for (channel, dual) in [("no", "no"), ("yes", "no"), ("yes", "yes")] {
        let timeouts = ["--repl-timeout", "2", "--repl-ping-replica-period", "1"];
        let more = [
            &["--repl-rdb-channel", channel, DUAL[0], dual][..],
            &timeouts,
        ]
        .concat();
        let later = ["--repl-diskless-sync-delay", "5", "--timeout", "2"];
        let primary = start(&[&more[..], &later].concat());
        let replica = start(&more);
        text("SET data new", &mut primary.client());
        ask_to_follow(&replica, primary.port);
        wait_for_same(&primary, &replica);
        assert_eq!(field("sync_full", &mut primary.client()), "1", "{channel}");
    }
}

#[test]
fn what_is_beyond_the_limit_waits_at_the_primary() {
    let primary = slow_primary(6000, &[]);
    let replica = start(&["--replica-full-sync-buffer-limit", "100kb"]);
    ask_to_follow(&replica, primary.port);
    wait_for_kept(&primary, &replica);
    let (mut one, mut other) = (primary.client(), replica.client());
    let value = "x".repeat(50_000);
    for i in 0..400 {
        text(&format!("SET long:{i} {value}"), &mut one);
    }
    wait_for("the limit is reached", || {
        (field("replica_full_sync_buffer_size", &mut other) == "102400").then_some(())
    });
    text("CONFIG SET rdb-key-save-delay 0", &mut one);
    wait_for_same(&primary, &replica);
    assert_eq!(field("replica_full_sync_buffer_peak", &mut other), "102400");
    assert_eq!(field("sync_full", &mut one), "1");
}

#[test]
fn the_primary_need_not_keep_what_the_replica_keeps() {
    let limit = "replica 1mb 1mb 1";
    let primary = slow_primary(
        20_000,
        &[
            "--repl-backlog-size",
            "16kb",
            "--client-output-buffer-limit",
            limit,
        ],
    );
    let replica = start(&[]);
    ask_to_follow(&replica, primary.port);
    wait_for_kept(&primary, &replica);
    let (mut one, mut other) = (primary.client(), replica.client());
    let value = "x".repeat(50_000);
    for i in 0..200 {
        text(&format!("SET long:{i} {value}"), &mut one);
        wait_for("the replica reads on", || {
            let n: u64 = field("repl_backlog_histlen", &mut one).parse().unwrap();
            (n < 500_000).then_some(())
        });
    }
    wait_for("the replica has it", || {
        let n: u64 = field("replica_full_sync_buffer_size", &mut other)
            .parse()
            .unwrap();
        (n > 10_000_000).then_some(())
    });
    assert!(text("INFO replication", &mut one).contains("state=send_bulk_and_stream"));
    text("CONFIG SET rdb-key-save-delay 0", &mut one);
    wait_for_same(&primary, &replica);
    assert_eq!(field("sync_full", &mut one), "1");
}

#[test]
fn who_loses_one_connection_loses_both_and_begins_anew() {
    for (way, flags) in [
        ("primary", &[][..]),
        ("replica", &[]),
        ("primary", &DUAL),
        ("replica", &DUAL),
    ] {
        let (primary, replica) = (slow_primary(6000, flags), start(flags));
        text("SET data old", &mut replica.client());
        ask_to_follow(&replica, primary.port);
        wait_for_kept(&primary, &replica);
        let mut client = primary.client();
        match way {
            "primary" => {
                let list = text("CLIENT LIST TYPE replica", &mut client);
                let id = list
                    .split("id=")
                    .nth(1)
                    .and_then(|rest| rest.split(' ').next());
                text(&format!("CLIENT KILL ID {}", id.unwrap()), &mut client);
            }
            _ => {
                text("REPLICAOF NO ONE", &mut replica.client());
                assert_eq!(text("GET data", &mut replica.client()), "\"old\"");
                ask_to_follow(&replica, primary.port);
            }
        }
        wait_for("it asks again", || (field("sync_full", &mut client) == "2").then_some(()));
        let data = text("GET data", &mut replica.client());
        assert!(data == "\"old\"" || data == "\"new\"", "{data}");
        text("CONFIG SET rdb-key-save-delay 0", &mut client);
        wait_for_same(&primary, &replica);
        assert_eq!(text("GET data", &mut replica.client()), "\"new\"");
    }
}

/// A primary that stands still, with a client of it, and a replica that has loaded its snapshot and has no stream.
fn loaded_without_a_stream() -> (Server, Connection, Server) {
    let (primary, replica) = (start(&DUAL), start(&DUAL));
    let (mut one, mut other) = (primary.client(), replica.client());
    text("DEBUG POPULATE 1000", &mut one);
    text("DEBUG PAUSE-AFTER-FORK 1", &mut one);
    ask_to_follow(&replica, primary.port);
    wait_for("it is loaded", || (text("DBSIZE", &mut other) == ":1000").then_some(()));
    assert_eq!(field("master_link_status", &mut other), "down");
    wait_for("the primary stands still", || is_stopped(primary.process.id()).then_some(()));
    (primary, one, replica)
}

#[test]
fn the_snapshot_is_loaded_though_the_primary_is_slow_to_begin_the_stream() {
    let (primary, mut one, replica) = loaded_without_a_stream();
    signal("CONT", primary.process.id());
    wait_for_link(&replica);
    text("SET data new", &mut one);
    wait_for_same(&primary, &replica);
    let full = (field("sync_full", &mut one), field("sync_partial_ok", &mut one));
    assert_eq!(full, ("1".to_owned(), "1".to_owned()));
}

#[test]
fn who_has_loaded_and_gets_no_stream_asks_for_what_is_missing() {
    let (primary, mut one, replica) = loaded_without_a_stream();
    signal("STOP", replica.process.id());
    signal("CONT", primary.process.id());
    text("DEBUG PAUSE-AFTER-FORK 0", &mut one);
    text("SET data new", &mut one);
    // It may have said already whose stream it wants.
    let list = text("CLIENT LIST TYPE normal", &mut one);
    let is_its = |of: &&str| of.contains("cmd=psync") || of.contains("cmd=replconf");
    let its = list.split("id=").find(is_its);
    let id = its.and_then(|of| of.split(' ').next()).expect(&list);
    assert_eq!(text(&format!("CLIENT KILL ID {id}"), &mut one), ":1");
    signal("CONT", replica.process.id());
    wait_for_link(&replica);
    wait_for_same(&primary, &replica);
    assert_eq!(field("sync_full", &mut one), "1", "what it had was enough");
}

#[test]
fn a_primary_that_dies_meanwhile_leaves_the_old_data() {
    let (primary, replica) = (slow_primary(6000, &[]), start(&[]));
    let mut client = replica.client();
    text("SET data old", &mut client);
    ask_to_follow(&replica, primary.port);
    wait_for_kept(&primary, &replica);
    signal("KILL", primary.process.id());
    wait_for("the replica has noticed", || {
        let info = text("INFO replication", &mut client);
        info.contains("master_sync_in_progress:0").then_some(())
    });
    assert_eq!(text("GET data", &mut client), "\"old\"");
    assert_eq!(text("DBSIZE", &mut client), ":1");
}

#[test]
fn nobody_gets_the_snapshot_of_another() {
    let primary = start(&DUAL);
    let mut client = primary.client();
    for line in [
        "REPLCONF set-rdb-client-id 1",
        "REPLCONF set-rdb-client-id -1",
        "REPLCONF set-rdb-client-id x",
        "REPLCONF main-ch-client-id 1",
        "REPLCONF rdb-channel 1 main-ch-client-id x",
        "REPLCONF rdb-channel 1 main-ch-client-id -1",
        "REPLCONF rdb-channel 2",
    ] {
        assert!(text(line, &mut client).starts_with("-ERR"), "{line}");
    }
    assert_eq!(text("REPLCONF capa eof rdb-only 1 rdb-channel 1", &mut client), "+OK");
    assert!(text("PSYNC ? -1", &mut client).starts_with("-ERR"));
    let primary = start(&[]);
    let mut other = primary.client();
    assert_eq!(text("REPLCONF capa eof rdb-only 1 rdb-channel 1", &mut other), "+OK");
    assert!(text("SYNC", &mut other).starts_with("-ERR"), "it does not do so in Valkey's way");
}

#[test]
fn nobody_gets_the_stream_of_his_own_snapshot() {
    let primary = start(&[]);
    let mut one = TcpStream::connect(("127.0.0.1", primary.port)).unwrap();
    let begin = "REPLCONF capa eof capa rdb-channel-repl\r\nPSYNC ? -1\r\n";
    one.write_all(begin.as_bytes()).unwrap();
    let mut said = String::new();
    while said.matches('\n').count() < 2 {
        let mut room = [0; 64];
        let n = one.read(&mut room).unwrap();
        assert!(n > 0, "{said}");
        said.push_str(std::str::from_utf8(&room[..n]).unwrap());
    }
    let id = said.trim().strip_prefix("+OK\r\n+RDBCHANNELSYNC ").unwrap();
    let again = format!(
        "CLIENT REPLY OFF\r\nREPLCONF rdb-only 1 rdb-channel 1 main-ch-client-id {id}\r\n\
         PSYNC ? -1\r\nSYNC\r\n"
    );
    one.write_all(again.as_bytes()).unwrap();
    drop(one);
    let mut client = primary.client();
    wait_for("it is gone", || {
        text("CLIENT LIST TYPE replica", &mut client)
            .matches("id=")
            .next()
            .is_none()
            .then_some(())
    });
    assert_eq!(text("SET k v", &mut client), "+OK");
}

/// Passes connections on; what comes from the target ends after so many bytes, of both together.
fn proxy(target: u16, n_left: Arc<AtomicI64>, n_cuts: Arc<AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for from in listener.incoming() {
            let (Ok(mut from), Ok(mut to)) = (from, TcpStream::connect(("127.0.0.1", target)))
            else {
                return;
            };
            let (mut back, mut there) = (to.try_clone().unwrap(), from.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from, &mut to);
                let _ = to.shutdown(std::net::Shutdown::Both);
            });
            let (n_left, n_cuts) = (n_left.clone(), n_cuts.clone());
            std::thread::spawn(move || {
                let mut room = [0; 512];
                while let Ok(n @ 1..) = back.read(&mut room) {
                    let before = n_left.fetch_sub(n as i64, SeqCst);
                    let n_passed = before.clamp(0, n as i64) as usize;
                    if there.write_all(&room[..n_passed]).is_err() {
                        break;
                    }
                    if n_passed < n {
                        n_cuts.fetch_add(1, SeqCst);
                        break;
                    }
                }
                let _ = there.shutdown(std::net::Shutdown::Both);
                let _ = back.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    port
}

#[test]
fn a_sync_cut_anywhere_leaves_the_old_data_or_the_new() {
    for way in [&[][..], &DUAL] {
        cut_anywhere(way);
    }
}

fn cut_anywhere(way: &[&str]) {
    let primary = start(way);
    let mut one = primary.client();
    for i in 0..40 {
        text(&format!("SET key:{i} new"), &mut one);
    }
    let (n_left, n_cuts) = (Arc::new(AtomicI64::new(0)), Arc::new(AtomicUsize::new(0)));
    let port = proxy(primary.port, n_left.clone(), n_cuts.clone());
    let (mut n_old, mut n_new) = (0, 0);
    for n_bytes in (0..1200).step_by(40) {
        let replica = start(&[way, &["--repl-timeout", "2"]].concat());
        let mut other = replica.client();
        for i in 0..40 {
            text(&format!("SET key:{i} old"), &mut other);
        }
        let before = n_cuts.load(SeqCst);
        n_left.store(n_bytes, SeqCst);
        ask_to_follow(&replica, port);
        wait_for("it is cut, or there", || {
            text("INCR n", &mut one);
            let is_up = text("INFO replication", &mut other).contains("master_link_status:up");
            (is_up || n_cuts.load(SeqCst) > before).then_some(())
        });
        text("REPLICAOF NO ONE", &mut other);
        let keys: Vec<String> = (0..40).map(|i| format!("key:{i}")).collect();
        let all = wait_for("it has loaded what it has", || {
            let all = text(&format!("MGET {}", keys.join(" ")), &mut other);
            (!all.starts_with("-LOADING")).then_some(all)
        });
        match (all.matches("old").count(), all.matches("new").count()) {
            (40, 0) => n_old += 1,
            (0, 40) => n_new += 1,
            _ => panic!("a mix after {n_bytes} bytes: {all}"),
        }
    }
    assert!(n_old > 5 && n_new > 0, "{n_old} were cut and {n_new} were not");
    n_left.store(i64::MAX, SeqCst);
    let replica = start(way);
    ask_to_follow(&replica, port);
    wait_for_same(&primary, &replica);
    follow(&replica, &primary);
}
