//! What the 24 bits of an entry's access clock say: when it was last used, or how often.
//!
//! ```text
//!  by recency     | seconds, modulo 2^24 (194 days)      |
//!  by frequency   | minutes, modulo 2^16 | counter, 8 bit |
//! ```
//!
//! The counter is Morris's: it grows with a probability that falls as it grows, so 255 stands for about
//! a million accesses, and it loses one for each period that passes. Which of the two is kept is one
//! setting for the whole server; after a change the clocks of old entries mislead until they are used.

use std::cell::Cell;
use std::ops::Deref;

use crate::entry::Entry;

/// Bits of the clock.
const CLOCK_MASK: u32 = (1 << 24) - 1;
/// The counter of a new entry, so that it has a chance to be used before it goes.
const COUNTER_AT_BIRTH: u8 = 5;

/// How fast counters grow and decay.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frequency {
    /// The larger, the more accesses a step of the counter stands for.
    pub log_factor: u32,
    /// Minutes for which a counter loses one; 0: it loses none.
    pub decay_min: u32,
}

/// The present as access clocks see it, and what they count.
#[derive(Clone, Copy, Debug, Default)]
pub struct Moment {
    second: u32,
    frequency: Option<Frequency>,
}

impl Moment {
    /// This Unix time in milliseconds. Accesses are counted so, or, if `None`, noted when they were.
    pub fn new(now_ms: u64, frequency: Option<Frequency>) -> Moment {
        let second = (now_ms / 1000) as u32;
        Moment { second, frequency }
    }

    /// Whether accesses are counted.
    pub fn counts(&self) -> bool {
        self.frequency.is_some()
    }

    /// Seconds since the last access; meaningless where accesses are counted.
    pub fn idle_s(&self, entry: &Entry) -> u32 {
        self.second.wrapping_sub(entry.clock()) & CLOCK_MASK
    }

    /// The counter of an entry as it is now; meaningless where accesses are not counted.
    pub fn counter(&self, entry: &Entry) -> u8 {
        let (minute, counter) = ((entry.clock() >> 8) as u16, entry.clock() as u8);
        let elapsed = u32::from(self.minute().wrapping_sub(minute));
        let decay_min = self.frequency.map_or(0, |frequency| frequency.decay_min);
        let lost = elapsed.checked_div(decay_min).unwrap_or(0);
        counter.saturating_sub(lost.min(255) as u8)
    }

    /// The clock that stands for an idle time.
    pub fn idle_for(&self, idle_s: u64) -> u32 {
        self.second.wrapping_sub(idle_s as u32) & CLOCK_MASK
    }

    /// The clock that stands for a counter.
    pub fn counted(&self, counter: u8) -> u32 {
        u32::from(self.minute()) << 8 | u32::from(counter)
    }

    fn minute(&self) -> u16 {
        (self.second / 60) as u16
    }

    fn birth(&self) -> u32 {
        match self.frequency {
            None => self.second & CLOCK_MASK,
            Some(_) => self.counted(COUNTER_AT_BIRTH),
        }
    }
}

/// A moment that moves, and the chance that counters need.
#[derive(Debug, Default)]
pub struct AccessClock {
    moment: Moment,
    random: Cell<u64>,
}

impl Deref for AccessClock {
    type Target = Moment;
    fn deref(&self) -> &Moment {
        &self.moment
    }
}

impl AccessClock {
    /// Sets the time, Unix milliseconds.
    pub fn set_time(&mut self, now_ms: u64) {
        self.moment = Moment::new(now_ms, self.moment.frequency);
    }

    /// Counts accesses instead of noting when they were; `None` notes when.
    pub fn count(&mut self, frequency: Option<Frequency>) {
        self.moment.frequency = frequency;
    }

    /// Uses are noted.
    #[inline]
    pub fn noting(&self) -> Trace<'_> {
        Trace {
            clock: self,
            is_noted: true,
        }
    }

    /// Uses leave no trace.
    #[inline]
    pub fn leaving(&self) -> Trace<'_> {
        Trace {
            clock: self,
            is_noted: false,
        }
    }

    #[cold]
    fn count_access(&self, entry: &Entry, log_factor: u32) {
        let counter = self.counter(entry);
        let steps = u64::from(counter.saturating_sub(COUNTER_AT_BIRTH)) * u64::from(log_factor);
        let grows = counter < u8::MAX && self.random().is_multiple_of(steps + 1);
        entry.set_clock(self.counted(counter + u8::from(grows)));
    }

    /// xorshift64; chance is all that is asked of it.
    fn random(&self) -> u64 {
        let mut word = self.random.get() | 1 << 63;
        word ^= word << 13;
        word ^= word >> 7;
        word ^= word << 17;
        self.random.set(word);
        word >> 8
    }
}

/// Whether, and how, a command leaves a trace in what it uses.
#[derive(Clone, Copy, Debug)]
pub struct Trace<'a> {
    /// The present.
    pub clock: &'a AccessClock,
    /// Whether the entries used are marked as used.
    pub is_noted: bool,
}

impl Trace<'_> {
    /// The clock of a new entry.
    pub(crate) fn birth(self) -> u32 {
        self.clock.birth()
    }

    /// Notes that an entry is used.
    #[inline]
    pub(crate) fn touch(self, entry: &Entry) {
        if !self.is_noted {
            return;
        }
        match self.clock.moment.frequency {
            None => entry.set_clock(self.clock.moment.second & CLOCK_MASK),
            Some(frequency) => self.clock.count_access(entry, frequency.log_factor),
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::entry::Birth;
    use datatypes::home::{Encoding, NewPayload};

    fn counting(now_ms: u64, log_factor: u32, decay_min: u32) -> AccessClock {
        let mut clock = AccessClock::default();
        clock.set_time(now_ms);
        clock.count(Some(Frequency {
            log_factor,
            decay_min,
        }));
        clock
    }

    fn entry(clock: &AccessClock) -> Entry {
        let birth = Birth {
            key: b"k",
            deadline_ms: None,
            mark: false,
            clock: clock.birth(),
        };
        Entry::new(birth, Encoding::Int, NewPayload::Int(1))
    }

    fn use_often(clock: &AccessClock, entry: &Entry, times: usize) {
        (0..times).for_each(|_| clock.noting().touch(entry));
    }

    #[test]
    fn a_counter_grows_as_a_logarithm_and_decays_by_minutes() {
        let mut clock = counting(1_000 * 60_000, 10, 1);
        let used = entry(&clock);
        assert_eq!(clock.counter(&used), COUNTER_AT_BIRTH);
        use_often(&clock, &used, 100);
        let after_hundred = clock.counter(&used);
        assert!((6..=20).contains(&after_hundred), "{after_hundred}");
        use_often(&clock, &used, 100_000);
        let after_many = clock.counter(&used);
        assert!((100..=180).contains(&after_many), "{after_many}");
        clock.set_time(1_010 * 60_000);
        assert_eq!(clock.counter(&used), after_many - 10);
    }

    #[test]
    fn without_a_factor_every_access_counts_up_to_the_most() {
        let clock = counting(0, 0, 0);
        let used = entry(&clock);
        use_often(&clock, &used, 10);
        assert_eq!(clock.counter(&used), COUNTER_AT_BIRTH + 10);
        use_often(&clock, &used, 1_000);
        assert_eq!(clock.counter(&used), u8::MAX);
    }

    #[test]
    fn idle_time_survives_the_clock_going_round() {
        let mut clock = AccessClock::default();
        clock.set_time(u64::from(CLOCK_MASK) * 1_000);
        let old = entry(&clock);
        clock.set_time((u64::from(CLOCK_MASK) + 7) * 1_000);
        assert_eq!(clock.idle_s(&old), 7);
    }
}
