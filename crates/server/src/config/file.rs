//! `redis.conf` and the command line into a [`Config`].
//!
//! `minium [file|-] [--directive value ...] [-]` becomes one text: the file, what stdin holds if `-`
//! was given, and one line per `--directive`, quoted. The text is then read line by line; a later
//! line wins over an earlier one, except for directives that add up (`client-output-buffer-limit`).
//! `include` reads other files in place, by name or by pattern.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};

use super::directive::{Kind, Slot, find};
use super::{Config, words};
use crate::error::reason;

/// How deep files may include each other.
const MAX_INCLUDE_DEPTH: usize = 16;

/// Names that older releases knew and nobody needs; ignored with any value.
const RETIRED: [&str; 4] = [
    "list-max-ziplist-entries",
    "list-max-ziplist-value",
    "lua-replicate-commands",
    "io-threads-do-reads",
];

/// The outcome of reading the configuration.
pub struct Loaded {
    /// Every value.
    pub config: Config,
    /// What `rename-command` asks for, in order. Whoever owns the commands must honour these.
    pub renames: Vec<Rename>,
    /// The words of each `user` line behind the first. Whoever owns users must honour these.
    pub users: Vec<Vec<Vec<u8>>>,
    /// Whether anything was given at all; the server says so in its log when not.
    pub is_default: bool,
    /// `save` was given: another line adds to it.
    has_save: bool,
}

/// One `rename-command` line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rename {
    /// The command's own name.
    pub from: Vec<u8>,
    /// The name it gets; empty removes the command.
    pub to: Vec<u8>,
    /// Where it was asked for, for the error if the command does not exist.
    pub place: Place,
}

/// A line of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its number from 1, counting flags after the file.
    pub line_number: usize,
    /// Its text without surrounding blanks.
    pub line: Vec<u8>,
}

/// Why the server cannot start. Displays as the whole message for stderr.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FatalConfig {
    /// A line is wrong.
    Line {
        /// Which.
        place: Place,
        /// Why.
        reason: String,
    },
    /// A file cannot be read.
    CannotOpen {
        /// Its name.
        path: String,
        /// The system's reason.
        reason: String,
    },
}

impl fmt::Display for FatalConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FatalConfig::Line { place, reason } => {
                let line = String::from_utf8_lossy(&place.line);
                writeln!(f, "\n*** FATAL CONFIG FILE ERROR (Redis 8.2.0) ***")?;
                writeln!(f, "Reading the configuration file, at line {}", place.line_number)?;
                write!(f, ">>> '{line}'\n{reason}")
            }
            FatalConfig::CannotOpen { path, reason } => {
                write!(f, "Fatal error, can't open config file '{path}': {reason}")
            }
        }
    }
}

impl std::error::Error for FatalConfig {}

/// Reads the configuration that the arguments (without the program's name) ask for. Reads files and,
/// if asked by `-`, standard input; a `dir` line changes the working directory at once.
pub fn load(args: &[String]) -> Result<Loaded, FatalConfig> {
    let (path, flags) = match args.split_first() {
        Some((first, rest)) if !first.starts_with('-') && !first.is_empty() => (Some(first), rest),
        _ => (None, args),
    };
    let mut text = Vec::new();
    if let Some(path) = path {
        text = std::fs::read(path).map_err(|error| cannot_open(path, &error))?;
    }
    let options = options(flags);
    if options.from_stdin {
        let mut input = Vec::new();
        std::io::stdin()
            .read_to_end(&mut input)
            .map_err(|error| cannot_open("-", &error))?;
        text.push(b'\n');
        text.extend(input);
    }
    if !options.lines.is_empty() {
        text.push(b'\n');
        text.extend(options.lines);
    }
    // Before a `dir` line changes what the path is relative to.
    let path = path.map(|path| absolute(path)).transpose()?;
    let mut loaded = parse(&text)?;
    loaded.is_default = args.is_empty();
    if let Some(path) = path {
        loaded.config.set_file(path);
    }
    Ok(loaded)
}

fn absolute(path: &str) -> Result<PathBuf, FatalConfig> {
    std::path::absolute(path).map_err(|error| cannot_open(path, &error))
}

fn cannot_open(path: &str, error: &std::io::Error) -> FatalConfig {
    let shown = std::path::absolute(path).unwrap_or_else(|_| PathBuf::from(path));
    FatalConfig::CannotOpen {
        path: shown.display().to_string(),
        reason: reason(error),
    }
}

#[derive(Debug, Default, PartialEq, Eq)]
struct Options {
    lines: Vec<u8>,
    from_stdin: bool,
}

/// Flags into lines. A value is what follows a flag, even if it begins with dashes; further words up
/// to the next flag belong to it too. `--save` alone means `--save ""`.
fn options(flags: &[String]) -> Options {
    let mut options = Options::default();
    let mut has_value = true;
    for (i, flag) in flags.iter().enumerate() {
        let next = flags.get(i + 1);
        if flag == "-" && (i == 0 || next.is_none()) {
            options.from_stdin = true;
            continue;
        }
        let name = flag.strip_prefix("--").filter(|_| has_value);
        let Some(name) = name else {
            words::quote(flag.as_bytes(), &mut options.lines);
            options.lines.push(b' ');
            has_value = true;
            continue;
        };
        if !options.lines.is_empty() {
            options.lines.push(b'\n');
        }
        options.lines.extend(name.bytes());
        options.lines.push(b' ');
        has_value = words::split(name.as_bytes()).is_none_or(|words| words.len() != 1);
        let stands_alone = next.is_none_or(|next| next.starts_with("--"));
        if name.eq_ignore_ascii_case("save") && stands_alone {
            options.lines.extend(b"\"\"");
            has_value = true;
        }
    }
    options
}

/// Reads the lines of a configuration. Follows `include`, and enters the directory of `dir`.
pub fn parse(text: &[u8]) -> Result<Loaded, FatalConfig> {
    let mut loaded = Loaded {
        config: Config::new(),
        renames: Vec::new(),
        users: Vec::new(),
        is_default: false,
        has_save: false,
    };
    lines(&mut loaded, text, 0)?;
    Ok(loaded)
}

fn lines(loaded: &mut Loaded, text: &[u8], depth: usize) -> Result<(), FatalConfig> {
    for (i, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        if line.is_empty() || line[0] == b'#' {
            continue;
        }
        let place = Place {
            line_number: i + 1,
            line: line.to_vec(),
        };
        let step = match words::split(line) {
            None => Err("Unbalanced quotes in configuration line".into()),
            Some(words) => directive(loaded, &words, &place),
        };
        match step {
            Ok(Step::Done) => {}
            Ok(Step::Include(pattern)) if depth < MAX_INCLUDE_DEPTH => {
                include(loaded, &pattern, depth)?;
            }
            Ok(Step::Include(_)) => {
                let reason = "files include each other too deeply".into();
                return Err(FatalConfig::Line { place, reason });
            }
            Err(reason) => return Err(FatalConfig::Line { place, reason }),
        }
    }
    Ok(())
}

enum Step {
    Done,
    Include(String),
}

/// The first `save` takes the place of the default, each further one adds its points; none at all
/// takes all away.
fn save_line(loaded: &mut Loaded, slot: Slot, values: &[&[u8]]) -> Result<Step, String> {
    let before = match std::mem::replace(&mut loaded.has_save, true) {
        true => loaded.config.text(slot),
        false => Vec::new(),
    };
    let adds = !matches!(values, [] | [b""]);
    let old = before
        .split(|byte| *byte == b' ')
        .filter(|word| adds && !word.is_empty());
    let words: Vec<&[u8]> = old.chain(values.iter().copied()).collect();
    loaded.config.assign(slot, &words)?;
    Ok(Step::Done)
}

fn directive(loaded: &mut Loaded, words: &[Vec<u8>], place: &Place) -> Result<Step, String> {
    let Some((name, values)) = words.split_first() else {
        return Ok(Step::Done);
    };
    let name = name.to_ascii_lowercase();
    let values: Vec<&[u8]> = values.iter().map(Vec::as_slice).collect();
    if let Some(slot) = find(&name) {
        // `save` alone, and an empty word behind it, mean that nothing is saved.
        let is_list = matches!(slot.directive().kind, Kind::Choices(_))
            || matches!(&name[..], b"save" | b"bind" | b"latency-tracking-info-percentiles");
        if values.is_empty() && !is_list {
            return Err("wrong number of arguments".into());
        }
        if name == b"save" {
            return save_line(loaded, slot, &values);
        }
        loaded.config.assign(slot, &values)?;
        return Ok(Step::Done);
    }
    let is_retired = |known: &&str| known.as_bytes() == name;
    match (name.as_slice(), values.as_slice()) {
        (b"include", [pattern]) => {
            return Ok(Step::Include(String::from_utf8_lossy(pattern).into_owned()));
        }
        (b"rename-command", [from, to]) => {
            let (from, to) = (from.to_vec(), to.to_vec());
            loaded.renames.push(Rename {
                from,
                to,
                place: place.clone(),
            });
        }
        (b"user", [name, rules @ ..]) => {
            let words = std::iter::once(name).chain(rules);
            declare_user(loaded, words.map(|word| word.to_vec()).collect())?;
        }
        (b"loadmodule", [_, ..]) => return Err("modules cannot be loaded".into()),
        (b"sentinel", _) => return Err("sentinel directive while not in sentinel mode".into()),
        (_, [_, ..]) if RETIRED.iter().any(is_retired) => {}
        _ => return Err("Bad directive or wrong number of arguments".into()),
    }
    Ok(Step::Done)
}

fn declare_user(loaded: &mut Loaded, words: Vec<Vec<u8>>) -> Result<(), String> {
    let name = &words[0];
    let shown = String::from_utf8_lossy(name);
    if loaded.users.iter().any(|known| known[0] == *name) {
        return Err(format!(
            "Error in user declaration '{shown}': Duplicate user found. A user can only be defined \
             once in config files"
        ));
    }
    let mut depth = 0_i32;
    for word in &words[1..] {
        depth += i32::from(word.first() == Some(&b'(')) - i32::from(word.last() == Some(&b')'));
    }
    if depth > 0 {
        return Err("Error in user declaration 'user': Wrong format".to_owned());
    }
    loaded.users.push(words);
    Ok(())
}

fn include(loaded: &mut Loaded, pattern: &str, depth: usize) -> Result<(), FatalConfig> {
    for path in matching_files(pattern) {
        let text = std::fs::read(&path)
            .map_err(|error| cannot_open(&path.display().to_string(), &error))?;
        lines(loaded, &text, depth + 1)?;
    }
    Ok(())
}

/// The files a pattern names, sorted: itself if it has no wildcard. Wildcards may stand in any part
/// of the path; hidden files need a pattern that begins with a dot.
fn matching_files(pattern: &str) -> Vec<PathBuf> {
    let has_wildcard = |part: &str| part.contains(['*', '?', '[']);
    if !has_wildcard(pattern) {
        return vec![PathBuf::from(pattern)];
    }
    let root = if pattern.starts_with('/') { "/" } else { "" };
    let mut paths = vec![PathBuf::from(root)];
    for part in pattern.split('/').filter(|part| !part.is_empty()) {
        paths = match has_wildcard(part) {
            true => paths.iter().flat_map(|path| entries(path, part)).collect(),
            false => paths
                .iter()
                .map(|path| path.join(part))
                .filter(|path| path.exists())
                .collect(),
        };
    }
    paths.sort();
    paths
}

fn entries(directory: &Path, pattern: &str) -> Vec<PathBuf> {
    let read = match directory.as_os_str().is_empty() {
        true => std::fs::read_dir("."),
        false => std::fs::read_dir(directory),
    };
    let names = read
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name());
    let fits = |name: &std::ffi::OsString| {
        let name = name.as_encoded_bytes();
        let visible = !name.starts_with(b".") || pattern.starts_with('.');
        visible && stdx::glob::matches(pattern.as_bytes(), name, false)
    };
    names
        .filter(fits)
        .map(|name| directory.join(name))
        .collect()
}

/// The rows a file may name besides the table's: for documents made from it.
pub const FILE_ONLY: [&str; 5] = [
    "include",
    "loadmodule",
    "rename-command",
    "sentinel",
    "user",
];
