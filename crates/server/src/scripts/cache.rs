//! The sources of scripts by name.
//!
//! Those that came by EVAL alone are kept as long as there are not too many: the one that was not
//! used for longest goes. Those of SCRIPT LOAD stay until SCRIPT FLUSH.

use std::sync::Arc;

use hashbrown::HashMap;
use lua::interpreter::ScriptName;
use lua::script::ScriptFlags;
use slab::Slab;

/// Scripts kept that came by EVAL.
const PASSING_MAX: usize = 500;

struct Source {
    name: ScriptName,
    text: Arc<[u8]>,
    flags: Option<ScriptFlags>,
    /// SCRIPT LOAD brought it.
    stays: bool,
    last_use: u64,
}

/// See the top of the file.
#[derive(Default)]
pub struct Cache {
    sources: Slab<Source>,
    places: HashMap<ScriptName, usize>,
    /// The same by source: looking one up is cheaper than its SHA-1.
    by_text: HashMap<Arc<[u8]>, usize>,
    n_passing: usize,
    n_uses: u64,
    bytes: usize,
}

impl Cache {
    /// Whether a script is here.
    pub fn knows(&self, name: &ScriptName) -> bool {
        self.places.contains_key(name)
    }

    fn get(&self, name: &ScriptName) -> Option<&Source> {
        self.sources.get(*self.places.get(name)?)
    }

    /// A script's source.
    pub fn source(&self, name: &ScriptName) -> Option<Arc<[u8]>> {
        self.get(name).map(|source| Arc::clone(&source.text))
    }

    /// What a script says of itself, if it is here.
    pub fn flags(&self, name: &ScriptName) -> Option<Option<ScriptFlags>> {
        self.get(name).map(|source| source.flags)
    }

    fn use_now(&mut self, place: usize) -> Option<&Source> {
        self.n_uses += 1;
        let source = self.sources.get_mut(place)?;
        source.last_use = self.n_uses;
        Some(source)
    }

    /// What a script says of itself that is about to run, if it is here.
    pub fn used(&mut self, name: &ScriptName) -> Option<Option<ScriptFlags>> {
        let place = *self.places.get(name)?;
        self.use_now(place).map(|source| source.flags)
    }

    /// The name of a script that is about to run, by its source, and what it says of itself.
    pub fn used_text(&mut self, text: &[u8]) -> Option<(ScriptName, Option<ScriptFlags>)> {
        let place = *self.by_text.get(text)?;
        self.use_now(place)
            .map(|source| (source.name, source.flags))
    }

    /// Adds a script; the name of the one that had to go for it.
    pub fn add(
        &mut self,
        name: ScriptName,
        (text, flags): (&[u8], Option<ScriptFlags>),
        stays: bool,
    ) -> Option<ScriptName> {
        if let Some(&place) = self.places.get(&name) {
            let _ = self.use_now(place);
            let source = self.sources.get_mut(place)?;
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
        self.n_uses += 1;
        self.n_passing += usize::from(!stays);
        self.bytes += text.len();
        let text: Arc<[u8]> = text.into();
        let place = self.sources.insert(Source {
            name,
            text: Arc::clone(&text),
            flags,
            stays,
            last_use: self.n_uses,
        });
        self.by_text.insert(text, place);
        self.places.insert(name, place);
        gone
    }

    fn oldest(&self) -> Option<ScriptName> {
        let passing = self.sources.iter().map(|(_, source)| source);
        passing
            .filter(|source| !source.stays)
            .min_by_key(|source| source.last_use)
            .map(|source| source.name)
    }

    /// Removes a script.
    pub fn remove(&mut self, name: &ScriptName) {
        let Some(place) = self.places.remove(name) else {
            return;
        };
        let source = self.sources.remove(place);
        self.n_passing -= usize::from(!source.stays);
        self.bytes -= source.text.len();
        self.by_text.remove(&source.text);
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
            assert_eq!(cache.add(name(n), (b"return 1", None), false), None);
        }
        assert_eq!(cache.add(name(9000), (b"", None), true), None, "SCRIPT LOAD needs no room");
        assert!(cache.used(&name(0)).is_some());
        assert_eq!(cache.add(name(9001), (b"", None), false), Some(name(1)));
        assert!(!cache.knows(&name(1)));
        assert_eq!(cache.add(name(2), (b"", None), true), None, "now it stays");
        assert_eq!(cache.add(name(9002), (b"", None), false), None);
        assert_eq!(cache.add(name(9003), (b"", None), false), Some(name(3)));
        assert_eq!(cache.size().0, PASSING_MAX + 2);
    }

    #[test]
    fn a_script_is_found_by_its_source_as_long_as_it_is_here() {
        let mut cache = Cache::default();
        for n in 0..PASSING_MAX {
            assert_eq!(cache.used_text(format!("return {n}").as_bytes()), None);
            assert_eq!(cache.add(name(n), (format!("return {n}").as_bytes(), None), false), None);
        }
        assert_eq!(cache.used_text(b"return 0"), Some((name(0), None)));
        assert_eq!(cache.add(name(9000), (b"", None), false), Some(name(1)), "0 was used since");
        assert_eq!(cache.used_text(b"return 1"), None);
        cache.remove(&name(2));
        assert_eq!(cache.used_text(b"return 2"), None);
        assert_eq!(cache.by_text.len(), cache.sources.len());
    }
}
