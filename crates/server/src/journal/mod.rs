//! The journal: one ordered stream of what was written, as commands.
//!
//! A unit is what one outermost command came to: a single command, or several that must stay
//! together, which stand between MULTI and EXEC. Commands that waited for what it did follow it, each a unit. Units are appended while the shard locks are held,
//! so for every key their order is the order of execution. Without a reader nothing is recorded. Replicas
//! share one reader, the [`backlog`].
//!
//! ```text
//!   *2 $6 SELECT $1 0    *3 $3 SET $1 k $1 v    *1 $5 MULTI  ...  *1 $4 EXEC
//! ```
//!
//! A SELECT that a block needs is the first inside it, as Redis puts it.

pub mod backlog;
pub mod unit;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use crate::io::process::unix_time;
use backlog::Backlog;
use unit::{Unit, stamp};

/// Bytes for which room is made when what was appended is taken.
const ROOM_BYTES_MAX: usize = 128 << 10;

/// See the top of the file.
#[derive(Default)]
pub struct Journal {
    has_readers: AtomicBool,
    readers: Mutex<Vec<Arc<Reader>>>,
    /// What replicas read.
    pub backlog: Backlog,
}

/// Takes the journal from where it was attached, until it is detached or dropped.
pub struct Reader {
    inner: Mutex<Unread>,
    /// Bytes that were ever appended.
    n_appended: AtomicU64,
    /// Units bear the time at which they were appended: `#TS:seconds`.
    pub is_stamped: AtomicBool,
    /// Commands stand behind a line with their checksum, see [`unit::write_command`].
    pub is_summed: AtomicBool,
}

struct Unread {
    bytes: Vec<u8>,
    bytes_max: usize,
    database: Option<u16>,
    stamp_s: u64,
    is_summed: bool,
    is_behind: bool,
}

impl Journal {
    /// Whether anybody reads.
    #[inline]
    pub fn has_readers(&self) -> bool {
        self.has_readers.load(Ordering::Relaxed) || self.backlog.is_led()
    }

    /// Attaches a reader that holds at most `bytes_max` unread bytes. For a stream that fits a
    /// snapshot the caller holds every shard.
    pub fn attach(&self, bytes_max: usize) -> Arc<Reader> {
        let reader = Arc::new(Reader::new(bytes_max));
        self.connect(&reader);
        reader
    }

    /// Attaches a reader that is there already, once.
    pub fn connect(&self, reader: &Arc<Reader>) {
        let mut readers = self.readers.lock();
        readers.retain(|other| !Arc::ptr_eq(other, reader));
        reader.begin_anew();
        readers.push(reader.clone());
        self.has_readers.store(true, Ordering::Relaxed);
    }

    /// Appends nothing more to a reader.
    pub fn disconnect(&self, reader: &Arc<Reader>) {
        self.retain(&mut self.readers.lock(), |other| !Arc::ptr_eq(other, reader));
    }

    #[cold]
    fn retain(&self, readers: &mut Vec<Arc<Reader>>, is_kept: impl Fn(&Arc<Reader>) -> bool) {
        readers.retain(is_kept);
        self.has_readers
            .store(!readers.is_empty(), Ordering::Relaxed);
    }

    /// Appends a unit. Called with the locks of everything it changed.
    pub fn append(&self, unit: &Unit) {
        if unit.is_for_all() {
            return self.append_each(unit, unit);
        }
        let for_file = unit.part(|audience| audience.file);
        self.append_each(&for_file, &unit.part(|audience| audience.replicas));
    }

    #[inline]
    fn append_each(&self, for_file: &Unit, for_replicas: &Unit) {
        let mut readers = self.readers.lock();
        if !for_file.is_empty() {
            let mut are_all_kept = true;
            for reader in readers.iter() {
                are_all_kept &= !is_dropped(reader) && reader.append(for_file);
            }
            if !are_all_kept {
                self.retain(&mut readers, |reader| !is_dropped(reader) && !reader.is_behind());
            }
        }
        if !for_replicas.is_empty() {
            self.backlog.append(for_replicas); // in the same order, under the same lock
        }
    }

    /// Appends a unit for replicas alone.
    pub fn append_for_replicas(&self, unit: &Unit) {
        if self.backlog.is_led() {
            let _order = self.readers.lock();
            self.backlog.append(unit);
        }
    }
}

impl Unread {
    /// False if the reader did not keep up: it gets nothing more.
    fn append(&mut self, unit: &Unit) -> bool {
        unit.write(&mut self.bytes, &mut self.database, self.is_summed);
        self.is_behind = self.bytes.len() > self.bytes_max;
        if self.is_behind {
            self.bytes = Vec::new();
        }
        !self.is_behind
    }

    fn stamp(&mut self) {
        let now_s = unix_time().as_secs();
        if self.stamp_s != now_s {
            self.stamp_s = now_s;
            self.bytes.extend(stamp(now_s).bytes());
        }
    }
}

impl Reader {
    /// One that is not attached and holds at most `bytes_max` unread bytes.
    pub fn new(bytes_max: usize) -> Reader {
        Reader {
            inner: Mutex::new(Unread {
                bytes: Vec::new(),
                bytes_max,
                database: None,
                stamp_s: 0,
                is_summed: false,
                is_behind: false,
            }),
            n_appended: 0.into(),
            is_stamped: false.into(),
            is_summed: false.into(),
        }
    }

    fn append(&self, unit: &Unit) -> bool {
        let mut inner = self.inner.lock();
        let n_before = inner.bytes.len();
        if self.is_stamped.load(Ordering::Relaxed) {
            inner.stamp();
        }
        inner.is_summed = self.is_summed.load(Ordering::Relaxed);
        let is_kept = inner.append(unit);
        let n_new = inner.bytes.len().saturating_sub(n_before);
        // Only changed here, under the lock.
        let n_before = self.n_appended.load(Ordering::Relaxed);
        self.n_appended
            .store(n_before + n_new as u64, Ordering::Release);
        is_kept
    }

    /// Whether it did not keep up: it gets nothing more.
    fn is_behind(&self) -> bool {
        self.inner.lock().is_behind
    }

    /// Has the stream name its database again: what follows stands in a file of its own.
    pub fn begin_anew(&self) {
        let mut inner = self.inner.lock();
        (inner.database, inner.stamp_s) = (None, 0);
    }

    /// Bytes that were ever appended: the end of the stream.
    #[inline]
    pub fn n_appended(&self) -> u64 {
        self.n_appended.load(Ordering::Acquire)
    }

    /// Takes what was appended since the last time; `None` if the limit was passed, after which
    /// the stream has a gap and the reader must start anew.
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut inner = self.inner.lock();
        let room = Vec::with_capacity(inner.bytes.len().min(ROOM_BYTES_MAX)); // as much may come again
        (!inner.is_behind).then(|| std::mem::replace(&mut inner.bytes, room))
    }
}

/// Whether only the journal still has it.
fn is_dropped(reader: &Arc<Reader>) -> bool {
    Arc::strong_count(reader) == 1
}
