//! What replies say that are compared: without what is each server's own.

use resp::decode::Value;

use super::super::side::text;

/// Elements of a piece.
pub const PIECE: usize = 1000;
/// Version and checksum at the end of a payload.
const FOOTER_BYTES: usize = 10;

/// The command that tells how large a value of this type is.
pub fn length_of(kind: &str) -> &'static [u8] {
    match kind {
        "string" => b"STRLEN",
        "list" => b"LLEN",
        "set" => b"SCARD",
        "zset" => b"ZCARD",
        "hash" => b"HLEN",
        "stream" => b"XLEN",
        _ => b"EXISTS",
    }
}

/// A bulk string.
pub fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::Bulk(bytes) => Some(bytes),
        _ => None,
    }
}

/// Cursor and elements of a reply of SCAN and its kin.
pub fn scanned(answer: Option<Value>) -> Option<(String, Vec<Vec<u8>>)> {
    let Some(Value::Array(parts)) = answer else {
        return None;
    };
    let [cursor, Value::Array(found)] = <[Value; 2]>::try_from(parts).ok()? else {
        return None;
    };
    Some((text(&cursor), found.into_iter().filter_map(bytes).collect()))
}

/// Equal, or times that differ by no more than that.
pub fn is_near(one: &Value, other: &Value, tolerance: i64) -> bool {
    match (one, other) {
        (Value::Int(one @ 0..), Value::Int(other @ 0..)) => {
            one.abs_diff(*other) <= tolerance as u64
        }
        _ => one == other,
    }
}

/// Payloads of DUMP of the same value in the same encoding.
pub fn is_same_payload(answers: (&Value, &Value)) -> bool {
    match answers {
        (Value::Bulk(one), Value::Bulk(other)) => {
            let body = |payload: &[u8]| payload.len().saturating_sub(FOOTER_BYTES);
            one[..body(one)] == other[..body(other)]
        }
        (one, other) => one == other,
    }
}

/// The same members with the same scores, however their digits are written.
pub fn same_scores(one: &[Value], other: &[Value]) -> bool {
    let number = |value: &Value| text(value).parse::<f64>().ok();
    let is_same = |(at, (one, other)): (usize, (&Value, &Value))| match at % 2 {
        0 => one == other,
        _ => number(one) == number(other),
    };
    one.len() == other.len() && one.iter().zip(other).enumerate().all(is_same)
}

/// Where the next piece of entries begins, if this one was full.
pub fn next_id(piece: &Value) -> Option<Vec<u8>> {
    let Value::Array(entries) = piece else {
        return None;
    };
    match entries.last() {
        Some(Value::Array(entry)) if entries.len() == PIECE => {
            Some(format!("({}", text(entry.first()?)).into_bytes())
        }
        _ => None,
    }
}

/// The value of a field of a map.
pub fn field(map: &Value, name: &str) -> Option<String> {
    let Value::Array(fields) = map else {
        return None;
    };
    let mut pairs = fields.chunks_exact(2);
    pairs
        .find(|pair| text(&pair[0]) == name)
        .map(|pair| text(&pair[1]))
}

/// Pending entries as id, consumer and deliveries.
pub fn without_idle(answer: &Value) -> Vec<[String; 3]> {
    let Value::Array(entries) = answer else {
        return Vec::new();
    };
    let entry = |entry: &Value| match entry {
        Value::Array(parts) if parts.len() == 4 => {
            Some([text(&parts[0]), text(&parts[1]), text(&parts[3])])
        }
        _ => None,
    };
    entries.iter().filter_map(entry).collect()
}
