//! Statistics: what is counted while the server runs, and how INFO and SLOWLOG tell it.
//!
//! [`Stats`] is shared by all threads. The counts that change with every command are in blocks of
//! their own per thread ([`counters`]); what changes rarely (error codes, the slow log, the peak of
//! memory) is behind leaf locks. INFO is a table ([`table`]) over a plain [`snapshot`] which the
//! server fills; nothing here knows where the figures come from.

pub mod counters;
pub mod errors;
pub mod info;
pub mod process;
pub mod rates;
pub mod slowlog;
pub mod snapshot;
pub mod table;

#[cfg(test)]
mod tests;

use parking_lot::Mutex;

use counters::{Baseline, CommandTotals, Counter, Counters, ThreadCounters, Totals};
use errors::ErrorCodes;
use rates::Rate;
use slowlog::SlowLog;
use snapshot::ActivityInfo;

/// All statistics of one server.
pub struct Stats {
    counters: Counters,
    baseline: Mutex<Baseline>,
    errors: Mutex<ErrorCodes>,
    rates: Mutex<Rates>,
    peak: Mutex<Peak>,
    /// The slow log; a leaf lock.
    pub slowlog: Mutex<SlowLog>,
}

#[derive(Default)]
struct Rates {
    commands: Rate,
    input: Rate,
    output: Rate,
}

/// The most memory that was ever in use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Peak {
    /// How much.
    pub bytes: u64,
    /// When, Unix time.
    pub time_s: u64,
}

impl Stats {
    /// Statistics for so many threads that count, and so many command numbers.
    pub fn new(n_threads: usize, n_commands: usize) -> Stats {
        Stats {
            counters: Counters::new(n_threads, n_commands),
            baseline: Mutex::default(),
            errors: Mutex::default(),
            rates: Mutex::default(),
            peak: Mutex::default(),
            slowlog: Mutex::default(),
        }
    }

    /// The counters of one thread, which alone may bump them.
    pub fn thread(&self, thread: usize) -> &ThreadCounters {
        self.counters.thread(thread)
    }

    /// Counts an error reply by its code; `line` is the reply without its dash. The number of error
    /// replies is counted apart, by [`Counter::ErrorReplies`].
    pub fn error_reply(&self, line: &[u8]) {
        self.errors.lock().count(line);
    }

    /// Sums since the last reset. O(threads).
    pub fn totals(&self) -> Totals {
        self.baseline.lock().totals_since(&self.counters)
    }

    /// Sums of each command since the last reset, by its number. O(threads * commands).
    pub fn commands(&self) -> Vec<CommandTotals> {
        self.baseline.lock().commands_since(&self.counters)
    }

    /// Error codes and their counts since the last reset.
    pub fn errors(&self) -> Vec<(String, u64)> {
        self.errors.lock().all()
    }

    /// Takes a sample of the rates if its time has come. `now_ms` is of a monotonic clock. Called
    /// about every 100 ms while there is work.
    pub fn sample(&self, now_ms: u64) {
        let totals = self.counters.totals();
        let mut rates = self.rates.lock();
        rates
            .commands
            .sample(totals.get(Counter::CommandsProcessed), now_ms);
        rates
            .input
            .sample(totals.get(Counter::NetInputBytes), now_ms);
        rates
            .output
            .sample(totals.get(Counter::NetOutputBytes), now_ms);
    }

    /// The rates of this moment; the other figures of the result are left at their defaults.
    pub fn activity(&self, now_ms: u64) -> ActivityInfo {
        self.sample(now_ms);
        let rates = self.rates.lock();
        ActivityInfo {
            ops_per_s: rates.commands.per_second(),
            input_bytes_per_s: rates.input.per_second(),
            output_bytes_per_s: rates.output.per_second(),
            ..ActivityInfo::default()
        }
    }

    /// Notes the memory in use, and returns the most it ever was.
    pub fn note_memory(&self, used_bytes: u64, time_s: u64) -> Peak {
        let mut peak = self.peak.lock();
        if used_bytes > peak.bytes {
            *peak = Peak {
                bytes: used_bytes,
                time_s,
            };
        }
        *peak
    }

    /// CONFIG RESETSTAT: counts start anew; the slow log stays.
    pub fn reset(&self) {
        *self.baseline.lock() = Baseline::of(&self.counters);
        self.errors.lock().reset();
        *self.rates.lock() = Rates::default();
    }
}
