//! Streams: adding entries, reading ranges, deleting.
//!
//! Trimming lives in `trim`, XREAD and XREADGROUP in `read`, groups in `groups`, what was delivered
//! and is not acknowledged in `pending`, what was given back in `nack`, ids of producers in `producers`,
//! XINFO in `info`.

pub mod groups;
mod ids;
pub mod info;
pub mod nack;
pub mod pending;
pub mod producers;
pub mod read;
pub mod trim;

use datatypes::stream::{Facts, Refused, StreamId};
use resp::reply::Reply;

use crate::command::event::Event;
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};
use ids::{IdText, range_end, range_start, write_entry, write_id};
use producers::Producer;
use trim::{Removal, TrimOption};

/// The commands that are about entries.
pub const COMMANDS: &[Command] = &[
    Command::write("xadd", -5, xadd)
        .syntax(
            "key [nomkstream(NOMKSTREAM)] [condition(KEEPREF|DELREF|ACKED)] \
             [idmp(IDMPAUTO pid=string|IDMP idmp(pid=string iid=string))] \
             [trim(strategy(MAXLEN|MINID) [operator(equal(=)|approximately(~))] threshold \
             [LIMIT count])] id-selector(auto-id(*)|id) data(field value) ...",
        )
        .key(1)
        .fast()
        .deny_oom()
        .access(Access::Update)
        .tips(&["nondeterministic_output"])
        .group("stream")
        .about("5.0.0", "O(1), O(N) to trim N entries", "Adds an entry, and may trim."),
    Command::write("xdel", -3, xdel)
        .syntax("key id ...")
        .key(1)
        .fast()
        .access(Access::Remove)
        .group("stream")
        .about("5.0.0", "O(1) per entry", "Deletes entries."),
    Command::read("xlen", 2, xlen)
        .syntax("key")
        .key(1)
        .fast()
        .access(Access::Look)
        .group("stream")
        .about("5.0.0", "O(1)", "Returns the number of entries."),
    Command::read("xrange", -4, xrange)
        .syntax("key start=string end=string [COUNT count]")
        .key(1)
        .group("stream")
        .about(
            "5.0.0",
            "O(N) in the entries returned; O(1) with a COUNT",
            "Returns entries of a range of ids.",
        ),
    Command::read("xrevrange", -4, xrevrange)
        .syntax("key end=string start=string [COUNT count]")
        .key(1)
        .group("stream")
        .about(
            "5.0.0",
            "O(N) in the entries returned; O(1) with a COUNT",
            "Returns entries of a range of ids, last first.",
        ),
    Command::write("xsetid", -3, xsetid)
        .syntax("key last-id [ENTRIESADDED entries-added=integer] [MAXDELETEDID max-deleted-id]")
        .key(1)
        .fast()
        .deny_oom()
        .access(Access::Update)
        .group("stream")
        .about("5.0.0", "O(1)", "Sets the id that the next entry must follow."),
];

/// The error for a group that must exist.
fn no_group(key: &[u8], group: &[u8]) -> Error {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    Error::Owned(format!("NOGROUP No such key '{key}' or consumer group '{group}'"))
}

/// The same in other words, for a key that exists.
fn no_group_of(key: &[u8], group: &[u8]) -> Error {
    let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
    Error::Owned(format!("NOGROUP No such consumer group '{group}' for key name '{key}'"))
}

// ---- Adding ------------------------------------------------------------------------------------

/// The id that XADD asks for.
#[derive(Clone, Copy)]
enum NewId {
    /// `*`
    Auto,
    /// `ms-*`
    In(u64),
    /// `ms-seq`
    This(StreamId),
}

impl NewId {
    fn parse(text: &[u8]) -> Result<NewId> {
        Ok(match text {
            b"*" => NewId::Auto,
            [ms @ .., b'-', b'*'] => NewId::In(ids::parse(ms, 0)?.ms),
            _ => NewId::This(ids::parse(text, 0)?),
        })
    }

    /// The id behind `last` that is meant.
    fn behind(self, last: StreamId, now_ms: u64) -> Option<StreamId> {
        match self {
            NewId::Auto if now_ms > last.ms => Some(StreamId::new(now_ms, 0)),
            NewId::Auto => last.next(),
            NewId::In(ms) if ms == last.ms => {
                last.seq.checked_add(1).map(|seq| StreamId::new(ms, seq))
            }
            NewId::In(ms) => Some(StreamId::new(ms, 0)),
            NewId::This(id) => Some(id),
        }
    }
}

const TOP_ITEM: Error = Error::Plain(
    "ERR The ID specified in XADD is equal or smaller than the target stream top item",
);

fn xadd(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let mut trim = TrimOption::default();
    let (mut makes_stream, mut producer) = (true, None);
    let id = loop {
        if args.eat(b"NOMKSTREAM") {
            makes_stream = false;
        } else if !Producer::accept(&mut producer, args)? && !trim.accept(args)? {
            break NewId::parse(args.take().map_err(|_| args.arity_error())?)?;
        }
    };
    let plan = trim.plan(ctx.limits())?;
    let words = args.take_n(args.len())?;
    if words.is_empty() || !words.len().is_multiple_of(2) {
        return Err(args.arity_error());
    }
    if producer.is_some() && !matches!(id, NewId::Auto) {
        return Err(Error::Plain("ERR IDMP/IDMPAUTO can be used only with auto-generated IDs"));
    }
    let producer = producer.map(|producer| producer.named(words));
    if matches!(id, NewId::This(StreamId::MIN)) {
        return Err(Error::Plain("ERR The ID specified in XADD must be greater than 0-0"));
    }
    if !makes_stream && ctx.db.stream(key)?.is_none() {
        reply.null();
        return Ok(());
    }
    let fields = words.chunks_exact(2).map(|pair| (pair[0], pair[1]));
    if !datatypes::stream::fits(fields.clone()) {
        return Err(Error::Plain("ERR Elements are too large to be stored"));
    }
    let (now_ms, limit) = (ctx.present_ms(), ctx.limits().stream_block);
    let mut stream = ctx.db.stream_or_new(key)?;
    let before = producer
        .as_ref()
        .and_then(|producer| producer.entry_before(&mut stream, now_ms));
    if let Some(before) = before {
        write_id(reply, before);
        return Ok(());
    }
    let last = stream.facts().last_id;
    if last == StreamId::MAX {
        return Err(Error::Plain(
            "ERR The stream has exhausted the last possible ID, unable to add more items",
        ));
    }
    let id = id.behind(last, now_ms).ok_or(TOP_ITEM)?;
    stream
        .append(id, fields, limit)
        .map_err(|Refused| TOP_ITEM)?;
    if let Some(producer) = &producer {
        producer.note(&mut stream, id, now_ms);
    }
    let n_trimmed = plan.map_or(0, |plan| trim::trim(&mut stream, plan));
    let is_kept = producer.is_some() && stream.get(id).is_some();
    write_id(reply, id);
    if ctx.effects.is_recorded {
        let mut record: Vec<Vec<u8>> = vec![b"XADD".to_vec(), key.to_vec()];
        if let Some(plan) = plan {
            plan.write_exact(&stream, &mut record);
        }
        record.push(IdText::new(id).as_bytes().to_vec());
        record.extend(words.iter().map(|word| word.to_vec()));
        ctx.propagate_owned(&record);
    }
    if let Some(producer) = producer.filter(|_| is_kept) {
        producer.propagate(ctx, key, id);
    }
    ctx.grew(Event::stream("xadd"), key);
    if n_trimmed > 0 {
        ctx.event(Event::stream("xtrim"), key);
    }
    Ok(())
}

fn xsetid(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, id) = (args.take()?, ids::parse(args.take()?, 0)?);
    let (mut added, mut max_deleted) = (None, StreamId::MIN);
    while !args.is_empty() {
        if args.len() > 1 && args.eat(b"ENTRIESADDED") {
            let number = u64::try_from(args.int()?);
            added = Some(number.map_err(|_| Error::Plain("ERR entries_added must be positive"))?);
        } else if args.len() > 1 && args.eat(b"MAXDELETEDID") {
            max_deleted = ids::parse(args.take()?, 0)?;
            if id < max_deleted {
                return Err(Error::Plain(
                    "ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id",
                ));
            }
        } else {
            return Err(Error::Syntax);
        }
    }
    let mut stream = ctx.db.stream_mut(key)?.ok_or(Error::NoSuchKey)?;
    let facts = stream.facts();
    if id < facts.max_deleted_id {
        return Err(Error::Plain(
            "ERR The ID specified in XSETID is smaller than current max_deleted_entry_id",
        ));
    }
    if stream.last_entry().is_some_and(|last| id < last.id) {
        return Err(Error::Plain(
            "ERR The ID specified in XSETID is smaller than the target stream top item",
        ));
    }
    if added.is_some_and(|added| added < stream.len() as u64) {
        return Err(Error::Plain(
            "ERR The entries_added specified in XSETID is smaller than the target stream length",
        ));
    }
    stream.set_facts(Facts {
        last_id: id,
        entries_added: added.unwrap_or(facts.entries_added),
        max_deleted_id: match max_deleted.is_zero() {
            true => facts.max_deleted_id,
            false => max_deleted,
        },
    });
    reply.ok();
    ctx.altered(Event::stream("xsetid"), key);
    Ok(())
}

// ---- Reading -----------------------------------------------------------------------------------

fn xlen(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(
        ctx.db
            .stream(args.take()?)?
            .map_or(0, |stream| stream.len()),
    );
    Ok(())
}

fn xrange(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let (start, end) = (range_start(args.take()?)?, range_end(args.take()?)?);
    range(ctx, args, reply, (key, start, end, false))
}

fn xrevrange(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let (end, start) = (args.take()?, args.take()?);
    let (start, end) = (range_start(start)?, range_end(end)?);
    range(ctx, args, reply, (key, start, end, true))
}

fn range(
    ctx: &ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    (key, start, end, is_reverse): (&[u8], StreamId, StreamId, bool),
) -> Result<()> {
    let mut count = None;
    while !args.is_empty() {
        if args.len() < 2 || !args.eat(b"COUNT") {
            return Err(Error::Syntax);
        }
        count = Some(usize::try_from(args.int()?).unwrap_or(0));
    }
    let Some(stream) = ctx.db.stream(key)? else {
        reply.array(0);
        return Ok(());
    };
    if count == Some(0) {
        reply.null_array();
        return Ok(());
    }
    let max = count.unwrap_or(usize::MAX);
    let mut entries = stream.range(start..=end);
    let array = reply.array_later();
    let mut n = 0;
    while n < max {
        let next = match is_reverse {
            true => entries.next_back(),
            false => entries.next(),
        };
        let Some(entry) = next else { break };
        write_entry(reply, entry)?;
        n += 1;
    }
    reply.finish(array, n);
    Ok(())
}

// ---- Deleting ----------------------------------------------------------------------------------

fn xdel(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let n_deleted = match ctx.db.stream_mut(key)? {
        None => 0,
        Some(mut stream) => {
            let ids: Vec<_> = args
                .rest()
                .map(|id| ids::parse(id, 0))
                .collect::<Result<_>>()?;
            ids.iter().filter(|id| stream.delete(**id)).count()
        }
    };
    if n_deleted > 0 {
        ctx.changed_by(n_deleted, Event::stream("xdel"), key);
    }
    let _ = args.rest();
    reply.count(n_deleted);
    Ok(())
}

/// `KEEPREF`, `DELREF` or `ACKED`, if it comes next and none was given before.
fn removal_option(slot: &mut Option<Removal>, args: &mut Args<'_>) -> bool {
    let words = [
        (&b"KEEPREF"[..], Removal::Entry),
        (b"DELREF", Removal::EntryAndDeliveries),
        (b"ACKED", Removal::IfAcknowledged),
    ];
    let found = words
        .iter()
        .find(|(word, _)| slot.is_none() && args.eat(word));
    *slot = found.map(|(_, removal)| *removal).or(*slot);
    found.is_some()
}
