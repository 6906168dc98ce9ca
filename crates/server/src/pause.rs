//! CLIENT PAUSE: until when commands wait, and which.
//!
//! The gate asks before a command takes a lock, and a writer asks once more when it has its locks.
//! CLIENT PAUSE answers only after it has held every lock once: who passed the gate before has either
//! written by then, or sees the pause under its lock. So nothing is written after the answer.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// Which commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// Those that may change something.
    Writes,
    /// All.
    All,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Pause {
    /// Unix time; 0 is no pause. One that is over may still be here.
    until_ms: AtomicU64,
    is_all: AtomicBool,
    changing: Mutex<()>,
}

impl Pause {
    /// What waits now. One load while nobody pauses.
    #[inline]
    pub fn now(&self, now_ms: u64) -> Option<Paused> {
        match self.until_ms.load(Ordering::Acquire) {
            0 => None,
            until_ms => self.at(until_ms, now_ms),
        }
    }

    #[cold]
    fn at(&self, until_ms: u64, now_ms: u64) -> Option<Paused> {
        let is_all = self.is_all.load(Ordering::Relaxed);
        (until_ms > now_ms).then_some(if is_all { Paused::All } else { Paused::Writes })
    }

    /// Pauses until this Unix time. Of two pauses the later end holds, and the stricter one while the
    /// other lasts.
    pub fn begin(&self, what: Paused, until_ms: u64, now_ms: u64) {
        let _changing = self.changing.lock();
        let before = self.now(now_ms);
        let is_all = what == Paused::All || before == Some(Paused::All);
        self.is_all.store(is_all, Ordering::Relaxed);
        let known_ms = self.until_ms.load(Ordering::Relaxed);
        self.until_ms
            .store(until_ms.max(known_ms), Ordering::Release);
    }

    /// Ends the pause.
    pub fn end(&self) {
        let _changing = self.changing.lock();
        self.until_ms.store(0, Ordering::Release);
    }

    /// How long it lasts still.
    pub fn left_ms(&self, now_ms: u64) -> u64 {
        self.until_ms.load(Ordering::Relaxed).saturating_sub(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stricter_and_longer_pause_holds() {
        let pause = Pause::default();
        assert_eq!(pause.now(5), None);
        pause.begin(Paused::All, 100, 5);
        pause.begin(Paused::Writes, 50, 6);
        assert_eq!((pause.now(99), pause.left_ms(99)), (Some(Paused::All), 1));
        assert_eq!(pause.now(100), None);
        pause.begin(Paused::Writes, 300, 200);
        assert_eq!(pause.now(201), Some(Paused::Writes), "the strict one is over");
        pause.end();
        assert_eq!((pause.now(201), pause.left_ms(201)), (None, 0));
    }
}
