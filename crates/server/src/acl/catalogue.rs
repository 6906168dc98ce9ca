//! What access control knows of commands: names, numbers and categories, and nothing of what they do.

use hashbrown::HashMap;

/// One command or subcommand.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Full lower-case name: `config|get`.
    pub name: String,
    /// The bit of each of its categories.
    pub categories: u32,
    /// The number of the command that it is a subcommand of.
    pub container: Option<u16>,
    /// Rules do not know it: it goes by its container, and its name is a first argument.
    pub is_hidden: bool,
}

/// See the top of the file. Numbers are those of the command table.
#[derive(Debug)]
pub struct Catalogue {
    entries: Vec<Entry>,
    by_name: HashMap<String, u16>,
    category_names: &'static [&'static str],
}

impl Catalogue {
    /// Entries by number; the categories' names in order of their bits.
    pub fn new(entries: Vec<Entry>, category_names: &'static [&'static str]) -> Catalogue {
        let numbered = entries.iter().enumerate();
        let by_name = numbered
            .filter(|(_, entry)| !entry.is_hidden)
            .map(|(number, entry)| (entry.name.clone(), number as u16))
            .collect();
        Catalogue {
            entries,
            by_name,
            category_names,
        }
    }

    /// How many numbers there are.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no commands.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The number of a command by its full name in any case.
    pub fn find(&self, name: &[u8]) -> Option<u16> {
        let name = std::str::from_utf8(name).ok()?.to_ascii_lowercase();
        self.by_name.get(&name).copied()
    }

    /// The number by which rules know a command.
    pub fn known_as(&self, number: u16) -> u16 {
        let entry = &self.entries[usize::from(number)];
        entry
            .container
            .filter(|_| entry.is_hidden)
            .unwrap_or(number)
    }

    /// The bit of a category by its name in any case.
    pub fn category(&self, name: &[u8]) -> Option<u32> {
        let is_named = |known: &&str| known.as_bytes().eq_ignore_ascii_case(name);
        let at = self.category_names.iter().position(is_named)?;
        Some(1 << at)
    }

    /// The names of the categories.
    pub fn category_names(&self) -> &'static [&'static str] {
        self.category_names
    }

    /// Whether a command is a subcommand.
    pub fn is_subcommand(&self, number: u16) -> bool {
        self.entries[usize::from(number)].container.is_some()
    }

    /// Whether a command has subcommands.
    pub fn is_container(&self, number: u16) -> bool {
        self.subcommands(number).next().is_some()
    }

    /// The subcommands of a command.
    pub fn subcommands(&self, number: u16) -> impl Iterator<Item = u16> {
        // They follow their container in the table.
        let after = usize::from(number) + 1;
        let rest = self.entries.get(after..).unwrap_or_default().iter();
        rest.take_while(move |entry| entry.container == Some(number) && !entry.is_hidden)
            .zip(after..)
            .map(|(_, number)| number as u16)
    }

    /// The numbers and names of the commands in a category.
    pub fn members(&self, category: u32) -> impl Iterator<Item = (u16, &str)> {
        let numbered = self.entries.iter().enumerate();
        numbered
            .filter(move |(_, entry)| !entry.is_hidden && entry.categories & category != 0)
            .map(|(number, entry)| (number as u16, entry.name.as_str()))
    }
}
