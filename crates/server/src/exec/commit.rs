//! What follows a command while its locks are still held: departures are settled, waiters served,
//! the journal filled, events published.

use datatypes::encoding::table::hash;
use keyspace::db::Departed;
use keyspace::locked::Locked;

use super::Engine;
use crate::command::context::Removal;
use crate::command::event::Event;
use crate::config::notify::EventClasses;
use crate::stats::counters::Counter;
use crate::tracking::NOBODY;

impl Engine {
    /// Whether `commit` has anything to do.
    #[inline]
    pub(super) fn has_effects(&self) -> bool {
        let effects = &self.effects;
        !effects.ready.is_empty()
            || !effects.events.is_empty()
            || !self.unit.is_empty()
            || !effects.touched.is_empty()
            || effects.has_touched_all
    }

    /// See the top of the file. Called once for the outermost command, before its locks go.
    #[cold]
    pub(super) fn commit(&mut self, locked: &Locked<'static>) {
        if !self.effects.ready.is_empty() {
            self.journal_unit(); // whom it serves is no part of it
            self.read_clock(); // a key may have run out while the command ran
            self.serve_waiters(locked);
        }
        if !self.effects.touched.is_empty() || self.effects.has_news() {
            self.tell_trackers();
        }
        self.journal_unit();
        if !self.effects.events.is_empty() {
            for (event, (database, key)) in std::mem::take(&mut self.effects.events) {
                self.announce(event, database, &key);
            }
        }
    }

    /// Appends what was gathered to the journal.
    pub(super) fn journal_unit(&mut self) {
        if self.unit.is_empty() {
            return;
        }
        self.state.journal.append(&self.unit);
        self.has_journaled = true;
        self.unit.clear();
    }

    fn announce(&self, event: Event, database: u16, key: &[u8]) {
        let (pubsub, mailboxes) = (&self.state.pubsub, &self.state.mailboxes);
        if !pubsub.has_subscribers() {
            return;
        }
        if self.effects.wanted.contains(EventClasses::KEYSPACE) {
            let channel = [format!("__keyspace@{database}__:").as_bytes(), key].concat();
            pubsub.publish(&channel, event.name.as_bytes(), mailboxes);
        }
        if self.effects.wanted.contains(EventClasses::KEYEVENT) {
            let channel = format!("__keyevent@{database}__:{}", event.name);
            pubsub.publish(channel.as_bytes(), key, mailboxes);
        }
    }

    /// Adds a command that has run to the journal's unit: what it propagated, else itself.
    #[cold]
    pub(super) fn record(&mut self, database: u16, request: &[&[u8]], has_changed: bool) {
        if !self.effects.propagated.is_empty() {
            self.unit.take_over(&mut self.effects.propagated);
        } else if has_changed {
            self.unit.add(database, request);
        }
    }

    /// The same after a handler, whose events begin at `first`: what ran out did so before.
    #[cold]
    pub(super) fn settle_noted(&mut self, locked: &Locked<'static>, first: usize) {
        let n_before = self.effects.events.len();
        self.settle_departed(locked);
        let n_new = self.effects.events.len() - n_before;
        self.effects.events[first..].rotate_right(n_new);
    }

    /// What went because its time had come: counted, journaled as a deletion, announced.
    #[cold]
    pub(super) fn settle_departed(&mut self, locked: &Locked<'static>) {
        let removal = self.directives.removal(Removal::Expired);
        for departed in std::mem::take(self.departed.get_mut()) {
            match departed {
                Departed::Key { database, key } => {
                    self.counters.add(Counter::ExpiredKeys, 1);
                    self.note_departure(locked, database, &key, &[removal, &key]);
                    self.effects
                        .event(Event::expired("expired"), database, &key);
                }
                Departed::Arrived { database, key } => {
                    self.effects.event(Event::new_key("new"), database, &key);
                }
                Departed::Missed { database, key } => {
                    self.effects
                        .event(Event::key_miss("keymiss"), database, &key);
                }
                Departed::Met { database, key } => self.met.push((database, key)),
                Departed::Fields {
                    database,
                    key,
                    fields,
                    emptied,
                } => {
                    self.counters
                        .add(Counter::ExpiredFields, fields.len() as u64);
                    let mut words: Vec<&[u8]> = vec![b"HDEL", &key];
                    words.extend(fields.iter().map(|field| &field[..]));
                    self.note_departure(locked, database, &key, &words);
                    self.effects.event(Event::hash("hexpired"), database, &key);
                    if emptied {
                        self.effects.event(Event::generic("del"), database, &key);
                    }
                }
            }
        }
    }

    /// Removes the due keys that a walk met, under locks that are held.
    #[cold]
    pub(super) fn remove_met_within(&mut self, locked: &Locked<'static>) {
        for (database, key) in std::mem::take(&mut self.met) {
            self.look(locked, database, &key);
        }
    }

    /// The same when the walk has released what it held.
    #[cold]
    pub(super) fn remove_met(&mut self) {
        for (database, key) in std::mem::take(&mut self.met) {
            let id = self.state.keyspace.shard_of(database, hash(&key));
            let Some(locked) = self.lock_these(&[id]) else {
                continue; // whoever meets it next removes it
            };
            self.look(&locked, database, &key);
            self.release(locked);
        }
    }

    /// A key that nobody asked to change is gone, or smaller: watchers and the journal are told.
    pub(super) fn note_departure(
        &mut self,
        locked: &Locked<'static>,
        database: u16,
        key: &[u8],
        command: &[&[u8]],
    ) {
        let id = self.state.keyspace.shard_of(database, hash(key));
        if let Some(registry) = locked.registry(id) {
            registry.touch(key);
            // A wide waiter can only be served by the transaction, as who expires keys becomes.
            let is_in_reach = locked.is_transaction() || !registry.has_wide_waiter();
            if registry.has_waiter(key) && is_in_reach {
                self.effects.ready.push((database, key.into()));
            }
        }
        if self.state.tracking.is_active() {
            self.effects.touched.push((NOBODY, key.into()));
        }
        // A script that keeps its own commands from readers does not keep this from them.
        if self.effects.is_recorded || self.unit.is_kept_out() && self.state.journal.has_readers() {
            self.unit.add_for_all(database, command);
        }
    }
}
