//! A selector: one set of permissions, for commands, keys, channels and databases. A user has one, and
//! may have more in parentheses; a request is allowed if one of them allows all of it.
//!
//! Rules about databases are an addition to Redis's: where nobody uses them, nothing tells of them.
//!
//! Commands are a bitmap by number. Beside it the rules are kept as they were given, without those
//! that later ones override, because that is how users are listed and saved.

use hashbrown::HashMap;
use stdx::glob;

use super::catalogue::Catalogue;
use super::rules::RuleError;
use super::{Denied, Need, Request};

/// Keys that may be used, and how.
#[derive(Clone, Debug, PartialEq, Eq)]
struct KeyPattern {
    pattern: Vec<u8>,
    allows: Need,
}

/// The databases that may be used.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Databases {
    /// All: no rule has said anything.
    Unsaid,
    /// All: a rule has said so.
    All,
    /// These, in order.
    Only(Vec<u32>),
}

/// See the top of the file.
#[derive(Clone, Debug)]
pub struct Selector {
    /// A bit for each number; and of commands that do not exist yet.
    commands: Box<[u64]>,
    allows_future: bool,
    allows_all_commands: bool,
    allows_all_keys: bool,
    allows_all_channels: bool,
    /// First arguments with which a command is allowed that else is not.
    first_args: HashMap<u16, Vec<Vec<u8>>>,
    /// The rules that made `commands`, without their signs' effect: sign and name.
    rules: Vec<(bool, String)>,
    keys: Vec<KeyPattern>,
    channels: Vec<Vec<u8>>,
    databases: Databases,
}

fn has_blank(text: &[u8]) -> bool {
    text.iter()
        .any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b))
}

impl Selector {
    /// Allows nothing, but perhaps all channels.
    pub fn new(catalogue: &Catalogue, with_channels: bool) -> Selector {
        Selector {
            commands: vec![0; catalogue.len().div_ceil(64)].into(),
            allows_future: false,
            allows_all_commands: false,
            allows_all_keys: false,
            allows_all_channels: with_channels,
            first_args: HashMap::new(),
            rules: Vec::new(),
            keys: Vec::new(),
            channels: Vec::new(),
            databases: Databases::Unsaid,
        }
    }

    /// Whether it allows everything.
    pub fn is_free(&self) -> bool {
        self.allows_all_commands
            && self.allows_all_keys
            && self.allows_all_channels
            && self.allows_all_databases()
    }

    fn allows_all_databases(&self) -> bool {
        !matches!(self.databases, Databases::Only(_))
    }

    /// Whether any rule has spoken of databases.
    pub fn speaks_of_databases(&self) -> bool {
        self.databases != Databases::Unsaid
    }

    // ---- Rules ---------------------------------------------------------------------------------

    /// Applies one rule.
    pub fn apply(&mut self, catalogue: &Catalogue, rule: &[u8]) -> Result<(), RuleError> {
        match &rule.to_ascii_lowercase()[..] {
            b"allkeys" | b"~*" => {
                self.allows_all_keys = true;
                self.keys.clear();
            }
            b"resetkeys" => {
                self.allows_all_keys = false;
                self.keys.clear();
            }
            b"allchannels" | b"&*" => {
                self.allows_all_channels = true;
                self.channels.clear();
            }
            b"resetchannels" => {
                self.allows_all_channels = false;
                self.channels.clear();
            }
            b"allcommands" | b"+@all" => self.set_all(true),
            b"nocommands" | b"-@all" => self.set_all(false),
            b"alldbs" => self.databases = Databases::All,
            b"resetdbs" => self.databases = Databases::Only(Vec::new()),
            [b'd', b'b', b'=', list @ ..] => self.databases = Databases::Only(databases(list)?),
            _ => return self.apply_prefixed(catalogue, rule),
        }
        Ok(())
    }

    fn apply_prefixed(&mut self, catalogue: &Catalogue, rule: &[u8]) -> Result<(), RuleError> {
        match rule {
            [b'~', pattern @ ..] => self.add_key(pattern, Need::BOTH),
            [b'%', rest @ ..] => {
                let (pattern, allows) = key_permission(rest)?;
                self.add_key(pattern, allows)
            }
            [b'&', pattern @ ..] => self.add_channel(pattern),
            [sign @ (b'+' | b'-'), b'@', category @ ..] => {
                self.set_category(catalogue, category, *sign == b'+')
            }
            [b'+', name @ ..] => self.add_command(catalogue, name),
            [b'-', name @ ..] => {
                let number = catalogue.find(name).ok_or(RuleError::UnknownCommand)?;
                self.set_command(catalogue, number, false);
                self.note_rule(name, false);
                Ok(())
            }
            _ => Err(RuleError::Syntax),
        }
    }

    fn add_key(&mut self, pattern: &[u8], allows: Need) -> Result<(), RuleError> {
        if self.allows_all_keys {
            return Err(RuleError::PatternAfterAllKeys);
        }
        if has_blank(pattern) {
            return Err(RuleError::Syntax);
        }
        if pattern == b"*" && allows == Need::BOTH {
            self.allows_all_keys = true;
            self.keys.clear();
            return Ok(());
        }
        match self.keys.iter_mut().find(|known| known.pattern == pattern) {
            Some(known) => known.allows = known.allows.with(allows),
            None => self.keys.push(KeyPattern {
                pattern: pattern.to_vec(),
                allows,
            }),
        }
        Ok(())
    }

    fn add_channel(&mut self, pattern: &[u8]) -> Result<(), RuleError> {
        if self.allows_all_channels {
            return Err(RuleError::PatternAfterAllChannels);
        }
        if has_blank(pattern) {
            return Err(RuleError::Syntax);
        }
        if !self.channels.iter().any(|known| known == pattern) {
            self.channels.push(pattern.to_vec());
        }
        Ok(())
    }

    fn set_all(&mut self, allowed: bool) {
        self.commands.fill(if allowed { u64::MAX } else { 0 });
        (self.allows_future, self.allows_all_commands) = (allowed, allowed);
        self.first_args.clear();
        self.rules.clear();
    }

    fn set_category(
        &mut self,
        catalogue: &Catalogue,
        name: &[u8],
        allowed: bool,
    ) -> Result<(), RuleError> {
        let category = catalogue.category(name).ok_or(RuleError::UnknownCommand)?;
        for (number, _) in catalogue.members(category) {
            self.set_command(catalogue, number, allowed);
        }
        self.note_rule(&[b"@", name].concat(), allowed);
        Ok(())
    }

    fn add_command(&mut self, catalogue: &Catalogue, name: &[u8]) -> Result<(), RuleError> {
        let Some(bar) = name.iter().rposition(|byte| *byte == b'|') else {
            let number = catalogue.find(name).ok_or(RuleError::UnknownCommand)?;
            self.set_command(catalogue, number, true);
            self.note_rule(name, true);
            return Ok(());
        };
        let (command, argument) = (&name[..bar], &name[bar + 1..]);
        let number = catalogue.find(command).ok_or(RuleError::UnknownCommand)?;
        if catalogue.is_subcommand(number) {
            return Err(RuleError::FirstArgOfSubcommand);
        }
        if argument.is_empty() {
            return Err(RuleError::Syntax);
        }
        if catalogue.is_container(number) {
            let number = catalogue.find(name).ok_or(RuleError::UnknownCommand)?;
            self.set_command(catalogue, number, true);
        } else {
            let known = self.first_args.entry(number).or_default();
            if !known
                .iter()
                .any(|known| known.eq_ignore_ascii_case(argument))
            {
                known.push(argument.to_vec());
            }
        }
        self.note_rule(name, true);
        Ok(())
    }

    /// Allows a command or not, with all its subcommands.
    fn set_command(&mut self, catalogue: &Catalogue, number: u16, allowed: bool) {
        self.set_bit(number, allowed);
        for sub in catalogue.subcommands(number) {
            self.set_bit(sub, allowed);
        }
    }

    fn set_bit(&mut self, number: u16, allowed: bool) {
        let (word, bit) = (usize::from(number / 64), 1 << (number % 64));
        if allowed {
            self.commands[word] |= bit;
        } else {
            self.commands[word] &= !bit;
            self.allows_all_commands = false;
        }
        self.first_args.remove(&number);
    }

    /// Remembers a rule for listing, in place of those about the same thing or a part of it.
    fn note_rule(&mut self, name: &[u8], allowed: bool) {
        let name = String::from_utf8_lossy(name).to_ascii_lowercase();
        let is_part = |known: &str| {
            let rest = known.strip_prefix(&name);
            rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('|'))
        };
        self.rules.retain(|(_, known)| !is_part(known));
        self.rules.push((allowed, name));
    }

    // ---- Description ---------------------------------------------------------------------------

    /// The commands' part: `-@all +get`.
    pub fn command_text(&self) -> String {
        let mut text = if self.allows_future { "+@all" } else { "-@all" }.to_owned();
        for (allowed, name) in &self.rules {
            text.push_str(if *allowed { " +" } else { " -" });
            text.push_str(name);
        }
        text
    }

    /// The keys' part: `~a %R~b`, or `~*`.
    pub fn key_text(&self) -> Vec<u8> {
        if self.allows_all_keys {
            return b"~*".to_vec();
        }
        let texts: Vec<Vec<u8>> = self.keys.iter().map(KeyPattern::text).collect();
        texts.join(&b' ')
    }

    /// The channels' part: `&a &b`, or `&*`.
    pub fn channel_text(&self) -> Vec<u8> {
        if self.allows_all_channels {
            return b"&*".to_vec();
        }
        let texts = self.channels.iter();
        let texts: Vec<Vec<u8>> = texts.map(|channel| [b"&", &channel[..]].concat()).collect();
        texts.join(&b' ')
    }

    /// Everything, as rules that make it anew.
    pub fn describe(&self) -> Vec<u8> {
        let mut parts = Vec::new();
        parts.extend(Some(self.key_text()).filter(|text| !text.is_empty()));
        if !self.allows_all_channels {
            parts.push(b"resetchannels".to_vec());
        }
        parts.extend(Some(self.channel_text()).filter(|text| !text.is_empty()));
        match &self.databases {
            Databases::Only(known) if known.is_empty() => parts.push(b"resetdbs".to_vec()),
            Databases::Only(_) => parts.push(self.database_text().into_bytes()),
            _ => {}
        }
        parts.push(self.command_text().into_bytes());
        parts.join(&b' ')
    }

    /// The databases' part: `db=0,1`, or `alldbs`.
    pub fn database_text(&self) -> String {
        match &self.databases {
            Databases::Only(known) if known.is_empty() => String::new(),
            Databases::Only(known) => {
                let numbers: Vec<String> = known.iter().map(u32::to_string).collect();
                format!("db={}", numbers.join(","))
            }
            _ => "alldbs".to_owned(),
        }
    }

    // ---- Verdicts ------------------------------------------------------------------------------

    /// Whether it allows a request.
    pub fn check(&self, request: &Request<'_>) -> Result<(), Denied> {
        self.check_databases(request)?;
        if !request.is_always_allowed && !self.allows_command(request) {
            return Err(Denied::Command);
        }
        self.check_keys(request)?;
        self.check_channels(request)
    }

    fn check_databases(&self, request: &Request<'_>) -> Result<(), Denied> {
        let Databases::Only(known) = &self.databases else {
            return Ok(());
        };
        let mut denied = None;
        (request.databases)(&mut |at, number| {
            if denied.is_none() && known.binary_search(&u32::from(number)).is_err() {
                denied = Some(Denied::Database(at, number));
            }
        });
        denied.map_or(Ok(()), Err)
    }

    fn allows_command(&self, request: &Request<'_>) -> bool {
        let number = request.number;
        if self.commands[usize::from(number / 64)] & (1 << (number % 64)) != 0 {
            return true;
        }
        let (Some(known), Some(argument)) = (self.first_args.get(&number), request.words.get(1))
        else {
            return false;
        };
        known
            .iter()
            .any(|known| known.eq_ignore_ascii_case(argument))
    }

    fn check_keys(&self, request: &Request<'_>) -> Result<(), Denied> {
        if self.allows_all_keys {
            return Ok(());
        }
        let (mut n_seen, mut denied) = (0, None);
        (request.keys)(&mut |key, need| {
            if denied.is_none() && !self.allows_key(key, need) {
                denied = Some(Denied::Key(n_seen, key.to_vec()));
            }
            n_seen += 1;
        });
        denied.map_or(Ok(()), Err)
    }

    fn allows_key(&self, key: &[u8], need: Need) -> bool {
        let mut patterns = self.keys.iter();
        patterns.any(|one| one.allows.covers(need) && glob::matches(&one.pattern, key, false))
    }

    fn check_channels(&self, request: &Request<'_>) -> Result<(), Denied> {
        if self.allows_all_channels {
            return Ok(());
        }
        for (at, channel) in request.channels.iter().enumerate() {
            if !self.allows_channel(channel, request.channels_are_patterns) {
                return Err(Denied::Channel(at, channel.to_vec()));
            }
        }
        Ok(())
    }

    /// Whether a channel may be used; a pattern only if it is one of the patterns itself.
    pub fn allows_channel(&self, channel: &[u8], is_pattern: bool) -> bool {
        self.allows_all_channels
            || self.channels.iter().any(|known| match is_pattern {
                true => known == channel,
                false => glob::matches(known, channel, false),
            })
    }

    /// Whether every key may be read.
    pub fn reads_all_keys(&self) -> bool {
        let is_all = |one: &KeyPattern| one.pattern == b"*" && one.allows.covers(Need::READ);
        self.allows_all_keys || self.keys.iter().any(is_all)
    }
}

impl KeyPattern {
    fn text(&self) -> Vec<u8> {
        let sign: &[u8] = match self.allows {
            Need::READ => b"%R~",
            Need::WRITE => b"%W~",
            _ => b"~",
        };
        [sign, &self.pattern].concat()
    }
}

/// The list behind `db=`, in order and without doubles.
fn databases(list: &[u8]) -> Result<Vec<u32>, RuleError> {
    let mut known = Vec::new();
    for word in list.split(|byte| *byte == b',') {
        let digits = word.strip_prefix(b"-").unwrap_or(word);
        if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
            return Err(RuleError::Syntax);
        }
        let number = stdx::number::parse_i64(word).and_then(|number| i32::try_from(number).ok());
        let number = number.and_then(|number| u32::try_from(number).ok());
        known.push(number.ok_or(RuleError::DatabaseOutOfRange)?);
    }
    known.sort_unstable();
    known.dedup();
    Ok(known)
}

/// `RW~pattern` behind its percent sign.
fn key_permission(rest: &[u8]) -> Result<(&[u8], Need), RuleError> {
    let mut allows = Need::NONE;
    for (at, byte) in rest.iter().enumerate() {
        let more = match byte.to_ascii_uppercase() {
            b'R' if !allows.covers(Need::READ) => Need::READ,
            b'W' if !allows.covers(Need::WRITE) => Need::WRITE,
            b'~' if allows != Need::NONE => return Ok((&rest[at + 1..], allows)),
            _ => return Err(RuleError::Syntax),
        };
        allows = allows.with(more);
    }
    match allows {
        Need::NONE => Err(RuleError::Syntax),
        _ => Ok((b"", allows)),
    }
}

/// What the operator is told of a rule that is a misuse: it allows a first argument of a command that has no
/// subcommands. A rule may hold several words.
pub fn warning(catalogue: &Catalogue, rule: &[u8]) -> Option<String> {
    let words = rule.split(|byte| b" ()".contains(byte));
    let mut names = words.filter_map(|word| word.strip_prefix(b"+"));
    let name = names.find(|name| {
        let command = name.iter().rposition(|byte| *byte == b'|');
        let number = command.and_then(|bar| catalogue.find(&name[..bar]));
        number.is_some_and(|number| !catalogue.is_container(number))
    })?;
    Some(format!(
        "Deprecation warning: Allowing a first arg of an otherwise blocked command is a misuse of ACL \
         and may get disabled in the future (offender: +{})",
        String::from_utf8_lossy(name)
    ))
}
