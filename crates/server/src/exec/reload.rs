//! The data set from a file: at the start, from a primary, and by DEBUG RELOAD.

use std::fs::File;
use std::io::Read;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use keyspace::db::{Db, Terms};
use keyspace::locked::Locked;
use rdb::file::Parts;
use resp::reply::Reply;

use super::Engine;
use crate::command::context::Reload;
use crate::error::{Error, Result, reason};
use crate::persistence::append;
use crate::persistence::found::{self, Found};
use crate::persistence::load::{self, LoadError, News};
use crate::persistence::rewrite;
use crate::persistence::save;
use crate::scripts::functions::Functions;
use crate::session::Session;
use crate::state::random_id;
use crate::stats::counters::Counter;

pub(super) const PATIENCE: Duration = Duration::from_millis(50);
pub(super) const CANNOT_LOAD: &str = "Failed trying to load the MASTER synchronization DB";

impl Engine {
    /// Loads the file that was found at the start.
    pub fn load_at_start(&mut self, file: File) -> std::result::Result<(), LoadError> {
        self.begin_tick();
        let locked = self.transaction();
        let parts = load::parts(self.state, file);
        let keeps_due = self.state.config.primary().is_some(); // it is the primary who says what is due
        let loaded = parts.and_then(|parts| self.load(&locked, parts, (false, keeps_due)));
        if loaded.is_ok() {
            self.state.resume_history();
            self.state.saving.end_loading();
        }
        loaded.map(|_| ())
    }

    /// The session of what a primary sends; the engine leaves it to the primary what is due.
    pub fn session_of_primary(&mut self) -> Session {
        self.is_follower = true;
        let mut session = self.reader_of_files();
        session.is_primary = true;
        session
    }

    /// Becomes the transaction, however long that takes.
    fn transaction(&self) -> Locked<'static> {
        loop {
            if let Ok(locked) = Locked::transaction(&self.state.keyspace, PATIENCE) {
                return locked;
            }
        }
    }

    /// All shards, if they are to be had within some milliseconds.
    pub fn everything(&self) -> Option<Locked<'static>> {
        let locked = Locked::transaction(&self.state.keyspace, PATIENCE).ok()?;
        locked.take_everything();
        Some(locked)
    }

    /// Puts the snapshot of a primary in the place of the data, from the file of this path if it is in one;
    /// nothing is left if it is broken. The error is for the log.
    pub fn load_from_primary<R: Read + Send>(
        &mut self,
        locked: Locked<'static>,
        (parts, path): (Parts<R>, Option<&Path>),
        n_bytes: u64,
    ) -> std::result::Result<(), String> {
        self.leave_history(random_id()?);
        self.state.saving.begin_loading(n_bytes);
        self.clear(&locked);
        let loaded = self.load(&locked, parts, (false, true));
        if loaded.is_err() {
            self.clear(&locked); // better nothing than a part
        }
        let begun = self.renew_log(loaded.is_ok(), path);
        self.wake_all_waiters(&locked);
        self.release(locked);
        self.state.saving.end_loading();
        loaded.map_err(|error| {
            let whence = if path.is_some() { "" } else { " from socket" };
            format!("{CANNOT_LOAD}{whence}: {error}")
        })?;
        begun
    }

    /// From here on the data is of no history, until all of the snapshot is there.
    pub(super) fn leave_history(&mut self, fresh: String) {
        self.state.journal.backlog.stop();
        self.state.role.begin_history(fresh);
        self.effects.has_touched_all = self.state.tracking.is_active();
    }

    /// Any key may be another one now: whoever waits for one looks again.
    pub(super) fn wake_all_waiters(&mut self, locked: &Locked<'static>) {
        for database in 0..self.state.keyspace.n_databases() {
            let keys = locked.waited_keys(database).into_iter();
            self.effects.ready.extend(keys.map(|key| (database, key)));
        }
    }

    /// The append-only file tells of the old data: it begins anew, from the file of this path if there is one.
    /// Without new data it stays as it was, off, until there is some, or this server is a primary: it may be the
    /// last copy of anything.
    pub(super) fn renew_log(
        &self,
        is_there: bool,
        path: Option<&Path>,
    ) -> std::result::Result<(), String> {
        let appends = append::switch_off(self.state) || self.state.config.appends();
        let adopts = |path| rewrite::adopt(self.state, path);
        match appends && is_there && !path.is_some_and(adopts) {
            true => append::switch_on(self.state),
            false => Ok(()),
        }
    }

    /// Loads the append-only file that was found at the start; it is not open yet. The error is for
    /// the operator.
    pub fn replay_at_start(&mut self, found: &Found) -> std::result::Result<(), String> {
        self.begin_tick();
        let locked = self.transaction();
        self.replay_all(&locked, found)
    }

    /// DEBUG LOADAOF. Others are told that the data is loaded, as they are at the start.
    pub(super) fn reload_log(
        &mut self,
        locked: &Locked<'static>,
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        const FAILED: Error =
            Error::Plain("ERR Error trying to load the AOF files, check server logs.");
        if self.state.saving.loads_any() {
            return Err(Error::Loading);
        }
        let (state, failed) = (self.state, |reason: String| {
            log::warn!("DEBUG LOADAOF failed: {reason}");
            FAILED
        });
        // Whoever writes it holds no shard, so it comes to its end.
        let mut files = state.aof.files();
        let written = state.aof.drain(&mut files);
        written.map_err(|error| failed(reason(&error)))?;
        drop(files);
        let found = found::find(state).map_err(failed)?;
        state.saving.begin_loading(found.n_bytes);
        self.clear(locked);
        let loaded = self.replay_all(locked, &found).map_err(failed);
        state.saving.end_loading();
        loaded?;
        log::warn!("Append Only File loaded by DEBUG LOADAOF");
        reply.ok();
        Ok(())
    }

    /// DEBUG RELOAD.
    pub(super) fn reload(
        &mut self,
        locked: &Locked<'static>,
        how: Reload,
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        if self.state.saving.loads_any() {
            return Err(Error::Loading);
        }
        if how.saves {
            save::at_once(self.state, locked).map_err(|_| Error::Plain("ERR"))?;
        }
        let failed = |error: LoadError| {
            log::warn!("DEBUG RELOAD failed: {error}");
            Error::Plain("ERR Error trying to load the RDB dump, check server logs.")
        };
        let file = load::open(self.state).and_then(|(file, _)| load::parts(self.state, file));
        let file = file.map_err(failed)?; // what is there stays
        if how.flushes {
            self.clear(locked);
        }
        if let Err(error) = self.load(locked, file, (how.merges, false)) {
            if how.flushes {
                self.clear(locked); // better nothing than a part
            }
            return Err(failed(error));
        }
        let changes = self.state.stats.totals_ever().get(Counter::Changes);
        self.state.saving.loaded(changes);
        log::warn!("DB reloaded by DEBUG RELOAD");
        reply.ok();
        Ok(())
    }

    pub(super) fn clear(&mut self, locked: &Locked<'static>) {
        self.state.role.own_keys.clear();
        for database in 0..self.state.keyspace.n_databases() {
            Db::new(locked, database, self.terms_of_leaving()).clear();
        }
        self.put_libraries(Functions::default());
    }

    /// What holds for keys that go all together.
    pub(super) fn terms_of_leaving(&self) -> Terms<'_> {
        Terms {
            now_ms: self.now_ms,
            trace: self.access_clock.leaving(),
            keeps_due: false,
            limits: &self.limits,
            departed: &self.departed,
        }
    }

    /// Loads a file; its length. `merges`: over what is there; `keeps_due`: also what is due.
    pub(super) fn load<R: Read + Send>(
        &mut self,
        locked: &Locked<'static>,
        parts: Parts<R>,
        (merges, keeps_due): (bool, bool),
    ) -> std::result::Result<u64, LoadError> {
        let (state, limits) = (self.state, self.limits.clone());
        let rules = load::Rules {
            limits: &limits,
            merges,
            keeps_due,
        };
        load::load(state, locked, parts, &rules, &mut |news| match news {
            News::Library(source) => {
                let added = self.load_library(source, merges);
                added.map(|_| ()).map_err(|error| error.to_string())
            }
            News::StreamDatabase(database) => {
                state.role.stream_database.store(database, Relaxed);
                Ok(())
            }
        })
    }
}
