//! What goes on beside a script that runs for too long, and what sessions leave behind where somebody
//! holds the locks: nobody waits for them.

use std::sync::Arc;

use keyspace::keyspace::ShardId;
use keyspace::registry::Waiter;
use resp::reply::Reply;

use datatypes::encoding::table::hash;

use super::{Engine, Nesting, Outcome};
use crate::session::Watching;

/// The rest of an event loop, as a command may call it while it runs.
pub trait Meanwhile {
    /// Serves what is there, without waiting. The gate lets hardly anything through.
    fn serve(&mut self, engine: &mut Engine);
}

/// Where there is nothing else to serve.
impl Meanwhile for () {
    fn serve(&mut self, _: &mut Engine) {}
}

/// What a session has left in the registries of shards.
pub(super) enum Remains {
    Watching(Box<Watching>),
    Waiter(Arc<Waiter>),
}

impl Engine {
    /// Lets others be served in the middle of a script, whose own effects are kept out of it.
    #[cold]
    pub(super) fn serve_others(&mut self, meanwhile: &mut dyn Meanwhile) {
        let effects = std::mem::take(&mut self.effects);
        self.effects.wanted = effects.wanted;
        let unit = std::mem::take(&mut self.unit);
        let nesting = std::mem::replace(&mut self.nesting, Nesting::Outermost);
        let clock = self.clock;
        meanwhile.serve(self);
        (self.effects, self.unit, self.nesting, self.clock) = (effects, unit, nesting, clock);
    }

    /// A command found its locks busy: it tries again, unless a script has held them for too long.
    #[cold]
    pub(super) fn stay_busy(&self, reply: &mut Reply<'_>) -> Outcome {
        let running = &self.state.scripts.running;
        if !running.is_busy() {
            return Outcome::Busy;
        }
        let line = running.busy().to_string();
        reply.error(line.as_bytes());
        self.count_error(line.as_bytes());
        Outcome::Done
    }

    /// Takes something out of the registries, now or as soon as the locks are to be had.
    pub(super) fn bury(&mut self, remains: Remains) {
        let shards: Vec<ShardId> = match &remains {
            Remains::Waiter(waiter) => self.shards_of(waiter),
            Remains::Watching(watching) => {
                let shard_of = |(db, key): &(u16, Box<[u8]>)| {
                    let keyspace = &self.state.keyspace;
                    keyspace.shard_of(*db, hash(key))
                };
                watching.keys.iter().map(shard_of).collect()
            }
        };
        let Some(locked) = self.lock_these(&shards) else {
            return self.remains.push(remains);
        };
        match remains {
            Remains::Waiter(waiter) => self.forget(&locked, &waiter),
            Remains::Watching(watching) => self.forget_watching(&locked, *watching),
        }
        drop(locked);
        self.state.mailboxes.released();
    }

    /// Whether something waits to be taken out of the registries.
    pub fn has_remains(&self) -> bool {
        !self.remains.is_empty()
    }

    #[inline]
    pub(super) fn bury_remains(&mut self) {
        if !self.remains.is_empty() {
            let remains = std::mem::take(&mut self.remains);
            remains.into_iter().for_each(|one| self.bury(one));
        }
    }
}
