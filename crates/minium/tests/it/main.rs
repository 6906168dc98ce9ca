//! The binary as its users meet it: started as a process, spoken to over sockets.

#![allow(clippy::unwrap_used)] // a test crate: only its #[test] functions are exempt by themselves

mod aof;
mod apart;
mod aof_tools;
mod debug;
mod direct;
mod ending;
mod eviction;
mod handover;
mod limits;
mod migration;
mod moving;
mod process;
mod replicas;
mod replication;
mod repoint;
mod saving;
mod scripts;
mod shedding;
mod stress;
mod system;
mod users;

use client::connection::Connection;
use client::endpoint::Endpoint;
use resp::decode::Value;
use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);
const MINIUM: &str = env!("CARGO_BIN_EXE_minium");

/// An empty folder of one test's own.
fn folder(name: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&path);
    fs::create_dir_all(&path).unwrap();
    path
}

/// The binary, to be started in an empty folder, where its files go.
fn minium() -> Command {
    static LAST: AtomicU64 = AtomicU64::new(0);
    let number = LAST.fetch_add(1, Relaxed);
    let mut command = Command::new(MINIUM);
    command.current_dir(folder(&format!("server-{number}")));
    command
}

/// A port that nobody uses at this moment, nor did in this process: a replica may still look for a server
/// that was there. It is below those that the system gives to clients.
fn free_port() -> u16 {
    static N_TAKEN: AtomicU64 = AtomicU64::new(0);
    let start = 11_000 + u64::from(std::process::id() % 64) * 300;
    let port = || (start + N_TAKEN.fetch_add(1, Relaxed)) as u16;
    std::iter::repeat_with(port)
        .find(|port| TcpListener::bind(("127.0.0.1", *port)).is_ok())
        .unwrap()
}

fn wait_for<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let started = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn wait_for_line(log: &Path, part: &str) -> String {
    wait_for(part, || {
        let text = fs::read_to_string(log).unwrap_or_default();
        text.lines()
            .find(|line| line.contains(part))
            .map(str::to_owned)
    })
}

/// After STOP no thread of the process runs any more.
fn signal(name: &str, process: u32) {
    let status = Command::new("kill")
        .args([format!("-{name}"), process.to_string()])
        .status();
    assert!(status.unwrap().success());
    if name == "STOP" {
        wait_for("every thread is stopped", || is_stopped(process).then_some(()));
    }
}

fn is_stopped(process: u32) -> bool {
    let mut threads = fs::read_dir(format!("/proc/{process}/task")).unwrap();
    threads.all(|thread| {
        let status = fs::read_to_string(thread.unwrap().path().join("status")).unwrap_or_default();
        status.contains("State:\tT")
    })
}

fn exit_code(process: &mut Child) -> Option<i32> {
    wait_for("the process ends", || process.try_wait().unwrap()).code()
}

/// A server of its own for one test, which ends with it.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    /// In an empty folder, where it leaves what it saves.
    fn start(flags: &[&str]) -> Server {
        Server::start_as(minium(), flags)
    }

    /// In this folder.
    fn start_in(folder: &Path, flags: &[&str]) -> Server {
        let mut command = Command::new(MINIUM);
        command.current_dir(folder);
        Server::start_as(command, flags)
    }

    fn start_as(command: Command, flags: &[&str]) -> Server {
        let server = Server::begin(command, flags);
        // It listens everywhere once it answers.
        wait_for("the server answers", || server.is_ready().then_some(()));
        server
    }

    /// It may not listen yet.
    fn begin(mut command: Command, flags: &[&str]) -> Server {
        let port = free_port();
        let process = command
            .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
            .args(flags)
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        Server { process, port }
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::Tcp {
            host: "127.0.0.1".to_owned(),
            port: self.port,
        }
    }

    /// Whether it answers, and has loaded its data.
    fn is_ready(&self) -> bool {
        let connection = Connection::open(&self.endpoint(), Some(PATIENCE));
        let answer = connection.map(|mut connection| connection.call(&["PING"]));
        matches!(answer, Ok(Ok(answer)) if !client::transcript::render(&answer).contains("LOADING"))
    }

    fn client(&self) -> Connection {
        Connection::open(&self.endpoint(), Some(PATIENCE)).unwrap()
    }

    fn socket(&self) -> TcpStream {
        let socket = TcpStream::connect(("127.0.0.1", self.port)).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn text(words: &str, client: &mut Connection) -> String {
    let words: Vec<&str> = words.split(' ').collect();
    client::transcript::render(&client.call(&words).unwrap())
        .trim_end()
        .to_owned()
}

#[test]
fn strings_counters_and_deadlines_work_on_one_and_on_four_threads() {
    for threads in ["1", "4"] {
        let server = Server::start(&["--threads", threads]);
        let mut client = server.client();
        assert_eq!(text("SET key value", &mut client), "+OK");
        assert_eq!(text("GET key", &mut client), "\"value\"");
        assert_eq!(text("INCRBY counter 5", &mut client), ":5");
        assert_eq!(text("SET short lived PX 20", &mut client), "+OK");
        let started = Instant::now();
        while text("DBSIZE", &mut client) != ":2" {
            assert!(started.elapsed() < PATIENCE, "a due key goes without being asked for");
        }
        assert_eq!(text("FLUSHALL", &mut client), "+OK");
        assert_eq!(text("DBSIZE", &mut client), ":0");
    }
}

#[test]
fn a_broken_request_gets_its_error_and_a_closed_connection() {
    let server = Server::start(&[]);
    for (request, answer) in [
        (&b"*1\r\n$x\r\n"[..], &b"-ERR Protocol error: invalid bulk length\r\n"[..]),
        (b"*1\r\nPING\r\n", b"-ERR Protocol error: expected '$', got 'P'\r\n"),
        (b"PING\r\n*-9x\r\n", b"+PONG\r\n-ERR Protocol error: invalid multibulk length\r\n"),
    ] {
        let mut socket = server.socket();
        socket.write_all(request).unwrap();
        let mut got = Vec::new();
        socket.read_to_end(&mut got).unwrap();
        assert_eq!(String::from_utf8_lossy(&got), String::from_utf8_lossy(answer));
    }
    assert_eq!(text("PING", &mut server.client()), "+PONG");
}

#[test]
fn who_ends_a_long_word_wrong_or_quits_before_one_is_closed() {
    let server = Server::start(&["--threads", "1"]);
    let value = "x".repeat(100_000);
    for (request, answer) in [
        (
            format!("*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$100000\r\n{value}??"),
            "-ERR Protocol error: invalid CRLF in request\r\n",
        ),
        (format!("QUIT\r\n*2\r\n$4\r\nECHO\r\n$100000\r\n{value}\r\n"), "+OK\r\n"),
    ] {
        let mut socket = server.socket();
        socket.write_all(request.as_bytes()).unwrap();
        let mut got = Vec::new();
        // What was sent behind QUIT is not read, which may end the connection harder.
        let _ = socket.read_to_end(&mut got);
        assert_eq!(String::from_utf8_lossy(&got), answer);
    }
    assert_eq!(text("DBSIZE", &mut server.client()), ":0");
}

#[test]
fn a_long_pipeline_and_a_long_command_are_answered_whole() {
    let server = Server::start(&["--threads", "2"]);
    let mut client = server.client();
    let commands: Vec<Vec<Vec<u8>>> = (0..50_000)
        .map(|i| {
            vec![
                b"INCRBY".to_vec(),
                b"sum".to_vec(),
                i.to_string().into_bytes(),
            ]
        })
        .collect();
    let replies = client.pipeline(&commands).unwrap();
    assert_eq!(replies.last(), Some(&Value::Int((0..50_000).sum())));
    let mut members = vec![b"SADD".to_vec(), b"many".to_vec()];
    members.extend((0..200_000).map(|i| format!("member:{i}").into_bytes()));
    assert_eq!(client.call(&members).unwrap(), Value::Int(200_000));
    let big = vec![b'x'; 8 << 20];
    client.call(&[&b"SET"[..], b"big", &big]).unwrap();
    assert_eq!(client.call(&["GET", "big"]).unwrap(), Value::Bulk(big));
}

#[test]
fn a_request_that_comes_byte_by_byte_is_one_request() {
    let server = Server::start(&[]);
    let mut socket = server.socket();
    for byte in b"*2\r\n$4\r\nECHO\r\n$5\r\nhello\r\n" {
        socket.write_all(&[*byte]).unwrap();
    }
    let mut got = [0; 11];
    socket.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"$5\r\nhello\r\n");
}

#[test]
fn increments_from_many_clients_add_up() {
    let server = Server::start(&["--threads", "4"]);
    std::thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                let mut client = server.client();
                let commands = vec![vec![b"INCR".to_vec(), b"n".to_vec()]; 2_000];
                client.pipeline(&commands).unwrap();
            });
        }
    });
    assert_eq!(text("GET n", &mut server.client()), "\"16000\"");
}

#[test]
fn a_password_is_asked_for() {
    let server = Server::start(&["--requirepass", "secret"]);
    let mut client = server.client();
    assert_eq!(text("GET key", &mut client), "-NOAUTH Authentication required.");
    assert!(text("AUTH wrong", &mut client).starts_with("-WRONGPASS"));
    assert_eq!(text("AUTH secret", &mut client), "+OK");
    assert_eq!(text("GET key", &mut client), "(nil)");
}

#[test]
fn a_promise_that_cannot_be_kept_is_refused_at_start() {
    for flags in [
        &["--cluster-enabled", "yes"][..],
        &["--tls-port", "6380"],
        &["--no-such", "1"],
    ] {
        let output = minium().args(flags).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{flags:?}");
        assert!(!(output.stderr.is_empty() && output.stdout.is_empty()));
    }
}

#[test]
fn a_full_memory_refuses_what_may_need_more() {
    const OOM: &str = "-OOM command not allowed when used memory > 'maxmemory'.";
    let server = Server::start(&["--maxmemory", "100mb"]);
    let mut client = server.client();
    assert_eq!(text("SET key value", &mut client), "+OK");
    assert_eq!(text("CONFIG SET maxmemory 1", &mut client), "+OK");
    assert_eq!(text("SET key value", &mut client), OOM);
    assert_eq!(text("GET key", &mut client), "\"value\"");
    let script = "EVAL return(redis.call('set',KEYS[1],'v')) 1 key";
    assert!(text(script, &mut client).starts_with("-OOM"));
    let mut eval = |source| {
        let answer = client.call(&["EVAL", source, "0"]).unwrap();
        client::transcript::render(&answer).trim_end().to_owned()
    };
    assert_eq!(eval("#!lua\nreturn 1"), OOM);
    assert_eq!(eval("#!lua flags=allow-oom\nreturn 1"), ":1");
    assert_eq!(eval("#!lua flags=no-writes\nreturn 1"), ":1");
    assert_eq!(text("MULTI", &mut client), "+OK");
    assert_eq!(text("GET key", &mut client), "+QUEUED");
    assert_eq!(text("APPEND key x", &mut client), OOM);
    assert!(text("EXEC", &mut client).starts_with("-EXECABORT"));
    assert_eq!(text("DEL key", &mut client), ":1");
    assert_eq!(text("CONFIG SET maxmemory 0", &mut client), "+OK");
    assert_eq!(text("SET key value", &mut client), "+OK");
}
