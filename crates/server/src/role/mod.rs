//! Primary or replica: of whom, who follows, and how far everybody is.
//!
//! Event loops send to replicas, the thread of `replication` follows a primary, and the saver makes the
//! snapshot that a new replica begins with. Here is what they know of each other; nothing here does
//! any input or output.

pub mod failover;
pub mod own_keys;
pub mod replica;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::journal::backlog::Backlog;
use crate::logging;
use failover::Failover;
use own_keys::OwnKeys;
use replica::{Replica, ReplicaFacts};

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

/// How the link to the primary stands.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LinkState {
    /// Not connected.
    #[default]
    Connect,
    /// A connection is being made.
    Connecting,
    /// It is there, and the primary has not said yet how it goes on.
    Handshake,
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
    /// Since when the link is up.
    pub up_since: Option<Instant>,
    /// Since when the link is down.
    pub down_since: Option<Instant>,
    /// Bytes of the snapshot that is coming, if known, and those that came.
    pub snapshot: (u64, u64),
    /// Bytes of the stream that came besides the snapshot and were not run yet, and the most that they were.
    pub kept: (u64, u64),
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

/// See [`Role::grace_s`].
const GRACE_S: u64 = 5;

#[derive(Default)]
struct Desk {
    primary: Option<Primary>,
    /// Raised by every change of whom to follow.
    generation: u64,
    /// Raised when there is something else to look at.
    n_nudges: u64,
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
    /// FAILOVER.
    pub failover: Failover,
    /// What goes by this server's own clock though it is a replica.
    pub own_keys: OwnKeys,
    /// When the last replica went.
    alone_since: Mutex<Option<Instant>>,
    /// A snapshot for replicas is being made.
    pub is_serving: AtomicBool,
    /// For how long a snapshot whose connection is gone keeps the stream for who is to come: Valkey's way.
    pub grace_s: AtomicU64,
    /// DEBUG PAUSE-AFTER-FORK.
    pub stops_at_sync: AtomicBool,
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
            failover: Failover::default(),
            own_keys: OwnKeys::default(),
            alone_since: Mutex::default(),
            is_serving: false.into(),
            grace_s: GRACE_S.into(),
            stops_at_sync: false.into(),
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
            up_since: None,
            down_since: Some(Instant::now()),
            snapshot: (0, 0),
            kept: (0, 0),
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
        let until = Instant::now() + patience;
        let mut desk = self.desk.lock();
        while desk.generation == generation && !self.bell.wait_until(&mut desk, until).timed_out() {
        }
    }

    /// What [`Role::wait_for_news`] compares with. Asked for before the look at what there is to do, so
    /// that nothing comes in between.
    pub fn news(&self) -> (u64, u64) {
        let desk = self.desk.lock();
        (desk.generation, desk.n_nudges)
    }

    /// Waits for such a change, or a nudge, or until the time is up.
    pub fn wait_for_news(&self, seen: (u64, u64), patience: Duration) {
        let mut desk = self.desk.lock();
        if (desk.generation, desk.n_nudges) == seen {
            self.bell.wait_for(&mut desk, patience);
        }
    }

    /// Wakes who looks after replicas.
    pub fn nudge(&self) {
        self.desk.lock().n_nudges += 1;
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
                primary.up_since.get_or_insert_with(Instant::now);
            } else {
                primary.up_since = None;
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

    /// Whether this is the name of the present history.
    pub fn knows(&self, replid: &str) -> bool {
        replid.eq_ignore_ascii_case(&self.ids().replid)
    }

    // ---- Who follows this server ------------------------------------------------------------------

    /// A replica comes.
    pub fn add(&self, replica: &Arc<Replica>, is_new: bool) {
        let mut replicas = self.replicas.lock();
        if !replicas.iter().any(|other| Arc::ptr_eq(other, replica)) {
            replicas.push(replica.clone());
        }
        drop(replicas);
        *self.alone_since.lock() = None;
        if is_new {
            replica.ask();
        }
        self.nudge();
    }

    /// A replica goes.
    pub fn remove(&self, replica: &Arc<Replica>) {
        if !replica.stays_behind() {
            self.forget(replica);
        }
    }

    /// See [`Role::grace_s`].
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_s.load(Relaxed))
    }

    /// Drops what stays behind of connections that are gone, once it is of no use any more.
    pub fn clear_past(&self) {
        let grace = self.grace();
        let mut past = self.replicas();
        past.retain(|replica| replica.is_past(grace));
        for replica in past {
            if replica.awaits_main() {
                log::warn!(
                    "Replica main channel failed to establish PSYNC within the grace period ({} \
                     seconds). Freeing RDB client {}.",
                    grace.as_secs(),
                    replica.address.session
                );
            }
            self.forget(&replica);
        }
    }

    /// Connections for snapshots of which the stream is not taken yet.
    pub fn n_awaiting(&self) -> usize {
        let replicas = self.replicas();
        let awaiting = replicas.iter().filter(|replica| replica.awaits_main());
        awaiting.count()
    }

    /// Drops a replica whose connection is gone.
    pub fn forget(&self, replica: &Arc<Replica>) {
        replica.give_up();
        let mut replicas = self.replicas.lock();
        replicas.retain(|other| !Arc::ptr_eq(other, replica));
        let others = replicas.iter();
        others.for_each(|other| other.follow_into_the_end(replica));
        self.n_good.fetch_min(replicas.len(), Relaxed); // before they are counted anew
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

    /// All replicas, each once: without connections that are there for a snapshot alone. Copies.
    pub fn followers(&self) -> Vec<Arc<Replica>> {
        let mut followers = self.replicas();
        followers.retain(|replica| !replica.is_channel() && !replica.is_dual());
        followers
    }

    /// Those that INFO tells of: where it is Valkey's way, the connections for snapshots are, too. Copies.
    pub fn shown(&self) -> Vec<Arc<Replica>> {
        let mut shown = self.replicas();
        shown.retain(|replica| !replica.is_channel() || replica.is_dual());
        shown
    }

    /// The connection for a snapshot, in Valkey's way, by the number of its session.
    pub fn dual(&self, session: u64) -> Option<Arc<Replica>> {
        let is_it = |replica: &Arc<Replica>| replica.address.session == session;
        self.replicas()
            .into_iter()
            .find(|replica| is_it(replica) && replica.is_dual() && !replica.is_lost())
    }

    /// The replica that waits for the connection of its snapshot, by the number of its session.
    pub fn apart(&self, session: u64) -> Option<Arc<Replica>> {
        let is_it = |replica: &Arc<Replica>| replica.address.session == session;
        self.replicas()
            .into_iter()
            .find(|replica| is_it(replica) && replica.is_apart())
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

    /// Bytes that wait for the sockets of replicas, besides the stream.
    pub fn unsent_bytes(&self) -> u64 {
        let replicas = self.replicas();
        replicas.iter().map(|replica| replica.unsent_bytes()).sum()
    }

    /// Bytes of the stream that are kept for a replica alone: beyond `kept_bytes`.
    pub fn lagging_bytes(&self, backlog: &Backlog, kept_bytes: u64) -> u64 {
        let replicas = self.replicas();
        let behind = replicas.iter().map(|replica| replica.behind(backlog)).max();
        behind.unwrap_or(0).saturating_sub(kept_bytes)
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
