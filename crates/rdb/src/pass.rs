//! Where a value ends, without a look at what is in it: for who hands its bytes on as they are.
//!
//! The shapes are those of `load`, which says what they mean.

use std::io::Read;

use crate::code::{VERSION_VALKEY, kind};
use crate::error::{Reason, Result};
use crate::read::Reader;

/// Passes over the value of this code, in a file of this version. O(bytes).
pub fn value<R: Read>(reader: &mut Reader<R>, code: u8, version: u16) -> Result<()> {
    match code {
        kind::STRING
        | kind::SET_INTSET
        | kind::SET_LISTPACK
        | kind::ZSET_ZIPLIST
        | kind::ZSET_LISTPACK
        | kind::HASH_ZIPMAP
        | kind::HASH_ZIPLIST
        | kind::HASH_LISTPACK
        | kind::HASH_PACK_EX_PRE_GA
        | kind::LIST_ZIPLIST => reader.pass_string(),
        kind::LIST | kind::SET | kind::LIST_QUICKLIST => some(reader, Reader::pass_string),
        kind::LIST_QUICKLIST_2 => some(reader, |reader| {
            reader.length()?; // the form of the node
            reader.pass_string()
        }),
        kind::ZSET => some(reader, |reader| {
            reader.pass_string()?;
            reader.double_text().map(|_| ())
        }),
        kind::ZSET_2 => some(reader, |reader| {
            reader.pass_string()?;
            reader.pass(8)
        }),
        kind::HASH => some(reader, pair),
        kind::HASH_DEADLINES => {
            reader.pass(8)?;
            some(reader, |reader| {
                reader.length()?;
                pair(reader)
            })
        }
        kind::HASH_PACK_EX => {
            reader.pass(8)?;
            reader.pass_string()
        }
        kind::HASH_DEADLINES_PRE_GA if version < VERSION_VALKEY => some(reader, |reader| {
            reader.length()?;
            pair(reader)
        }),
        kind::HASH_VALKEY => some(reader, |reader| {
            pair(reader)?;
            reader.pass(8)
        }),
        kind::STREAM | kind::STREAM_2 | kind::STREAM_3 | kind::STREAM_4 | kind::STREAM_5 => {
            stream(reader, code)
        }
        kind::MODULE => module(reader),
        kind::MODULE_PRE_GA => {
            reader.fail(Reason::Unsupported("a value of a module in its first form"))
        }
        _ => reader.fail(Reason::Unknown(code)),
    }
}

/// A length, and so many things.
fn each<R: Read>(
    reader: &mut Reader<R>,
    pass: impl Fn(&mut Reader<R>) -> Result<()>,
) -> Result<()> {
    let n = reader.length()?;
    (0..n).try_for_each(|_| pass(reader))
}

/// The same, but at least one.
fn some<R: Read>(
    reader: &mut Reader<R>,
    pass: impl Fn(&mut Reader<R>) -> Result<()>,
) -> Result<()> {
    match reader.length()? {
        0 => reader.fail(Reason::Empty),
        n => (0..n).try_for_each(|_| pass(reader)),
    }
}

fn pair<R: Read>(reader: &mut Reader<R>) -> Result<()> {
    reader.pass_string()?;
    reader.pass_string()
}

fn lengths<R: Read>(reader: &mut Reader<R>, n: usize) -> Result<()> {
    (0..n).try_for_each(|_| reader.length().map(|_| ()))
}

fn stream<R: Read>(reader: &mut Reader<R>, code: u8) -> Result<()> {
    let has_facts = code != kind::STREAM;
    let has_active = !matches!(code, kind::STREAM | kind::STREAM_2);
    each(reader, pair)?;
    lengths(reader, if has_facts { 8 } else { 3 })?;
    each(reader, |reader| {
        reader.pass_string()?;
        lengths(reader, if has_facts { 3 } else { 2 })?;
        each(reader, |reader| {
            reader.pass(16 + 8)?;
            reader.length().map(|_| ())
        })?;
        each(reader, |reader| {
            reader.pass_string()?;
            reader.pass(if has_active { 16 } else { 8 })?;
            each(reader, |reader| reader.pass(16))
        })?;
        match code {
            kind::STREAM_5 => each(reader, |reader| reader.pass(16)),
            _ => Ok(()),
        }
    })?;
    if !matches!(code, kind::STREAM_4 | kind::STREAM_5) {
        return Ok(());
    }
    lengths(reader, 2)?;
    each(reader, |reader| {
        reader.pass_string()?;
        each(reader, |reader| {
            reader.pass_string()?;
            lengths(reader, 2)
        })
    })?;
    lengths(reader, 2)
}

/// Passes over what a module has kept, behind the module's number: its parts say how long they are.
pub fn module<R: Read>(reader: &mut Reader<R>) -> Result<()> {
    reader.length()?;
    loop {
        match reader.length()? {
            0 => return Ok(()),
            1 | 2 => lengths(reader, 1)?,
            3 => reader.pass(4)?,
            4 => reader.pass(8)?,
            5 => reader.pass_string()?,
            _ => return reader.corrupt("data of a module of an unknown form"),
        }
    }
}
