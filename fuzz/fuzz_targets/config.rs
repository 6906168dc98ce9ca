//! A configuration file: it is refused with a reason, or read; and words that are quoted come out of
//! the quotes as they went in.

#![no_main]

use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    // `include` and `dir` would reach into this machine.
    let lower = input.to_ascii_lowercase();
    let reaches_out = [&b"include"[..], b"dir"].iter().any(|name| {
        lower.windows(name.len()).any(|word| word == *name)
    });
    if !reaches_out {
        if let Err(error) = server::config::file::parse(input) {
            assert!(!error.to_string().is_empty());
        }
    }
    let mut quoted = Vec::new();
    stdx::quoting::write_quoted(&mut quoted, input);
    let words = stdx::quoting::split(&quoted);
    assert!(words.is_ok_and(|words| words == [input]));
});
