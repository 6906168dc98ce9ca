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

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Queue {
    commands: Vec<Queued>,
    bytes: usize,
    /// A command was refused: EXEC will refuse, too.
    pub is_aborted: bool,
    /// A command may change data.
    pub has_writes: bool,
    /// A command, or a script, may change something that is journaled.
    pub may_write: bool,
    /// A command may need memory.
    pub needs_memory: bool,
    /// One of them depends on data that is not stale.
    pub needs_data: bool,
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
