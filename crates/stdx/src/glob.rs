//! Glob patterns with the semantics of `KEYS`, `SCAN MATCH` and `PSUBSCRIBE`.
//!
//! `*` any run of bytes, `?` one byte, `[abc]`, `[a-z]` and `[^a]` one byte of a class, `\x` the
//! byte `x` itself. There is no syntax error: an unclosed class ends with the pattern and a
//! trailing backslash is a backslash.
//!
//! Only the last `*` passed is remembered. A later star can absorb whatever an earlier one could,
//! so going back further never finds a match, and the cost stays within pattern times text.

/// The most runs of stars, the last byte of the pattern aside, that can match, as in the original.
const STARS_MAX: usize = 1000;

/// Whether `pattern` matches the whole of `text`; `ignore_case` folds ASCII letters only.
///
/// The empty text is matched by the empty pattern and by `*`, but, as in the original, not by
/// `**`. O(pattern × text) at worst, O(text) for the usual one-star patterns.
pub fn matches(pattern: &[u8], text: &[u8], ignore_case: bool) -> bool {
    if text.is_empty() {
        return pattern.is_empty() || pattern == b"*";
    }
    let (mut p, mut t) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    let mut n_stars = 0;
    loop {
        if pattern.get(p) == Some(&b'*') {
            while pattern.get(p) == Some(&b'*') {
                p += 1;
            }
            if p == pattern.len() {
                return true;
            }
            n_stars += 1;
            if n_stars > STARS_MAX {
                return false;
            }
            retry = Some((p, t));
            continue;
        }
        let next = match (p < pattern.len(), text.get(t)) {
            (false, None) => return true,
            (true, Some(&byte)) => match_one(pattern, p, byte, ignore_case),
            (true, None) => return false,
            (false, Some(_)) => None,
        };
        if let Some(after) = next {
            p = after;
            t += 1;
            continue;
        }
        let Some((after_star, from)) = retry else {
            return false;
        };
        if from == text.len() {
            return false;
        }
        retry = Some((after_star, from + 1));
        p = after_star;
        t = from + 1;
    }
}

/// Whether `pattern` has no special byte, so that it matches exactly the text equal to itself.
pub fn is_literal(pattern: &[u8]) -> bool {
    !pattern
        .iter()
        .any(|byte| matches!(byte, b'*' | b'?' | b'[' | b'\\'))
}

/// Matches one pattern element, not a star, at `p`; the position after it if `byte` fits.
fn match_one(pattern: &[u8], p: usize, byte: u8, ignore_case: bool) -> Option<usize> {
    let (literal, after) = match pattern[p] {
        b'?' => return Some(p + 1),
        b'[' => return match_class(pattern, p + 1, byte, ignore_case),
        b'\\' if p + 1 < pattern.len() => (pattern[p + 1], p + 2),
        other => (other, p + 1),
    };
    (fold(literal, ignore_case) == fold(byte, ignore_case)).then_some(after)
}

/// Matches a class whose first byte after `[` is at `p`.
fn match_class(pattern: &[u8], mut p: usize, byte: u8, ignore_case: bool) -> Option<usize> {
    let negated = pattern.get(p) == Some(&b'^');
    p += usize::from(negated);
    let byte = fold(byte, ignore_case);
    let mut found = false;
    loop {
        match *pattern.get(p..).unwrap_or_default() {
            [] => break,
            [b'\\', literal, ..] => {
                found |= fold(literal, ignore_case) == byte;
                p += 2;
            }
            [b']', ..] => {
                p += 1;
                break;
            }
            [from, b'-', to, ..] => {
                let (from, to) = (fold(from, ignore_case), fold(to, ignore_case));
                found |= (from.min(to)..=from.max(to)).contains(&byte);
                p += 3;
            }
            [literal, ..] => {
                found |= fold(literal, ignore_case) == byte;
                p += 1;
            }
        }
    }
    (found != negated).then_some(p)
}

fn fold(byte: u8, ignore_case: bool) -> u8 {
    if ignore_case {
        byte.to_ascii_lowercase()
    } else {
        byte
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(pattern: &str, text: &str, expected: bool) {
        let got = matches(pattern.as_bytes(), text.as_bytes(), false);
        assert_eq!(got, expected, "{pattern:?} against {text:?}");
    }

    #[test]
    fn stars_and_question_marks() {
        check("", "", true);
        check("", "a", false);
        check("*", "", true);
        check("**", "abc", true);
        check("**", "", false);
        check("a*c", "abcbc", true);
        check("a*c", "abcb", false);
        check("*a*b*c*", "xxaxxbxxcxx", true);
        check("a?c", "abc", true);
        check("a?c", "ac", false);
        check("user:*:name", "user:17:name", true);
    }

    #[test]
    fn classes() {
        check("h[ae]llo", "hallo", true);
        check("h[^e]llo", "hello", false);
        check("h[a-c]llo", "hbllo", true);
        check("h[c-a]llo", "hbllo", true);
        check("[]", "a", false);
        check("[\\]]", "]", true);
        check("[a-\\]]", "]", false);
        check("*[0-9]", "abc7", true);
    }

    #[test]
    fn unfinished_patterns_follow_the_original() {
        check("[a", "a", true);
        check("[", "[", false);
        check("[^", "a", true);
        check("[a-", "a", true);
        check("[a-", "-", true);
        check("[a\\", "\\", true);
        check("a\\", "a\\", true);
        check("a\\*", "a*", true);
        check("a\\*", "ab", false);
    }

    #[test]
    fn case_is_folded_on_request() {
        assert!(matches(b"FOO[A-C]\\X", b"foobx", true));
        assert!(!matches(b"FOO", b"foo", false));
    }

    #[test]
    fn many_stars_stay_cheap() {
        let pattern = b"a*".repeat(1000);
        let text = b"a".repeat(20_000);
        assert!(!matches(&[&pattern[..], b"b"].concat(), &text, false));
        assert!(matches(&pattern, &text, false));
        assert!(matches(&[&pattern[..], b"a"].concat(), &text, false));
        assert!(!matches(&[&pattern[..], b"a*a"].concat(), &text, false));
    }

    #[test]
    fn literals() {
        assert!(is_literal(b"user:1"));
        for special in ["a*", "?", "[a]", "\\a"] {
            assert!(!is_literal(special.as_bytes()));
        }
    }
}
