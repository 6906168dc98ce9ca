//! What directives say of the process: its title, as `ps` shows it, its OOM score, the seed of
//! its hashes.
//!
//! In `proc-title-template` names in braces stand for facts, `{{` for a brace.

use super::Config;
use super::directive::slot;
use stdx::number::parse_i64;

/// What a score is counted from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Score {
    /// What the process had when it was first changed.
    Relative(i64),
    /// Zero.
    Absolute(i64),
}

/// What a title may tell.
const FACTS: [&str; 7] = [
    "title",
    "listen-addr",
    "server-mode",
    "port",
    "tls-port",
    "unixsocket",
    "config-file",
];

/// Puts facts in the place of their names, without spaces around the whole. `None` if a name is not
/// known, or has no end.
fn expand(template: &str, fact: impl Fn(&str) -> Option<String>) -> Option<String> {
    let mut title = String::new();
    let mut rest = template;
    while let Some((text, behind)) = rest.split_once('{') {
        title.push_str(text);
        if let Some(behind) = behind.strip_prefix('{') {
            title.push('{');
            rest = behind;
            continue;
        }
        let (name, behind) = behind.split_once('}')?;
        title.push_str(&fact(name)?);
        rest = behind;
    }
    title.push_str(rest);
    Some(title.trim_matches(' ').to_owned())
}

/// Whether a template names only what is known, and not nothing.
pub fn is_valid(template: &[u8]) -> bool {
    let Ok(template) = std::str::from_utf8(template) else {
        return false;
    };
    let fact = |name: &str| {
        let is_ever_empty = !matches!(name, "listen-addr" | "port" | "tls-port");
        let text = if is_ever_empty { "" } else { "-" };
        FACTS.contains(&name).then(|| text.to_owned())
    };
    expand(template, fact).is_some_and(|title| !title.is_empty())
}

impl Config {
    /// `oom-score-adj` and `oom-score-adj-values`; `None` leaves the score alone.
    pub fn oom_score(&self, is_replica: bool) -> Option<Score> {
        let values = self.words(const { slot("oom-score-adj-values") });
        let value = values.get(usize::from(is_replica));
        let value = value.and_then(|word| parse_i64(word.as_bytes()))?;
        match self.number(const { slot("oom-score-adj") }) {
            0 => None,
            3 => Some(Score::Absolute(value)),
            _ => Some(Score::Relative(value)),
        }
    }

    /// `hash-seed`: what orders the keys in tables; `None` is by chance.
    pub fn hash_seed(&self) -> Option<Vec<u8>> {
        Some(self.text(const { slot("hash-seed") })).filter(|seed| !seed.is_empty())
    }

    /// `set-proc-title`.
    pub fn sets_title(&self) -> bool {
        self.number(const { slot("set-proc-title") }) != 0
    }

    /// The title of the process that was started under this name.
    pub fn title(&self, name: &str) -> Option<String> {
        let port = self.port();
        let fact = |fact: &str| {
            Some(match fact {
                "title" => name.to_owned(),
                "listen-addr" => {
                    let bound = self.bind().into_iter().next();
                    let host = bound.unwrap_or_else(|| "*".to_owned());
                    match (port, self.unix_socket()) {
                        (0, Some(path)) => path,
                        _ => format!("{host}:{port}"),
                    }
                }
                "server-mode" => String::new(),
                "port" => port.to_string(),
                "tls-port" => "0".to_owned(),
                "unixsocket" => self.unix_socket().unwrap_or_default(),
                "config-file" => self
                    .file()
                    .map(|path| path.display().to_string())
                    .unwrap_or_default(),
                _ => return None,
            })
        };
        let template = self.text(const { slot("proc-title-template") });
        expand(&String::from_utf8_lossy(&template), fact)
    }
}

#[cfg(test)]
mod tests {
    use super::{expand, is_valid};

    #[test]
    fn names_in_braces_stand_for_facts() {
        let fact = |name: &str| (name == "port").then(|| "6379".to_owned());
        let title = |template| expand(template, fact);
        assert_eq!(title(" a {port}{port} b "), Some("a 63796379 b".to_owned()));
        assert_eq!(title("a}b{{ {port}"), Some("a}b{ 6379".to_owned()));
        assert_eq!(title("{port"), None);
        assert_eq!(title("{nosuch}"), None);
    }

    #[test]
    fn a_template_says_something() {
        let valid = ["{title} {listen-addr} {server-mode}", "x", "{port}"];
        assert!(valid.iter().all(|template| is_valid(template.as_bytes())));
        let invalid = ["", "  ", "{title}", "{invalid-var}", "x {", "{server-mode}"];
        assert!(!invalid.iter().any(|template| is_valid(template.as_bytes())));
    }
}
