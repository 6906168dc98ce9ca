//! Begins a run in one protected call.
//!
//! mlua protects every string and table it makes on its own, because memory may run out, and each
//! time that costs more than the string. Here the whole of a run is one protected call: `KEYS` and
//! `ARGV` are made inside it.

#![allow(unsafe_code)]

use mlua::{Function, Lua, Result, Table, Value, ffi, lua_State};

use crate::interpreter::Call;

/// What the functions of the prelude that run something return: whether it succeeded, its result or
/// the message, the line at which it failed, and whether a command answered that message.
pub(crate) type Returned = (bool, Value, Option<i64>, Option<bool>);

/// Calls `run` with the function at `place` of `compiled`, and with the keys and arguments.
pub(crate) fn start(
    lua: &Lua,
    run: &Function,
    (compiled, place): (&Table, i64),
    call: Call<'_>,
) -> Result<Returned> {
    let begin = |state: *mut lua_State| {
        // SAFETY: `exec_raw` calls this in a protected call of a C function, which has twenty free
        // places on the stack beyond `run` and `compiled`; four are used. An error jumps out of the
        // closure, which holds nothing that would have to be dropped.
        unsafe {
            ffi::lua_pushnumber(state, place as f64);
            ffi::lua_rawget(state, 2);
            ffi::lua_replace(state, 2);
            push_strings(state, call.keys);
            push_strings(state, call.args);
            ffi::lua_call(state, 3, ffi::LUA_MULTRET);
        }
    };
    // SAFETY: the closure leaves on the stack what `run` returned, and nothing else.
    unsafe { lua.exec_raw((run, compiled), begin) }
}

/// Pushes a table of strings.
///
/// # Safety
///
/// `state` must be valid, have two free places, and be within a protected call that no value with
/// a destructor is in.
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
