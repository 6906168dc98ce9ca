//! The connections of one loop by their place, where one may be lent out while its requests run.
//!
//! A script that runs for too long calls back into the loop, which then serves every connection but
//! the one that is lent.

use slab::Slab;

use crate::net::connection::Connection;

/// See the top of the file.
#[derive(Default)]
pub struct Connections {
    slab: Slab<Option<Box<Connection>>>,
}

impl Connections {
    /// The place that the next one gets.
    pub fn next_place(&self) -> usize {
        self.slab.vacant_key()
    }

    /// Adds a connection.
    pub fn insert(&mut self, connection: Connection) {
        self.slab.insert(Some(Box::new(connection)));
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.slab.is_empty()
    }

    /// The connection at a place, unless it is lent.
    pub fn get(&self, place: usize) -> Option<&Connection> {
        self.slab.get(place)?.as_deref()
    }

    /// The connection at a place, unless it is lent.
    pub fn get_mut(&mut self, place: usize) -> Option<&mut Connection> {
        self.slab.get_mut(place)?.as_deref_mut()
    }

    /// All that are not lent.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (usize, &mut Connection)> {
        let all = self.slab.iter_mut();
        all.filter_map(|(place, connection)| Some((place, connection.as_deref_mut()?)))
    }

    /// Lends a connection; its place is kept for it.
    pub fn lend(&mut self, place: usize) -> Option<Box<Connection>> {
        self.slab.get_mut(place)?.take()
    }

    /// Whether the connection at a place is lent.
    pub fn is_lent(&self, place: usize) -> bool {
        self.slab.get(place).is_some_and(Option::is_none)
    }

    /// Takes a connection back that was lent.
    pub fn give_back(&mut self, place: usize, connection: Box<Connection>) {
        if let Some(kept) = self.slab.get_mut(place) {
            *kept = Some(connection);
        }
    }

    /// Removes a connection that is not lent.
    pub fn remove(&mut self, place: usize) -> Option<Box<Connection>> {
        let connection = self.lend(place)?;
        self.slab.remove(place);
        Some(connection)
    }
}
