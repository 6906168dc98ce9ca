//! Counters that every thread bumps without disturbing the others.
//!
//! ```text
//!  thread 0: | counters ............ | commands[0..n] |   each block is written by its thread alone,
//!  thread 1: | counters ............ | commands[0..n] |   with plain loads and stores, and begins on
//!  ...                                                    a cache line of its own
//! ```
//!
//! Reading sums the blocks. Resetting never writes to a block, which would race with its owner: it
//! remembers the sums of that moment, and later readings subtract them.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use super::histogram::{Cell, Histogram};

/// What is counted per thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counter {
    /// Connections accepted.
    ConnectionsReceived,
    /// Connections turned away for `maxclients`.
    RejectedConnections,
    /// Changes to the data set.
    Changes,
    /// Commands executed.
    CommandsProcessed,
    /// Error replies sent.
    ErrorReplies,
    /// Bytes read from clients.
    NetInputBytes,
    /// Bytes written to clients.
    NetOutputBytes,
    /// Bytes from the primary.
    ReplicationInputBytes,
    /// Bytes to replicas.
    ReplicationOutputBytes,
    /// Socket reads.
    ReadsProcessed,
    /// Socket writes.
    WritesProcessed,
    /// Look-ups by read commands that found their key.
    KeyspaceHits,
    /// Look-ups by read commands that did not.
    KeyspaceMisses,
    /// Keys whose deadline passed.
    ExpiredKeys,
    /// Hash fields whose deadline passed.
    ExpiredFields,
    /// Keys that went for memory.
    EvictedKeys,
    /// Clients that were closed for memory.
    EvictedClients,
    /// Microseconds that memory was over its limit while keys were evicted.
    EvictionExceededUs,
    /// Failed AUTH.
    DeniedAuth,
    /// Requests refused for their command.
    DeniedCommand,
    /// Requests refused for a key.
    DeniedKey,
    /// Requests refused for a channel.
    DeniedChannel,
    /// Requests refused because of a database.
    DeniedDatabase,
    /// Clients closed for their query buffer.
    QueryBufferDisconnections,
    /// Clients closed for their output buffer.
    OutputBufferDisconnections,
    /// Values freed by a background thread.
    LazyFreedObjects,
    /// Scripts that went from the cache for others.
    EvictedScripts,
    /// Turns of the event loops.
    LoopCycles,
    /// Nanoseconds that event loops were awake for, up to their last command in each turn.
    LoopActiveNs,
    /// Time of commands within scripts and EXEC, which have it, too.
    NestedNs,
}

const N_COUNTERS: usize = Counter::NestedNs as usize + 1;

/// One command's counts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CommandTotals {
    /// Times it ran.
    pub calls: u64,
    /// Nanoseconds it ran for.
    pub duration_ns: u64,
    /// Times it was refused before it ran.
    pub rejected: u64,
    /// Times it ran and answered an error.
    pub failed: u64,
}

/// Sums over all threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Totals {
    counters: [u64; N_COUNTERS],
}

impl Totals {
    /// One counter's sum.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize]
    }
}

#[derive(Default)]
struct CommandCounters {
    calls: AtomicU64,
    duration_ns: AtomicU64,
    rejected: AtomicU64,
    failed: AtomicU64,
    histogram: Cell,
}

/// One thread's block. Only its thread may bump it: two writers would lose counts.
#[repr(align(128))]
pub struct ThreadCounters {
    counters: [AtomicU64; N_COUNTERS],
    n_commands: usize,
    /// Absent until the thread counts a command.
    commands: OnceLock<Box<[CommandCounters]>>,
}

fn bump(cell: &AtomicU64, by: u64) {
    cell.store(cell.load(Ordering::Relaxed).wrapping_add(by), Ordering::Relaxed);
}

impl ThreadCounters {
    fn new(n_commands: usize) -> ThreadCounters {
        ThreadCounters {
            counters: Default::default(),
            n_commands,
            commands: OnceLock::new(),
        }
    }

    #[inline]
    fn of_command(&self, command: usize) -> Option<&CommandCounters> {
        let fresh = || (0..self.n_commands).map(|_| CommandCounters::default());
        self.commands.get_or_init(|| fresh().collect()).get(command)
    }

    /// Adds to a counter.
    #[inline]
    pub fn add(&self, counter: Counter, by: u64) {
        bump(&self.counters[counter as usize], by);
    }

    /// This thread's share of a counter, since start.
    pub fn get(&self, counter: Counter) -> u64 {
        self.counters[counter as usize].load(Ordering::Relaxed)
    }

    /// Counts a command that ran, by the command's number.
    #[inline]
    pub fn command_ran(&self, command: usize, duration_ns: u64, failed: bool) {
        if let Some(counters) = self.of_command(command) {
            bump(&counters.calls, 1);
            bump(&counters.duration_ns, duration_ns);
            bump(&counters.failed, u64::from(failed));
        }
    }

    /// Counts `n` runs of a command that took so long each, for an epoch of histograms.
    #[inline]
    pub fn command_took(&self, command: usize, time_ns: u64, n: u64, epoch: u64) {
        if let Some(counters) = self.of_command(command) {
            counters.histogram.add(time_ns, n, epoch);
        }
    }

    /// Counts a command that was refused before it ran.
    pub fn command_rejected(&self, command: usize) {
        if let Some(counters) = self.of_command(command) {
            bump(&counters.rejected, 1);
        }
    }
}

/// All threads' blocks.
pub struct Counters {
    threads: Box<[ThreadCounters]>,
    /// What is counted rarely, by any thread.
    shared: [AtomicU64; N_COUNTERS],
    n_commands: usize,
}

impl Counters {
    /// Blocks for so many threads and commands.
    pub fn new(n_threads: usize, n_commands: usize) -> Counters {
        let threads = (0..n_threads)
            .map(|_| ThreadCounters::new(n_commands))
            .collect();
        Counters {
            threads,
            shared: Default::default(),
            n_commands,
        }
    }

    /// One thread's block. `thread` is below the number given to [`new`](Self::new).
    pub fn thread(&self, thread: usize) -> &ThreadCounters {
        &self.threads[thread]
    }

    /// The last block: that of the thread that accepts connections.
    pub fn last(&self) -> &ThreadCounters {
        &self.threads[self.threads.len() - 1]
    }

    /// Adds to a counter from any thread, with an atomic addition.
    pub fn add(&self, counter: Counter, by: u64) {
        self.shared[counter as usize].fetch_add(by, Ordering::Relaxed);
    }

    /// Sums since start.
    pub fn totals(&self) -> Totals {
        let mut totals = Totals::default();
        for (sum, cell) in totals.counters.iter_mut().zip(&self.shared) {
            *sum = cell.load(Ordering::Relaxed);
        }
        for thread in &self.threads {
            for (sum, cell) in totals.counters.iter_mut().zip(&thread.counters) {
                *sum = sum.wrapping_add(cell.load(Ordering::Relaxed));
            }
        }
        totals
    }

    /// How long a command took, in an epoch.
    pub fn histogram(&self, command: usize, epoch: u64) -> Histogram {
        let mut sum = Histogram::default();
        let cells = self
            .threads
            .iter()
            .filter_map(|thread| thread.commands.get()?.get(command));
        cells.for_each(|counters| counters.histogram.add_to(&mut sum, epoch));
        sum
    }

    /// Sums of each command since start, by its number.
    pub fn commands(&self) -> Vec<CommandTotals> {
        let mut totals = vec![CommandTotals::default(); self.n_commands];
        for thread in &self.threads {
            let commands = thread.commands.get().into_iter().flatten();
            for (sum, cells) in totals.iter_mut().zip(commands) {
                sum.calls += cells.calls.load(Ordering::Relaxed);
                sum.duration_ns += cells.duration_ns.load(Ordering::Relaxed);
                sum.rejected += cells.rejected.load(Ordering::Relaxed);
                sum.failed += cells.failed.load(Ordering::Relaxed);
            }
        }
        totals
    }
}

/// What was counted before the last reset.
#[derive(Default)]
pub struct Baseline {
    totals: Totals,
    commands: Vec<CommandTotals>,
}

impl Baseline {
    /// The state of this moment.
    pub fn of(counters: &Counters) -> Baseline {
        Baseline {
            totals: counters.totals(),
            commands: counters.commands(),
        }
    }

    /// What was counted since.
    pub fn totals_since(&self, counters: &Counters) -> Totals {
        let mut totals = counters.totals();
        for (sum, before) in totals.counters.iter_mut().zip(&self.totals.counters) {
            *sum = sum.wrapping_sub(*before);
        }
        totals
    }

    /// What each command counted since.
    pub fn commands_since(&self, counters: &Counters) -> Vec<CommandTotals> {
        let mut totals = counters.commands();
        for (sum, before) in totals.iter_mut().zip(&self.commands) {
            sum.calls -= before.calls;
            sum.duration_ns -= before.duration_ns;
            sum.rejected -= before.rejected;
            sum.failed -= before.failed;
        }
        totals
    }
}
