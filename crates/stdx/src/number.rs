//! Numbers in requests and replies: which texts are numbers, and how integers are written.
//!
//! An integer is its canonical text and nothing else, so that a value which parses can be stored
//! as a number and printed back byte for byte. Doubles are read as C reads them, without spaces
//! and without NaN. Printing doubles is in `double`, the wider arithmetic of `INCRBYFLOAT` in
//! `long_double`.

use crate::long_double::parse_hex_f64;

/// The longest text of an `i64`.
pub const I64_TEXT_MAX: usize = 20;

/// Parses a canonical decimal integer: no leading zeros, `+`, `-0`, spaces or overflow.
#[inline]
pub fn parse_i64(text: &[u8]) -> Option<i64> {
    match text {
        [b'-', digits @ ..] => match parse_u64(digits)? {
            0 => None,
            magnitude => 0i64.checked_sub_unsigned(magnitude),
        },
        digits => i64::try_from(parse_u64(digits)?).ok(),
    }
}

/// Parses a canonical unsigned decimal integer: digits only, no leading zeros, no overflow.
#[inline]
pub fn parse_u64(text: &[u8]) -> Option<u64> {
    let (&first, rest) = text.split_first()?;
    if first == b'0' && rest.is_empty() {
        return Some(0);
    }
    if !matches!(first, b'1'..=b'9') || rest.len() >= I64_TEXT_MAX {
        return None;
    }
    let mut value = u64::from(first - b'0');
    for &byte in rest {
        let digit = byte.wrapping_sub(b'0');
        if digit > 9 {
            return None;
        }
        value = if rest.len() < 18 {
            value * 10 + u64::from(digit)
        } else {
            value.checked_mul(10)?.checked_add(u64::from(digit))?
        };
    }
    Some(value)
}

/// Parses a score or float argument: decimal, exponent, hexadecimal (`0x1p3`), `inf`, `infinity`.
///
/// NaN, spaces, the empty text and values that overflow or vanish to zero are refused.
pub fn parse_f64(text: &[u8]) -> Option<f64> {
    if text.len() <= EXACT_DIGITS
        && let Some(value) = parse_i64(text)
    {
        return Some(value as f64); // most scores are whole
    }
    let (negative, magnitude) = split_sign(text);
    if let [b'0', b'x' | b'X', hex @ ..] = magnitude {
        return parse_hex_f64(negative, hex);
    }
    let value: f64 = fast_float2::parse(text).ok()?;
    let lost = match value {
        _ if value.is_nan() => true,
        _ if value.is_infinite() => !magnitude[0].eq_ignore_ascii_case(&b'i'),
        _ if value == 0.0 => magnitude
            .iter()
            .take_while(|byte| !byte.eq_ignore_ascii_case(&b'e'))
            .any(|byte| matches!(byte, b'1'..=b'9')),
        _ => false,
    };
    (!lost).then_some(value)
}

/// Integers of so many digits are exact as doubles.
const EXACT_DIGITS: usize = 15;

/// Parses an end of a score range (without its `(`): the laxer reading of `ZRANGEBYSCORE`.
///
/// The text ends at a NUL, none at all is zero, too large is infinite; hexadecimal is refused.
pub fn parse_score_bound(text: &[u8]) -> Option<f64> {
    let text = text.split(|&byte| byte == 0).next().unwrap_or_default();
    if text.is_empty() {
        return Some(0.0);
    }
    fast_float2::parse(text)
        .ok()
        .filter(|value: &f64| !value.is_nan())
}

/// Appends the decimal text of `value`.
#[inline]
pub fn write_i64(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The decimal text of an integer, kept on the stack.
#[derive(Clone, Copy)]
pub struct I64Text {
    bytes: [u8; I64_TEXT_MAX],
    len: u8,
}

impl I64Text {
    /// Formats `value`.
    #[inline]
    pub fn new(value: i64) -> I64Text {
        let mut buffer = itoa::Buffer::new();
        let text = buffer.format(value).as_bytes();
        let mut bytes = [0; I64_TEXT_MAX];
        bytes[..text.len()].copy_from_slice(text);
        I64Text {
            bytes,
            len: text.len() as u8,
        }
    }

    /// The digits, with a sign if negative.
    #[inline]
    pub fn as_bytes(&self) -> &[u8] {
        &self.bytes[..usize::from(self.len)]
    }
}

impl AsRef<[u8]> for I64Text {
    fn as_ref(&self) -> &[u8] {
        self.as_bytes()
    }
}

/// Splits a leading sign off; true if it is a minus.
pub(crate) fn split_sign(text: &[u8]) -> (bool, &[u8]) {
    match text {
        [b'-', rest @ ..] => (true, rest),
        [b'+', rest @ ..] => (false, rest),
        rest => (false, rest),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn integers_are_canonical() {
        for value in [
            0,
            1,
            -1,
            9,
            10,
            12345,
            i64::MAX,
            i64::MIN,
            i64::MAX - 1,
            i64::MIN + 1,
        ] {
            let text = value.to_string();
            assert_eq!(parse_i64(text.as_bytes()), Some(value));
            assert_eq!(I64Text::new(value).as_bytes(), text.as_bytes());
        }
        for text in [
            "",
            "-",
            "+1",
            "-0",
            "00",
            "01",
            "-01",
            " 1",
            "1 ",
            "1a",
            "a",
            "9223372036854775808",
            "-9223372036854775809",
            "99999999999999999999",
            "111111111111111111111",
            "1.0",
        ] {
            assert_eq!(parse_i64(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn unsigned_integers_reach_further() {
        assert_eq!(parse_u64(b"18446744073709551615"), Some(u64::MAX));
        assert_eq!(parse_u64(b"18446744073709551616"), None);
        assert_eq!(parse_u64(b"-1"), None);
    }

    #[test]
    fn floats() {
        for (text, value) in [
            ("3", 3.0),
            ("+5", 5.0),
            ("5.", 5.0),
            (".5", 0.5),
            ("1e5", 1e5),
            ("1E-5", 1e-5),
            ("inf", f64::INFINITY),
            ("+INF", f64::INFINITY),
            ("-iNfInItY", f64::NEG_INFINITY),
            ("0x10", 16.0),
            ("0x1p3", 8.0),
            ("-0x1.8p1", -3.0),
            ("4e-324", 5e-324),
            ("0e999999", 0.0),
            ("00012", 12.0),
        ] {
            assert_eq!(parse_f64(text.as_bytes()), Some(value), "{text}");
        }
        for text in [
            "",
            " 1",
            "1 ",
            "nan",
            "-nan",
            "NaN",
            "nan(1)",
            "1e400",
            "-1e400",
            "1e-400",
            "1e",
            "1e+",
            "1_0",
            "1\0",
            "++1",
            "-+1",
            "in",
            "infi",
            ".",
            "-",
            "+",
            "0x",
            "1e99999999999",
        ] {
            assert_eq!(parse_f64(text.as_bytes()), None, "{text:?}");
        }
    }

    #[test]
    fn score_bounds_are_laxer() {
        assert_eq!(parse_score_bound(b""), Some(0.0));
        assert_eq!(parse_score_bound(b"1\0x"), Some(1.0));
        assert_eq!(parse_score_bound(b"1e400"), Some(f64::INFINITY));
        assert_eq!(parse_score_bound(b"0x10"), None);
        assert_eq!(parse_score_bound(b"nan"), None);
        assert_eq!(parse_score_bound(b"a"), None);
    }
}
