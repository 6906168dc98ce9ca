//! The directives that running code reads, by name and in their proper types. Each is one relaxed
//! load unless it says otherwise.

use std::sync::atomic::Ordering;
use std::time::Duration;

use keyspace::access::Frequency;
use keyspace::eviction::{Policy, Preference};

use super::Config;
use super::directive::{Slot, slot};
use super::notify::EventClasses;
use super::special::OutputLimit;
use super::value::Value;

/// Which clients an output limit is for, by its place in the directive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OutputClass {
    /// Clients that send commands.
    Normal = 0,
    /// Replicas.
    Replica = 1,
    /// Clients subscribed to channels.
    Pubsub = 2,
}

/// Who may use what `enable-debug-command` and `enable-protected-configs` guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guard {
    /// Nobody.
    No,
    /// Everybody.
    Yes,
    /// Clients connected from this machine.
    Local,
}

/// The values of `appendfsync`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FsyncPolicy {
    /// `everysec`
    EverySecond,
    /// `always`
    Always,
    /// `no`
    No,
}

/// The values of `loglevel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogLevel {
    /// `debug`
    Debug,
    /// `verbose`
    Verbose,
    /// `notice`
    Notice,
    /// `warning`
    Warning,
    /// `nothing`
    Nothing,
}

/// The values of `supervised`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Supervised {
    /// `upstart`
    Upstart,
    /// `systemd`
    Systemd,
    /// `auto`
    Auto,
    /// `no`
    No,
}

/// A pair of `save`: after so many seconds, if there were so many changes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavePoint {
    /// Seconds since the data was saved.
    pub seconds: u64,
    /// Changes since then.
    pub changes: u64,
}

/// What a signal asks for, as `shutdown-on-sigterm` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnSignal {
    /// Whether to save; as `save` says if `None`.
    pub saves: Option<bool>,
    /// Stop even if the data cannot be saved.
    pub is_forced: bool,
    /// Wait for no replica.
    pub is_immediate: bool,
}

impl OnSignal {
    /// The bits of `default`, `save`, `nosave`, `now` and `force`.
    fn of(bits: i64) -> OnSignal {
        let has = |bit: u32| bits & (1 << bit) != 0;
        OnSignal {
            saves: match (has(1), has(2)) {
                (true, _) => Some(true),
                (false, true) => Some(false),
                (false, false) => None,
            },
            is_forced: has(4),
            is_immediate: has(3),
        }
    }
}

impl Config {
    fn flag(&self, slot: Slot) -> bool {
        self.number(slot) != 0
    }

    fn size(&self, slot: Slot) -> usize {
        usize::try_from(self.number(slot)).unwrap_or(usize::MAX)
    }

    fn guard(&self, slot: Slot) -> Guard {
        match self.number(slot) {
            0 => Guard::No,
            1 => Guard::Yes,
            _ => Guard::Local,
        }
    }

    pub(super) fn words(&self, slot: Slot) -> Vec<String> {
        let text = self.string(slot);
        text.split(' ')
            .filter(|word| !word.is_empty())
            .map(String::from)
            .collect()
    }

    fn string(&self, slot: Slot) -> String {
        String::from_utf8_lossy(&self.text(slot)).into_owned()
    }

    // Network.

    /// `bind`: addresses to listen on; a leading `-` allows one to be unavailable. Copies.
    pub fn bind(&self) -> Vec<String> {
        self.words(const { slot("bind") })
    }

    /// `port`; 0 is no TCP.
    pub fn port(&self) -> u16 {
        self.number(const { slot("port") }) as u16
    }

    /// `tcp-backlog`.
    pub fn tcp_backlog(&self) -> i32 {
        self.number(const { slot("tcp-backlog") }) as i32
    }

    /// `tcp-keepalive` in seconds; 0 is off.
    pub fn tcp_keepalive_s(&self) -> u64 {
        self.number(const { slot("tcp-keepalive") }).unsigned_abs()
    }

    /// `timeout`: seconds a client may be silent; 0 is for ever.
    pub fn timeout_s(&self) -> u64 {
        self.number(const { slot("timeout") }).unsigned_abs()
    }

    /// `bind-source-addr`: where connections to a primary come from. Copies.
    pub fn source_address(&self) -> Option<String> {
        Some(self.string(const { slot("bind-source-addr") })).filter(|host| !host.is_empty())
    }

    /// `unixsocket`: a path; `None` is no such socket. Copies.
    pub fn unix_socket(&self) -> Option<String> {
        Some(self.string(const { slot("unixsocket") })).filter(|path| !path.is_empty())
    }

    /// `unixsocketperm`: permission bits; 0 leaves the umask's.
    pub fn unix_socket_permissions(&self) -> u32 {
        self.number(const { slot("unixsocketperm") }) as u32
    }

    /// `lua-enable-deprecated-api`: scripts see functions that are kept from them else.
    pub fn lua_is_insecure(&self) -> bool {
        self.flag(const { slot("lua-enable-deprecated-api") })
    }

    /// `import-mode`: another server's data comes in, and what is due stays.
    #[inline]
    pub fn is_importing(&self) -> bool {
        self.flag(const { slot("import-mode") })
    }

    /// `lazyfree-lazy-expire`, `lazyfree-lazy-eviction`, `lazyfree-lazy-server-del`: which removals are told
    /// of as UNLINK.
    pub fn lazy_removals(&self) -> [bool; 3] {
        [
            self.flag(const { slot("lazyfree-lazy-expire") }),
            self.flag(const { slot("lazyfree-lazy-eviction") }),
            self.flag(const { slot("lazyfree-lazy-server-del") }),
        ]
    }

    /// `unixsocketgroup`; `None` is that of the process. Copies.
    pub fn unix_socket_group(&self) -> Option<String> {
        Some(self.string(const { slot("unixsocketgroup") })).filter(|name| !name.is_empty())
    }

    /// Whether ordinary clients are closed that leave too much unread.
    pub fn limits_replies(&self) -> bool {
        self.output_limit(OutputClass::Normal).hard_bytes > 0
    }

    /// `protected-mode`.
    pub fn protected_mode(&self) -> bool {
        self.flag(const { slot("protected-mode") })
    }

    /// `maxclients`.
    pub fn max_clients(&self) -> usize {
        self.size(const { slot("maxclients") })
    }

    /// Lowers `maxclients` to what the system allows.
    pub fn lower_max_clients(&self, allowed: usize) {
        let text = allowed.to_string().into_bytes();
        self.store(const { slot("maxclients") }, Value::new(allowed as i64, text));
    }

    /// `proto-max-bulk-len`: the longest argument.
    pub fn proto_max_bulk_bytes(&self) -> usize {
        self.size(const { slot("proto-max-bulk-len") })
    }

    /// `client-query-buffer-limit`: the longest unparsed input of one client.
    pub fn query_buffer_limit_bytes(&self) -> usize {
        self.size(const { slot("client-query-buffer-limit") })
    }

    /// `client-output-buffer-limit` of one class. Three loads.
    pub fn output_limit(&self, class: OutputClass) -> OutputLimit {
        let at = class as usize * 3;
        let number = |at: usize| self.output_limits[at].load(Ordering::Relaxed);
        OutputLimit {
            hard_bytes: number(at),
            soft_bytes: number(at + 1),
            soft_s: number(at + 2),
        }
    }

    // Access.

    /// `requirepass`; empty is none. Copies.
    pub fn password(&self) -> Vec<u8> {
        self.text(const { slot("requirepass") })
    }

    /// `aclfile`; `None` is none. Copies.
    pub fn acl_file(&self) -> Option<String> {
        Some(self.string(const { slot("aclfile") })).filter(|path| !path.is_empty())
    }

    /// `acl-pubsub-default`: whether new users may use all channels.
    pub fn channels_by_default(&self) -> bool {
        self.number(const { slot("acl-pubsub-default") }) == 0
    }

    /// `acllog-max-len`.
    pub fn acllog_max_len(&self) -> usize {
        self.size(const { slot("acllog-max-len") })
    }

    /// `availability-zone`, as HELLO tells it; empty is none. Copies.
    pub fn availability_zone(&self) -> Vec<u8> {
        self.text(const { slot("availability-zone") })
    }

    /// Whether CONFIG SET may change protected directives for this caller.
    pub fn protected_configs_allowed(&self, local: bool) -> bool {
        allows(self.guard(const { slot("enable-protected-configs") }), local)
    }

    /// Whether DEBUG may be used by this caller.
    pub fn debug_command_allowed(&self, local: bool) -> bool {
        allows(self.guard(const { slot("enable-debug-command") }), local)
    }

    /// Whether MODULE may load anything for this caller.
    pub fn module_command_allowed(&self, local: bool) -> bool {
        allows(self.guard(const { slot("enable-module-command") }), local)
    }

    // Keyspace and encodings.

    /// `databases`: how many there are.
    pub fn databases(&self) -> usize {
        self.size(const { slot("databases") })
    }

    /// `hash-max-listpack-entries`.
    pub fn hash_max_listpack_entries(&self) -> usize {
        self.size(const { slot("hash-max-listpack-entries") })
    }

    /// `hash-max-listpack-value`, in bytes.
    pub fn hash_max_listpack_value(&self) -> usize {
        self.size(const { slot("hash-max-listpack-value") })
    }

    /// `list-max-listpack-size`: elements when positive, a size class when negative.
    pub fn list_max_listpack_size(&self) -> i32 {
        self.number(const { slot("list-max-listpack-size") }) as i32
    }

    /// `hll-sparse-max-bytes`.
    pub fn hll_sparse_max_bytes(&self) -> usize {
        self.size(const { slot("hll-sparse-max-bytes") })
    }

    /// `set-max-intset-entries`.
    pub fn set_max_intset_entries(&self) -> usize {
        self.size(const { slot("set-max-intset-entries") })
    }

    /// `set-max-listpack-entries`.
    pub fn set_max_listpack_entries(&self) -> usize {
        self.size(const { slot("set-max-listpack-entries") })
    }

    /// `set-max-listpack-value`, in bytes.
    pub fn set_max_listpack_value(&self) -> usize {
        self.size(const { slot("set-max-listpack-value") })
    }

    /// `stream-node-max-bytes`.
    pub fn stream_node_max_bytes(&self) -> usize {
        self.size(const { slot("stream-node-max-bytes") })
    }

    /// `stream-node-max-entries`.
    pub fn stream_node_max_entries(&self) -> u64 {
        self.size(const { slot("stream-node-max-entries") }) as u64
    }

    /// `zset-max-listpack-entries`.
    pub fn zset_max_listpack_entries(&self) -> usize {
        self.size(const { slot("zset-max-listpack-entries") })
    }

    /// `zset-max-listpack-value`, in bytes.
    pub fn zset_max_listpack_value(&self) -> usize {
        self.size(const { slot("zset-max-listpack-value") })
    }

    /// `notify-keyspace-events`.
    pub fn notify_events(&self) -> EventClasses {
        EventClasses::from_bits(self.number(const { slot("notify-keyspace-events") }) as u32)
    }

    /// `rdbcompression`: long strings are packed when they are saved.
    pub fn packs_strings(&self) -> bool {
        self.flag(const { slot("rdbcompression") })
    }

    // Persistence.

    /// `dbfilename`. Copies.
    pub fn rdb_file(&self) -> String {
        self.string(const { slot("dbfilename") })
    }

    /// `appendonly`: every write goes into the append-only file.
    pub fn appends(&self) -> bool {
        self.flag(const { slot("appendonly") })
    }

    /// `appendfsync`.
    pub fn append_fsync(&self) -> FsyncPolicy {
        match self.number(const { slot("appendfsync") }) {
            1 => FsyncPolicy::Always,
            2 => FsyncPolicy::No,
            _ => FsyncPolicy::EverySecond,
        }
    }

    /// `appenddirname`. Copies.
    pub fn append_folder(&self) -> String {
        self.string(const { slot("appenddirname") })
    }

    /// `appendfilename`. Copies.
    pub fn append_file(&self) -> String {
        self.string(const { slot("appendfilename") })
    }

    /// `aof-load-truncated`: a file that ends within a command is loaded up to there.
    pub fn loads_truncated(&self) -> bool {
        self.flag(const { slot("aof-load-truncated") })
    }

    /// `aof-load-corrupt-tail-max-size`: bytes at the end of the last file that may be wrong.
    pub fn corrupt_tail_bytes_max(&self) -> u64 {
        self.number(const { slot("aof-load-corrupt-tail-max-size") }) as u64
    }

    /// `aof-use-rdb-preamble`: a base of the append-only file has the form of an RDB file.
    pub fn base_is_snapshot(&self) -> bool {
        self.flag(const { slot("aof-use-rdb-preamble") })
    }

    /// `aof-record-checksum`: each command in the append-only file stands behind its checksum.
    pub fn sums_appended(&self) -> bool {
        self.flag(const { slot("aof-record-checksum") })
    }

    /// `aof-disable-auto-gc`: files that are no longer needed stay.
    pub fn keeps_history(&self) -> bool {
        self.flag(const { slot("aof-disable-auto-gc") })
    }

    /// `aof-timestamp-enabled`: the append-only file says when commands came.
    pub fn stamps_appended(&self) -> bool {
        self.flag(const { slot("aof-timestamp-enabled") })
    }

    /// `aof-rewrite-incremental-fsync`: see [`Config::syncs_often`].
    pub fn rewrite_syncs_often(&self) -> bool {
        self.flag(const { slot("aof-rewrite-incremental-fsync") })
    }

    /// `no-appendfsync-on-rewrite`: the disk is not waited for while a file is saved or rewritten.
    pub fn spares_fsync_on_rewrite(&self) -> bool {
        self.flag(const { slot("no-appendfsync-on-rewrite") })
    }

    /// `auto-aof-rewrite-percentage`: by how much the file grows before it is rewritten; 0 is never.
    pub fn rewrite_growth_percent(&self) -> u64 {
        self.number(const { slot("auto-aof-rewrite-percentage") }) as u64
    }

    /// `auto-aof-rewrite-min-size`: bytes below which it is not.
    pub fn rewrite_bytes_min(&self) -> u64 {
        self.number(const { slot("auto-aof-rewrite-min-size") }) as u64
    }

    /// `hide-user-data-from-log`: no key is named in the log.
    pub fn hides_user_data(&self) -> bool {
        self.flag(const { slot("hide-user-data-from-log") })
    }

    /// `rdbchecksum`: files end with their checksum, and it is looked at.
    pub fn takes_checksum(&self) -> bool {
        self.flag(const { slot("rdbchecksum") })
    }

    /// `rdb-version-check`: only versions whose types are all known are read.
    pub fn knows_rdb_version(&self) -> bool {
        self.number(const { slot("rdb-version-check") }) == 0
    }

    /// `rdb-save-incremental-fsync`: what is written goes to the disk piece by piece.
    pub fn syncs_often(&self) -> bool {
        self.flag(const { slot("rdb-save-incremental-fsync") })
    }

    /// Whether `save` names a point at which the data is saved.
    pub fn has_save_points(&self) -> bool {
        self.flag(const { slot("save") })
    }

    /// `save`. Copies.
    pub fn save_points(&self) -> Vec<SavePoint> {
        let words = self.words(const { slot("save") });
        let number = |word: &String| word.parse().unwrap_or(u64::MAX);
        let points = words.chunks_exact(2).map(|pair| SavePoint {
            seconds: number(&pair[0]),
            changes: number(&pair[1]),
        });
        points.collect()
    }

    /// `stop-writes-on-bgsave-error`.
    pub fn stops_writes_on_save_error(&self) -> bool {
        self.flag(const { slot("stop-writes-on-bgsave-error") })
    }

    /// `rdb-key-save-delay`, for tests; below zero is none.
    pub fn key_save_delay_us(&self) -> u64 {
        self.number(const { slot("rdb-key-save-delay") }).max(0) as u64
    }

    /// `key-load-delay`, for tests; below zero is none.
    pub fn key_load_delay_us(&self) -> u64 {
        self.number(const { slot("key-load-delay") }).max(0) as u64
    }

    /// `loading-process-events-interval-bytes`: what is shorter is loaded before anybody is answered.
    pub fn is_loaded_first(&self, n_bytes: u64) -> bool {
        n_bytes < self.number(const { slot("loading-process-events-interval-bytes") }) as u64
    }

    /// `shutdown-timeout`: how long the last save waits for commands to end.
    pub fn shutdown_timeout_s(&self) -> u64 {
        self.number(const { slot("shutdown-timeout") })
            .unsigned_abs()
    }

    /// `shutdown-on-sigterm`.
    pub fn shutdown_on_sigterm(&self) -> OnSignal {
        OnSignal::of(self.number(const { slot("shutdown-on-sigterm") }))
    }

    /// `shutdown-on-sigint`.
    pub fn shutdown_on_sigint(&self) -> OnSignal {
        OnSignal::of(self.number(const { slot("shutdown-on-sigint") }))
    }

    /// `maxmemory`, in bytes; 0 is no limit.
    pub fn max_memory_bytes(&self) -> u64 {
        self.number(const { slot("maxmemory") }) as u64
    }

    /// `maxmemory-clients`: what all clients together may take up; `None` is no limit. It is never so
    /// low that nobody could connect to raise it.
    pub fn max_client_memory_bytes(&self) -> Option<usize> {
        const LEAST_BYTES: u64 = 128 << 10;
        let limit_bytes = match self.number(const { slot("maxmemory-clients") }) {
            percent @ ..0 => {
                let part = u128::from(self.max_memory_bytes()) * u128::from(percent.unsigned_abs());
                (part / 100) as u64
            }
            bytes => bytes as u64,
        };
        (limit_bytes > 0).then(|| limit_bytes.max(LEAST_BYTES) as usize)
    }

    /// `maxmemory-policy`. Copies.
    pub fn eviction_policy_name(&self) -> String {
        self.string(const { slot("maxmemory-policy") })
    }

    /// `repl-backlog-size`, for INFO.
    pub fn replication_backlog_bytes(&self) -> i64 {
        self.number(const { slot("repl-backlog-size") })
    }

    /// Replicas without which nothing is written; 0 if it does not matter.
    #[inline]
    pub fn replicas_wanted(&self) -> usize {
        match self.number(const { slot("min-replicas-max-lag") }) {
            0 => 0,
            _ => self.size(const { slot("min-replicas-to-write") }),
        }
    }

    /// `min-replicas-max-lag`.
    pub fn replica_lag_max(&self) -> Duration {
        Duration::from_secs(self.number(const { slot("min-replicas-max-lag") }) as u64)
    }

    /// `repl-timeout`.
    pub fn replication_timeout(&self) -> Duration {
        Duration::from_secs(self.number(const { slot("repl-timeout") }) as u64)
    }

    /// `repl-ping-replica-period`.
    pub fn replica_ping_period(&self) -> Duration {
        Duration::from_secs(self.number(const { slot("repl-ping-replica-period") }) as u64)
    }

    /// `repl-backlog-ttl`; `None` is for ever.
    pub fn backlog_ttl(&self) -> Option<Duration> {
        let seconds = self.number(const { slot("repl-backlog-ttl") }) as u64;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    /// How long `repl-diskless-sync-delay` has a snapshot for replicas wait for more of them.
    pub fn diskless_sync_delay(&self) -> Duration {
        let seconds = self.number(const { slot("repl-diskless-sync-delay") }) as u64;
        Duration::from_secs(seconds)
    }

    /// `repl-diskless-sync-max-replicas`; 0 is any number.
    pub fn diskless_sync_max_replicas(&self) -> usize {
        self.size(const { slot("repl-diskless-sync-max-replicas") })
    }

    /// `repl-diskless-load`: what a peer loads comes by way of a file.
    pub fn loads_from_disk(&self) -> bool {
        self.number(const { slot("repl-diskless-load") }) == 0
    }

    /// `repl-diskless-load on-empty-db`.
    pub fn loads_empty_at_once(&self) -> bool {
        self.number(const { slot("repl-diskless-load") }) == 1
    }

    /// `repl-diskless-load swapdb`.
    pub fn loads_aside(&self) -> bool {
        self.number(const { slot("repl-diskless-load") }) == 2
    }

    /// `repl-diskless-load flush-before-load`.
    pub fn flushes_before_load(&self) -> bool {
        self.number(const { slot("repl-diskless-load") }) == 3
    }

    /// `repl-diskless-sync`.
    pub fn syncs_without_disk(&self) -> bool {
        self.flag(const { slot("repl-diskless-sync") })
    }

    /// `repl-rdb-channel`. Who has only refused Valkey's two channels does not want these either.
    pub fn uses_rdb_channel(&self) -> bool {
        let (ours, dual) =
            const { (slot("repl-rdb-channel"), slot("dual-channel-replication-enabled")) };
        let is_refused = self.is_given(dual) && !self.flag(dual) && !self.is_given(ours);
        self.flag(ours) && !is_refused
    }

    /// `dual-channel-replication-enabled`.
    pub fn uses_dual_channel(&self) -> bool {
        self.flag(const { slot("dual-channel-replication-enabled") })
    }

    /// `replica-full-sync-buffer-limit`, or what it stands for if it is 0: what a primary may keep for a
    /// replica. `None` if there is no limit.
    pub fn full_sync_buffer_bytes(&self) -> Option<u64> {
        let own = self.number(const { slot("replica-full-sync-buffer-limit") }) as u64;
        let limit = match own {
            0 => self.output_limit(OutputClass::Replica).hard_bytes,
            own => own,
        };
        (limit > 0).then_some(limit)
    }

    /// `replicaof`: the primary's host and port, if there is one. Copies.
    pub fn primary(&self) -> Option<(String, u16)> {
        let text = self.string(const { slot("replicaof") });
        let (host, port) = text.split_once(' ')?;
        Some((host.to_owned(), port.parse().ok()?))
    }

    /// Has `replicaof` say whom this server follows, for CONFIG GET and REWRITE.
    pub fn note_primary(&self, text: &str) {
        self.store(const { slot("replicaof") }, Value::text(text.as_bytes().to_vec()));
    }

    /// `masteruser` and `masterauth`: how to log in at the primary, if that is needed. Copies.
    pub fn primary_login(&self) -> (String, String) {
        (self.string(const { slot("masteruser") }), self.string(const { slot("masterauth") }))
    }

    /// `replica-read-only`.
    #[inline]
    pub fn replica_is_read_only(&self) -> bool {
        self.flag(const { slot("replica-read-only") })
    }

    /// `replica-serve-stale-data`.
    #[inline]
    pub fn serves_stale_data(&self) -> bool {
        self.flag(const { slot("replica-serve-stale-data") })
    }

    /// `replica-ignore-maxmemory`.
    #[inline]
    pub fn replica_ignores_max_memory(&self) -> bool {
        self.flag(const { slot("replica-ignore-maxmemory") })
    }

    /// `replica-priority`.
    pub fn replica_priority(&self) -> i64 {
        self.number(const { slot("replica-priority") })
    }

    /// `replica-announced`.
    pub fn is_replica_announced(&self) -> bool {
        self.flag(const { slot("replica-announced") })
    }

    /// `replica-announce-ip` and `replica-announce-port`, where they are set.
    pub fn announced(&self) -> (Option<String>, Option<u16>) {
        let ip = self.string(const { slot("replica-announce-ip") });
        let port = self.number(const { slot("replica-announce-port") }) as u16;
        ((!ip.is_empty()).then_some(ip), (port != 0).then_some(port))
    }

    /// `maxmemory-policy`; `None` is `noeviction`. The numbers are the places in the table's list.
    pub fn eviction_policy(&self) -> Option<Policy> {
        let (preference, is_volatile_only) = match self.number(const { slot("maxmemory-policy") }) {
            0 => (Preference::LeastRecent, true),
            1 => (Preference::LeastFrequent, true),
            2 => (Preference::Any, true),
            3 => (Preference::SoonestDue, true),
            4 => (Preference::LeastRecent, false),
            5 => (Preference::LeastFrequent, false),
            6 => (Preference::Any, false),
            _ => return None,
        };
        Some(Policy {
            preference,
            is_volatile_only,
        })
    }

    /// How uses are counted, if the policy asks for that.
    pub fn frequency(&self) -> Option<Frequency> {
        let policy = self.eviction_policy()?;
        let number = |at| self.number(at).clamp(0, i64::from(u32::MAX)) as u32;
        (policy.preference == Preference::LeastFrequent).then(|| Frequency {
            log_factor: number(const { slot("lfu-log-factor") }),
            decay_min: number(const { slot("lfu-decay-time") }),
        })
    }

    /// `maxmemory-samples`.
    pub fn eviction_samples(&self) -> usize {
        self.size(const { slot("maxmemory-samples") })
    }

    /// `maxmemory-eviction-tenacity`, as the time that evicting may take at once; `None`: any.
    pub fn eviction_slice(&self) -> Option<Duration> {
        match self.number(const { slot("maxmemory-eviction-tenacity") }) {
            tenacity @ ..=10 => Some(Duration::from_micros(50 * tenacity.max(0) as u64)),
            tenacity @ ..=99 => {
                let factor = 1.15_f64.powi(tenacity as i32 - 10);
                Some(Duration::from_micros((500.0 * factor) as u64))
            }
            _ => None,
        }
    }

    // Commands.

    /// `slowlog-log-slower-than` in microseconds; below zero is off.
    pub fn slowlog_threshold_us(&self) -> i64 {
        self.number(const { slot("slowlog-log-slower-than") })
    }

    /// `commandlog-request-larger-than` in bytes; below zero is off.
    pub fn large_request_bytes(&self) -> i64 {
        self.number(const { slot("commandlog-request-larger-than") })
    }

    /// `commandlog-reply-larger-than` in bytes; below zero is off.
    pub fn large_reply_bytes(&self) -> i64 {
        self.number(const { slot("commandlog-reply-larger-than") })
    }

    /// `commandlog-large-request-max-len`.
    pub fn large_requests_max_len(&self) -> usize {
        self.size(const { slot("commandlog-large-request-max-len") })
    }

    /// `commandlog-large-reply-max-len`.
    pub fn large_replies_max_len(&self) -> usize {
        self.size(const { slot("commandlog-large-reply-max-len") })
    }

    /// `latency-monitor-threshold` in milliseconds; 0 is off.
    pub fn latency_threshold_ms(&self) -> u64 {
        self.number(const { slot("latency-monitor-threshold") })
            .unsigned_abs()
    }

    /// `latency-tracking`: whether histograms of commands are kept.
    pub fn tracks_latency(&self) -> bool {
        self.flag(const { slot("latency-tracking") })
    }

    /// `latency-tracking-info-percentiles`, as they are written. Copies.
    pub fn latency_percentiles(&self) -> Vec<String> {
        self.words(const { slot("latency-tracking-info-percentiles") })
    }

    /// `tracking-table-max-keys`; 0 is no limit.
    pub fn tracking_keys_max(&self) -> usize {
        self.size(const { slot("tracking-table-max-keys") })
    }

    /// `slowlog-max-len`.
    pub fn slowlog_max_len(&self) -> usize {
        self.size(const { slot("slowlog-max-len") })
    }

    /// `busy-reply-threshold` in milliseconds; 0 is never.
    pub fn busy_reply_threshold_ms(&self) -> u64 {
        self.number(const { slot("busy-reply-threshold") })
            .unsigned_abs()
    }

    // Process.

    /// `threads`: event loops; 0 chooses by the CPUs this process may use.
    pub fn threads(&self) -> usize {
        self.size(const { slot("threads") })
    }

    /// `hz`, for INFO.
    pub fn hz(&self) -> i64 {
        self.number(const { slot("hz") })
    }

    /// `daemonize`.
    pub fn daemonize(&self) -> bool {
        self.flag(const { slot("daemonize") })
    }

    /// `disable-thp`.
    pub fn disables_huge_pages(&self) -> bool {
        self.flag(const { slot("disable-thp") })
    }

    /// `supervised`.
    pub fn supervised(&self) -> Supervised {
        match self.number(const { slot("supervised") }) {
            0 => Supervised::Upstart,
            1 => Supervised::Systemd,
            2 => Supervised::Auto,
            _ => Supervised::No,
        }
    }

    /// `pidfile`; `None` is none. Copies.
    pub fn pid_file(&self) -> Option<String> {
        Some(self.string(const { slot("pidfile") })).filter(|path| !path.is_empty())
    }

    /// `logfile`; `None` is standard output. Copies.
    pub fn log_file(&self) -> Option<String> {
        Some(self.string(const { slot("logfile") })).filter(|path| !path.is_empty())
    }

    /// `loglevel`.
    pub fn log_level(&self) -> LogLevel {
        match self.number(const { slot("loglevel") }) {
            0 => LogLevel::Debug,
            1 => LogLevel::Verbose,
            2 => LogLevel::Notice,
            3 => LogLevel::Warning,
            _ => LogLevel::Nothing,
        }
    }
}

fn allows(guard: Guard, local: bool) -> bool {
    match guard {
        Guard::No => false,
        Guard::Yes => true,
        Guard::Local => local,
    }
}
