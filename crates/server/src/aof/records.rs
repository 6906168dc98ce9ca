//! The records of an append-only file: commands, and notes that begin with `#`.

use std::io::{self, BufRead, BufReader, Read};

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
}

impl<R: Read> Records<R> {
    /// Those of a source that stands at `offset` of its file.
    pub fn new(source: R, offset: u64) -> Records<R> {
        Records {
            source: BufReader::with_capacity(64 << 10, source),
            offset,
        }
    }

    /// Where the last record ended, or the broken one was left.
    pub fn offset(&self) -> u64 {
        self.offset
    }

    /// The next record. Memory grows with what is read.
    pub fn read(&mut self) -> Result<Record, Flaw> {
        match self.source.fill_buf()?.first() {
            None => return Ok(Record::End),
            Some(b'#') => return Ok(Record::Note(self.line()?)),
            Some(b'*') => {}
            Some(_) => return Err(Flaw::Format("a command must begin with '*'")),
        }
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
        let mut word = Vec::new();
        let n_read = (&mut self.source).take(n_bytes).read_to_end(&mut word)? as u64;
        self.offset += n_read;
        if n_read < n_bytes {
            return Err(Flaw::Truncated);
        }
        let mut end = [0; 2];
        for byte in &mut end {
            let n = self.source.read(std::slice::from_mut(byte))?;
            self.offset += n as u64;
            if n == 0 {
                return Err(Flaw::Truncated);
            }
        }
        match &end == b"\r\n" {
            true => Ok(word),
            false => Err(Flaw::Format("a word that does not end where it should")),
        }
    }

    fn line(&mut self) -> Result<Vec<u8>, Flaw> {
        let mut line = Vec::new();
        let mut source = (&mut self.source).take(LINE_BYTES_MAX);
        self.offset += source.read_until(b'\n', &mut line)? as u64;
        if line.ends_with(b"\r\n") {
            line.truncate(line.len() - 2);
            return Ok(line);
        }
        match line.ends_with(b"\n") || line.len() as u64 == LINE_BYTES_MAX {
            true => Err(Flaw::Format("a line that does not end with CR LF")),
            false => Err(Flaw::Truncated),
        }
    }
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
