//! What the system knows of this process: memory and CPU time.

use std::fs;

/// Memory and CPU time of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct ProcessUsage {
    /// Resident memory.
    pub rss_bytes: u64,
    /// Of that, what is no file's: heap and stacks.
    pub anonymous_bytes: u64,
    /// CPU time in user code.
    pub cpu_user_s: f64,
    /// CPU time in the kernel.
    pub cpu_system_s: f64,
}

impl ProcessUsage {
    /// Reads the figures of this moment; `None` where the system does not tell.
    pub fn read() -> Option<ProcessUsage> {
        let pages = fs::read_to_string("/proc/self/statm").ok()?;
        let mut pages = pages
            .split(' ')
            .skip(1)
            .map_while(|n| n.parse::<u64>().ok());
        let (resident, shared) = (pages.next()?, pages.next()?);
        let page_bytes = rustix::param::page_size() as u64;
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field, the program's name, may hold blanks and ends with the last parenthesis.
        let mut after_name = stat[stat.rfind(')')? + 1..]
            .split_ascii_whitespace()
            .skip(11);
        let mut ticks = || after_name.next()?.parse::<f64>().ok();
        let per_second = rustix::param::clock_ticks_per_second() as f64;
        Some(ProcessUsage {
            rss_bytes: resident * page_bytes,
            anonymous_bytes: resident.saturating_sub(shared) * page_bytes,
            cpu_user_s: ticks()? / per_second,
            cpu_system_s: ticks()? / per_second,
        })
    }
}

/// The memory of this machine.
pub fn total_system_memory_bytes() -> u64 {
    let info = rustix::system::sysinfo();
    info.totalram as u64 * u64::from(info.mem_unit)
}

/// System, release and machine, as `uname` tells them.
pub fn system_name() -> String {
    let name = rustix::system::uname();
    let parts = [name.sysname(), name.release(), name.machine()];
    parts
        .map(|part| part.to_string_lossy().into_owned())
        .join(" ")
}
