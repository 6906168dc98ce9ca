//! The directives that hold several words with a grammar of their own.
//!
//! Each parser takes the current value as text and the new words, and returns the new value in
//! canonical text, with a number where the value has one (event classes as bits).

use stdx::memory::parse_bytes;
use stdx::number::parse_i64;

use super::notify::EventClasses;
use super::value::Value;

/// Parses the words of one special directive. `current` is the value it has now, for those which
/// change only a part of it.
pub type Special = fn(current: &[u8], words: &[&[u8]]) -> Result<Value, String>;

/// The client classes of `client-output-buffer-limit`, as CONFIG GET names them.
pub const OUTPUT_CLASSES: [&str; 3] = ["normal", "slave", "pubsub"];

/// What one class of clients may leave unread before it is closed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OutputLimit {
    /// At this many bytes at once; 0 is no limit.
    pub hard_bytes: u64,
    /// Above this many bytes for `soft_s`; 0 is no limit.
    pub soft_bytes: u64,
    /// How long the soft limit may be passed.
    pub soft_s: u64,
}

/// `bind`: addresses, as given.
pub fn bind(_: &[u8], words: &[&[u8]]) -> Result<Value, String> {
    if words.len() > 16 {
        return Err("Too many bind addresses specified.".into());
    }
    Ok(Value::text(joined(words)))
}

/// Any words, as given.
pub fn words(_: &[u8], words: &[&[u8]]) -> Result<Value, String> {
    Ok(Value::text(joined(words)))
}

/// `notify-keyspace-events`: one word of class letters.
pub fn events(_: &[u8], words: &[&[u8]]) -> Result<Value, String> {
    if words.len() > 1 {
        return Err("wrong number of arguments".into());
    }
    let classes = EventClasses::parse(words.first().copied().unwrap_or_default())
        .ok_or("Invalid event class character. Use 'Ag$lshzxeKEtmdn'.")?;
    Ok(Value::new(i64::from(classes.bits()), classes.letters().into_bytes()))
}

/// `save`: pairs of seconds and changes, or one empty word.
pub fn save_points(_: &[u8], words: &[&[u8]]) -> Result<Value, String> {
    if matches!(words, [] | [b""]) {
        return Ok(Value::text(Vec::new()));
    }
    let number = |word: &&[u8], min: i64| parse_i64(word).filter(|n| *n >= min);
    let pairs = words.chunks(2).map(|pair| match pair {
        [seconds, changes] => Some((number(seconds, 1)?, number(changes, 0)?)),
        _ => None,
    });
    let points: Option<Vec<_>> = pairs.collect();
    let points = points.ok_or("Invalid save parameters")?;
    let text: Vec<String> = points.iter().map(|(s, n)| format!("{s} {n}")).collect();
    Ok(Value::text(text.join(" ").into_bytes()))
}

/// `replicaof`: host and port, or `no one`.
pub fn replicaof(_: &[u8], words: &[&[u8]]) -> Result<Value, String> {
    match words {
        [] | [b""] => Ok(Value::text(Vec::new())),
        [no, one] if no.eq_ignore_ascii_case(b"no") && one.eq_ignore_ascii_case(b"one") => {
            Ok(Value::text(Vec::new()))
        }
        [_, port] => match parse_i64(port) {
            Some(0..=65_535) => Ok(Value::text(joined(words))),
            _ => Err("Invalid master port".into()),
        },
        _ => Err("wrong number of arguments".into()),
    }
}

/// `oom-score-adj-values`: three integers.
pub fn oom_scores(_: &[u8], words: &[&[u8]]) -> Result<Value, String> {
    if words.len() != 3 {
        return Err("wrong number of arguments".into());
    }
    let valid = |word: &&[u8]| matches!(parse_i64(word), Some(-2000..=2000));
    if !words.iter().all(valid) {
        return Err("Invalid oom-score-adj-values, elements must be between -2000 and 2000.".into());
    }
    Ok(Value::text(joined(words)))
}

/// `latency-tracking-info-percentiles`: numbers from 0 to 100.
pub fn percentiles(_: &[u8], words: &[&[u8]]) -> Result<Value, String> {
    let words: Vec<&[u8]> = words
        .iter()
        .copied()
        .filter(|word| !word.is_empty())
        .collect();
    let number = |word: &&[u8]| {
        let number = std::str::from_utf8(word).ok()?.parse::<f64>().ok()?;
        (0.0..=100.0).contains(&number).then_some(number)
    };
    let numbers: Option<Vec<f64>> = words.iter().map(number).collect();
    let numbers = numbers
        .ok_or("latency-tracking-info-percentiles parameters should sit between [0.0,100.0]")?;
    let written = numbers.iter().map(|number| {
        let mut text = Vec::new();
        stdx::double::format_f64(*number, &mut text);
        text
    });
    let written: Vec<Vec<u8>> = written.collect();
    let written: Vec<&[u8]> = written.iter().map(Vec::as_slice).collect();
    Ok(Value::text(joined(&written)))
}

/// `client-output-buffer-limit`: groups of class, hard limit, soft limit and soft seconds. Classes
/// that are not named keep what they have.
pub fn output_limits(current: &[u8], words: &[&[u8]]) -> Result<Value, String> {
    if words.is_empty() || !words.len().is_multiple_of(4) {
        return Err("Wrong number of arguments in buffer limit configuration.".into());
    }
    let mut limits = parse_output_limits(current);
    for group in words.chunks(4) {
        let class = output_class(group[0])
            .ok_or("Invalid client class specified in buffer limit configuration.")?;
        let numbers = (parse_bytes(group[1]), parse_bytes(group[2]), parse_i64(group[3]));
        let (Some(hard_bytes), Some(soft_bytes), Some(soft_s @ 0..)) = numbers else {
            return Err(
                "Error in hard, soft or soft_seconds setting in buffer limit configuration.".into(),
            );
        };
        limits[class] = OutputLimit {
            hard_bytes,
            soft_bytes,
            soft_s: soft_s.unsigned_abs(),
        };
    }
    Ok(Value::text(output_limits_text(&limits).into_bytes()))
}

fn output_class(word: &[u8]) -> Option<usize> {
    if word.eq_ignore_ascii_case(b"replica") {
        return Some(1);
    }
    OUTPUT_CLASSES
        .iter()
        .position(|class| class.as_bytes().eq_ignore_ascii_case(word))
}

fn output_limits_text(limits: &[OutputLimit; 3]) -> String {
    let group = |(class, limit): (&str, &OutputLimit)| {
        format!("{class} {} {} {}", limit.hard_bytes, limit.soft_bytes, limit.soft_s)
    };
    let groups: Vec<String> = OUTPUT_CLASSES.into_iter().zip(limits).map(group).collect();
    groups.join(" ")
}

/// Reads the canonical text of `client-output-buffer-limit` back.
pub fn parse_output_limits(text: &[u8]) -> [OutputLimit; 3] {
    let mut limits = [OutputLimit::default(); 3];
    let words: Vec<&[u8]> = text.split(|byte| *byte == b' ').collect();
    for (limit, group) in limits.iter_mut().zip(words.chunks_exact(4)) {
        let number = |word: &[u8]| parse_bytes(word).unwrap_or_default();
        limit.hard_bytes = number(group[1]);
        limit.soft_bytes = number(group[2]);
        limit.soft_s = number(group[3]);
    }
    limits
}

fn joined(words: &[&[u8]]) -> Vec<u8> {
    words.join(&b' ')
}
