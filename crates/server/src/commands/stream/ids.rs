//! Ids of entries as clients write and read them.

use datatypes::stream::{Entry, StreamId};
use resp::reply::Reply;

use crate::error::{Error, Result};

/// The longest text of an id.
const ID_BYTES_MAX: usize = 41;

/// What an argument that should be an id is not.
pub const INVALID_ID: Error =
    Error::Plain("ERR Invalid stream ID specified as stream command argument");

/// A number of an id. Spaces, a sign and zeros in front are passed over, as C does.
fn number(text: &[u8]) -> Option<u64> {
    if let Some(number) = stdx::number::parse_u64(text) {
        return Some(number);
    }
    let digits = text.trim_ascii_start();
    let digits = digits.strip_prefix(b"+").unwrap_or(digits);
    let is_number = !digits.is_empty() && digits.iter().all(u8::is_ascii_digit);
    let digits = is_number.then_some(digits)?;
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// `ms` or `ms-seq`; the second part is `missing_seq` if it is not there.
pub fn parse(text: &[u8], missing_seq: u64) -> Result<StreamId> {
    let at = text.iter().position(|byte| *byte == b'-');
    let (ms, seq) = match at {
        Some(at) => (number(&text[..at]), number(&text[at + 1..])),
        None => (number(text), Some(missing_seq)),
    };
    match (ms, seq) {
        (Some(ms), Some(seq)) => Ok(StreamId::new(ms, seq)),
        _ => Err(INVALID_ID),
    }
}

/// The same, where `-` and `+` are the smallest id and the largest.
pub fn parse_wide(text: &[u8], missing_seq: u64) -> Result<StreamId> {
    match text {
        b"-" => Ok(StreamId::MIN),
        b"+" => Ok(StreamId::MAX),
        _ => parse(text, missing_seq),
    }
}

/// The first id of a range; behind `(` the one that follows.
pub fn range_start(text: &[u8]) -> Result<StreamId> {
    match text {
        [b'(', id @ ..] if !id.is_empty() => parse(id, 0)?
            .next()
            .ok_or(Error::Plain("ERR invalid start ID for the interval")),
        _ => parse_wide(text, 0),
    }
}

/// The last id of a range; behind `(` the one before it.
pub fn range_end(text: &[u8]) -> Result<StreamId> {
    match text {
        [b'(', id @ ..] if !id.is_empty() => parse(id, u64::MAX)?
            .prev()
            .ok_or(Error::Plain("ERR invalid end ID for the interval")),
        _ => parse_wide(text, u64::MAX),
    }
}

/// An id as text.
pub struct IdText {
    bytes: [u8; ID_BYTES_MAX],
    len: usize,
}

impl IdText {
    /// The text of `id`.
    pub fn new(id: StreamId) -> IdText {
        let mut text = IdText {
            bytes: [0; ID_BYTES_MAX],
            len: 0,
        };
        let mut buffer = itoa::Buffer::new();
        text.push(buffer.format(id.ms).as_bytes());
        text.push(b"-");
        text.push(buffer.format(id.seq).as_bytes());
        text
    }

    fn push(&mut self, part: &[u8]) {
        self.bytes[self.len..self.len + part.len()].copy_from_slice(part);
        self.len += part.len();
    }

    /// Its bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// Writes an id.
pub fn write_id(reply: &mut Reply<'_>, id: StreamId) {
    reply.bulk(IdText::new(id).as_bytes());
}

/// Writes an entry: its id, and its fields in one flat array.
pub fn write_entry(reply: &mut Reply<'_>, entry: Entry<'_>) -> Result<()> {
    write_entry_of(2, reply, entry)
}

/// The same as the beginning of an array of `n`, whose rest the caller writes.
pub fn write_entry_of(n: usize, reply: &mut Reply<'_>, entry: Entry<'_>) -> Result<()> {
    // Names that a block has once are repeated for each entry: the reply may outgrow the data.
    if reply.is_full() {
        return Err(Error::ReplyTooLong);
    }
    reply.array(n);
    write_id(reply, entry.id);
    reply.array(2 * entry.len());
    let mut buffer = itoa::Buffer::new();
    for (name, value) in entry.fields() {
        reply.bulk(name.text(&mut buffer));
        reply.bulk(value.text(&mut buffer));
    }
    Ok(())
}
