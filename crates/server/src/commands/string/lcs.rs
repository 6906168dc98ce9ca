//! LCS: the longest common subsequence of two strings, by the table of all their prefixes.
//!
//! The table has a cell for each pair of prefixes; walking it back from the end yields the
//! subsequence and the ranges that match. Time and memory are the product of the lengths, so
//! that is what has a limit.

use std::borrow::Cow;

use resp::reply::Reply;

use crate::command::{Args, Command, ReadCtx};
use crate::error::{Error, Result};
use datatypes::string::StringRef;

/// The commands of this room.
pub const COMMANDS: &[Command] = &[Command::read("lcs", -3, lcs)
    .syntax("key1 key2 [LEN] [IDX] [MINMATCHLEN min-match-len] [WITHMATCHLEN]")
    .keys(1, 2, 1)
    .group("string")
    .about("7.0.0", "O(N*M) in the bytes", "Finds the longest common subsequence.")];

#[derive(Default)]
struct Options {
    len: bool,
    idx: bool,
    with_match_len: bool,
    min_match_len: usize,
}

impl Options {
    fn parse(args: &mut Args<'_>) -> Result<Options> {
        let mut options = Options::default();
        while let Some(word) = args.word() {
            match &*word {
                b"LEN" => options.len = true,
                b"IDX" => options.idx = true,
                b"WITHMATCHLEN" => options.with_match_len = true,
                b"MINMATCHLEN" => options.min_match_len = args.int()?.max(0) as usize,
                _ => return Err(Error::Syntax),
            }
        }
        if options.len && options.idx {
            return Err(Error::Plain(
                "ERR If you want both the length and indexes, please just use IDX.",
            ));
        }
        Ok(options)
    }
}

fn lcs(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (a, b) = (args.take()?, args.take()?);
    let (a, b) = (text(ctx, a)?, text(ctx, b)?);
    let options = Options::parse(args)?;
    let table = Table::new(&a, &b, ctx.db.limits().string_max_bytes)?;
    if options.len {
        reply.count(table.at(a.len(), b.len()) as usize);
        return Ok(());
    }
    let (common, matches) = table.trace();
    if !options.idx {
        reply.bulk(&common);
        return Ok(());
    }
    let shown = || {
        matches
            .iter()
            .filter(|found| found.len >= options.min_match_len)
    };
    reply.map(2);
    reply.bulk(b"matches");
    reply.array(shown().count());
    for found in shown() {
        reply.array(2 + usize::from(options.with_match_len));
        for start in [found.a, found.b] {
            reply.array(2);
            reply.count(start);
            reply.count(start + found.len - 1);
        }
        if options.with_match_len {
            reply.count(found.len);
        }
    }
    reply.bulk(b"len");
    reply.count(common.len());
    Ok(())
}

/// The string at `key`, empty if there is none.
fn text<'c>(ctx: &'c ReadCtx<'_>, key: &[u8]) -> Result<Cow<'c, [u8]>> {
    let found = ctx.db.string(key);
    let found =
        found.map_err(|_| Error::Plain("ERR The specified keys must contain string values"))?;
    Ok(match found {
        None => Cow::Borrowed(&[]),
        Some(StringRef::Bytes(bytes)) => Cow::Borrowed(bytes),
        Some(StringRef::Int(number)) => Cow::Owned(number.to_string().into_bytes()),
    })
}

/// A run of bytes that both strings have: where it starts in each.
struct Match {
    a: usize,
    b: usize,
    len: usize,
}

/// The lengths of the longest common subsequences of all pairs of prefixes.
struct Table<'t> {
    a: &'t [u8],
    b: &'t [u8],
    cells: Vec<u32>,
}

impl<'t> Table<'t> {
    /// The table may need `bytes_max`.
    fn new(a: &'t [u8], b: &'t [u8], bytes_max: usize) -> Result<Table<'t>> {
        let n_cells = (a.len() + 1).checked_mul(b.len() + 1);
        let n_cells = n_cells.filter(|n| *n <= bytes_max / size_of::<u32>());
        let n_cells = n_cells.ok_or(Error::Plain(
            "ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len",
        ))?;
        let mut cells = vec![0; n_cells];
        let width = b.len() + 1;
        for (i, byte) in a.iter().enumerate() {
            let (above, row) = cells[i * width..(i + 2) * width].split_at_mut(width);
            for (j, other) in b.iter().enumerate() {
                row[j + 1] = match byte == other {
                    true => above[j] + 1,
                    false => above[j + 1].max(row[j]),
                };
            }
        }
        Ok(Table { a, b, cells })
    }

    fn at(&self, i: usize, j: usize) -> u32 {
        self.cells[i * (self.b.len() + 1) + j]
    }

    /// The subsequence, and the runs it is made of, last run first.
    fn trace(&self) -> (Vec<u8>, Vec<Match>) {
        let (mut i, mut j) = (self.a.len(), self.b.len());
        let (mut common, mut matches) = (Vec::new(), Vec::<Match>::new());
        let mut is_in_run = false;
        while i > 0 && j > 0 {
            if self.a[i - 1] == self.b[j - 1] {
                (i, j) = (i - 1, j - 1);
                common.push(self.a[i]);
                match matches.last_mut().filter(|_| is_in_run) {
                    Some(run) => (run.a, run.b, run.len) = (i, j, run.len + 1),
                    None => matches.push(Match { a: i, b: j, len: 1 }),
                }
                is_in_run = true;
                continue;
            }
            is_in_run = false;
            match self.at(i - 1, j) > self.at(i, j - 1) {
                true => i -= 1,
                false => j -= 1,
            }
        }
        common.reverse();
        (common, matches)
    }
}
