//! Any bytes as a file of commands: records, or a flaw with its place; what comes before the flaw is good by
//! itself. And a command behind its checksum: a changed bit is noticed, or changes nothing.

#![no_main]

use libfuzzer_sys::fuzz_target;
use server::aof::records::{Record, Records};
use server::aof::scan::scan_source;
use server::journal::unit::write_command;

/// The commands up to the first flaw; whether there was one.
fn commands(bytes: &[u8]) -> (Vec<Vec<Vec<u8>>>, bool) {
    let (mut records, mut all) = (Records::new(bytes, 0), Vec::new());
    let mut offset = 0;
    loop {
        let record = records.read();
        assert!(records.offset() >= offset && records.offset() <= bytes.len() as u64);
        offset = records.offset();
        match record {
            Ok(Record::Command(words)) => all.push(words),
            Ok(Record::Note(_)) => {}
            Ok(Record::End) => return (all, false),
            Err(_) => return (all, true),
        }
    }
}

fuzz_target!(|bytes: &[u8]| {
    let (all, _) = commands(bytes);
    for is_summed in [false, true] {
        let mut written = Vec::new();
        for words in &all {
            write_command(&mut written, words, is_summed);
        }
        assert_eq!(commands(&written), (all.clone(), false));
        // The first bytes say which bit is changed.
        if let ([a, b, c, ..], true, false) = (bytes, is_summed, written.is_empty()) {
            let bit = u32::from_le_bytes([*a, *b, *c, 0]) as usize % (written.len() * 8);
            written[bit / 8] ^= 1 << (bit % 8);
            let (kept, is_flawed) = commands(&written);
            assert!(all.starts_with(&kept));
            assert!(is_flawed || kept == all);
        }
    }
    for until_s in [None, Some(1_700_000_000)] {
        let span = scan_source(bytes, 0, until_s, &mut |_| {}).expect("memory can be read");
        let good = usize::try_from(span.good).expect("it is within the bytes");
        let again = scan_source(&bytes[..good], 0, until_s, &mut |_| {}).expect("as before");
        assert_eq!((again.good, again.flaw, again.later), (span.good, None, None));
    }
});
