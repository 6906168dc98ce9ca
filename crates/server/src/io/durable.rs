//! A file that takes the place of another at once, or not at all, and stays when power fails.
//!
//! ```text
//!   temp-PID.rdb   written, synced as it grows, synced
//!     └─ rename ─► dump.rdb, then the directory is synced
//! ```

use std::fs::{self, File};
use std::io::{self, Write};
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use rustix::fs::{Advice, fadvise};

/// Bytes after which what was written is brought to the disk, so that the last sync is short.
const SYNC_BYTES: usize = 4 << 20;

/// Bytes of a file whose pages the system is asked to free at a time: half a millisecond's work.
const FORGOTTEN_BYTES: u64 = 4 << 20;

/// Frees what the system keeps in memory of a file that is about to be removed or replaced, and lets others have
/// the processor in between. It would do that in one go otherwise, in which nobody else has it: a
/// millisecond for every 10 MB.
pub fn forget_pages(path: &Path) {
    let Ok(file) = File::open(path) else {
        return; // there need not be one
    };
    let n_bytes = file.metadata().map_or(0, |about| about.len());
    for place in (0..n_bytes).step_by(FORGOTTEN_BYTES as usize) {
        // Where that cannot be done, it is done when the file goes.
        let _ = fadvise(&file, place, NonZeroU64::new(FORGOTTEN_BYTES), Advice::DontNeed);
        std::thread::yield_now();
    }
}

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

    /// Has the file that will be replaced go easily: see [`forget_pages`].
    pub fn make_way(&self) {
        forget_pages(&self.target);
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
