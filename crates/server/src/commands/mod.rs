//! The command families. A new family is one line here.

pub mod acl;
pub mod bitmap;
pub mod client;
pub mod cluster;
pub mod command;
pub mod commandlog;
pub mod config;
pub mod connection;
pub mod databases;
pub mod debug;
pub mod dump;
pub mod geo;
pub mod hash;
pub mod hotkeys;
pub mod hyperloglog;
pub mod info;
pub mod keys;
pub mod latency;
pub mod list;
pub mod pubsub;
pub mod replication;
pub mod saving;
pub mod scripting;
pub mod functions;
pub mod lolwut;
pub mod memory;
pub mod migrate;
pub mod module;
pub mod monitor;
pub mod object;
pub mod server;
pub mod set;
pub mod slowlog;
pub mod sort;
pub mod stream;
pub mod string;
pub mod transaction;
pub mod wait;
pub mod zset;

use crate::command::Command;
use crate::command::table::{self, Table};
use std::sync::LazyLock;

/// Every family's table.
const FAMILIES: &[&[Command]] = &[
    acl::COMMANDS,
    cluster::COMMANDS,
    command::COMMANDS,
    connection::COMMANDS,
    databases::COMMANDS,
    debug::COMMANDS,
    dump::COMMANDS,
    keys::COMMANDS,
    server::COMMANDS,
    transaction::COMMANDS,
    wait::COMMANDS,
    scripting::COMMANDS,
    functions::COMMANDS,
    pubsub::COMMANDS,
    config::COMMANDS,
    info::COMMANDS,
    replication::COMMANDS,
    saving::COMMANDS,
    slowlog::COMMANDS,
    commandlog::COMMANDS,
    latency::COMMANDS,
    sort::COMMANDS,
    string::COMMANDS,
    bitmap::COMMANDS,
    string::conditional::COMMANDS,
    string::increx::COMMANDS,
    string::lcs::COMMANDS,
    hotkeys::COMMANDS,
    hyperloglog::COMMANDS,
    geo::COMMANDS,
    hash::COMMANDS,
    hash::deadlines::COMMANDS,
    list::COMMANDS,
    list::blocking::COMMANDS,
    list::several::COMMANDS,
    lolwut::COMMANDS,
    memory::COMMANDS,
    migrate::COMMANDS,
    module::COMMANDS,
    monitor::COMMANDS,
    object::COMMANDS,
    set::COMMANDS,
    set::algebra::COMMANDS,
    stream::COMMANDS,
    stream::groups::COMMANDS,
    stream::info::COMMANDS,
    stream::nack::COMMANDS,
    stream::pending::COMMANDS,
    stream::producers::COMMANDS,
    stream::read::COMMANDS,
    stream::trim::COMMANDS,
    zset::COMMANDS,
    zset::algebra::COMMANDS,
    zset::range::COMMANDS,
    zset::blocking::COMMANDS,
];

static BELOW: [Command; table::n_below(FAMILIES)] = table::numbered_below(FAMILIES);
static ROWS: [Command; table::n_rows(FAMILIES)] = table::numbered(FAMILIES, &BELOW);

/// All rows, numbered.
pub fn table() -> &'static Table {
    static TABLE: LazyLock<Table> = LazyLock::new(|| Table::new(&ROWS));
    &TABLE
}

#[cfg(test)]
mod tests;
