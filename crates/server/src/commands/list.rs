//! Lists: both ends, positions, searches, and moves from list to list.
//!
//! A command that chooses a key at run time (`LMPOP`) is propagated as what it came to, a plain pop
//! of that key. A move pushes before it reports the pop, so that a list moved onto itself is never
//! seen empty.

pub mod blocking;
pub mod several;

use datatypes::encoding::listpack::Item;
use datatypes::encoding::quicklist::Side;
use datatypes::list::{ListRef, resolve_range};
use resp::reply::Reply;
use stdx::number::{I64Text, parse_i64};

use crate::command::event::Event;
use crate::command::grammar::{NOT_POSITIVE, at_least, pop_option};
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::read("lindex", 3, lindex)
        .syntax("key index")
        .key(1)
        .group("list")
        .about("1.0.0", "O(N) in the nodes passed", "Returns the element at an index."),
    Command::write("linsert", 5, linsert)
        .syntax("key where(BEFORE|AFTER) pivot element")
        .key(1)
        .deny_oom()
        .access(Access::Insert)
        .group("list")
        .about("2.2.0", "O(N)", "Inserts an element next to another one."),
    Command::read("llen", 2, llen)
        .syntax("key")
        .key(1)
        .fast()
        .access(Access::Look)
        .group("list")
        .about("1.0.0", "O(1)", "Returns the number of elements."),
    Command::write("lmove", 5, lmove)
        .syntax("source destination wherefrom(LEFT|RIGHT) whereto(LEFT|RIGHT)")
        .keys(1, 2, 1)
        .deny_oom()
        .accesses(Access::Take, Access::Insert)
        .group("list")
        .about("6.2.0", "O(1)", "Moves an element from an end of a list to an end of another."),
    Command::write("lmpop", -4, lmpop)
        .syntax("numkeys key ... where(LEFT|RIGHT) [COUNT count]")
        .numkeys(1)
        .access(Access::Take)
        .group("list")
        .about("7.0.0", "O(N+M)", "Removes elements from the first list that is not empty."),
    Command::write("lpop", -2, lpop)
        .syntax("key [count]")
        .key(1)
        .fast()
        .access(Access::Take)
        .group("list")
        .about("1.0.0", "O(N) in the elements", "Removes and returns the first elements."),
    Command::read("lpos", -3, lpos)
        .syntax("key element [RANK rank] [COUNT num-matches] [MAXLEN len]")
        .key(1)
        .group("list")
        .about("6.0.6", "O(N)", "Returns the indexes of an element."),
    Command::write("lpush", -3, lpush)
        .syntax("key element ...")
        .key(1)
        .fast()
        .deny_oom()
        .access(Access::Insert)
        .group("list")
        .about("1.0.0", "O(1) for each element", "Adds elements before the first one."),
    Command::write("lpushx", -3, lpushx)
        .syntax("key element ...")
        .key(1)
        .fast()
        .deny_oom()
        .access(Access::Insert)
        .group("list")
        .about(
            "2.2.0",
            "O(1) for each element",
            "Adds elements before the first, if there is a list.",
        ),
    Command::read("lrange", 4, lrange)
        .syntax("key start stop")
        .key(1)
        .group("list")
        .about("1.0.0", "O(S+N)", "Returns the elements of a range of indexes."),
    Command::write("lrem", 4, lrem)
        .syntax("key count element")
        .key(1)
        .access(Access::Remove)
        .group("list")
        .about("1.0.0", "O(N+M)", "Removes elements that are equal to a value."),
    Command::write("lset", 4, lset)
        .syntax("key index element")
        .key(1)
        .deny_oom()
        .access(Access::Update)
        .group("list")
        .about("1.0.0", "O(N) in the nodes passed", "Replaces the element at an index."),
    Command::write("ltrim", 4, ltrim)
        .syntax("key start stop")
        .key(1)
        .access(Access::Remove)
        .group("list")
        .about("1.0.0", "O(N) in the elements removed", "Keeps a range of elements only."),
    Command::write("rpop", -2, rpop)
        .syntax("key [count]")
        .key(1)
        .fast()
        .access(Access::Take)
        .group("list")
        .about("1.0.0", "O(N) in the elements", "Removes and returns the last elements."),
    Command::write("rpoplpush", 3, rpoplpush)
        .syntax("source destination")
        .keys(1, 2, 1)
        .deny_oom()
        .accesses(Access::Take, Access::Insert)
        .deprecated("6.2.0", "`LMOVE` with `RIGHT` and `LEFT`")
        .group("list")
        .about("1.2.0", "O(1)", "Moves the last element of a list before the first of another."),
    Command::write("rpush", -3, rpush)
        .syntax("key element ...")
        .key(1)
        .fast()
        .deny_oom()
        .access(Access::Insert)
        .group("list")
        .about("1.0.0", "O(1) for each element", "Adds elements behind the last one."),
    Command::write("rpushx", -3, rpushx)
        .syntax("key element ...")
        .key(1)
        .fast()
        .deny_oom()
        .access(Access::Insert)
        .group("list")
        .about(
            "2.2.0",
            "O(1) for each element",
            "Adds elements behind the last, if there is a list.",
        ),
];

const RANK_ZERO: Error = Error::Plain(
    "ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... \
     or use negative to start from the end of the list",
);
const RANK_OUT_OF_RANGE: Error = Error::Plain(
    "ERR value is out of range, value must between -9223372036854775807 and 9223372036854775807",
);

fn write_item(reply: &mut Reply<'_>, item: Item<'_>) {
    match item {
        Item::Int(n) => reply.bulk_int(n),
        Item::Bytes(text) => reply.bulk(text),
    }
}

fn pushed(side: Side) -> Event {
    match side {
        Side::Head => Event::list("lpush"),
        Side::Tail => Event::list("rpush"),
    }
}

fn popped(side: Side) -> Event {
    match side {
        Side::Head => Event::list("lpop"),
        Side::Tail => Event::list("rpop"),
    }
}

fn side(args: &mut Args<'_>) -> Result<Side> {
    match args.word().as_deref() {
        Some(b"LEFT") => Ok(Side::Head),
        Some(b"RIGHT") => Ok(Side::Tail),
        _ => Err(Error::Syntax),
    }
}

// ---- Both ends ---------------------------------------------------------------------------------

fn push(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    side: Side,
    is_new_allowed: bool,
) -> Result<()> {
    let (key, items) = (args.take()?, args.rest());
    if !is_new_allowed && ctx.db.list(key)?.is_none() {
        reply.int(0);
        return Ok(());
    }
    let mut list = ctx.db.list_or_new(key)?;
    list.push(side, items);
    let len = list.view().len();
    ctx.grew(pushed(side), key);
    reply.count(len);
    Ok(())
}

fn lpush(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    push(ctx, args, reply, Side::Head, true)
}

fn rpush(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    push(ctx, args, reply, Side::Tail, true)
}

fn lpushx(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    push(ctx, args, reply, Side::Head, false)
}

fn rpushx(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    push(ctx, args, reply, Side::Tail, false)
}

fn pop(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    side: Side,
) -> Result<()> {
    let key = args.take()?;
    if args.len() > 1 {
        return Err(args.arity_error());
    }
    let count = args.rest().next();
    let count = count
        .map(|text| at_least(0, text, NOT_POSITIVE))
        .transpose()?;
    let Some(mut list) = ctx.db.list_mut(key)? else {
        match count {
            Some(_) => reply.null_array(),
            None => reply.null(),
        }
        return Ok(());
    };
    if let Some(count) = count {
        reply.array(count.min(list.view().len()));
    }
    let n = list.pop(side, count.unwrap_or(1), &mut |item| write_item(reply, item));
    if n > 0 {
        ctx.changed(popped(side), key);
    }
    Ok(())
}

fn lpop(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    pop(ctx, args, reply, Side::Head)
}

fn rpop(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    pop(ctx, args, reply, Side::Tail)
}

/// Pops from the first list there is; whether there was one.
fn pop_first(
    ctx: &mut WriteCtx<'_>,
    keys: &[&[u8]],
    (side, count): (Side, usize),
    reply: &mut Reply<'_>,
) -> Result<bool> {
    for key in keys {
        let Some(mut list) = ctx.db.list_mut(key)? else {
            continue;
        };
        reply.array(2);
        reply.bulk(key);
        reply.array(count.min(list.view().len()));
        let n = list.pop(side, count, &mut |item| write_item(reply, item));
        let event = popped(side);
        ctx.changed(event, key);
        let name = event.name.to_ascii_uppercase();
        ctx.propagate(&[name.as_bytes(), key, I64Text::new(n as i64).as_bytes()]);
        return Ok(true);
    }
    Ok(false)
}

fn lmpop(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (keys, side, count) = pop_option(args, side)?;
    if !pop_first(ctx, keys, (side, count), reply)? {
        reply.null_array();
    }
    Ok(())
}

fn move_item(
    ctx: &mut WriteCtx<'_>,
    reply: &mut Reply<'_>,
    (source, from): (&[u8], Side),
    (destination, to): (&[u8], Side),
) -> Result<()> {
    if ctx.db.list(source)?.is_none() {
        reply.null();
        return Ok(());
    }
    ctx.db.list(destination)?;
    let mut moved = Vec::new();
    if let Some(mut list) = ctx.db.list_mut(source)? {
        list.pop(from, 1, &mut |item| item.write_to(&mut moved));
    }
    ctx.db
        .list_or_new(destination)?
        .push(to, std::iter::once(moved.as_slice()));
    ctx.changed(pushed(to), destination);
    ctx.changed(popped(from), source);
    ctx.effects.n_changes -= 1; // one change, seen from two sides
    reply.bulk(&moved);
    Ok(())
}

fn lmove(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (source, destination) = (args.take()?, args.take()?);
    let (from, to) = (side(args)?, side(args)?);
    move_item(ctx, reply, (source, from), (destination, to))
}

fn rpoplpush(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (source, destination) = (args.take()?, args.take()?);
    move_item(ctx, reply, (source, Side::Tail), (destination, Side::Head))
}

// ---- Positions ---------------------------------------------------------------------------------

fn llen(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(ctx.db.list(args.take()?)?.map_or(0, ListRef::len));
    Ok(())
}

fn lindex(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, index) = (args.take()?, args.take()?);
    let Some(list) = ctx.db.list(key)? else {
        reply.null();
        return Ok(());
    };
    match list.index(parse_i64(index).ok_or(Error::NotAnInteger)?) {
        Some(item) => write_item(reply, item),
        None => reply.null(),
    }
    Ok(())
}

fn lrange(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, start, stop) = (args.take()?, args.int()?, args.int()?);
    let list = ctx.db.list(key)?.unwrap_or(ListRef::EMPTY);
    let indexes = resolve_range(list.len(), start, stop);
    reply.array(indexes.len());
    list.range(indexes, false)
        .for_each(|item| write_item(reply, item));
    Ok(())
}

fn lset(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, index, text) = (args.take()?, args.take()?, args.take()?);
    let mut list = ctx.db.list_mut(key)?.ok_or(Error::NoSuchKey)?;
    if !list.set(parse_i64(index).ok_or(Error::NotAnInteger)?, text) {
        return Err(Error::IndexOutOfRange);
    }
    ctx.grew(Event::list("lset"), key);
    reply.ok();
    Ok(())
}

fn linsert(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let before = match args.word().as_deref() {
        Some(b"BEFORE") => true,
        Some(b"AFTER") => false,
        _ => return Err(Error::Syntax),
    };
    let (pivot, text) = (args.take()?, args.take()?);
    let Some(mut list) = ctx.db.list_mut(key)? else {
        reply.int(0);
        return Ok(());
    };
    if !list.insert(pivot, before, text) {
        reply.int(-1);
        return Ok(());
    }
    let len = list.view().len();
    ctx.grew(Event::list("linsert"), key);
    reply.count(len);
    Ok(())
}

fn lrem(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, count, text) = (args.take()?, args.int()?, args.take()?);
    if count == i64::MIN {
        return Err(RANK_OUT_OF_RANGE);
    }
    let n = match ctx.db.list_mut(key)? {
        Some(mut list) => list.remove(text, count),
        None => 0,
    };
    if n > 0 {
        ctx.changed(Event::list("lrem"), key);
    }
    reply.count(n);
    Ok(())
}

fn ltrim(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, start, stop) = (args.take()?, args.int()?, args.int()?);
    reply.ok();
    let Some(mut list) = ctx.db.list_mut(key)? else {
        return Ok(());
    };
    let kept = resolve_range(list.view().len(), start, stop);
    list.trim(kept);
    ctx.changed(Event::list("ltrim"), key);
    Ok(())
}

// ---- LPOS --------------------------------------------------------------------------------------

struct PosOptions {
    rank: i64,
    count: Option<usize>,
    compared_max: usize,
}

impl PosOptions {
    fn parse(args: &mut Args<'_>) -> Result<PosOptions> {
        let mut options = PosOptions {
            rank: 1,
            count: None,
            compared_max: usize::MAX,
        };
        while let Some(word) = args.word() {
            match &*word {
                b"RANK" => options.rank = rank(args.take()?)?,
                b"COUNT" => {
                    let wrong = Error::Plain("ERR COUNT can't be negative");
                    options.count = Some(no_limit_if_zero(args.take()?, wrong)?);
                }
                b"MAXLEN" => {
                    let wrong = Error::Plain("ERR MAXLEN can't be negative");
                    options.compared_max = no_limit_if_zero(args.take()?, wrong)?;
                }
                _ => return Err(Error::Syntax),
            }
        }
        Ok(options)
    }
}

fn rank(text: &[u8]) -> Result<i64> {
    match parse_i64(text).ok_or(Error::NotAnInteger)? {
        i64::MIN => Err(RANK_OUT_OF_RANGE),
        0 => Err(RANK_ZERO),
        rank => Ok(rank),
    }
}

fn no_limit_if_zero(text: &[u8], wrong: Error) -> Result<usize> {
    match parse_i64(text).and_then(|n| usize::try_from(n).ok()) {
        None => Err(wrong),
        Some(0) => Ok(usize::MAX),
        Some(n) => Ok(n),
    }
}

fn lpos(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, needle) = (args.take()?, args.take()?);
    let options = PosOptions::parse(args)?;
    let list = ctx.db.list(key)?.unwrap_or(ListRef::EMPTY);
    let skipped = usize::try_from(options.rank.unsigned_abs() - 1).unwrap_or(usize::MAX);
    let mut found = list
        .positions(needle, options.rank < 0, options.compared_max)
        .skip(skipped);
    let Some(count) = options.count else {
        match found.next() {
            Some(index) => reply.count(index),
            None => reply.null(),
        }
        return Ok(());
    };
    let array = reply.array_later();
    let mut n = 0;
    for index in found.take(count) {
        reply.count(index);
        n += 1;
    }
    reply.finish(array, n);
    Ok(())
}
