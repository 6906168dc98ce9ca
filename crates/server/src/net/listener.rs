//! The sockets that the server listens on: several TCP addresses, and a path.

use crate::config::Config;
use crate::error::reason;
use crate::io::sockets::{TcpPlace, backlog_max, listen_tcp, listen_unix};
use crate::io::stream::{Incoming, Stream};
use mio::event::Source;
use mio::net::{TcpListener, UnixListener};
use mio::{Interest, Registry, Token};
use std::io;

/// One listening socket.
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, String),
}

/// All of them; the token of each is its place.
#[derive(Default)]
pub struct Listeners {
    listeners: Vec<Listener>,
}

impl Listener {
    fn source(&mut self) -> &mut dyn Source {
        match self {
            Listener::Tcp(listener) => listener,
            Listener::Unix(listener, _) => listener,
        }
    }

    fn accept(&self) -> io::Result<Incoming> {
        match self {
            Listener::Tcp(listener) => {
                let (stream, address) = listener.accept()?;
                let local = stream.local_addr()?;
                Ok(Incoming {
                    stream: Stream::Tcp(stream),
                    address: address.to_string(),
                    local_address: local.to_string(),
                    is_local: address.ip().to_canonical().is_loopback(),
                })
            }
            Listener::Unix(listener, path) => {
                let (stream, _) = listener.accept()?;
                Ok(Incoming {
                    stream: Stream::Unix(stream),
                    address: format!("{path}:0"),
                    local_address: format!("{path}:0"),
                    is_local: true,
                })
            }
        }
    }
}

impl Listeners {
    /// Opens everything that the directives name. The error is for the operator.
    pub fn open(config: &Config, registry: &Registry) -> Result<Listeners, String> {
        let mut listeners = Listeners::default();
        let (port, backlog) = (config.port(), config.tcp_backlog());
        if let Some(max) = backlog_max().filter(|max| *max < backlog) {
            log::warn!(
                "WARNING: tcp-backlog {backlog} has no full effect: \
                 /proc/sys/net/core/somaxconn is {max}"
            );
        }
        if !listeners.open_tcp(config, registry) {
            return Err(format!("Failed listening on port {port} (tcp), aborting."));
        }
        if let Some(path) = config.unix_socket() {
            let group = config.unix_socket_group();
            let access = (config.unix_socket_permissions(), group.as_deref());
            let listener = listen_unix(&path, access, backlog);
            let added = listener.and_then(|listener| {
                listeners.add(Listener::Unix(listener, path.clone()), registry)
            });
            if let Err(error) = added {
                return Err(format!("Failed opening Unix socket {path}: {}", reason(&error)));
            }
        }
        if listeners.listeners.is_empty() {
            return Err("Configured to not listen anywhere, exiting.".to_owned());
        }
        Ok(listeners)
    }

    /// Leaves all TCP addresses and listens on those that the directives name now. False if it
    /// cannot listen on all of them; then it listens on none.
    pub fn reopen_tcp(&mut self, config: &Config, registry: &Registry) -> bool {
        let is_unix = |listener: &Listener| matches!(listener, Listener::Unix(..));
        let mut old = std::mem::take(&mut self.listeners);
        for listener in &mut old {
            // It is closed right after, or registered anew.
            let _ = registry.deregister(listener.source());
        }
        let kept: Vec<Listener> = old.into_iter().filter(is_unix).collect();
        for listener in kept {
            if let Err(error) = self.add(listener, registry) {
                log::warn!("Lost the Unix socket: {}", reason(&error));
            }
        }
        self.open_tcp(config, registry)
    }

    fn open_tcp(&mut self, config: &Config, registry: &Registry) -> bool {
        if config.port() == 0 {
            return true;
        }
        let place = TcpPlace {
            hosts: &config.bind(),
            port: config.port(),
            backlog: config.tcp_backlog(),
        };
        let Ok(opened) = listen_tcp(&place) else {
            return false;
        };
        opened
            .into_iter()
            .all(|listener| self.add(Listener::Tcp(listener), registry).is_ok())
    }

    fn add(&mut self, mut listener: Listener, registry: &Registry) -> io::Result<()> {
        let token = Token(self.listeners.len());
        registry.register(listener.source(), token, Interest::READABLE)?;
        self.listeners.push(listener);
        Ok(())
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.listeners.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.listeners.is_empty()
    }

    /// Takes a connection that waits at the listener number `idx`.
    pub fn accept(&self, idx: usize) -> Option<io::Result<Incoming>> {
        Some(self.listeners.get(idx)?.accept())
    }

    /// Where connections are accepted, for the log.
    pub fn announce(&self) {
        let (mut tcp, mut unix) = (Vec::new(), Vec::new());
        for listener in &self.listeners {
            match listener {
                Listener::Tcp(listener) => {
                    let address = listener.local_addr().ok();
                    tcp.extend(address.map(|address| address.to_string()));
                }
                Listener::Unix(_, path) => unix.push(path.clone()),
            }
        }
        for (kind, places) in [("tcp", tcp), ("unix", unix)] {
            if !places.is_empty() {
                log::info!("Ready to accept connections {kind} on {}", places.join(" "));
            }
        }
    }

    /// Removes the socket's path.
    pub fn close(self) {
        for listener in &self.listeners {
            if let Listener::Unix(_, path) = listener {
                log::info!("Removing the unix socket file.");
                if let Err(error) = std::fs::remove_file(path) {
                    log::warn!("Could not remove {path}: {}", reason(&error));
                }
            }
        }
    }
}
