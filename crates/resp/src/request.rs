//! The request parser: where in the received bytes the arguments are.
//!
//! A request is an array of bulk strings, or one line of words (an inline command). Nothing is
//! copied: an argument is a span of the buffer. Progress inside an unfinished request is kept
//! relative to where the request starts, so the caller may move those bytes and append to them;
//! what was parsed once is not looked at again, except for the header of the bulk in flight.
//!
//! ```text
//! *3\r\n  $3\r\n SET \r\n  $1\r\n k \r\n  $5\r\n val      <- the buffer ends here
//! ^pos                                  ^cursor            2 spans kept, 1 bulk left, 4 bytes missing
//! ```
//!
//! Nothing is ever allocated from a claimed length, and a line has at most 64 KB.

use std::fmt;

use memchr::memchr;
use stdx::number::parse_i64;
use stdx::quoting;

/// The longest line: an inline command or a length.
const LINE_MAX: usize = 64 * 1024;
/// Before authentication a request may have this many arguments ...
const UNAUTHENTICATED_ARGS_MAX: i64 = 10;
/// ... of this many bytes.
const UNAUTHENTICATED_BULK_MAX: i64 = 16 * 1024;
/// More memory than this is not kept for the spans of the next unfinished request.
const PARTIAL_KEPT_MAX: usize = 1024;

/// One argument: a range of the buffer that was parsed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Span {
    /// Index of its first byte.
    pub start: u32,
    /// Number of its bytes.
    pub len: u32,
}

impl Span {
    /// The argument's bytes in `buf`, the buffer it was found in.
    #[inline]
    pub fn of(self, buf: &[u8]) -> &[u8] {
        let start = self.start as usize;
        &buf[start..start + self.len as usize]
    }
}

/// What a session may send.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// The longest bulk string (`proto-max-bulk-len`).
    pub max_bulk_bytes: usize,
    /// Whether the session has passed authentication, or needs none.
    pub authenticated: bool,
}

/// A request that breaks the protocol; the connection cannot go on after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProtocolError {
    /// `*` with something else than a count up to 2^31 - 1.
    InvalidMultibulkLength,
    /// `$` with something else than a length within the limit.
    InvalidBulkLength,
    /// Another byte where `$` had to be.
    ExpectedDollar(u8),
    /// A `*` line without an end.
    TooBigMultibulkCount,
    /// A `$` line without an end.
    TooBigBulkCount,
    /// An inline command without an end.
    TooBigInline,
    /// More arguments than a session may send before authentication.
    UnauthenticatedMultibulkLength,
    /// A longer argument than a session may send before authentication.
    UnauthenticatedBulkLength,
    /// An inline command whose quotes do not pair.
    UnbalancedQuotes,
    /// A length or a bulk that does not end with `\r\n`.
    InvalidCrlf,
}

impl fmt::Display for ProtocolError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::InvalidMultibulkLength => "Protocol error: invalid multibulk length",
            Self::InvalidBulkLength => "Protocol error: invalid bulk length",
            Self::ExpectedDollar(got) => {
                return write!(f, "Protocol error: expected '$', got '{}'", char::from(*got));
            }
            Self::TooBigMultibulkCount => "Protocol error: too big mbulk count string",
            Self::TooBigBulkCount => "Protocol error: too big bulk count string",
            Self::TooBigInline => "Protocol error: too big inline request",
            Self::UnauthenticatedMultibulkLength => {
                "Protocol error: unauthenticated multibulk length"
            }
            Self::UnauthenticatedBulkLength => "Protocol error: unauthenticated bulk length",
            Self::InvalidCrlf => "Protocol error: invalid CRLF in request",
            Self::UnbalancedQuotes => "Protocol error: unbalanced quotes in request",
        })
    }
}

impl std::error::Error for ProtocolError {}

/// The progress inside the one request that may be unfinished at the end of the buffer.
#[derive(Debug, Default)]
pub struct Parser {
    /// Bulks of the request not yet seen whole; 0 between requests.
    n_left: u32,
    /// Where the next bulk's header starts, relative to the request.
    cursor: usize,
    /// The bulks seen, relative to the request.
    partial: Vec<Span>,
    /// Where what has come of the next bulk starts, relative to the request: its header, until that is whole.
    begun: usize,
    missing_bytes: usize,
}

impl Parser {
    /// Parses one request that starts at `*pos`.
    ///
    /// True: its arguments are appended to `spans`, as positions in `buf`, and `*pos` is behind it;
    /// an empty request (`*0`, a blank line) appends none. False: more bytes are needed; `spans`
    /// and `*pos` are as before, and the next call must have the same bytes at its `*pos`. An
    /// inline command with quotes is unescaped in place. O(new bytes); a buffer holds up to 4 GB.
    #[inline]
    pub fn next(
        &mut self,
        buf: &mut [u8],
        pos: &mut usize,
        spans: &mut Vec<Span>,
        limits: &Limits,
    ) -> Result<bool, ProtocolError> {
        if self.n_left > 0 {
            return self.resume(buf, pos, spans, limits);
        }
        self.missing_bytes = 0;
        match buf.get(*pos) {
            Some(b'*') => {}
            Some(_) => return parse_inline(buf, pos, spans),
            None => return Ok(false),
        }
        let Some((count, after)) = count_line(buf, *pos, limits)? else {
            return Ok(false);
        };
        if count <= 0 {
            *pos = after;
            return Ok(true);
        }
        let mark = spans.len();
        let mut walk = Walk {
            at: after,
            n_left: count as u32,
            begun: 0,
            missing_bytes: 0,
        };
        if let Err(error) = walk.bulks(buf, 0, spans, limits) {
            spans.truncate(mark);
            return Err(error);
        }
        if walk.n_left == 0 {
            *pos = walk.at;
            return Ok(true);
        }
        let origin = *pos;
        self.partial.extend(spans.drain(mark..).map(|span| Span {
            start: span.start - origin as u32,
            ..span
        }));
        self.suspend(walk, origin);
        Ok(false)
    }

    /// How many bytes the bulk in flight still lacks, its line end included; 0 if unknown.
    #[inline]
    pub fn hint(&self) -> usize {
        self.missing_bytes
    }

    /// How many bytes the bulk in flight has in all, if the buffer has `n_bytes` of its request.
    #[inline]
    pub fn bulk_bytes(&self, n_bytes: usize) -> usize {
        n_bytes.saturating_sub(self.begun) + self.missing_bytes
    }

    /// How many bytes of an unfinished request have been understood: all before the bulk in flight.
    #[inline]
    pub fn understood_bytes(&self) -> usize {
        if self.is_mid_request() { self.begun } else { 0 }
    }

    /// Whether a request has begun of which `next` has seen some arguments but not all.
    #[inline]
    pub fn is_mid_request(&self) -> bool {
        self.n_left > 0
    }

    #[cold]
    fn resume(
        &mut self,
        buf: &[u8],
        pos: &mut usize,
        spans: &mut Vec<Span>,
        limits: &Limits,
    ) -> Result<bool, ProtocolError> {
        let origin = *pos;
        self.missing_bytes = 0; // whatever is found
        let mut walk = Walk {
            at: origin + self.cursor,
            n_left: self.n_left,
            begun: 0,
            missing_bytes: 0,
        };
        walk.bulks(buf, origin, &mut self.partial, limits)?;
        if walk.n_left > 0 {
            self.suspend(walk, origin);
            return Ok(false);
        }
        spans.extend(self.partial.drain(..).map(|span| Span {
            start: span.start + origin as u32,
            ..span
        }));
        self.partial.shrink_to(PARTIAL_KEPT_MAX);
        self.n_left = 0;
        self.missing_bytes = 0;
        *pos = walk.at;
        Ok(true)
    }

    fn suspend(&mut self, walk: Walk, origin: usize) {
        self.n_left = walk.n_left;
        self.cursor = walk.at - origin;
        self.begun = walk.begun - origin;
        self.missing_bytes = walk.missing_bytes;
    }
}

/// A pass over the bulks of one request.
struct Walk {
    at: usize,
    n_left: u32,
    begun: usize,
    missing_bytes: usize,
}

impl Walk {
    /// Appends every whole bulk, relative to `origin`, and stops before the first unfinished one.
    #[inline]
    fn bulks(
        &mut self,
        buf: &[u8],
        origin: usize,
        out: &mut Vec<Span>,
        limits: &Limits,
    ) -> Result<(), ProtocolError> {
        while self.n_left > 0 {
            let header = match short_line(buf, self.at, b'$') {
                Some((len, after)) if len <= limits.max_bulk_bytes && limits.authenticated => {
                    Some((len, after))
                }
                _ => length_line(buf, self.at, limits)?,
            };
            let Some((len, start)) = header else {
                self.begun = self.at;
                return Ok(());
            };
            let n_received = buf.len() - start;
            if n_received < len + 2 {
                self.begun = start;
                self.missing_bytes = len + 2 - n_received;
                return Ok(());
            }
            if start + len > u32::MAX as usize {
                return Err(ProtocolError::InvalidBulkLength);
            }
            if buf[start + len..start + len + 2] != *b"\r\n" {
                return Err(ProtocolError::InvalidCrlf);
            }
            out.push(Span {
                start: (start - origin) as u32,
                len: len as u32,
            });
            self.at = start + len + 2;
            self.n_left -= 1;
        }
        Ok(())
    }
}

/// Reads `marker`, one to nine canonical digits and a line end; `None` sends it the long way.
#[inline(always)]
fn short_line(buf: &[u8], at: usize, marker: u8) -> Option<(usize, usize)> {
    // Nearly every count and length has one digit or two.
    if let Some(&[first, one, two, end, last]) = buf.get(at..).and_then(|line| line.first_chunk())
        && first == marker
    {
        let (high, low) = (one.wrapping_sub(b'0'), two.wrapping_sub(b'0'));
        if high <= 9 && [two, end] == *b"\r\n" {
            return Some((high.into(), at + 4));
        }
        if high.wrapping_sub(1) < 9 && low <= 9 && [end, last] == *b"\r\n" {
            return Some((usize::from(high) * 10 + usize::from(low), at + 5));
        }
    }
    any_short_line(buf, at, marker)
}

#[inline(never)]
fn any_short_line(buf: &[u8], at: usize, marker: u8) -> Option<(usize, usize)> {
    let (&first, line) = buf.get(at..)?.split_first()?;
    if first != marker {
        return None;
    }
    let mut value = 0usize;
    for (idx, &byte) in line.iter().take(10).enumerate() {
        let digit = byte.wrapping_sub(b'0');
        if digit <= 9 {
            value = value * 10 + usize::from(digit);
            continue;
        }
        let whole = byte == b'\r' && line.get(idx + 1) == Some(&b'\n');
        let canonical = idx == 1 || (idx > 1 && line[0] != b'0');
        return (whole && canonical).then_some((value, at + idx + 3));
    }
    None
}

/// The number on the line whose marker is at `at`, unless its end is missing.
///
/// The inner `None` is a text that is no number.
#[cold]
fn long_line(
    buf: &[u8],
    at: usize,
    too_big: ProtocolError,
) -> Result<Option<(Option<i64>, usize)>, ProtocolError> {
    let line = &buf[at..];
    match memchr(b'\r', &line[..line.len().min(LINE_MAX + 1)]) {
        None if line.len() > LINE_MAX => Err(too_big),
        Some(end) if end + 1 < line.len() => {
            let number = line.get(1..end).and_then(parse_i64);
            if number.is_some() && line[end + 1] != b'\n' {
                return Err(ProtocolError::InvalidCrlf);
            }
            Ok(Some((number, at + end + 2)))
        }
        _ => Ok(None),
    }
}

/// Reads `*count`; a count of zero or less is an empty request.
#[inline]
fn count_line(
    buf: &[u8],
    at: usize,
    limits: &Limits,
) -> Result<Option<(i64, usize)>, ProtocolError> {
    if let Some((count, after)) = short_line(buf, at, b'*')
        && limits.authenticated
    {
        return Ok(Some((count as i64, after)));
    }
    match long_line(buf, at, ProtocolError::TooBigMultibulkCount)? {
        None => Ok(None),
        Some((Some(count), after)) if count <= i64::from(i32::MAX) => {
            if count > UNAUTHENTICATED_ARGS_MAX && !limits.authenticated {
                return Err(ProtocolError::UnauthenticatedMultibulkLength);
            }
            Ok(Some((count, after)))
        }
        Some(_) => Err(ProtocolError::InvalidMultibulkLength),
    }
}

/// Reads `$length` where the short way did not do.
#[cold]
fn length_line(
    buf: &[u8],
    at: usize,
    limits: &Limits,
) -> Result<Option<(usize, usize)>, ProtocolError> {
    let Some((number, after)) = long_line(buf, at, ProtocolError::TooBigBulkCount)? else {
        return Ok(None);
    };
    if buf[at] != b'$' {
        return Err(ProtocolError::ExpectedDollar(buf[at]));
    }
    let len = number
        .filter(|&len| len >= 0)
        .ok_or(ProtocolError::InvalidBulkLength)?;
    if len as u64 > limits.max_bulk_bytes as u64 {
        return Err(ProtocolError::InvalidBulkLength);
    }
    if len > UNAUTHENTICATED_BULK_MAX && !limits.authenticated {
        return Err(ProtocolError::UnauthenticatedBulkLength);
    }
    Ok(Some((len as usize, after)))
}

#[cold]
fn parse_inline(
    buf: &mut [u8],
    pos: &mut usize,
    spans: &mut Vec<Span>,
) -> Result<bool, ProtocolError> {
    let rest = &mut buf[*pos..];
    let n_searched = rest.len().min(LINE_MAX + 1);
    let Some(end) = memchr(b'\n', &rest[..n_searched]) else {
        return if n_searched > LINE_MAX {
            Err(ProtocolError::TooBigInline)
        } else {
            Ok(false)
        };
    };
    let base = *pos;
    if base + end > u32::MAX as usize {
        return Err(ProtocolError::TooBigInline);
    }
    let mark = spans.len();
    let split = quoting::split_in_place(&mut rest[..end], |start, len| {
        spans.push(Span {
            start: (base + start) as u32,
            len: len as u32,
        });
    });
    if split.is_err() {
        spans.truncate(mark);
        return Err(ProtocolError::UnbalancedQuotes);
    }
    *pos = base + end + 1;
    Ok(true)
}

#[cfg(test)]
mod tests;
