//! Strings: bytes, or an integer in eight bytes when the text is one.
//!
//! `SET` chooses between the two; an increment makes an integer; editing bytes in place (`APPEND`,
//! `SETRANGE`) makes bytes that stay bytes, marked [`Encoding::Edited`] so that OBJECT ENCODING
//! says `raw` as users expect.

use std::fmt;

use stdx::number::parse_i64;

use crate::encoding::listpack::{Item, ItemBuffer};
use crate::home::{Encoding, Home, NewPayload, Owned, Payload};

/// A string for reading: `Int` or `Bytes`, with `text_len`, `text`, `write_to`, `int`, `is`.
pub type StringRef<'a> = Item<'a>;

/// Up to this many bytes OBJECT ENCODING says `embstr`.
pub const EMBEDDED_MAX_BYTES: usize = 44;

/// Encoding and payload of a string with this text.
#[inline]
pub fn fresh(text: &[u8]) -> (Encoding, NewPayload<'_>) {
    match parse_i64(text) {
        Some(n) => (Encoding::Int, NewPayload::Int(n)),
        None => (Encoding::Raw, NewPayload::Blob(text)),
    }
}

/// The home of a string that is its own. O(1) unless it is a number.
pub fn owned(text: Vec<u8>) -> Owned {
    match parse_i64(&text) {
        Some(n) => Owned::new(Encoding::Int, NewPayload::Int(n)),
        None => Owned::of_blob(Encoding::Raw, text),
    }
}

/// The string in a payload. `None` for other types.
#[inline]
pub fn view(encoding: Encoding, payload: Payload<'_>) -> Option<StringRef<'_>> {
    match (encoding, payload) {
        (Encoding::Int, Payload::Int(n)) => Some(Item::Int(n)),
        (Encoding::Raw | Encoding::Edited, Payload::Blob(bytes)) => Some(Item::Bytes(bytes)),
        _ => None,
    }
}

/// The part of `text` from `start` to `end`, both included; negative ones count from the end.
pub fn range(text: &[u8], start: i64, end: i64) -> &[u8] {
    let len = text.len() as i64;
    if start < 0 && end < 0 && start > end {
        return &[];
    }
    let from_end = |index: i64| {
        if index < 0 {
            (len + index.max(-len)).max(0)
        } else {
            index
        }
    };
    let (start, end) = (from_end(start), from_end(end).min(len - 1));
    match start <= end {
        true => &text[start as usize..=end as usize],
        false => &[],
    }
}

/// Why a string was not incremented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IncrementError {
    /// The text is not a canonical 64-bit integer.
    NotAnInteger,
    /// The sum does not fit 64 bits.
    Overflow,
}

impl fmt::Display for IncrementError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            IncrementError::NotAnInteger => "not an integer",
            IncrementError::Overflow => "overflow",
        })
    }
}

impl std::error::Error for IncrementError {}

/// A string for writing. The home holds a string.
#[derive(Debug)]
pub struct StringMut<H: Home> {
    home: H,
}

impl<H: Home> StringMut<H> {
    /// A handle on the string in `home`.
    pub fn new(home: H) -> StringMut<H> {
        StringMut { home }
    }

    /// The string as it is.
    #[inline]
    pub fn view(&self) -> StringRef<'_> {
        view(self.home.encoding(), self.home.payload()).unwrap_or(Item::Bytes(&[]))
    }

    /// Replaces the whole text.
    pub fn set(&mut self, text: &[u8]) {
        let (encoding, payload) = fresh(text);
        self.home.put(encoding, payload);
    }

    /// Replaces the whole text by an integer.
    #[inline]
    pub fn set_int(&mut self, n: i64) {
        self.home.put(Encoding::Int, NewPayload::Int(n));
    }

    /// Adds `delta` to an integer; the sum. O(1).
    #[inline]
    pub fn increment(&mut self, delta: i64) -> Result<i64, IncrementError> {
        let n = self.view().int().ok_or(IncrementError::NotAnInteger)?;
        let sum = n.checked_add(delta).ok_or(IncrementError::Overflow)?;
        self.set_int(sum);
        Ok(sum)
    }

    /// Adds `text` at the end; the new length in bytes. O(text), if the home has room.
    pub fn append(&mut self, text: &[u8]) -> usize {
        let len = self.view().text_len();
        self.edit(len, 0, text);
        len + text.len()
    }

    /// Overwrites from byte `offset` on, with zeros before it if need be; the new length in bytes.
    /// An empty text changes nothing.
    pub fn set_range(&mut self, offset: usize, text: &[u8]) -> usize {
        let len = self.view().text_len();
        if text.is_empty() {
            return len;
        }
        if offset > len {
            let mut padded = vec![0; offset - len];
            padded.extend_from_slice(text);
            self.edit(len, 0, &padded);
        } else {
            self.edit(offset, text.len().min(len - offset), text);
        }
        len.max(offset + text.len())
    }

    /// The bytes, at least `min_len` of them by adding zeros, for edits in place (bitmaps).
    pub fn bytes_mut(&mut self, min_len: usize) -> &mut [u8] {
        let len = self.view().text_len();
        self.edit(len, 0, &vec![0; min_len.saturating_sub(len)]);
        self.home.blob_mut()
    }

    /// One splice of the text, which is bytes from then on.
    fn edit(&mut self, at: usize, remove: usize, insert: &[u8]) {
        let text = match (self.home.encoding(), self.view()) {
            (Encoding::Raw, Item::Bytes(bytes)) if bytes.len() <= EMBEDDED_MAX_BYTES => bytes,
            (_, Item::Bytes(_)) => return self.home.splice(at, remove, insert),
            (_, Item::Int(n)) => &*ItemBuffer::new().format(n).as_bytes().to_vec(),
        };
        let mut edited = Vec::with_capacity(text.len() + insert.len());
        edited.extend_from_slice(&text[..at]);
        edited.extend_from_slice(insert);
        edited.extend_from_slice(&text[at + remove..]);
        self.home.put(Encoding::Edited, NewPayload::Blob(&edited));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::home::Owned;
    use crate::testing::Random;

    fn home(text: &[u8]) -> Owned {
        let (encoding, payload) = fresh(text);
        Owned::new(encoding, payload)
    }

    #[test]
    fn ranges_follow_getrange() {
        let cases = [
            (0, 3, "This"),
            (-3, -1, "ing"),
            (0, -1, "This string"),
            (-100, 2, "Thi"),
            (5, 100, "string"),
            (8, 4, ""),
            (11, 20, ""),
            (-2, -5, ""),
            (0, -100, "T"),
            (i64::MIN, i64::MAX, "This string"),
        ];
        for (start, end, expected) in cases {
            assert_eq!(range(b"This string", start, end), expected.as_bytes(), "{start} {end}");
        }
        assert_eq!(range(b"", 0, -1), b"");
    }

    #[test]
    fn edits_agree_with_a_vector() {
        let mut random = Random(5);
        for _ in 0..200 {
            let mut model = random.item(200);
            let mut home = home(&model);
            for _ in 0..6 {
                let text = random.item(200);
                let mut string = StringMut::new(&mut home);
                match random.below(3) {
                    0 => {
                        model.extend_from_slice(&text);
                        assert_eq!(string.append(&text), model.len());
                    }
                    1 => {
                        let offset = random.below(120) as usize;
                        model.resize(model.len().max(offset + text.len()), 0);
                        model[offset..offset + text.len()].copy_from_slice(&text);
                        assert_eq!(string.set_range(offset, &text), model.len());
                    }
                    _ => {
                        let len = random.below(90) as usize;
                        model.resize(model.len().max(len), 0);
                        model[0] = 0xff;
                        string.bytes_mut(len)[0] = 0xff;
                    }
                }
                assert_eq!(string.view().to_vec(), model);
                assert!(home.encoding() == Encoding::Edited || is_long_raw(&home));
            }
        }
    }

    fn is_long_raw(home: &Owned) -> bool {
        home.encoding() == Encoding::Raw
            && view(home.encoding(), home.payload()).is_some_and(|s| s.text_len() > 44)
    }

    #[test]
    fn increments_keep_the_integer_and_refuse_what_is_none() {
        let mut counter = home(b"41");
        assert_eq!(StringMut::new(&mut counter).increment(1), Ok(42));
        assert_eq!(counter.encoding(), Encoding::Int);
        let overflow = StringMut::new(&mut counter).increment(i64::MAX);
        assert_eq!(overflow, Err(IncrementError::Overflow));
        StringMut::new(&mut counter).append(b"0");
        assert_eq!(counter.encoding(), Encoding::Edited);
        assert_eq!(StringMut::new(&mut counter).increment(-21), Ok(399));
        assert_eq!(counter.encoding(), Encoding::Int);
        StringMut::new(&mut counter).append(b" ");
        let text = StringMut::new(&mut counter).increment(1);
        assert_eq!(text, Err(IncrementError::NotAnInteger));
        assert_eq!(StringMut::new(&mut counter).set_range(0, b""), 4);
    }
}
