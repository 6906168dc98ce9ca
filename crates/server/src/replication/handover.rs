//! The driver of FAILOVER: see [`crate::role::failover`].

use std::time::Instant;

use crate::persistence::ending::end_of_stream;
use crate::role::failover::{Phase, Verdict};
use crate::state::State;

/// Looks how far the replicas are, and hands over to one that has everything.
pub fn look(state: &'static State) {
    let failover = &state.role.failover;
    if failover.phase() != Phase::Waiting {
        return;
    }
    let Some(mut plan) = failover.plan() else {
        return;
    };
    // A command about replication may have been added since nobody writes: all of it must be there.
    let end = state.journal.backlog.end();
    if plan.stream_end != Some(end) {
        plan.stream_end = match plan.stream_end {
            None => end_of_stream(state),
            Some(_) => Some(end),
        };
        if let Some(end) = plan.stream_end {
            failover.note_end(end);
        }
    }
    let followers: Vec<(String, u16, u64)> = state
        .role
        .followers()
        .iter()
        .filter(|replica| replica.is_online())
        .map(|replica| replica.place_and_offset())
        .collect();
    match plan.verdict(&followers, Instant::now()) {
        Verdict::Wait => {}
        Verdict::GiveUp => {
            state.abort_failover("Replica never caught up before timeout");
        }
        Verdict::Force(host, port) => {
            log::info!("Failover to {host}:{port} time out exceeded, failing over.");
            hand_over(state, host, port);
        }
        Verdict::Move(host, port) => {
            log::info!("Failover target {host}:{port} is synced, failing over.");
            hand_over(state, host, port);
        }
    }
}

fn hand_over(state: &State, host: String, port: u16) {
    if state.role.failover.move_on() {
        state.follow_successor(host, port);
    }
}
