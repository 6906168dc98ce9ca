//! Starts the server: arguments, configuration, threads, the listener, signals, the exit code.
//! It wires the rooms together and decides nothing.

use crate::config::file::{Loaded, load};
use crate::config::live::Supervised;
use crate::config::notify::EventClasses;
use crate::dispatch;
use crate::exec::unix_ms;
use crate::mailbox::{Mail, Mailboxes};
use crate::net::event_loop::{EventLoop, poll_and_waker};
use crate::state::State;
use keyspace::keyspace::{Keyspace, Layout};
use mio::net::{TcpListener, UnixStream};
use mio::{Events, Interest, Poll, Token};
use socket2::{SockRef, TcpKeepalive};
use std::io::Write;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Event loops that are started when the processors allow more.
const THREADS_MAX: usize = 8;
/// Shards for each event loop; see the lock protocol.
const SHARDS_PER_THREAD: usize = 128;

/// Runs the server with the arguments behind its name; the exit code.
pub fn run(args: &[String]) -> i32 {
    if matches!(args, [only] if only == "--version" || only == "-v") {
        println!("Minium server v={} redis_version=8.2.0", env!("CARGO_PKG_VERSION"));
        return 0;
    }
    if matches!(args, [only] if only == "--help" || only == "-h") {
        println!(
            "Usage: minium [redis.conf|-] [--directive value ...]\n       minium cli [options]"
        );
        return 0;
    }
    let loaded = match load(args) {
        Ok(loaded) => loaded,
        Err(error) => {
            eprintln!("{error}");
            return 1;
        }
    };
    stop_on_panic();
    match serve(loaded) {
        Ok(()) => 0,
        Err(reason) => {
            log('#', &reason);
            1
        }
    }
}

/// A panic is a bug, and what it was changing cannot be trusted: the process stops after the report.
fn stop_on_panic() {
    let report = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        report(panic);
        std::process::abort();
    }));
}

/// One line of the log, in the form that Redis's has.
fn log(level: char, message: &str) {
    let (ms, pid) = (unix_ms(), std::process::id());
    let (days, ms_of_day) = (ms / 86_400_000, ms % 86_400_000);
    let (year, month, day) = civil(days as i64);
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let month = MONTHS[month - 1];
    let (hours, minutes) = (ms_of_day / 3_600_000, ms_of_day / 60_000 % 60);
    let (seconds, ms) = (ms_of_day / 1000 % 60, ms_of_day % 1000);
    let line = format!(
        "{pid}:M {day:02} {month} {year} {hours:02}:{minutes:02}:{seconds:02}.{ms:03} {level} {message}\n"
    );
    // A log that cannot be written must not stop the server.
    let _ = std::io::stdout().write_all(line.as_bytes());
    let _ = std::io::stdout().flush();
}

/// Year, month and day of a day since 1970-01-01 (H. Hinnant, "chrono-Compatible Low-Level Date
/// Algorithms").
fn civil(days: i64) -> (i64, usize, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * shifted_month + 2) / 5 + 1;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + i64::from(month <= 2), month as usize, day)
}

/// What the configuration asks for and this version does not do.
fn refuse_what_is_missing(loaded: &Loaded) -> Result<(), String> {
    let config = &loaded.config;
    let asked = [
        (config.daemonize(), "daemonize yes"),
        (config.supervised() != Supervised::No, "supervised"),
        (config.unix_socket().is_some(), "unixsocket"),
        (config.log_file().is_some(), "logfile"),
        (config.pid_file().is_some() && config.daemonize(), "pidfile"),
        (config.notify_events() != EventClasses::NONE, "notify-keyspace-events"),
        (!loaded.renames.is_empty(), "rename-command"),
    ];
    match asked.iter().find(|(is_asked, _)| *is_asked) {
        Some((_, what)) => Err(format!("'{what}' is not available in this version")),
        None => Ok(()),
    }
}

fn random_id() -> Result<String, String> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

fn serve(loaded: Loaded) -> Result<(), String> {
    refuse_what_is_missing(&loaded)?;
    let available = std::thread::available_parallelism().map_or(1, usize::from);
    let n_threads = match loaded.config.threads() {
        0 => available.min(THREADS_MAX),
        n => n,
    };
    let layout = Layout {
        n_databases: loaded.config.databases().min(usize::from(u16::MAX)) as u16,
        n_shards: (n_threads * SHARDS_PER_THREAD)
            .next_power_of_two()
            .min(1024) as u16,
        n_groups: n_threads,
    };
    // One server a process, for as long as that lives: every thread holds a plain reference.
    let state: &'static State = Box::leak(Box::new(State {
        keyspace: Keyspace::new(layout),
        mailboxes: Mailboxes::new(n_threads),
        pubsub: Default::default(),
        journal: Default::default(),
        clients: Default::default(),
        scripts: Default::default(),
        n_changes: 0.into(),
        n_commands: 0.into(),
        n_expired: 0.into(),
        n_clients: 0.into(),
        n_connections: 0.into(),
        is_stopping: false.into(),
        expires_actively: true.into(),
        list_plain_bytes: usize::MAX.into(),
        started: Instant::now(),
        run_id: random_id()?,
        port: loaded.config.port(),
        n_threads,
        config: loaded.config,
    }));
    log(
        '*',
        &format!("Minium {} starting, PID: {}", env!("CARGO_PKG_VERSION"), std::process::id()),
    );
    let listeners = listen(state)?;
    let (trash, garbage) = mpsc::channel();
    state.keyspace.set_trash(trash);
    std::thread::spawn(move || garbage.into_iter().for_each(drop));
    let threads = start_loops(state).map_err(|error| format!("cannot start: {error}"))?;
    log('*', "Server initialized");
    for listener in &listeners {
        if let Ok(address) = listener.local_addr() {
            log(
                '*',
                &format!("Ready to accept connections tcp on {address}; try: minium cli PING"),
            );
        }
    }
    let result = accept(state, listeners);
    state.is_stopping.store(true, Relaxed);
    state.mailboxes.wake_all();
    for thread in threads {
        if thread.join().is_err() {
            return Err("an event loop has panicked".to_owned());
        }
    }
    log('#', "Minium is now ready to exit, bye bye...");
    result.map_err(|error| format!("cannot accept connections: {error}"))
}

fn listen(state: &State) -> Result<Vec<TcpListener>, String> {
    let mut listeners = Vec::new();
    for host in state.config.bind() {
        let (host, is_optional) = match host.strip_prefix('-') {
            Some(host) => (host.to_owned(), true),
            None => (host, false),
        };
        let address = match &host[..] {
            "*" => "0.0.0.0",
            "::*" => "::",
            other => other,
        };
        match listen_at(address, state.config.port(), state.config.tcp_backlog()) {
            Ok(listener) => listeners.push(listener),
            Err(_) if is_optional => {}
            Err(error) => {
                let port = state.config.port();
                return Err(format!(
                    "Could not create server TCP listening socket {host}:{port}: bind: {error}"
                ));
            }
        }
    }
    if listeners.is_empty() {
        return Err("no address to listen on".to_owned());
    }
    Ok(listeners)
}

fn listen_at(host: &str, port: u16, backlog: i32) -> std::io::Result<TcpListener> {
    let mut addresses = (host, port).to_socket_addrs()?;
    let address = addresses
        .next()
        .ok_or(std::io::ErrorKind::AddrNotAvailable)?;
    let domain = socket2::Domain::for_address(address);
    let socket = socket2::Socket::new(domain, socket2::Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(backlog)?;
    socket.set_nonblocking(true)?;
    Ok(TcpListener::from_std(socket.into()))
}

fn start_loops(state: &'static State) -> std::io::Result<Vec<std::thread::JoinHandle<()>>> {
    let commands: &'static _ = Box::leak(Box::new(dispatch::commands()));
    let mut threads = Vec::new();
    for group in 0..state.n_threads {
        let (poll, waker) = poll_and_waker()?;
        state.mailboxes.set_waker(group, waker);
        let builder = std::thread::Builder::new().name(format!("loop-{group}"));
        threads.push(builder.spawn(move || {
            let mut event_loop = EventLoop::new(state, commands, group, poll);
            if let Err(error) = event_loop.run() {
                log('#', &format!("an event loop ends: {error}"));
            }
        })?);
    }
    Ok(threads)
}

/// Accepts and deals out connections until the server stops.
fn accept(state: &State, mut listeners: Vec<TcpListener>) -> std::io::Result<()> {
    let mut poll = Poll::new()?;
    for (idx, listener) in listeners.iter_mut().enumerate() {
        poll.registry()
            .register(listener, Token(idx), Interest::READABLE)?;
    }
    let (signals, sender) = std::os::unix::net::UnixStream::pair()?;
    for signal in [signal_hook::consts::SIGTERM, signal_hook::consts::SIGINT] {
        signal_hook::low_level::pipe::register(signal, sender.try_clone()?)?;
    }
    signals.set_nonblocking(true)?;
    let mut signals = UnixStream::from_std(signals);
    poll.registry()
        .register(&mut signals, Token(usize::MAX), Interest::READABLE)?;
    let mut events = Events::with_capacity(64);
    let mut next = 0;
    while !state.is_stopping.load(Relaxed) {
        match poll.poll(&mut events, Some(Duration::from_millis(100))) {
            Err(error) if error.kind() != std::io::ErrorKind::Interrupted => return Err(error),
            _ => {}
        }
        for event in &events {
            let Some(listener) = listeners.get(event.token().0) else {
                log('#', "User requested shutdown...");
                return Ok(());
            };
            while let Ok((stream, address)) = listener.accept() {
                deal(state, stream.into(), address, next % state.n_threads);
                next += 1;
            }
        }
    }
    Ok(())
}

/// Hands a new connection to a loop, or turns it away.
fn deal(state: &State, mut stream: std::net::TcpStream, address: SocketAddr, group: usize) {
    let is_exposed = state.config.protected_mode() && !state.config.requires_password();
    if is_exposed && !address.ip().is_loopback() {
        let text =
            b"-DENIED Minium is running in protected mode because protected mode is enabled \
                     and no password is set for the default user. Set a password, or turn \
                     protected mode off, to accept connections from other machines.\r\n";
        let _ = stream.write(text);
        return;
    }
    if state.n_clients.fetch_add(1, Relaxed) >= state.config.max_clients() {
        state.n_clients.fetch_sub(1, Relaxed);
        let _ = stream.write(b"-ERR max number of clients reached\r\n");
        return;
    }
    // A socket without these options still works.
    let _ = stream.set_nodelay(true);
    let keepalive_s = state.config.tcp_keepalive_s();
    if keepalive_s > 0 {
        let keepalive = TcpKeepalive::new().with_time(Duration::from_secs(keepalive_s));
        let _ = SockRef::from(&stream).set_tcp_keepalive(&keepalive);
    }
    state.mailboxes.post(group, Mail::Socket(stream, address));
    state.mailboxes.wake();
}
