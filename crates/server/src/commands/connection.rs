//! Connection: AUTH, HELLO, PING, ECHO, SELECT, RESET, QUIT, CLIENT.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use crate::acl::log::Refusal;
use crate::command::context::Order;
use crate::command::traits::{ALWAYS, META};
use crate::command::{AdminCtx, Args, Command, Databases};
use crate::commands::client::{CLIENT, valid_name};
use crate::error::{Error, Result};
use crate::exec::permit::note;
use crate::session::Replies;
use crate::stats::counters::Counter;
use crate::stats::table::REDIS_VERSION;
use resp::reply::{Proto, Reply};

/// The family's table.
pub const COMMANDS: &[Command] = &[
    Command::admin("ping", -1, ping)
        .syntax("[message]")
        .fast()
        .for_subscribers()
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .group("connection")
        .about("1.0.0", "O(1)", "Answers PONG, or the message."),
    Command::admin("echo", 2, echo)
        .syntax("message")
        .fast()
        .flags(META)
        .group("connection")
        .about("1.0.0", "O(1)", "Answers the message."),
    Command::admin("select", 2, select)
        .syntax("index")
        .fast()
        .flags(META)
        .databases(Databases::Named(|_, visit| visit(1)))
        .group("connection")
        .about("1.0.0", "O(1)", "Chooses the connection's database."),
    Command::admin("auth", -2, auth)
        .syntax("[username] password")
        .fast()
        .no_auth()
        .flags(ALWAYS)
        .group("connection")
        .about("1.0.0", "O(N) in the passwords", "Authenticates the connection."),
    Command::admin("hello", -1, hello)
        .syntax("[arguments(protover [AUTH auth(username password)] [SETNAME clientname])]")
        .fast()
        .no_auth()
        .flags(ALWAYS)
        .group("connection")
        .about("6.0.0", "O(1)", "Chooses the protocol version."),
    Command::admin("quit", -1, quit)
        .fast()
        .no_auth()
        .immediate()
        .for_subscribers()
        .flags(ALWAYS)
        .deprecated("7.2.0", "closing the connection")
        .group("connection")
        .about("1.0.0", "O(1)", "Closes the connection."),
    Command::admin("reset", 1, reset)
        .fast()
        .no_auth()
        .immediate()
        .for_subscribers()
        .flags(ALWAYS)
        .group("connection")
        .about("6.2.0", "O(1)", "Puts the connection back into its first state."),
    Command::container("client", CLIENT)
        .group("connection")
        .about("2.4.0", "Depends on the subcommand", "Looks after connections."),
];

fn ping(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if args.len() < 2 && ctx.session.is_subscriber() {
        reply.array(2);
        reply.bulk(b"pong");
        reply.bulk(args.take().unwrap_or_default());
        return Ok(());
    }
    match args.len() {
        0 => reply.simple("PONG"),
        1 => reply.bulk(args.take()?),
        _ => return Err(args.arity_error()),
    }
    Ok(())
}

fn echo(_: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.bulk(args.take()?);
    Ok(())
}

fn select(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let database = args.int32()?;
    if !(0..i32::from(ctx.state.keyspace.n_databases())).contains(&database) {
        return Err(Error::Plain("ERR DB index is out of range"));
    }
    ctx.session.database = database as u16;
    reply.ok();
    Ok(())
}

/// Makes the session this user; `command` is what was asked for it.
fn log_in(ctx: &mut AdminCtx<'_>, user: &[u8], password: &[u8], command: &str) -> Result<()> {
    let acl = &ctx.state.acl;
    if let Some(found) = acl.log_in(user, password) {
        ctx.session.become_user(found.clone(), true);
        // Whoever deletes a user closes its connections: those that are its own by then.
        if acl
            .get(user)
            .is_some_and(|still| Arc::ptr_eq(&still, &found))
        {
            return Ok(());
        }
        ctx.session.is_closing = true;
    }
    ctx.state.stats.count(Counter::DeniedAuth, 1);
    let refusal = Refusal {
        reason: "auth",
        context: if ctx.is_nested || ctx.session.queue.is_some() {
            "multi"
        } else {
            "toplevel"
        },
        object: command.as_bytes().to_vec(),
        username: user.to_vec(),
    };
    note(ctx.state, ctx.session, refusal, ctx.now_ms);
    Err(Error::Plain("WRONGPASS invalid username-password pair or user is disabled."))
}

fn auth(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let is_short = args.len() == 1;
    let (user, password) = match args.len() {
        1 => (&b"default"[..], args.take()?),
        2 => (args.take()?, args.take()?),
        _ => return Err(Error::Syntax),
    };
    if is_short && ctx.state.acl.default_user().rules().needs_no_password() {
        let needless = "ERR AUTH <password> called without any password configured for the default \
                        user. Are you sure your configuration is correct?";
        return Err(Error::Plain(needless));
    }
    log_in(ctx, user, password, "AUTH")?;
    reply.ok();
    Ok(())
}

fn hello(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let mut proto = ctx.session.proto;
    if let Some(version) = args.peek() {
        args.take()?;
        proto = match stdx::number::parse_i64(version) {
            Some(2) => Proto::Resp2,
            Some(3) => Proto::Resp3,
            Some(_) => return Err(Error::Plain("NOPROTO unsupported protocol version")),
            None => {
                let text = "ERR Protocol version is not an integer or out of range";
                return Err(Error::Plain(text));
            }
        };
    }
    let (mut login, mut name) = (None, None);
    while let Some(given) = args.peek() {
        args.take()?;
        match (&given.to_ascii_uppercase()[..], args.len()) {
            (b"AUTH", 2..) => login = Some((args.take()?, args.take()?)),
            (b"SETNAME", 1..) => name = Some(valid_name(args.take()?)?),
            _ => {
                let given = String::from_utf8_lossy(given);
                return Err(Error::Owned(format!("ERR Syntax error in HELLO option '{given}'")));
            }
        }
    }
    if let Some((user, password)) = login {
        log_in(ctx, user, password, "HELLO")?;
    }
    if !ctx.session.is_authenticated && ctx.state.acl.needs_login() {
        let text = "NOAUTH HELLO must be called with the client already authenticated, otherwise \
                    the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the \
                    client and select the RESP protocol version at the same time";
        return Err(Error::Plain(text));
    }
    if let Some(name) = name {
        ctx.session.set_name(name);
    }
    ctx.session.proto = proto;
    reply.set_proto(proto);
    let zone = ctx.state.config.availability_zone();
    reply.map(7 + usize::from(!zone.is_empty()));
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(REDIS_VERSION.as_bytes());
    reply.bulk(b"proto");
    reply.int(if proto == Proto::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(ctx.session.id() as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
    if !zone.is_empty() {
        reply.bulk(b"availability_zone");
        reply.bulk(&zone);
    }
    Ok(())
}

fn quit(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.session.is_closing = true;
    reply.ok();
    Ok(())
}

fn reset(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.session.database = 0;
    ctx.session.proto = Proto::Resp2;
    ctx.session.set_name(Vec::new());
    ctx.session.queue = None;
    ctx.session.replies = Replies::On;
    (ctx.session.leaves_clock, ctx.session.is_kept) = (false, false);
    ctx.session.is_importer = false;
    ctx.session.client.follows_redirects.store(false, Relaxed);
    ctx.session.client.reads_here.store(false, Relaxed);
    if std::mem::take(&mut ctx.session.is_monitor) {
        ctx.state.monitors.remove(ctx.session.address());
    }
    ctx.session.unsubscribe_all(&ctx.state.pubsub);
    ctx.session.end_tracking(&ctx.state.tracking);
    ctx.order = Some(Order::Unwatch);
    let acl = &ctx.state.acl;
    ctx.session
        .become_user(acl.default_user().clone(), !acl.needs_login());
    reply.set_proto(Proto::Resp2);
    reply.simple("RESET");
    Ok(())
}
