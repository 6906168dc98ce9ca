//! Looks through a file and tells what it holds, or what is wrong with it, as `redis-check-rdb` does.

use std::io::{self, Read, Write};

use datatypes::home::Limits;

use crate::code::kind_name;
use crate::error::Error;
use crate::file::{Part, Parts};
use crate::payload::Demands;

/// What a file holds.
#[derive(Default)]
struct Counts {
    n_keys: u64,
    n_volatile: u64,
    n_due: u64,
    n_functions: u64,
}

/// Writes a report about the file `name` with these bytes; where the data ends if it is sound. `now_ms`
/// is Unix time.
pub fn check(
    name: &str,
    source: impl Read,
    now_ms: u64,
    out: &mut impl Write,
) -> io::Result<Option<u64>> {
    writeln!(out, "[offset 0] Checking RDB file {name}")?;
    let mut counts = Counts::default();
    let demands = Demands {
        checks_sum: true,
        knows_version: true,
    };
    let end = match Parts::open(source, demands) {
        Ok(mut parts) => match walk(&mut parts, now_ms, &mut counts, out)? {
            Ok(()) => {
                let offset = parts.offset();
                writeln!(out, "[offset {offset}] \\o/ RDB looks OK! \\o/")?;
                Some(offset)
            }
            Err(error) => {
                tell(&error, parts.key(), parts.version(), out)?;
                None
            }
        },
        Err(error) => {
            tell(&error, None, 0, out)?;
            None
        }
    };
    writeln!(out, "[info] {} keys read", counts.n_keys)?;
    writeln!(out, "[info] {} expires", counts.n_volatile)?;
    writeln!(out, "[info] {} already expired", counts.n_due)?;
    if counts.n_functions > 0 {
        writeln!(out, "[info] {} functions", counts.n_functions)?;
    }
    Ok(end)
}

fn walk<R: Read>(
    parts: &mut Parts<R>,
    now_ms: u64,
    counts: &mut Counts,
    out: &mut impl Write,
) -> io::Result<Result<(), Error>> {
    let (limits, mut database) = (Limits::default(), None);
    loop {
        let part = match parts.next(&limits) {
            Ok(part) => part,
            Err(error) => return Ok(Err(error)),
        };
        if matches!(part, Part::Key(..)) && database != Some(parts.database()) {
            database = Some(parts.database());
            writeln!(out, "[offset {}] Selecting DB ID {}", parts.offset(), parts.database())?;
        }
        match part {
            Part::End => return Ok(Ok(())),
            Part::About(name, text) => {
                let (name, text) = (name.escape_ascii(), text.escape_ascii());
                writeln!(out, "[offset {}] AUX FIELD {name} = '{text}'", parts.offset())?;
            }
            Part::Function(_) => counts.n_functions += 1,
            Part::Key(_, attributes, _) => {
                counts.n_keys += 1;
                if let Some(deadline_ms) = attributes.deadline_ms {
                    counts.n_volatile += 1;
                    counts.n_due += u64::from(deadline_ms < now_ms);
                }
            }
            Part::Emptied(key) => {
                let key = key.escape_ascii();
                writeln!(out, "[offset {}] Key '{key}' holds nothing", parts.offset())?;
            }
            Part::Passed => {}
        }
    }
}

fn tell(
    error: &Error,
    key: Option<(&[u8], u8)>,
    version: u16,
    out: &mut impl Write,
) -> io::Result<()> {
    writeln!(out, "--- RDB ERROR DETECTED ---")?;
    writeln!(out, "[offset {}] {}", error.offset, error.reason)?;
    if let Some((key, code)) = key {
        writeln!(out, "[additional info] Reading key '{}'", key.escape_ascii())?;
        let kind = kind_name(code, version);
        writeln!(out, "[additional info] Reading type {code} ({kind})")?;
    }
    Ok(())
}
