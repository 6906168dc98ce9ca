//! Random choice without repetition, for the commands that ask for several members.

use std::collections::HashSet;

/// A source of 64 random bits.
pub type Bits<'r> = &'r mut dyn FnMut() -> u64;

/// `count` distinct indices below `len`, ascending; all of them if there are fewer. Every subset
/// is equally likely. O(count log count).
pub fn distinct_indices(len: usize, count: usize, bits: Bits<'_>) -> Vec<usize> {
    if count >= len {
        return (0..len).collect();
    }
    // R. Floyd's sampling: one draw per index, a repeated one is replaced by the newest bound.
    let mut chosen = HashSet::with_capacity(count);
    for bound in len - count..len {
        let drawn = (bits() % (bound as u64 + 1)) as usize;
        if !chosen.insert(drawn) {
            chosen.insert(bound);
        }
    }
    let mut chosen: Vec<usize> = chosen.into_iter().collect();
    chosen.sort_unstable();
    chosen
}

/// The elements of `all` whose indices are in `indices`, which ascend.
pub(crate) fn at_indices<T>(all: impl Iterator<Item = T>, indices: &[usize]) -> Vec<T> {
    let mut wanted = indices.iter().copied().peekable();
    let mut picked = Vec::with_capacity(indices.len());
    for (index, element) in all.enumerate() {
        match wanted.peek() {
            None => break,
            Some(&next) if next == index => {
                picked.push(element);
                wanted.next();
            }
            Some(_) => {}
        }
    }
    picked
}

/// `count` distinct elements of a table of `len`: drawn one by one while that is quick, otherwise
/// by walking `all`. `address` tells elements apart. O(count), or O(len) if count is over a third.
pub(crate) fn distinct<T>(
    (len, count): (usize, usize),
    bits: Bits<'_>,
    sample: impl Fn(u64) -> Option<T>,
    all: impl Iterator<Item = T>,
    address: impl Fn(&T) -> usize,
) -> Vec<T> {
    if count.saturating_mul(3) > len {
        return at_indices(all, &distinct_indices(len, count, bits));
    }
    let mut seen = HashSet::with_capacity(count);
    let mut picked = Vec::with_capacity(count);
    while picked.len() < count {
        let Some(element) = sample(bits()) else { break };
        if seen.insert(address(&element)) {
            picked.push(element);
        }
    }
    picked
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn indices_are_distinct_in_bounds_and_spread() {
        let mut random = Random(6);
        let mut hits = [0; 10];
        for _ in 0..2000 {
            let indices = distinct_indices(10, 3, &mut || random.next());
            assert_eq!(indices.len(), 3);
            assert!(indices.windows(2).all(|pair| pair[0] < pair[1]));
            indices.iter().for_each(|&index| hits[index] += 1);
        }
        assert!(hits.iter().all(|&n| (450..750).contains(&n)), "{hits:?}");
        assert_eq!(distinct_indices(2, 5, &mut || 0), [0, 1]);
        assert_eq!(at_indices("abcdef".chars(), &[0, 3, 5]), ['a', 'd', 'f']);
    }
}
