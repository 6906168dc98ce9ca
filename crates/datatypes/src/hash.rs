//! Hashes: fields with values, some of which may have deadlines of their own.
//!
//! ```text
//!   HashPack    listpack: field, value, field, value ...
//!      │ first deadline                        │ too many fields, or a long field or value
//!      ▼                                       ▼
//!   HashPackEx  listpack: field, value, ─► HashTable  see `table`
//!               deadline; soonest first, then those without (0)
//! ```
//!
//! Nothing goes back down. Reading knows no time: a field that is due is there until `expire_due`
//! removes it. Whoever keeps the home hears of every earlier deadline through [`Home::schedule`],
//! and calls `expire_due` before anybody looks. The caller removes a hash that has become empty.

mod table;

use crate::encoding::blob::{Blob, HomeBlob};
use crate::encoding::listpack::{self, Encoder, Item, ItemBuffer};
use crate::home::{Collection, Encoding, Home, Limits, NewPayload, Payload};
use crate::pick::{self, Bits};

pub use table::HashTable;

/// A field as stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field<'a> {
    /// Its name.
    pub field: Item<'a>,
    /// Its value.
    pub value: Item<'a>,
    /// When it falls due, Unix time.
    pub deadline_ms: Option<u64>,
}

/// What setting a value does to the field's deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldDeadline {
    /// Drops it, as HSET does.
    Clear,
    /// Leaves it, as HINCRBY does.
    Keep,
    /// Sets it, Unix time.
    At(u64),
}

impl FieldDeadline {
    fn after(self, old_ms: Option<u64>) -> Option<u64> {
        match self {
            FieldDeadline::Clear => None,
            FieldDeadline::Keep => old_ms,
            FieldDeadline::At(deadline_ms) => Some(deadline_ms),
        }
    }
}

/// A hash for reading.
#[derive(Clone, Copy, Debug)]
pub enum HashRef<'a> {
    /// A listpack of fields and values.
    Pack(&'a [u8]),
    /// A listpack of fields, values and deadlines.
    PackEx(&'a [u8]),
    /// See [`HashTable`].
    Table(&'a HashTable),
}

/// The fields of a listpack with `width` items for each.
#[derive(Clone, Copy, Debug)]
struct PackFields<'a> {
    items: listpack::Iter<'a>,
    width: usize,
}

impl<'a> PackFields<'a> {
    #[inline]
    fn new(pack: &'a [u8], width: usize) -> PackFields<'a> {
        PackFields {
            items: listpack::iter(pack),
            width,
        }
    }
}

impl<'a> Iterator for PackFields<'a> {
    type Item = Field<'a>;

    #[inline]
    fn next(&mut self) -> Option<Field<'a>> {
        let field = self.items.next()?;
        let value = self.items.next()?;
        let deadline_ms = match self.width {
            EX => deadline_of(self.items.next()?),
            _ => None,
        };
        Some(Field {
            field,
            value,
            deadline_ms,
        })
    }
}

enum AnyOf<A, B> {
    Pack(A),
    Table(B),
}

impl<T, A: Iterator<Item = T>, B: Iterator<Item = T>> Iterator for AnyOf<A, B> {
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        match self {
            AnyOf::Pack(iter) => iter.next(),
            AnyOf::Table(iter) => iter.next(),
        }
    }
}

/// Items of a field in `HashPack`.
const PLAIN: usize = 2;
/// Items of a field in `HashPackEx`.
const EX: usize = 3;

/// The deadline that an item of a `HashPackEx` stands for.
#[inline]
fn deadline_of(item: Item<'_>) -> Option<u64> {
    item.int()
        .filter(|&deadline_ms| deadline_ms > 0)
        .map(i64::cast_unsigned)
}

#[inline]
fn item_of(deadline_ms: Option<u64>) -> i64 {
    deadline_ms.map_or(0, u64::cast_signed)
}

impl<'a> HashRef<'a> {
    /// The hash that an absent key stands for.
    pub const EMPTY: HashRef<'static> = HashRef::Pack(&listpack::EMPTY);

    /// The hash in a payload. `None` for other types.
    #[inline]
    pub fn new(encoding: Encoding, payload: Payload<'a>) -> Option<HashRef<'a>> {
        match (encoding, payload) {
            (Encoding::HashPack, Payload::Blob(pack)) => Some(HashRef::Pack(pack)),
            (Encoding::HashPackEx, Payload::Blob(pack)) => Some(HashRef::PackEx(pack)),
            (Encoding::HashTable, Payload::Big(Collection::Hash(table))) => {
                Some(HashRef::Table(table))
            }
            _ => None,
        }
    }

    /// The number of fields. O(1).
    #[inline]
    pub fn len(self) -> usize {
        match self {
            HashRef::Pack(pack) => listpack::len(pack) / PLAIN,
            HashRef::PackEx(pack) => listpack::len(pack) / EX,
            HashRef::Table(table) => table.len(),
        }
    }

    /// Whether there are no fields. O(1).
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The value of a field. O(1) in a table, else O(n) of a small n.
    #[inline]
    pub fn get(self, field: &[u8]) -> Option<Item<'a>> {
        match self {
            HashRef::Pack(pack) => {
                let at = listpack::find(pack, field, PLAIN - 1)?;
                Some(listpack::get(pack, listpack::next(pack, at)?))
            }
            _ => self.field(field).map(|found| found.value),
        }
    }

    /// A field with its value and deadline. O(1) in a table, else O(n) of a small n.
    pub fn field(self, field: &[u8]) -> Option<Field<'a>> {
        let (pack, width) = match self {
            HashRef::Pack(pack) => (pack, PLAIN),
            HashRef::PackEx(pack) => (pack, EX),
            HashRef::Table(table) => return table.get(field),
        };
        let at = listpack::find(pack, field, width - 1)?;
        PackFields {
            items: listpack::iter_from(pack, at),
            width,
        }
        .next()
    }

    /// Whether there is such a field. O(1) in a table, else O(n) of a small n.
    #[inline]
    pub fn contains(self, field: &[u8]) -> bool {
        match self {
            HashRef::Pack(pack) => listpack::find(pack, field, PLAIN - 1).is_some(),
            HashRef::PackEx(pack) => listpack::find(pack, field, EX - 1).is_some(),
            HashRef::Table(table) => table.get(field).is_some(),
        }
    }

    /// All fields: in order of arrival in a plain listpack, soonest deadline first in one with
    /// deadlines, else in no order.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Field<'a>> + use<'a> {
        match self {
            HashRef::Pack(pack) => AnyOf::Pack(PackFields::new(pack, PLAIN)),
            HashRef::PackEx(pack) => AnyOf::Pack(PackFields::new(pack, EX)),
            HashRef::Table(table) => AnyOf::Table(table.iter()),
        }
    }

    /// A field chosen by 64 random bits. O(1) in a table, else O(n) of a small n.
    pub fn random(self, bits: u64) -> Option<Field<'a>> {
        let (pack, width) = match self {
            HashRef::Pack(pack) => (pack, PLAIN),
            HashRef::PackEx(pack) => (pack, EX),
            HashRef::Table(table) => return table.sample(bits),
        };
        let index = bits % (self.len() as u64).max(1);
        let at = listpack::seek(pack, index as i64 * width as i64)?;
        PackFields {
            items: listpack::iter_from(pack, at),
            width,
        }
        .next()
    }

    /// `count` distinct fields at random; all of them if there are fewer. O(count), or O(n).
    pub fn pick_distinct(self, count: usize, bits: Bits<'_>) -> Vec<Field<'a>> {
        match self {
            HashRef::Table(table) => pick::distinct(
                (table.len(), count),
                bits,
                |bits| table.sample(bits),
                table.iter(),
                |found| match found.field {
                    Item::Bytes(bytes) => bytes.as_ptr() as usize,
                    Item::Int(n) => n as usize,
                },
            ),
            _ => pick::at_indices(self.iter(), &pick::distinct_indices(self.len(), count, bits)),
        }
    }

    /// Visits some fields and returns the cursor to go on with; 0 begins and ends. A small hash is
    /// visited as a whole. A field present throughout is visited at least once.
    pub fn scan(self, cursor: u64, visit: &mut dyn FnMut(Field<'_>)) -> u64 {
        match self {
            HashRef::Table(table) => table.scan(cursor, visit),
            _ => {
                self.iter().for_each(visit);
                0
            }
        }
    }

    /// The earliest deadline of a field, Unix time. O(1).
    #[inline]
    pub fn next_deadline(self) -> Option<u64> {
        match self {
            HashRef::Pack(_) => None,
            HashRef::PackEx(pack) => PackFields::new(pack, EX).next()?.deadline_ms,
            HashRef::Table(table) => table.next_deadline(),
        }
    }

    /// Bytes that the hash occupies, its home excluded. O(1).
    pub fn allocated_bytes(self) -> usize {
        match self {
            HashRef::Pack(pack) | HashRef::PackEx(pack) => pack.len(),
            HashRef::Table(table) => table.allocated_bytes(),
        }
    }
}

/// Encoding and payload of a hash without fields.
pub const fn fresh() -> (Encoding, NewPayload<'static>) {
    (Encoding::HashPack, NewPayload::Blob(&listpack::EMPTY))
}

/// A hash for writing. The home holds a hash.
#[derive(Debug)]
pub struct HashMut<'l, H: Home> {
    home: H,
    limits: &'l Limits,
}

impl<'l, H: Home> HashMut<'l, H> {
    /// A handle on the hash in `home`.
    pub fn new(home: H, limits: &'l Limits) -> HashMut<'l, H> {
        HashMut { home, limits }
    }

    /// The hash as it is.
    #[inline]
    pub fn view(&self) -> HashRef<'_> {
        HashRef::new(self.home.encoding(), self.home.payload()).expect("the home holds a hash")
    }

    /// The earliest deadline of a field, Unix time. O(1).
    #[inline]
    pub fn next_deadline(&self) -> Option<u64> {
        self.view().next_deadline()
    }

    /// Chooses the table right away if so many fields are about to be added that they need it.
    pub fn expect_fields(&mut self, n_fields: usize) {
        let is_pack = self.home.encoding() != Encoding::HashTable;
        if is_pack && n_fields > self.limits.hash_max_listpack_entries {
            self.become_table();
        }
    }

    /// Sets a value; whether the field is new. O(1) in a table, else O(n) of a small n.
    pub fn set(&mut self, field: &[u8], value: &[u8], deadline: FieldDeadline) -> bool {
        if self.too_long(field, value) {
            self.become_table();
        }
        let before = match deadline {
            FieldDeadline::At(deadline_ms) => {
                if self.home.encoding() == Encoding::HashPack {
                    self.become_pack_ex();
                }
                Some((self.next_deadline(), deadline_ms))
            }
            FieldDeadline::Clear | FieldDeadline::Keep => None,
        };
        let is_new = match self.home.encoding() {
            Encoding::HashPack => self.set_in_pack(field, value),
            Encoding::HashPackEx => self.set_in_pack_ex(field, value, deadline),
            _ => self.table().set(field, value, deadline),
        };
        if deadline == FieldDeadline::Clear {
            self.settle();
        }
        if let Some((before_ms, deadline_ms)) = before {
            self.schedule_if_sooner(before_ms, deadline_ms);
        }
        is_new
    }

    fn set_in_pack(&mut self, field: &[u8], value: &[u8]) -> bool {
        let mut blob = HomeBlob(&mut self.home);
        let pack = blob.bytes();
        if let Some(at) = listpack::find(pack, field, PLAIN - 1) {
            let at = listpack::next(pack, at).expect("a value follows its field");
            listpack::replace(&mut blob, at, value);
            return false;
        }
        if self.is_full(PLAIN) {
            self.become_table();
            return self.table().set(field, value, FieldDeadline::Clear);
        }
        let mut blob = HomeBlob(&mut self.home);
        let end = listpack::end(blob.bytes());
        listpack::insert_all(&mut blob, end, &[field, value]);
        true
    }

    fn set_in_pack_ex(&mut self, field: &[u8], value: &[u8], deadline: FieldDeadline) -> bool {
        let mut blob = HomeBlob(&mut self.home);
        let pack = blob.bytes();
        let Some(at) = listpack::find(pack, field, EX - 1) else {
            if self.is_full(EX) {
                self.become_table();
                return self.table().set(field, value, deadline);
            }
            insert_by_deadline(&mut HomeBlob(&mut self.home), field, value, deadline.after(None));
            return true;
        };
        let value_at = listpack::next(pack, at).expect("a value follows its field");
        let (_, deadline_at) = listpack::read(pack, value_at);
        let old_ms = deadline_of(listpack::get(pack, deadline_at));
        let new_ms = deadline.after(old_ms);
        if new_ms == old_ms {
            listpack::replace(&mut blob, value_at, value);
        } else {
            listpack::remove(&mut blob, at, EX);
            insert_by_deadline(&mut blob, field, value, new_ms);
        }
        false
    }

    /// Removes a field; whether it was there. O(1) in a table, else O(n) of a small n.
    pub fn remove(&mut self, field: &[u8]) -> bool {
        let width = match self.home.encoding() {
            Encoding::HashPack => PLAIN,
            Encoding::HashPackEx => EX,
            _ => {
                let is_removed = self.table().remove(field);
                self.settle();
                return is_removed;
            }
        };
        let mut blob = HomeBlob(&mut self.home);
        let Some(at) = listpack::find(blob.bytes(), field, width - 1) else {
            return false;
        };
        listpack::remove(&mut blob, at, width);
        self.settle();
        true
    }

    /// Sets when a field falls due, Unix time; whether the field exists. O(log n) in a table, else
    /// O(n) of a small n.
    pub fn set_deadline(&mut self, field: &[u8], deadline_ms: u64) -> bool {
        if !self.view().contains(field) {
            return false;
        }
        if self.home.encoding() == Encoding::HashPack {
            self.become_pack_ex();
        }
        let before_ms = self.next_deadline();
        self.move_deadline(field, Some(deadline_ms));
        self.schedule_if_sooner(before_ms, deadline_ms);
        true
    }

    /// Drops the deadline of a field; whether there was one. O(log n) in a table, else O(n) of a
    /// small n.
    pub fn persist(&mut self, field: &[u8]) -> bool {
        match self.view().field(field) {
            Some(Field {
                deadline_ms: Some(_),
                ..
            }) => {
                self.move_deadline(field, None);
                self.settle();
                true
            }
            _ => false,
        }
    }

    /// Gives a field that exists another deadline; the hash is no plain listpack.
    fn move_deadline(&mut self, field: &[u8], deadline_ms: Option<u64>) {
        if self.home.encoding() == Encoding::HashTable {
            self.table().set_deadline(field, deadline_ms);
            return;
        }
        let mut blob = HomeBlob(&mut self.home);
        let pack = blob.bytes();
        if let Some(at) = listpack::find(pack, field, EX - 1) {
            let value_at = listpack::next(pack, at).expect("a value follows its field");
            let value = listpack::get(pack, value_at).to_vec();
            listpack::remove(&mut blob, at, EX);
            insert_by_deadline(&mut blob, field, &value, deadline_ms);
        }
    }

    /// Removes the fields that are due at `now_ms` (Unix time), soonest first, and shows each to
    /// `see`; how many. O(due * log n) in a table, else O(n) of a small n.
    pub fn expire_due(&mut self, now_ms: u64, see: &mut impl FnMut(&[u8])) -> usize {
        let n_expired = match self.view() {
            HashRef::Pack(_) => 0,
            HashRef::Table(_) => self.table().expire_due(now_ms, see),
            HashRef::PackEx(pack) => {
                let mut n_expired = 0;
                for found in PackFields::new(pack, EX) {
                    if found
                        .deadline_ms
                        .is_none_or(|deadline_ms| deadline_ms > now_ms)
                    {
                        break;
                    }
                    see(found.field.text(&mut ItemBuffer::new()));
                    n_expired += 1;
                }
                if let (Some(at), 1..) = (listpack::first(pack), n_expired) {
                    listpack::remove(&mut HomeBlob(&mut self.home), at, n_expired * EX);
                }
                n_expired
            }
        };
        self.settle();
        n_expired
    }

    /// Tells the home when the last deadline has gone.
    fn settle(&mut self) {
        if self.home.encoding() != Encoding::HashPack && self.next_deadline().is_none() {
            self.home.unschedule();
        }
    }

    fn schedule_if_sooner(&mut self, before_ms: Option<u64>, deadline_ms: u64) {
        if before_ms.is_none_or(|before_ms| deadline_ms < before_ms) {
            self.home.schedule(deadline_ms);
        }
    }

    /// Whether the texts are more than a listpack may take.
    #[inline]
    fn too_long(&self, field: &[u8], value: &[u8]) -> bool {
        let (HashRef::Pack(pack) | HashRef::PackEx(pack)) = self.view() else {
            return false;
        };
        let max = self.limits.hash_max_listpack_value;
        field.len() > max
            || value.len() > max
            || !listpack::has_room(pack, field.len() + value.len())
    }

    /// Whether the listpack has as many fields as it may.
    fn is_full(&mut self, width: usize) -> bool {
        let pack = HomeBlob(&mut self.home);
        listpack::len(pack.bytes()) / width >= self.limits.hash_max_listpack_entries
    }

    fn table(&mut self) -> &mut HashTable {
        match self.home.big_mut() {
            Some(Collection::Hash(table)) => table,
            _ => unreachable!("the encoding says that the hash is a table"),
        }
    }

    fn become_pack_ex(&mut self) {
        let mut encoder = Encoder::new();
        for found in self.view().iter() {
            encoder.push_item(found.field);
            encoder.push_item(found.value);
            encoder.push_int(0);
        }
        self.home
            .put(Encoding::HashPackEx, NewPayload::Blob(&encoder.to_pack()));
    }

    fn become_table(&mut self) {
        let mut table = HashTable::default();
        let (mut field_text, mut value_text) = (ItemBuffer::new(), ItemBuffer::new());
        for found in self.view().iter() {
            let deadline = found
                .deadline_ms
                .map_or(FieldDeadline::Clear, FieldDeadline::At);
            let field = found.field.text(&mut field_text);
            table.set(field, found.value.text(&mut value_text), deadline);
        }
        let table = Box::new(Collection::Hash(table));
        self.home.put(Encoding::HashTable, NewPayload::Big(table));
    }
}

/// Inserts a field into a `HashPackEx`: behind those that fall due no later, or at the end.
fn insert_by_deadline<B: Blob>(blob: &mut B, field: &[u8], value: &[u8], deadline_ms: Option<u64>) {
    let pack = blob.bytes();
    let at = match deadline_ms {
        None => listpack::end(pack),
        Some(deadline_ms) => {
            let mut fields = PackFields::new(pack, EX);
            loop {
                let at = fields.items.position();
                match fields.next() {
                    Some(found) if found.deadline_ms.is_some_and(|ms| ms <= deadline_ms) => {}
                    _ => break at,
                }
            }
        }
    };
    let mut encoder = Encoder::new();
    encoder.push(field);
    encoder.push(value);
    encoder.push_int(item_of(deadline_ms));
    listpack::insert_encoded(blob, at, encoder.encoded(), EX);
}

#[cfg(test)]
mod tests;
