//! A big sorted set: a table that finds members, and a rank tree that orders them.
//!
//! ```text
//!   Table<Scored>  --owns-->  [score][length][member]  <--borrows--  RankTree slot (score, block)
//! ```
//!
//! Every member is one block, in both structures or in neither. That is what this file is for: a
//! block leaves the tree before its owner, which the table gave back, is dropped.

#![allow(unsafe_code)]

use std::fmt;
use std::ops::Range;

use super::marks::Marks;
use super::ranktree::{Entries, Entry, RankTree};
use super::scored::{Scored, member_at};
use super::table::{Record, Ref, Table, hash};

/// Members whose removal is prepared at a time.
const REMOVAL_CHUNK: usize = 256;

/// Members, each with a score, ordered by score and then by bytes.
pub struct ZsetTree {
    tree: RankTree,
    table: Table<Scored>,
    block_bytes: usize,
    marks: Marks,
}

/// What an update did to a member.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Change {
    /// The member is new.
    Added(f64),
    /// The member has another score now.
    Updated {
        /// The score before.
        old: f64,
        /// The score now.
        new: f64,
    },
    /// The member has had this score already.
    Same(f64),
    /// The update was called off.
    Skipped,
}

impl Default for ZsetTree {
    fn default() -> ZsetTree {
        ZsetTree::new()
    }
}

impl fmt::Debug for ZsetTree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ZsetTree")
            .field("len", &self.len())
            .finish_non_exhaustive()
    }
}

/// Score and member, to be read by [`ZsetTree::step`].
fn copy_of(scored: &Scored) -> Box<[u8]> {
    [&scored.score().to_le_bytes()[..], scored.member()]
        .concat()
        .into()
}

/// The member of a record, for as long as its table is borrowed.
fn member<'a>(record: &Ref<'a, Scored>) -> &'a [u8] {
    // SAFETY: the record stays in the table for 'a, and its block with it.
    unsafe { member_at(record.block()) }
}

impl ZsetTree {
    /// An empty set, which has allocated nothing.
    pub fn new() -> ZsetTree {
        ZsetTree {
            tree: RankTree::new(),
            table: Table::new(),
            block_bytes: 0,
            marks: Marks::default(),
        }
    }

    #[inline]
    pub(crate) fn members(&self) -> &Table<impl Record + use<>> {
        &self.table
    }

    /// Number of members.
    pub fn len(&self) -> usize {
        self.tree.len()
    }

    /// Whether there are no members.
    pub fn is_empty(&self) -> bool {
        self.tree.is_empty()
    }

    /// The score of a member. O(1).
    pub fn score(&self, member: &[u8]) -> Option<f64> {
        Some(self.table.get(hash(member), member)?.score())
    }

    /// How many members come before this one, and its score. O(log n).
    pub fn rank(&self, member: &[u8]) -> Option<(usize, f64)> {
        let score = self.score(member)?;
        Some((self.tree.rank(score, member), score))
    }

    /// The rank of the first position for which `before` is false; see [`RankTree::partition`].
    pub fn partition<'a>(&'a self, before: impl Fn(Entry<'a>) -> bool) -> usize {
        self.tree.partition(before)
    }

    /// The positions of these ranks, from both ends. O(log n) to start.
    pub fn range(&self, ranks: Range<usize>) -> Entries<'_> {
        self.tree.range(ranks)
    }

    /// Gives `member` the score that `decide` makes of its present one; `None` leaves all as it is.
    /// The new score must not be NaN. O(log n).
    pub fn update(
        &mut self,
        member: &[u8],
        decide: impl FnOnce(Option<f64>) -> Option<f64>,
    ) -> Change {
        let hash = hash(member);
        let Some(mut place) = self.table.find_mut(hash, member) else {
            let Some(score) = decide(None) else {
                return Change::Skipped;
            };
            self.add(hash, score, member);
            return Change::Added(score);
        };
        let old = place.read().score();
        match decide(Some(old)) {
            None => Change::Skipped,
            Some(new) if new == old => Change::Same(old),
            Some(new) => {
                self.marks.before(&mut place, copy_of);
                place.update(|mut scored| {
                    scored.set_score(new);
                    scored
                });
                self.tree.rescore(old, new, member);
                Change::Updated { old, new }
            }
        }
    }

    fn add(&mut self, hash: u64, score: f64, member: &[u8]) {
        let scored = Scored::new(score, member);
        self.block_bytes += scored.allocated_bytes();
        let block = scored.block();
        self.marks.born(&mut self.table.insert(hash, scored));
        // SAFETY: the table keeps the block, and gives it back in `remove` and `remove_ranks` only,
        // which take it out of the tree before they drop it. Dropping the tree reads no block.
        unsafe { self.tree.insert(score, block) };
    }

    /// Removes a member; the score it had. O(log n).
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        let mut place = self.table.find_mut(hash(member), member)?;
        self.marks.before(&mut place, copy_of);
        let scored = place.remove();
        self.tree.remove(scored.score(), member);
        self.block_bytes -= scored.allocated_bytes();
        Some(scored.score())
    }

    /// Removes the members of these ranks, lowest first, and shows each. O(log n + removed).
    pub fn remove_ranks(&mut self, ranks: Range<usize>, removed: &mut dyn FnMut(&[u8], f64)) {
        let mut left = ranks.end.min(self.len()).saturating_sub(ranks.start);
        while left > 0 {
            let chunk = ranks.start..ranks.start + left.min(REMOVAL_CHUNK);
            let mut taken = Vec::with_capacity(chunk.len());
            for entry in self.tree.range(chunk.clone()) {
                let member = entry.member();
                let place = self.table.find_mut(hash(member), member);
                let mut place = place.expect("a member of the tree is in the table");
                self.marks.before(&mut place, copy_of);
                taken.push(place.remove());
            }
            self.tree.remove_ranks(chunk);
            left -= taken.len();
            for scored in taken {
                self.block_bytes -= scored.allocated_bytes();
                removed(scored.member(), scored.score());
            }
        }
    }

    /// Shows the members behind `cursor`; see [`Table::scan`].
    pub fn scan(&self, cursor: u64, visit: &mut dyn FnMut(&[u8], f64)) -> u64 {
        self.table
            .scan(cursor, &mut |record| visit(record.member(), record.score()))
    }

    /// What a walk has saved; see [`Marks`].
    pub fn marks_mut(&mut self) -> &mut Marks {
        &mut self.marks
    }

    /// The number of the walk under way.
    #[inline]
    pub fn walk_id(&self) -> Option<u64> {
        self.marks.walk_id()
    }

    /// See [`Marks::step`].
    pub fn step(&mut self, n: usize, see: &mut dyn FnMut(&[u8], f64)) -> bool {
        let see = std::cell::RefCell::new(see);
        self.marks.step(
            &mut self.table,
            n,
            &mut |scored| see.borrow_mut()(scored.member(), scored.score()),
            &mut |copy| {
                let (score, member) = copy.split_at(size_of::<f64>());
                let mut bytes = [0; size_of::<f64>()];
                bytes.copy_from_slice(score);
                see.borrow_mut()(member, f64::from_le_bytes(bytes));
            },
        )
    }

    /// Bytes of members and their table, without the tree. O(1).
    pub fn record_bytes(&self) -> usize {
        self.table.allocated_bytes() + self.block_bytes
    }

    /// A member chosen by `random`, 64 random bits. O(1).
    pub fn sample(&self, random: u64) -> Option<(&[u8], f64)> {
        let record = self.table.sample(random)?;
        Some((member(&record), record.score()))
    }

    /// Bytes asked of the allocator. O(n / 64).
    pub fn allocated_bytes(&self) -> usize {
        self.table.allocated_bytes() + self.tree.allocated_bytes() + self.block_bytes
    }

    /// Panics unless table and tree are sound and hold the same members.
    pub fn check_invariants(&self) {
        self.tree.check_invariants();
        self.table.check_invariants();
        assert_eq!(self.tree.len(), self.table.len(), "both hold every member");
        let mut bytes = 0;
        for record in self.table.iter() {
            let rank = self.tree.rank(record.score(), record.member());
            let entry = self
                .tree
                .entry(rank)
                .expect("a member of the table is in the tree");
            assert_eq!(entry.member().as_ptr(), record.member().as_ptr(), "one block");
            bytes += record.allocated_bytes();
        }
        assert_eq!(bytes, self.block_bytes, "sum of the blocks");
    }
}
