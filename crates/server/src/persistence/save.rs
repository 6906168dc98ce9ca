//! Writing the file: what stands before the keys, the checksum behind them, and both ways between.

use std::cell::RefCell;
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use datatypes::home::Limits;
use keyspace::access::{AccessClock, Moment};
use keyspace::db::{Terms, View};
use keyspace::eviction::Preference;
use keyspace::locked::Locked;
use keyspace::snapshot::{Sink, Walk};
use rdb::code::{VERSION, VERSION_PLAIN, VERSION_VALKEY};
use rdb::crc::Checksum;
use rdb::file;
use rdb::write::Writer;

use super::gather::{Gather, Gathering, Manner, write_entry};
use super::restate::{Restater, Stretch};
use crate::error::reason;
use crate::io::durable::NewFile;
use crate::io::process::unix_time;
use crate::journal::unit::stamp;
use crate::saving::{Tell, Word};
use crate::state::State;
use crate::stats::counters::Counter;
use crate::stats::memory;
use crate::stats::table::REDIS_VERSION;

/// Bytes that are written to the file at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// How long a delayed save sleeps before it looks whether it is still delayed.
const DELAY_LOOK: Duration = Duration::from_millis(10);
/// After so much work the processor is left to who waits for it. Not after each step: where another process
/// is busy, each time costs that one's whole slice.
const GIVE_WAY: Duration = Duration::from_micros(500);
/// How long those have who wait for the lock of a step, until the next one.
const TURN: Duration = Duration::from_micros(50);
/// How long the transaction is waited for before a look whether the save is still wanted.
const PATIENCE: Duration = Duration::from_millis(50);
/// How often the cut gives way to a command that holds a shard for long, before it holds the others
/// while it waits.
const POLITE_ROUNDS: usize = 200;

/// What a file consists of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// That of an RDB file.
    Snapshot,
    /// The same, as the base of the append-only file.
    Base,
    /// The same, for replicas; those of Valkey have a version of their own.
    Replicas {
        /// They are of Valkey 9 or later.
        of_valkey: bool,
    },
    /// Commands, as the base of the append-only file.
    Commands,
}

impl Form {
    /// That of the base of the append-only file, as `aof-use-rdb-preamble` says.
    pub fn of_base(state: &State) -> Form {
        match state.config.base_is_snapshot() {
            true => Form::Base,
            false => Form::Commands,
        }
    }
}

/// A file on its way.
struct Saved {
    file: NewFile,
    form: Form,
    checksum: Option<Checksum>,
}

impl Saved {
    fn create(state: &State, temporary: &str) -> io::Result<Saved> {
        let (name, config) = (state.config.rdb_file(), &state.config);
        Saved::named(state, (temporary, &name), config.syncs_often(), Form::Snapshot)
    }

    fn named(
        state: &State,
        (temporary, target): (&str, &str),
        syncs_often: bool,
        form: Form,
    ) -> io::Result<Saved> {
        let is_summed = state.config.takes_checksum() && form != Form::Commands;
        Ok(Saved {
            file: NewFile::create(temporary, target, syncs_often)?,
            form,
            checksum: is_summed.then(Checksum::default),
        })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(checksum) = &mut self.checksum {
            checksum.update(bytes);
        }
        self.file.write(bytes)
    }

    fn flush(&mut self, writer: &mut Writer, bytes_min: usize) -> io::Result<()> {
        if writer.out.len() < bytes_min {
            return Ok(());
        }
        self.write(&writer.out)?;
        writer.out.clear();
        Ok(())
    }

    fn commit(mut self) -> io::Result<()> {
        if self.form == Form::Commands {
            return self.file.name(); // the manifest that speaks of it syncs the folder
        }
        let mut writer = Writer::new(false);
        file::end(&mut writer);
        self.write(&writer.out)?;
        let sum = self.checksum.as_ref().map_or(0, Checksum::value);
        self.file.write(&sum.to_le_bytes())?;
        match self.form {
            Form::Snapshot => self.file.commit(),
            Form::Base | Form::Commands | Form::Replicas { .. } => self.file.name(), // as above
        }
    }
}

fn manner(state: &State) -> Manner {
    let policy = state
        .config
        .eviction_policy()
        .map(|policy| policy.preference);
    let is_saved = matches!(policy, Some(Preference::LeastRecent | Preference::LeastFrequent));
    let now_ms = unix_time().as_millis() as u64;
    Manner {
        uses: is_saved.then(|| Moment::new(now_ms, state.config.frequency())),
        packs: state.config.packs_strings(),
        is_valkeys: false,
    }
}

/// What stands before the keys.
pub(super) fn write_head(writer: &mut Writer, state: &State, form: Form) {
    let has_deadlines = state.keyspace.may_hold_field_deadlines();
    let version = match form {
        _ if !has_deadlines => VERSION_PLAIN,
        Form::Replicas { of_valkey: true } => VERSION_VALKEY,
        _ => VERSION,
    };
    file::header(writer, version);
    file::about(writer, "redis-ver", REDIS_VERSION);
    file::about(writer, "redis-bits", &usize::BITS.to_string());
    file::about(writer, "ctime", &unix_time().as_secs().to_string());
    let used_bytes = memory::allocated().map_or(0, |allocated| allocated.used_bytes);
    file::about(writer, "used-mem", &used_bytes.to_string());
    if matches!(form, Form::Replicas { .. })
        || form == Form::Snapshot && state.journal.backlog.is_on()
    {
        let (ids, offset) = (state.role.ids(), state.journal.backlog.end());
        if state.role.is_replica() {
            let database = state.role.stream_database.load(Relaxed);
            file::about(writer, "repl-stream-db", &database.to_string());
        }
        file::about(writer, "repl-id", &ids.replid);
        file::about(writer, "repl-offset", &offset.to_string());
    }
    let is_base = form == Form::Base;
    file::about(writer, "aof-base", if is_base { "1" } else { "0" });
    for library in state.scripts.functions.lock().libraries() {
        file::function(writer, &library.source);
    }
}

/// What stands before the keys of a base in the form of commands.
fn state_head(writer: &mut Writer, state: &State, is_summed: bool) {
    let mut stretch = Stretch::new(is_summed);
    if state.config.stamps_appended() {
        let line = stamp(unix_time().as_secs());
        stretch.out.extend(line.bytes());
    }
    for library in state.scripts.functions.lock().libraries() {
        stretch.command(&[b"FUNCTION", &b"LOAD"[..], &library.source]);
    }
    writer.raw(&stretch.out);
}

/// Databases with keys, how many, and how many of them with a deadline.
fn sizes(state: &State) -> Vec<(u16, u64, u64)> {
    let keyspace = &state.keyspace;
    let of = |database| {
        let (n_volatile, _) = keyspace.deadlines(database);
        (database, keyspace.len(database) as u64, n_volatile as u64)
    };
    let all = (0..keyspace.n_databases()).map(of);
    all.filter(|(_, n_keys, _)| *n_keys > 0).collect()
}

fn write_sizes(writer: &mut Writer, sizes: &[(u16, u64, u64)]) {
    for &(database, n_keys, n_volatile) in sizes {
        file::select(writer, database);
        file::size(writer, n_keys, n_volatile);
    }
}

// ---- All at once -------------------------------------------------------------------------------

/// Saves everything under the locks of a transaction. The error is logged.
pub fn at_once(state: &State, locked: &Locked<'_>) -> Result<(), String> {
    let (started, changes) = (Instant::now(), changes(state));
    let saved = write_all(state, locked).map_err(|error| reason(&error));
    match &saved {
        Ok(()) => {
            state.saving.judged(true); // that it failed, who asked is told; writes go on
            state.saving.saved(changes);
            log::info!("DB saved on disk in {:.3} seconds", started.elapsed().as_secs_f64());
        }
        Err(reason) => log::warn!("Error saving DB on disk: {reason}"),
    }
    saved
}

fn write_all(state: &State, locked: &Locked<'_>) -> io::Result<()> {
    locked.take_everything();
    let cut = state.saving.cut();
    let mut saved = Saved::create(state, &temporary_name(IN_FOREGROUND))?;
    let (manner, sizes) = (manner(state), sizes(state));
    let mut writer = Writer::new(manner.packs);
    write_head(&mut writer, state, Form::Snapshot);
    let (limits, departed) = (Limits::default(), RefCell::default());
    let clock = AccessClock::default();
    for size in sizes {
        write_sizes(&mut writer, &[size]);
        let terms = Terms {
            now_ms: 0, // what is due is saved as well: nobody has said yet that it is gone
            trace: clock.leaving(),
            keeps_due: false,
            limits: &limits,
            departed: &departed,
        };
        let mut result = Ok(());
        View::new(locked, size.0, terms).each(&mut |entry| {
            write_entry(&mut writer, manner, entry);
            if result.is_ok() {
                std::thread::sleep(Duration::from_micros(state.config.key_save_delay_us()));
                result = saved.flush(&mut writer, CHUNK_BYTES);
            }
        });
        result?;
    }
    saved.flush(&mut writer, 0)?;
    state.saving.put(cut, || saved.commit())?;
    Ok(())
}

/// What the name of a file begins with that is written while everybody waits.
pub const IN_FOREGROUND: &str = "temp";

/// What the name of a file begins with that is written in the background.
pub const IN_BACKGROUND: &str = "temp-bg";

/// The name of a file that is not whole yet.
pub fn temporary_name(prefix: &str) -> String {
    format!("{prefix}-{}.rdb", std::process::id())
}

fn changes(state: &State) -> u64 {
    state.stats.totals_ever().get(Counter::Changes)
}

// ---- In the background -------------------------------------------------------------------------

/// Saves what the data is now, while commands go on. On the saver's thread.
pub fn in_background(state: &'static State, mut tell: Tell) {
    let started = Instant::now();
    state.saving.begun(0);
    log::info!("Background saving started");
    let (is_ok, changes) = match save(state, &mut tell) {
        Ok(changes) => (true, changes),
        Err(reason) => {
            log::warn!("Background saving error: {reason}");
            (false, None)
        }
    };
    if let Some(changes) = changes {
        state.saving.saved(changes);
        log::info!("DB saved on disk");
    }
    if is_ok {
        log::info!(
            "Background saving terminated with success in {:.3} seconds",
            started.elapsed().as_secs_f64()
        );
    }
    state.saving.ended(is_ok);
    tell(if is_ok { Word::Done } else { Word::Failed });
    state.mailboxes.wake();
}

/// The moment that a save in the background is about.
pub(super) struct Cut {
    pub(super) walk: Walk<'static>,
    pub(super) gather: Arc<dyn Gathering>,
    pub(super) head: Writer,
    changes: u64,
    number: u64,
}

/// A walk, and what is particular about it.
pub struct Job<'a> {
    /// The name that the file has until it is whole, and the one that it gets.
    pub names: (&'a str, &'a str),
    /// What is written goes to the disk piece by piece.
    pub syncs_often: bool,
    /// What the file consists of.
    pub form: Form,
    /// Whether it is to be given up.
    pub must_stop: &'a dyn Fn() -> bool,
    /// Called at the moment that is saved, with every shard held, with the number of keys.
    pub at_cut: &'a mut dyn FnMut(u64),
}

/// Fixes the moment: every shard is held while the walk begins.
pub(super) fn cut(state: &'static State, job: &mut Job<'_>) -> Result<Cut, String> {
    let mut n_rounds = 0;
    let locked = loop {
        if (job.must_stop)() {
            return Err(STOPPED.to_owned());
        }
        let taken = match n_rounds < POLITE_ROUNDS {
            true => Locked::everything(&state.keyspace, PATIENCE),
            false => Locked::transaction(&state.keyspace, PATIENCE),
        };
        if let Ok(locked) = taken {
            break locked;
        }
        n_rounds += 1;
    };
    let manner = Manner {
        is_valkeys: job.form == Form::Replicas { of_valkey: true },
        ..manner(state)
    };
    let is_summed = state.config.sums_appended();
    let gather: Arc<dyn Gathering> = match job.form {
        Form::Snapshot | Form::Base | Form::Replicas { .. } => Arc::new(Gather::new(manner)),
        Form::Commands => Arc::new(Restater::new(is_summed)),
    };
    let sink: Arc<dyn Sink> = gather.clone();
    let walk = Walk::cut(&locked, sink).ok_or(WALKING)?;
    let mut head = Writer::new(manner.packs);
    let sizes = sizes(state);
    (job.at_cut)(sizes.iter().map(|size| size.1).sum());
    if job.form == Form::Commands {
        state_head(&mut head, state, is_summed);
    } else {
        write_head(&mut head, state, job.form);
        write_sizes(&mut head, &sizes);
    }
    Ok(Cut {
        walk,
        gather,
        head,
        changes: changes(state),
        number: state.saving.cut(),
    })
}

/// Why there is no cut while there is another.
pub(super) const WALKING: &str = "another snapshot is being taken";
const STOPPED: &str = "it was told to stop";

fn save(state: &'static State, tell: &mut Tell) -> Result<Option<u64>, String> {
    let (temporary, name) = (temporary_name(IN_BACKGROUND), state.config.rdb_file());
    walk(
        state,
        Job {
            names: (&temporary, &name),
            syncs_often: state.config.syncs_often(),
            form: Form::Snapshot,
            must_stop: &|| state.saving.must_stop(),
            at_cut: &mut |n_keys| {
                state.saving.begun(n_keys);
                tell(Word::Begun);
            },
        },
    )
}

/// Saves the data of a moment; the count of changes at it, or `None` if the file is about a later one.
pub fn walk(state: &'static State, mut job: Job<'_>) -> Result<Option<u64>, String> {
    let saved = Saved::named(state, job.names, job.syncs_often, job.form);
    let mut saved = saved.map_err(|error| reason(&error))?;
    let mut cut = cut(state, &mut job)?;
    state.mailboxes.wake(); // who was told of the cut
    let mut written = saved
        .flush(&mut cut.head, 0)
        .map_err(|error| reason(&error));
    if written.is_err() {
        cut.walk.abort();
    }
    let mut progress = Progress::default();
    while cut.walk.step() {
        progress.note(state, &*cut.gather, job.must_stop); // before the file, for which nobody should wait
        if written.is_err() {
            continue; // the rest is only marked
        }
        if (job.must_stop)() {
            written = Err(STOPPED.to_owned());
        } else if cut.gather.is_over() {
            written = Err("the disk is too slow for what changes meanwhile".to_owned());
        } else {
            written = write_chunk(&mut saved, &*cut.gather, CHUNK_BYTES, &mut progress);
        }
        if written.is_err() {
            cut.walk.abort();
        }
    }
    written?;
    write_chunk(&mut saved, &*cut.gather, 0, &mut progress)?;
    saved.file.make_way();
    let place = || match (job.must_stop)() {
        true => Err(STOPPED.to_owned()),
        false => saved.commit().map_err(|error| reason(&error)),
    };
    // Bases of the append-only file have names of their own.
    let is_put = match job.form {
        Form::Base | Form::Commands | Form::Replicas { .. } => place().map(|()| true)?,
        Form::Snapshot => state.saving.put(cut.number, place)?,
    };
    Ok(is_put.then_some(cut.changes))
}

fn write_chunk(
    saved: &mut Saved,
    gather: &dyn Gathering,
    bytes_min: usize,
    progress: &mut Progress,
) -> Result<(), String> {
    for segment in gather.take(bytes_min) {
        saved
            .write(&segment.into_bytes())
            .map_err(|error| reason(&error))?;
        progress.give_way();
    }
    Ok(())
}

/// What a saver does between two steps.
pub(super) struct Progress {
    gave_way_at: Instant,
}

impl Default for Progress {
    fn default() -> Progress {
        Progress {
            gave_way_at: Instant::now(),
        }
    }
}

impl Progress {
    /// Notes how many keys were saved, lets those have the processor who wait for it, and waits as
    /// `rdb-key-save-delay` says, until that or the save's purpose changes.
    pub(super) fn note(
        &mut self,
        state: &State,
        gather: &dyn Gathering,
        must_stop: &dyn Fn() -> bool,
    ) {
        let (before, now) = (state.saving.n_saved.load(Relaxed), gather.n_keys());
        state.saving.n_saved.store(now, Relaxed);
        if state.mailboxes.has_waiting() {
            // The next step takes the same lock as likely as not: who waits for it comes first.
            state.mailboxes.released();
            std::thread::sleep(TURN);
        }
        self.give_way();
        delay(state, now.saturating_sub(before), must_stop);
    }

    fn give_way(&mut self) {
        if self.gave_way_at.elapsed() >= GIVE_WAY {
            std::thread::yield_now();
            self.gave_way_at = Instant::now();
        }
    }
}

/// Waits as `rdb-key-save-delay` says for so many keys.
fn delay(state: &State, n_keys: u64, must_stop: &dyn Fn() -> bool) {
    let delay_us = state.config.key_save_delay_us();
    if delay_us == 0 || n_keys == 0 {
        return;
    }
    let time = Duration::from_micros(delay_us.saturating_mul(n_keys));
    let started = Instant::now();
    while let Some(rest) = time.checked_sub(started.elapsed())
        && state.config.key_save_delay_us() == delay_us
        && !must_stop()
    {
        std::thread::sleep(rest.min(DELAY_LOOK));
    }
}
