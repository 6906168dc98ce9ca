//! The tree of ranks must agree with a sorted vector, with many ties among the scores.
//!
//! Input: operations of four bytes: what to do, a score, a member or a rank.

#![no_main]

use datatypes::encoding::ranktree::RankTree;
use datatypes::encoding::scored::Scored;
use libfuzzer_sys::fuzz_target;

/// The tree refers to blocks that the vector owns, so it is declared, and dropped, first.
#[derive(Default)]
struct Trial {
    tree: RankTree,
    sorted: Vec<(f64, Scored)>,
}

impl Trial {
    fn place(&self, score: f64, member: &[u8]) -> usize {
        self.sorted.partition_point(|(other, block)| {
            *other < score || *other == score && block.member() < member
        })
    }

    fn insert(&mut self, score: f64, member: &[u8]) {
        if self
            .sorted
            .iter()
            .any(|(_, block)| block.member() == member)
        {
            return;
        }
        let (at, block) = (self.place(score, member), Scored::new(score, member));
        // SAFETY: the vector keeps the block until it has left the tree.
        unsafe { self.tree.insert(score, block.block()) };
        self.sorted.insert(at, (score, block));
    }

    fn rescore(&mut self, rank: usize, score: f64) {
        let (old, block) = self.sorted.remove(rank);
        assert!(self.tree.rescore(old, score, block.member()));
        let at = self.place(score, block.member());
        self.sorted.insert(at, (score, block));
    }

    fn remove(&mut self, rank: usize) {
        let (score, block) = &self.sorted[rank];
        assert!(!self.tree.remove(score + 0.5, block.member()));
        assert!(self.tree.remove(*score, block.member()));
        self.sorted.remove(rank);
    }

    fn check(&self) {
        self.tree.check_invariants();
        assert_eq!(self.tree.len(), self.sorted.len());
        let pairs = || {
            self.sorted
                .iter()
                .map(|(score, block)| (*score, block.member()))
        };
        let range = || {
            self.tree
                .range(0..self.sorted.len())
                .map(|e| (e.score(), e.member()))
        };
        assert!(range().eq(pairs()));
        assert!(range().rev().eq(pairs().rev()));
        for (rank, (score, member)) in pairs().enumerate() {
            assert_eq!(self.tree.rank(score, member), rank);
            assert_eq!(self.tree.entry(rank).map(|entry| entry.member()), Some(member));
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let mut trial = Trial::default();
    for (n, step) in input.chunks_exact(4).enumerate() {
        let (score, number) = (f64::from(step[1] as i8), u16::from_be_bytes([step[2], step[3]]));
        let rank = usize::from(number) % trial.sorted.len().max(1);
        match step[0] % 8 {
            0 if !trial.sorted.is_empty() => trial.remove(rank),
            1 if !trial.sorted.is_empty() => trial.rescore(rank, score),
            2 => {
                let end = trial.sorted.len().min(rank + usize::from(step[1]));
                trial.tree.remove_ranks(rank..end);
                trial.sorted.drain(rank..end);
            }
            3 => (0..64).for_each(|low| trial.insert(score, &[step[2], low])),
            _ => trial.insert(score, &number.to_be_bytes()),
        }
        if n % 32 == 0 {
            trial.check();
        }
    }
    trial.check();
});
