//! Licences of everything the workspace builds with, against the list that we accept.
//!
//! The packages and their licence expressions come from `cargo tree`, for the platform at hand.
//! `deny.toml` states the same list for those who run cargo-deny; a test keeps the two equal.

use std::collections::BTreeSet;
use std::process::Command;

/// Licences that may be linked into the binary; each asks for no more than a notice, or for the
/// changes to its own files (MPL-2.0).
const ACCEPTED: &[&str] = &[
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CC0-1.0",
    "ISC",
    "MIT",
    "MIT-0",
    "MPL-2.0",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Prints how many packages passed; the error lists those that did not.
pub fn run(args: Vec<String>) -> Result<(), String> {
    if let Some(arg) = args.first() {
        return Err(format!("licences takes no argument, found `{arg}`"));
    }
    let packages = packages()?;
    let refused: Vec<&str> = packages
        .iter()
        .filter(|line| {
            !line
                .split_once('|')
                .is_some_and(|(terms, _)| accepts(terms))
        })
        .map(String::as_str)
        .collect();
    if refused.is_empty() {
        println!("licences of {} packages are accepted", packages.len());
        return Ok(());
    }
    Err(format!("licences outside the list (terms|package):\n  {}", refused.join("\n  ")))
}

/// Lines `terms|package`, each package once.
fn packages() -> Result<BTreeSet<String>, String> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--workspace",
            "--locked",
            "--edges",
            "normal,build,dev",
            "--no-dedupe",
        ])
        .args(["--prefix", "none", "--format", "{l}|{p}"])
        .output()
        .map_err(|error| format!("cargo tree: {error}"))?;
    if !output.status.success() {
        return Err(format!("cargo tree: {}", String::from_utf8_lossy(&output.stderr)));
    }
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text
        .lines()
        .filter(|line| !line.is_empty())
        .map(str::to_owned)
        .collect())
}

/// Whether an SPDX expression can be met within the list. `/` is an old spelling of OR.
fn accepts(terms: &str) -> bool {
    let spaced = terms
        .replace('/', " OR ")
        .replace('(', " ( ")
        .replace(')', " ) ");
    let mut expression = Expression {
        words: spaced.split_whitespace().collect(),
        pos: 0,
    };
    expression.any() == Some(true) && expression.pos == expression.words.len()
}

/// A cursor over the words of an expression; AND binds tighter than OR. None is bad grammar.
struct Expression<'a> {
    words: Vec<&'a str>,
    pos: usize,
}

impl Expression<'_> {
    fn any(&mut self) -> Option<bool> {
        let mut holds = self.all()?;
        while self.eat("OR") {
            holds |= self.all()?;
        }
        Some(holds)
    }

    fn all(&mut self) -> Option<bool> {
        let mut holds = self.one()?;
        while self.eat("AND") {
            holds &= self.one()?;
        }
        Some(holds)
    }

    fn one(&mut self) -> Option<bool> {
        if self.eat("(") {
            let holds = self.any()?;
            return self.eat(")").then_some(holds);
        }
        let mut name = self.take()?.to_owned();
        if self.eat("WITH") {
            name = format!("{name} WITH {}", self.take()?);
        }
        Some(ACCEPTED.contains(&name.as_str()))
    }

    fn take(&mut self) -> Option<&str> {
        let word = *self.words.get(self.pos)?;
        self.pos += 1;
        Some(word)
    }

    fn eat(&mut self, word: &str) -> bool {
        let found = self.words.get(self.pos) == Some(&word);
        self.pos += usize::from(found);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_are_read() {
        for terms in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR Apache-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR Apache-2.0 OR MIT",
            "GPL-3.0 AND ISC OR Zlib",
        ] {
            assert!(accepts(terms), "{terms}");
        }
        for terms in [
            "",
            "GPL-3.0",
            "MIT AND GPL-3.0",
            "(MIT",
            "MIT MIT",
            "MIT WITH Exception",
        ] {
            assert!(!accepts(terms), "{terms}");
        }
    }

    #[test]
    fn deny_toml_has_the_same_list() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../deny.toml");
        let file = std::fs::read_to_string(path).unwrap();
        let (_, rest) = file.split_once("\nallow = [").unwrap();
        let (list, _) = rest.split_once(']').unwrap();
        let allowed: Vec<&str> = list.split('"').skip(1).step_by(2).collect();
        assert_eq!(allowed, ACCEPTED);
    }
}
