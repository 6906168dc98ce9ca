//! Placeholder.
/// A list too long for one listpack.
#[derive(Debug, Default)]
pub struct QuickList;
