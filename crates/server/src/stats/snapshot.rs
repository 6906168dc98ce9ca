//! Everything INFO can tell, as plain data.
//!
//! The server fills a [`Snapshot`] from its rooms; the rows of [`table`](super::table) turn it into
//! text. A figure that is `None` is not measured, and its field is absent from INFO.

use super::Peak;
use super::counters::{CommandTotals, Totals};
use super::memory::Allocated;
use super::process::ProcessUsage;

/// The state of the server at one moment.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// What it is and since when.
    pub server: ServerInfo,
    /// Its clients.
    pub clients: ClientsInfo,
    /// Its memory.
    pub memory: MemoryInfo,
    /// Sums since the last reset.
    pub totals: Totals,
    /// Rates and other figures of this moment.
    pub activity: ActivityInfo,
    /// Saving and loading.
    pub persistence: PersistenceInfo,
    /// Its place in replication.
    pub replication: ReplicationInfo,
    /// What the system says.
    pub process: Option<ProcessUsage>,
    /// Counts of each command that ran or was refused, by full name (`config|get`).
    pub commands: Vec<(&'static str, CommandTotals)>,
    /// Counts of each error code.
    pub errors: Vec<(String, u64)>,
    /// How long each command takes, where that was asked for: percentiles as they are written, and
    /// nanoseconds.
    pub latencies: Vec<(&'static str, Vec<(String, u64)>)>,
    /// Each database that holds keys, in order.
    pub databases: Vec<DatabaseInfo>,
}

/// What the server is.
#[derive(Clone, Debug, Default)]
pub struct ServerInfo {
    /// 40 hexadecimal digits, drawn at start.
    pub run_id: String,
    /// Process id.
    pub process_id: u32,
    /// Whether a supervisor was told of the start: `no`, `upstart`, `systemd`.
    pub supervised: String,
    /// The TCP port; 0 is none.
    pub tcp_port: u16,
    /// Each listener as `name=tcp,bind=127.0.0.1,port=6379`.
    pub listeners: Vec<String>,
    /// Unix time in microseconds.
    pub time_us: u64,
    /// Seconds since start.
    pub uptime_s: u64,
    /// `hz` as configured.
    pub hz: i64,
    /// The 24-bit clock of object ages.
    pub lru_clock: u32,
    /// The program's path.
    pub executable: String,
    /// The configuration file's path, or empty.
    pub config_file: String,
    /// Event loops.
    pub n_threads: usize,
    /// Nanoseconds that each of them was awake for.
    pub active_ns: Vec<u64>,
    /// The commit that the program is made from, if that is known.
    pub commit: Option<&'static str>,
    /// Until it ends, if it waits for replicas to end.
    pub ends_in_ms: Option<u64>,
}

/// The clients.
#[derive(Clone, Debug, Default)]
pub struct ClientsInfo {
    /// Connected now.
    pub connected: u64,
    /// `maxclients`.
    pub max: u64,
    /// Waiting in a blocking command.
    pub blocked: u64,
    /// Keys that somebody waits for, and those of them whose loss is waited for, too.
    pub waited_keys: (usize, usize),
    /// What CLIENT PAUSE lets wait, and for how many milliseconds still.
    pub paused: Option<(&'static str, &'static str, u64)>,
    /// Subscribed to something.
    pub pubsub: u64,
    /// Tracking keys for a cache of theirs.
    pub tracking: u64,
    /// Watching a key.
    pub watching: u64,
    /// Keys that somebody watches.
    pub watched_keys: u64,
    /// Blocked, but not for ever.
    pub timed: u64,
    /// The largest buffer of requests that a client has now.
    pub input_bytes_max: u64,
    /// The largest buffer of replies that a client has now.
    pub output_bytes_max: u64,
    /// Bytes that clients take up.
    pub memory_bytes: u64,
}

/// The memory.
#[derive(Clone, Debug, Default)]
pub struct MemoryInfo {
    /// What the allocator tells.
    pub allocated: Option<Allocated>,
    /// The most that ever was allocated, and when.
    pub peak: Option<Peak>,
    /// Allocated when the server had started and held no data.
    pub startup_bytes: Option<u64>,
    /// The machine's memory.
    pub system_bytes: u64,
    /// The Lua interpreter; `None` while there is none.
    pub lua_bytes: Option<u64>,
    /// Scripts held by the cache.
    pub cached_scripts: u64,
    /// Their sources.
    pub script_bytes: u64,
    /// Functions of all libraries.
    pub n_functions: u64,
    /// Libraries.
    pub n_libraries: u64,
    /// `maxmemory`.
    pub max_bytes: u64,
    /// `maxmemory-policy`.
    pub policy: String,
    /// Values waiting for the background thread that frees them.
    pub lazyfree_pending: u64,
    /// What `maxmemory` does not count.
    pub uncounted_bytes: u64,
}

/// Figures of this moment.
#[derive(Clone, Debug, Default)]
pub struct ActivityInfo {
    /// Commands per second.
    pub ops_per_s: f64,
    /// Bytes read per second.
    pub input_bytes_per_s: f64,
    /// Bytes written per second.
    pub output_bytes_per_s: f64,
    /// Turns of the event loops per second.
    pub cycles_per_s: f64,
    /// Microseconds of a turn.
    pub cycle_us: f64,
    /// Connections to targets of MIGRATE.
    pub migration_links: u64,
    /// Channels with subscribers.
    pub pubsub_channels: u64,
    /// Patterns with subscribers.
    pub pubsub_patterns: u64,
    /// Keys that tracking sessions may hold.
    pub tracking_keys: u64,
    /// Sessions that may hold a key, for all keys.
    pub tracking_items: u64,
    /// Prefixes of keys that are broadcast.
    pub tracking_prefixes: u64,
}

/// Saving and loading.
#[derive(Clone, Debug, Default)]
pub struct PersistenceInfo {
    /// A file is being loaded.
    pub loading: Option<LoadingInfo>,
    /// Changes to the data since it was last saved, or since start.
    pub changes: u64,
    /// A save runs in the background: keys written, and keys in all.
    pub running: Option<(u64, u64)>,
    /// For how long, in seconds.
    pub runs_s: Option<u64>,
    /// When the data was saved last, Unix time in seconds.
    pub last_save_s: u64,
    /// Whether the last save went well.
    pub is_ok: bool,
    /// How long the last save in the background took, in seconds.
    pub took_s: Option<u64>,
    /// Saves that went well.
    pub n_saves: u64,
    /// Keys of the last file that was loaded.
    pub n_loaded: u64,
    /// Keys in it that were due.
    pub n_expired: u64,
    /// The append-only file.
    pub aof: AofInfo,
}

/// The append-only file.
#[derive(Clone, Debug, Default)]
pub struct AofInfo {
    /// It is written, or will be when its first base is there.
    pub is_on: bool,
    /// It is being rewritten.
    pub is_rewriting: bool,
    /// It will be, when the save that runs has ended.
    pub is_scheduled: bool,
    /// How long the last rewrite took, in seconds.
    pub took_s: Option<u64>,
    /// For how long the present one runs.
    pub runs_s: Option<u64>,
    /// Whether the last one went well.
    pub is_ok: bool,
    /// Rewrites that were begun.
    pub n_rewrites: u64,
    /// Rewrites that failed one after the other.
    pub n_failed: u64,
    /// Whether the last write went well.
    pub is_written: bool,
    /// Bytes of all files, if it is written.
    pub n_bytes: Option<u64>,
    /// The same after the last rewrite, or at the start.
    pub n_bytes_at_rewrite: Option<u64>,
    /// Bytes that were not given to the system yet.
    pub n_waiting_bytes: u64,
    /// The disk is being waited for.
    pub is_syncing: bool,
    /// Writes that waited for that for too long.
    pub n_delayed: u64,
}

/// A file on its way in.
#[derive(Clone, Copy, Debug, Default)]
pub struct LoadingInfo {
    /// Since when, Unix time in seconds.
    pub since_s: u64,
    /// Its bytes.
    pub n_bytes: u64,
    /// Those that were read.
    pub n_read: u64,
    /// Other data is served meanwhile.
    pub is_aside: bool,
}

/// The place in replication.
#[derive(Clone, Debug, Default)]
pub struct ReplicationInfo {
    /// 40 hexadecimal digits naming the history of this data.
    pub replid: String,
    /// The name it had before.
    pub replid2: String,
    /// The first offset that the old name does not cover; -1 without one.
    pub second_offset: i64,
    /// The end of the stream.
    pub offset: u64,
    /// `repl-backlog-size`.
    pub backlog_bytes: i64,
    /// The stream that is kept: its first offset, its bytes, and what they take.
    pub backlog: Option<(u64, u64, u64)>,
    /// Those that follow, as `slaveN` shows them.
    pub replicas: Vec<String>,
    /// Keys that clients of a writable replica gave a deadline.
    pub n_own_keys: u64,
    /// Snapshots whose stream is not taken yet: Valkey's way.
    pub n_awaiting: usize,
    /// How far a failover is.
    pub failover: &'static str,
    /// Bytes on their way to replicas that are of no stream.
    pub unsent_bytes: u64,
    /// Bytes of the stream that are kept only for a replica that lacks them.
    pub lagging_bytes: u64,
    /// Replicas that follow closely, if that matters.
    pub n_good: Option<usize>,
    /// Whom this server follows.
    pub primary: Option<PrimaryInfo>,
    /// Snapshots for replicas; resumptions that were possible, and those that were not.
    pub syncs: (u64, u64, u64),
}

/// The link to the primary.
#[derive(Clone, Debug, Default)]
pub struct PrimaryInfo {
    /// Its host and port.
    pub host: String,
    /// See `host`.
    pub port: u16,
    /// Whether its stream is followed.
    pub is_up: bool,
    /// Seconds since something came; -1 if nothing did.
    pub heard_s: i64,
    /// A snapshot is on its way: its bytes, if they are known, and those that came.
    pub snapshot: Option<(u64, u64)>,
    /// Bytes of the stream that wait for the snapshot, and the most that they were.
    pub kept: (u64, u64),
    /// Seconds since the link came up.
    pub up_s: Option<u64>,
    /// Seconds since the link went down.
    pub down_s: Option<u64>,
    /// The offset up to which its stream was read.
    pub read: u64,
    /// `replica-priority`.
    pub priority: i64,
    /// `replica-read-only`.
    pub is_read_only: bool,
    /// `replica-announced`.
    pub is_announced: bool,
}

/// One database.
#[derive(Clone, Debug, Default)]
pub struct DatabaseInfo {
    /// Its number.
    pub index: usize,
    /// Its keys.
    pub keys: u64,
    /// Those with a deadline.
    pub expires: u64,
    /// Hashes of which fields have a deadline.
    pub fielded: u64,
    /// Their average time to live, in milliseconds.
    pub average_ttl_ms: u64,
}
