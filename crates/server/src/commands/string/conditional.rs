//! Strings, by what they hold: conditions on the old text, or on its digest, for `SET` and for deleting.
//!
//! A digest is XXH3 over the text, 64 bits as 16 hexadecimal digits. It is not a secret: whoever can
//! choose texts can make two with the same one. It spares sending a long text only to compare it.

use datatypes::string::StringRef;
use resp::reply::Reply;
use stdx::number::I64Text;
use xxhash_rust::xxh3::xxh3_64;

use super::delete;
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::write("delex", -2, delex)
        .syntax("key [condition(IFEQ ifeq-value|IFNE ifne-value|IFDEQ ifdeq-digest=string|IFDNE ifdne-digest=string)]")
        .key(1)
        .fast()
        .access(Access::VaryDelete(delex_access))
        .group("string")
        .about(
            "8.4.0",
            "O(1), O(N) in the bytes for IFDEQ and IFDNE",
            "Deletes a key, or a string if its text or digest is as wanted.",
        ),
    Command::write("delifeq", 3, delifeq)
        .syntax("key value")
        .key(1)
        .fast()
        .access(Access::Delete)
        .group("string")
        .about("9.0.0", "O(1)", "Deletes a string if it is equal to a value; from Valkey."),
    Command::read("digest", 2, digest)
        .syntax("key")
        .key(1)
        .fast()
        .group("string")
        .about("8.4.0", "O(N) in the bytes", "Returns the digest of a string in hexadecimal."),
];

/// What must hold of the old string. Where there is none, only its absence and inequality do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Condition<'a> {
    /// `NX`: nothing is there.
    Absent,
    /// `XX`: something is there, of any type.
    Present,
    /// `IFEQ`: it has this text.
    Equal(&'a [u8]),
    /// `IFNE`: it has another text.
    Unequal(&'a [u8]),
    /// `IFDEQ`: its text has this digest.
    DigestEqual(&'a [u8]),
    /// `IFDNE`: its text has another digest.
    DigestUnequal(&'a [u8]),
}

impl<'a> Condition<'a> {
    /// The condition on the text that `word` begins, its operand taken from `args`.
    pub fn on_text(word: &[u8], args: &mut Args<'a>) -> Result<Option<Condition<'a>>> {
        Ok(Some(match word {
            b"IFEQ" => Condition::Equal(args.take()?),
            b"IFNE" => Condition::Unequal(args.take()?),
            b"IFDEQ" => Condition::DigestEqual(args.take()?),
            b"IFDNE" => Condition::DigestUnequal(args.take()?),
            _ => return Ok(None),
        }))
    }

    /// Whether it asks for more than existence.
    pub fn is_on_text(self) -> bool {
        !matches!(self, Condition::Absent | Condition::Present)
    }

    /// Whether it holds of a key that is there or is not, its text not looked at.
    pub fn allows_existence(self, exists: bool) -> bool {
        match self {
            Condition::Absent => !exists,
            Condition::Present => exists,
            _ => true,
        }
    }

    /// Whether it holds of the string that is there, if any. A digest that is none is an error, once
    /// there is something to compare it with.
    pub fn allows(self, old: Option<StringRef<'_>>) -> Result<bool> {
        Ok(match (self, old) {
            (Condition::Equal(text), Some(old)) => old.is(text),
            (Condition::Unequal(text), Some(old)) => !old.is(text),
            (Condition::DigestEqual(digest), Some(old)) => parse_digest(digest)? == digest_of(old),
            (Condition::DigestUnequal(digest), Some(old)) => {
                parse_digest(digest)? != digest_of(old)
            }
            (Condition::Equal(_) | Condition::DigestEqual(_), None) => false,
            (Condition::Unequal(_) | Condition::DigestUnequal(_), None) => true,
            (Condition::Absent | Condition::Present, old) => self.allows_existence(old.is_some()),
        })
    }
}

fn digest_of(string: StringRef<'_>) -> u64 {
    match string {
        StringRef::Int(n) => xxh3_64(I64Text::new(n).as_bytes()),
        StringRef::Bytes(bytes) => xxh3_64(bytes),
    }
}

fn parse_digest(text: &[u8]) -> Result<u64> {
    const N_DIGITS: usize = 16;
    std::str::from_utf8(text)
        .ok()
        .filter(|text| text.len() == N_DIGITS && !text.starts_with('+'))
        .and_then(|text| u64::from_str_radix(text, 16).ok())
        .ok_or(Error::Plain("ERR must be exactly 16 hexadecimal characters"))
}

fn digest(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    match ctx.db.string(args.take()?)? {
        Some(string) => reply.bulk(format!("{:016x}", digest_of(string)).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

fn delifeq(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let condition = Condition::Equal(args.take()?);
    delete_if(ctx, key, condition, reply)
}

/// With a condition the value decides whether the key goes.
fn delex_access(request: &[&[u8]]) -> Access {
    match request.len() {
        ..=2 => Access::Delete,
        _ => Access::Take,
    }
}

fn delex(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    if !ctx.db.exists(key) {
        let _ = args.rest();
        reply.int(0);
        return Ok(());
    }
    match args.len() {
        0 => {
            delete(ctx, key);
            reply.int(1);
            return Ok(());
        }
        2 => {}
        _ => return Err(args.arity_error()),
    }
    let word = args.word();
    let word = word.as_deref().unwrap_or_default();
    let condition = Condition::on_text(word, args)?
        .ok_or(Error::Plain("ERR Invalid condition. Use IFEQ, IFNE, IFDEQ, or IFDNE"))?;
    if ctx.db.string(key).is_err() {
        return Err(Error::Plain("ERR Key should be of string type if conditions are specified"));
    }
    delete_if(ctx, key, condition, reply)
}

/// Where there is no string, nothing is deleted, whatever the condition.
fn delete_if(
    ctx: &mut WriteCtx<'_>,
    key: &[u8],
    condition: Condition<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let old = ctx.db.string(key)?;
    let is_deleted = old.is_some() && condition.allows(old)?;
    if is_deleted {
        delete(ctx, key);
    }
    reply.int(i64::from(is_deleted));
    Ok(())
}
