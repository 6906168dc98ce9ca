//! The append-only file: the journal on the disk, before anybody hears that something was done.
//!
//! ```text
//!   journal ──► reader ──┐ take      ┌─► appendonly.aof.1.incr.aof   before the cut of a rewrite
//!                        └─► waiting ┤
//!                            (drain) └─► appendonly.aof.2.incr.aof   after it
//! ```
//!
//! Event loops hold their replies until the stream is where `appendfsync` wants it: with `always` on the
//! disk, otherwise with the system, which keeps it when the process dies. With `always` one loop writes
//! and syncs for all, group commit, and the others go on meanwhile ([`Aof::sync_together`]).

pub mod check;
pub mod lock;
pub mod manifest;
pub mod records;
pub mod restore;
pub mod scan;

use std::fs::File;
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{
    AtomicBool, AtomicU8, AtomicU64, AtomicUsize, Ordering::Relaxed, Ordering::SeqCst,
};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use crate::config::Config;
use crate::config::live::FsyncPolicy;
use crate::error::reason;
use crate::journal::Reader;
use lock::Hold;
use manifest::{Manifest, Place};

/// How long a write may wait for a sync that is under way, as both would wait for the disk.
const POSTPONED_MAX: Duration = Duration::from_secs(2);
/// Bytes that may wait for it.
const POSTPONED_BYTES_MAX: u64 = 32 << 20;
/// Which part of the time of the last sync the next one may be put off.
const GATHERED_PART: u32 = 2;
/// However long that took.
const GATHERED_MAX: Duration = Duration::from_millis(10);
/// How often a loop whose replies wait for another's sync looks by itself.
const SYNC_LOOK: Duration = Duration::from_millis(1);

/// Whether the append-only file is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// It is not.
    Off,
    /// It will be when its first base is there; what is written meanwhile is kept.
    Waiting,
    /// It is.
    On,
}

/// A file that is appended to.
pub struct Target {
    file: File,
    /// Its length.
    pub n_bytes: AtomicU64,
}

/// Bytes on their way to a file.
struct Segment {
    target: Arc<Target>,
    bytes: Vec<u8>,
}

/// What the journal has given, by file. A leaf lock, held for moments.
#[derive(Default)]
struct Stream {
    target: Option<Arc<Target>>,
    waiting: Vec<Segment>,
}

/// What is only touched by who writes. Held while the disk works, and so never asked for by who
/// holds shards.
#[derive(Default)]
pub struct Files {
    /// Where they are.
    pub place: Place,
    /// Which there are; `None` before the first look.
    pub manifest: Option<Manifest>,
    unwritten: Vec<Segment>,
    unsynced: Vec<Arc<Target>>,
    /// A sync of these has failed: what the disk holds of them is unknown, whatever later ones say,
    /// until a base makes up for them.
    suspects: Vec<Arc<Target>>,
    postponed_since: Option<Instant>,
    hold: Option<Hold>,
}

/// The last wait for the disk.
struct LastSync {
    ended_at: Instant,
    took: Duration,
    /// Connections that waited at its end: those that it was for, and those that had come meanwhile.
    n_waiting: usize,
}

/// See the top of the file.
pub struct Aof {
    reader: Arc<Reader>,
    phase: AtomicU8,
    stream: Mutex<Stream>,
    files: Mutex<Files>,
    /// Up to where the stream was given to the system.
    written: AtomicU64,
    /// Up to where it is on the disk.
    synced: AtomicU64,
    /// Somebody waits for the disk outside of the lock.
    is_syncing: AtomicBool,
    last_sync: Mutex<LastSync>,
    /// Connections of all loops whose replies wait for the disk.
    n_waiting: AtomicUsize,
    write_error: Mutex<Option<String>>,
    sync_error: Mutex<Option<String>>,
    is_failing: AtomicBool,
    /// Bytes of the files before the present one.
    pub n_bytes_before: AtomicU64,
    /// Bytes of all files after the last rewrite, or at the start.
    pub n_bytes_at_rewrite: AtomicU64,
    /// Writes that waited for a sync for too long.
    pub n_delayed: AtomicU64,
    /// DEBUG AOF-FLUSH-SLEEP: microseconds before each write.
    pub sleep_us: AtomicU64,
    bell: (Mutex<()>, Condvar),
}

impl Default for Aof {
    fn default() -> Aof {
        Aof {
            reader: Arc::new(Reader::new(usize::MAX)),
            phase: (Phase::Off as u8).into(),
            stream: Mutex::default(),
            files: Mutex::default(),
            written: 0.into(),
            synced: 0.into(),
            is_syncing: false.into(),
            last_sync: Mutex::new(LastSync {
                ended_at: Instant::now(),
                took: Duration::ZERO,
                n_waiting: 0,
            }),
            n_waiting: 0.into(),
            write_error: Mutex::default(),
            sync_error: Mutex::default(),
            is_failing: false.into(),
            n_bytes_before: 0.into(),
            n_bytes_at_rewrite: 0.into(),
            n_delayed: 0.into(),
            sleep_us: 0.into(),
            bell: Default::default(),
        }
    }
}

impl Target {
    /// Opens a new file; one of that name that nobody knows of is emptied.
    pub fn create(path: &std::path::Path) -> io::Result<Arc<Target>> {
        File::create(path)?;
        Target::open(path)
    }

    /// Opens a file to append to it.
    pub fn open(path: &std::path::Path) -> io::Result<Arc<Target>> {
        let file = File::options().create(true).append(true).open(path)?;
        let n_bytes = file.metadata()?.len().into();
        Ok(Arc::new(Target { file, n_bytes }))
    }

    /// Waits until the file is on the disk, if it is on one: a device need not be.
    pub fn sync(&self) -> io::Result<()> {
        match self.file.sync_data() {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => Ok(()),
            result => result,
        }
    }

    /// Appends all or nothing, as far as that can be had; how many bytes if it went wrong.
    fn append(&self, bytes: &[u8]) -> Result<(), (usize, io::Error)> {
        let mut n_done = 0;
        while n_done < bytes.len() {
            match (&self.file).write(&bytes[n_done..]) {
                Ok(n) => n_done += n,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let n_before = self.n_bytes.load(Relaxed);
                    if n_done > 0 && self.file.set_len(n_before).is_ok() {
                        n_done = 0; // no torn record is left
                    }
                    self.n_bytes.fetch_add(n_done as u64, Relaxed);
                    return Err((n_done, error));
                }
            }
        }
        self.n_bytes.fetch_add(n_done as u64, Relaxed);
        Ok(())
    }
}

impl Aof {
    /// Whether the stream is written down: replies wait for it.
    #[inline]
    pub fn is_fed(&self) -> bool {
        self.phase.load(Relaxed) != Phase::Off as u8
    }

    /// Whether it is written.
    pub fn phase(&self) -> Phase {
        match self.phase.load(SeqCst) {
            0 => Phase::Off,
            1 => Phase::Waiting,
            _ => Phase::On,
        }
    }

    /// Says whether it is written, and wakes the thread that looks after it.
    pub fn set_phase(&self, phase: Phase) {
        let _lock = self.bell.0.lock();
        self.phase.store(phase as u8, SeqCst);
        self.bell.1.notify_all();
    }

    /// Waits for the time to pass, or for ever while nothing is written.
    pub fn pause(&self, time: Duration) {
        let mut lock = self.bell.0.lock();
        match self.phase() {
            Phase::Off => self.bell.1.wait(&mut lock),
            _ => drop(self.bell.1.wait_for(&mut lock, time)),
        }
    }

    /// What takes the journal.
    pub fn reader(&self) -> &Arc<Reader> {
        &self.reader
    }

    /// The files. Waits for the disk: not to be called by who holds shards.
    pub fn files(&self) -> MutexGuard<'_, Files> {
        self.files.lock()
    }

    /// What is appended from here on goes into this file; what came before stays with the one
    /// before. At the cut of a rewrite, whose caller holds every shard.
    pub fn direct(&self, target: Option<Arc<Target>>) {
        let mut stream = self.stream.lock();
        take(&self.reader, &mut stream);
        stream.target = target;
        self.reader.begin_anew();
    }

    /// The file that is appended to.
    pub fn target(&self) -> Option<Arc<Target>> {
        self.stream.lock().target.clone()
    }

    /// Brings the stream to where `appendfsync` wants it before replies leave. Holding shards here
    /// would be wrong.
    #[inline]
    pub fn settle(&self, config: &Config) {
        if self.is_fed() {
            self.settle_up_to(self.reader.n_appended(), config);
        }
    }

    /// The place in the stream that replies wait for which are made now; `None` if they wait for nothing.
    #[inline]
    pub fn awaited(&self) -> Option<u64> {
        self.is_fed().then(|| self.reader.n_appended())
    }

    /// Whether replies wait for the disk.
    pub fn syncs_first(&self, config: &Config) -> bool {
        self.is_fed() && config.append_fsync() == FsyncPolicy::Always
    }

    /// Up to where the stream is on the disk.
    pub fn synced(&self) -> u64 {
        self.synced.load(SeqCst)
    }

    /// For one of several loops with replies that wait for the disk: brings the stream there, at least up
    /// to `end`; whether it has. It does not wait for another's sync, unless it `must`, nor begin one
    /// while clients that were served by the last are likely to be back at once: then the loop is to ask
    /// again after [`Aof::patience`], or when it is woken.
    pub fn sync_together(&self, end: u64, must: bool) -> bool {
        // What comes meanwhile has a limit.
        let is_urgent = must || self.n_waiting_bytes() > POSTPONED_BYTES_MAX;
        let files = match is_urgent {
            true => Some(self.files.lock()),
            false if self.gathers_for().is_some() => None,
            false => self.files.try_lock(),
        };
        let Some(mut files) = files else {
            return false;
        };
        if self.synced() < end {
            self.drain_and_sync(&mut files);
        }
        true
    }

    /// Notes how many connections of a loop wait for the disk; `n_noted` is what it said the last time.
    pub fn note_waiting(&self, n_waiting: usize, n_noted: &mut usize) {
        if n_waiting != *n_noted {
            // It wraps where the loop's part becomes less.
            self.n_waiting
                .fetch_add(n_waiting.wrapping_sub(*n_noted), SeqCst);
            *n_noted = n_waiting;
        }
    }

    /// Whether connections of any loop wait for the disk.
    pub fn has_waiting(&self) -> bool {
        self.n_waiting.load(SeqCst) > 0
    }

    /// How much longer the next sync waits for clients that the last one has served: fewer syncs for the
    /// same writes. Only where the disk is slow, and not for long, since who does not come back costs the
    /// others that.
    fn gathers_for(&self) -> Option<Duration> {
        let last = self.last_sync.lock();
        if self.n_waiting.load(SeqCst) >= last.n_waiting {
            return None;
        }
        let window = (last.took / GATHERED_PART).min(GATHERED_MAX);
        let rest = window.checked_sub(last.ended_at.elapsed())?;
        (window >= SYNC_LOOK).then_some(rest)
    }

    /// After what time a loop whose replies wait is to look again, if nobody wakes it.
    pub fn patience(&self) -> Duration {
        match self.gathers_for() {
            Some(rest) => rest,
            None if self.files.is_locked() => SYNC_LOOK,
            None => Duration::ZERO,
        }
    }

    /// With `always` nobody may hear of what cannot be synced.
    fn drain_and_sync(&self, files: &mut Files) {
        if let Err(error) = self.drain(files) {
            give_up("write to", &error);
        }
        if let Err(error) = self.sync(files) {
            give_up("sync", &error);
        }
    }

    #[cold]
    fn settle_up_to(&self, end: u64, config: &Config) {
        let syncs = config.append_fsync() == FsyncPolicy::Always;
        let reached = if syncs { &self.synced } else { &self.written };
        if reached.load(SeqCst) >= end {
            return;
        }
        if !syncs && self.may_postpone(end) {
            return;
        }
        let mut files = self.files.lock();
        if reached.load(SeqCst) >= end {
            return; // somebody did it for us
        }
        match syncs {
            true => self.drain_and_sync(&mut files),
            false => drop(self.drain(&mut files)), // it has noted the error
        }
    }

    /// Whether a write had better wait for the sync under way.
    fn may_postpone(&self, end: u64) -> bool {
        if !self.is_syncing.load(SeqCst) {
            return false;
        }
        if end - self.written.load(SeqCst).min(end) > POSTPONED_BYTES_MAX {
            return false;
        }
        let Some(mut files) = self.files.try_lock() else {
            return false;
        };
        let since = *files.postponed_since.get_or_insert_with(Instant::now);
        let may = since.elapsed() < POSTPONED_MAX;
        if !may {
            self.n_delayed.fetch_add(1, Relaxed);
            log::info!(
                "Asynchronous AOF fsync is taking too long (disk is busy?). Writing the AOF buffer \
                 without waiting for fsync to complete, this may slow down the server."
            );
        }
        may
    }

    /// Gives all there is to the system. The error is noted, and kept is what was not taken.
    pub fn drain(&self, files: &mut Files) -> io::Result<()> {
        let sleep_us = self.sleep_us.load(Relaxed);
        if sleep_us > 0 {
            std::thread::sleep(Duration::from_micros(sleep_us));
        }
        let end = {
            let mut stream = self.stream.lock();
            let end = take(&self.reader, &mut stream);
            files.unwritten.append(&mut stream.waiting);
            end
        };
        let result = files.write();
        match &result {
            Ok(()) => {
                self.written.fetch_max(end, SeqCst);
                if self.note(&self.write_error, None) {
                    log::warn!("AOF write error looks solved. The server can write again.");
                }
            }
            Err(error) => {
                if !self.note(&self.write_error, Some(reason(error))) {
                    log::warn!("Error writing to the AOF file: {}", reason(error));
                }
            }
        }
        result
    }

    /// Waits until what was written is on the disk.
    pub fn sync(&self, files: &mut Files) -> io::Result<()> {
        let (end, started_at) = (self.written.load(SeqCst), Instant::now());
        files.sync()?;
        self.synced.fetch_max(end, SeqCst);
        self.note_sync(started_at);
        Ok(())
    }

    fn note_sync(&self, started_at: Instant) {
        let ended_at = Instant::now();
        *self.last_sync.lock() = LastSync {
            ended_at,
            took: ended_at - started_at,
            n_waiting: self.n_waiting.load(SeqCst),
        };
    }

    /// The same without the lock, so that others may go on; what could not be synced is tried again.
    pub fn sync_aside(&self) {
        let with_length = |target: &Arc<Target>| (target.clone(), target.n_bytes.load(Relaxed));
        let (targets, end) = {
            let files = self.files.lock();
            self.is_syncing.store(true, SeqCst);
            let targets: Vec<_> = files.unsynced.iter().map(with_length).collect();
            (targets, self.written.load(SeqCst))
        };
        let started_at = Instant::now();
        let failed = targets.iter().find_map(|(target, _)| {
            let error = target.sync().err()?;
            Some((target.clone(), error))
        });
        self.note_sync(started_at);
        self.is_syncing.store(false, SeqCst);
        match failed {
            None => {
                self.synced.fetch_max(end, SeqCst);
                // What was written to meanwhile stays.
                let is_done = |one: &Arc<Target>| {
                    let now = with_length(one);
                    targets
                        .iter()
                        .any(|(target, n_bytes)| Arc::ptr_eq(target, &now.0) && *n_bytes == now.1)
                };
                self.files.lock().unsynced.retain(|one| !is_done(one));
            }
            Some((target, error)) => {
                self.files.lock().suspects.push(target);
                if !self.note(&self.sync_error, Some(reason(&error))) {
                    log::warn!("Fail to fsync the AOF file: {}", reason(&error));
                }
            }
        }
    }

    /// Whether only another base can make what was written durable: a sync has failed.
    pub fn needs_base(&self) -> bool {
        self.is_failing() && self.files.lock().need_base()
    }

    /// Notes an error, or that there is none; whether there was one before.
    fn note(&self, place: &Mutex<Option<String>>, error: Option<String>) -> bool {
        if error.is_none() && !self.is_failing.load(Relaxed) {
            return false;
        }
        let before = std::mem::replace(&mut *place.lock(), error);
        let is_failing = self.write_error.lock().is_some() || self.sync_error.lock().is_some();
        self.is_failing.store(is_failing, SeqCst);
        before.is_some()
    }

    /// Whether something was written that may not be on the disk.
    pub fn is_unsynced(&self) -> bool {
        self.synced.load(SeqCst) < self.reader.n_appended()
    }

    /// When the disk was waited for last.
    pub fn since_sync(&self) -> Duration {
        self.last_sync.lock().ended_at.elapsed()
    }

    /// Whether the file cannot be written.
    #[inline]
    pub fn is_failing(&self) -> bool {
        self.is_failing.load(Relaxed)
    }

    /// Whether the last write went well, as INFO tells.
    pub fn is_written(&self) -> bool {
        self.write_error.lock().is_none()
    }

    /// Whether the stream is on the disk up to here, as part of files that make up everything. With
    /// `always` it is by the time that anybody hears of it, as replies wait for it.
    pub fn is_durable(&self, end: u64, config: &Config) -> bool {
        let is_reached = self.synced.load(SeqCst) >= end;
        self.phase() == Phase::On && (is_reached || config.append_fsync() == FsyncPolicy::Always)
    }

    /// Whether somebody waits for the disk.
    pub fn is_syncing(&self) -> bool {
        self.is_syncing.load(Relaxed)
    }

    /// Why it cannot be written.
    pub fn failure(&self) -> String {
        let write = self.write_error.lock().clone();
        let error = write.or_else(|| self.sync_error.lock().clone());
        error.unwrap_or_default()
    }

    /// Forgets what was to go into earlier files: it is in the base by now.
    pub fn forget_past(&self, files: &mut Files) {
        let mut stream = self.stream.lock();
        let Some(target) = stream.target.clone() else {
            return;
        };
        files.unwritten.append(&mut stream.waiting);
        files
            .unwritten
            .retain(|one| Arc::ptr_eq(&one.target, &target));
        files.unsynced.retain(|one| Arc::ptr_eq(one, &target));
        files.suspects.retain(|one| Arc::ptr_eq(one, &target));
        if files.suspects.is_empty() && self.note(&self.sync_error, None) {
            log::warn!("AOF fsync error looks solved. The server can write again.");
        }
    }

    /// Forgets errors, files and what was not written: it is off.
    pub fn forget(&self, files: &mut Files) {
        files.unwritten.clear();
        files.unsynced.clear();
        files.suspects.clear();
        self.note(&self.write_error, None);
        self.note(&self.sync_error, None);
        let end = self.reader.n_appended();
        self.written.fetch_max(end, SeqCst);
        self.synced.fetch_max(end, SeqCst);
    }

    /// Bytes that were not given to the system yet.
    pub fn n_waiting_bytes(&self) -> u64 {
        let end = self.reader.n_appended();
        end.saturating_sub(self.written.load(SeqCst))
    }
}

impl Files {
    /// See [`Aof::needs_base`].
    pub fn need_base(&self) -> bool {
        !self.suspects.is_empty()
    }

    fn sync(&mut self) -> io::Result<()> {
        if !self.suspects.is_empty() {
            return Err(io::Error::other("an earlier fsync has failed"));
        }
        for target in &self.unsynced {
            if let Err(error) = target.sync() {
                self.suspects.push(target.clone());
                return Err(error);
            }
        }
        self.unsynced.clear();
        Ok(())
    }

    /// Keeps others from the files; whether they were free to them before. The error is for the
    /// operator.
    pub fn hold(&mut self, patience: Duration) -> Result<bool, String> {
        let is_new = self.hold.is_none();
        if is_new {
            self.hold = Some(Hold::take(&self.place, patience)?);
        }
        Ok(is_new)
    }

    /// Lets others have the files.
    pub fn let_go(&mut self) {
        self.hold = None;
    }

    /// Where they are, and the manifest, if other servers are kept from them.
    pub fn held_manifest(&self) -> Option<(Place, Manifest)> {
        let manifest = self.hold.as_ref().and(self.manifest.as_ref())?;
        Some((self.place.clone(), manifest.clone()))
    }

    fn write(&mut self) -> io::Result<()> {
        self.postponed_since = None;
        while let Some(segment) = self.unwritten.first_mut() {
            let target = segment.target.clone();
            if !self.unsynced.iter().any(|one| Arc::ptr_eq(one, &target)) {
                self.sync()?; // a file must not get to the disk before the one that precedes it
                self.unsynced.push(target);
            }
            let Some(segment) = self.unwritten.first_mut() else {
                return Ok(());
            };
            if let Err((n_done, error)) = segment.target.append(&segment.bytes) {
                segment.bytes.drain(..n_done);
                return Err(error);
            }
            self.unwritten.remove(0);
        }
        Ok(())
    }
}

/// Moves what the journal has given to the file that it is for; where the stream ends with that.
fn take(reader: &Reader, stream: &mut Stream) -> u64 {
    let (end, bytes) = (reader.n_appended(), reader.take().unwrap_or_default());
    if let Some(target) = stream.target.clone().filter(|_| !bytes.is_empty()) {
        stream.waiting.push(Segment { target, bytes });
    }
    end
}

/// What cannot be made durable must not be answered, and nobody would wait for the disk to recover.
fn give_up(what: &str, error: &io::Error) -> ! {
    log::error!(
        "Can't {what} the AOF file: {}. With appendfsync 'always' nothing may be answered that is \
         not on the disk. Exiting...",
        reason(error)
    );
    std::process::exit(1);
}
