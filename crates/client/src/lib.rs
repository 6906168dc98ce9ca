//! A small blocking client: one connection, pipelines, timeouts.
//!
//! `endpoint` says where a server is, `connection` talks to it, `transcript`
//! is the text format of the command tests. No pool, no retries, no async: the
//! command line, the benchmark and the tests want to see each reply as it came.

#![forbid(unsafe_code)]

pub mod connection;
pub mod endpoint;
pub mod transcript;
