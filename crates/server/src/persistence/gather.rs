//! Gathers what a walk and the writers that help it save, in an order that a file can have.
//!
//! ```text
//!   out     keys, whole                               taken by the saver, written to the file
//!           one long collection, piece by piece
//!   held    keys that were saved meanwhile            behind it when it ends
//!   open    other long collections that were begun    head and the pieces so far
//! ```
//!
//! Nothing here blocks: bytes pile up if the disk is slower than the writers, up to a limit at which the
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
const WAITING_BYTES_MAX: usize = 2 << 30;

/// What is said of a key besides its value.
#[derive(Clone, Copy, Debug)]
pub struct Manner {
    /// When, or how often, a key was used is saved, as it is at this moment.
    pub uses: Option<Moment>,
    /// Long strings are packed.
    pub packs: bool,
}

impl Manner {
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

/// Keys of several databases, one behind the other.
#[derive(Default)]
struct Stretch {
    writer: Writer,
    database: Option<u16>,
}

impl Stretch {
    fn new(packs: bool) -> Stretch {
        Stretch {
            writer: Writer::new(packs),
            database: None,
        }
    }

    fn select(&mut self, database: u16) -> &mut Writer {
        if self.database != Some(database) {
            self.database = Some(database);
            file::select(&mut self.writer, database);
        }
        &mut self.writer
    }
}

/// A long collection that was begun.
struct Open {
    database: u16,
    writer: Writer,
    first_ms: Option<u64>,
}

struct Gathered {
    out: Stretch,
    held: Stretch,
    /// The collection that is written to `out`, and its first deadline.
    streamed: Option<(u64, Option<u64>)>,
    open: HashMap<u64, Open>,
    n_keys: u64,
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
                out: Stretch::new(manner.packs),
                held: Stretch::new(manner.packs),
                streamed: None,
                open: HashMap::new(),
                n_keys: 0,
            }),
        }
    }

    /// Takes what is ready, if it is at least so many bytes.
    pub fn take(&self, bytes_min: usize) -> Option<Vec<u8>> {
        let mut inner = self.inner.lock();
        let bytes = &mut inner.out.writer.out;
        (!bytes.is_empty() && bytes.len() >= bytes_min).then(|| std::mem::take(bytes))
    }

    /// Keys that were saved so far.
    pub fn n_keys(&self) -> u64 {
        self.inner.lock().n_keys
    }

    /// Whether more waits for the disk than may.
    pub fn is_over(&self) -> bool {
        let inner = self.inner.lock();
        inner.out.writer.out.len() + inner.held.writer.out.len() > WAITING_BYTES_MAX
    }
}

impl Gathered {
    /// Where a whole key goes.
    fn whole(&mut self, database: u16) -> &mut Writer {
        self.n_keys += 1;
        match self.streamed {
            None => self.out.select(database),
            Some(_) => self.held.select(database),
        }
    }

    /// Writes a collection to `out` from now on.
    fn stream(&mut self, id: u64) {
        if let Some(open) = self.open.remove(&id) {
            self.n_keys += 1;
            self.out.select(open.database).raw(&open.writer.out);
            self.streamed = Some((id, open.first_ms));
        }
    }
}

impl Sink for Gather {
    fn save(&self, database: u16, entry: &Entry) {
        let mut inner = self.inner.lock();
        write_entry(inner.whole(database), self.manner, entry);
    }

    fn begin(&self, id: u64, database: u16, entry: &Entry) {
        let mut writer = Writer::new(self.manner.packs);
        let value = (entry.encoding(), entry.payload());
        file::key(&mut writer, self.manner.attributes(entry), entry.key(), value);
        if let Payload::Big(collection) = value.1 {
            save::open(&mut writer, collection);
        }
        let first_ms = HashRef::new(value.0, value.1).and_then(HashRef::next_deadline);
        let open = Open {
            database,
            writer,
            first_ms,
        };
        self.inner.lock().open.insert(id, open);
    }

    fn piece(&self, id: u64, piece: Piece<'_>) {
        let inner = &mut *self.inner.lock();
        if inner.streamed.is_none() {
            inner.stream(id);
        }
        match inner.streamed {
            Some((streamed, first_ms)) if streamed == id => {
                save::piece(&mut inner.out.writer, first_ms, piece);
            }
            _ => {
                if let Some(open) = inner.open.get_mut(&id) {
                    save::piece(&mut open.writer, open.first_ms, piece);
                }
            }
        }
    }

    fn end(&self, id: u64) {
        let inner = &mut *self.inner.lock();
        if inner.streamed.is_some_and(|(streamed, _)| streamed == id) {
            inner.streamed = None;
            let held = std::mem::replace(&mut inner.held, Stretch::new(self.manner.packs));
            inner.out.writer.raw(&held.writer.out);
            inner.out.database = held.database.or(inner.out.database);
        } else if let Some(open) = inner.open.remove(&id) {
            inner.whole(open.database).raw(&open.writer.out);
        }
    }
}
