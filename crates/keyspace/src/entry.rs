//! One key with its value and deadline, in one allocation.
//!
//! ```text
//!   ┌────────┬───────────┬──────────────────┬───────────┬───────┬──────────────┐
//!   │ header │ deadline? │ number, box, vec │ key len?  │ key   │ inline blob  │
//!   │ 8      │ 8         │ 8, 8, 24 or none │ 8         │ n     │ n            │
//!   └────────┴───────────┴──────────────────┴───────────┴───────┴──────────────┘
//!   header: byte 0  encoding (4 bits), form (2), has a deadline (1), key of 256 bytes or more (1)
//!           byte 1  snapshot mark (1), may hold field deadlines (1)
//!           byte 2  key length          bytes 3-5  access clock        bytes 6-7  blob length
//! ```
//!
//! A small blob sits behind the key; a larger one is a `Vec`, a collection a `Box`, in the fixed
//! part. A resize may move the block, so only the table's slot ever holds its address.
//! This file is `unsafe` because a block's shape depends on its header; outside it is a safe type.

#![allow(unsafe_code)]

use datatypes::encoding::table::Record;
use datatypes::home::{Collection, Encoding, NewPayload, Payload};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error, realloc};
use std::ptr::NonNull;

/// Strings up to this many bytes live inside the entry.
const INLINE_STRING_MAX: usize = 1024;
/// Listpacks and intsets up to this many bytes live inside the entry.
const INLINE_PACK_MAX: usize = 512;

/// Beyond this many bytes a string is freed elsewhere, as giving its pages back takes time.
const HEAVY_BYTES: usize = 1 << 20;

const DEADLINE: u8 = 1 << 6;
const LONG_KEY: u8 = 1 << 7;
const MARK: u8 = 1;
const FIELD_DEADLINES: u8 = 2;

/// Where the payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Form {
    Inline = 0,
    Int = 1,
    Vec = 2,
    Box = 3,
}

impl Form {
    const fn of(bits: u8) -> Form {
        match bits & 3 {
            0 => Form::Inline,
            1 => Form::Int,
            2 => Form::Vec,
            _ => Form::Box,
        }
    }

    const fn fixed_len(self) -> usize {
        match self {
            Form::Inline => 0,
            Form::Int | Form::Box => 8,
            Form::Vec => size_of::<Vec<u8>>(),
        }
    }

    fn for_payload(encoding: Encoding, payload: &NewPayload<'_>) -> Form {
        match payload {
            NewPayload::Int(_) => Form::Int,
            NewPayload::Big(_) => Form::Box,
            NewPayload::Blob(bytes) if bytes.len() <= inline_max(encoding) => Form::Inline,
            NewPayload::Blob(_) => Form::Vec,
        }
    }
}

const fn inline_max(encoding: Encoding) -> usize {
    if matches!(encoding, Encoding::Raw | Encoding::Edited) {
        INLINE_STRING_MAX
    } else {
        INLINE_PACK_MAX
    }
}

/// An owned entry. One pointer wide.
#[derive(Debug)]
#[repr(transparent)]
pub struct Entry(NonNull<u8>);

// SAFETY: an entry owns its block and its payload, which are `Send`.
unsafe impl Send for Entry {}
// SAFETY: shared access reads, except for the clock, which is written under the shard's lock.
unsafe impl Sync for Entry {}

// SAFETY: the block's address comes from the allocator, which on the supported 64-bit targets
// stays below 2^48; the key is only written when the block is made.
unsafe impl Record for Entry {
    #[inline]
    fn into_raw(self) -> NonNull<u8> {
        let raw = self.0;
        std::mem::forget(self);
        raw
    }

    #[inline]
    unsafe fn from_raw(raw: NonNull<u8>) -> Entry {
        Entry(raw)
    }

    #[inline]
    fn key(&self) -> &[u8] {
        // SAFETY: the key's bytes lie at this place in every block.
        unsafe {
            let at = self.0.as_ptr().add(self.fixed_len());
            std::slice::from_raw_parts(at, self.key_len())
        }
    }
}

/// What to make an entry from, next to its payload.
#[derive(Clone, Copy, Debug)]
pub struct Birth<'a> {
    /// The key.
    pub key: &'a [u8],
    /// When the key is gone, Unix time.
    pub deadline_ms: Option<u64>,
    /// The snapshot mark of the current epoch.
    pub mark: bool,
    /// The access clock.
    pub clock: u32,
}

impl Entry {
    /// A new entry. O(key + blob).
    pub fn new(birth: Birth<'_>, encoding: Encoding, payload: NewPayload<'_>) -> Entry {
        let form = Form::for_payload(encoding, &payload);
        let blob_len = match &payload {
            NewPayload::Blob(bytes) if form == Form::Inline => bytes.len(),
            _ => 0,
        };
        let long_key = birth.key.len() > usize::from(u8::MAX);
        let fixed = 8
            + 8 * usize::from(birth.deadline_ms.is_some())
            + form.fixed_len()
            + 8 * usize::from(long_key);
        let entry = Entry(allocate(fixed + birth.key.len() + blob_len));
        let shape = (encoding as u8)
            | ((form as u8) << 4)
            | if birth.deadline_ms.is_some() {
                DEADLINE
            } else {
                0
            }
            | if long_key { LONG_KEY } else { 0 };
        let flags = if birth.mark { MARK } else { 0 };
        let clock = birth.clock.to_le_bytes();
        let header = [
            shape,
            flags,
            birth.key.len() as u8,
            clock[0],
            clock[1],
            clock[2],
        ];
        let at = entry.0.as_ptr();
        // SAFETY: the block was allocated for exactly these parts, in this order.
        unsafe {
            at.cast::<[u8; 6]>().write(header);
            at.add(6).cast::<u16>().write(blob_len as u16);
            if let Some(deadline_ms) = birth.deadline_ms {
                at.add(8).cast::<u64>().write(deadline_ms);
            }
            if long_key {
                at.add(fixed - 8)
                    .cast::<u64>()
                    .write(birth.key.len() as u64);
            }
            at.add(fixed)
                .copy_from_nonoverlapping(birth.key.as_ptr(), birth.key.len());
            let place = at.add(entry.payload_at());
            match payload {
                NewPayload::Int(number) => place.cast::<i64>().write(number),
                NewPayload::Big(big) => place.cast::<Box<Collection>>().write(big),
                NewPayload::Blob(bytes) if form == Form::Vec => {
                    place.cast::<Vec<u8>>().write(bytes.to_vec());
                }
                NewPayload::Blob(bytes) => at
                    .add(fixed + birth.key.len())
                    .copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()),
            }
        }
        entry
    }

    #[inline]
    fn byte(&self, at: usize) -> u8 {
        // SAFETY: every block has a header of eight bytes.
        unsafe { self.0.as_ptr().add(at).read() }
    }

    #[inline]
    fn set_byte(&mut self, at: usize, byte: u8) {
        // SAFETY: as in `byte`, and the borrow is exclusive.
        unsafe { self.0.as_ptr().add(at).write(byte) }
    }

    #[inline]
    fn form(&self) -> Form {
        Form::of(self.byte(0) >> 4)
    }

    #[inline]
    fn has_deadline(&self) -> bool {
        self.byte(0) & DEADLINE != 0
    }

    #[inline]
    fn key_len(&self) -> usize {
        if self.byte(0) & LONG_KEY == 0 {
            return usize::from(self.byte(2));
        }
        // SAFETY: a long key's length is the last word of the fixed part.
        unsafe {
            self.0
                .as_ptr()
                .add(self.fixed_len() - 8)
                .cast::<u64>()
                .read() as usize
        }
    }

    #[inline]
    fn payload_at(&self) -> usize {
        8 + 8 * usize::from(self.has_deadline())
    }

    /// Bytes before the key.
    #[inline]
    fn fixed_len(&self) -> usize {
        let long_key = usize::from(self.byte(0) & LONG_KEY != 0);
        self.payload_at() + self.form().fixed_len() + 8 * long_key
    }

    #[inline]
    fn inline_len(&self) -> usize {
        // SAFETY: bytes 6 and 7 of the header, aligned.
        usize::from(unsafe { self.0.as_ptr().add(6).cast::<u16>().read() })
    }

    fn set_inline_len(&mut self, len: usize) {
        // SAFETY: as in `inline_len`.
        unsafe { self.0.as_ptr().add(6).cast::<u16>().write(len as u16) }
    }

    #[inline]
    fn block_len(&self) -> usize {
        self.fixed_len() + self.key_len() + self.inline_len()
    }

    /// The payload's place, as a pointer to `T`.
    fn fixed_payload<T>(&self) -> *mut T {
        // SAFETY: stays inside the block; eight-byte aligned by the layout.
        unsafe { self.0.as_ptr().add(self.payload_at()).cast() }
    }

    /// How the payload is to be read.
    #[inline]
    pub fn encoding(&self) -> Encoding {
        Encoding::from_bits(self.byte(0) & 0x0f).expect("a header holds a valid encoding")
    }

    /// The payload. O(1).
    #[inline]
    pub fn payload(&self) -> Payload<'_> {
        // SAFETY: the form says which payload the block holds.
        unsafe {
            match self.form() {
                Form::Int => Payload::Int(self.fixed_payload::<i64>().read()),
                Form::Vec => Payload::Blob(&*self.fixed_payload::<Vec<u8>>()),
                Form::Box => Payload::Big(&*self.fixed_payload::<Box<Collection>>()),
                Form::Inline => {
                    let at = self.0.as_ptr().add(self.fixed_len() + self.key_len());
                    Payload::Blob(std::slice::from_raw_parts(at, self.inline_len()))
                }
            }
        }
    }

    /// The bytes of a blob, for changes that keep their number.
    pub fn blob_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `payload`, and the borrow is exclusive.
        unsafe {
            match self.form() {
                Form::Vec => &mut *self.fixed_payload::<Vec<u8>>(),
                Form::Inline => {
                    let at = self.0.as_ptr().add(self.fixed_len() + self.key_len());
                    std::slice::from_raw_parts_mut(at, self.inline_len())
                }
                Form::Int | Form::Box => &mut [],
            }
        }
    }

    /// The collection, if the payload is one.
    pub fn big_mut(&mut self) -> Option<&mut Collection> {
        if self.form() != Form::Box {
            return None;
        }
        // SAFETY: the form says so, and the borrow is exclusive.
        Some(unsafe { &mut *self.fixed_payload::<Box<Collection>>() })
    }

    /// Replaces `remove` bytes at `at` of the blob by `insert`. O(bytes behind `at`).
    #[must_use]
    pub fn splice(mut self, at: usize, remove: usize, insert: &[u8]) -> Entry {
        match self.form() {
            Form::Int | Form::Box => self,
            Form::Vec => {
                // SAFETY: the form says so.
                let bytes = unsafe { &mut *self.fixed_payload::<Vec<u8>>() };
                splice_vec(bytes, at, remove, insert);
                self
            }
            Form::Inline => {
                let len = self.inline_len();
                assert!(at + remove <= len, "a splice stays inside its blob");
                let new_len = len - remove + insert.len();
                if new_len > inline_max(self.encoding()) {
                    let old = &*self.blob_mut();
                    let bytes = [&old[..at], insert, &old[at + remove..]].concat();
                    let encoding = self.encoding();
                    return self.with_payload(encoding, NewPayload::Blob(&bytes));
                }
                self.splice_inline(at, remove, insert);
                self
            }
        }
    }

    fn splice_inline(&mut self, at: usize, remove: usize, insert: &[u8]) {
        let start = self.fixed_len() + self.key_len();
        let (len, block_len) = (self.inline_len(), self.block_len());
        let new_len = len - remove + insert.len();
        if new_len > len {
            self.0 = reallocate(self.0, block_len, start + new_len);
        }
        // SAFETY: the block holds the larger of the old and the new blob; the caller checked `at`.
        unsafe {
            let blob = self.0.as_ptr().add(start);
            blob.add(at + insert.len())
                .copy_from(blob.add(at + remove), len - at - remove);
            blob.add(at).copy_from(insert.as_ptr(), insert.len());
        }
        if new_len < len {
            self.0 = reallocate(self.0, block_len, start + new_len);
        }
        self.set_inline_len(new_len);
    }

    /// The same key, deadline and flags with another payload. In place when the size stays.
    #[must_use]
    pub fn with_payload(mut self, encoding: Encoding, payload: NewPayload<'_>) -> Entry {
        let form = Form::for_payload(encoding, &payload);
        if form == self.form() && matches!(form, Form::Inline | Form::Int) {
            match payload {
                NewPayload::Int(number) => {
                    // SAFETY: the form says so.
                    unsafe { self.fixed_payload::<i64>().write(number) };
                }
                NewPayload::Blob(bytes) if bytes.len() == self.inline_len() => {
                    self.blob_mut().copy_from_slice(bytes);
                }
                NewPayload::Blob(bytes) => self.splice_inline(0, self.inline_len(), bytes),
                NewPayload::Big(_) => {}
            }
            let shape = self.byte(0) & 0xf0;
            self.set_byte(0, shape | encoding as u8);
            return self;
        }
        let fresh = Entry::new(self.birth(), encoding, payload);
        fresh.with_flags_of(&self)
    }

    /// The same entry with another deadline. O(block) where it had none or loses it.
    #[must_use]
    pub fn with_deadline(mut self, deadline_ms: Option<u64>) -> Entry {
        if let (true, Some(deadline_ms)) = (self.has_deadline(), deadline_ms) {
            // SAFETY: the block has a deadline word behind its header.
            unsafe { self.0.as_ptr().add(8).cast::<u64>().write(deadline_ms) };
            return self;
        }
        if !self.has_deadline() && deadline_ms.is_none() {
            return self;
        }
        let (old_len, old_at) = (self.block_len(), self.payload_at());
        let new_at = 8 + 8 * usize::from(deadline_ms.is_some());
        let fresh = allocate(old_len + new_at - old_at);
        // SAFETY: both blocks are alive and differ only in the deadline word; ownership of the
        // payload moves with its bytes, and the old block is freed without dropping it.
        unsafe {
            fresh.as_ptr().copy_from_nonoverlapping(self.0.as_ptr(), 8);
            fresh
                .as_ptr()
                .add(new_at)
                .copy_from_nonoverlapping(self.0.as_ptr().add(old_at), old_len - old_at);
            if let Some(deadline_ms) = deadline_ms {
                fresh.as_ptr().add(8).cast::<u64>().write(deadline_ms);
            }
            dealloc(self.0.as_ptr(), layout(old_len));
        }
        self.0 = fresh;
        let shape = self.byte(0) & !DEADLINE;
        self.set_byte(0, shape | if deadline_ms.is_some() { DEADLINE } else { 0 });
        self
    }

    /// The same value and deadline under another key. O(block).
    #[must_use]
    pub fn with_key(self, key: &[u8], mark: bool) -> Entry {
        let (encoding, birth) = (self.encoding(), self.birth());
        let birth = Birth { key, mark, ..birth };
        let form = self.form();
        let fresh = match self.payload() {
            Payload::Int(number) => Entry::new(birth, encoding, NewPayload::Int(number)),
            Payload::Blob(bytes) if form == Form::Inline => {
                Entry::new(birth, encoding, NewPayload::Blob(bytes))
            }
            // An out-of-line payload is moved, not copied: the words change places.
            Payload::Blob(_) => {
                let mut fresh = Entry::new(birth, encoding, NewPayload::Blob(&[0; 2048]));
                // SAFETY: both forms are `Vec`.
                unsafe { self.fixed_payload::<Vec<u8>>().swap(fresh.fixed_payload()) };
                fresh.set_inline_len(0);
                fresh
            }
            Payload::Big(_) => {
                let empty = Box::new(Collection::List(Default::default()));
                let fresh = Entry::new(birth, encoding, NewPayload::Big(empty));
                // SAFETY: both forms are `Box`.
                unsafe {
                    self.fixed_payload::<Box<Collection>>()
                        .swap(fresh.fixed_payload())
                };
                fresh
            }
        };
        let marked = fresh.is_marked();
        let mut fresh = fresh.with_flags_of(&self);
        fresh.set_mark(marked);
        fresh
    }

    fn birth(&self) -> Birth<'_> {
        Birth {
            key: self.key(),
            deadline_ms: self.deadline_ms(),
            mark: self.is_marked(),
            clock: self.clock(),
        }
    }

    fn with_flags_of(mut self, other: &Entry) -> Entry {
        let flags = other.byte(1);
        self.set_byte(1, flags);
        self
    }

    /// When the key is gone, Unix time.
    #[inline]
    pub fn deadline_ms(&self) -> Option<u64> {
        if !self.has_deadline() {
            return None;
        }
        // SAFETY: the block has a deadline word behind its header.
        Some(unsafe { self.0.as_ptr().add(8).cast::<u64>().read() })
    }

    /// Whether this entry was saved by, or born after, the snapshot of the epoch whose mark this is.
    #[inline]
    pub fn is_marked(&self) -> bool {
        self.byte(1) & MARK != 0
    }

    /// Sets the snapshot mark.
    pub fn set_mark(&mut self, mark: bool) {
        let flags = self.byte(1) & !MARK;
        self.set_byte(1, flags | if mark { MARK } else { 0 });
    }

    /// Whether fields of this hash may have deadlines.
    #[inline]
    pub fn may_hold_field_deadlines(&self) -> bool {
        self.byte(1) & FIELD_DEADLINES != 0
    }

    /// Notes whether fields of this hash may have deadlines.
    pub fn set_field_deadlines(&mut self, some: bool) {
        let flags = self.byte(1) & !FIELD_DEADLINES;
        self.set_byte(1, flags | if some { FIELD_DEADLINES } else { 0 });
    }

    /// The 24-bit access clock.
    #[inline]
    pub fn clock(&self) -> u32 {
        u32::from_le_bytes([self.byte(3), self.byte(4), self.byte(5), 0])
    }

    /// Sets the access clock. The caller holds the lock of the entry's shard, which makes it the
    /// only one to touch these bytes.
    #[inline]
    pub(crate) fn set_clock(&self, clock: u32) {
        if self.clock() != clock {
            let bytes = clock.to_le_bytes();
            // SAFETY: header bytes are only read by value, never borrowed, and access is exclusive.
            unsafe {
                self.0
                    .as_ptr()
                    .add(3)
                    .cast::<[u8; 3]>()
                    .write([bytes[0], bytes[1], bytes[2]])
            };
        }
    }

    /// A copy that shares nothing with the original. O(elements).
    pub fn duplicate(&self) -> Entry {
        let birth = Birth {
            key: self.key(),
            deadline_ms: self.deadline_ms(),
            mark: self.is_marked(),
            clock: self.clock(),
        };
        let payload = match self.payload() {
            Payload::Int(number) => NewPayload::Int(number),
            Payload::Blob(bytes) => NewPayload::Blob(bytes),
            Payload::Big(big) => NewPayload::Big(Box::new(big.duplicate())),
        };
        let mut copy = Entry::new(birth, self.encoding(), payload);
        copy.set_field_deadlines(self.may_hold_field_deadlines());
        copy
    }

    /// Whether freeing this entry takes long enough to be done elsewhere.
    pub fn is_heavy(&self) -> bool {
        match self.form() {
            Form::Inline | Form::Int => false,
            Form::Vec | Form::Box => match self.payload() {
                Payload::Big(collection) => collection.is_heavy(),
                Payload::Blob(bytes) => bytes.len() > HEAVY_BYTES,
                Payload::Int(_) => false,
            },
        }
    }

    /// Whether saving this entry takes long enough to be done in pieces.
    pub fn is_long(&self) -> bool {
        self.form() == Form::Box && matches!(self.payload(), Payload::Big(big) if big.is_long())
    }

    /// The number under which the collection is being saved in pieces.
    #[inline]
    pub fn walk_id(&self) -> Option<u64> {
        if self.form() != Form::Box {
            return None;
        }
        match self.payload() {
            Payload::Big(big) => big.walk_id(),
            Payload::Int(_) | Payload::Blob(_) => None,
        }
    }

    /// Bytes of the entry's own block, and of its vector.
    pub fn allocated_bytes(&self) -> usize {
        let vec = match (self.form(), self.payload()) {
            (Form::Vec, Payload::Blob(bytes)) => bytes.len(),
            _ => 0,
        };
        self.block_len() + vec
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        let block_len = self.block_len();
        // SAFETY: the form says what the payload owns; the block is freed once.
        unsafe {
            match self.form() {
                Form::Vec => drop(self.fixed_payload::<Vec<u8>>().read()),
                Form::Box => drop(self.fixed_payload::<Box<Collection>>().read()),
                Form::Inline | Form::Int => {}
            }
            dealloc(self.0.as_ptr(), layout(block_len));
        }
    }
}

/// Splices a vector that grows by an eighth, not by doubling.
fn splice_vec(bytes: &mut Vec<u8>, at: usize, remove: usize, insert: &[u8]) {
    assert!(at + remove <= bytes.len(), "a splice stays inside its blob");
    let old_len = bytes.len();
    let new_len = old_len - remove + insert.len();
    if new_len > bytes.capacity() {
        bytes.reserve_exact(new_len + new_len / 8 - old_len);
    }
    if new_len > old_len {
        bytes.resize(new_len, 0);
    }
    bytes.copy_within(at + remove..old_len, at + insert.len());
    bytes.truncate(new_len);
    bytes[at..at + insert.len()].copy_from_slice(insert);
    if new_len < bytes.capacity() / 2 {
        bytes.shrink_to(new_len + new_len / 8);
    }
}

fn layout(len: usize) -> Layout {
    Layout::from_size_align(len, 8).expect("a block fits the address space")
}

fn allocate(len: usize) -> NonNull<u8> {
    // SAFETY: a block is never empty, it has a header.
    let block = unsafe { alloc(layout(len)) };
    NonNull::new(block).unwrap_or_else(|| handle_alloc_error(layout(len)))
}

fn reallocate(block: NonNull<u8>, len: usize, new_len: usize) -> NonNull<u8> {
    // SAFETY: `block` was allocated with `len`; the new length is not zero.
    let moved = unsafe { realloc(block.as_ptr(), layout(len), new_len) };
    NonNull::new(moved).unwrap_or_else(|| handle_alloc_error(layout(new_len)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn birth(key: &[u8]) -> Birth<'_> {
        Birth {
            key,
            deadline_ms: None,
            mark: false,
            clock: 7,
        }
    }

    fn blob(entry: &Entry) -> &[u8] {
        match entry.payload() {
            Payload::Blob(bytes) => bytes,
            other => panic!("not a blob: {other:?}"),
        }
    }

    #[test]
    fn keeps_key_value_and_deadline_through_every_form() {
        for key_len in [0, 1, 16, 255, 256, 5000] {
            let key = vec![b'k'; key_len];
            for len in [0, 1, 32, 511, 1024, 1025, 100_000] {
                let value: Vec<u8> = (0..len).map(|i| i as u8).collect();
                let mut entry = Entry::new(birth(&key), Encoding::Raw, NewPayload::Blob(&value));
                for deadline_ms in [Some(5), Some(6), None, None, Some(1 << 60)] {
                    entry = entry.with_deadline(deadline_ms);
                    assert_eq!((entry.key(), entry.deadline_ms()), (&key[..], deadline_ms));
                    assert_eq!((blob(&entry), entry.clock()), (&value[..], 7));
                }
                let entry = entry.with_payload(Encoding::Int, NewPayload::Int(-9));
                assert!(matches!(entry.payload(), Payload::Int(-9)));
                let entry = entry.with_payload(Encoding::Raw, NewPayload::Blob(&value));
                let entry = entry.with_key(b"another", true);
                assert_eq!((entry.key(), blob(&entry)), (&b"another"[..], &value[..]));
                assert_eq!((entry.deadline_ms(), entry.is_marked()), (Some(1 << 60), true));
            }
        }
    }

    #[test]
    fn splices_like_a_vector() {
        let mut model = Vec::new();
        let mut entry = Entry::new(birth(b"key"), Encoding::HashPack, NewPayload::Blob(b""));
        let mut seed = 1_u64;
        for step in 0..5_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let at = (seed >> 33) as usize % (model.len() + 1);
            let shrinking = step / 1000 % 2 == 1;
            let remove = (seed >> 20) as usize % 40 * (1 + usize::from(shrinking));
            let remove = remove.min(model.len() - at);
            let insert = vec![step as u8; (seed >> 50) as usize % 60];
            model.splice(at..at + remove, insert.iter().copied());
            entry = entry.splice(at, remove, &insert);
            assert_eq!(blob(&entry), &model[..]);
        }
    }
}
