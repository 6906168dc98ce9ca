//! How long commands took: counts in buckets that grow with the time, one array for each command that
//! a thread has run.
//!
//! ```text
//!   time in ns    0 1 2 .. 127 | 128 130 .. 254 | 256 260 .. 508 | ...
//!   bucket width       1       |       2        |       4        |       128 buckets, then 64 a row
//! ```
//!
//! So a time is known to one part in 64. An array is written by its thread alone. A reset only bumps
//! the epoch that arrays are of: a thread empties its own when it meets a new epoch, and readers pass
//! over those of an old one.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets in a row, as a power of two.
const ROW_BITS: u32 = 6;
/// Longer times are counted as this long: a second and a bit.
const TIME_MAX_NS: u64 = (1 << 30) - 1;
const N_BUCKETS: usize = bucket_of(TIME_MAX_NS) + 1;

const fn bucket_of(time_ns: u64) -> usize {
    let row = (64 - time_ns.leading_zeros()).saturating_sub(ROW_BITS + 1);
    ((row as usize) << ROW_BITS) + (time_ns >> row) as usize
}

/// The longest time that counts in a bucket.
const fn longest_in(bucket: usize) -> u64 {
    let row = (bucket >> ROW_BITS).saturating_sub(1);
    let first = (bucket - (row << ROW_BITS)) as u64;
    ((first + 1) << row) - 1
}

/// The counts of one command in one thread.
#[derive(Default)]
pub struct Cell {
    counts: OnceLock<Box<[AtomicU64]>>,
    epoch: AtomicU64,
}

impl Cell {
    /// Counts `n` times of this length. For the thread that owns the cell alone.
    #[inline]
    pub fn add(&self, time_ns: u64, n: u64, epoch: u64) {
        let fresh = || (0..N_BUCKETS).map(|_| AtomicU64::new(0)).collect();
        let counts = self.counts.get_or_init(fresh);
        if self.epoch.load(Ordering::Relaxed) != epoch {
            counts
                .iter()
                .for_each(|count| count.store(0, Ordering::Relaxed));
            self.epoch.store(epoch, Ordering::Relaxed);
        }
        let count = &counts[bucket_of(time_ns.min(TIME_MAX_NS))];
        count.store(count.load(Ordering::Relaxed) + n, Ordering::Relaxed);
    }

    /// Adds its counts to a sum, if they are of this epoch.
    pub fn add_to(&self, sum: &mut Histogram, epoch: u64) {
        if let Some(counts) = self.counts.get()
            && self.epoch.load(Ordering::Relaxed) == epoch
        {
            sum.counts.resize(N_BUCKETS, 0);
            for (sum, count) in sum.counts.iter_mut().zip(counts) {
                *sum += count.load(Ordering::Relaxed);
            }
        }
    }
}

/// A sum over threads.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
}

impl Histogram {
    /// How many times were counted.
    pub fn n(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// Microseconds, in powers of two of about a thousand nanoseconds, and how many times were no
    /// longer; only where that number grows.
    pub fn steps(&self) -> Vec<(u64, u64)> {
        let (mut steps, mut n, mut at) = (Vec::new(), 0, 0);
        for power in 10..=31 {
            // What is told is the longest time of the bucket that the limit falls in.
            let limit_ns = (1_u64 << power) + (1 << (power - 7)) - 1;
            let before = n;
            while at < self.counts.len() && longest_in(at) <= limit_ns {
                n += self.counts[at];
                at += 1;
            }
            if n > before {
                steps.push((limit_ns / 1000, n));
            }
        }
        steps
    }

    /// The time in nanoseconds that `percent` of all times do not exceed.
    pub fn at_percentile(&self, percent: f64) -> u64 {
        let n = self.n();
        let wanted = ((percent / 100.0 * n as f64).ceil() as u64).clamp(1, n.max(1));
        let mut seen = 0;
        for (bucket, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= wanted {
                return longest_in(bucket);
            }
        }
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_follow_each_other_and_are_narrow() {
        for bucket in 0..N_BUCKETS {
            let longest = longest_in(bucket);
            assert_eq!(bucket_of(longest), bucket);
            assert_eq!(bucket_of(longest + 1), bucket + 1);
        }
        assert_eq!(bucket_of(TIME_MAX_NS), N_BUCKETS - 1);
        assert!(longest_in(bucket_of(1_000_000)) - 1_000_000 < 1_000_000 / 60);
    }

    #[test]
    fn steps_and_percentiles_tell_what_was_counted() {
        let cell = Cell::default();
        cell.add(900, 3, 1);
        cell.add(30_000, 1, 1);
        cell.add(u64::MAX, 1, 1);
        let mut sum = Histogram::default();
        cell.add_to(&mut sum, 1);
        assert_eq!((sum.n(), sum.steps()), (5, vec![(1, 3), (33, 4), (1_082_130, 5)]));
        assert_eq!(sum.at_percentile(50.0), 903);
        assert_eq!(sum.at_percentile(80.0), longest_in(bucket_of(30_000)));
        assert_eq!(sum.at_percentile(100.0), TIME_MAX_NS);
        cell.add(1, 1, 2);
        let mut sum = Histogram::default();
        cell.add_to(&mut sum, 1);
        assert_eq!(sum.n(), 0, "another epoch");
        cell.add_to(&mut sum, 2);
        assert_eq!(sum.n(), 1, "emptied");
    }
}
