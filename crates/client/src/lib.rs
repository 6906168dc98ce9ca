//! A small blocking client: one connection, pipelines, timeouts.
//!
//! `endpoint` says where a server is, `connection` talks to it. No pool, no retries, no async: the
//! command line, the benchmark and the tests want to see each reply as it came.

#![forbid(unsafe_code)]

pub mod connection;
pub mod endpoint;
