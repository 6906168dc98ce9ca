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
        let n_rows = families.iter().map(|family| family.len()).sum();
        let mut rows = Vec::with_capacity(n_rows);
        let all = families.iter().flat_map(|family| family.iter());
        rows.extend(all.map(|row| numbered(row, &mut names)));
        Table {
            rows: rows.leak(),
            names,
        }
    }
}

fn numbered(row: &Command, names: &mut Vec<String>) -> Command {
    let mut row = *row;
    row.number = names.len() as u16;
    names.push(row.name.to_owned());
    if let Kind::Container(rows) = row.kind {
        let rows: Vec<Command> = rows.iter().map(|row| numbered(row, names)).collect();
        row.kind = Kind::Container(rows.leak());
    }
    if let Some(alone) = row.alone {
        let mut alone = *alone;
        alone.number = row.number; // it goes by the container's name
        row.alone = Some(Box::leak(Box::new(alone)));
    }
    row
}
