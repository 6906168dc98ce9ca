//! The bridge between scripts and the engine: EVAL runs a script as the transaction, and each of its
//! calls is a step under the same locks.

use std::sync::atomic::Ordering::Relaxed;
use std::time::Instant;

use keyspace::locked::Locked;
use lua::interpreter::{Call, Compiled, Interpreter, ScriptName};
use lua::{Api, Failure, Host, How, LogLevel, Sink};
use resp::reply::{Proto, Reply};

use super::permit::{Origin, verdict};
use super::{Engine, Meanwhile, Nesting};
use crate::command::context::{Permit, next_random};
use crate::command::lookup::resolve;
use crate::command::{Command, Flag};
use crate::error::Error;
use crate::journal::unit::Audience;
use crate::scripts::running::{Details, Runs};
use crate::session::Session;

/// What ends a script that was killed.
const KILLED: &[u8] = b"ERR Script killed by user with SCRIPT KILL...";

impl Engine {
    /// Runs a script from the cache and answers with what it returns.
    pub(super) fn run_script(
        &mut self,
        locked: &Locked<'static>,
        session: &mut Session,
        (name, permit): (&ScriptName, Permit),
        (call, request): (Call<'_>, &[&[u8]]),
        (reply, meanwhile): (&mut Reply<'_>, &mut dyn Meanwhile),
    ) {
        let mut interpreter = self.state.scripts.interpreter();
        let (interpreter, compiled) = match self.prepare(&mut interpreter, name) {
            Ok(prepared) => prepared,
            Err(line) => return self.fail(&line, reply),
        };
        let run = (Runs::Script, &name[..], permit, request);
        self.run_lua(locked, session, run, (reply, meanwhile), |bridge, answer| {
            Some(interpreter.run((compiled, name), call, bridge, answer))
        });
    }

    /// Runs something in the interpreter, from where it reaches the engine.
    pub(super) fn run_lua(
        &mut self,
        locked: &Locked<'static>,
        session: &mut Session,
        (what, name, permit, request): (Runs, &[u8], Permit, &[&[u8]]),
        (reply, meanwhile): (&mut Reply<'_>, &mut dyn Meanwhile),
        run: impl FnOnce(&mut dyn Host, &mut dyn Sink) -> Option<Result<(), Failure>>,
    ) {
        let running = &self.state.scripts.running;
        let (mark, nesting, database) = (reply.len(), self.nesting, session.database);
        let is_recorded = self.effects.is_recorded;
        self.nesting = Nesting::Script;
        self.directives.is_scripted = true;
        let since = self.clock;
        let may_not_grow = !permit.may_grow && self.eviction.is_full;
        running.begin(what);
        let mut bridge = Bridge {
            engine: self,
            locked,
            session,
            is_read_only: permit.is_read_only,
            may_not_grow,
            name,
            request,
            since,
            meanwhile,
        };
        let mut answer = Answer {
            reply,
            uncounted: Vec::new(),
        };
        let result = run(&mut bridge, &mut answer);
        let uncounted = answer.uncounted;
        running.end();
        self.clock = since; // it has taken all that time
        self.effects.is_recorded = is_recorded;
        self.unit.turn_to(Audience::ALL);
        self.nesting = nesting;
        self.directives.is_scripted = false;
        session.database = database;
        if let Some(Err(failure)) = result {
            reply.truncate(mark);
            reply.error(&failure.message);
            if !failure.from_command {
                self.count_error(&failure.message);
            }
            return;
        }
        uncounted.iter().for_each(|line| self.count_error(line));
    }

    /// Answers an error in place of a script that does not even run.
    pub(super) fn fail(&mut self, line: &[u8], reply: &mut Reply<'_>) {
        self.count_error(line);
        reply.error(line);
    }

    /// Compiles a script that SCRIPT LOAD has added, and answers with its name.
    pub(super) fn load_script(&mut self, name: ScriptName, reply: &mut Reply<'_>) {
        let mut interpreter = self.state.scripts.interpreter();
        match self.prepare(&mut interpreter, &name) {
            Ok(_) => reply.bulk(&name),
            Err(line) => self.fail(&line, reply),
        }
    }

    /// Makes the interpreter and compiles the script, where that is still to be done.
    fn prepare<'a>(
        &mut self,
        interpreter: &'a mut Option<Interpreter>,
        name: &ScriptName,
    ) -> Result<(&'a mut Interpreter, Compiled), Vec<u8>> {
        // The interpreter has just forgotten what the cache has.
        let compiled = interpreter.as_ref().and_then(|one| one.compiled(name));
        match compiled {
            Some(compiled) => Ok((self.made(interpreter)?, compiled)),
            None => self.compile(interpreter, name),
        }
    }

    #[cold]
    fn compile<'a>(
        &mut self,
        interpreter: &'a mut Option<Interpreter>,
        name: &ScriptName,
    ) -> Result<(&'a mut Interpreter, Compiled), Vec<u8>> {
        let scripts = &self.state.scripts;
        let source = scripts
            .source(name)
            .ok_or(&b"NOSCRIPT No matching script."[..])?;
        let interpreter = self.made(interpreter)?;
        let compiled = interpreter.compile(*name, &source).map_err(|failure| {
            scripts.remove(name);
            failure.message
        })?;
        Ok((interpreter, compiled))
    }

    /// The interpreter, made now if there was none.
    pub(super) fn made<'a>(
        &mut self,
        interpreter: &'a mut Option<Interpreter>,
    ) -> Result<&'a mut Interpreter, Vec<u8>> {
        match interpreter {
            Some(interpreter) => Ok(interpreter),
            None => {
                let seed = next_random(&mut self.random) as u32;
                let made = match self.state.config.lua_is_insecure() {
                    true => Interpreter::insecure(seed),
                    false => Interpreter::new(seed),
                };
                Ok(interpreter.insert(made.map_err(|failure| failure.message)?))
            }
        }
    }
}

/// Writes a line of a script to the log.
pub(super) fn log_line(level: LogLevel, message: &[u8]) {
    let level = match level {
        LogLevel::Debug => log::Level::Trace,
        LogLevel::Verbose => log::Level::Debug,
        LogLevel::Notice => log::Level::Info,
        LogLevel::Warning => log::Level::Warn,
    };
    log::log!(level, "{}", String::from_utf8_lossy(message));
}

/// What a running script reaches.
struct Bridge<'a> {
    engine: &'a mut Engine,
    locked: &'a Locked<'static>,
    session: &'a mut Session,
    is_read_only: bool,
    /// Memory was full when the script began.
    may_not_grow: bool,
    /// How the script is called in FUNCTION STATS.
    name: &'a [u8],
    request: &'a [&'a [u8]],
    since: Instant,
    meanwhile: &'a mut dyn Meanwhile,
}

impl Host for Bridge<'_> {
    fn call(&mut self, args: &[&[u8]], how: How, out: &mut Vec<u8>) {
        let proto = if how.resp3 {
            Proto::Resp3
        } else {
            Proto::Resp2
        };
        let either = |redis: &'static str, server| match how.api {
            Api::Redis => redis.as_bytes(),
            Api::Server => str::as_bytes(server),
        };
        let mut reply = Reply::new(out, proto);
        let Some(row) = self.engine.find(args[0]) else {
            let line = either(
                "ERR Unknown Redis command called from script",
                "ERR Unknown command called from script",
            );
            return self.refuse(None, line, &mut reply);
        };
        let Ok(admitted) = crate::command::lookup::resolve_in(row, args) else {
            let line = either(
                "ERR Wrong number of args calling Redis command from script",
                "ERR Wrong number of args calling command from script",
            );
            return self.refuse(Some(row), line, &mut reply);
        };
        let command = Some(admitted.0);
        let reaches_all = self.engine.state.scripts_reach_all.load(Relaxed);
        if admitted.0.has(Flag::NoScript) && !reaches_all {
            let line = either(
                "ERR This Redis command is not allowed from script",
                "ERR This Valkey command is not allowed from script",
            );
            return self.refuse(command, line, &mut reply);
        }
        if self.engine.state.is_stale() && !admitted.0.has(Flag::Stale) {
            return reply.error(b"ERR Can not execute the command on a stale replica");
        }
        let origin = Origin::Script;
        if !self
            .engine
            .may_step(self.session, admitted.0, args, origin, &mut reply)
        {
            let number = admitted.0.number.into();
            return self.engine.counters.command_rejected(number);
        }
        if self.is_read_only && self.engine.may_write(admitted.0, args) {
            let line = b"ERR Write commands are not allowed from read-only scripts.";
            return self.refuse(command, line, &mut reply);
        }
        let running = &self.engine.state.scripts.running;
        if admitted.0.needs_memory && self.may_not_grow && !running.has_written() {
            let line = Error::OutOfMemory.to_string();
            return self.refuse(command, line.as_bytes(), &mut reply);
        }
        let is_write = admitted.0.is_write();
        if is_write && !running.has_written() && self.engine.state.denies_writes() {
            let line = Error::Misconfigured.to_string();
            return self.refuse(command, line.as_bytes(), &mut reply);
        }
        if is_write && !running.has_written() && self.engine.state.aof.is_failing() {
            let line = Error::Unwritable(self.engine.state.aof.failure()).to_string();
            return self.refuse(command, line.as_bytes(), &mut reply);
        }
        if is_write && !running.has_written() && self.engine.state.lacks_replicas() {
            let line = Error::NoReplicas.to_string();
            return self.refuse(command, line.as_bytes(), &mut reply);
        }
        if is_write && self.engine.state.refuses_writes() {
            let line = Error::ReadOnlyReplica.to_string();
            return self.refuse(command, line.as_bytes(), &mut reply);
        }
        if is_write && !running.note_write() {
            return self.refuse(None, KILLED, &mut reply);
        }
        // What the script itself did until now is no command's.
        self.engine.clock = Instant::now();
        let (locked, session) = (self.locked, &mut *self.session);
        self.engine
            .step(locked, session, admitted, args, &mut reply, self.meanwhile);
    }

    fn allows(&mut self, args: &[&[u8]]) -> Option<bool> {
        let (command, ..) = resolve(self.engine.commands, args).ok()?;
        let rules = self.session.user.rules();
        let place = (self.engine.state, self.session.database);
        Some(verdict(place, &rules, command, args).is_ok())
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        log_line(level, message);
    }

    fn set_journal(&mut self, file: bool, replicas: bool) {
        let audience = Audience { file, replicas };
        self.engine.unit.turn_to(audience);
        self.engine.effects.is_recorded = audience.any() && self.engine.state.journal.has_readers();
    }

    fn tick(&mut self) -> Result<(), Vec<u8>> {
        let state = self.engine.state;
        let limit_ms = state.config.busy_reply_threshold_ms();
        let running = &state.scripts.running;
        if limit_ms > 0 && self.since.elapsed().as_millis() as u64 >= limit_ms {
            if running.become_busy(|| self.details()) {
                log::warn!(
                    "Slow script detected: still in execution after {limit_ms} milliseconds. You can \
                     try killing the script using the SCRIPT KILL or FUNCTION KILL command. Script \
                     name is: {}.",
                    String::from_utf8_lossy(self.name)
                );
            }
            self.engine.serve_others(self.meanwhile);
        }
        if running.is_killed() {
            return Err(KILLED.to_vec());
        }
        // One that has written is not ended here: half of what it does would be kept.
        match state.is_stopping.load(Relaxed) && !running.has_written() {
            true => Err(b"ERR The server is shutting down".to_vec()),
            false => Ok(()),
        }
    }
}

impl Bridge<'_> {
    /// Answers a call that is not run.
    fn refuse(&mut self, command: Option<&Command>, line: &[u8], reply: &mut Reply<'_>) {
        self.engine.count_refusal(command, line);
        reply.error(line);
    }

    fn details(&self) -> Details {
        Details {
            name: self.name.to_vec(),
            command: self.request.iter().map(|word| word.to_vec()).collect(),
            since: self.since,
        }
    }
}

/// What a script returns, as a reply.
struct Answer<'a, 'b> {
    reply: &'a mut Reply<'b>,
    /// Errors that the script has made.
    uncounted: Vec<Vec<u8>>,
}

impl Sink for Answer<'_, '_> {
    fn null(&mut self) {
        self.reply.null();
    }

    fn int(&mut self, value: i64) {
        self.reply.int(value);
    }

    fn boolean(&mut self, value: bool) {
        self.reply.bool(value);
    }

    fn bulk(&mut self, bytes: &[u8]) {
        self.reply.bulk(bytes);
    }

    fn status(&mut self, line: &[u8]) {
        self.reply.status(line);
    }

    fn error(&mut self, line: &[u8], is_counted: bool) {
        self.reply.error(line);
        if !is_counted {
            self.uncounted.push(line.to_vec());
        }
    }

    fn double(&mut self, value: f64) {
        self.reply.double(value);
    }

    fn big_number(&mut self, digits: &[u8]) {
        self.reply.big_number(digits);
    }

    fn verbatim(&mut self, format: &str, text: &[u8]) {
        self.reply.verbatim(format, text);
    }

    fn array(&mut self, n: usize) {
        self.reply.array(n);
    }

    fn map(&mut self, n: usize) {
        self.reply.map(n);
    }

    fn set(&mut self, n: usize) {
        self.reply.set(n);
    }
}
