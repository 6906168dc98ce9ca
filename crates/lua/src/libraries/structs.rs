//! `struct`: values into bytes laid out as a format says, and back.
//!
//! ```text
//!  > < =   byte order      !n  alignment (8)       x  a byte of padding
//!  b B h H l L T  integers of 1, 2, 8 bytes; a capital has no sign      iN IN  of N bytes (4)
//!  f d     floats          s   text up to a zero   cN  N bytes; c0: as many as the number before
//! ```

use mlua::{Lua, MultiValue, Result, Table, Value};

use super::Arguments;

/// The largest `iN`.
const INT_BYTES_MAX: usize = 32;
/// What `!` alone aligns to.
const ALIGN_MAX: usize = 8;

/// The library.
pub fn table(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    table.raw_set("pack", lua.create_function(pack)?)?;
    table.raw_set("unpack", lua.create_function(unpack)?)?;
    table.raw_set("size", lua.create_function(size)?)?;
    Ok(table)
}

/// A walk through a format.
struct Format<'a> {
    args: &'a Arguments<'a>,
    rest: &'a [u8],
    is_big: bool,
    align: usize,
}

impl<'a> Format<'a> {
    fn new(args: &'a Arguments<'a>, format: &'a [u8]) -> Format<'a> {
        Format {
            args,
            rest: format,
            is_big: cfg!(target_endian = "big"),
            align: 1,
        }
    }

    fn error(&self, message: String) -> mlua::Error {
        super::raise(self.args.lua, message)
    }

    fn count(&mut self, default: usize) -> Result<usize> {
        let n_digits = self
            .rest
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count();
        let (digits, rest) = self.rest.split_at(n_digits);
        self.rest = rest;
        if digits.is_empty() {
            return Ok(default);
        }
        let count = digits
            .iter()
            .try_fold(0i32, |n, digit| n.checked_mul(10)?.checked_add(i32::from(digit - b'0')));
        let count = count.ok_or_else(|| self.error("integral size overflow".to_owned()))?;
        Ok(count as usize)
    }

    /// The next option that stands for something: its letter, its size, and the padding before it,
    /// which begins at `position`.
    fn next(&mut self, position: usize) -> Result<Option<(u8, usize, usize)>> {
        while let Some((&option, rest)) = self.rest.split_first() {
            self.rest = rest;
            let size = match option {
                b'b' | b'B' | b'x' => 1,
                b'h' | b'H' => 2,
                b'l' | b'L' | b'T' | b'd' => 8,
                b'f' => 4,
                b'c' => self.count(1)?,
                b's' => 0,
                b'i' | b'I' => match self.count(4)? {
                    size @ ..=INT_BYTES_MAX => size,
                    size => {
                        return Err(self.error(format!(
                            "integral size {size} is larger than limit of {INT_BYTES_MAX}"
                        )));
                    }
                },
                _ => {
                    self.control(option)?;
                    continue;
                }
            };
            let padding = match option {
                b'c' | b's' => 0,
                _ => {
                    let unit = size.min(self.align).max(1);
                    // As in the original, whose sizes need not be powers of two.
                    unit.wrapping_sub(position & (unit - 1)) & (unit - 1)
                }
            };
            return Ok(Some((option, size, padding)));
        }
        Ok(None)
    }

    fn control(&mut self, option: u8) -> Result<()> {
        match option {
            b' ' => {}
            b'>' => self.is_big = true,
            b'<' => self.is_big = false,
            b'=' => self.is_big = cfg!(target_endian = "big"),
            b'!' => {
                let align = self.count(ALIGN_MAX)?;
                if !align.is_power_of_two() {
                    return Err(self.error(format!("alignment {align} is not a power of 2")));
                }
                self.align = align;
            }
            _ => {
                let option = char::from(option);
                let reason = format!("invalid format option '{option}'");
                return Err(self.args.bad(1, &reason));
            }
        }
        Ok(())
    }

    fn put(&self, out: &mut Vec<u8>, mut little: Vec<u8>) {
        if self.is_big {
            little.reverse();
        }
        out.extend_from_slice(&little);
    }

    fn little(&self, bytes: &[u8]) -> Vec<u8> {
        let mut bytes = bytes.to_vec();
        if self.is_big {
            bytes.reverse();
        }
        bytes
    }
}

fn pack(lua: &Lua, values: MultiValue) -> Result<Value> {
    let args = Arguments::new(lua, "pack", values);
    let text = args.text(1)?;
    let text = text.as_bytes();
    let mut format = Format::new(&args, &text);
    let (mut out, mut at) = (Vec::new(), 1);
    while let Some((option, size, padding)) = format.next(out.len())? {
        out.resize(out.len() + padding, 0);
        if option == b'x' {
            out.push(0);
            continue;
        }
        at += 1;
        match option {
            b'f' => {
                let bytes = (args.number(at)? as f32).to_le_bytes();
                format.put(&mut out, bytes.to_vec());
            }
            b'd' => format.put(&mut out, args.number(at)?.to_le_bytes().to_vec()),
            b'c' | b's' => {
                let value = args.text(at)?;
                let value = value.as_bytes();
                let size = if size == 0 { value.len() } else { size };
                let taken = value.get(..size);
                out.extend_from_slice(taken.ok_or_else(|| args.bad(at + 1, "string too short"))?);
                if option == b's' {
                    out.push(0);
                }
            }
            _ => {
                let number = args.number(at)?;
                let bits = match number < 0.0 {
                    true => number as i64 as u64,
                    false => number as u64,
                };
                let mut bytes = bits.to_le_bytes().to_vec();
                bytes.resize(size, 0);
                format.put(&mut out, bytes);
            }
        }
    }
    Ok(Value::String(lua.create_string(&out)?))
}

fn unpack(lua: &Lua, values: MultiValue) -> Result<MultiValue> {
    let args = Arguments::new(lua, "unpack", values);
    let (text, data) = (args.text(1)?, args.text(2)?);
    let (text, data) = (text.as_bytes(), data.as_bytes());
    let start = args.int_or(3, 1)?;
    if start < 1 {
        return Err(args.bad(3, "offset must be 1 or greater"));
    }
    let mut position = start as usize - 1;
    let mut format = Format::new(&args, &text);
    let mut results: Vec<Value> = Vec::new();
    let too_short = || args.bad(2, "data string too short");
    while let Some((option, size, padding)) = format.next(position)? {
        position += padding;
        let rest = data.get(position..).ok_or_else(too_short)?;
        let bytes = rest.get(..size).ok_or_else(too_short)?;
        let mut n_taken = size;
        match option {
            b'x' => {}
            b'f' => {
                let bytes = format.little(bytes).try_into().unwrap_or_default();
                results.push(Value::Number(f32::from_le_bytes(bytes).into()));
            }
            b'd' => {
                let bytes = format.little(bytes).try_into().unwrap_or_default();
                results.push(Value::Number(f64::from_le_bytes(bytes)));
            }
            b'c' => {
                if size == 0 {
                    let before = results.pop().as_ref().and_then(super::as_number);
                    let missing = || format.error("format 'c0' needs a previous size".to_owned());
                    n_taken = before.ok_or_else(missing)? as usize;
                }
                let bytes = rest.get(..n_taken).ok_or_else(too_short)?;
                results.push(Value::String(lua.create_string(bytes)?));
            }
            b's' => {
                let end = rest.iter().position(|byte| *byte == 0);
                let unfinished = || format.error("unfinished string in data".to_owned());
                let end = end.ok_or_else(unfinished)?;
                n_taken = end + 1;
                results.push(Value::String(lua.create_string(&rest[..end])?));
            }
            _ => results.push(Value::Number(integer(&format.little(bytes), option))),
        }
        position += n_taken;
    }
    results.push(Value::Number((position + 1) as f64));
    Ok(MultiValue::from_iter(results))
}

/// An integer from its bytes, the lowest first; only 8 of them count.
fn integer(little: &[u8], option: u8) -> f64 {
    let bits = little
        .iter()
        .take(8)
        .rev()
        .fold(0, |bits, byte| bits << 8 | u64::from(*byte));
    if option.is_ascii_uppercase() {
        return bits as f64;
    }
    match little.len() {
        size @ 1..8 => {
            let unused = 64 - 8 * size as u32;
            (((bits << unused) as i64) >> unused) as f64
        }
        _ => bits as i64 as f64,
    }
}

fn size(lua: &Lua, values: MultiValue) -> Result<f64> {
    let args = Arguments::new(lua, "size", values);
    let text = args.text(1)?;
    let text = text.as_bytes();
    let mut format = Format::new(&args, &text);
    let mut total = 0;
    while let Some((option, size, padding)) = format.next(total)? {
        match (option, size) {
            (b's', _) => return Err(args.bad(1, "option 's' has no fixed size")),
            (b'c', 0) => return Err(args.bad(1, "option 'c0' has no fixed size")),
            _ => total += padding + size,
        }
    }
    Ok(total as f64)
}
