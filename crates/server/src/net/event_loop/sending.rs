//! What goes out: replies once the append-only file is settled, the stream to replicas; what connections hold of
//! that is counted, and who holds too much is closed.

use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::{EventLoop, UNSENT_BYTES_MAX};
use crate::config::live::OutputClass;
use crate::exec::Engine;
use crate::mailbox::Mail;
use crate::net::batch::REPLY_BYTES;
use crate::net::connection::Connection;
use crate::role::replica::{Next, PIECE_BYTES};
use crate::session::Session;
use crate::session::client::Buffers;
use crate::state::State;
use crate::stats::counters::{Counter, ThreadCounters};
use crate::stats::memory::block_bytes;

/// Replies to what was read at once that count for no limit: those of one small request.
const FREE_REPLY_BYTES: usize = 16 * 1024;
/// What the smallest reply counts for with DEBUG CLIENT-ENFORCE-REPLY-LIST.
const REPLY_BLOCK_BYTES: usize = 16 * 1024;
/// Unsent replies at which a connection is closed that has not said who it is.
const UNKNOWN_UNSENT_BYTES_MAX: u64 = 1024;
/// Pieces of the stream that a replica is sent before others have their turn.
const PIECES_PER_TURN: usize = 16;

impl EventLoop {
    /// Notes that there is something to send beyond replies.
    pub(super) fn list(&mut self, idx: usize) {
        let Some(connection) = self.connections.get_mut(idx) else {
            return;
        };
        connection.await_file(self.state.aof.awaited());
        enlist(&mut self.listed, idx, connection);
    }

    /// Sends to those that are listed, but to those whose replies must still wait for the append-only
    /// file.
    pub(super) fn send_listed(&mut self, engine: &mut Engine) {
        if !self.listed.is_empty() {
            self.send_settled(engine);
        }
        let n_told_bytes = std::mem::take(&mut self.n_told_bytes);
        self.state.mailboxes.has_told(n_told_bytes);
    }

    fn send_settled(&mut self, engine: &mut Engine) {
        let (state, config) = (self.state, &self.state.config);
        let aof = &state.aof;
        if !aof.syncs_first(config) {
            aof.settle(config);
            self.send_up_to(engine, u64::MAX);
            return aof.note_waiting(0, &mut self.n_noted);
        }
        // First those that another loop's sync was for as well.
        let left = self.send_up_to(engine, aof.synced());
        aof.note_waiting(self.listed.len(), &mut self.n_noted);
        if let Some((end, is_overtaken)) = left
            && aof.sync_together(end, is_overtaken)
        {
            self.send_up_to(engine, aof.synced());
            aof.note_waiting(self.listed.len(), &mut self.n_noted);
            if aof.has_waiting() {
                state.mailboxes.wake_others(self.group);
            }
        }
    }

    /// Sends to those that wait for no more of the append-only file than up to `end`. For those that are
    /// left, what the last of them waits for, and whether one has waited for `end` and then for more.
    fn send_up_to(&mut self, engine: &mut Engine, end: u64) -> Option<(u64, bool)> {
        let mut left = None;
        for idx in std::mem::take(&mut self.listed) {
            let Some(connection) = self.connections.get_mut(idx) else {
                if self.connections.is_lent(idx) {
                    self.listed.push(idx);
                }
                continue;
            };
            if let Some((first, last)) = connection.awaits_file.filter(|(_, last)| *last > end) {
                self.listed.push(idx);
                let (most, is_overtaken) = left.unwrap_or_default();
                left = Some((last.max(most), is_overtaken || first <= end));
                continue;
            }
            (connection.is_listed, connection.awaits_file) = (false, None);
            let was_full = connection.unsent_bytes() > UNSENT_BYTES_MAX;
            let is_alive = connection.flush();
            let is_done = connection.is_done() && !self.state.control.is_ending();
            if !is_alive || is_done || is_hoarding(self.state, connection, 0) {
                self.close(engine, idx);
                continue;
            }
            self.has_unsent |= connection.unsent_bytes() > 0;
            self.take_stock(idx);
            if was_full {
                self.read_again(idx);
            }
        }
        left
    }

    pub(super) fn flush(&mut self, engine: &mut Engine, idx: usize) {
        let Some(connection) = self.connections.get_mut(idx) else {
            return;
        };
        let was_full = connection.unsent_bytes() > UNSENT_BYTES_MAX;
        let is_alive = match connection.awaits_file {
            Some(_) => true, // it is listed
            None => connection.flush(),
        };
        let is_done = connection.is_done() && !self.state.control.is_ending();
        let is_replica = connection.session.is_replica();
        if !is_alive || is_done {
            self.close(engine, idx);
        } else if was_full {
            self.read_again(idx);
        }
        if is_replica {
            self.feed(engine, idx);
        }
        self.take_stock(idx);
    }

    // ---- What it takes up ----------------------------------------------------------------------

    /// Counts what a connection takes up, and lets others see it.
    pub(super) fn take_stock(&mut self, idx: usize) {
        if let Some(connection) = self.connections.get_mut(idx) {
            let buffers = connection.buffers();
            connection.session.client.facts.lock().buffers = buffers;
            charge(self.state, &mut connection.session, &buffers, 0);
        }
    }

    /// Whether a connection has to go at once for a request of so many bytes, before that is run.
    pub(super) fn is_shed(&mut self, engine: &mut Engine, idx: usize, n_bytes: usize) -> bool {
        if self.state.config.max_client_memory_bytes().is_none() {
            return false;
        }
        if let Some(connection) = self.connections.get_mut(idx) {
            let buffers = connection.buffers();
            charge(self.state, &mut connection.session, &buffers, n_bytes);
        }
        self.shed(engine);
        self.connections.get(idx).is_none()
    }

    /// Whether clients take up too much, with what this one has been answered so far.
    pub(super) fn is_crowded(&self, connection: &mut Connection) -> bool {
        let Some(limit) = self.state.config.max_client_memory_bytes() else {
            return false;
        };
        let buffers = connection.buffers();
        charge(self.state, &mut connection.session, &buffers, 0);
        self.state.clients.memory_bytes() > limit
    }

    /// Closes the largest connections while all together take up more than `maxmemory-clients`.
    pub(super) fn shed(&mut self, engine: &mut Engine) {
        for to in engine.shed() {
            // Its own at once, unless it is lent.
            if usize::from(to.group) == self.group
                && let Some((idx, _)) = self.find(to)
            {
                self.close(engine, idx);
            }
        }
    }

    // ---- Replicas ------------------------------------------------------------------------------

    pub(super) fn attend(&mut self, idx: usize) {
        if !self.replicas.contains(&idx) {
            self.replicas.push(idx);
        }
    }

    pub(super) fn feed_all(&mut self, engine: &mut Engine) {
        for idx in self.replicas.clone() {
            self.feed(engine, idx);
        }
    }

    /// Sends a replica what its socket takes of what it lacks, but not without end.
    pub(super) fn feed(&mut self, engine: &mut Engine, idx: usize) {
        let connection = self.connections.get_mut(idx);
        let Some(connection) = connection.filter(|one| one.session.is_replica()) else {
            return;
        };
        let Some(replica) = connection.session.replica.clone() else {
            return;
        };
        if replica.is_lost() {
            // Even if its socket takes nothing.
            let peer = &connection.session.client.peer;
            log::warn!("Replica {peer} is closed: its snapshot could not be made or sent");
            return self.close(engine, idx);
        }
        let backlog = &self.state.journal.backlog;
        let behind = replica.behind(backlog);
        let (peer, soft_since) = (&connection.session.client.peer, &mut connection.soft_since);
        if self.state.closes_for_lag(peer, behind, soft_since) {
            return self.close(engine, idx);
        }
        // What it may hold for the while: other loops count memory meanwhile.
        let held_max = connection.output.capacity().max(2 * PIECE_BYTES) + 2 * PIECE_BYTES;
        replica.note_output(held_max);
        let mut has_more = true;
        for _ in 0..PIECES_PER_TURN {
            if !connection.flush() {
                return self.close(engine, idx);
            }
            has_more = connection.output.is_empty();
            if !has_more {
                break; // it is written to when the socket takes more
            }
            self.piece.clear();
            match replica.next(backlog, &mut self.piece) {
                Next::Piece => {
                    if !connection.send(&self.piece) {
                        return self.close(engine, idx);
                    }
                    let n_bytes = self.piece.len() as u64;
                    connection.session.bytes_out += n_bytes;
                    engine
                        .counters()
                        .add(Counter::ReplicationOutputBytes, n_bytes);
                }
                Next::Nothing => {
                    has_more = false;
                    break;
                }
                Next::Done => return self.close(engine, idx),
                Next::Broken(why) => {
                    log::warn!("Replica {} is closed: {why}", connection.session.client.peer);
                    return self.close(engine, idx);
                }
            }
        }
        let held = [connection.output.capacity(), self.piece.capacity()];
        replica.note_output(held.into_iter().map(block_bytes).sum());
        if has_more {
            self.state.mailboxes.post(self.group, Mail::Feed); // others have their turn first
        }
    }
}

/// Counts what a connection takes up, and `n_more` bytes.
pub(super) fn charge(state: &State, session: &mut Session, buffers: &Buffers, n_more: usize) {
    let held = buffers.input + buffers.input_free + buffers.kept + buffers.output_held;
    let own = size_of::<Connection>() - size_of::<Session>() + session.memory_bytes();
    session.n_charged_reply_bytes = 0;
    state.clients.charge(&session.client, own + held + n_more);
}

/// Counts that a connection takes up so many bytes more. Before it does: other loops may evict at any
/// moment.
pub(super) fn charge_more(state: &State, session: &Session, n_more: usize) {
    if n_more > 0 && state.config.max_client_memory_bytes().is_some() {
        let charged = session.client.charged_bytes.load(Relaxed) + n_more;
        state.clients.charge(&session.client, charged);
    }
}

/// Lists a connection of which something waits for the append-only file, which is settled once for a tick.
pub(super) fn list_held(listed: &mut Vec<usize>, idx: usize, connection: &mut Connection) {
    if connection.awaits_file.is_some() {
        enlist(listed, idx, connection);
    }
}

fn enlist(listed: &mut Vec<usize>, idx: usize, connection: &mut Connection) {
    if !std::mem::replace(&mut connection.is_listed, true) {
        listed.push(idx);
    }
}

/// Sends what was gathered for a connection, or keeps it until it is listed. False if it is broken, or
/// to be closed for what it takes up.
pub(super) fn send_replies(
    state: &State,
    connection: &mut Connection,
    replies: &mut Vec<u8>,
    counters: &ThreadCounters,
) -> bool {
    let n_bytes = replies.len();
    if n_bytes > 0 {
        connection.await_file(state.aof.awaited());
    }
    let n_sent = match connection.awaits_file {
        Some(_) => Some(0),
        None => connection.send_some(replies),
    };
    let n_kept = n_sent.map_or(0, |n_sent| n_bytes - n_sent);
    let is_shed = n_kept > 0 && connection.session.client.is_shed();
    if n_kept > 0 && !is_shed {
        let n_more = connection.growth_bytes(replies, n_bytes - n_kept);
        charge_more(state, &connection.session, n_more);
        connection.keep(replies, n_bytes - n_kept);
    }
    connection.session.bytes_out += n_bytes as u64;
    counters.add(Counter::NetOutputBytes, n_bytes as u64);
    counters.add(Counter::WritesProcessed, 1);
    replies.clear();
    replies.shrink_to(4 * REPLY_BYTES);
    n_sent.is_some() && !is_shed
}

/// Whether a connection is to be closed for what it leaves unread, and for `n_more` bytes of replies
/// that were not sent yet; counts that.
pub(super) fn is_hoarding(state: &State, connection: &mut Connection, n_more: usize) -> bool {
    let is_over = is_over_limit(state, connection, n_more);
    if is_over {
        state.stats.count(Counter::OutputBufferDisconnections, 1);
        log::warn!(
            "Client {} scheduled to be closed ASAP for overcoming of output buffer limits.",
            connection.session.client.peer
        );
    }
    is_over
}

/// Whether more is unsent than `client-output-buffer-limit` allows.
fn is_over_limit(state: &State, connection: &mut Connection, n_more: usize) -> bool {
    let n_more = match n_more {
        1.. if state.counts_blocks.load(Relaxed) => n_more.max(REPLY_BLOCK_BYTES),
        n_more if n_more > FREE_REPLY_BYTES => n_more,
        _ => 0,
    };
    let unsent = (connection.unsent_bytes() + n_more) as u64;
    if unsent == 0 {
        connection.soft_since = None;
        return false;
    }
    let class = match connection.session.subscriptions {
        Some(_) => OutputClass::Pubsub,
        None => OutputClass::Normal,
    };
    if unsent > UNKNOWN_UNSENT_BYTES_MAX
        && !connection.session.was_authenticated
        && state.acl.needs_login()
    {
        return true;
    }
    let limit = state.config.output_limit(class);
    if limit.hard_bytes > 0 && unsent > limit.hard_bytes {
        return true;
    }
    if limit.soft_bytes == 0 || unsent <= limit.soft_bytes {
        connection.soft_since = None;
        return false;
    }
    let since = *connection.soft_since.get_or_insert_with(Instant::now);
    since.elapsed() > Duration::from_secs(limit.soft_s)
}
