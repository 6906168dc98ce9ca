//! Client-side caching as the engine sees it: what a session reads is remembered under the locks it
//! was read under, and whoever changes it tells under his.

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
        })
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

    /// Tells who holds keys that have changed.
    #[cold]
    pub(super) fn tell_trackers(&mut self) {
        let touched = std::mem::take(&mut self.effects.touched);
        let has_touched_all = std::mem::take(&mut self.effects.has_touched_all);
        self.post(|post| {
            self.state.tracking.invalidate(&touched, post);
            if has_touched_all {
                self.state.tracking.invalidate_all(post);
            }
        });
    }
}
