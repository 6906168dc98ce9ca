//! The commands of sets. Unions, intersections and differences are in `algebra`.
//!
//! What was popped at random is propagated by name: as SREM, or as DEL when the set is gone.

pub mod algebra;

use datatypes::set::SetRef;
use resp::reply::Reply;

use super::hash::{bulk_item, empty_scan, passes, random_count, scan_reply};
use crate::command::context::{Removal, next_random};
use crate::command::event::Event;
use crate::command::grammar::{self, NOT_POSITIVE, ScanOptions, at_least};
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command::write("sadd", -3, sadd)
        .syntax("key member ...")
        .key(1)
        .element(2)
        .fast()
        .deny_oom()
        .access(Access::Insert)
        .group("set")
        .about("1.0.0", "O(1)", "Adds members; how many are new."),
    Command::read("scard", 2, scard)
        .syntax("key")
        .key(1)
        .fast()
        .access(Access::Look)
        .group("set")
        .about("1.0.0", "O(1)", "The number of members."),
    Command::read("sismember", 3, sismember)
        .syntax("key member")
        .key(1)
        .element(2)
        .fast()
        .access(Access::Look)
        .group("set")
        .about("1.0.0", "O(1)", "Whether a set has a member."),
    Command::read("smembers", 2, smembers)
        .syntax("key")
        .key(1)
        .as_long_as_reply()
        .tips(&["nondeterministic_output_order"])
        .group("set")
        .about("1.0.0", "O(N)", "All members."),
    Command::read("smismember", -3, smismember)
        .syntax("key member ...")
        .key(1)
        .element(2)
        .fast()
        .group("set")
        .about("6.2.0", "O(N)", "Whether a set has each of several members."),
    Command::write("smove", 4, smove)
        .syntax("source destination member")
        .keys(1, 2, 1)
        .fast()
        .accesses(Access::Take, Access::Insert)
        .group("set")
        .about("1.0.0", "O(1)", "Moves a member from one set to another."),
    Command::write("spop", -2, spop)
        .syntax("key [count]")
        .key(1)
        .fast()
        .access(Access::Take)
        .tips(&["nondeterministic_output"])
        .group("set")
        .about("1.0.0", "O(1)", "Removes members chosen at random and returns them."),
    Command::read("srandmember", -2, srandmember)
        .syntax("key [count]")
        .key(1)
        .tips(&["nondeterministic_output"])
        .group("set")
        .about("1.0.0", "O(1)", "Members chosen at random."),
    Command::write("srem", -3, srem)
        .syntax("key member ...")
        .key(1)
        .element(2)
        .fast()
        .access(Access::Remove)
        .group("set")
        .about("1.0.0", "O(N)", "Removes members; how many there were."),
    Command::read("sscan", -3, sscan)
        .syntax("key cursor [MATCH pattern] [COUNT count]")
        .key(1)
        .tips(&["nondeterministic_output"])
        .group("set")
        .about("2.8.0", "O(1)", "Walks a set in steps."),
];

fn set_or_empty<'a>(ctx: &'a ReadCtx<'_>, key: &[u8]) -> Result<SetRef<'a>> {
    Ok(ctx.db.set(key)?.unwrap_or(SetRef::EMPTY))
}

fn sadd(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let first = args.peek().ok_or_else(|| args.arity_error())?;
    let mut set = ctx.db.set_or_new(key, first, args.len())?;
    set.expect_members(args.len());
    let n_added = args.rest().filter(|member| set.add(member)).count();
    if n_added > 0 {
        ctx.grew(Event::set("sadd"), key);
    }
    reply.count(n_added);
    Ok(())
}

fn srem(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let mut n_removed = 0;
    if let Some(mut set) = ctx.db.set_mut(key)? {
        n_removed = args.rest().filter(|member| set.remove(member)).count();
    }
    if n_removed > 0 {
        ctx.changed(Event::set("srem"), key);
    }
    reply.count(n_removed);
    Ok(())
}

fn scard(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(set_or_empty(ctx, args.take()?)?.len());
    Ok(())
}

fn sismember(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let set = set_or_empty(ctx, args.take()?)?;
    reply.int(i64::from(set.contains(args.take()?)));
    Ok(())
}

fn smismember(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let set = set_or_empty(ctx, args.take()?)?;
    let members = args.rest();
    reply.array(members.len());
    for member in members {
        reply.int(i64::from(set.contains(member)));
    }
    Ok(())
}

fn smembers(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let set = set_or_empty(ctx, args.take()?)?;
    reply.set(set.len());
    set.iter().for_each(|member| bulk_item(reply, member));
    Ok(())
}

fn smove(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (source, destination, member) = (args.take()?, args.take()?, args.take()?);
    let Some(from) = ctx.db.set(source)? else {
        reply.int(0);
        return Ok(());
    };
    let is_member = from.contains(member);
    ctx.db.set(destination)?;
    if is_member && source != destination {
        if let Some(mut from) = ctx.db.set_mut(source)? {
            from.remove(member);
        }
        ctx.changed(Event::set("srem"), source);
        if ctx.db.set_or_new(destination, member, 1)?.add(member) {
            ctx.changed(Event::set("sadd"), destination);
        }
    }
    reply.int(i64::from(is_member));
    Ok(())
}

fn spop(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    if !args.is_empty() {
        return spop_count(ctx, key, args, reply);
    }
    let bits = ctx.random();
    let mut popped = Vec::new();
    let Some(mut set) = ctx.db.set_mut(key)? else {
        reply.null();
        return Ok(());
    };
    set.pop_random(bits, |member| member.write_to(&mut popped));
    ctx.changed(Event::set("spop"), key);
    ctx.propagate(&[b"SREM", key, &popped]);
    reply.bulk(&popped);
    Ok(())
}

/// Members that one SREM of replicas removes, so that it holds nobody up for long.
const SREM_MEMBERS: usize = 1024;

fn spop_count(
    ctx: &mut WriteCtx<'_>,
    key: &[u8],
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let count = args.take()?;
    args.end()?;
    let count = at_least(0, count, NOT_POSITIVE)?;
    let set = ctx.db.set(key)?.unwrap_or(SetRef::EMPTY);
    if count >= set.len() {
        return pop_all(ctx, key, reply);
    }
    let mut popped = Vec::with_capacity(count);
    while popped.len() < count {
        let bits = ctx.random();
        if let Some(mut set) = ctx.db.set_mut(key)? {
            set.pop_random(bits, |member| popped.push(member.to_vec()));
        }
    }
    reply.set(count);
    popped.iter().for_each(|member| reply.bulk(member));
    if count > 0 {
        ctx.changed(Event::set("spop"), key);
        for some in popped.chunks(SREM_MEMBERS) {
            let mut words = vec![b"SREM".as_slice(), key];
            words.extend(some.iter().map(Vec::as_slice));
            ctx.propagate(&words);
        }
    }
    Ok(())
}

/// Answers all members and removes the set, if there is one.
fn pop_all(ctx: &mut WriteCtx<'_>, key: &[u8], reply: &mut Reply<'_>) -> Result<()> {
    let set = ctx.db.set(key)?.unwrap_or(SetRef::EMPTY);
    reply.set(set.len());
    set.iter().for_each(|member| bulk_item(reply, member));
    if !set.is_empty() {
        ctx.db.remove(key);
        ctx.event(Event::set("spop"), key);
        ctx.changed(Event::generic("del"), key);
        ctx.propagate_removal(Removal::Dropped, key);
    }
    Ok(())
}

fn srandmember(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    if args.is_empty() {
        let bits = ctx.random();
        match ctx.db.set(key)?.and_then(|set| set.random(bits)) {
            Some(member) => bulk_item(reply, member),
            None => reply.null(),
        }
        return Ok(());
    }
    if args.len() > 1 {
        return Err(Error::Syntax);
    }
    let count = random_count(args)?;
    let set = ctx.db.set(key)?.unwrap_or(SetRef::EMPTY);
    let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count >= 0 {
        let picked = set.pick_distinct(size, &mut || next_random(ctx.random));
        reply.array(picked.len());
        picked
            .into_iter()
            .for_each(|member| bulk_item(reply, member));
    } else {
        let size = if set.is_empty() { 0 } else { size };
        if reply.is_filled_by(size) {
            return Err(Error::ReplyTooLong);
        }
        reply.array(size);
        for _ in 0..size {
            if reply.is_full() {
                return Err(Error::ReplyTooLong);
            }
            let Some(member) = set.random(next_random(ctx.random)) else {
                break;
            };
            bulk_item(reply, member);
        }
    }
    Ok(())
}

fn sscan(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let mut cursor = grammar::cursor(args)?;
    let Some(set) = ctx.db.set(key)? else {
        return empty_scan(reply);
    };
    let options = ScanOptions::parse(args)?;
    let (mut bytes, mut n_members, mut n_seen) = (Vec::new(), 0, 0);
    let mut members = Reply::new(&mut bytes, reply.proto());
    for _ in 0..options.count.saturating_mul(10) {
        cursor = set.scan(cursor, &mut |member| {
            n_seen += 1;
            if passes(&options, member) {
                n_members += 1;
                bulk_item(&mut members, member);
            }
        });
        if cursor == 0 || n_seen >= options.count {
            break;
        }
    }
    scan_reply(reply, cursor, n_members, &bytes);
    Ok(())
}
