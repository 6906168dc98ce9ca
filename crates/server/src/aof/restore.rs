//! `minium check-aof --restore-to`: the files of a moment in the past, beside those of the present.
//!
//! ```text
//!   base          written before the moment? else nothing is left of what was changed since
//!   increments    #TS:seconds before what was written then ──► copied up to the first later one
//! ```
//!
//! The copy is an append-only file of its own. The originals are only read.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::{Path, PathBuf};

use datatypes::home::Limits;
use rdb::file::{Part as FilePart, Parts};
use rdb::payload::Demands;

use super::check::{cannot, is_manifest, look_through, pass_snapshot, place_of, println_to};
use super::manifest::{Manifest, Place, sync_folder};
use super::scan::is_snapshot;
use crate::error::reason;

/// How much of a file goes into the copy.
struct Piece {
    name: String,
    n_bytes: u64,
}

/// Copies into `output`, which must be empty or absent, what the files of a manifest held at a moment.
pub fn restore(
    path: &Path,
    until_s: i64,
    output: &Path,
    out: &mut impl Write,
) -> Result<(), String> {
    if !is_manifest(path)? {
        return Err(format!("{} is no manifest of an append-only file", path.display()));
    }
    let text = fs::read(path).map_err(|error| cannot("read", path, &error))?;
    let (manifest, from) = (Manifest::parse(&text)?, place_of(path));
    let (kept, pieces) = select(manifest, &from, until_s, out)?;
    let to = Place {
        folder: output.to_owned(),
        name: from.name.clone(),
    };
    let told = |error: io::Error| format!("Cannot write {}: {}", output.display(), reason(&error));
    fs::create_dir_all(output).map_err(told)?;
    if fs::read_dir(output).map_err(told)?.next().is_some() {
        return Err(format!("{} is not empty, aborting...", output.display()));
    }
    let copied = pieces
        .iter()
        .try_for_each(|piece| copy(&from, &to, piece))
        .and_then(|()| kept.write(&to)); // last: without it nothing counts
    if let Err(error) = copied {
        pieces.iter().for_each(|piece| {
            let _ = fs::remove_file(to.path(&piece.name)); // it may not be there
        });
        return Err(told(error));
    }
    let n_bytes: u64 = pieces.iter().map(|piece| piece.n_bytes).sum();
    println_to(
        out,
        &format!(
            "Restored what there was at {until_s} into {}: {} files, {n_bytes} bytes. The originals are \
             unchanged.",
            output.display(),
            pieces.len()
        ),
    );
    println_to(out, &hint(&to));
    Ok(())
}

fn hint(to: &Place) -> String {
    let folder = fs::canonicalize(&to.folder).unwrap_or_else(|_| to.folder.clone());
    let (dir, own) = (folder.parent().unwrap_or(Path::new("/")), folder.file_name());
    format!(
        "Try it with: minium --appendonly yes --dir '{}' --appenddirname '{}' --appendfilename '{}'",
        dir.display(),
        own.unwrap_or_default().to_string_lossy(),
        to.name
    )
}

/// Which files, and how much of each, make up the moment.
fn select(
    manifest: Manifest,
    from: &Place,
    until_s: i64,
    out: &mut impl Write,
) -> Result<(Manifest, Vec<Piece>), String> {
    let mut kept = Manifest::default();
    let mut pieces = Vec::new();
    if let Some(base) = &manifest.base {
        let path = from.path(&base.name);
        match made_at(&path)? {
            Some(made_s) if made_s > until_s => {
                return Err(format!(
                    "The base {} is of {made_s}, which is later: what changed between {until_s} and then \
                     is not in these files any more. Take a copy of the folder from before that.",
                    base.name
                ));
            }
            Some(_) => {}
            None => println_to(
                out,
                &format!("The base {} does not say when it was written.", base.name),
            ),
        }
        let start = pass_snapshot(&path, out)?;
        let (span, n_bytes) = look_through(&path, start, None)?;
        if let Some((offset, what)) = span.flaw {
            return Err(format!("AOF {} is not valid: {what}, at byte {offset}", base.name));
        }
        pieces.push(Piece {
            name: base.name.clone(),
            n_bytes,
        });
        kept.base = Some(base.clone());
    }
    let n_increments = manifest.increments.len();
    let (mut knows_time, mut n_command_bytes) = (false, 0);
    for (at, part) in manifest.increments.into_iter().enumerate() {
        let (span, n_bytes) = look_through(&from.path(&part.name), 0, Some(until_s))?;
        if let Some((offset, what)) = &span.flaw {
            if at + 1 < n_increments {
                return Err(format!("AOF {} is not valid: {what}, at byte {offset}", part.name));
            }
            println_to(out, &format!("AOF {} ends at byte {}: {what}", part.name, span.good));
        }
        knows_time |= span.first_s.is_some();
        n_command_bytes += n_bytes;
        let is_last = span.later.is_some();
        let whole = if span.flaw.is_some() {
            span.good
        } else {
            n_bytes
        };
        pieces.push(Piece {
            name: part.name.clone(),
            n_bytes: span.later.unwrap_or(whole),
        });
        kept.increments.push(part);
        if is_last {
            break;
        }
    }
    if !knows_time && n_command_bytes > 0 {
        return Err("These files do not say when commands were written: the server must have \
                    aof-timestamp-enabled yes for that."
            .to_owned());
    }
    Ok((kept, pieces))
}

/// When a base was written, if it says so.
fn made_at(path: &Path) -> Result<Option<i64>, String> {
    let file = File::open(path).map_err(|error| cannot("open", path, &error))?;
    if !is_snapshot(&file).map_err(|error| cannot("read", path, &error))? {
        return look_through(path, 0, None).map(|(span, _)| span.first_s);
    }
    let demands = Demands {
        checks_sum: false,
        knows_version: true,
    };
    let limits = Limits::default();
    let Ok(mut parts) = Parts::open(file, demands) else {
        return Ok(None); // what is wrong is told when it is looked through
    };
    while let Ok(FilePart::About(name, text)) = parts.next(&limits) {
        if name == b"ctime" {
            let text = std::str::from_utf8(&text).ok();
            return Ok(text.and_then(|text| text.parse().ok()));
        }
    }
    Ok(None)
}

fn copy(from: &Place, to: &Place, piece: &Piece) -> io::Result<()> {
    let source: PathBuf = from.path(&piece.name);
    let mut source = File::open(source)?.take(piece.n_bytes);
    let mut target = OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(to.path(&piece.name))?;
    let n_copied = io::copy(&mut source, &mut target)?;
    if n_copied != piece.n_bytes {
        return Err(io::Error::other(format!("{} has become shorter", piece.name)));
    }
    target.sync_all()?;
    sync_folder(&to.folder)
}

/// A time: Unix seconds, or `2026-01-31T23:59:59` in UTC, with a blank for the T and a Z at the end if
/// you like.
pub fn moment(text: &str) -> Option<i64> {
    if let Ok(seconds) = text.parse() {
        return Some(seconds);
    }
    let (date, time) = text.trim_end_matches('Z').split_once(['T', ' '])?;
    let numbers = |text: &str, mark: char| -> Option<[i64; 3]> {
        let mut parts = text.split(mark).map(|part| part.parse().ok());
        let three = [parts.next()??, parts.next()??, parts.next()??];
        parts.next().is_none().then_some(three)
    };
    let ([year, month, day], [hour, minute, second]) = (numbers(date, '-')?, numbers(time, ':')?);
    let is_sound = (1970..10_000).contains(&year)
        && (1..=12).contains(&month)
        && (1..=31).contains(&day)
        && (0..24).contains(&hour)
        && (0..60).contains(&minute)
        && (0..60).contains(&second);
    is_sound.then(|| {
        // Years that begin in March, so that the day that is sometimes there is the last.
        let (years, months) = match month {
            3.. => (year, month - 3),
            _ => (year - 1, month + 9),
        };
        let days =
            365 * years + years / 4 - years / 100 + years / 400 + (153 * months + 2) / 5 + day;
        ((days - 719_469) * 24 + hour) * 3600 + minute * 60 + second
    })
}

#[cfg(test)]
mod tests {
    use super::moment;

    #[test]
    fn times_are_read() {
        assert_eq!(moment("1628217473"), Some(1_628_217_473));
        assert_eq!(moment("1970-01-01T00:00:00Z"), Some(0));
        assert_eq!(moment("2000-02-29 12:00:00"), Some(951_825_600));
        assert_eq!(moment("2021-08-06T02:37:53"), Some(1_628_217_473));
        for wrong in [
            "",
            "now",
            "2021-08-06",
            "2021-13-06T00:00:00",
            "2021-08-06T00:00",
        ] {
            assert_eq!(moment(wrong), None, "{wrong}");
        }
    }
}
