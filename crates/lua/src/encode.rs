//! What a script returns into reply elements.
//!
//! ```text
//!  number -> integer, cut off    string -> bulk      nil, false, other -> null   true -> 1
//!  {err=..} -> error             {ok=..} -> status   {double=..}  {map=..}  {set=..}
//!  {big_number=..}               {verbatim_string={format=.., string=..}}
//!  any other table -> array of its elements from 1 up to the first nil
//! ```
//!
//! Fields are looked up without metatables. After `redis.setresp(3)` booleans are booleans.

use mlua::{LuaString, Result, Table, Value};

use crate::Sink;
use crate::decode::COUNTED;

/// How deep a result may nest.
const MAX_DEPTH: usize = 1000;

/// Why a result cannot be written.
#[derive(Debug)]
pub enum EncodeError {
    /// It nests too deeply, perhaps without end.
    TooDeep,
    /// The interpreter failed.
    Lua(mlua::Error),
}

impl From<mlua::Error> for EncodeError {
    fn from(error: mlua::Error) -> EncodeError {
        EncodeError::Lua(error)
    }
}

/// Writes a value. On an error the sink may hold a part of it.
pub fn encode(
    value: &Value,
    resp3: bool,
    sink: &mut dyn Sink,
) -> std::result::Result<(), EncodeError> {
    Encoder { resp3, sink }.value(value, 0)
}

/// Line ends would break the protocol's lines: spaces stand for them.
pub fn one_line(text: &[u8]) -> Vec<u8> {
    text.iter()
        .map(|byte| {
            if matches!(byte, b'\r' | b'\n') {
                b' '
            } else {
                *byte
            }
        })
        .collect()
}

struct Encoder<'a> {
    resp3: bool,
    sink: &'a mut dyn Sink,
}

impl Encoder<'_> {
    fn value(&mut self, value: &Value, depth: usize) -> std::result::Result<(), EncodeError> {
        match value {
            Value::String(bytes) => self.sink.bulk(&bytes.as_bytes()),
            Value::Integer(number) => self.sink.int(*number),
            Value::Number(number) => self.sink.int(truncated(*number)),
            Value::Boolean(value) if self.resp3 => self.sink.boolean(*value),
            Value::Boolean(true) => self.sink.int(1),
            Value::Table(_) if depth >= MAX_DEPTH => return Err(EncodeError::TooDeep),
            Value::Table(table) => return self.table(table, depth),
            _ => self.sink.null(),
        }
        Ok(())
    }

    fn table(&mut self, table: &Table, depth: usize) -> std::result::Result<(), EncodeError> {
        if let Some(text) = string(table, "err")? {
            let is_counted = matches!(table.raw_get(COUNTED)?, Value::Boolean(true));
            self.sink.error(&one_line(&text.as_bytes()), is_counted);
        } else if let Some(text) = string(table, "ok")? {
            self.sink.status(&one_line(&text.as_bytes()));
        } else if let Some(number) = number(table, "double")? {
            self.sink.double(number);
        } else if let Value::Table(map) = table.raw_get("map")? {
            return self.map(&map, depth);
        } else if let Value::Table(set) = table.raw_get("set")? {
            return self.set(&set, depth);
        } else if let Some(digits) = string(table, "big_number")? {
            self.sink.big_number(&one_line(&digits.as_bytes()));
        } else if let Some((format, text)) = verbatim(table)? {
            self.sink.verbatim(&format, &text.as_bytes());
        } else {
            return self.array(table, depth);
        }
        Ok(())
    }

    // Elements are looked up twice rather than kept: mlua can hold some thousand values at a time.

    fn array(&mut self, table: &Table, depth: usize) -> std::result::Result<(), EncodeError> {
        let mut n = 0;
        while !matches!(table.raw_get::<Value>(n + 1)?, Value::Nil) {
            n += 1;
        }
        self.sink.array(n);
        for at in 1..=n {
            let element: Value = table.raw_get(at)?;
            self.value(&element, depth + 1)?;
        }
        Ok(())
    }

    fn map(&mut self, map: &Table, depth: usize) -> std::result::Result<(), EncodeError> {
        self.sink.map(map.pairs::<Value, Value>().count());
        for pair in map.pairs::<Value, Value>() {
            let (key, value) = pair?;
            self.value(&key, depth + 1)?;
            self.value(&value, depth + 1)?;
        }
        Ok(())
    }

    fn set(&mut self, set: &Table, depth: usize) -> std::result::Result<(), EncodeError> {
        self.sink.set(set.pairs::<Value, Value>().count());
        for pair in set.pairs::<Value, Value>() {
            let (member, _) = pair?;
            self.value(&member, depth + 1)?;
        }
        Ok(())
    }
}

/// A C cast to a 64-bit integer: towards zero, and the smallest integer for what does not fit.
fn truncated(number: f64) -> i64 {
    if number.is_nan() || !(-9.3e18..9.223_372_036_854_775e18).contains(&number) {
        return i64::MIN;
    }
    number as i64
}

fn string(table: &Table, name: &str) -> Result<Option<LuaString>> {
    Ok(match table.raw_get(name)? {
        Value::String(text) => Some(text),
        _ => None,
    })
}

fn number(table: &Table, name: &str) -> Result<Option<f64>> {
    Ok(match table.raw_get(name)? {
        Value::Integer(number) => Some(number as f64),
        Value::Number(number) => Some(number),
        _ => None,
    })
}

fn verbatim(table: &Table) -> Result<Option<(String, LuaString)>> {
    let Value::Table(inner) = table.raw_get("verbatim_string")? else {
        return Ok(None);
    };
    let (Some(format), Some(text)) = (string(&inner, "format")?, string(&inner, "string")?) else {
        return Ok(None);
    };
    let format: String = format
        .to_string_lossy()
        .chars()
        .filter(char::is_ascii_graphic)
        .collect();
    Ok((format.len() >= 3).then(|| (format[..3].to_string(), text)))
}
