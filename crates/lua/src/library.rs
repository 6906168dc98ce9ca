//! A library's source: its first line, and what it registers when it loads.
//!
//! The first line is `#!lua name=mylib`; it is not part of the program, but counts in line numbers.

use mlua::{Function, Result, Table};

use crate::script::ScriptFlags;

/// What a library's first line says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Header {
    /// The library's name.
    pub name: Vec<u8>,
}

/// A function that a library has registered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its name.
    pub name: Vec<u8>,
    /// What it is for.
    pub description: Option<Vec<u8>>,
    /// What it promises.
    pub flags: ScriptFlags,
}

/// Reads the first line of a library. The error is a whole error line without its dash.
pub fn header(source: &[u8]) -> std::result::Result<Header, Vec<u8>> {
    let error = |text: &str| Err(text.as_bytes().to_vec());
    let Some(rest) = source.strip_prefix(b"#!") else {
        return error("ERR Missing library metadata");
    };
    let end = rest.iter().position(|byte| *byte == b'\n');
    let words = end.and_then(|end| split(&rest[..end]));
    let Some(words) = words else {
        return error("ERR Invalid library metadata");
    };
    let (engine, words) = match words.split_first() {
        Some((engine, words)) if !rest.starts_with(b" ") => (&engine[..], words),
        _ => (&b""[..], &words[..]),
    };
    let mut name = None;
    for word in words {
        let is_name = word
            .get(..5)
            .is_some_and(|start| start.eq_ignore_ascii_case(b"name="));
        if !is_name {
            return Err([b"ERR Invalid metadata value given: ", &word[..]].concat());
        }
        if name.replace(word[5..].to_vec()).is_some() {
            return error("ERR Invalid metadata value, name argument was given multiple times");
        }
    }
    let Some(name) = name else {
        return error("ERR Library name was not given");
    };
    if name.is_empty()
        || !name
            .iter()
            .all(|byte| byte.is_ascii_alphanumeric() || *byte == b'_')
    {
        return error(
            "ERR Library names can only contain letters, numbers, or underscores(_) and must be at \
             least one character long",
        );
    }
    if !engine.eq_ignore_ascii_case(b"lua") {
        return Err([b"ERR Engine '", engine, b"' not found"].concat());
    }
    Ok(Header { name })
}

fn split(line: &[u8]) -> Option<Vec<Vec<u8>>> {
    stdx::quoting::split(line).ok()
}

/// Reads one element of what the prelude has gathered while a library loaded.
pub(crate) fn registered(entry: &Table) -> Result<(Registered, Function)> {
    let text = |name: &str| -> Result<Option<Vec<u8>>> {
        let text: Option<mlua::LuaString> = entry.raw_get(name)?;
        Ok(text.map(|text| text.as_bytes().to_vec()))
    };
    let mut flags = ScriptFlags::default();
    if let Some(names) = entry.raw_get::<Option<Table>>("flags")? {
        for name in names.sequence_values::<mlua::LuaString>() {
            let _ = flags.set(&name?.as_bytes()); // the prelude knows the names
        }
    }
    let function = Registered {
        name: text("function_name")?.unwrap_or_default(),
        description: text("description")?,
        flags,
    };
    Ok((function, entry.raw_get("callback")?))
}
