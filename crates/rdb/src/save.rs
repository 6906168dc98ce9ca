//! Values to bytes: the type's code, and the body, as Redis 8.2 writes them.
//!
//! ```text
//!   ListPack, QuickList   18   n nodes | per node: 2 + listpack, or 1 + the bytes of one item
//!   IntSet                11   intset                SetPack   20   listpack
//!   SetTable               2   n | members
//!   HashPack              16   listpack              HashPackEx 25  first deadline | listpack
//!   HashTable              4   n | field, value ..
//!                         24   first deadline | n | deadline - first + 1 or 0, field, value ..
//!   either, for Valkey    22   n | field, value, deadline or -1 ..   if a field has one, else 4 for a pack
//!   ZsetPack              17   listpack
//!   ZsetTree               5   n | member, score ..  highest first
//!   Stream                21   see `stream.rs`, also for 26 and 27, which Valkey does not know
//! ```
//!
//! A long collection can be written in pieces: [`open`], then [`piece`] for each, then [`close`] as it was.

use datatypes::encoding::listpack::{Item, ItemBuffer};
use datatypes::encoding::quicklist::{NodeRef, QuickList};
use datatypes::encoding::zsettree::ZsetTree;
use datatypes::hash::{Field, HashRef};
use datatypes::home::{Collection, Encoding, Payload, Piece};
use datatypes::set::SetRef;

use crate::code::kind;
use crate::stream;
use crate::write::Writer;

const NODE_PLAIN: u64 = 1;
const NODE_PACKED: u64 = 2;

/// The code of a value's type and form, as this writer writes it.
pub fn code(writer: &Writer, encoding: Encoding, payload: Payload<'_>) -> u8 {
    match encoding {
        Encoding::HashPackEx | Encoding::HashTable
            if writer.is_valkeys && first_deadline(encoding, payload).is_some() =>
        {
            kind::HASH_VALKEY
        }
        Encoding::HashPackEx if writer.is_valkeys => kind::HASH,
        Encoding::Stream if writer.is_valkeys => kind::STREAM_3,
        Encoding::Int | Encoding::Raw | Encoding::Edited => kind::STRING,
        Encoding::ListPack | Encoding::QuickList => kind::LIST_QUICKLIST_2,
        Encoding::IntSet => kind::SET_INTSET,
        Encoding::SetPack => kind::SET_LISTPACK,
        Encoding::SetTable => kind::SET,
        Encoding::HashPack => kind::HASH_LISTPACK,
        Encoding::HashPackEx => kind::HASH_PACK_EX,
        Encoding::HashTable => match first_deadline(encoding, payload) {
            Some(_) => kind::HASH_DEADLINES,
            None => kind::HASH,
        },
        Encoding::ZsetPack => kind::ZSET_LISTPACK,
        Encoding::ZsetTree => kind::ZSET_2,
        Encoding::Stream => stream::code(encoding, payload),
    }
}

fn first_deadline(encoding: Encoding, payload: Payload<'_>) -> Option<u64> {
    HashRef::new(encoding, payload)?.next_deadline()
}

/// Writes a value without its code. O(bytes).
pub fn value(writer: &mut Writer, encoding: Encoding, payload: Payload<'_>) {
    match payload {
        Payload::Int(number) => writer.string(ItemBuffer::new().format(number).as_bytes()),
        Payload::Blob(bytes) => blob(writer, encoding, bytes),
        Payload::Big(collection) => {
            open(writer, collection);
            match collection {
                Collection::List(list) => {
                    list.nodes().for_each(|one| node(writer, one));
                }
                Collection::Set(table) => SetRef::Table(table)
                    .iter()
                    .for_each(|member| item(writer, member)),
                Collection::Hash(table) => {
                    let first_ms = table.next_deadline();
                    table.iter().for_each(|one| field(writer, first_ms, one));
                }
                Collection::Zset(tree) => zset(writer, tree),
                Collection::Stream(one) => stream::save(writer, one),
            }
        }
    }
}

fn blob(writer: &mut Writer, encoding: Encoding, bytes: &[u8]) {
    match encoding {
        Encoding::ListPack => {
            writer.length(1);
            writer.length(NODE_PACKED);
        }
        Encoding::HashPackEx if writer.is_valkeys => return pack_for_valkey(writer, bytes),
        Encoding::HashPackEx => {
            let first_ms = first_deadline(encoding, Payload::Blob(bytes));
            writer.milliseconds(first_ms.unwrap_or(0));
        }
        _ => {}
    }
    writer.string(bytes);
}

/// Valkey's packs know no deadlines: fields one by one.
fn pack_for_valkey(writer: &mut Writer, bytes: &[u8]) {
    let payload = Payload::Blob(bytes);
    let hash = HashRef::new(Encoding::HashPackEx, payload).unwrap_or(HashRef::EMPTY);
    let first_ms = hash.next_deadline();
    writer.length(hash.len() as u64);
    hash.iter().for_each(|one| field(writer, first_ms, one));
}

fn zset(writer: &mut Writer, tree: &ZsetTree) {
    for entry in tree.range(0..tree.len()).rev() {
        scored(writer, entry.member(), entry.score());
    }
}

/// Writes what stands before the elements of a collection.
pub fn open(writer: &mut Writer, collection: &Collection) {
    match collection {
        Collection::List(list) => writer.length(QuickList::nodes(list).len() as u64),
        Collection::Set(table) => writer.length(SetRef::Table(table).len() as u64),
        Collection::Zset(tree) => writer.length(tree.len() as u64),
        Collection::Stream(one) => writer.length(one.n_blocks() as u64),
        Collection::Hash(table) => {
            if let Some(first_ms) = table.next_deadline().filter(|_| !writer.is_valkeys) {
                writer.milliseconds(first_ms);
            }
            writer.length(table.len() as u64);
        }
    }
}

/// Writes what stands behind the elements of a collection.
pub fn close(writer: &mut Writer, collection: &Collection) {
    if let Collection::Stream(one) = collection {
        stream::save_foot(writer, one);
    }
}

/// Writes a part of a collection. `first_ms` is the first deadline that a field of it had when it was
/// opened.
pub fn piece(writer: &mut Writer, first_ms: Option<u64>, piece: Piece<'_>) {
    match piece {
        Piece::Node(one) => node(writer, one),
        Piece::Member(member) => writer.string(member),
        Piece::Field(one) => field(writer, first_ms, one),
        Piece::Scored(member, score) => scored(writer, member, score),
        Piece::Block(base, pack) => stream::save_block(writer, base, pack),
    }
}

fn node(writer: &mut Writer, node: NodeRef<'_>) {
    let (container, bytes) = match node {
        NodeRef::Plain(bytes) => (NODE_PLAIN, bytes),
        NodeRef::Pack(bytes) => (NODE_PACKED, bytes),
    };
    writer.length(container);
    writer.string(bytes);
}

/// Writes one item as a string.
pub fn item(writer: &mut Writer, item: Item<'_>) {
    writer.string(item.text(&mut ItemBuffer::new()));
}

/// Writes a field with its value; before them its deadline, if `first_ms` says that one of them has one,
/// or behind them for Valkey.
pub fn field(writer: &mut Writer, first_ms: Option<u64>, field: Field<'_>) {
    if writer.is_valkeys && first_ms.is_some() {
        return field_of_valkey(writer, field);
    }
    if let Some(first_ms) = first_ms {
        let after = |deadline_ms: u64| deadline_ms.saturating_sub(first_ms) + 1;
        writer.length(field.deadline_ms.map_or(0, after));
    }
    item(writer, field.field);
    item(writer, field.value);
}

/// Writes a field as Valkey does: its deadline behind the value.
pub fn field_of_valkey(writer: &mut Writer, field: Field<'_>) {
    item(writer, field.field);
    item(writer, field.value);
    writer.milliseconds(field.deadline_ms.unwrap_or(u64::MAX)); // -1 for none
}

fn scored(writer: &mut Writer, member: &[u8], score: f64) {
    writer.string(member);
    writer.double(score);
}
