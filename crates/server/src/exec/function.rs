//! Functions: FCALL runs one as EVAL runs a script; FUNCTION LOAD and its like change which there are.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use keyspace::locked::Locked;
use lua::interpreter::{Call, Interpreter};
use lua::{Host, How, LogLevel};
use resp::reply::Reply;

use super::script::log_line;
use super::{Engine, Meanwhile};
use crate::command::context::{Libraries, Permit};
use crate::error::{Error, Result};
use crate::scripts::functions::{Functions, Library, Policy};
use crate::scripts::payload;
use crate::scripts::running::Runs;
use crate::session::Session;
use crate::state::State;

/// How long a library may take to load.
const LOAD_TIME: Duration = Duration::from_millis(500);

const NOT_FOUND: Error = Error::Plain("ERR Function not found");

impl Engine {
    /// Runs the function that the request names and answers with what it returns.
    pub(super) fn run_function(
        &mut self,
        locked: &Locked<'static>,
        session: &mut Session,
        permit: Permit,
        (call, request): (Call<'_>, &[&[u8]]),
        (reply, meanwhile): (&mut Reply<'_>, &mut dyn Meanwhile),
    ) {
        let mut interpreter = self.state.scripts.interpreter();
        let found = self.state.scripts.functions.lock().find(request[1]);
        let Some(found) = found else {
            return self.fail(NOT_FOUND.to_string().as_bytes(), reply);
        };
        let interpreter = match self.prepare_library(&mut interpreter, &found.library) {
            Ok(interpreter) => interpreter,
            Err(error) => return self.fail(error.to_string().as_bytes(), reply),
        };
        let function = found.function();
        let run = (Runs::Function, &function.name[..], permit, request);
        let callee = (found.library.number, found.place, &function.name[..]);
        self.run_lua(locked, session, run, (reply, meanwhile), |bridge, answer| {
            interpreter.call_function(callee, call, bridge, answer)
        });
    }

    /// Loads a library again, if the interpreter does not know it any more.
    fn prepare_library<'a>(
        &mut self,
        interpreter: &'a mut Option<Interpreter>,
        library: &Library,
    ) -> Result<&'a mut Interpreter> {
        let interpreter = self.made(interpreter).map_err(Error::line)?;
        if !interpreter.knows_library(library.number) {
            let loaded = interpreter.load_library(
                library.number,
                &library.source,
                &mut Loading::new(self.state),
            );
            loaded.map_err(|failure| Error::line(failure.message))?;
        }
        Ok(interpreter)
    }

    /// Changes the libraries, and gives the journal the command that did.
    pub(super) fn change_libraries(
        &mut self,
        session: &Session,
        what: Libraries,
        request: &[&[u8]],
        reply: &mut Reply<'_>,
    ) {
        let mark = reply.len();
        let last = request.last().copied().unwrap_or_default();
        let result = match what {
            Libraries::Load { replaces } => self.load_library(last, replaces).map(|name| {
                reply.bulk(&name);
            }),
            Libraries::Delete => self.delete_library(last).map(|()| reply.ok()),
            Libraries::Flush => {
                self.put_libraries(Functions::default());
                reply.ok();
                Ok(())
            }
            Libraries::Restore(policy) => {
                let payload = request.get(2).copied().unwrap_or_default();
                self.restore_libraries(payload, policy).map(|()| reply.ok())
            }
        };
        if self.settle_reply(result, mark, reply) {
            self.effects.n_changes += 1;
            if self.effects.is_recorded {
                self.unit.add(session.database, request);
            }
        }
    }

    /// Reads and loads a library, which is not among the functions yet.
    pub(super) fn read_library(&mut self, source: &[u8]) -> Result<Arc<Library>> {
        let header = lua::library::header(source).map_err(Error::line)?;
        let scripts = &self.state.scripts;
        let number = scripts.next_library();
        let mut interpreter = scripts.interpreter();
        let interpreter = self.made(&mut interpreter).map_err(Error::line)?;
        let mut host = Loading::new(self.state);
        let functions = interpreter.load_library(number, source, &mut host);
        let functions = functions.map_err(|failure| Error::line(failure.message))?;
        if functions.is_empty() {
            interpreter.forget_library(number);
            return Err(Error::Plain("ERR No functions registered"));
        }
        Ok(Arc::new(Library {
            number,
            name: header.name,
            source: source.into(),
            functions,
        }))
    }

    pub(super) fn load_library(&mut self, source: &[u8], replaces: bool) -> Result<Vec<u8>> {
        let header = lua::library::header(source).map_err(Error::line)?;
        let functions = &self.state.scripts.functions;
        if !replaces && functions.lock().library(&header.name).is_some() {
            let name = String::from_utf8_lossy(&header.name);
            return Err(Error::Owned(format!("ERR Library '{name}' already exists")));
        }
        let library = self.read_library(source)?;
        let added = functions.lock().add(Arc::clone(&library), replaces);
        match added {
            Ok(old) => self.forget_libraries(old),
            Err(error) => {
                self.forget_libraries([library]);
                return Err(error);
            }
        }
        Ok(header.name)
    }

    fn delete_library(&mut self, name: &[u8]) -> Result<()> {
        let removed = self.state.scripts.functions.lock().remove(name);
        let removed = removed.ok_or(Error::Plain("ERR Library not found"))?;
        self.forget_libraries([removed]);
        Ok(())
    }

    fn restore_libraries(&mut self, payload: &[u8], policy: Policy) -> Result<()> {
        let sources = payload::restore(payload, self.directives.demands).map_err(Error::Plain)?;
        let mut read = Functions::default();
        for source in sources {
            let library = self.read_library(&source);
            if let Err(error) = library.and_then(|library| read.add(library, false)) {
                self.forget_libraries(read.libraries().cloned());
                return Err(error);
            }
        }
        if policy == Policy::Flush {
            self.put_libraries(read);
            return Ok(());
        }
        let replaces = policy == Policy::Replace;
        let mut functions = self.state.scripts.functions.lock();
        let mut all = read.libraries();
        let refusal = all.find_map(|library| functions.check(library, replaces).err());
        if let Some(error) = refusal {
            drop(functions);
            self.forget_libraries(read.libraries().cloned());
            return Err(name_without_quotes(error));
        }
        let mut replaced = Vec::new();
        for library in read.libraries() {
            replaced.extend(functions.add(Arc::clone(library), replaces)?);
        }
        drop(functions);
        self.forget_libraries(replaced);
        Ok(())
    }

    /// Puts other libraries in the place of all.
    pub(super) fn put_libraries(&self, libraries: Functions) {
        let old = std::mem::replace(&mut *self.state.scripts.functions.lock(), libraries);
        self.forget_libraries(old.libraries().cloned());
    }

    pub(super) fn forget_libraries(&self, libraries: impl IntoIterator<Item = Arc<Library>>) {
        if let Some(interpreter) = self.state.scripts.interpreter().as_mut() {
            for library in libraries {
                interpreter.forget_library(library.number);
            }
        }
    }
}

/// FUNCTION RESTORE quotes no names.
fn name_without_quotes(error: Error) -> Error {
    Error::Owned(error.to_string().replace('\'', ""))
}

/// What a library reaches while it loads: the log.
struct Loading {
    since: Instant,
    state: &'static State,
}

impl Loading {
    fn new(state: &'static State) -> Loading {
        Loading {
            since: Instant::now(),
            state,
        }
    }
}

impl Host for Loading {
    fn call(&mut self, _: &[&[u8]], _: How, out: &mut Vec<u8>) {
        out.extend_from_slice(b"-ERR a library calls no commands while it loads\r\n");
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        log_line(level, message);
    }

    fn allows(&mut self, _: &[&[u8]]) -> Option<bool> {
        None // while a library loads, no user has called it
    }

    fn set_journal(&mut self, _: bool, _: bool) {}

    fn tick(&mut self) -> std::result::Result<(), Vec<u8>> {
        if self.state.is_stopping.load(Relaxed) {
            return Err(b"ERR The server is shutting down".to_vec());
        }
        match self.since.elapsed() > LOAD_TIME {
            true => Err(b"ERR FUNCTION LOAD timeout".to_vec()),
            false => Ok(()),
        }
    }
}
