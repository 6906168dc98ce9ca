//! `crash`: the crash test of `crates/minium/tests/crash`, for as long as one likes; see `docs/crash.md`.

use std::process::Command;

/// How long each part goes on unless somebody says otherwise.
const SECONDS: &str = "300";

/// Runs it and shows what it counts.
pub fn run(args: Vec<String>) -> Result<(), String> {
    let seconds = args.first().map_or(SECONDS, String::as_str);
    seconds
        .parse::<u64>()
        .map_err(|_| "crash [SECONDS]".to_owned())?;
    let status = Command::new("cargo")
        .args(["test", "-p", "minium", "--test", "crash", "--"])
        .arg("--nocapture")
        .env("MINIUM_CRASH_SECONDS", seconds)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the crash test ended with {status}")),
        Err(error) => Err(format!("cargo: {error}")),
    }
}
