//! `campaign`: the network campaign of `crates/minium/tests/campaign`; see `docs/replication.md`.

use std::process::Command;

const USAGE: &str = "campaign [--seed N] [--rounds N] [--hosts]";

/// Runs it and shows what it counts.
pub fn run(args: Vec<String>) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["test", "-p", "minium", "--test", "campaign", "--"]);
    command.args(["--nocapture", "--test-threads", "1"]);
    let mut args = args.iter();
    while let Some(flag) = args.next() {
        if flag == "--hosts" {
            command.env("MINIUM_CAMPAIGN_HOSTS", "1");
            command.arg("after_every_schedule"); // the others need no hosts
            continue;
        }
        let name = match flag.as_str() {
            "--seed" => "MINIUM_CAMPAIGN_SEED",
            "--rounds" => "MINIUM_CAMPAIGN_ROUNDS",
            _ => return Err(USAGE.to_owned()),
        };
        let number = args.next().filter(|number| number.parse::<u64>().is_ok());
        command.env(name, number.ok_or(USAGE)?);
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the campaign ended with {status}")),
        Err(error) => Err(format!("cargo: {error}")),
    }
}
