//! Placeholder.
/// Under construction.
#[derive(Debug, Default)]
pub struct ZsetTree;
