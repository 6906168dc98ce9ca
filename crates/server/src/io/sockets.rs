//! Listening sockets, and what is set on a connection's socket.

use crate::error::reason;
use mio::net::{TcpListener, UnixListener};
use rustix::io::Errno;
use socket2::{Domain, SockAddr, SockRef, Socket, TcpKeepalive, Type};
use std::fs::Permissions;
use std::io;
use std::net::{SocketAddr, TcpStream, ToSocketAddrs};
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

/// Where to listen for TCP.
pub struct TcpPlace<'a> {
    /// Addresses as `bind` has them: `*`, `::*`, a name, a number; `-` before one that may be absent.
    pub hosts: &'a [String],
    /// The port.
    pub port: u16,
    /// Connections that may wait to be accepted.
    pub backlog: i32,
}

/// Listens on every address, or on none. Logs each that cannot be had.
pub fn listen_tcp(place: &TcpPlace<'_>) -> io::Result<Vec<TcpListener>> {
    let mut listeners = Vec::new();
    for given in place.hosts {
        let (host, is_optional) = match given.strip_prefix('-') {
            Some(host) => (host, true),
            None => (&given[..], false),
        };
        match listen_at(host, place.port, place.backlog) {
            Ok(listener) => listeners.push(listener),
            Err(error) if is_optional && is_absent(&error) => {}
            Err(error) if is_unsupported(&error) => {}
            Err(error) => {
                let port = place.port;
                log::warn!(
                    "Warning: Could not create server TCP listening socket {host}:{port}: bind: {}",
                    reason(&error)
                );
                return Err(error);
            }
        }
    }
    Ok(listeners)
}

fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable || is_unsupported(error)
}

fn is_unsupported(error: &io::Error) -> bool {
    let code = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(
        code,
        Some(
            Errno::NOPROTOOPT
                | Errno::PROTONOSUPPORT
                | Errno::SOCKTNOSUPPORT
                | Errno::PFNOSUPPORT
                | Errno::AFNOSUPPORT
        )
    )
}

fn resolve(host: &str, port: u16) -> io::Result<SocketAddr> {
    let wants_v6 = host.contains(':');
    let host = match host {
        "*" => "0.0.0.0",
        "::*" => "::",
        other => other,
    };
    (host, port)
        .to_socket_addrs()?
        .find(|address| address.is_ipv6() == wants_v6)
        .ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Connects, from an address of this machine if one is given.
pub fn connect_from(
    source: Option<&str>,
    target: &SocketAddr,
    timeout: Duration,
) -> io::Result<TcpStream> {
    let Some(source) = source else {
        return TcpStream::connect_timeout(target, timeout);
    };
    let own = (source, 0)
        .to_socket_addrs()?
        .find(|own| own.is_ipv4() == target.is_ipv4());
    let own = own.ok_or(io::ErrorKind::AddrNotAvailable)?;
    let socket = Socket::new(Domain::for_address(*target), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&own.into())?;
    socket.connect_timeout(&(*target).into(), timeout)?;
    Ok(socket.into())
}

fn listen_at(host: &str, port: u16, backlog: i32) -> io::Result<TcpListener> {
    let address = resolve(host, port)?;
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

/// Listens at a path, which is made anew. `permissions` of 0 leaves those of the umask, and without a
/// `group` it is that of the process.
pub fn listen_unix(
    path: &str,
    (permissions, group): (u32, Option<&str>),
    backlog: i32,
) -> io::Result<UnixListener> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&SockAddr::unix(path)?)?;
    if let Some(group) = group {
        std::os::unix::fs::chown(path, None, Some(group_id(group)?))?;
    }
    if permissions != 0 {
        std::fs::set_permissions(path, Permissions::from_mode(permissions))?;
    }
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(UnixListener::from_std(socket.into()))
}

/// The number of a group that `/etc/group` names, or of which this is the number.
fn group_id(name: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let text = std::fs::read_to_string("/etc/group")?;
    let mut lines = text.lines().map(|line| line.split(':').collect::<Vec<_>>());
    let line = lines.find(|fields| fields.first() == Some(&name));
    let number = line.and_then(|fields| fields.get(2)?.parse().ok());
    number.ok_or_else(|| io::Error::other(format!("There is no group '{name}'")))
}

/// Sends at once, and after `keepalive_s` of silence (0 is never) asks whether the peer still is.
pub fn prepare_tcp(stream: &mio::net::TcpStream, keepalive_s: u64) {
    // A socket without these options still works.
    let _ = stream.set_nodelay(true);
    if keepalive_s > 0 {
        let keepalive = TcpKeepalive::new()
            .with_time(Duration::from_secs(keepalive_s))
            .with_interval(Duration::from_secs((keepalive_s / 3).max(1)))
            .with_retries(3);
        let _ = SockRef::from(stream).set_tcp_keepalive(&keepalive);
    }
}

/// The most connections that the kernel lets wait, if it tells.
pub fn backlog_max() -> Option<i32> {
    let text = std::fs::read_to_string("/proc/sys/net/core/somaxconn").ok()?;
    text.trim().parse().ok()
}
