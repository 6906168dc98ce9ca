//! The data set from a file: at the start, and by DEBUG RELOAD.

use std::fs::File;
use std::time::Duration;

use keyspace::db::{Db, Terms};
use keyspace::locked::Locked;
use resp::reply::Reply;

use super::Engine;
use crate::command::context::Reload;
use crate::error::{Error, Result};
use crate::persistence::load::{self, LoadError};
use crate::persistence::save;
use crate::scripts::functions::Functions;
use crate::stats::counters::Counter;

const PATIENCE: Duration = Duration::from_millis(50);

impl Engine {
    /// Loads the file that was found at the start.
    pub fn load_at_start(&mut self, file: File) -> std::result::Result<(), LoadError> {
        self.begin_tick();
        let locked = loop {
            if let Ok(locked) = Locked::transaction(&self.state.keyspace, PATIENCE) {
                break locked;
            }
        };
        let loaded = self.load(&locked, file, false);
        if loaded.is_ok() {
            self.state.saving.loading.end();
        }
        loaded
    }

    /// DEBUG RELOAD.
    pub(super) fn reload(
        &mut self,
        locked: &Locked<'static>,
        how: Reload,
        reply: &mut Reply<'_>,
    ) -> Result<()> {
        if how.saves {
            save::at_once(self.state, locked).map_err(|_| Error::Plain("ERR"))?;
        }
        if how.flushes {
            self.clear(locked);
        }
        let loaded = load::open(self.state).and_then(|(file, _)| {
            let merges = how.merges || !how.flushes;
            self.load(locked, file, merges)
        });
        if let Err(error) = loaded {
            log::warn!("DEBUG RELOAD failed: {error}");
            self.clear(locked); // better nothing than a part
            return Err(Error::Plain("ERR Error trying to load the RDB dump, check server logs."));
        }
        let changes = self.state.stats.totals_ever().get(Counter::Changes);
        self.state.saving.loaded(changes);
        log::warn!("DB reloaded by DEBUG RELOAD");
        reply.ok();
        Ok(())
    }

    fn clear(&mut self, locked: &Locked<'static>) {
        for database in 0..self.state.keyspace.n_databases() {
            let terms = Terms {
                now_ms: self.now_ms,
                clock: None,
                limits: &self.limits,
                departed: &self.departed,
            };
            Db::new(locked, database, terms).clear();
        }
        self.put_libraries(Functions::default());
    }

    fn load(
        &mut self,
        locked: &Locked<'static>,
        file: File,
        merges: bool,
    ) -> std::result::Result<(), LoadError> {
        let (state, limits) = (self.state, self.limits.clone());
        let rules = load::Rules {
            limits: &limits,
            merges,
        };
        load::load(state, locked, file, &rules, &mut |source| {
            let added = self.load_library(source, merges);
            added.map(|_| ()).map_err(|error| error.to_string())
        })
    }
}
