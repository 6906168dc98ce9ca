//! Everything at once on four threads: queues, transfers, waiters, subscribers, deadlines, a full
//! memory, killed clients and pauses, each with a rule that no interleaving may break.

use crate::{Server, text, wait_for};
use client::connection::{Connection, Error};
use resp::decode::Value;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const N_JOBS: usize = 3000;
const N_QUEUES: usize = 3;
const N_ACCOUNTS: usize = 8;
const N_TRANSFERS: usize = 1000;
const N_MESSAGES: usize = 3000;
const N_SHORT_LIVED: usize = 1500;
const N_FIFO_ROUNDS: usize = 12;
const N_WAITERS: usize = 6;
const N_PAUSES: usize = 12;
/// However slow the machine is.
const LIMIT: Duration = Duration::from_secs(60);

fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

fn try_call(client: &mut Connection, line: &str) -> Result<Value, Error> {
    client.call(&words(line))
}

fn bulk(value: &Value) -> String {
    match value {
        Value::Bulk(bytes) => String::from_utf8_lossy(bytes).into_owned(),
        other => panic!("{other:?} is no string"),
    }
}

fn int(value: &Value) -> i64 {
    match value {
        Value::Int(n) => *n,
        other => bulk(other).parse().unwrap(),
    }
}

/// What all actors of the test share.
struct Stage<'a> {
    server: &'a Server,
    /// Queues and transfers are through; who disturbs them may go.
    is_over: AtomicBool,
    n_jobs_done: AtomicU64,
    /// Held by who pauses the server, and by who lines up: a paused client is not in line yet.
    pauses: Mutex<()>,
}

impl Stage<'_> {
    fn goes_on(&self) -> bool {
        !self.is_over.load(Relaxed)
    }
}

/// Numbered jobs into queues, alone, in transactions and by scripts.
fn produce(stage: &Stage<'_>, part: usize, n_parts: usize) {
    let mut client = stage.server.client();
    for job in (part..N_JOBS).step_by(n_parts) {
        let queue = format!("queue:{}", job % N_QUEUES);
        match job % 3 {
            0 => {
                text(&format!("RPUSH {queue} {job}"), &mut client);
            }
            1 => {
                text("MULTI", &mut client);
                text(&format!("RPUSH {queue} {job}"), &mut client);
                text("EXEC", &mut client);
            }
            _ => {
                let push = "return(redis.call('RPUSH',KEYS[1],ARGV[1]))";
                text(&format!("EVAL {push} 1 {queue} {job}"), &mut client);
            }
        }
    }
}

/// Moves a job to the list of its own, marks it done, and takes it off, as a worker does who may
/// be killed at any moment: what it had in hands it finds again.
fn work(stage: &Stage<'_>, name: usize) {
    while stage.goes_on() {
        let mut client = stage.server.client();
        let _ = work_until_killed(stage, name, &mut client);
    }
}

fn work_until_killed(stage: &Stage<'_>, name: usize, client: &mut Connection) -> Result<(), Error> {
    try_call(client, &format!("CLIENT SETNAME worker:{name}"))?;
    let own = format!("own:{name}");
    while stage.goes_on() {
        let mut held = try_call(client, &format!("LINDEX {own} 0"))?;
        if held == Value::Null {
            let queue = format!("queue:{}", name % N_QUEUES);
            held = try_call(client, &format!("BLMOVE {queue} {own} LEFT RIGHT 0.2"))?;
        }
        if !matches!(held, Value::Bulk(_)) {
            continue;
        }
        let job = bulk(&held);
        for line in [
            "MULTI".to_owned(),
            format!("HINCRBY done {job} 1"),
            format!("LREM {own} 1 {job}"),
            "EXEC".to_owned(),
        ] {
            try_call(client, &line)?;
        }
        stage.n_jobs_done.fetch_add(1, Relaxed);
    }
    Ok(())
}

/// Ends connections of workers in the middle of whatever they do.
fn kill_workers(stage: &Stage<'_>) {
    let mut client = stage.server.client();
    let mut n_killed = 0;
    while stage.goes_on() {
        let list = bulk(&try_call(&mut client, "CLIENT LIST").unwrap());
        let victim = list
            .lines()
            .filter(|line| line.contains("name=worker:"))
            .nth(n_killed % 4)
            .and_then(|line| {
                line.split("id=")
                    .nth(1)?
                    .split(' ')
                    .next()
                    .map(str::to_owned)
            });
        if let Some(id) = victim {
            text(&format!("CLIENT KILL ID {id}"), &mut client);
            n_killed += 1;
        }
        std::thread::sleep(Duration::from_millis(7));
    }
    assert!(n_killed > 0);
}

/// Money between accounts, by WATCH and EXEC or by a script; no transfer may be lost or doubled.
fn transfer(stage: &Stage<'_>, part: usize) {
    const SCRIPT: &str = "redis.call('SET',KEYS[1],redis.call('GET',KEYS[1])-1);\
        redis.call('INCR',KEYS[2]);return(redis.call('INCR','transfers'))";
    let mut client = stage.server.client();
    for i in 0..N_TRANSFERS {
        let from = format!("account:{}", (i + part) % N_ACCOUNTS);
        let to = format!("account:{}", (i * 3 + part + 1) % N_ACCOUNTS);
        if part.is_multiple_of(2) {
            let answer = text(&format!("EVAL {SCRIPT} 2 {from} {to}"), &mut client);
            assert!(answer.starts_with(':'), "{answer}");
            continue;
        }
        loop {
            text(&format!("WATCH {from} {to}"), &mut client);
            let a = int(&try_call(&mut client, &format!("GET {from}")).unwrap());
            let b = int(&try_call(&mut client, &format!("GET {to}")).unwrap());
            text("MULTI", &mut client);
            text(&format!("SET {from} {}", a - 1), &mut client);
            text(&format!("SET {to} {}", b + 1), &mut client);
            text("INCR transfers", &mut client);
            if matches!(try_call(&mut client, "EXEC").unwrap(), Value::Array(_)) {
                break;
            }
        }
    }
}

/// Every look at all accounts sees the same sum.
fn audit(stage: &Stage<'_>) {
    let mut client = stage.server.client();
    let keys: Vec<String> = (0..N_ACCOUNTS).map(|i| format!("account:{i}")).collect();
    let line = format!("MGET {}", keys.join(" "));
    while stage.goes_on() {
        let Ok(Value::Array(values)) = try_call(&mut client, &line) else {
            panic!("MGET answers with an array")
        };
        assert_eq!(values.iter().map(int).sum::<i64>(), 100 * N_ACCOUNTS as i64);
    }
}

/// Who waits first is served first, from whatever connection the elements come.
fn wait_in_line(stage: &Stage<'_>) {
    let mut root = stage.server.client();
    let mut waiters: Vec<Connection> = (0..N_WAITERS).map(|_| stage.server.client()).collect();
    let ids: Vec<String> = waiters
        .iter_mut()
        .map(|waiter| text("CLIENT ID", waiter).replace(':', ""))
        .collect();
    for round in 0..N_FIFO_ROUNDS {
        let key = format!("line:{}", round % 2);
        let no_pause = stage.pauses.lock().unwrap();
        for (waiter, id) in waiters.iter_mut().zip(&ids) {
            let line = if round % 3 == 0 {
                "BRPOP other"
            } else {
                "BLPOP"
            };
            waiter.send(&words(&format!("{line} {key} 0"))).unwrap();
            waiter.flush().unwrap();
            wait_for("the waiter is blocked", || {
                text(&format!("CLIENT LIST ID {id}"), &mut root)
                    .contains("flags=b")
                    .then_some(())
            });
        }
        drop(no_pause);
        for i in 0..N_WAITERS {
            text(&format!("RPUSH {key} {round}-{i}"), &mut root);
        }
        for (i, waiter) in waiters.iter_mut().enumerate() {
            let Ok(Value::Array(popped)) = waiter.receive() else {
                panic!("a waiter is served")
            };
            assert_eq!(bulk(&popped[1]), format!("{round}-{i}"));
        }
    }
}

/// Messages arrive in the order of their sender, none missing.
fn publish(stage: &Stage<'_>) {
    let mut client = stage.server.client();
    wait_for("the subscribers are there", || {
        (text("PUBSUB NUMSUB news", &mut client).contains(":3")).then_some(())
    });
    for i in 0..N_MESSAGES {
        match i % 50 {
            0 => {
                let script = "redis.call('PUBLISH','news',ARGV[1])";
                text(&format!("EVAL {script} 0 {i}"), &mut client);
            }
            _ => {
                text(&format!("PUBLISH news {i}"), &mut client);
            }
        }
    }
}

fn subscribe(stage: &Stage<'_>) {
    let mut client = stage.server.client();
    text("SUBSCRIBE news", &mut client);
    for i in 0..N_MESSAGES {
        let Ok(Value::Array(message)) = client.receive() else {
            panic!("a message arrives")
        };
        assert_eq!(bulk(&message[2]), i.to_string());
    }
}

/// Keys with near deadlines, while others fill the memory: each goes once, and is not seen later.
fn expire(stage: &Stage<'_>) {
    let mut client = stage.server.client();
    for i in 0..N_SHORT_LIVED {
        text(&format!("SET short:{i} x PX {}", 1 + i % 30), &mut client);
    }
    wait_for("all short-lived keys are gone", || {
        let found = text("EVAL return(redis.call('KEYS','short:*')) 0", &mut client);
        (found == "*0").then_some(())
    });
}

/// One event for the end of each short-lived key, be it by its deadline or for its memory.
fn count_ends(client: &mut Connection) {
    let mut n_ends = vec![0; N_SHORT_LIVED];
    let started = Instant::now();
    while n_ends.iter().sum::<i32>() < N_SHORT_LIVED as i32 {
        assert!(started.elapsed() < LIMIT, "an event is missing");
        let Ok(Value::Array(message)) = client.receive() else {
            panic!("an event arrives")
        };
        if let Some(number) = bulk(&message[3]).strip_prefix("short:") {
            n_ends[number.parse::<usize>().unwrap()] += 1;
        }
    }
    assert!(n_ends.iter().all(|n| *n == 1), "{n_ends:?}");
}

/// More cached pages than there is memory for.
fn fill(stage: &Stage<'_>) {
    let mut client = stage.server.client();
    let page = "x".repeat(8 << 10);
    let mut i = 0;
    while stage.goes_on() {
        i += 1;
        let answer = text(&format!("SET page:{} {page} EX 3600", i % 4000), &mut client);
        assert_eq!(answer, "+OK");
    }
}

/// Once a pause is answered nothing is written until it ends.
fn pause(stage: &Stage<'_>) {
    let mut client = stage.server.client();
    for _ in 0..N_PAUSES {
        let only_one = stage.pauses.lock().unwrap();
        assert_eq!(text("CLIENT PAUSE 60000 WRITE", &mut client), "+OK");
        let look = "MGET transfers account:0 account:1 account:2 account:3";
        let before = (text(look, &mut client), text("LLEN queue:0", &mut client));
        for _ in 0..10 {
            assert_eq!((text(look, &mut client), text("LLEN queue:0", &mut client)), before);
        }
        assert_eq!(text("CLIENT UNPAUSE", &mut client), "+OK");
        drop(only_one);
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn nothing_is_lost_or_doubled_when_everything_happens_at_once() {
    let server = Server::start(&[
        "--threads",
        "4",
        "--maxmemory",
        "24mb",
        "--maxmemory-policy",
        "volatile-lru",
        "--notify-keyspace-events",
        "Exe",
    ]);
    let stage = Stage {
        server: &server,
        is_over: AtomicBool::new(false),
        n_jobs_done: AtomicU64::new(0),
        pauses: Mutex::new(()),
    };
    let mut root = server.client();
    for i in 0..N_ACCOUNTS {
        text(&format!("SET account:{i} 100"), &mut root);
    }
    let mut ends = server.client();
    text("PSUBSCRIBE __keyevent@0__:*", &mut ends);
    let stage = &stage;
    std::thread::scope(|scope| {
        scope.spawn(move || count_ends(&mut ends));
        let mut disturbers = vec![
            scope.spawn(|| fill(stage)),
            scope.spawn(|| audit(stage)),
            scope.spawn(|| kill_workers(stage)),
        ];
        disturbers.extend((0..4).map(|name| scope.spawn(move || work(stage, name))));
        let mut actors = vec![
            scope.spawn(|| wait_in_line(stage)),
            scope.spawn(|| publish(stage)),
            scope.spawn(|| expire(stage)),
            scope.spawn(|| pause(stage)),
        ];
        actors.extend((0..2).map(|part| scope.spawn(move || produce(stage, part, 2))));
        actors.extend((0..4).map(|part| scope.spawn(move || transfer(stage, part))));
        actors.extend((0..3).map(|_| scope.spawn(|| subscribe(stage))));
        let started = Instant::now();
        let results: Vec<_> = actors.into_iter().map(|actor| actor.join()).collect();
        let has_failed = results.iter().any(Result::is_err);
        let mut n_done = String::new();
        while !has_failed && n_done != format!(":{N_JOBS}") && started.elapsed() < LIMIT {
            std::thread::sleep(Duration::from_millis(5));
            n_done = text("HLEN done", &mut root);
        }
        stage.is_over.store(true, Relaxed);
        assert!(!has_failed, "an actor has failed");
        assert_eq!(n_done, format!(":{N_JOBS}"));
    });
    let Ok(Value::Array(counts)) = try_call(&mut root, "HVALS done") else {
        panic!("HVALS answers with an array")
    };
    assert!(counts.iter().all(|count| int(count) == 1), "a job was done twice");
    assert_eq!(text("GET transfers", &mut root), format!("\"{}\"", N_TRANSFERS * 4));
    let stats = bulk(&try_call(&mut root, "INFO stats").unwrap());
    assert!(!stats.contains("evicted_keys:0\r"), "the memory was full: {stats}");
    assert!(stage.n_jobs_done.load(Relaxed) > 0);
}
