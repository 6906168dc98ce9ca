//! Automation: see `cargo xtask help`. Each subcommand has its own file.

#![forbid(unsafe_code)]

mod campaign;
mod clients;
mod commands;
mod compat;
mod crash;
mod interchange;
mod licences;
mod ratchet;
mod replication;
#[cfg(test)]
mod tidy;
mod transcripts;
mod verdicts;
mod zipf;

use std::process::ExitCode;

const HELP: &str = "\
Usage: cargo xtask <task> [options]

  transcripts --against HOST:PORT [--write | --fill] [FILE|FOLDER ...]
      Runs the command transcripts against a server, which is emptied for each
      of them. --write replaces the replies that differ by what the server
      says; --fill also adds the replies of commands that have none.
  commands --against commands.json HOST:PORT
      Prints every difference between what a server's COMMAND and COMMAND DOCS
      say and a reference list, for the commands that the server has.
  campaign [--seed N] [--rounds N] [--hosts]
      Runs the network campaign: so many schedules of trouble between servers; with
      --hosts each has a network namespace, which needs root, iproute2 and nftables.
  clients
      Runs redis-py, RQ, Celery, ioredis and BullMQ, installed from their registries
      into target/clients, against the release build. Needs Python 3 and Node.
  compat
      Writes COMPAT.md anew from the tables and xtask/data/differences.txt.
  crash [SECONDS]
      Runs the crash test for so long each part, 300 unless told otherwise.
  interchange NAME=BINARY NAME=BINARY ...
      Gives the files of each server to every other, and migrates from each to every
      other if one is a minium; prints where the same data arrived.
  ratchet suite|instructions [--record]
      suite: runs files of the public Tcl suite against the release build; fails
      if a test that the committed list names does not pass.
      instructions: counts those of GET and SET; fails if they grew by 3 %.
      --record writes the list or the counts.
  replication [NAME=BINARY ...]
      Fills a primary of each server, has a replica of each other follow it, cuts the
      link under load; prints what went how, and fails if it is not as it should be.
      Without names: the release build, Redis 7.0 (redis-server of Debian), Redis 8.2
      and Valkey 9.1.
  sentinel
      Three redis-sentinel, which must be installed, watch three servers of the release
      build whose primary is killed under load. Needs Python 3.
  verdicts HOST:PORT
      Writes tests/acl_verdicts.txt anew from what a server says.
  licences
      Checks the licences of all dependencies against the list that we accept.
  zipf HOST:PORT POLICY ...
      Measures the hit rate of a server as a cache of limited size under each
      policy. Empties the server.
  help
";

fn main() -> ExitCode {
    let mut args = std::env::args().skip(1);
    let result = match args.next().as_deref() {
        Some("transcripts") => transcripts::run(args.collect()),
        Some("campaign") => campaign::run(args.collect()),
        Some("clients") => clients::run(),
        Some("commands") => commands::run(args.collect()),
        Some("compat") => compat::run(args.collect()),
        Some("crash") => crash::run(args.collect()),
        Some("interchange") => interchange::run(args.collect()),
        Some("ratchet") => ratchet::run(args.collect()),
        Some("replication") => replication::run(args.collect()),
        Some("licences") => licences::run(args.collect()),
        Some("zipf") => zipf::run(args.collect()),
        Some("sentinel") => clients::sentinel(),
        Some("verdicts") => verdicts::run(args.collect()),
        None | Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(())
        }
        Some(task) => Err(format!("there is no task `{task}`\n\n{HELP}")),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error}");
            ExitCode::FAILURE
        }
    }
}
