//! The manifest of the append-only file: which files it consists of, in which order.
//!
//! ```text
//!   file appendonly.aof.1.base.rdb seq 1 type b      the data at a moment; at most one
//!   file appendonly.aof.3.incr.aof seq 3 type i      what was written since, in order
//!   file appendonly.aof.2.incr.aof seq 2 type h      no longer needed, may be still there
//! ```
//!
//! The grammar and the names are Redis's, so that either server continues the files of the other.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use crate::config::words::{quote, split};

/// Bytes of a line at most.
const LINE_BYTES_MAX: usize = 1024;

/// The largest number that a file may have, so that the next one has one, too.
const NUMBER_MAX: u64 = i64::MAX as u64;

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The data at a moment.
    Base,
    /// What was written since.
    Increment,
    /// No longer needed.
    History,
}

/// A file of the append-only file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// Its name within the folder.
    pub name: String,
    /// Its number among those of its kind.
    pub number: u64,
    /// What it is.
    pub kind: Kind,
}

/// See the top of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Manifest {
    /// The data at a moment.
    pub base: Option<Part>,
    /// What was written since, in order.
    pub increments: Vec<Part>,
    /// No longer needed.
    pub history: Vec<Part>,
    /// The number of the last base there was.
    last_base: u64,
    /// The number of the last increment there was.
    last_increment: u64,
}

/// Where the files are and what they are called.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    /// The folder.
    pub folder: PathBuf,
    /// What all names begin with.
    pub name: String,
}

impl Place {
    /// The path of a file in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    /// The name of the manifest.
    pub fn manifest(&self) -> String {
        format!("{}.manifest", self.name)
    }

    /// The name of what is written while the first base is.
    pub fn temporary_increment(&self) -> String {
        format!("temp-{}.incr", self.name)
    }
}

impl Manifest {
    /// Reads a manifest. The error is for the operator.
    pub fn parse(text: &[u8]) -> Result<Manifest, String> {
        if text.is_empty() {
            return Err("Found an empty AOF manifest".to_owned());
        }
        let mut manifest = Manifest::default();
        for (at, line) in text.split_inclusive(|byte| *byte == b'\n').enumerate() {
            let told = |reason: &str| {
                let shown = line.trim_ascii_end().escape_ascii();
                format!("{reason}, at line {} of the manifest: '{shown}'", at + 1)
            };
            if line.len() >= LINE_BYTES_MAX || !line.ends_with(b"\n") && line.len() > 1 {
                return Err(told("The AOF manifest file contains too long line"));
            }
            if line.starts_with(b"#") {
                continue;
            }
            let part = parse_line(line.trim_ascii()).map_err(told)?;
            manifest.add(part).map_err(told)?;
        }
        manifest.skip_history();
        Ok(manifest)
    }

    /// Gives no number again of a file that is about to be removed.
    fn skip_history(&mut self) {
        for part in &self.history {
            let last = match part.name.ends_with(".incr.aof") {
                true => &mut self.last_increment,
                false => &mut self.last_base,
            };
            *last = part.number.max(*last);
        }
    }

    fn add(&mut self, part: Part) -> Result<(), &'static str> {
        match part.kind {
            Kind::Base if self.base.is_some() => {
                return Err("Found duplicate base file information");
            }
            Kind::Base => {
                self.last_base = part.number;
                self.base = Some(part);
            }
            Kind::Increment if part.number <= self.last_increment => {
                return Err("Found a non-monotonic sequence number");
            }
            Kind::Increment => {
                self.last_increment = part.number;
                self.increments.push(part);
            }
            Kind::History => self.history.push(part),
        }
        Ok(())
    }

    /// The text of the file.
    pub fn text(&self) -> Vec<u8> {
        let mut text = Vec::new();
        let all = self
            .base
            .iter()
            .chain(&self.history)
            .chain(&self.increments);
        for Part { name, number, kind } in all {
            text.extend(b"file ");
            let is_plain = |byte: u8| byte > b' ' && byte != 0x7f && !b"\"'\\".contains(&byte);
            match name.bytes().all(is_plain) {
                true => text.extend(name.bytes()),
                false => quote(name.as_bytes(), &mut text),
            }
            let letter = match kind {
                Kind::Base => 'b',
                Kind::Increment => 'i',
                Kind::History => 'h',
            };
            text.extend(format!(" seq {number} type {letter}\n").bytes());
        }
        text
    }

    /// The manifest of a folder, if there is one. The error is for the operator.
    pub fn read(place: &Place) -> Result<Option<Manifest>, String> {
        let path = place.path(&place.manifest());
        match fs::read(&path) {
            Ok(text) => Manifest::parse(&text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(format!("cannot read {}: {error}", path.display())),
        }
    }

    /// Puts the manifest into its folder, in place of the old one at once. Before that the names that
    /// it speaks of are brought to the disk: names of one folder need not get there in order.
    pub fn write(&self, place: &Place) -> io::Result<()> {
        sync_folder(&place.folder)?;
        let name = place.manifest();
        let temporary = place.path(&format!("temp-{name}"));
        let written = File::create(&temporary)
            .and_then(|mut file| file.write_all(&self.text()).and_then(|()| file.sync_all()))
            .and_then(|()| fs::rename(&temporary, place.path(&name)));
        if written.is_err() {
            let _ = fs::remove_file(&temporary); // it may not be there
        }
        written?;
        sync_folder(&place.folder)
    }

    /// Whether nothing is to be loaded.
    pub fn is_empty(&self) -> bool {
        self.base.is_none() && self.increments.is_empty()
    }

    /// The parts that are loaded, in order.
    pub fn parts(&self) -> impl Iterator<Item = &Part> {
        self.base.iter().chain(&self.increments)
    }

    /// Names the next base, which takes the place of the present one and of all increments but the
    /// last `n_kept`. It has the form of a snapshot, or of commands.
    pub fn new_base(&mut self, place: &Place, n_kept: usize, is_snapshot: bool) -> &Part {
        let ending = if is_snapshot { "rdb" } else { "aof" };
        let n_past = self.increments.len().saturating_sub(n_kept);
        let past: Vec<Part> = self
            .increments
            .drain(..n_past)
            .chain(self.base.take())
            .map(|part| Part {
                kind: Kind::History,
                ..part
            })
            .collect();
        self.history.splice(0..0, past); // as Redis has them: the latest first
        self.last_base += 1;
        self.base.insert(Part {
            name: format!("{}.{}.base.{ending}", place.name, self.last_base),
            number: self.last_base,
            kind: Kind::Base,
        })
    }

    /// Gives no number again that `other` has given.
    pub fn skip_numbers_of(&mut self, other: &Manifest) {
        self.last_base = self.last_base.max(other.last_base);
        self.last_increment = self.last_increment.max(other.last_increment);
    }

    /// Names the next increment.
    pub fn new_increment(&mut self, place: &Place) -> &Part {
        self.last_increment += 1;
        let number = self.last_increment;
        self.increments.push(Part {
            name: format!("{}.{number}.incr.aof", place.name),
            number,
            kind: Kind::Increment,
        });
        &self.increments[self.increments.len() - 1]
    }

    /// That of one file of the old kind, which is the base.
    pub fn of_old_file(name: &str) -> Manifest {
        Manifest {
            base: Some(Part {
                name: name.to_owned(),
                number: 1,
                kind: Kind::Base,
            }),
            last_base: 1,
            ..Manifest::default()
        }
    }
}

fn parse_line(line: &[u8]) -> Result<Part, &'static str> {
    const INVALID: &str = "Invalid AOF manifest file format";
    let words = split(line).ok_or(INVALID)?;
    if words.len() < 6 || !words.len().is_multiple_of(2) {
        return Err(INVALID);
    }
    let (mut name, mut number, mut kind) = (None, None, None);
    for pair in words.chunks_exact(2) {
        let text = String::from_utf8(pair[1].clone()).map_err(|_| INVALID)?;
        match &pair[0].to_ascii_lowercase()[..] {
            b"file" if Path::new(&text).file_name().is_none_or(|own| own != &*text) => {
                return Err("File can't be a path, just a filename");
            }
            b"file" => name = Some(text),
            b"seq" => number = text.parse().ok().filter(|n| (1..=NUMBER_MAX).contains(n)),
            b"type" => {
                kind = Some(match &*text {
                    "b" => Kind::Base,
                    "i" => Kind::Increment,
                    "h" => Kind::History,
                    _ => return Err("Unknown AOF file type"),
                });
            }
            _ => {} // of a later version
        }
    }
    match (name, number, kind) {
        (Some(name), Some(number), Some(kind)) => Ok(Part { name, number, kind }),
        _ => Err(INVALID),
    }
}

/// Brings names in a folder to the disk.
pub fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrong(text: &str) -> String {
        Manifest::parse(text.as_bytes()).unwrap_err()
    }

    #[test]
    fn a_manifest_reads_back() {
        let text = b"file \"a b.1.base.rdb\" seq 1 type b\nfile x.1.incr.aof seq 1 type h\n\
                     file x.2.incr.aof seq 2 type i\nfile x.5.incr.aof seq 5 type i\n";
        let manifest = Manifest::parse(text).unwrap();
        assert_eq!(manifest.text(), text);
        let mut manifest = Manifest::parse(b"#x\nfile a seq 3 type i startoffset 7 k v\n").unwrap();
        let place = Place {
            folder: PathBuf::new(),
            name: "a".to_owned(),
        };
        assert_eq!(manifest.new_increment(&place).name, "a.4.incr.aof");
        assert_eq!(manifest.new_base(&place, 1, true).name, "a.1.base.rdb");
        assert_eq!(manifest.history.len(), 1);
        assert_eq!(manifest.increments.len(), 1);
        let past = b"file a.2.base.rdb seq 2 type b\nfile a.3.incr.aof seq 3 type h\n";
        let mut manifest = Manifest::parse(past).unwrap();
        assert_eq!(manifest.new_increment(&place).name, "a.4.incr.aof", "not what is to go");
    }

    #[test]
    fn what_is_wrong_is_told() {
        for (text, reason) in [
            ("", "Found an empty AOF manifest"),
            ("\n", "Invalid AOF manifest file format"),
            ("file a seq 1\n", "Invalid AOF manifest file format"),
            ("file a seq 1 type i odd\n", "Invalid AOF manifest file format"),
            ("file a sek 1 type i\n", "Invalid AOF manifest file format"),
            ("file a seq 0 type i\n", "Invalid AOF manifest file format"),
            ("file a seq 18446744073709551615 type i\n", "Invalid AOF manifest file format"),
            ("file a seq 1 type x\n", "Unknown AOF file type"),
            ("file a/b seq 1 type i\n", "File can't be a path"),
            ("file a seq 1 type b\nfile b seq 2 type b\n", "Found duplicate base"),
            ("file a seq 2 type i\nfile b seq 1 type i\n", "Found a non-monotonic"),
        ] {
            assert!(wrong(text).starts_with(reason), "{text:?}: {}", wrong(text));
        }
        let long = format!("file {} seq 1 type i\n", "a".repeat(1024));
        assert!(wrong(&long).starts_with("The AOF manifest file contains too long line"));
    }
}
