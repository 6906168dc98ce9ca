//! One run of bytes that an encoding edits in place: a home's blob, or a plain vector.
//!
//! The small encodings (listpack, intset) are algorithms over this trait, so that the same code
//! serves a value inside a keyspace entry, a node of a quicklist and a test.

use crate::home::{Home, Payload};

/// Bytes that can be read, overwritten and spliced.
pub trait Blob {
    /// All bytes.
    fn bytes(&self) -> &[u8];
    /// All bytes, for edits that keep the length.
    fn bytes_mut(&mut self) -> &mut [u8];
    /// Replaces `remove` bytes at `at` by `insert`. O(bytes behind `at`).
    fn splice(&mut self, at: usize, remove: usize, insert: &[u8]);
}

impl Blob for Vec<u8> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        self
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self
    }

    fn splice(&mut self, at: usize, remove: usize, insert: &[u8]) {
        let old_len = self.len();
        let tail = at + remove;
        if insert.len() > remove {
            self.resize(old_len + insert.len() - remove, 0);
            self.copy_within(tail..old_len, at + insert.len());
        } else if insert.len() < remove {
            self.copy_within(tail..old_len, at + insert.len());
            self.truncate(old_len + insert.len() - remove);
        }
        self[at..at + insert.len()].copy_from_slice(insert);
    }
}

/// The blob of a home. Empty when the home holds no blob.
#[derive(Debug)]
pub struct HomeBlob<'a, H: Home + ?Sized>(pub &'a mut H);

impl<H: Home + ?Sized> Blob for HomeBlob<'_, H> {
    #[inline]
    fn bytes(&self) -> &[u8] {
        match self.0.payload() {
            Payload::Blob(bytes) => bytes,
            Payload::Int(_) | Payload::Big(_) => &[],
        }
    }

    #[inline]
    fn bytes_mut(&mut self) -> &mut [u8] {
        self.0.blob_mut()
    }

    #[inline]
    fn splice(&mut self, at: usize, remove: usize, insert: &[u8]) {
        self.0.splice(at, remove, insert);
    }
}

#[cfg(test)]
mod tests {
    use super::Blob;

    #[test]
    fn splicing_a_vector_grows_shrinks_and_keeps_the_tail() {
        let mut bytes = b"abcdef".to_vec();
        Blob::splice(&mut bytes, 2, 1, b"XYZ");
        assert_eq!(bytes, b"abXYZdef");
        Blob::splice(&mut bytes, 2, 3, b"c");
        assert_eq!(bytes, b"abcdef");
        Blob::splice(&mut bytes, 6, 0, b"!");
        Blob::splice(&mut bytes, 0, 2, b"");
        assert_eq!(bytes, b"cdef!");
    }
}
