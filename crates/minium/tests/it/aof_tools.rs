//! What stands around the append-only file: both forms of its base, `check-aof`, the state of a moment,
//! checksums, WAITAOF, the lock against a second server, and a disk that takes no more.

use std::fs;
use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::aof::{append, crash, increment, info, names, refused, start, wait_until_rewritten};
use super::{MINIUM, Server, exit_code, folder, text, wait_for};

/// Everything that a base has to carry; the server makes the long ones from a loop in Lua.
const DATA: &[&str] = &[
    "SET s hello",
    "SET n 12345",
    "SET e x PX 100000000",
    "RPUSH l a b c",
    "SADD ints 1 2 3",
    "SADD set a b",
    "ZADD z 1.5 a inf b -0.0000001 c",
    "HSET h f v g w",
    "HPEXPIRE h 100000000 FIELDS 1 f",
    "XADD x 1-1 a 1",
    "XADD x 2-1 b 2",
    "XADD x 3-1 c 3",
    "XGROUP CREATE x g 0 ENTRIESREAD 0",
    "XREADGROUP GROUP g alice COUNT 2 STREAMS x >",
    "XGROUP CREATECONSUMER x g bob",
    "XCFGSET x IDMP-DURATION 5000 IDMP-MAXSIZE 50",
    "XDEL x 2-1",
    "XGROUP CREATE empty g $ MKSTREAM",
    "XADD emptied 7-1 a 1",
    "XGROUP CREATE emptied g 0",
    "XREADGROUP GROUP g c STREAMS emptied >",
    "XDEL emptied 7-1",
    "XADD produced * f v",
    "XCFGSET produced IDMP-DURATION 86400 IDMP-MAXSIZE 7",
    "XADD produced IDMP p i * f v",
    "XADD produced IDMPAUTO p * f v",
    "XADD produced IDMP q i * f v",
];
const LONG: &str = "for i = 1, 20000 do \
    redis.call('RPUSH', 'long', i .. string.rep('x', 20)) redis.call('SADD', 'bigset', 'm' .. i) \
    redis.call('ZADD', 'bigzset', i / 3, 'm' .. i) redis.call('HSET', 'bighash', i, i) end \
    redis.call('HPEXPIRE', 'bighash', 100000000, 'FIELDS', 2, 5, 6) redis.call('PEXPIRE', 'long', 100000000)";
/// What the digest does not tell.
const QUESTIONS: &[&str] = &[
    "DEBUG DIGEST",
    "XPENDING x g",
    "XINFO STREAM x",
    "XPENDING emptied g",
    "HPEXPIRETIME bighash FIELDS 3 5 6 7",
    "HPEXPIRETIME h FIELDS 2 f g",
    "PEXPIRETIME long",
    "PEXPIRETIME e",
    "FUNCTION LIST",
    "XINFO GROUPS x",
    "XADD produced IDMP p i * other fields",
    "XADD produced IDMPAUTO p * f v",
    "XADD produced IDMP q i * f v",
    "XLEN produced",
    "XINFO STREAM produced",
    "LRANGE long 19990 -1",
];

fn answers(server: &Server) -> Vec<String> {
    let mut client = server.client();
    QUESTIONS
        .iter()
        .map(|words| text(words, &mut client))
        .collect()
}

#[test]
fn both_forms_of_a_base_hold_everything() {
    for (form, summed) in [("yes", "no"), ("no", "no"), ("no", "yes")] {
        let folder = folder(&format!("aof-form-{form}-{summed}"));
        let mut server = start(&folder, &["--aof-record-checksum", summed]);
        let mut client = server.client();
        for words in DATA {
            let answer = text(words, &mut client);
            assert!(!answer.starts_with('-'), "{words}: {answer}");
        }
        client.call(&["EVAL", LONG, "0"]).unwrap();
        let library = "#!lua name=mine\nredis.register_function('f', function() return 1 end)";
        client.call(&["FUNCTION", "LOAD", library]).unwrap();
        let set = format!("CONFIG SET aof-use-rdb-preamble {form}");
        assert_eq!(text(&set, &mut client), "+OK");
        text("BGREWRITEAOF", &mut client);
        wait_until_rewritten(&mut client);
        let base = match form {
            "yes" => "appendonly.aof.2.base.rdb",
            _ => "appendonly.aof.2.base.aof",
        };
        assert!(names(&folder).contains(&base.to_owned()), "{:?}", names(&folder));
        let before = answers(&server);
        crash(&mut server);
        let server = start(&folder, &[]);
        assert_eq!(answers(&server), before, "{form} {summed}");
        assert_eq!(check(&folder, &[], "").0, Some(0));
    }
}

/// Runs the tool on the manifest of a folder, with this as its input.
fn check(folder: &Path, options: &[&str], input: &str) -> (Option<i32>, String) {
    let manifest = folder.join("appendonlydir/appendonly.aof.manifest");
    check_with(&[options, &[manifest.to_str().unwrap()]].concat(), input)
}

fn check_with(words: &[&str], input: &str) -> (Option<i32>, String) {
    let mut process = Command::new(MINIUM)
        .arg0("/usr/bin/redis-check-aof")
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    process
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    let output = process.wait_with_output().unwrap();
    (output.status.code(), String::from_utf8(output.stdout).unwrap())
}

#[test]
fn check_aof_tells_what_is_wrong_and_mends_it_if_asked() {
    let folder = folder("aof-check");
    let mut server = start(&folder, &[]);
    assert_eq!(text("SET k value", &mut server.client()), "+OK");
    let (code, said) = check(&folder, &["--fix"], "y\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("in use by another process"), "{said}");
    crash(&mut server);
    let (code, said) = check(&folder, &[], "");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("RDB preamble is OK, proceeding with AOF tail"), "{said}");
    assert!(said.contains("INCR AOF appendonly.aof.1.incr.aof is valid"), "{said}");
    assert!(said.contains("All AOF files and manifest are valid"), "{said}");

    let whole = fs::read(increment(&folder)).unwrap();
    append(&increment(&folder), "*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$5\r\nab");
    let (code, said) = check(&folder, &[], "");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains(&format!("ok_up_to={}", whole.len())), "{said}");
    assert!(said.contains("is not valid. Use the --fix option to try fixing it."), "{said}");
    let (code, said) = check(&folder, &["--fix"], "n\n");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("Aborting"), "{said}");
    assert_ne!(fs::read(increment(&folder)).unwrap(), whole);
    let (code, said) = check(&folder, &["--fix"], "y\n");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Successfully truncated AOF"), "{said}");
    assert_eq!(fs::read(increment(&folder)).unwrap(), whole);
    let server = start(&folder, &["--aof-load-truncated", "no"]);
    assert_eq!(text("GET k", &mut server.client()), "\"value\"");

    let (code, said) = check_with(&["--fix"], "");
    assert_eq!(code, Some(1));
    assert!(said.starts_with("Usage: /usr/bin/redis-check-aof "), "{said}");
    assert_eq!(check_with(&["/nowhere"], "").0, Some(1));
}

/// Commands of three moments behind an empty base.
fn three_moments(name: &str) -> (PathBuf, PathBuf) {
    let folder = folder(name);
    let aof = folder.join("appendonlydir");
    fs::create_dir(&aof).unwrap();
    let set = |n: u32| format!("#TS:{}\r\n*3\r\n$3\r\nSET\r\n$2\r\nk{n}\r\n$1\r\n{n}\r\n", 100 + n);
    fs::write(aof.join("a.1.incr.aof"), set(1) + &set(2)).unwrap();
    fs::write(aof.join("a.2.incr.aof"), set(3)).unwrap();
    let manifest = "file a.1.incr.aof seq 1 type i\nfile a.2.incr.aof seq 2 type i\n";
    fs::write(aof.join("a.manifest"), manifest).unwrap();
    (folder, aof)
}

#[test]
fn the_state_of_a_moment_is_restored_beside_the_present_one() {
    let (folder, aof) = three_moments("aof-moment");
    let manifest = aof.join("a.manifest");
    let originals = || {
        ["a.manifest", "a.1.incr.aof", "a.2.incr.aof"].map(|name| fs::read(aof.join(name)).unwrap())
    };
    let before = originals();
    for (moment, kept) in [
        ("101", "\"1\""),
        ("102", "\"1\""),
        ("1970-01-01T00:01:43Z", "\"1\""),
    ] {
        let output = folder.join(moment);
        let words = ["--restore-to", moment, manifest.to_str().unwrap()];
        let words = [&words[..], &["--output", output.to_str().unwrap()]].concat();
        let (code, said) = check_with(&words, "");
        assert_eq!(code, Some(0), "{said}");
        let (code, said) = check_with(&words, "");
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("is not empty"), "{said}");
        let flags = ["--appendfilename", "a", "--appenddirname", moment];
        let server = start(&folder, &flags);
        let mut client = server.client();
        assert_eq!(text("GET k1", &mut client), kept);
        let n_keys = match moment {
            "101" => ":1",
            "102" => ":2",
            _ => ":3",
        };
        assert_eq!(text("DBSIZE", &mut client), n_keys, "{moment}");
    }
    assert_eq!(originals(), before);
    let restore = |path: &Path, moment: &str| {
        let output = folder.join("never");
        let words = ["--restore-to", moment, path.to_str().unwrap(), "--output"];
        check_with(&[&words[..], &[output.to_str().unwrap()]].concat(), "")
    };
    assert_eq!(restore(&manifest, "yesterday").0, Some(1));

    // What a base holds cannot be undone, and without times nobody knows.
    let mut server = start(&folder, &["--appendfilename", "b"]);
    assert_eq!(text("SET k 1", &mut server.client()), "+OK");
    crash(&mut server);
    let (code, said) = restore(&aof.join("b.manifest"), "101");
    assert_eq!(code, Some(1));
    assert!(said.contains("which is later"), "{said}");
    let (code, said) = restore(&aof.join("b.manifest"), "9999999999");
    assert_eq!(code, Some(1));
    assert!(said.contains("aof-timestamp-enabled"), "{said}");
    assert!(!folder.join("never").exists());
}

#[test]
fn only_the_last_file_is_cut_at_a_moment() {
    let (folder, aof) = three_moments("aof-cut");
    let manifest = aof.join("a.manifest");
    let cut = |moment: &str| {
        check_with(
            &[
                "--truncate-to-timestamp",
                moment,
                manifest.to_str().unwrap(),
            ],
            "",
        )
    };
    let (code, said) = cut("101");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("because it is not the last file"), "{said}");
    let (code, said) = cut("102");
    assert_eq!(code, Some(1), "{said}");
    assert!(said.contains("has nothing before timestamp 102, aborting"), "{said}");
    append(&aof.join("a.2.incr.aof"), "#TS:200\r\n*2\r\n$3\r\nDEL\r\n$2\r\nk1\r\n");
    let (code, said) = cut("199");
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Successfully truncated AOF a.2.incr.aof to timestamp 199"), "{said}");
    let server = start(&folder, &["--appendfilename", "a"]);
    assert_eq!(text("DBSIZE", &mut server.client()), ":3");
}

#[test]
fn a_flipped_bit_behind_a_checksum_is_found_with_its_place() {
    let folder = folder("aof-sum");
    let mut server = start(&folder, &["--aof-record-checksum", "yes"]);
    let mut client = server.client();
    assert_eq!(text("SET k value", &mut client), "+OK");
    let begin = fs::metadata(increment(&folder)).unwrap().len() as usize;
    assert_eq!(text("SET money 1000", &mut client), "+OK");
    assert_eq!(text("SET later 1", &mut client), "+OK");
    crash(&mut server);
    let whole = fs::read(increment(&folder)).unwrap();
    let at = whole.windows(4).position(|part| part == b"1000").unwrap();
    let mut wrong = whole.clone();
    wrong[at] ^= 8;
    fs::write(increment(&folder), &wrong).unwrap();
    let (code, log) = refused(&folder, &[]);
    assert_eq!(code, Some(1));
    assert!(log.contains(&format!("the record at byte {begin} is not what was written")), "{log}");
    let (code, said) = check(&folder, &[], "");
    assert_eq!(code, Some(1));
    assert!(said.contains(&format!("0x{begin:16x}: ")), "{said}");

    // So much at the end may be given up, if somebody says so.
    let n_left = (whole.len() - begin).to_string();
    let mut server = start(&folder, &["--aof-load-corrupt-tail-max-size", &n_left]);
    let mut client = server.client();
    assert_eq!(text("MGET k money later", &mut client), "*3\n  \"value\"\n  (nil)\n  (nil)");
    assert_eq!(fs::metadata(increment(&folder)).unwrap().len() as usize, begin);
    crash(&mut server);
    // A torn record is not a wrong one.
    fs::write(increment(&folder), &whole[..whole.len() - 3]).unwrap();
    let server = start(&folder, &[]);
    assert_eq!(text("GET money", &mut server.client()), "\"1000\"");
}

#[test]
fn waitaof_waits_for_the_disk() {
    let folder = folder("aof-wait");
    let server = start(&folder, &["--appendfsync", "no"]);
    let (mut client, mut other) = (server.client(), server.client());
    let both = |local: u8| format!("*2\n  :{local}\n  :0");
    assert_eq!(text("WAITAOF 1 0 0", &mut client), both(1), "it has written nothing");
    assert_eq!(text("SET k 1", &mut client), "+OK");
    assert_eq!(text("WAITAOF 1 0 20", &mut client), both(0));
    assert_eq!(text("WAITAOF 0 1 20", &mut client), both(0));
    assert_eq!(text("CONFIG SET appendfsync everysec", &mut other), "+OK");
    assert_eq!(text("WAITAOF 1 0 0", &mut client), both(1));
    assert_eq!(text("WAITAOF 1 1 20", &mut client), both(1));
    assert_eq!(text("CONFIG SET appendfsync always", &mut other), "+OK");
    assert_eq!(text("SET k 2", &mut client), "+OK");
    assert_eq!(text("WAITAOF 1 0 0", &mut client), both(1));

    // While one waits for ever, the loop does not.
    assert_eq!(text("CONFIG SET appendfsync no", &mut other), "+OK");
    assert_eq!(text("SET k 3", &mut client), "+OK");
    let waiting = std::thread::spawn(move || text("WAITAOF 1 0 0", &mut client));
    let is_blocked = || text("INFO clients", &mut other).contains("blocked_clients:1");
    let mut is_blocked = is_blocked;
    wait_for("it waits", || is_blocked().then_some(()));
    assert_eq!(text("CONFIG SET appendonly no", &mut other), "+OK");
    let error = "-ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled.";
    assert_eq!(waiting.join().unwrap(), error);
    assert_eq!(text("WAITAOF 1 0 0", &mut other), error);
    // With `no` nobody would wait for the disk, if the base were there before the write.
    assert_eq!(text("CONFIG SET appendfsync everysec", &mut other), "+OK");
    assert_eq!(text("CONFIG SET appendonly yes", &mut other), "+OK");
    assert_eq!(text("SET k 4", &mut other), "+OK");
    assert_eq!(text("WAITAOF 1 0 0", &mut other), both(1), "when there is a base");
}

#[test]
fn two_servers_do_not_append_to_one_file() {
    let folder = folder("aof-two");
    let first = start(&folder, &[]);
    assert_eq!(text("SET k 1", &mut first.client()), "+OK");
    let (code, log) = refused(&folder, &[]);
    assert_eq!(code, Some(1));
    assert!(log.contains("in use by another process"), "{log}");
    let second = Server::start_in(&folder, &["--save", ""]); // without files there is nothing to fear
    let mut client = second.client();
    assert!(text("CONFIG SET appendonly yes", &mut client).starts_with("-ERR CONFIG SET failed"));
    assert_eq!(text("CONFIG SET appendonly no", &mut first.client()), "+OK");
    assert_eq!(text("CONFIG SET appendonly yes", &mut client), "+OK");
    wait_until_rewritten(&mut client);
    drop(first);
    drop(second);
    start(&folder, &[]); // what was killed holds nothing
}

#[test]
fn a_file_that_may_not_grow_stops_writes_until_it_may() {
    let folder = folder("aof-limit");
    let mut command = Command::new("sh");
    command.current_dir(&folder).args([
        "-c",
        &format!("ulimit -S -f 64; exec {MINIUM} \"$@\""),
        "sh",
    ]);
    let flags = [
        "--appendonly",
        "yes",
        "--save",
        "",
        "--enable-debug-command",
        "local",
    ];
    let mut server = Server::start_as(command, &flags);
    let mut client = server.client();
    let value = "x".repeat(1000);
    let mut n_written = 0;
    let answer = wait_for("writes are refused", || {
        let answer = text(&format!("SET k{n_written} {value}"), &mut client);
        match answer == "+OK" {
            true => {
                n_written += 1;
                None
            }
            false => Some(answer),
        }
    });
    assert!(
        answer.starts_with("-MISCONF Errors writing to the AOF file: File too large"),
        "{answer}"
    );
    assert_eq!(text("GET k0", &mut client), format!("\"{value}\""));
    assert_eq!(info("aof_last_write_status", &mut client), "err");
    let process = server.process.id().to_string();
    let raised = Command::new("prlimit")
        .args(["--pid", &process, "--fsize=unlimited"])
        .status();
    assert!(raised.unwrap().success());
    wait_for("writes are allowed again", || {
        (text("SET last 1", &mut client) == "+OK").then_some(())
    });
    assert_eq!(text("WAITAOF 1 0 0", &mut client), "*2\n  :1\n  :0");
    crash(&mut server);
    let server = start(&folder, &["--aof-load-truncated", "no"]);
    let n_keys = format!(":{}", n_written + 1);
    assert_eq!(
        text("DBSIZE", &mut server.client()),
        n_keys,
        "no answer was a lie, no record is torn"
    );
}

#[test]
fn a_server_without_its_first_base_does_not_stop() {
    let folder = folder("aof-first");
    let mut server =
        Server::start_in(&folder, &["--save", "", "--rdb-key-save-delay", "100000000"]);
    let mut client = server.client();
    assert_eq!(text("SET k 1", &mut client), "+OK");
    assert_eq!(text("CONFIG SET appendonly yes", &mut client), "+OK");
    wait_for("it writes the base", || {
        (info("aof_rewrite_in_progress", &mut client) == "1").then_some(())
    });
    let refusal = "-ERR Errors trying to SHUTDOWN. Check logs.";
    assert_eq!(text("SHUTDOWN NOSAVE", &mut client), refusal);
    assert_eq!(text("CONFIG SET rdb-key-save-delay 0", &mut client), "+OK");
    let _ = client.call(&["SHUTDOWN", "NOSAVE", "FORCE"]);
    assert_eq!(exit_code(&mut server.process), Some(0));
}
