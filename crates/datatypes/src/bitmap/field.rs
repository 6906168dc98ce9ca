//! Integers of 1 to 64 bits that lie anywhere in a bitmap, highest bit first.

/// The width of an integer, and whether it has a sign: `u1` to `u63`, `i1` to `i64`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Field {
    is_signed: bool,
    n_bits: u32,
}

/// What becomes of a number that does not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// Its low bits stay.
    #[default]
    Wrap,
    /// The nearest that fits is taken.
    Saturate,
    /// It is not stored.
    Fail,
}

impl Field {
    /// The field that `text` names, as `u8` or `i64`.
    pub fn parse(text: &[u8]) -> Option<Field> {
        let (sign, digits) = text.split_first()?;
        let (is_signed, n_bits_max) = match sign {
            b'i' => (true, 64),
            b'u' => (false, 63),
            _ => return None,
        };
        let n_bits = stdx::number::parse_i64(digits)?;
        let n_bits = u32::try_from(n_bits).ok()?;
        (1..=n_bits_max)
            .contains(&n_bits)
            .then_some(Field { is_signed, n_bits })
    }

    /// Its width.
    pub fn n_bits(self) -> u64 {
        self.n_bits.into()
    }

    /// The number whose first bit is at `at`; bits beyond the end are zero. O(1).
    pub fn read(self, bytes: &[u8], at: u64) -> i64 {
        let shift = (at & 7) as u32;
        let first = usize::try_from(at >> 3).unwrap_or(usize::MAX);
        let tail = bytes.get(first..).unwrap_or_default();
        let mut window = [0; 16];
        let n_bytes = tail.len().min(9); // a field spans nine bytes at most
        window[..n_bytes].copy_from_slice(&tail[..n_bytes]);
        let left_aligned = (u128::from_be_bytes(window) << shift) as i128;
        let n_below = 128 - self.n_bits;
        match self.is_signed {
            true => (left_aligned >> n_below) as i64,
            false => (left_aligned as u128 >> n_below) as i64,
        }
    }

    /// Writes the low bits of `number` at `at`, which is inside with all its bits. O(1).
    pub fn write(self, bytes: &mut [u8], at: u64, number: i64) {
        let shift = (at & 7) as u32;
        let first = (at >> 3) as usize;
        let n_bytes = ((shift + self.n_bits).div_ceil(8)) as usize;
        let part = &mut bytes[first..first + n_bytes];
        let mut window = [0; 16];
        window[..n_bytes].copy_from_slice(part);
        let n_below = 128 - self.n_bits - shift;
        let mask = (u128::MAX >> (128 - self.n_bits)) << n_below;
        let kept = u128::from_be_bytes(window) & !mask;
        let merged = kept | (number as u128) << n_below & mask;
        part.copy_from_slice(&merged.to_be_bytes()[..n_bytes]);
    }

    /// The number to be stored for `number`, which may be a sum; `None` if it is not to be.
    pub fn fit(self, number: i128, overflow: Overflow) -> Option<i64> {
        let (least, most) = self.bounds();
        if (least..=most).contains(&number) {
            return Some(number as i64);
        }
        match overflow {
            Overflow::Fail => None,
            Overflow::Saturate => Some(number.clamp(least, most) as i64),
            Overflow::Wrap => {
                let left_aligned = number << (128 - self.n_bits);
                Some(match self.is_signed {
                    true => (left_aligned >> (128 - self.n_bits)) as i64,
                    false => (left_aligned as u128 >> (128 - self.n_bits)) as i64,
                })
            }
        }
    }

    /// A number as SET means it: of an unsigned field, the bits of a negative one.
    pub fn meant(self, number: i64) -> i128 {
        match self.is_signed {
            true => number.into(),
            false => (number as u64).into(),
        }
    }

    fn bounds(self) -> (i128, i128) {
        match self.is_signed {
            true => (-(1 << (self.n_bits - 1)), (1 << (self.n_bits - 1)) - 1),
            false => (0, (1 << self.n_bits) - 1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn field(text: &str) -> Field {
        Field::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn widths_have_bounds() {
        assert_eq!(field("u63").bounds(), (0, i64::MAX.into()));
        assert_eq!(field("i64").bounds(), (i64::MIN.into(), i64::MAX.into()));
        assert_eq!(field("i1").bounds(), (-1, 0));
        for text in ["", "u", "u0", "u64", "i65", "x8", "U8", "u8 ", "i-1"] {
            assert_eq!(Field::parse(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn what_is_written_is_read_and_its_neighbours_stay() {
        let mut random = Random(9);
        for _ in 0..2000 {
            let mut bytes: Vec<u8> = (0..24).map(|_| random.below(256) as u8).collect();
            let before = bytes.clone();
            let is_signed = random.below(2) == 0;
            let n_bits = 1 + random.below(63 + u64::from(is_signed)) as u32;
            let field = Field { is_signed, n_bits };
            let at = random.below(24 * 8 - u64::from(n_bits) + 1);
            let number = random.below(u64::MAX) as i64;
            field.write(&mut bytes, at, number);
            let stored = field.fit(field.meant(number), Overflow::Wrap).unwrap();
            assert_eq!(field.read(&bytes, at), stored);
            for bit in (0..at).chain(at + field.n_bits()..24 * 8) {
                assert_eq!(crate::bitmap::get(&bytes, bit), crate::bitmap::get(&before, bit));
            }
        }
        assert_eq!(field("i64").read(&[0xff; 4], 4), -16 << 32);
        assert_eq!(field("u8").read(&[0xff; 4], u64::MAX), 0);
    }

    #[test]
    fn overflow_wraps_saturates_or_fails() {
        let cases = [
            ("u8", 256, 0, 255),
            ("u8", -1, 255, 0),
            ("i8", 128, -128, 127),
            ("i8", -129, 127, -128),
            ("i64", i128::from(i64::MAX) + 1, i64::MIN, i64::MAX),
            ("u63", i128::from(u64::MAX), i64::MAX, i64::MAX),
        ];
        for (name, number, wrapped, saturated) in cases {
            let field = field(name);
            assert_eq!(field.fit(number, Overflow::Wrap), Some(wrapped), "{name}");
            assert_eq!(field.fit(number, Overflow::Saturate), Some(saturated), "{name}");
            assert_eq!(field.fit(number, Overflow::Fail), None, "{name}");
            assert_eq!(field.fit(1 - 1, Overflow::Fail), Some(0));
        }
    }
}
