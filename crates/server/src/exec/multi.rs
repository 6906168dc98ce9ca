//! MULTI, EXEC, WATCH: what commands about transactions ask the engine to do.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use datatypes::encoding::table::hash;
use keyspace::db::{Terms, View};
use keyspace::locked::Locked;
use lua::interpreter::Call;
use resp::reply::Reply;
use stdx::number::parse_i64;

use super::blocking::Late;
use super::meanwhile::Remains;
use super::permit::Origin;
use super::{Admitted, Engine, Meanwhile, Nesting, Outcome};
use crate::command::context::Order;
use crate::command::lookup::resolve;
use crate::command::{Channels, Command, Flag, Kind, Reach};
use crate::pause::Paused;
use crate::persistence::ending;
use crate::session::{Session, Watching};

/// What a script is called with: keys begin behind their number, which is the third word.
fn lua_call<'a>(request: &'a [&'a [u8]], args_at: usize) -> Call<'a> {
    Call {
        keys: request.get(3..args_at).unwrap_or_default(),
        args: request.get(args_at..).unwrap_or_default(),
    }
}

impl Engine {
    /// Does what an outermost command asked for.
    pub(super) fn obey(
        &mut self,
        (order, admitted): (Order, Admitted),
        session: &mut Session,
        request: &[&[u8]],
        reply: &mut Reply<'_>,
        meanwhile: &mut dyn Meanwhile,
    ) -> Outcome {
        match order {
            Order::Exec => self.exec(session, reply, meanwhile),
            Order::Watch => self.watch(session, admitted, request),
            Order::Unwatch => {
                self.unwatch(session);
                Outcome::Done
            }
            Order::AwaitCopies(goal) => self.await_copies(session, admitted, request, goal),
            Order::Save { until } => self.await_save(until, session, admitted, request, reply),
            Order::AwaitEnd(manner) => {
                let late = Late::Reply(Vec::new()); // it is told when it does not end
                let waiter = self.park(session, admitted, request, late);
                let asker = Some((waiter, session.address()));
                ending::wait_for_replicas(self.state, manner, asker);
                Outcome::Blocked(None)
            }
            Order::Follow => match self.lock_all() {
                Some(locked) => {
                    self.follow(&locked, session, request);
                    self.release(locked);
                    Outcome::Done
                }
                None => Outcome::Busy,
            },
            Order::Unblocked { session, is_ok } => {
                self.count_unblocked(session, is_ok);
                Outcome::Done
            }
            Order::Pause => match self.lock_all() {
                Some(locked) => {
                    locked.take_everything(); // see `pause`
                    session.is_pausing = false;
                    Outcome::Done
                }
                None => Outcome::Busy,
            },
            Order::Script { .. }
            | Order::Load { .. }
            | Order::Call { .. }
            | Order::Reload(_)
            | Order::Replay
            | Order::Libraries(_) => {
                let Some(locked) = self.lock_all() else {
                    return Outcome::Busy;
                };
                if session.client.is_killed.load(Relaxed) {
                    session.is_closing = true;
                    return Outcome::Done;
                }
                if self.is_paused() && self.may_write(admitted.0, request) {
                    return Outcome::Busy; // since the gate was passed
                }
                self.effects.is_recorded = self.state.journal.has_readers();
                let order = (order, admitted);
                self.obey_nested(&locked, order, session, request, reply, meanwhile);
                self.release(locked);
                Outcome::Done
            }
        }
    }

    /// Does what a command inside EXEC or a script asked for.
    pub(super) fn obey_nested(
        &mut self,
        locked: &Locked<'static>,
        (order, (command, ..)): (Order, Admitted),
        session: &mut Session,
        request: &[&[u8]],
        reply: &mut Reply<'_>,
        meanwhile: &mut dyn Meanwhile,
    ) {
        self.show_caller(session, command, request);
        if self.nesting == Nesting::Script {
            // There is one interpreter, and it runs.
            return reply.error(b"ERR This Redis command is not allowed from script");
        }
        match order {
            Order::Script {
                name,
                args_at,
                permit,
            } => {
                let call = lua_call(request, args_at);
                let ways = (reply, meanwhile);
                let script = (&name, permit);
                self.run_script(locked, session, script, (call, request), ways);
            }
            Order::Call { args_at, permit } => {
                let call = lua_call(request, args_at);
                let ways = (reply, meanwhile);
                self.run_function(locked, session, permit, (call, request), ways);
            }
            Order::Libraries(what) => self.change_libraries(session, what, request, reply),
            Order::Reload(how) => {
                let mark = reply.len();
                let result = self.reload(locked, how, reply);
                self.settle_reply(result, mark, reply);
            }
            Order::Replay => {
                let mark = reply.len();
                let result = self.reload_log(locked, reply);
                self.settle_reply(result, mark, reply);
            }
            Order::Load { name } => self.load_script(name, reply),
            Order::Follow => self.follow(locked, session, request),
            Order::Unblocked { session, is_ok } => self.count_unblocked(session, is_ok),
            Order::Pause => {
                locked.take_everything();
                session.is_pausing = false;
            }
            // Refused or answered by their handlers when they run inside EXEC.
            Order::Exec | Order::Watch | Order::Unwatch | Order::AwaitCopies(_) => {}
            Order::Save { .. } | Order::AwaitEnd(_) => {}
        }
    }

    /// Follows another server: all that was written is in the stream, and nothing more will be.
    fn follow(&self, locked: &Locked<'static>, session: &Session, request: &[&[u8]]) {
        let word = |at: usize| request.get(at).copied().unwrap_or_default();
        let host = String::from_utf8_lossy(word(1)).into_owned();
        let port = parse_i64(word(2)).and_then(|port| u16::try_from(port).ok());
        let Some(port) = port else {
            return; // the handler has looked
        };
        locked.take_everything();
        log::info!("REPLICAOF {host}:{port} enabled (user request from '{}')", session.client.peer);
        self.state.follow(host, port);
    }

    /// Whether a command may change something that is journaled.
    #[cold]
    pub fn may_write(&self, command: &Command, request: &[&[u8]]) -> bool {
        let is_heard = command.channels == Channels::One; // replicas pass messages on
        matches!(command.kind, Kind::Write(_))
            || command.has(Flag::Write)
            || is_heard
            || command
                .declares
                .is_some_and(|declares| match declares(self.state, request) {
                    None => !command.has(Flag::ReadOnly),
                    Some(flags) => !flags.no_writes,
                })
    }

    /// Whether CLIENT PAUSE makes a request wait.
    #[inline]
    pub fn must_wait(&self, session: &Session, command: &Command, request: &[&[u8]]) -> bool {
        match self.state.pause.now(self.now_ms) {
            None => false,
            Some(paused) => self.must_wait_for(paused, session, command, request),
        }
    }

    #[cold]
    fn must_wait_for(
        &self,
        paused: Paused,
        session: &Session,
        command: &Command,
        request: &[&[u8]],
    ) -> bool {
        if command.name == "client|pause" && session.is_pausing {
            return false; // it has begun the pause itself
        }
        let queue = session.queue.as_ref().filter(|_| command.name == "exec");
        paused == Paused::All
            || queue.is_some_and(|queue| queue.may_write)
            || self.may_write(command, request)
    }

    fn exec(
        &mut self,
        session: &mut Session,
        reply: &mut Reply<'_>,
        meanwhile: &mut dyn Meanwhile,
    ) -> Outcome {
        let Some(locked) = self.lock_queue(session) else {
            return Outcome::Busy;
        };
        if session.client.is_killed.load(Relaxed) {
            session.is_closing = true;
            return Outcome::Done;
        }
        let may_write = session.queue.as_ref().is_some_and(|queue| queue.may_write);
        let writes = session
            .queue
            .as_ref()
            .is_some_and(|queue| queue.needs.writing);
        let is_refused = writes && self.state.refuses_writes() && !session.is_primary;
        if may_write && self.is_paused() || is_refused {
            return Outcome::Busy; // since the gate was passed
        }
        self.effects.is_recorded = self.state.journal.has_readers();
        let queue = session.queue.take().unwrap_or_default();
        let since = self.clock;
        if self.is_dirty(&locked, session) {
            reply.null_array();
        } else {
            self.nesting = Nesting::Multi;
            reply.array(queue.len());
            for queued in queue.iter() {
                let words = queued.words();
                match resolve(self.commands, &words) {
                    Ok(admitted) => {
                        if self.may_step(session, admitted.0, &words, Origin::Exec, reply) {
                            self.step(&locked, session, admitted, &words, reply, meanwhile);
                        }
                    }
                    Err(error) => {
                        let line = error.to_string();
                        self.count_error(line.as_bytes());
                        reply.error(line.as_bytes());
                    }
                }
            }
            self.nesting = Nesting::Outermost;
        }
        self.forget_watched(&locked, session);
        self.release(locked);
        self.clock = since; // it has taken all that time
        Outcome::Done
    }

    /// The locks of all queued commands and watched keys.
    fn lock_queue(&mut self, session: &Session) -> Option<Locked<'static>> {
        self.shards.clear();
        for queued in session.queue.iter().flat_map(|queue| queue.iter()) {
            let words = queued.words();
            let Ok((command, ..)) = resolve(self.commands, &words) else {
                continue;
            };
            let is_narrow = matches!(command.kind, Kind::Read(_) | Kind::Write(_))
                && matches!(command.reach_of(&words), Reach::Keys);
            if !is_narrow {
                return self.lock_all();
            }
            self.add_shards(session.database, command, &words, None);
        }
        for (database, key) in session.watching.iter().flat_map(|watching| &watching.keys) {
            let id = self.state.keyspace.shard_of(*database, hash(key));
            self.shards.push(id);
        }
        let locked = self.lock_shards()?;
        if self.meets_wide_waiter(&locked) {
            drop(locked);
            return self.lock_all();
        }
        Some(locked)
    }

    /// Whether a watched key has changed, or run out just now. All of them are within reach.
    fn is_dirty(&mut self, locked: &Locked<'static>, session: &Session) -> bool {
        let Some(watching) = &session.watching else {
            return false;
        };
        for (database, key) in &watching.keys {
            self.look(locked, *database, key);
        }
        watching.flag.is_dirty()
    }

    /// Whether a key exists; lets it go if its time has come.
    pub(super) fn look(&mut self, locked: &Locked<'static>, database: u16, key: &[u8]) -> bool {
        self.kind(locked, database, key).is_some()
    }

    /// The type of a key; lets it go if its time has come.
    pub(super) fn kind(
        &mut self,
        locked: &Locked<'static>,
        database: u16,
        key: &[u8],
    ) -> Option<datatypes::home::Kind> {
        let terms = Terms {
            now_ms: self.now_ms,
            trace: self.access_clock.leaving(),
            limits: &self.limits,
            keeps_due: self.is_paused()
                || self.directives.is_importing
                || self.state.role.is_replica(),
            departed: &self.departed,
        };
        let kind = View::new(locked, database, terms).kind(key);
        self.settle_departed(locked);
        kind
    }

    fn watch(
        &mut self,
        session: &mut Session,
        (command, ..): Admitted,
        request: &[&[u8]],
    ) -> Outcome {
        self.shards.clear();
        self.add_shards(session.database, command, request, None);
        let Some(locked) = self.lock_shards() else {
            return Outcome::Busy;
        };
        self.effects.is_recorded = self.state.journal.has_readers();
        let database = session.database;
        let watching = session.watching.get_or_insert_default();
        command.keys.each(request, &mut |key| {
            if watching.keys.insert((database, key.into())) {
                self.look(&locked, database, key);
                let id = self.state.keyspace.shard_of(database, hash(key));
                let flag = Arc::clone(&watching.flag);
                watching.bytes += key.len();
                let is_first = locked.registry_or_new(id).watch(key, flag, false);
                self.state
                    .clients
                    .n_watched_keys
                    .fetch_add(is_first.into(), Relaxed);
            }
        });
        self.release(locked);
        Outcome::Done
    }

    /// Ends the watching of a session.
    pub fn unwatch(&mut self, session: &mut Session) {
        if let Some(watching) = session.watching.take() {
            self.bury(Remains::Watching(watching));
        }
    }

    fn forget_watched(&self, locked: &Locked<'static>, session: &mut Session) {
        if let Some(watching) = session.watching.take() {
            self.forget_watching(locked, *watching);
        }
    }

    /// Takes a session's flag off the keys it watched, which are within reach.
    pub(super) fn forget_watching(&self, locked: &Locked<'static>, watching: Watching) {
        let Watching { flag, keys, .. } = watching;
        for (database, key) in keys {
            let id = self.state.keyspace.shard_of(database, hash(&key));
            if let Some(registry) = locked.registry(id) {
                let is_last = registry.forget_watch(&key, &flag);
                self.state
                    .clients
                    .n_watched_keys
                    .fetch_sub(is_last.into(), Relaxed);
                locked.trim_registry(id);
            }
        }
    }
}
