//! A data set that nobody sees yet: the snapshot of a primary is loaded into it while the data is served, and
//! then takes its place at once (`repl-diskless-load swapdb`).

use std::io::Read;
use std::sync::atomic::Ordering::Relaxed;

use keyspace::db::Db;
use keyspace::keyspace::Keyspace;
use keyspace::locked::Locked;
use rdb::file::Parts;

use super::Engine;
use super::reload::{CANNOT_LOAD, PATIENCE};
use crate::error::Result;
use crate::persistence::load::{self, News, Rules};
use crate::scripts::functions::Functions;
use crate::state::{State, random_id};

/// See the top of the file.
pub struct Sibling {
    keyspace: Keyspace,
    libraries: Functions,
    /// The database in which the stream of the primary stands.
    stream_database: u64,
}

impl Sibling {
    /// Without keys. The stream stands in this database unless the snapshot names another one.
    pub fn new(state: &State, stream_database: u16) -> Sibling {
        Sibling {
            keyspace: state.keyspace.sibling(),
            libraries: Functions::default(),
            stream_database: stream_database.into(),
        }
    }

    /// Whether no snapshot of this server has to end before this takes the place of the data, as it seems.
    pub fn may_take_over(&self, state: &State) -> bool {
        state.keyspace.takes(&self.keyspace)
    }

    fn transaction(&self) -> Locked<'_> {
        let locked = Locked::transaction(&self.keyspace, PATIENCE).ok();
        locked.expect("nobody else knows it")
    }
}

impl Engine {
    /// Loads a snapshot. The error is for the log.
    pub fn load_sibling<R: Read + Send>(
        &mut self,
        sibling: &mut Sibling,
        parts: Parts<R>,
    ) -> std::result::Result<(), String> {
        let rules = Rules {
            limits: &self.limits.clone(),
            merges: false,
            keeps_due: true,
        };
        let (mut libraries, mut stream_database) = (Functions::default(), None);
        let loaded =
            load::load(self.state, &sibling.transaction(), parts, &rules, &mut |news| match news {
                News::Library(source) => {
                    let added = self.add_library(&mut libraries, source);
                    added.map_err(|error| error.to_string())
                }
                News::StreamDatabase(database) => {
                    stream_database = Some(database);
                    Ok(())
                }
            });
        sibling.libraries = libraries;
        sibling.stream_database = stream_database.unwrap_or(sibling.stream_database);
        match loaded {
            Ok(_) => Ok(()),
            Err(error) => Err(format!("{CANNOT_LOAD} from socket: {error}")),
        }
    }

    fn add_library(&mut self, libraries: &mut Functions, source: &[u8]) -> Result<()> {
        let library = self.read_library(source)?;
        let added = libraries.add(library.clone(), false);
        if added.is_err() {
            self.forget_libraries([library]);
        }
        added.map(|_| ())
    }

    /// Puts it in the place of the data, at once. False, and nothing is done, if a snapshot of this server
    /// must end first.
    pub fn take_over(
        &mut self,
        locked: Locked<'static>,
        sibling: &mut Sibling,
    ) -> std::result::Result<bool, String> {
        let fresh = random_id()?;
        let by = sibling.transaction();
        by.take_everything();
        let is_taken = Db::replace_all(&locked, &by, self.terms_of_leaving());
        drop(by);
        if !is_taken {
            self.release(locked);
            return Ok(false);
        }
        self.leave_history(fresh);
        let role = &self.state.role;
        role.stream_database.store(sibling.stream_database, Relaxed);
        role.own_keys.clear();
        self.put_libraries(std::mem::take(&mut sibling.libraries));
        self.wake_all_waiters(&locked);
        let begun = self.renew_log(true, None);
        self.release(locked);
        begun.map(|()| true)
    }

    /// Throws away what has not taken the place of the data.
    pub fn forget_sibling(&self, sibling: Sibling) {
        self.forget_libraries(sibling.libraries.libraries().cloned());
    }
}
