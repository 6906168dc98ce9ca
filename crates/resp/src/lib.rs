//! The Redis protocol without I/O: requests in, replies out, and the client's side of both.
//!
//! `request` finds the arguments of a request inside the bytes received, `reply` appends replies
//! to an output buffer in either protocol version, `decode` turns replies back into values. None
//! of them reads, writes, waits or keeps a clock.

#![forbid(unsafe_code)]

pub mod decode;
pub mod reply;
pub mod request;
