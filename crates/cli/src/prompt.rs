//! The interactive prompt, with history; or, if the input is no terminal, its lines as commands.

use std::io::{self, BufRead, IsTerminal};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use client::endpoint::Endpoint;
use rustyline::DefaultEditor;
use rustyline::error::ReadlineError;
use stdx::quoting;

use crate::args::Config;
use crate::format::Format;
use crate::print_out;
use crate::session::Session;

/// A command that takes longer has its time printed.
const SLOW: Duration = Duration::from_millis(500);
const HELP: &str = "\
Type a command, such as: SET greeting \"hello world\"
A number before a command repeats it: 5 INCR counter
Also: connect <host> <port>, clear, quit. Options: minium cli --help
";

/// What to do after a line.
enum Next {
    Go,
    Quit,
    Fail,
}

/// Reads commands until the input ends; false only if one failed with `-e`.
pub fn run(config: Config) -> bool {
    let mut session = Session::new(config);
    session.connect();
    if io::stdin().is_terminal() {
        run_terminal(&mut session)
    } else {
        run_lines(&mut session)
    }
}

fn run_lines(session: &mut Session) -> bool {
    for line in io::stdin().lock().split(b'\n') {
        let Ok(line) = line else { return false };
        match run_line(session, &line) {
            Next::Go => {}
            Next::Quit => break,
            Next::Fail if session.config().fails_on_error_reply => return false,
            Next::Fail => {}
        }
    }
    true
}

fn run_terminal(session: &mut Session) -> bool {
    let mut editor = match DefaultEditor::new() {
        Ok(editor) => editor,
        Err(error) => {
            eprintln!("Could not use the terminal: {error}");
            return false;
        }
    };
    let history = history_path();
    if let Some(path) = &history {
        // A first run has no history yet.
        let _ = editor.load_history(path);
    }
    loop {
        match editor.readline(&session.prompt()) {
            Ok(line) => {
                if !is_secret(line.as_bytes()) && editor.add_history_entry(&line).is_ok() {
                    save_history(&mut editor, history.as_ref());
                }
                if matches!(run_line(session, line.as_bytes()), Next::Quit) {
                    return true;
                }
            }
            Err(ReadlineError::Eof | ReadlineError::Interrupted) => return true,
            Err(error) => {
                eprintln!("Could not read the line: {error}");
                return false;
            }
        }
    }
}

fn run_line(session: &mut Session, line: &[u8]) -> Next {
    let Ok(mut args) = quoting::split(line) else {
        print_out(b"Invalid argument(s)\n");
        return Next::Go;
    };
    let n_times = take_count(&mut args);
    let [name, rest @ ..] = args.as_slice() else {
        return Next::Go;
    };
    match (name.to_ascii_lowercase().as_slice(), rest) {
        (b"quit" | b"exit", _) => return Next::Quit,
        (b"clear", []) => print_out(b"\x1b[H\x1b[2J"),
        (b"help" | b"?", _) => print_out(HELP.as_bytes()),
        (b"connect", [host, port]) => connect(session, host, port),
        _ => {
            for _ in 0..n_times {
                if !run_timed(session, &args) {
                    return Next::Fail;
                }
            }
        }
    }
    Next::Go
}

fn run_timed(session: &mut Session, args: &[Vec<u8>]) -> bool {
    let start = Instant::now();
    let succeeded = session.run_reconnecting(args);
    let elapsed = start.elapsed();
    if elapsed >= SLOW && session.config().format == Format::People {
        print_out(format!("({:.2}s)\n", elapsed.as_secs_f64()).as_bytes());
    }
    succeeded
}

/// Takes a count off the front if a command follows it.
fn take_count(args: &mut Vec<Vec<u8>>) -> u64 {
    let count = args
        .first()
        .and_then(|first| stdx::number::parse_u64(first));
    match count {
        Some(count) if args.len() > 1 => {
            args.remove(0);
            count
        }
        _ => 1,
    }
}

fn connect(session: &mut Session, host: &[u8], port: &[u8]) {
    match str::from_utf8(port).ok().and_then(|port| port.parse().ok()) {
        Some(port) => {
            let host = String::from_utf8_lossy(host).into_owned();
            session.connect_to(Endpoint::Tcp { host, port });
        }
        None => print_out(b"Invalid port\n"),
    }
}

/// Where the history is kept; nowhere if `REDISCLI_HISTFILE` is empty or `/dev/null`.
fn history_path() -> Option<PathBuf> {
    match std::env::var_os("REDISCLI_HISTFILE") {
        Some(path) if path.is_empty() || path == "/dev/null" => None,
        Some(path) => Some(PathBuf::from(path)),
        None => Some(PathBuf::from(std::env::var_os("HOME")?).join(".rediscli_history")),
    }
}

fn save_history(editor: &mut DefaultEditor, path: Option<&PathBuf>) {
    if let Some(path) = path {
        // A history that cannot be written must not come between the user and the prompt.
        let _ = editor.save_history(path);
    }
}

/// Whether a line may hold a password and must not reach the history.
fn is_secret(line: &[u8]) -> bool {
    let line = line.to_ascii_lowercase();
    let mut words = line
        .split(u8::is_ascii_whitespace)
        .filter(|word| !word.is_empty());
    match words.next() {
        Some(b"auth" | b"migrate") => true,
        Some(b"hello") => words.any(|word| word == b"auth"),
        Some(b"acl") => words.next() == Some(b"setuser"),
        Some(b"config") => words.any(|word| {
            matches!(word, b"masterauth" | b"masteruser" | b"requirepass" | b"primaryauth")
        }),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_stay_out_of_the_history() {
        for line in [
            "AUTH x",
            "hello 3 AUTH a b",
            "acl setuser x >y",
            "config set requirepass x",
        ] {
            assert!(is_secret(line.as_bytes()), "{line}");
        }
        for line in [
            "get auth",
            "hello 3",
            "acl list",
            "config get maxmemory",
            "",
        ] {
            assert!(!is_secret(line.as_bytes()), "{line}");
        }
    }

    #[test]
    fn counts() {
        let mut args = vec![b"5".to_vec(), b"ping".to_vec()];
        assert_eq!((take_count(&mut args), args.len()), (5, 1));
        let mut args = vec![b"5".to_vec()];
        assert_eq!((take_count(&mut args), args.len()), (1, 1));
    }
}
