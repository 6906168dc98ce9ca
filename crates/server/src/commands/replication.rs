//! Replication: REPLICAOF, ROLE, and what replicas say to their primary.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use resp::reply::Reply;
use stdx::number::parse_i64;

use crate::command::context::Order;
use crate::command::{AdminCtx, Args, Category, Command, Flag};
use crate::error::{Error, Result};
use crate::pause::{Cause, Paused};
use crate::persistence::append;
use crate::role::failover::Plan;
use crate::role::replica::Replica;
use crate::role::{LinkState, Role};
use crate::session::Replies;

const NEITHER_0_NOR_1: Error =
    Error::Plain("ERR value is out of range, value must between 0 and 1");

const FOLLOWING: &[Flag] = &[
    Flag::Admin,
    Flag::NoAsyncLoading,
    Flag::NoScript,
    Flag::Stale,
];
const HANDING_OVER: &[Flag] = &[Flag::Admin, Flag::NoScript, Flag::Stale];
const SYNCING: &[Flag] = &[
    Flag::Admin,
    Flag::NoAsyncLoading,
    Flag::NoMulti,
    Flag::NoScript,
];
const REPORTING: &[Flag] = &[
    Flag::Admin,
    Flag::AllowBusy,
    Flag::Loading,
    Flag::NoScript,
    Flag::Stale,
];
const TELLING: &[Flag] = &[Flag::Loading, Flag::NoScript, Flag::Stale];

/// The family's table.
pub const COMMANDS: &[Command] = &[
    Command::admin("replicaof", 3, replicaof)
        .syntax("args(host-port(host port:integer)|no-one(NO ONE))")
        .flags(FOLLOWING)
        .group("server")
        .about("5.0.0", "O(1)", "Makes the server a replica of another, or a primary."),
    Command::admin("slaveof", 3, replicaof)
        .syntax("args(host-port(host port:integer)|no-one(NO ONE))")
        .flags(FOLLOWING)
        .group("server")
        .about("1.0.0", "O(1)", "Makes the server a replica of another, or a primary."),
    Command::admin("failover", -1, failover)
        .syntax(
            "[TO target(host=string port=integer [FORCE])] [ABORT] [TIMEOUT milliseconds=integer]",
        )
        .flags(HANDING_OVER)
        .group("server")
        .about("6.2.0", "O(1)", "Hands over to a replica."),
    Command::admin("role", 1, role)
        .fast()
        .flags(TELLING)
        .categories(&[Category::Admin, Category::Dangerous])
        .group("server")
        .about("2.8.12", "O(1)", "Answers the place in replication."),
    Command::admin("replconf", -1, replconf)
        .flags(REPORTING)
        .group("server")
        .about("3.0.0", "O(1)", "Tells a primary about its replica."),
    Command::admin("psync", -3, psync)
        .syntax("replicationid offset:integer")
        .flags(SYNCING)
        .group("server")
        .about("2.8.0", "O(N) in the keys", "Begins or resumes following this server."),
    Command::admin("sync", 1, sync)
        .flags(SYNCING)
        .group("server")
        .about("1.0.0", "O(N) in the keys", "Begins following this server."),
];

fn replicaof(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let role = &ctx.state.role;
    let (host, port) = (args.take()?, args.take()?);
    if host.eq_ignore_ascii_case(b"no") && port.eq_ignore_ascii_case(b"one") {
        if lead(ctx)? {
            log::info!("MASTER MODE enabled (user request from '{}')", ctx.session.client.peer);
        }
        reply.ok();
        return Ok(());
    }
    if ctx.session.replica.is_some() {
        return Err(Error::Plain("ERR Command is not valid when client is a replica."));
    }
    if role.failover.is_on() {
        return Err(Error::Plain("ERR REPLICAOF not allowed while failing over."));
    }
    let port = parse_i64(port)
        .and_then(|port| u16::try_from(port).ok())
        .ok_or(Error::Plain("ERR Invalid master port"))?;
    let host = String::from_utf8_lossy(host);
    if role
        .primary()
        .is_some_and(|primary| primary.port == port && primary.host.eq_ignore_ascii_case(&host))
    {
        log::info!("REPLICAOF names the primary that is followed already: nothing is done");
        reply.simple("OK Already connected to specified master");
        return Ok(());
    }
    ctx.order = Some(Order::Follow);
    reply.ok();
    Ok(())
}

/// Follows nobody from now on; false if that is so already. An append-only file that a copy in vain has left
/// off goes on.
fn lead(ctx: &AdminCtx<'_>) -> Result<bool> {
    let has_turned = ctx.state.lead().map_err(Error::Owned)?;
    if has_turned && ctx.state.config.appends() {
        append::switch_on(ctx.state).map_err(|reason| Error::Owned(format!("ERR {reason}")))?;
    }
    Ok(has_turned)
}

fn failover(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (state, role) = (ctx.state, &ctx.state.role);
    if args.len() == 1 && args.eat(b"abort") {
        if !state.abort_failover("Failover manually aborted") {
            return Err(Error::Plain("ERR No failover in progress."));
        }
        reply.ok();
        return Ok(());
    }
    let plan = plan(args)?;
    if role.failover.is_on() {
        return Err(Error::Plain("ERR FAILOVER already in progress."));
    }
    if role.is_replica() {
        return Err(Error::Plain("ERR FAILOVER is not valid when server is a replica."));
    }
    let replicas = role.followers();
    if replicas.is_empty() {
        return Err(Error::Plain("ERR FAILOVER requires connected replicas."));
    }
    if plan.is_forced && (plan.until.is_none() || plan.target.is_none()) {
        return Err(Error::Plain(
            "ERR FAILOVER with force option requires both a timeout and target HOST and IP.",
        ));
    }
    if let Some((host, port)) = &plan.target {
        let is_target = |replica: &&Arc<Replica>| {
            let (its_host, its_port, _) = replica.place_and_offset();
            its_port == *port && its_host.eq_ignore_ascii_case(host)
        };
        match replicas.iter().find(is_target) {
            None => {
                let text = "ERR FAILOVER target HOST and PORT is not a replica.";
                return Err(Error::Plain(text));
            }
            Some(replica) if !replica.is_online() => {
                return Err(Error::Plain("ERR FAILOVER target replica is not online."));
            }
            Some(_) => {}
        }
    }
    log::info!("FAILOVER requested to {}.", plan.whom());
    state
        .pause
        .begin(Cause::Failover, Paused::Writes, i64::MAX as u64, ctx.now_ms);
    role.failover.begin(plan);
    role.nudge();
    reply.ok();
    Ok(())
}

/// TO host port, FORCE and TIMEOUT, each at most once.
fn plan(args: &mut Args<'_>) -> Result<Plan> {
    let mut plan = Plan {
        target: None,
        is_forced: false,
        until: None,
        stream_end: None,
    };
    while let Some(word) = args.word() {
        match &*word {
            b"TIMEOUT" if plan.until.is_none() && !args.is_empty() => {
                let text = "ERR FAILOVER timeout must be greater than 0";
                let timeout = u64::try_from(args.int()?).ok().filter(|ms| *ms > 0);
                let timeout = Duration::from_millis(timeout.ok_or(Error::Plain(text))?);
                // One that ends after the end of time has no end.
                plan.until = Instant::now().checked_add(timeout);
            }
            b"TO" if plan.target.is_none() && args.len() >= 2 => {
                let host = String::from_utf8_lossy(args.take()?).into_owned();
                plan.target = Some((host, u16::try_from(args.int()?).unwrap_or(0)));
            }
            b"FORCE" if !plan.is_forced => plan.is_forced = true,
            _ => return Err(Error::Syntax),
        }
    }
    Ok(plan)
}

fn role(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (role, backlog) = (&ctx.state.role, &ctx.state.journal.backlog);
    if let Some(primary) = role.primary() {
        reply.array(5);
        reply.bulk(b"slave");
        reply.bulk(primary.host.as_bytes());
        reply.int(primary.port.into());
        reply.bulk(match primary.link {
            LinkState::Connect => b"connect",
            LinkState::Connecting => b"connecting",
            LinkState::Handshake => b"handshake",
            LinkState::Sync => b"sync",
            LinkState::Connected => b"connected",
        });
        reply.int(match primary.link {
            LinkState::Connected => backlog.end() as i64,
            _ => -1,
        });
        return Ok(());
    }
    reply.array(3);
    reply.bulk(b"master");
    reply.int(backlog.end() as i64);
    let mut replicas = role.followers();
    replicas.retain(|replica| replica.is_online());
    reply.array(replicas.len());
    for replica in replicas {
        let facts = replica.facts.lock();
        reply.array(3);
        reply.bulk(facts.ip.as_ref().unwrap_or(&replica.peer).as_bytes());
        reply.bulk_int(facts.port.into());
        reply.bulk_int(facts.acked as i64);
    }
    Ok(())
}

/// The place where what a session says of itself as a replica is kept.
fn replica(ctx: &mut AdminCtx<'_>) -> Arc<Replica> {
    let client = ctx.session.client.clone();
    let make = || {
        let host = client
            .peer
            .rsplit_once(':')
            .map_or(&*client.peer, |(host, _)| host);
        let host = host.trim_matches(['[', ']']).to_owned();
        Arc::new(Replica::new(client.address, host))
    };
    ctx.session.replica.get_or_insert_with(make).clone()
}

fn replconf(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if !args.len().is_multiple_of(2) {
        return Err(Error::Syntax);
    }
    if args
        .peek()
        .is_some_and(|word| word.eq_ignore_ascii_case(b"ack"))
    {
        return acknowledge(ctx, args);
    }
    if args.eat(b"getack") {
        return Ok(()); // the link answers its primary; nobody else is told
    }
    let (replica, role) = (replica(ctx), &ctx.state.role);
    while !args.is_empty() {
        let name = args.take()?.to_ascii_lowercase();
        let value = args.take()?;
        let number = || parse_i64(value).ok_or(Error::NotAnInteger);
        // Under no facts: who counts replicas asks for those of each under the lock of all of them.
        let main = match &name[..] {
            b"main-ch-client-id" => main_of(&replica, role, number()?)?,
            b"set-rdb-client-id" => dual_of(&replica, role, number()?)?,
            _ => 0,
        };
        let mut facts = replica.facts.lock();
        match &name[..] {
            b"listening-port" => {
                let port = u16::try_from(number()?);
                facts.port = port.map_err(|_| Error::NotAnInteger)?;
            }
            b"ip-address" => {
                if value.len() > 255 {
                    let text = "ERR REPLCONF ip-address provided by replica instance is too long";
                    return Err(Error::Owned(format!("{text}: {} bytes", value.len())));
                }
                let ip = String::from_utf8_lossy(value).into_owned();
                facts.ip = (!ip.is_empty()).then_some(ip);
            }
            b"capa" => {
                facts.takes_eof |= value.eq_ignore_ascii_case(b"eof");
                facts.takes_psync |= value.eq_ignore_ascii_case(b"psync2");
                facts.takes_channel |= value.eq_ignore_ascii_case(b"rdb-channel-repl");
                facts.takes_dual |= value.eq_ignore_ascii_case(b"dual-channel");
                facts.reads_redis |= value.eq_ignore_ascii_case(b"rdb-redis");
            }
            b"rdb-only" => match number()? {
                n @ (0 | 1) => facts.is_snapshot_only = n == 1,
                _ => return Err(NEITHER_0_NOR_1),
            },
            b"rdb-channel" => match number()? {
                1 => _ = facts.channel_of.get_or_insert_default(),
                0 => facts.channel_of = None,
                _ => return Err(NEITHER_0_NOR_1),
            },
            b"main-ch-client-id" => facts.channel_of = Some(main),
            b"set-rdb-client-id" => facts.dual_channel = Some(main),
            b"rdb-filter-only" => {
                let mut parts = value
                    .split(|byte| *byte == b' ')
                    .filter(|part| !part.is_empty());
                facts.wants_functions_only = parts.clone().count() > 0;
                if !parts.all(|part| part.eq_ignore_ascii_case(b"functions")) {
                    let text = String::from_utf8_lossy(value);
                    let line = format!("ERR Unsupported rdb-filter-only option: {text}");
                    return Err(Error::Owned(line));
                }
            }
            b"version" => {
                let text = String::from_utf8_lossy(value);
                let first = text.split('.').next().and_then(|first| first.parse().ok());
                let unknown = Error::Plain("ERR Unrecognized version format");
                facts.version = first.ok_or(unknown)?;
            }
            other => {
                let text = String::from_utf8_lossy(other);
                return Err(Error::Owned(format!("ERR Unrecognized REPLCONF option: {text}")));
            }
        }
    }
    reply.ok();
    Ok(())
}

/// The session of this number, if it waits for the connection of its snapshot.
fn main_of(replica: &Replica, role: &Role, id: i64) -> Result<u64> {
    let own = replica.address.session;
    let session = u64::try_from(id).ok().filter(|session| *session != own);
    session
        .filter(|session| role.apart(*session).is_some())
        .ok_or_else(|| Error::Owned(format!("ERR Unrecognized RDB client id: {id}")))
}

/// The session of this number, if it is a connection for a snapshot in Valkey's way.
fn dual_of(replica: &Replica, role: &Role, id: i64) -> Result<u64> {
    let own = replica.address.session;
    let session = u64::try_from(id).ok().filter(|session| *session != own);
    session
        .filter(|session| role.dual(*session).is_some())
        .ok_or_else(|| Error::Owned(format!("ERR Unrecognized RDB client id {id}")))
}

/// REPLCONF ACK: says nothing back.
fn acknowledge(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>) -> Result<()> {
    let Some(replica) = &ctx.session.replica else {
        return Ok(());
    };
    let mut facts = replica.facts.lock();
    while !args.is_empty() {
        let name = args.take()?;
        let offset = args.int().unwrap_or(0).max(0) as u64;
        if name.eq_ignore_ascii_case(b"ack") {
            facts.acked = facts.acked.max(offset);
        } else if name.eq_ignore_ascii_case(b"fack") {
            facts.acked_on_disk = facts.acked_on_disk.max(offset);
        }
    }
    facts.acked_at = Some(Instant::now());
    facts.is_online = true;
    drop(facts);
    replica.has_loaded();
    ctx.state.serve_waits(); // the loop wakes who was served at the end of its turn
    Ok(())
}

fn sync(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    if ctx.session.is_replica() {
        return Ok(()); // it has begun
    }
    let (replica, config) = (replica(ctx), &ctx.state.config);
    let facts = replica.facts.lock().clone();
    if facts.channel_of == Some(0) {
        let is_ready = facts.is_snapshot_only && facts.takes_eof && !facts.wants_functions_only;
        if !is_ready || !config.uses_dual_channel() || !config.syncs_without_disk() {
            return Err(Error::Plain("ERR No replica waits for this snapshot"));
        }
        replica.become_dual();
    }
    begin(ctx, false)
}

fn psync(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if ctx.session.is_replica() {
        return Ok(()); // it has begun
    }
    let replid = String::from_utf8_lossy(args.take()?).into_owned();
    let wanted = args.int()?;
    let (state, role) = (ctx.state, &ctx.state.role);
    if args.eat(b"failover") {
        take_over(ctx, &replid)?;
    }
    may_begin(ctx)?;
    let replica = replica(ctx);
    replica.facts.lock().takes_psync = true;
    if replid != "?" {
        if let Some(offset) = role.resume_at(&state.journal.backlog, &replid, wanted) {
            let dual_channel = replica.facts.lock().dual_channel;
            if let Some(session) = dual_channel
                && !role.dual(session).is_some_and(|dual| dual.join(&replica))
            {
                return Err(Error::Owned(format!("ERR Unrecognized RDB client id {session}")));
            }
            log::info!(
                "Partial resynchronization request from {} accepted. Sending {} bytes of backlog \
                 starting from offset {wanted}.",
                ctx.session.client.peer,
                state.journal.backlog.end() - offset
            );
            role.n_partial.fetch_add(1, Relaxed);
            reply.simple(&format!("CONTINUE {}", role.ids().replid));
            replica.facts.lock().acked = offset;
            role.add(&replica, false); // known before what kept its stream lets go of it
            replica.go_on(offset);
            ctx.session.replies = Replies::LastToReplica;
            return Ok(());
        }
        role.n_partial_refused.fetch_add(1, Relaxed);
        match role.knows(&replid) {
            true => log::info!(
                "Unable to partial resync with replica {} for lack of backlog (Replica request was: \
                 {wanted}).",
                ctx.session.client.peer
            ),
            false => log::info!(
                "Partial resynchronization not accepted from {}: it asked for offset {wanted} of \
                 history '{replid}'",
                ctx.session.client.peer
            ),
        }
    }
    let facts = replica.facts.lock().clone();
    let takes_two = facts.takes_eof
        && facts.channel_of.is_none()
        && !facts.is_snapshot_only
        && !facts.wants_functions_only
        && state.config.syncs_without_disk();
    if facts.takes_dual && takes_two && state.config.uses_dual_channel() {
        log::info!("Replica {} is to get the snapshot apart", ctx.session.client.peer);
        reply.simple("DUALCHANNELSYNC"); // it asks again, when it knows where the snapshot stands
        replica.facts.lock().waits_for_dual = true;
        return Ok(());
    }
    if let Some(session) = facts.channel_of {
        let main = role.apart(session).filter(|_| facts.is_snapshot_only);
        if !main.is_some_and(|main| replica.set_main(&main)) {
            return Err(Error::Plain("ERR No replica waits for this snapshot"));
        }
    } else if facts.takes_channel && takes_two && state.config.uses_rdb_channel() {
        return part(ctx, &replica, reply);
    }
    begin(ctx, true)
}

/// Has a replica open another connection for its snapshot. This one gets the stream, from the cut on.
fn part(ctx: &mut AdminCtx<'_>, replica: &Arc<Replica>, reply: &mut Reply<'_>) -> Result<()> {
    let id = ctx.session.client.address.session;
    log::info!("Replica {} is to get the snapshot apart", ctx.session.client.peer);
    reply.simple(&format!("RDBCHANNELSYNC {id}"));
    ctx.session.replies = Replies::LastToReplica;
    replica.part();
    ctx.state.role.add(replica, false);
    Ok(())
}

/// PSYNC ... FAILOVER: the primary hands over to this replica.
fn take_over(ctx: &AdminCtx<'_>, replid: &str) -> Result<()> {
    let role = &ctx.state.role;
    log::info!("Failover request received for replid {replid}.");
    if !role.is_replica() {
        return Err(Error::Plain("ERR PSYNC FAILOVER can't be sent to a master."));
    }
    if !replid.eq_ignore_ascii_case(&role.ids().replid) {
        return Err(Error::Plain("ERR PSYNC FAILOVER replid must match my replid."));
    }
    lead(ctx)?;
    let peer = &ctx.session.client.peer;
    log::info!("MASTER MODE enabled (failover request from '{peer}')");
    Ok(())
}

/// Whether anybody may follow this server now.
fn may_begin(ctx: &AdminCtx<'_>) -> Result<()> {
    let role = &ctx.state.role;
    if role.failover.is_on() {
        return Err(Error::Plain("NOMASTERLINK Can't SYNC while failing over"));
    }
    if role.is_replica() && !role.is_link_up() {
        let text = "NOMASTERLINK Can't SYNC while not connected with my master";
        return Err(Error::Plain(text));
    }
    Ok(())
}

/// Asks for everything. What follows is sent by the event loop.
fn begin(ctx: &mut AdminCtx<'_>, by_psync: bool) -> Result<()> {
    may_begin(ctx)?;
    let replica = replica(ctx);
    replica.facts.lock().takes_psync = by_psync;
    log::info!("Replica {} asks for synchronization", ctx.session.client.peer);
    ctx.state.role.n_full.fetch_add(1, Relaxed);
    ctx.session.replies = Replies::LastToReplica;
    ctx.state.role.add(&replica, true);
    Ok(())
}
