//! What std and good crates lack: glob patterns, number text as Redis prints it.
