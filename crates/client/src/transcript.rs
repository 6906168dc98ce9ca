//! Transcripts: commands and the replies they must get, as text that anyone can write.
//!
//! ```text
//! # A comment; blank lines are ignored too.
//! > SET k "a b"            a command, quoted like an inline command
//! +OK                      its reply: status, -error, :integer, "bulk string", (nil)
//! > LRANGE l 0 -1
//! *2                       an array and its elements, indented for the eye only
//!   "x"
//!   (nil)
//! > SMEMBERS s
//! *2 in any order          where the order is the server's own affair
//!   "a"
//!   "b"
//! ~ 10s                    ten seconds (or ms) pass
//! b> BLPOP q 0             another session; without a reply below, none is waited for
//! > RPUSH q x
//! :1
//! b<                       what arrives at that session next
//! *2
//!   "q"
//!   "x"
//! ```
//!
//! RESP3: `,1.5` `#t` `(123` `=txt "text"`, and `%1` `~1` `>1` `|1` in front of pairs, elements, a
//! push, or attribute pairs and the value they describe; maps and sets compare in any order. `*-1`
//! is the null array of RESP2, `*4 pairs in any order` a flat map. Approximate replies: `...` is
//! any value, `:90..100` a range, and a status or error may end in `...`.
//!
//! Nothing here does input or output: a `Peer` does, over sockets or within the process.

use std::fmt;
use std::time::Duration;

use resp::decode::Value;
use stdx::number::parse_i64;
use stdx::quoting;

/// Something that answers commands: a server in the process, or connections to one.
pub trait Peer {
    /// Sends a command as `session`, which begins with its first command.
    fn send(&mut self, session: &str, command: &[Vec<u8>]);

    /// Waits for the next reply or push at `session`; an error is why none came.
    fn receive(&mut self, session: &str) -> Result<Value, String>;

    /// Lets time pass.
    fn advance(&mut self, duration: Duration);
}

/// A parsed transcript.
#[derive(Debug)]
pub struct Transcript {
    steps: Vec<Step>,
}

#[derive(Debug)]
struct Step {
    /// The line it stands on, from 1.
    line: usize,
    /// Its text, for messages and for rewriting.
    text: String,
    action: Action,
    expected: Option<Expected>,
}

#[derive(Debug)]
enum Action {
    Send {
        session: String,
        command: Vec<Vec<u8>>,
    },
    Receive {
        session: String,
    },
    Advance(Duration),
    /// A comment or a blank line.
    Nothing,
}

#[derive(Debug)]
struct Expected {
    pattern: Pattern,
    text: String,
}

/// A line that is no transcript.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParseError {
    /// The line, from 1.
    pub line: usize,
    /// What is wrong with it.
    pub reason: &'static str,
}

impl fmt::Display for ParseError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "line {}: {}", self.line, self.reason)
    }
}

impl std::error::Error for ParseError {}

/// A reply that was not as expected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mismatch {
    /// The line of the command, from 1.
    pub line: usize,
    /// The command line.
    pub command: String,
    /// The reply expected, in transcript form.
    pub expected: String,
    /// The reply got, in transcript form, or why there was none.
    pub got: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "line {}: {}", self.line, self.command)?;
        for line in self.expected.lines() {
            writeln!(f, "  expected  {line}")?;
        }
        for line in self.got.lines() {
            writeln!(f, "  got       {line}")?;
        }
        Ok(())
    }
}

impl Transcript {
    /// Parses the text of a transcript.
    pub fn parse(text: &str) -> Result<Transcript, ParseError> {
        let mut lines = text
            .lines()
            .enumerate()
            .map(|(idx, text)| (idx + 1, text))
            .peekable();
        let mut steps = Vec::new();
        while let Some((line, text)) = lines.next() {
            let action = parse_action(text).map_err(|reason| ParseError { line, reason })?;
            let takes_reply = matches!(action, Action::Send { .. } | Action::Receive { .. });
            let mut block = Vec::new();
            while takes_reply && let Some(reply) = lines.next_if(|(_, text)| is_reply(text)) {
                block.push(reply);
            }
            let expected = if block.is_empty() {
                None
            } else {
                Some(parse_expected(&block)?)
            };
            if expected.is_none() && matches!(action, Action::Receive { .. }) {
                return Err(ParseError {
                    line,
                    reason: "a reply must follow",
                });
            }
            steps.push(Step {
                line,
                text: text.to_string(),
                action,
                expected,
            });
        }
        Ok(Transcript { steps })
    }

    /// Runs every step and returns what went otherwise; goes on after a mismatch.
    pub fn run(&self, peer: &mut dyn Peer) -> Vec<Mismatch> {
        let mut mismatches = Vec::new();
        for step in &self.steps {
            let Some(expected) = &step.expected else {
                step.perform(peer, false);
                continue;
            };
            let got = match step.perform(peer, true) {
                Some(Ok(value)) if expected.pattern.matches(&value) => continue,
                Some(Ok(value)) => render(&value),
                Some(Err(reason)) => reason,
                None => continue,
            };
            mismatches.push(Mismatch {
                line: step.line,
                command: step.text.clone(),
                expected: expected.text.clone(),
                got,
            });
        }
        mismatches
    }

    /// Runs every step and returns the text with each reply that did not match replaced.
    ///
    /// With `fills`, a command without a reply gets one, so a transcript can be begun with commands;
    /// those of named sessions may be meant to wait and stay as they are.
    pub fn rewrite(&self, peer: &mut dyn Peer, fills: bool) -> String {
        let mut out = String::new();
        for step in &self.steps {
            out.push_str(&step.text);
            out.push('\n');
            let receives = step.expected.is_some() || (fills && step.is_unnamed());
            match (step.perform(peer, receives), &step.expected) {
                (Some(Ok(value)), Some(expected)) if expected.pattern.matches(&value) => {
                    out.push_str(&expected.text);
                }
                (Some(Ok(value)), _) => out.push_str(&render(&value)),
                (_, Some(expected)) => out.push_str(&expected.text),
                (_, None) => {}
            }
        }
        out
    }
}

impl Step {
    fn is_unnamed(&self) -> bool {
        matches!(&self.action, Action::Send { session, .. } if session.is_empty())
    }

    /// Does the step; `None` if it has no reply or none is to be received.
    fn perform(&self, peer: &mut dyn Peer, receives: bool) -> Option<Result<Value, String>> {
        let session = match &self.action {
            Action::Nothing => return None,
            Action::Advance(duration) => {
                peer.advance(*duration);
                return None;
            }
            Action::Send { session, command } => {
                peer.send(session, command);
                session
            }
            Action::Receive { session } => session,
        };
        receives.then(|| peer.receive(session))
    }
}

/// Whether a line belongs to the reply of the command above it.
fn is_reply(text: &str) -> bool {
    let text = text.trim();
    !text.is_empty()
        && (!text.starts_with('#') || matches!(text, "#t" | "#f"))
        && matches!(parse_action(text), Err(_) | Ok(Action::Nothing))
}

fn parse_action(text: &str) -> Result<Action, &'static str> {
    if text.trim().is_empty() || text.starts_with('#') {
        return Ok(Action::Nothing);
    }
    if let Some(duration) = text.strip_prefix("~ ") {
        return parse_duration(duration.trim())
            .map(Action::Advance)
            .ok_or("no duration");
    }
    let n_name = text.bytes().take_while(u8::is_ascii_alphanumeric).count();
    let (session, rest) = text.split_at(n_name);
    let session = session.to_string();
    if n_name > 0 && rest.trim_end() == "<" {
        return Ok(Action::Receive { session });
    }
    let line = rest
        .strip_prefix("> ")
        .ok_or("neither a command nor a reply to one")?;
    let command = quoting::split(line.as_bytes()).map_err(|_| "unbalanced quotes")?;
    if command.is_empty() {
        Err("no command")
    } else {
        Ok(Action::Send { session, command })
    }
}

fn parse_duration(text: &str) -> Option<Duration> {
    if let Some(number) = text.strip_suffix("ms") {
        return number.parse().ok().map(Duration::from_millis);
    }
    text.strip_suffix('s')?
        .parse()
        .ok()
        .map(Duration::from_secs)
}

type Lines<'a> = std::iter::Peekable<std::slice::Iter<'a, (usize, &'a str)>>;

fn parse_expected(block: &[(usize, &str)]) -> Result<Expected, ParseError> {
    let mut lines = block.iter().peekable();
    let pattern = Pattern::parse(&mut lines, block[0].0)?;
    if let Some((line, _)) = lines.next() {
        return Err(ParseError {
            line: *line,
            reason: "more lines than the reply has",
        });
    }
    let text = block.iter().map(|(_, text)| format!("{text}\n")).collect();
    Ok(Expected { pattern, text })
}

/// What a reply must look like.
#[derive(Debug)]
enum Pattern {
    Any,
    Exact(Value),
    IntBetween(i64, i64),
    StatusPrefix(Vec<u8>),
    ErrorPrefix(Vec<u8>),
    Items {
        marker: u8,
        items: Vec<Pattern>,
        order: Order,
    },
    Attribute(Vec<Pattern>, Box<Pattern>),
}

/// How the elements of an aggregate are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    AsWritten,
    /// Groups of this many elements may come in any order.
    AnyOf(usize),
}

impl Pattern {
    fn parse(lines: &mut Lines, last: usize) -> Result<Pattern, ParseError> {
        let Some((line, text)) = lines.next() else {
            return Err(ParseError {
                line: last,
                reason: "fewer lines than the reply has",
            });
        };
        let text = text.trim();
        let error = |reason| ParseError {
            line: *line,
            reason,
        };
        match text.as_bytes()[0] {
            b'*' | b'%' | b'~' | b'>' | b'|' if text != "*-1" => {
                let (marker, n_items, order) = parse_header(text).map_err(error)?;
                let items = (0..n_items)
                    .map(|_| Pattern::parse(lines, *line))
                    .collect::<Result<Vec<_>, _>>()?;
                if marker == b'|' {
                    let described = Pattern::parse(lines, *line)?;
                    return Ok(Pattern::Attribute(items, Box::new(described)));
                }
                Ok(Pattern::Items {
                    marker,
                    items,
                    order,
                })
            }
            _ => parse_scalar(text).map_err(error),
        }
    }

    fn matches(&self, value: &Value) -> bool {
        match (self, value) {
            (Pattern::Any, _) => true,
            (Pattern::Exact(expected), value) => expected == value,
            (Pattern::IntBetween(low, high), Value::Int(got)) => (low..=high).contains(&got),
            (Pattern::StatusPrefix(prefix), Value::Simple(text))
            | (Pattern::ErrorPrefix(prefix), Value::Error(text)) => text.starts_with(prefix),
            (
                Pattern::Items {
                    marker,
                    items,
                    order,
                },
                value,
            ) => match elements(value) {
                Some((got_marker, got)) => *marker == got_marker && order.matches(items, &got),
                None => false,
            },
            (Pattern::Attribute(items, described), Value::Attribute(pairs, value)) => {
                let got: Vec<&Value> = pairs.iter().flat_map(|(key, value)| [key, value]).collect();
                Order::AnyOf(2).matches(items, &got) && described.matches(value)
            }
            _ => false,
        }
    }
}

impl Order {
    fn matches(self, expected: &[Pattern], got: &[&Value]) -> bool {
        if expected.len() != got.len() {
            return false;
        }
        let group_len = match self {
            Order::AsWritten => expected.len().max(1),
            Order::AnyOf(n) => n,
        };
        let mut left: Vec<&[&Value]> = got.chunks(group_len).collect();
        expected.chunks(group_len).all(|group| {
            let found = left.iter().position(|values| {
                group
                    .iter()
                    .zip(*values)
                    .all(|(pattern, value)| pattern.matches(value))
            });
            found.map(|idx| left.swap_remove(idx)).is_some()
        })
    }
}

/// The marker and the elements of an aggregate, a map's pairs one after the other.
fn elements(value: &Value) -> Option<(u8, Vec<&Value>)> {
    Some(match value {
        Value::Array(items) => (b'*', items.iter().collect()),
        Value::Set(items) => (b'~', items.iter().collect()),
        Value::Push(items) => (b'>', items.iter().collect()),
        Value::Map(pairs) => (b'%', pairs.iter().flat_map(|(key, value)| [key, value]).collect()),
        _ => return None,
    })
}

/// Reads `*3`, `*3 in any order`, `*4 pairs in any order`, `%2` and the like.
fn parse_header(text: &str) -> Result<(u8, usize, Order), &'static str> {
    let marker = text.as_bytes()[0];
    let (count, suffix) = text[1..].split_once(' ').unwrap_or((&text[1..], ""));
    let count: usize = count.parse().map_err(|_| "no count of elements")?;
    let per_element = if matches!(marker, b'%' | b'|') { 2 } else { 1 };
    let order = match (marker, suffix.trim()) {
        (b'~', "") => Order::AnyOf(1),
        (b'%' | b'|', "") => Order::AnyOf(2),
        (_, "") => Order::AsWritten,
        (b'*', "in any order") => Order::AnyOf(1),
        (b'*', "pairs in any order") => Order::AnyOf(2),
        _ => return Err("no such order"),
    };
    Ok((marker, count * per_element, order))
}

fn parse_scalar(text: &str) -> Result<Pattern, &'static str> {
    let rest = &text.as_bytes()[1..];
    Ok(Pattern::Exact(match (text.as_bytes()[0], rest) {
        _ if text == "..." => return Ok(Pattern::Any),
        _ if text == "(nil)" => Value::Null,
        _ if text == "*-1" => Value::NullArray,
        (b'+', _) if text.ends_with("...") => {
            return Ok(Pattern::StatusPrefix(rest[..rest.len() - 3].to_vec()));
        }
        (b'-', _) if text.ends_with("...") => {
            return Ok(Pattern::ErrorPrefix(rest[..rest.len() - 3].to_vec()));
        }
        (b'+', _) => Value::Simple(rest.to_vec()),
        (b'-', _) => Value::Error(rest.to_vec()),
        (b':', _) => return parse_int(&text[1..]).ok_or("no integer"),
        (b'"', _) => Value::Bulk(parse_quoted(text)?),
        (b',', _) => Value::Double(rest.to_vec()),
        (b'#', b"t") => Value::Bool(true),
        (b'#', b"f") => Value::Bool(false),
        (b'(', _) => Value::BigNumber(rest.to_vec()),
        (b'=', [a, b, c, b' ', ..]) => Value::Verbatim([*a, *b, *c], parse_quoted(&text[5..])?),
        _ => return Err("no reply"),
    }))
}

fn parse_int(text: &str) -> Option<Pattern> {
    match text.split_once("..") {
        Some((low, high)) => {
            Some(Pattern::IntBetween(parse_i64(low.as_bytes())?, parse_i64(high.as_bytes())?))
        }
        None => Some(Pattern::Exact(Value::Int(parse_i64(text.as_bytes())?))),
    }
}

fn parse_quoted(text: &str) -> Result<Vec<u8>, &'static str> {
    match quoting::split(text.as_bytes()) {
        Ok(args) => args.into_iter().next().ok_or("no quoted text"),
        Err(_) => Err("unbalanced quotes"),
    }
}

/// A reply in transcript form, with a line end.
pub fn render(value: &Value) -> String {
    let mut out = Vec::new();
    render_at(value, 0, &mut out);
    String::from_utf8_lossy(&out).into_owned()
}

fn render_at(value: &Value, depth: usize, out: &mut Vec<u8>) {
    out.resize(out.len() + 2 * depth, b' ');
    let mut line = |marker: &[u8], text: &[u8]| {
        out.extend_from_slice(marker);
        out.extend_from_slice(text);
        out.push(b'\n');
    };
    match value {
        Value::Simple(text) => line(b"+", text),
        Value::Error(text) => line(b"-", text),
        Value::Int(value) => line(b":", value.to_string().as_bytes()),
        Value::Null => line(b"(nil)", b""),
        Value::NullArray => line(b"*-1", b""),
        Value::Double(text) => line(b",", text),
        Value::Bool(value) => line(b"#", if *value { b"t" } else { b"f" }),
        Value::BigNumber(text) => line(b"(", text),
        Value::Bulk(bytes) => line(b"", &quoted(bytes)),
        Value::Verbatim(format, text) => {
            line(&[b'=', format[0], format[1], format[2], b' '], &quoted(text));
        }
        Value::Attribute(pairs, described) => {
            line(b"|", pairs.len().to_string().as_bytes());
            for (key, value) in pairs {
                render_at(key, depth + 1, out);
                render_at(value, depth + 1, out);
            }
            render_at(described, depth, out);
        }
        Value::Map(pairs) => {
            line(b"%", pairs.len().to_string().as_bytes());
            for (key, value) in pairs {
                render_at(key, depth + 1, out);
                render_at(value, depth + 1, out);
            }
        }
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            let marker = elements(value).map_or(b'*', |(marker, _)| marker);
            line(&[marker], items.len().to_string().as_bytes());
            items
                .iter()
                .for_each(|item| render_at(item, depth + 1, out));
        }
    }
}

fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    quoting::write_quoted(&mut out, bytes);
    out
}

#[cfg(test)]
mod tests;
