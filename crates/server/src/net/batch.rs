//! Runs requests of one connection: up to 32 that were parsed together, or one that was kept.
//!
//! Before a batch runs, its first keys are hashed and the buckets, then the entries, are fetched into
//! the cache, so that their misses overlap. 16 or 64 requests together were measured to be slower, at
//! P=64 with a million keys.

use datatypes::encoding::table::hash;
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
        rows: &mut [(Option<&'static Command>, Option<u64>); BATCH],
    ) {
        let is_worth_it = self.ends.len() > 1;
        let state = engine.state();
        let keyspace = &state.keyspace;
        let shards = keyspace.existing_shards(session.database);
        let shard = |hash: u64| -> Option<&'static Shard> {
            let id = keyspace.shard_of(session.database, hash);
            shards.map(|shards| &shards[usize::from(id.shard())])
        };
        let mut start = 0;
        for (at, &end) in rows.iter_mut().zip(self.ends) {
            let request = &words[start..end];
            start = end;
            let row = engine.find(request[0]);
            let hash = row.and_then(|row| row.keys.first(request)).map(hash);
            *at = (row, hash);
            if is_worth_it && let Some(hash) = hash {
                shard(hash).inspect(|shard| shard.prefetch_bucket(hash));
            }
        }
        if is_worth_it {
            for hash in rows.iter().filter_map(|(_, hash)| *hash) {
                shard(hash).inspect(|shard| shard.prefetch_entry(hash));
            }
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
