//! `minium migrate`: everything of one server to another, while it goes on serving.
//!
//! ```text
//!   source ── PSYNC ──► snapshot ── RESTORE ──► target        `source`, `copy`, `target`
//!             as a      stream ──── as it is ──►              `follow`
//!             replica   both ────── key by key: the same?     `verify`
//! ```
//!
//! The program is a replica of the source and an ordinary client of the target, so that both may be of any
//! kind and need not know each other. It holds one value at a time. See `docs/migrate.md`.

mod args;
mod copy;
mod follow;
mod progress;
mod side;
mod source;
mod target;
mod verify;

use std::ffi::OsString;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use client::connection::Connection;
use resp::decode::Value;
use signal_hook::consts::{SIGINT, SIGTERM};
use signal_hook::flag;

use args::{Config, Parsed};
use follow::{Ended, Follower};
use progress::{Progress, bar, grouped};
use side::{Facts, Importing};
use source::{INTERRUPTED, Source, TICK};
use target::Target;
use verify::Shared;

const FAILED: i32 = 1;
const DIFFERENT: i32 = 2;
/// Clocks that differ by more are told of.
const CLOCKS_APART_S: i64 = 1;

/// Runs with the arguments behind its name; the exit code.
pub fn run(args: Vec<OsString>) -> i32 {
    let config = match args::parse(args, |name| std::env::var_os(name)) {
        Ok(Parsed::Run(config)) => config,
        Ok(Parsed::Show(text)) => {
            print!("{text}");
            return 0;
        }
        Err(error) => {
            eprintln!("{error}");
            return FAILED;
        }
    };
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The first one asks; the second one, which finds the flag set, ends the process.
        let registered = flag::register_conditional_shutdown(signal, FAILED, Arc::clone(&stop))
            .and_then(|_| flag::register(signal, Arc::clone(&stop)));
        if let Err(error) = registered {
            eprintln!("Signals cannot be waited for: {error}");
            return FAILED;
        }
    }
    let mut progress = Progress::new();
    let ended = match config.only_verifies {
        true => compare(&config, &stop, &mut progress),
        false => migrate(&config, &stop, &mut progress),
    };
    progress.close();
    match ended {
        Ok(Ended::Safe) => 0,
        Ok(Ended::Different) => DIFFERENT,
        Ok(Ended::TooEarly) => too_early(),
        Err(why) if why == INTERRUPTED => too_early(),
        Err(why) => {
            eprintln!("{why}");
            FAILED
        }
    }
}

fn too_early() -> i32 {
    eprintln!("Ended before it was safe to switch. The target holds a part of the data.");
    FAILED
}

fn migrate(config: &Config, stop: &AtomicBool, progress: &mut Progress) -> Result<Ended, String> {
    let (mut control, mut applying) = (config.from.connect()?, config.to.connect()?);
    let from = Facts::of(&config.from, &mut control)?;
    let to = Facts::of(&config.to, &mut applying)?;
    side::check(config, &from, &to)?;
    let n_keys = grouped(from.n_keys());
    let (source, target) = (&config.from.endpoint, &config.to.endpoint);
    let (source_is, target_is) = (from.server(), to.server());
    progress.say(format!("From {source} ({source_is}, {n_keys} keys) to {target} ({target_is})."));
    tell_clocks(config, (&mut control, &mut applying), progress)?;
    let dialect = side::dialect(&config.to, &mut applying, &to)?;

    let mut source = Source::open(&config.from, stop)?;
    let importing = Importing::begin(&config.to, &mut applying)?;
    match &importing {
        Some(importing) if importing.was_on => {
            progress.say("Note: import-mode of the target was on before, and stays on.");
        }
        Some(_) => {}
        None => progress.say(
            "Note: the target has no import-mode, or it is not ours to set: a key whose deadline passes \
             there before a write arrives that puts it off is gone. Comparing all keys shows such.",
        ),
    }
    let mut target = Target::new(&config.to, applying)?;
    let terms = copy::Terms {
        dialect,
        replaces: config.replaces,
        n_expected: from.n_keys(),
    };
    copy::run(&mut source, &mut target, &terms, progress)?;
    let follower = Follower {
        config,
        source,
        target,
        dialect,
        progress,
        stop,
        control: Some(control),
    };
    follower.run()
}

/// Compares what is there, and copies nothing.
fn compare(config: &Config, stop: &AtomicBool, progress: &mut Progress) -> Result<Ended, String> {
    let shared = Arc::new(Shared::default());
    shared.applied.store(u64::MAX, Relaxed); // somebody else copies, or nobody
    let thread = verify::start(config, Arc::clone(&shared));
    while !thread.is_finished() {
        shared.stop.store(stop.load(Relaxed), Relaxed);
        let (n_done, n_all) = (shared.n_done.load(Relaxed), shared.n_all.load(Relaxed));
        progress.show(|| {
            let bar = bar(n_done.min(n_all), n_all);
            format!("Comparing {bar} {} of {} keys", grouped(n_done), grouped(n_all))
        });
        std::thread::sleep(TICK);
    }
    let outcome = thread.join().map_err(|_| "The comparison has failed")??;
    progress.say(outcome.to_string());
    Ok(match outcome.is_different() {
        true => Ended::Different,
        false => Ended::Safe,
    })
}

/// Tells of clocks that differ: each server looks at its own when a deadline passes.
fn tell_clocks(
    config: &Config,
    (from, to): (&mut Connection, &mut Connection),
    progress: &mut Progress,
) -> Result<(), String> {
    let seconds = |answer: Value| match answer {
        Value::Array(parts) => parts
            .first()
            .and_then(|part| side::text(part).parse::<i64>().ok()),
        _ => None,
    };
    let (source, target) = (config.from.ask(from, &["TIME"])?, config.to.ask(to, &["TIME"])?);
    if let (Some(source), Some(target)) = (seconds(source), seconds(target))
        && (source - target).abs() > CLOCKS_APART_S
    {
        let ahead_s = target - source;
        progress.say(format!(
            "Note: the target's clock is {ahead_s} s ahead of the source's: deadlines pass at other moments."
        ));
    }
    Ok(())
}
