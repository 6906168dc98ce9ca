//! Lends a borrowed host to functions that Lua owns.
//!
//! Functions registered in Lua live as long as the interpreter, a [`Host`] only as long as one run.
//! The slot holds a pointer to the host while [`HostSlot::lend`] is on the stack, and nothing at any
//! other time. Whoever uses the host takes the pointer out and puts it back, so that there is never
//! a second use of the same host at once.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ptr::NonNull;

use crate::Host;

/// A place for at most one borrowed host.
#[derive(Default)]
pub struct HostSlot {
    host: Cell<Option<NonNull<dyn Host>>>,
}

impl HostSlot {
    /// Makes `host` available to [`with`](Self::with) while `run` runs. Calls do not nest: an inner
    /// one would lend its own host until it ends, and leave the slot empty.
    pub fn lend<R>(&self, host: &mut dyn Host, run: impl FnOnce() -> R) -> R {
        let _empty_at_end = Emptied(self);
        let pointer: NonNull<dyn Host + '_> = NonNull::from(host);
        // SAFETY: only the lifetime of the trait object changes. The pointer leaves the slot again
        // in `Emptied::drop`, before `host` is usable by the caller of `lend`, even on a panic.
        let pointer: NonNull<dyn Host> = unsafe { std::mem::transmute(pointer) };
        self.host.set(Some(pointer));
        run()
    }

    /// Uses the host that is lent now; `None` if there is none or it is in use.
    pub fn with<R>(&self, using: impl FnOnce(&mut dyn Host) -> R) -> Option<R> {
        let mut pointer = self.host.take()?;
        let _back_at_end = PutBack(self, pointer);
        // SAFETY: a pointer in the slot comes from the exclusive borrow of a `lend` that is still on
        // the stack. It was taken out, so nobody else makes a reference from it until `PutBack`.
        Some(using(unsafe { pointer.as_mut() }))
    }
}

struct Emptied<'a>(&'a HostSlot);

impl Drop for Emptied<'_> {
    fn drop(&mut self) {
        self.0.host.set(None);
    }
}

struct PutBack<'a>(&'a HostSlot, NonNull<dyn Host>);

impl Drop for PutBack<'_> {
    fn drop(&mut self) {
        self.0.host.set(Some(self.1));
    }
}

/// Lets a value that is not `Send` move between threads together with everything it shares.
pub(crate) struct Together<T>(T);

impl<T> Together<T> {
    /// Wraps a value.
    ///
    /// # Safety
    ///
    /// Every reference-counted part of the value must be reachable through it alone, and no part may
    /// use thread-local state of the thread that made it.
    pub(crate) unsafe fn new(value: T) -> Together<T> {
        Together(value)
    }

    pub(crate) fn get(&self) -> &T {
        &self.0
    }

    pub(crate) fn get_mut(&mut self) -> &mut T {
        &mut self.0
    }
}

// SAFETY: by the contract of `Together::new` no other thread holds a part of the value, so whoever
// owns it may use it on any thread, one at a time.
unsafe impl<T> Send for Together<T> {}
