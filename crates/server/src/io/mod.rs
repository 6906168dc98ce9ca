//! System calls that the drivers need: the process, its supervisor, its signals, its sockets.
//!
//! `unsafe` is in [`process`] and [`title`] alone.

pub mod durable;
pub mod oom;
pub mod process;
pub mod signals;
pub mod sockets;
pub mod stream;
pub mod supervisor;
pub mod title;
