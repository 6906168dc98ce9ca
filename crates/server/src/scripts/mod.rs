//! The script cache and the one Lua interpreter, which is made when the first script arrives.
//!
//! The interpreter is used by the transaction alone, so its lock is never waited for long.

pub mod running;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use hashbrown::HashMap;
use lua::interpreter::{Interpreter, ScriptName};
use parking_lot::{Mutex, MutexGuard};

use running::Running;

/// See the top of the file.
#[derive(Default)]
pub struct Scripts {
    /// The script that runs.
    pub running: Running,
    sources: Mutex<HashMap<ScriptName, Arc<[u8]>>>,
    interpreter: Mutex<Option<Interpreter>>,
    /// SCRIPT FLUSH was called since the interpreter was made.
    is_stale: AtomicBool,
}

impl Scripts {
    /// The interpreter; for the transaction. `None` if there is none yet, or none any more.
    pub fn interpreter(&self) -> MutexGuard<'_, Option<Interpreter>> {
        let mut interpreter = self.interpreter.lock();
        if self.is_stale.swap(false, Relaxed) {
            *interpreter = None;
        }
        interpreter
    }

    /// Keeps a script.
    pub fn add(&self, name: ScriptName, source: &[u8]) {
        self.sources.lock().insert(name, source.into());
    }

    /// Forgets a script, which did not compile.
    pub fn remove(&self, name: &ScriptName) {
        self.sources.lock().remove(name);
    }

    /// A script's source.
    pub fn source(&self, name: &ScriptName) -> Option<Arc<[u8]>> {
        self.sources.lock().get(name).cloned()
    }

    /// Whether a script is known.
    pub fn knows(&self, name: &ScriptName) -> bool {
        self.sources.lock().contains_key(name)
    }

    /// How many scripts there are, and the bytes of their sources.
    pub fn size(&self) -> (usize, usize) {
        let sources = self.sources.lock();
        (sources.len(), sources.values().map(|source| source.len()).sum())
    }

    /// SCRIPT FLUSH. The interpreter, which may be running, goes when it is asked for next.
    pub fn clear(&self) {
        self.sources.lock().clear();
        self.is_stale.store(true, Relaxed);
    }
}
