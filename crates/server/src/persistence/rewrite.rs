//! BGREWRITEAOF: the data of a moment becomes the base of the append-only file, and what was written
//! before it is no longer needed.
//!
//! ```text
//!   manifest   base 1, incr 1       base 1, incr 1, incr 2              base 2, incr 2
//!   commands   ──► incr 1           ║ cut ──► incr 2 ─────────────────────────────────►
//!   saver                           ║ walk ──► temp-rewriteaof-bg-PID.aof ──► base 2
//! ```
//!
//! At every moment the manifest on the disk names files that make up all that was written: a rewrite
//! that fails, or a process that dies within it, leaves one increment more.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::append::{self, n_file_bytes};
use super::save::{self, Form, Job};
use crate::aof::manifest::Part;
use crate::aof::{Phase, Target};
use crate::error::reason;
use crate::io::durable::forget_pages;
use crate::state::State;

/// Rewrites, on the saver's thread.
pub fn in_background(state: &'static State) {
    state.saving.rewrite_begun();
    log::info!("Background append only file rewriting started");
    let result = rewrite(state);
    match &result {
        Ok(()) => log::info!("Background AOF rewrite finished successfully"),
        Err(reason) => log::warn!("Background AOF rewrite error: {reason}"),
    }
    let is_owed = state.aof.phase() == Phase::Waiting;
    state.saving.owes_rewrite.store(is_owed, Relaxed);
    state.saving.rewrite_ended(result.is_ok());
    if state.aof.phase() == Phase::Waiting && !state.saving.wants_rewrite() {
        state.saving.owes_rewrite.store(true, Relaxed); // asked for between the two
    }
    if result.is_ok() {
        remove_history(state);
    }
}

/// The names of a base while it is written, and until it is named.
pub fn temporary_names() -> [String; 2] {
    ["temp-rewriteaof-bg", "temp-rewriteaof"]
        .map(|prefix| format!("{prefix}-{}.aof", std::process::id()))
}

fn rewrite(state: &'static State) -> Result<(), String> {
    let phase = state.aof.phase();
    let form = Form::of_base(state);
    let is_held_for_this = append::hold(state, &mut state.aof.files())?;
    let next = next_target(state, phase)?;
    let result = rewrite_to(state, phase, (form, next));
    if is_held_for_this && state.aof.phase() == Phase::Off {
        remove_history(state); // while it is held
        let mut files = state.aof.files();
        if state.aof.phase() == Phase::Off {
            files.let_go(); // nobody has switched it on meanwhile
        }
    }
    result
}

fn rewrite_to(
    state: &'static State,
    phase: Phase,
    (form, next): (Form, Option<Arc<Target>>),
) -> Result<(), String> {
    let told = |what: &str, error: &io::Error| format!("{what}: {}", reason(error));
    let (temporary, target) = {
        let files = state.aof.files();
        let [own, whole] = temporary_names();
        let path = |name: &str| files.place.path(name).to_string_lossy().into_owned();
        (path(&own), path(&whole))
    };
    let written = save::walk(
        state,
        Job {
            names: (&temporary, &target),
            syncs_often: state.config.rewrite_syncs_often(),
            form,
            must_stop: &|| state.saving.must_stop_rewrite(),
            at_cut: &mut |n_keys| {
                state.saving.n_saved.store(0, Relaxed);
                state.saving.n_total.store(n_keys, Relaxed);
                if let Some(target) = &next {
                    state.aof.direct(Some(target.clone()));
                    if phase == Phase::Waiting {
                        state.journal.connect(state.aof.reader());
                    }
                }
            },
        },
    );
    let finished = written.and_then(|_| {
        let must_stop = || state.saving.must_stop_rewrite();
        finish(state, (phase, form), &target, &must_stop)
            .map_err(|error| told("the new files", &error))
    });
    if finished.is_err() {
        let _ = fs::remove_file(&target); // it may not be there
        if phase == Phase::Waiting {
            append::stop_waiting(state);
        }
    }
    finished
}

/// Has the snapshot of a primary, which has just become the data, be the base of the append-only file,
/// which is off: nothing is written twice. Every shard is held, and the file is on the disk. False if
/// that cannot be: then a rewrite is wanted, and the file is where it was, or gone.
pub fn adopt(state: &State, snapshot: &Path) -> bool {
    // One that was told to stop, and has not yet, lets go of the journal then.
    if Form::of_base(state) != Form::Base || state.saving.is_rewriting() {
        return false;
    }
    let adopted = adopt_as_base(state, snapshot);
    match &adopted {
        // What a peer would not have in a file has words of its own.
        Ok(()) if state.config.loads_from_disk() => {
            log::info!("Reused RDB file from primary sync as AOF base file");
        }
        Ok(()) => log::info!("The snapshot of the primary is the base of the AOF"),
        Err(reason) => log::warn!("The snapshot cannot be the base of the AOF: {reason}"),
    }
    state.saving.wish_tidy(); // not here: everybody waits
    adopted.is_ok()
}

fn adopt_as_base(state: &State, snapshot: &Path) -> Result<(), String> {
    append::hold(state, &mut state.aof.files())?;
    append::mark_records(state);
    let next = next_target(state, Phase::Waiting)?;
    state.aof.set_phase(Phase::Waiting);
    state.aof.direct(next);
    state.journal.connect(state.aof.reader());
    let form = (Phase::Waiting, Form::Base);
    let finished = finish(state, form, &snapshot.to_string_lossy(), &|| false);
    finished.map_err(|error| {
        append::stop_waiting(state);
        state.aof.set_phase(Phase::Off);
        reason(&error)
    })
}

/// The file for what is written after the cut, if anything is: the next increment, which is in the
/// manifest before anything is in it, or one that stands apart until there is a base.
fn next_target(state: &State, phase: Phase) -> Result<Option<Arc<Target>>, String> {
    let mut files = state.aof.files();
    append::know_manifest(state, &mut files)?;
    let place = files.place.clone();
    let told = |error: io::Error| format!("cannot open the next file: {}", reason(&error));
    match phase {
        Phase::Off => Ok(None),
        Phase::Waiting => {
            let path = place.path(&place.temporary_increment());
            Target::create(&path).map(Some).map_err(told) // what an earlier try has left is gone
        }
        Phase::On => {
            if !files.need_base() {
                drop(files);
                state.aof.sync_aside(); // so that little is left to be synced at the cut
                files = state.aof.files();
            }
            let mut manifest = files.manifest.clone().unwrap_or_default();
            let name = manifest.new_increment(&place).name.clone();
            let target = Target::create(&place.path(&name)).map_err(told)?;
            manifest.write(&place).map_err(told)?;
            log::info!("Creating AOF incr file {name} on background rewrite");
            let n_bytes = state
                .aof
                .target()
                .map_or(0, |now| now.n_bytes.load(Relaxed));
            state.aof.n_bytes_before.fetch_add(n_bytes, Relaxed);
            files.manifest = Some(manifest);
            Ok(Some(target))
        }
    }
}

/// Names the base, and lets go what stands before it.
fn finish(
    state: &State,
    (phase, form): (Phase, Form),
    whole: &str,
    must_stop: &dyn Fn() -> bool,
) -> io::Result<()> {
    let mut files = state.aof.files();
    if must_stop() || state.aof.phase() != phase {
        return Err(io::Error::other("it was told to stop"));
    }
    let place = files.place.clone();
    let mut manifest = files.manifest.clone().unwrap_or_default();
    let n_kept = usize::from(phase == Phase::On);
    let is_snapshot = form == Form::Base;
    let base = manifest.new_base(&place, n_kept, is_snapshot).name.clone();
    fs::rename(whole, place.path(&base))?;
    if phase == Phase::Waiting {
        let name = manifest.new_increment(&place).name.clone();
        fs::rename(place.path(&place.temporary_increment()), place.path(&name))?;
        log::info!("Successfully renamed the temporary AOF incr file into {name}");
    }
    if phase == Phase::Waiting {
        state.aof.drain(&mut files)?;
        state.aof.sync(&mut files)?; // it was not looked after with others
    }
    if let Err(error) = manifest.write(&place) {
        // The disk may have it all the same, so what it names is left alone.
        if let Some(known) = &mut files.manifest {
            known.skip_numbers_of(&manifest);
        }
        return Err(error);
    }
    log::info!("Successfully created the AOF base file {base}");
    state.aof.forget_past(&mut files);
    let n_bytes = n_file_bytes(&place.path(&base));
    state.aof.n_bytes_before.store(n_bytes, Relaxed);
    files.manifest = Some(manifest);
    let n_bytes = append::n_bytes(state);
    state.aof.n_bytes_at_rewrite.store(n_bytes, Relaxed);
    if phase == Phase::Waiting {
        state.aof.set_phase(Phase::On);
    }
    Ok(())
}

/// Removes what is no longer needed, if other servers are kept from the files: else that is done with the next rewrite,
/// like what cannot be removed. Large files take their time, so nothing is locked meanwhile: only the manifest
/// that speaks of what is gone.
pub fn remove_history(state: &State) {
    let Some((place, manifest)) = state.aof.files().held_manifest() else {
        return;
    };
    if state.config.keeps_history() || manifest.history.is_empty() {
        return;
    }
    let is_live = |part: &Part| manifest.parts().any(|live| live.name == part.name);
    let is_gone = |part: &&Part| {
        if is_live(part) {
            return true; // of an earlier server that gave its name again
        }
        let path = place.path(&part.name);
        forget_pages(&path);
        log::info!("Removing the history file {}", part.name);
        let removed = fs::remove_file(path);
        removed.map_or_else(|error| error.kind() == io::ErrorKind::NotFound, |()| true)
    };
    let gone: Vec<&Part> = manifest.history.iter().filter(is_gone).collect();
    let mut files = state.aof.files();
    match files.held_manifest() {
        Some((now, _)) if now == place => {}
        _ => return, // it was switched off meanwhile, and is read anew where it is switched on
    }
    let Some(manifest) = &mut files.manifest else {
        return;
    };
    manifest.history.retain(|part| !gone.contains(&part));
    if let Err(error) = manifest.write(&place) {
        log::warn!("Cannot write the AOF manifest: {}", reason(&error));
    }
}
