//! What another server's RESTORE takes, and a value put into that form.
//!
//! ```text
//!   codes that are known            version of payloads     server
//!   0 .. 15                         9                       Redis 5 and 6
//!   .. 19                           10                      Redis 7.0
//!   .. 21                           11                      Redis 7.2, Valkey 7 and 8
//!   .. 25                           12                      Redis 7.4 to 8.2
//!   .. 21, and 22 of its own        80                      Valkey 9
//!   all                             that of the value       Minium
//! ```
//!
//! A value that is known there goes as it stands; another is taken apart and written element by element,
//! which all servers read. What has no form there is refused: nothing is left out.

use datatypes::home::{Home, Limits, Owned};
use datatypes::value::ValueRef;

use crate::code::{VERSION_PLAIN, VERSION_VALKEY, kind};
use crate::error::{Error, Reason, Result};
use crate::load::{self, Terms};
use crate::payload::signed_as;
use crate::read::Reader;
use crate::save;
use crate::stream;
use crate::write::Writer;

/// The version from which on fields of hashes have deadlines.
const VERSION_FIELD_DEADLINES: u16 = 12;

/// See the top of the file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// All that this program writes and reads.
    Ours,
    /// That of Redis, and of Valkey before 9, for payloads of this version.
    Redis(u16),
    /// That of Valkey from 9 on.
    Valkey(u16),
}

impl Dialect {
    /// The dialect of a server whose payloads state this version.
    pub fn of_version(version: u16) -> Dialect {
        match version {
            VERSION_VALKEY.. => Dialect::Valkey(version),
            _ => Dialect::Redis(version),
        }
    }

    /// Whether a value of a file of version `from` is read as it stands.
    fn knows(self, code: u8, from: u16) -> bool {
        let is_valkeys = from >= VERSION_VALKEY && code == kind::HASH_VALKEY;
        match (self, code) {
            (Dialect::Ours, _) | (_, kind::MODULE) => true,
            (Dialect::Valkey(_), kind::HASH_VALKEY) => is_valkeys,
            (Dialect::Redis(_), kind::HASH_VALKEY) => false,
            (Dialect::Redis(..10), code) => code <= kind::STREAM,
            (Dialect::Redis(10), code) => code <= kind::STREAM_2,
            (Dialect::Redis(VERSION_PLAIN) | Dialect::Valkey(_), code) => code <= kind::STREAM_3,
            (Dialect::Redis(_), code) => code <= kind::HASH_PACK_EX,
        }
    }

    /// A payload of the value with this code and body, from a file or a payload of version `from`.
    /// O(bytes).
    pub fn payload(self, value: Vec<u8>, from: u16) -> Result<Vec<u8>> {
        let version = self.version(from);
        if value.first().is_some_and(|code| self.knows(*code, from)) {
            return Ok(signed_as(value, version));
        }
        let mut reader = Reader::of(&value);
        let code = reader.byte()?;
        let limits = &Limits::default();
        let terms = Terms {
            version: from,
            limits,
        };
        let value = load::value(&mut reader, code, terms)?;
        Ok(signed_as(self.rewritten(&value)?, version))
    }

    /// A payload of libraries of functions, from one of version `from`: their form never changed. O(bytes).
    pub fn functions(self, body: Vec<u8>, from: u16) -> Vec<u8> {
        signed_as(body, self.version(from))
    }

    /// The version that a payload states.
    fn version(self, from: u16) -> u16 {
        match self {
            Dialect::Ours => from,
            Dialect::Redis(version) | Dialect::Valkey(version) => version,
        }
    }

    /// Code and body of a value, element by element.
    fn rewritten(self, value: &Owned) -> Result<Vec<u8>> {
        let mut writer = Writer::new(false);
        match ValueRef::new(value.encoding(), value.payload()) {
            ValueRef::String(_) => {
                writer.byte(kind::STRING);
                save::value(&mut writer, value.encoding(), value.payload());
            }
            ValueRef::List(list) => {
                writer.byte(kind::LIST);
                writer.length(list.len() as u64);
                list.iter().for_each(|one| save::item(&mut writer, one));
            }
            ValueRef::Set(set) => {
                writer.byte(kind::SET);
                writer.length(set.len() as u64);
                set.iter().for_each(|one| save::item(&mut writer, one));
            }
            ValueRef::Zset(zset) => {
                writer.byte(kind::ZSET_2);
                writer.length(zset.len() as u64);
                for (member, score) in zset.iter() {
                    save::item(&mut writer, member);
                    writer.double(score);
                }
            }
            ValueRef::Hash(hash) => {
                let first_ms = hash.iter().filter_map(|field| field.deadline_ms).min();
                let code = self.code_of_hash(first_ms.is_some())?;
                writer.byte(code);
                if let (kind::HASH_DEADLINES, Some(first_ms)) = (code, first_ms) {
                    writer.milliseconds(first_ms);
                }
                writer.length(hash.len() as u64);
                for field in hash.iter() {
                    match code {
                        kind::HASH_VALKEY => save::field_of_valkey(&mut writer, field),
                        _ => save::field(&mut writer, first_ms, field),
                    }
                }
            }
            ValueRef::Stream(one) => {
                let code = self.code_of_stream(stream::form(one))?;
                writer.byte(code);
                stream::save_as(&mut writer, one, code);
            }
        }
        Ok(writer.out)
    }

    fn code_of_hash(self, has_deadlines: bool) -> Result<u8> {
        match self {
            _ if !has_deadlines => Ok(kind::HASH),
            Dialect::Valkey(_) => Ok(kind::HASH_VALKEY),
            Dialect::Redis(VERSION_FIELD_DEADLINES..) | Dialect::Ours => Ok(kind::HASH_DEADLINES),
            Dialect::Redis(_) => foreign("a hash whose fields have deadlines"),
        }
    }

    fn code_of_stream(self, form: u8) -> Result<u8> {
        match (self, form) {
            (_, kind::STREAM_4) => foreign("a stream that remembers ids of producers"),
            (_, kind::STREAM_5) => foreign("a stream with entries that were given back"),
            (Dialect::Redis(..10), _) => Ok(kind::STREAM),
            (Dialect::Redis(10), _) => Ok(kind::STREAM_2),
            _ => Ok(kind::STREAM_3),
        }
    }
}

fn foreign<T>(what: &'static str) -> Result<T> {
    Err(Error {
        offset: 0,
        reason: Reason::Foreign(what),
    })
}

#[cfg(test)]
mod tests;
