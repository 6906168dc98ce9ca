//! Why bytes could not be read: where, and what is wrong.

use std::fmt;

/// See the top of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Error {
    /// Bytes from the start, at about which it showed.
    pub offset: u64,
    /// What is wrong.
    pub reason: Reason,
}

/// What is wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// The bytes end before what they began.
    Truncated,
    /// The system could not read on.
    Io(String),
    /// No file of this kind begins so.
    Signature,
    /// A version that this program does not know.
    Version(u16),
    /// A type or an opcode that this program does not know.
    Unknown(u8),
    /// A type that this program knows and cannot hold.
    Unsupported(&'static str),
    /// A value for which another server has no form.
    Foreign(&'static str),
    /// What was read contradicts itself.
    Corrupt(&'static str),
    /// A collection without elements, which no key may hold.
    Empty,
    /// The bytes are not those that were written.
    Checksum {
        /// As the bytes say.
        stated: u64,
        /// As they are.
        found: u64,
    },
}

/// What reading returns.
pub type Result<T> = std::result::Result<T, Error>;

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Truncated => f.write_str("unexpected end"),
            Reason::Io(error) => write!(f, "cannot be read: {error}"),
            Reason::Signature => f.write_str("wrong signature"),
            Reason::Version(version) => write!(f, "Can't handle RDB format version {version}"),
            Reason::Unknown(code) => write!(f, "unknown type or opcode {code}"),
            Reason::Unsupported(what) => write!(f, "{what} cannot be loaded by this version"),
            Reason::Foreign(what) => write!(f, "{what}, which the other server cannot hold"),
            Reason::Corrupt(what) => write!(f, "corrupt: {what}"),
            Reason::Empty => f.write_str("corrupt: a collection without elements"),
            Reason::Checksum { stated, found } => {
                write!(f, "RDB CRC error: expected {stated:016x}, found {found:016x}")
            }
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.reason, self.offset)
    }
}

impl std::error::Error for Error {}
