//! The engine and its commands, within the process: what a command answers, what it leaves in the
//! journal, and how sessions on several threads get along.

#![allow(clippy::unwrap_used)] // a test crate: only its #[test] functions are exempt by themselves

mod crossing;
mod journal;
mod libraries;
mod observing;
mod streams;
mod transcripts;
mod verdicts;
