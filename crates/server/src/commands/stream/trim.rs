//! Trimming streams, and deleting entries with what groups know of them.

use datatypes::home::Limits;
use datatypes::stream::{Judge, Stream, StreamId, TrimPlan, TrimTarget, Verdict};
use resp::reply::Reply;
use stdx::number::I64Text;

use super::ids::{self, IdText};
use super::removal_option;
use crate::command::event::Event;
use crate::command::{Access, Args, Command, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command::write("xackdel", -6, xackdel)
        .syntax("key group [condition(KEEPREF|DELREF|ACKED)] IDS ids(numids=integer id ...)")
        .key(1)
        .fast()
        .access(Access::Drop)
        .group("stream")
        .about("8.2.0", "O(1) per id", "Acknowledges deliveries and deletes their entries."),
    Command::write("xdelex", -5, xdelex)
        .syntax("key [condition(KEEPREF|DELREF|ACKED)] IDS ids(numids=integer id ...)")
        .key(1)
        .fast()
        .access(Access::Remove)
        .group("stream")
        .about("8.2.0", "O(1) per id", "Deletes entries, and says what became of each."),
    Command::write("xtrim", -4, xtrim)
        .syntax(
            "key trim(strategy(MAXLEN|MINID) [operator(equal(=)|approximately(~))] threshold \
             [LIMIT count] [condition(KEEPREF|DELREF|ACKED)])",
        )
        .key(1)
        .access(Access::Remove)
        .tips(&["nondeterministic_output"])
        .group("stream")
        .about("5.0.0", "O(N) in the entries deleted", "Deletes the oldest entries."),
];

/// What deleting an entry means to the groups that have to do with it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Removal {
    /// `KEEPREF`: their deliveries stay pending.
    #[default]
    Entry,
    /// `DELREF`: those are forgotten.
    EntryAndDeliveries,
    /// `ACKED`: an entry stays if a group has still to read or to acknowledge it.
    IfAcknowledged,
}

impl Removal {
    fn word(self) -> &'static [u8] {
        match self {
            Removal::Entry => b"KEEPREF",
            Removal::EntryAndDeliveries => b"DELREF",
            Removal::IfAcknowledged => b"ACKED",
        }
    }
}

/// A plan and what it means to groups.
#[derive(Clone, Copy, Debug)]
pub struct Trim {
    plan: TrimPlan,
    removal: Removal,
}

impl Trim {
    /// The words that do the same again, now that it was done: an approximate trim depends on sizes
    /// of blocks, which another server may have set otherwise.
    pub fn write_exact(self, stream: &Stream, words: &mut Vec<Vec<u8>>) {
        if self.removal != Removal::Entry {
            words.push(self.removal.word().to_vec());
        }
        let by_length = |len: u64| (&b"MAXLEN"[..], I64Text::new(len as i64).as_bytes().to_vec());
        let by_id = |id: StreamId| (&b"MINID"[..], IdText::new(id).as_bytes().to_vec());
        let (strategy, threshold) = match (self.plan.target, self.plan.is_approximate) {
            (TrimTarget::Length(len), false) => by_length(len),
            (TrimTarget::MinId(id), false) => by_id(id),
            (_, true) if stream.is_empty() => by_length(0),
            // What had to stay may come first; those that went were the first that could.
            (_, true) if self.removal == Removal::IfAcknowledged => by_length(stream.len() as u64),
            (TrimTarget::Length(_), true) => by_length(stream.len() as u64),
            (TrimTarget::MinId(_), true) => by_id(stream.first_id()),
        };
        words.extend([strategy.to_vec(), b"=".to_vec(), threshold]);
    }
}

/// Trims; how many entries went.
pub fn trim(stream: &mut Stream, trim: Trim) -> u64 {
    let judge: &mut Judge<'_> = match trim.removal {
        Removal::Entry => return stream.trim(trim.plan, None),
        Removal::EntryAndDeliveries => &mut |id, groups| {
            groups.acknowledge(id);
            Verdict::Delete
        },
        Removal::IfAcknowledged => &mut |id, groups| match groups.need(id) {
            true => Verdict::Keep,
            false => Verdict::Delete,
        },
    };
    stream.trim(trim.plan, Some(judge))
}

/// `MAXLEN|MINID [=|~] threshold [LIMIT n] [KEEPREF|DELREF|ACKED]`, in any order.
#[derive(Clone, Copy, Debug, Default)]
pub struct TrimOption {
    target: Option<TrimTarget>,
    is_approximate: bool,
    limit: Option<u64>,
    removal: Option<Removal>,
}

impl TrimOption {
    /// Takes one of the options, if one comes next; whether it did.
    pub fn accept(&mut self, args: &mut Args<'_>) -> Result<bool> {
        if removal_option(&mut self.removal, args) {
            return Ok(true);
        }
        if args.len() < 2 {
            return Ok(false);
        }
        let by_length = args.eat(b"MAXLEN");
        if by_length || args.eat(b"MINID") {
            if self.target.is_some() {
                return Err(Error::Plain(
                    "ERR syntax error, MAXLEN and MINID options at the same time are not compatible",
                ));
            }
            self.is_approximate = args.len() > 1 && args.eat(b"~");
            if !self.is_approximate && args.len() > 1 {
                args.eat(b"=");
            }
            self.target = Some(match by_length {
                true => TrimTarget::Length(not_negative(
                    args.int()?,
                    "ERR The MAXLEN argument must be >= 0.",
                )?),
                false => TrimTarget::MinId(ids::parse(args.take()?, 0)?),
            });
            return Ok(true);
        }
        if args.eat(b"LIMIT") {
            self.limit = Some(not_negative(args.int()?, "ERR The LIMIT argument must be >= 0.")?);
            return Ok(true);
        }
        Ok(false)
    }

    /// What is to be done, if anything.
    pub fn plan(self, limits: &Limits) -> Result<Option<Trim>> {
        let Some(target) = self.target else {
            return match self.limit {
                Some(1..) => Err(Error::Plain(
                    "ERR syntax error, LIMIT cannot be used without specifying a trimming strategy",
                )),
                _ => Ok(None),
            };
        };
        if self.limit.is_some() && !self.is_approximate {
            return Err(Error::Plain(
                "ERR syntax error, LIMIT cannot be used without the special ~ option",
            ));
        }
        let limit = match (self.limit, self.is_approximate) {
            (Some(limit), _) => limit,
            (None, false) => 0,
            (None, true) => match limits.stream_block.entries.saturating_mul(100) {
                0 => 10_000,
                limit => limit.min(1_000_000),
            },
        };
        Ok(Some(Trim {
            plan: TrimPlan {
                target,
                is_approximate: self.is_approximate,
                limit,
            },
            removal: self.removal.unwrap_or_default(),
        }))
    }
}

fn not_negative(number: i64, error: &'static str) -> Result<u64> {
    u64::try_from(number).map_err(|_| Error::Plain(error))
}

fn xtrim(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let mut option = TrimOption::default();
    while !args.is_empty() {
        if !option.accept(args)? {
            return Err(Error::Syntax);
        }
    }
    let plan = option
        .plan(ctx.limits())?
        .ok_or(Error::Plain("ERR syntax error, XTRIM must be called with a trimming strategy"))?;
    let Some(mut stream) = ctx.db.stream_mut(key)? else {
        reply.int(0);
        return Ok(());
    };
    let n_gone = trim(&mut stream, plan) as usize;
    reply.count(n_gone);
    if n_gone > 0 {
        let mut record = vec![b"XTRIM".to_vec(), key.to_vec()];
        plan.write_exact(&stream, &mut record);
        ctx.propagate_owned(&record);
        ctx.changed_by(n_gone, Event::stream("xtrim"), key);
    }
    Ok(())
}

// ---- By id -------------------------------------------------------------------------------------

/// `[KEEPREF|DELREF|ACKED] IDS n id ...`, in any order.
fn ids_option<'a>(args: &mut Args<'a>) -> Result<(Removal, &'a [&'a [u8]])> {
    let (mut removal, mut ids) = (None, &[][..]);
    while !args.is_empty() {
        if removal_option(&mut removal, args) {
            continue;
        }
        if args.len() < 2 || !args.eat(b"IDS") {
            return Err(Error::Syntax);
        }
        const NOT_POSITIVE: Error = Error::Plain("ERR Number of IDs must be a positive integer");
        let n = stdx::number::parse_i64(args.take()?).filter(|n| *n > 0);
        let n = usize::try_from(n.ok_or(NOT_POSITIVE)?).map_err(|_| NOT_POSITIVE)?;
        ids = args.take_n(n).map_err(|_| {
            Error::Plain("ERR The `numids` parameter must match the number of arguments")
        })?;
    }
    if ids.is_empty() {
        return Err(Error::Syntax);
    }
    Ok((removal.unwrap_or_default(), ids))
}

fn parse_all(words: &[&[u8]]) -> Result<Vec<StreamId>> {
    words.iter().map(|id| ids::parse(id, 0)).collect()
}

/// What became of an entry that was to be deleted, as clients are told.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Absent = -1,
    Deleted = 1,
    Needed = 2,
}

fn remove(stream: &mut Stream, id: StreamId, removal: Removal) -> Fate {
    match removal {
        Removal::IfAcknowledged if stream.is_needed(id) => return Fate::Needed,
        Removal::EntryAndDeliveries => stream.acknowledge_everywhere(id),
        _ => {}
    }
    match stream.delete(id) {
        true => Fate::Deleted,
        false => Fate::Absent,
    }
}

fn write_fates(reply: &mut Reply<'_>, fates: &[Fate]) {
    reply.array(fates.len());
    fates.iter().for_each(|fate| reply.int(*fate as i64));
}

fn xdelex(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    ctx.db.stream(key)?;
    let (removal, ids) = ids_option(args)?;
    let Some(mut stream) = ctx.db.stream_mut(key)? else {
        write_fates(reply, &vec![Fate::Absent; ids.len()]);
        return Ok(());
    };
    let ids = parse_all(ids)?;
    let fates: Vec<_> = ids
        .iter()
        .map(|id| remove(&mut stream, *id, removal))
        .collect();
    write_fates(reply, &fates);
    let n_deleted = fates.iter().filter(|fate| **fate == Fate::Deleted).count();
    if n_deleted > 0 {
        ctx.changed_by(n_deleted, Event::stream("xdel"), key);
    } else if removal == Removal::EntryAndDeliveries {
        ctx.altered(Event::SILENT, key);
    }
    Ok(())
}

fn xackdel(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, name) = (args.take()?, args.take()?);
    ctx.db.stream(key)?;
    let (removal, ids) = ids_option(args)?;
    let found = ctx.db.stream_mut(key)?;
    let Some(mut stream) = found.filter(|stream| stream.group(name).is_some()) else {
        write_fates(reply, &vec![Fate::Absent; ids.len()]);
        return Ok(());
    };
    let ids = parse_all(ids)?;
    let (mut n_acknowledged, mut n_deleted) = (0, 0);
    let mut fates = Vec::with_capacity(ids.len());
    for id in ids {
        let group = stream.group_mut(name);
        if !group.is_some_and(|group| group.acknowledge(id)) {
            fates.push(Fate::Absent);
            continue;
        }
        n_acknowledged += 1;
        let fate = remove(&mut stream, id, removal);
        n_deleted += usize::from(fate == Fate::Deleted);
        fates.push(match fate {
            Fate::Needed => Fate::Needed,
            _ => Fate::Deleted,
        });
    }
    write_fates(reply, &fates);
    if n_deleted > 0 {
        ctx.changed_by(n_deleted, Event::stream("xdel"), key);
    } else if n_acknowledged > 0 {
        ctx.altered(Event::SILENT, key);
    }
    Ok(())
}
