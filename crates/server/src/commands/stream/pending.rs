//! What was delivered and is not acknowledged: looking at it, and giving it to other consumers.
//!
//! A claim is journaled as XCLAIM with all that it meant at the time: when, how often, by whom.

use std::ops::RangeInclusive;

use datatypes::stream::group::{ConsumerNo, DELIVERIES_MAX, Group, Pending};
use datatypes::stream::{Stream, StreamId};
use resp::reply::Reply;
use stdx::number::I64Text;

use super::groups::{note_new_consumer, propagate_position};
use super::ids::{self, IdText, range_end, range_start, write_entry, write_id};
use super::no_group;
use crate::command::event::Event;
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command::write("xautoclaim", -6, xautoclaim)
        .syntax("key group consumer min-idle-time start=string [COUNT count] [justid(JUSTID)]")
        .key(1)
        .fast()
        .access(Access::Remove)
        .tips(&["nondeterministic_output"])
        .group("stream")
        .about("6.2.0", "O(1) if COUNT is small", "Gives what is pending for too long to a consumer."),
    Command::write("xclaim", -6, xclaim)
        .syntax(
            "key group consumer min-idle-time id ... [IDLE ms=integer] \
             [TIME unix-time-milliseconds] [RETRYCOUNT count] [force(FORCE)] [justid(JUSTID)] \
             [LASTID lastid]",
        )
        .key(1)
        .fast()
        .access(Access::Update)
        .tips(&["nondeterministic_output"])
        .group("stream")
        .about("5.0.0", "O(log N) per id", "Gives pending deliveries to a consumer."),
    Command::read("xpending", -3, xpending)
        .syntax(
            "key group [filters([IDLE min-idle-time=integer] start=string end=string count [consumer])]",
        )
        .key(1)
        .tips(&["nondeterministic_output"])
        .group("stream")
        .about("5.0.0", "O(N) in the deliveries looked at", "Returns what is pending for a group."),
];

// ---- XPENDING ----------------------------------------------------------------------------------

fn xpending(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let now_ms = ctx.now_ms();
    let (key, name) = (args.take()?, args.take()?);
    let filter = match args.is_empty() {
        true => None,
        false => Some(Filter::parse(args)?),
    };
    let stream = ctx.db.stream(key)?;
    let group = stream
        .and_then(|stream| stream.group(name))
        .ok_or_else(|| no_group(key, name))?;
    match filter {
        None => summary(group, reply),
        Some(filter) => filter.write(group, now_ms, reply),
    }
    Ok(())
}

fn summary(group: &Group, reply: &mut Reply<'_>) {
    reply.array(4);
    reply.count(group.n_pending());
    let mut all = group.pending(StreamId::MIN..=StreamId::MAX);
    let Some((first, _)) = all.next() else {
        reply.null();
        reply.null();
        return reply.null_array();
    };
    let last = all.next_back().map_or(first, |(last, _)| last);
    write_id(reply, first);
    write_id(reply, last);
    let owners = group
        .consumers()
        .filter(|(_, consumer)| consumer.n_pending() > 0);
    reply.array(owners.clone().count());
    for (_, consumer) in owners {
        reply.array(2);
        reply.bulk(consumer.name());
        reply.bulk_int(consumer.n_pending() as i64);
    }
}

/// The name of the consumer who has a delivery; empty if it was given back.
pub fn owner_name(group: &Group, pending: Pending) -> &[u8] {
    pending
        .consumer
        .map_or(&[], |owner| group.consumer(owner).name())
}

/// For how long nothing has been done about a delivery; -1 if it was given back.
pub fn idle_ms_of(pending: Pending, now_ms: u64) -> i64 {
    match pending.consumer {
        None => -1,
        Some(_) => now_ms.saturating_sub(pending.delivered_ms) as i64,
    }
}

/// `[IDLE ms] start end count [consumer]`.
struct Filter<'a> {
    idle_ms: i64,
    ids: RangeInclusive<StreamId>,
    count: usize,
    consumer: Option<&'a [u8]>,
}

impl<'a> Filter<'a> {
    fn parse(args: &mut Args<'a>) -> Result<Filter<'a>> {
        if !(3..=6).contains(&args.len()) {
            return Err(Error::Syntax);
        }
        let idle_ms = if args.eat(b"IDLE") { args.int()? } else { 0 };
        let (start, end) = (args.take()?, args.take()?);
        let count = usize::try_from(args.int()?).unwrap_or(0);
        let ids = range_start(start)?..=range_end(end)?;
        let consumer = args.take().ok();
        let _ = args.rest();
        Ok(Filter {
            idle_ms,
            ids,
            count,
            consumer,
        })
    }

    fn write(self, group: &Group, now_ms: u64, reply: &mut Reply<'_>) {
        let array = reply.array_later();
        let mut n = 0;
        let mut see = |id: StreamId, pending: Pending| {
            let idle_ms = now_ms as i64 - pending.delivered_ms as i64;
            if n == self.count || self.idle_ms != 0 && idle_ms < self.idle_ms {
                return n < self.count;
            }
            n += 1;
            reply.array(4);
            write_id(reply, id);
            reply.bulk(owner_name(group, pending));
            reply.int(idle_ms_of(pending, now_ms));
            reply.int(pending.n_deliveries as i64);
            n < self.count
        };
        match self.consumer.map(|name| group.find_consumer(name)) {
            None => {
                group
                    .pending(self.ids)
                    .all(|(id, pending)| see(id, pending));
            }
            Some(Some(no)) => {
                let mut ids = group.consumer(no).pending(self.ids);
                ids.all(|id| group.pending_at(id).is_none_or(|pending| see(id, pending)));
            }
            Some(None) => {}
        }
        reply.finish(array, n);
    }
}

// ---- Claiming ----------------------------------------------------------------------------------

/// Journals what is pending under an id, or that nothing is.
pub fn propagate_claim(
    ctx: &mut WriteCtx<'_>,
    key: &[u8],
    name: &[u8],
    id: StreamId,
) -> Result<()> {
    if !ctx.effects.is_recorded {
        return Ok(());
    }
    let Some(group) = ctx.db.stream(key)?.and_then(|stream| stream.group(name)) else {
        return Ok(());
    };
    let id_text = IdText::new(id);
    let id_text = id_text.as_bytes();
    let Some(pending) = group.pending_at(id) else {
        ctx.propagate(&[b"XACK", key, name, id_text]);
        return Ok(());
    };
    let Some(owner) = pending.consumer else {
        let n_deliveries = I64Text::new(pending.n_deliveries as i64);
        let released: [&[u8]; 9] = [
            b"XNACK",
            key,
            name,
            b"FAIL",
            b"IDS",
            b"1",
            id_text,
            b"RETRYCOUNT",
            n_deliveries.as_bytes(),
        ];
        ctx.propagate(&[&released[..], &[b"FORCE"]].concat());
        return Ok(());
    };
    let consumer = group.consumer(owner).name().to_vec();
    let delivered_ms = pending.delivered_ms.to_string();
    let n_deliveries = pending.n_deliveries.to_string();
    let last_id = IdText::new(group.last_id);
    let words: [&[u8]; 14] = [
        b"XCLAIM",
        key,
        name,
        &consumer,
        b"0",
        id_text,
        b"TIME",
        delivered_ms.as_bytes(),
        b"RETRYCOUNT",
        n_deliveries.as_bytes(),
        b"FORCE",
        b"JUSTID",
        b"LASTID",
        last_id.as_bytes(),
    ];
    ctx.propagate(&words);
    Ok(())
}

/// The options of XCLAIM.
struct ClaimOptions {
    idle_ms: i64,
    delivered_ms: u64,
    n_deliveries: Option<u64>,
    is_forced: bool,
    just_id: bool,
    last_id: StreamId,
}

impl ClaimOptions {
    fn parse(args: &mut Args<'_>, idle_ms: i64, now_ms: u64) -> Result<ClaimOptions> {
        let mut options = ClaimOptions {
            idle_ms,
            delivered_ms: now_ms,
            n_deliveries: None,
            is_forced: false,
            just_id: false,
            last_id: StreamId::MIN,
        };
        let now_ms = now_ms as i64;
        let until_now = |ms: i64| {
            if (0..=now_ms).contains(&ms) {
                ms as u64
            } else {
                now_ms as u64
            }
        };
        while let Some(word) = args.peek() {
            let has_more = args.len() > 1;
            if args.eat(b"FORCE") {
                options.is_forced = true;
            } else if args.eat(b"JUSTID") {
                options.just_id = true;
            } else if has_more && args.eat(b"IDLE") {
                let idle_ms = args
                    .int()
                    .map_err(|_| Error::Plain("ERR Invalid IDLE option argument for XCLAIM"))?;
                options.delivered_ms = until_now(now_ms.wrapping_sub(idle_ms));
            } else if has_more && args.eat(b"TIME") {
                let ms = args
                    .int()
                    .map_err(|_| Error::Plain("ERR Invalid TIME option argument for XCLAIM"))?;
                options.delivered_ms = until_now(ms);
            } else if has_more && args.eat(b"RETRYCOUNT") {
                let count = args.int().map_err(|_| {
                    Error::Plain("ERR Invalid RETRYCOUNT option argument for XCLAIM")
                })?;
                options.n_deliveries = u64::try_from(count).ok();
            } else if has_more && args.eat(b"LASTID") {
                options.last_id = ids::parse(args.take()?, 0)?;
            } else {
                let word = String::from_utf8_lossy(word);
                return Err(Error::Owned(format!("ERR Unrecognized XCLAIM option '{word}'")));
            }
        }
        Ok(options)
    }
}

/// Who claims, from where.
struct Claim<'c> {
    key: &'c [u8],
    group: &'c [u8],
    consumer: &'c [u8],
}

impl Claim<'_> {
    /// The consumer, made if there is none; whether it was. The group exists.
    fn consumer(&self, stream: &mut Stream, now_ms: u64) -> Result<(ConsumerNo, bool)> {
        let group = stream
            .group_mut(self.group)
            .ok_or_else(|| no_group(self.key, self.group))?;
        let (no, is_new) = group.consumer_or_new(self.consumer, now_ms);
        group.consumer_mut(no).seen_ms = now_ms;
        Ok((no, is_new))
    }

    /// Journals new owners and what is not pending any more.
    fn note(&self, ctx: &mut WriteCtx<'_>, is_new: bool, changed: &[StreamId]) -> Result<()> {
        if is_new {
            note_new_consumer(ctx, self.key, self.group, self.consumer);
        }
        ctx.effects.n_changes += changed.len() as u64;
        for id in changed {
            propagate_claim(ctx, self.key, self.group, *id)?;
        }
        Ok(())
    }
}

fn min_idle(args: &mut Args<'_>, error: &'static str) -> Result<i64> {
    args.int()
        .map(|ms| ms.max(0))
        .map_err(|_| Error::Plain(error))
}

fn group_must_exist(ctx: &WriteCtx<'_>, key: &[u8], name: &[u8]) -> Result<()> {
    let group = ctx.db.stream(key)?.and_then(|stream| stream.group(name));
    group.map(|_| ()).ok_or_else(|| no_group(key, name))
}

fn write_claimed(
    reply: &mut Reply<'_>,
    stream: &Stream,
    ids: &[StreamId],
    just_id: bool,
) -> Result<()> {
    reply.array(ids.len());
    for id in ids {
        match stream.get(*id) {
            Some(entry) if !just_id => write_entry(reply, entry)?,
            _ => write_id(reply, *id),
        }
    }
    Ok(())
}

fn xclaim(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, group, consumer) = (args.take()?, args.take()?, args.take()?);
    let claim = Claim {
        key,
        group,
        consumer,
    };
    group_must_exist(ctx, key, group)?;
    let now_ms = ctx.present_ms();
    let idle_ms = min_idle(args, "ERR Invalid min-idle-time argument for XCLAIM")?;
    let mut ids = Vec::new();
    while let Some(Ok(id)) = args.peek().map(|id| ids::parse(id, 0)) {
        ids.push(id);
        args.take()?;
    }
    let options = ClaimOptions::parse(args, idle_ms, now_ms)?;
    let Some(mut stream) = ctx.db.stream_mut(key)? else {
        return Ok(());
    };
    let (no, is_new) = claim.consumer(&mut stream, now_ms)?;
    let mut has_moved = false;
    if let Some(group) = stream.group_mut(group)
        && options.last_id > group.last_id
    {
        group.last_id = options.last_id;
        has_moved = true;
    }
    let (mut mine, mut gone) = (Vec::new(), Vec::new());
    for id in ids {
        match claim_one(&mut stream, &claim, (id, no), &options, now_ms) {
            Claimed::Mine => mine.push(id),
            Claimed::Gone => gone.push(id),
            Claimed::No => {}
        }
    }
    // What was claimed is journaled even if it is too much for a reply.
    let written = write_claimed(reply, &stream, &mine, options.just_id);
    mine.extend(gone);
    claim.note(ctx, is_new, &mine)?;
    if has_moved {
        ctx.altered(Event::SILENT, key);
        propagate_position(ctx, key, group)?;
    }
    written
}

/// What became of a delivery that was to be claimed.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Claimed {
    /// The claimer has it now.
    Mine,
    /// It is not pending, or not for long enough.
    No,
    /// Its entry was deleted; it is forgotten.
    Gone,
}

fn claim_one(
    stream: &mut Stream,
    claim: &Claim<'_>,
    (id, no): (StreamId, ConsumerNo),
    options: &ClaimOptions,
    now_ms: u64,
) -> Claimed {
    let is_there = stream.get(id).is_some();
    let Some(group) = stream.group_mut(claim.group) else {
        return Claimed::No;
    };
    let before = group.pending_at(id);
    if !is_there {
        return match group.acknowledge(id) {
            true => Claimed::Gone,
            false => Claimed::No,
        };
    }
    let n_before = match before {
        Some(before) => {
            let idle_ms = now_ms as i64 - before.delivered_ms as i64;
            if options.idle_ms > 0 && idle_ms < options.idle_ms {
                return Claimed::No;
            }
            before.n_deliveries
        }
        None if options.is_forced => 1, // as a delivery that was never made
        None => return Claimed::No,
    };
    let n_deliveries = match options.n_deliveries {
        Some(n) => n,
        None => n_before
            .saturating_add(u64::from(!options.just_id))
            .min(DELIVERIES_MAX),
    };
    let pending = Pending {
        delivered_ms: options.delivered_ms,
        n_deliveries,
        consumer: Some(no),
    };
    group.deliver(id, pending);
    group.consumer_mut(no).active_ms = Some(now_ms);
    Claimed::Mine
}

/// Deliveries that XAUTOCLAIM looks at for each that it may claim.
const TRIES_PER_CLAIM: usize = 10;

fn xautoclaim(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, group, consumer) = (args.take()?, args.take()?, args.take()?);
    let claim = Claim {
        key,
        group,
        consumer,
    };
    let idle_ms = min_idle(args, "ERR Invalid min-idle-time argument for XAUTOCLAIM")?;
    let from = range_start(args.take()?)?;
    let (mut count, mut just_id) = (100, false);
    while !args.is_empty() {
        if args.len() > 1 && args.eat(b"COUNT") {
            const COUNT_MAX: i64 = i64::MAX / 16;
            let number = stdx::number::parse_i64(args.take()?);
            let number = number.filter(|n| (1..=COUNT_MAX).contains(n));
            count = number.ok_or(Error::Plain("ERR COUNT must be > 0"))? as usize;
        } else if args.eat(b"JUSTID") {
            just_id = true;
        } else {
            return Err(Error::Syntax);
        }
    }
    group_must_exist(ctx, key, group)?;
    let now_ms = ctx.present_ms();
    let Some(mut stream) = ctx.db.stream_mut(key)? else {
        return Ok(());
    };
    let (no, is_new) = claim.consumer(&mut stream, now_ms)?;
    let options = ClaimOptions {
        idle_ms,
        delivered_ms: now_ms,
        n_deliveries: None,
        is_forced: false,
        just_id,
        last_id: StreamId::MIN,
    };
    let (seen, next) = pending_from(&stream, group, from, count.saturating_mul(TRIES_PER_CLAIM));
    let (mut mine, mut gone, mut next) = (Vec::new(), Vec::new(), next);
    for id in seen {
        if mine.len() + gone.len() == count {
            next = Some(id);
            break;
        }
        match claim_one(&mut stream, &claim, (id, no), &options, now_ms) {
            Claimed::Mine => mine.push(id),
            Claimed::Gone => gone.push(id),
            Claimed::No => {}
        }
    }
    reply.array(3);
    write_id(reply, next.unwrap_or_default());
    let written = write_claimed(reply, &stream, &mine, just_id);
    reply.array(gone.len());
    gone.iter().for_each(|id| write_id(reply, *id));
    mine.extend(gone);
    claim.note(ctx, is_new, &mine)?;
    written
}

/// Up to `n` ids that are pending from one on, and the one behind them.
fn pending_from(
    stream: &Stream,
    group: &[u8],
    from: StreamId,
    n: usize,
) -> (Vec<StreamId>, Option<StreamId>) {
    let Some(group) = stream.group(group) else {
        return (Vec::new(), None);
    };
    let mut ids = group.pending(from..=StreamId::MAX).map(|(id, _)| id);
    let seen = ids.by_ref().take(n).collect();
    (seen, ids.next())
}
