//! MEMORY: what a key costs.

use resp::reply::Reply;

use crate::command::{Access, Args, Command, ReadCtx};
use crate::error::{Error, Result};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[Command::container("memory", SUBCOMMANDS)
    .group("server")
    .about("4.0.0", "Depends on the subcommand", "Tells what memory is used for.")];

const SUBCOMMANDS: &[Command] = &[
    Command::help("memory|help").since("4.0.0"),
    Command::read("memory|usage", -3, usage)
        .syntax("key [SAMPLES count]")
        .key(2)
        .no_touch()
        .access(Access::Look)
        .about(
            "4.0.0",
            "O(N) in the nodes of a list",
            "Returns the bytes that a key and its value occupy.",
        ),
];

/// Values know their size, so however many elements are to be sampled, none is.
fn usage(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    while let Some(word) = args.word() {
        match &*word {
            b"SAMPLES" if args.int()? >= 0 => {}
            _ => return Err(Error::Syntax),
        }
    }
    let entry_bytes = ctx.db.entry(key).map(|entry| entry.allocated_bytes());
    let big_bytes = ctx.db.big_bytes(key);
    match entry_bytes {
        Some(bytes) => reply.count(bytes + big_bytes),
        None => reply.null(),
    }
    Ok(())
}
