//! Sorted sets, waiting for: the pops that block until there is a member. They are propagated as
//! their plain forms.

use resp::reply::Reply;

use super::{End, end, pop_first, pop_members};
use crate::command::grammar::{pop_option, wait_until};
use crate::command::traits::BLOCKING;
use crate::command::{Access, Args, Command, WriteCtx};
use crate::error::Result;

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::write("bzmpop", -5, bzmpop)
        .syntax("timeout numkeys key ... where(MIN|MAX) [COUNT count]")
        .numkeys(2)
        .access(Access::Take)
        .flags(BLOCKING)
        .group("sorted-set")
        .about("7.0.0", "O(K) + O(M*log(N))", "Removes members of a sorted set, waiting for one."),
    Command::write("bzpopmax", -3, bzpopmax)
        .syntax("key ... timeout")
        .keys(1, -2, 1)
        .fast()
        .access(Access::Take)
        .flags(BLOCKING)
        .group("sorted-set")
        .about("5.0.0", "O(log(N))", "Removes the member of the highest score, waiting for one."),
    Command::write("bzpopmin", -3, bzpopmin)
        .syntax("key ... timeout")
        .keys(1, -2, 1)
        .fast()
        .access(Access::Take)
        .flags(BLOCKING)
        .group("sorted-set")
        .about("5.0.0", "O(log(N))", "Removes the member of the lowest score, waiting for one."),
];

fn pop(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>, end: End) -> Result<()> {
    let keys = args.take_n(args.len() - 1)?;
    let until_ms = wait_until(args.take()?, ctx.now_ms())?;
    for key in keys {
        let popped = pop_members(ctx, key, end, 1)?.and_then(|mut members| members.pop());
        let Some((member, score)) = popped else {
            continue;
        };
        ctx.propagate(&[end.name().to_ascii_uppercase().as_bytes(), key]);
        reply.array(3);
        reply.bulk(key);
        reply.bulk(&member);
        reply.double(score);
        return Ok(());
    }
    reply.null_array();
    ctx.wait(until_ms);
    Ok(())
}

fn bzpopmin(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    pop(ctx, args, reply, End::Min)
}

fn bzpopmax(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    pop(ctx, args, reply, End::Max)
}

fn bzmpop(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let timeout = args.take()?;
    let (keys, end, count) = pop_option(args, end)?;
    let until_ms = wait_until(timeout, ctx.now_ms())?;
    if !pop_first(ctx, keys, (end, count), reply)? {
        reply.null_array();
        ctx.wait(until_ms);
    }
    Ok(())
}
