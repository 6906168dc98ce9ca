//! The reply writer: what a command answers, in the session's protocol version.
//!
//! RESP2 and RESP3 differ in here and nowhere else. A reply is appended to the output buffer as it
//! is made; `len` and `truncate` take back what a command wrote before it failed. An aggregate
//! whose length is not known beforehand reserves a one-digit header, which `finish` fills in and,
//! for ten elements or more, widens by moving the elements a few bytes.

use stdx::double::format_f64;
use stdx::number::{I64_TEXT_MAX, I64Text};

/// The protocol version of a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Proto {
    /// The version every session starts with.
    #[default]
    Resp2,
    /// Negotiated with `HELLO 3`: maps, sets, doubles, nulls and pushes have types of their own.
    Resp3,
}

/// An aggregate begun without its length; `Reply::finish` must be called on it.
#[derive(Debug)]
#[must_use = "the header is invalid until `finish` is called"]
pub struct Later {
    at: usize,
    marker: u8,
    per_element: usize,
}

/// A buffer of replies beyond which no command should write on: `Reply::is_full`.
pub const REPLY_BYTES_MAX: usize = if cfg!(test) { 1 << 10 } else { 1 << 30 };

/// The bytes of the shortest bulk string: `$0\r\n\r\n`.
const BULK_BYTES_MIN: usize = 6;

/// The bytes that `array_later` reserves: `*0\r\n`.
const LATER_BYTES: usize = 4;

/// Writes replies behind each other into one buffer.
#[derive(Debug)]
pub struct Reply<'a> {
    out: &'a mut Vec<u8>,
    proto: Proto,
}

impl<'a> Reply<'a> {
    /// A writer that appends to `out`.
    #[inline]
    pub fn new(out: &'a mut Vec<u8>, proto: Proto) -> Reply<'a> {
        Reply { out, proto }
    }

    /// The protocol version written.
    #[inline]
    pub fn proto(&self) -> Proto {
        self.proto
    }

    /// Changes the version for what follows, as `HELLO` does before it answers.
    #[inline]
    pub fn set_proto(&mut self, proto: Proto) {
        self.proto = proto;
    }

    /// The length of the buffer in bytes: a mark for `truncate`.
    #[inline]
    pub fn len(&self) -> usize {
        self.out.len()
    }

    /// Whether the buffer is empty.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.out.is_empty()
    }

    /// Whether the buffer has reached [`REPLY_BYTES_MAX`]: a command whose reply is longer than the
    /// data that it reads stops there.
    #[inline]
    pub fn is_full(&self) -> bool {
        self.out.len() >= REPLY_BYTES_MAX
    }

    /// Whether `n` bulk strings would fill the buffer even if all of them were empty.
    pub fn is_filled_by(&self, n: usize) -> bool {
        let n_bytes = n.saturating_mul(BULK_BYTES_MIN);
        n_bytes.saturating_add(self.out.len()) >= REPLY_BYTES_MAX
    }

    /// Takes back everything written since `len` returned `mark`.
    #[inline]
    pub fn truncate(&mut self, mark: usize) {
        self.out.truncate(mark);
    }

    /// What has been written since `len` returned `mark`.
    #[inline]
    pub fn since(&self, mark: usize) -> &[u8] {
        &self.out[mark..]
    }

    /// Appends bytes that already are a reply.
    #[inline]
    pub fn raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// `+OK`
    #[inline]
    pub fn ok(&mut self) {
        self.out.extend_from_slice(b"+OK\r\n");
    }

    /// A status such as `+QUEUED`; it must not contain a line end.
    #[inline]
    pub fn simple(&mut self, status: &str) {
        debug_assert!(!status.contains(['\r', '\n']));
        self.line(b'+', status.as_bytes());
    }

    /// A status from a script, any bytes without a line end.
    pub fn status(&mut self, line: &[u8]) {
        self.line(b'+', line);
    }

    /// An error line, its code word included; line ends inside become spaces.
    #[cold]
    pub fn error(&mut self, text: &[u8]) {
        let at = self.out.len() + 1;
        let n_line_ends = text
            .iter()
            .rev()
            .take_while(|byte| matches!(byte, b'\r' | b'\n'))
            .count();
        let end = text.len() - n_line_ends;
        self.line(b'-', &text[..end]);
        for byte in &mut self.out[at..at + end] {
            if matches!(byte, b'\r' | b'\n') {
                *byte = b' ';
            }
        }
    }

    /// An integer.
    #[inline]
    pub fn int(&mut self, value: i64) {
        match value {
            0 => self.out.extend_from_slice(b":0\r\n"),
            1 => self.out.extend_from_slice(b":1\r\n"),
            _ => self.number_line(b':', value),
        }
    }

    /// A count, written as an integer.
    #[inline]
    pub fn count(&mut self, value: usize) {
        self.int(i64::try_from(value).expect("a count of things in memory fits 63 bits"));
    }

    /// A bulk string.
    #[inline]
    pub fn bulk(&mut self, bytes: &[u8]) {
        self.out.reserve(bytes.len() + 16);
        self.header(b'$', bytes.len());
        self.out.extend_from_slice(bytes);
        self.out.extend_from_slice(b"\r\n");
    }

    /// A bulk string, or null.
    #[inline]
    pub fn bulk_or_null(&mut self, bytes: Option<&[u8]>) {
        match bytes {
            Some(bytes) => self.bulk(bytes),
            None => self.null(),
        }
    }

    /// An integer as a bulk string.
    #[inline]
    pub fn bulk_int(&mut self, value: i64) {
        self.bulk(I64Text::new(value).as_bytes());
    }

    /// Null in place of a bulk string: `$-1` or `_`.
    #[inline]
    pub fn null(&mut self) {
        self.out.extend_from_slice(match self.proto {
            Proto::Resp2 => b"$-1\r\n",
            Proto::Resp3 => b"_\r\n",
        });
    }

    /// Null in place of an array: `*-1` or `_`.
    #[inline]
    pub fn null_array(&mut self) {
        self.out.extend_from_slice(match self.proto {
            Proto::Resp2 => b"*-1\r\n",
            Proto::Resp3 => b"_\r\n",
        });
    }

    /// A double; a bulk string in RESP2. The digits are those of a score.
    pub fn double(&mut self, value: f64) {
        match self.proto {
            Proto::Resp2 => self.bulk_double(value),
            Proto::Resp3 => {
                self.out.push(b',');
                format_f64(value, self.out);
            }
        }
        self.out.extend_from_slice(b"\r\n");
    }

    /// A double whose text the command has made itself; a bulk string in RESP2.
    pub fn human_double(&mut self, text: &[u8]) {
        match self.proto {
            Proto::Resp2 => self.bulk(text),
            Proto::Resp3 => self.line(b',', text),
        }
    }

    /// A boolean; 1 or 0 in RESP2.
    pub fn bool(&mut self, value: bool) {
        self.out.extend_from_slice(match (self.proto, value) {
            (Proto::Resp2, true) => b":1\r\n",
            (Proto::Resp2, false) => b":0\r\n",
            (Proto::Resp3, true) => b"#t\r\n",
            (Proto::Resp3, false) => b"#f\r\n",
        });
    }

    /// An integer of any size, given as text; a bulk string in RESP2.
    pub fn big_number(&mut self, digits: &[u8]) {
        match self.proto {
            Proto::Resp2 => self.bulk(digits),
            Proto::Resp3 => self.line(b'(', digits),
        }
    }

    /// Text for people, with a three-letter format such as `txt`; a bulk string in RESP2.
    pub fn verbatim(&mut self, format: &str, text: &[u8]) {
        debug_assert_eq!(format.len(), 3);
        if self.proto == Proto::Resp2 {
            return self.bulk(text);
        }
        self.header(b'=', text.len() + 4);
        self.out.extend_from_slice(format.as_bytes());
        self.out.push(b':');
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }

    /// The header of an array; `n` elements must follow.
    #[inline]
    pub fn array(&mut self, n: usize) {
        self.header(b'*', n);
    }

    /// The header of a map; `n` keys, each with its value, must follow. A flat array in RESP2.
    #[inline]
    pub fn map(&mut self, n: usize) {
        match self.proto {
            Proto::Resp2 => self.header(b'*', n * 2),
            Proto::Resp3 => self.header(b'%', n),
        }
    }

    /// The header of a set; `n` elements must follow. An array in RESP2.
    #[inline]
    pub fn set(&mut self, n: usize) {
        match self.proto {
            Proto::Resp2 => self.header(b'*', n),
            Proto::Resp3 => self.header(b'~', n),
        }
    }

    /// The header of an out-of-band message; `n` elements must follow. An array in RESP2.
    #[inline]
    pub fn push(&mut self, n: usize) {
        match self.proto {
            Proto::Resp2 => self.header(b'*', n),
            Proto::Resp3 => self.header(b'>', n),
        }
    }

    /// The header of an attribute; `n` keys with values and then the value described must follow.
    ///
    /// False in RESP2, which has none: nothing is written and no pairs may follow.
    pub fn attribute(&mut self, n: usize) -> bool {
        if self.proto == Proto::Resp3 {
            self.header(b'|', n);
        }
        self.proto == Proto::Resp3
    }

    /// Begins an array of unknown length.
    #[inline]
    pub fn array_later(&mut self) -> Later {
        self.later(b'*', 1)
    }

    /// Begins a map whose number of pairs is unknown.
    #[inline]
    pub fn map_later(&mut self) -> Later {
        match self.proto {
            Proto::Resp2 => self.later(b'*', 2),
            Proto::Resp3 => self.later(b'%', 1),
        }
    }

    /// Begins a set of unknown length.
    #[inline]
    pub fn set_later(&mut self) -> Later {
        match self.proto {
            Proto::Resp2 => self.later(b'*', 1),
            Proto::Resp3 => self.later(b'~', 1),
        }
    }

    /// Completes an aggregate of `n` elements (pairs, for a map), inner ones before outer ones.
    ///
    /// O(1) below ten elements, else a move of the bytes written since.
    pub fn finish(&mut self, later: Later, n: usize) {
        let n = n * later.per_element;
        let at = later.at;
        debug_assert_eq!(self.out[at], later.marker);
        if n < 10 {
            self.out[at + 1] = b'0' + n as u8;
            return;
        }
        let text = I64Text::new(n as i64);
        let digits = text.as_bytes();
        self.out.splice(at + 1..at + 2, digits.iter().copied());
    }

    fn later(&mut self, marker: u8, per_element: usize) -> Later {
        let at = self.out.len();
        let reserved: [u8; LATER_BYTES] = [marker, b'0', b'\r', b'\n'];
        self.out.extend_from_slice(&reserved);
        Later {
            at,
            marker,
            per_element,
        }
    }

    /// Writes the text behind a one-digit header and widens that if need be: no text has 100 bytes.
    fn bulk_double(&mut self, value: f64) {
        let at = self.out.len();
        self.out.extend_from_slice(b"$0\r\n");
        format_f64(value, self.out);
        let len = (self.out.len() - at - LATER_BYTES) as u8;
        if len >= 10 {
            self.out.insert(at + 1, b'0' + len / 10);
            self.out[at + 2] = b'0' + len % 10;
        } else {
            self.out[at + 1] = b'0' + len;
        }
    }

    #[inline]
    fn header(&mut self, marker: u8, n: usize) {
        if n < 10 {
            self.out
                .extend_from_slice(&[marker, b'0' + n as u8, b'\r', b'\n']);
        } else if n < 100 {
            let (tens, ones) = (n as u8 / 10, n as u8 % 10);
            self.out
                .extend_from_slice(&[marker, b'0' + tens, b'0' + ones, b'\r', b'\n']);
        } else {
            self.number_line(marker, n as i64);
        }
    }

    /// A line of up to 23 bytes, put together on the stack.
    #[inline]
    fn number_line(&mut self, marker: u8, value: i64) {
        let mut buffer = itoa::Buffer::new();
        let digits = buffer.format(value).as_bytes();
        let mut line = [marker; I64_TEXT_MAX + 3];
        let end = 1 + digits.len();
        line[1..end].copy_from_slice(digits);
        line[end..end + 2].copy_from_slice(b"\r\n");
        self.out.extend_from_slice(&line[..end + 2]);
    }

    #[inline]
    fn line(&mut self, marker: u8, text: &[u8]) {
        self.out.reserve(text.len() + 3);
        self.out.push(marker);
        self.out.extend_from_slice(text);
        self.out.extend_from_slice(b"\r\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Checks what `write` appends in both versions.
    fn check(write: impl Fn(&mut Reply), resp2: &str, resp3: &str) {
        for (proto, expected) in [(Proto::Resp2, resp2), (Proto::Resp3, resp3)] {
            let mut out = Vec::new();
            write(&mut Reply::new(&mut out, proto));
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{proto:?}");
        }
    }

    fn same(write: impl Fn(&mut Reply), expected: &str) {
        check(write, expected, expected);
    }

    #[test]
    fn scalars() {
        same(|r| r.ok(), "+OK\r\n");
        same(|r| r.simple("QUEUED"), "+QUEUED\r\n");
        same(|r| r.error(b"ERR a\r\nb\n"), "-ERR a  b\r\n");
        same(
            |r| [0, 1, -1, i64::MIN].into_iter().for_each(|n| r.int(n)),
            ":0\r\n:1\r\n:-1\r\n:-9223372036854775808\r\n",
        );
        same(|r| r.bulk(b""), "$0\r\n\r\n");
        same(|r| r.bulk(&[b'x'; 123]), &format!("$123\r\n{}\r\n", "x".repeat(123)));
        same(|r| r.bulk_int(-12), "$3\r\n-12\r\n");
        check(|r| r.null(), "$-1\r\n", "_\r\n");
        check(|r| r.bulk_or_null(None), "$-1\r\n", "_\r\n");
        check(|r| r.null_array(), "*-1\r\n", "_\r\n");
        check(|r| r.double(3.5), "$3\r\n3.5\r\n", ",3.5\r\n");
        check(|r| r.double(1234567.125), "$11\r\n1234567.125\r\n", ",1234567.125\r\n");
        check(|r| r.double(f64::NEG_INFINITY), "$4\r\n-inf\r\n", ",-inf\r\n");
        check(|r| r.bool(true), ":1\r\n", "#t\r\n");
        check(|r| r.bool(false), ":0\r\n", "#f\r\n");
        check(|r| r.big_number(b"123"), "$3\r\n123\r\n", "(123\r\n");
        check(|r| r.verbatim("txt", b"ab"), "$2\r\nab\r\n", "=6\r\ntxt:ab\r\n");
    }

    #[test]
    fn aggregates() {
        same(|r| r.array(12), "*12\r\n");
        same(|r| r.array(1_000_000), "*1000000\r\n");
        check(|r| r.map(2), "*4\r\n", "%2\r\n");
        check(|r| r.set(2), "*2\r\n", "~2\r\n");
        check(|r| r.push(3), "*3\r\n", ">3\r\n");
        check(|r| assert_eq!(r.attribute(1), r.proto() == Proto::Resp3), "", "|1\r\n");
    }

    #[test]
    fn a_buffer_is_full_at_its_maximum() {
        let mut out = Vec::new();
        let mut reply = Reply::new(&mut out, Proto::Resp2);
        assert!(!reply.is_full());
        assert!(!reply.is_filled_by(170));
        assert!(reply.is_filled_by(171));
        assert!(reply.is_filled_by(usize::MAX));
        let n_fitting = (0..1000).take_while(|_| {
            reply.bulk(b"");
            !reply.is_full()
        });
        assert_eq!(n_fitting.count(), 170);
        reply.truncate(0);
        assert!(!reply.is_full());
    }

    #[test]
    fn unknown_lengths_nest_and_widen() {
        for n in [0, 1, 9, 10, 11, 99, 100, 12345] {
            let (mut known, mut unknown) = (Vec::new(), Vec::new());
            let (mut a, mut b) =
                (Reply::new(&mut known, Proto::Resp3), Reply::new(&mut unknown, Proto::Resp3));
            a.array(2);
            a.map(n);
            let outer = b.array_later();
            let inner = b.map_later();
            for i in 0..2 * n {
                a.int(i as i64);
                b.int(i as i64);
            }
            b.finish(inner, n);
            a.null();
            b.null();
            b.finish(outer, 2);
            assert_eq!(known, unknown, "{n}");
        }
        check(
            |r| {
                let later = r.map_later();
                (0..10).for_each(|n| r.int(n));
                r.finish(later, 5);
            },
            &format!("*10\r\n{}", (0..10).map(|n| format!(":{n}\r\n")).collect::<String>()),
            &format!("%5\r\n{}", (0..10).map(|n| format!(":{n}\r\n")).collect::<String>()),
        );
    }

    #[test]
    fn a_failed_command_takes_its_reply_back() {
        same(
            |r| {
                r.ok();
                let mark = r.len();
                r.array(3);
                r.int(1);
                r.truncate(mark);
                r.error(b"ERR no");
            },
            "+OK\r\n-ERR no\r\n",
        );
    }
}
