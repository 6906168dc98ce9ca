//! Errands of commands: work in another thread, while the command waits and holds nothing, and what
//! follows it.
//!
//! ```text
//!   call ── handler: send_off ──► session waits      errands: work ── letter to the loop
//!                                                    settle: lock ── a row that clients cannot call ── reply
//! ```
//!
//! What follows is done even if the session has gone meanwhile: MIGRATE deletes what the target has.
//! Where its locks are busy, or CLIENT PAUSE holds writes back, it is tried again in the next tick.

use std::any::Any;
use std::sync::Arc;
use std::time::Instant;

use keyspace::registry::{Cause, Waiter};
use resp::reply::{Proto, Reply};

use super::blocking::Parked;
use super::count::Ended;
use super::{Admitted, Engine, Outcome};
use crate::command::context::{After, Errand};
use crate::error::Error;
use crate::mailbox::Mail;
use crate::session::Session;
use crate::session::client::Client;
use crate::session::queue::Queued;

/// An errand that is done, and whose it was.
pub(super) struct Settlement {
    client: Arc<Client>,
    proto: Proto,
    database: u16,
    admitted: Admitted,
    request: Queued,
    after: After,
}

impl Engine {
    /// Sends a command's errand off and has its session wait.
    pub(super) fn send_off(
        &mut self,
        session: &mut Session,
        admitted: Admitted,
        request: &[&[u8]],
        Errand(work): Errand,
        (reply, mark): (&mut Reply<'_>, usize),
    ) -> Outcome {
        reply.truncate(mark);
        let state = self.state;
        let (client, proto, database) = (session.client.clone(), session.proto, session.database);
        let parked = Parked::without_end(session, admitted, Queued::new(request));
        let request = Queued::new(request);
        let work = move || {
            let group = client.address.group.into();
            let settlement = Settlement {
                client,
                proto,
                database,
                admitted,
                request,
                after: work(state),
            };
            let letter = Mail::Settle(Box::new(settlement));
            state.mailboxes.post(group, letter);
            state.mailboxes.wake_all();
        };
        let look_after = || state.migration.look_after();
        if let Err(error) = state.errands.send(Box::new(work), look_after) {
            log::warn!("Can't start a thread: {error}");
            reply.error(b"ERR Can't start a thread for it");
            return Outcome::Done;
        }
        let nothing = Cause {
            database,
            keys: Vec::new(),
            heeds_loss: false,
        };
        let waiter = Waiter::new(Box::new(parked), false).with_cause(nothing);
        session.waiter = Some(Arc::new(waiter));
        Outcome::Blocked(None)
    }

    /// Does what follows an errand.
    pub fn settle(&mut self, done: Box<dyn Any + Send>) {
        if let Ok(settlement) = done.downcast::<Settlement>()
            && let Some(settlement) = self.try_settle(*settlement)
        {
            self.unsettled.push(settlement);
        }
    }

    /// The same for what could not be done before.
    pub(super) fn settle_rest(&mut self) {
        for settlement in std::mem::take(&mut self.unsettled) {
            let rest = self.try_settle(settlement);
            self.unsettled.extend(rest);
        }
    }

    /// Gives back what cannot be done now.
    fn try_settle(&mut self, settlement: Settlement) -> Option<Settlement> {
        let mut bytes = Vec::new();
        let mut reply = Reply::new(&mut bytes, settlement.proto);
        let since = Instant::now();
        let is_ok = match &settlement.after {
            After::Answer(Ok(())) => {
                reply.ok();
                true
            }
            After::Answer(Err(error)) => {
                let line = error.to_string();
                reply.error(line.as_bytes());
                self.count_error(line.as_bytes());
                false
            }
            After::Run { command, words } => {
                let row = (*command, command.name, 1);
                let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
                match self.run_after(
                    settlement.database,
                    row,
                    &words,
                    &settlement.client,
                    &mut reply,
                ) {
                    Some(is_ok) => is_ok,
                    None => return Some(settlement),
                }
            }
        };
        let took_ns = since.elapsed().as_nanos() as u64;
        let reply_bytes = reply.len();
        let ended = Ended { is_ok, reply_bytes };
        let (command, client) = (settlement.admitted.0, &settlement.client);
        self.count_run((command, &settlement.request.words()), client, ended, (took_ns, 1));
        let to = client.address;
        let mail = Mail::Served { to, reply: bytes };
        self.state.mailboxes.post(to.group.into(), mail);
        None
    }

    /// Runs a row under the locks of its keys; whether it succeeded. `None`: nothing was done.
    fn run_after(
        &mut self,
        database: u16,
        row: Admitted,
        words: &[&[u8]],
        client: &Client,
        reply: &mut Reply<'_>,
    ) -> Option<bool> {
        let locked = self.lock_apart(database, row.0, words)?;
        if self.is_paused() {
            return None;
        }
        self.effects.is_recorded = self.state.journal.has_readers();
        self.effects.can_wait = false;
        let is_tracked = self.state.tracking.is_active();
        self.effects.author = is_tracked.then_some(client.address.session);
        let is_ok = self.handle_apart(&locked, (database, true, false), row, words, reply);
        if self.effects.has_news() {
            self.tell_readers();
        }
        self.release(locked);
        if !self.met.is_empty() {
            self.remove_met();
        }
        Some(is_ok)
    }
}

impl From<Error> for After {
    fn from(error: Error) -> After {
        After::Answer(Err(error))
    }
}
