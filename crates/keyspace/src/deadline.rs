//! When keys fall due: a heap of hints, eight bytes each.
//!
//! ```text
//!   63                       28 27            0
//!   ┌──────────────────────────┬───────────────┐
//!   │ ms since the process's   │ low bits of   │
//!   │ epoch, saturating        │ the key's hash│
//!   └──────────────────────────┴───────────────┘
//! ```
//!
//! An entry is a hint, checked against the key when it fires: a deadline that moved later leaves
//! its hint behind, which re-files itself, so a sliding session files nothing; one that moved
//! earlier files a second hint. Deadlines more than two years away fire early and re-file.
//! The heap has four children a node, which halves the cache misses of a binary one.

use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Low hash bits in a hint.
const HASH_BITS: u32 = 28;
const HASH_MASK: u64 = (1 << HASH_BITS) - 1;
const MS_MAX: u64 = u64::MAX >> HASH_BITS;

/// Unix time that hints count from: the start of the process, less a minute.
fn epoch_ms() -> u64 {
    static EPOCH: OnceLock<u64> = OnceLock::new();
    *EPOCH.get_or_init(|| {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        (now.as_millis() as u64).saturating_sub(60_000)
    })
}

/// The deadlines of one shard.
#[derive(Debug, Default)]
pub struct DeadlineIndex {
    heap: Vec<u64>,
}

impl DeadlineIndex {
    /// An index without hints, which has allocated nothing.
    pub const fn new() -> DeadlineIndex {
        DeadlineIndex { heap: Vec::new() }
    }

    /// Hints, stale ones included.
    pub fn len(&self) -> usize {
        self.heap.len()
    }

    /// Whether there are no hints.
    pub fn is_empty(&self) -> bool {
        self.heap.is_empty()
    }

    /// Bytes of the index.
    pub fn allocated_bytes(&self) -> usize {
        self.heap.capacity() * size_of::<u64>()
    }

    /// The earliest deadline, Unix time. O(1).
    pub fn earliest_ms(&self) -> Option<u64> {
        self.heap
            .first()
            .map(|hint| (hint >> HASH_BITS) + epoch_ms())
    }

    /// Files a hint that the key of `hash` falls due at `deadline_ms`. O(1) on average.
    pub fn file(&mut self, deadline_ms: u64, hash: u64) {
        let ms = deadline_ms.saturating_sub(epoch_ms()).min(MS_MAX);
        if self.heap.len() == self.heap.capacity() {
            self.heap.reserve_exact(self.heap.len() / 8 + 4);
        }
        self.heap.push((ms << HASH_BITS) | (hash & HASH_MASK));
        let mut at = self.heap.len() - 1;
        while at > 0 && self.heap[at] < self.heap[(at - 1) / 4] {
            self.heap.swap(at, (at - 1) / 4);
            at = (at - 1) / 4;
        }
    }

    /// The low hash bits of up to `n` keys, those of the key due first and of others due soon.
    pub fn soonest(&self, n: usize) -> impl Iterator<Item = u64> {
        self.heap.iter().take(n).map(|hint| hint & HASH_MASK)
    }

    /// The low hash bits of `n` keys chosen by `random`; the same one perhaps twice.
    pub fn some(&self, n: usize, random: u64) -> impl Iterator<Item = u64> {
        let mut random = random;
        (0..n).filter_map(move |_| {
            random = random
                .wrapping_mul(0x5851_f42d_4c95_7f2d)
                .wrapping_add(0x1405_7b7e_f767_814f);
            let at = ((random >> 32) * self.heap.len() as u64) >> 32;
            self.heap.get(at as usize).map(|hint| hint & HASH_MASK)
        })
    }

    /// Takes a hint that is due at `now_ms`: the low hash bits of its key. O(log n).
    pub fn pop_due(&mut self, now_ms: u64) -> Option<u64> {
        if self.earliest_ms()? > now_ms {
            return None;
        }
        let hint = self.heap.swap_remove(0);
        self.sift_down();
        if self.heap.capacity() > 64 && self.heap.len() < self.heap.capacity() / 4 {
            self.heap.shrink_to(self.heap.len() * 2);
        }
        Some(hint & HASH_MASK)
    }

    /// Lets the hint on top sink to its place.
    fn sift_down(&mut self) {
        let Some(&hint) = self.heap.first() else {
            return;
        };
        let (mut at, mut first) = (0, 1);
        while first < self.heap.len() {
            let children = &self.heap[first..self.heap.len().min(first + 4)];
            let (mut least, mut least_hint) = (0, children[0]);
            for (idx, &child) in children.iter().enumerate().skip(1) {
                if child < least_hint {
                    (least, least_hint) = (idx, child);
                }
            }
            if hint <= least_hint {
                break;
            }
            self.heap[at] = least_hint;
            at = first + least;
            first = 4 * at + 1;
        }
        self.heap[at] = hint;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hints_come_out_in_order_and_never_early() {
        let (mut index, base) = (DeadlineIndex::new(), epoch_ms());
        let mut deadlines: Vec<u64> = (0..2_000).map(|i| base + (i * 7919) % 5_000).collect();
        for (hash, deadline_ms) in deadlines.iter().enumerate() {
            index.file(*deadline_ms, hash as u64);
        }
        deadlines.sort_unstable();
        for deadline_ms in deadlines {
            assert_eq!(index.earliest_ms(), Some(deadline_ms));
            assert_eq!(index.pop_due(deadline_ms - 1), None);
            assert!(index.pop_due(deadline_ms).is_some());
        }
        assert!(index.is_empty());
    }

    #[test]
    fn a_deadline_beyond_the_range_fires_early_instead_of_never() {
        let mut index = DeadlineIndex::new();
        index.file(u64::MAX, 5);
        assert!(index.earliest_ms().is_some_and(|ms| ms < u64::MAX));
        assert_eq!(index.pop_due(u64::MAX), Some(5));
    }
}
