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
    seen: Box<[u32]>,
    /// The position of the next string's first byte; smaller ones belong to earlier strings.
    base: u32,
}

thread_local! {
    static PACKER: RefCell<Packer> = RefCell::new(Packer {
        seen: vec![0; TABLE_LEN].into(),
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

/// The slot of the three bytes that end in the low bits of `word`.
fn slot(word: u32) -> usize {
    (word >> (24 - TABLE_BITS)).wrapping_sub(word.wrapping_mul(5)) as usize & (TABLE_LEN - 1)
}

fn word_at(text: &[u8], at: usize) -> u32 {
    u32::from_be_bytes([0, text[at], text[at + 1], text[at + 2]])
}

impl Packer {
    fn pack(&mut self, text: &[u8], max: usize, out: &mut Vec<u8>) -> Option<usize> {
        let base = match self.base.checked_add(text.len() as u32) {
            Some(next) => std::mem::replace(&mut self.base, next),
            None => {
                self.seen.fill(0);
                self.base = 1 + text.len() as u32;
                1
            }
        };
        let start = out.len();
        let end = text.len();
        let mut literals = Literals::begin(out);
        let mut at = 0;
        while at + 2 < end {
            let seen = &mut self.seen[slot(word_at(text, at))];
            let back_to = std::mem::replace(seen, base + at as u32);
            // The first byte of a string is never referred to.
            let before = (back_to > base).then(|| (back_to - base) as usize);
            let found = before.filter(|&before| {
                at - before - 1 < BACK_MAX && text[before..before + 3] == text[at..at + 3]
            });
            let Some(before) = found else {
                if out.len() - start >= max {
                    return None;
                }
                literals.push(text[at], out);
                at += 1;
                continue;
            };
            if out.len() - start - usize::from(literals.is_empty()) + 4 >= max {
                return None;
            }
            let len = reference_len(text, before, at);
            literals.end(out);
            push_reference(at - before - 1, len - 2, out);
            literals = Literals::begin(out);
            at += len;
            if at + 2 >= end {
                break;
            }
            for near in [at - 2, at - 1] {
                self.seen[slot(word_at(text, near))] = base + near as u32;
            }
        }
        if out.len() - start + 3 > max {
            return None;
        }
        for &byte in &text[at..] {
            literals.push(byte, out);
        }
        literals.end(out);
        Some(out.len() - start)
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

/// A run of bytes as they are, whose length stands before it.
struct Literals {
    head: usize,
    len: usize,
}

impl Literals {
    fn begin(out: &mut Vec<u8>) -> Literals {
        out.push(0);
        Literals {
            head: out.len() - 1,
            len: 0,
        }
    }

    fn is_empty(&self) -> bool {
        self.len == 0
    }

    fn push(&mut self, byte: u8, out: &mut Vec<u8>) {
        out.push(byte);
        self.len += 1;
        if self.len == LITERALS_MAX {
            out[self.head] = (self.len - 1) as u8;
            *self = Literals::begin(out);
        }
    }

    fn end(&self, out: &mut Vec<u8>) {
        match self.len {
            0 => out.truncate(self.head),
            len => out[self.head] = (len - 1) as u8,
        }
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
