//! The end of the process: whether to save, and how nothing that was answered is lost.
//!
//! The last save is written under the locks of a transaction; before these go, every client is ended,
//! so that no command that comes after the save is answered.

use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keyspace::locked::Locked;
use keyspace::protocol::Refusal;

use super::{rewrite, save};
use crate::aof::Phase;
use crate::state::State;

/// How long a script may take to end when it is told to.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// How long the saver may take to end.
const SAVER_PATIENCE: Duration = Duration::from_millis(500);

/// How the server is asked to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Whether to save: as `save` says if nobody else does.
    pub saves: Option<bool>,
    /// Stop even if the data cannot be saved.
    pub is_forced: bool,
}

/// Makes ready for the end. The error is logged; then the server goes on.
pub fn prepare(state: &'static State, manner: Manner) -> Result<(), String> {
    let is_first = state.aof.phase() == Phase::Waiting && state.saving.is_rewriting();
    if is_first && !manner.is_forced {
        log::warn!("Writing initial AOF, can't exit");
        return Err("the append-only file has no base yet".to_owned());
    }
    let saves = manner.saves.unwrap_or(state.config.has_save_points());
    if saves && state.saving.is_loading() {
        log::warn!("The data is still being loaded: there is nothing to save yet.");
    } else if saves {
        log::info!("Saving the final RDB snapshot before exiting.");
        let locked = everything(state);
        let saved = match &locked {
            Ok(locked) => save::at_once(state, locked),
            Err(_) => Err("a command or a script does not come to its end".to_owned()),
        };
        if let Err(reason) = saved {
            if !manner.is_forced {
                log::warn!("Error trying to save the DB, can't exit: {reason}");
                return Err(reason);
            }
            log::warn!("Error trying to save the DB, exiting all the same: {reason}");
        }
        end_clients(state);
        drop(locked);
    }
    state.saving.end();
    Ok(())
}

/// Waits for the transaction. A script that stands in the way for too long is ended, unless it has
/// written.
fn everything(state: &State) -> Result<Locked<'_>, Refusal> {
    let time = Duration::from_secs(state.config.shutdown_timeout_s());
    let limit = Duration::from_millis(state.config.busy_reply_threshold_ms());
    let first = Locked::transaction(&state.keyspace, time.min(limit));
    let running = &state.scripts.running;
    match (first, running.now()) {
        (Err(_), Some(what)) => {
            if running.kill(what).is_ok() {
                log::warn!("A script is ended, so that the data can be saved.");
            }
            Locked::transaction(&state.keyspace, time.saturating_sub(limit).max(KILL_PATIENCE))
        }
        (Err(_), None) => Locked::transaction(&state.keyspace, time.saturating_sub(limit)),
        (locked, _) => locked,
    }
}

/// Waits for the saver, which was told to end, and removes what it leaves half written.
pub fn clean_up(state: &State, saver: &JoinHandle<()>) {
    let started = Instant::now();
    while !saver.is_finished() && started.elapsed() < SAVER_PATIENCE {
        std::thread::sleep(Duration::from_millis(1));
    }
    if saver.is_finished() {
        return; // it has cleaned up itself
    }
    let place = state.aof.files().place.clone();
    let own = rewrite::temporary_names().map(|name| place.path(&name));
    for path in own
        .into_iter()
        .chain([save::temporary_name(save::IN_BACKGROUND).into()])
    {
        let _ = std::fs::remove_file(path); // there need not be one
    }
}

/// From here on no command of a client does anything.
fn end_clients(state: &State) {
    state.control.note_ending();
    for client in state.clients.all() {
        client.is_killed.store(true, Relaxed);
    }
}
