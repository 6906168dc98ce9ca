//! Scripts that run for too long, as everybody else meets them.

use crate::{PATIENCE, Server, text};
use client::connection::Connection;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const THREADS: [&str; 2] = ["1", "4"];

fn start(threads: &str) -> Server {
    Server::start(&["--threads", threads, "--busy-reply-threshold", "30"])
}

/// Sends without waiting for the answer.
fn send(server: &Server, words: &[&str]) -> TcpStream {
    let mut socket = server.socket();
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend_from_slice(format!("${}\r\n{word}\r\n", word.len()).as_bytes());
    }
    socket.write_all(&bytes).unwrap();
    socket
}

fn line(socket: &mut TcpStream) -> String {
    let mut line = Vec::new();
    let mut byte = [0];
    // Byte by byte, so that nothing behind the line is taken; a signal does not end it.
    while !line.ends_with(b"\r\n") {
        socket.read_exact(&mut byte).unwrap();
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

/// Asks until the answer begins so.
fn wait_until(client: &mut Connection, words: &str, start: &str) -> String {
    let started = Instant::now();
    loop {
        let answer = text(words, client);
        if answer.starts_with(start) {
            return answer;
        }
        assert!(started.elapsed() < PATIENCE, "{words}: {answer}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

const BUSY: &str =
    "-BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.";

#[test]
fn a_script_without_end_leaves_everybody_able_to_kill_it() {
    for threads in THREADS {
        let server = start(threads);
        let mut clients: Vec<Connection> = (0..6).map(|_| server.client()).collect();
        for source in [
            "while true do end",
            "while true do pcall(function() while true do end end) end",
        ] {
            let mut script = send(&server, &["EVAL", source, "0"]);
            let mut late = server.client(); // accepted while the script runs
            assert_eq!(wait_until(&mut late, "PING", "-BUSY"), BUSY);
            for client in &mut clients {
                assert_eq!(text("GET key", client), BUSY);
                assert_eq!(text("FUNCTION STATS", client), BUSY);
            }
            assert_eq!(text("SCRIPT KILL", &mut clients[0]), "+OK");
            let answer = line(&mut script);
            assert!(answer.starts_with("-ERR Script killed by user with SCRIPT KILL"), "{answer}");
            for client in &mut clients {
                assert_eq!(wait_until(client, "PING", "+PONG"), "+PONG");
            }
        }
        let answer = text("SCRIPT KILL", &mut clients[0]);
        assert_eq!(answer, "-NOTBUSY No scripts in execution right now.");
    }
}

#[test]
fn a_script_that_has_written_is_ended_by_shutdown_alone() {
    for threads in THREADS {
        let mut server = start(threads);
        let mut client = server.client();
        let source = "redis.call('SET', 'key', 1) while true do end";
        let _script = send(&server, &["EVAL", source, "0"]);
        wait_until(&mut client, "PING", "-BUSY");
        assert!(
            text("SCRIPT KILL", &mut client).starts_with("-UNKILLABLE Sorry the script already")
        );
        assert_eq!(text("SHUTDOWN", &mut client), BUSY);
        let _gone = send(&server, &["SHUTDOWN", "NOSAVE"]);
        assert!(server.process.wait().unwrap().success());
    }
}

/// A transaction that meets the busy script is spoiled; MULTI and DISCARD are not refused.
#[test]
fn transactions_and_blocked_clients_live_through_a_busy_script() {
    for threads in THREADS {
        let server = start(threads);
        let mut clients: Vec<Connection> = (0..4).map(|_| server.client()).collect();
        assert_eq!(text("MULTI", &mut clients[0]), "+OK");
        let mut blocked = send(&server, &["BLPOP", "list", "0"]);
        let started = Instant::now();
        while !text("INFO clients", &mut clients[1]).contains("blocked_clients:1") {
            assert!(started.elapsed() < PATIENCE, "the client blocks");
        }
        let source = "redis.call('RPUSH', 'list', 'x') local i = 0 \
                      while i < 20000000 do i = i + 1 end return i";
        let mut script = send(&server, &["EVAL", source, "0"]);
        wait_until(&mut clients[1], "PING", "-BUSY");
        assert_eq!(text("SET key 1", &mut clients[0]), BUSY);
        let aborted = text("EXEC", &mut clients[0]);
        assert!(
            aborted.starts_with("-EXECABORT Transaction discarded because of: BUSY")
                || aborted
                    .starts_with("-EXECABORT Transaction discarded because of previous errors"),
            "{aborted}"
        );
        assert_eq!(text("MULTI", &mut clients[2]), "+OK");
        assert_eq!(text("DISCARD", &mut clients[2]), "+OK");
        assert_eq!(line(&mut script), ":20000000");
        assert_eq!(wait_until(&mut clients[3], "LLEN list", ":"), ":0");
        assert_eq!(line(&mut blocked), "*2");
    }
}

/// Who watches or waits for a key that the script holds may go away meanwhile.
#[test]
fn sessions_end_while_a_script_holds_their_keys() {
    for threads in THREADS {
        let server = start(threads);
        let mut killer = server.client();
        let watchers: Vec<Connection> = (0..4)
            .map(|_| {
                let mut client = server.client();
                assert_eq!(text("WATCH key", &mut client), "+OK");
                client
            })
            .collect();
        let waiters: Vec<TcpStream> = (0..4)
            .map(|_| send(&server, &["BLPOP", "key", "0"]))
            .collect();
        wait_until(&mut killer, "PING", "+PONG");
        let source = "redis.call('GET', 'key') while true do end";
        let mut script = send(&server, &["EVAL", source, "0"]);
        wait_until(&mut killer, "PING", "-BUSY");
        drop((watchers, waiters));
        for _ in 0..20 {
            assert_eq!(text("PING", &mut killer), BUSY);
        }
        assert_eq!(text("UNWATCH", &mut killer), "+OK");
        assert_eq!(text("SCRIPT KILL", &mut killer), "+OK");
        assert!(line(&mut script).starts_with("-ERR Script killed"));
        assert_eq!(wait_until(&mut killer, "RPUSH key a", ":"), ":1");
        let started = Instant::now();
        while text("LLEN key", &mut killer) != ":1" {
            assert!(started.elapsed() < PATIENCE, "nobody takes what nobody waits for");
        }
    }
}
