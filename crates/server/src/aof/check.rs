//! `minium check-aof`: looks through an append-only file, and mends its end if that is wanted.
//!
//! Options, exit codes and the lines that scripts look for are those of `redis-check-aof`; what reads the
//! files is what the server reads them with. Only the last file may be shortened: what stands in a
//! later one would not fit any more. Nothing is shortened that a running server has open.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use super::lock::{Hold, PATIENCE};
use super::manifest::{Manifest, Place};
use super::restore::{self, moment};
use super::scan::{Span, is_snapshot, scan};
use crate::error::reason;
use crate::io::process::unix_time;

const USAGE: &str = "\
[--fix|--truncate-to-timestamp $timestamp] <file.manifest|file.aof>
       ... --restore-to TIME <file.manifest> --output DIR

  --fix                      cuts off what is not valid at the end of the last file, after asking
  --truncate-to-timestamp T  cuts off what was written after T (Unix seconds), for good
  --restore-to TIME          makes a copy in DIR of what there was at TIME, and leaves the files as they
                             are; TIME is Unix seconds or like 2026-01-31T23:59:59, in UTC
Times are known if the server had aof-timestamp-enabled yes.";

/// What is to be done with the files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Task {
    Look,
    Fix,
    Truncate(i64),
}

/// How it went with one file.
enum Verdict {
    Valid,
    Empty,
    Shortened,
    ShortenedTo(i64),
}

/// Runs the tool under the name it was started by; the exit code.
pub fn run(name: &str, args: &[String]) -> i32 {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    let out = &mut io::stdout().lock();
    let result = match words[..] {
        ["-v" | "--version"] => {
            println_to(out, &format!("minium check-aof {}", env!("CARGO_PKG_VERSION")));
            return 0;
        }
        ["--restore-to", time, path, "--output", folder] => moment(time)
            .ok_or_else(|| "Invalid time, aborting...".to_owned())
            .and_then(|until_s| restore::restore(Path::new(path), until_s, Path::new(folder), out)),
        ["--truncate-to-timestamp", time, path] => match time.parse() {
            Ok(until_s) => check(Path::new(path), Task::Truncate(until_s), out),
            Err(_) => Err("Invalid timestamp, aborting...".to_owned()),
        },
        ["--fix", path] => check(Path::new(path), Task::Fix, out),
        [path] if !path.starts_with("--") => check(Path::new(path), Task::Look, out),
        _ => Err(format!("Usage: {name} {USAGE}")),
    };
    match result {
        Ok(()) => 0,
        Err(reason) => {
            println_to(out, &reason);
            1
        }
    }
}

/// Who reads may have gone away, and then nobody is to be told.
pub(super) fn println_to(out: &mut impl Write, line: &str) {
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

/// The place of a manifest, or of a file that one names, by the path of it.
pub(super) fn place_of(path: &Path) -> Place {
    let parent = path
        .parent()
        .filter(|folder| !folder.as_os_str().is_empty());
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    Place {
        folder: parent.unwrap_or(Path::new(".")).to_owned(),
        name: stem(&name).to_owned(),
    }
}

/// What all names of an append-only file begin with, by one of them.
fn stem(name: &str) -> &str {
    let number_and_kind = |end: &&str| {
        let (rest, kind) = name.strip_suffix(*end)?.rsplit_once('.')?;
        let (stem, number) = rest.rsplit_once('.')?;
        let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
        (is_number && matches!(kind, "base" | "incr")).then_some(stem)
    };
    let of_part = [".rdb", ".aof"].iter().find_map(number_and_kind);
    of_part.unwrap_or(name.strip_suffix(".manifest").unwrap_or(name))
}

/// Whether a file looks like a manifest: comments, then lines that name files.
pub(super) fn is_manifest(path: &Path) -> Result<bool, String> {
    let told = |error: io::Error| cannot("open", path, &error);
    let mut source = io::BufReader::new(File::open(path).map_err(told)?);
    loop {
        let mut line = Vec::new();
        let mut limited = io::Read::take(&mut source, 1024);
        limited.read_until(b'\n', &mut line).map_err(told)?;
        if !line.starts_with(b"#") {
            return Ok(line.starts_with(b"file"));
        }
    }
}

pub(super) fn cannot(what: &str, path: &Path, error: &io::Error) -> String {
    format!("Cannot {what} file {}: {}, aborting...", path.display(), reason(error))
}

fn check(path: &Path, task: Task, out: &mut impl Write) -> Result<(), String> {
    let place = place_of(path);
    let folder = place.folder.clone();
    let _hold = match task {
        Task::Look => None,
        Task::Fix | Task::Truncate(_) => Some(Hold::take(&place, PATIENCE)?),
    };
    if !is_manifest(path)? {
        println_to(out, "Start checking Old-Style AOF");
        let shown = path.display().to_string();
        let verdict = check_file(&shown, path, (task, true), out)?;
        tell("AOF", &shown, &verdict, out);
        return Ok(());
    }
    println_to(out, "Start checking Multi Part AOF");
    let text = fs::read(path).map_err(|error| cannot("read", path, &error))?;
    let manifest = Manifest::parse(&text)?;
    let n_parts = manifest.parts().count();
    let n_bases = usize::from(manifest.base.is_some());
    for (at, part) in manifest.parts().enumerate() {
        let path = folder.join(&part.name);
        if at < n_bases {
            let file = File::open(&path).map_err(|error| cannot("open", &path, &error))?;
            let form = match is_snapshot(&file).map_err(|error| cannot("read", &path, &error))? {
                true => "RDB",
                false => "RESP",
            };
            println_to(out, &format!("Start to check BASE AOF ({form} format)."));
        } else if at == n_bases {
            println_to(out, "Start to check INCR files.");
        }
        let verdict = check_file(&part.name, &path, (task, at + 1 == n_parts), out)?;
        let kind = if at < n_bases { "BASE AOF" } else { "INCR AOF" };
        tell(kind, &part.name, &verdict, out);
    }
    println_to(out, "All AOF files and manifest are valid");
    Ok(())
}

fn tell(kind: &str, name: &str, verdict: &Verdict, out: &mut impl Write) {
    let line = match verdict {
        Verdict::Valid => format!("{kind} {name} is valid"),
        Verdict::Empty => format!("{kind} {name} is empty"),
        Verdict::Shortened => format!("Successfully truncated AOF {name}"),
        Verdict::ShortenedTo(until_s) => {
            format!("Successfully truncated AOF {name} to timestamp {until_s}")
        }
    };
    println_to(out, &line);
}

/// Where the commands of a file begin: behind a snapshot, which must be sound, if there is one.
pub(super) fn pass_snapshot(path: &Path, out: &mut impl Write) -> Result<u64, String> {
    let read = |error: io::Error| cannot("read", path, &error);
    let file = File::open(path).map_err(|error| cannot("open", path, &error))?;
    if !is_snapshot(&file).map_err(read)? {
        return Ok(0);
    }
    let (name, now_ms) = (path.display().to_string(), unix_time().as_millis() as u64);
    match rdb::check::check(&name, file, now_ms, out).map_err(read)? {
        Some(end) => {
            println_to(out, "RDB preamble is OK, proceeding with AOF tail...");
            Ok(end)
        }
        None => Err("RDB preamble of AOF file is not sane, aborting.".to_owned()),
    }
}

/// Reads the commands of a file and shows how far it is to who sits before it.
pub(super) fn look_through(
    path: &Path,
    start: u64,
    until_s: Option<i64>,
) -> Result<(Span, u64), String> {
    let read = |error: io::Error| cannot("read", path, &error);
    let file = File::open(path).map_err(|error| cannot("open", path, &error))?;
    let n_bytes = file.metadata().map_err(read)?.len();
    let mut bar = Bar::new(n_bytes);
    let span = scan(file, start, until_s, &mut |offset| bar.show(offset));
    bar.clear();
    Ok((span.map_err(read)?, n_bytes))
}

fn check_file(
    name: &str,
    path: &Path,
    (task, is_last): (Task, bool),
    out: &mut impl Write,
) -> Result<Verdict, String> {
    let facts = fs::metadata(path).map_err(|error| cannot("open", path, &error))?;
    if facts.len() == 0 {
        return Ok(Verdict::Empty);
    }
    let start = pass_snapshot(path, out)?;
    let until_s = match task {
        Task::Truncate(until_s) => Some(until_s),
        Task::Look | Task::Fix => None,
    };
    let (span, n_bytes) = look_through(path, start, until_s)?;
    if let (Some(offset), Some(until_s)) = (span.later, until_s) {
        return truncate_to(name, path, (offset, until_s, is_last));
    }
    if let Some((offset, what)) = &span.flaw {
        println_to(out, &format!("0x{offset:16x}: AOF {name} {what}"));
    }
    // What only says something about what would come behind it is no fault.
    let good = if span.flaw.is_none() {
        n_bytes
    } else {
        span.good
    };
    let n_bad = n_bytes - good;
    if let (0, Some(until_s)) = (n_bad, until_s) {
        println_to(out, &format!("Truncate nothing in AOF {name} to timestamp {until_s}"));
        return Ok(Verdict::Valid);
    }
    println_to(
        out,
        &format!(
            "AOF analyzed: filename={name}, size={n_bytes}, ok_up_to={good}, ok_up_to_line={}, \
             diff={n_bad}",
            span.line
        ),
    );
    match task {
        _ if n_bad == 0 => Ok(Verdict::Valid),
        Task::Look | Task::Truncate(_) => {
            Err(format!("AOF {name} is not valid. Use the --fix option to try fixing it."))
        }
        Task::Fix if !is_last => {
            Err(format!("Failed to truncate AOF {name} because it is not the last file"))
        }
        Task::Fix => {
            println_to(
                out,
                &format!(
                    "This will shrink the AOF {name} from {n_bytes} bytes, with {n_bad} bytes, to \
                     {good} bytes"
                ),
            );
            let _ = write!(out, "Continue? [y/N]: ").and_then(|()| out.flush());
            let mut answer = String::new();
            let is_read = io::stdin().read_line(&mut answer).is_ok();
            if !is_read || !answer.starts_with(['y', 'Y']) {
                return Err("Aborting...".to_owned());
            }
            match shorten(path, good) {
                Ok(()) => Ok(Verdict::Shortened),
                Err(error) => Err(format!("Failed to truncate AOF {name}: {}", reason(&error))),
            }
        }
    }
}

fn truncate_to(
    name: &str,
    path: &Path,
    (offset, until_s, is_last): (u64, i64, bool),
) -> Result<Verdict, String> {
    if offset == 0 {
        return Err(format!("AOF {name} has nothing before timestamp {until_s}, aborting..."));
    }
    if !is_last {
        return Err(format!(
            "Failed to truncate AOF {name} to timestamp {until_s} to offset {offset} because it is not \
             the last file.\nIf you insist, please delete all files after this file according to the \
             manifest file and delete the corresponding records in manifest file manually. Then re-run \
             this tool. Or make a copy of that moment with --restore-to."
        ));
    }
    match shorten(path, offset) {
        Ok(()) => Ok(Verdict::ShortenedTo(until_s)),
        Err(error) => {
            let reason = reason(&error);
            Err(format!("Failed to truncate AOF {name} to timestamp {until_s}: {reason}"))
        }
    }
}

fn shorten(path: &Path, n_bytes: u64) -> io::Result<()> {
    let file = OpenOptions::new().write(true).open(PathBuf::from(path))?;
    file.set_len(n_bytes)?;
    file.sync_all()
}

/// A bar on the terminal, if there is one.
struct Bar {
    n_bytes: u64,
    shown: Option<u64>,
}

impl Bar {
    const CELLS: u64 = 40;

    fn new(n_bytes: u64) -> Bar {
        Bar {
            n_bytes,
            shown: None,
        }
    }

    fn show(&mut self, offset: u64) {
        let percent = (offset.saturating_mul(100) / self.n_bytes.max(1)).min(100);
        if self.shown == Some(percent) || !io::stderr().is_terminal() {
            return;
        }
        self.shown = Some(percent);
        let full = (percent * Bar::CELLS / 100) as usize;
        let empty = Bar::CELLS as usize - full;
        eprint!("\r[{}{}] {percent:3} %", "#".repeat(full), ".".repeat(empty));
    }

    fn clear(&mut self) {
        if self.shown.take().is_some() {
            eprint!("\r{}\r", " ".repeat(Bar::CELLS as usize + 10));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn names_tell_to_whom_they_belong() {
        for (name, own) in [
            ("a.aof.manifest", "a.aof"),
            ("a.aof.12.incr.aof", "a.aof"),
            ("a.aof.1.base.rdb", "a.aof"),
            ("a.1.base.aof", "a"),
            ("appendonly.aof", "appendonly.aof"),
            ("a.x.incr.aof", "a.x.incr.aof"),
        ] {
            assert_eq!(stem(name), own);
        }
    }
}
