//! Clients that write to whoever is the primary, and remember what WAIT has confirmed.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use client::connection::Connection;

use crate::Chance;
use crate::node::{Node, text};

/// What the writers share with who makes the weather.
pub struct Writers {
    pub primary: AtomicUsize,
    pub is_done: AtomicBool,
    /// Writes that one replica at least had, by writer.
    pub confirmed: Mutex<Vec<(usize, u64)>>,
    /// When this server accepted a write last.
    accepted: Vec<Mutex<Option<Instant>>>,
}

impl Writers {
    pub fn new(n_nodes: usize) -> Writers {
        Writers {
            primary: AtomicUsize::new(0),
            is_done: AtomicBool::new(false),
            confirmed: Mutex::default(),
            accepted: (0..n_nodes).map(|_| Mutex::default()).collect(),
        }
    }

    /// When a server accepted a write last.
    pub fn accepted_at(&self, node: usize) -> Option<Instant> {
        *self.accepted[node].lock().unwrap()
    }

    /// Writes until it is told to stop.
    pub fn write(&self, id: usize, nodes: &[Node], chance: &mut Chance) {
        let (mut at, mut n) = (usize::MAX, 0);
        let mut client: Option<Connection> = None;
        while !self.is_done.load(Relaxed) {
            let primary = self.primary.load(Relaxed);
            if primary != at || client.is_none() {
                client = nodes[primary].try_client();
                at = primary;
            }
            let Some(open) = &mut client else {
                thread::sleep(Duration::from_millis(5));
                continue;
            };
            // A server that is stopped keeps nobody for long.
            let patience = Some(Duration::from_secs(2));
            if open.set_timeout(patience).is_err() || !self.one(open, (id, at), &mut n, chance) {
                client = None;
            }
        }
    }

    /// A write, others of any kind, perhaps a WAIT; false if the connection is lost.
    fn one(
        &self,
        client: &mut Connection,
        (id, at): (usize, usize),
        n: &mut u64,
        chance: &mut Chance,
    ) -> bool {
        *n += 1;
        let answer = text(client, &format!("HSET confirmed:{id} {n} x"));
        if answer.starts_with('!') {
            return false;
        }
        if answer.starts_with(':') {
            *self.accepted[at].lock().unwrap() = Some(Instant::now());
        }
        let wants_wait = chance.below(4) == 0;
        if wants_wait && answer == ":1" {
            let counted = text(client, "WAIT 1 100");
            if counted == ":1" || counted == ":2" {
                self.confirmed.lock().unwrap().push((id, *n));
            }
        }
        let i = chance.below(40);
        for line in [
            format!("INCRBY count:{i} {n}"),
            format!("SET short:{i} {n} PX {}", 1 + chance.below(300)),
            format!("RPUSH list:{i} {n} {n}"),
            format!("LPOP list:{i}"),
            format!("SADD set:{i} {n} y"),
            format!("SPOP set:{i} 2"),
            format!("ZINCRBY zset:{i} 1.5 {}", chance.below(100)),
            format!("XADD stream:{i} MAXLEN 20 * f {n}"),
            "MULTI".to_owned(),
            format!("APPEND block:{i} x"),
            format!("SETRANGE range:{i} {} {n}", chance.below(2000)),
            "EXEC".to_owned(),
            format!(
                "EVAL redis.call('incr',KEYS[1])redis.call('expire',KEYS[1],4000) 1 script:{i}"
            ),
        ] {
            if text(client, &line).starts_with('!') {
                return false;
            }
        }
        true
    }
}
