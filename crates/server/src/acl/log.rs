//! The log of what access control refused: newest first, equal refusals within a minute as one.

use std::collections::VecDeque;

/// Refusals that are further apart are not one.
const SAME_WITHIN_MS: u64 = 60_000;
/// How many entries are looked through for an equal one.
const SEARCH_ENTRIES: usize = 10;

/// What was refused, from where.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// `command`, `key`, `channel` or `auth`.
    pub reason: &'static str,
    /// `toplevel`, `multi` or `lua`.
    pub context: &'static str,
    /// The command, key or channel.
    pub object: Vec<u8>,
    /// The user.
    pub username: Vec<u8>,
}

/// One entry.
#[derive(Clone, Debug)]
pub struct Entry {
    /// What was refused.
    pub refusal: Refusal,
    /// How often.
    pub count: u64,
    /// Counts up from 0 for the life of the process.
    pub id: u64,
    /// When first, Unix time.
    pub created_ms: u64,
    /// When last, Unix time.
    pub updated_ms: u64,
    /// Who did it last, as CLIENT LIST puts it.
    pub client_info: Vec<u8>,
}

/// See the top of the file.
#[derive(Default)]
pub struct Log {
    entries: VecDeque<Entry>,
    next_id: u64,
}

impl Log {
    /// Adds a refusal, and forgets the oldest ones beyond `max_len`.
    pub fn add(&mut self, refusal: Refusal, now_ms: u64, client_info: Vec<u8>, max_len: usize) {
        let mut recent = self.entries.iter().take(SEARCH_ENTRIES);
        let same = recent.position(|entry| {
            entry.refusal == refusal && now_ms.saturating_sub(entry.updated_ms) <= SAME_WITHIN_MS
        });
        if let Some(mut entry) = same.and_then(|at| self.entries.remove(at)) {
            entry.count += 1;
            (entry.updated_ms, entry.client_info) = (now_ms, client_info);
            self.entries.push_front(entry);
        } else {
            self.entries.push_front(Entry {
                refusal,
                count: 1,
                id: self.next_id,
                created_ms: now_ms,
                updated_ms: now_ms,
                client_info,
            });
            self.next_id += 1;
        }
        self.entries.truncate(max_len);
    }

    /// The newest entries, at most `count`.
    pub fn newest(&self, count: usize) -> Vec<Entry> {
        self.entries.iter().take(count).cloned().collect()
    }

    /// Forgets all entries; ids go on.
    pub fn reset(&mut self) {
        self.entries.clear();
    }
}
