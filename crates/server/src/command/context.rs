//! What a handler may see and do: one context for each kind of command.
//!
//! A handler records effects ([`WriteCtx::changed`], [`WriteCtx::propagate`]); the engine applies
//! them while the locks are still held.

use crate::command::Commands;
use crate::command::event::Event;
use crate::session::Session;
use crate::state::State;
use datatypes::home::Limits;
use datatypes::value::ValueRef;
use keyspace::db::{Db, View};

/// What a write has done, for the engine to apply.
#[derive(Debug, Default)]
pub struct Effects {
    /// Changes, as `rdb_changes_since_last_save` counts them.
    pub n_changes: u64,
    /// What the journal gets instead of the command itself; kept only while a reader is attached.
    pub propagated: Vec<Vec<Vec<u8>>>,
    /// Somebody reads the journal.
    pub is_recorded: bool,
}

/// The context of a command that looks at keys.
pub struct ReadCtx<'a> {
    /// The session's database.
    pub db: View<'a>,
    /// The state of this thread's random numbers.
    pub random: &'a mut u64,
}

/// The context of a command that changes keys.
pub struct WriteCtx<'a> {
    /// The session's database.
    pub db: Db<'a>,
    /// What was done.
    pub effects: &'a mut Effects,
    /// The state of this thread's random numbers.
    pub random: &'a mut u64,
}

/// The context of a command about the connection or the server.
pub struct AdminCtx<'a> {
    /// The connection's state.
    pub session: &'a mut Session,
    /// The server's.
    pub state: &'a State,
    /// Every command by its lower-case name.
    pub commands: &'a Commands,
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

impl<'a> WriteCtx<'a> {
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

    /// Says that `key` changed: counts it, and removes a collection that is empty now.
    pub fn changed(&mut self, event: Event, key: &[u8]) {
        self.effects.n_changes += 1;
        let _ = event;
        let is_emptied = match self.db.value(key) {
            None | Some(ValueRef::String(_)) => false,
            Some(value) => value.is_empty(),
        };
        if is_emptied {
            self.db.remove(key);
        }
    }

    /// Says that something happened to `key` that is no change of its own.
    pub fn event(&mut self, event: Event, key: &[u8]) {
        let _ = (event, key);
    }

    /// Gives the journal `command` in place of the one that runs; may be called several times.
    pub fn propagate(&mut self, command: &[&[u8]]) {
        if self.effects.is_recorded {
            self.effects
                .propagated
                .push(command.iter().map(|word| word.to_vec()).collect());
        }
    }
}
