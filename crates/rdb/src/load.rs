//! Bytes to values: every type code of the versions that are read.
//!
//! A blob of a small encoding is checked byte by byte, for duplicates too, and kept as it is if it
//! may have so many elements here; else, and in all older forms, the elements are added one by one,
//! and the type chooses the encoding. What Redis keeps in another order than we do (scores, deadlines)
//! is put into ours.

use std::io::Read;

use datatypes::encoding::intset;
use datatypes::encoding::listpack::{self, Encoder, Item, ItemBuffer};
use datatypes::encoding::quicklist::{NodeLimit, NodeRef, QuickList, Side};
use datatypes::encoding::zsettree::Change;
use datatypes::hash::{self, FieldDeadline, HashMut, HashRef};
use datatypes::home::{Collection, Encoding, Home, Limits, NewPayload, Owned};
use datatypes::list::ListMut;
use datatypes::set::{self, SetMut};
use datatypes::string;
use datatypes::zset::ZsetMut;
use stdx::number::parse_f64;

use crate::code::{VERSION_VALKEY, kind};
use crate::error::{Reason, Result};
use crate::legacy;
use crate::read::Reader;
use crate::stream;

/// The latest deadline that a field may have, Unix time in milliseconds.
const FIELD_DEADLINE_MAX_MS: u64 = (1 << 48) - 2;
/// Valkey's word for a field without a deadline.
const NO_DEADLINE: i64 = -1;

/// What a reader of values needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Terms<'l> {
    /// The version that the file or the payload states.
    pub version: u16,
    /// The thresholds of small encodings.
    pub limits: &'l Limits,
}

/// Reads the value of this code. O(bytes).
pub fn value<R: Read>(reader: &mut Reader<R>, code: u8, terms: Terms<'_>) -> Result<Owned> {
    let limits = terms.limits;
    match code {
        kind::STRING => Ok(string::owned(reader.string()?)),
        kind::LIST => list(reader, limits),
        kind::LIST_ZIPLIST => list_of_ziplists(reader, 1, limits),
        kind::LIST_QUICKLIST => {
            let n_nodes = reader.length()?;
            list_of_ziplists(reader, n_nodes, limits)
        }
        kind::LIST_QUICKLIST_2 => list_of_nodes(reader, limits),
        kind::SET => set(reader, limits),
        kind::SET_INTSET => set_of_integers(reader, limits),
        kind::SET_LISTPACK => set_of_pack(reader, limits),
        kind::ZSET => zset(reader, limits, Reader::double_text),
        kind::ZSET_2 => zset(reader, limits, Reader::double),
        kind::ZSET_ZIPLIST => {
            let pack = ziplist(reader, "Zset ziplist integrity check failed")?;
            zset_of_pack(reader, pack, limits)
        }
        kind::ZSET_LISTPACK => {
            let pack = pack(reader)?;
            zset_of_pack(reader, pack, limits)
        }
        kind::HASH => hash_of_fields(reader, limits, FieldForm::Plain),
        kind::HASH_ZIPMAP => {
            let bytes = reader.string()?;
            let pack = legacy::from_zipmap(&bytes);
            let pack = whole(reader, pack, "Zipmap integrity check failed")?;
            let longest = listpack::iter(&pack).map(Item::text_len).max();
            let home = hash_of_pack(reader, pack, limits)?;
            let is_short = longest.is_none_or(|longest| longest <= limits.hash_max_listpack_value);
            Ok(if is_short {
                home
            } else {
                rebuilt(home, limits)
            })
        }
        kind::HASH_ZIPLIST => {
            let pack = ziplist(reader, "Hash ziplist integrity check failed")?;
            hash_of_pack(reader, pack, limits)
        }
        kind::HASH_LISTPACK => {
            let pack = pack(reader)?;
            hash_of_pack(reader, pack, limits)
        }
        kind::HASH_VALKEY if terms.version >= VERSION_VALKEY => {
            hash_of_fields(reader, limits, FieldForm::Valkey)
        }
        _ if terms.version >= VERSION_VALKEY && code > kind::HASH_VALKEY => {
            reader.fail(Reason::Unknown(code))
        }
        kind::HASH_DEADLINES_PRE_GA => hash_of_fields(reader, limits, FieldForm::Absolute),
        kind::HASH_DEADLINES => {
            let first_ms = reader.milliseconds()?;
            hash_of_fields(reader, limits, FieldForm::After(first_ms))
        }
        kind::HASH_PACK_EX_PRE_GA => hash_of_pack_ex(reader, limits),
        kind::HASH_PACK_EX => {
            reader.milliseconds()?; // the first deadline, which the fields tell as well
            hash_of_pack_ex(reader, limits)
        }
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 | kind::STREAM_4 | kind::STREAM_5 => {
            stream::load(reader, code)
        }
        kind::MODULE_PRE_GA | kind::MODULE => {
            reader.fail(Reason::Unsupported("a value of a module"))
        }
        _ => reader.fail(Reason::Unknown(code)),
    }
}

/// Whether this is the code of a type, which this program may know or not.
pub fn is_kind(code: u8) -> bool {
    code <= kind::STREAM_5 && code != 8
}

fn whole<R: Read, T>(reader: &Reader<R>, made: Option<T>, what: &'static str) -> Result<T> {
    match made {
        Some(made) => Ok(made),
        None => reader.corrupt(what),
    }
}

/// A ziplist as a listpack; `what` is said if it is none.
fn ziplist<R: Read>(reader: &mut Reader<R>, what: &'static str) -> Result<Vec<u8>> {
    let bytes = reader.string()?;
    whole(reader, legacy::from_ziplist(&bytes), what)
}

/// A listpack whose bytes are what they claim to be.
fn pack<R: Read>(reader: &mut Reader<R>) -> Result<Vec<u8>> {
    let bytes = reader.string()?;
    let is_valid = bytes.len() <= listpack::MAX_BYTES && listpack::validate(&bytes).is_ok();
    whole(reader, is_valid.then_some(bytes), "Listpack integrity check failed")
}

/// Elements of a value that must have some.
fn count<R: Read>(reader: &mut Reader<R>) -> Result<u64> {
    match reader.length()? {
        0 => reader.fail(Reason::Empty),
        n => Ok(n),
    }
}

// ---- Lists -------------------------------------------------------------------------------------

fn list<R: Read>(reader: &mut Reader<R>, limits: &Limits) -> Result<Owned> {
    let n_items = count(reader)?;
    let mut home = Owned::new(Encoding::ListPack, NewPayload::Blob(&listpack::EMPTY));
    for _ in 0..n_items {
        let item = reader.string()?;
        let mut list = ListMut::new(&mut home, limits);
        list.push(Side::Tail, std::iter::once(&item[..]));
    }
    Ok(home)
}

fn list_of_ziplists<R: Read>(
    reader: &mut Reader<R>,
    n_nodes: u64,
    limits: &Limits,
) -> Result<Owned> {
    let mut list = QuickList::new();
    for _ in 0..n_nodes {
        list.push_pack(ziplist(reader, "Ziplist integrity check failed")?);
    }
    list_home(reader, list, limits)
}

fn list_of_nodes<R: Read>(reader: &mut Reader<R>, limits: &Limits) -> Result<Owned> {
    let mut list = QuickList::new();
    for _ in 0..count(reader)? {
        match reader.length()? {
            1 => match reader.string()? {
                text if text.is_empty() => return reader.corrupt("a list node without bytes"),
                text => list.push_plain(text.into()),
            },
            2 => list.push_pack(pack(reader)?),
            _ => return reader.corrupt("a list node of an unknown form"),
        }
    }
    list_home(reader, list, limits)
}

/// A list of a single node is a listpack if it may be one.
fn list_home<R: Read>(reader: &Reader<R>, list: QuickList, limits: &Limits) -> Result<Owned> {
    if list.is_empty() {
        return reader.fail(Reason::Empty);
    }
    let limit = NodeLimit::from_directive(limits.list_max_listpack_size);
    let mut nodes = list.nodes();
    if let (Some(NodeRef::Pack(pack)), None) = (nodes.next(), nodes.next())
        && limit.allows(pack.len(), list.len())
    {
        return Ok(Owned::new(Encoding::ListPack, NewPayload::Blob(pack)));
    }
    drop(nodes);
    let list = Box::new(Collection::List(list));
    Ok(Owned::new(Encoding::QuickList, NewPayload::Big(list)))
}

// ---- Sets --------------------------------------------------------------------------------------

fn set<R: Read>(reader: &mut Reader<R>, limits: &Limits) -> Result<Owned> {
    let n_members = count(reader)?;
    let mut home = None;
    for _ in 0..n_members {
        let member = reader.string()?;
        let home = home.get_or_insert_with(|| {
            let n_members = usize::try_from(n_members).unwrap_or(usize::MAX);
            let (encoding, payload) = set::fresh(&member, n_members, limits);
            Owned::new(encoding, payload)
        });
        if !SetMut::new(home, limits).add(&member) {
            return reader.corrupt("a member of a set stands there twice");
        }
    }
    whole(reader, home, "a set")
}

fn set_of_integers<R: Read>(reader: &mut Reader<R>, limits: &Limits) -> Result<Owned> {
    let bytes = reader.string()?;
    if intset::validate(&bytes).is_err() {
        return reader.corrupt("Intset integrity check failed");
    }
    match intset::len(&bytes) {
        0 => reader.fail(Reason::Empty),
        n if n <= limits.set_max_intset_entries => {
            Ok(Owned::new(Encoding::IntSet, NewPayload::Blob(&bytes)))
        }
        n => Ok(set_home(intset::iter(&bytes).map(Item::Int), n, limits)),
    }
}

fn set_of_pack<R: Read>(reader: &mut Reader<R>, limits: &Limits) -> Result<Owned> {
    let pack = pack(reader)?;
    let n_members = elements(reader, &pack, 1)?;
    if n_members > limits.set_max_listpack_entries {
        return Ok(set_home(listpack::iter(&pack), n_members, limits));
    }
    Ok(Owned::new(Encoding::SetPack, NewPayload::Blob(&pack)))
}

/// A set of more members than a small encoding may have.
fn set_home<'a>(members: impl Iterator<Item = Item<'a>>, n: usize, limits: &Limits) -> Owned {
    let (encoding, payload) = set::fresh(b"", n, limits);
    let mut home = Owned::new(encoding, payload);
    let mut handle = SetMut::new(&mut home, limits);
    for member in members {
        handle.add(member.text(&mut ItemBuffer::new()));
    }
    home
}

/// How many elements of `width` items a listpack has, the first item of each being another.
fn elements<R: Read>(reader: &Reader<R>, pack: &[u8], width: usize) -> Result<usize> {
    let n_items = listpack::len(pack);
    if n_items == 0 {
        return reader.fail(Reason::Empty);
    }
    if !n_items.is_multiple_of(width) {
        return reader.corrupt("integrity check failed: a part of an element");
    }
    let names = listpack::iter(pack).step_by(width);
    if has_equals(names) {
        return reader.corrupt("integrity check failed: an element stands there twice");
    }
    Ok(n_items / width)
}

/// Whether a name stands there twice; text that could be an integer is one, however it was stored.
fn has_equals<'a>(names: impl Iterator<Item = Item<'a>>) -> bool {
    let split = |item: Item<'a>| match (item.int(), item) {
        (None, Item::Bytes(text)) => (None, text),
        (number, _) => (number, &b""[..]),
    };
    let mut names: Vec<(Option<i64>, &[u8])> = names.map(split).collect();
    names.sort_unstable();
    names.windows(2).any(|pair| pair[0] == pair[1])
}

// ---- Sorted sets -------------------------------------------------------------------------------

fn zset<R: Read>(
    reader: &mut Reader<R>,
    limits: &Limits,
    score: fn(&mut Reader<R>) -> Result<f64>,
) -> Result<Owned> {
    let n_members = count(reader)?;
    let mut home = Owned::new(Encoding::ZsetPack, NewPayload::Blob(&listpack::EMPTY));
    let mut handle = ZsetMut::new(&mut home, limits);
    handle.reserve(usize::try_from(n_members).unwrap_or(usize::MAX), 0);
    for _ in 0..n_members {
        let member = reader.string()?;
        let score = score(reader)?;
        if score.is_nan() {
            return reader.corrupt("a score that is no number");
        }
        if !matches!(handle.set_score(&member, score), Change::Added(_)) {
            return reader.corrupt("a member of a sorted set stands there twice");
        }
    }
    Ok(home)
}

fn zset_of_pack<R: Read>(reader: &Reader<R>, pack: Vec<u8>, limits: &Limits) -> Result<Owned> {
    let n_members = elements(reader, &pack, 2)?;
    let mut members = Vec::with_capacity(n_members);
    let mut items = listpack::iter(&pack);
    while let (Some(member), Some(score)) = (items.next(), items.next()) {
        let score = match score {
            Item::Int(number) => Some(number as f64),
            Item::Bytes(text) => parse_f64(text),
        };
        match score {
            Some(score) => members.push((member, score)),
            None => return reader.corrupt("a score that is no number"),
        }
    }
    let is_sorted = members.is_sorted_by(|one, other| {
        let by_member = || one.0.to_vec() < other.0.to_vec();
        one.1 < other.1 || one.1 == other.1 && by_member()
    });
    if is_sorted && n_members <= limits.zset_max_listpack_entries {
        return Ok(Owned::new(Encoding::ZsetPack, NewPayload::Blob(&pack)));
    }
    let mut home = Owned::new(Encoding::ZsetPack, NewPayload::Blob(&listpack::EMPTY));
    let mut handle = ZsetMut::new(&mut home, limits);
    handle.reserve(n_members, 0);
    for (member, score) in members {
        handle.set_score(member.text(&mut ItemBuffer::new()), score);
    }
    Ok(home)
}

// ---- Hashes ------------------------------------------------------------------------------------

/// How a field's deadline is written.
#[derive(Clone, Copy)]
enum FieldForm {
    /// There is none.
    Plain,
    /// Unix time before the field, 0 for none.
    Absolute,
    /// Before the field, counted from one less than this time; 0 for none.
    After(i64),
    /// Unix time behind the value.
    Valkey,
}

fn hash_of_fields<R: Read>(
    reader: &mut Reader<R>,
    limits: &Limits,
    form: FieldForm,
) -> Result<Owned> {
    let n_fields = count(reader)?;
    let (encoding, payload) = hash::fresh();
    let mut home = Owned::new(encoding, payload);
    HashMut::new(&mut home, limits).expect_fields(usize::try_from(n_fields).unwrap_or(usize::MAX));
    for _ in 0..n_fields {
        let before = match form {
            FieldForm::Plain | FieldForm::Valkey => None,
            FieldForm::Absolute => deadline(reader, 1)?,
            FieldForm::After(first_ms) => deadline(reader, first_ms)?,
        };
        let (field, value) = (reader.string()?, reader.string()?);
        let deadline_ms = match form {
            FieldForm::Valkey => match reader.milliseconds()? {
                NO_DEADLINE => None,
                ms => checked(reader, u64::try_from(ms).ok())?,
            },
            _ => before,
        };
        let deadline = deadline_ms.map_or(FieldDeadline::Clear, FieldDeadline::At);
        if !HashMut::new(&mut home, limits).set(&field, &value, deadline) {
            return reader.corrupt("a field of a hash stands there twice");
        }
    }
    Ok(home)
}

/// A deadline that is counted from one less than `first_ms`.
fn deadline<R: Read>(reader: &mut Reader<R>, first_ms: i64) -> Result<Option<u64>> {
    match reader.length()? {
        0 => Ok(None),
        after => {
            let first_ms = u64::try_from(first_ms).ok();
            checked(reader, first_ms.and_then(|first_ms| first_ms.checked_add(after - 1)))
        }
    }
}

fn checked<R: Read>(reader: &Reader<R>, deadline_ms: Option<u64>) -> Result<Option<u64>> {
    match deadline_ms {
        Some(1..=FIELD_DEADLINE_MAX_MS) => Ok(deadline_ms),
        _ => reader.corrupt("a deadline of a field that cannot be"),
    }
}

fn hash_of_pack<R: Read>(reader: &Reader<R>, pack: Vec<u8>, limits: &Limits) -> Result<Owned> {
    let n_fields = elements(reader, &pack, 2)?;
    let is_small = n_fields <= limits.hash_max_listpack_entries;
    let home = Owned::new(Encoding::HashPack, NewPayload::Blob(&pack));
    Ok(if is_small {
        home
    } else {
        rebuilt(home, limits)
    })
}

fn hash_of_pack_ex<R: Read>(reader: &mut Reader<R>, limits: &Limits) -> Result<Owned> {
    let pack = pack(reader)?;
    let n_fields = elements(reader, &pack, 3)?;
    let mut fields = Vec::with_capacity(n_fields);
    let mut items = listpack::iter(&pack);
    while let (Some(field), Some(value), Some(deadline)) =
        (items.next(), items.next(), items.next())
    {
        match deadline.int() {
            Some(0) => fields.push((u64::MAX, field, value)),
            ms => {
                let deadline_ms = checked(reader, ms.and_then(|ms| u64::try_from(ms).ok()))?;
                fields.push((deadline_ms.unwrap_or(u64::MAX), field, value));
            }
        }
    }
    let first_ms = fields.iter().map(|field| field.0).min();
    let is_sorted = fields.is_sorted_by_key(|field| field.0);
    let mut home = if is_sorted {
        Owned::new(Encoding::HashPackEx, NewPayload::Blob(&pack))
    } else {
        fields.sort_by_key(|field| field.0);
        let mut encoder = Encoder::new();
        for (deadline_ms, field, value) in fields {
            encoder.push_item(field);
            encoder.push_item(value);
            encoder.push_int(i64::try_from(deadline_ms).unwrap_or(0));
        }
        Owned::new(Encoding::HashPackEx, NewPayload::Blob(&encoder.to_pack()))
    };
    home.scheduled_ms = first_ms.filter(|&ms| ms != u64::MAX);
    let is_small = n_fields <= limits.hash_max_listpack_entries;
    Ok(if is_small {
        home
    } else {
        rebuilt(home, limits)
    })
}

/// The same hash, its fields added one by one, so that they choose the encoding.
fn rebuilt(home: Owned, limits: &Limits) -> Owned {
    let (encoding, payload) = hash::fresh();
    let mut fresh = Owned::new(encoding, payload);
    let mut handle = HashMut::new(&mut fresh, limits);
    handle.expect_fields(usize::MAX);
    let old = HashRef::new(home.encoding(), home.payload()).unwrap_or(HashRef::EMPTY);
    let (mut name, mut value) = (ItemBuffer::new(), ItemBuffer::new());
    for field in old.iter() {
        let deadline = field
            .deadline_ms
            .map_or(FieldDeadline::Clear, FieldDeadline::At);
        handle.set(field.field.text(&mut name), field.value.text(&mut value), deadline);
    }
    fresh
}
