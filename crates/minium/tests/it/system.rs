//! What the system shows of a server: the title of its process, its OOM score, where it connects from.

use crate::{Server, text, wait_for};
use std::fs;
use std::io::{Read, Write};

fn title(server: &Server) -> String {
    let bytes = fs::read(format!("/proc/{}/cmdline", server.process.id())).unwrap();
    String::from_utf8_lossy(&bytes)
        .trim_end_matches('\0')
        .to_owned()
}

fn oom_score(server: &Server) -> i64 {
    let text = fs::read_to_string(format!("/proc/{}/oom_score_adj", server.process.id()));
    text.unwrap().trim().parse().unwrap()
}

#[test]
fn the_title_of_the_process_follows_its_template() {
    // An argument that is a secret is not seen any more.
    let server = Server::start(&["--masterauth", "secret"]);
    let mut client = server.client();
    let shown = title(&server);
    assert!(shown.ends_with(&format!("minium 127.0.0.1:{}", server.port)), "{shown:?}");
    let set =
        |template: &str| ["CONFIG", "SET", "proc-title-template", template].map(str::to_owned);
    client.call(&set("{{{port}} {tls-port} {title}")).unwrap();
    let shown = title(&server);
    assert!(shown.starts_with(&format!("{{{}}} 0 /", server.port)), "{shown:?}");
    let refused = client.call(&set("{nosuch}")).unwrap();
    let refused = client::transcript::render(&refused);
    assert!(refused.contains("template format is invalid or contains unknown variables"));
    let long = "x".repeat(100_000);
    client.call(&set(&long)).unwrap();
    assert!(long.starts_with(&title(&server)), "as much as there is room for");
    assert_eq!(text("PING", &mut client), "+PONG");

    let server = Server::start(&["--set-proc-title", "no"]);
    assert!(title(&server).ends_with("\0--set-proc-title\0no"));
}

#[test]
fn the_oom_score_is_that_of_the_role_until_it_is_put_back() {
    let server = Server::start(&["--oom-score-adj-values", "10 20 30"]);
    let (mut client, base) = (server.client(), oom_score(&server));
    text("CONFIG SET oom-score-adj yes", &mut client);
    assert_eq!(oom_score(&server), base + 10);
    text("REPLICAOF 127.0.0.1 1", &mut client);
    assert_eq!(oom_score(&server), base + 20);
    text("CONFIG SET oom-score-adj absolute", &mut client);
    assert_eq!(oom_score(&server), 20);
    text("REPLICAOF NO ONE", &mut client);
    assert_eq!(oom_score(&server), 10);
    text("CONFIG SET oom-score-adj no", &mut client);
    assert_eq!(oom_score(&server), base);
}

#[test]
fn a_replica_connects_from_the_address_that_it_is_given() {
    let primary = Server::start(&["--repl-diskless-sync-delay", "0"]);
    let port = primary.port.to_string();
    let from = ["--bind-source-addr", "127.0.0.2"];
    let _replica = Server::start(&[&from[..], &["--replicaof", "127.0.0.1", &port]].concat());
    let mut client = primary.client();
    wait_for("the replica is seen", || {
        text("INFO replication", &mut client)
            .contains("slave0:ip=127.0.0.2,")
            .then_some(())
    });
}

#[test]
fn with_one_seed_two_servers_have_one_order() {
    let order = |seed: &str| {
        let server = Server::start(&["--threads", "1", "--hash-seed", seed]);
        let mut client = server.client();
        for key in 0..64 {
            text(&format!("SET key:{key} v"), &mut client);
        }
        text("SCAN 0 COUNT 1000", &mut client)
    };
    let (once, again, other) = (order("a seed"), order("a seed"), order("another"));
    assert_eq!(once, again);
    assert_ne!(once, other);
}

#[test]
fn who_has_not_logged_in_is_closed_for_what_it_leaves_unread() {
    let flags = ["--requirepass", "secret", "--enable-debug-command", "yes"];
    let server = Server::start(&flags);
    let (mut known, mut was_known, mut unknown) =
        (server.client(), server.client(), server.socket());
    assert_eq!(text("AUTH secret", &mut known), "+OK");
    assert_eq!(text("AUTH secret", &mut was_known), "+OK");
    assert_eq!(text("RESET", &mut was_known), "+RESET");
    assert_eq!(text("DEBUG CLIENT-ENFORCE-REPLY-LIST 1", &mut known), "+OK");
    unknown.write_all(b"GET k\r\n").unwrap();
    assert_eq!(unknown.read(&mut [0; 16]).unwrap(), 0, "closed without a word");
    assert!(text("GET k", &mut was_known).starts_with("-NOAUTH"));
    assert_eq!(text("DEBUG CLIENT-ENFORCE-REPLY-LIST 0", &mut known), "+OK");
    let mut unknown = server.client();
    assert!(text("GET k", &mut unknown).starts_with("-NOAUTH"));
}
