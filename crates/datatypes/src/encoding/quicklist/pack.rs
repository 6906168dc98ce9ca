//! A listpack with room at either end, for a node that is pushed to and popped from.
//!
//! ```text
//!   0         start                      len          capacity
//!   | unused  | header | items ... | end |  unused     |
//! ```
//!
//! An edit moves the shorter side, so both ends cost O(item). Room comes in steps of a quarter and
//! goes when the node is complete: [`Pack::seal`] copies it into a block of its exact size, which a
//! shrinking reallocation would not do in every allocator.

use crate::encoding::blob::Blob;

const STEP_BYTES_MIN: usize = 32;
const STEP_BYTES_MAX: usize = 4096;

/// The bytes of one listpack.
#[derive(Clone, Debug)]
pub struct Pack {
    buffer: Vec<u8>,
    start: u32,
    /// Number of items, kept by the owner.
    pub count: u32,
}

impl Pack {
    /// A pack of these bytes with `count` items.
    pub fn new(bytes: Vec<u8>, count: u32) -> Pack {
        Pack {
            buffer: bytes,
            start: 0,
            count,
        }
    }

    /// The bytes, on their own.
    pub fn into_bytes(mut self) -> Vec<u8> {
        self.buffer.drain(..self.start as usize);
        self.buffer
    }

    /// Gives up all unused room. O(bytes).
    pub fn seal(&mut self) {
        if self.buffer.capacity() != self.bytes().len() {
            self.move_into(0, 0);
        }
    }

    /// Bytes asked of the allocator.
    pub fn allocated_bytes(&self) -> usize {
        self.buffer.capacity()
    }

    fn move_into(&mut self, front: usize, back: usize) {
        let old = self.bytes();
        let mut buffer = Vec::with_capacity(front + old.len() + back);
        buffer.resize(front, 0);
        buffer.extend_from_slice(old);
        self.buffer = buffer;
        self.start = front as u32;
    }

    /// Makes room for `more` bytes before (or behind) the listpack.
    fn make_room(&mut self, more: usize, front: bool) {
        let len = self.bytes().len();
        let have = if front {
            self.start as usize
        } else {
            self.buffer.capacity() - self.buffer.len()
        };
        if have >= more {
            return;
        }
        let room = more + (len / 4).clamp(STEP_BYTES_MIN, STEP_BYTES_MAX);
        if front {
            self.move_into(room, 0)
        } else {
            self.move_into(0, room)
        }
    }
}

impl Blob for Pack {
    #[inline]
    fn bytes(&self) -> &[u8] {
        &self.buffer[self.start as usize..]
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.buffer[self.start as usize..]
    }

    fn splice(&mut self, at: usize, remove: usize, insert: &[u8]) {
        let len = self.bytes().len();
        let front = at < len - at - remove;
        self.make_room(insert.len().saturating_sub(remove), front);
        let old_start = self.start as usize;
        let new_len = len + insert.len() - remove;
        if front {
            let start = old_start + remove - insert.len();
            self.buffer.copy_within(old_start..old_start + at, start);
            self.start = start as u32;
        } else {
            let (from, to) = (old_start + at + remove, old_start + at + insert.len());
            let old_end = old_start + len;
            self.buffer.resize((old_start + new_len).max(old_end), 0);
            self.buffer.copy_within(from..old_end, to);
            self.buffer.truncate(old_start + new_len);
        }
        self.bytes_mut()[at..at + insert.len()].copy_from_slice(insert);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    #[test]
    fn splices_agree_with_a_vector() {
        let mut random = Random(1);
        let mut pack = Pack::new(b"abc".to_vec(), 0);
        let mut model = b"abc".to_vec();
        for step in 0..20_000 {
            let at = random.below(model.len() as u64 + 1) as usize;
            let grows = random.below(200) as usize > model.len() / 10;
            let remove = random.below(if grows { 3 } else { 40 }) as usize;
            let remove = remove.min(model.len() - at);
            let insert = vec![step as u8; random.below(if grows { 40 } else { 3 }) as usize];
            pack.splice(at, remove, &insert);
            model.splice(at..at + remove, insert);
            if step % 1000 == 0 {
                pack.seal();
                assert_eq!(pack.allocated_bytes(), model.len());
            }
            assert_eq!(pack.bytes(), model);
        }
        assert_eq!(pack.into_bytes(), model);
    }
}
