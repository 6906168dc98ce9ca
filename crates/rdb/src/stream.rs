//! Streams: blocks as they are, what the stream remembers, groups.
//!
//! ```text
//!   n blocks | per block: id, listpack        length | last id
//!   first id | largest deleted id | entries added                                  from form 2 on
//!   n groups | per group: name | last id | entries read (form 2) | n pending | n consumers
//!              pending:   id | when, ms | deliveries
//!              consumers: name | seen, ms | active, ms (form 3) | n ids | ids
//! ```
//!
//! Ids of blocks and of what is pending are 16 bytes, most significant first; the others two lengths.

use std::collections::BTreeMap;
use std::io::Read;

use datatypes::home::Owned;
use datatypes::stream::group::Group;
use datatypes::stream::{Facts, Stream, StreamId, payload_of};

use crate::code::kind;
use crate::error::Result;
use crate::read::Reader;
use crate::write::Writer;

/// What stands for an unknown number of entries read, and for a time that never was.
const UNKNOWN: u64 = u64::MAX;

/// Writes a stream. O(bytes).
pub fn save(writer: &mut Writer, stream: &Stream) {
    writer.length(stream.n_blocks() as u64);
    for (base, pack) in stream.blocks() {
        writer.string(&base.to_bytes());
        writer.string(pack);
    }
    let facts = stream.facts();
    writer.length(stream.len() as u64);
    for id in [facts.last_id, stream.first_id(), facts.max_deleted_id] {
        save_id(writer, id);
    }
    writer.length(facts.entries_added);
    writer.length(stream.groups().len() as u64);
    for (name, group) in stream.groups() {
        writer.string(name);
        save_group(writer, group);
    }
}

fn save_id(writer: &mut Writer, id: StreamId) {
    writer.length(id.ms);
    writer.length(id.seq);
}

fn save_group(writer: &mut Writer, group: &Group) {
    save_id(writer, group.last_id);
    writer.length(group.entries_read.unwrap_or(UNKNOWN));
    writer.length(group.n_pending() as u64);
    for (id, pending) in group.pending(StreamId::MIN..=StreamId::MAX) {
        writer.raw(&id.to_bytes());
        writer.milliseconds(pending.delivered_ms);
        writer.length(pending.n_deliveries);
    }
    writer.length(group.n_consumers() as u64);
    for (_, consumer) in group.consumers() {
        writer.string(consumer.name());
        writer.milliseconds(consumer.seen_ms);
        writer.milliseconds(consumer.active_ms.unwrap_or(UNKNOWN));
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
            return reader.corrupt("a block of a stream");
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
            return reader.corrupt("a group of a stream stands there twice");
        }
    }
    let (encoding, payload) = payload_of(stream);
    Ok(Owned::new(encoding, payload))
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
            return reader.corrupt("a pending entry of a group stands there twice");
        }
    }
    for _ in 0..reader.length()? {
        load_consumer(reader, code, &mut group, &mut pending)?;
    }
    match pending.is_empty() {
        true => Ok(group),
        false => reader.corrupt("an entry is pending for nobody"),
    }
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
        kind::STREAM_3 => u64::try_from(reader.milliseconds()?).ok(),
        _ => Some(seen_ms),
    };
    let mut deliveries = Vec::new();
    for _ in 0..reader.length()? {
        let id = StreamId::from_bytes(reader.bytes()?);
        match pending.remove(&id) {
            Some((delivered_ms, n_deliveries)) => deliveries.push((id, delivered_ms, n_deliveries)),
            None => return reader.corrupt("a consumer has what is not pending"),
        }
    }
    let restored = group.restore_consumer(&name, (seen_ms, active_ms), deliveries.into_iter());
    restored.or_else(|_| reader.corrupt("a consumer of a group stands there twice"))
}
