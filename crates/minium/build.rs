//! Tells the binary which commit it is made from, if it is made in a repository.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    // Where the repository writes down each commit that becomes the present one.
    if let Some(path) = git(&["rev-parse", "--git-path", "logs/HEAD"]) {
        println!("cargo::rerun-if-changed={path}");
    }
    if let Some(commit) = git(&["rev-parse", "--short=8", "HEAD"]) {
        println!("cargo::rustc-env=MINIUM_COMMIT={commit}");
    }
}

/// What git answers; `None` if there is no git, or no repository.
fn git(args: &[&str]) -> Option<String> {
    let output = Command::new("git").args(args).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}
