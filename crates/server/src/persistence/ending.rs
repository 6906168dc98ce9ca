//! The end of the process: whether to save, and how nothing that was answered is lost.
//!
//! The last save is written under the locks of a transaction; before these go, every client is ended,
//! so that no command that comes after the save is answered.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use keyspace::locked::Locked;

use super::save;
use crate::aof::Phase;
use crate::state::State;

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
        let time = Duration::from_secs(state.config.shutdown_timeout_s());
        let locked = Locked::transaction(&state.keyspace, time);
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

/// From here on no command of a client does anything.
fn end_clients(state: &State) {
    state.control.note_ending();
    for client in state.clients.all() {
        client.is_killed.store(true, Relaxed);
    }
}
