//! Keys that clients of a writable replica gave a deadline. The primary does not know of them and will
//! never delete them, so this server does, as it does with no other key while it is a replica.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use parking_lot::Mutex;

/// A key and its database.
type Place = (u16, Box<[u8]>);

#[derive(Default)]
struct Inner {
    by_place: HashMap<Place, u64>,
    by_deadline: BTreeSet<(u64, Place)>,
}

/// See the top of the file. A leaf lock.
#[derive(Default)]
pub struct OwnKeys {
    inner: Mutex<Inner>,
    n: AtomicU64,
}

impl OwnKeys {
    /// Notes a key that goes at this Unix time, or no longer does.
    pub fn note(&self, database: u16, key: &[u8], deadline_ms: Option<u64>) {
        if deadline_ms.is_none() && self.is_empty() {
            return;
        }
        let mut inner = self.inner.lock();
        let place = (database, Box::from(key));
        if let Some(before) = inner.by_place.remove(&place) {
            inner.by_deadline.remove(&(before, place.clone()));
        }
        if let Some(deadline_ms) = deadline_ms {
            inner.by_place.insert(place.clone(), deadline_ms);
            inner.by_deadline.insert((deadline_ms, place));
        }
        self.n.store(inner.by_place.len() as u64, Relaxed);
    }

    /// How many there are.
    pub fn len(&self) -> u64 {
        self.n.load(Relaxed)
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the first key that is due by this Unix time.
    pub fn take_due(&self, now_ms: u64) -> Option<(u16, Box<[u8]>)> {
        if self.is_empty() {
            return None;
        }
        let mut inner = self.inner.lock();
        if inner
            .by_deadline
            .first()
            .is_none_or(|first| first.0 > now_ms)
        {
            return None;
        }
        let (_, place) = inner.by_deadline.pop_first()?;
        inner.by_place.remove(&place);
        self.n.store(inner.by_place.len() as u64, Relaxed);
        Some(place)
    }

    /// The data is another one.
    pub fn clear(&self) {
        *self.inner.lock() = Inner::default();
        self.n.store(0, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_deadline_of_a_key_counts() {
        let keys = OwnKeys::default();
        keys.note(0, b"a", Some(10));
        keys.note(0, b"a", Some(30));
        keys.note(1, b"b", Some(20));
        keys.note(0, b"c", Some(5));
        keys.note(0, b"c", None);
        assert_eq!(keys.len(), 2);
        assert_eq!(keys.take_due(19), None);
        assert_eq!(keys.take_due(30), Some((1, Box::from(&b"b"[..]))));
        assert_eq!(keys.take_due(30), Some((0, Box::from(&b"a"[..]))));
        assert_eq!(keys.take_due(30), None);
    }
}
