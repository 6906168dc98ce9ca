//! The server: engine, command families, event loops.
//!
//! The rooms, bottom first; a room imports only rooms above it in this list.

#![deny(unsafe_code)]

pub mod error;
pub mod config;
pub mod acl;
pub mod io;
pub mod logging;
pub mod pause;
pub mod saving;
pub mod stats;
pub mod mailbox;
pub mod control;
pub mod errands;
pub mod migration;
pub mod pubsub;
pub mod monitor;
pub mod journal;
pub mod aof;
pub mod role;
pub mod waits;
pub mod scripts;
pub mod tracking;
pub mod session;
pub mod state;
pub mod persistence;
pub mod command;
pub mod exec;
pub mod commands;
pub mod dispatch;
pub mod replication;
pub mod net;
pub mod run;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
