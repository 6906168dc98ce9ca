//! Sandboxed Lua 5.1 for EVAL; calls out through a [`Host`].
//!
//! An [`Interpreter`] compiles scripts, keeps them by their SHA-1, and runs them one at a time. A
//! script reaches the server only by `redis.call` and its siblings: the arguments go out as byte
//! slices, the reply comes back as RESP bytes in a buffer that is used again ([`decode`]), and what
//! the script returns is written straight to a [`Sink`] ([`encode`]). The crate knows no keyspace,
//! no clock and no command; whether a command may run in a script is for the host to say.
//!
//! What scripts may see is laid out in `prelude.lua`, which runs once per interpreter. Unsafe code is
//! confined to [`slot`], which lends a borrowed host to functions that Lua owns, and `raw`, which
//! begins runs and makes calls past mlua.

#![deny(unsafe_code)]

pub mod decode;
pub mod encode;
pub mod interpreter;
mod libraries;
pub mod library;
pub mod native;
mod raw;
pub mod script;
pub mod slot;

#[cfg(test)]
mod tests;

/// What a script can reach of the server.
pub trait Host {
    /// Runs a command and appends exactly one reply to `out`, an error reply included. `args` is never
    /// empty.
    fn call(&mut self, args: &[&[u8]], how: How, out: &mut Vec<u8>);

    /// Whether the user on whose behalf the script runs may run a command; `None` if there is no such
    /// command. `args` is never empty.
    fn allows(&mut self, args: &[&[u8]]) -> Option<bool>;

    /// Writes a line that the script wants in the server's log.
    fn log(&mut self, level: LogLevel, message: &[u8]);

    /// Says whether what the script writes from now on reaches the append-only file, and the replicas.
    fn set_journal(&mut self, file: bool, replicas: bool);

    /// Called every [`TICK_INSTRUCTIONS`] instructions of a running script. An error, without its
    /// dash, ends the script with that message; it must be returned again until the script has ended.
    fn tick(&mut self) -> Result<(), Vec<u8>>;
}

/// How a script calls a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct How {
    /// The reply is RESP3, else RESP2.
    pub resp3: bool,
    /// By which library.
    pub api: Api,
}

/// The two names of the library that reaches the server. They do the same, but each has its errors in
/// the words of the server that brought the name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Api {
    /// `redis`
    Redis,
    /// `server`, which comes from Valkey.
    Server,
}

impl Api {
    /// Its name in scripts.
    pub fn name(self) -> &'static str {
        match self {
            Api::Redis => "redis",
            Api::Server => "server",
        }
    }
}

/// How many instructions run between two ticks of the host: some hundred microseconds.
pub const TICK_INSTRUCTIONS: u32 = 100_000;

/// How urgent a script finds its log line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// `redis.LOG_DEBUG`
    Debug,
    /// `redis.LOG_VERBOSE`
    Verbose,
    /// `redis.LOG_NOTICE`
    Notice,
    /// `redis.LOG_WARNING`
    Warning,
}

/// Where a script's result is written. Elements follow the header that announced them.
pub trait Sink {
    /// A null.
    fn null(&mut self);
    /// An integer.
    fn int(&mut self, value: i64);
    /// A boolean; only after `redis.setresp(3)`.
    fn boolean(&mut self, value: bool);
    /// A bulk string.
    fn bulk(&mut self, bytes: &[u8]);
    /// A status line, free of line ends.
    fn status(&mut self, line: &[u8]);
    /// An error line without its dash, free of line ends. `is_counted`: a command has answered it, and
    /// it was counted then.
    fn error(&mut self, line: &[u8], is_counted: bool);
    /// A double.
    fn double(&mut self, value: f64);
    /// An integer of any size.
    fn big_number(&mut self, digits: &[u8]);
    /// Text with a format of three letters.
    fn verbatim(&mut self, format: &str, text: &[u8]);
    /// The header of an array of `n` elements.
    fn array(&mut self, n: usize);
    /// The header of a map of `n` pairs.
    fn map(&mut self, n: usize);
    /// The header of a set of `n` elements.
    fn set(&mut self, n: usize);
}

/// Why a script did not return.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The whole error line, without its dash and free of line ends.
    pub message: Vec<u8>,
    /// Whether it is a command's error, which was counted when the command ran.
    pub from_command: bool,
}
