//! The commands of hashes: fields with values. Those about deadlines of fields are in `deadlines`.
//!
//! Due fields are removed before a command looks. Setting a field drops its deadline, counting
//! keeps it. A sum of decimals is propagated as its result, so that it is added only once.

pub mod deadlines;

use datatypes::encoding::listpack::{Item, ItemBuffer};
use datatypes::hash::{Field, FieldDeadline, HashRef};
use resp::reply::{Proto, Reply};
use stdx::long_double::LongDouble;
use stdx::number::I64Text;

use crate::command::context::next_random;
use crate::command::event::Event;
use crate::command::grammar::{self, ScanOptions};
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command::write("hdel", -3, hdel)
        .syntax("key field ...")
        .key(1)
        .element(2)
        .fast()
        .access(Access::Remove)
        .group("hash")
        .about("2.0.0", "O(N)", "Removes fields; how many there were."),
    Command::read("hexists", 3, hexists)
        .syntax("key field")
        .key(1)
        .element(2)
        .fast()
        .access(Access::Look)
        .group("hash")
        .about("2.0.0", "O(1)", "Whether a hash has a field."),
    Command::read("hget", 3, hget)
        .syntax("key field")
        .key(1)
        .element(2)
        .fast()
        .group("hash")
        .about("2.0.0", "O(1)", "The value of a field."),
    Command::read("hgetall", 2, hgetall)
        .syntax("key")
        .key(1)
        .as_long_as_reply()
        .tips(&["nondeterministic_output_order"])
        .group("hash")
        .about("2.0.0", "O(N)", "All fields with their values."),
    Command::write("hincrby", 4, hincrby)
        .syntax("key field increment")
        .key(1)
        .element(2)
        .fast()
        .deny_oom()
        .group("hash")
        .about("2.0.0", "O(1)", "Adds an integer to the value of a field."),
    Command::write("hincrbyfloat", 4, hincrbyfloat)
        .syntax("key field increment=double")
        .key(1)
        .element(2)
        .fast()
        .deny_oom()
        .group("hash")
        .about("2.6.0", "O(1)", "Adds a decimal number to the value of a field."),
    Command::read("hkeys", 2, hkeys)
        .syntax("key")
        .key(1)
        .as_long_as_reply()
        .tips(&["nondeterministic_output_order"])
        .group("hash")
        .about("2.0.0", "O(N)", "The names of all fields."),
    Command::read("hlen", 2, hlen)
        .syntax("key")
        .key(1)
        .fast()
        .access(Access::Look)
        .group("hash")
        .about("2.0.0", "O(1)", "The number of fields."),
    Command::read("hmget", -3, hmget)
        .syntax("key field ...")
        .key(1)
        .element(2)
        .fast()
        .group("hash")
        .about("2.0.0", "O(N)", "The values of several fields."),
    Command::write("hmset", -4, hmset)
        .syntax("key data(field value) ...")
        .key(1)
        .element(2)
        .fast()
        .deny_oom()
        .access(Access::Update)
        .deprecated("4.0.0", "`HSET`")
        .group("hash")
        .about("2.0.0", "O(N)", "Sets fields."),
    Command::read("hrandfield", -2, hrandfield)
        .syntax("key [options(count [WITHVALUES])]")
        .key(1)
        .tips(&["nondeterministic_output"])
        .group("hash")
        .about("6.2.0", "O(N)", "Fields chosen at random."),
    Command::read("hscan", -3, hscan)
        .syntax("key cursor [MATCH pattern] [COUNT count] [NOVALUES]")
        .key(1)
        .tips(&["nondeterministic_output"])
        .group("hash")
        .about("2.8.0", "O(1)", "Walks a hash in steps."),
    Command::write("hset", -4, hset)
        .syntax("key data(field value) ...")
        .key(1)
        .element(2)
        .fast()
        .deny_oom()
        .access(Access::Update)
        .group("hash")
        .about("2.0.0", "O(1)", "Sets fields; how many are new."),
    Command::write("hsetnx", 4, hsetnx)
        .syntax("key field value")
        .key(1)
        .element(2)
        .fast()
        .deny_oom()
        .access(Access::Insert)
        .group("hash")
        .about("2.0.0", "O(1)", "Sets a field unless it exists."),
    Command::read("hstrlen", 3, hstrlen)
        .syntax("key field")
        .key(1)
        .element(2)
        .fast()
        .access(Access::Look)
        .group("hash")
        .about("3.2.0", "O(1)", "The length of the value of a field."),
    Command::read("hvals", 2, hvals)
        .syntax("key")
        .key(1)
        .as_long_as_reply()
        .tips(&["nondeterministic_output_order"])
        .group("hash")
        .about("2.0.0", "O(N)", "The values of all fields."),
];

/// A count of random elements as an argument: any integer that can be negated.
pub(super) fn random_count(args: &mut Args<'_>) -> Result<i64> {
    match args.int()? {
        i64::MIN => Err(Error::Plain(
            "ERR value is out of range, value must between -9223372036854775807 and \
             9223372036854775807",
        )),
        count => Ok(count),
    }
}

/// Writes stored text as a bulk string.
pub(super) fn bulk_item(reply: &mut Reply<'_>, item: Item<'_>) {
    match item {
        Item::Int(n) => reply.bulk_int(n),
        Item::Bytes(bytes) => reply.bulk(bytes),
    }
}

fn bulk_item_or_null(reply: &mut Reply<'_>, item: Option<Item<'_>>) {
    match item {
        Some(item) => bulk_item(reply, item),
        None => reply.null(),
    }
}

fn hash_or_empty<'a>(ctx: &'a ReadCtx<'_>, key: &[u8]) -> Result<HashRef<'a>> {
    Ok(ctx.db.hash(key)?.unwrap_or(HashRef::EMPTY))
}

fn set_pairs(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>) -> Result<usize> {
    let key = args.take()?;
    if !args.len().is_multiple_of(2) {
        return Err(args.arity_error());
    }
    let mut hash = ctx.db.hash_or_new(key)?;
    let mut n_new = 0;
    while !args.is_empty() {
        let (field, value) = (args.take()?, args.take()?);
        n_new += usize::from(hash.set(field, value, FieldDeadline::Clear));
    }
    ctx.grew(Event::hash("hset"), key);
    Ok(n_new)
}

fn hset(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let n_new = set_pairs(ctx, args)?;
    reply.count(n_new);
    Ok(())
}

fn hmset(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    set_pairs(ctx, args)?;
    reply.ok();
    Ok(())
}

fn hsetnx(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, field, value) = (args.take()?, args.take()?, args.take()?);
    let exists = ctx.db.hash(key)?.is_some_and(|hash| hash.contains(field));
    if !exists {
        ctx.db
            .hash_or_new(key)?
            .set(field, value, FieldDeadline::Clear);
        ctx.grew(Event::hash("hset"), key);
    }
    reply.int(i64::from(!exists));
    Ok(())
}

fn hget(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, field) = (args.take()?, args.take()?);
    let value = ctx.db.hash(key)?.and_then(|hash| hash.get(field));
    bulk_item_or_null(reply, value);
    Ok(())
}

fn hmget(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let hash = hash_or_empty(ctx, args.take()?)?;
    let fields = args.rest();
    reply.array(fields.len());
    for field in fields {
        bulk_item_or_null(reply, hash.get(field));
    }
    Ok(())
}

fn hgetall(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let hash = hash_or_empty(ctx, args.take()?)?;
    reply.map(hash.len());
    for found in hash.iter() {
        bulk_item(reply, found.field);
        bulk_item(reply, found.value);
    }
    Ok(())
}

fn hkeys(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let hash = hash_or_empty(ctx, args.take()?)?;
    reply.array(hash.len());
    hash.iter().for_each(|found| bulk_item(reply, found.field));
    Ok(())
}

fn hvals(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let hash = hash_or_empty(ctx, args.take()?)?;
    reply.array(hash.len());
    hash.iter().for_each(|found| bulk_item(reply, found.value));
    Ok(())
}

fn hlen(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(hash_or_empty(ctx, args.take()?)?.len());
    Ok(())
}

fn hstrlen(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let hash = hash_or_empty(ctx, args.take()?)?;
    reply.count(hash.get(args.take()?).map_or(0, Item::text_len));
    Ok(())
}

fn hexists(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let hash = hash_or_empty(ctx, args.take()?)?;
    reply.int(i64::from(hash.contains(args.take()?)));
    Ok(())
}

fn hdel(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let mut n_removed = 0;
    if let Some(mut hash) = ctx.db.hash_mut(key)? {
        n_removed = args.rest().filter(|field| hash.remove(field)).count();
    }
    if n_removed > 0 {
        ctx.changed(Event::hash("hdel"), key);
    }
    reply.count(n_removed);
    Ok(())
}

fn hincrby(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, field, increment) = (args.take()?, args.take()?, args.int()?);
    let old = match ctx.db.hash(key)?.and_then(|hash| hash.get(field)) {
        None => 0,
        Some(value) => value
            .int()
            .ok_or(Error::Plain("ERR hash value is not an integer"))?,
    };
    let sum = old.checked_add(increment).ok_or(Error::Overflow)?;
    let text = I64Text::new(sum);
    ctx.db
        .hash_or_new(key)?
        .set(field, text.as_bytes(), FieldDeadline::Keep);
    ctx.grew(Event::hash("hincrby"), key);
    reply.int(sum);
    Ok(())
}

fn hincrbyfloat(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, field) = (args.take()?, args.take()?);
    let increment = LongDouble::parse(args.take()?).ok_or(Error::NotAFloat)?;
    if !increment.is_finite() {
        return Err(Error::Plain("ERR value is NaN or Infinity"));
    }
    let sum = match ctx.db.hash(key)?.and_then(|hash| hash.get(field)) {
        None => increment,
        Some(value) => LongDouble::parse(&value.to_vec())
            .ok_or(Error::Plain("ERR hash value is not a float"))?
            .plus(increment)
            .ok_or(Error::NanOrInfinity)?,
    };
    let mut text = Vec::new();
    sum.write_human(&mut text);
    ctx.db
        .hash_or_new(key)?
        .set(field, &text, FieldDeadline::Keep);
    ctx.grew(Event::hash("hincrbyfloat"), key);
    ctx.propagate(&[b"HSETEX", key, b"KEEPTTL", b"FIELDS", b"1", field, &text]);
    reply.bulk(&text);
    Ok(())
}

fn hrandfield(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    if args.is_empty() {
        let bits = ctx.random();
        let found = ctx.db.hash(key)?.and_then(|hash| hash.random(bits));
        bulk_item_or_null(reply, found.map(|found| found.field));
        return Ok(());
    }
    let count = random_count(args)?;
    let with_values = !args.is_empty();
    if with_values && (!args.eat(b"WITHVALUES") || !args.is_empty()) {
        return Err(Error::Syntax);
    }
    if with_values && count.unsigned_abs() > i64::MAX as u64 / 2 {
        return Err(Error::OutOfRange);
    }
    let hash = ctx.db.hash(key)?.unwrap_or(HashRef::EMPTY);
    let size = usize::try_from(count.unsigned_abs()).unwrap_or(usize::MAX);
    if count >= 0 {
        let picked = hash.pick_distinct(size, &mut || next_random(ctx.random));
        random_header(reply, picked.len(), with_values);
        for found in picked {
            random_field(reply, found, with_values);
        }
    } else {
        let size = if hash.is_empty() { 0 } else { size };
        if reply.is_filled_by(size) {
            return Err(Error::ReplyTooLong);
        }
        random_header(reply, size, with_values);
        for _ in 0..size {
            if reply.is_full() {
                return Err(Error::ReplyTooLong);
            }
            let Some(found) = hash.random(next_random(ctx.random)) else {
                break;
            };
            random_field(reply, found, with_values);
        }
    }
    Ok(())
}

fn random_header(reply: &mut Reply<'_>, n: usize, with_values: bool) {
    let flat = with_values && reply.proto() == Proto::Resp2;
    reply.array(if flat { n * 2 } else { n });
}

fn random_field(reply: &mut Reply<'_>, found: Field<'_>, with_values: bool) {
    if with_values && reply.proto() == Proto::Resp3 {
        reply.array(2);
    }
    field_texts(reply, found, with_values);
}

fn hscan(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let mut cursor = grammar::cursor(args)?;
    let Some(hash) = ctx.db.hash(key)? else {
        return empty_scan(reply);
    };
    let options = ScanOptions::parse(args)?;
    let (mut bytes, mut n_fields, mut n_seen) = (Vec::new(), 0, 0);
    let mut fields = Reply::new(&mut bytes, reply.proto());
    for _ in 0..options.count.saturating_mul(10) {
        cursor = hash.scan(cursor, &mut |found| {
            n_seen += 1;
            if passes(&options, found.field) {
                n_fields += 1;
                field_texts(&mut fields, found, !options.no_values);
            }
        });
        if cursor == 0 || n_seen >= options.count {
            break;
        }
    }
    let n_texts = if options.no_values {
        n_fields
    } else {
        n_fields * 2
    };
    scan_reply(reply, cursor, n_texts, &bytes);
    Ok(())
}

fn field_texts(reply: &mut Reply<'_>, found: Field<'_>, with_value: bool) {
    bulk_item(reply, found.field);
    if with_value {
        bulk_item(reply, found.value);
    }
}

/// Whether a scan lets stored text through.
pub(super) fn passes(options: &ScanOptions<'_>, item: Item<'_>) -> bool {
    options.pattern.is_none() || options.matches(item.text(&mut ItemBuffer::new()))
}

/// The answer to a scan of an absent key.
pub(super) fn empty_scan(reply: &mut Reply<'_>) -> Result<()> {
    scan_reply(reply, 0, 0, b"");
    Ok(())
}

/// The answer to a step of a scan; `texts` are `n_texts` bulk strings.
pub(super) fn scan_reply(reply: &mut Reply<'_>, cursor: u64, n_texts: usize, texts: &[u8]) {
    reply.array(2);
    reply.bulk(cursor.to_string().as_bytes());
    reply.array(n_texts);
    reply.raw(texts);
}
