//! Random operations against a sorted vector, with ties in scores and both directions.

use super::*;
use crate::encoding::scored::Scored;

struct Model {
    tree: RankTree,
    blocks: Vec<(f64, Scored)>,
}

/// A small linear generator: tests want the same run every time.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        ((self.0 >> 33) as usize) % sides
    }
}

impl Model {
    fn new() -> Model {
        Model {
            tree: RankTree::new(),
            blocks: Vec::new(),
        }
    }

    fn place(&self, score: f64, member: &[u8]) -> usize {
        self.blocks
            .partition_point(|(s, b)| *s < score || *s == score && b.member() < member)
    }

    fn insert(&mut self, score: f64, member: &[u8]) {
        if self
            .blocks
            .iter()
            .any(|(_, block)| block.member() == member)
        {
            return;
        }
        let block = Scored::new(score, member);
        // SAFETY: the model keeps the block until it has left the tree.
        unsafe { self.tree.insert(score, block.block()) };
        let at = self.place(score, member);
        self.blocks.insert(at, (score, block));
    }

    fn rescore(&mut self, at: usize, new: f64) {
        let (old, block) = self.blocks.remove(at);
        assert!(self.tree.rescore(old, new, block.member()));
        let at = self.place(new, block.member());
        self.blocks.insert(at, (new, block));
    }

    fn remove(&mut self, at: usize) {
        let (score, block) = &self.blocks[at];
        assert!(!self.tree.remove(score + 0.5, block.member()));
        assert!(self.tree.remove(*score, block.member()));
        self.blocks.remove(at);
    }

    fn cut(&mut self, ranks: Range<usize>) {
        self.tree.remove_ranks(ranks.clone());
        self.blocks.drain(ranks);
    }

    fn check(&self, dice: &mut Dice) {
        self.tree.check_invariants();
        assert_eq!(self.tree.len(), self.blocks.len());
        let from = dice.roll(self.blocks.len() + 1);
        let to = from + dice.roll(self.blocks.len() - from + 1);
        let wanted: Vec<_> = self.blocks[from..to]
            .iter()
            .map(|(s, b)| (*s, b.member()))
            .collect();
        let range = self.tree.range(from..to);
        assert_eq!(range.len(), wanted.len());
        assert!(
            range
                .clone()
                .map(|e| (e.score(), e.member()))
                .eq(wanted.iter().copied())
        );
        assert!(
            range
                .rev()
                .map(|e| (e.score(), e.member()))
                .eq(wanted.iter().rev().copied())
        );
        for (rank, (score, block)) in self.blocks.iter().enumerate().skip(from).take(5) {
            assert_eq!(self.tree.rank(*score, block.member()), rank);
            assert_eq!(self.tree.entry(rank).map(|e| e.member()), Some(block.member()));
            let below = self.blocks.partition_point(|(s, _)| s < score);
            assert_eq!(self.tree.partition(|e| e.score() < *score), below);
        }
    }
}

fn run(seed: u64, steps: usize, scores: usize, growth: usize) {
    let mut dice = Dice(seed);
    let mut model = Model::new();
    for step in 0..steps {
        let number = dice.roll(1 << 20);
        match dice.roll(10) {
            kind if kind < growth || model.blocks.is_empty() => {
                model.insert(dice.roll(scores) as f64, format!("m{number}").as_bytes());
            }
            kind if kind % 3 == 0 => model.remove(number % model.blocks.len()),
            kind if kind % 3 == 1 => {
                model.rescore(number % model.blocks.len(), dice.roll(scores) as f64);
            }
            _ => {
                let from = number % model.blocks.len();
                let to = from
                    + dice
                        .roll(model.blocks.len() - from + 1)
                        .min(1 << dice.roll(9));
                model.cut(from..to);
            }
        }
        if step % 16 == 0 {
            model.check(&mut dice);
        }
    }
    let len = model.blocks.len();
    model.cut(0..len);
    model.check(&mut dice);
    assert_eq!(model.tree.allocated_bytes(), 0);
}

#[test]
fn random_operations_agree_with_a_sorted_vector() {
    run(1, 4000, 1000, 9);
    run(2, 4000, 3, 9);
    run(3, 4000, 50, 5);
    run(4, 500, 1, 8);
}

#[test]
fn ascending_and_descending_input_fills_leaves() {
    for descending in [false, true] {
        let mut tree = RankTree::new();
        let count = 20_000;
        let blocks: Vec<_> = (0..count)
            .map(|n| Scored::new(f64::from(n), b"m"))
            .collect();
        for at in 0..blocks.len() {
            let at = if descending {
                blocks.len() - 1 - at
            } else {
                at
            };
            // SAFETY: the vector outlives the tree's use.
            unsafe { tree.insert(blocks[at].score(), blocks[at].block()) };
        }
        tree.check_invariants();
        assert!(tree.allocated_bytes() < blocks.len() * 18, "{}", tree.allocated_bytes());
        while !tree.is_empty() {
            tree.remove_ranks(0..1);
        }
        tree.check_invariants();
    }
}

#[test]
fn random_input_wastes_little() {
    let mut dice = Dice(7);
    let mut model = Model::new();
    for n in 0..20_000 {
        let block = Scored::new(dice.roll(1 << 30) as f64, format!("{n}").as_bytes());
        // SAFETY: the model keeps the block beyond the tree's use.
        unsafe { model.tree.insert(block.score(), block.block()) };
        model.blocks.push((block.score(), block));
    }
    model.tree.check_invariants();
    let bytes = model.tree.allocated_bytes();
    assert!(bytes < model.blocks.len() * 20, "{bytes}");
}

#[test]
fn infinities_and_zeros_are_ordered() {
    let mut model = Model::new();
    for (n, score) in [0.0, -0.0, f64::INFINITY, f64::NEG_INFINITY, 1e308]
        .into_iter()
        .enumerate()
    {
        model.insert(score, format!("{n}").as_bytes());
    }
    let order: Vec<_> = model
        .tree
        .range(0..9)
        .map(|e| e.member().to_vec())
        .collect();
    assert_eq!(order, [b"3", b"0", b"1", b"4", b"2"]);
}
