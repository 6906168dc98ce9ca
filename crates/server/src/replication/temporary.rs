//! The file that a snapshot of the primary is received into: locked while it is in use, so that what a crash
//! has left is known by the lock that nobody holds.
//!
//! Several servers may stand in one folder, even with one number of a process (in containers); the lock tells
//! them apart, names do not.

use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread::Builder;

/// What such a name begins and ends with.
const NAME: (&str, &str) = ("temp-replica-", ".rdb");
/// Other servers that may have the same names at once.
const N_NAMES: u32 = 100;

/// How many this process has made.
static N_MADE: AtomicU64 = AtomicU64::new(0);

/// Such a file, which goes soon after this does.
pub(super) struct Temporary {
    /// Taken when it goes.
    file: Option<File>,
    pub(super) path: PathBuf,
}

impl Temporary {
    /// An empty one. One that is no longer wanted may go still while the next one begins: each has a name of
    /// its own.
    pub(super) fn create(folder: &Path) -> io::Result<Temporary> {
        let (process, number) = (std::process::id(), N_MADE.fetch_add(1, Relaxed));
        for n in 0..N_NAMES {
            let again = if n == 0 {
                String::new()
            } else {
                format!("-{n}")
            };
            let name = format!("{}{process}-{number}{again}{}", NAME.0, NAME.1);
            let path = folder.join(name);
            let mut options = OpenOptions::new();
            let file = options.read(true).write(true).create(true).open(&path)?;
            let is_mine = may_have(&file)?;
            // Who cleans up may have taken it for a leftover, as it was not locked at once.
            if is_mine && file.metadata()?.nlink() > 0 {
                file.set_len(0)?;
                let file = Some(file);
                return Ok(Temporary { file, path });
            }
        }
        Err(ErrorKind::AlreadyExists.into())
    }

    /// The file.
    pub(super) fn file(&mut self) -> io::Result<&mut File> {
        self.file.as_mut().ok_or(ErrorKind::NotFound.into())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let (path, file) = (std::mem::take(&mut self.path), self.file.take());
        let remove = move || {
            let inode = |facts: io::Result<Metadata>| facts.ok().map(|facts| facts.ino());
            let own = file.as_ref().and_then(|file| inode(file.metadata()));
            // Unless it has a place of its own by now, and another server a file of this name.
            if own.is_some() && own == inode(std::fs::metadata(&path)) {
                let _ = std::fs::remove_file(&path);
            }
        };
        // Who removes it, or closes it last and so frees its blocks, waits for seconds where the disk is busy:
        // the thread has the one handle that is left.
        // Without a thread it is a leftover for the next start.
        let _ = Builder::new().name("remover".to_owned()).spawn(remove);
    }
}

/// Takes the lock, unless somebody has it. Where there are no locks, everybody has it.
fn may_have(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(error)) if error.kind() == ErrorKind::Unsupported => Ok(true),
        Err(TryLockError::Error(error)) => Err(error),
    }
}

/// Removes what servers that are no more have left in a folder.
pub(super) fn remove_leftovers(folder: &Path) {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_one = name.starts_with(NAME.0) && name.ends_with(NAME.1);
        if !is_one || !entry.file_type().is_ok_and(|kind| kind.is_file()) {
            continue;
        }
        let Ok(file) = File::open(entry.path()) else {
            continue;
        };
        if file.try_lock().is_ok() && std::fs::remove_file(entry.path()).is_ok() {
            log::info!("Removed {name}, which an interrupted synchronization has left");
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn only_what_nobody_holds_is_a_leftover() {
        let folder = std::env::temp_dir().join(format!("temporary-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        // Another server of the same number has one of the next name.
        let next = format!("temp-replica-{}-{}.rdb", std::process::id(), N_MADE.load(Relaxed));
        let foreign_lock = File::create(folder.join(&next)).unwrap();
        foreign_lock.lock().unwrap();
        let (one, other) = (Temporary::create(&folder), Temporary::create(&folder));
        let (one, other) = (one.unwrap(), other.unwrap());
        assert_ne!(one.path, folder.join(&next));
        let [left, foreign] = ["temp-replica-1-7.rdb", "temp-1.rdb"].map(|name| folder.join(name));
        std::fs::write(&left, "half a snapshot").unwrap();
        std::fs::write(&foreign, "something else").unwrap();
        remove_leftovers(&folder);
        assert!(!left.exists() && foreign.exists());
        assert!(one.path.exists() && other.path.exists() && folder.join(&next).exists());
        let (path, since) = (one.path.clone(), Instant::now());
        drop((one, other));
        while path.exists() {
            assert!(since.elapsed() < Duration::from_secs(20), "it stays");
            std::thread::yield_now();
        }
        std::fs::remove_dir_all(&folder).unwrap();
    }
}
