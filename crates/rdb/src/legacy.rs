//! The small encodings of old files, which become listpacks: ziplist and zipmap.
//!
//! ```text
//!   ziplist   total u32 LE | last u32 LE | items u16 LE | item .. | FF
//!   item      size of the one before: n | FE + u32 LE ; then
//!             00nnnnnn | 01nnnnnn n | 80 + u32 BE     a string of so many bytes
//!             C0 i16 | D0 i32 | E0 i64 | F0 i24 | FE i8 | F1..FD: 0..12
//!   zipmap    n | length, field, length, unused n, value, unused bytes .. | FF
//!   length    n | FE + u32 LE
//! ```

use datatypes::encoding::listpack::{Encoder, Item};

struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        self.take(N)?.try_into().ok()
    }

    fn byte(&mut self) -> Option<u8> {
        Some(self.array::<1>()?[0])
    }

    /// A number of one byte, or of four behind an FE.
    fn short_length(&mut self) -> Option<usize> {
        match self.byte()? {
            0xff => None,
            0xfe => Some(u32::from_le_bytes(self.array()?) as usize),
            len => Some(usize::from(len)),
        }
    }

    /// The same, of which the original makes four bytes only if it must.
    fn shortest_length(&mut self) -> Option<usize> {
        let before = self.0.len();
        let len = self.short_length()?;
        (before - self.0.len() == 1 || len >= 0xfe).then_some(len)
    }

    fn ziplist_item(&mut self) -> Option<Item<'a>> {
        let head = self.byte()?;
        let len = match head {
            0..0x40 => usize::from(head),
            0x40..0x80 => usize::from(head & 0x3f) << 8 | usize::from(self.byte()?),
            0x80 => u32::from_be_bytes(self.array()?) as usize,
            _ => return self.ziplist_integer(head).map(Item::Int),
        };
        self.take(len).map(Item::Bytes)
    }

    fn ziplist_integer(&mut self, head: u8) -> Option<i64> {
        Some(match head {
            0xc0 => i64::from(i16::from_le_bytes(self.array()?)),
            0xd0 => i64::from(i32::from_le_bytes(self.array()?)),
            0xe0 => i64::from_le_bytes(self.array()?),
            0xf0 => {
                let [low, middle, high] = self.array()?;
                i64::from(i32::from_le_bytes([0, low, middle, high]) >> 8)
            }
            0xfe => i64::from(i8::from_le_bytes(self.array()?)),
            0xf1..=0xfd => i64::from(head & 0x0f) - 1,
            _ => return None,
        })
    }
}

fn push(encoder: &mut Encoder, item: Item<'_>) {
    match item {
        Item::Int(number) => encoder.push_int(number),
        Item::Bytes(text) => encoder.push(text),
    }
}

/// The listpack of a ziplist's items; `None` if it is none. O(bytes).
pub fn from_ziplist(ziplist: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Bytes(ziplist);
    let total = u32::from_le_bytes(bytes.array()?);
    let last = u32::from_le_bytes(bytes.array()?) as usize;
    let stated = u16::from_le_bytes(bytes.array()?);
    if total as usize != ziplist.len() {
        return None;
    }
    let mut encoder = Encoder::new();
    let (mut size_before, mut last_at) = (0, bytes_before(ziplist, &bytes));
    while bytes.0.len() > 1 {
        let at = bytes_before(ziplist, &bytes);
        if bytes.short_length()? != size_before {
            return None;
        }
        push(&mut encoder, bytes.ziplist_item()?);
        size_before = bytes_before(ziplist, &bytes) - at;
        last_at = at;
    }
    let is_whole = bytes.byte()? == 0xff && bytes.0.is_empty() && last == last_at;
    let is_counted = stated == u16::MAX || usize::from(stated) == encoder.count();
    (is_whole && is_counted).then(|| encoder.to_pack())
}

fn bytes_before(all: &[u8], rest: &Bytes<'_>) -> usize {
    all.len() - rest.0.len()
}

/// The listpack of a zipmap's fields and values; `None` if it is none, or has none.
/// O(bytes).
pub fn from_zipmap(zipmap: &[u8]) -> Option<Vec<u8>> {
    let mut bytes = Bytes(zipmap);
    let stated = bytes.byte()?;
    let mut encoder = Encoder::new();
    while bytes.0.len() > 1 {
        let len = bytes.shortest_length()?;
        let field = bytes.take(len)?;
        let len = bytes.shortest_length()?;
        let unused = bytes.byte()?;
        let value = bytes.take(len)?;
        bytes.take(usize::from(unused))?;
        encoder.push(field);
        encoder.push(value);
    }
    let is_whole = bytes.byte()? == 0xff && bytes.0.is_empty();
    let is_counted = stated >= 254 || usize::from(stated) * 2 == encoder.count();
    (is_whole && is_counted && encoder.count() > 0).then(|| encoder.to_pack())
}
