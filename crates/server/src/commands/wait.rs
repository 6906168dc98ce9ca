//! WAIT and WAITAOF: until what the client wrote is with replicas, and on disks.

use resp::reply::Reply;

use crate::aof::Phase;
use crate::command::context::Order;
use crate::command::grammar::{NOT_POSITIVE, block_until};
use crate::command::{AdminCtx, Args, Category, Command, Flag};
use crate::error::{Error, Result};
use crate::waits::Goal;

const TIPS: &[&str] = &["request_policy:all_shards", "response_policy:agg_min"];

/// The family's table.
pub const COMMANDS: &[Command] = &[
    Command::admin("wait", 3, wait)
        .syntax("numreplicas:integer timeout:integer")
        .flags(&[Flag::Blocking])
        .categories(&[Category::Connection])
        .tips(TIPS)
        .group("generic")
        .about("3.0.0", "O(1)", "Waits until replicas have what the client wrote."),
    Command::admin("waitaof", 4, waitaof)
        .syntax("numlocal numreplicas timeout")
        .flags(&[Flag::Blocking])
        .categories(&[Category::Connection])
        .tips(TIPS)
        .group("generic")
        .about("7.2.0", "O(1)", "Waits until what the client wrote is on the disk."),
];

fn wait(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if ctx.state.role.is_replica() {
        return Err(Error::Plain(
            "ERR WAIT cannot be used with replica instances. Please also note that since Redis 4.0 if \
             a replica is configured to be writable (which is not the default) writes to replicas are \
             just local and are not propagated.",
        ));
    }
    let n_replicas = args.int()?;
    let until_ms = block_until(args.take()?, ctx.now_ms)?;
    let goal = Goal {
        local: None,
        n_replicas: usize::try_from(n_replicas).unwrap_or(0),
        streamed_to: ctx.session.streamed_to,
        is_about_disks: false,
        written_to: ctx.session.written_to,
        until_ms,
    };
    settle(ctx, goal, reply);
    Ok(())
}

fn waitaof(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    const NOT_LOCAL: Error = Error::Plain("ERR value is out of range, value must between 0 and 1");
    let n_local = args.int()?;
    if !(0..=1).contains(&n_local) {
        return Err(NOT_LOCAL);
    }
    let n_replicas = usize::try_from(args.int()?).map_err(|_| Error::Plain(NOT_POSITIVE))?;
    let until_ms = block_until(args.take()?, ctx.now_ms)?;
    if ctx.state.role.is_replica() {
        return Err(Error::Plain(
            "ERR WAITAOF cannot be used with replica instances. Please also note that writes to \
             replicas are just local and are not propagated.",
        ));
    }
    if n_local > 0 && ctx.state.aof.phase() == Phase::Off {
        return Err(Error::NoAof);
    }
    let goal = Goal {
        local: (n_local > 0).then_some(ctx.session.written_to),
        n_replicas,
        streamed_to: ctx.session.streamed_to,
        is_about_disks: true,
        written_to: ctx.session.written_to,
        until_ms,
    };
    settle(ctx, goal, reply);
    Ok(())
}

/// Answers what is reached already, or has the session wait.
fn settle(ctx: &mut AdminCtx<'_>, goal: Goal, reply: &mut Reply<'_>) {
    let (is_reached, answer) = ctx.state.progress(&goal);
    match is_reached || ctx.is_nested {
        true => reply.raw(&answer),
        false => ctx.order = Some(Order::AwaitCopies(goal)),
    }
}
