//! Scripts: EVAL and its siblings, and the cache they run from.

use lua::interpreter::ScriptName;
use lua::script::{ScriptFlags, flags, sha1_hex};
use resp::reply::Reply;

use crate::command::context::{Order, Permit};
use crate::command::{Access, AdminCtx, Args, Command, Flag};
use crate::error::{Error, Result};
use crate::scripts::running::Runs;
use crate::state::State;
use crate::stats::counters::Counter;

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    script_row("eval", eval)
        .declares(declared)
        .syntax("script numkeys [key ...] [arg ...]")
        .about("2.6.0", "Depends on the script", "Runs a script."),
    script_row("eval_ro", eval_ro)
        .declares(declared)
        .flags(RUNS_READ_ONLY)
        .access(Access::Read)
        .syntax("script numkeys [key ...] [arg ...]")
        .about("7.0.0", "Depends on the script", "Runs a script that changes nothing."),
    script_row("evalsha", evalsha)
        .declares(declared_in_cache)
        .syntax("sha1 numkeys [key ...] [arg ...]")
        .about("2.6.0", "Depends on the script", "Runs a script from the cache."),
    script_row("evalsha_ro", evalsha_ro)
        .declares(declared_in_cache)
        .flags(RUNS_READ_ONLY)
        .access(Access::Read)
        .syntax("sha1 numkeys [key ...] [arg ...]")
        .about("7.0.0", "Depends on the script", "Runs a cached script that changes nothing."),
    Command::container("script", SCRIPT)
        .group("scripting")
        .about("2.6.0", "Depends on the subcommand", "The script cache."),
];

/// What carries a command that runs a script.
pub const RUNS: &[Flag] = &[
    Flag::NoMandatoryKeys,
    Flag::NoScript,
    Flag::SkipMonitor,
    Flag::Stale,
];
/// The same for one that changes nothing.
pub const RUNS_READ_ONLY: &[Flag] = &[
    Flag::NoMandatoryKeys,
    Flag::NoScript,
    Flag::ReadOnly,
    Flag::SkipMonitor,
    Flag::Stale,
];

const SCRIPT: &[Command] = &[
    Command::help("script|help"),
    Command::admin("script|exists", -3, script_exists)
        .syntax("sha1 ...")
        .flags(&[Flag::NoScript])
        .tips(&[
            "request_policy:all_shards",
            "response_policy:agg_logical_and",
        ])
        .group("scripting")
        .about("2.6.0", "O(N) in the names", "Tells which scripts are in the cache."),
    Command::admin("script|flush", -2, script_flush)
        .syntax("[flush-type(ASYNC|SYNC)]")
        .flags(&[Flag::NoScript])
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .group("scripting")
        .about("2.6.0", "O(N) in the scripts", "Empties the cache."),
    Command::admin("script|debug", 3, script_debug)
        .syntax("mode(YES|SYNC|NO)")
        .flags(&[Flag::NoScript])
        .group("scripting")
        .about("3.2.0", "O(1)", "Switches the debugger of scripts off; there is none."),
    Command::admin("script|kill", 2, script_kill)
        .flags(&[Flag::AllowBusy, Flag::NoScript])
        .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
        .group("scripting")
        .about("2.6.0", "O(1)", "Ends the script that runs, if it has written nothing."),
    Command::admin("script|load", 3, script_load)
        .syntax("script")
        .flags(&[Flag::NoScript, Flag::Stale])
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .group("scripting")
        .about("2.6.0", "O(N) in the source", "Puts a script into the cache."),
    Command::admin("script|show", 3, script_show)
        .syntax("sha1")
        .flags(&[Flag::NoScript])
        .group("scripting")
        .about("8.0.0", "O(1)", "Answers the source of a script in the cache."),
];

fn script_show(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let name = script_name(args.take()?);
    let source = name.and_then(|name| ctx.state.scripts.source(&name));
    reply.bulk(&source.ok_or(NO_SCRIPT)?);
    Ok(())
}

const NO_SCRIPT: Error = Error::Plain("NOSCRIPT No matching script. Please use EVAL.");

type Handler = for<'a> fn(&mut AdminCtx<'a>, &mut Args<'_>, &mut Reply<'_>) -> Result<()>;

const fn script_row(name: &'static str, run: Handler) -> Command {
    Command::admin(name, -3, run)
        .numkeys(2)
        .flags(RUNS)
        .access(Access::Modify)
        .group("scripting")
}

/// Reads `numkeys` and the keys; where the arguments behind them begin in the whole request.
fn args_at(args: &mut Args<'_>) -> Result<usize> {
    let n_keys = args.int()?;
    if n_keys < 0 {
        return Err(Error::Plain("ERR Number of keys can't be negative"));
    }
    if n_keys as usize > args.len() {
        return Err(Error::Plain("ERR Number of keys can't be greater than number of args"));
    }
    let _ = args.rest();
    Ok(3 + n_keys as usize)
}

/// What a script may do that promises this much; an error if it may not even begin.
pub fn permit(
    ctx: &AdminCtx<'_>,
    flags: Option<ScriptFlags>,
    is_read_only: bool,
) -> Result<Permit> {
    let state = ctx.state;
    let Some(flags) = flags else {
        if state.is_stale() {
            return Err(Error::Stale);
        }
        let may_grow = false; // its commands are looked at one by one
        return Ok(Permit {
            is_read_only,
            may_grow,
        });
    };
    if !flags.no_writes && state.refuses_writes() {
        return Err(Error::ReadOnlyReplica);
    }
    if state.is_stale() && !flags.allow_stale {
        return Err(Error::Stale);
    }
    if is_read_only && !flags.no_writes {
        let line = "ERR Can not execute a script with write flag using *_ro command.";
        return Err(Error::Plain(line));
    }
    if !flags.no_writes && state.lacks_replicas() {
        return Err(Error::NoReplicas);
    }
    let may_grow = flags.allow_oom || flags.no_writes;
    if !may_grow && ctx.is_memory_full {
        return Err(Error::Plain(
            "OOM allow-oom flag is not set on the script, can not run it when used memory > \
             'maxmemory'",
        ));
    }
    Ok(Permit {
        is_read_only: flags.no_writes,
        may_grow,
    })
}

/// What the script of an EVAL says of itself.
fn declared(_: &State, request: &[&[u8]]) -> Option<ScriptFlags> {
    flags(request.get(1)?).ok()?
}

/// What the script of an EVALSHA says of itself.
fn declared_in_cache(state: &State, request: &[&[u8]]) -> Option<ScriptFlags> {
    state.scripts.flags(&script_name(request.get(1)?)?)?
}

/// A script's name as a client gives it.
fn script_name(word: &[u8]) -> Option<ScriptName> {
    let mut name: ScriptName = word.try_into().ok()?;
    name.make_ascii_lowercase();
    Some(name)
}

fn run_source(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, is_read_only: bool) -> Result<()> {
    let source = args.take()?;
    let args_at = args_at(args)?;
    let scripts = &ctx.state.scripts;
    let (name, permit) = match scripts.used_text(source) {
        Some((name, flags)) => (name, permit(ctx, flags, is_read_only)?),
        None => {
            let flags = flags(source).map_err(Error::line)?;
            let permit = permit(ctx, flags, is_read_only)?;
            let name = sha1_hex(source);
            if !scripts.add(name, (source, flags), false) {
                ctx.state.stats.count(Counter::EvictedScripts, 1);
            }
            (name, permit)
        }
    };
    ctx.order = Some(Order::Script {
        name,
        args_at,
        permit,
    });
    Ok(())
}

fn run_cached(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, is_read_only: bool) -> Result<()> {
    let name = script_name(args.take()?).ok_or(NO_SCRIPT)?;
    let args_at = args_at(args)?;
    let flags = ctx.state.scripts.used(&name).ok_or(NO_SCRIPT)?;
    let permit = permit(ctx, flags, is_read_only)?;
    ctx.order = Some(Order::Script {
        name,
        args_at,
        permit,
    });
    Ok(())
}

fn eval(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    run_source(ctx, args, false)
}

fn eval_ro(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    run_source(ctx, args, true)
}

fn evalsha(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    run_cached(ctx, args, false)
}

fn evalsha_ro(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    run_cached(ctx, args, true)
}

fn script_exists(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.array(args.len());
    for name in args.rest() {
        let is_known = script_name(name).is_some_and(|name| ctx.state.scripts.knows(&name));
        reply.int(i64::from(is_known));
    }
    Ok(())
}

fn script_flush(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let mode = args.word();
    if !matches!(mode.as_deref(), None | Some(b"ASYNC" | b"SYNC")) || !args.is_empty() {
        return Err(Error::Plain("ERR SCRIPT FLUSH only support SYNC|ASYNC option"));
    }
    ctx.state.scripts.clear();
    reply.ok();
    Ok(())
}

fn script_debug(_: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    match args.word().as_deref() {
        Some(b"NO") => reply.ok(),
        Some(b"YES" | b"SYNC") => {
            return Err(Error::Plain("ERR this server has no debugger for scripts"));
        }
        _ => return Err(Error::Plain("ERR Use SCRIPT DEBUG YES/SYNC/NO")),
    }
    Ok(())
}

fn script_kill(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.state.scripts.running.kill(Runs::Script)?;
    reply.ok();
    Ok(())
}

fn script_load(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    let source = args.take()?;
    let flags = flags(source).map_err(Error::line)?;
    let name = sha1_hex(source);
    ctx.state.scripts.add(name, (source, flags), true);
    ctx.order = Some(Order::Load { name });
    Ok(())
}
