//! `campaign`: the network campaign of `crates/minium/tests/campaign`; see `docs/replication.md`.

use std::process::Command;

const USAGE: &str = "campaign [--seed N] [--rounds N]";

/// Runs it and shows what it counts.
pub fn run(args: Vec<String>) -> Result<(), String> {
    let mut command = Command::new("cargo");
    command.args(["test", "-p", "minium", "--test", "campaign", "--"]);
    command.args(["--nocapture", "--test-threads", "1"]);
    for pair in args.chunks(2) {
        let [flag, number] = pair else {
            return Err(USAGE.to_owned());
        };
        number.parse::<u64>().map_err(|_| USAGE.to_owned())?;
        match flag.as_str() {
            "--seed" => command.env("MINIUM_CAMPAIGN_SEED", number),
            "--rounds" => command.env("MINIUM_CAMPAIGN_ROUNDS", number),
            _ => return Err(USAGE.to_owned()),
        };
    }
    match command.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("the campaign ended with {status}")),
        Err(error) => Err(format!("cargo: {error}")),
    }
}
