//! Where a value lives, seen from the types: an encoding and a payload that can be edited in place.
//!
//! ```text
//!   encoding     payload
//!   Int          Int      the number itself
//!   Raw, Edited, Blob     bytes; the home decides whether they sit inside its own allocation
//!   *Pack, IntSet         or in one of their own
//!   the others   Big      a `Collection`, boxed
//! ```

use crate::encoding::marks::Marks;
use crate::encoding::quicklist::{Frozen, NodeRef, QuickList};
use crate::encoding::zsettree::ZsetTree;
use crate::hash::{Field, HashTable};
use crate::set::SetTable;
use crate::stream::{BlockLimit, Stream, StreamId};

/// The type of a value, as `TYPE` names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Bytes or an integer.
    String,
    /// An ordered sequence.
    List,
    /// Distinct members.
    Set,
    /// Members ordered by score.
    Zset,
    /// Fields with values.
    Hash,
    /// Entries of fields under rising ids.
    Stream,
}

impl Kind {
    /// The name that `TYPE` answers.
    pub const fn name(self) -> &'static str {
        match self {
            Kind::String => "string",
            Kind::List => "list",
            Kind::Set => "set",
            Kind::Zset => "zset",
            Kind::Hash => "hash",
            Kind::Stream => "stream",
        }
    }
}

/// Type and structure together; fits four bits of an entry's header.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Encoding {
    /// A string that is a 64-bit integer.
    Int = 0,
    /// A string as bytes.
    Raw = 1,
    /// A list in one listpack.
    ListPack = 2,
    /// A list as a deque of listpacks.
    QuickList = 3,
    /// A set of integers in a sorted array.
    IntSet = 4,
    /// A small set in a listpack.
    SetPack = 5,
    /// A set in a table.
    SetTable = 6,
    /// A small hash in a listpack: field, value, field, value.
    HashPack = 7,
    /// A small hash with deadlines: field, value, deadline triples, soonest first.
    HashPackEx = 8,
    /// A hash in a table.
    HashTable = 9,
    /// A small sorted set in a listpack: member, score pairs in order.
    ZsetPack = 10,
    /// A sorted set in a table and a B+tree (`skiplist` on the wire).
    ZsetTree = 11,
    /// A string as bytes that was edited in place, and is `raw` for OBJECT ENCODING at any length.
    Edited = 12,
    /// A stream: blocks in a tree.
    Stream = 13,
}

impl Encoding {
    /// The encoding with this number, as kept in an entry's header.
    pub const fn from_bits(bits: u8) -> Option<Encoding> {
        Some(match bits {
            0 => Encoding::Int,
            1 => Encoding::Raw,
            2 => Encoding::ListPack,
            3 => Encoding::QuickList,
            4 => Encoding::IntSet,
            5 => Encoding::SetPack,
            6 => Encoding::SetTable,
            7 => Encoding::HashPack,
            8 => Encoding::HashPackEx,
            9 => Encoding::HashTable,
            10 => Encoding::ZsetPack,
            11 => Encoding::ZsetTree,
            12 => Encoding::Edited,
            13 => Encoding::Stream,
            _ => return None,
        })
    }

    /// The type that is stored this way.
    pub const fn kind(self) -> Kind {
        match self {
            Encoding::Int | Encoding::Raw | Encoding::Edited => Kind::String,
            Encoding::ListPack | Encoding::QuickList => Kind::List,
            Encoding::IntSet | Encoding::SetPack | Encoding::SetTable => Kind::Set,
            Encoding::HashPack | Encoding::HashPackEx | Encoding::HashTable => Kind::Hash,
            Encoding::ZsetPack | Encoding::ZsetTree => Kind::Zset,
            Encoding::Stream => Kind::Stream,
        }
    }
}

/// A structure too big to be one run of bytes.
#[derive(Debug)]
pub enum Collection {
    /// See [`Encoding::QuickList`].
    List(QuickList),
    /// See [`Encoding::SetTable`].
    Set(SetTable),
    /// See [`Encoding::HashTable`].
    Hash(HashTable),
    /// See [`Encoding::ZsetTree`].
    Zset(ZsetTree),
    /// See [`Encoding::Stream`].
    Stream(Box<Stream>),
}

/// Up to this many allocations are freed, or added up, on the spot.
const FEW: usize = 64;
/// Up to this many bytes, too: giving pages back to the system takes time.
const QUICK_BYTES_MAX: usize = 1 << 20;

impl Collection {
    /// Whether freeing it takes long enough to be done elsewhere. O(1).
    pub fn is_heavy(&self) -> bool {
        match self {
            Collection::List(list) => is_heavy(list.nodes().len(), || list.allocated_bytes()),
            Collection::Set(set) => is_heavy(set.len(), || set.allocated_bytes()),
            Collection::Hash(hash) => is_heavy(hash.len(), || hash.allocated_bytes()),
            Collection::Zset(zset) => is_heavy(zset.len(), || zset.allocated_bytes()),
            Collection::Stream(stream) => {
                is_heavy(stream.n_allocations(), || stream.allocated_bytes())
            }
        }
    }
}

/// From this many bytes on a collection is saved in pieces.
const LONG_BYTES: usize = 64 << 10;

/// A part of a collection that is saved in pieces.
#[derive(Clone, Copy, Debug)]
pub enum Piece<'a> {
    /// A node of a list, in order.
    Node(NodeRef<'a>),
    /// A member of a set.
    Member(&'a [u8]),
    /// A field of a hash.
    Field(Field<'a>),
    /// A member of a sorted set, in no order.
    Scored(&'a [u8], f64),
    /// A block of a stream, in order.
    Block(StreamId, &'a [u8]),
}

/// What is needed to save a collection in pieces as it is now.
#[derive(Debug)]
pub enum Begun {
    /// The list as it was; the collection is not needed any more.
    Frozen(Frozen),
    /// The collection itself, see [`Collection::step`].
    Walk,
}

impl Collection {
    /// Whether saving it takes long enough to be done in pieces. O(1).
    pub fn is_long(&self) -> bool {
        match self {
            Collection::List(list) => {
                list.nodes().len() > FEW || list.allocated_bytes() >= LONG_BYTES
            }
            Collection::Set(set) => set.allocated_bytes() >= LONG_BYTES,
            Collection::Hash(hash) => hash.allocated_bytes() >= LONG_BYTES,
            Collection::Zset(zset) => zset.record_bytes() >= LONG_BYTES,
            Collection::Stream(stream) => stream.is_long(),
        }
    }

    /// Asks the processor for the bucket of the element with this hash. Whether it has any.
    #[inline]
    pub fn prefetch_bucket(&self, hash: u64) -> bool {
        match self {
            Collection::Set(set) => set.members().prefetch_bucket(hash),
            Collection::Hash(fields) => fields.fields().prefetch_bucket(hash),
            Collection::Zset(zset) => zset.members().prefetch_bucket(hash),
            Collection::List(_) | Collection::Stream(_) => return false,
        }
        true
    }

    /// Asks the processor for the element with this hash: see [`Table::prefetch_record`].
    ///
    /// [`Table::prefetch_record`]: crate::encoding::table::Table::prefetch_record
    #[inline]
    pub fn prefetch_element(&self, hash: u64) -> bool {
        match self {
            Collection::Set(set) => set.members().prefetch_record(hash),
            Collection::Hash(fields) => fields.fields().prefetch_record(hash),
            Collection::Zset(zset) => zset.members().prefetch_record(hash),
            Collection::List(_) | Collection::Stream(_) => true,
        }
    }

    /// Likewise after that, if it is in the bucket behind its first one; true, as no more is asked for.
    pub fn prefetch_late_element(&self, hash: u64) -> bool {
        match self {
            Collection::Set(set) => set.members().prefetch_late_record(hash),
            Collection::Hash(fields) => fields.fields().prefetch_late_record(hash),
            Collection::Zset(zset) => zset.members().prefetch_late_record(hash),
            Collection::List(_) | Collection::Stream(_) => {}
        }
        true
    }

    fn marks_mut(&mut self) -> Option<&mut Marks> {
        match self {
            Collection::List(_) | Collection::Stream(_) => None,
            Collection::Set(set) => Some(set.marks_mut()),
            Collection::Hash(hash) => Some(hash.marks_mut()),
            Collection::Zset(zset) => Some(zset.marks_mut()),
        }
    }

    /// Begins to save it as it is now, under a number of the caller's. O(1), or O(nodes) of a list.
    pub fn begin(&mut self, id: u64) -> Begun {
        match self {
            Collection::List(list) => Begun::Frozen(list.freeze()),
            Collection::Stream(stream) => {
                stream.begin_walk(id);
                Begun::Walk
            }
            other => {
                other
                    .marks_mut()
                    .into_iter()
                    .for_each(|marks| marks.begin(id));
                Begun::Walk
            }
        }
    }

    /// The number under which it is being saved in pieces.
    #[inline]
    pub fn walk_id(&self) -> Option<u64> {
        match self {
            Collection::List(_) => None,
            Collection::Stream(stream) => stream.walk_id(),
            Collection::Set(set) => set.walk_id(),
            Collection::Hash(hash) => hash.walk_id(),
            Collection::Zset(zset) => zset.walk_id(),
        }
    }

    /// Shows some `n` pieces, or some blocks of a stream, that were not shown yet; whether some are left.
    pub fn step(&mut self, n: usize, see: &mut dyn FnMut(Piece<'_>)) -> bool {
        match self {
            Collection::List(_) => false,
            Collection::Stream(stream) => {
                stream.step_walk(&mut |base, pack| see(Piece::Block(base, pack)))
            }
            Collection::Set(set) => set.step(n, &mut |member| see(Piece::Member(member))),
            Collection::Hash(hash) => hash.step(n, &mut |field| see(Piece::Field(field))),
            Collection::Zset(zset) => {
                zset.step(n, &mut |member, score| see(Piece::Scored(member, score)))
            }
        }
    }
}

/// Bytes are asked for of few allocations only, as lists and sorted sets add them up.
fn is_heavy(n_allocations: usize, bytes: impl FnOnce() -> usize) -> bool {
    n_allocations > FEW || bytes() > QUICK_BYTES_MAX
}

/// What a home holds, for reading.
#[derive(Clone, Copy, Debug)]
pub enum Payload<'a> {
    /// With [`Encoding::Int`].
    Int(i64),
    /// With `Raw`, `Edited`, the `*Pack*` encodings and `IntSet`.
    Blob(&'a [u8]),
    /// With the rest.
    Big(&'a Collection),
}

/// A payload to move into a home.
#[derive(Debug)]
pub enum NewPayload<'a> {
    /// With [`Encoding::Int`].
    Int(i64),
    /// Bytes to copy; see [`Payload::Blob`].
    Blob(&'a [u8]),
    /// See [`Payload::Big`].
    Big(Box<Collection>),
}

/// The place of one value, which its type may edit and convert.
pub trait Home {
    /// How the payload is to be read.
    fn encoding(&self) -> Encoding;
    /// The payload, for reading.
    fn payload(&self) -> Payload<'_>;
    /// The bytes of a blob, for edits that keep the length. Empty for other payloads.
    fn blob_mut(&mut self) -> &mut [u8];
    /// Replaces `remove` bytes at `at` of a blob by `insert`. O(bytes behind `at`); may move the blob.
    fn splice(&mut self, at: usize, remove: usize, insert: &[u8]);
    /// The collection of a big payload, for changing. `None` for other payloads.
    fn big_mut(&mut self) -> Option<&mut Collection>;
    /// Replaces encoding and payload; the old payload is dropped.
    fn put(&mut self, encoding: Encoding, payload: NewPayload<'_>);
    /// Says that something inside the value (a hash field) falls due at `deadline_ms` (Unix time),
    /// so that whoever keeps deadlines comes back by then.
    fn schedule(&mut self, deadline_ms: u64);
    /// Says that nothing inside the value falls due any more. O(1).
    fn unschedule(&mut self) {}
}

impl<H: Home + ?Sized> Home for &mut H {
    #[inline]
    fn encoding(&self) -> Encoding {
        (**self).encoding()
    }
    #[inline]
    fn payload(&self) -> Payload<'_> {
        (**self).payload()
    }
    #[inline]
    fn blob_mut(&mut self) -> &mut [u8] {
        (**self).blob_mut()
    }
    #[inline]
    fn splice(&mut self, at: usize, remove: usize, insert: &[u8]) {
        (**self).splice(at, remove, insert);
    }
    #[inline]
    fn big_mut(&mut self) -> Option<&mut Collection> {
        (**self).big_mut()
    }
    #[inline]
    fn put(&mut self, encoding: Encoding, payload: NewPayload<'_>) {
        (**self).put(encoding, payload);
    }
    #[inline]
    fn schedule(&mut self, deadline_ms: u64) {
        (**self).schedule(deadline_ms);
    }
    #[inline]
    fn unschedule(&mut self) {
        (**self).unschedule();
    }
}

/// The thresholds at which small encodings give way, as the directives of the same names set them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// `hash-max-listpack-entries`.
    pub hash_max_listpack_entries: usize,
    /// `hash-max-listpack-value`, bytes.
    pub hash_max_listpack_value: usize,
    /// `hll-sparse-max-bytes`.
    pub hll_sparse_max_bytes: usize,
    /// `list-max-listpack-size`: elements when positive, -1 to -5 for 4, 8, 16, 32, 64 KiB.
    pub list_max_listpack_size: i64,
    /// Items of a big list that get a node of their own have at least so many bytes, and those too
    /// large for a listpack of the size above. Lowered by tests only.
    pub list_plain_bytes: usize,
    /// `proto-max-bulk-len`: the longest string that an edit may make, bytes.
    pub string_max_bytes: usize,
    /// `set-max-intset-entries`.
    pub set_max_intset_entries: usize,
    /// `set-max-listpack-entries`.
    pub set_max_listpack_entries: usize,
    /// `set-max-listpack-value`, bytes.
    pub set_max_listpack_value: usize,
    /// `stream-node-max-bytes` and `stream-node-max-entries`.
    pub stream_block: BlockLimit,
    /// `zset-max-listpack-entries`.
    pub zset_max_listpack_entries: usize,
    /// `zset-max-listpack-value`, bytes.
    pub zset_max_listpack_value: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            hash_max_listpack_entries: 512,
            hash_max_listpack_value: 64,
            hll_sparse_max_bytes: 3000,
            list_max_listpack_size: -2,
            list_plain_bytes: usize::MAX,
            string_max_bytes: 512 << 20,
            set_max_intset_entries: 512,
            set_max_listpack_entries: 128,
            set_max_listpack_value: 64,
            stream_block: BlockLimit {
                bytes: 4096,
                entries: 100,
            },
            zset_max_listpack_entries: 128,
            zset_max_listpack_value: 64,
        }
    }
}

/// A home on its own: a value outside any keyspace, for tests and for values under construction.
#[derive(Debug)]
pub struct Owned {
    encoding: Encoding,
    payload: OwnedPayload,
    /// The earliest deadline ever scheduled, Unix time.
    pub scheduled_ms: Option<u64>,
}

#[derive(Debug)]
enum OwnedPayload {
    Int(i64),
    Blob(Vec<u8>),
    Big(Box<Collection>),
}

impl Owned {
    /// A home that holds `payload`.
    pub fn new(encoding: Encoding, payload: NewPayload<'_>) -> Owned {
        Owned {
            encoding,
            payload: OwnedPayload::from(payload),
            scheduled_ms: None,
        }
    }

    /// A home that holds these bytes, which it takes over.
    pub fn of_blob(encoding: Encoding, blob: Vec<u8>) -> Owned {
        Owned {
            encoding,
            payload: OwnedPayload::Blob(blob),
            scheduled_ms: None,
        }
    }

    /// Encoding and payload, ready to be put into another home.
    pub fn as_new(self) -> (Encoding, OwnedParts) {
        match self.payload {
            OwnedPayload::Int(n) => (self.encoding, OwnedParts::Int(n)),
            OwnedPayload::Blob(bytes) => (self.encoding, OwnedParts::Blob(bytes)),
            OwnedPayload::Big(big) => (self.encoding, OwnedParts::Big(big)),
        }
    }
}

/// The parts of an [`Owned`], by value.
#[derive(Debug)]
pub enum OwnedParts {
    /// See [`NewPayload::Int`].
    Int(i64),
    /// See [`NewPayload::Blob`].
    Blob(Vec<u8>),
    /// See [`NewPayload::Big`].
    Big(Box<Collection>),
}

impl From<NewPayload<'_>> for OwnedPayload {
    fn from(payload: NewPayload<'_>) -> OwnedPayload {
        match payload {
            NewPayload::Int(n) => OwnedPayload::Int(n),
            NewPayload::Blob(bytes) => OwnedPayload::Blob(bytes.to_vec()),
            NewPayload::Big(big) => OwnedPayload::Big(big),
        }
    }
}

impl Home for Owned {
    fn encoding(&self) -> Encoding {
        self.encoding
    }

    fn payload(&self) -> Payload<'_> {
        match &self.payload {
            OwnedPayload::Int(n) => Payload::Int(*n),
            OwnedPayload::Blob(bytes) => Payload::Blob(bytes),
            OwnedPayload::Big(big) => Payload::Big(big),
        }
    }

    fn blob_mut(&mut self) -> &mut [u8] {
        match &mut self.payload {
            OwnedPayload::Blob(bytes) => bytes,
            _ => &mut [],
        }
    }

    fn splice(&mut self, at: usize, remove: usize, insert: &[u8]) {
        if let OwnedPayload::Blob(bytes) = &mut self.payload {
            bytes.splice(at..at + remove, insert.iter().copied());
        }
    }

    fn big_mut(&mut self) -> Option<&mut Collection> {
        match &mut self.payload {
            OwnedPayload::Big(big) => Some(big),
            _ => None,
        }
    }

    fn put(&mut self, encoding: Encoding, payload: NewPayload<'_>) {
        self.encoding = encoding;
        self.payload = OwnedPayload::from(payload);
    }

    fn schedule(&mut self, deadline_ms: u64) {
        self.scheduled_ms = Some(
            self.scheduled_ms
                .map_or(deadline_ms, |old| old.min(deadline_ms)),
        );
    }
}
