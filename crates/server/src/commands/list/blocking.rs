//! Lists, waiting for: the pops and moves that block until there is something. They are propagated
//! as their plain forms.

use resp::reply::Reply;

use super::{move_item, pop_first, popped, side, write_item};
use crate::command::grammar::{pop_option, wait_until};
use crate::command::traits::BLOCKING;
use crate::command::{Access, Args, Command, WriteCtx};
use crate::error::Result;
use datatypes::encoding::quicklist::Side;

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::write("blmove", 6, blmove)
        .syntax("source destination wherefrom(LEFT|RIGHT) whereto(LEFT|RIGHT) timeout")
        .keys(1, 2, 1)
        .deny_oom()
        .accesses(Access::Take, Access::Insert)
        .flags(BLOCKING)
        .group("list")
        .about("6.2.0", "O(1)", "Moves an element between lists, waiting for one."),
    Command::write("blmpop", -5, blmpop)
        .syntax("timeout numkeys key ... where(LEFT|RIGHT) [COUNT count]")
        .numkeys(2)
        .access(Access::Take)
        .flags(BLOCKING)
        .group("list")
        .about("7.0.0", "O(N+M)", "Removes elements from a list, waiting for one."),
    Command::write("blpop", -3, blpop)
        .syntax("key ... timeout")
        .keys(1, -2, 1)
        .access(Access::Take)
        .flags(BLOCKING)
        .group("list")
        .about("2.0.0", "O(N) in the keys", "Removes the first element, waiting for one."),
    Command::write("brpop", -3, brpop)
        .syntax("key ... timeout")
        .keys(1, -2, 1)
        .access(Access::Take)
        .flags(BLOCKING)
        .group("list")
        .about("2.0.0", "O(N) in the keys", "Removes the last element, waiting for one."),
    Command::write("brpoplpush", 4, brpoplpush)
        .syntax("source destination timeout")
        .keys(1, 2, 1)
        .deny_oom()
        .accesses(Access::Take, Access::Insert)
        .flags(BLOCKING)
        .deprecated("6.2.0", "`BLMOVE` with `RIGHT` and `LEFT`")
        .group("list")
        .about("2.2.0", "O(1)", "Moves the last element to another list, waiting for one."),
];

fn pop(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    side: Side,
) -> Result<()> {
    let keys = args.take_n(args.len() - 1)?;
    let until_ms = wait_until(args.take()?, ctx.now_ms())?;
    for key in keys {
        let Some(mut list) = ctx.db.list_mut(key)? else {
            continue;
        };
        reply.array(2);
        reply.bulk(key);
        list.pop(side, 1, &mut |item| write_item(reply, item));
        let event = popped(side);
        ctx.changed(event, key);
        ctx.propagate(&[event.name.to_ascii_uppercase().as_bytes(), key]);
        return Ok(());
    }
    reply.null_array();
    ctx.wait(until_ms);
    Ok(())
}

fn blpop(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    pop(ctx, args, reply, Side::Head)
}

fn brpop(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    pop(ctx, args, reply, Side::Tail)
}

fn blmpop(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let timeout = args.take()?;
    let (keys, side, count) = pop_option(args, side)?;
    let until_ms = wait_until(timeout, ctx.now_ms())?;
    if !pop_first(ctx, keys, (side, count), reply)? {
        reply.null_array();
        ctx.wait(until_ms);
    }
    Ok(())
}

/// Whether an element was moved. Where nothing can wait the answer is that of LMOVE; a wait ends with a
/// null array.
fn move_or_wait(
    ctx: &mut WriteCtx<'_>,
    reply: &mut Reply<'_>,
    (source, from): (&[u8], Side),
    (destination, to): (&[u8], Side),
    until_ms: Option<u64>,
) -> Result<bool> {
    let moves = ctx.db.list(source)?.is_some() || !ctx.effects.can_wait;
    if moves {
        move_item(ctx, reply, (source, from), (destination, to))?;
    } else {
        reply.null_array();
        ctx.wait(until_ms);
    }
    Ok(moves)
}

fn blmove(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (source, destination) = (args.take()?, args.take()?);
    let (from, to) = (side(args)?, side(args)?);
    let until_ms = wait_until(args.take()?, ctx.now_ms())?;
    if move_or_wait(ctx, reply, (source, from), (destination, to), until_ms)? {
        let word = |side| match side {
            Side::Head => &b"LEFT"[..],
            Side::Tail => b"RIGHT",
        };
        ctx.propagate(&[b"LMOVE", source, destination, word(from), word(to)]);
    }
    Ok(())
}

fn brpoplpush(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (source, destination) = (args.take()?, args.take()?);
    let until_ms = wait_until(args.take()?, ctx.now_ms())?;
    let ends = ((source, Side::Tail), (destination, Side::Head));
    if move_or_wait(ctx, reply, ends.0, ends.1, until_ms)? {
        ctx.propagate(&[b"RPOPLPUSH", source, destination]);
    }
    Ok(())
}
