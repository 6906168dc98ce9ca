//! DUMP and RESTORE: one value as bytes of an RDB file, and back.

use keyspace::db::Made;
use rdb::payload;
use resp::reply::Reply;

use crate::command::context::Removal;
use crate::command::event::Event;
use crate::command::{Access, Args, Category, Command, Flag, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::read("dump", 2, dump)
        .syntax("key")
        .key(1)
        .categories(&[Category::Keyspace])
        .tips(&["nondeterministic_output"])
        .group("generic")
        .about("2.6.0", "O(N) in the bytes of the value", "Returns a value as bytes to restore."),
    RESTORE,
    Command {
        name: "restore-asking",
        ..RESTORE
    }
    .flags(&[Flag::Asking])
    .group("server")
    .about("3.0.0", "O(N) in the bytes of the value", "RESTORE, for a slot that moves."),
];

const RESTORE: Command = Command::write("restore", -4, restore)
    .syntax(
        "key ttl=integer serialized-value [REPLACE] [ABSTTL] [IDLETIME seconds=integer] \
         [FREQ frequency=integer]",
    )
    .key(1)
    .deny_oom()
    .access(Access::Overwrite)
    .categories(&[Category::Dangerous, Category::Keyspace])
    .group("generic")
    .about("2.6.0", "O(N) in the bytes of the value", "Makes a key of what DUMP has returned.");

fn dump(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let packs = ctx.directives.packs_strings;
    match ctx.db.entry(args.take()?) {
        Some(entry) => reply.bulk(&payload::of_value(entry.encoding(), entry.payload(), packs)),
        None => reply.null(),
    }
    Ok(())
}

#[derive(Default)]
struct Options {
    replaces: bool,
    is_absolute: bool,
    idle_s: Option<u64>,
    frequency: Option<u8>,
}

impl Options {
    fn parse(args: &mut Args<'_>) -> Result<Options> {
        let mut options = Options::default();
        while let Some(word) = args.word() {
            match &*word {
                b"REPLACE" => options.replaces = true,
                b"ABSTTL" => options.is_absolute = true,
                b"IDLETIME" if options.frequency.is_none() => {
                    let idle_s = u64::try_from(args.int()?);
                    let wrong = Error::Plain("ERR Invalid IDLETIME value, must be >= 0");
                    options.idle_s = Some(idle_s.map_err(|_| wrong)?);
                }
                b"FREQ" if options.idle_s.is_none() => {
                    let frequency = u8::try_from(args.int()?);
                    let wrong = Error::Plain("ERR Invalid FREQ value, must be >= 0 and <= 255");
                    options.frequency = Some(frequency.map_err(|_| wrong)?);
                }
                _ => return Err(Error::Syntax),
            }
        }
        Ok(options)
    }
}

fn restore(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, ttl, bytes) = (args.take()?, args.take()?, args.take()?);
    let options = Options::parse(args)?;
    if !options.replaces && ctx.db.exists(key) {
        return Err(Error::Plain("BUSYKEY Target key name already exists."));
    }
    let ttl = stdx::number::parse_i64(ttl).ok_or(Error::NotAnInteger)?;
    let ttl =
        u64::try_from(ttl).map_err(|_| Error::Plain("ERR Invalid TTL value, must be >= 0"))?;
    let (body, version) = payload::verified(bytes, ctx.directives.demands)
        .map_err(|_| Error::Plain("ERR DUMP payload version or checksum are wrong"))?;
    let value = payload::value(body, version, ctx.limits()).map_err(|error| {
        ctx.effects
            .notes
            .push(format!("RESTORE refused a payload: {error}"));
        Error::Plain("ERR Bad data format")
    })?;
    reply.ok();

    let deadline_ms = match ttl {
        0 => None,
        _ if options.is_absolute => Some(ttl),
        _ => Some(ctx.present_ms().saturating_add(ttl).min(i64::MAX as u64)),
    };
    if deadline_ms.is_some_and(|deadline_ms| deadline_ms <= ctx.now_ms()) {
        if ctx.db.remove(key) {
            ctx.changed(Event::generic("del"), key);
            ctx.propagate_removal(Removal::Dropped, key);
        }
        return Ok(());
    }
    let made = Made::new(key, deadline_ms, value);
    ctx.db.put_made(made, options.idle_s, options.frequency);
    ctx.changed(Event::generic("restore"), key);
    if let Some(deadline_ms) = deadline_ms.filter(|_| !options.is_absolute) {
        let at = deadline_ms.to_string();
        let mut command = vec![&b"RESTORE"[..], key, at.as_bytes(), bytes];
        command.extend(options.replaces.then_some(&b"REPLACE"[..]));
        command.push(b"ABSTTL");
        ctx.propagate(&command);
    }
    Ok(())
}
