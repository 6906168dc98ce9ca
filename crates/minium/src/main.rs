//! The binary: picks the program by subcommand or by the name it was started under.

mod allocator;
mod migrate;

use allocator::Counting;
use std::ffi::OsString;
use std::fs::File;
use std::path::Path;
use std::process::exit;
use std::time::{SystemTime, UNIX_EPOCH};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// The programs in this binary.
#[derive(Clone, Copy)]
enum Program {
    Cli,
    CheckRdb,
    CheckAof,
    Migrate,
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
    let shown = name.to_string_lossy();
    exit(match program {
        Some(Program::Cli) => cli::run(args),
        Some(Program::CheckRdb) => check_rdb(&args),
        Some(Program::CheckAof) => check_aof(&shown, args),
        Some(Program::Migrate) => migrate::run(args),
        Some(Program::Absent(name)) => absent(name),
        None => serve(args),
    });
}

fn by_name(name: &OsString) -> Option<Program> {
    match Path::new(name).file_name()?.to_str()? {
        "redis-cli" | "valkey-cli" | "minium-cli" => Some(Program::Cli),
        "redis-sentinel" | "valkey-sentinel" => Some(Program::Absent("sentinel")),
        "redis-benchmark" | "valkey-benchmark" => Some(Program::Absent("benchmark")),
        "redis-check-rdb" | "valkey-check-rdb" => Some(Program::CheckRdb),
        "redis-check-aof" | "valkey-check-aof" => Some(Program::CheckAof),
        _ => None,
    }
}

fn by_subcommand(word: &OsString) -> Option<Program> {
    match word.to_str()? {
        "cli" => Some(Program::Cli),
        "benchmark" => Some(Program::Absent("benchmark")),
        "check-rdb" => Some(Program::CheckRdb),
        "check-aof" => Some(Program::CheckAof),
        "migrate" => Some(Program::Migrate),
        _ => None,
    }
}

fn serve(args: Vec<OsString>) -> i32 {
    let args: Result<Vec<String>, OsString> = args.into_iter().map(OsString::into_string).collect();
    match args {
        Ok(args) => {
            server::stats::memory::count_with(allocator::ALLOCATOR);
            server::run::run(&args, option_env!("MINIUM_COMMIT"))
        }
        Err(word) => {
            eprintln!("minium: an argument is not valid UTF-8: {}", word.to_string_lossy());
            1
        }
    }
}

/// Tells what a file holds, and whether it is sound: the exit code is that of `redis-check-rdb`.
fn check_rdb(args: &[OsString]) -> i32 {
    let [path] = args else {
        eprintln!("Usage: minium check-rdb FILE");
        return 1;
    };
    if matches!(path.to_str(), Some("-v" | "--version")) {
        println!("minium check-rdb {}", env!("CARGO_PKG_VERSION"));
        return 0;
    }
    let name = path.to_string_lossy();
    let now_ms = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default()
        .as_millis() as u64;
    let checked = File::open(path)
        .and_then(|file| rdb::check::check(&name, file, now_ms, &mut std::io::stdout().lock()));
    match checked {
        Ok(Some(_)) => 0,
        Ok(None) => 1,
        Err(error) => {
            eprintln!("Cannot check file {name}: {error}");
            1
        }
    }
}

fn check_aof(name: &str, args: Vec<OsString>) -> i32 {
    let args: Result<Vec<String>, OsString> = args.into_iter().map(OsString::into_string).collect();
    match args {
        Ok(args) => server::aof::check::run(name, &args),
        Err(word) => {
            eprintln!(
                "minium check-aof: an argument is not valid UTF-8: {}",
                word.to_string_lossy()
            );
            1
        }
    }
}

fn absent(program: &str) -> i32 {
    eprintln!("minium {program}: not built yet in this version");
    1
}
