//! What is counted of every command: how often, how long, how it ended; and the slow log.
//!
//! The clock is read once a command: one ends when the next begins. A run of the same quick command
//! in one batch, small requests with small replies, is timed as one: reading the clock costs as much
//! as a sixth of a GET. The run's time counts as its last command's, so the sums are right, and if it
//! is too long for the slow log the last one is noted.

use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{Engine, Nesting};
use crate::command::context::next_random;
use crate::command::{Command, Flag, Kind};
use crate::monitor::Source;
use crate::session::Session;
use crate::session::client::Client;
use crate::state::State;
use crate::stats::counters::{Counter, ThreadCounters};
use crate::stats::hotkeys::Cost;
use crate::stats::slowlog::Slow;

/// A slow log that begins below this wants every command's own time.
const EXACT_BELOW_US: i64 = 1000;
/// Requests of more words, or with a longer last one, are timed one by one; so are longer replies.
const SMALL_REQUEST_WORDS: usize = 8;
const SMALL_WORD_BYTES: usize = 4096;
const SMALL_REPLY_BYTES: usize = 4096;
/// A log of large commands that begins below this wants every command by itself.
const EXACT_BELOW_BYTES: i64 = 4096;
/// What the protocol adds to a word at most, and the word's share of what stands in front of all.
const FRAME_BYTES: usize = 48;
/// What stands for a secret in the slow log.
const REDACTED: &[u8] = b"(redacted)";

/// The bytes of a request as an array of bulk strings.
fn request_bytes(request: &[&[u8]]) -> u64 {
    let header = |n: usize| 3 + n.checked_ilog10().unwrap_or(0) as usize + 1;
    let words = request
        .iter()
        .map(|word| header(word.len()) + word.len() + 2);
    (header(request.len()) + words.sum::<usize>()) as u64
}

/// How a command ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ended {
    /// With an answer that is no error.
    pub is_ok: bool,
    /// Bytes that it answered.
    pub reply_bytes: usize,
}

/// What makes a command worth noting, as the directives say; below zero nothing does.
#[derive(Clone, Copy, Debug)]
pub(super) struct Noteworthy {
    slow_us: i64,
    request_bytes: i64,
    reply_bytes: i64,
    /// 0 is off.
    latency_ms: u64,
    /// How long commands take is kept.
    is_tracked: bool,
    /// What commands cost is wanted of their keys.
    has_hotkeys: bool,
    /// Every command is to be looked at by itself.
    is_exact: bool,
}

impl Default for Noteworthy {
    fn default() -> Noteworthy {
        Noteworthy {
            slow_us: -1,
            request_bytes: -1,
            reply_bytes: -1,
            latency_ms: 0,
            is_tracked: false,
            has_hotkeys: false,
            is_exact: false,
        }
    }
}

impl Noteworthy {
    pub(super) fn of(state: &State) -> Noteworthy {
        let config = &state.config;
        let has_hotkeys = state.stats.has_hotkeys();
        let slow_us = config.slowlog_threshold_us();
        let (request_bytes, reply_bytes) =
            (config.large_request_bytes(), config.large_reply_bytes());
        let sizes = 0..EXACT_BELOW_BYTES;
        Noteworthy {
            slow_us,
            request_bytes,
            reply_bytes,
            latency_ms: config.latency_threshold_ms(),
            is_tracked: config.tracks_latency(),
            has_hotkeys,
            is_exact: has_hotkeys
                || (0..EXACT_BELOW_US).contains(&slow_us)
                || sizes.contains(&request_bytes)
                || sizes.contains(&reply_bytes),
        }
    }
}

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
        if self.n_untimed > 0 {
            self.end_run();
        }
        self.clock = Instant::now();
    }

    /// Takes the time of a run whose last command has not come to its end.
    #[cold]
    fn end_run(&mut self) {
        let n = std::mem::take(&mut self.n_untimed);
        if self.limits_of_note.is_tracked {
            let took_ns = self.clock.elapsed().as_nanos() as u64;
            let (number, epoch) = (self.untimed.into(), self.state.stats.epoch());
            self.counters.command_took(number, took_ns / n, n, epoch);
        }
    }

    /// Says whether the next command, of this row, is the end of a run: nothing follows it in its
    /// batch, or something else. Whoever says nothing has every command timed.
    #[inline]
    pub fn time_next(&mut self, row: Option<&Command>, is_last_of_run: bool) {
        let is_exact = self.limits_of_note.is_exact || self.state.monitors.any();
        self.is_timed = is_last_of_run || is_exact || !row.is_some_and(Command::is_quick);
    }

    /// Counts a command that has run, and may be part of a run.
    #[inline]
    pub(super) fn count_in_run(
        &mut self,
        session: &mut Session,
        command: &Command,
        request: &[&[u8]],
        ended: Ended,
    ) {
        let is_small = ended.reply_bytes <= SMALL_REPLY_BYTES
            && request.len() <= SMALL_REQUEST_WORDS
            && request
                .last()
                .is_none_or(|word| word.len() <= SMALL_WORD_BYTES);
        if self.is_timed || !is_small {
            return self.count(session, command, request, ended);
        }
        session.n_commands += 1;
        self.n_untimed += 1;
        self.untimed = command.number;
        self.counters.add(Counter::CommandsProcessed, 1);
        self.counters
            .command_ran(command.number.into(), 0, !ended.is_ok);
    }

    /// Counts a command that has run.
    #[inline]
    pub(super) fn count(
        &mut self,
        session: &mut Session,
        command: &Command,
        request: &[&[u8]],
        ended: Ended,
    ) {
        session.n_commands += 1;
        let now = Instant::now();
        let duration_ns = now.duration_since(self.clock).as_nanos() as u64;
        self.clock = now;
        if self.state.monitors.any() && !command.has(Flag::SkipMonitor) {
            self.show(session, command, request);
        }
        let n = std::mem::take(&mut self.n_untimed) + 1;
        self.count_run((command, request), &session.client, ended, (duration_ns, n));
    }

    /// Passes over a command that has begun to wait: it is counted when it is served. It is shown now.
    #[cold]
    pub(super) fn pass(&mut self, session: &Session, command: &Command, request: &[&[u8]]) {
        if self.state.monitors.any() {
            self.show(session, command, request);
        }
        self.start_clock();
    }

    /// Counts the last of `n` commands that took so long together.
    #[inline]
    pub(super) fn count_run(
        &mut self,
        (command, request): (&Command, &[&[u8]]),
        client: &Client,
        ended: Ended,
        (duration_ns, n): (u64, u64),
    ) {
        self.counters.add(Counter::CommandsProcessed, 1);
        let number = command.number.into();
        self.counters.command_ran(number, duration_ns, !ended.is_ok);
        if self.nesting != Nesting::Outermost {
            self.counters.add(Counter::NestedNs, duration_ns);
        }
        let of_note = &self.limits_of_note;
        if of_note.is_tracked {
            let epoch = self.state.stats.epoch();
            self.counters
                .command_took(number, duration_ns / n, n, epoch);
        }
        let is_over = |limit: i64, measure: u64| limit >= 0 && measure >= limit as u64;
        let duration_us = duration_ns / 1000;
        // What surrounds the words takes so much at most.
        let framed_bytes = |len: usize| (len + FRAME_BYTES) as u64;
        let bytes_max: u64 = request.iter().map(|word| framed_bytes(word.len())).sum();
        if is_over(of_note.slow_us, duration_us)
            || is_over(of_note.request_bytes, bytes_max)
            || is_over(of_note.reply_bytes, ended.reply_bytes as u64)
        {
            let measures = [
                (of_note.slow_us, duration_us),
                (of_note.request_bytes, request_bytes(request)),
                (of_note.reply_bytes, ended.reply_bytes as u64),
            ];
            let noted = measures.map(|(limit, one)| is_over(limit, one).then_some(one));
            self.note(client, command, request, noted);
        }
        if of_note.has_hotkeys {
            self.note_keys(command, request, ended, duration_ns);
        }
        let took_ms = duration_ns / n / 1_000_000;
        let of_note = &self.limits_of_note;
        if of_note.latency_ms > 0 && took_ms >= of_note.latency_ms {
            let event = if command.is_fast {
                "fast-command"
            } else {
                "command"
            };
            self.note_latency(event, took_ms);
        }
    }

    /// Adds what a command has cost to its keys.
    #[cold]
    fn note_keys(&mut self, command: &Command, request: &[&[u8]], ended: Ended, time_ns: u64) {
        let mut keys = Vec::new();
        if matches!(command.kind, Kind::Read(_) | Kind::Write(_)) {
            command.keys.each(request, &mut |key| keys.push(key));
        }
        let cost = Cost {
            time_ns,
            bytes: request_bytes(request) + ended.reply_bytes as u64,
            is_outermost: self.nesting == Nesting::Outermost,
        };
        let random = next_random(&mut self.random);
        let stats = &self.state.stats;
        let mut hot = stats.hotkeys.lock();
        if hot.end_if_due(self.now_ms, || stats.usage()) {
            stats.set_hotkeys(false);
            self.state.config.note_change();
        }
        hot.add(keys.into_iter(), cost, random);
    }

    /// `latency-monitor-threshold`; 0 is off.
    pub(super) fn latency_limit_ms(&self) -> u64 {
        self.limits_of_note.latency_ms
    }

    /// Notes that something took longer than `latency-monitor-threshold`.
    #[cold]
    pub(super) fn note_latency(&self, event: &'static str, took_ms: u64) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let time_s = now.unwrap_or_default().as_secs();
        self.state
            .stats
            .latency
            .lock()
            .add(event, (time_s, took_ms));
    }

    /// Notes a command in the logs of those that were slow, or had large requests or replies.
    #[cold]
    fn note(
        &self,
        client: &Client,
        command: &Command,
        request: &[&[u8]],
        [slow, large_request, large_reply]: [Option<u64>; 3],
    ) {
        if command.has(Flag::SkipSlowlog) {
            return;
        }
        let (stats, config) = (&self.state.stats, &self.state.config);
        let mut args = request.to_vec();
        redact(command.name, &mut args);
        let client_name = client.name.lock();
        for (log, measure, max_len) in [
            (&stats.slowlog, slow, config.slowlog_max_len()),
            (&stats.large_requests, large_request, config.large_requests_max_len()),
            (&stats.large_replies, large_reply, config.large_replies_max_len()),
        ] {
            if let Some(measure) = measure {
                let noted = Slow {
                    time_s: (self.now_ms / 1000) as i64,
                    measure,
                    args: &args,
                    client_address: &client.peer,
                    client_name: &client_name,
                };
                log.lock().add(&noted, max_len);
            }
        }
    }

    /// Shows a command that calls others, before what it calls.
    #[inline]
    pub(super) fn show_caller(&self, session: &Session, command: &Command, request: &[&[u8]]) {
        if self.state.monitors.any() && command.has(Flag::SkipMonitor) {
            self.show(session, command, request);
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

    /// Counts an error that a command ended with.
    #[cold]
    pub fn count_error(&self, line: &[u8]) {
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
        "acl|setuser" | "acl|deluser" | "acl|getuser" => args[2..].fill(REDACTED),
        "hello" => {
            let mut at = 2; // behind the version, as HELLO reads it
            while at < args.len() {
                let (n_words, is_secret) = match args[at] {
                    word if is(word, b"SETNAME") => (1, false),
                    word if is(word, b"AUTH") => (2, true),
                    _ => (args.len(), true), // whatever it was meant to be
                };
                let end = args.len().min(at + 1 + n_words);
                if is_secret {
                    args[at + 1..end].fill(REDACTED);
                }
                at = end;
            }
        }
        "migrate" => {
            let mut at = 6; // behind the timeout, as MIGRATE reads it
            while at < args.len() && !is(args[at], b"KEYS") {
                let n_secrets = match args[at] {
                    word if is(word, b"AUTH") => 1,
                    word if is(word, b"AUTH2") => 2,
                    _ => 0,
                };
                let end = args.len().min(at + 1 + n_secrets);
                args[at + 1..end].fill(REDACTED);
                at = end;
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
