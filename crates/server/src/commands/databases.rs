//! Keys that go from one database to another.
//!
//! The other database is not where the declared keys are, so these run as the transaction.

use resp::reply::Reply;

use crate::command::event::Event;
use crate::command::{Args, Command, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[Command::write("move", 3, move_key)
    .syntax("key db")
    .key(1)
    .transaction()
    .fast()
    .group("generic")
    .about("1.0.0", "O(1)", "Moves a key to another database.")];

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
