//! The libraries that scripts expect beside the standard ones: `bit`, `cjson`, `cmsgpack`, `struct`.
//!
//! Their functions raise plain Lua errors, as the C libraries of those names do.

mod bit;
mod cjson;
mod cmsgpack;
mod structs;
#[cfg(test)]
mod tests;

use mlua::{Error, Lua, LuaString, MultiValue, Result, Table, Value};

/// What scripts can nest before a library gives up, whatever limit they have set.
const DEPTH_MAX: usize = 1000;

/// `{ bit = .., cjson = .., .. }`
pub fn table(lua: &Lua) -> Result<Table> {
    let all = lua.create_table()?;
    all.raw_set("bit", bit::table(lua)?)?;
    all.raw_set("cjson", cjson::table(lua)?)?;
    all.raw_set("cmsgpack", cmsgpack::table(lua)?)?;
    all.raw_set("struct", structs::table(lua)?)?;
    Ok(all)
}

/// An error with the place of the call in front, if a script made it directly.
fn raise(lua: &Lua, message: impl std::fmt::Display) -> Error {
    let place = lua.inspect_stack(1, |frame| {
        let line = frame.current_line()?;
        let source = frame.source().short_src?.into_owned();
        Some(format!("{source}:{line}: "))
    });
    Error::runtime(format!("{}{message}", place.flatten().unwrap_or_default()))
}

fn bad_argument(lua: &Lua, at: usize, function: &str, reason: &str) -> Error {
    raise(lua, format!("bad argument #{at} to '{function}' ({reason})"))
}

/// The arguments of one call.
struct Arguments<'a> {
    lua: &'a Lua,
    function: &'static str,
    values: MultiValue,
}

impl<'a> Arguments<'a> {
    fn new(lua: &'a Lua, function: &'static str, values: MultiValue) -> Arguments<'a> {
        Arguments {
            lua,
            function,
            values,
        }
    }

    fn len(&self) -> usize {
        self.values.len()
    }

    /// The argument number `at`, from 1.
    fn get(&self, at: usize) -> Option<&Value> {
        self.values.get(at - 1)
    }

    fn bad(&self, at: usize, reason: &str) -> Error {
        bad_argument(self.lua, at, self.function, reason)
    }

    fn expected(&self, at: usize, what: &str) -> Error {
        let found = self.get(at).map_or("no value", Value::type_name);
        let found = if found == "integer" { "number" } else { found };
        self.bad(at, &format!("{what} expected, got {found}"))
    }

    fn number(&self, at: usize) -> Result<f64> {
        let number = match self.get(at) {
            Some(Value::Integer(number)) => Some(*number as f64),
            Some(Value::Number(number)) => Some(*number),
            Some(text @ Value::String(_)) => self.lua.coerce_number(text.clone())?,
            _ => None,
        };
        number.ok_or_else(|| self.expected(at, "number"))
    }

    fn text(&self, at: usize) -> Result<LuaString> {
        let text = match self.get(at) {
            Some(value @ (Value::String(_) | Value::Integer(_) | Value::Number(_))) => {
                self.lua.coerce_string(value.clone())?
            }
            _ => None,
        };
        text.ok_or_else(|| self.expected(at, "string"))
    }

    /// An integer, or `default` if the argument is missing or nil.
    fn int_or(&self, at: usize, default: i64) -> Result<i64> {
        match self.get(at) {
            None | Some(Value::Nil) => Ok(default),
            _ => Ok(self.number(at)? as i64),
        }
    }
}

/// A value's number, if it is one.
fn as_number(value: &Value) -> Option<f64> {
    match value {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        _ => None,
    }
}

/// The length of a table whose keys are all whole numbers from 1 on, and how many it has.
fn array_shape(table: &Table) -> Result<Option<(usize, usize)>> {
    let (mut longest, mut n) = (0, 0);
    for pair in table.pairs::<Value, Value>() {
        let (key, _) = pair?;
        match as_number(&key) {
            Some(key) if key >= 1.0 && key.trunc() == key && key < 9e15 => {
                longest = longest.max(key as usize);
                n += 1;
            }
            _ => return Ok(None),
        }
    }
    Ok(Some((longest, n)))
}
