//! Snapshots on the disk: SAVE, BGSAVE, LASTSAVE; and SHUTDOWN, which may take a last one.

use resp::reply::Reply;

use crate::command::context::Order;
use crate::command::{AdminCtx, Args, Category, Command, Flag};
use crate::control;
use crate::error::{Error, Result};
use crate::persistence::ending;
use crate::saving::{Asked, Word};

/// The family's table.
pub const COMMANDS: &[Command] = &[
    Command::admin("bgrewriteaof", 1, bgrewriteaof)
        .flags(&[Flag::Admin, Flag::NoAsyncLoading, Flag::NoScript])
        .group("server")
        .about("1.0.0", "O(1)", "Rewrites the append-only file in the background."),
    Command::admin("bgsave", -1, bgsave)
        .syntax("[operation(SCHEDULE|CANCEL)]")
        .flags(&[Flag::Admin, Flag::NoAsyncLoading, Flag::NoScript])
        .group("server")
        .about("1.0.0", "O(1)", "Saves the data in the background."),
    Command::admin("lastsave", 1, lastsave)
        .fast()
        .flags(&[Flag::Loading, Flag::Stale])
        .categories(&[Category::Admin, Category::Dangerous])
        .tips(&["nondeterministic_output"])
        .group("server")
        .about("1.0.0", "O(1)", "Answers when the data was saved last, as Unix time."),
    Command::admin("save", 1, save)
        .flags(&[
            Flag::Admin,
            Flag::NoAsyncLoading,
            Flag::NoMulti,
            Flag::NoScript,
        ])
        .group("server")
        .about("1.0.0", "O(N) in the keys", "Saves the data and waits until it is on the disk."),
    Command::admin("shutdown", -1, shutdown)
        .syntax("[save-selector(NOSAVE|SAVE)] [NOW] [FORCE] [ABORT]")
        .flags(&[
            Flag::Admin,
            Flag::AllowBusy,
            Flag::Loading,
            Flag::NoMulti,
            Flag::NoScript,
            Flag::Stale,
        ])
        .group("server")
        .about("1.0.0", "O(N) when it saves, in the keys", "Stops the server."),
];

const REWRITING: Error = Error::Plain(
    "ERR Another child process is active (AOF?): can't BGSAVE right now. Use BGSAVE SCHEDULE in \
     order to schedule a BGSAVE whenever possible.",
);
const RUNNING: Error = Error::Plain("ERR Background save already in progress");

fn save(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    if ctx.state.saving.is_running() {
        return Err(RUNNING);
    }
    ctx.order = Some(Order::Save { until: Word::Done });
    Ok(())
}

fn bgrewriteaof(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    match ctx.state.saving.wish_rewrite() {
        Asked::Running => {
            Err(Error::Plain("ERR Background append only file rewriting already in progress"))
        }
        Asked::Scheduled => {
            reply.simple("Background append only file rewriting scheduled");
            Ok(())
        }
        Asked::Begun if ctx.is_nested => {
            reply.simple("Background append only file rewriting scheduled");
            Ok(())
        }
        Asked::Begun => {
            reply.simple("Background append only file rewriting started");
            Ok(())
        }
    }
}

fn bgsave(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let saving = &ctx.state.saving;
    let is_rewriting = saving.is_rewriting() || saving.wants_rewrite();
    match args.word().as_deref() {
        None if is_rewriting && !saving.is_running() => return Err(REWRITING),
        None => {}
        Some(b"SCHEDULE") => args.end()?,
        Some(b"CANCEL") => {
            args.end()?;
            if !saving.is_running() {
                return Err(Error::Plain(
                    "ERR Background saving is currently not in progress or scheduled",
                ));
            }
            if saving.cancel_wish() {
                reply.simple("Scheduled background saving cancelled");
                return Ok(());
            }
            saving.cancel();
            reply.simple("Background saving cancelled");
            return Ok(());
        }
        Some(_) => return Err(Error::Syntax),
    }
    if saving.is_running() {
        return Err(RUNNING);
    }
    if ctx.is_nested || is_rewriting {
        saving.wish(Box::new(|_| {}));
        reply.simple("Background saving scheduled"); // for when the transaction is over
    } else {
        ctx.order = Some(Order::Save { until: Word::Begun });
    }
    Ok(())
}

fn lastsave(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(ctx.state.saving.record().last_save_s as usize);
    Ok(())
}

fn shutdown(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (mut n_words, mut must_abort, mut manner) = (0, false, control::Manner::default());
    while let Some(word) = args.word() {
        n_words += 1;
        let saves = match &*word {
            b"NOSAVE" => false,
            b"SAVE" => true,
            b"NOW" => {
                manner.is_immediate = true;
                continue;
            }
            b"FORCE" => {
                manner.is_forced = true;
                continue;
            }
            b"ABORT" => {
                must_abort = true;
                continue;
            }
            _ => return Err(Error::Syntax),
        };
        if manner.saves.is_some_and(|before| before != saves) {
            return Err(Error::Syntax);
        }
        manner.saves = Some(saves);
    }
    if must_abort && n_words > 1 {
        return Err(Error::Syntax);
    }
    if must_abort && !ending::abort(ctx.state) {
        return Err(Error::Plain("ERR No shutdown in progress."));
    }
    if must_abort {
        reply.ok();
        return Ok(());
    }
    let running = &ctx.state.scripts.running;
    if running.is_busy() && manner.saves != Some(false) {
        return Err(running.busy());
    }
    if ending::must_wait(ctx.state, manner) {
        ctx.order = Some(Order::AwaitEnd(manner));
        return Ok(());
    }
    log::info!("User requested shutdown...");
    ending::prepare(ctx.state, manner)
        .map_err(|_| Error::Plain("ERR Errors trying to SHUTDOWN. Check logs."))?;
    ctx.state.control.post(control::Order::Shutdown);
    ctx.session.is_closing = true;
    Ok(())
}
