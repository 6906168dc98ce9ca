use datatypes::home::{Home, Limits, Owned};

use super::Dialect;
use crate::code::{VERSION, VERSION_VALKEY, kind};
use crate::crc::checksum;
use crate::error::Reason;
use crate::file::{self, Attributes, Part, Parts};
use crate::payload::{Demands, value, verified};
use crate::tests::{STRICT, content, values};
use crate::write::Writer;

/// A file with these values under the keys 0, 1, ...
fn file_of(values: &[Owned]) -> Vec<u8> {
    let mut writer = Writer::new(true);
    file::header(&mut writer, VERSION);
    for (n, home) in values.iter().enumerate() {
        let (key, value) = (n.to_string(), (home.encoding(), home.payload()));
        file::key(&mut writer, Attributes::default(), key.as_bytes(), value);
        crate::save::value(&mut writer, value.0, value.1);
    }
    file::end(&mut writer);
    let sum = checksum(&writer.out);
    writer.raw(&sum.to_le_bytes());
    writer.out
}

/// The values of a file as their bytes.
fn raw(bytes: &[u8]) -> Vec<Vec<u8>> {
    let (mut parts, mut found) = (Parts::open(bytes, STRICT).unwrap(), Vec::new());
    loop {
        match parts.next_raw().unwrap() {
            Part::Key(_, _, value) => found.push(value),
            Part::End => break,
            _ => {}
        }
    }
    assert!(parts.is_at_end());
    found
}

fn restored(payload: &[u8]) -> (Owned, u8, u16) {
    let lax = Demands {
        checks_sum: true,
        knows_version: false,
    };
    let (body, version) = verified(payload, lax).unwrap();
    (value(body, version, &Limits::default()).unwrap(), body[0], version)
}

#[test]
fn a_value_goes_through_as_it_stands_where_it_is_known() {
    for n in [1, 5, 200, 3000] {
        let values = values(n, &Limits::default());
        let found = raw(&file_of(&values));
        assert_eq!(found.len(), values.len());
        for (value, home) in found.into_iter().zip(&values).rev().take(60) {
            let payload = Dialect::Ours.payload(value.clone(), VERSION).unwrap();
            assert!(payload.starts_with(&value));
            assert_eq!(content(&restored(&payload).0), content(home));
        }
    }
}

#[test]
fn every_server_gets_a_form_that_it_knows() {
    let has_deadlines =
        |value: &[u8]| matches!(value[0], kind::HASH_DEADLINES | kind::HASH_PACK_EX);
    for (dialect, version, latest) in [
        (Dialect::of_version(9), 9, kind::STREAM),
        (Dialect::of_version(10), 10, kind::STREAM_2),
        (Dialect::of_version(11), 11, kind::STREAM_3),
        (Dialect::of_version(12), 12, kind::HASH_PACK_EX),
        (Dialect::of_version(80), 80, kind::HASH_VALKEY),
    ] {
        for n in [1, 5, 200, 3000] {
            let values = values(n, &Limits::default());
            for (value, home) in raw(&file_of(&values))
                .into_iter()
                .zip(&values)
                .rev()
                .take(60)
            {
                let (code, is_volatile) = (value[0], has_deadlines(&value));
                let payload = match dialect.payload(value, VERSION) {
                    Ok(payload) => payload,
                    Err(error) => {
                        let known = !matches!(error.reason, Reason::Foreign(_));
                        assert!(!known && (code > kind::STREAM_3), "{dialect:?} {code} {error}");
                        continue;
                    }
                };
                assert!(!is_volatile || matches!(version, 12 | 80), "{dialect:?} {code}");
                let (back, code, stated) = restored(&payload);
                assert_eq!(stated, version);
                assert!(code <= latest, "{dialect:?} {code}");
                let is_stream = matches!(code, kind::STREAM | kind::STREAM_2);
                if !is_stream {
                    assert_eq!(content(&back), content(home), "{dialect:?} {code}");
                }
            }
        }
    }
}

#[test]
fn what_valkey_writes_is_read_by_redis_and_the_other_way_round() {
    let hash = &values(5, &Limits::default())[10..];
    let hash = hash
        .iter()
        .find(|home| home.scheduled_ms.is_some())
        .expect("one has deadlines");
    let [value] = &raw(&file_of(std::slice::from_ref(hash)))[..] else {
        panic!("one value");
    };
    let there = Dialect::Valkey(VERSION_VALKEY)
        .payload(value.clone(), VERSION)
        .unwrap();
    let (body, version) = verified(&there, STRICT).unwrap();
    assert_eq!(body[0], kind::HASH_VALKEY);
    let back = Dialect::Redis(VERSION)
        .payload(body.to_vec(), version)
        .unwrap();
    let (home, code, _) = restored(&back);
    assert_eq!(code, kind::HASH_DEADLINES);
    assert_eq!(content(&home), content(hash));
    let refused = Dialect::Redis(11)
        .payload(body.to_vec(), version)
        .unwrap_err();
    assert!(matches!(refused.reason, Reason::Foreign(_)));
}
