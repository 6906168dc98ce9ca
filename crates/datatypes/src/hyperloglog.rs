//! HyperLogLogs: how many different elements were seen, to within about 0.8 %, in at most 12 KiB.
//!
//! A string whose bytes are those of the original, so that both can read each other's:
//!
//! ```text
//!  0      4          5        8             16
//!  "HYLL" encoding   3 zeros  cardinality   registers
//!         0 dense             64 bits, little-endian; the highest bit says that it is out of date
//!         1 sparse
//! ```
//!
//! An element's hash chooses one of 16384 registers, which keeps the longest run of zeros seen in
//! the rest of the hash, plus one. Dense registers have six bits each, lowest first; [`sparse`] is
//! a run-length code for few of them.

pub mod sparse;

use std::fmt;

/// Registers of a HyperLogLog.
pub const N_REGISTERS: usize = 1 << INDEX_BITS;
/// Bytes before the registers.
pub const HEADER_BYTES: usize = 16;
/// Bytes of the dense form.
pub const DENSE_BYTES: usize = HEADER_BYTES + N_REGISTERS * REGISTER_BITS / 8;

const INDEX_BITS: u32 = 14;
/// Bits of a hash beside the index.
const RUN_BITS: u32 = 64 - INDEX_BITS;
const REGISTER_BITS: usize = 6;
const MAGIC: &[u8] = b"HYLL";
const DENSE: u8 = 0;
const SPARSE: u8 = 1;
const HASH_SEED: u64 = 0xadc8_3b19;

/// The bytes after the header make no sense.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Corrupt;

impl fmt::Display for Corrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the registers are not whole")
    }
}

impl std::error::Error for Corrupt {}

/// Whether these bytes begin as a HyperLogLog, and are whole if dense. O(1).
pub fn is_valid(bytes: &[u8]) -> bool {
    bytes.len() >= HEADER_BYTES
        && bytes.starts_with(MAGIC)
        && match bytes[4] {
            DENSE => bytes.len() == DENSE_BYTES,
            encoding => encoding == SPARSE,
        }
}

/// One that has seen nothing.
pub fn fresh() -> Vec<u8> {
    let mut bytes = header(SPARSE).to_vec();
    sparse::zeros(N_REGISTERS, &mut bytes);
    bytes
}

fn header(encoding: u8) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..4].copy_from_slice(MAGIC);
    header[4] = encoding;
    header
}

/// Whether a valid one is dense.
pub fn is_dense(bytes: &[u8]) -> bool {
    bytes[4] == DENSE
}

/// The cardinality that was computed last, if nothing has changed since.
pub fn cached(bytes: &[u8]) -> Option<u64> {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[8..HEADER_BYTES]);
    Some(u64::from_le_bytes(number)).filter(|number| number >> 63 == 0)
}

/// Keeps a cardinality in the header.
pub fn cache(bytes: &mut [u8], cardinality: u64) {
    bytes[8..HEADER_BYTES].copy_from_slice(&cardinality.to_le_bytes());
}

/// Says that the cardinality in the header is out of date.
pub fn invalidate(bytes: &mut [u8]) {
    bytes[HEADER_BYTES - 1] |= 0x80;
}

/// The register of an element, and what it must reach.
pub fn locate(element: &[u8]) -> (usize, u8) {
    let hash = hash(element);
    let index = hash as usize & (N_REGISTERS - 1);
    let rest = hash >> INDEX_BITS | 1 << RUN_BITS; // so that the run ends
    (index, rest.trailing_zeros() as u8 + 1)
}

/// Raises a register of a sparse or dense one; whether it was lower. O(bytes), dense O(1).
pub fn raise(
    bytes: &mut Vec<u8>,
    index: usize,
    value: u8,
    sparse_max_bytes: usize,
) -> Result<bool, Corrupt> {
    if !is_dense(bytes) {
        match sparse::raise(bytes, index, value, sparse_max_bytes)? {
            sparse::Raised::No => return Ok(false),
            sparse::Raised::Yes => return Ok(true),
            sparse::Raised::TooLong => *bytes = to_dense(bytes)?,
        }
    }
    Ok(raise_dense(bytes, index, value))
}

/// Raises a register of a dense one; whether it was lower. O(1).
pub fn raise_dense(bytes: &mut [u8], index: usize, value: u8) -> bool {
    let (at, shift) = place(index);
    let old = read(bytes, at, shift);
    if old >= value {
        return false;
    }
    let (mask, bits) = (0x3f_u16 << shift, u16::from(value) << shift);
    bytes[at] = bytes[at] & !(mask as u8) | bits as u8;
    if let Some(next) = bytes.get_mut(at + 1) {
        *next = *next & !((mask >> 8) as u8) | (bits >> 8) as u8;
    }
    true
}

/// Whether a register of a dense one is lower. O(1).
pub fn is_lower(bytes: &[u8], index: usize, value: u8) -> bool {
    let (at, shift) = place(index);
    read(bytes, at, shift) < value
}

/// Where a dense register begins: its byte and the bit in it.
fn place(index: usize) -> (usize, u32) {
    let bit = index * REGISTER_BITS;
    (HEADER_BYTES + bit / 8, bit as u32 & 7)
}

fn read(bytes: &[u8], at: usize, shift: u32) -> u8 {
    let next = bytes.get(at + 1).copied().unwrap_or(0);
    (u16::from_le_bytes([bytes[at], next]) >> shift) as u8 & 0x3f
}

/// The dense form of a sparse one, or a copy of a dense one. O(registers).
pub fn to_dense(bytes: &[u8]) -> Result<Vec<u8>, Corrupt> {
    if is_dense(bytes) {
        return Ok(bytes.to_vec());
    }
    let mut dense = header(DENSE).to_vec();
    dense[8..].copy_from_slice(&bytes[8..HEADER_BYTES]);
    dense.resize(DENSE_BYTES, 0);
    sparse::runs(bytes, &mut |registers, value| {
        if value > 0 {
            registers.for_each(|index| {
                raise_dense(&mut dense, index, value);
            });
        }
    })?;
    Ok(dense)
}

/// All registers, a byte each: the union of those that were [merged](Registers::merge).
pub struct Registers(Vec<u8>);

impl Default for Registers {
    fn default() -> Registers {
        Registers(vec![0; N_REGISTERS])
    }
}

impl Registers {
    /// Raises the registers to those of a valid HyperLogLog. O(registers).
    pub fn merge(&mut self, bytes: &[u8]) -> Result<(), Corrupt> {
        if !is_dense(bytes) {
            return sparse::runs(bytes, &mut |registers, value| {
                for register in &mut self.0[registers] {
                    *register = value.max(*register);
                }
            });
        }
        let fours = self.0.chunks_exact_mut(4);
        for (four, three) in fours.zip(bytes[HEADER_BYTES..].chunks_exact(3)) {
            let bits = u32::from_le_bytes([three[0], three[1], three[2], 0]);
            for (n, register) in four.iter_mut().enumerate() {
                let value = (bits >> (n * REGISTER_BITS)) as u8 & 0x3f;
                *register = value.max(*register);
            }
        }
        Ok(())
    }

    /// The values in order.
    pub fn values(&self) -> &[u8] {
        &self.0
    }

    /// How many different elements have been seen, about. O(registers).
    ///
    /// The estimator of Otmar Ertl ("New cardinality estimation algorithms for HyperLogLog
    /// sketches", 2017), as in the original: it needs no correction for small or large numbers.
    pub fn estimate(&self) -> u64 {
        const ALPHA: f64 = 0.721_347_520_444_481_7;
        let mut histogram = [0_u32; 64];
        for register in &self.0 {
            histogram[usize::from(*register)] += 1;
        }
        let m = N_REGISTERS as f64;
        let last = RUN_BITS as usize + 1;
        let mut z = m * tau((m - f64::from(histogram[last])) / m);
        for count in histogram[1..last].iter().rev() {
            z = 0.5 * (z + f64::from(*count));
        }
        z += m * sigma(f64::from(histogram[0]) / m);
        (ALPHA * m * m / z).round() as u64
    }
}

fn tau(x: f64) -> f64 {
    if x == 0.0 || x == 1.0 {
        return 0.0;
    }
    let (mut x, mut y, mut z) = (x, 1.0, 1.0 - x);
    loop {
        x = x.sqrt();
        y *= 0.5;
        let before = z;
        z -= (1.0 - x).powi(2) * y;
        if z == before {
            return z / 3.0;
        }
    }
}

fn sigma(x: f64) -> f64 {
    if x == 1.0 {
        return f64::INFINITY;
    }
    let (mut x, mut y, mut z) = (x, 1.0, x);
    loop {
        x *= x;
        let before = z;
        z += x * y;
        y += y;
        if z == before {
            return z;
        }
    }
}

/// MurmurHash64A of Austin Appleby, who gave it to the public domain.
fn hash(element: &[u8]) -> u64 {
    const M: u64 = 0xc6a4_a793_5bd1_e995;
    let mix = |hash: u64| hash ^ hash >> 47;
    let mut hash = HASH_SEED ^ (element.len() as u64).wrapping_mul(M);
    let mut words = element.chunks_exact(8);
    for word in &mut words {
        let word = word
            .iter()
            .rfold(0, |word, byte| word << 8 | u64::from(*byte));
        hash ^= mix(word.wrapping_mul(M)).wrapping_mul(M);
        hash = hash.wrapping_mul(M);
    }
    let rest = words.remainder();
    if !rest.is_empty() {
        hash ^= rest
            .iter()
            .rfold(0, |word, byte| word << 8 | u64::from(*byte));
        hash = hash.wrapping_mul(M);
    }
    mix(mix(hash).wrapping_mul(M))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Random;

    fn registers(bytes: &[u8]) -> Vec<u8> {
        let mut registers = Registers::default();
        registers.merge(bytes).unwrap();
        registers.values().to_vec()
    }

    #[test]
    fn sparse_and_dense_agree_with_plain_registers() {
        let mut random = Random(3);
        for n_distinct in [3, 300, 3000] {
            let mut model = vec![0; N_REGISTERS];
            let (mut sparse, mut dense) = (fresh(), to_dense(&fresh()).unwrap());
            for _ in 0..4000 {
                let index = random.below(n_distinct) as usize * 5;
                let value = 1 + (random.below(u64::MAX) | 1 << 50).trailing_zeros() as u8;
                let is_raised = model[index] < value;
                model[index] = value.max(model[index]);
                assert_eq!(raise(&mut sparse, index, value, 3000), Ok(is_raised));
                assert_eq!(raise_dense(&mut dense, index, value), is_raised);
            }
            assert_eq!(registers(&sparse), model);
            assert_eq!(registers(&dense), model);
            assert_eq!(registers(&to_dense(&sparse).unwrap()), model);
            assert!(is_valid(&sparse) && is_valid(&dense));
            assert!(is_dense(&sparse) || sparse.len() <= 3000);
        }
    }

    #[test]
    fn estimates_are_close() {
        let (mut bytes, mut n) = (fresh(), 0_u32);
        for target in [0, 1, 10, 1000, 20_000, 200_000] {
            while n < target {
                let (index, value) = locate(format!("element-{n}").as_bytes());
                raise(&mut bytes, index, value, 3000).unwrap();
                n += 1;
            }
            let mut registers = Registers::default();
            registers.merge(&bytes).unwrap();
            let error = registers.estimate() as f64 - f64::from(target);
            assert!(error.abs() <= 0.03 * f64::from(target), "{error} of {target}");
        }
    }

    #[test]
    fn what_is_not_whole_is_refused() {
        let mut bytes = fresh();
        assert!(is_valid(&bytes) && !is_valid(&bytes[..15]) && !is_valid(b""));
        bytes[4] = 2;
        assert!(!is_valid(&bytes));
        bytes[4] = 0;
        assert!(!is_valid(&bytes));
        for tail in [&b""[..], &[0x7f, 0xfe], &[0x7f], &[0x80; 70]] {
            let bytes = [&header(SPARSE), tail].concat();
            assert!(is_valid(&bytes));
            assert_eq!(to_dense(&bytes), Err(Corrupt), "{tail:?}");
            assert_eq!(raise(&mut bytes.clone(), 16_383, 1, 3000), Err(Corrupt), "{tail:?}");
            assert_eq!(Registers::default().merge(&bytes), Err(Corrupt), "{tail:?}");
        }
    }

    #[test]
    fn the_cardinality_is_kept_until_it_is_out_of_date() {
        let mut bytes = fresh();
        assert_eq!(cached(&bytes), Some(0));
        cache(&mut bytes, 77);
        assert_eq!(cached(&bytes), Some(77));
        invalidate(&mut bytes);
        assert_eq!(cached(&bytes), None);
    }
}
