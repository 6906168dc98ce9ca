//! A replica that is told to follow somebody else, or that is started again where another one has crashed.

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::replicas::{FLAGS, field, follow, start, wait_for_link, wait_for_same};
use crate::{Server, folder, signal, text, wait_for};

#[test]
fn a_command_under_way_when_the_primary_changes_is_applied_once() {
    let (primary, replica) = (start(&[]), start(&["--threads", "2"]));
    let mut client = primary.client();
    for (name, from) in [("a", 0), ("b", 5000)] {
        let members: Vec<String> = (from..from + 10_000).map(|i| i.to_string()).collect();
        text(&format!("SADD {name} {}", members.join(" ")), &mut client);
    }
    follow(&replica, &primary);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(SeqCst) {
                for line in ["MULTI", "INCR n", "SUNIONSTORE c a b", "EXEC", "WAIT 1 100"] {
                    text(line, &mut client);
                }
            }
        });
        let mut other = replica.client();
        for i in 0..200 {
            let host = ["localhost", "127.0.0.1"][i % 2]; // the same server under two names
            let answer = text(&format!("REPLICAOF {host} {}", primary.port), &mut other);
            assert_eq!(answer, "+OK");
            wait_for_link(&replica);
        }
        is_over.store(true, SeqCst);
    });
    wait_for("the replica has everything", || {
        let n = |server: &Server| field("master_repl_offset", &mut server.client());
        (n(&primary) == n(&replica)).then_some(())
    });
    let n = |server: &Server| text("GET n", &mut server.client());
    assert_eq!(n(&primary), n(&replica));
    assert_eq!(field("sync_full", &mut primary.client()), "1");
}

#[test]
fn what_a_crash_has_left_of_a_snapshot_is_removed_and_nothing_of_another_server() {
    let home = folder("repl-leftovers");
    let flags = [&FLAGS[..], &["--save", ""]].concat();
    let primary = start(&["--rdb-key-save-delay", "20000"]);
    text("DEBUG POPULATE 2000 key 1000", &mut primary.client());
    let received = || {
        let names = fs::read_dir(&home).unwrap().flatten();
        let mut names: Vec<String> = names
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
            .filter(|name| name.starts_with("temp-replica-"))
            .collect();
        names.sort();
        names
    };
    let begin = |replica: &Server, n: usize| {
        let line = format!("REPLICAOF 127.0.0.1 {}", primary.port);
        assert_eq!(text(&line, &mut replica.client()), "+OK");
        wait_for("it receives", || (received().len() == n).then_some(()));
    };
    let one = Server::start_in(&home, &flags);
    begin(&one, 1);
    signal("KILL", one.process.id());
    drop(one);
    let left = received();
    assert_eq!(left.len(), 1);
    let two = Server::start_in(&home, &flags);
    wait_for("it is removed", || received().is_empty().then_some(()));
    begin(&two, 1);
    let of_two = received();
    fs::write(home.join("temp-replica-0-1.rdb"), "half").unwrap();
    let three = Server::start_in(&home, &flags);
    wait_for("it is removed", || (received().len() < 2).then_some(()));
    assert_eq!(received(), of_two, "another server writes it");
    text("CONFIG SET rdb-key-save-delay 0", &mut primary.client());
    wait_for_same(&primary, &two);
    follow(&three, &primary);
    wait_for("they are used up", || received().is_empty().then_some(()));
}
