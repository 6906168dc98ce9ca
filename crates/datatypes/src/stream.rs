//! Streams: entries of fields under rising ids, in blocks, with groups of consumers.
//!
//! ```text
//!   sealed  id ──► listpack     a B-tree; its first block goes in O(log blocks)
//!   tail    id, listpack        the block that grows, out of the tree: adding looks nothing up
//! ```
//!
//! A block is the listpack of an RDB file (`stream/block.rs`), kept under the id of the entry that it
//! was made for. A new one is begun when the last has `stream-node-max-bytes` or
//! `stream-node-max-entries`. Deleting marks; a block goes when nothing in it is left. A stream may be
//! empty and remembers what it has had: its last id, how many entries were ever added.

pub mod block;
pub mod group;
pub mod id;
pub mod idempotency;
mod walk;

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, btree_map};
use std::ops::{Deref, DerefMut, RangeInclusive};

pub use block::{Entry, Verdict};
use group::Group;
pub use id::StreamId;
use idempotency::Idempotency;

use crate::encoding::listpack::Corrupt;
use crate::home::{Collection, Encoding, Home, NewPayload, Payload};

/// Text and bookkeeping of an entry that is taken for its size, bytes per item.
const ITEM_OVERHEAD: usize = 11;

/// When a block is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlockLimit {
    /// `stream-node-max-bytes`; 0 for no limit but that of a listpack.
    pub bytes: usize,
    /// `stream-node-max-entries`; 0 for no limit.
    pub entries: u64,
}

/// The entry's id is not larger than all before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// Whether an entry of these fields is small enough for a block.
pub fn fits<'f>(fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])> + Clone) -> bool {
    let overhead = fields.len().saturating_mul(2 * ITEM_OVERHEAD);
    text_bytes(fields).saturating_add(overhead) <= block::MAX_BYTES
}

fn text_bytes<'f>(fields: impl Iterator<Item = (&'f [u8], &'f [u8])>) -> usize {
    let bytes = fields.map(|(name, value)| name.len() + value.len());
    bytes.fold(0, usize::saturating_add)
}

#[derive(Clone, Debug)]
struct Block {
    base: StreamId,
    pack: Vec<u8>,
}

/// What a stream remembers, beside its entries and groups.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// The largest id that it has had.
    pub last_id: StreamId,
    /// The largest id that was deleted from the middle; zero if none was.
    pub max_deleted_id: StreamId,
    /// How many entries it has had.
    pub entries_added: u64,
}

/// The groups of a stream by name.
#[derive(Clone, Debug, Default)]
pub struct Groups(BTreeMap<Box<[u8]>, Group>);

impl Groups {
    /// Whether an entry may be read anew by a group or was not acknowledged by one.
    pub fn need(&self, id: StreamId) -> bool {
        let mut groups = self.0.values();
        groups.any(|group| group.last_id < id || group.pending_at(id).is_some())
    }

    /// Forgets the deliveries of an entry in every group.
    pub fn acknowledge(&mut self, id: StreamId) {
        for group in self.0.values_mut() {
            group.acknowledge(id);
        }
    }
}

/// Says what becomes of an entry that a trim would delete.
pub type Judge<'j> = dyn FnMut(StreamId, &mut Groups) -> Verdict + 'j;

/// See the top of the file.
#[derive(Clone, Debug, Default)]
pub struct Stream {
    sealed: BTreeMap<StreamId, Vec<u8>>,
    tail: Option<Block>,
    len: u64,
    first_id: StreamId,
    facts: Facts,
    groups: Groups,
    idempotency: Option<Box<Idempotency>>,
    walking: walk::Walking,
}

impl Stream {
    /// A stream that has had no entries.
    pub fn new() -> Stream {
        Stream::default()
    }

    /// Number of entries. O(1).
    pub fn len(&self) -> usize {
        self.len as usize
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// What it remembers.
    pub fn facts(&self) -> Facts {
        self.facts
    }

    /// The id of the first entry; zero if there is none. O(1).
    pub fn first_id(&self) -> StreamId {
        self.first_id
    }

    /// Sets what it remembers, as XSETID and files do.
    pub fn set_facts(&mut self, facts: Facts) {
        self.facts = facts;
    }

    /// Adds an entry, which [`fits`], behind all others. O(entry).
    pub fn append<'f>(
        &mut self,
        id: StreamId,
        fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])> + Clone,
        limit: BlockLimit,
    ) -> Result<(), Refused> {
        if id <= self.facts.last_id {
            return Err(Refused);
        }
        let n_bytes = text_bytes(fields.clone());
        if self
            .tail
            .as_ref()
            .is_none_or(|tail| is_full(&tail.pack, n_bytes, limit))
        {
            self.seal();
            let pack = block::fresh(fields.clone());
            self.tail = Some(Block { base: id, pack });
        }
        if let Some(tail) = &mut self.tail {
            block::append(&mut tail.pack, tail.base, id, fields);
        }
        if self.len == 0 {
            self.first_id = id;
        }
        self.len += 1;
        self.facts.entries_added = self.facts.entries_added.saturating_add(1);
        self.facts.last_id = id;
        Ok(())
    }

    fn seal(&mut self) {
        if let Some(mut tail) = self.tail.take() {
            tail.pack.shrink_to_fit();
            self.sealed.insert(tail.base, tail.pack);
        }
    }

    /// The blocks in order: base id and listpack.
    pub fn blocks(&self) -> impl DoubleEndedIterator<Item = (StreamId, &[u8])> {
        let tail = self.tail.as_ref();
        let tail = tail.map(|block| (block.base, &block.pack[..]));
        let sealed = self.sealed.iter().map(|(base, pack)| (*base, &pack[..]));
        sealed.chain(tail)
    }

    /// Number of blocks. O(1).
    pub fn n_blocks(&self) -> usize {
        self.sealed.len() + usize::from(self.tail.is_some())
    }

    /// Adds a block from a file behind the others, when all its bytes were checked. O(bytes).
    pub fn push_block(&mut self, base: StreamId, pack: Vec<u8>) -> Result<(), Corrupt> {
        block::validate(base, &pack)?;
        let last = self.range(StreamId::MIN..=StreamId::MAX).next_back();
        if last.is_some_and(|last| last.id >= base) {
            return Err(Corrupt { offset: 0 });
        }
        self.len += block::counts(&pack).0;
        self.seal();
        self.tail = Some(Block { base, pack });
        if self.sealed.is_empty() {
            self.renew_first_id();
        }
        Ok(())
    }

    /// Sets what a file says a stream remembers; the entries must agree with it.
    pub fn restore_facts(&mut self, facts: Facts) -> Result<(), Corrupt> {
        let last = self.range(StreamId::MIN..=StreamId::MAX).next_back();
        if last.is_some_and(|last| last.id > facts.last_id) || facts.entries_added < self.len {
            return Err(Corrupt { offset: 0 });
        }
        self.facts = facts;
        Ok(())
    }

    /// The entries of a range of ids, from either end. O(log blocks + entries of a block) to start.
    pub fn range(&self, ids: RangeInclusive<StreamId>) -> Range<'_> {
        let (from, to) = ids.into_inner();
        if from > to || to < self.first_id || from > self.facts.last_id {
            return Range::default();
        }
        let first = self.sealed.range(..=from).next_back();
        let start = first.map_or(from, |(base, _)| *base);
        let tail = self.tail.as_ref().filter(|tail| tail.base <= to);
        let tail = tail.map(|tail| (tail.base, &tail.pack[..]));
        // Where the tail begins at or before the range, nothing that is sealed lies in it.
        let sealed = match tail {
            Some((base, _)) if base <= from => None,
            _ => Some(self.sealed.range(start..=to)),
        };
        Range {
            from,
            to,
            sealed,
            tail,
            front: None,
            back: None,
        }
    }

    /// The last entry. O(1).
    pub fn last_entry(&self) -> Option<Entry<'_>> {
        self.range(StreamId::MIN..=StreamId::MAX).next_back()
    }

    /// The entry of this id. O(log blocks + entries of a block).
    pub fn get(&self, id: StreamId) -> Option<Entry<'_>> {
        self.range(id..=id).next()
    }

    /// Deletes an entry; whether it was there. O(log blocks + entries of a block).
    pub fn delete(&mut self, id: StreamId) -> bool {
        if !self.delete_entry(id) {
            return false;
        }
        if id > self.facts.max_deleted_id {
            self.facts.max_deleted_id = id;
        }
        if id == self.first_id {
            self.renew_first_id();
        }
        true
    }

    fn delete_entry(&mut self, id: StreamId) -> bool {
        if let Some(tail) = self.tail.as_mut().filter(|tail| tail.base <= id) {
            let is_there = block::delete(&mut tail.pack, tail.base, id);
            if block::counts(&tail.pack).0 == 0 {
                self.tail = None;
            }
            self.len -= u64::from(is_there);
            return is_there;
        }
        let Some((&base, pack)) = self.sealed.range_mut(..=id).next_back() else {
            return false;
        };
        self.walking.before(base, pack);
        let is_there = block::delete(pack, base, id);
        if block::counts(pack).0 == 0 {
            self.sealed.remove(&base);
        }
        self.len -= u64::from(is_there);
        is_there
    }

    fn renew_first_id(&mut self) {
        let mut blocks = self.blocks();
        let first = blocks
            .next()
            .and_then(|(base, pack)| block::Entries::new(base, pack).next());
        let first = first.map(|entry| entry.id);
        drop(blocks);
        self.first_id = first.unwrap_or_default();
    }

    /// Deletes entries from the first on, until `plan` is fulfilled; how many.
    ///
    /// `judge` is asked about each entry that would go, unless it is `None`: then whole blocks are
    /// dropped unseen. O(blocks + entries of the blocks looked into).
    pub fn trim(&mut self, plan: TrimPlan, mut judge: Option<&mut Judge<'_>>) -> u64 {
        let mut removed = 0;
        let mut from = StreamId::MIN;
        while let Some((base, n_live, last)) = self.block_from(from, plan.target.needs_last_id()) {
            let is_fulfilled = match plan.target {
                TrimTarget::Length(len) => self.len <= len,
                TrimTarget::MinId(_) => false,
            };
            let is_over_budget = plan.limit > 0 && removed + n_live > plan.limit;
            if is_fulfilled || is_over_budget {
                break;
            }
            let goes_whole = match plan.target {
                TrimTarget::Length(len) => self.len - n_live >= len,
                TrimTarget::MinId(id) => last < id,
            };
            if !goes_whole && plan.is_approximate {
                break;
            }
            removed += match &mut judge {
                None if goes_whole => self.drop_block(base),
                None => self.trim_block(base, plan.target, &mut |_, _| Verdict::Delete),
                Some(judge) => self.trim_block(base, plan.target, judge),
            };
            if !goes_whole {
                break;
            }
            let Some(next) = base.next() else { break };
            from = next;
        }
        if removed > 0 {
            self.renew_first_id();
        }
        removed
    }

    /// The first block from `from` on: its base, its live entries, and its last id if asked for.
    fn block_from(&self, from: StreamId, with_last: bool) -> Option<(StreamId, u64, StreamId)> {
        let (base, pack) = match self.sealed.range(from..).next() {
            Some((base, pack)) => (*base, pack),
            None => {
                let tail = self.tail.as_ref().filter(|tail| tail.base >= from)?;
                (tail.base, &tail.pack)
            }
        };
        let last = with_last.then(|| block::Entries::new(base, pack).next_back());
        let last = last.flatten().map_or(base, |entry| entry.id);
        Some((base, block::counts(pack).0, last))
    }

    fn drop_block(&mut self, base: StreamId) -> u64 {
        let pack = match self.sealed.remove(&base) {
            Some(pack) => Some(pack),
            None => self.tail.take().map(|tail| tail.pack),
        };
        let Some(pack) = pack else {
            return 0;
        };
        let n_live = block::counts(&pack).0;
        self.walking.keep(base, pack);
        self.len -= n_live;
        n_live
    }

    fn trim_block(&mut self, base: StreamId, target: TrimTarget, judge: &mut Judge<'_>) -> u64 {
        let mut left = self.len;
        let groups = &mut self.groups;
        let pack = match self.sealed.get_mut(&base) {
            Some(pack) => {
                self.walking.before(base, pack);
                pack
            }
            None => match &mut self.tail {
                Some(tail) => &mut tail.pack,
                None => return 0,
            },
        };
        let removed = block::delete_each(pack, base, |id| {
            let is_fulfilled = match target {
                TrimTarget::Length(len) => left <= len,
                TrimTarget::MinId(min) => id >= min,
            };
            let verdict = if is_fulfilled {
                Verdict::Stop
            } else {
                judge(id, groups)
            };
            left -= u64::from(verdict == Verdict::Delete);
            verdict
        });
        let is_empty = block::counts(pack).0 == 0;
        self.len -= removed;
        if is_empty && self.sealed.remove(&base).is_none() {
            self.tail = None;
        }
        removed
    }

    /// What is known of producers, if any ever named himself or terms were set.
    pub fn idempotency(&self) -> Option<&Idempotency> {
        self.idempotency.as_deref()
    }

    /// The same, for changing; made if there is none.
    pub fn idempotency_mut(&mut self) -> &mut Idempotency {
        self.idempotency.get_or_insert_default()
    }

    /// The groups by name, in order.
    pub fn groups(&self) -> impl ExactSizeIterator<Item = (&[u8], &Group)> {
        self.groups.0.iter().map(|(name, group)| (&name[..], group))
    }

    /// The group of this name.
    pub fn group(&self, name: &[u8]) -> Option<&Group> {
        self.groups.0.get(name)
    }

    /// The same, for changing.
    pub fn group_mut(&mut self, name: &[u8]) -> Option<&mut Group> {
        self.groups.0.get_mut(name)
    }

    /// Adds a group; `false` if there is one of this name.
    pub fn add_group(&mut self, name: &[u8], group: Group) -> bool {
        let is_new = !self.groups.0.contains_key(name);
        if is_new {
            self.groups.0.insert(name.into(), group);
        }
        is_new
    }

    /// Deletes a group; whether it was there.
    pub fn delete_group(&mut self, name: &[u8]) -> bool {
        self.groups.0.remove(name).is_some()
    }

    /// Whether an entry may be read anew by a group or was not acknowledged by one.
    pub fn is_needed(&self, id: StreamId) -> bool {
        self.groups.need(id)
    }

    /// Forgets the deliveries of an entry in every group.
    pub fn acknowledge_everywhere(&mut self, id: StreamId) {
        self.groups.acknowledge(id);
    }

    /// Whether an entry was deleted from among those behind `from`, as far as that is known.
    pub fn has_gap_behind(&self, from: StreamId) -> bool {
        let gap = self.facts.max_deleted_id;
        !self.is_empty() && !gap.is_zero() && self.first_id <= gap && from <= gap
    }

    /// How many entries were added up to the one of `id`, if the counters tell.
    pub fn n_added_up_to(&self, id: StreamId) -> Option<u64> {
        let Facts {
            last_id,
            max_deleted_id,
            entries_added,
        } = self.facts;
        if entries_added == 0 {
            return Some(0);
        }
        if self.is_empty() && id <= last_id {
            return Some(entries_added);
        }
        if id >= last_id {
            return (id == last_id).then_some(entries_added);
        }
        if !id.is_zero() && self.has_gap_behind(id) {
            return None;
        }
        let n_before = entries_added.checked_sub(self.len)?;
        let is_whole = max_deleted_id.is_zero() || max_deleted_id < self.first_id;
        match id.cmp(&self.first_id) {
            _ if !is_whole => None,
            std::cmp::Ordering::Less => Some(n_before),
            std::cmp::Ordering::Equal => Some(n_before + 1),
            std::cmp::Ordering::Greater => None,
        }
    }

    /// How many entries a group has still to read, if the counters tell.
    pub fn lag(&self, group: &Group) -> Option<u64> {
        let added = self.facts.entries_added;
        if added == 0 || self.is_empty() {
            return Some(0);
        }
        match (group.entries_read, self.has_gap_behind(group.last_id)) {
            (_, false) if group.last_id < self.first_id => Some(self.len),
            (Some(read), false) => Some(added.saturating_sub(read)),
            _ => Some(added.saturating_sub(self.n_added_up_to(group.last_id)?)),
        }
    }

    /// Bytes asked of the allocator, about. O(blocks + consumers).
    pub fn allocated_bytes(&self) -> usize {
        let key = size_of::<(StreamId, Vec<u8>)>() * 3 / 2;
        let sealed = self.sealed.values().map(|pack| pack.capacity() + key);
        let tail = self.tail.as_ref().map_or(0, |tail| tail.pack.capacity());
        let groups = self.groups.0.iter().map(|(name, group)| {
            name.len() + size_of::<(Box<[u8]>, Group)>() * 3 / 2 + group.allocated_bytes()
        });
        let known = self.idempotency().map_or(0, Idempotency::allocated_bytes);
        size_of::<Stream>() + sealed.sum::<usize>() + tail + groups.sum::<usize>() + known
    }

    /// Whether freeing it takes long.
    pub fn n_allocations(&self) -> usize {
        let pending = self
            .groups
            .0
            .values()
            .map(|group| group.n_pending() / 4 + group.n_consumers());
        self.sealed.len() + pending.sum::<usize>()
    }

    /// Panics unless blocks, counters and groups agree.
    pub fn check_invariants(&self) {
        let (mut len, mut last) = (0, None);
        for (base, pack) in self.blocks() {
            assert_eq!(block::validate(base, pack), Ok(()));
            for entry in block::Entries::new(base, pack) {
                assert!(last.is_none_or(|last| last < entry.id), "ids rise");
                last = Some(entry.id);
                len += 1;
            }
        }
        assert_eq!(len, self.len, "sum of the entries");
        let first = self.range(StreamId::MIN..=StreamId::MAX).next();
        assert_eq!(first.map(|entry| entry.id).unwrap_or_default(), self.first_id);
        assert!(last.is_none_or(|last| last <= self.facts.last_id));
        self.groups.0.values().for_each(Group::check_invariants);
        self.idempotency().inspect(|known| known.check_invariants());
    }
}

/// Whether an entry of so many bytes is to begin a new block.
fn is_full(pack: &[u8], n_bytes: usize, limit: BlockLimit) -> bool {
    let max_bytes = match limit.bytes {
        0 => block::MAX_BYTES,
        bytes => bytes.min(block::MAX_BYTES),
    };
    let (live, deleted) = block::counts(pack);
    pack.len() + n_bytes >= max_bytes || limit.entries > 0 && live + deleted >= limit.entries
}

/// Up to where a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TrimTarget {
    /// Until so many entries are left.
    Length(u64),
    /// Until none before this id are left.
    MinId(StreamId),
}

impl TrimTarget {
    fn needs_last_id(self) -> bool {
        matches!(self, TrimTarget::MinId(_))
    }
}

/// How a stream is trimmed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrimPlan {
    /// Up to where.
    pub target: TrimTarget,
    /// Only in whole blocks.
    pub is_approximate: bool,
    /// How many entries may go; 0 for any number.
    pub limit: u64,
}

/// See [`Stream::range`].
#[derive(Clone, Debug, Default)]
pub struct Range<'a> {
    from: StreamId,
    to: StreamId,
    sealed: Option<btree_map::Range<'a, StreamId, Vec<u8>>>,
    tail: Option<(StreamId, &'a [u8])>,
    /// The blocks in which either end stands.
    front: Option<block::Entries<'a>>,
    back: Option<block::Entries<'a>>,
}

impl<'a> Iterator for Range<'a> {
    type Item = Entry<'a>;

    fn next(&mut self) -> Option<Entry<'a>> {
        loop {
            if let Some(entries) = &mut self.front {
                for entry in entries {
                    if entry.id > self.to {
                        *self = Range::default();
                        return None;
                    }
                    if entry.id >= self.from {
                        return Some(entry);
                    }
                }
            }
            let sealed = self.sealed.as_mut().and_then(Iterator::next);
            let next = sealed
                .map(|(base, pack)| (*base, &pack[..]))
                .or_else(|| self.tail.take());
            match next {
                Some((base, pack)) => self.front = Some(block::Entries::new(base, pack)),
                None => {
                    // What the other end has begun is left.
                    self.front = Some(self.back.take()?);
                }
            }
        }
    }
}

impl DoubleEndedIterator for Range<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(entries) = &mut self.back {
                while let Some(entry) = entries.next_back() {
                    if entry.id < self.from {
                        *self = Range::default();
                        return None;
                    }
                    if entry.id <= self.to {
                        return Some(entry);
                    }
                }
            }
            let tail = self.tail.take();
            let next = tail.or_else(|| {
                let sealed = self.sealed.as_mut()?.next_back();
                sealed.map(|(base, pack)| (*base, &pack[..]))
            });
            match next {
                Some((base, pack)) => self.back = Some(block::Entries::new(base, pack)),
                None => self.back = Some(self.front.take()?),
            }
        }
    }
}

/// A stream in its home, for changing.
#[derive(Debug)]
pub struct StreamMut<H: Home> {
    home: H,
}

impl<H: Home> StreamMut<H> {
    /// The stream in `home`, which holds [`Encoding::Stream`].
    pub fn new(home: H) -> StreamMut<H> {
        StreamMut { home }
    }
}

impl<H: Home> Deref for StreamMut<H> {
    type Target = Stream;
    fn deref(&self) -> &Stream {
        view(self.home.encoding(), self.home.payload()).expect("the home of a stream holds one")
    }
}

impl<H: Home> DerefMut for StreamMut<H> {
    fn deref_mut(&mut self) -> &mut Stream {
        match self.home.big_mut() {
            Some(Collection::Stream(stream)) => stream,
            _ => panic!("the home of a stream holds another payload than its encoding says"),
        }
    }
}

/// The stream in a payload. `None` for other types.
pub fn view<'a>(encoding: Encoding, payload: Payload<'a>) -> Option<&'a Stream> {
    match (encoding, payload) {
        (Encoding::Stream, Payload::Big(Collection::Stream(stream))) => Some(stream),
        _ => None,
    }
}

/// Encoding and payload of a stream.
pub fn payload_of(stream: Stream) -> (Encoding, NewPayload<'static>) {
    let collection = Collection::Stream(Box::new(stream));
    (Encoding::Stream, NewPayload::Big(Box::new(collection)))
}
