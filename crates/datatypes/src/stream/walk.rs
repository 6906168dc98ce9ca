//! A stream's blocks as they were at a moment, shown in pieces while the stream goes on changing.
//!
//! ```text
//!   begin    the last block, which grows, is copied aside; those behind it are none of the walk's business
//!   step     some blocks, in order: the one aside if there is one
//!   before   whoever changes a block that was not shown copies it aside; one that goes is kept
//! ```

use std::collections::BTreeMap;

use super::{Stream, StreamId};

/// Bytes of blocks that are shown in one step, about.
const STEP_BYTES: usize = 64 << 10;
/// A last block of more bytes is not copied: it is full from then on.
const COPIED_BYTES_MAX: usize = 64 << 10;
/// Blocks from which on a stream is shown in pieces, whatever they hold.
const LONG_BLOCKS: usize = 8;
/// Bytes of fewer blocks from which on it is.
const LONG_BYTES: usize = 64 << 10;

/// The walk over a stream, if there is one. A copy of the stream has none.
#[derive(Debug, Default)]
pub(super) struct Walking(Option<Box<Walk>>);

#[derive(Debug)]
struct Walk {
    id: u64,
    /// Blocks below this one were shown.
    from: StreamId,
    /// The last one to be shown.
    until: StreamId,
    aside: BTreeMap<StreamId, Vec<u8>>,
}

impl Clone for Walking {
    fn clone(&self) -> Walking {
        Walking::default()
    }
}

impl Walking {
    fn needs(&mut self, base: StreamId) -> Option<&mut Walk> {
        let walk = self.0.as_mut()?;
        let is_open = walk.from <= base && base <= walk.until;
        (is_open && !walk.aside.contains_key(&base)).then_some(walk)
    }

    /// A block is about to change.
    #[inline]
    pub(super) fn before(&mut self, base: StreamId, pack: &[u8]) {
        if self.0.is_some()
            && let Some(walk) = self.needs(base)
        {
            walk.aside.insert(base, pack.to_vec());
        }
    }

    /// A block has gone.
    pub(super) fn keep(&mut self, base: StreamId, pack: Vec<u8>) {
        if let Some(walk) = self.needs(base) {
            walk.aside.insert(base, pack);
        }
    }
}

impl Stream {
    /// Whether showing its blocks takes long enough to be done in pieces. O(1).
    pub fn is_long(&self) -> bool {
        let bytes = || self.blocks().map(|(_, pack)| pack.len()).sum::<usize>();
        self.n_blocks() >= LONG_BLOCKS || bytes() >= LONG_BYTES
    }

    /// The number of the walk under way, if there is one.
    pub fn walk_id(&self) -> Option<u64> {
        self.walking.0.as_ref().map(|walk| walk.id)
    }

    /// Begins a walk over the blocks as they are now. None may be under way. O(last block).
    pub fn begin_walk(&mut self, id: u64) {
        let mut aside = BTreeMap::new();
        let until = match &self.tail {
            Some(tail) if tail.pack.len() <= COPIED_BYTES_MAX => {
                aside.insert(tail.base, tail.pack.clone());
                tail.base
            }
            Some(tail) => {
                let base = tail.base;
                self.seal();
                base
            }
            None => self.sealed.keys().next_back().copied().unwrap_or_default(),
        };
        self.walking.0 = Some(Box::new(Walk {
            id,
            from: StreamId::MIN,
            until,
            aside,
        }));
    }

    /// Shows some blocks that were not shown yet, in order. Whether some are left; if not, the walk is
    /// over.
    pub fn step_walk(&mut self, see: &mut dyn FnMut(StreamId, &[u8])) -> bool {
        let Some(walk) = &mut self.walking.0 else {
            return false;
        };
        let mut n_bytes = 0;
        while n_bytes < STEP_BYTES {
            let left = walk.from..=walk.until;
            let (live, kept) = match left.is_empty() {
                true => (None, None),
                false => (self.sealed.range(left).next(), walk.aside.first_key_value()),
            };
            let base = match (live, kept) {
                (Some((live, _)), Some((kept, _))) => *live.min(kept),
                (Some((base, _)), None) | (None, Some((base, _))) => *base,
                (None, None) => {
                    self.walking.0 = None;
                    return false;
                }
            };
            if let Some(pack) = walk.aside.remove(&base) {
                n_bytes += pack.len();
                see(base, &pack);
            } else if let Some((_, pack)) = live {
                n_bytes += pack.len();
                see(base, pack);
            }
            match base.next() {
                Some(next) => walk.from = next,
                None => walk.until = StreamId::MIN, // there is none behind the last id
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::super::{BlockLimit, TrimPlan, TrimTarget};
    use super::*;

    const LIMIT: BlockLimit = BlockLimit {
        bytes: 4096,
        entries: 10,
    };

    fn add(stream: &mut Stream, n: u64) {
        let value = [b'v'; 700];
        let fields = [(&b"field"[..], &value[..])];
        stream
            .append(StreamId::new(n, 1), fields.into_iter(), LIMIT)
            .unwrap();
    }

    fn blocks(stream: &Stream) -> Vec<(StreamId, Vec<u8>)> {
        stream
            .blocks()
            .map(|(base, pack)| (base, pack.to_vec()))
            .collect()
    }

    /// Whatever happens between the steps, the blocks are those of the beginning, each once, in order.
    #[test]
    fn a_walk_shows_what_was_there_when_it_began() {
        for seed in 0..200_u64 {
            let mut state = seed;
            let mut below = |n: u64| {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                (state >> 33) % n
            };
            let mut stream = Stream::new();
            let n = 1 + below(2_000);
            (1..=n).for_each(|n| add(&mut stream, n));
            for _ in 0..below(50) {
                stream.delete(StreamId::new(1 + below(n), 1));
            }
            let expected = blocks(&stream);
            stream.begin_walk(7);
            assert_eq!(stream.walk_id(), Some(7));
            let (mut last, mut shown) = (n, Vec::new());
            loop {
                for _ in 0..below(40) {
                    match below(8) {
                        0 => {
                            let plan = TrimPlan {
                                target: TrimTarget::Length(stream.len() as u64 * 3 / 4),
                                is_approximate: below(2) == 0,
                                limit: 0,
                            };
                            stream.trim(plan, None);
                        }
                        1..5 => drop(stream.delete(StreamId::new(1 + below(last), 1))),
                        _ => {
                            last += 1;
                            add(&mut stream, last);
                        }
                    }
                }
                let see = &mut |base, pack: &[u8]| shown.push((base, pack.to_vec()));
                if !stream.step_walk(see) {
                    break;
                }
            }
            assert_eq!(shown, expected, "seed {seed}");
            assert_eq!(stream.walk_id(), None);
            stream.check_invariants();
        }
    }
}
