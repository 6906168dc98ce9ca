//! Access control says what Redis says: the users, requests and verdicts of `tests/acl_verdicts.txt`,
//! which `cargo xtask verdicts` has written from a server's ACL DRYRUN.

use server::testing::Server;

const VERDICTS: &str = include_str!("../../../../tests/acl_verdicts.txt");

fn words(text: &str) -> Vec<&[u8]> {
    text.split(' ').map(str::as_bytes).collect()
}

/// `command get`, `key k`, `channel c`, `ok`; anything else as it is.
fn short(reply: &[u8]) -> String {
    let text = String::from_utf8_lossy(reply).into_owned();
    let line = text.trim_end();
    match (line.split('\'').nth(1), line.rsplit(' ').next()) {
        _ if line == "+OK" => "ok".to_owned(),
        (Some(quoted), Some(kind)) if line.starts_with('$') => format!("{kind} {quoted}"),
        _ => line.to_owned(),
    }
}

#[test]
fn every_verdict_is_that_of_the_reference() {
    let server = Server::new(1, &[]);
    let mut group = server.group(0);
    let place = group.connect();
    let (mut rules, mut wrong, mut n_checked) = ("", Vec::new(), 0);
    for line in VERDICTS.lines() {
        if let Some(given) = line.strip_prefix("user ") {
            rules = given;
            let mut request = words("ACL SETUSER asked reset");
            request.extend(words(given));
            assert_eq!(group.call(place, &request), b"+OK\r\n", "{given}");
        } else if let Some((expected, request)) = line.split_once('\t') {
            let mut dryrun = words("ACL DRYRUN asked");
            dryrun.extend(words(request));
            let found = short(&group.call(place, &dryrun));
            n_checked += 1;
            if found != expected {
                wrong.push(format!("{rules}: {request}: {found}, expected {expected}"));
            }
        }
    }
    assert!(n_checked > 1000, "the table is there");
    assert!(wrong.is_empty(), "{} of {n_checked}:\n{}", wrong.len(), wrong.join("\n"));
}
