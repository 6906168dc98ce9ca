//! Configuration: what may be set ([`table`]), what is set ([`Config`]), and where it comes from
//! and goes to ([`file`], [`rewrite`]).
//!
//! A [`Config`] holds one value per directive: a number in an atomic, which any thread reads without
//! a lock, and its canonical text behind a lock, which only CONFIG and start-up read. It knows the
//! grammar of values, bounds and standing, and nothing of sockets or the keyspace: what a change
//! means to the rest of the server is told to it by the caller of [`Config::set`].

pub mod directive;
pub mod file;
pub mod live;
pub mod notify;
pub mod process;
pub mod rewrite;
pub mod special;
pub mod table;
pub mod value;
pub mod words;

#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use crate::error::reason;
use directive::{Directive, Kind, Slot, find, slot};
use table::DIRECTIVES;
use value::Value;

/// Every directive's present value.
pub struct Config {
    numbers: Box<[AtomicI64]>,
    texts: RwLock<Box<[Cow<'static, [u8]>]>>,
    /// Which were set, be it to what they were.
    given: Box<[AtomicBool]>,
    /// `client-output-buffer-limit` taken apart: hard, soft, seconds of each class.
    output_limits: [AtomicU64; 9],
    /// Changes so far.
    generation: AtomicU64,
    /// The file it was read from, absolute; what CONFIG REWRITE writes.
    file: Option<PathBuf>,
    /// Held by a CONFIG SET or REWRITE while it works, so that they do not mix.
    changing: Mutex<()>,
}

/// Why CONFIG SET or REWRITE failed; displays as the error line without its dash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigError {
    /// No directive has this name.
    Unknown {
        /// The name as it was given.
        name: Vec<u8>,
    },
    /// A directive could not be set.
    Failed {
        /// The name as it was given.
        name: Vec<u8>,
        /// What was wrong.
        reason: String,
    },
    /// There is no file to rewrite.
    NoFile,
    /// The file could not be rewritten.
    Rewrite {
        /// The system's reason.
        reason: String,
    },
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ConfigError::Unknown { name } => {
                let name = String::from_utf8_lossy(name);
                write!(f, "ERR Unknown option or number of arguments for CONFIG SET - '{name}'")
            }
            ConfigError::Failed { name, reason } => {
                let name = String::from_utf8_lossy(name);
                write!(
                    f,
                    "ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}"
                )
            }
            ConfigError::NoFile => f.write_str("ERR The server is running without a config file"),
            ConfigError::Rewrite { reason } => {
                write!(f, "ERR Rewriting config file: {reason}")
            }
        }
    }
}

impl Default for Config {
    fn default() -> Config {
        Config::new()
    }
}

impl Config {
    /// All defaults, no file.
    pub fn new() -> Config {
        let config = Config {
            numbers: DIRECTIVES.iter().map(|_| AtomicI64::new(0)).collect(),
            texts: RwLock::new(DIRECTIVES.iter().map(|_| Cow::Borrowed(&b""[..])).collect()),
            given: DIRECTIVES.iter().map(|_| AtomicBool::new(false)).collect(),
            output_limits: Default::default(),
            generation: AtomicU64::new(0),
            file: None,
            changing: Mutex::new(()),
        };
        for slot in Slot::all() {
            let directive = slot.directive();
            let value = initial(directive);
            config.store(slot, value);
        }
        config
    }

    /// Remembers the file the values came from. The path must be absolute.
    pub fn set_file(&mut self, path: PathBuf) {
        self.file = Some(path);
    }

    /// The file the values came from.
    pub fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }

    /// A directive's number: one relaxed load. See [`Kind`] for what it means.
    pub fn number(&self, slot: Slot) -> i64 {
        self.numbers[slot.0].load(Ordering::Relaxed)
    }

    /// Whether somebody has set a directive, in the file, a flag or by CONFIG SET.
    pub fn is_given(&self, slot: Slot) -> bool {
        self.given[slot.0].load(Ordering::Relaxed)
    }

    /// Moves with every change: who keeps what directives say reads them again when it has moved.
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Acquire)
    }

    /// Something that is read together with the directives has changed: see [`Config::generation`].
    pub fn note_change(&self) {
        self.generation.fetch_add(1, Ordering::Release);
    }

    /// A directive's canonical text. Takes a lock and copies.
    pub fn text(&self, slot: Slot) -> Vec<u8> {
        self.texts.read()[slot.0].to_vec()
    }

    /// A directive's value as CONFIG GET answers it.
    pub fn shown(&self, slot: Slot) -> Vec<u8> {
        if let Kind::Directory = slot.directive().kind
            && let Ok(path) = std::env::current_dir()
        {
            return path.into_os_string().into_encoded_bytes();
        }
        self.text(slot)
    }

    /// CONFIG GET: every directive that a name or pattern matches, sorted by name, each once. An
    /// exact name is answered in the caller's spelling; patterns skip hidden directives and see
    /// aliases as directives of their own.
    pub fn get(&self, patterns: &[&[u8]]) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut found: Vec<(Vec<u8>, Slot)> = Vec::new();
        for pattern in patterns {
            if !pattern.iter().any(|byte| b"*?[".contains(byte)) {
                found.extend(find(pattern).map(|slot| (pattern.to_vec(), slot)));
                continue;
            }
            for slot in Slot::all().filter(|slot| !slot.directive().hidden) {
                let directive = slot.directive();
                let names = [Some(directive.name), directive.alias]
                    .into_iter()
                    .flatten();
                let matching =
                    names.filter(|name| stdx::glob::matches(pattern, name.as_bytes(), true));
                found.extend(matching.map(|name| (name.as_bytes().to_vec(), slot)));
            }
        }
        let folded = |name: &[u8]| name.to_ascii_lowercase();
        found.sort_by_cached_key(|(name, _)| folded(name));
        found.dedup_by_key(|(name, _)| folded(name));
        found
            .into_iter()
            .map(|(name, slot)| (name, self.shown(slot)))
            .collect()
    }

    /// CONFIG SET: sets all pairs or none. `local` tells whether the caller connects from this
    /// machine. `apply` is called once per directive whose value changed, after all are stored, and
    /// makes the rest of the server follow; if it fails, every value is put back and `apply` is
    /// called again for those it had applied, and for the one that failed.
    pub fn set(
        &self,
        pairs: &[(&[u8], &[u8])],
        local: bool,
        mut apply: impl FnMut(&'static Directive) -> Result<(), String>,
    ) -> Result<(), ConfigError> {
        let _changing = self.changing.lock();
        let changes = self.parse_pairs(pairs, local)?;
        let mut undo: Vec<(Slot, Value)> = Vec::new();
        for (slot, value) in changes {
            self.given[slot.0].store(true, Ordering::Relaxed);
            let before = Value {
                number: self.number(slot),
                text: self.texts.read()[slot.0].clone(),
            };
            let entered = matches!(slot.directive().kind, Kind::Directory);
            if before != value || entered {
                self.store(slot, value);
                undo.push((slot, before));
            }
        }
        for (done, (slot, _)) in undo.iter().enumerate() {
            let directive = slot.directive();
            let result = self.enter(*slot).and_then(|()| apply(directive));
            if let Err(reason) = result {
                self.put_back(&undo, done + 1, &mut apply);
                let name = directive.name.as_bytes().to_vec();
                return Err(ConfigError::Failed { name, reason });
            }
        }
        Ok(())
    }

    fn put_back(
        &self,
        undo: &[(Slot, Value)],
        n_applied: usize,
        apply: &mut impl FnMut(&'static Directive) -> Result<(), String>,
    ) {
        for (slot, before) in undo {
            self.store(*slot, before.clone());
        }
        for (slot, _) in &undo[..n_applied] {
            if let Err(reason) = self.enter(*slot).and_then(|()| apply(slot.directive())) {
                log::warn!("Could not put back '{}': {reason}", slot.directive().name);
            }
        }
    }

    fn parse_pairs(
        &self,
        pairs: &[(&[u8], &[u8])],
        local: bool,
    ) -> Result<Vec<(Slot, Value)>, ConfigError> {
        let mut slots: Vec<Slot> = Vec::with_capacity(pairs.len());
        for (name, text) in pairs {
            let slot = find(name).ok_or_else(|| ConfigError::Unknown {
                name: name.to_vec(),
            })?;
            let is_same =
                slot.directive().origin == directive::Origin::Own && self.text(slot) == **text;
            self.may_set(slot, local)
                .or_else(|reason| if is_same { Ok(()) } else { Err(reason) })
                .and_then(|()| match slots.contains(&slot) {
                    true => Err("duplicate parameter".into()),
                    false => Ok(()),
                })
                .map_err(|reason| ConfigError::Failed {
                    name: name.to_vec(),
                    reason,
                })?;
            slots.push(slot);
        }
        let parsed = slots.into_iter().zip(pairs).map(|(slot, (name, text))| {
            let words = words_of(slot.directive().kind, text);
            let value = self.parse(slot, &words);
            let value = value.map_err(|reason| ConfigError::Failed {
                name: name.to_vec(),
                reason,
            })?;
            Ok((slot, value))
        });
        parsed.collect()
    }

    fn may_set(&self, slot: Slot, local: bool) -> Result<(), String> {
        let directive = slot.directive();
        if !directive.mutable {
            return Err("can't set immutable config".into());
        }
        if directive.protected && !self.protected_configs_allowed(local) {
            return Err("can't set protected config".into());
        }
        Ok(())
    }

    /// Sets one directive at start-up, from the file or the command line, where fixed and protected
    /// ones may be set too. The error is the reason alone.
    pub fn assign(&self, slot: Slot, words: &[&[u8]]) -> Result<(), String> {
        let words = match words {
            [one] => words_of(slot.directive().kind, one),
            many => many.to_vec(),
        };
        let value = self.parse(slot, &words)?;
        self.given[slot.0].store(true, Ordering::Relaxed);
        self.store(slot, value);
        self.enter(slot)
    }

    fn parse(&self, slot: Slot, words: &[&[u8]]) -> Result<Value, String> {
        let directive = slot.directive();
        let value = value::parse(directive, &self.text(slot), words)?;
        if directive.name == "hz" {
            let pace = value.number.clamp(1, 500);
            return Ok(Value::new(pace, pace.to_string().into()));
        }
        if directive.name == "proc-title-template" && !process::is_valid(&value.text) {
            return Err("template format is invalid or contains unknown variables".into());
        }
        if directive.name == "dbfilename" && value.text.contains(&b'/') {
            return Err("dbfilename can't be a path, just a filename".into());
        }
        if let name @ ("appendfilename" | "appenddirname") = directive.name {
            if value.text.is_empty() {
                return Err(format!("{name} can't be empty"));
            }
            if value.text.contains(&b'/') || matches!(&*value.text, b"." | b"..") {
                let kind = name.trim_start_matches("append");
                return Err(format!("{name} can't be a path, just a {kind}"));
            }
        }
        Ok(value)
    }

    fn store(&self, at: Slot, value: Value) {
        if at == const { slot("client-output-buffer-limit") } {
            let limits = special::parse_output_limits(&value.text);
            let numbers = limits
                .iter()
                .flat_map(|l| [l.hard_bytes, l.soft_bytes, l.soft_s]);
            for (atomic, number) in self.output_limits.iter().zip(numbers) {
                atomic.store(number, Ordering::Relaxed);
            }
        }
        self.numbers[at.0].store(value.number, Ordering::Relaxed);
        self.texts.write()[at.0] = value.text;
        self.note_change();
    }

    fn enter(&self, slot: Slot) -> Result<(), String> {
        let Kind::Directory = slot.directive().kind else {
            return Ok(());
        };
        let path = String::from_utf8_lossy(&self.text(slot)).into_owned();
        std::env::set_current_dir(path).map_err(|error| reason(&error))
    }
}

fn initial(directive: &'static Directive) -> Value {
    let words = words_of(directive.kind, directive.default.as_bytes());
    let mut value =
        value::parse(directive, b"", &words).expect("a test parses the default of every row");
    value.text = Cow::Borrowed(directive.default.as_bytes());
    value
}

fn words_of(kind: Kind, text: &[u8]) -> Vec<&[u8]> {
    if !kind.takes_many_words() {
        return vec![text];
    }
    text.split(|byte| *byte == b' ')
        .filter(|word| !word.is_empty())
        .collect()
}

/// All rows of the table, for documents made from it.
pub fn directives() -> impl Iterator<Item = &'static Directive> {
    DIRECTIVES.iter()
}
