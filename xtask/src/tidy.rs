//! Rules about the sources that no compiler checks, as tests.
//!
//! The order of the `mod` lines in the server's `lib.rs`, bottom room first, is its layering: a
//! room refers by `crate::` only to itself and to rooms declared before it. Tests are no rooms.

use std::fs;
use std::path::{Path, PathBuf};

/// A reference from a room to one that is declared after it.
#[derive(Debug, PartialEq)]
struct Upward {
    file: PathBuf,
    line: usize,
    to: String,
}

/// The names of `mod name;` lines, in their order; modules of tests are left out.
fn rooms(lib: &str) -> Vec<String> {
    let mut rooms = Vec::new();
    let mut only_tests = false;
    for line in lib.lines().map(str::trim) {
        let words = line
            .split_whitespace()
            .skip_while(|word| word.starts_with("pub"));
        if let [keyword, name] = words.collect::<Vec<_>>()[..]
            && keyword == "mod"
            && !only_tests
            && let Some(name) = name.strip_suffix(';')
        {
            rooms.push(name.to_owned());
        }
        only_tests = line.starts_with("#[cfg(") && line.contains("test");
    }
    rooms
}

/// Every upward reference below `source`, the folder of `lib.rs`.
fn upward(source: &Path) -> Vec<Upward> {
    let rooms = rooms(&read(&source.join("lib.rs")));
    let mut found = Vec::new();
    for (idx, room) in rooms.iter().enumerate() {
        let mut files = vec![source.join(format!("{room}.rs"))];
        collect(&source.join(room), &mut files);
        for file in files.iter().filter(|file| file.is_file()) {
            let text = read(file);
            for (line, name) in references(&text) {
                if rooms[idx + 1..].iter().any(|later| later == name) {
                    found.push(Upward {
                        file: file.clone(),
                        line,
                        to: name.to_owned(),
                    });
                }
            }
        }
    }
    found
}

/// Rust files below `folder`, those of tests left out.
fn collect(folder: &Path, files: &mut Vec<PathBuf>) {
    let Ok(entries) = fs::read_dir(folder) else {
        return;
    };
    for path in entries.map(|entry| entry.unwrap().path()) {
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|end| end == "rs") && !path.ends_with("tests.rs") {
            files.push(path);
        }
    }
}

/// `(line, room)` of each `crate::room` and of each name in `use crate::{room, room::..}`, up to
/// the module of tests that ends a file. Comments do not count.
fn references(text: &str) -> Vec<(usize, &str)> {
    let code = text
        .find("\n#[cfg(test)]\nmod tests {")
        .map_or(text, |end| &text[..end]);
    let mut found = Vec::new();
    for (at, _) in code.match_indices("crate::") {
        let (before, path) = (&code[..at], &code[at + "crate::".len()..]);
        let line_start = before.rfind('\n').map_or(0, |end| end + 1);
        if before[line_start..].contains("//") {
            continue;
        }
        let line = before.matches('\n').count() + 1;
        match path.strip_prefix('{') {
            Some(list) => found.extend(heads(list).into_iter().map(|name| (line, name))),
            None => found.push((line, head(path))),
        }
    }
    found
}

/// The first segments of a braced list whose opening brace is already taken.
fn heads(list: &str) -> Vec<&str> {
    let (mut depth, mut start, mut names) = (0, 0, Vec::new());
    for (at, byte) in list.bytes().enumerate() {
        match (byte, depth) {
            (b'{', _) => depth += 1,
            (b'}' | b',', 0) => {
                names.push(head(list[start..at].trim_start()));
                start = at + 1;
                if byte == b'}' {
                    break;
                }
            }
            (b'}', _) => depth -= 1,
            _ => {}
        }
    }
    names
}

fn head(path: &str) -> &str {
    let is_name = |letter: char| letter.is_alphanumeric() || letter == '_';
    path.find(|letter| !is_name(letter))
        .map_or(path, |end| &path[..end])
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_server_imports_downwards() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/server/src");
    let found = upward(&source);
    assert!(found.is_empty(), "rooms that know a room above them: {found:#?}");
}

#[test]
fn rooms_and_references_are_read() {
    let lib =
        "//! Text.\npub mod error;\npub(crate) mod stats;\n#[cfg(test)]\nmod trial;\nmod net;\n";
    assert_eq!(rooms(lib), ["error", "stats", "net"]);
    let code = "use crate::{error::{Error, Result}, net};\n// crate::stats\nfn f() -> crate::stats::T\
                \n#[cfg(test)]\nmod tests {\nuse crate::later;";
    assert_eq!(references(code), [(1, "error"), (1, "net"), (3, "stats")]);
}
