//! The fields of INFO, one row each: section, name, and how to get the value from a [`Snapshot`].
//!
//! Only what has a meaning in this version is here; a value of `None` leaves the field out. The
//! sections that have a line per command, error or database are written by [`info`](super::info).

use super::counters::Counter;
use super::process;
use super::snapshot::Snapshot;

/// What this server says it is compatible with.
pub const REDIS_VERSION: &str = "8.2.0";

/// A part of INFO, in the order they are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    /// `server`
    Server,
    /// `clients`
    Clients,
    /// `memory`
    Memory,
    /// `persistence`
    Persistence,
    /// `stats`
    Stats,
    /// `replication`
    Replication,
    /// `cpu`
    Cpu,
    /// `modules`
    Modules,
    /// `commandstats`
    Commandstats,
    /// `errorstats`
    Errorstats,
    /// `latencystats`
    Latencystats,
    /// `cluster`
    Cluster,
    /// `keyspace`
    Keyspace,
}

impl Section {
    /// Every section, in order.
    pub const ALL: [Section; 13] = [
        Section::Server,
        Section::Clients,
        Section::Memory,
        Section::Persistence,
        Section::Stats,
        Section::Replication,
        Section::Cpu,
        Section::Modules,
        Section::Commandstats,
        Section::Errorstats,
        Section::Latencystats,
        Section::Cluster,
        Section::Keyspace,
    ];

    /// The heading.
    pub const fn title(self) -> &'static str {
        match self {
            Section::Server => "Server",
            Section::Clients => "Clients",
            Section::Memory => "Memory",
            Section::Persistence => "Persistence",
            Section::Stats => "Stats",
            Section::Replication => "Replication",
            Section::Cpu => "CPU",
            Section::Modules => "Modules",
            Section::Commandstats => "Commandstats",
            Section::Errorstats => "Errorstats",
            Section::Latencystats => "Latencystats",
            Section::Cluster => "Cluster",
            Section::Keyspace => "Keyspace",
        }
    }

    /// Whether INFO shows it without being asked.
    pub const fn is_default(self) -> bool {
        !matches!(self, Section::Commandstats | Section::Latencystats)
    }
}

/// One field.
pub struct Field {
    /// Where it is shown.
    pub section: Section,
    /// Its name.
    pub name: &'static str,
    /// Its value, or `None` if it has none now.
    pub value: fn(&Snapshot) -> Option<String>,
}

const fn field(
    section: Section,
    name: &'static str,
    value: fn(&Snapshot) -> Option<String>,
) -> Field {
    Field {
        section,
        name,
        value,
    }
}

const fn server(name: &'static str, value: fn(&Snapshot) -> Option<String>) -> Field {
    field(Section::Server, name, value)
}

const fn clients(name: &'static str, value: fn(&Snapshot) -> Option<String>) -> Field {
    field(Section::Clients, name, value)
}

const fn memory(name: &'static str, value: fn(&Snapshot) -> Option<String>) -> Field {
    field(Section::Memory, name, value)
}

const fn stats(name: &'static str, value: fn(&Snapshot) -> Option<String>) -> Field {
    field(Section::Stats, name, value)
}

const fn persistence(name: &'static str, value: fn(&Snapshot) -> Option<String>) -> Field {
    field(Section::Persistence, name, value)
}

const fn replication(name: &'static str, value: fn(&Snapshot) -> Option<String>) -> Field {
    field(Section::Replication, name, value)
}

/// All fields, in the order INFO prints them.
pub const FIELDS: &[Field] = &[
    server("redis_version", |_| text(REDIS_VERSION)),
    server("redis_git_sha1", |s| text(s.server.commit?)),
    server("redis_mode", |_| text("standalone")),
    server("server_name", |_| text("minium")),
    server("minium_version", |_| text(env!("CARGO_PKG_VERSION"))),
    server("os", |_| text(process::system_name())),
    server("arch_bits", |_| number(usize::BITS)),
    server("monotonic_clock", |_| text("POSIX clock_gettime")),
    server("multiplexing_api", |_| text("epoll")),
    server("process_id", |s| number(s.server.process_id)),
    server("process_supervised", |s| text(&s.server.supervised)),
    server("run_id", |s| text(&s.server.run_id)),
    server("tcp_port", |s| number(s.server.tcp_port)),
    server("server_time_usec", |s| number(s.server.time_us)),
    server("uptime_in_seconds", |s| number(s.server.uptime_s)),
    server("uptime_in_days", |s| number(s.server.uptime_s / 86_400)),
    server("hz", |s| number(s.server.hz)),
    server("configured_hz", |s| number(s.server.hz)),
    server("lru_clock", |s| number(s.server.lru_clock)),
    server("executable", |s| text(&s.server.executable)),
    server("config_file", |s| text(&s.server.config_file)),
    server("shutdown_in_milliseconds", |s| number(s.server.ends_in_ms?)),
    server("threads", |s| number(s.server.n_threads)),
    clients("connected_clients", |s| number(s.clients.connected)),
    clients("maxclients", |s| number(s.clients.max)),
    clients("client_recent_max_input_buffer", |s| number(s.clients.input_bytes_max)),
    clients("client_recent_max_output_buffer", |s| number(s.clients.output_bytes_max)),
    clients("tracking_clients", |s| number(s.clients.tracking)),
    clients("blocked_clients", |s| number(s.clients.blocked)),
    clients("total_blocking_keys", |s| number(s.clients.waited_keys.0)),
    clients("total_blocking_keys_on_nokey", |s| number(s.clients.waited_keys.1)),
    clients("pubsub_clients", |s| number(s.clients.pubsub)),
    clients("paused_reason", |s| text(s.clients.paused.map_or("none", |(why, ..)| why))),
    clients("paused_actions", |s| text(s.clients.paused.map_or("none", |(_, what, _)| what))),
    clients("paused_timeout_milliseconds", |s| number(s.clients.paused.map_or(0, |(.., ms)| ms))),
    clients("watching_clients", |s| number(s.clients.watching)),
    clients("clients_in_timeout_table", |s| number(s.clients.timed)),
    clients("total_watched_keys", |s| number(s.clients.watched_keys)),
    memory("used_memory", |s| number(s.memory.allocated?.used_bytes)),
    memory("used_memory_human", |s| human(s.memory.allocated?.used_bytes)),
    memory("used_memory_rss", |s| number(s.process?.rss_bytes)),
    memory("used_memory_rss_human", |s| human(s.process?.rss_bytes)),
    memory("used_memory_peak", |s| number(s.memory.peak?.bytes)),
    memory("used_memory_peak_human", |s| human(s.memory.peak?.bytes)),
    memory("used_memory_peak_time", |s| number(s.memory.peak?.time_s)),
    memory("used_memory_peak_perc", |s| {
        percent(s.memory.allocated?.used_bytes, s.memory.peak?.bytes)
    }),
    memory("used_memory_startup", |s| number(s.memory.startup_bytes?)),
    memory("allocator_allocated", |s| number(s.memory.allocated?.used_bytes)),
    memory("allocator_active", |s| number(s.process?.anonymous_bytes)),
    memory("allocator_frag_ratio", |s| {
        let used_bytes = s.memory.allocated?.used_bytes.max(1) as f64;
        Some(format!("{:.2}", s.process?.anonymous_bytes as f64 / used_bytes))
    }),
    memory("allocator_frag_bytes", |s| {
        let used_bytes = s.memory.allocated?.used_bytes;
        number(s.process?.anonymous_bytes.saturating_sub(used_bytes))
    }),
    memory("total_system_memory", |s| number(s.memory.system_bytes)),
    memory("total_system_memory_human", |s| human(s.memory.system_bytes)),
    memory("used_memory_lua", |s| number(s.memory.lua_bytes?)),
    memory("used_memory_vm_eval", |s| number(s.memory.lua_bytes?)),
    memory("used_memory_lua_human", |s| human(s.memory.lua_bytes?)),
    memory("used_memory_scripts_eval", |s| number(s.memory.script_bytes)),
    memory("used_memory_scripts", |s| number(s.memory.script_bytes)),
    memory("number_of_cached_scripts", |s| number(s.memory.cached_scripts)),
    memory("number_of_functions", |s| number(s.memory.n_functions)),
    memory("number_of_libraries", |s| number(s.memory.n_libraries)),
    memory("maxmemory", |s| number(s.memory.max_bytes)),
    memory("maxmemory_human", |s| human(s.memory.max_bytes)),
    memory("maxmemory_policy", |s| text(&s.memory.policy)),
    memory("mem_fragmentation_ratio", |s| {
        let rss_bytes = s.process?.rss_bytes as f64;
        let used_bytes = s.memory.allocated?.used_bytes.max(1);
        Some(format!("{:.2}", rss_bytes / used_bytes as f64))
    }),
    memory("mem_fragmentation_bytes", |s| {
        let used_bytes = s.memory.allocated?.used_bytes;
        Some((i128::from(s.process?.rss_bytes) - i128::from(used_bytes)).to_string())
    }),
    memory("mem_clients_normal", |s| number(s.clients.memory_bytes)),
    memory("mem_replica_full_sync_buffer", |s| {
        number(
            s.replication
                .primary
                .as_ref()
                .map_or(0, |primary| primary.kept.0),
        )
    }),
    memory("mem_clients_slaves", |s| {
        number(s.replication.lagging_bytes + s.replication.unsent_bytes)
    }),
    memory("mem_not_counted_for_evict", |s| number(s.memory.uncounted_bytes)),
    memory("mem_replication_backlog", |s| number(s.replication.backlog.map_or(0, |kept| kept.2))),
    memory("mem_total_replication_buffers", |s| {
        number(s.replication.backlog.map_or(0, |kept| kept.2) + s.replication.unsent_bytes)
    }),
    memory("mem_aof_buffer", |s| number(s.persistence.aof.n_waiting_bytes)),
    memory("mem_allocator", |s| text(s.memory.allocated?.allocator)),
    memory("active_defrag_running", |_| never()),
    memory("lazyfree_pending_objects", |s| number(s.memory.lazyfree_pending)),
    memory("lazyfreed_objects", |s| counted(s, Counter::LazyFreedObjects)),
    persistence("loading", |s| {
        number(u8::from(s.persistence.loading.is_some_and(|it| !it.is_aside)))
    }),
    persistence("async_loading", |s| {
        number(u8::from(s.persistence.loading.is_some_and(|it| it.is_aside)))
    }),
    persistence("current_save_keys_processed", |s| {
        number(s.persistence.running.unwrap_or_default().0)
    }),
    persistence("current_save_keys_total", |s| number(s.persistence.running.unwrap_or_default().1)),
    persistence("rdb_changes_since_last_save", |s| number(s.persistence.changes)),
    persistence("rdb_bgsave_in_progress", |s| number(u8::from(s.persistence.running.is_some()))),
    persistence("rdb_last_save_time", |s| number(s.persistence.last_save_s)),
    persistence("rdb_last_bgsave_status", |s| text(if s.persistence.is_ok { "ok" } else { "err" })),
    persistence("rdb_last_bgsave_time_sec", |s| or_none(s.persistence.took_s)),
    persistence("rdb_current_bgsave_time_sec", |s| or_none(s.persistence.runs_s)),
    persistence("rdb_saves", |s| number(s.persistence.n_saves)),
    persistence("rdb_last_load_keys_expired", |s| number(s.persistence.n_expired)),
    persistence("rdb_last_load_keys_loaded", |s| number(s.persistence.n_loaded)),
    persistence("aof_enabled", |s| number(u8::from(s.persistence.aof.is_on))),
    persistence("aof_rewrite_in_progress", |s| number(u8::from(s.persistence.aof.is_rewriting))),
    persistence("aof_rewrite_scheduled", |s| number(u8::from(s.persistence.aof.is_scheduled))),
    persistence("aof_last_rewrite_time_sec", |s| or_none(s.persistence.aof.took_s)),
    persistence("aof_current_rewrite_time_sec", |s| or_none(s.persistence.aof.runs_s)),
    persistence("aof_last_bgrewrite_status", |s| status(s.persistence.aof.is_ok)),
    persistence("aof_rewrites", |s| number(s.persistence.aof.n_rewrites)),
    persistence("aof_rewrites_consecutive_failures", |s| number(s.persistence.aof.n_failed)),
    persistence("aof_last_write_status", |s| status(s.persistence.aof.is_written)),
    persistence("aof_last_cow_size", |_| never()),
    persistence("aof_current_size", |s| number(s.persistence.aof.n_bytes?)),
    persistence("aof_base_size", |s| number(s.persistence.aof.n_bytes_at_rewrite?)),
    persistence("aof_pending_rewrite", |s| {
        s.persistence.aof.n_bytes?;
        never()
    }),
    persistence("aof_buffer_length", |s| {
        s.persistence.aof.n_bytes?;
        number(s.persistence.aof.n_waiting_bytes)
    }),
    persistence("aof_pending_bio_fsync", |s| {
        s.persistence.aof.n_bytes?;
        number(u8::from(s.persistence.aof.is_syncing))
    }),
    persistence("aof_delayed_fsync", |s| {
        s.persistence.aof.n_bytes?;
        number(s.persistence.aof.n_delayed)
    }),
    persistence("loading_start_time", |s| number(s.persistence.loading?.since_s)),
    persistence("loading_total_bytes", |s| number(s.persistence.loading?.n_bytes)),
    persistence("loading_loaded_bytes", |s| number(s.persistence.loading?.n_read)),
    persistence("loading_loaded_perc", |s| {
        let loading = s.persistence.loading?;
        // Of a stream nobody knows how long it is.
        let share = match loading.n_bytes {
            0 => 0.0,
            n_bytes => loading.n_read as f64 / n_bytes as f64,
        };
        Some(format!("{:.2}", share * 100.0))
    }),
    stats("total_connections_received", |s| counted(s, Counter::ConnectionsReceived)),
    stats("total_commands_processed", |s| counted(s, Counter::CommandsProcessed)),
    stats("instantaneous_ops_per_sec", |s| number(s.activity.ops_per_s.round() as u64)),
    stats("total_net_input_bytes", |s| counted(s, Counter::NetInputBytes)),
    stats("total_net_output_bytes", |s| counted(s, Counter::NetOutputBytes)),
    stats("total_net_repl_input_bytes", |s| counted(s, Counter::ReplicationInputBytes)),
    stats("total_net_repl_output_bytes", |s| counted(s, Counter::ReplicationOutputBytes)),
    stats("instantaneous_input_kbps", |s| kilobytes(s.activity.input_bytes_per_s)),
    stats("instantaneous_output_kbps", |s| kilobytes(s.activity.output_bytes_per_s)),
    stats("rejected_connections", |s| counted(s, Counter::RejectedConnections)),
    stats("sync_full", |s| number(s.replication.syncs.0)),
    stats("sync_partial_ok", |s| number(s.replication.syncs.1)),
    stats("sync_partial_err", |s| number(s.replication.syncs.2)),
    stats("expired_subkeys", |s| counted(s, Counter::ExpiredFields)),
    stats("expired_fields", |s| counted(s, Counter::ExpiredFields)), // as Valkey calls them
    stats("expired_keys", |s| counted(s, Counter::ExpiredKeys)),
    stats("slave_expires_tracked_keys", |s| number(s.replication.n_own_keys)),
    stats("evicted_keys", |s| counted(s, Counter::EvictedKeys)),
    stats("evicted_clients", |s| counted(s, Counter::EvictedClients)),
    stats("evicted_scripts", |s| counted(s, Counter::EvictedScripts)),
    stats("total_eviction_exceeded_time", |s| {
        number(s.totals.get(Counter::EvictionExceededUs) / 1000)
    }),
    stats("current_eviction_exceeded_time", |_| never()),
    stats("keyspace_hits", |s| counted(s, Counter::KeyspaceHits)),
    stats("keyspace_misses", |s| counted(s, Counter::KeyspaceMisses)),
    stats("pubsub_channels", |s| number(s.activity.pubsub_channels)),
    stats("pubsub_patterns", |s| number(s.activity.pubsub_patterns)),
    stats("tracking_total_keys", |s| number(s.activity.tracking_keys)),
    stats("tracking_total_items", |s| number(s.activity.tracking_items)),
    stats("tracking_total_prefixes", |s| number(s.activity.tracking_prefixes)),
    stats("latest_fork_usec", |_| never()),
    stats("migrate_cached_sockets", |s| number(s.activity.migration_links)),
    stats("total_forks", |_| never()),
    stats("total_active_defrag_time", |_| never()),
    stats("total_error_replies", |s| counted(s, Counter::ErrorReplies)),
    stats("total_reads_processed", |s| counted(s, Counter::ReadsProcessed)),
    stats("total_writes_processed", |s| counted(s, Counter::WritesProcessed)),
    stats("client_query_buffer_limit_disconnections", |s| {
        counted(s, Counter::QueryBufferDisconnections)
    }),
    stats("client_output_buffer_limit_disconnections", |s| {
        counted(s, Counter::OutputBufferDisconnections)
    }),
    stats("eventloop_cycles", |s| counted(s, Counter::LoopCycles)),
    stats("eventloop_duration_sum", |s| number(s.totals.get(Counter::LoopActiveNs) / 1000)),
    stats("eventloop_duration_cmd_sum", |s| {
        let command_ns = s.commands.iter().map(|(_, totals)| totals.duration_ns);
        let nested_ns = s.totals.get(Counter::NestedNs);
        number(command_ns.sum::<u64>().saturating_sub(nested_ns) / 1000)
    }),
    stats("instantaneous_eventloop_cycles_per_sec", |s| {
        number(s.activity.cycles_per_s.round() as u64)
    }),
    stats("instantaneous_eventloop_duration_usec", |s| number(s.activity.cycle_us.round() as u64)),
    stats("acl_access_denied_auth", |s| counted(s, Counter::DeniedAuth)),
    stats("acl_access_denied_cmd", |s| counted(s, Counter::DeniedCommand)),
    stats("acl_access_denied_key", |s| counted(s, Counter::DeniedKey)),
    stats("acl_access_denied_channel", |s| counted(s, Counter::DeniedChannel)),
    stats("acl_access_denied_db", |s| counted(s, Counter::DeniedDatabase)),
    replication("role", |s| {
        text(if s.replication.primary.is_some() {
            "slave"
        } else {
            "master"
        })
    }),
    replication("master_host", |s| text(&s.replication.primary.as_ref()?.host)),
    replication("master_port", |s| number(s.replication.primary.as_ref()?.port)),
    replication("master_link_status", |s| {
        text(if s.replication.primary.as_ref()?.is_up {
            "up"
        } else {
            "down"
        })
    }),
    replication("master_last_io_seconds_ago", |s| number(s.replication.primary.as_ref()?.heard_s)),
    replication("master_sync_in_progress", |s| {
        number(u8::from(s.replication.primary.as_ref()?.snapshot.is_some()))
    }),
    replication("slave_read_repl_offset", |s| number(s.replication.primary.as_ref()?.read)),
    replication("slave_repl_offset", |s| {
        s.replication.primary.as_ref()?;
        number(s.replication.offset)
    }),
    replication("replica_full_sync_buffer_size", |s| {
        number(s.replication.primary.as_ref()?.kept.0)
    }),
    replication("replica_full_sync_buffer_peak", |s| {
        number(s.replication.primary.as_ref()?.kept.1)
    }),
    replication("master_sync_total_bytes", |s| number(s.replication.primary.as_ref()?.snapshot?.0)),
    replication("master_sync_read_bytes", |s| number(s.replication.primary.as_ref()?.snapshot?.1)),
    replication("master_sync_left_bytes", |s| {
        let (total, read) = s.replication.primary.as_ref()?.snapshot?;
        number(total.saturating_sub(read))
    }),
    replication("master_sync_perc", |s| {
        let (total, read) = s.replication.primary.as_ref()?.snapshot?;
        percent_of(read, total)
    }),
    replication("master_sync_last_io_seconds_ago", |s| {
        let primary = s.replication.primary.as_ref()?;
        primary.snapshot?;
        number(primary.heard_s)
    }),
    replication("master_link_up_since_seconds", |s| number(s.replication.primary.as_ref()?.up_s?)),
    replication("master_link_down_since_seconds", |s| {
        number(s.replication.primary.as_ref()?.down_s?)
    }),
    replication("slave_priority", |s| number(s.replication.primary.as_ref()?.priority)),
    replication("slave_read_only", |s| {
        number(u8::from(s.replication.primary.as_ref()?.is_read_only))
    }),
    replication("replica_announced", |s| {
        number(u8::from(s.replication.primary.as_ref()?.is_announced))
    }),
    replication("connected_slaves", |s| number(s.replication.replicas.len())),
    replication("replicas_waiting_psync", |s| number(s.replication.n_awaiting)),
    replication("min_slaves_good_slaves", |s| number(s.replication.n_good?)),
    replication("master_failover_state", |s| text(s.replication.failover)),
    replication("master_replid", |s| text(&s.replication.replid)),
    replication("master_replid2", |s| text(&s.replication.replid2)),
    replication("master_repl_offset", |s| number(s.replication.offset)),
    replication("second_repl_offset", |s| number(s.replication.second_offset)),
    replication("repl_backlog_active", |s| number(u8::from(s.replication.backlog.is_some()))),
    replication("repl_backlog_size", |s| number(s.replication.backlog_bytes)),
    replication("repl_backlog_first_byte_offset", |s| {
        number(s.replication.backlog.map_or(0, |(first, ..)| first + 1))
    }),
    replication("repl_backlog_histlen", |s| number(s.replication.backlog.map_or(0, |kept| kept.1))),
    field(Section::Cpu, "used_cpu_sys", |s| seconds(s.process?.cpu_system_s)),
    field(Section::Cpu, "used_cpu_user", |s| seconds(s.process?.cpu_user_s)),
    field(Section::Cpu, "used_active_time_main_thread", |s| {
        seconds(*s.server.active_ns.first()? as f64 / 1e9)
    }),
    field(Section::Cluster, "cluster_enabled", |_| text("0")),
];

/// The zero of what this server does not have, do or need, and so is a fact rather than a figure:
/// keys evicted, replicas, forks.
fn never() -> Option<String> {
    Some("0".to_owned())
}

fn status(is_ok: bool) -> Option<String> {
    text(if is_ok { "ok" } else { "err" })
}

/// A number of seconds, -1 if there is none.
fn or_none(value: Option<u64>) -> Option<String> {
    Some(value.map_or_else(|| "-1".to_owned(), |value| value.to_string()))
}

fn text(value: impl AsRef<str>) -> Option<String> {
    Some(value.as_ref().to_string())
}

fn number(value: impl ToString) -> Option<String> {
    Some(value.to_string())
}

fn counted(snapshot: &Snapshot, counter: Counter) -> Option<String> {
    number(snapshot.totals.get(counter))
}

/// The same without its sign, as a snapshot that is on its way is told of.
fn percent_of(part: u64, whole: u64) -> Option<String> {
    Some(format!("{:.2}", part as f64 * 100.0 / whole.max(1) as f64))
}

fn percent(part: u64, whole: u64) -> Option<String> {
    Some(format!("{:.2}%", part as f64 * 100.0 / whole.max(1) as f64))
}

fn kilobytes(bytes_per_s: f64) -> Option<String> {
    Some(format!("{:.2}", bytes_per_s / 1024.0))
}

fn seconds(value: f64) -> Option<String> {
    Some(format!("{value:.6}"))
}

fn human(bytes: u64) -> Option<String> {
    Some(human_bytes(bytes))
}

/// Bytes as INFO prints them for people: `512B`, `1.50K`, `3.00G`.
pub fn human_bytes(bytes: u64) -> String {
    if bytes < 1024 {
        return format!("{bytes}B");
    }
    let units = ["K", "M", "G", "T", "P", "E"];
    let mut amount = bytes as f64 / 1024.0;
    let mut unit = 0;
    while amount >= 1024.0 && unit + 1 < units.len() {
        amount /= 1024.0;
        unit += 1;
    }
    format!("{amount:.2}{}", units[unit])
}
