//! The thread that saves in the background: when somebody asks, and when `save` says so.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::{rewrite, save};
use crate::aof::Phase;
use crate::io::process::{take_long_slices, unix_time};
use crate::saving::Wish;
use crate::state::State;
use crate::stats::counters::Counter;

/// How often it looks whether a save point is reached.
const LOOK: Duration = Duration::from_millis(100);
/// How long it waits after a save that failed before it tries again on its own.
const RETRY: Duration = Duration::from_secs(5);

/// Saves until it is told to end.
pub fn run(state: &'static State) {
    take_long_slices();
    loop {
        let is_owed = state.saving.owes_rewrite.load(Relaxed);
        let patience = (is_owed || state.config.has_save_points()).then_some(LOOK);
        match state.saving.next(patience) {
            Wish::Save(tell) => save::in_background(state, tell),
            Wish::Rewrite => rewrite::in_background(state),
            Wish::Tidy => rewrite::remove_history(state),
            Wish::None => look(state),
            Wish::End => return,
        }
    }
}

/// Asks for the rewrite that is owed, and for a save if a save point is reached.
fn look(state: &State) {
    if state.saving.loads_any() {
        return;
    }
    let rewrites = state.saving.rewrites();
    let is_soon = rewrites.n_failed > 0 && rewrites.ended_at.is_some_and(|at| at.elapsed() < RETRY);
    if !is_soon && state.saving.owes_rewrite.swap(false, Relaxed) {
        match state.aof.phase() {
            Phase::Waiting => {
                state.saving.wish_rewrite();
            }
            Phase::Off | Phase::On => {}
        }
    }
    if state.saving.is_running() {
        return;
    }
    let record = state.saving.record();
    let total = state.stats.totals_ever().get(Counter::Changes);
    let changes = total.saturating_sub(record.changes);
    if changes == 0 {
        return;
    }
    let may_try = record.is_ok || record.tried_at.is_none_or(|at| at.elapsed() > RETRY);
    let age_s = unix_time().as_secs().saturating_sub(record.last_save_s);
    let points = state.config.save_points();
    let reached = points
        .into_iter()
        .find(|point| changes >= point.changes && age_s > point.seconds);
    if let Some(point) = reached.filter(|_| may_try) {
        log::info!("{} changes in {} seconds. Saving...", point.changes, point.seconds);
        state.saving.wish(Box::new(|_| {}));
    }
}
