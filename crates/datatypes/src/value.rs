//! What OBJECT says of a value, whatever its type.

use crate::home::{Encoding, Payload};
use crate::string::EMBEDDED_MAX_BYTES;

/// The name that OBJECT ENCODING answers.
pub fn encoding_name(encoding: Encoding, payload: Payload<'_>) -> &'static str {
    match encoding {
        Encoding::Int => "int",
        Encoding::Raw => match payload {
            Payload::Blob(bytes) if bytes.len() <= EMBEDDED_MAX_BYTES => "embstr",
            _ => "raw",
        },
        Encoding::Edited => "raw",
        Encoding::IntSet => "intset",
        Encoding::QuickList => "quicklist",
        Encoding::ListPack | Encoding::SetPack | Encoding::HashPack | Encoding::ZsetPack => {
            "listpack"
        }
        Encoding::HashPackEx => "listpackex",
        Encoding::SetTable | Encoding::HashTable => "hashtable",
        Encoding::ZsetTree => "skiplist",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_are_named_by_their_length_unless_edited() {
        let (short, long) = (Payload::Blob(&[b'x'; 44]), Payload::Blob(&[b'x'; 45]));
        assert_eq!(encoding_name(Encoding::Raw, short), "embstr");
        assert_eq!(encoding_name(Encoding::Raw, long), "raw");
        assert_eq!(encoding_name(Encoding::Edited, short), "raw");
        assert_eq!(encoding_name(Encoding::Int, Payload::Int(5)), "int");
    }
}
