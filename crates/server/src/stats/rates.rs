//! Rates of the last moments: sixteen samples of 100 ms, averaged.
//!
//! Sampling may be irregular, because idle loops sleep: a sample that comes late fills as many
//! places as periods have passed, so that a rate decays by the clock and not by the number of calls.

const N_SAMPLES: usize = 16;
/// Time between two samples.
pub const PERIOD_MS: u64 = 100;

/// One rate, in units per second.
#[derive(Clone, Debug, Default)]
pub struct Rate {
    samples: [f64; N_SAMPLES],
    next: usize,
    last_total: u64,
    last_ms: Option<u64>,
}

impl Rate {
    /// Takes the count so far at a moment of a monotonic clock. Does nothing within a period.
    pub fn sample(&mut self, total: u64, now_ms: u64) {
        let Some(last_ms) = self.last_ms else {
            self.last_ms = Some(now_ms);
            self.last_total = total;
            return;
        };
        let elapsed_ms = now_ms.saturating_sub(last_ms);
        if elapsed_ms < PERIOD_MS {
            return;
        }
        let per_second = total.saturating_sub(self.last_total) as f64 * 1000.0 / elapsed_ms as f64;
        let n_periods = usize::try_from(elapsed_ms / PERIOD_MS).unwrap_or(N_SAMPLES);
        for _ in 0..n_periods.min(N_SAMPLES) {
            self.samples[self.next] = per_second;
            self.next = (self.next + 1) % N_SAMPLES;
        }
        self.last_total = total;
        self.last_ms = Some(now_ms);
    }

    /// The average of the samples.
    pub fn per_second(&self) -> f64 {
        self.samples.iter().sum::<f64>() / N_SAMPLES as f64
    }
}
