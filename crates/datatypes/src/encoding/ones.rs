//! Counting ones, with the instruction for it where the processor has one.
//!
//! Processors of the oldest kind that we are compiled for have none; whether this one does is asked
//! once, by the standard library.

#![allow(unsafe_code)]

/// All ones. O(bytes).
pub fn count_ones(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("popcnt") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { with_popcnt(bytes) };
    }
    in_words(bytes)
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "popcnt")]
fn with_popcnt(bytes: &[u8]) -> u64 {
    in_words(bytes)
}

#[inline(always)]
fn in_words(bytes: &[u8]) -> u64 {
    let (chunks, rest) = bytes.as_chunks::<32>();
    let mut sums = [0; 4]; // side by side: one sum would wait for itself
    for chunk in chunks {
        for (sum, word) in sums.iter_mut().zip(chunk.as_chunks().0) {
            *sum += u64::from(u64::from_ne_bytes(*word).count_ones());
        }
    }
    let rest = rest.iter().map(|byte| u64::from(byte.count_ones()));
    sums.iter().sum::<u64>() + rest.sum::<u64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn both_ways_count_what_bytes_hold() {
        let mut random = Random(3);
        for _ in 0..200 {
            let bytes = random.item(300);
            let expected = bytes.iter().map(|byte| u64::from(byte.count_ones())).sum();
            assert_eq!((count_ones(&bytes), in_words(&bytes)), (expected, expected));
        }
    }
}
