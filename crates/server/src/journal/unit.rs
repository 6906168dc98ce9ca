//! A unit of the stream, and how commands stand in it.
//!
//! ```text
//!   bytes     *3 $3 SET $1 k $1 v *2 $3 DEL $1 l     each command once, as the stream has it
//!   commands          database 0 ▲     database 0 ▲
//! ```
//!
//! A script may keep parts of it from the append-only file, from the replicas or from both
//! (`redis.set_repl`). That is rare, so commands bear no mark: a unit knows at which of them the
//! audience changed.

use rdb::crc::checksum;
use stdx::number::write_i64;

/// Bytes of the line with a checksum.
const SUM_BYTES: usize = "#SUM:0123456789abcdef 000000000026\r\n".len();
/// Bytes around a word, if it is not a very long one.
const HEAD_BYTES: usize = "$1000\r\n\r\n".len();
/// Bytes that a unit keeps for the next one.
const KEPT_BYTES: usize = 16 << 10;

/// Who reads a command.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Audience {
    /// The append-only file.
    pub file: bool,
    /// The replicas.
    pub replicas: bool,
}

impl Audience {
    /// Everybody.
    pub const ALL: Audience = Audience {
        file: true,
        replicas: true,
    };

    /// Whether there is one at all.
    pub fn any(self) -> bool {
        self.file || self.replicas
    }
}

/// Commands that stay together, each with the database it works on.
#[derive(Debug, Default)]
pub struct Unit {
    bytes: Vec<u8>,
    commands: Vec<(u16, usize)>,
    /// From which command on, for whom; for everybody before the first.
    turns: Vec<(usize, Audience)>,
    /// No block is made of them.
    is_loose: bool,
}

impl Unit {
    /// One command.
    pub fn of<T: AsRef<[u8]>>(database: u16, words: &[T]) -> Unit {
        let mut unit = Unit::default();
        unit.add(database, words);
        unit
    }

    /// Whether there is nothing in it.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Adds a command.
    #[inline]
    pub fn add<T: AsRef<[u8]>>(&mut self, database: u16, words: &[T]) {
        write_command(&mut self.bytes, words, false);
        self.commands.push((database, self.bytes.len()));
    }

    /// Adds a message to subscribers: replicas pass it on, and no file keeps it.
    pub fn add_message<T: AsRef<[u8]>>(&mut self, database: u16, words: &[T]) {
        let present = self.present();
        self.turn_to(Audience {
            file: false,
            ..present
        });
        self.add(database, words);
        self.turn_to(present);
    }

    /// Adds a command that everybody reads, whoever reads what stands around it.
    pub fn add_for_all<T: AsRef<[u8]>>(&mut self, database: u16, words: &[T]) {
        let present = self.present();
        self.turn_to(Audience::ALL);
        self.add(database, words);
        self.turn_to(present);
    }

    /// Whether somebody does not read what is added now.
    pub fn is_kept_out(&self) -> bool {
        self.present() != Audience::ALL
    }

    /// Takes over what another one has.
    pub fn take_over(&mut self, other: &mut Unit) {
        let (n_before, n_commands) = (self.bytes.len(), self.commands.len());
        self.bytes.append(&mut other.bytes);
        let moved = other.commands.drain(..);
        self.commands
            .extend(moved.map(|(database, end)| (database, n_before + end)));
        if !other.turns.is_empty() {
            let present = self.present();
            for (at, audience) in other.turns.drain(..) {
                let audience = Audience {
                    file: audience.file && present.file,
                    replicas: audience.replicas && present.replicas,
                };
                self.turns.push((n_commands + at, audience));
            }
            self.turn_to(present);
        }
    }

    /// Who reads what is added now.
    fn present(&self) -> Audience {
        self.turns.last().map_or(Audience::ALL, |(_, one)| *one)
    }

    /// Its commands need not stay together: no block is made of them. What an empty one is to be is
    /// not known yet.
    pub fn loosen(&mut self) {
        self.is_loose = !self.is_empty();
    }

    /// Removes everything.
    pub fn clear(&mut self) {
        self.is_loose = false;
        self.turns.clear();
        self.commands.clear();
        self.bytes.clear();
        // Each command has bytes, so the list of them is long only if these are.
        if self.bytes.capacity() > KEPT_BYTES {
            self.bytes.shrink_to(KEPT_BYTES);
            self.commands
                .shrink_to(KEPT_BYTES / size_of::<(u16, usize)>());
        }
    }

    /// Says who reads what is added from now on.
    pub fn turn_to(&mut self, audience: Audience) {
        let at = self.commands.len();
        self.turns.pop_if(|(from, _)| *from == at);
        if self.present() != audience {
            self.turns.push((at, audience));
        }
    }

    /// Whether everybody reads all of it.
    #[inline]
    pub(super) fn is_for_all(&self) -> bool {
        self.turns.is_empty()
    }

    /// The commands that some read.
    #[cold]
    pub(super) fn part(&self, is_meant: impl Fn(Audience) -> bool) -> Unit {
        let mut turns = self.turns.iter().peekable();
        let (mut audience, mut start, mut part) = (Audience::ALL, 0, Unit::default());
        part.is_loose = self.is_loose;
        for (at, &(database, end)) in self.commands.iter().enumerate() {
            while let Some((_, next)) = turns.next_if(|(from, _)| *from <= at) {
                audience = *next;
            }
            if is_meant(audience) {
                part.bytes.extend_from_slice(&self.bytes[start..end]);
                part.commands.push((database, part.bytes.len()));
            }
            start = end;
        }
        part
    }

    /// Appends it to a stream: several commands as one block, a SELECT where the database is another
    /// than the last.
    #[inline]
    pub(super) fn write(&self, bytes: &mut Vec<u8>, last: &mut Option<u16>, is_summed: bool) {
        match *self.commands {
            [(database, _)] if *last == Some(database) && !is_summed => {
                bytes.extend_from_slice(&self.bytes); // what most units are
            }
            _ => self.write_each(bytes, last, is_summed),
        }
    }

    #[cold]
    fn write_each(&self, bytes: &mut Vec<u8>, last: &mut Option<u16>, is_summed: bool) {
        let is_block = self.commands.len() > 1 && !self.is_loose;
        if is_block {
            write_command(bytes, &["MULTI"], is_summed);
        }
        let mut start = 0;
        for &(database, end) in &self.commands {
            if last.replace(database) != Some(database) {
                write_command(bytes, &["SELECT", &database.to_string()], is_summed);
            }
            let command = &self.bytes[start..end];
            write_record(bytes, is_summed, |bytes| bytes.extend_from_slice(command));
            start = end;
        }
        if is_block {
            write_command(bytes, &["EXEC"], is_summed);
        }
    }
}

/// The line that says when what follows was written.
pub fn stamp(now_s: u64) -> String {
    format!("#TS:{now_s}\r\n")
}

/// Appends a command, behind a line with its checksum and length if that is wanted:
///
/// ```text
///   #SUM:0123456789abcdef 000000000026     CRC-64 and length of the bytes up to the next command
///   *2 $3 DEL $1 k
/// ```
///
/// Lines that begin with `#` are passed over by servers that know nothing of checksums.
#[inline]
pub fn write_command<T: AsRef<[u8]>>(bytes: &mut Vec<u8>, command: &[T], is_summed: bool) {
    write_record(bytes, is_summed, |bytes| {
        let n_word_bytes: usize = command.iter().map(|word| word.as_ref().len()).sum();
        bytes.reserve(n_word_bytes + (command.len() + 1) * HEAD_BYTES); // once, as this is for every write
        write_head(bytes, b'*', command.len());
        for word in command {
            write_word(bytes, word.as_ref());
        }
    });
}

/// Appends a word of a command.
#[inline]
pub fn write_word(bytes: &mut Vec<u8>, word: &[u8]) {
    write_head(bytes, b'$', word.len());
    bytes.extend_from_slice(word);
    bytes.extend_from_slice(b"\r\n");
}

#[inline(always)]
fn write_head(bytes: &mut Vec<u8>, kind: u8, n: usize) {
    let digit = |n: usize| b'0' + n as u8;
    match n {
        0..10 => bytes.extend_from_slice(&[kind, digit(n), b'\r', b'\n']),
        10..100 => bytes.extend_from_slice(&[kind, digit(n / 10), digit(n % 10), b'\r', b'\n']),
        _ => write_long_head(bytes, kind, n),
    }
}

#[cold]
fn write_long_head(bytes: &mut Vec<u8>, kind: u8, n: usize) {
    bytes.push(kind);
    write_i64(bytes, n as i64);
    bytes.extend_from_slice(b"\r\n");
}

/// Appends what `write` does, behind its checksum if that is wanted: see [`write_command`].
#[inline]
pub fn write_record(bytes: &mut Vec<u8>, is_summed: bool, write: impl FnOnce(&mut Vec<u8>)) {
    if !is_summed {
        return write(bytes);
    }
    let at = bytes.len();
    bytes.resize(at + SUM_BYTES, 0);
    write(bytes);
    let (sum, len) = (checksum(&bytes[at + SUM_BYTES..]), bytes.len() - at - SUM_BYTES);
    let line = format!("#SUM:{sum:016x} {len:012}\r\n");
    bytes[at..at + SUM_BYTES].copy_from_slice(line.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_of_words_of_any_length_is_read_as_it_was() {
        for n in [0, 1, 9, 10, 11, 99, 100, 101, 999, 1000, 100_000] {
            let words = vec![vec![b'x'; n]; n.min(1000).max(1)];
            let mut bytes = b"before".to_vec();
            write_command(&mut bytes, &words, false);
            let mut expected = format!("before*{}\r\n", words.len()).into_bytes();
            for word in &words {
                expected.extend(format!("${n}\r\n").bytes());
                expected.extend(word);
                expected.extend(b"\r\n");
            }
            assert!(bytes == expected, "words of {n} bytes");
        }
    }

    #[test]
    fn messages_are_left_out_of_files() {
        let mut unit = Unit::of(0, &["SET", "a", "1"]);
        unit.add_message(0, &["PUBLISH", "news", "hello"]);
        unit.add(0, &["SET", "b", "1"]);
        let text = |unit: &Unit| {
            let mut bytes = Vec::new();
            unit.write(&mut bytes, &mut Some(0), false);
            String::from_utf8(bytes).unwrap()
        };
        assert!(!unit.is_for_all() && text(&unit).contains("hello"));
        let rest = unit.part(|audience| audience.file);
        assert_eq!(text(&rest).matches("SET").count(), 2);
        assert!(rest.is_for_all() && !text(&rest).contains("hello"));
    }
}
