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
    /// How long it ran.
    pub duration_us: u64,
    /// Its arguments, shortened.
    pub args: Vec<Vec<u8>>,
    /// The client's address and port.
    pub client_address: String,
    /// The client's name; may be empty.
    pub client_name: Vec<u8>,
}

/// The log. Bounded by the `slowlog-max-len` given with each entry.
#[derive(Default)]
pub struct SlowLog {
    entries: VecDeque<SlowEntry>,
    next_id: u64,
}

impl SlowLog {
    /// Adds a command. The entry's id is given here; `args` is everything the client sent.
    pub fn add(&mut self, mut entry: SlowEntry, args: &[&[u8]], max_len: usize) {
        entry.id = self.next_id;
        entry.args = shortened(args);
        self.next_id += 1;
        self.entries.push_front(entry);
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
