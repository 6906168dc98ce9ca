//! Every error a command may answer with; `Display` is the wire line, code word included.

use keyspace::db::WrongType;
use std::fmt;

/// What handlers return.
pub type Result<T> = std::result::Result<T, Error>;

/// See the top of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Error {
    /// Arguments that do not fit the grammar.
    Syntax,
    /// The key holds another type.
    WrongType,
    /// Not a 64-bit integer.
    NotAnInteger,
    /// Not a number.
    NotAFloat,
    /// A number outside its bounds.
    OutOfRange,
    /// The key must exist.
    NoSuchKey,
    /// An integer would leave 64 bits.
    Overflow,
    /// A float would stop being a number.
    NanOrInfinity,
    /// LSET outside the list.
    IndexOutOfRange,
    /// A deadline that cannot be represented, for this command.
    InvalidExpire(&'static str),
    /// `maxmemory` is reached, and the command may need more.
    OutOfMemory,
    /// Fewer replicas than `min-replicas-to-write` asks for.
    NoReplicas,
    /// This server is a replica that only its primary writes to.
    ReadOnlyReplica,
    /// The link to the primary is down, and what is here may be old.
    Stale,
    /// The data set is not there yet.
    Loading,
    /// The data cannot be saved.
    Misconfigured,
    /// The append-only file cannot be written, for this reason.
    Unwritable(String),
    /// WAITAOF without an append-only file.
    NoAof,
    /// One command's reply would need more memory than any may.
    ReplyTooLong,
    /// Wrong number of arguments for this command.
    Arity(&'static str),
    /// DEBUG, which `enable-debug-command` does not allow here.
    DebugNotAllowed,
    /// A whole line of one command's own.
    Plain(&'static str),
    /// A whole line made at run time.
    Owned(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Error::Syntax => "ERR syntax error",
            Error::WrongType => "WRONGTYPE Operation against a key holding the wrong kind of value",
            Error::NotAnInteger => "ERR value is not an integer or out of range",
            Error::NotAFloat => "ERR value is not a valid float",
            Error::OutOfRange => "ERR value is out of range",
            Error::NoSuchKey => "ERR no such key",
            Error::Overflow => "ERR increment or decrement would overflow",
            Error::NanOrInfinity => "ERR increment would produce NaN or Infinity",
            Error::NoReplicas => "NOREPLICAS Not enough good replicas to write.",
            Error::OutOfMemory => "OOM command not allowed when used memory > 'maxmemory'.",
            Error::ReadOnlyReplica => "READONLY You can't write against a read only replica.",
            Error::Stale => {
                "MASTERDOWN Link with MASTER is down and replica-serve-stale-data is set to 'no'."
            }
            Error::Loading => "LOADING Redis is loading the dataset in memory",
            Error::Misconfigured => {
                "MISCONF Redis is configured to save RDB snapshots, but it's currently unable to \
                 persist to disk. Commands that may modify the data set are disabled, because this \
                 instance is configured to report errors during writes if RDB snapshotting fails \
                 (stop-writes-on-bgsave-error option). Please check the Redis logs for details \
                 about the RDB error."
            }
            Error::Unwritable(reason) => {
                return write!(f, "MISCONF Errors writing to the AOF file: {reason}");
            }
            Error::NoAof => {
                "ERR WAITAOF cannot be used when numlocal is set but appendonly is disabled."
            }
            Error::ReplyTooLong => "ERR reply too long",
            Error::IndexOutOfRange => "ERR index out of range",
            Error::InvalidExpire(name) => {
                return write!(f, "ERR invalid expire time in '{name}' command");
            }
            Error::Arity(name) => {
                return write!(f, "ERR wrong number of arguments for '{name}' command");
            }
            Error::DebugNotAllowed => {
                "ERR DEBUG command not allowed. If the enable-debug-command option is set to \
                 \"local\", you can run it from a local connection, otherwise you need to set this \
                 option in the configuration file, and then restart the server."
            }
            Error::Plain(line) => line,
            Error::Owned(line) => line,
        })
    }
}

impl Error {
    /// A whole line that another crate has made.
    pub fn line(line: Vec<u8>) -> Error {
        Error::Owned(String::from_utf8_lossy(&line).into_owned())
    }
}

impl From<WrongType> for Error {
    fn from(_: WrongType) -> Error {
        Error::WrongType
    }
}

/// The system's words for an error, without Rust's error number.
pub fn reason(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.find(" (os error") {
        Some(end) => text[..end].to_string(),
        None => text,
    }
}
