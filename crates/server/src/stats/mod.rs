//! Statistics: what is counted while the server runs, and how INFO and SLOWLOG tell it.
//!
//! [`Stats`] is shared by all threads. The counts that change with every command are in blocks of
//! their own per thread ([`counters`]); what changes rarely (error codes, the slow log, the peak of
//! memory) is behind leaf locks. INFO is a table ([`table`]) over a plain [`snapshot`] which the
//! server fills; nothing here knows where the figures come from.

pub mod counters;
pub mod errors;
pub mod histogram;
pub mod hotkeys;
pub mod info;
pub mod latency;
pub mod memory;
pub mod process;
pub mod rates;
pub mod slowlog;
pub mod snapshot;
pub mod table;

#[cfg(test)]
mod tests;

use parking_lot::Mutex;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use counters::{Baseline, CommandTotals, Counter, Counters, ThreadCounters, Totals};
use errors::ErrorCodes;
use histogram::Histogram;
use hotkeys::{HotKeys, Usage};
use latency::Latency;
use process::ProcessUsage;
use rates::Rate;
use slowlog::SlowLog;
use snapshot::ActivityInfo;

/// All statistics of one server.
pub struct Stats {
    counters: Counters,
    names: &'static [&'static str],
    startup_bytes: OnceLock<u64>,
    next_sample_ms: AtomicU64,
    baseline: Mutex<Baseline>,
    errors: Mutex<ErrorCodes>,
    rates: Mutex<Rates>,
    peak: Mutex<Peak>,
    /// The slow log; a leaf lock, as are the others here.
    pub slowlog: Mutex<SlowLog>,
    /// The requests that were large, and their bytes.
    pub large_requests: Mutex<SlowLog>,
    /// The same of replies.
    pub large_replies: Mutex<SlowLog>,
    /// What took longer than `latency-monitor-threshold`.
    pub latency: Mutex<Latency>,
    /// The keys that cost most.
    pub hotkeys: Mutex<HotKeys>,
    /// Every command is to be shown to `hotkeys`.
    has_hotkeys: AtomicBool,
    /// Which histograms count; see [`histogram`].
    epoch: AtomicU64,
}

#[derive(Default)]
struct Rates {
    commands: Rate,
    input: Rate,
    output: Rate,
    cycles: Rate,
    active_ns: Rate,
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
    /// Statistics of so many event loops, and of commands with these full names by their numbers.
    pub fn new(n_threads: usize, names: &'static [&'static str]) -> Stats {
        Stats {
            counters: Counters::new(n_threads + 1, names.len()),
            names,
            startup_bytes: OnceLock::new(),
            next_sample_ms: AtomicU64::new(0),
            baseline: Mutex::default(),
            errors: Mutex::default(),
            rates: Mutex::default(),
            peak: Mutex::default(),
            slowlog: Mutex::default(),
            large_requests: Mutex::default(),
            large_replies: Mutex::default(),
            latency: Mutex::default(),
            hotkeys: Mutex::default(),
            has_hotkeys: AtomicBool::new(false),
            epoch: 1.into(),
        }
    }

    /// What the process has used since it began.
    pub fn usage(&self) -> Usage {
        let process = ProcessUsage::read().unwrap_or_default();
        let totals = self.totals_ever();
        let bytes = [Counter::NetInputBytes, Counter::NetOutputBytes].map(|one| totals.get(one));
        Usage {
            user_ms: (process.cpu_user_s * 1000.0) as u64,
            system_ms: (process.cpu_system_s * 1000.0) as u64,
            net_bytes: bytes[0] + bytes[1],
        }
    }

    /// Whether commands are to be shown to [`Stats::hotkeys`].
    pub fn has_hotkeys(&self) -> bool {
        self.has_hotkeys.load(Ordering::Acquire)
    }

    /// Says so, or that they are not.
    pub fn set_hotkeys(&self, some: bool) {
        self.has_hotkeys.store(some, Ordering::Release);
    }

    /// The counters of one event loop, which alone may bump them.
    pub fn thread(&self, thread: usize) -> &ThreadCounters {
        self.counters.thread(thread)
    }

    /// Nanoseconds that each of so many event loops was awake for, since start.
    pub fn active_ns(&self, n_loops: usize) -> Vec<u64> {
        let active_ns = |at| self.counters.thread(at).get(Counter::LoopActiveNs);
        (0..n_loops).map(active_ns).collect()
    }

    /// The counters of the thread that accepts connections.
    pub fn acceptor(&self) -> &ThreadCounters {
        self.counters.last()
    }

    /// Counts what happens rarely, from any thread.
    pub fn count(&self, counter: Counter, by: u64) {
        self.counters.add(counter, by);
    }

    /// Notes what is allocated now as what the server takes without data.
    pub fn note_startup(&self) {
        if let Some(allocated) = memory::allocated() {
            let _ = self.startup_bytes.set(allocated.used_bytes);
        }
    }

    /// What the server takes without data, if known.
    pub fn startup_bytes(&self) -> Option<u64> {
        self.startup_bytes.get().copied()
    }

    /// The epoch of histograms that count.
    #[inline]
    pub fn epoch(&self) -> u64 {
        self.epoch.load(Ordering::Relaxed)
    }

    /// How long the command of this number took, since the last reset. O(threads).
    pub fn histogram(&self, command: usize) -> Histogram {
        self.counters.histogram(command, self.epoch())
    }

    /// Counts an error reply by its code; `line` is the reply without its dash. The number of error
    /// replies is counted apart, by [`Counter::ErrorReplies`].
    pub fn error_reply(&self, line: &[u8]) {
        self.errors.lock().count(line);
    }

    /// Sums since start, which no reset takes back. O(threads).
    pub fn totals_ever(&self) -> Totals {
        self.counters.totals()
    }

    /// Sums since the last reset. O(threads).
    pub fn totals(&self) -> Totals {
        self.baseline.lock().totals_since(&self.counters)
    }

    /// Sums of each command since the last reset, with its full name. O(threads * commands).
    pub fn commands(&self) -> Vec<(&'static str, CommandTotals)> {
        let totals = self.baseline.lock().commands_since(&self.counters);
        let names = self.names.iter().copied();
        names.zip(totals).collect()
    }

    /// Error codes and their counts since the last reset.
    pub fn errors(&self) -> Vec<(String, u64)> {
        self.errors.lock().all()
    }

    /// Takes a sample of the rates and of the memory if its time has come: about every 100 ms.
    /// `now_ms` is of a clock that does not go back. One load when there is nothing to do, so loops
    /// call it in every tick.
    #[inline]
    pub fn sample(&self, now_ms: u64) {
        if self.next_sample_ms.load(Ordering::Relaxed) <= now_ms {
            self.take_sample(now_ms);
        }
    }

    #[cold]
    fn take_sample(&self, now_ms: u64) {
        let next_ms = now_ms + rates::PERIOD_MS;
        self.next_sample_ms.store(next_ms, Ordering::Relaxed);
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
        rates.cycles.sample(totals.get(Counter::LoopCycles), now_ms);
        rates
            .active_ns
            .sample(totals.get(Counter::LoopActiveNs), now_ms);
        drop(rates);
        if let Some(allocated) = memory::allocated() {
            self.note_memory(allocated.used_bytes, now_ms / 1000);
        }
    }

    /// The rates of this moment; the other figures of the result are left at their defaults.
    pub fn activity(&self, now_ms: u64) -> ActivityInfo {
        self.sample(now_ms);
        let rates = self.rates.lock();
        ActivityInfo {
            ops_per_s: rates.commands.per_second(),
            input_bytes_per_s: rates.input.per_second(),
            output_bytes_per_s: rates.output.per_second(),
            cycles_per_s: rates.cycles.per_second(),
            cycle_us: match rates.cycles.per_second() {
                0.0 => 0.0,
                cycles => rates.active_ns.per_second() / cycles / 1000.0,
            },
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
        self.epoch.fetch_add(1, Ordering::Relaxed);
        *self.rates.lock() = Rates::default();
    }
}
