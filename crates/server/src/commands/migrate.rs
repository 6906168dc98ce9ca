//! MIGRATE: keys move to another server.
//!
//! ```text
//!   under the locks      every key as DUMP has it, and what is left until its deadline
//!   holding nothing      a thread sends RESTORE for each and awaits the replies; the client waits
//!   under the locks      what the target has taken and is still the same is deleted
//! ```
//!
//! A key that was written in between stays as it is, and the client is told to try again (`TRYAGAIN`):
//! the target has what was sent. One that was deleted in between is the target's now. Whether a key is
//! the same is seen by making the payload again, which tells of everything that would be lost.
//!
//! With a key to send it is refused inside EXEC and scripts, which hold locks while they wait.

use std::time::Duration;

use rdb::payload;
use resp::reply::Reply;

use crate::command::context::After;
use crate::command::event::Event;
use crate::command::{Access, Args, Category, Command, WriteCtx};
use crate::error::{Error, Result};
use crate::migration::{Delivery, Failure, Login, Parcel, Target};

/// The command of this family.
pub const COMMANDS: &[Command] = &[Command::write("migrate", -6, migrate)
    .syntax(
        "host port key-selector(key|empty-string('')) destination-db timeout=integer [copy(COPY)] \
         [replace(REPLACE)] \
         [authentication(AUTH auth|AUTH2 auth2(username password))] \
         [KEYS keys ...]",
    )
    .key_or_tail(3, "KEYS", &[("AUTH", 1), ("AUTH2", 2)])
    .accesses(Access::Take, Access::TakeSome)
    .categories(&[Category::Dangerous, Category::Keyspace])
    .tips(&["nondeterministic_output"])
    .group("generic")
    .about("2.6.0", "O(N) in the bytes sent, twice", "Moves keys to another server.")];

/// Deletes what the target has: the failure of the rest, and each key with what was sent.
const FORGET_SENT: Command = Command::write("migrate", -2, forget_sent).keys(2, -1, 3);

/// How long one step takes at most if nothing is said.
const TIMEOUT_MS: i64 = 1000;

struct Request<'a> {
    target: Target,
    keys: &'a [&'a [u8]],
    copies: bool,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn parse<'a>(args: &mut Args<'a>) -> Result<Request<'a>> {
    let (host, port) = (text(args.take()?), text(args.take()?));
    let mut keys = args.take_n(1)?;
    let (database, timeout) = (args.take()?, args.take()?);
    let (mut copies, mut replaces, mut login) = (false, false, None);
    while let Some(word) = args.word() {
        match &*word {
            b"COPY" => copies = true,
            b"REPLACE" => replaces = true,
            b"AUTH" => {
                login = Some(Login {
                    user: None,
                    password: args.take()?.to_vec(),
                });
            }
            b"AUTH2" => {
                login = Some(Login {
                    user: Some(args.take()?.to_vec()),
                    password: args.take()?.to_vec(),
                });
            }
            b"KEYS" => {
                if !keys[0].is_empty() {
                    return Err(Error::Plain(
                        "ERR When using MIGRATE KEYS option, the key argument must be set to the empty string",
                    ));
                }
                keys = args.take_n(args.len())?;
            }
            _ => return Err(Error::Syntax),
        }
    }
    let number = |text| stdx::number::parse_i64(text).ok_or(Error::NotAnInteger);
    let timeout_ms = Some(number(timeout)?).filter(|ms| *ms > 0);
    let timeout = Duration::from_millis(timeout_ms.unwrap_or(TIMEOUT_MS) as u64);
    Ok(Request {
        target: Target {
            host,
            port,
            database: number(database)?,
            timeout,
            login,
            replaces,
        },
        keys,
        copies,
    })
}

/// The key as DUMP has it, and its deadline.
fn image(ctx: &WriteCtx<'_>, key: &[u8]) -> Option<(Vec<u8>, Option<u64>)> {
    let packs = ctx.directives.packs_strings;
    let entry = ctx.db.entry(key)?;
    let payload = payload::of_value(entry.encoding(), entry.payload(), packs);
    let deadline_ms = entry.deadline_ms();
    Some((payload, deadline_ms))
}

fn migrate(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let Request {
        target,
        keys,
        copies,
    } = parse(args)?;
    let (mut parcels, mut deadlines) = (Vec::new(), Vec::new());
    for key in keys {
        let Some((payload, deadline_ms)) = image(ctx, key) else {
            continue;
        };
        let left_ms = deadline_ms.map_or(0, |at_ms| at_ms.saturating_sub(ctx.present_ms()).max(1));
        parcels.push(Parcel {
            key: key.to_vec(),
            payload,
            left_ms,
        });
        deadlines.push(deadline_ms);
    }
    if parcels.is_empty() {
        reply.simple("NOKEY");
        return Ok(());
    }
    if !ctx.effects.can_wait {
        return Err(Error::Plain(
            "ERR MIGRATE waits for the network, so it is not allowed inside MULTI and scripts",
        ));
    }
    ctx.send_off(move |state| {
        let delivery = state.migration.send(&target, &parcels);
        match copies || !delivery.taken.contains(&true) {
            true => After::Answer(delivery.failure.map_or(Ok(()), |why| Err(error_of(why)))),
            false => after(delivery, parcels, &deadlines),
        }
    });
    Ok(())
}

/// What is to be deleted once some keys have arrived.
fn after(delivery: Delivery, parcels: Vec<Parcel>, deadlines: &[Option<u64>]) -> After {
    let failure = delivery.failure.map(|why| error_of(why).to_string());
    let mut words = vec![
        FORGET_SENT.name.as_bytes().to_vec(),
        failure.unwrap_or_default().into_bytes(),
    ];
    let sent = parcels.into_iter().zip(deadlines).zip(delivery.taken);
    for ((parcel, deadline_ms), _) in sent.filter(|(_, is_taken)| *is_taken) {
        words.extend([parcel.key, parcel.payload, deadline_text(*deadline_ms)]);
    }
    After::Run {
        command: &FORGET_SENT,
        words,
    }
}

fn deadline_text(deadline_ms: Option<u64>) -> Vec<u8> {
    deadline_ms.map_or(Vec::new(), |ms| ms.to_string().into_bytes())
}

fn error_of(failure: Failure) -> Error {
    match failure {
        Failure::Connecting => Error::Plain("IOERR error or timeout connecting to the client"),
        Failure::Writing => Error::Plain("IOERR error or timeout writing to target instance"),
        Failure::Reading => Error::Plain("IOERR error or timeout reading from target instance"),
        Failure::Refused(line) => {
            Error::Owned(format!("ERR Target instance replied with error: {line}"))
        }
    }
}

fn forget_sent(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let failure = args.take()?;
    let mut is_all = true;
    while !args.is_empty() {
        let (key, payload, deadline) = (args.take()?, args.take()?, args.take()?);
        let Some((now, deadline_ms)) = image(ctx, key) else {
            continue; // deleted meanwhile, or due
        };
        if now != payload || deadline_text(deadline_ms) != deadline {
            is_all = false;
            continue;
        }
        ctx.db.remove(key);
        ctx.changed(Event::generic("del"), key);
        ctx.propagate(&[b"DEL", key]);
    }
    match (failure, is_all) {
        (b"", true) => {
            reply.ok();
            Ok(())
        }
        (b"", false) => Err(Error::Plain(
            "TRYAGAIN A key was changed while it was sent: it stays here, the target has it as it was",
        )),
        (line, _) => Err(Error::Owned(text(line))),
    }
}
