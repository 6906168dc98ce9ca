//! What FUNCTION DUMP answers and FUNCTION RESTORE takes: a piece of an RDB file.
//!
//! ```text
//!   F5  string      for each library its source
//!   ..
//!   version (2 bytes)  CRC-64 of all before (8 bytes)      little-endian; a CRC of 0 is not checked
//!
//!   string = length, bytes
//!   length = 00xxxxxx | 01xxxxxx xxxxxxxx | 80 + 4 bytes | 81 + 8 bytes      big-endian
//!          | C3 length(compressed) length(whole): LZF
//! ```

use std::iter::once;

/// Says that a library's source follows.
const LIBRARY: u8 = 0xf5;
/// The version of RDB files that is written, and the highest that is read.
const VERSION: u16 = 12;
const FOOTER_BYTES: usize = 10;
/// The longest source that is unpacked.
const SOURCE_BYTES_MAX: usize = 512 << 20;

const CRC_TABLE: [u64; 256] = {
    let mut table = [0; 256];
    let mut byte = 0;
    while byte < 256 {
        let mut crc = byte as u64;
        let mut bit = 0;
        while bit < 8 {
            crc = (crc >> 1)
                ^ (if crc & 1 == 1 {
                    0x95ac_9329_ac4b_c9b5
                } else {
                    0
                });
            bit += 1;
        }
        table[byte] = crc;
        byte += 1;
    }
    table
};

/// The CRC-64 with Jones's polynomial.
fn crc64(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |crc: u64, byte| CRC_TABLE[usize::from(crc as u8 ^ byte)] ^ (crc >> 8))
}

/// The payload of these sources.
pub fn dump<'a>(sources: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut out = Vec::new();
    for source in sources {
        out.push(LIBRARY);
        match source.len() {
            len @ 0..64 => out.push(len as u8),
            len @ 64..16384 => out.extend_from_slice(&(len as u16 | 0x4000).to_be_bytes()),
            len => match u32::try_from(len) {
                Ok(len) => out.extend(once(0x80).chain(len.to_be_bytes())),
                Err(_) => out.extend(once(0x81).chain((len as u64).to_be_bytes())),
            },
        }
        out.extend_from_slice(source);
    }
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&crc64(&out).to_le_bytes());
    out
}

/// The sources in a payload. The error is a whole line.
pub fn restore(payload: &[u8]) -> Result<Vec<Vec<u8>>, &'static str> {
    const WRONG: &str = "ERR DUMP payload version or checksum are wrong";
    let body_len = payload.len().checked_sub(FOOTER_BYTES).ok_or(WRONG)?;
    let (body, footer) = payload.split_at(body_len);
    let (version, crc) = footer.split_at(2);
    let version = u16::from_le_bytes([version[0], version[1]]);
    let crc = crc
        .iter()
        .rev()
        .fold(0, |crc, byte| crc << 8 | u64::from(*byte));
    if version > VERSION || (crc != 0 && crc != crc64(&payload[..body_len + 2])) {
        return Err(WRONG);
    }
    let (mut reader, mut sources) = (Reader(body), Vec::new());
    while let Some(kind) = reader.byte() {
        match kind {
            LIBRARY => {}
            0xf6 => return Err("ERR Pre-GA function format not supported"),
            _ => return Err("ERR given type is not a function"),
        }
        let source = reader.string();
        sources.push(source.ok_or("ERR failed loading the given functions payload")?);
    }
    Ok(sources)
}

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    fn take(&mut self, len: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(len)?;
        self.0 = rest;
        Some(taken)
    }

    fn number(&mut self, n_bytes: usize) -> Option<usize> {
        let bytes = self.take(n_bytes)?;
        let number = bytes.iter().fold(0, |n, byte| n << 8 | u64::from(*byte));
        usize::try_from(number).ok()
    }

    /// A length whose first byte is `first`.
    fn length(&mut self, first: u8) -> Option<usize> {
        match (first >> 6, first) {
            (0, _) => Some(usize::from(first)),
            (1, _) => Some(usize::from(first & 0x3f) << 8 | usize::from(self.byte()?)),
            (2, 0x80) => self.number(4),
            (2, 0x81) => self.number(8),
            _ => None,
        }
    }

    fn string(&mut self) -> Option<Vec<u8>> {
        let first = self.byte()?;
        if first != 0xc3 {
            let len = self.length(first)?;
            return self.take(len).map(<[u8]>::to_vec);
        }
        let first = self.byte()?;
        let packed = self.length(first)?;
        let first = self.byte()?;
        let len = self.length(first)?;
        unpack(self.take(packed)?, len)
    }
}

/// LZF: runs of up to 32 bytes as they are, and references to what was seen in the last 8 KB.
fn unpack(packed: &[u8], len: usize) -> Option<Vec<u8>> {
    if len > SOURCE_BYTES_MAX.min(packed.len().saturating_mul(264)) {
        return None; // no reference gives more
    }
    let (mut reader, mut out) = (Reader(packed), Vec::with_capacity(len));
    while let Some(control) = reader.byte() {
        if control < 32 {
            out.extend_from_slice(reader.take(usize::from(control) + 1)?);
        } else {
            let mut n = usize::from(control >> 5) + 2;
            if n == 9 {
                n += usize::from(reader.byte()?);
            }
            let back = usize::from(control & 0x1f) << 8 | usize::from(reader.byte()?);
            let start = out.len().checked_sub(back + 1)?;
            (start..start + n).for_each(|at| out.push(out[at]));
        }
        if out.len() > len {
            return None;
        }
    }
    (out.len() == len).then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dumped_can_be_restored() {
        let sources = [vec![b'a'; 5], vec![b'b'; 100], vec![b'c'; 70_000]];
        let payload = dump(sources.iter().map(|source| &source[..]));
        assert_eq!(restore(&payload), Ok(sources.to_vec()));
        assert_eq!(restore(&dump([].into_iter())), Ok(Vec::new()));
    }

    /// What Redis 8.2 answers for a string is the same but for its first byte.
    #[test]
    fn the_checksum_and_the_compression_are_the_originals() {
        let dumped = b"\x00\x01a\x0c\x00t\x88\xdb[u\x1c\xe3\xfd";
        let end = dumped.len() - 8;
        assert_eq!(crc64(&dumped[..end]).to_le_bytes(), dumped[end..]);
        let packed = b"\xc3\t%\x01aa\xe0\x18\x00\x01aa";
        assert_eq!(Reader(packed).string(), Some(vec![b'a'; 37]));
    }

    #[test]
    fn broken_payloads_are_refused() {
        let good = dump([&b"source"[..]].into_iter());
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            assert!(restore(&bad).is_err(), "byte {at}");
            assert!(restore(&good[..at]).is_err(), "cut at {at}");
        }
        let unchecked = |body: &[u8]| [body, &[12, 0], &[0; 8]].concat();
        for body in [
            &b"\xf5"[..],
            b"\xf5\x05abc",
            b"\x00\x01a",
            b"\xf6\x01a",
            b"\xf5\xc3\x02\x7f\xe0\x00",
        ] {
            assert!(restore(&unchecked(body)).is_err(), "{body:?}");
        }
    }
}
