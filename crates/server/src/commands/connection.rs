//! Connection: AUTH, HELLO, PING, ECHO, SELECT, RESET, QUIT, CLIENT, and what drivers ask at first.

use crate::command::{AdminCtx, Args, Command};
use crate::error::{Error, Result};
use resp::reply::{Proto, Reply};

/// The family's table.
pub const COMMANDS: &[Command] = &[
    Command::admin("ping", -1, ping)
        .syntax("[message]")
        .fast()
        .group("connection")
        .about("1.0.0", "O(1)", "Answers PONG, or the message."),
    Command::admin("echo", 2, echo)
        .syntax("message")
        .fast()
        .group("connection")
        .about("1.0.0", "O(1)", "Answers the message."),
    Command::admin("select", 2, select)
        .syntax("index")
        .fast()
        .group("connection")
        .about("1.0.0", "O(1)", "Chooses the connection's database."),
    Command::admin("auth", -2, auth)
        .syntax("[username] password")
        .fast()
        .no_auth()
        .group("connection")
        .about("1.0.0", "O(1)", "Authenticates the connection."),
    Command::admin("hello", -1, hello)
        .syntax("[protover [AUTH username password] [SETNAME clientname]]")
        .fast()
        .no_auth()
        .group("connection")
        .about("6.0.0", "O(1)", "Chooses the protocol version."),
    Command::admin("quit", -1, quit)
        .fast()
        .no_auth()
        .group("connection")
        .about("1.0.0", "O(1)", "Closes the connection."),
    Command::admin("reset", 1, reset)
        .fast()
        .no_auth()
        .group("connection")
        .about("6.2.0", "O(1)", "Puts the connection back into its first state."),
    Command::container("client", CLIENT)
        .group("connection")
        .about("2.4.0", "", "Connections."),
    Command::container("command", COMMAND)
        .group("server")
        .about("2.8.13", "", "Commands."),
];

const CLIENT: &[Command] = &[
    Command::admin("id", 2, client_id),
    Command::admin("getname", 2, client_getname),
    Command::admin("setname", 3, client_setname).syntax("connection-name"),
    Command::admin("setinfo", 4, client_setinfo).syntax("LIB-NAME name|LIB-VER version"),
];

const COMMAND: &[Command] = &[
    Command::admin("count", 2, command_count),
    Command::admin("list", 2, command_list),
];

fn ping(_: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
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
    let database = args.int()?;
    if !(0..i64::from(ctx.state.keyspace.n_databases())).contains(&database) {
        return Err(Error::Plain("ERR DB index is out of range"));
    }
    ctx.session.database = database as u16;
    reply.ok();
    Ok(())
}

/// Compares in time that does not depend on where the texts differ.
fn is_same_secret(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (x, y)| diff | (x ^ y)) == 0
}

fn log_in(ctx: &mut AdminCtx<'_>, user: &[u8], password: &[u8]) -> Result<()> {
    let known = ctx.state.config.password();
    if user != b"default" || (!known.is_empty() && !is_same_secret(&known, password)) {
        return Err(Error::Plain("WRONGPASS invalid username-password pair or user is disabled."));
    }
    ctx.session.is_authenticated = true;
    Ok(())
}

fn auth(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (user, password) = match args.len() {
        1 => (&b"default"[..], args.take()?),
        2 => (args.take()?, args.take()?),
        _ => return Err(Error::Syntax),
    };
    if user == b"default" && !ctx.state.config.requires_password() && args.name() == "auth" {
        let needless = "ERR AUTH <password> called without any password configured for the default \
                        user. Are you sure your configuration is correct?";
        return Err(Error::Plain(needless));
    }
    log_in(ctx, user, password)?;
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
    while let Some(word) = args.word() {
        match (&*word, args.len()) {
            (b"AUTH", 2..) => log_in(ctx, args.take()?, args.take()?)?,
            (b"SETNAME", 1..) => ctx.session.name = valid_name(args.take()?)?,
            _ => {
                let word = String::from_utf8_lossy(&word).into_owned();
                return Err(Error::Owned(format!("ERR Syntax error in HELLO option '{word}'")));
            }
        }
    }
    if !ctx.session.is_authenticated {
        let text = "NOAUTH HELLO must be called with the client already authenticated, otherwise \
                    the HELLO <proto> AUTH <user> <pass> option can be used to authenticate the \
                    client and select the RESP protocol version at the same time";
        return Err(Error::Plain(text));
    }
    ctx.session.proto = proto;
    reply.set_proto(proto);
    reply.map(7);
    reply.bulk(b"server");
    reply.bulk(b"redis");
    reply.bulk(b"version");
    reply.bulk(b"8.2.0");
    reply.bulk(b"proto");
    reply.int(if proto == Proto::Resp3 { 3 } else { 2 });
    reply.bulk(b"id");
    reply.int(ctx.session.id as i64);
    reply.bulk(b"mode");
    reply.bulk(b"standalone");
    reply.bulk(b"role");
    reply.bulk(b"master");
    reply.bulk(b"modules");
    reply.array(0);
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
    ctx.session.name.clear();
    ctx.session.is_authenticated = !ctx.state.config.requires_password();
    reply.set_proto(Proto::Resp2);
    reply.simple("RESET");
    Ok(())
}

fn client_id(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.int(ctx.session.id as i64);
    Ok(())
}

fn client_getname(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let name = &ctx.session.name;
    reply.bulk_or_null((!name.is_empty()).then_some(&name[..]));
    Ok(())
}

fn valid_name(name: &[u8]) -> Result<Vec<u8>> {
    if name.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        return Ok(name.to_vec());
    }
    let text = "ERR Client names cannot contain spaces, newlines or special characters.";
    Err(Error::Plain(text))
}

fn client_setname(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    ctx.session.name = valid_name(args.take()?)?;
    reply.ok();
    Ok(())
}

fn client_setinfo(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let (option, value) = (args.take()?, args.take()?);
    let place = match &option.to_ascii_lowercase()[..] {
        b"lib-name" => &mut ctx.session.library.0,
        b"lib-ver" => &mut ctx.session.library.1,
        _ => {
            let option = String::from_utf8_lossy(option);
            return Err(Error::Owned(format!("ERR Unrecognized option '{option}'")));
        }
    };
    if !value.iter().all(|byte| (b'!'..=b'~').contains(byte)) {
        let option = String::from_utf8_lossy(option).to_ascii_lowercase();
        let text = "cannot contain spaces, newlines or special characters.";
        return Err(Error::Owned(format!("ERR {option} {text}")));
    }
    *place = value.to_vec();
    reply.ok();
    Ok(())
}

fn command_count(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(ctx.commands.len());
    Ok(())
}

fn command_list(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.array(ctx.commands.len());
    for name in ctx.commands.keys() {
        reply.bulk(name.as_bytes());
    }
    Ok(())
}
