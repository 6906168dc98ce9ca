//! How far a replica's own append-only file has the primary's stream on the disk, for REPLCONF FACK.
//!
//! The file and the stream count their bytes differently, so pairs of offsets are kept: when the file
//! is on the disk up to the first, the stream is up to the second.

use std::collections::VecDeque;

/// Pairs that are kept; beyond that the last one moves on.
const MARKS_MAX: usize = 64;

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Durable {
    marks: VecDeque<(u64, u64)>,
    reached: Option<u64>,
}

impl Durable {
    /// The file ends at `file_end`, and the stream that it has at `stream_end`.
    pub fn note(&mut self, file_end: u64, stream_end: u64) {
        let is_full = self.marks.len() == MARKS_MAX;
        match self.marks.back_mut() {
            Some(last) if is_full || last.0 == file_end => *last = (file_end, stream_end),
            _ => self.marks.push_back((file_end, stream_end)),
        }
    }

    /// Looks which of the file's ends are on the disk; up to where the stream is.
    pub fn look(&mut self, is_durable: impl Fn(u64) -> bool) -> Option<u64> {
        while let Some((file_end, stream_end)) = self.marks.front().copied()
            && is_durable(file_end)
        {
            self.reached = Some(stream_end);
            self.marks.pop_front();
        }
        self.reached
    }

    /// Nothing is known any more: the file begins anew, or there is none.
    pub fn forget(&mut self) {
        *self = Durable::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stream_is_durable_as_far_as_the_file_is() {
        let mut durable = Durable::default();
        assert_eq!(durable.look(|_| true), None);
        durable.note(10, 1000);
        durable.note(20, 2000);
        durable.note(20, 2014); // a PING, which the file does not have
        assert_eq!(durable.look(|end| end <= 5), None);
        assert_eq!(durable.look(|end| end <= 19), Some(1000));
        assert_eq!(durable.look(|end| end <= 20), Some(2014));
        for at in 0..1000 {
            durable.note(100 + at, 10_000 + at);
        }
        assert_eq!(durable.look(|end| end < 100 + 999), Some(10_000 + 62), "the last has moved on");
        assert_eq!(durable.look(|_| true), Some(10_999));
        durable.forget();
        assert_eq!(durable.look(|_| true), None);
    }
}
