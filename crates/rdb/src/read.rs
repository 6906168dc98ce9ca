//! Numbers and strings of the format, from a source of bytes that is not trusted.
//!
//! A length says what follows; memory is taken as the bytes arrive, never for what was announced.

use std::io::{ErrorKind, Read};

use crate::crc::Checksum;
use crate::error::{Error, Reason, Result};
use crate::lzf;

const BUFFER_BYTES: usize = 64 << 10;
/// Bytes that a string may grow by before they have arrived.
const STRING_STEP_BYTES: usize = 1 << 20;

/// See the top of the file.
pub struct Reader<R> {
    source: R,
    /// Bytes asked of the source at a time.
    step: usize,
    buffer: Vec<u8>,
    /// The first byte of the buffer that was not read.
    at: usize,
    /// The first byte of the buffer that is not in the checksum.
    unsummed: usize,
    /// Bytes before the buffer.
    passed: u64,
    checksum: Option<Checksum>,
    /// A copy of what is read, while it is wanted.
    kept: Option<Vec<u8>>,
}

impl<'a> Reader<&'a [u8]> {
    /// A reader of bytes that are all there, of which a few need no large buffer.
    pub fn of(bytes: &'a [u8]) -> Reader<&'a [u8]> {
        Reader {
            step: bytes.len().min(BUFFER_BYTES),
            ..Reader::new(bytes, false)
        }
    }
}

impl<R: Read> Reader<R> {
    /// A reader of these bytes, which takes their checksum if it is asked to.
    pub fn new(source: R, sums: bool) -> Reader<R> {
        Reader {
            source,
            step: BUFFER_BYTES,
            buffer: Vec::new(),
            at: 0,
            unsummed: 0,
            passed: 0,
            checksum: sums.then(Checksum::default),
            kept: None,
        }
    }

    /// Keeps a copy of what is read from here on, behind these bytes.
    pub fn keep(&mut self, before: Vec<u8>) {
        self.kept = Some(before);
    }

    /// What was kept; nothing more is.
    pub fn kept(&mut self) -> Vec<u8> {
        self.kept.take().unwrap_or_default()
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.passed + self.at as u64
    }

    /// The checksum of the bytes read so far, if it is taken.
    pub fn checksum(&mut self) -> Option<u64> {
        self.sum();
        self.checksum.as_ref().map(Checksum::value)
    }

    /// An error at this place.
    pub fn fail<T>(&self, reason: Reason) -> Result<T> {
        Err(Error {
            offset: self.offset(),
            reason,
        })
    }

    /// An error at this place: what was read contradicts itself.
    pub fn corrupt<T>(&self, what: &'static str) -> Result<T> {
        self.fail(Reason::Corrupt(what))
    }

    fn sum(&mut self) {
        if let Some(checksum) = &mut self.checksum {
            checksum.update(&self.buffer[self.unsummed..self.at]);
        }
        self.unsummed = self.at;
    }

    /// Reads into `room`, which is not empty: at least one byte.
    fn receive(&mut self, start: usize) -> Result<usize> {
        loop {
            match self.source.read(&mut self.buffer[start..]) {
                Ok(0) => return self.fail(Reason::Truncated),
                Ok(n) => return Ok(n),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return self.fail(Reason::Io(error.to_string())),
            }
        }
    }

    /// Makes sure that `n` bytes, at most a buffer's, are there to be read.
    fn fill(&mut self, n: usize) -> Result<()> {
        if self.buffer.len() - self.at >= n {
            return Ok(());
        }
        self.sum();
        self.passed += self.at as u64;
        self.buffer.drain(..self.at);
        (self.at, self.unsummed) = (0, 0);
        while self.buffer.len() < n {
            let start = self.buffer.len();
            self.buffer.resize(self.step.max(n), 0);
            let received = self.receive(start);
            self.buffer
                .truncate(start + received.as_ref().copied().unwrap_or(0));
            received?;
        }
        Ok(())
    }

    /// One byte.
    pub fn byte(&mut self) -> Result<u8> {
        Ok(self.bytes::<1>()?[0])
    }

    /// Some bytes.
    pub fn bytes<const N: usize>(&mut self) -> Result<[u8; N]> {
        self.fill(N)?;
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.buffer[self.at..self.at + N]);
        self.advance(N);
        Ok(bytes)
    }

    fn advance(&mut self, n: usize) {
        if let Some(kept) = &mut self.kept {
            kept.extend_from_slice(&self.buffer[self.at..self.at + n]);
        }
        self.at += n;
    }

    /// Passes over bytes. O(bytes).
    pub fn pass(&mut self, mut len: u64) -> Result<()> {
        while len > 0 {
            if self.buffer.len() == self.at {
                self.fill(1)?;
            }
            let there = self.buffer.len() - self.at;
            let n = usize::try_from(len).map_or(there, |len| len.min(there));
            self.advance(n);
            len -= n as u64;
        }
        Ok(())
    }

    /// The next `len` bytes. O(bytes); takes memory as they arrive.
    pub fn take(&mut self, len: u64) -> Result<Vec<u8>> {
        let Ok(len) = usize::try_from(len) else {
            return self.fail(Reason::Truncated);
        };
        let mut taken = Vec::with_capacity(len.min(STRING_STEP_BYTES));
        while taken.len() < len {
            let wanted = len - taken.len();
            if self.buffer.len() == self.at {
                self.fill(1)?;
            }
            let n = wanted.min(self.buffer.len() - self.at);
            taken.extend_from_slice(&self.buffer[self.at..self.at + n]);
            self.advance(n);
        }
        Ok(taken)
    }

    /// A length, or `Err` of the code of another form of string.
    fn length_or_code(&mut self) -> Result<std::result::Result<u64, u8>> {
        let first = self.byte()?;
        Ok(match first {
            0..0x40 => Ok(u64::from(first)),
            0x40..0x80 => Ok(u64::from(first & 0x3f) << 8 | u64::from(self.byte()?)),
            0x80 => Ok(u64::from(u32::from_be_bytes(self.bytes()?))),
            0x81 => Ok(u64::from_be_bytes(self.bytes()?)),
            0x82..0xc0 => return self.corrupt("a length of an unknown form"),
            _ => Err(first),
        })
    }

    /// A length.
    pub fn length(&mut self) -> Result<u64> {
        match self.length_or_code()? {
            Ok(len) => Ok(len),
            Err(_) => self.corrupt("a string where a length should be"),
        }
    }

    /// A string. O(bytes).
    pub fn string(&mut self) -> Result<Vec<u8>> {
        let number = match self.length_or_code()? {
            Ok(len) => return self.take(len),
            Err(0xc0) => i32::from(i8::from_le_bytes(self.bytes()?)),
            Err(0xc1) => i32::from(i16::from_le_bytes(self.bytes()?)),
            Err(0xc2) => i32::from_le_bytes(self.bytes()?),
            Err(0xc3) => return self.packed_string(),
            Err(_) => return self.corrupt("a string of an unknown form"),
        };
        Ok(number.to_string().into_bytes())
    }

    /// Passes over a string. O(bytes).
    pub fn pass_string(&mut self) -> Result<()> {
        match self.length_or_code()? {
            Ok(len) => self.pass(len),
            Err(0xc0) => self.pass(1),
            Err(0xc1) => self.pass(2),
            Err(0xc2) => self.pass(4),
            Err(0xc3) => {
                let (n_packed, _) = (self.length()?, self.length()?);
                self.pass(n_packed)
            }
            Err(_) => self.corrupt("a string of an unknown form"),
        }
    }

    fn packed_string(&mut self) -> Result<Vec<u8>> {
        let (n_packed, len) = (self.length()?, self.length()?);
        let packed = self.take(n_packed)?;
        let unpacked = usize::try_from(len)
            .ok()
            .and_then(|len| lzf::unpack(&packed, len));
        match unpacked {
            Some(text) => Ok(text),
            None => self.corrupt("compressed bytes that are not what they claim to be"),
        }
    }

    /// Unix time in milliseconds.
    pub fn milliseconds(&mut self) -> Result<i64> {
        Ok(i64::from_le_bytes(self.bytes()?))
    }

    /// A score in eight bytes.
    pub fn double(&mut self) -> Result<f64> {
        Ok(f64::from_le_bytes(self.bytes()?))
    }

    /// A score as text, or as one of the codes for what is no number of digits.
    pub fn double_text(&mut self) -> Result<f64> {
        let len = match self.byte()? {
            255 => return Ok(f64::NEG_INFINITY),
            254 => return Ok(f64::INFINITY),
            253 => return Ok(f64::NAN),
            len => len,
        };
        let text = self.take(u64::from(len))?;
        match stdx::number::parse_f64(&text) {
            Some(number) => Ok(number),
            None => self.corrupt("a score that is no number"),
        }
    }

    /// Whether all bytes were read.
    pub fn is_at_end(&mut self) -> bool {
        self.fill(1).is_err()
    }
}
