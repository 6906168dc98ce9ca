use super::Stats;
use super::counters::{CommandTotals, Counter};
use super::info::{render, sections};
use super::memory::Allocated;
use super::process::ProcessUsage;
use super::rates::Rate;
use super::slowlog::{Slow, SlowLog};
use super::snapshot::{DatabaseInfo, Snapshot};
use super::table::{FIELDS, Section, human_bytes};

fn stats(n_threads: usize) -> Stats {
    Stats::new(n_threads, &["config|get", "get", "set"])
}

#[test]
fn threads_are_summed_and_a_reset_starts_anew() {
    let stats = stats(2);
    stats.thread(0).add(Counter::KeyspaceHits, 2);
    stats.thread(1).add(Counter::KeyspaceHits, 3);
    stats.thread(0).command_ran(1, 1500, false);
    stats.thread(1).command_ran(1, 500, true);
    stats.thread(1).command_rejected(2);
    stats.thread(1).command_ran(99, 1, false);
    assert_eq!(stats.totals().get(Counter::KeyspaceHits), 5);
    let ran = CommandTotals {
        calls: 2,
        duration_ns: 2000,
        rejected: 0,
        failed: 1,
    };
    assert_eq!(stats.commands()[1], ("get", ran));
    assert_eq!(stats.commands()[2].1.rejected, 1);
    stats.acceptor().add(Counter::KeyspaceHits, 1);
    assert_eq!(stats.totals().get(Counter::KeyspaceHits), 6);
    stats.count(Counter::KeyspaceHits, 1);
    assert_eq!(stats.totals().get(Counter::KeyspaceHits), 7);
    stats.error_reply(b"WRONGTYPE Operation");
    stats.reset();
    assert_eq!(stats.totals().get(Counter::KeyspaceHits), 0);
    assert!(
        stats
            .commands()
            .iter()
            .all(|(_, totals)| *totals == CommandTotals::default())
    );
    assert!(stats.errors().is_empty());
    stats.thread(0).add(Counter::KeyspaceHits, 1);
    assert_eq!(stats.totals().get(Counter::KeyspaceHits), 1);
}

#[test]
fn codes_are_bounded() {
    let stats = stats(1);
    for code in 0..128 {
        stats.error_reply(format!("E{code} text").as_bytes());
    }
    stats.error_reply(b"E7");
    assert_eq!(stats.errors().len(), 128);
    assert!(stats.errors().contains(&("E7".into(), 2)));
    stats.error_reply(b"NEW code");
    stats.error_reply(b"E7");
    assert_eq!(stats.errors(), [("ERRORSTATS_DISABLED".into(), 1)]);
    stats.reset();
    stats.error_reply(b"ERR x");
    assert_eq!(stats.errors(), [("ERR".into(), 1)]);
}

#[test]
fn a_rate_decays_by_the_clock() {
    let mut rate = Rate::default();
    (0..=16).for_each(|i| rate.sample(i * 50, i * 100));
    assert_eq!(rate.per_second(), 500.0);
    rate.sample(800, 1650);
    assert_eq!(rate.per_second(), 500.0);
    rate.sample(800, 2400);
    assert_eq!(rate.per_second(), 250.0);
    rate.sample(800, 1_000_000);
    assert_eq!(rate.per_second(), 0.0);
}

fn slow<'a>(args: &'a [&'a [u8]]) -> Slow<'a> {
    Slow {
        time_s: 1,
        measure: 2,
        args,
        client_address: "127.0.0.1:1",
        client_name: b"",
    }
}

#[test]
fn slow_commands_are_shortened_and_bounded() {
    let mut log = SlowLog::default();
    let long = vec![b'x'; 200];
    let args: Vec<&[u8]> = vec![&long; 40];
    for _ in 0..5 {
        log.add(&slow(&args), 3);
    }
    assert_eq!(log.len(), 3);
    let newest = &log.newest(1)[0];
    assert_eq!((newest.id, newest.args.len()), (4, 32));
    assert!(newest.args[0].ends_with(b"xx... (72 more bytes)"));
    assert_eq!(newest.args[31], b"... (9 more arguments)");
    log.reset();
    assert!(log.is_empty());
    log.add(&slow(&[b"a"]), 3);
    assert_eq!(log.newest(10)[0].id, 5);
}

#[test]
fn sections_are_chosen_by_name() {
    assert_eq!(sections(&[b"cpu", b"SERVER", b"nope"]), [Section::Server, Section::Cpu]);
    assert_eq!(sections(&[b"everything", b"cpu"]), Section::ALL);
    assert_eq!(sections(&[]), sections(&[b"default"]));
    assert!(!sections(&[]).contains(&Section::Commandstats));
    assert!(sections(&[b"sentinel"]).is_empty());
}

#[test]
fn the_text_has_what_is_known_and_no_more() {
    let stats = stats(1);
    stats.thread(0).command_ran(0, 3000, false);
    let mut snapshot = Snapshot {
        commands: vec![("get", stats.commands()[0].1), ("set", Default::default())],
        errors: vec![("ERR".into(), 3)],
        databases: vec![DatabaseInfo {
            keys: 5,
            expires: 2,
            fielded: 1,
            average_ttl_ms: 7,
            ..DatabaseInfo::default()
        }],
        ..Snapshot::default()
    };
    snapshot.memory.allocated = Some(Allocated {
        used_bytes: 1536,
        allocator: "none",
    });
    let text = render(&snapshot, &sections(&[b"all"]));
    assert!(text.starts_with("# Server\r\nredis_version:8.2.0\r\n"));
    assert!(text.contains("\r\n\r\n# Memory\r\nused_memory:1536\r\nused_memory_human:1.50K\r\n"));
    assert!(!text.contains("used_memory_rss"));
    assert!(text.contains(
        "# Commandstats\r\ncmdstat_get:calls=1,usec=3,usec_per_call=3.00,rejected_calls=0,\
         failed_calls=0\r\n\r\n"
    ));
    assert!(text.contains("errorstat_ERR:count=3\r\n"));
    assert!(text.ends_with(
        "# Keyspace\r\ndb0:keys=5,expires=2,avg_ttl=7,subexpiry=1,\
         keys_with_volatile_items=1\r\n"
    ));
    assert_eq!(render(&snapshot, &[]), "");
}

#[test]
fn fields_are_named_once_and_grouped() {
    assert!(FIELDS.is_sorted_by_key(|field| field.section));
    for field in FIELDS {
        assert_eq!(FIELDS.iter().filter(|f| f.name == field.name).count(), 1, "{}", field.name);
    }
}

#[test]
fn figures_for_people() {
    for (bytes, text) in [
        (0, "0B"),
        (1023, "1023B"),
        (1024, "1.00K"),
        (1 << 30, "1.00G"),
    ] {
        assert_eq!(human_bytes(bytes), text);
    }
    let usage = ProcessUsage::read().expect("Linux tells");
    assert!(usage.rss_bytes > 1 << 16);
    assert!(usage.cpu_user_s >= 0.0);
}
