//! Sets: the choice between sorted integers, a listpack and a table, and the ways up.
//!
//! ```text
//!   first member an integer ─► IntSet ──(other text, few)──► SetPack
//!                                └──(too many)──┐               │ (too many, too long)
//!                                               └─► SetTable ◄──┘
//! ```
//!
//! Nothing goes back down. The caller removes a set that has become empty.

use stdx::number::parse_i64;

use crate::encoding::blob::{Blob, HomeBlob};
use crate::encoding::intset;
use crate::encoding::listpack::{self, Item, ItemBuffer};
use crate::encoding::marks::Marks;
use crate::encoding::record::{Block, Keyed, body_in_table};
use crate::encoding::table::{Record, Table, hash};
use crate::home::{Collection, Encoding, Home, Limits, NewPayload, Payload};
use crate::pick::{self, Bits};

/// The record of a member is the member.
#[derive(Debug)]
struct WholeBody;

impl Keyed for WholeBody {
    #[inline]
    fn key_of(body: &[u8]) -> &[u8] {
        body
    }
}

type Member = Block<WholeBody>;

/// A set in a table; one allocation per member.
#[derive(Debug, Default)]
pub struct SetTable {
    members: Table<Member>,
    member_bytes: usize,
    marks: Marks,
}

impl SetTable {
    pub(crate) fn add(&mut self, member: &[u8]) -> bool {
        let hash = hash(member);
        if self.members.get(hash, member).is_some() {
            return false;
        }
        let record = Member::new(&[member]);
        self.member_bytes += record.allocated_bytes();
        self.marks.born(&mut self.members.insert(hash, record));
        true
    }

    fn take(&mut self, member: &[u8]) -> Option<Member> {
        let mut place = self.members.find_mut(hash(member), member)?;
        self.marks.before(&mut place, |old| old.body().into());
        let record = place.remove();
        self.member_bytes -= record.allocated_bytes();
        Some(record)
    }

    pub(crate) fn len(&self) -> usize {
        self.members.len()
    }

    #[inline]
    pub(crate) fn members(&self) -> &Table<impl Record + use<>> {
        &self.members
    }

    pub(crate) fn allocated_bytes(&self) -> usize {
        size_of::<Collection>() + self.members.allocated_bytes() + self.member_bytes
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
    pub fn step(&mut self, n: usize, see: &mut dyn FnMut(&[u8])) -> bool {
        let see = std::cell::RefCell::new(see);
        self.marks.step(
            &mut self.members,
            n,
            &mut |record| see.borrow_mut()(record.body()),
            &mut |copy| see.borrow_mut()(copy),
        )
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.members.iter().map(|record| body_in_table(&record))
    }

    /// Panics if the structure is not what this file says. O(n).
    pub fn check_invariants(&self) {
        self.members.check_invariants();
        let bytes = self
            .members
            .iter()
            .map(|record| record.allocated_bytes())
            .sum::<usize>();
        assert_eq!(bytes, self.member_bytes);
    }
}

/// A set for reading.
#[derive(Clone, Copy, Debug)]
pub enum SetRef<'a> {
    /// An intset.
    Ints(&'a [u8]),
    /// A listpack of members.
    Pack(&'a [u8]),
    /// See [`SetTable`].
    Table(&'a SetTable),
}

/// An iterator that is one of three.
enum AnyOf<A, B, C> {
    Ints(A),
    Pack(B),
    Table(C),
}

impl<T, A, B, C> Iterator for AnyOf<A, B, C>
where
    A: Iterator<Item = T>,
    B: Iterator<Item = T>,
    C: Iterator<Item = T>,
{
    type Item = T;

    #[inline]
    fn next(&mut self) -> Option<T> {
        match self {
            AnyOf::Ints(iter) => iter.next(),
            AnyOf::Pack(iter) => iter.next(),
            AnyOf::Table(iter) => iter.next(),
        }
    }
}

impl<'a> SetRef<'a> {
    /// The set that an absent key stands for.
    pub const EMPTY: SetRef<'static> = SetRef::Ints(&intset::EMPTY);

    /// The set in a payload. `None` for other types.
    #[inline]
    pub fn new(encoding: Encoding, payload: Payload<'a>) -> Option<SetRef<'a>> {
        match (encoding, payload) {
            (Encoding::IntSet, Payload::Blob(bytes)) => Some(SetRef::Ints(bytes)),
            (Encoding::SetPack, Payload::Blob(bytes)) => Some(SetRef::Pack(bytes)),
            (Encoding::SetTable, Payload::Big(Collection::Set(table))) => {
                Some(SetRef::Table(table))
            }
            _ => None,
        }
    }

    /// The number of members. O(1).
    #[inline]
    pub fn len(self) -> usize {
        match self {
            SetRef::Ints(set) => intset::len(set),
            SetRef::Pack(pack) => listpack::len(pack),
            SetRef::Table(table) => table.members.len(),
        }
    }

    /// Whether there are no members. O(1).
    #[inline]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Whether `member` belongs to the set. O(1) in a table, else O(log n) or O(n) of a small n.
    #[inline]
    pub fn contains(self, member: &[u8]) -> bool {
        match self {
            SetRef::Ints(set) => parse_i64(member).is_some_and(|n| intset::contains(set, n)),
            SetRef::Pack(pack) => listpack::find(pack, member, 0).is_some(),
            SetRef::Table(table) => table.members.get(hash(member), member).is_some(),
        }
    }

    /// Like [`SetRef::contains`], for a member of another set.
    #[inline]
    pub fn contains_item(self, member: Item<'_>) -> bool {
        match (self, member) {
            (SetRef::Ints(set), Item::Int(n)) => intset::contains(set, n),
            _ => self.contains(member.text(&mut ItemBuffer::new())),
        }
    }

    /// All members: ascending in an intset, in order of arrival in a listpack, else in no order.
    #[inline]
    pub fn iter(self) -> impl Iterator<Item = Item<'a>> + use<'a> {
        match self {
            SetRef::Ints(set) => AnyOf::Ints(intset::iter(set).map(Item::Int)),
            SetRef::Pack(pack) => AnyOf::Pack(listpack::iter(pack)),
            SetRef::Table(table) => AnyOf::Table(table.iter().map(Item::Bytes)),
        }
    }

    /// A member chosen by 64 random bits. O(1), or O(n) in a listpack.
    pub fn random(self, bits: u64) -> Option<Item<'a>> {
        match self {
            SetRef::Ints(set) => intset::random(set, bits).map(Item::Int),
            SetRef::Pack(pack) => random_position(pack, bits).map(|at| listpack::get(pack, at)),
            SetRef::Table(table) => {
                let record = table.members.sample(bits)?;
                Some(Item::Bytes(body_in_table(&record)))
            }
        }
    }

    /// `count` distinct members at random; all of them if there are fewer. O(count), or O(n).
    pub fn pick_distinct(self, count: usize, bits: Bits<'_>) -> Vec<Item<'a>> {
        match self {
            SetRef::Table(table) => pick::distinct(
                (table.members.len(), count),
                bits,
                |bits| self.random(bits),
                self.iter(),
                |item| match item {
                    Item::Bytes(bytes) => bytes.as_ptr() as usize,
                    Item::Int(n) => *n as usize,
                },
            ),
            _ => pick::at_indices(self.iter(), &pick::distinct_indices(self.len(), count, bits)),
        }
    }

    /// Visits some members and returns the cursor to go on with; 0 begins and ends. A small set is
    /// visited as a whole. A member present throughout is visited at least once.
    pub fn scan(self, cursor: u64, visit: &mut dyn FnMut(Item<'_>)) -> u64 {
        match self {
            SetRef::Table(table) => table
                .members
                .scan(cursor, &mut |record| visit(Item::Bytes(record.body()))),
            _ => {
                self.iter().for_each(visit);
                0
            }
        }
    }

    /// Bytes that the set occupies, its home excluded. O(1).
    pub fn allocated_bytes(self) -> usize {
        match self {
            SetRef::Ints(bytes) | SetRef::Pack(bytes) => bytes.len(),
            SetRef::Table(table) => table.allocated_bytes(),
        }
    }
}

fn random_position(pack: &[u8], bits: u64) -> Option<usize> {
    let len = listpack::len(pack) as u64;
    listpack::seek(pack, (bits % len.max(1)) as i64)
}

/// Encoding and payload of an empty set that expects `n_members` members, of which `first` is the
/// first to be added.
pub fn fresh(first: &[u8], n_members: usize, limits: &Limits) -> (Encoding, NewPayload<'static>) {
    if n_members <= limits.set_max_intset_entries && parse_i64(first).is_some() {
        (Encoding::IntSet, NewPayload::Blob(&intset::EMPTY))
    } else if n_members <= limits.set_max_listpack_entries {
        (Encoding::SetPack, NewPayload::Blob(&listpack::EMPTY))
    } else {
        (Encoding::SetTable, NewPayload::Big(Box::new(Collection::Set(SetTable::default()))))
    }
}

/// A set for writing. The home holds a set.
#[derive(Debug)]
pub struct SetMut<'l, H: Home> {
    home: H,
    limits: &'l Limits,
}

impl<'l, H: Home> SetMut<'l, H> {
    /// A handle on the set in `home`.
    pub fn new(home: H, limits: &'l Limits) -> SetMut<'l, H> {
        SetMut { home, limits }
    }

    /// The set as it is.
    #[inline]
    pub fn view(&self) -> SetRef<'_> {
        SetRef::new(self.home.encoding(), self.home.payload()).expect("the home holds a set")
    }

    /// Chooses the table right away if so many members are about to be added that they might need
    /// it.
    pub fn expect_members(&mut self, n_members: usize) {
        let max = match self.home.encoding() {
            Encoding::IntSet => self.limits.set_max_intset_entries,
            Encoding::SetPack => self.limits.set_max_listpack_entries,
            _ => usize::MAX,
        };
        if n_members > max {
            self.become_table();
        }
    }

    /// Adds a member; whether it was new. O(1) in a table, else O(n) of a small n.
    pub fn add(&mut self, member: &[u8]) -> bool {
        match self.home.encoding() {
            Encoding::IntSet => match parse_i64(member) {
                Some(n) => self.add_int(n),
                None => {
                    self.leave_intset(member);
                    self.add(member)
                }
            },
            Encoding::SetPack => self.add_to_pack(member),
            _ => self.table().add(member),
        }
    }

    fn add_int(&mut self, n: i64) -> bool {
        let added = intset::add(&mut HomeBlob(&mut self.home), n);
        if added && self.view().len() > self.limits.set_max_intset_entries {
            self.become_table();
        }
        added
    }

    /// Makes room for `member`, which is no integer.
    fn leave_intset(&mut self, member: &[u8]) {
        let set = self.view();
        let longest = set.iter().map(Item::text_len).max().unwrap_or(0);
        let fits = set.len() < self.limits.set_max_listpack_entries
            && longest.max(member.len()) <= self.limits.set_max_listpack_value;
        if !fits {
            return self.become_table();
        }
        let mut encoder = listpack::Encoder::new();
        set.iter().for_each(|item| encoder.push_item(item));
        self.home
            .put(Encoding::SetPack, NewPayload::Blob(&encoder.to_pack()));
    }

    fn add_to_pack(&mut self, member: &[u8]) -> bool {
        let mut blob = HomeBlob(&mut self.home);
        let pack = blob.bytes();
        if listpack::find(pack, member, 0).is_some() {
            return false;
        }
        let fits = listpack::len(pack) < self.limits.set_max_listpack_entries
            && member.len() <= self.limits.set_max_listpack_value
            && listpack::has_room(pack, member.len());
        if fits {
            listpack::push_back(&mut blob, member);
            return true;
        }
        self.become_table();
        self.table().add(member)
    }

    /// Removes a member; whether it was there. O(1) in a table, else O(n) of a small n.
    pub fn remove(&mut self, member: &[u8]) -> bool {
        match self.view() {
            SetRef::Ints(_) => {
                parse_i64(member).is_some_and(|n| intset::remove(&mut HomeBlob(&mut self.home), n))
            }
            SetRef::Pack(pack) => {
                let Some(at) = listpack::find(pack, member, 0) else {
                    return false;
                };
                listpack::remove(&mut HomeBlob(&mut self.home), at, 1);
                true
            }
            SetRef::Table(_) => self.table().take(member).is_some(),
        }
    }

    /// Removes the member chosen by 64 random bits, after showing it to `see`. `false` when the
    /// set is empty. O(1) in a table, else O(n) of a small n.
    pub fn pop_random(&mut self, bits: u64, see: impl FnOnce(Item<'_>)) -> bool {
        match self.view() {
            SetRef::Ints(set) => {
                let len = intset::len(set);
                if len == 0 {
                    return false;
                }
                let index = (bits % len as u64) as usize;
                see(Item::Int(intset::get(set, index)));
                intset::remove_at(&mut HomeBlob(&mut self.home), index);
            }
            SetRef::Pack(pack) => {
                let Some(at) = random_position(pack, bits) else {
                    return false;
                };
                see(listpack::get(pack, at));
                listpack::remove(&mut HomeBlob(&mut self.home), at, 1);
            }
            SetRef::Table(_) => {
                let Some(member) = self.view().random(bits).map(Item::to_vec) else {
                    return false;
                };
                self.table().take(&member);
                see(Item::Bytes(&member));
            }
        }
        true
    }

    fn table(&mut self) -> &mut SetTable {
        match self.home.big_mut() {
            Some(Collection::Set(table)) => table,
            _ => unreachable!("the encoding says that the set is a table"),
        }
    }

    fn become_table(&mut self) {
        let mut table = SetTable::default();
        for item in self.view().iter() {
            table.add(item.text(&mut ItemBuffer::new()));
        }
        let table = Box::new(Collection::Set(table));
        self.home.put(Encoding::SetTable, NewPayload::Big(table));
    }
}

#[cfg(test)]
mod tests;
