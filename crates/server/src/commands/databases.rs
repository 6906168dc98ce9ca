//! Keys that go from one database to another, and whole databases that change places.
//!
//! The other database is not where the declared keys are, so these run as the transaction.

use resp::reply::Reply;

use crate::command::event::Event;
use crate::command::{Access, Args, Category, Command, Databases, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::write("copy", -3, copy)
        .syntax("source destination [DB destination-db] [REPLACE]")
        .keys(1, 2, 1)
        .transaction()
        .deny_oom()
        .accesses(Access::Read, Access::Overwrite)
        .databases(Databases::Named(|request, visit| {
            let places = 3..request.len();
            let is_db = |at: &usize| request[at - 1].eq_ignore_ascii_case(b"DB");
            places.filter(|at| *at > 3 && is_db(at)).for_each(visit)
        }))
        .group("generic")
        .about("6.2.0", "O(N) in the elements", "Copies a key, also into another database."),
    Command::write("move", 3, move_key)
        .syntax("key db")
        .key(1)
        .databases(Databases::Named(|_, visit| visit(2)))
        .transaction()
        .fast()
        .group("generic")
        .about("1.0.0", "O(1)", "Moves a key to another database."),
    Command::write("swapdb", 3, swapdb)
        .syntax("index1 index2")
        .databases(Databases::Named(|_, visit| (1..3).for_each(visit)))
        .transaction()
        .fast()
        .categories(&[Category::Dangerous, Category::Keyspace])
        .group("server")
        .about("4.0.0", "O(N) in the waiting clients", "Exchanges two databases."),
];

const NO_SUCH_DATABASE: Error = Error::Plain("ERR DB index is out of range");
const SAME_OBJECT: Error = Error::Plain("ERR source and destination objects are the same");

fn database(ctx: &WriteCtx<'_>, number: i32) -> Result<u16> {
    let n_databases = ctx.db.locked().keyspace().n_databases();
    u16::try_from(number)
        .ok()
        .filter(|number| *number < n_databases)
        .ok_or(NO_SUCH_DATABASE)
}

fn copy(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (from, to) = (args.take()?, args.take()?);
    let (mut other, mut replaces) = (ctx.db.number(), false);
    while let Some(word) = args.word() {
        match &*word {
            b"REPLACE" => replaces = true,
            b"DB" => other = database(ctx, args.int32()?)?,
            _ => return Err(Error::Syntax),
        }
    }
    if other == ctx.db.number() && from == to {
        return Err(SAME_OBJECT);
    }
    let source = ctx.db.entry(from).map(|entry| entry.duplicate());
    let is_free = replaces || !ctx.db.other(other, |db| db.exists(to));
    let copied = source.filter(|_| is_free);
    reply.int(i64::from(copied.is_some()));
    if let Some(entry) = copied {
        ctx.db.other(other, |db| db.put_entry(to, entry));
        ctx.changed_in(other, Event::generic("copy_to"), to);
    }
    Ok(())
}

fn move_key(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, number) = (args.take()?, args.int32()?);
    let to = database(ctx, number)?;
    if to == ctx.db.number() {
        return Err(SAME_OBJECT);
    }
    let is_free = ctx.db.exists(key) && !ctx.db.other(to, |db| db.exists(key));
    if let Some(entry) = is_free.then(|| ctx.db.take(key)).flatten() {
        ctx.db.other(to, |db| db.put_entry(key, entry));
        ctx.changed(Event::generic("move_from"), key);
        ctx.changed_in(to, Event::generic("move_to"), key);
        ctx.effects.n_changes -= 1; // one change, seen from two sides
    }
    reply.int(i64::from(is_free));
    Ok(())
}

fn swapdb(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let first = args
        .int32()
        .map_err(|_| Error::Plain("ERR invalid first DB index"))?;
    let second = args
        .int32()
        .map_err(|_| Error::Plain("ERR invalid second DB index"))?;
    let (first, second) = (database(ctx, first)?, database(ctx, second)?);
    // A watched key that has run out goes before the exchange, so that it is not taken for a change.
    let both = [first, second];
    let watched: Vec<_> = both
        .iter()
        .flat_map(|number| ctx.db.locked().watched_keys(*number))
        .collect();
    for (number, key) in both
        .iter()
        .flat_map(|n| watched.iter().map(move |key| (*n, key)))
    {
        ctx.db.other(number, |db| db.exists(key));
    }
    ctx.db.other(first, |db| db.swap(second));
    ctx.effects.n_changes += 1;
    ctx.all_changed();
    ctx.database_changed(first);
    ctx.database_changed(second);
    reply.ok();
    Ok(())
}
