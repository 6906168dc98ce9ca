//! Access control at work: whether the user of a session may run a request, and what is told and noted
//! if not.
//!
//! [`Engine::is_free`] is the whole cost for a session that may do everything. Any other is vetted, in
//! the gate, again for each command of EXEC and of a script, and once more when a command that waited
//! is served: rules may have changed meanwhile.

use resp::reply::Reply;

use super::Engine;
use crate::acl::log::Refusal;
use crate::acl::rules::Rules;
use crate::acl::{Denied, Request, User};
use crate::command::{Channels, Command, Flag};
use crate::error::Error;
use crate::session::Session;
use crate::state::State;
use crate::stats::counters::Counter;

/// Where a request comes from, as ACL LOG names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// From the client itself.
    Client,
    /// From the commands queued since MULTI.
    Exec,
    /// From a script.
    Script,
}

/// Shows a request to rules.
fn with_request<T>(
    (state, present): (&State, u16),
    command: &Command,
    words: &[&[u8]],
    ask: impl FnOnce(&Request<'_>) -> T,
) -> T {
    ask(&Request {
        number: state.acl.catalogue().known_as(command.number),
        is_always_allowed: command.needs_no_auth,
        words,
        keys: &|visit| match command.has(Flag::System) {
            true => {} // DEBUG shows whatever there is
            false => command.each_need(words, visit),
        },
        databases: &|visit| {
            let databases = (present, state.keyspace.n_databases());
            command.each_database(words, databases, visit);
        },
        channels: command.channels_of(words),
        channels_are_patterns: command.channels == Channels::Patterns,
    })
}

/// Whether rules allow a request in a database.
pub fn verdict(
    place: (&State, u16),
    rules: &Rules,
    command: &Command,
    words: &[&[u8]],
) -> Result<(), Denied> {
    if rules.is_free() {
        return Ok(());
    }
    with_request(place, command, words, |request| rules.check(request))
}

/// The name by which rules know a command.
fn known_name(command: &Command) -> &'static str {
    match command.has(Flag::System) {
        true => command.name.split('|').next().unwrap_or_default(),
        false => command.name,
    }
}

/// What a refused client is told, without the code; in detail for who asks on behalf of another.
pub fn refusal_text(denied: &Denied, user: &User, command: &Command, in_detail: bool) -> String {
    let user = String::from_utf8_lossy(user.name());
    let shown = |name: &[u8]| String::from_utf8_lossy(name).into_owned();
    match denied {
        Denied::Command => {
            let name = known_name(command);
            format!("User {user} has no permissions to run the '{name}' command")
        }
        Denied::Key(_, key) if in_detail => {
            format!("User {user} has no permissions to access the '{}' key", shown(key))
        }
        Denied::Channel(_, channel) if in_detail => {
            format!("User {user} has no permissions to access the '{}' channel", shown(channel))
        }
        Denied::Database(_, number) if in_detail => {
            format!("User {user} has no permissions to access database {number}")
        }
        Denied::Key(..) => "No permissions to access a key".to_owned(),
        Denied::Database(..) => "No permissions to access database".to_owned(),
        Denied::Channel(..) => "No permissions to access a channel".to_owned(),
    }
}

impl Engine {
    /// Whether the session's user is known to be allowed everything.
    #[inline]
    pub fn is_free(&self, session: &Session) -> bool {
        session.is_primary || session.free_at == self.state.acl.generation()
    }

    /// Whether a session may run a request. Notes the refusal if not.
    #[cold]
    pub fn vet(
        &self,
        session: &mut Session,
        command: &Command,
        words: &[&[u8]],
        origin: Origin,
    ) -> Result<(), Error> {
        let acl = &self.state.acl;
        let is_known = session.is_authenticated || !acl.needs_login();
        if !is_known && !command.needs_no_auth {
            return Err(Error::Plain("NOAUTH Authentication required."));
        }
        let generation = acl.generation();
        if session.rules_at != generation {
            session.rules = session.user.rules();
            session.rules_at = generation;
        }
        if session.rules.is_free() {
            if is_known {
                session.free_at = generation;
            }
            return Ok(());
        }
        let place = (self.state, session.present_database());
        let asked = with_request(place, command, words, |request| {
            session.rules.check(request)?;
            let is_beyond = command.reads_beyond.and_then(|error| error(words));
            Ok(is_beyond.filter(|_| !session.rules.reads_all_keys_with(request)))
        });
        match asked {
            Ok(None) => Ok(()),
            Ok(Some(line)) => Err(Error::Plain(line)),
            Err(denied) => Err(self.deny(session, (command, words), &denied, origin)),
        }
    }

    /// Counts and notes a refusal, and says it.
    fn deny(
        &self,
        session: &mut Session,
        (command, words): (&Command, &[&[u8]]),
        denied: &Denied,
        origin: Origin,
    ) -> Error {
        if origin == Origin::Client {
            session.last_command = command.name;
        }
        let (counter, reason, object) = match denied {
            Denied::Command => (Counter::DeniedCommand, "command", known_name(command).as_bytes()),
            Denied::Key(_, key) => (Counter::DeniedKey, "key", &key[..]),
            Denied::Channel(_, channel) => (Counter::DeniedChannel, "channel", &channel[..]),
            Denied::Database(at, _) => {
                let named = words.get(*at).filter(|_| *at > 0);
                let object = named.map_or(known_name(command).as_bytes(), |word| *word);
                (Counter::DeniedDatabase, "database", object)
            }
        };
        self.counters.add(counter, 1);
        let refusal = Refusal {
            reason,
            context: match origin {
                Origin::Script => "lua",
                Origin::Exec => "multi",
                Origin::Client if session.queue.is_some() => "multi",
                Origin::Client => "toplevel",
            },
            object: object.to_vec(),
            username: session.user.name().to_vec(),
        };
        note(self.state, session, refusal, self.now_ms);
        let text = refusal_text(denied, &session.user, command, false);
        Error::Owned(match origin {
            Origin::Client => format!("NOPERM {text}"),
            Origin::Script => format!("ERR ACL failure in script: {text}"),
            Origin::Exec => {
                let what = match denied {
                    Denied::Command => "no permission to execute the command or subcommand",
                    Denied::Key(..) => "no permission to touch the specified keys",
                    Denied::Channel(..) => {
                        "no permission to access one of the channels used as arguments"
                    }
                    Denied::Database(..) => "no permission to access the database",
                };
                format!(
                    "NOPERM ACLs rules changed between the moment the transaction was accumulated \
                     and the EXEC call. This command is no longer allowed for the following reason: \
                     {what}"
                )
            }
        })
    }

    /// The same for a command inside EXEC or a script: whether it may run, else it is answered.
    pub(super) fn may_step(
        &self,
        session: &mut Session,
        command: &Command,
        words: &[&[u8]],
        origin: Origin,
        reply: &mut Reply<'_>,
    ) -> bool {
        if self.is_free(session) {
            return true;
        }
        match self.vet(session, command, words, origin) {
            Ok(()) => true,
            Err(error) => {
                let line = error.to_string();
                self.count_error(line.as_bytes());
                reply.error(line.as_bytes());
                false
            }
        }
    }

    /// Whether a session listens to something that its user may not hear any more.
    pub fn must_leave(&self, session: &Session) -> bool {
        let Some(subscriptions) = &session.subscriptions else {
            return false;
        };
        let rules = session.user.rules();
        let named = subscriptions
            .channels
            .iter()
            .chain(&subscriptions.shard_channels);
        let has_lost = |name: &[u8], is_pattern| !rules.allows_channel(name, is_pattern);
        named.into_iter().any(|name| has_lost(name, false))
            || subscriptions
                .patterns
                .iter()
                .any(|name| has_lost(name, true))
    }
}

/// Adds to ACL LOG.
pub fn note(state: &State, session: &Session, refusal: Refusal, now_ms: u64) {
    let buffers = session.client.facts.lock().buffers;
    session.publish(now_ms, buffers);
    let info = session.client.line(now_ms);
    let max_len = state.config.acllog_max_len();
    state.acl.log.lock().add(refusal, now_ms, info, max_len);
}
