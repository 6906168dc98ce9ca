//! Error replies counted by their code word.
//!
//! Scripts may invent codes, so the number of codes is bounded as in Redis: past the limit nothing
//! more is told apart until CONFIG RESETSTAT.

use std::collections::BTreeMap;

/// How many codes are told apart.
const MAX_CODES: usize = 128;

/// What stands in INFO once the limit was passed.
const DISABLED: &str = "ERRORSTATS_DISABLED";

/// Counts by code word.
#[derive(Default)]
pub struct ErrorCodes {
    counts: BTreeMap<String, u64>,
    disabled: bool,
}

impl ErrorCodes {
    /// Counts one error reply. `line` is the reply without its dash; the code is its first word.
    pub fn count(&mut self, line: &[u8]) {
        if self.disabled {
            return;
        }
        let code = line.split(|byte| *byte == b' ').next().unwrap_or_default();
        let code = String::from_utf8_lossy(code);
        if let Some(count) = self.counts.get_mut(&*code) {
            *count += 1;
            return;
        }
        if self.counts.len() < MAX_CODES {
            self.counts.insert(code.into_owned(), 1);
            return;
        }
        log::warn!(
            "Errorstats stopped adding new errors because the number of errors reached the limit, \
             may be misuse of lua error_reply, please check INFO ERRORSTATS, this can be \
             re-enabled via CONFIG RESETSTAT."
        );
        self.counts = BTreeMap::from([(DISABLED.into(), 1)]);
        self.disabled = true;
    }

    /// Every code with its count, sorted by code.
    pub fn all(&self) -> Vec<(String, u64)> {
        self.counts
            .iter()
            .map(|(code, count)| (code.clone(), *count))
            .collect()
    }

    /// Forgets everything.
    pub fn reset(&mut self) {
        *self = ErrorCodes::default();
    }
}
