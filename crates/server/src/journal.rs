//! The journal: one ordered stream of what was written, as commands.
//!
//! A unit is what one outermost command came to: a single command, or several that must stay
//! together, which stand between MULTI and EXEC. Units are appended while the shard locks are held,
//! so for every key their order is the order of execution. Without a reader nothing is recorded.
//!
//! ```text
//!   *2 $6 SELECT $1 0    *3 $3 SET $1 k $1 v    *1 $5 MULTI  ...  *1 $4 EXEC
//! ```

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::Mutex;

/// A command with its arguments and the database it works on.
pub type Record = (u16, Vec<Vec<u8>>);

/// See the top of the file.
#[derive(Default)]
pub struct Journal {
    has_readers: AtomicBool,
    readers: Mutex<Vec<Weak<Reader>>>,
}

/// Takes the journal from where it was attached, until it is dropped.
pub struct Reader {
    inner: Mutex<Unread>,
}

struct Unread {
    bytes: Vec<u8>,
    bytes_max: usize,
    database: Option<u16>,
    is_behind: bool,
}

impl Journal {
    /// Whether anybody reads.
    #[inline]
    pub fn has_readers(&self) -> bool {
        self.has_readers.load(Ordering::Relaxed)
    }

    /// Attaches a reader that holds at most `bytes_max` unread bytes. For a stream that fits a
    /// snapshot the caller holds every shard.
    pub fn attach(&self, bytes_max: usize) -> Arc<Reader> {
        let reader = Arc::new(Reader {
            inner: Mutex::new(Unread {
                bytes: Vec::new(),
                bytes_max,
                database: None,
                is_behind: false,
            }),
        });
        self.readers.lock().push(Arc::downgrade(&reader));
        self.has_readers.store(true, Ordering::Relaxed);
        reader
    }

    /// Appends a unit. Called with the locks of everything it changed.
    pub fn append(&self, unit: &[Record]) {
        let mut readers = self.readers.lock();
        readers.retain(|reader| match reader.upgrade() {
            Some(reader) => reader.inner.lock().append(unit),
            None => false,
        });
        self.has_readers
            .store(!readers.is_empty(), Ordering::Relaxed);
    }
}

impl Unread {
    /// False if the reader did not keep up: it gets nothing more.
    fn append(&mut self, unit: &[Record]) -> bool {
        let is_block = unit.len() > 1;
        for (at, (database, command)) in unit.iter().enumerate() {
            if self.database != Some(*database) {
                self.database = Some(*database);
                self.write(&[b"SELECT".to_vec(), database.to_string().into_bytes()]);
            }
            if is_block && at == 0 {
                self.write(&[b"MULTI".to_vec()]);
            }
            self.write(command);
        }
        if is_block {
            self.write(&[b"EXEC".to_vec()]);
        }
        self.is_behind = self.bytes.len() > self.bytes_max;
        if self.is_behind {
            self.bytes = Vec::new();
        }
        !self.is_behind
    }

    fn write(&mut self, command: &[Vec<u8>]) {
        let bytes = &mut self.bytes;
        bytes.extend_from_slice(format!("*{}\r\n", command.len()).as_bytes());
        for word in command {
            bytes.extend_from_slice(format!("${}\r\n", word.len()).as_bytes());
            bytes.extend_from_slice(word);
            bytes.extend_from_slice(b"\r\n");
        }
    }
}

impl Reader {
    /// Takes what was appended since the last time; `None` if the limit was passed, after which
    /// the stream has a gap and the reader must start anew.
    pub fn take(&self) -> Option<Vec<u8>> {
        let mut inner = self.inner.lock();
        (!inner.is_behind).then(|| std::mem::take(&mut inner.bytes))
    }
}
