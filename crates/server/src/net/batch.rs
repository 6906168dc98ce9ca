//! Runs requests of one connection: up to 32 that were parsed together, or one that was kept.
//!
//! Before a batch runs, its first keys are hashed and the buckets, then the entries, are fetched into
//! the cache, so that their misses overlap; then the buckets and records of elements that requests name
//! in large collections. What is not in its first bucket takes a step more. 16 or 64 requests together
//! were measured to be slower, at P=64 with a million keys.

use datatypes::encoding::table::hash;
use datatypes::home::Collection;
use keyspace::shard::Shard;
use resp::reply::Reply;
use resp::request::Span;

use crate::command::Command;
use crate::dispatch;
use crate::exec::{Engine, Meanwhile, Outcome};
use crate::session::Session;
use crate::session::queue::Queued;

/// Requests executed together.
pub const BATCH: usize = 32;
/// Reply bytes gathered before they are sent.
pub const REPLY_BYTES: usize = 64 * 1024;
/// Requests of a batch whose elements are sought before it counts as one that has none in tables.
const IN_VAIN_MAX: usize = 4;
/// Room for words that is kept from batch to batch.
pub const WORDS_KEPT_MAX: usize = 4096;

/// Why a connection's requests are run no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// The last one blocks, until this Unix time if that is given.
    Blocked(Option<u64>),
    /// The last one found its locks busy and did nothing.
    Busy,
    /// The last one waits for the end of a pause.
    Postponed,
}

/// How far a batch has come.
pub enum Ran {
    /// To its end, or to a request that closes the connection.
    Through,
    /// To this request, as the replies before it are to be sent first.
    UpTo(usize),
    /// To one that stops the connection. With the requests that are still to be run.
    Stopped(Stop, Vec<Queued>),
}

/// What a request's first word names, and the hash of its first key.
type Found = (Option<&'static Command>, Option<u64>);

/// Where the requests of a batch are.
#[derive(Clone, Copy)]
pub struct Batch<'a> {
    /// Requests that were run before.
    pub n_run: usize,
    /// The buffer they were parsed from.
    pub input: &'a [u8],
    /// Their arguments.
    pub spans: &'a [Span],
    /// Where each one's arguments end.
    pub ends: &'a [usize],
}

impl<'a> Batch<'a> {
    /// Runs the requests, until many replies are gathered.
    #[inline]
    pub fn run(
        self,
        engine: &mut Engine,
        session: &mut Session,
        replies: &mut Vec<u8>,
        kept_words: &mut Vec<&'static [u8]>,
        meanwhile: &mut dyn Meanwhile,
    ) -> Ran {
        let mut words: Vec<&[u8]> = emptied(std::mem::take(kept_words));
        words.extend(self.spans.iter().map(|span| span.of(self.input)));
        let ran = self.run_words(&words, engine, session, replies, meanwhile);
        *kept_words = emptied(words);
        ran
    }

    #[inline]
    fn run_words(
        self,
        words: &[&[u8]],
        engine: &mut Engine,
        session: &mut Session,
        replies: &mut Vec<u8>,
        meanwhile: &mut dyn Meanwhile,
    ) -> Ran {
        let mut rows = [const { (None, None) }; BATCH];
        self.look_ahead(words, engine, session, &mut rows);
        engine.start_clock();
        let is_last = |i: usize| i + 1 == self.ends.len();
        let mut start = self.start_of(self.n_run);
        let mut i = self.n_run;
        while let Some(&end) = self.ends.get(i) {
            if session.is_closing {
                break;
            }
            let (row, known_hash) = rows[i];
            let request = &words[start..end];
            let mut reply = Reply::new(replies, session.proto);
            let next = rows.get(i + 1).and_then(|next| next.0);
            let is_last_of_run = is_last(i) || !same(row, next);
            engine.time_next(row, is_last_of_run);
            let (reply, row) = (&mut reply, (row, known_hash));
            let stop = match dispatch::run(engine, session, row, request, reply, meanwhile) {
                Outcome::Done => None,
                Outcome::Blocked(until_ms) => Some((Stop::Blocked(until_ms), i + 1)),
                Outcome::Busy => Some((Stop::Busy, i)),
                Outcome::Postponed => Some((Stop::Postponed, i)),
            };
            if let Some((stop, next)) = stop {
                return Ran::Stopped(stop, self.queued(words, next));
            }
            if replies.len() > REPLY_BYTES && !is_last(i) {
                engine.start_clock(); // the time of sending is no command's
                return Ran::UpTo(i + 1);
            }
            start = end;
            i += 1;
        }
        Ran::Through
    }

    /// Where the words of a request begin.
    #[inline]
    fn start_of(self, request: usize) -> usize {
        request.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// Finds rows and hashes, and warms the cache if there are several requests.
    #[inline]
    fn look_ahead(
        self,
        words: &[&[u8]],
        engine: &mut Engine,
        session: &Session,
        rows: &mut [Found; BATCH],
    ) {
        let is_worth_it = self.ends.len() > 1;
        let state = engine.state();
        let keyspace = &state.keyspace;
        let shards = keyspace.existing_shards(session.database);
        let shard = |hash: u64| -> Option<&'static Shard> {
            let id = keyspace.shard_of(session.database, hash);
            shards.map(|shards| &shards[usize::from(id.shard())])
        };
        let (mut start, mut names_elements) = (0, false);
        for (at, &end) in rows.iter_mut().zip(self.ends) {
            let request = &words[start..end];
            start = end;
            let row = engine.find(request[0]);
            let hash = row.and_then(|row| row.keys.first(request)).map(hash);
            *at = (row, hash);
            names_elements |= row.is_some_and(|row| row.element > 0);
            if is_worth_it && let Some(hash) = hash {
                shard(hash).inspect(|shard| shard.prefetch_bucket(hash));
            }
        }
        if !is_worth_it {
            return;
        }
        let (mut late, mut before): (u32, _) = (0, None);
        for (i, (_, hash)) in rows.iter().take(self.ends.len()).enumerate() {
            let is_same = *hash == before; // requests for one key come in rows
            before = *hash;
            if let Some(hash) = *hash
                && !is_same
                && let Some(shard) = shard(hash)
            {
                late |= u32::from(!shard.prefetch_entry(hash)) << i;
            }
        }
        while late != 0 {
            if let Some(hash) = rows[late.trailing_zeros() as usize].1
                && let Some(shard) = shard(hash)
            {
                shard.prefetch_late_entry(hash);
            }
            late &= late - 1;
        }
        if names_elements {
            self.look_into(words, rows, shard);
        }
    }

    /// Warms the cache with the elements of collections that requests name.
    #[inline(never)]
    fn look_into<'s>(
        self,
        words: &[&[u8]],
        rows: &[Found; BATCH],
        shard: impl Fn(u64) -> Option<&'s Shard>,
    ) {
        let mut elements = [(0, 0); BATCH];
        let (mut n, mut n_in_vain) = (0, 0);
        let mut start = 0;
        for ((row, key), &end) in rows.iter().zip(self.ends) {
            let request = &words[start..end];
            start = end;
            let at = row.map_or(0, |row| row.element);
            let (Some(key), Some(element)) = (*key, request.get(at).filter(|_| at > 0)) else {
                continue;
            };
            let element = hash(element);
            let peeked =
                shard(key).and_then(|shard| shard.peek(key, |big| big.prefetch_bucket(element)));
            if peeked == Some(true) {
                elements[n] = (key, element);
                n += 1;
            } else {
                n_in_vain += 1;
                if n == 0 && n_in_vain == IN_VAIN_MAX {
                    return;
                }
            }
        }
        for look in [
            Collection::prefetch_element,
            Collection::prefetch_late_element,
        ] {
            let mut n_late = 0;
            for i in 0..n {
                let (key, element) = elements[i];
                let peeked = shard(key).and_then(|shard| shard.peek(key, |big| look(big, element)));
                if peeked == Some(false) {
                    elements[n_late] = elements[i];
                    n_late += 1;
                }
            }
            n = n_late;
        }
    }

    #[cold]
    fn queued(self, words: &[&[u8]], first: usize) -> Vec<Queued> {
        let mut start = self.start_of(first);
        let mut queued = Vec::new();
        for &end in &self.ends[first..] {
            queued.push(Queued::new(&words[start..end]));
            start = end;
        }
        queued
    }
}

fn same(one: Option<&'static Command>, other: Option<&'static Command>) -> bool {
    matches!((one, other), (Some(one), Some(other)) if std::ptr::eq(one, other))
}

/// The same memory without its contents, for slices that live for another time.
fn emptied<'a>(mut words: Vec<&[u8]>) -> Vec<&'a [u8]> {
    words.clear();
    words.shrink_to(WORDS_KEPT_MAX);
    words.into_iter().map(|_| &[][..]).collect()
}

/// Runs a request that was kept.
pub fn run_kept(
    engine: &mut Engine,
    session: &mut Session,
    kept: &Queued,
    replies: &mut Vec<u8>,
    meanwhile: &mut dyn Meanwhile,
) -> Option<Stop> {
    let words = kept.words();
    let row = engine.find(kept.name());
    engine.start_clock();
    engine.time_next(row, true);
    let mut reply = Reply::new(replies, session.proto);
    match dispatch::run(engine, session, (row, None), &words, &mut reply, meanwhile) {
        Outcome::Done => None,
        Outcome::Blocked(until_ms) => Some(Stop::Blocked(until_ms)),
        Outcome::Busy => Some(Stop::Busy),
        Outcome::Postponed => Some(Stop::Postponed),
    }
}
