//! Runs commands: takes locks, calls handlers, applies their effects, releases.
//!
//! ```text
//!   call ── lock ── step ── commit ── release          one command
//!   obey ── lock ── step, step, ... ── commit          EXEC, a script
//!   expire ─ lock ── remove what is due ── commit
//! ```
//!
//! `step` runs one handler under locks that are held and gathers its effects; `commit` serves who
//! waits, fills the journal and announces events, once for the outermost command. On an error the
//! reply is cut back to where the command began and the error takes its place.

mod blocking;
mod commit;
mod count;
mod errand;
mod evict;
mod function;
mod lock;
mod meanwhile;
mod multi;
pub mod permit;
mod reap;
mod reload;
mod replay;
mod save;
mod script;
pub mod sibling;
mod tracking;

use std::cell::{Cell, RefCell};
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use datatypes::home::Limits;
use datatypes::stream::BlockLimit;
use keyspace::access::AccessClock;
use keyspace::db::{Db, Departed, KnownHash, Noted, Terms, View};
use keyspace::keyspace::ShardId;
use keyspace::locked::Locked;
use rdb::payload::Demands;
use resp::reply::Reply;

pub use meanwhile::Meanwhile;

use crate::acl::Need;
use crate::command::context::{Directives, Effects, Order, Place};
use crate::command::event::Event;
use crate::command::lookup::{self, Recent};
use crate::command::{AdminCtx, Args, Command, Commands, Flag, Kind, ReadCtx, WriteCtx};
use crate::config::Config;
use crate::config::notify::EventClasses;
use crate::error::{Error, Result};
use crate::journal::unit::Unit;
use crate::session::Session;
use crate::state::State;
use crate::stats::counters::{Counter, ThreadCounters};
use crate::tracking::Notices;
use count::{Ended, Noteworthy};
use errand::Settlement;
use evict::Eviction;
use meanwhile::Remains;

/// A command that passed the gate: see [`crate::command::lookup`].
pub type Admitted = lookup::Resolved;

/// What became of a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It has answered.
    Done,
    /// It waits, until this Unix time if that is given; it will be answered by letter.
    Blocked(Option<u64>),
    /// Its locks were not to be had, or data is being loaded that is there in a moment; nothing was done: try
    /// again later.
    Busy,
    /// CLIENT PAUSE: nothing was done, and it is tried again when the pause is over.
    Postponed,
}

/// Within what a command runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Nesting {
    Outermost,
    Multi,
    Script,
}

thread_local! {
    /// The last command that a client began in this thread.
    static RUNNING: Cell<&'static str> = const { Cell::new("") };
}

/// The last command that a client began in this thread, for the report of a crash; empty if none.
pub fn last_command() -> &'static str {
    RUNNING.get()
}

/// What one thread keeps from command to command.
pub struct Engine {
    state: &'static State,
    commands: &'static Commands,
    now_ms: u64,
    /// What the clock shows if it is moved by hand.
    hand_ms: Option<u64>,
    limits: Limits,
    directives: Directives,
    random: u64,
    departed: RefCell<Vec<Departed>>,
    /// Keys that are due and still there, see [`Departed::Met`].
    met: Vec<Place>,
    shards: Vec<ShardId>,
    /// The hashes of the keys of the command that was locked for last. The addresses of older ones mean
    /// nothing.
    known: Vec<KnownHash>,
    effects: Effects,
    /// What the journal gets when the outermost command is done.
    unit: Unit,
    /// The command that runs has written something.
    has_journaled: bool,
    nesting: Nesting,
    /// The last command's reply was refused for its length.
    is_beyond_reply: bool,
    counters: &'static ThreadCounters,
    /// When the last command ended whose end was looked at, or the batch of this one began.
    clock: Instant,
    /// See [`Engine::time_next`].
    is_timed: bool,
    /// The rows of commands that clients use.
    recent: Recent,
    /// The configuration's generation that the fields above were read at.
    read_at: u64,
    /// Notes uses of keys.
    access_clock: AccessClock,
    /// Room for memory, and what goes to make it.
    eviction: Eviction,
    /// What makes a command worth noting.
    limits_of_note: Noteworthy,
    /// Commands of this run whose time is not taken yet.
    n_untimed: u64,
    /// Their number in the table.
    untimed: u16,
    /// What sessions left behind, whose locks were busy.
    remains: Vec<Remains>,
    /// What is to follow errands, whose locks were busy.
    unsettled: Vec<Settlement>,
    /// The session whose notices are gathered: that which runs, if it tracks.
    pub teller: Option<u64>,
    notices: Notices,
    /// A deadline was set that a sleeping loop may have to wake up for.
    pub has_lowered_due: bool,
    /// It runs what a primary has sent.
    pub is_follower: bool,
}

/// The thresholds of small encodings as the directives set them.
fn limits(state: &State) -> Limits {
    let config = &state.config;
    Limits {
        list_plain_bytes: state.list_plain_bytes.load(Relaxed),
        hash_max_listpack_entries: config.hash_max_listpack_entries(),
        hash_max_listpack_value: config.hash_max_listpack_value(),
        hll_sparse_max_bytes: config.hll_sparse_max_bytes(),
        list_max_listpack_size: config.list_max_listpack_size().into(),
        string_max_bytes: config.proto_max_bulk_bytes(),
        set_max_intset_entries: config.set_max_intset_entries(),
        set_max_listpack_entries: config.set_max_listpack_entries(),
        set_max_listpack_value: config.set_max_listpack_value(),
        stream_block: BlockLimit {
            bytes: config.stream_node_max_bytes(),
            entries: config.stream_node_max_entries(),
        },
        zset_max_listpack_entries: config.zset_max_listpack_entries(),
        zset_max_listpack_value: config.zset_max_listpack_value(),
    }
}

/// What directives say about values that leave the server and come to it.
fn directives(state: &State) -> Directives {
    Directives {
        packs_strings: state.config.packs_strings(),
        present_ms: None,
        is_importing: state.config.is_importing(),
        is_lazy: state.config.lazy_removals(),
        is_scripted: false,
        demands: Demands {
            checks_sum: !state.skips_checksums.load(Relaxed),
            knows_version: state.config.knows_rdb_version(),
        },
    }
}

/// The classes of events that reach a channel.
fn wanted(config: &Config) -> EventClasses {
    let classes = config.notify_events();
    let channels = EventClasses::KEYSPACE.union(EventClasses::KEYEVENT);
    match classes.intersects(channels) {
        true => classes,
        false => EventClasses::NONE,
    }
}

/// Announces what a command that writes is to read and is not there.
#[cold]
fn tell_misses(db: &Db<'_>, command: &Command, request: &[&[u8]], effects: &mut Effects) {
    command.each_need(request, &mut |key, need| {
        if command.tells_miss(need) && !db.exists(key) {
            effects.event(Event::key_miss("keymiss"), db.number(), key);
        }
    });
}

/// Unix time in milliseconds.
pub fn unix_ms() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64
}

/// Remembers the keys that a client of a writable replica has given a deadline.
#[cold]
fn note_own_keys(ctx: &WriteCtx<'_>, (state, command): (&State, &Command), request: &[&[u8]]) {
    command.keys.each(request, &mut |key| {
        let deadline_ms = ctx.db.deadline_ms(key).flatten();
        state.role.own_keys.note(ctx.db.number(), key, deadline_ms);
    });
}

impl Engine {
    /// An engine whose random numbers start at `seed`.
    pub fn new(
        state: &'static State,
        commands: &'static Commands,
        group: usize,
        seed: u64,
    ) -> Engine {
        Engine {
            state,
            commands,
            now_ms: unix_ms(),
            hand_ms: None,
            limits: limits(state),
            directives: directives(state),
            random: seed,
            departed: RefCell::default(),
            met: Vec::new(),
            shards: Vec::new(),
            known: Vec::new(),
            effects: Effects::default(),
            unit: Unit::default(),
            has_journaled: false,
            nesting: Nesting::Outermost,
            counters: state.stats.thread(group),
            clock: Instant::now(),
            is_timed: true,
            recent: Recent::default(),
            read_at: 0,
            access_clock: AccessClock::default(),
            eviction: Eviction::default(),
            limits_of_note: Noteworthy::default(),
            n_untimed: 0,
            is_beyond_reply: false,
            untimed: 0,
            remains: Vec::new(),
            unsettled: Vec::new(),
            teller: None,
            notices: Notices::default(),
            has_lowered_due: false,
            is_follower: false,
        }
    }

    /// The rooms.
    pub fn state(&self) -> &'static State {
        self.state
    }

    /// Every command by its lower-case name.
    pub fn commands(&self) -> &'static Commands {
        self.commands
    }

    /// The row of the command that a client calls by this name.
    #[inline]
    pub fn find(&mut self, name: &[u8]) -> Option<&'static Command> {
        self.recent.find(self.commands, name)
    }

    /// The row of a whole request.
    pub fn resolve(&self, request: &[&[u8]]) -> Result<Admitted> {
        lookup::resolve(self.commands, request)
    }

    /// Unix time of this tick.
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// Whether CLIENT PAUSE keeps the data as it is.
    #[inline]
    pub fn is_paused(&self) -> bool {
        self.state.pause.now(self.now_ms).is_some()
    }

    /// Fixes what stays the same for all commands of a tick: the time, and what directives say.
    pub fn begin_tick(&mut self) {
        self.read_clock();
        self.read_directives();
        self.renew_eviction_slice();
        self.bury_remains();
        self.settle_rest();
    }

    fn read_clock(&mut self) {
        self.now_ms = self.hand_ms.unwrap_or_else(unix_ms);
        self.access_clock.set_time(self.now_ms);
        if self.is_follower {
            // Only the primary says what is due.
            self.directives.present_ms = Some(std::mem::take(&mut self.now_ms));
        }
    }

    /// Sets this engine's clock, which stands still from now on.
    #[cfg(any(test, feature = "testing"))]
    pub fn set_clock(&mut self, now_ms: u64) {
        self.hand_ms = Some(now_ms);
        self.read_clock();
    }

    /// What directives say, if any has changed.
    fn read_directives(&mut self) {
        let now = self.state.config.generation();
        if now == self.read_at {
            return;
        }
        self.read_at = now;
        self.limits = limits(self.state);
        let present_ms = self.directives.present_ms;
        self.directives = Directives {
            present_ms,
            ..directives(self.state)
        };
        self.effects.wanted = wanted(&self.state.config);
        self.limits_of_note = Noteworthy::of(self.state);
        self.access_clock.count(self.state.config.frequency());
        self.read_memory_limit();
    }

    /// See [`Engine::call`].
    #[inline(never)]
    pub fn call_apart(
        &mut self,
        session: &mut Session,
        admitted: Admitted,
        request: &[&[u8]],
        reply: &mut Reply<'_>,
    ) -> Outcome {
        self.call(session, (admitted, None), request, reply, &mut ())
    }

    /// Runs a command from a client. `known_hash` is that of its first key, if it was computed.
    /// In line in the one path of clients, as are `on_keys` and `handle`: that saves a GET one
    /// instruction in ten. Others call `..._apart`.
    #[inline(always)]
    pub fn call(
        &mut self,
        session: &mut Session,
        (admitted, known_hash): (Admitted, Option<u64>),
        request: &[&[u8]],
        reply: &mut Reply<'_>,
        meanwhile: &mut dyn Meanwhile,
    ) -> Outcome {
        let (command, ..) = admitted;
        RUNNING.set(command.name);
        if matches!(command.kind, Kind::Admin(_) | Kind::Container(_)) {
            return self.admin(session, admitted, request, reply, meanwhile);
        }
        // As with contexts, see `handle`: the locks stay where they were made.
        let held = self.lock(session.database, command, request, known_hash);
        let Some(locked) = &held else {
            return Outcome::Busy;
        };
        if session.client.is_killed.load(Relaxed) {
            session.is_closing = true;
            return Outcome::Done;
        }
        if matches!(command.kind, Kind::Write(_))
            && (self.is_paused() || self.state.refuses_writes() && command.is_write())
            && !session.is_primary
        {
            return Outcome::Busy; // since the gate was passed, which decides what to do
        }
        let mark = reply.len();
        self.effects.is_recorded = self.state.journal.has_readers();
        self.effects.can_wait = true;
        let is_ok = self.on_keys(locked, session, admitted, request, reply);
        let outcome = match self.effects.wait.take() {
            None => Outcome::Done,
            Some(mut wait) => match wait.errand.take() {
                None => self.block(locked, session, admitted, request, wait, (reply, mark)),
                Some(errand) => self.send_off(session, admitted, request, errand, (reply, mark)),
            },
        };
        let has_flushed = self.end_effects(locked);
        drop(held);
        self.released(has_flushed);
        self.note_written(session);
        if session.tracking.is_some() {
            Engine::end_choice(session, command);
        }
        if !self.met.is_empty() {
            self.remove_met();
        }
        if matches!(outcome, Outcome::Blocked(_)) {
            self.pass(session, command, request);
            return outcome;
        }
        let reply_bytes = reply.len() - mark;
        self.count_in_run(session, command, request, Ended { is_ok, reply_bytes });
        outcome
    }

    /// Remembers where the append-only stream ended behind what a session has written.
    #[inline]
    fn note_written(&mut self, session: &mut Session) {
        if std::mem::take(&mut self.has_journaled) {
            session.written_to = self.state.aof.reader().n_appended();
            session.streamed_to = self.state.journal.backlog.end();
        }
    }

    /// The end of every outermost command: its effects, then its locks.
    #[inline(never)]
    fn release(&mut self, locked: Locked<'static>) {
        let has_flushed = self.end_effects(&locked);
        drop(locked);
        self.released(has_flushed);
    }

    /// Before the locks go. Whether all keys went.
    #[inline(always)]
    fn end_effects(&mut self, locked: &Locked<'static>) -> bool {
        if self.has_effects() {
            self.commit(locked); // those it serves may change something, too
        }
        let has_flushed = std::mem::take(&mut self.effects.has_flushed);
        if self.effects.n_changes > 0 {
            let n_changes = std::mem::take(&mut self.effects.n_changes);
            self.counters.add(Counter::Changes, n_changes);
        }
        self.has_lowered_due |= locked.has_lowered_due();
        has_flushed
    }

    /// When the locks are gone.
    #[inline(always)]
    fn released(&mut self, has_flushed: bool) {
        self.state.mailboxes.released();
        if has_flushed {
            let has_points = self.state.config.has_save_points();
            let changes = self.state.stats.totals_ever().get(Counter::Changes);
            self.state.saving.flushed(has_points.then_some(changes));
        }
        if !self.effects.notes.is_empty() {
            self.write_notes();
        }
    }

    /// What commands had to say is logged when nobody waits for their locks.
    #[cold]
    fn write_notes(&mut self) {
        for note in self.effects.notes.drain(..) {
            log::warn!("{note}");
        }
    }

    /// Runs a command about the connection or the server, and what it asks for.
    fn admin(
        &mut self,
        session: &mut Session,
        admitted: Admitted,
        request: &[&[u8]],
        reply: &mut Reply<'_>,
        meanwhile: &mut dyn Meanwhile,
    ) -> Outcome {
        let mark = reply.len();
        if session.client.is_killed.load(Relaxed) {
            session.is_closing = true;
            return Outcome::Done;
        }
        let (is_ok, order) = self.run_admin(session, admitted, request, reply);
        self.read_directives();
        self.write_notes();
        let outcome = match order {
            None => Outcome::Done,
            Some(order) => self.obey((order, admitted), session, request, reply, meanwhile),
        };
        self.note_written(session);
        if outcome == Outcome::Busy {
            reply.truncate(mark);
            return self.stay_busy(reply);
        }
        if matches!(outcome, Outcome::Blocked(_)) {
            self.pass(session, admitted.0, request);
            return outcome;
        }
        if session.tracking.is_some() {
            Engine::end_choice(session, admitted.0);
        }
        let is_ok = is_ok && !reply.since(mark).starts_with(b"-");
        let reply_bytes = reply.len() - mark;
        self.count_in_run(session, admitted.0, request, Ended { is_ok, reply_bytes });
        outcome
    }

    fn run_admin(
        &mut self,
        session: &mut Session,
        (command, name, skip): Admitted,
        request: &[&[u8]],
        reply: &mut Reply<'_>,
    ) -> (bool, Option<Order>) {
        let mark = reply.len();
        let mut ctx = AdminCtx {
            session,
            state: self.state,
            commands: self.commands,
            now_ms: self.now_ms,
            is_nested: self.nesting != Nesting::Outermost,
            is_memory_full: self.eviction.is_full,
            order: None,
            notes: &mut self.effects.notes,
            unit: &mut self.unit,
        };
        let mut args = Args::new(name, &request[skip..]);
        let result = match command.kind {
            Kind::Admin(run) => run(&mut ctx, &mut args, reply),
            _ => Err(Error::Syntax),
        };
        let order = ctx.order;
        if order.is_none() {
            self.show_caller(session, command, request);
        }
        (self.settle_reply(result, mark, reply), order)
    }

    /// Runs one command under locks that are held, as a part of EXEC or a script.
    fn step(
        &mut self,
        locked: &Locked<'static>,
        session: &mut Session,
        admitted: Admitted,
        request: &[&[u8]],
        reply: &mut Reply<'_>,
        meanwhile: &mut dyn Meanwhile,
    ) {
        let mark = reply.len();
        if matches!(admitted.0.kind, Kind::Admin(_) | Kind::Container(_)) {
            let (is_ok, order) = self.run_admin(session, admitted, request, reply);
            self.read_directives();
            if let Some(order) = order {
                let order = (order, admitted);
                self.obey_nested(locked, order, session, request, reply, meanwhile);
            }
            let is_ok = is_ok && !reply.since(mark).starts_with(b"-");
            let reply_bytes = reply.len() - mark;
            return self.count(session, admitted.0, request, Ended { is_ok, reply_bytes });
        }
        self.effects.can_wait = false;
        self.known.clear();
        let is_ok = self.on_keys_apart(locked, session, admitted, request, reply);
        // Nobody waits here: the reply for when the time is up is the reply.
        self.effects.wait = None;
        let reply_bytes = reply.len() - mark;
        self.count(session, admitted.0, request, Ended { is_ok, reply_bytes });
    }

    /// See [`Engine::on_keys`].
    #[inline(never)]
    fn on_keys_apart(
        &mut self,
        locked: &Locked<'static>,
        session: &mut Session,
        admitted: Admitted,
        request: &[&[u8]],
        reply: &mut Reply<'_>,
    ) -> bool {
        self.on_keys(locked, session, admitted, request, reply)
    }

    /// Runs a command on keys under locks that are held.
    #[inline(always)]
    fn on_keys(
        &mut self,
        locked: &Locked<'static>,
        session: &mut Session,
        admitted: Admitted,
        request: &[&[u8]],
        reply: &mut Reply<'_>,
    ) -> bool {
        let (command, ..) = admitted;
        // TOUCH is for nothing else.
        let is_meant = command.name == "touch";
        let leaves_clock = command.leaves_clock || session.leaves_clock && !is_meant;
        let sees_due = session.is_importer && self.directives.is_importing;
        let place = (session.database, leaves_clock, sees_due);
        let is_tracked = self.state.tracking.is_active();
        self.effects.author = is_tracked.then(|| session.id());
        let mark = reply.len();
        let is_ok = self.handle(locked, place, admitted, request, reply);
        if std::mem::take(&mut self.is_beyond_reply) && self.state.config.limits_replies() {
            reply.truncate(mark);
            session.is_closing = true;
        }
        if self.effects.has_news() {
            self.tell_readers();
        }
        if session.tracking.is_some() {
            self.remember_keys(session, command, request);
        }
        is_ok
    }

    /// See [`Engine::handle`].
    #[inline(never)]
    fn handle_apart(
        &mut self,
        locked: &Locked<'static>,
        place: (u16, bool, bool),
        admitted: Admitted,
        request: &[&[u8]],
        reply: &mut Reply<'_>,
    ) -> bool {
        self.handle(locked, place, admitted, request, reply)
    }

    /// Calls a handler of keys in a database and gathers what it did. Whether it succeeded.
    #[inline(always)]
    fn handle(
        &mut self,
        locked: &Locked<'static>,
        (database, leaves_clock, sees_due): (u16, bool, bool),
        (command, name, skip): Admitted,
        request: &[&[u8]],
        reply: &mut Reply<'_>,
    ) -> bool {
        let mark = reply.len();
        let (n_changes, n_events) = (self.effects.n_changes, self.effects.events.len());
        let mut args = Args::new(name, &request[skip..]);
        let terms = Terms {
            now_ms: self.now_ms,
            trace: match leaves_clock {
                true => self.access_clock.leaving(),
                false => self.access_clock.noting(),
            },
            limits: &self.limits,
            keeps_due: false,
            departed: &self.departed,
        };
        let result = match command.kind {
            Kind::Read(run) => {
                let keeps_due = self.is_paused()
                    || self.directives.is_importing
                    || self.state.role.is_replica();
                // It is made where it stays: copying what was just written in small parts waits for them.
                let mut ctx = ReadCtx {
                    db: View::new(locked, database, Terms { keeps_due, ..terms }),
                    directives: self.directives,
                    random: &mut self.random,
                };
                if sees_due {
                    ctx.db.see_due();
                }
                ctx.db.note(Noted {
                    misses: self.effects.wanted.contains(EventClasses::KEY_MISS)
                        && command.tells_miss(Need::READ),
                    arrivals: false,
                });
                ctx.db.remember_hashes(&self.known);
                let result = run(&mut ctx, &mut args, reply);
                let (n_lookups, n_hits) = ctx.db.lookups();
                self.counters.add(Counter::KeyspaceHits, n_hits.into());
                self.counters
                    .add(Counter::KeyspaceMisses, (n_lookups - n_hits).into());
                result
            }
            Kind::Write(run) => {
                let is_guest = self.state.role.is_replica() && !self.is_follower;
                let keeps_due = is_guest && command.has(Flag::ReadOnly); // PFCOUNT keeps its sum
                let mut ctx = WriteCtx {
                    db: Db::new(locked, database, Terms { keeps_due, ..terms }),
                    directives: self.directives,
                    effects: &mut self.effects,
                    random: &mut self.random,
                };
                if sees_due {
                    ctx.db.see_due();
                }
                if ctx.effects.wanted.contains(EventClasses::KEY_MISS) {
                    tell_misses(&ctx.db, command, request, ctx.effects);
                }
                ctx.db.note(Noted {
                    misses: false,
                    arrivals: ctx.effects.wanted.contains(EventClasses::NEW_KEY),
                });
                ctx.db.remember_hashes(&self.known);
                let result = run(&mut ctx, &mut args, reply);
                if is_guest {
                    note_own_keys(&ctx, (self.state, command), request);
                }
                result
            }
            Kind::Admin(_) | Kind::Container(_) => Err(Error::Syntax),
        };
        let is_ok = self.settle_reply(result, mark, reply);
        if !self.departed.get_mut().is_empty() {
            self.settle_noted(locked, n_events);
            if locked.is_transaction() {
                self.remove_met_within(locked);
            }
        }
        if self.effects.is_recorded {
            let is_forced = std::mem::take(&mut self.effects.is_journaled_anyway);
            let has_changed = self.effects.n_changes > n_changes || is_forced;
            self.record(database, request, has_changed);
        }
        is_ok
    }

    /// Puts an error in place of what its command had written. Whether there was none.
    #[inline]
    fn settle_reply(&mut self, result: Result<()>, mark: usize, reply: &mut Reply<'_>) -> bool {
        match result {
            Ok(()) => true,
            Err(error) => {
                self.is_beyond_reply = matches!(error, Error::ReplyTooLong);
                let line = error.to_string();
                reply.truncate(mark);
                reply.error(line.as_bytes());
                self.count_error(line.as_bytes());
                false
            }
        }
    }
}
