//! Ranges of a sorted set: by rank, by score, by member; shown, counted, stored or removed.
//!
//! Every kind of range comes down to a range of ranks, counted from the lowest score; `REV` and
//! `LIMIT` are applied to those.

use std::ops::Range;

use datatypes::list::resolve_range;
use datatypes::zset::{LexBound, ScoreBound, ZsetRef, limit_ranks};
use resp::reply::Reply;
use stdx::number::{parse_i64, parse_score_bound};

use super::{begin_members, store, write_member};
use crate::command::event::Event;
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands about ranges.
pub const COMMANDS: &[Command] = &[
    Command::read("zcount", 4, zcount)
        .syntax("key min=double max=double")
        .key(1)
        .fast()
        .group("sorted-set")
        .about("2.0.0", "O(log(N))", "Counts the members in a range of scores."),
    Command::read("zlexcount", 4, zlexcount)
        .syntax("key min max")
        .key(1)
        .fast()
        .group("sorted-set")
        .about("2.8.9", "O(log(N))", "Counts the members in a range of names."),
    Command::read("zrange", -4, zrange)
        .syntax("key start=string stop=string [sortby(BYSCORE|BYLEX)] [REV] [LIMIT limit(offset count)] [WITHSCORES]")
        .key(1)
        .as_long_as_reply()
        .group("sorted-set")
        .about("1.2.0", "O(log(N)+M)", "Returns the members of a range."),
    Command::read("zrangebylex", -4, zrangebylex)
        .syntax("key min max [LIMIT limit(offset count)]")
        .key(1)
        .deprecated("6.2.0", "`ZRANGE` with `BYLEX`")
        .group("sorted-set")
        .about("2.8.9", "O(log(N)+M)", "Returns the members in a range of names."),
    Command::read("zrangebyscore", -4, zrangebyscore)
        .syntax("key min=double max=double [WITHSCORES] [LIMIT limit(offset count)]")
        .key(1)
        .as_long_as_reply()
        .deprecated("6.2.0", "`ZRANGE` with `BYSCORE`")
        .group("sorted-set")
        .about("1.0.5", "O(log(N)+M)", "Returns the members in a range of scores."),
    Command::write("zrangestore", -5, zrangestore)
        .syntax("dst src min max [sortby(BYSCORE|BYLEX)] [REV] [LIMIT limit(offset count)]")
        .keys(1, 2, 1)
        .deny_oom()
        .accesses(Access::Overwrite, Access::Read)
        .group("sorted-set")
        .about("6.2.0", "O(log(N)+M)", "Stores the members of a range in another key."),
    Command::write("zremrangebylex", 4, zremrangebylex)
        .syntax("key min max")
        .key(1)
        .access(Access::Remove)
        .group("sorted-set")
        .about("2.8.9", "O(log(N)+M)", "Removes the members in a range of names."),
    Command::write("zremrangebyrank", 4, zremrangebyrank)
        .syntax("key start stop")
        .key(1)
        .access(Access::Remove)
        .group("sorted-set")
        .about("2.0.0", "O(log(N)+M)", "Removes the members in a range of ranks."),
    Command::write("zremrangebyscore", 4, zremrangebyscore)
        .syntax("key min=double max=double")
        .key(1)
        .access(Access::Remove)
        .group("sorted-set")
        .about("1.2.0", "O(log(N)+M)", "Removes the members in a range of scores."),
    Command::read("zrevrange", -4, zrevrange)
        .syntax("key start stop [WITHSCORES]")
        .key(1)
        .as_long_as_reply()
        .deprecated("6.2.0", "`ZRANGE` with `REV`")
        .group("sorted-set")
        .about("1.2.0", "O(log(N)+M)", "Returns a range of ranks, highest score first."),
    Command::read("zrevrangebylex", -4, zrevrangebylex)
        .syntax("key max min [LIMIT limit(offset count)]")
        .key(1)
        .deprecated("6.2.0", "`ZRANGE` with `REV` and `BYLEX`")
        .group("sorted-set")
        .about("2.8.9", "O(log(N)+M)", "Returns a range of names, last one first."),
    Command::read("zrevrangebyscore", -4, zrevrangebyscore)
        .syntax("key max=double min=double [WITHSCORES] [LIMIT limit(offset count)]")
        .key(1)
        .as_long_as_reply()
        .deprecated("6.2.0", "`ZRANGE` with `REV` and `BYSCORE`")
        .group("sorted-set")
        .about("2.2.0", "O(log(N)+M)", "Returns a range of scores, highest first."),
];

/// What the ends of a range are.
#[derive(Clone, Copy, PartialEq, Eq)]
enum By {
    Rank,
    Score,
    Lex,
}

enum Bounds<'a> {
    Ranks(i64, i64),
    Scores(ScoreBound, ScoreBound),
    Names(LexBound<'a>, LexBound<'a>),
}

impl<'a> Bounds<'a> {
    fn parse(by: By, low: &'a [u8], high: &'a [u8]) -> Result<Bounds<'a>> {
        let rank = |text| parse_i64(text).ok_or(Error::NotAnInteger);
        Ok(match by {
            By::Rank => Bounds::Ranks(rank(low)?, rank(high)?),
            By::Score => Bounds::Scores(score_bound(low)?, score_bound(high)?),
            By::Lex => Bounds::Names(lex_bound(low)?, lex_bound(high)?),
        })
    }

    fn ranks(&self, zset: ZsetRef<'_>, reverse: bool) -> Range<usize> {
        match *self {
            Bounds::Ranks(start, stop) => {
                let len = zset.len();
                let ranks = resolve_range(len, start, stop);
                if reverse {
                    len - ranks.end..len - ranks.start
                } else {
                    ranks
                }
            }
            Bounds::Scores(min, max) => zset.ranks_by_score(min, max),
            Bounds::Names(min, max) => zset.ranks_by_lex(min, max),
        }
    }
}

fn score_bound(text: &[u8]) -> Result<ScoreBound> {
    let (exclusive, number) = match text.strip_prefix(b"(") {
        Some(number) => (true, number),
        None => (false, text),
    };
    parse_score_bound(number)
        .filter(|value| !value.is_nan())
        .map(|value| ScoreBound { value, exclusive })
        .ok_or(Error::Plain("ERR min or max is not a float"))
}

fn lex_bound(text: &[u8]) -> Result<LexBound<'_>> {
    match text {
        b"-" => Ok(LexBound::Min),
        b"+" => Ok(LexBound::Max),
        [b'[', member @ ..] => Ok(LexBound::Inclusive(member)),
        [b'(', member @ ..] => Ok(LexBound::Exclusive(member)),
        _ => Err(Error::Plain("ERR min or max not valid string range item")),
    }
}

/// A range as the options of a command describe it.
struct Span<'a> {
    bounds: Bounds<'a>,
    reverse: bool,
    offset: i64,
    count: i64,
    with_scores: bool,
}

impl<'a> Span<'a> {
    /// Parses two ends and options. `fixed` says the kind and direction of the older commands,
    /// which have no words for them.
    fn parse(args: &mut Args<'a>, fixed: Option<(By, bool)>, is_stored: bool) -> Result<Span<'a>> {
        let (first, second) = (args.take()?, args.take()?);
        let (mut by, mut reverse) = (fixed.map(|fixed| fixed.0), fixed.map(|fixed| fixed.1));
        let (mut offset, mut count, mut with_scores) = (0, -1, false);
        while let Some(word) = args.word() {
            match &*word {
                b"WITHSCORES" if !is_stored => with_scores = true,
                b"LIMIT" if args.len() >= 2 => (offset, count) = (args.int()?, args.int()?),
                b"REV" if reverse.is_none() => reverse = Some(true),
                b"BYLEX" if by.is_none() => by = Some(By::Lex),
                b"BYSCORE" if by.is_none() => by = Some(By::Score),
                _ => return Err(Error::Syntax),
            }
        }
        let (by, reverse) = (by.unwrap_or(By::Rank), reverse.unwrap_or(false));
        if count != -1 && by == By::Rank {
            return Err(Error::Plain(
                "ERR syntax error, LIMIT is only supported in combination with either BYSCORE or \
                 BYLEX",
            ));
        }
        if with_scores && by == By::Lex {
            return Err(Error::Plain(
                "ERR syntax error, WITHSCORES not supported in combination with BYLEX",
            ));
        }
        if by == By::Rank {
            offset = 0;
        }
        let is_swapped = reverse && by != By::Rank;
        let (low, high) = if is_swapped {
            (second, first)
        } else {
            (first, second)
        };
        Ok(Span {
            bounds: Bounds::parse(by, low, high)?,
            reverse,
            offset,
            count,
            with_scores,
        })
    }

    fn ranks(&self, zset: ZsetRef<'_>) -> Range<usize> {
        let ranks = self.bounds.ranks(zset, self.reverse);
        limit_ranks(ranks, self.reverse, self.offset, self.count)
    }
}

// ---- Showing -----------------------------------------------------------------------------------

fn show(
    ctx: &mut ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    fixed: Option<(By, bool)>,
) -> Result<()> {
    let key = args.take()?;
    let span = Span::parse(args, fixed, false)?;
    let zset = ctx.db.zset(key)?.unwrap_or(ZsetRef::EMPTY);
    let ranks = span.ranks(zset);
    begin_members(reply, ranks.len(), span.with_scores);
    for pair in zset.range(ranks, span.reverse) {
        write_member(reply, pair, span.with_scores);
    }
    Ok(())
}

fn zrange(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    show(ctx, args, reply, None)
}

fn zrevrange(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    show(ctx, args, reply, Some((By::Rank, true)))
}

fn zrangebyscore(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    show(ctx, args, reply, Some((By::Score, false)))
}

fn zrevrangebyscore(
    ctx: &mut ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    show(ctx, args, reply, Some((By::Score, true)))
}

fn zrangebylex(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    show(ctx, args, reply, Some((By::Lex, false)))
}

fn zrevrangebylex(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    show(ctx, args, reply, Some((By::Lex, true)))
}

fn zrangestore(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (destination, source) = (args.take()?, args.take()?);
    let span = Span::parse(args, None, true)?;
    let zset = ctx.db.zset(source)?.unwrap_or(ZsetRef::EMPTY);
    let members: Vec<_> = zset
        .range(span.ranks(zset), span.reverse)
        .map(|(member, score)| (member.to_vec(), score))
        .collect();
    store(ctx, destination, &members, "zrangestore")?;
    reply.count(members.len());
    Ok(())
}

// ---- Counting and removing ---------------------------------------------------------------------

fn count(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>, by: By) -> Result<()> {
    let key = args.take()?;
    let bounds = Bounds::parse(by, args.take()?, args.take()?)?;
    let zset = ctx.db.zset(key)?.unwrap_or(ZsetRef::EMPTY);
    reply.count(bounds.ranks(zset, false).len());
    Ok(())
}

fn zcount(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    count(ctx, args, reply, By::Score)
}

fn zlexcount(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    count(ctx, args, reply, By::Lex)
}

fn remove(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    (by, event): (By, &'static str),
) -> Result<()> {
    let key = args.take()?;
    let bounds = Bounds::parse(by, args.take()?, args.take()?)?;
    let n = match ctx.db.zset_mut(key)? {
        Some(mut zset) => {
            let ranks = bounds.ranks(zset.view(), false);
            zset.remove_ranks(ranks, &mut |_, _| {})
        }
        None => 0,
    };
    if n > 0 {
        ctx.changed(Event::zset(event), key);
    }
    reply.count(n);
    Ok(())
}

fn zremrangebyrank(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    remove(ctx, args, reply, (By::Rank, "zremrangebyrank"))
}

fn zremrangebyscore(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    remove(ctx, args, reply, (By::Score, "zremrangebyscore"))
}

fn zremrangebylex(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    remove(ctx, args, reply, (By::Lex, "zremrangebylex"))
}
