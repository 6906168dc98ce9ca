use std::collections::VecDeque;

use resp::decode::Decoder;

use super::*;

/// Answers every command with the next of some canned replies and notes what it was told.
#[derive(Default)]
struct Canned {
    replies: VecDeque<Value>,
    log: Vec<String>,
}

impl Canned {
    fn new(bytes: &str) -> Canned {
        let mut decoder = Decoder::default();
        decoder.feed(bytes.as_bytes());
        let mut canned = Canned::default();
        while let Some(value) = decoder.next_value().unwrap() {
            canned.replies.push_back(value);
        }
        canned
    }
}

impl Peer for Canned {
    fn send(&mut self, session: &str, command: &[Vec<u8>]) {
        let words: Vec<_> = command
            .iter()
            .map(|arg| String::from_utf8_lossy(arg))
            .collect();
        self.log.push(format!("{session}>{}", words.join("|")));
    }

    fn receive(&mut self, _: &str) -> Result<Value, String> {
        self.replies
            .pop_front()
            .ok_or_else(|| "no reply".to_string())
    }

    fn advance(&mut self, duration: Duration) {
        self.log.push(format!("~{duration:?}"));
    }
}

fn check(reply: &str, expected: &str, matches: bool) {
    let transcript = Transcript::parse(&format!("> GET x\n{expected}\n")).unwrap();
    let mismatches = transcript.run(&mut Canned::new(reply));
    assert_eq!(mismatches.is_empty(), matches, "{expected:?} against {reply:?}: {mismatches:?}");
}

#[test]
fn replies_are_compared_by_type_and_text() {
    check("+OK\r\n", "+OK", true);
    check("$2\r\nOK\r\n", "+OK", false);
    check("$3\r\na\nb\r\n", "\"a\\nb\"", true);
    check("$-1\r\n", "(nil)", true);
    check("*-1\r\n", "(nil)", false);
    check("*-1\r\n", "*-1", true);
    check(":95\r\n", ":90..100", true);
    check(":89\r\n", ":90..100", false);
    check("-ERR syntax error\r\n", "-ERR syn...", true);
    check("-ERR syntax error\r\n", "...", true);
    check(",1.5\r\n", ",1.5", true);
    check("#t\r\n", "#t", true);
    check("=5\r\ntxt:a\r\n", "=txt \"a\"", true);
}

#[test]
fn order_counts_unless_said_otherwise() {
    let reply = "*2\r\n:1\r\n:2\r\n";
    check(reply, "*2\n  :1\n  :2", true);
    check(reply, "*2\n  :2\n  :1", false);
    check(reply, "*2 in any order\n  :2\n  :1", true);
    check("*2\r\n:1\r\n:1\r\n", "*2 in any order\n  :1\n  :2", false);
    let flat = "*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n";
    check(flat, "*4 pairs in any order\n  :3\n  :4\n  :1\n  :2", true);
    check(flat, "*4 pairs in any order\n  :4\n  :3\n  :1\n  :2", false);
    check("~2\r\n:1\r\n:2\r\n", "~2\n  :2\n  :1", true);
    check("%1\r\n:1\r\n*1\r\n+a\r\n", "%1\n  :1\n  *1\n    +a", true);
    check("|1\r\n+ttl\r\n:1\r\n:5\r\n", "|1\n  +ttl\n  :1\n:5", true);
}

#[test]
fn sessions_and_time() {
    let text = "# comment\n\na> BLPOP \"q 1\" 0\n> PING\n+PONG\n~ 10s\n~ 20ms\na<\n*0\n";
    let mut peer = Canned::new("+PONG\r\n*0\r\n");
    assert_eq!(Transcript::parse(text).unwrap().run(&mut peer), []);
    assert_eq!(peer.log, ["a>BLPOP|q 1|0", ">PING", "~10s", "~20ms"]);
}

#[test]
fn a_mismatch_says_where_and_what() {
    let transcript = Transcript::parse("\n> GET x\n:1\n> GET y\n:2\n").unwrap();
    let mismatches = transcript.run(&mut Canned::new("*1\r\n$1\r\na\r\n:2\r\n"));
    assert_eq!(mismatches.len(), 1);
    let expected = "line 2: > GET x\n  expected  :1\n  got       *1\n  got         \"a\"\n";
    assert_eq!(mismatches[0].to_string(), expected);
}

#[test]
fn rewriting_keeps_what_matches() {
    let text = "# c\n> A\n*2 in any order\n  :2\n  :1\n> B\n:1\n> C\n";
    let transcript = Transcript::parse(text).unwrap();
    let rewritten = transcript.rewrite(&mut Canned::new("*2\r\n:1\r\n:2\r\n:7\r\n+x\r\n"), true);
    assert_eq!(rewritten, "# c\n> A\n*2 in any order\n  :2\n  :1\n> B\n:7\n> C\n+x\n");
}

#[test]
fn malformed_lines_are_named() {
    for (text, line) in [
        ("hello", 1),
        ("> \"a", 1),
        ("> A\n*2\n  :1\n> B\n", 2),
        ("> A\n:1\n:2\n", 3),
        ("> A\n:x\n", 2),
        ("> A\n%1 in any order\n", 2),
        ("a<\n> A\n", 1),
        ("~ soon\n", 1),
    ] {
        assert_eq!(
            Transcript::parse(text)
                .map(|_| ())
                .map_err(|error| error.line),
            Err(line),
            "{text}"
        );
    }
}
