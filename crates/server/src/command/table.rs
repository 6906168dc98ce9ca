//! The rows of all families, each with the number under which statistics count it.
//!
//! The compiler numbers them, so the tables are data of the program, and a server at rest holds one copy.

use crate::acl::catalogue::{Catalogue, Entry};
use crate::command::traits::{CATEGORIES, CATEGORY_NAMES};
use crate::command::{Command, Flag, Kind};

/// See the top of the file.
pub struct Table {
    /// Every command.
    pub rows: &'static [Command],
    /// Full names (`config|get`) by number; a container has a number too.
    pub names: Vec<&'static str>,
    /// What access control knows of them.
    pub catalogue: Catalogue,
}

impl Table {
    /// What follows from numbered rows.
    pub fn new(rows: &'static [Command]) -> Table {
        let entries: Vec<Entry> = rows.iter().flat_map(entries).collect();
        let mut names = Vec::with_capacity(entries.len());
        for row in rows {
            names.push(row.name);
            names.extend(shown(row).map(|sub| sub.name));
        }
        Table {
            rows,
            names,
            catalogue: Catalogue::new(entries, CATEGORY_NAMES),
        }
    }
}

/// How many rows the families have together.
pub const fn n_rows(families: &[&[Command]]) -> usize {
    let (mut n, mut at) = (0, 0);
    while at < families.len() {
        n += families[at].len();
        at += 1;
    }
    n
}

/// How many rows those rows lead to: subcommands, and what containers do alone.
pub const fn n_below(families: &[&[Command]]) -> usize {
    let (mut n, mut at) = (0, 0);
    while at < families.len() {
        let mut row = 0;
        while row < families[at].len() {
            n += below(&families[at][row]).len() + families[at][row].alone.is_some() as usize;
            row += 1;
        }
        at += 1;
    }
    n
}

/// The subcommands of a row.
const fn below(row: &Command) -> &'static [Command] {
    match row.kind {
        Kind::Container(rows) => rows,
        _ => &[],
    }
}

/// Subcommands of such a row are counted under its name.
const fn is_hidden(row: &Command) -> bool {
    let mut at = 0;
    while at < row.flags.len() {
        if matches!(row.flags[at], Flag::System) {
            return true;
        }
        at += 1;
    }
    false
}

/// How many numbers a row takes.
const fn n_numbers(row: &Command) -> u16 {
    match is_hidden(row) {
        true => 1,
        false => 1 + below(row).len() as u16,
    }
}

/// The rows below those of the families, numbered; [`numbered`] says where whose are.
pub const fn numbered_below<const N: usize>(families: &[&[Command]]) -> [Command; N] {
    let mut all = [*first(families); N];
    let (mut n, mut number, mut at) = (0, 0, 0);
    while at < families.len() {
        let mut row_at = 0;
        while row_at < families[at].len() {
            let row = &families[at][row_at];
            let mut sub_at = 0;
            while sub_at < below(row).len() {
                all[n] = below(row)[sub_at];
                all[n].number = number + if is_hidden(row) { 0 } else { 1 + sub_at as u16 };
                n += 1;
                sub_at += 1;
            }
            if let Some(alone) = row.alone {
                all[n] = *alone;
                all[n].number = number; // it goes by the container's name
                n += 1;
            }
            number += n_numbers(row);
            row_at += 1;
        }
        at += 1;
    }
    all
}

/// The rows of the families, numbered, and leading to numbered ones.
pub const fn numbered<const N: usize>(
    families: &[&[Command]],
    mut rest: &'static [Command],
) -> [Command; N] {
    let mut all = [*first(families); N];
    let (mut n, mut number, mut at) = (0, 0, 0);
    while at < families.len() {
        let mut row_at = 0;
        while row_at < families[at].len() {
            let row = &families[at][row_at];
            all[n] = *row;
            all[n].number = number;
            if let Kind::Container(rows) = row.kind {
                let (own, others) = rest.split_at(rows.len());
                all[n].kind = Kind::Container(own);
                rest = others;
            }
            if row.alone.is_some() {
                all[n].alone = Some(&rest[0]);
                rest = rest.split_at(1).1;
            }
            number += n_numbers(row);
            n += 1;
            row_at += 1;
        }
        at += 1;
    }
    all
}

const fn first<'a>(families: &[&'a [Command]]) -> &'a Command {
    &families[0][0]
}

/// The subcommands of a row that have a number of their own.
fn shown(row: &Command) -> impl Iterator<Item = &'static Command> {
    let number = row.number;
    below(row).iter().filter(move |sub| sub.number != number)
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
    entries.extend(shown(row).map(|sub| entry(sub, Some(row.number))));
    entries
}
