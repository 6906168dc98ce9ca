//! The script or function that runs: what it is, whether it has written, whether it is to end.
//!
//! ```text
//!            note_write                    become_busy
//!   runs ───────────────► has written     ─────────────►  others are answered -BUSY
//!    │ kill                                               until it ends
//!    ▼
//!   killed: its next write or tick ends it
//! ```
//!
//! There is one at a time: it is the transaction. Its thread begins and ends it; any thread looks.

use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use crate::error::Error;

const RUNS: u8 = 1;
const IS_FUNCTION: u8 = 2;
const HAS_WRITTEN: u8 = 4;
const IS_KILLED: u8 = 8;
const IS_BUSY: u8 = 16;

const BUSY_SCRIPT: Error = Error::Plain(
    "BUSY Redis is busy running a script. You can only call SCRIPT KILL or SHUTDOWN NOSAVE.",
);
const BUSY_FUNCTION: Error = Error::Plain(
    "BUSY Redis is busy running a script. You can only call FUNCTION KILL or SHUTDOWN NOSAVE.",
);

/// What may run, and which command ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runs {
    /// EVAL: SCRIPT KILL.
    Script,
    /// FCALL: FUNCTION KILL.
    Function,
}

/// What FUNCTION STATS shows.
#[derive(Clone, Debug)]
pub struct Details {
    /// The function, or the script's digest.
    pub name: Vec<u8>,
    /// The command that runs it.
    pub command: Vec<Vec<u8>>,
    /// Since when.
    pub since: Instant,
}

/// See the top of the file.
#[derive(Default)]
pub struct Running {
    state: AtomicU8,
    /// Known of a busy one.
    details: Mutex<Option<Details>>,
}

impl Running {
    /// A script begins.
    pub fn begin(&self, what: Runs) {
        let kind = match what {
            Runs::Script => 0,
            Runs::Function => IS_FUNCTION,
        };
        self.state.store(RUNS | kind, Ordering::Release);
    }

    /// It has ended.
    pub fn end(&self) {
        // Only this thread makes it busy. Who kills it at this moment comes too late.
        let is_busy = self.is_busy();
        self.state.store(0, Ordering::Release);
        if is_busy {
            *self.details.lock() = None;
        }
    }

    /// Says more about the script, and that everybody else is to be answered -BUSY. False if that
    /// was said already.
    pub fn become_busy(&self, details: impl FnOnce() -> Details) -> bool {
        if self.is_busy() {
            return false;
        }
        *self.details.lock() = Some(details());
        self.state.fetch_or(IS_BUSY, Ordering::AcqRel);
        true
    }

    /// Whether everybody else is answered -BUSY.
    #[inline]
    pub fn is_busy(&self) -> bool {
        self.state.load(Ordering::Relaxed) & IS_BUSY != 0
    }

    /// What everybody else is answered.
    pub fn busy(&self) -> Error {
        match self.state.load(Ordering::Acquire) & IS_FUNCTION {
            0 => BUSY_SCRIPT,
            _ => BUSY_FUNCTION,
        }
    }

    /// What is known of a busy script.
    pub fn details(&self) -> Option<Details> {
        self.details.lock().clone()
    }

    /// What runs now.
    pub fn now(&self) -> Option<Runs> {
        match self.state.load(Ordering::Acquire) {
            state if state & RUNS == 0 => None,
            state if state & IS_FUNCTION == 0 => Some(Runs::Script),
            _ => Some(Runs::Function),
        }
    }

    /// The script is about to write: nobody may kill it from here on. False if somebody has.
    #[inline]
    pub fn note_write(&self) -> bool {
        self.state.load(Ordering::Relaxed) & HAS_WRITTEN != 0 || self.note_first_write()
    }

    fn note_first_write(&self) -> bool {
        let before = self.update(|state| match state & IS_KILLED {
            0 => Some(state | HAS_WRITTEN),
            _ => None,
        });
        before.is_ok()
    }

    /// Whether the script has written.
    pub fn has_written(&self) -> bool {
        self.state.load(Ordering::Relaxed) & HAS_WRITTEN != 0
    }

    /// Whether the script was killed.
    pub fn is_killed(&self) -> bool {
        self.state.load(Ordering::Acquire) & IS_KILLED != 0
    }

    /// SCRIPT KILL, FUNCTION KILL.
    pub fn kill(&self, what: Runs) -> Result<(), Error> {
        let wanted = match what {
            Runs::Script => RUNS,
            Runs::Function => RUNS | IS_FUNCTION,
        };
        let killed = self.update(|state| {
            let is_it = state & (RUNS | IS_FUNCTION) == wanted && state & HAS_WRITTEN == 0;
            is_it.then_some(state | IS_KILLED)
        });
        match killed {
            Ok(_) => Ok(()),
            Err(state) if state & RUNS == 0 => {
                Err(Error::Plain("NOTBUSY No scripts in execution right now."))
            }
            Err(state) if state & HAS_WRITTEN != 0 => Err(Error::Plain(
                "UNKILLABLE Sorry the script already executed write commands against the dataset. \
                 You can either wait the script termination or kill the server in a hard way using \
                 the SHUTDOWN NOSAVE command.",
            )),
            Err(state) if state & IS_FUNCTION == 0 => Err(BUSY_SCRIPT),
            Err(_) => Err(BUSY_FUNCTION),
        }
    }

    fn update(&self, change: impl FnMut(u8) -> Option<u8>) -> Result<u8, u8> {
        self.state
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, change)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details() -> Details {
        Details {
            name: b"f".to_vec(),
            command: vec![b"FCALL".to_vec()],
            since: Instant::now(),
        }
    }

    fn code<T>(result: Result<T, Error>) -> String {
        let line = result.err().map(|error| error.to_string());
        line.unwrap_or_default()
            .split(' ')
            .next()
            .unwrap_or_default()
            .to_owned()
    }

    #[test]
    fn a_script_can_be_killed_until_it_writes() {
        let running = Running::default();
        assert_eq!(code(running.kill(Runs::Script)), "NOTBUSY");
        running.begin(Runs::Script);
        assert_eq!(code(running.kill(Runs::Function)), "BUSY");
        assert!(running.kill(Runs::Script).is_ok());
        assert!(!running.note_write(), "the killer was first");
        assert!(running.is_killed());
        running.end();
        running.begin(Runs::Function);
        assert!(running.note_write());
        assert_eq!(code(running.kill(Runs::Function)), "UNKILLABLE");
        assert!(!running.is_killed());
    }

    #[test]
    fn a_busy_script_is_known_by_name_until_it_ends() {
        let running = Running::default();
        running.begin(Runs::Function);
        assert!(!running.is_busy());
        assert!(running.become_busy(details));
        assert!(!running.become_busy(details));
        assert_eq!(running.details().map(|details| details.name), Some(b"f".to_vec()));
        assert!(running.busy().to_string().contains("FUNCTION KILL"));
        running.end();
        assert!(!running.is_busy() && running.now().is_none());
        assert!(running.details().is_none());
    }
}
