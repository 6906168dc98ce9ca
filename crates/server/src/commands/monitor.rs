//! MONITOR: shows every command to a session until it leaves or is reset.

use crate::command::traits::ADMIN;
use crate::command::{AdminCtx, Args, Command};
use crate::error::{Error, Result};
use resp::reply::Reply;

/// The family's table.
pub const COMMANDS: &[Command] = &[Command::admin("monitor", 1, monitor)
    .flags(ADMIN)
    .group("server")
    .about("1.0.0", "Depends on the traffic", "Shows every command that runs, as it ends.")];

fn monitor(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if ctx.is_nested {
        return Err(Error::Plain("ERR MONITOR isn't allowed for DENY BLOCKING client"));
    }
    if !std::mem::replace(&mut ctx.session.is_monitor, true) {
        ctx.state.monitors.add(ctx.session.address());
        reply.ok();
    }
    Ok(())
}
