//! What a person sees: what has happened as lines of the standard output, and how far it is as a line of the
//! standard error that is written anew, or, where that is no terminal, added to every few seconds.

use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::{Duration, Instant};

const BAR_WIDTH: u64 = 30;
/// How often the line is written.
const ON_TERMINAL: Duration = Duration::from_millis(100);
const IN_FILE: Duration = Duration::from_secs(5);

pub struct Progress {
    is_terminal: bool,
    started: Instant,
    shown_at: Option<Instant>,
    /// A line stands there that has no end.
    is_open: bool,
}

impl Progress {
    pub fn new() -> Progress {
        Progress {
            is_terminal: stderr().is_terminal(),
            started: Instant::now(),
            shown_at: None,
            is_open: false,
        }
    }

    /// Says something that stays. Nobody may be listening any more, which ends nothing.
    pub fn say(&mut self, line: impl AsRef<str>) {
        self.close();
        let _ = writeln!(stdout(), "{}", line.as_ref());
    }

    /// Takes the line away.
    pub fn close(&mut self) {
        if std::mem::take(&mut self.is_open) {
            let _ = write!(stderr(), "\r\x1b[K");
        }
    }

    /// Shows how far it is, if the last time is long enough ago.
    pub fn show(&mut self, line: impl FnOnce() -> String) {
        let pause = if self.is_terminal {
            ON_TERMINAL
        } else {
            IN_FILE
        };
        if self.shown_at.is_some_and(|at| at.elapsed() < pause) {
            return;
        }
        self.shown_at = Some(Instant::now());
        match self.is_terminal {
            true => {
                self.is_open = true;
                let _ = write!(stderr(), "\r\x1b[K{}", line()).and_then(|()| stderr().flush());
            }
            false => {
                let _ = writeln!(stderr(), "{}", line());
            }
        }
    }

    pub fn copied(&mut self, n_keys: u64, n_expected: u64, n_bytes: u64) {
        let rate = self.rate(n_keys);
        self.show(|| {
            let n_all = n_expected.max(n_keys);
            let left_s = (n_all - n_keys) / rate.max(1);
            let bar = bar(n_keys, n_all);
            let (done, all, rate) = (grouped(n_keys), grouped(n_all), grouped(rate));
            let size = size(n_bytes);
            format!("Copying {bar} {done} of {all} keys, {size}, {rate} keys/s, {left_s} s left")
        });
    }

    pub fn has_copied(&mut self, n_keys: u64, n_bytes: u64) {
        let (rate, seconds) = (self.rate(n_keys), self.started.elapsed().as_secs_f64());
        let (keys, size, rate) = (grouped(n_keys), size(n_bytes), grouped(rate));
        self.say(format!("Copied {keys} keys, {size}, in {seconds:.1} s ({rate} keys/s)."));
    }

    fn rate(&self, n: u64) -> u64 {
        (n as f64 / self.started.elapsed().as_secs_f64().max(0.001)) as u64
    }
}

/// A bar and a percentage.
pub fn bar(n_done: u64, n_all: u64) -> String {
    let share = |of: u64| n_done * of / n_all.max(1);
    let n_full = share(BAR_WIDTH) as usize;
    let (full, rest) = ("#".repeat(n_full), ".".repeat(BAR_WIDTH as usize - n_full));
    format!("[{full}{rest}] {:3}%", share(100))
}

/// A number as people read it.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A number of bytes as people read it.
pub fn size(n_bytes: u64) -> String {
    let units = [("GB", 1u64 << 30), ("MB", 1 << 20), ("KB", 1 << 10)];
    match units.iter().find(|unit| n_bytes >= unit.1) {
        Some((name, unit)) => format!("{:.1} {name}", n_bytes as f64 / *unit as f64),
        None => format!("{n_bytes} bytes"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_for_people() {
        let groups = [0, 999, 1000, 1_234_567].map(grouped);
        assert_eq!(groups, ["0", "999", "1,000", "1,234,567"]);
        assert_eq!(
            [size(10), size(1 << 20), size(1_610_612_736)],
            ["10 bytes", "1.0 MB", "1.5 GB"]
        );
        assert_eq!(bar(1, 2), "[###############...............]  50%");
        assert_eq!(bar(0, 0), "[..............................]   0%");
    }
}
