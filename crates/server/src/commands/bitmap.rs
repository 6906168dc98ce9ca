//! Bitmaps: strings seen as bits, and integers of any width in them.
//!
//! A whole BITFIELD is parsed before anything is looked up, and its string is as long as its last
//! write needs before the first one is done.

use std::borrow::Cow;
use std::ops::Range;

use datatypes::bitmap::field::{Field, Overflow};
use datatypes::bitmap::{self, Operation};
use datatypes::home::{Encoding, Limits, NewPayload};
use datatypes::string::StringRef;
use keyspace::db::{Expiry, View};
use resp::reply::Reply;

use crate::command::event::Event;
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::read("bitcount", -2, bitcount)
        .syntax("key [range(start end [unit(BYTE|BIT)])]")
        .key(1)
        .group("bitmap")
        .about("2.6.0", "O(N) in the bytes", "Counts the ones in a bitmap or a part of it."),
    Command::write("bitfield", -2, bitfield)
        .syntax("key [operation(GET get-block(encoding offset)|write([OVERFLOW overflow-block(WRAP|SAT|FAIL)] write-operation(SET set-block(encoding offset value=integer)|INCRBY incrby-block(encoding offset increment)))) ...]")
        .key(1)
        .deny_oom()
        .access(Access::Vary(bitfield_access))
        .group("bitmap")
        .about("3.2.0", "O(1) for each subcommand", "Reads and changes integers in a bitmap."),
    Command::read("bitfield_ro", -2, bitfield_ro)
        .syntax("key [GET get-block(encoding offset) +...]")
        .key(1)
        .fast()
        .group("bitmap")
        .about("6.0.0", "O(1) for each subcommand", "Reads integers in a bitmap."),
    Command::write("bitop", -4, bitop)
        .syntax("operation(AND|OR|XOR|NOT|DIFF|DIFF1|ANDOR|ONE) destkey=key key ...")
        .keys(2, -1, 1)
        .deny_oom()
        .accesses(Access::Overwrite, Access::Read)
        .group("bitmap")
        .about("2.6.0", "O(N) in the bytes", "Stores what several bitmaps make bit by bit."),
    Command::read("bitpos", -3, bitpos)
        .syntax("key bit=integer [range(start [end-unit-block(end [unit(BYTE|BIT)])])]")
        .key(1)
        .group("bitmap")
        .about("2.8.7", "O(N) in the bytes", "Finds the first zero or one in a bitmap."),
    Command::read("getbit", 3, getbit)
        .syntax("key offset")
        .key(1)
        .fast()
        .group("bitmap")
        .about("2.2.0", "O(1)", "Returns a bit of a bitmap."),
    Command::write("setbit", 4, setbit)
        .syntax("key offset value=integer")
        .key(1)
        .deny_oom()
        .group("bitmap")
        .about("2.2.0", "O(1)", "Sets or clears a bit of a bitmap; returns what it was."),
];

const BAD_OFFSET: Error = Error::Plain("ERR bit offset is not an integer or out of range");
const BAD_BIT: Error = Error::Plain("ERR bit is not an integer or out of range");
const NOT_A_BIT: Error = Error::Plain("ERR The bit argument must be 1 or 0.");
const BAD_FIELD: Error = Error::Plain(
    "ERR Invalid bitfield type. Use something like i16 u8. Note that u64 is not supported but i64 \
     is.",
);

/// The bytes of the string at `key`; an integer's are its digits.
fn bytes<'v>(db: &'v View<'_>, key: &[u8]) -> Result<Option<Cow<'v, [u8]>>> {
    Ok(db.string(key)?.map(|string| match string {
        StringRef::Bytes(bytes) => Cow::Borrowed(bytes),
        StringRef::Int(_) => Cow::Owned(string.to_vec()),
    }))
}

/// The number of a bit; in steps of `unit` bits if there is a `#` before it.
fn offset(text: &[u8], unit: Option<u64>, limits: &Limits) -> Result<u64> {
    let (digits, scale) = match (text.split_first(), unit) {
        (Some((b'#', digits)), Some(n_bits)) => (digits, n_bits),
        _ => (text, 1),
    };
    stdx::number::parse_i64(digits)
        .and_then(|number| u64::try_from(number).ok())
        .and_then(|number| number.checked_mul(scale))
        .filter(|at| at >> 3 < limits.string_max_bytes as u64)
        .ok_or(BAD_OFFSET)
}

fn getbit(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, at) = (args.take()?, offset(args.take()?, None, ctx.db.limits())?);
    let bytes = bytes(&ctx.db, key)?.unwrap_or_default();
    reply.int(bitmap::get(&bytes, at).into());
    Ok(())
}

fn setbit(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (key, at) = (args.take()?, offset(args.take()?, None, ctx.db.limits())?);
    let value = match args.int() {
        Ok(0) => false,
        Ok(1) => true,
        _ => return Err(BAD_BIT),
    };
    let mut was = false;
    let has_grown = edit(ctx, key, (at >> 3) as usize + 1, |bytes| {
        was = bitmap::set(bytes, at, value);
    })?;
    if has_grown || was != value {
        ctx.changed(Event::string("setbit"), key);
    }
    reply.int(was.into());
    Ok(())
}

/// Changes the bytes at `key`, at least `n_bytes` of them; whether it has become longer.
fn edit(
    ctx: &mut WriteCtx<'_>,
    key: &[u8],
    n_bytes: usize,
    change: impl FnOnce(&mut [u8]),
) -> Result<bool> {
    let old = ctx.db.string(key)?.map(StringRef::text_len);
    if old.is_none() {
        let zeros = NewPayload::Blob(&[]);
        ctx.db.put(key, Encoding::Edited, zeros, Expiry::Clear);
    }
    if let Some(mut string) = ctx.db.string_mut(key)? {
        change(string.bytes_mut(n_bytes));
    }
    Ok(old.is_none_or(|len| len < n_bytes))
}

/// Whether offsets count bits or bytes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Unit {
    Byte,
    Bit,
}

/// `start end [BYTE | BIT]`, as given.
struct Span {
    start: i64,
    end: i64,
    unit: Unit,
}

impl Span {
    /// Parses all that is left of `args`. Where the end may be missing, the unit is looked at first.
    fn parse(args: &mut Args<'_>, end_default: Option<i64>) -> Result<Span> {
        if args.len() > 3 {
            return Err(Error::Syntax);
        }
        let start = args.int()?;
        let mut behind_end = args.clone();
        let end = behind_end.take();
        if end_default.is_none() {
            args.clone().int()?;
        }
        let unit = match behind_end.word().as_deref() {
            None | Some(b"BYTE") => Unit::Byte,
            Some(b"BIT") => Unit::Bit,
            Some(_) => return Err(Error::Syntax),
        };
        let end = match (end, end_default) {
            (Err(_), Some(end)) => end,
            _ => args.int()?,
        };
        let _ = args.rest();
        Ok(Span { start, end, unit })
    }

    /// The bits that it means in a string of `n_bytes`.
    fn bits(&self, n_bytes: usize) -> Range<u64> {
        let width = if self.unit == Unit::Bit { 1 } else { 8 };
        let len = (n_bytes as u64 * 8 / width) as i64;
        let from_end = |index: i64| match index < 0 {
            true => index.saturating_add(len).max(0),
            false => index,
        };
        let (start, end) = (from_end(self.start), from_end(self.end).min(len - 1));
        match start <= end {
            true => start as u64 * width..(end as u64 + 1) * width,
            false => 0..0,
        }
    }
}

fn bitcount(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let span = match args.len() {
        0 => None,
        _ => Some(Span::parse(args, Some(-1))?),
    };
    let bytes = bytes(&ctx.db, key)?.unwrap_or_default();
    let bits = match span {
        None => 0..bytes.len() as u64 * 8,
        Some(span) if span.start < 0 && span.end < 0 && span.start > span.end => 0..0,
        Some(span) => span.bits(bytes.len()),
    };
    reply.int(bitmap::count(&bytes, bits) as i64);
    Ok(())
}

fn bitpos(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let wanted = match args.int()? {
        0 => false,
        1 => true,
        _ => return Err(NOT_A_BIT),
    };
    let is_end_given = args.len() > 1;
    let span = match args.is_empty() {
        true => None,
        false => Some(Span::parse(args, Some(-1))?),
    };
    let Some(bytes) = bytes(&ctx.db, key)? else {
        reply.int(if wanted { -1 } else { 0 });
        return Ok(());
    };
    let bits = span.map_or(0..bytes.len() as u64 * 8, |span| span.bits(bytes.len()));
    let is_empty = bits.is_empty();
    let end = bits.end;
    let found = bitmap::position(&bytes, bits, wanted).map(|at| at as i64);
    // Zeros follow the last bit, unless the end was given.
    let beyond = if wanted || is_end_given || is_empty {
        -1
    } else {
        end as i64
    };
    reply.int(found.unwrap_or(beyond));
    Ok(())
}

fn bitop(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let operation = match args.word().as_deref() {
        Some(b"AND") => Operation::And,
        Some(b"OR") => Operation::Or,
        Some(b"XOR") => Operation::Xor,
        Some(b"NOT") => Operation::Not,
        Some(b"DIFF") => Operation::Diff,
        Some(b"DIFF1") => Operation::Diff1,
        Some(b"ANDOR") => Operation::AndOr,
        Some(b"ONE") => Operation::One,
        _ => return Err(Error::Syntax),
    };
    let destination = args.take()?;
    check_sources(operation, args.len())?;
    let sources = args.rest().map(|key| bytes(&ctx.db, key));
    let sources = sources.collect::<Result<Vec<_>>>()?;
    let views: Vec<&[u8]> = sources
        .iter()
        .map(|source| source.as_deref().unwrap_or_default())
        .collect();
    let result = bitmap::combine(operation, &views);
    if !result.is_empty() {
        let payload = NewPayload::Blob(&result);
        ctx.db
            .put(destination, Encoding::Edited, payload, Expiry::Clear);
        ctx.changed(Event::string("set"), destination);
    } else if ctx.db.remove(destination) {
        ctx.changed(Event::generic("del"), destination);
    }
    reply.count(result.len());
    Ok(())
}

fn check_sources(operation: Operation, n_sources: usize) -> Result<()> {
    let error = match operation {
        Operation::Not if n_sources != 1 => {
            "ERR BITOP NOT must be called with a single source key."
        }
        Operation::Diff if n_sources < 2 => {
            "ERR BITOP DIFF must be called with at least two source keys."
        }
        Operation::Diff1 if n_sources < 2 => {
            "ERR BITOP DIFF1 must be called with at least two source keys."
        }
        Operation::AndOr if n_sources < 2 => {
            "ERR BITOP ANDOR must be called with at least two source keys."
        }
        _ => return Ok(()),
    };
    Err(Error::Plain(error))
}

/// What BITFIELD does with one integer.
#[derive(Clone, Copy)]
enum Action {
    Get,
    Set(i64),
    Increment(i64),
}

/// What became of an integer.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Written {
    No,
    Same,
    Other,
}

/// One subcommand of BITFIELD.
struct Step {
    field: Field,
    at: u64,
    action: Action,
    overflow: Overflow,
}

impl Step {
    /// The bytes that the string must have for it.
    fn n_bytes(&self) -> usize {
        match self.action {
            Action::Get => 0,
            _ => (self.at + self.field.n_bits()).div_ceil(8) as usize,
        }
    }

    /// Does it; what it answers, and what became of the number.
    fn run(&self, bytes: &mut [u8]) -> (Option<i64>, Written) {
        let old = self.field.read(bytes, self.at);
        let (new, answers_old) = match self.action {
            Action::Get => return (Some(old), Written::No),
            Action::Set(value) => (self.field.meant(value), true),
            Action::Increment(delta) => (i128::from(old) + i128::from(delta), false),
        };
        let Some(new) = self.field.fit(new, self.overflow) else {
            return (None, Written::No);
        };
        self.field.write(bytes, self.at, new);
        let answer = if answers_old { old } else { new };
        (
            Some(answer),
            if new == old {
                Written::Same
            } else {
                Written::Other
            },
        )
    }
}

fn steps(args: &mut Args<'_>, limits: &Limits) -> Result<Vec<Step>> {
    let mut steps = Vec::new();
    let mut overflow = Overflow::Wrap;
    while let Some(word) = args.word() {
        let n_arguments = match &*word {
            b"GET" => 2,
            b"SET" | b"INCRBY" => 3,
            b"OVERFLOW" if !args.is_empty() => {
                overflow = match args.word().as_deref() {
                    Some(b"WRAP") => Overflow::Wrap,
                    Some(b"SAT") => Overflow::Saturate,
                    Some(b"FAIL") => Overflow::Fail,
                    _ => return Err(Error::Plain("ERR Invalid OVERFLOW type specified")),
                };
                continue;
            }
            _ => return Err(Error::Syntax),
        };
        if args.len() < n_arguments {
            return Err(Error::Syntax);
        }
        let field = Field::parse(args.take()?).ok_or(BAD_FIELD)?;
        let at = offset(args.take()?, Some(field.n_bits()), limits)?;
        let action = match &*word {
            b"GET" => Action::Get,
            b"SET" => Action::Set(args.int()?),
            _ => Action::Increment(args.int()?),
        };
        steps.push(Step {
            field,
            at,
            action,
            overflow,
        });
    }
    Ok(steps)
}

/// With nothing but `GET`, nothing is changed.
fn bitfield_access(request: &[&[u8]]) -> Access {
    let mut words = request.iter().skip(2);
    let is_write =
        |word: &&[u8]| word.eq_ignore_ascii_case(b"SET") || word.eq_ignore_ascii_case(b"INCRBY");
    match words.any(is_write) {
        true => Access::Modify,
        false => Access::Read,
    }
}

fn bitfield(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let steps = steps(args, ctx.db.limits())?;
    let n_bytes = steps.iter().map(Step::n_bytes).max().unwrap_or(0);
    if n_bytes == 0 {
        return read_fields(&ctx.db, key, &steps, reply);
    }
    reply.array(steps.len());
    let mut written = Vec::with_capacity(steps.len());
    let has_grown = edit(ctx, key, n_bytes, |bytes| {
        for step in &steps {
            let (answer, outcome) = step.run(bytes);
            written.push(outcome);
            match answer {
                Some(number) => reply.int(number),
                None => reply.null(),
            }
        }
    })?;
    let is_change = |outcome: &&Written| match outcome {
        Written::No => false,
        Written::Same => has_grown,
        Written::Other => true,
    };
    let n_changes = written.iter().filter(is_change).count();
    if n_changes > 0 {
        ctx.changed(Event::string("setbit"), key);
        ctx.effects.n_changes += n_changes as u64 - 1;
    } else if has_grown {
        ctx.changed(Event::SILENT, key); // with zeros only, as all writes have failed
    }
    Ok(())
}

fn bitfield_ro(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let steps = steps(args, ctx.db.limits())?;
    if steps.iter().any(|step| !matches!(step.action, Action::Get)) {
        return Err(Error::Plain("ERR BITFIELD_RO only supports the GET subcommand"));
    }
    read_fields(&ctx.db, key, &steps, reply)
}

fn read_fields(db: &View<'_>, key: &[u8], steps: &[Step], reply: &mut Reply<'_>) -> Result<()> {
    let bytes = bytes(db, key)?.unwrap_or_default();
    reply.array(steps.len());
    for step in steps {
        reply.int(step.field.read(&bytes, step.at));
    }
    Ok(())
}
