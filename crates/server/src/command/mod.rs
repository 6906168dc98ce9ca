//! What a command is: its row in a family's table, its arguments, its context, its effects.

pub mod args;
pub mod context;
pub mod event;
pub mod grammar;
pub mod help;
pub mod keys;
pub mod lookup;
pub mod syntax;
pub mod table;
pub mod traits;

pub use args::{Args, Word};
pub use context::{AdminCtx, ReadCtx, WriteCtx};
pub use traits::{Access, Category, Flag};

use crate::error::Result;
use crate::session::queue::Needs;
use crate::state::State;
use keys::Keys;
use lua::script::ScriptFlags;
use resp::reply::Reply;
use std::borrow::Cow;

/// Every command by the lower-case name that it has in this server.
pub type Commands = hashbrown::HashMap<Cow<'static, str>, &'static Command>;

/// What a command may do; decides which context its handler gets.
#[derive(Clone, Copy)]
pub enum Kind {
    /// Looks at keys.
    Read(for<'a> fn(&mut ReadCtx<'a>, &mut Args<'_>, &mut Reply<'_>) -> Result<()>),
    /// Changes keys.
    Write(for<'a> fn(&mut WriteCtx<'a>, &mut Args<'_>, &mut Reply<'_>) -> Result<()>),
    /// Touches no keys: the connection or the server.
    Admin(for<'a> fn(&mut AdminCtx<'a>, &mut Args<'_>, &mut Reply<'_>) -> Result<()>),
    /// Has subcommands.
    Container(&'static [Command]),
}

/// How far a command reaches beyond its keys.
#[derive(Clone, Copy, Debug)]
pub enum Reach {
    /// Its declared keys.
    Keys,
    /// The whole database, one shard at a time.
    Keyspace,
    /// Anything, atomically.
    Transaction,
    /// What the request says.
    Vary(fn(&[&[u8]]) -> Reach),
}

/// An error for a request.
pub type Objection = fn(&[&[u8]]) -> Option<&'static str>;

/// What the script of a request says of itself, if it says anything.
pub type Declaration = fn(&State, &[&[u8]]) -> Option<ScriptFlags>;

/// Which arguments of a command are channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Channels {
    /// None.
    None,
    /// The first.
    One,
    /// All.
    All,
    /// All, and they are patterns.
    Patterns,
}

/// Visits places in a request.
pub type Places = fn(&[&[u8]], &mut dyn FnMut(usize));

/// Which databases a request is about.
#[derive(Clone, Copy, Debug)]
pub enum Databases {
    /// The present one, if it is about keys at all.
    Present,
    /// All.
    All,
    /// Those that words name, whose places are visited; the present one, too, if there are keys.
    Named(Places),
}

/// One row of a family's table.
#[derive(Clone, Copy)]
pub struct Command {
    /// Lower-case name; of a subcommand the whole of it, as `config|get`.
    pub name: &'static str,
    /// Its place in the statistics; given by [`table::Table`].
    pub number: u16,
    /// Arguments with the names, at least that many when negative.
    pub arity: i32,
    /// See [`Kind`].
    pub kind: Kind,
    /// Where its keys are.
    pub keys: Keys,
    /// Which argument names an element of its first key's value, perhaps one of several; 0 if none does.
    pub element: usize,
    /// See [`Reach`].
    pub reach: Reach,
    /// What it does with its keys; [`Access::Read`] or [`Access::Modify`] if not said.
    pub access: Option<Access>,
    /// What it does with the keys after the first, if that differs.
    pub second_access: Option<Access>,
    /// Where the channels are that it listens to or speaks on.
    pub channels: Channels,
    /// Which databases it is about.
    pub databases: Databases,
    /// What a request reads beyond its keys: the error for who may not read all keys.
    pub reads_beyond: Option<Objection>,
    /// What the script that a request runs says of itself.
    pub declares: Option<Declaration>,
    /// The grammar of its arguments: see [`syntax`].
    pub syntax: &'static str,
    /// Constant or logarithmic time.
    pub is_fast: bool,
    /// Takes about as long as its reply is.
    pub is_as_long_as_reply: bool,
    /// May need memory.
    pub needs_memory: bool,
    /// Allowed before AUTH.
    pub needs_no_auth: bool,
    /// Looking at a key does not count as an access.
    pub leaves_clock: bool,
    /// Runs at once between MULTI and EXEC instead of being queued.
    pub is_immediate: bool,
    /// While it waits, it wants to know that a key has gone or is of another type: see [`exec`].
    ///
    /// [`exec`]: crate::exec
    pub heeds_loss: bool,
    /// Allowed to RESP2 sessions that are subscribed to something.
    pub is_for_subscribers: bool,
    /// Properties that do not follow from the rest.
    pub flags: &'static [Flag],
    /// Categories of access control that do not follow from the rest.
    pub categories: &'static [Category],
    /// Hints for clients and proxies.
    pub tips: &'static [&'static str],
    /// Since which version it is deprecated, and by what it is replaced.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// What a container does when no subcommand is named.
    pub alone: Option<&'static Command>,
    /// The family, as COMMAND DOCS names it; a subcommand has its container's.
    pub group: &'static str,
    /// First version, complexity, one-line summary.
    pub about: (&'static str, &'static str, &'static str),
}

impl Command {
    const fn new(name: &'static str, arity: i32, kind: Kind) -> Command {
        Command {
            name,
            number: 0,
            arity,
            kind,
            keys: Keys::None,
            element: 0,
            reach: Reach::Keys,
            access: None,
            second_access: None,
            channels: Channels::None,
            databases: Databases::Present,
            reads_beyond: None,
            declares: None,
            syntax: "",
            is_fast: false,
            is_as_long_as_reply: false,
            needs_memory: false,
            needs_no_auth: false,
            leaves_clock: false,
            is_immediate: false,
            heeds_loss: false,
            is_for_subscribers: false,
            flags: &[],
            categories: &[],
            tips: &[],
            deprecated: None,
            alone: None,
            group: "",
            about: ("", "", ""),
        }
    }

    /// A command that looks at keys.
    pub const fn read(
        name: &'static str,
        arity: i32,
        run: for<'a> fn(&mut ReadCtx<'a>, &mut Args<'_>, &mut Reply<'_>) -> Result<()>,
    ) -> Command {
        Command::new(name, arity, Kind::Read(run))
    }

    /// A command that changes keys.
    pub const fn write(
        name: &'static str,
        arity: i32,
        run: for<'a> fn(&mut WriteCtx<'a>, &mut Args<'_>, &mut Reply<'_>) -> Result<()>,
    ) -> Command {
        Command::new(name, arity, Kind::Write(run))
    }

    /// A command about the connection or the server.
    pub const fn admin(
        name: &'static str,
        arity: i32,
        run: for<'a> fn(&mut AdminCtx<'a>, &mut Args<'_>, &mut Reply<'_>) -> Result<()>,
    ) -> Command {
        Command::new(name, arity, Kind::Admin(run))
    }

    /// A command with subcommands.
    pub const fn container(name: &'static str, subcommands: &'static [Command]) -> Command {
        Command::new(name, -2, Kind::Container(subcommands))
    }

    /// The HELP of a container.
    pub const fn help(name: &'static str) -> Command {
        Command::admin(name, 2, help::help)
            .flags(traits::META)
            .about("5.0.0", "O(1)", "Prints this help.")
    }

    /// Since which version it exists.
    pub const fn since(mut self, version: &'static str) -> Command {
        self.about.0 = version;
        self
    }

    /// The arguments' grammar.
    pub const fn syntax(mut self, syntax: &'static str) -> Command {
        self.syntax = syntax;
        self
    }

    /// One key, at this position.
    pub const fn key(mut self, at: usize) -> Command {
        self.keys = Keys::Range {
            first: at,
            last: at as i32,
            step: 1,
        };
        self
    }

    /// Keys from `first` to `last` (negative counts from the end), every `step`.
    pub const fn keys(mut self, first: usize, last: i32, step: usize) -> Command {
        self.keys = Keys::Range { first, last, step };
        self
    }

    /// A key at `at`, or those behind a word at the end if that one is empty; of options in between, how
    /// many arguments they have.
    pub const fn key_or_tail(
        mut self,
        at: usize,
        word: &'static str,
        options: &'static [(&'static str, usize)],
    ) -> Command {
        self.keys = Keys::Tail { at, word, options };
        self
    }

    /// Keys behind their number, which is at `at`.
    pub const fn numkeys(mut self, at: usize) -> Command {
        self.keys = Keys::Counted {
            first: None,
            at,
            step: 1,
        };
        self
    }

    /// Keys in the first half of what follows a word, which comes at `from` or later.
    pub const fn keys_halved(mut self, word: &'static str, from: usize) -> Command {
        self.keys = Keys::Halved { word, from };
        self
    }

    /// Keys with their values behind the number of the pairs, which is at `at`.
    pub const fn numpairs(mut self, at: usize) -> Command {
        self.keys = Keys::Counted {
            first: None,
            at,
            step: 2,
        };
        self
    }

    /// A key at `first`, and one behind the option `STORE`; of other options, how many arguments
    /// they have.
    pub const fn key_and_stored(
        mut self,
        first: usize,
        options: &'static [(&'static str, usize)],
    ) -> Command {
        self.keys = Keys::Stored { first, options };
        self
    }

    /// A key as the first argument, and one behind the last of some words at `from` or later.
    pub const fn key_and_option(mut self, words: &'static [&'static str], from: usize) -> Command {
        self.keys = Keys::Option { words, from };
        self
    }

    /// A key at `first`, and more behind their number at `at`.
    pub const fn keys_and_numkeys(mut self, first: usize, at: usize) -> Command {
        self.keys = Keys::Counted {
            first: Some(first),
            at,
            step: 1,
        };
        self
    }

    /// Looks the argument at `at` up in its key's value.
    pub const fn element(mut self, at: usize) -> Command {
        self.element = at;
        self
    }

    /// Constant or logarithmic time.
    pub const fn fast(mut self) -> Command {
        self.is_fast = true;
        self
    }

    /// Takes about as long as its reply is.
    pub const fn as_long_as_reply(mut self) -> Command {
        self.is_as_long_as_reply = true;
        self
    }

    /// May need memory.
    pub const fn deny_oom(mut self) -> Command {
        self.needs_memory = true;
        self
    }

    /// Goes over the whole database, one shard at a time.
    pub const fn whole_keyspace(mut self) -> Command {
        self.reach = Reach::Keyspace;
        self
    }

    /// Touches what it has not declared, atomically.
    pub const fn transaction(mut self) -> Command {
        self.reach = Reach::Transaction;
        self
    }

    /// Reaches as far as its request says.
    pub const fn reach(mut self, reach: fn(&[&[u8]]) -> Reach) -> Command {
        self.reach = Reach::Vary(reach);
        self
    }

    /// How far a request reaches: never [`Reach::Vary`].
    #[inline]
    pub fn reach_of(&self, request: &[&[u8]]) -> Reach {
        match self.reach {
            Reach::Vary(decide) => decide(request),
            reach => reach,
        }
    }

    /// Allowed before AUTH.
    pub const fn no_auth(mut self) -> Command {
        self.needs_no_auth = true;
        self
    }

    /// Looking at a key does not count as an access, as OBJECT IDLETIME tells.
    pub const fn no_touch(mut self) -> Command {
        self.leaves_clock = true;
        self
    }

    /// Runs at once between MULTI and EXEC instead of being queued.
    pub const fn immediate(mut self) -> Command {
        self.is_immediate = true;
        self
    }

    /// While it waits, it wants to know that a key has gone or is of another type.
    pub const fn heeds_loss(mut self) -> Command {
        self.heeds_loss = true;
        self
    }

    /// Allowed to RESP2 sessions that are subscribed to something.
    pub const fn for_subscribers(mut self) -> Command {
        self.is_for_subscribers = true;
        self
    }

    /// What it does with its keys.
    pub const fn access(mut self, access: Access) -> Command {
        self.access = Some(access);
        self
    }

    /// What it does with its first key, and with the others.
    pub const fn accesses(mut self, first: Access, others: Access) -> Command {
        self.access = Some(first);
        self.second_access = Some(others);
        self
    }

    /// What the script that a request runs says of itself.
    pub const fn declares(mut self, declares: Declaration) -> Command {
        self.declares = Some(declares);
        self
    }

    /// Where the channels are that it listens to or speaks on.
    pub const fn channels(mut self, channels: Channels) -> Command {
        self.channels = channels;
        self
    }

    /// Which databases it is about.
    pub const fn databases(mut self, databases: Databases) -> Command {
        self.databases = databases;
        self
    }

    /// What a request reads beyond its keys: the error for who may not read all keys.
    pub const fn reads_beyond(mut self, error: Objection) -> Command {
        self.reads_beyond = Some(error);
        self
    }

    /// Properties that do not follow from the rest.
    pub const fn flags(mut self, flags: &'static [Flag]) -> Command {
        self.flags = flags;
        self
    }

    /// Categories of access control that do not follow from the rest.
    pub const fn categories(mut self, categories: &'static [Category]) -> Command {
        self.categories = categories;
        self
    }

    /// Hints for clients and proxies.
    pub const fn tips(mut self, tips: &'static [&'static str]) -> Command {
        self.tips = tips;
        self
    }

    /// Deprecated since a version, and replaced by something.
    pub const fn deprecated(mut self, since: &'static str, replaced_by: &'static str) -> Command {
        self.deprecated = Some((since, replaced_by));
        self
    }

    /// What a container does when no subcommand is named.
    pub const fn alone(mut self, row: &'static Command) -> Command {
        self.alone = Some(row);
        self.arity = -1;
        self
    }

    /// The family.
    pub const fn group(mut self, group: &'static str) -> Command {
        self.group = group;
        self
    }

    /// First version, complexity, summary.
    pub const fn about(
        mut self,
        since: &'static str,
        complexity: &'static str,
        summary: &'static str,
    ) -> Command {
        self.about = (since, complexity, summary);
        self
    }

    /// Whether it takes about as long as any other: small requests with small replies do.
    #[inline]
    pub fn is_quick(&self) -> bool {
        self.is_fast || self.is_as_long_as_reply || self.about.1 == "O(1)"
    }

    /// What a request needs. FUNCTION LOAD writes, and a script that says anything of itself does
    /// unless it says otherwise.
    #[inline]
    pub fn needs(&self, state: &State, request: &[&[u8]]) -> Needs {
        match self.declares.and_then(|declares| declares(state, request)) {
            None => Needs {
                writing: self.is_write() || self.has(Flag::Write),
                memory: self.needs_memory,
                fresh_data: !self.has(Flag::Stale),
            },
            Some(flags) => Needs {
                writing: !flags.no_writes,
                memory: !flags.no_writes && !flags.allow_oom,
                fresh_data: !flags.allow_stale,
            },
        }
    }

    /// Whether `n` arguments, the names included, are a right number.
    #[inline]
    pub fn accepts(&self, n: usize) -> bool {
        let n = n as i64;
        let arity = i64::from(self.arity);
        if arity >= 0 { n == arity } else { n >= -arity }
    }
}
