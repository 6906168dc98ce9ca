//! The sparse form of a HyperLogLog: runs of equal registers.
//!
//! ```text
//!  00llllll            l + 1 registers of zero
//!  01llllll llllllll   the same, of up to 16384
//!  1vvvvvll            l + 1 registers of v + 1
//! ```
//!
//! Raising a register splits its run in up to three; runs of one value next to it are joined again.

use super::{Corrupt, HEADER_BYTES, N_REGISTERS, invalidate};
use std::ops::Range;

/// The longest run of zeros in one byte.
const SHORT_ZEROS_MAX: usize = 64;
/// The longest run of a value.
const VALUES_MAX: usize = 4;
/// The largest value that a run can have.
const VALUE_MAX: u8 = 32;
/// Runs that are looked at for joining, from the one before the change on.
const JOINED_RUNS_MAX: usize = 5;

/// What became of a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Raised {
    /// It was not lower.
    No,
    /// It was.
    Yes,
    /// The sparse form has no room for it; nothing was changed.
    TooLong,
}

/// A run of equal registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    len: usize,
    value: u8,
    n_bytes: usize,
}

impl Run {
    /// The run at the start of `code`; `None` if it is not whole.
    fn first(code: &[u8]) -> Option<Run> {
        let (len, value, n_bytes) = match *code {
            [byte, ..] if byte & 0x80 != 0 => {
                (usize::from(byte & 3) + 1, (byte >> 2 & 0x1f) + 1, 1)
            }
            [byte, low, ..] if byte & 0x40 != 0 => {
                (usize::from(byte & 0x3f) << 8 | usize::from(low), 0, 2)
            }
            [byte, ..] if byte & 0x40 == 0 => (usize::from(byte), 0, 1),
            _ => return None,
        };
        let len = if value == 0 { len + 1 } else { len };
        Some(Run {
            len,
            value,
            n_bytes,
        })
    }
}

/// Appends a run of zeros, if it is not empty.
pub fn zeros(len: usize, code: &mut Vec<u8>) {
    match len {
        0 => {}
        1..=SHORT_ZEROS_MAX => code.push(len as u8 - 1),
        _ => code.extend([0x40 | ((len - 1) >> 8) as u8, (len - 1) as u8]),
    }
}

/// Appends a short run of a value, if it is not empty.
fn values(value: u8, len: usize, code: &mut Vec<u8>) {
    if len > 0 {
        code.push(0x80 | (value - 1) << 2 | (len as u8 - 1));
    }
}

/// Visits the runs of a sparse HyperLogLog: registers and their value. O(bytes).
///
/// [`Corrupt`] if they are not exactly all registers; what came before has been visited then.
pub fn runs(bytes: &[u8], visit: &mut dyn FnMut(Range<usize>, u8)) -> Result<(), Corrupt> {
    let (mut code, mut from) = (&bytes[HEADER_BYTES..], 0);
    while !code.is_empty() {
        let run = Run::first(code).ok_or(Corrupt)?;
        let to = from + run.len;
        if to > N_REGISTERS {
            return Err(Corrupt);
        }
        visit(from..to, run.value);
        (code, from) = (&code[run.n_bytes..], to);
    }
    match from == N_REGISTERS {
        true => Ok(()),
        false => Err(Corrupt),
    }
}

/// The code as the original's PFDEBUG DECODE writes it.
pub fn decoded(bytes: &[u8]) -> Result<String, Corrupt> {
    let mut words = Vec::new();
    let mut code = &bytes[HEADER_BYTES..];
    while !code.is_empty() {
        let run = Run::first(code).ok_or(Corrupt)?;
        let Run {
            len,
            value,
            n_bytes,
        } = run;
        words.push(match (value, n_bytes) {
            (0, 1) => format!("z:{len}"),
            (0, _) => format!("Z:{len}"),
            _ => format!("v:{value},{len}"),
        });
        code = &code[n_bytes..];
    }
    Ok(words.join(" "))
}

/// Raises a register, if all bytes are then at most `max_bytes`. O(bytes).
pub fn raise(
    bytes: &mut Vec<u8>,
    index: usize,
    value: u8,
    max_bytes: usize,
) -> Result<Raised, Corrupt> {
    let (mut at, mut from, mut before) = (HEADER_BYTES, 0, HEADER_BYTES);
    let run = loop {
        let run = Run::first(&bytes[at..]).ok_or(Corrupt)?;
        if index < from + run.len {
            break run;
        }
        (before, at, from) = (at, at + run.n_bytes, from + run.len);
    };
    if run.value >= value {
        return Ok(Raised::No);
    }
    if value > VALUE_MAX {
        return Ok(Raised::TooLong);
    }
    let mut code = Vec::with_capacity(5);
    let (n_left, n_right) = (index - from, from + run.len - 1 - index);
    let rest = |len: usize, code: &mut Vec<u8>| match run.value {
        0 => zeros(len, code),
        value => values(value, len, code),
    };
    rest(n_left, &mut code);
    values(value, 1, &mut code);
    rest(n_right, &mut code);
    let n_added = code.len().saturating_sub(run.n_bytes);
    if n_added > 0 && bytes.len() + n_added > max_bytes {
        return Ok(Raised::TooLong);
    }
    bytes.splice(at..at + run.n_bytes, code);
    join(bytes, before);
    invalidate(bytes);
    Ok(Raised::Yes)
}

/// Joins runs of one value that are neighbours, from `at` on.
fn join(bytes: &mut Vec<u8>, mut at: usize) {
    for _ in 0..JOINED_RUNS_MAX {
        let Some(run) = bytes.get(at..).and_then(Run::first) else {
            return;
        };
        let next = Run::first(&bytes[at + run.n_bytes..]);
        match next {
            Some(next)
                if run.value > 0 && next.value == run.value && run.len + next.len <= VALUES_MAX =>
            {
                bytes[at] = 0x80 | (run.value - 1) << 2 | (run.len + next.len - 1) as u8;
                bytes.remove(at + 1);
            }
            _ => at += run.n_bytes,
        }
    }
}
