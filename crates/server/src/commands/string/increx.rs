//! INCREX: an increment that keeps within bounds and sets a deadline, the counter of a rate limiter in
//! one command.
//!
//! A sum out of bounds leaves key and deadline alone, or is capped with `SATURATE`; either way the reply
//! says by how much the value changed. It is propagated as the `SET` of the result.

use keyspace::db::Expiry;
use resp::reply::Reply;
use stdx::long_double::LongDouble;
use stdx::number::{I64Text, parse_i64};

use super::store_as;
use crate::command::event::Event;
use crate::command::grammar::{ExpiryChoice, ExpiryOption, choose};
use crate::command::{Args, Command, WriteCtx};
use crate::error::{Error, Result};

/// The command of this family.
pub const COMMANDS: &[Command] = &[Command::write("increx", -2, increx)
    .syntax("key [increment(BYFLOAT float=double|BYINT integer=integer)] [SATURATE] [LBOUND lowerbound] [UBOUND upperbound] [expiration(EX seconds|PX milliseconds|EXAT unix-time-seconds|PXAT unix-time-milliseconds|PERSIST)] [ENX]")
    .key(1)
    .fast()
    .deny_oom()
    .group("string")
    .about("8.8.0", "O(1)", "Adds to a number within bounds, and changes the deadline of its key.")];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Increment<'a> {
    Int(&'a [u8]),
    Float(&'a [u8]),
}

#[derive(Debug, Default)]
struct Options<'a> {
    increment: Option<Increment<'a>>,
    lower: Option<&'a [u8]>,
    upper: Option<&'a [u8]>,
    saturates: bool,
    only_without_deadline: bool,
    expiry: ExpiryOption<'a>,
}

impl<'a> Options<'a> {
    fn parse(args: &mut Args<'a>) -> Result<Options<'a>> {
        let mut options = Options::default();
        while let Some(word) = args.word() {
            match &*word {
                b"BYINT" => choose(&mut options.increment, Increment::Int(args.take()?))?,
                b"BYFLOAT" => choose(&mut options.increment, Increment::Float(args.take()?))?,
                b"LBOUND" => choose(&mut options.lower, args.take()?)?,
                b"UBOUND" => choose(&mut options.upper, args.take()?)?,
                b"SATURATE" => options.saturates = true,
                b"ENX" => options.only_without_deadline = true,
                word if word != b"KEEPTTL" && options.expiry.accept(word, args)? => {}
                _ => return Err(Error::Syntax),
            }
        }
        let has_deadline = matches!(options.expiry.choice(), Some(ExpiryChoice::At(_)));
        if options.only_without_deadline && !has_deadline {
            return Err(Error::Syntax);
        }
        Ok(options)
    }
}

const BOUNDS_CROSSED: Error = Error::Plain("ERR LBOUND can't be greater than UBOUND");

/// What an increment comes to: the value's text, and by how much it changed; `None` if it is refused.
struct Outcome {
    value: Vec<u8>,
    delta: Option<Vec<u8>>,
}

fn increx(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let options = Options::parse(args)?;
    let deadline_ms = options.expiry.deadline_ms(ctx.present_ms(), "increx")?;
    let is_float = matches!(options.increment, Some(Increment::Float(_)));
    let old = ctx.db.string(key)?.map(|old| old.to_vec());
    let old = old.as_deref().unwrap_or(b"0");
    let outcome = match options.increment {
        Some(Increment::Float(by)) => add_float(old, by, &options)?,
        Some(Increment::Int(by)) => add_int(old, by, &options)?,
        None => add_int(old, b"1", &options)?,
    };
    reply.array(2);
    let is_changed = outcome.delta.is_some();
    for number in [&outcome.value, &outcome.delta.unwrap_or(b"0".to_vec())] {
        match is_float {
            true => reply.human_double(number),
            false => reply.int(parse_i64(number).unwrap_or_default()),
        }
    }
    if is_changed {
        store(ctx, key, &outcome.value, (&options, deadline_ms, is_float));
    }
    Ok(())
}

fn add_int(old: &[u8], by: &[u8], options: &Options<'_>) -> Result<Outcome> {
    let int = |text| parse_i64(text).ok_or(Error::NotAnInteger);
    let (by, old) = (int(by)?, int(old)?);
    let lower = options.lower.map_or(Ok(i64::MIN), int)?;
    let upper = options.upper.map_or(Ok(i64::MAX), int)?;
    if lower > upper {
        return Err(BOUNDS_CROSSED);
    }
    let sum = i128::from(old) + i128::from(by);
    let within = sum.clamp(i128::from(lower), i128::from(upper));
    let text = |n: i64| I64Text::new(n).as_bytes().to_vec();
    if within != sum && !options.saturates {
        return Ok(Outcome {
            value: text(old),
            delta: None,
        });
    }
    let new = i64::try_from(within).map_err(|_| Error::Overflow)?;
    let delta = new.checked_sub(old).ok_or(Error::Overflow)?;
    Ok(Outcome {
        value: text(new),
        delta: Some(text(delta)),
    })
}

fn add_float(old: &[u8], by: &[u8], options: &Options<'_>) -> Result<Outcome> {
    let float = |text: &[u8]| LongDouble::parse(text).ok_or(Error::NotAFloat);
    let bound = |text: Option<&[u8]>| text.map(float).transpose();
    let (by, old) = (float(by)?, float(old)?);
    let (lower, upper) = (bound(options.lower)?, bound(options.upper)?);
    if let (Some(lower), Some(upper)) = (lower, upper)
        && lower.total_order(upper).is_gt()
    {
        return Err(BOUNDS_CROSSED);
    }
    let sum = old.plus(by).ok_or(Error::NanOrInfinity)?;
    let below = lower.filter(|lower| sum.total_order(*lower).is_lt());
    let above = upper.filter(|upper| sum.total_order(*upper).is_gt());
    let text = |number: LongDouble| {
        let mut text = Vec::with_capacity(32);
        number.write_human(&mut text);
        text
    };
    let (new, delta) = match below.or(above) {
        None => (sum, by),
        Some(_) if !options.saturates => {
            return Ok(Outcome {
                value: text(old),
                delta: None,
            });
        }
        Some(bound) => (bound, bound.plus(old.negated()).ok_or(Error::NanOrInfinity)?),
    };
    Ok(Outcome {
        value: text(new),
        delta: Some(text(delta)),
    })
}

fn store(
    ctx: &mut WriteCtx<'_>,
    key: &[u8],
    value: &[u8],
    (options, deadline_ms, is_float): (&Options<'_>, Option<u64>, bool),
) {
    let old_deadline_ms = ctx.db.deadline_ms(key).flatten();
    let expiry = match (deadline_ms, options.expiry.choice()) {
        (Some(_), _) if options.only_without_deadline && old_deadline_ms.is_some() => Expiry::Keep,
        (Some(deadline_ms), _) => Expiry::At(deadline_ms),
        (None, Some(ExpiryChoice::Persist)) => Expiry::Clear,
        (None, _) => Expiry::Keep,
    };
    let event = match is_float {
        true => Event::string("incrbyfloat"),
        false => Event::string("incrby"),
    };
    store_as(ctx, key, value, expiry, event);
    if matches!(expiry, Expiry::Clear) && old_deadline_ms.is_some() {
        ctx.event(Event::generic("persist"), key);
    }
}
