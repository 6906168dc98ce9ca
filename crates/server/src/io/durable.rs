//! A file that takes the place of another at once, or not at all, and stays when power fails.
//!
//! ```text
//!   temp-PID.rdb   written, synced as it grows, synced
//!     └─ rename ─► dump.rdb, then the directory is synced
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Bytes after which what was written is brought to the disk, so that the last sync is short.
const SYNC_BYTES: usize = 4 << 20;

/// See the top of the file. Dropped before [`NewFile::commit`], it is removed.
pub struct NewFile {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
    n_unsynced: usize,
    syncs_often: bool,
    is_committed: bool,
}

impl NewFile {
    /// Begins the file that will be called `target`, in the present directory, under another name.
    pub fn create(temporary: &str, target: &str, syncs_often: bool) -> io::Result<NewFile> {
        let folder = std::env::current_dir()?;
        let temporary = folder.join(temporary);
        Ok(NewFile {
            file: File::create(&temporary)?,
            temporary,
            target: folder.join(target),
            n_unsynced: 0,
            syncs_often,
            is_committed: false,
        })
    }

    /// Appends bytes.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.n_unsynced += bytes.len();
        if self.syncs_often && self.n_unsynced >= SYNC_BYTES {
            self.file.sync_data()?;
            self.n_unsynced = 0;
        }
        Ok(())
    }

    /// Gives the file its name, when all of it is on the disk, and brings the name there.
    pub fn commit(self) -> io::Result<()> {
        let folder = self.target.parent().unwrap_or(Path::new(".")).to_owned();
        self.name()?;
        File::open(folder)?.sync_all()
    }

    /// The same for who syncs the folder later, or names the file anew.
    pub fn name(mut self) -> io::Result<()> {
        self.file.sync_all()?;
        fs::rename(&self.temporary, &self.target)?;
        self.is_committed = true;
        Ok(())
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if !self.is_committed {
            // It may be gone already, with its directory.
            let _ = fs::remove_file(&self.temporary);
        }
    }
}
