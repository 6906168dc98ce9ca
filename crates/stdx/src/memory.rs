//! Sizes as `redis.conf` and `CONFIG SET` write them: `1gb`, `64mb`, `1k`, `100`.
//!
//! Without the `b` a unit counts in thousands, with it in powers of 1024. Case does not matter.
//! Fractions, signs and spaces are refused; no digits at all means zero.

/// The number of bytes that `text` names; `None` if it is malformed or beyond 64 bits.
pub fn parse_bytes(text: &[u8]) -> Option<u64> {
    let n_digits = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (digits, unit) = text.split_at(n_digits);
    let factor = match unit.to_ascii_lowercase().as_slice() {
        b"" | b"b" => 1,
        b"k" => 1000,
        b"kb" => 1 << 10,
        b"m" => 1_000_000,
        b"mb" => 1 << 20,
        b"g" => 1_000_000_000,
        b"gb" => 1 << 30,
        _ => return None,
    };
    let count = digits
        .iter()
        .try_fold(0u64, |sum, digit| sum.checked_mul(10)?.checked_add(u64::from(digit - b'0')))?;
    count.checked_mul(factor)
}

#[cfg(test)]
mod tests {
    use super::parse_bytes;

    #[test]
    fn units() {
        for (text, bytes) in [
            ("0", 0),
            ("100", 100),
            ("10b", 10),
            ("1k", 1000),
            ("1KB", 1024),
            ("5m", 5_000_000),
            ("64mb", 64 << 20),
            ("2g", 2_000_000_000),
            ("1Gb", 1 << 30),
            ("", 0),
            ("gb", 0),
        ] {
            assert_eq!(parse_bytes(text.as_bytes()), Some(bytes), "{text}");
        }
    }

    #[test]
    fn refusals() {
        for text in [
            "-1",
            "+1",
            "1.5gb",
            "1 mb",
            "1t",
            "5%",
            "99999999999999999999",
            "17179869184gb",
        ] {
            assert_eq!(parse_bytes(text.as_bytes()), None, "{text}");
        }
    }
}
