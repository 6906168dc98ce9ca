//! Users in files: those that lines of a configuration declare, and the text of an ACL file.

use super::catalogue::Catalogue;
use super::rules::{RuleError, Rules, joined_selectors};
use super::selector::warning;
use super::{DEFAULT, Named, User, is_valid_name};

/// Ends every report about a file that cannot be taken.
const NOTHING_DONE: &str =
    "WARNING: ACL errors detected, no change to the previously active ACL rules was performed";

/// The users of an ACL file's text; `path` is for the report of all that is wrong with it.
pub fn parse(
    catalogue: &Catalogue,
    path: &str,
    text: &[u8],
    with_channels: bool,
) -> Result<Vec<Named>, String> {
    let mut users: Vec<Named> = Vec::new();
    let mut errors = String::new();
    for (at, line) in text.split(|byte| *byte == b'\n').enumerate() {
        let line = line.trim_ascii();
        let number = at + 1;
        if line.is_empty() {
            continue;
        }
        let words: Vec<&[u8]> = line.split(|byte| *byte == b' ').collect();
        let ([b"user", name, ..], true) = (&words[..], words.len() > 1) else {
            let what = "should start with user keyword followed by the username.";
            errors.push_str(&format!("{path}:{number} {what} "));
            continue;
        };
        let shown = String::from_utf8_lossy(name);
        if !is_valid_name(name) {
            errors.push_str(&format!(
                "{path}:{number}: username '{shown}' contains invalid characters. "
            ));
        } else if users.iter().any(|(known, _)| known == name) {
            errors.push_str(&format!("WARNING: Duplicate user '{shown}' found on line {number}. "));
        } else {
            let place = format!("{path}:{number}");
            let rules = rules(catalogue, &words[2..], with_channels, &place, &mut errors);
            users.extend(rules.map(|rules| (name.to_vec(), rules)));
        }
    }
    if errors.is_empty() {
        return Ok(users);
    }
    Err(errors + NOTHING_DONE)
}

fn rules(
    catalogue: &Catalogue,
    words: &[&[u8]],
    with_channels: bool,
    place: &str,
    errors: &mut String,
) -> Option<Rules> {
    let words: Vec<&[u8]> = words.iter().map(|word| word.trim_ascii()).collect();
    let Ok(words) = joined_selectors(&words) else {
        errors.push_str(&format!("{place}: Unmatched parenthesis in selector definition."));
        return None;
    };
    let mut rules = Rules::new(catalogue, with_channels);
    let mut has_failed = false;
    for word in words.iter().filter(|word| !word.is_empty()) {
        match rules.apply(catalogue, word, with_channels) {
            Ok(()) => warn_of(catalogue, word),
            // What is not known holds no secret.
            Err(error @ RuleError::UnknownCommand) => {
                let word = String::from_utf8_lossy(word);
                errors
                    .push_str(&format!("{place}: Error in applying operation '{word}': {error}. "));
            }
            Err(error) if !has_failed => {
                errors.push_str(&format!("{place}: {error}. "));
                has_failed = true;
            }
            Err(_) => {}
        }
    }
    Some(rules)
}

fn warn_of(catalogue: &Catalogue, rule: &[u8]) {
    if let Some(warning) = warning(catalogue, rule) {
        log::warn!("{warning}");
    }
}

/// The user of one `user` line of a configuration, its first word left out. The error is the line for
/// the log.
pub fn declared(
    catalogue: &Catalogue,
    words: &[Vec<u8>],
    with_channels: bool,
) -> Result<Named, String> {
    let name = words.first().map_or(&b""[..], Vec::as_slice);
    let mut rules = Rules::new(catalogue, with_channels);
    let given: Vec<&[u8]> = words.iter().skip(1).map(Vec::as_slice).collect();
    let joined = joined_selectors(&given).unwrap_or_default();
    for rule in &joined {
        let applied = rules.apply(catalogue, rule, with_channels);
        applied.map_err(|error| {
            let name = String::from_utf8_lossy(name);
            // A rule may be a password; only one that is about a command is shown.
            match rule.first() {
                Some(b'+' | b'-') => {
                    let rule = String::from_utf8_lossy(rule);
                    format!("Error loading ACL rule '{rule}' for the user named '{name}': {error}")
                }
                _ => format!("Error loading ACL rules for the user named '{name}': {error}"),
            }
        })?;
        warn_of(catalogue, rule);
    }
    Ok((name.to_vec(), rules))
}

/// The text of a file that has these users, the default one first.
pub fn text(users: &[std::sync::Arc<User>]) -> Vec<u8> {
    let mut lines: Vec<Vec<u8>> = users.iter().map(|user| user.line()).collect();
    lines.sort_by_key(|line| !line.starts_with(&[b"user ", DEFAULT, b" "].concat()));
    lines.iter_mut().for_each(|line| line.push(b'\n'));
    lines.concat()
}
