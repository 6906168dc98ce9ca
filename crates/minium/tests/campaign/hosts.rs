//! Hosts of our own: a network namespace for each server, and a bridge between them. Needs root, iproute2 and
//! nftables; MINIUM_CAMPAIGN_HOSTS=1 asks for it.
//!
//! ```text
//!   namespace ── veth ──┐
//!   namespace ── veth ──┼── bridge ── the test
//!   namespace ── veth ──┘
//! ```
//!
//! Packets of a pair are dropped, refused or lost in the namespace of the one, so what follows is the kernel's:
//! retransmission, silence, resets. The kernel here has no netem: instead of lateness, packets are lost.

use std::io::Write;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

/// Whether somebody asks for hosts.
pub fn are_wanted() -> bool {
    std::env::var("MINIUM_CAMPAIGN_HOSTS").is_ok_and(|told| told == "1")
}

/// All hosts, which are gone when this is.
pub struct Net {
    bridge: String,
    pub hosts: Vec<Arc<Host>>,
}

pub struct Host {
    pub namespace: String,
    pub ip: String,
    /// The bridge's end of its cable.
    outer: String,
}

impl Net {
    pub fn new(n_hosts: usize) -> Net {
        static LAST: AtomicU64 = AtomicU64::new(0);
        let name = format!("mn{}x{}", std::process::id() % 10_000, LAST.fetch_add(1, Relaxed));
        let subnet = format!("10.213.{}", std::process::id() % 250);
        let bridge = format!("{name}b");
        ip(&format!("link add name {bridge} type bridge"));
        ip(&format!("addr add {subnet}.254/24 dev {bridge}"));
        ip(&format!("link set {bridge} up"));
        let mut net = Net {
            bridge,
            hosts: Vec::new(),
        };
        for i in 0..n_hosts {
            let host = Host {
                namespace: format!("{name}n{i}"),
                ip: format!("{subnet}.{}", i + 1),
                outer: format!("{name}v{i}"),
            };
            let (inside, outer, address) = (&host.namespace, &host.outer, &host.ip);
            ip(&format!("netns add {inside}"));
            ip(&format!("link add {outer} type veth peer name eth0 netns {inside}"));
            ip(&format!("link set {outer} master {} up", net.bridge));
            ip(&format!("-n {inside} addr add {address}/24 dev eth0"));
            ip(&format!("-n {inside} link set eth0 up"));
            ip(&format!("-n {inside} link set lo up"));
            net.hosts.push(Arc::new(host));
        }
        net
    }
}

impl Drop for Net {
    fn drop(&mut self) {
        for host in &self.hosts {
            ip(&format!("netns del {}", host.namespace));
        }
        ip(&format!("link del {}", self.bridge));
    }
}

fn ip(line: &str) {
    let status = Command::new("ip").args(line.split(' ')).status();
    assert!(status.unwrap().success(), "ip {line}");
}

/// What happens to the packets of a pair.
#[derive(Clone, Copy, Default)]
struct Rules {
    is_held: bool,
    is_cut: bool,
    is_lossy: bool,
}

/// The way from one host to another.
pub struct Route {
    host: Arc<Host>,
    other: Arc<Host>,
    rules: Mutex<Rules>,
    /// There is something to mend.
    is_touched: AtomicBool,
}

impl Route {
    pub fn new(host: Arc<Host>, other: Arc<Host>) -> Route {
        Route {
            host,
            other,
            rules: Mutex::default(),
            is_touched: AtomicBool::new(false),
        }
    }

    /// Nothing gets through.
    pub fn hold(&self) {
        self.is_touched.store(true, Relaxed);
        self.change(|rules| rules.is_held = true);
    }

    /// Whoever sends is refused.
    pub fn cut(&self) {
        self.is_touched.store(true, Relaxed);
        self.change(|rules| rules.is_cut = true);
    }

    /// Each fifth packet is lost.
    pub fn lose(&self) {
        self.is_touched.store(true, Relaxed);
        self.change(|rules| rules.is_lossy = true);
    }

    /// Limits what comes to the host, from anybody.
    pub fn slow_down(&self, bytes_per_s: u64) {
        self.is_touched.store(true, Relaxed);
        let line = format!(
            "qdisc replace dev {} root tbf rate {} burst 8kb latency 300ms",
            self.host.outer,
            bytes_per_s * 8
        );
        let status = Command::new("tc").args(line.split(' ')).status();
        assert!(status.unwrap().success(), "tc {line}");
    }

    pub fn mend(&self) {
        if !self.is_touched.swap(false, Relaxed) {
            return;
        }
        self.change(|rules| *rules = Rules::default());
        let words = ["qdisc", "del", "dev", &self.host.outer, "root"];
        let mut command = Command::new("tc");
        let _ = command.args(words).stderr(Stdio::null()).status(); // there may be none
    }

    fn change(&self, change: impl FnOnce(&mut Rules)) {
        let mut rules = self.rules.lock().unwrap();
        change(&mut rules);
        let table = format!("to{}", self.other.ip.rsplit('.').next().unwrap_or_default());
        let verdicts = [
            (rules.is_held, "drop"),
            (rules.is_cut, "meta l4proto tcp reject with tcp reset"),
            (rules.is_lossy, "numgen random mod 100 < 20 drop"),
        ];
        let mut script =
            format!("table inet {table}\ndelete table inet {table}\ntable inet {table} {{\n");
        for (hook, word) in [("input", "saddr"), ("output", "daddr")] {
            script.push_str(&format!("chain {hook} {{\ntype filter hook {hook} priority 0\n"));
            for (_, verdict) in verdicts.iter().filter(|verdict| verdict.0) {
                script.push_str(&format!("ip {word} {} {verdict}\n", self.other.ip));
            }
            script.push_str("}\n");
        }
        script.push_str("}\n");
        let mut nft = Command::new("ip")
            .args(["netns", "exec", &self.host.namespace, "nft", "-f", "-"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        nft.stdin
            .take()
            .unwrap()
            .write_all(script.as_bytes())
            .unwrap();
        assert!(nft.wait().unwrap().success(), "nft: {script}");
    }
}
