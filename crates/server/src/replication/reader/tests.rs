//! The reader on a network that cuts, delays and loses.

use super::*;

/// The conversation with a primary that sends these bytes, in pieces that end at `cuts`.
fn talk(about: &Introduction, bytes: &[u8], cuts: &[usize]) -> (Vec<String>, Option<String>) {
    let (mut reader, first) = Reader::begin(about.clone());
    let mut events = vec![first.join(" ")];
    let mut start = 0;
    for end in cuts.iter().copied().chain([bytes.len()]) {
        feed(&mut reader, &bytes[start..end]);
        start = end;
        loop {
            match reader.read() {
                Ok(Some(event)) => {
                    let is_dual = event == Event::Dual;
                    note(&mut events, &event);
                    let words = is_dual.then(|| reader.join(&offered())).flatten();
                    events.extend(words.map(|words| words.join(" ")));
                }
                Ok(None) => break,
                Err(why) => return (events, Some(why)),
            }
        }
        let n_capacity = reader.input.capacity();
        assert!(n_capacity <= 4 * (bytes.len() + 64), "{n_capacity} bytes for {}", bytes.len());
    }
    (events, None)
}

fn offered() -> Offered {
    Offered {
        replid: "a".repeat(40),
        offset: 77,
        database: None,
        id: 12,
    }
}

fn feed(reader: &mut Reader, bytes: &[u8]) {
    let put = |room: &mut [u8]| {
        room.copy_from_slice(bytes);
        Ok::<_, ()>(room.len())
    };
    assert_eq!(reader.fill(bytes.len(), put), Ok(bytes.len()));
}

/// Notes an event; pieces of a snapshot become one, as it does not matter where it was cut.
fn note(events: &mut Vec<String>, event: &Event<'_>) {
    match (event, events.last_mut()) {
        (Event::Piece(piece), Some(last)) if last.starts_with("Piece") => {
            last.push_str(&piece.escape_ascii().to_string());
        }
        (Event::Piece(piece), _) => events.push(format!("Piece {}", piece.escape_ascii())),
        (Event::Command { words, raw }, _) => {
            let words: Vec<String> = words.iter().map(|w| w.escape_ascii().to_string()).collect();
            events.push(format!("Command {words:?} {}", raw.escape_ascii()));
        }
        (event, _) => events.push(format!("{event:?}")),
    }
}

fn about() -> Introduction {
    Introduction {
        login: (String::new(), "secret".to_owned()),
        port: 7000,
        ip: Some("10.0.0.1".to_owned()),
        history: Some(("b".repeat(40), 101)),
        takes_channel: true,
        takes_dual: true,
        ..Introduction::default()
    }
}

const GREETING: &str =
    "-NOAUTH Authentication required.\r\n+OK\r\n+OK\r\n\n-ERR unknown\r\n+OK\r\n";
const STREAM: &str = "*1\r\n$4\r\nPING\r\n*2\r\n$6\r\nSELECT\r\n$1\r\n3\r\n\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$4\r\n\r\n\r\n\r\n";

fn conversations() -> Vec<Vec<u8>> {
    let (name, mark) = ("a".repeat(40), "0123456789abcdefghijklmnopqrstuvwxyzABCD");
    // A part of the mark in the snapshot is a part of the snapshot.
    let body = format!("REDIS0011{}\n0123456789", &mark[..39]);
    vec![
        format!("{GREETING}+FULLRESYNC {name} 77\r\n\n\n$EOF:{mark}\r\n{body}{mark}{STREAM}"),
        format!("{GREETING}+FULLRESYNC {name} 77\r\n${}\r\n{body}{STREAM}", body.len()),
        format!("{GREETING}\n+CONTINUE\r\n{STREAM}"),
        format!("{GREETING}+CONTINUE {name}\r\n{STREAM}"),
        format!("{GREETING}+RDBCHANNELSYNC 12\r\n{STREAM}"),
        format!("{GREETING}+DUALCHANNELSYNC\r\n+OK\r\n+CONTINUE\r\n{STREAM}"),
    ]
    .into_iter()
    .map(String::into_bytes)
    .collect()
}

#[test]
fn the_events_are_the_same_wherever_the_bytes_are_cut() {
    for bytes in conversations() {
        let whole = talk(&about(), &bytes, &[]);
        assert_eq!(whole.1, None);
        assert!(whole.0.len() >= 10, "{whole:?}");
        for cut in 0..bytes.len() {
            assert_eq!(talk(&about(), &bytes, &[cut]), whole, "at {cut}");
        }
        let every: Vec<usize> = (1..bytes.len()).collect();
        assert_eq!(talk(&about(), &bytes, &every), whole);
    }
}

#[test]
fn a_connection_that_is_lost_at_any_byte_leaves_whole_events_only() {
    for bytes in conversations() {
        let (whole, _) = talk(&about(), &bytes, &[]);
        for end in 0..bytes.len() {
            let (events, why) = talk(&about(), &bytes[..end], &[]);
            assert_eq!(why, None);
            for (event, expected) in events.iter().zip(&whole) {
                let is_part = event.starts_with("Piece") && expected.starts_with(event.as_str());
                assert!(event == expected || is_part, "{event} for {expected}, {end} bytes");
            }
            let has_all = events.iter().any(|event| event == "Whole");
            let has_piece = |events: &[String]| {
                events
                    .iter()
                    .find(|event| event.starts_with("Piece"))
                    .cloned()
            };
            assert!(!has_all || has_piece(&events) == has_piece(&whole));
        }
    }
}

#[test]
fn what_is_no_answer_is_a_clear_error() {
    let (name, mark) = ("a".repeat(40), "m".repeat(39));
    let full = format!("{GREETING}+FULLRESYNC {name} 77\r\n");
    let stream = format!("{GREETING}+CONTINUE\r\n");
    let long = "x".repeat(LINE_BYTES_MAX + 1);
    for (bytes, reason) in [
        ("-ERR go away\r\n".to_owned(), "Error reply to PING"),
        ("-NOAUTH first\r\n-WRONGPASS no\r\n".to_owned(), "Unable to AUTH"),
        (long.clone(), "something else than lines"),
        (format!("{long}\r\n"), "something else than lines"),
        (format!("{GREETING}\u{1}\u{7f}\r\n"), "Unexpected reply to PSYNC from master: ??"),
        (format!("{GREETING}+FULLRESYNC {name}\r\n"), "Unexpected reply to PSYNC"),
        (format!("{GREETING}+FULLRESYNC {name} -1\r\n"), "Unexpected reply to PSYNC"),
        (format!("{GREETING}+FULLRESYNC {name} {}\r\n", u64::MAX), "Unexpected reply to PSYNC"),
        (format!("{GREETING}+FULLRESYNC short 1\r\n"), "Unexpected reply to PSYNC"),
        (format!("{GREETING}-LOADING wait\r\n"), "currently unable to PSYNC"),
        (format!("{full}-ERR no disk\r\n"), "aborted replication with an error: ERR no disk"),
        (format!("{full}REDIS\r\n"), "the first byte is not '$'"),
        (format!("{full}$-1\r\n"), "the first byte is not '$'"),
        (format!("{full}$+5\r\n"), "the first byte is not '$'"),
        (format!("{full}$99999999999999999999\r\n"), "the first byte is not '$'"),
        (format!("{full}$EOF:{mark}\r\n"), "the first byte is not '$'"),
        (format!("{stream}SET k v\r\n"), "inline protocol"),
        (format!("{stream}*1\r\n$x\r\n"), "invalid bulk length"),
        (format!("{stream}*x\r\n"), "invalid multibulk length"),
        (format!("{stream}*1\r\n$4294967296\r\n"), "invalid bulk length"),
        (format!("{stream}*1\r\n$1\r\nxyz\r\n"), "CRLF"),
        (format!("{stream}*1\r\n\rx\r\n"), "expected '$', got '?'"),
    ] {
        let (events, why) = talk(&about(), bytes.as_bytes(), &[]);
        let why = why.unwrap_or_else(|| panic!("no error after {events:?}: {bytes}"));
        assert!(why.contains(reason), "{why}, not {reason}");
        let every: Vec<usize> = (1..bytes.len()).collect();
        assert_eq!(talk(&about(), bytes.as_bytes(), &every), (events, Some(why)));
    }
    let new = Introduction::default();
    let (_, why) = talk(&new, b"+PONG\r\n+OK\r\n+OK\r\n+CONTINUE\r\n", &[]);
    assert!(why.unwrap().contains("Unexpected reply"), "nobody has asked to go on");
}

#[test]
fn a_length_that_is_only_claimed_costs_nothing() {
    let full = format!("{GREETING}+FULLRESYNC {} 77\r\n", "a".repeat(40));
    for claim in [
        format!("{full}${}\r\nabc", u64::MAX),
        format!("{GREETING}+CONTINUE\r\n*2147483647\r\n$4294967295\r\nabc"),
    ] {
        // That little memory is held is seen by `talk`.
        assert_eq!(talk(&about(), claim.as_bytes(), &[]).1, None);
    }
}

/// A small generator of numbers.
struct Chance(u64);

impl Chance {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        (self.0 >> 33) as usize % n
    }
}

/// A primary whose whole data is its stream, and its side of a connection.
struct Primary {
    name: String,
    stream: Vec<u8>,
    has_marks: bool,
}

impl Primary {
    fn answer(&self, words: &[String]) -> Vec<u8> {
        match words[0].as_str() {
            "PING" => b"+PONG\r\n".to_vec(),
            "PSYNC" => self.sync(&words[1], &words[2]),
            _ => b"+OK\r\n".to_vec(),
        }
    }

    fn sync(&self, name: &str, wanted: &str) -> Vec<u8> {
        if name == self.name {
            let from = wanted.parse::<usize>().unwrap() - 1;
            return [b"+CONTINUE\r\n", &self.stream[from..]].concat();
        }
        let (n, mark) = (self.stream.len(), "#".repeat(40));
        let begin = format!("+FULLRESYNC {} {n}\r\n\n", self.name);
        match self.has_marks {
            true => [
                format!("{begin}$EOF:{mark}\r\n").as_bytes(),
                &self.stream,
                mark.as_bytes(),
            ]
            .concat(),
            false => [format!("{begin}${n}\r\n").as_bytes(), &self.stream].concat(),
        }
    }
}

/// What a replica has over all its connections.
#[derive(Default)]
struct Replica {
    name: Option<String>,
    data: Vec<u8>,
    n_full: usize,
}

impl Replica {
    /// One connection on which pieces are late, and which is lost after some bytes.
    fn connect(&mut self, primary: &Primary, chance: &mut Chance) {
        let about = Introduction {
            history: self
                .name
                .clone()
                .map(|name| (name, self.data.len() as u64 + 1)),
            ..Introduction::default()
        };
        let (mut reader, first) = Reader::begin(about);
        let mut on_the_way = primary.answer(&first);
        let mut n_left = chance.below(1500);
        let (mut received, mut name) = (Vec::new(), None);
        loop {
            match reader.read().unwrap() {
                Some(Event::Say(words)) => on_the_way.extend(primary.answer(&words)),
                Some(Event::Full { replid, .. }) => name = Some(replid),
                Some(Event::Piece(piece)) => received.extend_from_slice(piece),
                Some(Event::Whole) => {
                    (self.name, self.data) = (name.clone(), std::mem::take(&mut received));
                    self.n_full += 1;
                }
                Some(Event::Command { raw, .. }) => self.data.extend_from_slice(raw),
                Some(
                    Event::Continue { .. }
                    | Event::Snapshot { .. }
                    | Event::Apart { .. }
                    | Event::Dual
                    | Event::Offered(_),
                ) => {}
                None => {
                    let n = (1 + chance.below(40)).min(on_the_way.len()).min(n_left);
                    if n == 0 {
                        return;
                    }
                    feed(&mut reader, &on_the_way.drain(..n).collect::<Vec<u8>>());
                    n_left -= n;
                }
            }
        }
    }
}

#[test]
fn a_replica_has_everything_in_the_end_however_often_it_is_cut() {
    for seed in 0..300 {
        let mut chance = Chance(seed);
        let mut primary = Primary {
            name: "p".repeat(40),
            stream: STREAM.repeat(3).into_bytes(),
            has_marks: seed % 2 == 0,
        };
        let mut replica = Replica::default();
        let mut n_tries = 0;
        while replica.data != primary.stream || n_tries < 10 {
            assert!(n_tries < 200, "seed {seed}: it does not get there");
            n_tries += 1;
            replica.connect(&primary, &mut chance);
            assert!(primary.stream.starts_with(&replica.data), "seed {seed}");
            if n_tries < 10 {
                primary.stream.extend_from_slice(STREAM.as_bytes());
            }
        }
        assert_eq!(replica.n_full, 1, "seed {seed}: the rest is sent once");
    }
}
