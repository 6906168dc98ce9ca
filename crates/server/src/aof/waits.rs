//! Who waits for the disk: WAITAOF.
//!
//! A wait is served when the stream is on the disk up to where it was when the client wrote last. Letters
//! are posted by whoever brings the stream there, or switches the file off.

use std::sync::Arc;

use keyspace::registry::Waiter;
use parking_lot::Mutex;

use crate::mailbox::{Address, Mail, Mailboxes};

/// One that waits.
pub struct Wait {
    /// Up to where the stream must be on the disk; `None`: it waits for more than that.
    pub end: Option<u64>,
    /// It must be on this disk: without a file the wait is an error.
    pub is_local: bool,
    /// Its right to be served.
    pub waiter: Arc<Waiter>,
    /// Whose it is.
    pub to: Address,
}

/// All that wait. A leaf lock but for the mailboxes.
#[derive(Default)]
pub struct Waits(Mutex<Vec<Wait>>);

/// On this disk, and on those of no replica.
const SERVED: &[u8] = b"*2\r\n:1\r\n:0\r\n";

impl Waits {
    /// Adds one.
    pub fn add(&self, wait: Wait) {
        self.0.lock().push(wait);
    }

    /// Serves those who wait for no more than this.
    pub fn serve(&self, synced: u64, mailboxes: &Mailboxes) {
        let is_reached = |wait: &Wait| wait.end.is_some_and(|end| end <= synced);
        self.end(is_reached, SERVED, mailboxes);
    }

    /// The file is switched off.
    pub fn refuse(&self, mailboxes: &Mailboxes, error: &str) {
        let line = format!("-{error}\r\n");
        self.end(|wait| wait.is_local, line.as_bytes(), mailboxes);
    }

    fn end(&self, is_it: impl Fn(&Wait) -> bool, reply: &[u8], mailboxes: &Mailboxes) {
        let mut waits = self.0.lock();
        if waits.is_empty() {
            return;
        }
        waits.retain(|wait| {
            if wait.waiter.is_over() {
                return false;
            }
            let is_served = is_it(wait) && wait.waiter.claim();
            if is_served {
                let (to, reply) = (wait.to, reply.to_vec());
                mailboxes.post(to.group.into(), Mail::Served { to, reply });
                wait.waiter.finish();
            }
            !is_served
        });
        drop(waits);
        mailboxes.wake();
    }
}
