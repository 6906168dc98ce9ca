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

use datatypes::encoding::table::hash;
use datatypes::home::{Limits, Owned};
use keyspace::access::AccessClock;
use keyspace::db::{Db, Expiry, KnownHash, Terms};
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

/// The parts of a file with a header that is right.
pub fn parts<R: Read>(state: &State, source: R) -> Result<Parts<R>, LoadError> {
    let demands = Demands {
        checks_sum: state.config.takes_checksum(),
        knows_version: state.config.knows_rdb_version(),
    };
    Parts::open(source, demands).map_err(|error| LoadError::Wrong(error.to_string()))
}

/// Adds the keys of a file; its length. `add_library` gets the sources of libraries.
pub fn load<R: Read + Send>(
    state: &State,
    locked: &Locked<'_>,
    parts: Parts<R>,
    rules: &Rules<'_>,
    add_library: &mut dyn FnMut(&[u8]) -> Result<(), String>,
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
        loader.all(&batches, add_library)
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

/// A part, the database it belongs to and where it ends, or what is wrong there.
struct Unpacked {
    database: u64,
    offset: u64,
    part: Result<Part, String>,
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
            let next = parts.next(limits);
            let part = next.map_err(|error| explain(state, &parts, error.reason));
            let is_last = matches!(part, Ok(Part::End) | Err(_));
            batch.push(Unpacked {
                database: parts.database(),
                offset: parts.offset(),
                part,
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
        add_library: &mut dyn FnMut(&[u8]) -> Result<(), String>,
    ) -> Result<u64, LoadError> {
        for batch in batches {
            let hashes = self.fetch(&batch);
            for (unpacked, hash) in batch.into_iter().zip(hashes) {
                let Unpacked {
                    database,
                    offset,
                    part,
                } = unpacked;
                let wrong = |what: String| LoadError::Wrong(at_byte(&what, offset));
                match part.map_err(LoadError::Wrong)? {
                    Part::End => return Ok(offset),
                    Part::Passed => {}
                    Part::About(name, text) => about(self.state, &name, &text),
                    Part::Function(source) => add_library(&source).map_err(|reason| {
                        wrong(format!("a library that cannot be loaded: {reason}"))
                    })?,
                    Part::Emptied(key) => self.empty(&key),
                    Part::Key(key, attributes, value) => self
                        .key(database, (&key, hash), attributes, value)
                        .map_err(wrong)?,
                }
            }
        }
        Err(LoadError::Wrong("the thread that unpacks it has ended".to_owned()))
    }

    /// Has the buckets of a batch fetched; the hashes of its keys.
    fn fetch(&self, batch: &[Unpacked]) -> Vec<u64> {
        let keyspace = self.locked.keyspace();
        let fetched = batch.iter().map(|unpacked| {
            let Ok(Part::Key(key, ..)) = &unpacked.part else {
                return 0;
            };
            let hash = hash(key);
            let database = u16::try_from(unpacked.database).ok();
            if let Some(shards) = database.and_then(|number| keyspace.existing_shards(number)) {
                let id = keyspace.shard_of(0, hash);
                shards[usize::from(id.shard())].prefetch_bucket(hash);
            }
            hash
        });
        fetched.collect()
    }

    fn empty(&mut self, key: &[u8]) {
        self.counts.n_empty += 1;
        if self.counts.n_empty <= EMPTY_KEYS_NAMED {
            log::info!("rdbLoadObject skipping empty key: {}", shown(self.state, key));
        }
    }

    fn key(
        &mut self,
        database: u64,
        (key, hash): (&[u8], u64),
        attributes: Attributes,
        value: Owned,
    ) -> Result<(), String> {
        let n_databases = self.locked.keyspace().n_databases();
        let database = u16::try_from(database).ok();
        let database = database.filter(|number| *number < n_databases);
        let database = database.ok_or_else(|| {
            format!("it has more databases than the {n_databases} that this server has")
        })?;
        let is_due = attributes
            .deadline_ms
            .is_some_and(|deadline_ms| deadline_ms <= self.now_ms);
        if is_due && !self.keeps_due {
            self.counts.n_expired += 1;
            self.state.role.lose_key(database, key);
            return Ok(());
        }
        let known = [KnownHash::new(key, hash)];
        let mut db = Db::new(self.locked, database, self.terms);
        db.remember_hashes(&known);
        let expiry = attributes.deadline_ms.map_or(Expiry::Clear, Expiry::At);
        let has_replaced = db.put_value(key, value, expiry);
        if has_replaced && !self.merges {
            return Err(format!("key '{}' stands there twice", shown(self.state, key)));
        }
        db.set_use(key, attributes.idle_s, attributes.frequency);
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

fn about(state: &State, name: &[u8], text: &[u8]) {
    let shown = text.escape_ascii();
    let number = || std::str::from_utf8(text).ok()?.parse::<u64>().ok();
    match name {
        b"redis-ver" => log::info!("Loading RDB produced by version {shown}"),
        b"valkey-ver" => log::info!("Loading RDB produced by Valkey version {shown}"),
        b"ctime" => {
            let age_s = unix_time().as_secs().saturating_sub(number().unwrap_or(0));
            log::info!("RDB age {age_s} seconds");
        }
        b"used-mem" => {
            let megabytes = number().unwrap_or(0) as f64 / f64::from(1 << 20);
            log::info!("RDB memory usage when created {megabytes:.2} Mb");
        }
        b"repl-id" => state
            .role
            .find_history(|found| found.replid = shown.to_string()),
        b"repl-offset" => {
            let offset = number().unwrap_or(0);
            state.role.find_history(|found| found.offset = offset);
        }
        b"repl-stream-db" => {
            let database = number().unwrap_or(0);
            state.role.stream_database.store(database, Relaxed);
        }
        [b'%', ..] => log::info!("RDB '{}': {shown}", name.escape_ascii()),
        _ => {}
    }
}
