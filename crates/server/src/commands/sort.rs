//! SORT: the elements of a list, set or sorted set in an order, or what keys made of them hold.
//!
//! A pattern such as `weight_*` or `user:*->name` makes a key of each element, which nobody has
//! declared; a request with one runs as the transaction.

use std::cmp::Ordering;
use std::ops::Range;

use datatypes::encoding::listpack::{Item, ItemBuffer};
use datatypes::encoding::quicklist::Side;
use datatypes::value::ValueRef;
use keyspace::db::View;
use resp::reply::Reply;

use crate::command::event::Event;
use crate::command::{Access, Args, Category, Command, Reach, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::write("sort", -2, sort)
        .syntax("key [BY by-pattern] [LIMIT limit(offset count)] [GET get-pattern +...] [order(ASC|DESC)] [sorting(ALPHA)] [STORE destination]")
        .key_and_stored(1, OPTIONS)
        .reach(reach)
        .reads_beyond(reads_beyond)
        .deny_oom()
        .accesses(Access::Read, Access::Overwrite)
        .categories(TYPES)
        .group("generic")
        .about("1.0.0", "O(N+M*log(M))", "Sorts the elements of a collection, and may store them."),
    Command::read("sort_ro", -2, sort_ro)
        .syntax("key [BY by-pattern] [LIMIT limit(offset count)] [GET get-pattern +...] [order(ASC|DESC)] [sorting(ALPHA)]")
        .key_and_stored(1, OPTIONS)
        .reach(reach)
        .reads_beyond(reads_beyond)
        .categories(TYPES)
        .group("generic")
        .about("7.0.0", "O(N+M*log(M))", "Sorts the elements of a collection."),
];

const TYPES: &[Category] = &[
    Category::Dangerous,
    Category::List,
    Category::Set,
    Category::SortedSet,
];

/// The options before `STORE` that have arguments.
const OPTIONS: &[(&str, usize)] = &[("BY", 1), ("GET", 1), ("LIMIT", 2)];

const NOT_A_NUMBER: Error = Error::Plain("ERR One or more scores can't be converted into double");

#[derive(Default)]
struct SortOptions<'a> {
    by: Option<&'a [u8]>,
    gets: Vec<&'a [u8]>,
    limit: Option<(i64, i64)>,
    is_descending: bool,
    is_alpha: bool,
    store: Option<&'a [u8]>,
    /// A script asks, whose effects must not depend on the order of a set.
    is_scripted: bool,
}

impl<'a> SortOptions<'a> {
    fn parse(args: &mut Args<'a>) -> Result<SortOptions<'a>> {
        let is_sort = args.name() == "sort";
        let mut options = SortOptions::default();
        while let Some(word) = args.word() {
            match &*word {
                b"ASC" => options.is_descending = false,
                b"DESC" => options.is_descending = true,
                b"ALPHA" => options.is_alpha = true,
                b"LIMIT" if args.len() >= 2 => options.limit = Some((args.int()?, args.int()?)),
                b"BY" => options.by = Some(args.take()?),
                b"GET" => options.gets.push(args.take()?),
                b"STORE" if is_sort => options.store = Some(args.take()?),
                _ => return Err(Error::Syntax),
            }
        }
        Ok(options)
    }

    /// A pattern that makes the same key of all elements says not to sort at all.
    fn is_unsorted(&self) -> bool {
        self.by.is_some_and(|by| !by.contains(&b'*'))
    }

    fn has_patterns(&self) -> bool {
        let mut patterns = self.gets.iter().chain(&self.by);
        patterns.any(|pattern| pattern.contains(&b'*'))
    }

    /// The elements wanted out of `len`.
    fn bounds(&self, len: usize) -> Range<usize> {
        let Some((offset, count)) = self.limit else {
            return 0..len;
        };
        let start = usize::try_from(offset).unwrap_or(0).min(len);
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        start..start.saturating_add(count).min(len)
    }

    /// The same, counted from the front if the last element comes first.
    fn indexes(&self, len: usize) -> Range<usize> {
        let bounds = self.bounds(len);
        match self.is_descending {
            true => len - bounds.end..len - bounds.start,
            false => bounds,
        }
    }
}

/// Patterns make keys that no rule has seen: who may not read all keys may not use them.
fn reads_beyond(request: &[&[u8]]) -> Option<&'static str> {
    let mut at = 2;
    while let Some(word) = request.get(at) {
        let is = |name: &str| word.eq_ignore_ascii_case(name.as_bytes());
        let makes_keys = request
            .get(at + 1)
            .is_some_and(|pattern| pattern.contains(&b'*'));
        if is("BY") && makes_keys {
            return Some("ERR BY option of SORT denied due to insufficient ACL permissions.");
        }
        if is("GET") && at + 1 < request.len() {
            return Some("ERR GET option of SORT denied due to insufficient ACL permissions.");
        }
        let option = OPTIONS.iter().find(|(name, _)| is(name));
        at += 1 + option.map_or(usize::from(is("STORE")), |(_, n)| *n);
    }
    None
}

fn reach(request: &[&[u8]]) -> Reach {
    let rest = request.get(2..).unwrap_or_default();
    match SortOptions::parse(&mut Args::new("sort", rest)) {
        Ok(options) if options.has_patterns() => Reach::Transaction,
        _ => Reach::Keys,
    }
}

fn sort(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let mut options = SortOptions::parse(args)?;
    options.is_scripted = ctx.directives.is_scripted;
    let Some(destination) = options.store else {
        return answer(&ctx.db, key, &options, reply);
    };
    let mut stored = Vec::new();
    for item in ordered(&ctx.db, key, &options)? {
        wanted(&ctx.db, item, &options, &mut |found| {
            stored.push(found.map_or_else(Vec::new, Item::to_vec));
        });
    }
    let was_there = ctx.db.remove(destination);
    if !stored.is_empty() {
        let mut list = ctx.db.list_or_new(destination)?;
        list.push(Side::Tail, stored.iter().map(Vec::as_slice));
        ctx.changed(Event::list("sortstore"), destination);
        ctx.effects.n_changes += stored.len() as u64 - 1;
    } else if was_there {
        ctx.changed(Event::generic("del"), destination);
    }
    if was_there || !stored.is_empty() {
        propagate(ctx, destination, &stored);
    }
    reply.count(stored.len());
    Ok(())
}

/// What was stored, since the order of a set is its own affair, and so may be what patterns found.
fn propagate(ctx: &mut WriteCtx<'_>, destination: &[u8], stored: &[Vec<u8>]) {
    ctx.propagate(&[b"DEL", destination]);
    for chunk in stored.chunks(1024) {
        let mut command = vec![&b"RPUSH"[..], destination];
        command.extend(chunk.iter().map(Vec::as_slice));
        ctx.propagate(&command);
    }
}

fn sort_ro(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let mut options = SortOptions::parse(args)?;
    options.is_scripted = ctx.directives.is_scripted;
    answer(&ctx.db, key, &options, reply)
}

fn answer(
    db: &View<'_>,
    key: &[u8],
    options: &SortOptions<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let items = ordered(db, key, options)?;
    reply.array(items.len() * options.gets.len().max(1));
    for item in items {
        wanted(db, item, options, &mut |found| match found {
            _ if reply.is_full() => {}
            Some(Item::Int(n)) => reply.bulk_int(n),
            Some(Item::Bytes(text)) => reply.bulk(text),
            None => reply.null(),
        });
        if reply.is_full() {
            return Err(Error::ReplyTooLong);
        }
    }
    Ok(())
}

/// Visits what is wanted for one element: itself, or what each GET finds for it.
fn wanted(
    db: &View<'_>,
    item: Item<'_>,
    options: &SortOptions<'_>,
    visit: &mut dyn FnMut(Option<Item<'_>>),
) {
    if options.gets.is_empty() {
        return visit(Some(item));
    }
    for pattern in &options.gets {
        match *pattern {
            b"#" => visit(Some(item)),
            pattern => visit(look_up(db, pattern, item)),
        }
    }
}

/// What an element is compared by.
enum Weight<'v> {
    Number(f64),
    Text(Option<Item<'v>>),
}

/// The elements that are wanted, in order.
fn ordered<'v>(db: &'v View<'_>, key: &[u8], options: &SortOptions<'_>) -> Result<Vec<Item<'v>>> {
    let Some(value) = db.value(key) else {
        return Ok(Vec::new());
    };
    let bounds = options.bounds(value.len());
    let is_unsorted = options.is_unsorted();
    match value {
        ValueRef::List(list) if is_unsorted => {
            let indexes = options.indexes(list.len());
            Ok(list.range(indexes, options.is_descending).collect())
        }
        ValueRef::Zset(zset) if is_unsorted => {
            let ranks = options.indexes(zset.len());
            let members = zset.range(ranks, options.is_descending);
            Ok(members.map(|(member, _)| member).collect())
        }
        ValueRef::List(list) => sorted(db, list.iter(), bounds, options),
        ValueRef::Zset(zset) => sorted(db, zset.iter().map(|(member, _)| member), bounds, options),
        // What is stored must not depend on the order of a set.
        ValueRef::Set(set) if is_unsorted && options.store.is_none() && !options.is_scripted => {
            Ok(set.iter().skip(bounds.start).take(bounds.len()).collect())
        }
        ValueRef::Set(set) => sorted(db, set.iter(), bounds, options),
        ValueRef::String(_) | ValueRef::Hash(_) | ValueRef::Stream(_) => Err(Error::WrongType),
    }
}

fn sorted<'v>(
    db: &'v View<'_>,
    items: impl Iterator<Item = Item<'v>>,
    bounds: Range<usize>,
    options: &SortOptions<'_>,
) -> Result<Vec<Item<'v>>> {
    let by = options.by.filter(|_| !options.is_unsorted());
    let is_alpha = options.is_alpha || options.is_unsorted();
    let weigh = |item: Item<'v>| {
        let text = match by {
            Some(pattern) => look_up(db, pattern, item),
            None => Some(item),
        };
        let weight = match is_alpha {
            true => Weight::Text(text),
            false => Weight::Number(text.map_or(Ok(0.0), number)?),
        };
        Ok((weight, item))
    };
    let mut weighed = items.map(weigh).collect::<Result<Vec<_>>>()?;
    weighed.sort_by(|a, b| match options.is_descending {
        true => compare(b, a),
        false => compare(a, b),
    });
    let wanted = weighed[bounds].iter();
    Ok(wanted.map(|(_, item)| *item).collect())
}

/// By weight; equal numbers by the elements' texts.
fn compare(a: &(Weight<'_>, Item<'_>), b: &(Weight<'_>, Item<'_>)) -> Ordering {
    match (&a.0, &b.0) {
        (Weight::Number(x), Weight::Number(y)) => x
            .partial_cmp(y)
            .unwrap_or(Ordering::Equal)
            .then_with(|| compare_texts(a.1, b.1)),
        (Weight::Text(Some(x)), Weight::Text(Some(y))) => compare_texts(*x, *y),
        (Weight::Text(x), Weight::Text(y)) => x.is_some().cmp(&y.is_some()),
        _ => Ordering::Equal,
    }
}

fn compare_texts(a: Item<'_>, b: Item<'_>) -> Ordering {
    let (mut of_a, mut of_b) = (ItemBuffer::new(), ItemBuffer::new());
    a.text(&mut of_a).cmp(b.text(&mut of_b))
}

fn number(item: Item<'_>) -> Result<f64> {
    match item {
        Item::Int(n) => Ok(n as f64),
        Item::Bytes(text) => stdx::number::parse_score_bound(text).ok_or(NOT_A_NUMBER),
    }
}

/// The string, or the field of a hash, whose key `pattern` makes of `item`.
fn look_up<'v>(db: &'v View<'_>, pattern: &[u8], item: Item<'_>) -> Option<Item<'v>> {
    let star = pattern.iter().position(|byte| *byte == b'*')?;
    let (before, after) = (&pattern[..star], &pattern[star + 1..]);
    let arrow = after.windows(2).position(|pair| pair == b"->");
    let arrow = arrow.filter(|at| at + 2 < after.len());
    let mut buffer = ItemBuffer::new();
    let middle = item.text(&mut buffer);
    match arrow {
        Some(at) => {
            let key = [before, middle, &after[..at]].concat();
            db.hash(&key).ok()??.get(&after[at + 2..])
        }
        None => db.string(&[before, middle, after].concat()).ok()?,
    }
}
