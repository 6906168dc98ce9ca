//! Replies must decode alike however split, and what was decoded must survive encoding.
//!
//! Input: one byte of chunk length, then the stream.

#![no_main]

use libfuzzer_sys::fuzz_target;
use resp::decode::{DecodeError, Decoder, Value};

fuzz_target!(|input: &[u8]| {
    let [chunk_len, stream @ ..] = input else {
        return;
    };
    let whole = decode(stream.chunks(stream.len().max(1)));
    assert_eq!(whole, decode(stream.chunks(usize::from(*chunk_len).max(1))));
    let mut encoded = Vec::new();
    whole.0.iter().for_each(|value| value.encode(&mut encoded));
    assert_eq!(decode([&encoded[..]].into_iter()), (whole.0, Ok(())));
});

fn decode<'a>(chunks: impl Iterator<Item = &'a [u8]>) -> (Vec<Value>, Result<(), DecodeError>) {
    let (mut decoder, mut values) = (Decoder::default(), Vec::new());
    for chunk in chunks {
        decoder.feed(chunk);
        loop {
            match decoder.next_value() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Err(error)),
            }
        }
    }
    (values, Ok(()))
}
