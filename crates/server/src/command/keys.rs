//! Which arguments of a command are keys.

use stdx::number::parse_i64;

/// A command's keys, by position; position 0 is the command's name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keys {
    /// It has none.
    None,
    /// From `first` to `last`, every `step`; a negative `last` counts from the end.
    Range {
        /// The first key.
        first: usize,
        /// The last key.
        last: i32,
        /// From one key to the next.
        step: usize,
    },
    /// Behind their number, which is at `at`; and one at `first`.
    Counted {
        /// A key of its own, as a destination.
        first: Option<usize>,
        /// The number of the other keys.
        at: usize,
        /// From one key to the next.
        step: usize,
    },
    /// One at `first`, and one behind the last `STORE` among the options.
    Stored {
        /// The first key.
        first: usize,
        /// Options whose arguments are not to be taken for words, and how many those are.
        options: &'static [(&'static str, usize)],
    },
    /// The first half of what follows a word.
    Halved {
        /// The word, in capitals.
        word: &'static str,
        /// The first place where it may be.
        from: usize,
    },
    /// The one at `at`, or if that is empty all behind a word.
    Tail {
        /// The key.
        at: usize,
        /// The word, in capitals.
        word: &'static str,
        /// Options whose arguments are not to be taken for the word, and how many those are.
        options: &'static [(&'static str, usize)],
    },
    /// The first argument, and the one behind the last of some words.
    Option {
        /// The words, in capitals.
        words: &'static [&'static str],
        /// Where they may begin.
        from: usize,
    },
}

impl Keys {
    /// The first key of a request.
    #[inline]
    pub fn first<'a>(self, request: &[&'a [u8]]) -> Option<&'a [u8]> {
        match self {
            Keys::Range { first, .. } => request.get(first).copied(),
            Keys::Counted { first, at, .. } => request.get(first.unwrap_or(at + 1)).copied(),
            Keys::Stored { first, .. } => request.get(first).copied(),
            Keys::Tail { at, word, options } => {
                let behind = tail(at, (word, options), request);
                behind.map_or(request.get(at), |keys| keys.first()).copied()
            }
            Keys::Halved { word, from } => halved(word, from, request).first().copied(),
            Keys::Option { .. } => request.get(1).copied(),
            Keys::None => None,
        }
    }

    /// The key of a request that by its command's nature has one.
    #[inline]
    pub fn only<'a>(self, request: &[&'a [u8]]) -> Option<&'a [u8]> {
        match self {
            Keys::Range { first, last, .. } if first as i32 == last => request.get(first).copied(),
            _ => None,
        }
    }

    /// Whether only the arguments tell how many there are.
    pub fn are_movable(self) -> bool {
        matches!(
            self,
            Keys::Counted { .. }
                | Keys::Stored { .. }
                | Keys::Halved { .. }
                | Keys::Option { .. }
                | Keys::Tail { .. }
        )
    }

    /// The first key, the last and the step as COMMAND gives them: only what needs no arguments.
    pub fn fixed(self) -> (usize, i32, usize) {
        match self {
            Keys::Range { first, last, step } => (first, last, step),
            Keys::Counted {
                first: Some(first), ..
            }
            | Keys::Stored { first, .. }
            | Keys::Tail { at: first, .. } => (first, first as i32, 1),
            Keys::Option { .. } => (1, 1, 1),
            Keys::Counted { first: None, .. } | Keys::Halved { .. } | Keys::None => (0, 0, 0),
        }
    }

    /// Visits the keys of a request.
    pub fn each<'a>(self, request: &[&'a [u8]], visit: &mut dyn FnMut(&'a [u8])) {
        match self {
            Keys::None => {}
            Keys::Range { first, last, step } => {
                let last = if last < 0 {
                    request.len() as i64 + i64::from(last)
                } else {
                    last.into()
                };
                for at in (first..=last.max(0) as usize).step_by(step) {
                    request.get(at).into_iter().for_each(|key| visit(key));
                }
            }
            Keys::Counted { first, at, step } => {
                let Some(n) = counted(at, step, request) else {
                    return; // nothing is touched but an error answered
                };
                first
                    .and_then(|first| request.get(first))
                    .into_iter()
                    .for_each(|key| visit(key));
                let keys = request.iter().skip(at + 1).step_by(step);
                keys.take(n).for_each(|key| visit(key));
            }
            Keys::Halved { word, from } => {
                halved(word, from, request)
                    .iter()
                    .for_each(|key| visit(key));
            }
            Keys::Stored { first, options } => {
                let key = request.get(first).into_iter();
                key.chain(stored(options, request, first + 1))
                    .for_each(|key| visit(key));
            }
            Keys::Tail { at, word, options } => match tail(at, (word, options), request) {
                Some(keys) => keys.iter().for_each(|key| visit(key)),
                None => request.get(at).into_iter().for_each(|key| visit(key)),
            },
            Keys::Option { words, from } => {
                let optional = behind_word(words, request, from).map(|(_, key)| key);
                let key = request.get(1).copied();
                key.into_iter().chain(optional).for_each(visit);
            }
        }
    }
}

/// How many keys a request says it has, if it has as many.
fn counted(at: usize, step: usize, request: &[&[u8]]) -> Option<usize> {
    let n = usize::try_from(parse_i64(request.get(at)?)?).ok()?;
    let n_words = request.len() - at - 1;
    (n <= n_words.div_ceil(step)).then_some(n)
}

/// The first half of what stands behind the first such word of a request.
fn halved<'r, 'a>(word: &str, from: usize, request: &'r [&'a [u8]]) -> &'r [&'a [u8]] {
    let words = request.get(from..).unwrap_or_default();
    let at = words
        .iter()
        .position(|other| other.eq_ignore_ascii_case(word.as_bytes()));
    let behind = at.map_or(&[][..], |at| &words[at + 1..]);
    &behind[..behind.len() / 2]
}

/// What stands behind the first such word of a request, if the argument at `at` is empty.
pub fn tail<'r, 'a>(
    at: usize,
    (word, options): (&str, &[(&str, usize)]),
    request: &'r [&'a [u8]],
) -> Option<&'r [&'a [u8]]> {
    if !request.get(at)?.is_empty() {
        return None;
    }
    let mut from = at + 1;
    while let Some(argument) = request.get(from) {
        from += 1;
        if argument.eq_ignore_ascii_case(word.as_bytes()) {
            return request.get(from..);
        }
        let option = options
            .iter()
            .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(argument));
        from += option.map_or(0, |(_, n_arguments)| *n_arguments);
    }
    None
}

/// The last of `words` in a request that something stands behind, and that argument.
pub fn behind_word<'a>(
    words: &[&'static str],
    request: &[&'a [u8]],
    from: usize,
) -> Option<(&'static str, &'a [u8])> {
    let (mut at, mut found) = (from, None);
    while let [word, key, ..] = request.get(at..).unwrap_or_default() {
        let same = |other: &&&str| other.as_bytes().eq_ignore_ascii_case(word);
        if let Some(word) = words.iter().find(same) {
            found = Some((*word, *key));
            at += 1;
        }
        at += 1;
    }
    found
}

/// What stands behind the last `STORE` of a request.
fn stored<'r, 'a>(
    options: &[(&str, usize)],
    request: &'r [&'a [u8]],
    from: usize,
) -> Option<&'r &'a [u8]> {
    let (mut at, mut found) = (from, None);
    while let Some(word) = request.get(at) {
        if word.eq_ignore_ascii_case(b"STORE") {
            found = request.get(at + 1).or(found);
            at += 1;
        }
        let option = options
            .iter()
            .find(|(name, _)| name.as_bytes().eq_ignore_ascii_case(word));
        at += 1 + option.map_or(0, |(_, n_arguments)| *n_arguments);
    }
    found
}
