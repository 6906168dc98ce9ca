//! A listpack must agree with a vector of texts; damaged bytes must be refused or be walkable.
//!
//! Input: operations: what to do, where, how long the text is, the text.

#![no_main]

use datatypes::encoding::listpack;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if listpack::validate(input).is_ok() {
        assert_eq!(listpack::iter(input).count(), listpack::iter_rev(input).count());
    }
    let (mut pack, mut model) = (listpack::EMPTY.to_vec(), Vec::new());
    let mut rest = input;
    while let [action, place, text_len, tail @ ..] = rest {
        let (text, tail) = tail.split_at(usize::from(*text_len).min(tail.len()));
        rest = tail;
        step(&mut pack, &mut model, *action, usize::from(*place), &text_of(*action, text));
        check(&pack, &model);
    }
});

/// The text itself, a decimal number made of it, or a long text.
fn text_of(action: u8, text: &[u8]) -> Vec<u8> {
    match action >> 6 {
        0 => text.repeat(32),
        1 => {
            let n = text
                .iter()
                .take(8)
                .fold(0, |n, &byte| n << 8 | i64::from(byte));
            n.wrapping_neg().to_string().into_bytes()
        }
        _ => text.to_vec(),
    }
}

fn step(pack: &mut Vec<u8>, model: &mut Vec<Vec<u8>>, action: u8, place: usize, text: &[u8]) {
    let index = place % (model.len() + 1);
    let at = listpack::seek(pack, index as i64).unwrap_or_else(|| listpack::end(pack));
    match action & 7 {
        0 => {
            listpack::push_front(pack, text);
            model.insert(0, text.to_vec());
        }
        1 | 2 => {
            listpack::insert_before(pack, at, text);
            model.insert(index, text.to_vec());
        }
        3 if index < model.len() => {
            listpack::replace(pack, at, text);
            model[index] = text.to_vec();
        }
        4 => {
            let n = place >> 6;
            listpack::remove(pack, at, n);
            model.drain(index..(index + n).min(model.len()));
        }
        _ => {
            listpack::push_back(pack, text);
            model.push(text.to_vec());
        }
    }
}

fn check(pack: &[u8], model: &[Vec<u8>]) {
    assert_eq!(listpack::validate(pack), Ok(()));
    assert_eq!(listpack::len(pack), model.len());
    assert!(
        listpack::iter(pack)
            .map(|item| item.to_vec())
            .eq(model.iter().cloned())
    );
    assert!(
        listpack::iter_rev(pack)
            .map(|item| item.to_vec())
            .eq(model.iter().rev().cloned())
    );
    if let Some(last) = model.last() {
        let first_equal = model.iter().position(|text| text == last);
        let found = listpack::find(pack, last, 0);
        assert_eq!(found, first_equal.and_then(|n| listpack::seek(pack, n as i64)));
    }
}
