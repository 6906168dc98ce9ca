//! Listpack: a sequence of strings and integers in one run of bytes, walked from either end.
//!
//! ```text
//!   total bytes u32 LE | items u16 LE (65535: count them) | item ... | 0xFF
//!   item: head, data, back length
//!   0xxxxxxx            0..127                    11110001 + 2   16-bit integer LE
//!   10xxxxxx + data     string below 64           11110010 + 3   24-bit
//!   110xxxxx + 1        13-bit signed integer     11110011 + 4   32-bit
//!   1110xxxx + 1 + data string below 4096         11110100 + 8   64-bit
//!   11110000 + 4 + data string, length u32 LE
//!   back length: size of head and data, seven bits per byte, low bits last,
//!                every byte but the first with the high bit set
//! ```
//!
//! The bytes are those of an RDB file. Canonical decimal text is stored as an integer. Positions
//! are byte offsets, valid until the next edit. Only [`validate`] may be fed unchecked bytes; the
//! rest answers nonsense or panics on bytes that are no listpack.

use std::fmt;

use stdx::number::parse_i64;

use super::blob::Blob;

/// A listpack without items.
pub const EMPTY: [u8; 7] = [7, 0, 0, 0, 0, 0, END];

/// The size at which no more items should be added, bytes.
pub const MAX_BYTES: usize = 1 << 30;

const HEADER: usize = 6;
const END: u8 = 0xff;
const UNKNOWN_COUNT: u16 = u16::MAX;

/// The bytes are not what they claim to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt {
    /// Where the contradiction showed, bytes from the start.
    pub offset: usize,
}

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "corrupt encoding at byte {}", self.offset)
    }
}

impl std::error::Error for Corrupt {}

/// One element, as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item<'a> {
    /// Canonical decimal text, as its number.
    Int(i64),
    /// Any other text.
    Bytes(&'a [u8]),
}

/// Room for the text of an integer [`Item`].
pub type ItemBuffer = itoa::Buffer;

impl<'a> Item<'a> {
    /// The item that stores `text`: an integer where the text is one.
    #[inline]
    pub fn of(text: &'a [u8]) -> Item<'a> {
        match parse_i64(text) {
            Some(n) => Item::Int(n),
            None => Item::Bytes(text),
        }
    }

    /// The text; `buffer` holds the digits of an integer.
    #[inline]
    pub fn text<'b>(self, buffer: &'b mut ItemBuffer) -> &'b [u8]
    where
        'a: 'b,
    {
        match self {
            Item::Int(n) => buffer.format(n).as_bytes(),
            Item::Bytes(bytes) => bytes,
        }
    }

    /// Appends the text to `out`.
    #[inline]
    pub fn write_to(self, out: &mut Vec<u8>) {
        out.extend_from_slice(self.text(&mut ItemBuffer::new()));
    }

    /// The text in a vector of its own.
    pub fn to_vec(self) -> Vec<u8> {
        self.text(&mut ItemBuffer::new()).to_vec()
    }

    /// Length of the text, bytes.
    #[inline]
    pub fn text_len(self) -> usize {
        match self {
            Item::Int(n) => int_text_len(n),
            Item::Bytes(bytes) => bytes.len(),
        }
    }

    /// The number, if the text is a canonical integer.
    #[inline]
    pub fn int(self) -> Option<i64> {
        match self {
            Item::Int(n) => Some(n),
            Item::Bytes(bytes) => parse_i64(bytes),
        }
    }

    /// Whether the text is `text`.
    #[inline]
    pub fn is(self, text: &[u8]) -> bool {
        match self {
            Item::Int(n) => parse_i64(text) == Some(n),
            Item::Bytes(bytes) => bytes == text,
        }
    }
}

/// Digits and sign of `n` in decimal.
#[inline]
pub fn int_text_len(n: i64) -> usize {
    let digits = n.unsigned_abs().checked_ilog10().unwrap_or(0) as usize + 1;
    digits + usize::from(n < 0)
}

// ---- Reading ----------------------------------------------------------------------------------

/// The number of items. O(1) below 65535, else O(n).
#[inline]
pub fn len(pack: &[u8]) -> usize {
    match u16::from_le_bytes([pack[4], pack[5]]) {
        UNKNOWN_COUNT => iter(pack).count(),
        count => usize::from(count),
    }
}

/// Whether there are no items. O(1).
#[inline]
pub fn is_empty(pack: &[u8]) -> bool {
    pack[HEADER] == END
}

/// The first position, if any. O(1).
#[inline]
pub fn first(pack: &[u8]) -> Option<usize> {
    (pack[HEADER] != END).then_some(HEADER)
}

/// The last position, if any. O(1).
#[inline]
pub fn last(pack: &[u8]) -> Option<usize> {
    prev(pack, end(pack))
}

/// The position behind the last item, for inserting there. O(1).
#[inline]
pub fn end(pack: &[u8]) -> usize {
    pack.len() - 1
}

/// The position behind `at`, if there is an item. O(1).
#[inline]
pub fn next(pack: &[u8], at: usize) -> Option<usize> {
    let next = skip(pack, at);
    (pack[next] != END).then_some(next)
}

/// The position before `at`, if there is one; `at` may be [`end`]. O(1).
#[inline]
pub fn prev(pack: &[u8], at: usize) -> Option<usize> {
    if at <= HEADER {
        return None;
    }
    let mut back = at - 1;
    let mut size = usize::from(pack[back] & 0x7f);
    let mut shift = 7;
    while pack[back] & 0x80 != 0 {
        back -= 1;
        size |= usize::from(pack[back] & 0x7f) << shift;
        shift += 7;
    }
    Some(back - size)
}

/// The position of the item with this index; negative ones count from the end. O(n).
pub fn seek(pack: &[u8], index: i64) -> Option<usize> {
    let count = u16::from_le_bytes([pack[4], pack[5]]);
    let index = match count {
        UNKNOWN_COUNT => index,
        _ if index < -i64::from(count) || index >= i64::from(count) => return None,
        _ if index > i64::from(count) / 2 => index - i64::from(count),
        _ if index < -i64::from(count) / 2 => index + i64::from(count),
        _ => index,
    };
    let mut at = if index < 0 { last(pack)? } else { first(pack)? };
    for _ in 0..if index < 0 { -1 - index } else { index } {
        at = if index < 0 {
            prev(pack, at)?
        } else {
            next(pack, at)?
        };
    }
    Some(at)
}

/// The item at a position. O(1).
#[inline]
pub fn get(pack: &[u8], at: usize) -> Item<'_> {
    read(pack, at).0
}

/// The item at a position, and the position behind it (which may be [`end`]). O(1).
#[inline]
pub fn read(pack: &[u8], at: usize) -> (Item<'_>, usize) {
    let head = pack[at];
    if head < 0x80 {
        return (Item::Int(i64::from(head)), at + 2);
    }
    if head < 0xc0 {
        let data = at + 1 + usize::from(head & 0x3f);
        return (Item::Bytes(&pack[at + 1..data]), data + 1);
    }
    read_long(pack, at)
}

fn read_long(pack: &[u8], at: usize) -> (Item<'_>, usize) {
    let size = head_and_data(pack, at);
    let data = &pack[at..at + size];
    let item = match data[0] {
        0xc0..=0xdf => {
            let bits = u16::from(data[0] & 0x1f) << 8 | u16::from(data[1]);
            Item::Int(i64::from((bits << 3) as i16 >> 3))
        }
        0xe0..=0xef => Item::Bytes(&data[2..]),
        0xf0 => Item::Bytes(&data[5..]),
        _ => Item::Int(int_le(&data[1..])),
    };
    (item, at + size + back_size(size))
}

/// Little-endian two's complement of up to eight bytes.
fn int_le(bytes: &[u8]) -> i64 {
    let mut wide = [0; 8];
    wide[8 - bytes.len()..].copy_from_slice(bytes);
    i64::from_le_bytes(wide) >> (64 - 8 * bytes.len())
}

/// The size of head and data of the item at `at`.
#[inline]
fn head_and_data(pack: &[u8], at: usize) -> usize {
    match pack[at] {
        0..=0x7f => 1,
        head @ 0x80..=0xbf => 1 + usize::from(head & 0x3f),
        0xc0..=0xdf => 2,
        head @ 0xe0..=0xef => 2 + (usize::from(head & 0x0f) << 8 | usize::from(pack[at + 1])),
        0xf0 => 5 + u32_at(pack, at + 1) as usize,
        0xf1 => 3,
        0xf2 => 4,
        0xf3 => 5,
        0xf4 => 9,
        _ => panic!("no item begins with this byte"),
    }
}

/// The position behind the item at `at`.
#[inline]
fn skip(pack: &[u8], at: usize) -> usize {
    let size = head_and_data(pack, at);
    at + size + back_size(size)
}

/// Bytes of a back length. The bounds exclude the largest number of each size, as on file.
#[inline]
fn back_size(size: usize) -> usize {
    match size {
        0..=127 => 1,
        128..16383 => 2,
        16383..2097151 => 3,
        2097151..268435455 => 4,
        _ => 5,
    }
}

#[inline]
fn u32_at(pack: &[u8], at: usize) -> u32 {
    u32::from_le_bytes([pack[at], pack[at + 1], pack[at + 2], pack[at + 3]])
}

/// All items, first to last.
#[inline]
pub fn iter(pack: &[u8]) -> Iter<'_> {
    Iter { pack, at: HEADER }
}

/// All items from position `at` on, which may be [`end`].
#[inline]
pub fn iter_from(pack: &[u8], at: usize) -> Iter<'_> {
    Iter { pack, at }
}

/// All items, last to first.
#[inline]
pub fn iter_rev(pack: &[u8]) -> IterRev<'_> {
    IterRev {
        pack,
        at: end(pack),
    }
}

/// All items before position `at`, last to first.
#[inline]
pub fn iter_rev_from(pack: &[u8], at: usize) -> IterRev<'_> {
    IterRev { pack, at }
}

/// See [`iter`].
#[derive(Clone, Copy, Debug)]
pub struct Iter<'a> {
    pack: &'a [u8],
    at: usize,
}

impl Iter<'_> {
    /// The position of the item that comes next, or [`end`].
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for Iter<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        if self.pack[self.at] == END {
            return None;
        }
        let (item, next) = read(self.pack, self.at);
        self.at = next;
        Some(item)
    }
}

/// See [`iter_rev`].
#[derive(Clone, Copy, Debug)]
pub struct IterRev<'a> {
    pack: &'a [u8],
    at: usize,
}

impl IterRev<'_> {
    /// The position of the item that came last.
    #[inline]
    pub fn position(&self) -> usize {
        self.at
    }
}

impl<'a> Iterator for IterRev<'a> {
    type Item = Item<'a>;

    #[inline]
    fn next(&mut self) -> Option<Item<'a>> {
        self.at = prev(self.pack, self.at)?;
        Some(get(self.pack, self.at))
    }
}

/// The position of the first item that is `needle`, looking at one and passing over `skipped`.
/// O(bytes).
#[inline]
pub fn find(pack: &[u8], needle: &[u8], skipped: usize) -> Option<usize> {
    find_from(pack, HEADER, needle, skipped)
}

/// Like [`find`], beginning with the item at `from`, which may be [`end`].
pub fn find_from(pack: &[u8], from: usize, needle: &[u8], skipped: usize) -> Option<usize> {
    let number = parse_i64(needle);
    let mut at = from;
    loop {
        let head = pack[at];
        let following = if head < 0x80 {
            if number == Some(i64::from(head)) {
                return Some(at);
            }
            at + 2
        } else if head < 0xc0 {
            let len = usize::from(head & 0x3f);
            if len == needle.len() && &pack[at + 1..at + 1 + len] == needle {
                return Some(at);
            }
            at + len + 2
        } else if head == END {
            return None;
        } else {
            let (item, following) = read_long(pack, at);
            let found = match item {
                Item::Int(n) => number == Some(n),
                Item::Bytes(bytes) => bytes == needle,
            };
            if found {
                return Some(at);
            }
            following
        };
        at = following;
        for _ in 0..skipped {
            if pack[at] == END {
                return None;
            }
            at = skip(pack, at);
        }
    }
}

/// The items without header and end, ready for [`insert_encoded`].
#[inline]
pub fn encoded(pack: &[u8]) -> &[u8] {
    &pack[HEADER..pack.len() - 1]
}

/// Whether `extra` more bytes of text in at most a few items may be added.
#[inline]
pub fn has_room(pack: &[u8], extra: usize) -> bool {
    pack.len() + extra <= MAX_BYTES
}

// ---- Writing ----------------------------------------------------------------------------------

const ON_STACK: usize = 200;

/// Items in their encoded form, on the stack while they are small. Gathers what one splice writes.
#[derive(Debug)]
pub struct Encoder {
    stack: [u8; ON_STACK],
    used: usize,
    heap: Vec<u8>,
    count: usize,
}

impl Default for Encoder {
    fn default() -> Encoder {
        Encoder::new()
    }
}

impl Encoder {
    /// No items.
    #[inline]
    pub fn new() -> Encoder {
        Encoder {
            stack: [0; ON_STACK],
            used: 0,
            heap: Vec::new(),
            count: 0,
        }
    }

    /// Adds an item with this text.
    #[inline]
    pub fn push(&mut self, text: &[u8]) {
        self.push_item(Item::of(text));
    }

    /// Adds an item as it is; `Bytes` stays bytes even if it looks like an integer.
    pub fn push_item(&mut self, item: Item<'_>) {
        match item {
            Item::Int(n) => self.push_int(n),
            Item::Bytes(text) => self.push_bytes(text),
        }
    }

    /// Adds an integer.
    pub fn push_int(&mut self, n: i64) {
        let wide = n.to_le_bytes();
        let mut head = [0; 9];
        let size = match n {
            0..=127 => {
                head[0] = wide[0];
                1
            }
            -4096..=4095 => {
                head[0] = 0xc0 | (wide[1] & 0x1f);
                head[1] = wide[0];
                2
            }
            _ => {
                let (code, width) = match n {
                    -32768..=32767 => (0xf1, 2),
                    -8388608..=8388607 => (0xf2, 3),
                    -2147483648..=2147483647 => (0xf3, 4),
                    _ => (0xf4, 8),
                };
                head[0] = code;
                head[1..=width].copy_from_slice(&wide[..width]);
                1 + width
            }
        };
        self.write(&head[..size], &[]);
    }

    fn push_bytes(&mut self, text: &[u8]) {
        let len = (text.len() as u32).to_le_bytes();
        match text.len() {
            0..64 => self.write(&[0x80 | len[0]], text),
            64..4096 => self.write(&[0xe0 | len[1], len[0]], text),
            _ => self.write(&[0xf0, len[0], len[1], len[2], len[3]], text),
        }
    }

    fn write(&mut self, head: &[u8], data: &[u8]) {
        let size = head.len() + data.len();
        let mut back = [0; 5];
        let back = back_length(size, &mut back);
        self.append(head);
        self.append(data);
        self.append(back);
        self.count += 1;
    }

    fn append(&mut self, bytes: &[u8]) {
        if self.heap.is_empty() {
            if let Some(room) = self.stack.get_mut(self.used..self.used + bytes.len()) {
                room.copy_from_slice(bytes);
                self.used += bytes.len();
                return;
            }
            self.heap.reserve(self.used + bytes.len() + 16);
            self.heap.extend_from_slice(&self.stack[..self.used]);
        }
        self.heap.extend_from_slice(bytes);
    }

    /// The number of items added.
    pub fn count(&self) -> usize {
        self.count
    }

    /// The items, encoded.
    #[inline]
    pub fn encoded(&self) -> &[u8] {
        match self.heap.is_empty() {
            true => &self.stack[..self.used],
            false => &self.heap,
        }
    }

    /// A whole listpack of the items.
    pub fn to_pack(&self) -> Vec<u8> {
        let encoded = self.encoded();
        let mut pack = Vec::with_capacity(EMPTY.len() + encoded.len());
        pack.extend_from_slice(&EMPTY);
        insert_encoded(&mut pack, HEADER, encoded, self.count);
        pack
    }
}

fn back_length(size: usize, buffer: &mut [u8; 5]) -> &[u8] {
    let width = back_size(size);
    let mut rest = size;
    for byte in buffer[..width].iter_mut().rev() {
        *byte = (rest & 0x7f) as u8 | 0x80;
        rest >>= 7;
    }
    buffer[0] &= 0x7f;
    &buffer[..width]
}

/// Inserts an item before position `at`, which may be [`end`]. O(bytes behind `at`).
pub fn insert_before<B: Blob>(blob: &mut B, at: usize, text: &[u8]) {
    insert_all(blob, at, &[text]);
}

/// Inserts several items before position `at` with one splice. O(bytes behind `at`).
pub fn insert_all<B: Blob>(blob: &mut B, at: usize, texts: &[&[u8]]) {
    let mut encoder = Encoder::new();
    texts.iter().for_each(|text| encoder.push(text));
    edit(blob, at, 0, encoder.encoded(), encoder.count as isize);
}

/// Inserts `count` items in encoded form before position `at`. O(bytes behind `at`).
pub fn insert_encoded<B: Blob>(blob: &mut B, at: usize, encoded: &[u8], count: usize) {
    edit(blob, at, 0, encoded, count as isize);
}

/// Adds an item at the end. O(item), if the blob has room.
#[inline]
pub fn push_back<B: Blob>(blob: &mut B, text: &[u8]) {
    let at = end(blob.bytes());
    insert_before(blob, at, text);
}

/// Adds an item at the front. O(bytes).
#[inline]
pub fn push_front<B: Blob>(blob: &mut B, text: &[u8]) {
    insert_before(blob, HEADER, text);
}

/// Replaces the item at position `at`. O(bytes behind `at`); O(item) if the size stays.
pub fn replace<B: Blob>(blob: &mut B, at: usize, text: &[u8]) {
    let mut encoder = Encoder::new();
    encoder.push(text);
    let old_size = skip(blob.bytes(), at) - at;
    edit(blob, at, old_size, encoder.encoded(), 0);
}

/// Removes up to `n_items` items from position `at` on; what followed them is then at `at`.
/// O(bytes behind `at`).
pub fn remove<B: Blob>(blob: &mut B, at: usize, n_items: usize) {
    let pack = blob.bytes();
    let (mut behind, mut removed) = (at, 0);
    while removed < n_items && pack[behind] != END {
        behind = skip(pack, behind);
        removed += 1;
    }
    edit(blob, at, behind - at, &[], -(removed as isize));
}

/// Removes everything from position `at` on. O(n) beyond 65534 items, else O(items removed).
pub fn truncate<B: Blob>(blob: &mut B, at: usize) {
    remove(blob, at, usize::MAX);
}

/// One splice of whole items, `count_delta` more or fewer, and the header that follows from it.
fn edit<B: Blob>(blob: &mut B, at: usize, remove: usize, insert: &[u8], count_delta: isize) {
    if remove == insert.len() {
        blob.bytes_mut()[at..at + remove].copy_from_slice(insert);
    } else {
        blob.splice(at, remove, insert);
    }
    let pack = blob.bytes_mut();
    let total = pack.len() as u32;
    pack[..4].copy_from_slice(&total.to_le_bytes());
    let count = u16::from_le_bytes([pack[4], pack[5]]);
    if count != UNKNOWN_COUNT {
        let count = (count as isize + count_delta).clamp(0, UNKNOWN_COUNT as isize) as u16;
        pack[4..6].copy_from_slice(&count.to_le_bytes());
    }
}

// ---- Checking ---------------------------------------------------------------------------------

/// Checks every byte that reading relies on. Takes any input. O(bytes).
pub fn validate(pack: &[u8]) -> Result<(), Corrupt> {
    let corrupt = |offset| Err(Corrupt { offset });
    if pack.len() < EMPTY.len() || u32_at(pack, 0) as usize != pack.len() {
        return corrupt(0);
    }
    if pack[pack.len() - 1] != END {
        return corrupt(pack.len() - 1);
    }
    let (mut at, mut count) = (HEADER, 0usize);
    while at < pack.len() - 1 {
        at = validate_item(pack, at)?;
        count += 1;
    }
    let stated = u16::from_le_bytes([pack[4], pack[5]]);
    if stated != UNKNOWN_COUNT && usize::from(stated) != count {
        return corrupt(4);
    }
    Ok(())
}

/// The position behind the item at `at`, which lies before the end byte.
fn validate_item(pack: &[u8], at: usize) -> Result<usize, Corrupt> {
    let corrupt = Corrupt { offset: at };
    let end = pack.len() - 1;
    let head_len = match pack[at] {
        0xe0..=0xef => 2,
        0xf0 => 5,
        0xf5..=0xff => return Err(corrupt),
        _ => 1,
    };
    if at + head_len > end {
        return Err(corrupt);
    }
    let size = head_and_data(pack, at);
    let mut buffer = [0; 5];
    let back = back_length(size, &mut buffer);
    let behind = at + size + back.len();
    if behind > end || &pack[at + size..behind] != back {
        return Err(corrupt);
    }
    Ok(behind)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn texts(pack: &[u8]) -> Vec<Vec<u8>> {
        iter(pack).map(Item::to_vec).collect()
    }

    #[test]
    fn bytes_are_those_of_the_format() {
        let mut pack = EMPTY.to_vec();
        push_back(&mut pack, b"1");
        push_back(&mut pack, b"-1");
        push_back(&mut pack, b"ab");
        push_back(&mut pack, b"300000");
        let expected = [
            21, 0, 0, 0, 4, 0, 1, 1, 0xdf, 0xff, 2, 0x82, b'a', b'b', 3, 0xf2, 0xe0, 0x93, 0x04, 4,
            0xff,
        ];
        assert_eq!(pack, expected);
    }

    #[test]
    fn every_integer_width_survives() {
        let mut pack = EMPTY.to_vec();
        let mut expected = Vec::new();
        for shift in 0..64 {
            for n in [
                1i64 << shift,
                (1i64 << shift).wrapping_sub(1),
                (1i64 << shift).wrapping_neg(),
            ] {
                push_back(&mut pack, n.to_string().as_bytes());
                expected.push(Item::Int(n));
                assert_eq!(int_text_len(n), n.to_string().len());
            }
        }
        assert_eq!(iter(&pack).collect::<Vec<_>>(), expected);
        expected.reverse();
        assert_eq!(iter_rev(&pack).collect::<Vec<_>>(), expected);
        assert_eq!(validate(&pack), Ok(()));
    }

    #[test]
    fn every_string_width_survives() {
        let mut pack = EMPTY.to_vec();
        let lens = [
            0, 1, 63, 64, 126, 127, 4095, 4096, 16377, 16378, 16379, 2097146, 2097147,
        ];
        for len in lens {
            push_front(&mut pack, &vec![b'x'; len]);
            assert_eq!(validate(&pack), Ok(()));
        }
        assert_eq!(iter_rev(&pack).map(Item::text_len).collect::<Vec<_>>(), lens);
        assert_eq!(iter(&pack).count(), lens.len());
    }

    #[test]
    fn a_count_beyond_the_header_is_counted() {
        let mut pack = EMPTY.to_vec();
        let mut encoder = Encoder::new();
        (0..70_000).for_each(|n| encoder.push_int(n));
        insert_encoded(&mut pack, HEADER, encoder.encoded(), encoder.count());
        assert_eq!(len(&pack), 70_000);
        assert_eq!(get(&pack, seek(&pack, 69_000).unwrap()), Item::Int(69_000));
        assert_eq!(get(&pack, seek(&pack, -70_000).unwrap()), Item::Int(0));
        assert_eq!(seek(&pack, 70_000), None);
        remove(&mut pack, HEADER, 60_000);
        assert_eq!(len(&pack), 10_000);
        assert_eq!(validate(&pack), Ok(()));
    }

    #[test]
    fn edits_agree_with_a_vector() {
        let mut random = Random(1);
        for _ in 0..40 {
            let (mut pack, mut model) = (EMPTY.to_vec(), Vec::<Vec<u8>>::new());
            for _ in 0..150 {
                step(&mut random, &mut pack, &mut model);
                assert_eq!(validate(&pack), Ok(()));
                assert_eq!(texts(&pack), model);
                assert_eq!(len(&pack), model.len());
                check_reading(&mut random, &pack, &model);
            }
        }
    }

    fn step(random: &mut Random, pack: &mut Vec<u8>, model: &mut Vec<Vec<u8>>) {
        let item = random.item(300);
        let index = random.below(model.len() as u64 + 1) as usize;
        let at = seek(pack, index as i64).unwrap_or_else(|| end(pack));
        match random.below(6) {
            0 => {
                push_back(pack, &item);
                model.push(item);
            }
            1 => {
                push_front(pack, &item);
                model.insert(0, item);
            }
            2 => {
                insert_all(pack, at, &[&item, b"17"]);
                model.splice(index..index, [item, b"17".to_vec()]);
            }
            3 => {
                insert_before(pack, at, &item);
                model.insert(index, item);
            }
            4 if index < model.len() => {
                replace(pack, at, &item);
                model[index] = item;
            }
            _ => {
                let n = random.below(4) as usize;
                remove(pack, at, n);
                model.drain(index..(index + n).min(model.len()));
            }
        }
    }

    fn check_reading(random: &mut Random, pack: &[u8], model: &[Vec<u8>]) {
        let reversed: Vec<_> = iter_rev(pack).map(Item::to_vec).collect();
        assert!(reversed.iter().rev().eq(model));
        let index = random.below(40) as i64 - 20;
        let expected = match index {
            0.. => model.get(index as usize),
            _ => model
                .len()
                .checked_sub(index.unsigned_abs() as usize)
                .map(|i| &model[i]),
        };
        let found = seek(pack, index).map(|at| get(pack, at).to_vec());
        assert_eq!(found.as_ref(), expected);
        let needle = random.item(300);
        for skipped in 0..3 {
            let expected = model
                .iter()
                .step_by(skipped + 1)
                .position(|item| *item == needle);
            let found = find(pack, &needle, skipped);
            let expected = expected.map(|nth| seek(pack, (nth * (skipped + 1)) as i64).unwrap());
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn validation_survives_any_damage_and_accepts_only_readable_bytes() {
        let mut random = Random(2);
        let mut pack = EMPTY.to_vec();
        for _ in 0..12 {
            push_back(&mut pack, &random.item(1000));
        }
        for _ in 0..60_000 {
            let mut damaged = pack.clone();
            for _ in 0..1 + random.below(3) {
                let at = random.below(damaged.len() as u64) as usize;
                damaged[at] = random.next() as u8;
            }
            if random.below(4) == 0 {
                let kept = random.below(damaged.len() as u64 + 1) as usize;
                damaged.truncate(kept);
                if kept >= 4 {
                    damaged[..4].copy_from_slice(&(kept as u32).to_le_bytes());
                }
            }
            if validate(&damaged).is_ok() {
                let forward = texts(&damaged);
                let mut backward: Vec<_> = iter_rev(&damaged).map(Item::to_vec).collect();
                backward.reverse();
                assert_eq!(forward, backward);
            }
        }
    }
}
