//! The command families. A new family is one line here.

pub mod client;
pub mod command;
pub mod connection;
pub mod databases;
pub mod debug;
pub mod hash;
pub mod keys;
pub mod list;
pub mod pubsub;
pub mod scripting;
pub mod memory;
pub mod object;
pub mod server;
pub mod set;
pub mod string;
pub mod transaction;
pub mod zset;

use crate::command::Command;

/// Every family's table.
pub const FAMILIES: &[&[Command]] = &[
    command::COMMANDS,
    connection::COMMANDS,
    databases::COMMANDS,
    debug::COMMANDS,
    keys::COMMANDS,
    server::COMMANDS,
    transaction::COMMANDS,
    scripting::COMMANDS,
    pubsub::COMMANDS,
    string::COMMANDS,
    string::lcs::COMMANDS,
    hash::COMMANDS,
    hash::deadlines::COMMANDS,
    list::COMMANDS,
    list::blocking::COMMANDS,
    memory::COMMANDS,
    object::COMMANDS,
    set::COMMANDS,
    set::algebra::COMMANDS,
    zset::COMMANDS,
    zset::algebra::COMMANDS,
    zset::range::COMMANDS,
    zset::blocking::COMMANDS,
];

#[cfg(test)]
mod tests;
