//! One Lua state: compiles scripts, keeps them by name, runs them.

use std::collections::HashMap;
use std::rc::Rc;

use mlua::chunk::ChunkMode;
use mlua::{Function, HookTriggers, Lua, LuaOptions, StdLib, Table, Value, VmState};

use crate::encode::{EncodeError, encode, one_line};
use crate::native::{self, Raised, Shared};
use crate::script::body;
use crate::slot::Together;
use crate::{Failure, Host, Sink, TICK_INSTRUCTIONS};

/// A script's name: the SHA-1 of its source in lower-case hexadecimal digits.
pub type ScriptName = [u8; 40];

/// A sandboxed Lua state with its compiled scripts. About 200 kB; make it when the first script
/// arrives, drop it to forget everything. It may move between threads, but serves one at a time.
pub struct Interpreter {
    inner: Together<Inner>,
}

struct Inner {
    scripts: HashMap<ScriptName, Function>,
    run: Function,
    shared: Rc<Shared>,
    keys: Option<Table>,
    argv: Option<Table>,
    lua: Lua,
}

impl Interpreter {
    /// Prepares a Lua state. `seed` begins the sequence of `math.random`.
    pub fn new(seed: u32) -> Result<Interpreter, Failure> {
        let inner = Inner::new(seed).map_err(|error| internal(&error))?;
        // SAFETY: the Lua state and everything counted by reference in it (functions, tables, the
        // shared buffers) is reachable through `inner` alone, which hands none of it out, and mlua
        // keeps no state of a `Lua` in thread-local storage.
        #[allow(unsafe_code)]
        let inner = unsafe { Together::new(inner) };
        Ok(Interpreter { inner })
    }

    /// Whether a script of this name has been compiled.
    pub fn knows(&self, name: &ScriptName) -> bool {
        self.inner.get().scripts.contains_key(name)
    }

    /// Compiles a script and keeps it under its name. Its `#!` line must have been looked at by
    /// [`script::flags`](crate::script::flags). Never call this under a shard lock.
    pub fn compile(&mut self, name: ScriptName, source: &[u8]) -> Result<(), Failure> {
        let inner = self.inner.get_mut();
        let chunk = inner.lua.load(body(source)).set_name("@user_script");
        let function = chunk
            .set_mode(ChunkMode::Text)
            .into_function()
            .map_err(|error| {
                let reason = match error {
                    mlua::Error::SyntaxError { message, .. } => message,
                    other => other.to_string(),
                };
                let line = format!("ERR Error compiling script (new function): {reason}");
                Failure {
                    message: one_line(line.as_bytes()),
                    from_command: false,
                }
            })?;
        inner.scripts.insert(name, function);
        Ok(())
    }

    /// Forgets a script.
    pub fn forget(&mut self, name: &ScriptName) {
        self.inner.get_mut().scripts.remove(name);
    }

    /// Runs a compiled script and writes what it returns to `sink`. On a failure the sink may hold
    /// a part of the result, which the caller must take back. `None` if there is no such script.
    pub fn run(
        &mut self,
        name: &ScriptName,
        call: Call<'_>,
        host: &mut dyn Host,
        sink: &mut dyn Sink,
    ) -> Option<Result<(), Failure>> {
        self.inner.get_mut().run(name, call, host, sink)
    }

    /// Bytes that Lua has allocated.
    pub fn used_bytes(&self) -> usize {
        self.inner.get().lua.used_memory()
    }
}

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

impl Inner {
    fn new(seed: u32) -> mlua::Result<Inner> {
        let libraries = StdLib::TABLE | StdLib::OS | StdLib::STRING | StdLib::MATH;
        let lua = Lua::new_with(libraries, LuaOptions::default())?;
        let shared = Rc::new(Shared::default());
        let native = native::table(&lua, &shared)?;
        let prelude = lua.load(include_str!("prelude.lua")).set_name("@prelude");
        let (env, run): (Table, Function) = prelude.call(native)?;
        lua.load("math.randomseed(...)").call::<()>(seed)?;
        lua.set_globals(env)?;
        let ticking = Rc::clone(&shared);
        let every = HookTriggers::new().every_nth_instruction(TICK_INSTRUCTIONS);
        lua.set_global_hook(every, move |_, _| match ticking.slot.with(|host| host.tick()) {
            Some(Err(message)) => Err(Raised::fatal(message)),
            _ => Ok(VmState::Continue),
        })?;
        Ok(Inner {
            scripts: HashMap::new(),
            run,
            shared,
            keys: None,
            argv: None,
            lua,
        })
    }

    fn run(
        &mut self,
        name: &ScriptName,
        call: Call<'_>,
        host: &mut dyn Host,
        sink: &mut dyn Sink,
    ) -> Option<Result<(), Failure>> {
        let script = self.scripts.get(name)?;
        self.shared.resp3.set(false);
        let strings = (
            strings(&self.lua, call.keys, &mut self.keys),
            strings(&self.lua, call.args, &mut self.argv),
        );
        let (keys, argv) = match strings {
            (Ok(keys), Ok(argv)) => (keys, argv),
            (Err(error), _) | (_, Err(error)) => return Some(Err(internal(&error))),
        };
        let returned = self.shared.slot.lend(host, || {
            self.run
                .call::<(bool, Value, Option<i64>, Option<bool>)>((script, keys, argv))
        });
        Some(match returned {
            Ok((true, value, ..)) => match encode(&value, self.shared.resp3.get(), sink) {
                Ok(()) => Ok(()),
                Err(EncodeError::Lua(error)) => Err(internal(&error)),
                Err(EncodeError::TooDeep) => {
                    let message = b"ERR reached lua stack limit".to_vec();
                    Err(Failure {
                        message,
                        from_command: false,
                    })
                }
            },
            Ok((false, message, line, from_command)) => {
                let message = failure_line(&message, name, line);
                Err(Failure {
                    message,
                    from_command: from_command.unwrap_or(false),
                })
            }
            Err(error) => Err(internal(&error)),
        })
    }
}

fn failure_line(message: &Value, name: &ScriptName, line: Option<i64>) -> Vec<u8> {
    let mut text = match message {
        Value::String(message) => message.as_bytes().to_vec(),
        _ => b"ERR unknown error".to_vec(),
    };
    text.extend_from_slice(b" script: ");
    text.extend_from_slice(name);
    if let Some(line) = line {
        text.extend_from_slice(format!(", on @user_script:{line}").as_bytes());
    }
    text.push(b'.');
    one_line(&text)
}

/// A table of strings. Empty ones are used again as long as no script put something in.
fn strings(lua: &Lua, texts: &[&[u8]], empty: &mut Option<Table>) -> mlua::Result<Table> {
    if texts.is_empty() {
        let untouched = |table: &&Table| table.is_empty() && table.metatable().is_none();
        if let Some(table) = empty.as_ref().filter(untouched) {
            return Ok(table.clone());
        }
        let table = lua.create_table()?;
        *empty = Some(table.clone());
        return Ok(table);
    }
    let table = lua.create_table_with_capacity(texts.len(), 0)?;
    for text in texts {
        table.raw_push(lua.create_string(text)?)?;
    }
    Ok(table)
}
