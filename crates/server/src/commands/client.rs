//! CLIENT: what sessions are called, how they are listed, and how they end.

mod filter;
mod tracking;

use std::sync::atomic::Ordering::Relaxed;

use resp::reply::Reply;
use stdx::number::parse_i64;

use crate::command::context::Order;
use crate::command::traits::{ADMIN, ANYTIME};
use crate::command::{AdminCtx, Args, Command};
use crate::error::{Error, Result};
use crate::mailbox::Mail;
use crate::pause::{Cause, Paused};
use crate::session::Replies;
use crate::session::client::Client;
use filter::Filter;

/// The subcommands of CLIENT.
pub const CLIENT: &[Command] = &[
    tracking::CACHING,
    row("client|capa", -3, capa).syntax("capability ...").about(
        "8.0.0",
        "O(1)",
        "Says what the connection can deal with.",
    ),
    row("client|getname", 2, getname).about("2.6.9", "O(1)", "Answers the connection's name."),
    tracking::GETREDIR,
    Command::help("client|help"),
    row("client|id", 2, id).about("5.0.0", "O(1)", "Answers the connection's number."),
    row("client|import-source", 3, import_source)
        .syntax("enabled(ON|OFF)")
        .about(
            "8.1.0",
            "O(1)",
            "Lets the connection see keys that are due, while data is imported.",
        ),
    row("client|info", 2, info)
        .tips(&["nondeterministic_output"])
        .about("6.2.0", "O(1)", "Describes this connection."),
    row("client|kill", -3, kill)
        .syntax(
            "filter(old-format|new-format([ID client-id]|\
             [TYPE client-type(NORMAL|MASTER|SLAVE|REPLICA|PUBSUB)]|[USER username]|[ADDR addr]|\
             [LADDR laddr]|[SKIPME skipme(YES|NO)]|[MAXAGE maxage]) ...)",
        )
        .flags(ADMIN)
        .about("2.4.0", "O(N) in the connections", "Closes connections."),
    row("client|list", -2, list)
        .syntax("[TYPE client-type(NORMAL|MASTER|REPLICA|PUBSUB)] [ID client-id ...]")
        .flags(ADMIN)
        .tips(&["nondeterministic_output"])
        .about("2.4.0", "O(N) in the connections", "Describes connections."),
    row("client|no-evict", 3, no_evict)
        .syntax("enabled(ON|OFF)")
        .flags(ADMIN)
        .about("7.0.0", "O(1)", "Keeps the connection when memory for clients is short."),
    row("client|no-touch", 3, no_touch)
        .syntax("enabled(ON|OFF)")
        .about("7.2.0", "O(1)", "Lets the connection read without marking keys as used."),
    row("client|pause", -3, pause)
        .syntax("timeout=integer [mode(WRITE|ALL)]")
        .flags(ADMIN)
        .about("3.0.0", "O(1)", "Lets commands wait for some time."),
    row("client|reply", 3, reply_mode)
        .syntax("action(ON|OFF|SKIP)")
        .about("3.2.0", "O(1)", "Chooses whether commands are answered."),
    row("client|setinfo", 4, setinfo)
        .syntax("attr(LIB-NAME libname|LIB-VER libver)")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .about("7.2.0", "O(1)", "Says which library the connection uses."),
    row("client|setname", 3, setname)
        .syntax("connection-name")
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .about("2.6.9", "O(1)", "Names the connection."),
    tracking::TRACKING,
    tracking::TRACKINGINFO,
    row("client|unblock", -3, unblock)
        .syntax("client-id [unblock-type(TIMEOUT|ERROR)]")
        .flags(ADMIN)
        .about("5.0.0", "O(log N)", "Ends the wait of a blocked connection."),
    row("client|unpause", 2, unpause)
        .flags(ADMIN)
        .about("6.2.0", "O(N)", "Ends a pause."),
];

type Handler = for<'a> fn(&mut AdminCtx<'a>, &mut Args<'_>, &mut Reply<'_>) -> Result<()>;

const fn row(name: &'static str, arity: i32, run: Handler) -> Command {
    Command::admin(name, arity, run)
        .flags(ANYTIME)
        .group("connection")
}

fn id(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.int(ctx.session.id() as i64);
    Ok(())
}

fn getname(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let name = ctx.session.client.name.lock();
    reply.bulk_or_null((!name.is_empty()).then_some(&name[..]));
    Ok(())
}

/// A name for a connection, which stays on one line of CLIENT LIST.
pub fn valid_name(name: &[u8]) -> Result<Vec<u8>> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(name.to_vec());
    }
    let text = "ERR Client names cannot contain spaces, newlines or special characters.";
    Err(Error::Plain(text))
}

fn setname(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let name = valid_name(args.take()?)?;
    ctx.session.set_name(name);
    reply.ok();
    Ok(())
}

fn setinfo(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (option, value) = (args.take()?, args.take()?);
    let is_clean = value.iter().all(|byte| (b'!'..=b'~').contains(byte));
    let mut library = ctx.session.client.library.lock();
    let place = match &option.to_ascii_lowercase()[..] {
        b"lib-name" => &mut library.0,
        b"lib-ver" => &mut library.1,
        _ => {
            let option = String::from_utf8_lossy(option);
            return Err(Error::Owned(format!("ERR Unrecognized option '{option}'")));
        }
    };
    if !is_clean {
        let option = String::from_utf8_lossy(option);
        let text = "cannot contain spaces, newlines or special characters.";
        return Err(Error::Owned(format!("ERR {option} {text}")));
    }
    *place = value.to_vec();
    reply.ok();
    Ok(())
}

fn is_on(args: &mut Args<'_>) -> Result<bool> {
    match args.word().as_deref() {
        Some(b"ON") => Ok(true),
        Some(b"OFF") => Ok(false),
        _ => Err(Error::Syntax),
    }
}

fn no_evict(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.session.is_kept = is_on(args)?;
    reply.ok();
    Ok(())
}

fn no_touch(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.session.leaves_clock = is_on(args)?;
    reply.ok();
    Ok(())
}

/// What nobody knows is no error: libraries may say more than this server understands.
fn capa(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let mut words = args.rest();
    if words.any(|word| word.eq_ignore_ascii_case(b"redirect")) {
        ctx.session.client.follows_redirects.store(true, Relaxed);
    }
    reply.ok();
    Ok(())
}

fn import_source(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let is_off = args
        .peek()
        .is_some_and(|word| word.eq_ignore_ascii_case(b"OFF"));
    if !is_off && !ctx.state.config.is_importing() {
        return Err(Error::Plain("ERR Server is not in import mode"));
    }
    ctx.session.is_importer = is_on(args)?;
    reply.ok();
    Ok(())
}

fn reply_mode(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.session.replies = match args.word().as_deref() {
        Some(b"ON") => Replies::On,
        Some(b"OFF") => Replies::Off,
        Some(b"SKIP") if ctx.session.replies == Replies::Off => Replies::Off,
        Some(b"SKIP") => Replies::SkipNext,
        _ => return Err(Error::Syntax),
    };
    if ctx.session.replies == Replies::On {
        reply.ok();
    }
    Ok(())
}

/// The line of a session; its own is brought up to date first.
fn line(ctx: &AdminCtx<'_>, client: &Client) -> Vec<u8> {
    if client.address == ctx.session.address() {
        let buffers = client.facts.lock().buffers;
        ctx.session.publish(ctx.now_ms, buffers);
    }
    let mut line = client.line(ctx.now_ms);
    line.push(b'\n');
    line
}

fn info(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.verbatim("txt", &line(ctx, &ctx.session.client));
    Ok(())
}

fn list(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let filter = Filter::parse(ctx, args, true)?;
    let own = ctx.session.address();
    let spares_self = filter.spares_self.unwrap_or(false);
    let mut text = Vec::new();
    for client in ctx.state.clients.all() {
        let is_spared = spares_self && client.address == own;
        if !is_spared && filter.matches(&client, ctx.now_ms) {
            text.extend(line(ctx, &client));
        }
    }
    reply.verbatim("txt", &text);
    Ok(())
}

fn kill(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if args.len() == 1 {
        let filter = Filter::of_peer(args.take()?);
        if kill_matching(ctx, &filter) == 0 {
            return Err(Error::Plain("ERR No such client"));
        }
        reply.ok();
        return Ok(());
    }
    let filter = Filter::parse(ctx, args, false)?;
    reply.count(kill_matching(ctx, &filter));
    Ok(())
}

fn kill_matching(ctx: &mut AdminCtx<'_>, filter: &Filter) -> usize {
    let own = ctx.session.address();
    let mut n_killed = 0;
    for client in ctx.state.clients.all() {
        let is_spared = filter.spares_self.unwrap_or(true) && client.address == own;
        if is_spared || !filter.matches(&client, ctx.now_ms) {
            continue;
        }
        n_killed += 1;
        if client.address == own {
            ctx.session.is_closing = true;
            continue;
        }
        client.is_killed.store(true, Relaxed);
        let mail = Mail::Kill(client.address);
        ctx.state.mailboxes.post(client.address.group.into(), mail);
    }
    n_killed
}

fn unblock(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let id = args.int()?;
    let error = match args.word().as_deref() {
        None | Some(b"TIMEOUT") => None,
        Some(b"ERROR") => Some("UNBLOCKED client unblocked via CLIENT UNBLOCK"),
        Some(_) => {
            let text = "ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR";
            return Err(Error::Plain(text));
        }
    };
    let client = u64::try_from(id)
        .ok()
        .and_then(|id| ctx.state.clients.get(id));
    let client = client.filter(|client| ctx.state.unblock(client, error));
    reply.int(i64::from(client.is_some()));
    ctx.order = client.map(|client| Order::Unblocked {
        session: client.address.session,
        is_ok: error.is_none(),
    });
    Ok(())
}

fn pause(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let text = "ERR timeout is not an integer or out of range";
    let timeout = parse_i64(args.take()?).ok_or(Error::Plain(text))?;
    let timeout_ms = u64::try_from(timeout).map_err(|_| Error::Plain("ERR timeout is negative"))?;
    let what = match args.word().as_deref() {
        None | Some(b"ALL") => Paused::All,
        Some(b"WRITE") => Paused::Writes,
        Some(_) => return Err(Error::Plain("ERR CLIENT PAUSE mode must be WRITE or ALL")),
    };
    if !args.is_empty() {
        return Err(Error::Plain(
            "ERR unknown subcommand or wrong number of arguments for 'PAUSE'. Try CLIENT HELP.",
        ));
    }
    let until_ms = timeout_ms.saturating_add(ctx.now_ms);
    if until_ms > i64::MAX as u64 {
        return Err(Error::Plain("ERR timeout is out of range"));
    }
    ctx.state
        .pause
        .begin(Cause::Client, what, until_ms, ctx.now_ms);
    ctx.session.is_pausing = true;
    ctx.order = Some(Order::Pause);
    reply.ok();
    Ok(())
}

fn unpause(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.state.pause.end(Cause::Client);
    ctx.state.mailboxes.wake_all();
    reply.ok();
    Ok(())
}
