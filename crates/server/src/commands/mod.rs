//! The command families. A new family is one line here.

pub mod config;
pub mod connection;
pub mod databases;
pub mod hash;
pub mod info;
pub mod keys;
pub mod list;
pub mod server;
pub mod set;
pub mod slowlog;
pub mod string;
pub mod zset;

use crate::command::Command;
use crate::command::table::Table;
use std::sync::LazyLock;

/// Every family's table.
pub const FAMILIES: &[&[Command]] = &[
    config::COMMANDS,
    connection::COMMANDS,
    databases::COMMANDS,
    info::COMMANDS,
    keys::COMMANDS,
    server::COMMANDS,
    slowlog::COMMANDS,
    string::COMMANDS,
    hash::COMMANDS,
    hash::deadlines::COMMANDS,
    list::COMMANDS,
    set::COMMANDS,
    set::algebra::COMMANDS,
    zset::COMMANDS,
    zset::algebra::COMMANDS,
    zset::range::COMMANDS,
];

/// All rows, numbered.
pub fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(FAMILIES));
    &TABLE
}
