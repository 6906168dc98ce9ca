//! Numbers and strings of the format, appended to a buffer.
//!
//! ```text
//!   length   00nnnnnn | 01nnnnnn nnnnnnnn | 80 + 4 bytes | 81 + 8 bytes      big-endian
//!   string   length, bytes
//!          | C0 + 1 byte, C1 + 2, C2 + 4      canonical decimal text, as an integer LE
//!          | C3 length(packed) length(text) packed                  from 21 bytes on
//! ```

use std::ops::Range;

use stdx::number::parse_i64;

use crate::lzf;

/// Texts up to this many bytes may be integers.
const INTEGER_BYTES_MAX: usize = 11;
/// Texts beyond this many bytes may be packed.
const UNPACKED_BYTES_MAX: usize = 20;
/// A length has at most so many bytes.
const LENGTH_BYTES_MAX: usize = 9;
/// What packing must save to be worth it.
const SAVED_BYTES_MIN: usize = 4;

/// So many texts in a row that did not pack are taken for a sign that their like will not.
const VAIN_MAX: usize = 64;
/// Of these one in so many is tried.
const TRIED_OF: usize = 4;

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Writer {
    /// What was written.
    pub out: Vec<u8>,
    packing: Packing,
    /// Hashes whose fields have deadlines are written as Valkey writes them.
    pub is_valkeys: bool,
}

/// What happens to long strings.
#[derive(Debug, Default)]
enum Packing {
    #[default]
    Never,
    /// They are packed if that makes them shorter.
    AtOnce,
    /// They stand as they are, without a length, at these places.
    Later(Vec<Range<usize>>),
}

impl Writer {
    /// A writer that packs long strings, or does not.
    pub fn new(packs: bool) -> Writer {
        let packing = match packs {
            true => Packing::AtOnce,
            false => Packing::Never,
        };
        Writer {
            out: Vec::new(),
            packing,
            is_valkeys: false,
        }
    }

    /// One that packs them in [`Writer::into_bytes`]: until then they are only copied.
    pub fn deferring(packs: bool) -> Writer {
        let packing = match packs {
            true => Packing::Later(Vec::new()),
            false => Packing::Never,
        };
        Writer {
            packing,
            ..Writer::default()
        }
    }

    /// The same, in the form of Valkey's version, or not.
    pub fn for_valkey(self, is_valkeys: bool) -> Writer {
        Writer { is_valkeys, ..self }
    }

    /// One that has written these bytes.
    pub fn holding(out: Vec<u8>) -> Writer {
        Writer {
            out,
            ..Writer::default()
        }
    }

    /// What was written, with everything packed that is to be. O(bytes). Where one text after the other does
    /// not pack, three in four are not tried, until one does: trying is half of the time of such a save.
    pub fn into_bytes(self) -> Vec<u8> {
        let Packing::Later(texts) = self.packing else {
            return self.out;
        };
        if texts.is_empty() {
            return self.out;
        }
        let mut writer = Writer::new(true);
        writer
            .out
            .reserve(self.out.len() + texts.len() * LENGTH_BYTES_MAX);
        let (mut done, mut n_in_vain) = (0, 0);
        for place in texts {
            writer.raw(&self.out[done..place.start]);
            let text = &self.out[place.clone()];
            let is_tried = n_in_vain < VAIN_MAX || n_in_vain.is_multiple_of(TRIED_OF);
            if is_tried && writer.packed(text) {
                n_in_vain = 0;
            } else {
                n_in_vain += 1;
                writer.unpacked(text);
            }
            done = place.end;
        }
        writer.raw(&self.out[done..]);
        writer.out
    }

    /// Appends what another one that defers, or one that does not pack, has written.
    pub fn append(&mut self, other: &Writer) {
        if let (Packing::Later(texts), Packing::Later(more)) = (&mut self.packing, &other.packing) {
            let at = self.out.len();
            texts.extend(more.iter().map(|text| text.start + at..text.end + at));
        }
        self.raw(&other.out);
    }

    /// Appends one byte.
    pub fn byte(&mut self, byte: u8) {
        self.out.push(byte);
    }

    /// Appends bytes without their length.
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Appends a length.
    pub fn length(&mut self, len: u64) {
        match len {
            0..64 => self.byte(len as u8),
            64..16384 => self.raw(&(len as u16 | 0x4000).to_be_bytes()),
            _ => match u32::try_from(len) {
                Ok(len) => {
                    self.byte(0x80);
                    self.raw(&len.to_be_bytes());
                }
                Err(_) => {
                    self.byte(0x81);
                    self.raw(&len.to_be_bytes());
                }
            },
        }
    }

    /// Appends a string, as an integer or packed where that is shorter. O(bytes).
    pub fn string(&mut self, text: &[u8]) {
        if text.len() <= INTEGER_BYTES_MAX && self.integer(text) {
            return;
        }
        if text.len() > UNPACKED_BYTES_MAX {
            if let Packing::Later(texts) = &mut self.packing {
                texts.push(self.out.len()..self.out.len() + text.len());
                return self.raw(text);
            }
            if matches!(self.packing, Packing::AtOnce) && self.packed(text) {
                return;
            }
        }
        self.unpacked(text);
    }

    fn unpacked(&mut self, text: &[u8]) {
        self.length(text.len() as u64);
        self.raw(text);
    }

    /// Appends a text that is a 32-bit integer; whether it is one.
    fn integer(&mut self, text: &[u8]) -> bool {
        let Some(number) = parse_i64(text).and_then(|number| i32::try_from(number).ok()) else {
            return false;
        };
        let (code, width) = match number {
            -128..=127 => (0xc0, 1),
            -32768..=32767 => (0xc1, 2),
            _ => (0xc2, 4),
        };
        self.byte(code);
        self.raw(&number.to_le_bytes()[..width]);
        true
    }

    fn packed(&mut self, text: &[u8]) -> bool {
        let start = self.out.len();
        // The lengths stand before the bytes, and are as long as they are: they are put in after.
        let Some(n_packed) = lzf::pack(text, text.len() - SAVED_BYTES_MIN, &mut self.out) else {
            return false;
        };
        self.byte(0xc3);
        self.length(n_packed as u64);
        self.length(text.len() as u64);
        self.out[start..].rotate_left(n_packed);
        true
    }

    /// Appends Unix time in milliseconds.
    pub fn milliseconds(&mut self, ms: u64) {
        self.raw(&ms.to_le_bytes());
    }

    /// Appends a score.
    pub fn double(&mut self, number: f64) {
        self.raw(&number.to_le_bytes());
    }
}
