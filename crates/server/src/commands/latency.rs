//! LATENCY: what took too long, and how long commands take.

use resp::reply::Reply;

use crate::command::traits::{ADMIN, META};
use crate::command::{AdminCtx, Args, Command, Kind};
use crate::error::{Error, Result};
use crate::stats::counters::CommandTotals;
use crate::stats::histogram::Histogram;
use crate::stats::latency::Series;

/// The family's table.
pub const COMMANDS: &[Command] = &[Command::container("latency", LATENCY)
    .group("server")
    .about(
        "2.8.13",
        "Depends on the subcommand",
        "What took too long, and how long commands take.",
    )];

const REPORT: &[&str] = &[
    "nondeterministic_output",
    "request_policy:all_nodes",
    "response_policy:special",
];

const LATENCY: &[Command] = &[
    Command::admin("latency|doctor", 2, doctor)
        .flags(ADMIN)
        .tips(REPORT)
        .about("2.8.13", "O(1)", "Says in words what took too long."),
    Command::admin("latency|graph", 3, graph)
        .syntax("event")
        .flags(ADMIN)
        .tips(REPORT)
        .about("2.8.13", "O(1)", "Draws the samples of an event."),
    Command::help("latency|help").since("2.8.13").flags(META),
    Command::admin("latency|histogram", -2, histogram)
        .syntax("[command ...]")
        .flags(ADMIN)
        .tips(REPORT)
        .about("7.0.0", "O(N) in the commands", "Answers how long commands took, in steps."),
    Command::admin("latency|history", 3, history)
        .syntax("event")
        .flags(ADMIN)
        .tips(REPORT)
        .about("2.8.13", "O(1)", "Lists the samples of an event."),
    Command::admin("latency|latest", 2, latest)
        .flags(ADMIN)
        .tips(REPORT)
        .about("2.8.13", "O(1)", "Lists the last sample of each event."),
    Command::admin("latency|reset", -2, reset)
        .syntax("[event ...]")
        .flags(ADMIN)
        .tips(&["request_policy:all_nodes", "response_policy:agg_sum"])
        .about("2.8.13", "O(1)", "Forgets samples."),
];

fn latest(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let latency = ctx.state.stats.latency.lock();
    let array = reply.array_later();
    let mut n = 0;
    for (name, series) in latency.all() {
        let (time_s, took_ms) = series.samples.back().copied().unwrap_or_default();
        reply.array(4);
        reply.bulk(name.as_bytes());
        reply.int(time_s as i64);
        reply.int(took_ms as i64);
        reply.int(series.max_ms as i64);
        n += 1;
    }
    reply.finish(array, n);
    Ok(())
}

fn history(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let latency = ctx.state.stats.latency.lock();
    let Some((_, series)) = latency.get(args.take()?) else {
        reply.array(0);
        return Ok(());
    };
    reply.array(series.samples.len());
    for (time_s, took_ms) in &series.samples {
        reply.array(2);
        reply.int(*time_s as i64);
        reply.int(*took_ms as i64);
    }
    Ok(())
}

fn graph(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let event = args.take()?;
    let latency = ctx.state.stats.latency.lock();
    let (name, series) = latency.get(event).ok_or_else(|| {
        let event = String::from_utf8_lossy(event);
        Error::Owned(format!("ERR No samples available for event '{event}'"))
    })?;
    reply.verbatim("txt", series.graph(name, ctx.now_ms / 1000).as_bytes());
    Ok(())
}

fn reset(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let mut latency = ctx.state.stats.latency.lock();
    let n = match args.is_empty() {
        true => latency.clear(),
        false => args.rest().filter(|event| latency.forget(event)).count(),
    };
    reply.count(n);
    Ok(())
}

fn doctor(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let threshold_ms = ctx.state.config.latency_threshold_ms();
    let latency = ctx.state.stats.latency.lock();
    let mut text = String::new();
    if threshold_ms == 0 && latency.all().next().is_none() {
        text.push_str(
            "The latency monitor is off. CONFIG SET latency-monitor-threshold <milliseconds> switches it \
             on.\n",
        );
    } else if latency.all().next().is_none() {
        text.push_str(&format!("Nothing has taken {threshold_ms} ms or longer.\n"));
    }
    for (at, (name, series)) in latency.all().enumerate() {
        text.push_str(&finding(at + 1, name, series, ctx.now_ms / 1000));
    }
    let (_, commands) = ("command", latency.get(b"command").or(latency.get(b"fast-command")));
    if commands.is_some() {
        text.push_str(&command_advice(ctx.state.config.slowlog_threshold_us(), threshold_ms));
    }
    if latency.get(b"expire-cycle").is_some() {
        text.push_str(
            "- Removing keys that are due took long. Values of very many elements, or very many keys with \
             the same deadline, are the usual reason: spread them.\n",
        );
    }
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn finding(number: usize, name: &str, series: &Series, now_s: u64) -> String {
    let (average, apart, period_s) = series.shape(now_s);
    let n = series.samples.len();
    format!(
        "{number}. {name}: {n} latency spikes (average {average}ms, mean deviation {apart}ms, period \
         {period_s:.2} sec). Worst all time event {}ms.\n",
        series.max_ms
    )
}

fn command_advice(slow_us: i64, threshold_ms: u64) -> String {
    let covers = slow_us >= 0 && slow_us as u64 <= threshold_ms.max(1) * 1000;
    let log = match covers {
        true => "- SLOWLOG GET shows which commands were slow.\n".to_owned(),
        false => format!(
            "- The slow log leaves out commands that are slow enough for the latency monitor: CONFIG SET \
             slowlog-log-slower-than {} shows them all.\n",
            threshold_ms.max(1) * 1000
        ),
    };
    log + "- Commands whose time grows with their data (KEYS, SMEMBERS, LRANGE 0 -1, scripts) are better \
           done in pieces.\n"
}

fn histogram(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let wanted: Vec<Vec<u8>> = args.rest().map(<[u8]>::to_ascii_lowercase).collect();
    let map = reply.map_later();
    let mut n = 0;
    let all = ctx.state.stats.commands();
    let mut answer = |at: usize, reply: &mut Reply<'_>| {
        let (name, totals) = &all[at];
        n += usize::from(answer_one(name, totals, &ctx.state.stats.histogram(at), reply));
    };
    if wanted.is_empty() {
        (0..all.len()).for_each(|at| answer(at, reply));
    }
    for name in &wanted {
        let Some(at) = all
            .iter()
            .position(|(known, _)| known.as_bytes() == &name[..])
        else {
            continue;
        };
        answer(at, reply);
        let row = ctx
            .commands
            .values()
            .find(|row| row.name.as_bytes() == &name[..]);
        if let Some(Kind::Container(rows)) = row.map(|row| row.kind) {
            rows.iter().for_each(|row| answer(row.number.into(), reply));
        }
    }
    reply.finish(map, n);
    Ok(())
}

fn answer_one(
    name: &str,
    totals: &CommandTotals,
    histogram: &Histogram,
    reply: &mut Reply<'_>,
) -> bool {
    if totals.calls == 0 || histogram.n() == 0 {
        return false;
    }
    reply.bulk(name.as_bytes());
    reply.map(2);
    reply.bulk(b"calls");
    reply.int(histogram.n() as i64);
    reply.bulk(b"histogram_usec");
    let steps = histogram.steps();
    reply.map(steps.len());
    for (us, n) in steps {
        reply.int(us as i64);
        reply.int(n as i64);
    }
    true
}
