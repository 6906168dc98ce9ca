//! `minium migrate` between servers that go on serving: what arrives, what is refused, what it says.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use crate::replicas::{field, fill, start, wait_for_same};
use crate::{MINIUM, Server, exit_code, signal, text, wait_for};

fn uri(server: &Server) -> String {
    format!("redis://127.0.0.1:{}", server.port)
}

fn migrate(from: &Server, to: &Server, more: &[&str]) -> Command {
    let mut command = Command::new(MINIUM);
    command
        .args(["migrate", "--from", &uri(from), "--to", &uri(to)])
        .args(more)
        .env_remove("MINIUM_FROM_AUTH")
        .env_remove("MINIUM_TO_AUTH");
    command
}

/// Runs to the end: the exit code, and all that was said.
fn run(mut command: Command) -> (Option<i32>, String) {
    let Output {
        status,
        stdout,
        stderr,
    } = command.output().unwrap();
    let said = [stdout, stderr].concat();
    (status.code(), String::from_utf8(said).unwrap())
}

/// One that goes on until it is ended.
struct Running {
    process: Child,
    said: BufReader<ChildStdout>,
}

impl Running {
    fn start(mut command: Command) -> Running {
        let mut process = command
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(process.stdout.take().unwrap());
        Running { process, said }
    }

    /// Reads up to a line with this part.
    fn wait_for(&mut self, part: &str) {
        let mut line = String::new();
        while !line.contains(part) {
            line.clear();
            assert!(self.said.read_line(&mut line).unwrap() > 0, "it never says: {part}");
        }
    }

    /// Ctrl-C: the exit code, and what it says until then.
    fn end(mut self) -> (Option<i32>, String) {
        signal("INT", self.process.id());
        let mut rest = String::new();
        self.said.read_to_string(&mut rest).unwrap();
        (exit_code(&mut self.process), rest)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn everything_arrives_while_clients_write() {
    let (source, target) = (start(&["--threads", "4"]), start(&["--threads", "4"]));
    fill(&source, 1);
    let mut client = source.client();
    let library = "#!lua name=l\nredis.register_function('f',function() return 7 end)";
    client.call(&["FUNCTION", "LOAD", library]).unwrap();
    for line in [
        "XGROUP CREATE stream group 0",
        "XREADGROUP GROUP group alice STREAMS stream >",
        "SETBIT bits 70000 1",
        "HSET plain f v",
        "SADD ints 1 2 3",
        "SET due value PXAT 1",
    ] {
        text(line, &mut client);
    }
    let many = |word: &str, key: &str, n: usize| {
        let mut words = vec![word.to_owned(), key.to_owned()];
        words.extend((0..n).map(|i| format!("element:{i}")));
        words
    };
    for words in [
        many("SADD", "many", 5000),
        many("RPUSH", "long", 5000),
        many("HSET", "wide", 5000),
    ] {
        client.call(&words).unwrap();
    }
    let stop = AtomicBool::new(false);
    let mut running = std::thread::scope(|scope| {
        for writer in 0..3 {
            let (source, stop) = (&source, &stop);
            scope.spawn(move || {
                let mut client = source.client();
                text(&format!("SELECT {}", writer * 3), &mut client);
                for i in 0.. {
                    for line in [
                        format!("INCR counter:{writer}"),
                        format!("SET key:{} new PX {}", i % 300, 10 + i % 5 * 100_000),
                        "SPOP many".to_owned(),
                        "LPOP long 2".to_owned(),
                        "MULTI".to_owned(),
                        format!("RPUSH list {i}"),
                        format!("DEL key:{}", i % 200),
                        "EXEC".to_owned(),
                        format!("EVAL redis.call('zincrby','zset',1,ARGV[1]) 0 member:{}", i % 9),
                    ] {
                        text(&line, &mut client);
                    }
                    if stop.load(Relaxed) {
                        return;
                    }
                }
            });
        }
        let mut running = Running::start(migrate(&source, &target, &["--verify=all"]));
        running.wait_for("all are the same");
        running.wait_for("SAFE TO SWITCH");
        stop.store(true, Relaxed);
        running
    });
    fill(&source, 2);
    running.wait_for("press Ctrl-C");
    let (code, said) = running.end();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("The target has everything"), "{said}");
    wait_for_same(&source, &target);
    let mut there = target.client();
    assert_eq!(text("FCALL f 0", &mut there), ":7");
    assert!(text("CONFIG GET import-mode", &mut there).contains("no"), "it is as it was");
    assert_eq!(text("SET own write", &mut there), "+OK");
}

#[test]
fn it_ends_by_itself_if_it_is_told_to() {
    let (source, target) = (start(&[]), start(&["--databases", "16"]));
    fill(&source, 1);
    let (code, said) = run(migrate(&source, &target, &["--exit-when-synced"]));
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("SAFE TO SWITCH"), "{said}");
    wait_for_same(&source, &target);
    assert!(text("INFO replication", &mut source.client()).contains("connected_slaves:0"));
}

#[test]
fn a_link_that_is_cut_goes_on_where_it_was() {
    let (source, target) = (start(&[]), start(&[]));
    fill(&source, 1);
    let mut running = Running::start(migrate(&source, &target, &["--verify", "none"]));
    running.wait_for("press Ctrl-C");
    let mut client = source.client();
    for round in 2..5 {
        assert_eq!(text("CLIENT KILL TYPE replica", &mut client), ":1");
        fill(&source, round);
        running.wait_for("nothing is missing");
    }
    wait_for_same(&source, &target);
    let told = |client: &mut _| (field("sync_full", client), field("sync_partial_ok", client));
    assert_eq!(told(&mut client), ("1".to_owned(), "3".to_owned()));
    // WAIT counts what the target has.
    text("SET k v", &mut client);
    assert_eq!(text("WAIT 1 20000", &mut client), ":1");
    assert_eq!(text("GET k", &mut target.client()), "\"v\"");
    assert_eq!(running.end().0, Some(0));
}

#[test]
fn a_source_that_has_forgotten_what_is_missing_ends_it() {
    let (mut source, target) = (start(&["--save", ""]), start(&[]));
    fill(&source, 1);
    let mut command = migrate(&source, &target, &["--verify", "none"]);
    let mut process = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("press Ctrl-C")));
    let port = source.port.to_string();
    signal("KILL", source.process.id());
    source.process.wait().unwrap();
    let mut again = crate::minium();
    again.args(["--bind", "127.0.0.1", "--port", &port]);
    source.process = again.stdout(Stdio::null()).spawn().unwrap();
    assert_eq!(exit_code(&mut process), Some(1));
    let mut why = String::new();
    process.stderr.unwrap().read_to_string(&mut why).unwrap();
    assert!(why.contains("no longer has the writes that are missing"), "{why}");
}

#[test]
fn a_copy_that_is_cut_says_so_and_leaves_the_target_usable() {
    let (source, target) = (start(&["--rdbcompression", "no"]), start(&[]));
    let (mut client, mut there) = (source.client(), target.client());
    let value = "x".repeat(1 << 20);
    for i in 0..96 {
        client.call(&["SET", &format!("big:{i}"), &value]).unwrap();
    }
    // More than fits into all buffers on the way, and a target that takes nothing.
    assert_eq!(text("CLIENT PAUSE 100000 WRITE", &mut there), "+OK");
    let command = migrate(&source, &target, &[]);
    let waiting = std::thread::spawn(move || run(command));
    wait_for("the copy waits for the target", || {
        text("CLIENT LIST", &mut there)
            .contains("flags=bI")
            .then_some(())
    });
    assert_eq!(text("CLIENT KILL TYPE replica", &mut client), ":1");
    assert_eq!(text("CLIENT UNPAUSE", &mut there), "+OK");
    let (code, said) = waiting.join().unwrap();
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("The snapshot was cut"), "{said}");
    assert!(text("CONFIG GET import-mode", &mut there).contains("\"no\""));
}

#[test]
fn what_cannot_work_is_refused_before_anything_happens() {
    let (source, target) = (start(&["--requirepass", "secret"]), start(&[]));
    let refused = |more: &[&str]| {
        let (code, said) = run(migrate(&source, &target, more));
        assert_eq!(code, Some(1), "{said}");
        said
    };
    assert!(refused(&[]).contains("give a password in --from"));
    let wrong = format!("redis://:wrong@127.0.0.1:{}", source.port);
    assert!(refused(&["--from", &wrong]).contains("refuses the login: WRONGPASS"));
    let right = format!("redis://:secret@127.0.0.1:{}", source.port);
    assert!(refused(&["--from", &right, "--to", &right]).contains("are the same server"));
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = nobody.local_addr().unwrap().port();
    drop(nobody);
    let away = format!("redis://127.0.0.1:{port}");
    assert!(refused(&["--from", &away]).contains("cannot be reached: Connection refused"));
    let mut there = target.client();
    text("SET k v", &mut there);
    let said = refused(&["--from", &right]);
    assert!(said.contains("is not empty: it holds 1 keys"), "{said}");
    text("DEL k", &mut there);
    text("REPLICAOF 127.0.0.1 1", &mut there);
    assert!(refused(&["--from", &right]).contains("is a replica of another server"));
    text("REPLICAOF NO ONE", &mut there);
    assert_eq!(text("DBSIZE", &mut there), ":0", "nothing was done");
    let mut command = migrate(&source, &target, &["--exit-when-synced"]);
    command.env("MINIUM_FROM_AUTH", "secret");
    let (code, said) = run(command);
    assert_eq!(code, Some(0), "{said}");
}

#[test]
fn a_target_that_is_not_empty_keeps_what_the_source_has_not() {
    let (source, target) = (start(&[]), start(&[]));
    text("SET both source", &mut source.client());
    let mut there = target.client();
    text("SET both target", &mut there);
    text("SET own target", &mut there);
    let flags = ["--replace", "--verify=all", "--exit-when-synced"];
    let (code, said) = run(migrate(&source, &target, &flags));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(text("MGET both own", &mut there), "*2\n  \"source\"\n  \"target\"");
}

#[test]
fn what_the_target_refuses_is_named() {
    let (source, target) = (start(&[]), start(&["--databases", "1"]));
    let mut client = source.client();
    text("SELECT 3", &mut client);
    text("SET k v", &mut client);
    let (code, said) = run(migrate(&source, &target, &[]));
    assert_eq!(code, Some(1));
    assert!(said.contains("refuses SELECT 3: ERR DB index is out of range"), "{said}");
    text("FLUSHALL", &mut client);
    text("SELECT 0", &mut client);
    text("SET key value", &mut client);
    text("CONFIG SET maxmemory 1", &mut target.client());
    let (code, said) = run(migrate(&source, &target, &[]));
    assert_eq!(code, Some(1));
    assert!(said.contains("refuses RESTORE key: OOM command not allowed"), "{said}");
}

#[test]
fn a_write_that_the_target_refuses_ends_it() {
    let (source, target) = (start(&[]), start(&[]));
    let mut client = source.client();
    text("SET key value", &mut client);
    let mut command = migrate(&source, &target, &[]);
    let mut process = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(process.stdout.take().unwrap()).lines();
    assert!(said.any(|line| line.unwrap().contains("press Ctrl-C")));
    let mut there = target.client();
    text("DEL key", &mut there);
    text("RPUSH key other", &mut there);
    for line in ["MULTI", "SET fine v", "APPEND key more", "EXEC"] {
        text(line, &mut client);
    }
    assert_eq!(exit_code(&mut process), Some(1));
    let mut why = String::new();
    process.stderr.unwrap().read_to_string(&mut why).unwrap();
    assert!(why.contains("refuses APPEND key: WRONGTYPE"), "{why}");
}

const KEYS: [&str; 7] = [
    "SET string v",
    "RPUSH list a b c",
    "SADD set a b",
    "ZADD zset 1 a 2 b",
    "HSET hash f v",
    "XADD stream 1-1 f v",
    "SET volatile v PXAT 4000000000000",
];

#[test]
fn keys_that_differ_are_found_and_named() {
    let (source, target) = (start(&[]), start(&[]));
    let (mut here, mut there) = (source.client(), target.client());
    let compare = || run(migrate(&source, &target, &["--verify-only", "--verify=all"]));
    for server in [&mut here, &mut there] {
        for line in KEYS {
            text(line, server);
        }
    }
    let (code, said) = compare();
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Compared 7 keys: all are the same."), "{said}");
    for (change, found) in [
        ("SET string w", "db 0, key string: string of another content"),
        ("LSET list 1 x", "key list: list of another content"),
        ("SREM set a", "key set: set, length 2 / 1"),
        ("ZADD zset 3 b", "key zset: zset of another content"),
        ("HSET hash f w", "key hash: hash of another content"),
        ("XGROUP CREATE stream g 0", "key stream: stream of another content"),
        ("PERSIST volatile", "key volatile: PEXPIRETIME 4000000000000 / -1"),
        ("SET more v", "key more: not there / a string"),
        ("DEL string", "key string: a string / not there"),
    ] {
        text(change, &mut there);
        let (code, said) = compare();
        assert_eq!(code, Some(2), "{change}: {said}");
        assert!(said.contains("1 DIFFER. Do not switch.") && said.contains(found), "{said}");
        text("FLUSHALL", &mut there);
        for line in KEYS {
            text(line, &mut there);
        }
    }
}

#[test]
fn a_key_that_somebody_changes_at_the_target_is_not_safe() {
    let (source, target) = (start(&[]), start(&[]));
    for line in KEYS {
        text(line, &mut source.client());
    }
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut there = target.client();
            while !stop.load(Relaxed) {
                text("SET string other XX", &mut there);
            }
        });
        let ended = run(migrate(&source, &target, &["--verify=sample=100"]));
        stop.store(true, Relaxed);
        let (code, said) = ended;
        assert_eq!(code, Some(2), "{said}");
        assert!(said.contains("key string: string, length 1 / 5"), "{said}");
        assert!(!said.contains("SAFE"), "{said}");
    });
}

#[test]
fn a_deadline_that_is_put_off_while_the_target_is_behind_is_not_too_late() {
    let (source, target) = (start(&[]), start(&[]));
    let (mut here, mut there) = (source.client(), target.client());
    let now_ms = || {
        let since = std::time::UNIX_EPOCH.elapsed().unwrap();
        since.as_millis() as u64
    };
    let deadline_ms = now_ms() + 1500;
    for line in [
        format!("SET session v PXAT {deadline_ms}"),
        "HSET hash f v".to_owned(),
        format!("HPEXPIREAT hash {deadline_ms} FIELDS 1 f"),
    ] {
        text(&line, &mut here);
    }
    assert_eq!(text("CLIENT PAUSE 100000 WRITE", &mut there), "+OK");
    let mut running = Running::start(migrate(&source, &target, &["--verify=all"]));
    wait_for("the copy waits for the target", || {
        text("CLIENT LIST", &mut there)
            .contains("flags=bI")
            .then_some(())
    });
    assert_eq!(text("PEXPIREAT session 4000000000000", &mut here), ":1");
    text("HPEXPIREAT hash 4000000000000 FIELDS 1 f", &mut here);
    wait_for("the first deadline passes", || (now_ms() > deadline_ms).then_some(()));
    assert_eq!(text("CLIENT UNPAUSE", &mut there), "+OK");
    running.wait_for("Compared 2 keys: all are the same.");
    assert_eq!(running.end().0, Some(0));
    assert_eq!(text("PEXPIRETIME session", &mut there), ":4000000000000");
    assert_eq!(text("HGET hash f", &mut there), "\"v\"");
}
