//! The command line client as a process, against a server that answers what the test says.

#![allow(clippy::unwrap_used)] // a test crate: only its #[test] functions are exempt by themselves

mod environment;
mod formats;
mod options;
mod prompt;
