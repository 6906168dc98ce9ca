//! RDB: the bytes of a saved data set, and of one saved value, to values and back.
//!
//! ```text
//!   file     "REDIS0012" | opcode.. | FF | CRC-64          see `file`
//!   payload  code | body | version u16 LE | CRC-64         see `payload`
//!   body     by the type's code                            see `save` and `load`
//!   string   length, bytes | an integer | LZF              see `write` and `read`
//! ```
//!
//! Small collections are listpacks and intsets in memory as in the file, so they are copied, and
//! checked to the last byte on the way in. What is read is never trusted: every error says where and
//! why, and memory is taken only for bytes that have arrived, or that LZF can make of them.
//!
//! A type's form is one file beside `legacy` and `stream`, and an arm in `save` and in `load`.
//!
//! Deliberately absent: files, sockets, clocks, configuration, keyspaces.

#![forbid(unsafe_code)]

pub mod check;
pub mod code;
pub mod crc;
pub mod dialect;
pub mod error;
pub mod file;
mod legacy;
pub mod load;
pub mod lzf;
mod pass;
pub mod payload;
pub mod read;
pub mod save;
mod stream;
pub mod write;

#[cfg(test)]
mod tests;
