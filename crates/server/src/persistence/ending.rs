//! The end of the process: whether to save, and how nothing that was answered is lost.
//!
//! The last save is written under the locks of a transaction; before these go, every client is ended,
//! so that no command that comes after the save is answered.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use keyspace::locked::Locked;
use keyspace::protocol::Refusal;
use keyspace::registry::Waiter;

use super::{rewrite, save};
use crate::aof::Phase;
use crate::control::{Ending, Manner, Order};
use crate::io::process::unix_time;
use crate::mailbox::{Address, Mail};
use crate::pause::{Cause, Paused};
use crate::role::replica::Replica;
use crate::state::State;

/// How long a script may take to end when it is told to.
const KILL_PATIENCE: Duration = Duration::from_secs(1);

/// How long the saver may take to end.
const SAVER_PATIENCE: Duration = Duration::from_millis(500);

/// How long somebody who writes is waited for at a time.
const QUIET_PATIENCE: Duration = Duration::from_millis(10);
/// What is told to those who have asked for an end that does not come.
const FAILED: &[u8] = b"-ERR Errors trying to SHUTDOWN. Check logs.\r\n";

// ---- Waiting for replicas --------------------------------------------------------------------------

/// Whether the end has to wait for replicas first.
pub fn must_wait(state: &State, manner: Manner) -> bool {
    let may_wait = !manner.is_immediate && state.config.shutdown_timeout_s() > 0;
    let is_waiting = state.control.waiting_end.lock().is_some();
    is_waiting || may_wait && n_in_sync(state, state.journal.backlog.end()) < n_replicas(state)
}

fn n_replicas(state: &State) -> usize {
    state.role.followers().len()
}

fn n_in_sync(state: &State, stream_end: u64) -> usize {
    let replicas = state.role.followers();
    let has_all = |replica: &&Arc<Replica>| replica.facts.lock().acked >= stream_end;
    replicas.iter().filter(has_all).count()
}

/// Has the end wait until replicas have everything, or for as long as `shutdown-timeout` says; who asks
/// while it does waits with the others.
pub fn wait_for_replicas(state: &State, manner: Manner, asker: Option<(Arc<Waiter>, Address)>) {
    let now_ms = unix_time().as_millis() as u64;
    let mut waiting = state.control.waiting_end.lock();
    let ending = waiting.get_or_insert_with(|| {
        log::info!("User requested shutdown...");
        log::info!("Waiting for replicas before shutting down.");
        let what = Paused::Writes;
        state
            .pause
            .begin(Cause::Ending, what, i64::MAX as u64, now_ms);
        Ending {
            manner,
            until: Instant::now() + Duration::from_secs(state.config.shutdown_timeout_s()),
            stream_end: None,
            askers: Vec::new(),
        }
    });
    ending.askers.extend(asker);
    drop(waiting);
    state.control.post(Order::Look);
}

/// Looks after the end that waits; whether to stop now.
pub fn look(state: &'static State) -> bool {
    let Some(mut ending) = state.control.waiting_end.lock().clone() else {
        return false;
    };
    if state.is_cron_paused.load(Relaxed) {
        return false;
    }
    if ending.stream_end.is_none() {
        ending.stream_end = end_of_stream(state);
        if let Some(waiting) = &mut *state.control.waiting_end.lock() {
            waiting.stream_end = ending.stream_end;
        }
    }
    let n = n_replicas(state);
    let is_ready = |end| n_in_sync(state, end) >= n;
    if !ending.stream_end.is_some_and(is_ready) && ending.until > Instant::now() {
        return false;
    }
    if state.control.waiting_end.lock().is_none() {
        return false; // aborted
    }
    let is_over = prepare(state, ending.manner).is_ok();
    if !is_over {
        log::warn!("Errors trying to shut down the server. Check the logs for more information.");
        go_on(state);
    }
    is_over
}

/// Where the stream ends when nobody writes any more, with a question to replicas how far they are.
/// `None` if somebody still does.
pub fn end_of_stream(state: &State) -> Option<u64> {
    let locked = Locked::transaction(&state.keyspace, QUIET_PATIENCE).ok()?;
    locked.take_everything(); // who has not seen the pause is done
    drop(locked);
    state.mailboxes.released();
    let backlog = &state.journal.backlog;
    backlog.tell(&[b"REPLCONF", b"GETACK", b"*"]);
    state.announce_stream();
    state.mailboxes.wake();
    Some(backlog.end())
}

/// SHUTDOWN ABORT: whether an end was waiting.
pub fn abort(state: &State) -> bool {
    let is_waiting = go_on(state);
    if is_waiting {
        log::warn!("Shutdown manually aborted.");
    }
    is_waiting
}

/// Nothing ends; those who have asked for it are told.
fn go_on(state: &State) -> bool {
    let ending = state.control.waiting_end.lock().take();
    state.pause.end(Cause::Ending);
    for (waiter, to) in ending.iter().flat_map(|ending| &ending.askers) {
        if waiter.claim() && waiter.finish() {
            let (to, reply) = (*to, FAILED.to_vec());
            state
                .mailboxes
                .post(to.group.into(), Mail::Served { to, reply });
        }
    }
    state.mailboxes.wake_all();
    ending.is_some()
}

/// Says which replicas lack something.
fn log_replicas(state: &State) {
    let replicas = state.role.followers();
    if replicas.is_empty() {
        return;
    }
    let waiting = state.control.waiting_end.lock();
    let end = waiting.as_ref().and_then(|ending| ending.stream_end);
    let end = end.unwrap_or(state.journal.backlog.end());
    drop(waiting);
    for replica in &replicas {
        let facts = replica.facts.lock().clone();
        if facts.acked < end {
            log::info!(
                "Lagging replica {}:{} reported offset {} behind master, lag={}, state={}.",
                facts.ip.as_ref().unwrap_or(&replica.peer),
                facts.port,
                end - facts.acked,
                facts.acked_at.map_or(0, |at| at.elapsed().as_secs()),
                replica.state()
            );
        }
    }
    log::info!(
        "{} of {} replicas are in sync when shutting down.",
        n_in_sync(state, end),
        replicas.len()
    );
}

// ---- The end -----------------------------------------------------------------------------------------

/// Makes ready for the end. The error is logged; then the server goes on.
pub fn prepare(state: &'static State, manner: Manner) -> Result<(), String> {
    log_replicas(state);
    let is_written = state.saving.is_rewriting() || state.saving.wants_rewrite();
    let is_first = state.aof.phase() == Phase::Waiting && is_written;
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

/// Ends the process without a save; only what is half written goes.
pub fn at_once() {
    log::warn!("You insist... exiting now.");
    for prefix in [save::IN_FOREGROUND, save::IN_BACKGROUND] {
        let _ = std::fs::remove_file(save::temporary_name(prefix)); // there need not be one
    }
    std::process::exit(1);
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
