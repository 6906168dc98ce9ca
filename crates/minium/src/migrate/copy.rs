//! The snapshot of the source, key by key, into the target: nothing is kept of it.
//!
//! A value goes as the bytes that it is in the snapshot, as a payload of RESTORE with its deadline; only what
//! the target does not know is put into another form (`rdb::dialect`).

use rdb::dialect::Dialect;
use rdb::error::Reason;
use rdb::file::{Attributes, Part, Parts};
use rdb::payload::Demands;

use super::progress::Progress;
use super::source::{INTERRUPTED, Source};
use super::target::Target;

/// Keys between two looks at the time.
const KEYS_PER_LOOK: u64 = 64;

/// How the copy is made.
pub struct Terms {
    pub dialect: Dialect,
    pub replaces: bool,
    /// How many keys the source says it has.
    pub n_expected: u64,
}

/// Copies everything; how many keys there were.
pub fn run(
    source: &mut Source<'_>,
    target: &mut Target<'_>,
    terms: &Terms,
    progress: &mut Progress,
) -> Result<u64, String> {
    progress.show(|| "Waiting for the snapshot".to_owned());
    let offset = source.offset;
    let snapshot = source.snapshot();
    let demands = Demands {
        checks_sum: true,
        knows_version: true,
    };
    let mut parts = Parts::open(snapshot, demands).map_err(|error| told(&error.reason))?;
    let (mut database, mut stream_database) = (0, 0);
    let mut n_keys = 0u64;
    loop {
        let part = parts.next_raw();
        let part = part.map_err(|error| match parts.key() {
            Some((key, _)) => format!("{} (key {})", told(&error.reason), key.escape_ascii()),
            None => told(&error.reason),
        })?;
        match part {
            Part::Key(key, attributes, value) => {
                if database != parts.database() {
                    database = parts.database();
                    target.send(&[b"SELECT", database.to_string().as_bytes()], offset)?;
                }
                let payload = terms.dialect.payload(value, parts.version());
                let payload = payload
                    .map_err(|error| format!("Key {}: {}", key.escape_ascii(), error.reason))?;
                restore(target, (&key, &payload), attributes, (terms.replaces, offset))?;
                n_keys += 1;
                if n_keys.is_multiple_of(KEYS_PER_LOOK) {
                    progress.copied(n_keys, terms.n_expected, parts.offset());
                }
            }
            Part::Function(code) => match terms.replaces {
                true => target.send(&[b"FUNCTION", b"LOAD", b"REPLACE", &code], offset)?,
                false => target.send(&[b"FUNCTION", b"LOAD", &code], offset)?,
            },
            Part::About(name, text) if name == b"repl-stream-db" => {
                let text = String::from_utf8_lossy(&text);
                stream_database = text.parse::<i64>().unwrap_or(0).max(0);
            }
            Part::About(..) | Part::Emptied(_) => {}
            Part::Passed => {
                progress.say("Note: what a module keeps besides its keys is not copied.");
            }
            Part::End => break,
        }
    }
    if !parts.is_at_end() {
        return Err("The snapshot goes on behind its end".to_owned());
    }
    let n_bytes = parts.offset();
    drop(parts);
    target.send(&[b"SELECT", stream_database.to_string().as_bytes()], offset)?;
    target.settle(offset)?;
    progress.has_copied(n_keys, n_bytes);
    Ok(n_keys)
}

fn told(reason: &Reason) -> String {
    match reason {
        Reason::Io(why) if why == INTERRUPTED => INTERRUPTED.to_owned(),
        Reason::Io(why) => format!(
            "The snapshot was cut: {why}. If its log tells of output buffer limits, raise \
             client-output-buffer-limit replica there. Empty the target and start again"
        ),
        reason => format!("The snapshot cannot be read: {reason}"),
    }
}

fn restore(
    target: &mut Target<'_>,
    (key, payload): (&[u8], &[u8]),
    attributes: Attributes,
    (replaces, offset): (bool, u64),
) -> Result<(), String> {
    // 0 is no deadline, and what was due before 1970 is due at 1.
    let deadline_ms = attributes.deadline_ms.map_or(0, |ms| ms.max(1)).to_string();
    let mut words = vec![b"RESTORE", key, deadline_ms.as_bytes(), payload, b"ABSTTL"];
    words.extend(replaces.then_some(&b"REPLACE"[..]));
    let number = match (attributes.frequency, attributes.idle_s) {
        (Some(frequency), _) => {
            words.push(b"FREQ");
            frequency.to_string()
        }
        (None, Some(idle_s)) => {
            words.push(b"IDLETIME");
            idle_s.to_string()
        }
        (None, None) => return target.send(&words, offset),
    };
    words.push(number.as_bytes());
    target.send(&words, offset)
}
