//! Channels and patterns: who is subscribed, and how a message gets there.
//!
//! A message is encoded once and posted once to each event loop that has subscribers; the loop hands
//! it to its sessions. The locks here are leaf locks, taken also under shard locks.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use hashbrown::HashMap;
use parking_lot::RwLock;
use resp::reply::{Proto, Reply};

use crate::mailbox::{Address, Mail, Mailboxes};

/// Subscribers by name of channel or pattern.
type Book = HashMap<Box<[u8]>, Vec<Address>>;

/// See the top of the file.
#[derive(Default)]
pub struct PubSub {
    channels: RwLock<Book>,
    patterns: RwLock<Book>,
    shard_channels: RwLock<Book>,
    /// Names in all books: zero means that nobody listens.
    n_names: AtomicUsize,
}

/// Which book a name is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// A channel by its name.
    Channel,
    /// Every channel whose name matches.
    Pattern,
    /// A channel of the slot that its name is in; apart from the other channels.
    Shard,
}

impl PubSub {
    fn book(&self, topic: Topic) -> &RwLock<Book> {
        match topic {
            Topic::Channel => &self.channels,
            Topic::Pattern => &self.patterns,
            Topic::Shard => &self.shard_channels,
        }
    }

    /// Adds a subscriber. The caller knows that it is not subscribed yet. O(1).
    pub fn subscribe(&self, topic: Topic, name: &[u8], who: Address) {
        let mut book = self.book(topic).write();
        if let Some(subscribers) = book.get_mut(name) {
            subscribers.push(who);
            return;
        }
        book.insert(name.into(), vec![who]);
        self.n_names.fetch_add(1, Relaxed);
    }

    /// Removes a subscriber. O(subscribers of the name).
    pub fn unsubscribe(&self, topic: Topic, name: &[u8], who: Address) {
        let mut book = self.book(topic).write();
        let Some(subscribers) = book.get_mut(name) else {
            return;
        };
        subscribers.retain(|other| *other != who);
        if subscribers.is_empty() {
            book.remove(name);
            self.n_names.fetch_sub(1, Relaxed);
        }
    }

    /// Whether a message could reach anybody.
    #[inline]
    pub fn has_subscribers(&self) -> bool {
        self.n_names.load(Relaxed) > 0
    }

    /// Posts a message to the subscribers of `channel`; how many there are. The caller wakes the
    /// loops. O(subscribers + patterns).
    pub fn publish(&self, channel: &[u8], message: &[u8], mailboxes: &Mailboxes) -> usize {
        if !self.has_subscribers() {
            return 0;
        }
        let mut n_receivers = 0;
        if let Some(subscribers) = self.channels.read().get(channel) {
            n_receivers += subscribers.len();
            post(subscribers, &[b"message", channel, message], mailboxes);
        }
        for (pattern, subscribers) in self.patterns.read().iter() {
            if stdx::glob::matches(pattern, channel, false) {
                n_receivers += subscribers.len();
                post(subscribers, &[b"pmessage", pattern, channel, message], mailboxes);
            }
        }
        n_receivers
    }

    /// SPUBLISH: posts a message to the subscribers of a shard channel; how many there are.
    pub fn publish_in_shard(&self, channel: &[u8], message: &[u8], mailboxes: &Mailboxes) -> usize {
        let book = self.shard_channels.read();
        let Some(subscribers) = book.get(channel) else {
            return 0;
        };
        post(subscribers, &[b"smessage", channel, message], mailboxes);
        subscribers.len()
    }

    /// Who is subscribed to a name of this kind in the way that `is_lost` says. O(subscriptions).
    pub fn losers(&self, topic: Topic, is_lost: impl Fn(&[u8], Address) -> bool) -> Vec<Address> {
        let book = self.book(topic).read();
        let all = book
            .iter()
            .flat_map(|(name, who)| who.iter().map(move |one| (name, *one)));
        all.filter(|(name, one)| is_lost(name, *one))
            .map(|(_, one)| one)
            .collect()
    }

    /// Channels of a kind that have subscribers and match. O(channels).
    pub fn channels(&self, topic: Topic, pattern: Option<&[u8]>) -> Vec<Box<[u8]>> {
        let channels = self.book(topic).read();
        let matching = channels
            .keys()
            .filter(|name| pattern.is_none_or(|pattern| stdx::glob::matches(pattern, name, false)));
        matching.cloned().collect()
    }

    /// Subscribers of a channel, those of patterns left out.
    pub fn n_subscribers(&self, topic: Topic, channel: &[u8]) -> usize {
        self.book(topic).read().get(channel).map_or(0, Vec::len)
    }

    /// Channels that have subscribers.
    pub fn n_channels(&self) -> usize {
        self.channels.read().len()
    }

    /// Patterns that have subscribers.
    pub fn n_patterns(&self) -> usize {
        self.patterns.read().len()
    }
}

/// The most that stands around a word: its header and its end.
const AROUND_BYTES: usize = 16;

fn post(subscribers: &[Address], words: &[&[u8]], mailboxes: &Mailboxes) {
    // Growing step by step was a quarter of a PUBLISH to one subscriber.
    let n_bytes = words.iter().map(|word| word.len() + AROUND_BYTES).sum();
    let mut bytes = Vec::with_capacity(n_bytes);
    let mut push = Reply::new(&mut bytes, Proto::Resp3);
    push.push(words.len());
    words.iter().for_each(|word| push.bulk(word));
    let bytes: Arc<[u8]> = bytes.into();
    for group in 0..mailboxes.len() {
        let here = |one: &&Address| usize::from(one.group) == group;
        let to: Vec<Address> = subscribers.iter().filter(here).copied().collect();
        if !to.is_empty() {
            let bytes = bytes.clone();
            mailboxes.post(group, Mail::Push { to, bytes });
        }
    }
}
