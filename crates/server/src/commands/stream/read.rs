//! XREAD and XREADGROUP: what has come since, from several streams, waiting for it if need be.
//!
//! A command that waits runs again when one of its keys changes. So `$` and `+` are resolved before:
//! what is parked names the ids that they meant. What a group was given is journaled as XCLAIM of each
//! entry and XGROUP SETID, since who reads first is chance.

use datatypes::stream::group::{ConsumerNo, Pending};
use datatypes::stream::{Stream, StreamId};
use resp::reply::{Proto, Reply};

use super::groups::{announce_new_consumer, journal_new_consumer, propagate_position};
use super::ids::{self, IdText, write_entry, write_entry_of, write_id};
use super::pending::{idle_ms_of, propagate_claim};
use crate::command::grammar::block_until;
use crate::command::traits::{BLOCKING, Flag};
use crate::command::{Access, Args, Command, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command::write("xread", -4, xread)
        .syntax("[COUNT count] [BLOCK milliseconds] STREAMS streams(key ... id ...)")
        .keys_halved("STREAMS", 1)
        .access(Access::Read)
        .flags(&[Flag::Blocking, Flag::ReadOnly])
        .group("stream")
        .about(
            "5.0.0",
            "Linear in the entries returned",
            "Returns entries behind given ids of several streams, waiting for some.",
        ),
    Command::write("xreadgroup", -7, xreadgroup)
        .syntax(
            "GROUP group-block(group consumer) [COUNT count] [BLOCK milliseconds] \
             [CLAIM min-idle-time=integer] [noack(NOACK)] STREAMS streams(key ... id ...)",
        )
        .keys_halved("STREAMS", 4)
        .access(Access::Read)
        .flags(BLOCKING)
        .heeds_loss()
        .group("stream")
        .about(
            "5.0.0",
            "O(M) in the entries returned; with CLAIM also in those pending",
            "Returns entries that nobody of a group has read, or the own history.",
        ),
];

/// The options in front of the keys, and keys with ids.
struct Request<'a> {
    group: Option<(&'a [u8], &'a [u8])>,
    count: usize,
    /// Wait, until this Unix time if there is an end.
    wait: Option<Option<u64>>,
    claim_idle_ms: Option<u64>,
    no_ack: bool,
    keys: &'a [&'a [u8]],
    ids: &'a [&'a [u8]],
}

impl<'a> Request<'a> {
    fn parse(args: &mut Args<'a>, now_ms: u64, is_group: bool) -> Result<Request<'a>> {
        let mut request = Request {
            group: None,
            count: usize::MAX,
            wait: None,
            claim_idle_ms: None,
            no_ack: false,
            keys: &[],
            ids: &[],
        };
        while !args.is_empty() {
            let has_more = args.len() > 1;
            if has_more && args.eat(b"BLOCK") {
                request.wait = Some(block_until(args.take()?, now_ms)?);
            } else if has_more && args.eat(b"COUNT") {
                let count = usize::try_from(args.int()?).unwrap_or(0);
                request.count = if count == 0 { usize::MAX } else { count };
            } else if has_more && args.eat(b"STREAMS") {
                request.streams(args, is_group)?;
            } else if args.len() > 2 && args.eat(b"GROUP") {
                if !is_group {
                    return Err(Error::Plain(
                        "ERR The GROUP option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                request.group = Some((args.take()?, args.take()?));
            } else if args.eat(b"NOACK") {
                if !is_group {
                    return Err(Error::Plain(
                        "ERR The NOACK option is only supported by XREADGROUP. You called XREAD instead.",
                    ));
                }
                request.no_ack = true;
            } else if is_group && has_more && args.eat(b"CLAIM") {
                let idle_ms = u64::try_from(args.int()?)
                    .map_err(|_| Error::Plain("ERR min-idle-time must be a positive integer"))?;
                request.claim_idle_ms = Some(idle_ms);
            } else {
                return Err(Error::Syntax);
            }
        }
        if request.keys.is_empty() {
            return Err(Error::Syntax);
        }
        if is_group && request.group.is_none() {
            return Err(Error::Plain("ERR Missing GROUP option for XREADGROUP"));
        }
        Ok(request)
    }

    fn streams(&mut self, args: &mut Args<'a>, is_group: bool) -> Result<()> {
        let words = args.take_n(args.len())?;
        if !words.len().is_multiple_of(2) {
            return Err(Error::Plain(match is_group {
                true => {
                    "ERR Unbalanced 'xreadgroup' list of streams: for each stream key an ID or \
                         '>' must be specified."
                }
                false => {
                    "ERR Unbalanced 'xread' list of streams: for each stream key an ID, '+', \
                          or '$' must be specified."
                }
            }));
        }
        (self.keys, self.ids) = words.split_at(words.len() / 2);
        Ok(())
    }
}

/// Writes the replies of streams one by one: a map by key in RESP3, else pairs.
struct Answer {
    array: Option<resp::reply::Later>,
    n: usize,
}

impl Answer {
    fn stream(&mut self, reply: &mut Reply<'_>, key: &[u8]) {
        if self.array.is_none() {
            self.array = Some(match reply.proto() {
                Proto::Resp2 => reply.array_later(),
                Proto::Resp3 => reply.map_later(),
            });
        }
        if reply.proto() == Proto::Resp2 {
            reply.array(2);
        }
        reply.bulk(key);
        self.n += 1;
    }

    /// Whether there was anything to answer.
    fn end(self, reply: &mut Reply<'_>) -> bool {
        let array = self.array.map(|array| reply.finish(array, self.n));
        array.is_some()
    }
}

const NO_ANSWER: Answer = Answer { array: None, n: 0 };

// ---- XREAD -------------------------------------------------------------------------------------

fn xread(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let words: Vec<&[u8]> = args.clone().rest().collect();
    let request = Request::parse(args, ctx.now_ms(), false)?;
    let mut behind = Vec::with_capacity(request.keys.len());
    for (key, id) in request.keys.iter().zip(request.ids) {
        behind.push(last_seen(ctx.db.stream(key)?, id)?);
    }
    let mut answer = NO_ANSWER;
    for (key, behind) in request.keys.iter().zip(&behind) {
        let Some(stream) = ctx.db.stream(key)? else {
            continue;
        };
        let Some(from) = behind.next() else { continue };
        let mut entries = stream
            .range(from..=StreamId::MAX)
            .take(request.count)
            .peekable();
        if entries.peek().is_none() {
            continue;
        }
        answer.stream(reply, key);
        let array = reply.array_later();
        let mut n = 0;
        for entry in entries {
            write_entry(reply, entry)?;
            n += 1;
        }
        reply.finish(array, n);
    }
    if !answer.end(reply) {
        reply.null_array();
        if let Some(until_ms) = request.wait {
            ctx.wait_as(until_ms, Some(with_ids("xread", &words, &behind)));
        }
    }
    Ok(())
}

/// The id behind which XREAD is to read.
fn last_seen(stream: Option<&Stream>, id: &[u8]) -> Result<StreamId> {
    match (id, stream) {
        (b"$", stream) => Ok(stream.map_or(StreamId::MIN, |stream| stream.facts().last_id)),
        (b"+", stream) => {
            let last = stream.and_then(Stream::last_entry);
            Ok(last.and_then(|last| last.id.prev()).unwrap_or_default())
        }
        (b">", _) => Err(Error::Plain(
            "ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> \
             <consumer> option.",
        )),
        _ => ids::parse(id, 0),
    }
}

/// A request with these ids in the place of its last arguments.
fn with_ids(name: &str, words: &[&[u8]], ids: &[StreamId]) -> Vec<Vec<u8>> {
    let kept = &words[..words.len() - ids.len()];
    let name = std::iter::once(name.as_bytes().to_vec());
    let kept = kept.iter().map(|word| word.to_vec());
    let ids = ids.iter().map(|id| IdText::new(*id).as_bytes().to_vec());
    name.chain(kept).chain(ids).collect()
}

// ---- XREADGROUP --------------------------------------------------------------------------------

/// What a consumer asks for.
#[derive(Clone, Copy)]
enum Wanted {
    /// `>`: what nobody of the group has read.
    New,
    /// What was delivered to it and is pending, behind an id.
    History(StreamId),
}

impl Wanted {
    fn parse(id: &[u8]) -> Result<Wanted> {
        Ok(match id {
            b">" => Wanted::New,
            b"$" => {
                return Err(Error::Plain(
                    "ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the \
                     history of this consumer by specifying a proper ID, or use the > ID to get new \
                     messages. The $ ID would just return an empty result set.",
                ));
            }
            b"+" => {
                return Err(Error::Plain(
                    "ERR The + ID is meaningless in the context of XREADGROUP: you want to read the \
                     history of this consumer by specifying a proper ID, or use the > ID to get new \
                     messages. The + ID would just return an empty result set.",
                ));
            }
            id => match ids::parse(id, 0)? {
                StreamId::MAX => Wanted::New, // nothing is behind it: taken for `>`, as ever
                id => Wanted::History(id),
            },
        })
    }
}

fn xreadgroup(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let request = Request::parse(args, ctx.now_ms(), true)?;
    let (group, consumer) = request.group.ok_or(Error::Syntax)?;
    let mut wanted = Vec::with_capacity(request.keys.len());
    for (key, id) in request.keys.iter().zip(request.ids) {
        let stream = ctx.db.stream(key)?;
        if stream.and_then(|stream| stream.group(group)).is_none() {
            let (key, group) = (String::from_utf8_lossy(key), String::from_utf8_lossy(group));
            return Err(Error::Owned(format!(
                "NOGROUP No such key '{key}' or consumer group '{group}' in XREADGROUP with GROUP \
                 option"
            )));
        }
        wanted.push(Wanted::parse(id)?);
    }
    let mut answer = NO_ANSWER;
    for (key, wanted) in request.keys.iter().zip(&wanted) {
        let mut visit = Visit {
            key,
            group,
            consumer,
            request: &request,
        };
        visit.run(ctx, *wanted, &mut answer, reply)?;
    }
    if !answer.end(reply) {
        reply.null_array();
        if let Some(until_ms) = request.wait {
            ctx.wait(until_ms);
        }
    }
    Ok(())
}

/// One stream of an XREADGROUP.
struct Visit<'v> {
    key: &'v [u8],
    group: &'v [u8],
    consumer: &'v [u8],
    request: &'v Request<'v>,
}

impl Visit<'_> {
    fn run(
        &mut self,
        ctx: &mut WriteCtx<'_>,
        wanted: Wanted,
        answer: &mut Answer,
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        let now_ms = ctx.present_ms();
        let Some(mut stream) = ctx.db.stream_mut(self.key)? else {
            return Ok(());
        };
        let Some(group) = stream.group_mut(self.group) else {
            return Ok(());
        };
        let (no, is_new) = group.consumer_or_new(self.consumer, now_ms);
        group.consumer_mut(no).seen_ms = now_ms;
        if is_new {
            announce_new_consumer(ctx, self.key);
        }
        let Some(mut stream) = ctx.db.stream_mut(self.key)? else {
            return Ok(());
        };
        match wanted {
            Wanted::History(behind) => {
                answer.stream(reply, self.key);
                let result = self.history(&mut stream, no, (behind, now_ms), reply);
                self.journal_consumer(ctx, is_new);
                result
            }
            Wanted::New => {
                let given = self.write_new(&stream, now_ms, answer, reply);
                let delivers =
                    |given: &Given| given.deliveries(self.request.no_ack).next().is_some();
                if let Ok(given) = &given {
                    self.hand_over(&mut stream, no, now_ms, given);
                }
                // Else the deliveries tell of it.
                self.journal_consumer(ctx, is_new && !given.as_ref().is_ok_and(delivers));
                self.note(ctx, &given?)
            }
        }
    }

    fn journal_consumer(&self, ctx: &mut WriteCtx<'_>, is_news: bool) {
        if is_news {
            journal_new_consumer(ctx, self.key, self.group, self.consumer);
        }
    }

    /// Writes what is to be given, of which nothing is yet: so a reply that is too long gives nothing.
    fn write_new(
        &self,
        stream: &Stream,
        now_ms: u64,
        answer: &mut Answer,
        reply: &mut Reply<'_>,
    ) -> Result<Given> {
        let mut given = Given {
            claimed: self.claimable(stream, now_ms),
            ..Given::default()
        };
        let left = self.request.count - given.claimed.len().min(self.request.count);
        let last_id = stream
            .group(self.group)
            .map_or(StreamId::MAX, |group| group.last_id);
        let has_new = left > 0 && stream.last_entry().is_some_and(|last| last.id > last_id);
        if has_new || !given.claimed.is_empty() {
            answer.stream(reply, self.key);
            let array = reply.array_later();
            self.write_claimed(stream, now_ms, &given.claimed, reply)?;
            if has_new {
                self.write_unread(stream, left, &mut given, reply)?;
            }
            reply.finish(array, given.claimed.len() + given.unread.len());
        }
        Ok(given)
    }

    /// Writes what is pending for a consumer; entries that are gone without fields.
    fn history(
        &self,
        stream: &mut Stream,
        no: ConsumerNo,
        (behind, now_ms): (StreamId, u64),
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        let Some((from, group)) = behind.next().zip(stream.group(self.group)) else {
            reply.array(0);
            return Ok(());
        };
        let pending = group.consumer(no).pending(from..=StreamId::MAX);
        let ids: Vec<_> = pending.take(self.request.count).collect();
        reply.array(ids.len());
        for id in ids {
            let Some(entry) = stream.get(id) else {
                reply.array(2);
                write_id(reply, id);
                reply.null_array();
                continue;
            };
            write_entry(reply, entry)?;
            if let Some(group) = stream.group_mut(self.group)
                && let Some(pending) = group.pending_at(id)
            {
                group.deliver(
                    id,
                    Pending {
                        delivered_ms: now_ms,
                        n_deliveries: pending.delivered_again(),
                        ..pending
                    },
                );
            }
        }
        Ok(())
    }

    /// What was pending for long enough to be claimed, longest first. O(pending of the group).
    fn claimable(&self, stream: &Stream, now_ms: u64) -> Vec<StreamId> {
        let (Some(idle_ms), Some(group)) = (self.request.claim_idle_ms, stream.group(self.group))
        else {
            return Vec::new();
        };
        let all = group.pending(StreamId::MIN..=StreamId::MAX);
        let mut found: Vec<_> = all
            .filter(|(_, pending)| now_ms.saturating_sub(pending.delivered_ms) >= idle_ms)
            .map(|(id, pending)| (pending.delivered_ms, id))
            .collect();
        found.sort_unstable();
        let found = found.into_iter().map(|(_, id)| id);
        found
            .filter(|id| stream.get(*id).is_some())
            .take(self.request.count)
            .collect()
    }

    /// Entries that change hands: with how long they were idle and how often they were delivered.
    fn write_claimed(
        &self,
        stream: &Stream,
        now_ms: u64,
        claimed: &[StreamId],
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        let group = stream.group(self.group);
        for id in claimed {
            let before = group.and_then(|group| group.pending_at(*id));
            if let (Some(before), Some(entry)) = (before, stream.get(*id)) {
                let idle_ms = idle_ms_of(before, now_ms);
                write_delivery(reply, entry, idle_ms, before.n_deliveries)?;
            }
        }
        Ok(())
    }

    /// Entries that nobody of the group has read, up to `count`.
    fn write_unread(
        &self,
        stream: &Stream,
        count: usize,
        given: &mut Given,
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        let Some(group) = stream.group(self.group) else {
            return Ok(());
        };
        let (mut last_id, mut entries_read) = (group.last_id, group.entries_read);
        let from = last_id.next().unwrap_or(StreamId::MAX);
        for entry in stream.range(from..=StreamId::MAX).take(count) {
            match self.request.claim_idle_ms {
                Some(_) => write_delivery(reply, entry, 0, 0)?,
                None => write_entry(reply, entry)?,
            }
            let is_exact = last_id >= stream.first_id() && !stream.has_gap_behind(last_id);
            entries_read = match entries_read {
                Some(read) if is_exact => Some(read.saturating_add(1)),
                _ => stream.n_added_up_to(entry.id),
            };
            last_id = entry.id;
            given.unread.push(entry.id);
        }
        given.position = Some((last_id, entries_read));
        Ok(())
    }

    /// Notes in the group what was given to a consumer.
    fn hand_over(&self, stream: &mut Stream, no: ConsumerNo, now_ms: u64, given: &Given) {
        let Some(group) = stream.group_mut(self.group) else {
            return;
        };
        if let Some(position) = given.position {
            (group.last_id, group.entries_read) = position;
        }
        for id in given.deliveries(self.request.no_ack) {
            let before = group.pending_at(id);
            let pending = Pending {
                delivered_ms: now_ms,
                n_deliveries: before.map_or(1, Pending::delivered_again),
                consumer: Some(no),
            };
            group.deliver(id, pending);
            group.consumer_mut(no).active_ms = Some(now_ms);
        }
    }

    /// Counts and journals what was done.
    fn note(&self, ctx: &mut WriteCtx<'_>, given: &Given) -> Result<()> {
        if given.claimed.is_empty() && given.unread.is_empty() {
            return Ok(());
        }
        ctx.effects.n_changes += 1;
        if !ctx.effects.is_recorded {
            return Ok(());
        }
        for id in given.deliveries(self.request.no_ack) {
            propagate_claim(ctx, self.key, self.group, id)?;
        }
        propagate_position(ctx, self.key, self.group)
    }
}

/// What a consumer is given of one stream.
#[derive(Default)]
struct Given {
    /// What was pending.
    claimed: Vec<StreamId>,
    /// What nobody had read.
    unread: Vec<StreamId>,
    /// How far the group has read then.
    position: Option<(StreamId, Option<u64>)>,
}

impl Given {
    /// What is pending then.
    fn deliveries(&self, no_ack: bool) -> impl Iterator<Item = StreamId> + '_ {
        let unread = if no_ack { &[][..] } else { &self.unread };
        self.claimed.iter().chain(unread).copied()
    }
}

/// Writes an entry with what was known of its delivery.
fn write_delivery(
    reply: &mut Reply<'_>,
    entry: datatypes::stream::Entry<'_>,
    idle_ms: i64,
    n_deliveries: u64,
) -> Result<()> {
    write_entry_of(4, reply, entry)?;
    reply.int(idle_ms);
    reply.int(n_deliveries as i64);
    Ok(())
}
