//! Any value for reading: the six views behind one name, and what OBJECT and MEMORY say of it.

use crate::hash::HashRef;
use crate::home::{Collection, Encoding, Kind, Payload};
use crate::list::ListRef;
use crate::set::SetRef;
use crate::stream::{self, Stream};
use crate::string::{self, EMBEDDED_MAX_BYTES, StringRef};
use crate::zset::ZsetRef;

/// A value of any type.
#[derive(Clone, Copy, Debug)]
pub enum ValueRef<'a> {
    /// See [`StringRef`].
    String(StringRef<'a>),
    /// See [`ListRef`].
    List(ListRef<'a>),
    /// See [`SetRef`].
    Set(SetRef<'a>),
    /// See [`ZsetRef`].
    Zset(ZsetRef<'a>),
    /// See [`HashRef`].
    Hash(HashRef<'a>),
    /// See [`Stream`].
    Stream(&'a Stream),
}

impl<'a> ValueRef<'a> {
    /// The value that a home holds: `payload` in the shape that `encoding` asks for.
    #[inline]
    pub fn new(encoding: Encoding, payload: Payload<'a>) -> ValueRef<'a> {
        match encoding.kind() {
            Kind::String => {
                let text = string::view(encoding, payload);
                ValueRef::String(text.unwrap_or(StringRef::Bytes(&[])))
            }
            Kind::List => ValueRef::List(ListRef::new(encoding, payload).unwrap_or(ListRef::EMPTY)),
            Kind::Set => ValueRef::Set(SetRef::new(encoding, payload).unwrap_or(SetRef::EMPTY)),
            Kind::Zset => ValueRef::Zset(ZsetRef::new(encoding, payload).unwrap_or(ZsetRef::EMPTY)),
            Kind::Hash => ValueRef::Hash(HashRef::new(encoding, payload).unwrap_or(HashRef::EMPTY)),
            Kind::Stream => ValueRef::Stream(
                stream::view(encoding, payload).expect("a stream is always a collection"),
            ),
        }
    }

    /// The type.
    pub fn kind(self) -> Kind {
        match self {
            ValueRef::String(_) => Kind::String,
            ValueRef::List(_) => Kind::List,
            ValueRef::Set(_) => Kind::Set,
            ValueRef::Zset(_) => Kind::Zset,
            ValueRef::Hash(_) => Kind::Hash,
            ValueRef::Stream(_) => Kind::Stream,
        }
    }

    /// Elements, members, fields or entries; for a string the bytes of its text. O(1).
    pub fn len(self) -> usize {
        match self {
            ValueRef::String(text) => text.text_len(),
            ValueRef::List(list) => list.len(),
            ValueRef::Set(set) => set.len(),
            ValueRef::Zset(zset) => zset.len(),
            ValueRef::Hash(hash) => hash.len(),
            ValueRef::Stream(stream) => stream.len(),
        }
    }

    /// Whether [`ValueRef::len`] is zero. O(1).
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// Bytes of the payload: the blob, or all that the collection has allocated.
    pub fn allocated_bytes(self) -> usize {
        match self {
            ValueRef::String(StringRef::Int(_)) => size_of::<i64>(),
            ValueRef::String(StringRef::Bytes(bytes)) => bytes.len(),
            ValueRef::List(list) => list.allocated_bytes(),
            ValueRef::Set(set) => set.allocated_bytes(),
            ValueRef::Zset(zset) => zset.allocated_bytes(),
            ValueRef::Hash(hash) => hash.allocated_bytes(),
            ValueRef::Stream(stream) => size_of::<Collection>() + stream.allocated_bytes(),
        }
    }
}

/// The name that OBJECT ENCODING answers.
pub fn encoding_name(encoding: Encoding, payload: Payload<'_>) -> &'static str {
    match encoding {
        Encoding::Int => "int",
        Encoding::Raw => match payload {
            Payload::Blob(bytes) if bytes.len() <= EMBEDDED_MAX_BYTES => "embstr",
            _ => "raw",
        },
        Encoding::Edited => "raw",
        Encoding::IntSet => "intset",
        Encoding::QuickList => "quicklist",
        Encoding::ListPack | Encoding::SetPack | Encoding::HashPack | Encoding::ZsetPack => {
            "listpack"
        }
        Encoding::HashPackEx => "listpackex",
        Encoding::SetTable | Encoding::HashTable => "hashtable",
        Encoding::ZsetTree => "skiplist",
        Encoding::Stream => "stream",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::encoding::{intset, listpack};
    use crate::set::SetTable;

    #[test]
    fn every_encoding_has_its_view_and_name() {
        let table = Collection::Set(SetTable::default());
        let cases = [
            (Encoding::Int, Payload::Int(-15), Kind::String, 3, "int"),
            (Encoding::Raw, Payload::Blob(b"abcd"), Kind::String, 4, "embstr"),
            (Encoding::Raw, Payload::Blob(&[b'x'; 45]), Kind::String, 45, "raw"),
            (Encoding::Edited, Payload::Blob(b"ab"), Kind::String, 2, "raw"),
            (Encoding::ListPack, Payload::Blob(&listpack::EMPTY), Kind::List, 0, "listpack"),
            (Encoding::IntSet, Payload::Blob(&intset::EMPTY), Kind::Set, 0, "intset"),
            (Encoding::SetTable, Payload::Big(&table), Kind::Set, 0, "hashtable"),
            (Encoding::HashPackEx, Payload::Blob(&listpack::EMPTY), Kind::Hash, 0, "listpackex"),
            (Encoding::ZsetPack, Payload::Blob(&listpack::EMPTY), Kind::Zset, 0, "listpack"),
        ];
        for (encoding, payload, kind, len, name) in cases {
            let value = ValueRef::new(encoding, payload);
            assert_eq!((value.kind(), value.len()), (kind, len));
            assert_eq!(value.is_empty(), len == 0);
            assert_eq!(encoding_name(encoding, payload), name);
        }
    }
}
