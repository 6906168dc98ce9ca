//! The command line of `minium migrate`.

use std::ffi::OsString;

use client::endpoint::{Endpoint, Login, Uri};

const HELP: &str = "\
Usage: minium migrate --from redis://... --to redis://... [OPTIONS]

Copies everything from one server to another, then every write as it happens, compares both, and says
when it is safe to switch. Both may be Minium, Redis or Valkey; neither has to reach the other, and the
source goes on serving its clients.

  --from <uri>         Server to copy from: redis://[user:password@]host[:port]
  --to <uri>           Server to copy to, which is empty
  --replace            It need not be empty: keys of the same name are replaced, others stay
  --verify <how>       What is compared: all, sample, sample=N or none (default: sample=10000)
  --verify-only        Compare only; copy nothing
  --exit-when-synced   End as soon as it is safe to switch; without it, Ctrl-C ends it
  --help               Show this text
  --version            Show the version

Passwords may also be given in the environment, as MINIUM_FROM_AUTH and MINIUM_TO_AUTH.
The exit code is 0 if it was safe to switch, 1 if it never was, 2 if the servers differ.
";

/// What the command line asks for.
pub enum Parsed {
    /// Print this and end.
    Show(String),
    /// Migrate.
    Run(Config),
}

/// What is to be done.
#[derive(Debug)]
pub struct Config {
    pub from: Side,
    pub to: Side,
    pub replaces: bool,
    pub verify: Verify,
    /// Nothing is copied.
    pub only_verifies: bool,
    pub ends_when_synced: bool,
}

/// A server and who we are to it.
#[derive(Clone, Debug)]
pub struct Side {
    /// For messages: the source or the target.
    pub name: &'static str,
    pub endpoint: Endpoint,
    pub login: Option<Login>,
}

/// What is compared in the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verify {
    Nothing,
    /// So many keys, chosen at random.
    Sample(u64),
    All,
}

const SAMPLE: u64 = 10_000;

/// Parses the arguments behind the program's name; `environment` looks variables up.
pub fn parse(
    args: Vec<OsString>,
    environment: impl Fn(&str) -> Option<OsString>,
) -> Result<Parsed, String> {
    let (mut from, mut to) = (None, None);
    let (mut replaces, mut only_verifies, mut ends_when_synced) = (false, false, false);
    let mut verify = Verify::Sample(SAMPLE);
    let mut args = args.into_iter();
    while let Some(arg) = args.next() {
        let text = text(arg)?;
        let (option, given) = match text.split_once('=') {
            Some((option, value)) => (option, Some(value.to_owned())),
            None => (&text[..], None),
        };
        let mut value = || match given
            .clone()
            .map_or_else(|| args.next().map(self::text), |v| Some(Ok(v)))
        {
            Some(value) => value,
            None => Err(format!("{option} needs a value")),
        };
        match option {
            "--from" => from = Some(side("source", &value()?)?),
            "--to" => to = Some(side("target", &value()?)?),
            "--verify" => verify = parse_verify(&value()?)?,
            "--replace" if given.is_none() => replaces = true,
            "--verify-only" if given.is_none() => only_verifies = true,
            "--exit-when-synced" if given.is_none() => ends_when_synced = true,
            "--help" | "-h" => return Ok(Parsed::Show(HELP.to_owned())),
            "--version" | "-v" => {
                return Ok(Parsed::Show(format!("minium migrate {}\n", env!("CARGO_PKG_VERSION"))));
            }
            _ => return Err(format!("Unrecognized option: '{text}'")),
        }
    }
    let (Some(mut from), Some(mut to)) = (from, to) else {
        return Err(HELP.lines().next().unwrap_or_default().to_owned());
    };
    for (side, variable) in [(&mut from, "MINIUM_FROM_AUTH"), (&mut to, "MINIUM_TO_AUTH")] {
        if let (None, Some(password)) = (&side.login, environment(variable)) {
            let (user, password) = (None, text(password)?.into_bytes());
            side.login = Some(Login { user, password });
        }
    }
    Ok(Parsed::Run(Config {
        from,
        to,
        replaces,
        verify,
        only_verifies,
        ends_when_synced,
    }))
}

fn text(arg: OsString) -> Result<String, String> {
    arg.into_string()
        .map_err(|arg| format!("An argument is not valid UTF-8: {}", arg.to_string_lossy()))
}

fn side(name: &'static str, uri: &str) -> Result<Side, String> {
    let uri = Uri::parse(uri).map_err(|error| format!("The {name}: {error}"))?;
    if uri.database.is_some() {
        return Err(format!(
            "The {name}: all databases are copied; leave the number out of the URI"
        ));
    }
    let login = uri.login;
    if login
        .as_ref()
        .is_some_and(|login| std::str::from_utf8(&login.password).is_err())
    {
        return Err(format!("The {name}: the password is not valid UTF-8"));
    }
    Ok(Side {
        name,
        endpoint: Endpoint::Tcp {
            host: uri.host.unwrap_or_else(|| "127.0.0.1".to_owned()),
            port: uri.port.unwrap_or(6379),
        },
        login,
    })
}

fn parse_verify(text: &str) -> Result<Verify, String> {
    match text.split_once('=').unwrap_or((text, "")) {
        ("all", "") => Ok(Verify::All),
        ("none", "") => Ok(Verify::Nothing),
        ("sample", "") if !text.contains('=') => Ok(Verify::Sample(SAMPLE)),
        ("sample", n) if n.parse::<u64>().is_ok_and(|n| n > 0) => {
            Ok(Verify::Sample(n.parse().unwrap_or(SAMPLE)))
        }
        _ => Err(format!("--verify is all, sample, sample=N or none, not '{text}'")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Config, String> {
        let args = line.split_whitespace().map(OsString::from).collect();
        let variables = |name: &str| (name == "MINIUM_TO_AUTH").then(|| "secret".into());
        match parse(args, variables)? {
            Parsed::Run(config) => Ok(config),
            Parsed::Show(text) => Err(text),
        }
    }

    #[test]
    fn what_is_said_is_meant() {
        let line = "--from redis://u:p@a:7000 --to=redis://b --verify sample=5 --exit-when-synced";
        let config = parsed(line).unwrap();
        assert_eq!(config.from.endpoint.to_string(), "a:7000");
        assert_eq!(config.to.endpoint.to_string(), "b:6379");
        assert_eq!(config.from.login.unwrap().password, b"p");
        assert_eq!(config.to.login.unwrap().password, b"secret");
        assert_eq!(config.verify, Verify::Sample(5));
        assert!(config.ends_when_synced && !config.replaces);
        let config = parsed("--from redis://a --to redis://b --replace --verify=all").unwrap();
        assert!(config.replaces && config.verify == Verify::All);
    }

    #[test]
    fn what_cannot_be_done_is_refused() {
        for (line, part) in [
            ("--from redis://a", "Usage"),
            ("--from rediss://a --to redis://b", "The source: TLS is not supported"),
            ("--from redis://a --to redis://b/3", "The target: all databases are copied"),
            ("--from redis://a --to redis://b --verify some", "--verify is all"),
            ("--from redis://a --to redis://b --verify sample=0", "--verify is all"),
            ("--from redis://a --to redis://b --replace=no", "Unrecognized option"),
            ("--from redis://a --to", "--to needs a value"),
            ("--fast", "Unrecognized option: '--fast'"),
        ] {
            let error = parsed(line).unwrap_err();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
