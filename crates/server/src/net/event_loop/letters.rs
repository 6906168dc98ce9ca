//! Letters: what other threads have for the connections of a loop.

use resp::reply::Reply;

use super::EventLoop;
use crate::exec::Engine;
use crate::mailbox::{Address, Mail, Notice};
use crate::net::connection::Connection;
use crate::stats::counters::Counter;
use crate::stats::memory::block_bytes;

impl EventLoop {
    pub(super) fn open_letters(&mut self, engine: &mut Engine) {
        let letters = self.state.mailboxes.take(self.group);
        match self.letters.is_empty() {
            true => self.letters = letters.into(), // and nothing is kept of those before
            false => self.letters.extend(letters),
        }
        while let Some(mail) = self.letters.pop_front() {
            self.open(engine, mail);
        }
    }

    fn open(&mut self, engine: &mut Engine, mail: Mail) {
        match mail {
            Mail::Socket(incoming) => self.accept(engine, incoming),
            Mail::Push { to, bytes } => {
                to.iter().for_each(|one| self.push(*one, &bytes, false));
            }
            Mail::Line { to, bytes } => {
                to.iter().for_each(|one| self.push(*one, &bytes, true));
            }
            Mail::Served { to, reply } => {
                if let Some((idx, connection)) = self.find(to) {
                    engine.end_service(&mut connection.session);
                    self.go_on(engine, idx, &reply);
                }
            }
            Mail::Unblocked { to, error } => {
                if let Some((idx, connection)) = self.find(to) {
                    let on_timeout = engine.end_wait(&mut connection.session, error.is_none());
                    let reply = match error {
                        None => on_timeout,
                        Some(error) => {
                            engine.count_error(error.as_bytes());
                            format!("-{error}\r\n").into_bytes()
                        }
                    };
                    self.go_on(engine, idx, &reply);
                }
            }
            Mail::Feed => self.feed_all(engine),
            Mail::Settle(done) => engine.settle(done),
            Mail::Purge => crate::stats::memory::release(),
            Mail::Review(to) => {
                if let Some((idx, connection)) = self.find(to)
                    && engine.must_leave(&connection.session)
                {
                    self.close(engine, idx);
                }
            }
            Mail::Kill(to) => {
                if let Some((idx, _)) = self.find(to) {
                    self.close(engine, idx);
                }
            }
            Mail::Notice {
                to,
                notice,
                n_bytes,
            } => {
                self.n_told_bytes += n_bytes;
                self.notify(to, &notice);
            }
        }
    }

    pub(super) fn find(&mut self, address: Address) -> Option<(usize, &mut Connection)> {
        let idx = address.slot as usize;
        let connection = self.connections.get_mut(idx)?;
        (connection.session.id() == address.session).then_some((idx, connection))
    }

    fn push(&mut self, to: Address, bytes: &[u8], is_line: bool) {
        if let Some((idx, connection)) = self.find(to) {
            match is_line {
                true => connection.output.extend_from_slice(bytes),
                false => connection.push(bytes),
            }
            connection.session.bytes_out += bytes.len() as u64;
            self.list(idx);
            let counters = self.state.stats.thread(self.group);
            counters.add(Counter::NetOutputBytes, bytes.len() as u64);
        }
    }

    fn notify(&mut self, to: Address, notice: &Notice) {
        let state = self.state;
        if let Some((idx, connection)) = self.find(to) {
            let (session, output) = (&mut connection.session, &mut connection.output);
            // Counted before it is taken: another loop may evict at this moment.
            let before = block_bytes(output.capacity());
            let n_more = match session.hears(notice) {
                true => notice.len_max(),
                false => 0,
            };
            let has_room = output.capacity() - output.len() >= n_more;
            let capacity = match has_room {
                true => output.capacity(),
                false => (output.len() + n_more).next_power_of_two(),
            };
            let n_bytes = block_bytes(capacity) - before;
            state.mailboxes.count_notice(n_bytes);
            output.reserve_exact(capacity - output.len());
            let mut reply = Reply::new(output, session.proto);
            session.write_notice(notice, &mut reply);
            self.n_told_bytes += n_bytes;
            if n_more > 0 {
                self.list(idx);
            }
        }
    }
}
