//! Deep copies of collections, in the encoding of the original.

use crate::encoding::listpack::ItemBuffer;
use crate::encoding::quicklist::{NodeRef, QuickList};
use crate::encoding::zsettree::ZsetTree;
use crate::hash::{FieldDeadline, HashTable};
use crate::home::Collection;
use crate::set::SetTable;

impl Collection {
    /// A copy that shares nothing with the original. O(elements).
    pub fn duplicate(&self) -> Collection {
        match self {
            Collection::List(list) => Collection::List(copy_of_list(list)),
            Collection::Set(set) => Collection::Set(copy_of_set(set)),
            Collection::Hash(hash) => Collection::Hash(copy_of_hash(hash)),
            Collection::Zset(zset) => Collection::Zset(copy_of_zset(zset)),
            Collection::Stream(stream) => Collection::Stream(stream.clone()),
        }
    }
}

fn copy_of_list(list: &QuickList) -> QuickList {
    let mut copy = QuickList::new();
    for node in list.nodes() {
        match node {
            NodeRef::Pack(pack) => copy.push_pack(pack.to_vec()),
            NodeRef::Plain(text) => copy.push_plain(text.into()),
        }
    }
    copy
}

fn copy_of_set(set: &SetTable) -> SetTable {
    let mut copy = SetTable::default();
    for member in set.iter() {
        copy.add(member);
    }
    copy
}

fn copy_of_hash(hash: &HashTable) -> HashTable {
    let mut copy = HashTable::default();
    for field in hash.iter() {
        let deadline = field
            .deadline_ms
            .map_or(FieldDeadline::Clear, FieldDeadline::At);
        let (mut name, mut value) = (ItemBuffer::new(), ItemBuffer::new());
        copy.set(field.field.text(&mut name), field.value.text(&mut value), deadline);
    }
    copy
}

fn copy_of_zset(zset: &ZsetTree) -> ZsetTree {
    let mut copy = ZsetTree::default();
    for entry in zset.range(0..zset.len()) {
        copy.update(entry.member(), |_| Some(entry.score()));
    }
    copy
}
