//! Requests must come out the same however the bytes were split, and every span must be in range.
//!
//! Input: one byte of limits, one of chunk length, then the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resp::request::{Limits, Parser, ProtocolError};

type Requests = (Vec<Vec<Vec<u8>>>, Result<(), ProtocolError>);

fuzz_target!(|input: &[u8]| {
    let [flags, chunk_len, stream @ ..] = input else {
        return;
    };
    let limits = Limits {
        max_bulk_bytes: 1 << 20,
        authenticated: flags & 1 == 0,
    };
    let whole = parse(stream.chunks(stream.len().max(1)), &limits);
    let split = parse(stream.chunks(usize::from(*chunk_len).max(1)), &limits);
    assert_eq!(whole, split);
});

fn parse<'a>(chunks: impl Iterator<Item = &'a [u8]>, limits: &Limits) -> Requests {
    let (mut parser, mut buf, mut requests) = (Parser::default(), Vec::new(), Vec::new());
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        let (mut pos, mut spans) = (0, Vec::new());
        loop {
            let before = pos;
            match parser.next(&mut buf, &mut pos, &mut spans, limits) {
                Ok(true) => {
                    assert!(pos > before && pos <= buf.len());
                    requests.push(spans.drain(..).map(|span| span.of(&buf).to_vec()).collect());
                }
                Ok(false) => break assert!(pos == before && spans.is_empty()),
                Err(error) => return (requests, Err(error)),
            }
        }
        buf.drain(..pos);
    }
    (requests, Ok(()))
}
