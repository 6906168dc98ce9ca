//! A command's RESP reply into Lua values.
//!
//! ```text
//!  :1 -> 1             $.. -> string      $-1 *-1 -> false     _ -> nil      #t -> true
//!  +OK -> {ok=..}      -E -> {err=..}     *.. -> array         ,1.5 -> {double=..}
//!  %.. -> {map={..}}   ~.. -> {set={..}}  (.. -> {big_number=..}
//!  =.. -> {verbatim_string={format=.., string=..}}            |.. attributes are passed over
//! ```

use mlua::{Lua, Result, Table, Value};

/// How deep replies may nest.
const MAX_DEPTH: usize = 128;

/// Reads the one reply that `bytes` holds. The host's bytes are trusted to be whole; if they are
/// not, the result is an error table.
pub fn decode(lua: &Lua, bytes: &[u8]) -> Result<Value> {
    let mut reader = Reader { lua, bytes, at: 0 };
    match reader.value(0)? {
        Some(value) => Ok(value),
        None => error_table(lua, b"ERR malformed reply inside the server"),
    }
}

/// Marks an error table whose error was counted when a command answered it.
pub(crate) const COUNTED: &str = "ignore_error_stats_update";

/// `{err=message}`, marked as counted.
pub fn error_table(lua: &Lua, message: &[u8]) -> Result<Value> {
    let table = plain_error_table(lua, message)?;
    table.raw_set(COUNTED, true)?;
    Ok(Value::Table(table))
}

/// The same for what nobody has counted.
pub fn plain_error_table(lua: &Lua, message: &[u8]) -> Result<Table> {
    let table = lua.create_table_with_capacity(0, 2)?;
    table.raw_set("err", lua.create_string(message)?)?;
    Ok(table)
}

/// A reply that needs no table.
pub(crate) enum Simple<'a> {
    Number(f64),
    Null,
    Text(&'a [u8]),
}

/// Reads an integer, a bulk string or its null.
pub(crate) fn simple(bytes: &[u8]) -> Option<Simple<'_>> {
    let (kind, rest) = bytes.split_first()?;
    let end = rest.iter().position(|byte| *byte == b'\r')?;
    let number = || integer(&rest[..end]);
    match kind {
        b':' => Some(Simple::Number(number()? as f64)),
        b'$' => match usize::try_from(number()?) {
            Ok(len) => Some(Simple::Text(rest.get(end + 2..)?.get(..len)?)),
            Err(_) => Some(Simple::Null),
        },
        _ => None,
    }
}

struct Reader<'a> {
    lua: &'a Lua,
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Reader<'a> {
    fn value(&mut self, depth: usize) -> Result<Option<Value>> {
        let Some((kind, line)) = self.line().filter(|_| depth < MAX_DEPTH) else {
            return Ok(None);
        };
        let lua = self.lua;
        let value = match kind {
            b':' => integer(line).map(|n| Value::Number(n as f64)),
            b'$' => match integer(line) {
                Some(..0) => Some(Value::Boolean(false)),
                Some(len) => match self.take(len) {
                    Some(bytes) => Some(Value::String(lua.create_string(bytes)?)),
                    None => None,
                },
                None => None,
            },
            b'+' => Some(self.named("ok", lua.create_string(line)?)?),
            b'-' => Some(error_table(lua, line)?),
            b'_' => Some(Value::Nil),
            b'#' => Some(Value::Boolean(line == b"t")),
            b',' => match double(line) {
                Some(number) => Some(self.named("double", number)?),
                None => None,
            },
            b'(' => Some(self.named("big_number", lua.create_string(line)?)?),
            b'=' => self.verbatim(line)?,
            b'*' | b'>' => self.array(line, depth)?,
            b'~' => self.set(line, depth)?,
            b'%' => self.map(line, depth)?,
            b'|' => return self.after_attributes(line, depth),
            _ => None,
        };
        Ok(value)
    }

    fn named(&self, name: &str, value: impl mlua::IntoLua) -> Result<Value> {
        let table = self.lua.create_table_with_capacity(0, 1)?;
        table.raw_set(name, value)?;
        Ok(Value::Table(table))
    }

    fn array(&mut self, line: &[u8], depth: usize) -> Result<Option<Value>> {
        let n = match integer(line) {
            Some(..0) => return Ok(Some(Value::Boolean(false))),
            Some(n) => n as usize,
            None => return Ok(None),
        };
        let table = self.table(n, 0)?;
        for i in 1..=n {
            let Some(value) = self.value(depth + 1)? else {
                return Ok(None);
            };
            table.raw_set(i, value)?;
        }
        Ok(Some(Value::Table(table)))
    }

    fn set(&mut self, line: &[u8], depth: usize) -> Result<Option<Value>> {
        let Some(n) = integer(line) else {
            return Ok(None);
        };
        let table = self.table(0, n as usize)?;
        for _ in 0..n {
            match self.value(depth + 1)? {
                None => return Ok(None),
                Some(Value::Nil) => {}
                Some(member) => table.raw_set(member, true)?,
            }
        }
        self.named("set", table).map(Some)
    }

    fn map(&mut self, line: &[u8], depth: usize) -> Result<Option<Value>> {
        let Some(n) = integer(line) else {
            return Ok(None);
        };
        let table = self.table(0, n as usize)?;
        for _ in 0..n {
            match (self.value(depth + 1)?, self.value(depth + 1)?) {
                (Some(Value::Nil), Some(_)) => {}
                (Some(key), Some(value)) => table.raw_set(key, value)?,
                _ => return Ok(None),
            }
        }
        self.named("map", table).map(Some)
    }

    fn verbatim(&mut self, line: &[u8]) -> Result<Option<Value>> {
        let text = integer(line).and_then(|len| self.take(len));
        let Some((format, [b':', text @ ..])) = text.and_then(|text| text.split_at_checked(3))
        else {
            return Ok(None);
        };
        let table = self.table(0, 2)?;
        table.raw_set("format", self.lua.create_string(format)?)?;
        table.raw_set("string", self.lua.create_string(text)?)?;
        self.named("verbatim_string", table).map(Some)
    }

    fn after_attributes(&mut self, line: &[u8], depth: usize) -> Result<Option<Value>> {
        for _ in 0..integer(line).unwrap_or(0) * 2 {
            if self.value(depth + 1)?.is_none() {
                return Ok(None);
            }
        }
        self.value(depth + 1)
    }

    /// A table with room for what a header announces, as far as the bytes at hand can hold it.
    fn table(&self, n_array: usize, n_hash: usize) -> Result<Table> {
        let possible = (self.bytes.len() - self.at) / 3;
        self.lua
            .create_table_with_capacity(n_array.min(possible), n_hash.min(possible))
    }

    fn line(&mut self) -> Option<(u8, &'a [u8])> {
        let rest = self.bytes.get(self.at..)?;
        let (kind, rest) = rest.split_first()?;
        let end = rest.windows(2).position(|pair| pair == b"\r\n")?;
        self.at += end + 3;
        Some((*kind, &rest[..end]))
    }

    fn take(&mut self, len: i64) -> Option<&'a [u8]> {
        let len = usize::try_from(len).ok()?;
        let bytes = self.bytes.get(self.at..self.at.checked_add(len)?)?;
        self.at += len + 2;
        Some(bytes)
    }
}

fn integer(line: &[u8]) -> Option<i64> {
    stdx::number::parse_i64(line)
}

fn double(line: &[u8]) -> Option<f64> {
    match line {
        b"nan" | b"-nan" => Some(f64::NAN),
        line => std::str::from_utf8(line).ok()?.parse().ok(),
    }
}
