//! One value of a directive: text to number and back, with the peer's error texts.

use std::borrow::Cow;

use stdx::memory::parse_bytes;
use stdx::number::parse_i64;

use super::directive::{Directive, Kind, Standing};

/// A parsed value: its canonical text, and a number for the kinds that have one (see [`Kind`]).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Value {
    /// What hot paths read.
    pub number: i64,
    /// What CONFIG GET answers.
    pub text: Cow<'static, [u8]>,
}

impl Value {
    /// A number with its text.
    pub fn new(number: i64, text: Vec<u8>) -> Value {
        Value {
            number,
            text: Cow::Owned(text),
        }
    }

    /// A text; its number is its length.
    pub fn text(text: Vec<u8>) -> Value {
        Value::new(text.len() as i64, text)
    }
}

/// Parses what a directive was given, in the file or by CONFIG SET, and refuses what its standing
/// forbids. The error is the reason alone, without the directive's name.
pub fn parse(directive: &Directive, current: &[u8], words: &[&[u8]]) -> Result<Value, String> {
    let value = match (directive.kind, words) {
        (Kind::Special(parse), words) => parse(current, words)?,
        (Kind::Choices(known), words) => choices(known, words)?,
        (kind, [word]) => single(kind, word)?,
        _ => return Err("wrong number of arguments".into()),
    };
    permitted(directive, value)
}

fn permitted(directive: &Directive, value: Value) -> Result<Value, String> {
    let Standing::Refused { off } = directive.standing else {
        return Ok(value);
    };
    let is_off = |text: &[u8]| off.iter().any(|off| off.as_bytes() == text);
    let harmless = match directive.kind {
        Kind::Choices(_) => value.text.split(|byte| *byte == b' ').all(is_off),
        _ => is_off(&value.text),
    };
    if harmless {
        return Ok(value);
    }
    let off: Vec<String> = off.iter().map(|off| format!("'{off}'")).collect();
    Err(format!("not available in this version, must be {}: {}", off.join(" or "), directive.note))
}

fn single(kind: Kind, word: &[u8]) -> Result<Value, String> {
    match kind {
        Kind::Boolean => boolean(word),
        Kind::Integer { min, max, unsigned } => bounded(word, min, max, unsigned),
        Kind::Memory { min, max } => memory(word, min, max),
        Kind::MemoryOrPercent => memory_or_percent(word),
        Kind::Octal { max } => octal(word, max),
        Kind::Choice(known) => {
            let position = choice(known, word)?;
            Ok(Value::new(position as i64, known[position].into()))
        }
        Kind::Text | Kind::Directory | Kind::Choices(_) | Kind::Special(_) => {
            Ok(Value::text(word.to_vec()))
        }
    }
}

fn boolean(word: &[u8]) -> Result<Value, String> {
    if word.eq_ignore_ascii_case(b"yes") {
        Ok(Value {
            number: 1,
            text: Cow::Borrowed(b"yes"),
        })
    } else if word.eq_ignore_ascii_case(b"no") {
        Ok(Value {
            number: 0,
            text: Cow::Borrowed(b"no"),
        })
    } else {
        Err("argument must be 'yes' or 'no'".into())
    }
}

fn bounded(word: &[u8], min: i64, max: i64, unsigned: bool) -> Result<Value, String> {
    let number = parse_i64(word).ok_or("argument couldn't be parsed into an integer")?;
    if unsigned && number < 0 {
        return Err("argument must be greater or equal to 0".into());
    }
    if number < min || number > max {
        return Err(format!("argument must be between {min} and {max} inclusive"));
    }
    Ok(Value::new(number, number.to_string().into()))
}

fn memory(word: &[u8], min: i64, max: u64) -> Result<Value, String> {
    if min < 0
        && let Some(number @ ..0) = parse_i64(word)
    {
        return match number >= min {
            true => Ok(Value::new(number, number.to_string().into())),
            false => Err(format!("argument must be between {min} and {max} inclusive")),
        };
    }
    let number = parse_bytes(word).ok_or("argument must be a memory value")?;
    if number > max || number < min.max(0).unsigned_abs() {
        return Err(format!("argument must be between {min} and {max} inclusive"));
    }
    Ok(Value::new(number as i64, number.to_string().into()))
}

fn memory_or_percent(word: &[u8]) -> Result<Value, String> {
    const NEITHER: &str = "argument must be a memory or percent value";
    let Some(percent) = word.strip_suffix(b"%") else {
        let number = parse_bytes(word)
            .filter(|n| i64::try_from(*n).is_ok())
            .ok_or(NEITHER)?;
        return Ok(Value::new(number as i64, number.to_string().into()));
    };
    match parse_i64(percent).ok_or(NEITHER)? {
        percent @ 0..=100 => Ok(Value::new(-percent, format!("{percent}%").into())),
        ..0 => Err(NEITHER.into()),
        _ => Err("percentage argument must be less or equal to 100".into()),
    }
}

fn octal(word: &[u8], max: i64) -> Result<Value, String> {
    let text = std::str::from_utf8(word)
        .ok()
        .filter(|text| !text.starts_with('+'));
    let number = text.and_then(|text| i64::from_str_radix(text, 8).ok());
    let number = number.ok_or("argument couldn't be parsed as an octal number")?;
    if !(0..=max).contains(&number) {
        return Err(format!("argument must be between 0 and {max:o} inclusive"));
    }
    Ok(Value::new(number, format!("{number:o}").into()))
}

fn choice(known: &[&str], word: &[u8]) -> Result<usize, String> {
    let position = known
        .iter()
        .position(|known| known.as_bytes().eq_ignore_ascii_case(word));
    position
        .ok_or_else(|| format!("argument(s) must be one of the following: {}", known.join(", ")))
}

fn choices(known: &[&str], words: &[&[u8]]) -> Result<Value, String> {
    if words.is_empty() {
        choice(known, b"")?;
    }
    let mut bits = 0;
    for word in words {
        bits |= 1_i64 << choice(known, word)?;
    }
    let held = known
        .iter()
        .enumerate()
        .filter(|(position, _)| bits & (1 << position) != 0);
    let text: Vec<&str> = held.map(|(_, word)| *word).collect();
    Ok(Value::new(bits, text.join(" ").into_bytes()))
}

/// Bytes in the largest 1024 unit that divides them, as CONFIG REWRITE writes them.
pub fn bytes_text(number: u64) -> String {
    for (shift, unit) in [(30, "gb"), (20, "mb"), (10, "kb")] {
        if number != 0 && number.trailing_zeros() >= shift {
            return format!("{}{unit}", number >> shift);
        }
    }
    number.to_string()
}
