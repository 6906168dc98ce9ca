//! `maxmemory-clients`: who takes up most is closed first, and who is to be kept stays.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpStream};

use client::connection::Connection;

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
