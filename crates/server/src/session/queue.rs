//! The commands between MULTI and EXEC.

use resp::request::Span;

/// A queued command: its arguments in one piece of memory.
#[derive(Debug)]
pub struct Queued {
    bytes: Box<[u8]>,
    spans: Box<[Span]>,
}

impl Queued {
    /// A copy of a request.
    pub fn new(request: &[&[u8]]) -> Queued {
        let mut bytes = Vec::with_capacity(request.iter().map(|word| word.len()).sum());
        let mut spans = Vec::with_capacity(request.len());
        for word in request {
            spans.push(Span {
                start: bytes.len() as u32,
                len: word.len() as u32,
            });
            bytes.extend_from_slice(word);
        }
        Queued {
            bytes: bytes.into(),
            spans: spans.into(),
        }
    }

    /// The arguments, the command's name first.
    pub fn words(&self) -> Vec<&[u8]> {
        self.spans.iter().map(|span| span.of(&self.bytes)).collect()
    }

    /// The command's name.
    pub fn name(&self) -> &[u8] {
        self.spans.first().map_or(&[], |span| span.of(&self.bytes))
    }

    /// Bytes of the arguments and what surrounds them.
    pub fn len_bytes(&self) -> usize {
        size_of::<Queued>() + self.bytes.len() + self.spans.len() * size_of::<Span>()
    }
}

/// What must be so for a request to run.
#[derive(Clone, Copy, Debug, Default)]
pub struct Needs {
    /// Writing is allowed.
    pub writing: bool,
    /// There is memory.
    pub memory: bool,
    /// The data is not stale.
    pub fresh_data: bool,
}

impl Needs {
    /// What both need.
    pub fn and(self, other: Needs) -> Needs {
        Needs {
            writing: self.writing || other.writing,
            memory: self.memory || other.memory,
            fresh_data: self.fresh_data || other.fresh_data,
        }
    }
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Queue {
    commands: Vec<Queued>,
    bytes: usize,
    /// A command was refused: EXEC will refuse, too.
    pub is_aborted: bool,
    /// What its commands need.
    pub needs: Needs,
    /// A command, or a script, may change something that is journaled.
    pub may_write: bool,
    /// The database that the last queued SELECT selects.
    pub selects: Option<u16>,
}

impl Queue {
    /// Adds a request.
    pub fn push(&mut self, request: &[&[u8]]) {
        let queued = Queued::new(request);
        self.bytes += queued.len_bytes();
        self.commands.push(queued);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.commands.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.commands.is_empty()
    }

    /// Bytes of all of them.
    pub fn len_bytes(&self) -> usize {
        self.bytes
    }

    /// The requests in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Queued> {
        self.commands.iter()
    }
}
