//! What DUMP and FUNCTION DUMP answer, and RESTORE takes.
//!
//! ```text
//!   code  body                  one value
//!   F5  string, F5  string ..   the sources of libraries
//!   then  version u16 LE | CRC-64 of all before LE
//! ```

use datatypes::home::{Encoding, Limits, Owned, Payload};

use crate::code::{FUNCTION, FUNCTION_PRE_GA, VERSION, VERSION_VALKEY};
use crate::crc::checksum;
use crate::error::{Error, Reason, Result};
use crate::load::{self, Terms};
use crate::read::Reader;
use crate::save;
use crate::write::Writer;

const CHECKSUM_BYTES: usize = 8;
const FOOTER_BYTES: usize = 2 + CHECKSUM_BYTES;

/// The payload of a value. O(bytes).
pub fn of_value(encoding: Encoding, value: Payload<'_>, packs: bool) -> Vec<u8> {
    let mut writer = Writer::new(packs);
    writer.byte(save::code(&writer, encoding, value));
    save::value(&mut writer, encoding, value);
    signed(writer)
}

/// The payload of libraries with these sources. O(bytes).
pub fn of_functions<'a>(sources: impl Iterator<Item = &'a [u8]>, packs: bool) -> Vec<u8> {
    let mut writer = Writer::new(packs);
    for source in sources {
        writer.byte(FUNCTION);
        writer.string(source);
    }
    signed(writer)
}

fn signed(writer: Writer) -> Vec<u8> {
    signed_as(writer.out, VERSION)
}

/// A payload of what stands before the footer, which states this version. O(bytes).
pub fn signed_as(mut body: Vec<u8>, version: u16) -> Vec<u8> {
    body.extend_from_slice(&version.to_le_bytes());
    let sum = checksum(&body);
    body.extend_from_slice(&sum.to_le_bytes());
    body
}

/// What is asked of a payload or a file before it is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Demands {
    /// Its checksum is right.
    pub checks_sum: bool,
    /// Its version is one whose types are all known.
    pub knows_version: bool,
}

/// What stands before a footer that is right, and the version that it states.
pub fn verified(payload: &[u8], demands: Demands) -> Result<(&[u8], u16)> {
    let fail = |at: usize, reason| {
        Err(Error {
            offset: at as u64,
            reason,
        })
    };
    let Some(body_len) = payload.len().checked_sub(FOOTER_BYTES) else {
        return fail(payload.len(), Reason::Truncated);
    };
    let (body, footer) = payload.split_at(body_len);
    let version = u16::from_le_bytes([footer[0], footer[1]]);
    let is_known = matches!(version, 1..=VERSION | VERSION_VALKEY);
    if version == 0 || (demands.knows_version && !is_known) {
        return fail(body_len, Reason::Version(version));
    }
    let mut stated = [0; CHECKSUM_BYTES];
    stated.copy_from_slice(&footer[2..]);
    let stated = u64::from_le_bytes(stated);
    let found = checksum(&payload[..body_len + 2]);
    if demands.checks_sum && stated != found {
        return fail(body_len + 2, Reason::Checksum { stated, found });
    }
    Ok((body, version))
}

/// The value in what stands before a footer. O(bytes).
pub fn value(body: &[u8], version: u16, limits: &Limits) -> Result<Owned> {
    let mut reader = Reader::of(body);
    let code = reader.byte()?;
    let value = load::value(&mut reader, code, Terms { version, limits })?;
    match reader.is_at_end() {
        true => Ok(value),
        false => reader.corrupt("bytes behind the value"),
    }
}

/// The sources in what stands before a footer. O(bytes).
pub fn functions(body: &[u8]) -> Result<Vec<Vec<u8>>> {
    let (mut reader, mut sources) = (Reader::of(body), Vec::new());
    while !reader.is_at_end() {
        match reader.byte()? {
            FUNCTION => sources.push(reader.string()?),
            FUNCTION_PRE_GA => {
                return reader.fail(Reason::Unsupported("a function in its pre-release form"));
            }
            code => return reader.fail(Reason::Unknown(code)),
        }
    }
    Ok(sources)
}
