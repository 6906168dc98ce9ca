//! The identity of an entry: milliseconds and a number within them, ordered as one 128-bit number.

use std::fmt;

/// See the top of the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId {
    /// Unix time in milliseconds, by convention.
    pub ms: u64,
    /// The entry's number among those of this millisecond.
    pub seq: u64,
}

impl StreamId {
    /// The smallest id, which no entry has.
    pub const MIN: StreamId = StreamId::new(0, 0);
    /// The largest id.
    pub const MAX: StreamId = StreamId::new(u64::MAX, u64::MAX);

    /// An id of these two parts.
    pub const fn new(ms: u64, seq: u64) -> StreamId {
        StreamId { ms, seq }
    }

    /// Whether it is the smallest one, which stands for none.
    pub fn is_zero(self) -> bool {
        self == StreamId::MIN
    }

    /// The id that follows; `None` behind the largest one.
    pub fn next(self) -> Option<StreamId> {
        match self.seq.checked_add(1) {
            Some(seq) => Some(StreamId::new(self.ms, seq)),
            None => Some(StreamId::new(self.ms.checked_add(1)?, 0)),
        }
    }

    /// The id before it; `None` before the smallest one.
    pub fn prev(self) -> Option<StreamId> {
        match self.seq.checked_sub(1) {
            Some(seq) => Some(StreamId::new(self.ms, seq)),
            None => Some(StreamId::new(self.ms.checked_sub(1)?, u64::MAX)),
        }
    }

    /// As RDB files write it: sixteen bytes, most significant first.
    pub fn to_bytes(self) -> [u8; 16] {
        ((u128::from(self.ms) << 64) | u128::from(self.seq)).to_be_bytes()
    }

    /// The inverse of [`StreamId::to_bytes`].
    pub fn from_bytes(bytes: [u8; 16]) -> StreamId {
        let number = u128::from_be_bytes(bytes);
        StreamId::new((number >> 64) as u64, number as u64)
    }
}

impl fmt::Display for StreamId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.ms, self.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::StreamId;

    #[test]
    fn neighbours_cross_milliseconds() {
        let id = StreamId::new(5, u64::MAX);
        assert_eq!(id.next(), Some(StreamId::new(6, 0)));
        assert_eq!(StreamId::new(6, 0).prev(), Some(id));
        assert_eq!(StreamId::MAX.next(), None);
        assert_eq!(StreamId::MIN.prev(), None);
        assert!(id < StreamId::new(6, 0));
        assert_eq!(StreamId::from_bytes(id.to_bytes()), id);
        assert!(id.to_bytes() < StreamId::new(6, 0).to_bytes());
        assert_eq!(id.to_string(), "5-18446744073709551615");
    }
}
