//! The sharded keyspace: entries, locks, deadlines, scans, snapshots.
