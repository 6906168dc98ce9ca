//! MEMORY: what a key costs.

use std::sync::atomic::Ordering::Relaxed;

use resp::reply::Reply;

use crate::command::{Access, AdminCtx, Args, Command, ReadCtx};
use crate::commands::info;
use crate::error::{Error, Result};
use crate::mailbox::Mail;
use crate::state::State;
use crate::stats::memory;
use crate::stats::process::ProcessUsage;

/// The commands of this room.
pub const COMMANDS: &[Command] = &[Command::container("memory", SUBCOMMANDS)
    .group("server")
    .about("4.0.0", "Depends on the subcommand", "Tells what memory is used for.")];

const REPORT: &[&str] = &[
    "nondeterministic_output",
    "request_policy:all_shards",
    "response_policy:special",
];

const SUBCOMMANDS: &[Command] = &[
    Command::admin("memory|doctor", 2, doctor)
        .tips(REPORT)
        .about("4.0.0", "O(1)", "Says in words how memory is used."),
    Command::help("memory|help").since("4.0.0"),
    Command::admin("memory|malloc-stats", 2, malloc_stats)
        .tips(REPORT)
        .about("4.0.0", "Depends on the allocator", "Returns the allocator's own statistics."),
    Command::admin("memory|purge", 2, purge)
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .about("4.0.0", "Depends on the allocator", "Gives free memory back to the system."),
    Command::admin("memory|stats", 2, stats).tips(REPORT).about(
        "4.0.0",
        "O(1)",
        "Returns what memory is used for.",
    ),
    Command::read("memory|usage", -3, usage)
        .syntax("key [SAMPLES count]")
        .key(2)
        .no_touch()
        .access(Access::Look)
        .about(
            "4.0.0",
            "O(N) in the nodes of a list",
            "Returns the bytes that a key and its value occupy.",
        ),
];

/// Values know their size, so however many elements are to be sampled, none is.
fn usage(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    while let Some(word) = args.word() {
        match &*word {
            b"SAMPLES" if args.int()? >= 0 => {}
            _ => return Err(Error::Syntax),
        }
    }
    let entry_bytes = ctx.db.entry(key).map(|entry| entry.allocated_bytes());
    let big_bytes = ctx.db.big_bytes(key);
    match entry_bytes {
        Some(bytes) => reply.count(bytes + big_bytes),
        None => reply.null(),
    }
    Ok(())
}

/// Below this there is too little to say anything about.
const SMALL_BYTES: u64 = 5 << 20;

/// The figures of this moment, and what follows from them.
struct Figures {
    used: u64,
    peak: u64,
    startup: u64,
    clients: u64,
    scripts: u64,
    interpreter: Option<u64>,
    n_keys: u64,
    process: ProcessUsage,
}

impl Figures {
    /// `None` where nobody counts.
    fn gather(state: &State, now_ms: u64) -> Option<Figures> {
        let memory = info::memory(state);
        let numbers = 0..state.keyspace.n_databases();
        let n_keys: usize = numbers.map(|number| state.keyspace.len(number)).sum();
        Some(Figures {
            used: memory.allocated?.used_bytes,
            peak: memory.peak?.bytes,
            startup: memory.startup_bytes?,
            clients: info::clients(state, now_ms).memory_bytes,
            scripts: memory.script_bytes,
            interpreter: memory.lua_bytes,
            n_keys: n_keys as u64,
            process: ProcessUsage::read()?,
        })
    }

    /// What is no data.
    fn overhead(&self) -> u64 {
        self.startup + self.clients + self.scripts + self.interpreter.unwrap_or(0)
    }

    fn dataset(&self) -> u64 {
        self.used.saturating_sub(self.overhead())
    }
}

const UNKNOWN: Error = Error::Plain("ERR Stats not supported for the current allocator");

fn stats(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let figures = Figures::gather(ctx.state, ctx.now_ms).ok_or(UNKNOWN)?;
    let (used, process) = (figures.used, figures.process);
    let net = used.saturating_sub(figures.startup).max(1);
    let ratio = |part: u64, whole: u64| part as f64 / whole.max(1) as f64;
    let gap = |whole: u64, part: u64| whole as i64 - part as i64;
    let counts = [
        ("peak.allocated", figures.peak as i64),
        ("total.allocated", used as i64),
        ("startup.allocated", figures.startup as i64),
        ("clients.normal", figures.clients as i64),
        ("lua.caches", figures.scripts as i64),
        ("script.VMs", figures.interpreter.unwrap_or(0) as i64),
        ("overhead.total", figures.overhead() as i64),
        ("keys.count", figures.n_keys as i64),
        ("keys.bytes-per-key", figures.dataset().checked_div(figures.n_keys).unwrap_or(0) as i64),
        ("dataset.bytes", figures.dataset() as i64),
        ("allocator.allocated", used as i64),
        ("allocator.active", process.anonymous_bytes as i64),
        ("allocator.resident", process.rss_bytes as i64),
        ("allocator-fragmentation.bytes", gap(process.anonymous_bytes, used)),
        ("fragmentation.bytes", gap(process.rss_bytes, used)),
    ];
    let ratios = [
        ("dataset.percentage", 100.0 * ratio(figures.dataset(), net)),
        ("peak.percentage", 100.0 * ratio(used, figures.peak)),
        ("allocator-fragmentation.ratio", ratio(process.anonymous_bytes, used)),
        ("fragmentation", ratio(process.rss_bytes, used)),
    ];
    reply.map(counts.len() + ratios.len());
    for (name, value) in counts {
        reply.bulk(name.as_bytes());
        reply.int(value);
    }
    for (name, value) in ratios {
        reply.bulk(name.as_bytes());
        reply.double(value);
    }
    Ok(())
}

fn doctor(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let figures = Figures::gather(ctx.state, ctx.now_ms).ok_or(UNKNOWN)?;
    reply.verbatim("txt", diagnosis(&figures, ctx.state.n_clients.load(Relaxed) as u64).as_bytes());
    Ok(())
}

fn diagnosis(figures: &Figures, n_clients: u64) -> String {
    let (used, rss) = (figures.used, figures.process.rss_bytes);
    if used < SMALL_BYTES {
        return "There is too little in memory to say anything about how it is used.\n".to_owned();
    }
    let mut text = String::new();
    if figures.peak > used + used / 2 {
        text.push_str(&format!(
            "- Peak: {} bytes were in use once, {used} are now. What the system shows as this process's \
             memory may stay near the peak; MEMORY PURGE gives back what is free.\n",
            figures.peak
        ));
    }
    if rss > used + used / 2 && rss > used + (10 << 20) {
        text.push_str(&format!(
            "- Fragmentation: the process holds {rss} bytes for {used} in use. After many deletions that \
             is free memory between values; MEMORY PURGE may help.\n"
        ));
    }
    let per_client = figures.clients.checked_div(n_clients).unwrap_or(0);
    if per_client > 200 << 10 {
        text.push_str(&format!(
            "- Clients: their buffers take {per_client} bytes each on average. CLIENT LIST shows (omem, \
             qbuf) who does not read its replies, or sends requests of great size.\n"
        ));
    }
    if figures.scripts > 10 << 20 {
        text.push_str(&format!(
            "- Scripts: the sources of those that are cached take {} bytes. Scripts that are made for one \
             call each should take arguments instead.\n",
            figures.scripts
        ));
    }
    if text.is_empty() {
        text.push_str("Nothing about the use of memory is out of the ordinary.\n");
    }
    text
}

fn purge(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    for group in 0..ctx.state.mailboxes.len() {
        ctx.state.mailboxes.post(group, Mail::Purge);
    }
    reply.ok();
    Ok(())
}

fn malloc_stats(_: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let text = memory::describe().ok_or(UNKNOWN)?;
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}
