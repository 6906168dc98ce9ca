//! Bitmaps: strings seen as bits. Bit 0 is the highest bit of the first byte.
//!
//! Whole ranges are worked through in words of 64 bits, or in plain byte loops that the compiler
//! turns into vectors, so that counting, seeking and combining run at the speed of memory.
//! Integers of 1 to 64 bits at any bit are in [`field`].

pub mod field;

use std::ops::Range;

use crate::encoding::ones::count_ones;

/// Bytes that an operation over several bitmaps works on at a time: they stay in the first cache.
const BLOCK_BYTES: usize = 8 << 10;

/// The bit at `at`; bits beyond the end are zero. O(1).
pub fn get(bytes: &[u8], at: u64) -> bool {
    let byte = usize::try_from(at >> 3).ok().and_then(|at| bytes.get(at));
    byte.is_some_and(|byte| byte >> (7 - (at & 7)) & 1 == 1)
}

/// Sets the bit at `at`, which is inside; what it was. O(1).
pub fn set(bytes: &mut [u8], at: u64, value: bool) -> bool {
    let byte = &mut bytes[(at >> 3) as usize];
    let mask = 0x80 >> (at & 7);
    let old = *byte & mask != 0;
    *byte = if value { *byte | mask } else { *byte & !mask };
    old
}

/// The ones among the bits of `range`, which is inside. O(bytes).
pub fn count(bytes: &[u8], range: Range<u64>) -> u64 {
    if range.is_empty() {
        return 0;
    }
    let (first, last) = ((range.start >> 3) as usize, ((range.end - 1) >> 3) as usize);
    let before = bytes[first] & !(0xff >> (range.start & 7));
    let after = bytes[last] & (0x7f >> ((range.end - 1) & 7));
    count_ones(&bytes[first..=last]) - u64::from(before.count_ones() + after.count_ones())
}

/// The first eight bytes, the first of them highest.
fn word(bytes: &[u8]) -> u64 {
    let mut word = [0; 8];
    word.copy_from_slice(&bytes[..8]);
    u64::from_be_bytes(word)
}

/// The first bit of `range`, which is inside, that is `wanted`. O(bytes).
pub fn position(bytes: &[u8], range: Range<u64>, wanted: bool) -> Option<u64> {
    let mut at = range.start;
    while at < range.end && at & 7 != 0 {
        if get(bytes, at) == wanted {
            return Some(at);
        }
        at += 1;
    }
    if at >= range.end {
        return None;
    }
    let flip = if wanted { 0 } else { u64::MAX };
    let whole = &bytes[(at >> 3) as usize..range.end.div_ceil(8) as usize];
    let mut words = whole.chunks_exact(8);
    let found = words
        .by_ref()
        .map(|bytes| word(bytes) ^ flip)
        .enumerate()
        .find(|(_, word)| *word != 0)
        .map(|(n, word)| n as u64 * 64 + u64::from(word.leading_zeros()));
    let in_rest = || {
        let passed = (whole.len() & !7) as u64 * 8;
        let rest = words.remainder().iter().map(|byte| byte ^ flip as u8);
        rest.enumerate()
            .find(|(_, byte)| *byte != 0)
            .map(|(n, byte)| passed + n as u64 * 8 + u64::from(byte.leading_zeros()))
    };
    found
        .or_else(in_rest)
        .map(|offset| at + offset)
        .filter(|at| *at < range.end)
}

/// What is made of several bitmaps, bit by bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// In all of them.
    And,
    /// In any of them.
    Or,
    /// In an odd number of them.
    Xor,
    /// Not in the only one.
    Not,
    /// In the first and in none of the others.
    Diff,
    /// In any of the others, but not in the first.
    Diff1,
    /// In the first and in any of the others.
    AndOr,
    /// In exactly one of them.
    One,
}

/// The bitmap that `operation` makes of `sources`, as long as the longest; shorter ones are filled
/// up with zeros. O(all bytes).
pub fn combine(operation: Operation, sources: &[&[u8]]) -> Vec<u8> {
    let len = sources.iter().map(|source| source.len()).max().unwrap_or(0);
    let mut result = vec![0; len];
    for (n, block) in result.chunks_mut(BLOCK_BYTES).enumerate() {
        let from = n * BLOCK_BYTES;
        let to = from + block.len();
        let parts = sources.iter().map(|source| {
            let end = source.len().min(to);
            source.get(from..end).unwrap_or_default()
        });
        combine_block(operation, block, parts);
    }
    result
}

/// The same for a block of zeros and the parts that lie over it, each as long at most.
fn combine_block<'a>(
    operation: Operation,
    block: &mut [u8],
    mut parts: impl Iterator<Item = &'a [u8]>,
) {
    let mut first = || parts.next().unwrap_or_default();
    match operation {
        Operation::And => {
            or(block, first());
            parts.for_each(|part| and(block, part));
        }
        Operation::Or => parts.for_each(|part| or(block, part)),
        Operation::Xor => parts.for_each(|part| xor(block, part)),
        Operation::Not => {
            or(block, first());
            block.iter_mut().for_each(|byte| *byte = !*byte);
        }
        Operation::Diff | Operation::Diff1 | Operation::AndOr => {
            let first = first();
            parts.for_each(|part| or(block, part));
            match operation {
                Operation::AndOr => and(block, first),
                Operation::Diff1 => and_not(block, first),
                _ => {
                    and(block, first);
                    xor(block, first);
                }
            }
        }
        Operation::One => {
            let mut seen_twice = vec![0; block.len()];
            for part in parts {
                for ((twice, once), byte) in seen_twice.iter_mut().zip(&mut *block).zip(part) {
                    *twice |= *once & byte;
                    *once |= byte;
                }
            }
            and_not(block, &seen_twice);
        }
    }
}

fn and(block: &mut [u8], part: &[u8]) {
    block
        .iter_mut()
        .zip(part)
        .for_each(|(byte, with)| *byte &= with);
    block[part.len()..].fill(0);
}

fn or(block: &mut [u8], part: &[u8]) {
    block
        .iter_mut()
        .zip(part)
        .for_each(|(byte, with)| *byte |= with);
}

fn xor(block: &mut [u8], part: &[u8]) {
    block
        .iter_mut()
        .zip(part)
        .for_each(|(byte, with)| *byte ^= with);
}

fn and_not(block: &mut [u8], part: &[u8]) {
    block
        .iter_mut()
        .zip(part)
        .for_each(|(byte, without)| *byte &= !without);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn sample(random: &mut Random, len: usize) -> Vec<u8> {
        // Long runs of zeros and ones, too.
        let mask = [0, 0xff, random.below(256) as u8];
        let byte = |random: &mut Random| match random.below(8) {
            0 => random.below(256) as u8,
            _ => mask[random.below(3) as usize],
        };
        (0..len).map(|_| byte(random)).collect()
    }

    #[test]
    fn ranges_agree_with_single_bits() {
        let mut random = Random(7);
        for _ in 0..300 {
            let len = 1 + random.below(700) as usize;
            let bytes = match random.below(3) {
                0 => vec![0xff; len],
                1 => vec![0; len],
                _ => sample(&mut random, len),
            };
            let end = 1 + random.below(len as u64 * 8);
            let start = random.below(end + 1);
            let bits = || (start..end).map(|at| get(&bytes, at));
            let ones = bits().filter(|bit| *bit).count() as u64;
            assert_eq!(count(&bytes, start..end), ones, "{start}..{end} of {bytes:?}");
            for wanted in [false, true] {
                let first = bits().position(|bit| bit == wanted);
                let first = first.map(|offset| start + offset as u64);
                assert_eq!(position(&bytes, start..end, wanted), first, "{start}..{end}");
            }
        }
    }

    #[test]
    fn operations_agree_with_single_bits() {
        let mut random = Random(8);
        use Operation::*;
        for operation in [And, Or, Xor, Not, Diff, Diff1, AndOr, One] {
            for _ in 0..20 {
                let n = if operation == Not {
                    1
                } else {
                    2 + random.below(4) as usize
                };
                let sources: Vec<Vec<u8>> = (0..n)
                    .map(|_| {
                        let len = random.below(2 * BLOCK_BYTES as u64 + 9) as usize;
                        sample(&mut random, len)
                    })
                    .collect();
                let views: Vec<&[u8]> = sources.iter().map(|source| &source[..]).collect();
                let result = combine(operation, &views);
                for at in (0..result.len() as u64 * 8).step_by(17) {
                    let bits: Vec<bool> = views.iter().map(|view| get(view, at)).collect();
                    let n_ones = bits.iter().filter(|bit| **bit).count();
                    let in_others = bits[1..].contains(&true);
                    let expected = match operation {
                        And => n_ones == n,
                        Or => n_ones > 0,
                        Xor => n_ones % 2 == 1,
                        Not => n_ones == 0,
                        Diff => bits[0] && !in_others,
                        Diff1 => !bits[0] && in_others,
                        AndOr => bits[0] && in_others,
                        One => n_ones == 1,
                    };
                    assert_eq!(get(&result, at), expected, "{operation:?} at {at}");
                }
            }
        }
    }

    #[test]
    fn a_bit_is_read_as_it_was_set() {
        let mut bytes = [0; 3];
        assert!(!set(&mut bytes, 0, true));
        assert!(set(&mut bytes, 0, true));
        assert!(!set(&mut bytes, 23, true));
        assert_eq!(bytes, [0x80, 0, 1]);
        assert!(set(&mut bytes, 0, false));
        assert_eq!(bytes, [0, 0, 1]);
        assert!(!get(&bytes, 24));
        assert!(!get(&bytes, u64::MAX));
    }
}
