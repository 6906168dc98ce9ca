//! Sockets and event loops: bytes in, requests through the gate and the engine, bytes out.

pub mod acceptor;
pub mod batch;
pub mod connection;
pub mod connections;
pub mod event_loop;
pub mod listener;
