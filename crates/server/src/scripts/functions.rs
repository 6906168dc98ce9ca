//! The libraries that FUNCTION LOAD brought, and their functions by name.
//!
//! Only sources and what they registered are kept here; the interpreter has the compiled functions
//! under the library's number, and gets them again from the source when it was made anew.

use std::collections::BTreeMap;
use std::sync::Arc;

use hashbrown::HashMap;
use lua::library::Registered;

use crate::error::{Error, Result};

/// A library.
#[derive(Debug)]
pub struct Library {
    /// Under which the interpreter knows it; never used twice.
    pub number: u64,
    /// Its name.
    pub name: Vec<u8>,
    /// The whole source, first line included.
    pub source: Arc<[u8]>,
    /// What it has registered, in order.
    pub functions: Vec<Registered>,
}

/// A function: its library and its place there.
#[derive(Clone, Debug)]
pub struct Found {
    /// The library.
    pub library: Arc<Library>,
    /// The place in [`Library::functions`].
    pub place: usize,
}

impl Found {
    /// The function.
    pub fn function(&self) -> &Registered {
        &self.library.functions[self.place]
    }
}

/// How FUNCTION RESTORE treats the libraries that are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// They go.
    Flush,
    /// They stay, and a collision is an error.
    Append,
    /// Those of the same names go.
    Replace,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Functions {
    libraries: BTreeMap<Vec<u8>, Arc<Library>>,
    /// By names in lower case.
    by_name: HashMap<Vec<u8>, Found>,
}

impl Functions {
    /// The function of this name, in any case.
    pub fn find(&self, name: &[u8]) -> Option<Found> {
        self.by_name.get(&name.to_ascii_lowercase()).cloned()
    }

    /// The library of this name.
    pub fn library(&self, name: &[u8]) -> Option<&Arc<Library>> {
        self.libraries.get(name)
    }

    /// All libraries, by name.
    pub fn libraries(&self) -> impl Iterator<Item = &Arc<Library>> {
        self.libraries.values()
    }

    /// How many libraries and how many functions there are.
    pub fn counts(&self) -> (usize, usize) {
        (self.libraries.len(), self.by_name.len())
    }

    /// Adds a library, in the place of one of the same name if `replaces` is set; that one is
    /// returned. Changes nothing on an error.
    pub fn add(&mut self, library: Arc<Library>, replaces: bool) -> Result<Option<Arc<Library>>> {
        self.check(&library, replaces)?;
        let old = self.remove(&library.name);
        for (place, function) in library.functions.iter().enumerate() {
            let library = Arc::clone(&library);
            self.by_name
                .insert(function.name.to_ascii_lowercase(), Found { library, place });
        }
        self.libraries.insert(library.name.clone(), library);
        Ok(old)
    }

    /// Whether `add` would succeed.
    pub fn check(&self, library: &Library, replaces: bool) -> Result<()> {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        if !replaces && self.libraries.contains_key(&library.name) {
            let name = text(&library.name);
            return Err(Error::Owned(format!("ERR Library '{name}' already exists")));
        }
        for function in &library.functions {
            let other = self.by_name.get(&function.name.to_ascii_lowercase());
            if other.is_some_and(|other| other.library.name != library.name) {
                let name = text(&function.name);
                return Err(Error::Owned(format!("ERR Function {name} already exists")));
            }
        }
        Ok(())
    }

    /// Removes a library.
    pub fn remove(&mut self, name: &[u8]) -> Option<Arc<Library>> {
        let library = self.libraries.remove(name)?;
        for function in &library.functions {
            self.by_name.remove(&function.name.to_ascii_lowercase());
        }
        Some(library)
    }
}
