//! What FUNCTION DUMP answers and FUNCTION RESTORE takes: see `rdb::payload`.

use rdb::error::Reason;
use rdb::payload::{Demands, functions, of_functions, verified};

/// The payload of these sources.
pub fn dump<'a>(sources: impl Iterator<Item = &'a [u8]>, packs_strings: bool) -> Vec<u8> {
    of_functions(sources, packs_strings)
}

/// The sources in a payload. The error is a whole line.
pub fn restore(payload: &[u8], demands: Demands) -> Result<Vec<Vec<u8>>, &'static str> {
    let (body, _) =
        verified(payload, demands).map_err(|_| "ERR DUMP payload version or checksum are wrong")?;
    functions(body).map_err(|error| match error.reason {
        Reason::Unsupported(_) => "ERR Pre-GA function format not supported",
        Reason::Unknown(_) => "ERR given type is not a function",
        _ => "ERR failed loading the given functions payload",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STRICT: Demands = Demands {
        checks_sum: true,
        knows_version: true,
    };

    #[test]
    fn what_is_dumped_can_be_restored() {
        let sources = [vec![b'a'; 5], vec![b'b'; 100], vec![b'c'; 70_000]];
        for packs in [false, true] {
            let payload = dump(sources.iter().map(|source| &source[..]), packs);
            assert_eq!(restore(&payload, STRICT), Ok(sources.to_vec()));
        }
        assert_eq!(restore(&dump([].into_iter(), true), STRICT), Ok(Vec::new()));
    }

    #[test]
    fn broken_payloads_are_refused() {
        let good = dump([&b"source"[..]].into_iter(), true);
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x55;
            assert!(restore(&bad, STRICT).is_err(), "byte {at}");
            assert!(restore(&good[..at], STRICT).is_err(), "cut at {at}");
        }
        let unsummed = Demands {
            checks_sum: false,
            ..STRICT
        };
        let unchecked = |body: &[u8]| [body, &[12, 0], &[0; 8]].concat();
        for body in [
            &b"\xf5"[..],
            b"\xf5\x05abc",
            b"\x00\x01a",
            b"\xf6\x01a",
            b"\xf5\xc3\x02\x7f\xe0\x00",
        ] {
            assert!(restore(&unchecked(body), unsummed).is_err(), "{body:?}");
        }
    }
}
