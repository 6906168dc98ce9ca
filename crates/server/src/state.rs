//! The server's rooms, shared by all threads. Made once and never freed, so that every thread can
//! hold a plain reference.

use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::Instant;

use keyspace::keyspace::Keyspace;

use crate::config::Config;
use crate::control::Control;
use crate::io::supervisor::Supervisor;
use crate::journal::Journal;
use crate::mailbox::Mailboxes;
use crate::pubsub::PubSub;
use crate::session::client::Clients;
use crate::stats::Stats;

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
    /// Letters to the event loops.
    pub mailboxes: Mailboxes,
    /// Channels and patterns.
    pub pubsub: PubSub,
    /// The stream of writes.
    pub journal: Journal,
    /// All sessions.
    pub clients: Clients,
    /// Scripts by name.
    pub scripts: crate::scripts::Scripts,
    /// Open connections.
    pub n_clients: AtomicUsize,
    /// The event loops are to stop.
    pub is_stopping: AtomicBool,
    /// DEBUG SET-ACTIVE-EXPIRE: due keys go without being met.
    pub expires_actively: AtomicBool,
    /// DEBUG QUICKLIST-PACKED-THRESHOLD: see [`datatypes::home::Limits`].
    pub list_plain_bytes: AtomicUsize,
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
