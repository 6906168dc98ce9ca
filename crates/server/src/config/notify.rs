//! The event classes of `notify-keyspace-events`.
//!
//! Bits are this server's own; the letters are the protocol's. `K` and `E` choose the channels
//! (`__keyspace@0__:key` and `__keyevent@0__:event`), the others choose the events.

/// A set of event classes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct EventClasses(u32);

/// Letters in the order CONFIG GET prints them; the bit of a letter is its position.
const LETTERS: &[u8; 14] = b"g$lshzxetdKEmn";

impl EventClasses {
    /// No event, no channel.
    pub const NONE: EventClasses = EventClasses(0);
    /// Commands of no particular type: DEL, EXPIRE, RENAME.
    pub const GENERIC: EventClasses = EventClasses(1);
    /// String commands.
    pub const STRING: EventClasses = EventClasses(1 << 1);
    /// List commands.
    pub const LIST: EventClasses = EventClasses(1 << 2);
    /// Set commands.
    pub const SET: EventClasses = EventClasses(1 << 3);
    /// Hash commands.
    pub const HASH: EventClasses = EventClasses(1 << 4);
    /// Sorted-set commands.
    pub const ZSET: EventClasses = EventClasses(1 << 5);
    /// A key whose deadline passed.
    pub const EXPIRED: EventClasses = EventClasses(1 << 6);
    /// A key evicted for memory.
    pub const EVICTED: EventClasses = EventClasses(1 << 7);
    /// Stream commands.
    pub const STREAM: EventClasses = EventClasses(1 << 8);
    /// Module events.
    pub const MODULE: EventClasses = EventClasses(1 << 9);
    /// Publish on the key's channel.
    pub const KEYSPACE: EventClasses = EventClasses(1 << 10);
    /// Publish on the event's channel.
    pub const KEYEVENT: EventClasses = EventClasses(1 << 11);
    /// A read that missed; not part of `A`.
    pub const KEY_MISS: EventClasses = EventClasses(1 << 12);
    /// A key that was created; not part of `A`.
    pub const NEW_KEY: EventClasses = EventClasses(1 << 13);
    /// Commands of types whose values can become empty.
    pub const COLLECTIONS: EventClasses = EventClasses(0b11_1100);
    /// What the letter `A` stands for.
    pub const ALL: EventClasses = EventClasses(0x3ff);

    /// Reads class letters; `None` if one is unknown.
    pub fn parse(letters: &[u8]) -> Option<EventClasses> {
        let mut classes = EventClasses::NONE;
        for letter in letters {
            classes = classes.union(match letter {
                b'A' => EventClasses::ALL,
                letter => {
                    let position = LETTERS.iter().position(|known| known == letter)?;
                    EventClasses(1 << position)
                }
            });
        }
        Some(classes)
    }

    /// The letters CONFIG GET answers, with `A` where all of its classes are in.
    pub fn letters(self) -> String {
        let mut text = String::new();
        let mut rest = self;
        if self.contains(EventClasses::ALL) {
            text.push('A');
            rest = EventClasses(self.0 & !EventClasses::ALL.0);
        }
        for (position, letter) in LETTERS.iter().enumerate() {
            if rest.0 & (1 << position) != 0 {
                text.push(char::from(*letter));
            }
        }
        text
    }

    /// The set as a number.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The set of a number that [`bits`](Self::bits) returned.
    pub const fn from_bits(bits: u32) -> EventClasses {
        EventClasses(bits)
    }

    /// Whether all of `other` is in.
    pub const fn contains(self, other: EventClasses) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any of `other` is in.
    pub const fn intersects(self, other: EventClasses) -> bool {
        self.0 & other.0 != 0
    }

    /// Both sets together.
    pub const fn union(self, other: EventClasses) -> EventClasses {
        EventClasses(self.0 | other.0)
    }
}

#[cfg(test)]
mod tests {
    use super::EventClasses;

    #[test]
    fn letters_come_back_in_the_order_of_the_peer() {
        for (given, printed) in [
            ("KEA", "AKE"),
            ("AKEm", "AKEm"),
            ("Kg$", "g$K"),
            ("g$lshzxetd", "A"),
            ("", ""),
        ] {
            let classes = EventClasses::parse(given.as_bytes()).expect("valid");
            assert_eq!(classes.letters(), printed);
        }
        assert_eq!(EventClasses::parse(b"KX"), None);
    }
}
