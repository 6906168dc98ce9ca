//! `minium cli`: send commands to a server and print what it answers.
//!
//! `args` turns the command line into a `Config`, `session` keeps the connection and runs commands,
//! `format` prints replies, `prompt` is the interactive loop. Options, texts and exit codes are
//! those of redis-cli, because scripts read them.

#![forbid(unsafe_code)]

mod args;
mod format;
mod prompt;
mod session;

use std::ffi::OsString;
use std::io::{self, IsTerminal, Read, Write};
use std::thread;

use args::{Config, Parsed};
use session::Session;

/// Runs the command line client with the arguments behind its name; the exit code.
///
/// 0 if every command got an answer, 1 otherwise; with `-e` an error reply counts as none.
pub fn run(args: Vec<OsString>) -> i32 {
    let config = match args::parse(args, |name| std::env::var_os(name)) {
        Ok(Parsed::Run(config)) => config,
        Ok(Parsed::Show(text)) => {
            print!("{text}");
            return 0;
        }
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    };
    if config.warns_about_password {
        eprintln!(
            "Warning: Using a password with '-a' or '-u' option on the command line interface may \
             not be safe."
        );
    }
    let succeeded = if config.command.is_empty() {
        prompt::run(config)
    } else {
        run_once(config)
    };
    i32::from(!succeeded)
}

/// Runs the command of the command line, as often as asked.
fn run_once(mut config: Config) -> bool {
    if config.reads_last_argument {
        let mut last = Vec::new();
        if let Err(error) = io::stdin().lock().read_to_end(&mut last) {
            eprintln!("Could not read the last argument from the standard input: {error}");
            return false;
        }
        config.command.push(last);
    }
    let command = std::mem::take(&mut config.command);
    let (mut n_left, interval) = (config.repeat, config.interval);
    let mut session = Session::new(config);
    if !session.connect() {
        return false;
    }
    while n_left != Some(0) {
        if !session.run(&command) {
            return false;
        }
        n_left = n_left.map(|n| n - 1);
        if n_left != Some(0) && !interval.is_zero() {
            thread::sleep(interval);
        }
    }
    true
}

/// Prints to the standard output at once; a reader that has gone ends the program quietly.
fn print_out(text: &[u8]) {
    let mut out = io::stdout().lock();
    if out.write_all(text).and_then(|()| out.flush()).is_err() {
        std::process::exit(1);
    }
}

/// Whether people read the standard output.
fn is_output_terminal() -> bool {
    io::stdout().is_terminal() || std::env::var_os("FAKETTY").is_some()
}
