//! MONITOR: sessions that are shown every command, as it ends.
//!
//! A line is made once and posted once to each event loop that has monitors. While there are none, a
//! command pays for one load.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use crate::mailbox::{Address, Mail, Mailboxes};

/// See the top of the file.
#[derive(Debug, Default)]
pub struct Monitors {
    n: AtomicUsize,
    /// A leaf lock.
    addresses: RwLock<Vec<Address>>,
}

/// Where a command came from.
#[derive(Clone, Copy, Debug)]
pub enum Source<'a> {
    /// A client at this address.
    Client(&'a str),
    /// The same through the unix socket.
    Unix(&'a str),
    /// A script.
    Script,
}

impl Monitors {
    /// Whether anybody watches.
    #[inline]
    pub fn any(&self) -> bool {
        self.n.load(Ordering::Relaxed) > 0
    }

    /// Adds a session, which is not there yet.
    pub fn add(&self, address: Address) {
        let mut addresses = self.addresses.write();
        addresses.push(address);
        self.n.store(addresses.len(), Ordering::Relaxed);
    }

    /// Removes a session.
    pub fn remove(&self, address: Address) {
        let mut addresses = self.addresses.write();
        addresses.retain(|one| *one != address);
        self.n.store(addresses.len(), Ordering::Relaxed);
    }

    /// Shows a command, its secrets already replaced. `time` is Unix time in microseconds.
    pub fn show(
        &self,
        (time_us, database): (u128, u16),
        source: Source<'_>,
        words: &[&[u8]],
        mailboxes: &Mailboxes,
    ) {
        let from = match source {
            Source::Client(address) => address.to_owned(),
            Source::Unix(path) => format!("unix:{}", path.trim_end_matches(":0")),
            Source::Script => "lua".to_owned(),
        };
        let (seconds, micros) = (time_us / 1_000_000, time_us % 1_000_000);
        let mut line = format!("+{seconds}.{micros:06} [{database} {from}]").into_bytes();
        for word in words {
            line.push(b' ');
            stdx::quoting::write_quoted(&mut line, word);
        }
        line.extend_from_slice(b"\r\n");
        let line: Arc<[u8]> = line.into();
        let addresses = self.addresses.read();
        for group in 0..mailboxes.len() {
            let here = |one: &&Address| usize::from(one.group) == group;
            let to: Vec<Address> = addresses.iter().filter(here).copied().collect();
            if !to.is_empty() {
                let bytes = line.clone();
                mailboxes.post(group, Mail::Line { to, bytes });
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_time_the_place_and_the_quoted_words() {
        let (monitors, mailboxes) = (Monitors::default(), Mailboxes::new(1));
        let address = Address {
            group: 0,
            slot: 0,
            session: 7,
        };
        monitors.add(address);
        let lines = [
            (
                Source::Client("1.2.3.4:5"),
                "+1.000002 [3 1.2.3.4:5] \"SET\" \"a\\\"b\" \"\\x00\"\r\n",
            ),
            (
                Source::Unix("/tmp/s:0"),
                "+1.000002 [3 unix:/tmp/s] \"SET\" \"a\\\"b\" \"\\x00\"\r\n",
            ),
            (Source::Script, "+1.000002 [3 lua] \"SET\" \"a\\\"b\" \"\\x00\"\r\n"),
        ];
        for (source, line) in lines {
            let words: [&[u8]; 3] = [b"SET", b"a\"b", b"\0"];
            monitors.show((1_000_002, 3), source, &words, &mailboxes);
            let Some(Mail::Line { to, bytes }) = mailboxes.take(0).pop() else {
                panic!("a line was posted");
            };
            assert_eq!((&to[..], &bytes[..]), (&[address][..], line.as_bytes()));
        }
        monitors.remove(address);
        assert!(!monitors.any());
    }
}
