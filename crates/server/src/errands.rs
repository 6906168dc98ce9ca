//! Errands: work that may take long and needs no lock, done in threads of their own while the command
//! that asked for it waits. MIGRATE talks to its target so.
//!
//! Threads are made when there is work and nobody free, up to a number; more work waits its turn. A
//! thread that has had nothing to do for a while looks after what others left behind (`idle`), and
//! ends when there is nothing.

use std::collections::VecDeque;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// Work for one of the threads.
pub type Work = Box<dyn FnOnce() + Send>;

/// Threads at most.
const THREADS_MAX: usize = 8;
/// How often a thread without work looks after what was left behind.
const IDLE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct Queue {
    works: VecDeque<Work>,
    n_threads: usize,
    n_free: usize,
}

/// See the top of the file.
#[derive(Default)]
pub struct Errands {
    queue: Mutex<Queue>,
    more: Condvar,
}

impl Errands {
    /// Has `work` done soon. `idle` is asked now and then, by a thread that has nothing to do, whether
    /// there is anything left to look after.
    pub fn send(
        &'static self,
        work: Work,
        idle: impl Fn() -> bool + Send + 'static,
    ) -> std::io::Result<()> {
        let mut queue = self.queue.lock();
        if queue.n_free == 0 && queue.n_threads < THREADS_MAX {
            let thread = std::thread::Builder::new().name("errands".to_owned());
            match thread.spawn(move || self.run(&idle)) {
                Ok(_) => queue.n_threads += 1,
                Err(error) if queue.n_threads == 0 => return Err(error),
                Err(_) => {} // one of the others will come to it
            }
        }
        queue.works.push_back(work);
        drop(queue);
        self.more.notify_one();
        Ok(())
    }

    fn run(&self, idle: &dyn Fn() -> bool) {
        let mut queue = self.queue.lock();
        loop {
            while let Some(work) = queue.works.pop_front() {
                drop(queue);
                work();
                queue = self.queue.lock();
            }
            queue.n_free += 1;
            let is_late = self.more.wait_for(&mut queue, IDLE).timed_out();
            queue.n_free -= 1;
            if !is_late || !queue.works.is_empty() {
                continue;
            }
            drop(queue);
            let is_needed = idle();
            queue = self.queue.lock();
            if !is_needed && queue.works.is_empty() {
                queue.n_threads -= 1;
                return;
            }
        }
    }
}
