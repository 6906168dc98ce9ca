//! A network between servers that can be cut, delayed, slowed down, and held up: by a proxy for each
//! pair, or between hosts (`hosts.rs`).
//!
//! ```text
//!   replica ──► proxy ──► primary       one thread each way: reads, waits as the weather is, writes
//! ```

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use crate::hosts::Route;
use crate::node::Node;

/// How often a thread looks at the weather.
const LOOK: Duration = Duration::from_millis(5);

/// What happens to what is sent.
pub struct Weather {
    /// Nothing gets through and nobody is told; what was sent gets through later.
    is_held: AtomicBool,
    /// Nobody is there.
    is_cut: AtomicBool,
    /// How late each piece is.
    delay_ms: AtomicU64,
    /// 0 if it does not matter.
    bytes_per_s: AtomicU64,
    /// A connection ends when so many bytes of the primary have got through.
    cut_after: AtomicU64,
    /// Connections that ended for that reason.
    n_cut_after: AtomicU64,
    /// Bytes of the primary that got through on the last connection.
    n_bytes: AtomicU64,
    is_over: AtomicBool,
    sockets: Mutex<Vec<TcpStream>>,
}

/// The way to a server.
pub enum Link {
    /// Through a proxy at this port.
    Proxy(u16, Arc<Weather>),
    /// Between hosts.
    Route(Route),
}

impl Link {
    /// To the server at this port.
    pub fn to(port: u16) -> Link {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let own = listener.local_addr().unwrap().port();
        let weather = Arc::new(Weather {
            is_held: AtomicBool::new(false),
            is_cut: AtomicBool::new(false),
            delay_ms: AtomicU64::new(0),
            bytes_per_s: AtomicU64::new(0),
            cut_after: AtomicU64::new(u64::MAX),
            n_cut_after: AtomicU64::new(0),
            n_bytes: AtomicU64::new(0),
            is_over: AtomicBool::new(false),
            sockets: Mutex::default(),
        });
        let theirs = weather.clone();
        thread::spawn(move || accept(&listener, port, &theirs));
        Link::Proxy(own, weather)
    }

    /// Has a replica go this way to the primary.
    pub fn lead(&self, replica: &Node, primary: &Node) {
        match self {
            Link::Proxy(port, _) => replica.follow("127.0.0.1", *port),
            Link::Route(_) => replica.follow(&primary.host, primary.port),
        }
    }

    /// Ends what is there; nobody gets through until it is mended.
    pub fn cut(&self) {
        match self {
            Link::Proxy(_, weather) => {
                weather.is_cut.store(true, Relaxed);
                weather.end_all();
            }
            Link::Route(route) => route.cut(),
        }
    }

    /// Half-open: nothing gets through and nobody is told.
    pub fn hold(&self) {
        match self {
            Link::Proxy(_, weather) => weather.is_held.store(true, Relaxed),
            Link::Route(route) => route.hold(),
        }
    }

    /// Everything is late, which is what TCP makes of loss.
    pub fn delay(&self, ms: u64) {
        match self {
            Link::Proxy(_, weather) => weather.delay_ms.store(ms, Relaxed),
            Link::Route(route) => route.lose(),
        }
    }

    pub fn slow_down(&self, bytes_per_s: u64) {
        match self {
            Link::Proxy(_, weather) => weather.bytes_per_s.store(bytes_per_s, Relaxed),
            Link::Route(route) => route.slow_down(bytes_per_s),
        }
    }

    /// Ends each connection after so many bytes of the primary.
    pub fn cut_after(&self, n_bytes: u64) {
        let weather = self.weather();
        weather.n_cut_after.store(0, Relaxed);
        weather.cut_after.store(n_bytes, Relaxed);
    }

    pub fn n_cut_after(&self) -> u64 {
        self.weather().n_cut_after.load(Relaxed)
    }

    pub fn n_bytes(&self) -> u64 {
        self.weather().n_bytes.load(Relaxed)
    }

    fn weather(&self) -> &Weather {
        match self {
            Link::Proxy(_, weather) => weather,
            Link::Route(_) => panic!("only a proxy counts bytes"),
        }
    }

    /// As if nothing had been.
    pub fn mend(&self) {
        match self {
            Link::Proxy(_, weather) => weather.mend(),
            Link::Route(route) => route.mend(),
        }
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        if let Link::Proxy(port, weather) = self {
            weather.is_over.store(true, Relaxed);
            weather.mend();
            weather.end_all();
            // The thread that accepts sees it.
            let _ = TcpStream::connect(("127.0.0.1", *port));
        }
    }
}

impl Weather {
    fn mend(&self) {
        self.delay_ms.store(0, Relaxed);
        self.bytes_per_s.store(0, Relaxed);
        self.cut_after.store(u64::MAX, Relaxed);
        self.is_cut.store(false, Relaxed);
        self.is_held.store(false, Relaxed);
    }

    fn end_all(&self) {
        for socket in self.sockets.lock().unwrap().drain(..) {
            let _ = socket.shutdown(Shutdown::Both); // it may have ended by itself
        }
    }

    fn wait_out(&self) {
        while self.is_held.load(Relaxed) {
            thread::sleep(LOOK);
        }
    }
}

fn accept(listener: &TcpListener, port: u16, weather: &Arc<Weather>) {
    for near in listener.incoming() {
        let is_over = weather.is_over.load(Relaxed);
        if is_over {
            return;
        }
        let Ok(near) = near else { continue };
        if weather.is_cut.load(Relaxed) {
            continue;
        }
        let weather = weather.clone();
        thread::spawn(move || {
            weather.wait_out();
            if let Ok(far) = TcpStream::connect(("127.0.0.1", port)) {
                join(&near, &far, &weather);
            }
        });
    }
}

fn join(near: &TcpStream, far: &TcpStream, weather: &Arc<Weather>) {
    let both = [near, far].map(|socket| socket.try_clone().unwrap());
    weather.sockets.lock().unwrap().extend(both);
    if weather.is_cut.load(Relaxed) {
        weather.end_all();
    }
    weather.n_bytes.store(0, Relaxed);
    thread::scope(|scope| {
        scope.spawn(|| pump(near, far, weather, false));
        pump(far, near, weather, true);
    });
}

/// Carries one way until the connection ends.
fn pump(mut from: &TcpStream, mut to: &TcpStream, weather: &Weather, is_of_primary: bool) {
    let mut piece = [0; 16 << 10];
    let mut n_done = 0;
    let _ = from.set_nodelay(true); // it may have ended
    loop {
        weather.wait_out();
        let pace = weather.bytes_per_s.load(Relaxed);
        let n_most = match pace {
            0 => piece.len(),
            pace => piece.len().min(pace as usize / 50 + 1),
        };
        let mut n = match from.read(&mut piece[..n_most]) {
            Ok(0) => break,
            Ok(n) => n,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(_) => break,
        };
        thread::sleep(Duration::from_millis(weather.delay_ms.load(Relaxed)));
        if let Some(late_us) = (n as u64 * 1_000_000).checked_div(pace) {
            thread::sleep(Duration::from_micros(late_us));
        }
        weather.wait_out();
        let n_left = weather.cut_after.load(Relaxed).saturating_sub(n_done);
        let is_last = is_of_primary && n as u64 >= n_left;
        n = if is_last { n_left as usize } else { n };
        if to.write_all(&piece[..n]).is_err() {
            break;
        }
        n_done += n as u64;
        if is_of_primary {
            weather.n_bytes.store(n_done, Relaxed);
        }
        if is_last {
            weather.n_cut_after.fetch_add(1, Relaxed);
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both); // either may have ended
    let _ = to.shutdown(Shutdown::Both);
}
