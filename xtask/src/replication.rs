//! `replication`: every pair of a primary and a replica of which one is ours, under a writer that goes on.
//!
//! ```text
//!   fill ─► write on ─► REPLICAOF ─► three cuts, each resumed ─► another history, copied whole ─► compare
//! ```
//!
//! Servers have digests of their own, so the data is compared by what commands answer.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use client::connection::Connection;
use client::endpoint::Endpoint;

use crate::interchange::{FORMS, Form, PATIENCE, Server, ask, contents, fill, reason};
use crate::ratchet::{peers, root};

/// Commands that are written, at least, while a link is down.
const N_MISSED: u64 = 500;
/// The name of ours.
const OURS: &str = "Minium";
/// How every server is started. What is missed must be kept.
const FLAGS: [&str; 6] = [
    "--appendonly",
    "no",
    "--repl-diskless-sync-delay",
    "0",
    "--repl-backlog-size",
    "64mb",
];

struct Kind {
    name: String,
    binary: PathBuf,
}

/// What a pair did.
struct Row {
    n_written: u64,
    n_resumed: u64,
    n_copied: u64,
    /// Snapshots that came through a connection of their own.
    n_apart: usize,
    n_equal: usize,
}

/// `replication [NAME=BINARY ...]`: prints the table, in Markdown.
pub fn run(args: Vec<String>) -> Result<(), String> {
    let kinds = match args.is_empty() {
        true => known()?,
        false => args
            .iter()
            .map(|arg| named(arg))
            .collect::<Result<_, _>>()?,
    };
    let folder = std::env::temp_dir().join(format!("replication-{}", std::process::id()));
    println!(
        "| primary | replica | written meanwhile | resumed after 3 cuts | copied whole | of them apart | equal answers |"
    );
    println!("|---|---|---|---|---|---|---|");
    let mut n_wrong = 0;
    for primary in &kinds {
        for replica in &kinds {
            if primary.name != OURS && replica.name != OURS {
                continue;
            }
            for form in &FORMS[..2] {
                n_wrong += usize::from(!tell((primary, replica), form, &folder, true));
            }
            if knows_channel(primary) && knows_channel(replica) {
                n_wrong += usize::from(!tell((primary, replica), &FORMS[0], &folder, false));
            }
        }
    }
    let _ = fs::remove_dir_all(&folder); // the next run has a folder of its own
    match n_wrong {
        0 => Ok(()),
        _ => Err(format!("{n_wrong} pairs are not as they should be")),
    }
}

fn named(arg: &str) -> Result<Kind, String> {
    let (name, binary) = arg.split_once('=').ok_or("replication NAME=BINARY ...")?;
    Ok(Kind {
        name: name.to_owned(),
        binary: binary.into(),
    })
}

fn known() -> Result<Vec<Kind>, String> {
    let (_, peers) = peers()?;
    let kind = |name: &str, binary: PathBuf| Kind {
        name: name.to_owned(),
        binary,
    };
    Ok(vec![
        kind(OURS, root().join("target/release/minium")),
        kind("Redis 7.0", "redis-server".into()),
        kind("Redis 8.2", peers.join("bin/redis-server")),
        kind("Valkey 9.1", peers.join("bin/valkey-server")),
    ])
}

/// What a replica says that cannot read the snapshot of ours: the version of its format.
fn refusal(primary: &Kind, replica: &Kind, form: &Form) -> Option<&'static str> {
    match (replica.name.as_str(), form.has_field_deadlines) {
        _ if primary.name != OURS => None,
        ("Redis 7.0", true) => Some("Can't handle RDB format version 12"),
        ("Redis 7.0", false) => Some("Can't handle RDB format version 11"),
        _ => None,
    }
}

/// Whether it has `repl-rdb-channel`, which is on unless somebody says no.
fn knows_channel(kind: &Kind) -> bool {
    matches!(kind.name.as_str(), OURS | "Redis 8.2")
}

/// Prints the line of a pair; whether it is as it should be.
fn tell((primary, replica): (&Kind, &Kind), form: &Form, folder: &Path, may_part: bool) -> bool {
    let fields = match form.has_field_deadlines {
        true => ", deadlines of fields",
        false => "",
    };
    let way = if may_part { "" } else { ", one connection" };
    let head = format!("| {}{fields}{way} | {} |", primary.name, replica.name);
    let is_apart = may_part && knows_channel(primary) && knows_channel(replica);
    let refusal = refusal(primary, replica, form);
    let _ = fs::remove_dir_all(folder); // of the last pair
    match (pair(primary, replica, form, folder, may_part), refusal) {
        (Ok(row), None) => {
            let Row {
                n_written,
                n_resumed,
                n_copied,
                n_apart,
                n_equal,
            } = row;
            println!("{head} {n_written} | {n_resumed} | {n_copied} | {n_apart} | {n_equal} |");
            is_apart == (n_apart > 0)
        }
        (Err(why), Some(refusal)) if why.contains(refusal) => {
            println!("{head} refused: {refusal} | | | | |");
            true
        }
        (Ok(_), Some(refusal)) => {
            println!("{head} not refused any more: {refusal} | | | | |");
            false
        }
        (Err(why), _) => {
            println!("{head} {why} | | | | |");
            false
        }
    }
}

fn pair(
    primary: &Kind,
    replica: &Kind,
    form: &Form,
    folder: &Path,
    may_part: bool,
) -> Result<Row, String> {
    let start = |kind: &Kind, part: &str| {
        let own = folder.join(part);
        fs::create_dir_all(&own).map_err(|error| error.to_string())?;
        let more: &[&str] = match may_part {
            true => &[],
            false => &["--repl-rdb-channel", "no"],
        };
        Server::start(&kind.binary, &own, &[&FLAGS, more].concat())
    };
    let is_old = primary.name == "Redis 7.0";
    let (mut primary, mut replica) = (start(primary, "primary")?, start(replica, "replica")?);
    fill(&mut primary.client, "first", form);
    let (is_done, n_written) = (AtomicBool::new(false), AtomicU64::new(0));
    let mut writer = connect(primary.port)?;
    let log = folder.join("replica/log");
    let result = std::thread::scope(|scope| {
        scope.spawn(|| write_on(&mut writer, &is_done, &n_written));
        let result = follow_and_cut(&mut primary, &mut replica, form, &n_written, &log);
        is_done.store(true, Relaxed);
        result
    });
    result.map_err(|why| {
        let text = fs::read_to_string(&log).unwrap_or_default();
        format!("{why}: {}", reason(&text))
    })?;
    let n_equal = wait_for_equal(&mut primary, &mut replica, is_old)?;
    let text = fs::read_to_string(&log).unwrap_or_default();
    Ok(Row {
        n_apart: text
            .matches("Starting to stream replication buffer")
            .count(),
        n_written: n_written.load(Relaxed),
        n_resumed: count(&mut primary, "sync_partial_ok"),
        n_copied: count(&mut primary, "sync_full"),
        n_equal,
    })
}

fn connect(port: u16) -> Result<Connection, String> {
    let host = "127.0.0.1".to_owned();
    let told = |error: client::connection::Error| error.to_string();
    let mut connection =
        Connection::open(&Endpoint::Tcp { host, port }, Some(PATIENCE)).map_err(told)?;
    connection.set_timeout(Some(PATIENCE)).map_err(told)?;
    Ok(connection)
}

/// The first copy, three cuts, another history. The writer writes.
fn follow_and_cut(
    primary: &mut Server,
    replica: &mut Server,
    form: &Form,
    n_written: &AtomicU64,
    log: &Path,
) -> Result<(), String> {
    let follow = format!("REPLICAOF 127.0.0.1 {}", primary.port);
    ask(&mut replica.client, &follow);
    let is_refused = || {
        let log = fs::read_to_string(log).unwrap_or_default();
        log.contains("Can't handle RDB format version")
    };
    let mut is_there = || count(primary, "sync_full") >= 1 && is_up(replica);
    let mut is_settled = || is_there() || is_refused();
    wait_for("no first copy", &mut is_settled)?;
    if is_refused() {
        return Err("the copy is not read".to_owned());
    }
    let n_before = n_written.load(Relaxed);
    wait_for("nothing is written", || n_written.load(Relaxed) > n_before + N_MISSED)?;
    for n_cuts in 1..=3 {
        match n_cuts {
            1 => _ = ask(&mut primary.client, "CLIENT KILL TYPE replica"),
            2 => _ = ask(&mut replica.client, "CLIENT KILL TYPE master"),
            _ => {
                signal("STOP", replica.process.id())?;
                ask(&mut primary.client, "CLIENT KILL TYPE replica");
                let n_before = n_written.load(Relaxed);
                let is_missed = || n_written.load(Relaxed) > n_before + N_MISSED;
                let is_missed = wait_for("nothing is written", is_missed);
                signal("CONT", replica.process.id())?;
                is_missed?;
            }
        }
        let is_resumed = || count(primary, "sync_partial_ok") >= n_cuts;
        wait_for(&format!("cut {n_cuts} is not resumed"), is_resumed)?;
        wait_for(&format!("no link after cut {n_cuts}"), || is_up(replica))?;
    }
    fill(&mut primary.client, "second", form);
    ask(&mut replica.client, "REPLICAOF NO ONE");
    ask(&mut replica.client, "SET only here");
    ask(&mut replica.client, &follow);
    wait_for("no second copy", || count(primary, "sync_full") >= 2 && is_up(replica))
}

/// Writes into few keys of every type until it is told to stop.
fn write_on(client: &mut Connection, is_done: &AtomicBool, n_written: &AtomicU64) {
    let mut n = 0u64;
    while !is_done.load(Relaxed) {
        n += 1;
        let i = n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58; // 64 keys of each type
        for line in [
            format!("INCRBY w:count:{i} {n}"),
            format!("SET w:short:{i} {n} PX {}", 1 + n % 300),
            format!("SETRANGE w:range:{i} {} {n}", n % 100),
            format!("RPUSH w:list:{i} {n} {n}"),
            format!("LPOP w:list:{i}"),
            format!("SADD w:set:{i} {n} {} x", n / 2),
            format!("SPOP w:set:{i} 2"),
            format!("HINCRBY w:hash:{i} f:{} 1", n % 50),
            format!("HINCRBYFLOAT w:hash:{i} float 0.1"),
            format!("ZINCRBY w:zset:{i} 1.5 {}", n % 200),
            format!("XADD w:stream:{i} MAXLEN 100 * f {n}"),
            format!("XGROUP CREATE w:stream:{i} group 0"),
            format!("XREADGROUP GROUP group c:{} COUNT 1 STREAMS w:stream:{i} >", n % 3),
            format!("PFADD w:guess:{i} {n}"),
            format!(
                "EVAL redis.call('incr',KEYS[1])redis.call('expire',KEYS[1],4000) 1 w:script:{i}"
            ),
            "MULTI".to_owned(),
            format!("APPEND w:block:{i} x"),
            "SELECT 9".to_owned(),
            format!("COPY w:count:{i} w:count:{i} DB 0 REPLACE"),
            format!("SET w:count:{i} {n}"),
            "SELECT 0".to_owned(),
            "EXEC".to_owned(),
        ] {
            ask(client, &line);
            n_written.fetch_add(1, Relaxed);
        }
    }
}

fn count(server: &mut Server, field: &str) -> u64 {
    let info = ask(&mut server.client, "INFO stats");
    let value = info.split(&format!("{field}:")).nth(1).unwrap_or_default();
    let digits = value.split(|c: char| !c.is_ascii_digit()).next();
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
}

fn is_up(replica: &mut Server) -> bool {
    ask(&mut replica.client, "INFO replication").contains("master_link_status:up")
}

fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) -> Result<(), String> {
    let started = Instant::now();
    while !is_so() {
        if started.elapsed() > PATIENCE {
            return Err(what.to_owned());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// What a replica of Redis 7.0 can be asked for: that does not tell its replicas, its own neither, how many
/// entries a group has read, and it knows no deadlines of fields.
fn is_told_by_old(asked: &str) -> bool {
    !asked.contains("XINFO GROUPS") && !asked.contains("HPEXPIRETIME")
}

/// How many answers are equal, once all are; else one that is not.
fn wait_for_equal(
    primary: &mut Server,
    replica: &mut Server,
    is_old: bool,
) -> Result<usize, String> {
    let started = Instant::now();
    loop {
        let acknowledged = ask(&mut primary.client, "WAIT 1 20000");
        let (mut one, mut other) = (contents(&mut primary.client), contents(&mut replica.client));
        if is_old {
            one.retain(|asked, _| is_told_by_old(asked));
            other.retain(|asked, _| is_told_by_old(asked));
        }
        if acknowledged == ":1" && one == other && one.len() > 100 {
            return Ok(one.len());
        }
        if started.elapsed() > PATIENCE {
            let differs = |asked: &&String| one.get(*asked) != other.get(*asked);
            let asked = one.keys().chain(other.keys()).find(differs);
            let asked = asked.map_or("WAIT", String::as_str);
            let texts = (one.get(asked), other.get(asked));
            return Err(format!("{asked} ({} and {} answers): {texts:?}", one.len(), other.len()));
        }
    }
}

fn signal(name: &str, process: u32) -> Result<(), String> {
    let mut command = Command::new("kill");
    let status = command
        .args([format!("-{name}"), process.to_string()])
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        other => Err(format!("kill -{name}: {other:?}")),
    }
}
