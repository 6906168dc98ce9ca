//! Every directive, one row each, by name.
//!
//! A row says what the directive is called, what it may hold, what it holds by default, and its
//! *standing*: without a further word it has an effect here; `tuning` means it is accepted, kept and
//! listed, and the note says why it changes nothing; `refused` means it would promise something that
//! does not exist yet, so only its off values are taken. CONFIG GET, SET and REWRITE, the file
//! parser and COMPAT.md derive from these rows. The rows stay sorted by name.

use super::directive::{
    Directive, boolean, choice, choices, directory, integer, memory, memory_or_percent, octal,
    special, text,
};
use super::special::{
    bind, events, oom_scores, output_limits, percentiles, replicaof, save_points, words,
};

const INT: i64 = i32::MAX as i64;
/// Databases are numbered in 16 bits, and so is their count.
const DATABASES_MAX: i64 = u16::MAX as i64;
const HALF: u64 = i64::MAX as u64;

const ALWAYS_LAZY: &str = "values are freed off the event loops either way";
const TOLD_LAZY: &str = "values are freed off the event loops either way; it says whether others are told by UNLINK or by DEL";
const NO_CLUSTER: &str = "there is no cluster mode yet";
const NO_DEFRAG: &str = "there is no defragmentation pass";
const NO_RDMA: &str = "RDMA is not served";
const NO_TLS: &str = "there is no TLS yet";
const NO_TYPE: &str = "the type it tunes does not exist yet";

/// All directives, sorted by name.
pub const DIRECTIVES: &[Directive] = &[
    choice("acl-pubsub-default", "resetchannels", &["allchannels", "resetchannels"]),
    text("aclfile", "").fixed(),
    integer("acllog-max-len", "128", 0, i64::MAX),
    integer("active-defrag-cycle-max", "25", 1, 99).tuning(NO_DEFRAG),
    integer("active-defrag-cycle-min", "1", 1, 99).tuning(NO_DEFRAG),
    integer("active-defrag-cycle-us", "500", 0, 100_000)
        .valkey()
        .tuning(NO_DEFRAG),
    memory("active-defrag-ignore-bytes", "104857600", 1, HALF).tuning(NO_DEFRAG),
    integer("active-defrag-max-scan-fields", "1000", 1, i64::MAX).tuning(NO_DEFRAG),
    integer("active-defrag-threshold-lower", "10", 0, 1000).tuning(NO_DEFRAG),
    integer("active-defrag-threshold-upper", "100", 0, 1000).tuning(NO_DEFRAG),
    integer("active-expire-effort", "1", 1, 10).tuning("due keys go on time without sampling"),
    boolean("activedefrag", "no").refused(&["no"], "the allocator cannot be defragmented"),
    boolean("activerehashing", "yes").tuning("tables grow one bucket at a time"),
    boolean("always-show-logo", "no")
        .fixed()
        .tuning("there is no logo"),
    boolean("aof-disable-auto-gc", "no").hidden(),
    memory("aof-load-corrupt-tail-max-size", "0", 0, HALF).own(),
    boolean("aof-load-truncated", "yes"),
    boolean("aof-record-checksum", "no").own(),
    text("aof-rewrite-cpulist", "")
        .alias("aof_rewrite_cpulist")
        .fixed()
        .tuning("threads are not pinned"),
    boolean("aof-rewrite-incremental-fsync", "yes"),
    boolean("aof-timestamp-enabled", "no"),
    boolean("aof-use-rdb-preamble", "yes"),
    text("appenddirname", "appendonlydir").fixed(),
    text("appendfilename", "appendonly.aof").fixed(),
    choice("appendfsync", "everysec", &["everysec", "always", "no"]),
    boolean("appendonly", "no"),
    memory("auto-aof-rewrite-min-size", "67108864", 0, HALF),
    integer("auto-aof-rewrite-percentage", "100", 0, INT),
    text("availability-zone", "").valkey(),
    text("bgsave-cpulist", "")
        .alias("bgsave_cpulist")
        .fixed()
        .tuning("threads are not pinned"),
    special("bind", "* -::*", bind),
    text("bind-source-addr", ""),
    text("bio-cpulist", "")
        .alias("bio_cpulist")
        .fixed()
        .tuning("threads are not pinned"),
    integer("busy-reply-threshold", "5000", 0, i64::MAX).alias("lua-time-limit"),
    integer("client-default-resp", "2", 2, 3)
        .fixed()
        .hidden()
        .refused(&["2"], "sessions begin in RESP2"),
    special(
        "client-output-buffer-limit",
        "normal 0 0 0 slave 268435456 67108864 60 pubsub 33554432 8388608 60",
        output_limits,
    ),
    memory("client-query-buffer-limit", "1073741824", 1_048_576, HALF),
    boolean("cluster-allow-pubsubshard-when-down", "yes").tuning(NO_CLUSTER),
    boolean("cluster-allow-reads-when-down", "no").tuning(NO_CLUSTER),
    boolean("cluster-allow-replica-migration", "yes").tuning(NO_CLUSTER),
    integer("cluster-announce-bus-port", "0", 0, 65_535).tuning(NO_CLUSTER),
    text("cluster-announce-client-ipv4", "")
        .valkey()
        .tuning(NO_CLUSTER),
    text("cluster-announce-client-ipv6", "")
        .valkey()
        .tuning(NO_CLUSTER),
    integer("cluster-announce-client-port", "0", 0, 65_535)
        .valkey()
        .tuning(NO_CLUSTER),
    integer("cluster-announce-client-tls-port", "0", 0, 65_535)
        .valkey()
        .tuning(NO_CLUSTER),
    text("cluster-announce-hostname", "").tuning(NO_CLUSTER),
    text("cluster-announce-human-nodename", "").tuning(NO_CLUSTER),
    text("cluster-announce-ip", "").tuning(NO_CLUSTER),
    integer("cluster-announce-port", "0", 0, 65_535).tuning(NO_CLUSTER),
    integer("cluster-announce-tls-port", "0", 0, 65_535).tuning(NO_CLUSTER),
    integer("cluster-blacklist-ttl", "60", 0, i64::MAX)
        .valkey()
        .tuning(NO_CLUSTER),
    integer("cluster-compatibility-sample-ratio", "0", 0, 100).tuning(NO_CLUSTER),
    text("cluster-config-file", "nodes.conf")
        .fixed()
        .tuning(NO_CLUSTER),
    choice("cluster-config-save-behavior", "sync", &["sync", "best-effort"])
        .valkey()
        .tuning(NO_CLUSTER),
    integer("cluster-databases", "1", 1, INT)
        .fixed()
        .valkey()
        .tuning(NO_CLUSTER),
    boolean("cluster-enabled", "no")
        .fixed()
        .refused(&["no"], "cluster mode does not exist yet"),
    memory("cluster-link-sendbuf-limit", "0", 0, u64::MAX).tuning(NO_CLUSTER),
    integer("cluster-manual-failover-timeout", "5000", 1, INT)
        .valkey()
        .tuning(NO_CLUSTER),
    integer("cluster-message-gossip-perc", "10", 1, 100)
        .hidden()
        .valkey()
        .tuning(NO_CLUSTER),
    integer("cluster-migration-barrier", "1", 0, INT).tuning(NO_CLUSTER),
    integer("cluster-node-timeout", "15000", 0, i64::MAX).tuning(NO_CLUSTER),
    integer("cluster-ping-interval", "0", 0, i64::MAX)
        .hidden()
        .tuning(NO_CLUSTER),
    integer("cluster-port", "0", 0, 65_535)
        .fixed()
        .tuning(NO_CLUSTER),
    choice("cluster-preferred-endpoint-type", "ip", &["ip", "hostname", "unknown-endpoint"])
        .tuning(NO_CLUSTER),
    boolean("cluster-replica-no-failover", "no")
        .alias("cluster-slave-no-failover")
        .tuning(NO_CLUSTER),
    integer("cluster-replica-validity-factor", "10", 0, INT)
        .alias("cluster-slave-validity-factor")
        .tuning(NO_CLUSTER),
    boolean("cluster-require-full-coverage", "yes").tuning(NO_CLUSTER),
    integer("cluster-slot-migration-log-max-len", "1000", 0, i64::MAX)
        .valkey()
        .tuning(NO_CLUSTER),
    boolean("cluster-slot-stats-enabled", "no").tuning(NO_CLUSTER),
    integer("commandlog-large-reply-max-len", "128", 0, i64::MAX).valkey(),
    integer("commandlog-large-request-max-len", "128", 0, i64::MAX).valkey(),
    integer("commandlog-reply-larger-than", "1048576", -1, i64::MAX).valkey(),
    integer("commandlog-request-larger-than", "1048576", -1, i64::MAX).valkey(),
    boolean("crash-log-enabled", "yes").tuning("there are no crash reports yet"),
    boolean("crash-memcheck-enabled", "yes").tuning("there are no crash reports yet"),
    boolean("daemonize", "no").fixed(),
    integer("databases", "16", 1, DATABASES_MAX).fixed(),
    text("dbfilename", "dump.rdb").protected(),
    text("debug-context", "")
        .hidden()
        .valkey()
        .tuning("kept for the operator"),
    directory("dir", "./").protected(),
    boolean("disable-thp", "yes").fixed(),
    boolean("dual-channel-replication-enabled", "no").valkey(),
    boolean("dynamic-hz", "yes").tuning("event loops have no fixed pace; the value is only shown"),
    boolean("enable-debug-assert", "no")
        .fixed()
        .hidden()
        .valkey()
        .tuning("kept for the operator"),
    choice("enable-debug-command", "no", &["no", "yes", "local"]).fixed(),
    choice("enable-module-command", "no", &["no", "yes", "local"]).fixed(),
    choice("enable-protected-configs", "no", &["no", "yes", "local"]).fixed(),
    boolean("extended-redis-compatibility", "no")
        .valkey()
        .tuning("kept for the operator"),
    integer("hash-max-listpack-entries", "512", 0, i64::MAX)
        .unsigned()
        .alias("hash-max-ziplist-entries"),
    memory("hash-max-listpack-value", "64", 0, HALF).alias("hash-max-ziplist-value"),
    text("hash-seed", "").fixed().valkey(),
    boolean("hide-user-data-from-log", "no"),
    memory("hll-sparse-max-bytes", "3000", 0, HALF),
    integer("hz", "10", 0, INT).tuning("event loops have no fixed pace; the value is only shown"),
    text("ignore-warnings", "").tuning("start-up prints no such warnings"),
    boolean("import-mode", "no").valkey(),
    integer("io-threads", "1", 1, 128).tuning("`threads` sets the number of event loops"),
    boolean("io-threads-always-active", "no")
        .hidden()
        .valkey()
        .tuning("`threads` sets the number of event loops"),
    boolean("jemalloc-bg-thread", "yes").tuning("the allocator is not jemalloc"),
    integer("key-load-delay", "0", -INT - 1, INT).hidden(),
    integer("latency-monitor-threshold", "0", 0, i64::MAX),
    boolean("latency-tracking", "yes"),
    special("latency-tracking-info-percentiles", "50 99 99.9", percentiles),
    boolean("lazyfree-lazy-eviction", "no").tuning(TOLD_LAZY),
    boolean("lazyfree-lazy-expire", "no").tuning(TOLD_LAZY),
    boolean("lazyfree-lazy-server-del", "no").tuning(TOLD_LAZY),
    boolean("lazyfree-lazy-user-del", "no").tuning(ALWAYS_LAZY),
    boolean("lazyfree-lazy-user-flush", "no").tuning(ALWAYS_LAZY),
    integer("lfu-decay-time", "1", 0, INT),
    integer("lfu-log-factor", "10", 0, INT),
    integer("list-compress-depth", "0", 0, INT).tuning("lists are not compressed"),
    integer("list-max-listpack-size", "-2", -INT - 1, INT).alias("list-max-ziplist-size"),
    integer("loading-process-events-interval-bytes", "524288", 1024, INT).hidden(),
    text("locale-collate", "").refused(&["", "C", "POSIX"], "strings compare byte by byte only"),
    choice("log-format", "legacy", &["legacy", "logfmt", "json"])
        .valkey()
        .refused(&["legacy"], "the log has one format"),
    choice("log-timestamp-format", "legacy", &["legacy", "iso8601", "milliseconds"])
        .valkey()
        .refused(&["legacy"], "the log has one format"),
    text("logfile", "").fixed(),
    choice("loglevel", "notice", &["debug", "verbose", "notice", "warning", "nothing"]),
    boolean("lua-enable-deprecated-api", "no")
        .alias("lua-enable-insecure-api")
        .protected()
        .hidden(),
    text("masterauth", "").alias("primaryauth").sensitive(),
    text("masteruser", "").alias("primaryuser").sensitive(),
    integer("max-new-connections-per-cycle", "10", 1, 1000)
        .unsigned()
        .tuning("every accepted connection is served at once"),
    integer("max-new-tls-connections-per-cycle", "1", 1, 1000)
        .unsigned()
        .tuning(NO_TLS),
    integer("maxclients", "10000", 1, 4_294_967_295).unsigned(),
    memory("maxmemory", "0", 0, u64::MAX),
    memory_or_percent("maxmemory-clients", "0"),
    integer("maxmemory-eviction-tenacity", "10", 0, 100),
    choice(
        "maxmemory-policy",
        "noeviction",
        &[
            "volatile-lru",
            "volatile-lfu",
            "volatile-random",
            "volatile-ttl",
            "allkeys-lru",
            "allkeys-lfu",
            "allkeys-random",
            "noeviction",
        ],
    ),
    integer("maxmemory-samples", "5", 1, 64),
    integer("min-io-threads-avoid-copy-reply", "7", 0, INT)
        .hidden()
        .valkey()
        .tuning("`threads` sets the number of event loops"),
    integer("min-replicas-max-lag", "10", 0, INT).alias("min-slaves-max-lag"),
    integer("min-replicas-to-write", "0", 0, INT).alias("min-slaves-to-write"),
    integer("min-string-size-avoid-copy-reply", "16384", 0, INT)
        .hidden()
        .valkey()
        .tuning("replies are copied by size alone"),
    integer("min-string-size-avoid-copy-reply-threaded", "65536", 0, INT)
        .hidden()
        .valkey()
        .tuning("replies are copied by size alone"),
    boolean("mptcp", "no")
        .fixed()
        .valkey()
        .refused(&["no"], "multipath TCP is not used"),
    boolean("no-appendfsync-on-rewrite", "no"),
    special("notify-keyspace-events", "", events),
    choice("oom-score-adj", "no", &["no", "yes", "relative", "absolute"]),
    special("oom-score-adj-values", "0 200 800", oom_scores),
    text("pidfile", "").fixed(),
    integer("port", "6379", 0, 65_535),
    integer("prefetch-batch-max-size", "16", 0, 128)
        .valkey()
        .tuning("batches have a fixed size"),
    text("proc-title-template", "{title} {listen-addr} {server-mode}"),
    choice("propagation-error-behavior", "ignore", &["ignore", "panic", "panic-on-replicas"])
        .tuning("nothing propagates yet"),
    boolean("protected-mode", "yes"),
    memory("proto-max-bulk-len", "536870912", 1_048_576, HALF),
    boolean("rdb-del-sync-files", "no")
        .tuning("the file of a snapshot for replicas has no name and is gone after it"),
    integer("rdb-key-save-delay", "0", -INT - 1, INT).hidden(),
    boolean("rdb-save-incremental-fsync", "yes"),
    choice("rdb-version-check", "strict", &["strict", "relaxed"]).valkey(),
    boolean("rdbchecksum", "yes").fixed(),
    boolean("rdbcompression", "yes"),
    special("rdma-bind", "", words)
        .valkey()
        .refused(&[""], NO_RDMA),
    integer("rdma-completion-vector", "-1", -1, 1024)
        .fixed()
        .valkey()
        .tuning(NO_RDMA),
    integer("rdma-port", "0", 0, 65_535)
        .valkey()
        .refused(&["0"], NO_RDMA),
    integer("rdma-rx-size", "1048576", 65_536, 16_777_216)
        .fixed()
        .valkey()
        .tuning(NO_RDMA),
    memory("repl-backlog-size", "1048576", 1, HALF),
    integer("repl-backlog-ttl", "3600", 0, i64::MAX),
    boolean("repl-disable-tcp-nodelay", "no").tuning("packets are sent at once"),
    choice(
        "repl-diskless-load",
        "disabled",
        &["disabled", "on-empty-db", "swapdb", "flush-before-load"],
    ),
    boolean("repl-diskless-sync", "yes"),
    integer("repl-diskless-sync-delay", "5", 0, INT),
    integer("repl-diskless-sync-max-replicas", "0", 0, INT),
    boolean("repl-mptcp", "no")
        .fixed()
        .valkey()
        .refused(&["no"], "multipath TCP is not used"),
    integer("repl-ping-replica-period", "10", 1, INT).alias("repl-ping-slave-period"),
    boolean("repl-rdb-channel", "yes").hidden(),
    integer("repl-timeout", "60", 1, INT),
    text("replica-announce-ip", "").alias("slave-announce-ip"),
    integer("replica-announce-port", "0", 0, 65_535).alias("slave-announce-port"),
    boolean("replica-announced", "yes"),
    memory("replica-full-sync-buffer-limit", "0", 0, HALF),
    boolean("replica-ignore-disk-write-errors", "no")
        .tuning("a replica that cannot write its append-only file goes on"),
    boolean("replica-ignore-maxmemory", "yes").alias("slave-ignore-maxmemory"),
    boolean("replica-lazy-flush", "no")
        .alias("slave-lazy-flush")
        .tuning("old data is freed by a thread anyway"),
    integer("replica-priority", "100", 0, INT).alias("slave-priority"),
    boolean("replica-read-only", "yes").alias("slave-read-only"),
    boolean("replica-serve-stale-data", "yes").alias("slave-serve-stale-data"),
    special("replicaof", "", replicaof).alias("slaveof").fixed(),
    text("req-res-logfile", "")
        .fixed()
        .hidden()
        .refused(&[""], "requests are not recorded"),
    text("requirepass", "").sensitive(),
    choice("sanitize-dump-payload", "no", &["no", "yes", "clients"])
        .tuning("payloads are always checked"),
    special("save", "3600 1 300 100 60 10000", save_points),
    text("server-cpulist", "")
        .alias("server_cpulist")
        .fixed()
        .tuning("threads are not pinned"),
    integer("set-max-intset-entries", "512", 0, i64::MAX).unsigned(),
    integer("set-max-listpack-entries", "128", 0, i64::MAX).unsigned(),
    integer("set-max-listpack-value", "64", 0, i64::MAX).unsigned(),
    boolean("set-proc-title", "yes").fixed(),
    choices("shutdown-on-sigint", "default", &["default", "save", "nosave", "now", "force"]),
    choices("shutdown-on-sigterm", "default", &["default", "save", "nosave", "now", "force"]),
    integer("shutdown-timeout", "10", 0, INT),
    memory("slot-migration-max-failover-repl-bytes", "0", -1, HALF)
        .valkey()
        .tuning(NO_CLUSTER),
    integer("slowlog-log-slower-than", "10000", -1, i64::MAX)
        .alias("commandlog-execution-slower-than"),
    integer("slowlog-max-len", "128", 0, i64::MAX).alias("commandlog-slow-execution-max-len"),
    integer("socket-mark-id", "0", 0, 4_294_967_295)
        .fixed()
        .tuning("kept for the operator"),
    boolean("stop-writes-on-bgsave-error", "yes"),
    memory("stream-node-max-bytes", "4096", 0, HALF),
    integer("stream-node-max-entries", "100", 0, i64::MAX),
    choice("supervised", "no", &["upstart", "systemd", "auto", "no"]).fixed(),
    boolean("syslog-enabled", "no")
        .fixed()
        .refused(&["no"], "nothing is sent to syslog"),
    choice(
        "syslog-facility",
        "local0",
        &[
            "user", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7",
        ],
    )
    .fixed()
    .tuning("kept for the operator"),
    text("syslog-ident", "redis")
        .fixed()
        .tuning("kept for the operator"),
    integer("tcp-backlog", "511", 0, INT).fixed(),
    integer("tcp-keepalive", "300", 0, INT),
    integer("threads", "0", 0, 128).fixed().own(),
    integer("timeout", "0", 0, INT),
    choice("tls-auth-clients", "yes", &["no", "yes", "optional"]).tuning(NO_TLS),
    choice("tls-auth-clients-user", "off", &["CN", "URI", "off"])
        .valkey()
        .refused(&["off"], NO_TLS),
    integer("tls-auto-reload-interval", "0", 0, INT)
        .valkey()
        .tuning(NO_TLS),
    text("tls-ca-cert-dir", "").tuning(NO_TLS),
    text("tls-ca-cert-file", "").tuning(NO_TLS),
    text("tls-cert-file", "").tuning(NO_TLS),
    text("tls-ciphers", "").tuning(NO_TLS),
    text("tls-ciphersuites", "").tuning(NO_TLS),
    text("tls-client-cert-file", "").tuning(NO_TLS),
    text("tls-client-key-file", "").tuning(NO_TLS),
    text("tls-client-key-file-pass", "")
        .sensitive()
        .tuning(NO_TLS),
    boolean("tls-cluster", "no").refused(&["no"], NO_TLS),
    text("tls-dh-params-file", "").tuning(NO_TLS),
    text("tls-key-file", "").tuning(NO_TLS),
    text("tls-key-file-pass", "").sensitive().tuning(NO_TLS),
    integer("tls-port", "0", 0, 65_535).refused(&["0"], NO_TLS),
    boolean("tls-prefer-server-ciphers", "no").tuning(NO_TLS),
    text("tls-protocols", "").tuning(NO_TLS),
    boolean("tls-replication", "no").refused(&["no"], NO_TLS),
    integer("tls-session-cache-size", "20480", 0, INT).tuning(NO_TLS),
    integer("tls-session-cache-timeout", "300", 0, INT).tuning(NO_TLS),
    boolean("tls-session-caching", "yes").tuning(NO_TLS),
    integer("tracking-table-max-keys", "1000000", 0, i64::MAX).unsigned(),
    text("unixsocket", "").fixed(),
    text("unixsocketgroup", "").fixed().valkey(),
    octal("unixsocketperm", "0", 511).fixed(),
    boolean("use-exit-on-panic", "no")
        .hidden()
        .tuning("there are no crash reports yet"),
    boolean("vset-force-single-threaded-execution", "no").tuning(NO_TYPE),
    integer("watchdog-period", "0", 0, INT)
        .hidden()
        .tuning("there is no watchdog yet"),
    integer("zset-max-listpack-entries", "128", 0, i64::MAX)
        .unsigned()
        .alias("zset-max-ziplist-entries"),
    memory("zset-max-listpack-value", "64", 0, HALF).alias("zset-max-ziplist-value"),
];
