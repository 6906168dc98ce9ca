//! Functions: FCALL, FCALL_RO, FUNCTION.

use lua::script::ScriptFlags;
use resp::reply::Reply;
use stdx::glob;

use crate::command::context::{Libraries, Order};
use crate::command::{Access, AdminCtx, Args, Category, Command, Flag};
use crate::commands::scripting::{RUNS, RUNS_READ_ONLY, permit};
use crate::error::{Error, Result};
use crate::scripts::functions::{Library, Policy};
use crate::scripts::payload;
use crate::scripts::running::{Details, Runs};
use crate::state::State;

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::admin("fcall", -3, fcall)
        .declares(declared)
        .numkeys(2)
        .flags(RUNS)
        .access(Access::Modify)
        .syntax("function numkeys [key ...] [arg ...]")
        .group("scripting")
        .about("7.0.0", "Depends on the function", "Calls a function."),
    Command::admin("fcall_ro", -3, fcall_ro)
        .declares(declared)
        .numkeys(2)
        .flags(RUNS_READ_ONLY)
        .access(Access::Read)
        .syntax("function numkeys [key ...] [arg ...]")
        .group("scripting")
        .about("7.0.0", "Depends on the function", "Calls a function that changes nothing."),
    Command::container("function", FUNCTION)
        .group("scripting")
        .about("7.0.0", "Depends on the subcommand", "The libraries of functions."),
];

const CHANGES: &[Flag] = &[Flag::NoScript, Flag::Write];
const EVERYWHERE: &[&str] = &["request_policy:all_shards", "response_policy:all_succeeded"];

const FUNCTION: &[Command] = &[
    Command::admin("function|delete", 3, delete)
        .syntax("library-name")
        .flags(CHANGES)
        .categories(&[Category::Write])
        .tips(EVERYWHERE)
        .group("scripting")
        .about("7.0.0", "O(1)", "Removes a library."),
    Command::admin("function|dump", 2, dump)
        .flags(&[Flag::NoScript])
        .group("scripting")
        .about("7.0.0", "O(N) in the functions", "Answers all libraries as one payload."),
    Command::admin("function|flush", -2, flush)
        .syntax("[flush-type(ASYNC|SYNC)]")
        .flags(CHANGES)
        .categories(&[Category::Write])
        .tips(EVERYWHERE)
        .group("scripting")
        .about("7.0.0", "O(N) in the functions", "Removes all libraries."),
    Command::help("function|help"),
    Command::admin("function|kill", 2, kill)
        .flags(&[Flag::AllowBusy, Flag::NoScript])
        .tips(&["request_policy:all_shards", "response_policy:one_succeeded"])
        .group("scripting")
        .about("7.0.0", "O(1)", "Ends the function that runs, if it has written nothing."),
    Command::admin("function|list", -2, list)
        .syntax("[LIBRARYNAME library-name-pattern] [WITHCODE]")
        .flags(&[Flag::NoScript])
        .tips(&["nondeterministic_output_order"])
        .group("scripting")
        .about("7.0.0", "O(N) in the functions", "Describes the libraries."),
    Command::admin("function|load", -3, load)
        .syntax("[REPLACE] function-code")
        .deny_oom()
        .flags(CHANGES)
        .categories(&[Category::Write])
        .tips(EVERYWHERE)
        .group("scripting")
        .about("7.0.0", "O(1) (considering compilation time is redundant)", "Loads a library."),
    Command::admin("function|restore", -3, restore)
        .syntax("serialized-value [policy(FLUSH|APPEND|REPLACE)]")
        .deny_oom()
        .flags(CHANGES)
        .categories(&[Category::Write])
        .tips(EVERYWHERE)
        .group("scripting")
        .about("7.0.0", "O(N) in the functions", "Loads the libraries of a payload."),
    Command::admin("function|stats", 2, stats)
        .flags(&[Flag::AllowBusy, Flag::NoScript])
        .tips(&[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ])
        .group("scripting")
        .about("7.0.0", "O(1)", "Tells which function runs, and how many there are."),
];

/// What the function of a request says of itself.
fn declared(state: &State, request: &[&[u8]]) -> Option<ScriptFlags> {
    let found = state.scripts.functions.lock().find(request.get(1)?)?;
    Some(found.function().flags)
}

fn call(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, is_read_only: bool) -> Result<()> {
    let found = ctx.state.scripts.functions.lock().find(args.take()?);
    let found = found.ok_or(Error::Plain("ERR Function not found"))?;
    let n_keys = args.int();
    let n_keys = n_keys.map_err(|_| Error::Plain("ERR Bad number of keys provided"))?;
    if n_keys > args.len() as i64 {
        return Err(Error::Plain("ERR Number of keys can't be greater than number of args"));
    }
    if n_keys < 0 {
        return Err(Error::Plain("ERR Number of keys can't be negative"));
    }
    let permit = permit(ctx, Some(found.function().flags), is_read_only)?;
    let _ = args.rest(); // the engine takes them from the request
    let args_at = 3 + n_keys as usize;
    ctx.order = Some(Order::Call { args_at, permit });
    Ok(())
}

fn fcall(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    call(ctx, args, false)
}

fn fcall_ro(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    call(ctx, args, true)
}

fn too_many(name: &str) -> Error {
    Error::Owned(format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try FUNCTION HELP."
    ))
}

fn load(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    let mut replaces = false;
    while args.len() > 1 {
        if !args.eat(b"REPLACE") {
            let option = String::from_utf8_lossy(args.take()?);
            return Err(Error::Owned(format!("ERR Unknown option given: {option}")));
        }
        replaces = true;
    }
    let _ = args.take()?;
    ctx.order = Some(Order::Libraries(Libraries::Load { replaces }));
    Ok(())
}

fn delete(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    let _ = args.take()?;
    ctx.order = Some(Order::Libraries(Libraries::Delete));
    Ok(())
}

fn flush(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    if args.len() > 1 {
        return Err(too_many("flush"));
    }
    if !matches!(args.word().as_deref(), None | Some(b"ASYNC" | b"SYNC")) {
        return Err(Error::Plain("ERR FUNCTION FLUSH only supports SYNC|ASYNC option"));
    }
    ctx.order = Some(Order::Libraries(Libraries::Flush));
    Ok(())
}

fn restore(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    if args.len() > 2 {
        return Err(too_many("restore"));
    }
    let _ = args.take()?;
    let policy = match args.word().as_deref() {
        None | Some(b"APPEND") => Policy::Append,
        Some(b"FLUSH") => Policy::Flush,
        Some(b"REPLACE") => Policy::Replace,
        Some(_) => {
            return Err(Error::Plain(
                "ERR Wrong restore policy given, value should be either FLUSH, APPEND or REPLACE.",
            ));
        }
    };
    ctx.order = Some(Order::Libraries(Libraries::Restore(policy)));
    Ok(())
}

fn dump(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let functions = ctx.state.scripts.functions.lock();
    let sources = functions.libraries().map(|library| &library.source[..]);
    reply.bulk(&payload::dump(sources, ctx.state.config.packs_strings()));
    Ok(())
}

fn kill(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.state.scripts.running.kill(Runs::Function)?;
    reply.ok();
    Ok(())
}

fn list(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (mut pattern, mut with_code) = (None, false);
    while let Some(word) = args.peek() {
        if !with_code && args.eat(b"WITHCODE") {
            with_code = true;
        } else if pattern.is_none() && args.eat(b"LIBRARYNAME") {
            let missing = Error::Plain("ERR library name argument was not given");
            pattern = Some(args.take().map_err(|_| missing)?);
        } else {
            let word = String::from_utf8_lossy(word);
            return Err(Error::Owned(format!("ERR Unknown argument {word}")));
        }
    }
    let functions = ctx.state.scripts.functions.lock();
    let is_wanted = |library: &&std::sync::Arc<Library>| {
        pattern.is_none_or(|pattern| glob::matches(pattern, &library.name, true))
    };
    let (later, mut n) = (reply.array_later(), 0);
    for library in functions.libraries().filter(is_wanted) {
        n += 1;
        describe(library, with_code, reply);
    }
    reply.finish(later, n);
    Ok(())
}

fn describe(library: &Library, with_code: bool, reply: &mut Reply<'_>) {
    reply.map(if with_code { 4 } else { 3 });
    reply.bulk(b"library_name");
    reply.bulk(&library.name);
    reply.bulk(b"engine");
    reply.bulk(b"LUA");
    reply.bulk(b"functions");
    reply.array(library.functions.len());
    for function in &library.functions {
        reply.map(3);
        reply.bulk(b"name");
        reply.bulk(&function.name);
        reply.bulk(b"description");
        reply.bulk_or_null(function.description.as_deref());
        reply.bulk(b"flags");
        reply.set(function.flags.names().count());
        function.flags.names().for_each(|flag| reply.simple(flag));
    }
    if with_code {
        reply.bulk(b"library_code");
        reply.bulk(&library.source);
    }
}

fn stats(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let scripts = &ctx.state.scripts;
    if scripts.running.is_busy() && scripts.running.now() == Some(Runs::Script) {
        return Err(scripts.running.busy());
    }
    reply.map(2);
    reply.bulk(b"running_script");
    match scripts.running.details() {
        None => reply.null(),
        Some(Details {
            name,
            command,
            since,
        }) => {
            reply.map(3);
            reply.bulk(b"name");
            reply.bulk(&name);
            reply.bulk(b"command");
            reply.array(command.len());
            command.iter().for_each(|word| reply.bulk(word));
            reply.bulk(b"duration_ms");
            reply.int(since.elapsed().as_millis() as i64);
        }
    }
    let (n_libraries, n_functions) = scripts.functions.lock().counts();
    reply.bulk(b"engines");
    reply.map(1);
    reply.bulk(b"LUA");
    reply.map(2);
    reply.bulk(b"libraries_count");
    reply.count(n_libraries);
    reply.bulk(b"functions_count");
    reply.count(n_functions);
    Ok(())
}
