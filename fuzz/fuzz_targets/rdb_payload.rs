//! Any bytes as a payload and as a file: refused, or a value that can be dumped and read again.

#![no_main]

use datatypes::home::{Home, Limits};
use libfuzzer_sys::fuzz_target;
use rdb::file::{Part, Parts};
use rdb::payload::{self, Demands};

const STRICT: Demands = Demands {
    checks_sum: true,
    knows_version: true,
};
const LAX: Demands = Demands {
    checks_sum: false,
    knows_version: false,
};

fuzz_target!(|bytes: &[u8]| {
    let limits = Limits::default();
    for version in [12, 80] {
        if let Ok(home) = payload::value(bytes, version, &limits) {
            let dumped = payload::of_value(home.encoding(), home.payload(), true);
            let (body, version) = payload::verified(&dumped, STRICT).expect("it was just signed");
            let again = payload::value(body, version, &limits).expect("it was just written");
            assert_eq!(again.encoding(), home.encoding());
        }
    }
    let mut file = b"REDIS0012".to_vec();
    file.extend_from_slice(bytes);
    let mut raw = Vec::new();
    if let Ok(mut parts) = Parts::open(&file[..], LAX) {
        while let Ok(part) = parts.next_raw() {
            match part {
                Part::Key(key, _, _) | Part::Emptied(key) => raw.push(key),
                Part::End => break,
                _ => {}
            }
        }
    }
    let mut keys = raw.into_iter();
    if let Ok(mut parts) = Parts::open(&file[..], LAX) {
        while let Ok(part) = parts.next(&limits) {
            match part {
                // What is read was also passed over, and ended at the same place.
                Part::Key(key, _, _) => assert_eq!(keys.next(), Some(key)),
                Part::Emptied(_) => drop(keys.next()),
                Part::End => break,
                _ => {}
            }
        }
    }
});
