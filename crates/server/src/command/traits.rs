//! The vocabulary in which COMMAND describes a command: flags, categories, uses of a key.
//!
//! A row states only what does not follow from its kind, its group and its keys; the rest is
//! derived here, so that the two cannot contradict each other.

use stdx::number::parse_i64;

use super::{Channels, Command, Databases, Kind};
use crate::acl::Need;
use crate::command::keys::Keys;

/// What a command says about itself that does not follow from its kind and keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flag {
    /// For who runs the server.
    Admin,
    /// Allowed while a script is too busy.
    AllowBusy,
    /// Carries the permission to follow a slot that moves.
    Asking,
    /// May wait.
    Blocking,
    /// Allowed while the data set is loaded.
    Loading,
    /// Its effects may differ from the command itself.
    MayReplicate,
    /// Refused while a replica loads in the background.
    NoAsyncLoading,
    /// Its number of keys may be zero.
    NoMandatoryKeys,
    /// Refused in MULTI.
    NoMulti,
    /// Refused in scripts.
    NoScript,
    /// About channels.
    PubSub,
    /// Says no more than what is there, though its kind does not tell.
    ReadOnly,
    /// Not shown by MONITOR.
    SkipMonitor,
    /// Not noted in the slow log.
    SkipSlowlog,
    /// Allowed on a replica without its primary.
    Stale,
    /// Changes something that is journaled, though its kind does not tell.
    Write,
    /// For who works on the server itself; COMMAND does not show its subcommands.
    System,
    /// For who works on the server itself.
    Undocumented,
}

const FLAG_NAMES: &[(Flag, &str)] = &[
    (Flag::Write, "write"),
    (Flag::ReadOnly, "readonly"),
    (Flag::Admin, "admin"),
    (Flag::PubSub, "pubsub"),
    (Flag::NoScript, "noscript"),
    (Flag::Blocking, "blocking"),
    (Flag::Loading, "loading"),
    (Flag::Stale, "stale"),
    (Flag::SkipMonitor, "skip_monitor"),
    (Flag::SkipSlowlog, "skip_slowlog"),
    (Flag::Asking, "asking"),
    (Flag::MayReplicate, "may_replicate"),
    (Flag::NoAsyncLoading, "no_async_loading"),
    (Flag::NoMulti, "no_multi"),
    (Flag::NoMandatoryKeys, "no_mandatory_keys"),
    (Flag::AllowBusy, "allow_busy"),
];

/// What commands carry that only tell about the server.
pub const META: &[Flag] = &[Flag::Loading, Flag::Stale];
/// What commands carry that a session needs to get in and out, whatever the server is busy with.
pub const ALWAYS: &[Flag] = &[Flag::AllowBusy, Flag::Loading, Flag::NoScript, Flag::Stale];
/// What most commands about the connection or the server carry.
pub const ANYTIME: &[Flag] = &[Flag::Loading, Flag::NoScript, Flag::Stale];
/// What most commands for who runs the server carry.
pub const ADMIN: &[Flag] = &[Flag::Admin, Flag::Loading, Flag::NoScript, Flag::Stale];

/// What commands that may wait carry.
pub const BLOCKING: &[Flag] = &[Flag::Blocking];
/// What commands about channels carry.
pub const CHANNELS: &[Flag] = &[Flag::Loading, Flag::PubSub, Flag::Stale];

/// The categories of access control, in the order in which they are listed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the names say it all")]
pub enum Category {
    Keyspace,
    Read,
    Write,
    Set,
    SortedSet,
    List,
    Hash,
    String,
    Bitmap,
    HyperLogLog,
    Geo,
    Stream,
    PubSub,
    Admin,
    Fast,
    Slow,
    Blocking,
    Dangerous,
    Connection,
    Transaction,
    Scripting,
}

/// Every category with its name.
pub const CATEGORIES: &[(Category, &str)] = &[
    (Category::Keyspace, "keyspace"),
    (Category::Read, "read"),
    (Category::Write, "write"),
    (Category::Set, "set"),
    (Category::SortedSet, "sortedset"),
    (Category::List, "list"),
    (Category::Hash, "hash"),
    (Category::String, "string"),
    (Category::Bitmap, "bitmap"),
    (Category::HyperLogLog, "hyperloglog"),
    (Category::Geo, "geo"),
    (Category::Stream, "stream"),
    (Category::PubSub, "pubsub"),
    (Category::Admin, "admin"),
    (Category::Fast, "fast"),
    (Category::Slow, "slow"),
    (Category::Blocking, "blocking"),
    (Category::Dangerous, "dangerous"),
    (Category::Connection, "connection"),
    (Category::Transaction, "transaction"),
    (Category::Scripting, "scripting"),
];

/// The names of [`CATEGORIES`].
pub const CATEGORY_NAMES: &[&str] = &{
    let mut names = [""; CATEGORIES.len()];
    let mut at = 0;
    while at < names.len() {
        names[at] = CATEGORIES[at].1;
        at += 1;
    }
    names
};

/// What a command does with a key.
#[derive(Clone, Copy, Debug)]
pub enum Access {
    /// Answers from its value.
    Read,
    /// Answers from what is known about it: its type, its length.
    Look,
    /// Answers from the value, and may store it in another form.
    Refresh,
    /// Adds to the value what others hold, and answers from it.
    Unite,
    /// Changes the value according to what it was, or answers from it.
    Modify,
    /// [`Access::Modify`] at most; the whole request decides.
    Vary(fn(&[&[u8]]) -> Access),
    /// [`Access::Take`] at most; the whole request decides.
    VaryDelete(fn(&[&[u8]]) -> Access),
    /// Changes the value, whatever it was.
    Update,
    /// Adds to the value.
    Insert,
    /// Removes from the value and answers what was removed.
    Take,
    /// [`Access::Take`] of keys of which a client sees only some.
    TakeSome,
    /// Removes from the value.
    Remove,
    /// Replaces the value.
    Overwrite,
    /// Stores a value where none was.
    Create,
    /// Removes from the value, or changes it.
    Drop,
    /// Deletes the key.
    Delete,
    /// Names a channel: no key at all, but sent to the node of its slot.
    Channel,
}

impl Access {
    /// The flags of a key specification.
    pub fn flags(self) -> &'static [&'static str] {
        match self {
            Access::Read => &["RO", "access"],
            Access::Look => &["RO"],
            Access::Refresh => &["RW", "access"],
            Access::Unite => &["RW", "access", "insert"],
            Access::Modify => &["RW", "access", "update"],
            Access::Vary(_) => &["RW", "access", "update", "variable_flags"],
            Access::VaryDelete(_) => &["RW", "delete", "variable_flags"],
            Access::Update => &["RW", "update"],
            Access::Insert => &["RW", "insert"],
            Access::Take => &["RW", "access", "delete"],
            Access::TakeSome => &["RW", "access", "delete", "incomplete"],
            Access::Remove => &["RW", "delete"],
            Access::Drop => &["RW", "update", "delete"],
            Access::Overwrite => &["OW", "update"],
            Access::Create => &["OW", "insert"],
            Access::Delete => &["RM", "delete"],
            Access::Channel => &["not_key"],
        }
    }
}

impl Access {
    /// What access control asks of it; `None` if it is no key.
    fn need(self, request: &[&[u8]]) -> Option<Need> {
        Some(match self {
            Access::Vary(decide) | Access::VaryDelete(decide) => {
                return decide(request).need(request);
            }
            Access::Channel => return None,
            Access::Look => Need::NONE,
            Access::Read | Access::Refresh => Need::READ,
            Access::Unite | Access::Modify | Access::Take | Access::TakeSome => Need::BOTH,
            Access::Update
            | Access::Insert
            | Access::Remove
            | Access::Drop
            | Access::Overwrite
            | Access::Create
            | Access::Delete => Need::WRITE,
        })
    }
}

impl Command {
    /// Visits the keys of a request, exactly those that are locked for it, with what is done with each.
    pub fn each_need(&self, request: &[&[u8]], visit: &mut dyn FnMut(&[u8], Need)) {
        let default = if self.is_write() {
            Access::Modify
        } else {
            Access::Read
        };
        let first = self.access.unwrap_or(default);
        let others = match (self.second_access, self.keys) {
            (Some(access), _) => access,
            (None, Keys::Range { .. } | Keys::Counted { first: None, .. }) => first,
            (None, _) => Access::Read,
        };
        let mut access = first;
        self.keys.each(request, &mut |key| {
            if let Some(need) = access.need(request) {
                visit(key, need);
            }
            access = others;
        });
    }

    /// Whether somebody is told if a key that is needed for this is not there.
    #[cold]
    pub fn tells_miss(&self, need: Need) -> bool {
        const READERS: &[&str] = &["bitfield", "getdel", "getex", "getset", "pfmerge", "set"];
        match self.kind {
            Kind::Write(_) if need == Need::READ => true,
            Kind::Write(_) if need == Need::BOTH => READERS.contains(&self.name),
            Kind::Write(_) => self.name == "xack",
            _ => !self.name.starts_with("object|") && self.name != "memory|usage",
        }
    }

    /// Visits the databases that a request is about, each with the place of the word that names it.
    pub fn each_database(
        &self,
        request: &[&[u8]],
        (present, n_databases): (u16, u16),
        visit: &mut dyn FnMut(usize, u16),
    ) {
        let has_keys = !matches!(self.keys, Keys::None);
        match self.databases {
            Databases::All => (0..n_databases).for_each(|number| visit(0, number)),
            Databases::Named(places) => {
                places(request, &mut |at| {
                    let number = request.get(at).and_then(|word| parse_i64(word));
                    let number = number.and_then(|number| u16::try_from(number).ok());
                    // What is no database is an error that its handler tells.
                    if let Some(number) = number.filter(|number| *number < n_databases) {
                        visit(at, number);
                    }
                });
                if has_keys {
                    visit(0, present);
                }
            }
            Databases::Present => {
                let is_about_keys = has_keys
                    || self.is_read()
                    || self.is_write()
                    || self.categories.contains(&Category::Keyspace)
                    || category_of(self.group) == Some(Category::Keyspace);
                if is_about_keys {
                    visit(0, present);
                }
            }
        }
    }

    /// The channels of a request.
    pub fn channels_of<'a, 'b>(&self, request: &'b [&'a [u8]]) -> &'b [&'a [u8]] {
        match self.channels {
            Channels::None => &[],
            Channels::One => request.get(1..2).unwrap_or_default(),
            Channels::All | Channels::Patterns => request.get(1..).unwrap_or_default(),
        }
    }

    /// Whether the row carries `flag`.
    pub fn has(&self, flag: Flag) -> bool {
        self.flags.contains(&flag)
    }

    /// The names of its flags, as COMMAND lists them.
    pub fn flag_names(&self) -> impl Iterator<Item = &'static str> {
        let derived = [
            (self.is_write(), "write"),
            (self.is_read(), "readonly"),
            (self.needs_memory, "denyoom"),
            (self.is_fast, "fast"),
            (self.needs_no_auth, "no_auth"),
            (self.keys.are_movable(), "movablekeys"),
        ];
        let stated = FLAG_NAMES
            .iter()
            .map(|(flag, name)| (self.has(*flag), *name));
        derived
            .into_iter()
            .chain(stated)
            .filter_map(|(holds, name)| holds.then_some(name))
    }

    /// Its category of access control, by name.
    pub fn category_names(&self, group: &str) -> impl Iterator<Item = &'static str> {
        let group = group.to_owned();
        let named = CATEGORIES
            .iter()
            .filter(move |(category, _)| self.belongs_to(*category, &group));
        named.map(|(_, name)| *name)
    }

    /// Whether it belongs to `category`; `group` is its own or its container's.
    pub fn belongs_to(&self, category: Category, group: &str) -> bool {
        let holds = match category {
            Category::Read => self.is_read() && group != "scripting",
            Category::Write => self.is_write(),
            Category::Admin | Category::Dangerous => self.has(Flag::Admin),
            Category::PubSub => self.has(Flag::PubSub),
            Category::Fast => self.is_fast,
            Category::Slow => !self.is_fast,
            Category::Blocking => self.has(Flag::Blocking),
            // What is about the values of some types is not about keys.
            Category::Keyspace if self.categories.contains(&Category::List) => false,
            _ => !self.is_container() && category_of(group) == Some(category),
        };
        holds || self.categories.contains(&category)
    }

    /// Whether it only looks at keys.
    pub fn is_read(&self) -> bool {
        match self.kind {
            Kind::Read(_) => true,
            Kind::Write(_) => self.has(Flag::ReadOnly),
            _ => false,
        }
    }

    /// Whether it changes keys.
    pub fn is_write(&self) -> bool {
        matches!(self.kind, Kind::Write(_)) && !self.has(Flag::ReadOnly)
    }

    /// Whether it has subcommands.
    pub fn is_container(&self) -> bool {
        matches!(self.kind, Kind::Container(_))
    }

    /// Its subcommands, if COMMAND shows them.
    pub fn subcommands(&self) -> &'static [Command] {
        match self.kind {
            Kind::Container(rows) if !self.has(Flag::System) => rows,
            _ => &[],
        }
    }

    /// The last part of its name.
    pub fn short_name(&self) -> &'static str {
        self.name.rsplit('|').next().unwrap_or(self.name)
    }

    /// What it does with each run of keys, and where the run is: see [`KeyRun`].
    pub fn key_runs(&self) -> Vec<(KeyRun, Access)> {
        let default = if self.is_write() {
            Access::Modify
        } else {
            Access::Read
        };
        let first_access = self.access.unwrap_or(default);
        let second_access = self.second_access.unwrap_or(Access::Read);
        let run = |first, last, step| KeyRun::Range { first, last, step };
        match (self.keys, self.second_access) {
            (Keys::None, _) => Vec::new(),
            (Keys::Range { first, last, step }, None) => {
                let last = if last < 0 { last } else { last - first as i32 };
                vec![(run(first, last, step), first_access)]
            }
            (Keys::Range { first, last, step }, Some(second)) => {
                let next = first + step;
                let last = if last < 0 { last } else { last - next as i32 };
                vec![
                    (run(first, 0, 1), first_access),
                    (run(next, last, step), second),
                ]
            }
            (
                Keys::Counted {
                    first: None,
                    at,
                    step,
                },
                _,
            ) => vec![(KeyRun::Counted { at, step }, first_access)],
            (
                Keys::Counted {
                    first: Some(first),
                    at,
                    step,
                },
                _,
            ) => {
                vec![
                    (run(first, 0, 1), first_access),
                    (KeyRun::Counted { at, step }, second_access),
                ]
            }
            (Keys::Halved { word, from }, _) => {
                vec![(KeyRun::Halved { word, from }, first_access)]
            }
            (Keys::Stored { first, .. }, destination) => {
                let mut runs = vec![
                    (run(first, 0, 1), first_access),
                    (KeyRun::Unknown { is_stored: false }, first_access),
                ];
                let destination = destination.map(|access| {
                    let run = KeyRun::Unknown { is_stored: true };
                    (run, access)
                });
                runs.extend(destination);
                runs
            }
            (Keys::Tail { at, word, .. }, _) => vec![
                (run(at, 0, 1), first_access),
                (KeyRun::Tail { word }, second_access),
            ],
            (Keys::Option { words, from }, _) => {
                let behind = words.iter().map(|word| {
                    let run = KeyRun::Keyword { word, from };
                    (run, second_access)
                });
                std::iter::once((run(1, 0, 1), first_access))
                    .chain(behind)
                    .collect()
            }
        }
    }
}

/// A run of keys as key specifications put it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyRun {
    /// From `first`; `last` counts from there, or from the end when negative.
    Range {
        /// Where the first key is.
        first: usize,
        /// The last key, relative to the first.
        last: i32,
        /// From one key to the next.
        step: usize,
    },
    /// Behind their number.
    Counted {
        /// Where the number is.
        at: usize,
        /// From one key to the next.
        step: usize,
    },
    /// The first half of what follows a word.
    Halved {
        /// The word, in capitals.
        word: &'static str,
        /// The first place where it may be.
        from: usize,
    },
    /// Behind a word.
    Keyword {
        /// The word.
        word: &'static str,
        /// Where it may begin.
        from: usize,
    },
    /// Behind a word, up to the end.
    Tail {
        /// The word.
        word: &'static str,
    },
    /// Where only the command itself knows.
    Unknown {
        /// It is the destination behind `STORE`, not keys that patterns make.
        is_stored: bool,
    },
}

/// The category that a group of commands has for itself.
fn category_of(group: &str) -> Option<Category> {
    Some(match group {
        "generic" => Category::Keyspace,
        "string" => Category::String,
        "list" => Category::List,
        "set" => Category::Set,
        "sorted-set" => Category::SortedSet,
        "hash" => Category::Hash,
        "bitmap" => Category::Bitmap,
        "hyperloglog" => Category::HyperLogLog,
        "geo" => Category::Geo,
        "stream" => Category::Stream,
        "connection" => Category::Connection,
        "transactions" => Category::Transaction,
        "scripting" => Category::Scripting,
        _ => return None,
    })
}
