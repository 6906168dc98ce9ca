//! The locks of shards and of the transaction, the cell a lock protects, and the atomics around them:
//! parking_lot and std, or loom's stand-ins when the shipped code is model-checked (`--cfg loom`).
//! Nothing else in this crate names either.

#![allow(unsafe_code)]

#[cfg(loom)]
pub use loom::sync::Arc;
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering};
#[cfg(not(loom))]
pub use std::sync::Arc;
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

#[cfg(not(loom))]
use parking_lot::lock_api::{RawMutex as _, RawMutexTimed as _};
use std::time::Duration;

/// Rounds of spinning before a lock counts as busy: some microseconds.
#[cfg(not(loom))]
const SPINS: u32 = 400;
#[cfg(loom)]
const SPINS: u32 = 1;

/// One lock, taken and released by hand. One byte.
#[cfg(not(loom))]
pub struct RawLock(parking_lot::RawMutex);

/// An open lock is zero, which `Shards::new` relies on.
#[cfg(not(loom))]
// SAFETY: a raw mutex is one byte without padding.
const _: () = assert!(unsafe { std::mem::transmute::<RawLock, u8>(RawLock::new()) } == 0);

#[cfg(not(loom))]
impl RawLock {
    /// An open lock.
    pub const fn new() -> RawLock {
        RawLock(parking_lot::RawMutex::INIT)
    }

    /// Takes the lock if nobody holds it.
    #[inline]
    pub fn try_lock(&self) -> bool {
        self.0.try_lock()
    }

    /// Takes the lock, waiting as long as it takes.
    pub fn lock(&self) {
        self.0.lock();
    }

    /// Takes the lock unless that takes longer than `patience`.
    pub fn lock_for(&self, patience: Duration) -> bool {
        self.0.try_lock_for(patience)
    }

    /// Releases the lock.
    ///
    /// # Safety
    /// The caller holds it.
    #[inline]
    pub unsafe fn unlock(&self) {
        // SAFETY: passed on to the caller.
        unsafe { self.0.unlock() }
    }
}

/// loom's stand-in: the same contract over an atomic. Waiting parks, so that loom finds deadlocks;
/// its own mutex would do, but for a `try_lock` that waits.
#[cfg(loom)]
pub struct RawLock {
    is_held: AtomicBool,
    /// Threads that wait. Not modelled: it only says whether to wake somebody.
    n_waiting: std::sync::atomic::AtomicUsize,
    parking: loom::sync::Mutex<()>,
    released: loom::sync::Condvar,
}

#[cfg(loom)]
impl RawLock {
    /// An open lock.
    pub fn new() -> RawLock {
        RawLock {
            is_held: AtomicBool::new(false),
            n_waiting: std::sync::atomic::AtomicUsize::new(0),
            parking: loom::sync::Mutex::new(()),
            released: loom::sync::Condvar::new(),
        }
    }

    /// Takes the lock if nobody holds it.
    pub fn try_lock(&self) -> bool {
        self.is_held
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes the lock, waiting as long as it takes.
    pub fn lock(&self) {
        if self.try_lock() {
            return;
        }
        self.n_waiting.fetch_add(1, Ordering::SeqCst);
        let mut parked = self.parking.lock().expect("no model panics here");
        while !self.try_lock() {
            parked = self.released.wait(parked).expect("no model panics here");
        }
        self.n_waiting.fetch_sub(1, Ordering::SeqCst);
    }

    /// Takes the lock; a model has no clock, so its patience is endless.
    pub fn lock_for(&self, _patience: Duration) -> bool {
        self.lock();
        true
    }

    /// Releases the lock.
    ///
    /// # Safety
    /// The caller holds it.
    pub unsafe fn unlock(&self) {
        self.is_held.store(false, Ordering::Release);
        if self.n_waiting.load(Ordering::SeqCst) > 0 {
            let _parked = self.parking.lock().expect("no model panics here");
            self.released.notify_all();
        }
    }
}

impl Default for RawLock {
    fn default() -> RawLock {
        RawLock::new()
    }
}

impl RawLock {
    /// Takes the lock unless it stays busy for some microseconds.
    #[inline]
    pub fn lock_soon(&self) -> bool {
        self.try_lock() || self.spin()
    }

    #[cold]
    fn spin(&self) -> bool {
        for _ in 0..SPINS {
            relax();
            if self.try_lock() {
                return true;
            }
        }
        false
    }
}

/// What a lock protects, reached through a pointer by the lock's holder.
#[cfg(not(loom))]
#[derive(Default)]
pub(crate) struct Guarded<T>(std::cell::UnsafeCell<T>);

#[cfg(not(loom))]
impl<T> Guarded<T> {
    /// The holder's pointer.
    #[inline]
    pub(crate) fn held(&self) -> *mut T {
        self.0.get()
    }

    /// A pointer to what may be read without the lock.
    #[inline]
    pub(crate) fn unlocked(&self) -> *const T {
        self.0.get()
    }
}

/// loom's stand-in, which fails a model in which two holders are not ordered by their lock.
#[cfg(loom)]
#[derive(Default)]
pub(crate) struct Guarded<T>(loom::cell::UnsafeCell<T>);

#[cfg(loom)]
impl<T> Guarded<T> {
    /// The holder's pointer.
    pub(crate) fn held(&self) -> *mut T {
        self.0.with_mut(|value| value)
    }

    /// A pointer to what may be read without the lock.
    pub(crate) fn unlocked(&self) -> *const T {
        self.0.with(|value| value)
    }
}

fn relax() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}
