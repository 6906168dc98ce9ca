//! A consumer group: how far it has read, what was delivered and not acknowledged, and to whom.
//!
//! ```text
//!   pending    id ──► when, how often, to which consumer       in order of ids
//!   consumers  number ──► name, times, ids of what it has      numbers in order of names
//! ```
//!
//! What is pending is known twice, to the group and to its consumer, so that a consumer's own history
//! is found without going through that of the others. What a consumer gave back (XNACK) is pending for
//! nobody, and known to the group alone.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use super::id::StreamId;
use crate::encoding::listpack::Corrupt;

/// A consumer's place among those of its group; good until that consumer is deleted.
pub type ConsumerNo = u32;

/// A delivery that was not acknowledged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pending {
    /// When it was last delivered, Unix time; 0 if it was given back.
    pub delivered_ms: u64,
    /// How often it was delivered; at most [`DELIVERIES_MAX`].
    pub n_deliveries: u64,
    /// To whom; `None` if he gave it back.
    pub consumer: Option<ConsumerNo>,
}

/// The number of deliveries of what is never to be delivered again.
pub const DELIVERIES_MAX: u64 = i64::MAX as u64;

impl Pending {
    /// How often it was delivered, with one more.
    pub fn delivered_again(self) -> u64 {
        self.n_deliveries.saturating_add(1).min(DELIVERIES_MAX)
    }
}

/// Who reads for a group.
#[derive(Clone, Debug)]
pub struct Consumer {
    name: Box<[u8]>,
    /// When it last tried to do something, Unix time.
    pub seen_ms: u64,
    /// When it last got something, Unix time.
    pub active_ms: Option<u64>,
    pending: BTreeSet<StreamId>,
}

impl Consumer {
    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// How many deliveries it has not acknowledged.
    pub fn n_pending(&self) -> usize {
        self.pending.len()
    }

    /// The ids of those deliveries that lie in a range.
    pub fn pending(
        &self,
        ids: RangeInclusive<StreamId>,
    ) -> impl DoubleEndedIterator<Item = StreamId> + '_ {
        in_order(ids)
            .into_iter()
            .flat_map(|ids| self.pending.range(ids).copied())
    }
}

/// Maps panic on ranges whose ends are in the wrong order.
fn in_order(ids: RangeInclusive<StreamId>) -> Option<RangeInclusive<StreamId>> {
    (ids.start() <= ids.end()).then_some(ids)
}

/// See the top of the file.
#[derive(Clone, Debug)]
pub struct Group {
    /// The last id that was delivered as new.
    pub last_id: StreamId,
    /// How many entries the group has read in the stream's life; `None` if that is not known.
    pub entries_read: Option<u64>,
    pending: BTreeMap<StreamId, Pending>,
    consumers: Vec<Option<Consumer>>,
    /// Numbers of consumers in order of their names.
    by_name: Vec<ConsumerNo>,
}

impl Group {
    /// A group that has read up to an id.
    pub fn new(last_id: StreamId, entries_read: Option<u64>) -> Group {
        Group {
            last_id,
            entries_read,
            pending: BTreeMap::new(),
            consumers: Vec::new(),
            by_name: Vec::new(),
        }
    }

    /// How many consumers there are.
    pub fn n_consumers(&self) -> usize {
        self.by_name.len()
    }

    /// The consumers in order of their names.
    pub fn consumers(&self) -> impl ExactSizeIterator<Item = (ConsumerNo, &Consumer)> + Clone {
        self.by_name.iter().map(|no| (*no, self.consumer(*no)))
    }

    /// The consumer of this number, which must exist.
    pub fn consumer(&self, no: ConsumerNo) -> &Consumer {
        let consumer = self.consumers.get(no as usize).and_then(Option::as_ref);
        consumer.expect("numbers of consumers are not kept beyond their deletion")
    }

    /// The same, for changing its times.
    pub fn consumer_mut(&mut self, no: ConsumerNo) -> &mut Consumer {
        let consumer = self.consumers.get_mut(no as usize).and_then(Option::as_mut);
        consumer.expect("numbers of consumers are not kept beyond their deletion")
    }

    fn place_of(&self, name: &[u8]) -> Result<usize, usize> {
        self.by_name
            .binary_search_by(|no| self.consumer(*no).name.as_ref().cmp(name))
    }

    /// The consumer of this name. O(log consumers).
    pub fn find_consumer(&self, name: &[u8]) -> Option<ConsumerNo> {
        self.place_of(name).ok().map(|place| self.by_name[place])
    }

    /// The consumer of this name, made now if there is none; whether it was made.
    /// O(log consumers), O(consumers) for a new one.
    pub fn consumer_or_new(&mut self, name: &[u8], now_ms: u64) -> (ConsumerNo, bool) {
        let place = match self.place_of(name) {
            Ok(place) => return (self.by_name[place], false),
            Err(place) => place,
        };
        let consumer = Consumer {
            name: name.into(),
            seen_ms: now_ms,
            active_ms: None,
            pending: BTreeSet::new(),
        };
        let free = match self.by_name.len() == self.consumers.len() {
            true => None,
            false => self.consumers.iter().position(Option::is_none),
        };
        let no = match free {
            Some(no) => {
                self.consumers[no] = Some(consumer);
                no
            }
            None => {
                self.consumers.push(Some(consumer));
                self.consumers.len() - 1
            }
        };
        self.by_name.insert(place, no as ConsumerNo);
        (no as ConsumerNo, true)
    }

    /// Deletes a consumer with all that is pending for it; how much that was.
    pub fn delete_consumer(&mut self, name: &[u8]) -> Option<usize> {
        let place = self.place_of(name).ok()?;
        let no = self.by_name.remove(place);
        let consumer = self.consumers[no as usize].take()?;
        for id in &consumer.pending {
            self.pending.remove(id);
        }
        while let Some(None) = self.consumers.last() {
            self.consumers.pop();
        }
        Some(consumer.pending.len())
    }

    /// How many deliveries were not acknowledged.
    pub fn n_pending(&self) -> usize {
        self.pending.len()
    }

    /// What is pending under this id.
    pub fn pending_at(&self, id: StreamId) -> Option<Pending> {
        self.pending.get(&id).copied()
    }

    /// What is pending within a range of ids, in order.
    pub fn pending(
        &self,
        ids: RangeInclusive<StreamId>,
    ) -> impl DoubleEndedIterator<Item = (StreamId, Pending)> + '_ {
        let range = in_order(ids).into_iter();
        range.flat_map(|ids| self.pending.range(ids).map(|(id, pending)| (*id, *pending)))
    }

    /// Notes a delivery, in place of an earlier one of the same id. O(log pending).
    pub fn deliver(&mut self, id: StreamId, pending: Pending) {
        let before = self.pending.insert(id, pending);
        let owner = before.and_then(|before| before.consumer);
        if owner == pending.consumer {
            return;
        }
        if let Some(owner) = owner {
            self.consumer_mut(owner).pending.remove(&id);
        }
        if let Some(owner) = pending.consumer {
            self.consumer_mut(owner).pending.insert(id);
        }
    }

    /// The ids of what is pending for nobody, in order. O(pending).
    pub fn unowned(&self) -> impl Iterator<Item = StreamId> + '_ {
        let unowned = |(_, pending): &(&StreamId, &Pending)| pending.consumer.is_none();
        self.pending.iter().filter(unowned).map(|(id, _)| *id)
    }

    /// Forgets a delivery; whether it was pending. O(log pending).
    pub fn acknowledge(&mut self, id: StreamId) -> bool {
        let Some(pending) = self.pending.remove(&id) else {
            return false;
        };
        if let Some(owner) = pending.consumer {
            self.consumer_mut(owner).pending.remove(&id);
        }
        true
    }

    /// Adds a consumer from a file, with the ids of what is pending for it; the ids must be among
    /// `pending` and belong to nobody else.
    pub fn restore_consumer(
        &mut self,
        name: &[u8],
        (seen_ms, active_ms): (u64, Option<u64>),
        deliveries: impl Iterator<Item = (StreamId, u64, u64)>,
    ) -> Result<(), Corrupt> {
        let corrupt = Corrupt { offset: 0 };
        let (no, is_new) = self.consumer_or_new(name, seen_ms);
        if !is_new {
            return Err(corrupt);
        }
        self.consumer_mut(no).active_ms = active_ms;
        for (id, delivered_ms, n_deliveries) in deliveries {
            if self.pending.contains_key(&id) {
                return Err(corrupt);
            }
            self.deliver(
                id,
                Pending {
                    delivered_ms,
                    n_deliveries,
                    consumer: Some(no),
                },
            );
        }
        Ok(())
    }

    /// Bytes that it takes, about.
    pub fn allocated_bytes(&self) -> usize {
        /// Nodes of the maps are about two thirds full.
        const MAP: (usize, usize) = (3, 2);
        let pending = size_of::<(StreamId, Pending)>() + size_of::<StreamId>();
        let names = self.consumers().map(|(_, consumer)| consumer.name.len());
        self.pending.len() * pending * MAP.0 / MAP.1
            + self.consumers.capacity() * size_of::<Option<Consumer>>()
            + self.by_name.capacity() * size_of::<ConsumerNo>()
            + names.sum::<usize>()
    }

    /// Panics unless what group and consumers know agrees.
    pub fn check_invariants(&self) {
        let names = self.consumers().map(|(_, consumer)| consumer.name());
        assert!(names.is_sorted_by(|one, other| one < other), "names rise");
        let n_live = self.consumers.iter().flatten().count();
        assert_eq!(n_live, self.by_name.len(), "every consumer has a name");
        let n_owned = self.consumers().map(|(_, consumer)| consumer.pending.len());
        let owned = || {
            let pending = self.pending.iter();
            pending.filter_map(|(id, pending)| pending.consumer.map(|owner| (id, owner)))
        };
        assert_eq!(n_owned.sum::<usize>(), owned().count(), "what is owned has one owner");
        for (id, owner) in owned() {
            assert!(self.consumer(owner).pending.contains(id), "who knows it");
        }
    }
}
