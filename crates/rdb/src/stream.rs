//! Streams: blocks as they are, what the stream remembers, groups.
//!
//! ```text
//!   n blocks | per block: id, listpack        length | last id
//!   first id | largest deleted id | entries added                                  from form 2 on
//!   n groups | per group: name | last id | entries read (form 2) | n pending | n consumers
//!              pending:   id | when, ms | deliveries
//!              consumers: name | seen, ms | active, ms (form 3) | n ids | ids
//!              n ids of what is pending for nobody | ids                           from form 5 on
//!   seconds that ids of producers are kept | how many                              from form 4 on
//!   n producers | per producer: name | n ids | per id: id of the producer, id
//!   how many were added | how many were there already
//! ```
//!
//! Ids of blocks and of what is pending are 16 bytes, most significant first; the others two lengths.
//! Form 3 is written as long as it has room for everything: Redis 8.2 reads no later one. Form 4 is that
//! of Redis 8.6, form 5 that of 8.8. Older ones are for other servers, see `dialect`.

use std::collections::BTreeMap;
use std::io::Read;

use datatypes::home::{Encoding, Owned, Payload};
use datatypes::stream::group::{Group, Pending};
use datatypes::stream::idempotency::{Idempotency, Terms};
use datatypes::stream::{Facts, Stream, StreamId, payload_of, view};

use crate::code::kind;
use crate::error::Result;
use crate::read::Reader;
use crate::write::Writer;

/// What stands for an unknown number of entries read, and for a time that never was.
const UNKNOWN: u64 = u64::MAX;

/// The first form that has room for all of a stream. O(pending).
pub fn form(stream: &Stream) -> u8 {
    let has_unowned = |(_, group): (&[u8], &Group)| group.unowned().next().is_some();
    match stream.idempotency() {
        _ if stream.groups().any(has_unowned) => kind::STREAM_5,
        Some(_) => kind::STREAM_4,
        None => kind::STREAM_3,
    }
}

/// The code of a stream's form.
pub fn code(encoding: Encoding, payload: Payload<'_>) -> u8 {
    view(encoding, payload).map_or(kind::STREAM_3, form)
}

/// Writes a stream, without the number of its blocks. O(bytes).
pub fn save(writer: &mut Writer, stream: &Stream) {
    for (base, pack) in stream.blocks() {
        save_block(writer, base, pack);
    }
    save_foot(writer, stream);
}

/// Writes a stream with the number of its blocks, in the form of this code, which may have no room for
/// all of it. O(bytes).
pub fn save_as(writer: &mut Writer, stream: &Stream, form: u8) {
    writer.length(stream.n_blocks() as u64);
    for (base, pack) in stream.blocks() {
        save_block(writer, base, pack);
    }
    save_foot_as(writer, stream, form);
}

/// Writes one of the blocks, whose number stands before the first.
pub fn save_block(writer: &mut Writer, base: StreamId, pack: &[u8]) {
    writer.string(&base.to_bytes());
    writer.string(pack);
}

/// Writes what stands behind the blocks; for Valkey what its latest form has room for. O(pending).
pub fn save_foot(writer: &mut Writer, stream: &Stream) {
    let form = match writer.is_valkeys {
        true => kind::STREAM_3,
        false => form(stream),
    };
    save_foot_as(writer, stream, form);
}

fn save_foot_as(writer: &mut Writer, stream: &Stream, form: u8) {
    let facts = stream.facts();
    writer.length(stream.len() as u64);
    save_id(writer, facts.last_id);
    if form != kind::STREAM {
        save_id(writer, stream.first_id());
        save_id(writer, facts.max_deleted_id);
        writer.length(facts.entries_added);
    }
    writer.length(stream.groups().len() as u64);
    for (name, group) in stream.groups() {
        writer.string(name);
        save_group(writer, group, form);
        if form == kind::STREAM_5 {
            let unowned: Vec<_> = group.unowned().collect();
            writer.length(unowned.len() as u64);
            unowned.iter().for_each(|id| writer.raw(&id.to_bytes()));
        }
    }
    if matches!(form, kind::STREAM_4 | kind::STREAM_5) {
        let nothing = Idempotency::default();
        save_idempotency(writer, stream.idempotency().unwrap_or(&nothing));
    }
}

fn save_idempotency(writer: &mut Writer, known: &Idempotency) {
    let terms = known.terms();
    writer.length(terms.duration_s);
    writer.length(terms.max_entries);
    writer.length(known.producers().len() as u64);
    for (producer, entries) in known.producers() {
        writer.string(producer);
        writer.length(entries.len() as u64);
        for (iid, id) in entries {
            writer.string(iid);
            save_id(writer, id);
        }
    }
    writer.length(known.n_added);
    writer.length(known.n_duplicates);
}

fn save_id(writer: &mut Writer, id: StreamId) {
    writer.length(id.ms);
    writer.length(id.seq);
}

fn save_group(writer: &mut Writer, group: &Group, form: u8) {
    save_id(writer, group.last_id);
    if form != kind::STREAM {
        writer.length(group.entries_read.unwrap_or(UNKNOWN));
    }
    // An older form has no room for what is pending for nobody, and who reads it takes it for damage.
    let n_left_out = match form {
        kind::STREAM_5 => 0,
        _ => group.unowned().count(),
    };
    writer.length((group.n_pending() - n_left_out) as u64);
    for (id, pending) in group.pending(StreamId::MIN..=StreamId::MAX) {
        if n_left_out > 0 && pending.consumer.is_none() {
            continue;
        }
        writer.raw(&id.to_bytes());
        writer.milliseconds(pending.delivered_ms);
        writer.length(pending.n_deliveries);
    }
    writer.length(group.n_consumers() as u64);
    for (_, consumer) in group.consumers() {
        writer.string(consumer.name());
        writer.milliseconds(consumer.seen_ms);
        if !matches!(form, kind::STREAM | kind::STREAM_2) {
            writer.milliseconds(consumer.active_ms.unwrap_or(UNKNOWN));
        }
        writer.length(consumer.n_pending() as u64);
        for id in consumer.pending(StreamId::MIN..=StreamId::MAX) {
            writer.raw(&id.to_bytes());
        }
    }
}

/// Reads a stream in the form of this code. O(bytes).
pub fn load<R: Read>(reader: &mut Reader<R>, code: u8) -> Result<Owned> {
    let mut stream = Stream::new();
    for _ in 0..reader.length()? {
        let base: [u8; 16] = match reader.string()?.try_into() {
            Ok(base) => base,
            Err(_) => return reader.corrupt("the id of a block of a stream"),
        };
        let pack = reader.string()?;
        if stream.push_block(StreamId::from_bytes(base), pack).is_err() {
            return reader.corrupt("Stream listpack integrity check failed");
        }
    }
    let len = reader.length()?;
    let mut facts = Facts {
        last_id: load_id(reader)?,
        max_deleted_id: StreamId::MIN,
        entries_added: len,
    };
    if code != kind::STREAM {
        load_id(reader)?; // the first id, which the blocks tell as well
        facts.max_deleted_id = load_id(reader)?;
        facts.entries_added = reader.length()?;
    }
    if len != stream.len() as u64 || stream.restore_facts(facts).is_err() {
        return reader.corrupt("the length or the last id of a stream");
    }
    for _ in 0..reader.length()? {
        let name = reader.string()?;
        let group = load_group(reader, code, &stream)?;
        if !stream.add_group(&name, group) {
            return reader.corrupt("Duplicated consumer group name");
        }
    }
    if matches!(code, kind::STREAM_4 | kind::STREAM_5) {
        load_idempotency(reader, &mut stream)?;
    }
    let (encoding, payload) = payload_of(stream);
    Ok(Owned::new(encoding, payload))
}

/// What says nothing leaves a stream as if nobody had ever asked.
fn load_idempotency<R: Read>(reader: &mut Reader<R>, stream: &mut Stream) -> Result<()> {
    let terms = Terms {
        duration_s: reader.length()?,
        max_entries: reader.length()?,
    };
    let mut known = Idempotency::default();
    known.set_terms(terms);
    let n_producers = reader.length()?;
    for _ in 0..n_producers {
        let producer = reader.string()?;
        for _ in 0..reader.length()? {
            let iid = reader.string()?;
            known.insert(&producer, &iid, load_id(reader)?);
        }
    }
    (known.n_added, known.n_duplicates) = (reader.length()?, reader.length()?);
    if terms != Terms::default() || (n_producers | known.n_added | known.n_duplicates) > 0 {
        *stream.idempotency_mut() = known;
    }
    Ok(())
}

fn load_id<R: Read>(reader: &mut Reader<R>) -> Result<StreamId> {
    Ok(StreamId::new(reader.length()?, reader.length()?))
}

fn load_group<R: Read>(reader: &mut Reader<R>, code: u8, stream: &Stream) -> Result<Group> {
    let last_id = load_id(reader)?;
    let entries_read = match code {
        kind::STREAM => stream.n_added_up_to(last_id),
        _ => Some(reader.length()?).filter(|read| *read != UNKNOWN),
    };
    let mut group = Group::new(last_id, entries_read);
    let mut pending = BTreeMap::new();
    for _ in 0..reader.length()? {
        let id = StreamId::from_bytes(reader.bytes()?);
        let delivered_ms = u64::try_from(reader.milliseconds()?).unwrap_or(0);
        if pending
            .insert(id, (delivered_ms, reader.length()?))
            .is_some()
        {
            return reader.corrupt("Duplicated global PEL entry loading stream consumer group");
        }
    }
    for _ in 0..reader.length()? {
        load_consumer(reader, code, &mut group, &mut pending)?;
    }
    if code == kind::STREAM_5 {
        load_unowned(reader, &mut group, &mut pending)?;
    }
    match pending.is_empty() {
        true => Ok(group),
        false => reader.corrupt("an entry is pending for nobody"),
    }
}

fn load_unowned<R: Read>(
    reader: &mut Reader<R>,
    group: &mut Group,
    pending: &mut BTreeMap<StreamId, (u64, u64)>,
) -> Result<()> {
    for _ in 0..reader.length()? {
        let id = StreamId::from_bytes(reader.bytes()?);
        let Some((delivered_ms, n_deliveries)) = pending.remove(&id) else {
            return reader.corrupt("what was given back is not pending");
        };
        let unowned = Pending {
            delivered_ms,
            n_deliveries,
            consumer: None,
        };
        group.deliver(id, unowned);
    }
    Ok(())
}

fn load_consumer<R: Read>(
    reader: &mut Reader<R>,
    code: u8,
    group: &mut Group,
    pending: &mut BTreeMap<StreamId, (u64, u64)>,
) -> Result<()> {
    let name = reader.string()?;
    let seen_ms = u64::try_from(reader.milliseconds()?).unwrap_or(0);
    let active_ms = match code {
        kind::STREAM | kind::STREAM_2 => Some(seen_ms),
        _ => u64::try_from(reader.milliseconds()?).ok(),
    };
    let mut deliveries = Vec::new();
    for _ in 0..reader.length()? {
        let id = StreamId::from_bytes(reader.bytes()?);
        match pending.remove(&id) {
            Some((delivered_ms, n_deliveries)) => deliveries.push((id, delivered_ms, n_deliveries)),
            None if deliveries.iter().any(|(known, ..)| *known == id) => {
                return reader
                    .corrupt("Duplicated consumer PEL entry loading a stream consumer group");
            }
            None => return reader.corrupt("Consumer entry not found in group global PEL"),
        }
    }
    let restored = group.restore_consumer(&name, (seen_ms, active_ms), deliveries.into_iter());
    restored.or_else(|_| reader.corrupt("Duplicate stream consumer detected"))
}
