//! The HELP subcommand of a container, from the rows of its subcommands.

use crate::command::Command;
use resp::reply::Reply;

/// Answers a line for each subcommand with what it takes, and a line with what it does.
pub fn answer(container: &str, rows: &[Command], reply: &mut Reply<'_>) {
    let rows = rows.iter().filter(|row| row.name != "help");
    let mut lines = vec![format!(
        "{container} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    )];
    for row in rows {
        let name = row.name.to_ascii_uppercase();
        lines.push(format!("{name} {}", row.syntax).trim_end().to_owned());
        lines.push(format!("    {}", row.about.2));
    }
    lines.push("HELP".to_owned());
    lines.push("    Print this help.".to_owned());
    reply.array(lines.len());
    for line in lines {
        reply.simple(&line);
    }
}
