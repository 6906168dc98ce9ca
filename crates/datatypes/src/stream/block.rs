//! One block of a stream: a listpack of entries that share their field names where they can.
//!
//! ```text
//!   head    live entries | deleted entries | n | name 1 ... name n | 0
//!   entry   flags | ms - base | seq - base |                      value 1 ... value n | items
//!   or      flags | ms - base | seq - base | m | name 1 | value 1 | ... value m       | items
//!           flags: 1 deleted, 2 names are those of the head
//!           items: of this entry without this one, to be walked back over
//! ```
//!
//! `base` is the id under which the block is kept, that of the first entry it was made for. The bytes
//! are those of an RDB file. A deleted entry keeps its bytes until its block goes.

use stdx::number::I64Text;

use super::id::StreamId;
use crate::encoding::listpack::{self, Corrupt, Encoder, Item};

const DELETED: i64 = 1;
const SAME_FIELDS: i64 = 2;

/// Beyond this a block takes no entry, bytes.
pub const MAX_BYTES: usize = 1 << 30;

/// What the head of a block says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head {
    n_names: usize,
    names_at: usize,
    entries_at: usize,
}

/// An entry of a stream.
#[derive(Clone, Copy, Debug)]
pub struct Entry<'a> {
    /// Its id.
    pub id: StreamId,
    pack: &'a [u8],
    at: usize,
    /// Of the names, if they are those of the head.
    names_at: Option<usize>,
    values_at: usize,
    n_fields: usize,
}

impl<'a> Entry<'a> {
    /// Number of fields.
    pub fn len(self) -> usize {
        self.n_fields
    }

    /// Whether it has no field: never, if clients made it.
    pub fn is_empty(self) -> bool {
        self.n_fields == 0
    }

    /// The fields in the order they were given in.
    pub fn fields(self) -> Fields<'a> {
        Fields {
            names: self.names_at.map(|at| listpack::iter_from(self.pack, at)),
            values: listpack::iter_from(self.pack, self.values_at),
            left: self.n_fields,
        }
    }

    fn is_deleted(self) -> bool {
        i64::from(self.pack[self.at]) & DELETED != 0
    }

    /// The position behind it.
    fn behind(self) -> usize {
        let n_items = match self.names_at {
            Some(_) => self.n_fields,
            None => 2 * self.n_fields,
        };
        let mut items = listpack::iter_from(self.pack, self.values_at);
        (0..=n_items).for_each(|_| {
            items.next();
        });
        items.position()
    }
}

/// Names and values of an entry.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    names: Option<listpack::Iter<'a>>,
    values: listpack::Iter<'a>,
    left: usize,
}

impl<'a> Iterator for Fields<'a> {
    type Item = (Item<'a>, Item<'a>);

    #[inline]
    fn next(&mut self) -> Option<(Item<'a>, Item<'a>)> {
        self.left = self.left.checked_sub(1)?;
        let name = match &mut self.names {
            Some(names) => names.next()?,
            None => self.values.next()?,
        };
        Some((name, self.values.next()?))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        (self.left, Some(self.left))
    }
}

impl ExactSizeIterator for Fields<'_> {}

fn int(item: Item<'_>) -> i64 {
    item.int().unwrap_or(0)
}

/// Entries that are there, and entries that were deleted.
#[inline]
pub(crate) fn counts(pack: &[u8]) -> (u64, u64) {
    let Some(at) = listpack::first(pack) else {
        return (0, 0);
    };
    let (live, next) = listpack::read(pack, at);
    let deleted = listpack::get(pack, next);
    (int(live) as u64, int(deleted) as u64)
}

pub(crate) fn head(pack: &[u8]) -> Head {
    let mut items = listpack::iter(pack);
    items.next();
    items.next();
    let n_names = items.next().map_or(0, int) as usize;
    let names_at = items.position();
    (0..=n_names).for_each(|_| {
        items.next();
    });
    Head {
        n_names,
        names_at,
        entries_at: items.position(),
    }
}

/// A new block for one entry, without it.
pub(crate) fn fresh<'f>(fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])>) -> Vec<u8> {
    let mut encoder = Encoder::new();
    encoder.push_int(0);
    encoder.push_int(0);
    encoder.push_int(fields.len() as i64);
    fields.for_each(|(name, _)| encoder.push(name));
    encoder.push_int(0);
    encoder.to_pack()
}

/// Adds an entry behind the last one; its id is larger. O(entry).
pub(crate) fn append<'f>(
    pack: &mut Vec<u8>,
    base: StreamId,
    id: StreamId,
    fields: impl ExactSizeIterator<Item = (&'f [u8], &'f [u8])> + Clone,
) {
    let head = head(pack);
    let mut names = listpack::iter_from(pack, head.names_at);
    let is_same = head.n_names == fields.len()
        && fields
            .clone()
            .all(|(name, _)| names.next().is_some_and(|known| known.is(name)));
    let mut encoder = Encoder::new();
    encoder.push_int(if is_same { SAME_FIELDS } else { 0 });
    encoder.push_int(id.ms.wrapping_sub(base.ms) as i64);
    encoder.push_int(id.seq.wrapping_sub(base.seq) as i64);
    let mut n_items = 3 + fields.len();
    if is_same {
        fields.for_each(|(_, value)| encoder.push(value));
    } else {
        encoder.push_int(fields.len() as i64);
        n_items += 1 + fields.len();
        fields.for_each(|(name, value)| {
            encoder.push(name);
            encoder.push(value);
        });
    }
    encoder.push_int(n_items as i64);
    let end = listpack::end(pack);
    listpack::insert_encoded(pack, end, encoder.encoded(), encoder.count());
    add_to_counts(pack, 1, 0);
}

fn add_to_counts(pack: &mut Vec<u8>, live: i64, deleted: i64) {
    let first = listpack::first(pack).unwrap_or_default();
    if let (1, 0, live_before @ 0..=126) = (live, deleted, pack[first]) {
        pack[first] = live_before + 1; // a number up to 127 is its byte
        return;
    }
    let before = counts(pack);
    let mut at = listpack::first(pack).expect("a block begins with its counts");
    for (before, delta) in [(before.0, live), (before.1, deleted)] {
        if delta != 0 {
            let text = I64Text::new(before as i64 + delta);
            listpack::replace(pack, at, text.as_bytes());
        }
        at = listpack::read(pack, at).1;
    }
}

/// The entry at a position.
fn entry_at<'a>(pack: &'a [u8], head: &Head, base: StreamId, at: usize) -> Entry<'a> {
    let (flags, next) = listpack::read(pack, at);
    let (ms, next) = listpack::read(pack, next);
    let (seq, next) = listpack::read(pack, next);
    let is_same = int(flags) & SAME_FIELDS != 0;
    let (n_fields, values_at) = match is_same {
        true => (head.n_names, next),
        false => {
            let (n, next) = listpack::read(pack, next);
            (int(n) as usize, next)
        }
    };
    Entry {
        id: StreamId::new(
            base.ms.wrapping_add(int(ms) as u64),
            base.seq.wrapping_add(int(seq) as u64),
        ),
        pack,
        at,
        names_at: is_same.then_some(head.names_at),
        values_at,
        n_fields,
    }
}

/// The live entries of a block, from both ends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Entries<'a> {
    pack: &'a [u8],
    base: StreamId,
    head: Head,
    front: usize,
    back: usize,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(base: StreamId, pack: &'a [u8]) -> Entries<'a> {
        let head = head(pack);
        Entries {
            pack,
            base,
            head,
            front: head.entries_at,
            back: listpack::end(pack),
        }
    }
}

impl<'a> Iterator for Entries<'a> {
    type Item = Entry<'a>;

    #[inline]
    fn next(&mut self) -> Option<Entry<'a>> {
        while self.front < self.back {
            let entry = entry_at(self.pack, &self.head, self.base, self.front);
            self.front = entry.behind();
            if !entry.is_deleted() {
                return Some(entry);
            }
        }
        None
    }
}

impl DoubleEndedIterator for Entries<'_> {
    fn next_back(&mut self) -> Option<Self::Item> {
        while self.front < self.back {
            let mut at = listpack::prev(self.pack, self.back)?;
            for _ in 0..int(listpack::get(self.pack, at)) {
                at = listpack::prev(self.pack, at)?;
            }
            self.back = at;
            let entry = entry_at(self.pack, &self.head, self.base, at);
            if !entry.is_deleted() {
                return Some(entry);
            }
        }
        None
    }
}

/// Whether a block has this entry. O(entries).
pub(crate) fn find(pack: &[u8], base: StreamId, id: StreamId) -> Option<Entry<'_>> {
    Entries::new(base, pack)
        .take_while(|entry| entry.id <= id)
        .find(|entry| entry.id == id)
}

/// What is to become of an entry that a walk comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Delete it and go on.
    Delete,
    /// Leave it and go on.
    Keep,
    /// Leave it and all that follow.
    Stop,
}

/// Asks about each live entry; how many were deleted.
pub(crate) fn delete_each(
    pack: &mut Vec<u8>,
    base: StreamId,
    mut judge: impl FnMut(StreamId) -> Verdict,
) -> u64 {
    let mut gone = Vec::new();
    for entry in Entries::new(base, pack) {
        match judge(entry.id) {
            Verdict::Stop => break,
            Verdict::Keep => {}
            Verdict::Delete => gone.push(entry.at),
        }
    }
    gone.iter().for_each(|at| mark(pack, *at));
    add_to_counts(pack, -(gone.len() as i64), gone.len() as i64);
    gone.len() as u64
}

/// Flags are small numbers, so that the byte at their position is the number.
fn mark(pack: &mut [u8], at: usize) {
    pack[at] |= DELETED as u8;
}

/// Deletes one entry; whether it was there.
pub(crate) fn delete(pack: &mut Vec<u8>, base: StreamId, id: StreamId) -> bool {
    let Some(at) = find(pack, base, id).map(|entry| entry.at) else {
        return false;
    };
    mark(pack, at);
    add_to_counts(pack, -1, 1);
    true
}

/// Checks that bytes from a file are a block as drawn above: shape, counts, rising ids.
pub(crate) fn validate(base: StreamId, pack: &[u8]) -> Result<(), Corrupt> {
    listpack::validate(pack)?;
    let mut reader = Reader {
        pack,
        at: listpack::first(pack).unwrap_or(listpack::end(pack)),
    };
    let (live, deleted) = (reader.int()?, reader.int()?);
    let n_names = reader.count()?;
    reader.skip(n_names)?;
    if reader.int()? != 0 || live < 1 || deleted < 0 {
        return Err(reader.corrupt());
    }
    let (mut n_live, mut n_deleted, mut last) = (0, 0, None);
    while reader.at < listpack::end(pack) {
        let (id, is_deleted) = reader.entry(base, n_names)?;
        if id < base || last.is_some_and(|last| id <= last) {
            return Err(reader.corrupt());
        }
        last = Some(id);
        n_live += i64::from(!is_deleted);
        n_deleted += i64::from(is_deleted);
    }
    match (n_live, n_deleted) == (live, deleted) {
        true => Ok(()),
        false => Err(reader.corrupt()),
    }
}

struct Reader<'a> {
    pack: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn corrupt(&self) -> Corrupt {
        Corrupt { offset: self.at }
    }

    fn int(&mut self) -> Result<i64, Corrupt> {
        if self.at >= listpack::end(self.pack) {
            return Err(self.corrupt());
        }
        let (item, next) = listpack::read(self.pack, self.at);
        let number = item.int().ok_or(self.corrupt())?;
        self.at = next;
        Ok(number)
    }

    fn count(&mut self) -> Result<usize, Corrupt> {
        let corrupt = self.corrupt();
        let number = self.int()?;
        let n = usize::try_from(number).map_err(|_| corrupt)?;
        if n > self.pack.len() {
            Err(corrupt)
        } else {
            Ok(n)
        }
    }

    fn skip(&mut self, n: usize) -> Result<(), Corrupt> {
        for _ in 0..n {
            if self.at >= listpack::end(self.pack) {
                return Err(self.corrupt());
            }
            self.at = listpack::read(self.pack, self.at).1;
        }
        Ok(())
    }

    fn entry(&mut self, base: StreamId, n_names: usize) -> Result<(StreamId, bool), Corrupt> {
        // The flags must be a number in one byte, which is edited in place.
        let flags = match self.pack[self.at] {
            flags @ 0..=3 => i64::from(flags),
            _ => return Err(self.corrupt()),
        };
        self.int()?;
        let (ms, seq) = (self.int()?, self.int()?);
        let n_items = match flags & SAME_FIELDS != 0 {
            true => n_names,
            false => {
                let n = self.count()?;
                self.skip(2 * n)?;
                2 * n + 1
            }
        };
        if flags & SAME_FIELDS != 0 {
            self.skip(n_names)?;
        }
        if self.int()? != n_items as i64 + 3 {
            return Err(self.corrupt());
        }
        let id = StreamId::new(base.ms.wrapping_add(ms as u64), base.seq.wrapping_add(seq as u64));
        Ok((id, flags & DELETED != 0))
    }
}
