//! `maxmemory-clients`: who takes up most is closed first, and who is to be kept stays.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use client::connection::Connection;
use resp::decode::Value;

use crate::limits::{figure, wait_for};
use crate::{Server, text};

/// A connection of this name that has sent so many bytes of a request that does not end.
fn hoarder(server: &Server, name: &str, n_bytes: usize, greeting: &[u8]) -> TcpStream {
    let mut socket = server.socket();
    let start = format!("CLIENT SETNAME {name}\r\n*2\r\n$4\r\nECHO\r\n$400000000\r\n");
    socket.write_all(greeting).unwrap();
    socket.write_all(start.as_bytes()).unwrap();
    socket.write_all(&vec![b'x'; n_bytes]).unwrap();
    socket
}

fn names(client: &mut Connection) -> String {
    text("CLIENT LIST", client)
}

#[test]
fn the_largest_clients_go_when_all_together_are_too_large() {
    for threads in ["1", "3"] {
        let server = Server::start(&["--threads", threads]);
        let mut client = server.client();
        let _small = hoarder(&server, "small", 100_000, b"");
        let _large = hoarder(&server, "large", 900_000, b"");
        let _kept = hoarder(&server, "kept", 2_000_000, b"CLIENT NO-EVICT ON\r\n");
        wait_for("all have arrived", || figure(&mut client, "mem_clients_normal") > 3_000_000);
        text("CONFIG SET maxmemory-clients 3mb", &mut client);
        wait_for("one is closed", || figure(&mut client, "evicted_clients") == 1);
        let left = names(&mut client);
        assert!(left.contains("name=small") && left.contains("name=kept"), "{left}");
        assert!(!left.contains("name=large"), "{left}");
        wait_for("its memory is free", || figure(&mut client, "mem_clients_normal") < 3 << 20);
        assert_eq!(text("PING", &mut client), "+PONG");
    }
}

#[test]
fn a_request_of_two_long_words_counts_once() {
    let server = Server::start(&["--maxmemory-clients", "8mb"]);
    let mut client = server.client();
    let (first, second) = ("x".repeat(4 << 20), "y".repeat(2 << 20));
    let answer = client.call(&["MSET", "a", &first, "b", &second]);
    assert_eq!(answer.unwrap(), Value::Simple(b"OK".to_vec()));
    assert_eq!(figure(&mut client, "evicted_clients"), 0);
}

#[test]
fn the_limit_may_be_a_part_of_maxmemory_and_counts_what_arrives() {
    let server = Server::start(&["--maxmemory", "100mb", "--maxmemory-clients", "2%"]);
    let mut client = server.client();
    let _small = hoarder(&server, "small", 500_000, b"");
    let _large = hoarder(&server, "large", 3_000_000, b"");
    wait_for("the larger one is closed", || figure(&mut client, "evicted_clients") == 1);
    assert!(names(&mut client).contains("name=small"));
}

#[test]
fn who_is_answered_while_clients_take_up_too_much_gets_his_replies_and_nobody_else_does() {
    let server = Server::start(&["--threads", "1", "--maxmemory-clients", "1mb"]);
    let mut client = server.client();
    assert_eq!(text("CLIENT NO-EVICT ON", &mut client), "+OK");
    let _kept = hoarder(&server, "kept", 2_000_000, b"CLIENT NO-EVICT ON\r\n");
    wait_for("it takes up too much", || figure(&mut client, "mem_clients_normal") > 2_000_000);
    for _ in 0..20 {
        let mut busy = server.socket();
        busy.write_all(&b"ECHO hello\r\n".repeat(100)).unwrap();
        busy.shutdown(Shutdown::Write).unwrap();
        let mut replies = Vec::new();
        let end = busy.read_to_end(&mut replies);
        let whole = b"$5\r\nhello\r\n".repeat(100);
        assert!(whole.starts_with(&replies), "{}", replies.escape_ascii());
        let is_shed = end.is_err() || replies.len() < whole.len();
        assert_eq!(text("PING", &mut client), "+PONG");
        assert!(!is_shed || figure(&mut client, "evicted_clients") > 0);
    }
}

#[test]
fn a_reply_beyond_the_limit_closes_its_client_and_reaches_nobody() {
    let limit = [
        "--client-output-buffer-limit",
        "normal 100000 0 0",
        "--threads",
        "1",
    ];
    let server = Server::start(&limit);
    let mut client = server.client();
    client.call(&["SET", "k", &"x".repeat(150_000)]).unwrap();
    let mut greedy = server.client();
    assert!(greedy.call(&["GET", "k"]).is_err());
    assert_eq!(text("PING", &mut client), "+PONG");
    assert_eq!(figure(&mut client, "client_output_buffer_limit_disconnections"), 1);
}

#[test]
fn who_asks_for_much_and_reads_nothing_is_closed_and_no_key_goes_for_it() {
    let limits = [
        "--maxmemory",
        "11mb",
        "--maxmemory-clients",
        "3mb",
        "--maxmemory-policy",
        "allkeys-lru",
    ];
    for threads in ["1", "2", "3"] {
        let server = Server::start(&[&limits[..], &["--threads", threads]].concat());
        let mut client = server.client();
        assert_eq!(text("CLIENT NO-EVICT ON", &mut client), "+OK");
        let value = "x".repeat(100_000);
        for i in 0..50 {
            client.call(&["SET", &i.to_string(), &value]).unwrap();
        }
        let mut flooders: Vec<TcpStream> = (0..20).map(|_| server.socket()).collect();
        wait_for("some are closed", || {
            flooders.retain_mut(|one| one.write_all(&b"MGET 1\r\n".repeat(10)).is_ok());
            figure(&mut client, "evicted_clients") > 5
        });
        assert_eq!(figure(&mut client, "evicted_keys"), 0, "{threads} threads");
    }
}

/// A field of the line of the client of this name in CLIENT LIST; `None` while there is none.
fn field(client: &mut Connection, name: &str, field: &str) -> Option<u64> {
    let list = match client.call(&["CLIENT", "LIST"]).unwrap() {
        Value::Bulk(list) => String::from_utf8(list).unwrap(),
        other => panic!("{other:?}"),
    };
    let name = format!("name={name}");
    let mut lines = list.lines().map(|line| line.split(' '));
    let mut line = lines.find(|line| line.clone().any(|word| word == name))?;
    let text = line.find_map(|word| word.strip_prefix(field)?.strip_prefix('='));
    Some(text.expect("the field is there").parse().unwrap())
}

#[test]
fn an_idle_client_gives_back_what_it_holds_for_more() {
    let server = Server::start(&["--threads", "2"]);
    let mut client = server.client();
    let mut idle = hoarder(&server, "idle", 300_000, b"");
    wait_for("all of it has come", || field(&mut client, "idle", "qbuf") >= Some(300_000));
    wait_for("it is as small as can be", || field(&mut client, "idle", "qbuf-free") == Some(0));
    let held = field(&mut client, "idle", "qbuf").unwrap();
    let all = field(&mut client, "idle", "tot-mem").unwrap();
    assert!(all < held + 4096, "{all} for {held}");
    idle.write_all(&vec![b'x'; 1000]).unwrap();
    wait_for("it goes on", || field(&mut client, "idle", "qbuf") == Some(held + 1000));
}

#[test]
fn a_client_that_has_read_its_replies_holds_nothing_for_them_and_the_peak_is_forgotten() {
    let server = Server::start(&["--threads", "2"]);
    let mut client = server.client();
    let length = 20_000_000;
    client.call(&["SET", "k", &"x".repeat(length)]).unwrap();
    let mut slow = server.socket();
    slow.write_all(b"CLIENT SETNAME slow\r\nGET k\r\n").unwrap();
    wait_for("there is more than sockets hold", || {
        field(&mut client, "slow", "rbs") > Some(1 << 20)
    });
    let held = field(&mut client, "slow", "rbs");
    assert!(field(&mut client, "slow", "tot-mem") > held);
    let mut replies = vec![0; "+OK\r\n$20000000\r\n\r\n".len() + length];
    slow.read_exact(&mut replies).unwrap();
    wait_for("nothing is held", || field(&mut client, "slow", "rbs") == Some(0));
    assert!(field(&mut client, "slow", "tot-mem") < Some(4096));
    wait_for("the peak is over", || field(&mut client, "slow", "rbp") == Some(0));
}

#[test]
fn who_overcomes_the_limit_of_replies_goes_and_nobody_is_shed_for_it() {
    let limits = [
        "--maxmemory-clients",
        "10mb",
        "--client-output-buffer-limit",
        "normal 3145728 0 0",
        "--threads",
        "2",
    ];
    let server = Server::start(&limits);
    let mut client = server.client();
    assert_eq!(text("SETRANGE k 4194303 v", &mut client), ":4194304");
    let _large = hoarder(&server, "large", 6 << 20, b"");
    wait_for("it has come", || field(&mut client, "large", "qbuf") >= Some(6 << 20));
    for n_gone in 1..=4 {
        let mut greedy = server.socket();
        greedy.write_all(b"GET k\r\n").unwrap();
        let is_gone = |figure: u64| figure == n_gone;
        wait_for("it is closed", || {
            is_gone(figure(&mut client, "client_output_buffer_limit_disconnections"))
        });
    }
    assert_eq!(figure(&mut client, "evicted_clients"), 0);
    assert!(field(&mut client, "large", "tot-mem").is_some());
}
