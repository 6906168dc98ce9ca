//! Randomness for model tests: reproducible, seeded by the test.

/// A small pseudo-random generator (splitmix64).
pub struct Random(pub u64);

impl Random {
    /// The next 64 random bits.
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut bits = self.0;
        bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    }

    /// A number in `0..bound`.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    /// Text or a number, from a space of about `n` values.
    pub fn item(&mut self, n: u64) -> Vec<u8> {
        let pick = self.below(n);
        match pick % 4 {
            0 => format!("{pick}"),
            1 => format!("-{}", pick * 977),
            2 => format!("word:{pick}"),
            _ => "x".repeat((pick % 90) as usize) + &pick.to_string(),
        }
        .into_bytes()
    }
}
