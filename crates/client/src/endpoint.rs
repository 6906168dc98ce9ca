//! Where a server listens and how to log in: host and port, a socket path, or a `redis://` URI.

use std::fmt;
use std::path::PathBuf;

/// The address of a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Endpoint {
    /// A name or address, and a port.
    Tcp {
        /// Host name, IPv4 or IPv6 address without brackets.
        host: String,
        /// TCP port.
        port: u16,
    },
    /// The path of a unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Endpoint::Tcp { host, port } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Endpoint::Tcp { host, port } => write!(f, "{host}:{port}"),
            Endpoint::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What `AUTH` is sent with.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Login {
    /// The user; the default user if absent.
    pub user: Option<Vec<u8>>,
    /// The password.
    pub password: Vec<u8>,
}

/// A parsed `redis://[[user]:password@][host][:port][/db]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Uri {
    /// The host part, if any.
    pub host: Option<String>,
    /// The port, if any.
    pub port: Option<u16>,
    /// The credentials, if any.
    pub login: Option<Login>,
    /// The database number, if any.
    pub database: Option<i64>,
}

/// Why a text is no URI of a server that can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UriError {
    /// Neither `redis://` nor `valkey://`.
    Scheme,
    /// `rediss://` or `valkeys://`.
    Tls,
    /// The port is no number up to 65535.
    Port,
    /// The path is no database number.
    Database,
}

impl fmt::Display for UriError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            UriError::Scheme => "Invalid URI scheme",
            UriError::Tls => "TLS is not supported in this version; use redis://",
            UriError::Port => "Invalid port in URI",
            UriError::Database => "Invalid database number in URI",
        })
    }
}

impl std::error::Error for UriError {}

impl Uri {
    /// Parses a URI; user and password are percent-decoded.
    pub fn parse(text: &str) -> Result<Uri, UriError> {
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(UriError::Scheme);
        };
        match scheme {
            "redis" | "valkey" => {}
            "rediss" | "valkeys" => return Err(UriError::Tls),
            _ => return Err(UriError::Scheme),
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (login, address) = match authority.rsplit_once('@') {
            Some((login, address)) => (Some(parse_login(login)), address),
            None => (None, authority),
        };
        let (host, port) = split_port(address);
        let port = match port {
            "" => None,
            text => Some(text.parse().map_err(|_| UriError::Port)?),
        };
        let database = match path.split('?').next().unwrap_or_default() {
            "" => None,
            text => Some(text.parse().map_err(|_| UriError::Database)?),
        };
        let host = (!host.is_empty()).then(|| host.to_string());
        Ok(Uri {
            host,
            port,
            login,
            database,
        })
    }
}

fn split_port(address: &str) -> (&str, &str) {
    if let Some((host, port)) = address
        .strip_prefix('[')
        .and_then(|rest| rest.split_once(']'))
    {
        return (host, port.strip_prefix(':').unwrap_or(port));
    }
    address.split_once(':').unwrap_or((address, ""))
}

fn parse_login(text: &str) -> Login {
    match text.split_once(':') {
        Some((user, password)) => {
            let user = (!user.is_empty()).then(|| decode_percent(user));
            Login {
                user,
                password: decode_percent(password),
            }
        }
        None => Login {
            user: None,
            password: decode_percent(text),
        },
    }
}

fn decode_percent(text: &str) -> Vec<u8> {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = text
            .get(at + 1..at + 3)
            .and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match (bytes[at], code) {
            (b'%', Some(byte)) => {
                out.push(byte);
                at += 3;
            }
            (byte, _) => {
                out.push(byte);
                at += 1;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uris() {
        let uri = Uri::parse("redis://bob:p%40ss@example.org:7000/3").unwrap();
        assert_eq!(uri.host.as_deref(), Some("example.org"));
        assert_eq!((uri.port, uri.database), (Some(7000), Some(3)));
        let login = Login {
            user: Some(b"bob".to_vec()),
            password: b"p@ss".to_vec(),
        };
        assert_eq!(uri.login, Some(login));

        let uri = Uri::parse("redis://:secret@[::1]").unwrap();
        assert_eq!((uri.host.as_deref(), uri.port), (Some("::1"), None));
        assert_eq!(
            uri.login,
            Some(Login {
                user: None,
                password: b"secret".to_vec()
            })
        );

        let uri = Uri::parse("valkey://").unwrap();
        assert_eq!(
            uri,
            Uri {
                host: None,
                port: None,
                login: None,
                database: None
            }
        );
    }

    #[test]
    fn refused_uris() {
        assert_eq!(Uri::parse("http://x"), Err(UriError::Scheme));
        assert_eq!(Uri::parse("x:6379"), Err(UriError::Scheme));
        assert_eq!(Uri::parse("rediss://x"), Err(UriError::Tls));
        assert_eq!(Uri::parse("redis://x:port"), Err(UriError::Port));
        assert_eq!(Uri::parse("redis://x/db"), Err(UriError::Database));
    }
}
