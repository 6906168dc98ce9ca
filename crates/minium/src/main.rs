//! The binary: picks the program by subcommand or by the name it was started under.

mod allocator;

use allocator::Counting;
use std::ffi::OsString;
use std::path::Path;
use std::process::exit;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The programs in this binary.
#[derive(Clone, Copy)]
enum Program {
    Cli,
    Absent(&'static str),
}

fn main() {
    let mut args = std::env::args_os();
    let name = args.next().unwrap_or_default();
    let mut args: Vec<OsString> = args.collect();
    let program = by_name(&name).or_else(|| {
        let chosen = args.first().and_then(by_subcommand);
        if chosen.is_some() {
            args.remove(0);
        }
        chosen
    });
    exit(match program {
        Some(Program::Cli) => cli::run(args),
        Some(Program::Absent(name)) => absent(name),
        None => serve(args),
    });
}

fn by_name(name: &OsString) -> Option<Program> {
    match Path::new(name).file_name()?.to_str()? {
        "redis-cli" | "valkey-cli" | "minium-cli" => Some(Program::Cli),
        "redis-sentinel" | "valkey-sentinel" => Some(Program::Absent("sentinel")),
        "redis-benchmark" | "valkey-benchmark" => Some(Program::Absent("benchmark")),
        "redis-check-rdb" | "valkey-check-rdb" => Some(Program::Absent("check-rdb")),
        "redis-check-aof" | "valkey-check-aof" => Some(Program::Absent("check-aof")),
        _ => None,
    }
}

fn by_subcommand(word: &OsString) -> Option<Program> {
    match word.to_str()? {
        "cli" => Some(Program::Cli),
        "benchmark" => Some(Program::Absent("benchmark")),
        "check-rdb" => Some(Program::Absent("check-rdb")),
        "check-aof" => Some(Program::Absent("check-aof")),
        _ => None,
    }
}

fn serve(args: Vec<OsString>) -> i32 {
    let args: Result<Vec<String>, OsString> = args.into_iter().map(OsString::into_string).collect();
    match args {
        Ok(args) => {
            server::stats::memory::count_with(allocator::ALLOCATOR);
            server::run::run(&args)
        }
        Err(word) => {
            eprintln!("minium: an argument is not valid UTF-8: {}", word.to_string_lossy());
            1
        }
    }
}

fn absent(program: &str) -> i32 {
    eprintln!("minium {program}: not built yet in this version");
    1
}
