//! The end of the process: it comes, whatever runs, and leaves nothing half done.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Instant;

use super::{PATIENCE, Server, exit_code, folder, signal, text, wait_for};

/// A search that takes longer than anybody waits, within one instruction of the interpreter.
const ENDLESS: &str = "return string.find(string.rep('a', 60), string.rep('a*', 30) .. 'b')";

fn send(server: &Server, words: &[&str]) -> std::net::TcpStream {
    let mut socket = server.socket();
    let mut bytes = format!("*{}\r\n", words.len()).into_bytes();
    for word in words {
        bytes.extend(format!("${}\r\n{word}\r\n", word.len()).bytes());
    }
    socket.write_all(&bytes).unwrap();
    socket
}

/// Waits until a loop does not answer any more, as the one that runs a script in one instruction.
fn wait_until_stuck(server: &Server) {
    wait_for("the script runs", || {
        let mut client = server.client();
        client
            .set_timeout(Some(std::time::Duration::from_millis(50)))
            .unwrap();
        client.call(&["PING"]).is_err().then_some(())
    });
}

fn files(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn sigterm_ends_a_server_that_runs_an_endless_command() {
    let folder = folder("endless");
    let mut server = Server::start_in(&folder, &["--threads", "1", "--save", ""]);
    let _script = send(&server, &["EVAL", ENDLESS, "0"]);
    wait_until_stuck(&server);
    signal("TERM", server.process.id());
    assert_eq!(exit_code(&mut server.process), Some(0));
}

#[test]
fn sigterm_ends_a_script_that_stands_in_the_way_of_the_last_save() {
    let folder = folder("endless-save");
    let flags = [
        "--save",
        "3600 1",
        "--busy-reply-threshold",
        "100",
        "--threads",
        "2",
    ];
    let mut server = Server::start_in(&folder, &flags);
    assert_eq!(text("SET key value", &mut server.client()), "+OK");
    let _script = send(&server, &["EVAL", "while true do end", "0"]);
    signal("TERM", server.process.id());
    assert_eq!(exit_code(&mut server.process), Some(0));
    assert_eq!(files(&folder), ["dump.rdb"]);
    let server = Server::start_in(&folder, &flags);
    assert_eq!(text("GET key", &mut server.client()), "\"value\"");
}

/// What a script has done when the server ends is kept whole or not at all.
#[test]
fn half_a_script_is_not_in_the_append_only_file() {
    let folder = folder("half");
    let flags = [
        "--appendonly",
        "yes",
        "--save",
        "",
        "--busy-reply-threshold",
        "30",
    ];
    let mut server = Server::start_in(&folder, &flags);
    let mut client = server.client();
    assert_eq!(text("SET key before", &mut client), "+OK");
    let source = "redis.call('SET', KEYS[1], 'half') while true do end";
    let _script = send(&server, &["EVAL", source, "1", "key"]);
    let started = Instant::now();
    while !text("PING", &mut client).starts_with("-BUSY") {
        assert!(started.elapsed() < PATIENCE, "the script is busy");
    }
    let _gone = send(&server, &["SHUTDOWN", "NOSAVE"]);
    assert_eq!(exit_code(&mut server.process), Some(0));
    let server = Server::start_in(&folder, &flags);
    assert_eq!(text("GET key", &mut server.client()), "\"before\"");
}

#[test]
fn a_save_that_the_end_interrupts_leaves_no_file() {
    for (command, more) in [
        ("BGSAVE", &["--appendonly", "no"][..]),
        ("BGREWRITEAOF", &["--appendonly", "yes"]),
    ] {
        let folder = folder("interrupted");
        // Each key takes longer than anybody waits.
        let flags = ["--save", "", "--rdb-key-save-delay", "100000000"];
        let mut server = Server::start_in(&folder, &[&flags[..], more].concat());
        let mut client = server.client();
        for n in 0..1_000 {
            text(&format!("SET key:{n} value"), &mut client);
        }
        assert!(text(command, &mut client).starts_with("+Background"));
        let place = match command {
            "BGSAVE" => folder.clone(),
            _ => folder.join("appendonlydir"),
        };
        let is_temporary = |name: &String| name.starts_with("temp-");
        wait_for("the file is begun", || files(&place).iter().any(is_temporary).then_some(()));
        signal("TERM", server.process.id());
        assert_eq!(exit_code(&mut server.process), Some(0));
        let left: Vec<String> = files(&place).into_iter().filter(is_temporary).collect();
        assert!(left.is_empty(), "{command}: {left:?}");
    }
}

#[test]
fn a_second_sigint_ends_a_save_at_once_and_leaves_no_file() {
    let folder = folder("insisted");
    let flags = ["--save", "900 1", "--rdb-key-save-delay", "100000000"];
    let mut server = Server::start_in(&folder, &flags);
    text("MSET a 1 b 2 c 3", &mut server.client());
    let is_temporary = |name: &String| name.starts_with("temp-");
    let n_left = || {
        files(&folder)
            .iter()
            .filter(|name| is_temporary(name))
            .count()
    };
    signal("INT", server.process.id());
    wait_for("the file is begun", || (n_left() == 1).then_some(()));
    signal("INT", server.process.id());
    assert_eq!(exit_code(&mut server.process), Some(1));
    assert_eq!(n_left(), 0);
}

#[test]
fn debug_sleep_holds_every_loop() {
    let server = Server::start(&["--threads", "3", "--enable-debug-command", "yes"]);
    let others: Vec<_> = (0..6).map(|_| server.client()).collect();
    let mut sleeper = server.socket();
    sleeper.write_all(b"DEBUG SLEEP 0.5\r\n").unwrap();
    std::thread::scope(|scope| {
        for mut other in others {
            scope.spawn(move || {
                wait_for("it sleeps", || {
                    let before = Instant::now();
                    text("PING", &mut other);
                    (before.elapsed().as_millis() > 100).then_some(())
                });
            });
        }
    });
}

#[test]
fn an_end_by_signal_waits_while_nothing_happens_by_itself_and_can_be_taken_back() {
    let mut server = Server::start(&["--enable-debug-command", "yes"]);
    let mut client = server.client();
    assert_eq!(text("DEBUG PAUSE-CRON 1", &mut client), "+OK");
    signal("TERM", server.process.id());
    wait_for("it is told", || (text("SHUTDOWN ABORT", &mut client) == "+OK").then_some(()));
    assert_eq!(text("DEBUG PAUSE-CRON 0", &mut client), "+OK");
    assert_eq!(text("SET key value", &mut client), "+OK");
    signal("TERM", server.process.id());
    assert_eq!(exit_code(&mut server.process), Some(0));
}
