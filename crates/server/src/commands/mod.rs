//! The command families. A new family is one line here.

pub mod connection;

use crate::command::Command;

/// Every family's table.
pub const FAMILIES: &[&[Command]] = &[connection::COMMANDS];
