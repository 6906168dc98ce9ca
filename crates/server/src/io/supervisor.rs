//! Tells the supervisor that started this process when it is ready and when it stops.
//!
//! systemd listens on a datagram socket (`NOTIFY_SOCKET`) for lines of `NAME=value`. upstart waits
//! for the process to stop itself.

use crate::config::live::Supervised;
use std::env;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};

/// Whoever supervises this process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervisor {
    /// Nobody that wants to be told.
    None,
    /// systemd.
    Systemd,
    /// upstart.
    Upstart,
}

impl Supervisor {
    /// Finds out, as the directive says and the environment shows.
    pub fn find(asked: Supervised) -> Supervisor {
        let (has_systemd, has_upstart) =
            (env::var_os("NOTIFY_SOCKET").is_some(), env::var_os("UPSTART_JOB").is_some());
        match asked {
            Supervised::No => Supervisor::None,
            Supervised::Auto if has_upstart => Supervisor::Upstart,
            Supervised::Auto if has_systemd => Supervisor::Systemd,
            Supervised::Auto => Supervisor::None,
            Supervised::Systemd if has_systemd => Supervisor::Systemd,
            Supervised::Systemd => {
                log::warn!("systemd supervision requested, but NOTIFY_SOCKET is not set");
                Supervisor::None
            }
            Supervised::Upstart if has_upstart => Supervisor::Upstart,
            Supervised::Upstart => {
                log::warn!("upstart supervision requested, but UPSTART_JOB is not set");
                Supervisor::None
            }
        }
    }

    /// As INFO names it.
    pub const fn name(self) -> &'static str {
        match self {
            Supervisor::None => "no",
            Supervisor::Systemd => "systemd",
            Supervisor::Upstart => "upstart",
        }
    }

    /// The server accepts connections.
    pub fn ready(self) {
        match self {
            Supervisor::None => {}
            Supervisor::Systemd => tell("STATUS=Ready to accept connections\nREADY=1\n"),
            Supervisor::Upstart => {
                log::info!("supervised by upstart, will stop to signal readiness");
                let process = rustix::process::getpid();
                if let Err(error) =
                    rustix::process::kill_process(process, rustix::process::Signal::STOP)
                {
                    log::warn!("Could not stop for upstart: {error}");
                }
            }
        }
    }

    /// The server is about to exit.
    pub fn stopping(self) {
        if self == Supervisor::Systemd {
            tell("STOPPING=1\n");
        }
    }
}

fn tell(text: &str) {
    if let Err(error) = send(text) {
        log::warn!("Could not tell systemd '{}': {error}", text.trim_end());
    }
}

fn send(text: &str) -> io::Result<()> {
    let name = env::var("NOTIFY_SOCKET").unwrap_or_default();
    let address = match name.strip_prefix('@') {
        Some(name) => SocketAddr::from_abstract_name(name)?,
        None => SocketAddr::from_pathname(&name)?,
    };
    UnixDatagram::unbound()?.send_to_addr(text.as_bytes(), &address)?;
    Ok(())
}
