//! The server's rooms, shared by all threads.

use crate::config::Config;
use crate::control::Control;
use crate::io::supervisor::Supervisor;
use crate::stats::Stats;
use keyspace::keyspace::Keyspace;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use std::time::Instant;

/// See the top of the file.
pub struct State {
    /// The data set.
    pub keyspace: Keyspace,
    /// The directives.
    pub config: Config,
    /// What is counted, and the slow log.
    pub stats: Stats,
    /// Orders to the thread that accepts connections.
    pub control: Control,
    /// Changes since the start.
    pub n_changes: AtomicU64,
    /// Open connections.
    pub n_clients: AtomicUsize,
    /// Connections so far; also the last CLIENT ID.
    pub n_connections: AtomicU64,
    /// The event loops are to stop.
    pub is_stopping: AtomicBool,
    /// When the server started.
    pub started: Instant,
    /// 40 hexadecimal digits, anew at each start.
    pub run_id: String,
    /// 40 hexadecimal digits, which name the history of the data.
    pub replid: String,
    /// Who was told of the start.
    pub supervisor: Supervisor,
    /// Event-loop threads.
    pub n_threads: usize,
}
