//! A server of the campaign.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use client::connection::Connection;
use client::endpoint::Endpoint;
use client::transcript::render;

use crate::hosts::Host;

pub const PATIENCE: Duration = Duration::from_secs(40);

/// A replica is lost, and a primary, when it is silent for 3 seconds.
const FLAGS: [&str; 14] = [
    "--enable-debug-command",
    "yes",
    "--repl-diskless-sync-delay",
    "0",
    "--repl-timeout",
    "3",
    "--repl-ping-replica-period",
    "1",
    "--save",
    "",
    "--logfile",
    "log",
    "--threads",
    "2",
];

pub struct Node {
    process: Child,
    pub host: String,
    pub port: u16,
    folder: PathBuf,
}

impl Node {
    /// On this machine.
    pub fn start(name: &str, more: &[&str]) -> Node {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let command = Command::new(env!("CARGO_BIN_EXE_minium"));
        Node::start_as(command, name, ("127.0.0.1".to_owned(), port), more)
    }

    /// On a host.
    pub fn start_on(host: &Host, name: &str, more: &[&str]) -> Node {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &host.namespace]);
        command.arg(env!("CARGO_BIN_EXE_minium"));
        command.args(["--protected-mode", "no"]);
        Node::start_as(command, name, (host.ip.clone(), 7000), more)
    }

    fn start_as(
        mut command: Command,
        name: &str,
        (host, port): (String, u16),
        more: &[&str],
    ) -> Node {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("campaign-{name}"));
        let _ = fs::remove_dir_all(&folder); // of an earlier run
        fs::create_dir_all(&folder).unwrap();
        let process = command
            .current_dir(&folder)
            .args(["--bind", &host, "--port", &port.to_string()])
            .args(FLAGS)
            .args(more)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let node = Node {
            process,
            host,
            port,
            folder,
        };
        wait_for("the server answers", || node.try_client().map(|_| ()));
        node
    }

    /// A connection, if the server is there.
    pub fn try_client(&self) -> Option<Connection> {
        let (host, port) = (self.host.clone(), self.port);
        let mut client = Connection::open(&Endpoint::Tcp { host, port }, Some(PATIENCE)).ok()?;
        client.set_timeout(Some(PATIENCE)).ok()?;
        Some(client)
    }

    pub fn client(&self) -> Connection {
        self.try_client().unwrap()
    }

    pub fn ask(&self, line: &str) -> String {
        text(&mut self.client(), line)
    }

    pub fn signal(&self, name: &str) {
        let process = self.process.id().to_string();
        let status = Command::new("kill")
            .args([format!("-{name}"), process])
            .status();
        assert!(status.unwrap().success());
    }

    pub fn follow(&self, host: &str, port: u16) {
        assert_eq!(self.ask(&format!("REPLICAOF {host} {port}")), "+OK");
    }

    pub fn is_linked(&self) -> bool {
        self.ask("INFO replication")
            .contains("master_link_status:up")
    }

    pub fn figure(&self, field: &str) -> u64 {
        let info = self.ask("INFO");
        let value = info
            .split(&format!("\n{field}:"))
            .nth(1)
            .unwrap_or_default();
        let digits = value.split(|c: char| !c.is_ascii_digit()).next();
        digits.and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.process.kill(); // it may have ended
        let _ = self.process.wait();
    }
}

pub fn text(client: &mut Connection, line: &str) -> String {
    let words: Vec<&str> = line.split(' ').collect();
    match client.call(&words) {
        Ok(value) => render(&value).replace("\\r\\n", "\n").trim_end().to_owned(),
        Err(error) => format!("!{error}"),
    }
}

pub fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what}");
        thread::sleep(Duration::from_millis(3));
    }
}

/// All have the same data, once they have caught up.
pub fn wait_for_same(what: &str, nodes: &[&Node]) {
    let digests = || -> Vec<String> { nodes.iter().map(|node| node.ask("DEBUG DIGEST")).collect() };
    let started = Instant::now();
    loop {
        let all = digests();
        if all[0].len() >= 40 && all.iter().all(|digest| *digest == all[0]) {
            return;
        }
        if started.elapsed() > PATIENCE {
            let states: Vec<String> = nodes
                .iter()
                .map(|node| node.ask("INFO replication"))
                .collect();
            panic!("{what}: {all:?}\n{}", states.join("\n"));
        }
        thread::sleep(Duration::from_millis(10));
    }
}
