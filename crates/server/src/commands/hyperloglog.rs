//! HyperLogLogs: strings that count different elements. See [`datatypes::hyperloglog`].

use datatypes::home::{Encoding, NewPayload};
use datatypes::hyperloglog::{self, Corrupt, N_REGISTERS, Registers, sparse};
use datatypes::string::StringRef;
use keyspace::db::Expiry;
use resp::reply::Reply;

use crate::command::event::Event;
use crate::command::{Access, AdminCtx, Args, Command, Flag, WriteCtx};
use crate::error::{Error, Result};

/// The commands of this family.
pub const COMMANDS: &[Command] = &[
    Command::write("pfadd", -2, pfadd)
        .syntax("key [element ...]")
        .key(1)
        .fast()
        .deny_oom()
        .access(Access::Insert)
        .group("hyperloglog")
        .about("2.8.9", "O(1)", "Adds elements to a HyperLogLog; whether that changed it."),
    Command::write("pfcount", -2, pfcount)
        .syntax("key ...")
        .keys(1, -1, 1)
        .flags(&[Flag::ReadOnly])
        .access(Access::Refresh)
        .group("hyperloglog")
        .about("2.8.9", "O(1)", "Returns about how many different elements were added."),
    Command::write("pfdebug", 3, pfdebug)
        .syntax("subcommand key")
        .key(2)
        .deny_oom()
        .flags(&[Flag::Admin, Flag::Undocumented])
        .access(Access::Refresh)
        .group("hyperloglog")
        .about("2.8.9", "N/A", "Looks into a HyperLogLog."),
    Command::write("pfmerge", -2, pfmerge)
        .syntax("destkey=key [sourcekey=key ...]")
        .keys(1, -1, 1)
        .deny_oom()
        .accesses(Access::Unite, Access::Read)
        .group("hyperloglog")
        .about("2.8.9", "O(N) in the keys", "Adds HyperLogLogs to another one."),
    Command::admin("pfselftest", 1, pfselftest)
        .flags(&[Flag::Admin, Flag::Undocumented])
        .group("hyperloglog")
        .about("2.8.9", "N/A", "Checks that HyperLogLogs count well."),
];

const NOT_ONE: Error = Error::Plain("WRONGTYPE Key is not a valid HyperLogLog string value.");

impl From<Corrupt> for Error {
    fn from(_: Corrupt) -> Error {
        Error::Plain("INVALIDOBJ Corrupted HLL object detected")
    }
}

/// The bytes of a HyperLogLog.
fn valid(string: StringRef<'_>) -> Result<&[u8]> {
    match string {
        StringRef::Bytes(bytes) if hyperloglog::is_valid(bytes) => Ok(bytes),
        _ => Err(NOT_ONE),
    }
}

fn put(ctx: &mut WriteCtx<'_>, key: &[u8], bytes: &[u8]) {
    let payload = NewPayload::Blob(bytes);
    ctx.db.put(key, Encoding::Edited, payload, Expiry::Keep);
}

fn pfadd(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let old = ctx.db.string(key)?.map(valid).transpose()?;
    let mut is_changed = old.is_none();
    if let Some(dense) = old.filter(|old| hyperloglog::is_dense(old)) {
        // Most elements raise nothing once there are many.
        let raises = |element: &[u8]| {
            let (index, value) = hyperloglog::locate(element);
            hyperloglog::is_lower(dense, index, value)
        };
        let elements = args.rest();
        if elements.clone().any(raises) {
            is_changed = add_in_place(ctx, key, elements)?;
        }
    } else {
        let sparse_max_bytes = ctx.limits().hll_sparse_max_bytes;
        let mut bytes = old.map_or_else(hyperloglog::fresh, <[u8]>::to_vec);
        for element in args.rest() {
            let (index, value) = hyperloglog::locate(element);
            is_changed |= hyperloglog::raise(&mut bytes, index, value, sparse_max_bytes)?;
        }
        if is_changed {
            hyperloglog::invalidate(&mut bytes);
            put(ctx, key, &bytes);
        }
    }
    if is_changed {
        ctx.changed(Event::string("pfadd"), key);
    }
    reply.int(is_changed.into());
    Ok(())
}

fn add_in_place<'a>(
    ctx: &mut WriteCtx<'_>,
    key: &[u8],
    elements: impl Iterator<Item = &'a [u8]>,
) -> Result<bool> {
    let Some(mut string) = ctx.db.string_mut(key)? else {
        return Ok(false);
    };
    let bytes = string.bytes_mut(0);
    let mut is_changed = false;
    for element in elements {
        let (index, value) = hyperloglog::locate(element);
        is_changed |= hyperloglog::raise_dense(bytes, index, value);
    }
    if is_changed {
        hyperloglog::invalidate(bytes);
    }
    Ok(is_changed)
}

fn pfcount(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let keys = args.rest();
    let mut registers = Registers::default();
    if keys.len() > 1 {
        for key in keys {
            if let Some(string) = ctx.db.string(key)? {
                registers.merge(valid(string)?)?;
            }
        }
        reply.int(registers.estimate() as i64);
        return Ok(());
    }
    for key in keys {
        let Some(string) = ctx.db.string(key)? else {
            reply.int(0);
            continue;
        };
        let bytes = valid(string)?;
        if let Some(cardinality) = hyperloglog::cached(bytes) {
            reply.int(cardinality as i64);
            continue;
        }
        registers.merge(bytes)?;
        let cardinality = registers.estimate();
        if let Some(mut string) = ctx.db.string_mut(key)? {
            hyperloglog::cache(string.bytes_mut(0), cardinality);
        }
        ctx.changed(Event::SILENT, key);
        reply.int(cardinality as i64);
    }
    Ok(())
}

fn pfmerge(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let destination = args.peek().ok_or(Error::Syntax)?;
    let mut registers = Registers::default();
    let mut is_dense = false;
    for key in args.rest() {
        if let Some(string) = ctx.db.string(key)? {
            let bytes = valid(string)?;
            is_dense |= hyperloglog::is_dense(bytes);
            registers.merge(bytes)?;
        }
    }
    let old = ctx.db.string(destination)?.map(valid).transpose()?;
    let mut bytes = old.map_or_else(hyperloglog::fresh, <[u8]>::to_vec);
    if is_dense {
        bytes = hyperloglog::to_dense(&bytes)?;
    }
    let sparse_max_bytes = ctx.limits().hll_sparse_max_bytes;
    for (index, value) in registers.values().iter().enumerate() {
        if *value > 0 {
            hyperloglog::raise(&mut bytes, index, *value, sparse_max_bytes)?;
        }
    }
    hyperloglog::invalidate(&mut bytes);
    put(ctx, destination, &bytes);
    ctx.changed(Event::string("pfadd"), destination);
    reply.ok();
    Ok(())
}

fn pfdebug(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (subcommand, key) = (args.take()?, args.take()?);
    let string = ctx.db.string(key)?;
    let string = string.ok_or(Error::Plain("ERR The specified key does not exist"))?;
    let bytes = valid(string)?;
    let is_dense = hyperloglog::is_dense(bytes);
    match &*subcommand.to_ascii_lowercase() {
        b"getreg" => {
            let mut registers = Registers::default();
            registers.merge(bytes)?;
            make_dense(ctx, key)?;
            reply.array(N_REGISTERS);
            let values = registers.values().iter();
            values.for_each(|value| reply.int((*value).into()));
        }
        b"decode" if is_dense => {
            return Err(Error::Plain("ERR HLL encoding is not sparse"));
        }
        b"decode" => reply.bulk(sparse::decoded(bytes)?.as_bytes()),
        b"encoding" => reply.simple(if is_dense { "dense" } else { "sparse" }),
        b"todense" => {
            make_dense(ctx, key)?;
            reply.int((!is_dense).into());
        }
        _ => {
            let name = String::from_utf8_lossy(subcommand).replace(['\r', '\n'], " ");
            return Err(Error::Owned(format!("ERR Unknown PFDEBUG subcommand '{name}'")));
        }
    }
    Ok(())
}

fn make_dense(ctx: &mut WriteCtx<'_>, key: &[u8]) -> Result<()> {
    let Some(string) = ctx.db.string(key)? else {
        return Ok(());
    };
    let bytes = valid(string)?;
    if !hyperloglog::is_dense(bytes) {
        let dense = hyperloglog::to_dense(bytes)?;
        put(ctx, key, &dense);
        ctx.changed(Event::SILENT, key);
    }
    Ok(())
}

/// Counts up to this many elements, and tolerates this share of error: four standard ones.
const TESTED_ELEMENTS: u64 = 100_000;
const TOLERATED_ERROR: f64 = 4.0 * 1.04 / 128.0;

fn pfselftest(_: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let mut dense = hyperloglog::to_dense(&hyperloglog::fresh())?;
    let mut next_check = 1;
    for n in 1..=TESTED_ELEMENTS {
        let (index, value) = hyperloglog::locate(&n.to_le_bytes());
        hyperloglog::raise_dense(&mut dense, index, value);
        if n < next_check {
            continue;
        }
        next_check *= 10;
        let mut registers = Registers::default();
        registers.merge(&dense)?;
        let (estimate, n) = (registers.estimate() as f64, n as f64);
        if (estimate - n).abs() > (TOLERATED_ERROR * n).ceil() {
            let line = format!("TESTFAILED {estimate} counted for {n} elements");
            return Err(Error::Owned(line));
        }
    }
    reply.ok();
    Ok(())
}
