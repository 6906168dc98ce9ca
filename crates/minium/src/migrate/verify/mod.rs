//! Whether both servers hold the same, key by key, while writes go on.
//!
//! ```text
//!   keys of the source (SCAN, or RANDOMKEY)        keys of the target
//!      │ in batches, by pipelines to both             │ which the source has not
//!      ▼                                              ▼
//!   type, deadline ── length ── DUMP of what is small, the others piece by piece (`compare`)
//!      │ not equal: it may have been written meanwhile
//!      ▼
//!   settle: wait until the target has what the source had, compare again, a few times
//! ```
//!
//! Payloads of DUMP that are equal prove that values are; ones that differ prove nothing, as each server
//! has encodings and orders of its own. A key is called different only if the source's value was the same
//! before and after the comparison.

mod compare;
mod replies;

use std::collections::HashSet;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use client::connection::Connection;
use resp::decode::Value;

use super::args::{Config, Side, Verify};
use super::progress::grouped;
use super::side::{Facts, PATIENCE, stream_end, text};
use compare::Pair;

/// Keys that are compared at a time.
const BATCH: usize = 200;
/// How often a key is looked at again that may have been changed meanwhile, and after how long.
const LOOKS_MAX: usize = 20;
const PAUSE: Duration = Duration::from_millis(10);
/// How often it must have differed while the source's value stayed the same.
const PROOFS: usize = 3;
/// Keys that are named.
const NAMED_MAX: usize = 10;

/// What the thread that follows the stream and the one that compares tell each other.
#[derive(Default)]
pub struct Shared {
    /// Up to where the target has the stream.
    pub applied: AtomicU64,
    pub n_done: AtomicU64,
    pub n_all: AtomicU64,
    pub stop: AtomicBool,
}

/// What was found.
#[derive(Default)]
pub struct Outcome {
    n_compared: u64,
    n_different: u64,
    /// The first of them, and how they differ.
    different: Vec<String>,
    /// Keys that changed whenever they were looked at.
    n_unsettled: u64,
    unsettled: Vec<String>,
}

impl Outcome {
    pub fn is_different(&self) -> bool {
        self.n_different > 0
    }

    fn differs(&mut self, what: String) {
        self.n_different += 1;
        if self.different.len() < NAMED_MAX {
            self.different.push(what);
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (compared, different) = (grouped(self.n_compared), grouped(self.n_different));
        write!(f, "Compared {compared} keys: ")?;
        match self.n_different {
            0 => f.write_str("all are the same.")?,
            _ => write!(f, "{different} DIFFER. Do not switch.")?,
        }
        for what in &self.different {
            write!(f, "\n  {what}")?;
        }
        if self.n_unsettled > 0 {
            let names = self.unsettled.join(", ");
            write!(
                f,
                "\n{} keys change too often to be compared, for example {names}.",
                grouped(self.n_unsettled)
            )?;
        }
        Ok(())
    }
}

/// Compares in a thread of its own, with connections of its own.
pub fn start(config: &Config, shared: Arc<Shared>) -> JoinHandle<Result<Outcome, String>> {
    let (from, to) = (config.from.clone(), config.to.clone());
    let (verify, replaces) = (config.verify, config.replaces);
    std::thread::spawn(move || {
        let mut verifier = Verifier {
            control: from.connect()?,
            pair: Pair::open(&from, &to)?,
            sides: [&from, &to],
            shared: &shared,
            outcome: Outcome::default(),
        };
        // Keys that were there before are no difference.
        verifier.run(verify, !replaces)?;
        Ok(verifier.outcome)
    })
}

struct Verifier<'a> {
    /// To ask the source how far it is.
    control: Connection,
    pair: Pair,
    sides: [&'a Side; 2],
    shared: &'a Shared,
    outcome: Outcome,
}

impl Verifier<'_> {
    fn run(&mut self, verify: Verify, compares_both_ways: bool) -> Result<(), String> {
        let databases = Facts::of(self.sides[0], &mut self.control)?.databases();
        let n_keys: u64 = databases.iter().map(|database| database.1).sum();
        let n_wanted = match verify {
            Verify::Sample(n) => n.min(n_keys),
            Verify::All | Verify::Nothing => n_keys,
        };
        self.shared.n_all.store(n_wanted, Relaxed);
        self.libraries()?;
        for (database, n_keys_here) in databases {
            self.pair.select(database)?;
            let share = n_keys_here.saturating_mul(n_wanted).div_ceil(n_keys.max(1));
            let sample = (n_wanted < n_keys).then_some(share);
            self.keys(0, sample, |verifier, keys| verifier.batch(database, keys))?;
        }
        if !compares_both_ways {
            return Ok(());
        }
        let mut connection = self.sides[1].connect()?;
        for (database, n_keys_here) in Facts::of(self.sides[1], &mut connection)?.databases() {
            self.pair.select(database)?;
            let share = n_keys_here.saturating_mul(n_wanted).div_ceil(n_keys.max(1));
            let sample = (n_wanted < n_keys).then_some(share);
            self.keys(1, sample, |verifier, keys| verifier.presence(database, keys))?;
        }
        Ok(())
    }

    /// Hands all keys of a side's database over in batches, or a sample of them.
    fn keys(
        &mut self,
        side: usize,
        sample: Option<u64>,
        mut see: impl FnMut(&mut Self, &[Vec<u8>]) -> Result<(), String>,
    ) -> Result<(), String> {
        let (mut cursor, mut seen, mut n_left) = ("0".to_owned(), HashSet::new(), sample);
        loop {
            if self.shared.stop.load(Relaxed) {
                return Err("The comparison was interrupted".to_owned());
            }
            let keys = match &mut n_left {
                Some(0) => return Ok(()),
                Some(n_left) => {
                    let n = (BATCH as u64).min(*n_left);
                    *n_left -= n;
                    let keys = self.pair.random_keys(side, n as usize)?;
                    keys.into_iter()
                        .filter(|key| seen.insert(key.clone()))
                        .collect()
                }
                None => {
                    let (next, keys) = self.pair.scan(side, &cursor, BATCH)?;
                    cursor = next;
                    keys
                }
            };
            for keys in keys.chunks(BATCH) {
                see(self, keys)?;
            }
            if n_left.is_none() && cursor == "0" {
                return Ok(());
            }
        }
    }

    /// Compares keys of the source.
    fn batch(&mut self, database: u64, keys: &[Vec<u8>]) -> Result<(), String> {
        let suspects = self.pair.suspects(keys)?;
        for key in suspects {
            self.settle(database, &key)?;
        }
        self.outcome.n_compared += keys.len() as u64;
        self.shared.n_done.fetch_add(keys.len() as u64, Relaxed);
        Ok(())
    }

    /// Looks for keys of the target that the source does not have.
    fn presence(&mut self, database: u64, keys: &[Vec<u8>]) -> Result<(), String> {
        let questions = keys.iter().map(|key| vec![b"EXISTS".to_vec(), key.clone()]);
        let there = self.pair.ask(0, &questions.collect::<Vec<_>>())?;
        for (key, there) in keys.iter().zip(there) {
            if there == Value::Int(0) {
                self.settle(database, key)?;
            }
        }
        Ok(())
    }

    /// Finds out about a key that was not the same, and may have been changed meanwhile.
    fn settle(&mut self, database: u64, key: &[u8]) -> Result<(), String> {
        let mut n_proofs = 0;
        for _ in 0..LOOKS_MAX {
            let before = self.pair.fingerprint(key)?;
            self.await_source()?;
            let Some(how) = self.pair.difference(key)? else {
                return Ok(());
            };
            n_proofs += usize::from(self.pair.fingerprint(key)? == before);
            if n_proofs == PROOFS {
                let key = key.escape_ascii();
                self.outcome
                    .differs(format!("db {database}, key {key}: {how}"));
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        self.outcome.n_unsettled += 1;
        if self.outcome.unsettled.len() < NAMED_MAX {
            self.outcome.unsettled.push(key.escape_ascii().to_string());
        }
        Ok(())
    }

    /// Waits until the target has all that the source has at this moment.
    fn await_source(&mut self) -> Result<(), String> {
        let started = Instant::now();
        let end = match stream_end(self.sides[0], &mut self.control) {
            Ok(end) => end,
            Err(_) => {
                self.control = self.sides[0].connect()?; // it was idle for too long, perhaps
                stream_end(self.sides[0], &mut self.control)?
            }
        };
        while self.shared.applied.load(Relaxed) < end {
            if self.shared.stop.load(Relaxed) || started.elapsed() > PATIENCE {
                return Err(
                    "The comparison was interrupted: the target does not catch up".to_owned()
                );
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Compares the libraries of functions, where both know such.
    fn libraries(&mut self) -> Result<(), String> {
        for _ in 0..PROOFS {
            self.await_source()?;
            let [source, target] = self.pair.both(&["FUNCTION", "LIST", "WITHCODE"])?;
            let (Value::Array(source), Value::Array(target)) = (source, target) else {
                return Ok(());
            };
            let (mut source, mut target) = (libraries(&source), libraries(&target));
            source.sort();
            target.sort();
            if source.iter().all(|library| target.contains(library)) {
                return Ok(());
            }
            std::thread::sleep(PAUSE);
        }
        self.outcome.differs("libraries of functions".to_owned());
        Ok(())
    }
}

/// The code of each library in a reply of FUNCTION LIST.
fn libraries(reply: &[Value]) -> Vec<String> {
    let code = |library: &Value| {
        let Value::Array(fields) = library else {
            return None;
        };
        let mut pairs = fields.chunks_exact(2);
        pairs
            .find(|pair| text(&pair[0]) == "library_code")
            .map(|pair| text(&pair[1]))
    };
    reply.iter().filter_map(code).collect()
}
