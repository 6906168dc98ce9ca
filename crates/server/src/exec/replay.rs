//! The data set from the append-only file: its base, then its commands once more.
//!
//! Commands run under one transaction, without the gate: they were let through when they were written.
//! Nothing is due meanwhile, whatever the clock says: a key that has run out since was there when the
//! commands behind ran, and goes with its own deletion in the file, or when the server serves.
//! What is between MULTI and EXEC is run at EXEC, so that half a transaction at the end is none.

use std::fs::{File, OpenOptions};
use std::io::{Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use keyspace::locked::Locked;
use resp::reply::{Proto, Reply};

use super::Engine;
use crate::aof::records::{Flaw, Record, Records};
use crate::aof::scan::is_snapshot;
use crate::command::lookup::resolve;
use crate::command::{Kind, context::Order};
use crate::persistence::append;
use crate::persistence::found::Found;
use crate::persistence::load;
use crate::session::Session;
use crate::session::client::Client;

/// Commands between two looks at how far it is.
const COMMANDS_PER_LOOK: u64 = 256;

/// How a file ended.
enum End {
    Whole,
    /// Within a command or a transaction, behind the last thing that is whole.
    At(u64),
    /// In something that is no command, but so little of it that it may be left out.
    Corrupt(u64),
}

impl Engine {
    /// Loads files into the data set, which is empty. The error is for the operator.
    pub(super) fn replay_all(
        &mut self,
        locked: &Locked<'static>,
        found: &Found,
    ) -> Result<(), String> {
        let started = std::time::Instant::now();
        let mut session = self.reader_of_files();
        let was_recorded = std::mem::take(&mut self.effects.is_recorded);
        let present_ms = std::mem::replace(&mut self.now_ms, 0);
        self.directives.present_ms = Some(present_ms);
        let mut result = Ok(());
        let mut n_before = 0;
        for (at, part) in found.parts.iter().enumerate() {
            // One that a rewrite has named and nothing was written to does not count.
            let mut later = found.parts[at + 1..].iter();
            let is_last = later.all(|(path, _)| append::n_file_bytes(path) == 0);
            result = self.replay_part(locked, &mut session, part, (n_before, is_last));
            if result.is_err() {
                break;
            }
            n_before += part.0.metadata().map_or(0, |facts| facts.len());
        }
        self.directives.present_ms = None;
        self.now_ms = present_ms;
        self.effects = Default::default();
        self.unit.clear();
        self.read_at = 0; // what directives say is in the effects, too
        self.read_directives();
        self.effects.is_recorded = was_recorded;
        result?;
        let seconds = started.elapsed().as_secs_f64();
        log::info!("DB loaded from append only file: {seconds:.3} seconds");
        Ok(())
    }

    /// Who sends the commands of files.
    pub(super) fn reader_of_files(&self) -> Session {
        let client = self.client_of_primary(String::new(), String::new(), -1);
        Session::new(client, true)
    }

    /// What others see of a session that no event loop has.
    pub fn client_of_primary(&self, peer: String, local: String, socket: i32) -> Arc<Client> {
        Arc::new(Client {
            address: crate::mailbox::Address {
                group: 0,
                slot: u32::MAX,
                session: self.state.clients.next_id(),
            },
            socket,
            peer,
            local,
            is_local: true,
            is_unix: false,
            since_ms: super::unix_ms(),
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
        })
    }

    fn replay_part(
        &mut self,
        locked: &Locked<'static>,
        session: &mut Session,
        (path, name): &(std::path::PathBuf, String),
        (n_before, is_last): (u64, bool),
    ) -> Result<(), String> {
        let told = |error: std::io::Error| {
            format!(
                "Fatal error: can't read the append only file {name}: {}",
                crate::error::reason(&error)
            )
        };
        log::info!("Loading the append only file {name}");
        let mut file = File::open(path).map_err(told)?;
        let start = match is_snapshot(&file).map_err(told)? {
            false => 0,
            true => self.load_preamble(locked, &file, name)?,
        };
        file.seek(SeekFrom::Start(start)).map_err(told)?;
        session.database = 0;
        let tail_bytes_max = match is_last {
            true => self.state.config.corrupt_tail_bytes_max(),
            false => 0,
        };
        let n_bytes = file.metadata().map_err(told)?.len();
        let may_be_wrong = n_bytes.saturating_sub(tail_bytes_max);
        let records = Records::new(file, start);
        match self.replay(locked, session, records, (name, n_before, may_be_wrong))? {
            End::Whole => Ok(()),
            End::Corrupt(offset) => {
                let n_wrong = n_bytes.saturating_sub(offset);
                log::warn!(
                    "!!! Warning: {n_wrong} bytes at the end of the AOF file {name} are corrupt!!!"
                );
                truncate(path, name, offset)?;
                log::warn!(
                    "AOF {name} loaded anyway because aof-load-corrupt-tail-max-size is not less"
                );
                Ok(())
            }
            End::At(_) if !is_last => {
                Err(format!("Fatal error: the truncated file is not the last file: {name}"))
            }
            End::At(_) if !self.state.config.loads_truncated() => Err(format!(
                "Unexpected end of file reading the append only file {name}. You can: 1) Make a \
                 backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>. 2) \
                 Alternatively you can set the 'aof-load-truncated' configuration option to yes and \
                 restart the server."
            )),
            End::At(offset) => {
                log::warn!("!!! Warning: short read while loading the AOF file {name}!!!");
                truncate(path, name, offset)?;
                log::warn!("AOF {name} loaded anyway because aof-load-truncated is enabled");
                Ok(())
            }
        }
    }

    /// Loads the snapshot that a file begins with; where it ends.
    fn load_preamble(
        &mut self,
        locked: &Locked<'static>,
        mut file: &File,
        name: &str,
    ) -> Result<u64, String> {
        log::info!("Reading RDB base file on AOF loading...");
        let wrong = |error: load::LoadError| {
            format!(
                "Bad file format reading the append only file {name}: error reading the RDB \
                 preamble: {error}"
            )
        };
        file.seek(SeekFrom::Start(0))
            .map_err(|error| error.to_string())?;
        let parts = load::parts(self.state, file).map_err(wrong)?;
        let rules = (false, true);
        self.load(locked, parts, rules).map_err(wrong)
    }

    fn replay(
        &mut self,
        locked: &Locked<'static>,
        session: &mut Session,
        mut records: Records<File>,
        (name, n_before, may_be_wrong): (&str, u64, u64),
    ) -> Result<End, String> {
        let mut block: Option<Vec<Vec<Vec<u8>>>> = None;
        let mut whole = records.offset();
        for n_commands in 1_u64.. {
            let command = match records.read() {
                Ok(Record::Command(words)) => words,
                Ok(Record::Note(_)) => continue,
                Ok(Record::End) if block.is_none() => return Ok(End::Whole),
                Ok(Record::End) => {
                    log::warn!("Revert incomplete MULTI/EXEC transaction from AOF file {name}");
                    return Ok(End::At(whole));
                }
                Err(Flaw::Truncated) => return Ok(End::At(whole)),
                Err(Flaw::Format(_) | Flaw::Sum(_)) if whole >= may_be_wrong => {
                    return Ok(End::Corrupt(whole));
                }
                Err(flaw) => return Err(describe(&flaw, records.offset(), name)),
            };
            if n_commands.is_multiple_of(COMMANDS_PER_LOOK) {
                let n_read = n_before + records.offset();
                self.state.saving.loading.n_read.store(n_read, Relaxed);
                self.wait_for_loading_delay();
            }
            let is = |word: &str| command[0].eq_ignore_ascii_case(word.as_bytes());
            match &mut block {
                None if is("multi") => block = Some(Vec::new()),
                Some(_) if is("exec") => {
                    for command in block.take().unwrap_or_default() {
                        self.once_more(locked, session, &command, (name, &records))?;
                    }
                    whole = records.offset();
                }
                Some(commands) => commands.push(command),
                None => {
                    self.once_more(locked, session, &command, (name, &records))?;
                    whole = records.offset();
                }
            }
        }
        Ok(End::Whole)
    }

    fn wait_for_loading_delay(&self) {
        let delay_us = self.state.config.key_load_delay_us();
        if delay_us > 0 {
            let time = std::time::Duration::from_micros(delay_us);
            std::thread::sleep(time * COMMANDS_PER_LOOK as u32);
        }
    }

    /// Runs a command of a file. What it answers is nobody's business: an error then was one before.
    fn once_more(
        &mut self,
        locked: &Locked<'static>,
        session: &mut Session,
        command: &[Vec<u8>],
        (name, records): (&str, &Records<File>),
    ) -> Result<(), String> {
        let words: Vec<&[u8]> = command.iter().map(Vec::as_slice).collect();
        let admitted = resolve(self.commands, &words).map_err(|error| {
            let offset = records.offset();
            let error = error.to_string();
            let error = error.strip_prefix("ERR ").unwrap_or(&error).to_owned();
            format!("Error reading the append only file {name}: {error} before byte {offset}")
        })?;
        let mut answer = Vec::new();
        let mut reply = Reply::new(&mut answer, Proto::Resp2);
        if matches!(admitted.0.kind, Kind::Admin(_) | Kind::Container(_)) {
            let (_, order) = self.run_admin(session, admitted, &words, &mut reply);
            if let Some(order @ (Order::Script { .. } | Order::Call { .. } | Order::Libraries(_))) =
                order
            {
                self.obey_nested(locked, (order, admitted), session, &words, &mut reply, &mut ());
            }
        } else {
            self.known.clear();
            self.effects.can_wait = false;
            self.on_keys_apart(locked, session, admitted, &words, &mut reply);
        }
        // Nobody waits, watches or listens yet.
        self.effects.wait = None;
        self.effects.ready.clear();
        self.effects.events.clear();
        self.effects.propagated.clear();
        self.effects.n_changes = 0;
        self.unit.clear();
        Ok(())
    }
}

fn truncate(path: &std::path::Path, name: &str, offset: u64) -> Result<(), String> {
    log::warn!("Truncating the AOF {name} at offset {offset}");
    let cut = OpenOptions::new().write(true).open(path);
    let cut = cut.and_then(|file| file.set_len(offset).and_then(|()| file.sync_all()));
    cut.map_err(|error| format!("Error truncating the AOF file {name}: {error}"))
}

fn describe(flaw: &Flaw, offset: u64, name: &str) -> String {
    match flaw {
        Flaw::Io(error) => format!(
            "Unrecoverable error reading the append only file {name}: {}",
            crate::error::reason(error)
        ),
        Flaw::Format(what) => format!(
            "Bad file format reading the append only file {name}: {what}, before byte {offset}. Make \
             a backup of your AOF file, then use ./redis-check-aof --fix <filename.manifest>"
        ),
        Flaw::Sum(at) => format!(
            "Bad file format reading the append only file {name}: the record at byte {at} is not what \
             was written: its checksum is wrong. Nothing behind it was loaded"
        ),
        Flaw::Truncated => format!("Unexpected end of file reading the append only file {name}"),
    }
}
