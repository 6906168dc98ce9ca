//! OBJECT: how a value is stored, and when it was last used.

use datatypes::encoding::table::Record;
use datatypes::home::Payload;
use datatypes::value::encoding_name;
use keyspace::entry::Entry;
use resp::reply::Reply;

use crate::command::{Access, Args, Command, ReadCtx};
use crate::error::{Error, Result};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[Command::container("object", SUBCOMMANDS)
    .group("generic")
    .about("2.2.3", "Depends on the subcommand", "Looks at how values are stored.")];

const SUBCOMMANDS: &[Command] = &[
    Command::read("object|encoding", 3, object_encoding)
        .syntax("key")
        .key(2)
        .no_touch()
        .access(Access::Look)
        .tips(&["nondeterministic_output"])
        .about("2.2.3", "O(1)", "Returns how a value is stored."),
    Command::read("object|freq", 3, object_freq)
        .syntax("key")
        .key(2)
        .no_touch()
        .access(Access::Look)
        .tips(&["nondeterministic_output"])
        .about("4.0.0", "O(1)", "Returns how often a value is accessed, as a logarithm."),
    Command::help("object|help").since("6.2.0"),
    Command::read("object|idletime", 3, object_idletime)
        .syntax("key")
        .key(2)
        .no_touch()
        .access(Access::Look)
        .tips(&["nondeterministic_output"])
        .about("2.2.3", "O(1)", "Returns the seconds since a value was last accessed."),
    Command::read("object|refcount", 3, object_refcount)
        .syntax("key")
        .key(2)
        .no_touch()
        .access(Access::Look)
        .tips(&["nondeterministic_output"])
        .about("2.2.3", "O(1)", "Returns the number of references to a value: one."),
];

fn object_encoding(
    ctx: &mut ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    match ctx.db.entry(args.take()?) {
        Some(entry) => reply.bulk(shown_encoding(&entry).as_bytes()),
        None => reply.null(),
    }
    Ok(())
}

/// `embstr` means, to users, that key and text share one cache line: found by trying the original.
pub fn shown_encoding(entry: &Entry) -> &'static str {
    let key_len = entry.key().len();
    let deadline_len = if key_len < 32 && entry.deadline_ms().is_some() {
        8
    } else {
        0
    };
    match (encoding_name(entry.encoding(), entry.payload()), entry.payload()) {
        ("embstr", Payload::Blob(text)) if key_len + deadline_len + text.len() > 41 => "raw",
        (name, _) => name,
    }
}

fn object_freq(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let clock = ctx.db.access_clock();
    match ctx.db.entry(args.take()?) {
        Some(entry) if clock.counts() => reply.int(clock.counter(&entry).into()),
        Some(_) => {
            return Err(Error::Plain(
                "ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please \
                 note that when switching between policies at runtime LRU and LFU data will take \
                 some time to adjust.",
            ));
        }
        None => reply.null(),
    }
    Ok(())
}

fn object_idletime(
    ctx: &mut ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let clock = ctx.db.access_clock();
    match ctx.db.entry(args.take()?) {
        Some(_) if clock.counts() => {
            return Err(Error::Plain(
                "ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that \
                 when switching between policies at runtime LRU and LFU data will take some time \
                 to adjust.",
            ));
        }
        Some(entry) => reply.int(clock.idle_s(&entry).into()),
        None => reply.null(),
    }
    Ok(())
}

fn object_refcount(
    ctx: &mut ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    match ctx.db.exists(args.take()?) {
        true => reply.int(1),
        false => reply.null(),
    }
    Ok(())
}
