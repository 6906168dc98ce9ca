//! The binary on a disk that is watched, and what speaks to it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use client::connection::{Connection, Error};
use client::endpoint::Endpoint;

use super::disk::{Entry, read_record};

/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_secs(30);
const MINIUM: &str = env!("CARGO_BIN_EXE_minium");

/// `disk.c`, built once.
fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/crash/disk.c");
        let process = std::process::id();
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("disk-{process}.so"));
        let compiler = std::env::var("CC").unwrap_or("cc".to_owned());
        let status = Command::new(compiler)
            .args(["-shared", "-fPIC", "-O2", "-Wall", "-o"])
            .args([&target, &source])
            .args(["-ldl", "-lpthread"])
            .status();
        assert!(status.unwrap().success(), "disk.c cannot be built");
        target
    })
}

/// Folders of one test: what the server sees as its disk, and beside it the record.
pub struct Place {
    pub folder: PathBuf,
    pub name: &'static str,
}

impl Place {
    pub fn new(name: &'static str) -> Place {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("crash-{name}"));
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(folder.join("disk")).unwrap();
        Place { folder, name }
    }

    /// The folder of the server's files.
    pub fn disk(&self) -> PathBuf {
        self.folder.join("disk")
    }

    /// Begins the record anew.
    pub fn forget(&self) {
        let _ = fs::remove_file(self.folder.join("record")); // there may be none
    }

    /// What the server did to it.
    pub fn record(&self) -> Vec<Entry> {
        read_record(&self.folder.join("record"), &self.disk())
    }
}

/// What goes wrong on the disk, laid out as `disk.c` reads it.
#[derive(Clone, Copy, Default)]
pub struct Faults {
    /// Part of the paths that it is about; empty for all.
    pub path: &'static str,
    pub sync_errno: u32,
    pub write_errno: u32,
    pub n_bytes_left: u64,
    pub n_bytes_max: u64,
    pub sync_us: u64,
}

impl Faults {
    fn bytes(&self) -> Vec<u8> {
        let mut bytes = self.path.as_bytes().to_vec();
        bytes.resize(64, 0);
        bytes.extend(self.sync_errno.to_le_bytes());
        bytes.extend(self.write_errno.to_le_bytes());
        for n in [self.n_bytes_left, self.n_bytes_max, self.sync_us] {
            bytes.extend(n.to_le_bytes());
        }
        bytes
    }

    /// Has them happen from now on.
    pub fn happen(&self, place: &Place) {
        use std::os::unix::fs::FileExt;
        let file = fs::OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .open(place.folder.join("faults"))
            .unwrap();
        file.write_all_at(&self.bytes(), 0).unwrap();
    }
}

/// A server; it is killed when it is dropped.
pub struct Server {
    process: Child,
    pub socket: PathBuf,
    log: PathBuf,
}

pub fn open(socket: &Path) -> Result<Connection, Error> {
    let mut client = Connection::open(&Endpoint::Unix(socket.to_owned()), Some(PATIENCE))?;
    client.set_timeout(Some(PATIENCE))?;
    Ok(client)
}

impl Server {
    /// Starts one whose disk is watched. The record goes on.
    pub fn watched(place: &Place, flags: &[&str]) -> Server {
        Server::begin(place, &place.disk(), flags, |command| {
            command
                .env("LD_PRELOAD", library())
                .env("DISK_ROOT", place.disk())
                .env("DISK_RECORD", place.folder.join("record"))
                .env("DISK_FAULTS", place.folder.join("faults"));
        })
    }

    /// Starts one on the files of this folder, unwatched.
    pub fn plain(place: &Place, folder: &Path, flags: &[&str]) -> Server {
        Server::begin(place, folder, flags, |_| {})
    }

    fn begin(
        place: &Place,
        folder: &Path,
        flags: &[&str],
        adapt: impl FnOnce(&mut Command),
    ) -> Server {
        Faults::default().happen_first(place);
        let log = place.folder.join("log");
        // The path of a socket must be short.
        let process = std::process::id();
        let socket = std::env::temp_dir().join(format!("minium-{process}-{}", place.name));
        let _ = fs::remove_file(&socket);
        let mut command = Command::new(MINIUM);
        command
            .current_dir(folder)
            .args(flags)
            .args(["--port", "0", "--unixsocket", socket.to_str().unwrap()])
            .args(["--loglevel", "verbose", "--enable-debug-command", "local"])
            .stdout(fs::File::create(&log).unwrap())
            .stderr(Stdio::inherit());
        adapt(&mut command);
        let process = command.spawn().unwrap();
        Server {
            process,
            socket,
            log,
        }
    }

    /// Waits until it has loaded its data; what it said if it has ended instead.
    pub fn ready(&mut self) -> Result<Connection, String> {
        let started = Instant::now();
        loop {
            if let Ok(mut client) = open(&self.socket)
                && let Ok(answer) = client.call(&["PING"])
                && answer == resp::decode::Value::Simple(b"PONG".to_vec())
            {
                return Ok(client);
            }
            if self.process.try_wait().unwrap().is_some() {
                return Err(self.log());
            }
            assert!(started.elapsed() < PATIENCE, "the server does not come up: {}", self.log());
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// SIGKILL; the exit code if it had ended before.
    pub fn kill(&mut self) -> Option<i32> {
        let _ = self.process.kill(); // it may have ended already
        self.process.wait().unwrap().code()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
        let _ = fs::remove_file(&self.socket);
    }
}

impl Faults {
    /// The file must be there before the server is.
    fn happen_first(&self, place: &Place) {
        if !place.folder.join("faults").exists() {
            self.happen(place);
        }
    }
}
