//! Doubles as text: what a score looks like in a reply.
//!
//! The digits come from Grisu2 (Florian Loitsch, "Printing Floating-Point Numbers Quickly and
//! Accurately with Integers", 2010), which always reads back to the same double but in about one
//! case of a thousand spends a digit more than the shortest text. Redis prints through the same
//! algorithm and clients see its digits, so a shortest-text printer would differ here:
//! `2471.831187` is `2471.8311870000002` on the wire.
//!
//! ```text
//! value = digits × 10^exponent
//!   whole, |value| <= 2^62          all digits                3  1000000000000000
//!   exponent >= 0, few zeros added  digits, zeros             9223372036854776000
//!   above -7, or below 10^5         plain decimal             0.000015  3.5
//!   otherwise                       scientific                1.5e-7  1e+21
//! ```

use crate::number::write_i64;

/// Whole numbers up to this magnitude are printed as integers.
const WHOLE_MAX: f64 = (1u64 << 62) as f64;
const MANTISSA_BITS: u32 = 52;
const HIDDEN_BIT: u64 = 1 << MANTISSA_BITS;
const POWER_FIRST: i32 = -348;
const POWER_STEP: i32 = 8;

/// Appends `value` as Redis prints a score: `3`, `0.1`, `1.5e-7`, `inf`, `-inf`, `nan`, `-0`.
///
/// About 50 ns; at most 25 bytes.
pub fn format_f64(value: f64, out: &mut Vec<u8>) {
    if value.is_nan() {
        out.extend_from_slice(b"nan");
    } else if value.is_infinite() {
        out.extend_from_slice(if value > 0.0 { b"inf" } else { b"-inf" });
    } else if value == 0.0 {
        out.extend_from_slice(if value.is_sign_negative() {
            b"-0"
        } else {
            b"0"
        });
    } else if value.abs() <= WHOLE_MAX && value as i64 as f64 == value {
        write_i64(out, value as i64);
    } else {
        if value < 0.0 {
            out.push(b'-');
        }
        let digits = Digits::of(value.abs());
        digits.lay_out(out);
    }
}

/// The decimal digits of a positive double: `text × 10^exponent`.
struct Digits {
    text: [u8; 20],
    len: usize,
    exponent: i32,
}

impl Digits {
    /// Grisu2: scales the value and its rounding interval by a cached power of ten so that the
    /// integer part fits 32 bits, then emits digits until what is left lies inside the interval.
    fn of(value: f64) -> Digits {
        let bits = value.to_bits();
        let biased = (bits >> MANTISSA_BITS) as i32;
        let fraction = bits & (HIDDEN_BIT - 1);
        let (fraction, exponent) = if biased == 0 {
            (fraction, -1074)
        } else {
            (fraction | HIDDEN_BIT, biased - 1075)
        };

        let above = (fraction << 1) + 1;
        let shift = above.leading_zeros();
        let high = Scaled {
            fraction: above << shift,
            exponent: exponent - 1 - shift as i32,
        };
        let narrow = u32::from(fraction == HIDDEN_BIT);
        let below = (fraction << (1 + narrow)) - 1;
        let low_exponent = exponent - 1 - narrow as i32;
        let low = Scaled {
            fraction: below << (low_exponent - high.exponent),
            exponent: high.exponent,
        };
        let shift = fraction.leading_zeros();
        let exact = Scaled {
            fraction: fraction << shift,
            exponent: exponent - shift as i32,
        };

        let (power, power_exponent) = power_for(high.exponent);
        let mut high = high.times(power);
        let mut low = low.times(power);
        high.fraction -= 1;
        low.fraction += 1;
        let mut digits = Digits {
            text: [0; 20],
            len: 0,
            exponent: -power_exponent,
        };
        digits.generate(exact.times(power), low, high);
        digits
    }

    fn generate(&mut self, exact: Scaled, low: Scaled, high: Scaled) {
        let point = -high.exponent as u32;
        let one = 1u64 << point;
        let mut room = high.fraction - low.fraction;
        let wanted = high.fraction - exact.fraction;
        let mut whole = high.fraction >> point;
        let mut rest = high.fraction & (one - 1);

        let mut unit = 1_000_000_000u64;
        for kappa in (0..10).rev() {
            self.push(whole / unit);
            whole %= unit;
            let left = (whole << point) + rest;
            if left <= room {
                self.exponent += kappa;
                self.approach(room, left, unit << point, wanted);
                return;
            }
            unit /= 10;
        }
        let mut scale = 1u64;
        loop {
            rest = rest.wrapping_mul(10);
            room = room.wrapping_mul(10);
            scale = scale.wrapping_mul(10);
            self.exponent -= 1;
            self.push(rest >> point);
            rest &= one - 1;
            if rest < room {
                self.approach(room, rest, one, wanted.wrapping_mul(scale));
                return;
            }
        }
    }

    fn push(&mut self, digit: u64) {
        if (digit > 0 || self.len > 0) && self.len < self.text.len() {
            self.text[self.len] = b'0' + digit as u8;
            self.len += 1;
        }
    }

    /// Lowers the last digit while that brings the text nearer to the exact value.
    fn approach(&mut self, room: u64, mut left: u64, unit: u64, wanted: u64) {
        while left < wanted
            && room - left >= unit
            && (left + unit < wanted || wanted - left > left + unit - wanted)
        {
            self.text[self.len - 1] -= 1;
            left += unit;
        }
    }

    fn lay_out(&self, out: &mut Vec<u8>) {
        let digits = &self.text[..self.len];
        let n_digits = self.len as i32;
        let scientific = self.exponent + n_digits - 1;
        if self.exponent >= 0 && scientific < n_digits + 7 {
            out.extend_from_slice(digits);
            out.resize(out.len() + self.exponent as usize, b'0');
        } else if self.exponent < 0 && (self.exponent > -7 || scientific.abs() < 4) {
            let n_whole = n_digits + self.exponent;
            if n_whole <= 0 {
                out.extend_from_slice(b"0.");
                out.resize(out.len() + -n_whole as usize, b'0');
                out.extend_from_slice(digits);
            } else {
                let (whole, fraction) = digits.split_at(n_whole as usize);
                out.extend_from_slice(whole);
                out.push(b'.');
                out.extend_from_slice(fraction);
            }
        } else {
            out.push(digits[0]);
            if n_digits > 1 {
                out.push(b'.');
                out.extend_from_slice(&digits[1..]);
            }
            out.extend_from_slice(if scientific < 0 { b"e-" } else { b"e+" });
            write_i64(out, i64::from(scientific.abs()));
        }
    }
}

/// `fraction × 2^exponent`, the fraction with its top bit set.
#[derive(Clone, Copy)]
struct Scaled {
    fraction: u64,
    exponent: i32,
}

impl Scaled {
    fn times(self, other: Scaled) -> Scaled {
        let product = u128::from(self.fraction) * u128::from(other.fraction) + (1 << 63);
        Scaled {
            fraction: (product >> 64) as u64,
            exponent: self.exponent + other.exponent + 64,
        }
    }
}

/// The cached power of ten that brings a binary exponent into -60..=-32, and its decimal exponent.
fn power_for(exponent: i32) -> (Scaled, i32) {
    let guess = f64::from(-(exponent + POWERS.len() as i32)) * std::f64::consts::LOG10_2;
    let mut idx = (guess as i32 - POWER_FIRST) / POWER_STEP;
    loop {
        let decimal = POWER_FIRST + idx * POWER_STEP;
        let binary = ((decimal * 217_706) >> 16) - 63;
        match exponent + binary + 64 {
            ..-60 => idx += 1,
            -31.. => idx -= 1,
            _ => {
                return (
                    Scaled {
                        fraction: POWERS[idx as usize],
                        exponent: binary,
                    },
                    decimal,
                );
            }
        }
    }
}

/// The top 64 bits of 10^-348, 10^-340, .. 10^340, rounded to nearest.
const POWERS: [u64; 87] = [
    0xfa8fd5a0081c0288,
    0xbaaee17fa23ebf76,
    0x8b16fb203055ac76,
    0xcf42894a5dce35ea,
    0x9a6bb0aa55653b2d,
    0xe61acf033d1a45df,
    0xab70fe17c79ac6ca,
    0xff77b1fcbebcdc4f,
    0xbe5691ef416bd60c,
    0x8dd01fad907ffc3c,
    0xd3515c2831559a83,
    0x9d71ac8fada6c9b5,
    0xea9c227723ee8bcb,
    0xaecc49914078536d,
    0x823c12795db6ce57,
    0xc21094364dfb5637,
    0x9096ea6f3848984f,
    0xd77485cb25823ac7,
    0xa086cfcd97bf97f4,
    0xef340a98172aace5,
    0xb23867fb2a35b28e,
    0x84c8d4dfd2c63f3b,
    0xc5dd44271ad3cdba,
    0x936b9fcebb25c996,
    0xdbac6c247d62a584,
    0xa3ab66580d5fdaf6,
    0xf3e2f893dec3f126,
    0xb5b5ada8aaff80b8,
    0x87625f056c7c4a8b,
    0xc9bcff6034c13053,
    0x964e858c91ba2655,
    0xdff9772470297ebd,
    0xa6dfbd9fb8e5b88f,
    0xf8a95fcf88747d94,
    0xb94470938fa89bcf,
    0x8a08f0f8bf0f156b,
    0xcdb02555653131b6,
    0x993fe2c6d07b7fac,
    0xe45c10c42a2b3b06,
    0xaa242499697392d3,
    0xfd87b5f28300ca0e,
    0xbce5086492111aeb,
    0x8cbccc096f5088cc,
    0xd1b71758e219652c,
    0x9c40000000000000,
    0xe8d4a51000000000,
    0xad78ebc5ac620000,
    0x813f3978f8940984,
    0xc097ce7bc90715b3,
    0x8f7e32ce7bea5c70,
    0xd5d238a4abe98068,
    0x9f4f2726179a2245,
    0xed63a231d4c4fb27,
    0xb0de65388cc8ada8,
    0x83c7088e1aab65db,
    0xc45d1df942711d9a,
    0x924d692ca61be758,
    0xda01ee641a708dea,
    0xa26da3999aef774a,
    0xf209787bb47d6b85,
    0xb454e4a179dd1877,
    0x865b86925b9bc5c2,
    0xc83553c5c8965d3d,
    0x952ab45cfa97a0b3,
    0xde469fbd99a05fe3,
    0xa59bc234db398c25,
    0xf6c69a72a3989f5c,
    0xb7dcbf5354e9bece,
    0x88fcf317f22241e2,
    0xcc20ce9bd35c78a5,
    0x98165af37b2153df,
    0xe2a0b5dc971f303a,
    0xa8d9d1535ce3b396,
    0xfb9b7cd9a4a7443c,
    0xbb764c4ca7a44410,
    0x8bab8eefb6409c1a,
    0xd01fef10a657842c,
    0x9b10a4e5e9913129,
    0xe7109bfba19c0c9d,
    0xac2820d9623bf429,
    0x80444b5e7aa7cf85,
    0xbf21e44003acdd2d,
    0x8e679c2f5e44ff8f,
    0xd433179d9c8cb841,
    0x9e19db92b4e31ba9,
    0xeb96bf6ebadf77d9,
    0xaf87023b9bf0ee6b,
];

/// Appends `value` with 17 significant digits at most, as C's `%.17g` does: what is exact in
/// binary stays short, anything else shows all of them.
pub fn format_g17(value: f64, out: &mut Vec<u8>) {
    if !value.is_finite() {
        format_f64(value, out);
        return;
    }
    let text = format!("{value:.16e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let (sign, digits) = match digits.strip_prefix('-') {
        Some(digits) => ("-", digits),
        None => ("", digits),
    };
    let digits = digits.replace('.', "");
    let kept = digits.trim_end_matches('0');
    let kept = if kept.is_empty() { "0" } else { kept };
    out.extend_from_slice(sign.as_bytes());
    let text = match exponent {
        ..-4 | 17.. => {
            let (first, rest) = kept.split_at(1);
            let point = if rest.is_empty() { "" } else { "." };
            let mark = if exponent < 0 { '-' } else { '+' };
            format!("{first}{point}{rest}e{mark}{:02}", exponent.unsigned_abs())
        }
        -4..0 => format!("0.{}{kept}", "0".repeat(exponent.unsigned_abs() as usize - 1)),
        0..17 => {
            let n_whole = exponent as usize + 1;
            match kept.len() > n_whole {
                true => format!("{}.{}", &kept[..n_whole], &kept[n_whole..]),
                false => format!("{kept:0<n_whole$}"),
            }
        }
    };
    out.extend_from_slice(text.as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(value: f64) -> String {
        let mut out = Vec::new();
        format_f64(value, &mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn layouts() {
        for (value, expected) in [
            (3.0, "3"),
            (3.5, "3.5"),
            (-3.5, "-3.5"),
            (0.0, "0"),
            (-0.0, "-0"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
            (f64::NAN, "nan"),
            (0.1, "0.1"),
            (0.000001, "0.000001"),
            (0.0000001, "1e-7"),
            (1.5e-5, "0.000015"),
            (1.234567e-5, "1.234567e-5"),
            (1e15, "1000000000000000"),
            (1e18, "1000000000000000000"),
            (1e19, "1e+19"),
            (1e21, "1e+21"),
            (12345678901234567e3, "12345678901234567000"),
            (123456789012345678.0, "123456789012345680"),
            (4611686018427387904.0, "4611686018427387904"),
            (4611686018427388928.0, "4611686018427389000"),
            (-9223372036854775808.0, "-9223372036854776000"),
            (1.7976931348623157e308, "1.7976931348623157e+308"),
            (5e-324, "5e-324"),
            (1716416194.7705986, "1.7164161947705987e+9"),
        ] {
            assert_eq!(text(value), expected);
        }
    }

    #[test]
    fn digits_are_those_of_the_original_even_where_a_shorter_text_exists() {
        assert_eq!(text(2471.831187), "2471.8311870000002");
        assert_eq!(text(7.83e21), "7830000000000001000000");
        assert_eq!(text(2.42e-27), "2.4200000000000002e-27");
    }

    #[test]
    fn every_text_reads_back_to_the_same_double() {
        let mut state = 0x9e37_79b9_7f4a_7c15u64;
        for _ in 0..100_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            let value = f64::from_bits(state);
            if value.is_finite() {
                assert_eq!(text(value).parse::<f64>().unwrap().to_bits(), state);
            }
        }
    }

    #[test]
    fn seventeen_digits_are_those_of_c() {
        let shown = |value| {
            let mut out = Vec::new();
            format_g17(value, &mut out);
            String::from_utf8(out).expect("ascii")
        };
        for (value, text) in [
            (0.0, "0"),
            (-0.0, "-0"),
            (3.0, "3"),
            (-1.5, "-1.5"),
            (5.14, "5.1399999999999997"),
            (0.2, "0.20000000000000001"),
            (0.001, "0.001"),
            (0.0001, "0.0001"),
            (0.00001, "1.0000000000000001e-05"),
            (1e16, "10000000000000000"),
            (1e17, "1e+17"),
            (1e300, "1.0000000000000001e+300"),
            (123_456_789.125, "123456789.125"),
            (f64::INFINITY, "inf"),
            (f64::NEG_INFINITY, "-inf"),
        ] {
            assert_eq!(shown(value), text);
        }
    }
}
