//! Lists: moves of several elements at once, LMOVEM, and waiting for as many as are wanted.
//!
//! One by one, every element is pushed before the next is popped, so that those pushed before the first
//! end up in reverse; in bulk they keep the order in which they stood. The reply has them as they
//! stand in the destination.

use datatypes::encoding::quicklist::Side;
use datatypes::list::ListRef;
use resp::reply::Reply;
use stdx::number::I64Text;

use super::{popped, pushed, side};
use crate::command::grammar::{at_least, wait_until};
use crate::command::traits::BLOCKING;
use crate::command::{Access, Args, Command, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::write("blmovem", -6, blmovem)
        .syntax("source destination wherefrom(LEFT|RIGHT) whereto(LEFT|RIGHT) timeout [how-many(selector(COUNT count|EXACTLY exactly=integer) ordering(OBO|BULK))]")
        .keys(1, 2, 1)
        .deny_oom()
        .accesses(Access::Take, Access::Insert)
        .flags(BLOCKING)
        .group("list")
        .about("8.10.0", "O(N) in the elements", "Moves elements between lists, waiting for them."),
    Command::write("lmovem", -5, lmovem)
        .syntax("source destination wherefrom(LEFT|RIGHT) whereto(LEFT|RIGHT) [how-many(selector(COUNT count|EXACTLY exactly=integer) ordering(OBO|BULK))]")
        .keys(1, 2, 1)
        .deny_oom()
        .accesses(Access::Take, Access::Insert)
        .group("list")
        .about("8.10.0", "O(N) in the elements", "Moves elements from an end of a list to an end of another."),
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ordering {
    OneByOne,
    Bulk,
}

/// How many elements move, and in what order they arrive.
#[derive(Clone, Copy, Debug)]
struct HowMany {
    count: usize,
    /// None move if there are fewer.
    is_exact: bool,
    ordering: Ordering,
}

impl HowMany {
    /// Parses all that is left of `args`; one element if that is nothing.
    fn parse(args: &mut Args<'_>) -> Result<HowMany> {
        if args.is_empty() {
            return Ok(HowMany {
                count: 1,
                is_exact: false,
                ordering: Ordering::OneByOne,
            });
        }
        let is_exact = match args.word().as_deref() {
            Some(b"COUNT") => false,
            Some(b"EXACTLY") => true,
            _ => return Err(Error::Syntax),
        };
        let count = at_least(1, args.take()?, "ERR count should be greater than 0")?;
        let ordering = match args.word().as_deref() {
            Some(b"OBO") => Ordering::OneByOne,
            Some(b"BULK") => Ordering::Bulk,
            _ => return Err(Error::Syntax),
        };
        args.end()?;
        Ok(HowMany {
            count,
            is_exact,
            ordering,
        })
    }

    /// How many of `len` elements move.
    fn of(self, len: usize) -> usize {
        match self.is_exact && len < self.count {
            true => 0,
            false => self.count.min(len),
        }
    }
}

/// An end of a list to take from, and one to put to.
#[derive(Clone, Copy)]
struct Way<'a> {
    source: &'a [u8],
    destination: &'a [u8],
    from: Side,
    to: Side,
}

impl<'a> Way<'a> {
    fn parse(args: &mut Args<'a>) -> Result<Way<'a>> {
        Ok(Way {
            source: args.take()?,
            destination: args.take()?,
            from: side(args)?,
            to: side(args)?,
        })
    }
}

/// Moves what there is to move; how many elements that was.
fn move_items(
    ctx: &mut WriteCtx<'_>,
    reply: &mut Reply<'_>,
    way: Way<'_>,
    how_many: HowMany,
) -> Result<usize> {
    let n = how_many.of(ctx.db.list(way.source)?.map_or(0, ListRef::len));
    if n == 0 {
        return Ok(0);
    }
    ctx.db.list(way.destination)?;
    let (mut texts, mut ends) = (Vec::new(), Vec::with_capacity(n));
    if let Some(mut list) = ctx.db.list_mut(way.source)? {
        list.pop(way.from, n, &mut |item| {
            item.write_to(&mut texts);
            ends.push(texts.len());
        });
    }
    let mut start = 0;
    let mut items: Vec<&[u8]> = Vec::with_capacity(n);
    for end in ends {
        items.push(&texts[start..end]);
        start = end;
    }
    let turning_side = match how_many.ordering {
        Ordering::OneByOne => way.to == Side::Head,
        Ordering::Bulk => way.from == Side::Tail,
    };
    if turning_side {
        items.reverse();
    }
    let mut list = ctx.db.list_or_new(way.destination)?;
    match way.to {
        Side::Tail => list.push(Side::Tail, items.iter().copied()),
        Side::Head => list.push(Side::Head, items.iter().rev().copied()),
    }
    ctx.changed(pushed(way.to), way.destination);
    ctx.changed(popped(way.from), way.source);
    ctx.effects.n_changes -= 1; // one change, seen from two sides
    reply.array(n);
    items.iter().for_each(|item| reply.bulk(item));
    Ok(n)
}

fn lmovem(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let way = Way::parse(args)?;
    let how_many = HowMany::parse(args)?;
    if move_items(ctx, reply, way, how_many)? == 0 {
        match how_many.is_exact {
            true => reply.null_array(),
            false => reply.array(0),
        }
    }
    Ok(())
}

/// Propagated as LMOVEM of as many elements as there were.
fn blmovem(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let way = Way::parse(args)?;
    let until_ms = wait_until(args.take()?, ctx.now_ms())?;
    let how_many = HowMany::parse(args)?;
    let n = move_items(ctx, reply, way, how_many)?;
    if n == 0 {
        reply.null_array();
        ctx.wait(until_ms);
        return Ok(());
    }
    let word = |side| match side {
        Side::Head => &b"LEFT"[..],
        Side::Tail => b"RIGHT",
    };
    let ordering: &[u8] = match how_many.ordering {
        Ordering::OneByOne => b"OBO",
        Ordering::Bulk => b"BULK",
    };
    let n = I64Text::new(n as i64);
    let (from, to) = (word(way.from), word(way.to));
    let ends = [b"LMOVEM", way.source, way.destination, from, to];
    let counted = [b"COUNT", n.as_bytes(), ordering];
    ctx.propagate(&[&ends[..], &counted[..]].concat());
    Ok(())
}
