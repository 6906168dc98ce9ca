//! The append-only file as a whole: switched on and off, opened after the start, synced in the
//! background, rewritten when it has grown.

use std::fs;
use std::io;
use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use super::save::{self, Form, Job};
use crate::aof::lock::PATIENCE;
use crate::aof::manifest::{Manifest, Place, sync_folder};
use crate::aof::{Files, Phase, Target};
use crate::config::live::FsyncPolicy;
use crate::error::reason;
use crate::saving::Asked;
use crate::state::State;

/// How often the thread looks whether there is something to write, to sync or to rewrite.
const LOOK: Duration = Duration::from_millis(100);
/// How often the disk is waited for.
const SYNC: Duration = Duration::from_millis(1000);
/// How long after a failed rewrite the next one is begun unasked.
const RETRY: Duration = Duration::from_secs(5);

/// Where the files are, as the directives say.
pub fn place(state: &State) -> Place {
    let folder = std::env::current_dir().unwrap_or_default();
    Place {
        folder: folder.join(state.config.append_folder()),
        name: state.config.append_file(),
    }
}

/// The length of a file, 0 if there is none.
pub fn n_file_bytes(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |facts| facts.len())
}

/// Bytes of all files.
pub fn n_bytes(state: &State) -> u64 {
    let now = state.aof.target();
    state.aof.n_bytes_before.load(Relaxed) + now.map_or(0, |target| target.n_bytes.load(Relaxed))
}

/// Sees to it that there is a folder, and that its manifest is known.
pub fn know_manifest(state: &State, files: &mut Files) -> Result<(), String> {
    if files.manifest.is_none() {
        files.place = place(state);
        make_folder(&files.place)?;
        files.manifest = Some(Manifest::read(&files.place)?.unwrap_or_default());
    }
    Ok(())
}

/// Keeps other servers from the files, before anything of them is looked at. The error is for the operator.
pub fn hold_at_start(state: &State) -> Result<(), String> {
    let mut files = state.aof.files();
    files.place = place(state);
    make_folder(&files.place)?;
    files.hold(PATIENCE).map(|_| ())
}

/// Keeps other servers from the files and reads the manifest, as they may have changed it; whether they
/// were not kept from them before.
pub fn hold(state: &State, files: &mut Files) -> Result<bool, String> {
    know_manifest(state, files)?;
    let is_new = files.hold(Duration::ZERO)?;
    if is_new {
        files.manifest = None;
        know_manifest(state, files)?;
    }
    Ok(is_new)
}

/// Makes the folder of the files, if it is not there, and brings its name to the disk: who made it may
/// have been killed before that.
pub fn make_folder(place: &Place) -> Result<(), String> {
    let made = match fs::create_dir(&place.folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(error),
        _ => place.folder.parent().map_or(Ok(()), sync_folder),
    };
    made.map_err(|error| {
        format!(
            "Can't open or create append-only dir {}: {}",
            place.folder.display(),
            reason(&error)
        )
    })
}

/// Brings to the disk what was loaded and is served from now on: who wrote it may have been killed
/// before that.
fn sync_loaded(place: &Place, manifest: &Manifest) -> io::Result<()> {
    for part in &manifest.increments {
        Target::open(&place.path(&part.name))?.sync()?;
    }
    Ok(())
}

/// Goes on with the files that were loaded, before anybody is served. The error is for the operator.
pub fn open_at_start(state: &'static State) -> Result<(), String> {
    let mut files = state.aof.files();
    know_manifest(state, &mut files)?;
    let place = files.place.clone();
    make_folder(&place)?; // the manifest may be known for not being there
    let mut manifest = files.manifest.clone().unwrap_or_default();
    let told = |error: io::Error| format!("Can't open the append-only file: {}", reason(&error));
    if manifest.is_empty() {
        let form = Form::of_base(state);
        let name = manifest
            .new_base(&place, 0, form == Form::Base)
            .name
            .clone();
        log::info!("Creating AOF base file {name} on server start");
        drop(files); // a walk helps itself to what it needs
        write_first_base(state, &place, &name, form)?;
        files = state.aof.files();
    }
    let known = manifest.increments.last().cloned();
    let open = match known {
        Some(_) => Target::open,
        None => Target::create,
    };
    let last = match known {
        Some(part) => part,
        None => {
            let part = manifest.new_increment(&place).clone();
            log::info!("Creating AOF incr file {} on server start", part.name);
            part
        }
    };
    let target = open(&place.path(&last.name)).map_err(told)?;
    sync_loaded(&place, &manifest).map_err(told)?;
    manifest.write(&place).map_err(told)?;
    state.saving.wish_tidy();
    let before = manifest.parts().filter(|part| **part != last);
    let n_before = before
        .map(|part| n_file_bytes(&place.path(&part.name)))
        .sum();
    state.aof.n_bytes_before.store(n_before, Relaxed);
    files.manifest = Some(manifest);
    state.aof.direct(Some(target));
    state.journal.connect(state.aof.reader());
    mark_records(state);
    state.aof.n_bytes_at_rewrite.store(n_bytes(state), Relaxed);
    state.aof.set_phase(Phase::On);
    Ok(())
}

fn write_first_base(
    state: &'static State,
    place: &Place,
    name: &str,
    form: Form,
) -> Result<(), String> {
    let path = |name: &str| place.path(name).to_string_lossy().into_owned();
    let temporary = path(&format!("temp-rewriteaof-bg-{}.aof", std::process::id()));
    let job = Job {
        names: (&temporary, &path(name)),
        syncs_often: false,
        form,
        must_stop: &|| false,
        at_cut: &mut |_| {},
    };
    let written = save::walk(state, job).map(|_| ());
    written.map_err(|reason| format!("Can't create the base of the append-only file: {reason}"))
}

/// Has records bear what the directives say: times, checksums.
pub fn mark_records(state: &State) {
    let (reader, config) = (state.aof.reader(), &state.config);
    reader.is_stamped.store(config.stamps_appended(), Relaxed);
    reader.is_summed.store(config.sums_appended(), Relaxed);
}

/// CONFIG SET appendonly yes: the first base is written in the background, and what comes meanwhile
/// is kept beside it. The error is for the client.
pub fn switch_on(state: &State) -> Result<(), String> {
    if state.aof.phase() != Phase::Off {
        return Ok(());
    }
    let mut files = state.aof.files();
    hold(state, &mut files).map_err(|reason| {
        log::warn!("{reason}");
        "Unable to turn on AOF. Check server logs.".to_owned()
    })?;
    state.aof.set_phase(Phase::Waiting); // before who holds the files for a rewrite lets go of them
    drop(files);
    mark_records(state);
    state.saving.cancel_rewrite(); // one without an increment would be of no use
    state.saving.wish_rewrite(); // if one still runs, the saver goes on with another
    Ok(())
}

/// CONFIG SET appendonly no: what was written goes to the disk, and no more is. Whether it was on.
pub fn switch_off(state: &State) -> bool {
    let phase = state.aof.phase();
    if phase == Phase::Off {
        return false;
    }
    state.saving.cancel_rewrite();
    close(state);
    if phase == Phase::Waiting {
        let place = state.aof.files().place.clone();
        let _ = fs::remove_file(place.path(&place.temporary_increment())); // it may not be there
    }
    true
}

/// Brings what was written so far to the disk, so that little is left for who closes the file with everything
/// held. An error is noted.
pub fn bring_to_disk(state: &State) {
    if state.aof.is_fed() {
        let _ = state.aof.drain(&mut state.aof.files());
        state.aof.sync_aside();
    }
}

/// Writes what is left to the disk and closes the file.
pub fn close(state: &State) {
    let aof = &state.aof;
    let was_on = aof.phase() == Phase::On;
    state.journal.disconnect(aof.reader());
    let mut files = aof.files();
    if was_on {
        log::info!("Calling fsync() on the AOF file.");
        let result = aof.drain(&mut files).and_then(|()| aof.sync(&mut files));
        if let Err(error) = result {
            log::warn!("Cannot write the last of the AOF file: {}", reason(&error));
        }
    }
    aof.direct(None);
    aof.forget(&mut files);
    files.let_go();
    aof.set_phase(Phase::Off);
    state.serve_waits(); // those for this disk get an error
    state.mailboxes.wake();
}

/// The first base could not be written: nothing is kept until it is tried again.
pub fn stop_waiting(state: &State) {
    state.journal.disconnect(state.aof.reader());
    let mut files = state.aof.files();
    state.aof.direct(None);
    state.aof.forget(&mut files);
    let _ = fs::remove_file(files.place.path(&files.place.temporary_increment()));
}

/// Looks after the file until the process ends, on a thread of its own.
pub fn run(state: &'static State) {
    loop {
        state.aof.pause(LOOK);
        if state.aof.phase() == Phase::Off {
            continue;
        }
        let policy = state.config.append_fsync();
        if policy != FsyncPolicy::Always {
            if state.aof.n_waiting_bytes() > 0 || state.aof.is_failing() {
                let mut files = state.aof.files();
                let _ = state.aof.drain(&mut files); // it has noted the error
            }
            let is_spared = state.config.spares_fsync_on_rewrite()
                && (state.saving.is_rewriting() || state.saving.is_running());
            let is_wanted = policy == FsyncPolicy::EverySecond && !is_spared;
            let is_due = state.aof.since_sync() >= SYNC || state.aof.is_failing();
            if is_wanted && is_due && state.aof.is_unsynced() && !state.aof.needs_base() {
                state.aof.sync_aside();
            }
        } else {
            state.aof.settle(&state.config);
        }
        state.serve_waits();
        state.mailboxes.wake();
        look(state);
    }
}

/// Asks for a rewrite when the file has grown enough.
fn look(state: &State) {
    let saving = &state.saving;
    if saving.is_rewriting() || saving.is_running() || saving.loads_any() {
        return;
    }
    let rewrites = saving.rewrites();
    let is_soon = |at: std::time::Instant| at.elapsed() < RETRY;
    if rewrites.n_failed > 0 && rewrites.ended_at.is_some_and(is_soon) {
        return;
    }
    if state.aof.phase() != Phase::On {
        return;
    }
    if state.aof.needs_base() {
        log::info!("Starting automatic rewriting of AOF, as what was not synced may be lost");
        saving.wish_rewrite();
        return;
    }
    let percent = state.config.rewrite_growth_percent();
    let now = n_bytes(state);
    if percent == 0 || now <= state.config.rewrite_bytes_min() {
        return;
    }
    let base = state.aof.n_bytes_at_rewrite.load(Relaxed).max(1);
    let growth = (now.saturating_mul(100) / base).saturating_sub(100);
    if growth >= percent && saving.wish_rewrite() == Asked::Begun {
        log::info!("Starting automatic rewriting of AOF on {growth}% growth");
    }
}
