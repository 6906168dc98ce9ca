//! Strings: bytes, or an integer in eight bytes when the text is one.

/// The integer whose canonical decimal text is exactly `text` (no sign on zero, no leading zeros).
#[inline]
pub fn canonical_int(text: &[u8]) -> Option<i64> {
    let (negative, digits) = match text {
        [b'-', digits @ ..] => (true, digits),
        digits => (false, digits),
    };
    let first = *digits.first()?;
    if !first.is_ascii_digit() || digits.len() > 19 {
        return None;
    }
    if first == b'0' {
        return (text.len() == 1).then_some(0);
    }
    let mut magnitude = 0u64;
    for &digit in digits {
        let digit = digit.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        magnitude = magnitude * 10 + u64::from(digit);
    }
    match negative {
        true => 0i64.checked_sub_unsigned(magnitude),
        false => i64::try_from(magnitude).ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::canonical_int;

    #[test]
    fn only_canonical_text_is_an_integer() {
        let good = [0, 7, -1, 10, i64::MAX, i64::MIN, 1_000_000];
        for n in good {
            assert_eq!(canonical_int(n.to_string().as_bytes()), Some(n));
        }
        let bad = [
            "",
            "-",
            "-0",
            "00",
            "01",
            "+1",
            " 1",
            "1 ",
            "1a",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
        ];
        for text in bad {
            assert_eq!(canonical_int(text.as_bytes()), None, "{text}");
        }
    }
}
