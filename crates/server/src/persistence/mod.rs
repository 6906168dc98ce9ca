//! The data set on the disk: saving it as a snapshot, and loading it.
//!
//! ```text
//!   BGSAVE, save points     the saver's thread cuts, walks and writes, while writers go on
//!   SAVE                    the same, and its client waits for it
//!   SHUTDOWN, DEBUG RELOAD  the transaction holds everything and writes in one go
//! ```
//!
//!   BGREWRITEAOF            the saver's thread writes a base of the append-only file, see `docs/aof.md`
//!
//! A file is written under another name and takes its place only when it is whole and on the disk.

pub mod append;
pub mod ending;
pub mod found;
pub mod full_sync;
mod gather;
pub mod load;
mod restate;
pub mod rewrite;
pub mod save;
pub mod saver;
