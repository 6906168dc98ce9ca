//! Runs the transcripts of `tests/transcripts` against a server over sockets.
//!
//! The same files run within the process in the server's own tests; here they check that what we
//! hold our server to is what a reference server does. Each file begins on an emptied server with
//! new connections. Time passes by sleeping.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;
use std::{env, fs};

use client::connection::Connection;
use client::endpoint::Endpoint;
use client::transcript::{Peer, Transcript};
use resp::decode::Value;

/// A reply that takes longer will not come.
pub const REPLY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long another session's command may take to arrive when its reply is not awaited.
const SETTLE: Duration = Duration::from_millis(30);

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Check,
    Write,
    Fill,
}

/// Runs the task with its arguments.
pub fn run(args: Vec<String>) -> Result<(), String> {
    let (mut endpoint, mut mode, mut paths) = (None, Mode::Check, Vec::new());
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--against" => endpoint = Some(parse_endpoint(args.next())?),
            "--write" => mode = Mode::Write,
            "--fill" => mode = Mode::Fill,
            _ => paths.push(PathBuf::from(arg)),
        }
    }
    let endpoint = endpoint.ok_or("transcripts needs --against HOST:PORT")?;
    if paths.is_empty() {
        paths.push(default_folder());
    }
    let mut files = Vec::new();
    for path in &paths {
        collect(path, &mut files)?;
    }
    files.sort();
    let mut n_failed = 0;
    for file in &files {
        let n_mismatches = run_file(file, &endpoint, mode)?;
        n_failed += usize::from(n_mismatches > 0);
    }
    println!("{} transcripts, {n_failed} failed", files.len());
    if n_failed == 0 {
        Ok(())
    } else {
        Err(format!("{n_failed} transcripts failed"))
    }
}

fn default_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/transcripts")
}

pub fn parse_endpoint(text: Option<String>) -> Result<Endpoint, String> {
    let text = text.ok_or("--against needs HOST:PORT")?;
    let (host, port) = text.rsplit_once(':').ok_or("--against needs HOST:PORT")?;
    let port = port.parse().map_err(|_| format!("`{port}` is no port"))?;
    Ok(Endpoint::Tcp {
        host: host.to_string(),
        port,
    })
}

fn collect(path: &Path, files: &mut Vec<PathBuf>) -> Result<(), String> {
    if path.is_file() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let entries = fs::read_dir(path).map_err(|error| format!("{}: {error}", path.display()))?;
    for entry in entries.flatten() {
        let path = entry.path();
        if path.is_dir() || path.extension().is_some_and(|extension| extension == "txt") {
            collect(&path, files)?;
        }
    }
    Ok(())
}

/// Runs one file and prints what was otherwise; how many replies were.
fn run_file(file: &Path, endpoint: &Endpoint, mode: Mode) -> Result<usize, String> {
    let in_file = |error: &dyn std::fmt::Display| format!("{}: {error}", file.display());
    let text = fs::read_to_string(file).map_err(|error| in_file(&error))?;
    let transcript = Transcript::parse(&text).map_err(|error| in_file(&error))?;
    let mut peer = Server::emptied(endpoint).map_err(|error| in_file(&error))?;
    if mode != Mode::Check {
        let rewritten = transcript.rewrite(&mut peer, mode == Mode::Fill);
        if rewritten != text {
            fs::write(file, rewritten).map_err(|error| in_file(&error))?;
            println!("{}: written", file.display());
        }
        return Ok(0);
    }
    let mismatches = transcript.run(&mut peer);
    for mismatch in &mismatches {
        print!("{}: {mismatch}", file.display());
    }
    Ok(mismatches.len())
}

/// A server reached through one connection for each session of the transcript.
struct Server<'a> {
    endpoint: &'a Endpoint,
    sessions: HashMap<String, Session>,
}

struct Session {
    connection: Connection,
    is_waiting: bool,
}

impl<'a> Server<'a> {
    fn emptied(endpoint: &'a Endpoint) -> Result<Server<'a>, client::connection::Error> {
        let mut connection = Connection::open(endpoint, Some(REPLY_TIMEOUT))?;
        connection.call(&["FLUSHALL"])?;
        connection.call(&["SCRIPT", "FLUSH"])?;
        connection.call(&["CONFIG", "RESETSTAT"])?;
        Ok(Server {
            endpoint,
            sessions: HashMap::new(),
        })
    }

    fn session(&mut self, name: &str) -> Result<&mut Session, client::connection::Error> {
        if !self.sessions.contains_key(name) {
            let mut connection = Connection::open(self.endpoint, Some(REPLY_TIMEOUT))?;
            connection.set_timeout(Some(REPLY_TIMEOUT))?;
            self.sessions.insert(
                name.to_string(),
                Session {
                    connection,
                    is_waiting: false,
                },
            );
        }
        Ok(self
            .sessions
            .get_mut(name)
            .expect("it was inserted if it was missing"))
    }
}

impl Peer for Server<'_> {
    fn send(&mut self, name: &str, command: &[Vec<u8>]) {
        // Another session's command must have arrived before this one is sent.
        if self.sessions.values().any(|session| session.is_waiting) {
            sleep(SETTLE);
        }
        // What goes wrong here shows when the reply is received.
        if let Ok(session) = self.session(name) {
            let sent = session.connection.send(command);
            let _ = sent.and_then(|()| session.connection.flush());
            session.is_waiting = true;
        }
    }

    fn receive(&mut self, name: &str) -> Result<Value, String> {
        let session = self.session(name).map_err(|error| error.to_string())?;
        session.is_waiting = false;
        session
            .connection
            .receive()
            .map_err(|error| error.to_string())
    }

    fn advance(&mut self, duration: Duration) {
        sleep(duration);
    }
}
