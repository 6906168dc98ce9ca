//! Transactions: MULTI, EXEC, DISCARD, WATCH, UNWATCH.

use resp::reply::Reply;

use crate::command::context::Order;
use crate::command::traits::ALWAYS;
use crate::command::{Access, AdminCtx, Args, Command, Flag};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::admin("multi", 1, multi)
        .fast()
        .flags(ALWAYS)
        .immediate()
        .group("transactions")
        .about("1.2.0", "O(1)", "Begins to queue commands for EXEC."),
    Command::admin("exec", 1, exec)
        .flags(&[
            Flag::Loading,
            Flag::NoScript,
            Flag::SkipSlowlog,
            Flag::Stale,
        ])
        .immediate()
        .group("transactions")
        .about("1.2.0", "Depends on the commands", "Runs the queued commands as one."),
    Command::admin("discard", 1, discard)
        .fast()
        .flags(ALWAYS)
        .immediate()
        .group("transactions")
        .about("2.0.0", "O(N) in the queued commands", "Forgets the queued commands."),
    Command::admin("watch", -2, watch)
        .syntax("key ...")
        .keys(1, -1, 1)
        .fast()
        .flags(ALWAYS)
        .access(Access::Look)
        .immediate()
        .group("transactions")
        .about("2.2.0", "O(1) for each key", "Makes EXEC depend on keys that must not change."),
    Command::admin("unwatch", 1, unwatch)
        .fast()
        .flags(ALWAYS)
        .group("transactions")
        .about("2.2.0", "O(1)", "Forgets the watched keys."),
];

/// What may not stand inside a transaction is refused, and the transaction goes on.
fn refuse_inside(ctx: &AdminCtx<'_>, line: &'static str) -> Result<()> {
    match ctx.session.queue {
        None => Ok(()),
        Some(_) => Err(Error::Plain(line)),
    }
}

fn multi(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    refuse_inside(ctx, "ERR Command 'multi' not allowed inside a transaction")?;
    ctx.session.queue = Some(Box::default());
    reply.ok();
    Ok(())
}

fn exec(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    let queue = ctx.session.queue.as_ref();
    let is_aborted = queue
        .ok_or(Error::Plain("ERR EXEC without MULTI"))?
        .is_aborted;
    if is_aborted {
        ctx.session.queue = None;
        ctx.order = Some(Order::Unwatch);
        let text = "EXECABORT Transaction discarded because of previous errors.";
        return Err(Error::Plain(text));
    }
    ctx.order = Some(Order::Exec);
    Ok(())
}

fn discard(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if ctx.session.queue.take().is_none() {
        return Err(Error::Plain("ERR DISCARD without MULTI"));
    }
    ctx.order = Some(Order::Unwatch);
    reply.ok();
    Ok(())
}

fn watch(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    refuse_inside(ctx, "ERR Command 'watch' not allowed inside a transaction")?;
    let _ = args.rest(); // the engine takes the keys from the request
    ctx.order = Some(Order::Watch);
    reply.ok();
    Ok(())
}

/// Inside EXEC there is nothing left to forget: the keys were checked when it began.
fn unwatch(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.order = (!ctx.is_nested).then_some(Order::Unwatch);
    reply.ok();
    Ok(())
}
