//! INFO: which sections were asked for, and the text of a [`Snapshot`].

use std::fmt::Write;

use super::snapshot::Snapshot;
use super::table::{FIELDS, Section};

/// The sections that the arguments of INFO name, in the order they are printed, each once. No
/// argument means the default ones; a word that names nothing is passed over, as in the original.
pub fn sections(names: &[&[u8]]) -> Vec<Section> {
    if names.is_empty() {
        return sections(&[b"default"]);
    }
    let named = |section: &Section| {
        names
            .iter()
            .any(|name| match name.to_ascii_lowercase().as_slice() {
                b"all" | b"everything" => true,
                b"default" => section.is_default(),
                name => section.title().as_bytes().eq_ignore_ascii_case(name),
            })
    };
    Section::ALL.into_iter().filter(named).collect()
}

/// The text of the sections asked for.
pub fn render(snapshot: &Snapshot, sections: &[Section]) -> String {
    let mut out = String::with_capacity(4096);
    for section in sections {
        if !out.is_empty() {
            out.push_str("\r\n");
        }
        line(&mut out, format_args!("# {}", section.title()));
        for field in FIELDS.iter().filter(|field| field.section == *section) {
            if let Some(value) = (field.value)(snapshot) {
                line(&mut out, format_args!("{}:{value}", field.name));
            }
        }
        match section {
            Section::Server => listeners(snapshot, &mut out),
            Section::Replication => replicas(snapshot, &mut out),
            Section::Cpu => active_times(snapshot, &mut out),
            Section::Commandstats => commands(snapshot, &mut out),
            Section::Errorstats => errors(snapshot, &mut out),
            Section::Latencystats => latencies(snapshot, &mut out),
            Section::Keyspace => databases(snapshot, &mut out),
            _ => {}
        }
    }
    out
}

fn line(out: &mut String, text: std::fmt::Arguments<'_>) {
    write!(out, "{text}\r\n").expect("a String takes any text");
}

fn listeners(snapshot: &Snapshot, out: &mut String) {
    for (i, listener) in snapshot.server.listeners.iter().enumerate() {
        line(out, format_args!("listener{i}:{listener}"));
    }
}

/// Event loops beyond the first, under the name that Valkey has for threads beside its main one.
fn active_times(snapshot: &Snapshot, out: &mut String) {
    for (i, active_ns) in snapshot.server.active_ns.iter().enumerate().skip(1) {
        let seconds = *active_ns as f64 / 1e9;
        line(out, format_args!("used_active_time_io_thread_{i}:{seconds:.6}"));
    }
}

fn replicas(snapshot: &Snapshot, out: &mut String) {
    for (i, replica) in snapshot.replication.replicas.iter().enumerate() {
        line(out, format_args!("slave{i}:{replica}"));
    }
}

fn commands(snapshot: &Snapshot, out: &mut String) {
    for (name, totals) in &snapshot.commands {
        if totals.calls == 0 && totals.rejected == 0 {
            continue;
        }
        let us = totals.duration_ns as f64 / 1000.0;
        let us_per_call = if totals.calls == 0 {
            0.0
        } else {
            us / totals.calls as f64
        };
        let (calls, rejected, failed) = (totals.calls, totals.rejected, totals.failed);
        line(
            out,
            format_args!(
                "cmdstat_{name}:calls={calls},usec={us:.0},usec_per_call={us_per_call:.2},\
                 rejected_calls={rejected},failed_calls={failed}"
            ),
        );
    }
}

fn latencies(snapshot: &Snapshot, out: &mut String) {
    for (name, percentiles) in &snapshot.latencies {
        let shown = percentiles
            .iter()
            .map(|(percent, ns)| format!("p{percent}={:.3}", *ns as f64 / 1000.0));
        let shown = shown.collect::<Vec<_>>().join(",");
        line(out, format_args!("latency_percentiles_usec_{name}:{shown}"));
    }
}

fn errors(snapshot: &Snapshot, out: &mut String) {
    for (code, count) in &snapshot.errors {
        // A code may come from a script: what would break the line is made harmless.
        let safe: String = code
            .chars()
            .map(|c| if "#:\n\r".contains(c) { '_' } else { c })
            .collect();
        line(out, format_args!("errorstat_{safe}:count={count}"));
    }
}

fn databases(snapshot: &Snapshot, out: &mut String) {
    for db in &snapshot.databases {
        let (index, keys, expires, ttl_ms) = (db.index, db.keys, db.expires, db.average_ttl_ms);
        // Redis and Valkey call the last number by different names.
        let fielded = db.fielded;
        let fields = format_args!("subexpiry={fielded},keys_with_volatile_items={fielded}");
        line(
            out,
            format_args!("db{index}:keys={keys},expires={expires},avg_ttl={ttl_ms},{fields}"),
        );
    }
}
