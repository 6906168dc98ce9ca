//! Which records of a table a walk has saved, while the table goes on changing.
//!
//! ```text
//!   begin    the meaning of the mark turns: every record is unsaved now
//!   step     some buckets: what is unsaved is shown and marked
//!   before   whoever changes or removes an unsaved record first copies it aside
//!   born     new records bear the mark
//! ```
//!
//! The mark is the flag beside a record's address, so it moves with the record through splits. The
//! copies wait in the table's side buffer for the next step. Nothing here knows who walks, or why.

use super::table::{Directory, Occupied, Record, Table};

/// The marks of one table, and the walk over it, if there is one.
#[derive(Debug, Default)]
pub struct Marks {
    /// What saved and new records bear; outside of a walk, every record.
    mark: bool,
    walk: Option<Box<Walk>>,
}

#[derive(Debug)]
struct Walk {
    id: u64,
    cursor: u64,
    is_through: bool,
    /// Copies of records as they were, in no order.
    aside: Vec<Box<[u8]>>,
}

impl Marks {
    /// The number of the walk under way, if there is one.
    #[inline]
    pub fn walk_id(&self) -> Option<u64> {
        self.walk.as_ref().map(|walk| walk.id)
    }

    /// Begins a walk over the records that are there now. None may be under way.
    pub fn begin(&mut self, id: u64) {
        debug_assert!(self.walk.is_none());
        self.mark = !self.mark;
        self.walk = Some(Box::new(Walk {
            id,
            cursor: 0,
            is_through: false,
            aside: Vec::new(),
        }));
    }

    /// Marks a new record as none of the walk's business.
    #[inline]
    pub fn born<R: Record, D: Directory>(&self, place: &mut Occupied<'_, R, D>) {
        if self.mark {
            place.set_flag(true);
        }
    }

    /// Copies a record aside that is about to change or go, if the walk has not come to it.
    #[inline]
    pub fn before<R: Record, D: Directory>(
        &mut self,
        place: &mut Occupied<'_, R, D>,
        copy: impl FnOnce(&R) -> Box<[u8]>,
    ) {
        if let Some(walk) = &mut self.walk
            && place.flag() != self.mark
        {
            walk.aside.push(copy(&place.read()));
            place.set_flag(self.mark);
        }
    }

    /// Shows at least `n` records, or copies of such, that were not shown yet, each exactly once.
    /// Whether some are left; if not, the walk is over.
    pub fn step<R: Record, D: Directory>(
        &mut self,
        table: &mut Table<R, D>,
        n: usize,
        see: &mut dyn FnMut(&R),
        see_copy: &mut dyn FnMut(&[u8]),
    ) -> bool {
        let Some(walk) = &mut self.walk else {
            return false;
        };
        let mut n_seen = 0;
        while n_seen < n {
            if let Some(copy) = walk.aside.pop() {
                see_copy(&copy);
                n_seen += 1;
            } else if !walk.is_through {
                walk.cursor = table.sweep(walk.cursor, self.mark, &mut |record| {
                    n_seen += 1;
                    see(record);
                });
                n_seen += 1;
                walk.is_through = walk.cursor == 0;
            } else {
                self.walk = None;
                return false;
            }
        }
        true
    }
}
