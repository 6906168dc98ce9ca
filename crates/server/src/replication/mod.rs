//! The driver of replication: a thread that looks after replicas and begins snapshots for them, and one
//! that follows the primary while there is one. What they know is in [`crate::role`].

mod apart;
mod direct;
mod disk;
pub mod handover;
pub mod handshake;
mod link;
pub mod reader;
mod receive;
mod temporary;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use crate::command::Commands;
use crate::mailbox::Mail;
use crate::persistence::full_sync;
use crate::role::replica::Replica;
use crate::state::State;

/// How often it looks, while there is somebody to look after.
const LOOK: Duration = Duration::from_millis(100);
/// How often, while one of them is to take over.
const SOON: Duration = Duration::from_millis(10);
/// How often who waits for a snapshot hears that this server is alive, and its primary while it loads one.
const SIGN: Duration = Duration::from_secs(1);
/// How often it looks whether there is anybody.
const REST: Duration = Duration::from_secs(3600);

/// What the thread remembers between two looks.
struct Keeper {
    state: &'static State,
    pinged_at: Instant,
    signed_at: Instant,
    /// The choice of a primary that is being followed.
    followed: u64,
}

/// Looks after replicas and the link to the primary until the process ends.
pub fn run(state: &'static State, commands: &'static Commands) {
    let mut keeper = Keeper {
        state,
        pinged_at: Instant::now(),
        signed_at: Instant::now(),
        followed: 0, // a client may have been faster than this thread
    };
    if let Ok(folder) = std::env::current_dir() {
        temporary::remove_leftovers(&folder);
    }
    if let Some((host, port)) = state.config.primary() {
        state.role.follow(host, port);
    }
    while !state.is_stopping.load(Relaxed) {
        let news = state.role.news();
        let generation = news.0;
        if generation != keeper.followed && !state.saving.loads_any() {
            keeper.followed = generation;
            if state.role.is_replica() {
                std::thread::spawn(move || link::run(state, commands, generation));
            }
        }
        let is_busy = keeper.look();
        let is_behind = generation != state.role.generation() || generation != keeper.followed;
        let patience = match (state.role.failover.is_on(), is_busy || is_behind) {
            (true, _) => SOON,
            (false, true) => LOOK,
            (false, false) => REST,
        };
        state.role.wait_for_news(news, patience);
    }
}

impl Keeper {
    /// Whether there is anybody to look after.
    fn look(&mut self) -> bool {
        let (state, role) = (self.state, &self.state.role);
        let (backlog, config) = (&state.journal.backlog, &state.config);
        backlog.set_kept_bytes(config.replication_backlog_bytes() as u64);
        role.clear_past();
        role.trim(backlog);
        let replicas = role.replicas();
        role.count_good(config.replica_lag_max());
        handover::look(state);
        if replicas.is_empty() {
            if let (Some(alone), Some(ttl)) = (role.alone_for(), config.backlog_ttl())
                && alone > ttl
                && backlog.is_led()
            {
                log::info!(
                    "Replication backlog freed after {} seconds without replicas.",
                    ttl.as_secs()
                );
                backlog.stop();
            }
            return backlog.is_on();
        }
        self.ping();
        self.give_signs(&replicas);
        self.drop_silent(&replicas);
        self.drop_far(&replicas);
        self.begin_snapshot();
        true
    }

    fn ping(&mut self) {
        let state = self.state;
        let is_due = self.pinged_at.elapsed() >= state.config.replica_ping_period();
        if is_due && !state.role.is_replica() && !state.has_last_words() {
            self.pinged_at = Instant::now();
            state.journal.backlog.tell(&[b"PING"]);
            state.announce_stream();
            state.mailboxes.wake();
        }
    }

    /// Shows who waits for a snapshot that this server is alive.
    fn give_signs(&mut self, replicas: &[Arc<Replica>]) {
        if self.signed_at.elapsed() < SIGN || self.state.n_asleep.load(Relaxed) > 0 {
            return;
        }
        self.signed_at = Instant::now();
        let signed = replicas.iter().filter(|replica| replica.give_sign());
        if signed.count() > 0 {
            self.state.announce_stream();
            self.state.mailboxes.wake();
        }
    }

    /// Closes replicas that have said nothing, or have not come for their snapshot, for `repl-timeout`.
    fn drop_silent(&self, replicas: &[Arc<Replica>]) {
        let limit = self.state.config.replication_timeout();
        let grace = self.state.role.grace();
        for replica in replicas {
            let heard_at = match replica.lacks_channel() {
                true => Some(replica.since),
                false if !replica.is_online() => None,
                false => replica.facts.lock().acked_at,
            };
            let is_silent = heard_at.is_some_and(|at| at.elapsed() > limit);
            if is_silent || replica.awaits_in_vain(grace) {
                log::warn!("Disconnecting timedout replica (streaming sync): {}", replica.peer);
                let to = replica.address;
                self.state.mailboxes.post(to.group.into(), Mail::Kill(to));
                self.state.mailboxes.wake();
            }
        }
    }

    /// Drops what stays behind of a connection once the stream that is kept for it is too long: of those that
    /// are there, the loops take care.
    fn drop_far(&self, replicas: &[Arc<Replica>]) {
        let state = self.state;
        for replica in replicas.iter().filter(|replica| replica.is_behind_alone()) {
            let behind = replica.behind(&state.journal.backlog);
            if state.closes_for_lag(&replica.peer, behind, &mut None) {
                state.role.forget(replica);
            }
        }
    }

    fn begin_snapshot(&self) {
        let (state, config) = (self.state, &self.state.config);
        let (mut waiting, longest) = state.role.waiting();
        let is_free = !state.role.is_serving.load(Relaxed) && !state.saving.loads_any();
        if waiting.is_empty() || !is_free {
            return;
        }
        let delay = match config.syncs_without_disk() {
            true => config.diskless_sync_delay(),
            false => Duration::ZERO,
        };
        let n_enough = config.diskless_sync_max_replicas();
        if longest < delay && (n_enough == 0 || waiting.len() < n_enough) {
            return;
        }
        // Those who want a part of it, or read another form, have a snapshot of their own.
        let wish = |replica: &Replica| {
            let facts = replica.facts.lock();
            (facts.wants_functions_only, facts.is_of_valkey(), replica.is_dual())
        };
        let first = wish(&waiting[0]);
        waiting.retain(|replica| wish(replica) == first);
        state.role.is_serving.store(true, Relaxed);
        std::thread::spawn(move || {
            full_sync::serve(state, waiting);
            state.role.is_serving.store(false, Relaxed);
            state.role.nudge();
        });
    }
}
