//! What every run passes through, written against Lua's C interface.
//!
//! mlua protects every string and table it makes on its own, because memory may run out, and counts
//! each value it hands to Rust. Here a whole run is one protected call, in which `KEYS` and `ARGV`
//! are made; and `redis.call` lends the host the texts where they are on Lua's stack. Whatever is
//! not a text, an integer or a null is left to mlua, and so is a result that is not a text.
//!
//! `KEYS` and `ARGV` of a script are tables that an earlier run has left as they were given to it,
//! if there are few short texts: a table costs twice as much as all that is put into it. Scripts
//! cannot keep one, as nothing outlives a run that they may write to.
//!
//! An error of Lua jumps out of these functions without dropping anything: while Lua may raise one,
//! they own nothing.

#![allow(unsafe_code)]

use std::cell::Cell;
use std::ffi::{CStr, c_int};
use std::rc::Rc;
use std::slice;

use mlua::{Function, Lua, Result, Table, Value, ffi, lua_State};

use crate::decode::{Simple, simple};
use crate::interpreter::Call;
use crate::native::{FEW_ARGS, Shared};
use crate::{Api, Sink};

/// What a run starts with.
struct Start<'a> {
    place: i64,
    what: What,
    call: Call<'a>,
    kept: &'a Kept,
}

/// How the compiled function gets the keys and arguments.
#[derive(Clone, Copy)]
pub(crate) enum What {
    /// As the globals `KEYS` and `ARGV`.
    Script,
    /// As its arguments.
    Function,
}

/// What became of a run.
pub(crate) enum Returned {
    /// Its result, a text, is written.
    Written,
    /// The result.
    Value(Value),
    /// What the handler of errors made of one.
    Failed(Value),
}

/// The most texts in a table that is used again, and their bytes.
const KEPT_TEXTS_MAX: usize = 4;
const KEPT_BYTES_MAX: usize = 1024;
/// Tables that are kept: by what they are for and how many texts they hold.
const N_KEPT: usize = 2 * (KEPT_TEXTS_MAX + 1);

/// What is known of the tables that are used again.
struct Kept {
    /// How many texts the table holds that is `KEYS` now, and `ARGV`; none if that is not a kept
    /// one.
    given: [Cell<Option<usize>>; 2],
    /// How often each was used. It is made anew at zero: a script may have left it empty and large.
    n_uses: [Cell<u8>; N_KEPT],
    /// Scripts may have ways to hold on to a table.
    is_off: bool,
}

/// Begins runs; made once per Lua state. Scripts must not get hold of what is inside.
pub(crate) struct Starter {
    /// The main thread of the Lua state, which lives as long as the `Lua` it was taken from.
    state: *mut lua_State,
    /// Where the registry has [`start`], and the function that is called with an error where it was
    /// raised, and makes a message of it.
    start: c_int,
    on_failure: c_int,
    /// Where the compiled functions are: mlua can keep only some thousand handles.
    pub(crate) compiled: Table,
    kept: Kept,
    kept_tables: Table,
}

impl Starter {
    /// `globals` are those of scripts themselves, not a view of them. `keeps_tables`: scripts
    /// cannot hold on to one beyond their run.
    pub(crate) fn new(
        lua: &Lua,
        globals: Table,
        on_failure: Function,
        keeps_tables: bool,
    ) -> Result<Starter> {
        let compiled = lua.create_table()?;
        let kept = lua.create_table_with_capacity(N_KEPT, 0)?;
        let (mut main, mut places) = (std::ptr::null_mut(), [0; 2]);
        // SAFETY: the stack holds the four values; the last three become upvalues of `start`, which
        // `run` alone calls.
        unsafe {
            lua.exec_raw::<()>((on_failure, &compiled, globals, &kept), |state| {
                main = state;
                ffi::lua_pushcclosure(state, start, 3);
                places = [(); 2].map(|()| ffi::luaL_ref(state, ffi::LUA_REGISTRYINDEX));
            })
        }?;
        Ok(Starter {
            state: main,
            start: places[0],
            on_failure: places[1],
            compiled,
            kept_tables: kept,
            kept: Kept {
                given: Default::default(),
                n_uses: Default::default(),
                is_off: !keeps_tables,
            },
        })
    }

    /// Lets go of the tables that are used again, with whatever a script has put into them.
    pub(crate) fn drop_kept(&self) -> Result<()> {
        self.kept.given.iter().for_each(|given| given.set(None));
        self.kept_tables.clear()
    }

    /// Runs the function at `place` of the compiled ones. `lua` is the state that this was made
    /// for.
    pub(crate) fn run(
        &self,
        lua: &Lua,
        what: What,
        place: i64,
        call: Call<'_>,
        sink: &mut dyn Sink,
    ) -> Returned {
        let kept = &self.kept;
        let start = Start {
            place,
            what,
            call,
            kept,
        };
        let (state, pointer) = (self.state, &raw const start);
        // SAFETY: no run is under way, so the main thread's stack is empty but for what mlua leaves
        // there, with twenty places free; three are used. What is done outside of the protected
        // call raises no error: it reads from the registry and the stack. The text stays where it
        // is until it is popped.
        unsafe {
            let top = ffi::lua_gettop(state);
            ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, self.on_failure);
            ffi::lua_rawgeti_(state, ffi::LUA_REGISTRYINDEX, self.start);
            ffi::lua_pushlightuserdata(state, pointer.cast_mut().cast());
            let status = ffi::lua_pcall(state, 1, 1, top + 1);
            let returned = match ffi::lua_type(state, -1) {
                ffi::LUA_TSTRING if status == ffi::LUA_OK => {
                    sink.bulk(text_at(state, -1));
                    Returned::Written
                }
                _ => {
                    let value = lua.exec_raw_lua(|lua| lua.pop_value());
                    match status {
                        ffi::LUA_OK => Returned::Value(value),
                        _ => Returned::Failed(value),
                    }
                }
            };
            ffi::lua_settop(state, top);
            returned
        }
    }
}

/// The bytes of a string on the stack.
///
/// # Safety
///
/// There must be a string at this place, and the bytes be used as long as it is there.
unsafe fn text_at<'a>(state: *mut lua_State, at: c_int) -> &'a [u8] {
    let mut len = 0;
    // SAFETY: by the contract. `lua_tolstring` changes nothing about a string, which stays where it
    // is.
    unsafe {
        let bytes = ffi::lua_tolstring(state, at, &raw mut len);
        slice::from_raw_parts(bytes.cast(), len)
    }
}

const COMPILED: c_int = ffi::lua_upvalueindex(1);
const GLOBALS: c_int = ffi::lua_upvalueindex(2);
const KEPT: c_int = ffi::lua_upvalueindex(3);

/// # Safety
///
/// The argument must be a pointer to a [`Start`], the upvalues three tables.
unsafe extern "C-unwind" fn start(state: *mut lua_State) -> c_int {
    // SAFETY: by the contract; there are twenty free places on the stack, and seven are used.
    unsafe {
        let start = &*ffi::lua_touserdata(state, 1).cast::<Start<'_>>();
        ffi::lua_pushnumber(state, start.place as f64);
        ffi::lua_rawget_(state, COMPILED);
        let n_args = match start.what {
            What::Script => {
                give(state, start.kept, (c"KEYS", 0), start.call.keys);
                give(state, start.kept, (c"ARGV", 1), start.call.args);
                0
            }
            What::Function => {
                push_strings(state, start.call.keys);
                push_strings(state, start.call.args);
                2
            }
        };
        ffi::lua_call(state, n_args, 1);
    }
    1
}

/// Makes a global of texts.
///
/// # Safety
///
/// To be called by [`start`], with six places free.
unsafe fn give(state: *mut lua_State, kept: &Kept, name: (&CStr, usize), texts: &[&[u8]]) {
    let (name, which) = name;
    let n_texts = texts.len();
    let is_kept = !kept.is_off
        && n_texts <= KEPT_TEXTS_MAX
        && texts.iter().map(|text| text.len()).sum::<usize>() <= KEPT_BYTES_MAX;
    let before = kept.given[which].take(); // until it is certain
    // SAFETY: by the contract.
    unsafe {
        if is_kept {
            let place = which * (KEPT_TEXTS_MAX + 1) + n_texts;
            let n_uses = kept.n_uses[place].get();
            kept.n_uses[place].set(n_uses.wrapping_add(1));
            ffi::lua_rawgeti_(state, KEPT, place as c_int + 1);
            if n_uses > 0 && is_as_given(state, n_texts) {
                fill(state, texts);
                if before == Some(n_texts) {
                    ffi::lua_pop(state, 1);
                    return kept.given[which].set(before);
                }
            } else {
                ffi::lua_pop(state, 1);
                push_strings(state, texts);
                ffi::lua_pushvalue(state, -1);
                ffi::lua_rawseti_(state, KEPT, place as c_int + 1);
            }
        } else {
            push_strings(state, texts);
        }
        ffi::lua_pushstring_(state, name.as_ptr());
        ffi::lua_insert(state, -2);
        ffi::lua_rawset(state, GLOBALS);
    }
    kept.given[which].set(is_kept.then_some(n_texts));
}

/// Whether what is on top of the stack is a table without anything but its first `n_texts`
/// elements. O(what a script has put there).
///
/// # Safety
///
/// `state` must be valid, have three free places, and be within a protected call.
unsafe fn is_as_given(state: *mut lua_State, n_texts: usize) -> bool {
    // SAFETY: by the contract; the keys that `lua_next` goes on from are its own.
    unsafe {
        if ffi::lua_type(state, -1) != ffi::LUA_TTABLE {
            return false;
        }
        if ffi::lua_getmetatable(state, -1) != 0 {
            ffi::lua_pop(state, 1);
            return false;
        }
        ffi::lua_pushnil(state);
        while ffi::lua_next(state, -2) != 0 {
            let is_number = ffi::lua_type(state, -2) == ffi::LUA_TNUMBER;
            let key = ffi::lua_tonumber(state, -2);
            if !is_number || !(1..=n_texts).any(|place| place as f64 == key) {
                ffi::lua_pop(state, 2);
                return false;
            }
            ffi::lua_pop(state, 1);
        }
    }
    true
}

/// Pushes a table of strings.
///
/// # Safety
///
/// `state` must be valid, have two free places, and be within a protected call.
unsafe fn push_strings(state: *mut lua_State, texts: &[&[u8]]) {
    // A request has fewer words than fit; it is only a hint of the size.
    let n_texts = i32::try_from(texts.len()).unwrap_or(0);
    // SAFETY: by the contract.
    unsafe {
        ffi::lua_createtable(state, n_texts, 0);
        fill(state, texts);
    }
}

/// Sets the first elements of the table on top of the stack.
///
/// # Safety
///
/// `state` must be valid, have a free place, and be within a protected call.
unsafe fn fill(state: *mut lua_State, texts: &[&[u8]]) {
    for (text, at) in texts.iter().zip(1..) {
        // SAFETY: by the contract; Lua copies the bytes. The pointer of an empty text is not null.
        unsafe {
            ffi::lua_pushlstring_(state, text.as_ptr().cast(), text.len());
            ffi::lua_rawseti_(state, -2, at);
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
    // touches before the next call; this pushes one, which copies it (and may collect garbage before,
    // of which nothing calls: where there are finalizers, no text is returned). In the other cases a place is
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
                ffi::lua_pushlstring_(state, text.as_ptr().cast(), text.len());
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
        // SAFETY: the string is an argument, and there until this function has returned.
        unsafe {
            if ffi::lua_type(state, at) != ffi::LUA_TSTRING {
                return Next::Whole;
            }
            *text = text_at(state, at);
        }
    }
    match shared.call_host(texts, api) {
        None => Next::Whole,
        Some(_) if shared.has_panicked.get() || shared.has_finalizers.get() => Next::Finish,
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
