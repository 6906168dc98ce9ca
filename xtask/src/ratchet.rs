//! Ratchets: figures that may get better but not worse.
//!
//! `suite` runs files of the public Tcl suite against the release build and compares what passes with
//! the committed list `xtask/data/suite_passes.txt`. A test leaves that list only in a commit that
//! says why. What is missing at first is run once more before it counts.
//!
//! `instructions` counts what the release build executes for a GET and a SET, sixteen at a time, and
//! compares with `xtask/data/instructions.txt`: 3 % more, and the file changes in a commit that says why.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The files that are held.
const FILES: &[&str] = &[
    "unit/auth",
    "unit/info-command",
    "unit/keyspace",
    "unit/limits",
    "unit/multi",
    "unit/networking",
    "unit/protocol",
    "unit/pubsub",
    "unit/querybuf",
    "unit/quit",
    "unit/scan",
    "unit/tracking",
    "unit/type/hash",
    "unit/type/incr",
    "unit/type/list",
    "unit/type/list-2",
    "unit/type/set",
    "unit/type/string",
    "unit/type/zset",
];

/// Tests that are left out because they would wait until the suite gives up, each with the reason.
const SKIPPED: &[&str] = &[
    // Valkey announces `expired` for a deadline in the past, Redis 8.2 and this server `del`.
    "Keyspace notification: expired event (Expiration time is already expired)",
    // It holds a client to the bytes of a radix tree; what fails leaves the client tracking.
    "Client tracking prefixes memory overhead",
    // Valkey refuses CLIENT REPLY inside MULTI, Redis 8.2 queues it; what fails leaves the client silent.
    "MULTI is rejected when CLIENT REPLY is ON/OFF/SKIP",
    // Valkey names the command, Redis 8.2 says `Command not allowed inside a transaction`; and in Valkey what is
    // refused spoils the transaction of MULTI and WATCH, too. What fails leaves the client in MULTI.
    "MULTI with SAVE",
    "MULTI with SHUTDOWN",
    "Nested MULTI are not allowed",
    "WATCH inside MULTI is not allowed",
    // A key past its deadline goes to replicas as UNLINK by Valkey's defaults, as DEL by those of Redis 8.2;
    // what fails leaves clients in another database.
    "SWAPDB wants to wake blocked client, but the key already expired",
    "MULTI + LPUSH + EXPIRE + DEBUG SLEEP on blocked client, key already expired",
];

/// How much a count of instructions may grow.
const GROWTH_MAX: f64 = 1.03;

/// Passed tests by file; a name may stand there several times.
type Passes = BTreeMap<String, Vec<String>>;

/// Runs the task with its arguments.
pub fn run(args: Vec<String>) -> Result<(), String> {
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["suite"] => check(),
        ["suite", "--record"] => record(),
        ["instructions"] => check_instructions(),
        ["instructions", "--record"] => record_instructions(),
        _ => Err("ratchet takes `suite` or `instructions`, and perhaps `--record`".to_owned()),
    }
}

pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn list_path() -> PathBuf {
    root().join("xtask/data/suite_passes.txt")
}

/// Where the counts stand that must not grow.
fn counts_path() -> PathBuf {
    root().join("xtask/data/instructions.txt")
}

fn check_instructions() -> Result<(), String> {
    let expected = read(&counts_path())?;
    let counts = count_instructions()?;
    let lines = expected.lines().filter(|line| !line.starts_with('#'));
    let mut grown = Vec::new();
    for (case, text) in lines.filter_map(|line| line.split_once(": ")) {
        let allowed: f64 = text.parse().map_err(|_| format!("`{text}` is no count"))?;
        let count = *counts.get(case).ok_or(format!("{case} was not counted"))?;
        println!("{case}: {count:.0} instructions, {allowed:.0} before");
        if count > allowed * GROWTH_MAX {
            grown.push(format!("{case} takes {count:.0} instructions instead of {allowed:.0}"));
        }
    }
    if grown.is_empty() {
        return Ok(());
    }
    Err(grown.join("; "))
}

fn record_instructions() -> Result<(), String> {
    let mut text = String::from(
        "# User-space instructions per operation of the release build. Written by\n\
         # `cargo xtask ratchet instructions --record`.\n",
    );
    for (case, count) in count_instructions()? {
        let _ = writeln!(text, "{case}: {count:.0}");
    }
    let path = counts_path();
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn count_instructions() -> Result<BTreeMap<String, f64>, String> {
    let (shared, peers) = peers()?;
    let report = root().join("target/instructions.json");
    let server = format!("minium={}", root().join("target/release/minium").display());
    python(
        &shared.join("bench/instructions.py"),
        &[
            "--server",
            &server,
            "--cases",
            "^(GET|SET)$",
            "--depths",
            "16",
            "--load-tool",
            &peers.join("bin/valkey-benchmark").display().to_string(),
            "--json",
            &report.display().to_string(),
        ],
    )?;
    let report = json(&report)?;
    let samples = report["samples"].as_array().into_iter().flatten();
    let counts = samples.filter_map(|sample| {
        let case = sample["case"].as_str().filter(|case| case.contains("P="))?;
        Some((case.to_owned(), sample["metrics"]["instr"].as_f64()?))
    });
    Ok(counts.collect())
}

fn check() -> Result<(), String> {
    let expected = parse(&read(&list_path())?);
    let mut passed = run_suite(FILES)?;
    let mut missing = missing(&expected, &passed);
    if !missing.is_empty() {
        let again: BTreeSet<&str> = missing.iter().map(|(file, _)| file.as_str()).collect();
        let again: Vec<&str> = again.into_iter().collect();
        println!("once more: {}", again.join(", "));
        passed.extend(run_suite(&again)?);
        missing = self::missing(&expected, &passed);
    }
    let n_passed: usize = passed.values().map(Vec::len).sum();
    let n_new = n_passed + missing.len() - expected.values().map(Vec::len).sum::<usize>();
    println!("{n_passed} passed, {} failed", missing.len());
    if n_new > 0 {
        println!("{n_new} more than the list has: cargo xtask ratchet suite --record");
    }
    if missing.is_empty() {
        return Ok(());
    }
    let lines: String = missing
        .iter()
        .fold(String::new(), |mut text, (file, name)| {
            let _ = write!(text, "\n  {file}: {name}");
            text
        });
    Err(format!("tests that passed before fail:{lines}"))
}

fn record() -> Result<(), String> {
    let passed = run_suite(FILES)?;
    let mut text = String::from(
        "# Tests of the public suite that pass. Written by `cargo xtask ratchet suite --record`.\n",
    );
    for (file, names) in &passed {
        let mut names = names.clone();
        names.sort();
        for name in names {
            let _ = writeln!(text, "{file}: {name}");
        }
    }
    let path = list_path();
    std::fs::write(&path, text).map_err(|error| format!("{}: {error}", path.display()))
}

fn parse(text: &str) -> Passes {
    let mut passes = Passes::new();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    for (file, name) in lines.filter_map(|line| line.split_once(": ")) {
        passes
            .entry(file.to_owned())
            .or_default()
            .push(name.to_owned());
    }
    passes
}

/// What is expected and not there, each as often as it is missing.
fn missing(expected: &Passes, passed: &Passes) -> Vec<(String, String)> {
    let mut missing = Vec::new();
    for (file, names) in expected {
        let mut left = passed.get(file).cloned().unwrap_or_default();
        for name in names {
            match left.iter().position(|other| other == name) {
                Some(at) => _ = left.swap_remove(at),
                None => missing.push((file.clone(), name.clone())),
            }
        }
    }
    missing
}

/// The folder of tools, and that of the peers, which are brought here if they are not.
pub(crate) fn peers() -> Result<(PathBuf, PathBuf), String> {
    let (shared, peers) = (root().join("../shared"), root().join("target/peers"));
    for (name, file) in [
        ("valkey", "bin/valkey-server"),
        ("redis8", "bin/redis-server"),
        ("suite", "valkey-src"),
    ] {
        if !peers.join(file).exists() {
            python(&shared.join("peers/get"), &[&peers.display().to_string(), name])?;
        }
    }
    Ok((shared, peers))
}

fn json(path: &Path) -> Result<serde_json::Value, String> {
    serde_json::from_str(&read(path)?).map_err(|error| format!("{}: {error}", path.display()))
}

/// Runs files of the suite against the release build.
fn run_suite(files: &[&str]) -> Result<Passes, String> {
    let (shared, peers) = peers()?;
    let report = root().join("target/suite.json");
    let path = |path: PathBuf| path.display().to_string();
    let (suite, tools) = (path(peers.join("valkey-src")), path(peers.join("bin")));
    let server = path(root().join("target/release/minium"));
    let (files, json_path) = (files.join(","), path(report.clone()));
    let mut args = vec![
        "--suite",
        &suite,
        "--tools-dir",
        &tools,
        "--server",
        &server,
    ];
    args.extend(["--no-preflight", "--fast", "--jobs", "2", "--files", &files]);
    args.extend(["--json", &json_path]);
    args.extend(SKIPPED.iter().flat_map(|name| ["--skiptest", name]));
    python(&shared.join("conformance/tcl_suite.py"), &args)?;
    let report = json(&report)?;
    let mut passes = Passes::new();
    for (file, result) in report["files"].as_object().into_iter().flatten() {
        let names = result["passed"].as_array().into_iter().flatten();
        let names = names.filter_map(|name| name.as_str().map(one_line));
        passes.insert(file.clone(), names.collect());
    }
    Ok(passes)
}

fn one_line(name: &str) -> String {
    name.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Runs a script; how it ended says nothing, as the suite's does not: its report is read instead.
fn python(script: &Path, args: &[&str]) -> Result<(), String> {
    let mut command = Command::new("python3");
    let status = command.arg(script).args(args).status();
    let status = status.map_err(|error| format!("python3 {}: {error}", script.display()))?;
    match status.code() {
        Some(0 | 1) => Ok(()),
        _ => Err(format!("{}: {status}", script.display())),
    }
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|error| format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_test_counts_as_often_as_it_is_listed() {
        let expected = parse("# comment\nunit/a: one\nunit/a: one\nunit/b: two: three\n");
        let passed = parse("unit/a: one\nunit/b: two: three\nunit/b: new\n");
        let lacks = vec![("unit/a".to_owned(), "one".to_owned())];
        assert_eq!(missing(&expected, &passed), lacks);
        assert_eq!(missing(&expected, &expected), []);
    }
}
