//! The process and its figures: INFO, TIME.

use std::time::Instant;

use crate::aof::Phase;
use crate::command::traits::META;
use crate::command::{AdminCtx, Args, Category, Command};
use crate::error::Result;
use crate::io::process::unix_time;
use crate::pause::Paused;
use crate::persistence::append;
use crate::role::LinkState;
use crate::role::replica::Replica;
use crate::state::State;
use crate::stats::counters::Counter;
use crate::stats::info;
use crate::stats::process::{ProcessUsage, total_system_memory_bytes};
use crate::stats::snapshot::{
    ActivityInfo, AofInfo, ClientsInfo, DatabaseInfo, LoadingInfo, MemoryInfo, PersistenceInfo,
    PrimaryInfo, ReplicationInfo, ServerInfo, Snapshot,
};
use crate::stats::table::Section;
use std::sync::Arc;
use std::time::Duration;

use resp::reply::Reply;
use std::sync::atomic::Ordering::Relaxed;

/// The family's table.
pub const COMMANDS: &[Command] = &[
    Command::admin("info", -1, info)
        .syntax("[section ...]")
        .flags(META)
        .categories(&[Category::Dangerous])
        .tips(&[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ])
        .group("server")
        .about("1.0.0", "O(1)", "Answers facts and figures about the server."),
    Command::admin("time", 1, time)
        .fast()
        .flags(META)
        .tips(&["nondeterministic_output"])
        .group("server")
        .about("2.6.0", "O(1)", "Answers the server's clock: seconds and microseconds."),
];

fn info(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let names: Vec<&[u8]> = args.rest().collect();
    let sections = info::sections(&names);
    let mut snapshot = snapshot(ctx.state);
    if sections.contains(&Section::Latencystats) {
        snapshot.latencies = latencies(ctx.state);
    }
    let text = info::render(&snapshot, &sections);
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// The percentiles of the commands that ran. O(threads * commands * buckets).
fn latencies(state: &State) -> Vec<(&'static str, Vec<(String, u64)>)> {
    let percents = state.config.latency_percentiles();
    let commands = state.stats.commands().into_iter().enumerate();
    let ran = commands.filter(|(_, (_, totals))| totals.calls > 0);
    let told = ran.map(|(number, (name, _))| {
        let histogram = state.stats.histogram(number);
        let at = |percent: &String| histogram.at_percentile(percent.parse().unwrap_or(100.0));
        let percentiles = percents
            .iter()
            .map(|percent| (percent.clone(), at(percent)));
        (name, histogram.n(), percentiles.collect())
    });
    told.filter(|(_, n, _)| *n > 0)
        .map(|(name, _, percentiles)| (name, percentiles))
        .collect()
}

/// Everything that INFO may be asked for.
fn snapshot(state: &State) -> Snapshot {
    Snapshot {
        latencies: Vec::new(),
        server: server(state),
        clients: clients(state, unix_time().as_millis() as u64),
        memory: memory(state),
        totals: state.stats.totals(),
        activity: ActivityInfo {
            migration_links: state.migration.n_kept() as u64,
            pubsub_channels: state.pubsub.n_channels() as u64,
            pubsub_patterns: state.pubsub.n_patterns() as u64,
            tracking_keys: state.tracking.n_keys_and_items().0 as u64,
            tracking_items: state.tracking.n_keys_and_items().1 as u64,
            tracking_prefixes: state.tracking.n_prefixes() as u64,
            ..state.stats.activity(unix_time().as_millis() as u64)
        },
        persistence: persistence(state),
        replication: replication(state),
        process: ProcessUsage::read(),
        commands: state.stats.commands(),
        errors: state.stats.errors(),
        databases: databases(state),
    }
}

fn replication(state: &State) -> ReplicationInfo {
    let (role, backlog, config) = (&state.role, &state.journal.backlog, &state.config);
    let ids = role.ids();
    let (first, n_kept) = backlog.kept();
    let shown = |replica: &Arc<Replica>| {
        let (state, facts) = (replica.state(), replica.facts.lock());
        let ip = facts.ip.as_ref().unwrap_or(&replica.peer);
        let lag_s = facts.acked_at.map_or(0, |at| at.elapsed().as_secs());
        let (port, acked) = (facts.port, facts.acked);
        let type_name = replica.type_name();
        format!("ip={ip},port={port},state={state},offset={acked},lag={lag_s},type={type_name}")
    };
    let primary = role.primary().map(|primary| PrimaryInfo {
        host: primary.host,
        port: primary.port,
        is_up: primary.link == LinkState::Connected,
        heard_s: primary
            .heard_at
            .map_or(-1, |at| at.elapsed().as_secs() as i64),
        snapshot: (primary.link == LinkState::Sync).then_some(primary.snapshot),
        kept: primary.kept,
        up_s: primary.up_since.map(|since| since.elapsed().as_secs()),
        down_s: primary.down_since.map(|since| since.elapsed().as_secs()),
        read: primary.read.max(backlog.end()),
        priority: config.replica_priority(),
        is_read_only: config.replica_is_read_only(),
        is_announced: config.is_replica_announced(),
    });
    ReplicationInfo {
        replid: ids.replid,
        replid2: ids.replid2,
        second_offset: ids.second_offset,
        offset: backlog.end(),
        backlog_bytes: config.replication_backlog_bytes(),
        backlog: backlog
            .is_on()
            .then(|| (first, n_kept, backlog.memory_bytes() as u64)),
        replicas: role.shown().iter().map(shown).collect(),
        n_own_keys: role.own_keys.len(),
        n_awaiting: role.n_awaiting(),
        failover: role.failover.name(),
        unsent_bytes: role.unsent_bytes(),
        lagging_bytes: role.lagging_bytes(backlog, config.replication_backlog_bytes() as u64),
        n_good: (config.replicas_wanted() > 0).then(|| role.n_good()),
        primary,
        syncs: (
            role.n_full.load(Relaxed),
            role.n_partial.load(Relaxed),
            role.n_partial_refused.load(Relaxed),
        ),
    }
}

fn persistence(state: &State) -> PersistenceInfo {
    let (saving, record) = (&state.saving, state.saving.record());
    let loading = LoadingInfo {
        since_s: saving.loading.since_s.load(Relaxed),
        n_bytes: saving.loading.n_bytes.load(Relaxed),
        n_read: saving.loading.n_read.load(Relaxed),
        is_aside: saving.is_loading_aside(),
    };
    let n_changes = state.stats.totals_ever().get(Counter::Changes);
    let keys = (saving.n_saved.load(Relaxed), saving.n_total.load(Relaxed));
    PersistenceInfo {
        loading: saving.loads_any().then_some(loading),
        changes: n_changes.saturating_sub(record.changes),
        running: (saving.is_running() || state.role.is_serving.load(Relaxed)).then_some(keys),
        runs_s: record.runs_since.map(|since| since.elapsed().as_secs()),
        last_save_s: record.last_save_s,
        is_ok: record.is_ok,
        took_s: record.took_s,
        n_saves: record.n_saves,
        n_loaded: saving.loading.n_keys.load(Relaxed),
        n_expired: saving.loading.n_expired.load(Relaxed),
        aof: append_only_file(state),
    }
}

fn append_only_file(state: &State) -> AofInfo {
    let (aof, saving) = (&state.aof, &state.saving);
    let (rewrites, is_on) = (saving.rewrites(), aof.phase() != Phase::Off);
    let (is_wanted, is_saving) = (saving.wants_rewrite(), saving.is_running());
    let n_bytes = is_on.then(|| append::n_bytes(state));
    AofInfo {
        is_on,
        is_rewriting: saving.is_rewriting() || is_wanted && !is_saving,
        is_scheduled: is_wanted && is_saving || saving.owes_rewrite.load(Relaxed),
        took_s: rewrites.took_s,
        runs_s: rewrites.runs_since.map(|since| since.elapsed().as_secs()),
        is_ok: rewrites.is_ok,
        n_rewrites: rewrites.n,
        n_failed: rewrites.n_failed,
        is_written: aof.is_written(),
        n_bytes,
        n_bytes_at_rewrite: n_bytes.map(|_| aof.n_bytes_at_rewrite.load(Relaxed)),
        n_waiting_bytes: aof.n_waiting_bytes(),
        is_syncing: aof.is_syncing(),
        n_delayed: aof.n_delayed.load(Relaxed),
    }
}

fn server(state: &State) -> ServerInfo {
    let now = unix_time();
    let path = |path: Option<std::path::PathBuf>| {
        path.map_or_else(String::new, |path| path.display().to_string())
    };
    ServerInfo {
        run_id: state.run_id.clone(),
        process_id: std::process::id(),
        supervised: state.supervisor.name().to_owned(),
        tcp_port: state.config.port(),
        listeners: listeners(state),
        time_us: now.as_micros() as u64,
        uptime_s: state.started.elapsed().as_secs(),
        hz: state.config.hz(),
        lru_clock: (now.as_secs() & 0x00ff_ffff) as u32,
        executable: path(std::env::current_exe().ok()),
        config_file: path(state.config.file().map(Into::into)),
        n_threads: state.n_threads,
        active_ns: state.stats.active_ns(state.n_threads),
        commit: state.commit.get().copied(),
        ends_in_ms: state.control.waiting_end.lock().as_ref().map(|ending| {
            let left = ending.until.saturating_duration_since(Instant::now());
            left.as_millis() as u64
        }),
    }
}

fn listeners(state: &State) -> Vec<String> {
    let (port, bind) = (state.config.port(), state.config.bind());
    let mut listeners = Vec::new();
    if port != 0 {
        let bind: String = bind.iter().map(|host| format!(",bind={host}")).collect();
        listeners.push(format!("name=tcp{bind},port={port}"));
    }
    let path = state.config.unix_socket();
    listeners.extend(path.map(|path| format!("name=unix,bind={path}")));
    listeners
}

/// O(clients): each is asked how it stood lately.
pub(super) fn clients(state: &State, now_ms: u64) -> ClientsInfo {
    let mut info = ClientsInfo {
        connected: (state.n_clients.load(Relaxed) as u64)
            .saturating_sub(state.role.followers().len() as u64),
        max: state.config.max_clients() as u64,
        blocked: state.clients.n_blocked(),
        waited_keys: state.clients.n_waited_keys(),
        paused: state.pause.now(now_ms).map(|what| {
            let what = if what == Paused::All { "all" } else { "write" };
            let why = state.pause.reason(now_ms);
            (why, what, state.pause.left_ms(now_ms))
        }),
        tracking: state.tracking.n_trackers() as u64,
        watched_keys: state.clients.n_watched_keys.load(Relaxed),
        timed: state.clients.n_timed.load(Relaxed),
        memory_bytes: state.clients.memory_bytes() as u64,
        ..ClientsInfo::default()
    };
    for client in state.clients.all() {
        let facts = client.facts.lock();
        info.pubsub += u64::from(facts.n_channels + facts.n_patterns + facts.n_shard_channels > 0);
        info.watching += u64::from(facts.n_watched > 0);
        let buffers = facts.buffers;
        let input_bytes = (buffers.input + buffers.input_free) as u64;
        info.input_bytes_max = info.input_bytes_max.max(input_bytes);
        info.output_bytes_max = info.output_bytes_max.max(buffers.output as u64);
    }
    info
}

pub(super) fn memory(state: &State) -> MemoryInfo {
    let (allocated, uncounted_bytes) = state.memory_in_use();
    let now_s = unix_time().as_secs();
    let (n_scripts, script_bytes) = state.scripts.size();
    let (n_libraries, n_functions) = state.scripts.functions.lock().counts();
    MemoryInfo {
        allocated,
        peak: allocated.map(|allocated| state.stats.note_memory(allocated.used_bytes, now_s)),
        startup_bytes: state.stats.startup_bytes(),
        system_bytes: total_system_memory_bytes(),
        lua_bytes: state.scripts.lua_bytes().map(|bytes| bytes as u64),
        cached_scripts: n_scripts as u64,
        script_bytes: script_bytes as u64,
        n_functions: n_functions as u64,
        n_libraries: n_libraries as u64,
        max_bytes: state.config.max_memory_bytes(),
        policy: state.config.eviction_policy_name(),
        lazyfree_pending: state.keyspace.n_pending(),
        uncounted_bytes,
    }
}

fn databases(state: &State) -> Vec<DatabaseInfo> {
    let numbers = 0..state.keyspace.n_databases();
    let now_ms = unix_time().as_millis() as u64;
    let infos = numbers.map(|number| {
        let (n_expiring, average_ms) = state.keyspace.deadlines(number);
        DatabaseInfo {
            index: number.into(),
            keys: state.keyspace.len(number) as u64,
            expires: n_expiring as u64,
            fielded: state.keyspace.n_fielded(number) as u64,
            average_ttl_ms: average_ms.saturating_sub(now_ms),
        }
    });
    infos.filter(|database| database.keys > 0).collect()
}

fn time(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let now = match ctx.is_nested {
        true => Duration::from_millis(ctx.now_ms), // it stands still in scripts and EXEC
        false => unix_time(),
    };
    reply.array(2);
    reply.bulk_int(now.as_secs() as i64);
    reply.bulk_int(i64::from(now.subsec_micros()));
    Ok(())
}
