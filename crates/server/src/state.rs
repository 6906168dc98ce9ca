//! The server's rooms, shared by all threads. Made once and never freed, so that every thread can
//! hold a plain reference.

use std::sync::OnceLock;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::atomic::{AtomicBool, AtomicUsize};
use std::time::{Duration, Instant};

use keyspace::keyspace::{Keyspace, Layout};

use crate::acl::Acl;
use crate::acl::catalogue::Catalogue;
use crate::aof::{Aof, Phase};
use crate::config::Config;
use crate::config::live::OutputClass;
use crate::control::Control;
use crate::errands::Errands;
use crate::error::{Error, reason};
use crate::io::oom::OomScore;
use crate::io::process::unix_time;
use crate::io::supervisor::Supervisor;
use crate::io::title::Title;
use crate::journal::Journal;
use crate::journal::unit::Unit;
use crate::mailbox::{Mail, Mailboxes};
use crate::migration::Migration;
use crate::monitor::Monitors;
use crate::pause::{Cause, Pause};
use crate::pubsub::PubSub;
use crate::role::Role;
use crate::role::failover::Phase as FailoverPhase;
use crate::saving::Saving;
use crate::scripts::Scripts;
use crate::session::client::{Client, Clients};
use crate::stats::Stats;
use crate::stats::counters::Counter;
use crate::stats::memory::{self, Allocated};
use crate::tracking::{Post, Tracking};
use crate::waits::{Goal, Waits};

/// Shards of a database for each event loop; see the lock protocol.
const SHARDS_PER_THREAD: usize = 128;
/// How long a turn to primary waits for the link at a time before it looks whether that loads a snapshot.
const LOADING_LOOK: Duration = Duration::from_millis(10);
/// How often memory in use is looked up anew while what counts for nothing changes.
const TRIES: usize = 4;
/// Shards of a database at most.
const SHARDS_MAX: usize = 1024;

/// What who waits is told when this server begins to follow another.
const ROLE_CHANGED: &str = "UNBLOCKED force unblock from blocking operation, instance state changed \
                            (master -> replica?)";

/// See the top of the file.
pub struct State {
    /// The data set.
    pub keyspace: Keyspace,
    /// The directives.
    pub config: Config,
    /// Users and what they may do.
    pub acl: Acl,
    /// What is counted, and the slow log.
    pub stats: Stats,
    /// Orders to the thread that accepts connections.
    pub control: Control,
    /// CLIENT PAUSE.
    pub pause: Pause,
    /// What is known of saving and loading.
    pub saving: Saving,
    /// Letters to the event loops.
    pub mailboxes: Mailboxes,
    /// Work that takes long, in threads of its own.
    pub errands: Errands,
    /// Connections to the targets of MIGRATE.
    pub migration: Migration,
    /// Channels and patterns.
    pub pubsub: PubSub,
    /// Who sees every command.
    pub monitors: Monitors,
    /// Client-side caching.
    pub tracking: Tracking,
    /// The stream of writes.
    pub journal: Journal,
    /// The stream of writes on the disk.
    pub aof: Aof,
    /// Primary or replica, and who follows.
    pub role: Role,
    /// Who waits for replicas and disks.
    pub waits: Waits,
    /// All sessions.
    pub clients: Clients,
    /// Scripts by name.
    pub scripts: Scripts,
    /// Open connections.
    pub n_clients: AtomicUsize,
    /// The event loops are to stop.
    pub is_stopping: AtomicBool,
    /// DEBUG SET-ACTIVE-EXPIRE: due keys go without being met.
    pub expires_actively: AtomicBool,
    /// DEBUG PAUSE-CRON: event loops do nothing of their own accord.
    pub is_cron_paused: AtomicBool,
    /// Threads in DEBUG SLEEP: the other loops and the link to the primary sleep, too.
    pub n_asleep: AtomicUsize,
    /// DEBUG SET-DISABLE-DENY-SCRIPTS: scripts may call what is refused in scripts.
    pub scripts_reach_all: AtomicBool,
    /// DEBUG CLIENT-ENFORCE-REPLY-LIST: no reply is too small for a limit.
    pub counts_blocks: AtomicBool,
    /// DEBUG SET-SKIP-CHECKSUM-VALIDATION: payloads are taken whatever their checksum.
    pub skips_checksums: AtomicBool,
    /// DEBUG QUICKLIST-PACKED-THRESHOLD: see [`datatypes::home::Limits`].
    pub list_plain_bytes: AtomicUsize,
    /// When the server started.
    pub started: Instant,
    /// 40 hexadecimal digits, anew at each start.
    pub run_id: String,
    /// Who was told of the start.
    pub supervisor: Supervisor,
    /// What the process had before it was adjusted.
    pub oom_score: OomScore,
    /// Where the title of the process is written, if it may be.
    pub title: OnceLock<Title>,
    /// The commit that the program is made from, if that is known.
    pub commit: OnceLock<&'static str>,
    /// Event-loop threads.
    pub n_threads: usize,
}

impl State {
    /// The rooms of a server that has so many event loops and counts commands of these names. They
    /// stay for as long as the process lives, so that every thread can hold a plain reference. The
    /// error is for the operator.
    pub fn leaked(
        config: Config,
        (names, catalogue): (&'static [&'static str], &'static Catalogue),
        n_threads: usize,
        supervisor: Supervisor,
    ) -> Result<&'static State, String> {
        let n_shards = (n_threads * SHARDS_PER_THREAD).next_power_of_two();
        let layout = Layout {
            n_databases: config.databases().min(usize::from(u16::MAX)) as u16,
            n_shards: n_shards.min(SHARDS_MAX) as u16,
            n_groups: n_threads,
        };
        let stats = Stats::new(n_threads, names);
        stats.note_startup();
        Ok(Box::leak(Box::new(State {
            keyspace: Keyspace::new(layout),
            acl: Acl::new(catalogue, &config.password()),
            config,
            stats,
            control: Control::default(),
            pause: Pause::default(),
            saving: Saving::default(),
            mailboxes: Mailboxes::new(n_threads),
            errands: Errands::default(),
            migration: Migration::default(),
            pubsub: PubSub::default(),
            monitors: Monitors::default(),
            tracking: Tracking::default(),
            journal: Journal::default(),
            aof: Aof::default(),
            role: Role::new(random_id()?),
            waits: Waits::default(),
            clients: Clients::default(),
            scripts: Scripts::default(),
            n_clients: 0.into(),
            is_stopping: false.into(),
            expires_actively: true.into(),
            is_cron_paused: false.into(),
            n_asleep: 0.into(),
            scripts_reach_all: false.into(),
            counts_blocks: false.into(),
            skips_checksums: false.into(),
            list_plain_bytes: usize::MAX.into(),
            started: Instant::now(),
            run_id: random_id()?,
            supervisor,
            oom_score: OomScore::default(),
            title: OnceLock::new(),
            commit: OnceLock::new(),
            n_threads,
        })))
    }
}

impl State {
    /// Whether more memory is in use than `maxmemory` allows. O(1) without a limit, else O(threads).
    #[inline]
    pub fn is_out_of_memory(&self) -> bool {
        let max_bytes = self.config.max_memory_bytes();
        max_bytes > 0
            && memory::allocated().is_some_and(|now| now.used_bytes > max_bytes)
            && self.counts_too_much(max_bytes)
    }

    /// Whether what counts is too much. What does not count takes locks to sum up, so that is done once
    /// where it is enough.
    #[cold]
    fn counts_too_much(&self, max_bytes: u64) -> bool {
        let uncounted = self.n_uncounted_bytes();
        if memory::allocated().is_some_and(|now| now.used_bytes <= max_bytes + uncounted) {
            return false;
        }
        let (now, uncounted) = self.memory_in_use();
        now.is_some_and(|now| now.used_bytes.saturating_sub(uncounted) > max_bytes)
    }

    /// What is in use, and what of it `maxmemory` does not count. Other threads send and free meanwhile
    /// what does not count, so it is looked up before and behind the sum that it is a part of, some times
    /// until both are equal; else the larger figure holds, so that nothing goes for what was sent or
    /// freed in between.
    pub fn memory_in_use(&self) -> (Option<Allocated>, u64) {
        let mut before = self.n_uncounted_bytes();
        let mut n_tries = 0;
        loop {
            let now = memory::allocated();
            let after = self.n_uncounted_bytes();
            n_tries += 1;
            if after == before || n_tries == TRIES {
                return (now, before.max(after));
            }
            before = after;
        }
    }

    /// Bytes that `maxmemory` does not count, since evicting makes them more: what waits for replicas
    /// beyond the backlog, for the append-only file, and for who tracks; nor what is about to go with
    /// clients that are closed for memory.
    pub fn n_uncounted_bytes(&self) -> u64 {
        let unwritten = match self.aof.is_fed() {
            true => self.aof.n_waiting_bytes(),
            false => 0,
        };
        let under_way = self.mailboxes.n_notice_bytes() + self.clients.going_bytes();
        let replicated = self.journal.backlog.n_surplus_bytes() + self.role.unsent_bytes();
        replicated + unwritten + under_way as u64
    }

    /// Whether writes are refused because the data could not be saved.
    pub fn denies_writes(&self) -> bool {
        self.saving.is_failing()
            && self.config.has_save_points()
            && self.config.stops_writes_on_save_error()
    }

    /// Whether the replica `peer` is to be closed as it lacks more than `client-output-buffer-limit` allows,
    /// which is counted and logged then. What the backlog keeps anyway counts for nothing: it would be
    /// closed only to come back for the same bytes.
    pub fn closes_for_lag(
        &self,
        peer: &str,
        behind: u64,
        soft_since: &mut Option<Instant>,
    ) -> bool {
        let is_over = self.is_too_far_behind(behind, soft_since);
        if is_over {
            self.stats.count(Counter::OutputBufferDisconnections, 1);
            log::warn!(
                "Client {peer} scheduled to be closed ASAP for overcoming of output buffer limits. The \
                 replica is {behind} bytes behind."
            );
        }
        is_over
    }

    fn is_too_far_behind(&self, behind: u64, soft_since: &mut Option<Instant>) -> bool {
        let limit = self.config.output_limit(OutputClass::Replica);
        let kept_bytes = self.config.replication_backlog_bytes() as u64;
        let is_over = |bytes: u64| bytes > 0 && behind > bytes.max(kept_bytes);
        if !is_over(limit.soft_bytes) {
            *soft_since = None;
            return is_over(limit.hard_bytes);
        }
        let since = *soft_since.get_or_insert_with(Instant::now);
        is_over(limit.hard_bytes) || since.elapsed() > Duration::from_secs(limit.soft_s)
    }

    /// Whether writes are refused because too few replicas follow closely.
    #[inline]
    pub fn lacks_replicas(&self) -> bool {
        let wanted = self.config.replicas_wanted();
        wanted > 0 && !self.role.is_replica() && self.lacks_so_many(wanted)
    }

    /// The count may be old: one that has just come is not refused.
    #[cold]
    fn lacks_so_many(&self, wanted: usize) -> bool {
        if self.role.n_good() >= wanted {
            return false;
        }
        self.role.count_good(self.config.replica_lag_max());
        self.role.n_good() < wanted
    }

    /// Goes on with the history that the file at the start has told of: as a replica where it was, as a
    /// primary under a new name, so that those who have the old one up to there can go on, too.
    pub fn resume_history(&self) {
        let Some(found) = self.role.take_found() else {
            return;
        };
        let backlog = &self.journal.backlog;
        if self.config.primary().is_some() {
            self.role.begin_history(found.replid);
            backlog.follow(found.offset);
            return;
        }
        self.role.succeed(found.replid, found.offset);
        backlog.resume(found.offset);
        backlog.set_kept_bytes(self.config.replication_backlog_bytes() as u64);
        for (database, key) in found.lost {
            let unit = Unit::of(database, &[b"DEL", &key[..]]);
            self.journal.append_for_replicas(&unit);
        }
        self.role.trim(backlog);
    }

    /// Whether only the primary may write here.
    #[inline]
    pub fn refuses_writes(&self) -> bool {
        self.role.is_replica() && self.config.replica_is_read_only()
    }

    /// Whether this is a replica without its primary that may not answer from what it has.
    #[inline]
    pub fn is_stale(&self) -> bool {
        self.role.is_replica() && !self.role.is_link_up() && !self.config.serves_stale_data()
    }

    /// Whether a wait has reached its goal, and what it is answered now.
    pub fn progress(&self, goal: &Goal) -> (bool, Vec<u8>) {
        if !goal.is_about_disks {
            let n = self.role.n_with(goal.streamed_to);
            return (n >= goal.n_replicas, format!(":{n}\r\n").into_bytes());
        }
        if goal.local.is_some() && self.aof.phase() == Phase::Off {
            return (true, format!("-{}\r\n", Error::NoAof).into_bytes());
        }
        let is_local = self.aof.is_durable(goal.written_to, &self.config);
        let n = self.role.n_with_on_disk(goal.streamed_to);
        let is_reached = (is_local || goal.local.is_none()) && n >= goal.n_replicas;
        (is_reached, format!("*2\r\n:{}\r\n:{n}\r\n", u8::from(is_local)).into_bytes())
    }

    /// Serves those whose wait has reached its goal. Who calls it wakes the loops.
    pub fn serve_waits(&self) {
        let answer = |goal: &Goal| {
            let (is_reached, reply) = self.progress(goal);
            is_reached.then_some(reply)
        };
        self.waits.serve(answer, &self.mailboxes);
    }

    /// Tells the system how readily it may end this process.
    pub fn adjust_oom_score(&self) -> std::io::Result<()> {
        let score = self.config.oom_score(self.config.primary().is_some());
        self.oom_score.set(score).inspect_err(|error| {
            log::warn!("Unable to write oom_score_adj: {}", reason(error));
        })
    }

    /// Shows the title of the process as `proc-title-template` has it now.
    pub fn show_title(&self) {
        if let Some(title) = self.title.get()
            && let Some(text) = self.config.title(title.name())
        {
            title.show(&text);
        }
    }

    /// Ends every wait, as what is waited for may never be written here; but for who knows that and
    /// only reads. Who follows redirects is told where to wait.
    fn unblock_all(&self) {
        let primary = self.role.primary();
        for client in self.clients.all() {
            let follows = client.follows_redirects.load(Relaxed);
            let may_stay = client.reads_here.load(Relaxed) && client.waits_to_read.load(Relaxed);
            match &primary {
                Some(_) if follows && may_stay => {}
                Some(primary) if follows => {
                    let line = format!("REDIRECT {}:{}", primary.host, primary.port);
                    self.unblock(&client, Some(&line));
                }
                _ => {
                    self.unblock(&client, Some(ROLE_CHANGED));
                }
            }
        }
    }

    /// Whether replicas are to catch up with what there is: nothing is added that is not data.
    pub fn has_last_words(&self) -> bool {
        let now_ms = unix_time().as_millis() as u64;
        self.pause.is_for(Cause::Failover, now_ms) || self.pause.is_for(Cause::Ending, now_ms)
    }

    /// Follows another server from now on. The caller holds every shard, so that each write is of before,
    /// and in the stream, or is refused. Replicas stay until what they have is of another history.
    pub fn follow(&self, host: String, port: u16) {
        self.config.note_primary(&format!("{host} {port}"));
        self.role.follow(host, port);
        self.journal.backlog.stop_leading();
        self.unblock_all();
        let _ = self.adjust_oom_score(); // the log has it
    }

    /// FAILOVER: follows the replica that takes over. Who waits goes on waiting, as it may yet refuse.
    pub fn follow_successor(&self, host: String, port: u16) {
        self.config.note_primary(&format!("{host} {port}"));
        self.role.follow(host, port);
        self.journal.backlog.stop_leading();
        let _ = self.adjust_oom_score();
    }

    /// Ends a failover that leads nowhere: this server is a primary, as it was. Whether there was one.
    pub fn abort_failover(&self, reason: &str) -> bool {
        let Some((plan, phase)) = self.role.failover.end() else {
            return false;
        };
        log::info!("FAILOVER to {} aborted: {reason}", plan.whom());
        if phase == FailoverPhase::Moving
            && let Err(reason) = self.lead()
        {
            log::error!("This server cannot become a primary again: {reason}");
        }
        self.end_handover();
        true
    }

    /// FAILOVER has ended, one way or the other: commands go on.
    pub fn end_handover(&self) {
        if self.role.is_replica() {
            self.unblock_all();
        }
        self.pause.end(Cause::Failover);
        self.mailboxes.wake_all();
    }

    /// Follows nobody from now on; false if that is so already. The error is for the client.
    pub fn lead(&self) -> Result<bool, String> {
        let replid = random_id()?;
        let _applied = loop {
            // What runs now still belongs to the old history.
            if let Some(applied) = self.role.applying.try_lock_for(LOADING_LOOK) {
                break applied;
            }
            if self.saving.is_loading() {
                return Err(Error::Loading.to_string()); // for as long as its primary likes
            }
        };
        if !self.role.is_replica() {
            return Ok(false);
        }
        // The stream is there before the first write is let in.
        self.role.rename_history(replid, self.journal.backlog.end());
        self.journal.backlog.lead();
        self.role.lead();
        self.config.note_primary("");
        self.close_replicas(); // they come again and go on under the new name
        self.mailboxes.wake_all(); // keys may run out again
        let _ = self.adjust_oom_score();
        Ok(true)
    }

    /// Waits while DEBUG SLEEP makes the server look dead.
    #[inline]
    pub fn sleep_along(&self) {
        while self.n_asleep.load(Relaxed) > 0 && !self.is_stopping.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Tells the loops that send to replicas that there is more. Who calls it wakes them.
    pub fn announce_stream(&self) {
        for group in self.role.groups() {
            self.mailboxes.post(group.into(), Mail::Feed);
        }
    }

    /// Ends the wait of a session, with an error or as its timeout does; whether it waited.
    pub fn unblock(&self, client: &Client, error: Option<&str>) -> bool {
        let waiter = client.waiter.lock().clone();
        let is_mine = waiter.is_some_and(|waiter| waiter.cancel());
        if is_mine {
            let to = client.address;
            let error = error.map(str::to_owned);
            self.mailboxes
                .post(to.group.into(), Mail::Unblocked { to, error });
        }
        is_mine
    }

    /// Ends the sessions of all replicas.
    pub fn close_replicas(&self) {
        for replica in self.role.replicas() {
            let to = replica.address;
            self.mailboxes.post(to.group.into(), Mail::Kill(to));
        }
        self.mailboxes.wake();
    }

    /// Holds the table of client-side caching to `tracking-table-max-keys`.
    pub fn bound_tracking(&self) {
        let n_keys_max = self.config.tracking_keys_max();
        let post = Post {
            find: &|id| self.clients.get(id).map(|client| client.address),
            mailboxes: &self.mailboxes,
            own: None,
        };
        if n_keys_max > 0 {
            self.tracking.shrink(0, n_keys_max, post);
        }
    }

    /// Whether event loops remove due keys without anybody looking at them.
    pub fn is_expiring(&self, now_ms: u64) -> bool {
        self.expires_actively.load(Relaxed)
            && !self.is_cron_paused.load(Relaxed)
            && self.pause.now(now_ms).is_none()
            && !self.saving.is_loading()
            && !self.role.is_replica()
            && !self.config.is_importing()
    }
}

/// 40 hexadecimal digits by chance.
pub fn random_id() -> Result<String, String> {
    let mut bytes = [0; 20];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers: {error}"))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}
