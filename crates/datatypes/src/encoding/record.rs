//! Records of set and hash tables: one heap block behind a thin pointer, sized to the byte.
//!
//! ```text
//!   ┌──────────────┬──────────────────┐
//!   │ length of    │ body: the layout │   length below 128: 1 byte, below 16384: 2 bytes
//!   │ the body     │ of the type `K`  │   (10xxxxxx x), else 0xC0 and u64 LE
//!   └──────────────┴──────────────────┘
//! ```
//!
//! The block knows nothing of its body but where the key is, which [`Keyed`] tells.

#![allow(unsafe_code)]

use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::fmt;
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::table::{Record, Ref};

/// How a body is laid out, as far as finding it is concerned.
pub trait Keyed {
    /// The key within a body.
    fn key_of(body: &[u8]) -> &[u8];
}

/// An owned body. The pointer is all there is of it.
pub struct Block<K: Keyed> {
    raw: NonNull<u8>,
    layout: PhantomData<K>,
}

// SAFETY: a block owns plain bytes.
unsafe impl<K: Keyed> Send for Block<K> {}
// SAFETY: shared access only reads.
unsafe impl<K: Keyed> Sync for Block<K> {}

const ALIGN: usize = 2;

const fn head_len(body_len: usize) -> usize {
    match body_len {
        0..128 => 1,
        128..16384 => 2,
        _ => 9,
    }
}

fn memory_of(body_len: usize) -> Layout {
    Layout::from_size_align(head_len(body_len) + body_len, ALIGN)
        .expect("a body is shorter than the address space")
}

impl<K: Keyed> Block<K> {
    /// A block whose body is `parts` one after the other. One allocation.
    pub fn new(parts: &[&[u8]]) -> Block<K> {
        let body_len = parts.iter().map(|part| part.len()).sum();
        let memory = memory_of(body_len);
        // SAFETY: the layout is not empty, as there is at least one byte of head.
        let Some(raw) = NonNull::new(unsafe { alloc(memory) }) else {
            handle_alloc_error(memory)
        };
        let mut at = raw;
        let mut append = |bytes: &[u8]| {
            // SAFETY: head and parts together are as long as the allocation, which is fresh and
            // so cannot overlap with a part.
            unsafe {
                at.as_ptr()
                    .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                at = at.add(bytes.len());
            }
        };
        match head_len(body_len) {
            1 => append(&[body_len as u8]),
            2 => append(&[0x80 | (body_len >> 8) as u8, body_len as u8]),
            _ => {
                append(&[0xc0]);
                append(&(body_len as u64).to_le_bytes());
            }
        }
        parts.iter().for_each(|part| append(part));
        Block {
            raw,
            layout: PhantomData,
        }
    }

    /// Where the body is, from the head.
    #[inline]
    fn extent(&self) -> (NonNull<u8>, usize) {
        // SAFETY: `new` has written a head of the kind that its first bits announce.
        unsafe {
            let first = *self.raw.as_ptr();
            match first {
                0..0x80 => (self.raw.add(1), usize::from(first)),
                0x80..0xc0 => {
                    let low = *self.raw.as_ptr().add(1);
                    (self.raw.add(2), usize::from(first & 0x3f) << 8 | usize::from(low))
                }
                _ => {
                    let len = self.raw.add(1).cast::<[u8; 8]>().read();
                    (self.raw.add(9), u64::from_le_bytes(len) as usize)
                }
            }
        }
    }

    /// The body.
    #[inline]
    pub fn body(&self) -> &[u8] {
        let (at, len) = self.extent();
        // SAFETY: `new` has initialised this many bytes there.
        unsafe { std::slice::from_raw_parts(at.as_ptr(), len) }
    }

    /// The body, to be changed without its length or key.
    #[inline]
    pub fn body_mut(&mut self) -> &mut [u8] {
        let (at, len) = self.extent();
        // SAFETY: as in `body`, and the borrow is exclusive.
        unsafe { std::slice::from_raw_parts_mut(at.as_ptr(), len) }
    }

    /// Bytes asked from the allocator.
    #[inline]
    pub fn allocated_bytes(&self) -> usize {
        memory_of(self.body().len()).size()
    }
}

/// The body of a record, for as long as its table is borrowed.
#[inline]
pub fn body_in_table<'a, K: Keyed>(record: &Ref<'a, Block<K>>) -> &'a [u8] {
    let (at, len) = record.extent();
    // SAFETY: the table is borrowed for 'a, so the record can neither be changed nor freed.
    unsafe { std::slice::from_raw_parts(at.as_ptr(), len) }
}

impl<K: Keyed> Drop for Block<K> {
    #[inline]
    fn drop(&mut self) {
        let memory = memory_of(self.body().len());
        // SAFETY: allocated in `new` with the layout of this body length, and owned.
        unsafe { dealloc(self.raw.as_ptr(), memory) }
    }
}

// SAFETY: the block stays where it is, unchanged, until it is taken back; user-space addresses
// are below 2^48.
unsafe impl<K: Keyed> Record for Block<K> {
    #[inline]
    fn into_raw(self) -> NonNull<u8> {
        let raw = self.raw;
        std::mem::forget(self);
        raw
    }

    #[inline]
    unsafe fn from_raw(raw: NonNull<u8>) -> Block<K> {
        Block {
            raw,
            layout: PhantomData,
        }
    }

    #[inline]
    fn key(&self) -> &[u8] {
        K::key_of(self.body())
    }
}

impl<K: Keyed> fmt::Debug for Block<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Block").field(&self.body()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::table::{Table, hash};

    struct Whole;

    impl Keyed for Whole {
        fn key_of(body: &[u8]) -> &[u8] {
            body
        }
    }

    #[test]
    fn bodies_of_every_length_class_survive() {
        for len in [0, 1, 127, 128, 255, 256, 16383, 16384, 100_000] {
            let body: Vec<u8> = (0..len).map(|n| n as u8).collect();
            let mut block = Block::<Whole>::new(&[&body[..len / 3], &body[len / 3..]]);
            assert_eq!(block.body(), body);
            assert_eq!(block.key(), body);
            assert_eq!(block.allocated_bytes(), head_len(len) + len);
            block.body_mut().reverse();
            // SAFETY: the address comes from `into_raw` and is taken back once.
            let block = unsafe { Block::<Whole>::from_raw(block.into_raw()) };
            assert!(block.body().iter().rev().eq(&body));
        }
    }

    #[test]
    fn a_table_of_blocks_frees_and_finds_them() {
        let mut table = Table::<Block<Whole>>::new();
        for n in 0..1000_u32 {
            let key = n.to_string();
            table.insert(hash(key.as_bytes()), Block::new(&[key.as_bytes()]));
        }
        let bodies: Vec<&[u8]> = table.iter().map(|record| body_in_table(&record)).collect();
        assert_eq!(bodies.len(), 1000);
        assert!(table.get(hash(b"999"), b"999").is_some());
        assert!(table.get(hash(b"1000"), b"1000").is_none());
    }
}
