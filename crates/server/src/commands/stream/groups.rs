//! Groups of consumers: making and deleting them, and acknowledging.

use datatypes::stream::StreamId;
use datatypes::stream::group::Group;
use resp::reply::Reply;

use super::ids::{self, IdText};
use super::no_group_of;
use crate::command::event::Event;
use crate::command::{Access, Args, Command, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command::write("xack", -4, xack)
        .syntax("key group id ...")
        .key(1)
        .fast()
        .access(Access::Update)
        .group("stream")
        .about("5.0.0", "O(1) per id", "Acknowledges deliveries."),
    Command::container("xgroup", SUBCOMMANDS)
        .group("stream")
        .about("5.0.0", "Depends on the subcommand", "Manages groups of consumers."),
];

const SUBCOMMANDS: &[Command] = &[
    Command::write("xgroup|create", -5, create)
        .syntax(
            "key group id-selector(id|new-id($)) [mkstream(MKSTREAM)] \
             [ENTRIESREAD entriesread=integer]",
        )
        .key(2)
        .deny_oom()
        .access(Access::Insert)
        .about("5.0.0", "O(1)", "Makes a group, which reads on from an id."),
    Command::write("xgroup|createconsumer", 5, create_consumer)
        .syntax("key group consumer")
        .key(2)
        .deny_oom()
        .access(Access::Insert)
        .about("6.2.0", "O(1)", "Makes a consumer of a group."),
    Command::write("xgroup|delconsumer", 5, delete_consumer)
        .syntax("key group consumer")
        .key(2)
        .access(Access::Remove)
        .about("5.0.0", "O(1)", "Deletes a consumer and what is pending for it."),
    Command::write("xgroup|destroy", 4, destroy)
        .syntax("key group")
        .key(2)
        .access(Access::Remove)
        .about("5.0.0", "O(N) in the pending deliveries", "Deletes a group."),
    Command::help("xgroup|help"),
    Command::write("xgroup|setid", -5, set_id)
        .syntax("key group id-selector(id|new-id($)) [ENTRIESREAD entriesread=integer]")
        .key(2)
        .access(Access::Update)
        .about("5.0.0", "O(1)", "Sets from where a group reads on."),
];

const NO_KEY: Error = Error::Plain(
    "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use \
     the MKSTREAM option to create an empty stream automatically.",
);

/// The error for options that do not fit.
fn misfit(subcommand: &'static str) -> Error {
    Error::Owned(format!(
        "ERR unknown subcommand or wrong number of arguments for '{subcommand}'. Try XGROUP HELP."
    ))
}

/// `[MKSTREAM] [ENTRIESREAD n]`; a subcommand without the first has no slot for it.
fn options(
    args: &mut Args<'_>,
    subcommand: &'static str,
    mut makes_stream: Option<&mut bool>,
) -> Result<Option<u64>> {
    let mut entries_read = None;
    while !args.is_empty() {
        if let Some(makes_stream) = &mut makes_stream
            && args.eat(b"MKSTREAM")
        {
            **makes_stream = true;
        } else if args.len() > 1 && args.eat(b"ENTRIESREAD") {
            entries_read = match args.int()? {
                -1 => None,
                number => Some(u64::try_from(number).map_err(|_| {
                    Error::Plain("ERR value for ENTRIESREAD must be positive or -1")
                })?),
            };
        } else {
            return Err(misfit(subcommand));
        }
    }
    Ok(entries_read)
}

fn create(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, name, from) = (args.take()?, args.take()?, args.take()?);
    let mut makes_stream = false;
    let entries_read = options(args, "create", Some(&mut makes_stream))?;
    let facts = match ctx.db.stream(key)? {
        None if !makes_stream => return Err(NO_KEY),
        None => None,
        Some(stream) => Some(stream.facts()),
    };
    let added = facts.map_or(0, |facts| facts.entries_added);
    let entries_read = entries_read.map(|read| read.min(added));
    let last_id = facts.map(|facts| facts.last_id);
    let from = match from {
        b"$" => last_id.unwrap_or_default(),
        id => ids::parse(id, 0)?,
    };
    let group = Group::new(from, entries_read);
    if !ctx.db.stream_or_new(key)?.add_group(name, group) {
        return Err(Error::Plain("BUSYGROUP Consumer Group name already exists"));
    }
    let event = Event::stream("xgroup-create");
    match last_id {
        None => ctx.grew(event, key),
        Some(_) => ctx.altered(event, key),
    }
    let id = IdText::new(from);
    let mut record: Vec<&[u8]> = vec![b"XGROUP", b"CREATE", key, name, id.as_bytes()];
    if makes_stream {
        record.push(b"MKSTREAM");
    }
    let read = entries_read.map(|read| read.to_string());
    if let Some(read) = &read {
        record.extend([b"ENTRIESREAD", read.as_bytes()]);
    }
    ctx.propagate(&record);
    reply.ok();
    Ok(())
}

fn set_id(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, name, from) = (args.take()?, args.take()?, args.take()?);
    let entries_read = options(args, "setid", None)?;
    let mut stream = ctx.db.stream_mut(key)?.ok_or(NO_KEY)?;
    let facts = stream.facts();
    let group = stream
        .group_mut(name)
        .ok_or_else(|| no_group_of(key, name))?;
    group.last_id = match from {
        b"$" => facts.last_id,
        id => ids::parse_wide(id, 0)?,
    };
    group.entries_read = entries_read.map(|read| read.min(facts.entries_added));
    propagate_position(ctx, key, name)?;
    ctx.altered(Event::stream("xgroup-setid"), key);
    reply.ok();
    Ok(())
}

/// Journals how far a group has read.
pub fn propagate_position(ctx: &mut WriteCtx<'_>, key: &[u8], name: &[u8]) -> Result<()> {
    let Some(group) = ctx.db.stream(key)?.and_then(|stream| stream.group(name)) else {
        return Ok(());
    };
    let id = IdText::new(group.last_id);
    let read = group
        .entries_read
        .map_or("-1".to_owned(), |read| read.to_string());
    let id = id.as_bytes();
    ctx.propagate(&[
        b"XGROUP",
        b"SETID",
        key,
        name,
        id,
        b"ENTRIESREAD",
        read.as_bytes(),
    ]);
    Ok(())
}

/// Says that a command made a consumer, which nothing else may tell.
pub fn note_new_consumer(ctx: &mut WriteCtx<'_>, key: &[u8], name: &[u8], consumer: &[u8]) {
    announce_new_consumer(ctx, key);
    journal_new_consumer(ctx, key, name, consumer);
}

/// Counts and announces a consumer that a command made.
pub fn announce_new_consumer(ctx: &mut WriteCtx<'_>, key: &[u8]) {
    ctx.altered(Event::stream("xgroup-createconsumer"), key);
}

/// Journals it.
pub fn journal_new_consumer(ctx: &mut WriteCtx<'_>, key: &[u8], name: &[u8], consumer: &[u8]) {
    ctx.propagate(&[b"XGROUP", b"CREATECONSUMER", key, name, consumer]);
}

fn create_consumer(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let (key, name, consumer) = (args.take()?, args.take()?, args.take()?);
    let now_ms = ctx.present_ms();
    let mut stream = ctx.db.stream_mut(key)?.ok_or(NO_KEY)?;
    let group = stream
        .group_mut(name)
        .ok_or_else(|| no_group_of(key, name))?;
    let (_, is_new) = group.consumer_or_new(consumer, now_ms);
    if is_new {
        note_new_consumer(ctx, key, name, consumer);
    }
    reply.int(is_new.into());
    Ok(())
}

fn delete_consumer(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let (key, name, consumer) = (args.take()?, args.take()?, args.take()?);
    let mut stream = ctx.db.stream_mut(key)?.ok_or(NO_KEY)?;
    let group = stream
        .group_mut(name)
        .ok_or_else(|| no_group_of(key, name))?;
    let n_pending = group.delete_consumer(consumer);
    if n_pending.is_some() {
        ctx.altered(Event::stream("xgroup-delconsumer"), key);
    }
    reply.count(n_pending.unwrap_or(0));
    Ok(())
}

fn destroy(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, name) = (args.take()?, args.take()?);
    let mut stream = ctx.db.stream_mut(key)?.ok_or(NO_KEY)?;
    let was_there = stream.delete_group(name);
    if was_there {
        ctx.altered(Event::stream("xgroup-destroy"), key);
        ctx.wake(key); // whoever reads for the group is told
    }
    reply.int(was_there.into());
    Ok(())
}

fn xack(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, name) = (args.take()?, args.take()?);
    let mut stream = ctx.db.stream_mut(key)?;
    let group = stream.as_mut().and_then(|stream| stream.group_mut(name));
    let Some(group) = group else {
        let _ = args.rest();
        reply.int(0);
        return Ok(());
    };
    let ids: Vec<StreamId> = args
        .rest()
        .map(|id| ids::parse(id, 0))
        .collect::<Result<_>>()?;
    let n_acknowledged = ids.iter().filter(|id| group.acknowledge(**id)).count();
    if n_acknowledged > 0 {
        ctx.altered(Event::SILENT, key);
    }
    reply.count(n_acknowledged);
    Ok(())
}
