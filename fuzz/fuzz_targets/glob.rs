//! The iterative matcher must agree with a plain recursive one, case folded or not.
//!
//! Input: one byte of flags, one of pattern length, then pattern and text.

#![no_main]

use libfuzzer_sys::fuzz_target;
use stdx::glob;

/// The recursive model is exponential in the stars.
const STARS_MAX: usize = 4;
const TEXT_MAX: usize = 24;

fuzz_target!(|input: &[u8]| {
    let [flags, pattern_len, rest @ ..] = input else {
        return;
    };
    let (pattern, text) = rest.split_at(usize::from(*pattern_len).min(rest.len()));
    let ignore_case = flags & 1 == 1;
    let matched = glob::matches(pattern, text, ignore_case);
    if glob::is_literal(pattern) && !ignore_case {
        assert_eq!(matched, pattern == text);
    }
    let n_stars = pattern.iter().filter(|&&byte| byte == b'*').count();
    if n_stars <= STARS_MAX && text.len() <= TEXT_MAX && !text.is_empty() {
        assert_eq!(matched, model(pattern, text, ignore_case));
    }
});

fn model(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    match pattern {
        [] => text.is_empty(),
        [b'*', rest @ ..] => (0..=text.len()).any(|skip| model(rest, &text[skip..], ignore_case)),
        _ => {
            let (element, rest) = pattern.split_at(element_len(pattern));
            matches!(text, [first, after @ ..]
                if glob::matches(element, &[*first], ignore_case) && model(rest, after, ignore_case))
        }
    }
}

/// How many pattern bytes stand for one byte of text.
fn element_len(pattern: &[u8]) -> usize {
    match pattern {
        [b'\\', _, ..] => 2,
        [b'[', ..] => {
            let mut at = 1 + usize::from(pattern.get(1) == Some(&b'^'));
            loop {
                match &pattern[at.min(pattern.len())..] {
                    [] => return pattern.len(),
                    [b'\\', _, ..] => at += 2,
                    [b']', ..] => return at + 1,
                    [_, b'-', _, ..] => at += 3,
                    _ => at += 1,
                }
            }
        }
        _ => 1,
    }
}
