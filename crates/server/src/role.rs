//! Primary or replica: of whom, who follows, and how far everybody is.
//!
//! Event loops send to replicas, the thread of `replication` follows a primary, and the saver makes the
//! snapshot that a new replica begins with. Here is what they know of each other; nothing here does
//! any input or output.

use std::collections::VecDeque;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::journal::backlog::Backlog;
use crate::logging;
use crate::mailbox::Address;

/// Bytes of a snapshot that may wait for one replica's socket.
const PAYLOAD_BYTES_MAX: usize = 4 << 20;
/// Bytes handed to a loop at a time.
pub const PIECE_BYTES: usize = 64 << 10;

/// The names of the history that the data belongs to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ids {
    /// 40 hexadecimal digits.
    pub replid: String,
    /// The name it had before, valid up to `second_offset`.
    pub replid2: String,
    /// The first offset that belongs to `replid` alone; -1 if there is no second name.
    pub second_offset: i64,
}

/// What a replica is sent next.
enum Feed {
    /// Nothing: it has not asked yet.
    None,
    /// It asked for everything; the snapshot is not begun.
    Waiting,
    /// The snapshot: what was made of it, or what stands before the file that it is in.
    Payload {
        queue: VecDeque<Arc<[u8]>>,
        n_bytes: usize,
        rest: Rest,
        then: u64,
    },
    /// The stream, from this offset on.
    Stream(u64),
    /// It could not be given what it needs.
    Broken,
}

/// What follows the pieces of a snapshot that are there.
enum Rest {
    /// More of them.
    Pieces,
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

/// A session that follows this server.
pub struct Replica {
    /// Where its session is.
    pub address: Address,
    /// The other side's address, without the port.
    pub peer: String,
    /// See [`ReplicaFacts`].
    pub facts: Mutex<ReplicaFacts>,
    feed: Mutex<Feed>,
    room: Condvar,
    since: Instant,
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
            room: Condvar::new(),
            since: Instant::now(),
        }
    }

    /// Whether it asked for a snapshot that is not begun.
    fn is_waiting(&self) -> bool {
        matches!(*self.feed.lock(), Feed::Waiting)
    }

    /// Whether it has asked to follow.
    pub fn has_begun(&self) -> bool {
        !matches!(*self.feed.lock(), Feed::None)
    }

    /// The state as INFO names it.
    pub fn state(&self) -> &'static str {
        match &*self.feed.lock() {
            Feed::None | Feed::Waiting | Feed::Broken => "wait_bgsave",
            Feed::Payload { .. } => "send_bulk",
            Feed::Stream(_) => "online",
        }
    }

    /// Whether it gets the stream.
    pub fn is_online(&self) -> bool {
        matches!(*self.feed.lock(), Feed::Stream(_))
    }

    /// The first offset that it still needs.
    fn needs(&self) -> Option<u64> {
        match &*self.feed.lock() {
            Feed::None | Feed::Waiting | Feed::Broken => None,
            Feed::Payload { then, .. } => Some(*then),
            Feed::Stream(at) => Some(*at),
        }
    }

    /// Bytes of the stream that it lacks.
    pub fn behind(&self, backlog: &Backlog) -> u64 {
        self.needs()
            .map_or(0, |at| backlog.end().saturating_sub(at))
    }

    /// Goes on with the stream from an offset.
    pub fn go_on(&self, offset: u64) {
        self.facts.lock().is_online = true;
        *self.feed.lock() = Feed::Stream(offset);
    }

    /// Asks for everything.
    fn ask(&self) {
        *self.feed.lock() = Feed::Waiting;
    }

    /// Begins the snapshot, behind `head`; the stream follows from `then` on.
    pub fn begin(&self, head: &[u8], then: u64) {
        self.facts.lock().is_online = false;
        *self.feed.lock() = Feed::Payload {
            queue: VecDeque::from([head.into()]),
            n_bytes: head.len(),
            rest: Rest::Pieces,
            then,
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
                        *feed = Feed::Broken;
                        return false;
                    }
                }
                _ => return false,
            }
        }
    }

    /// The snapshot is whole; or it is in this file, which stands behind what was offered.
    pub fn complete(&self, file: Option<File>) {
        let mut feed = self.feed.lock();
        if let Feed::Payload { rest, .. } = &mut *feed {
            *rest = file.map_or(Rest::Word, |file| Rest::File(file, 0));
        }
    }

    /// It can get nothing more.
    pub fn give_up(&self) {
        *self.feed.lock() = Feed::Broken;
        self.room.notify_all();
    }

    /// Puts what is to be sent next into `out`, at most about [`PIECE_BYTES`].
    pub fn next(&self, backlog: &Backlog, out: &mut Vec<u8>) -> Next {
        let mut feed = self.feed.lock();
        match &mut *feed {
            Feed::None | Feed::Waiting => Next::Nothing,
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
                match rest {
                    Rest::Pieces => return Next::Nothing,
                    // The end of a snapshot of unknown length is the end of what has come.
                    Rest::Word if !self.facts.lock().is_online => return Next::Nothing,
                    Rest::Word => {}
                    Rest::File(file, at) => {
                        out.resize(PIECE_BYTES, 0);
                        match file.read_at(out, *at) {
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

/// How the link to the primary stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Not connected.
    #[default]
    Connect,
    /// A connection is being made.
    Connecting,
    /// The snapshot is on its way.
    Sync,
    /// The stream is followed.
    Connected,
}

/// The primary, and the link to it.
#[derive(Clone, Debug)]
pub struct Primary {
    /// Its host, as it was given.
    pub host: String,
    /// Its port.
    pub port: u16,
    /// How the link stands.
    pub link: LinkState,
    /// When something came last.
    pub heard_at: Option<Instant>,
    /// Since when the link is down.
    pub down_since: Option<Instant>,
    /// Bytes of the snapshot that is coming, if known, and those that came.
    pub snapshot: (u64, u64),
    /// The offset up to which its stream was read.
    pub read: u64,
}

/// A history that a file tells of.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// Its name.
    pub replid: String,
    /// The offset at which the file stands.
    pub offset: u64,
    /// Keys of the file that had run out when it was loaded, with their databases.
    pub lost: Vec<(u16, Box<[u8]>)>,
}

#[derive(Default)]
struct Desk {
    primary: Option<Primary>,
    /// Raised by every change of whom to follow.
    generation: u64,
}

/// See the top of the file.
pub struct Role {
    ids: Mutex<Ids>,
    desk: Mutex<Desk>,
    bell: Condvar,
    replicas: Mutex<Vec<Arc<Replica>>>,
    /// Replicas that have acknowledged lately.
    n_good: AtomicUsize,
    is_replica: AtomicBool,
    is_link_up: AtomicBool,
    /// Held while a command of the primary is run and handed on: a snapshot for replicas of this
    /// server stands between two of them.
    pub applying: Mutex<()>,
    /// The database that the primary's stream has chosen.
    pub stream_database: AtomicU64,
    /// What the file that is loaded says of its history.
    found: Mutex<Option<Found>>,
    /// When the last replica went.
    alone_since: Mutex<Option<Instant>>,
    /// Snapshots for replicas.
    pub n_full: AtomicU64,
    /// Replicas that could go on.
    pub n_partial: AtomicU64,
    /// Replicas that asked to go on and could not.
    pub n_partial_refused: AtomicU64,
}

impl Role {
    /// A primary of a history with this name.
    pub fn new(replid: String) -> Role {
        Role {
            ids: Mutex::new(Ids {
                replid,
                replid2: "0".repeat(40),
                second_offset: -1,
            }),
            desk: Mutex::default(),
            bell: Condvar::new(),
            replicas: Mutex::default(),
            n_good: 0.into(),
            is_replica: false.into(),
            is_link_up: false.into(),
            applying: Mutex::default(),
            stream_database: 0.into(),
            found: Mutex::default(),
            alone_since: Mutex::default(),
            n_full: 0.into(),
            n_partial: 0.into(),
            n_partial_refused: 0.into(),
        }
    }

    // ---- Whom this server follows ---------------------------------------------------------------

    /// Whether this server follows another.
    #[inline]
    pub fn is_replica(&self) -> bool {
        self.is_replica.load(Relaxed)
    }

    /// Whether the link to the primary is up.
    #[inline]
    pub fn is_link_up(&self) -> bool {
        self.is_link_up.load(Relaxed)
    }

    /// The primary, if there is one.
    pub fn primary(&self) -> Option<Primary> {
        self.desk.lock().primary.clone()
    }

    /// Follows this one from now on; false if it does already.
    pub fn follow(&self, host: String, port: u16) -> bool {
        let mut desk = self.desk.lock();
        if let Some(primary) = &desk.primary
            && primary.port == port
            && primary.host.eq_ignore_ascii_case(&host)
        {
            return false;
        }
        desk.primary = Some(Primary {
            host,
            port,
            link: LinkState::Connect,
            heard_at: None,
            down_since: Some(Instant::now()),
            snapshot: (0, 0),
            read: 0,
        });
        desk.generation += 1;
        self.is_replica.store(true, Relaxed);
        logging::set_replica(true);
        self.is_link_up.store(false, Relaxed);
        self.bell.notify_all();
        true
    }

    /// Follows nobody from now on; false if that is so already.
    pub fn lead(&self) -> bool {
        let mut desk = self.desk.lock();
        let was_replica = desk.primary.take().is_some();
        if was_replica {
            desk.generation += 1;
            self.is_replica.store(false, Relaxed);
            logging::set_replica(false);
            self.is_link_up.store(false, Relaxed);
            self.bell.notify_all();
        }
        was_replica
    }

    /// Changes with every change of whom to follow.
    pub fn generation(&self) -> u64 {
        self.desk.lock().generation
    }

    /// Waits for such a change, or until the time is up.
    pub fn wait(&self, generation: u64, patience: Duration) {
        let mut desk = self.desk.lock();
        if desk.generation == generation {
            self.bell.wait_for(&mut desk, patience);
        }
    }

    /// Wakes who waits for a change.
    pub fn nudge(&self) {
        self.bell.notify_all();
    }

    /// Notes how the link stands, unless somebody else is followed by now.
    pub fn note_link(&self, generation: u64, change: impl FnOnce(&mut Primary)) {
        let mut desk = self.desk.lock();
        if desk.generation != generation {
            return;
        }
        if let Some(primary) = &mut desk.primary {
            change(primary);
            let is_up = primary.link == LinkState::Connected;
            if is_up {
                primary.down_since = None;
            } else {
                primary.down_since.get_or_insert_with(Instant::now);
            }
            self.is_link_up.store(is_up, Relaxed);
        }
    }

    // ---- Names of the history -------------------------------------------------------------------

    /// The names of the history.
    pub fn ids(&self) -> Ids {
        self.ids.lock().clone()
    }

    /// A history that nobody else has: what was written before is in no stream.
    pub fn begin_history(&self, replid: String) {
        *self.ids.lock() = Ids {
            replid,
            replid2: "0".repeat(40),
            second_offset: -1,
        };
    }

    /// Notes what a file says of its history.
    pub fn find_history(&self, note: impl FnOnce(&mut Found)) {
        note(self.found.lock().get_or_insert_default());
    }

    /// Notes a key of such a file that is not loaded, as its time has come.
    pub fn lose_key(&self, database: u16, key: &[u8]) {
        if let Some(found) = &mut *self.found.lock() {
            found.lost.push((database, key.into()));
        }
    }

    /// Takes what the file has said.
    pub fn take_found(&self) -> Option<Found> {
        let found = self.found.lock().take();
        found.filter(|found| found.replid.len() == 40)
    }

    /// The history that ends at `offset` goes on under the present name.
    pub fn succeed(&self, replid: String, offset: u64) {
        let mut ids = self.ids.lock();
        (ids.replid2, ids.second_offset) = (replid, offset as i64 + 1);
    }

    /// The history goes on under another name from `offset` on; the old name stays good before it.
    pub fn rename_history(&self, replid: String, offset: u64) {
        let mut ids = self.ids.lock();
        if ids.replid != replid {
            ids.replid2 = std::mem::replace(&mut ids.replid, replid);
            ids.second_offset = offset as i64 + 1;
        }
    }

    /// The offset from which who has the history of this name up to `wanted` (the first byte it
    /// lacks, counted from 1) can go on; `None` if it must begin anew.
    pub fn resume_at(&self, backlog: &Backlog, replid: &str, wanted: i64) -> Option<u64> {
        let ids = self.ids();
        let is_second = replid == ids.replid2 && wanted <= ids.second_offset;
        if !(replid.eq_ignore_ascii_case(&ids.replid) || is_second) || !backlog.is_on() {
            return None;
        }
        let offset = u64::try_from(wanted.checked_sub(1)?).ok()?;
        let (start, n_kept) = backlog.kept();
        (start..=start + n_kept).contains(&offset).then_some(offset)
    }

    // ---- Who follows this server ------------------------------------------------------------------

    /// A replica comes.
    pub fn add(&self, replica: &Arc<Replica>, is_new: bool) {
        let mut replicas = self.replicas.lock();
        if !replicas.iter().any(|other| Arc::ptr_eq(other, replica)) {
            replicas.push(replica.clone());
        }
        *self.alone_since.lock() = None;
        if is_new {
            replica.ask();
        }
        self.bell.notify_all();
    }

    /// A replica goes.
    pub fn remove(&self, replica: &Arc<Replica>) {
        replica.give_up();
        let mut replicas = self.replicas.lock();
        replicas.retain(|other| !Arc::ptr_eq(other, replica));
        if replicas.is_empty() {
            *self.alone_since.lock() = Some(Instant::now());
        }
    }

    /// For how long there has been no replica, after there was one.
    pub fn alone_for(&self) -> Option<Duration> {
        self.alone_since.lock().map(|since| since.elapsed())
    }

    /// All replicas. Copies.
    pub fn replicas(&self) -> Vec<Arc<Replica>> {
        self.replicas.lock().clone()
    }

    /// Those that wait for a snapshot, and for how long the first has waited.
    pub fn waiting(&self) -> (Vec<Arc<Replica>>, Duration) {
        let mut waiting = self.replicas();
        waiting.retain(|replica| replica.is_waiting());
        let longest = waiting.iter().map(|replica| replica.since.elapsed()).max();
        (waiting, longest.unwrap_or_default())
    }

    /// The loops that send to replicas.
    pub fn groups(&self) -> Vec<u16> {
        let replicas = self.replicas.lock();
        let mut groups: Vec<u16> = replicas
            .iter()
            .map(|replica| replica.address.group)
            .collect();
        groups.sort_unstable();
        groups.dedup();
        groups
    }

    /// Replicas that are online and have acknowledged within `max_lag`.
    pub fn count_good(&self, max_lag: Duration) {
        let is_good = |replica: &Arc<Replica>| {
            let acked_at = replica.facts.lock().acked_at;
            replica.is_online() && acked_at.is_some_and(|at| at.elapsed() <= max_lag)
        };
        let n = self
            .replicas()
            .iter()
            .filter(|replica| is_good(replica))
            .count();
        self.n_good.store(n, Relaxed);
    }

    /// As it was counted last.
    pub fn n_good(&self) -> usize {
        self.n_good.load(Relaxed)
    }

    /// Replicas that have the stream up to `offset`.
    pub fn n_with(&self, offset: u64) -> usize {
        self.n_where(|facts| facts.acked >= offset)
    }

    /// Replicas that have the stream on their disks up to `offset`.
    pub fn n_with_on_disk(&self, offset: u64) -> usize {
        self.n_where(|facts| facts.acked_on_disk >= offset)
    }

    /// Replicas that are online and of which this is true.
    fn n_where(&self, is_so: impl Fn(&ReplicaFacts) -> bool) -> usize {
        let replicas = self.replicas.lock();
        let counts = |replica: &&Arc<Replica>| {
            let is_so = is_so(&replica.facts.lock());
            is_so && replica.is_online()
        };
        replicas.iter().filter(counts).count()
    }

    /// Drops what no replica needs any more.
    pub fn trim(&self, backlog: &Backlog) {
        let needed = self
            .replicas()
            .iter()
            .filter_map(|replica| replica.needs())
            .min();
        backlog.trim(needed.unwrap_or(u64::MAX));
    }
}
