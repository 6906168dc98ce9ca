//! The command line client alone; `minium cli` is the same.

fn main() {
    std::process::exit(cli::run(std::env::args_os().skip(1).collect()));
}
