//! The log: lines as Redis writes them, to standard output or appended to a file.
//!
//! ```text
//!  4711:M 06 Nov 2026 14:23:34.823 * Server initialized
//! ```
//!
//! The marks `.` `-` `*` `#` are debug, verbose, notice and warning: `trace!`, `debug!`, `info!` and
//! `warn!` of the `log` crate. The file is opened for each line, so that it may be moved away.

use crate::config::live::LogLevel;
use crate::io::process::{local_time, unix_time};
use log::{Level, LevelFilter, Log, Metadata, Record};
use parking_lot::RwLock;
use std::fs::File;
use std::io::{self, Write};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

const MONTHS: [&str; 12] = [
    "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
];

struct Sink {
    file: RwLock<Option<String>>,
}

/// Whether lines bear the letter of a replica.
static IS_REPLICA: AtomicBool = AtomicBool::new(false);

static SINK: Sink = Sink {
    file: RwLock::new(None),
};

/// Sends lines of this level and above to `file`, or to standard output. Fails if the file cannot
/// be written.
pub fn start(level: LogLevel, file: Option<String>) -> io::Result<()> {
    if let Some(path) = &file {
        open(path)?;
    }
    *SINK.file.write() = file;
    // It is set already when a server runs again in one process, as in tests.
    let _ = log::set_logger(&SINK);
    set_level(level);
    Ok(())
}

/// Changes what is logged.
pub fn set_level(level: LogLevel) {
    log::set_max_level(match level {
        LogLevel::Debug => LevelFilter::Trace,
        LogLevel::Verbose => LevelFilter::Debug,
        LogLevel::Notice => LevelFilter::Info,
        LogLevel::Warning => LevelFilter::Warn,
        LogLevel::Nothing => LevelFilter::Off,
    });
}

/// Has lines bear the letter of a replica, or of a primary.
pub fn set_replica(is_replica: bool) {
    IS_REPLICA.store(is_replica, Relaxed);
}

fn open(path: &str) -> io::Result<File> {
    File::options().create(true).append(true).open(path)
}

impl Log for Sink {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        // The crates below have nothing to tell an operator, except that something is wrong.
        metadata.target().starts_with("server") || metadata.level() <= Level::Warn
    }

    fn log(&self, record: &Record<'_>) {
        if !self.enabled(record.metadata()) {
            return;
        }
        let line = line(record);
        // A log that cannot be written must not stop the server.
        let _ = match &*self.file.read() {
            Some(path) => open(path).and_then(|mut file| file.write_all(line.as_bytes())),
            None => io::stdout()
                .write_all(line.as_bytes())
                .and_then(|()| io::stdout().flush()),
        };
    }

    fn flush(&self) {}
}

fn line(record: &Record<'_>) -> String {
    let mark = match record.level() {
        Level::Error | Level::Warn => '#',
        Level::Info => '*',
        Level::Debug => '-',
        Level::Trace => '.',
    };
    let role = if IS_REPLICA.load(Relaxed) { 'S' } else { 'M' };
    let now = unix_time();
    let at = local_time(now.as_secs());
    let (hour, minute, second) = at.time;
    format!(
        "{}:{role} {:02} {} {} {hour:02}:{minute:02}:{second:02}.{:03} {mark} {}\n",
        std::process::id(),
        at.day,
        MONTHS[at.month],
        at.year,
        now.subsec_millis(),
        record.args()
    )
}
