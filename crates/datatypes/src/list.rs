//! Lists: items in a sequence, quick at both ends.
//!
//! ```text
//!   ListPack    one listpack, within list-max-listpack-size
//!   QuickList   beyond; back to one listpack when a single node of half that size is left
//! ```
//!
//! Indexes count from 0 at the head; where the protocol allows negative ones, so do `i64` arguments.

use std::ops::Range;

use stdx::number::parse_i64;

use crate::encoding::blob::{Blob, HomeBlob};
use crate::encoding::listpack::{self, Encoder, Item};
use crate::encoding::quicklist::{Items, NodeLimit, QuickList, Side, remove_equal_in_pack};
use crate::home::{Collection, Encoding, Home, Limits, NewPayload, Payload};

#[cfg(test)]
mod tests;

/// The indexes that `start` and `stop` (inclusive; negative ones from the end) mean in a list of
/// `len` items; empty where they cross or lie outside.
pub fn resolve_range(len: usize, start: i64, stop: i64) -> Range<usize> {
    let len = len as i64;
    let absolute = |index: i64| {
        if index < 0 {
            index.saturating_add(len)
        } else {
            index
        }
    };
    let start = absolute(start).max(0);
    let end = absolute(stop).saturating_add(1).min(len);
    if start >= end {
        0..0
    } else {
        start as usize..end as usize
    }
}

/// The index that `index` (negative: from the end) means in a list of `len` items.
pub fn resolve_index(len: usize, index: i64) -> Option<usize> {
    let absolute = if index < 0 {
        index.saturating_add(len as i64)
    } else {
        index
    };
    usize::try_from(absolute).ok().filter(|index| *index < len)
}

/// A list, for reading.
#[derive(Clone, Copy, Debug)]
pub struct ListRef<'a> {
    view: View<'a>,
}

#[derive(Clone, Copy, Debug)]
enum View<'a> {
    Pack(&'a [u8]),
    Quick(&'a QuickList),
}

impl<'a> ListRef<'a> {
    /// The list that an absent key stands for.
    pub const EMPTY: ListRef<'static> = ListRef {
        view: View::Pack(&listpack::EMPTY),
    };

    /// The list in a payload. `None` for other types.
    #[inline]
    pub fn new(encoding: Encoding, payload: Payload<'a>) -> Option<ListRef<'a>> {
        let view = match (encoding, payload) {
            (Encoding::ListPack, Payload::Blob(pack)) => View::Pack(pack),
            (Encoding::QuickList, Payload::Big(Collection::List(list))) => View::Quick(list),
            _ => return None,
        };
        Some(ListRef { view })
    }

    /// Number of items. O(1).
    pub fn len(self) -> usize {
        match self.view {
            View::Pack(pack) => listpack::len(pack),
            View::Quick(list) => list.len(),
        }
    }

    /// Whether there are no items.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The item at an index; negative ones count from the end. O(nodes + items of a node).
    pub fn index(self, index: i64) -> Option<Item<'a>> {
        let index = resolve_index(self.len(), index)?;
        self.range(index..index + 1, false).next()
    }

    /// The items of these indexes, last first if `reverse`. O(nodes + items of a node) to start.
    pub fn range(self, indexes: Range<usize>, reverse: bool) -> Items<'a> {
        match self.view {
            View::Pack(pack) => Items::of_pack(pack, indexes, reverse),
            View::Quick(list) => list.range(indexes, reverse),
        }
    }

    /// All items, head first.
    pub fn iter(self) -> Items<'a> {
        self.range(0..usize::MAX, false)
    }

    /// The indexes of the items equal to `needle`, from the tail if `reverse`, looking at no more
    /// than `compared_max` items. O(items looked at).
    pub fn positions(
        self,
        needle: &[u8],
        reverse: bool,
        compared_max: usize,
    ) -> impl Iterator<Item = usize> {
        let len = self.len();
        let matches = equal_to(needle);
        self.range(0..len, reverse)
            .take(compared_max)
            .enumerate()
            .filter_map(move |(n, item)| {
                matches(item).then_some(if reverse { len - 1 - n } else { n })
            })
    }

    /// Bytes that the items take, beside the home's own.
    pub fn allocated_bytes(self) -> usize {
        match self.view {
            View::Pack(pack) => pack.len(),
            View::Quick(list) => size_of::<Collection>() + list.allocated_bytes(),
        }
    }

    /// Panics unless the structure is sound.
    pub fn check_invariants(self) {
        match self.view {
            View::Pack(pack) => assert_eq!(listpack::validate(pack), Ok(())),
            View::Quick(list) => list.check_invariants(),
        }
    }
}

/// A comparison with `needle` that reads its number once.
fn equal_to(needle: &[u8]) -> impl Fn(Item<'_>) -> bool {
    let number = parse_i64(needle);
    move |item| match item {
        Item::Int(n) => number == Some(n),
        Item::Bytes(text) => text == needle,
    }
}

/// A list in its home, for changing.
#[derive(Debug)]
pub struct ListMut<'l, H: Home> {
    /// Holds [`Encoding::ListPack`] or [`Encoding::QuickList`].
    pub home: H,
    /// When to leave the listpack, and how large nodes become.
    pub limits: &'l Limits,
}

impl<'l, H: Home> ListMut<'l, H> {
    /// The list in `home`.
    pub fn new(home: H, limits: &'l Limits) -> ListMut<'l, H> {
        ListMut { home, limits }
    }

    /// The same list, for reading.
    pub fn view(&self) -> ListRef<'_> {
        ListRef::new(self.home.encoding(), self.home.payload())
            .expect("the home of a list holds one")
    }

    /// Adds items at an end, one after the other. O(bytes added); O(bytes) at the head of a listpack.
    pub fn push<'i>(&mut self, side: Side, items: impl Iterator<Item = &'i [u8]> + Clone) {
        let (bytes, count) = items
            .clone()
            .fold((0, 0), |(b, n), item| (b + item.len(), n + 1));
        let limit = self.node_limit();
        if !self.stays_pack(bytes, count) {
            let list = self.quick_list();
            items.for_each(|item| list.push(side, item, limit));
            return;
        }
        let mut encoder = Encoder::new();
        match side {
            Side::Tail => items.for_each(|item| encoder.push(item)),
            Side::Head if count == 1 => items.for_each(|item| encoder.push(item)),
            Side::Head => {
                let items: Vec<_> = items.collect();
                items.iter().rev().for_each(|item| encoder.push(item));
            }
        }
        let mut blob = HomeBlob(&mut self.home);
        let end = listpack::end(blob.bytes());
        let at = match side {
            Side::Tail => end,
            Side::Head => listpack::first(blob.bytes()).unwrap_or(end),
        };
        listpack::insert_encoded(&mut blob, at, encoder.encoded(), count);
    }

    /// Removes up to `count` items from an end and shows them in that order; how many. O(removed).
    pub fn pop(&mut self, side: Side, count: usize, visit: &mut dyn FnMut(Item<'_>)) -> usize {
        let len = self.view().len();
        let count = count.min(len);
        if let Some(Collection::List(list)) = self.home.big_mut() {
            for _ in 0..count {
                list.pop(side, visit);
            }
            self.shrink();
            return count;
        }
        let (indexes, reverse) = match side {
            Side::Head => (0..count, false),
            Side::Tail => (len - count..len, true),
        };
        self.view().range(indexes.clone(), reverse).for_each(visit);
        self.remove_from_pack(indexes);
        count
    }

    /// Replaces the item at an index (negative: from the end); `false` if there is none.
    /// O(nodes + node bytes).
    pub fn set(&mut self, index: i64, text: &[u8]) -> bool {
        let Some(index) = resolve_index(self.view().len(), index) else {
            return false;
        };
        if self.stays_pack(text.len(), 1) {
            let mut blob = HomeBlob(&mut self.home);
            if let Some(at) = listpack::seek(blob.bytes(), index as i64) {
                listpack::replace(&mut blob, at, text);
            }
        } else {
            let limit = self.node_limit();
            self.quick_list().set(index, text, limit);
            self.shrink();
        }
        true
    }

    /// Inserts an item before or after the first one equal to `pivot`; `false` if there is none.
    /// O(items before the pivot).
    pub fn insert(&mut self, pivot: &[u8], before: bool, text: &[u8]) -> bool {
        let Some(found) = self.view().positions(pivot, false, usize::MAX).next() else {
            return false;
        };
        let index = if before { found } else { found + 1 };
        if self.stays_pack(text.len(), 1) {
            let mut blob = HomeBlob(&mut self.home);
            let end = listpack::end(blob.bytes());
            let at = listpack::seek(blob.bytes(), index as i64).unwrap_or(end);
            listpack::insert_before(&mut blob, at, text);
        } else {
            let limit = self.node_limit();
            self.quick_list().insert(index, text, limit);
        }
        true
    }

    /// Removes items equal to `needle`: the first `count`, the last `-count`, or all if 0; how many.
    /// O(n).
    pub fn remove(&mut self, needle: &[u8], count: i64) -> usize {
        let max = match count {
            0 => usize::MAX,
            count => usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX),
        };
        if let Some(Collection::List(list)) = self.home.big_mut() {
            let removed = list.remove_equal(needle, max, count < 0);
            self.shrink();
            return removed;
        }
        remove_equal_in_pack(&mut HomeBlob(&mut self.home), needle, max, count < 0)
    }

    /// Keeps the items of these indexes and removes the others. O(nodes + bytes of two nodes).
    pub fn trim(&mut self, kept: Range<usize>) {
        let len = self.view().len();
        let end = kept.end.min(len);
        let start = kept.start.min(end);
        if let Some(Collection::List(list)) = self.home.big_mut() {
            list.remove_range(end..len);
            list.remove_range(0..start);
            self.shrink();
        } else {
            self.remove_from_pack(end..len);
            self.remove_from_pack(0..start);
        }
    }

    fn node_limit(&self) -> NodeLimit {
        NodeLimit::from_directive(self.limits.list_max_listpack_size)
            .with_plain(self.limits.list_plain_bytes)
    }

    /// Whether the list is a listpack and remains one with so many more bytes of text and items.
    fn stays_pack(&self, bytes: usize, items: usize) -> bool {
        match self.home.payload() {
            Payload::Blob(pack) => self
                .node_limit()
                .allows(pack.len() + bytes, listpack::len(pack) + items),
            _ => false,
        }
    }

    fn remove_from_pack(&mut self, indexes: Range<usize>) {
        let mut blob = HomeBlob(&mut self.home);
        if let Some(at) = listpack::seek(blob.bytes(), indexes.start as i64) {
            listpack::remove(&mut blob, at, indexes.len());
        }
    }

    /// The list as a quicklist, converted if it was a listpack.
    fn quick_list(&mut self) -> &mut QuickList {
        if let Payload::Blob(pack) = self.home.payload() {
            let mut list = QuickList::new();
            list.push_pack(pack.to_vec());
            let big = Box::new(Collection::List(list));
            self.home.put(Encoding::QuickList, NewPayload::Big(big));
        }
        match self.home.big_mut() {
            Some(Collection::List(list)) => list,
            _ => panic!("the home of a list holds another payload than its encoding says"),
        }
    }

    /// Goes back to a listpack if the list has become small enough.
    fn shrink(&mut self) {
        let limit = self.node_limit();
        if let Some(Collection::List(list)) = self.home.big_mut()
            && let Some(pack) = list.take_single(limit)
        {
            self.home.put(Encoding::ListPack, NewPayload::Blob(&pack));
        }
    }
}
