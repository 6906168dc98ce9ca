//! Compares a server's command table with a reference list of facts about commands.
//!
//! Both sides become the same flat text, a line per fact, so that a difference is a line that only
//! one of them has. Not compared: summaries, complexity beyond its terms, and the versions in
//! which single arguments came, which our table does not keep.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use client::connection::Connection;
use resp::decode::Value;
use serde_json::Value as Json;

use crate::transcripts::{REPLY_TIMEOUT, parse_endpoint};

/// The version whose commands are compared, and those that others are compared with that it lacks.
const REFERENCES: &[&str] = &["redis_8.2", "redis_8.10", "valkey_9.1"];

/// Beginnings of the arguments that we have beyond the reference, as COMPAT.md says.
const BEYOND: &[(&str, &str)] = &[
    ("geosearch", "argument.2.2"),
    ("hsetex", "argument.2.3"),
    ("hsetex", "argument.2.4"),
    ("geosearchstore", "argument.3.2"),
    ("set", "argument.2.2 ifeq-value"),
    ("set", "argument.2.3 ifne-value"),
    ("set", "argument.2.4 ifdeq-digest"),
    ("set", "argument.2.5 ifdne-digest"),
    ("zscan", "argument.4 noscores pure-token token \"NOSCORES\" optional"),
];

/// Facts about each command, by its full lower-case name.
type Facts = BTreeMap<String, BTreeSet<String>>;

/// Runs the task with its arguments.
pub fn run(args: Vec<String>) -> Result<(), String> {
    let [flag, reference, endpoint] = &args[..] else {
        return Err("commands needs --against commands.json HOST:PORT".to_owned());
    };
    if flag != "--against" {
        return Err(format!("what is {flag}?"));
    }
    let expected = reference_facts(reference)?;
    let found = server_facts(endpoint)?;
    let mut n_differences = 0;
    for (name, facts) in &found {
        let Some(expected) = expected.get(name) else {
            println!("{name}: not in the reference");
            n_differences += 1;
            continue;
        };
        for fact in expected.difference(facts) {
            println!("{name}: - {fact}");
            n_differences += 1;
        }
        let is_beyond = |fact: &&String| {
            BEYOND
                .iter()
                .any(|(command, start)| name == command && fact.starts_with(start))
        };
        for fact in facts.difference(expected).filter(|fact| !is_beyond(fact)) {
            println!("{name}: + {fact}");
            n_differences += 1;
        }
    }
    let missing: Vec<_> = expected
        .keys()
        .filter(|name| !found.contains_key(*name))
        .map(String::as_str)
        .collect();
    println!("not there: {}", missing.join(" "));
    println!("{} commands, {n_differences} differences", found.len());
    match n_differences {
        0 => Ok(()),
        _ => Err("the command table differs".to_owned()),
    }
}

fn reference_facts(path: &str) -> Result<Facts, String> {
    let text = fs::read_to_string(path).map_err(|error| format!("{path}: {error}"))?;
    let json: Json = serde_json::from_str(&text).map_err(|error| format!("{path}: {error}"))?;
    let commands = json["commands"].as_array().ok_or("no list of commands")?;
    let mut facts = Facts::new();
    for reference in REFERENCES {
        let there = commands
            .iter()
            .filter(|command| command["in"][*reference] == true);
        for command in there {
            facts
                .entry(name_of(command))
                .or_insert_with(|| facts_of(command));
        }
    }
    Ok(facts)
}

fn name_of(command: &Json) -> String {
    text(&command["name"])
        .to_ascii_lowercase()
        .replace(' ', "|")
}

fn text(json: &Json) -> &str {
    json.as_str().unwrap_or_default()
}

fn list(json: &Json) -> &[Json] {
    json.as_array().map_or(&[], Vec::as_slice)
}

fn facts_of(command: &Json) -> BTreeSet<String> {
    let mut facts = BTreeSet::new();
    for name in ["arity", "first_key", "last_key", "step"] {
        facts.insert(format!("{name} {}", command[name]));
    }
    for (name, field) in [
        ("flag", "flags"),
        ("category", "acl_categories"),
        ("tip", "tips"),
        ("doc flag", "doc_flags"),
    ] {
        let words = list(&command[field]).iter();
        facts.extend(words.map(|word| format!("{name} {}", text(word))));
    }
    for (at, spec) in list(&command["key_specs"]).iter().enumerate() {
        let flags: BTreeSet<_> = list(&spec["flags"]).iter().map(text).collect();
        facts.insert(format!("keys {at} flags {flags:?}"));
        for part in ["begin_search", "find_keys"] {
            let json = &spec[part];
            let fields = json["spec"].as_object().cloned().unwrap_or_default();
            facts.insert(format!("keys {at} {part} {} {fields:?}", text(&json["type"])));
        }
    }
    let since = &command["since"];
    let since = since["redis"]
        .as_str()
        .or(since["valkey"].as_str())
        .unwrap_or_default();
    facts.insert(format!("since {since}"));
    facts.insert(format!("group {}", text(&command["group"])));
    if let Some(since) = command["deprecated_since"].as_str() {
        facts.insert(format!("deprecated_since {since}"));
    }
    facts.extend(
        list(&command["complexity"])
            .first()
            .map(|term| complexity(text(term))),
    );
    arguments(list(&command["arguments"]), "argument", &mut facts);
    facts
}

/// The first term of a complexity, which is all that is compared.
fn complexity(line: &str) -> String {
    let mut depth = 0;
    let end = line.find(|letter| {
        depth += i32::from(letter == '(') - i32::from(letter == ')');
        letter == ')' && depth == 0
    });
    format!("complexity {}", &line[..end.map_or(line.len(), |end| end + 1)])
}

fn arguments(list_of: &[Json], path: &str, facts: &mut BTreeSet<String>) {
    for (at, argument) in list_of.iter().enumerate() {
        let path = format!("{path}.{at}");
        let mut line = format!("{path} {} {}", text(&argument["name"]), text(&argument["type"]));
        for field in ["token", "key_spec_index"] {
            if !argument[field].is_null() {
                line += &format!(" {field} {}", argument[field]);
            }
        }
        for field in ["optional", "multiple", "multiple_token"] {
            if argument[field] == true {
                line += &format!(" {field}");
            }
        }
        facts.insert(line);
        arguments(list(&argument["arguments"]), &path, facts);
    }
}

fn server_facts(endpoint: &str) -> Result<Facts, String> {
    let endpoint = parse_endpoint(Some(endpoint.to_owned()))?;
    let failed = |error| format!("{endpoint}: {error}");
    let mut connection = Connection::open(&endpoint, Some(REPLY_TIMEOUT)).map_err(failed)?;
    connection.hello(3).map_err(failed)?;
    let mut described = BTreeMap::new();
    collect_info(&json_of(&connection.call(&["COMMAND"]).map_err(failed)?), &mut described);
    let docs = connection.call(&["COMMAND", "DOCS"]).map_err(failed)?;
    collect_docs(&json_of(&docs), &mut described);
    Ok(described
        .iter()
        .map(|(name, command)| (name.clone(), facts_of(command)))
        .collect())
}

/// A reply in the terms of JSON; sets become arrays.
fn json_of(value: &Value) -> Json {
    match value {
        Value::Simple(text) | Value::Bulk(text) | Value::Error(text) => {
            String::from_utf8_lossy(text).into_owned().into()
        }
        Value::Int(number) => (*number).into(),
        Value::Array(inner) | Value::Set(inner) => inner.iter().map(json_of).collect(),
        Value::Map(pairs) => {
            let pairs = pairs.iter().map(|(name, value)| {
                let name = json_of(name);
                (text(&name).to_owned(), json_of(value))
            });
            Json::Object(pairs.collect())
        }
        _ => Json::Null,
    }
}

/// Entries of COMMAND, in the shape of the reference.
fn collect_info(entries: &Json, described: &mut BTreeMap<String, Json>) {
    for entry in list(entries) {
        let categories: Json = list(&entry[6])
            .iter()
            .map(|name| text(name).trim_start_matches('@').to_owned())
            .collect();
        let command = serde_json::json!({
            "arity": entry[1], "flags": entry[2], "acl_categories": categories,
            "first_key": entry[3], "last_key": entry[4], "step": entry[5],
            "tips": entry[7], "key_specs": entry[8],
        });
        described.insert(text(&entry[0]).to_owned(), command);
        collect_info(&entry[9], described);
    }
}

/// Entries of COMMAND DOCS, added to those of COMMAND.
fn collect_docs(entries: &Json, described: &mut BTreeMap<String, Json>) {
    for (name, entry) in entries.as_object().into_iter().flatten() {
        let Some(command) = described.get_mut(name) else {
            continue;
        };
        command["since"] = serde_json::json!({ "redis": entry["since"] });
        let terms: Vec<_> = entry["complexity"]
            .as_str()
            .filter(|line| line.starts_with("O("))
            .into_iter()
            .collect();
        command["complexity"] = serde_json::json!(terms);
        for field in ["group", "doc_flags", "deprecated_since"] {
            command[field] = entry[field].clone();
        }
        command["arguments"] = list(&entry["arguments"])
            .iter()
            .map(plain_argument)
            .collect();
        collect_docs(&entry["subcommands"], described);
    }
}

/// An argument with its flags as fields, as in the reference.
fn plain_argument(argument: &Json) -> Json {
    let mut plain = argument.clone();
    for flag in list(&argument["flags"]) {
        plain[text(flag)] = true.into();
    }
    plain["arguments"] = list(&argument["arguments"])
        .iter()
        .map(plain_argument)
        .collect();
    plain
}
