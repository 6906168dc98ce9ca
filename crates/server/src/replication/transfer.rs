//! Where a snapshot that comes over a socket ends, without any input or output.
//!
//! ```text
//!   $4711                so many bytes follow
//!   $EOF:<40 bytes>      it ends with these; nothing follows until the replica says that it has it
//! ```

/// The length of a mark.
const MARK_BYTES: usize = 40;

/// See the top of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Transfer {
    /// So many bytes are still to come.
    Sized(u64),
    /// It ends with this mark.
    Marked(Vec<u8>),
}

impl Transfer {
    /// What the line before the snapshot announces; `None` if it is no such line.
    pub fn announced(line: &str) -> Option<Transfer> {
        let what = line.strip_prefix('$')?;
        match what.strip_prefix("EOF:") {
            Some(mark) if mark.len() == MARK_BYTES => {
                Some(Transfer::Marked(mark.as_bytes().to_vec()))
            }
            Some(_) => None,
            None => what.parse().ok().map(Transfer::Sized),
        }
    }

    /// How much of what came and was not taken yet is the snapshot's. What may be the beginning of the mark
    /// is held back.
    pub fn take(&mut self, unread: &[u8]) -> Taken {
        match self {
            Transfer::Sized(left) => {
                let n_data = usize::try_from(*left).map_or(unread.len(), |n| n.min(unread.len()));
                *left -= n_data as u64;
                Taken {
                    n_data,
                    n_behind: 0,
                    is_whole: *left == 0,
                }
            }
            Transfer::Marked(mark) => {
                let is_whole = unread.ends_with(mark);
                Taken {
                    n_data: unread.len().saturating_sub(mark.len()),
                    n_behind: if is_whole { mark.len() } else { 0 },
                    is_whole,
                }
            }
        }
    }
}

/// What [`Transfer::take`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Taken {
    /// Bytes of the snapshot.
    pub n_data: usize,
    /// Bytes behind them that belong to nobody.
    pub n_behind: usize,
    /// The snapshot has ended.
    pub is_whole: bool,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is taken of bytes that come in pieces.
    fn received(line: &str, bytes: &[u8], step: usize) -> (Vec<u8>, usize) {
        let mut transfer = Transfer::announced(line).unwrap();
        let (mut data, mut unread, mut n_read) = (Vec::new(), Vec::new(), 0);
        for piece in bytes.chunks(step) {
            unread.extend_from_slice(piece);
            let taken = transfer.take(&unread);
            data.extend(unread.drain(..taken.n_data));
            n_read += taken.n_data + taken.n_behind;
            if taken.is_whole {
                return (data, n_read);
            }
        }
        panic!("it does not end");
    }

    #[test]
    fn it_ends_where_it_says() {
        let mark = "m".repeat(40);
        let bytes = [&b"data mm"[..], b"mmm more", mark.as_bytes()].concat();
        for step in [1, 3, 39, 40, 41, 1000] {
            let (data, _) = received(&format!("$EOF:{mark}"), &bytes, step);
            assert_eq!(data, b"data mmmmm more");
            let (data, n_read) = received("$4", b"datastream", step);
            assert_eq!((&data[..], n_read), (&b"data"[..], 4));
        }
        assert_eq!(Transfer::announced("$0").unwrap().take(b"x").n_data, 0);
        for line in ["$EOF:short", "+OK", "$x", "-ERR no"] {
            assert_eq!(Transfer::announced(line), None);
        }
    }
}
