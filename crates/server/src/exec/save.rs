//! SAVE and BGSAVE: the saver works, and who asked waits for it as a blocked client, so that no event loop is
//! held.

use std::sync::Arc;
use std::time::Duration;

use keyspace::registry::Waiter;
use resp::reply::Reply;

use super::blocking::Late;
use super::{Admitted, Engine, Outcome};
use crate::mailbox::{Address, Mail};
use crate::saving::Word;
use crate::session::Session;
use crate::state::State;

/// How long BGSAVE waits for its moment to be fixed; what is written later is not in the file.
const PATIENCE: Duration = Duration::from_millis(100);
const STARTED: &[u8] = b"+Background saving started\r\n";
const FAILED: &[u8] = b"-ERR\r\n"; // the log says why

impl Engine {
    /// Has the data saved, and parks the command until it is begun or done.
    pub(super) fn await_save(
        &mut self,
        until: Word,
        session: &mut Session,
        admitted: Admitted,
        request: &[&[u8]],
        reply: &mut Reply<'_>,
    ) -> Outcome {
        let is_whole = until == Word::Done;
        let late = if is_whole { FAILED } else { STARTED };
        let waiter = self.park(session, admitted, request, Late::Reply(late.to_vec()));
        let (state, to, told) = (self.state, session.address(), waiter.clone());
        let tell = move |word| {
            if word != Word::Begun || !is_whole {
                answer(
                    state,
                    to,
                    &told,
                    match (is_whole, word) {
                        (true, Word::Done) => b"+OK\r\n",
                        (true, _) => FAILED,
                        (false, _) => STARTED, // however it goes, what INFO says is right
                    },
                );
            }
        };
        if !self.state.saving.wish(Box::new(tell)) {
            self.forget_wait(session);
            reply.error(b"ERR Background save already in progress");
            return Outcome::Done;
        }
        let patience_ms = PATIENCE.as_millis() as u64;
        Outcome::Blocked((!is_whole).then(|| self.now_ms + patience_ms))
    }
}

/// Ends the wait, unless it is over.
fn answer(state: &State, to: Address, waiter: &Arc<Waiter>, reply: &[u8]) {
    if waiter.claim() && waiter.finish() {
        let reply = reply.to_vec();
        state
            .mailboxes
            .post(to.group.into(), Mail::Served { to, reply });
    }
}
