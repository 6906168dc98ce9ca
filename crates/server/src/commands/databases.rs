//! Whole databases: emptying them, and moving a key from one to another.
//!
//! All of these reach beyond declared keys, so they run as the transaction.

use resp::reply::Reply;

use crate::command::event::Event;
use crate::command::{Args, Command, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::write("flushall", -1, flushall)
        .syntax("[ASYNC|SYNC]")
        .transaction()
        .group("server")
        .about("1.0.0", "O(N) in all keys, elsewhere", "Deletes all keys of all databases."),
    Command::write("flushdb", -1, flushdb)
        .syntax("[ASYNC|SYNC]")
        .transaction()
        .group("server")
        .about("1.0.0", "O(N) in the keys, elsewhere", "Deletes all keys of the database."),
    Command::write("move", 3, move_key)
        .syntax("key db")
        .key(1)
        .transaction()
        .fast()
        .group("generic")
        .about("1.0.0", "O(1)", "Moves a key to another database."),
];

fn flush_mode(args: &mut Args<'_>) -> Result<()> {
    if let Some(word) = args.word()
        && !matches!(&*word, b"ASYNC" | b"SYNC")
    {
        return Err(Error::Syntax);
    }
    args.end()
}

fn flushall(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    flush_mode(args)?;
    let n_databases = ctx.db.locked().keyspace().n_databases();
    let n_keys: usize = (0..n_databases)
        .map(|database| ctx.db.other(database, |db| db.clear()))
        .sum();
    ctx.effects.n_changes += n_keys as u64 + 1;
    reply.ok();
    Ok(())
}

fn flushdb(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    flush_mode(args)?;
    ctx.effects.n_changes += ctx.db.clear() as u64 + 1;
    reply.ok();
    Ok(())
}

fn move_key(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, database) = (args.take()?, args.int()?);
    let n_databases = ctx.db.locked().keyspace().n_databases();
    let to = u16::try_from(database)
        .ok()
        .filter(|to| *to < n_databases)
        .ok_or(Error::Plain("ERR DB index is out of range"))?;
    if to == ctx.db.number() {
        return Err(Error::Plain("ERR source and destination objects are the same"));
    }
    let is_free = ctx.db.exists(key) && !ctx.db.other(to, |db| db.exists(key));
    if let Some(entry) = is_free.then(|| ctx.db.take(key)).flatten() {
        ctx.db.other(to, |db| db.put_entry(key, entry));
        ctx.changed(Event::generic("move_from"), key);
        ctx.event(Event::generic("move_to"), key);
    }
    reply.int(i64::from(is_free));
    Ok(())
}
