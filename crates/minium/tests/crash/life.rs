//! One life of a server: started on a disk, under load, with trouble, killed; then what is left of
//! its disk at any moment of it.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::{Duration, Instant};

use client::connection::Connection;
use resp::decode::Value;

use super::disk::{Chance, Disk, Entry, Loss, Tree, tree_of, write_tree};
use super::load::{self, History, Promise, Reached, compare, now_ns};
use super::server::{PATIENCE, Place, Server, open};

/// What happens besides writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Nothing.
    None,
    /// BGREWRITEAOF, again and again.
    Rewrites,
    /// The append-only file goes off and on.
    Switches,
    /// SAVE and BGSAVE in turn.
    Saves,
}

/// What a test runs.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    pub name: &'static str,
    pub flags: &'static [&'static str],
    pub promise: Promise,
    pub trouble: Trouble,
    /// How long a life lasts; if not, as many steps as chance says.
    pub lasts: Option<Duration>,
    /// Moments of each life at which the power fails.
    pub n_failures: usize,
}

/// See the top of the file.
pub struct Life {
    before: Tree,
    pub record: Vec<Entry>,
    pub history: Arc<History>,
    pub killed_ns: u64,
    /// How it ended, if it did by itself.
    pub exit_code: Option<i32>,
}

impl Life {
    /// Runs a server until so many steps were acknowledged, and kills it.
    pub fn lead(place: &Place, plan: &Plan, found: Reached, n_steps: u64, seed: u64) -> Life {
        Life::with(place, plan, found, seed, |_, history| {
            let started = Instant::now();
            wait_for("the load goes on", || match plan.lasts {
                Some(lasts) => started.elapsed() >= lasts,
                None => history.n_acknowledged() >= n_steps,
            });
        })
    }

    /// Runs a server under load until the script is over, and kills it.
    pub fn with(
        place: &Place,
        plan: &Plan,
        found: Reached,
        seed: u64,
        script: impl FnOnce(&mut Connection, &History),
    ) -> Life {
        place.forget();
        let before = tree_of(&place.disk());
        let mut server = Server::watched(place, plan.flags);
        let mut client = server.ready().expect("it starts");
        assert_eq!(load::find(&mut client).expect("all is whole"), found, "it was there before");
        let history = History::new(found, plan.promise);
        let is_over = AtomicBool::new(false);
        let (is_over, told) = (&is_over, &*history);
        let path = server.socket.clone();
        let socket = || path.clone();
        let (killed_ns, exit_code) = std::thread::scope(|scope| {
            for writer in 0..load::WRITERS {
                let socket = socket();
                scope.spawn(move || load::write(socket, writer, told, is_over, seed));
            }
            let (socket, trouble) = (socket(), plan.trouble);
            scope.spawn(move || trouble.make(socket, told, is_over, seed));
            let mut server = server; // dropped if the script panics, so that the others end
            script(&mut client, told);
            let killed_ns = now_ns();
            let exit_code = server.kill();
            is_over.store(true, SeqCst);
            (killed_ns, exit_code)
        });
        Life {
            before,
            record: place.record(),
            history,
            killed_ns,
            exit_code,
        }
    }

    /// A moment between two calls.
    pub fn any_moment(&self, chance: &mut Chance) -> usize {
        chance.below(self.record.len() as u64 + 1) as usize
    }

    /// What the disk holds when the first `at` calls were over; a sync counts if `counts` says so.
    pub fn after(&self, at: usize, loss: Loss, counts: &dyn Fn(usize) -> bool) -> Tree {
        let mut disk = Disk::of(&self.before);
        for (index, entry) in self.record[..at].iter().enumerate() {
            disk.take(entry, counts(index));
        }
        disk.after(loss)
    }

    /// Starts a server on that, and compares what it has with what clients were told; what was
    /// found, or what is wrong.
    pub fn check(
        &self,
        place: &Place,
        plan: &Plan,
        at: usize,
        loss: Loss,
        counts: &dyn Fn(usize) -> bool,
    ) -> Result<Reached, String> {
        let folder = place.folder.join("after");
        write_tree(&self.after(at, loss, counts), &folder);
        let mut server = Server::plain(place, &folder, plan.flags);
        let mut client = server.ready()?;
        let found = load::find(&mut client)?;
        compare(&found, &self.required(at, loss), &self.history.sent())?;
        Ok(found)
    }

    /// What must be there after this many calls. Before the next one was over nobody can have been
    /// told of what it did.
    fn required(&self, at: usize, loss: Loss) -> Reached {
        match self.record.get(at) {
            Some(next) => self.history.required(next.at_ns - 1, loss),
            // Words of the dead are read later, but were sent before.
            None if loss == Loss::Nothing || self.is_immediate() => {
                self.history.required(u64::MAX - 1, loss)
            }
            None => self.history.required(self.killed_ns, loss),
        }
    }

    fn is_immediate(&self) -> bool {
        !matches!(self.history.last_promise(), Promise::Within(1..))
    }
}

/// Waits until it is so.
pub fn wait_for(what: &str, mut is_so: impl FnMut() -> bool) {
    let started = Instant::now();
    while !is_so() {
        assert!(started.elapsed() < PATIENCE, "{what}");
        std::thread::sleep(Duration::from_micros(200));
    }
}

/// A number of INFO.
pub fn info(field: &str, client: &mut Connection) -> Option<u64> {
    let Ok(Value::Bulk(text)) = client.call(&["INFO", "persistence"]) else {
        return None;
    };
    let text = String::from_utf8(text).ok()?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))?;
    line.trim().parse().ok()
}

pub fn is_ok(client: &mut Connection, words: &[&str]) -> Option<bool> {
    let answer = client.call(words).ok()?;
    Some(!matches!(answer, Value::Error(_)))
}

/// Waits until nothing is written in the background; `None` if the server is gone.
pub fn wait_until_idle(client: &mut Connection) -> Option<()> {
    let fields = [
        "aof_rewrite_in_progress",
        "aof_rewrite_scheduled",
        "rdb_bgsave_in_progress",
    ];
    loop {
        let mut is_idle = true;
        for field in fields {
            is_idle &= info(field, client)? == 0;
        }
        if is_idle {
            return Some(());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
}

impl Trouble {
    /// Makes it until the server is gone.
    fn make(self, socket: PathBuf, history: &History, is_over: &AtomicBool, seed: u64) {
        let Ok(mut client) = open(&socket) else {
            return;
        };
        let mut chance = Chance(seed ^ 0x1234);
        while !is_over.load(SeqCst) {
            std::thread::sleep(Duration::from_micros(chance.below(20_000)));
            let is_going_on = match self {
                Trouble::None => return,
                Trouble::Rewrites => rewrite(&mut client),
                Trouble::Switches => switch(&mut client, history, &mut chance),
                Trouble::Saves => save(&mut client, history, &mut chance),
            };
            if is_going_on.is_none() {
                return;
            }
        }
    }
}

fn rewrite(client: &mut Connection) -> Option<()> {
    is_ok(client, &["BGREWRITEAOF"])?;
    wait_until_idle(client)
}

fn switch(client: &mut Connection, history: &History, chance: &mut Chance) -> Option<()> {
    let before = history.acknowledged(now_ns());
    history.promise(Promise::None);
    is_ok(client, &["CONFIG", "SET", "appendonly", "no"])?.then_some(())?;
    history.mark(before);
    std::thread::sleep(Duration::from_micros(chance.below(5_000)));
    is_ok(client, &["CONFIG", "SET", "appendonly", "yes"])?.then_some(())?;
    wait_until_idle(client)?;
    history.promise(Promise::Within(0));
    Some(())
}

fn save(client: &mut Connection, history: &History, chance: &mut Chance) -> Option<()> {
    let before = history.acknowledged(now_ns());
    match chance.below(2) {
        0 => is_ok(client, &["SAVE"])?.then_some(())?,
        _ => {
            is_ok(client, &["BGSAVE"])?.then_some(())?;
            wait_until_idle(client)?;
        }
    }
    history.mark(before);
    Some(())
}
