//! The script cache and the one Lua interpreter, which is made when the first script arrives.
//!
//! The interpreter is used by the transaction alone, so its lock is never waited for long.

pub mod cache;
pub mod functions;
pub mod payload;
pub mod running;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};

use lua::interpreter::{Interpreter, ScriptName};
use parking_lot::{Mutex, MutexGuard};

use cache::Cache;
use functions::Functions;
use running::Running;

/// See the top of the file.
#[derive(Default)]
pub struct Scripts {
    /// The script that runs.
    pub running: Running,
    /// Libraries and their functions.
    pub functions: Mutex<Functions>,
    last_library: AtomicU64,
    cache: Mutex<Cache>,
    /// Scripts that the interpreter is to forget.
    gone: Mutex<Vec<ScriptName>>,
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
        let mut gone = self.gone.lock();
        if let Some(interpreter) = interpreter.as_mut() {
            gone.iter().for_each(|name| interpreter.forget(name));
        }
        gone.clear();
        drop(gone);
        interpreter
    }

    /// Keeps a script, for good if SCRIPT LOAD brought it. False if another went for it.
    pub fn add(&self, name: ScriptName, source: &[u8], stays: bool) -> bool {
        let gone = self.cache.lock().add(name, source, stays);
        let is_room = gone.is_none();
        self.gone.lock().extend(gone);
        is_room
    }

    /// Forgets a script, which did not compile.
    pub fn remove(&self, name: &ScriptName) {
        self.cache.lock().remove(name);
    }

    /// A script's source.
    pub fn source(&self, name: &ScriptName) -> Option<Arc<[u8]>> {
        self.cache.lock().source(name)
    }

    /// The source of a script that is about to run.
    pub fn used(&self, name: &ScriptName) -> Option<Arc<[u8]>> {
        self.cache.lock().used(name)
    }

    /// The name of a script that is about to run, if its source is here.
    pub fn used_text(&self, source: &[u8]) -> Option<ScriptName> {
        self.cache.lock().used_text(source)
    }

    /// Whether a script is known.
    pub fn knows(&self, name: &ScriptName) -> bool {
        self.cache.lock().knows(name)
    }

    /// How many scripts there are, and the bytes of their sources.
    pub fn size(&self) -> (usize, usize) {
        self.cache.lock().size()
    }

    /// Bytes that Lua has allocated, if there is an interpreter and it does not run.
    pub fn lua_bytes(&self) -> Option<usize> {
        Some(self.interpreter.try_lock()?.as_ref()?.used_bytes())
    }

    /// A number for a library that is about to be loaded.
    pub fn next_library(&self) -> u64 {
        self.last_library.fetch_add(1, Relaxed)
    }

    /// Has the interpreter made anew, with what is known, when it is asked for next.
    pub fn renew(&self) {
        self.is_stale.store(true, Relaxed);
    }

    /// SCRIPT FLUSH. The interpreter, which may be running, goes when it is asked for next.
    pub fn clear(&self) {
        *self.cache.lock() = Cache::default();
        self.gone.lock().clear();
        self.is_stale.store(true, Relaxed);
    }
}
