//! The commands about deadlines of fields.
//!
//! Their options end with `FIELDS numfields field ...`, and nothing may follow. A deadline that has
//! passed removes the field at once. Whatever the client gave, deadlines are propagated as Unix
//! time in milliseconds, and removals as HDEL.

use datatypes::hash::FieldDeadline;
use resp::reply::Reply;
use stdx::number::parse_i64;

use super::bulk_item_or_null;
use crate::command::event::Event;
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The latest deadline of a field, Unix time.
const DEADLINE_MAX_MS: i64 = (1 << 46) - 1;

/// What the FIELDS commands answer for a field that does not exist.
const NO_FIELD: i64 = -2;
/// What they answer for a field without a deadline.
const NO_DEADLINE: i64 = -1;
/// The condition is not met.
const REFUSED: i64 = 0;
/// Done.
const DONE: i64 = 1;
/// Removed, as the deadline has passed.
const REMOVED: i64 = 2;

/// The commands of this room.
pub const COMMANDS: &[Command] = &[
    Command::write("hexpire", -6, hexpire)
        .syntax("key seconds [condition(NX|XX|GT|LT)] FIELDS fields(numfields field ...)")
        .key(1)
        .fast()
        .access(Access::Update)
        .group("hash")
        .about("7.4.0", "O(N)", "Lets fields fall due after some seconds."),
    Command::write("hexpireat", -6, hexpireat)
        .syntax("key unix-time-seconds [condition(NX|XX|GT|LT)] FIELDS fields(numfields field ...)")
        .key(1)
        .fast()
        .access(Access::Update)
        .group("hash")
        .about("7.4.0", "O(N)", "Lets fields fall due at a time in seconds."),
    Command::read("hexpiretime", -5, hexpiretime)
        .syntax("key FIELDS fields(numfields field ...)")
        .key(1)
        .fast()
        .group("hash")
        .about("7.4.0", "O(N)", "When fields fall due, in seconds."),
    Command::write("hpexpire", -6, hpexpire)
        .syntax("key milliseconds [condition(NX|XX|GT|LT)] FIELDS fields(numfields field ...)")
        .key(1)
        .fast()
        .access(Access::Update)
        .group("hash")
        .about("7.4.0", "O(N)", "Lets fields fall due after some milliseconds."),
    Command::write("hpexpireat", -6, hpexpireat)
        .syntax("key unix-time-milliseconds [condition(NX|XX|GT|LT)] FIELDS fields(numfields field ...)")
        .key(1)
        .fast()
        .access(Access::Update)
        .group("hash")
        .about("7.4.0", "O(N)", "Lets fields fall due at a time in milliseconds."),
    Command::read("hpexpiretime", -5, hpexpiretime)
        .syntax("key FIELDS fields(numfields field ...)")
        .key(1)
        .fast()
        .group("hash")
        .about("7.4.0", "O(N)", "When fields fall due, in milliseconds."),
    Command::write("hpersist", -5, hpersist)
        .syntax("key FIELDS fields(numfields field ...)")
        .key(1)
        .fast()
        .access(Access::Update)
        .group("hash")
        .about("7.4.0", "O(N)", "Drops the deadlines of fields."),
    Command::read("hpttl", -5, hpttl)
        .syntax("key FIELDS fields(numfields field ...)")
        .key(1)
        .fast()
        .tips(&["nondeterministic_output"])
        .group("hash")
        .about("7.4.0", "O(N)", "How long fields have left, in milliseconds."),
    Command::read("httl", -5, httl)
        .syntax("key FIELDS fields(numfields field ...)")
        .key(1)
        .fast()
        .tips(&["nondeterministic_output"])
        .group("hash")
        .about("7.4.0", "O(N)", "How long fields have left, in seconds."),
    Command::write("hgetdel", -5, hgetdel)
        .syntax("key FIELDS fields(numfields field ...)")
        .key(1)
        .fast()
        .access(Access::Take)
        .group("hash")
        .about("8.0.0", "O(N)", "Returns the values of fields and removes them."),
    Command::write("hgetex", -5, hgetex)
        .syntax("key [expiration(EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST)] FIELDS fields(numfields field ...)")
        .key(1)
        .fast()
        .group("hash")
        .about("8.0.0", "O(N)", "Returns the values of fields and changes their deadlines."),
    Command::write("hsetex", -6, hsetex)
        .syntax("key [condition(FNX|FXX|NX|XX)] [expiration(EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL)] FIELDS fields(numfields data(field value) ...)")
        .key(1)
        .fast()
        .deny_oom()
        .access(Access::Update)
        .group("hash")
        .about("8.0.0", "O(N)", "Sets fields together with their deadlines."),
];

/// How a time is given.
#[derive(Clone, Copy)]
struct Time {
    unit_ms: i64,
    relative: bool,
}

const EX: Time = Time {
    unit_ms: 1000,
    relative: true,
};
const PX: Time = Time {
    unit_ms: 1,
    relative: true,
};
const EXAT: Time = Time {
    unit_ms: 1000,
    relative: false,
};
const PXAT: Time = Time {
    unit_ms: 1,
    relative: false,
};

impl Time {
    /// The option that gives a time in this way.
    fn named(word: &[u8]) -> Option<Time> {
        Some(match word {
            b"EX" => EX,
            b"PX" => PX,
            b"EXAT" => EXAT,
            b"PXAT" => PXAT,
            _ => return None,
        })
    }

    /// Takes the time that is next; the deadline, Unix time in milliseconds.
    fn deadline_ms(self, args: &mut Args<'_>, now_ms: u64) -> Result<u64> {
        let given = args.int()?;
        if given < 0 {
            return Err(Error::Plain("ERR invalid expire time, must be >= 0"));
        }
        let base_ms = if self.relative {
            now_ms.cast_signed()
        } else {
            0
        };
        given
            .checked_mul(self.unit_ms)
            .and_then(|ms| ms.checked_add(base_ms))
            .filter(|&ms| ms <= DEADLINE_MAX_MS)
            .map(i64::cast_unsigned)
            .ok_or(Error::InvalidExpire(args.name()))
    }
}

/// Reads `FIELDS numfields field ...`, which must be all that is left; `bad_count` is the error for
/// a count that is no positive number.
fn fields<'a>(args: &mut Args<'a>, bad_count: &'static str) -> Result<Vec<&'a [u8]>> {
    if !args.eat(b"FIELDS") {
        return Err(Error::Plain(
            "ERR Mandatory argument FIELDS is missing or not at the right position",
        ));
    }
    if args.is_empty() {
        return Err(args.arity_error());
    }
    let n_fields = match parse_i64(args.take()?) {
        Some(n_fields @ 1..) => n_fields.cast_unsigned(),
        _ => return Err(Error::Plain(bad_count)),
    };
    if n_fields != args.len() as u64 {
        return Err(Error::Plain(
            "ERR The `numfields` parameter must match the number of arguments",
        ));
    }
    Ok(args.rest().collect())
}

const NOT_POSITIVE: &str = "ERR Number of fields must be a positive integer";

/// Propagates the removal of each of the fields.
fn propagate_removals(ctx: &mut WriteCtx<'_>, key: &[u8], removed: &[&[u8]]) {
    for field in removed {
        ctx.propagate(&[b"HDEL", key, field]);
    }
}

/// Propagates a command that ends with `FIELDS numfields` and `rest`.
fn propagate_fields(ctx: &mut WriteCtx<'_>, head: &[&[u8]], n_fields: usize, rest: &[&[u8]]) {
    let n_text = n_fields.to_string();
    let mut words = head.to_vec();
    words.extend([b"FIELDS".as_slice(), n_text.as_bytes()]);
    words.extend(rest);
    ctx.propagate(&words);
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Condition {
    Nx,
    Xx,
    Gt,
    Lt,
}

impl Condition {
    const ALL: [(Condition, &'static [u8]); 4] = [
        (Condition::Nx, b"NX"),
        (Condition::Xx, b"XX"),
        (Condition::Gt, b"GT"),
        (Condition::Lt, b"LT"),
    ];

    fn allows(self, old_ms: Option<u64>, new_ms: u64) -> bool {
        match self {
            Condition::Nx => old_ms.is_none(),
            Condition::Xx => old_ms.is_some(),
            Condition::Gt => old_ms.is_some_and(|old_ms| new_ms > old_ms),
            Condition::Lt => old_ms.is_none_or(|old_ms| new_ms < old_ms),
        }
    }
}

fn hexpire(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    expire(ctx, args, reply, EX)
}

fn hpexpire(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    expire(ctx, args, reply, PX)
}

fn hexpireat(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    expire(ctx, args, reply, EXAT)
}

fn hpexpireat(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    expire(ctx, args, reply, PXAT)
}

fn expire(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    time: Time,
) -> Result<()> {
    let key = args.take()?;
    let passed_ms = ctx.passed_ms();
    ctx.db.hash(key)?;
    let deadline_ms = time.deadline_ms(args, ctx.present_ms())?;
    let condition = Condition::ALL.into_iter().find(|(_, name)| args.eat(name));
    let fields = fields(args, "ERR Parameter `numFields` should be greater than 0")?;
    reply.array(fields.len());
    let Some(mut hash) = ctx.db.hash_mut(key)? else {
        fields.iter().for_each(|_| reply.int(NO_FIELD));
        return Ok(());
    };
    let (mut removed, mut n_set) = (Vec::new(), 0);
    for &field in &fields {
        let old = hash.view().field(field).map(|found| found.deadline_ms);
        let Some(old_ms) = old else {
            reply.int(NO_FIELD);
            continue;
        };
        if condition.is_some_and(|(condition, _)| !condition.allows(old_ms, deadline_ms)) {
            reply.int(REFUSED);
        } else if deadline_ms <= passed_ms {
            hash.remove(field);
            removed.push(field);
            reply.int(REMOVED);
        } else {
            hash.set_deadline(field, deadline_ms);
            n_set += 1;
            reply.int(DONE);
        }
    }
    if !removed.is_empty() {
        ctx.changed(Event::hash("hdel"), key);
        propagate_removals(ctx, key, &removed);
    } else if n_set > 0 {
        let condition = condition.map(|(_, name)| name);
        after_expire(ctx, key, (deadline_ms, condition), &fields);
    }
    Ok(())
}

/// Records a deadline that some of the fields have got.
fn after_expire(
    ctx: &mut WriteCtx<'_>,
    key: &[u8],
    (deadline_ms, condition): (u64, Option<&[u8]>),
    fields: &[&[u8]],
) {
    ctx.changed(Event::hash("hexpire"), key);
    let text = deadline_ms.to_string();
    let mut head = vec![b"HPEXPIREAT".as_slice(), key, text.as_bytes()];
    head.extend(condition);
    propagate_fields(ctx, &head, fields.len(), fields);
}

fn httl(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let now_ms = ctx.now_ms();
    tell(ctx, args, reply, |ms| ms.saturating_sub(now_ms).div_ceil(1000))
}

fn hpttl(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let now_ms = ctx.now_ms();
    tell(ctx, args, reply, |ms| ms.saturating_sub(now_ms))
}

fn hexpiretime(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    tell(ctx, args, reply, |ms| ms.div_ceil(1000))
}

fn hpexpiretime(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    tell(ctx, args, reply, |ms| ms)
}

/// Answers what `of` makes of each field's deadline.
fn tell(
    ctx: &mut ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    of: impl Fn(u64) -> u64,
) -> Result<()> {
    let hash = ctx.db.hash(args.take()?)?;
    let fields = fields(args, NOT_POSITIVE)?;
    reply.array(fields.len());
    for field in fields {
        let found = hash.and_then(|hash| hash.field(field));
        reply.int(match found.map(|found| found.deadline_ms) {
            None => NO_FIELD,
            Some(None) => NO_DEADLINE,
            Some(Some(deadline_ms)) => of(deadline_ms).cast_signed(),
        });
    }
    Ok(())
}

fn hpersist(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let hash = ctx.db.hash_mut(key)?;
    let fields = fields(args, NOT_POSITIVE)?;
    reply.array(fields.len());
    let Some(mut hash) = hash else {
        fields.iter().for_each(|_| reply.int(NO_FIELD));
        return Ok(());
    };
    let mut n_persisted = 0;
    for field in fields {
        if !hash.view().contains(field) {
            reply.int(NO_FIELD);
        } else if hash.persist(field) {
            n_persisted += 1;
            reply.int(DONE);
        } else {
            reply.int(NO_DEADLINE);
        }
    }
    if n_persisted > 0 {
        ctx.changed(Event::hash("hpersist"), key);
    }
    Ok(())
}

fn hgetdel(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let hash = ctx.db.hash_mut(key)?;
    let fields = fields(args, NOT_POSITIVE)?;
    reply.array(fields.len());
    let Some(mut hash) = hash else {
        fields.iter().for_each(|_| reply.null());
        return Ok(());
    };
    let mut n_removed = 0;
    for field in &fields {
        bulk_item_or_null(reply, hash.view().get(field));
        n_removed += usize::from(hash.remove(field));
    }
    if n_removed > 0 {
        ctx.changed(Event::hash("hdel"), key);
        let mut words = vec![b"HDEL".as_slice(), key];
        words.extend(&fields);
        ctx.propagate(&words);
    }
    Ok(())
}

/// What HGETEX does to the fields it returns.
enum Touch {
    Nothing,
    Persist,
    Deadline(u64),
}

impl Touch {
    fn parse(args: &mut Args<'_>, now_ms: u64) -> Result<Touch> {
        if args.eat(b"PERSIST") {
            return Ok(Touch::Persist);
        }
        let names: [&[u8]; 4] = [b"EX", b"PX", b"EXAT", b"PXAT"];
        match names
            .into_iter()
            .find(|name| args.eat(name))
            .and_then(Time::named)
        {
            Some(time) => Ok(Touch::Deadline(time.deadline_ms(args, now_ms)?)),
            None => Ok(Touch::Nothing),
        }
    }
}

fn hgetex(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let passed_ms = ctx.passed_ms();
    let present_ms = ctx.present_ms();
    let hash = ctx.db.hash_mut(key)?;
    let touch = Touch::parse(args, present_ms)?;
    let fields = fields(args, NOT_POSITIVE)?;
    reply.array(fields.len());
    let Some(mut hash) = hash else {
        fields.iter().for_each(|_| reply.null());
        return Ok(());
    };
    let mut touched = Vec::new();
    for &field in &fields {
        bulk_item_or_null(reply, hash.view().get(field));
        let is_touched = match touch {
            Touch::Nothing => false,
            Touch::Persist => hash.persist(field),
            Touch::Deadline(deadline_ms) if deadline_ms <= passed_ms => hash.remove(field),
            Touch::Deadline(deadline_ms) => hash.set_deadline(field, deadline_ms),
        };
        if is_touched {
            touched.push(field);
        }
    }
    if !touched.is_empty() {
        after_hgetex(ctx, key, &touch, (&fields, &touched));
    }
    Ok(())
}

/// Records what HGETEX with `fields` has done to those that are `touched`.
fn after_hgetex(
    ctx: &mut WriteCtx<'_>,
    key: &[u8],
    touch: &Touch,
    (fields, touched): (&[&[u8]], &[&[u8]]),
) {
    match *touch {
        Touch::Nothing => {}
        Touch::Persist => {
            ctx.changed(Event::hash("hpersist"), key);
            propagate_fields(ctx, &[b"HPERSIST", key], fields.len(), fields);
        }
        Touch::Deadline(deadline_ms) if deadline_ms <= ctx.passed_ms() => {
            ctx.changed(Event::hash("hdel"), key);
            propagate_removals(ctx, key, touched);
        }
        Touch::Deadline(deadline_ms) => {
            ctx.changed(Event::hash("hexpire"), key);
            let text = deadline_ms.to_string();
            let head = [b"HPEXPIREAT".as_slice(), key, text.as_bytes()];
            propagate_fields(ctx, &head, fields.len(), fields);
        }
    }
}

/// The options of HSETEX.
struct SetOptions<'a> {
    /// FNX is `Some(false)`: none of the fields may exist; FXX is `Some(true)`: all must.
    must_exist: Option<bool>,
    /// The same for the key: NX and XX.
    key_must_exist: Option<bool>,
    deadline: FieldDeadline,
    /// Fields and values by turns.
    pairs: Vec<&'a [u8]>,
}

impl<'a> SetOptions<'a> {
    fn parse(args: &mut Args<'a>, now_ms: u64) -> Result<SetOptions<'a>> {
        let (mut must_exist, mut key_must_exist, mut deadline) = (None, None, None);
        loop {
            let Some(given) = args.peek() else {
                return Err(args.arity_error());
            };
            if args.eat(b"FIELDS") {
                break;
            }
            let word = args.take()?.to_ascii_uppercase();
            if word == b"FNX" || word == b"FXX" {
                if must_exist.replace(word == b"FXX").is_some() {
                    return Err(Error::Plain(
                        "ERR Only one of FXX or FNX arguments can be specified",
                    ));
                }
                continue;
            }
            if word == b"NX" || word == b"XX" {
                if key_must_exist.replace(word == b"XX").is_some() {
                    return Err(Error::Syntax);
                }
                continue;
            }
            let time = Time::named(&word);
            if time.is_none() && word != b"KEEPTTL" {
                let given = String::from_utf8_lossy(given);
                return Err(Error::Owned(format!("ERR unknown argument: {given}")));
            }
            if deadline.is_some() {
                return Err(Error::Plain(
                    "ERR Only one of EX, PX, EXAT, PXAT or KEEPTTL arguments can be specified",
                ));
            }
            deadline = Some(match time {
                None => FieldDeadline::Keep,
                Some(_) if args.is_empty() => {
                    return Err(Error::Plain("ERR missing expire time"));
                }
                Some(time) => FieldDeadline::At(time.deadline_ms(args, now_ms)?),
            });
        }
        Ok(SetOptions {
            must_exist,
            key_must_exist,
            deadline: deadline.unwrap_or(FieldDeadline::Clear),
            pairs: pairs(args)?,
        })
    }
}

/// Reads `numfields field value ...`, which must be all that is left.
fn pairs<'a>(args: &mut Args<'a>) -> Result<Vec<&'a [u8]>> {
    if args.is_empty() {
        return Err(args.arity_error());
    }
    let n_fields = match parse_i64(args.take()?) {
        Some(n_fields @ 1..=0x7fff_ffff) => n_fields.cast_unsigned(),
        _ => return Err(Error::Plain("ERR invalid number of fields")),
    };
    if n_fields.checked_mul(2) != Some(args.len() as u64) {
        return Err(args.arity_error());
    }
    Ok(args.rest().collect())
}

fn hsetex(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let passed_ms = ctx.passed_ms();
    let options = SetOptions::parse(args, ctx.present_ms())?;
    let old = ctx.db.hash(key)?;
    let key_exists = old.is_some();
    if options
        .key_must_exist
        .is_some_and(|must| must != key_exists)
    {
        reply.int(0);
        return Ok(());
    }
    if let Some(must_exist) = options.must_exist {
        let exists = |field| old.is_some_and(|hash| hash.contains(field));
        if options
            .pairs
            .chunks(2)
            .any(|pair| exists(pair[0]) != must_exist)
        {
            reply.int(0);
            return Ok(());
        }
    }
    let mut hash = ctx.db.hash_or_new(key)?;
    let removed: Vec<&[u8]> = match options.deadline {
        FieldDeadline::At(deadline_ms) if deadline_ms <= passed_ms => {
            let fields = options.pairs.chunks(2).map(|pair| pair[0]);
            fields.inspect(|field| _ = hash.remove(field)).collect()
        }
        deadline => {
            for pair in options.pairs.chunks(2) {
                hash.set(pair[0], pair[1], deadline);
            }
            Vec::new()
        }
    };
    if removed.is_empty() {
        after_hsetex(ctx, key, &options);
    } else {
        ctx.event(Event::hash("hset"), key);
        ctx.changed(Event::hash("hdel"), key);
        propagate_removals(ctx, key, &removed);
    }
    reply.int(1);
    Ok(())
}

fn after_hsetex(ctx: &mut WriteCtx<'_>, key: &[u8], options: &SetOptions<'_>) {
    ctx.changed(Event::hash("hset"), key);
    let FieldDeadline::At(deadline_ms) = options.deadline else {
        return;
    };
    ctx.event(Event::hash("hexpire"), key);
    let text = deadline_ms.to_string();
    let mut head = vec![b"HSETEX".as_slice(), key];
    head.extend(
        options
            .must_exist
            .map(|must| if must { b"FXX" } else { b"FNX" }.as_slice()),
    );
    head.extend([b"PXAT".as_slice(), text.as_bytes()]);
    propagate_fields(ctx, &head, options.pairs.len() / 2, &options.pairs);
}
