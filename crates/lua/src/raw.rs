//! What every run passes through, written against Lua's C interface.
//!
//! mlua protects every string and table it makes on its own, because memory may run out, and counts
//! each value it hands to Rust. Here a whole run is one protected call, in which `KEYS` and `ARGV`
//! are made; and `redis.call` lends the host the texts where they are on Lua's stack. Whatever is
//! not a text, an integer or a null is left to mlua.
//!
//! An error of Lua jumps out of these functions without dropping anything: while Lua may raise one,
//! they own nothing.

#![allow(unsafe_code)]

use std::ffi::c_int;
use std::rc::Rc;
use std::slice;

use mlua::{Function, LightUserData, Lua, Result, Table, Value, ffi, lua_State};

use crate::Api;
use crate::decode::{Simple, simple};
use crate::interpreter::Call;
use crate::native::{FEW_ARGS, Shared};

/// What a run starts with.
struct Start<'a> {
    place: i64,
    what: What,
    call: Call<'a>,
}

/// How the compiled function gets the keys and arguments.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// As the globals `KEYS` and `ARGV`.
    Script,
    /// As its arguments.
    Function,
}

/// Begins runs; made once per Lua state. Scripts must not get hold of what is inside.
pub(crate) struct Starter {
    start: Function,
    /// The globals of scripts themselves, not a view of them.
    globals: Table,
    /// Where the compiled functions are: mlua can keep only some thousand handles.
    pub(crate) compiled: Table,
    /// Is called with an error where it was raised, and makes a message of it.
    on_failure: Function,
}

impl Starter {
    pub(crate) fn new(
        lua: &Lua,
        globals: Table,
        compiled: Table,
        on_failure: Function,
    ) -> Result<Starter> {
        // SAFETY: the function is called by `run` alone, as it demands.
        let start = unsafe { lua.create_c_function(start) }?;
        Ok(Starter {
            start,
            globals,
            compiled,
            on_failure,
        })
    }

    /// Runs the function at `place` of the compiled ones: its result, or what the handler of errors
    /// made of one.
    pub(crate) fn run(
        &self,
        what: What,
        place: i64,
        call: Call<'_>,
    ) -> Result<std::result::Result<Value, Value>> {
        let start = Start { place, what, call };
        let pointer = LightUserData((&raw const start).cast_mut().cast());
        let given = (pointer, &self.on_failure, &self.compiled, &self.globals);
        let (is_ok, value): (bool, Value) = self.start.call(given)?;
        Ok(if is_ok { Ok(value) } else { Err(value) })
    }
}

/// # Safety
///
/// The arguments must be a pointer to a [`Start`], a function and two tables.
unsafe extern "C-unwind" fn start(state: *mut lua_State) -> c_int {
    // SAFETY: by the contract; there are twenty free places on the stack, and seven are used.
    unsafe {
        let start = &*ffi::lua_touserdata(state, 1).cast::<Start<'_>>();
        ffi::lua_pushnumber(state, start.place as f64);
        ffi::lua_rawget(state, 3);
        let n_args = match start.what {
            What::Script => {
                for (name, texts) in [(c"KEYS", start.call.keys), (c"ARGV", start.call.args)] {
                    ffi::lua_pushstring(state, name.as_ptr());
                    push_strings(state, texts);
                    ffi::lua_rawset(state, 4);
                }
                0
            }
            What::Function => {
                push_strings(state, start.call.keys);
                push_strings(state, start.call.args);
                2
            }
        };
        let status = ffi::lua_pcall(state, n_args, 1, 2);
        ffi::lua_pushboolean(state, c_int::from(status == ffi::LUA_OK));
        ffi::lua_insert(state, -2);
    }
    2
}

/// Pushes a table of strings.
///
/// # Safety
///
/// `state` must be valid, have two free places, and be within a protected call.
unsafe fn push_strings(state: *mut lua_State, texts: &[&[u8]]) {
    // A request has fewer words than fit; it is only a hint of the size.
    let n_texts = i32::try_from(texts.len()).unwrap_or(0);
    // SAFETY: by the contract; Lua copies the bytes of each text.
    unsafe {
        ffi::lua_createtable(state, n_texts, 0);
        for (i, text) in texts.iter().enumerate() {
            ffi::lua_pushlstring(state, text.as_ptr().cast(), text.len());
            ffi::lua_rawseti(state, -2, i as i64 + 1);
        }
    }
}

/// `redis.call` or `redis.pcall`. `whole` does all of it; `finish` goes on when the host's reply is
/// in the buffer. Both hold `shared`.
pub(crate) fn call_function(
    lua: &Lua,
    shared: &Rc<Shared>,
    (whole, finish): (Function, Function),
    api: Api,
) -> Result<Function> {
    let shared = Rc::as_ptr(shared).cast_mut().cast();
    // SAFETY: the stack holds `whole` and `finish`, which become upvalues behind the pointer, before the
    // name. They hold the shared value as long as the function exists.
    unsafe {
        lua.exec_raw((whole, finish), |state| {
            ffi::lua_pushlightuserdata(state, shared);
            ffi::lua_insert(state, 1);
            ffi::lua_pushboolean(state, c_int::from(api == Api::Server));
            ffi::lua_pushcclosure(state, call, 4);
        })
    }
}

/// What is to be done after the host was called, or could not be.
enum Next {
    Push(Simple<'static>),
    Finish,
    Whole,
}

/// # Safety
///
/// The upvalues must be those that [`call_function`] gives.
unsafe extern "C-unwind" fn call(state: *mut lua_State) -> c_int {
    // SAFETY: by the contract. The texts that `call_host` returns are in a buffer that nobody
    // touches before the next call; this pushes one, which copies it. In the other cases a place is
    // free for the function, as C functions have twenty beyond their arguments.
    unsafe {
        let shared = ffi::lua_touserdata(state, ffi::lua_upvalueindex(1)).cast::<Shared>();
        let n_args = ffi::lua_gettop(state);
        let api = match ffi::lua_toboolean(state, ffi::lua_upvalueindex(4)) {
            0 => Api::Redis,
            _ => Api::Server,
        };
        match call_host(state, &*shared, n_args, api) {
            Next::Push(Simple::Number(number)) => ffi::lua_pushnumber(state, number),
            Next::Push(Simple::Null) => ffi::lua_pushboolean(state, 0),
            Next::Push(Simple::Text(text)) => {
                ffi::lua_pushlstring(state, text.as_ptr().cast(), text.len());
            }
            Next::Finish => {
                ffi::lua_pushvalue(state, ffi::lua_upvalueindex(3));
                ffi::lua_call(state, 0, 1);
            }
            Next::Whole => {
                ffi::lua_pushvalue(state, ffi::lua_upvalueindex(2));
                ffi::lua_insert(state, 1);
                ffi::lua_call(state, n_args, 1);
            }
        }
    }
    1
}

/// Calls the host, if all arguments are texts and few.
///
/// # Safety
///
/// `state` must hold `n_args` arguments, and the result be used before the next call.
unsafe fn call_host(state: *mut lua_State, shared: &Shared, n_args: c_int, api: Api) -> Next {
    let mut texts: [&[u8]; FEW_ARGS] = [b""; FEW_ARGS];
    let Some(texts) = texts
        .get_mut(..n_args as usize)
        .filter(|texts| !texts.is_empty())
    else {
        return Next::Whole;
    };
    for (text, at) in texts.iter_mut().zip(1..) {
        let mut len = 0;
        // SAFETY: a string on the stack stays where it is as long as it is there, which is until
        // this function has returned. `lua_tolstring` changes nothing about a string.
        unsafe {
            if ffi::lua_type(state, at) != ffi::LUA_TSTRING {
                return Next::Whole;
            }
            let bytes = ffi::lua_tolstring(state, at, &raw mut len);
            *text = slice::from_raw_parts(bytes.cast(), len);
        }
    }
    match shared.call_host(texts, api) {
        None => Next::Whole,
        Some(_) if shared.has_panicked.get() => Next::Finish,
        Some(reply) => match simple(&reply) {
            Some(Simple::Number(number)) => Next::Push(Simple::Number(number)),
            Some(Simple::Null) => Next::Push(Simple::Null),
            Some(Simple::Text(text)) => {
                let (bytes, len) = (text.as_ptr(), text.len());
                // SAFETY: the reply's bytes stay until the next call, by the contract.
                Next::Push(Simple::Text(unsafe { slice::from_raw_parts(bytes, len) }))
            }
            None => Next::Finish,
        },
    }
}
