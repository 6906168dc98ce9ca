//! What an operator meets: the log, files, signals, supervisors, listening, directives at run time.

use crate::{
    MINIUM, PATIENCE, Server, exit_code, folder, free_port, minium, signal, text, wait_for,
    wait_for_line,
};
use client::connection::Connection;
use client::endpoint::Endpoint;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixDatagram, UnixStream};
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

pub fn run(args: &[&str], input: &str) -> Output {
    let mut process = minium()
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    // It may end before it reads.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    process.wait_with_output().unwrap()
}

fn connect(port: u16) -> Connection {
    let host = "127.0.0.1".to_owned();
    Connection::open(&Endpoint::Tcp { host, port }, Some(PATIENCE)).unwrap()
}

/// Sends SHUTDOWN, which has no answer.
fn shut_down(client: &mut Connection) {
    assert!(client.call(&["SHUTDOWN", "NOSAVE"]).is_err());
}

/// Waits until `client` is alone: whoever looked whether the server listens has gone.
fn wait_until_alone(client: &mut Connection) {
    wait_for("the others are gone", || {
        text("INFO clients", client)
            .contains("connected_clients:1\\r")
            .then_some(())
    });
}

fn ping(stream: &mut (impl Read + Write)) {
    stream.write_all(b"PING\r\n").unwrap();
    let mut reply = [0; 7];
    stream.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+PONG\r\n");
}

#[test]
fn the_log_the_pid_file_and_the_socket_come_and_go() {
    let folder = folder("log");
    let at = |name: &str| folder.join(name).display().to_string();
    let (log, pid, socket) = (at("log"), at("pid"), at("socket"));
    let flags = [
        "--logfile",
        &log,
        "--pidfile",
        &pid,
        "--unixsocket",
        &socket,
    ];
    let mut server = Server::start(&[&flags[..], &["--unixsocketperm", "700"]].concat());
    let id = server.process.id();
    let line = wait_for_line(Path::new(&log), "Server initialized");
    assert!(line.starts_with(&format!("{id}:M ")) && line.contains(" * Server init"), "{line}");
    wait_for_line(Path::new(&log), "Ready to accept connections tcp");
    wait_for_line(Path::new(&log), "Ready to accept connections unix");
    assert_eq!(fs::read_to_string(&pid).unwrap(), format!("{id}\n"));
    assert_eq!(fs::metadata(&socket).unwrap().permissions().mode() & 0o777, 0o700);
    ping(&mut UnixStream::connect(&socket).unwrap());
    signal("HUP", id);
    ping(&mut UnixStream::connect(&socket).unwrap());
    signal("TERM", id);
    assert_eq!(exit_code(&mut server.process), Some(0));
    for part in [
        "Received SIGTERM scheduling shutdown",
        "User requested shutdown",
        "bye bye",
    ] {
        wait_for_line(Path::new(&log), part);
    }
    assert!(!Path::new(&pid).exists() && !Path::new(&socket).exists());
}

#[test]
fn the_log_level_can_be_changed() {
    let folder = folder("level");
    let log = folder.join("log").display().to_string();
    let server = Server::start(&["--logfile", &log, "--loglevel", "warning"]);
    let mut client = server.client();
    assert_eq!(text("CONFIG SET loglevel notice", &mut client), "+OK");
    shut_down(&mut client);
    wait_for_line(Path::new(&log), "User requested shutdown");
    let text = fs::read_to_string(&log).unwrap();
    assert!(!text.contains("Server initialized"), "{text}");
}

#[test]
fn a_daemon_leaves_its_parent_and_its_id() {
    let folder = folder("daemon");
    let (pid, log, port) = (folder.join("pid"), folder.join("log"), free_port());
    let (pid_text, log_text) = (pid.display().to_string(), log.display().to_string());
    let port_text = port.to_string();
    let parent = minium()
        .args([
            "--daemonize",
            "yes",
            "--bind",
            "127.0.0.1",
            "--port",
            &port_text,
        ])
        .args(["--pidfile", &pid_text, "--logfile", &log_text])
        .output()
        .unwrap();
    assert!(parent.status.success() && parent.stdout.is_empty());
    wait_for_line(&log, "Ready to accept");
    let daemon: u32 = fs::read_to_string(&pid).unwrap().trim().parse().unwrap();
    let facts = text("INFO server", &mut connect(port));
    assert!(facts.contains(&format!("process_id:{daemon}")), "{facts}");
    signal("INT", daemon);
    wait_for("it removes its file", || (!pid.exists()).then_some(()));
    wait_for_line(&log, "bye bye");
}

#[test]
fn a_supervisor_is_told() {
    let path = folder("supervisor").join("notify");
    let supervisor = UnixDatagram::bind(&path).unwrap();
    supervisor.set_read_timeout(Some(PATIENCE)).unwrap();
    let port = free_port();
    let mut process = minium()
        .args([
            "--supervised",
            "auto",
            "--bind",
            "127.0.0.1",
            "--port",
            &port.to_string(),
        ])
        .env("NOTIFY_SOCKET", &path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let receive = || {
        let mut buffer = [0; 200];
        let n = supervisor.recv(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..n]).into_owned()
    };
    assert!(receive().contains("READY=1"));
    assert!(text("INFO server", &mut connect(port)).contains("process_supervised:systemd"));
    signal("TERM", process.id());
    assert_eq!(receive(), "STOPPING=1\n");
    assert_eq!(exit_code(&mut process), Some(0));
}

#[test]
fn it_listens_on_several_addresses_and_skips_optional_ones() {
    let server = Server::start(&["--bind", "127.0.0.1 127.0.0.2 -192.0.2.1"]);
    ping(&mut TcpStream::connect(("127.0.0.2", server.port)).unwrap());
    let refused = run(&["--bind", "192.0.2.1", "--port", &free_port().to_string()], "");
    assert_eq!(refused.status.code(), Some(1));
    let log = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(log.contains("Could not create server TCP listening socket 192.0.2.1:"), "{log}");
    assert!(log.contains("Failed listening on port"), "{log}");
}

#[test]
fn listening_moves_while_it_runs() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let port = free_port();
    assert_eq!(text(&format!("CONFIG SET port {port}"), &mut client), "+OK");
    ping(&mut TcpStream::connect(("127.0.0.1", port)).unwrap());
    assert!(TcpStream::connect(("127.0.0.1", server.port)).is_err());
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let taken_port = taken.local_addr().unwrap().port();
    let refused = text(&format!("CONFIG SET port {taken_port}"), &mut client);
    assert!(refused.ends_with("Unable to listen on this port. Check server logs."), "{refused}");
    ping(&mut TcpStream::connect(("127.0.0.1", port)).unwrap());
    assert_eq!(text("CONFIG GET port", &mut client), format!("*2\n  \"port\"\n  \"{port}\""));
    let refused = text("CONFIG SET bind 192.0.2.1", &mut client);
    assert!(refused.ends_with("Failed to bind to specified addresses."), "{refused}");
    assert_eq!(text("CONFIG SET bind 127.0.0.2", &mut client), "+OK");
    ping(&mut TcpStream::connect(("127.0.0.2", port)).unwrap());
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err());
}

#[test]
fn a_unix_socket_is_enough() {
    let path = folder("unix").join("socket");
    let mut process = minium()
        .args(["--port", "0", "--unixsocket"])
        .arg(&path)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let mut stream = wait_for("it listens", || UnixStream::connect(&path).ok());
    ping(&mut stream);
    stream.write_all(b"SHUTDOWN\r\n").unwrap();
    assert_eq!(exit_code(&mut process), Some(0));
    let nowhere = run(&["--port", "0"], "");
    assert_eq!(nowhere.status.code(), Some(1));
}

#[test]
fn a_bad_configuration_is_explained() {
    let file = folder("bad").join("conf");
    fs::write(&file, "port 0\n\nmaxclients many\n").unwrap();
    for (args, input, line, reason) in [
        (vec![file.to_str().unwrap()], "", "at line 3", "couldn't be parsed into an integer"),
        (vec!["-"], "nonsense yes\n", ">>> 'nonsense yes'", "Bad directive"),
        (vec!["--rename-command", "NOPE", "x"], "", "rename-command", "No such command"),
        (vec!["--cluster-enabled", "yes"], "", "cluster-enabled", "not available in this version"),
        (vec!["--logfile", "/nowhere/log"], "", "", "Can't open the log file"),
    ] {
        let output = run(&args, input);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{told}");
        assert!(told.contains("*** FATAL CONFIG FILE ERROR"), "{told}");
        assert!(told.contains(line) && told.contains(reason), "{told}");
    }
}

#[test]
fn configuration_comes_from_a_file_from_flags_and_from_standard_input() {
    let folder = folder("input");
    let (file, log) = (folder.join("conf"), folder.join("log"));
    fs::write(&file, "hz 20\nmaxclients 50\n").unwrap();
    let port = free_port();
    let mut process = minium()
        .args([
            file.to_str().unwrap(),
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
        ])
        .args(["--logfile", log.to_str().unwrap(), "-"])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = process.stdin.take().unwrap();
    stdin.write_all(b"maxclients 60\ntimeout 7\n").unwrap();
    drop(stdin);
    wait_for_line(&log, "Ready to accept");
    let mut client = connect(port);
    for (directive, value) in [("hz", "20"), ("maxclients", "60"), ("timeout", "7")] {
        let got = text(&format!("CONFIG GET {directive}"), &mut client);
        assert!(got.ends_with(&format!("\"{value}\"")), "{got}");
    }
    assert_eq!(text("CONFIG SET timeout 9", &mut client), "+OK");
    assert_eq!(text("CONFIG REWRITE", &mut client), "+OK");
    let written = fs::read_to_string(&file).unwrap();
    assert!(written.starts_with("hz 20\nmaxclients 60\n"), "{written}");
    assert!(written.contains("\ntimeout 9\n"), "{written}");
    shut_down(&mut client);
    assert_eq!(exit_code(&mut process), Some(0));
}

#[test]
fn commands_can_be_renamed_and_removed() {
    let folder = folder("rename");
    let file = folder.join("conf");
    fs::write(&file, "rename-command FLUSHALL Wipe\nrename-command config \"\"\n").unwrap();
    let port = free_port();
    let mut process = minium()
        .args([
            file.to_str().unwrap(),
            "--port",
            &port.to_string(),
            "--bind",
            "127.0.0.1",
        ])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("it listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    let mut client = connect(port);
    assert!(text("FLUSHALL", &mut client).starts_with("-ERR unknown command"));
    assert!(text("CONFIG GET port", &mut client).starts_with("-ERR unknown command"));
    assert_eq!(text("WIPE", &mut client), "+OK");
    shut_down(&mut client);
    assert_eq!(exit_code(&mut process), Some(0));
}

#[test]
fn clients_are_limited_and_silent_ones_closed() {
    let server = Server::start(&["--maxclients", "2", "--threads", "3"]);
    let mut client = server.client();
    wait_until_alone(&mut client);
    let mut silent = server.socket();
    ping(&mut silent);
    let mut answer = String::new();
    server.socket().read_to_string(&mut answer).unwrap();
    assert_eq!(answer, "-ERR max number of clients reached\r\n");
    assert!(text("INFO stats", &mut client).contains("rejected_connections:1"));
    assert_eq!(text("CONFIG SET timeout 1", &mut client), "+OK");
    let mut closed = false;
    while !closed {
        assert_eq!(text("PING", &mut client), "+PONG");
        silent
            .set_read_timeout(Some(Duration::from_millis(100)))
            .unwrap();
        closed = matches!(silent.read(&mut [0; 1]), Ok(0));
    }
}

#[test]
fn shutdown_takes_the_words_of_the_peer() {
    let mut server = Server::start(&[]);
    let mut client = server.client();
    for (words, answer) in [
        ("SHUTDOWN maybe", "-ERR syntax error"),
        ("SHUTDOWN SAVE NOSAVE", "-ERR syntax error"),
        ("SHUTDOWN ABORT NOW", "-ERR syntax error"),
        ("SHUTDOWN ABORT", "-ERR No shutdown in progress."),
    ] {
        assert_eq!(text(words, &mut client), answer, "{words}");
    }
    assert!(client.call(&["SHUTDOWN", "NOW", "FORCE"]).is_err(), "it closes without an answer");
    assert_eq!(exit_code(&mut server.process), Some(0));
}

#[test]
fn info_has_what_was_asked_for() {
    let server = Server::start(&[]);
    let mut client = server.client();
    wait_until_alone(&mut client);
    assert_eq!(text("SET key value", &mut client), "+OK");
    let all = text("INFO everything", &mut client);
    for line in [
        "redis_version:8.2.0",
        "server_name:minium",
        "connected_clients:1",
        "mem_allocator:mimalloc",
        "role:master",
        "# Modules",
        "# Commandstats",
        "db0:keys=1",
    ] {
        assert!(all.contains(line), "{line} in {all}");
    }
    assert!(text("INFO", &mut client).contains("# Server"));
    assert!(!text("INFO", &mut client).contains("# Commandstats"));
    assert!(!text("INFO clients", &mut client).contains("# Server"));
    assert_eq!(text("INFO nothing", &mut client), "\"\"");
}

#[test]
fn the_name_it_is_started_under_decides() {
    let folder = folder("names");
    for (name, flag, answer) in [
        ("redis-server", "--version", "v=8.2.0"),
        ("valkey-server", "-h", "Usage: minium"),
        ("redis-cli", "--version", "cli"),
    ] {
        let link = folder.join(name);
        std::os::unix::fs::symlink(MINIUM, &link).unwrap();
        let output = Command::new(link).arg(flag).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success() && told.contains(answer), "{name}: {told}");
    }
    let output = run(&["--test-memory", "100"], "");
    assert_eq!(output.status.code(), Some(1));
    assert!(!output.stderr.is_empty());
}

#[test]
fn info_counts_the_keys_that_expire() {
    let server = Server::start(&[]);
    let mut client = server.client();
    text("SET a 1 PX 500000", &mut client);
    text("SET b 1 PX 300000", &mut client);
    text("SET c 1", &mut client);
    let shown = text("INFO keyspace", &mut client);
    let (_, ttl) = shown
        .split_once("db0:keys=3,expires=2,avg_ttl=")
        .expect(&shown);
    let digits: String = ttl.chars().take_while(char::is_ascii_digit).collect();
    let ttl_ms: u64 = digits.parse().unwrap();
    assert!((200_000..=400_000).contains(&ttl_ms), "{shown}");
    text("SWAPDB 0 1", &mut client);
    text("PERSIST a", &mut client);
    let shown = text("INFO keyspace", &mut client);
    assert!(shown.contains("db1:keys=3,expires=2,"), "{shown}");
    text("FLUSHALL", &mut client);
    text("SET d 1", &mut client);
    let shown = text("INFO keyspace", &mut client);
    assert!(shown.contains("db0:keys=1,expires=0,avg_ttl=0"), "{shown}");
}

#[test]
fn info_counts_the_hashes_whose_fields_expire() {
    let server = Server::start(&[]);
    let mut client = server.client();
    let mut counted = |words: &str| {
        text(words, &mut client);
        let shown = text("INFO keyspace", &mut client);
        let found = shown
            .split_once("subexpiry=")
            .map(|(_, rest)| rest.to_owned());
        let found = found.map(|rest| rest.split(',').next().unwrap().to_owned());
        found.unwrap_or_default()
    };
    assert_eq!(counted("SET other x"), "0");
    assert_eq!(counted("HSETEX a EX 100 FIELDS 2 f 1 g 2"), "1");
    assert_eq!(counted("HSETEX b EX 100 FIELDS 1 f 1"), "2");
    assert_eq!(counted("COPY b c"), "3");
    assert_eq!(counted("RENAME c d"), "3");
    assert_eq!(counted("DEL d"), "2");
    assert_eq!(counted("HPERSIST a FIELDS 1 f"), "2", "the other field has one");
    assert_eq!(counted("SWAPDB 0 1"), "2");
    assert_eq!(counted("SWAPDB 0 1"), "2");
    assert_eq!(counted("HSET a g 3"), "1", "a new value has no deadline");
    assert_eq!(counted("SET b x"), "0");
    assert_eq!(counted("HSETEX a PX 300 FIELDS 1 f 1"), "1");
    wait_for("the field has gone", || (counted("PING") == "0").then_some(()));
    assert_eq!(counted("HSETEX a EX 100 FIELDS 1 f 1"), "1");
    assert_eq!(counted("HDEL a f"), "0");
    assert_eq!(counted("HSETEX a EX 100 FIELDS 1 f 1"), "1");
    counted("FLUSHALL");
    assert_eq!(counted("SET other x"), "0");
}

#[test]
fn a_flush_that_is_saved_at_once_leaves_no_changes() {
    let server = Server::start(&["--save", "3600 1"]);
    let mut client = server.client();
    text("SET a 1", &mut client);
    let shown = text("INFO persistence", &mut client);
    assert!(shown.contains("rdb_changes_since_last_save:1\\r"), "{shown}");
    text("FLUSHALL", &mut client);
    let shown = text("INFO persistence", &mut client);
    assert!(shown.contains("rdb_changes_since_last_save:0\\r"), "{shown}");
}

#[test]
fn what_happens_is_counted() {
    let server = Server::start(&["--requirepass", "secret", "--threads", "2"]);
    let mut client = server.client();
    assert_eq!(text("AUTH secret", &mut client), "+OK");
    assert_eq!(text("CONFIG RESETSTAT", &mut client), "+OK");
    text("SET key value", &mut client);
    text("GET key", &mut client);
    text("GET absent", &mut client);
    text("LPUSH key x", &mut client);
    text("GET", &mut client);
    text("NOSUCH", &mut client);
    text("AUTH wrong", &mut client);
    text("SET short lived PX 1", &mut client);
    wait_for("the key goes", || (text("DBSIZE", &mut client) == ":1").then_some(()));
    let all = text("INFO everything", &mut client);
    for line in [
        "keyspace_hits:1\\r",
        "keyspace_misses:1\\r",
        "expired_keys:1\\r",
        "total_error_replies:4\\r",
        "acl_access_denied_auth:1\\r",
        "errorstat_ERR:count=2\\r",
        "errorstat_WRONGTYPE:count=1\\r",
        "errorstat_WRONGPASS:count=1\\r",
        "cmdstat_config|resetstat:calls=1,",
        "cmdstat_get:calls=2,",
        "rejected_calls=1,failed_calls=0",
    ] {
        assert!(all.contains(line), "{line} in {all}");
    }
}

#[test]
fn slow_commands_are_logged_without_secrets() {
    let server = Server::start(&["--slowlog-log-slower-than", "0", "--slowlog-max-len", "3"]);
    let mut client = server.client();
    text("CLIENT SETNAME tester", &mut client);
    text("CONFIG SET requirepass secret", &mut client);
    text("SET key value", &mut client);
    let log = text("SLOWLOG GET 2", &mut client);
    for part in [
        "\"SET\"",
        "\"key\"",
        "\"requirepass\"",
        "(redacted)",
        "tester",
        "127.0.0.1:",
    ] {
        assert!(log.contains(part), "{part} in {log}");
    }
    assert!(!log.contains("secret"), "{log}");
    assert_eq!(text("SLOWLOG LEN", &mut client), ":3");
    text("CONFIG SET slowlog-log-slower-than -1", &mut client);
    assert_eq!(text("SLOWLOG RESET", &mut client), "+OK");
    assert_eq!(text("SLOWLOG LEN", &mut client), ":0");
}

#[test]
fn a_relative_configuration_file_is_rewritten_wherever_dir_leads() {
    let folder = folder("rewrite");
    fs::create_dir(folder.join("data")).unwrap();
    let port = free_port();
    fs::write(folder.join("conf"), format!("dir data\nbind 127.0.0.1\nport {port}\n")).unwrap();
    let mut process = minium()
        .arg("conf")
        .current_dir(&folder)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    wait_for("it listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    let mut client = connect(port);
    assert_eq!(text("CONFIG SET hz 50", &mut client), "+OK");
    assert_eq!(text("CONFIG REWRITE", &mut client), "+OK");
    assert!(
        fs::read_to_string(folder.join("conf"))
            .unwrap()
            .contains("\nhz 50\n")
    );
    assert!(fs::read_dir(folder.join("data")).unwrap().next().is_none());
    shut_down(&mut client);
    assert_eq!(exit_code(&mut process), Some(0));
}
