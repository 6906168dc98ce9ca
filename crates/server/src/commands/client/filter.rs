//! Which connections CLIENT LIST and CLIENT KILL mean.
//!
//! A filter is a list of conditions, all of which must hold. Each option has a twin that begins with
//! `NOT-` and turns it round. Of one option that is given twice the last counts, but ids add up.

use std::mem::discriminant;
use std::sync::atomic::Ordering::Relaxed;

use stdx::number::parse_i64;

use crate::command::{AdminCtx, Args};
use crate::error::{Error, Result};
use crate::session::client::{Client, FLAGS};

const NO_ID: &str = "ERR Invalid client ID";

/// What a connection may be chosen by.
#[derive(Debug)]
enum Condition {
    Ids(Vec<u64>),
    Kind(&'static str),
    User(Vec<u8>),
    Peer(Vec<u8>),
    Local(Vec<u8>),
    Host(Vec<u8>),
    Name(Vec<u8>),
    Library(Vec<u8>),
    LibraryVersion(Vec<u8>),
    Flags(Vec<u8>),
    Capabilities(Vec<u8>),
    Database(i64),
    AgeSeconds(u64),
    IdleSeconds(u64),
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Filter {
    /// Each condition, and whether it is turned round.
    conditions: Vec<(Condition, bool)>,
    /// SKIPME, if it was given.
    pub spares_self: Option<bool>,
}

impl Filter {
    /// CLIENT KILL with nothing but an address.
    pub fn of_peer(peer: &[u8]) -> Filter {
        Filter {
            conditions: vec![(Condition::Peer(peer.to_vec()), false)],
            spares_self: Some(false),
        }
    }

    /// All arguments left. What is no id where one is expected is a syntax error but for CLIENT LIST,
    /// which has a text of its own.
    pub fn parse(ctx: &AdminCtx<'_>, args: &mut Args<'_>, is_list: bool) -> Result<Filter> {
        let mut filter = Filter::default();
        let mut after_ids = false;
        while let Some(word) = args.word() {
            if args.is_empty() {
                return Err(Error::Syntax);
            }
            if &*word == b"SKIPME" {
                filter.spares_self = match args.word().as_deref() {
                    Some(b"YES") => Some(true),
                    Some(b"NO") => Some(false),
                    _ => return Err(Error::Syntax),
                };
                continue;
            }
            let (name, is_turned) = match word.strip_prefix(b"NOT-") {
                Some(rest) => (rest, true),
                None => (&*word, false),
            };
            let condition = match name {
                b"ID" => Condition::Ids(ids(args, is_list)?),
                _ => condition(ctx, name, args).map_err(|error| match error {
                    Error::Syntax if is_list && after_ids => Error::Plain(NO_ID),
                    error => error,
                })?,
            };
            after_ids = matches!(condition, Condition::Ids(_));
            filter.add(condition, is_turned);
        }
        Ok(filter)
    }

    fn add(&mut self, condition: Condition, is_turned: bool) {
        let mut same = self.conditions.iter_mut().filter(|(one, turned)| {
            discriminant(one) == discriminant(&condition) && *turned == is_turned
        });
        match (same.next(), condition) {
            (Some((Condition::Ids(ids), _)), Condition::Ids(more)) => ids.extend(more),
            (Some((one, _)), condition) => *one = condition,
            (None, condition) => self.conditions.push((condition, is_turned)),
        }
    }

    /// Whether a connection is meant. `now_ms` is Unix time.
    pub fn matches(&self, client: &Client, now_ms: u64) -> bool {
        self.conditions
            .iter()
            .all(|(condition, is_turned)| condition.holds(client, now_ms) != *is_turned)
    }
}

impl Condition {
    fn holds(&self, client: &Client, now_ms: u64) -> bool {
        match self {
            Condition::Ids(ids) => ids.contains(&client.address.session),
            Condition::Kind(kind) => client.kind() == *kind,
            Condition::User(user) => client.user.lock().name() == &user[..],
            Condition::Peer(peer) => client.peer.as_bytes() == peer,
            Condition::Local(local) => client.local.as_bytes() == local,
            Condition::Host(host) => host_of(&client.peer) == &host[..],
            Condition::Name(name) => *client.name.lock() == *name,
            Condition::Library(name) => client.library.lock().0 == *name,
            Condition::LibraryVersion(version) => client.library.lock().1 == *version,
            Condition::Flags(flags) => {
                let has = client.flags();
                flags.iter().all(|flag| has.as_bytes().contains(flag))
            }
            Condition::Capabilities(letters) => {
                let redirects = client.follows_redirects.load(Relaxed);
                letters.iter().all(|letter| *letter == b'r' && redirects)
            }
            Condition::Database(database) => i64::from(client.facts.lock().database) == *database,
            Condition::AgeSeconds(min) => client.age_s(now_ms) >= *min,
            Condition::IdleSeconds(min) => client.idle_s(now_ms) >= *min,
        }
    }
}

/// The condition of the option `name`, whose value is at the front of `args`.
fn condition(ctx: &AdminCtx<'_>, name: &[u8], args: &mut Args<'_>) -> Result<Condition> {
    Ok(match name {
        b"TYPE" => Condition::Kind(kind(args.take()?)?),
        b"USER" => Condition::User(known_user(ctx, args.take()?)?),
        b"ADDR" => Condition::Peer(args.take()?.to_vec()),
        b"LADDR" => Condition::Local(args.take()?.to_vec()),
        b"IP" => Condition::Host(args.take()?.to_vec()),
        b"NAME" => Condition::Name(args.take()?.to_vec()),
        b"LIB-NAME" => Condition::Library(args.take()?.to_vec()),
        b"LIB-VER" => Condition::LibraryVersion(args.take()?.to_vec()),
        b"FLAGS" => Condition::Flags(flags(args.take()?)?),
        b"CAPA" => Condition::Capabilities(capabilities(args.take()?)?),
        b"DB" => Condition::Database(database(ctx, args.take()?)?),
        b"MAXAGE" => Condition::AgeSeconds(seconds(
            args.take()?,
            "ERR maxage is not an integer or out of range",
            "ERR maxage should be greater than 0",
        )?),
        b"IDLE" => Condition::IdleSeconds(seconds(
            args.take()?,
            "ERR idle is not an integer or out of range",
            "ERR idle should be greater than 0",
        )?),
        _ => return Err(Error::Syntax),
    })
}

/// Ids up to the next word that is no number; the first must be one. CLIENT LIST does not mind ids
/// that nobody can have.
fn ids(args: &mut Args<'_>, is_list: bool) -> Result<Vec<u64>> {
    let text = if is_list {
        NO_ID
    } else {
        "ERR client-id should be greater than 0"
    };
    let id = |number: i64| match u64::try_from(number) {
        Ok(id) if id > 0 => Ok(id),
        _ if is_list => Ok(0),
        _ => Err(Error::Plain(text)),
    };
    let first = parse_i64(args.take()?).ok_or(Error::Plain(text))?;
    let mut ids = vec![id(first)?];
    while let Some(number) = args.peek().and_then(parse_i64) {
        args.take()?;
        ids.push(id(number)?);
    }
    Ok(ids)
}

fn kind(word: &[u8]) -> Result<&'static str> {
    match &word.to_ascii_lowercase()[..] {
        b"normal" => Ok("normal"),
        b"pubsub" => Ok("pubsub"),
        b"master" | b"primary" => Ok("master"),
        b"slave" | b"replica" => Ok("replica"),
        _ => {
            let word = String::from_utf8_lossy(word);
            Err(Error::Owned(format!("ERR Unknown client type '{word}'")))
        }
    }
}

fn known_user(ctx: &AdminCtx<'_>, name: &[u8]) -> Result<Vec<u8>> {
    if ctx.state.acl.get(name).is_some() {
        return Ok(name.to_vec());
    }
    let name = String::from_utf8_lossy(name);
    Err(Error::Owned(format!("ERR No such user '{name}'")))
}

fn flags(text: &[u8]) -> Result<Vec<u8>> {
    if !text.is_empty() && text.iter().all(|flag| FLAGS.contains(flag)) {
        return Ok(text.to_vec());
    }
    let text = String::from_utf8_lossy(text);
    Err(Error::Owned(format!("ERR Unknown flags found in the provided filter: {text}")))
}

fn capabilities(text: &[u8]) -> Result<Vec<u8>> {
    if !text.is_empty() && text.iter().all(|letter| *letter == b'r') {
        return Ok(text.to_vec());
    }
    let text = String::from_utf8_lossy(text);
    Err(Error::Owned(format!("ERR Unknown capa found in the provided filter: {text}")))
}

fn database(ctx: &AdminCtx<'_>, text: &[u8]) -> Result<i64> {
    let number = parse_i64(text).ok_or(Error::Plain("ERR DB is not an integer or out of range"))?;
    let is_one = (0..i64::from(ctx.state.keyspace.n_databases())).contains(&number);
    match is_one {
        true => Ok(number),
        false => Err(Error::Plain("ERR DB number should be between 0 and the number of databases")),
    }
}

fn seconds(text: &[u8], no_number: &'static str, too_small: &'static str) -> Result<u64> {
    let number = parse_i64(text).ok_or(Error::Plain(no_number))?;
    let number = u64::try_from(number).ok().filter(|number| *number > 0);
    number.ok_or(Error::Plain(too_small))
}

/// The host in `host:port` or `[host]:port`; all of a path.
fn host_of(address: &str) -> &[u8] {
    let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
    let inner = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    inner.unwrap_or(host).as_bytes()
}
