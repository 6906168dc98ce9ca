//! The client's side: replies as values, and the encoding of commands.
//!
//! The decoder takes bytes in any pieces and yields whole values. Finished elements of an
//! unfinished aggregate wait on a stack, so a reply of a million elements is read once; nothing is
//! allocated from a claimed length, and nesting has a limit.
//!
//! ```text
//! bytes fed ──► scalar ──► top frame ──► full? ──► becomes a value of the frame below ──► ...
//!           └─► header ──► new frame                                     no frame left: yield it
//! ```

use std::fmt;

use memchr::memchr;
use stdx::number::{parse_f64, parse_i64, write_i64};

/// The deepest nesting accepted.
pub const DEPTH_MAX: usize = 128;
/// The longest line accepted, other than a bulk string.
const LINE_MAX: usize = 1 << 20;

/// One reply, or an element of one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A status: `+OK`.
    Simple(Vec<u8>),
    /// An error line with its code word.
    Error(Vec<u8>),
    /// An integer.
    Int(i64),
    /// A bulk string.
    Bulk(Vec<u8>),
    /// `$-1`, or `_` in RESP3.
    Null,
    /// `*-1`, which only RESP2 has.
    NullArray,
    /// An array.
    Array(Vec<Value>),
    /// Pairs of key and value, in the order sent.
    Map(Vec<(Value, Value)>),
    /// A set, in the order sent.
    Set(Vec<Value>),
    /// An out-of-band message.
    Push(Vec<Value>),
    /// A double, kept as the text sent.
    Double(Vec<u8>),
    /// A boolean.
    Bool(bool),
    /// An integer of any size, as text.
    BigNumber(Vec<u8>),
    /// Text for people with its three-letter format.
    Verbatim([u8; 3], Vec<u8>),
    /// Out-of-band pairs, and the value they describe.
    Attribute(Vec<(Value, Value)>, Box<Value>),
}

/// Bytes that are no reply; the connection cannot go on after them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DecodeError {
    /// A type byte that no version of the protocol has.
    UnknownType(u8),
    /// A malformed number or length.
    BadNumber,
    /// A bulk string without its line end, or a malformed boolean, null or double.
    BadValue,
    /// A line that does not end within 1 MB.
    LineTooLong,
    /// Aggregates nested deeper than `DEPTH_MAX`.
    TooDeep,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::UnknownType(byte) => {
                write!(f, "Protocol error, got {:?} as reply type byte", char::from(*byte))
            }
            Self::BadNumber => f.write_str("Protocol error, bad number in reply"),
            Self::BadValue => f.write_str("Protocol error, malformed reply"),
            Self::LineTooLong => f.write_str("Protocol error, reply line too long"),
            Self::TooDeep => f.write_str("Protocol error, reply nested too deep"),
        }
    }
}

impl std::error::Error for DecodeError {}

/// Encodes a command as an array of bulk strings.
pub fn encode_command(args: &[impl AsRef<[u8]>]) -> Vec<u8> {
    let mut out = Vec::new();
    append_command(&mut out, args);
    out
}

/// Appends a command as an array of bulk strings.
pub fn append_command(out: &mut Vec<u8>, args: &[impl AsRef<[u8]>]) {
    append_header(out, b'*', args.len());
    for arg in args {
        append_bulk(out, b'$', arg.as_ref());
    }
}

/// Turns received bytes into values.
#[derive(Debug, Default)]
pub struct Decoder {
    buf: Vec<u8>,
    pos: usize,
    stack: Vec<Frame>,
}

/// An aggregate of which elements are still to come.
#[derive(Debug)]
struct Frame {
    marker: u8,
    n_left: usize,
    items: Vec<Value>,
}

enum Step {
    Whole(Value),
    Open(Frame),
}

impl Decoder {
    /// Adds received bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        if self.pos == self.buf.len() {
            self.buf.clear();
            self.pos = 0;
        } else if self.pos > 64 * 1024 && self.pos > self.buf.len() / 2 {
            self.buf.drain(..self.pos);
            self.pos = 0;
        }
        self.buf.extend_from_slice(bytes);
    }

    /// The next whole value; `None` until more bytes are fed.
    pub fn next_value(&mut self) -> Result<Option<Value>, DecodeError> {
        loop {
            let Some((step, n_bytes)) = self.step()? else {
                return Ok(None);
            };
            self.pos += n_bytes;
            match step {
                Step::Open(frame) => {
                    if self.stack.len() == DEPTH_MAX {
                        return Err(DecodeError::TooDeep);
                    }
                    self.stack.push(frame);
                }
                Step::Whole(value) => {
                    if let Some(value) = self.fold(value) {
                        return Ok(Some(value));
                    }
                }
            }
        }
    }

    /// Whether a value has begun that is not whole yet.
    pub fn is_mid_value(&self) -> bool {
        self.pos < self.buf.len() || !self.stack.is_empty()
    }

    /// Hands a value to the innermost open aggregate; returns the outermost once it is full.
    fn fold(&mut self, mut value: Value) -> Option<Value> {
        while let Some(frame) = self.stack.last_mut() {
            frame.items.push(value);
            frame.n_left -= 1;
            if frame.n_left > 0 {
                return None;
            }
            let frame = self.stack.pop().expect("the frame was just looked at");
            match frame.close() {
                Step::Whole(whole) => value = whole,
                Step::Open(described) => {
                    self.stack.push(described);
                    return None;
                }
            }
        }
        Some(value)
    }

    /// Reads one scalar or one header at the position, and how many bytes it has.
    fn step(&self) -> Result<Option<(Step, usize)>, DecodeError> {
        let rest = &self.buf[self.pos..];
        let searched = &rest[..rest.len().min(LINE_MAX)];
        let Some(end) = memchr(b'\n', searched) else {
            let too_long = searched.len() == LINE_MAX;
            return if too_long {
                Err(DecodeError::LineTooLong)
            } else {
                Ok(None)
            };
        };
        let [marker, line @ ..] = &rest[..end] else {
            return Err(DecodeError::UnknownType(b'\n'));
        };
        let line = line.strip_suffix(b"\r").ok_or(DecodeError::BadValue)?;
        let after = end + 1;
        let value = match marker {
            b'$' | b'=' | b'!' => return bulk(*marker, line, &rest[after..], after),
            b'*' | b'~' | b'>' | b'%' | b'|' => return Ok(Some((open(*marker, line)?, after))),
            b'+' => Value::Simple(line.to_vec()),
            b'-' => Value::Error(line.to_vec()),
            b':' => Value::Int(parse_i64(line).ok_or(DecodeError::BadNumber)?),
            b'_' if line.is_empty() => Value::Null,
            b'#' if line == b"t" => Value::Bool(true),
            b'#' if line == b"f" => Value::Bool(false),
            b',' if line == b"nan" || parse_f64(line).is_some() => Value::Double(line.to_vec()),
            b'(' => Value::BigNumber(line.to_vec()),
            b'_' | b'#' | b',' => return Err(DecodeError::BadValue),
            other => return Err(DecodeError::UnknownType(*other)),
        };
        Ok(Some((Step::Whole(value), after)))
    }
}

impl Frame {
    fn close(self) -> Step {
        let Frame {
            marker, mut items, ..
        } = self;
        Step::Whole(match marker {
            b'*' => Value::Array(items),
            b'~' => Value::Set(items),
            b'>' => Value::Push(items),
            b'%' => Value::Map(pairs(items)),
            b'|' => {
                return Step::Open(Frame {
                    marker: b'A',
                    n_left: 1,
                    items,
                });
            }
            _ => {
                let described = items.pop().expect("closed by pushing the described value");
                Value::Attribute(pairs(items), Box::new(described))
            }
        })
    }
}

fn pairs(items: Vec<Value>) -> Vec<(Value, Value)> {
    let mut items = items.into_iter();
    let mut pairs = Vec::with_capacity(items.len() / 2);
    while let (Some(key), Some(value)) = (items.next(), items.next()) {
        pairs.push((key, value));
    }
    pairs
}

/// Reads the body of a bulk string, verbatim string or bulk error.
fn bulk(
    marker: u8,
    line: &[u8],
    body: &[u8],
    header_bytes: usize,
) -> Result<Option<(Step, usize)>, DecodeError> {
    let len = parse_i64(line).ok_or(DecodeError::BadNumber)?;
    if len == -1 && marker == b'$' {
        return Ok(Some((Step::Whole(Value::Null), header_bytes)));
    }
    let len = usize::try_from(len).map_err(|_| DecodeError::BadNumber)?;
    if body.len() < 2 || body.len() - 2 < len {
        return Ok(None);
    }
    let (text, line_end) = (&body[..len], &body[len..len + 2]);
    if line_end != b"\r\n" {
        return Err(DecodeError::BadValue);
    }
    let value = match (marker, text) {
        (b'$', text) => Value::Bulk(text.to_vec()),
        (b'!', text) => Value::Error(text.to_vec()),
        (_, [a, b, c, b':', text @ ..]) => Value::Verbatim([*a, *b, *c], text.to_vec()),
        _ => return Err(DecodeError::BadValue),
    };
    Ok(Some((Step::Whole(value), header_bytes + len + 2)))
}

fn open(marker: u8, line: &[u8]) -> Result<Step, DecodeError> {
    let n = parse_i64(line).ok_or(DecodeError::BadNumber)?;
    if n == -1 && marker == b'*' {
        return Ok(Step::Whole(Value::NullArray));
    }
    let n = usize::try_from(n).map_err(|_| DecodeError::BadNumber)?;
    let per_element = if matches!(marker, b'%' | b'|') { 2 } else { 1 };
    let n_left = n.checked_mul(per_element).ok_or(DecodeError::BadNumber)?;
    let frame = Frame {
        marker,
        n_left,
        items: Vec::new(),
    };
    Ok(if n_left == 0 {
        frame.close()
    } else {
        Step::Open(frame)
    })
}

impl Value {
    /// Appends the value as it travels.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Value::Simple(text) => append_line(out, b'+', text),
            Value::Error(text) if text.contains(&b'\n') => append_bulk(out, b'!', text),
            Value::Error(text) => append_line(out, b'-', text),
            Value::Int(value) => {
                out.push(b':');
                write_i64(out, *value);
                out.extend_from_slice(b"\r\n");
            }
            Value::Bulk(bytes) => append_bulk(out, b'$', bytes),
            Value::Null => append_line(out, b'_', b""),
            Value::NullArray => append_line(out, b'*', b"-1"),
            Value::Array(items) => encode_items(out, b'*', items),
            Value::Set(items) => encode_items(out, b'~', items),
            Value::Push(items) => encode_items(out, b'>', items),
            Value::Map(pairs) => encode_pairs(out, b'%', pairs),
            Value::Double(text) => append_line(out, b',', text),
            Value::Bool(value) => append_line(out, b'#', if *value { b"t" } else { b"f" }),
            Value::BigNumber(text) => append_line(out, b'(', text),
            Value::Verbatim(format, text) => {
                append_bulk(out, b'=', &[&format[..], b":", text].concat());
            }
            Value::Attribute(pairs, value) => {
                encode_pairs(out, b'|', pairs);
                value.encode(out);
            }
        }
    }
}

fn encode_items(out: &mut Vec<u8>, marker: u8, items: &[Value]) {
    append_header(out, marker, items.len());
    items.iter().for_each(|item| item.encode(out));
}

fn encode_pairs(out: &mut Vec<u8>, marker: u8, pairs: &[(Value, Value)]) {
    append_header(out, marker, pairs.len());
    for (key, value) in pairs {
        key.encode(out);
        value.encode(out);
    }
}

fn append_header(out: &mut Vec<u8>, marker: u8, n: usize) {
    append_line(out, marker, n.to_string().as_bytes());
}

fn append_bulk(out: &mut Vec<u8>, marker: u8, bytes: &[u8]) {
    append_header(out, marker, bytes.len());
    out.extend_from_slice(bytes);
    out.extend_from_slice(b"\r\n");
}

fn append_line(out: &mut Vec<u8>, marker: u8, text: &[u8]) {
    out.push(marker);
    out.extend_from_slice(text);
    out.extend_from_slice(b"\r\n");
}

#[cfg(test)]
mod tests;
