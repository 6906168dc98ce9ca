//! XNACK: a consumer gives back what it was delivered, and says what that means for the number of
//! deliveries.
//!
//! What is given back is pending for nobody and counts as idle for ever: whoever claims next gets it
//! first. Consumers that wait with XREADGROUP … CLAIM are woken.

use datatypes::stream::group::{DELIVERIES_MAX, Pending};
use resp::reply::Reply;

use super::{ids, no_group};
use crate::command::event::Event;
use crate::command::grammar::at_least;
use crate::command::{Access, Args, Command, WriteCtx};
use crate::error::{Error, Result};

/// The command of this room.
pub const COMMANDS: &[Command] = &[Command::write("xnack", -7, xnack)
    .syntax(
        "key group mode(SILENT|FAIL|FATAL) IDS ids(numids=integer id ...) [RETRYCOUNT count] [force(FORCE)]",
    )
    .key(1)
    .fast()
    .access(Access::Update)
    .group("stream")
    .about("8.8.0", "O(1) per id", "Gives deliveries back to their group.")];

/// What becomes of the number of deliveries.
#[derive(Clone, Copy, Debug)]
enum Mode {
    /// One less: it did not count.
    Silent,
    /// The same.
    Fail,
    /// The largest: never again.
    Fatal,
}

impl Mode {
    fn parse(args: &mut Args<'_>) -> Result<Mode> {
        match args.word().as_deref() {
            Some(b"SILENT") => Ok(Mode::Silent),
            Some(b"FAIL") => Ok(Mode::Fail),
            Some(b"FATAL") => Ok(Mode::Fatal),
            _ => Err(Error::Syntax),
        }
    }

    /// How often something counts as delivered, of which this was the number; `None` for what was
    /// never delivered.
    fn n_deliveries(self, before: Option<u64>) -> u64 {
        match self {
            Mode::Silent => before.unwrap_or(0).saturating_sub(1),
            Mode::Fail => before.unwrap_or(0),
            Mode::Fatal => DELIVERIES_MAX,
        }
    }
}

fn xnack(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, name) = (args.take()?, args.take()?);
    let mode = Mode::parse(args)?;
    if !args.eat(b"IDS") {
        return Err(Error::Syntax);
    }
    let n_ids = at_least(1, args.take()?, "ERR Number of IDs must be a positive integer")?;
    let texts = args.take_n(n_ids).map_err(|_| {
        Error::Plain("ERR The `numids` parameter must match the number of arguments")
    })?;
    let ids: Vec<_> = texts
        .iter()
        .map(|text| ids::parse(text, 0))
        .collect::<Result<_>>()?;
    let (mut n_deliveries, mut is_forced) = (None, false);
    while !args.is_empty() {
        if args.eat(b"FORCE") {
            is_forced = true;
        } else if args.len() > 1 && args.eat(b"RETRYCOUNT") {
            let count =
                at_least(0, args.take()?, "ERR Invalid RETRYCOUNT option argument for XNACK")?;
            n_deliveries = Some(count as u64);
        } else {
            return Err(Error::Syntax);
        }
    }
    let stream = ctx.db.stream_mut(key)?;
    let mut stream = stream.ok_or_else(|| no_group(key, name))?;
    if stream.group(name).is_none() {
        return Err(no_group(key, name));
    }
    let mut n = 0;
    for id in ids {
        let is_there = is_forced && stream.get(id).is_some();
        let Some(group) = stream.group_mut(name) else {
            break;
        };
        let before = group.pending_at(id).map(|pending| pending.n_deliveries);
        if before.is_none() && !is_there {
            continue;
        }
        let released = Pending {
            delivered_ms: 0,
            n_deliveries: n_deliveries.unwrap_or_else(|| mode.n_deliveries(before)),
            consumer: None,
        };
        group.deliver(id, released);
        n += 1;
    }
    reply.count(n);
    if n > 0 {
        ctx.altered(Event::SILENT, key);
        ctx.wake(key);
    }
    Ok(())
}
