//! The server within the process: no sockets, its clock moved by hand.
//!
//! A [`Group`] stands in for an event loop: it has an engine and sessions, opens its letters and
//! expires its keys. Several groups of one [`Server`] may run on threads of their own.

use std::collections::VecDeque;
use std::sync::Arc;

use keyspace::keyspace::ShardId;
use resp::reply::Reply;
use slab::Slab;

use crate::command::Commands;
use crate::command::lookup::find;
use crate::config::Config;
use crate::config::directive::find as find_directive;
use crate::dispatch;
use crate::exec::{Engine, Outcome};
use crate::io::supervisor::Supervisor;
use crate::mailbox::{Address, Mail};
use crate::session::Session;
use crate::session::client::Client;
use crate::session::queue::Queued;
use crate::state::State;

/// A server without threads.
#[derive(Clone, Copy)]
pub struct Server {
    /// Its rooms.
    pub state: &'static State,
    commands: &'static Commands,
}

/// One session of a group.
struct Party {
    session: Session,
    output: Vec<u8>,
    kept: VecDeque<Queued>,
    until_ms: Option<u64>,
}

/// What stands in for an event loop.
pub struct Group {
    /// The engine, whose clock may be moved.
    pub engine: Engine,
    state: &'static State,
    number: usize,
    parties: Slab<Party>,
    due: Vec<ShardId>,
}

impl Server {
    /// A server of `n_groups` groups with these directives. It is never freed.
    ///
    /// # Panics
    /// If a directive is not accepted: tests know theirs.
    pub fn new(n_groups: usize, directives: &[(&str, &str)]) -> Server {
        let config = Config::new();
        let save = find_directive(b"save").expect("there is such a directive");
        config
            .assign(save, &[b""])
            .expect("nothing is saved: there is no saver");
        for (name, value) in directives {
            let slot = find_directive(name.as_bytes()).expect("a test names directives that exist");
            config
                .assign(slot, &[value.as_bytes()])
                .expect("a test sets directives that are accepted");
        }
        let table = crate::commands::table();
        let about = (&table.names[..], &table.catalogue);
        let state = State::leaked(config, about, n_groups, Supervisor::None);
        let commands = dispatch::commands(&[]).expect("nothing is renamed");
        Server {
            state: state.expect("the system gives random numbers"),
            commands: Box::leak(Box::new(commands)),
        }
    }

    /// The group number `number`, whose clock stands still until it is moved; to be made once.
    pub fn group(&self, number: usize) -> Group {
        let mut engine = Engine::new(self.state, self.commands, number, 1 + number as u64);
        engine.set_clock(engine.now_ms());
        Group {
            engine,
            state: self.state,
            number,
            parties: Slab::new(),
            due: Vec::new(),
        }
    }
}

impl Group {
    /// A new session; its place.
    pub fn connect(&mut self) -> usize {
        let entry = self.parties.vacant_entry();
        let place = entry.key();
        let client = Arc::new(Client {
            address: Address {
                group: self.number as u16,
                slot: place as u32,
                session: self.state.clients.next_id(),
            },
            peer: format!("127.0.0.1:{}", 10_000 + place),
            local: "127.0.0.1:6379".to_owned(),
            is_local: true,
            is_unix: false,
            socket: -1,
            since_ms: self.engine.now_ms(),
            name: Default::default(),
            user: self.state.acl.default_user().clone().into(),
            library: Default::default(),
            follows_redirects: false.into(),
            reads_here: false.into(),
            waits_to_read: false.into(),
            is_killed: false.into(),
            waiter: Default::default(),
            facts: Default::default(),
            charged_bytes: Default::default(),
            going_bytes: Default::default(),
        });
        self.state.clients.add(client.clone());
        entry.insert(Party {
            session: Session::new(client, !self.state.acl.needs_login()),
            output: Vec::new(),
            kept: VecDeque::new(),
            until_ms: None,
        });
        place
    }

    /// Ends a session, whatever it is in the middle of.
    pub fn disconnect(&mut self, place: usize) {
        if let Some(mut party) = self.parties.try_remove(place) {
            self.engine.end_session(&mut party.session);
            self.state.clients.remove(party.session.id());
        }
    }

    /// Sends a command; what it answers at once is in the session's output.
    pub fn send(&mut self, place: usize, request: &[&[u8]]) {
        self.engine.begin_tick();
        if let Some(party) = self.parties.get_mut(place) {
            party.kept.push_back(Queued::new(request));
        }
        self.go_on(place);
        self.settle();
    }

    /// Sends a command and takes what the session has got by then.
    pub fn call(&mut self, place: usize, request: &[&[u8]]) -> Vec<u8> {
        self.send(place, request);
        self.take_output(place)
    }

    /// Takes the bytes that a session has got.
    pub fn take_output(&mut self, place: usize) -> Vec<u8> {
        let party = self.parties.get_mut(place);
        party.map_or_else(Vec::new, |party| std::mem::take(&mut party.output))
    }

    /// When the blocked command of a session gives up.
    pub fn until_ms(&self, place: usize) -> Option<u64> {
        self.parties.get(place)?.until_ms
    }

    /// Whether a session waits in a blocking command.
    pub fn is_blocked(&self, place: usize) -> bool {
        let party = self.parties.get(place);
        party.is_some_and(|party| party.session.waiter.is_some() || party.session.is_postponed)
    }

    /// Runs what a session has sent, as far as nothing blocks it.
    fn go_on(&mut self, place: usize) {
        while let Some(party) = self.parties.get_mut(place) {
            let is_held = party.session.waiter.is_some() || party.session.is_postponed;
            if is_held || party.session.is_closing {
                return;
            }
            let Some(queued) = party.kept.pop_front() else {
                return;
            };
            let words = queued.words();
            let row = find(self.engine.commands(), queued.name());
            let (session, output) = (&mut party.session, &mut party.output);
            let mut reply = Reply::new(output, session.proto);
            self.engine.start_clock();
            match dispatch::run(&mut self.engine, session, (row, None), &words, &mut reply, &mut ())
            {
                Outcome::Done => {}
                Outcome::Blocked(until_ms) => party.until_ms = until_ms,
                Outcome::Postponed => {
                    self.state.clients.postpones(&mut party.session);
                    party.kept.push_front(queued);
                    return;
                }
                Outcome::Busy => {
                    party.kept.push_front(queued);
                    std::thread::yield_now();
                }
            }
        }
    }

    /// Opens letters, ends waits whose time is up, and expires keys.
    pub fn settle(&mut self) {
        self.engine.begin_tick();
        self.open_letters();
        let now_ms = self.engine.now_ms();
        let is_up = |party: &Party| party.until_ms.is_some_and(|ms| ms <= now_ms);
        let places = self.parties.iter().filter(|(_, party)| is_up(party));
        for place in places.map(|(place, _)| place).collect::<Vec<_>>() {
            let party = &mut self.parties[place];
            party.until_ms = None;
            if let Some(reply) = self.engine.time_out(&mut party.session) {
                party.output.extend_from_slice(&reply);
                self.go_on(place);
            }
        }
        let is_late = |party: &Party| party.session.is_postponed && !self.engine.is_paused();
        let places = self.parties.iter().filter(|(_, party)| is_late(party));
        for place in places.map(|(place, _)| place).collect::<Vec<_>>() {
            self.state.clients.resumes(&mut self.parties[place].session);
            self.go_on(place);
        }
        while self.state.is_expiring(now_ms) && self.engine.expire(self.number, &mut self.due) {}
        self.open_letters();
    }

    fn open_letters(&mut self) {
        loop {
            let letters = self.state.mailboxes.take(self.number);
            if letters.is_empty() {
                return;
            }
            letters.into_iter().for_each(|mail| self.open(mail));
        }
    }

    fn open(&mut self, mail: Mail) {
        match mail {
            Mail::Socket(_) | Mail::Purge | Mail::Feed => {}
            Mail::Push { to, bytes } => {
                for to in to {
                    let Some(place) = self.find(to) else {
                        continue;
                    };
                    let party = &mut self.parties[place];
                    let at = party.output.len();
                    party.output.extend_from_slice(&bytes);
                    if party.session.proto == resp::reply::Proto::Resp2 {
                        party.output[at] = b'*';
                    }
                }
            }
            Mail::Line { to, bytes } => {
                for to in to {
                    if let Some(place) = self.find(to) {
                        self.parties[place].output.extend_from_slice(&bytes);
                    }
                }
            }
            Mail::Served { to, reply } => {
                if let Some(place) = self.find(to) {
                    let party = &mut self.parties[place];
                    self.engine.end_service(&mut party.session);
                    self.wake(place, &reply);
                }
            }
            Mail::Unblocked { to, error } => {
                if let Some(place) = self.find(to) {
                    let party = &mut self.parties[place];
                    let on_timeout = self.engine.end_wait(&mut party.session, error.is_none());
                    let line = error.map(|error| format!("-{error}\r\n").into_bytes());
                    self.wake(place, &line.unwrap_or(on_timeout));
                }
            }
            Mail::Settle(done) => self.engine.settle(done),
            Mail::Review(to) => {
                if let Some(place) = self.find(to)
                    && self.engine.must_leave(&self.parties[place].session)
                {
                    self.disconnect(place);
                }
            }
            Mail::Notice { to, notice, .. } => {
                if let Some(place) = self.find(to) {
                    let party = &mut self.parties[place];
                    let mut reply = Reply::new(&mut party.output, party.session.proto);
                    party.session.write_notice(&notice, &mut reply);
                }
            }
            Mail::Kill(to) => {
                if let Some(place) = self.find(to) {
                    self.disconnect(place);
                }
            }
        }
    }

    fn wake(&mut self, place: usize, reply: &[u8]) {
        let party = &mut self.parties[place];
        party.until_ms = None;
        party.output.extend_from_slice(reply);
        self.go_on(place);
    }

    fn find(&self, address: Address) -> Option<usize> {
        let place = address.slot as usize;
        let party = self.parties.get(place)?;
        (party.session.id() == address.session).then_some(place)
    }

    /// Lets time pass.
    pub fn advance(&mut self, ms: u64) {
        self.engine.set_clock(self.engine.now_ms() + ms);
        self.settle();
    }
}

/// The requests in bytes of a journal.
///
/// # Panics
/// If they are not whole: a journal is.
pub fn requests(bytes: &[u8]) -> Vec<Vec<Vec<u8>>> {
    use resp::request::{Limits, Parser};
    let limits = Limits {
        max_bulk_bytes: usize::MAX >> 1,
        authenticated: true,
    };
    let mut bytes = bytes.to_vec();
    let (mut parser, mut at, mut requests) = (Parser::default(), 0, Vec::new());
    while at < bytes.len() {
        let mut spans = Vec::new();
        let parsed = parser.next(&mut bytes, &mut at, &mut spans, &limits);
        assert_eq!(parsed, Ok(true), "a journal holds whole requests");
        requests.push(spans.iter().map(|span| span.of(&bytes).to_vec()).collect());
    }
    requests
}
