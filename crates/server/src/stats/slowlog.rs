//! The slow log: the last commands that took long, newest first, with shortened arguments.

use std::collections::VecDeque;

/// Arguments kept of one command; the last place tells how many more there were.
const MAX_ARGS: usize = 32;
/// Bytes kept of one argument; behind them it says how many more there were.
const MAX_ARG_BYTES: usize = 128;

/// One slow command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SlowEntry {
    /// Counts up from 0 for the life of the process.
    pub id: u64,
    /// When it ran, Unix time.
    pub time_s: i64,
    /// How many microseconds it ran; in the logs of large ones, how many bytes it had.
    pub measure: u64,
    /// Its arguments, shortened.
    pub args: Vec<Vec<u8>>,
    /// The client's address and port.
    pub client_address: String,
    /// The client's name; may be empty.
    pub client_name: Vec<u8>,
}

/// A command that took long, as the engine knows it.
#[derive(Clone, Copy, Debug)]
pub struct Slow<'a> {
    /// When it ran, Unix time.
    pub time_s: i64,
    /// How many microseconds it ran; in the logs of large ones, how many bytes it had.
    pub measure: u64,
    /// Everything the client sent; secrets are already replaced.
    pub args: &'a [&'a [u8]],
    /// The client's address and port.
    pub client_address: &'a str,
    /// The client's name; may be empty.
    pub client_name: &'a [u8],
}

/// The log. Bounded by the `slowlog-max-len` given with each entry.
#[derive(Default)]
pub struct SlowLog {
    entries: VecDeque<SlowEntry>,
    next_id: u64,
}

impl SlowLog {
    /// Adds a command, and forgets the oldest ones beyond `max_len`.
    pub fn add(&mut self, slow: &Slow<'_>, max_len: usize) {
        if max_len == 0 {
            return self.entries.clear();
        }
        self.entries.push_front(SlowEntry {
            id: self.next_id,
            time_s: slow.time_s,
            measure: slow.measure,
            args: shortened(slow.args),
            client_address: slow.client_address.to_owned(),
            client_name: slow.client_name.to_vec(),
        });
        self.next_id += 1;
        self.entries.truncate(max_len);
    }

    /// The newest entries, at most `count` of them.
    pub fn newest(&self, count: usize) -> Vec<SlowEntry> {
        self.entries.iter().take(count).cloned().collect()
    }

    /// How many entries there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Forgets all entries; ids go on.
    pub fn reset(&mut self) {
        self.entries.clear();
    }
}

fn shortened(args: &[&[u8]]) -> Vec<Vec<u8>> {
    if args.len() <= MAX_ARGS {
        return args.iter().map(|arg| shortened_arg(arg)).collect();
    }
    let mut kept: Vec<Vec<u8>> = args[..MAX_ARGS - 1]
        .iter()
        .map(|arg| shortened_arg(arg))
        .collect();
    let n_more = args.len() - kept.len();
    kept.push(format!("... ({n_more} more arguments)").into_bytes());
    kept
}

fn shortened_arg(arg: &[u8]) -> Vec<u8> {
    if arg.len() <= MAX_ARG_BYTES {
        return arg.to_vec();
    }
    let mut kept = arg[..MAX_ARG_BYTES].to_vec();
    kept.extend(format!("... ({} more bytes)", arg.len() - MAX_ARG_BYTES).bytes());
    kept
}
