//! Streams to bytes and back.
//!
//! ```text
//!   n blocks   | id 16 bytes BE as a string, listpack as a string ..
//!   n entries  | last id | first id, largest deleted id, entries ever added      (from 19 on)
//!   n groups   | name | last id | entries read, ~0 if unknown                    (from 19 on)
//!              | n pending   | id 16 bytes BE, delivered ms, deliveries ..
//!              | n consumers | name, seen ms, active ms or -1 (from 21 on)
//!              |             | n pending | id 16 bytes BE ..  ..  ..
//! ```
//!
//! An id without further words is two lengths.

use std::collections::BTreeMap;
use std::io::Read;

use datatypes::home::Owned;
use datatypes::stream::group::Group;
use datatypes::stream::{Facts, Stream, StreamId, payload_of};

use crate::code::kind;
use crate::error::Result;
use crate::read::Reader;
use crate::write::Writer;

/// What stands for an unknown number of entries read.
const UNKNOWN: u64 = u64::MAX;
/// What stands for a consumer that was never active.
const NEVER: u64 = u64::MAX;

/// Writes a stream without its code. O(bytes).
pub fn save(writer: &mut Writer, stream: &Stream) {
    writer.length(stream.n_blocks() as u64);
    for (base, pack) in stream.blocks() {
        writer.string(&base.to_bytes());
        writer.string(pack);
    }
    let facts = stream.facts();
    writer.length(stream.len() as u64);
    write_id(writer, facts.last_id);
    write_id(writer, stream.first_id());
    write_id(writer, facts.max_deleted_id);
    writer.length(facts.entries_added);
    writer.length(stream.groups().len() as u64);
    for (name, group) in stream.groups() {
        writer.string(name);
        save_group(writer, group);
    }
}

fn save_group(writer: &mut Writer, group: &Group) {
    let all = StreamId::MIN..=StreamId::MAX;
    write_id(writer, group.last_id);
    writer.length(group.entries_read.unwrap_or(UNKNOWN));
    writer.length(group.n_pending() as u64);
    for (id, pending) in group.pending(all.clone()) {
        writer.raw(&id.to_bytes());
        writer.milliseconds(pending.delivered_ms);
        writer.length(pending.n_deliveries);
    }
    writer.length(group.n_consumers() as u64);
    for (_, consumer) in group.consumers() {
        writer.string(consumer.name());
        writer.milliseconds(consumer.seen_ms);
        writer.milliseconds(consumer.active_ms.unwrap_or(NEVER));
        writer.length(consumer.n_pending() as u64);
        for id in consumer.pending(all.clone()) {
            writer.raw(&id.to_bytes());
        }
    }
}

fn write_id(writer: &mut Writer, id: StreamId) {
    writer.length(id.ms);
    writer.length(id.seq);
}

/// Reads a stream of one of the three codes. O(bytes).
pub fn load<R: Read>(reader: &mut Reader<R>, code: u8) -> Result<Owned> {
    let mut stream = Stream::new();
    for _ in 0..reader.length()? {
        let Ok(base) = <[u8; 16]>::try_from(reader.string()?) else {
            return reader.corrupt("the id of a block of a stream");
        };
        let pack = reader.string()?;
        if stream.push_block(StreamId::from_bytes(base), pack).is_err() {
            return reader.corrupt("a block of a stream");
        }
    }
    let n_entries = reader.length()?;
    if n_entries != stream.len() as u64 {
        return reader.corrupt("the number of entries of a stream");
    }
    let last_id = read_id(reader)?;
    let facts = match code {
        // What older versions did not keep is what it was when nothing had been deleted.
        kind::STREAM => Facts {
            last_id,
            max_deleted_id: StreamId::MIN,
            entries_added: n_entries,
        },
        _ => {
            read_id(reader)?; // the first id, which the entries tell as well
            Facts {
                last_id,
                max_deleted_id: read_id(reader)?,
                entries_added: reader.length()?,
            }
        }
    };
    if stream.restore_facts(facts).is_err() {
        return reader.corrupt("what a stream remembers");
    }
    for _ in 0..reader.length()? {
        let name = reader.string()?;
        let group = load_group(reader, code)?;
        if !stream.add_group(&name, group) {
            return reader.corrupt("a group of a stream stands there twice");
        }
    }
    let (encoding, payload) = payload_of(stream);
    Ok(Owned::new(encoding, payload))
}

fn load_group<R: Read>(reader: &mut Reader<R>, code: u8) -> Result<Group> {
    let last_id = read_id(reader)?;
    let entries_read = match code {
        kind::STREAM => None,
        _ => Some(reader.length()?).filter(|&n| n != UNKNOWN),
    };
    let mut group = Group::new(last_id, entries_read);
    let mut deliveries = BTreeMap::new();
    for _ in 0..reader.length()? {
        let id = StreamId::from_bytes(reader.bytes()?);
        let delivery = (reader.milliseconds()? as u64, reader.length()?);
        if deliveries.insert(id, delivery).is_some() {
            return reader.corrupt("a pending entry of a group stands there twice");
        }
    }
    for _ in 0..reader.length()? {
        load_consumer(reader, code, &mut group, &mut deliveries)?;
    }
    match deliveries.is_empty() {
        true => Ok(group),
        false => reader.corrupt("a pending entry of a group belongs to no consumer"),
    }
}

fn load_consumer<R: Read>(
    reader: &mut Reader<R>,
    code: u8,
    group: &mut Group,
    deliveries: &mut BTreeMap<StreamId, (u64, u64)>,
) -> Result<()> {
    let name = reader.string()?;
    let seen_ms = reader.milliseconds()? as u64;
    let active_ms = match code {
        kind::STREAM_3 => Some(reader.milliseconds()? as u64).filter(|&ms| ms != NEVER),
        _ => Some(seen_ms),
    };
    let mut pending = Vec::new();
    for _ in 0..reader.length()? {
        let id = StreamId::from_bytes(reader.bytes()?);
        let Some((delivered_ms, n_deliveries)) = deliveries.remove(&id) else {
            return reader.corrupt("a pending entry of a consumer is not one of its group");
        };
        pending.push((id, delivered_ms, n_deliveries));
    }
    match group.restore_consumer(&name, (seen_ms, active_ms), pending.into_iter()) {
        Ok(()) => Ok(()),
        Err(_) => reader.corrupt("a consumer of a group stands there twice"),
    }
}

fn read_id<R: Read>(reader: &mut Reader<R>) -> Result<StreamId> {
    Ok(StreamId::new(reader.length()?, reader.length()?))
}
