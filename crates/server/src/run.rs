//! Starts the server: arguments, configuration, threads, the exit code. It wires the rooms together
//! and decides nothing.

use crate::aof::Phase;
use crate::command::Commands;
use crate::commands;
use crate::config::Config;
use crate::config::file::{self, Loaded};
use crate::config::live::Supervised;
use crate::control::Order;
use crate::dispatch;
use crate::error::reason;
use crate::exec::{Engine, last_command};
use crate::io::process::{ProgramPages, allow_clients, go_to_background, refuse_huge_pages};
use crate::io::supervisor::Supervisor;
use crate::io::title::Title;
use crate::logging;
use crate::net::acceptor::Acceptor;
use crate::net::event_loop::{EventLoop, poll_and_waker};
use crate::persistence::append;
use crate::persistence::ending;
use crate::persistence::found::{self, Found};
use crate::persistence::load::{self, LoadError};
use crate::persistence::saver;
use crate::replication;
use crate::state::State;
use crate::stats::counters::Counter;
use crate::stats::table::REDIS_VERSION;
use datatypes::encoding::table::{hash, set_hash_seed};
use std::fs::File;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// Event loops that are started when the processors allow more.
const THREADS_MAX: usize = 8;
/// The stack of each event loop. Handlers do not recurse.
const STACK_BYTES: usize = 2 << 20;
/// How long a loop may take to come to its end.
const LOOP_PATIENCE: Duration = Duration::from_secs(3);
/// How long, if it runs a script that has written.
const SCRIPT_PATIENCE: Duration = Duration::from_millis(100);
/// Where random numbers of the thread that loads start.
const SAVER_SEED: u64 = 0x5a5e;
/// Where the process id is written when nobody says otherwise.
const PID_FILE: &str = "/var/run/redis.pid";

const HELP: &str = "\
Usage: minium [/path/to/redis.conf] [--directive value ...] [-]
       minium cli [options] [command ...]
       minium check-rdb FILE
       minium check-aof [--fix] FILE.manifest|FILE.aof
       minium -v | --version
       minium -h | --help

A lone `-` reads more configuration from standard input. Flags win over the file.

       minium                               port 6379, for this machine only
       minium --port 7000 --threads 2
       minium redis.conf --loglevel verbose
       echo 'requirepass secret' | minium -
";

/// Runs the server with the arguments behind its name; the exit code. `commit` is what it is made from,
/// if that is known.
pub fn run(args: &[String], commit: Option<&'static str>) -> i32 {
    match args.first().map(String::as_str) {
        Some("-v" | "--version") => {
            let (version, bits) = (env!("CARGO_PKG_VERSION"), usize::BITS);
            println!(
                "Minium server v={REDIS_VERSION} minium={version} malloc=mimalloc bits={bits}"
            );
            return 0;
        }
        Some("-h" | "--help") => {
            print!("{HELP}");
            return 0;
        }
        Some(test @ ("--test-memory" | "--check-system")) => {
            eprintln!("minium {test}: there is no such test here; try memtester or your vendor's");
            return 1;
        }
        _ => {}
    }
    let loaded = match file::load(args) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    };
    if let Some(seed) = loaded.config.hash_seed() {
        set_hash_seed(&seed); // nothing was hashed yet
    }
    let commands = match dispatch::commands(&loaded.renames) {
        Ok(commands) => commands,
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    };
    let (level, file) = (loaded.config.log_level(), loaded.config.log_file());
    if let Err(error) = logging::start(level, file) {
        eprintln!("\n*** FATAL CONFIG FILE ERROR (Redis {REDIS_VERSION}) ***");
        eprintln!("Can't open the log file: {}", reason(&error));
        return 1;
    }
    stop_on_panic();
    match serve(loaded, commands, commit) {
        Ok(()) => 0,
        Err(reason) => {
            log::warn!("{reason}");
            1
        }
    }
}

/// A panic is a bug, and what it was changing cannot be trusted: the process stops after the report.
fn stop_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        let command = last_command();
        log::error!("Minium {} crashed by a panic: {panic}", env!("CARGO_PKG_VERSION"));
        if !command.is_empty() {
            log::error!("The last command of this thread was '{command}'");
        }
        report(panic);
        std::process::abort();
    }));
}

fn serve(loaded: Loaded, commands: Commands, commit: Option<&'static str>) -> Result<(), String> {
    let config = &loaded.config;
    if config.daemonize() && config.supervised() == Supervised::No {
        go_to_background().map_err(|error| format!("cannot daemonize: {}", reason(&error)))?;
    }
    let title = config.sets_title().then(Title::claim).flatten();
    announce(&loaded);
    let pages = ProgramPages::find();
    let supervisor = Supervisor::find(config.supervised());
    let pid_file = pid_file(&loaded);
    let state = state(loaded, supervisor)?;
    if let Some(title) = title {
        let _ = state.title.set(title);
    }
    if let Some(commit) = commit {
        let _ = state.commit.set(commit);
    }
    state.show_title();
    let _ = state.adjust_oom_score();
    let mut acceptor = Acceptor::new(state)?;
    if let Some(path) = &pid_file
        && let Err(error) = std::fs::write(path, format!("{}\n", std::process::id()))
    {
        log::info!("Failed to write PID file: {}", reason(&error));
    }
    let (trash, garbage) = mpsc::channel();
    state.keyspace.set_trash(trash);
    std::thread::spawn(move || {
        for garbage in garbage {
            drop(garbage);
            state.keyspace.freed();
            state.stats.count(Counter::LazyFreedObjects, 1);
        }
    });
    let commands: &'static Commands = Box::leak(Box::new(commands));
    log::info!("Server initialized");
    let mut data = find_data(state)?;
    if data.is_loaded_first(state) {
        let loaded = load_data(state, commands, std::mem::replace(&mut data, Data::None));
        if let Err(error) = loaded {
            acceptor.close();
            remove_pid_file(pid_file.as_deref());
            return Err(error);
        }
    }
    let threads = start_loops(state, commands).map_err(|error| format!("cannot start: {error}"))?;
    let saver = start_saver(state, commands, data, pages);
    std::thread::spawn(move || append::run(state));
    std::thread::spawn(move || replication::run(state, commands));
    let result = acceptor.run();
    supervisor.stopping();
    acceptor.close();
    stop(state, threads)?;
    state.saving.end();
    ending::clean_up(state, &saver);
    if state.aof.phase() != Phase::Off {
        append::close(state);
    }
    if result.is_ok() && pid_file.is_some() {
        log::info!("Removing the pid file.");
    }
    remove_pid_file(pid_file.as_deref());
    if result.is_ok() {
        log::warn!("Minium is now ready to exit, bye bye...");
    }
    result
}

fn remove_pid_file(path: Option<&str>) {
    if let Some(path) = path {
        // It could not be written, or somebody has removed it.
        let _ = std::fs::remove_file(path);
    }
}

/// What the data is loaded from.
enum Data {
    None,
    Snapshot(File, u64),
    Log(Found),
}

impl Data {
    /// Whether so little is to be loaded that nobody need be told to wait.
    fn is_loaded_first(&self, state: &State) -> bool {
        match self {
            Data::None => false,
            Data::Snapshot(_, n_bytes) => state.config.is_loaded_first(*n_bytes),
            Data::Log(found) => state.config.is_loaded_first(found.n_bytes),
        }
    }
}

/// The files of the data; clients are told to wait from here on. With an append-only file a snapshot
/// is not looked at.
fn find_data(state: &State) -> Result<Data, String> {
    if state.config.appends() {
        append::hold_at_start(state)?;
        let found = found::find(state)?;
        state.saving.begin_loading(found.n_bytes);
        return Ok(Data::Log(found));
    }
    match load::open(state) {
        Ok((file, n_bytes)) => {
            state.saving.begin_loading(n_bytes);
            Ok(Data::Snapshot(file, n_bytes))
        }
        Err(LoadError::Absent) => Ok(Data::None),
        Err(error) => Err(fatal(&error)),
    }
}

/// In the words that tools look for.
fn fatal(error: &LoadError) -> String {
    format!(
        "Fatal error loading the DB: {error}. Terminating server after rdb file reading failure."
    )
}

/// Loads what was found. The error is for the operator.
fn load_data(state: &'static State, commands: &'static Commands, data: Data) -> Result<(), String> {
    let engine = || Engine::new(state, commands, state.n_threads, SAVER_SEED);
    match data {
        Data::None => Ok(()),
        Data::Snapshot(file, _) => engine().load_at_start(file).map_err(|error| {
            load::report(state);
            fatal(&error)
        }),
        Data::Log(found) => engine()
            .replay_at_start(&found)
            .and_then(|()| append::open_at_start(state))
            .inspect(|()| state.saving.end_loading()),
    }
}

/// Starts the thread that loads the data and then saves it.
fn start_saver(
    state: &'static State,
    commands: &'static Commands,
    data: Data,
    pages: ProgramPages,
) -> JoinHandle<()> {
    std::thread::spawn(move || {
        let loaded = load_data(state, commands, data);
        let is_loaded = loaded.is_ok();
        state.control.post(Order::Loaded(loaded));
        if is_loaded {
            pages.forget();
            saver::run(state);
        }
    })
}

fn announce(loaded: &Loaded) {
    let (version, pid) = (env!("CARGO_PKG_VERSION"), std::process::id());
    log::info!("Minium {version} is starting, as Redis {REDIS_VERSION}, PID: {pid}");
    if loaded.is_default {
        log::warn!("Warning: no config file specified, using the default config.");
    } else {
        log::info!("Configuration loaded");
    }
    if loaded.config.disables_huge_pages()
        && let Err(error) = refuse_huge_pages()
    {
        log::warn!("Could not switch off transparent huge pages: {}", reason(&error));
    }
}

/// The file of the process id: as the directive says, or the usual one of a daemon.
fn pid_file(loaded: &Loaded) -> Option<String> {
    let usual = || loaded.config.daemonize().then(|| PID_FILE.to_owned());
    loaded.config.pid_file().or_else(usual)
}

fn state(loaded: Loaded, supervisor: Supervisor) -> Result<&'static State, String> {
    let config = loaded.config;
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let n_threads = match config.threads() {
        0 => available.min(THREADS_MAX),
        n => n,
    };
    limit_clients(&config, n_threads);
    let table = commands::table();
    let about = (&table.names[..], &table.catalogue);
    let state = State::leaked(config, about, n_threads, supervisor)?;
    load_users(state, &loaded.users)?;
    Ok(state)
}

/// The users of the configuration, or those of the ACL file. The error is for the log.
fn load_users(state: &State, declared: &[Vec<Vec<u8>>]) -> Result<(), String> {
    if declared.is_empty() {
        let loaded = commands::acl::load_file(state);
        return match state.config.acl_file() {
            None => Ok(()),
            Some(_) => loaded
                .map(drop)
                .map_err(|errors| format!("Aborting startup because of ACL errors: {errors}")),
        };
    }
    if state.config.acl_file().is_some() {
        return Err("Configuring Redis with users defined in redis.conf and at the same setting an ACL \
                    file path is invalid. This setup is very likely to lead to configuration errors \
                    and security holes, please define either an ACL file or declare users directly in \
                    your redis.conf, but not both."
            .to_owned());
    }
    state
        .acl
        .declare(declared, state.config.channels_by_default())
}

/// Lowers `maxclients` to what the system allows.
fn limit_clients(config: &Config, n_threads: usize) {
    let wanted = config.max_clients();
    let allowed = allow_clients(wanted, n_threads);
    if allowed < wanted {
        log::warn!(
            "The limit of open files allows {allowed} clients, not the {wanted} that maxclients \
             asks for. Raise it ('ulimit -n') to serve them."
        );
        config.lower_max_clients(allowed.max(1));
    }
}

/// An event loop and how it ended.
type Loop = JoinHandle<std::io::Result<()>>;

fn start_loops(state: &'static State, commands: &'static Commands) -> std::io::Result<Vec<Loop>> {
    let mut threads = Vec::new();
    for group in 0..state.n_threads {
        let (poll, waker) = poll_and_waker()?;
        state.mailboxes.set_waker(group, waker);
        let builder = std::thread::Builder::new()
            .name(format!("loop-{group}"))
            .stack_size(STACK_BYTES);
        threads.push(builder.spawn(move || {
            let seed = hash(&[b"loop", &group.to_le_bytes()[..]].concat());
            let mut engine = Engine::new(state, commands, group, seed);
            let result = EventLoop::new(state, group, poll).run(&mut engine);
            if result.is_err() {
                // Nobody serves its connections any more: better no server than half of one.
                state.control.post(Order::Shutdown);
            }
            result
        })?);
    }
    Ok(threads)
}

/// Ends the loops. One that is in a command without end is left to it: nobody was answered, and the
/// process goes.
fn stop(state: &State, threads: Vec<Loop>) -> Result<(), String> {
    state.is_stopping.store(true, Relaxed);
    state.mailboxes.wake_all();
    let started = Instant::now();
    for thread in threads {
        while !thread.is_finished() {
            let running = &state.scripts.running;
            let patience = match running.has_written() {
                true => SCRIPT_PATIENCE,
                false => LOOP_PATIENCE,
            };
            if started.elapsed() > patience {
                log::warn!("A command does not come to its end: it ends with the process.");
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        let result = thread.join().map_err(|_| "an event loop has panicked")?;
        result.map_err(|error| format!("an event loop has ended: {}", reason(&error)))?;
    }
    Ok(())
}
