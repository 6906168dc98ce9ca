//! What must hold for every row of every table.

use super::FAMILIES;
use crate::command::{Command, Kind, syntax};

/// Commands whose arity is laxer or stricter than their grammar, because the protocol has it so.
const ARITY_EXCEPTIONS: &[&str] = &["quit", "replconf", "psync", "hotkeys|start"];

fn rows() -> impl Iterator<Item = &'static Command> {
    FAMILIES.iter().flat_map(|family| family.iter())
}

fn subcommands(row: &Command) -> &'static [Command] {
    match row.kind {
        Kind::Container(rows) => rows,
        _ => &[],
    }
}

fn rows_and_subcommands() -> impl Iterator<Item = &'static Command> {
    rows().flat_map(|row| std::iter::once(row).chain(subcommands(row)))
}

#[test]
fn names_are_lower_case_and_unique() {
    let mut names: Vec<_> = rows_and_subcommands().map(|row| row.name).collect();
    assert!(
        names
            .iter()
            .all(|name| !name.contains(|c: char| c.is_ascii_uppercase()))
    );
    names.sort_unstable();
    assert!(names.windows(2).all(|pair| pair[0] != pair[1]));
}

#[test]
fn every_row_says_what_the_command_is() {
    for row in rows() {
        assert!(!row.group.is_empty(), "{} has no group", row.name);
    }
    for row in rows_and_subcommands() {
        let (since, complexity, summary) = row.about;
        assert!(since.split('.').count() == 3, "{} has no version", row.name);
        assert!(!complexity.is_empty(), "{} has no complexity", row.name);
        assert!(summary.ends_with('.'), "{} has no summary", row.name);
    }
}

#[test]
fn subcommands_carry_their_container_in_the_name_and_one_of_them_is_help() {
    for row in rows().filter(|row| row.is_container()) {
        let prefix = format!("{}|", row.name);
        let rows = subcommands(row);
        assert!(rows.iter().all(|row| row.name.starts_with(&prefix)), "{}", row.name);
        assert!(rows.iter().any(|row| row.short_name() == "help"), "{}", row.name);
    }
}

#[test]
fn arity_follows_from_the_grammar() {
    let mut exceptions = Vec::new();
    for row in rows_and_subcommands() {
        let arguments = syntax::parse(row.syntax);
        let arguments = arguments.unwrap_or_else(|| panic!("{}: {}", row.name, row.syntax));
        let (least, is_fixed) = syntax::n_arguments(&arguments);
        let n_names = row.name.split('|').count();
        let least = i32::try_from(least + n_names).expect("few arguments");
        let arity = if is_fixed { least } else { -least };
        if !row.is_container() && row.arity != arity {
            exceptions.push(row.name);
        }
    }
    assert_eq!(exceptions, ARITY_EXCEPTIONS);
}
