//! What is known of saving and loading: what runs, what was asked for, how it went last.
//!
//! Commands and the saver meet here: who wants a save leaves a wish and may wait for word of it; the
//! saver takes it. INFO and the gate read the rest.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

use crate::io::process::unix_time;

/// The last save failed.
const FAILING: u8 = 1;
/// The data is being loaded.
const LOADING: u8 = 2;
/// Other data is being loaded, while that which is there is served.
const LOADING_ASIDE: u8 = 4;

/// How a save went, for who waits: `Begun` when its moment is fixed, then how it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// The state of this moment is what is saved.
    Begun,
    /// It is on the disk.
    Done,
    /// It is not; the log says why.
    Failed,
}

/// Hears how a save goes, perhaps while every shard is held: it must not wait, nor wake anybody. It is
/// dropped unheard if there is no save after all.
pub type Tell = Box<dyn FnMut(Word) + Send>;

/// What the saver is to do.
pub enum Wish {
    /// Save, and tell.
    Save(Tell),
    /// Rewrite the append-only file.
    Rewrite,
    /// Remove the files that the append-only file no longer needs.
    Tidy,
    /// Nothing came in time.
    None,
    /// End.
    End,
}

#[derive(Default)]
struct Desk {
    wanted: Option<Tell>,
    wants_rewrite: bool,
    wants_tidy: bool,
    /// Another save is to follow the present one.
    must_follow: bool,
    must_end: bool,
}

impl Desk {
    fn is_clear(&self) -> bool {
        self.wanted.is_none() && !self.wants_rewrite && !self.wants_tidy && !self.must_end
    }
}

/// How saves went.
#[derive(Clone, Debug)]
pub struct Record {
    /// When the data was saved last, Unix time in seconds; the start if never.
    pub last_save_s: u64,
    /// Whether the last save in the background went well.
    pub is_ok: bool,
    /// When one was tried last.
    pub tried_at: Option<Instant>,
    /// How long the last one took.
    pub took_s: Option<u64>,
    /// Saves that went well.
    pub n_saves: u64,
    /// Since when the present one runs.
    pub runs_since: Option<Instant>,
    /// [`Counter::Changes`](crate::stats::counters::Counter::Changes) as it was when the data was
    /// saved last.
    pub changes: u64,
    /// The same before a flush that a save follows at once; that one may fail.
    changes_before_flush: Option<u64>,
}

/// What became of a wish for a rewrite.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It begins.
    Begun,
    /// It begins when the save that runs has ended.
    Scheduled,
    /// One runs already.
    Running,
}

/// How rewrites of the append-only file went.
#[derive(Clone, Debug)]
pub struct Rewrites {
    /// Whether the last one went well.
    pub is_ok: bool,
    /// How long it took.
    pub took_s: Option<u64>,
    /// Those that were begun.
    pub n: u64,
    /// Those that have failed since one went well.
    pub n_failed: u64,
    /// Since when the present one runs.
    pub runs_since: Option<Instant>,
    /// When the last one ended.
    pub ended_at: Option<Instant>,
}

/// How the loading of a file goes.
#[derive(Default)]
pub struct Loading {
    /// When it began, Unix time in seconds.
    pub since_s: AtomicU64,
    /// Bytes of the file.
    pub n_bytes: AtomicU64,
    /// Bytes that were read.
    pub n_read: AtomicU64,
    /// Keys that the last one has brought.
    pub n_keys: AtomicU64,
    /// Keys that were due already.
    pub n_expired: AtomicU64,
    begun_at: Mutex<Option<Instant>>,
}

/// For how long commands wait for the end of a load before they are refused: the copy of a small primary is there
/// sooner, and in a peer nobody is refused for that either, as it serves nobody meanwhile.
const LOADING_PATIENCE: Duration = Duration::from_millis(50);

/// See the top of the file.
pub struct Saving {
    desk: Mutex<Desk>,
    bell: Condvar,
    record: Mutex<Record>,
    is_running: AtomicBool,
    must_stop: AtomicBool,
    /// Moments that were fixed so far.
    last_cut: AtomicU64,
    /// The moment that the file is about. Who puts a file in its place holds it.
    file_cut: Mutex<u64>,
    /// [`FAILING`] and its kin, in one place for the gate, which looks at every command.
    hindrances: AtomicU8,
    is_rewriting: AtomicBool,
    must_stop_rewrite: AtomicBool,
    /// The append-only file waits for a rewrite that did not come to its end.
    pub owes_rewrite: AtomicBool,
    rewrites: Mutex<Rewrites>,
    /// Keys in the present save, and those that it will have.
    pub n_saved: AtomicU64,
    /// See `n_saved`.
    pub n_total: AtomicU64,
    /// The loading of a file.
    pub loading: Loading,
}

impl Default for Saving {
    fn default() -> Saving {
        Saving {
            desk: Mutex::default(),
            bell: Condvar::new(),
            record: Mutex::new(Record {
                last_save_s: unix_time().as_secs(),
                is_ok: true,
                tried_at: None,
                took_s: None,
                n_saves: 0,
                runs_since: None,
                changes: 0,
                changes_before_flush: None,
            }),
            is_running: false.into(),
            must_stop: false.into(),
            last_cut: 0.into(),
            file_cut: Mutex::new(0),
            hindrances: 0.into(),
            is_rewriting: false.into(),
            must_stop_rewrite: false.into(),
            owes_rewrite: false.into(),
            rewrites: Mutex::new(Rewrites {
                is_ok: true,
                took_s: None,
                n: 0,
                n_failed: 0,
                runs_since: None,
                ended_at: None,
            }),
            n_saved: 0.into(),
            n_total: 0.into(),
            loading: Loading::default(),
        }
    }
}

impl Saving {
    /// Asks for a save in the background. False if one runs.
    pub fn wish(&self, tell: Tell) -> bool {
        let mut desk = self.desk.lock();
        !self.is_running() && self.wish_at(&mut desk, tell)
    }

    fn wish_at(&self, desk: &mut Desk, tell: Tell) -> bool {
        if desk.must_end {
            return false;
        }
        self.is_running.store(true, SeqCst);
        self.must_stop.store(false, SeqCst);
        desk.wanted = Some(tell);
        self.bell.notify_all();
        true
    }

    /// Waits for a wish; for the saver.
    pub fn next(&self, patience: Option<Duration>) -> Wish {
        let mut desk = self.desk.lock();
        loop {
            if desk.must_end {
                return Wish::End;
            }
            if let Some(word) = desk.wanted.take() {
                return Wish::Save(word);
            }
            if std::mem::take(&mut desk.wants_rewrite) {
                self.is_rewriting.store(true, SeqCst);
                return Wish::Rewrite;
            }
            if std::mem::take(&mut desk.wants_tidy) {
                return Wish::Tidy;
            }
            match patience {
                None => self.bell.wait(&mut desk),
                Some(patience) => {
                    if self.bell.wait_for(&mut desk, patience).timed_out() || desk.is_clear() {
                        return Wish::None;
                    }
                }
            }
        }
    }

    /// Asks for a rewrite of the append-only file.
    pub fn wish_rewrite(&self) -> Asked {
        let mut desk = self.desk.lock();
        if self.is_rewriting() || desk.wants_rewrite && !self.is_running() {
            return Asked::Running;
        }
        self.must_stop_rewrite.store(false, SeqCst);
        desk.wants_rewrite = !desk.must_end;
        self.bell.notify_all();
        match self.is_running() {
            true => Asked::Scheduled,
            false => Asked::Begun,
        }
    }

    /// Asks for the removal of files that the append-only file no longer needs.
    pub fn wish_tidy(&self) {
        self.desk.lock().wants_tidy = true;
        self.bell.notify_all();
    }

    /// Whether a rewrite was asked for and has not begun.
    pub fn wants_rewrite(&self) -> bool {
        self.desk.lock().wants_rewrite
    }

    /// Whether the append-only file is being rewritten.
    pub fn is_rewriting(&self) -> bool {
        self.is_rewriting.load(SeqCst)
    }

    /// Asks the present rewrite to stop, and forgets one that was asked for.
    pub fn cancel_rewrite(&self) {
        let mut desk = self.desk.lock();
        desk.wants_rewrite = false;
        self.must_stop_rewrite.store(true, SeqCst);
        self.bell.notify_all();
    }

    /// Whether the present rewrite is to stop.
    pub fn must_stop_rewrite(&self) -> bool {
        self.must_stop_rewrite.load(SeqCst)
    }

    /// Notes that a rewrite has begun.
    pub fn rewrite_begun(&self) {
        let mut rewrites = self.rewrites.lock();
        rewrites.n += 1;
        rewrites.runs_since = Some(Instant::now());
    }

    /// Notes how the present rewrite ended. One that was told to stop has not failed.
    pub fn rewrite_ended(&self, is_ok: bool) {
        let mut rewrites = self.rewrites.lock();
        let since = rewrites.runs_since.take();
        rewrites.took_s = since.map(|since| since.elapsed().as_secs());
        rewrites.ended_at = Some(Instant::now());
        if is_ok || !self.must_stop_rewrite() {
            rewrites.is_ok = is_ok;
            rewrites.n_failed = if is_ok { 0 } else { rewrites.n_failed + 1 };
        }
        self.is_rewriting.store(false, SeqCst);
    }

    /// How rewrites went.
    pub fn rewrites(&self) -> Rewrites {
        self.rewrites.lock().clone()
    }

    /// Has the saver look at its directives again.
    pub fn nudge(&self) {
        let _desk = self.desk.lock();
        self.bell.notify_all();
    }

    /// Whether a save runs in the background, or was asked for.
    pub fn is_running(&self) -> bool {
        self.is_running.load(SeqCst)
    }

    /// Forgets a save that was asked for; false if there is none that has not begun.
    pub fn cancel_wish(&self) -> bool {
        let mut desk = self.desk.lock();
        let is_forgotten = desk.wanted.take().is_some();
        if is_forgotten {
            self.is_running.store(false, SeqCst);
        }
        is_forgotten
    }

    /// Asks the present save to stop.
    pub fn cancel(&self) {
        let _desk = self.desk.lock();
        self.must_stop.store(true, SeqCst);
        self.bell.notify_all();
    }

    /// Notes that all data was thrown away: the present save stops, and another follows if the empty
    /// data set is to be on the disk at once: then nothing counts as changed, unless that fails.
    /// `saves_at` are the changes so far.
    pub fn flushed(&self, saves_at: Option<u64>) {
        if let Some(changes) = saves_at {
            let mut record = self.record.lock();
            let before = record.changes;
            record.changes_before_flush.get_or_insert(before);
            record.changes = changes;
        }
        let must_save = saves_at.is_some();
        let mut desk = self.desk.lock();
        if self.is_running() {
            desk.must_follow |= must_save;
            self.must_stop.store(true, SeqCst);
            self.bell.notify_all();
        } else if must_save {
            self.wish_at(&mut desk, Box::new(|_| {}));
        }
    }

    /// Fixes the moment of a save, for who holds the transaction: a later one has a higher number.
    pub fn cut(&self) -> u64 {
        self.last_cut.fetch_add(1, SeqCst) + 1
    }

    /// Lets `place` put the file of a moment in its place, unless that of a later one is there. Whether
    /// it was put there.
    pub fn put<E>(&self, cut: u64, place: impl FnOnce() -> Result<(), E>) -> Result<bool, E> {
        let mut file_cut = self.file_cut.lock();
        if cut < *file_cut {
            return Ok(false);
        }
        place()?;
        *file_cut = cut;
        Ok(true)
    }

    /// Ends the saver; the present save stops.
    pub fn end(&self) {
        let mut desk = self.desk.lock();
        desk.must_end = true;
        desk.wanted = None; // who waits hears that there is nothing to wait for
        drop(desk);
        self.cancel();
        self.cancel_rewrite();
    }

    /// Whether the present save is to stop.
    pub fn must_stop(&self) -> bool {
        self.must_stop.load(SeqCst)
    }

    /// Notes that the save that was asked for has begun.
    pub fn begun(&self, n_total: u64) {
        self.n_saved.store(0, Relaxed);
        self.n_total.store(n_total, Relaxed);
        let mut record = self.record.lock();
        record.tried_at = Some(Instant::now());
        record.runs_since = record.tried_at;
    }

    /// Notes how the present save ended, and asks for the one that is to follow. One that was told
    /// to stop has not failed.
    pub fn ended(&self, is_ok: bool) {
        let mut record = self.record.lock();
        let since = record.runs_since.take();
        record.took_s = since.map(|since| since.elapsed().as_secs());
        if is_ok || !self.must_stop() {
            record.is_ok = is_ok;
            self.hinder(FAILING, !is_ok);
            let before = record.changes_before_flush.take();
            if let (Some(before), false) = (before, is_ok) {
                record.changes = before;
            }
        }
        drop(record);
        let mut desk = self.desk.lock();
        self.is_running.store(false, SeqCst);
        if std::mem::take(&mut desk.must_follow) {
            self.wish_at(&mut desk, Box::new(|_| {}));
        }
    }

    /// Notes that the data is on the disk as it was when `changes` were counted.
    pub fn saved(&self, changes: u64) {
        let mut record = self.record.lock();
        record.last_save_s = unix_time().as_secs();
        record.changes = changes;
        record.n_saves += 1;
    }

    /// Notes that the data is the file's.
    pub fn loaded(&self, changes: u64) {
        let mut record = self.record.lock();
        record.last_save_s = unix_time().as_secs();
        record.changes = changes;
    }

    /// Notes whether a save in the foreground went well.
    pub fn judged(&self, is_ok: bool) {
        self.record.lock().is_ok = is_ok;
        self.hinder(FAILING, !is_ok);
    }

    /// How saves went.
    pub fn record(&self) -> Record {
        self.record.lock().clone()
    }

    fn hinder(&self, bit: u8, is_so: bool) {
        match is_so {
            true => self.hindrances.fetch_or(bit, SeqCst),
            false => self.hindrances.fetch_and(!bit, SeqCst),
        };
    }

    /// Whether some commands may not run: see [`Saving::is_failing`], [`Saving::is_loading`] and
    /// [`Saving::is_loading_aside`].
    #[inline]
    pub fn is_hindered(&self) -> bool {
        self.hindrances.load(Relaxed) != 0
    }

    /// Whether the last save failed.
    pub fn is_failing(&self) -> bool {
        self.hindrances.load(Relaxed) & FAILING != 0
    }

    /// Whether the data is being loaded.
    #[inline]
    pub fn is_loading(&self) -> bool {
        self.hindrances.load(Relaxed) & LOADING != 0
    }

    /// Whether other data is being loaded that is to take the place of what is there.
    pub fn is_loading_aside(&self) -> bool {
        self.hindrances.load(Relaxed) & LOADING_ASIDE != 0
    }

    /// Whether data is being loaded, whatever is served meanwhile.
    pub fn loads_any(&self) -> bool {
        self.hindrances.load(Relaxed) & (LOADING | LOADING_ASIDE) != 0
    }

    /// Notes that a file of so many bytes is loaded from now on.
    pub fn begin_loading(&self, n_bytes: u64) {
        self.note_loading(n_bytes);
        self.hinder(LOADING, true);
    }

    /// Likewise, while the data that is there is served.
    pub fn begin_loading_aside(&self, n_bytes: u64) {
        self.note_loading(n_bytes);
        self.hinder(LOADING_ASIDE, true);
    }

    fn note_loading(&self, n_bytes: u64) {
        self.loading.since_s.store(unix_time().as_secs(), Relaxed);
        self.loading.n_bytes.store(n_bytes, Relaxed);
        self.loading.n_read.store(0, Relaxed);
        *self.loading.begun_at.lock() = Some(Instant::now());
    }

    /// Whether a load may well be over before anybody minds: who is refused for it waits.
    pub fn ends_soon(&self) -> bool {
        let begun_at = *self.loading.begun_at.lock();
        begun_at.is_some_and(|at| at.elapsed() < LOADING_PATIENCE)
    }

    /// Notes that the data is there.
    pub fn end_loading(&self) {
        self.hinder(LOADING | LOADING_ASIDE, false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_save_follows_a_flush_whenever_it_comes() {
        for flushes_before in [true, false] {
            let saving = Saving::default();
            assert!(saving.wish(Box::new(|_| {})));
            assert!(matches!(saving.next(None), Wish::Save(_)));
            if flushes_before {
                saving.flushed(Some(0));
                assert!(saving.must_stop());
            }
            saving.ended(!flushes_before);
            if !flushes_before {
                saving.flushed(Some(0));
            }
            assert!(saving.is_running() && !saving.must_stop());
            assert!(matches!(saving.next(None), Wish::Save(_)));
            saving.ended(true);
            assert!(!saving.is_running(), "only one follows");
        }
    }

    #[test]
    fn the_file_of_an_earlier_moment_does_not_replace_that_of_a_later_one() {
        let saving = Saving::default();
        let (earlier, later) = (saving.cut(), saving.cut());
        assert_eq!(saving.put(later, || Ok::<(), ()>(())), Ok(true));
        assert_eq!(saving.put(earlier, || panic!("it is put there")), Ok::<bool, ()>(false));
        assert_eq!(saving.put(saving.cut(), || Err("full")), Err("full"));
        assert_eq!(saving.put(later, || Ok::<(), ()>(())), Ok(true), "that one failed");
    }
}
