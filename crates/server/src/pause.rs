//! Until when commands wait, and which: for CLIENT PAUSE, and while the server ends or hands over.
//!
//! The gate asks before a command takes a lock, and a writer asks once more when it has its locks.
//! CLIENT PAUSE answers only after it has held every lock once: who passed the gate before has either
//! written by then, or sees the pause under its lock. So nothing is written after the answer.

use std::sync::atomic::{AtomicU64, Ordering};

use parking_lot::Mutex;

/// Which commands wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paused {
    /// Those that may change something.
    Writes,
    /// All.
    All,
}

/// On whose behalf. Each has a pause of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// CLIENT PAUSE.
    Client,
    /// FAILOVER: nothing may be written that the target would lack.
    Failover,
    /// SHUTDOWN waits for replicas.
    Ending,
    /// DEBUG PAUSE-AFTER-FORK: the server stands still while a snapshot for replicas is made.
    Standstill,
}

/// One pause: until this Unix time, and of all commands until that.
#[derive(Clone, Copy, Debug, Default)]
struct Until {
    any_ms: u64,
    all_ms: u64,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Pause {
    /// Unix time; 0 is no pause. One that is over may still be here.
    until_ms: AtomicU64,
    all_until_ms: AtomicU64,
    by_cause: Mutex<[Until; 4]>,
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
        let is_all = self.all_until_ms.load(Ordering::Relaxed) > now_ms;
        (until_ms > now_ms).then_some(if is_all { Paused::All } else { Paused::Writes })
    }

    /// Pauses until this Unix time. Of two pauses of one cause the later end holds, and the stricter
    /// one while the other lasts.
    pub fn begin(&self, cause: Cause, what: Paused, until_ms: u64, now_ms: u64) {
        let mut by_cause = self.by_cause.lock();
        let until = &mut by_cause[cause as usize];
        let was_all = until.all_ms > now_ms;
        until.any_ms = until.any_ms.max(until_ms);
        until.all_ms = match what == Paused::All || was_all {
            true => until.any_ms,
            false => 0,
        };
        self.publish(&by_cause);
    }

    /// Ends the pause of this cause.
    pub fn end(&self, cause: Cause) {
        let mut by_cause = self.by_cause.lock();
        by_cause[cause as usize] = Until::default();
        self.publish(&by_cause);
    }

    fn publish(&self, by_cause: &[Until; 4]) {
        let latest = |of: fn(&Until) -> u64| by_cause.iter().map(of).max().unwrap_or(0);
        self.all_until_ms
            .store(latest(|until| until.all_ms), Ordering::Relaxed);
        self.until_ms
            .store(latest(|until| until.any_ms), Ordering::Release);
    }

    /// Whether this cause pauses now.
    pub fn is_for(&self, cause: Cause, now_ms: u64) -> bool {
        self.now(now_ms).is_some() && self.by_cause.lock()[cause as usize].any_ms > now_ms
    }

    /// Why, as INFO names it.
    pub fn reason(&self, now_ms: u64) -> &'static str {
        let by_cause = self.by_cause.lock();
        let is_on = |cause: Cause| by_cause[cause as usize].any_ms > now_ms;
        match (is_on(Cause::Ending), is_on(Cause::Failover)) {
            (true, _) => "shutdown_in_progress",
            (false, true) => "failover_in_progress",
            (false, false) => "client_pause",
        }
    }

    /// How long it lasts still.
    pub fn left_ms(&self, now_ms: u64) -> u64 {
        self.until_ms.load(Ordering::Relaxed).saturating_sub(now_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::Cause::{Client, Ending, Failover};
    use super::*;

    #[test]
    fn the_stricter_and_longer_pause_holds() {
        let pause = Pause::default();
        assert_eq!(pause.now(5), None);
        pause.begin(Client, Paused::All, 100, 5);
        pause.begin(Client, Paused::Writes, 50, 6);
        assert_eq!((pause.now(99), pause.left_ms(99)), (Some(Paused::All), 1));
        assert_eq!(pause.now(100), None);
        pause.begin(Client, Paused::Writes, 300, 200);
        assert_eq!(pause.now(201), Some(Paused::Writes), "the strict one is over");
        pause.end(Client);
        assert_eq!((pause.now(201), pause.left_ms(201)), (None, 0));
    }

    #[test]
    fn who_ends_a_pause_ends_only_his_own() {
        let pause = Pause::default();
        pause.begin(Failover, Paused::Writes, u64::MAX, 5);
        pause.begin(Client, Paused::All, 100, 5);
        assert_eq!(pause.now(50), Some(Paused::All));
        assert_eq!(pause.now(150), Some(Paused::Writes));
        pause.end(Client);
        pause.begin(Ending, Paused::Writes, u64::MAX, 5);
        pause.end(Failover);
        assert_eq!(pause.now(150), Some(Paused::Writes));
        pause.end(Ending);
        assert_eq!(pause.now(150), None);
    }
}
