//! The values: strings, lists, hashes, sets, sorted sets and streams, and the structures they are made of.
//!
//! A value lives in a [`Home`]: the keyspace's entry, or [`Owned`] in tests. Small collections are
//! *blobs*, one run of bytes (listpack, intset) that the home keeps inside or next to its own
//! allocation; big ones are a [`Collection`], structures behind one pointer. A type file
//! (`set.rs`) owns the choice and the upgrade of its encodings; an encoding file
//! (`encoding/intset.rs`) owns its bytes. Reading goes through `Copy` views (`SetRef`), writing
//! through handles over a home (`SetMut`).
//!
//! Deliberately absent: clocks, randomness (both come in as arguments), locks, the protocol.

#![deny(unsafe_code)]

pub mod bitmap;
mod copy;
pub mod encoding;
pub mod hash;
pub mod home;
pub mod hyperloglog;
pub mod list;
pub mod pick;
pub mod set;
pub mod stream;
pub mod string;
#[cfg(test)]
mod testing;
pub mod value;
pub mod zset;
