//! DEBUG: what tests need to look behind the commands. Allowed by `enable-debug-command` only.
//!
//! What looks at another server's insides, or crashes on purpose, is left out.

mod digest;

use std::fmt::Write;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use datatypes::encoding::table::Record;
use datatypes::home::{Collection, Encoding, Payload};
use datatypes::value::ValueRef;
use keyspace::db::Expiry;
use resp::reply::{Proto, Reply};

use super::config::user_lines;
use super::object::shown_encoding;
use crate::command::context::{Order, Reload};
use crate::command::event::Event;
use crate::command::grammar::{NOT_POSITIVE, at_least};
use crate::command::{AdminCtx, Args, Command, Flag, ReadCtx, WriteCtx};
use crate::error::{Error, Result};
use crate::state::random_id;

/// The commands of this room.
pub const COMMANDS: &[Command] = &[Command::container("debug", SUBCOMMANDS)
    .flags(FLAGS)
    .group("server")
    .about("1.0.0", "Depends on the subcommand", "Looks behind the commands, for tests.")];

const FLAGS: &[Flag] = &[
    Flag::Admin,
    Flag::Loading,
    Flag::NoScript,
    Flag::Stale,
    Flag::System,
];

const SUBCOMMANDS: &[Command] = &[
    Command::admin("debug|aof-flush-sleep", 3, aof_flush_sleep)
        .syntax("microseconds=integer")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Has every write to the append-only file take this long."),
    Command::admin("debug|change-repl-id", 2, change_repl_id)
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Gives the history of the data a new id, as INFO shows."),
    Command::admin("debug|client-enforce-reply-list", 3, client_enforce_reply_list)
        .syntax("enabled(0|1)")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Counts every reply as 16 KiB at least where buffers are limited."),
    Command::admin("debug|config-rewrite-force-all", 2, config_rewrite_force_all)
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Rewrites the configuration file with every directive in it."),
    Command::admin("debug|dict-resizing", 3, switch_of_nothing)
        .syntax("enabled(0|1)")
        .flags(FLAGS)
        .about(
            "1.0.0",
            "O(1)",
            "Does nothing, as tables change by a bucket with no rehash to stop.",
        ),
    Command::admin("debug|delay-rdb-client-free-seconds", 3, delay_rdb_client_free)
        .syntax("seconds=integer")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Sets how long a snapshot that was sent keeps its stream."),
    Command::read("debug|digest", 2, digest::digest)
        .transaction()
        .no_touch()
        .flags(FLAGS)
        .about("1.0.0", "O(N) in all elements", "Returns a digest of the whole data set."),
    Command::read("debug|digest-value", -2, digest::digest_value)
        .syntax("[key ...]")
        .keys(2, -1, 1)
        .no_touch()
        .flags(FLAGS)
        .about("1.0.0", "O(N) in the elements", "Returns the digests of single values."),
    Command::admin("debug|error", 3, error)
        .syntax("message")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Answers with this error."),
    Command::help("debug|help").flags(FLAGS),
    Command::read("debug|htstats", -3, htstats)
        .syntax("index [full(FULL)]")
        .whole_keyspace()
        .flags(FLAGS)
        .about("1.0.0", "O(shards)", "Tells how large the tables of a database are."),
    Command::read("debug|htstats-key", -3, htstats_key)
        .syntax("key [full(FULL)]")
        .key(2)
        .no_touch()
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Tells how large the table of a value is."),
    Command::read("debug|listpack", 3, listpack)
        .syntax("key")
        .key(2)
        .no_touch()
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Tells how large the listpack of a value is, in the log."),
    Command::admin("debug|loadaof", 2, loadaof)
        .flags(FLAGS)
        .about("1.0.0", "O(N) in all elements", "Loads the append-only file anew."),
    Command::admin("debug|log", 3, log)
        .syntax("message")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Writes a line into the log."),
    Command::read("debug|object", 3, object)
        .syntax("key")
        .key(2)
        .no_touch()
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Tells how a value is stored."),
    Command::write("debug|populate", -3, populate)
        .syntax("count [prefix] [size=integer]")
        .transaction()
        .flags(FLAGS)
        .about("1.0.0", "O(N) in the keys", "Makes string keys that do not exist yet."),
    Command::admin("debug|pause-after-fork", 3, pause_after_fork)
        .syntax("enabled(0|1)")
        .flags(FLAGS)
        .about(
            "1.0.0",
            "O(1)",
            "Has the process stop itself when a snapshot for replicas is sent.",
        ),
    Command::admin("debug|pause-cron", 3, pause_cron)
        .syntax("enabled(0|1)")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Stops what happens on its own: due keys, timeouts of clients."),
    Command::admin("debug|protocol", 3, protocol)
        .syntax("type")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Answers with a value of a type of the protocol."),
    Command::read("debug|quicklist", -3, quicklist)
        .syntax("key [detail]")
        .key(2)
        .no_touch()
        .flags(FLAGS)
        .about("1.0.0", "O(N) in the nodes", "Tells which nodes a list has, in the log."),
    Command::admin("debug|quicklist-packed-threshold", 3, quicklist_packed_threshold)
        .syntax("size")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Sets from how many bytes an item is a node of its own."),
    Command::admin("debug|reload", -2, reload)
        .syntax("[MERGE] [NOFLUSH] [NOSAVE]")
        .flags(FLAGS)
        .about("1.0.0", "O(N) in all elements", "Saves the data set and loads it again."),
    Command::write("debug|replicate", -3, replicate)
        .syntax("word ...")
        .transaction()
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Writes these words into the journal, though nothing is done."),
    Command::admin("debug|replybuffer", 4, replybuffer)
        .syntax("setting(PEAK-RESET-TIME|RESIZING) value")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Does nothing, as no timer changes the buffers of replies."),
    Command::admin("debug|set-active-expire", 3, set_active_expire)
        .syntax("enabled(0|1)")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Says whether due keys go before anybody looks at them."),
    Command::admin("debug|set-disable-deny-scripts", 3, set_disable_deny_scripts)
        .syntax("enabled(0|1)")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Lets scripts call commands that are refused in scripts."),
    Command::admin("debug|set-skip-checksum-validation", 3, set_skip_checksum_validation)
        .syntax("enabled(0|1)")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Has RESTORE take payloads whatever their checksum."),
    Command::admin("debug|sleep", 3, sleep)
        .syntax("seconds=double")
        .flags(FLAGS)
        .about("1.0.0", "O(1)", "Keeps the thread of this connection busy for some time."),
];

/// What `PROTOCOL double` answers.
#[expect(clippy::approx_constant, reason = "what clients are tested with")]
const SOME_DOUBLE: f64 = 3.141;
/// The largest values that POPULATE makes.
const VALUE_BYTES_MAX: usize = 512 << 20;
const NO_DATABASE: Error = Error::Plain("ERR Out of range database");

fn error(_: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    let text = String::from_utf8_lossy(args.take()?);
    Err(Error::Owned(text.replace(['\r', '\n'], " ")))
}

fn log(_: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let text = args.take()?;
    log::warn!("DEBUG LOG: {}", text.escape_ascii());
    reply.ok();
    Ok(())
}

fn sleep(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let seconds = args.float()?.max(0.0);
    let time = Duration::try_from_secs_f64(seconds).map_err(|_| Error::OutOfRange)?;
    ctx.state.n_asleep.fetch_add(1, Relaxed);
    std::thread::sleep(time);
    ctx.state.n_asleep.fetch_sub(1, Relaxed);
    reply.ok();
    Ok(())
}

fn config_rewrite_force_all(
    ctx: &mut AdminCtx<'_>,
    _: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let rewritten = ctx.state.config.rewrite(user_lines(ctx.state), true);
    rewritten.map_err(|error| Error::Owned(error.to_string()))?;
    reply.ok();
    Ok(())
}

fn set_active_expire(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    ctx.state.expires_actively.store(args.int()? != 0, Relaxed);
    reply.ok();
    Ok(())
}

fn pause_after_fork(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let role = &ctx.state.role;
    role.stops_at_sync.store(is_on(args.take()?), Relaxed);
    reply.ok();
    Ok(())
}

fn delay_rdb_client_free(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let seconds = u64::try_from(args.int()?).map_err(|_| Error::OutOfRange)?;
    ctx.state.role.grace_s.store(seconds, Relaxed);
    reply.ok();
    Ok(())
}

fn pause_cron(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.state.is_cron_paused.store(is_on(args.take()?), Relaxed);
    reply.ok();
    Ok(())
}

fn client_enforce_reply_list(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    ctx.state.counts_blocks.store(is_on(args.take()?), Relaxed);
    reply.ok();
    Ok(())
}

fn set_skip_checksum_validation(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    ctx.state
        .skips_checksums
        .store(is_on(args.take()?), Relaxed);
    ctx.state.config.note_change();
    reply.ok();
    Ok(())
}

fn set_disable_deny_scripts(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    ctx.state
        .scripts_reach_all
        .store(is_on(args.take()?), Relaxed);
    reply.ok();
    Ok(())
}

/// Whether a switch is on; what is no number is zero, as in the original.
fn is_on(text: &[u8]) -> bool {
    stdx::number::parse_i64(text).is_some_and(|number| number != 0)
}

fn change_repl_id(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let replid = random_id().map_err(Error::Owned)?;
    ctx.state.role.begin_history(replid);
    reply.ok();
    Ok(())
}

fn replicate(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let words: Vec<&[u8]> = args.rest().collect();
    ctx.propagate(&words);
    reply.ok();
    Ok(())
}

/// A switch of something that is not there, so that both its positions are kept.
fn switch_of_nothing(_: &mut AdminCtx<'_>, _: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    reply.ok();
    Ok(())
}

fn replybuffer(_: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let (setting, value) = (args.word(), args.peek());
    let is_word = [&b"never"[..], b"reset"]
        .iter()
        .any(|word| value.is_some_and(|value| value.eq_ignore_ascii_case(word)));
    match setting.as_deref() {
        Some(b"RESIZING") => {}
        Some(b"PEAK-RESET-TIME") if is_word => {}
        Some(b"PEAK-RESET-TIME") => {
            args.int()?;
        }
        _ => return Err(Error::Syntax),
    }
    reply.ok();
    Ok(())
}

fn quicklist_packed_threshold(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let bytes = stdx::memory::parse_bytes(args.take()?)
        .filter(|bytes| *bytes < 4 << 30)
        .ok_or(Error::Plain(
            "ERR argument must be a memory value bigger than 1 and smaller than 4gb",
        ))?;
    let bytes = if bytes == 0 {
        usize::MAX
    } else {
        bytes as usize
    };
    ctx.state.list_plain_bytes.store(bytes, Relaxed);
    ctx.state.config.note_change();
    reply.ok();
    Ok(())
}

fn aof_flush_sleep(
    ctx: &mut AdminCtx<'_>,
    args: &mut Args<'_>,
    reply: &mut Reply<'_>,
) -> Result<()> {
    let sleep_us = args.int()?.max(0).unsigned_abs();
    ctx.state.aof.sleep_us.store(sleep_us, Relaxed);
    reply.ok();
    Ok(())
}

fn loadaof(ctx: &mut AdminCtx<'_>, _: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    ctx.order = Some(Order::Replay);
    Ok(())
}

fn reload(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, _: &mut Reply<'_>) -> Result<()> {
    let mut how = Reload {
        saves: true,
        flushes: true,
        merges: false,
    };
    while let Some(word) = args.word() {
        match &*word {
            b"MERGE" => how.merges = true,
            b"NOFLUSH" => how.flushes = false,
            b"NOSAVE" => how.saves = false,
            _ => {
                return Err(Error::Plain(
                    "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.",
                ));
            }
        }
    }
    ctx.order = Some(Order::Reload(how));
    Ok(())
}

fn object(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    ctx.db.see_due(); // it tells what is there
    let entry = ctx.db.entry(args.take()?).ok_or(Error::NoSuchKey)?;
    let mut line = format!(
        "Value at:{:p} refcount:1 encoding:{} lru:{} lru_seconds_idle:{}",
        entry.key().as_ptr(),
        shown_encoding(&entry),
        entry.clock(),
        ctx.db.access_clock().idle_s(&entry),
    );
    if let Payload::Big(Collection::List(list)) = entry.payload() {
        let (n_nodes, n_items) = (list.nodes().len(), list.len());
        let average = n_items as f64 / n_nodes.max(1) as f64;
        let limits = ctx.db.limits();
        let _ = write!(
            line,
            " ql_nodes:{n_nodes} ql_avg_node:{average:.2} ql_listpack_max:{} ql_compressed:0",
            limits.list_max_listpack_size,
        );
    }
    reply.simple(&line);
    Ok(())
}

fn listpack(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let entry = ctx.db.entry(args.take()?).ok_or(Error::NoSuchKey)?;
    let bytes = match (entry.encoding(), entry.payload()) {
        (Encoding::Raw | Encoding::Edited | Encoding::IntSet, _) => None,
        (_, Payload::Blob(bytes)) => Some(bytes),
        _ => None,
    };
    let bytes = bytes.ok_or(Error::Plain("ERR Not a listpack encoded object."))?;
    let n_items = datatypes::encoding::listpack::len(bytes);
    log::warn!("DEBUG LISTPACK: {n_items} items in {} bytes", bytes.len());
    reply.simple("Listpack structure printed in the log");
    Ok(())
}

fn quicklist(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let entry = ctx.db.entry(args.take()?).ok_or(Error::NoSuchKey)?;
    let Payload::Big(Collection::List(list)) = entry.payload() else {
        return Err(Error::Plain("ERR Not a quicklist encoded object."));
    };
    log::warn!("DEBUG QUICKLIST: {} items in {} nodes", list.len(), list.nodes().len());
    reply.simple("Quicklist structure printed in the log");
    Ok(())
}

fn htstats(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let keyspace = ctx.db.locked().keyspace();
    let database = args.int().map_err(|_| NO_DATABASE)?;
    let database = u16::try_from(database).map_err(|_| NO_DATABASE)?;
    if database >= keyspace.n_databases() {
        return Err(NO_DATABASE);
    }
    let n_shards = keyspace.existing_shards(database).map_or(0, <[_]>::len);
    let n_keys = keyspace.len(database);
    let text = format!(
        "[Dictionary HT]\nHash table 0 stats (main hash table):\n number of tables: {n_shards}\n \
         number of elements: {n_keys}\n"
    );
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn htstats_key(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let key = args.take()?;
    let value = ctx.db.value(key).ok_or(Error::NoSuchKey)?;
    let has_table = ctx.db.entry(key).is_some_and(|entry| {
        use Encoding::{HashTable, SetTable, ZsetTree};
        matches!(entry.encoding(), HashTable | SetTable | ZsetTree)
    });
    if !has_table {
        return Err(Error::Plain(
            "ERR The value stored at the specified key is not represented using an hash table",
        ));
    }
    let (n_elements, n_bytes) = (value.len(), ValueRef::allocated_bytes(value));
    let text = format!(
        "Hash table 0 stats (main hash table):\n number of elements: {n_elements}\n \
         bytes of table and elements: {n_bytes}\n"
    );
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}

fn populate(ctx: &mut WriteCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let count = at_least(0, args.take()?, NOT_POSITIVE)?;
    let prefix = if args.is_empty() {
        b"key"
    } else {
        args.take()?
    };
    let size = if args.is_empty() {
        0
    } else {
        at_least(0, args.take()?, NOT_POSITIVE)?
    };
    args.end()?;
    if size > VALUE_BYTES_MAX {
        return Err(Error::OutOfRange);
    }
    for n in 0..count {
        let key = [prefix, b":", n.to_string().as_bytes()].concat();
        if ctx.db.exists(&key) {
            continue;
        }
        let mut value = format!("value:{n}").into_bytes();
        if size > 0 {
            value.resize(size, 0);
        }
        ctx.db.set_string(&key, &value, Expiry::Clear);
        ctx.changed(Event::string("set"), &key);
        ctx.propagate(&[b"SET", &key, &value]);
    }
    reply.ok();
    Ok(())
}

fn protocol(ctx: &mut AdminCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    let is_resp3 = ctx.session.proto == Proto::Resp3;
    match args.word().as_deref() {
        Some(b"STRING") => reply.bulk(b"Hello World"),
        Some(b"INTEGER") => reply.int(12345),
        Some(b"DOUBLE") => reply.double(SOME_DOUBLE),
        Some(b"NULL") => reply.null(),
        Some(b"ARRAY") => {
            reply.array(3);
            (0..3).for_each(|number| reply.int(number));
        }
        Some(b"SET") => {
            reply.set(3);
            (0..3).for_each(|number| reply.int(number));
        }
        Some(b"MAP") => {
            reply.map(3);
            for number in 0..3 {
                reply.int(number);
                reply.bool(number == 1);
            }
        }
        Some(b"ATTRIB") => {
            if reply.attribute(1) {
                reply.bulk(b"key-popularity");
                reply.array(2);
                reply.bulk(b"key:123");
                reply.int(90);
            }
            reply.bulk(b"Some real reply following the attribute");
        }
        Some(b"PUSH") if !is_resp3 => {
            return Err(Error::Plain("ERR RESP2 is not supported by this command"));
        }
        Some(b"PUSH") => {
            reply.bulk(b"Some real reply following the push reply");
            reply.push(2);
            reply.bulk(b"server-cpu-usage");
            reply.int(42);
        }
        Some(b"TRUE") => reply.bool(true),
        Some(b"FALSE") => reply.bool(false),
        Some(b"VERBATIM") => reply.verbatim("txt", b"This is a verbatim\nstring"),
        Some(b"BIGNUM") => reply.big_number(b"1234567999999999999999999999999999999"),
        _ => {
            return Err(Error::Plain(
                "ERR Wrong protocol type name. Please use one of the following: string|integer|\
                 double|bignum|null|array|set|map|attrib|push|verbatim|true|false",
            ));
        }
    }
    Ok(())
}
