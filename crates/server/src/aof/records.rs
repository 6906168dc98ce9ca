//! The records of an append-only file: commands, and notes that begin with `#`. A note may state the
//! checksum of the command behind it (see `journal::unit::write_command`): then every byte of that is looked at
//! before anybody acts on it.

use std::io::{self, BufRead, BufReader, Read};

use rdb::crc::Checksum;

/// Bytes of a line at most.
const LINE_BYTES_MAX: u64 = 1024;
/// Words of a command at most.
const WORDS_MAX: usize = i32::MAX as usize;
/// Bytes of a word at most.
const WORD_BYTES_MAX: u64 = 4 << 30;

/// What stands next.
#[derive(Debug, PartialEq, Eq)]
pub enum Record {
    /// Nothing.
    End,
    /// A line for tools.
    Note(Vec<u8>),
    /// A command.
    Command(Vec<Vec<u8>>),
}

/// Why the next record cannot be read.
#[derive(Debug)]
pub enum Flaw {
    /// The file ends within it.
    Truncated,
    /// It is no record.
    Format(&'static str),
    /// It is not what was written there: its checksum, whose line begins here, is another.
    Sum(u64),
    /// The system does not give it.
    Io(io::Error),
}

impl From<io::Error> for Flaw {
    fn from(error: io::Error) -> Flaw {
        Flaw::Io(error)
    }
}

/// Reads records from `source`.
pub struct Records<R> {
    source: BufReader<R>,
    offset: u64,
    n_lines: u64,
    sum: Option<Sum>,
}

/// What the next command must be like.
struct Sum {
    /// Where the line that says so begins.
    begin: u64,
    stated: u64,
    /// Where the command ends.
    end: u64,
    seen: Checksum,
}

impl<R: Read> Records<R> {
    /// Those of a source that stands at `offset` of its file.
    pub fn new(source: R, offset: u64) -> Records<R> {
        Records {
            source: BufReader::with_capacity(64 << 10, source),
            offset,
            n_lines: 0,
            sum: None,
        }
    }

    /// Where the last record ended, or the broken one was left.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// Lines that ended so far; what stands within words does not count.
    pub fn n_lines(&self) -> u64 {
        self.n_lines
    }

    /// The next record. Memory grows with what is read.
    pub fn read(&mut self) -> Result<Record, Flaw> {
        let first = self.source.fill_buf()?.first().copied();
        match (&self.sum, first) {
            (None, None) => return Ok(Record::End),
            (None, Some(b'#')) => return self.note(),
            _ => {}
        }
        let result = match first {
            Some(b'*') => self.command(),
            Some(_) => Err(Flaw::Format("a command must begin with '*'")),
            None => Err(Flaw::Truncated),
        };
        let Some(sum) = self.sum.take() else {
            return result;
        };
        match result {
            Ok(_) if self.offset == sum.end && sum.seen.value() == sum.stated => result,
            Err(Flaw::Truncated) if self.offset < sum.end => result,
            Err(Flaw::Io(_)) => result,
            _ => Err(Flaw::Sum(sum.begin)),
        }
    }

    fn note(&mut self) -> Result<Record, Flaw> {
        let begin = self.offset;
        let line = self.line()?;
        if let Some(text) = line.strip_prefix(b"#SUM:") {
            let (stated, len) = sum_and_length(text)
                .ok_or(Flaw::Format("a line that should state a checksum and does not"))?;
            self.sum = Some(Sum {
                begin,
                stated,
                end: self.offset.saturating_add(len),
                seen: Checksum::default(),
            });
        }
        Ok(Record::Note(line))
    }

    fn command(&mut self) -> Result<Record, Flaw> {
        let n_words = number(&self.line()?, b'*')?;
        let n_words = usize::try_from(n_words)
            .ok()
            .filter(|n| (1..=WORDS_MAX).contains(n));
        let n_words = n_words.ok_or(Flaw::Format("a wrong number of words"))?;
        let mut words = Vec::with_capacity(n_words.min(16));
        for _ in 0..n_words {
            words.push(self.word()?);
        }
        Ok(Record::Command(words))
    }

    fn word(&mut self) -> Result<Vec<u8>, Flaw> {
        let n_bytes = number(&self.line()?, b'$')?;
        if n_bytes > WORD_BYTES_MAX {
            return Err(Flaw::Format("a word that is too long"));
        }
        if let Some(sum) = &self.sum
            && self.offset.saturating_add(n_bytes) > sum.end
        {
            return Err(Flaw::Sum(sum.begin));
        }
        let mut word = Vec::new();
        let n_read = (&mut self.source).take(n_bytes).read_to_end(&mut word)? as u64;
        self.took(&word);
        if n_read < n_bytes {
            return Err(Flaw::Truncated);
        }
        let mut end = [0; 2];
        for byte in &mut end {
            let n = self.source.read(std::slice::from_mut(byte))?;
            if n == 0 {
                return Err(Flaw::Truncated);
            }
            self.took(&[*byte]);
        }
        self.n_lines += 1;
        match &end == b"\r\n" {
            true => Ok(word),
            false => Err(Flaw::Format("a word that does not end where it should")),
        }
    }

    fn took(&mut self, bytes: &[u8]) {
        self.offset += bytes.len() as u64;
        if let Some(sum) = &mut self.sum {
            sum.seen.update(bytes);
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, Flaw> {
        let mut line = Vec::new();
        let mut source = (&mut self.source).take(LINE_BYTES_MAX);
        source.read_until(b'\n', &mut line)?;
        self.took(&line);
        if line.ends_with(b"\r\n") {
            line.truncate(line.len() - 2);
            self.n_lines += 1;
            return Ok(line);
        }
        match line.ends_with(b"\n") || line.len() as u64 == LINE_BYTES_MAX {
            true => Err(Flaw::Format("a line that does not end with CR LF")),
            false => Err(Flaw::Truncated),
        }
    }
}

/// What a line with a checksum says: 16 hexadecimal digits, a blank, 12 digits.
fn sum_and_length(text: &[u8]) -> Option<(u64, u64)> {
    let text = std::str::from_utf8(text).ok()?;
    let (sum, len) = text.split_once(' ')?;
    let is_strange = |byte: u8| byte == b'+' || byte.is_ascii_uppercase();
    let is_form = sum.len() == 16 && len.len() == 12 && !text.bytes().any(is_strange);
    is_form.then_some(())?;
    Some((u64::from_str_radix(sum, 16).ok()?, len.parse().ok()?))
}

fn number(line: &[u8], mark: u8) -> Result<u64, Flaw> {
    let digits = line.strip_prefix(&[mark]);
    let digits = digits.and_then(|digits| std::str::from_utf8(digits).ok());
    let number = digits.and_then(|digits| digits.parse().ok());
    number.ok_or(match mark {
        b'*' => Flaw::Format("a wrong number of words"),
        _ => Flaw::Format("a word must begin with '$' and its length"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_read_and_flaws_told_with_their_place() {
        let text = b"#TS:1\r\n*2\r\n$3\r\nDEL\r\n$1\r\nk\r\n";
        let mut records = Records::new(&text[..], 0);
        assert_eq!(records.read().unwrap(), Record::Note(b"#TS:1".to_vec()));
        let command = vec![b"DEL".to_vec(), b"k".to_vec()];
        assert_eq!(records.read().unwrap(), Record::Command(command));
        assert_eq!(records.offset(), text.len() as u64);
        assert_eq!(records.read().unwrap(), Record::End);
        for end in 8..text.len() {
            let mut records = Records::new(&text[..end], 0);
            records.read().unwrap();
            assert!(matches!(records.read(), Err(Flaw::Truncated)), "{end}");
        }
        // Nothing may be changed in a record with a checksum without being noticed.
        let mut summed = Vec::new();
        crate::journal::unit::write_command(&mut summed, &["DEL", "k"], true);
        for bit in 0..summed.len() * 8 {
            let mut text = summed.clone();
            text[bit / 8] ^= 1 << (bit % 8);
            let mut records = Records::new(&text[..], 0);
            let unflawed = (0..2)
                .map(|_| records.read())
                .find_map(|result| match result {
                    Ok(Record::Note(_)) => None,
                    other => Some(other),
                });
            match unflawed {
                Some(Err(Flaw::Sum(0) | Flaw::Format(_))) => {}
                // Only the word for checksums, without which nothing was wrong.
                Some(Ok(Record::Command(words))) => {
                    assert!(bit < 5 * 8 && words == [b"DEL".to_vec(), b"k".to_vec()], "{bit}");
                }
                other => panic!("bit {bit}: {other:?}"),
            }
        }
        for end in 1..summed.len() {
            let mut records = Records::new(&summed[..end], 0);
            let last = (0..2).map(|_| records.read()).find(Result::is_err);
            assert!(matches!(last, Some(Err(Flaw::Truncated))), "{end}");
        }
        for wrong in [
            "x",
            "*0\r\n",
            "*1\n$1",
            "*1\r\n$x\r\n",
            "*1\r\n$1\r\nabc\r\n",
            "*1\r\n:1\r\n",
        ] {
            let mut records = Records::new(wrong.as_bytes(), 0);
            assert!(matches!(records.read(), Err(Flaw::Format(_))), "{wrong:?}");
        }
    }
}
