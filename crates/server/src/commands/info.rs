//! The process and its figures: INFO, TIME, SHUTDOWN.

use crate::command::traits::META;
use crate::command::{AdminCtx, Args, Category, Command, Flag};
use crate::control::Order;
use crate::error::{Error, Result};
use crate::io::process::unix_time;
use crate::state::State;
use crate::stats::counters::Counter;
use crate::stats::process::{ProcessUsage, total_system_memory_bytes};
use crate::stats::snapshot::{
    ActivityInfo, ClientsInfo, DatabaseInfo, MemoryInfo, ReplicationInfo, ServerInfo, Snapshot,
};
use crate::stats::{info, memory};
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
    Command::admin("shutdown", -1, shutdown)
        .syntax("[save-selector(NOSAVE|SAVE)] [NOW] [FORCE] [ABORT]")
        .flags(&[
            Flag::Admin,
            Flag::AllowBusy,
            Flag::Loading,
            Flag::NoMulti,
            Flag::NoScript,
            Flag::Stale,
        ])
        .group("server")
        .about("1.0.0", "O(N) when it saves, in the keys", "Stops the server."),
];

fn info(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let names: Vec<&[u8]> = args.rest().collect();
    let text = info::render(&snapshot(ctx.state), &info::sections(&names));
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

/// Everything that INFO may be asked for.
fn snapshot(state: &State) -> Snapshot {
    Snapshot {
        server: server(state),
        clients: clients(state),
        memory: memory(state),
        totals: state.stats.totals(),
        activity: ActivityInfo {
            changes: Some(state.stats.totals_ever().get(Counter::Changes)),
            pubsub_channels: state.pubsub.n_channels() as u64,
            pubsub_patterns: state.pubsub.n_patterns() as u64,
            tracking_keys: state.tracking.n_keys_and_items().0 as u64,
            tracking_items: state.tracking.n_keys_and_items().1 as u64,
            tracking_prefixes: state.tracking.n_prefixes() as u64,
            ..state.stats.activity(unix_time().as_millis() as u64)
        },
        replication: ReplicationInfo {
            replid: state.replid.lock().clone(),
            backlog_bytes: state.config.replication_backlog_bytes(),
        },
        process: ProcessUsage::read(),
        commands: state.stats.commands(),
        errors: state.stats.errors(),
        databases: databases(state),
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
fn clients(state: &State) -> ClientsInfo {
    let mut info = ClientsInfo {
        connected: state.n_clients.load(Relaxed) as u64,
        max: state.config.max_clients() as u64,
        blocked: state.clients.n_blocked(),
        tracking: state.tracking.n_trackers() as u64,
        ..ClientsInfo::default()
    };
    for client in state.clients.all() {
        let facts = client.facts.lock();
        info.pubsub += u64::from(facts.n_channels + facts.n_patterns > 0);
        info.watching += u64::from(facts.n_watched > 0);
        let buffers = facts.buffers;
        info.buffer_bytes += (buffers.input + buffers.input_free + buffers.output) as u64;
    }
    info
}

fn memory(state: &State) -> MemoryInfo {
    let allocated = memory::allocated();
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

/// There is nothing to save and no replica to wait for, so NOSAVE, NOW and FORCE ask for what
/// happens anyway, and no shutdown is ever under way to be aborted.
fn shutdown(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    let (mut n_words, mut must_abort, mut must_save, mut must_not_save) = (0, false, false, false);
    while let Some(word) = args.word() {
        n_words += 1;
        match &*word {
            b"NOSAVE" => must_not_save = true,
            b"SAVE" => must_save = true,
            b"NOW" | b"FORCE" => {}
            b"ABORT" => must_abort = true,
            _ => return Err(Error::Syntax),
        }
    }
    if (must_abort && n_words > 1) || (must_save && must_not_save) {
        return Err(Error::Syntax);
    }
    if must_abort {
        return Err(Error::Plain("ERR No shutdown in progress."));
    }
    if must_save {
        return Err(Error::Plain("ERR this version cannot save: use SHUTDOWN NOSAVE"));
    }
    let running = &ctx.state.scripts.running;
    if running.is_busy() && !must_not_save {
        return Err(running.busy());
    }
    ctx.state.control.post(Order::Shutdown);
    ctx.session.is_closing = true;
    Ok(())
}
