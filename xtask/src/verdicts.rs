//! What a server's ACL DRYRUN says to the users and requests of `tests/acl_verdicts.txt`.
//!
//! A line `user RULES` is followed by requests, each behind its verdict and a tab: `ok`, or why not.
//! The verdicts are written anew from what the server says; the server's own tests hold our rules to
//! them.

use std::fs;
use std::path::Path;

use client::connection::Connection;
use resp::decode::Value;

use crate::transcripts::{REPLY_TIMEOUT, parse_endpoint};

const USER: &str = "asked";

/// Runs the task with its arguments.
pub fn run(args: Vec<String>) -> Result<(), String> {
    let endpoint = parse_endpoint(args.into_iter().next())?;
    let failed = |error: client::connection::Error| error.to_string();
    let mut server = Connection::open(&endpoint, Some(REPLY_TIMEOUT)).map_err(failed)?;
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/acl_verdicts.txt");
    let text = fs::read_to_string(&path).map_err(|error| error.to_string())?;
    let mut out = String::new();
    for line in text.lines() {
        if let Some(rules) = line.strip_prefix("user ") {
            let words = ["ACL", "SETUSER", USER, "reset"].into_iter();
            let words: Vec<&str> = words.chain(rules.split(' ')).collect();
            if let Value::Error(error) = server.call(&words).map_err(failed)? {
                return Err(format!("{line}: {}", String::from_utf8_lossy(&error)));
            }
        } else if let Some((_, request)) = line.split_once('\t') {
            let words = ["ACL", "DRYRUN", USER].into_iter();
            let words: Vec<&str> = words.chain(request.split(' ')).collect();
            let verdict = match server.call(&words).map_err(failed)? {
                Value::Simple(_) => "ok".to_owned(),
                Value::Bulk(text) => short(&String::from_utf8_lossy(&text)),
                other => return Err(format!("{request}: {other:?}")),
            };
            out.push_str(&format!("{verdict}\t{request}\n"));
            continue;
        }
        out.push_str(line);
        out.push('\n');
    }
    server.call(&["ACL", "DELUSER", USER]).map_err(failed)?;
    fs::write(&path, out).map_err(|error| error.to_string())
}

/// `command get`, `key k`, `channel c`.
fn short(text: &str) -> String {
    let quoted = text.split('\'').nth(1).unwrap_or_default();
    let kind = text.rsplit(' ').next().unwrap_or_default();
    format!("{kind} {quoted}")
}
