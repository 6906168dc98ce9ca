//! Snapshots on the disk: what was saved is there after a crash, a restart, and from other servers.

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::time::Instant;

use client::connection::Connection;
use resp::decode::Value;

use super::{
    MINIUM, PATIENCE, Server, exit_code, folder, free_port, signal, text, wait_for, wait_for_line,
};

const DEBUG: &[&str] = &["--enable-debug-command", "local", "--save", ""];

/// Keys of every type and encoding, a library, and a key in another database.
fn fill(client: &mut Connection) {
    let words = |n: usize, word: &dyn Fn(usize) -> String| {
        let words: Vec<String> = (0..n).map(word).collect();
        words.join(" ")
    };
    let members = |n| words(n, &|n| format!("member:{n}"));
    let pairs = |n| words(n, &|n| format!("field:{n} {n}"));
    let scored = |n| words(n, &|n| format!("{n}.5 member:{n}"));
    let long = "long ".repeat(2000).replace(' ', "-");
    for command in [
        "SET text value".to_owned(),
        "SET number 12345".to_owned(),
        format!("SET long {long}"),
        format!("SET longer {}", long.repeat(9)),
        "SET volatile value EX 1000".to_owned(),
        "SADD ints 1 2 300000".to_owned(),
        format!("SADD words {}", members(5)),
        format!("SADD set {}", members(9000)),
        format!("RPUSH list {}", members(3)),
        format!("RPUSH biglist {}", members(9000)),
        format!("HSET hash {}", pairs(5)),
        format!("HSET bighash {}", pairs(9000)),
        format!("HSET hashx {}", pairs(5)),
        format!("HSET bighashx {}", pairs(9000)),
        "HEXPIRE hashx 1000 FIELDS 2 field:1 field:2".to_owned(),
        "HEXPIRE bighashx 1000 FIELDS 2 field:1 field:2".to_owned(),
        format!("ZADD zset {}", scored(5)),
        format!("ZADD bigzset {}", scored(9000)),
        "SELECT 5".to_owned(),
        "SET elsewhere value".to_owned(),
        "SELECT 0".to_owned(),
    ] {
        let answer = text(&command, client);
        assert!(!answer.starts_with('-'), "{answer}");
    }
    let library = "#!lua name=lib\nredis.register_function('answer', function() return 42 end)";
    assert_eq!(client.call(&["FUNCTION", "LOAD", library]).unwrap(), Value::Bulk(b"lib".to_vec()));
}

fn digest(client: &mut Connection) -> String {
    text("DEBUG DIGEST", client)
}

fn info(field: &str, client: &mut Connection) -> String {
    let all = text("INFO everything", client);
    let start = all.find(&format!("{field}:")).expect(field) + field.len() + 1;
    let end = all[start..].find("\\r").unwrap();
    all[start..start + end].to_owned()
}

fn wait_until_saved(client: &mut Connection) {
    wait_for("the save ends", || (info("rdb_bgsave_in_progress", client) == "0").then_some(()));
}

fn kill(server: &mut Server) {
    server.process.kill().unwrap();
    server.process.wait().unwrap();
}

#[test]
fn what_was_saved_is_there_after_a_crash() {
    let folder = folder("crash");
    for (compression, checksum, way) in [("yes", "yes", "SAVE"), ("no", "no", "BGSAVE")] {
        let flags = ["--rdbcompression", compression, "--rdbchecksum", checksum];
        let flags = [DEBUG, &flags].concat();
        let mut server = Server::start_in(&folder, &flags);
        let mut client = server.client();
        text("FLUSHALL", &mut client);
        text("FUNCTION FLUSH", &mut client);
        fill(&mut client);
        let before = digest(&mut client);
        assert_ne!(info("rdb_changes_since_last_save", &mut client), "0");
        assert!(!text(way, &mut client).starts_with('-'));
        wait_until_saved(&mut client);
        assert_eq!(info("rdb_last_bgsave_status", &mut client), "ok");
        assert_eq!(info("rdb_changes_since_last_save", &mut client), "0");
        text("SET later lost", &mut client);
        kill(&mut server);

        let mut server = Server::start_in(&folder, DEBUG);
        let mut client = server.client();
        assert_eq!(digest(&mut client), before, "{way}");
        assert_eq!(text("FCALL answer 0", &mut client), ":42");
        assert_eq!(info("rdb_last_load_keys_loaded", &mut client), "17");
        for (key, encoding) in [
            ("ints", "intset"),
            ("hashx", "listpackex"),
            ("list", "listpack"),
        ] {
            let found = text(&format!("OBJECT ENCODING {key}"), &mut client);
            assert_eq!(found, format!("\"{encoding}\""));
        }
        kill(&mut server);
    }
    let names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name())
        .collect();
    assert_eq!(names, ["dump.rdb"], "no other file is left behind");
}

#[test]
fn a_snapshot_is_whole_while_writers_go_on() {
    let folder = folder("writers");
    let mut server = Server::start_in(&folder, DEBUG);
    let mut client = server.client();
    fill(&mut client);
    text("DEBUG POPULATE 20000 key 50", &mut client);
    let before = digest(&mut client);
    text("CONFIG SET rdb-key-save-delay 20", &mut client);
    assert_eq!(text("BGSAVE", &mut client), "+Background saving started");
    assert!(text("BGSAVE", &mut client).starts_with("-ERR Background save already in progress"));
    for round in 0..100 {
        for command in [
            format!("SET key:{round} changed"),
            format!("DEL key:{}", 1000 + round),
            format!("SADD set new:{round}"),
            format!("SREM set member:{round}"),
            format!("HSET bighash field:{round} changed"),
            format!("LPOP biglist {round}"),
            format!("ZADD bigzset {round} member:{}", 8000 - round),
            "SWAPDB 0 3".to_owned(),
            "SWAPDB 0 3".to_owned(),
            format!("RENAME key:{} renamed:{round}", 2000 + round),
        ] {
            text(&command, &mut client);
        }
    }
    text("RENAME bighash moved", &mut client);
    text("DEL bigzset", &mut client);
    text("FLUSHDB", &mut client);
    text("CONFIG SET rdb-key-save-delay 0", &mut client);
    wait_until_saved(&mut client);
    assert_eq!(info("rdb_last_bgsave_status", &mut client), "ok");
    kill(&mut server);
    let server = Server::start_in(&folder, DEBUG);
    assert_eq!(digest(&mut server.client()), before, "the state of the moment it was asked for");
}

#[test]
fn a_data_set_survives_being_loaded_again() {
    let server = Server::start(DEBUG);
    let mut client = server.client();
    fill(&mut client);
    let before = digest(&mut client);
    assert_eq!(text("DEBUG RELOAD", &mut client), "+OK");
    assert_eq!(digest(&mut client), before);
    text("DEL text", &mut client);
    text("SET new value", &mut client);
    assert_eq!(text("DEBUG RELOAD NOSAVE NOFLUSH MERGE", &mut client), "+OK");
    assert_eq!(text("GET text", &mut client), "\"value\"");
    assert_eq!(text("GET new", &mut client), "\"value\"");
    let refused = text("DEBUG RELOAD NOSAVE NOFLUSH", &mut client);
    assert!(refused.starts_with("-ERR Error trying to load the RDB"), "{refused}: some are there");
    assert_eq!(text("GET new", &mut client), "\"value\"", "what is there stays");
    assert_eq!(text("DEBUG RELOAD NOSAVE", &mut client), "+OK");
    assert_eq!(digest(&mut client), before);
    assert_eq!(text("FCALL answer 0", &mut client), ":42");
    assert!(text("DEBUG RELOAD NOPE", &mut client).starts_with("-ERR DEBUG RELOAD only supports"));
}

#[test]
fn files_of_other_servers_are_loaded() {
    for name in ["redis-8.2.rdb", "valkey-9.1.rdb"] {
        let folder = folder(name);
        let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/fixtures")
            .join(name);
        fs::copy(fixture, folder.join("dump.rdb")).unwrap();
        let server = Server::start_in(&folder, DEBUG);
        let mut client = server.client();
        for (command, answer) in [
            ("DBSIZE", ":15"),
            ("GET int", "\"12345\""),
            ("STRLEN long", ":260"),
            ("PEXPIRETIME volatile", ":4102444800000"),
            ("LINDEX list 9", "\"item 9\""),
            ("LINDEX biglist 1999", "\"item number 1999\""),
            ("LLEN biglist", ":2000"),
            ("SCARD ints", ":3"),
            ("SISMEMBER bigset member:299", ":1"),
            ("OBJECT ENCODING words", "\"listpack\""),
            ("ZSCORE bigzset member:299", "\"448.5\""),
            ("ZRANK zset b", ":1"),
            ("HGET bighash field:599", "\"value 599\""),
            ("HPEXPIRETIME hashx FIELDS 2 f g", "*2\n  :4102444800000\n  :-1"),
            ("HPEXPIRETIME bighashx FIELDS 2 field:2 field:3", "*2\n  :4102444800000\n  :-1"),
            ("HLEN bighashx", ":600"),
            ("FCALL answer 0", ":42"),
            ("SELECT 9", "+OK"),
            ("GET elsewhere", "\"x\""),
        ] {
            assert_eq!(text(command, &mut client), answer, "{name}: {command}");
        }
    }
}

/// Starts with these bytes as its file; what the log says in the end.
fn refusal(name: &str, bytes: &[u8]) -> String {
    let folder = folder(name);
    fs::write(folder.join("dump.rdb"), bytes).unwrap();
    let mut process = std::process::Command::new(MINIUM)
        .current_dir(&folder)
        .args(["--port", &free_port().to_string(), "--bind", "127.0.0.1"])
        .args(["--logfile", "log"])
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    assert_eq!(exit_code(&mut process), Some(1), "{name}");
    let log = fs::read_to_string(folder.join("log")).unwrap();
    assert!(!log.contains("Ready to accept connections"), "{log}");
    assert_eq!(fs::read(folder.join("dump.rdb")).unwrap(), bytes, "the file is left alone");
    log
}

#[test]
fn a_file_that_is_not_sound_is_refused_with_the_place_and_the_reason() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/redis-8.2.rdb");
    let good = fs::read(fixture).unwrap();
    let log = refusal("cut", &good[..good.len() / 2]);
    assert!(log.contains("unexpected end") && log.contains("in the value of key '"), "{log}");
    let mut flipped = good.clone();
    let end = flipped.len();
    flipped[end - 20] ^= 1;
    let log = refusal("flipped", &flipped);
    assert!(log.contains(" at byte "), "{log}");
    assert!(refusal("rubbish", b"RUBBISH!!").contains("wrong signature"));
    assert!(refusal("newer", b"REDIS0099\xff").contains("Can't handle RDB format version 99"));
    // A set that has a member twice, without a checksum that would tell.
    let twice = b"REDIS0011\xfe\x00\x02\x03key\x02\x01a\x01a\xff\0\0\0\0\0\0\0\0";
    let log = refusal("twice", twice);
    assert!(log.contains("a member of a set stands there twice"), "{log}");
    assert!(log.contains("key 'key' (set-hashtable)"), "{log}");
    assert!(log.contains("[additional info] Reading key 'key'"), "what is left is told: {log}");
    assert!(log.contains("[info] 0 keys read"), "{log}");
}

#[test]
fn clients_are_told_to_wait_while_the_data_is_loaded() {
    let folder = folder("loading");
    let mut server = Server::start_in(&folder, DEBUG);
    let mut client = server.client();
    text("DEBUG POPULATE 2000", &mut client);
    text("SAVE", &mut client);
    kill(&mut server);
    const SLOWLY: &[&str] = &[
        "--key-load-delay",
        "1000",
        "--loading-process-events-interval-bytes",
        "1024",
    ];
    let flags = [DEBUG, SLOWLY].concat();
    let mut command = std::process::Command::new(MINIUM);
    command.current_dir(&folder);
    let server = Server::begin(command, &flags);
    let mut client =
        wait_for("it listens", || Connection::open(&server.endpoint(), Some(PATIENCE)).ok());
    const LOADING: &str = "-LOADING Redis is loading the dataset in memory";
    assert_eq!(text("GET key:1", &mut client), LOADING);
    assert_eq!(text("CONFIG SET dir /", &mut client), LOADING);
    assert_eq!(info("loading", &mut client), "1");
    assert_eq!(
        info("loading_total_bytes", &mut client)
            .parse::<u64>()
            .ok()
            .map(|n| n > 0),
        Some(true)
    );
    text("CONFIG SET key-load-delay 0", &mut client);
    wait_for("it is loaded", || (text("PING", &mut client) == "+PONG").then_some(()));
    assert_eq!(text("DBSIZE", &mut client), ":2000");
    assert_eq!(info("loading", &mut client), "0");
}

#[test]
fn save_points_and_the_end_of_the_server_save() {
    let folder = folder("points");
    let log = folder.join("log");
    let (file, log_text) = (folder.join("dump.rdb"), log.display().to_string());
    let mut server = Server::start_in(&folder, &["--save", "1 2", "--logfile", &log_text]);
    let mut client = server.client();
    text("SET a 1", &mut client);
    text("SET b 2", &mut client);
    wait_for_line(&log, "2 changes in 1 seconds. Saving...");
    wait_for("it is saved", || file.exists().then_some(()));
    wait_until_saved(&mut client);

    text("SET c 3", &mut client);
    signal("TERM", server.process.id());
    assert_eq!(exit_code(&mut server.process), Some(0));
    let mut server = Server::start_in(&folder, &["--save", "900 1"]);
    let mut client = server.client();
    assert_eq!(text("DBSIZE", &mut client), ":3");
    text("SET d 4", &mut client);
    assert!(client.call(&["SHUTDOWN", "NOSAVE"]).is_err());
    assert_eq!(exit_code(&mut server.process), Some(0));
    let mut server = Server::start_in(&folder, &["--save", ""]);
    let mut client = server.client();
    assert_eq!(text("DBSIZE", &mut client), ":3");
    text("SET d 4", &mut client);
    assert!(client.call(&["SHUTDOWN", "SAVE"]).is_err());
    assert_eq!(exit_code(&mut server.process), Some(0));
    let server = Server::start_in(&folder, &["--save", ""]);
    assert_eq!(text("DBSIZE", &mut server.client()), ":4");
}

#[test]
fn a_save_that_fails_is_told_of_and_stops_writes() {
    let folder = folder("failing");
    let flags = ["--save", "900 1", "--enable-debug-command", "local"];
    let mut server = Server::start_in(&folder, &flags);
    let mut client = server.client();
    text("SET a 1", &mut client);
    fs::create_dir(folder.join("dump.rdb")).unwrap(); // no file can take its place
    assert_eq!(text("SAVE", &mut client), "-ERR");
    assert_eq!(info("rdb_last_bgsave_status", &mut client), "err");
    assert!(text("SET a 2", &mut client).starts_with("-MISCONF Redis is configured to save"));
    assert!(text("PING", &mut client).starts_with("-MISCONF"));
    assert!(text("EVAL return(redis.call('set','a','2')) 0", &mut client).starts_with("-MISCONF"));
    assert_eq!(text("GET a", &mut client), "\"1\"");
    let refused = text("SHUTDOWN", &mut client);
    assert_eq!(refused, "-ERR Errors trying to SHUTDOWN. Check logs.");
    text("CONFIG SET stop-writes-on-bgsave-error no", &mut client);
    assert_eq!(text("SET a 2", &mut client), "+OK");
    text("CONFIG SET stop-writes-on-bgsave-error yes", &mut client);
    fs::remove_dir(folder.join("dump.rdb")).unwrap();
    assert_eq!(text("SAVE", &mut client), "+OK");
    assert_eq!(text("SET a 3", &mut client), "+OK");
    fs::create_dir(folder.join("other")).unwrap();
    assert!(client.call(&["SHUTDOWN", "SAVE", "FORCE"]).is_err());
    assert_eq!(exit_code(&mut server.process), Some(0));
}

#[test]
fn flushall_ends_a_save_and_an_empty_file_follows() {
    let folder = folder("flushed");
    let flags = ["--save", "900 1", "--enable-debug-command", "local"];
    let mut server = Server::start_in(&folder, &flags);
    let mut client = server.client();
    text("DEBUG POPULATE 1000", &mut client);
    assert_eq!(text("SAVE", &mut client), "+OK");
    text("CONFIG SET rdb-key-save-delay 10000000", &mut client);
    assert_eq!(text("BGSAVE", &mut client), "+Background saving started");
    assert_eq!(text("FLUSHALL", &mut client), "+OK");
    wait_for("the empty data set is saved", || {
        (info("rdb_saves", &mut client) == "2").then_some(())
    });
    kill(&mut server);
    let server = Server::start_in(&folder, &flags);
    assert_eq!(text("DBSIZE", &mut server.client()), ":0");
}

#[test]
fn a_save_can_be_cancelled() {
    let folder = folder("cancelled");
    let server = Server::start_in(&folder, DEBUG);
    let mut client = server.client();
    text("DEBUG POPULATE 1000", &mut client);
    assert!(text("BGSAVE CANCEL", &mut client).starts_with("-ERR Background saving is currently"));
    text("CONFIG SET rdb-key-save-delay 10000000", &mut client);
    assert_eq!(text("BGSAVE", &mut client), "+Background saving started");
    assert_eq!(info("rdb_bgsave_in_progress", &mut client), "1");
    assert_eq!(text("BGSAVE CANCEL", &mut client), "+Background saving cancelled");
    wait_until_saved(&mut client);
    assert_eq!(fs::read_dir(&folder).unwrap().count(), 0, "nothing is left behind");
    text("CONFIG SET rdb-key-save-delay 0", &mut client);
    assert_eq!(text("SAVE", &mut client), "+OK");
}

#[test]
fn a_file_is_checked_without_a_server() {
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/redis-8.2.rdb");
    let cut = folder("checked").join("cut.rdb");
    let good = fs::read(&fixture).unwrap();
    fs::write(&cut, &good[..good.len() / 2]).unwrap();
    let check = |path: &Path| {
        let output = std::process::Command::new(MINIUM)
            .arg("check-rdb")
            .arg(path)
            .output()
            .unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        (output.status.code(), told)
    };
    let (code, told) = check(&fixture);
    assert_eq!(code, Some(0), "{told}");
    for line in [
        "RDB looks OK!",
        "16 keys read",
        "1 expires",
        "1 functions",
        "redis-ver = '8.2",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
    let (code, told) = check(&cut);
    assert_eq!(code, Some(1), "{told}");
    for line in [
        "--- RDB ERROR DETECTED ---",
        "unexpected end",
        "Reading key '",
    ] {
        assert!(told.contains(line), "{line} in {told}");
    }
    assert_eq!(check(Path::new("absent.rdb")).0, Some(1));
}

/// A file with a key that stands there twice: what is said of it names the key, or does not.
#[test]
fn keys_are_named_in_the_log_unless_that_is_forbidden() {
    let twice = b"REDIS0011\xfe\x00\x00\x06secret\x01a\x00\x06secret\x01b\xff\0\0\0\0\0\0\0\0";
    for (flag, is_named) in [("no", true), ("yes", false)] {
        let folder = folder("named");
        fs::write(folder.join("dump.rdb"), twice).unwrap();
        let output = std::process::Command::new(MINIUM)
            .current_dir(&folder)
            .args(["--bind", "127.0.0.1", "--port", &free_port().to_string()])
            .args(["--hide-user-data-from-log", flag])
            .output()
            .unwrap();
        let log = String::from_utf8(output.stdout).unwrap();
        assert_eq!(output.status.code(), Some(1), "{log}");
        assert!(log.contains("stands there twice"), "{log}");
        assert_eq!(log.contains("secret"), is_named, "{log}");
    }
}

/// There is one loop: it serves others while a save that one of its clients waits for goes on.
#[test]
fn a_save_holds_no_event_loop() {
    let server = Server::start(&[
        "--save",
        "",
        "--threads",
        "1",
        "--rdb-key-save-delay",
        "1000",
    ]);
    let (mut saver, mut other) = (server.client(), server.client());
    for n in 0..1_000 {
        text(&format!("SET key:{n} value"), &mut other);
    }
    for (command, answer) in [("SAVE", "+OK"), ("BGSAVE", "+Background saving started")] {
        saver.send(&[command]).unwrap();
        saver.flush().unwrap();
        wait_for("the save runs", || {
            (info("rdb_bgsave_in_progress", &mut other) == "1").then_some(())
        });
        let started = Instant::now();
        let mut n_served = 0;
        while info("rdb_bgsave_in_progress", &mut other) == "1" {
            n_served += 1;
            assert!(started.elapsed() < PATIENCE, "it ends");
        }
        assert!(n_served > 10, "{command}: {n_served} answers while it ran");
        assert_eq!(client::transcript::render(&saver.receive().unwrap()).trim_end(), answer);
    }
    assert_eq!(text("SAVE", &mut saver), "+OK");
    assert!(text("INFO commandstats", &mut other).contains("cmdstat_save:calls=2"));
}
