//! The bridge between scripts and the engine: EVAL runs a script as the transaction, and each of its
//! calls is a step under the same locks.

use std::sync::atomic::Ordering::Relaxed;

use lua::interpreter::{Call, Interpreter, ScriptName};
use lua::{Host, LogLevel, Sink};
use resp::reply::{Proto, Reply};

use super::{Engine, Nesting};
use crate::command::Flag;
use crate::command::context::next_random;
use crate::command::lookup::find;
use crate::session::Session;
use keyspace::locked::Locked;

impl Engine {
    /// Runs a script from the cache and answers with what it returns.
    pub(super) fn run_script(
        &mut self,
        locked: &Locked<'static>,
        session: &mut Session,
        (name, is_read_only): (ScriptName, bool),
        call: Call<'_>,
        reply: &mut Reply<'_>,
    ) {
        let state = self.state;
        let mut interpreter = state.scripts.interpreter();
        if let Err(line) = self.prepare(&mut interpreter, &name) {
            return reply.error(&line);
        }
        let Some(interpreter) = interpreter.as_mut() else {
            return;
        };
        let (mark, nesting, database) = (reply.len(), self.nesting, session.database);
        self.nesting = Nesting::Script;
        let mut bridge = Bridge {
            engine: self,
            locked,
            session,
            is_read_only,
        };
        let result = interpreter.run(&name, call, &mut bridge, &mut Answer(reply));
        self.nesting = nesting;
        session.database = database;
        if let Some(Err(failure)) = result {
            reply.truncate(mark);
            reply.error(&failure.message);
        }
    }

    /// Compiles a script that SCRIPT LOAD has added, and answers with its name.
    pub(super) fn load_script(&mut self, name: ScriptName, reply: &mut Reply<'_>) {
        let mut interpreter = self.state.scripts.interpreter();
        match self.prepare(&mut interpreter, &name) {
            Ok(()) => reply.bulk(&name),
            Err(line) => reply.error(&line),
        }
    }

    /// Makes the interpreter and compiles the script, where that is still to be done.
    fn prepare(
        &mut self,
        interpreter: &mut Option<Interpreter>,
        name: &ScriptName,
    ) -> Result<(), Vec<u8>> {
        let scripts = &self.state.scripts;
        let source = scripts
            .source(name)
            .ok_or(&b"NOSCRIPT No matching script."[..])?;
        let interpreter = match interpreter {
            Some(interpreter) => interpreter,
            None => {
                let made = Interpreter::new(next_random(&mut self.random) as u32);
                interpreter.insert(made.map_err(|failure| failure.message)?)
            }
        };
        if interpreter.knows(name) {
            return Ok(());
        }
        interpreter.compile(*name, &source).map_err(|failure| {
            scripts.remove(name);
            failure.message
        })
    }
}

/// What a running script reaches.
struct Bridge<'a> {
    engine: &'a mut Engine,
    locked: &'a Locked<'static>,
    session: &'a mut Session,
    is_read_only: bool,
}

impl Host for Bridge<'_> {
    fn call(&mut self, args: &[&[u8]], resp3: bool, out: &mut Vec<u8>) {
        let proto = if resp3 { Proto::Resp3 } else { Proto::Resp2 };
        let mut reply = Reply::new(out, proto);
        let Some(command) = find(self.engine.commands, args[0]) else {
            return reply.error(b"ERR Unknown Redis command called from script");
        };
        let Ok(admitted) = crate::command::lookup::resolve_in(command, args) else {
            return reply.error(b"ERR Wrong number of args calling Redis command from script");
        };
        let reaches_all = self.engine.state.scripts_reach_all.load(Relaxed);
        if admitted.0.has(Flag::NoScript) && !reaches_all {
            return reply.error(b"ERR This Redis command is not allowed from script");
        }
        if self.is_read_only && admitted.0.is_write() {
            let line = b"ERR Write commands are not allowed from read-only scripts.";
            return reply.error(line);
        }
        self.engine
            .step(self.locked, self.session, admitted, args, &mut reply);
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        let level = match level {
            LogLevel::Debug => log::Level::Trace,
            LogLevel::Verbose => log::Level::Debug,
            LogLevel::Notice => log::Level::Info,
            LogLevel::Warning => log::Level::Warn,
        };
        log::log!(level, "{}", String::from_utf8_lossy(message));
    }

    fn tick(&mut self) -> Result<(), Vec<u8>> {
        let is_stopping = &self.engine.state.is_stopping;
        match is_stopping.load(Relaxed) {
            true => Err(b"ERR The server is shutting down".to_vec()),
            false => Ok(()),
        }
    }
}

/// What a script returns, as a reply.
struct Answer<'a, 'b>(&'a mut Reply<'b>);

impl Sink for Answer<'_, '_> {
    fn null(&mut self) {
        self.0.null();
    }

    fn int(&mut self, value: i64) {
        self.0.int(value);
    }

    fn boolean(&mut self, value: bool) {
        self.0.bool(value);
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.0.bulk(bytes);
    }

    fn status(&mut self, line: &[u8]) {
        self.0.status(line);
    }

    fn error(&mut self, line: &[u8]) {
        self.0.error(line);
    }

    fn double(&mut self, value: f64) {
        self.0.double(value);
    }

    fn big_number(&mut self, digits: &[u8]) {
        self.0.big_number(digits);
    }

    fn verbatim(&mut self, format: &str, text: &[u8]) {
        self.0.verbatim(format, text);
    }

    fn array(&mut self, n: usize) {
        self.0.array(n);
    }

    fn map(&mut self, n: usize) {
        self.0.map(n);
    }

    fn set(&mut self, n: usize) {
        self.0.set(n);
    }
}
