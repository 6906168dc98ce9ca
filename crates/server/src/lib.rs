//! The server: engine, command families, event loops.

pub mod config;
pub mod stats;
