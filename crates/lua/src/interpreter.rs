//! One Lua state: compiles scripts, keeps them by name, runs them.

use std::ffi::c_int;
use std::rc::Rc;

use hashbrown::HashMap;
use mlua::chunk::ChunkMode;
use mlua::state::{GcIncParams, GcMode};
use mlua::{Function, HookTriggers, Lua, LuaOptions, StdLib, Table, Value, VmState};

use crate::encode::{EncodeError, encode, one_line};
use crate::library::{Registered, registered};
use crate::native::{self, Raised, Shared};
use crate::raw::{Returned, Starter, What};
use crate::script::body;
use crate::slot::Together;
use crate::{Failure, Host, Sink, TICK_INSTRUCTIONS};

/// Bytes that scripts may occupy in all.
pub const MEMORY_BYTES_MAX: usize = 1 << 30;

/// How many percent of what was in use after a collection may be in use before the next begins. What
/// lives is little, and marking it was a tenth of a short script's time at Lua's own 200, which is right
/// again once a script has taken much: what is garbage counts for the limit.
const GC_PAUSE: c_int = 400;
const GC_PAUSE_LARGE: c_int = 200;
/// What is much.
const LARGE_BYTES: usize = 16 << 20;

/// A script's name: the SHA-1 of its source in lower-case hexadecimal digits.
pub type ScriptName = [u8; 40];

/// A sandboxed Lua state with its compiled scripts. About 200 kB; make it when the first script
/// arrives, drop it to forget everything. It may move between threads, but serves one at a time.
pub struct Interpreter {
    inner: Together<Inner>,
}

struct Inner {
    last_place: i64,
    bytes_max: usize,
    scripts: HashMap<ScriptName, Compiled>,
    libraries: HashMap<u64, Vec<i64>>,
    starter: Starter,
    /// The line of the last failure, and whether a command answered it; forgets both.
    failure: Function,
    load_library: Function,
    functions_env: Table,
    shared: Rc<Shared>,
    lua: Lua,
}

impl Interpreter {
    /// Prepares a Lua state. `seed` begins the sequence of `math.random`.
    pub fn new(seed: u32) -> Result<Interpreter, Failure> {
        Interpreter::with_memory(seed, MEMORY_BYTES_MAX)
    }

    /// The same; scripts may also use `getfenv`, `setfenv` and `newproxy`.
    pub fn insecure(seed: u32) -> Result<Interpreter, Failure> {
        Interpreter::made(seed, MEMORY_BYTES_MAX, true)
    }

    /// The same with another limit of memory.
    pub fn with_memory(seed: u32, bytes_max: usize) -> Result<Interpreter, Failure> {
        Interpreter::made(seed, bytes_max, false)
    }

    fn made(seed: u32, bytes_max: usize, is_insecure: bool) -> Result<Interpreter, Failure> {
        let inner = Inner::new(seed, bytes_max, is_insecure).map_err(|error| internal(&error))?;
        // SAFETY: the Lua state and everything counted by reference in it (functions, tables, the
        // shared buffers) is reachable through `inner` alone, which hands none of it out, and mlua
        // keeps no state of a `Lua` in thread-local storage.
        #[allow(unsafe_code)]
        let inner = unsafe { Together::new(inner) };
        Ok(Interpreter { inner })
    }

    /// The script of this name, if it has been compiled.
    pub fn compiled(&self, name: &ScriptName) -> Option<Compiled> {
        self.inner.get().scripts.get(name).copied()
    }

    /// Compiles a script and keeps it under its name. Its `#!` line must have been looked at by
    /// [`script::flags`](crate::script::flags). Never call this under a shard lock.
    pub fn compile(&mut self, name: ScriptName, source: &[u8]) -> Result<Compiled, Failure> {
        let inner = self.inner.get_mut();
        let chunk = inner.lua.load(body(source)).set_name("@user_script");
        let function = chunk
            .set_mode(ChunkMode::Text)
            .into_function()
            .map_err(|error| {
                let reason = compile_reason(error);
                let line = format!("ERR Error compiling script (new function): {reason}");
                Failure {
                    message: one_line(line.as_bytes()),
                    from_command: false,
                }
            })?;
        let place = inner.keep(&function).map_err(|error| internal(&error))?;
        if let Some(Compiled(old)) = inner.scripts.insert(name, Compiled(place)) {
            inner.drop_compiled(old);
        }
        Ok(Compiled(place))
    }

    /// Forgets a script.
    pub fn forget(&mut self, name: &ScriptName) {
        let inner = self.inner.get_mut();
        if let Some(Compiled(place)) = inner.scripts.remove(name) {
            inner.drop_compiled(place);
        }
    }

    /// Runs a script that has been compiled under this name, and was not forgotten since, and
    /// writes what it returns to `sink`. On a failure the sink may hold a part of the result, which
    /// the caller must take back.
    pub fn run(
        &mut self,
        (Compiled(place), name): (Compiled, &ScriptName),
        call: Call<'_>,
        host: &mut dyn Host,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        let entry = Entry::Script(place, name);
        self.inner.get_mut().start(entry, call, host, sink)
    }

    /// Whether the functions of this library are at hand.
    pub fn knows_library(&self, library: u64) -> bool {
        self.inner.get().libraries.contains_key(&library)
    }

    /// Compiles and loads a library, and keeps its functions under the number `library`, in the
    /// order returned. Its first line must have been looked at by
    /// [`library::header`](crate::library::header). Never call this under a shard lock.
    pub fn load_library(
        &mut self,
        library: u64,
        source: &[u8],
        host: &mut dyn Host,
    ) -> Result<Vec<Registered>, Failure> {
        self.inner.get_mut().load_library(library, source, host)
    }

    /// Forgets the functions of a library.
    pub fn forget_library(&mut self, library: u64) {
        let inner = self.inner.get_mut();
        for place in inner.libraries.remove(&library).unwrap_or_default() {
            inner.drop_compiled(place);
        }
    }

    /// Calls a function, given by its library's number and its place there, as
    /// [`run`](Self::run) runs a script. `name` is for errors.
    pub fn call_function(
        &mut self,
        (library, place, name): (u64, usize, &[u8]),
        call: Call<'_>,
        host: &mut dyn Host,
        sink: &mut dyn Sink,
    ) -> Option<Result<(), Failure>> {
        let inner = self.inner.get_mut();
        let place = *inner.libraries.get(&library)?.get(place)?;
        Some(inner.start(Entry::Function(place, name), call, host, sink))
    }

    /// Bytes that Lua has allocated.
    pub fn used_bytes(&self) -> usize {
        self.inner.get().lua.used_memory()
    }
}

/// Where an interpreter has a script that it has compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Compiled(i64);

/// What a script is called with.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// `KEYS`
    pub keys: &'a [&'a [u8]],
    /// `ARGV`
    pub args: &'a [&'a [u8]],
}

fn internal(error: &mlua::Error) -> Failure {
    let message = one_line(format!("ERR Lua: {error}").as_bytes());
    Failure {
        message,
        from_command: false,
    }
}

fn pause(lua: &Lua, percent: c_int) {
    lua.gc_set_mode(GcMode::Incremental(GcIncParams::default().pause(percent)));
}

impl Inner {
    fn new(seed: u32, bytes_max: usize, is_insecure: bool) -> mlua::Result<Inner> {
        let libraries = StdLib::TABLE | StdLib::OS | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        let shared = Rc::new(Shared::default());
        let native = native::table(&lua, &shared)?;
        native.set("is_insecure", is_insecure)?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name("@prelude");
        let (env, globals, on_failure, failure, functions_env, load_library) =
            prelude.call::<(Table, Table, Function, Function, Table, Function)>(native)?;
        lua.load("math.randomseed(...)").call::<()>(seed)?;
        lua.set_globals(env)?;
        lua.gc_collect()?; // what compiling the prelude left
        pause(&lua, GC_PAUSE);
        lua.set_memory_limit(bytes_max)?;
        let ticking = Rc::clone(&shared);
        let every = HookTriggers::new().every_nth_instruction(TICK_INSTRUCTIONS);
        lua.set_global_hook(every, move |lua, _| {
            if !ticking.is_large.get() && lua.used_memory() > LARGE_BYTES {
                ticking.is_large.set(true);
                pause(lua, GC_PAUSE_LARGE);
            }
            match ticking.slot.with(|host| host.tick()) {
                Some(Err(message)) => Err(Raised::fatal(message)),
                _ => Ok(VmState::Continue),
            }
        })?;
        shared.has_finalizers.set(is_insecure);
        Ok(Inner {
            last_place: 0,
            bytes_max,
            scripts: HashMap::new(),
            libraries: HashMap::new(),
            starter: Starter::new(&lua, globals, on_failure, !is_insecure)?,
            failure,
            load_library,
            functions_env,
            shared,
            lua,
        })
    }

    fn start(
        &mut self,
        entry: Entry<'_>,
        call: Call<'_>,
        host: &mut dyn Host,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        if self.shared.is_large.get() && self.lua.used_memory() <= LARGE_BYTES {
            self.shared.is_large.set(false);
            pause(&self.lua, GC_PAUSE);
        }
        let result = self.start_in(entry, call, host, sink);
        if self.lua.used_memory() > LARGE_BYTES {
            // This script's keys may hold what takes so much.
            self.starter.drop_kept().map_err(|error| internal(&error))?;
        }
        if result.is_err() && self.lua.used_memory() > self.bytes_max / 2 {
            // The next script should find room, whatever this one has left.
            let _ = self.lua.gc_collect();
        }
        result
    }

    fn start_in(
        &mut self,
        entry: Entry<'_>,
        call: Call<'_>,
        host: &mut dyn Host,
        sink: &mut dyn Sink,
    ) -> Result<(), Failure> {
        self.shared.resp3.set(false);
        let (what, place, name, source) = match entry {
            Entry::Script(place, name) => (What::Script, place, &name[..], "user_script"),
            Entry::Function(place, name) => (What::Function, place, name, "user_function"),
        };
        let (slot, starter) = (&self.shared.slot, &self.starter);
        let returned = slot.lend(host, || starter.run(&self.lua, what, place, call, sink));
        self.shared.resume_panic();
        let message = match returned {
            Returned::Written => return Ok(()),
            Returned::Value(value) => {
                return encode(&value, self.shared.resp3.get(), sink).map_err(
                    |error| match error {
                        EncodeError::Lua(error) => internal(&error),
                        EncodeError::TooDeep => Failure {
                            message: b"ERR reached lua stack limit".to_vec(),
                            from_command: false,
                        },
                    },
                );
            }
            Returned::Failed(message) => message,
        };
        let (line, from_command) = self
            .failure
            .call::<(Option<i64>, Option<bool>)>(())
            .map_err(|error| internal(&error))?;
        Err(Failure {
            message: failure_line(&message, name, line.map(|line| (source, line))),
            from_command: from_command.unwrap_or(false),
        })
    }

    fn load_library(
        &mut self,
        library: u64,
        source: &[u8],
        host: &mut dyn Host,
    ) -> Result<Vec<Registered>, Failure> {
        let failure = |text: &str, reason: &[u8]| Failure {
            message: one_line(&[text.as_bytes(), reason].concat()),
            from_command: false,
        };
        let chunk = self.lua.load(body(source)).set_name("@user_function");
        let chunk = chunk.set_mode(ChunkMode::Text).into_function();
        let chunk = chunk.map_err(|error| {
            failure("ERR Error compiling function: ", compile_reason(error).as_bytes())
        })?;
        let env = chunk.set_environment(self.functions_env.clone());
        env.map_err(|error| internal(&error))?;
        let loaded = self
            .shared
            .slot
            .lend(host, || self.load_library.call::<(bool, Value)>(chunk))
            .map_err(|error| internal(&error))?;
        let all = match loaded {
            (true, Value::Table(all)) => all,
            (_, Value::String(message)) => {
                return Err(failure("ERR Error registering functions: ", &message.as_bytes()));
            }
            _ => return Err(failure("ERR Error registering functions: ERR unknown error", b"")),
        };
        let all = all.sequence_values::<Table>();
        let all: mlua::Result<Vec<(Registered, Function)>> =
            all.map(|entry| registered(&entry?)).collect();
        let (mut functions, mut places) = (Vec::new(), Vec::new());
        for (function, callback) in all.map_err(|error| internal(&error))? {
            functions.push(function);
            places.push(self.keep(&callback).map_err(|error| internal(&error))?);
        }
        self.libraries.insert(library, places);
        Ok(functions)
    }

    /// Keeps a compiled function; its place.
    fn keep(&mut self, function: &Function) -> mlua::Result<i64> {
        self.last_place += 1;
        self.starter.compiled.raw_set(self.last_place, function)?;
        Ok(self.last_place)
    }

    fn drop_compiled(&self, place: i64) {
        // Setting an entry that exists to nil needs no memory, so it does not fail.
        let _ = self.starter.compiled.raw_set(place, Value::Nil);
    }
}

const OUT_OF_MEMORY: &[u8] = b"not enough memory";

/// What is run: its place among the compiled functions, and its name in errors.
enum Entry<'a> {
    Script(i64, &'a ScriptName),
    Function(i64, &'a [u8]),
}

fn compile_reason(error: mlua::Error) -> String {
    match error {
        mlua::Error::SyntaxError { message, .. } => message,
        other => other.to_string(),
    }
}

fn failure_line(message: &Value, name: &[u8], place: Option<(&str, i64)>) -> Vec<u8> {
    let mut text = match message {
        // No handler of errors runs when memory is used up.
        Value::String(message) if place.is_none() && *message.as_bytes() == *OUT_OF_MEMORY => {
            [b"ERR ", OUT_OF_MEMORY].concat()
        }
        Value::String(message) => message.as_bytes().to_vec(),
        _ => b"ERR unknown error".to_vec(),
    };
    text.extend_from_slice(b" script: ");
    text.extend_from_slice(name);
    if let Some((source, line)) = place {
        text.extend_from_slice(format!(", on @{source}:{line}").as_bytes());
    }
    text.push(b'.');
    one_line(&text)
}
