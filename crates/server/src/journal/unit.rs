//! What one outermost command came to, until it is done.
//!
//! A script may keep parts of it from the append-only file, from the replicas or from both
//! (`redis.set_repl`). That is rare, so records bear no mark: a unit knows at which of them the
//! audience changed.

use super::Record;

/// Who reads a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audience {
    /// The append-only file.
    pub file: bool,
    /// The replicas.
    pub replicas: bool,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Unit {
    records: Vec<Record>,
    /// From which record on, for whom.
    turns: Vec<(usize, Audience)>,
}

impl Audience {
    /// Everybody.
    pub const ALL: Audience = Audience {
        file: true,
        replicas: true,
    };

    /// Whether there is one at all.
    pub fn any(self) -> bool {
        self.file || self.replicas
    }
}

impl Unit {
    /// Adds a record.
    pub fn push(&mut self, record: Record) {
        self.records.push(record);
    }

    /// Adds records.
    pub fn extend(&mut self, records: impl IntoIterator<Item = Record>) {
        self.records.extend(records);
    }

    /// Says who reads what is added from now on: everybody, until this is first said.
    pub fn turn_to(&mut self, audience: Audience) {
        let at = self.records.len();
        self.turns.pop_if(|(from, _)| *from == at);
        let present = self.turns.last().map_or(Audience::ALL, |(_, one)| *one);
        if present != audience {
            self.turns.push((at, audience));
        }
    }

    /// Whether nothing was added.
    pub fn is_empty(&self) -> bool {
        self.records.is_empty()
    }

    /// Empties it.
    pub fn clear(&mut self) {
        self.records.clear();
        self.turns.clear();
    }

    /// All records, if everybody reads all of them.
    pub(super) fn for_all(&self) -> Option<&[Record]> {
        self.turns.is_empty().then_some(&self.records)
    }

    /// The records that some readers get.
    pub(super) fn records_for(&self, is_meant: impl Fn(Audience) -> bool) -> Vec<Record> {
        let mut turns = self.turns.iter().peekable();
        let mut audience = Audience::ALL;
        let mut meant = Vec::new();
        for (at, record) in self.records.iter().enumerate() {
            while let Some((_, next)) = turns.next_if(|(from, _)| *from <= at) {
                audience = *next;
            }
            if is_meant(audience) {
                meant.push(record.clone());
            }
        }
        meant
    }
}
