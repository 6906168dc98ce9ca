//! A server with canned answers, and the program run against it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use resp::request::{Limits, Parser};

/// A command and the bytes it is answered with; commands not listed get `+OK`.
/// After an answer that ends with `CLOSE` the server hangs up.
type Answers = Vec<(&'static str, Vec<u8>)>;

/// One server and the commands it has received.
pub struct Environment {
    port: u16,
    received: Arc<Mutex<Vec<String>>>,
}

impl Environment {
    /// Starts a server; an answer belongs to the command text in front of it.
    pub fn new(answers: &[(&'static str, &str)]) -> Environment {
        let answers: Answers = answers
            .iter()
            .map(|(command, answer)| (*command, answer.as_bytes().to_vec()))
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let received = Arc::new(Mutex::new(Vec::new()));
        let log = received.clone();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let (answers, log) = (answers.clone(), log.clone());
                thread::spawn(move || serve(stream.unwrap(), &answers, &log));
            }
        });
        Environment { port, received }
    }

    /// Runs the program with `input` and compares its standard output.
    pub fn assert_output_of(&self, args: &[&str], input: &str, expected: &str) {
        let output = self.run(args, input);
        assert_eq!(String::from_utf8_lossy(&output.stdout), expected, "{args:?}");
    }

    /// Runs the program without input and compares its standard output.
    pub fn assert_output(&self, args: &[&str], expected: &str) {
        self.assert_output_of(args, "", expected);
    }

    /// Runs the program and compares its exit code, standard output and standard error.
    pub fn assert_failure(&self, args: &[&str], expected_error: &str) {
        let output = self.run(args, "");
        assert_eq!(String::from_utf8_lossy(&output.stderr), expected_error, "{args:?}");
        assert_eq!(output.status.code(), Some(1), "{args:?}");
    }

    /// Runs the program with `input`.
    pub fn run(&self, args: &[&str], input: &str) -> Output {
        let port = self.port.to_string();
        let mut command = program();
        command.args(["-p", &port]).args(args);
        run(command, input)
    }

    /// The commands received so far, their words joined by spaces.
    pub fn received(&self) -> Vec<String> {
        self.received.lock().unwrap().clone()
    }

    /// The port the server listens on.
    pub fn port(&self) -> u16 {
        self.port
    }
}

/// The program without the variables that would change what it does.
pub fn program() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_minium-cli"));
    command.env_remove("REDISCLI_AUTH").env_remove("FAKETTY");
    command
}

/// Runs a command to its end.
pub fn run(mut command: Command, input: &str) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A program that ends before it has read everything is no failure of the test.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn serve(mut stream: TcpStream, answers: &Answers, log: &Mutex<Vec<String>>) {
    let limits = Limits {
        max_bulk_bytes: 1 << 20,
        authenticated: true,
    };
    let (mut parser, mut buf, mut chunk) = (Parser::default(), Vec::new(), [0; 4096]);
    loop {
        let (mut pos, mut spans) = (0, Vec::new());
        while parser
            .next(&mut buf, &mut pos, &mut spans, &limits)
            .unwrap()
        {
            let words: Vec<_> = spans
                .drain(..)
                .map(|span| String::from_utf8_lossy(span.of(&buf)))
                .collect();
            let command = words.join(" ");
            let answer = answers.iter().find(|(name, _)| *name == command);
            log.lock().unwrap().push(command);
            let answer = answer.map_or(&b"+OK\r\n"[..], |(_, bytes)| bytes);
            let (answer, closes) = match answer.strip_suffix(b"CLOSE") {
                Some(answer) => (answer, true),
                None => (answer, false),
            };
            if stream.write_all(answer).is_err() || closes {
                return;
            }
        }
        buf.drain(..pos);
        match stream.read(&mut chunk) {
            Ok(0) | Err(_) => return,
            Ok(n) => buf.extend_from_slice(&chunk[..n]),
        }
    }
}
