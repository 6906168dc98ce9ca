//! How much memory is allocated, as the program's allocator counts it.
//!
//! The allocator belongs to the binary, so the binary names its counter here at start. Without one
//! (in tests of this crate) nothing is known, and the fields of INFO are absent.

use std::sync::OnceLock;

/// What the allocator tells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allocated {
    /// Handed out and not given back, in the sizes the allocator rounds to.
    pub used_bytes: u64,
    /// The allocator's name and version.
    pub allocator: &'static str,
}

static SOURCE: OnceLock<fn() -> Allocated> = OnceLock::new();

/// Names the counter. Later calls change nothing.
pub fn count_with(source: fn() -> Allocated) {
    let _ = SOURCE.set(source);
}

/// The figures of this moment, if anybody counts.
pub fn allocated() -> Option<Allocated> {
    SOURCE.get().map(|source| source())
}
