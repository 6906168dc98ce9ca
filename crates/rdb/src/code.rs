//! The numbers of the format: versions, opcodes, type codes.

/// The version that is written when no field of a hash has a deadline: all readers know it.
pub const VERSION_PLAIN: u16 = 11;
/// The version of Redis 7.4 to 8.2, which knows deadlines of fields; payloads always have it.
pub const VERSION: u16 = 12;
/// The version of Valkey 9, whose type codes are others.
pub const VERSION_VALKEY: u16 = 80;

/// The source of a library of functions.
pub const FUNCTION: u8 = 245;
/// The same in a form that was never released.
pub const FUNCTION_PRE_GA: u8 = 246;
/// What a module keeps besides its values.
pub const MODULE_AUX: u8 = 247;
/// Seconds since the next key was used.
pub const IDLE: u8 = 248;
/// How often the next key was used, as a logarithm.
pub const FREQ: u8 = 249;
/// A name and a text about the file.
pub const AUX: u8 = 250;
/// How many keys the database has, and how many with a deadline.
pub const RESIZE_DB: u8 = 251;
/// The next key's deadline in milliseconds.
pub const DEADLINE_MS: u8 = 252;
/// The next key's deadline in seconds.
pub const DEADLINE_S: u8 = 253;
/// The database of the keys that follow.
pub const SELECT_DB: u8 = 254;
/// The end, but for the checksum.
pub const EOF: u8 = 255;
/// How many keys a hash slot has.
pub const SLOT_INFO: u8 = 244;
/// A hash slot that was on its way into a Valkey cluster.
pub const SLOT_IMPORT: u8 = 243;

/// Type codes.
pub mod kind {
    #![allow(missing_docs, reason = "each is the name of a type and of a form")]
    pub const STRING: u8 = 0;
    pub const LIST: u8 = 1;
    pub const SET: u8 = 2;
    pub const ZSET: u8 = 3;
    pub const HASH: u8 = 4;
    pub const ZSET_2: u8 = 5;
    pub const MODULE_PRE_GA: u8 = 6;
    pub const MODULE: u8 = 7;
    pub const HASH_ZIPMAP: u8 = 9;
    pub const LIST_ZIPLIST: u8 = 10;
    pub const SET_INTSET: u8 = 11;
    pub const ZSET_ZIPLIST: u8 = 12;
    pub const HASH_ZIPLIST: u8 = 13;
    pub const LIST_QUICKLIST: u8 = 14;
    pub const STREAM: u8 = 15;
    pub const HASH_LISTPACK: u8 = 16;
    pub const ZSET_LISTPACK: u8 = 17;
    pub const LIST_QUICKLIST_2: u8 = 18;
    pub const STREAM_2: u8 = 19;
    pub const SET_LISTPACK: u8 = 20;
    pub const STREAM_3: u8 = 21;
    pub const STREAM_4: u8 = 26;
    pub const STREAM_5: u8 = 27;
    pub const HASH_DEADLINES_PRE_GA: u8 = 22;
    pub const HASH_PACK_EX_PRE_GA: u8 = 23;
    pub const HASH_DEADLINES: u8 = 24;
    pub const HASH_PACK_EX: u8 = 25;
    /// A hash with deadlines as Valkey writes it, in files and payloads of its versions.
    pub const HASH_VALKEY: u8 = 22;
}

/// The name of a type and its form, for reports.
pub fn kind_name(code: u8, version: u16) -> &'static str {
    match code {
        kind::STRING => "string",
        kind::LIST => "list-linked",
        kind::SET => "set-hashtable",
        kind::ZSET => "zset-v1",
        kind::HASH => "hash-hashtable",
        kind::ZSET_2 => "zset-v2",
        kind::MODULE_PRE_GA | kind::MODULE => "module-value",
        kind::HASH_ZIPMAP => "hash-zipmap",
        kind::LIST_ZIPLIST => "list-ziplist",
        kind::SET_INTSET => "set-intset",
        kind::ZSET_ZIPLIST => "zset-ziplist",
        kind::HASH_ZIPLIST => "hash-ziplist",
        kind::LIST_QUICKLIST => "quicklist",
        kind::STREAM => "stream",
        kind::HASH_LISTPACK => "hash-listpack",
        kind::ZSET_LISTPACK => "zset-listpack",
        kind::LIST_QUICKLIST_2 => "quicklist-v2",
        kind::STREAM_2 => "stream-v2",
        kind::SET_LISTPACK => "set-listpack",
        kind::STREAM_3 => "stream-v3",
        kind::STREAM_4 => "stream-v4",
        kind::STREAM_5 => "stream-v5",
        kind::HASH_VALKEY if version >= VERSION_VALKEY => "hash-v2",
        kind::HASH_DEADLINES_PRE_GA => "hash-hashtable-md-pre-release",
        kind::HASH_PACK_EX_PRE_GA => "hash-listpack-md-pre-release",
        kind::HASH_DEADLINES => "hash-hashtable-md",
        kind::HASH_PACK_EX => "hash-listpack-md",
        _ => "unknown",
    }
}
