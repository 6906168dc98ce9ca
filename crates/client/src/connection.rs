//! One connection: commands out, values in, in order.
//!
//! `send` only buffers; `flush` or the next `receive` writes, so a pipeline is a loop of `send`
//! followed by a loop of `receive`. Out-of-band pushes of RESP3 come back from `receive` as they
//! arrive; `call` sets them aside in `pushes`.

use std::fmt;
use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use resp::decode::{DecodeError, Decoder, Value, append_command};

use crate::endpoint::{Endpoint, Login};

/// Commands buffered beyond this are written at once.
const OUT_MAX: usize = 1 << 20;
/// The size of one read.
const READ_BYTES: usize = 64 * 1024;

/// Why a command has no reply.
#[derive(Debug)]
pub enum Error {
    /// The system refused: connecting, a timeout, a reset.
    Io(io::Error),
    /// The server closed the connection.
    Closed,
    /// The server's bytes are no reply.
    Decode(DecodeError),
    /// The server answered with this error line.
    Refused(Vec<u8>),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Io(error) => f.write_str(&describe_io(error)),
            Error::Closed => f.write_str("Server closed the connection"),
            Error::Decode(error) => error.fmt(f),
            Error::Refused(line) => f.write_str(&String::from_utf8_lossy(line)),
        }
    }
}

impl std::error::Error for Error {}

impl From<io::Error> for Error {
    fn from(error: io::Error) -> Error {
        Error::Io(error)
    }
}

impl From<DecodeError> for Error {
    fn from(error: DecodeError) -> Error {
        Error::Decode(error)
    }
}

/// The system's message without the number that `io::Error` adds.
fn describe_io(error: &io::Error) -> String {
    let text = error.to_string();
    let end = text.find(" (os error").unwrap_or(text.len());
    match text[..end].strip_prefix("failed to lookup address information: ") {
        Some(reason) => reason.to_string(),
        None => text[..end].to_string(),
    }
}

/// The bytes of a connection, for who speaks another protocol over it: a replica's.
#[derive(Debug)]
pub enum Stream {
    /// Of a host and a port.
    Tcp(TcpStream),
    /// Of a path.
    Unix(UnixStream),
}

impl Stream {
    /// Connects; `timeout` bounds each attempt, and there is one per address of the host.
    pub fn open(endpoint: &Endpoint, timeout: Option<Duration>) -> Result<Stream, Error> {
        Ok(match endpoint {
            Endpoint::Tcp { host, port } => Stream::Tcp(connect_tcp(host, *port, timeout)?),
            Endpoint::Unix(path) => Stream::Unix(UnixStream::connect(path)?),
        })
    }

    /// Bounds every later read and write; `None` waits for ever.
    pub fn set_timeouts(&self, read: Option<Duration>, write: Option<Duration>) -> io::Result<()> {
        match self {
            Stream::Tcp(stream) => {
                stream.set_read_timeout(read)?;
                stream.set_write_timeout(write)
            }
            Stream::Unix(stream) => {
                stream.set_read_timeout(read)?;
                stream.set_write_timeout(write)
            }
        }
    }
}

impl Read for Stream {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.read(room),
            Stream::Unix(stream) => stream.read(room),
        }
    }
}

impl Write for Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Tcp(stream) => stream.write(bytes),
            Stream::Unix(stream) => stream.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // nothing is kept back
    }
}

/// A connection to a server.
pub struct Connection {
    stream: Stream,
    out: Vec<u8>,
    decoder: Decoder,
    chunk: Box<[u8]>,
    /// Out-of-band messages that arrived while `call` waited for its reply.
    pub pushes: Vec<Value>,
}

impl Connection {
    /// Connects; `timeout` bounds each attempt, and there is one per address of the host.
    pub fn open(endpoint: &Endpoint, timeout: Option<Duration>) -> Result<Connection, Error> {
        Ok(Connection {
            stream: Stream::open(endpoint, timeout)?,
            out: Vec::new(),
            decoder: Decoder::default(),
            chunk: vec![0; READ_BYTES].into_boxed_slice(),
            pushes: Vec::new(),
        })
    }

    /// Bounds every later read and write; `None` waits for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) -> Result<(), Error> {
        Ok(self.stream.set_timeouts(timeout, timeout)?)
    }

    /// Buffers a command, writing only if much has gathered.
    pub fn send(&mut self, args: &[impl AsRef<[u8]>]) -> Result<(), Error> {
        append_command(&mut self.out, args);
        if self.out.len() >= OUT_MAX {
            self.flush()
        } else {
            Ok(())
        }
    }

    /// Buffers bytes as they are, for tests of the protocol itself.
    pub fn send_raw(&mut self, bytes: &[u8]) {
        self.out.extend_from_slice(bytes);
    }

    /// Writes what is buffered.
    pub fn flush(&mut self) -> Result<(), Error> {
        self.stream.write_all(&self.out)?;
        self.out.clear();
        Ok(())
    }

    /// Forgets what is buffered, so that what the server has said can be read after a write failed.
    pub fn forget_unsent(&mut self) {
        self.out.clear();
    }

    /// The next reply or push, waiting for it.
    pub fn receive(&mut self) -> Result<Value, Error> {
        if !self.out.is_empty() {
            self.flush()?;
        }
        loop {
            if let Some(value) = self.decoder.next_value()? {
                return Ok(value);
            }
            match self.stream.read(&mut self.chunk) {
                Ok(0) => return Err(Error::Closed),
                Ok(n) => self.decoder.feed(&self.chunk[..n]),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Sends one command and waits for its reply, an error reply included.
    pub fn call(&mut self, args: &[impl AsRef<[u8]>]) -> Result<Value, Error> {
        self.send(args)?;
        self.reply()
    }

    /// Sends commands in one go and waits for all replies.
    pub fn pipeline(&mut self, commands: &[Vec<Vec<u8>>]) -> Result<Vec<Value>, Error> {
        for args in commands {
            append_command(&mut self.out, args);
        }
        commands.iter().map(|_| self.reply()).collect()
    }

    /// `AUTH`; an error reply is `Error::Refused`.
    pub fn authenticate(&mut self, login: &Login) -> Result<(), Error> {
        let mut args: Vec<&[u8]> = vec![b"AUTH"];
        args.extend(login.user.as_deref());
        args.push(&login.password);
        self.expect_success(&args)
    }

    /// `SELECT`; an error reply is `Error::Refused`.
    pub fn select(&mut self, database: i64) -> Result<(), Error> {
        self.expect_success(&["SELECT", &database.to_string()])
    }

    /// `HELLO` with a protocol version; an error reply is `Error::Refused`.
    pub fn hello(&mut self, version: u8) -> Result<(), Error> {
        self.expect_success(&["HELLO", &version.to_string()])
    }

    fn expect_success(&mut self, args: &[impl AsRef<[u8]>]) -> Result<(), Error> {
        match self.call(args)? {
            Value::Error(line) => Err(Error::Refused(line)),
            _ => Ok(()),
        }
    }

    fn reply(&mut self) -> Result<Value, Error> {
        loop {
            match self.receive()? {
                push @ Value::Push(_) => self.pushes.push(push),
                value => return Ok(value),
            }
        }
    }
}

fn connect_tcp(host: &str, port: u16, timeout: Option<Duration>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(io::ErrorKind::NotFound, "Name has no address");
    for address in (host, port).to_socket_addrs()? {
        let attempt = match timeout {
            Some(timeout) => TcpStream::connect_timeout(&address, timeout),
            None => TcpStream::connect(address),
        };
        match attempt {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// A server that reads until `expected` has arrived, then answers.
    fn serve(expected: &'static [u8], answer: &'static [u8]) -> Endpoint {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut got = vec![0; expected.len()];
            stream.read_exact(&mut got).unwrap();
            assert_eq!(got, expected);
            stream.write_all(answer).unwrap();
        });
        Endpoint::Tcp {
            host: "127.0.0.1".into(),
            port,
        }
    }

    #[test]
    fn a_pipeline_is_written_once_and_pushes_are_set_aside() {
        let ping = b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPING\r\n";
        let endpoint = serve(ping, b"+PONG\r\n>1\r\n+x\r\n+PONG\r\n");
        let mut connection = Connection::open(&endpoint, None).unwrap();
        let commands = vec![vec![b"PING".to_vec()]; 2];
        let pong = Value::Simple(b"PONG".to_vec());
        assert_eq!(connection.pipeline(&commands).unwrap(), [pong.clone(), pong]);
        assert_eq!(connection.pushes, [Value::Push(vec![Value::Simple(b"x".to_vec())])]);
        assert!(matches!(connection.receive(), Err(Error::Closed)));
    }

    #[test]
    fn a_refused_login_carries_the_error_line() {
        let auth = b"*3\r\n$4\r\nAUTH\r\n$1\r\nu\r\n$1\r\np\r\n";
        let endpoint = serve(auth, b"-WRONGPASS no\r\n");
        let mut connection = Connection::open(&endpoint, None).unwrap();
        let login = Login {
            user: Some(b"u".to_vec()),
            password: b"p".to_vec(),
        };
        let error = connection.authenticate(&login).unwrap_err();
        assert_eq!(error.to_string(), "WRONGPASS no");
    }

    #[test]
    fn a_silent_server_times_out() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let endpoint = Endpoint::Tcp {
            host: "127.0.0.1".into(),
            port,
        };
        let mut connection = Connection::open(&endpoint, Some(Duration::from_secs(1))).unwrap();
        connection
            .set_timeout(Some(Duration::from_millis(20)))
            .unwrap();
        assert!(matches!(connection.call(&["PING"]), Err(Error::Io(_))));
    }
}
