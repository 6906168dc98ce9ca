//! `cmsgpack`: values into MessagePack and back.
//!
//! A table whose keys are 1 to n is an array, any other a map. What nests deeper than 16 is packed
//! as nil, as is what has no form of its own, such as a function.

use mlua::{Lua, LuaString, MultiValue, Result, Table, Value};

use super::{Arguments, DEPTH_MAX, array_shape};

/// How deep tables are packed.
const PACK_DEPTH: usize = 16;

/// The library.
pub fn table(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", lua.create_function(pack)?)?;
    let all = |lua: &Lua, values| {
        let args = Arguments::new(lua, "unpack", values);
        unpack(&args, 0, 0)
    };
    table.raw_set("unpack", lua.create_function(all)?)?;
    let one = |lua: &Lua, values| {
        let args = Arguments::new(lua, "unpack_one", values);
        let offset = args.int_or(2, 0)?;
        unpack(&args, 1, offset)
    };
    table.raw_set("unpack_one", lua.create_function(one)?)?;
    let limited = |lua: &Lua, values| {
        let args = Arguments::new(lua, "unpack_limit", values);
        let (limit, offset) = (args.number(2)? as i64, args.int_or(3, 0)?);
        unpack(&args, limit, offset)
    };
    table.raw_set("unpack_limit", lua.create_function(limited)?)?;
    table.raw_set("_NAME", "cmsgpack")?;
    table.raw_set("_VERSION", "lua-cmsgpack 0.4.0")?;
    Ok(table)
}

fn pack(lua: &Lua, values: MultiValue) -> Result<LuaString> {
    if values.is_empty() {
        return Err(super::bad_argument(lua, 0, "pack", "MessagePack pack needs input."));
    }
    let mut out = Vec::new();
    for value in &values {
        pack_value(value, 0, &mut out)?;
    }
    lua.create_string(&out)
}

fn pack_value(value: &Value, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    match value {
        Value::Boolean(value) => out.push(if *value { 0xc3 } else { 0xc2 }),
        Value::Integer(number) => pack_int(*number, out),
        Value::Number(number) => pack_number(*number, out),
        Value::String(text) => {
            let text = text.as_bytes();
            pack_length(text.len(), (0xa0, 32), [Some(0xd9), Some(0xda), Some(0xdb)], out);
            out.extend_from_slice(&text);
        }
        Value::Table(_) if depth == PACK_DEPTH => out.push(0xc0),
        Value::Table(table) => pack_table(table, depth, out)?,
        _ => out.push(0xc0),
    }
    Ok(())
}

fn pack_table(table: &Table, depth: usize, out: &mut Vec<u8>) -> Result<()> {
    if let Some((len, n)) = array_shape(table)?
        && len == n
    {
        pack_length(n, (0x90, 16), [None, Some(0xdc), Some(0xdd)], out);
        for at in 1..=n {
            pack_value(&table.raw_get(at)?, depth + 1, out)?;
        }
        return Ok(());
    }
    let n = table.pairs::<Value, Value>().count();
    pack_length(n, (0x80, 16), [None, Some(0xde), Some(0xdf)], out);
    for pair in table.pairs::<Value, Value>() {
        let (key, value) = pair?;
        pack_value(&key, depth + 1, out)?;
        pack_value(&value, depth + 1, out)?;
    }
    Ok(())
}

/// A length in the shortest form: within the type's byte, or behind one of up to three others.
fn pack_length(
    len: usize,
    (short, n_short): (u8, usize),
    marks: [Option<u8>; 3],
    out: &mut Vec<u8>,
) {
    match (len, marks) {
        (len, _) if len < n_short => out.push(short | len as u8),
        (len @ ..=0xff, [Some(mark), ..]) => out.extend_from_slice(&[mark, len as u8]),
        (len @ ..=0xffff, [_, Some(mark), _]) => {
            out.push(mark);
            out.extend_from_slice(&(len as u16).to_be_bytes());
        }
        (len, [.., mark]) => {
            out.extend(mark);
            out.extend_from_slice(&(len as u32).to_be_bytes());
        }
    }
}

fn pack_number(number: f64, out: &mut Vec<u8>) {
    if number.trunc() == number
        && (-9.223_372_036_854_775e18..9.223_372_036_854_775e18).contains(&number)
    {
        return pack_int(number as i64, out);
    }
    let short = number as f32;
    if f64::from(short) == number {
        out.push(0xca);
        out.extend_from_slice(&short.to_be_bytes());
    } else {
        out.push(0xcb);
        out.extend_from_slice(&number.to_be_bytes());
    }
}

fn pack_int(number: i64, out: &mut Vec<u8>) {
    let (mark, n_bytes) = match number {
        -32..=0x7f => return out.push(number as u8),
        0x80..=0xff => (0xcc, 1),
        0x100..=0xffff => (0xcd, 2),
        0x1_0000..=0xffff_ffff => (0xce, 4),
        0x1_0000_0000.. => (0xcf, 8),
        -0x80..-32 => (0xd0, 1),
        -0x8000..-0x80 => (0xd1, 2),
        -0x8000_0000..-0x8000 => (0xd2, 4),
        _ => (0xd3, 8),
    };
    out.push(mark);
    out.extend_from_slice(&number.to_be_bytes()[8 - n_bytes..]);
}

/// Why bytes cannot be unpacked.
enum Broken {
    Missing,
    Bad,
    Lua(mlua::Error),
}

impl From<mlua::Error> for Broken {
    fn from(error: mlua::Error) -> Broken {
        Broken::Lua(error)
    }
}

/// Unpacks `limit` values from `offset` on, behind the offset of the next; or all, without one.
fn unpack(args: &Arguments<'_>, limit: i64, offset: i64) -> Result<MultiValue> {
    let lua = args.lua;
    let data = args.text(1)?;
    let data = data.as_bytes();
    let len = data.len();
    if offset < 0 || limit < 0 {
        // The original, too, puts the length where the limit is announced.
        return Err(super::raise(
            lua,
            format!("Invalid request to unpack with offset of {offset} and limit of {len}."),
        ));
    }
    let Some(rest) = data.get(offset as usize..) else {
        return Err(super::raise(
            lua,
            format!("Start offset {offset} greater than input length {len}."),
        ));
    };
    let mut reader = Reader { lua, rest };
    let mut values: Vec<Value> = Vec::new();
    while !reader.rest.is_empty() && (limit == 0 || (values.len() as i64) < limit) {
        match reader.value(0) {
            Ok(value) => values.push(value),
            Err(Broken::Missing) => return Err(super::raise(lua, "Missing bytes in input.")),
            Err(Broken::Bad) => return Err(super::raise(lua, "Bad data format in input.")),
            Err(Broken::Lua(error)) => return Err(error),
        }
    }
    if limit > 0 {
        let next = match reader.rest.len() {
            0 => -1.0,
            left => (len - left) as f64,
        };
        values.insert(0, Value::Number(next));
    }
    Ok(MultiValue::from_iter(values))
}

struct Reader<'a> {
    lua: &'a Lua,
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    fn take(&mut self, len: usize) -> std::result::Result<&'a [u8], Broken> {
        let (taken, rest) = self.rest.split_at_checked(len).ok_or(Broken::Missing)?;
        self.rest = rest;
        Ok(taken)
    }

    fn unsigned(&mut self, n_bytes: usize) -> std::result::Result<u64, Broken> {
        let bytes = self.take(n_bytes)?;
        Ok(bytes
            .iter()
            .fold(0, |number, byte| number << 8 | u64::from(*byte)))
    }

    fn signed(&mut self, n_bytes: usize) -> std::result::Result<i64, Broken> {
        let unused = 64 - 8 * n_bytes as u32;
        Ok(((self.unsigned(n_bytes)? << unused) as i64) >> unused)
    }

    fn value(&mut self, depth: usize) -> std::result::Result<Value, Broken> {
        if depth > DEPTH_MAX {
            return Err(Broken::Bad);
        }
        let mark = self.take(1)?[0];
        Ok(match mark {
            0x00..=0x7f => Value::Number(mark.into()),
            0x80..=0x8f => self.map(usize::from(mark & 0xf), depth)?,
            0x90..=0x9f => self.array(usize::from(mark & 0xf), depth)?,
            0xa0..=0xbf => self.text(usize::from(mark & 0x1f))?,
            0xc0 => Value::Nil,
            0xc2 => Value::Boolean(false),
            0xc3 => Value::Boolean(true),
            0xca => Value::Number(f32::from_bits(self.unsigned(4)? as u32).into()),
            0xcb => Value::Number(f64::from_bits(self.unsigned(8)?)),
            0xcc..=0xcf => Value::Number(self.unsigned(1 << (mark - 0xcc))? as f64),
            0xd0..=0xd3 => Value::Number(self.signed(1 << (mark - 0xd0))? as f64),
            0xc4..=0xc6 | 0xd9..=0xdb => {
                let size = mark - if mark < 0xd0 { 0xc4 } else { 0xd9 };
                let len = self.unsigned(1 << size)? as usize;
                self.text(len)?
            }
            0xdc | 0xdd => {
                let n = self.unsigned(2 << (mark - 0xdc))? as usize;
                self.array(n, depth)?
            }
            0xde | 0xdf => {
                let n = self.unsigned(2 << (mark - 0xde))? as usize;
                self.map(n, depth)?
            }
            0xe0..=0xff => Value::Number((mark as i8).into()),
            _ => return Err(Broken::Bad),
        })
    }

    fn text(&mut self, len: usize) -> std::result::Result<Value, Broken> {
        Ok(Value::String(self.lua.create_string(self.take(len)?)?))
    }

    fn array(&mut self, n: usize, depth: usize) -> std::result::Result<Value, Broken> {
        let room = n.min(self.rest.len());
        let table = self.lua.create_table_with_capacity(room, 0)?;
        for at in 1..=n {
            let value = self.value(depth + 1)?;
            table.raw_set(at, value)?;
        }
        Ok(Value::Table(table))
    }

    fn map(&mut self, n: usize, depth: usize) -> std::result::Result<Value, Broken> {
        let room = n.min(self.rest.len() / 2);
        let table = self.lua.create_table_with_capacity(0, room)?;
        for _ in 0..n {
            let (key, value) = (self.value(depth + 1)?, self.value(depth + 1)?);
            table.raw_set(key, value)?; // a nil or NaN is no key, which Lua says itself
        }
        Ok(Value::Table(table))
    }
}
