//! The sharded keyspace: entries, locks, deadlines, scans and snapshots.
//!
//! Bottom up: an [`entry::Entry`] is one key; a shard holds entries, their [`deadline`] index and
//! its [`registry`] behind one [`sync`] lock; the [`protocol`] says how locks are taken, and
//! [`locked::Locked`] is the proof that they are; [`db`] is what a command sees.
//! This crate knows no wire format, no clock and no thread.

#![deny(unsafe_code)]

pub mod access;
pub mod db;
pub mod deadline;
pub mod entry;
pub mod eviction;
pub mod keyspace;
pub mod locked;
pub mod protocol;
pub mod registry;
pub mod shard;
pub mod snapshot;
pub mod sync;
