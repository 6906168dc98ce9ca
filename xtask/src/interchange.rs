//! `interchange`: files of every server are given to every other, and what is read there is compared with
//! what was there.
//!
//! ```text
//!   writer ── fill half ── rewrite ── fill the rest ── SAVE ──► dump.rdb, appendonlydir
//!     │ read everything                                              │ copied
//!     └──────────────── must be equal ──────────── read everything ◄─┴─ reader
//! ```
//!
//! The last table is of `minium migrate`, by the first binary of that name: half is there before, the other
//! half comes while the stream is followed.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::connection::Connection;
use client::endpoint::Endpoint;
use client::transcript::render;
use resp::decode::Value;

pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// The forms in which data goes from one server to another.
pub(crate) const FORMS: &[Form] = &[
    Form {
        name: "RDB",
        has_field_deadlines: true,
        file: "dump.rdb",
        flags: &["--appendonly", "no"],
    },
    Form {
        name: "RDB without deadlines of fields",
        has_field_deadlines: false,
        file: "dump.rdb",
        flags: &["--appendonly", "no"],
    },
    Form {
        name: "AOF",
        has_field_deadlines: true,
        file: "appendonlydir",
        flags: &["--appendonly", "yes"],
    },
    Form {
        name: "AOF without deadlines of fields",
        has_field_deadlines: false,
        file: "appendonlydir",
        flags: &["--appendonly", "yes"],
    },
    Form {
        name: "AOF, its base in commands, without deadlines of fields",
        has_field_deadlines: false,
        file: "appendonlydir",
        flags: &["--appendonly", "yes", "--aof-use-rdb-preamble", "no"],
    },
];

pub(crate) struct Form {
    name: &'static str,
    pub(crate) has_field_deadlines: bool,
    file: &'static str,
    flags: &'static [&'static str],
}

impl Form {
    /// What a reader is told: it finds out about the base by itself.
    fn reader_flags(&self) -> &'static [&'static str] {
        &self.flags[..2]
    }
}

/// `interchange NAME=BINARY ...`: prints the table, in Markdown.
pub fn run(args: Vec<String>) -> Result<(), String> {
    let servers = args.iter().map(|arg| {
        let (name, path) = arg.split_once('=').ok_or("interchange NAME=BINARY ...")?;
        Ok((name.to_owned(), PathBuf::from(path)))
    });
    let servers: Vec<(String, PathBuf)> = servers.collect::<Result<_, String>>()?;
    if servers.len() < 2 {
        return Err("interchange NAME=BINARY NAME=BINARY ...: two servers at least".to_owned());
    }
    let folder = std::env::temp_dir().join(format!("interchange-{}", std::process::id()));
    let mut all_same = true;
    for form in FORMS {
        let mut table = format!("| {}: written by, read by → |", form.name);
        servers.iter().for_each(|(name, _)| {
            let _ = write!(table, " {name} |"); // writing to a string cannot fail
        });
        table.push_str(&format!("\n|{}\n", "---|".repeat(servers.len() + 1)));
        for (writer, path) in &servers {
            let _ = write!(table, "| {writer} |");
            let written = write(path, form, &folder.join("written"));
            for (_, reader) in &servers {
                let cell = match &written {
                    Ok(expected) => read(reader, form, &folder, expected),
                    Err(reason) => format!("not written: {reason}"),
                };
                all_same &= cell.starts_with("same");
                let _ = write!(table, " {cell} |");
            }
            table.push('\n');
        }
        println!("{table}");
    }
    if let Some((_, tool)) = servers.iter().find(|(_, path)| path.ends_with("minium")) {
        all_same &= migrations(tool, &servers, &folder);
    }
    let _ = fs::remove_dir_all(&folder); // the next run has a folder of its own
    match all_same {
        true => println!("Everything is the same everywhere."),
        false => println!("Not everything is read everywhere: see the cells."),
    }
    Ok(())
}

/// Prints the tables of migrations; whether all arrived everywhere.
fn migrations(tool: &Path, servers: &[(String, PathBuf)], folder: &Path) -> bool {
    let mut all_same = true;
    for form in &FORMS[..2] {
        let head = form.name.replace("RDB", "Migration");
        let names = servers.iter().map(|(name, _)| format!(" {name} |"));
        println!("| {head}: from, to → |{}", names.collect::<String>());
        println!("|{}", "---|".repeat(servers.len() + 1));
        for (name, from) in servers {
            let cells = servers.iter().map(|(_, to)| {
                let told = migrate(tool, (from, to), form, folder);
                let cell = told.unwrap_or_else(|reason| format!("refused: {reason}"));
                all_same &= cell.starts_with("same");
                format!(" {cell} |")
            });
            println!("| {name} |{}", cells.collect::<String>());
        }
        println!();
    }
    all_same
}

/// Migrates from one server to another while it is written to; how what is there compares.
fn migrate(
    tool: &Path,
    (from, to): (&Path, &Path),
    form: &Form,
    folder: &Path,
) -> Result<String, String> {
    let place = |name: &str| {
        let place = folder.join(name);
        let _ = fs::remove_dir_all(&place); // of the last one
        fs::create_dir_all(&place).map_err(|error| error.to_string())?;
        Ok::<_, String>(place)
    };
    let flags = ["--repl-diskless-sync-delay", "0"];
    let mut from = Server::start(from, &place("from")?, &flags)?;
    let mut to = Server::start(to, &place("to")?, &flags)?;
    fill(&mut from.client, "first", form);
    let uri = |server: &Server| format!("redis://127.0.0.1:{}", server.port);
    let mut process = Command::new(tool)
        .args([
            "migrate",
            "--verify=all",
            "--from",
            &uri(&from),
            "--to",
            &uri(&to),
        ])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    let mut said = BufReader::new(process.stdout.take().ok_or("no output")?).lines();
    let is_safe = said.any(|line| line.is_ok_and(|line| line.contains("press Ctrl-C")));
    if is_safe {
        fill(&mut from.client, "second", form);
        let process = process.id().to_string();
        let _ = Command::new("kill").args(["-INT", &process]).status(); // seen by what follows
    }
    let ended = process
        .wait_with_output()
        .map_err(|error| error.to_string())?;
    if !ended.status.success() {
        let why = String::from_utf8_lossy(&ended.stderr).into_owned();
        return Err(why.lines().last().unwrap_or_default().replace('|', "/"));
    }
    Ok(compared(&contents(&mut from.client), &contents(&mut to.client)))
}

/// Everything that a server has, as texts by what was asked.
pub(crate) type Contents = BTreeMap<String, String>;

/// Has a server write its files; what it reads there itself.
fn write(binary: &Path, form: &Form, folder: &Path) -> Result<Contents, String> {
    let _ = fs::remove_dir_all(folder); // of the last writer
    fs::create_dir_all(folder).map_err(|error| error.to_string())?;
    let mut server = Server::start(binary, folder, form.flags)?;
    let client = &mut server.client;
    fill(client, "first", form);
    if form.file == "appendonlydir" {
        wait_until_idle(client)?;
        ask(client, "BGREWRITEAOF");
        wait_until_idle(client)?;
    }
    fill(client, "second", form);
    if form.file == "dump.rdb" && ask(client, "SAVE") != "+OK" {
        return Err("SAVE fails".to_owned());
    }
    server.stop();
    // Some of what it had is in no file, such as the lag of a group that is not known any more.
    let mut server = Server::start(binary, folder, form.reader_flags())?;
    let contents = contents(&mut server.client);
    server.stop();
    Ok(contents)
}

/// Has a server load the files; how what it holds compares.
fn read(binary: &Path, form: &Form, folder: &Path, expected: &Contents) -> String {
    let own = folder.join("read");
    let _ = fs::remove_dir_all(&own); // of the last reader
    let copied = Command::new("cp")
        .arg("-r")
        .args([&folder.join("written"), &own])
        .status();
    if !copied.is_ok_and(|status| status.success()) {
        return "the files cannot be copied".to_owned();
    }
    let mut server = match Server::start(binary, &own, form.reader_flags()) {
        Ok(server) => server,
        Err(reason) => return format!("refused: {reason}"),
    };
    compared(expected, &contents(&mut server.client))
}

/// How what was found compares.
fn compared(expected: &Contents, found: &Contents) -> String {
    // An old server cannot be asked everything.
    let knows_fields = found.keys().any(|asked| asked.contains("HPEXPIRETIME"));
    let may_ask = |asked: &str| knows_fields || !asked.contains("HPEXPIRETIME");
    let differing: Vec<&str> = expected
        .iter()
        .filter(|(asked, text)| may_ask(asked) && found.get(*asked) != Some(text))
        .map(|(asked, _)| asked.as_str())
        .collect();
    let n_more = found
        .keys()
        .filter(|asked| !expected.contains_key(*asked))
        .count();
    match (differing.len(), n_more) {
        (0, 0) => format!("same ({})", expected.len()),
        (0, n_more) => format!("same ({}), {n_more} more answers", expected.len()),
        (n, _) => format!("{n} differ: {}", differing[..n.min(3)].join(", ")),
    }
}

pub(crate) fn ask(client: &mut Connection, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match client.call(&words) {
        Ok(value) => render(&value).trim_end().to_owned(),
        Err(error) => format!("-{error}"),
    }
}

fn wait_until_idle(client: &mut Connection) -> Result<(), String> {
    let started = Instant::now();
    loop {
        let info = ask(client, "INFO persistence");
        let is_idle = |field: &str| info.contains(&format!("{field}:0"));
        if is_idle("aof_rewrite_in_progress") && is_idle("aof_rewrite_scheduled") {
            return Ok(());
        }
        if started.elapsed() > PATIENCE {
            return Err("the append-only file is rewritten without end".to_owned());
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Keys of every type in small and large encodings. What a server does not know it does not have.
pub(crate) fn fill(client: &mut Connection, name: &str, form: &Form) {
    let list =
        |n: usize, one: &dyn Fn(usize) -> String| (0..n).map(one).collect::<Vec<_>>().join(" ");
    for n in [5, 3000] {
        for line in [
            format!("RPUSH {name}:list:{n} {}", list(n, &|i| format!("item:{i}"))),
            format!("SADD {name}:set:{n} {}", list(n, &|i| format!("member:{i}"))),
            format!("SADD {name}:ints:{n} {}", list(n, &|i| (i * 70_000).to_string())),
            format!("HSET {name}:hash:{n} {}", list(n, &|i| format!("f:{i} {i}"))),
            format!("HSET {name}:fields:{n} {}", list(n, &|i| format!("f:{i} {i}"))),
            format!("ZADD {name}:zset:{n} {}", list(n, &|i| format!("{i}.25 member:{i}"))),
        ] {
            ask(client, &line);
        }
        if form.has_field_deadlines {
            ask(client, &format!("HPEXPIREAT {name}:fields:{n} 4102444800000 FIELDS 2 f:1 f:3"));
        }
        for i in 1..=n {
            ask(client, &format!("XADD {name}:stream:{n} {i}-1 field value:{i} other {i}"));
        }
        for line in [
            format!("XDEL {name}:stream:{n} 2-1 4-1"),
            format!("XGROUP CREATE {name}:stream:{n} group 0"),
            format!("XREADGROUP GROUP group alice COUNT 3 STREAMS {name}:stream:{n} >"),
            format!("XREADGROUP GROUP group bob COUNT 1 STREAMS {name}:stream:{n} >"),
            format!("XACK {name}:stream:{n} group 1-1"),
            format!("XGROUP CREATE {name}:stream:{n} late $"),
        ] {
            ask(client, &line);
        }
    }
    for line in [
        format!("SET {name}:text value"),
        format!("SET {name}:number -12345"),
        format!("SET {name}:long {}", "long-".repeat(5000)),
        format!("SET {name}:volatile value PXAT 4102444800000"),
        format!("SETBIT {name}:bits 1000 1"),
        format!("PFADD {name}:guess a b c d e"),
        format!("GEOADD {name}:places 13.361389 38.115556 Palermo 15.087269 37.502669 Catania"),
        format!("ZADD {name}:limits inf a -inf b 0.1 c"),
        format!("RPUSH {name}:huge {} x", "y".repeat(70_000)),
        "SELECT 9".to_owned(),
        format!("SET {name}:elsewhere x"),
        "SELECT 0".to_owned(),
    ] {
        ask(client, &line);
    }
    let library = format!(
        "#!lua name=lib_{name}\nredis.register_function('answer_{name}', function() return 42 end)"
    );
    let _ = client.call(&["FUNCTION", "LOAD", &library]); // an old server has none
}

pub(crate) fn contents(client: &mut Connection) -> Contents {
    let mut contents = Contents::new();
    for database in ["9", "0"] {
        ask(client, &format!("SELECT {database}"));
        let Ok(Value::Array(keys)) = client.call(&["KEYS", "*"]) else {
            continue;
        };
        for key in keys {
            let Value::Bulk(key) = key else { continue };
            let key = String::from_utf8_lossy(&key).into_owned();
            for question in questions(client, &key) {
                let answer = ask(client, &question);
                contents.insert(format!("{database}: {question}"), sorted(&question, answer));
            }
        }
    }
    for name in ["first", "second"] {
        let question = format!("FUNCTION LIST LIBRARYNAME lib_{name} WITHCODE");
        let answer = ask(client, &question);
        contents.insert(question, answer);
    }
    // What neither of them knows is no difference.
    contents.retain(|_, answer| !answer.starts_with("-ERR unknown command"));
    contents
}

/// What tells all of a key.
fn questions(client: &mut Connection, key: &str) -> Vec<String> {
    let kind = ask(client, &format!("TYPE {key}"));
    let own: &[&str] = match kind.as_str() {
        "+string" => &["GET K"],
        "+list" => &["LRANGE K 0 -1"],
        "+set" => &["SMEMBERS K"],
        "+zset" => &["ZRANGE K 0 -1 WITHSCORES"],
        "+hash" => &["HGETALL K", "HPEXPIRETIME K FIELDS 3 f:1 f:2 f:3"],
        "+stream" => &[
            "XRANGE K - +",
            "XPENDING K group",
            "XPENDING K group - + 1000",
            "XINFO STREAM K",
            "XINFO GROUPS K",
        ],
        _ => &[],
    };
    let common = ["TYPE K", "PEXPIRETIME K"];
    let all = common.iter().chain(own);
    all.map(|question| question.replace('K', key)).collect()
}

/// An answer without what is each server's own: the order of tables, the digits of a score, how a stream is
/// stored, how long ago something was delivered.
fn sorted(question: &str, answer: String) -> String {
    let mut lines: Vec<&str> = answer.lines().collect();
    if question.starts_with("SMEMBERS") {
        lines.sort_unstable();
    }
    if question.starts_with("HGETALL") {
        let mut pairs: Vec<&[&str]> = lines[1..].chunks(2).collect();
        pairs.sort_unstable();
        return pairs.concat().join("\n");
    }
    if question.starts_with("ZRANGE") {
        // The digits of a score are each version's own.
        let plain = |line: &&str| {
            let text = line.trim().trim_matches('"');
            text.parse::<f64>()
                .map_or(text.to_owned(), |score| score.to_string())
        };
        return lines.iter().map(plain).collect::<Vec<_>>().join("\n");
    }
    if question.starts_with("XPENDING") && question.ends_with("1000") {
        let is_idle_time = |line: &&str| line.starts_with("    :");
        let mut n = 0;
        lines.retain(|line| {
            n += usize::from(is_idle_time(line));
            !is_idle_time(line) || n % 2 == 0
        });
        return lines.join("\n");
    }
    if question.starts_with("XINFO STREAM") {
        let fields = [
            "length",
            "last-generated-id",
            "max-deleted",
            "entries-added",
            "groups",
        ];
        let kept = lines
            .windows(2)
            .filter(|pair| fields.iter().any(|name| pair[0].contains(name)));
        return kept
            .map(|pair| pair.join(" "))
            .collect::<Vec<_>>()
            .join("\n");
    }
    lines.join("\n")
}

/// A server in a folder.
pub(crate) struct Server {
    pub(crate) process: Child,
    pub(crate) port: u16,
    pub(crate) client: Connection,
}

impl Server {
    /// Starts one and waits until it has loaded its files; why it has not.
    pub(crate) fn start(binary: &Path, folder: &Path, flags: &[&str]) -> Result<Server, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", binary.display());
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        drop(listener);
        let log = folder.join("log");
        let mut process = Command::new(binary)
            .current_dir(folder)
            .args(["--port", &port.to_string(), "--bind", "127.0.0.1"])
            .args(["--save", "", "--logfile", "log"])
            .args(flags)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let host = "127.0.0.1".to_owned();
        let (endpoint, started) = (Endpoint::Tcp { host, port }, Instant::now());
        loop {
            if let Ok(mut client) = Connection::open(&endpoint, Some(PATIENCE))
                && client.set_timeout(Some(PATIENCE)).is_ok()
                && ask(&mut client, "PING") == "+PONG"
            {
                return Ok(Server {
                    process,
                    port,
                    client,
                });
            }
            let has_ended = process.try_wait().map_err(failed)?.is_some();
            if has_ended || started.elapsed() > PATIENCE {
                let _ = process.kill(); // it may have ended
                let _ = process.wait();
                let text = fs::read_to_string(&log).unwrap_or_default();
                return Err(reason(&text));
            }
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Ends it so that its files are whole.
    fn stop(&mut self) {
        // It closes the connection without an answer.
        let _ = self.client.call(&["SHUTDOWN", "NOSAVE"]);
        let _ = self.process.wait();
    }
}

/// The line of a log that tells what a server does not like, without its time.
pub(crate) fn reason(log: &str) -> String {
    let telling = |line: &&str| {
        ["Can't", "Bad", "Fatal", "Unknown", "rror", "ERR"]
            .iter()
            .any(|word| line.contains(word))
    };
    let line = log
        .lines()
        .find(telling)
        .or(log.lines().last())
        .unwrap_or("it does not take the directives");
    let at = line.find(['#', '*']).map_or(0, |at| at + 1);
    line[at..]
        .trim()
        .replace('|', "/")
        .chars()
        .take(90)
        .collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended by itself
        let _ = self.process.wait();
    }
}
