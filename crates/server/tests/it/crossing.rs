//! Commands that cross each other on several threads: transactions, blocking commands, scripts, a
//! journal reader and a snapshot walk at once. What must hold: sums stay what they are, elements are
//! neither lost nor doubled, and a replayed journal gives the same data.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use datatypes::home::Piece;
use keyspace::entry::Entry;
use keyspace::locked::Locked;
use keyspace::snapshot::{Sink, Walk};
use server::testing::{Group, Server, requests};

const N_GROUPS: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);

fn text(reply: &[u8]) -> String {
    String::from_utf8_lossy(reply).into_owned()
}

fn call(group: &mut Group, place: usize, line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    text(&group.call(place, &words))
}

/// Runs `work` on each group's own thread.
fn on_all(server: Server, work: impl Fn(usize, &mut Group) + Sync) {
    std::thread::scope(|scope| {
        for number in 0..N_GROUPS {
            let work = &work;
            scope.spawn(move || work(number, &mut server.group(number)));
        }
    });
}

#[test]
fn transfers_by_exec_and_by_script_keep_the_sum() {
    const N_ACCOUNTS: usize = 16;
    let server = Server::new(N_GROUPS, &[("enable-debug-command", "yes")]);
    let mut first = server.group(0);
    let place = first.connect();
    for account in 0..N_ACCOUNTS {
        call(&mut first, place, &format!("SET a{account} 100"));
    }
    drop(first);
    let reader = server.state.journal.attach(256 << 20);
    on_all(server, |number, group| {
        let place = group.connect();
        for i in 0..1_500_usize {
            let (from, to) = ((i * 7 + number) % N_ACCOUNTS, (i * 3 + 1) % N_ACCOUNTS);
            match i % 3 {
                0 => {
                    let keys: String = (0..N_ACCOUNTS).map(|i| format!(" a{i}")).collect();
                    let reply = call(group, place, &format!("MGET{keys}"));
                    let values = reply.lines().filter_map(|line| line.parse::<i64>().ok());
                    assert_eq!(values.sum::<i64>(), 100 * N_ACCOUNTS as i64, "{reply}");
                }
                1 => {
                    call(group, place, &format!("WATCH a{from}"));
                    call(group, place, "MULTI");
                    call(group, place, &format!("DECRBY a{from} 1"));
                    call(group, place, &format!("INCRBY a{to} 1"));
                    call(group, place, "EXEC");
                }
                _ => {
                    let script: &[u8] = b"redis.call('decr', KEYS[1]) redis.call('incr', ARGV[1])"; // undeclared
                    let (from, to) = (format!("a{from}"), format!("a{to}"));
                    let words = [b"EVAL", script, b"1", from.as_bytes(), to.as_bytes()];
                    let reply = group.call(place, &words);
                    assert_eq!(text(&reply), "$-1\r\n");
                }
            }
        }
    });
    let copy = Server::new(1, &[("enable-debug-command", "yes")]);
    let mut twin = copy.group(0);
    let twin_place = twin.connect();
    for account in 0..N_ACCOUNTS {
        call(&mut twin, twin_place, &format!("SET a{account} 100"));
    }
    for request in requests(&reader.take().unwrap()) {
        let words: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
        twin.send(twin_place, &words);
    }
    let mut group = server.group(0);
    let place = group.connect();
    assert_eq!(
        call(&mut group, place, "DEBUG DIGEST"),
        text(&twin.call(twin_place, &[b"DEBUG", b"DIGEST"]))
            .rsplit_once('+')
            .map_or_else(String::new, |(_, digest)| format!("+{digest}"))
    );
}

#[test]
fn elements_that_are_waited_for_arrive_once_and_in_order() {
    const N_ELEMENTS: usize = 4_000;
    let server = Server::new(N_GROUPS, &[]);
    let received = Mutex::new(Vec::new());
    let n_received = AtomicUsize::new(0);
    on_all(server, |number, group| {
        let started = Instant::now();
        if number < 2 {
            // Producers: by push, by transaction, by script, and over a second list.
            let place = group.connect();
            for i in 0..N_ELEMENTS / 2 {
                let element = format!("{number}:{i}");
                match i % 4 {
                    0 => _ = call(group, place, &format!("RPUSH q{} {element}", i % 3)),
                    1 => {
                        call(group, place, "MULTI");
                        call(group, place, &format!("RPUSH q{} {element}", i % 3));
                        call(group, place, "EXEC");
                    }
                    2 => {
                        let script: &[u8] = b"return redis.call('rpush', KEYS[1], ARGV[1])";
                        let key = format!("q{}", i % 3);
                        let words = [b"EVAL", script, b"1", key.as_bytes(), element.as_bytes()];
                        group.send(place, &words);
                    }
                    _ => {
                        call(group, place, &format!("RPUSH side{number} {element}"));
                        let line = format!("LMOVE side{number} q{} LEFT RIGHT", i % 3);
                        call(group, place, &line);
                    }
                }
            }
        }
        // Everybody consumes, with waits for one key (narrow) and for several (wide).
        let places: Vec<usize> = (0..4).map(|_| group.connect()).collect();
        while n_received.load(Ordering::Relaxed) < N_ELEMENTS {
            assert!(started.elapsed() < PATIENCE, "elements are missing");
            for (i, &place) in places.iter().enumerate() {
                let output = text(&group.take_output(place));
                let elements: Vec<String> = output
                    .lines()
                    .filter(|line| line.contains(':') && !line.starts_with(['$', '*']))
                    .map(str::to_owned)
                    .collect();
                n_received.fetch_add(elements.len(), Ordering::Relaxed);
                received.lock().unwrap().extend(elements);
                if !group.is_blocked(place) {
                    let line = match i {
                        0 => "BLPOP q0 0.01",
                        1 => "BLPOP q1 q2 0.01",
                        2 => "BLMPOP 0.01 3 q0 q1 q2 LEFT",
                        _ => "BLPOP q2 0.01",
                    };
                    group.send(place, &line.split(' ').map(str::as_bytes).collect::<Vec<_>>());
                }
            }
            group.advance(1);
        }
        places.into_iter().for_each(|place| group.disconnect(place));
    });
    let received = received.into_inner().unwrap();
    assert_eq!(received.len(), N_ELEMENTS);
    let distinct: BTreeSet<&String> = received.iter().collect();
    assert_eq!(distinct.len(), N_ELEMENTS, "an element arrived twice");
}

#[test]
fn exec_never_overlooks_a_change_of_a_watched_key() {
    const N_ROUNDS: usize = 800;
    let server = Server::new(N_GROUPS, &[]);
    let n_done = AtomicUsize::new(0);
    on_all(server, |_, group| {
        let place = group.connect();
        for _ in 0..N_ROUNDS {
            // A counter by optimistic locking: a lost update would leave it short.
            loop {
                call(group, place, "WATCH counter");
                let value = call(group, place, "GET counter");
                let value: u64 = value
                    .lines()
                    .nth(1)
                    .and_then(|n| n.parse().ok())
                    .unwrap_or(0);
                call(group, place, "MULTI");
                call(group, place, &format!("SET counter {}", value + 1));
                if call(group, place, "EXEC") != "*-1\r\n" {
                    break;
                }
            }
            n_done.fetch_add(1, Ordering::Relaxed);
        }
    });
    let mut group = server.group(0);
    let place = group.connect();
    let expected = (N_ROUNDS * N_GROUPS).to_string();
    assert_eq!(n_done.into_inner(), N_ROUNDS * N_GROUPS);
    assert!(call(&mut group, place, "GET counter").contains(&expected));
}

/// Counts what a snapshot saves.
#[derive(Default)]
struct Saved {
    keys: Mutex<Vec<Box<[u8]>>>,
}

impl Sink for Saved {
    fn save(&self, _: u16, entry: &Entry) {
        use datatypes::encoding::table::Record;
        self.keys.lock().unwrap().push(entry.key().into());
    }

    fn begin(&self, _: u64, database: u16, entry: &Entry) {
        self.save(database, entry);
    }

    fn piece(&self, _: u64, _: Piece<'_>) {}

    fn end(&self, _: u64) {}
}

#[test]
fn a_snapshot_among_transactions_saves_every_key_of_its_cut_once() {
    const N_KEYS: usize = 2_000;
    let server = Server::new(N_GROUPS, &[]);
    let mut first = server.group(0);
    let place = first.connect();
    for key in 0..N_KEYS {
        call(&mut first, place, &format!("SET stay{key} v"));
    }
    drop(first);
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for number in 0..N_GROUPS {
            let is_over = &is_over;
            scope.spawn(move || {
                let mut group = server.group(number);
                let place = group.connect();
                let mut i = number;
                while !is_over.load(Ordering::Relaxed) {
                    i += 1;
                    call(&mut group, place, "MULTI");
                    call(&mut group, place, &format!("APPEND stay{} x", i % N_KEYS));
                    call(&mut group, place, &format!("SET new{number}:{i} v"));
                    call(&mut group, place, &format!("DEL new{number}:{}", i - 1));
                    call(&mut group, place, "EXEC");
                }
            });
        }
        for _ in 0..20 {
            let saved = Arc::new(Saved::default());
            let mut walk = {
                let keyspace = &server.state.keyspace;
                let locked = Locked::transaction(keyspace, PATIENCE).unwrap();
                Walk::cut(&locked, saved.clone()).unwrap()
            };
            while walk.step() {}
            let keys = saved.keys.lock().unwrap();
            let stay: Vec<&Box<[u8]>> =
                keys.iter().filter(|key| key.starts_with(b"stay")).collect();
            let distinct: BTreeSet<&&Box<[u8]>> = stay.iter().collect();
            assert_eq!((stay.len(), distinct.len()), (N_KEYS, N_KEYS));
        }
        is_over.store(true, Ordering::Relaxed);
    });
}
