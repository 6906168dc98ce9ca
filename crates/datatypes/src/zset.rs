//! Sorted sets: members in order of score, then bytes.
//!
//! ```text
//!   ZsetPack   listpack: member, score, member, score, .. in order; scores as the text of a reply
//!   ZsetTree   table and rank tree, from zset-max-listpack-entries or -value on; no way back
//! ```
//!
//! Every position is a rank from the low end. Bounds on scores or members become ranges of ranks,
//! so counting is a subtraction, and LIMIT and REV are arithmetic on ranges (see [`limit_ranks`]).
//! As on the wire of Redis, a listpack keeps -0 as 0; NaN is the caller's to refuse.

use std::cmp::Ordering;
use std::ops::Range;

use stdx::double::format_f64;
use stdx::number::parse_f64;

use crate::encoding::blob::HomeBlob;
use crate::encoding::listpack::{self, Encoder, Item, ItemBuffer};
use crate::encoding::ranktree::Entries;
use crate::encoding::zsettree::{Change, ZsetTree};
use crate::home::{Collection, Encoding, Home, Limits, NewPayload, Payload};
use crate::pick::{self, Bits};

#[cfg(test)]
mod tests;

/// Whole scores up to this magnitude are integers in a listpack.
const WHOLE_MAX: f64 = (1_u64 << 62) as f64;

/// One end of a range of scores.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ScoreBound {
    /// The score; infinite for an open end.
    pub value: f64,
    /// Whether the score itself lies outside.
    pub exclusive: bool,
}

impl ScoreBound {
    /// Whether a score lies below a range that begins here.
    pub fn is_above(self, score: f64) -> bool {
        score < self.value || self.exclusive && score == self.value
    }

    /// Whether a score lies within or below a range that ends here.
    pub fn reaches(self, score: f64) -> bool {
        score < self.value || !self.exclusive && score == self.value
    }
}

/// One end of a range of members; meaningful while all scores are the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LexBound<'b> {
    /// Below every member (`-`).
    Min,
    /// Above every member (`+`).
    Max,
    /// From or to this member (`[`).
    Inclusive(&'b [u8]),
    /// Just beyond or before this member (`(`).
    Exclusive(&'b [u8]),
}

impl LexBound<'_> {
    /// Whether a member lies below a range that begins here.
    pub fn is_above(self, member: &[u8]) -> bool {
        match self {
            LexBound::Min => false,
            LexBound::Max => true,
            LexBound::Inclusive(bound) => member < bound,
            LexBound::Exclusive(bound) => member <= bound,
        }
    }

    /// Whether a member lies within or below a range that ends here.
    pub fn reaches(self, member: &[u8]) -> bool {
        match self {
            LexBound::Min => false,
            LexBound::Max => true,
            LexBound::Inclusive(bound) => member <= bound,
            LexBound::Exclusive(bound) => member < bound,
        }
    }
}

/// The part of `ranks` that `LIMIT offset count` leaves, counted from the high end if `reverse`.
/// A negative count is no limit; a negative offset leaves nothing.
pub fn limit_ranks(ranks: Range<usize>, reverse: bool, offset: i64, count: i64) -> Range<usize> {
    let Ok(offset) = usize::try_from(offset) else {
        return ranks.start..ranks.start;
    };
    let skipped = offset.min(ranks.len());
    let kept = usize::try_from(count)
        .unwrap_or(usize::MAX)
        .min(ranks.len() - skipped);
    if reverse {
        let end = ranks.end - skipped;
        end - kept..end
    } else {
        let start = ranks.start + skipped;
        start..start + kept
    }
}

/// A sorted set, for reading.
#[derive(Clone, Copy, Debug)]
pub struct ZsetRef<'a> {
    view: View<'a>,
}

#[derive(Clone, Copy, Debug)]
enum View<'a> {
    Pack(&'a [u8]),
    Tree(&'a ZsetTree),
}

impl<'a> ZsetRef<'a> {
    /// The set that an absent key stands for.
    pub const EMPTY: ZsetRef<'static> = ZsetRef {
        view: View::Pack(&listpack::EMPTY),
    };

    /// The sorted set in a payload. `None` for other types.
    #[inline]
    pub fn new(encoding: Encoding, payload: Payload<'a>) -> Option<ZsetRef<'a>> {
        let view = match (encoding, payload) {
            (Encoding::ZsetPack, Payload::Blob(pack)) => View::Pack(pack),
            (Encoding::ZsetTree, Payload::Big(Collection::Zset(tree))) => View::Tree(tree),
            _ => return None,
        };
        Some(ZsetRef { view })
    }

    /// Number of members. O(1).
    pub fn len(self) -> usize {
        match self.view {
            View::Pack(pack) => listpack::len(pack) / 2,
            View::Tree(tree) => tree.len(),
        }
    }

    /// Whether there are no members.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether it is stored as a table and a tree.
    pub fn is_tree(self) -> bool {
        matches!(self.view, View::Tree(_))
    }

    /// The score of a member. O(1); O(n) in a listpack.
    pub fn score(self, member: &[u8]) -> Option<f64> {
        match self.view {
            View::Pack(pack) => {
                let at = listpack::find(pack, member, 1)?;
                Some(pair(pack, at).score)
            }
            View::Tree(tree) => tree.score(member),
        }
    }

    /// The rank of a member, from the high end if `reverse`, and its score. O(log n).
    pub fn rank(self, member: &[u8], reverse: bool) -> Option<(usize, f64)> {
        let (rank, score) = match self.view {
            View::Pack(pack) => {
                let at = listpack::find(pack, member, 1)?;
                (pairs(pack).take_while(|pair| pair.at < at).count(), pair(pack, at).score)
            }
            View::Tree(tree) => tree.rank(member)?,
        };
        Some((if reverse { self.len() - 1 - rank } else { rank }, score))
    }

    /// The ranks of the scores from `min` to `max`. O(log n).
    pub fn ranks_by_score(self, min: ScoreBound, max: ScoreBound) -> Range<usize> {
        let (start, end) = match self.view {
            View::Pack(pack) => (
                pairs(pack)
                    .take_while(|pair| min.is_above(pair.score))
                    .count(),
                pairs(pack)
                    .take_while(|pair| max.reaches(pair.score))
                    .count(),
            ),
            View::Tree(tree) => (
                tree.partition(|entry| min.is_above(entry.score())),
                tree.partition(|entry| max.reaches(entry.score())),
            ),
        };
        start..end.max(start)
    }

    /// The ranks of the members from `min` to `max`, all scores being the same. O(log n).
    pub fn ranks_by_lex(self, min: LexBound<'_>, max: LexBound<'_>) -> Range<usize> {
        let (start, end) = match self.view {
            View::Pack(pack) => (
                count_text(pack, &|member| min.is_above(member)),
                count_text(pack, &|member| max.reaches(member)),
            ),
            View::Tree(tree) => (
                tree.partition(|entry| min.is_above(entry.member())),
                tree.partition(|entry| max.reaches(entry.member())),
            ),
        };
        start..end.max(start)
    }

    /// The members of these ranks, from the high end if `reverse`. O(log n) to start.
    pub fn range(self, ranks: Range<usize>, reverse: bool) -> Members<'a> {
        let end = ranks.end.min(self.len());
        let ranks = ranks.start.min(end)..end;
        let left = ranks.len();
        let walk = match self.view {
            View::Pack(pack) => {
                let rank = if reverse { ranks.end } else { ranks.start };
                Walk::Pack {
                    pack,
                    at: position(pack, rank),
                    left,
                    reverse,
                }
            }
            View::Tree(tree) => Walk::Tree {
                entries: tree.range(ranks),
                reverse,
            },
        };
        Members { walk }
    }

    /// The members from a score on, lowest first. O(log n) to start.
    pub fn from_score(self, min: f64) -> Members<'a> {
        let start = match self.view {
            View::Pack(pack) => pairs(pack).take_while(|pair| pair.score < min).count(),
            View::Tree(tree) => tree.partition(|entry| entry.score() < min),
        };
        self.range(start..usize::MAX, false)
    }

    /// All members, lowest first.
    pub fn iter(self) -> Members<'a> {
        self.range(0..usize::MAX, false)
    }

    /// The member at a rank. O(log n).
    pub fn at(self, rank: usize) -> Option<(Item<'a>, f64)> {
        self.range(rank..rank.saturating_add(1), false).next()
    }

    /// A member chosen by 64 random bits. O(1), or O(n) in a listpack.
    pub fn random(self, bits: u64) -> Option<(Item<'a>, f64)> {
        match self.view {
            View::Pack(_) => self.at((bits % self.len().max(1) as u64) as usize),
            View::Tree(tree) => {
                let (member, score) = tree.sample(bits)?;
                Some((Item::Bytes(member), score))
            }
        }
    }

    /// `count` distinct members at random; all of them if there are fewer. O(count), or O(n).
    pub fn pick_distinct(self, count: usize, bits: Bits<'_>) -> Vec<(Item<'a>, f64)> {
        match self.view {
            View::Pack(_) => {
                pick::at_indices(self.iter(), &pick::distinct_indices(self.len(), count, bits))
            }
            View::Tree(tree) => {
                let sample = |bits| tree.sample(bits);
                let all = tree
                    .range(0..usize::MAX)
                    .map(|entry| (entry.member(), entry.score()));
                let address = |pair: &(&[u8], f64)| pair.0.as_ptr() as usize;
                let picked = pick::distinct((tree.len(), count), bits, sample, all, address);
                picked
                    .into_iter()
                    .map(|(member, score)| (Item::Bytes(member), score))
                    .collect()
            }
        }
    }

    /// Shows the members behind `cursor` and answers the next one, 0 at the end; a listpack is
    /// shown at once. A member present throughout is shown at least once.
    pub fn scan(self, cursor: u64, visit: &mut dyn FnMut(&[u8], f64)) -> u64 {
        match self.view {
            View::Pack(pack) => {
                let mut buffer = ItemBuffer::new();
                pairs(pack).for_each(|pair| visit(pair.member.text(&mut buffer), pair.score));
                0
            }
            View::Tree(tree) => tree.scan(cursor, visit),
        }
    }

    /// Bytes that the members take, beside the home's own.
    pub fn allocated_bytes(self) -> usize {
        match self.view {
            View::Pack(pack) => pack.len(),
            View::Tree(tree) => size_of::<Collection>() + tree.allocated_bytes(),
        }
    }

    /// Panics unless the structure is sound.
    pub fn check_invariants(self) {
        match self.view {
            View::Pack(pack) => {
                assert_eq!(listpack::validate(pack), Ok(()));
                let all: Vec<_> = self
                    .iter()
                    .map(|(member, s)| (s, member.to_vec()))
                    .collect();
                assert_eq!(all.len() * 2, listpack::len(pack));
                assert!(all.is_sorted_by(|a, b| a.0 < b.0 || a.0 == b.0 && a.1 < b.1));
            }
            View::Tree(tree) => tree.check_invariants(),
        }
    }
}

/// Members with scores, in the order of a walk. See [`ZsetRef::range`].
#[derive(Clone)]
pub struct Members<'a> {
    walk: Walk<'a>,
}

#[derive(Clone)]
enum Walk<'a> {
    Pack {
        pack: &'a [u8],
        at: usize,
        left: usize,
        reverse: bool,
    },
    Tree {
        entries: Entries<'a>,
        reverse: bool,
    },
}

impl<'a> Iterator for Members<'a> {
    type Item = (Item<'a>, f64);

    #[inline]
    fn next(&mut self) -> Option<(Item<'a>, f64)> {
        match &mut self.walk {
            Walk::Pack {
                pack,
                at,
                left,
                reverse,
            } => {
                *left = left.checked_sub(1)?;
                if *reverse {
                    *at = listpack::prev(pack, listpack::prev(pack, *at)?)?;
                    let pair = pair(pack, *at);
                    Some((pair.member, pair.score))
                } else {
                    let pair = pair(pack, *at);
                    *at = pair.next;
                    Some((pair.member, pair.score))
                }
            }
            Walk::Tree { entries, reverse } => {
                let entry = if *reverse {
                    entries.next_back()?
                } else {
                    entries.next()?
                };
                Some((Item::Bytes(entry.member()), entry.score()))
            }
        }
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        match &self.walk {
            Walk::Pack { left, .. } => (*left, Some(*left)),
            Walk::Tree { entries, .. } => entries.size_hint(),
        }
    }
}

impl ExactSizeIterator for Members<'_> {}

/// A sorted set in its home, for changing.
#[derive(Debug)]
pub struct ZsetMut<'l, H: Home> {
    /// Holds [`Encoding::ZsetPack`] or [`Encoding::ZsetTree`].
    pub home: H,
    /// When to leave the listpack.
    pub limits: &'l Limits,
}

impl<'l, H: Home> ZsetMut<'l, H> {
    /// The sorted set in `home`.
    pub fn new(home: H, limits: &'l Limits) -> ZsetMut<'l, H> {
        ZsetMut { home, limits }
    }

    /// The same set, for reading.
    pub fn view(&self) -> ZsetRef<'_> {
        ZsetRef::new(self.home.encoding(), self.home.payload())
            .expect("the home of a sorted set holds one")
    }

    /// Takes the encoding that a set of so many members, of at most so many bytes, will need.
    pub fn reserve(&mut self, members: usize, member_bytes_max: usize) {
        if members > self.limits.zset_max_listpack_entries
            || member_bytes_max > self.limits.zset_max_listpack_value
        {
            self.tree();
        }
    }

    /// Gives `member` a score, whatever it was. O(log n).
    pub fn set_score(&mut self, member: &[u8], score: f64) -> Change {
        self.update(member, |_| Some(score))
    }

    /// Gives `member` the score that `decide` makes of its present one; `None` leaves all as it is.
    /// The new score must not be NaN. O(log n); O(n) in a listpack.
    pub fn update(
        &mut self,
        member: &[u8],
        decide: impl FnOnce(Option<f64>) -> Option<f64>,
    ) -> Change {
        if self.home.encoding() == Encoding::ZsetTree {
            return self.tree().update(member, decide);
        }
        let blob = HomeBlob(&mut self.home);
        let pack = pack_of(&blob);
        if let Some(at) = listpack::find(pack, member, 1) {
            let old = pair(pack, at).score;
            return match decide(Some(old)) {
                None => Change::Skipped,
                Some(new) if new == old => Change::Same(old),
                Some(new) => {
                    self.rescore(at, member, new);
                    Change::Updated { old, new }
                }
            };
        }
        let Some(score) = decide(None) else {
            return Change::Skipped;
        };
        let fits = listpack::len(pack) / 2 < self.limits.zset_max_listpack_entries
            && member.len() <= self.limits.zset_max_listpack_value
            && listpack::has_room(pack, member.len());
        if fits {
            self.insert(member, score);
        } else {
            self.tree().update(member, |_| Some(score));
        }
        Change::Added(score)
    }

    /// Removes a member; the score it had. O(log n); O(n) in a listpack.
    pub fn remove(&mut self, member: &[u8]) -> Option<f64> {
        if self.home.encoding() == Encoding::ZsetTree {
            return self.tree().remove(member);
        }
        let mut blob = HomeBlob(&mut self.home);
        let at = listpack::find(pack_of(&blob), member, 1)?;
        let score = pair(pack_of(&blob), at).score;
        listpack::remove(&mut blob, at, 2);
        Some(score)
    }

    /// Removes the members of these ranks, lowest first, and shows each; how many there were.
    /// O(log n + removed).
    pub fn remove_ranks(
        &mut self,
        ranks: Range<usize>,
        removed: &mut dyn FnMut(&[u8], f64),
    ) -> usize {
        let end = ranks.end.min(self.view().len());
        let ranks = ranks.start.min(end)..end;
        if ranks.is_empty() {
            return 0;
        }
        if self.home.encoding() == Encoding::ZsetTree {
            self.tree().remove_ranks(ranks.clone(), removed);
            return ranks.len();
        }
        let mut buffer = ItemBuffer::new();
        for (member, score) in self.view().range(ranks.clone(), false) {
            removed(member.text(&mut buffer), score);
        }
        let mut blob = HomeBlob(&mut self.home);
        let at = position(pack_of(&blob), ranks.start);
        listpack::remove(&mut blob, at, ranks.len() * 2);
        ranks.len()
    }

    /// Removes the members with scores from `min` to `max`; see [`ZsetMut::remove_ranks`].
    pub fn remove_by_score(
        &mut self,
        min: ScoreBound,
        max: ScoreBound,
        removed: &mut dyn FnMut(&[u8], f64),
    ) -> usize {
        self.remove_ranks(self.view().ranks_by_score(min, max), removed)
    }

    /// Removes the members from `min` to `max`; see [`ZsetMut::remove_ranks`].
    pub fn remove_by_lex(
        &mut self,
        min: LexBound<'_>,
        max: LexBound<'_>,
        removed: &mut dyn FnMut(&[u8], f64),
    ) -> usize {
        self.remove_ranks(self.view().ranks_by_lex(min, max), removed)
    }

    /// Removes the lowest member and shows it; whether there was one. O(log n).
    pub fn pop_min(&mut self, removed: &mut dyn FnMut(&[u8], f64)) -> bool {
        self.remove_ranks(0..1, removed) == 1
    }

    /// Removes the highest member and shows it; whether there was one. O(log n).
    pub fn pop_max(&mut self, removed: &mut dyn FnMut(&[u8], f64)) -> bool {
        let len = self.view().len();
        self.remove_ranks(len.saturating_sub(1)..len, removed) == 1
    }

    /// The set as a tree, converted if it was a listpack.
    fn tree(&mut self) -> &mut ZsetTree {
        if self.home.encoding() != Encoding::ZsetTree {
            let mut tree = ZsetTree::new();
            let mut buffer = ItemBuffer::new();
            for (member, score) in self.view().iter() {
                tree.update(member.text(&mut buffer), |_| Some(score));
            }
            let big = Box::new(Collection::Zset(tree));
            self.home.put(Encoding::ZsetTree, NewPayload::Big(big));
        }
        match self.home.big_mut() {
            Some(Collection::Zset(tree)) => tree,
            _ => panic!("the home of a sorted set holds another payload than its encoding says"),
        }
    }

    /// Adds a pair to the listpack, where it belongs.
    fn insert(&mut self, member: &[u8], score: f64) {
        let mut blob = HomeBlob(&mut self.home);
        let pack = pack_of(&blob);
        let at = pairs(pack)
            .find(|pair| pair.order(score, member) == Ordering::Greater)
            .map_or(listpack::end(pack), |pair| pair.at);
        let mut encoder = Encoder::new();
        encoder.push(member);
        push_score(&mut encoder, score);
        listpack::insert_encoded(&mut blob, at, encoder.encoded(), 2);
    }

    /// Changes the score of the pair at `at`, in place if its neighbours allow it.
    fn rescore(&mut self, at: usize, member: &[u8], score: f64) {
        let mut blob = HomeBlob(&mut self.home);
        let pack = pack_of(&blob);
        let (_, score_at) = listpack::read(pack, at);
        let before = listpack::prev(pack, at).and_then(|at| listpack::prev(pack, at));
        let after = listpack::next(pack, score_at);
        let follows = before.is_none_or(|at| pair(pack, at).order(score, member).is_lt());
        let precedes = after.is_none_or(|at| pair(pack, at).order(score, member).is_gt());
        if follows && precedes {
            listpack::replace(&mut blob, score_at, score_text(score).as_slice());
        } else {
            listpack::remove(&mut blob, at, 2);
            self.insert(member, score);
        }
    }
}

fn pack_of<'b, H: Home>(blob: &'b HomeBlob<'_, H>) -> &'b [u8] {
    crate::encoding::blob::Blob::bytes(blob)
}

// ---- Pairs in a listpack -----------------------------------------------------------------------

struct Pair<'a> {
    at: usize,
    next: usize,
    member: Item<'a>,
    score: f64,
}

impl Pair<'_> {
    fn order(&self, score: f64, member: &[u8]) -> Ordering {
        match self.score.partial_cmp(&score) {
            Some(Ordering::Equal) => self.member.text(&mut ItemBuffer::new()).cmp(member),
            Some(order) => order,
            None => Ordering::Less,
        }
    }
}

/// The pair whose member is at position `at`.
fn pair(pack: &[u8], at: usize) -> Pair<'_> {
    let (member, score_at) = listpack::read(pack, at);
    let (score, next) = listpack::read(pack, score_at);
    let score = match score {
        Item::Int(n) => n as f64,
        Item::Bytes(text) => parse_f64(text).unwrap_or(0.0),
    };
    Pair {
        at,
        next,
        member,
        score,
    }
}

fn pairs(pack: &[u8]) -> impl Iterator<Item = Pair<'_>> {
    let end = listpack::end(pack);
    let mut at = position(pack, 0);
    std::iter::from_fn(move || {
        (at < end).then(|| {
            let pair = pair(pack, at);
            at = pair.next;
            pair
        })
    })
}

/// How many members, from the first, satisfy `before`.
fn count_text(pack: &[u8], before: &dyn Fn(&[u8]) -> bool) -> usize {
    let mut buffer = ItemBuffer::new();
    pairs(pack)
        .take_while(|pair| before(pair.member.text(&mut buffer)))
        .count()
}

/// The position of the pair with this rank, or the end.
fn position(pack: &[u8], rank: usize) -> usize {
    let index = i64::try_from(rank.saturating_mul(2)).unwrap_or(i64::MAX);
    listpack::seek(pack, index).unwrap_or(listpack::end(pack))
}

fn push_score(encoder: &mut Encoder, score: f64) {
    if score.abs() <= WHOLE_MAX && score.fract() == 0.0 {
        encoder.push_int(score as i64);
    } else {
        encoder.push(&score_text(score));
    }
}

fn score_text(score: f64) -> Vec<u8> {
    let mut text = Vec::with_capacity(25);
    // Adding zero turns -0 into 0.
    format_f64(score + 0.0, &mut text);
    text
}
