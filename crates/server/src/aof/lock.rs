//! The hold on an append-only file: two servers that append to one would ruin it.
//!
//! It is a lock of the system on a file beside the manifest, `appendonly.aof.lock`, so it goes with the
//! process, however that ends; the file says whose it is. A server that comes too early, as the one before is
//! still on its way out, waits a little.
//!
//! It is held while the append-only file is on, and for a rewrite when it is off. Servers without one, or with
//! other names for their files, may share a directory.

use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::manifest::Place;
use crate::error::reason;

/// How long somebody on his way out is waited for when a server starts.
pub const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);

/// Held as long as it lives.
#[derive(Debug)]
pub struct Hold {
    path: PathBuf,
    /// `None`: the system knows no such locks there.
    file: Option<File>,
}

impl Hold {
    /// Takes the hold. The error, if somebody else has it, is for the operator. Where the system knows no
    /// such locks, as on some network file systems, everybody gets it.
    pub fn take(place: &Place, patience: Duration) -> Result<Hold, String> {
        let path = place.path(&format!("{}.lock", place.name));
        let shown = path.display();
        let started = Instant::now();
        loop {
            let file = File::options().create(true).append(true).open(&path);
            let file = file.map_err(|error| format!("Can't open {shown}: {}", reason(&error)))?;
            match file.try_lock() {
                // Else who had it has removed it meanwhile.
                Ok(()) if is_at(&file, &path) => return Ok(Hold::mark(path, file)),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if started.elapsed() < patience => {
                    std::thread::sleep(LOOK);
                }
                Err(TryLockError::WouldBlock) => {
                    let owner = fs::read_to_string(&path).unwrap_or_default();
                    return Err(format!(
                        "The append-only file of {shown} is in use by another process ({}). Two servers \
                         must not write one: stop the other, or set another 'dir', 'appenddirname' or \
                         'appendfilename'.",
                        owner.trim()
                    ));
                }
                Err(TryLockError::Error(error)) => {
                    log::warn!(
                        "Cannot lock {shown}: {}. See to it that no other server uses these files.",
                        reason(&error)
                    );
                    return Ok(Hold { path, file: None });
                }
            }
        }
    }

    fn mark(path: PathBuf, mut file: File) -> Hold {
        // Only whoever reads the error of another would miss it.
        let _ = file
            .set_len(0)
            .and_then(|()| writeln!(file, "{}", std::process::id()));
        Hold {
            path,
            file: Some(file),
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if self.file.is_some() {
            let _ = fs::remove_file(&self.path); // it may be gone, with its folder
        }
    }
}

fn is_at(file: &File, path: &Path) -> bool {
    let place = |facts: fs::Metadata| (facts.dev(), facts.ino());
    let (own, there) = (file.metadata().map(place), fs::metadata(path).map(place));
    own.is_ok_and(|own| there.is_ok_and(|there| own == there))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_at_a_time() {
        let folder = std::env::temp_dir().join(format!("minium-hold-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let place = |name: &str| Place {
            folder: folder.clone(),
            name: name.to_owned(),
        };
        let hold = Hold::take(&place("a"), LOOK).unwrap();
        let refusal = Hold::take(&place("a"), LOOK).unwrap_err();
        let own = format!("in use by another process ({})", std::process::id());
        assert!(refusal.contains(&own), "{refusal}");
        Hold::take(&place("b"), LOOK).unwrap();
        drop(hold);
        Hold::take(&place("a"), LOOK).unwrap();
        fs::remove_dir(&folder).unwrap(); // nothing was left in it
    }
}
