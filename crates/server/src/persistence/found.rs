//! Which files of the append-only file are to be loaded, at the start or by DEBUG LOADAOF.
//!
//! A single file of the kind that Redis wrote before version 7 becomes the base: a manifest that names
//! it is written first, then it moves into the folder, so that an upgrade that was interrupted between
//! the two goes on at the next start.

use std::fs;
use std::path::PathBuf;

use super::append::{self, n_file_bytes};
use crate::aof::manifest::{Manifest, Part, Place};
use crate::error::reason;
use crate::state::State;

/// The files to load, in order.
#[derive(Debug, Default)]
pub struct Found {
    /// Their paths and names.
    pub parts: Vec<(PathBuf, String)>,
    /// Bytes of all of them.
    pub n_bytes: u64,
}

/// Looks for the files. The error is for the operator.
pub fn find(state: &State) -> Result<Found, String> {
    let place = append::place(state);
    let mut manifest = Manifest::read(&place)?.unwrap_or_default();
    if let Some(old) = old_file(&place, &manifest) {
        upgrade(&place, &old, &mut manifest)?;
    }
    let parts = manifest.parts().map(|part: &Part| {
        let path = place.path(&part.name);
        let (name, found) = (part.name.clone(), fs::metadata(&path));
        let found = found
            .map_err(|error| format!("The AOF file {name} cannot be opened: {}", reason(&error)));
        found.map(|facts| (path, name, facts.len()))
    });
    let mut found = Found::default();
    for part in parts {
        let (path, name, n_bytes) = part?;
        found.parts.push((path, name));
        found.n_bytes += n_bytes;
    }
    let mut files = state.aof.files();
    files.place = place;
    files.manifest = Some(manifest);
    Ok(found)
}

/// A file of the old kind that the manifest does not speak of, or that it names and that has not moved.
fn old_file(place: &Place, manifest: &Manifest) -> Option<PathBuf> {
    let old = place.folder.parent()?.join(&place.name);
    let is_awaited = match &manifest.base {
        None => manifest.is_empty() && manifest.history.is_empty(),
        Some(base) => {
            let is_alone = manifest.increments.is_empty() && manifest.history.is_empty();
            is_alone && base.name == place.name && !place.path(&base.name).exists()
        }
    };
    (is_awaited && old.is_file()).then_some(old)
}

fn upgrade(place: &Place, old: &std::path::Path, manifest: &mut Manifest) -> Result<(), String> {
    let told = |error: std::io::Error| {
        format!("Cannot move the old AOF file into its folder: {}", reason(&error))
    };
    append::make_folder(place)?;
    *manifest = Manifest::of_old_file(&place.name);
    manifest.write(place).map_err(told)?;
    fs::rename(old, place.path(&place.name)).map_err(told)?;
    // Both folders are synced before a manifest speaks of more than this file.
    log::info!(
        "Successfully migrated an old-style AOF configuration ({}) into the AOF directory ({}): {} \
         bytes.",
        place.name,
        place.folder.display(),
        n_file_bytes(&place.path(&place.name)),
    );
    Ok(())
}
