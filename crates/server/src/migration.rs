//! MIGRATE's side of the network: keys as payloads to another server, which restores them.
//!
//! Everything here may take as long as the target likes, up to the timeout of the request, so it runs in
//! a thread of `errands` and under no lock of the data. Connections are kept for some seconds, each for
//! one target and one login.

use std::io::{self, BufWriter, ErrorKind, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use resp::decode::{Decoder, Value};

/// Connections that are kept at most.
const KEPT_MAX: usize = 64;
/// How long one is kept that nobody uses.
const KEPT_FOR: Duration = Duration::from_secs(10);
/// Bytes of one read.
const READ_BYTES: usize = 16 * 1024;

/// Who the target is told we are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Login {
    /// AUTH2 names a user.
    pub user: Option<Vec<u8>>,
    /// His password.
    pub password: Vec<u8>,
}

/// Where keys go.
#[derive(Clone, Debug)]
pub struct Target {
    /// A name or a number.
    pub host: String,
    /// The port, as it was given.
    pub port: String,
    /// The database.
    pub database: i64,
    /// How long one step may take.
    pub timeout: Duration,
    /// See [`Login`].
    pub login: Option<Login>,
    /// Keys that are there go.
    pub replaces: bool,
}

/// A key on its way.
#[derive(Debug)]
pub struct Parcel {
    /// Its name.
    pub key: Vec<u8>,
    /// Its value, as DUMP gives it.
    pub payload: Vec<u8>,
    /// Milliseconds it has left; 0 if it has no deadline.
    pub left_ms: u64,
}

/// Why not all keys have arrived.
#[derive(Debug)]
pub enum Failure {
    /// There is no connection.
    Connecting,
    /// It broke, or took too long, while the requests were sent.
    Writing,
    /// The same while the replies were awaited.
    Reading,
    /// The first error that the target answered.
    Refused(String),
}

/// What has become of the keys.
#[derive(Debug)]
pub struct Delivery {
    /// For each, whether the target has it.
    pub taken: Vec<bool>,
    /// Why that is not so of all.
    pub failure: Option<Failure>,
}

struct Link {
    stream: TcpStream,
    host: String,
    port: String,
    login: Option<Login>,
    /// The database that is selected, if that is certain.
    database: Option<i64>,
    used: Instant,
    /// It is not to be used again.
    is_spent: bool,
}

/// The connections that are kept.
#[derive(Default)]
pub struct Migration {
    kept: Mutex<Vec<Link>>,
}

impl Migration {
    /// How many connections are kept.
    pub fn n_kept(&self) -> usize {
        self.kept.lock().len()
    }

    /// Closes connections that nobody has used for some time; whether any are left.
    pub fn look_after(&self) -> bool {
        let mut kept = self.kept.lock();
        kept.retain(|link| link.used.elapsed() < KEPT_FOR);
        !kept.is_empty()
    }

    /// Sends keys and waits for what becomes of them.
    pub fn send(&self, target: &Target, parcels: &[Parcel]) -> Delivery {
        let failed = |failure| Delivery {
            taken: vec![false; parcels.len()],
            failure: Some(failure),
        };
        let broken = |broken: Broken| Delivery {
            taken: broken.taken,
            failure: Some(match broken.is_written {
                false => Failure::Writing,
                true => Failure::Reading,
            }),
        };
        if let Some(mut link) = self.take(target) {
            match link.exchange(target, parcels) {
                Ok(delivery) => {
                    self.keep(link);
                    return delivery;
                }
                Err(how) if how.is_late || how.taken.contains(&true) => return broken(how),
                Err(_) => {} // the target has closed it, perhaps
            }
        }
        let Ok(mut link) = Link::open(target) else {
            return failed(Failure::Connecting);
        };
        match link.exchange(target, parcels) {
            Ok(delivery) => {
                self.keep(link);
                delivery
            }
            Err(how) => broken(how),
        }
    }

    fn take(&self, target: &Target) -> Option<Link> {
        let mut kept = self.kept.lock();
        let place = kept.iter().position(|link| {
            link.host == target.host && link.port == target.port && link.login == target.login
        })?;
        Some(kept.swap_remove(place))
    }

    fn keep(&self, mut link: Link) {
        if link.is_spent {
            return;
        }
        link.used = Instant::now();
        let mut kept = self.kept.lock();
        if kept.len() >= KEPT_MAX {
            let oldest = (0..kept.len()).min_by_key(|at| kept[*at].used);
            oldest.map(|at| kept.swap_remove(at));
        }
        kept.push(link);
    }
}

/// The connection broke.
struct Broken {
    is_written: bool,
    /// Because of the timeout.
    is_late: bool,
    taken: Vec<bool>,
}

fn is_timeout(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut)
}

impl Link {
    fn open(target: &Target) -> io::Result<Link> {
        let port: u16 = target.port.parse().map_err(|_| ErrorKind::InvalidInput)?;
        let mut failure = io::Error::from(ErrorKind::AddrNotAvailable);
        for address in (&target.host[..], port).to_socket_addrs()? {
            match TcpStream::connect_timeout(&address, target.timeout) {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(Link {
                        stream,
                        host: target.host.clone(),
                        port: target.port.clone(),
                        login: target.login.clone(),
                        database: None,
                        used: Instant::now(),
                        is_spent: false,
                    });
                }
                Err(error) => failure = error,
            }
        }
        Err(failure)
    }

    fn exchange(&mut self, target: &Target, parcels: &[Parcel]) -> Result<Delivery, Broken> {
        let mut taken = vec![false; parcels.len()];
        let n_before = match self.write(target, parcels) {
            Ok(n_before) => n_before,
            Err(error) => {
                return Err(Broken {
                    is_written: false,
                    is_late: is_timeout(&error),
                    taken,
                });
            }
        };
        let mut replies = Replies {
            stream: &self.stream,
            decoder: Decoder::default(),
        };
        let mut failure: Option<String> = None;
        for at in 0..n_before + parcels.len() {
            let refusal = match replies.next() {
                Ok(refusal) => refusal,
                Err(error) => {
                    return Err(Broken {
                        is_written: true,
                        is_late: is_timeout(&error),
                        taken,
                    });
                }
            };
            if refusal.is_some() && at < n_before {
                // Without login and database keys are not where they should be: the connection goes.
                self.is_spent = true;
                failure = refusal;
                break;
            }
            if let Some(place) = at.checked_sub(n_before) {
                taken[place] = refusal.is_none();
            }
            failure = failure.or(refusal);
        }
        self.database = Some(target.database).filter(|_| failure.is_none());
        Ok(Delivery {
            taken,
            failure: failure.map(Failure::Refused),
        })
    }

    /// Writes all requests; how many there are before the keys.
    fn write(&mut self, target: &Target, parcels: &[Parcel]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(target.timeout))?;
        self.stream.set_read_timeout(Some(target.timeout))?;
        let mut out = BufWriter::new(&self.stream);
        let mut n_before = 0;
        if let Some(login) = &target.login {
            let mut words = vec![&b"AUTH"[..]];
            words.extend(login.user.as_deref());
            words.push(&login.password);
            write_request(&mut out, &words)?;
            n_before += 1;
        }
        if self.database != Some(target.database) {
            write_request(&mut out, &[b"SELECT", target.database.to_string().as_bytes()])?;
            n_before += 1;
        }
        for parcel in parcels {
            let left_ms = parcel.left_ms.to_string();
            let words = [
                b"RESTORE",
                &parcel.key[..],
                left_ms.as_bytes(),
                &parcel.payload,
                b"REPLACE",
            ];
            let n_words = if target.replaces { 5 } else { 4 };
            write_request(&mut out, &words[..n_words])?;
        }
        out.flush()?;
        Ok(n_before)
    }
}

fn write_request(out: &mut impl Write, words: &[&[u8]]) -> io::Result<()> {
    write!(out, "*{}\r\n", words.len())?;
    for word in words {
        write!(out, "${}\r\n", word.len())?;
        out.write_all(word)?;
        out.write_all(b"\r\n")?;
    }
    Ok(())
}

struct Replies<'a> {
    stream: &'a TcpStream,
    decoder: Decoder,
}

impl Replies<'_> {
    /// Waits for the next reply: the text of the error, if it is one.
    fn next(&mut self) -> io::Result<Option<String>> {
        loop {
            let value = self.decoder.next_value();
            match value.map_err(|_| ErrorKind::InvalidData)? {
                Some(Value::Error(line)) => {
                    return Ok(Some(String::from_utf8_lossy(&line).into_owned()));
                }
                Some(_) => return Ok(None),
                None => {}
            }
            let mut chunk = [0; READ_BYTES];
            match self.stream.read(&mut chunk)? {
                0 => return Err(ErrorKind::UnexpectedEof.into()),
                n => self.decoder.feed(&chunk[..n]),
            }
        }
    }
}
