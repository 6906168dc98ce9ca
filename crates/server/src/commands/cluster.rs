//! CLUSTER and its kin. There is no cluster mode: all of them say so, as Redis does without
//! `cluster-enabled`, so that a client that asks finds a single node and goes on.

use std::sync::atomic::Ordering::Relaxed;

use resp::reply::Reply;

use crate::command::traits::META;
use crate::command::{AdminCtx, Args, Category, Command, Flag};
use crate::error::{Error, Result};

/// The family's table.
pub const COMMANDS: &[Command] = &[
    Command::admin("asking", 1, disabled)
        .fast()
        .categories(&[Category::Connection])
        .group("cluster")
        .about("3.0.0", "O(1)", "Lets the next command follow a slot that moves."),
    Command::admin("readonly", 1, readonly)
        .fast()
        .flags(META)
        .categories(&[Category::Connection])
        .group("cluster")
        .about("3.0.0", "O(1)", "Lets this connection read from a replica."),
    Command::admin("readwrite", 1, readwrite)
        .fast()
        .flags(META)
        .categories(&[Category::Connection])
        .group("cluster")
        .about("3.0.0", "O(1)", "Ends READONLY."),
    Command::container("cluster", CLUSTER)
        .group("cluster")
        .about("3.0.0", "Depends on the subcommand", "Looks after the cluster."),
];

const ASKS: &[Flag] = &[Flag::Stale];
const ASKS_ADMIN: &[Flag] = &[Flag::Admin, Flag::Stale];
const CHANGES: &[Flag] = &[Flag::Admin, Flag::NoAsyncLoading, Flag::Stale];
const RESETS: &[Flag] = &[Flag::Admin, Flag::NoScript, Flag::Stale];

const CLUSTER: &[Command] = &[
    Command::admin("cluster|addslots", -3, disabled)
        .syntax("slot=integer ...")
        .flags(CHANGES)
        .about("3.0.0", "O(N)", "Gives slots to this node."),
    Command::admin("cluster|addslotsrange", -4, disabled)
        .syntax("range(start-slot=integer end-slot=integer) ...")
        .flags(CHANGES)
        .about("7.0.0", "O(N)", "Gives ranges of slots to this node."),
    Command::admin("cluster|bumpepoch", 2, disabled)
        .flags(CHANGES)
        .tips(&["nondeterministic_output"])
        .about("3.0.0", "O(1)", "Raises the cluster's epoch."),
    Command::admin("cluster|count-failure-reports", 3, disabled)
        .syntax("node-id")
        .flags(ASKS_ADMIN)
        .tips(&["nondeterministic_output"])
        .about("3.0.0", "O(N)", "Counts who reports a node as failing."),
    Command::admin("cluster|countkeysinslot", 3, disabled)
        .syntax("slot=integer")
        .flags(ASKS)
        .about("3.0.0", "O(1)", "Counts the keys of a slot."),
    Command::admin("cluster|delslots", -3, disabled)
        .syntax("slot=integer ...")
        .flags(CHANGES)
        .about("3.0.0", "O(N)", "Takes slots from this node."),
    Command::admin("cluster|delslotsrange", -4, disabled)
        .syntax("range(start-slot=integer end-slot=integer) ...")
        .flags(CHANGES)
        .about("7.0.0", "O(N)", "Takes ranges of slots from this node."),
    Command::admin("cluster|failover", -2, disabled)
        .syntax("[options(FORCE|TAKEOVER)]")
        .flags(CHANGES)
        .about("3.0.0", "O(1)", "Makes a replica the primary."),
    Command::admin("cluster|flushslots", 2, disabled)
        .flags(CHANGES)
        .about("3.0.0", "O(1)", "Takes all slots from this node."),
    Command::admin("cluster|forget", 3, disabled)
        .syntax("node-id")
        .flags(CHANGES)
        .about("3.0.0", "O(1)", "Forgets a node."),
    Command::admin("cluster|getkeysinslot", 4, disabled)
        .syntax("slot=integer count=integer")
        .flags(ASKS)
        .tips(&["nondeterministic_output"])
        .about("3.0.0", "O(N)", "Lists keys of a slot."),
    Command::admin("cluster|help", 2, disabled)
        .flags(META)
        .about("5.0.0", "O(1)", "Prints this help."),
    Command::admin("cluster|info", 2, disabled)
        .flags(ASKS)
        .tips(&["nondeterministic_output"])
        .about("3.0.0", "O(1)", "Tells the cluster's state."),
    Command::admin("cluster|keyslot", 3, disabled)
        .syntax("key")
        .flags(ASKS)
        .about("3.0.0", "O(N)", "Tells the slot of a key."),
    Command::admin("cluster|links", 2, disabled)
        .flags(ASKS)
        .tips(&["nondeterministic_output"])
        .about("7.0.0", "O(N)", "Lists the links between nodes."),
    Command::admin("cluster|meet", -4, disabled)
        .syntax("ip port=integer [cluster-bus-port=integer]")
        .flags(CHANGES)
        .about("3.0.0", "O(1)", "Makes another node known."),
    Command::admin("cluster|myid", 2, disabled)
        .flags(ASKS)
        .about("3.0.0", "O(1)", "Tells this node's id."),
    Command::admin("cluster|myshardid", 2, disabled)
        .flags(ASKS)
        .tips(&["nondeterministic_output"])
        .about("7.2.0", "O(1)", "Tells this shard's id."),
    Command::admin("cluster|nodes", 2, disabled)
        .flags(ASKS)
        .tips(&["nondeterministic_output"])
        .about("3.0.0", "O(N)", "Lists the nodes."),
    Command::admin("cluster|replicas", 3, disabled)
        .syntax("node-id")
        .flags(ASKS_ADMIN)
        .tips(&["nondeterministic_output"])
        .about("5.0.0", "O(N)", "Lists the replicas of a node."),
    Command::admin("cluster|replicate", 3, disabled)
        .syntax("node-id")
        .flags(CHANGES)
        .about("3.0.0", "O(1)", "Makes this node a replica."),
    Command::admin("cluster|reset", -2, disabled)
        .syntax("[reset-type(HARD|SOFT)]")
        .flags(RESETS)
        .about("3.0.0", "O(N)", "Forgets the cluster."),
    Command::admin("cluster|saveconfig", 2, disabled)
        .flags(CHANGES)
        .about("3.0.0", "O(1)", "Writes the cluster's file."),
    Command::admin("cluster|set-config-epoch", 3, disabled)
        .syntax("config-epoch=integer")
        .flags(CHANGES)
        .about("3.0.0", "O(1)", "Sets a new node's epoch."),
    Command::admin("cluster|setslot", -4, disabled)
        .syntax("slot=integer subcommand(IMPORTING importing|MIGRATING migrating|NODE node|STABLE)")
        .flags(CHANGES)
        .about("3.0.0", "O(1)", "Says where a slot is, or goes."),
    Command::admin("cluster|shards", 2, disabled)
        .flags(META)
        .tips(&["nondeterministic_output"])
        .about("7.0.0", "O(N)", "Lists the shards."),
    Command::admin("cluster|slaves", 3, disabled)
        .syntax("node-id")
        .flags(ASKS_ADMIN)
        .tips(&["nondeterministic_output"])
        .about("3.0.0", "O(N)", "Lists the replicas of a node."),
    Command::admin("cluster|slot-stats", -4, disabled)
        .syntax(
            "filter(SLOTSRANGE slotsrange(start-slot=integer end-slot=integer)|\
             ORDERBY orderby(metric [LIMIT limit=integer] [order(ASC|DESC)]))",
        )
        .flags(META)
        .tips(&["nondeterministic_output", "request_policy:all_shards"])
        .about("8.2.0", "O(N), with ORDERBY O(N*log(N))", "Tells the use of slots."),
    Command::admin("cluster|slots", 2, disabled)
        .flags(META)
        .tips(&["nondeterministic_output"])
        .about("3.0.0", "O(N)", "Lists which node has which slots."),
];

/// Without a cluster it is for clients that follow redirects, as in Valkey.
fn readonly(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    read_here(ctx, args, reply, true)
}

fn readwrite(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    read_here(ctx, args, reply, false)
}

fn read_here(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    is_wanted: bool,
) -> Result<()> {
    let client = &ctx.session.client;
    if !client.follows_redirects.load(Relaxed) {
        return disabled(ctx, args, reply);
    }
    client.reads_here.store(is_wanted, Relaxed);
    reply.ok();
    Ok(())
}

fn disabled(_: &mut AdminCtx<'_>, _: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    Err(Error::Plain("ERR This instance has cluster support disabled"))
}
