//! DEBUG DIGEST: one number for a data set, the same whatever the encodings and orders.
//!
//! ```text
//!   value   list, stream: each part hashed onto those before   others: the hashes of elements, XORed
//!   key     SHA-1 of database, key, type, value's digest, and whether there is a deadline
//!   whole   the digests of all keys, XORed
//! ```

use datatypes::encoding::listpack::ItemBuffer;
use datatypes::encoding::table::Record;
use datatypes::stream::{Stream, StreamId};
use datatypes::value::ValueRef;
use keyspace::db::View;
use resp::reply::Reply;
use sha1_smol::Sha1;

use crate::command::{Args, ReadCtx};
use crate::error::Result;

type Digest = [u8; 20];

pub fn digest(ctx: &mut ReadCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.db.locked().take_everything(); // one instant for all databases
    let mut total = Digest::default();
    for database in 0..ctx.db.locked().keyspace().n_databases() {
        let db = ctx.db.at(database);
        let mut keys = Vec::new();
        db.each(&mut |entry| keys.push(entry.key().to_vec()));
        for key in keys {
            let of_key = hash(&[&database.to_le_bytes(), &key, &of_key(&db, &key)]);
            combine(&mut total, &of_key);
        }
    }
    reply.simple(&hex(&total));
    Ok(())
}

pub fn digest_value(
    ctx: &mut ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    reply.array(args.len());
    for key in args.rest() {
        reply.simple(&hex(&of_key(&ctx.db, key)));
    }
    Ok(())
}

/// The digest of what is at `key`, all zero if that is nothing.
fn of_key(db: &View<'_>, key: &[u8]) -> Digest {
    let Some(value) = db.value(key) else {
        return Digest::default();
    };
    let has_deadline = db.deadline_ms(key).flatten().is_some();
    let kind = value.kind().name().as_bytes();
    hash(&[kind, &of_value(value), &[u8::from(has_deadline)]])
}

fn of_value(value: ValueRef<'_>) -> Digest {
    let (mut one, mut two) = (ItemBuffer::new(), ItemBuffer::new());
    let mut digest = Digest::default();
    match value {
        ValueRef::String(text) => digest = hash(&[&text.to_vec()]),
        ValueRef::List(list) => {
            for item in list.iter() {
                digest = hash(&[&digest, item.text(&mut one)]);
            }
        }
        ValueRef::Set(set) => {
            for member in set.iter() {
                combine(&mut digest, &hash(&[member.text(&mut one)]));
            }
        }
        ValueRef::Zset(zset) => {
            for (member, score) in zset.iter() {
                let score = (score + 0.0).to_bits().to_le_bytes(); // one zero for both
                combine(&mut digest, &hash(&[member.text(&mut one), &score]));
            }
        }
        ValueRef::Stream(stream) => digest = of_stream(stream),
        ValueRef::Hash(hash_value) => {
            for field in hash_value.iter() {
                let has_deadline = [u8::from(field.deadline_ms.is_some())];
                let (name, value) = (field.field.text(&mut one), field.value.text(&mut two));
                combine(&mut digest, &hash(&[name, value, &has_deadline]));
            }
        }
    }
    digest
}

/// Entries, and what groups have read and have pending, but not when.
fn of_stream(stream: &Stream) -> Digest {
    let (mut one, mut two) = (ItemBuffer::new(), ItemBuffer::new());
    let mut digest = hash(&[&stream.facts().last_id.to_bytes()]);
    for entry in stream.range(StreamId::MIN..=StreamId::MAX) {
        digest = hash(&[&digest, &entry.id.to_bytes()]);
        for (name, value) in entry.fields() {
            digest = hash(&[&digest, name.text(&mut one), value.text(&mut two)]);
        }
    }
    for (name, group) in stream.groups() {
        digest = hash(&[&digest, name, &group.last_id.to_bytes()]);
        for (_, consumer) in group.consumers() {
            digest = hash(&[&digest, consumer.name()]);
            for id in consumer.pending(StreamId::MIN..=StreamId::MAX) {
                digest = hash(&[&digest, &id.to_bytes()]);
            }
        }
        for id in group.unowned() {
            digest = hash(&[&digest, b"", &id.to_bytes()]);
        }
    }
    digest
}

/// SHA-1 of the parts, each with its length, so that no two lists of parts look alike.
fn hash(parts: &[&[u8]]) -> Digest {
    let mut sha1 = Sha1::new();
    for part in parts {
        sha1.update(&(part.len() as u64).to_le_bytes());
        sha1.update(part);
    }
    sha1.digest().bytes()
}

fn combine(total: &mut Digest, part: &Digest) {
    for (byte, other) in total.iter_mut().zip(part) {
        *byte ^= other;
    }
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}
