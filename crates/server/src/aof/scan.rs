//! How far a file of the append-only file is good, without acting on it: for the tools.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};

use super::records::{Flaw, Record, Records};

/// Records between two calls of who shows how far it is.
const RECORDS_PER_LOOK: u64 = 1024;

/// What was found in a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Where the last command or transaction that is whole ends.
    pub good: u64,
    /// Its last line, counted from 1.
    pub line: u64,
    /// What is wrong behind that, and where.
    pub flaw: Option<(u64, String)>,
    /// Where the first thing of a later time begins.
    pub later: Option<u64>,
    /// The first time that is stated, Unix seconds.
    pub first_s: Option<i64>,
    /// The last that was not later.
    pub last_s: Option<i64>,
}

/// Reads a file from `start` on, to its end or to the first time that is later than `until_s`.
pub fn scan(
    mut file: File,
    start: u64,
    until_s: Option<i64>,
    see: &mut dyn FnMut(u64),
) -> io::Result<Span> {
    file.seek(SeekFrom::Start(start))?;
    scan_source(file, start, until_s, see)
}

/// The same for any source of bytes, which stands at `start` of its file.
pub fn scan_source(
    source: impl Read,
    start: u64,
    until_s: Option<i64>,
    see: &mut dyn FnMut(u64),
) -> io::Result<Span> {
    let mut records = Records::new(source, start);
    let mut span = Span {
        good: start,
        line: 1,
        ..Span::default()
    };
    let mut is_in_block = false;
    for n_records in 1_u64.. {
        if n_records.is_multiple_of(RECORDS_PER_LOOK) {
            see(records.offset());
        }
        let begin = records.offset();
        let words = match records.read() {
            Ok(Record::Command(words)) => words,
            Ok(Record::Note(line)) => {
                let Some(stamp) = line.strip_prefix(b"#TS:") else {
                    continue; // a checksum belongs to what comes behind it
                };
                let stamp = std::str::from_utf8(stamp).ok();
                let Some(stamp_s) = stamp.and_then(|text| text.parse().ok()) else {
                    span.flaw = Some((begin, "Invalid timestamp annotation".to_owned()));
                    break;
                };
                span.first_s.get_or_insert(stamp_s);
                if until_s.is_some_and(|until_s| stamp_s > until_s) {
                    span.later = Some(begin);
                    break;
                }
                span.last_s = Some(stamp_s);
                if !is_in_block {
                    (span.good, span.line) = (records.offset(), records.n_lines() + 1);
                }
                continue;
            }
            Ok(Record::End) => {
                if is_in_block {
                    let what = "Reached EOF before reading EXEC for MULTI";
                    span.flaw = Some((begin, what.to_owned()));
                }
                break;
            }
            Err(flaw) => {
                span.flaw = Some(told(flaw, records.offset())?);
                span.line = records.n_lines() + 1;
                break;
            }
        };
        let is = |word: &str| words[0].eq_ignore_ascii_case(word.as_bytes());
        is_in_block = match is_in_block {
            true if is("multi") => {
                span.flaw = Some((begin, "Unexpected MULTI".to_owned()));
                break;
            }
            false if is("exec") => {
                span.flaw = Some((begin, "Unexpected EXEC".to_owned()));
                break;
            }
            true => !is("exec"),
            false => is("multi"),
        };
        if !is_in_block {
            (span.good, span.line) = (records.offset(), records.n_lines() + 1);
        }
    }
    Ok(span)
}

fn told(flaw: Flaw, offset: u64) -> io::Result<(u64, String)> {
    match flaw {
        Flaw::Io(error) => Err(error),
        Flaw::Truncated => Ok((offset, "Unexpected end of the file".to_owned())),
        Flaw::Format(what) => Ok((offset, format!("format error: {what}"))),
        Flaw::Sum(at) => Ok((
            at,
            "checksum error: the record behind this line is not what was written".to_owned(),
        )),
    }
}

/// Where the commands of a file begin when it begins with a snapshot: this is only whether it does.
pub fn is_snapshot(mut file: &File) -> io::Result<bool> {
    let mut magic = Vec::new();
    file.seek(SeekFrom::Start(0))?;
    file.take(6).read_to_end(&mut magic)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(magic.starts_with(b"REDIS") || magic == b"VALKEY")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn spanned(text: &str, until_s: Option<i64>) -> Span {
        scan_source(text.as_bytes(), 0, until_s, &mut |_| {}).unwrap()
    }

    #[test]
    fn it_is_good_up_to_the_last_whole_unit() {
        let set = "*3\r\n$3\r\nset\r\n$3\r\nfoo\r\n$5\r\nhello\r\n";
        let whole = set.len() as u64;
        let span = spanned(&format!("{set}!!!"), None);
        assert_eq!((span.good, span.line), (whole, 8));
        assert!(span.flaw.unwrap().1.contains("format error"));
        let block = "*1\r\n$5\r\nMULTI\r\n";
        for (tail, what) in [
            ("*1\r\n$3", "Unexpected end"),
            (block, "before reading EXEC"),
            ("*1\r\n$4\r\nEXEC\r\n", "Unexpected EXEC"),
            ("*1\r\n$5\r\nMULTI\r\n*1\r\n$5\r\nmulti\r\n", "Unexpected MULTI"),
        ] {
            let span = spanned(&format!("{set}{tail}"), None);
            assert_eq!(span.good, whole);
            assert!(span.flaw.unwrap().1.contains(what), "{tail}");
        }
        let span = spanned(&format!("{set}{block}{set}*1\r\n$4\r\nEXEC\r\n"), None);
        assert_eq!(span.flaw, None);
    }

    #[test]
    fn it_ends_where_a_later_time_is_stated() {
        let set = "*2\r\n$3\r\ndel\r\n$1\r\nk\r\n";
        let text = format!("#TS:10\r\n{set}#TS:12\r\n{set}");
        let later = |until_s| spanned(&text, Some(until_s)).later;
        assert_eq!(later(9), Some(0));
        assert_eq!(later(10), Some(8 + set.len() as u64));
        assert_eq!(later(11), later(10));
        assert_eq!(later(12), None);
        assert_eq!(spanned(&text, None).last_s, Some(12));
    }
}
