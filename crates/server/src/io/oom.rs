//! How readily the system ends this process when memory runs out (`oom-score-adj`).

use std::io;

use parking_lot::Mutex;

use crate::config::process::Score;

/// Where the system keeps it.
const FILE: &str = "/proc/self/oom_score_adj";
/// What the system takes, either way.
const SCORE_MAX: i64 = 1000;

/// The score that the process had before this server changed it.
#[derive(Debug, Default)]
pub struct OomScore {
    before: Mutex<Option<i64>>,
}

impl OomScore {
    /// Sets the score, or puts back what was there before.
    pub fn set(&self, score: Option<Score>) -> io::Result<()> {
        let mut before = self.before.lock();
        let Some(score) = score else {
            if let Some(value) = before.take() {
                write(value)?;
            }
            return Ok(());
        };
        let base = match *before {
            Some(base) => base,
            None => read()?,
        };
        let value = match score {
            Score::Relative(value) => base + value,
            Score::Absolute(value) => value,
        };
        write(value.clamp(-SCORE_MAX, SCORE_MAX))?;
        *before = Some(base);
        Ok(())
    }
}

fn read() -> io::Result<i64> {
    let text = std::fs::read_to_string(FILE)?;
    let value = text.trim().parse();
    value.map_err(|_| io::Error::other("the score is no number"))
}

fn write(value: i64) -> io::Result<()> {
    std::fs::write(FILE, value.to_string())
}
