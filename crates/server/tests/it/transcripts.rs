//! Every transcript under `tests/transcripts`, on a server of its own. `cargo xtask transcripts
//! --against HOST:PORT` runs the same files over sockets, also against a reference server.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use client::transcript::{Peer, Transcript};
use resp::decode::{Decoder, Value};
use server::testing::{Group, Server};

/// What the transcripts need of the configuration.
const DIRECTIVES: &[(&str, &str)] = &[("enable-debug-command", "yes")];

struct InProcess {
    group: Group,
    sessions: HashMap<String, (usize, Decoder)>,
}

impl InProcess {
    fn new() -> InProcess {
        InProcess {
            group: Server::new(1, DIRECTIVES).group(0),
            sessions: HashMap::new(),
        }
    }

    fn session(&mut self, name: &str) -> &mut (usize, Decoder) {
        let group = &mut self.group;
        self.sessions
            .entry(name.to_owned())
            .or_insert_with(|| (group.connect(), Decoder::default()))
    }
}

impl Peer for InProcess {
    fn send(&mut self, session: &str, command: &[Vec<u8>]) {
        let (place, _) = *self.session(session);
        let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        self.group.send(place, &words);
    }

    /// Nothing there but a wait with an end: time passes until it ends.
    fn receive(&mut self, session: &str) -> Result<Value, String> {
        for _ in 0..2 {
            let (place, _) = *self.session(session);
            let bytes = self.group.take_output(place);
            let (_, decoder) = self.session(session);
            decoder.feed(&bytes);
            let value = decoder.next_value().map_err(|error| format!("{error:?}"))?;
            if let Some(value) = value {
                return Ok(value);
            }
            let until_ms = self.group.until_ms(place).ok_or("nothing arrives")?;
            let now_ms = self.group.engine.now_ms();
            self.group.advance(until_ms.saturating_sub(now_ms) + 1);
        }
        Err("nothing arrives".to_owned())
    }

    fn advance(&mut self, duration: Duration) {
        self.group.advance(duration.as_millis() as u64);
    }
}

fn files(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        match path.is_dir() {
            true => files(&path, found),
            false => found.push(path),
        }
    }
}

#[test]
fn every_transcript_gets_its_replies() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/transcripts");
    let mut found = Vec::new();
    files(&folder, &mut found);
    found.sort();
    assert!(found.len() > 40, "the transcripts are where they are looked for");
    let mut report = String::new();
    for path in &found {
        let text = std::fs::read_to_string(path).unwrap();
        let transcript = Transcript::parse(&text).unwrap();
        for mismatch in transcript.run(&mut InProcess::new()) {
            report.push_str(&format!("{}: {mismatch}", path.display()));
        }
    }
    assert!(report.is_empty(), "{report}");
}
