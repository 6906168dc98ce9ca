//! Unions, intersections and differences of sets.
//!
//! A command looks at all of its keys before it answers, so that a key of another type is an error
//! even where an absent one settles the result. What is stored is collected first: the destination
//! may be one of the sources.

use datatypes::encoding::listpack::Item;
use datatypes::set::SetRef;
use foldhash::fast::RandomState;
use hashbrown::HashSet;
use keyspace::db::View;
use resp::reply::Reply;
use stdx::number::parse_i64;

use super::super::hash::bulk_item;
use crate::command::event::Event;
use crate::command::grammar::{NEGATIVE_LIMIT, at_least};
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command::read("sdiff", -2, sdiff)
        .syntax("key ...")
        .keys(1, -1, 1)
        .tips(&["nondeterministic_output_order"])
        .group("set")
        .about("1.0.0", "O(N)", "The members of the first set that no other has."),
    Command::read("sdiffcard", -3, sdiffcard)
        .syntax("numkeys key ... [LIMIT limit]")
        .numkeys(1)
        .group("set")
        .about("8.10.0", "O(N)", "How many members of the first set no other has."),
    Command::write("sdiffstore", -3, sdiffstore)
        .syntax("destination key ...")
        .keys(1, -1, 1)
        .deny_oom()
        .accesses(Access::Overwrite, Access::Read)
        .group("set")
        .about("1.0.0", "O(N)", "Stores the difference of sets; how large it is."),
    Command::read("sinter", -2, sinter)
        .syntax("key ...")
        .keys(1, -1, 1)
        .tips(&["nondeterministic_output_order"])
        .group("set")
        .about("1.0.0", "O(N*M)", "The members that all sets have."),
    Command::read("sintercard", -3, sintercard)
        .syntax("numkeys key ... [LIMIT limit]")
        .numkeys(1)
        .group("set")
        .about("7.0.0", "O(N*M)", "How many members all sets have."),
    Command::write("sinterstore", -3, sinterstore)
        .syntax("destination key ...")
        .keys(1, -1, 1)
        .deny_oom()
        .accesses(Access::Overwrite, Access::Read)
        .group("set")
        .about("1.0.0", "O(N*M)", "Stores the intersection of sets; how large it is."),
    Command::read("sunion", -2, sunion)
        .syntax("key ...")
        .keys(1, -1, 1)
        .tips(&["nondeterministic_output_order"])
        .group("set")
        .about("1.0.0", "O(N)", "The members that any of the sets has."),
    Command::read("sunioncard", -3, sunioncard)
        .syntax("numkeys key ... [APPROX] [LIMIT limit]")
        .numkeys(1)
        .group("set")
        .about("8.10.0", "O(N)", "How many members the sets have together."),
    Command::write("sunionstore", -3, sunionstore)
        .syntax("destination key ...")
        .keys(1, -1, 1)
        .deny_oom()
        .accesses(Access::Overwrite, Access::Read)
        .group("set")
        .about("1.0.0", "O(N)", "Stores the union of sets; how large it is."),
];

/// The sets at the keys, in their order; absent ones are empty.
fn sets<'d, 'k>(db: &'d View<'_>, keys: impl Iterator<Item = &'k [u8]>) -> Result<Vec<SetRef<'d>>> {
    keys.map(|key| Ok(db.set(key)?.unwrap_or(SetRef::EMPTY)))
        .collect()
}

/// Shows the members that all sets have to `see` until it answers false. O(smallest * sets).
fn intersect(mut sets: Vec<SetRef<'_>>, mut see: impl FnMut(Item<'_>) -> bool) {
    sets.sort_by_key(|set| set.len());
    let Some((smallest, others)) = sets.split_first() else {
        return;
    };
    for member in smallest.iter() {
        if others.iter().all(|set| set.contains_item(member)) && !see(member) {
            return;
        }
    }
}

/// Shows the members that any set has, each once, until `see` answers false. O(members).
fn unite(sets: &[SetRef<'_>], mut see: impl FnMut(Item<'_>) -> bool) {
    let n_max = sets.iter().map(|set| set.len()).sum(); // sized once: growing would hash all anew
    let mut texts = HashSet::with_capacity_and_hasher(n_max, RandomState::default());
    let mut integers = HashSet::with_hasher(RandomState::default());
    for member in sets.iter().flat_map(|set| set.iter()) {
        let is_new = match member {
            Item::Int(n) => integers.insert(n),
            Item::Bytes(bytes) => match parse_i64(bytes) {
                Some(n) => integers.insert(n),
                None => texts.insert(bytes),
            },
        };
        if is_new && !see(member) {
            return;
        }
    }
}

/// Shows the members of the first set that no other has, until `see` answers false.
/// O(first * sets).
fn subtract(sets: &[SetRef<'_>], mut see: impl FnMut(Item<'_>) -> bool) {
    let Some((first, others)) = sets.split_first() else {
        return;
    };
    first
        .iter()
        .filter(|&member| !others.iter().any(|set| set.contains_item(member)))
        .all(&mut see);
}

fn sinter(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let sets = sets(&ctx.db, args.rest())?;
    let (later, mut n) = (reply.set_later(), 0);
    intersect(sets, |member| {
        n += 1;
        bulk_item(reply, member);
        true
    });
    reply.finish(later, n);
    Ok(())
}

fn sunion(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let sets = sets(&ctx.db, args.rest())?;
    let (later, mut n) = (reply.set_later(), 0);
    unite(&sets, |member| {
        n += 1;
        bulk_item(reply, member);
        true
    });
    reply.finish(later, n);
    Ok(())
}

fn sdiff(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let sets = sets(&ctx.db, args.rest())?;
    let (later, mut n) = (reply.set_later(), 0);
    subtract(&sets, |member| {
        n += 1;
        bulk_item(reply, member);
        true
    });
    reply.finish(later, n);
    Ok(())
}

/// The keys and the limit of a command that counts; 0 is no limit. An estimate may be asked for where
/// `is_union`; the exact number is one.
fn card_options<'a>(args: &mut Args<'a>, is_union: bool) -> Result<(Vec<&'a [u8]>, usize)> {
    if args.peek().and_then(parse_i64).is_none() {
        return Err(Error::Plain("ERR numkeys should be greater than 0"));
    }
    let n_keys = args.numkeys()?;
    let mut keys = Vec::with_capacity(n_keys);
    for _ in 0..n_keys {
        keys.push(args.take()?);
    }
    let mut limit = 0;
    while !args.is_empty() {
        if is_union && args.eat(b"APPROX") {
            continue;
        }
        if !args.eat(b"LIMIT") || args.is_empty() {
            return Err(Error::Syntax);
        }
        limit = at_least(0, args.take()?, NEGATIVE_LIMIT)?;
    }
    Ok((keys, limit))
}

fn sintercard(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (keys, limit) = card_options(args, false)?;
    let mut n = 0;
    intersect(sets(&ctx.db, keys.into_iter())?, |_| {
        n += 1;
        n != limit
    });
    reply.count(n);
    Ok(())
}

fn sunioncard(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (keys, limit) = card_options(args, true)?;
    let mut n = 0;
    unite(&sets(&ctx.db, keys.into_iter())?, |_| {
        n += 1;
        n != limit
    });
    reply.count(n);
    Ok(())
}

fn sdiffcard(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (keys, limit) = card_options(args, false)?;
    let mut n = 0;
    subtract(&sets(&ctx.db, keys.into_iter())?, |_| {
        n += 1;
        n != limit
    });
    reply.count(n);
    Ok(())
}

/// The members of a result, kept while its sources may change.
type Members = Vec<Vec<u8>>;

/// Replaces `destination` by a set of the members, which are distinct.
fn store(
    ctx: &mut WriteCtx<'_>,
    (name, destination): (&'static str, &[u8]),
    members: &Members,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let existed = ctx.db.remove(destination);
    if let Some(first) = members.first() {
        let mut set = ctx.db.set_or_new(destination, first, members.len())?;
        for member in members {
            set.add(member);
        }
        ctx.changed(Event::set(name), destination);
    } else if existed {
        ctx.changed(Event::generic("del"), destination);
    }
    reply.count(members.len());
    Ok(())
}

fn sinterstore(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let destination = args.take()?;
    let mut members = Members::new();
    intersect(sets(&ctx.db, args.rest())?, |member| {
        members.push(member.to_vec());
        true
    });
    store(ctx, ("sinterstore", destination), &members, reply)
}

fn sunionstore(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let destination = args.take()?;
    let mut members = Members::new();
    unite(&sets(&ctx.db, args.rest())?, |member| {
        members.push(member.to_vec());
        true
    });
    store(ctx, ("sunionstore", destination), &members, reply)
}

fn sdiffstore(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let destination = args.take()?;
    let mut members = Members::new();
    subtract(&sets(&ctx.db, args.rest())?, |member| {
        members.push(member.to_vec());
        true
    });
    store(ctx, ("sdiffstore", destination), &members, reply)
}
