//! ACL: users and what they may do. Who loses a permission loses his connection where he uses it.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use resp::reply::Reply;
use stdx::number::parse_i64;

use crate::acl::rules::joined_selectors;
use crate::acl::selector::{Selector, warning};
use crate::acl::{DEFAULT, User, file, is_valid_name};
use crate::command::lookup::resolve;
use crate::command::traits::ANYTIME;
use crate::command::{AdminCtx, Args, Command, Flag, lookup};
use crate::config::rewrite::replace;
use crate::error::{Error, Result, reason};
use crate::exec::permit::{refusal_text, verdict};
use crate::mailbox::{Address, Mail};
use crate::pubsub::Topic;
use crate::session::client::Client;
use crate::state::State;

const NO_FILE: &str = "ERR This Redis instance is not configured to use an ACL file. You may want to \
                       specify users via the ACL SETUSER command and then issue a CONFIG REWRITE \
                       (assuming you have a Redis configuration file set) in order to store users in \
                       the Redis configuration.";
/// Entries that ACL LOG answers when it is not told how many.
const LOG_ENTRIES: usize = 10;
/// Bits of a password that ACL GENPASS makes when it is not told how many.
const PASSWORD_BITS: i64 = 256;
const PASSWORD_BITS_MAX: i64 = 4096;

/// The family's table.
pub const COMMANDS: &[Command] = &[Command::container("acl", ACL).group("server").about(
    "6.0.0",
    "Depends on the subcommand",
    "Users and what they may do.",
)];

/// What the subcommands carry that show secrets or change users.
const GUARDED: &[Flag] = &[Flag::Admin, Flag::Loading, Flag::NoScript, Flag::Stale];

const ACL: &[Command] = &[
    Command::admin("acl|cat", -2, cat)
        .syntax("[category]")
        .flags(ANYTIME)
        .about("6.0.0", "O(1)", "Lists the categories, or the commands of one."),
    Command::admin("acl|deluser", -3, deluser)
        .syntax("username ...")
        .flags(GUARDED)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .about("6.0.0", "O(1)", "Deletes users and closes their connections."),
    Command::admin("acl|dryrun", -4, dryrun)
        .syntax("username command [arg ...]")
        .flags(GUARDED)
        .about("7.0.0", "O(1)", "Says whether a user might run a command."),
    Command::admin("acl|genpass", -2, genpass)
        .syntax("[bits]")
        .flags(ANYTIME)
        .about("6.0.0", "O(1)", "Makes a password by chance."),
    Command::admin("acl|getuser", 3, getuser)
        .syntax("username")
        .flags(GUARDED)
        .about("6.0.0", "O(N) in the user's rules", "Describes a user."),
    Command::help("acl|help").since("6.0.0"),
    Command::admin("acl|list", 2, list).flags(GUARDED).about(
        "6.0.0",
        "O(N) in the users",
        "Lists users as an ACL file has them.",
    ),
    Command::admin("acl|load", 2, load).flags(GUARDED).about(
        "6.0.0",
        "O(N) in the users",
        "Loads the users of the ACL file.",
    ),
    Command::admin("acl|log", -2, log)
        .syntax("[operation(count|RESET)]")
        .flags(GUARDED)
        .about("6.0.0", "O(N) in the entries", "Lists what was refused."),
    Command::admin("acl|save", 2, save)
        .flags(GUARDED)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .about("6.0.0", "O(N) in the users", "Writes the users into the ACL file."),
    Command::admin("acl|setuser", -3, setuser)
        .syntax("username [rule ...]")
        .flags(GUARDED)
        .tips(&["request_policy:all_nodes", "response_policy:all_succeeded"])
        .about("6.0.0", "O(N) in the rules", "Makes or changes a user."),
    Command::admin("acl|users", 2, users).flags(GUARDED).about(
        "6.0.0",
        "O(N) in the users",
        "Lists the names of the users.",
    ),
    Command::admin("acl|whoami", 2, whoami)
        .flags(ANYTIME)
        .about("6.0.0", "O(1)", "Answers the user of this connection."),
];

fn lossy(text: &[u8]) -> String {
    String::from_utf8_lossy(text).into_owned()
}

/// The error for arguments behind what a subcommand takes.
fn too_many(name: &str) -> Error {
    Error::Owned(format!(
        "ERR unknown subcommand or wrong number of arguments for '{name}'. Try ACL HELP."
    ))
}

fn cat(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let catalogue = ctx.state.acl.catalogue();
    if args.len() > 1 {
        return Err(too_many("CAT"));
    }
    let Some(name) = args.peek() else {
        let names = catalogue.category_names();
        reply.array(names.len());
        names.iter().for_each(|name| reply.bulk(name.as_bytes()));
        return Ok(());
    };
    args.take()?;
    let category = catalogue
        .category(name)
        .ok_or_else(|| Error::Owned(format!("ERR Unknown category '{}'", lossy(name))))?;
    let members: Vec<_> = catalogue.members(category).collect();
    reply.array(members.len());
    members
        .iter()
        .for_each(|(_, name)| reply.bulk(name.as_bytes()));
    Ok(())
}

fn whoami(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.bulk(ctx.session.user.name());
    Ok(())
}

fn users(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let all = ctx.state.acl.all();
    reply.array(all.len());
    all.iter().for_each(|user| reply.bulk(user.name()));
    Ok(())
}

fn list(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let all = ctx.state.acl.all();
    reply.array(all.len());
    all.iter().for_each(|user| reply.bulk(&user.line()));
    Ok(())
}

fn getuser(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let Some(user) = ctx.state.acl.get(args.take()?) else {
        reply.null();
        return Ok(());
    };
    let rules = user.rules();
    let shows_databases = rules.speaks_of_databases();
    reply.map(6 + usize::from(shows_databases));
    reply.bulk(b"flags");
    let flags = rules.flags();
    reply.set(flags.len());
    flags.iter().for_each(|flag| reply.bulk(flag.as_bytes()));
    reply.bulk(b"passwords");
    let hashes = rules.password_hashes();
    reply.array(hashes.len());
    hashes.iter().for_each(|hash| reply.bulk(hash.as_bytes()));
    let describe = |selector: &Selector, reply: &mut Reply<'_>| {
        reply.bulk(b"commands");
        reply.bulk(selector.command_text().as_bytes());
        reply.bulk(b"keys");
        reply.bulk(&selector.key_text());
        reply.bulk(b"channels");
        reply.bulk(&selector.channel_text());
        if shows_databases {
            reply.bulk(b"databases");
            reply.bulk(selector.database_text().as_bytes());
        }
    };
    let (own, others) = rules.selectors().split_at(1);
    own.iter().for_each(|selector| describe(selector, reply));
    reply.bulk(b"selectors");
    reply.array(others.len());
    for selector in others {
        reply.map(3 + usize::from(shows_databases));
        describe(selector, reply);
    }
    Ok(())
}

fn setuser(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let name = args.take()?;
    if !is_valid_name(name) {
        return Err(Error::Plain("ERR Usernames can't contain spaces or null characters"));
    }
    let given: Vec<&[u8]> = args.rest().collect();
    let rules = joined_selectors(&given).map_err(|opening| {
        let opening = lossy(&opening);
        Error::Owned(format!("ERR Unmatched parenthesis in acl selector starting at '{opening}'."))
    })?;
    let with_channels = ctx.state.config.channels_by_default();
    let set = ctx.state.acl.set(name, &rules, with_channels);
    let user = set.map_err(|(rule, error)| {
        Error::Owned(format!("ERR Error in ACL SETUSER modifier '{}': {error}", lossy(&rule)))
    })?;
    let warnings = rules
        .iter()
        .filter_map(|rule| warning(ctx.state.acl.catalogue(), rule));
    ctx.notes.extend(warnings);
    review(ctx, &[user]);
    reply.ok();
    Ok(())
}

/// Closes the connections of these users that listen to what they may not hear any more.
fn review(ctx: &mut AdminCtx<'_>, users: &[Arc<User>]) {
    let state = ctx.state;
    let is_theirs = |client: &Client| {
        let user = client.user.lock();
        users.iter().any(|one| Arc::ptr_eq(one, &user))
    };
    let mut clients = state.clients.all();
    clients.retain(|client| is_theirs(client));
    for topic in [Topic::Channel, Topic::Pattern, Topic::Shard] {
        let is_lost = |name: &[u8], address: Address| {
            let mut found = clients.iter().filter(|client| client.address == address);
            found.next().is_some_and(|client| {
                let rules = client.user.lock().rules();
                !rules.allows_channel(name, topic == Topic::Pattern)
            })
        };
        for address in state.pubsub.losers(topic, is_lost) {
            let mut found = clients.iter().filter(|client| client.address == address);
            found.by_ref().for_each(|client| close(ctx, client));
        }
    }
    // Who has passed the gate with the rules of before may subscribe just now.
    for client in &clients {
        let group = client.address.group.into();
        state.mailboxes.post(group, Mail::Review(client.address));
    }
}

/// Closes a connection; one's own when its reply is sent.
fn close(ctx: &mut AdminCtx<'_>, client: &Client) {
    if client.address == ctx.session.address() {
        ctx.session.is_closing = true;
        return;
    }
    client.is_killed.store(true, Relaxed);
    let mail = Mail::Kill(client.address);
    ctx.state.mailboxes.post(client.address.group.into(), mail);
}

/// Closes the connections of users that are gone.
fn expel(ctx: &mut AdminCtx<'_>, gone: &[Arc<User>]) {
    for client in ctx.state.clients.all() {
        let user = client.user.lock().clone();
        if gone.iter().any(|one| Arc::ptr_eq(one, &user)) {
            close(ctx, &client);
        }
    }
}

fn deluser(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let names: Vec<&[u8]> = args.rest().collect();
    if names.contains(&DEFAULT) {
        return Err(Error::Plain("ERR The 'default' user cannot be removed"));
    }
    let acl = &ctx.state.acl;
    let gone: Vec<_> = names.iter().filter_map(|name| acl.remove(name)).collect();
    expel(ctx, &gone);
    reply.count(gone.len());
    Ok(())
}

fn dryrun(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let name = args.take()?;
    let user = ctx
        .state
        .acl
        .get(name)
        .ok_or_else(|| Error::Owned(format!("ERR User '{}' not found", lossy(name))))?;
    let request: Vec<&[u8]> = args.rest().collect();
    let command = match resolve(ctx.commands, &request) {
        Ok((command, ..)) => command,
        Err(Error::Arity(name)) => return Err(Error::Arity(name)),
        Err(_) if lookup::find(ctx.commands, request[0]).is_some_and(|row| !row.is_container()) => {
            return Err(Error::Syntax);
        }
        Err(_) => {
            let name = lossy(request[0]);
            return Err(Error::Owned(format!("ERR Command '{name}' not found")));
        }
    };
    let present = ctx.session.present_database();
    match verdict((ctx.state, present), &user.rules(), command, &request) {
        Ok(()) => reply.ok(),
        Err(denied) => reply.bulk(refusal_text(&denied, &user, command, true).as_bytes()),
    }
    Ok(())
}

fn genpass(_: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if args.len() > 1 {
        return Err(too_many("GENPASS"));
    }
    let bits = if args.is_empty() {
        PASSWORD_BITS
    } else {
        args.int()?
    };
    if !(1..=PASSWORD_BITS_MAX).contains(&bits) {
        return Err(Error::Plain(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive \
             number up to 4096",
        ));
    }
    let n_digits = (bits as usize).div_ceil(4);
    let mut bytes = vec![0; n_digits.div_ceil(2)];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::Owned(format!("ERR no random numbers: {error}")))?;
    let mut text: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    text.truncate(n_digits);
    reply.bulk(text.as_bytes());
    Ok(())
}

fn log(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if args.len() > 1 {
        return Err(too_many("LOG"));
    }
    let mut count = LOG_ENTRIES;
    if let Some(word) = args.peek() {
        args.take()?;
        if word.eq_ignore_ascii_case(b"RESET") {
            ctx.state.acl.log.lock().reset();
            reply.ok();
            return Ok(());
        }
        let given = parse_i64(word).ok_or(Error::NotAnInteger)?;
        count = usize::try_from(given).unwrap_or(0);
    }
    let entries = ctx.state.acl.log.lock().newest(count);
    reply.array(entries.len());
    for entry in entries {
        let age_ms = ctx.now_ms.saturating_sub(entry.updated_ms);
        reply.map(10);
        reply.bulk(b"count");
        reply.int(entry.count as i64);
        reply.bulk(b"reason");
        reply.bulk(entry.refusal.reason.as_bytes());
        reply.bulk(b"context");
        reply.bulk(entry.refusal.context.as_bytes());
        reply.bulk(b"object");
        reply.bulk(&entry.refusal.object);
        reply.bulk(b"username");
        reply.bulk(&entry.refusal.username);
        reply.bulk(b"age-seconds");
        reply.double(age_ms as f64 / 1000.0);
        reply.bulk(b"client-info");
        reply.bulk(&entry.client_info);
        reply.bulk(b"entry-id");
        reply.int(entry.id as i64);
        reply.bulk(b"timestamp-created");
        reply.int(entry.created_ms as i64);
        reply.bulk(b"timestamp-last-updated");
        reply.int(entry.updated_ms as i64);
    }
    Ok(())
}

/// Puts the users of the ACL file in the place of all there are. Those that are gone; or all that is
/// wrong with the file.
pub fn load_file(state: &State) -> std::result::Result<Vec<Arc<User>>, String> {
    let Some(path) = state.config.acl_file() else {
        return Ok(Vec::new());
    };
    let text = std::fs::read(&path).map_err(|error| {
        format!("Error loading ACLs, opening file '{path}': {}", reason(&error))
    })?;
    let acl = &state.acl;
    let with_channels = state.config.channels_by_default();
    let users = file::parse(acl.catalogue(), &path, &text, with_channels)?;
    Ok(acl.replace(users))
}

fn load(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if ctx.state.config.acl_file().is_none() {
        return Err(Error::Plain(NO_FILE));
    }
    let gone = load_file(ctx.state).map_err(|errors| Error::Owned(format!("ERR {errors}")))?;
    expel(ctx, &gone);
    let users = ctx.state.acl.all();
    review(ctx, &users);
    reply.ok();
    Ok(())
}

fn save(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let path = ctx.state.config.acl_file().ok_or(Error::Plain(NO_FILE))?;
    let text = file::text(&ctx.state.acl.all());
    replace(path.as_ref(), &text).map_err(|error| {
        log::warn!("Saving ACLs into '{path}': {}", reason(&error));
        Error::Plain(
            "ERR There was an error trying to save the ACLs. Please check the server logs for more \
             information",
        )
    })?;
    reply.ok();
    Ok(())
}
