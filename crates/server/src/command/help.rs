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

#[cfg(test)]
mod tests {
    use super::*;

    fn nothing(_: &mut AdminCtx<'_>, _: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
        Ok(())
    }

    #[test]
    fn help_lists_the_subcommands_with_their_arguments_and_itself_last() {
        const ROWS: &[Command] = &[
            Command::help("box|help"),
            Command::admin("box|open", -3, nothing)
                .syntax("key [WITH tool ...]")
                .about("1.0.0", "O(1)", "Opens a box."),
        ];
        const ALONE: Command =
            Command::admin("box", -1, nothing).about("1.0.0", "O(1)", "Counts boxes.");
        let container = Command::container("box", ROWS).alone(&ALONE);
        assert_eq!(
            lines(&container),
            [
                "BOX <subcommand> [<arg> [value] [opt] ...]. Subcommands are:",
                "(no subcommand)",
                "    Counts boxes.",
                "OPEN <key> [WITH <tool> [<tool> ...]]",
                "    Opens a box.",
                "HELP",
                "    Prints this help.",
            ]
        );
    }
}
