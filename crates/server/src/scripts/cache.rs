//! The sources of scripts by name.
//!
//! Those that came by EVAL alone are kept as long as there are not too many: the one that was not
//! used for longest goes. Those of SCRIPT LOAD stay until SCRIPT FLUSH.

use std::sync::Arc;

use hashbrown::HashMap;
use lua::interpreter::ScriptName;

/// Scripts kept that came by EVAL.
const PASSING_MAX: usize = 500;

struct Source {
    text: Arc<[u8]>,
    /// SCRIPT LOAD brought it.
    stays: bool,
    last_use: u64,
}

/// See the top of the file.
#[derive(Default)]
pub struct Cache {
    sources: HashMap<ScriptName, Source>,
    /// Names by source: looking one up is cheaper than its SHA-1.
    names: HashMap<Arc<[u8]>, ScriptName>,
    n_passing: usize,
    n_uses: u64,
    bytes: usize,
}

impl Cache {
    /// Whether a script is here.
    pub fn knows(&self, name: &ScriptName) -> bool {
        self.sources.contains_key(name)
    }

    /// A script's source.
    pub fn source(&self, name: &ScriptName) -> Option<Arc<[u8]>> {
        self.sources
            .get(name)
            .map(|source| Arc::clone(&source.text))
    }

    /// The source of a script that is about to run.
    pub fn used(&mut self, name: &ScriptName) -> Option<Arc<[u8]>> {
        self.n_uses += 1;
        let source = self.sources.get_mut(name)?;
        source.last_use = self.n_uses;
        Some(Arc::clone(&source.text))
    }

    /// The name of a script that is about to run, by its source.
    pub fn used_text(&mut self, text: &[u8]) -> Option<ScriptName> {
        let name = *self.names.get(text)?;
        self.used(&name).map(|_| name)
    }

    /// Adds a script; the name of the one that had to go for it.
    pub fn add(&mut self, name: ScriptName, text: &[u8], stays: bool) -> Option<ScriptName> {
        self.n_uses += 1;
        let last_use = self.n_uses;
        if let Some(source) = self.sources.get_mut(&name) {
            source.last_use = last_use;
            if stays && !std::mem::replace(&mut source.stays, true) {
                self.n_passing -= 1;
            }
            return None;
        }
        let gone = match !stays && self.n_passing >= PASSING_MAX {
            true => self.oldest(),
            false => None,
        };
        if let Some(gone) = &gone {
            self.remove(gone);
        }
        self.n_passing += usize::from(!stays);
        self.bytes += text.len();
        let text: Arc<[u8]> = text.into();
        self.names.insert(Arc::clone(&text), name);
        self.sources.insert(
            name,
            Source {
                text,
                stays,
                last_use,
            },
        );
        gone
    }

    fn oldest(&self) -> Option<ScriptName> {
        let passing = self.sources.iter().filter(|(_, source)| !source.stays);
        passing
            .min_by_key(|(_, source)| source.last_use)
            .map(|(name, _)| *name)
    }

    /// Removes a script.
    pub fn remove(&mut self, name: &ScriptName) {
        if let Some(source) = self.sources.remove(name) {
            self.n_passing -= usize::from(!source.stays);
            self.bytes -= source.text.len();
            self.names.remove(&source.text);
        }
    }

    /// How many scripts there are, and the bytes of their sources.
    pub fn size(&self) -> (usize, usize) {
        (self.sources.len(), self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(n: usize) -> ScriptName {
        let mut name = [b'0'; 40];
        name[..8].copy_from_slice(format!("{n:08}").as_bytes());
        name
    }

    #[test]
    fn what_eval_brought_goes_when_it_was_not_used_for_longest() {
        let mut cache = Cache::default();
        for n in 0..PASSING_MAX {
            assert_eq!(cache.add(name(n), b"return 1", false), None);
        }
        assert_eq!(cache.add(name(9000), b"", true), None, "SCRIPT LOAD needs no room");
        assert!(cache.used(&name(0)).is_some());
        assert_eq!(cache.add(name(9001), b"", false), Some(name(1)));
        assert!(!cache.knows(&name(1)));
        assert_eq!(cache.add(name(2), b"", true), None, "now it stays");
        assert_eq!(cache.add(name(9002), b"", false), None);
        assert_eq!(cache.add(name(9003), b"", false), Some(name(3)));
        assert_eq!(cache.size().0, PASSING_MAX + 2);
    }

    #[test]
    fn a_script_is_found_by_its_source_as_long_as_it_is_here() {
        let mut cache = Cache::default();
        for n in 0..PASSING_MAX {
            assert_eq!(cache.used_text(format!("return {n}").as_bytes()), None);
            assert_eq!(cache.add(name(n), format!("return {n}").as_bytes(), false), None);
        }
        assert_eq!(cache.used_text(b"return 0"), Some(name(0)));
        assert_eq!(cache.add(name(9000), b"", false), Some(name(1)), "0 was used since");
        assert_eq!(cache.used_text(b"return 1"), None);
        cache.remove(&name(2));
        assert_eq!(cache.used_text(b"return 2"), None);
        assert_eq!(cache.names.len(), cache.sources.len());
    }
}
