//! Signals as something to poll.

use mio::net::UnixStream;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGXFSZ};
use signal_hook::low_level::pipe;
use signal_hook::{SigId, flag};
use std::io;
use std::sync::Arc;

/// The signals that ask the server to stop.
pub struct StopSignals {
    /// Readable after SIGTERM.
    pub terminate: UnixStream,
    /// Readable after SIGINT.
    pub interrupt: UnixStream,
    /// Holds a byte for each SIGINT; blocks.
    pub insistence: Option<std::os::unix::net::UnixStream>,
}

/// From here on SIGTERM and SIGINT are told of, and SIGHUP is ignored. So is SIGXFSZ: a file that may not grow
/// is an error of who writes. (SIGPIPE is ignored by every Rust program.)
pub fn watch() -> io::Result<StopSignals> {
    let (insistence, writer) = std::os::unix::net::UnixStream::pair()?;
    pipe::register(SIGINT, writer)?;
    flag::register(SIGHUP, Arc::default())?;
    flag::register(SIGXFSZ, Arc::default())?;
    Ok(StopSignals {
        terminate: readable_after(SIGTERM)?.1,
        interrupt: readable_after(SIGINT)?.1,
        insistence: Some(insistence),
    })
}

fn readable_after(signal: i32) -> io::Result<(SigId, UnixStream)> {
    let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
    reader.set_nonblocking(true)?;
    let id = pipe::register(signal, writer)?;
    Ok((id, UnixStream::from_std(reader)))
}
