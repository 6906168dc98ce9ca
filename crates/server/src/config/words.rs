//! Lines of the configuration file into words, and words into quoted text.
//!
//! Words are separated by blanks. In double quotes `\n \r \t \b \a \xHH` are escapes and a backslash
//! before any other character means that character; in single quotes only `\'` is one. A closing
//! quote must be followed by a blank or the end.

/// Splits a line; `None` if its quotes do not balance.
pub fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    let mut words = Vec::new();
    let mut rest = line;
    loop {
        let blanks = rest.iter().take_while(|byte| is_blank(**byte)).count();
        rest = &rest[blanks..];
        if rest.is_empty() {
            return Some(words);
        }
        let (word, used) = one_word(rest)?;
        words.push(word);
        rest = &rest[used..];
    }
}

fn is_blank(byte: u8) -> bool {
    byte.is_ascii_whitespace() || byte == 0x0b || byte == 0
}

fn one_word(text: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut word = Vec::new();
    let mut at = 0;
    while let Some(byte) = text.get(at).copied() {
        match byte {
            b'"' | b'\'' => {
                at += 1 + quoted(&text[at + 1..], byte, &mut word)?;
                return match text.get(at) {
                    Some(next) if !is_blank(*next) => None,
                    _ => Some((word, at)),
                };
            }
            byte if is_blank(byte) => break,
            byte => word.push(byte),
        }
        at += 1;
    }
    Some((word, at))
}

fn quoted(text: &[u8], quote: u8, word: &mut Vec<u8>) -> Option<usize> {
    let mut at = 0;
    loop {
        match (&text[at..], quote) {
            ([], _) => return None,
            ([first, ..], quote) if *first == quote => return Some(at + 1),
            ([b'\\', b'x', high, low, ..], b'"')
                if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() =>
            {
                word.push(hex(*high) * 16 + hex(*low));
                at += 4;
            }
            ([b'\\', escaped, ..], b'"') => {
                word.push(unescaped(*escaped));
                at += 2;
            }
            ([b'\\', b'\'', ..], b'\'') => {
                word.push(b'\'');
                at += 2;
            }
            ([byte, ..], _) => {
                word.push(*byte);
                at += 1;
            }
        }
    }
}

fn unescaped(byte: u8) -> u8 {
    match byte {
        b'n' => b'\n',
        b'r' => b'\r',
        b't' => b'\t',
        b'b' => 0x08,
        b'a' => 0x07,
        other => other,
    }
}

fn hex(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        b'a'..=b'f' => digit - b'a' + 10,
        _ => digit.wrapping_sub(b'A').wrapping_add(10),
    }
}

/// Appends `text` in double quotes, escaped so that [`split`] reads it back.
pub fn quote(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for byte in text {
        match byte {
            b'"' | b'\\' => out.extend([b'\\', *byte]),
            b'\n' => out.extend(b"\\n"),
            b'\r' => out.extend(b"\\r"),
            b'\t' => out.extend(b"\\t"),
            0x07 => out.extend(b"\\a"),
            0x08 => out.extend(b"\\b"),
            0x20..=0x7e => out.push(*byte),
            other => out.extend(format!("\\x{other:02x}").bytes()),
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use super::{quote, split};

    fn check(line: &str, words: &[&str]) {
        let expected: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        assert_eq!(split(line.as_bytes()), Some(expected), "{line}");
    }

    #[test]
    fn words_quotes_and_escapes() {
        check("  port   7000\t", &["port", "7000"]);
        check("", &[]);
        check(r#"save """#, &["save", ""]);
        check("save ''", &["save", ""]);
        check(r#"a "b c" 'd "e'"#, &["a", "b c", "d \"e"]);
        check(r#""\n\x41\"\q" 'it\'s \n'"#, &["\nA\"q", "it's \\n"]);
        check(r#"pre"fixed word""#, &["prefixed word"]);
    }

    #[test]
    fn unbalanced_quotes_are_refused() {
        for line in [r#"a "b"#, "a 'b", r#""a"b"#, "'a'b", r#""\"#] {
            assert_eq!(split(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn quoted_text_reads_back() {
        let every_byte: Vec<u8> = (0..=255).collect();
        let mut line = Vec::new();
        quote(&every_byte, &mut line);
        assert_eq!(split(&line), Some(vec![every_byte]));
    }
}
