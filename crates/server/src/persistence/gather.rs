//! Gathers what a walk and the writers that help it save, in an order that a file can have.
//!
//! ```text
//!   out     keys, whole                               taken by the saver, written to the file
//!           one long collection, piece by piece
//!   held    keys that were saved meanwhile            behind it when it ends
//!   open    other long collections that were begun    head and the pieces so far
//! ```
//!
//! Under a shard's lock bytes are only copied; the saver packs the strings among them when it takes
//! them. Nothing here blocks: bytes pile up if the disk is slower than the writers, up to a limit at which the
//! save is given up.

use std::collections::HashMap;

use datatypes::encoding::table::Record;
use datatypes::hash::HashRef;
use datatypes::home::{Payload, Piece};
use keyspace::access::Moment;
use keyspace::entry::Entry;
use keyspace::snapshot::Sink;
use parking_lot::Mutex;
use rdb::file::{self, Attributes};
use rdb::save;
use rdb::write::Writer;

/// Bytes that may wait for the disk.
pub const WAITING_BYTES_MAX: usize = 2 << 30;

/// What is said of a key besides its value.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// When, or how often, a key was used is saved, as it is at this moment.
    pub uses: Option<Moment>,
    /// Long strings are packed.
    pub packs: bool,
    /// Hashes whose fields have deadlines are written as Valkey writes them.
    pub is_valkeys: bool,
}

impl Manner {
    fn writer(self) -> Writer {
        Writer::deferring(self.packs).for_valkey(self.is_valkeys)
    }

    /// What is said of this key.
    pub fn attributes(self, entry: &Entry) -> Attributes {
        let (counted, timed) = (self.uses.filter(Moment::counts), self.uses);
        Attributes {
            deadline_ms: entry.deadline_ms(),
            idle_s: timed
                .filter(|now| !now.counts())
                .map(|now| now.idle_s(entry).into()),
            frequency: counted.map(|now| now.counter(entry)),
        }
    }
}

/// Writes a key and its value.
pub fn write_entry(writer: &mut Writer, manner: Manner, entry: &Entry) {
    let value = (entry.encoding(), entry.payload());
    file::key(writer, manner.attributes(entry), entry.key(), value);
    save::value(writer, value.0, value.1);
}

/// Bytes from which on what was written is put aside, so that nothing large grows under a lock.
const SEGMENT_BYTES: usize = 64 << 10;

/// Keys of several databases, one behind the other.
struct Stretch {
    segments: Vec<Writer>,
    /// What comes behind them.
    writer: Writer,
    manner: Manner,
    database: Option<u16>,
    n_bytes: usize,
}

impl Stretch {
    fn new(manner: Manner) -> Stretch {
        Stretch {
            segments: Vec::new(),
            writer: manner.writer(),
            manner,
            database: None,
            n_bytes: 0,
        }
    }

    fn select(&mut self, database: u16) -> &mut Writer {
        if self.database != Some(database) {
            self.database = Some(database);
            file::select(&mut self.writer, database);
        }
        &mut self.writer
    }

    /// Makes a segment of what was written.
    fn seal(&mut self) {
        if !self.writer.out.is_empty() {
            self.n_bytes += self.writer.out.len();
            let next = self.manner.writer();
            self.segments
                .push(std::mem::replace(&mut self.writer, next));
        }
    }

    fn seal_if_long(&mut self) {
        if self.writer.out.len() >= SEGMENT_BYTES {
            self.seal();
        }
    }

    /// Bytes that wait here.
    fn waiting(&self) -> usize {
        self.n_bytes + self.writer.out.len()
    }

    fn take(&mut self) -> Vec<Writer> {
        self.seal();
        self.n_bytes = 0;
        std::mem::take(&mut self.segments)
    }

    /// Puts another stretch behind this one.
    fn append(&mut self, mut other: Stretch) {
        self.seal();
        self.n_bytes += other.waiting();
        self.segments.append(&mut other.take());
        self.database = other.database.or(self.database);
    }
}

/// A long collection that was begun.
struct Open {
    database: u16,
    writer: Writer,
    first_ms: Option<u64>,
    /// What stands behind its pieces.
    foot: Writer,
}

/// The collection that is written to `out`.
struct Streamed {
    id: u64,
    first_ms: Option<u64>,
    foot: Writer,
}

struct Gathered {
    out: Stretch,
    held: Stretch,
    streamed: Option<Streamed>,
    open: HashMap<u64, Open>,
    /// Bytes of `open`.
    open_bytes: usize,
    n_keys: u64,
}

/// What gathers, in one form of file or the other.
pub trait Gathering: Sink {
    /// Takes what is ready, if it is at least so many bytes.
    fn take(&self, bytes_min: usize) -> Vec<Writer>;
    /// Keys that were saved so far.
    fn n_keys(&self) -> u64;
    /// Whether more waits for the disk than may.
    fn is_over(&self) -> bool;
}

/// See the top of the file.
pub struct Gather {
    manner: Manner,
    inner: Mutex<Gathered>,
}

impl Gather {
    /// Nothing yet.
    pub fn new(manner: Manner) -> Gather {
        Gather {
            manner,
            inner: Mutex::new(Gathered {
                out: Stretch::new(manner),
                held: Stretch::new(manner),
                streamed: None,
                open: HashMap::new(),
                open_bytes: 0,
                n_keys: 0,
            }),
        }
    }
}

impl Gathering for Gather {
    fn take(&self, bytes_min: usize) -> Vec<Writer> {
        let mut inner = self.inner.lock();
        match inner.out.waiting() >= bytes_min {
            true => inner.out.take(),
            false => Vec::new(),
        }
    }

    fn n_keys(&self) -> u64 {
        self.inner.lock().n_keys
    }

    fn is_over(&self) -> bool {
        self.inner.lock().waiting() > WAITING_BYTES_MAX
    }
}

impl Gathered {
    /// Bytes that wait for the disk.
    fn waiting(&self) -> usize {
        self.out.waiting() + self.held.waiting() + self.open_bytes
    }

    /// Takes a collection out of those that were begun.
    fn close(&mut self, id: u64) -> Option<Open> {
        let open = self.open.remove(&id)?;
        self.open_bytes -= open.writer.out.len() + open.foot.out.len();
        Some(open)
    }

    /// Where a whole key goes.
    fn whole(&mut self) -> &mut Stretch {
        self.n_keys += 1;
        match self.streamed {
            None => &mut self.out,
            Some(_) => &mut self.held,
        }
    }

    /// Writes a collection to `out` from now on.
    fn stream(&mut self, id: u64) {
        if let Some(open) = self.close(id) {
            self.n_keys += 1;
            self.out.select(open.database).append(&open.writer);
            self.streamed = Some(Streamed {
                id,
                first_ms: open.first_ms,
                foot: open.foot,
            });
        }
    }
}

impl Sink for Gather {
    fn save(&self, database: u16, entry: &Entry) {
        let mut inner = self.inner.lock();
        let stretch = inner.whole();
        write_entry(stretch.select(database), self.manner, entry);
        stretch.seal_if_long();
    }

    fn begin(&self, id: u64, database: u16, entry: &Entry) {
        let mut writer = self.manner.writer();
        let value = (entry.encoding(), entry.payload());
        file::key(&mut writer, self.manner.attributes(entry), entry.key(), value);
        let mut foot = self.manner.writer();
        if let Payload::Big(collection) = value.1 {
            save::open(&mut writer, collection);
            save::close(&mut foot, collection);
        }
        let first_ms = HashRef::new(value.0, value.1).and_then(HashRef::next_deadline);
        let open = Open {
            database,
            writer,
            first_ms,
            foot,
        };
        let inner = &mut *self.inner.lock();
        inner.open_bytes += open.writer.out.len() + open.foot.out.len();
        inner.open.insert(id, open);
    }

    fn piece(&self, id: u64, piece: Piece<'_>) {
        let inner = &mut *self.inner.lock();
        if inner.streamed.is_none() {
            inner.stream(id);
        }
        match &inner.streamed {
            Some(streamed) if streamed.id == id => {
                save::piece(&mut inner.out.writer, streamed.first_ms, piece);
                inner.out.seal_if_long();
            }
            _ => {
                if let Some(open) = inner.open.get_mut(&id) {
                    let before = open.writer.out.len();
                    save::piece(&mut open.writer, open.first_ms, piece);
                    inner.open_bytes += open.writer.out.len() - before;
                }
            }
        }
    }

    fn end(&self, id: u64) {
        let inner = &mut *self.inner.lock();
        if let Some(streamed) = inner.streamed.take_if(|streamed| streamed.id == id) {
            inner.out.writer.append(&streamed.foot);
            let held = std::mem::replace(&mut inner.held, Stretch::new(self.manner));
            inner.out.append(held);
        } else if let Some(open) = inner.close(id) {
            let writer = inner.whole().select(open.database);
            writer.append(&open.writer);
            writer.append(&open.foot);
        }
    }
}
