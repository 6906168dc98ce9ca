//! Client-side caching: who may hold which keys, and who is told that one has changed.
//!
//! ```text
//!   a tracking session reads ──► its id goes under the key, in the table ─┐ under the key's
//!   somebody changes the key ──► the key leaves the table, notices posted ┘ shard lock, both
//!   broadcasting             ──► by prefix: no table, every change is told
//! ```
//!
//! Keys count by name, whatever their database, as in Redis. The table has stripes, so that loops
//! seldom meet; beyond `tracking-table-max-keys` the oldest keys go, and their holders are told. A
//! session that ends stays in the table until its keys change, or until nobody tracks. The locks here
//! are leaf locks, but that the book of trackers is held while the table is emptied.

use std::cell::RefCell;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hashbrown::{HashMap, HashSet};
use parking_lot::{Mutex, RwLock};

use crate::mailbox::{Address, Mail, Mailboxes, Notice};
use crate::stats::memory::block_bytes;

/// Parts of the table, each behind a lock.
const N_STRIPES: usize = 16;
/// Keys that have left a stripe and are still in its queue, beyond as many as are in both.
const STALE_ALLOWED: usize = 64;

/// Who changed a key when nobody did: its time had come, or memory was short.
pub const NOBODY: u64 = 0;

/// A session that is to be told.
#[derive(Clone, Copy, Debug)]
pub struct Tracker {
    /// Where it is.
    pub address: Address,
    /// The session that gets the notices in its place.
    pub redirect: Option<u64>,
    /// It is told by prefixes, no more of what it read before.
    pub is_broadcast: bool,
    /// It is not told of its own changes.
    pub is_noloop: bool,
}

/// Ids of the sessions that may hold a key.
type Holders = HashSet<u64>;

#[derive(Default)]
struct Stripe {
    keys: HashMap<Arc<[u8]>, Holders>,
    /// The keys by age; one that is no more in `keys`, or again, is stale.
    queue: VecDeque<Arc<[u8]>>,
}

impl Stripe {
    fn pop_oldest(&mut self) -> Option<(Arc<[u8]>, Holders)> {
        loop {
            let key = self.queue.pop_front()?;
            if self.is_live(&key)
                && let Some(holders) = self.keys.remove(&key)
            {
                return Some((key, holders));
            }
        }
    }

    fn is_live(&self, key: &Arc<[u8]>) -> bool {
        let found = self.keys.get_key_value(key);
        found.is_some_and(|(other, _)| Arc::ptr_eq(other, key))
    }

    fn push(&mut self, key: &[u8], id: u64) {
        let key: Arc<[u8]> = key.into();
        if self.queue.len() > 2 * self.keys.len() + STALE_ALLOWED {
            let mut queue = std::mem::take(&mut self.queue);
            queue.retain(|key| self.is_live(key));
            self.queue = queue;
        }
        self.queue.push_back(key.clone());
        self.keys.insert(key, [id].into_iter().collect());
    }
}

/// See the top of the file.
#[derive(Default)]
pub struct Tracking {
    stripes: [Mutex<Stripe>; N_STRIPES],
    trackers: RwLock<HashMap<u64, Tracker>>,
    prefixes: RwLock<BTreeMap<Box<[u8]>, Vec<u64>>>,
    n_trackers: AtomicUsize,
    n_keys: AtomicUsize,
    n_items: AtomicUsize,
    n_prefixes: AtomicUsize,
}

/// Notices that were not posted, each with the session that it is for.
pub type Notices = RefCell<Vec<(u64, Notice)>>;

/// The letters that notices are posted through.
#[derive(Clone, Copy)]
pub struct Post<'a> {
    /// Finds the session that notices are redirected to.
    pub find: &'a dyn Fn(u64) -> Option<Address>,
    /// The session that runs something, and where its own notices gather: they follow its reply.
    pub own: Option<(u64, &'a Notices)>,
    /// Takes the letters.
    pub mailboxes: &'a Mailboxes,
}

impl Tracking {
    /// Whether anybody is to be told of anything.
    #[inline]
    pub fn is_active(&self) -> bool {
        self.n_trackers.load(Relaxed) > 0
    }

    /// Sessions that track.
    pub fn n_trackers(&self) -> usize {
        self.n_trackers.load(Relaxed)
    }

    /// Keys in the table, and holders of them in all.
    pub fn n_keys_and_items(&self) -> (usize, usize) {
        (self.n_keys.load(Relaxed), self.n_items.load(Relaxed))
    }

    /// Prefixes that somebody broadcasts by.
    pub fn n_prefixes(&self) -> usize {
        self.n_prefixes.load(Relaxed)
    }

    /// A session begins to track, or goes on in another way.
    pub fn enter(&self, id: u64, tracker: Tracker) {
        if self.trackers.write().insert(id, tracker).is_none() {
            self.n_trackers.fetch_add(1, Relaxed);
        }
    }

    /// A session tracks no more.
    pub fn leave(&self, id: u64, prefixes: &[Box<[u8]>]) {
        let mut trackers = self.trackers.write();
        if trackers.remove(&id).is_some() {
            self.n_trackers.fetch_sub(1, Relaxed);
        }
        if trackers.is_empty() {
            self.clear();
        }
        drop(trackers);
        let mut all = self.prefixes.write();
        for prefix in prefixes {
            let Some(ids) = all.get_mut(prefix) else {
                continue;
            };
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                all.remove(prefix);
            }
        }
        self.n_prefixes.store(all.len(), Relaxed);
    }

    /// A session is to be told of all keys that begin like this.
    pub fn broadcast(&self, id: u64, prefix: &[u8]) {
        let mut all = self.prefixes.write();
        let ids = all.entry(prefix.into()).or_default();
        if !ids.contains(&id) {
            ids.push(id);
        }
        self.n_prefixes.store(all.len(), Relaxed);
    }

    fn stripe_of(key: &[u8]) -> usize {
        datatypes::encoding::table::hash(key) as usize % N_STRIPES
    }

    /// Notes that a session may hold `key`, whose shard is locked. O(1).
    pub fn remember(&self, key: &[u8], id: u64, n_keys_max: usize, post: Post<'_>) {
        let at = Tracking::stripe_of(key);
        let mut stripe = self.stripes[at].lock();
        match stripe.keys.get_mut(key) {
            Some(holders) => {
                self.n_items
                    .fetch_add(usize::from(holders.insert(id)), Relaxed);
                return;
            }
            None => stripe.push(key, id),
        }
        self.n_items.fetch_add(1, Relaxed);
        let n_before = self.n_keys.fetch_add(1, Relaxed);
        drop(stripe);
        if n_before < n_keys_max || n_keys_max == 0 {
            return;
        }
        self.shrink(at + 1, n_keys_max, post);
    }

    /// Makes the table no bigger than `n_keys_max`, beginning with the stripe at `from`.
    #[cold]
    pub fn shrink(&self, from: usize, n_keys_max: usize, post: Post<'_>) {
        for i in 0..N_STRIPES {
            while self.n_keys.load(Relaxed) > n_keys_max {
                let mut stripe = self.stripes[(from + i) % N_STRIPES].lock();
                let Some((key, holders)) = stripe.pop_oldest() else {
                    break;
                };
                self.count_out(&holders);
                drop(stripe);
                self.tell(&key, &holders, NOBODY, post);
            }
        }
    }

    fn count_out(&self, holders: &Holders) {
        self.n_keys.fetch_sub(1, Relaxed);
        self.n_items.fetch_sub(holders.len(), Relaxed);
    }

    /// Tells those who read keys that these have changed, and who did it; their shards are locked.
    pub fn invalidate(&self, touched: &[(u64, Box<[u8]>)], post: Post<'_>) {
        for (author, key) in touched {
            let mut stripe = self.stripes[Tracking::stripe_of(key)].lock();
            if let Some(holders) = stripe.keys.remove(&key[..]) {
                self.count_out(&holders);
                drop(stripe);
                self.tell(key, &holders, *author, post);
            }
        }
    }

    fn tell(&self, key: &[u8], holders: &Holders, author: u64, post: Post<'_>) {
        let keys: Arc<[Box<[u8]>]> = [key.into()].into();
        let trackers = self.trackers_of(holders.iter());
        let share = block_bytes(key.len()) / trackers.len().max(1);
        for tracker in trackers {
            let is_own = tracker.is_noloop && tracker.address.session == author;
            if !is_own && !tracker.is_broadcast {
                post.send(tracker, Some(keys.clone()), share);
            }
        }
    }

    fn trackers_of<'i>(&self, ids: impl Iterator<Item = &'i u64>) -> Vec<Tracker> {
        let trackers = self.trackers.read();
        ids.filter_map(|id| trackers.get(id).copied()).collect()
    }

    /// Tells those who are told of all keys with a prefix; once for all that a transaction did.
    pub fn tell_by_prefix(&self, touched: &[(u64, Box<[u8]>)], post: Post<'_>) {
        if self.n_prefixes() == 0 {
            return;
        }
        let mut authors = BTreeMap::new();
        for (author, key) in touched {
            authors.entry(key).or_insert(*author);
        }
        let is_touched = |prefix: &[u8]| authors.keys().any(|key| key.starts_with(prefix));
        let prefixes = self.prefixes.read();
        let prefixes = prefixes.iter().filter(|(prefix, _)| is_touched(prefix));
        let prefixes: Vec<(Box<[u8]>, Vec<u64>)> = prefixes
            .map(|(prefix, ids)| (prefix.clone(), ids.clone()))
            .collect();
        for (prefix, ids) in prefixes {
            let under = || authors.iter().filter(|(key, _)| key.starts_with(&prefix));
            let all: Arc<[Box<[u8]>]> = under().map(|(key, _)| (*key).clone()).collect();
            let n_bytes: usize = all.iter().map(|key| block_bytes(key.len())).sum();
            let share = n_bytes / ids.len().max(1);
            for tracker in self.trackers_of(ids.iter()) {
                let is_own = |author: u64| tracker.is_noloop && author == tracker.address.session;
                let keys = match under().any(|(_, author)| is_own(*author)) {
                    true => under()
                        .filter(|(_, author)| !is_own(**author))
                        .map(|(key, _)| (*key).clone())
                        .collect(),
                    false => all.clone(),
                };
                if !keys.is_empty() {
                    post.send(tracker, Some(keys), share);
                }
            }
        }
    }

    fn clear(&self) {
        for stripe in &self.stripes {
            let mut stripe = stripe.lock();
            let Stripe { keys, .. } = std::mem::take(&mut *stripe);
            keys.values().for_each(|holders| self.count_out(holders));
        }
    }

    /// Tells everybody that nothing may be held any more.
    pub fn invalidate_all(&self, post: Post<'_>) {
        self.clear();
        let trackers: Vec<Tracker> = self.trackers.read().values().copied().collect();
        trackers.into_iter().for_each(|one| post.send(one, None, 0));
    }
}

impl Post<'_> {
    /// `share` are the bytes of the keys, which several notices share.
    fn send(self, tracker: Tracker, keys: Option<Arc<[Box<[u8]>]>>, share: usize) {
        let own = tracker.address;
        let (to, notice) = match tracker.redirect {
            None => (
                own,
                Notice::Invalid {
                    keys,
                    is_redirected: false,
                },
            ),
            Some(id) => match (self.find)(id) {
                Some(address) => (
                    address,
                    Notice::Invalid {
                        keys,
                        is_redirected: true,
                    },
                ),
                None => (own, Notice::Unreachable { redirect: id }),
            },
        };
        match self.own {
            Some((id, notices)) if id == to.session => notices.borrow_mut().push((id, notice)),
            _ => {
                // Mailboxes grow by doubling, and their block is up to a quarter larger.
                let n_bytes = 5 * size_of::<Mail>() / 2 + share;
                let mail = Mail::Notice {
                    to,
                    notice,
                    n_bytes,
                };
                self.mailboxes.post(to.group.into(), mail);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tracker(session: u64) -> Tracker {
        Tracker {
            address: Address {
                group: 0,
                slot: 0,
                session,
            },
            redirect: None,
            is_broadcast: false,
            is_noloop: false,
        }
    }

    /// Runs `work` with a post whose letters are then counted.
    fn n_letters(work: impl FnOnce(Post<'_>)) -> usize {
        let mailboxes = Mailboxes::new(1);
        work(Post {
            find: &|_| None,
            mailboxes: &mailboxes,
            own: None,
        });
        mailboxes.take(0).len()
    }

    fn remember(tracking: &Tracking, key: &str, id: u64, n_keys_max: usize) -> usize {
        n_letters(|post| tracking.remember(key.as_bytes(), id, n_keys_max, post))
    }

    #[test]
    fn a_key_is_told_of_once_to_each_who_read_it() {
        let tracking = Tracking::default();
        for id in [1, 2, 3] {
            tracking.enter(id, tracker(id));
        }
        for id in [1, 2, 2] {
            assert_eq!(remember(&tracking, "k", id, 10), 0);
        }
        assert_eq!(tracking.n_keys_and_items(), (1, 2));
        let touched = [(NOBODY, Box::from(&b"k"[..]))];
        assert_eq!(n_letters(|post| tracking.invalidate(&touched, post)), 2);
        assert_eq!(n_letters(|post| tracking.invalidate(&touched, post)), 0);
        assert_eq!(tracking.n_keys_and_items(), (0, 0));
    }

    #[test]
    fn the_oldest_keys_make_room_and_stale_places_in_the_queue_go() {
        let tracking = Tracking::default();
        tracking.enter(1, tracker(1));
        for i in 0..10_000 {
            let key = format!("k{i}");
            assert_eq!(remember(&tracking, &key, 1, 100), usize::from(i >= 100));
            assert!(tracking.n_keys_and_items().0 <= 100);
        }
        for i in 0..10_000 {
            let key = format!("again{}", i % 3);
            remember(&tracking, &key, 1, 1000);
            let touched = [(1, key.into_bytes().into())];
            assert_eq!(n_letters(|post| tracking.invalidate(&touched, post)), 1);
        }
        let queued = tracking.stripes.iter().map(|one| one.lock().queue.len());
        assert!(queued.sum::<usize>() < 3 * 100 + N_STRIPES * (STALE_ALLOWED + 1));
        assert_eq!(n_letters(|post| tracking.shrink(3, 40, post)), 60);
        assert_eq!(tracking.n_keys_and_items(), (40, 40));
        tracking.leave(1, &[]);
        assert_eq!(tracking.n_keys_and_items(), (0, 0));
        assert!(!tracking.is_active());
    }

    #[test]
    fn without_a_bound_nothing_makes_room() {
        let tracking = Tracking::default();
        tracking.enter(1, tracker(1));
        let told = (0..500).map(|i| remember(&tracking, &format!("k{i}"), 1, 0));
        assert_eq!(told.sum::<usize>(), 0);
        assert_eq!(tracking.n_keys_and_items(), (500, 500));
    }
}
