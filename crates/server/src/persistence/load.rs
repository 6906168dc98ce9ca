//! Loading a file into the keyspace, under the locks of a transaction.
//!
//! ```text
//!   a thread    read, unpack, check ─► batches, at most a few ─┐
//!   the caller                                                 └─► buckets fetched, keys put
//! ```
//!
//! Unpacking is work for the processor, putting is waiting for memory: two cores share it, and the
//! buckets of a window of keys are fetched before the first of them is put.

use std::cell::RefCell;
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant};

use datatypes::home::Limits;
use keyspace::access::AccessClock;
use keyspace::db::{Db, Made, Terms};
use keyspace::locked::Locked;
use rdb::error::Reason;
use rdb::file::{Attributes, Part, Parts};
use rdb::payload::Demands;

use crate::error::reason;
use crate::io::process::unix_time;
use crate::state::State;

/// Keys that hold nothing, which are named in the log.
const EMPTY_KEYS_NAMED: u64 = 10;
/// Parts of a batch: as many as may be fetched at once.
const BATCH_PARTS: usize = 64;
/// Bytes of the file after which a batch is handed over, however few its parts are.
const BATCH_BYTES: u64 = 256 << 10;
/// Batches that wait to be put.
const BATCHES_WAITING_MAX: usize = 16;

/// How a file is loaded.
pub struct Rules<'a> {
    /// The thresholds of small encodings.
    pub limits: &'a Limits,
    /// Keys and libraries that are there already go for those of the file.
    pub merges: bool,
    /// Keys whose time has come are loaded, too: what follows may say otherwise.
    pub keeps_due: bool,
}

/// What a file holds besides keys, for the caller.
pub enum News<'a> {
    /// The source of a library of functions.
    Library(&'a [u8]),
    /// The database in which the stream of the primary stood.
    StreamDatabase(u64),
}

/// Why a file could not be loaded.
#[derive(Debug)]
pub enum LoadError {
    /// There is none.
    Absent,
    /// The system does not let it be read.
    Io(String),
    /// What is wrong, where, and in which key.
    Wrong(String),
}

impl fmt::Display for LoadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            LoadError::Absent => f.write_str("no such file"),
            LoadError::Io(reason) | LoadError::Wrong(reason) => f.write_str(reason),
        }
    }
}

/// The file as the directives name it, opened, and its size.
pub fn open(state: &State) -> Result<(File, u64), LoadError> {
    let file = File::open(state.config.rdb_file()).map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => LoadError::Absent,
        _ => LoadError::Io(reason(&error)),
    })?;
    let n_bytes = file.metadata().map_or(0, |facts| facts.len());
    Ok((file, n_bytes))
}

/// Tells the log what the file holds up to where it is wrong, as `redis-check-rdb` does: who cannot
/// start wants to know what is left. Nothing if keys may not be named.
pub fn report(state: &State) {
    let path = state.config.rdb_file();
    let Ok(file) = File::open(&path) else {
        return;
    };
    if state.config.hides_user_data() {
        return;
    }
    let mut lines = Vec::new();
    let now_ms = unix_time().as_millis() as u64;
    // Writing to a vector cannot fail, and what is wrong with the file is known.
    let _ = rdb::check::check(&path, io::BufReader::new(file), now_ms, &mut lines);
    for line in String::from_utf8_lossy(&lines).lines() {
        log::warn!("{line}");
    }
}

/// The parts of a file with a header that is right.
pub fn parts<R: Read>(state: &State, source: R) -> Result<Parts<R>, LoadError> {
    let demands = Demands {
        checks_sum: state.config.takes_checksum(),
        knows_version: state.config.knows_rdb_version(),
    };
    Parts::open(source, demands).map_err(|error| LoadError::Wrong(error.to_string()))
}

/// Adds the keys of a file; its length. `tell` gets the rest.
pub fn load<R: Read + Send>(
    state: &State,
    locked: &Locked<'_>,
    parts: Parts<R>,
    rules: &Rules<'_>,
    tell: &mut dyn FnMut(News<'_>) -> Result<(), String>,
) -> Result<u64, LoadError> {
    let started = Instant::now();
    let (departed, mut clock) = (RefCell::default(), AccessClock::default());
    clock.set_time(unix_time().as_millis() as u64);
    clock.count(state.config.frequency());
    let mut loader = Loader {
        state,
        locked,
        now_ms: unix_time().as_millis() as u64,
        merges: rules.merges,
        keeps_due: rules.keeps_due,
        terms: Terms {
            now_ms: 0, // nothing is due while it is loaded
            trace: clock.noting(),
            limits: rules.limits,
            keeps_due: false,
            departed: &departed,
        },
        counts: Counts::default(),
    };
    let result = thread::scope(|scope| {
        let (sender, batches) = sync_channel(BATCHES_WAITING_MAX);
        let limits = rules.limits;
        let unpacker = thread::Builder::new().name("unpacker".to_owned());
        unpacker
            .spawn_scoped(scope, move || unpack(state, parts, limits, &sender))
            .map_err(|error| LoadError::Io(format!("no thread to unpack it: {error}")))?;
        loader.all(&batches, tell)
    });
    let Counts {
        n_keys,
        n_expired,
        n_empty,
    } = loader.counts;
    state.saving.loading.n_keys.store(n_keys, Relaxed);
    state.saving.loading.n_expired.store(n_expired, Relaxed);
    let n_bytes = result?;
    let skipped = match n_empty {
        0 => String::new(),
        n_empty => format!(", empty keys skipped: {n_empty}"),
    };
    log::info!("Done loading RDB, keys loaded: {n_keys}, keys expired: {n_expired}{skipped}.");
    log::info!("DB loaded from disk: {:.3} seconds", started.elapsed().as_secs_f64());
    Ok(n_bytes)
}

/// A part, the database it belongs to and where it ends.
struct Unpacked {
    database: u64,
    offset: u64,
    what: What,
}

/// What a part is.
enum What {
    Key(Made, Attributes),
    Other(Part),
    /// What is wrong there.
    Wrong(String),
}

/// Hands over the parts of a file, until the end, an error, or nobody wants them any more.
fn unpack<R: Read>(
    state: &State,
    mut parts: Parts<R>,
    limits: &Limits,
    sender: &SyncSender<Vec<Unpacked>>,
) {
    loop {
        let (mut batch, start) = (Vec::new(), parts.offset());
        while batch.len() < BATCH_PARTS && parts.offset() - start < BATCH_BYTES {
            let what = match parts.next(limits) {
                Ok(Part::Key(key, attributes, value)) => {
                    What::Key(Made::new(&key, attributes.deadline_ms, value), attributes)
                }
                Ok(part) => What::Other(part),
                Err(error) => What::Wrong(explain(state, &parts, error.reason)),
            };
            let is_last = matches!(what, What::Other(Part::End) | What::Wrong(_));
            batch.push(Unpacked {
                database: parts.database(),
                offset: parts.offset(),
                what,
            });
            if is_last {
                let _ = sender.send(batch); // nobody wants it: the other side has found an error
                return;
            }
        }
        state.saving.loading.n_read.store(parts.offset(), Relaxed);
        if sender.send(batch).is_err() {
            return;
        }
    }
}

#[derive(Default)]
struct Counts {
    n_keys: u64,
    n_expired: u64,
    n_empty: u64,
}

/// Where keys go.
struct Loader<'a> {
    state: &'a State,
    locked: &'a Locked<'a>,
    now_ms: u64,
    merges: bool,
    keeps_due: bool,
    terms: Terms<'a>,
    counts: Counts,
}

impl Loader<'_> {
    fn all(
        &mut self,
        batches: &Receiver<Vec<Unpacked>>,
        tell: &mut dyn FnMut(News<'_>) -> Result<(), String>,
    ) -> Result<u64, LoadError> {
        for batch in batches {
            self.expect(&batch);
            for unpacked in batch {
                let (database, offset) = (unpacked.database, unpacked.offset);
                let wrong = |what: String| LoadError::Wrong(at_byte(&what, offset));
                let part = match unpacked.what {
                    What::Key(made, attributes) => {
                        self.key(database, made, attributes).map_err(wrong)?;
                        continue;
                    }
                    What::Wrong(what) => return Err(LoadError::Wrong(what)),
                    What::Other(part) => part,
                };
                match part {
                    Part::End => return Ok(offset),
                    Part::Passed | Part::Key(..) => {}
                    Part::About(name, text) if *name == *b"repl-stream-db" => {
                        let database = number(&text).unwrap_or(0);
                        tell(News::StreamDatabase(database)).map_err(wrong)?;
                    }
                    Part::About(name, text) => about(self.state, &name, &text),
                    Part::Function(source) => tell(News::Library(&source)).map_err(|reason| {
                        wrong(format!("a library that cannot be loaded: {reason}"))
                    })?,
                    Part::Emptied(key) => self.empty(&key),
                }
            }
        }
        Err(LoadError::Wrong("the thread that unpacks it has ended".to_owned()))
    }

    /// Has what the keys of a batch will touch fetched.
    fn expect(&self, batch: &[Unpacked]) {
        let Some(database) = batch.first().and_then(|first| self.known(first.database)) else {
            return;
        };
        let db = Db::new(self.locked, database, self.terms);
        let keys = || {
            batch.iter().filter_map(|unpacked| match &unpacked.what {
                What::Key(made, _) => Some(made),
                _ => None,
            })
        };
        keys().for_each(|made| db.expect(made));
        keys().for_each(|made| db.expect_chain(made));
    }

    /// The number of a database that exists.
    fn known(&self, database: u64) -> Option<u16> {
        let n_databases = self.locked.keyspace().n_databases();
        let database = u16::try_from(database).ok();
        database.filter(|number| *number < n_databases)
    }

    fn empty(&mut self, key: &[u8]) {
        self.counts.n_empty += 1;
        if self.counts.n_empty <= EMPTY_KEYS_NAMED {
            log::info!("rdbLoadObject skipping empty key: {}", shown(self.state, key));
        }
    }

    fn key(&mut self, database: u64, made: Made, attributes: Attributes) -> Result<(), String> {
        let database = self.known(database).ok_or_else(|| {
            let n_databases = self.locked.keyspace().n_databases();
            format!("it has more databases than the {n_databases} that this server has")
        })?;
        let is_due = made
            .deadline_ms()
            .is_some_and(|deadline_ms| deadline_ms <= self.now_ms);
        if is_due && !self.keeps_due {
            self.counts.n_expired += 1;
            self.state.role.lose_key(database, made.key());
            return Ok(());
        }
        let mut db = Db::new(self.locked, database, self.terms);
        let replaced = db.put_made(made, attributes.idle_s, attributes.frequency);
        if let Some(key) = replaced.filter(|_| !self.merges) {
            return Err(format!("key '{}' stands there twice", shown(self.state, &key)));
        }
        self.counts.n_keys += 1;
        let delay_us = self.state.config.key_load_delay_us();
        if delay_us > 0 {
            thread::sleep(Duration::from_micros(delay_us));
        }
        Ok(())
    }
}

/// Why the next part cannot be read. A type that nobody knows is told of in the words that tools look
/// for.
fn explain<R: Read>(state: &State, parts: &Parts<R>, reason: Reason) -> String {
    let what = match reason {
        Reason::Unknown(code) if parts.version() >= rdb::code::VERSION_VALKEY => format!(
            "Unknown type or opcode when loading DB. Unrecoverable error, aborting now. It is {code}"
        ),
        Reason::Unknown(code) => {
            let version = parts.version();
            format!("Can't handle foreign type or opcode {code} in RDB with version {version}")
        }
        reason => reason.to_string(),
    };
    describe(state, parts, &what)
}

/// A key as it may be named in the log.
fn shown(state: &State, key: &[u8]) -> String {
    match state.config.hides_user_data() {
        true => "*redacted*".to_owned(),
        false => key.escape_ascii().to_string(),
    }
}

/// What is wrong, and with which key.
fn describe<R: Read>(state: &State, parts: &Parts<R>, what: &str) -> String {
    let offset = parts.offset();
    match parts.key() {
        Some((key, code)) => {
            let kind = rdb::code::kind_name(code, parts.version());
            let key = shown(state, key);
            format!("{what}, in the value of key '{key}' ({kind}), at byte {offset} of the file")
        }
        None => at_byte(what, offset),
    }
}

fn at_byte(what: &str, offset: u64) -> String {
    format!("{what}, at byte {offset} of the file")
}

fn number(text: &[u8]) -> Option<u64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

fn about(state: &State, name: &[u8], text: &[u8]) {
    let shown = text.escape_ascii();
    match name {
        b"redis-ver" => log::info!("Loading RDB produced by version {shown}"),
        b"valkey-ver" => log::info!("Loading RDB produced by Valkey version {shown}"),
        b"ctime" => {
            let age_s = unix_time()
                .as_secs()
                .saturating_sub(number(text).unwrap_or(0));
            log::info!("RDB age {age_s} seconds");
        }
        b"used-mem" => {
            let megabytes = number(text).unwrap_or(0) as f64 / f64::from(1 << 20);
            log::info!("RDB memory usage when created {megabytes:.2} Mb");
        }
        b"repl-id" => state
            .role
            .find_history(|found| found.replid = shown.to_string()),
        b"repl-offset" => {
            let offset = number(text).unwrap_or(0);
            state.role.find_history(|found| found.offset = offset);
        }
        [b'%', ..] => log::info!("RDB '{}': {shown}", name.escape_ascii()),
        _ => {}
    }
}
