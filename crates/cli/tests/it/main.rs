//! The command line client as a process, against a server that answers what the test says.

mod environment;
mod formats;
mod options;
mod prompt;
