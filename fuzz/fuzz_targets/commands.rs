//! Commands against the whole engine, in the process. Two sessions: one sends core commands on keys
//! of its own, whose replies must be those of plain collections; the other sends any command with
//! any arguments, which must not panic. In the end every value must be sound.
//!
//! Input: operations. A byte chooses the session and the command, the following ones its arguments.

#![no_main]

#[path = "commands/model.rs"]
mod model;

use std::cell::RefCell;
use std::time::Duration;

use datatypes::encoding::table::Record;
use datatypes::home::{Collection, Limits, Payload};
use datatypes::value::ValueRef;
use keyspace::access::AccessClock;
use keyspace::db::{Terms, View};
use keyspace::entry::Entry;
use keyspace::locked::Locked;
use libfuzzer_sys::fuzz_target;
use model::{Expected, Input, Model};
use resp::decode::{Decoder, Value};
use server::testing::{Group, Server};

/// Small thresholds, so that short inputs cross them.
const DIRECTIVES: &[(&str, &str)] = &[
    ("hash-max-listpack-entries", "6"),
    ("hash-max-listpack-value", "24"),
    ("list-max-listpack-size", "6"),
    ("set-max-intset-entries", "6"),
    ("set-max-listpack-entries", "6"),
    ("set-max-listpack-value", "24"),
    ("zset-max-listpack-entries", "6"),
    ("zset-max-listpack-value", "24"),
];

/// Commands that would reach the other session's keys, the files of the machine, another server, or the
/// end. With a replica at hand, FAILOVER would have everybody wait.
const LEFT_OUT: &[&str] = &[
    "acl", "auth", "bgrewriteaof", "bgsave", "client", "config", "debug", "eval", "eval_ro", "evalsha",
    "evalsha_ro", "failover", "flushall", "flushdb", "hello", "monitor", "psync", "replconf", "replicaof",
    "save", "script", "shutdown", "slaveof", "swapdb", "sync",
];

struct Trial {
    server: Server,
    group: Group,
    names: Vec<&'static str>,
}

thread_local! {
    static TRIAL: RefCell<Trial> = RefCell::new(Trial::new());
}

impl Trial {
    fn new() -> Trial {
        let server = Server::new(1, DIRECTIVES);
        let group = server.group(0);
        let rows = server::commands::table().rows.iter();
        let names = rows.map(|row| row.name).filter(|name| !LEFT_OUT.contains(name));
        let names = names.collect();
        Trial { server, group, names }
    }

    fn run(&mut self, input: &[u8]) {
        let (tame, wild) = (self.group.connect(), self.group.connect());
        let (mut model, mut input) = (Model::default(), Input(input));
        while let Some(choice) = input.next() {
            if choice < 192 {
                let (words, expected) = model.step(choice, &mut input);
                self.check(tame, &words, expected);
            } else {
                let words = self.any_command(&mut input);
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                self.group.call(wild, &words);
                if choice == 255 {
                    self.group.advance(50);
                }
            }
        }
        self.check_values();
        self.group.disconnect(wild);
        self.group.call(tame, &[b"FLUSHALL"]);
        self.group.disconnect(tame);
    }

    fn any_command(&self, input: &mut Input<'_>) -> Vec<Vec<u8>> {
        let name = self.names[usize::from(input.byte()) % self.names.len()];
        let mut words = vec![name.as_bytes().to_vec()];
        for _ in 0..input.byte() % 8 {
            words.push(input.word());
        }
        words
    }

    fn check(&mut self, place: usize, words: &[Vec<u8>], expected: Expected) {
        let request: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
        let reply = self.group.call(place, &request);
        let mut decoder = Decoder::default();
        decoder.feed(&reply);
        let value = decoder.next_value().expect("a reply").expect("a whole reply");
        let is_right = match &expected {
            Expected::Exactly(expected) => value == *expected,
            Expected::InAnyOrder(expected) => match &value {
                Value::Array(found) => {
                    let mut texts: Vec<_> = found.iter().map(|text| format!("{text:?}")).collect();
                    texts.sort();
                    let mut wanted: Vec<_> =
                        expected.iter().map(|text| format!("{text:?}")).collect();
                    wanted.sort();
                    texts == wanted
                }
                _ => false,
            },
            Expected::Error(code) => match &value {
                Value::Error(line) => line.starts_with(code.as_bytes()),
                _ => false,
            },
        };
        let shown = request.iter().map(|word| word.escape_ascii().to_string());
        let shown = shown.collect::<Vec<_>>().join(" ");
        assert!(is_right, "{shown}\n expected {expected:?}\n got {value:?}");
    }

    fn check_values(&self) {
        let keyspace = &self.server.state.keyspace;
        let Ok(locked) = Locked::transaction(keyspace, Duration::from_secs(1)) else {
            panic!("nobody else holds the lock");
        };
        let (limits, departed) = (Limits::default(), RefCell::default());
    let clock = AccessClock::default();
        for database in 0..keyspace.n_databases() {
            let terms = Terms {
                now_ms: 0,
                trace: clock.leaving(),
                limits: &limits,
                keeps_due: false,
                departed: &departed,
            };
            View::new(&locked, database, terms).each(&mut |entry| check_entry(entry));
        }
    }
}

fn check_entry(entry: &Entry) {
    let payload = entry.payload();
    match payload {
        Payload::Big(Collection::Set(table)) => table.check_invariants(),
        Payload::Big(Collection::Hash(table)) => table.check_invariants(),
        _ => {}
    }
    let value = ValueRef::new(entry.encoding(), payload);
    match value {
        ValueRef::List(list) => list.check_invariants(),
        ValueRef::Zset(zset) => zset.check_invariants(),
        ValueRef::Stream(stream) => stream.check_invariants(),
        _ => {}
    }
    let may_be_empty = matches!(value, ValueRef::String(_) | ValueRef::Stream(_));
    assert!(may_be_empty || !value.is_empty(), "{} is empty", entry.key().escape_ascii());
}

fuzz_target!(|input: &[u8]| {
    TRIAL.with_borrow_mut(|trial| trial.run(input));
});
