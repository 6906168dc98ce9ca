//! Keys that are made outside of any lock and only put in under it, by who has many of them to put.

use datatypes::encoding::table::{Record, hash};
use datatypes::home::{Home, NewPayload, Owned, OwnedParts};

use super::{Db, EntryMut, insert};
use crate::entry::{Birth, Entry};
use crate::keyspace::Trash;

/// A key with its value and its deadline, in the form in which it will be kept.
pub struct Made {
    hash: u64,
    entry: Entry,
    fields_ms: Option<u64>,
}

impl Made {
    /// O(bytes) of the key and of a blob.
    pub fn new(key: &[u8], deadline_ms: Option<u64>, value: Owned) -> Made {
        let fields_ms = value.scheduled_ms;
        let birth = Birth {
            key,
            deadline_ms,
            mark: false,
            clock: 0,
        };
        let entry = match value.as_new() {
            (encoding, OwnedParts::Int(n)) => Entry::new(birth, encoding, NewPayload::Int(n)),
            (encoding, OwnedParts::Blob(bytes)) => {
                Entry::new(birth, encoding, NewPayload::Blob(&bytes))
            }
            (encoding, OwnedParts::Big(big)) => Entry::new(birth, encoding, NewPayload::Big(big)),
        };
        Made {
            hash: hash(key),
            entry,
            fields_ms,
        }
    }

    /// The key.
    pub fn key(&self) -> &[u8] {
        self.entry.key()
    }

    /// When the key is gone, Unix time.
    pub fn deadline_ms(&self) -> Option<u64> {
        self.entry.deadline_ms()
    }
}

impl Db<'_> {
    /// Asks the processor for the buckets that putting this touches. It has them a moment later, when
    /// [`expect_chain`](Db::expect_chain) asks for what those point to.
    #[inline]
    pub fn expect(&self, made: &Made) {
        let id = self.view.shard_of(made.hash);
        self.view.locked.room(id).table.prefetch_insert(made.hash);
    }

    /// See [`expect`](Db::expect).
    #[inline]
    pub fn expect_chain(&self, made: &Made) {
        let id = self.view.shard_of(made.hash);
        self.view.locked.room(id).table.prefetch_chains(made.hash);
    }

    /// Puts the key in, whatever there was under its name; the key if there was something. It looks as
    /// if it was used so long ago or so often: whichever of the two access clocks note (see
    /// [`crate::access`]). O(1).
    pub fn put_made(
        &mut self,
        made: Made,
        idle_s: Option<u64>,
        counter: Option<u8>,
    ) -> Option<Box<[u8]>> {
        let Made {
            hash,
            mut entry,
            fields_ms,
        } = made;
        let (locked, trace) = (self.view.locked, self.view.terms.trace);
        let clock = match trace.clock.counts() {
            true => counter.map(|counter| trace.clock.counted(counter)),
            false => idle_s.map(|idle_s| trace.clock.idle_for(idle_s)),
        };
        entry.set_clock(clock.unwrap_or_else(|| trace.birth()));
        entry.set_mark(locked.keyspace().snapshot.mark());
        let (id, _, found) = self.find_hashed(entry.key(), hash);
        let replaced = found.is_some().then(|| entry.key().into());
        let mut home = match found {
            Some(home) => supplanted(home, entry),
            None => {
                self.arrived(entry.key());
                insert(locked, id, locked.room(id), hash, entry)
            }
        };
        if let Some(fields_ms) = fields_ms {
            home.schedule(fields_ms);
        }
        replaced
    }
}

/// The place of an entry, which is another one now.
fn supplanted(mut home: EntryMut<'_>, entry: Entry) -> EntryMut<'_> {
    home.save_first();
    let new = entry.deadline_ms();
    let (old, was_fielded) = {
        let former = home.place.read();
        (former.deadline_ms(), former.may_hold_field_deadlines())
    };
    home.locked.shard(home.id).count_fielded(was_fielded, false);
    let former = home.place.replace(entry);
    if former.is_heavy() || former.walk_id().is_some() {
        home.locked.keyspace().discard(Trash::Entry(former));
    }
    home.settle_deadline(old, new);
    home
}
