//! How well a server chooses what to evict: the hit rate of a cache under Zipf-distributed accesses.
//!
//! Every access reads a key; a miss writes it, as a cache-aside client does. The trace is the same for
//! every server and policy, so their rates can be set beside each other, and beside that of a cache
//! which holds the most popular keys and nothing else, the best that any policy can do in the long run.

use client::connection::Connection;
use client::endpoint::Endpoint;
use resp::decode::Value;
use std::time::Duration;

const KEYS: usize = 200_000;
const ACCESSES: usize = 4_000_000;
/// Accesses sent together.
const BATCH: usize = 200;
/// Bytes of a value.
const VALUE_BYTES: usize = 200;
/// Of the accesses to a key, the exponent of its rank.
const EXPONENT: f64 = 0.99;
/// Room for about this share of the keys, at some 300 bytes each.
const ROOM_BYTES: u64 = 12_000_000;

/// `zipf HOST:PORT policy ...`: one line for each policy.
pub fn run(args: Vec<String>) -> Result<(), String> {
    let [server, policies @ ..] = &args[..] else {
        return Err("zipf needs HOST:PORT and at least one maxmemory-policy".to_owned());
    };
    let (host, port) = server.rsplit_once(':').ok_or("the server is HOST:PORT")?;
    let endpoint = Endpoint::Tcp {
        host: host.to_owned(),
        port: port.parse().map_err(|_| "the port is a number")?,
    };
    let popularity = popularity();
    for policy in policies {
        let failed = |error: client::connection::Error| format!("{server}: {error}");
        let mut client =
            Connection::open(&endpoint, Some(Duration::from_secs(60))).map_err(failed)?;
        let (n_hits, n_kept) = replay(&mut client, policy, &popularity).map_err(failed)?;
        let best = popularity[n_kept.clamp(1, KEYS) - 1];
        let rate = n_hits as f64 / ACCESSES as f64;
        println!(
            "{server} {policy}: {:.2} % hits, {n_kept} keys at the end, which at best are {:.2} %",
            rate * 100.0,
            best * 100.0
        );
    }
    Ok(())
}

/// The share of accesses that go to the keys up to each rank.
fn popularity() -> Vec<f64> {
    let weights = (1..=KEYS).map(|rank| 1.0 / (rank as f64).powf(EXPONENT));
    let total: f64 = weights.clone().sum();
    let mut sum = 0.0;
    weights
        .map(|weight| {
            sum += weight / total;
            sum
        })
        .collect()
}

/// Hits, and the keys that are left.
fn replay(
    client: &mut Connection,
    policy: &str,
    popularity: &[f64],
) -> Result<(usize, usize), client::connection::Error> {
    client.call(&["CONFIG", "SET", "maxmemory", "0"])?;
    client.call(&["FLUSHALL", "SYNC"])?;
    // What was flushed may still be on its way out.
    while field(&client.call(&["INFO", "memory"])?, "lazyfree_pending_objects:") != Some(0) {}
    let used = field(&client.call(&["INFO", "memory"])?, "used_memory:").unwrap_or(0);
    client.call(&["CONFIG", "SET", "maxmemory-policy", policy])?;
    client.call(&[
        "CONFIG",
        "SET",
        "maxmemory",
        &(used + ROOM_BYTES).to_string(),
    ])?;
    let mut random = 42_u64;
    let mut n_hits = 0;
    let value = vec![b'x'; VALUE_BYTES];
    for _ in 0..ACCESSES / BATCH {
        let keys: Vec<Vec<u8>> = (0..BATCH).map(|_| key(popularity, &mut random)).collect();
        let reads: Vec<_> = keys
            .iter()
            .map(|key| vec![b"GET".to_vec(), key.clone()])
            .collect();
        let replies = client.pipeline(&reads)?;
        let missed = replies
            .iter()
            .zip(&keys)
            .filter(|(reply, _)| matches!(reply, Value::Null));
        let writes: Vec<_> = missed
            .map(|(_, key)| vec![b"SET".to_vec(), key.clone(), value.clone()])
            .collect();
        n_hits += BATCH - writes.len();
        client.pipeline(&writes)?;
    }
    let n_kept = match client.call(&["DBSIZE"])? {
        Value::Int(n) => n as usize,
        _ => 0,
    };
    Ok((n_hits, n_kept))
}

fn field(info: &Value, name: &str) -> Option<u64> {
    let (Value::Bulk(text) | Value::Verbatim(_, text)) = info else {
        return None;
    };
    let text = std::str::from_utf8(text).ok()?;
    text.lines()
        .find_map(|line| line.strip_prefix(name))?
        .trim()
        .parse()
        .ok()
}

fn key(popularity: &[f64], random: &mut u64) -> Vec<u8> {
    *random = random
        .wrapping_mul(0x5851_f42d_4c95_7f2d)
        .wrapping_add(0x1405_7b7e_f767_814f);
    let share = (*random >> 11) as f64 / (1_u64 << 53) as f64;
    let rank = popularity.partition_point(|&sum| sum < share);
    format!("key:{:08}", rank.min(KEYS - 1)).into_bytes()
}
