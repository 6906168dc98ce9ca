//! The rows of all families, each with the number under which statistics count it.

use crate::acl::catalogue::{Catalogue, Entry};
use crate::command::traits::{CATEGORIES, CATEGORY_NAMES};
use crate::command::{Command, Flag, Kind};

/// See the top of the file.
pub struct Table {
    /// Every command.
    pub rows: &'static [Command],
    /// Full names (`config|get`) by number; a container has a number too.
    pub names: Vec<String>,
    /// What access control knows of them.
    pub catalogue: Catalogue,
}

impl Table {
    /// Numbers the rows. They stay for the life of the process.
    pub fn new(families: &[&'static [Command]]) -> Table {
        let mut names = Vec::new();
        let n_rows = families.iter().map(|family| family.len()).sum();
        let mut rows = Vec::with_capacity(n_rows);
        let all = families.iter().flat_map(|family| family.iter());
        rows.extend(all.map(|row| numbered(row, &mut names)));
        let entries = rows.iter().flat_map(entries).collect();
        Table {
            rows: rows.leak(),
            names,
            catalogue: Catalogue::new(entries, CATEGORY_NAMES),
        }
    }
}

fn numbered(row: &Command, names: &mut Vec<String>) -> Command {
    let mut row = *row;
    row.number = names.len() as u16;
    names.push(row.name.to_owned());
    if let Kind::Container(rows) = row.kind {
        let number = row.number;
        let is_hidden = row.has(Flag::System);
        let subs = rows.iter().map(|sub| match is_hidden {
            true => Command { number, ..*sub }, // counted under the container's name
            false => numbered(sub, names),
        });
        row.kind = Kind::Container(subs.collect::<Vec<_>>().leak());
    }
    if let Some(alone) = row.alone {
        let mut alone = *alone;
        alone.number = row.number; // it goes by the container's name
        row.alone = Some(Box::leak(Box::new(alone)));
    }
    row
}

/// A row's entry and those of its subcommands, in the order of their numbers.
fn entries(row: &Command) -> Vec<Entry> {
    let entry = |one: &Command, container: Option<u16>| {
        let categories = CATEGORIES.iter().enumerate();
        let bits = categories
            .filter(|(_, (category, _))| one.belongs_to(*category, row.group))
            .map(|(bit, _)| 1 << bit);
        Entry {
            name: one.name.to_owned(),
            categories: bits.sum(),
            container,
            is_hidden: container.is_some() && one.has(Flag::System),
        }
    };
    let mut entries = vec![entry(row, None)];
    if let Kind::Container(rows) = row.kind {
        let shown = rows.iter().filter(|sub| sub.number != row.number);
        entries.extend(shown.map(|sub| entry(sub, Some(row.number))));
    }
    entries
}
