//! One connection's state, as commands see it. What other threads may see of it is its [`Client`].

pub mod client;
pub mod queue;
pub mod tracking;

use std::sync::Arc;

use hashbrown::HashSet;
use keyspace::registry::{Waiter, Watch};
use resp::reply::Proto;

use crate::acl::User;
use crate::acl::rules::Rules;
use crate::mailbox::Address;
use crate::pubsub::{PubSub, Topic};
use crate::role::replica::Replica;
use client::{Buffers, Client, Facts, TrackingFacts};
use queue::Queue;
use tracking::TrackingMode;

/// What CLIENT REPLY asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Replies {
    /// Every reply is sent.
    #[default]
    On,
    /// None is.
    Off,
    /// The next one is not.
    SkipNext,
    /// The one of the command that runs is not.
    Skip,
    /// It follows from here on: the answer to that is the last.
    LastToReplica,
    /// None belongs into the stream of a replica.
    NoneToReplica,
}

/// The keys that EXEC depends on.
#[derive(Debug, Default)]
pub struct Watching {
    /// Raised when one of them changes.
    pub flag: Arc<Watch>,
    /// The keys, with their databases.
    pub keys: HashSet<(u16, Box<[u8]>)>,
    /// Bytes of the keys.
    pub bytes: usize,
}

impl Watching {
    /// Bytes of it and of what the registries keep for each key.
    fn memory_bytes(&self) -> usize {
        let each = size_of::<(u16, Box<[u8]>)>() + 2 * size_of::<Box<[u8]>>();
        size_of::<Watching>() + self.keys.capacity() * each + 2 * self.bytes
    }
}

/// What a session is subscribed to.
#[derive(Debug, Default)]
pub struct Subscriptions {
    /// Channels by name.
    pub channels: HashSet<Box<[u8]>>,
    /// Patterns.
    pub patterns: HashSet<Box<[u8]>>,
    /// Shard channels by name.
    pub shard_channels: HashSet<Box<[u8]>>,
    /// Bytes of the names.
    pub bytes: usize,
}

impl Subscriptions {
    /// Bytes of it and of its places in the books.
    fn memory_bytes(&self) -> usize {
        let sets = [&self.channels, &self.patterns, &self.shard_channels];
        let places: usize = sets.iter().map(|set| set.capacity()).sum();
        let each = size_of::<Box<[u8]>>() + size_of::<Address>();
        size_of::<Subscriptions>() + places * each + self.bytes
    }

    /// How many there are in all.
    pub fn len(&self) -> usize {
        self.channels.len() + self.patterns.len() + self.shard_channels.len()
    }

    /// How many there are of those that are counted together with this kind.
    pub fn count(&self, topic: Topic) -> usize {
        match topic {
            Topic::Channel | Topic::Pattern => self.channels.len() + self.patterns.len(),
            Topic::Shard => self.shard_channels.len(),
        }
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Those of one kind.
    pub fn of(&mut self, topic: Topic) -> &mut HashSet<Box<[u8]>> {
        match topic {
            Topic::Channel => &mut self.channels,
            Topic::Pattern => &mut self.patterns,
            Topic::Shard => &mut self.shard_channels,
        }
    }
}

/// See the top of the file. What few sessions use is behind pointers: an idle one stays small.
#[derive(Debug)]
pub struct Session {
    /// The part that other threads see.
    pub client: Arc<Client>,
    /// What is charged to it for replies that are not with its connection yet.
    pub n_charged_reply_bytes: usize,
    /// The database chosen by SELECT.
    pub database: u16,
    /// The protocol chosen by HELLO.
    pub proto: Proto,
    /// Whether AUTH succeeded, or was not needed.
    pub is_authenticated: bool,
    /// It was, at some time.
    pub was_authenticated: bool,
    /// Who it is.
    pub user: Arc<User>,
    /// What the user may do, as of `rules_at`.
    pub rules: Arc<Rules>,
    /// The generation of users that `rules` is of; 0 if they are to be looked at anew.
    pub rules_at: u64,
    /// The generation at which it was allowed everything; 0 if it is not.
    pub free_at: u64,
    /// Close once the replies so far are sent.
    pub is_closing: bool,
    /// CLIENT NO-TOUCH: what it reads does not count as used.
    pub leaves_clock: bool,
    /// CLIENT IMPORT-SOURCE: it sees what is due, while `import-mode` lasts.
    pub is_importer: bool,
    /// CLIENT NO-EVICT: it is not closed to save memory.
    pub is_kept: bool,
    /// MONITOR: it sees every command.
    pub is_monitor: bool,
    /// CLIENT REPLY.
    pub replies: Replies,
    /// The commands since MULTI.
    pub queue: Option<Box<Queue>>,
    /// The keys since WATCH.
    pub watching: Option<Box<Watching>>,
    /// Channels and patterns.
    pub subscriptions: Option<Box<Subscriptions>>,
    /// Its CLIENT PAUSE has begun and is not answered.
    pub is_pausing: bool,
    /// It waits for the end of a pause.
    pub is_postponed: bool,
    /// What it wants to be told of, if anything.
    pub tracking: Option<Box<TrackingMode>>,
    /// The blocking command that this session waits in.
    pub waiter: Option<Arc<Waiter>>,
    /// What it said of itself as a replica of this server.
    pub replica: Option<Arc<Replica>>,
    /// It is the link to the primary: what comes has happened already.
    pub is_primary: bool,
    /// The full name of the last command.
    pub last_command: &'static str,
    /// It watched or listened when it last stood still.
    is_notable: bool,
    /// Bytes of its name.
    name_bytes: usize,
    /// Commands run.
    pub n_commands: u64,
    /// Where the append-only stream ended after what it wrote last.
    pub written_to: u64,
    /// Where the stream for replicas ended then.
    pub streamed_to: u64,
    /// Bytes received.
    pub bytes_in: u64,
    /// Bytes sent.
    pub bytes_out: u64,
}

impl Session {
    /// The database that the next command is about, if what is queued runs before it.
    pub fn present_database(&self) -> u16 {
        let selected = self.queue.as_ref().and_then(|queue| queue.selects);
        selected.unwrap_or(self.database)
    }

    /// Whether INFO counts it among those that watch or listen, or did until now.
    pub fn becomes_notable(&mut self) -> bool {
        let is_notable = self.watching.is_some() || self.subscriptions.is_some();
        std::mem::replace(&mut self.is_notable, is_notable) || is_notable
    }

    /// The session of a new connection.
    pub fn new(client: Arc<Client>, is_authenticated: bool) -> Session {
        let user = client.user.lock().clone();
        Session {
            client,
            rules: user.rules(),
            user,
            rules_at: 0,
            free_at: 0,
            n_charged_reply_bytes: 0,
            database: 0,
            proto: Proto::Resp2,
            is_authenticated,
            was_authenticated: is_authenticated,
            is_closing: false,
            leaves_clock: false,
            is_importer: false,
            is_pausing: false,
            is_notable: false,
            is_kept: false,
            is_monitor: false,
            replies: Replies::On,
            queue: None,
            watching: None,
            subscriptions: None,
            is_postponed: false,
            tracking: None,
            waiter: None,
            replica: None,
            is_primary: false,
            last_command: "",
            name_bytes: 0,
            n_commands: 0,
            written_to: 0,
            streamed_to: 0,
            bytes_in: 0,
            bytes_out: 0,
        }
    }

    /// Makes it another user, or the same one anew.
    pub fn become_user(&mut self, user: Arc<User>, is_authenticated: bool) {
        *self.client.user.lock() = user.clone();
        self.user = user;
        self.is_authenticated = is_authenticated;
        self.was_authenticated |= is_authenticated;
        (self.rules_at, self.free_at) = (0, 0);
    }

    /// CLIENT SETNAME.
    pub fn set_name(&mut self, name: Vec<u8>) {
        self.name_bytes = name.len();
        *self.client.name.lock() = name;
    }

    /// CLIENT ID.
    pub fn id(&self) -> u64 {
        self.client.address.session
    }

    /// Where letters to this session go.
    pub fn address(&self) -> Address {
        self.client.address
    }

    /// Whether only commands about subscriptions are allowed: RESP2 cannot tell messages from
    /// replies.
    pub fn is_subscriber(&self) -> bool {
        self.proto == Proto::Resp2 && self.subscriptions.is_some()
    }

    /// Whether it has begun to follow this server.
    pub fn is_replica(&self) -> bool {
        self.replica
            .as_ref()
            .is_some_and(|replica| replica.has_begun())
    }

    /// Whether it is to follow this server, and gets its snapshot by another connection first.
    pub fn waits_for_snapshot(&self) -> bool {
        self.replica
            .as_ref()
            .is_some_and(|replica| replica.facts.lock().waits_for_dual)
    }

    /// Ends every subscription.
    pub fn unsubscribe_all(&mut self, pubsub: &PubSub) {
        let Some(subscriptions) = self.subscriptions.take() else {
            return;
        };
        let Subscriptions {
            channels,
            patterns,
            shard_channels,
            ..
        } = *subscriptions;
        for (topic, names) in [
            (Topic::Channel, channels),
            (Topic::Pattern, patterns),
            (Topic::Shard, shard_channels),
        ] {
            for name in &names {
                pubsub.unsubscribe(topic, name, self.address());
            }
        }
    }

    /// Bytes that the session holds, but for the buffers of its connection.
    pub fn memory_bytes(&self) -> usize {
        let client = &self.client;
        let texts = client.peer.len() + client.local.len() + self.name_bytes;
        let own = size_of::<Session>() + size_of::<Client>() + texts;
        own + self.queue.as_ref().map_or(0, |queue| queue.len_bytes())
            + self
                .watching
                .as_ref()
                .map_or(0, |watching| watching.memory_bytes())
            + self
                .subscriptions
                .as_ref()
                .map_or(0, |all| all.memory_bytes())
            + self.tracking.as_ref().map_or(0, |mode| mode.memory_bytes())
    }

    /// Lets other threads see how it stands.
    pub fn publish(&self, now_ms: u64, buffers: Buffers) {
        *self.client.facts.lock() = Facts {
            database: self.database,
            proto: self.proto,
            last_ms: now_ms,
            last_command: self.last_command,
            n_channels: self.subscriptions.as_ref().map_or(0, |s| s.channels.len()),
            n_patterns: self.subscriptions.as_ref().map_or(0, |s| s.patterns.len()),
            n_shard_channels: self
                .subscriptions
                .as_ref()
                .map_or(0, |s| s.shard_channels.len()),
            n_queued: self.queue.as_ref().map(|queue| queue.len()),
            n_watched: self.watching.as_ref().map_or(0, |w| w.keys.len()),
            is_blocked: self.waiter.is_some() || self.is_postponed,
            is_closing: self.is_closing,
            is_kept: self.is_kept,
            tracking: self.tracking.as_ref().map(|mode| TrackingFacts {
                redirect: mode.redirect.unwrap_or(0),
                is_broken: mode.is_broken,
                is_broadcast: mode.is_broadcast,
            }),
            leaves_clock: self.leaves_clock,
            is_importer: self.is_importer,
            is_monitor: self.is_monitor,
            is_replica: self.is_replica(),
            is_primary: self.is_primary,
            queued_bytes: self.queue.as_ref().map_or(0, |queue| queue.len_bytes()),
            buffers,
            n_commands: self.n_commands,
            bytes_in: self.bytes_in,
            bytes_out: self.bytes_out,
        };
    }
}
