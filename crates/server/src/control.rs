//! Orders from commands to the thread that accepts connections.
//!
//! A command that starts work of the process (SHUTDOWN, CONFIG SET port) posts an order here; the
//! driver takes it when it wakes. The kinds of orders are a closed list.

use keyspace::registry::Waiter;
use mio::Waker;
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::time::{Duration, Instant};

use crate::mailbox::Address;

/// How long a command waits for an order that it needs the result of.
const PATIENCE: Duration = Duration::from_secs(5);

/// How the server is asked to stop.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Manner {
    /// Whether to save: as `save` says if nobody else does.
    pub saves: Option<bool>,
    /// Stop even if the data cannot be saved.
    pub is_forced: bool,
    /// Wait for no replica.
    pub is_immediate: bool,
}

/// An end of the server that waits for replicas.
#[derive(Clone)]
pub struct Ending {
    /// How it will stop then.
    pub manner: Manner,
    /// When it stops without them.
    pub until: Instant,
    /// Where the stream ended when nobody wrote any more.
    pub stream_end: Option<u64>,
    /// The sessions that have asked for it.
    pub askers: Vec<(Arc<Waiter>, Address)>,
}

/// What a driver is asked to do.
pub enum Order {
    /// Look after the end that waits.
    Look,
    /// Stop the server.
    Shutdown,
    /// Listen where `bind` and `port` say now, and no longer where they said before; whether it
    /// worked. If not, nothing is listened on until the next such order.
    Listen(SyncSender<bool>),
    /// Say that the data is there, or stop with this reason.
    Loaded(Result<(), String>),
}

/// See the top of the file.
#[derive(Default)]
pub struct Control {
    orders: Mutex<Vec<Order>>,
    waker: Mutex<Option<Waker>>,
    /// The server was asked to stop.
    is_ending: AtomicBool,
    /// It waits for replicas before it does.
    pub waiting_end: Mutex<Option<Ending>>,
}

impl Control {
    /// Names whom to wake for an order. Until then, and after `None`, orders are kept.
    pub fn attach(&self, waker: Option<Waker>) {
        *self.waker.lock() = waker;
    }

    /// Asks for something.
    pub fn post(&self, order: Order) {
        if matches!(order, Order::Shutdown) {
            self.is_ending.store(true, Relaxed);
        }
        self.orders.lock().push(order);
        if let Some(waker) = &*self.waker.lock() {
            // A driver that cannot be woken has ended.
            let _ = waker.wake();
        }
    }

    /// Notes that the server will stop, before it is asked to.
    pub fn note_ending(&self) {
        self.is_ending.store(true, Relaxed);
    }

    /// Whether the server was asked to stop: who asked sees it go, not just a closed connection.
    pub fn is_ending(&self) -> bool {
        self.is_ending.load(Relaxed)
    }

    /// Asks to listen anew, and waits for the outcome.
    pub fn listen_anew(&self) -> bool {
        if self.waker.lock().is_none() {
            return false;
        }
        let (sender, receiver) = sync_channel(1);
        self.post(Order::Listen(sender));
        receiver.recv_timeout(PATIENCE).unwrap_or(false)
    }

    /// Takes what was asked for so far, in order.
    pub fn take(&self) -> Vec<Order> {
        std::mem::take(&mut *self.orders.lock())
    }
}
