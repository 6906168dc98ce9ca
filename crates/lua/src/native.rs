//! The functions of the `redis` library that need the server, and the errors they raise.

use std::any::Any;
use std::cell::{Cell, RefCell, RefMut};
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;

use mlua::{Error, Function, Lua, MultiValue, Result, Table, Value};

use crate::decode::{decode, plain_error_table};
use crate::raw;
use crate::script::sha1_hex;
use crate::slot::HostSlot;
use crate::{Api, Host, How, LogLevel};

/// Arguments whose slices are kept on the stack.
pub(crate) const FEW_ARGS: usize = 16;

/// What the functions share with the interpreter.
#[derive(Default)]
pub struct Shared {
    /// The host of the run that is going on.
    pub slot: HostSlot,
    /// Whether the script chose RESP3.
    pub resp3: Cell<bool>,
    /// The host panicked: the run ends, and its panic goes on when Lua has been left.
    pub(crate) has_panicked: Cell<bool>,
    panic: Cell<Option<Box<dyn Any + Send>>>,
    /// Scripts may have finalizers, which run commands whenever Lua allocates.
    pub(crate) has_finalizers: Cell<bool>,
    /// A script has taken much memory, and garbage is collected sooner.
    pub(crate) is_large: Cell<bool>,
    buffers: RefCell<Buffers>,
}

impl Shared {
    /// Runs a command; its reply. `None` if there is no host, or it is busy.
    pub(crate) fn call_host(&self, args: &[&[u8]], api: Api) -> Option<RefMut<'_, Vec<u8>>> {
        let buffers = self.buffers.try_borrow_mut().ok()?;
        let mut reply = RefMut::map(buffers, |buffers| &mut buffers.reply);
        reply.clear();
        let how = self.how(api);
        self.slot
            .with(|host| self.guarded(|| host.call(args, how, &mut reply)))?;
        Some(reply)
    }

    fn how(&self, api: Api) -> How {
        let resp3 = self.resp3.get();
        How { resp3, api }
    }

    /// Lua would make the host's panic an error of the script: it is kept.
    fn guarded(&self, call: impl FnOnce()) {
        if let Err(panic) = catch_unwind(AssertUnwindSafe(call)) {
            self.has_panicked.set(true);
            self.panic.set(Some(panic));
        }
    }

    /// Goes on with the host's panic, if there was one.
    pub(crate) fn resume_panic(&self) {
        if self.has_panicked.replace(false)
            && let Some(panic) = self.panic.take()
        {
            resume_unwind(panic);
        }
    }
}

/// Used again by every call: the arguments' bytes, where each ends, and the reply.
#[derive(Default)]
struct Buffers {
    bytes: Vec<u8>,
    ends: Vec<usize>,
    reply: Vec<u8>,
}

/// An error that a native function raises.
#[derive(Debug)]
pub struct Raised {
    message: Vec<u8>,
    is_fatal: bool,
    is_command: bool,
}

impl fmt::Display for Raised {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&String::from_utf8_lossy(&self.message))
    }
}

impl std::error::Error for Raised {}

impl Raised {
    fn error(message: impl Into<Vec<u8>>) -> Error {
        let message = message.into();
        Error::external(Raised {
            message,
            is_fatal: false,
            is_command: false,
        })
    }

    /// What a script cannot catch.
    pub fn fatal(message: Vec<u8>) -> Error {
        Error::external(Raised {
            message,
            is_fatal: true,
            is_command: false,
        })
    }

    fn command(message: &[u8]) -> Error {
        let message = message.to_vec();
        Error::external(Raised {
            message,
            is_fatal: false,
            is_command: true,
        })
    }
}

/// The table `native` of the prelude.
pub fn table(lua: &Lua, shared: &Rc<Shared>) -> Result<Table> {
    let native = lua.create_table()?;
    for api in [Api::Redis, Api::Server] {
        native.set(api.name(), library(lua, shared, api)?)?;
    }
    native.set("sha1hex", lua.create_function(sha1hex)?)?;
    native.set("line", lua.create_function(|lua, ()| Ok(line(lua)))?)?;
    native.set("describe", lua.create_function(describe)?)?;
    native.set("libraries", crate::libraries::table(lua)?)?;
    Ok(native)
}

/// What reaches the server, under one of its names.
fn library(lua: &Lua, shared: &Rc<Shared>, api: Api) -> Result<Table> {
    let table = lua.create_table()?;
    table.set("call", call_function(lua, shared, (true, api))?)?;
    table.set("pcall", call_function(lua, shared, (false, api))?)?;
    let host = Rc::clone(shared);
    table.set("log", lua.create_function(move |lua, args| log(lua, &host, args, api))?)?;
    let host = Rc::clone(shared);
    table.set("setresp", lua.create_function(move |_, args| setresp(&host, &args, api))?)?;
    let host = Rc::clone(shared);
    table.set("set_repl", lua.create_function(move |_, args| set_repl(&host, &args, api))?)?;
    let host = Rc::clone(shared);
    table.set("acl_check_cmd", lua.create_function(move |_, args| allows(&host, &args, api))?)?;
    Ok(table)
}

fn call_function(lua: &Lua, shared: &Rc<Shared>, (raises, api): (bool, Api)) -> Result<Function> {
    let host = Rc::clone(shared);
    let whole = lua.create_function(move |lua, args| call(lua, &host, &args, (raises, api)))?;
    let host = Rc::clone(shared);
    let finish = lua.create_function(move |lua, ()| {
        if host.has_panicked.get() {
            return Err(Raised::fatal(b"ERR the server failed".to_vec()));
        }
        let buffers = host.buffers.try_borrow();
        let buffers = buffers.map_err(|_| Raised::error("ERR the reply is being written"))?;
        finish(lua, &buffers.reply, raises)
    })?;
    raw::call_function(lua, shared, (whole, finish), api)
}

fn call(
    lua: &Lua,
    shared: &Shared,
    args: &MultiValue,
    (raises, api): (bool, Api),
) -> Result<Value> {
    let refused = |message: &str| match raises {
        true => Err(Raised::error(message)),
        false => plain_error_table(lua, message.as_bytes()).map(Value::Table),
    };
    if args.is_empty() {
        return refused("ERR Please specify at least one argument for this redis lib call");
    }
    let Ok(mut buffers) = shared.buffers.try_borrow_mut() else {
        return refused("ERR a command of this script is already running");
    };
    let buffers = &mut *buffers;
    if !buffers.take_args(args) {
        return refused(match api {
            Api::Redis => "ERR Lua redis lib command arguments must be strings or integers",
            Api::Server => "ERR Command arguments must be strings or integers",
        });
    }
    buffers.reply.clear();
    let how = shared.how(api);
    let run = |host: &mut dyn Host| shared.guarded(|| buffers.run(host, how));
    if shared.slot.with(run).is_none() {
        return refused("ERR redis functions can only be used while a script runs");
    }
    if shared.has_panicked.get() {
        return Err(Raised::fatal(b"ERR the server failed".to_vec()));
    }
    finish(lua, &buffers.reply, raises)
}

/// A reply as what the call returns or raises.
fn finish(lua: &Lua, reply: &[u8], raises: bool) -> Result<Value> {
    match reply {
        [b'-', line @ ..] if raises => Err(Raised::command(line.trim_ascii_end())),
        _ => decode(lua, reply),
    }
}

impl Buffers {
    /// Copies the arguments' text; false if one has none.
    fn take_args(&mut self, args: &MultiValue) -> bool {
        self.bytes.clear();
        self.ends.clear();
        for arg in args {
            if !push_text(arg, &mut self.bytes) {
                return false;
            }
            self.ends.push(self.bytes.len());
        }
        true
    }

    fn run(&mut self, host: &mut dyn Host, how: How) {
        let bytes = &self.bytes;
        let mut start = 0;
        let slices = self.ends.iter().map(|end| {
            let slice = &bytes[start..*end];
            start = *end;
            slice
        });
        if self.ends.len() > FEW_ARGS {
            let slices: Vec<&[u8]> = slices.collect();
            return host.call(&slices, how, &mut self.reply);
        }
        let mut few: [&[u8]; FEW_ARGS] = [b""; FEW_ARGS];
        few.iter_mut()
            .zip(slices)
            .for_each(|(place, slice)| *place = slice);
        host.call(&few[..self.ends.len()], how, &mut self.reply);
    }
}

fn push_text(value: &Value, out: &mut Vec<u8>) -> bool {
    match value {
        Value::String(text) => out.extend_from_slice(&text.as_bytes()),
        Value::Integer(number) => stdx::number::write_i64(out, *number),
        Value::Number(number) => match whole(*number) {
            Some(number) => stdx::number::write_i64(out, number),
            None => stdx::double::format_f64(*number, out),
        },
        _ => return false,
    }
    true
}

fn whole(number: f64) -> Option<i64> {
    let limit = 9.2e18;
    (number.trunc() == number && number.abs() < limit).then_some(number as i64)
}

/// The error of a function of the library.
fn misuse(api: Api, what: &str) -> Error {
    Raised::error(format!("ERR {}.{what}", api.name()))
}

fn log(lua: &Lua, shared: &Shared, args: MultiValue, api: Api) -> Result<()> {
    let mut args = args.into_iter();
    let (level, n_messages) = (args.next(), args.len());
    if n_messages == 0 {
        return Err(misuse(api, "log() requires two arguments or more."));
    }
    let level = match level.and_then(|level| lua.coerce_number(level).transpose()) {
        None => {
            return Err(Raised::error("ERR First argument must be a number (log level)."));
        }
        Some(level) => match level? {
            0.0 => LogLevel::Debug,
            1.0 => LogLevel::Verbose,
            2.0 => LogLevel::Notice,
            3.0 => LogLevel::Warning,
            _ => return Err(Raised::error("ERR Invalid log level.")),
        },
    };
    let mut message = Vec::new();
    for (i, arg) in args.enumerate() {
        if i > 0 {
            message.push(b' ');
        }
        push_text(&arg, &mut message);
    }
    shared.slot.with(|host| host.log(level, &message));
    Ok(())
}

fn number(value: Option<&Value>) -> Option<f64> {
    match value? {
        Value::Integer(number) => Some(*number as f64),
        Value::Number(number) => Some(*number),
        Value::String(text) => std::str::from_utf8(&text.as_bytes())
            .ok()?
            .trim()
            .parse()
            .ok(),
        _ => None,
    }
}

fn setresp(shared: &Shared, args: &MultiValue, api: Api) -> Result<()> {
    if args.len() != 1 {
        return Err(misuse(api, "setresp() requires one argument."));
    }
    match number(args.front()) {
        Some(2.0) => shared.resp3.set(false),
        Some(3.0) => shared.resp3.set(true),
        _ => return Err(Raised::error("ERR RESP version must be 2 or 3.")),
    }
    Ok(())
}

fn set_repl(shared: &Shared, args: &MultiValue, api: Api) -> Result<()> {
    if args.len() != 1 {
        return Err(misuse(api, "set_repl() requires one argument."));
    }
    let (file, replicas) = match number(args.front()) {
        Some(0.0) => (false, false),
        Some(1.0) => (true, false),
        Some(2.0) => (false, true),
        Some(3.0) => (true, true),
        _ => {
            return Err(Raised::error(
                "ERR Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.",
            ));
        }
    };
    shared.slot.with(|host| host.set_journal(file, replicas));
    Ok(())
}

fn allows(shared: &Shared, args: &MultiValue, api: Api) -> Result<bool> {
    if args.is_empty() {
        return Err(Raised::error(
            "ERR Please specify at least one argument for this redis lib call",
        ));
    }
    let mut words = Vec::with_capacity(args.len());
    for arg in args {
        let mut word = Vec::new();
        if !push_text(arg, &mut word) {
            return Err(Raised::error(
                "ERR Lua redis.acl_check_cmd() command arguments must be strings or integers",
            ));
        }
        words.push(word);
    }
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    let verdict = shared.slot.with(|host| host.allows(&words)).flatten();
    let name = api.name();
    let unknown = || format!("ERR Invalid command passed to {name}.acl_check_cmd()");
    verdict.ok_or_else(|| Raised::error(unknown()))
}

fn sha1hex(lua: &Lua, args: MultiValue) -> Result<Value> {
    if args.len() != 1 {
        return Err(Raised::error("ERR wrong number of arguments"));
    }
    let mut text = Vec::new();
    args.front().map(|arg| push_text(arg, &mut text));
    Ok(Value::String(lua.create_string(sha1_hex(&text))?))
}

/// The line at which the innermost function of a script stands.
fn line(lua: &Lua) -> Option<usize> {
    for level in 1.. {
        let found = lua.inspect_stack(level, |frame| {
            let source = frame.source().short_src;
            let is_script = matches!(source.as_deref(), Some("user_script" | "user_function"));
            frame.current_line().filter(|_| is_script)
        });
        match found {
            Some(None) => {}
            Some(line) => return line,
            None => break,
        }
    }
    None
}

/// Opens an error: its message, whether scripts may not catch it, whether a command answered it,
/// and whether it is one of Lua's own, without a code in front.
fn describe(lua: &Lua, error: Value) -> Result<(Value, bool, bool, bool)> {
    let Value::Error(error) = error else {
        let message = lua.create_string("unknown error")?;
        return Ok((Value::String(message), false, false, true));
    };
    let mut error = *error;
    while let Error::CallbackError { cause, .. } | Error::WithContext { cause, .. } = &error {
        error = Error::clone(cause);
    }
    let raised = match &error {
        Error::ExternalError(external) => external.downcast_ref::<Raised>(),
        _ => None,
    };
    let text = |bytes: &[u8]| Ok::<_, Error>(Value::String(lua.create_string(bytes)?));
    Ok(match (raised, &error) {
        (Some(raised), _) => (text(&raised.message)?, raised.is_fatal, raised.is_command, false),
        (_, Error::RuntimeError(message)) => (text(message.as_bytes())?, false, false, true),
        (_, Error::MemoryError(_)) => (text(b"not enough memory")?, false, false, true),
        _ => (text(error.to_string().as_bytes())?, false, false, true),
    })
}
