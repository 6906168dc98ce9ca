//! What producers have added already: who adds an entry under an id of his own a second time gets the
//! entry that is there.
//!
//! ```text
//!   producer ──► by his id    ──► entry        to find
//!                in order of entries           the oldest goes first
//! ```
//!
//! An id is kept for a number of seconds, reckoned from the milliseconds in the id of its entry, and
//! while the producer has no more than a number of later ones. What is too old is passed over at once
//! and removed when its producer adds something, or when all are swept, which is done once in the
//! time that ids are kept.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use super::id::StreamId;

/// Seconds that ids may be kept at most.
pub const DURATION_S_MAX: u64 = 86_400;
/// Ids of a producer that may be kept at most.
pub const ENTRIES_MAX: u64 = 10_000;

/// How long ids are kept, and how many of a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Seconds that an id is kept.
    pub duration_s: u64,
    /// Ids that are kept of a producer.
    pub max_entries: u64,
}

impl Default for Terms {
    fn default() -> Terms {
        Terms {
            duration_s: 100,
            max_entries: 100,
        }
    }
}

impl Terms {
    fn is_over(self, id: StreamId, now_ms: u64) -> bool {
        now_ms.saturating_sub(id.ms) >= self.duration_s.saturating_mul(1000)
    }
}

#[derive(Clone, Debug, Default)]
struct Producer {
    entries: BTreeMap<Arc<[u8]>, StreamId>,
    in_order: VecDeque<(StreamId, Arc<[u8]>)>,
}

impl Producer {
    fn forget_first(&mut self) {
        if let Some((_, iid)) = self.in_order.pop_front() {
            self.entries.remove(&iid);
        }
    }

    fn forget_old(&mut self, terms: Terms, now_ms: u64) {
        while self
            .in_order
            .front()
            .is_some_and(|(id, _)| terms.is_over(*id, now_ms))
        {
            self.forget_first();
        }
    }
}

/// See the top of the file.
#[derive(Clone, Debug, Default)]
pub struct Idempotency {
    terms: Terms,
    producers: BTreeMap<Box<[u8]>, Producer>,
    swept_ms: u64,
    /// Entries that were added with an id of their producer, ever.
    pub n_added: u64,
    /// Entries that were there already, ever.
    pub n_duplicates: u64,
}

impl Idempotency {
    /// How long, and how many.
    pub fn terms(&self) -> Terms {
        self.terms
    }

    /// Other terms forget all that is known.
    pub fn set_terms(&mut self, terms: Terms) {
        if terms != self.terms {
            self.terms = terms;
            self.producers.clear();
        }
    }

    /// The entry that a producer has added under this id. O(log).
    pub fn find(&self, producer: &[u8], iid: &[u8], now_ms: u64) -> Option<StreamId> {
        let id = *self.producers.get(producer)?.entries.get(iid)?;
        (!self.terms.is_over(id, now_ms)).then_some(id)
    }

    /// Notes an entry of a producer, and forgets what that puts beyond the terms. O(log).
    pub fn remember(&mut self, producer: &[u8], iid: &[u8], id: StreamId, now_ms: u64) {
        self.sweep(now_ms);
        let terms = self.terms;
        if terms.is_over(id, now_ms) {
            return;
        }
        self.insert(producer, iid, id);
        if let Some(known) = self.producers.get_mut(producer) {
            known.forget_old(terms, now_ms);
            while known.in_order.len() as u64 > terms.max_entries {
                known.forget_first();
            }
        }
    }

    /// Notes an entry, whatever the terms. From a file, where the oldest come first.
    pub fn insert(&mut self, producer: &[u8], iid: &[u8], id: StreamId) {
        if !self.producers.contains_key(producer) {
            self.producers.insert(producer.into(), Producer::default());
        }
        let Some(known) = self.producers.get_mut(producer) else {
            return;
        };
        let iid: Arc<[u8]> = iid.into();
        if let Some(before) = known.entries.insert(iid.clone(), id) {
            known
                .in_order
                .retain(|(at, other)| *at != before || *other != iid);
        }
        let place = known.in_order.partition_point(|(other, _)| *other <= id);
        known.in_order.insert(place, (id, iid));
    }

    /// Forgets, once in the time that ids are kept, all that is too old.
    fn sweep(&mut self, now_ms: u64) {
        let terms = self.terms;
        if now_ms.saturating_sub(self.swept_ms) < terms.duration_s.saturating_mul(1000) {
            return;
        }
        self.swept_ms = now_ms;
        self.producers.retain(|_, producer| {
            producer.forget_old(terms, now_ms);
            !producer.in_order.is_empty()
        });
    }

    /// How many producers and how many ids are kept. O(ids).
    pub fn n_tracked(&self, now_ms: u64) -> (usize, usize) {
        let terms = self.terms;
        let live = |producer: &Producer| {
            let old = producer
                .in_order
                .partition_point(|(id, _)| terms.is_over(*id, now_ms));
            producer.in_order.len() - old
        };
        let live = self.producers.values().map(live).filter(|n| *n > 0);
        live.fold((0, 0), |(n_producers, n_ids), n| (n_producers + 1, n_ids + n))
    }

    /// Producers in order of their names, each with his ids and entries, oldest first.
    pub fn producers(
        &self,
    ) -> impl ExactSizeIterator<Item = (&[u8], impl ExactSizeIterator<Item = (&[u8], StreamId)>)>
    {
        self.producers.iter().map(|(name, producer)| {
            let entries = producer.in_order.iter().map(|(id, iid)| (&**iid, *id));
            (&**name, entries)
        })
    }

    /// Bytes that it takes, about.
    pub fn allocated_bytes(&self) -> usize {
        /// Nodes of the map are about two thirds full.
        const MAP: (usize, usize) = (3, 2);
        let entry = size_of::<(Arc<[u8]>, StreamId)>() * (1 + MAP.0 / MAP.1);
        let of_producer = |(name, producer): (usize, &Producer)| {
            let texts: usize = producer.entries.keys().map(|iid| iid.len() + 16).sum();
            name + size_of::<Producer>() + producer.in_order.len() * entry + texts
        };
        let all = self.producers.iter().map(|(name, one)| (name.len(), one));
        size_of::<Idempotency>() + all.map(of_producer).sum::<usize>()
    }

    /// Panics unless what is known of each producer agrees.
    pub fn check_invariants(&self) {
        for producer in self.producers.values() {
            assert_eq!(producer.entries.len(), producer.in_order.len(), "every id stands twice");
            assert!(producer.in_order.iter().is_sorted_by_key(|(id, _)| *id), "oldest first");
            for (id, iid) in &producer.in_order {
                assert_eq!(producer.entries.get(iid), Some(id), "and says the same");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(ms: u64) -> StreamId {
        StreamId::new(ms, 0)
    }

    #[test]
    fn ids_are_found_until_they_are_too_old_or_too_many() {
        let mut known = Idempotency::default();
        known.set_terms(Terms {
            duration_s: 10,
            max_entries: 2,
        });
        for ms in [1_000, 2_000, 3_000] {
            known.remember(b"p", ms.to_string().as_bytes(), id(ms), ms);
            known.check_invariants();
        }
        known.remember(b"q", b"1000", id(3_500), 3_500);
        assert_eq!(known.find(b"p", b"1000", 4_000), None, "more than two");
        assert_eq!(known.find(b"p", b"2000", 11_999), Some(id(2_000)));
        assert_eq!(known.find(b"p", b"2000", 12_000), None, "after ten seconds");
        assert_eq!(known.find(b"q", b"1000", 4_000), Some(id(3_500)));
        assert_eq!(known.n_tracked(4_000), (2, 3));
        assert_eq!(known.n_tracked(13_000), (1, 1));
        known.remember(b"r", b"x", id(20_000), 20_000);
        known.check_invariants();
        assert_eq!(known.producers().len(), 1, "the others were swept");
        known.set_terms(Terms::default());
        assert_eq!(known.n_tracked(20_000), (0, 0));
    }

    #[test]
    fn an_id_may_move_to_another_entry() {
        let mut known = Idempotency::default();
        known.insert(b"p", b"i", id(5));
        known.insert(b"p", b"j", id(3));
        known.insert(b"p", b"i", id(1));
        known.check_invariants();
        assert_eq!(known.n_tracked(5), (1, 2));
    }
}
