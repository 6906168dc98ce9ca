//! Client-side caching as the engine sees it: what a session reads is remembered under the locks it
//! was read under, and whoever changes it tells under his.

use resp::reply::Reply;

use super::Engine;
use crate::command::Command;
use crate::session::Session;
use crate::tracking::Post;

impl Engine {
    fn post<T>(&self, work: impl FnOnce(Post<'_>) -> T) -> T {
        let clients = &self.state.clients;
        work(Post {
            find: &|id| clients.get(id).map(|client| client.address),
            mailboxes: &self.state.mailboxes,
            own: self.teller.map(|id| (id, &self.notices)),
        })
    }

    /// Begins to gather the notices of a session that tracks and runs something; who did before.
    pub fn begin_notices(&mut self, session: &Session) -> Option<u64> {
        let teller = session.tracking.is_some().then(|| session.id());
        std::mem::replace(&mut self.teller, teller)
    }

    /// Writes what was gathered for a session behind its reply, or before it.
    #[cold]
    pub fn write_notices(&mut self, session: &mut Session, reply: &mut Reply<'_>) {
        for (id, notice) in self.notices.take() {
            match id == session.id() {
                true => session.write_notice(&notice, reply),
                // It runs a script from within which this loop serves others.
                false => self.notices.get_mut().push((id, notice)),
            }
        }
    }

    /// Remembers the keys that a session has read with a command.
    #[cold]
    pub(super) fn remember_keys(&self, session: &Session, command: &Command, request: &[&[u8]]) {
        let mode = session.tracking.as_ref();
        if !command.is_read() || !mode.is_some_and(|mode| mode.remembers()) {
            return;
        }
        let (id, n_keys_max) = (session.id(), self.state.config.tracking_keys_max());
        self.post(|post| {
            command.keys.each(request, &mut |key| {
                self.state.tracking.remember(key, id, n_keys_max, post);
            });
        });
    }

    /// What CLIENT CACHING chose ends with the next command, or with its transaction.
    #[cold]
    pub(super) fn end_choice(session: &mut Session, command: &Command) {
        let is_over = session.queue.is_none() && !command.name.starts_with("client");
        if let Some(mode) = &mut session.tracking
            && is_over
        {
            mode.is_chosen = false;
        }
    }

    /// Tells who has read keys that a step changed, before the step's own reading is remembered.
    #[cold]
    pub(super) fn tell_readers(&mut self) {
        let has_touched_all = std::mem::take(&mut self.effects.has_touched_all);
        let n_touched = self.effects.touched.len();
        let n_told = std::mem::replace(&mut self.effects.n_told, n_touched);
        self.post(|post| {
            let touched = &self.effects.touched[n_told..];
            self.state.tracking.invalidate(touched, post);
            if has_touched_all {
                self.state.tracking.invalidate_all(post);
            }
        });
    }

    /// Tells everybody of what a command and all its steps changed.
    #[cold]
    pub(super) fn tell_trackers(&mut self) {
        self.tell_readers();
        self.effects.n_told = 0;
        let touched = std::mem::take(&mut self.effects.touched);
        self.post(|post| self.state.tracking.tell_by_prefix(&touched, post));
    }
}
