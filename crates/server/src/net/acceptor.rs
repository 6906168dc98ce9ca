//! Accepts connections and deals them out to the event loops; takes signals and orders.

use crate::config::live::OnSignal;
use crate::control::{Manner, Order};
use crate::error::reason;
use crate::io::signals::{self, StopSignals};
use crate::io::sockets::prepare_tcp;
use crate::io::stream::{Incoming, Stream};
use crate::mailbox::Mail;
use crate::net::listener::Listeners;
use crate::persistence::ending;
use crate::state::State;
use crate::stats::counters::Counter;
use mio::{Events, Interest, Poll, Token, Waker};
use std::io::{ErrorKind, Read, Write};
use std::sync::atomic::Ordering::Relaxed;
use std::thread;
use std::time::Duration;

const ORDERS: Token = Token(usize::MAX);
const TERMINATE: Token = Token(usize::MAX - 1);
const INTERRUPT: Token = Token(usize::MAX - 2);
/// How long it waits after a connection could not be accepted, for want of descriptors mostly.
const RETRY: Duration = Duration::from_millis(100);
/// How often it looks whether replicas have what they lack, while the end waits for them.
const LOOK: Duration = Duration::from_millis(10);

/// See the top of the file.
pub struct Acceptor {
    state: &'static State,
    poll: Poll,
    listeners: Listeners,
    signals: StopSignals,
    next: usize,
    /// Accepting failed; waiting connections cause no further event.
    must_retry: bool,
}

impl Acceptor {
    /// Listens. The error is for the operator.
    pub fn new(state: &'static State) -> Result<Acceptor, String> {
        let failed = |error: std::io::Error| format!("cannot poll: {}", reason(&error));
        let poll = Poll::new().map_err(failed)?;
        let registry = poll.registry();
        let mut signals = signals::watch().map_err(failed)?;
        registry
            .register(&mut signals.terminate, TERMINATE, Interest::READABLE)
            .and_then(|()| registry.register(&mut signals.interrupt, INTERRUPT, Interest::READABLE))
            .map_err(failed)?;
        let listeners = Listeners::open(&state.config, registry)?;
        let waker = Waker::new(registry, ORDERS).map_err(failed)?;
        state.control.attach(Some(waker));
        Ok(Acceptor {
            state,
            poll,
            listeners,
            signals,
            next: 0,
            must_retry: false,
        })
    }

    /// After the first SIGINT: the second ends the process at once, whatever this thread is doing.
    fn heed_insistence(&mut self) {
        let Some(mut signals) = self.signals.insistence.take() else {
            return;
        };
        let thread = thread::Builder::new().name("insistence".to_owned());
        let spawned = thread.spawn(move || {
            if signals.read_exact(&mut [0; 2]).is_ok() {
                ending::at_once();
            }
        });
        if let Err(error) = spawned {
            log::warn!("A second SIGINT will not be heeded: {}", reason(&error));
        }
    }

    /// Says where it listens, and that the server is ready.
    fn announce(&self) {
        self.listeners.announce();
        self.state.supervisor.ready();
    }

    /// Serves until the server is to stop. The error is for the operator.
    pub fn run(&mut self) -> Result<(), String> {
        let mut events = Events::with_capacity(64);
        loop {
            let is_waiting = self.state.control.waiting_end.lock().is_some();
            let timeout = match (is_waiting, self.must_retry) {
                (true, _) => Some(LOOK),
                (false, true) => Some(RETRY),
                (false, false) => None,
            };
            match self.poll.poll(&mut events, timeout) {
                Err(error) if error.kind() != ErrorKind::Interrupted => {
                    return Err(format!("cannot accept connections: {}", reason(&error)));
                }
                _ => {}
            }
            if is_waiting && ending::look(self.state) {
                return Ok(());
            }
            if std::mem::take(&mut self.must_retry) {
                (0..self.listeners.len()).for_each(|idx| self.accept(idx));
            }
            for event in &events {
                let must_stop = match event.token() {
                    TERMINATE => {
                        log::warn!("Received SIGTERM scheduling shutdown...");
                        self.may_stop(self.state.config.shutdown_on_sigterm())
                    }
                    INTERRUPT => {
                        log::warn!("Received SIGINT scheduling shutdown...");
                        self.heed_insistence();
                        self.may_stop(self.state.config.shutdown_on_sigint())
                    }
                    ORDERS => !self.obey()?,
                    Token(idx) => {
                        self.accept(idx);
                        false
                    }
                };
                if must_stop {
                    return Ok(());
                }
            }
        }
    }

    /// Makes ready to stop; whether that went well.
    fn may_stop(&self, asked: OnSignal) -> bool {
        let manner = Manner {
            saves: asked.saves,
            is_forced: asked.is_forced,
            is_immediate: asked.is_immediate,
        };
        let is_paused = self.state.is_cron_paused.load(Relaxed);
        if is_paused || ending::must_wait(self.state, manner) {
            ending::wait_for_replicas(self.state, manner, None);
            return false;
        }
        log::info!("User requested shutdown...");
        let may_stop = ending::prepare(self.state, manner).is_ok();
        if !may_stop {
            log::warn!(
                "Errors trying to shut down the server. Check the logs for more information."
            );
        }
        may_stop
    }

    /// Does what it was asked to; false if it is to stop. The error is for the operator.
    fn obey(&mut self) -> Result<bool, String> {
        for order in self.state.control.take() {
            match order {
                Order::Shutdown => return Ok(false),
                Order::Look => {}
                Order::Loaded(result) => {
                    result?;
                    self.announce();
                }
                Order::Listen(outcome) => {
                    let registry = self.poll.registry();
                    let is_done = self.listeners.reopen_tcp(&self.state.config, registry);
                    // Who asked may have lost patience.
                    let _ = outcome.send(is_done);
                }
            }
        }
        Ok(true)
    }

    fn accept(&mut self, idx: usize) {
        while let Some(accepted) = self.listeners.accept(idx) {
            match accepted {
                Ok(incoming) => {
                    let group = self.next % n_dealt_loops(self.state);
                    self.next = self.next.wrapping_add(1);
                    deal(self.state, incoming, group);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                // The other side was gone before it was accepted.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    log::warn!("Accepting client connection: {}", reason(&error));
                    self.must_retry = true;
                    return;
                }
            }
        }
    }

    /// Stops listening.
    pub fn close(self) {
        self.state.control.attach(None);
        self.listeners.close();
    }
}

/// How many loops get connections. While replies wait for the disk one is left out: a processor has the disk's work
/// to do then, and a sync serves more who are together (docs/performance.md).
fn n_dealt_loops(state: &State) -> usize {
    let (n, is_spared) = (state.mailboxes.len(), state.aof.syncs_first(&state.config));
    (n - usize::from(is_spared)).max(1)
}

/// Hands a new connection to a loop, or turns it away.
fn deal(state: &State, mut incoming: Incoming, group: usize) {
    let stats = state.stats.acceptor();
    if let Some(refusal) = refusal(state, &incoming) {
        stats.add(Counter::RejectedConnections, 1);
        // The other side may be gone, or may not read.
        let _ = incoming.stream.write(refusal.as_bytes());
        return;
    }
    stats.add(Counter::ConnectionsReceived, 1);
    if let Stream::Tcp(stream) = &incoming.stream {
        prepare_tcp(stream, state.config.tcp_keepalive_s());
    }
    state.mailboxes.post(group, Mail::Socket(incoming));
    state.mailboxes.wake();
}

/// Why a connection is turned away, if it is; otherwise it is counted as a client.
fn refusal(state: &State, incoming: &Incoming) -> Option<&'static str> {
    let is_exposed =
        state.config.protected_mode() && state.acl.default_user().rules().needs_no_password();
    if is_exposed && !incoming.is_local {
        return Some(
            "-DENIED Running in protected mode because protected mode is enabled and no password \
             is set for the default user. In this mode connections are only accepted from the \
             machine itself. To be reached from others, set a password ('requirepass', or CONFIG \
             SET requirepass from this machine), or, if no stranger can reach this port, disable \
             protected mode ('protected-mode no', or CONFIG SET protected-mode no; CONFIG REWRITE \
             makes it last).\r\n",
        );
    }
    if state.n_clients.fetch_add(1, Relaxed) >= state.config.max_clients() {
        state.n_clients.fetch_sub(1, Relaxed);
        return Some("-ERR max number of clients reached\r\n");
    }
    None
}
