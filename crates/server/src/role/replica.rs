//! One replica of this server: what it said of itself, and what it is sent next, be it the snapshot or
//! the stream.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::journal::backlog::Backlog;
use crate::mailbox::Address;

/// Bytes of a snapshot that may wait for one replica's socket.
const PAYLOAD_BYTES_MAX: usize = 4 << 20;
/// The Valkey whose hashes have fields with deadlines, and whose snapshots have a version of their own.
const VALKEY_WITH_DEADLINES: u32 = 9;
/// Bytes handed to a loop at a time.
pub const PIECE_BYTES: usize = 64 << 10;

/// What a replica is sent next.
enum Feed {
    /// Nothing: it has not asked yet.
    None,
    /// It asked for everything; the snapshot is not begun.
    Waiting,
    /// It asked for everything, and gets the snapshot through another connection, which has not begun.
    Apart {
        /// That connection has come.
        is_named: bool,
    },
    /// The snapshot: what was made of it, or what stands before the file that it is in.
    Payload {
        queue: VecDeque<Arc<[u8]>>,
        n_bytes: usize,
        rest: Rest,
        then: u64,
    },
    /// The stream, from this offset on.
    Stream(u64),
    /// Nothing more: it was the connection of a snapshot, and all of that went out.
    Sent,
    /// It could not be given what it needs.
    Broken,
}

/// What follows the pieces of a snapshot that are there.
enum Rest {
    /// More of them.
    Pieces,
    /// All of it, behind its length, once it is in a file. Until then an empty line says nothing.
    Later,
    /// This file, from here on.
    File(File, u64),
    /// The stream, when the replica has said that it has loaded what it got.
    Word,
}

/// What a replica said of itself, and where it is.
#[derive(Clone, Debug, Default)]
pub struct ReplicaFacts {
    /// REPLCONF ip-address.
    pub ip: Option<String>,
    /// REPLCONF listening-port.
    pub port: u16,
    /// REPLCONF capa eof: it takes a snapshot whose length is not known before.
    pub takes_eof: bool,
    /// REPLCONF capa psync2, or any PSYNC at all.
    pub takes_psync: bool,
    /// REPLCONF capa rdb-redis: it reads Redis's snapshots, whatever it says of its version.
    pub reads_redis: bool,
    /// REPLCONF version, which only a Valkey says, and who reads its snapshots: the first number.
    pub version: u32,
    /// REPLCONF capa rdb-channel-repl: it can get the snapshot through a connection of its own.
    pub takes_channel: bool,
    /// REPLCONF rdb-channel and main-ch-client-id: this is such a connection, for the session with this number;
    /// for 0 as long as it has named none.
    pub channel_of: Option<u64>,
    /// REPLCONF capa dual-channel: it can get the snapshot through a connection of its own, in Valkey's way.
    pub takes_dual: bool,
    /// REPLCONF set-rdb-client-id: the session that gets the snapshot of this one.
    pub dual_channel: Option<u64>,
    /// It was told to get the snapshot of this one by another connection, and is to ask again after that.
    pub waits_for_dual: bool,
    /// REPLCONF rdb-only: it wants a snapshot and no stream.
    pub is_snapshot_only: bool,
    /// REPLCONF rdb-filter-only functions.
    pub wants_functions_only: bool,
    /// The offset up to which it has the stream.
    pub acked: u64,
    /// The offset up to which it has the stream on its disk.
    pub acked_on_disk: u64,
    /// When it last said so.
    pub acked_at: Option<Instant>,
    /// It has said so since it got its snapshot: the stream may go out.
    pub is_online: bool,
}

impl ReplicaFacts {
    /// Whether it reads Valkey's version of a snapshot and not Redis's.
    pub fn is_of_valkey(&self) -> bool {
        self.version >= VALKEY_WITH_DEADLINES && !self.reads_redis
    }
}

/// A session that follows this server.
pub struct Replica {
    /// Where its session is.
    pub address: Address,
    /// The other side's address, without the port.
    pub peer: String,
    /// See [`ReplicaFacts`].
    pub facts: Mutex<ReplicaFacts>,
    feed: Mutex<Feed>,
    /// It gets the stream already, and has not said yet that it has loaded the snapshot.
    is_loading: AtomicBool,
    /// Who gets the stream of this snapshot, if that is not this connection.
    main: OnceLock<Arc<Replica>>,
    /// It is there for the snapshot alone, and `main` comes after the cut: Valkey's way.
    is_dual: AtomicBool,
    /// It is such a `main`.
    is_dual_main: AtomicBool,
    /// Since when all of its snapshot is out.
    out_since: OnceLock<Instant>,
    /// Since when its connection is gone, though `main` is still to come for the stream.
    gone_since: OnceLock<Instant>,
    /// It waits, and is to hear that this server is alive.
    wants_sign: AtomicBool,
    /// What its connection holds of what it is sent.
    output_bytes: AtomicUsize,
    room: Condvar,
    /// When it came.
    pub since: Instant,
}

impl std::fmt::Debug for Replica {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replica")
            .field("address", &self.address)
            .finish()
    }
}

/// What a loop has to send.
#[derive(Debug, PartialEq, Eq)]
pub enum Next {
    /// What was put into the buffer.
    Piece,
    /// Nothing for now.
    Nothing,
    /// Nothing any more: it may be closed.
    Done,
    /// It cannot go on and must be closed, for this reason.
    Broken(&'static str),
}

impl Replica {
    /// One that has said nothing yet.
    pub fn new(address: Address, peer: String) -> Replica {
        Replica {
            address,
            peer,
            facts: Mutex::default(),
            feed: Mutex::new(Feed::None),
            is_loading: AtomicBool::new(false),
            main: OnceLock::new(),
            is_dual: AtomicBool::new(false),
            is_dual_main: AtomicBool::new(false),
            out_since: OnceLock::new(),
            gone_since: OnceLock::new(),
            wants_sign: AtomicBool::new(false),
            output_bytes: AtomicUsize::new(0),
            room: Condvar::new(),
            since: Instant::now(),
        }
    }

    /// Whether it asked for a snapshot that is not begun.
    pub(super) fn is_waiting(&self) -> bool {
        matches!(*self.feed.lock(), Feed::Waiting)
    }

    /// Whether it has asked to follow.
    pub fn has_begun(&self) -> bool {
        !matches!(*self.feed.lock(), Feed::None)
    }

    /// Where others reach it, and how far it is.
    pub fn place_and_offset(&self) -> (String, u16, u64) {
        let facts = self.facts.lock();
        let host = facts.ip.as_ref().unwrap_or(&self.peer).clone();
        (host, facts.port, facts.acked)
    }

    /// Whether it can get nothing more.
    pub fn is_lost(&self) -> bool {
        matches!(*self.feed.lock(), Feed::Broken)
    }

    /// The state as INFO names it.
    pub fn state(&self) -> &'static str {
        match &*self.feed.lock() {
            Feed::None | Feed::Waiting | Feed::Apart { .. } | Feed::Broken => "wait_bgsave",
            Feed::Payload {
                rest: Rest::Pieces | Rest::Later,
                ..
            } => "wait_bgsave",
            Feed::Payload { .. } | Feed::Sent => "send_bulk",
            Feed::Stream(_) if self.is_loading.load(Relaxed) => {
                match self.is_dual_main.load(Relaxed) {
                    true => "bg_transfer",
                    false => "send_bulk_and_stream",
                }
            }
            Feed::Stream(_) => "online",
        }
    }

    /// What Valkey calls it in INFO.
    pub fn type_name(&self) -> &'static str {
        let is_main = self.is_dual_main.load(Relaxed) && self.is_loading.load(Relaxed);
        match self.is_dual() {
            true => "rdb-channel",
            false if is_main => "main-channel",
            false => "replica",
        }
    }

    /// Whether it follows the stream.
    pub fn is_online(&self) -> bool {
        // In this order: it gets the stream no sooner than it is noted that it loads.
        matches!(*self.feed.lock(), Feed::Stream(_)) && !self.is_loading.load(Relaxed)
    }

    /// It has said how far it is, so it has loaded what it got.
    pub fn has_loaded(&self) {
        self.is_loading.store(false, Relaxed);
    }

    /// Whether it waits for the connection of its snapshot.
    pub fn is_apart(&self) -> bool {
        matches!(*self.feed.lock(), Feed::Apart { .. })
    }

    /// Whether it waits for that, and it has not come.
    pub fn lacks_channel(&self) -> bool {
        matches!(*self.feed.lock(), Feed::Apart { is_named: false })
    }

    /// Has it wait for that.
    pub fn part(&self) {
        *self.feed.lock() = Feed::Apart { is_named: false };
    }

    /// Whether this is the connection of a snapshot whose stream goes to another.
    pub fn is_channel(&self) -> bool {
        self.main.get().is_some()
    }

    /// The stream of this one's snapshot goes to `main`. False if he does not wait for it, has another one,
    /// or is on another host.
    pub fn set_main(&self, main: &Arc<Replica>) -> bool {
        match &mut *main.feed.lock() {
            Feed::Apart { is_named } if !*is_named && main.peer == self.peer => {
                *is_named = self.main.set(main.clone()).is_ok();
                *is_named
            }
            _ => false,
        }
    }

    /// Whether it is there for a snapshot alone, and who gets the stream names it later: Valkey's way.
    pub fn is_dual(&self) -> bool {
        self.is_dual.load(Relaxed)
    }

    /// Has it be that.
    pub fn become_dual(&self) {
        self.is_dual.store(true, Relaxed);
    }

    /// Whether who gets the stream of its snapshot is still to come.
    pub fn awaits_main(&self) -> bool {
        self.is_dual() && !self.is_channel() && matches!(*self.feed.lock(), Feed::Payload { .. })
    }

    /// Its connection is gone. Whether it stays, as all of its snapshot went out and the stream is to follow.
    pub(super) fn stays_behind(&self) -> bool {
        let is_whole = matches!(
            &*self.feed.lock(),
            Feed::Payload { queue, rest: Rest::Word, .. } if queue.is_empty()
        );
        let stays = is_whole && self.awaits_main();
        stays && self.gone_since.set(Instant::now()).is_ok()
    }

    /// Whether its connection is gone, and the stream is kept for who is still to come.
    pub fn is_behind_alone(&self) -> bool {
        self.gone_since.get().is_some() && self.awaits_main()
    }

    /// Whether all of its snapshot is out for so long, and nobody has come for the stream.
    pub fn awaits_in_vain(&self, grace: Duration) -> bool {
        let is_late = |since: &Instant| since.elapsed() > grace;
        self.awaits_main() && self.out_since.get().is_some_and(is_late)
    }

    /// Whether it is of no use any more, if its connection is gone: the stream is taken, or was not for so long.
    pub(super) fn is_past(&self, grace: Duration) -> bool {
        let is_late = |since: &Instant| !self.awaits_main() || since.elapsed() > grace;
        self.gone_since.get().is_some_and(is_late)
    }

    /// The stream behind this one's snapshot goes to `main`. False if another one has it, the snapshot is not
    /// begun or lost, or `main` is on another host.
    pub fn join(&self, main: &Arc<Replica>) -> bool {
        let feed = self.feed.lock();
        let is_there = matches!(*feed, Feed::Payload { .. }) && self.is_dual();
        let is_joined = is_there && main.peer == self.peer && self.main.set(main.clone()).is_ok();
        if is_joined {
            main.is_loading.store(true, Relaxed);
            main.is_dual_main.store(true, Relaxed);
        }
        is_joined
    }

    /// At the cut: the stream goes to who waits for it, if that is not this connection. False if he is gone.
    fn begin_main(&self, offset: u64) -> bool {
        let Some(main) = self.main.get() else {
            return true;
        };
        let mut feed = main.feed.lock();
        let waits = matches!(*feed, Feed::Apart { .. });
        if waits {
            main.is_loading.store(true, Relaxed);
            *feed = Feed::Stream(offset);
        }
        waits
    }

    /// The first offset that it still needs.
    pub(super) fn needs(&self) -> Option<u64> {
        match &*self.feed.lock() {
            Feed::None | Feed::Waiting | Feed::Apart { .. } | Feed::Sent | Feed::Broken => None,
            Feed::Payload { .. } if self.main.get().is_some_and(|main| main.streams()) => None,
            Feed::Payload { then, .. } => Some(*then),
            Feed::Stream(at) => Some(*at),
        }
    }

    /// Whether it gets the stream, and says itself what it needs of it.
    fn streams(&self) -> bool {
        matches!(*self.feed.lock(), Feed::Stream(_))
    }

    /// Whether all of its snapshot is out, or is not wanted any more.
    pub fn has_its_snapshot(&self) -> bool {
        self.out_since.get().is_some() || self.is_lost()
    }

    /// Bytes that are there for it alone and wait for its socket.
    pub fn unsent_bytes(&self) -> u64 {
        let of_snapshot = match &*self.feed.lock() {
            Feed::Payload { n_bytes, .. } => *n_bytes,
            _ => 0,
        };
        (of_snapshot + self.output_bytes.load(Relaxed)) as u64
    }

    /// Its connection holds so much.
    pub fn note_output(&self, n_bytes: usize) {
        self.output_bytes.store(n_bytes, Relaxed);
    }

    /// Bytes of the stream that it lacks.
    pub fn behind(&self, backlog: &Backlog) -> u64 {
        self.needs()
            .map_or(0, |at| backlog.end().saturating_sub(at))
    }

    /// Goes on with the stream from an offset.
    pub fn go_on(&self, offset: u64) {
        let mut facts = self.facts.lock();
        facts.is_online = true;
        facts.acked_at.get_or_insert_with(Instant::now);
        drop(facts);
        *self.feed.lock() = Feed::Stream(offset);
    }

    /// Asks for everything.
    pub(super) fn ask(&self) {
        *self.feed.lock() = Feed::Waiting;
    }

    /// Has it hear an empty line if it waits for a snapshot, as its patience has an end. In between pieces of
    /// one it would be a part of that. Whether it does.
    pub fn give_sign(&self) -> bool {
        let is_silent = match &*self.feed.lock() {
            Feed::Waiting => true,
            Feed::Payload { queue, rest, .. } => queue.is_empty() && matches!(rest, Rest::Later),
            _ => false,
        };
        self.wants_sign.store(is_silent, Relaxed);
        is_silent
    }

    /// Begins the snapshot, behind `head`, which is all until a file is complete or is followed by pieces; the
    /// stream follows from `then` on. Who is lost by now stays so.
    pub fn begin(&self, head: &[u8], by_file: bool, then: u64) {
        self.facts.lock().is_online = false;
        let mut feed = self.feed.lock();
        if !matches!(*feed, Feed::Waiting) {
            return;
        }
        *feed = match self.begin_main(then) {
            true => Feed::Payload {
                queue: VecDeque::from([head.into()]),
                n_bytes: head.len(),
                rest: if by_file { Rest::Later } else { Rest::Pieces },
                then,
            },
            false => Feed::Broken, // its own fault, or his who is gone
        };
    }

    /// A piece of the snapshot; waits while much is unsent. False if the replica is gone, or took
    /// nothing for so long.
    pub fn offer(&self, bytes: &Arc<[u8]>, patience: Duration) -> bool {
        let mut feed = self.feed.lock();
        loop {
            match &mut *feed {
                Feed::Payload { queue, n_bytes, .. } if *n_bytes <= PAYLOAD_BYTES_MAX => {
                    queue.push_back(bytes.clone());
                    *n_bytes += bytes.len();
                    return true;
                }
                Feed::Payload { n_bytes, .. } => {
                    let before = *n_bytes;
                    let is_late = self.room.wait_for(&mut feed, patience).timed_out();
                    let is_stuck =
                        matches!(&*feed, Feed::Payload { n_bytes, .. } if *n_bytes >= before);
                    if is_late && is_stuck {
                        drop(feed);
                        self.give_up();
                        return false;
                    }
                }
                _ => return false,
            }
        }
    }

    /// The snapshot is whole with this piece; or it is in this file, which stands behind it. Of the last piece
    /// it is known that it is: who has got it may close at once.
    pub fn complete(&self, last: &Arc<[u8]>, file: Option<File>) {
        let mut feed = self.feed.lock();
        if let Feed::Payload {
            queue,
            n_bytes,
            rest,
            ..
        } = &mut *feed
        {
            queue.push_back(last.clone());
            *n_bytes += last.len();
            *rest = file.map_or(Rest::Word, |file| Rest::File(file, 0));
        }
    }

    /// It can get nothing more; nor can who would have gone on behind its snapshot.
    pub fn give_up(&self) {
        let before = std::mem::replace(&mut *self.feed.lock(), Feed::Broken);
        self.room.notify_all();
        let was_over = match &before {
            Feed::Sent | Feed::Broken => true,
            Feed::Payload { queue, rest, .. } => queue.is_empty() && matches!(rest, Rest::Word),
            _ => false,
        };
        if let (Some(main), false) = (self.main.get(), was_over) {
            main.give_up();
        }
    }

    /// Gives up the snapshot whose stream goes to `main`.
    pub(super) fn follow_into_the_end(&self, main: &Arc<Replica>) {
        if self.main.get().is_some_and(|own| Arc::ptr_eq(own, main)) {
            self.give_up();
        }
    }

    /// Puts what is to be sent next into `out`, at most about [`PIECE_BYTES`].
    pub fn next(&self, backlog: &Backlog, out: &mut Vec<u8>) -> Next {
        // Neither of its locks is taken under the other: INFO asks for both.
        let is_online = self.facts.lock().is_online;
        let mut feed = self.feed.lock();
        match &mut *feed {
            Feed::Waiting => self.sign(out),
            Feed::None | Feed::Apart { .. } => Next::Nothing,
            Feed::Sent => Next::Done,
            Feed::Broken => Next::Broken("its snapshot could not be made"),
            Feed::Payload {
                queue,
                n_bytes,
                rest,
                then,
            } => {
                if let Some(piece) = queue.pop_front() {
                    *n_bytes -= piece.len();
                    out.extend_from_slice(&piece);
                    self.room.notify_all();
                    return Next::Piece;
                }
                // Who asks for more has sent what he was given before.
                if matches!(rest, Rest::Word) {
                    self.out_since.get_or_init(Instant::now);
                }
                match rest {
                    Rest::Pieces => return Next::Nothing,
                    Rest::Later => return self.sign(out),
                    Rest::Word if self.is_channel() => {
                        *feed = Feed::Sent;
                        return Next::Done;
                    }
                    // The end of a snapshot of unknown length is the end of what has come.
                    // It keeps the stream for who is to come.
                    Rest::Word if self.is_dual() => return Next::Nothing,
                    Rest::Word if !is_online => return Next::Nothing,
                    Rest::Word => {}
                    Rest::File(file, at) => {
                        out.resize(PIECE_BYTES, 0);
                        let n = file.read_at(out, *at);
                        if matches!(n, Ok(0)) {
                            self.out_since.get_or_init(Instant::now);
                        }
                        match n {
                            Ok(0) if self.is_channel() => {
                                out.clear();
                                *feed = Feed::Sent;
                                return Next::Done;
                            }
                            Ok(0) => out.clear(),
                            Ok(n) => {
                                out.truncate(n);
                                *at += n as u64;
                                return Next::Piece;
                            }
                            Err(_) => return Next::Broken("the snapshot cannot be read"),
                        }
                    }
                }
                *feed = Feed::Stream(*then);
                drop(feed);
                self.next_of_stream(backlog, out)
            }
            Feed::Stream(_) => {
                drop(feed);
                self.next_of_stream(backlog, out)
            }
        }
    }

    fn sign(&self, out: &mut Vec<u8>) -> Next {
        if !self.wants_sign.swap(false, Relaxed) {
            return Next::Nothing;
        }
        out.push(b'\n');
        Next::Piece
    }

    fn next_of_stream(&self, backlog: &Backlog, out: &mut Vec<u8>) -> Next {
        let facts = self.facts.lock();
        if facts.is_snapshot_only {
            return Next::Nothing; // it closes when it has what it came for
        }
        drop(facts);
        let mut feed = self.feed.lock();
        let Feed::Stream(at) = &mut *feed else {
            return Next::Nothing;
        };
        match backlog.copy(*at, PIECE_BYTES, out) {
            None => Next::Broken("it is too far behind"),
            Some(0) => Next::Nothing,
            Some(n) => {
                *at += n as u64;
                Next::Piece
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

    use super::*;

    fn from(peer: &str) -> Arc<Replica> {
        let address = Address {
            group: 0,
            slot: 0,
            session: 1,
        };
        Arc::new(Replica::new(address, peer.to_owned()))
    }

    #[test]
    fn those_who_name_each_other_are_given_up_once() {
        let (one, other) = (from("a"), from("a"));
        other.part();
        assert!(one.set_main(&other));
        one.part();
        assert!(other.set_main(&one));
        one.give_up();
        assert!(one.is_lost() && other.is_lost());
    }

    #[test]
    fn a_replica_has_one_connection_for_its_snapshot_and_from_its_own_host() {
        let main = from("a");
        assert!(!from("a").set_main(&main), "it does not wait for one");
        main.part();
        assert!(!from("b").set_main(&main));
        let (channel, late) = (from("a"), from("a"));
        assert!(channel.set_main(&main) && !late.set_main(&main));
        late.give_up();
        assert!(!main.is_lost());
        channel.ask();
        channel.begin(b"head", false, 7);
        assert_eq!(main.needs(), Some(7));
        channel.give_up();
        assert!(main.is_lost(), "half a snapshot is none");
    }

    #[test]
    fn a_snapshot_that_is_sent_keeps_its_stream_until_somebody_comes_for_it() {
        let (dual, main) = (from("a"), from("a"));
        dual.become_dual();
        dual.ask();
        assert!(!dual.join(&main), "it is not begun");
        dual.begin(b"head", false, 7);
        assert!(!dual.stays_behind(), "half of it is of no use");
        dual.complete(&Arc::from(*b"tail"), None);
        let mut out = Vec::new();
        for next in [Next::Piece, Next::Piece, Next::Nothing] {
            assert_eq!(dual.next(&Backlog::default(), &mut out), next);
        }
        assert!(dual.stays_behind() && !dual.is_past(Duration::from_secs(60)));
        assert!(dual.is_past(Duration::ZERO));
        assert_eq!(dual.needs(), Some(7));
        assert!(!dual.join(&from("b")), "another host");
        assert!(dual.join(&main) && !dual.join(&from("a")));
        main.go_on(7);
        assert_eq!((dual.needs(), main.needs()), (None, Some(7)));
        assert!(dual.is_past(Duration::from_secs(60)) && !main.is_online());
        dual.give_up();
        assert!(!main.is_lost());
        main.has_loaded();
        assert!(main.is_online());
    }

    #[test]
    fn who_has_got_all_of_a_snapshot_may_close_and_who_is_lost_stays_so() {
        let (main, channel) = (from("a"), from("a"));
        main.part();
        assert!(channel.set_main(&main));
        channel.ask();
        channel.begin(b"head", false, 7);
        channel.complete(&Arc::from(*b"tail"), None);
        let mut out = Vec::new();
        for _ in 0..2 {
            assert_eq!(channel.next(&Backlog::default(), &mut out), Next::Piece);
        }
        assert_eq!(out, b"headtail");
        channel.give_up();
        assert!(!main.is_lost());
        channel.begin(b"head", false, 9);
        assert!(channel.is_lost());
    }

    #[test]
    fn who_holds_the_facts_of_a_replica_gets_to_its_feed() {
        let replica = from("");
        replica.ask();
        replica.begin(b"head", false, 0);
        replica.complete(&Arc::from(*b"tail"), None); // all is sent, and it has not said that it has it
        let is_done = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let mut out = Vec::new();
                while !is_done.load(Relaxed) {
                    replica.next(&Backlog::default(), &mut out);
                }
            });
            for _ in 0..10_000 {
                let facts = replica.facts.lock();
                let feed = replica.feed.try_lock_for(Duration::from_secs(5));
                let is_reached = feed.is_some();
                drop((feed, facts));
                is_done.store(!is_reached, Relaxed);
                assert!(is_reached, "each waits for the other");
                std::thread::yield_now();
            }
            is_done.store(true, Relaxed);
        });
    }
}
