//! COMMAND: what the command table says, for clients and proxies.
//!
//! Everything is derived from the rows. DOCS, which shows arguments as a tree, is in `docs`.

mod docs;

use crate::command::keys::{Keys, behind_word};
use crate::command::traits::{CATEGORIES, KeyRun, META};
use crate::command::{Access, AdminCtx, Args, Category, Command, Commands, Flag, Kind};
use crate::error::{Error, Result};
use resp::reply::Reply;

/// The commands of this room.
pub const COMMANDS: &[Command] = &[Command::container("command", SUBCOMMANDS)
    .alone(&ALONE)
    .flags(META)
    .categories(CONNECTION)
    .tips(UNORDERED)
    .group("server")
    .about("2.8.13", "O(N) in the commands", "Describes the commands.")];

const CONNECTION: &[Category] = &[Category::Connection];
const UNORDERED: &[&str] = &["nondeterministic_output_order"];

const ALONE: Command = row("command", -1, all).tips(UNORDERED).about(
    "2.8.13",
    "O(N) in the commands",
    "Describes every command.",
);

const SUBCOMMANDS: &[Command] = &[
    row("command|count", 2, count).about("2.8.13", "O(1)", "Counts the commands."),
    row("command|docs", -2, docs::docs)
        .syntax("[command-name ...]")
        .tips(UNORDERED)
        .about("7.0.0", "O(N) in the commands", "Documents the given commands, or all."),
    row("command|getkeys", -3, getkeys)
        .syntax("command [arg ...]")
        .about("2.8.13", "O(N) in the arguments", "Returns the keys of a request."),
    row("command|getkeysandflags", -3, getkeysandflags)
        .syntax("command [arg ...]")
        .about("7.0.0", "O(N) in the arguments", "Returns the keys of a request and their uses."),
    Command::help("command|help").categories(CONNECTION),
    row("command|info", -2, info)
        .syntax("[command-name ...]")
        .tips(UNORDERED)
        .about("2.8.13", "O(N) in the commands", "Describes the given commands, or all."),
    row("command|list", -2, list)
        .syntax("[FILTERBY filterby(MODULE module-name|ACLCAT category|PATTERN pattern)]")
        .tips(UNORDERED)
        .about("7.0.0", "O(N) in the commands", "Lists the names of the commands."),
];

const fn row(
    name: &'static str,
    arity: i32,
    run: for<'a> fn(&mut AdminCtx<'a>, &mut Args<'_>, &mut Reply<'_>) -> Result<()>,
) -> Command {
    Command::admin(name, arity, run)
        .flags(META)
        .categories(CONNECTION)
}

/// All rows, by name.
fn sorted(commands: &Commands) -> Vec<&'static Command> {
    let mut rows: Vec<_> = commands.values().copied().collect();
    rows.sort_unstable_by_key(|row| row.name);
    rows
}

/// The row of a name as `config` or `config|get`, in any case, and the group it belongs to.
fn find(commands: &Commands, name: &[u8]) -> Option<(&'static Command, &'static str)> {
    let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
    let (container, _) = name.split_once('|').unwrap_or((&name, ""));
    let row = commands.get(container).copied()?;
    match container.len() == name.len() {
        true => Some((row, row.group)),
        false => {
            let found = row.subcommands().iter().find(|row| row.name == name);
            found.map(|found| (found, row.group))
        }
    }
}

fn all(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.array(ctx.commands.len());
    for row in sorted(ctx.commands) {
        describe(row, row.group, reply);
    }
    Ok(())
}

fn info(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if args.is_empty() {
        return all(ctx, args, reply);
    }
    reply.array(args.len());
    for name in args.rest() {
        match find(ctx.commands, name) {
            Some((row, group)) => describe(row, group, reply),
            None => reply.null(),
        }
    }
    Ok(())
}

fn count(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.count(ctx.commands.len());
    Ok(())
}

fn describe(row: &Command, group: &str, reply: &mut Reply<'_>) {
    let (first, last, step) = row.keys.fixed();
    reply.array(10);
    reply.bulk(row.name.as_bytes());
    reply.int(row.arity.into());
    simple_set(row.flag_names(), reply);
    reply.count(first);
    reply.int(last.into());
    reply.count(step);
    simple_set(row.category_names(group).map(|name| format!("@{name}")), reply);
    reply.set(row.tips.len());
    row.tips.iter().for_each(|tip| reply.bulk(tip.as_bytes()));
    let runs = row.key_runs();
    reply.set(runs.len());
    runs.iter()
        .for_each(|(run, access)| key_spec(*run, *access, reply));
    let subcommands = row.subcommands();
    match subcommands.len() {
        0 => reply.set(0),
        n => reply.array(n),
    }
    subcommands
        .iter()
        .for_each(|row| describe(row, group, reply));
}

fn simple_set<T: AsRef<str>>(names: impl Iterator<Item = T>, reply: &mut Reply<'_>) {
    let set = reply.set_later();
    let mut n = 0;
    for name in names {
        reply.simple(name.as_ref());
        n += 1;
    }
    reply.finish(set, n);
}

fn key_spec(run: KeyRun, access: Access, reply: &mut Reply<'_>) {
    let index = |at: usize| ("index", vec![("index", Fact::Number(at as i32))]);
    let keys = |kind, fields: [(&'static str, i32); 3]| {
        let fields = fields.map(|(name, value)| (name, Fact::Number(value)));
        (kind, fields.to_vec())
    };
    let range = |last, step: usize| {
        keys("range", [("lastkey", last), ("keystep", step as i32), ("limit", 0)])
    };
    let (begin, find) = match run {
        KeyRun::Range { first, last, step } => (index(first), range(last, step)),
        KeyRun::Counted { at, step } => {
            let fields = [("keynumidx", 0), ("firstkey", 1), ("keystep", step as i32)];
            (index(at), keys("keynum", fields))
        }
        KeyRun::Keyword { word, from } => {
            let from = Fact::Number(from as i32);
            let fields = vec![("keyword", Fact::Word(word)), ("startfrom", from)];
            (("keyword", fields), range(0, 1))
        }
        KeyRun::Tail { word } => {
            let fields = vec![
                ("keyword", Fact::Word(word)),
                ("startfrom", Fact::Number(-2)),
            ];
            (("keyword", fields), range(-1, 1))
        }
        KeyRun::Halved { word, from } => {
            let from = Fact::Number(from as i32);
            let fields = vec![("keyword", Fact::Word(word)), ("startfrom", from)];
            let halves = [("lastkey", -1), ("keystep", 1), ("limit", 2)];
            (("keyword", fields), keys("range", halves))
        }
        KeyRun::Unknown { .. } => (("unknown", Vec::new()), ("unknown", Vec::new())),
    };
    reply.map(3);
    reply.bulk(b"flags");
    simple_set(access.flags().iter(), reply);
    reply.bulk(b"begin_search");
    typed_spec(&begin, reply);
    reply.bulk(b"find_keys");
    typed_spec(&find, reply);
}

/// A value in a key specification.
#[derive(Clone, Copy)]
enum Fact {
    Number(i32),
    Word(&'static str),
}

fn typed_spec((kind, fields): &(&str, Vec<(&str, Fact)>), reply: &mut Reply<'_>) {
    reply.map(2);
    reply.bulk(b"type");
    reply.bulk(kind.as_bytes());
    reply.bulk(b"spec");
    reply.map(fields.len());
    for (name, fact) in fields {
        reply.bulk(name.as_bytes());
        match *fact {
            Fact::Number(value) => reply.int(value.into()),
            Fact::Word(word) => reply.bulk(word.as_bytes()),
        }
    }
}

/// What LIST lets through.
enum Filter<'a> {
    All,
    Nothing,
    Category(Category),
    Pattern(&'a [u8]),
}

impl<'a> Filter<'a> {
    fn parse(args: &mut Args<'a>) -> Result<Filter<'a>> {
        if args.is_empty() {
            return Ok(Filter::All);
        }
        if args.len() != 3 || !args.eat(b"FILTERBY") {
            return Err(Error::Syntax);
        }
        let kind = args.word();
        let value = args.take()?;
        match kind.as_deref() {
            Some(b"MODULE") => Ok(Filter::Nothing), // no command comes from a module
            Some(b"PATTERN") => Ok(Filter::Pattern(value)),
            Some(b"ACLCAT") => {
                let named = |name: &str| name.as_bytes().eq_ignore_ascii_case(value);
                let found = CATEGORIES.iter().find(|(_, name)| named(name));
                Ok(found.map_or(Filter::Nothing, |(category, _)| Filter::Category(*category)))
            }
            _ => Err(Error::Syntax),
        }
    }

    fn holds(&self, row: &Command, group: &str) -> bool {
        match self {
            Filter::All => true,
            Filter::Nothing => false,
            Filter::Category(category) => row.belongs_to(*category, group),
            Filter::Pattern(pattern) => stdx::glob::matches(pattern, row.name.as_bytes(), true),
        }
    }
}

fn list(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let filter = Filter::parse(args)?;
    let array = reply.array_later();
    let mut n = 0;
    for row in sorted(ctx.commands) {
        for one in std::iter::once(row).chain(row.subcommands()) {
            if filter.holds(one, row.group) {
                reply.bulk(one.name.as_bytes());
                n += 1;
            }
        }
    }
    reply.finish(array, n);
    Ok(())
}

fn getkeys(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let keys = keys_of(ctx, args)?;
    reply.array(keys.len());
    keys.iter().for_each(|(key, _)| reply.bulk(key));
    Ok(())
}

fn getkeysandflags(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let keys = keys_of(ctx, args)?;
    reply.array(keys.len());
    for (key, access) in keys {
        reply.array(2);
        reply.bulk(key);
        simple_set(access.flags().iter(), reply);
    }
    Ok(())
}

/// The keys of the request in `args`, each with its use.
fn keys_of<'a>(ctx: &AdminCtx<'_>, args: &mut Args<'a>) -> Result<Vec<(&'a [u8], Access)>> {
    let request: Vec<&[u8]> = args.rest().collect();
    let row =
        requested(ctx.commands, &request).ok_or(Error::Plain("ERR Invalid command specified"))?;
    let runs = row.key_runs();
    if row.keys == Keys::None || matches!(runs[..], [(_, Access::Channel)]) {
        return Err(Error::Plain("ERR The command has no key arguments"));
    }
    if !row.accepts(request.len()) {
        return Err(Error::Plain("ERR Invalid number of arguments specified for command"));
    }
    let mut keys = Vec::new();
    for (run, access) in runs {
        let access = match access {
            Access::Vary(decide) | Access::VaryDelete(decide) => decide(&request),
            other => other,
        };
        let found = keys_of_run(row.keys, run, &request)
            .or_else(|| row.has(Flag::NoMandatoryKeys).then(Vec::new))
            .ok_or(Error::Plain("ERR Invalid arguments specified for command"))?;
        keys.extend(found.into_iter().map(|key| (key, access)));
    }
    if keys.is_empty() && !row.has(Flag::NoMandatoryKeys) {
        return Err(Error::Plain("ERR Invalid arguments specified for command"));
    }
    Ok(keys)
}

/// The row of a request, by its first words.
fn requested(commands: &Commands, request: &[&[u8]]) -> Option<&'static Command> {
    let name = std::str::from_utf8(request.first()?).ok()?;
    let row = commands.get(&*name.to_ascii_lowercase()).copied()?;
    match (row.kind, request.get(1)) {
        (Kind::Container(rows), Some(name)) => rows
            .iter()
            .find(|row| row.short_name().as_bytes().eq_ignore_ascii_case(name)),
        _ => Some(row),
    }
}

/// The keys of one run; `None` if their number makes no sense.
fn keys_of_run<'a>(keys: Keys, run: KeyRun, request: &[&'a [u8]]) -> Option<Vec<&'a [u8]>> {
    match run {
        KeyRun::Range { .. } if matches!(keys, Keys::Tail { .. }) => {
            let mut all = Vec::new();
            keys.each(request, &mut |key| all.push(key));
            Some(all)
        }
        KeyRun::Tail { .. } => Some(Vec::new()), // found with the other
        KeyRun::Range { first, last, step } => {
            let end = match last < 0 {
                true => request.len().checked_sub(last.unsigned_abs() as usize)?,
                false => first + last as usize,
            };
            let keys = request.get(first..=end.min(request.len() - 1))?;
            Some(keys.iter().step_by(step).copied().collect())
        }
        KeyRun::Counted { at, step } => {
            let n = stdx::number::parse_i64(request.get(at)?)?;
            let n_words = usize::try_from(n).ok()?.checked_mul(step)?;
            let keys = request.get(at + 1..)?.get(..n_words)?;
            Some(keys.iter().step_by(step).copied().collect())
        }
        KeyRun::Halved { .. } => {
            let mut all = Vec::new();
            keys.each(request, &mut |key| all.push(key));
            Some(all)
        }
        KeyRun::Keyword { word, from } => {
            let Keys::Option { words, .. } = keys else {
                return None;
            };
            let found = behind_word(words, request, from).filter(|(other, _)| *other == word);
            Some(found.map(|(_, key)| key).into_iter().collect())
        }
        KeyRun::Unknown { is_stored } => {
            let mut all = Vec::new();
            keys.each(request, &mut |key| all.push(key));
            Some(all.split_off(if is_stored { 1 } else { all.len() }))
        }
    }
}
