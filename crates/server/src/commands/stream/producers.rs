//! Producers who may add something twice: IDMP and IDMPAUTO of XADD, for how long their ids are kept
//! (XCFGSET), and the note of an id in the append-only file (XIDMPRECORD).
//!
//! An entry is journaled as any other, under the id that it got, and the producer's id after it: who
//! repeats the journal later would else look at another clock.

use datatypes::stream::idempotency::{DURATION_S_MAX, ENTRIES_MAX, Terms};
use datatypes::stream::{Stream, StreamId};
use resp::reply::Reply;
use xxhash_rust::xxh3::xxh3_128;

use super::ids::{self, IdText};
use crate::command::event::Event;
use crate::command::{Access, Args, Command, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command::write("xcfgset", -2, xcfgset)
        .syntax("key [IDMP-DURATION idmp-duration=integer] [IDMP-MAXSIZE idmp-maxsize=integer]")
        .key(1)
        .fast()
        .access(Access::Update)
        .group("stream")
        .about("8.6.0", "O(1)", "Sets how long and how many ids of producers are kept."),
    Command::write("xidmprecord", 5, xidmprecord)
        .syntax("key pid=string iid=string stream-id=string")
        .key(1)
        .fast()
        .deny_oom()
        .access(Access::Update)
        .group("stream")
        .about(
            "8.6.2",
            "O(1)",
            "Notes under which id a producer has added an entry; for the append-only file.",
        ),
];

/// Who adds an entry, and under which id of his own: `None` is made from the fields.
#[derive(Clone, Copy, Debug)]
pub struct Producer<'a> {
    name: &'a [u8],
    iid: Option<&'a [u8]>,
}

/// A producer with the id of an entry that he adds.
#[derive(Debug)]
pub struct Named<'a> {
    name: &'a [u8],
    iid: Vec<u8>,
}

impl<'a> Producer<'a> {
    /// Takes `IDMP pid iid` or `IDMPAUTO pid`, if it comes next; whether it did.
    pub fn accept(slot: &mut Option<Producer<'a>>, args: &mut Args<'a>) -> Result<bool> {
        let has_id = match args.peek() {
            Some(word) if word.eq_ignore_ascii_case(b"IDMP") && args.len() > 2 => true,
            Some(word) if word.eq_ignore_ascii_case(b"IDMPAUTO") && args.len() > 1 => false,
            _ => return Ok(false),
        };
        args.take()?;
        if slot.is_some() {
            return Err(Error::Plain("ERR IDMP/IDMPAUTO specified multiple times"));
        }
        let name = args.take()?;
        let iid = has_id.then(|| args.take()).transpose()?;
        if name.is_empty() {
            return Err(Error::Plain(match has_id {
                true => "ERR IDMP requires a non-empty producer ID",
                false => "ERR IDMPAUTO requires a non-empty producer ID",
            }));
        }
        if iid.is_some_and(<[u8]>::is_empty) {
            return Err(Error::Plain("ERR IDMP requires a non-empty idempotent ID"));
        }
        *slot = Some(Producer { name, iid });
        Ok(true)
    }

    /// With his id of an entry of these fields.
    pub fn named(self, words: &[&[u8]]) -> Named<'a> {
        Named {
            name: self.name,
            iid: self
                .iid
                .map_or_else(|| digest_of(words).to_be_bytes().to_vec(), <[u8]>::to_vec),
        }
    }
}

/// The same for the same fields with the same values, in whatever order.
fn digest_of(words: &[&[u8]]) -> u128 {
    let mut text = Vec::new();
    let pairs = words.chunks(2).map(|pair| {
        text.clear();
        for word in pair {
            text.extend_from_slice(&(word.len() as u64).to_be_bytes());
            text.extend_from_slice(word);
        }
        xxh3_128(&text)
    });
    pairs.fold(0, u128::wrapping_add)
}

impl Named<'_> {
    /// The entry that was added under this id before, which is counted.
    pub fn entry_before(&self, stream: &mut Stream, now_ms: u64) -> Option<StreamId> {
        let id = stream.idempotency()?.find(self.name, &self.iid, now_ms)?;
        stream.idempotency_mut().n_duplicates += 1;
        Some(id)
    }

    /// Notes that an entry was added.
    pub fn note(&self, stream: &mut Stream, id: StreamId, now_ms: u64) {
        let known = stream.idempotency_mut();
        known.n_added += 1;
        known.remember(self.name, &self.iid, id, now_ms);
    }

    /// Journals it.
    pub fn propagate(&self, ctx: &mut WriteCtx<'_>, key: &[u8], id: StreamId) {
        let id = IdText::new(id);
        ctx.propagate(&[b"XIDMPRECORD", key, self.name, &self.iid, id.as_bytes()]);
    }
}

fn xcfgset(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    if args.is_empty() {
        return Err(Error::Plain("ERR At least one parameter must be specified"));
    }
    let (mut duration_s, mut max_entries) = (None, None);
    while !args.is_empty() {
        if args.len() > 1 && args.eat(b"IDMP-DURATION") {
            duration_s = Some(within(
                args,
                DURATION_S_MAX,
                "ERR IDMP-DURATION must be between 1 and 86400 seconds",
            )?);
        } else if args.len() > 1 && args.eat(b"IDMP-MAXSIZE") {
            max_entries = Some(within(
                args,
                ENTRIES_MAX,
                "ERR IDMP-MAXSIZE must be between 1 and 10000 entries",
            )?);
        } else {
            return Err(Error::Syntax);
        }
    }
    let mut stream = ctx.db.stream_mut(key)?.ok_or(Error::NoSuchKey)?;
    let known = stream.idempotency_mut();
    let before = known.terms();
    known.set_terms(Terms {
        duration_s: duration_s.unwrap_or(before.duration_s),
        max_entries: max_entries.unwrap_or(before.max_entries),
    });
    reply.ok();
    ctx.altered(Event::SILENT, key);
    Ok(())
}

fn within(args: &mut Args<'_>, max: u64, error: &'static str) -> Result<u64> {
    let number = u64::try_from(args.int()?).ok();
    number
        .filter(|number| (1..=max).contains(number))
        .ok_or(Error::Plain(error))
}

fn xidmprecord(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, name, iid) = (args.take()?, args.take()?, args.take()?);
    let id = ids::parse(args.take()?, 0)?;
    if name.is_empty() || iid.is_empty() {
        return Err(Error::Plain("ERR producer ID and idempotent ID must not be empty"));
    }
    let now_ms = ctx.present_ms();
    let mut stream = ctx.db.stream_mut(key)?.ok_or(Error::NoSuchKey)?;
    if stream.get(id).is_none() {
        return Err(Error::Plain("ERR no such entry in the stream"));
    }
    let before = stream
        .idempotency()
        .and_then(|known| known.find(name, iid, now_ms));
    match before {
        // A newer one takes the place: who wrote it had forgotten the older one by then.
        Some(before) if before > id => {
            return Err(Error::Plain("ERR the idempotent ID belongs to another entry"));
        }
        Some(before) if before == id => {}
        _ => {
            let iid = iid.to_vec();
            Named { name, iid }.note(&mut stream, id, now_ms);
            ctx.altered(Event::SILENT, key);
        }
    }
    reply.ok();
    Ok(())
}
