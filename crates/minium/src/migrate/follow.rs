//! The stream of the source, command by command, into the target, until somebody ends it.
//!
//! ```text
//!   catching up ──► comparing (a thread, while the stream goes on) ──► safe to switch ──► Ctrl-C
//!                       └──► they differ: the end
//! ```
//!
//! Commands go as they came, SELECT and MULTI to EXEC too, so the target's connection stands in the same
//! database and in the same transaction as the stream does. The source is told each second what the
//! target has answered, so its WAIT counts writes that are there.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use client::connection::Connection;
use rdb::dialect::Dialect;
use rdb::payload::{Demands, verified};
use server::replication::reader::Event;

use super::args::{Config, Verify};
use super::progress::{Progress, bar, grouped, size};
use super::side::stream_end;
use super::source::{READ_BYTES, Source};
use super::target::Target;
use super::verify::{self, Outcome, Shared};

/// How often the source is told how far the target is, and asked how far it is itself.
const LOOK: Duration = Duration::from_secs(1);
/// How long the last writes may take to arrive when it ends.
const DRAINED_WITHIN: Duration = Duration::from_secs(30);

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was safe to switch.
    Safe,
    /// Somebody ended it before.
    TooEarly,
    /// The servers differ.
    Different,
}

enum Stage {
    CatchingUp,
    Comparing(JoinHandle<Result<Outcome, String>>),
    Safe,
}

pub struct Follower<'a> {
    pub config: &'a Config,
    pub source: Source<'a>,
    pub target: Target<'a>,
    pub dialect: Dialect,
    pub progress: &'a mut Progress,
    pub stop: &'a AtomicBool,
    /// Another connection to the source.
    pub control: Option<Connection>,
}

/// What it knows of where the stream ends, and what the target has done up to a moment.
#[derive(Default)]
struct Lag {
    /// The end at the look before the last one, and at the last one.
    ends: [Option<u64>; 2],
    looked_at: Option<Instant>,
    n_done: u64,
    rate: u64,
}

impl Follower<'_> {
    /// Follows until it is ended.
    pub fn run(mut self) -> Result<Ended, String> {
        let shared = Arc::new(Shared::default());
        let ended = self.follow(&shared);
        shared.stop.store(true, Relaxed);
        self.progress.close();
        ended
    }

    fn follow(&mut self, shared: &Arc<Shared>) -> Result<Ended, String> {
        let (mut stage, mut lag) = (Stage::CatchingUp, Lag::default());
        self.acknowledge();
        while !self.stop.load(Relaxed) {
            self.turn()?;
            shared.applied.store(self.target.applied, Relaxed);
            if lag.looked_at.is_none_or(|at| at.elapsed() >= LOOK) {
                self.acknowledge();
                self.target.greet()?;
                self.look(&mut lag);
            }
            self.show(&stage, &lag, shared);
            stage = match stage {
                Stage::CatchingUp if self.has_caught_up(&lag) => match self.config.verify {
                    Verify::Nothing => self.safe("Nothing was compared."),
                    _ => Stage::Comparing(verify::start(self.config, Arc::clone(shared))),
                },
                Stage::Comparing(thread) if thread.is_finished() => {
                    let outcome = thread.join().map_err(|_| "The comparison has failed")?;
                    let outcome = outcome?;
                    if outcome.is_different() {
                        self.progress.close();
                        eprintln!("{outcome}");
                        return Ok(Ended::Different);
                    }
                    self.safe(&outcome.to_string())
                }
                stage => stage,
            };
            if matches!(stage, Stage::Safe) && self.config.ends_when_synced {
                break;
            }
        }
        if !matches!(stage, Stage::Safe) {
            return Ok(Ended::TooEarly);
        }
        self.drain()?;
        Ok(Ended::Safe)
    }

    /// Says that clients may come.
    fn safe(&mut self, compared: &str) -> Stage {
        self.progress.say(compared);
        let to = &self.config.to.endpoint;
        self.progress
            .say(format!("\nSAFE TO SWITCH: {to} has everything and follows every write."));
        if !self.config.ends_when_synced {
            self.progress.say(format!(
                "  1. Point your clients to {to}. What some still write to the source arrives there, too.\n  \
                 2. When none use the source any more, press Ctrl-C here."
            ));
        }
        Stage::Safe
    }

    /// Reads once and applies what came; seeks the source again if it is lost.
    fn turn(&mut self) -> Result<(), String> {
        self.apply_all()?;
        match self.source.read() {
            Ok(n) => {
                self.apply_all()?;
                // More than this may be waiting: the pipeline stays full.
                if n < READ_BYTES {
                    self.target.settle(self.source.offset)?;
                }
            }
            Err(why) => {
                self.progress
                    .say(format!("Note: {why}; it is sought again."));
                self.source.resume()?;
                self.progress
                    .say("Note: the link is back, and nothing is missing.");
                self.acknowledge();
            }
        }
        Ok(())
    }

    fn apply_all(&mut self) -> Result<(), String> {
        loop {
            let event = self.source.reader.read();
            let event =
                event.map_err(|why| format!("The stream of the source is broken: {why}"))?;
            let Some(Event::Command { words, raw }) = event else {
                return Ok(());
            };
            let end = self.source.offset + raw.len() as u64;
            let must_answer = apply(&mut self.target, self.dialect, &words, end)?;
            self.source.offset = end;
            if must_answer {
                self.target.settle(end)?;
                self.acknowledge();
            }
        }
    }

    /// A link that is lost shows when it is read.
    fn acknowledge(&mut self) {
        let _ = self.source.acknowledge(self.target.applied);
    }

    /// Where the source's stream ends now.
    fn end(&mut self) -> Option<u64> {
        let side = &self.config.from;
        if self.control.is_none() {
            self.control = side.connect().ok();
        }
        let end = stream_end(side, self.control.as_mut()?);
        if end.is_err() {
            self.control = None;
        }
        end.ok()
    }

    fn look(&mut self, lag: &mut Lag) {
        let seconds = lag.looked_at.map_or(1.0, |at| at.elapsed().as_secs_f64());
        let n_done = self.target.n_done;
        lag.rate = ((n_done - lag.n_done) as f64 / seconds) as u64;
        lag.n_done = n_done;
        lag.ends = [lag.ends[1], self.end()];
        lag.looked_at = Some(Instant::now());
    }

    /// The target has all that the source had at one of the last two looks.
    fn has_caught_up(&self, lag: &Lag) -> bool {
        let has = |end: &Option<u64>| end.is_some_and(|end| self.target.applied >= end);
        lag.ends.iter().any(has)
    }

    fn show(&mut self, stage: &Stage, lag: &Lag, shared: &Shared) {
        let left = lag.ends[1].map(|end| end.saturating_sub(self.target.applied));
        let left = left.map_or("unknown".to_owned(), size);
        let rate = grouped(lag.rate);
        let (n_done, n_all) = (shared.n_done.load(Relaxed), shared.n_all.load(Relaxed));
        self.progress.show(|| match stage {
            Stage::CatchingUp => format!("Catching up: lag {left}, {rate} commands/s"),
            Stage::Comparing(_) => {
                let (bar, n_done, n_all) =
                    (bar(n_done.min(n_all), n_all), grouped(n_done), grouped(n_all));
                format!("Comparing {bar} {n_done} of {n_all} keys; lag {left}, {rate} commands/s")
            }
            Stage::Safe => format!("Following: lag {left}, {rate} commands/s"),
        });
    }

    /// What was written up to now arrives.
    fn drain(&mut self) -> Result<(), String> {
        let started = Instant::now();
        let end = self.end().ok_or(
            "The source does not say where its stream ends: its last writes may be missing",
        )?;
        while self.target.applied < end {
            if started.elapsed() > DRAINED_WITHIN {
                return Err("The last writes of the source do not arrive".to_owned());
            }
            self.turn()?;
        }
        self.acknowledge();
        let n_done = grouped(self.target.n_done);
        self.progress
            .say(format!("The target has everything up to offset {end} ({n_done} commands)."));
        Ok(())
    }
}

/// Sends one command of the stream on; whether the source wants to know how far the target is.
fn apply(
    target: &mut Target<'_>,
    dialect: Dialect,
    words: &[&[u8]],
    end: u64,
) -> Result<bool, String> {
    let Some(name) = words.first() else {
        return Ok(false);
    };
    let is = |word: &str| name.eq_ignore_ascii_case(word.as_bytes());
    if is("ping") {
        return Ok(false);
    }
    if is("replconf") {
        return Ok(true);
    }
    let place = match words.get(1) {
        Some(second) if is("function") && second.eq_ignore_ascii_case(b"restore") => Some(2),
        _ if is("restore") || is("restore-asking") => Some(3),
        _ => None,
    };
    let lax = Demands {
        checks_sum: true,
        knows_version: false,
    };
    let foreign = place.and_then(|place| Some((place, verified(words.get(place)?, lax).ok()?)));
    let Some((place, (body, version))) = foreign else {
        return target.send(words, end).map(|()| false);
    };
    let payload = match place {
        2 => dialect.functions(body.to_vec(), version),
        _ => dialect.payload(body.to_vec(), version).map_err(|error| {
            let key = words[1].escape_ascii();
            format!("Key {key}: {}", error.reason)
        })?,
    };
    let mut words = words.to_vec();
    words[place] = &payload;
    target.send(&words, end).map(|()| false)
}
