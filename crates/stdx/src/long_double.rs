//! The arithmetic of `INCRBYFLOAT` and `HINCRBYFLOAT`: one addition with a 64-bit mantissa.
//!
//! Redis adds these in C's `long double`, x87 extended precision, and prints 17 decimals without
//! trailing zeros. That type does not exist in Rust, and 53 bits would show: 3 + 1.1 must not
//! become 4.09999999999999964. So the value is kept as
//!
//! ```text
//! (-1)^negative × mantissa × 2^exponent      mantissa: 64 bits, top bit set, or 0 for zero
//!                                            lowest exponent -16445, highest 16320
//! ```
//!
//! and every operation rounds once, half to even. Texts within 19 digits and 19 decimals take a
//! 128-bit path; all others go through a small big integer.

use std::cmp::Ordering;

use crate::number::split_sign;

/// The exponent of the lowest bit of the smallest value, below which rounding loses bits.
const EXPONENT_MIN: i64 = -16445;
/// The exponent of the lowest bit of the largest values.
const EXPONENT_MAX: i64 = 16320;
/// Texts from this length on are refused, as the original refuses them.
const TEXT_MAX: usize = 5 * 1024;

/// Why an addition of two texts has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FloatError {
    /// One of the texts is not a number in range.
    NotAFloat,
    /// The sum is not finite.
    NanOrInfinity,
}

/// An x87 extended-precision number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LongDouble {
    negative: bool,
    mantissa: u64,
    exponent: i64,
    finite: bool,
}

/// Adds two decimal texts and prints the sum as `INCRBYFLOAT` does: 10.5 + 0.1 is `10.6`.
pub fn add_human(a: &[u8], b: &[u8]) -> Result<Vec<u8>, FloatError> {
    let a = LongDouble::parse(a).ok_or(FloatError::NotAFloat)?;
    let b = LongDouble::parse(b).ok_or(FloatError::NotAFloat)?;
    let sum = a.plus(b).ok_or(FloatError::NanOrInfinity)?;
    let mut out = Vec::with_capacity(32);
    sum.write_human(&mut out);
    Ok(out)
}

impl LongDouble {
    const ZERO: LongDouble = LongDouble {
        negative: false,
        mantissa: 0,
        exponent: 0,
        finite: true,
    };

    /// Parses decimal, exponent, hexadecimal and infinite texts, rounded to 64 bits.
    ///
    /// Spaces, the empty text, NaN, overflow, values that vanish to zero and texts of 5 KB are
    /// refused.
    pub fn parse(text: &[u8]) -> Option<LongDouble> {
        if text.len() >= TEXT_MAX {
            return None;
        }
        let (negative, magnitude) = split_sign(text);
        if magnitude.eq_ignore_ascii_case(b"inf") || magnitude.eq_ignore_ascii_case(b"infinity") {
            return Some(LongDouble {
                negative,
                finite: false,
                ..LongDouble::ZERO
            });
        }
        let parsed = match magnitude {
            [b'0', b'x' | b'X', hex @ ..] => {
                let (value, exponent) = read_hex(hex)?;
                checked(round(negative, value, exponent), value != 0)?
            }
            decimal => parse_decimal(negative, decimal)?,
        };
        parsed.finite.then_some(parsed)
    }

    /// Whether this is not an infinity.
    pub fn is_finite(self) -> bool {
        self.finite
    }

    /// The sum, rounded once; `None` if it is infinite or an operand was.
    pub fn plus(self, other: LongDouble) -> Option<LongDouble> {
        if !self.finite || !other.finite {
            return None;
        }
        if self.mantissa == 0 || other.mantissa == 0 {
            return Some(if self.mantissa == 0 { other } else { self });
        }
        let (big, small) = if self.exponent >= other.exponent {
            (self, other)
        } else {
            (other, self)
        };
        let high = u128::from(big.mantissa) << 63;
        let low = u128::from(small.mantissa) << 63;
        let distance = big.exponent - small.exponent;
        let (low, lost) = match u32::try_from(distance) {
            Ok(shift @ 0..=127) => (low >> shift, low & ((1 << shift) - 1) != 0),
            _ => (0, true),
        };
        let low = low | u128::from(lost);
        let exponent = big.exponent - 63;
        let sum = if big.negative == small.negative {
            round(big.negative, high + low, exponent)
        } else if high >= low {
            round(big.negative, high - low, exponent)
        } else {
            round(small.negative, low - high, exponent)
        };
        sum.finite.then_some(sum)
    }

    /// The number with the other sign.
    pub fn negated(self) -> LongDouble {
        LongDouble {
            negative: !self.negative,
            ..self
        }
    }

    /// Which of two is greater; zeros are equal whatever their sign.
    pub fn total_order(self, other: LongDouble) -> Ordering {
        if self.mantissa == 0 && other.mantissa == 0 && self.finite && other.finite {
            return Ordering::Equal;
        }
        let magnitude = |n: LongDouble| match (n.finite, n.mantissa) {
            (false, _) => (i64::MAX, 0),
            (true, 0) => (i64::MIN, 0),
            (true, mantissa) => (n.exponent, mantissa), // the top bit is set, but for the smallest
        };
        match (self.negative, other.negative) {
            (false, true) => Ordering::Greater,
            (true, false) => Ordering::Less,
            (false, false) => magnitude(self).cmp(&magnitude(other)),
            (true, true) => magnitude(other).cmp(&magnitude(self)),
        }
    }

    /// Appends the value with up to 17 decimals and no trailing zeros; `0` without a sign.
    pub fn write_human(self, out: &mut Vec<u8>) {
        const DECIMALS: usize = 17;
        if !self.finite {
            out.extend_from_slice(if self.negative { b"-inf" } else { b"inf" });
            return;
        }
        if self.mantissa == 0 {
            out.push(b'0');
            return;
        }
        let start = out.len();
        if self.negative {
            out.push(b'-');
        }
        if self.exponent >= 0 {
            let mut whole = Big::from(self.mantissa);
            whole.shift_left(self.exponent as usize);
            whole.write_decimal(out);
            return;
        }
        let scaled = u128::from(self.mantissa) * 10u128.pow(DECIMALS as u32);
        let scaled = shift_right_rounding(scaled, -self.exponent);
        if scaled == 0 {
            out.truncate(start);
            out.push(b'0');
            return;
        }
        let text = format!("{scaled:0width$}", width = DECIMALS + 1);
        let (whole, decimals) = text.split_at(text.len() - DECIMALS);
        out.extend_from_slice(whole.as_bytes());
        let decimals = decimals.trim_end_matches('0');
        if !decimals.is_empty() {
            out.push(b'.');
            out.extend_from_slice(decimals.as_bytes());
        }
    }
}

/// Parses `0x` text, its sign split off, straight to a double; `None` if it overflows or vanishes.
pub(crate) fn parse_hex_f64(negative: bool, text: &[u8]) -> Option<f64> {
    const LOWEST: i64 = -1074;
    let (value, exponent) = read_hex(text)?;
    let bits = 128 - i64::from(value.leading_zeros());
    let shift = (bits - 53).max(LOWEST - exponent).max(0);
    let kept = shift_right_rounding(value, shift);
    let exponent = (exponent + shift).clamp(-4000, 4000) as i32;
    let magnitude = kept as f64 * 2f64.powi(exponent / 2) * 2f64.powi(exponent - exponent / 2);
    let lost = magnitude.is_infinite() || (magnitude == 0.0 && value != 0);
    (!lost).then_some(if negative { -magnitude } else { magnitude })
}

/// Rounds `value × 2^exponent` to the format.
fn round(negative: bool, value: u128, exponent: i64) -> LongDouble {
    if value == 0 {
        return LongDouble {
            negative,
            ..LongDouble::ZERO
        };
    }
    let bits = 128 - i64::from(value.leading_zeros());
    let shift = (bits - 64).max(EXPONENT_MIN - exponent);
    let mut value = if shift > 0 {
        shift_right_rounding(value, shift)
    } else {
        value << -shift
    };
    let mut exponent = exponent + shift;
    if value >> 64 != 0 {
        value >>= 1;
        exponent += 1;
    }
    if value == 0 {
        return LongDouble {
            negative,
            ..LongDouble::ZERO
        };
    }
    LongDouble {
        negative,
        mantissa: value as u64,
        exponent,
        finite: exponent <= EXPONENT_MAX,
    }
}

/// `value / 2^shift` rounded half to even.
fn shift_right_rounding(value: u128, shift: i64) -> u128 {
    let Ok(shift @ 1..=128) = u32::try_from(shift) else {
        return if shift <= 0 { value } else { 0 };
    };
    let kept = if shift == 128 { 0 } else { value >> shift };
    let half = 1u128 << (shift - 1);
    let rest = value & (half | (half - 1));
    let up = rest > half || (rest == half && kept & 1 == 1);
    kept + u128::from(up)
}

/// Reads hexadecimal digits and a binary exponent; bits past 120 are jammed into the lowest.
fn read_hex(text: &[u8]) -> Option<(u128, i64)> {
    let (digits, exponent) = split_exponent(text, b'p')?;
    let number = Mantissa::read(digits, 16)?;
    let mut value = 0u128;
    let mut exponent = exponent - 4 * number.n_fraction;
    for &digit in &number.digits {
        if value >> 120 == 0 {
            value = value << 4 | u128::from(digit);
        } else {
            value |= u128::from(digit != 0);
            exponent += 4;
        }
    }
    Some((value, exponent))
}

fn parse_decimal(negative: bool, text: &[u8]) -> Option<LongDouble> {
    let (digits, exponent) = split_exponent(text, b'e')?;
    let number = Mantissa::read(digits, 10)?;
    let exponent = exponent - number.n_fraction;
    let n_digits = number.digits.len() as i64;
    if n_digits == 0 {
        return Some(LongDouble {
            negative,
            ..LongDouble::ZERO
        });
    }
    if n_digits + exponent > 5000 || n_digits + exponent < -5000 {
        return None;
    }
    let rounded = if n_digits <= 19 && (-19..=19).contains(&exponent) {
        let digits = number
            .digits
            .iter()
            .fold(0u64, |sum, &digit| sum * 10 + u64::from(digit));
        scale_small(negative, digits, exponent as i32)
    } else {
        scale_big(negative, &number.digits, exponent)
    };
    checked(rounded, true)
}

/// Refuses overflow, and a nonzero text whose value vanished.
fn checked(value: LongDouble, nonzero: bool) -> Option<LongDouble> {
    (value.finite && !(nonzero && value.mantissa == 0)).then_some(value)
}

fn scale_small(negative: bool, digits: u64, exponent: i32) -> LongDouble {
    let power = 10u64.pow(exponent.unsigned_abs());
    if exponent >= 0 {
        return round(negative, u128::from(digits) * u128::from(power), 0);
    }
    let shift = digits.leading_zeros();
    let numerator = u128::from(digits << shift) << 64;
    let power_shift = power.leading_zeros();
    let divisor = u128::from(power << power_shift);
    let (quotient, rest) = (numerator / divisor, numerator % divisor);
    let (half, rest) = (rest * 2 >= divisor, rest * 2 % divisor);
    let binary = i64::from(power_shift) - i64::from(shift) - 64;
    let jammed = quotient << 2 | u128::from(half) << 1 | u128::from(rest != 0);
    round(negative, jammed, binary - 2)
}

fn scale_big(negative: bool, digits: &[u8], exponent: i64) -> LongDouble {
    let mut number = Big::from(0);
    for &digit in digits {
        number.multiply_add(10, u64::from(digit));
    }
    if exponent >= 0 {
        number.multiply_power_of_ten(exponent);
        let (top, dropped, sticky) = number.top();
        return round(negative, top << 1 | u128::from(sticky), dropped - 1);
    }
    let mut divisor = Big::from(1);
    divisor.multiply_power_of_ten(-exponent);
    let lift = divisor.bits() as i64 - number.bits() as i64 + 66;
    if lift > 0 {
        number.shift_left(lift as usize);
    } else {
        divisor.shift_left(-lift as usize);
    }
    let (quotient, exact) = number.divide(&mut divisor);
    round(negative, quotient << 1 | u128::from(!exact), -lift - 1)
}

/// Splits off an optional exponent; a huge one is clamped, a malformed one refused.
fn split_exponent(text: &[u8], marker: u8) -> Option<(&[u8], i64)> {
    let Some(at) = text
        .iter()
        .position(|byte| byte.eq_ignore_ascii_case(&marker))
    else {
        return Some((text, 0));
    };
    let (negative, digits) = split_sign(&text[at + 1..]);
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let magnitude = digits
        .iter()
        .fold(0i64, |sum, digit| (sum * 10 + i64::from(digit - b'0')).min(1_000_000));
    Some((&text[..at], if negative { -magnitude } else { magnitude }))
}

/// The significant digits of a text, without zeros at either end.
struct Mantissa {
    digits: Vec<u8>,
    /// How many of the digits stand behind the point; negative for zeros dropped before it.
    n_fraction: i64,
}

impl Mantissa {
    fn read(text: &[u8], radix: u32) -> Option<Mantissa> {
        let mut digits = Vec::with_capacity(text.len());
        let (mut n_fraction, mut n_seen, mut after_point) = (0i64, 0, false);
        for &byte in text {
            if byte == b'.' && !after_point {
                after_point = true;
                continue;
            }
            let digit = char::from(byte).to_digit(radix)? as u8;
            n_seen += 1;
            n_fraction += i64::from(after_point);
            if digit != 0 || !digits.is_empty() {
                digits.push(digit);
            }
        }
        while digits.last() == Some(&0) {
            digits.pop();
            n_fraction -= 1;
        }
        (n_seen > 0).then_some(Mantissa { digits, n_fraction })
    }
}

/// An unsigned integer of any size, lowest limb first, no zero limb on top.
struct Big {
    limbs: Vec<u64>,
}

impl From<u64> for Big {
    fn from(value: u64) -> Big {
        Big {
            limbs: if value == 0 { Vec::new() } else { vec![value] },
        }
    }
}

impl Big {
    fn multiply_add(&mut self, factor: u64, addend: u64) {
        let mut carry = u128::from(addend);
        for limb in &mut self.limbs {
            let product = u128::from(*limb) * u128::from(factor) + carry;
            *limb = product as u64;
            carry = product >> 64;
        }
        if carry > 0 {
            self.limbs.push(carry as u64);
        }
    }

    fn multiply_power_of_ten(&mut self, mut exponent: i64) {
        while exponent > 0 {
            let step = exponent.min(19);
            self.multiply_add(10u64.pow(step as u32), 0);
            exponent -= step;
        }
    }

    fn bits(&self) -> usize {
        let unused = self
            .limbs
            .last()
            .map_or(0, |limb| limb.leading_zeros() as usize);
        self.limbs.len() * 64 - unused
    }

    fn shift_left(&mut self, shift: usize) {
        if self.limbs.is_empty() {
            return;
        }
        let bits = shift % 64;
        if bits > 0 {
            let mut carry = 0;
            for limb in &mut self.limbs {
                let shifted = *limb << bits | carry;
                carry = *limb >> (64 - bits);
                *limb = shifted;
            }
            if carry > 0 {
                self.limbs.push(carry);
            }
        }
        self.limbs.splice(0..0, std::iter::repeat_n(0, shift / 64));
    }

    fn halve(&mut self) {
        let mut carry = 0;
        for limb in self.limbs.iter_mut().rev() {
            let shifted = *limb >> 1 | carry;
            carry = *limb << 63;
            *limb = shifted;
        }
        self.trim();
    }

    fn trim(&mut self) {
        while self.limbs.last() == Some(&0) {
            self.limbs.pop();
        }
    }

    /// The top 126 bits, how many bits were dropped below them, and whether any was set.
    fn top(mut self) -> (u128, i64, bool) {
        let lifted = self.bits().next_multiple_of(64) - self.bits() + 128;
        self.shift_left(lifted);
        let n_dropped = self.limbs.len() - 2;
        let value = u128::from(self.limbs[n_dropped + 1]) << 64 | u128::from(self.limbs[n_dropped]);
        let sticky = value & 3 != 0 || self.limbs[..n_dropped].iter().any(|&limb| limb != 0);
        (value >> 2, n_dropped as i64 * 64 + 2 - lifted as i64, sticky)
    }

    fn at_least(&self, other: &Big) -> bool {
        self.limbs
            .len()
            .cmp(&other.limbs.len())
            .then_with(|| self.limbs.iter().rev().cmp(other.limbs.iter().rev()))
            != Ordering::Less
    }

    fn subtract(&mut self, other: &Big) {
        let mut borrow = false;
        for (idx, limb) in self.limbs.iter_mut().enumerate() {
            let subtrahend = other.limbs.get(idx).copied().unwrap_or(0);
            let (once, first) = limb.overflowing_sub(subtrahend);
            let (twice, second) = once.overflowing_sub(u64::from(borrow));
            *limb = twice;
            borrow = first | second;
        }
        self.trim();
    }

    /// Long division bit by bit for a quotient below 2^68; true if nothing is left over.
    fn divide(mut self, divisor: &mut Big) -> (u128, bool) {
        const QUOTIENT_BITS: usize = 68;
        divisor.shift_left(QUOTIENT_BITS);
        let mut quotient = 0u128;
        for _ in 0..QUOTIENT_BITS {
            divisor.halve();
            quotient <<= 1;
            if self.at_least(divisor) {
                self.subtract(divisor);
                quotient |= 1;
            }
        }
        (quotient, self.limbs.is_empty())
    }

    fn write_decimal(mut self, out: &mut Vec<u8>) {
        const CHUNK: u64 = 10_000_000_000_000_000_000;
        let mut chunks = Vec::new();
        while !self.limbs.is_empty() {
            let mut rest = 0u128;
            for limb in self.limbs.iter_mut().rev() {
                let dividend = rest << 64 | u128::from(*limb);
                *limb = (dividend / u128::from(CHUNK)) as u64;
                rest = dividend % u128::from(CHUNK);
            }
            self.trim();
            chunks.push(rest as u64);
        }
        let mut chunks = chunks.iter().rev();
        out.extend_from_slice(chunks.next().unwrap_or(&0).to_string().as_bytes());
        for chunk in chunks {
            out.extend_from_slice(format!("{chunk:019}").as_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(a: &str, b: &str) -> String {
        match add_human(a.as_bytes(), b.as_bytes()) {
            Ok(text) => String::from_utf8(text).unwrap(),
            Err(error) => format!("{error:?}"),
        }
    }

    #[test]
    fn sums_as_the_original_prints_them() {
        for (a, b, expected) in [
            ("10.5", "0.1", "10.6"),
            ("3.0e3", "200", "3200"),
            ("5.0e3", "2.0e2", "5200"),
            ("3", "1.1", "4.1"),
            ("0", "-0", "0"),
            ("1", "-1", "0"),
            ("-0.5", "0.25", "-0.25"),
            ("1e-20", "0", "0"),
            ("-1e-20", "0", "0"),
            ("0x10", "0x1p3", "24"),
            ("17179869184", "1.5", "17179869185.5"),
        ] {
            assert_eq!(sum(a, b), expected, "{a} + {b}");
        }
    }

    #[test]
    fn refusals() {
        for text in [
            "", " 1", "1 ", "abc", "nan", "1e", "1e5000", "1e-5000", ".", "1.2.3", "0x",
        ] {
            assert_eq!(sum(text, "1"), "NotAFloat", "{text:?}");
        }
        assert_eq!(sum(&"1".repeat(TEXT_MAX), "1"), "NotAFloat");
        assert_eq!(sum("inf", "1"), "NanOrInfinity");
        assert_eq!(sum("inf", "-inf"), "NanOrInfinity");
        assert_eq!(sum("1.1e4932", "1.1e4932"), "NanOrInfinity");
    }

    #[test]
    fn both_ways_of_scaling_agree() {
        let mut state = 1u64;
        for _ in 0..20_000 {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1);
            let digits = (state >> (state & 31)).max(1) % 10_000_000_000_000_000_000;
            let exponent = (state >> 7) as i64 % 20 - 10;
            let texts: Vec<u8> = digits.to_string().bytes().map(|byte| byte - b'0').collect();
            let small = scale_small(false, digits, exponent as i32);
            assert_eq!(small, scale_big(false, &texts, exponent), "{digits}e{exponent}");
        }
    }

    #[test]
    fn hexadecimal_doubles_round_once() {
        let parse = |text: &str| parse_hex_f64(false, text.as_bytes());
        assert_eq!(parse("1p-1074"), Some(5e-324));
        assert_eq!(parse("1.fffffffffffffp1023"), Some(f64::MAX));
        assert_eq!(parse("71f382ee7796a5ffeef96a67809.58fe381f08p-24"), Some(8.609910495743034e24));
        assert_eq!(parse("1p1024"), None);
        assert_eq!(parse("1p-1080"), None);
    }
}
