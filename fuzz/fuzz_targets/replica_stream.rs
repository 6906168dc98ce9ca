//! Any bytes as what a primary sends: events or an error, the same however the bytes are cut, and little memory
//! beyond what came.
//!
//! The first byte says what the replica introduces itself as, and where the conversation stands; the second is
//! a seed of the cuts.

#![no_main]

use libfuzzer_sys::fuzz_target;
use server::replication::handshake::{Introduction, Offered};
use server::replication::reader::{Event, Reader};

fn introduction(bits: u8) -> Introduction {
    let has = |bit: u8| bits & bit != 0;
    Introduction {
        login: (String::new(), if has(1) { "secret".to_owned() } else { String::new() }),
        port: 7000,
        ip: has(2).then(|| "10.0.0.1".to_owned()),
        history: has(4).then(|| ("b".repeat(40), 101)),
        hands_over: has(8),
        takes_channel: has(128),
        takes_dual: has(128),
        is_dual: has(128) && has(8),
        ..Introduction::default()
    }
}

/// What brings the conversation to the snapshot, the stream, or nowhere.
fn prefix(bits: u8) -> Vec<u8> {
    let name = "a".repeat(40);
    let is_dual = bits & 128 != 0 && bits & 8 != 0;
    let n_of_address = if is_dual { 0 } else { 1 + usize::from(bits >> 1 & 1) };
    let greeting = "+OK\r\n".repeat(2 + usize::from(bits & 1) + n_of_address);
    match bits >> 4 & 7 {
        0 => Vec::new(),
        1 => format!("{greeting}+FULLRESYNC {name} 7\r\n").into_bytes(),
        2 => format!("{greeting}+FULLRESYNC {name} 7\r\n$EOF:{name}\r\n").into_bytes(),
        3 if is_dual => format!("{greeting}$ENDOFF:7 {name} -1 8\r\n").into_bytes(),
        3 => format!("{greeting}+CONTINUE\r\n").into_bytes(),
        4 => format!("{greeting}+RDBCHANNELSYNC 8\r\n").into_bytes(),
        5 => format!("{greeting}+DUALCHANNELSYNC\r\n").into_bytes(),
        _ => greeting.into_bytes(),
    }
}

/// Everything that was said, in one text; pieces of a snapshot are one.
fn talk(about: Introduction, bytes: &[u8], mut piece_bytes: impl FnMut() -> usize) -> Vec<u8> {
    let (mut reader, _) = Reader::begin(about);
    let (mut told, mut left) = (Vec::new(), bytes);
    loop {
        match reader.read() {
            Ok(Some(Event::Piece(piece))) => told.extend_from_slice(piece),
            Ok(Some(Event::Command { words, raw })) => {
                told.extend_from_slice(format!("{words:?}").as_bytes());
                told.extend_from_slice(raw);
            }
            Ok(Some(Event::Dual)) => {
                let offered = Offered { replid: "a".repeat(40), offset: 7, database: None, id: 8 };
                told.extend_from_slice(format!("{:?}", reader.join(&offered)).as_bytes());
            }
            Ok(Some(event)) => told.extend_from_slice(format!("{event:?}").as_bytes()),
            Ok(None) if left.is_empty() => return told,
            Ok(None) => {
                let (now, later) = left.split_at(piece_bytes().clamp(1, left.len()));
                let filled = reader.fill(now.len(), |room| {
                    room.copy_from_slice(now);
                    Ok::<_, ()>(now.len())
                });
                assert_eq!(filled, Ok(now.len()));
                assert!(reader.n_unused() <= bytes.len());
                left = later;
            }
            Err(why) => {
                assert!(!why.is_empty() && !why.contains(char::is_control));
                told.extend_from_slice(why.as_bytes());
                return told;
            }
        }
    }
}

fuzz_target!(|input: &[u8]| {
    let [bits, seed, rest @ ..] = input else {
        return;
    };
    let bytes = [&prefix(*bits), rest].concat();
    let whole = talk(introduction(*bits), &bytes, || usize::MAX);
    let mut state = u32::from(*seed);
    let cut = talk(introduction(*bits), &bytes, || {
        state = state.wrapping_mul(1_103_515_245).wrapping_add(12_345);
        (state >> 16) as usize % 9 + 1
    });
    assert_eq!(whole, cut);
});
