//! The connection of the command line: logging in, running commands, following what they change.
//!
//! `SELECT`, `MULTI`, `HELLO` and their like change what the prompt shows and what a reconnect must
//! restore, so their success is noted here. After `SUBSCRIBE` or `MONITOR` replies are printed
//! until the connection ends.

use std::io;

use client::connection::{Connection, Error};
use client::endpoint::Endpoint;
use resp::decode::Value;

use crate::args::Config;
use crate::format::Format;
use crate::{is_output_terminal, print_out};

/// Commands whose reply is text for people, printed unquoted in every format.
const TEXT_COMMANDS: &[&[&str]] = &[
    &["INFO"],
    &["LOLWUT"],
    &["DEBUG", "HTSTATS"],
    &["DEBUG", "HTSTATS-KEY"],
    &["MEMORY", "MALLOC-STATS"],
    &["MEMORY", "DOCTOR"],
    &["CLUSTER", "NODES"],
    &["CLUSTER", "INFO"],
    &["CLIENT", "LIST"],
    &["CLIENT", "INFO"],
    &["LATENCY", "DOCTOR"],
    &["LATENCY", "GRAPH"],
    &["PROXY", "INFO"],
];

/// A connection that is opened when needed, and what is known of its server's side.
pub struct Session {
    config: Config,
    connection: Option<Connection>,
    database: i64,
    is_in_transaction: bool,
}

impl Session {
    /// A session that is not connected yet.
    pub fn new(config: Config) -> Session {
        let database = config.database;
        Session {
            config,
            connection: None,
            database,
            is_in_transaction: false,
        }
    }

    /// How the session is configured.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Connects, logs in, selects; complaints go to the standard error. True if connected.
    pub fn connect(&mut self) -> bool {
        self.connection = None;
        self.is_in_transaction = false;
        match Connection::open(&self.config.endpoint, self.config.timeout) {
            Ok(connection) => {
                self.connection = Some(connection);
                self.prepare();
            }
            Err(error) => {
                eprintln!("Could not connect to Redis at {}: {error}", self.config.endpoint);
            }
        }
        self.connection.is_some()
    }

    /// Turns to another server.
    pub fn connect_to(&mut self, endpoint: Endpoint) {
        self.config.endpoint = endpoint;
        self.connect();
    }

    /// What the prompt shows.
    pub fn prompt(&self) -> String {
        if self.connection.is_none() {
            return "not connected> ".to_string();
        }
        let server = match &self.config.endpoint {
            Endpoint::Unix(path) => format!("redis {}", path.display()),
            tcp => tcp.to_string(),
        };
        let database = if self.database == 0 {
            String::new()
        } else {
            format!("[{}]", self.database)
        };
        let transaction = if self.is_in_transaction { "(TX)" } else { "" };
        format!("{server}{database}{transaction}> ")
    }

    /// Runs a command and prints its reply; false if there was none that counts.
    pub fn run(&mut self, command: &[Vec<u8>]) -> bool {
        match self.try_run(command) {
            Ok(succeeded) => succeeded,
            Err(error) => {
                eprintln!("Error: {error}");
                self.connection = None;
                false
            }
        }
    }

    /// Like `run`, but a connection that turns out closed is opened anew, once.
    pub fn run_reconnecting(&mut self, command: &[Vec<u8>]) -> bool {
        if self.connection.is_none() && !self.connect() {
            return false;
        }
        match self.try_run(command) {
            Ok(succeeded) => succeeded,
            Err(error) if is_lost(&error) && !self.is_in_transaction => {
                self.connect() && self.run(command)
            }
            Err(error) => {
                eprintln!("Error: {error}");
                self.connection = None;
                self.is_in_transaction = false;
                false
            }
        }
    }

    fn prepare(&mut self) {
        let Some(connection) = &mut self.connection else {
            return;
        };
        if let Some(login) = &self.config.login
            && let Err(error) = connection.authenticate(login)
        {
            eprintln!("AUTH failed: {error}");
        }
        if self.database != 0
            && let Err(error) = connection.select(self.database)
        {
            eprintln!("SELECT {} failed: {error}", self.database);
            self.database = 0;
        }
        if self.config.protocol == Some(3)
            && let Err(error) = connection.hello(3)
        {
            eprintln!("HELLO 3 failed: {error}");
        }
    }

    fn try_run(&mut self, command: &[Vec<u8>]) -> Result<bool, Error> {
        let Some(connection) = &mut self.connection else {
            return Err(Error::Closed);
        };
        if starts_with_any(
            command,
            &[
                &["MONITOR"],
                &["SUBSCRIBE"],
                &["PSUBSCRIBE"],
                &["SSUBSCRIBE"],
            ],
        ) {
            connection.send(command)?;
            return self.follow();
        }
        let reply = connection.call(command)?;
        for push in std::mem::take(&mut connection.pushes) {
            if is_output_terminal() {
                print_out(&[b"-> ", &self.config.format.render(&push, false)[..]].concat());
            }
        }
        let is_text = starts_with_any(command, TEXT_COMMANDS);
        if let (Value::Error(line), true) = (&reply, self.config.fails_on_error_reply) {
            eprintln!("{}", String::from_utf8_lossy(line));
            return Ok(false);
        }
        print_out(&self.config.format.render(&reply, is_text));
        if !matches!(reply, Value::Error(_)) {
            self.note(command);
        }
        Ok(true)
    }

    /// Prints whatever arrives, until the connection ends.
    fn follow(&mut self) -> Result<bool, Error> {
        if !matches!(self.config.format, Format::Raw { .. }) {
            print_out(b"Reading messages... (press Ctrl-C to quit)\n");
        }
        let Some(connection) = &mut self.connection else {
            return Err(Error::Closed);
        };
        loop {
            let message = connection.receive()?;
            print_out(&self.config.format.render(&message, false));
        }
    }

    /// Notes what a command that succeeded has changed on the server's side.
    fn note(&mut self, command: &[Vec<u8>]) {
        let [name, args @ ..] = command else { return };
        match name.to_ascii_uppercase().as_slice() {
            b"SELECT" => {
                let number = args
                    .first()
                    .and_then(|arg| str::from_utf8(arg).ok()?.parse().ok());
                self.database = number.unwrap_or(self.database);
            }
            b"MULTI" => self.is_in_transaction = true,
            b"EXEC" | b"DISCARD" => self.is_in_transaction = false,
            b"RESET" => {
                self.is_in_transaction = false;
                self.database = 0;
                self.config.protocol = None;
            }
            b"HELLO" => match args.first().map(Vec::as_slice) {
                Some(b"2") => self.config.protocol = Some(2),
                Some(b"3") => self.config.protocol = Some(3),
                _ => {}
            },
            _ => {}
        }
    }
}

/// Whether the server, or the way to it, was gone before it could have answered.
fn is_lost(error: &Error) -> bool {
    match error {
        Error::Closed => true,
        Error::Io(error) => {
            matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset)
        }
        _ => false,
    }
}

fn starts_with_any(command: &[Vec<u8>], prefixes: &[&[&str]]) -> bool {
    prefixes.iter().any(|prefix| {
        prefix.len() <= command.len()
            && prefix
                .iter()
                .zip(command)
                .all(|(word, arg)| arg.eq_ignore_ascii_case(word.as_bytes()))
    })
}
