//! SLOWLOG: the commands that took longer than `slowlog-log-slower-than`.

use crate::command::{AdminCtx, Args, Command, Flag};
use crate::error::{Error, Result};
use crate::stats::slowlog::SlowLog;
use parking_lot::Mutex;
use resp::reply::Reply;

/// Entries that SLOWLOG GET answers when it is not told how many.
const COUNT: usize = 10;

/// What all of its subcommands have.
const FLAGS: &[Flag] = &[Flag::Admin, Flag::Loading, Flag::Stale];

/// The family's table.
pub const COMMANDS: &[Command] = &[Command::container("slowlog", SLOWLOG)
    .group("server")
    .about("2.2.12", "Depends on the subcommand", "The slow log.")];

const SLOWLOG: &[Command] = &[
    Command::admin("slowlog|get", -2, slowlog_get)
        .syntax("[count]")
        .flags(FLAGS)
        .tips(&["request_policy:all_nodes", "nondeterministic_output"])
        .about("2.2.12", "O(N) in the entries", "Returns the newest entries."),
    Command::help("slowlog|help").since("6.2.0"),
    Command::admin("slowlog|len", 2, slowlog_len)
        .flags(FLAGS)
        .tips(&[
            "request_policy:all_nodes",
            "response_policy:agg_sum",
            "nondeterministic_output",
        ])
        .about("2.2.12", "O(1)", "Returns the number of entries."),
    Command::admin("slowlog|reset", 2, slowlog_reset)
        .flags(FLAGS)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .about("2.2.12", "O(N) in the entries", "Forgets all entries."),
];

fn slowlog_get(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let count = match args.peek() {
        None => COUNT,
        Some(text) => {
            args.take()?;
            let count = stdx::number::parse_i64(text).filter(|count| *count >= -1);
            let wrong = Error::Plain("ERR count should be greater than or equal to -1");
            usize::try_from(count.ok_or(wrong)?).unwrap_or(usize::MAX)
        }
    };
    if !args.is_empty() {
        let text =
            "ERR unknown subcommand or wrong number of arguments for 'GET'. Try SLOWLOG HELP.";
        return Err(Error::Plain(text));
    }
    answer(&ctx.state.stats.slowlog, count, reply);
    Ok(())
}

/// The newest entries of a log.
pub fn answer(log: &Mutex<SlowLog>, count: usize, reply: &mut Reply<'_>) {
    let entries = log.lock().newest(count);
    reply.array(entries.len());
    for entry in entries {
        reply.array(6);
        reply.int(entry.id as i64);
        reply.int(entry.time_s);
        reply.int(entry.measure as i64);
        reply.array(entry.args.len());
        entry.args.iter().for_each(|arg| reply.bulk(arg));
        reply.bulk(entry.client_address.as_bytes());
        reply.bulk(&entry.client_name);
    }
}

fn slowlog_len(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(ctx.state.stats.slowlog.lock().len());
    Ok(())
}

fn slowlog_reset(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.state.stats.slowlog.lock().reset();
    reply.ok();
    Ok(())
}
