//! A member of a sorted set with its score: one heap block behind a thin pointer.
//!
//! ```text
//!   0         8               8 + n            8 + n + len
//!   | score   | length        | member bytes   |
//!   | f64     | varint, n = 1 for lengths below 128
//! ```
//!
//! The table owns the block; the rank tree borrows its address and reads the member through it.
//! A block never moves, so changing a score is a store.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::ptr::NonNull;
use std::slice;

use super::table::Record;

const SCORE_BYTES: usize = 8;
const LENGTH_BYTES_MAX: usize = 10;

/// Owner of one block. The size of a pointer.
pub struct Scored {
    block: NonNull<u8>,
}

// SAFETY: the block is plain bytes with one owner; nothing in it belongs to a thread.
unsafe impl Send for Scored {}
// SAFETY: a shared `Scored` only reads its block.
unsafe impl Sync for Scored {}

impl Scored {
    /// A new block with a copy of `member`.
    pub fn new(score: f64, member: &[u8]) -> Scored {
        let mut length = [0; LENGTH_BYTES_MAX];
        let length = write_length(&mut length, member.len());
        let layout = layout(length.len(), member.len());
        // SAFETY: the layout is never empty: it holds at least the score.
        let raw = unsafe { alloc(layout) };
        let Some(block) = NonNull::new(raw) else {
            handle_alloc_error(layout)
        };
        // SAFETY: the block was just allocated with room for the three parts, one after the other,
        // and is aligned for the score.
        unsafe {
            block.cast::<f64>().write(score);
            let at = block.add(SCORE_BYTES);
            at.copy_from_nonoverlapping(NonNull::from(length).cast(), length.len());
            let at = at.add(length.len());
            at.copy_from_nonoverlapping(NonNull::from(member).cast(), member.len());
        }
        Scored { block }
    }

    /// The score.
    #[inline]
    pub fn score(&self) -> f64 {
        // SAFETY: an owned block starts with an aligned score.
        unsafe { self.block.cast::<f64>().read() }
    }

    /// Replaces the score.
    pub fn set_score(&mut self, score: f64) {
        // SAFETY: as in `score`, and the owner is borrowed for writing.
        unsafe { self.block.cast::<f64>().write(score) }
    }

    /// The member.
    #[inline]
    pub fn member(&self) -> &[u8] {
        // SAFETY: an owned block is alive as long as its owner.
        unsafe { member_at(self.block) }
    }

    /// Bytes asked of the allocator.
    pub fn allocated_bytes(&self) -> usize {
        block_layout(self.block).size()
    }

    /// The address of the block, for whoever borrows it.
    pub fn block(&self) -> NonNull<u8> {
        self.block
    }
}

// SAFETY: blocks are heap addresses, aligned to 8; the member never changes while one is alive.
unsafe impl Record for Scored {
    fn into_raw(self) -> NonNull<u8> {
        let block = self.block;
        std::mem::forget(self);
        block
    }

    unsafe fn from_raw(block: NonNull<u8>) -> Scored {
        Scored { block }
    }

    #[inline]
    fn key(&self) -> &[u8] {
        self.member()
    }
}

impl Drop for Scored {
    fn drop(&mut self) {
        // SAFETY: the block was allocated with this layout and has this one owner.
        unsafe { dealloc(self.block.as_ptr(), block_layout(self.block)) }
    }
}

impl std::fmt::Debug for Scored {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}={}", String::from_utf8_lossy(self.member()), self.score())
    }
}

/// The member in a block.
///
/// # Safety
/// `block` is the block of a `Scored` that outlives `'a`.
#[inline]
pub unsafe fn member_at<'a>(block: NonNull<u8>) -> &'a [u8] {
    let (length_bytes, len) = read_length(block);
    // SAFETY: `len` bytes of member follow the length in a live block, by the caller's promise.
    unsafe { slice::from_raw_parts(block.as_ptr().add(SCORE_BYTES + length_bytes), len) }
}

/// Asks the processor for a block that will be read soon.
#[inline]
pub fn prefetch(block: NonNull<u8>) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch is a hint; it reads nothing and never faults.
    unsafe {
        std::arch::x86_64::_mm_prefetch(block.as_ptr().cast(), std::arch::x86_64::_MM_HINT_T0);
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = block;
}

fn block_layout(block: NonNull<u8>) -> Layout {
    let (length_bytes, len) = read_length(block);
    layout(length_bytes, len)
}

fn layout(length_bytes: usize, len: usize) -> Layout {
    Layout::from_size_align(SCORE_BYTES + length_bytes + len, align_of::<f64>())
        .expect("a member in memory is shorter than half the address space")
}

fn write_length(room: &mut [u8; LENGTH_BYTES_MAX], mut len: usize) -> &[u8] {
    let mut used = 0;
    while len >= 0x80 {
        room[used] = len as u8 | 0x80;
        len >>= 7;
        used += 1;
    }
    room[used] = len as u8;
    &room[..=used]
}

/// Bytes of the length, and the length. Private: `block` must be a live block.
#[inline]
fn read_length(block: NonNull<u8>) -> (usize, usize) {
    let (mut used, mut len) = (0, 0);
    loop {
        // SAFETY: callers pass a live block, whose length ends at its first byte below 0x80.
        let byte = unsafe { block.add(SCORE_BYTES + used).read() };
        len |= usize::from(byte & 0x7f) << (7 * used);
        used += 1;
        if byte < 0x80 {
            return (used, len);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_keep_members_of_every_length_class() {
        for len in [0, 1, 127, 128, 300, 16383, 16384, 3_000_000] {
            let member = vec![b'm'; len];
            let mut scored = Scored::new(1.5, &member);
            assert_eq!(scored.member(), member);
            scored.set_score(-2.0);
            // SAFETY: ownership goes out and straight back.
            let scored = unsafe { Scored::from_raw(scored.into_raw()) };
            assert_eq!((scored.score(), scored.member().len()), (-2.0, len));
            assert!(scored.allocated_bytes() >= 9 + len);
        }
    }
}
