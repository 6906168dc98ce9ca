//! HOTKEYS: which keys cost most time and most bytes, while somebody wants to know.
//!
//! Each measure has a table of keys with their sums. When it has grown to twice its size the larger
//! half is kept, so a key that is asked for all the time stays, and one that comes now and then may lose
//! what it had. What a command costs is divided among its keys. Only every so many commands is looked
//! at, by chance, if that is wanted; the sums are those of the commands that were looked at.

use hashbrown::HashMap;

/// Keys that survive a clearing.
const KEYS_KEPT: usize = 4096;

/// What is wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wish {
    /// Time of commands.
    pub time: bool,
    /// Bytes of requests and replies.
    pub bytes: bool,
    /// How many keys are told of.
    pub n_keys: usize,
    /// Until when, Unix time; `None`: until it is stopped.
    pub until_ms: Option<u64>,
    /// One command of so many is looked at.
    pub ratio: u64,
}

/// What the process had used, or has used since.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// CPU time in user code.
    pub user_ms: u64,
    /// CPU time in the kernel.
    pub system_ms: u64,
    /// Bytes that came and went.
    pub net_bytes: u64,
}

/// What a command has cost.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Its time.
    pub time_ns: u64,
    /// Bytes of its request and its reply.
    pub bytes: u64,
    /// It came over the network, and not from EXEC or a script.
    pub is_outermost: bool,
}

/// Sums of the keys that have the largest ones.
#[derive(Debug, Default)]
struct Sums(HashMap<Box<[u8]>, u64>);

impl Sums {
    fn add(&mut self, key: &[u8], amount: u64) {
        match self.0.get_mut(key) {
            Some(sum) => *sum += amount,
            None => {
                self.0.insert(key.into(), amount);
            }
        }
        if self.0.len() > 2 * KEYS_KEPT {
            let mut sums: Vec<u64> = self.0.values().copied().collect();
            let (_, least, _) = sums.select_nth_unstable_by(KEYS_KEPT, |a, b| b.cmp(a));
            let least = *least;
            self.0.retain(|_, sum| *sum > least);
        }
    }

    /// The largest `n`, the largest first.
    fn largest(&self, n: usize) -> Vec<(&[u8], u64)> {
        let mut all: Vec<(&[u8], u64)> = self.0.iter().map(|(key, sum)| (&**key, *sum)).collect();
        all.sort_unstable_by(|(a, one), (b, other)| other.cmp(one).then(a.cmp(b)));
        all.truncate(n);
        all
    }
}

/// What was gathered, and is perhaps still being.
#[derive(Debug)]
pub struct Session {
    /// What was wanted.
    pub wish: Wish,
    /// When it began, Unix time.
    pub began_ms: u64,
    began: Usage,
    ended: Option<(u64, Usage)>,
    time_ns: Sums,
    bytes: Sums,
    /// Time of all commands.
    pub all_time_ns: u64,
    /// Bytes of all commands.
    pub all_bytes: u64,
}

impl Session {
    /// The keys that cost most time, in microseconds.
    pub fn by_time_us(&self) -> Vec<(&[u8], u64)> {
        let largest = self.time_ns.largest(self.wish.n_keys).into_iter();
        largest.map(|(key, ns)| (key, ns / 1000)).collect()
    }

    /// The keys that cost most bytes.
    pub fn by_bytes(&self) -> Vec<(&[u8], u64)> {
        self.bytes.largest(self.wish.n_keys)
    }

    /// For how long it has gathered, and what the process has used in that time.
    pub fn duration_ms_and_usage(&self, now_ms: u64, now: Usage) -> (u64, Usage) {
        let (end_ms, end) = self.ended.unwrap_or((now_ms, now));
        let usage = Usage {
            user_ms: end.user_ms.saturating_sub(self.began.user_ms),
            system_ms: end.system_ms.saturating_sub(self.began.system_ms),
            net_bytes: end.net_bytes.saturating_sub(self.began.net_bytes),
        };
        (end_ms.saturating_sub(self.began_ms), usage)
    }

    fn is_active(&self) -> bool {
        self.ended.is_none()
    }
}

/// See the top of the file.
#[derive(Debug, Default)]
pub struct HotKeys(Option<Session>);

impl HotKeys {
    /// Ends what has gone on for as long as was wanted; whether it did so now.
    pub fn end_if_due(&mut self, now_ms: u64, usage: impl FnOnce() -> Usage) -> bool {
        if let Some(session) = &mut self.0
            && session.is_active()
            && let Some(until_ms) = session.wish.until_ms.filter(|until_ms| *until_ms <= now_ms)
        {
            session.ended = Some((until_ms, usage()));
            return true;
        }
        false
    }

    /// Whether something is being gathered.
    pub fn is_active(&self) -> bool {
        self.0.as_ref().is_some_and(Session::is_active)
    }

    /// Begins anew.
    pub fn start(&mut self, wish: Wish, now_ms: u64, usage: Usage) {
        self.0 = Some(Session {
            wish,
            began_ms: now_ms,
            began: usage,
            ended: None,
            time_ns: Sums::default(),
            bytes: Sums::default(),
            all_time_ns: 0,
            all_bytes: 0,
        });
    }

    /// Ends it; whether it went on.
    pub fn stop(&mut self, now_ms: u64, usage: Usage) -> bool {
        let session = self.0.as_mut().filter(|session| session.is_active());
        session.is_some_and(|session| {
            session.ended = Some((now_ms, usage));
            true
        })
    }

    /// Forgets it.
    pub fn reset(&mut self) {
        self.0 = None;
    }

    /// What there is.
    pub fn session(&self) -> Option<&Session> {
        self.0.as_ref()
    }

    /// Adds what a command has cost to its keys, if chance (`random`) has it looked at.
    pub fn add<'k>(
        &mut self,
        keys: impl ExactSizeIterator<Item = &'k [u8]>,
        cost: Cost,
        random: u64,
    ) {
        let Some(session) = self.0.as_mut().filter(|session| session.is_active()) else {
            return;
        };
        if cost.is_outermost {
            session.all_time_ns += cost.time_ns; // which has that of those within
            session.all_bytes += cost.bytes;
        }
        let n_keys = keys.len() as u64;
        if n_keys == 0 || !random.is_multiple_of(session.wish.ratio) {
            return;
        }
        for key in keys {
            if session.wish.time {
                session.time_ns.add(key, cost.time_ns / n_keys);
            }
            if session.wish.bytes {
                session.bytes.add(key, cost.bytes / n_keys);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WISH: Wish = Wish {
        time: true,
        bytes: true,
        n_keys: 3,
        until_ms: Some(9_000),
        ratio: 1,
    };

    fn cost(bytes: u64) -> Cost {
        Cost {
            time_ns: 1000 * bytes,
            bytes,
            is_outermost: true,
        }
    }

    #[test]
    fn a_key_that_costs_much_is_found_among_many_that_come_once() {
        let mut hot = HotKeys::default();
        hot.start(WISH, 1_000, Usage::default());
        for n in 0..40_000_u64 {
            let name = n.to_string();
            hot.add([name.as_bytes()].into_iter(), cost(5), n);
            if n % 10 == 0 {
                hot.add([&b"hot"[..], b"warm"].into_iter(), cost(8), n);
                hot.add([&b"hot"[..]].into_iter(), cost(7), n);
            }
        }
        let session = hot.session().unwrap();
        let names: Vec<_> = session.by_bytes().into_iter().map(|(key, _)| key).collect();
        assert_eq!(names[..2], [&b"hot"[..], b"warm"]);
        assert_eq!(session.by_time_us()[0], (&b"hot"[..], 44_000));
        assert_eq!(session.all_bytes, 40_000 * 5 + 4_000 * 15);
    }

    #[test]
    fn it_ends_when_its_time_is_up() {
        let mut hot = HotKeys::default();
        hot.start(WISH, 1_000, Usage::default());
        hot.end_if_due(8_999, Usage::default);
        assert!(hot.is_active());
        hot.end_if_due(9_500, || Usage {
            user_ms: 7,
            ..Usage::default()
        });
        assert!(!hot.is_active());
        hot.add([&b"k"[..]].into_iter(), cost(1), 0);
        let session = hot.session().unwrap();
        let (duration_ms, usage) = session.duration_ms_and_usage(20_000, Usage::default());
        assert_eq!((duration_ms, usage.user_ms, session.all_bytes), (8_000, 7, 0));
        assert!(!hot.stop(20_000, Usage::default()));
    }
}
