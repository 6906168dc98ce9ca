//! The snapshot that replicas begin with: the walk of a save, sent as it is made to replicas that can
//! tell its end, else by way of a file without a name.
//!
//! ```text
//!   cut, all shards held: +FULLRESYNC replid offset      the stream is kept from here on
//!   walk ──► $EOF:mark  pieces ...  mark                 nothing touches the disk
//!        ──► file, then $length and the file             repl-diskless-sync no, or an old replica
//! ```

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use rdb::crc::Checksum;
use rdb::file;
use rdb::write::Writer;

use super::save::{self, Form, Job};
use crate::error::reason;
use crate::io::process::{stop_process, unix_time};
use crate::pause::{Cause, Paused};
use crate::role::replica::Replica;
use crate::state::{State, random_id};

/// Bytes that are handed on at a time.
const CHUNK_BYTES: usize = 256 << 10;
/// How long a walk that somebody else has under way is waited for at a time.
const BUSY: Duration = Duration::from_millis(20);
/// Names that are tried for a file.
const N_NAMES: u32 = 100;
/// For how long less than that is held back: who gets it waits no longer than `repl-timeout` for more.
const HELD_MAX: Duration = Duration::from_secs(1);
/// DEBUG PAUSE-AFTER-FORK: for how long the process goes on at most.
const STOPPED_MAX: Duration = Duration::from_secs(60);

/// Where the snapshot goes.
enum Place {
    Replicas,
    Disk(File),
}

struct Out<'a> {
    state: &'static State,
    replicas: &'a mut Vec<Arc<Replica>>,
    place: Place,
    checksum: Option<Checksum>,
    n_bytes: u64,
}

impl Out<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        if let Some(checksum) = &mut self.checksum {
            checksum.update(bytes);
        }
        self.put(bytes)
    }

    fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.n_bytes += bytes.len() as u64;
        match &mut self.place {
            Place::Disk(file) => file.write_all(bytes),
            Place::Replicas => {
                self.offer(bytes);
                match self.replicas.is_empty() {
                    true => Err(io::Error::other("no replica is left")),
                    false => Ok(()),
                }
            }
        }
    }

    fn offer(&mut self, bytes: &[u8]) {
        let (bytes, patience) = (Arc::from(bytes), self.state.config.replication_timeout());
        self.replicas
            .retain(|replica| replica.offer(&bytes, patience));
        self.state.announce_stream();
        self.state.mailboxes.wake();
    }
}

/// Makes a snapshot for these replicas, which wait for one. On a thread of its own.
pub fn serve(state: &'static State, mut replicas: Vec<Arc<Replica>>) {
    let started = Instant::now();
    let stands_still = state.role.stops_at_sync.load(Relaxed);
    if stands_still {
        let (cause, now_ms) = (Cause::Standstill, unix_time().as_millis() as u64);
        state
            .pause
            .begin(cause, Paused::All, i64::MAX as u64, now_ms);
    }
    let is_direct = state.config.syncs_without_disk()
        && replicas
            .iter()
            .all(|replica| replica.facts.lock().takes_eof);
    let target = if is_direct {
        "replicas sockets"
    } else {
        "disk"
    };
    log::info!("Starting BGSAVE for SYNC with target: {target}");
    let all = replicas.clone();
    match make(state, &mut replicas, is_direct) {
        Ok(n_bytes) => log::info!(
            "Synchronization with {} replica(s) succeeded: {n_bytes} bytes in {:.3} seconds",
            replicas.len(),
            started.elapsed().as_secs_f64()
        ),
        Err(reason) => {
            log::warn!("Snapshot for replicas failed: {reason}");
            all.iter().for_each(|replica| replica.give_up());
        }
    }
    state.announce_stream();
    state.mailboxes.wake();
    if stands_still {
        stand_still(state, &all, started);
    }
}

/// DEBUG PAUSE-AFTER-FORK: stops the process once the snapshot, which a child would go on with, is out.
fn stand_still(state: &State, replicas: &[Arc<Replica>], started: Instant) {
    let is_late = || started.elapsed() > STOPPED_MAX;
    while !replicas.iter().all(|replica| replica.has_its_snapshot()) && !is_late() {
        std::thread::sleep(BUSY);
    }
    stop_process();
    state.pause.end(Cause::Standstill);
    state.mailboxes.wake_all();
}

fn make(
    state: &'static State,
    replicas: &mut Vec<Arc<Replica>>,
    is_direct: bool,
) -> Result<u64, String> {
    let told = |error: io::Error| reason(&error);
    let place = match is_direct {
        true => Place::Replicas,
        false => Place::Disk(nameless_file().map_err(told)?),
    };
    let mark = random_id()?;
    let fresh = random_id()?;
    let receivers = replicas.clone();
    if receivers
        .iter()
        .any(|replica| replica.facts.lock().wants_functions_only)
    {
        return functions_alone(state, replicas, (place, &mark, &fresh));
    }
    let must_stop = || receivers.iter().all(|replica| replica.is_lost());
    let mut begin = |_: u64| begin_all(state, &receivers, is_direct.then_some(&mark), &fresh);
    let mut job = Job {
        names: ("", ""), // it has none
        syncs_often: false,
        form: form_for(&receivers),
        must_stop: &must_stop,
        at_cut: &mut begin,
    };
    let mut cut = loop {
        if let Some(_between) = state.role.applying.try_lock_for(BUSY) {
            match save::cut(state, &mut job) {
                Err(reason) if reason == save::WALKING => {}
                other => break other?,
            }
        }
        if must_stop() {
            return Err("no replica is left".to_owned());
        }
        std::thread::sleep(BUSY);
    };
    state.announce_stream(); // what they are told before anything is made of the snapshot
    state.mailboxes.wake();
    let takes_checksum = state.config.takes_checksum();
    let mut out = Out {
        state,
        replicas,
        place,
        checksum: takes_checksum.then(Checksum::default),
        n_bytes: 0,
    };
    let mut written = out.write(&cut.head.out).map_err(told);
    if written.is_err() {
        cut.walk.abort();
    }
    state.saving.n_saved.store(0, Relaxed);
    let mut passed_at = Instant::now();
    let mut progress = save::Progress::default();
    while cut.walk.step() {
        progress.note(state, &*cut.gather, &must_stop);
        if written.is_err() {
            continue; // the rest is only marked
        }
        let is_due = passed_at.elapsed() >= HELD_MAX;
        written = match cut.gather.is_over() {
            _ if must_stop() => Err("no replica is left".to_owned()),
            true => Err("the replicas are too slow for what changes meanwhile".to_owned()),
            false => pass_on(&mut out, &cut, if is_due { 1 } else { CHUNK_BYTES }),
        };
        if is_due {
            passed_at = Instant::now();
        }
        if written.is_err() {
            cut.walk.abort();
        }
    }
    written?;
    pass_on(&mut out, &cut, 0)?;
    finish(out, &mark).map_err(told)
}

/// A snapshot without keys, for who asked for that and for no stream.
fn functions_alone(
    state: &'static State,
    replicas: &mut Vec<Arc<Replica>>,
    (place, mark, fresh): (Place, &String, &str),
) -> Result<u64, String> {
    let is_direct = matches!(place, Place::Replicas);
    begin_all(state, replicas, is_direct.then_some(mark), fresh);
    let mut head = Writer::new(false);
    save::write_head(&mut head, state, form_for(replicas));
    let takes_checksum = state.config.takes_checksum();
    let mut out = Out {
        state,
        replicas,
        place,
        checksum: takes_checksum.then(Checksum::default),
        n_bytes: 0,
    };
    let written = out.write(&head.out).and_then(|()| finish(out, mark));
    written.map_err(|error| reason(&error))
}

/// What these read, who all read the same.
fn form_for(replicas: &[Arc<Replica>]) -> Form {
    let mut all = replicas.iter();
    Form::Replicas {
        of_valkey: all.any(|replica| replica.facts.lock().is_of_valkey()),
    }
}

/// A file that is gone when nobody has it open any more. Another server in this folder may name its own alike.
fn nameless_file() -> io::Result<File> {
    let folder = std::env::current_dir()?;
    for n in 0..N_NAMES {
        let path = folder.join(format!("temp-sync-{}-{n}.rdb", std::process::id()));
        let mut options = OpenOptions::new();
        match options.read(true).write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(error),
            Ok(file) => return std::fs::remove_file(&path).map(|()| file),
        }
    }
    Err(io::ErrorKind::AlreadyExists.into())
}

/// At the cut: what every replica is told before its snapshot.
fn begin_all(state: &State, replicas: &[Arc<Replica>], mark: Option<&String>, fresh: &str) {
    let (role, backlog) = (&state.role, &state.journal.backlog);
    if !backlog.is_on() {
        role.begin_history(fresh.to_owned()); // what came before is in no stream
    }
    backlog.set_kept_bytes(state.config.replication_backlog_bytes() as u64);
    let offset = match role.is_replica() {
        true => backlog.end(),
        false => backlog.begin(),
    };
    let replid = role.ids().replid;
    for replica in replicas {
        if replica.is_dual() && mark.is_none() {
            replica.give_up(); // he asked before `repl-diskless-sync` was switched off
            continue;
        }
        let mut head = String::new();
        if replica.is_dual() {
            let database = match role.is_replica() {
                true => role.stream_database.load(Relaxed) as i64,
                false => -1, // the stream names it
            };
            let session = replica.address.session;
            head = format!("$ENDOFF:{offset} {replid} {database} {session}\r\n");
        } else if replica.facts.lock().takes_psync {
            head = format!("+FULLRESYNC {replid} {offset}\r\n");
        }
        if let Some(mark) = mark {
            head.push_str(&format!("$EOF:{mark}\r\n"));
        }
        replica.begin(head.as_bytes(), mark.is_none(), offset);
    }
}

fn pass_on(out: &mut Out<'_>, cut: &save::Cut, bytes_min: usize) -> Result<(), String> {
    for segment in cut.gather.take(bytes_min) {
        out.write(&segment.into_bytes())
            .map_err(|error| reason(&error))?;
    }
    Ok(())
}

/// Puts the end behind a snapshot, and has one that is in a file sent.
fn finish(mut out: Out<'_>, mark: &str) -> io::Result<u64> {
    let mut end = Writer::new(false);
    file::end(&mut end);
    out.write(&end.out)?;
    let sum = out.checksum.as_ref().map_or(0, Checksum::value);
    out.put(&sum.to_le_bytes())?;
    let n_bytes = out.n_bytes;
    match &out.place {
        Place::Replicas => {
            let mark = Arc::from(mark.as_bytes());
            out.replicas
                .iter()
                .for_each(|replica| replica.complete(&mark, None));
        }
        Place::Disk(file) => {
            let file = file.try_clone()?;
            let head = Arc::from(format!("${n_bytes}\r\n").as_bytes());
            for replica in out.replicas.iter() {
                replica.complete(&head, Some(file.try_clone()?));
            }
        }
    }
    Ok(n_bytes)
}
