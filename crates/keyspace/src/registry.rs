//! Who waits for a key and who watches it: the rare side of a shard, behind a null pointer.
//!
//! A [`Waiter`] is shared between the session that blocks and the keys it blocks on. Its state
//! settles who ends the wait: whoever moves it away from `Waiting` by compare-and-swap.
//!
//! ```text
//!              claim()            nothing to serve: release()
//!   Waiting ───────────► Claimed ─────────────────────────────► Waiting
//!      │                 │  │  claim() or cancel() of another
//!      │ cancel()        │  └─────────────────────────► Missed ── release() ──► Cancelled
//!      ▼                 │ finish()                      │ finish()
//!   Cancelled            └────────► Served ◄─────────────┘
//! ```
//!
//! Who finds the waiter claimed goes away, trusting that it will be served. If it is not, `release`
//! must not let it wait on as if nobody had come: a key made ready, or a time-out, would be lost.
//!
//! A [`Watch`] is a session's dirty flag; touching a watched key raises it.

use crate::sync::{Arc, AtomicBool, AtomicU8, Ordering};
use hashbrown::HashMap;
use std::any::Any;
use std::collections::VecDeque;
use std::fmt;

const WAITING: u8 = 0;
const CLAIMED: u8 = 1;
/// Claimed, and somebody has come and gone since.
const MISSED: u8 = 2;
const SERVED: u8 = 3;
const CANCELLED: u8 = 4;

/// One blocked command, registered under each of its keys.
pub struct Waiter {
    state: AtomicU8,
    /// The session and its command, which only the engine knows how to read.
    pub order: Box<dyn Any + Send + Sync>,
    /// Serving it may touch keys of other shards.
    pub is_wide: bool,
    /// What it waits for.
    pub cause: Cause,
}

/// What somebody waits for.
#[derive(Debug, Default)]
pub struct Cause {
    /// In this database,
    pub database: u16,
    /// one of these keys,
    pub keys: Vec<Box<[u8]>>,
    /// and also that one of them goes.
    pub heeds_loss: bool,
}

impl fmt::Debug for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.load(Ordering::Relaxed);
        write!(f, "Waiter {{ state: {state}, is_wide: {} }}", self.is_wide)
    }
}

impl Waiter {
    /// A waiter that waits.
    pub fn new(order: Box<dyn Any + Send + Sync>, is_wide: bool) -> Waiter {
        Waiter {
            state: AtomicU8::new(WAITING),
            order,
            is_wide,
            cause: Cause::default(),
        }
    }

    /// The same, for these keys.
    #[must_use]
    pub fn with_cause(self, cause: Cause) -> Waiter {
        Waiter { cause, ..self }
    }

    fn step(&self, from: u8, to: u8) -> bool {
        self.state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire)
            .is_ok()
    }

    /// Takes the right to serve; false if somebody else has it or ended the wait.
    pub fn claim(&self) -> bool {
        self.take(CLAIMED)
    }

    /// Gives the right back: there was nothing to serve after all. False if somebody came in
    /// between: then the wait is over without a reply, and its session must be told to look again.
    #[must_use]
    pub fn release(&self) -> bool {
        self.step(CLAIMED, WAITING) || !self.step(MISSED, CANCELLED)
    }

    /// Ends the wait with a reply, after `claim`.
    pub fn finish(&self) -> bool {
        self.step(CLAIMED, SERVED) || self.step(MISSED, SERVED)
    }

    /// Ends the wait without a reply: timeout, unblock, disconnect. False if it is being or was
    /// served; then the reply, or the word to look again, is on its way.
    pub fn cancel(&self) -> bool {
        self.take(CANCELLED)
    }

    /// Moves a waiter that waits to `to`, or tells whoever has claimed it that somebody came.
    fn take(&self, to: u8) -> bool {
        loop {
            if self.step(WAITING, to) {
                return true;
            }
            if self.step(CLAIMED, MISSED) || self.state.load(Ordering::Acquire) >= MISSED {
                return false;
            }
        }
    }

    /// Whether the wait is over.
    pub fn is_over(&self) -> bool {
        self.state.load(Ordering::Acquire) >= SERVED
    }
}

/// A session's promise that nothing it watches has changed.
#[derive(Debug, Default)]
pub struct Watch {
    dirty: AtomicBool,
}

impl Watch {
    /// Raises the flag: EXEC will refuse.
    pub fn touch(&self) {
        self.dirty.store(true, Ordering::Release);
    }

    /// Whether something watched has changed.
    pub fn is_dirty(&self) -> bool {
        self.dirty.load(Ordering::Acquire)
    }
}

/// A watch, and whether its key had run out but was still there when it began.
type Watcher = (Arc<Watch>, bool);

/// The waiters and watchers of one shard's keys.
#[derive(Debug, Default)]
pub struct Registry {
    waiters: HashMap<Box<[u8]>, VecDeque<Arc<Waiter>>>,
    watchers: HashMap<Box<[u8]>, Vec<Watcher>>,
    /// Places in queues that are held by wide waiters.
    n_wide: usize,
    /// And by those who are also told that their key goes.
    n_heeding: usize,
}

impl Registry {
    /// Whether nobody waits or watches.
    pub fn is_empty(&self) -> bool {
        self.waiters.is_empty() && self.watchers.is_empty()
    }

    /// Adds a waiter for `key`, behind those already there.
    pub fn wait(&mut self, key: &[u8], waiter: Arc<Waiter>) {
        self.n_wide += usize::from(waiter.is_wide);
        self.n_heeding += usize::from(waiter.cause.heeds_loss);
        self.waiters
            .entry(key.into())
            .or_default()
            .push_back(waiter);
    }

    /// Forgets a waiter for `key`. O(1) for the first one, else O(waiters of the key).
    pub fn forget_waiter(&mut self, key: &[u8], waiter: &Arc<Waiter>) {
        let Some(queue) = self.waiters.get_mut(key) else {
            return;
        };
        let Some(at) = queue.iter().position(|other| Arc::ptr_eq(other, waiter)) else {
            return;
        };
        queue.remove(at);
        self.n_wide -= usize::from(waiter.is_wide);
        self.n_heeding -= usize::from(waiter.cause.heeds_loss);
        if queue.is_empty() {
            self.waiters.remove(key);
        }
    }

    /// The waiter at this place in the queue of `key`; his wait may be over.
    pub fn waiter(&self, key: &[u8], at: usize) -> Option<Arc<Waiter>> {
        self.waiters.get(key)?.get(at).cloned()
    }

    /// Whether somebody waits for `key`.
    pub fn has_waiter(&self, key: &[u8]) -> bool {
        self.waiters.contains_key(key)
    }

    /// Whether anybody here is to be told that the key he waits for goes.
    pub fn has_heeding_waiter(&self) -> bool {
        self.n_heeding > 0
    }

    /// Whether anybody here waits who may need other shards, too.
    pub fn has_wide_waiter(&self) -> bool {
        self.n_wide > 0
    }

    /// Every key somebody watches.
    pub fn watched_keys(&self) -> Vec<Box<[u8]>> {
        self.watchers.keys().cloned().collect()
    }

    /// Every key somebody waits for.
    pub fn waited_keys(&self) -> Vec<Box<[u8]>> {
        self.waiters.keys().cloned().collect()
    }

    /// Adds a watcher of `key`; `was_expired`: the key had run out but was still there. Whether it is
    /// the first one.
    pub fn watch(&mut self, key: &[u8], watch: Arc<Watch>, was_expired: bool) -> bool {
        let watchers = self.watchers.entry(key.into()).or_default();
        watchers.push((watch, was_expired));
        watchers.len() == 1
    }

    /// Forgets a watcher of `key`; whether nobody watches it any more.
    pub fn forget_watch(&mut self, key: &[u8], watch: &Arc<Watch>) -> bool {
        let Some(watchers) = self.watchers.get_mut(key) else {
            return false;
        };
        watchers.retain(|(other, _)| !Arc::ptr_eq(other, watch));
        let is_over = watchers.is_empty();
        if is_over {
            self.watchers.remove(key);
        }
        is_over
    }

    /// Tells the watchers of `key` that it changed.
    pub fn touch(&self, key: &[u8]) {
        for (watch, _) in self.watchers.get(key).into_iter().flatten() {
            watch.touch();
        }
    }

    /// Tells the watchers of every key for which `changed` holds.
    pub fn touch_if(&self, mut changed: impl FnMut(&[u8]) -> bool) {
        for (key, watchers) in &self.watchers {
            if changed(key) {
                watchers.iter().for_each(|(watch, _)| watch.touch());
            }
        }
    }
}
