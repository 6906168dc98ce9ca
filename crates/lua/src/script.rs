//! The source of a script: its name in the cache, and the flags of its first line.
//!
//! A script may begin with `#!lua flags=no-writes,allow-stale`; the line is not part of the program,
//! but it counts in line numbers.

/// What `flags=` of a script's first line says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScriptFlags {
    /// It never writes.
    pub no_writes: bool,
    /// It may run when memory is full.
    pub allow_oom: bool,
    /// It may run on a replica that is out of date.
    pub allow_stale: bool,
    /// It may not run in cluster mode.
    pub no_cluster: bool,
    /// It may touch keys of several slots.
    pub allow_cross_slot_keys: bool,
}

/// Reads the first line of a script. `None` means there is no `#!` line, and so nothing is promised.
/// The error is a whole error line without its dash.
pub fn flags(source: &[u8]) -> Result<Option<ScriptFlags>, Vec<u8>> {
    if !source.starts_with(b"#!") {
        return Ok(None);
    }
    let end = source.iter().position(|byte| *byte == b'\n');
    let end = end.ok_or(b"ERR Invalid script shebang")?;
    let mut words = source[..end].split(|byte| byte.is_ascii_whitespace());
    let engine = words.next().unwrap_or_default();
    if engine != b"#!lua" {
        return Err([b"ERR Unexpected engine in script shebang: ", engine].concat());
    }
    let mut flags = ScriptFlags::default();
    for word in words.filter(|word| !word.is_empty()) {
        let Some(list) = word.strip_prefix(b"flags=") else {
            return Err([b"ERR Unknown lua shebang option: ", word].concat());
        };
        for flag in list
            .split(|byte| *byte == b',')
            .filter(|flag| !flag.is_empty())
        {
            flags.set(flag)?;
        }
    }
    Ok(Some(flags))
}

impl ScriptFlags {
    /// The names of the flags that are set.
    pub fn names(&self) -> impl Iterator<Item = &'static str> {
        [
            (self.no_writes, "no-writes"),
            (self.allow_oom, "allow-oom"),
            (self.allow_stale, "allow-stale"),
            (self.no_cluster, "no-cluster"),
            (self.allow_cross_slot_keys, "allow-cross-slot-keys"),
        ]
        .into_iter()
        .filter_map(|(is_set, name)| is_set.then_some(name))
    }

    /// Sets a flag by its name; the error is a whole line.
    pub(crate) fn set(&mut self, flag: &[u8]) -> Result<(), Vec<u8>> {
        match flag {
            b"no-writes" => self.no_writes = true,
            b"allow-oom" => self.allow_oom = true,
            b"allow-stale" => self.allow_stale = true,
            b"no-cluster" => self.no_cluster = true,
            b"allow-cross-slot-keys" => self.allow_cross_slot_keys = true,
            _ => return Err([b"ERR Unexpected flag in script shebang: ", flag].concat()),
        }
        Ok(())
    }
}

/// The program without its `#!` line, whose line end stays so that lines keep their numbers.
pub fn body(source: &[u8]) -> &[u8] {
    if !source.starts_with(b"#!") {
        return source;
    }
    let end = source
        .iter()
        .position(|byte| *byte == b'\n')
        .unwrap_or(source.len());
    &source[end..]
}

/// The SHA-1 of `bytes` as 40 lower-case hexadecimal digits: a script's name.
pub fn sha1_hex(bytes: &[u8]) -> [u8; 40] {
    let digest = sha1_smol::Sha1::from(bytes).digest().to_string();
    let mut name = [0; 40];
    name.copy_from_slice(digest.as_bytes());
    name
}
