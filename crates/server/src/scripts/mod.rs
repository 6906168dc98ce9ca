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
use lua::script::ScriptFlags;
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
    /// What the interpreter has to forget.
    outdated: Mutex<Outdated>,
    /// There is something to forget.
    is_outdated: AtomicBool,
    interpreter: Mutex<Option<Interpreter>>,
}

/// What the interpreter has and should not have.
#[derive(Default)]
struct Outdated {
    scripts: Vec<ScriptName>,
    /// All of it.
    is_whole: bool,
}

impl Scripts {
    /// The interpreter; for the transaction. `None` if there is none yet, or none any more.
    pub fn interpreter(&self) -> MutexGuard<'_, Option<Interpreter>> {
        let mut interpreter = self.interpreter.lock();
        if self.is_outdated.load(Relaxed) {
            self.forget_outdated(&mut interpreter);
        }
        interpreter
    }

    #[cold]
    fn forget_outdated(&self, interpreter: &mut Option<Interpreter>) {
        let outdated = {
            let mut outdated = self.outdated.lock();
            self.is_outdated.store(false, Relaxed);
            std::mem::take(&mut *outdated)
        };
        match interpreter {
            Some(one) if !outdated.is_whole => {
                outdated.scripts.iter().for_each(|name| one.forget(name));
            }
            _ => *interpreter = None,
        }
    }

    fn outdate(&self, gone: Option<ScriptName>) {
        let mut outdated = self.outdated.lock();
        match gone {
            Some(name) => outdated.scripts.push(name),
            None => outdated.is_whole = true,
        }
        self.is_outdated.store(true, Relaxed);
    }

    /// Keeps a script, for good if SCRIPT LOAD brought it. False if another went for it.
    pub fn add(&self, name: ScriptName, source: (&[u8], Option<ScriptFlags>), stays: bool) -> bool {
        let gone = self.cache.lock().add(name, source, stays);
        if gone.is_some() {
            self.outdate(gone);
        }
        gone.is_none()
    }

    /// Forgets a script, which did not compile.
    pub fn remove(&self, name: &ScriptName) {
        self.cache.lock().remove(name);
    }

    /// A script's source.
    pub fn source(&self, name: &ScriptName) -> Option<Arc<[u8]>> {
        self.cache.lock().source(name)
    }

    /// What a script says of itself, if it is known.
    pub fn flags(&self, name: &ScriptName) -> Option<Option<ScriptFlags>> {
        self.cache.lock().flags(name)
    }

    /// The same of one that is about to run.
    pub fn used(&self, name: &ScriptName) -> Option<Option<ScriptFlags>> {
        self.cache.lock().used(name)
    }

    /// The name of a script that is about to run, if its source is here, and what it says of
    /// itself.
    pub fn used_text(&self, source: &[u8]) -> Option<(ScriptName, Option<ScriptFlags>)> {
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
        self.outdate(None);
    }

    /// SCRIPT FLUSH. The interpreter, which may be running, goes when it is asked for next.
    pub fn clear(&self) {
        *self.cache.lock() = Cache::default();
        self.outdate(None);
    }
}
