//! A connection's socket, of either family.

use mio::event::Source;
use mio::net::{TcpStream, UnixStream};
use mio::{Interest, Registry, Token};
use rustix::buffer::spare_capacity;
use rustix::io::ioctl_fionread;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::AsRawFd;

/// See the top of the file.
#[derive(Debug)]
pub enum Stream {
    /// Over TCP.
    Tcp(TcpStream),
    /// Over a socket in the file system.
    Unix(UnixStream),
}

/// A connection that was accepted and has no event loop yet.
#[derive(Debug)]
pub struct Incoming {
    /// Its socket.
    pub stream: Stream,
    /// The other side as CLIENT LIST shows it: `127.0.0.1:5000`, `[::1]:5000`, `/tmp/socket:0`.
    pub address: String,
    /// This side, likewise.
    pub local_address: String,
    /// Whether the other side is on this machine.
    pub is_local: bool,
}

impl Stream {
    /// The number that the system knows it by.
    pub fn number(&self) -> i32 {
        match self {
            Stream::Tcp(stream) => stream.as_raw_fd(),
            Stream::Unix(stream) => stream.as_raw_fd(),
        }
    }

    /// Reads once into what is allocated behind `buffer`.
    pub fn read_behind(&self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        Ok(match self {
            Stream::Tcp(stream) => rustix::io::read(stream, spare_capacity(buffer)),
            Stream::Unix(stream) => rustix::io::read(stream, spare_capacity(buffer)),
        }?)
    }

    /// Bytes that have come and not been read, as far as the system tells.
    pub fn waiting_bytes(&self) -> usize {
        let waiting = match self {
            Stream::Tcp(stream) => ioctl_fionread(stream),
            Stream::Unix(stream) => ioctl_fionread(stream),
        };
        waiting.map_or(0, |n| n as usize)
    }
}

impl Read for Stream {
    #[inline]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(buffer),
            Stream::Unix(stream) => stream.read(buffer),
        }
    }
}

impl Write for Stream {
    #[inline]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write_vectored(parts),
            Stream::Unix(stream) => stream.write_vectored(parts),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Stream {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => stream,
        }
    }
}

impl Source for Stream {
    fn register(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.source().register(to, token, interest)
    }

    fn reregister(&mut self, to: &Registry, token: Token, interest: Interest) -> io::Result<()> {
        self.source().reregister(to, token, interest)
    }

    fn deregister(&mut self, from: &Registry) -> io::Result<()> {
        self.source().deregister(from)
    }
}
