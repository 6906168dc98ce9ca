//! COMMANDLOG, as Valkey has it: the slow log, and logs of the requests and replies that were large.

use crate::command::{AdminCtx, Args, Command, Flag};
use crate::error::{Error, Result};
use crate::stats::slowlog::SlowLog;
use parking_lot::Mutex;
use resp::reply::Reply;
use stdx::number::parse_i64;

/// What all of its subcommands have.
const FLAGS: &[Flag] = &[Flag::Admin, Flag::Loading, Flag::Stale];
const TYPE: &str = "type(SLOW|LARGE-REQUEST|LARGE-REPLY)";

/// The family's table.
pub const COMMANDS: &[Command] = &[Command::container("commandlog", COMMANDLOG)
    .group("server")
    .about("8.1.0", "Depends on the subcommand", "Logs of slow and large commands.")];

const COMMANDLOG: &[Command] = &[
    Command::admin("commandlog|get", 4, get)
        .syntax("count type(SLOW|LARGE-REQUEST|LARGE-REPLY)")
        .flags(FLAGS)
        .tips(&["request_policy:all_nodes", "nondeterministic_output"])
        .about("8.1.0", "O(N) in the entries", "Returns the newest entries of a log."),
    Command::help("commandlog|help").since("8.1.0"),
    Command::admin("commandlog|len", 3, len)
        .syntax(TYPE)
        .flags(FLAGS)
        .tips(&[
            "request_policy:all_nodes",
            "response_policy:agg_sum",
            "nondeterministic_output",
        ])
        .about("8.1.0", "O(1)", "Returns the number of entries of a log."),
    Command::admin("commandlog|reset", 3, reset)
        .syntax(TYPE)
        .flags(FLAGS)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .about("8.1.0", "O(N) in the entries", "Forgets all entries of a log."),
];

fn log_of<'a>(ctx: &'a AdminCtx<'_>, args: &mut Args<'_>) -> Result<&'a Mutex<SlowLog>> {
    let stats = &ctx.state.stats;
    match args.word().as_deref() {
        Some(b"SLOW") => Ok(&stats.slowlog),
        Some(b"LARGE-REQUEST") => Ok(&stats.large_requests),
        Some(b"LARGE-REPLY") => Ok(&stats.large_replies),
        _ => Err(Error::Plain(
            "ERR type should be one of the following: slow, large-request, large-reply",
        )),
    }
}

fn get(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let count = parse_i64(args.take()?).filter(|count| *count >= -1);
    let count = count.ok_or(Error::Plain("ERR count should be greater than or equal to -1"))?;
    let log = log_of(ctx, args)?;
    super::slowlog::answer(log, usize::try_from(count).unwrap_or(usize::MAX), reply);
    Ok(())
}

fn len(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(log_of(ctx, args)?.lock().len());
    Ok(())
}

fn reset(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    log_of(ctx, args)?.lock().reset();
    reply.ok();
    Ok(())
}
