//! Intset: distinct integers in a sorted array, all as wide as the widest needs.
//!
//! ```text
//!   width u32 LE (2, 4 or 8 bytes) | count u32 LE | integers LE, ascending
//! ```
//!
//! The bytes are those of an RDB file. It widens when a number asks for it and never narrows.
//! Only [`validate`] may be fed unchecked bytes.

use super::blob::Blob;
use super::listpack::Corrupt;

/// An intset without numbers.
pub const EMPTY: [u8; 8] = [2, 0, 0, 0, 0, 0, 0, 0];

const HEADER: usize = 8;

/// How many numbers. O(1).
#[inline]
pub fn len(set: &[u8]) -> usize {
    u32::from_le_bytes([set[4], set[5], set[6], set[7]]) as usize
}

#[inline]
fn width(set: &[u8]) -> usize {
    usize::from(set[0])
}

#[inline]
fn width_for(n: i64) -> usize {
    match n {
        -32768..=32767 => 2,
        -2147483648..=2147483647 => 4,
        _ => 8,
    }
}

/// The number with this index in ascending order, which is below [`len`]. O(1).
#[inline]
pub fn get(set: &[u8], index: usize) -> i64 {
    match width(set) {
        2 => i64::from(i16::from_le_bytes(number(set, index))),
        4 => i64::from(i32::from_le_bytes(number(set, index))),
        _ => i64::from_le_bytes(number(set, index)),
    }
}

#[inline]
fn number<const WIDTH: usize>(set: &[u8], index: usize) -> [u8; WIDTH] {
    let at = HEADER + index * WIDTH;
    let mut bytes = [0; WIDTH];
    bytes.copy_from_slice(&set[at..at + WIDTH]);
    bytes
}

/// The index of `n`, or the one where it would be. O(log n).
pub fn find(set: &[u8], n: i64) -> Result<usize, usize> {
    let (mut low, mut high) = (0, len(set));
    if high > 0 && n > get(set, high - 1) {
        return Err(high);
    }
    while low < high {
        let middle = low + (high - low) / 2;
        match get(set, middle).cmp(&n) {
            std::cmp::Ordering::Less => low = middle + 1,
            std::cmp::Ordering::Equal => return Ok(middle),
            std::cmp::Ordering::Greater => high = middle,
        }
    }
    Err(low)
}

/// Whether `n` is a member. O(log n).
#[inline]
pub fn contains(set: &[u8], n: i64) -> bool {
    width_for(n) <= width(set) && find(set, n).is_ok()
}

/// A member chosen by 64 random bits. O(1).
pub fn random(set: &[u8], bits: u64) -> Option<i64> {
    let len = len(set) as u64;
    (len > 0).then(|| get(set, (bits % len) as usize))
}

/// All numbers, ascending.
#[inline]
pub fn iter(set: &[u8]) -> Iter<'_> {
    Iter {
        set,
        next: 0,
        end: len(set),
    }
}

/// See [`iter`].
#[derive(Clone, Copy, Debug)]
pub struct Iter<'a> {
    set: &'a [u8],
    next: usize,
    end: usize,
}

impl Iterator for Iter<'_> {
    type Item = i64;

    #[inline]
    fn next(&mut self) -> Option<i64> {
        if self.next == self.end {
            return None;
        }
        self.next += 1;
        Some(get(self.set, self.next - 1))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.end - self.next, Some(self.end - self.next))
    }
}

impl ExactSizeIterator for Iter<'_> {}

/// Adds `n`; whether it was new. O(n).
pub fn add<B: Blob>(blob: &mut B, n: i64) -> bool {
    let set = blob.bytes();
    let width = width(set);
    if width_for(n) > width {
        widen_and_add(blob, n);
        return true;
    }
    let Err(index) = find(set, n) else {
        return false;
    };
    let count = len(set) + 1;
    blob.splice(HEADER + index * width, 0, &n.to_le_bytes()[..width]);
    set_len(blob, count);
    true
}

/// A number wider than all others lies outside their range: it becomes the first or the last.
fn widen_and_add<B: Blob>(blob: &mut B, n: i64) {
    let old = blob.bytes();
    let (old_bytes, count, width) = (old.len(), len(old) + 1, width_for(n));
    let mut new = Vec::with_capacity(HEADER + count * width);
    new.extend_from_slice(&(width as u32).to_le_bytes());
    new.extend_from_slice(&(count as u32).to_le_bytes());
    let (before, after) = if n < 0 {
        (Some(n), None)
    } else {
        (None, Some(n))
    };
    for number in before.into_iter().chain(iter(old)).chain(after) {
        new.extend_from_slice(&number.to_le_bytes()[..width]);
    }
    blob.splice(0, old_bytes, &new);
}

/// Removes `n`; whether it was there. O(n).
pub fn remove<B: Blob>(blob: &mut B, n: i64) -> bool {
    match find(blob.bytes(), n) {
        Ok(index) => {
            remove_at(blob, index);
            true
        }
        Err(_) => false,
    }
}

/// Removes the number with this index, which is below [`len`]. O(n).
pub fn remove_at<B: Blob>(blob: &mut B, index: usize) {
    let set = blob.bytes();
    let (width, count) = (width(set), len(set) - 1);
    blob.splice(HEADER + index * width, width, &[]);
    set_len(blob, count);
}

fn set_len<B: Blob>(blob: &mut B, count: usize) {
    blob.bytes_mut()[4..8].copy_from_slice(&(count as u32).to_le_bytes());
}

/// Checks sizes and order. Takes any input. O(n).
pub fn validate(set: &[u8]) -> Result<(), Corrupt> {
    if set.len() < HEADER || !matches!(set[..4], [2 | 4 | 8, 0, 0, 0]) {
        return Err(Corrupt { offset: 0 });
    }
    if len(set).checked_mul(width(set)) != Some(set.len() - HEADER) {
        return Err(Corrupt { offset: 4 });
    }
    for index in 1..len(set) {
        if get(set, index - 1) >= get(set, index) {
            return Err(Corrupt {
                offset: HEADER + index * width(set),
            });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;
    use std::collections::BTreeSet;

    #[test]
    fn bytes_are_those_of_the_format() {
        let mut set = EMPTY.to_vec();
        add(&mut set, 5);
        add(&mut set, -1);
        assert_eq!(set, [2, 0, 0, 0, 2, 0, 0, 0, 0xff, 0xff, 5, 0]);
        add(&mut set, 70_000);
        let wide = [
            4, 0, 0, 0, 3, 0, 0, 0, 255, 255, 255, 255, 5, 0, 0, 0, 0x70, 0x11, 1, 0,
        ];
        assert_eq!(set, wide);
    }

    #[test]
    fn operations_agree_with_a_tree() {
        let mut random = Random(3);
        for round in 0..60 {
            let (mut set, mut model) = (EMPTY.to_vec(), BTreeSet::new());
            let bits = [6, 20, 40, 63][round % 4];
            for _ in 0..200 {
                let n = (random.next() as i64) >> (64 - 1 - random.below(bits + 1));
                match random.below(3) {
                    0 => assert_eq!(remove(&mut set, n), model.remove(&n)),
                    _ => assert_eq!(add(&mut set, n), model.insert(n)),
                }
                assert_eq!(validate(&set), Ok(()));
                assert!(iter(&set).eq(model.iter().copied()));
                let probe = random.below(64) as i64 - 32;
                assert_eq!(contains(&set, probe), model.contains(&probe));
            }
            assert!(random_members_are_members(&set, &mut random));
        }
    }

    fn random_members_are_members(set: &[u8], bits: &mut Random) -> bool {
        (0..20).all(|_| random(set, bits.next()).is_none_or(|n| contains(set, n)))
    }

    #[test]
    fn validation_survives_any_damage() {
        let mut random = Random(4);
        let mut set = EMPTY.to_vec();
        for _ in 0..10 {
            add(&mut set, random.below(1000) as i64);
        }
        for _ in 0..20_000 {
            let mut damaged = set.clone();
            let at = random.below(damaged.len() as u64) as usize;
            damaged[at] = random.next() as u8;
            damaged.truncate(random.below(2 * set.len() as u64) as usize);
            if validate(&damaged).is_ok() {
                assert!(iter(&damaged).all(|n| contains(&damaged, n)));
            }
        }
        assert!(validate(&[2, 0, 0, 0, 2, 0, 0, 0, 5, 0, 5, 0]).is_err());
    }
}
