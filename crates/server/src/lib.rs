//! The server: engine, command families, event loops.
//!
//! The rooms, bottom first; a room imports only rooms above it in this list.

pub mod command;
pub mod commands;
pub mod config;
pub mod dispatch;
pub mod error;
pub mod exec;
pub mod net;
pub mod run;
pub mod session;
pub mod state;
pub mod stats;
