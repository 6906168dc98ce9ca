//! The append-only file: what was acknowledged is there after a crash, and files that are broken,
//! rewritten, switched, or written by others load as far as they should.

use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::time::Duration;

use client::connection::Connection;

use super::{MINIUM, Server, exit_code, folder, free_port, text, wait_for};

/// However slow the machine is.
const LIMIT: Duration = Duration::from_secs(20);
const AOF: &[&str] = &[
    "--appendonly",
    "yes",
    "--save",
    "",
    "--enable-debug-command",
    "local",
];

pub(super) fn start(folder: &Path, more: &[&str]) -> Server {
    Server::start_in(folder, &[AOF, more].concat())
}

pub(super) fn crash(server: &mut Server) {
    server.process.kill().unwrap();
    server.process.wait().unwrap();
}

pub(super) fn info(field: &str, client: &mut Connection) -> String {
    let all = text("INFO persistence", client);
    let start = all.find(&format!("{field}:")).expect(field) + field.len() + 1;
    let end = all[start..].find("\\r").unwrap();
    all[start..start + end].to_owned()
}

pub(super) fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder.join("appendonlydir")).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.ends_with(".lock"))
        .collect();
    names.sort();
    names
}

pub(super) fn increment(folder: &Path) -> PathBuf {
    folder.join("appendonlydir/appendonly.aof.1.incr.aof")
}

pub(super) fn append(path: &Path, bytes: &str) {
    let mut file = fs::OpenOptions::new().append(true).open(path).unwrap();
    file.write_all(bytes.as_bytes()).unwrap();
}

pub(super) fn wait_until_rewritten(client: &mut Connection) {
    wait_for("the rewrite ends", || {
        let is_over = info("aof_rewrite_in_progress", client) == "0";
        (is_over && info("aof_rewrite_scheduled", client) == "0").then_some(())
    });
    assert_eq!(info("aof_last_bgrewrite_status", client), "ok");
}

/// Runs a server that must not come up; its exit code and what it said.
pub(super) fn refused(folder: &Path, more: &[&str]) -> (Option<i32>, String) {
    let log = folder.join("log");
    let _ = fs::remove_file(&log);
    let mut process = Command::new(MINIUM)
        .current_dir(folder)
        .args(["--bind", "127.0.0.1", "--port", &free_port().to_string()])
        .args(["--logfile", "log"])
        .args([AOF, more].concat())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let code = exit_code(&mut process);
    (code, fs::read_to_string(log).unwrap_or_default())
}

#[test]
fn what_was_acknowledged_is_there_after_a_crash() {
    for (policy, threads) in [("always", "3"), ("everysec", "1"), ("no", "2")] {
        let folder = folder(&format!("aof-crash-{policy}"));
        let flags = ["--appendfsync", policy, "--threads", threads];
        let mut server = start(&folder, &flags);
        const CLIENTS: usize = 4;
        let acknowledged: [AtomicU64; CLIENTS] = Default::default();
        let is_over = AtomicBool::new(false);
        let (acknowledged, is_over) = (&acknowledged, &is_over);
        std::thread::scope(|scope| {
            for (number, counter) in acknowledged.iter().enumerate() {
                let mut client = server.client();
                scope.spawn(move || {
                    let (counter_key, set) = (format!("n{number}"), format!("s{number}"));
                    for n in 1_u64.. {
                        let one = ["MULTI".to_owned(), format!("INCR {counter_key}")];
                        let two = [format!("SADD {set} {n}"), "EXEC".to_owned()];
                        let commands: Vec<Vec<Vec<u8>>> = [one, two]
                            .concat()
                            .iter()
                            .map(|line| line.split(' ').map(|word| word.into()).collect())
                            .collect();
                        if client.pipeline(&commands).is_err() || is_over.load(SeqCst) {
                            return;
                        }
                        counter.store(n, SeqCst);
                    }
                });
            }
            wait_for("all have written", || {
                let all = acknowledged.iter().all(|one| one.load(SeqCst) >= 50);
                all.then_some(())
            });
            crash(&mut server);
            is_over.store(true, SeqCst);
        });
        let server = start(&folder, &flags);
        let mut client = server.client();
        for (number, acknowledged) in acknowledged.iter().enumerate() {
            let counter = text(&format!("GET n{number}"), &mut client);
            let counter: u64 = counter.trim_matches('"').parse().unwrap();
            // Everysec may lose what came within a sync.
            let is_kept = counter >= acknowledged.load(SeqCst);
            assert!(is_kept || policy == "everysec", "{policy}: {counter}");
            assert_eq!(text(&format!("SCARD s{number}"), &mut client), format!(":{counter}"));
        }
    }
}

#[test]
fn a_torn_tail_and_half_a_transaction_are_dropped() {
    const HALF: &str = "*1\r\n$5\r\nMULTI\r\n*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$1\r\n1\r\n";
    for tail in ["*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$5\r\nab", "*3\r\n$3", HALF] {
        let folder = folder("aof-torn");
        let mut server = start(&folder, &[]);
        assert_eq!(text("SET k value", &mut server.client()), "+OK");
        crash(&mut server);
        let whole = fs::read(increment(&folder)).unwrap();
        append(&increment(&folder), tail);
        let (code, log) = refused(&folder, &["--aof-load-truncated", "no"]);
        assert_eq!(code, Some(1));
        assert!(log.contains("Unexpected end of file reading the append only file"), "{log}");

        let mut server = start(&folder, &[]);
        let mut client = server.client();
        assert_eq!(text("MGET k x", &mut client), "*2\n  \"value\"\n  (nil)");
        assert_eq!(fs::read(increment(&folder)).unwrap(), whole);
        assert_eq!(text("SET later 1", &mut client), "+OK");
        crash(&mut server);
        let server = start(&folder, &["--aof-load-truncated", "no"]);
        assert_eq!(text("EXISTS k later", &mut server.client()), ":2");
    }
}

#[test]
fn a_file_that_is_wrong_in_the_middle_stops_the_start() {
    for (wrong, reason) in [
        ("!nonsense\r\n", "Bad file format reading the append only file"),
        ("*1\r\n$3\r\nbla\r\n", "unknown command 'bla'"),
    ] {
        let folder = folder("aof-wrong");
        let mut server = start(&folder, &[]);
        assert_eq!(text("SET k value", &mut server.client()), "+OK");
        crash(&mut server);
        append(&increment(&folder), wrong);
        append(&increment(&folder), "*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n");
        let (code, log) = refused(&folder, &[]);
        assert_eq!(code, Some(1));
        assert!(log.contains(reason) && log.contains("byte"), "{log}");
    }
    let folder = folder("aof-manifest");
    fs::create_dir(folder.join("appendonlydir")).unwrap();
    let manifest = folder.join("appendonlydir/appendonly.aof.manifest");
    fs::write(manifest, "file appendonly.aof.1.incr.aof seq 1 type i\n").unwrap();
    let (code, log) = refused(&folder, &[]);
    assert_eq!(code, Some(1));
    assert!(
        log.contains("appendonly.aof.1.incr.aof cannot be opened: No such file or directory"),
        "{log}"
    );
}

#[test]
fn others_are_told_that_the_file_is_loaded_whatever_a_script_in_it_does() {
    let folder = folder("aof-slow");
    let server = start(&folder, &["--threads", "2", "--lua-time-limit", "1"]);
    let script = "redis.call('set', KEYS[1], 'y') for i = 1, 2000000 do redis.call('ping') end";
    let len = script.len();
    let eval = format!("*4\r\n$4\r\nEVAL\r\n${len}\r\n{script}\r\n$1\r\n1\r\n$1\r\nx\r\n");
    append(&increment(&folder), &format!("*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n{eval}"));
    let (mut loader, mut other) = (server.socket(), server.client());
    loader.write_all(b"DEBUG LOADAOF\r\n").unwrap();
    let told = wait_for("it is loaded", || {
        let answer = text("PING", &mut other);
        (answer != "+PONG").then_some(answer)
    });
    assert_eq!(told, "-LOADING Redis is loading the dataset in memory");
    let mut reply = [0; 5];
    loader.read_exact(&mut reply).unwrap();
    assert_eq!(&reply, b"+OK\r\n");
    assert_eq!(text("GET x", &mut other), "\"y\"");
}

#[test]
fn a_rewrite_goes_on_beside_writers() {
    let folder = folder("aof-rewrite");
    let mut server = start(&folder, &["--threads", "2"]);
    let mut client = server.client();
    text("DEBUG POPULATE 20000", &mut client);
    let is_over = AtomicBool::new(false);
    let is_over = &is_over;
    std::thread::scope(|scope| {
        for number in 0..2 {
            let mut client = server.client();
            scope.spawn(move || {
                let mut n = 0_u64;
                while !is_over.load(SeqCst) {
                    n += 1;
                    let key = (n * 7919 + number) % 20_000;
                    text(&format!("APPEND key:{key} x"), &mut client);
                    text(&format!("LPUSH list:{number} {n}"), &mut client);
                }
            });
        }
        for _ in 0..3 {
            let answer = text("BGREWRITEAOF", &mut client);
            assert_eq!(answer, "+Background append only file rewriting started");
            wait_until_rewritten(&mut client);
        }
        is_over.store(true, SeqCst);
    });
    let digest = text("DEBUG DIGEST", &mut client);
    let expected = ["4.base.rdb", "4.incr.aof", "manifest"];
    let expected = expected.map(|end| format!("appendonly.aof.{end}"));
    wait_for("what went before is removed", || (names(&folder) == expected).then_some(()));
    crash(&mut server);
    let server = start(&folder, &[]);
    assert_eq!(text("DEBUG DIGEST", &mut server.client()), digest);
}

#[test]
fn what_is_no_longer_needed_is_kept_while_that_is_asked_for_and_never_taken_for_what_is() {
    let folder = folder("aof-history");
    let server = start(&folder, &["--aof-disable-auto-gc", "yes"]);
    let mut client = server.client();
    let now = |ends: &[&str]| {
        let expected: Vec<String> = ends
            .iter()
            .map(|end| format!("appendonly.aof.{end}"))
            .collect();
        names(&folder) == expected
    };
    assert_eq!(text("SET k v", &mut client), "+OK");
    text("CONFIG SET appendonly no", &mut client);
    text("BGREWRITEAOF", &mut client);
    wait_until_rewritten(&mut client);
    assert!(now(&["1.base.rdb", "1.incr.aof", "2.base.rdb", "manifest"]));
    assert_eq!(text("CONFIG SET appendonly yes", &mut client), "+OK");
    wait_until_rewritten(&mut client);
    assert_eq!(text("SET k w", &mut client), "+OK");
    assert_eq!(text("CONFIG SET aof-disable-auto-gc no", &mut client), "+OK");
    let left = ["2.incr.aof", "3.base.rdb", "manifest"];
    wait_for("the rest is gone", || now(&left).then_some(()));
    drop(server);
    let server = start(&folder, &[]);
    assert_eq!(text("GET k", &mut server.client()), "\"w\"");
}

#[test]
fn a_file_that_has_grown_is_rewritten_unasked() {
    let folder = folder("aof-grown");
    let flags = [
        "--auto-aof-rewrite-percentage",
        "100",
        "--auto-aof-rewrite-min-size",
        "4kb",
    ];
    let server = start(&folder, &flags);
    let mut client = server.client();
    let value = "x".repeat(1000);
    for _ in 0..10 {
        text(&format!("SET k {value}"), &mut client);
    }
    wait_for("it is rewritten", || (info("aof_rewrites", &mut client) == "1").then_some(()));
    wait_until_rewritten(&mut client);
    let n_bytes: u64 = info("aof_current_size", &mut client).parse().unwrap();
    assert!(n_bytes < 2000, "{n_bytes}");
}

#[test]
fn it_is_switched_on_and_off_at_run_time() {
    let folder = folder("aof-switched");
    let off = ["--appendonly", "no", "--enable-debug-command", "local"];
    let mut server = Server::start_in(&folder, &off);
    let mut client = server.client();
    text("SET before 1", &mut client);
    assert_eq!(info("aof_enabled", &mut client), "0");
    assert_eq!(text("CONFIG SET appendonly yes", &mut client), "+OK");
    text("SET meanwhile 1", &mut client);
    assert_eq!(info("aof_enabled", &mut client), "1");
    wait_for("the first base is there", || {
        let path = folder.join("appendonlydir/appendonly.aof.manifest");
        path.exists().then_some(())
    });
    wait_until_rewritten(&mut client);
    text("SET after 1", &mut client);
    crash(&mut server);

    let mut server = start(&folder, &[]);
    let mut client = server.client();
    assert_eq!(text("EXISTS before meanwhile after", &mut client), ":3");
    assert_eq!(text("CONFIG SET appendonly no", &mut client), "+OK");
    text("SET lost 1", &mut client);
    assert_eq!(info("aof_enabled", &mut client), "0");
    crash(&mut server);
    let server = start(&folder, &[]);
    assert_eq!(text("EXISTS before meanwhile after lost", &mut server.client()), ":3");
}

#[test]
fn no_reply_is_lost_when_it_is_switched_on_and_off() {
    let folder = folder("aof-switched-often");
    let server = Server::start_in(&folder, &["--save", "", "--threads", "2"]);
    let is_over = AtomicBool::new(false);
    let ping = || {
        let mut client = server.client();
        client.set_timeout(Some(LIMIT)).unwrap();
        while !is_over.load(SeqCst) {
            client.call(&["PING"]).expect("a reply");
        }
    };
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..4).map(|_| scope.spawn(ping)).collect();
        let mut client = server.client();
        let (mut n_switches, mut is_ok) = (0, true);
        while n_switches < 2000 && is_ok && !clients.iter().any(|one| one.is_finished()) {
            n_switches += 1;
            is_ok = ["yes", "no"]
                .iter()
                .all(|on| text(&format!("CONFIG SET appendonly {on}"), &mut client) == "+OK");
        }
        is_over.store(true, SeqCst); // before anything fails, as the others are waited for
        assert!(is_ok);
    });
}

#[test]
fn who_closes_his_side_gets_the_replies_that_waited_for_the_disk() {
    let server = start(&folder("aof-half-closed"), &["--appendfsync", "always", "--threads", "3"]);
    for _ in 0..100 {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        stream.write_all(b"SET a 1\r\nINCR a\r\n").unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut replies = String::new();
        stream.read_to_string(&mut replies).unwrap();
        assert_eq!(replies, "+OK\r\n:2\r\n");
    }
}

#[test]
fn a_reply_that_waits_for_the_disk_comes_though_a_slow_script_follows() {
    let more = [
        "--appendfsync",
        "always",
        "--threads",
        "3",
        "--busy-reply-threshold",
        "10",
    ];
    let server = start(&folder("aof-slow-script"), &more);
    text("DEBUG AOF-FLUSH-SLEEP 30000", &mut server.client());
    let is_over = AtomicBool::new(false);
    let (is_over, server) = (&is_over, &server);
    std::thread::scope(|scope| {
        for _ in 0..2 {
            let mut writer = server.client();
            scope.spawn(move || {
                while !is_over.load(SeqCst) {
                    text("SET w 1", &mut writer); // there is a sync under way, nearly always
                }
            });
        }
        let slow =
            "*3\r\n$4\r\nEVAL\r\n$37\r\nfor i=1,20000000 do end return 'done'\r\n$1\r\n0\r\n";
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", server.port)).unwrap();
        stream.set_read_timeout(Some(LIMIT)).unwrap();
        let ask = |_| {
            stream.write_all(b"SET a 1\r\n")?;
            // Nothing tells that it was read, as every answer waits for the disk. In one packet both
            // would be answered as well: only less would be tried.
            std::thread::sleep(Duration::from_millis(10));
            stream.write_all(slow.as_bytes())?;
            let mut replies = [0; 15];
            stream.read_exact(&mut replies)?;
            Ok(replies)
        };
        let replies: std::io::Result<Vec<[u8; 15]>> = (0..5).map(ask).collect();
        is_over.store(true, SeqCst); // before anything fails, as the others are waited for
        let is_right = |one: &[u8; 15]| one == b"+OK\r\n$4\r\ndone\r\n";
        assert!(replies.expect("all replies").iter().all(is_right));
    });
}

#[test]
fn what_has_run_out_meanwhile_is_not_there_and_what_was_kept_is() {
    let folder = folder("aof-expiry");
    let mut server = start(&folder, &["--aof-timestamp-enabled", "yes"]);
    let mut client = server.client();
    // With nothing going of its own accord, deadlines pass while the file says what was done before.
    text("DEBUG SET-ACTIVE-EXPIRE 0", &mut client);
    text("SET kept 5 PX 100", &mut client);
    text("SET gone 5 PX 100", &mut client);
    text("INCR gone", &mut client);
    text("BGREWRITEAOF", &mut client);
    wait_until_rewritten(&mut client);
    text("SET kept 6 KEEPTTL", &mut client);
    text("PERSIST kept", &mut client);
    let deadline = text("PEXPIRETIME gone", &mut client);
    let deadline: u64 = deadline.trim_start_matches(':').parse().unwrap_or(0);
    crash(&mut server);
    wait_for("the time has come", || {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        (now.unwrap().as_millis() as u64 > deadline).then_some(())
    });
    let server = start(&folder, &[]);
    let mut client = server.client();
    let kept = text("EXISTS kept", &mut client);
    assert!(kept == ":1" || deadline == 0, "{kept}");
    assert_eq!(text("EXISTS gone", &mut client), ":0");
}

#[test]
fn a_file_of_the_old_kind_becomes_the_base() {
    let folder = folder("aof-old");
    let old = "*2\r\n$6\r\nSELECT\r\n$1\r\n0\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\nv\r\n";
    fs::write(folder.join("appendonly.aof"), old).unwrap();
    let mut server = start(&folder, &[]);
    let mut client = server.client();
    assert_eq!(text("GET k", &mut client), "\"v\"");
    assert!(!folder.join("appendonly.aof").exists());
    text("SET more 1", &mut client);
    crash(&mut server);
    let expected = [
        "appendonly.aof",
        "appendonly.aof.1.incr.aof",
        "appendonly.aof.manifest",
    ];
    assert_eq!(names(&folder), expected);
    let server = start(&folder, &[]);
    assert_eq!(text("EXISTS k more", &mut server.client()), ":2");
}

/// A server whose present increment is on a disk without room.
fn start_full(name: &str, policy: &str) -> (PathBuf, Server) {
    let folder = folder(name);
    let server = start(&folder, &["--appendfsync", policy]);
    let mut client = server.client();
    assert_eq!(text("SET k 1", &mut client), "+OK");
    let next = folder.join("appendonlydir/appendonly.aof.2.incr.aof");
    std::os::unix::fs::symlink("/dev/full", next).unwrap();
    text("BGREWRITEAOF", &mut client);
    wait_until_rewritten(&mut client);
    (folder, server)
}

#[test]
fn a_full_disk_refuses_writes_until_there_is_room() {
    let (folder, mut server) = start_full("aof-full", "everysec");
    let mut client = server.client();
    wait_for("writes are refused", || {
        let answer = text("SET k 2", &mut client);
        answer
            .starts_with("-MISCONF Errors writing to the AOF file: No space left on device")
            .then_some(())
    });
    assert_eq!(info("aof_last_write_status", &mut client), "err");
    assert_eq!(text("GET k", &mut client), "\"2\"");
    text("BGREWRITEAOF", &mut client);
    wait_until_rewritten(&mut client);
    wait_for("writes are allowed again", || (text("SET k 3", &mut client) == "+OK").then_some(()));
    assert_eq!(info("aof_last_write_status", &mut client), "ok");
    crash(&mut server);
    let server = start(&folder, &[]);
    assert_eq!(text("GET k", &mut server.client()), "\"3\"");
}

#[test]
fn nothing_is_answered_that_must_be_on_the_disk_and_is_not() {
    let (folder, mut server) = start_full("aof-always-full", "always");
    let mut client = server.client();
    assert!(client.call(&["SET", "k", "2"]).is_err());
    assert_eq!(exit_code(&mut server.process), Some(1));
    let _ = fs::remove_file(folder.join("appendonlydir/appendonly.aof.2.incr.aof"));
    fs::write(folder.join("appendonlydir/appendonly.aof.2.incr.aof"), "").unwrap();
    let server = start(&folder, &[]);
    assert_eq!(text("GET k", &mut server.client()), "\"1\"");
}
