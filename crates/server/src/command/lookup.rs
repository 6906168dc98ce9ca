//! From a request to its row: name, subcommand, number of arguments.

use crate::command::{Command, Commands, Flag, Kind};
use crate::error::Error;

/// A command that may run: its row, its full name, and how many arguments are names.
pub type Resolved = (&'static Command, &'static str, usize);

/// The longest command name looked up.
pub const NAME_BYTES_MAX: usize = 32;
/// Bytes of unknown arguments that an error repeats.
const ECHO_BYTES_MAX: usize = 128;

/// Finds the row of a request's command by its first word.
#[inline]
pub fn find(commands: &Commands, name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    commands.get(std::str::from_utf8(lower).ok()?).copied()
}

/// Rows that were found lately, by their names as clients spell them: clients use few commands, and
/// comparing two words is cheaper than folding case and hashing a text.
#[derive(Default)]
pub struct Recent {
    slots: [RecentSlot; RECENT],
}

/// Names remembered; a power of two.
const RECENT: usize = 32;

/// A name's first and last bytes and its length, which together are the whole of it.
type PackedName = (u64, u64, usize);

#[derive(Clone, Copy, Default)]
struct RecentSlot {
    name: PackedName,
    row: Option<&'static Command>,
}

/// Names of up to sixteen bytes fit in two words.
#[inline]
fn pack(name: &[u8]) -> Option<PackedName> {
    let len = name.len();
    if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        let words = (u64::from_le_bytes(*first), u64::from_le_bytes(*last));
        return (len <= 16).then_some((words.0, words.1, len));
    }
    if let (Some(first), Some(last)) = (name.first_chunk(), name.last_chunk()) {
        let words = (u32::from_le_bytes(*first), u32::from_le_bytes(*last));
        return Some((words.0.into(), words.1.into(), len));
    }
    let bytes = name.iter().rev();
    let word = bytes.fold(0, |word, byte| (word << 8) | u64::from(*byte));
    Some((word, 0, len))
}

impl Recent {
    /// [`find`], remembering.
    #[inline]
    pub fn find(&mut self, commands: &Commands, name: &[u8]) -> Option<&'static Command> {
        let Some(packed) = pack(name) else {
            return find(commands, name);
        };
        let mixed = (packed.0 ^ packed.1.rotate_left(29)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let slot = &mut self.slots[(mixed >> 59) as usize % RECENT];
        if slot.name == packed && slot.row.is_some() {
            return slot.row;
        }
        let row = find(commands, name)?;
        *slot = RecentSlot {
            name: packed,
            row: Some(row),
        };
        Some(row)
    }
}

/// Finds the row of a whole request and checks the number of its arguments.
#[inline]
pub fn resolve(commands: &Commands, request: &[&[u8]]) -> Result<Resolved, Error> {
    let command = find(commands, request[0]).ok_or_else(|| unknown(request))?;
    resolve_in(command, request)
}

/// The same for a request whose first row is known.
#[inline]
pub fn resolve_in(command: &'static Command, request: &[&[u8]]) -> Result<Resolved, Error> {
    let (command, name, skip) = match command.kind {
        Kind::Container(rows) => subcommand(command, rows, request)?,
        _ => (command, command.name, 1),
    };
    if !command.accepts(request.len()) {
        return Err(match command.has(Flag::System) {
            true => unknown_or_arity("DEBUG", request[1]),
            false => Error::Arity(name),
        });
    }
    Ok((command, name, skip))
}

fn subcommand(
    container: &'static Command,
    rows: &'static [Command],
    request: &[&[u8]],
) -> Result<Resolved, Error> {
    let Some(&name) = request.get(1) else {
        let alone = container.alone.map(|row| (row, row.name, 1));
        return alone.ok_or(Error::Arity(container.name));
    };
    let row = rows
        .iter()
        .find(|row| row.short_name().as_bytes().eq_ignore_ascii_case(name));
    match row {
        Some(row) => Ok((row, row.name, 2)),
        None => {
            let upper = container.name.to_ascii_uppercase();
            if container.has(Flag::System) {
                return Err(unknown_or_arity(&upper, name));
            }
            let name = shown(name);
            Err(Error::Owned(format!("ERR unknown subcommand '{name}'. Try {upper} HELP.")))
        }
    }
}

/// Some containers do not say which of the two it was.
fn unknown_or_arity(container: &str, name: &[u8]) -> Error {
    let name = shown(name);
    Error::Owned(format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try {container} HELP."
    ))
}

/// At most 128 bytes of an argument, fit for an error line.
fn shown(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(ECHO_BYTES_MAX)];
    String::from_utf8_lossy(bytes).replace(['\r', '\n'], " ")
}

/// The error for a request whose command nobody knows.
#[cold]
pub fn unknown(request: &[&[u8]]) -> Error {
    let mut echoed = String::new();
    for argument in &request[1..] {
        if echoed.len() >= ECHO_BYTES_MAX {
            break;
        }
        let room = ECHO_BYTES_MAX - echoed.len();
        let argument = &argument[..argument.len().min(room)];
        echoed.push_str(&format!("'{}' ", shown(argument)));
    }
    let name = shown(request[0]);
    Error::Owned(format!("ERR unknown command '{name}', with args beginning with: {echoed}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_found_lately_is_found_by_its_exact_name_only() {
        let commands = crate::dispatch::commands(&[]).expect("no renames");
        let mut recent = Recent::default();
        let names = [
            "get",
            "GET",
            "gEt",
            "gets",
            "ge",
            "",
            "set",
            "zrangebyscore",
            "zrevrangebyscore",
        ];
        let odd = [
            "lpushx",
            "lpush",
            "restore-asking",
            "\0get",
            "get\0",
            "client|list",
            "hincrbyfloat",
        ];
        for name in names.iter().chain(&odd).chain(&names).chain(&odd) {
            let (found, expected) =
                (recent.find(&commands, name.as_bytes()), find(&commands, name.as_bytes()));
            assert_eq!(found.map(|row| row.name), expected.map(|row| row.name), "{name:?}");
        }
        for name in commands.keys() {
            let found = recent.find(&commands, name.as_bytes());
            assert_eq!(found.map(|row| row.name), commands.get(&**name).map(|row| row.name));
        }
    }
}
