//! A list too long for one listpack: a deque of nodes, each a listpack or one big item.
//!
//! ```text
//!   nodes: VecDeque   | Pack, count | Pack, count | Plain | Pack, count | ..    32 bytes each
//!                         |                          |
//!                      listpack of at most           the bytes of an item that
//!                      list-max-listpack-size        is larger than that
//! ```
//!
//! An index is found by hopping over the counts, which lie side by side, from the nearer end. The
//! first and the last node have room to grow; the others are sealed to their exact size. No node is
//! ever empty. [`QuickList::freeze`] keeps the list as it is for a snapshot by sharing its nodes; who
//! changes one afterwards copies that one. Nodes fill up, split and merge where Redis's would, so that the list goes back to a
//! single listpack at the same moments.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use self::pack::Pack;
use super::blob::Blob;
use super::listpack::{self, Encoder, Item};

mod pack;

/// What an item is taken to cost in a listpack beyond its text, bytes.
const ITEM_OVERHEAD: usize = 8;
/// The most bytes of a node that is limited by its number of items.
const SAFE_BYTES: usize = 8192;

/// One end of a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Where index 0 is.
    Head,
    /// Where index -1 is.
    Tail,
}

/// How large one listpack may become, from `list-max-listpack-size`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodeLimit {
    bytes: usize,
    items: usize,
    /// An item of so many bytes gets a node of its own.
    plain_bytes: usize,
}

impl NodeLimit {
    /// The limit that the directive sets: items when not negative, -1 to -5 for 4 to 64 KiB.
    pub fn from_directive(size: i64) -> NodeLimit {
        match usize::try_from(size) {
            Ok(items) => NodeLimit {
                bytes: SAFE_BYTES,
                items: items.max(1),
                plain_bytes: usize::MAX,
            },
            Err(_) => {
                let level = (-1 - size).min(4);
                NodeLimit {
                    bytes: 4096 << level,
                    items: usize::MAX,
                    plain_bytes: usize::MAX,
                }
            }
        }
    }

    /// The same limit, with items of `plain_bytes` kept out of listpacks.
    pub fn with_plain(self, plain_bytes: usize) -> NodeLimit {
        NodeLimit {
            plain_bytes,
            ..self
        }
    }

    /// Whether a listpack of so many bytes and items is within the limit.
    pub fn allows(self, bytes: usize, items: usize) -> bool {
        bytes <= self.bytes && items <= self.items
    }

    /// Whether a listpack is small enough to become the whole list again: half the limit.
    pub fn allows_return(self, bytes: usize, items: usize) -> bool {
        match self.items {
            usize::MAX => bytes <= self.bytes / 2,
            limit => items <= limit / 2,
        }
    }

    /// Whether an item gets a node of its own.
    pub fn is_large(self, item_bytes: usize) -> bool {
        item_bytes > self.bytes || item_bytes >= self.plain_bytes
    }
}

/// The list.
#[derive(Debug, Default)]
pub struct QuickList {
    nodes: VecDeque<Node>,
    len: usize,
}

#[derive(Clone, Debug)]
enum Node {
    Pack(Pack),
    Plain(Box<[u8]>),
    /// A node of the other kinds that a [`Frozen`] list holds, too; copied by whoever changes it.
    Shared(Arc<Node>),
}

const _: () = assert!(size_of::<Node>() == 32);

/// One node, for writing it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodeRef<'a> {
    /// A listpack.
    Pack(&'a [u8]),
    /// The text of one item.
    Plain(&'a [u8]),
}

impl Node {
    fn one(text: &[u8], limit: NodeLimit) -> Node {
        if limit.is_large(text.len()) {
            return Node::Plain(text.into());
        }
        let mut encoder = Encoder::new();
        encoder.push(text);
        Node::Pack(Pack::new(encoder.to_pack(), 1))
    }

    fn count(&self) -> usize {
        match self {
            Node::Pack(pack) => pack.count as usize,
            Node::Plain(_) => 1,
            Node::Shared(node) => node.count(),
        }
    }

    fn peek(&self) -> NodeRef<'_> {
        match self {
            Node::Pack(pack) => NodeRef::Pack(pack.bytes()),
            Node::Plain(text) => NodeRef::Plain(text),
            Node::Shared(node) => node.peek(),
        }
    }

    /// The node as this list's own, for changing. O(bytes) if a frozen list holds it still.
    fn thaw(&mut self) -> &mut Node {
        if let Node::Shared(node) = self {
            let empty = Arc::new(Node::Plain(Box::default()));
            let node = std::mem::replace(node, empty);
            *self = Arc::try_unwrap(node).unwrap_or_else(|node| (*node).clone());
        }
        self
    }

    /// The pack, if it may take one more item of so many bytes.
    fn with_room(&mut self, item_bytes: usize, limit: NodeLimit) -> Option<&mut Pack> {
        match self.thaw() {
            Node::Pack(pack) => {
                let bytes = pack.bytes().len() + item_bytes + ITEM_OVERHEAD;
                let fits =
                    !limit.is_large(item_bytes) && limit.allows(bytes, pack.count as usize + 1);
                fits.then_some(pack)
            }
            Node::Plain(_) | Node::Shared(_) => None,
        }
    }

    fn seal(&mut self) {
        if let Node::Pack(pack) = self {
            pack.seal();
        }
    }

    fn allocated_bytes(&self) -> usize {
        match self {
            Node::Pack(pack) => pack.allocated_bytes(),
            Node::Plain(text) => text.len(),
            Node::Shared(node) => size_of::<Node>() + 16 + node.allocated_bytes(),
        }
    }
}

/// The nodes of a list as it was, some of which the list may still use.
#[derive(Debug)]
pub struct Frozen {
    nodes: VecDeque<Arc<Node>>,
}

impl Frozen {
    /// Shows the next node and lets go of it; whether there was one.
    pub fn step(&mut self, visit: &mut dyn FnMut(NodeRef<'_>)) -> bool {
        let Some(node) = self.nodes.pop_front() else {
            return false;
        };
        visit(node.peek());
        true
    }
}

impl Pack {
    fn push(&mut self, side: Side, text: &[u8]) {
        match side {
            Side::Head => listpack::push_front(self, text),
            Side::Tail => listpack::push_back(self, text),
        }
        self.count += 1;
    }

    fn insert(&mut self, offset: usize, text: &[u8]) {
        let at = self.position(offset);
        listpack::insert_before(self, at, text);
        self.count += 1;
    }

    /// The position of an item, or the end.
    fn position(&self, offset: usize) -> usize {
        let pack = self.bytes();
        if offset >= self.count as usize {
            return listpack::end(pack);
        }
        listpack::seek(pack, offset as i64).unwrap_or(listpack::end(pack))
    }

    fn remove(&mut self, items: Range<usize>) {
        let at = self.position(items.start);
        listpack::remove(self, at, items.len());
        self.count -= items.len() as u32;
    }

    /// Takes the items from `offset` on into a pack of their own.
    fn split_off(&mut self, offset: usize) -> Pack {
        let at = self.position(offset);
        let pack = self.bytes();
        let count = self.count - offset as u32;
        let mut right = Vec::with_capacity(listpack::EMPTY.len() + pack.len() - at);
        right.extend_from_slice(&listpack::EMPTY);
        let encoded = &pack[at..listpack::end(pack)];
        let front = listpack::end(&right);
        listpack::insert_encoded(&mut right, front, encoded, count as usize);
        listpack::truncate(self, at);
        self.count = offset as u32;
        self.seal();
        Pack::new(right, count)
    }

    fn append(&mut self, right: &Pack) {
        let at = listpack::end(self.bytes());
        listpack::insert_encoded(self, at, listpack::encoded(right.bytes()), right.count as usize);
        self.count += right.count;
        self.seal();
    }
}

impl QuickList {
    /// An empty list.
    pub fn new() -> QuickList {
        QuickList::default()
    }

    /// Number of items. O(1).
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no items.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The nodes in order, for writing them out.
    pub fn nodes(&self) -> impl ExactSizeIterator<Item = NodeRef<'_>> {
        self.nodes.iter().map(Node::peek)
    }

    /// The list as it is now, to be read while this one changes. O(nodes).
    pub fn freeze(&mut self) -> Frozen {
        let share = |node: &mut Node| {
            if let Node::Shared(node) = node {
                return node.clone();
            }
            let own = std::mem::replace(node, Node::Plain(Box::default()));
            let shared = Arc::new(own);
            *node = Node::Shared(shared.clone());
            shared
        };
        Frozen {
            nodes: self.nodes.iter_mut().map(share).collect(),
        }
    }

    /// Adds a valid listpack as the last node, if it has items. For reading a list in.
    pub fn push_pack(&mut self, pack: Vec<u8>) {
        let count = listpack::len(&pack);
        if count > 0 {
            let mut pack = Pack::new(pack, count as u32);
            pack.seal();
            self.nodes.push_back(Node::Pack(pack));
            self.len += count;
        }
    }

    /// Adds one item as a node of its own at the end. For reading a list in.
    pub fn push_plain(&mut self, text: Box<[u8]>) {
        self.nodes.push_back(Node::Plain(text));
        self.len += 1;
    }

    /// Adds an item at an end. O(item).
    pub fn push(&mut self, side: Side, text: &[u8], limit: NodeLimit) {
        self.len += 1;
        let node = match side {
            Side::Head => self.nodes.front_mut(),
            Side::Tail => self.nodes.back_mut(),
        };
        if let Some(node) = node {
            if let Some(pack) = node.with_room(text.len(), limit) {
                pack.push(side, text);
                return;
            }
            node.seal();
        }
        match side {
            Side::Head => self.nodes.push_front(Node::one(text, limit)),
            Side::Tail => self.nodes.push_back(Node::one(text, limit)),
        }
    }

    /// Removes the item at an end and shows it; whether there was one. O(item).
    pub fn pop(&mut self, side: Side, visit: &mut dyn FnMut(Item<'_>)) -> bool {
        let node = match side {
            Side::Head => self.nodes.front_mut(),
            Side::Tail => self.nodes.back_mut(),
        };
        let Some(node) = node else { return false };
        match node.thaw() {
            Node::Shared(_) => {}
            Node::Plain(text) => visit(Item::Bytes(text)),
            Node::Pack(pack) => {
                let bytes = pack.bytes();
                let at = match side {
                    Side::Head => listpack::first(bytes),
                    Side::Tail => listpack::last(bytes),
                };
                let at = at.expect("no node is empty");
                visit(listpack::get(bytes, at));
                if pack.count > 1 {
                    listpack::remove(pack, at, 1);
                    pack.count -= 1;
                    self.len -= 1;
                    return true;
                }
            }
        }
        self.len -= 1;
        match side {
            Side::Head => self.nodes.pop_front(),
            Side::Tail => self.nodes.pop_back(),
        };
        self.trim_deque();
        true
    }

    /// The item at an index. O(nodes + items of a node).
    pub fn get(&self, index: usize) -> Option<Item<'_>> {
        self.range(index..index.saturating_add(1), false).next()
    }

    /// The items of these indexes, last first if `reverse`. O(nodes + items of a node) to start.
    pub fn range(&self, indexes: Range<usize>, reverse: bool) -> Items<'_> {
        let end = indexes.end.min(self.len);
        let indexes = indexes.start.min(end)..end;
        let left = indexes.len();
        let mut items = Items {
            list: Some(self),
            node: 0,
            run: Run::Done,
            left,
            reverse,
        };
        if left > 0 {
            let (node, offset) = self.locate(if reverse { end - 1 } else { indexes.start });
            items.node = node;
            items.run = self.nodes[node].run(offset, reverse);
        }
        items
    }

    /// Replaces the item at an index below the length. O(nodes + node bytes).
    pub fn set(&mut self, index: usize, text: &[u8], limit: NodeLimit) {
        let (at, offset) = self.locate(index);
        if let Node::Pack(pack) = self.nodes[at].thaw()
            && !limit.is_large(text.len())
        {
            let position = pack.position(offset);
            listpack::replace(pack, position, text);
            if pack.count > 1 && pack.bytes().len() > limit.bytes {
                self.split(at, offset.max(1));
            }
        } else if self.nodes[at].count() == 1 {
            self.nodes[at] = Node::one(text, limit);
        } else {
            self.remove_range(index..index + 1);
            self.insert(index, text, limit);
        }
    }

    /// Inserts an item before an index up to the length. O(nodes + node bytes).
    pub fn insert(&mut self, index: usize, text: &[u8], limit: NodeLimit) {
        if index == 0 || index == self.len {
            let side = if index == 0 { Side::Head } else { Side::Tail };
            return self.push(side, text, limit);
        }
        let (at, offset) = self.locate(index);
        self.len += 1;
        if let Some(pack) = self.nodes[at].with_room(text.len(), limit) {
            pack.insert(offset, text);
            return self.nodes[at].seal();
        }
        let at = if offset > 0 {
            self.split(at, offset);
            at + 1
        } else {
            at
        };
        // Now the place lies between the nodes `at - 1` and `at`.
        if let Some(pack) = self.nodes[at - 1].with_room(text.len(), limit) {
            pack.push(Side::Tail, text);
        } else if let Some(pack) = self.nodes[at].with_room(text.len(), limit) {
            pack.push(Side::Head, text);
        } else {
            self.nodes.insert(at, Node::one(text, limit));
        }
        if offset > 0 {
            self.merge_around(at, limit);
        }
    }

    /// Removes the items of these indexes. O(nodes + bytes of two nodes).
    pub fn remove_range(&mut self, indexes: Range<usize>) {
        let end = indexes.end.min(self.len);
        let mut left = end.saturating_sub(indexes.start);
        if left == 0 {
            return;
        }
        self.len -= left;
        let (mut at, mut offset) = self.locate_in(indexes.start, self.len + left);
        let first_whole = if offset > 0 { at + 1 } else { at };
        let mut whole = 0;
        while left > 0 {
            let count = self.nodes[at].count();
            let taken = left.min(count - offset);
            if taken == count {
                whole += 1;
            } else if let Node::Pack(pack) = self.nodes[at].thaw() {
                pack.remove(offset..offset + taken);
                pack.seal();
            }
            left -= taken;
            at += 1;
            offset = 0;
        }
        self.nodes.drain(first_whole..first_whole + whole);
        self.trim_deque();
    }

    /// Removes up to `max` items equal to `needle`, from the tail if `reverse`; how many. O(bytes).
    pub fn remove_equal(&mut self, needle: &[u8], max: usize, reverse: bool) -> usize {
        let mut removed = 0;
        for n in 0..self.nodes.len() {
            if removed == max {
                break;
            }
            let at = if reverse { self.nodes.len() - 1 - n } else { n };
            match self.nodes[at].thaw() {
                Node::Shared(_) => {}
                Node::Plain(text) if **text == *needle => {
                    self.nodes[at] = Node::Pack(Pack::new(Vec::new(), 0));
                    removed += 1;
                }
                Node::Plain(_) => {}
                Node::Pack(pack) => {
                    let gone = remove_equal_in_pack(pack, needle, max - removed, reverse);
                    pack.count -= gone as u32;
                    removed += gone;
                    if gone > 0 && pack.count > 0 {
                        pack.seal();
                    }
                }
            }
        }
        self.nodes.retain(|node| node.count() > 0);
        self.trim_deque();
        self.len -= removed;
        removed
    }

    /// The only node's listpack, if there is one node and it may be the whole list again.
    pub fn take_single(&mut self, limit: NodeLimit) -> Option<Vec<u8>> {
        let [node] = self.nodes.make_contiguous() else {
            return None;
        };
        let Node::Pack(pack) = node.thaw() else {
            return None;
        };
        if !limit.allows_return(pack.bytes().len(), pack.count as usize) {
            return None;
        }
        self.len = 0;
        match self.nodes.pop_front() {
            Some(Node::Pack(pack)) => Some(pack.into_bytes()),
            _ => None,
        }
    }

    /// Bytes asked of the allocator. O(nodes).
    pub fn allocated_bytes(&self) -> usize {
        let nodes = self.nodes.iter().map(Node::allocated_bytes);
        nodes.sum::<usize>() + self.nodes.capacity() * size_of::<Node>()
    }

    /// Panics unless counts and nodes are as drawn.
    pub fn check_invariants(&self) {
        let mut len = 0;
        for node in &self.nodes {
            if let NodeRef::Pack(pack) = node.peek() {
                assert_eq!(listpack::validate(pack), Ok(()));
                assert_eq!(listpack::len(pack), node.count(), "count of a node");
            }
            assert!(node.count() > 0, "no node is empty");
            len += node.count();
        }
        assert_eq!(len, self.len, "sum of the counts");
    }

    /// Node and offset of an index below the length.
    fn locate(&self, index: usize) -> (usize, usize) {
        self.locate_in(index, self.len)
    }

    fn locate_in(&self, index: usize, len: usize) -> (usize, usize) {
        if index < len / 2 {
            let mut start = 0;
            for (at, node) in self.nodes.iter().enumerate() {
                if index < start + node.count() {
                    return (at, index - start);
                }
                start += node.count();
            }
        } else {
            let mut start = len;
            for (at, node) in self.nodes.iter().enumerate().rev() {
                start -= node.count();
                if index >= start {
                    return (at, index - start);
                }
            }
        }
        unreachable!("an index below the length lies in a node")
    }

    /// Splits a pack in two before `offset`, which lies inside it.
    fn split(&mut self, at: usize, offset: usize) {
        if let Node::Pack(pack) = self.nodes[at].thaw() {
            let right = pack.split_off(offset);
            self.nodes.insert(at + 1, Node::Pack(right));
        }
    }

    /// Joins what a split near node `at` left apart from its neighbours.
    fn merge_around(&mut self, at: usize, limit: NodeLimit) {
        for left in (at.saturating_sub(2)..=at + 1).rev() {
            let Some(right) = self.nodes.get(left + 1) else {
                continue;
            };
            let count = self.nodes[left].count() + right.count();
            let (NodeRef::Pack(one), NodeRef::Pack(other)) =
                (self.nodes[left].peek(), right.peek())
            else {
                continue;
            };
            let bytes = one.len() + other.len() - listpack::EMPTY.len();
            if !limit.allows(bytes, count) {
                continue;
            }
            if let Some(mut right) = self.nodes.remove(left + 1)
                && let Node::Pack(right) = right.thaw()
                && let Node::Pack(left) = self.nodes[left].thaw()
            {
                left.append(right);
            }
        }
    }

    fn trim_deque(&mut self) {
        if self.nodes.capacity() > 8 && self.nodes.capacity() / 4 > self.nodes.len() {
            self.nodes.shrink_to(self.nodes.len() * 2);
        }
    }
}

/// Removes items equal to `needle` from any listpack; how many.
pub fn remove_equal_in_pack<B: Blob>(
    blob: &mut B,
    needle: &[u8],
    max: usize,
    reverse: bool,
) -> usize {
    let pack = blob.bytes();
    let mut found = Vec::new();
    let mut from = listpack::first(pack);
    while let Some(at) = from.and_then(|from| listpack::find_from(pack, from, needle, 0)) {
        found.push(at);
        if !reverse && found.len() == max {
            break;
        }
        from = listpack::next(pack, at);
    }
    let found = &found[if reverse {
        found.len().saturating_sub(max)
    } else {
        0
    }..];
    if let [at] = found {
        listpack::remove(blob, *at, 1);
    } else if let [first, ..] = found {
        let mut kept = Vec::with_capacity(pack.len() - first);
        let mut count = 0;
        let mut at = *first;
        while at < listpack::end(pack) {
            let (_, next) = listpack::read(pack, at);
            if found.binary_search(&at).is_err() {
                kept.extend_from_slice(&pack[at..next]);
                count += 1;
            }
            at = next;
        }
        listpack::truncate(blob, *first);
        listpack::insert_encoded(blob, *first, &kept, count);
    }
    found.len()
}

/// Items in the order of a walk.
#[derive(Clone, Debug)]
pub struct Items<'a> {
    list: Option<&'a QuickList>,
    node: usize,
    run: Run<'a>,
    left: usize,
    reverse: bool,
}

#[derive(Clone, Debug)]
enum Run<'a> {
    Forward(listpack::Iter<'a>),
    Backward(listpack::IterRev<'a>),
    Plain(&'a [u8]),
    Done,
}

impl Node {
    /// The items of this node from `offset` on, or back.
    fn run(&self, offset: usize, reverse: bool) -> Run<'_> {
        match self {
            Node::Shared(node) => node.run(offset, reverse),
            Node::Plain(text) => Run::Plain(text),
            Node::Pack(pack) if reverse => {
                Run::Backward(listpack::iter_rev_from(pack.bytes(), pack.position(offset + 1)))
            }
            Node::Pack(pack) => {
                Run::Forward(listpack::iter_from(pack.bytes(), pack.position(offset)))
            }
        }
    }
}

impl<'a> Items<'a> {
    /// The items of these indexes of a list in one listpack, last first if `reverse`.
    pub fn of_pack(pack: &'a [u8], indexes: Range<usize>, reverse: bool) -> Items<'a> {
        let end = indexes.end.min(listpack::len(pack));
        let indexes = indexes.start.min(end)..end;
        let position =
            |index: usize| listpack::seek(pack, index as i64).unwrap_or(listpack::end(pack));
        let run = if reverse {
            Run::Backward(listpack::iter_rev_from(pack, position(indexes.end)))
        } else {
            Run::Forward(listpack::iter_from(pack, position(indexes.start)))
        };
        Items {
            list: None,
            node: 0,
            run,
            left: indexes.len(),
            reverse,
        }
    }

    /// Goes on to the next node; `None` if there is none.
    fn turn(&mut self) -> Option<()> {
        let nodes = &self.list?.nodes;
        self.node = if self.reverse {
            self.node.checked_sub(1)?
        } else {
            self.node + 1
        };
        let node = nodes.get(self.node)?;
        self.run = node.run(if self.reverse { node.count() - 1 } else { 0 }, self.reverse);
        Some(())
    }
}

impl<'a> Iterator for Items<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        self.left = self.left.checked_sub(1)?;
        loop {
            let item = match &mut self.run {
                Run::Forward(items) => items.next(),
                Run::Backward(items) => items.next(),
                Run::Plain(text) => {
                    let item = Item::Bytes(text);
                    self.run = Run::Done;
                    Some(item)
                }
                Run::Done => None,
            };
            if item.is_some() {
                return item;
            }
            self.turn()?;
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Items<'_> {}
