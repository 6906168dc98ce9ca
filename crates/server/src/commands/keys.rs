//! Keys, whatever they hold: existence, deadlines, names, and walks over the keyspace.
//!
//! Every way to set a deadline ends in `expire_at`: one that has passed deletes the key and is
//! propagated as `DEL`, any other as `PEXPIREAT`, so that whoever repeats it needs no clock.

use datatypes::encoding::table::Record;
use keyspace::entry::Entry;
use resp::reply::Reply;

use crate::command::context::Removal;
use crate::command::event::Event;
use crate::command::grammar::{self, Clock, ExpireConditions, ScanOptions};
use crate::command::{Access, Args, Category, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::read("dbsize", 1, dbsize)
        .whole_keyspace()
        .fast()
        .categories(&[Category::Keyspace])
        .tips(&["request_policy:all_shards", "response_policy:agg_sum"])
        .group("server")
        .about("1.0.0", "O(1)", "Returns the number of keys in the database."),
    Command::write("del", -2, del)
        .syntax("key ...")
        .keys(1, -1, 1)
        .access(Access::Delete)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .group("generic")
        .about("1.0.0", "O(N) in the keys", "Deletes keys."),
    Command::read("exists", -2, exists)
        .syntax("key ...")
        .keys(1, -1, 1)
        .fast()
        .no_touch()
        .access(Access::Look)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .group("generic")
        .about("1.0.0", "O(N) in the keys", "Counts the keys that exist."),
    Command::write("expire", -3, expire)
        .syntax("key seconds [condition(NX|XX|GT|LT)]")
        .key(1)
        .fast()
        .access(Access::Update)
        .group("generic")
        .about("1.0.0", "O(1)", "Sets the deadline of a key in seconds from now."),
    Command::write("expireat", -3, expireat)
        .syntax("key unix-time-seconds [condition(NX|XX|GT|LT)]")
        .key(1)
        .fast()
        .access(Access::Update)
        .group("generic")
        .about("1.2.0", "O(1)", "Sets the deadline of a key as Unix time in seconds."),
    Command::read("expiretime", 2, expiretime)
        .syntax("key")
        .key(1)
        .fast()
        .no_touch()
        .group("generic")
        .about("7.0.0", "O(1)", "Returns the deadline of a key as Unix time in seconds."),
    Command::read("keys", 2, keys)
        .syntax("pattern")
        .whole_keyspace()
        .categories(&[Category::Dangerous])
        .tips(&["nondeterministic_output_order", "request_policy:all_shards"])
        .group("generic")
        .about("1.0.0", "O(N) in all keys", "Returns the names of all keys that match."),
    Command::write("persist", 2, persist)
        .syntax("key")
        .key(1)
        .fast()
        .access(Access::Update)
        .group("generic")
        .about("2.2.0", "O(1)", "Removes the deadline of a key."),
    Command::write("pexpire", -3, pexpire)
        .syntax("key milliseconds [condition(NX|XX|GT|LT)]")
        .key(1)
        .fast()
        .access(Access::Update)
        .group("generic")
        .about("2.6.0", "O(1)", "Sets the deadline of a key in milliseconds from now."),
    Command::write("pexpireat", -3, pexpireat)
        .syntax("key unix-time-milliseconds [condition(NX|XX|GT|LT)]")
        .key(1)
        .fast()
        .access(Access::Update)
        .group("generic")
        .about("2.6.0", "O(1)", "Sets the deadline of a key as Unix time in milliseconds."),
    Command::read("pexpiretime", 2, pexpiretime)
        .syntax("key")
        .key(1)
        .fast()
        .no_touch()
        .group("generic")
        .about("7.0.0", "O(1)", "Returns the deadline of a key as Unix time in milliseconds."),
    Command::read("pttl", 2, pttl)
        .syntax("key")
        .key(1)
        .fast()
        .no_touch()
        .tips(&["nondeterministic_output"])
        .group("generic")
        .about("2.6.0", "O(1)", "Returns the milliseconds until a key expires."),
    Command::read("randomkey", 1, randomkey)
        .whole_keyspace()
        .tips(&[
            "nondeterministic_output",
            "request_policy:all_shards",
            "response_policy:special",
        ])
        .group("generic")
        .about("1.0.0", "O(1)", "Returns the name of a random key."),
    Command::write("rename", 3, rename)
        .syntax("key newkey")
        .keys(1, 2, 1)
        .accesses(Access::Take, Access::Overwrite)
        .group("generic")
        .about("1.0.0", "O(1)", "Gives a key another name, replacing what was there."),
    Command::write("renamenx", 3, renamenx)
        .syntax("key newkey")
        .keys(1, 2, 1)
        .fast()
        .accesses(Access::Take, Access::Create)
        .group("generic")
        .about("1.0.0", "O(1)", "Gives a key another name that is not in use."),
    Command::read("scan", -2, scan)
        .syntax("cursor [MATCH pattern] [COUNT count] [TYPE type]")
        .whole_keyspace()
        .tips(&[
            "nondeterministic_output",
            "request_policy:special",
            "response_policy:special",
        ])
        .group("generic")
        .about("2.8.0", "O(1) for a call, O(N) for a full walk", "Walks over the keys in steps."),
    Command::read("touch", -2, exists)
        .syntax("key ...")
        .keys(1, -1, 1)
        .fast()
        .access(Access::Look)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .group("generic")
        .about("3.2.1", "O(N) in the keys", "Marks keys as accessed now; counts those that exist."),
    Command::read("ttl", 2, ttl)
        .syntax("key")
        .key(1)
        .fast()
        .no_touch()
        .tips(&["nondeterministic_output"])
        .group("generic")
        .about("1.0.0", "O(1)", "Returns the seconds until a key expires."),
    Command::read("type", 2, type_of)
        .syntax("key")
        .key(1)
        .fast()
        .no_touch()
        .access(Access::Look)
        .group("generic")
        .about("1.0.0", "O(1)", "Returns the type of the value at a key."),
    Command::write("unlink", -2, del)
        .syntax("key ...")
        .keys(1, -1, 1)
        .fast()
        .access(Access::Delete)
        .tips(&["request_policy:multi_shard", "response_policy:agg_sum"])
        .group("generic")
        .about("4.0.0", "O(1) for each key", "Deletes keys; big values are freed elsewhere."),
];

/// The types that SCAN knows, by name.
const TYPES: &[&str] = &["string", "list", "set", "zset", "hash", "stream"];

fn del(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let mut deleted = 0;
    for key in args.rest() {
        if ctx.db.remove(key) {
            ctx.changed(Event::generic("del"), key);
            deleted += 1;
        }
    }
    reply.int(deleted);
    Ok(())
}

fn exists(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(args.rest().filter(|key| ctx.db.exists(key)).count());
    Ok(())
}

fn type_of(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let kind = ctx.db.kind(args.take()?);
    reply.simple(kind.map_or("none", |kind| kind.name()));
    Ok(())
}

fn ttl(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    remaining(ctx, args, reply, in_seconds)
}

fn pttl(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    remaining(ctx, args, reply, |ms| ms)
}

fn remaining(
    ctx: &mut ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    unit: fn(i64) -> i64,
) -> Result<()> {
    let now_ms = ctx.now_ms();
    let deadline = ctx.db.deadline_ms(args.take()?);
    write_time(reply, deadline, |deadline_ms| unit(deadline_ms.saturating_sub(now_ms) as i64));
    Ok(())
}

fn expiretime(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let deadline = ctx.db.deadline_ms(args.take()?);
    write_time(reply, deadline, |deadline_ms| in_seconds(deadline_ms as i64));
    Ok(())
}

fn pexpiretime(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let deadline = ctx.db.deadline_ms(args.take()?);
    write_time(reply, deadline, |deadline_ms| deadline_ms as i64);
    Ok(())
}

/// Rounded to the nearest.
fn in_seconds(ms: i64) -> i64 {
    ms.saturating_add(500) / 1000
}

fn write_time(reply: &mut Reply<'_>, deadline: Option<Option<u64>>, time: impl FnOnce(u64) -> i64) {
    reply.int(match deadline {
        None => -2,
        Some(None) => -1,
        Some(Some(deadline_ms)) => time(deadline_ms),
    });
}

fn expire(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    expire_at(ctx, args, reply, Clock::Seconds)
}

fn pexpire(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    expire_at(ctx, args, reply, Clock::Milliseconds)
}

fn expireat(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    expire_at(ctx, args, reply, Clock::UnixSeconds)
}

fn pexpireat(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    expire_at(ctx, args, reply, Clock::UnixMilliseconds)
}

fn expire_at(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    clock: Clock,
) -> Result<()> {
    let (key, number) = (args.take()?, args.take()?);
    let conditions = ExpireConditions::parse(args)?;
    let number = stdx::number::parse_i64(number).ok_or(Error::NotAnInteger)?;
    let now_ms = ctx.now_ms();
    let new_ms = clock
        .unix_ms(number, ctx.present_ms())
        .ok_or(Error::InvalidExpire(args.name()))?;

    let current = ctx.db.deadline_ms(key);
    if !current.is_some_and(|current_ms| conditions.hold(current_ms, new_ms)) {
        reply.int(0);
        return Ok(());
    }
    match u64::try_from(new_ms) {
        _ if ctx.directives.is_importing && new_ms <= 0 => set_deadline(ctx, key, 1, false),
        Ok(deadline_ms) if deadline_ms > now_ms || ctx.directives.is_importing => {
            set_deadline(ctx, key, deadline_ms, clock == Clock::UnixMilliseconds);
        }
        _ => {
            ctx.db.remove(key);
            ctx.changed(Event::generic("del"), key);
            ctx.propagate_removal(Removal::Expired, key);
        }
    }
    reply.int(1);
    Ok(())
}

/// The journal gets the command itself if it `is_absolute`.
fn set_deadline(ctx: &mut WriteCtx<'_>, key: &[u8], deadline_ms: u64, is_absolute: bool) {
    ctx.db.set_deadline(key, Some(deadline_ms));
    ctx.changed(Event::generic("expire"), key);
    if !is_absolute {
        ctx.propagate(&[b"PEXPIREAT", key, deadline_ms.to_string().as_bytes()]);
    }
}

fn persist(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let has_deadline = ctx.db.deadline_ms(key).flatten().is_some();
    if has_deadline {
        ctx.db.set_deadline(key, None);
        ctx.changed(Event::generic("persist"), key);
    }
    reply.int(i64::from(has_deadline));
    Ok(())
}

fn rename(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (from, to) = (args.take()?, args.take()?);
    if !ctx.db.exists(from) {
        return Err(Error::NoSuchKey);
    }
    if from != to {
        move_entry(ctx, from, to);
    }
    reply.ok();
    Ok(())
}

fn renamenx(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (from, to) = (args.take()?, args.take()?);
    if !ctx.db.exists(from) {
        return Err(Error::NoSuchKey);
    }
    let is_free = !ctx.db.exists(to);
    if is_free {
        move_entry(ctx, from, to);
    }
    reply.int(i64::from(is_free));
    Ok(())
}

fn move_entry(ctx: &mut WriteCtx<'_>, from: &[u8], to: &[u8]) {
    if let Some(entry) = ctx.db.take(from) {
        ctx.db.put_entry(to, entry);
        ctx.changed(Event::generic("rename_from"), from);
        ctx.changed(Event::generic("rename_to"), to);
    }
}

fn keys(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let pattern = args.take()?;
    let all = pattern == b"*";
    let array = reply.array_later();
    let mut found = 0;
    ctx.db.each(&mut |entry: &Entry| {
        if all || stdx::glob::matches(pattern, entry.key(), false) {
            reply.bulk(entry.key());
            found += 1;
        }
    });
    reply.finish(array, found);
    Ok(())
}

fn scan(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let mut cursor = grammar::cursor(args)?;
    let options = ScanOptions::parse(args)?;
    if let Some(kind) = options.kind.filter(|kind| !is_type(kind)) {
        let name = String::from_utf8_lossy(kind).replace(['\r', '\n'], " ");
        return Err(Error::Owned(format!("ERR unknown type name '{name}'")));
    }
    let (mut visited, mut found) = (0, Vec::new());
    let steps_max = options.count.saturating_mul(10);
    for _ in 0..steps_max {
        cursor = ctx.db.scan_all(cursor, &mut |entry: &Entry, is_due| {
            visited += usize::from(!is_due);
            let is_wanted = options.matches(entry.key()) && is_of(entry, options.kind);
            match (is_wanted, is_due) {
                (true, true) => ctx.db.note_due(entry.key()),
                (true, false) => found.push(entry.key().to_vec()),
                (false, _) => {}
            }
        });
        if cursor == 0 || visited >= options.count {
            break;
        }
    }
    reply.array(2);
    reply.bulk(cursor.to_string().as_bytes());
    reply.array(found.len());
    for key in &found {
        reply.bulk(key);
    }
    Ok(())
}

fn is_type(name: &[u8]) -> bool {
    TYPES
        .iter()
        .any(|known| known.as_bytes().eq_ignore_ascii_case(name))
}

fn is_of(entry: &Entry, kind: Option<&[u8]>) -> bool {
    let name = entry.encoding().kind().name().as_bytes();
    kind.is_none_or(|kind| name.eq_ignore_ascii_case(kind))
}

fn randomkey(ctx: &mut ReadCtx<'_>, _args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let random = ctx.random();
    reply.bulk_or_null(ctx.db.random_key(random).as_deref());
    Ok(())
}

fn dbsize(ctx: &mut ReadCtx<'_>, _args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(ctx.db.len());
    Ok(())
}
