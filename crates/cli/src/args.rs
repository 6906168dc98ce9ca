//! The command line: options up to the first word that is none, then the command.

use std::ffi::OsString;
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;
use std::time::Duration;

use client::endpoint::{Endpoint, Login, Uri, UriError};

use crate::format::Format;

const HELP: &str = "\
Usage: minium cli [OPTIONS] [command [argument ...]]

Sends one command to a server and prints the reply; without a command, prompts for commands.

  -h <host>          Server host (default: 127.0.0.1)
  -p <port>          Server port (default: 6379)
  -s <path>          Unix socket of the server; overrides host and port
  -t <seconds>       Connection timeout, decimals allowed (default: 0, no limit)
  -u <uri>           redis://[user:password@]host[:port][/db]
  -a <password>      Password; better given in the environment variable REDISCLI_AUTH
  --pass <password>  The same as -a
  --user <name>      User to log in as, together with -a, --pass or REDISCLI_AUTH
  --no-auth-warning  Do not warn about a password on the command line
  -n <db>            Database number
  -2, -3             Speak RESP2 or RESP3
  -r <count>         Run the command this many times, -1 for ever
  -i <seconds>       Wait between the runs of -r, decimals allowed
  -x                 Read the last argument from the standard input
  -d <text>          Separator of the elements of a raw reply (default: \\n)
  -D <text>          Separator of raw replies (default: \\n)
  -e                 An error reply goes to the standard error and makes the exit code 1
  --raw              Print replies as they are (default if the output is no terminal)
  --no-raw           Print replies for people even if the output is no terminal
  --csv              Print replies as comma-separated values
  --json             Print replies as JSON; speaks RESP3 unless -2 is given
  --help             Show this text
  --version          Show the version

At the prompt: a number before a command repeats it; `connect <host> <port>`, `clear`, `quit`.
";

/// What the command line asks for.
pub enum Parsed {
    /// Print this and end.
    Show(String),
    /// Talk to a server.
    Run(Config),
}

/// How to reach the server, what to send, and how to print.
pub struct Config {
    pub endpoint: Endpoint,
    pub login: Option<Login>,
    pub warns_about_password: bool,
    pub database: i64,
    pub protocol: Option<u8>,
    pub timeout: Option<Duration>,
    pub format: Format,
    pub fails_on_error_reply: bool,
    pub reads_last_argument: bool,
    /// How many times the command is run; `None` for ever.
    pub repeat: Option<u64>,
    pub interval: Duration,
    pub command: Vec<Vec<u8>>,
}

/// Why the command line cannot be followed.
#[derive(Debug)]
pub enum ArgsError {
    /// An unknown option, or one without its value.
    Unrecognized(String),
    /// The value of an option is no number in range.
    BadNumber(&'static str, String),
    /// A malformed `-u`.
    Uri(UriError),
}

impl fmt::Display for ArgsError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ArgsError::Unrecognized(option) => {
                write!(f, "Unrecognized option or bad number of args for: '{option}'")
            }
            ArgsError::BadNumber(option, value) => {
                write!(f, "Invalid value for {option}: '{value}'")
            }
            ArgsError::Uri(error) => error.fmt(f),
        }
    }
}

/// The options as given, before they are weighed against each other.
#[derive(Default)]
struct Options {
    host: Option<String>,
    port: Option<u16>,
    socket: Option<PathBuf>,
    user: Option<Vec<u8>>,
    password: Option<Vec<u8>>,
    is_password_given: bool,
    hides_warning: bool,
    database: i64,
    protocol: Option<u8>,
    timeout: Duration,
    format: Option<Format>,
    element_separator: Option<Vec<u8>>,
    reply_separator: Option<Vec<u8>>,
    fails_on_error_reply: bool,
    reads_last_argument: bool,
    repeat: Option<i64>,
    interval: Duration,
}

/// Parses the arguments behind the program's name; `environment` looks variables up.
pub fn parse(
    args: Vec<OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Parsed, ArgsError> {
    let mut options = Options {
        password: environment("REDISCLI_AUTH").map(OsString::into_vec),
        ..Options::default()
    };
    let mut args = args.into_iter().peekable();
    while let Some(option) = args.next_if(|arg| arg.as_bytes().starts_with(b"-")) {
        let option = option.to_string_lossy().into_owned();
        match option.as_str() {
            "--help" => return Ok(Parsed::Show(HELP.to_string())),
            "--version" | "-v" => {
                return Ok(Parsed::Show(format!("minium-cli {}\n", env!("CARGO_PKG_VERSION"))));
            }
            _ if options.flag(&option) => {}
            // `-h` alone asks for help, as it always has.
            "-h" if args.peek().is_none() => return Ok(Parsed::Show(HELP.to_string())),
            _ => {
                let takes_value = Options::VALUED.contains(&option.as_str());
                match args.next() {
                    Some(value) if takes_value => options.valued(&option, value)?,
                    _ => return Err(ArgsError::Unrecognized(option)),
                }
            }
        }
    }
    let command = args.map(OsString::into_vec).collect();
    Ok(Parsed::Run(options.into_config(command)))
}

impl Options {
    const VALUED: &[&str] = &[
        "-h", "-p", "-s", "-t", "-u", "-a", "--pass", "--user", "-n", "-r", "-i", "-d", "-D",
    ];

    /// Takes an option without a value; false if it is none of these.
    fn flag(&mut self, option: &str) -> bool {
        match option {
            "-2" => self.protocol = Some(2),
            "-3" => self.protocol = Some(3),
            "-e" => self.fails_on_error_reply = true,
            "-x" => self.reads_last_argument = true,
            "--raw" => self.format = Some(Format::raw()),
            "--no-raw" => self.format = Some(Format::People),
            "--csv" => self.format = Some(Format::Csv),
            "--json" => self.format = Some(Format::Json),
            "--no-auth-warning" => self.hides_warning = true,
            _ => return false,
        }
        true
    }

    fn valued(&mut self, option: &str, value: OsString) -> Result<(), ArgsError> {
        let text = value.to_string_lossy().into_owned();
        match option {
            "-h" => self.host = Some(text),
            "-p" => self.port = Some(number("-p", &text)?),
            "-s" => self.socket = Some(value.into()),
            "-t" => self.timeout = seconds("-t", &text)?,
            "-u" => self.uri(&text)?,
            "-a" | "--pass" => {
                self.password = Some(value.into_vec());
                self.is_password_given = true;
            }
            "--user" => self.user = Some(value.into_vec()),
            "-n" => self.database = number("-n", &text)?,
            "-r" => self.repeat = Some(number("-r", &text)?),
            "-i" => self.interval = seconds("-i", &text)?,
            "-d" => self.element_separator = Some(value.into_vec()),
            "-D" => self.reply_separator = Some(value.into_vec()),
            _ => return Err(ArgsError::Unrecognized(option.to_string())),
        }
        Ok(())
    }

    fn uri(&mut self, text: &str) -> Result<(), ArgsError> {
        let uri = Uri::parse(text).map_err(ArgsError::Uri)?;
        self.host = uri.host.or(self.host.take());
        self.port = uri.port.or(self.port);
        self.database = uri.database.unwrap_or(self.database);
        if let Some(login) = uri.login {
            self.user = login.user;
            self.password = Some(login.password);
            self.is_password_given = true;
        }
        Ok(())
    }

    fn into_config(self, command: Vec<Vec<u8>>) -> Config {
        let endpoint = match self.socket {
            Some(path) => Endpoint::Unix(path),
            None => Endpoint::Tcp {
                host: self.host.unwrap_or_else(|| "127.0.0.1".to_string()),
                port: self.port.unwrap_or(6379),
            },
        };
        let format = self.format.unwrap_or_else(|| {
            if crate::is_output_terminal() {
                Format::People
            } else {
                Format::raw()
            }
        });
        let format = match format {
            Format::Raw {
                element_separator,
                reply_separator,
            } => Format::Raw {
                element_separator: self.element_separator.unwrap_or(element_separator),
                reply_separator: self.reply_separator.unwrap_or(reply_separator),
            },
            other => other,
        };
        let is_json = format == Format::Json;
        let user = self.user;
        Config {
            endpoint,
            login: self.password.map(|password| Login { user, password }),
            warns_about_password: self.is_password_given && !self.hides_warning,
            database: self.database,
            protocol: self.protocol.or(is_json.then_some(3)),
            timeout: (!self.timeout.is_zero()).then_some(self.timeout),
            format,
            fails_on_error_reply: self.fails_on_error_reply,
            reads_last_argument: self.reads_last_argument,
            repeat: u64::try_from(self.repeat.unwrap_or(1)).ok(),
            interval: self.interval,
            command,
        }
    }
}

fn number<T: std::str::FromStr>(option: &'static str, text: &str) -> Result<T, ArgsError> {
    text.parse()
        .map_err(|_| ArgsError::BadNumber(option, text.to_string()))
}

fn seconds(option: &'static str, text: &str) -> Result<Duration, ArgsError> {
    text.parse()
        .ok()
        .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        .ok_or_else(|| ArgsError::BadNumber(option, text.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(args: &[&str]) -> Config {
        match parse(args.iter().map(OsString::from).collect(), |_| None) {
            Ok(Parsed::Run(config)) => config,
            Ok(Parsed::Show(text)) => panic!("only shows {text}"),
            Err(error) => panic!("{error}"),
        }
    }

    fn error(args: &[&str]) -> String {
        match parse(args.iter().map(OsString::from).collect(), |_| None) {
            Ok(_) => panic!("accepted"),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn options_end_at_the_command() {
        let config = config(&["-h", "::1", "-p", "7000", "-n", "3", "set", "-p", "1"]);
        assert_eq!(config.endpoint.to_string(), "[::1]:7000");
        assert_eq!(config.database, 3);
        assert_eq!(config.command, [&b"set"[..], b"-p", b"1"]);
    }

    #[test]
    fn a_password_on_the_command_line_is_warned_about() {
        assert!(config(&["-a", "x"]).warns_about_password);
        assert!(config(&["-u", "redis://a:b@h"]).warns_about_password);
        assert!(!config(&["-a", "x", "--no-auth-warning"]).warns_about_password);
        let parsed = parse(Vec::new(), |name| (name == "REDISCLI_AUTH").then(|| "x".into()));
        let Ok(Parsed::Run(from_environment)) = parsed else {
            panic!("not run")
        };
        assert!(from_environment.login.is_some() && !from_environment.warns_about_password);
    }

    #[test]
    fn json_speaks_resp3_unless_told_otherwise() {
        assert_eq!(config(&["--json"]).protocol, Some(3));
        assert_eq!(config(&["--json", "-2"]).protocol, Some(2));
        assert_eq!(config(&["--csv"]).protocol, None);
    }

    #[test]
    fn repeats() {
        assert_eq!(config(&[]).repeat, Some(1));
        assert_eq!(config(&["-r", "5"]).repeat, Some(5));
        assert_eq!(config(&["-r", "-1"]).repeat, None);
        assert_eq!(config(&["-i", "0.25"]).interval, Duration::from_millis(250));
    }

    #[test]
    fn refusals() {
        let unrecognized = "Unrecognized option or bad number of args for: ";
        assert_eq!(error(&["--bigkeys"]), format!("{unrecognized}'--bigkeys'"));
        assert_eq!(error(&["-p"]), format!("{unrecognized}'-p'"));
        assert_eq!(error(&["-p", "x"]), "Invalid value for -p: 'x'");
        assert_eq!(error(&["-i", "-1"]), "Invalid value for -i: '-1'");
        assert_eq!(error(&["-u", "http://x"]), "Invalid URI scheme");
    }
}
