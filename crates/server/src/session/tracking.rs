//! What a session has chosen to be told of, and how a notice reaches it.

use resp::reply::{Proto, Reply};

use super::Session;
use crate::mailbox::Notice;
use crate::tracking::Tracking;

/// The channel of notices that are redirected to a session of RESP2.
const CHANNEL: &[u8] = b"__redis__:invalidate";

/// Whose keys a session wants to be told of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Choice {
    /// Those of every command that reads.
    #[default]
    All,
    /// Those of commands after CLIENT CACHING YES.
    OptIn,
    /// All but those of commands after CLIENT CACHING NO.
    OptOut,
}

/// What CLIENT TRACKING ON asked for.
#[derive(Debug, Default)]
pub struct TrackingMode {
    /// The session that gets the notices.
    pub redirect: Option<u64>,
    /// It is told of all keys with its prefixes.
    pub is_broadcast: bool,
    /// It is not told of its own changes.
    pub is_noloop: bool,
    /// The session that gets the notices is gone.
    pub is_broken: bool,
    /// See [`Choice`].
    pub choice: Choice,
    /// CLIENT CACHING was said for the next command.
    pub is_chosen: bool,
    /// When broadcasting; sorted.
    pub prefixes: Vec<Box<[u8]>>,
}

impl TrackingMode {
    /// Bytes of it, and of its prefixes here and in the book of those.
    pub fn memory_bytes(&self) -> usize {
        let each = 2 * size_of::<Box<[u8]>>() + size_of::<Vec<u64>>() + size_of::<u64>();
        let prefixes = self.prefixes.iter().map(|prefix| each + 2 * prefix.len());
        size_of::<TrackingMode>() + prefixes.sum::<usize>()
    }

    /// Whether the keys of a command that reads are to be remembered.
    pub fn remembers(&self) -> bool {
        !self.is_broadcast
            && match self.choice {
                Choice::All => true,
                Choice::OptIn => self.is_chosen,
                Choice::OptOut => !self.is_chosen,
            }
    }
}

impl Session {
    /// CLIENT TRACKING OFF.
    pub fn end_tracking(&mut self, tracking: &Tracking) {
        if let Some(mode) = self.tracking.take() {
            tracking.leave(self.id(), &mode.prefixes);
        }
    }

    /// Whether a notice is told this session, and not only noted.
    pub fn hears(&self, notice: &Notice) -> bool {
        match notice {
            _ if self.proto == Proto::Resp3 => true,
            Notice::Invalid { is_redirected, .. } => *is_redirected && self.subscriptions.is_some(),
            Notice::Unreachable { .. } => false,
        }
    }

    /// Writes a notice as this session gets it: a push, or a message of RESP2 if it is another's and
    /// this one is subscribed to something; else nothing.
    pub fn write_notice(&mut self, notice: &Notice, reply: &mut Reply<'_>) {
        match notice {
            Notice::Invalid { keys, .. } => {
                if !self.hears(notice) {
                    return;
                }
                match self.proto {
                    Proto::Resp3 => {
                        reply.push(2);
                        reply.bulk(b"invalidate");
                    }
                    Proto::Resp2 => {
                        reply.push(3);
                        reply.bulk(b"message");
                        reply.bulk(CHANNEL);
                    }
                }
                match keys {
                    Some(keys) => {
                        reply.array(keys.len());
                        keys.iter().for_each(|key| reply.bulk(key));
                    }
                    None => reply.null(),
                }
            }
            Notice::Unreachable { redirect } => {
                if let Some(mode) = &mut self.tracking {
                    mode.is_broken = true;
                }
                if self.hears(notice) {
                    reply.push(2);
                    reply.bulk(b"tracking-redir-broken");
                    reply.int(*redirect as i64);
                }
            }
        }
    }
}
