//! HELP of the commands with subcommands, made from the table.

use super::{AdminCtx, Args, Command, Kind, syntax};
use crate::error::Result;
use resp::reply::Reply;

/// The handler of every `HELP`: the container is the first half of the command's name.
pub fn help(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let container = args.name().split('|').next().unwrap_or_default();
    // By the name of its row: `rename-command` may have given it another.
    let mut rows = ctx.commands.values();
    let lines = rows
        .find(|row| row.name == container)
        .map_or_else(Vec::new, |row| lines(row));
    reply.array(lines.len());
    for line in &lines {
        reply.simple(line);
    }
    Ok(())
}

/// The subcommands of a container, each with its arguments and what it is for.
pub fn lines(container: &Command) -> Vec<String> {
    let Kind::Container(rows) = container.kind else {
        return Vec::new();
    };
    let name = container.name.to_ascii_uppercase();
    let mut lines = vec![format!(
        "{name} <subcommand> [<arg> [value] [opt] ...]. Subcommands are:"
    )];
    if let Some(alone) = container.alone {
        lines.extend([
            "(no subcommand)".to_owned(),
            format!("    {}", alone.about.2),
        ]);
    }
    let is_help = |row: &&Command| row.short_name() == "help";
    let others = rows.iter().filter(|row| !is_help(row));
    for row in others.chain(rows.iter().filter(is_help)) {
        let arguments = syntax::parse(row.syntax).unwrap_or_default();
        let arguments = syntax::manual(&arguments, &|name| format!("<{name}>"));
        let line = format!("{} {arguments}", row.short_name().to_ascii_uppercase());
        lines.extend([line.trim_end().to_owned(), format!("    {}", row.about.2)]);
    }
    lines
}
