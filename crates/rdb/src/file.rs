//! A whole file: a header, parts that each begin with an opcode, and a checksum.
//!
//! ```text
//!   "REDIS0012" or "VALKEY080"
//!   FA name text ..              about the file
//!   F5 source ..                 libraries of functions
//!   FE n  FB keys volatile       a database, and how large it is
//!     [FC deadline] [F8 idle] [F9 freq]  code key body ..
//!   FF  CRC-64 LE                0 if none was taken
//! ```
//!
//! [`Parts`] reads one part after the other and keeps nothing of them.

use std::io::Read;

use datatypes::home::{Encoding, Limits, Owned, Payload};

use crate::code;
use crate::error::{Reason, Result};
use crate::load::{self, Terms};
use crate::pass;
use crate::payload::Demands;
use crate::read::Reader;
use crate::save;
use crate::write::Writer;

/// Names in a cluster, those of imports too, are so long.
const NODE_NAME_BYTES: usize = 40;
/// Files of older versions have no checksum.
const VERSION_WITH_CHECKSUM: u16 = 5;

/// What a file says of a key besides its value.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// When it is gone, Unix time.
    pub deadline_ms: Option<u64>,
    /// Seconds since it was used.
    pub idle_s: Option<u64>,
    /// How often it was used, as a logarithm.
    pub frequency: Option<u8>,
}

// ---- Writing -----------------------------------------------------------------------------------

/// Begins a file. `version` is one of [`code::VERSION_PLAIN`], [`code::VERSION`] and [`code::VERSION_VALKEY`].
pub fn header(writer: &mut Writer, version: u16) {
    let text = match version {
        code::VERSION_VALKEY => format!("VALKEY{version:03}"),
        _ => format!("REDIS{version:04}"),
    };
    writer.raw(text.as_bytes());
}

/// Says something about the file.
pub fn about(writer: &mut Writer, name: &str, text: &str) {
    writer.byte(code::AUX);
    writer.string(name.as_bytes());
    writer.string(text.as_bytes());
}

/// Writes the source of a library.
pub fn function(writer: &mut Writer, source: &[u8]) {
    writer.byte(code::FUNCTION);
    writer.string(source);
}

/// Says to which database the keys that follow belong.
pub fn select(writer: &mut Writer, database: u16) {
    writer.byte(code::SELECT_DB);
    writer.length(u64::from(database));
}

/// Says how many keys that database has, and how many of them with a deadline.
pub fn size(writer: &mut Writer, n_keys: u64, n_volatile: u64) {
    writer.byte(code::RESIZE_DB);
    writer.length(n_keys);
    writer.length(n_volatile);
}

/// Writes what stands before the body of a key's value.
pub fn key(
    writer: &mut Writer,
    attributes: Attributes,
    key: &[u8],
    (encoding, payload): (Encoding, Payload<'_>),
) {
    if let Some(deadline_ms) = attributes.deadline_ms {
        writer.byte(code::DEADLINE_MS);
        writer.milliseconds(deadline_ms);
    }
    if let Some(idle_s) = attributes.idle_s {
        writer.byte(code::IDLE);
        writer.length(idle_s);
    }
    if let Some(frequency) = attributes.frequency {
        writer.byte(code::FREQ);
        writer.byte(frequency);
    }
    writer.byte(save::code(writer, encoding, payload));
    writer.string(key);
}

/// Ends the parts; the checksum of all bytes so far, or zeros, must follow.
pub fn end(writer: &mut Writer) {
    writer.byte(code::EOF);
}

// ---- Reading -----------------------------------------------------------------------------------

/// One part of a file, with values or with their bytes.
#[derive(Debug)]
pub enum Part<T = Owned> {
    /// A name and a text about the file.
    About(Vec<u8>, Vec<u8>),
    /// The source of a library.
    Function(Vec<u8>),
    /// A key with its value; its database is [`Parts::database`].
    Key(Vec<u8>, Attributes, T),
    /// A key with a collection that has no elements, which old versions have written.
    Emptied(Vec<u8>),
    /// Something that has no meaning here.
    Passed,
    /// The end, with a checksum that is right if it was looked at.
    End,
}

/// The parts of a file.
pub struct Parts<R> {
    reader: Reader<R>,
    version: u16,
    checks_sum: bool,
    database: u64,
    /// The key whose value could not be read, and the code of its type.
    key: Option<(Vec<u8>, u8)>,
}

impl<R: Read> Parts<R> {
    /// Reads the header. The checksum is looked at if that is demanded and the file has one.
    pub fn open(source: R, demands: Demands) -> Result<Parts<R>> {
        let mut reader = Reader::new(source, demands.checks_sum);
        let header: [u8; 9] = reader.bytes()?;
        let (known, digits) = match &header {
            [b'R', b'E', b'D', b'I', b'S', digits @ ..] => (1..=code::VERSION, &digits[..]),
            [b'V', b'A', b'L', b'K', b'E', b'Y', digits @ ..] => {
                (code::VERSION_VALKEY..=code::VERSION_VALKEY, &digits[..])
            }
            _ => return reader.fail(Reason::Signature),
        };
        let version = std::str::from_utf8(digits)
            .ok()
            .and_then(|text| text.parse().ok());
        let Some(version) = version else {
            return reader.fail(Reason::Signature);
        };
        if version == 0 || (demands.knows_version && !known.contains(&version)) {
            return reader.fail(Reason::Version(version));
        }
        Ok(Parts {
            reader,
            version,
            checks_sum: demands.checks_sum,
            database: 0,
            key: None,
        })
    }

    /// The version that the file states.
    pub fn version(&self) -> u16 {
        self.version
    }

    /// The database that was selected last.
    pub fn database(&self) -> u64 {
        self.database
    }

    /// Bytes read so far.
    pub fn offset(&self) -> u64 {
        self.reader.offset()
    }

    /// The key whose value was being read when the error showed, and the code of its type.
    pub fn key(&self) -> Option<(&[u8], u8)> {
        self.key.as_ref().map(|(key, code)| (&key[..], *code))
    }

    /// Whether nothing follows, which is so behind [`Part::End`].
    pub fn is_at_end(&mut self) -> bool {
        self.reader.is_at_end()
    }

    /// Reads the next part. O(bytes).
    pub fn next(&mut self, limits: &Limits) -> Result<Part> {
        let version = self.version;
        self.next_by(|reader, code| load::value(reader, code, Terms { version, limits }))
    }

    /// Reads the next part, a value as it stands there: its code, then its body. O(bytes).
    pub fn next_raw(&mut self) -> Result<Part<Vec<u8>>> {
        let version = self.version;
        self.next_by(|reader, code| {
            reader.keep(vec![code]);
            let passed = pass::value(reader, code, version);
            let kept = reader.kept();
            passed.map(|()| kept)
        })
    }

    fn next_by<T>(
        &mut self,
        read: impl FnOnce(&mut Reader<R>, u8) -> Result<T>,
    ) -> Result<Part<T>> {
        let mut attributes = Attributes::default();
        loop {
            let opcode = self.reader.byte()?;
            match opcode {
                code::DEADLINE_S => {
                    let seconds = i64::from(i32::from_le_bytes(self.reader.bytes()?));
                    attributes.deadline_ms = Some(unix_ms(seconds * 1000));
                }
                code::DEADLINE_MS => {
                    attributes.deadline_ms = Some(unix_ms(self.reader.milliseconds()?));
                }
                code::IDLE => attributes.idle_s = Some(self.reader.length()?),
                code::FREQ => attributes.frequency = Some(self.reader.byte()?),
                code::SELECT_DB => self.database = self.reader.length()?,
                code::RESIZE_DB => self.pass_lengths(2)?,
                code::SLOT_INFO => self.pass_lengths(3)?,
                code::AUX => {
                    let (name, text) = (self.reader.string()?, self.reader.string()?);
                    return Ok(Part::About(name, text));
                }
                code::FUNCTION => return Ok(Part::Function(self.reader.string()?)),
                code::FUNCTION_PRE_GA => {
                    let what = "a function in its pre-release form";
                    return self.reader.fail(Reason::Unsupported(what));
                }
                code::MODULE_AUX => {
                    self.pass_lengths(2)?; // when the module wants to get this
                    pass::module(&mut self.reader)?;
                    return Ok(Part::Passed);
                }
                code::SLOT_IMPORT => {
                    if self.reader.string()?.len() != NODE_NAME_BYTES {
                        return self.reader.corrupt("Invalid slot import job name length");
                    }
                    let what = "a hash slot that is being imported";
                    return self.reader.fail(Reason::Unsupported(what));
                }
                code::EOF => return self.end(),
                kind => return self.value(kind, attributes, read),
            }
        }
    }

    fn value<T>(
        &mut self,
        kind: u8,
        attributes: Attributes,
        read: impl FnOnce(&mut Reader<R>, u8) -> Result<T>,
    ) -> Result<Part<T>> {
        if !load::is_kind(kind) {
            return self.reader.fail(Reason::Unknown(kind));
        }
        let key = self.reader.string()?;
        match read(&mut self.reader, kind) {
            Ok(value) => Ok(Part::Key(key, attributes, value)),
            Err(error) if error.reason == Reason::Empty => Ok(Part::Emptied(key)),
            Err(error) => {
                self.key = Some((key, kind));
                Err(error)
            }
        }
    }

    fn pass_lengths(&mut self, n: usize) -> Result<()> {
        (0..n).try_for_each(|_| self.reader.length().map(|_| ()))
    }

    fn end<T>(&mut self) -> Result<Part<T>> {
        if self.version < VERSION_WITH_CHECKSUM {
            return Ok(Part::End);
        }
        let found = self.reader.checksum();
        let stated = u64::from_le_bytes(self.reader.bytes()?);
        match found {
            Some(found) if self.checks_sum && stated != 0 && stated != found => {
                self.reader.fail(Reason::Checksum { stated, found })
            }
            _ => Ok(Part::End),
        }
    }
}

/// A time before 1970 is long ago.
fn unix_ms(ms: i64) -> u64 {
    u64::try_from(ms).unwrap_or(0)
}
