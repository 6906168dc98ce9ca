//! The title of the process, as `ps` shows it.
//!
//! The system shows the bytes in which it handed over the arguments, and, if the last of these is not
//! zero, goes on into the environment that lies behind them:
//!
//! ```text
//!   arg_start         arg_end = env_start                 env_end
//!   │ minium\0--port\07000\0 │ HOME=/root\0PATH=...\0 │
//!   │ minium *:7000\0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 0 │
//! ```
//!
//! So the environment is copied elsewhere first, and a title is at most as long as both.

#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr};

use parking_lot::Mutex;

unsafe extern "C" {
    static environ: *const *const libc::c_char;
}

/// Where a title is written, and the name that the process was started under.
pub struct Title {
    name: String,
    /// Address, bytes.
    place: Mutex<(usize, usize)>,
}

impl Title {
    /// Takes the bytes of the arguments and of the environment; `None` where the system does not tell
    /// where they are, or shows those of another program that runs this one, as valgrind does. Only for a
    /// process with a single thread that has read its arguments.
    pub fn claim() -> Option<Title> {
        let name = std::env::args().next()?;
        let [arg_start, arg_end, env_start, env_end] = bounds()?;
        if arg_start == 0 || arg_end <= arg_start || !holds_own_arguments(arg_start, arg_end) {
            return None;
        }
        let end = match arg_end == env_start && has_moved_environment(env_start, env_end) {
            true => env_end,
            false => arg_end,
        };
        Some(Title {
            name,
            place: Mutex::new((arg_start, end - arg_start)),
        })
    }

    /// The name that the process was started under.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Shows a title, as much of it as there is room for.
    pub fn show(&self, title: &str) {
        let place = self.place.lock();
        let (address, n_bytes) = *place;
        let text = &title.as_bytes()[..title.len().min(n_bytes - 1)];
        let start: *mut u8 = std::ptr::with_exposed_provenance_mut(address);
        // SAFETY: these are bytes of this process's stack, above all frames, which the system filled
        // when it started. Nothing refers to them any more: the arguments were copied, the
        // environment was moved. The lock keeps other writers away.
        unsafe {
            start.copy_from(text.as_ptr(), text.len());
            start.add(text.len()).write_bytes(0, n_bytes - text.len());
        }
    }
}

/// Whether the arguments that lie there are those that this program got.
fn holds_own_arguments(arg_start: usize, arg_end: usize) -> bool {
    let own = std::env::args_os().flat_map(|arg| {
        let mut text = arg.into_encoded_bytes();
        text.push(0);
        text
    });
    let start: *const u8 = std::ptr::with_exposed_provenance(arg_start);
    // SAFETY: the system says that these bytes of the process are the arguments it was started with;
    // nobody changes them but `show`, which comes later.
    let shown = unsafe { std::slice::from_raw_parts(start, arg_end - arg_start) };
    own.eq(shown.iter().copied())
}

/// Where arguments and environment lie: the 48th to 51st field of `stat`.
fn bounds() -> Option<[usize; 4]> {
    let stat = std::fs::read_to_string("/proc/self/stat").ok()?;
    let (_, behind_name) = stat.rsplit_once(") ")?; // the state is the third field
    let fields = behind_name.split_ascii_whitespace().skip(45).take(4);
    let found: Vec<usize> = fields.filter_map(|field| field.parse().ok()).collect();
    found.try_into().ok()
}

/// Copies the environment; whether nothing of it lies between these addresses any more.
fn has_moved_environment(start: usize, end: usize) -> bool {
    // A name that is none could not be set, and stays where it is.
    let is_name = |name: &OsStr| !name.is_empty() && !name.as_encoded_bytes().contains(&b'=');
    for (name, value) in std::env::vars_os().filter(|(name, _)| is_name(name)) {
        // SAFETY: the process has one thread, by the contract of `claim`.
        unsafe { std::env::set_var(&name, &value) };
    }
    // SAFETY: the C library's list of texts, ended by a null; nobody changes it meanwhile.
    unsafe {
        let mut entry = environ;
        while !entry.is_null() && !(*entry).is_null() {
            let text = CStr::from_ptr(*entry).to_bytes_with_nul();
            let address = text.as_ptr().addr();
            if address < end && address + text.len() > start {
                return false;
            }
            entry = entry.add(1);
        }
    }
    true
}
