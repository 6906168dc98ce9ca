//! Primaries and replicas for tests: started, linked, filled and compared.

use crate::{Server, text, wait_for};
use client::connection::Connection;

/// What every server of these tests is started with.
pub const FLAGS: [&str; 4] = [
    "--enable-debug-command",
    "yes",
    "--repl-diskless-sync-delay",
    "0",
];

pub fn start(more: &[&str]) -> Server {
    Server::start(&[&FLAGS, more].concat())
}

pub fn follow(replica: &Server, primary: &Server) {
    let mut client = replica.client();
    assert_eq!(text(&format!("REPLICAOF 127.0.0.1 {}", primary.port), &mut client), "+OK");
    wait_for_link(replica);
}

pub fn wait_for_link(replica: &Server) {
    let mut client = replica.client();
    wait_for("the link is up", || {
        (text("INFO replication", &mut client).contains("master_link_status:up")).then_some(())
    });
}

pub fn field(name: &str, client: &mut Connection) -> String {
    let info = text("INFO", client);
    let value = info.split(&format!("{name}:")).nth(1).unwrap_or_default();
    value
        .split(['\r', '\n', '\\'])
        .next()
        .unwrap_or_default()
        .to_owned()
}

/// Both have the same data, once the replica has caught up.
pub fn wait_for_same(primary: &Server, replica: &Server) {
    let (mut one, mut other) = (primary.client(), replica.client());
    wait_for("the replica has the primary's data", || {
        let digests = (text("DEBUG DIGEST", &mut one), text("DEBUG DIGEST", &mut other));
        (digests.0 == digests.1 && digests.0.len() > 30).then_some(())
    });
}

pub fn fill(server: &Server, round: usize) {
    let mut client = server.client();
    for i in 0..300 {
        text(&format!("SET key:{i} {round}"), &mut client);
        text(&format!("RPUSH list {i}"), &mut client);
        text(&format!("ZADD zset {i} member:{i}"), &mut client);
    }
    for line in [
        "SADD set a b c d e f",
        "SPOP set 2",
        "HSET hash f v g w",
        "HPEXPIRE hash 100000 FIELDS 1 f",
        "XADD stream * f v",
        "EVAL redis.call('incr','n');redis.call('lpop','list') 0",
        "SELECT 3",
        "SET other database",
        "MULTI",
        "INCR inside",
        "SELECT 5",
        "INCR inside",
        "EXEC",
        "SET late value PX 100000",
        "SET gone value PX 1",
    ] {
        text(line, &mut client);
    }
}
