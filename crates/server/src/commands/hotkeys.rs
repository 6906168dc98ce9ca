//! HOTKEYS: which keys cost most, in time and in bytes, while somebody wants to know.

use resp::reply::Reply;

use crate::command::{AdminCtx, Args, Command, Flag};
use crate::error::{Error, Result};
use crate::stats::hotkeys::Wish;

/// The family's table.
pub const COMMANDS: &[Command] = &[Command::container("hotkeys", HOTKEYS)
    .group("server")
    .about("8.6.0", "Depends on the subcommand", "Finds the keys that cost most.")];

/// What its subcommands have, but HELP.
const FLAGS: &[Flag] = &[Flag::Admin, Flag::NoScript];
/// Keys that are told of if nothing is said.
const N_KEYS: usize = 10;
/// Keys that are told of at most.
const N_KEYS_MAX: i64 = 64;

const HOTKEYS: &[Command] = &[
    Command::admin("hotkeys|get", 2, get).flags(FLAGS).about(
        "8.6.0",
        "O(K) in the keys told of",
        "Returns what was gathered.",
    ),
    Command::help("hotkeys|help").since("8.6.1"),
    Command::admin("hotkeys|reset", 2, reset)
        .flags(FLAGS)
        .tips(&["request_policy:special"])
        .about("8.6.0", "O(1)", "Forgets what was gathered."),
    Command::admin("hotkeys|start", -2, start)
        .syntax(
            "METRICS metrics(count [cpu(CPU)] [net(NET)]) [COUNT k=integer] [DURATION seconds] \
             [SAMPLE ratio=integer] [SLOTS slots(count slot=integer ...)]",
        )
        .flags(FLAGS)
        .tips(&["request_policy:special"])
        .about("8.6.0", "O(1)", "Begins to gather."),
    Command::admin("hotkeys|stop", 2, stop)
        .flags(FLAGS)
        .tips(&["request_policy:special"])
        .about("8.6.0", "O(1)", "Gathers no more."),
];

/// Takes `METRICS count name ...`. Names that nobody knows yet are passed over.
fn metrics(args: &mut Args<'_>) -> Result<(bool, bool)> {
    let mismatch = Error::Plain("ERR METRICS count does not match number of metric types provided");
    let count = usize::try_from(args.int()?).ok().filter(|count| *count > 0);
    let count = count.ok_or(Error::Plain("ERR METRICS count must be positive"))?;
    let names = args.take_n(count).map_err(|_| mismatch)?;
    let (mut time, mut bytes) = (false, false);
    for name in names {
        let (slot, twice) = match name.to_ascii_uppercase().as_slice() {
            b"CPU" => (&mut time, "ERR METRICS CPU defined more than once"),
            b"NET" => (&mut bytes, "ERR METRICS NET defined more than once"),
            _ => continue,
        };
        if std::mem::replace(slot, true) {
            return Err(Error::Plain(twice));
        }
    }
    match (time, bytes) {
        (false, false) => Err(Error::Plain("ERR METRICS no valid metrics passed")),
        found => Ok(found),
    }
}

fn parse(args: &mut Args<'_>, now_ms: u64) -> Result<Wish> {
    let required = Error::Plain("ERR METRICS parameter is required");
    if !args.eat(b"METRICS") {
        return Err(required);
    }
    let (time, bytes) = metrics(args)?;
    let mut wish = Wish {
        time,
        bytes,
        n_keys: N_KEYS,
        until_ms: None,
        ratio: 1,
    };
    while let Some(word) = args.word() {
        match &*word {
            b"COUNT" => {
                let count = Some(args.int()?).filter(|count| (1..=N_KEYS_MAX).contains(count));
                let wrong = Error::Plain("ERR COUNT must be between 1 and 64");
                wish.n_keys = count.ok_or(wrong)? as usize;
            }
            b"DURATION" => {
                let wrong = Error::Plain("ERR DURATION must be a non-negative number of seconds");
                let seconds = u64::try_from(args.int()?).map_err(|_| wrong)?;
                let until_ms = now_ms.saturating_add(seconds.saturating_mul(1000));
                wish.until_ms = Some(until_ms).filter(|_| seconds > 0);
            }
            b"SAMPLE" => {
                let ratio = u64::try_from(args.int()?).ok().filter(|ratio| *ratio > 0);
                wish.ratio = ratio.ok_or(Error::Plain("ERR SAMPLE ratio must be positive"))?;
            }
            b"SLOTS" => {
                return Err(Error::Plain("ERR SLOTS parameter cannot be used in non-cluster mode"));
            }
            _ => return Err(Error::Syntax),
        }
    }
    Ok(wish)
}

fn start(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let wish = parse(args, ctx.now_ms)?;
    let mut hot = ctx.state.stats.hotkeys.lock();
    hot.end_if_due(ctx.now_ms, || ctx.state.stats.usage());
    if hot.is_active() {
        return Err(Error::Plain("ERR hotkey tracking session already in progress"));
    }
    hot.start(wish, ctx.now_ms, ctx.state.stats.usage());
    ctx.state.stats.set_hotkeys(true);
    ctx.state.config.note_change();
    reply.ok();
    Ok(())
}

fn stop(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let mut hot = ctx.state.stats.hotkeys.lock();
    hot.end_if_due(ctx.now_ms, || ctx.state.stats.usage());
    let was_active = hot.stop(ctx.now_ms, ctx.state.stats.usage());
    ctx.state.stats.set_hotkeys(false);
    ctx.state.config.note_change();
    if !was_active {
        return Err(Error::Plain("ERR no hotkey tracking session in progress"));
    }
    reply.ok();
    Ok(())
}

fn reset(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let mut hot = ctx.state.stats.hotkeys.lock();
    hot.end_if_due(ctx.now_ms, || ctx.state.stats.usage());
    if hot.is_active() {
        return Err(Error::Plain("ERR hotkey tracking session in progress, stop tracking first"));
    }
    hot.reset();
    reply.ok();
    Ok(())
}

fn get(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let now = ctx.state.stats.usage();
    let mut hot = ctx.state.stats.hotkeys.lock();
    hot.end_if_due(ctx.now_ms, || now);
    let is_active = hot.is_active();
    let Some(session) = hot.session() else {
        reply.null();
        return Ok(());
    };
    let (duration_ms, used) = session.duration_ms_and_usage(ctx.now_ms, now);
    let (of_time, of_bytes) = (session.wish.time, session.wish.bytes);
    let numbers = |reply: &mut Reply<'_>, pairs: &[(&str, u64)]| {
        for (name, number) in pairs {
            reply.bulk(name.as_bytes());
            reply.int(*number as i64);
        }
    };
    reply.map(7 + 3 * usize::from(of_time) + 2 * usize::from(of_bytes));
    numbers(
        reply,
        &[
            ("tracking-active", u64::from(is_active)),
            ("sample-ratio", session.wish.ratio),
        ],
    );
    reply.bulk(b"selected-slots");
    reply.array(0);
    numbers(
        reply,
        &[
            ("all-commands-all-slots-us", session.all_time_ns / 1000),
            ("net-bytes-all-commands-all-slots", session.all_bytes),
            ("collection-start-time-unix-ms", session.began_ms),
            ("collection-duration-ms", duration_ms),
        ],
    );
    if of_time {
        numbers(
            reply,
            &[
                ("total-cpu-time-user-ms", used.user_ms),
                ("total-cpu-time-sys-ms", used.system_ms),
            ],
        );
    }
    if of_bytes {
        numbers(reply, &[("total-net-bytes", used.net_bytes)]);
    }
    let lists = [
        (of_time, "by-cpu-time-us", session.by_time_us()),
        (of_bytes, "by-net-bytes", session.by_bytes()),
    ];
    for (_, name, keys) in lists.into_iter().filter(|(is_wanted, ..)| *is_wanted) {
        reply.bulk(name.as_bytes());
        reply.array(2 * keys.len());
        for (key, amount) in keys {
            reply.bulk(key);
            reply.int(amount as i64);
        }
    }
    Ok(())
}
