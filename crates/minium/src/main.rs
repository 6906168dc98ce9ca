//! The binary: picks the program by subcommand or by the name it was started under.

fn main() {}
