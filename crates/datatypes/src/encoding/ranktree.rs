//! Members in order of score, then bytes: a B+tree that counts, so that rank is a look-up too.
//!
//! ```text
//!   Branch   | first, count, node | first, count, node | ..       up to 32 children
//!                          |
//!   Leaf     | score, block | score, block | ..                   up to 64 slots of 16 bytes
//!                       |
//!   block    [score][length][member]      owned by the table, see `scored.rs`
//! ```
//!
//! `first` copies the smallest slot below a child and is kept exact, so a search reads members only
//! where scores tie, and no slot outlives its block. Every position is a rank: bounds are found as
//! ranks ([`RankTree::partition`]), ranges are walked and removed by rank. Vectors grow in steps of
//! eight and split off only the newcomer at an end, so leaves stay nearly full.

#![allow(unsafe_code)]

use std::cmp::Ordering;
use std::fmt;
use std::marker::PhantomData;
use std::ops::Range;
use std::ptr::NonNull;

use super::scored::{member_at, prefetch};

#[cfg(test)]
mod tests;

const LEAF_SLOTS_MAX: usize = 64;
const BRANCH_CHILDREN_MAX: usize = 32;
const STEP: usize = 8;
const PREFETCH_DISTANCE: usize = 4;

/// The tree. Allocates nothing while empty.
pub struct RankTree {
    root: Node,
    len: usize,
}

enum Node {
    Leaf(Vec<Slot>),
    Branch(Vec<Child>),
}

struct Child {
    first: Slot,
    count: usize,
    node: Node,
}

#[derive(Clone, Copy)]
struct Slot {
    score: f64,
    block: NonNull<u8>,
}

// SAFETY: slots only point at blocks of plain bytes, which are read while the tree is borrowed.
unsafe impl Send for RankTree {}
// SAFETY: a shared tree only reads its nodes and blocks.
unsafe impl Sync for RankTree {}

/// One position of the tree, for reading. Its score is at hand, its member a pointer away.
#[derive(Clone, Copy)]
pub struct Entry<'a> {
    slot: Slot,
    tree: PhantomData<&'a RankTree>,
}

impl<'a> Entry<'a> {
    fn new(slot: Slot) -> Entry<'a> {
        Entry {
            slot,
            tree: PhantomData,
        }
    }

    /// The score.
    pub fn score(self) -> f64 {
        self.slot.score
    }

    /// The member.
    pub fn member(self) -> &'a [u8] {
        // SAFETY: `insert` was promised that blocks outlive their slots, and entries borrow the tree.
        unsafe { member_at(self.slot.block) }
    }

    /// How this position stands to a score and member.
    pub fn order(self, score: f64, member: &[u8]) -> Ordering {
        if self.slot.score < score {
            Ordering::Less
        } else if self.slot.score > score {
            Ordering::Greater
        } else {
            self.member().cmp(member)
        }
    }

    #[inline]
    fn precedes(self, score: f64, member: &[u8]) -> bool {
        self.slot.score < score || (self.slot.score == score && self.member() < member)
    }
}

impl Default for RankTree {
    fn default() -> RankTree {
        RankTree::new()
    }
}

impl fmt::Debug for RankTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RankTree")
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

impl RankTree {
    /// An empty tree.
    pub const fn new() -> RankTree {
        RankTree {
            root: Node::Leaf(Vec::new()),
            len: 0,
        }
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The rank of the first position for which `before` is false: `before` must hold for a prefix
    /// of the order. O(log n).
    pub fn partition<'a>(&'a self, before: impl Fn(Entry<'a>) -> bool) -> usize {
        let mut rank = 0;
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(slots) => {
                    return rank + slots.partition_point(|slot| before(Entry::new(*slot)));
                }
                Node::Branch(children) => {
                    let at = children.partition_point(|child| before(Entry::new(child.first)));
                    let Some(at) = at.checked_sub(1) else {
                        return rank;
                    };
                    rank += children[..at]
                        .iter()
                        .map(|child| child.count)
                        .sum::<usize>();
                    node = &children[at].node;
                }
            }
        }
    }

    /// How many positions come before this score and member. O(log n).
    pub fn rank(&self, score: f64, member: &[u8]) -> usize {
        self.partition(|entry| entry.precedes(score, member))
    }

    /// The position at `rank`, counted from 0. O(log n).
    pub fn entry(&self, rank: usize) -> Option<Entry<'_>> {
        if rank >= self.len {
            return None;
        }
        let (leaf, start) = self.leaf_at(rank);
        leaf.get(rank - start).map(|slot| Entry::new(*slot))
    }

    /// The positions of these ranks, from both ends. O(log n) to start and once per leaf.
    pub fn range(&self, ranks: Range<usize>) -> Entries<'_> {
        let end = ranks.end.min(self.len);
        let ranks = ranks.start.min(end)..end;
        Entries {
            tree: self,
            ranks,
            front: (&[], 0),
            back: (&[], 0),
        }
    }

    /// Adds a block under `score`; its member must be absent. O(log n).
    ///
    /// # Safety
    /// `block` is the block of a `Scored`, and stays alive until it has been removed from the tree
    /// or the tree is gone.
    pub unsafe fn insert(&mut self, score: f64, block: NonNull<u8>) {
        self.insert_slot(Slot { score, block });
    }

    /// Removes a member with its score; whether it was there. O(log n).
    pub fn remove(&mut self, score: f64, member: &[u8]) -> bool {
        self.remove_slot(score, member).is_some()
    }

    /// Moves a member from score `old` to `new`; whether it was there. O(log n), and cheap when it
    /// stays inside its leaf.
    pub fn rescore(&mut self, old: f64, new: f64, member: &[u8]) -> bool {
        if move_in_leaf(&mut self.root, old, new, member) {
            return true;
        }
        let Some(slot) = self.remove_slot(old, member) else {
            return false;
        };
        self.insert_slot(Slot { score: new, ..slot });
        true
    }

    /// Removes the positions of these ranks. O(log n + removed).
    pub fn remove_ranks(&mut self, ranks: Range<usize>) {
        let end = ranks.end.min(self.len);
        if ranks.start >= end {
            return;
        }
        cut(&mut self.root, ranks.start..end);
        self.len -= end - ranks.start;
        self.lower_root();
    }

    /// Bytes asked of the allocator for nodes; blocks are the table's. O(nodes).
    pub fn allocated_bytes(&self) -> usize {
        self.root.allocated_bytes()
    }

    fn insert_slot(&mut self, slot: Slot) {
        if let Some(right) = insert(&mut self.root, slot) {
            let left = std::mem::replace(&mut self.root, Node::Branch(Vec::with_capacity(2)));
            let Node::Branch(children) = &mut self.root else {
                return;
            };
            children.push(Child::new(left));
            children.push(Child::new(right));
        }
        self.len += 1;
    }

    fn remove_slot(&mut self, score: f64, member: &[u8]) -> Option<Slot> {
        let slot = remove(&mut self.root, score, member)?;
        self.len -= 1;
        self.lower_root();
        Some(slot)
    }

    /// Drops levels that hold a single child.
    fn lower_root(&mut self) {
        if self.len == 0 {
            self.root = Node::Leaf(Vec::new());
        }
        while let Node::Branch(children) = &mut self.root
            && children.len() == 1
            && let Some(child) = children.pop()
        {
            self.root = child.node;
        }
    }

    /// The leaf that holds `rank` (the last one if it is past the end) and the rank of its start.
    fn leaf_at(&self, rank: usize) -> (&[Slot], usize) {
        let mut start = 0;
        let mut node = &self.root;
        loop {
            match node {
                Node::Leaf(slots) => return (slots, start),
                Node::Branch(children) => {
                    let mut at = 0;
                    while at + 1 < children.len() && start + children[at].count <= rank {
                        start += children[at].count;
                        at += 1;
                    }
                    node = &children[at].node;
                }
            }
        }
    }

    /// Panics unless order, counts, firsts and depths are as drawn.
    pub fn check_invariants(&self) {
        let mut last = None;
        let mut depth = None;
        assert_eq!(self.root.check(&mut last, &mut depth, 0), self.len, "count of the root");
        if let Node::Branch(children) = &self.root {
            assert!(children.len() > 1, "a root branch has a choice");
        }
    }
}

/// The positions of a range of ranks. See [`RankTree::range`].
#[derive(Clone)]
pub struct Entries<'a> {
    tree: &'a RankTree,
    ranks: Range<usize>,
    front: (&'a [Slot], usize),
    back: (&'a [Slot], usize),
}

impl<'a> Entries<'a> {
    fn front(&mut self, rank: usize) -> Option<Entry<'a>> {
        if rank
            .checked_sub(self.front.1)
            .is_none_or(|at| at >= self.front.0.len())
        {
            self.front = self.tree.leaf_at(rank);
            self.front
                .0
                .iter()
                .take(PREFETCH_DISTANCE)
                .for_each(|slot| prefetch(slot.block));
        }
        let at = rank - self.front.1;
        if let Some(soon) = self.front.0.get(at + PREFETCH_DISTANCE) {
            prefetch(soon.block);
        }
        self.front.0.get(at).map(|slot| Entry::new(*slot))
    }

    fn back(&mut self, rank: usize) -> Option<Entry<'a>> {
        if rank
            .checked_sub(self.back.1)
            .is_none_or(|at| at >= self.back.0.len())
        {
            self.back = self.tree.leaf_at(rank);
            self.back
                .0
                .iter()
                .rev()
                .take(PREFETCH_DISTANCE)
                .for_each(|slot| prefetch(slot.block));
        }
        let at = rank - self.back.1;
        if let Some(soon) = at.checked_sub(PREFETCH_DISTANCE) {
            prefetch(self.back.0[soon].block);
        }
        self.back.0.get(at).map(|slot| Entry::new(*slot))
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        let rank = self.ranks.next()?;
        self.front(rank)
    }

    fn nth(&mut self, skip: usize) -> Option<Entry<'a>> {
        let rank = self.ranks.nth(skip)?;
        self.front(rank)
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.ranks.size_hint()
    }
}

impl<'a> DoubleEndedIterator for Entries<'a> {
    #[inline]
    fn next_back(&mut self) -> Option<Entry<'a>> {
        let rank = self.ranks.next_back()?;
        self.back(rank)
    }

    fn nth_back(&mut self, skip: usize) -> Option<Entry<'a>> {
        let rank = self.ranks.nth_back(skip)?;
        self.back(rank)
    }
}

impl ExactSizeIterator for Entries<'_> {}

impl Node {
    fn first(&self) -> Slot {
        match self {
            Node::Leaf(slots) => slots[0],
            Node::Branch(children) => children[0].first,
        }
    }

    fn count(&self) -> usize {
        match self {
            Node::Leaf(slots) => slots.len(),
            Node::Branch(children) => children.iter().map(|child| child.count).sum(),
        }
    }

    fn allocated_bytes(&self) -> usize {
        match self {
            Node::Leaf(slots) => slots.capacity() * size_of::<Slot>(),
            Node::Branch(children) => {
                let below: usize = children
                    .iter()
                    .map(|child| child.node.allocated_bytes())
                    .sum();
                children.capacity() * size_of::<Child>() + below
            }
        }
    }

    fn check(&self, last: &mut Option<Slot>, depth: &mut Option<usize>, level: usize) -> usize {
        match self {
            Node::Leaf(slots) => {
                assert_eq!(*depth.get_or_insert(level), level, "leaves lie at one depth");
                assert!(slots.len() <= LEAF_SLOTS_MAX && (level == 0 || !slots.is_empty()));
                for slot in slots {
                    let entry = Entry::new(*slot);
                    if let Some(last) = last.replace(*slot) {
                        assert!(Entry::new(last).precedes(entry.score(), entry.member()));
                    }
                }
                slots.len()
            }
            Node::Branch(children) => {
                assert!((1..=BRANCH_CHILDREN_MAX).contains(&children.len()));
                for child in children {
                    assert_eq!(child.first.block, child.node.first().block, "first is exact");
                    assert_eq!(child.first.score, child.node.first().score, "first is exact");
                    assert_eq!(child.node.check(last, depth, level + 1), child.count);
                }
                self.count()
            }
        }
    }
}

impl Child {
    fn new(node: Node) -> Child {
        Child {
            first: node.first(),
            count: node.count(),
            node,
        }
    }
}

/// The child whose span holds this score and member.
fn child_for(children: &[Child], score: f64, member: &[u8]) -> usize {
    let reaches = |child: &Child| {
        let first = child.first;
        first.score < score || (first.score == score && Entry::new(first).member() <= member)
    };
    children.partition_point(reaches).saturating_sub(1)
}

/// Inserts below `node`; what was split off to its right, if it was full.
fn insert(node: &mut Node, slot: Slot) -> Option<Node> {
    let entry = Entry::new(slot);
    let (score, member) = (entry.score(), entry.member());
    match node {
        Node::Leaf(slots) => {
            let at = slots.partition_point(|slot| Entry::new(*slot).precedes(score, member));
            place(slots, at, slot, LEAF_SLOTS_MAX).map(Node::Leaf)
        }
        Node::Branch(children) => {
            let at = child_for(children, score, member);
            let child = &mut children[at];
            let Some(right) = insert(&mut child.node, slot) else {
                child.count += 1;
                if at == 0 {
                    child.first = child.node.first();
                }
                return None;
            };
            let right = Child::new(right);
            child.count = child.count + 1 - right.count;
            child.first = child.node.first();
            place(children, at + 1, right, BRANCH_CHILDREN_MAX).map(Node::Branch)
        }
    }
}

/// Inserts at `at`; a full vector gives its upper half to the returned one. At an end only the
/// newcomer stands alone, so that ascending and descending input leaves full vectors behind.
fn place<T>(items: &mut Vec<T>, at: usize, item: T, max: usize) -> Option<Vec<T>> {
    if items.len() < max {
        grow(items, max);
        items.insert(at, item);
        return None;
    }
    let cut = match at {
        0 => 0,
        at if at == items.len() => at,
        _ => items.len() / 2,
    };
    let mut right = if cut == 0 {
        std::mem::take(items)
    } else {
        items.split_off(cut)
    };
    if at < cut || cut == 0 {
        grow(items, max);
        items.insert(at, item);
    } else {
        grow(&mut right, max);
        right.insert(at - cut, item);
    }
    trim(items);
    Some(right)
}

fn grow<T>(items: &mut Vec<T>, max: usize) {
    if items.len() == items.capacity() {
        let target = (items.len() + 1).next_multiple_of(STEP).min(max);
        items.reserve_exact(target - items.len());
    }
}

fn trim<T>(items: &mut Vec<T>) {
    if items.capacity() >= items.len() + 2 * STEP {
        items.shrink_to(items.len().next_multiple_of(STEP));
    }
}

fn remove(node: &mut Node, score: f64, member: &[u8]) -> Option<Slot> {
    match node {
        Node::Leaf(slots) => {
            let at = slots.partition_point(|slot| Entry::new(*slot).precedes(score, member));
            let found = slots.get(at).copied()?;
            if Entry::new(found).order(score, member) != Ordering::Equal {
                return None;
            }
            slots.remove(at);
            trim(slots);
            Some(found)
        }
        Node::Branch(children) => {
            let at = child_for(children, score, member);
            let child = &mut children[at];
            let found = remove(&mut child.node, score, member)?;
            child.count -= 1;
            if child.count == 0 {
                children.remove(at);
                trim(children);
            } else {
                if child.first.block == found.block {
                    child.first = child.node.first();
                }
                merge_around(children, at);
            }
            Some(found)
        }
    }
}

/// Removes the positions `ranks` below `node`, which may be left empty.
fn cut(node: &mut Node, ranks: Range<usize>) {
    let children = match node {
        Node::Leaf(slots) => {
            slots.drain(ranks);
            trim(slots);
            return;
        }
        Node::Branch(children) => children,
    };
    let mut start = 0;
    let (mut touched, mut is_child_gone) = (None, false);
    for (at, child) in children.iter_mut().enumerate() {
        if start >= ranks.end {
            break;
        }
        let span = start..start + child.count;
        start = span.end;
        let (from, to) = (ranks.start.max(span.start), ranks.end.min(span.end));
        if from >= to {
            continue;
        }
        child.count -= to - from;
        touched.get_or_insert(at);
        if child.count > 0 {
            cut(&mut child.node, from - span.start..to - span.start);
            child.first = child.node.first();
        }
        is_child_gone |= child.count == 0;
    }
    if is_child_gone {
        children.retain(|child| child.count > 0);
        trim(children);
    }
    if let Some(at) = touched {
        // Of the touched children at most two are left, now neighbours.
        merge_around(children, at + 1);
        merge_around(children, at);
    }
}

/// Joins a sparse child with a neighbour when both together leave room for more.
fn merge_around(children: &mut Vec<Child>, at: usize) {
    let Some(child) = children.get(at) else {
        return;
    };
    let (len, max) = fill(&child.node);
    if len > max / 4 {
        return;
    }
    for left in [at.wrapping_sub(1), at] {
        let Some(pair) = left
            .checked_add(1)
            .and_then(|right| children.get(left..=right))
        else {
            continue;
        };
        if fill(&pair[0].node).0 + fill(&pair[1].node).0 <= max / 4 * 3 {
            let right = children.remove(left + 1);
            join(&mut children[left], right);
            trim(children);
            return;
        }
    }
}

fn fill(node: &Node) -> (usize, usize) {
    match node {
        Node::Leaf(slots) => (slots.len(), LEAF_SLOTS_MAX),
        Node::Branch(children) => (children.len(), BRANCH_CHILDREN_MAX),
    }
}

fn join(left: &mut Child, right: Child) {
    left.count += right.count;
    match (&mut left.node, right.node) {
        (Node::Leaf(to), Node::Leaf(from)) => append(to, from),
        (Node::Branch(to), Node::Branch(from)) => append(to, from),
        _ => unreachable!("siblings lie at one depth"),
    }
}

fn append<T>(to: &mut Vec<T>, from: Vec<T>) {
    let target = (to.len() + from.len()).next_multiple_of(STEP);
    to.reserve_exact(target - to.len());
    to.extend(from);
}

/// Changes a score where the member stays strictly inside its leaf, so that nothing above changes.
fn move_in_leaf(root: &mut Node, old: f64, new: f64, member: &[u8]) -> bool {
    let mut node = root;
    let found = loop {
        match node {
            Node::Branch(children) => {
                let at = child_for(children, old, member);
                node = &mut children[at].node;
            }
            Node::Leaf(slots) => break slots,
        }
    };
    let at = found.partition_point(|slot| Entry::new(*slot).precedes(old, member));
    let inner = 1..found.len().saturating_sub(1);
    if !inner.contains(&at)
        || Entry::new(found[at]).order(old, member) != Ordering::Equal
        || !Entry::new(found[0]).precedes(new, member)
        || Entry::new(found[found.len() - 1]).precedes(new, member)
    {
        return false;
    }
    let before = |slot: &Slot| Entry::new(*slot).precedes(new, member);
    if new > old {
        let to = at + found[at + 1..].partition_point(before);
        found[at..=to].rotate_left(1);
        found[to].score = new;
    } else {
        let to = found[..at].partition_point(before);
        found[to..=at].rotate_right(1);
        found[to].score = new;
    }
    true
}
