//! Counting ones, with the instruction for it where the processor has one: of a word, or of eight at once.
//!
//! Processors of the oldest kind that we are compiled for have none; what this one has is asked once, by the
//! standard library.

#![allow(unsafe_code)]

/// All ones. O(bytes).
pub fn count_ones(bytes: &[u8]) -> u64 {
    #[cfg(target_arch = "x86_64")]
    if is_x86_feature_detected!("avx512vpopcntdq") && is_x86_feature_detected!("avx512f") {
        // SAFETY: the processor has what the function is compiled for.
        return unsafe { with_vector_popcnt(bytes) };
    }
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

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512vpopcntdq")]
fn with_vector_popcnt(bytes: &[u8]) -> u64 {
    use std::arch::x86_64::{
        _mm512_add_epi64, _mm512_loadu_si512, _mm512_popcnt_epi64, _mm512_reduce_add_epi64,
        _mm512_setzero_si512,
    };
    let (chunks, rest) = bytes.as_chunks::<128>();
    let mut sums = [_mm512_setzero_si512(); 2];
    for chunk in chunks {
        for (sum, half) in sums.iter_mut().zip(chunk.as_chunks::<64>().0) {
            // SAFETY: so many bytes are there, and need not be aligned.
            let half = unsafe { _mm512_loadu_si512(half.as_ptr().cast()) };
            *sum = _mm512_add_epi64(*sum, _mm512_popcnt_epi64(half));
        }
    }
    let sum = _mm512_reduce_add_epi64(_mm512_add_epi64(sums[0], sums[1]));
    sum as u64 + in_words(rest)
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
    fn every_way_counts_what_bytes_hold() {
        let mut random = Random(3);
        for _ in 0..200 {
            let bytes = random.item(300);
            let expected = bytes.iter().map(|byte| u64::from(byte.count_ones())).sum();
            assert_eq!((count_ones(&bytes), in_words(&bytes)), (expected, expected));
            #[cfg(target_arch = "x86_64")]
            if is_x86_feature_detected!("popcnt") {
                // SAFETY: the processor has what the function is compiled for.
                assert_eq!(unsafe { with_popcnt(&bytes) }, expected);
            }
        }
    }
}
