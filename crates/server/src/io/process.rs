//! The process itself: into the background, its limits, its clock on the wall.

#![allow(unsafe_code)]

use rustix::mm::Advice;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::time::{SystemTime, UNIX_EPOCH};

/// Descriptors that are open besides those of clients and event loops: files, listeners, signals.
const RESERVED_DESCRIPTORS: u64 = 32;
/// Descriptors that an event loop has open.
const DESCRIPTORS_PER_LOOP: u64 = 4;

/// A moment as a clock on the wall shows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LocalTime {
    /// The year.
    pub year: i32,
    /// The month, from 0.
    pub month: usize,
    /// The day of the month, from 1.
    pub day: i32,
    /// Hour, minute, second.
    pub time: (i32, i32, i32),
}

/// Unix time in the local time zone.
pub fn local_time(unix_s: u64) -> LocalTime {
    let time = unix_s as libc::time_t;
    // SAFETY: all fields of `tm` may be zero; `c_char` pointer of the zone's name included.
    let mut parts: libc::tm = unsafe { std::mem::zeroed() };
    // SAFETY: both pointers are valid for the call, and `localtime_r` keeps neither.
    unsafe { libc::localtime_r(&time, &mut parts) };
    LocalTime {
        year: parts.tm_year + 1900,
        month: usize::try_from(parts.tm_mon).unwrap_or(0).min(11),
        day: parts.tm_mday,
        time: (parts.tm_hour, parts.tm_min, parts.tm_sec),
    }
}

/// Unix time.
pub fn unix_time() -> std::time::Duration {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
}

/// Has no thread run any more until somebody continues the process. This one goes no further: the signal is its
/// own, while one for the process may be another's.
pub fn stop_process() {
    if let Err(error) = signal_hook::low_level::raise(signal_hook::consts::SIGSTOP) {
        log::warn!("The process could not stop itself: {error}");
    }
}

/// Has whoever wakes take the processor from this thread at once, which keeps its share of it: the
/// scheduler prefers those whose slices are shorter (Linux 6.12; older ones know no slices of a thread).
pub fn take_long_slices() {
    const SLICE_NS: u64 = 100_000_000; // the longest
    // SAFETY: all fields of `sched_attr` may be zero.
    let mut attributes: libc::sched_attr = unsafe { std::mem::zeroed() };
    let (size, this) = (size_of::<libc::sched_attr>() as u32, 0);
    // SAFETY: the kernel writes at most `size` bytes into `attributes`, and keeps no pointer.
    let is_known =
        unsafe { libc::syscall(libc::SYS_sched_getattr, this, &raw mut attributes, size, 0) } == 0;
    if !is_known || attributes.sched_policy != libc::SCHED_OTHER as u32 {
        return;
    }
    (attributes.size, attributes.sched_runtime) = (size, SLICE_NS);
    // SAFETY: the kernel only reads `attributes`, and keeps no pointer.
    unsafe { libc::syscall(libc::SYS_sched_setattr, this, &raw const attributes, 0) };
}

/// Goes on in a child that has left the terminal; the parent exits with success here. Only for a
/// process with a single thread.
pub fn go_to_background() -> io::Result<()> {
    // SAFETY: called before any thread is started, so the child, which has a copy of this thread
    // alone, has no lock held by a thread that is missing.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {}
        _ => std::process::exit(0),
    }
    rustix::process::setsid()?;
    let null = File::options().read(true).write(true).open("/dev/null")?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

/// Asks for descriptors for so many clients and event loops; how many clients are allowed.
pub fn allow_clients(n_clients: usize, n_loops: usize) -> usize {
    let reserved = RESERVED_DESCRIPTORS + n_loops as u64 * DESCRIPTORS_PER_LOOP;
    let wanted = n_clients as u64 + reserved;
    let limit = getrlimit(Resource::Nofile);
    let now = limit.current.unwrap_or(u64::MAX);
    if now >= wanted {
        return n_clients;
    }
    let ask = |current: u64| {
        let maximum = limit.maximum.map(|maximum| maximum.max(current));
        let current = Some(current);
        setrlimit(Resource::Nofile, Rlimit { current, maximum }).is_ok()
    };
    let allowed = match limit.maximum {
        _ if ask(wanted) => wanted,
        Some(maximum) if maximum > now && ask(maximum) => maximum,
        _ => now,
    };
    usize::try_from(allowed.saturating_sub(reserved)).unwrap_or(n_clients)
}

/// Where the program's files are mapped and hold nothing but what is in the file: code and constants.
#[derive(Debug, Default)]
pub struct ProgramPages(Vec<(usize, usize)>);

impl ProgramPages {
    /// Those of now. To be asked before there are threads, so that what is found stays where it is: a
    /// library that is loaded meanwhile may be half of what it will be.
    pub fn find() -> ProgramPages {
        let mut found = ProgramPages::default();
        let Ok(file) = File::open("/proc/self/smaps") else {
            return found;
        };
        // Line by line: the whole text would take more than is given back.
        let mut lines = BufReader::with_capacity(4096, file);
        let mut line = String::with_capacity(256);
        let mut range = None;
        while lines.read_line(&mut line).is_ok_and(|n| n > 0) {
            let mut words = line.split_ascii_whitespace();
            match (words.next(), words.next()) {
                (Some("Anonymous:"), Some(n)) if n != "0" => range = None,
                (Some("Swap:"), Some("0")) => found.0.extend(range.take()),
                (Some(bounds), Some("r-xp" | "r--p")) => {
                    let is_file = words.nth(3).is_some_and(|path| path.starts_with('/'));
                    range = bounds_of(bounds).filter(|_| is_file);
                }
                (Some(_), Some(access)) if access.ends_with('p') => range = None,
                _ => {}
            }
            line.clear();
        }
        found
    }

    /// Gives them back. Most of them only start-up needed; what is needed again is mapped again from the
    /// page cache. A server at rest so weighs what it runs, not what it once ran.
    pub fn forget(&self) {
        for (from, to) in &self.0 {
            let pages = std::ptr::with_exposed_provenance_mut(*from);
            // SAFETY: a private mapping of a file of the program, which stays for as long as the process
            // lives; nobody may write to it, and nobody had written to it: its pages are those of the
            // file before and after.
            let _ = unsafe { rustix::mm::madvise(pages, to - from, Advice::LinuxDontNeed) };
        }
    }
}

/// `from-to` in hexadecimal digits.
fn bounds_of(range: &str) -> Option<(usize, usize)> {
    let (from, to) = range.split_once('-')?;
    let bound = |digits| usize::from_str_radix(digits, 16).ok();
    Some((bound(from)?, bound(to)?))
}

/// Keeps the kernel from backing this process with huge pages.
pub fn refuse_huge_pages() -> io::Result<()> {
    Ok(rustix::thread::disable_transparent_huge_pages(true)?)
}

#[cfg(test)]
mod tests {
    use super::{LocalTime, allow_clients, local_time};

    #[test]
    fn a_moment_has_a_date() {
        let LocalTime {
            year, month, day, ..
        } = local_time(1_700_000_000);
        assert_eq!((year, month), (2023, 10));
        assert!((14..=15).contains(&day), "in any time zone");
    }

    #[test]
    fn no_more_clients_than_asked_for() {
        assert_eq!(allow_clients(10, 2), 10);
        assert!(allow_clients(100_000_000, 2) <= 100_000_000);
    }
}
