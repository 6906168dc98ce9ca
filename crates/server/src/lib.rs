//! The server: engine, command families, event loops.
