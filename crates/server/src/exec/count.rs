//! What is counted of every command: how often, how long, how it ended; and the slow log.
//!
//! The clock is read once a command: one ends when the next begins. A run of the same quick command
//! in one batch, small requests with small replies, is timed as one: reading the clock costs as much
//! as a sixth of a GET. The run's time counts as its last command's, so the sums are right, and if it
//! is too long for the slow log the last one is noted.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{Engine, Nesting};
use crate::command::{Command, Flag};
use crate::monitor::Source;
use crate::session::Session;
use crate::stats::counters::{Counter, ThreadCounters};
use crate::stats::slowlog::Slow;

/// A slow log that begins below this wants every command's own time.
const EXACT_BELOW_US: i64 = 1000;
/// Requests of more words are timed one by one.
const SMALL_REQUEST_WORDS: usize = 8;
/// What stands for a secret in the slow log.
const REDACTED: &[u8] = b"(redacted)";

impl Engine {
    /// The counters of this thread.
    pub fn counters(&self) -> &'static ThreadCounters {
        self.counters
    }

    /// When the last command ended, or began to be measured.
    pub fn last_clock(&self) -> Instant {
        self.clock
    }

    /// Begins to measure: what came before was no command.
    #[inline]
    pub fn start_clock(&mut self) {
        self.clock = Instant::now();
    }

    /// Says whether the next command, of this row, is the end of a run: nothing follows it in its
    /// batch, or something else. Whoever says nothing has every command timed.
    #[inline]
    pub fn time_next(&mut self, row: Option<&Command>, is_last_of_run: bool) {
        let is_exact = (0..EXACT_BELOW_US).contains(&self.slow_us) || self.state.monitors.any();
        self.is_timed = is_last_of_run || is_exact || !row.is_some_and(Command::is_quick);
    }

    /// Counts a command of keys that has run.
    #[inline]
    pub(super) fn count_on_keys(
        &mut self,
        session: &mut Session,
        command: &Command,
        request: &[&[u8]],
        is_ok: bool,
        has_small_reply: bool,
    ) {
        if self.is_timed || !has_small_reply || request.len() > SMALL_REQUEST_WORDS {
            return self.count(session, command, request, is_ok);
        }
        session.n_commands += 1;
        self.counters.add(Counter::CommandsProcessed, 1);
        self.counters.command_ran(command.number.into(), 0, !is_ok);
    }

    /// Counts a command that has run.
    #[inline]
    pub(super) fn count(
        &mut self,
        session: &mut Session,
        command: &Command,
        request: &[&[u8]],
        is_ok: bool,
    ) {
        session.n_commands += 1;
        let now = Instant::now();
        let duration_ns = now.duration_since(self.clock).as_nanos() as u64;
        self.clock = now;
        self.counters.add(Counter::CommandsProcessed, 1);
        if self.state.monitors.any() && (!command.has(Flag::SkipMonitor)) {
            self.show(session, command, request);
        }
        self.counters
            .command_ran(command.number.into(), duration_ns, !is_ok);
        if self.slow_us >= 0 && duration_ns / 1000 >= self.slow_us as u64 {
            self.note_slow(session, command, request, duration_ns / 1000);
        }
    }

    /// Shows a command to those who watch.
    #[cold]
    pub(super) fn show(&self, session: &Session, command: &Command, request: &[&[u8]]) {
        if command.has(Flag::Admin) {
            return;
        }
        let mut words = request.to_vec();
        redact(command.name, &mut words);
        let client = &session.client;
        let source = match self.nesting {
            Nesting::Script => Source::Script,
            _ if client.is_unix => Source::Unix(&client.peer),
            _ => Source::Client(&client.peer),
        };
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let place = (now.unwrap_or_default().as_micros(), session.database);
        self.state
            .monitors
            .show(place, source, &words, &self.state.mailboxes);
    }

    #[cold]
    fn note_slow(&self, session: &Session, command: &Command, request: &[&[u8]], duration_us: u64) {
        if command.has(Flag::SkipSlowlog) {
            return;
        }
        let mut args = request.to_vec();
        redact(command.name, &mut args);
        let slow = Slow {
            time_s: (self.now_ms / 1000) as i64,
            duration_us,
            args: &args,
            client_address: &session.client.peer,
            client_name: &session.client.name.lock(),
        };
        let max_len = self.state.config.slowlog_max_len();
        self.state.stats.note_slow(&slow, max_len);
    }

    /// Counts an error that a command ended with.
    #[cold]
    pub(super) fn count_error(&self, line: &[u8]) {
        self.counters.add(Counter::ErrorReplies, 1);
        self.state.stats.error_reply(line);
    }

    /// Counts a request that was refused before it ran.
    pub fn count_refusal(&self, command: Option<&Command>, line: &[u8]) {
        if let Some(command) = command {
            self.counters.command_rejected(command.number.into());
        }
        self.count_error(line);
    }
}

/// Hides what nobody should read in the slow log.
fn redact(name: &str, args: &mut [&[u8]]) {
    let is = |arg: &[u8], word: &[u8]| arg.eq_ignore_ascii_case(word);
    match name {
        "auth" => args[1..].fill(REDACTED),
        "hello" => {
            if let Some(at) = args.iter().position(|arg| is(arg, b"AUTH")) {
                args.iter_mut()
                    .skip(at + 1)
                    .take(2)
                    .for_each(|arg| *arg = REDACTED);
            }
        }
        "config|set" => {
            for at in (2..args.len().saturating_sub(1)).step_by(2) {
                let directive = crate::config::directive::find(args[at]);
                if directive.is_some_and(|slot| slot.directive().sensitive) {
                    args[at + 1] = REDACTED;
                }
            }
        }
        _ => {}
    }
}
