//! The stream as replicas get it: one buffer for all of them, each reading from an offset of its own.
//!
//! ```text
//!            start                       a replica              end
//!              ├───────────────────────────┼─────────────────────┤
//!    dropped   │ chunk │ chunk │ chunk │ chunk │ chunk │ last ...│
//! ```
//!
//! Offsets count the bytes of the stream since it began, over all servers that had it: a replica goes
//! on where its primary was. What all replicas have is kept up to `repl-backlog-size`, for one that
//! comes back. Nothing is kept before the first replica comes.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

use super::unit::{Unit, write_command};
use crate::stats::memory::block_bytes;

/// Bytes of a chunk. Memory is given back in these units.
const CHUNK_BYTES: usize = 16 << 10;

/// See the top of the file.
#[derive(Default)]
pub struct Backlog {
    inner: Mutex<Inner>,
    end: AtomicU64,
    is_on: AtomicBool,
    /// What this server writes is appended.
    is_led: AtomicBool,
    /// There is more than those who send it were told of.
    has_news: AtomicBool,
    /// Bytes that are kept though every replica has them.
    kept_bytes: AtomicU64,
}

#[derive(Default)]
struct Inner {
    chunks: VecDeque<Vec<u8>>,
    /// The offset of the first chunk.
    base: u64,
    /// The first offset that counts as kept: a chunk goes when all of it is before.
    start: u64,
    end: u64,
    database: Option<u16>,
    /// What stands here is another server's stream, as it came.
    is_forwarded: bool,
}

impl Inner {
    fn append(&mut self, mut bytes: &[u8]) {
        self.end += bytes.len() as u64;
        while !bytes.is_empty() {
            if self
                .chunks
                .back()
                .is_none_or(|last| last.len() == CHUNK_BYTES)
            {
                self.chunks.push_back(Vec::with_capacity(CHUNK_BYTES));
            }
            let Some(last) = self.chunks.back_mut() else {
                return;
            };
            let n = bytes.len().min(CHUNK_BYTES - last.len());
            last.extend_from_slice(&bytes[..n]);
            bytes = &bytes[n..];
        }
    }

    /// Drops what is before `offset`.
    fn trim(&mut self, offset: u64) {
        self.start = self.start.max(offset.min(self.end));
        while let Some(first) = self.chunks.front()
            && self.chunks.len() > 1
            && self.base + first.len() as u64 <= self.start
        {
            self.base += first.len() as u64;
            self.chunks.pop_front();
        }
    }

    /// Keeps nothing, and goes on at `offset`.
    fn restart(&mut self, offset: u64) {
        self.chunks.clear();
        (self.base, self.start, self.end) = (offset, offset, offset);
    }
}

impl Backlog {
    /// Whether the stream is kept.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Relaxed)
    }

    /// Whether what this server writes goes into it.
    #[inline]
    pub fn is_led(&self) -> bool {
        self.is_led.load(Ordering::Relaxed)
    }

    /// The offset behind the last byte.
    #[inline]
    pub fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    /// The offset of the first byte that is kept, and how many are.
    pub fn kept(&self) -> (u64, u64) {
        let inner = self.inner.lock();
        (inner.start, inner.end - inner.start)
    }

    /// Allocated bytes.
    pub fn memory_bytes(&self) -> usize {
        let inner = self.inner.lock();
        let index = inner.chunks.capacity() * size_of::<Vec<u8>>();
        inner.chunks.len() * CHUNK_BYTES + block_bytes(index)
    }

    /// Allocated bytes beyond those that are kept for who comes back.
    pub fn n_surplus_bytes(&self) -> u64 {
        if !self.is_on() {
            return 0;
        }
        let kept_bytes = self.kept_bytes.load(Ordering::Relaxed);
        (self.memory_bytes() as u64).saturating_sub(kept_bytes)
    }

    /// Begins to keep the stream, if it was not kept; for a replica that gets the data of this
    /// moment, so the stream names its database again. The offset.
    pub fn begin(&self) -> u64 {
        let mut inner = self.inner.lock();
        if inner.chunks.is_empty() {
            // Taken with the replica: what it asks for is known from here on.
            inner.chunks.push_back(Vec::with_capacity(CHUNK_BYTES));
        }
        inner.database = None;
        self.is_on.store(true, Ordering::Relaxed);
        self.is_led.store(!inner.is_forwarded, Ordering::Relaxed);
        inner.end
    }

    /// Follows another server's stream from this offset on.
    pub fn follow(&self, offset: u64) {
        let mut inner = self.inner.lock();
        if inner.end != offset {
            inner.restart(offset);
        }
        inner.is_forwarded = true;
        self.end.store(offset, Ordering::Release);
        self.is_on.store(true, Ordering::Relaxed);
        self.is_led.store(false, Ordering::Relaxed);
    }

    /// Begins to keep a stream of its own at this offset.
    pub fn resume(&self, offset: u64) {
        self.follow(offset);
        self.lead();
    }

    /// Appends nothing of its own from here on: it is about to follow another server.
    pub fn stop_leading(&self) {
        let mut inner = self.inner.lock();
        inner.is_forwarded = true;
        self.is_led.store(false, Ordering::Relaxed);
    }

    /// Goes on with a stream of its own, where the other one ended.
    pub fn lead(&self) {
        let mut inner = self.inner.lock();
        (inner.is_forwarded, inner.database) = (false, None);
        self.is_led.store(self.is_on(), Ordering::Relaxed);
    }

    /// Keeps nothing any more: what comes is not recorded, so nobody can go on from here.
    pub fn stop(&self) {
        let mut inner = self.inner.lock();
        self.is_on.store(false, Ordering::Relaxed);
        self.is_led.store(false, Ordering::Relaxed);
        let end = inner.end;
        inner.restart(end);
    }

    /// Bytes to keep though nobody needs them now.
    pub fn set_kept_bytes(&self, n_bytes: u64) {
        self.kept_bytes.store(n_bytes, Ordering::Relaxed);
    }

    /// Appends a unit of this server.
    pub(super) fn append(&self, unit: &Unit) {
        if !self.is_led() {
            return; // what a replica does of its own accord is nobody else's business
        }
        let mut inner = self.inner.lock();
        if inner.is_forwarded {
            return; // it is a replica since just now
        }
        let mut bytes = Vec::new();
        unit.write(&mut bytes, &mut inner.database, false);
        self.put(&mut inner, &bytes);
    }

    /// Appends a command that concerns no database: PING, REPLCONF GETACK.
    pub fn tell(&self, command: &[&[u8]]) {
        let mut inner = self.inner.lock();
        if self.is_led() {
            let mut bytes = Vec::new();
            write_command(&mut bytes, command, false);
            self.put(&mut inner, &bytes);
        }
    }

    /// Appends what came from the primary.
    pub fn forward(&self, bytes: &[u8]) {
        self.put(&mut self.inner.lock(), bytes);
    }

    fn put(&self, inner: &mut Inner, bytes: &[u8]) {
        inner.append(bytes);
        self.end.store(inner.end, Ordering::Release);
        self.has_news.store(true, Ordering::Release);
    }

    /// Whether something was appended since the last time.
    #[inline]
    pub fn take_news(&self) -> bool {
        self.has_news.load(Ordering::Relaxed) && self.has_news.swap(false, Ordering::AcqRel)
    }

    /// Copies from `offset` on, at most `bytes_max`; `None` if that is not kept any more.
    pub fn copy(&self, offset: u64, bytes_max: usize, out: &mut Vec<u8>) -> Option<usize> {
        let inner = self.inner.lock();
        if offset < inner.start || offset > inner.end {
            return None;
        }
        // Every chunk but the last is full.
        let from = (offset - inner.base) as usize;
        let mut skip = from % CHUNK_BYTES;
        let before = out.len();
        for chunk in inner
            .chunks
            .range((from / CHUNK_BYTES).min(inner.chunks.len())..)
        {
            let left = bytes_max - (out.len() - before);
            let part = chunk.get(skip..).unwrap_or_default();
            out.extend_from_slice(&part[..part.len().min(left)]);
            skip = 0;
            if out.len() - before == bytes_max {
                break;
            }
        }
        Some(out.len() - before)
    }

    /// Drops what neither a replica, of which the last is at `needed`, nor `repl-backlog-size` asks for.
    pub fn trim(&self, needed: u64) {
        let mut inner = self.inner.lock();
        let kept_from = inner
            .end
            .saturating_sub(self.kept_bytes.load(Ordering::Relaxed));
        inner.trim(needed.min(kept_from));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_offset_that_is_kept_reads_what_was_appended_there() {
        let backlog = Backlog::default();
        assert_eq!(backlog.begin(), 0);
        let bytes: Vec<u8> = (0..5 * CHUNK_BYTES + 77).map(|i| (i % 251) as u8).collect();
        for part in bytes.chunks(1013) {
            backlog.forward(part);
        }
        for offset in [
            0,
            1,
            CHUNK_BYTES - 1,
            CHUNK_BYTES,
            3 * CHUNK_BYTES + 5,
            bytes.len(),
        ] {
            let mut out = Vec::new();
            let n = backlog
                .copy(offset as u64, 2 * CHUNK_BYTES, &mut out)
                .unwrap();
            assert_eq!(n, out.len());
            assert_eq!(out, bytes[offset..bytes.len().min(offset + 2 * CHUNK_BYTES)]);
        }
        assert_eq!(backlog.copy(bytes.len() as u64 + 1, 1, &mut Vec::new()), None);
        backlog.trim(2 * CHUNK_BYTES as u64 + 1);
        assert_eq!(backlog.kept().0, 2 * CHUNK_BYTES as u64 + 1);
        assert_eq!(backlog.memory_bytes() / CHUNK_BYTES, 4, "two chunks are gone");
        assert_eq!(backlog.copy(CHUNK_BYTES as u64, 1, &mut Vec::new()), None);
        let mut out = Vec::new();
        let offset = 2 * CHUNK_BYTES + 1;
        backlog.copy(offset as u64, 10, &mut out).unwrap();
        assert_eq!(out, bytes[offset..offset + 10]);
    }

    #[test]
    fn a_unit_of_several_commands_is_one_block_and_names_its_database_once() {
        let backlog = Backlog::default();
        backlog.begin();
        let set = |database| Unit::of(database, &["SET", "k", "v"]);
        let mut two = set(3);
        two.take_over(&mut set(3));
        backlog.append(&two);
        backlog.append(&set(3));
        let mut out = Vec::new();
        backlog.copy(0, 1 << 20, &mut out);
        let text = String::from_utf8(out).unwrap();
        let names: Vec<&str> = text
            .split("\r\n")
            .filter(|word| word.len() > 2 && word.bytes().all(|byte| byte.is_ascii_uppercase()))
            .collect();
        assert_eq!(names, ["MULTI", "SELECT", "SET", "SET", "EXEC", "SET"]);
        backlog.follow(1000);
        backlog.append(&set(0));
        assert_eq!(backlog.end(), 1000, "a replica adds nothing of its own");
    }
}
