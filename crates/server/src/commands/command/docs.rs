//! COMMAND DOCS: what a command is for, and its arguments as a tree.

use super::{find, sorted};
use crate::command::syntax::{self, Argument, Shape};
use crate::command::{AdminCtx, Args, Command, Flag};
use crate::error::Result;
use resp::reply::Reply;

pub fn docs(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let rows: Vec<_> = match args.is_empty() {
        true => sorted(ctx.commands)
            .into_iter()
            .map(|row| (row, row.group))
            .collect(),
        false => args
            .rest()
            .filter_map(|name| find(ctx.commands, name))
            .collect(),
    };
    reply.map(rows.len());
    for (row, group) in rows {
        reply.bulk(row.name.as_bytes());
        document(row, group, reply);
    }
    Ok(())
}

fn document(row: &Command, group: &str, reply: &mut Reply<'_>) {
    let (since, complexity, summary) = row.about;
    let arguments = syntax::parse(row.syntax).unwrap_or_default();
    let map = reply.map_later();
    let mut n = 0;
    let mut texts = vec![("summary", summary), ("since", since), ("group", group)];
    texts.push(("complexity", complexity));
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        n += text_field(name, text, reply);
    }
    n += doc_flags(row, reply);
    if let Some((since, replaced_by)) = row.deprecated {
        n += text_field("deprecated_since", since, reply);
        n += text_field("replaced_by", replaced_by, reply);
    }
    if !arguments.is_empty() {
        reply.bulk(b"arguments");
        let mut keys = KeySpecs {
            n_specs: row.key_runs().len(),
            n_used: 0,
        };
        tree(&arguments, &mut keys, reply);
        n += 1;
    }
    let subcommands = row.subcommands();
    if !subcommands.is_empty() {
        reply.bulk(b"subcommands");
        reply.map(subcommands.len());
        for row in subcommands {
            reply.bulk(row.name.as_bytes());
            document(row, group, reply);
        }
        n += 1;
    }
    reply.finish(map, n);
}

fn text_field(name: &str, text: &str, reply: &mut Reply<'_>) -> usize {
    reply.bulk(name.as_bytes());
    reply.bulk(text.as_bytes());
    1
}

fn doc_flags(row: &Command, reply: &mut Reply<'_>) -> usize {
    let is_internal = row.has(Flag::System) || row.has(Flag::Undocumented);
    let flag = match (row.deprecated, is_internal) {
        (Some(_), _) => "deprecated",
        (None, true) => "syscmd",
        (None, false) => return 0,
    };
    reply.bulk(b"doc_flags");
    reply.set(1);
    reply.simple(flag);
    1
}

/// Which key specification the next key argument belongs to: the first key has one of its own.
struct KeySpecs {
    n_specs: usize,
    n_used: usize,
}

impl KeySpecs {
    fn next(&mut self) -> usize {
        let at = self.n_used.min(self.n_specs.saturating_sub(1));
        self.n_used += 1;
        at
    }

    /// The patterns that make keys share the second one.
    fn of_patterns(&mut self) -> usize {
        self.n_used = 2;
        1
    }
}

fn tree(arguments: &[Argument], keys: &mut KeySpecs, reply: &mut Reply<'_>) {
    reply.array(arguments.len());
    for argument in arguments {
        node(argument, keys, reply);
    }
}

fn node(argument: &Argument, keys: &mut KeySpecs, reply: &mut Reply<'_>) {
    let map = reply.map_later();
    let mut n = text_field("name", &argument.name, reply);
    n += text_field("type", argument.shape.name(), reply);
    if matches!(argument.shape, Shape::Value(_) | Shape::PureToken) {
        n += text_field("display_text", &argument.name, reply);
    }
    let key_spec = match argument.shape {
        Shape::Value("key") => Some(keys.next()),
        Shape::Value("pattern") if argument.name != "pattern" => Some(keys.of_patterns()),
        _ => None,
    };
    if let Some(at) = key_spec {
        reply.bulk(b"key_spec_index");
        reply.count(at);
        n += 1;
    }
    if let Some(token) = &argument.token {
        n += text_field("token", token, reply);
    }
    let flags = [
        (argument.is_optional, "optional"),
        (argument.is_multiple, "multiple"),
        (argument.repeats_token, "multiple_token"),
    ];
    if flags.iter().any(|(holds, _)| *holds) {
        reply.bulk(b"flags");
        super::simple_set(
            flags
                .iter()
                .filter(|(holds, _)| *holds)
                .map(|(_, name)| *name),
            reply,
        );
        n += 1;
    }
    if !argument.shape.inner().is_empty() {
        reply.bulk(b"arguments");
        tree(argument.shape.inner(), keys, reply);
        n += 1;
    }
    reply.finish(map, n);
}
