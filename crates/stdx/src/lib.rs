//! What std and good crates lack: glob patterns, number text as Redis prints it.
//!
//! Everything here is a pure function over bytes. The texts are part of the wire protocol: clients
//! compare them, so each module follows the digits and the refusals of Redis 8.2 exactly.

#![forbid(unsafe_code)]

pub mod double;
pub mod glob;
pub mod long_double;
pub mod memory;
pub mod number;
pub mod quoting;
