//! The hold on a folder of an append-only file: two servers that append to one would ruin it.
//!
//! It is a lock of the system on the folder itself, so it leaves no file behind and goes with the process,
//! however that ends. A server that comes too early, as the one before is still on its way out, waits a
//! little.
//!
//! It is held while the append-only file is on, and for a rewrite when it is off. Servers without one may
//! share a directory.

use std::fs::File;
use std::fs::TryLockError;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::error::reason;

/// How long somebody on his way out is waited for when a server starts.
pub const PATIENCE: Duration = Duration::from_secs(3);
const LOOK: Duration = Duration::from_millis(20);

/// Held as long as it lives.
#[derive(Debug)]
pub struct Hold {
    _folder: Option<File>,
}

impl Hold {
    /// Takes the hold. The error, if somebody else has it, is for the operator. Where the system knows no
    /// such locks, as on some network file systems, everybody gets it.
    pub fn take(folder: &Path, patience: Duration) -> Result<Hold, String> {
        let shown = folder.display();
        let file = File::open(folder)
            .map_err(|error| format!("Can't open the folder {shown}: {}", reason(&error)))?;
        let started = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => {
                    return Ok(Hold {
                        _folder: Some(file),
                    });
                }
                Err(TryLockError::WouldBlock) if started.elapsed() < patience => {
                    std::thread::sleep(LOOK);
                }
                Err(TryLockError::WouldBlock) => {
                    return Err(format!(
                        "The append-only files in {shown} are in use by another process. Two servers \
                         must not write one append-only file: stop the other, or set another 'dir' or \
                         'appenddirname'."
                    ));
                }
                Err(TryLockError::Error(error)) => {
                    log::warn!(
                        "Cannot lock the folder {shown}: {}. See to it that no other server uses it.",
                        reason(&error)
                    );
                    return Ok(Hold { _folder: None });
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_has_it_at_a_time() {
        let folder = std::env::temp_dir().join(format!("minium-hold-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let hold = Hold::take(&folder, LOOK).unwrap();
        let refusal = Hold::take(&folder, LOOK).unwrap_err();
        assert!(refusal.contains("in use by another process"), "{refusal}");
        drop(hold);
        Hold::take(&folder, LOOK).unwrap();
        std::fs::remove_dir(&folder).unwrap();
    }
}
