//! Sorted sets: adding, looking up, popping and sampling members.
//!
//! Ranges live in `range`, unions and the like in `algebra`. Scores are shown as doubles in RESP3
//! and as text in RESP2, where pairs are also flattened into one array.

pub mod algebra;
pub mod blocking;
pub mod range;

use datatypes::encoding::listpack::Item;
use datatypes::encoding::zsettree::Change;
use datatypes::zset::ZsetRef;
use resp::reply::{Proto, Reply};
use stdx::double::{format_f64, format_g17};
use stdx::number::I64Text;

use crate::command::event::Event;
use crate::command::grammar::{self, NOT_POSITIVE, ScanOptions, at_least, pop_option};
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands that are about members.
pub const COMMANDS: &[Command] = &[
    Command::write("zadd", -4, zadd)
        .syntax("key [condition(NX|XX)] [comparison(GT|LT)] [change(CH)] [increment(INCR)] data(score member) ...")
        .key(1)
        .element(3)
        .fast()
        .deny_oom()
        .access(Access::Update)
        .group("sorted-set")
        .about("1.2.0", "O(log(N)) per member", "Adds members or changes their scores."),
    Command::read("zcard", 2, zcard)
        .syntax("key")
        .key(1)
        .fast()
        .access(Access::Look)
        .group("sorted-set")
        .about("1.2.0", "O(1)", "Returns the number of members."),
    Command::write("zincrby", 4, zincrby)
        .syntax("key increment member")
        .key(1)
        .element(3)
        .fast()
        .deny_oom()
        .group("sorted-set")
        .about("1.2.0", "O(log(N))", "Adds a number to the score of a member."),
    Command::write("zmpop", -4, zmpop)
        .syntax("numkeys key ... where(MIN|MAX) [COUNT count]")
        .numkeys(1)
        .access(Access::Take)
        .group("sorted-set")
        .about("7.0.0", "O(K) + O(M*log(N))", "Removes members from the first set not empty."),
    Command::read("zmscore", -3, zmscore)
        .syntax("key member ...")
        .key(1)
        .element(2)
        .fast()
        .group("sorted-set")
        .about("6.2.0", "O(N) in the members", "Returns the scores of members."),
    Command::write("zpopmax", -2, zpopmax)
        .syntax("key [count]")
        .key(1)
        .fast()
        .access(Access::Take)
        .group("sorted-set")
        .about("5.0.0", "O(log(N)*M)", "Removes the members with the highest scores."),
    Command::write("zpopmin", -2, zpopmin)
        .syntax("key [count]")
        .key(1)
        .fast()
        .access(Access::Take)
        .group("sorted-set")
        .about("5.0.0", "O(log(N)*M)", "Removes the members with the lowest scores."),
    Command::read("zrandmember", -2, zrandmember)
        .syntax("key [options(count [WITHSCORES])]")
        .key(1)
        .tips(&["nondeterministic_output"])
        .group("sorted-set")
        .about("6.2.0", "O(N) in the members", "Returns members at random."),
    Command::read("zrank", -3, zrank)
        .syntax("key member [WITHSCORE]")
        .key(1)
        .element(2)
        .fast()
        .group("sorted-set")
        .about("2.0.0", "O(log(N))", "Returns the place of a member, lowest score first."),
    Command::write("zrem", -3, zrem)
        .syntax("key member ...")
        .key(1)
        .element(2)
        .fast()
        .access(Access::Remove)
        .group("sorted-set")
        .about("1.2.0", "O(M*log(N))", "Removes members."),
    Command::read("zrevrank", -3, zrevrank)
        .syntax("key member [WITHSCORE]")
        .key(1)
        .element(2)
        .fast()
        .group("sorted-set")
        .about("2.0.0", "O(log(N))", "Returns the place of a member, highest score first."),
    Command::read("zscan", -3, zscan)
        .syntax("key cursor [MATCH pattern] [COUNT count] [NOSCORES]")
        .key(1)
        .tips(&["nondeterministic_output"])
        .group("sorted-set")
        .about("2.8.0", "O(1) per call", "Iterates over members and scores."),
    Command::read("zscore", 3, zscore)
        .syntax("key member")
        .key(1)
        .element(2)
        .fast()
        .group("sorted-set")
        .about("1.2.0", "O(1)", "Returns the score of a member."),
];

const NAN_SCORE: Error = Error::Plain("ERR resulting score is not a number (NaN)");

type Pairs = Vec<(Vec<u8>, f64)>;

pub(super) fn write_item(reply: &mut Reply<'_>, item: Item<'_>) {
    match item {
        Item::Int(n) => reply.bulk_int(n),
        Item::Bytes(text) => reply.bulk(text),
    }
}

/// The header of `n` members, each to be written by [`write_member`].
fn begin_members(reply: &mut Reply<'_>, n: usize, with_scores: bool) {
    let is_flat = with_scores && reply.proto() == Proto::Resp2;
    reply.array(if is_flat { n.saturating_mul(2) } else { n });
}

fn write_member(reply: &mut Reply<'_>, (member, score): (Item<'_>, f64), with_scores: bool) {
    if with_scores && reply.proto() == Proto::Resp3 {
        reply.array(2);
    }
    write_item(reply, member);
    if with_scores {
        reply.double(score);
    }
}

fn double_or_null(reply: &mut Reply<'_>, score: Option<f64>) {
    match score {
        Some(score) => reply.double(score),
        None => reply.null(),
    }
}

/// Puts `members` in the place of whatever `destination` held, or removes it if there are none.
pub(super) fn store(
    ctx: &mut WriteCtx<'_>,
    destination: &[u8],
    members: &[(Vec<u8>, f64)],
    event: &'static str,
) -> Result<()> {
    let existed = ctx.db.remove(destination);
    if members.is_empty() {
        if existed {
            ctx.changed(Event::generic("del"), destination);
        }
        return Ok(());
    }
    let bytes_max = members.iter().map(|(member, _)| member.len()).max();
    let mut zset = ctx.db.zset_or_new(destination)?;
    zset.reserve(members.len(), bytes_max.unwrap_or(0));
    for (member, score) in members {
        zset.set_score(member, *score);
    }
    ctx.changed(Event::zset(event), destination);
    Ok(())
}

// ---- Adding ------------------------------------------------------------------------------------

#[derive(Clone, Copy, Default)]
pub(super) struct AddOptions {
    /// Only adds.
    pub nx: bool,
    /// Only changes scores.
    pub xx: bool,
    gt: bool,
    lt: bool,
    /// The reply counts changes as well.
    pub counts_changes: bool,
    incr: bool,
}

impl AddOptions {
    fn parse(args: &mut Args<'_>) -> AddOptions {
        let mut options = AddOptions::default();
        loop {
            let slot = match args.clone().word().as_deref() {
                Some(b"NX") => &mut options.nx,
                Some(b"XX") => &mut options.xx,
                Some(b"GT") => &mut options.gt,
                Some(b"LT") => &mut options.lt,
                Some(b"CH") => &mut options.counts_changes,
                Some(b"INCR") => &mut options.incr,
                _ => return options,
            };
            *slot = true;
            args.word();
        }
    }

    fn check(self, n_members: usize) -> Result<()> {
        if self.nx && self.xx {
            return Err(Error::Plain("ERR XX and NX options at the same time are not compatible"));
        }
        if self.gt && self.lt || self.nx && (self.gt || self.lt) {
            return Err(Error::Plain(
                "ERR GT, LT, and/or NX options at the same time are not compatible",
            ));
        }
        if self.incr && n_members > 1 {
            return Err(Error::Plain("ERR INCR option supports a single increment-element pair"));
        }
        Ok(())
    }

    /// The score to store, or `None` to leave things as they are; NaN is for the caller to refuse.
    fn decide(self, current: Option<f64>, given: f64) -> Option<f64> {
        let Some(old) = current else {
            return (!self.xx).then_some(given);
        };
        let new = if self.incr { old + given } else { given };
        let is_refused = self.nx || self.gt && new <= old || self.lt && new >= old;
        (!is_refused).then_some(new)
    }
}

/// Adds members to a set; in the form of an increment, the score is the reply.
pub(super) fn add(
    ctx: &mut WriteCtx<'_>,
    reply: &mut Reply<'_>,
    key: &[u8],
    options: AddOptions,
    members: &[(f64, &[u8])],
) -> Result<()> {
    if options.xx && ctx.db.zset(key)?.is_none() {
        match options.incr {
            true => reply.null(),
            false => reply.int(0),
        }
        return Ok(());
    }
    let mut zset = ctx.db.zset_or_new(key)?;
    let first_len = if zset.view().is_empty() {
        members[0].1.len()
    } else {
        0
    };
    zset.reserve(members.len(), first_len);
    let (mut n_added, mut n_updated, mut result, mut is_nan) = (0, 0, None, false);
    for (given, member) in members {
        let change = zset.update(member, |current| {
            let score = options.decide(current, *given);
            is_nan |= score.is_some_and(f64::is_nan);
            score.filter(|score| !score.is_nan())
        });
        result = match change {
            Change::Added(score) => {
                n_added += 1;
                Some(score)
            }
            Change::Updated { new, .. } => {
                n_updated += 1;
                Some(new)
            }
            Change::Same(score) => Some(score),
            Change::Skipped => None,
        };
    }
    if is_nan {
        return Err(NAN_SCORE);
    }
    if n_added + n_updated > 0 {
        ctx.grew(Event::zset(if options.incr { "zincr" } else { "zadd" }), key);
    }
    match (options.incr, options.counts_changes) {
        (true, _) => double_or_null(reply, result),
        (false, true) => reply.int(n_added + n_updated),
        (false, false) => reply.int(n_added),
    }
    Ok(())
}

fn zadd(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let options = AddOptions::parse(args);
    if args.is_empty() || !args.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    options.check(args.len() / 2)?;
    let mut members = Vec::with_capacity(args.len() / 2);
    while !args.is_empty() {
        members.push((args.float()?, args.take()?));
    }
    add(ctx, reply, key, options, &members)
}

fn zincrby(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, increment, member) = (args.take()?, args.float()?, args.take()?);
    let options = AddOptions {
        incr: true,
        ..AddOptions::default()
    };
    add(ctx, reply, key, options, &[(increment, member)])
}

fn zrem(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, members) = (args.take()?, args.rest());
    let n = match ctx.db.zset_mut(key)? {
        Some(mut zset) => members
            .filter(|member| zset.remove(member).is_some())
            .count(),
        None => 0,
    };
    if n > 0 {
        ctx.changed(Event::zset("zrem"), key);
    }
    reply.count(n);
    Ok(())
}

// ---- Looking up --------------------------------------------------------------------------------

fn zcard(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(ctx.db.zset(args.take()?)?.map_or(0, ZsetRef::len));
    Ok(())
}

fn zscore(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, member) = (args.take()?, args.take()?);
    double_or_null(reply, ctx.db.zset(key)?.and_then(|zset| zset.score(member)));
    Ok(())
}

fn zmscore(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, members) = (args.take()?, args.rest());
    let zset = ctx.db.zset(key)?.unwrap_or(ZsetRef::EMPTY);
    reply.array(members.len());
    members.for_each(|member| double_or_null(reply, zset.score(member)));
    Ok(())
}

fn rank(
    ctx: &mut ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    reverse: bool,
) -> Result<()> {
    let (key, member) = (args.take()?, args.take()?);
    if args.len() > 1 {
        return Err(args.arity_error());
    }
    let with_score = args.eat(b"WITHSCORE");
    args.end()?;
    let found = ctx
        .db
        .zset(key)?
        .and_then(|zset| zset.rank(member, reverse));
    match (found, with_score) {
        (Some((rank, score)), true) => {
            reply.array(2);
            reply.count(rank);
            reply.double(score);
        }
        (Some((rank, _)), false) => reply.count(rank),
        (None, true) => reply.null_array(),
        (None, false) => reply.null(),
    }
    Ok(())
}

fn zrank(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    rank(ctx, args, reply, false)
}

fn zrevrank(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    rank(ctx, args, reply, true)
}

fn zscan(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let mut cursor = grammar::cursor(args)?;
    let Some(zset) = ctx.db.zset(key)? else {
        let _ = args.rest();
        reply.array(2);
        reply.bulk(b"0");
        reply.array(0);
        return Ok(());
    };
    let options = ScanOptions::parse(args)?;
    // A big set's scores are shown otherwise than everywhere else, as the original does.
    let show = match zset.is_tree() {
        true => format_g17,
        false => format_f64,
    };
    let (mut members, mut n_seen): (Pairs, usize) = (Vec::new(), 0);
    for _ in 0..options.count.saturating_mul(10) {
        cursor = zset.scan(cursor, &mut |member, score| {
            n_seen += 1;
            if options.matches(member) {
                members.push((member.to_vec(), score));
            }
        });
        if cursor == 0 || n_seen >= options.count {
            break;
        }
    }
    reply.array(2);
    reply.bulk(cursor.to_string().as_bytes());
    if options.no_values {
        reply.array(members.len());
        members.iter().for_each(|(member, _)| reply.bulk(member));
        return Ok(());
    }
    reply.array(members.len() * 2);
    for (member, score) in members {
        let mut text = Vec::with_capacity(25);
        show(score, &mut text);
        reply.bulk(&member);
        reply.bulk(&text);
    }
    Ok(())
}

// ---- Popping -----------------------------------------------------------------------------------

#[derive(Clone, Copy)]
enum End {
    Min,
    Max,
}

impl End {
    fn name(self) -> &'static str {
        match self {
            End::Min => "zpopmin",
            End::Max => "zpopmax",
        }
    }
}

/// Removes up to `count` members from an end, that end first; `None` if there is no set.
fn pop_members(
    ctx: &mut WriteCtx<'_>,
    key: &[u8],
    end: End,
    count: usize,
) -> Result<Option<Pairs>> {
    let Some(mut zset) = ctx.db.zset_mut(key)? else {
        return Ok(None);
    };
    let len = zset.view().len();
    let count = count.min(len);
    let ranks = match end {
        End::Min => 0..count,
        End::Max => len - count..len,
    };
    let mut members = Vec::with_capacity(count);
    zset.remove_ranks(ranks, &mut |member, score| members.push((member.to_vec(), score)));
    if let End::Max = end {
        members.reverse();
    }
    match count {
        0 => {}
        _ if count < len => ctx.grew(Event::zset(end.name()), key),
        _ => ctx.changed(Event::zset(end.name()), key),
    }
    Ok(Some(members))
}

fn pop(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>, end: End) -> Result<()> {
    let key = args.take()?;
    let count = args.peek();
    let n_args = args.rest().len();
    if n_args > 1 {
        return Err(Error::Syntax);
    }
    let n = match count {
        None => 1,
        Some(text) => at_least(0, text, NOT_POSITIVE)?,
    };
    let members = pop_members(ctx, key, end, n)?.unwrap_or_default();
    match count {
        None => reply.array(members.len() * 2),
        Some(_) => begin_members(reply, members.len(), true),
    }
    for (member, score) in members {
        if count.is_some() && reply.proto() == Proto::Resp3 {
            reply.array(2);
        }
        reply.bulk(&member);
        reply.double(score);
    }
    Ok(())
}

fn zpopmin(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    pop(ctx, args, reply, End::Min)
}

fn zpopmax(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    pop(ctx, args, reply, End::Max)
}

fn end(args: &mut Args<'_>) -> Result<End> {
    match args.word().as_deref() {
        Some(b"MIN") => Ok(End::Min),
        Some(b"MAX") => Ok(End::Max),
        _ => Err(Error::Syntax),
    }
}

/// Pops from the first sorted set there is; whether there was one.
fn pop_first(
    ctx: &mut WriteCtx<'_>,
    keys: &[&[u8]],
    (end, count): (End, usize),
    reply: &mut Reply<'_>,
) -> Result<bool> {
    for key in keys {
        let Some(members) = pop_members(ctx, key, end, count)? else {
            continue;
        };
        reply.array(2);
        reply.bulk(key);
        reply.array(members.len());
        for (member, score) in &members {
            reply.array(2);
            reply.bulk(member);
            reply.double(*score);
        }
        let name = end.name().to_ascii_uppercase();
        let count = I64Text::new(members.len() as i64);
        ctx.propagate(&[name.as_bytes(), key, count.as_bytes()]);
        return Ok(true);
    }
    Ok(false)
}

fn zmpop(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (keys, end, count) = pop_option(args, end)?;
    if !pop_first(ctx, keys, (end, count), reply)? {
        reply.null_array();
    }
    Ok(())
}

// ---- Sampling ----------------------------------------------------------------------------------

/// The number of members wanted; negative if one may come several times.
fn sample_count(args: &mut Args<'_>) -> Result<(i64, bool)> {
    let count = args.int()?;
    if count == i64::MIN {
        return Err(Error::Plain(
            "ERR value is out of range, value must between -9223372036854775807 and \
             9223372036854775807",
        ));
    }
    let with_scores = args.eat(b"WITHSCORES");
    args.end()?;
    if with_scores && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(Error::OutOfRange);
    }
    Ok((count, with_scores))
}

fn zrandmember(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    if args.is_empty() {
        let bits = ctx.random();
        match ctx.db.zset(key)?.and_then(|zset| zset.random(bits)) {
            Some((member, _)) => write_item(reply, member),
            None => reply.null(),
        }
        return Ok(());
    }
    let (count, with_scores) = sample_count(args)?;
    let ReadCtx { db, random, .. } = ctx;
    let zset = db.zset(key)?.unwrap_or(ZsetRef::EMPTY);
    let mut bits = || crate::command::context::next_random(random);
    if count >= 0 {
        let members = zset.pick_distinct(usize::try_from(count).unwrap_or(usize::MAX), &mut bits);
        begin_members(reply, members.len(), with_scores);
        for pair in members {
            write_member(reply, pair, with_scores);
        }
        return Ok(());
    }
    let n = if zset.is_empty() {
        0
    } else {
        count.unsigned_abs()
    };
    let n = usize::try_from(n).unwrap_or(usize::MAX);
    if reply.is_filled_by(n) {
        return Err(Error::ReplyTooLong);
    }
    begin_members(reply, n, with_scores);
    for _ in 0..n {
        if reply.is_full() {
            return Err(Error::ReplyTooLong);
        }
        if let Some(pair) = zset.random(bits()) {
            write_member(reply, pair, with_scores);
        }
    }
    Ok(())
}
