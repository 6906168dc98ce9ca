//! Connections to both servers, and what each says of itself before anything is done.

use std::collections::BTreeMap;
use std::time::Duration;

use client::connection::{Connection, Error};
use rdb::dialect::Dialect;
use resp::decode::Value;

use super::args::{Config, Side};

/// How long a server may take to answer.
pub const PATIENCE: Duration = Duration::from_secs(60);
const CONNECTING: Duration = Duration::from_secs(10);

impl Side {
    /// The server as messages name it.
    pub fn named(&self) -> String {
        format!("the {} {}", self.name, self.endpoint)
    }

    /// A connection that is logged in.
    pub fn connect(&self) -> Result<Connection, String> {
        let failed = |error: Error| format!("{} cannot be reached: {error}", self.named());
        let mut connection = Connection::open(&self.endpoint, Some(CONNECTING)).map_err(failed)?;
        connection.set_timeout(Some(PATIENCE)).map_err(failed)?;
        if let Some(login) = &self.login {
            let refused = |error| format!("{} refuses the login: {error}", self.named());
            connection.authenticate(login).map_err(refused)?;
        }
        Ok(connection)
    }

    /// The reply to a command; an error is one of this server.
    pub fn ask(&self, connection: &mut Connection, words: &[&str]) -> Result<Value, String> {
        match connection.call(words) {
            Ok(Value::Error(line)) => {
                let line = String::from_utf8_lossy(&line).into_owned();
                let hint = match line.starts_with("NOAUTH") {
                    true => format!(" (give a password in --{})", self.option()),
                    false => String::new(),
                };
                Err(format!("{} refuses {}: {line}{hint}", self.named(), words.join(" ")))
            }
            Ok(value) => Ok(value),
            Err(error) => Err(format!("{} does not answer: {error}", self.named())),
        }
    }

    fn option(&self) -> &'static str {
        match self.name {
            "source" => "from",
            _ => "to",
        }
    }
}

/// The text of a reply.
pub fn text(value: &Value) -> String {
    match value {
        Value::Bulk(text) | Value::Simple(text) | Value::Verbatim(_, text) => {
            String::from_utf8_lossy(text).into_owned()
        }
        Value::Int(n) => n.to_string(),
        _ => String::new(),
    }
}

/// What INFO says.
#[derive(Debug, Default)]
pub struct Facts {
    fields: BTreeMap<String, String>,
}

/// Where a server's stream of writes ends.
pub fn stream_end(side: &Side, connection: &mut Connection) -> Result<u64, String> {
    let facts = Facts::read(text(&side.ask(connection, &["INFO", "replication"])?));
    let end = facts.get("master_repl_offset").parse();
    end.map_err(|_| format!("{} does not say where its stream ends", side.named()))
}

impl Facts {
    pub fn of(side: &Side, connection: &mut Connection) -> Result<Facts, String> {
        Ok(Facts::read(text(&side.ask(connection, &["INFO"])?)))
    }

    fn read(info: String) -> Facts {
        let fields = info.lines().filter_map(|line| line.split_once(':'));
        let owned = |(name, value): (&str, &str)| (name.to_owned(), value.trim().to_owned());
        Facts {
            fields: fields.map(owned).collect(),
        }
    }

    fn get(&self, name: &str) -> &str {
        self.fields.get(name).map_or("", String::as_str)
    }

    /// Name and version, for people.
    pub fn server(&self) -> String {
        for (name, field) in [("Minium", "minium_version"), ("Valkey", "valkey_version")] {
            if !self.get(field).is_empty() {
                return format!("{name} {}", self.get(field));
            }
        }
        format!("Redis {}", self.get("redis_version"))
    }

    /// The databases that hold keys, and how many each.
    pub fn databases(&self) -> Vec<(u64, u64)> {
        let database = |(name, value): (&String, &String)| {
            let number = name.strip_prefix("db")?.parse().ok()?;
            let n_keys = value
                .strip_prefix("keys=")?
                .split(',')
                .next()?
                .parse()
                .ok()?;
            Some((number, n_keys))
        };
        self.fields.iter().filter_map(database).collect()
    }

    pub fn n_keys(&self) -> u64 {
        self.databases().iter().map(|database| database.1).sum()
    }
}

/// Refuses what cannot work before anything is changed.
pub fn check(config: &Config, from: &Facts, to: &Facts) -> Result<(), String> {
    let (source, target) = (config.from.named(), config.to.named());
    for (named, facts) in [(&source, from), (&target, to)] {
        if facts.get("cluster_enabled") == "1" {
            return Err(format!("{named} is a node of a cluster, which cannot be migrated yet"));
        }
        if facts.get("loading") == "1" {
            return Err(format!("{named} is still loading its data"));
        }
    }
    if !from.get("run_id").is_empty() && from.get("run_id") == to.get("run_id") {
        return Err("The source and the target are the same server".to_owned());
    }
    if to.get("role") == "slave" {
        return Err(format!("{target} is a replica of another server: REPLICAOF NO ONE ends that"));
    }
    let n_keys = to.n_keys();
    if n_keys > 0 && !config.replaces {
        return Err(format!(
            "{target} is not empty: it holds {n_keys} keys. Empty it, or let keys of the same name be \
             replaced with --replace"
        ));
    }
    Ok(())
}

/// The form of values that the target takes: an empty dump of functions tells its version.
pub fn dialect(side: &Side, connection: &mut Connection, facts: &Facts) -> Result<Dialect, String> {
    if facts.get("server_name") == "minium" {
        return Ok(Dialect::Ours);
    }
    let failed = |error| format!("{} does not answer: {error}", side.named());
    let answer = connection.call(&["FUNCTION", "DUMP"]).map_err(failed)?;
    let stated = match &answer {
        Value::Bulk(payload) => payload.last_chunk::<10>().map(|foot| [foot[0], foot[1]]),
        _ => None,
    };
    Ok(match stated {
        Some(version) => Dialect::of_version(u16::from_le_bytes(version)),
        // Before 7 there were no functions; who is not allowed to see them gets what all read.
        None if facts.get("redis_version").starts_with(['5', '6']) => Dialect::Redis(9),
        None => Dialect::Redis(10),
    })
}

/// `import-mode` of the target, on while this lives: what is due there stays until the source says that
/// it has gone, as on a replica.
pub struct Importing<'a> {
    side: &'a Side,
    /// It was on before, and stays on.
    pub was_on: bool,
}

impl<'a> Importing<'a> {
    /// Switches it on, if the target has it and allows it; this connection is the one by which data comes.
    pub fn begin(side: &'a Side, connection: &mut Connection) -> Result<Option<Self>, String> {
        let failed = |error| format!("{} does not answer: {error}", side.named());
        let words = connection
            .call(&["CONFIG", "GET", "import-mode"])
            .map_err(failed)?;
        let was_on = match words {
            Value::Array(words) if words.len() == 2 => text(&words[1]) == "yes",
            _ => return Ok(None),
        };
        if !was_on {
            let words = ["CONFIG", "SET", "import-mode", "yes"];
            if let Value::Error(_) = connection.call(&words).map_err(failed)? {
                return Ok(None);
            }
        }
        let importing = Importing { side, was_on };
        side.ask(connection, &["CLIENT", "IMPORT-SOURCE", "ON"])?;
        Ok(Some(importing))
    }
}

impl Drop for Importing<'_> {
    fn drop(&mut self) {
        if self.was_on {
            return;
        }
        let words = ["CONFIG", "SET", "import-mode", "no"];
        let ended = self.side.connect();
        let ended = ended.and_then(|mut connection| self.side.ask(&mut connection, &words));
        if let Err(error) = ended {
            eprintln!("import-mode is still on at the target, as {error}");
        }
    }
}
