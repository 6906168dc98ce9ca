//! What one user may do: passwords and selectors, and the grammar of rules that makes them.

use std::fmt;

use super::catalogue::Catalogue;
use super::selector::Selector;
use super::{Denied, Request};

/// SHA-256 of a password.
pub type Digest = [u8; 32];

/// Why a rule was refused; displays as the reason alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RuleError {
    /// No command or category of this name.
    UnknownCommand,
    /// Nothing known begins like this.
    Syntax,
    /// A key pattern that adds nothing.
    PatternAfterAllKeys,
    /// A channel pattern that adds nothing.
    PatternAfterAllChannels,
    /// A password to remove that is not there.
    NoSuchPassword,
    /// Not 64 lower-case hexadecimal digits.
    BadHash,
    /// `config|get|x`
    FirstArgOfSubcommand,
    /// A database that no server can have.
    DatabaseOutOfRange,
}

impl fmt::Display for RuleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RuleError::UnknownCommand => "Unknown command or category name in ACL",
            RuleError::Syntax => "Syntax error",
            RuleError::PatternAfterAllKeys => {
                "Adding a pattern after the * pattern (or the 'allkeys' flag) is not valid and does \
                 not have any effect. Try 'resetkeys' to start with an empty list of patterns"
            }
            RuleError::PatternAfterAllChannels => {
                "Adding a pattern after the * pattern (or the 'allchannels' flag) is not valid and \
                 does not have any effect. Try 'resetchannels' to start with an empty list of \
                 channels"
            }
            RuleError::NoSuchPassword => {
                "The password you are trying to remove from the user does not exist"
            }
            RuleError::BadHash => {
                "The password hash must be exactly 64 characters and contain only lowercase \
                 hexadecimal characters"
            }
            RuleError::FirstArgOfSubcommand => "Allowing first-arg of a subcommand is not supported",
            RuleError::DatabaseOutOfRange => "The provided database ID is out of range",
        })
    }
}

/// See the top of the file. The first selector is the user's own.
#[derive(Clone, Debug)]
pub struct Rules {
    is_on: bool,
    needs_no_password: bool,
    /// Kept for listing: payloads of RESTORE are always checked here.
    skips_sanitizing: bool,
    passwords: Vec<Digest>,
    selectors: Vec<Selector>,
}

impl Rules {
    /// Those of a new user: off, without password, and allowed nothing but perhaps channels.
    pub fn new(catalogue: &Catalogue, with_channels: bool) -> Rules {
        Rules {
            is_on: false,
            needs_no_password: false,
            skips_sanitizing: false,
            passwords: Vec::new(),
            selectors: vec![Selector::new(catalogue, with_channels)],
        }
    }

    /// Those of the default user at first: everything, without password.
    pub fn free(catalogue: &Catalogue) -> Rules {
        let mut rules = Rules::new(catalogue, true);
        (rules.is_on, rules.needs_no_password) = (true, true);
        for rule in [&b"allkeys"[..], b"allcommands"] {
            let applied = rules.selectors[0].apply(catalogue, rule);
            debug_assert!(applied.is_ok());
        }
        rules
    }

    /// Applies one rule; a selector is one rule, parentheses included.
    pub fn apply(
        &mut self,
        catalogue: &Catalogue,
        rule: &[u8],
        with_channels: bool,
    ) -> Result<(), RuleError> {
        match &rule.to_ascii_lowercase()[..] {
            b"on" => self.is_on = true,
            b"off" => self.is_on = false,
            b"nopass" => {
                self.needs_no_password = true;
                self.passwords.clear();
            }
            b"resetpass" => {
                self.needs_no_password = false;
                self.passwords.clear();
            }
            b"skip-sanitize-payload" => self.skips_sanitizing = true,
            b"sanitize-payload" => self.skips_sanitizing = false,
            b"clearselectors" => self.selectors.truncate(1),
            b"reset" => *self = Rules::new(catalogue, with_channels),
            _ => return self.apply_other(catalogue, rule, with_channels),
        }
        Ok(())
    }

    fn apply_other(
        &mut self,
        catalogue: &Catalogue,
        rule: &[u8],
        with_channels: bool,
    ) -> Result<(), RuleError> {
        match rule {
            [b'>', password @ ..] => self.add_password(digest(password)),
            [b'#', hash @ ..] => self.add_password(parse_hash(hash)?),
            [b'<', password @ ..] => self.remove_password(digest(password))?,
            [b'!', hash @ ..] => self.remove_password(parse_hash(hash)?)?,
            [b'(', inner @ .., b')'] => {
                let mut selector = Selector::new(catalogue, with_channels);
                let words = inner.split(u8::is_ascii_whitespace);
                for word in words.filter(|word| !word.is_empty()) {
                    selector.apply(catalogue, word)?;
                }
                self.selectors.push(selector);
            }
            _ => self.selectors[0].apply(catalogue, rule)?,
        }
        Ok(())
    }

    fn add_password(&mut self, digest: Digest) {
        if !self.passwords.contains(&digest) {
            self.passwords.push(digest);
        }
        self.needs_no_password = false;
    }

    fn remove_password(&mut self, digest: Digest) -> Result<(), RuleError> {
        let at = self.passwords.iter().position(|known| *known == digest);
        self.passwords.remove(at.ok_or(RuleError::NoSuchPassword)?);
        Ok(())
    }

    /// `requirepass`: the only password, or none needed if it is empty.
    pub fn set_only_password(&mut self, password: &[u8]) {
        self.passwords.clear();
        self.needs_no_password = password.is_empty();
        if !password.is_empty() {
            self.passwords.push(digest(password));
        }
    }

    // ---- Looking -------------------------------------------------------------------------------

    /// Whether everything is allowed.
    pub fn is_free(&self) -> bool {
        self.selectors.iter().any(Selector::is_free)
    }

    /// Whether anybody may be this user without a password.
    pub fn is_open(&self) -> bool {
        self.is_on && self.needs_no_password
    }

    /// Whether no password is asked for, be the user on or off.
    pub fn needs_no_password(&self) -> bool {
        self.needs_no_password
    }

    /// Whether this password is right for somebody who may log in. In time that does not depend on
    /// which byte differs.
    pub fn accepts(&self, password: &[u8]) -> bool {
        let given = digest(password);
        let is_same = |known: &Digest| {
            let pairs = known.iter().zip(&given);
            pairs.fold(0, |differs, (a, b)| differs | (a ^ b)) == 0
        };
        let is_known = self
            .passwords
            .iter()
            .fold(false, |is, known| is | is_same(known));
        self.is_on && (self.needs_no_password || is_known)
    }

    /// The user's own selector, then the others.
    pub fn selectors(&self) -> &[Selector] {
        &self.selectors
    }

    /// The hashes of the passwords, in hexadecimal.
    pub fn password_hashes(&self) -> Vec<String> {
        self.passwords.iter().map(hex).collect()
    }

    /// The words that say how the user logs in.
    pub fn flags(&self) -> Vec<&'static str> {
        let mut flags = vec![if self.is_on { "on" } else { "off" }];
        flags.extend(self.needs_no_password.then_some("nopass"));
        flags.push(match self.skips_sanitizing {
            true => "skip-sanitize-payload",
            false => "sanitize-payload",
        });
        flags
    }

    /// Everything, as rules that make it anew.
    pub fn describe(&self) -> Vec<u8> {
        let mut text = self.flags().join(" ").into_bytes();
        for hash in self.password_hashes() {
            text.extend_from_slice(format!(" #{hash}").as_bytes());
        }
        for (at, selector) in self.selectors.iter().enumerate() {
            let (open, close): (&[u8], &[u8]) = if at == 0 { (b" ", b"") } else { (b" (", b")") };
            text.extend_from_slice(open);
            text.extend_from_slice(&selector.describe());
            text.extend_from_slice(close);
        }
        text
    }

    /// Whether one of the selectors allows a request; if none does, the refusal that got furthest.
    pub fn check(&self, request: &Request<'_>) -> Result<(), Denied> {
        let mut furthest: Option<Denied> = None;
        for selector in &self.selectors {
            let Err(denied) = selector.check(request) else {
                return Ok(());
            };
            if furthest
                .as_ref()
                .is_none_or(|known| denied.rank() > known.rank())
            {
                furthest = Some(denied);
            }
        }
        Err(furthest.unwrap_or(Denied::Command))
    }

    /// Whether any rule has spoken of databases: only then they are told of.
    pub fn speaks_of_databases(&self) -> bool {
        self.selectors.iter().any(Selector::speaks_of_databases)
    }

    /// Whether a selector that allows the request lets every key be read.
    pub fn reads_all_keys_with(&self, request: &Request<'_>) -> bool {
        let mut selectors = self.selectors.iter();
        selectors.any(|one| one.check(request).is_ok() && one.reads_all_keys())
    }

    /// Whether a channel may be listened to.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        let mut selectors = self.selectors.iter();
        selectors.any(|one| one.allows_channel(channel, is_pattern))
    }
}

/// SHA-256.
pub fn digest(password: &[u8]) -> Digest {
    hmac_sha256::Hash::hash(password)
}

fn hex(digest: &Digest) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn parse_hash(text: &[u8]) -> Result<Digest, RuleError> {
    let digit = |byte: u8| match byte {
        b'0'..=b'9' => Ok(byte - b'0'),
        b'a'..=b'f' => Ok(byte - b'a' + 10),
        _ => Err(RuleError::BadHash),
    };
    let mut digest = [0; 32];
    if text.len() != 64 {
        return Err(RuleError::BadHash);
    }
    for (byte, pair) in digest.iter_mut().zip(text.chunks(2)) {
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Ok(digest)
}

/// Joins the words of each selector, which blanks have taken apart. The error is the word that opens
/// a selector which nothing closes.
pub fn joined_selectors(words: &[&[u8]]) -> Result<Vec<Vec<u8>>, Vec<u8>> {
    let mut rules: Vec<Vec<u8>> = Vec::new();
    let mut open: Option<(usize, Vec<u8>)> = None;
    for (at, word) in words.iter().enumerate() {
        let closes = word.last() == Some(&b')');
        match &mut open {
            Some((_, text)) => {
                text.push(b' ');
                text.extend_from_slice(word);
            }
            None if word.first() == Some(&b'(') && !closes => open = Some((at, word.to_vec())),
            None => rules.push(word.to_vec()),
        }
        if closes && let Some((_, text)) = open.take() {
            rules.push(text);
        }
    }
    match open {
        Some((at, _)) => Err(words[at].to_vec()),
        None => Ok(rules),
    }
}
