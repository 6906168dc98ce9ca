//! Server: commands over whole databases.

use crate::command::{Args, Category, Command, Databases, WriteCtx};
use crate::error::{Error, Result};
use resp::reply::Reply;

/// The family's table.
pub const COMMANDS: &[Command] = &[
    Command::write("flushdb", -1, flushdb)
        .syntax("[flush-type(ASYNC|SYNC)]")
        .transaction()
        .categories(&[Category::Dangerous, Category::Keyspace])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .group("server")
        .about("1.0.0", "O(N) in the keys", "Deletes every key of the database."),
    Command::write("flushall", -1, flushall)
        .syntax("[flush-type(ASYNC|SYNC)]")
        .transaction()
        .categories(&[Category::Dangerous, Category::Keyspace])
        .tips(&["request_policy:all_shards", "response_policy:all_succeeded"])
        .databases(Databases::All)
        .group("server")
        .about("1.0.0", "O(N) in the keys", "Deletes every key of all databases."),
];

/// Values are freed off the event loops either way, so both words mean the same here.
fn end_after_mode(args: &mut Args<'_>) -> Result<()> {
    match args.word().as_deref() {
        None | Some(b"ASYNC" | b"SYNC") => args.end(),
        Some(_) => Err(Error::Syntax),
    }
}

fn flushdb(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    end_after_mode(args)?;
    ctx.effects.n_changes += ctx.db.clear() as u64;
    ctx.database_changed(ctx.db.number());
    ctx.effects.is_journaled_anyway = true;
    ctx.all_changed();
    reply.ok();
    Ok(())
}

fn flushall(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    end_after_mode(args)?;
    ctx.db.locked().take_everything(); // all databases are empty at one instant
    for database in 0..ctx.db.locked().keyspace().n_databases() {
        ctx.effects.n_changes += ctx.db.other(database, |db| db.clear()) as u64;
        ctx.database_changed(database);
    }
    ctx.effects.has_flushed = ctx.effects.n_changes > 0;
    ctx.effects.is_journaled_anyway = true;
    ctx.all_changed();
    reply.ok();
    Ok(())
}
