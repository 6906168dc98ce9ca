//! The table of a big hash: one allocation per field, and an index of the fields' deadlines.
//!
//! ```text
//!   body of a record:  tag varint | deadline u64 LE, if any | field | value
//!   tag: length of the field * 2 + (1 if there is a deadline), seven bits per byte, low bits first
//! ```
//!
//! The deadline index is a min-heap of 12-byte hints (deadline, low hash bits). A deadline that is
//! moved or dropped leaves its hint behind: a hint counts only while some field of that hash has
//! that deadline. The hint on top always counts, so the next deadline is known in O(1); the heap is
//! swept when more than half of it is stale.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use super::{Field, FieldDeadline};
use crate::encoding::listpack::Item;
use crate::encoding::marks::Marks;
use crate::encoding::record::{Block, Keyed, body_in_table};
use crate::encoding::table::{Table, hash};
use crate::home::Collection;

/// The layout of a body.
#[derive(Debug)]
struct FieldBody;

type Record = Block<FieldBody>;

impl Keyed for FieldBody {
    #[inline]
    fn key_of(body: &[u8]) -> &[u8] {
        let layout = Layout::of(body);
        &body[layout.field..layout.value]
    }
}

/// Offsets within a body.
#[derive(Clone, Copy)]
struct Layout {
    deadline: Option<usize>,
    field: usize,
    value: usize,
}

impl Layout {
    #[inline]
    fn of(body: &[u8]) -> Layout {
        let (mut tag, mut at) = (usize::from(body[0] & 0x7f), 1);
        while body[at - 1] & 0x80 != 0 {
            tag |= usize::from(body[at] & 0x7f) << (7 * at);
            at += 1;
        }
        let (deadline, field) = match tag & 1 {
            0 => (None, at),
            _ => (Some(at), at + 8),
        };
        Layout {
            deadline,
            field,
            value: field + (tag >> 1),
        }
    }

    #[inline]
    fn deadline_ms(self, body: &[u8]) -> Option<u64> {
        let at = self.deadline?;
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&body[at..at + 8]);
        Some(u64::from_le_bytes(bytes))
    }
}

fn tag(field_len: usize, has_deadline: bool, buffer: &mut [u8; 10]) -> &[u8] {
    let mut rest = field_len << 1 | usize::from(has_deadline);
    let mut len = 0;
    loop {
        let more = rest > 0x7f;
        buffer[len] = (rest & 0x7f) as u8 | u8::from(more) << 7;
        rest >>= 7;
        len += 1;
        if !more {
            return &buffer[..len];
        }
    }
}

fn record(field: &[u8], value: &[u8], deadline_ms: Option<u64>) -> Record {
    let mut buffer = [0; 10];
    let tag = tag(field.len(), deadline_ms.is_some(), &mut buffer);
    match deadline_ms {
        Some(deadline_ms) => Record::new(&[tag, &deadline_ms.to_le_bytes(), field, value]),
        None => Record::new(&[tag, field, value]),
    }
}

#[inline]
fn parts(body: &[u8]) -> Field<'_> {
    let layout = Layout::of(body);
    Field {
        field: Item::Bytes(&body[layout.field..layout.value]),
        value: Item::Bytes(&body[layout.value..]),
        deadline_ms: layout.deadline_ms(body),
    }
}

/// What a field's record becomes: as it was but for the value, the deadline, or both.
fn changed(mut old: Record, value: Option<&[u8]>, deadline_ms: Option<u64>) -> Record {
    let body = old.body_mut();
    let layout = Layout::of(body);
    let same_len = value.is_none_or(|value| value.len() == body.len() - layout.value);
    if !same_len || layout.deadline.is_some() != deadline_ms.is_some() {
        let value = value.unwrap_or(&body[layout.value..]);
        return record(&body[layout.field..layout.value], value, deadline_ms);
    }
    if let Some(value) = value {
        body[layout.value..].copy_from_slice(value);
    }
    if let (Some(at), Some(deadline_ms)) = (layout.deadline, deadline_ms) {
        body[at..at + 8].copy_from_slice(&deadline_ms.to_le_bytes());
    }
    old
}

/// A hash in a table.
#[derive(Debug, Default)]
pub struct HashTable {
    fields: Table<Record>,
    field_bytes: usize,
    marks: Marks,
    /// Absent while no field has a deadline.
    deadlines: Option<Box<Deadlines>>,
}

impl HashTable {
    #[inline]
    pub(crate) fn fields(&self) -> &Table<impl crate::encoding::table::Record + use<>> {
        &self.fields
    }

    /// The number of fields. O(1).
    #[inline]
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Whether there are no fields. O(1).
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// A field with its value and deadline. O(1).
    #[inline]
    pub fn get(&self, field: &[u8]) -> Option<Field<'_>> {
        let record = self.fields.get(hash(field), field)?;
        Some(parts(body_in_table(&record)))
    }

    /// All fields, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Field<'_>> {
        self.fields
            .iter()
            .map(|record| parts(body_in_table(&record)))
    }

    /// A field chosen by 64 random bits. O(1).
    pub fn sample(&self, bits: u64) -> Option<Field<'_>> {
        let record = self.fields.sample(bits)?;
        Some(parts(body_in_table(&record)))
    }

    /// See [`Table::scan`].
    pub fn scan(&self, cursor: u64, visit: &mut dyn FnMut(Field<'_>)) -> u64 {
        self.fields
            .scan(cursor, &mut |record| visit(parts(record.body())))
    }

    /// Sets a value; whether the field is new. O(1), O(log n) with deadlines.
    pub fn set(&mut self, field: &[u8], value: &[u8], deadline: FieldDeadline) -> bool {
        let hash = hash(field);
        let Some(mut place) = self.fields.find_mut(hash, field) else {
            let new_ms = deadline.after(None);
            let record = record(field, value, new_ms);
            self.field_bytes += record.allocated_bytes();
            self.marks.born(&mut self.fields.insert(hash, record));
            self.deadline_moved(hash, None, new_ms);
            return true;
        };
        self.marks.before(&mut place, |old| old.body().into());
        let old_ms = parts(place.read().body()).deadline_ms;
        let new_ms = deadline.after(old_ms);
        self.field_bytes -= place.read().allocated_bytes();
        place.update(|old| changed(old, Some(value), new_ms));
        self.field_bytes += place.read().allocated_bytes();
        self.deadline_moved(hash, old_ms, new_ms);
        false
    }

    /// Sets or drops the deadline of a field; whether the field exists. O(log n).
    pub fn set_deadline(&mut self, field: &[u8], new_ms: Option<u64>) -> bool {
        let hash = hash(field);
        let Some(mut place) = self.fields.find_mut(hash, field) else {
            return false;
        };
        self.marks.before(&mut place, |old| old.body().into());
        let old_ms = parts(place.read().body()).deadline_ms;
        self.field_bytes -= place.read().allocated_bytes();
        place.update(|old| changed(old, None, new_ms));
        self.field_bytes += place.read().allocated_bytes();
        self.deadline_moved(hash, old_ms, new_ms);
        true
    }

    /// Removes a field; whether it was there. O(1), O(log n) with deadlines.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        let hash = hash(field);
        let Some(mut place) = self.fields.find_mut(hash, field) else {
            return false;
        };
        self.marks.before(&mut place, |old| old.body().into());
        let record = place.remove();
        self.field_bytes -= record.allocated_bytes();
        self.deadline_moved(hash, parts(record.body()).deadline_ms, None);
        true
    }

    /// The earliest deadline of a field. O(1).
    #[inline]
    pub fn next_deadline(&self) -> Option<u64> {
        self.deadlines.as_ref()?.top().map(Hint::deadline_ms)
    }

    /// Removes the fields that are due and shows each to `see`; how many. O(due * log n).
    pub fn expire_due(&mut self, now_ms: u64, see: &mut dyn FnMut(&[u8])) -> usize {
        let mut n_expired = 0;
        while let Some(hint) = self
            .deadlines
            .as_ref()
            .and_then(|deadlines| deadlines.top())
        {
            if hint.deadline_ms() > now_ms {
                break;
            }
            let due = self.fields_of(hint);
            debug_assert!(!due.is_empty(), "the hint on top counts");
            for field in due {
                see(&field);
                self.remove(&field);
                n_expired += 1;
            }
        }
        n_expired
    }

    /// Bytes that the table occupies. O(1).
    pub fn allocated_bytes(&self) -> usize {
        let deadlines = self
            .deadlines
            .as_ref()
            .map_or(0, |deadlines| deadlines.allocated_bytes());
        size_of::<Collection>() + self.fields.allocated_bytes() + self.field_bytes + deadlines
    }

    /// What a walk has saved; see [`Marks`].
    pub fn marks_mut(&mut self) -> &mut Marks {
        &mut self.marks
    }

    /// The number of the walk under way.
    #[inline]
    pub fn walk_id(&self) -> Option<u64> {
        self.marks.walk_id()
    }

    /// See [`Marks::step`].
    pub fn step(&mut self, n: usize, see: &mut dyn FnMut(Field<'_>)) -> bool {
        let see = std::cell::RefCell::new(see);
        self.marks.step(
            &mut self.fields,
            n,
            &mut |record| see.borrow_mut()(parts(record.body())),
            &mut |copy| see.borrow_mut()(parts(copy)),
        )
    }

    /// The fields that a hint may speak of: those of its hash with its deadline.
    fn fields_of(&self, hint: Hint) -> Vec<Vec<u8>> {
        let mut fields = Vec::new();
        self.fields
            .with_low_hash(u64::from(hint.low_hash()), &mut |record| {
                let found = parts(record.body());
                if found.deadline_ms == Some(hint.deadline_ms()) {
                    fields.push(found.field.to_vec());
                }
            });
        fields
    }

    /// Brings the index up to date after the deadline of a field with `hash` has changed.
    #[inline]
    fn deadline_moved(&mut self, hash: u64, old_ms: Option<u64>, new_ms: Option<u64>) {
        if old_ms != new_ms {
            self.refile(hash, old_ms, new_ms);
        }
    }

    fn refile(&mut self, hash: u64, old_ms: Option<u64>, new_ms: Option<u64>) {
        let deadlines = self.deadlines.get_or_insert_default();
        deadlines.n_volatile -= usize::from(old_ms.is_some());
        if let Some(new_ms) = new_ms {
            deadlines.n_volatile += 1;
            deadlines.hints.push(Reverse(Hint::new(new_ms, hash)));
        }
        if deadlines.n_volatile == 0 {
            self.deadlines = None;
            return;
        }
        let fields = &self.fields;
        if old_ms.is_some() && old_ms == deadlines.top().map(Hint::deadline_ms) {
            deadlines.drop_stale_tops(fields);
        }
        deadlines.sweep_if_stale(fields);
    }

    /// Panics if the structure is not what this file says. O(n log n).
    pub fn check_invariants(&self) {
        self.fields.check_invariants();
        let bytes = self
            .fields
            .iter()
            .map(|record| record.allocated_bytes())
            .sum::<usize>();
        assert_eq!(bytes, self.field_bytes);
        let volatile: Vec<u64> = self.iter().filter_map(|field| field.deadline_ms).collect();
        assert_eq!(self.next_deadline(), volatile.iter().copied().min());
        let Some(deadlines) = &self.deadlines else {
            return;
        };
        assert_eq!(deadlines.n_volatile, volatile.len());
        assert!(deadlines.hints.len() <= 2 * deadlines.n_volatile + STALE_ALLOWED);
        let mut hints: Vec<Hint> = deadlines.hints.iter().map(|hint| hint.0).collect();
        hints.sort_unstable();
        for found in self.iter() {
            if let (Item::Bytes(field), Some(deadline_ms)) = (found.field, found.deadline_ms) {
                assert!(
                    hints
                        .binary_search(&Hint::new(deadline_ms, hash(field)))
                        .is_ok()
                );
            }
        }
    }
}

/// Whether some field of the hint's hash still has its deadline.
fn counts(fields: &Table<Record>, hint: Hint) -> bool {
    let mut counts = false;
    fields.with_low_hash(u64::from(hint.low_hash()), &mut |record| {
        let body = record.body();
        counts |= Layout::of(body).deadline_ms(body) == Some(hint.deadline_ms());
    });
    counts
}

/// A deadline and the low 32 bits of a field's hash, ordered by deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Hint([u32; 3]);

impl Hint {
    fn new(deadline_ms: u64, hash: u64) -> Hint {
        Hint([(deadline_ms >> 32) as u32, deadline_ms as u32, hash as u32])
    }

    fn deadline_ms(self) -> u64 {
        u64::from(self.0[0]) << 32 | u64::from(self.0[1])
    }

    fn low_hash(self) -> u32 {
        self.0[2]
    }
}

/// Hints that may be stale before a sweep, beyond one per field with a deadline.
const STALE_ALLOWED: usize = 32;

#[derive(Debug, Default)]
struct Deadlines {
    hints: BinaryHeap<Reverse<Hint>>,
    /// Fields that have a deadline.
    n_volatile: usize,
}

impl Deadlines {
    #[inline]
    fn top(&self) -> Option<Hint> {
        self.hints.peek().map(|hint| hint.0)
    }

    fn drop_stale_tops(&mut self, fields: &Table<Record>) {
        while self.top().is_some_and(|hint| !counts(fields, hint)) {
            self.hints.pop();
        }
    }

    fn sweep_if_stale(&mut self, fields: &Table<Record>) {
        if self.hints.len() <= 2 * self.n_volatile + STALE_ALLOWED {
            return;
        }
        let mut hints = std::mem::take(&mut self.hints).into_vec();
        hints.sort_unstable();
        hints.dedup();
        hints.retain(|hint| counts(fields, hint.0));
        hints.shrink_to_fit();
        self.hints = BinaryHeap::from(hints);
    }

    fn allocated_bytes(&self) -> usize {
        size_of::<Deadlines>() + self.hints.capacity() * size_of::<Hint>()
    }
}
