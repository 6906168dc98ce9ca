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

/// What the binary lets the server ask its allocator.
#[derive(Clone, Copy, Debug)]
pub struct Allocator {
    /// The figures of this moment.
    pub count: fn() -> Allocated,
    /// What a block that was asked for with so many bytes counts for.
    pub block_bytes: fn(usize) -> usize,
    /// Gives what is free in this thread's heap back to the system.
    pub release: fn(),
    /// The allocator's own statistics, as text.
    pub describe: fn() -> String,
}

static SOURCE: OnceLock<Allocator> = OnceLock::new();

/// Names the allocator. Later calls change nothing.
pub fn count_with(allocator: Allocator) {
    let _ = SOURCE.set(allocator);
}

/// The figures of this moment, if anybody counts.
pub fn allocated() -> Option<Allocated> {
    SOURCE.get().map(|source| (source.count)())
}

/// What a block that was asked for with so many bytes counts for in [`allocated`].
pub fn block_bytes(n_bytes: usize) -> usize {
    let source = SOURCE.get().filter(|_| n_bytes > 0);
    source.map_or(n_bytes, |source| (source.block_bytes)(n_bytes))
}

/// MEMORY PURGE for this thread.
pub fn release() {
    if let Some(source) = SOURCE.get() {
        (source.release)();
    }
}

/// MEMORY MALLOC-STATS, if the allocator is known.
pub fn describe() -> Option<String> {
    SOURCE.get().map(|source| (source.describe)())
}
