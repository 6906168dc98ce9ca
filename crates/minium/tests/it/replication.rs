//! Primaries and replicas as processes: what is written at one is read at the other, whatever happens
//! to the link.

use crate::limits::figure;
use crate::replicas::{FLAGS, field, fill, follow, start, wait_for_link, wait_for_same};
use crate::{MINIUM, Server, exit_code, folder, signal, text, wait_for};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

#[test]
fn a_replica_gets_the_data_and_everything_after_it() {
    for way in ["yes", "no"] {
        for threads in ["1", "4"] {
            let more = ["--threads", threads, "--repl-diskless-sync", way];
            let (primary, replica) = (start(&more), start(&more));
            fill(&primary, 1);
            text("SET only here", &mut replica.client());
            follow(&replica, &primary);
            wait_for_same(&primary, &replica);
            fill(&primary, 2);
            wait_for_same(&primary, &replica);
            let mut client = replica.client();
            assert_eq!(text("GET only", &mut client), "(nil)");
            assert!(text("SET k v", &mut client).starts_with("-READONLY"));
            assert!(text("EVAL redis.call('set','k','v') 0", &mut client).contains("READONLY"));
            assert!(text("FUNCTION FLUSH", &mut client).starts_with("-READONLY"));
            let role = text("ROLE", &mut primary.client());
            assert!(role.contains(&replica.port.to_string()), "{role}");
        }
    }
}

#[test]
fn after_a_cut_only_what_is_missing_is_sent() {
    let (primary, replica) = (start(&[]), start(&[]));
    fill(&primary, 1);
    follow(&replica, &primary);
    let mut client = primary.client();
    assert_eq!(text("CLIENT KILL TYPE replica", &mut client), ":1");
    fill(&primary, 2);
    wait_for("it comes back", || (field("sync_partial_ok", &mut client) == "1").then_some(()));
    wait_for_same(&primary, &replica);
    assert_eq!(field("sync_full", &mut client), "1");
}

#[test]
fn a_paused_replica_reads_and_runs_nothing_until_it_may() {
    let (primary, replica) = (start(&[]), start(&["--repl-timeout", "2"]));
    text("SET key old", &mut primary.client());
    follow(&replica, &primary);
    wait_for_same(&primary, &replica);
    let (mut one, mut other) = (primary.client(), replica.client());
    assert_eq!(text("CLIENT PAUSE 100000 WRITE", &mut other), "+OK");
    let before = field("slave_repl_offset", &mut other);
    text("SET key new", &mut one);
    let large = "x".repeat(100_000);
    for _ in 0..100 {
        one.call(&["SET", "large", &large]).unwrap();
    }
    wait_for("it has read up to its limit", || {
        let n_read = field("slave_read_repl_offset", &mut other)
            .parse::<u64>()
            .unwrap();
        (n_read > before.parse::<u64>().unwrap() + 1_000_000).then_some(())
    });
    assert_eq!(field("slave_repl_offset", &mut other), before);
    assert_eq!(text("GET key", &mut other), "\"old\"");
    let n_read = field("slave_read_repl_offset", &mut other)
        .parse::<u64>()
        .unwrap();
    assert!(n_read < before.parse::<u64>().unwrap() + 2_000_000, "{n_read} bytes were read");
    text("CLIENT UNPAUSE", &mut other);
    wait_for_same(&primary, &replica);
    assert_eq!(text("GET key", &mut other), "\"new\"");
    assert_eq!(field("sync_full", &mut one), "1");
}

#[test]
fn who_missed_more_than_is_kept_gets_everything() {
    let (primary, replica) = (start(&["--repl-backlog-size", "16kb"]), start(&[]));
    follow(&replica, &primary);
    signal("STOP", replica.process.id());
    let mut client = primary.client();
    assert_eq!(text("CLIENT KILL TYPE replica", &mut client), ":1");
    let value = "x".repeat(10_000);
    for i in 0..100 {
        text(&format!("SET key:{i} {value}"), &mut client);
    }
    wait_for("what nobody needs is dropped", || {
        let n: u64 = field("repl_backlog_histlen", &mut client).parse().unwrap();
        (n < 500_000).then_some(())
    });
    signal("CONT", replica.process.id());
    wait_for_same(&primary, &replica);
    assert_eq!(field("sync_partial_err", &mut client), "1");
}

#[test]
fn a_promoted_replica_goes_on_with_the_same_history() {
    let (primary, middle, last) = (start(&[]), start(&[]), start(&[]));
    fill(&primary, 1);
    follow(&middle, &primary);
    follow(&last, &middle);
    fill(&primary, 2);
    wait_for_same(&primary, &last);
    assert_eq!(text("REPLICAOF NO ONE", &mut middle.client()), "+OK");
    wait_for_link(&last);
    fill(&middle, 3);
    wait_for_same(&middle, &last);
    assert_eq!(field("sync_full", &mut middle.client()), "1");
    // The old primary comes back as a replica of the new one.
    text("SET lost write", &mut primary.client());
    follow(&primary, &middle);
    wait_for_same(&middle, &primary);
    assert_eq!(text("GET lost", &mut primary.client()), "(nil)");
}

#[test]
fn wait_counts_replicas_that_have_what_was_written() {
    let (primary, replica) = (start(&[]), start(&[]));
    follow(&replica, &primary);
    let mut client = primary.client();
    text("SET k v", &mut client);
    assert_eq!(text("WAIT 1 20000", &mut client), ":1");
    assert_eq!(text("GET k", &mut replica.client()), "\"v\"");
    signal("STOP", replica.process.id());
    text("SET k w", &mut client);
    assert_eq!(text("WAIT 1 50", &mut client), ":0");
    signal("CONT", replica.process.id());
    assert_eq!(text("WAIT 1 20000", &mut client), ":1");
    assert_eq!(text("WAIT 0 0", &mut client), ":1");
}

#[test]
fn writes_are_refused_without_the_replicas_that_are_asked_for() {
    let primary = start(&[
        "--min-replicas-to-write",
        "1",
        "--min-replicas-max-lag",
        "5",
    ]);
    let mut client = primary.client();
    assert!(text("SET k v", &mut client).starts_with("-NOREPLICAS"));
    let replica = start(&[]);
    follow(&replica, &primary);
    wait_for("the replica is counted", || (text("SET k v", &mut client) == "+OK").then_some(()));
    drop(replica);
    wait_for("the replica is missed", || {
        text("SET k v", &mut client)
            .starts_with("-NOREPLICAS")
            .then_some(())
    });
}

/// Where the replica that is told so finds its primary, which the test plays.
fn primary_of(replica: &Server) -> TcpListener {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    text(&format!("REPLICAOF 127.0.0.1 {port}"), &mut replica.client());
    listener
}

/// Plays the primary until PSYNC is said; the connection, and what it says.
fn shake_hands(listener: &TcpListener, replica: &Server) -> (TcpStream, String) {
    let (mut socket, _) = listener.accept().unwrap();
    let (mut asked, mut byte) = (Vec::new(), [0]);
    loop {
        socket.read_exact(&mut byte).unwrap();
        asked.push(byte[0]);
        let psync = asked.windows(5).position(|word| word == b"PSYNC");
        if let Some(at) = psync
            && asked[at..].iter().filter(|byte| **byte == b'\n').count() == 5
        {
            let words = String::from_utf8(asked[at..].to_vec()).unwrap();
            let words: Vec<&str> = words.split("\r\n").step_by(2).collect();
            return (socket, words.join(" ").trim_end().to_owned());
        }
        if asked.ends_with(b"PING\r\n") || asked.ends_with(b"9.0.0\r\n") {
            socket.write_all(b"+PONG\r\n").unwrap();
        } else if asked.ends_with(format!("{}\r\n", replica.port).as_bytes()) {
            socket.write_all(b"+OK\r\n").unwrap();
        }
    }
}

#[test]
fn who_has_lost_his_place_in_the_stream_asks_for_everything() {
    let replica = start(&[]);
    let listener = primary_of(&replica);
    let id = "a".repeat(40);
    let snapshot = b"REDIS0011\xff\0\0\0\0\0\0\0\0";
    let head = format!("+FULLRESYNC {id} 1\r\n${}\r\n", snapshot.len());
    let set = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    let (mut socket, asked) = shake_hands(&listener, &replica);
    assert_eq!(asked, "PSYNC ? -1");
    socket
        .write_all(&[head.as_bytes(), snapshot, set.as_bytes()].concat())
        .unwrap();
    wait_for("the command is run", || {
        (text("GET k", &mut replica.client()) == "\"v\"").then_some(())
    });
    drop(socket);
    let (mut socket, asked) = shake_hands(&listener, &replica);
    assert_eq!(asked, format!("PSYNC {id} {}", 2 + set.len()), "a connection is lost, no place");
    socket.write_all(b"+CONTINUE\r\nSET garbage v\r\n").unwrap();
    let (mut socket, asked) = shake_hands(&listener, &replica);
    assert_eq!(asked, "PSYNC ? -1");
    socket
        .write_all(&[head.as_bytes(), snapshot].concat())
        .unwrap();
    wait_for_link(&replica);
    assert_eq!(text("DBSIZE", &mut replica.client()), ":0");
    drop(socket);
    let (_, asked) = shake_hands(&listener, &replica);
    assert_eq!(asked, format!("PSYNC {id} 2"));
}

#[test]
fn a_snapshot_that_is_broken_in_the_middle_leaves_no_place_in_a_stream() {
    let replica = start(&[]);
    let listener = primary_of(&replica);
    let head = format!("+FULLRESYNC {} 1\r\n$18\r\n", "a".repeat(40));
    let (mut socket, _) = shake_hands(&listener, &replica);
    let whole = b"REDIS0011\xff\0\0\0\0\0\0\0\0";
    socket
        .write_all(&[head.as_bytes(), whole].concat())
        .unwrap();
    wait_for_link(&replica);
    drop(socket);
    let (mut socket, asked) = shake_hands(&listener, &replica);
    assert_eq!(asked, format!("PSYNC {} 2", "a".repeat(40)));
    let broken = b"REDIS0011 no more.";
    socket
        .write_all(&[head.as_bytes(), broken].concat())
        .unwrap();
    let (_, asked) = shake_hands(&listener, &replica);
    assert_eq!(asked, "PSYNC ? -1", "what it had is thrown away");
}

#[test]
fn a_primary_hears_of_a_replica_that_loads() {
    let replica = start(&["--key-load-delay", "4000000"]);
    let listener = primary_of(&replica);
    let (mut socket, _) = shake_hands(&listener, &replica);
    let snapshot = b"REDIS0011\xfe\0\0\x01k\x01v\xff\0\0\0\0\0\0\0\0";
    let head = format!("+FULLRESYNC {} 1\r\n${}\r\n", "a".repeat(40), snapshot.len());
    socket
        .write_all(&[head.as_bytes(), snapshot].concat())
        .unwrap();
    let mut heard = [0; 2];
    socket.read_exact(&mut heard).unwrap();
    assert_eq!(heard, *b"\n\n");
    assert!(text("GET k", &mut replica.client()).starts_with("-LOADING"));
}

#[test]
fn who_comes_while_a_small_copy_is_loaded_waits_for_its_end() {
    let replica = start(&["--key-load-delay", "15000"]);
    let listener = primary_of(&replica);
    let (mut socket, _) = shake_hands(&listener, &replica);
    let (mut client, mut other) = (replica.client(), replica.client());
    let snapshot = b"REDIS0011\xfe\0\0\x01k\x01v\xff\0\0\0\0\0\0\0\0";
    let head = format!("+FULLRESYNC {} 1\r\n${}\r\n", "a".repeat(40), snapshot.len());
    let begun = Instant::now();
    socket
        .write_all(&[head.as_bytes(), snapshot].concat())
        .unwrap();
    wait_for("it is loaded", || {
        let is_loading = text("INFO persistence", &mut other).contains("\\r\\nloading:1");
        let is_over = text("INFO replication", &mut client).contains("master_link_status:up");
        (is_loading || is_over).then_some(())
    });
    let answer = text("GET k", &mut client);
    // Where the machine is slower than that, the client is told.
    let may_be_told = begun.elapsed() >= Duration::from_millis(50);
    assert!(answer == "\"v\"" || may_be_told && answer.starts_with("-LOADING"), "{answer}");
}

#[test]
fn a_stream_about_a_database_that_is_not_there_is_not_followed() {
    let replica = start(&["--databases", "16"]);
    let (listener, mut client) = (primary_of(&replica), replica.client());
    let snapshot = b"REDIS0011\xfa\x0erepl-stream-db\x0220\xff\0\0\0\0\0\0\0\0";
    let head = format!("+FULLRESYNC {} 1\r\n${}\r\n", "a".repeat(40), snapshot.len());
    let set = "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    let (mut socket, _) = shake_hands(&listener, &replica);
    socket
        .write_all(&[head.as_bytes(), snapshot, set.as_bytes()].concat())
        .unwrap();
    let (_, asked) = shake_hands(&listener, &replica);
    assert_eq!(asked, "PSYNC ? -1");
    assert_eq!(text("DBSIZE", &mut client), ":0");
}

#[test]
fn half_a_snapshot_leaves_the_old_data() {
    let replica = start(&[]);
    let mut client = replica.client();
    text("SET old data", &mut client);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    for body in [
        &b"$1000\r\nREDIS0011\xfa"[..],
        b"$EOF:0123456789",
        b"$20\r\nREDIS0011 is not a file",
    ] {
        text(&format!("REPLICAOF 127.0.0.1 {port}"), &mut client);
        let (mut socket, _) = shake_hands(&listener, &replica);
        let id = "a".repeat(40);
        socket
            .write_all(format!("+FULLRESYNC {id} 1\r\n").as_bytes())
            .unwrap();
        socket.write_all(body).unwrap();
        drop(socket);
        wait_for("the link is down again", || {
            text("ROLE", &mut client)
                .contains("connect\"")
                .then_some(())
        });
        text("REPLICAOF NO ONE", &mut client);
        let is_garbage = body.starts_with(b"$20");
        let expected = if is_garbage { "(nil)" } else { "\"data\"" };
        assert_eq!(text("GET old", &mut client), expected);
    }
}

#[test]
fn a_replica_without_its_primary_answers_as_it_is_told_to() {
    let (primary, replica) = (start(&[]), start(&["--replica-serve-stale-data", "no"]));
    text("SET k v", &mut primary.client());
    follow(&replica, &primary);
    let mut client = replica.client();
    assert_eq!(text("GET k", &mut client), "\"v\"");
    drop(primary);
    wait_for("the link is down", || {
        text("GET k", &mut client)
            .starts_with("-MASTERDOWN")
            .then_some(())
    });
    assert_eq!(text("CONFIG SET replica-serve-stale-data yes", &mut client), "+OK");
    assert_eq!(text("GET k", &mut client), "\"v\"");
}

#[test]
fn messages_reach_subscribers_of_replicas() {
    let (primary, replica) = (start(&[]), start(&[]));
    follow(&replica, &primary);
    let mut subscriber = replica.client();
    text("SUBSCRIBE news", &mut subscriber);
    text("PUBLISH news hello", &mut primary.client());
    let message = client::transcript::render(&subscriber.receive().unwrap());
    assert!(message.contains("hello"), "{message}");
}

#[test]
fn a_restart_with_a_saved_file_is_no_reason_to_begin_anew() {
    let (primary_home, replica_home) = (folder("repl-primary"), folder("repl-replica"));
    let saves = ["--save", "3600 1"];
    let mut primary = Server::start_in(&primary_home, &[&FLAGS[..], &saves].concat());
    let mut replica = Server::start_in(&replica_home, &[&FLAGS[..], &saves].concat());
    fill(&primary, 1);
    follow(&replica, &primary);
    fill(&primary, 2);
    wait_for_same(&primary, &replica);
    let port = primary.port.to_string();
    // The replica comes back.
    shut_down(&mut replica);
    fill(&primary, 3);
    let more = ["--replicaof", "127.0.0.1", &port];
    let replica = Server::start_in(&replica_home, &[&FLAGS[..], &saves, &more].concat());
    wait_for_link(&replica);
    wait_for_same(&primary, &replica);
    assert_ne!(field("sync_partial_ok", &mut primary.client()), "0");
    assert_eq!(field("sync_full", &mut primary.client()), "1");
    // So does the primary, at the same port.
    shut_down(&mut primary);
    let mut command = Command::new(MINIUM);
    command
        .current_dir(&primary_home)
        .args(["--port", &port, "--bind", "127.0.0.1"]);
    let process = command
        .args(FLAGS)
        .args(saves)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let primary = Server {
        process,
        port: primary.port,
    };
    wait_for("the primary is back", || primary.is_ready().then_some(()));
    wait_for_link(&replica);
    fill(&primary, 4);
    wait_for_same(&primary, &replica);
    let mut client = primary.client();
    assert_ne!(field("sync_partial_ok", &mut client), "0");
    assert_eq!(field("sync_full", &mut client), "0");
}

fn shut_down(server: &mut Server) {
    let _ = server.client().call(&["SHUTDOWN"]); // the connection ends with the server
    assert_eq!(exit_code(&mut server.process), Some(0));
}

#[test]
fn a_client_that_follows_redirects_is_sent_to_the_primary() {
    let (primary, replica) = (start(&[]), start(&[]));
    follow(&replica, &primary);
    let mut client = replica.client();
    assert_eq!(text("CLIENT CAPA redirect", &mut client), "+OK");
    let elsewhere = format!("-REDIRECT 127.0.0.1:{}", primary.port);
    assert_eq!(text("GET k", &mut client), elsewhere);
    assert_eq!(text("SET k v", &mut client), elsewhere);
    assert_eq!(text("PING", &mut client), "+PONG");
    assert_eq!(text("GET k", &mut primary.client()), "(nil)");
}

#[test]
fn waitaof_counts_the_disks_of_replicas() {
    for policy in ["always", "everysec"] {
        let (primary, replica) = (start(&[]), start(&["--appendonly", "yes"]));
        let mut there = replica.client();
        text(&format!("CONFIG SET appendfsync {policy}"), &mut there);
        follow(&replica, &primary);
        let mut client = primary.client();
        text("SET k v", &mut client);
        assert_eq!(text("WAITAOF 0 1 20000", &mut client), "*2\n  :0\n  :1");
        text("CONFIG SET appendfsync no", &mut there);
        text("SET k w", &mut client);
        assert_eq!(text("WAIT 1 20000", &mut client), ":1");
        assert_eq!(
            text("WAITAOF 0 1 50", &mut client),
            "*2\n  :0\n  :0",
            "it has it, its disk has not"
        );
        text("CONFIG SET appendonly no", &mut there);
        text("SET k x", &mut client);
        assert_eq!(text("WAIT 1 20000", &mut client), ":1");
        assert_eq!(text("WAITAOF 0 1 50", &mut client), "*2\n  :0\n  :0");
    }
}

#[test]
fn a_writable_replica_lets_its_own_keys_go_and_hides_those_of_the_primary() {
    let (primary, replica) = (start(&[]), start(&["--replica-read-only", "no"]));
    follow(&replica, &primary);
    let (mut client, mut there) = (primary.client(), replica.client());
    text("DEBUG SET-ACTIVE-EXPIRE 0", &mut client);
    text("SET theirs v PX 30", &mut client);
    text("SET again v PX 30", &mut client);
    assert_eq!(text("WAIT 1 20000", &mut client), ":1");
    text("SELECT 3", &mut there);
    for line in [
        "SET own v PX 30",
        "EVAL redis.call('set','scripted','v','px','30') 1 scripted",
        "MULTI",
        "SET queued v PX 30",
        "EXEC",
        "SET stays v",
    ] {
        text(line, &mut there);
    }
    wait_for("what it wrote itself is gone", || (text("DBSIZE", &mut there) == ":1").then_some(()));
    text("SELECT 0", &mut there);
    text("SET shared v PX 30", &mut there);
    text("SET shared w PX 100000", &mut client);
    assert_eq!(text("WAIT 1 20000", &mut client), ":1");
    wait_for("what the primary has changed is no longer the replica's", || {
        (field("slave_expires_tracked_keys", &mut there) == "0").then_some(())
    });
    text("DEL shared", &mut client);
    assert_eq!(text("WAIT 1 20000", &mut client), ":1");
    wait_for("the primary's key is hidden", || {
        (text("EXISTS theirs again", &mut there) == ":0").then_some(())
    });
    assert_eq!(text("DBSIZE", &mut there), ":2", "and stays");
    assert_eq!(text("INCR again", &mut there), ":1");
    assert_eq!(text("TTL again", &mut there), ":-1");
}

#[test]
fn the_link_is_a_client_that_can_be_killed() {
    let (primary, replica) = (start(&[]), start(&[]));
    follow(&replica, &primary);
    let (mut client, mut there) = (primary.client(), replica.client());
    let list = text("CLIENT LIST TYPE master", &mut there);
    let addr = format!("addr=127.0.0.1:{} ", primary.port);
    assert!(list.contains(&addr) && list.contains(" flags=M "), "{list}");
    assert_eq!(text("CLIENT KILL TYPE master", &mut there), ":1");
    wait_for("it comes back", || (field("sync_partial_ok", &mut client) == "1").then_some(()));
    wait_for_link(&replica);
    fill(&primary, 1);
    wait_for_same(&primary, &replica);
    let kill = format!("CLIENT KILL 127.0.0.1:{}", primary.port);
    assert_eq!(text(&kill, &mut there), "+OK");
    wait_for("it comes back", || (field("sync_partial_ok", &mut client) == "2").then_some(()));
}

/// A replica that is a bare socket, once it is sent the stream.
fn raw_follower(primary: &Server) -> TcpStream {
    let mut follower = primary.socket();
    follower.write_all(b"SYNC\r\n").unwrap();
    let mut client = primary.client();
    wait_for("it follows", || {
        field("slave0", &mut client)
            .contains("online")
            .then_some(())
    });
    follower
}

#[test]
fn a_message_keeps_its_place_in_a_transaction() {
    let primary = start(&[]);
    let (mut follower, mut client) = (raw_follower(&primary), primary.client());
    for line in ["MULTI", "SET a 1", "PUBLISH news hello", "SET b 1", "EXEC"] {
        text(line, &mut client);
    }
    let script = "EVAL redis.call('set','c','1')redis.call('publish','news','bye') 0";
    text(script, &mut client);
    let mut stream = Vec::new();
    let mut piece = [0; 4096];
    while !stream.ends_with(b"bye\r\n*1\r\n$4\r\nEXEC\r\n") {
        let n = follower.read(&mut piece).unwrap();
        assert!(n > 0, "{}", stream.escape_ascii());
        stream.extend_from_slice(&piece[..n]);
    }
    let at = |word: &[u8]| stream.windows(word.len()).position(|window| window == word);
    let places = [
        &b"MULTI"[..],
        b"$1\r\na\r\n",
        b"hello",
        b"$1\r\nb\r\n",
        b"EXEC",
    ]
    .map(at);
    assert!(places.iter().all(Option::is_some) && places.is_sorted(), "{places:?}");
}

#[test]
fn what_a_replica_refuses_is_refused_in_scripts_and_functions_too() {
    let (primary, replica) = (start(&[]), start(&[]));
    let mut client = primary.client();
    let library = "#!lua name=l\nredis.register_function('f',function() return 1 end)\n\
                   redis.register_function{function_name='g',callback=function() return \
                   redis.call('get','k') end,flags={'no-writes','allow-stale'}}";
    assert_eq!(text("SET k v", &mut client), "+OK");
    client.call(&["FUNCTION", "LOAD", library]).unwrap();
    follow(&replica, &primary);
    let mut there = replica.client();
    let read_only = "-READONLY You can't write against a read only replica.";
    assert_eq!(text("FCALL f 0", &mut there), read_only);
    let render = |value| client::transcript::render(&value).trim_end().to_owned();
    let script = there.call(&["EVAL", "#!lua\nreturn 1", "0"]).unwrap();
    assert_eq!(render(script), read_only);
    assert_eq!(text("FCALL g 0", &mut there), "\"v\"");
    for refused in ["FCALL f 0", "SET k w"] {
        assert_eq!(text("MULTI", &mut there), "+OK");
        assert_eq!(text("FCALL g 0", &mut there), "+QUEUED");
        assert_eq!(text(refused, &mut there), read_only);
        assert!(text("EXEC", &mut there).starts_with("-EXECABORT "));
        assert_eq!(text("CONFIG SET replica-read-only no", &mut there), "+OK");
        assert_eq!(text("MULTI", &mut there), "+OK");
        assert_eq!(text(refused, &mut there), "+QUEUED");
        assert_eq!(text("CONFIG SET replica-read-only yes", &mut replica.client()), "+OK");
        let answer = text("EXEC", &mut there);
        let reason = "-EXECABORT Transaction discarded because of: READONLY ";
        assert!(answer.starts_with(reason), "{answer}");
    }
    assert_eq!(text("CONFIG SET replica-serve-stale-data no", &mut there), "+OK");
    drop(primary);
    wait_for("the link is down", || {
        text("EVAL return(1) 0", &mut there)
            .starts_with("-MASTERDOWN")
            .then_some(())
    });
    let stale = text("FCALL g 0", &mut there);
    assert!(stale.starts_with("-ERR Can not execute the command on a stale replica"), "{stale}");
}

#[test]
fn no_reply_gets_into_the_stream_of_a_replica() {
    let primary = start(&[]);
    let (mut follower, mut client) = (raw_follower(&primary), primary.client());
    follower.write_all(b"REPLCONF ACK 0\r\nPING\r\n").unwrap();
    let mut stream = Vec::new();
    follower.read_to_end(&mut stream).unwrap();
    assert!(!stream.windows(4).any(|window| window == b"PONG"));
    assert_eq!(field("connected_slaves", &mut client), "0");
}

#[test]
fn a_received_snapshot_becomes_the_base_of_the_append_only_file() {
    let primary = start(&[]);
    fill(&primary, 1);
    let home = folder("repl-base");
    let flags = [&FLAGS[..], &["--appendonly", "yes", "--save", ""]].concat();
    let mut replica = Server::start_in(&home, &flags);
    text("SET only here", &mut replica.client());
    follow(&replica, &primary);
    fill(&primary, 2);
    wait_for_same(&primary, &replica);
    let mut client = replica.client();
    assert_eq!(field("aof_rewrites", &mut client), "0", "nothing was written twice");
    let digest = text("DEBUG DIGEST", &mut client);
    assert_eq!(text("REPLICAOF NO ONE", &mut client), "+OK");
    shut_down(&mut replica);
    let replica = Server::start_in(&home, &flags);
    assert_eq!(text("DEBUG DIGEST", &mut replica.client()), digest);
    // Again, over what was adopted before; then in the form of commands.
    for preamble in ["yes", "no"] {
        let mut client = replica.client();
        text(&format!("CONFIG SET aof-use-rdb-preamble {preamble}"), &mut client);
        text("SET only here", &mut client);
        follow(&replica, &primary);
        fill(&primary, 3);
        wait_for_same(&primary, &replica);
        wait_for("the base is there", || {
            (field("aof_rewrite_in_progress", &mut client) == "0").then_some(())
        });
        let mut writer = primary.client();
        text("SET after all", &mut writer);
        assert_eq!(text("WAITAOF 0 1 20000", &mut writer), "*2\n  :0\n  :1");
        assert_eq!(text("REPLICAOF NO ONE", &mut client), "+OK");
        let digest = text("DEBUG DIGEST", &mut client);
        assert_eq!(text("DEBUG LOADAOF", &mut client), "+OK");
        assert_eq!(text("DEBUG DIGEST", &mut client), digest);
    }
}

#[test]
fn what_waits_for_a_slow_replica_is_not_memory_that_keys_must_make_room_for() {
    let (primary, replica) = (start(&["--repl-backlog-size", "16kb"]), start(&[]));
    let mut client = primary.client();
    follow(&replica, &primary);
    signal("STOP", replica.process.id());
    let limit = figure(&mut client, "used_memory") + (4 << 20);
    text(&format!("CONFIG SET maxmemory {limit}"), &mut client);
    let value = "x".repeat(100 << 10);
    for _ in 0..200 {
        let answer = client.call(&["SET", "k", &value]).unwrap();
        assert_eq!(client::transcript::render(&answer).trim_end(), "+OK");
    }
    assert!(figure(&mut client, "mem_not_counted_for_evict") > 8 << 20);
    signal("CONT", replica.process.id());
    wait_for_same(&primary, &replica);
    text("CONFIG SET import-mode yes", &mut client);
    text("CONFIG SET maxmemory-policy allkeys-lru", &mut client);
    text("CONFIG SET maxmemory 1", &mut client);
    let told = text("SET k v", &mut client);
    assert!(told.starts_with("-OOM "), "nothing is evicted while data is imported: {told}");
}
