//! CLIENT TRACKING and its kin: which keys a session wants to be told of.

use resp::reply::Reply;

use super::row;
use crate::command::{AdminCtx, Args, Command};
use crate::error::{Error, Result};
use crate::session::Session;
use crate::session::tracking::{Choice, TrackingMode};
use crate::state::State;
use crate::tracking::Tracker;

/// CLIENT CACHING.
pub const CACHING: Command = row("client|caching", 3, caching)
    .syntax("mode(YES|NO)")
    .about("6.0.0", "O(1)", "Chooses whether the next command's keys are tracked.");

/// CLIENT GETREDIR.
pub const GETREDIR: Command = row("client|getredir", 2, getredir).about(
    "6.0.0",
    "O(1)",
    "Answers which connection gets the notices.",
);

/// CLIENT TRACKING.
pub const TRACKING: Command = row("client|tracking", -3, tracking)
    .syntax("status(ON|OFF) [REDIRECT client-id] [PREFIX prefix +...] [BCAST] [OPTIN] [OPTOUT] [NOLOOP]")
    .about("6.0.0", "O(1)", "Starts or ends notices of changed keys.");

/// CLIENT TRACKINGINFO.
pub const TRACKINGINFO: Command = row("client|trackinginfo", 2, trackinginfo).about(
    "6.2.0",
    "O(1)",
    "Describes what the connection is told of.",
);

/// What CLIENT TRACKING asks for.
#[derive(Default)]
struct Options<'a> {
    redirect: Option<u64>,
    is_broadcast: bool,
    is_optin: bool,
    is_optout: bool,
    is_noloop: bool,
    prefixes: Vec<&'a [u8]>,
}

impl<'a> Options<'a> {
    fn parse(args: &mut Args<'a>, state: &State) -> Result<Options<'a>> {
        let mut options = Options::default();
        while let Some(word) = args.word() {
            match &*word {
                b"REDIRECT" if !args.is_empty() => {
                    if options.redirect.is_some() {
                        let text = "ERR A client can only redirect to a single other client";
                        return Err(Error::Plain(text));
                    }
                    let id = u64::try_from(args.int()?).ok();
                    let id = id.filter(|id| state.clients.get(*id).is_some());
                    let text = "ERR The client ID you want redirect to does not exist";
                    options.redirect = Some(id.ok_or(Error::Plain(text))?);
                }
                b"BCAST" => options.is_broadcast = true,
                b"OPTIN" => options.is_optin = true,
                b"OPTOUT" => options.is_optout = true,
                b"NOLOOP" => options.is_noloop = true,
                b"PREFIX" if !args.is_empty() => options.prefixes.push(args.take()?),
                _ => return Err(Error::Syntax),
            }
        }
        Ok(options)
    }

    /// Whether they fit each other and what the session has chosen before.
    fn check(&self, before: Option<&TrackingMode>) -> Result<()> {
        if !self.is_broadcast && !self.prefixes.is_empty() {
            return Err(Error::Plain("ERR PREFIX option requires BCAST mode to be enabled"));
        }
        if before.is_some_and(|before| before.is_broadcast != self.is_broadcast) {
            return Err(Error::Plain(
                "ERR You can't switch BCAST mode on/off before disabling tracking for this client, \
                 and then re-enabling it with a different mode.",
            ));
        }
        if self.is_broadcast && (self.is_optin || self.is_optout) {
            return Err(Error::Plain("ERR OPTIN and OPTOUT are not compatible with BCAST"));
        }
        if self.is_optin && self.is_optout {
            return Err(Error::Plain("ERR You can't specify both OPTIN mode and OPTOUT mode"));
        }
        let choice = before.map(|before| before.choice);
        if self.is_optin && choice == Some(Choice::OptOut)
            || self.is_optout && choice == Some(Choice::OptIn)
        {
            return Err(Error::Plain(
                "ERR You can't switch OPTIN/OPTOUT mode before disabling tracking for this client, \
                 and then re-enabling it with a different mode.",
            ));
        }
        self.check_prefixes(before)
    }

    fn check_prefixes(&self, before: Option<&TrackingMode>) -> Result<()> {
        let overlap = |a: &[u8], b: &[u8]| a.starts_with(b) || b.starts_with(a);
        let refusal = |one: &[u8], which: &str, other: &[u8]| {
            let (one, other) = (String::from_utf8_lossy(one), String::from_utf8_lossy(other));
            Err(Error::Owned(format!(
                "ERR Prefix '{one}' overlaps with {which} prefix '{other}'. Prefixes for a single \
                 client must not overlap."
            )))
        };
        for (i, one) in self.prefixes.iter().enumerate() {
            let mut existing = before.iter().flat_map(|before| &before.prefixes);
            if let Some(other) = existing.find(|other| overlap(one, other)) {
                return refusal(one, "an existing", other);
            }
            let mut provided = self.prefixes[i + 1..].iter();
            if let Some(other) = provided.find(|other| overlap(one, other)) {
                return refusal(one, "another provided", other);
            }
        }
        Ok(())
    }
}

fn tracking(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let status = args.word();
    let options = Options::parse(args, ctx.state)?;
    match status.as_deref() {
        Some(b"ON") => {
            options.check(ctx.session.tracking.as_deref())?;
            begin(ctx.session, ctx.state, &options);
        }
        Some(b"OFF") => ctx.session.end_tracking(&ctx.state.tracking),
        _ => return Err(Error::Syntax),
    }
    reply.ok();
    Ok(())
}

fn begin(session: &mut Session, state: &State, options: &Options<'_>) {
    let (id, address) = (session.id(), session.address());
    let mode = session.tracking.get_or_insert_default();
    mode.redirect = options.redirect;
    mode.is_broadcast = options.is_broadcast;
    mode.is_noloop = options.is_noloop;
    mode.is_broken = false;
    mode.choice = match (options.is_optin, options.is_optout) {
        (true, _) => Choice::OptIn,
        (_, true) => Choice::OptOut,
        _ => Choice::All,
    };
    let tracker = Tracker {
        address,
        redirect: options.redirect,
        is_broadcast: options.is_broadcast,
        is_noloop: options.is_noloop,
    };
    state.tracking.enter(id, tracker);
    let everything: &[&[u8]] = match options.is_broadcast && options.prefixes.is_empty() {
        true => &[b""],
        false => &[],
    };
    for prefix in options.prefixes.iter().chain(everything) {
        state.tracking.broadcast(id, prefix);
        if let Err(at) = mode
            .prefixes
            .binary_search_by(|other| (**other).cmp(prefix))
        {
            mode.prefixes.insert(at, (*prefix).into());
        }
    }
}

fn caching(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let Some(mode) = &mut ctx.session.tracking else {
        return Err(Error::Plain(
            "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or \
             OPTOUT mode enabled",
        ));
    };
    match args.word().as_deref() {
        Some(b"YES") if mode.choice == Choice::OptIn => {}
        Some(b"YES") => {
            return Err(Error::Plain(
                "ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.",
            ));
        }
        Some(b"NO") if mode.choice == Choice::OptOut => {}
        Some(b"NO") => {
            return Err(Error::Plain(
                "ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.",
            ));
        }
        _ => return Err(Error::Syntax),
    }
    mode.is_chosen = true;
    reply.ok();
    Ok(())
}

/// Who gets the notices: -1 nobody, 0 the session itself.
fn redirection(session: &Session) -> i64 {
    let mode = session.tracking.as_ref();
    mode.map_or(-1, |mode| mode.redirect.unwrap_or(0) as i64)
}

fn getredir(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.int(redirection(ctx.session));
    Ok(())
}

fn trackinginfo(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let off = TrackingMode::default();
    let mode = ctx.session.tracking.as_deref();
    let (is_on, mode) = (mode.is_some(), mode.unwrap_or(&off));
    let flags = [
        (!is_on, "off"),
        (is_on, "on"),
        (mode.is_broadcast, "bcast"),
        (mode.choice == Choice::OptIn, "optin"),
        (mode.choice == Choice::OptIn && mode.is_chosen, "caching-yes"),
        (mode.choice == Choice::OptOut, "optout"),
        (mode.choice == Choice::OptOut && mode.is_chosen, "caching-no"),
        (mode.is_noloop, "noloop"),
        (mode.is_broken, "broken_redirect"),
    ];
    reply.map(3);
    reply.bulk(b"flags");
    reply.set(flags.iter().filter(|(is, _)| *is).count());
    for (_, name) in flags.iter().filter(|(is, _)| *is) {
        reply.bulk(name.as_bytes());
    }
    reply.bulk(b"redirect");
    reply.int(redirection(ctx.session));
    reply.bulk(b"prefixes");
    reply.array(mode.prefixes.len());
    mode.prefixes.iter().for_each(|prefix| reply.bulk(prefix));
    Ok(())
}
