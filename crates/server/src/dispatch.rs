//! The gate: finds a request's command and checks, before any lock, whether it may run.

use crate::command::{Command, Commands, Kind};
use crate::commands;
use crate::config::file::{FatalConfig, Rename};
use crate::error::Error;
use crate::session::Session;

/// The longest command name looked up.
const NAME_BYTES_MAX: usize = 32;
/// Bytes of unknown arguments that an error repeats.
const ECHO_BYTES_MAX: usize = 128;

/// A command that may run: its row, its full name, and how many arguments are names.
pub type Admitted = (&'static Command, &'static str, usize);

/// Every command of every family, by the names that `renames` leave them.
pub fn commands(renames: &[Rename]) -> Result<Commands, FatalConfig> {
    let rows = commands::table().rows;
    let mut commands: Commands = rows.iter().map(|row| (row.name.into(), row)).collect();
    for Rename { from, to, place } in renames {
        let fatal = |reason: &str| FatalConfig::Line {
            place: place.clone(),
            reason: reason.to_owned(),
        };
        let from = String::from_utf8_lossy(from).to_ascii_lowercase();
        let row = commands
            .remove(&*from)
            .ok_or_else(|| fatal("No such command in rename-command"))?;
        let to = String::from_utf8_lossy(to).to_ascii_lowercase();
        if to.len() > NAME_BYTES_MAX {
            return Err(fatal("The new name of a command is too long"));
        }
        if !to.is_empty() && commands.insert(to.into(), row).is_some() {
            return Err(fatal("Target command name already exists"));
        }
    }
    Ok(commands)
}

/// Finds the row of a request's command.
#[inline]
pub fn find(commands: &Commands, name: &[u8]) -> Option<&'static Command> {
    let mut lower = [0; NAME_BYTES_MAX];
    let lower = lower.get_mut(..name.len())?;
    lower.copy_from_slice(name);
    lower.make_ascii_lowercase();
    commands.get(std::str::from_utf8(lower).ok()?).copied()
}

/// All checks, in the order in which the protocol reports them.
#[inline]
pub fn admit(commands: &Commands, session: &Session, request: &[&[u8]]) -> Result<Admitted, Error> {
    let command = find(commands, request[0]).ok_or_else(|| unknown(request))?;
    let (command, name, skip) = match command.kind {
        Kind::Container(rows) => subcommand(command, rows, request)?,
        _ => (command, command.name, 1),
    };
    if !command.accepts(request.len()) {
        return Err(arity(request, name, skip));
    }
    if !session.is_authenticated && !command.needs_no_auth {
        return Err(Error::Plain("NOAUTH Authentication required."));
    }
    Ok((command, name, skip))
}

fn subcommand(
    container: &'static Command,
    rows: &'static [Command],
    request: &[&[u8]],
) -> Result<Admitted, Error> {
    let Some(&name) = request.get(1) else {
        return Err(Error::Arity(container.name));
    };
    let row = rows
        .iter()
        .find(|row| row.name.as_bytes().eq_ignore_ascii_case(name));
    match row {
        Some(row) => Ok((row, row.name, 2)),
        None => {
            let upper = container.name.to_ascii_uppercase();
            let name = shown(name);
            Err(Error::Owned(format!("ERR unknown subcommand '{name}'. Try {upper} HELP.")))
        }
    }
}

fn arity(request: &[&[u8]], name: &'static str, skip: usize) -> Error {
    if skip == 1 {
        return Error::Arity(name);
    }
    let container = shown(request[0]).to_ascii_lowercase();
    Error::Owned(format!("ERR wrong number of arguments for '{container}|{name}' command"))
}

/// At most 128 bytes of an argument, fit for an error line.
fn shown(bytes: &[u8]) -> String {
    let bytes = &bytes[..bytes.len().min(ECHO_BYTES_MAX)];
    String::from_utf8_lossy(bytes).replace(['\r', '\n'], " ")
}

#[cold]
fn unknown(request: &[&[u8]]) -> Error {
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
