//! The quoting that inline commands, `redis.conf` and the prompt of the command line share.
//!
//! ```text
//! plain      ends at a blank; a quote inside it starts a quoted part
//! "double"   \n \r \t \b \a \xHH, and \c is c itself
//! 'single'   only \' is special
//! ```
//!
//! A closing quote must be followed by a blank or the end of the line. Unescaping never lengthens a
//! text, so a line can be split in place: each argument is rewritten where it stood.

/// A quote without its end, or a closing quote with text right behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unbalanced;

/// Splits `line` into arguments, rewriting quoted ones where they stand.
///
/// `each` receives the start and the length of every argument within `line`. O(line).
pub fn split_in_place(
    line: &mut [u8],
    mut each: impl FnMut(usize, usize),
) -> Result<(), Unbalanced> {
    let mut read = 0;
    loop {
        while line.get(read).copied().is_some_and(is_space) {
            read += 1;
        }
        if read == line.len() {
            return Ok(());
        }
        let start = read;
        let mut write = read;
        while let Some(&byte) = line.get(read) {
            read += 1;
            match byte {
                b' ' | b'\n' | b'\r' | b'\t' | 0 => break,
                b'"' => read = unquote(line, read, &mut write, unescape_double)?,
                b'\'' => read = unquote(line, read, &mut write, unescape_single)?,
                plain => {
                    line[write] = plain;
                    write += 1;
                }
            }
        }
        each(start, write - start);
    }
}

/// Splits a copy of `line` into owned arguments.
pub fn split(line: &[u8]) -> Result<Vec<Vec<u8>>, Unbalanced> {
    let mut line = line.to_vec();
    let mut ranges = Vec::new();
    split_in_place(&mut line, |start, len| ranges.push(start..start + len))?;
    Ok(ranges
        .into_iter()
        .map(|range| line[range].to_vec())
        .collect())
}

/// Appends `text` in double quotes, everything unprintable escaped, so that it can be split again.
pub fn write_quoted(out: &mut Vec<u8>, text: &[u8]) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    out.push(b'"');
    for &byte in text {
        match byte {
            b'\\' | b'"' => out.extend_from_slice(&[b'\\', byte]),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            7 => out.extend_from_slice(b"\\a"),
            8 => out.extend_from_slice(b"\\b"),
            b' '..=b'~' => out.push(byte),
            _ => {
                let (high, low) = (HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]);
                out.extend_from_slice(&[b'\\', b'x', high, low]);
            }
        }
    }
    out.push(b'"');
}

fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t'..=b'\r' | 0)
}

/// One step inside quotes: the byte meant and how many were read; `None` at the closing quote.
type Unescape = fn(&[u8]) -> Option<(u8, usize)>;

/// Copies a quoted part whose first byte is at `read`; the position after its closing quote.
fn unquote(
    line: &mut [u8],
    mut read: usize,
    write: &mut usize,
    unescape: Unescape,
) -> Result<usize, Unbalanced> {
    while read < line.len() {
        let Some((byte, n_read)) = unescape(&line[read..]) else {
            read += 1;
            let ends = line.get(read).copied().is_none_or(is_space);
            return if ends { Ok(read) } else { Err(Unbalanced) };
        };
        line[*write] = byte;
        *write += 1;
        read += n_read;
    }
    Err(Unbalanced)
}

fn unescape_double(rest: &[u8]) -> Option<(u8, usize)> {
    match *rest {
        [b'\\', b'x', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
            Some((hex_digit(high) << 4 | hex_digit(low), 4))
        }
        [b'\\', escaped, ..] => {
            let byte = match escaped {
                b'n' => b'\n',
                b'r' => b'\r',
                b't' => b'\t',
                b'b' => 8,
                b'a' => 7,
                other => other,
            };
            Some((byte, 2))
        }
        [b'"', ..] | [] => None,
        [plain, ..] => Some((plain, 1)),
    }
}

fn unescape_single(rest: &[u8]) -> Option<(u8, usize)> {
    match *rest {
        [b'\\', b'\'', ..] => Some((b'\'', 2)),
        [b'\'', ..] | [] => None,
        [plain, ..] => Some((plain, 1)),
    }
}

fn hex_digit(byte: u8) -> u8 {
    match byte {
        b'0'..=b'9' => byte - b'0',
        _ => (byte | 0x20) - b'a' + 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(line: &str, expected: &[&[u8]]) {
        assert_eq!(split(line.as_bytes()).unwrap(), expected, "{line}");
    }

    #[test]
    fn plain_and_quoted() {
        check("", &[]);
        check("  \t ", &[]);
        check("set  k v\r", &[b"set", b"k", b"v"]);
        check(r#"set "a b" 'c d'"#, &[b"set", b"a b", b"c d"]);
        check(r#""" x"#, &[b"", b"x"]);
        check(r#"foo"bar" x"#, &[b"foobar", b"x"]);
        check(r#""\x41\n\r\t\b\a\"\\\q\xZZ""#, &[b"A\n\r\t\x08\x07\"\\qxZZ"]);
        check(r"'it\'s \n'", &[b"it's \\n"]);
    }

    #[test]
    fn unbalanced() {
        for line in ["\"a", "'a", "\"a\"b", "'a'b", "\"a\\\"", "a \"\\x4"] {
            assert_eq!(split(line.as_bytes()), Err(Unbalanced), "{line}");
        }
    }

    #[test]
    fn what_is_written_can_be_split_again() {
        let all: Vec<u8> = (0..=255).collect();
        let mut line = Vec::new();
        write_quoted(&mut line, &all);
        assert!(line.iter().all(|byte| (b' '..=b'~').contains(byte)));
        assert_eq!(split(&line).unwrap(), [all]);
    }
}
