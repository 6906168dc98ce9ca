//! XINFO: what is known of a stream, its groups and their consumers.

use datatypes::stream::group::{Consumer, Group};
use datatypes::stream::{Stream, StreamId};
use resp::reply::Reply;

use super::ids::{write_entry, write_id};
use super::no_group_of;
use super::pending::owner_name;
use crate::command::{Args, Command, ReadCtx};
use crate::error::{Error, Result};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[Command::container("xinfo", SUBCOMMANDS)
    .group("stream")
    .about("5.0.0", "Depends on the subcommand", "Tells about streams.")];

const SUBCOMMANDS: &[Command] = &[
    Command::read("xinfo|consumers", 4, consumers)
        .syntax("key group")
        .key(2)
        .tips(&["nondeterministic_output"])
        .about("5.0.0", "O(1)", "Returns the consumers of a group."),
    Command::read("xinfo|groups", 3, groups)
        .syntax("key")
        .key(2)
        .about("5.0.0", "O(1)", "Returns the groups of a stream."),
    Command::help("xinfo|help"),
    Command::read("xinfo|stream", -3, stream)
        .syntax("key [full-block(full(FULL) [COUNT count])]")
        .key(2)
        .about("5.0.0", "O(1)", "Returns what is known of a stream."),
];

fn found<'d>(ctx: &'d ReadCtx<'_>, key: &[u8]) -> Result<&'d Stream> {
    ctx.db.stream(key)?.ok_or(Error::NoSuchKey)
}

fn consumers(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let now_ms = ctx.now_ms() as i64;
    let (key, name) = (args.take()?, args.take()?);
    let group = found(ctx, key)?
        .group(name)
        .ok_or_else(|| no_group_of(key, name))?;
    reply.array(group.n_consumers());
    for (_, consumer) in group.consumers() {
        reply.map(4);
        reply.bulk(b"name");
        reply.bulk(consumer.name());
        reply.bulk(b"pending");
        reply.count(consumer.n_pending());
        reply.bulk(b"idle");
        reply.int((now_ms - consumer.seen_ms as i64).max(0));
        reply.bulk(b"inactive");
        reply.int(
            consumer
                .active_ms
                .map_or(-1, |active_ms| now_ms - active_ms as i64),
        );
    }
    Ok(())
}

fn groups(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let stream = found(ctx, args.take()?)?;
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(6);
        reply.bulk(b"name");
        reply.bulk(name);
        reply.bulk(b"consumers");
        reply.count(group.n_consumers());
        reply.bulk(b"pending");
        reply.count(group.n_pending());
        write_position(reply, stream, group);
    }
    Ok(())
}

/// How far a group has read: three pairs.
fn write_position(reply: &mut Reply<'_>, stream: &Stream, group: &Group) {
    reply.bulk(b"last-delivered-id");
    write_id(reply, group.last_id);
    for (name, number) in [
        (&b"entries-read"[..], group.entries_read),
        (b"lag", stream.lag(group)),
    ] {
        reply.bulk(name);
        match number {
            Some(number) => reply.int(number as i64),
            None => reply.null(),
        }
    }
}

fn stream(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let now_ms = ctx.now_ms();
    let stream = found(ctx, args.take()?)?;
    let misfit = Error::Plain(
        "ERR unknown subcommand or wrong number of arguments for 'stream'. Try XINFO HELP.",
    );
    let n_of_producers = match stream.idempotency() {
        Some(_) => N_OF_PRODUCERS,
        None => 0,
    };
    if args.is_empty() {
        reply.map(10 + n_of_producers);
        write_facts(reply, stream, now_ms);
        return write_ends(reply, stream);
    }
    if !matches!(args.len(), 1 | 3) || !args.eat(b"FULL") {
        return Err(misfit);
    }
    let mut count = 10;
    if !args.is_empty() {
        if !args.eat(b"COUNT") {
            return Err(misfit);
        }
        count = usize::try_from(args.int()?).unwrap_or(10);
    }
    reply.map(9 + n_of_producers);
    write_facts(reply, stream, now_ms);
    write_all(reply, stream, if count == 0 { usize::MAX } else { count })
}

/// How many pairs tell of the ids of producers.
const N_OF_PRODUCERS: usize = 6;

/// What both forms begin with: seven pairs, and those of producers if any has named himself.
fn write_facts(reply: &mut Reply<'_>, stream: &Stream, now_ms: u64) {
    let facts = stream.facts();
    let n_blocks = stream.n_blocks();
    let counts = [
        (&b"length"[..], stream.len()),
        (b"radix-tree-keys", n_blocks),
        // Nodes of the tree beside its leaves: its root.
        (b"radix-tree-nodes", n_blocks + 1),
    ];
    for (name, count) in counts {
        reply.bulk(name);
        reply.count(count);
    }
    reply.bulk(b"last-generated-id");
    write_id(reply, facts.last_id);
    reply.bulk(b"max-deleted-entry-id");
    write_id(reply, facts.max_deleted_id);
    reply.bulk(b"entries-added");
    reply.int(facts.entries_added as i64);
    reply.bulk(b"recorded-first-entry-id");
    write_id(reply, stream.first_id());
    let Some(known) = stream.idempotency() else {
        return;
    };
    let (n_producers, n_ids) = known.n_tracked(now_ms);
    let numbers: [(&[u8], u64); N_OF_PRODUCERS] = [
        (b"idmp-duration", known.terms().duration_s),
        (b"idmp-maxsize", known.terms().max_entries),
        (b"pids-tracked", n_producers as u64),
        (b"iids-tracked", n_ids as u64),
        (b"iids-added", known.n_added),
        (b"iids-duplicates", known.n_duplicates),
    ];
    for (name, number) in numbers {
        reply.bulk(name);
        reply.int(number as i64);
    }
}

fn write_ends(reply: &mut Reply<'_>, stream: &Stream) -> Result<()> {
    reply.bulk(b"groups");
    reply.count(stream.groups().len());
    let mut entries = stream.range(StreamId::MIN..=StreamId::MAX);
    let ends = [
        (&b"first-entry"[..], entries.next()),
        (b"last-entry", stream.last_entry()),
    ];
    for (name, entry) in ends {
        reply.bulk(name);
        match entry {
            Some(entry) => write_entry(reply, entry)?,
            None => reply.null(),
        }
    }
    Ok(())
}

/// Entries, groups, consumers and what is pending, up to `count` of each list.
fn write_all(reply: &mut Reply<'_>, stream: &Stream, count: usize) -> Result<()> {
    reply.bulk(b"entries");
    reply.array(stream.len().min(count));
    for entry in stream.range(StreamId::MIN..=StreamId::MAX).take(count) {
        write_entry(reply, entry)?;
    }
    reply.bulk(b"groups");
    reply.array(stream.groups().len());
    for (name, group) in stream.groups() {
        reply.map(7);
        reply.bulk(b"name");
        reply.bulk(name);
        write_position(reply, stream, group);
        reply.bulk(b"pel-count");
        reply.count(group.n_pending());
        reply.bulk(b"pending");
        reply.array(group.n_pending().min(count));
        for (id, pending) in group.pending(StreamId::MIN..=StreamId::MAX).take(count) {
            reply.array(4);
            write_id(reply, id);
            reply.bulk(owner_name(group, pending));
            reply.int(pending.delivered_ms as i64);
            reply.int(pending.n_deliveries as i64);
        }
        reply.bulk(b"consumers");
        reply.array(group.n_consumers());
        for (_, consumer) in group.consumers() {
            write_consumer(reply, group, consumer, count);
        }
    }
    Ok(())
}

fn write_consumer(reply: &mut Reply<'_>, group: &Group, consumer: &Consumer, count: usize) {
    reply.map(5);
    reply.bulk(b"name");
    reply.bulk(consumer.name());
    reply.bulk(b"seen-time");
    reply.int(consumer.seen_ms as i64);
    reply.bulk(b"active-time");
    reply.int(consumer.active_ms.map_or(-1, |active_ms| active_ms as i64));
    reply.bulk(b"pel-count");
    reply.count(consumer.n_pending());
    reply.bulk(b"pending");
    reply.array(consumer.n_pending().min(count));
    for id in consumer.pending(StreamId::MIN..=StreamId::MAX).take(count) {
        let pending = group.pending_at(id);
        reply.array(3);
        write_id(reply, id);
        reply.int(pending.map_or(0, |pending| pending.delivered_ms as i64));
        reply.int(pending.map_or(0, |pending| pending.n_deliveries as i64));
    }
}
