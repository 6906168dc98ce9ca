//! Unions, intersections and differences of sorted sets; plain sets take part with scores of 1.
//!
//! Sources are combined smallest first, except in a difference, where the first one counts. A sum
//! of opposite infinities is 0, as is infinity times 0: a score is never NaN.

use std::cmp::Ordering;
use std::collections::HashMap;

use datatypes::encoding::listpack::{Item, ItemBuffer};
use datatypes::set::SetRef;
use datatypes::value::ValueRef;
use datatypes::zset::ZsetRef;
use keyspace::db::View;
use resp::reply::Reply;
use stdx::number::parse_f64;

use super::{Pairs, begin_members, store, write_member};
use crate::command::grammar::{NEGATIVE_LIMIT, at_least};
use crate::command::{Access, Args, Command, ReadCtx, WriteCtx};
use crate::error::{Error, Result};

/// The commands that combine sets.
pub const COMMANDS: &[Command] = &[
    Command::read("zdiff", -3, zdiff)
        .syntax("numkeys key ... [WITHSCORES]")
        .numkeys(1)
        .group("sorted-set")
        .about("6.2.0", "O(L + (N-K)log(N))", "Returns what only the first set has."),
    Command::write("zdiffstore", -4, zdiffstore)
        .syntax("destination numkeys key ...")
        .keys_and_numkeys(1, 2)
        .deny_oom()
        .access(Access::Overwrite)
        .group("sorted-set")
        .about("6.2.0", "O(L + (N-K)log(N))", "Stores what only the first set has."),
    Command::read("zinter", -3, zinter)
        .syntax(
            "numkeys key ... [WEIGHTS weight ...] [AGGREGATE aggregate(SUM|MIN|MAX)] [WITHSCORES]",
        )
        .numkeys(1)
        .group("sorted-set")
        .about("6.2.0", "O(N*K)+O(M*log(M))", "Returns what all sets have."),
    Command::read("zintercard", -3, zintercard)
        .syntax("numkeys key ... [LIMIT limit]")
        .numkeys(1)
        .group("sorted-set")
        .about("7.0.0", "O(N*K)", "Counts what all sets have."),
    Command::write("zinterstore", -4, zinterstore)
        .syntax(
            "destination numkeys key ... [WEIGHTS weight ...] [AGGREGATE aggregate(SUM|MIN|MAX)]",
        )
        .keys_and_numkeys(1, 2)
        .deny_oom()
        .access(Access::Overwrite)
        .group("sorted-set")
        .about("2.0.0", "O(N*K)+O(M*log(M))", "Stores what all sets have."),
    Command::read("zunion", -3, zunion)
        .syntax(
            "numkeys key ... [WEIGHTS weight ...] [AGGREGATE aggregate(SUM|MIN|MAX)] [WITHSCORES]",
        )
        .numkeys(1)
        .group("sorted-set")
        .about("6.2.0", "O(N)+O(M*log(M))", "Returns what any of the sets has."),
    Command::write("zunionstore", -4, zunionstore)
        .syntax(
            "destination numkeys key ... [WEIGHTS weight ...] [AGGREGATE aggregate(SUM|MIN|MAX)]",
        )
        .keys_and_numkeys(1, 2)
        .deny_oom()
        .access(Access::Overwrite)
        .group("sorted-set")
        .about("2.0.0", "O(N)+O(M*log(M))", "Stores what any of the sets has."),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum Operation {
    Union,
    Inter,
    Diff,
}

#[derive(Clone, Copy)]
enum Aggregate {
    Sum,
    Min,
    Max,
}

impl Aggregate {
    fn of(self, one: f64, other: f64) -> f64 {
        match self {
            Aggregate::Sum => number_or_zero(one + other),
            Aggregate::Min => one.min(other),
            Aggregate::Max => one.max(other),
        }
    }
}

fn number_or_zero(score: f64) -> f64 {
    if score.is_nan() { 0.0 } else { score }
}

/// One input; an absent key is an empty set.
#[derive(Clone, Copy)]
enum Members<'v> {
    Scored(ZsetRef<'v>),
    Plain(SetRef<'v>),
}

impl<'v> Members<'v> {
    fn of(db: &'v View<'_>, key: &[u8]) -> Result<Members<'v>> {
        match db.value(key) {
            None => Ok(Members::Scored(ZsetRef::EMPTY)),
            Some(ValueRef::Zset(zset)) => Ok(Members::Scored(zset)),
            Some(ValueRef::Set(set)) => Ok(Members::Plain(set)),
            Some(_) => Err(Error::WrongType),
        }
    }

    fn len(self) -> usize {
        match self {
            Members::Scored(zset) => zset.len(),
            Members::Plain(set) => set.len(),
        }
    }

    fn score(self, member: &[u8]) -> Option<f64> {
        match self {
            Members::Scored(zset) => zset.score(member),
            Members::Plain(set) => set.contains(member).then_some(1.0),
        }
    }

    /// Shows members until `visit` answers `false`.
    fn each(self, visit: &mut dyn FnMut(&[u8], f64) -> bool) {
        let mut buffer = ItemBuffer::new();
        match self {
            Members::Scored(zset) => {
                zset.iter()
                    .all(|(member, score)| visit(member.text(&mut buffer), score));
            }
            Members::Plain(set) => {
                set.iter()
                    .all(|member| visit(member.text(&mut buffer), 1.0));
            }
        }
    }
}

#[derive(Clone, Copy)]
struct Source<'v> {
    members: Members<'v>,
    weight: f64,
}

impl Source<'_> {
    fn weighted(self, score: f64) -> f64 {
        number_or_zero(score * self.weight)
    }
}

/// A parsed combination.
struct Plan<'v> {
    operation: Operation,
    sources: Vec<Source<'v>>,
    aggregate: Aggregate,
    with_scores: bool,
}

fn sources<'v>(db: &'v View<'_>, args: &mut Args<'_>) -> Result<Vec<Source<'v>>> {
    let n_keys = args.int()?;
    if n_keys < 1 {
        return Err(Error::Owned(format!(
            "ERR at least 1 input key is needed for '{}' command",
            args.name()
        )));
    }
    args.take_n(usize::try_from(n_keys).unwrap_or(usize::MAX))?
        .iter()
        .map(|key| {
            Members::of(db, key).map(|members| Source {
                members,
                weight: 1.0,
            })
        })
        .collect()
}

impl<'v> Plan<'v> {
    fn parse(
        db: &'v View<'_>,
        args: &mut Args<'_>,
        operation: Operation,
        is_stored: bool,
    ) -> Result<Plan<'v>> {
        let mut plan = Plan {
            operation,
            sources: sources(db, args)?,
            aggregate: Aggregate::Sum,
            with_scores: false,
        };
        let has_scores = operation != Operation::Diff;
        while let Some(word) = args.word() {
            match &*word {
                b"WEIGHTS" if has_scores => plan.weights(args)?,
                b"AGGREGATE" if has_scores => {
                    plan.aggregate = match args.word().as_deref() {
                        Some(b"SUM") => Aggregate::Sum,
                        Some(b"MIN") => Aggregate::Min,
                        Some(b"MAX") => Aggregate::Max,
                        _ => return Err(Error::Syntax),
                    }
                }
                b"WITHSCORES" if !is_stored => plan.with_scores = true,
                _ => return Err(Error::Syntax),
            }
        }
        if has_scores {
            plan.sources.sort_by_key(|source| source.members.len());
        }
        Ok(plan)
    }

    fn weights(&mut self, args: &mut Args<'_>) -> Result<()> {
        let weights = args.take_n(self.sources.len())?;
        for (source, text) in self.sources.iter_mut().zip(weights) {
            source.weight =
                parse_f64(text).ok_or(Error::Plain("ERR weight value is not a float"))?;
        }
        Ok(())
    }

    /// The members of the result, lowest score first.
    fn run(&self) -> Pairs {
        let mut members = match self.operation {
            Operation::Union => self.union(),
            Operation::Inter => {
                let mut members = Vec::new();
                self.each_common(&mut |member, score| {
                    members.push((member.to_vec(), score));
                    true
                });
                members
            }
            Operation::Diff => self.difference(),
        };
        members.sort_by(|one, other| {
            one.1
                .partial_cmp(&other.1)
                .unwrap_or(Ordering::Equal)
                .then_with(|| one.0.cmp(&other.0))
        });
        members
    }

    fn union(&self) -> Pairs {
        let mut scores: HashMap<Vec<u8>, f64> = HashMap::new();
        for source in &self.sources {
            source.members.each(&mut |member, score| {
                let score = source.weighted(score);
                match scores.get_mut(member) {
                    Some(sum) => *sum = self.aggregate.of(*sum, score),
                    None => {
                        scores.insert(member.to_vec(), score);
                    }
                }
                true
            });
        }
        scores.into_iter().collect()
    }

    /// Shows what all sources have until `visit` answers `false`.
    fn each_common(&self, visit: &mut dyn FnMut(&[u8], f64) -> bool) {
        let Some((first, others)) = self.sources.split_first() else {
            return;
        };
        first.members.each(&mut |member, score| {
            let mut total = first.weighted(score);
            for other in others {
                let Some(score) = other.members.score(member) else {
                    return true;
                };
                total = self.aggregate.of(total, other.weighted(score));
            }
            visit(member, total)
        });
    }

    fn difference(&self) -> Pairs {
        let mut members = Vec::new();
        if let Some((first, others)) = self.sources.split_first() {
            first.members.each(&mut |member, score| {
                let is_elsewhere = |other: &Source<'_>| other.members.score(member).is_some();
                if !others.iter().any(is_elsewhere) {
                    members.push((member.to_vec(), score));
                }
                true
            });
        }
        members
    }
}

fn show(
    ctx: &mut ReadCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    operation: Operation,
) -> Result<()> {
    let plan = Plan::parse(&ctx.db, args, operation, false)?;
    let members = plan.run();
    begin_members(reply, members.len(), plan.with_scores);
    for (member, score) in &members {
        write_member(reply, (Item::Bytes(member), *score), plan.with_scores);
    }
    Ok(())
}

fn zunion(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    show(ctx, args, reply, Operation::Union)
}

fn zinter(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    show(ctx, args, reply, Operation::Inter)
}

fn zdiff(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    show(ctx, args, reply, Operation::Diff)
}

fn combine_into(
    ctx: &mut WriteCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
    operation: Operation,
) -> Result<()> {
    let destination = args.take()?;
    let members = Plan::parse(&ctx.db, args, operation, true)?.run();
    let event = args.name();
    store(ctx, destination, &members, event)?;
    reply.count(members.len());
    Ok(())
}

fn zunionstore(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    combine_into(ctx, args, reply, Operation::Union)
}

fn zinterstore(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    combine_into(ctx, args, reply, Operation::Inter)
}

fn zdiffstore(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    combine_into(ctx, args, reply, Operation::Diff)
}

fn zintercard(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let mut sources = sources(&ctx.db, args)?;
    let mut limit = 0;
    while args.eat(b"LIMIT") {
        limit = at_least(0, args.take()?, NEGATIVE_LIMIT)?;
    }
    args.end()?;
    sources.sort_by_key(|source| source.members.len());
    let plan = Plan {
        operation: Operation::Inter,
        sources,
        aggregate: Aggregate::Sum,
        with_scores: false,
    };
    let mut n_common = 0;
    plan.each_common(&mut |_, _| {
        n_common += 1;
        n_common != limit
    });
    reply.count(n_common);
    Ok(())
}
