//! A primary that goes, with nothing lost: FAILOVER, and SHUTDOWN that waits for its replicas.

use crate::replicas::{field, fill, follow, start, wait_for_link, wait_for_same};
use crate::{Server, exit_code, signal, text, wait_for};
use std::io::Write;

fn failover_to(replica: &Server) -> String {
    format!("FAILOVER TO 127.0.0.1 {}", replica.port)
}

fn wait_for_no_failover(server: &Server) {
    let mut client = server.client();
    wait_for("the failover is over", || {
        (field("master_failover_state", &mut client) == "no-failover").then_some(())
    });
}

fn role(server: &Server) -> String {
    field("role", &mut server.client())
}

#[test]
fn a_failover_under_load_loses_nothing_that_was_acknowledged() {
    let (old, new) = (start(&[]), start(&[]));
    follow(&new, &old);
    let mut client = old.client();
    let load = std::thread::spawn(move || {
        let mut n = 0;
        loop {
            match text("INCR counter", &mut client).strip_prefix(':') {
                Some(value) => n = value.parse::<u64>().unwrap(),
                None => return n, // it is a replica now
            }
        }
    });
    let mut watcher = old.client();
    wait_for("there is load", || {
        let counter = text("GET counter", &mut watcher);
        let counter: u64 = counter.trim_matches('"').parse().unwrap_or(0);
        (counter > 100).then_some(())
    });
    assert_eq!(text(&failover_to(&new), &mut watcher), "+OK");
    let n_acknowledged = load.join().unwrap();
    wait_for_no_failover(&old);
    assert_eq!((role(&old), role(&new)), ("slave".to_owned(), "master".to_owned()));
    assert_eq!(text("GET counter", &mut new.client()), format!("\"{n_acknowledged}\""));
    wait_for_link(&old);
    fill(&new, 1);
    wait_for_same(&new, &old);
    let mut client = new.client();
    assert_eq!(field("sync_full", &mut client), "0");
    assert_eq!(field("sync_partial_ok", &mut client), "1");
    // And back, to any replica.
    assert_eq!(text("FAILOVER", &mut client), "+OK");
    wait_for_no_failover(&new);
    wait_for("it leads again", || (role(&old) == "master").then_some(()));
    assert_eq!(text("SET k v", &mut old.client()), "+OK");
}

#[test]
fn a_failover_that_does_not_come_to_pass_changes_nothing() {
    let (primary, replica) = (start(&[]), start(&[]));
    let mut client = primary.client();
    assert!(text("FAILOVER", &mut client).contains("requires connected replicas"));
    follow(&replica, &primary);
    signal("STOP", replica.process.id());
    text("SET k v", &mut client);
    assert_eq!(text("FAILOVER TIMEOUT 50", &mut client), "+OK");
    wait_for_no_failover(&primary);
    assert_eq!(text(&failover_to(&replica), &mut client), "+OK");
    assert_eq!(field("master_failover_state", &mut client), "waiting-for-sync");
    assert_eq!(text("GET k", &mut client), "\"v\"", "who reads goes on");
    let mut writer = primary.socket();
    writer
        .write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nw\r\n")
        .unwrap();
    wait_for("a writer waits", || (field("blocked_clients", &mut client) == "1").then_some(()));
    assert!(text("FAILOVER", &mut client).contains("already in progress"));
    assert!(text("REPLICAOF localhost 1", &mut client).contains("not allowed while failing over"));
    assert_eq!(text("FAILOVER ABORT", &mut client), "+OK");
    wait_for("the writer is served", || (text("GET k", &mut client) == "\"w\"").then_some(()));
    signal("CONT", replica.process.id());
    wait_for_same(&primary, &replica);
    // A target that refuses.
    let full = field("sync_full", &mut client);
    text("ACL SETUSER default -psync", &mut replica.client());
    assert_eq!(text(&failover_to(&replica), &mut client), "+OK");
    wait_for_no_failover(&primary);
    assert_eq!(role(&primary), "master");
    assert_eq!(text("SET k x", &mut client), "+OK");
    wait_for_link(&replica);
    wait_for_same(&primary, &replica);
    assert_eq!(field("sync_full", &mut client), full);
}

#[test]
fn a_server_that_ends_waits_for_replicas_that_lack_something() {
    for way in ["SHUTDOWN", "SIGTERM"] {
        let (mut primary, replica) = (start(&["--shutdown-timeout", "60"]), start(&[]));
        follow(&replica, &primary);
        let mut client = primary.client();
        signal("STOP", replica.process.id());
        text("SET k v", &mut client);
        let mut asker = primary.socket();
        match way {
            "SIGTERM" => signal("TERM", primary.process.id()),
            _ => asker.write_all(b"*1\r\n$8\r\nSHUTDOWN\r\n").unwrap(),
        }
        wait_for("it waits", || {
            (!field("shutdown_in_milliseconds", &mut client).is_empty()).then_some(())
        });
        signal("CONT", replica.process.id());
        assert_eq!(exit_code(&mut primary.process), Some(0));
        assert_eq!(text("GET k", &mut replica.client()), "\"v\"", "{way}");
    }
}

#[test]
fn such_a_wait_has_an_end_and_can_be_ended() {
    let (mut primary, replica) = (start(&["--shutdown-timeout", "60"]), start(&[]));
    follow(&replica, &primary);
    let mut client = primary.client();
    assert!(text("SHUTDOWN ABORT", &mut client).contains("No shutdown in progress"));
    signal("STOP", replica.process.id());
    text("SET k v", &mut client);
    let mut asker = primary.client();
    let asked = std::thread::spawn(move || text("SHUTDOWN", &mut asker));
    wait_for("it waits", || (field("blocked_clients", &mut client) == "1").then_some(()));
    assert_eq!(text("SHUTDOWN ABORT", &mut client), "+OK");
    assert_eq!(asked.join().unwrap(), "-ERR Errors trying to SHUTDOWN. Check logs.");
    assert_eq!(text("SET k w", &mut client), "+OK");
    text("CONFIG SET shutdown-timeout 1", &mut client);
    signal("TERM", primary.process.id());
    assert_eq!(exit_code(&mut primary.process), Some(0), "after a second");
    signal("CONT", replica.process.id());
}

#[test]
fn who_says_now_does_not_wait() {
    let (mut primary, replica) = (start(&["--shutdown-timeout", "600"]), start(&[]));
    follow(&replica, &primary);
    let mut client = primary.client();
    signal("STOP", replica.process.id());
    text("SET k v", &mut client);
    let _ = client.call(&["SHUTDOWN", "NOW"]); // the connection ends with the server
    assert_eq!(exit_code(&mut primary.process), Some(0));
    signal("CONT", replica.process.id());
}
