//! Gathers what a walk and the writers that help it save, in an order that a file can have.
//!
//! ```text
//!   out     keys, whole                               taken by the saver, written to the file
//!           one long collection, piece by piece
//!           long texts as they are, which the saver packs: nobody waits for that under a lock
//!   held    keys that were saved meanwhile            behind it when it ends
//!   open    other long collections that were begun    head and the pieces so far
//! ```
//!
//! Nothing here blocks: bytes pile up if the disk is slower than the writers, up to a limit at which the
//! save is given up.

use std::collections::HashMap;

use datatypes::encoding::table::Record;
use datatypes::hash::HashRef;
use datatypes::home::{Encoding, Payload, Piece};
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
        Writer::of_form(self.packs, self.is_valkeys)
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

/// Bytes on their way to the file.
pub enum Segment {
    /// As they stand there.
    Ready(Vec<u8>),
    /// A text that is to be written as a string.
    Text(Vec<u8>),
}

impl Segment {
    /// The bytes that the file gets.
    pub fn into_bytes(self, packs: bool) -> Vec<u8> {
        match self {
            Segment::Ready(bytes) => bytes,
            Segment::Text(text) => {
                let mut writer = Writer::new(packs);
                writer.string(&text);
                writer.out
            }
        }
    }
}

/// Texts from this many bytes on are copied under the lock and packed outside.
const LONG_TEXT_BYTES: usize = 16 << 10;

/// Keys of several databases, one behind the other.
struct Stretch {
    segments: Vec<Segment>,
    /// What comes behind them.
    writer: Writer,
    database: Option<u16>,
    n_bytes: usize,
}

impl Stretch {
    fn new(manner: Manner) -> Stretch {
        Stretch {
            segments: Vec::new(),
            writer: manner.writer(),
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

    /// A key and its value.
    fn entry(&mut self, database: u16, manner: Manner, entry: &Entry) {
        let value = (entry.encoding(), entry.payload());
        match value {
            (Encoding::Raw | Encoding::Edited, Payload::Blob(text))
                if text.len() >= LONG_TEXT_BYTES =>
            {
                let writer = self.select(database);
                file::key(writer, manner.attributes(entry), entry.key(), value);
                self.text(text);
            }
            _ => write_entry(self.select(database), manner, entry),
        }
    }

    /// A text that is packed when nobody waits for a lock.
    fn text(&mut self, text: &[u8]) {
        self.seal();
        self.n_bytes += text.len();
        self.segments.push(Segment::Text(text.to_vec()));
    }

    /// Makes a segment of what was written.
    fn seal(&mut self) {
        if !self.writer.out.is_empty() {
            self.n_bytes += self.writer.out.len();
            let bytes = std::mem::take(&mut self.writer.out);
            self.segments.push(Segment::Ready(bytes));
        }
    }

    /// Bytes that wait here.
    fn waiting(&self) -> usize {
        self.n_bytes + self.writer.out.len()
    }

    fn take(&mut self) -> Vec<Segment> {
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
    foot: Vec<u8>,
}

/// The collection that is written to `out`.
struct Streamed {
    id: u64,
    first_ms: Option<u64>,
    foot: Vec<u8>,
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
    fn take(&self, bytes_min: usize) -> Vec<Segment>;
    /// Whether long strings are packed.
    fn packs(&self) -> bool;
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
    fn take(&self, bytes_min: usize) -> Vec<Segment> {
        let mut inner = self.inner.lock();
        match inner.out.waiting() >= bytes_min {
            true => inner.out.take(),
            false => Vec::new(),
        }
    }

    fn packs(&self) -> bool {
        self.manner.packs
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
        self.open_bytes -= open.writer.out.len() + open.foot.len();
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
            self.out.select(open.database).raw(&open.writer.out);
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
        inner.whole().entry(database, self.manner, entry);
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
            foot: foot.out,
        };
        let inner = &mut *self.inner.lock();
        inner.open_bytes += open.writer.out.len() + open.foot.len();
        inner.open.insert(id, open);
    }

    fn piece(&self, id: u64, piece: Piece<'_>) {
        let inner = &mut *self.inner.lock();
        if inner.streamed.is_none() {
            inner.stream(id);
        }
        match &inner.streamed {
            Some(streamed) if streamed.id == id => match piece {
                Piece::Block(base, pack) => {
                    inner.out.writer.string(&base.to_bytes());
                    inner.out.text(pack);
                }
                piece => save::piece(&mut inner.out.writer, streamed.first_ms, piece),
            },
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
            inner.out.writer.raw(&streamed.foot);
            let held = std::mem::replace(&mut inner.held, Stretch::new(self.manner));
            inner.out.append(held);
        } else if let Some(open) = inner.close(id) {
            let writer = inner.whole().select(open.database);
            writer.raw(&open.writer.out);
            writer.raw(&open.foot);
        }
    }
}
