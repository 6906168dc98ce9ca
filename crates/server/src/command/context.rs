//! What a handler may see and do: one context for each kind of command.
//!
//! A handler records effects ([`WriteCtx::changed`], [`WriteCtx::propagate`], [`WriteCtx::wait`]); the
//! engine applies them while the locks are still held.

use std::fmt;

use datatypes::home::Limits;
use datatypes::value::ValueRef;
use keyspace::db::{Db, View};
use lua::interpreter::ScriptName;
use rdb::payload::Demands;

use crate::command::event::Event;
use crate::command::{Command, Commands};
use crate::config::notify::EventClasses;
use crate::control::Manner;
use crate::error::Result;
use crate::journal::unit::Unit;
use crate::saving::Word;
use crate::scripts::functions::Policy;
use crate::session::Session;
use crate::state::State;
use crate::waits::Goal;

/// A key and its database.
pub type Place = (u16, Box<[u8]>);

/// What commands have done, for the engine to apply.
#[derive(Debug, Default)]
pub struct Effects {
    /// Changes, as `rdb_changes_since_last_save` counts them.
    pub n_changes: u64,
    /// What the journal gets instead of the command itself.
    pub propagated: Unit,
    /// The journal gets the command even if it has changed nothing, as it does from FLUSHALL.
    pub is_journaled_anyway: bool,
    /// Somebody reads the journal.
    pub is_recorded: bool,
    /// The classes of events that anybody may get.
    pub wanted: EventClasses,
    /// The whole data set was thrown away.
    pub has_flushed: bool,
    /// Lines for the log.
    pub notes: Vec<String>,
    /// Events to publish.
    pub events: Vec<(Event, Place)>,
    /// Who runs the command, if anybody is to be told of changed keys.
    pub author: Option<u64>,
    /// Changed keys to tell of, each with who did it.
    pub touched: Vec<(u64, Box<[u8]>)>,
    /// How many of these those who have read them were told of.
    pub n_told: usize,
    /// All keys may have changed.
    pub has_touched_all: bool,
    /// Keys that may have become ready for somebody who waits.
    pub ready: Vec<Place>,
    /// Whether a command may wait: not inside EXEC or a script.
    pub can_wait: bool,
    /// The command has nothing to answer yet.
    pub wait: Option<Wait>,
}

/// Work that is done in another thread while the command waits, and no lock is held.
pub struct Errand(pub Box<dyn FnOnce(&'static State) -> After + Send>);

impl fmt::Debug for Errand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Errand")
    }
}

/// What follows an errand.
pub enum After {
    /// The command has this answer.
    Answer(Result<()>),
    /// This runs over its keys as any command, and answers.
    Run {
        /// A row that clients cannot call.
        command: &'static Command,
        /// Its name and arguments.
        words: Vec<Vec<u8>>,
    },
}

/// A command's wish to wait for its keys, or for an errand.
#[derive(Debug)]
pub struct Wait {
    /// Until this Unix time; `None` waits for ever.
    pub until_ms: Option<u64>,
    /// What runs again, if that is not the request itself: the same command, with arguments whose
    /// meaning would change fixed to what they mean now.
    pub request: Option<Vec<Vec<u8>>>,
    /// What it waits for instead of its keys.
    pub errand: Option<Errand>,
}

/// Why a key goes that no client has deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Removal {
    /// Its time had come.
    Expired,
    /// There was no room for it.
    Evicted,
    /// A command took what was in it, or brought what is over already.
    Dropped,
}

/// What directives say about values that leave the server and come to it.
#[derive(Clone, Copy, Debug)]
pub struct Directives {
    /// `lazyfree-lazy-expire`, `-eviction` and `-server-del`, in the order of [`Removal`].
    pub is_lazy: [bool; 3],
    /// `rdbcompression`: long strings are packed.
    pub packs_strings: bool,
    /// What is asked of payloads.
    pub demands: Demands,
    /// A script runs.
    pub is_scripted: bool,
    /// `import-mode`: what is due stays.
    pub is_importing: bool,
    /// What the clock shows while commands of a file run again, for which it stands still.
    pub present_ms: Option<u64>,
}

impl Directives {
    /// The command by which the journal is told of a key that went.
    pub fn removal(&self, why: Removal) -> &'static [u8] {
        match self.is_lazy[why as usize] {
            true => b"UNLINK",
            false => b"DEL",
        }
    }
}

/// The context of a command that looks at keys.
pub struct ReadCtx<'a> {
    /// The session's database.
    pub db: View<'a>,
    /// What directives say.
    pub directives: Directives,
    /// The state of this thread's random numbers.
    pub random: &'a mut u64,
}

/// The context of a command that changes keys.
pub struct WriteCtx<'a> {
    /// The session's database.
    pub db: Db<'a>,
    /// What directives say.
    pub directives: Directives,
    /// What was done.
    pub effects: &'a mut Effects,
    /// The state of this thread's random numbers.
    pub random: &'a mut u64,
}

/// What a command about the connection asks the engine to do after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Run the queued commands.
    Exec,
    /// Watch the command's keys.
    Watch,
    /// Watch nothing any more.
    Unwatch,
    /// Run a script over the command's keys.
    Script {
        /// Which.
        name: ScriptName,
        /// Its first argument behind the keys, counted in the whole request.
        args_at: usize,
        /// What it may do.
        permit: Permit,
    },
    /// DEBUG LOADAOF: load the append-only file anew.
    Replay,
    /// Call the function that the request names.
    Call {
        /// Its first argument behind the keys, counted in the whole request.
        args_at: usize,
        /// What it may do.
        permit: Permit,
    },
    /// Change the libraries; the request's last word but those of options says how.
    Libraries(Libraries),
    /// WAIT, WAITAOF: wait for replicas and disks.
    AwaitCopies(Goal),
    /// REPLICAOF: follow the server that the request names.
    Follow,
    /// SHUTDOWN: wait for replicas, then stop.
    AwaitEnd(Manner),
    /// Let whoever writes be done, now that a pause has begun.
    Pause,
    /// Count a wait that was ended: who ended it may look for it before its loop has got word.
    Unblocked {
        /// Whose.
        session: u64,
        /// It is answered as if its time were up.
        is_ok: bool,
    },
    /// Read the data set from its file.
    Reload(Reload),
    /// Save in the background, and answer when it is so far.
    Save {
        /// Begun or done.
        until: Word,
    },
    /// Compile a script that was added to the cache.
    Load {
        /// Which.
        name: ScriptName,
    },
}

/// What a script may do, by its command and its own promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    /// It may not change anything.
    pub is_read_only: bool,
    /// It may store something even when memory is full.
    pub may_grow: bool,
}

/// What is to become of the libraries of functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Libraries {
    /// Load the one whose source is the request's last word.
    Load {
        /// In the place of one of the same name.
        replaces: bool,
    },
    /// Remove the one that the request's last word names.
    Delete,
    /// Remove all.
    Flush,
    /// Load those of the payload that is the request's third word.
    Restore(Policy),
}

/// How the data set is read from its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reload {
    /// The file is written first.
    pub saves: bool,
    /// What is there goes first.
    pub flushes: bool,
    /// What is there goes for keys of the file.
    pub merges: bool,
}

/// The context of a command about the connection or the server.
pub struct AdminCtx<'a> {
    /// The connection's state.
    pub session: &'a mut Session,
    /// The server's.
    pub state: &'static State,
    /// Every command by its lower-case name.
    pub commands: &'static Commands,
    /// Unix time, the same for the whole tick.
    pub now_ms: u64,
    /// The command runs inside EXEC or a script.
    pub is_nested: bool,
    /// Memory is full, and nothing could be evicted.
    pub is_memory_full: bool,
    /// What is to be done when the handler has returned.
    pub order: Option<Order>,
    /// Lines for the log, where nobody waits for locks any more.
    pub notes: &'a mut Vec<String>,
    /// What the journal gets for EXEC or a script that this command is a part of.
    pub unit: &'a mut Unit,
}

/// The next number of a splitmix64 sequence.
pub fn next_random(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mixed = (*state ^ (*state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

impl<'a> ReadCtx<'a> {
    /// Unix time, the same for the whole command.
    pub fn now_ms(&self) -> u64 {
        self.db.now_ms()
    }

    /// 64 random bits.
    pub fn random(&mut self) -> u64 {
        next_random(self.random)
    }

    /// The thresholds of small encodings.
    pub fn limits(&self) -> &'a Limits {
        self.db.limits()
    }
}

impl Effects {
    /// Whether there are changed keys that nobody was told of.
    #[inline]
    pub fn has_news(&self) -> bool {
        self.touched.len() > self.n_told || self.has_touched_all
    }

    /// Notes a changed key, if anybody is to be told.
    #[inline]
    fn touch(&mut self, key: &[u8]) {
        if let Some(author) = self.author {
            self.touched.push((author, key.into()));
        }
    }

    /// Publishes an event, if anybody may get it.
    #[inline]
    pub fn event(&mut self, event: Event, database: u16, key: &[u8]) {
        if self.wanted.intersects(event.class) {
            self.events.push((event, (database, key.into())));
        }
    }
}

impl<'a> WriteCtx<'a> {
    /// Unix time, the same for the whole command.
    pub fn now_ms(&self) -> u64 {
        self.db.now_ms()
    }

    /// Up to when a deadline that a command sets has passed, so that what it is for goes at once: while
    /// data is imported none has, as its source says what goes.
    pub fn passed_ms(&self) -> u64 {
        match self.directives.is_importing {
            true => 0,
            false => self.now_ms(),
        }
    }

    /// 64 random bits.
    pub fn random(&mut self) -> u64 {
        next_random(self.random)
    }

    /// The thresholds of small encodings.
    pub fn limits(&self) -> &'a Limits {
        self.db.limits()
    }

    /// What the clock shows: for times that are reckoned from now. Whether something is due is told
    /// by [`Db::now_ms`].
    pub fn present_ms(&self) -> u64 {
        self.directives.present_ms.unwrap_or(self.now_ms())
    }

    /// Says that `key` changed: counts it, tells watchers and waiters, announces `event`, and
    /// removes a collection that is empty now.
    #[inline]
    pub fn changed(&mut self, event: Event, key: &[u8]) {
        self.grew(event, key);
        if event.class.intersects(EventClasses::COLLECTIONS) {
            self.remove_if_empty(key);
        }
    }

    /// The same for a change that leaves something in the value for certain: no need to look.
    #[inline]
    pub fn grew(&mut self, event: Event, key: &[u8]) {
        self.effects.n_changes += 1;
        if self.db.touch(key) {
            self.effects.ready.push((self.db.number(), key.into()));
        }
        self.effects.touch(key);
        self.event(event, key);
    }

    /// The same for a key of another database, which a transaction may reach.
    pub fn changed_in(&mut self, database: u16, event: Event, key: &[u8]) {
        self.effects.n_changes += 1;
        if self.db.other(database, |db| db.touch(key)) {
            self.effects.ready.push((database, key.into()));
        }
        self.effects.touch(key);
        self.tell_arrivals();
        self.effects.event(event, database, key);
    }

    fn remove_if_empty(&mut self, key: &[u8]) {
        let is_emptied = match self.db.value(key) {
            None | Some(ValueRef::String(_)) => false,
            Some(value) => value.is_empty(),
        };
        if is_emptied {
            self.db.remove(key);
            self.event(Event::generic("del"), key);
        }
    }

    /// Says that something beside the value proper changed, as the groups of a stream are: counted and
    /// announced, while neither watchers nor waiters are told.
    pub fn altered(&mut self, event: Event, key: &[u8]) {
        self.effects.n_changes += 1;
        self.event(event, key);
    }

    /// The same as [`WriteCtx::changed`] for a change that counts for several.
    pub fn changed_by(&mut self, n: usize, event: Event, key: &[u8]) {
        self.effects.n_changes += (n as u64).saturating_sub(1);
        self.changed(event, key);
    }

    /// Has those who wait for `key` look again.
    pub fn wake(&mut self, key: &[u8]) {
        if self.db.has_waiter(key) {
            self.effects.ready.push((self.db.number(), key.into()));
        }
    }

    /// Says that every key of a database may have changed, which was emptied or exchanged: whoever
    /// waits for one looks again. Watchers are the database's affair.
    pub fn database_changed(&mut self, database: u16) {
        for key in self.db.locked().waited_keys(database) {
            self.effects.ready.push((database, key));
        }
    }

    /// Says that every key is another one now, for those who hold copies: they are told to drop all.
    pub fn all_changed(&mut self) {
        self.effects.has_touched_all = self.effects.author.is_some();
    }

    /// Says that something happened to `key` that is no change of its own.
    #[inline]
    pub fn event(&mut self, event: Event, key: &[u8]) {
        let heard = event.class.union(EventClasses::NEW_KEY);
        if self.effects.wanted.intersects(heard) {
            self.tell_arrivals();
            self.effects.event(event, self.db.number(), key);
        }
    }

    /// Publishes which keys came to be, before anything else that happened to them.
    #[cold]
    fn tell_arrivals(&mut self) {
        for (database, key) in self.db.take_arrivals() {
            self.effects.event(Event::new_key("new"), database, &key);
        }
    }

    /// Gives the journal `command` in place of the one that runs; may be called several times.
    pub fn propagate(&mut self, command: &[&[u8]]) {
        if self.effects.is_recorded {
            self.effects.propagated.add(self.db.number(), command);
        }
    }

    /// Has the journal told that `key` is gone, in place of the command that runs.
    pub fn propagate_removal(&mut self, why: Removal, key: &[u8]) {
        self.propagate(&[self.directives.removal(why), key]);
    }

    /// The same for words that were made for it.
    pub fn propagate_owned(&mut self, command: &[Vec<u8>]) {
        if self.effects.is_recorded {
            self.effects.propagated.add(self.db.number(), command);
        }
    }

    /// Says that there is nothing to answer yet. What the handler has written is the reply for when
    /// the time is up, or when waiting is not possible; else it runs again when a key changes.
    pub fn wait(&mut self, until_ms: Option<u64>) {
        self.wait_as(until_ms, None);
    }

    /// The same, with what is to run again.
    pub fn wait_as(&mut self, until_ms: Option<u64>, request: Option<Vec<Vec<u8>>>) {
        self.effects.wait = Some(Wait {
            until_ms,
            request,
            errand: None,
        });
    }

    /// Has `work` done elsewhere, and the command wait for it. Only where it can wait.
    pub fn send_off(&mut self, work: impl FnOnce(&'static State) -> After + Send + 'static) {
        self.effects.wait = Some(Wait {
            until_ms: None,
            request: None,
            errand: Some(Errand(Box::new(work))),
        });
    }
}
