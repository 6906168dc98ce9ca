//! Keyspace events: a class and a name.

use crate::config::notify::EventClasses;

/// What happened to a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Event {
    /// The class that `notify-keyspace-events` filters by.
    pub class: EventClasses,
    /// The name that is published.
    pub name: &'static str,
}

impl Event {
    /// A change that nobody is told of.
    pub const SILENT: Event = Event {
        class: EventClasses::NONE,
        name: "",
    };
}

macro_rules! makers {
    ($($maker:ident $class:ident)*) => {
        impl Event {
            $(
                #[doc = concat!("An event of the class `", stringify!($class), "`.")]
                pub const fn $maker(name: &'static str) -> Event {
                    Event { class: EventClasses::$class, name }
                }
            )*
        }
    };
}

makers! {
    generic GENERIC
    string STRING
    list LIST
    set SET
    hash HASH
    zset ZSET
    stream STREAM
    expired EXPIRED
    evicted EVICTED
    new_key NEW_KEY
    key_miss KEY_MISS
}
