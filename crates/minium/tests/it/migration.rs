//! MIGRATE, to another server and to a target that answers when the test says so.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};

use client::connection::Connection;
use resp::decode::Value;

use crate::limits::{figure, wait_for};
use crate::{Server, text};

fn migrate(target: u16, rest: &str, client: &mut Connection) -> String {
    text(&format!("MIGRATE 127.0.0.1 {target} {rest}"), client)
}

#[test]
fn keys_move_with_their_deadlines_and_those_refused_stay() {
    let (server, target) = (Server::start(&["--threads", "2"]), Server::start(&[]));
    let (mut here, mut there) = (server.client(), target.client());
    for line in [
        "SET plain v",
        "SET short v PX 100000",
        "RPUSH list a b",
        "SET busy here",
    ] {
        text(line, &mut here);
    }
    assert_eq!(migrate(target.port, "plain 0 1000", &mut here), "+OK");
    assert_eq!(migrate(target.port, "plain 0 1000", &mut here), "+NOKEY");
    assert_eq!(text("GET plain", &mut there), "\"v\"");
    assert_eq!(figure(&mut here, "migrate_cached_sockets"), 1);
    text("SET busy there", &mut there);
    let words = [
        "MIGRATE",
        "127.0.0.1",
        &target.port.to_string(),
        "",
        "0",
        "1000",
        "KEYS",
    ];
    let words = [&words[..], &["short", "absent", "busy", "list"]].concat();
    let Value::Error(line) = here.call(&words).unwrap() else {
        panic!("one of the keys is there already");
    };
    let line = String::from_utf8(line).unwrap();
    let expected =
        "ERR Target instance replied with error: BUSYKEY Target key name already exists.";
    assert_eq!(line, expected);
    assert_eq!(text("DBSIZE", &mut here), ":1");
    assert_eq!(text("GET busy", &mut here), "\"here\"");
    assert!(text("PTTL short", &mut there).len() >= ":90000".len());
    assert_eq!(text("LRANGE list 0 -1", &mut there), "*2\n  \"a\"\n  \"b\"");
    assert_eq!(migrate(target.port, "busy 0 1000 COPY REPLACE", &mut here), "+OK");
    assert_eq!(text("GET busy", &mut here), "\"here\"");
    assert_eq!(text("GET busy", &mut there), "\"here\"");
    let refused = migrate(target.port, "busy 99 1000", &mut here);
    assert!(
        refused.starts_with("-ERR Target instance replied with error: ERR DB index"),
        "{refused}"
    );
    text("CONFIG SET requirepass secret", &mut there);
    text("SET k v", &mut here);
    let refused = migrate(target.port, "k 3 1000 AUTH wrong", &mut here);
    assert!(refused.contains("WRONGPASS"), "{refused}");
    assert_eq!(migrate(target.port, "k 3 1000 AUTH2 default secret", &mut here), "+OK");
    text("SELECT 3", &mut there);
    assert_eq!(text("GET k", &mut there), "\"v\"");
    text("MULTI", &mut here);
    migrate(target.port, "busy 0 1000", &mut here);
    assert!(text("EXEC", &mut here).contains("not allowed inside MULTI"));
    drop(target);
    assert!(migrate(1, "busy 0 1000", &mut here).starts_with("-IOERR error or timeout connecting"));
    assert_eq!(text("EXISTS busy", &mut here), ":1");
}

/// A target that reads what comes, and answers it once it is told to.
fn target() -> (u16, Receiver<()>, Sender<&'static [u8]>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let ((came, comes), (answer, answers)) = (channel(), channel::<&'static [u8]>());
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let mut connection: TcpStream = connection.unwrap();
            let mut request = Vec::new();
            while !request.windows(7).any(|part| part == b"RESTORE") {
                let mut chunk = [0; 4096];
                let n = connection.read(&mut chunk).unwrap();
                request.extend_from_slice(&chunk[..n]);
            }
            came.send(()).unwrap();
            let Ok(answer) = answers.recv() else { return };
            connection.write_all(answer).unwrap();
        }
    });
    (port, comes, answer)
}

#[test]
fn what_happens_while_the_target_is_asked() {
    let server = Server::start(&["--threads", "1"]);
    let (mut asking, mut other) = (server.client(), server.client());
    let (port, comes, answer) = target();
    let line = |key: &str| format!("MIGRATE 127.0.0.1 {port} {key} 0 20000");
    let mut send = |key: &str| {
        let line = line(key);
        let words: Vec<&str> = line.split(' ').collect();
        asking.send(&words).unwrap();
        asking.flush().unwrap();
        comes.recv().unwrap();
    };
    // Others go on, and what they write stays.
    text("SET k v", &mut other);
    text("SET l v", &mut other);
    send("k");
    assert_eq!(text("APPEND k w", &mut other), ":2");
    answer.send(b"+OK\r\n+OK\r\n").unwrap();
    let Value::Error(line) = asking.receive().unwrap() else {
        panic!("the key was changed");
    };
    assert!(line.starts_with(b"TRYAGAIN"));
    assert_eq!(text("GET k", &mut other), "\"vw\"");
    // Who has gone meanwhile leaves no key in two places.
    let send = |key: &str| {
        let line = format!(
            "*6\r\n$7\r\nMIGRATE\r\n$9\r\n127.0.0.1\r\n${}\r\n{port}\r\n$1\r\n{key}\r\n$1\r\n0\r\n$5\r\n20000\r\n",
            port.to_string().len()
        );
        let mut socket = server.socket();
        socket.write_all(line.as_bytes()).unwrap();
        comes.recv().unwrap();
    };
    send("l");
    wait_for("the session ends", || figure(&mut other, "connected_clients") == 2);
    answer.send(b"+OK\r\n+OK\r\n").unwrap();
    wait_for("the key goes", || text("EXISTS l", &mut other) == ":0");
}

#[test]
fn a_target_that_does_not_answer_is_given_up() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let (port, comes, _answer) = target();
    text("SET k v", &mut client);
    let refused = migrate(port, "k 0 50", &mut client);
    assert_eq!(refused, "-IOERR error or timeout reading from target instance");
    comes.recv().unwrap();
    assert_eq!(text("GET k", &mut client), "\"v\"");
}
