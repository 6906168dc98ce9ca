//! `bit`: operations on the lowest 32 bits of numbers.

use mlua::{Lua, MultiValue, Result, Table};

use super::Arguments;

/// Adding this moves a number's integer part into the lowest bits of its fraction.
const SHIFT_TO_FRACTION: f64 = 6_755_399_441_055_744.0;

fn bits(number: f64) -> i32 {
    (number + SHIFT_TO_FRACTION).to_bits() as i32
}

impl Arguments<'_> {
    fn bits(&self, at: usize) -> Result<i32> {
        self.number(at).map(bits)
    }
}

/// The library.
pub fn table(lua: &Lua) -> Result<Table> {
    let table = lua.create_table()?;
    let one = |name, work: fn(i32) -> i32| {
        let function = lua.create_function(move |lua, values: MultiValue| {
            Ok(f64::from(work(Arguments::new(lua, name, values).bits(1)?)))
        });
        table.raw_set(name, function?)
    };
    one("tobit", |bits| bits)?;
    one("bnot", |bits| !bits)?;
    one("bswap", i32::swap_bytes)?;
    let many = |name, work: fn(i32, i32) -> i32| {
        let function = lua.create_function(move |lua, values: MultiValue| {
            let args = Arguments::new(lua, name, values);
            let mut result = args.bits(1)?;
            for at in 2..=args.len() {
                result = work(result, args.bits(at)?);
            }
            Ok(f64::from(result))
        });
        table.raw_set(name, function?)
    };
    many("band", |a, b| a & b)?;
    many("bor", |a, b| a | b)?;
    many("bxor", |a, b| a ^ b)?;
    let shift = |name, work: fn(i32, u32) -> i32| {
        let function = lua.create_function(move |lua, values: MultiValue| {
            let args = Arguments::new(lua, name, values);
            let (bits, by) = (args.bits(1)?, args.bits(2)? as u32 & 31);
            Ok(f64::from(work(bits, by)))
        });
        table.raw_set(name, function?)
    };
    shift("lshift", |bits, by| bits << by)?;
    shift("rshift", |bits, by| (bits as u32 >> by) as i32)?;
    shift("arshift", |bits, by| bits >> by)?;
    shift("rol", i32::rotate_left)?;
    shift("ror", i32::rotate_right)?;
    table.raw_set("tohex", lua.create_function(tohex)?)?;
    Ok(table)
}

/// The digits of a number, so many of them; upper case if that is negative.
fn tohex(lua: &Lua, values: MultiValue) -> Result<String> {
    let args = Arguments::new(lua, "tohex", values);
    let bits = args.bits(1)? as u32;
    let n = if args.len() < 2 { 8 } else { args.bits(2)? };
    let digits = match n < 0 {
        true => format!("{bits:08X}"),
        false => format!("{bits:08x}"),
    };
    let n_digits = n.unsigned_abs().min(8) as usize;
    Ok(digits[8 - n_digits..].to_owned())
}
