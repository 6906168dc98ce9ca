//! What a directive is: the row type of the table, its builders, and how rows are found.
//!
//! A [`Slot`] is a row's place in the table. Names in code become slots at compile time
//! (`const { slot("maxclients") }`), so a misspelt directive does not build and a read costs one
//! load from an array.

use super::special::Special;
use super::table::DIRECTIVES;

/// What a directive may hold.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `yes` or `no`; the number is 1 or 0.
    Boolean,
    /// A decimal integer between two bounds. `unsigned` only changes the error for negative input.
    Integer {
        /// Smallest value taken.
        min: i64,
        /// Largest value taken.
        max: i64,
        /// The peer keeps it in an unsigned variable.
        unsigned: bool,
    },
    /// Bytes, with a unit (`64mb`) or without. Above `i64::MAX` the number wraps; read it as `u64`.
    Memory {
        /// Smallest value taken; below zero for the few that take a plain negative number.
        min: i64,
        /// Largest value taken.
        max: u64,
    },
    /// Bytes, or a percentage kept as a negative number.
    MemoryOrPercent,
    /// File permissions in octal.
    Octal {
        /// Largest value taken.
        max: i64,
    },
    /// One of these words; the number is its position.
    Choice(&'static [&'static str]),
    /// Some of these words; the number has the bit of each.
    Choices(&'static [&'static str]),
    /// Any bytes; the number is the length.
    Text,
    /// An existing directory, entered when set.
    Directory,
    /// Several words with a grammar of their own.
    Special(Special),
}

impl Kind {
    /// Whether the value is a list of words rather than one.
    pub const fn takes_many_words(&self) -> bool {
        matches!(self, Kind::Choices(_) | Kind::Special(_))
    }
}

/// What a directive means in this server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It has its effect.
    Real,
    /// It is accepted, kept and listed, and changes nothing; the note says why.
    Tuning,
    /// It promises what does not exist yet. Only these values, which promise nothing, are taken.
    Refused {
        /// The values that switch the promise off, in canonical text.
        off: &'static [&'static str],
    },
}

/// Where a directive's name comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// Redis 8.2 has it.
    Redis,
    /// Only Valkey 9.1 has it.
    Valkey,
    /// Only this server has it.
    Own,
}

/// One row of the table.
#[derive(Clone, Copy, Debug)]
pub struct Directive {
    /// The canonical name, lower case.
    pub name: &'static str,
    /// A second name that means the same.
    pub alias: Option<&'static str>,
    /// What it may hold.
    pub kind: Kind,
    /// What it holds when nobody says otherwise, in canonical text.
    pub default: &'static str,
    /// Whether CONFIG SET may change it.
    pub mutable: bool,
    /// Left out of CONFIG GET patterns; an exact name still finds it.
    pub hidden: bool,
    /// CONFIG SET needs `enable-protected-configs`.
    pub protected: bool,
    /// The value is a secret and stays out of logs.
    pub sensitive: bool,
    /// Who else knows it.
    pub origin: Origin,
    /// What it means here.
    pub standing: Standing,
    /// Why it is tuning or refused; empty for real ones.
    pub note: &'static str,
}

const fn row(name: &'static str, default: &'static str, kind: Kind) -> Directive {
    Directive {
        name,
        alias: None,
        kind,
        default,
        mutable: true,
        hidden: false,
        protected: false,
        sensitive: false,
        origin: Origin::Redis,
        standing: Standing::Real,
        note: "",
    }
}

/// A directive holding `yes` or `no`.
pub const fn boolean(name: &'static str, default: &'static str) -> Directive {
    row(name, default, Kind::Boolean)
}

/// A directive holding an integer between two bounds.
pub const fn integer(name: &'static str, default: &'static str, min: i64, max: i64) -> Directive {
    row(
        name,
        default,
        Kind::Integer {
            min,
            max,
            unsigned: false,
        },
    )
}

/// A directive holding bytes.
pub const fn memory(name: &'static str, default: &'static str, min: i64, max: u64) -> Directive {
    row(name, default, Kind::Memory { min, max })
}

/// A directive holding bytes or a percentage.
pub const fn memory_or_percent(name: &'static str, default: &'static str) -> Directive {
    row(name, default, Kind::MemoryOrPercent)
}

/// A directive holding file permissions.
pub const fn octal(name: &'static str, default: &'static str, max: i64) -> Directive {
    row(name, default, Kind::Octal { max })
}

/// A directive holding one of some words.
pub const fn choice(
    name: &'static str,
    default: &'static str,
    words: &'static [&'static str],
) -> Directive {
    row(name, default, Kind::Choice(words))
}

/// A directive holding several of some words.
pub const fn choices(
    name: &'static str,
    default: &'static str,
    words: &'static [&'static str],
) -> Directive {
    row(name, default, Kind::Choices(words))
}

/// A directive holding any bytes.
pub const fn text(name: &'static str, default: &'static str) -> Directive {
    row(name, default, Kind::Text)
}

/// A directive holding an existing directory.
pub const fn directory(name: &'static str, default: &'static str) -> Directive {
    row(name, default, Kind::Directory)
}

/// A directive with a grammar of its own.
pub const fn special(name: &'static str, default: &'static str, parse: Special) -> Directive {
    row(name, default, Kind::Special(parse))
}

impl Directive {
    /// Adds a second name.
    pub const fn alias(mut self, alias: &'static str) -> Directive {
        self.alias = Some(alias);
        self
    }

    /// Only the file and the command line may set it.
    pub const fn fixed(mut self) -> Directive {
        self.mutable = false;
        self
    }

    /// Leaves it out of CONFIG GET patterns.
    pub const fn hidden(mut self) -> Directive {
        self.hidden = true;
        self
    }

    /// Guards it by `enable-protected-configs`.
    pub const fn protected(mut self) -> Directive {
        self.protected = true;
        self
    }

    /// Marks the value as a secret.
    pub const fn sensitive(mut self) -> Directive {
        self.sensitive = true;
        self
    }

    /// Gives negative input the error of an unsigned variable.
    pub const fn unsigned(mut self) -> Directive {
        if let Kind::Integer { min, max, .. } = self.kind {
            self.kind = Kind::Integer {
                min,
                max,
                unsigned: true,
            };
        }
        self
    }

    /// The name comes from Valkey.
    pub const fn valkey(mut self) -> Directive {
        self.origin = Origin::Valkey;
        self
    }

    /// The name is this server's own.
    pub const fn own(mut self) -> Directive {
        self.origin = Origin::Own;
        self
    }

    /// Accepted without effect, for the reason given.
    pub const fn tuning(mut self, note: &'static str) -> Directive {
        self.standing = Standing::Tuning;
        self.note = note;
        self
    }

    /// Refused unless off, for the reason given.
    pub const fn refused(mut self, off: &'static [&'static str], note: &'static str) -> Directive {
        self.standing = Standing::Refused { off };
        self.note = note;
        self
    }
}

/// A directive's place in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot(pub(super) usize);

impl Slot {
    /// The row at this place.
    pub fn directive(self) -> &'static Directive {
        &DIRECTIVES[self.0]
    }

    /// Every place in the table, in order of names.
    pub fn all() -> impl Iterator<Item = Slot> {
        (0..DIRECTIVES.len()).map(Slot)
    }
}

/// The place of a directive by its canonical name. For use in `const { .. }`, where an unknown name
/// stops the build.
pub const fn slot(name: &str) -> Slot {
    let mut i = 0;
    while i < DIRECTIVES.len() {
        if same(DIRECTIVES[i].name.as_bytes(), name.as_bytes()) {
            return Slot(i);
        }
        i += 1;
    }
    panic!("no directive of this name")
}

const fn same(a: &[u8], b: &[u8]) -> bool {
    if a.len() != b.len() {
        return false;
    }
    let mut i = 0;
    while i < a.len() {
        if a[i] != b[i] {
            return false;
        }
        i += 1;
    }
    true
}

/// Finds a directive by name or alias in any case. O(number of directives).
pub fn find(name: &[u8]) -> Option<Slot> {
    let is = |known: &str| known.as_bytes().eq_ignore_ascii_case(name);
    DIRECTIVES
        .iter()
        .position(|d| is(d.name) || d.alias.is_some_and(is))
        .map(Slot)
}
