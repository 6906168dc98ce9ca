//! FAILOVER: handing the part of the primary over to a replica that has everything.
//!
//! ```text
//!   FAILOVER ──► waiting: writes pause, a replica catches up ──► moving: PSYNC ... FAILOVER to it
//!                   │ time out, ABORT                              │ refused, ABORT       │ +CONTINUE
//!                   └──────────► nothing has happened ◄────────────┘                      ▼
//!                                                                            this server follows it
//! ```

use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Instant;

use parking_lot::Mutex;

/// What FAILOVER asks for.
#[derive(Clone, Debug)]
pub struct Plan {
    /// The host and port of the replica; any that has everything if `None`.
    pub target: Option<(String, u16)>,
    /// When the time is up, hand over to the target all the same.
    pub is_forced: bool,
    /// Until when.
    pub until: Option<Instant>,
    /// Where the stream ended when nobody wrote any more.
    pub stream_end: Option<u64>,
}

impl Plan {
    /// The target, for the log.
    pub fn whom(&self) -> String {
        match &self.target {
            Some((host, port)) => format!("{host}:{port}"),
            None => "any replica".to_owned(),
        }
    }
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Phase {
    /// There is none.
    None,
    /// A replica is to catch up.
    Waiting,
    /// The replica is asked to take over.
    Moving,
}

/// What is to be done with a plan.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing yet.
    Wait,
    /// Hand over to this replica, which has everything.
    Move(String, u16),
    /// The time is up: hand over to the target all the same.
    Force(String, u16),
    /// The time is up.
    GiveUp,
}

impl Plan {
    /// Looks at replicas, of which `followers` tells host, port, and how far each is.
    pub fn verdict(&self, followers: &[(String, u16, u64)], now: Instant) -> Verdict {
        if self.until.is_some_and(|until| now >= until) {
            return match self.target.clone().filter(|_| self.is_forced) {
                Some((host, port)) => Verdict::Force(host, port),
                None => Verdict::GiveUp,
            };
        }
        let Some(end) = self.stream_end else {
            return Verdict::Wait;
        };
        let is_meant = |host: &str, port| match &self.target {
            Some(target) => target.1 == port && target.0.eq_ignore_ascii_case(host),
            None => true,
        };
        let mut ready = followers
            .iter()
            .filter(|(host, port, acked)| is_meant(host, *port) && *acked >= end);
        ready
            .next()
            .map_or(Verdict::Wait, |(host, port, _)| Verdict::Move(host.clone(), *port))
    }
}

/// See the top of the file. A leaf lock.
#[derive(Debug)]
pub struct Failover {
    plan: Mutex<Option<Plan>>,
    phase: AtomicU8,
}

impl Default for Failover {
    fn default() -> Failover {
        Failover {
            plan: Mutex::default(),
            phase: (Phase::None as u8).into(),
        }
    }
}

impl Failover {
    /// How far it has come.
    pub fn phase(&self) -> Phase {
        match self.phase.load(Relaxed) {
            0 => Phase::None,
            1 => Phase::Waiting,
            _ => Phase::Moving,
        }
    }

    /// Whether one is under way.
    pub fn is_on(&self) -> bool {
        self.phase() != Phase::None
    }

    /// As INFO names it.
    pub fn name(&self) -> &'static str {
        match self.phase() {
            Phase::None => "no-failover",
            Phase::Waiting => "waiting-for-sync",
            Phase::Moving => "failover-in-progress",
        }
    }

    /// Begins; false if one is under way.
    pub fn begin(&self, plan: Plan) -> bool {
        let mut known = self.plan.lock();
        let is_first = known.is_none();
        if is_first {
            *known = Some(plan);
            self.phase.store(Phase::Waiting as u8, Relaxed);
        }
        is_first
    }

    /// What is planned.
    pub fn plan(&self) -> Option<Plan> {
        self.plan.lock().clone()
    }

    /// Nobody writes any more, and the stream ends here.
    pub fn note_end(&self, stream_end: u64) {
        if let Some(plan) = &mut *self.plan.lock() {
            plan.stream_end = Some(stream_end);
        }
    }

    /// The replica is asked to take over from here on; false if it was aborted.
    pub fn move_on(&self) -> bool {
        let plan = self.plan.lock();
        if plan.is_some() {
            self.phase.store(Phase::Moving as u8, Relaxed);
        }
        plan.is_some()
    }

    /// It is over, from this phase; what was planned, if there was one.
    pub fn end(&self) -> Option<(Plan, Phase)> {
        let mut plan = self.plan.lock();
        let phase = self.phase();
        self.phase.store(Phase::None as u8, Relaxed);
        plan.take().map(|plan| (plan, phase))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn plan(target: Option<(&str, u16)>, is_forced: bool) -> Plan {
        Plan {
            target: target.map(|(host, port)| (host.to_owned(), port)),
            is_forced,
            until: Some(Instant::now() + Duration::from_secs(60)),
            stream_end: Some(100),
        }
    }

    #[test]
    fn who_has_everything_takes_over() {
        let followers = [("a".to_owned(), 1, 99), ("b".to_owned(), 2, 100)];
        let now = Instant::now();
        let any = plan(None, false);
        assert_eq!(any.verdict(&followers, now), Verdict::Move("b".into(), 2));
        assert_eq!(plan(Some(("a", 1)), false).verdict(&followers, now), Verdict::Wait);
        assert_eq!(
            plan(Some(("B", 2)), false).verdict(&followers, now),
            Verdict::Move("b".into(), 2)
        );
        let mut early = plan(None, false);
        early.stream_end = None;
        assert_eq!(early.verdict(&followers, now), Verdict::Wait);
    }

    #[test]
    fn when_the_time_is_up_only_force_hands_over() {
        let late = Instant::now() + Duration::from_secs(61);
        assert_eq!(plan(Some(("a", 1)), false).verdict(&[], late), Verdict::GiveUp);
        assert_eq!(plan(Some(("a", 1)), true).verdict(&[], late), Verdict::Force("a".into(), 1));
    }

    #[test]
    fn one_at_a_time() {
        let failover = Failover::default();
        assert!(failover.begin(plan(None, false)));
        assert!(!failover.begin(plan(None, false)));
        assert_eq!(failover.name(), "waiting-for-sync");
        assert!(failover.move_on());
        assert_eq!(failover.end().map(|(_, phase)| phase), Some(Phase::Moving));
        assert!(!failover.move_on());
        assert!(failover.end().is_none() && !failover.is_on());
    }
}
