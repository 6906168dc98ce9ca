//! One connection's state, as commands see it.

use resp::reply::Proto;

/// See the top of the file.
#[derive(Debug)]
pub struct Session {
    /// CLIENT ID.
    pub id: u64,
    /// The database chosen by SELECT.
    pub database: u16,
    /// The protocol chosen by HELLO.
    pub proto: Proto,
    /// Whether AUTH succeeded, or was not needed.
    pub is_authenticated: bool,
    /// CLIENT SETNAME.
    pub name: Vec<u8>,
    /// CLIENT SETINFO: library name and version.
    pub library: (Vec<u8>, Vec<u8>),
    /// Close once the replies so far are sent.
    pub is_closing: bool,
    /// Whether the other side is on this machine.
    pub is_local: bool,
    /// The other side's address.
    pub address: String,
}
