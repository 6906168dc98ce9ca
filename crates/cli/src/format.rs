//! Replies as text: for people, raw for pipes, CSV and JSON.
//!
//! For people every element is numbered and nested replies are indented; strings are quoted with
//! everything unprintable escaped. Raw is the bytes themselves, elements behind separators.
//!
//! ```text
//! 1) "a"            1# "field" => (integer) 7
//! 2) 1) (nil)       2# "list" =>
//!    2) (empty set)    1) "x"
//! ```

use resp::decode::Value;
use stdx::number::write_i64;
use stdx::quoting::write_quoted;

/// How replies are printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Format {
    /// Numbered, typed, indented.
    People,
    /// The bytes, with separators between elements and behind replies.
    Raw {
        element_separator: Vec<u8>,
        reply_separator: Vec<u8>,
    },
    /// One flat line.
    Csv,
    /// One line.
    Json,
}

impl Format {
    /// Raw with line ends as separators.
    pub fn raw() -> Format {
        Format::Raw {
            element_separator: b"\n".to_vec(),
            reply_separator: b"\n".to_vec(),
        }
    }

    /// The whole text of a reply; `is_text` says that the reply is meant to be read unquoted.
    pub fn render(&self, value: &Value, is_text: bool) -> Vec<u8> {
        let mut out = Vec::new();
        match self {
            Format::Raw {
                element_separator,
                reply_separator,
            } => {
                raw(value, element_separator, &mut out);
                out.extend_from_slice(reply_separator);
            }
            _ if is_text => raw(value, b"\n", &mut out),
            Format::People => people(value, &mut Vec::new(), &mut out),
            Format::Csv => {
                csv(value, &mut out);
                out.push(b'\n');
            }
            Format::Json => {
                json(value, &mut out);
                out.push(b'\n');
            }
        }
        out
    }
}

/// Appends `value` with a line end; continued lines begin with `indent`.
fn people(value: &Value, indent: &mut Vec<u8>, out: &mut Vec<u8>) {
    match value {
        Value::Simple(text) | Value::Verbatim(_, text) => out.extend_from_slice(text),
        Value::Error(text) => labelled("(error) ", text, out),
        Value::Int(value) => {
            out.extend_from_slice(b"(integer) ");
            write_i64(out, *value);
        }
        Value::Double(text) => labelled("(double) ", text, out),
        Value::BigNumber(text) => labelled("(big number) ", text, out),
        Value::Bulk(bytes) => write_quoted(out, bytes),
        Value::Null | Value::NullArray => out.extend_from_slice(b"(nil)"),
        Value::Bool(true) => out.extend_from_slice(b"(true)"),
        Value::Bool(false) => out.extend_from_slice(b"(false)"),
        Value::Attribute(_, described) => return people(described, indent, out),
        Value::Array(items) => return people_items(items, ("array", b')'), indent, out),
        Value::Set(items) => return people_items(items, ("set", b'~'), indent, out),
        Value::Push(items) => return people_items(items, ("push", b')'), indent, out),
        Value::Map(pairs) => return people_pairs(pairs, indent, out),
    }
    out.push(b'\n');
}

fn labelled(label: &str, text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(label.as_bytes());
    out.extend_from_slice(text);
}

fn people_items(
    items: &[Value],
    (name, mark): (&str, u8),
    indent: &mut Vec<u8>,
    out: &mut Vec<u8>,
) {
    if items.is_empty() {
        out.extend_from_slice(format!("(empty {name})\n").as_bytes());
    }
    let width = items.len().to_string().len();
    for (idx, item) in items.iter().enumerate() {
        number(idx, width, mark, indent, out);
        indented(width + 2, indent, |indent| people(item, indent, out));
    }
}

fn people_pairs(pairs: &[(Value, Value)], indent: &mut Vec<u8>, out: &mut Vec<u8>) {
    if pairs.is_empty() {
        out.extend_from_slice(b"(empty hash)\n");
    }
    let width = pairs.len().to_string().len();
    for (idx, (key, value)) in pairs.iter().enumerate() {
        number(idx, width, b'#', indent, out);
        indented(width + 2, indent, |indent| {
            people(key, indent, out);
            out.pop();
            out.extend_from_slice(b" => ");
            let mut text = Vec::new();
            people(value, indent, &mut text);
            let n_lines = text.iter().filter(|&&byte| byte == b'\n').count();
            if n_lines > 1 && is_aggregate(value) {
                out.push(b'\n');
                out.extend_from_slice(indent);
            }
            out.extend_from_slice(&text);
        });
    }
}

fn is_aggregate(value: &Value) -> bool {
    matches!(value, Value::Array(_) | Value::Set(_) | Value::Push(_) | Value::Map(_))
}

/// Starts the line of an element; the first one continues its parent's line.
fn number(idx: usize, width: usize, mark: u8, indent: &[u8], out: &mut Vec<u8>) {
    if idx > 0 {
        out.extend_from_slice(indent);
    }
    out.extend_from_slice(format!("{:width$}", idx + 1).as_bytes());
    out.extend_from_slice(&[mark, b' ']);
}

fn indented(n_columns: usize, indent: &mut Vec<u8>, print: impl FnOnce(&mut Vec<u8>)) {
    let before = indent.len();
    indent.resize(before + n_columns, b' ');
    print(indent);
    indent.truncate(before);
}

fn raw(value: &Value, separator: &[u8], out: &mut Vec<u8>) {
    match value {
        Value::Null | Value::NullArray => {}
        Value::Simple(text)
        | Value::Bulk(text)
        | Value::Double(text)
        | Value::BigNumber(text)
        | Value::Verbatim(_, text) => out.extend_from_slice(text),
        Value::Error(text) => {
            out.extend_from_slice(text);
            out.push(b'\n');
        }
        Value::Int(value) => write_i64(out, *value),
        Value::Bool(true) => out.extend_from_slice(b"(true)"),
        Value::Bool(false) => out.extend_from_slice(b"(false)"),
        Value::Attribute(_, described) => raw(described, separator, out),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            for (idx, item) in items.iter().enumerate() {
                out.extend_from_slice(if idx > 0 { separator } else { b"" });
                raw(item, separator, out);
            }
        }
        Value::Map(pairs) => {
            for (idx, (key, value)) in pairs.iter().enumerate() {
                out.extend_from_slice(if idx > 0 { separator } else { b"" });
                raw(key, separator, out);
                out.push(b' ');
                raw(value, separator, out);
            }
        }
    }
}

fn csv(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null | Value::NullArray => out.extend_from_slice(b"NULL"),
        Value::Simple(text) | Value::Bulk(text) | Value::Verbatim(_, text) => {
            write_quoted(out, text);
        }
        Value::Error(text) => {
            out.extend_from_slice(b"ERROR,");
            write_quoted(out, text);
        }
        Value::Double(text) | Value::BigNumber(text) => out.extend_from_slice(text),
        Value::Int(value) => write_i64(out, *value),
        Value::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Attribute(_, described) => csv(described, out),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            csv_items(items.iter(), out);
        }
        Value::Map(pairs) => csv_items(pairs.iter().flat_map(|(key, value)| [key, value]), out),
    }
}

fn csv_items<'a>(items: impl Iterator<Item = &'a Value>, out: &mut Vec<u8>) {
    for (idx, item) in items.enumerate() {
        if idx > 0 {
            out.push(b',');
        }
        csv(item, out);
    }
}

fn json(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Null | Value::NullArray => out.extend_from_slice(b"null"),
        Value::Simple(text) | Value::Bulk(text) | Value::Verbatim(_, text) => {
            json_string(text, out);
        }
        Value::Error(text) => {
            out.extend_from_slice(b"error:");
            json_string(text, out);
        }
        Value::Double(text) | Value::BigNumber(text) => out.extend_from_slice(text),
        Value::Int(value) => write_i64(out, *value),
        Value::Bool(value) => out.extend_from_slice(value.to_string().as_bytes()),
        Value::Attribute(_, described) => json(described, out),
        Value::Array(items) | Value::Set(items) | Value::Push(items) => {
            out.push(b'[');
            for (idx, item) in items.iter().enumerate() {
                out.extend_from_slice(if idx > 0 { b"," } else { b"" });
                json(item, out);
            }
            out.push(b']');
        }
        Value::Map(pairs) => json_object(pairs, out),
    }
}

fn json_object(pairs: &[(Value, Value)], out: &mut Vec<u8>) {
    out.push(b'{');
    for (idx, (key, value)) in pairs.iter().enumerate() {
        out.extend_from_slice(if idx > 0 { b"," } else { b"" });
        json_key(key, out);
        out.push(b':');
        json(value, out);
    }
    out.push(b'}');
}

/// A member name; what is no string becomes the JSON text of the value, as a string.
fn json_key(key: &Value, out: &mut Vec<u8>) {
    match key {
        Value::Simple(_) | Value::Bulk(_) | Value::Verbatim(..) => json(key, out),
        other => {
            let mut text = Vec::new();
            json(other, &mut text);
            json_string(&text, out);
        }
    }
}

fn json_string(text: &[u8], out: &mut Vec<u8>) {
    out.push(b'"');
    for &byte in text {
        match byte {
            b'"' | b'\\' => out.extend_from_slice(&[b'\\', byte]),
            8 => out.extend_from_slice(b"\\b"),
            12 => out.extend_from_slice(b"\\f"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..=31 => out.extend_from_slice(format!("\\u{byte:04x}").as_bytes()),
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}
