//! The lock of a shard and the atomics around it: parking_lot and std, or loom's stand-ins when the
//! shipped code is model-checked (`--cfg loom`). Nothing else in this crate names either.

#[cfg(loom)]
pub use loom::sync::Arc;
#[cfg(loom)]
pub use loom::sync::atomic::{AtomicBool, AtomicU8, Ordering};
#[cfg(not(loom))]
pub use std::sync::Arc;
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

#[cfg(not(loom))]
use parking_lot::lock_api::RawMutex as _;

/// Rounds of spinning before a lock counts as busy: some microseconds.
#[cfg(not(loom))]
const SPINS: u32 = 400;
#[cfg(loom)]
const SPINS: u32 = 1;

/// One lock, taken and released by hand. One byte.
#[cfg(not(loom))]
pub struct RawLock(parking_lot::RawMutex);

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

/// loom's stand-in: the same contract over an atomic that yields to the model.
#[cfg(loom)]
pub struct RawLock(AtomicBool);

#[cfg(loom)]
impl RawLock {
    /// An open lock.
    pub fn new() -> RawLock {
        RawLock(AtomicBool::new(false))
    }

    /// Takes the lock if nobody holds it.
    pub fn try_lock(&self) -> bool {
        self.0
            .compare_exchange(false, true, Ordering::Acquire, Ordering::Relaxed)
            .is_ok()
    }

    /// Takes the lock, waiting as long as it takes.
    pub fn lock(&self) {
        while !self.try_lock() {
            loom::thread::yield_now();
        }
    }

    /// Releases the lock.
    ///
    /// # Safety
    /// The caller holds it.
    pub unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
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

fn relax() {
    #[cfg(not(loom))]
    std::hint::spin_loop();
    #[cfg(loom)]
    loom::thread::yield_now();
}
