//! The data of a moment as the commands that make it: the base of an append-only file with
//! `aof-use-rdb-preamble no`.
//!
//! ```text
//!   whole keys     RPUSH key a b ..           up to 64 items in a command
//!                  RPUSH key c d ..
//!                  PEXPIREAT key ms
//!   collections    as their pieces come, other keys between them: unlike the file of a snapshot,
//!   in pieces      commands need no order among keys
//! ```
//!
//! Nothing runs out while commands are loaded, so it does not matter when a deadline is named. What
//! only a snapshot can say is not said: when and how often keys were used, and how many ids the producers
//! of a stream gave that were forgotten since.

use std::collections::{BTreeSet, HashMap};

use datatypes::encoding::listpack::{self, Item, ItemBuffer};
use datatypes::encoding::quicklist::NodeRef;
use datatypes::encoding::table::Record;
use datatypes::hash::{Field, HashRef};
use datatypes::home::{Encoding, Kind, Payload, Piece};
use datatypes::list::ListRef;
use datatypes::set::SetRef;
use datatypes::stream::group::Group;
use datatypes::stream::idempotency::{DURATION_S_MAX, ENTRIES_MAX, Idempotency};
use datatypes::stream::{self, Stream, StreamId};
use datatypes::zset::ZsetRef;
use keyspace::entry::Entry;
use keyspace::snapshot::Sink;
use parking_lot::Mutex;
use rdb::write::Writer;
use stdx::double::format_f64;

use super::gather::{Gathering, WAITING_BYTES_MAX};
use crate::journal::unit::{write_command, write_record, write_word};

/// Items in a command.
const BATCH_ITEMS: usize = 64;

/// Commands, one behind the other.
#[derive(Default)]
pub struct Stretch {
    /// What was written.
    pub out: Vec<u8>,
    /// Each stands behind its checksum.
    is_summed: bool,
    database: Option<u16>,
}

/// Items that are on their way into a collection.
struct Batch {
    database: u16,
    verb: &'static [u8],
    key: Vec<u8>,
    items: Vec<u8>,
    n_words: usize,
    n_items: usize,
    /// Fields with deadlines, which are named behind.
    deadlines: Vec<(u64, Vec<u8>)>,
}

impl Stretch {
    /// Nothing yet.
    pub fn new(is_summed: bool) -> Stretch {
        Stretch {
            is_summed,
            ..Stretch::default()
        }
    }

    /// Writes a command.
    pub fn command(&mut self, words: &[&[u8]]) {
        write_command(&mut self.out, words, self.is_summed);
    }

    fn select(&mut self, database: u16) {
        if self.database != Some(database) {
            self.database = Some(database);
            self.command(&[b"SELECT", database.to_string().as_bytes()]);
        }
    }

    fn entry(&mut self, database: u16, entry: &Entry) {
        let value = (entry.encoding(), entry.payload());
        let key = entry.key();
        match value.0.kind() {
            Kind::String => {
                self.select(database);
                match value.1 {
                    Payload::Int(number) => {
                        self.command(&[b"SET", key, ItemBuffer::new().format(number).as_bytes()]);
                    }
                    Payload::Blob(text) => self.command(&[b"SET", key, text]),
                    Payload::Big(_) => {} // no string is
                }
            }
            Kind::Stream => {
                self.select(database);
                if let Some(stream) = stream::view(value.0, value.1) {
                    self.stream(key, stream);
                }
            }
            _ => self.collection(Batch::new(database, value.0, key), value),
        }
        self.deadline(database, key, entry.deadline_ms());
    }

    fn deadline(&mut self, database: u16, key: &[u8], deadline_ms: Option<u64>) {
        if let Some(deadline_ms) = deadline_ms {
            self.select(database);
            self.command(&[b"PEXPIREAT", key, deadline_ms.to_string().as_bytes()]);
        }
    }

    fn collection(&mut self, mut batch: Batch, (encoding, payload): (Encoding, Payload<'_>)) {
        if let Some(list) = ListRef::new(encoding, payload) {
            list.iter().for_each(|item| batch.item(item, self));
        } else if let Some(set) = SetRef::new(encoding, payload) {
            set.iter().for_each(|item| batch.item(item, self));
        } else if let Some(zset) = ZsetRef::new(encoding, payload) {
            zset.iter()
                .for_each(|(member, score)| batch.scored(member, score, self));
        } else if let Some(hash) = HashRef::new(encoding, payload) {
            hash.iter().for_each(|field| batch.field(field, self));
        }
        batch.flush(self);
    }
}

impl Batch {
    fn new(database: u16, encoding: Encoding, key: &[u8]) -> Batch {
        let verb: &[u8] = match encoding.kind() {
            Kind::List => b"RPUSH",
            Kind::Set => b"SADD",
            Kind::Zset => b"ZADD",
            _ => b"HSET",
        };
        Batch {
            database,
            verb,
            key: key.to_vec(),
            items: Vec::new(),
            n_words: 0,
            n_items: 0,
            deadlines: Vec::new(),
        }
    }

    fn word(&mut self, word: &[u8]) {
        write_word(&mut self.items, word);
        self.n_words += 1;
    }

    /// Something is whole; what was gathered goes out if it is enough.
    fn is_whole(&mut self, out: &mut Stretch) {
        self.n_items += 1;
        if self.n_items == BATCH_ITEMS {
            self.flush(out);
        }
    }

    fn text(&mut self, text: &[u8], out: &mut Stretch) {
        self.word(text);
        self.is_whole(out);
    }

    fn item(&mut self, item: Item<'_>, out: &mut Stretch) {
        self.text(item.text(&mut ItemBuffer::new()), out);
    }

    fn scored(&mut self, member: Item<'_>, score: f64, out: &mut Stretch) {
        let mut text = Vec::new();
        format_f64(score, &mut text);
        self.word(&text);
        self.item(member, out);
    }

    fn field(&mut self, field: Field<'_>, out: &mut Stretch) {
        let mut buffer = ItemBuffer::new();
        self.word(field.field.text(&mut buffer));
        if let Some(deadline_ms) = field.deadline_ms {
            self.deadlines.push((deadline_ms, field.field.to_vec()));
        }
        self.item(field.value, out);
    }

    fn piece(&mut self, piece: Piece<'_>, out: &mut Stretch) {
        match piece {
            Piece::Node(NodeRef::Plain(text)) | Piece::Member(text) => self.text(text, out),
            Piece::Node(NodeRef::Pack(pack)) => {
                listpack::iter(pack).for_each(|item| self.item(item, out));
            }
            Piece::Field(field) => self.field(field, out),
            Piece::Scored(member, score) => self.scored(Item::Bytes(member), score, out),
            Piece::Block(..) => {} // a stream was written whole when it was begun
        }
    }

    fn flush(&mut self, out: &mut Stretch) {
        if self.n_items == 0 {
            return;
        }
        out.select(self.database);
        write_record(&mut out.out, out.is_summed, |bytes| {
            bytes.extend(format!("*{}\r\n", self.n_words + 2).bytes());
            write_word(bytes, self.verb);
            write_word(bytes, &self.key);
            bytes.append(&mut self.items);
        });
        (self.n_words, self.n_items) = (0, 0);
        for of_one_moment in self.deadlines.chunk_by(|one, other| one.0 == other.0) {
            let deadline_ms = of_one_moment[0].0.to_string();
            let n_fields = of_one_moment.len().to_string();
            let key = &self.key[..];
            let mut words: Vec<&[u8]> = vec![b"HPEXPIREAT", key, deadline_ms.as_bytes(), b"FIELDS"];
            words.push(n_fields.as_bytes());
            words.extend(of_one_moment.iter().map(|(_, field)| &field[..]));
            out.command(&words);
        }
        self.deadlines.clear();
    }
}

// ---- Streams -----------------------------------------------------------------------------------

impl Stretch {
    /// Writes a stream. An entry that is gone but pending, or known by a producer's id, is made, claimed and
    /// deleted: nobody can claim what never was.
    fn stream(&mut self, key: &[u8], stream: &Stream) {
        let pending = stream
            .groups()
            .flat_map(|(_, group)| group.pending(StreamId::MIN..=StreamId::MAX))
            .map(|(id, _)| id);
        let known = stream.idempotency().into_iter();
        let known = known.flat_map(Idempotency::producers);
        let gone: BTreeSet<StreamId> = known
            .flat_map(|(_, entries)| entries.map(|(_, id)| id))
            .chain(pending)
            .filter(|id| stream.get(*id).is_none())
            .collect();
        let mut missing = gone.iter().copied().peekable();
        for entry in stream.range(StreamId::MIN..=StreamId::MAX) {
            while let Some(id) = missing.next_if(|id| *id < entry.id) {
                self.stand_in(key, id, &[]);
            }
            let id = text(entry.id);
            let mut words = vec![b"XADD".to_vec(), key.to_vec(), id.into_bytes()];
            for (name, value) in entry.fields() {
                words.extend([name.to_vec(), value.to_vec()]);
            }
            self.command(&words.iter().map(Vec::as_slice).collect::<Vec<_>>());
        }
        missing.for_each(|id| self.stand_in(key, id, &[]));
        if stream.is_empty() && gone.is_empty() {
            let id = stream.facts().last_id.max(StreamId::new(0, 1));
            self.stand_in(key, id, &[b"MAXLEN", b"0"]);
        }
        let n_present = stream.len() as u64 + gone.len() as u64;
        self.facts(key, stream, n_present);
        for (name, group) in stream.groups() {
            self.group(key, name, group);
        }
        if let Some(known) = stream.idempotency() {
            self.producers(key, known);
        }
        let ids: Vec<String> = gone.into_iter().map(text).collect();
        for ids in ids.chunks(BATCH_ITEMS) {
            let mut words: Vec<&[u8]> = vec![b"XDEL", key];
            words.extend(ids.iter().map(String::as_bytes));
            self.command(&words);
        }
        if !ids.is_empty() {
            self.facts(key, stream, 0);
        }
    }

    fn producers(&mut self, key: &[u8], known: &Idempotency) {
        let terms = known.terms();
        let duration = terms.duration_s.clamp(1, DURATION_S_MAX).to_string();
        let max = terms.max_entries.clamp(1, ENTRIES_MAX).to_string();
        let duration: [&[u8]; 4] = [b"XCFGSET", key, b"IDMP-DURATION", duration.as_bytes()];
        self.command(&[&duration[..], &[b"IDMP-MAXSIZE", max.as_bytes()]].concat());
        for (name, entries) in known.producers() {
            for (iid, id) in entries {
                self.command(&[b"XIDMPRECORD", key, name, iid, text(id).as_bytes()]);
            }
        }
    }

    fn stand_in(&mut self, key: &[u8], id: StreamId, trim: &[&[u8]]) {
        let id = text(id);
        let rest: [&[u8]; 3] = [id.as_bytes(), b"x", b"y"];
        self.command(&[&[b"XADD", key], trim, &rest].concat());
    }

    fn facts(&mut self, key: &[u8], stream: &Stream, entries_added_min: u64) {
        let facts = stream.facts();
        let entries_added = facts.entries_added.max(entries_added_min).to_string();
        let (last, deleted) = (text(facts.last_id), text(facts.max_deleted_id));
        self.command(&[
            b"XSETID",
            key,
            last.as_bytes(),
            b"ENTRIESADDED",
            entries_added.as_bytes(),
            b"MAXDELETEDID",
            deleted.as_bytes(),
        ]);
    }

    fn group(&mut self, key: &[u8], name: &[u8], group: &Group) {
        let last = text(group.last_id);
        let read = group
            .entries_read
            .map_or("-1".to_owned(), |read| read.to_string());
        let rest: [&[u8]; 3] = [last.as_bytes(), b"ENTRIESREAD", read.as_bytes()];
        self.command(&[&[b"XGROUP", b"CREATE", key, name], &rest[..]].concat());
        for (_, consumer) in group.consumers() {
            self.command(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer.name()]);
        }
        for (id, pending) in group.pending(StreamId::MIN..=StreamId::MAX) {
            let (id, time) = (text(id), pending.delivered_ms.to_string());
            let n_deliveries = pending.n_deliveries.to_string();
            let Some(owner) = pending.consumer else {
                let released = [
                    &b"XNACK"[..],
                    key,
                    name,
                    b"FAIL",
                    b"IDS",
                    b"1",
                    id.as_bytes(),
                ];
                let count = [&b"RETRYCOUNT"[..], n_deliveries.as_bytes(), b"FORCE"];
                self.command(&[&released[..], &count].concat());
                continue;
            };
            let consumer = group.consumer(owner).name();
            self.command(&[
                b"XCLAIM",
                key,
                name,
                consumer,
                b"0",
                id.as_bytes(),
                b"TIME",
                time.as_bytes(),
                b"RETRYCOUNT",
                n_deliveries.as_bytes(),
                b"JUSTID",
                b"FORCE",
            ]);
        }
    }
}

fn text(id: StreamId) -> String {
    format!("{}-{}", id.ms, id.seq)
}

// ---- The walk ----------------------------------------------------------------------------------

struct Open {
    batch: Batch,
    deadline_ms: Option<u64>,
}

#[derive(Default)]
struct Restated {
    stretch: Stretch,
    open: HashMap<u64, Open>,
    n_keys: u64,
}

/// See the top of the file.
pub struct Restater(Mutex<Restated>);

impl Restater {
    /// Nothing yet. With `is_summed` each command stands behind its checksum.
    pub fn new(is_summed: bool) -> Restater {
        Restater(Mutex::new(Restated {
            stretch: Stretch::new(is_summed),
            ..Restated::default()
        }))
    }
}

impl Gathering for Restater {
    fn take(&self, bytes_min: usize) -> Vec<Writer> {
        let mut inner = self.0.lock();
        let out = &mut inner.stretch.out;
        match out.len() >= bytes_min && !out.is_empty() {
            true => vec![Writer::holding(std::mem::take(out))],
            false => Vec::new(),
        }
    }

    fn n_keys(&self) -> u64 {
        self.0.lock().n_keys
    }

    fn is_over(&self) -> bool {
        self.0.lock().stretch.out.len() > WAITING_BYTES_MAX
    }
}

impl Sink for Restater {
    fn save(&self, database: u16, entry: &Entry) {
        let mut inner = self.0.lock();
        inner.n_keys += 1;
        inner.stretch.entry(database, entry);
    }

    fn begin(&self, id: u64, database: u16, entry: &Entry) {
        let mut inner = self.0.lock();
        inner.n_keys += 1;
        if entry.encoding() == Encoding::Stream {
            // Groups name entries that are in no block any more, so it must be seen as a whole.
            return inner.stretch.entry(database, entry);
        }
        let open = Open {
            batch: Batch::new(database, entry.encoding(), entry.key()),
            deadline_ms: entry.deadline_ms(),
        };
        inner.open.insert(id, open);
    }

    fn piece(&self, id: u64, piece: Piece<'_>) {
        let inner = &mut *self.0.lock();
        if let Some(open) = inner.open.get_mut(&id) {
            open.batch.piece(piece, &mut inner.stretch);
        }
    }

    fn end(&self, id: u64) {
        let inner = &mut *self.0.lock();
        if let Some(mut open) = inner.open.remove(&id) {
            open.batch.flush(&mut inner.stretch);
            let batch = &open.batch;
            inner
                .stretch
                .deadline(batch.database, &batch.key, open.deadline_ms);
        }
    }
}
