//! Too much of everything, on one thread and on four: the error of the original or a clear limit,
//! bounded memory, and no effect on others.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Instant;

use client::connection::Connection;

use crate::{PATIENCE, Server, text};

/// Runs a test on a server of one loop and on one of four.
fn on_few_and_many_threads(flags: &[&str], work: impl Fn(&Server)) {
    for threads in ["1", "4"] {
        let mut flags = flags.to_vec();
        flags.extend(["--threads", threads]);
        work(&Server::start(&flags));
    }
}

/// A figure of INFO.
pub fn figure(client: &mut Connection, field: &str) -> u64 {
    let info = client.call(&["INFO", "everything"]).unwrap();
    let info = client::transcript::render(&info);
    let at = info.find(&format!("{field}:")).expect("INFO has the field");
    let digits = info[at + field.len() + 1..].chars();
    let digits: String = digits.take_while(char::is_ascii_digit).collect();
    digits.parse().unwrap()
}

pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::yield_now();
    }
}

#[test]
fn ten_thousand_idle_connections_cost_little_and_disturb_nobody() {
    // The test has as many sockets as the server: as many as the system allows, at most 10,000.
    let n_allowed = std::fs::read_to_string("/proc/self/limits").unwrap();
    let line = n_allowed
        .lines()
        .find(|line| line.starts_with("Max open files"));
    let n_allowed: usize = line
        .unwrap()
        .split_whitespace()
        .nth(3)
        .unwrap()
        .parse()
        .unwrap();
    let n = 10_000.min(n_allowed.saturating_sub(200));
    let server = Server::start(&["--threads", "2", "--maxclients", "11000"]);
    let mut client = server.client();
    let before = figure(&mut client, "used_memory");
    let idle: Vec<TcpStream> = (0..n).map(|_| server.socket()).collect();
    wait_for("every connection is accepted", || {
        figure(&mut client, "connected_clients") as usize == n + 1
    });
    let each = (figure(&mut client, "used_memory") - before) / n as u64;
    assert!(each < 2048, "an idle connection costs {each} bytes");
    assert_eq!(text("PING", &mut client), "+PONG");
    drop(idle);
    wait_for("every connection is gone", || figure(&mut client, "connected_clients") == 1);
}

#[test]
fn a_request_of_many_arguments_leaves_no_memory_behind() {
    let server = Server::start(&["--threads", "1"]);
    let mut client = server.client();
    let before = figure(&mut client, "used_memory");
    let members: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
    let request = format!("SADD s {}", members.join(" "));
    assert_eq!(text(&request, &mut client), ":100000");
    assert_eq!(text("UNLINK s", &mut client), ":1");
    wait_for("the memory is back", || figure(&mut client, "used_memory") < before + 400_000);
}

#[test]
fn a_pipeline_of_a_million_commands_is_answered_in_order() {
    const N: usize = 1_000_000;
    on_few_and_many_threads(&[], |server| {
        let socket = server.socket();
        let mut writer = socket.try_clone().unwrap();
        let writing = std::thread::spawn(move || {
            let request = b"*2\r\n$4\r\nINCR\r\n$1\r\nn\r\n".repeat(1000);
            (0..N / 1000).try_for_each(|_| writer.write_all(&request))
        });
        let last = BufReader::new(socket).lines().nth(N - 1);
        writing.join().unwrap().unwrap();
        assert_eq!(last.expect("the server closes the connection").unwrap(), ":1000000");
    });
}

#[test]
fn a_long_pipeline_takes_one_turn_after_the_other() {
    let server = Server::start(&["--threads", "1"]);
    let mut socket = server.socket();
    let mut writer = socket.try_clone().unwrap();
    let request = format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100\r\n{}\r\n", "v".repeat(100));
    let writing = std::thread::spawn(move || {
        let requests = request.repeat(1000);
        (0..300).try_for_each(|_| writer.write_all(requests.as_bytes()))
    });
    let mut replies = vec![0; 300_000 * b"+OK\r\n".len()];
    socket.read_exact(&mut replies).unwrap();
    writing.join().unwrap().unwrap();
    // What a turn reads of one client bounds how long the others wait for theirs.
    let mut client = server.client();
    let n_reads = figure(&mut client, "total_reads_processed");
    let n_turns = figure(&mut client, "eventloop_cycles");
    assert!(n_reads < 3 * n_turns, "{n_reads} reads in {n_turns} turns");
}

#[test]
fn a_command_of_a_million_arguments_is_one_command() {
    on_few_and_many_threads(&[], |server| {
        let mut client = server.client();
        let members = (0..1_000_000).map(|i| i.to_string());
        let words: Vec<String> = ["SADD", "set"]
            .map(String::from)
            .into_iter()
            .chain(members)
            .collect();
        let reply = client.call(&words).unwrap();
        assert_eq!(reply, resp::decode::Value::Int(1_000_000));
        assert_eq!(text("SCARD set", &mut client), ":1000000");
    });
}

#[test]
fn a_string_grows_to_the_limit_and_not_beyond() {
    const TOO_LONG: &str = "-ERR string exceeds maximum allowed size (proto-max-bulk-len)";
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(text("SETRANGE big 536870911 x", &mut client), ":536870912");
    assert_eq!(text("STRLEN big", &mut client), ":536870912");
    assert_eq!(text("GETRANGE big -1 -1", &mut client), "\"x\"");
    assert_eq!(text("APPEND big y", &mut client), TOO_LONG);
    assert_eq!(text("SETRANGE big 536870912 x", &mut client), TOO_LONG);
    assert_eq!(text("DEL big", &mut client), ":1");
    assert_eq!(text("SET empty ", &mut client), "+OK");
    assert_eq!(text("STRLEN empty", &mut client), ":0");
    let mut socket = server.socket();
    socket
        .write_all(b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$536870913\r\n")
        .unwrap();
    let mut got = String::new();
    socket.read_to_string(&mut got).unwrap();
    assert_eq!(got, "-ERR Protocol error: invalid bulk length\r\n");
}

#[test]
fn half_requests_and_sudden_ends_leave_nothing_behind() {
    on_few_and_many_threads(&[], |server| {
        let mut client = server.client();
        let before = figure(&mut client, "used_memory");
        let n_received = figure(&mut client, "total_connections_received");
        for _ in 0..50 {
            for bytes in [
                &b"*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$10000000\r\nabc"[..],
                b"*2147483647\r\n$1\r\na\r\n",
                b"*1000000\r\n",
                b"SET half",
                b"*2\r\n$5\r\nMULTI\r\n",
                b"*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$4\r\nhalf\r\n$1\r\nx\r\n",
                b"*2\r\n$5\r\nWATCH\r\n$4\r\nhalf\r\n",
                b"*3\r\n$5\r\nBLPOP\r\n$4\r\nlist\r\n$1\r\n0\r\n",
                b"*3\r\n$5\r\nBLPOP\r\n$4\r\nlist\r\n$1\r\n0\r\n*1\r\n$4\r\nPING\r\n",
                b"*2\r\n$9\r\nSUBSCRIBE\r\n$7\r\nchannel\r\n",
            ] {
                server.socket().write_all(bytes).unwrap();
            }
        }
        wait_for("every session has begun and ended", || {
            figure(&mut client, "total_connections_received") == n_received + 500
                && figure(&mut client, "connected_clients") == 1
                && figure(&mut client, "blocked_clients") == 0
        });
        assert_eq!(text("EXISTS half", &mut client), ":0");
        assert_eq!(text("RPUSH list a", &mut client), ":1");
        assert_eq!(text("LLEN list", &mut client), ":1", "nobody is served who is gone");
        assert_eq!(text("PUBLISH channel x", &mut client), ":0");
        let after = figure(&mut client, "used_memory");
        assert!(after < before + (1 << 20), "{before} bytes became {after}");
    });
}

#[test]
fn a_client_that_never_reads_is_closed_at_its_limit() {
    let limit = ["--client-output-buffer-limit", "normal 8mb 0 0"];
    on_few_and_many_threads(&limit, |server| {
        let mut client = server.client();
        let value = "x".repeat(1 << 20);
        client.call(&["SET", "big", &value]).unwrap();
        let mut greedy = server.socket();
        greedy.write_all(&b"GET big\r\n".repeat(200)).unwrap();
        wait_for("the greedy one is closed", || figure(&mut client, "connected_clients") == 1);
        assert_eq!(text("STRLEN big", &mut client), ":1048576");
        assert!(figure(&mut client, "used_memory") < 64 << 20);
    });
}

#[test]
fn a_reply_beyond_all_bounds_closes_its_client_where_output_is_limited() {
    let server = Server::start(&["--client-output-buffer-limit", "normal 1mb 0 0"]);
    let mut client = server.client();
    text("HSET h f v", &mut client);
    let mut greedy = server.client();
    assert!(greedy.call(&["HRANDFIELD", "h", "-999999999"]).is_err());
    let unlimited = [
        "CONFIG",
        "SET",
        "client-output-buffer-limit",
        "normal 0 0 0",
    ];
    client.call(&unlimited).unwrap();
    let mut other = server.client();
    assert_eq!(text("HRANDFIELD h -999999999", &mut other), "-ERR reply too long");
}

#[test]
fn a_subscriber_that_never_reads_is_closed_at_its_limit() {
    let limit = ["--client-output-buffer-limit", "pubsub 1mb 0 0"];
    on_few_and_many_threads(&limit, |server| {
        let mut client = server.client();
        let mut deaf = server.socket();
        deaf.write_all(b"SUBSCRIBE news\r\n").unwrap();
        wait_for("it is subscribed", || text("PUBLISH news x", &mut client) == ":1");
        let message = "x".repeat(100_000);
        wait_for("it is closed", || {
            client.call(&["PUBLISH", "news", &message]).unwrap() == resp::decode::Value::Int(0)
        });
    });
}

#[test]
fn a_transaction_that_grows_beyond_the_query_buffer_limit_closes_its_client() {
    on_few_and_many_threads(&["--client-query-buffer-limit", "1mb"], |server| {
        let mut client = server.client();
        let value = "x".repeat(100_000);
        assert_eq!(text("MULTI", &mut client), "+OK");
        let queued = (0..20).take_while(|_| client.call(&["SET", "key", &value]).is_ok());
        let n_queued = queued.count();
        assert!((9..=11).contains(&n_queued), "{n_queued} commands were queued");
        let mut other = server.client();
        assert_eq!(figure(&mut other, "client_query_buffer_limit_disconnections"), 1);
        assert_eq!(text("EXISTS key", &mut other), ":0");
    });
}

#[test]
fn a_word_beyond_the_query_buffer_limit_closes_its_client_however_fast_it_comes() {
    on_few_and_many_threads(&["--client-query-buffer-limit", "1mb"], |server| {
        let value = "x".repeat(2 << 20);
        for n_closed in 1..=5 {
            // It may be closed before all of it is sent.
            let answer = server.client().call(&["SET", "key", &value]);
            assert!(answer.is_err(), "{answer:?}");
            let mut other = server.client();
            let closed = figure(&mut other, "client_query_buffer_limit_disconnections");
            assert_eq!((closed, text("EXISTS key", &mut other)), (n_closed, ":0".to_owned()));
        }
    });
}

#[test]
fn a_client_beyond_its_soft_limit_is_closed_though_nothing_else_happens() {
    let limit = ["--client-output-buffer-limit", "normal 0 100kb 1"];
    on_few_and_many_threads(&limit, |server| {
        let mut client = server.client();
        let value = "x".repeat(1 << 20);
        client.call(&["SET", "big", &value]).unwrap();
        wait_for("it is alone", || figure(&mut client, "connected_clients") == 1);
        // Asking wakes the server, and so does reading: only its open files are looked at.
        let n_files = || {
            let files = std::fs::read_dir(format!("/proc/{}/fd", server.process.id()));
            files.unwrap().count()
        };
        let n_before = n_files();
        let mut greedy = server.socket();
        greedy.write_all(&b"GET big\r\n".repeat(64)).unwrap();
        wait_for("the greedy one is accepted", || n_files() > n_before);
        wait_for("the greedy one is closed", || n_files() == n_before);
        assert_eq!(figure(&mut client, "client_output_buffer_limit_disconnections"), 1);
        assert_eq!(figure(&mut client, "connected_clients"), 1);
    });
}

#[test]
fn what_is_pushed_after_a_kill_is_not_given_to_who_was_killed() {
    on_few_and_many_threads(&[], |server| {
        let mut client = server.client();
        for round in 0..50 {
            let mut waiting = server.client();
            let id = text("CLIENT ID", &mut waiting);
            let id = id.trim_start_matches(':');
            waiting.send(&["BLPOP", "queue", "0"]).unwrap();
            waiting.flush().unwrap();
            wait_for("it waits", || figure(&mut client, "blocked_clients") == 1);
            let commands = [
                &["CLIENT", "KILL", "ID", id][..],
                &["LPUSH", "queue", "job"],
                &["LPOP", "queue"],
            ];
            let commands: Vec<Vec<Vec<u8>>> = commands
                .iter()
                .map(|words| words.iter().map(|word| word.as_bytes().to_vec()).collect())
                .collect();
            let replies = client.pipeline(&commands).unwrap();
            let job = resp::decode::Value::Bulk(b"job".to_vec());
            assert_eq!(replies.last(), Some(&job), "round {round}");
        }
    });
}
