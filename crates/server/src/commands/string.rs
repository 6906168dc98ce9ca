//! Strings: whole values, counters, and edits in place.
//!
//! Whatever sets a deadline is propagated with the deadline itself (`SET … PXAT`), a float
//! increment with its result: whoever repeats the command later must arrive at the same value.

pub mod conditional;
pub mod increx;
pub mod lcs;

use datatypes::home::{Encoding, Limits, NewPayload};
use datatypes::string::{IncrementError, StringRef};
use keyspace::db::Expiry;
use resp::reply::Reply;
use stdx::long_double::{FloatError, add_human};
use stdx::number::I64Text;

use crate::command::context::Removal;
use crate::command::event::Event;
use crate::command::grammar::{Clock, ExpiryChoice, ExpiryOption, at_least, choose};
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};
use conditional::Condition;

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::write("append", 3, append)
        .syntax("key value")
        .key(1)
        .fast()
        .deny_oom()
        .access(Access::Insert)
        .group("string")
        .about("2.0.0", "O(1)", "Adds text to the end of a string, creating it if need be."),
    Command::write("decr", 2, decr)
        .syntax("key")
        .key(1)
        .fast()
        .deny_oom()
        .group("string")
        .about("1.0.0", "O(1)", "Subtracts one from an integer."),
    Command::write("decrby", 3, decrby)
        .syntax("key decrement")
        .key(1)
        .fast()
        .deny_oom()
        .group("string")
        .about("1.0.0", "O(1)", "Subtracts a number from an integer."),
    Command::read("get", 2, get)
        .syntax("key")
        .key(1)
        .fast()
        .group("string")
        .about("1.0.0", "O(1)", "Returns the string value of a key."),
    Command::write("getdel", 2, getdel)
        .syntax("key")
        .key(1)
        .fast()
        .access(Access::Take)
        .group("string")
        .about("6.2.0", "O(1)", "Returns a string and deletes its key."),
    Command::write("getex", -2, getex)
        .syntax("key [expiration(EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST)]")
        .key(1)
        .fast()
        .group("string")
        .about("6.2.0", "O(1)", "Returns a string and changes the deadline of its key."),
    Command::read("getrange", 4, getrange)
        .syntax("key start end")
        .key(1)
        .as_long_as_reply()
        .group("string")
        .about("2.4.0", "O(N) in the bytes returned", "Returns a part of a string."),
    Command::write("getset", 3, getset)
        .syntax("key value")
        .key(1)
        .fast()
        .deny_oom()
        .deprecated("6.2.0", "`SET` with `GET`")
        .group("string")
        .about("1.0.0", "O(1)", "Stores a string and returns the one before."),
    Command::write("incr", 2, incr)
        .syntax("key")
        .key(1)
        .fast()
        .deny_oom()
        .group("string")
        .about("1.0.0", "O(1)", "Adds one to an integer."),
    Command::write("incrby", 3, incrby)
        .syntax("key increment")
        .key(1)
        .fast()
        .deny_oom()
        .group("string")
        .about("1.0.0", "O(1)", "Adds a number to an integer."),
    Command::write("incrbyfloat", 3, incrbyfloat)
        .syntax("key increment=double")
        .key(1)
        .fast()
        .deny_oom()
        .group("string")
        .about("2.6.0", "O(1)", "Adds a number to a decimal number."),
    Command::read("mget", -2, mget)
        .syntax("key ...")
        .keys(1, -1, 1)
        .fast()
        .tips(&["request_policy:multi_shard"])
        .group("string")
        .about("1.0.0", "O(N) in the keys", "Returns the strings of several keys."),
    Command::write("mset", -3, mset)
        .syntax("data(key value) ...")
        .keys(1, -1, 2)
        .deny_oom()
        .access(Access::Overwrite)
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .group("string")
        .about("1.0.1", "O(N) in the keys", "Stores several strings at once."),
    Command::write("msetex", -4, msetex)
        .syntax("numkeys data(key value) ... [condition(NX|XX)] [expiration(EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL)]")
        .numpairs(1)
        .deny_oom()
        .access(Access::Overwrite)
        .tips(&["request_policy:multi_shard", "response_policy:all_succeeded"])
        .group("string")
        .about("8.4.0", "O(N) in the keys", "Stores several strings at once, with one deadline."),
    Command::write("msetnx", -3, msetnx)
        .syntax("data(key value) ...")
        .keys(1, -1, 2)
        .deny_oom()
        .access(Access::Create)
        .group("string")
        .about("1.0.1", "O(N) in the keys", "Stores several strings if none of the keys exists."),
    Command::write("psetex", 4, psetex)
        .syntax("key milliseconds value")
        .key(1)
        .deny_oom()
        .access(Access::Overwrite)
        .deprecated("2.6.12", "`SET` with `PX`")
        .group("string")
        .about("2.6.0", "O(1)", "Stores a string for a number of milliseconds."),
    Command::write("set", -3, set)
        .syntax("key value [condition(NX|XX|IFEQ ifeq-value|IFNE ifne-value|IFDEQ ifdeq-digest|IFDNE ifdne-digest)] [GET] [expiration(EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|KEEPTTL)]")
        .key(1)
        .deny_oom()
        .access(Access::Vary(set_access))
        .group("string")
        .about("1.0.0", "O(1)", "Stores a string, whatever the key held."),
    Command::write("setex", 4, setex)
        .syntax("key seconds value")
        .key(1)
        .deny_oom()
        .access(Access::Overwrite)
        .deprecated("2.6.12", "`SET` with `EX`")
        .group("string")
        .about("2.0.0", "O(1)", "Stores a string for a number of seconds."),
    Command::write("setnx", 3, setnx)
        .syntax("key value")
        .key(1)
        .fast()
        .deny_oom()
        .access(Access::Create)
        .deprecated("2.6.12", "`SET` with `NX`")
        .group("string")
        .about("1.0.0", "O(1)", "Stores a string if the key does not exist."),
    Command::write("setrange", 4, setrange)
        .syntax("key offset value")
        .key(1)
        .deny_oom()
        .access(Access::Update)
        .group("string")
        .about("2.2.0", "O(1), O(M) in the bytes if they are many", "Overwrites a part of a string."),
    Command::read("strlen", 2, strlen)
        .syntax("key")
        .key(1)
        .fast()
        .access(Access::Look)
        .group("string")
        .about("2.2.0", "O(1)", "Returns the length of a string in bytes."),
    Command::read("substr", 4, getrange)
        .syntax("key start end")
        .key(1)
        .as_long_as_reply()
        .deprecated("2.0.0", "`GETRANGE`")
        .group("string")
        .about("1.0.0", "O(N) in the bytes returned", "Returns a part of a string; use GETRANGE."),
];

fn write_string(reply: &mut Reply<'_>, string: Option<StringRef<'_>>) {
    match string {
        Some(StringRef::Int(n)) => reply.bulk_int(n),
        Some(StringRef::Bytes(bytes)) => reply.bulk(bytes),
        None => reply.null(),
    }
}

fn get(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    write_string(reply, ctx.db.string(key)?);
    Ok(())
}

fn strlen(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    reply.count(ctx.db.string(key)?.map_or(0, StringRef::text_len));
    Ok(())
}

fn getrange(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, start, end) = (args.take()?, args.int()?, args.int()?);
    match ctx.db.string(key)? {
        Some(StringRef::Int(n)) => {
            reply.bulk(datatypes::string::range(I64Text::new(n).as_bytes(), start, end));
        }
        Some(StringRef::Bytes(bytes)) => {
            reply.bulk(datatypes::string::range(bytes, start, end));
        }
        None => reply.bulk(b""),
    }
    Ok(())
}

fn mget(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let keys = args.rest();
    reply.array(keys.len());
    for key in keys {
        if reply.is_full() {
            return Err(Error::ReplyTooLong);
        }
        write_string(reply, ctx.db.string(key).unwrap_or(None));
    }
    Ok(())
}

#[derive(Debug, Default)]
struct SetOptions<'a> {
    condition: Option<Condition<'a>>,
    get: bool,
    keep_deadline: bool,
    deadline_ms: Option<u64>,
    /// The deadline stands in the request as the journal needs it.
    is_absolute: bool,
}

impl<'a> SetOptions<'a> {
    /// Parses all that is left of `args`. Only SET has conditions on the text, and GET.
    fn parse(args: &mut Args<'a>, now_ms: u64) -> Result<SetOptions<'a>> {
        let is_set = args.name() == "set";
        let mut options = SetOptions::default();
        let mut expiry = ExpiryOption::default();
        while let Some(word) = args.word() {
            match &*word {
                b"NX" => choose(&mut options.condition, Condition::Absent)?,
                b"XX" => choose(&mut options.condition, Condition::Present)?,
                b"GET" if is_set => options.get = true,
                word if word != b"PERSIST" && expiry.accept(word, args)? => {}
                word if is_set => {
                    let condition = Condition::on_text(word, args)?.ok_or(Error::Syntax)?;
                    choose(&mut options.condition, condition)?;
                }
                _ => return Err(Error::Syntax),
            }
        }
        options.keep_deadline = expiry.choice() == Some(ExpiryChoice::Keep);
        options.deadline_ms = expiry.deadline_ms(now_ms, args.name())?;
        options.is_absolute = expiry.choice() == Some(ExpiryChoice::At(Clock::UnixMilliseconds));
        Ok(options)
    }

    /// Whether the string that was there, if any, lets the new one in.
    fn allow(&self, old: Option<StringRef<'_>>) -> Result<bool> {
        self.condition
            .map_or(Ok(true), |condition| condition.allows(old))
    }

    fn allow_existence(&self, exists: bool) -> bool {
        self.condition
            .is_none_or(|condition| condition.allows_existence(exists))
    }

    fn expiry(&self) -> Expiry {
        match (self.deadline_ms, self.keep_deadline) {
            (Some(deadline_ms), _) => Expiry::At(deadline_ms),
            (None, true) => Expiry::Keep,
            (None, false) => Expiry::Clear,
        }
    }
}

/// Without `GET` and without a condition on the text, nothing is read.
fn set_access(request: &[&[u8]]) -> Access {
    const READING: [&[u8]; 5] = [b"GET", b"IFEQ", b"IFNE", b"IFDEQ", b"IFDNE"];
    let reads = |option: &&[u8]| READING.iter().any(|word| option.eq_ignore_ascii_case(word));
    match request.iter().skip(3).any(reads) {
        true => Access::Modify,
        false => Access::Overwrite,
    }
}

fn set(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, value) = (args.take()?, args.take()?);
    if args.is_empty() {
        ctx.db.set_string(key, value, Expiry::Clear);
        ctx.changed(Event::string("set"), key);
        reply.ok();
        return Ok(());
    }
    let options = SetOptions::parse(args, ctx.present_ms())?;
    let allowed = match options.condition {
        None if !options.get => true,
        Some(condition) if !options.get && !condition.is_on_text() => {
            condition.allows_existence(ctx.db.exists(key))
        }
        _ => {
            let old = ctx.db.string(key)?;
            if options.get {
                write_string(reply, old);
            }
            options.allow(old)?
        }
    };
    match (options.get, allowed) {
        (true, _) => {}
        (false, true) => reply.ok(),
        (false, false) => reply.null(),
    }
    match allowed {
        true if options.is_absolute && !options.get && options.condition.is_none() => {
            ctx.db.set_string(key, value, options.expiry());
            ctx.changed(Event::string("set"), key);
            ctx.event(Event::generic("expire"), key);
        }
        true => store(ctx, key, value, &options),
        false => {}
    }
    Ok(())
}

fn store(ctx: &mut WriteCtx<'_>, key: &[u8], value: &[u8], options: &SetOptions<'_>) {
    store_as(ctx, key, value, options.expiry(), Event::string("set"));
}

fn store_as(ctx: &mut WriteCtx<'_>, key: &[u8], value: &[u8], expiry: Expiry, event: Event) {
    ctx.db.set_string(key, value, expiry);
    ctx.changed(event, key);
    match expiry {
        Expiry::At(deadline_ms) => {
            ctx.event(Event::generic("expire"), key);
            ctx.propagate(&[b"SET", key, value, b"PXAT", &decimal(deadline_ms)]);
        }
        Expiry::Keep => ctx.propagate(&[b"SET", key, value, b"KEEPTTL"]),
        Expiry::Clear => ctx.propagate(&[b"SET", key, value]),
    }
}

fn decimal(n: u64) -> Vec<u8> {
    n.to_string().into_bytes()
}

fn setnx(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, value) = (args.take()?, args.take()?);
    let absent = !ctx.db.exists(key);
    if absent {
        store(ctx, key, value, &SetOptions::default());
    }
    reply.int(i64::from(absent));
    Ok(())
}

fn setex(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    set_for(ctx, args, reply, Clock::Seconds)
}

fn psetex(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    set_for(ctx, args, reply, Clock::Milliseconds)
}

fn set_for(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    clock: Clock,
) -> Result<()> {
    let (key, number, value) = (args.take()?, args.int()?, args.take()?);
    let deadline_ms = clock.deadline_ms(number, ctx.present_ms(), args.name())?;
    let options = SetOptions {
        deadline_ms: Some(deadline_ms),
        ..SetOptions::default()
    };
    store(ctx, key, value, &options);
    reply.ok();
    Ok(())
}

fn getset(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, value) = (args.take()?, args.take()?);
    write_string(reply, ctx.db.string(key)?);
    store(ctx, key, value, &SetOptions::default());
    Ok(())
}

fn getdel(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let old = ctx.db.string(key)?;
    write_string(reply, old);
    if old.is_some() {
        delete(ctx, key);
    }
    Ok(())
}

fn delete(ctx: &mut WriteCtx<'_>, key: &[u8]) {
    ctx.db.remove(key);
    ctx.changed(Event::generic("del"), key);
    ctx.propagate(&[b"DEL", key]);
}

fn getex(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let mut expiry = ExpiryOption::default();
    while let Some(word) = args.word() {
        if &*word == b"KEEPTTL" || !expiry.accept(&word, args)? {
            return Err(Error::Syntax);
        }
    }
    let old = ctx.db.string(key)?;
    write_string(reply, old);
    if old.is_none() {
        return Ok(());
    }
    let passed_ms = ctx.passed_ms();
    match (expiry.deadline_ms(ctx.present_ms(), "getex")?, expiry.choice()) {
        (Some(deadline_ms), _) if deadline_ms <= passed_ms => {
            ctx.db.remove(key);
            ctx.changed(Event::generic("del"), key);
            ctx.propagate_removal(Removal::Expired, key);
        }
        (Some(deadline_ms), _) => {
            ctx.db.set_deadline(key, Some(deadline_ms));
            ctx.changed(Event::generic("expire"), key);
            ctx.propagate(&[b"PEXPIREAT", key, &decimal(deadline_ms)]);
        }
        (None, Some(ExpiryChoice::Persist)) if ctx.db.deadline_ms(key).flatten().is_some() => {
            ctx.db.set_deadline(key, None);
            ctx.changed(Event::generic("persist"), key);
            ctx.propagate(&[b"PERSIST", key]);
        }
        _ => {}
    }
    Ok(())
}

fn pairs<'a>(args: &mut Args<'a>) -> Result<impl Iterator<Item = (&'a [u8], &'a [u8])> + Clone> {
    if !args.len().is_multiple_of(2) {
        return Err(args.arity_error());
    }
    let arguments = args.rest();
    let values = arguments.clone().skip(1).step_by(2);
    Ok(arguments.step_by(2).zip(values))
}

fn mset(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    for (key, value) in pairs(args)? {
        ctx.db.set_string(key, value, Expiry::Clear);
        ctx.changed(Event::string("set"), key);
    }
    reply.ok();
    Ok(())
}

fn msetex(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    const BAD_NUMBER: &str = "ERR invalid numkeys value or out of range";
    let n_keys = at_least(1, args.take()?, BAD_NUMBER)?;
    if n_keys > i32::MAX as usize {
        return Err(Error::Plain(BAD_NUMBER));
    }
    let pairs = args.take_n(n_keys.saturating_mul(2))?;
    let options = SetOptions::parse(args, ctx.present_ms())?;
    let mut keys = pairs.iter().step_by(2);
    let allowed =
        options.condition.is_none() || keys.all(|key| options.allow_existence(ctx.db.exists(key)));
    reply.int(i64::from(allowed));
    if !allowed {
        return Ok(());
    }
    for pair in pairs.chunks(2) {
        ctx.db.set_string(pair[0], pair[1], options.expiry());
        ctx.changed(Event::string("set"), pair[0]);
        if options.deadline_ms.is_some() {
            ctx.event(Event::generic("expire"), pair[0]);
        }
    }
    if options.is_absolute && options.condition.is_none() {
        return Ok(());
    }
    let n_keys = decimal(n_keys as u64);
    let mut command = vec![&b"MSETEX"[..], &n_keys];
    command.extend(pairs);
    let deadline = options.deadline_ms.map(decimal);
    match &deadline {
        Some(deadline) => command.extend([&b"PXAT"[..], deadline]),
        None if options.keep_deadline => command.push(b"KEEPTTL"),
        None => {}
    }
    ctx.propagate(&command);
    Ok(())
}

fn msetnx(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let pairs = pairs(args)?;
    let absent = pairs.clone().all(|(key, _)| !ctx.db.exists(key));
    if absent {
        for (key, value) in pairs {
            ctx.db.set_string(key, value, Expiry::Clear);
            ctx.changed(Event::string("set"), key);
        }
    }
    reply.int(i64::from(absent));
    Ok(())
}

fn incr(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    add(ctx, args.take()?, 1, reply)
}

fn decr(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    add(ctx, args.take()?, -1, reply)
}

fn incrby(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, delta) = (args.take()?, args.int()?);
    add(ctx, key, delta, reply)
}

fn decrby(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, delta) = (args.take()?, args.int()?);
    let delta = delta
        .checked_neg()
        .ok_or(Error::Plain("ERR decrement would overflow"))?;
    add(ctx, key, delta, reply)
}

fn add(ctx: &mut WriteCtx<'_>, key: &[u8], delta: i64, reply: &mut Reply<'_>) -> Result<()> {
    let sum = match ctx.db.string_mut(key)? {
        Some(mut string) => string.increment(delta).map_err(|error| match error {
            IncrementError::NotAnInteger => Error::NotAnInteger,
            IncrementError::Overflow => Error::Overflow,
        })?,
        None => {
            ctx.db
                .put(key, Encoding::Int, NewPayload::Int(delta), Expiry::Clear);
            delta
        }
    };
    ctx.changed(Event::string("incrby"), key);
    reply.int(sum);
    Ok(())
}

fn incrbyfloat(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, delta) = (args.take()?, args.take()?);
    let old = ctx
        .db
        .string(key)?
        .map_or_else(|| b"0".to_vec(), StringRef::to_vec);
    let sum = add_human(&old, delta).map_err(|error| match error {
        FloatError::NotAFloat => Error::NotAFloat,
        FloatError::NanOrInfinity => Error::NanOrInfinity,
    })?;
    ctx.db
        .put(key, Encoding::Raw, NewPayload::Blob(&sum), Expiry::Keep);
    ctx.changed(Event::string("incrbyfloat"), key);
    ctx.propagate(&[b"SET", key, &sum, b"KEEPTTL"]);
    reply.bulk(&sum);
    Ok(())
}

fn check_len(offset: u64, added: usize, limits: &Limits) -> Result<()> {
    match offset.saturating_add(added as u64) > limits.string_max_bytes as u64 {
        true => Err(Error::Plain("ERR string exceeds maximum allowed size (proto-max-bulk-len)")),
        false => Ok(()),
    }
}

fn append(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, text) = (args.take()?, args.take()?);
    let limits = ctx.db.limits();
    let len = match ctx.db.string_mut(key)? {
        Some(mut string) => {
            check_len(string.view().text_len() as u64, text.len(), limits)?;
            string.append(text)
        }
        None => {
            ctx.db.set_string(key, text, Expiry::Clear);
            text.len()
        }
    };
    ctx.changed(Event::string("append"), key);
    reply.count(len);
    Ok(())
}

fn setrange(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, offset, text) = (args.take()?, args.int()?, args.take()?);
    let offset = u64::try_from(offset).map_err(|_| Error::Plain("ERR offset is out of range"))?;
    let old_len = ctx.db.string(key)?.map(StringRef::text_len);
    if text.is_empty() {
        reply.count(old_len.unwrap_or(0));
        return Ok(());
    }
    check_len(offset, text.len(), ctx.db.limits())?;
    let offset = offset as usize;
    let len = match ctx.db.string_mut(key)? {
        Some(mut string) => string.set_range(offset, text),
        None => {
            let mut padded = vec![0; offset];
            padded.extend_from_slice(text);
            ctx.db
                .put(key, Encoding::Edited, NewPayload::Blob(&padded), Expiry::Clear);
            padded.len()
        }
    };
    ctx.changed(Event::string("setrange"), key);
    reply.count(len);
    Ok(())
}
