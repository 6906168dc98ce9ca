//! The places where the server waits for the disk, as the record shows them.

use super::disk::{Call, Entry};

/// Why a sync is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Site {
    /// Commands in an increment of the append-only file.
    Increment,
    /// The rest of an increment, before the next one is written to.
    IncrementBeforeNext,
    /// The end of a file was cut off when it was loaded.
    Cut,
    /// A base of the append-only file, before it is named.
    Base,
    /// The manifest, before it takes the place of the old one.
    Manifest,
    /// The names that a manifest is about to speak of.
    NamesBeforeManifest,
    /// The name of the manifest itself.
    NameOfManifest,
    /// The name of the folder of the append-only file.
    NameOfFolder,
    /// That the file of an old server has left its place.
    NameOfOldFile,
    /// A snapshot, before it is named.
    Snapshot,
    /// The name of a snapshot.
    NameOfSnapshot,
    /// The configuration file, before it takes the place of the old one.
    Settings,
    /// The name of the configuration file.
    NameOfSettings,
}

/// What the sync at this place of a record is for; `None` if the entry is no sync.
pub fn of(record: &[Entry], at: usize) -> Option<Site> {
    let Call::Synced { path, node, .. } = &record[at].call else {
        return None;
    };
    let is_cut = || {
        let before = record[..at]
            .iter()
            .rev()
            .find_map(|entry| match &entry.call {
                Call::Cut { node: of, .. } if of == node => Some(true),
                Call::Written { node: of, .. } if of == node => Some(false),
                _ => None,
            });
        before == Some(true)
    };
    Some(match path.as_str() {
        "" => last_change(record, at, |path| !path.contains('/')),
        "appendonlydir" => last_change(record, at, |path| path.starts_with("appendonlydir/")),
        path if path.contains("temp-rewriteaof") => Site::Base,
        path if path.ends_with(".manifest") => Site::Manifest,
        path if path.ends_with(".rdb") => Site::Snapshot,
        path if path.contains("minium.conf") => Site::Settings,
        _ if is_cut() => Site::Cut,
        path if has_next(&record[..at], path) => Site::IncrementBeforeNext,
        path if path.contains("appendonlydir/") => Site::Increment,
        path => panic!("a sync of {path} that no site knows"),
    })
}

/// The number of an increment.
fn number(path: &str) -> Option<u64> {
    let stem = path.strip_suffix(".incr.aof")?;
    stem.rsplit('.').next()?.parse().ok()
}

/// Whether an increment behind this one was made.
fn has_next(record: &[Entry], path: &str) -> bool {
    let Some(own) = number(path) else {
        return false;
    };
    record.iter().any(|entry| match &entry.call {
        Call::Created { path: other, .. } => number(other) > Some(own),
        _ => false,
    })
}

/// What happened last to the names in a folder tells why it is synced.
fn last_change(record: &[Entry], at: usize, is_within: impl Fn(&str) -> bool) -> Site {
    let last = record[..at]
        .iter()
        .rev()
        .find_map(|entry| match &entry.call {
            Call::FolderMade { path } => (path == "appendonlydir").then_some(Site::NameOfFolder),
            Call::Renamed { from, to } if is_within(from) || is_within(to) => Some(match &**to {
                to if to.ends_with(".manifest") => Site::NameOfManifest,
                to if to.contains("minium.conf") => Site::NameOfSettings,
                to if !to.contains('/') => Site::NameOfSnapshot,
                _ if !from.contains('/') => Site::NameOfOldFile,
                _ => Site::NamesBeforeManifest,
            }),
            Call::Created { path, .. } | Call::Removed { path }
                if path.starts_with("appendonlydir/") =>
            {
                is_within(path).then_some(Site::NamesBeforeManifest)
            }
            _ => None,
        });
    last.unwrap_or(Site::NamesBeforeManifest)
}
