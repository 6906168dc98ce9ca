//! LZF: the compression of long strings.
//!
//! ```text
//!   000nnnnn                       n + 1 bytes as they are
//!   nnnooooo oooooooo              n + 2 bytes from o + 1 bytes back
//!   111ooooo nnnnnnnn oooooooo     n + 9 bytes from there
//! ```
//!
//! The packer takes the same steps as the original, so that equal strings have equal bytes in the
//! files of both. It remembers where each three bytes were seen last, in a table that is made once
//! for each thread and never cleared: positions count on from string to string.

use std::cell::RefCell;

const TABLE_BITS: u32 = 16;
const TABLE_LEN: usize = 1 << TABLE_BITS;
/// The longest run of bytes that are kept as they are.
const LITERALS_MAX: usize = 32;
/// How far a reference reaches back.
const BACK_MAX: usize = 1 << 13;
/// How many bytes a reference stands for at most.
const REFERENCE_MAX: usize = 264;
/// Strings beyond this are not packed: positions are kept in 32 bits.
const PACKED_BYTES_MAX: usize = 1 << 31;

struct Packer {
    seen: Box<[u32; TABLE_LEN]>,
    /// The position of the next text's first byte; smaller ones belong to earlier texts.
    base: u32,
}

thread_local! {
    static PACKER: RefCell<Packer> = RefCell::new(Packer {
        seen: Box::new([0; TABLE_LEN]),
        base: 1,
    });
}

/// Appends the packed form of `text`; how many bytes it has. `None`, and nothing is appended, if that
/// would be more than `max`. O(bytes).
pub fn pack(text: &[u8], max: usize, out: &mut Vec<u8>) -> Option<usize> {
    if text.is_empty() || text.len() > PACKED_BYTES_MAX {
        return None;
    }
    let start = out.len();
    let done = PACKER.with_borrow_mut(|packer| packer.pack(text, max, out));
    if done.is_none() {
        out.truncate(start);
    }
    done
}

/// The slot of three bytes.
fn slot(word: u32) -> usize {
    (word >> (24 - TABLE_BITS)).wrapping_sub(word.wrapping_mul(5)) as usize & (TABLE_LEN - 1)
}

fn word_at(text: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([0, text[at], text[at + 1], text[at + 2]])
}

/// The two bytes from `at` on, which a third is put behind.
fn first_two(text: &[u8], at: usize) -> u32 {
    match text.get(at..at + 2) {
        Some(&[one, two]) => u32::from_be_bytes([0, 0, one, two]),
        _ => 0,
    }
}

impl Packer {
    /// Literals are counted as they are met, and copied when a reference or the end follows them.
    fn pack(&mut self, text: &[u8], max: usize, out: &mut Vec<u8>) -> Option<usize> {
        let base = self.begin(text.len() as u32);
        let start = out.len();
        let (mut at, mut run) = (0, Run::begin(0, 1, max));
        let mut word = first_two(text, at);
        while let Some(&third) = text.get(at + 2) {
            word = (word << 8 | u32::from(third)) & 0xff_ffff;
            let seen = &mut self.seen[slot(word)];
            let back_to = std::mem::replace(seen, base + at as u32);
            // The first byte of a text is never referred to.
            let before = back_to.wrapping_sub(base) as usize;
            let is_found =
                back_to > base && at - before - 1 < BACK_MAX && word_at(text, before) == word;
            if !is_found {
                if at >= run.last {
                    return None;
                }
                at += 1;
                continue;
            }
            if run.n_out(at) - usize::from(run.is_even(at)) + 4 >= max {
                return None;
            }
            push_literals(&text[run.start..at], out);
            let len = reference_len(text, before, at);
            push_reference(at - before - 1, len - 2, out);
            at += len;
            run = Run::begin(at, out.len() - start + 1, max);
            if at + 2 >= text.len() {
                break;
            }
            for near in [at - 2, at - 1] {
                self.seen[slot(word_at(text, near))] = base + near as u32;
            }
            word = first_two(text, at);
        }
        if run.n_out(at) + 3 > max {
            return None;
        }
        push_literals(&text[run.start..], out);
        Some(out.len() - start)
    }

    /// The position of the first byte of a text of `len` bytes.
    fn begin(&mut self, len: u32) -> u32 {
        match self.base.checked_add(len) {
            Some(next) => std::mem::replace(&mut self.base, next),
            None => {
                self.seen.fill(0);
                self.base = 1 + len;
                1
            }
        }
    }
}

/// Bytes that are kept as they are, from `start` on. The original appends each as it is met, and gives up
/// by what it has appended, so that is counted here: one byte for each, and one before each 32.
struct Run {
    start: usize,
    /// What is appended with none of them, the first head included.
    n_before: usize,
    /// Where the original gives up.
    last: usize,
}

impl Run {
    fn begin(start: usize, n_before: usize, max: usize) -> Run {
        let room = max.saturating_sub(n_before);
        let last = start + room - room / (LITERALS_MAX + 1);
        Run {
            start,
            n_before,
            last,
        }
    }

    fn n_out(&self, at: usize) -> usize {
        let n = at - self.start;
        self.n_before + n + n / LITERALS_MAX
    }

    /// Whether a head was appended last.
    fn is_even(&self, at: usize) -> bool {
        (at - self.start).is_multiple_of(LITERALS_MAX)
    }
}

/// How many bytes from `before` on are those from `at` on; three are. The last two bytes of a text are
/// compared only when many before them were equal, as in the original.
fn reference_len(text: &[u8], before: usize, at: usize) -> usize {
    let max = (text.len() - at - 2).min(REFERENCE_MAX);
    let mut len = 2;
    if max > 16 {
        for _ in 0..16 {
            len += 1;
            if text[before + len] != text[at + len] {
                return len;
            }
        }
    }
    loop {
        len += 1;
        if len >= max || text[before + len] != text[at + len] {
            return len;
        }
    }
}

fn push_reference(back: usize, n: usize, out: &mut Vec<u8>) {
    let high = (back >> 8) as u8;
    if n < 7 {
        out.push(high + ((n as u8) << 5));
    } else {
        out.push(high + (7 << 5));
        out.push((n - 7) as u8);
    }
    out.push(back as u8);
}

/// Appends bytes as they are.
fn push_literals(literals: &[u8], out: &mut Vec<u8>) {
    for run in literals.chunks(LITERALS_MAX) {
        out.push(run.len() as u8 - 1);
        out.extend_from_slice(run);
    }
}

/// Room made before anything is unpacked; from there on it grows with what is.
const ROOM_MAX: usize = 64 << 10;

/// The text of `len` bytes that was packed; `None` if these bytes pack no such text. Allocates as the
/// text grows, never for a length that is only claimed.
pub fn unpack(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > packed.len().saturating_mul(REFERENCE_MAX) {
        return None;
    }
    let (mut rest, mut out) = (packed, Vec::with_capacity(len.min(ROOM_MAX)));
    while let Some((&control, behind)) = rest.split_first() {
        rest = behind;
        if control < 32 {
            let (literals, behind) = rest.split_at_checked(usize::from(control) + 1)?;
            rest = behind;
            out.extend_from_slice(literals);
        } else {
            let mut n = usize::from(control >> 5) + 2;
            if n == 9 {
                let (&more, behind) = rest.split_first()?;
                rest = behind;
                n += usize::from(more);
            }
            let (&low, behind) = rest.split_first()?;
            rest = behind;
            let back = (usize::from(control & 0x1f) << 8 | usize::from(low)) + 1;
            repeat(&mut out, back, n)?;
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

/// Appends `n` bytes, each a copy of the one `back` bytes before it.
fn repeat(out: &mut Vec<u8>, back: usize, n: usize) -> Option<()> {
    let start = out.len().checked_sub(back)?;
    if back >= n {
        out.extend_from_within(start..start + n);
    } else {
        (start..start + n).for_each(|at| out.push(out[at]));
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn packed(text: &[u8]) -> Option<Vec<u8>> {
        let mut out = Vec::new();
        pack(text, text.len().saturating_sub(4), &mut out).map(|_| out)
    }

    #[test]
    fn what_is_packed_can_be_unpacked() {
        let mut random = 7_u64;
        for round in 0..2_000 {
            let letters = 1 + round % 5;
            let text: Vec<u8> = (0..round)
                .map(|_| {
                    random = random
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1);
                    b'a' + ((random >> 33) % letters) as u8
                })
                .collect();
            if let Some(packed) = packed(&text) {
                assert!(packed.len() + 4 <= text.len());
                assert_eq!(unpack(&packed, text.len()), Some(text.clone()));
                assert_eq!(unpack(&packed, text.len() + 1), None);
            }
        }
    }

    #[test]
    fn the_bytes_are_the_originals() {
        assert_eq!(packed(&[b'a'; 37]), Some(b"\x01aa\xe0\x18\x00\x01aa".to_vec()));
        assert_eq!(packed(b"abcdefghijklmnopqrstuvwxyz"), None);
    }

    #[test]
    fn nonsense_is_refused_and_makes_nothing_large() {
        for (packed, len) in [
            (&b"\x05abc"[..], 6),
            (b"\x00a\x20\x07", 4),
            (b"\x00a\xe0\xff", 4),
            (b"\x00a\x20", 4),
            (b"\x00a", usize::MAX),
            (b"", 1),
        ] {
            assert_eq!(unpack(packed, len), None, "{packed:?}");
        }
    }
}
