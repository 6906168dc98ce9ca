//! Letters to event loops: sockets, messages, replies to blocked sessions, kills.
//!
//! Any thread may post, also under a shard lock: posting is a push behind a leaf lock and never a
//! system call. Whoever posted wakes the loops once it holds nothing, at the latest at the end of its
//! tick ([`Mailboxes::wake`]).

use std::any::Any;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use mio::Waker;
use parking_lot::Mutex;

use crate::io::stream::Incoming;

/// Where a session is: its loop, its place there, and its id, as places are used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Address {
    /// The event loop.
    pub group: u16,
    /// The connection's place in that loop.
    pub slot: u32,
    /// CLIENT ID.
    pub session: u64,
}

/// What may be in a letter. One to a session that is gone is dropped.
#[derive(Debug)]
pub enum Mail {
    /// A new connection.
    Socket(Incoming),
    /// The same push for several sessions of one loop, with the header of RESP3.
    Push {
        /// Who gets it.
        to: Vec<Address>,
        /// The whole message.
        bytes: Arc<[u8]>,
    },
    /// The same line for several sessions of one loop.
    Line {
        /// Who gets it.
        to: Vec<Address>,
        /// The whole line.
        bytes: Arc<[u8]>,
    },
    /// The reply that ends a session's wait.
    Served {
        /// Whose.
        to: Address,
        /// The whole reply.
        reply: Vec<u8>,
    },
    /// A session's wait was ended by somebody else.
    Unblocked {
        /// Whose.
        to: Address,
        /// With this error instead of the reply of a timeout.
        error: Option<String>,
    },
    /// The rules of a session's user have changed: it may be subscribed to what it may not hear.
    Review(Address),
    /// There is something to send to replicas.
    Feed,
    /// An errand is done: what the engine is to do now.
    Settle(Box<dyn Any + Send>),
    /// MEMORY PURGE: the thread gives back what is free in its heap.
    Purge,
    /// CLIENT KILL.
    Kill(Address),
    /// Something that a session holds has changed.
    Notice {
        /// Whose.
        to: Address,
        /// What to tell it.
        notice: Notice,
        /// What the letter takes up.
        n_bytes: usize,
    },
}

/// What client-side caching has to tell a session.
#[derive(Debug)]
pub enum Notice {
    /// Keys have changed; `None`: all may have.
    Invalid {
        /// The keys.
        keys: Option<Arc<[Box<[u8]>]>>,
        /// They are another session's, which redirects its notices here.
        is_redirected: bool,
    },
    /// The session that notices are redirected to is gone.
    Unreachable {
        /// Its id.
        redirect: u64,
    },
}

impl Notice {
    /// More bytes than it takes in a connection.
    pub fn len_max(&self) -> usize {
        const FRAME_BYTES: usize = 128;
        match self {
            Notice::Invalid {
                keys: Some(keys), ..
            } => FRAME_BYTES + keys.iter().map(|key| key.len() + 32).sum::<usize>(),
            _ => FRAME_BYTES,
        }
    }
}

/// The letters of one loop. Every loop looks at the flags of all in every tick, so they have cache
/// lines of their own and are written only when there is mail.
#[derive(Default)]
#[repr(align(128))]
struct Mailbox {
    letters: Mutex<Vec<Mail>>,
    /// There may be letters.
    is_filled: AtomicBool,
    /// There are letters that the loop was not woken for.
    is_unannounced: AtomicBool,
    /// The loop has set connections aside because a lock was busy.
    is_waiting: AtomicBool,
    waker: OnceLock<Waker>,
}

/// The mailboxes of all loops.
pub struct Mailboxes {
    boxes: Box<[Mailbox]>,
    n_waiting: AtomicUsize,
    n_notice_bytes: AtomicUsize,
}

impl Mailboxes {
    /// One for each of `n_groups` loops.
    pub fn new(n_groups: usize) -> Mailboxes {
        Mailboxes {
            boxes: (0..n_groups).map(|_| Mailbox::default()).collect(),
            n_waiting: AtomicUsize::new(0),
            n_notice_bytes: AtomicUsize::new(0),
        }
    }

    /// How many loops there are.
    pub fn len(&self) -> usize {
        self.boxes.len()
    }

    /// Whether there are no loops.
    pub fn is_empty(&self) -> bool {
        self.boxes.is_empty()
    }

    /// What ends the sleep of a loop. Set once, before anything is posted.
    pub fn set_waker(&self, group: usize, waker: Waker) {
        let _ = self.boxes[group].waker.set(waker);
    }

    /// Puts a letter into the mailbox of a loop.
    pub fn post(&self, group: usize, mail: Mail) {
        let mailbox = &self.boxes[group];
        if let Mail::Notice { n_bytes, .. } = &mail {
            self.count_notice(*n_bytes);
        }
        mailbox.letters.lock().push(mail);
        mailbox.is_filled.store(true, Ordering::Release);
        mailbox.is_unannounced.store(true, Ordering::Release);
    }

    /// What notices take up until a loop has tried to send them.
    pub fn n_notice_bytes(&self) -> usize {
        self.n_notice_bytes.load(Ordering::Relaxed)
    }

    /// Notices take up so much more.
    pub fn count_notice(&self, n_bytes: usize) {
        self.n_notice_bytes.fetch_add(n_bytes, Ordering::Relaxed);
    }

    /// Notices of so many bytes have been sent, as far as they could be.
    pub fn has_told(&self, n_bytes: usize) {
        self.n_notice_bytes.fetch_sub(n_bytes, Ordering::Relaxed);
    }

    /// Wakes every loop that has got letters. Makes system calls: never under a shard lock.
    pub fn wake(&self) {
        for mailbox in &self.boxes {
            if mailbox.is_unannounced.load(Ordering::Relaxed)
                && mailbox.is_unannounced.swap(false, Ordering::AcqRel)
            {
                mailbox.ring();
            }
        }
    }

    /// Wakes every loop, letters or not.
    pub fn wake_all(&self) {
        self.boxes.iter().for_each(Mailbox::ring);
    }

    /// Likewise, but for one that is awake.
    pub fn wake_others(&self, group: usize) {
        let others = self.boxes.iter().enumerate().filter(|(at, _)| *at != group);
        others.for_each(|(_, mailbox)| mailbox.ring());
    }

    /// Takes the letters of a loop.
    pub fn take(&self, group: usize) -> Vec<Mail> {
        let mailbox = &self.boxes[group];
        if !mailbox.is_filled.load(Ordering::Acquire) {
            return Vec::new();
        }
        // Down before the letters are taken: one that comes between is taken, and looked for again.
        mailbox.is_unannounced.store(false, Ordering::Relaxed);
        mailbox.is_filled.store(false, Ordering::Release);
        std::mem::take(&mut *mailbox.letters.lock())
    }

    /// Says that a loop has set connections aside until a lock is released. It must try once more
    /// after this, as the holder may have released meanwhile.
    pub fn wait_for_release(&self, group: usize) {
        if !self.boxes[group].is_waiting.swap(true, Ordering::SeqCst) {
            self.n_waiting.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// Whether loops wait for a release.
    #[inline]
    pub fn has_waiting(&self) -> bool {
        self.n_waiting.load(Ordering::SeqCst) > 0
    }

    /// Wakes the loops that wait for a release. Called after every release, with nothing held.
    #[inline]
    pub fn released(&self) {
        if self.has_waiting() {
            self.wake_waiting();
        }
    }

    #[cold]
    fn wake_waiting(&self) {
        for mailbox in &self.boxes {
            if mailbox.is_waiting.swap(false, Ordering::SeqCst) {
                self.n_waiting.fetch_sub(1, Ordering::SeqCst);
                mailbox.ring();
            }
        }
    }
}

impl Mailbox {
    fn ring(&self) {
        if let Some(waker) = self.waker.get() {
            // A loop that cannot be woken has ended.
            let _ = waker.wake();
        }
    }
}
