//! The load, and what its clients were told: what must be there after the crash.
//!
//! Each writer counts: step `n` writes `n` to keys of every type in one transaction (or one script), then to one key
//! more. So of what is found, everything is known: whole steps, in order, none twice.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};

use client::connection::Connection;
use resp::decode::Value;

use super::disk::{Chance, Loss};
use super::server::open;

/// Writers, each with a connection and keys of its own.
pub const WRITERS: usize = 3;
/// The time of what has not happened.
const NEVER: u64 = u64::MAX;

/// The monotonic clock, which the record of the disk has, too.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

/// When a step's transaction and its single command were acknowledged.
#[derive(Clone, Copy, Debug)]
struct Step {
    n: u64,
    all_ns: u64,
    single_ns: u64,
}

/// What one writer was told.
#[derive(Debug, Default)]
struct Told {
    /// What was there when it began.
    first: (u64, u64),
    sent: AtomicU64,
    steps: Mutex<Vec<Step>>,
}

impl Told {
    /// The last step of which both parts, and that of which the transaction, were acknowledged up
    /// to `at_ns`.
    fn up_to(&self, at_ns: u64) -> (u64, u64) {
        let steps = self.steps.lock().unwrap();
        let last = |first, of: fn(&Step) -> u64| {
            let is_done = |step: &&Step| of(step) <= at_ns.min(NEVER - 1);
            steps
                .iter()
                .rev()
                .find(is_done)
                .map_or(first, |step| step.n)
        };
        (last(self.first.0, |step| step.all_ns), last(self.first.1, |step| step.single_ns))
    }
}

/// What is found of one writer's keys, or must be: the last step of the transaction, of the single key.
pub type Reached = [(u64, u64); WRITERS];

/// What makes a write durable when it is acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// After so many nanoseconds it is on the disk.
    Within(u64),
    /// The system has it, which loses it if the power fails.
    Handed,
    /// Only marks count.
    None,
}

/// What all were told.
#[derive(Default)]
pub struct History {
    told: [Told; WRITERS],
    /// From when on everything up to a step is safe: a save was acknowledged, for instance.
    marks: Mutex<Vec<(u64, Reached)>>,
    /// When the promise of the policy began and ended to hold.
    promises: Mutex<Vec<(u64, Promise)>>,
}

impl History {
    /// One that begins with what was found.
    pub fn new(found: Reached, promise: Promise) -> Arc<History> {
        let mut history = History {
            promises: Mutex::new(vec![(0, promise)]),
            ..History::default()
        };
        for (told, found) in history.told.iter_mut().zip(found) {
            (told.first, told.sent) = (found, found.0.into());
        }
        history.marks.lock().unwrap().push((0, found));
        Arc::new(history)
    }

    /// Acknowledged up to a moment.
    pub fn acknowledged(&self, at_ns: u64) -> Reached {
        let mut reached = Reached::default();
        for (one, told) in reached.iter_mut().zip(&self.told) {
            *one = told.up_to(at_ns);
        }
        reached
    }

    /// Notes that what was acknowledged before is safe from now on.
    pub fn mark(&self, reached: Reached) {
        self.marks.lock().unwrap().push((now_ns(), reached));
    }

    /// Notes what is promised from now on.
    pub fn promise(&self, promise: Promise) {
        self.promises.lock().unwrap().push((now_ns(), promise));
    }

    /// What is promised in the end.
    pub fn last_promise(&self) -> Promise {
        let promises = self.promises.lock().unwrap();
        promises
            .last()
            .map_or(Promise::None, |(_, promise)| *promise)
    }

    /// What must be found after a crash at this moment, of the system or of the process alone.
    pub fn required(&self, at_ns: u64, loss: Loss) -> Reached {
        let mut required = Reached::default();
        let mut raise = |reached: Reached| {
            for (one, other) in required.iter_mut().zip(reached) {
                *one = (one.0.max(other.0), one.1.max(other.1));
            }
        };
        for (since_ns, reached) in self.marks.lock().unwrap().iter() {
            if *since_ns <= at_ns {
                raise(*reached);
            }
        }
        let promises = self.promises.lock().unwrap();
        let promise = promises
            .iter()
            .rev()
            .find(|(since_ns, _)| *since_ns <= at_ns);
        match promise {
            Some((_, Promise::Within(time_ns))) => {
                raise(self.acknowledged(at_ns.saturating_sub(*time_ns)));
            }
            Some((_, Promise::Handed)) if loss == Loss::Nothing => raise(self.acknowledged(at_ns)),
            _ => {}
        }
        required
    }

    /// The last step that was sent, by each.
    pub fn sent(&self) -> [u64; WRITERS] {
        std::array::from_fn(|writer| self.told[writer].sent.load(SeqCst))
    }

    /// Steps that were acknowledged.
    pub fn n_acknowledged(&self) -> u64 {
        let n = |told: &Told| told.steps.lock().unwrap().len() as u64;
        self.told.iter().map(n).sum()
    }
}

/// Compares what is found with what must be and may be; what is missing or too much.
pub fn compare(found: &Reached, required: &Reached, sent: &[u64; WRITERS]) -> Result<(), String> {
    for (writer, (found, required)) in found.iter().zip(required).enumerate() {
        if found.0 < required.0 || found.1 < required.1 {
            return Err(format!(
                "writer {writer} was told of {required:?}, but {found:?} is there"
            ));
        }
        if found.0 > sent[writer] || found.1 > found.0 {
            let sent = sent[writer];
            return Err(format!("writer {writer} has sent {sent}, but {found:?} is there"));
        }
    }
    Ok(())
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

const SCRIPT: &str = "local n=ARGV[1] redis.call('rpush',KEYS[1],n) redis.call('set',KEYS[2],n) \
                      redis.call('zadd',KEYS[3],n,'m'..n) redis.call('hset',KEYS[4],n,ARGV[2]) \
                      redis.call('xadd',KEYS[5],n..'-1','n',n) return n";

/// The commands of a step: the last is the single one.
fn step(writer: usize, n: u64, chance: &mut Chance) -> Vec<Vec<Vec<u8>>> {
    let n_bytes = match chance.below(8) {
        0 => 20_000,
        _ => 100,
    };
    let payload = "v".repeat(1 + chance.below(n_bytes) as usize);
    let mut commands = match n % 3 {
        0 => {
            let keys =
                ["l", "s", "z", "h", "x"].map(|kind| format!("{kind}:{writer}").into_bytes());
            let mut eval = vec![b"EVAL".to_vec(), SCRIPT.as_bytes().to_vec(), b"5".to_vec()];
            eval.extend(keys);
            eval.extend([n.to_string().into_bytes(), payload.into_bytes()]);
            vec![eval]
        }
        _ => [
            "MULTI".to_owned(),
            format!("RPUSH l:{writer} {n}"),
            format!("SET s:{writer} {n}"),
            format!("ZADD z:{writer} {n} m{n}"),
            format!("HSET h:{writer} {n} {payload}"),
            format!("XADD x:{writer} {n}-1 n {n}"),
            "EXEC".to_owned(),
        ]
        .iter()
        .map(|line| words(line))
        .collect(),
    };
    commands.push(words(&format!("SET p:{writer} {n}")));
    commands
}

/// Writes until the server is gone or it is told to stop.
pub fn write(socket: PathBuf, writer: usize, history: &History, is_over: &AtomicBool, seed: u64) {
    let (mut chance, told) = (Chance(seed ^ writer as u64), &history.told[writer]);
    let Ok(mut client) = open(&socket) else {
        return;
    };
    let mut n = told.first.0 + 1;
    while !is_over.load(SeqCst) {
        told.sent.store(n, SeqCst);
        let Ok(replies) = client.pipeline(&step(writer, n, &mut chance)) else {
            return;
        };
        let now_ns = now_ns();
        let is_done = |reply: &Value| !matches!(reply, Value::Error(_));
        let (single, all) = replies.split_last().unwrap();
        if !all.last().is_some_and(is_done) {
            std::thread::sleep(std::time::Duration::from_millis(1)); // refused: tried again
            continue;
        }
        let single_ns = if is_done(single) { now_ns } else { NEVER };
        let step = Step {
            n,
            all_ns: now_ns,
            single_ns,
        };
        told.steps.lock().unwrap().push(step);
        n += 1;
    }
}

fn number(value: &Value) -> Option<u64> {
    match value {
        Value::Int(n) => u64::try_from(*n).ok(),
        Value::Bulk(text) => std::str::from_utf8(text).ok()?.parse().ok(),
        Value::Null => Some(0),
        _ => None,
    }
}

/// What a server holds; an error if it is not whole steps in order.
pub fn find(client: &mut Connection) -> Result<Reached, String> {
    let mut reached = Reached::default();
    for (writer, reached) in reached.iter_mut().enumerate() {
        let commands: Vec<_> = ["GET s", "GET p", "ZCARD z", "HLEN h", "XLEN x", "LRANGE l"]
            .iter()
            .map(|line| match line.starts_with("LRANGE") {
                true => words(&format!("{line}:{writer} 0 -1")),
                false => words(&format!("{line}:{writer}")),
            })
            .collect();
        let replies = client.pipeline(&commands);
        let replies = replies.map_err(|error| format!("the keys cannot be read: {error}"))?;
        let numbers: Option<Vec<u64>> = replies[..5].iter().map(number).collect();
        let numbers = numbers.ok_or_else(|| format!("strange replies: {replies:?}"))?;
        let Value::Array(list) = &replies[5] else {
            return Err(format!("no list, but {:?}", replies[5]));
        };
        let n = numbers[0];
        if numbers[2..] != [n; 3] || list.len() as u64 != n {
            let n_list = list.len();
            return Err(format!("half a transaction of writer {writer}: {numbers:?} {n_list}"));
        }
        if !list
            .iter()
            .zip(1..)
            .all(|(item, n)| number(item) == Some(n))
        {
            return Err(format!("the list of writer {writer} is out of order"));
        }
        *reached = (n, numbers[1]);
    }
    Ok(reached)
}
