//! Sandboxed Lua 5.1; calls out through a Host.
