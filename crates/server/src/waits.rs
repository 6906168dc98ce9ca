//! Who waits for the disk or for replicas: WAIT, WAITAOF.
//!
//! A wait is served when what the client wrote last has come as far as it asked for. Whoever brings the
//! stream there, or switches the append-only file off, looks for those to serve.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use keyspace::registry::Waiter;
use parking_lot::Mutex;

use crate::mailbox::{Address, Mail, Mailboxes};

/// What is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Goal {
    /// The append-only stream must be on this disk up to here; `None` if that does not matter.
    pub local: Option<u64>,
    /// So many replicas must have the stream.
    pub n_replicas: usize,
    /// Up to here.
    pub streamed_to: u64,
    /// WAITAOF: they must have it on their disks, and the reply tells of this disk, too.
    pub is_about_disks: bool,
    /// Where the append-only stream ended, for the reply.
    pub written_to: u64,
    /// Until this Unix time; `None` waits for ever.
    pub until_ms: Option<u64>,
}

/// One that waits.
pub struct Wait {
    /// For what.
    pub goal: Goal,
    /// Its right to be served.
    pub waiter: Arc<Waiter>,
    /// Whose it is.
    pub to: Address,
}

/// All that wait. A leaf lock but for the mailboxes, and what tells how far the stream is.
#[derive(Default)]
pub struct Waits {
    all: Mutex<Vec<Wait>>,
    n: AtomicUsize,
}

impl Waits {
    /// Adds one.
    pub fn add(&self, wait: Wait) {
        let mut all = self.all.lock();
        all.push(wait);
        self.n.store(all.len(), SeqCst);
    }

    /// Serves those for whom `answer` has a reply. Who calls it wakes the loops.
    pub fn serve(&self, answer: impl Fn(&Goal) -> Option<Vec<u8>>, mailboxes: &Mailboxes) {
        if self.n.load(SeqCst) == 0 {
            return;
        }
        let mut all = self.all.lock();
        all.retain(|wait| {
            if wait.waiter.is_over() {
                return false;
            }
            let Some(reply) = answer(&wait.goal).filter(|_| wait.waiter.claim()) else {
                return true;
            };
            let to = wait.to;
            mailboxes.post(to.group.into(), Mail::Served { to, reply });
            wait.waiter.finish();
            false
        });
        self.n.store(all.len(), SeqCst);
    }
}
