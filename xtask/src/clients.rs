//! Real client libraries and job queues, each at a small real job: redis-py, RQ and Celery, ioredis and
//! BullMQ. They come from their registries into `target/clients`; the jobs are in `tests/clients`. With
//! redis-py also what needs several servers: failover by Sentinel, in `tests/sentinel`.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use client::connection::Connection;
use client::endpoint::Endpoint;

const PATIENCE: Duration = Duration::from_secs(20);

/// `clients`: installs what is not there yet, and runs every job against the release build.
pub fn run() -> Result<(), String> {
    let root = root()?;
    let (python, node) = install(root)?;
    for threads in ["1", "4"] {
        let server = Server::start(&root.join("target/release/minium"), threads)?;
        let port = server.port.to_string();
        let in_folder = |program: &Path, job: &str| {
            let mut command = Command::new(program);
            command
                .arg(job)
                .current_dir(&node)
                .env("MINIUM_PORT", &port);
            command
        };
        finish(&mut in_folder(&python, "jobs.py"))?;
        finish(&mut in_folder(Path::new("node"), "jobs.js"))?;
        println!("all clients have done their jobs on {threads} threads");
    }
    Ok(())
}

/// `sentinel`: real Sentinels watch servers of the release build, whose primary dies under load.
pub fn sentinel() -> Result<(), String> {
    let root = root()?;
    let (python, _) = install(root)?;
    finish(
        Command::new(python)
            .arg(root.join("tests/sentinel/failover.py"))
            .arg(root.join("target/release/minium"))
            .arg("redis-sentinel"),
    )
}

fn root() -> Result<&'static Path, String> {
    let parent = Path::new(env!("CARGO_MANIFEST_DIR")).parent();
    parent.ok_or_else(|| "xtask stands in the project".to_owned())
}

/// Where Python is, and the folder in which Node finds its packages.
fn install(root: &Path) -> Result<(PathBuf, PathBuf), String> {
    let (jobs, folder) = (root.join("tests/clients"), root.join("target/clients"));
    let folder = &folder;
    fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    for file in fs::read_dir(jobs)
        .map_err(|error| error.to_string())?
        .flatten()
    {
        fs::copy(file.path(), folder.join(file.file_name())).map_err(|error| error.to_string())?;
    }
    let python = folder.join("python/bin/python");
    finish(
        Command::new("python3")
            .args(["-m", "venv"])
            .arg(folder.join("python")),
    )?;
    let wanted = folder.join("requirements.txt");
    finish(
        Command::new(&python)
            .args(["-m", "pip", "install", "--quiet", "-r"])
            .arg(wanted),
    )?;
    finish(
        Command::new("npm")
            .args(["install", "--no-audit", "--no-fund"])
            .current_dir(folder),
    )?;
    Ok((python, folder.clone()))
}

fn finish(command: &mut Command) -> Result<(), String> {
    let status = command
        .status()
        .map_err(|error| format!("{command:?}: {error}"))?;
    match status.success() {
        true => Ok(()),
        false => Err(format!("{command:?} ended with {status}")),
    }
}

/// A server of its own, which ends with it.
struct Server {
    process: Child,
    port: u16,
}

impl Server {
    fn start(binary: &Path, threads: &str) -> Result<Server, String> {
        let failed = |error: std::io::Error| format!("{}: {error}", binary.display());
        let listener = TcpListener::bind("127.0.0.1:0").map_err(failed)?;
        let port = listener.local_addr().map_err(failed)?.port();
        drop(listener);
        let process = Command::new(binary)
            .args([
                "--bind",
                "127.0.0.1",
                "--save",
                "",
                "--threads",
                threads,
                "--port",
            ])
            .arg(port.to_string())
            .stdout(Stdio::null())
            .spawn()
            .map_err(failed)?;
        let server = Server { process, port };
        let host = "127.0.0.1".to_owned();
        let (endpoint, started) = (Endpoint::Tcp { host, port }, Instant::now());
        while Connection::open(&endpoint, Some(PATIENCE)).is_err() {
            if started.elapsed() > PATIENCE {
                return Err("the server does not answer".to_owned());
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
