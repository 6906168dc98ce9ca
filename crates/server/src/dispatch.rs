//! The gate: what a request must pass, before any lock, to be run; or queued, inside MULTI.

use std::sync::atomic::Ordering::Relaxed;

use resp::reply::Reply;
use stdx::number::parse_i64;

use crate::command::lookup::{NAME_BYTES_MAX, Resolved, resolve_in, unknown};
use crate::command::{Command, Commands, Flag};
use crate::commands;
use crate::config::file::{FatalConfig, Rename};
use crate::error::Error;
use crate::exec::permit::Origin;
use crate::exec::{Engine, Meanwhile, Outcome};
use crate::role::failover::Phase;
use crate::session::queue::Needs;
use crate::session::{Replies, Session};
use crate::state::State;

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

/// Runs, queues or refuses a request of a client. `row` is what its first word names, if anything,
/// and comes with the hash of the first key, if it was computed.
#[inline]
pub fn run(
    engine: &mut Engine,
    session: &mut Session,
    (row, known_hash): (Option<&'static Command>, Option<u64>),
    request: &[&[u8]],
    reply: &mut Reply<'_>,
    meanwhile: &mut dyn Meanwhile,
) -> Outcome {
    if session.tracking.is_some() {
        return run_tracked(engine, session, (row, known_hash), request, reply, meanwhile);
    }
    run_plain(engine, session, (row, known_hash), request, reply, meanwhile)
}

/// The same for a session that tracks: what it is to be told of its own doing follows its reply, and
/// keys that were evicted before it ran come first.
#[cold]
fn run_tracked(
    engine: &mut Engine,
    session: &mut Session,
    row: (Option<&'static Command>, Option<u64>),
    request: &[&[u8]],
    reply: &mut Reply<'_>,
    meanwhile: &mut dyn Meanwhile,
) -> Outcome {
    let before = engine.begin_notices(session);
    if engine.has_memory_limit() {
        engine.make_room();
        engine.write_notices(session, reply);
    }
    let outcome = run_plain(engine, session, row, request, reply, meanwhile);
    engine.teller = before;
    engine.write_notices(session, reply);
    outcome
}

#[inline]
fn run_plain(
    engine: &mut Engine,
    session: &mut Session,
    (row, known_hash): (Option<&'static Command>, Option<u64>),
    request: &[&[u8]],
    reply: &mut Reply<'_>,
    meanwhile: &mut dyn Meanwhile,
) -> Outcome {
    let mark = reply.len();
    if engine.has_memory_limit() {
        engine.charge_replies(session, mark);
        engine.make_room();
        if session.client.is_shed() {
            session.is_closing = true;
            return Outcome::Done;
        }
    }
    let outcome = match admit(engine, session, row, request) {
        Ok(admitted) if engine.must_wait(session, admitted.0, request) => Outcome::Postponed,
        Ok(admitted) if session.queue.is_some() && !admitted.0.is_immediate => {
            let may_write = engine.may_write(admitted.0, request);
            let needs = admitted.0.needs(engine.state(), request);
            queue(session, (admitted.0, needs, may_write), request, reply);
            Outcome::Done
        }
        Ok(admitted) => {
            session.last_command = admitted.1;
            engine.call(session, (admitted, known_hash), request, reply, meanwhile)
        }
        Err(error) if is_about_successor(engine.state(), &error) => Outcome::Postponed,
        Err(Error::Loading) if engine.state().saving.ends_soon() => Outcome::Busy,
        Err(error) => {
            refuse(engine, session, row, &error, reply);
            Outcome::Done
        }
    };
    if session.replies != Replies::On && outcome == Outcome::Done {
        // What confirms a subscription is a message, which is sent whatever CLIENT REPLY says.
        let is_message = row.is_some_and(|row| row.is_for_subscribers && row.has(Flag::PubSub));
        mute(session, reply, mark, is_message);
    }
    outcome
}

/// All checks, in the order in which the protocol reports them.
#[inline]
fn admit(
    engine: &Engine,
    session: &mut Session,
    row: Option<&'static Command>,
    request: &[&[u8]],
) -> Result<Resolved, Error> {
    let row = row.ok_or_else(|| unknown(request))?;
    let resolved = resolve_in(row, request);
    if resolved.is_err() && row.has(Flag::System) && !engine.is_free(session) {
        // What DEBUG can do is nobody's business who may not use it.
        engine.vet(session, row, request, Origin::Client)?;
    }
    let admitted = match resolved {
        // Such a command says only when it runs what is wrong with it.
        Err(_) if row.has(Flag::System) && session.queue.is_some() && request.len() > 1 => {
            (row, row.name, 1)
        }
        resolved => resolved?,
    };
    let (command, name, _) = admitted;
    if !engine.is_free(session) {
        engine.vet(session, command, request, Origin::Client)?;
    }
    if (session.is_monitor || session.is_replica())
        && (command.is_read() || engine.may_write(command, request))
    {
        return Err(Error::Plain("ERR Replica can't interact with the keyspace"));
    }
    if session.is_subscriber() && !command.is_for_subscribers {
        return Err(commands::pubsub::refusal(name));
    }
    let is_local = session.client.is_local;
    if command.has(Flag::System) && !engine.state().config.debug_command_allowed(is_local) {
        return Err(Error::DebugNotAllowed);
    }
    let state = engine.state();
    let mut needs = command.needs(state, request);
    if let Some(queue) = session.queue.as_ref().filter(|_| command.name == "exec") {
        needs = needs.and(queue.needs);
    }
    if needs.memory && engine.is_memory_full() {
        return Err(Error::OutOfMemory);
    }
    if state.saving.is_hindered() {
        not_hindered(state, command, needs.writing)?;
        let queue = session.queue.as_ref().filter(|_| command.name == "exec");
        for queued in queue.into_iter().flat_map(|queue| queue.iter()) {
            let queued = engine.resolve(&queued.words())?;
            not_hindered(state, queued.0, false)?;
        }
    }
    if state.aof.is_failing() && (needs.writing || command.name == "ping") {
        return Err(Error::Unwritable(state.aof.failure()));
    }
    if needs.writing && state.lacks_replicas() {
        return Err(Error::NoReplicas);
    }
    if state.role.is_replica() {
        let client = &session.client;
        let reads_here = || client.reads_here.load(Relaxed);
        if client.follows_redirects.load(Relaxed)
            && (needs.writing || command.is_read() && !reads_here())
        {
            return Err(elsewhere(state));
        }
        fits_replica(state, needs)?;
    }
    if session.queue.is_some() && command.has(Flag::NoMulti) {
        return Err(Error::Plain("ERR Command not allowed inside a transaction"));
    }
    let running = &engine.state().scripts.running;
    if running.is_busy() && !command.has(Flag::AllowBusy) {
        return Err(running.busy());
    }
    Ok(admitted)
}

/// Whether a client is to be sent to a server that has not taken over yet: it waits for that.
#[cold]
fn is_about_successor(state: &State, error: &Error) -> bool {
    let is_redirect = matches!(error, Error::Owned(line) if line.starts_with("REDIRECT "));
    is_redirect && state.role.failover.phase() == Phase::Moving
}

/// CLIENT CAPA redirect: where the primary is, for a client that goes there by itself.
#[cold]
fn elsewhere(state: &State) -> Error {
    match state.role.primary() {
        Some(primary) => Error::Owned(format!("REDIRECT {}:{}", primary.host, primary.port)),
        None => Error::Stale, // it has just become one
    }
}

/// Whether a command may run on a replica.
#[cold]
fn fits_replica(state: &State, needs: Needs) -> Result<(), Error> {
    if needs.writing && state.refuses_writes() {
        return Err(Error::ReadOnlyReplica);
    }
    match needs.fresh_data && state.is_stale() {
        true => Err(Error::Stale),
        false => Ok(()),
    }
}

/// Runs what a primary has sent: it has happened there, so nothing is asked.
pub fn apply(
    engine: &mut Engine,
    session: &mut Session,
    request: &[&[u8]],
    reply: &mut Reply<'_>,
) -> Result<Outcome, Error> {
    let row = engine.find(request[0]).ok_or_else(|| unknown(request))?;
    let admitted = resolve_in(row, request)?;
    if session.queue.is_some() && !admitted.0.is_immediate {
        let needs = admitted.0.needs(engine.state(), request);
        queue(session, (admitted.0, needs, true), request, reply);
        return Ok(Outcome::Done);
    }
    Ok(engine.call_apart(session, admitted, request, reply))
}

/// Whether a command may run while the data is loaded, or could not be saved.
#[cold]
fn not_hindered(state: &State, command: &Command, is_write: bool) -> Result<(), Error> {
    if (is_write || command.name == "ping") && state.denies_writes() {
        return Err(Error::Misconfigured);
    }
    let saving = &state.saving;
    let waits = saving.is_loading() && !command.has(Flag::Loading)
        || saving.is_loading_aside() && command.has(Flag::NoAsyncLoading);
    match waits {
        true => Err(Error::Loading),
        false => Ok(()),
    }
}

/// Answers why a request does not run. Inside MULTI that spoils the transaction; EXEC itself, refused,
/// ends it.
#[cold]
fn refuse(
    engine: &mut Engine,
    session: &mut Session,
    row: Option<&'static Command>,
    error: &Error,
    reply: &mut Reply<'_>,
) {
    let line = error.to_string();
    engine.count_refusal(row, line.as_bytes());
    if row.is_some_and(|row| row.name == "exec") {
        session.queue = None;
        engine.unwatch(session);
        if line.starts_with("REDIRECT ") {
            return reply.error(line.as_bytes());
        }
        let reason = line.strip_prefix("ERR ").unwrap_or(&line);
        let line = format!("EXECABORT Transaction discarded because of: {reason}");
        return reply.error(line.as_bytes());
    }
    if let Some(queue) = &mut session.queue {
        queue.is_aborted = true;
    }
    reply.error(line.as_bytes());
}

fn queue(
    session: &mut Session,
    (command, needs, may_write): (&Command, Needs, bool),
    request: &[&[u8]],
    reply: &mut Reply<'_>,
) {
    if let Some(queue) = &mut session.queue {
        queue.may_write |= may_write;
        queue.needs = queue.needs.and(needs);
        if command.name == "select" {
            let number = parse_i64(request[1]).and_then(|number| u16::try_from(number).ok());
            queue.selects = number.or(queue.selects);
        }
        queue.push(request);
        reply.simple("QUEUED");
    }
}

/// CLIENT REPLY: takes back what the session does not want to hear.
#[cold]
fn mute(session: &mut Session, reply: &mut Reply<'_>, mark: usize, is_message: bool) {
    match session.replies {
        Replies::On => {}
        Replies::SkipNext => session.replies = Replies::Skip,
        Replies::LastToReplica => session.replies = Replies::NoneToReplica,
        Replies::NoneToReplica if reply.len() == mark => {}
        Replies::NoneToReplica => {
            log::warn!(
                "Replica generated a reply to command '{}', disconnecting it: {}",
                session.last_command,
                session.client.peer
            );
            reply.truncate(mark);
            session.is_closing = true;
        }
        Replies::Off if is_message => {}
        Replies::Off => reply.truncate(mark),
        Replies::Skip => {
            session.replies = Replies::On;
            if !is_message {
                reply.truncate(mark);
            }
        }
    }
}
