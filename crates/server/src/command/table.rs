//! The rows of all families, each with the number under which statistics count it.

use crate::command::{Command, Kind};

/// See the top of the file.
pub struct Table {
    /// Every command.
    pub rows: &'static [Command],
    /// Full names (`config|get`) by number; a container has a number too.
    pub names: Vec<String>,
}

impl Table {
    /// Numbers the rows. They stay for the life of the process.
    pub fn new(families: &[&'static [Command]]) -> Table {
        let mut names = Vec::new();
        let rows = families
            .iter()
            .flat_map(|family| family.iter())
            .map(|row| numbered(row, "", &mut names))
            .collect::<Vec<_>>();
        Table {
            rows: rows.leak(),
            names,
        }
    }
}

fn numbered(row: &Command, prefix: &str, names: &mut Vec<String>) -> Command {
    let mut row = *row;
    let full_name = format!("{prefix}{}", row.name);
    row.number = names.len() as u16;
    if let Kind::Container(rows) = row.kind {
        let prefix = format!("{full_name}|");
        names.push(full_name);
        let rows: Vec<Command> = rows
            .iter()
            .map(|row| numbered(row, &prefix, names))
            .collect();
        row.kind = Kind::Container(rows.leak());
    } else {
        names.push(full_name);
    }
    row
}
