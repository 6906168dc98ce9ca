//! Which locks a command takes, in which order, and when it gives up: the whole deadlock argument.
//!
//! - One lock: take it; while holding it, wait for nothing.
//! - Several: try them in ascending order; if one is busy, release all, wait for that one with
//!   nothing held, release it, start over. After [`ROUNDS_MAX`] rounds the caller becomes a
//!   transaction.
//! - The transaction holds the one transaction lock and may wait for any shard while holding others.
//!
//! So who waits holds nothing, except the one transaction, and whom that waits for finishes.
//! The functions here are generic over the set of locks, so loom checks the shipped code.

#![allow(unsafe_code)]

use crate::sync::RawLock;

/// Rounds of try-locking before a command of several shards becomes a transaction.
pub const ROUNDS_MAX: usize = 3;

/// Why the locks were not had. Nothing is held and nothing was executed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// A holder takes its time: come back later.
    Busy,
    /// Others kept getting in between, or what was found asks for it: come back as a transaction.
    Contended,
}

/// Takes one lock, or gives up after some microseconds.
#[inline]
pub fn take_one(lock: &RawLock) -> Result<(), Refusal> {
    if lock.lock_soon() {
        Ok(())
    } else {
        Err(Refusal::Busy)
    }
}

/// Takes all of `locks`, given in ascending order without repetition, or none.
pub fn take_all<'a>(locks: impl Iterator<Item = &'a RawLock> + Clone) -> Result<(), Refusal> {
    for _ in 0..ROUNDS_MAX {
        let Some(busy) = try_all(locks.clone()) else {
            return Ok(());
        };
        if !busy.lock_soon() {
            return Err(Refusal::Busy);
        }
        // SAFETY: taken in the line above.
        unsafe { busy.unlock() };
    }
    Err(Refusal::Contended)
}

/// Takes all or none; the one that was busy.
fn try_all<'a>(locks: impl Iterator<Item = &'a RawLock> + Clone) -> Option<&'a RawLock> {
    for (n_taken, lock) in locks.clone().enumerate() {
        if !lock.try_lock() {
            for taken in locks.take(n_taken) {
                // SAFETY: taken in this loop, before the busy one.
                unsafe { taken.unlock() };
            }
            return Some(lock);
        }
    }
    None
}
