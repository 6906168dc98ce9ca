//! The thread that saves in the background: when somebody asks, and when `save` says so.

use std::time::Duration;

use super::save;
use crate::io::process::unix_time;
use crate::saving::Wish;
use crate::state::State;
use crate::stats::counters::Counter;

/// How often it looks whether a save point is reached.
const LOOK: Duration = Duration::from_millis(100);
/// How long it waits after a save that failed before it tries again on its own.
const RETRY: Duration = Duration::from_secs(5);

/// Saves until it is told to end.
pub fn run(state: &'static State) {
    loop {
        let patience = state.config.has_save_points().then_some(LOOK);
        match state.saving.next(patience) {
            Wish::Save(words) => save::in_background(state, &words),
            Wish::None => look(state),
            Wish::End => return,
        }
    }
}

/// Asks for a save if a save point is reached.
fn look(state: &State) {
    if state.saving.is_running() || state.saving.is_loading() {
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
        drop(state.saving.wish());
    }
}
