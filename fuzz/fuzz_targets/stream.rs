//! A stream must agree with a map of its entries, and take back its own blocks; and no bytes may bring
//! it out of order.
//!
//! Input: a first byte that chooses. Operations: what to do, an id, how long the value is, the value.
//! Or: a block as a file has it.

#![no_main]

use std::collections::BTreeMap;

use datatypes::stream::{BlockLimit, Facts, Stream, StreamId, TrimPlan, TrimTarget};
use libfuzzer_sys::fuzz_target;

const ALL: std::ops::RangeInclusive<StreamId> = StreamId::MIN..=StreamId::MAX;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

fuzz_target!(|input: &[u8]| {
    let [choice, rest @ ..] = input else { return };
    if choice & 1 == 0 {
        return load(rest);
    }
    let limit = BlockLimit { bytes: usize::from(*choice) * 8, entries: u64::from(choice >> 4) };
    let (mut stream, mut model) = (Stream::new(), BTreeMap::new());
    let mut rest = rest;
    while let [action, ms, text_len, tail @ ..] = rest {
        let (text, tail) = tail.split_at(usize::from(*text_len).min(tail.len()));
        rest = tail;
        step(&mut stream, &mut model, (*action, u64::from(*ms)), text, limit);
        stream.check_invariants();
    }
    check(&stream, &model);
    let mut copy = Stream::new();
    for (base, pack) in stream.blocks() {
        copy.push_block(base, pack.to_vec()).expect("blocks are valid");
    }
    copy.restore_facts(stream.facts()).expect("facts agree");
    check(&copy, &model);
});

fn load(bytes: &[u8]) {
    let mut stream = Stream::new();
    if stream.push_block(StreamId::new(1, 1), bytes.to_vec()).is_ok() {
        let last_id = StreamId::MAX;
        let facts = Facts { last_id, entries_added: u64::MAX, ..Facts::default() };
        stream.restore_facts(facts).expect("the largest facts agree with everything");
        stream.check_invariants();
        let first = stream.first_id();
        assert!(stream.delete(first));
        stream.check_invariants();
    }
}

fn step(
    stream: &mut Stream,
    model: &mut BTreeMap<StreamId, Fields>,
    (action, number): (u8, u64),
    text: &[u8],
    limit: BlockLimit,
) {
    let id = StreamId::new(number / 3, number % 3);
    match action & 7 {
        0 => assert_eq!(stream.delete(id), model.remove(&id).is_some()),
        1 => {
            let len = model.len().min(number as usize);
            let target = TrimTarget::Length(len as u64);
            stream.trim(TrimPlan { target, is_approximate: false, limit: 0 }, None);
            while model.len() > len {
                model.pop_first();
            }
        }
        2 => {
            let target = TrimTarget::MinId(id);
            stream.trim(TrimPlan { target, is_approximate: false, limit: 0 }, None);
            *model = model.split_off(&id);
        }
        _ => {
            let last = stream.facts().last_id;
            let id = StreamId::new(last.ms + number % 2, last.seq + number % 3);
            let names = (0..1 + action % 3).map(|n| vec![b'a' + n + (action >> 6)]);
            let fields: Fields = names.map(|name| (name, text.to_vec())).collect();
            let pairs = fields.iter().map(|(name, value)| (&name[..], &value[..]));
            if stream.append(id, pairs, limit).is_ok() {
                model.insert(id, fields);
            }
        }
    }
}

fn check(stream: &Stream, model: &BTreeMap<StreamId, Fields>) {
    stream.check_invariants();
    let seen = |entry: datatypes::stream::Entry<'_>| {
        let fields = entry.fields().map(|(name, value)| (name.to_vec(), value.to_vec()));
        (entry.id, fields.collect::<Fields>())
    };
    let expected = || model.iter().map(|(id, fields)| (*id, fields.clone()));
    assert!(stream.range(ALL).map(seen).eq(expected()));
    assert!(stream.range(ALL).rev().map(seen).eq(expected().rev()));
    for id in model.keys() {
        assert!(stream.get(*id).is_some());
    }
}
