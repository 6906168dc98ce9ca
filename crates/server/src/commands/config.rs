//! CONFIG: directives of the running server, and what a change means to the rest of it.

use std::sync::atomic::Ordering::Relaxed;

use crate::command::traits::ADMIN;
use crate::command::{AdminCtx, Args, Command};
use crate::config::directive::Directive;
use crate::error::{Error, Result};
use crate::io::process::allow_clients;
use crate::logging;
use crate::persistence::append;
use crate::state::State;
use resp::reply::Reply;

/// The family's table.
pub const COMMANDS: &[Command] = &[Command::container("config", CONFIG).group("server").about(
    "2.0.0",
    "Depends on the subcommand",
    "Looks at directives and changes them.",
)];

const CONFIG: &[Command] = &[
    Command::admin("config|get", -3, config_get)
        .syntax("parameter ...")
        .flags(ADMIN)
        .about("2.0.0", "O(N) in the directives", "Returns directives by name or pattern."),
    Command::help("config|help"),
    Command::admin("config|resetstat", 2, config_resetstat)
        .flags(ADMIN)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .about("2.0.0", "O(1)", "Starts the counts of INFO anew."),
    Command::admin("config|rewrite", 2, config_rewrite)
        .flags(ADMIN)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .about("2.8.0", "O(1)", "Writes the present values into the file."),
    Command::admin("config|set", -4, config_set)
        .syntax("data(parameter value) ...")
        .flags(ADMIN)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .about("2.0.0", "O(N) in the directives", "Changes directives, all or none."),
];

fn config_get(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let patterns: Vec<&[u8]> = args.rest().collect();
    let found = ctx.state.config.get(&patterns);
    reply.map(found.len());
    for (name, value) in found {
        reply.bulk(&name);
        reply.bulk(&value);
    }
    Ok(())
}

fn config_set(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if !args.len().is_multiple_of(2) {
        return Err(Error::Plain("ERR wrong number of arguments for 'config|set' command"));
    }
    let mut pairs = Vec::new();
    while !args.is_empty() {
        pairs.push((args.take()?, args.take()?));
    }
    let waits_for_data = |(name, _): &(&[u8], &[u8])| {
        let names: [&[u8]; 3] = [b"dir", b"repl-diskless-load", b"appendonly"];
        names.iter().any(|it| name.eq_ignore_ascii_case(it))
    };
    if ctx.state.saving.loads_any() && pairs.iter().any(waits_for_data) {
        return Err(Error::Loading);
    }
    let is_listening = |(name, _): &(&[u8], &[u8])| {
        name.eq_ignore_ascii_case(b"bind") || name.eq_ignore_ascii_case(b"port")
    };
    if ctx.is_nested && pairs.iter().any(is_listening) {
        let text =
            "ERR CONFIG SET of bind or port waits for the listeners, which a transaction may not";
        return Err(Error::Plain(text));
    }
    let (state, is_local) = (ctx.state, ctx.session.client.is_local);
    let result = state
        .config
        .set(&pairs, is_local, |directive| apply(state, directive));
    result.map_err(|error| Error::Owned(error.to_string()))?;
    reply.ok();
    Ok(())
}

/// Makes the server follow a directive whose value is changed already. What is not named here is
/// read where it is used.
fn apply(state: &State, directive: &Directive) -> std::result::Result<(), String> {
    match directive.name {
        "bind" if !state.control.listen_anew() => {
            Err("Failed to bind to specified addresses.".to_owned())
        }
        "port" if !state.control.listen_anew() => {
            Err("Unable to listen on this port. Check server logs.".to_owned())
        }
        "bind" | "port" => {
            state.show_title();
            Ok(())
        }
        "loglevel" => {
            logging::set_level(state.config.log_level());
            Ok(())
        }
        "maxclients" => {
            let wanted = state.config.max_clients();
            match allow_clients(wanted, state.n_threads) {
                allowed if allowed < wanted => Err(format!(
                    "The operating system is not able to handle the specified number of clients, \
                     try with {allowed}"
                )),
                _ => Ok(()),
            }
        }
        "oom-score-adj" | "oom-score-adj-values" => state.adjust_oom_score().map_err(|_| {
            "Failed to apply new oom_score_adj configuration, check server logs.".to_owned()
        }),
        "proc-title-template" => {
            state.show_title();
            Ok(())
        }
        "requirepass" => {
            state.acl.set_default_password(&state.config.password());
            Ok(())
        }
        "appendonly" => {
            match state.config.appends() {
                true => append::switch_on(state)?,
                false => {
                    append::switch_off(state);
                }
            }
            Ok(())
        }
        "aof-disable-auto-gc" => {
            state.saving.wish_tidy();
            Ok(())
        }
        "aof-timestamp-enabled" | "aof-record-checksum" => {
            append::mark_records(state);
            Ok(())
        }
        "save" => {
            state.saving.nudge();
            Ok(())
        }
        "tracking-table-max-keys" => {
            state.bound_tracking();
            Ok(())
        }
        "lua-enable-deprecated-api" => {
            state.scripts.renew();
            Ok(())
        }
        "timeout" | "maxmemory" | "maxmemory-clients" | "import-mode" => {
            state.mailboxes.wake_all(); // how long they sleep, and what they may keep
            Ok(())
        }
        _ => Ok(()),
    }
}

/// The lines that declare the users, unless they have a file of their own.
pub(super) fn user_lines(state: &State) -> Vec<Vec<u8>> {
    match state.config.acl_file() {
        Some(_) => Vec::new(),
        None => state.acl.all().iter().map(|user| user.line()).collect(),
    }
}

fn config_rewrite(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if let Err(error) = ctx.state.config.rewrite(user_lines(ctx.state), false) {
        log::warn!("{error}");
        return Err(Error::Owned(error.to_string()));
    }
    log::info!("CONFIG REWRITE executed with success.");
    reply.ok();
    Ok(())
}

fn config_resetstat(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.state.stats.reset();
    let role = &ctx.state.role;
    for count in [&role.n_full, &role.n_partial, &role.n_partial_refused] {
        count.store(0, Relaxed);
    }
    reply.ok();
    Ok(())
}
