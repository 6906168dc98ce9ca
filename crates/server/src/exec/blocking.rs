//! Blocking commands: a command that has nothing to answer is parked with its keys, and runs again,
//! on behalf of its session, at the end of whatever command changes one of them.
//!
//! Who changes a key holds its shard, and becomes the transaction if somebody there waits in more
//! shards than one; so the parked command always finds its keys within reach. Order per key is that
//! of arrival. That a key has gone or is of another type than the command's is no news to it, unless
//! its row says so (`heeds_loss`); any other failure is its answer.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Instant;

use datatypes::encoding::table::hash;
use datatypes::home::Kind;
use keyspace::keyspace::ShardId;
use keyspace::locked::Locked;
use keyspace::registry::{Cause, Waiter};
use resp::reply::{Proto, Reply};

use super::count::Ended;
use super::meanwhile::Remains;
use super::permit::{refusal_text, verdict};
use super::{Admitted, Engine, Outcome};
use crate::command::context::{self, Place};
use crate::mailbox::Mail;
use crate::session::Session;
use crate::session::client::Client;
use crate::session::queue::Queued;
use crate::waits::{Goal, Wait};

/// A command that waits.
pub(super) struct Parked {
    client: Arc<Client>,
    proto: Proto,
    leaves_clock: bool,
    admitted: Admitted,
    request: Queued,
    on_timeout: Late,
    /// Its end in vain is counted.
    is_counted: AtomicBool,
}

/// The reply for when the time is up.
pub(super) enum Late {
    /// This one.
    Reply(Vec<u8>),
    /// How far the stream has come by then.
    Copies(Goal),
}

impl Parked {
    /// One whose time never runs out.
    pub(super) fn without_end(session: &Session, admitted: Admitted, request: Queued) -> Parked {
        Parked {
            client: session.client.clone(),
            proto: session.proto,
            leaves_clock: session.leaves_clock,
            admitted,
            request,
            on_timeout: Late::Reply(Vec::new()),
            is_counted: false.into(),
        }
    }
}

/// Whether a key of this type may be what the command waits for: else it is no news.
fn suits(parked: &Parked, kind: Option<Kind>) -> bool {
    let (command, ..) = parked.admitted;
    command.heeds_loss
        || kind.is_some()
            && kind
                == match command.group {
                    "list" => Some(Kind::List),
                    "sorted-set" => Some(Kind::Zset),
                    "stream" => Some(Kind::Stream),
                    _ => kind,
                }
}

fn parked(waiter: &Waiter) -> &Parked {
    let parked = waiter.order.downcast_ref();
    parked.expect("every waiter is made by `block`")
}

impl Engine {
    /// Parks a command that has nothing to answer. Its shards are held.
    pub(super) fn block(
        &mut self,
        locked: &Locked<'static>,
        session: &mut Session,
        admitted: Admitted,
        request: &[&[u8]],
        wait: context::Wait,
        (reply, mark): (&mut Reply<'_>, usize),
    ) -> Outcome {
        let mut keys: Vec<Box<[u8]>> = Vec::new();
        let (command, ..) = admitted;
        command.keys.each(request, &mut |key| keys.push(key.into()));
        keys.sort_unstable();
        keys.dedup();
        let mut ids = keys.iter().map(|key| self.shard_of(session.database, key));
        let first = ids.next();
        let resolved: Option<Vec<&[u8]>> = wait
            .request
            .as_ref()
            .map(|words| words.iter().map(Vec::as_slice).collect());
        let is_wide = ids.any(|id| Some(id) != first);
        let parked = Parked {
            client: session.client.clone(),
            proto: session.proto,
            leaves_clock: session.leaves_clock,
            admitted,
            request: Queued::new(resolved.as_deref().unwrap_or(request)),
            on_timeout: Late::Reply(reply.since(mark).to_vec()),
            is_counted: false.into(),
        };
        let waiter = Waiter::new(Box::new(parked), is_wide).with_cause(Cause {
            database: session.database,
            keys,
            heeds_loss: command.heeds_loss,
        });
        let waiter = Arc::new(waiter);
        reply.truncate(mark);
        for key in &waiter.cause.keys {
            let id = self.shard_of(session.database, key);
            locked.registry_or_new(id).wait(key, waiter.clone());
        }
        let only_reads = !command.is_write();
        session.client.waits_to_read.store(only_reads, Relaxed);
        self.state.clients.blocks(&session.client, waiter.clone());
        session.waiter = Some(waiter);
        Outcome::Blocked(wait.until_ms)
    }

    /// Parks a command that waits for something else than keys, which claims the waiter and posts the
    /// reply. Whoever it is must not be told of the waiter before.
    pub(super) fn park(
        &mut self,
        session: &mut Session,
        admitted: Admitted,
        request: &[&[u8]],
        on_timeout: Late,
    ) -> Arc<Waiter> {
        let parked = Parked {
            client: session.client.clone(),
            proto: session.proto,
            leaves_clock: session.leaves_clock,
            admitted,
            request: Queued::new(request),
            on_timeout,
            is_counted: false.into(),
        };
        let waiter = Arc::new(Waiter::new(Box::new(parked), false));
        session.client.waits_to_read.store(false, Relaxed);
        self.state.clients.blocks(&session.client, waiter.clone());
        session.waiter = Some(waiter.clone());
        waiter
    }

    /// Parks WAIT and WAITAOF, which wait for no key.
    pub(super) fn await_copies(
        &mut self,
        session: &mut Session,
        admitted: Admitted,
        request: &[&[u8]],
        goal: Goal,
    ) -> Outcome {
        let waiter = self.park(session, admitted, request, Late::Copies(goal));
        self.state.waits.add(Wait {
            goal,
            waiter,
            to: session.client.address,
        });
        if goal.n_replicas > 0 && !self.state.has_last_words() {
            self.state
                .journal
                .backlog
                .tell(&[b"REPLCONF", b"GETACK", b"*"]);
        }
        self.state.serve_waits(); // it may have come there meanwhile
        Outcome::Blocked(goal.until_ms)
    }

    fn late_reply(&self, parked: &Parked) -> Vec<u8> {
        match &parked.on_timeout {
            Late::Reply(reply) => reply.clone(),
            Late::Copies(goal) => self.state.progress(goal).1,
        }
    }

    fn shard_of(&self, database: u16, key: &[u8]) -> ShardId {
        self.state.keyspace.shard_of(database, hash(key))
    }

    /// Serves those who wait for keys that became ready, and for keys that this makes ready.
    pub(super) fn serve_waiters(&mut self, locked: &Locked<'static>) {
        let mut at = 0;
        while let Some(place) = self.effects.ready.get(at).cloned() {
            at += 1;
            self.serve_key(locked, &place);
        }
        self.effects.ready.clear();
    }

    fn serve_key(&mut self, locked: &Locked<'static>, (database, key): &Place) {
        let id = self.shard_of(*database, key);
        let mut at = 0;
        loop {
            let kind = self.kind(locked, *database, key);
            self.journal_unit(); // that it was due, or what the last one came to
            let next = locked.registry(id).and_then(|registry| {
                let concerns_some = kind.is_some() || registry.has_heeding_waiter();
                registry.waiter(key, at).filter(|_| concerns_some)
            });
            let Some(waiter) = next else {
                return;
            };
            if !suits(parked(&waiter), kind) || !waiter.claim() {
                at += 1;
            } else if parked(&waiter).client.is_killed.load(Relaxed) {
                waiter.finish(); // nobody would get what it takes
                self.forget(locked, &waiter);
            } else if self.serve(locked, &waiter) {
                waiter.finish();
                self.forget(locked, &waiter);
            } else if waiter.release() {
                at += 1;
            } else {
                // Its time ran out while it was claimed; its session was told to wait for word.
                let to = parked(&waiter).client.address;
                let mail = Mail::Unblocked { to, error: None };
                self.state.mailboxes.post(to.group.into(), mail);
            }
        }
    }

    /// Runs a parked command again; whether it had something to answer, which is then posted.
    fn serve(&mut self, locked: &Locked<'static>, waiter: &Waiter) -> bool {
        let parked = parked(waiter);
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, parked.proto);
        let place = (waiter.cause.database, parked.leaves_clock, false);
        let words = parked.request.words();
        let user = parked.client.user.lock().clone();
        let rules = user.rules();
        let at = (self.state, waiter.cause.database);
        if let Err(denied) = verdict(at, &rules, parked.admitted.0, &words) {
            let text = refusal_text(&denied, &user, parked.admitted.0, false);
            let line = format!("NOPERM {text}");
            self.count_refusal(Some(parked.admitted.0), line.as_bytes());
            reply.error(line.as_bytes());
            let to = parked.client.address;
            let mail = Mail::Served { to, reply: bytes };
            self.state.mailboxes.post(to.group.into(), mail);
            return true;
        }
        self.effects.can_wait = true;
        let is_tracked = self.state.tracking.is_active();
        self.effects.author = is_tracked.then_some(parked.client.address.session);
        let since = Instant::now();
        self.known.clear();
        let is_ok = self.handle_apart(locked, place, parked.admitted, &words, &mut reply);
        if self.effects.wait.take().is_some() {
            return false;
        }
        let (reply_bytes, took_ns) = (reply.len(), since.elapsed().as_nanos() as u64);
        let ended = Ended { is_ok, reply_bytes };
        self.count_run((parked.admitted.0, &words), &parked.client, ended, (took_ns, 1));
        let to = parked.client.address;
        let mail = Mail::Served { to, reply: bytes };
        self.state.mailboxes.post(to.group.into(), mail);
        true
    }

    /// Takes a waiter off the keys it waits for, which are held.
    pub(super) fn forget(&self, locked: &Locked<'static>, waiter: &Arc<Waiter>) {
        for key in &waiter.cause.keys {
            let id = self.shard_of(waiter.cause.database, key);
            if let Some(registry) = locked.registry(id) {
                registry.forget_waiter(key, waiter);
                locked.trim_registry(id);
            }
        }
    }

    /// Ends a wait that was served: the one who did has taken it off its keys.
    pub fn end_service(&mut self, session: &mut Session) {
        session.n_commands += 1;
        if let Some(waiter) = session
            .waiter
            .take()
            .filter(|one| one.cause.keys.is_empty())
        {
            // Nobody ran it again: it is counted here.
            let parked = parked(&waiter);
            let ended = Ended {
                is_ok: true,
                reply_bytes: 0,
            };
            let words = parked.request.words();
            self.count_run((parked.admitted.0, &words), &parked.client, ended, (0, 1));
        }
        self.state.clients.unblocks(&session.client);
    }

    /// Ends a wait whose time is up. `None`: the reply, or word that there is none, is on its way.
    pub fn time_out(&mut self, session: &mut Session) -> Option<Vec<u8>> {
        let is_mine = session.waiter.as_ref()?.cancel();
        is_mine.then(|| self.end_wait(session, true))
    }

    /// Ends a wait whose time is up, or which somebody ends with an error. The reply in the first case.
    pub fn end_wait(&mut self, session: &mut Session, is_ok: bool) -> Vec<u8> {
        if let Some(waiter) = session.waiter.clone() {
            session.n_commands += 1;
            self.count_wait(&waiter, is_ok);
        }
        self.forget_wait(session)
    }

    /// The same for a wait that this loop has ended, unless that of the session was sooner.
    pub(super) fn count_unblocked(&mut self, session: u64, is_ok: bool) {
        let client = self.state.clients.get(session);
        let waiter = client.and_then(|client| client.waiter.lock().clone());
        if let Some(waiter) = waiter.filter(|waiter| waiter.is_over()) {
            self.count_wait(&waiter, is_ok);
        }
    }

    /// Counts the command of a wait that ended in vain. Once: by who ended it, or by its loop.
    pub(super) fn count_wait(&mut self, waiter: &Waiter, is_ok: bool) {
        let parked = parked(waiter);
        if parked.is_counted.swap(true, Relaxed) {
            return;
        }
        let reply_bytes = self.late_reply(parked).len();
        let ended = Ended { is_ok, reply_bytes };
        let words = parked.request.words();
        self.count_run((parked.admitted.0, &words), &parked.client, ended, (0, 1));
    }

    /// Forgets a wait that is over, or whose session is. The reply for when the time is up.
    pub(super) fn forget_wait(&mut self, session: &mut Session) -> Vec<u8> {
        let Some(waiter) = session.waiter.take() else {
            return Vec::new();
        };
        self.state.clients.unblocks(&session.client);
        waiter.cancel(); // if the session has gone away, nobody may begin to serve it from here on
        let on_timeout = self.late_reply(parked(&waiter));
        self.bury(Remains::Waiter(waiter));
        on_timeout
    }

    /// The shards of the keys that a waiter waits for.
    pub(super) fn shards_of(&self, waiter: &Waiter) -> Vec<ShardId> {
        let keys = waiter.cause.keys.iter();
        keys.map(|key| self.shard_of(waiter.cause.database, key))
            .collect()
    }

    /// Ends what a session has going: its wait, its watched keys, its subscriptions.
    pub fn end_session(&mut self, session: &mut Session) {
        if session.waiter.is_some() {
            self.forget_wait(session);
        }
        self.state.clients.resumes(session);
        if std::mem::take(&mut session.is_monitor) {
            self.state.monitors.remove(session.address());
        }
        self.unwatch(session);
        session.unsubscribe_all(&self.state.pubsub);
        session.end_tracking(&self.state.tracking);
        session.queue = None;
    }
}
