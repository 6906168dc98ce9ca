//! Access control: users, what each may do, and the log of what was refused.
//!
//! A user's [`Rules`] are never changed: a change makes new ones, puts them in the user's place and
//! bumps the generation. A session remembers the generation at which it was found to be allowed
//! everything, so that the gate costs such a session one comparison; any other looks at the rules.
//! Nothing here knows sessions or sockets: who changes users tells them.

pub mod catalogue;
pub mod file;
pub mod log;
pub mod rules;
pub mod selector;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::{Mutex, RwLock};

use catalogue::Catalogue;
use log::Log;
use rules::{RuleError, Rules};

/// The user that every connection begins as.
pub const DEFAULT: &[u8] = b"default";

/// What a command does with a key, or what a pattern allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Need(u8);

impl Need {
    /// Neither the value is read nor changed: any pattern will do.
    pub const NONE: Need = Need(0);
    /// The value is read.
    pub const READ: Need = Need(1);
    /// The value is changed.
    pub const WRITE: Need = Need(2);
    /// Both.
    pub const BOTH: Need = Need(3);

    /// Both together.
    pub const fn with(self, other: Need) -> Need {
        Need(self.0 | other.0)
    }

    /// Whether all of `other` is in it.
    pub const fn covers(self, other: Need) -> bool {
        self.0 & other.0 == other.0
    }
}

/// Visits keys with what is done with each.
pub type KeyVisitor<'a> = &'a dyn Fn(&mut dyn FnMut(&[u8], Need));

/// Visits databases, each with the place of the word that names it; 0 if none does.
pub type DatabaseVisitor<'a> = &'a dyn Fn(&mut dyn FnMut(usize, u16));

/// A request as access control sees it.
#[derive(Clone, Copy)]
pub struct Request<'a> {
    /// The command's number.
    pub number: u16,
    /// Whoever may connect may run it: AUTH and its like.
    pub is_always_allowed: bool,
    /// All of the request.
    pub words: &'a [&'a [u8]],
    /// Its keys.
    pub keys: KeyVisitor<'a>,
    /// The databases that it looks into, changes or selects.
    pub databases: DatabaseVisitor<'a>,
    /// Its channels.
    pub channels: &'a [&'a [u8]],
    /// They are patterns.
    pub channels_are_patterns: bool,
}

/// Why a request was refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Denied {
    /// Its command.
    Command,
    /// A key: its place among the keys, and itself.
    Key(usize, Vec<u8>),
    /// A channel: its place among the channels, and itself.
    Channel(usize, Vec<u8>),
    /// A database: the place of the word that names it, 0 if none does, and itself.
    Database(usize, u16),
}

impl Denied {
    /// Of several refusals the one that got furthest is told.
    fn rank(&self) -> (u8, usize) {
        match self {
            Denied::Database(at, _) => (0, *at),
            Denied::Command => (1, 0),
            Denied::Key(at, _) => (2, *at),
            Denied::Channel(at, _) => (3, *at),
        }
    }
}

/// A user: the same one for as long as nobody deletes it, whatever happens to its rules.
#[derive(Debug)]
pub struct User {
    name: Box<[u8]>,
    rules: RwLock<Arc<Rules>>,
}

impl User {
    fn new(name: &[u8], rules: Rules) -> Arc<User> {
        Arc::new(User {
            name: name.into(),
            rules: RwLock::new(Arc::new(rules)),
        })
    }

    /// Its name.
    pub fn name(&self) -> &[u8] {
        &self.name
    }

    /// What it may do now.
    pub fn rules(&self) -> Arc<Rules> {
        self.rules.read().clone()
    }

    /// Its line in lists and files.
    pub fn line(&self) -> Vec<u8> {
        [b"user ", &self.name[..], b" ", &self.rules().describe()].concat()
    }
}

/// A user's name and rules, as a file gives them.
pub type Named = (Vec<u8>, Rules);

/// See the top of the file.
pub struct Acl {
    catalogue: &'static Catalogue,
    /// From 1 on, so that 0 is never the present one.
    generation: AtomicU64,
    /// The default user has a password, or is off.
    needs_login: AtomicBool,
    users: RwLock<BTreeMap<Box<[u8]>, Arc<User>>>,
    default: Arc<User>,
    /// What was refused; a leaf lock.
    pub log: Mutex<Log>,
}

impl Acl {
    /// The default user alone, who may do everything; with this password, if it is not empty.
    pub fn new(catalogue: &'static Catalogue, password: &[u8]) -> Acl {
        let mut rules = Rules::free(catalogue);
        rules.set_only_password(password);
        let default = User::new(DEFAULT, rules);
        let acl = Acl {
            catalogue,
            generation: 1.into(),
            needs_login: false.into(),
            users: RwLock::new(BTreeMap::from([(DEFAULT.into(), default.clone())])),
            default,
            log: Mutex::default(),
        };
        acl.bump();
        acl
    }

    /// The commands that rules speak of.
    pub fn catalogue(&self) -> &'static Catalogue {
        self.catalogue
    }

    /// Changes with every change of any user. One relaxed load.
    #[inline]
    pub fn generation(&self) -> u64 {
        self.generation.load(Ordering::Relaxed)
    }

    /// Whether who connects must log in first. One relaxed load.
    #[inline]
    pub fn needs_login(&self) -> bool {
        self.needs_login.load(Ordering::Relaxed)
    }

    fn bump(&self) {
        let is_open = self.default.rules().is_open();
        self.needs_login.store(!is_open, Ordering::Relaxed);
        self.generation.fetch_add(1, Ordering::Relaxed);
    }

    /// The user that connections begin as.
    pub fn default_user(&self) -> &Arc<User> {
        &self.default
    }

    /// The user of this name.
    pub fn get(&self, name: &[u8]) -> Option<Arc<User>> {
        self.users.read().get(name).cloned()
    }

    /// All users, by name.
    pub fn all(&self) -> Vec<Arc<User>> {
        self.users.read().values().cloned().collect()
    }

    /// The user of this name, if the password is right.
    pub fn log_in(&self, name: &[u8], password: &[u8]) -> Option<Arc<User>> {
        self.get(name).filter(|user| user.rules().accepts(password))
    }

    /// Makes or changes a user by rules, all or none. The error names the rule.
    pub fn set(
        &self,
        name: &[u8],
        rules: &[Vec<u8>],
        with_channels: bool,
    ) -> Result<Arc<User>, (Vec<u8>, RuleError)> {
        let mut users = self.users.write();
        let known = users.get(name).cloned();
        let mut made = match &known {
            Some(user) => (*user.rules()).clone(),
            None => Rules::new(self.catalogue, with_channels),
        };
        for rule in rules {
            let applied = made.apply(self.catalogue, rule, with_channels);
            applied.map_err(|error| (rule.clone(), error))?;
        }
        let user = match known {
            Some(user) => {
                *user.rules.write() = Arc::new(made);
                user
            }
            None => {
                let user = User::new(name, made);
                users.insert(name.into(), user.clone());
                user
            }
        };
        self.bump();
        Ok(user)
    }

    /// `requirepass`.
    pub fn set_default_password(&self, password: &[u8]) {
        let _users = self.users.write(); // nobody else changes rules meanwhile
        let mut rules = (*self.default.rules()).clone();
        rules.set_only_password(password);
        *self.default.rules.write() = Arc::new(rules);
        self.bump();
    }

    /// The users of a configuration's `user` lines. The error is for the log.
    pub fn declare(&self, lines: &[Vec<Vec<u8>>], with_channels: bool) -> Result<(), String> {
        for words in lines {
            let declared = file::declared(self.catalogue, words, with_channels);
            let (name, rules) = declared.map_err(|line| {
                ::log::warn!("{line}");
                "Critical error while loading ACLs. Exiting.".to_owned()
            })?;
            let mut users = self.users.write();
            match users.get(&name[..]) {
                Some(user) => *user.rules.write() = Arc::new(rules),
                None => {
                    users.insert(name.clone().into(), User::new(&name, rules));
                }
            }
        }
        self.bump();
        Ok(())
    }

    /// Deletes a user.
    pub fn remove(&self, name: &[u8]) -> Option<Arc<User>> {
        let removed = self.users.write().remove(name);
        self.bump();
        removed
    }

    /// Puts these users in the place of all there are; a missing default user is made anew. Those
    /// that are gone.
    pub fn replace(&self, named: Vec<Named>) -> Vec<Arc<User>> {
        let mut users = self.users.write();
        let mut gone = std::mem::take(&mut *users);
        let has_default = named.iter().any(|(name, _)| name == DEFAULT);
        let fresh = (!has_default).then(|| (DEFAULT.to_vec(), Rules::free(self.catalogue)));
        for (name, rules) in named.into_iter().chain(fresh) {
            let user = match gone.remove(&name[..]) {
                Some(user) => {
                    *user.rules.write() = Arc::new(rules);
                    user
                }
                None => User::new(&name, rules),
            };
            users.insert(name.into(), user);
        }
        drop(users);
        self.bump();
        gone.into_values().collect()
    }
}

/// Whether a user may have this name.
pub fn is_valid_name(name: &[u8]) -> bool {
    !name
        .iter()
        .any(|byte| byte.is_ascii_whitespace() || matches!(byte, 0 | 0x0b))
}
