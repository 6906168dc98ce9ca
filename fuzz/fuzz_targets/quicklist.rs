//! A quicklist must agree with a vector of texts, whatever its nodes' limit.
//!
//! Input: the limit, then operations: what to do, where, how long the text is, the text.

#![no_main]

use datatypes::encoding::quicklist::{NodeLimit, QuickList, Side};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let [limit, rest @ ..] = input else { return };
    // A few items a node, or 4 to 64 KiB; a long text then has a node of its own.
    let limit = NodeLimit::from_directive(i64::from(*limit as i8 % 8));
    let (mut list, mut model) = (QuickList::new(), Vec::new());
    let mut rest = rest;
    while let [action, place, text_len, tail @ ..] = rest {
        let (text, tail) = tail.split_at(usize::from(*text_len).min(tail.len()));
        rest = tail;
        let text = if action >> 5 == 0 { text.repeat(300) } else { text.to_vec() };
        step(&mut list, &mut model, *action, usize::from(*place), text, limit);
        list.check_invariants();
    }
    check(&list, &model);
});

fn step(
    list: &mut QuickList,
    model: &mut Vec<Vec<u8>>,
    action: u8,
    place: usize,
    text: Vec<u8>,
    limit: NodeLimit,
) {
    let index = place % (model.len() + 1);
    match action & 15 {
        0 | 1 => {
            list.push(Side::Head, &text, limit);
            model.insert(0, text);
        }
        2 | 3 => {
            list.insert(index, &text, limit);
            model.insert(index, text);
        }
        4 | 5 if index < model.len() => {
            list.set(index, &text, limit);
            model[index] = text;
        }
        6 => {
            let end = (index + (place >> 3)).min(model.len());
            list.remove_range(index..end);
            model.drain(index..end);
        }
        7 => {
            let (max, reverse) = (1 + (place & 3), place & 4 == 4);
            let equal = |text: &[u8], kept: &Vec<u8>| kept == text;
            let mut left = max;
            let mut keep = |kept: &Vec<u8>| {
                let goes = left > 0 && equal(&text, kept);
                left -= usize::from(goes);
                !goes
            };
            if reverse {
                model.reverse();
                model.retain(&mut keep);
                model.reverse();
            } else {
                model.retain(&mut keep);
            }
            assert_eq!(list.remove_equal(&text, max, reverse), max - left);
        }
        8 | 9 => {
            let side = if place & 1 == 0 { Side::Head } else { Side::Tail };
            let wanted = match side {
                Side::Head if !model.is_empty() => Some(model.remove(0)),
                Side::Head => None,
                Side::Tail => model.pop(),
            };
            let mut popped = None;
            assert_eq!(list.pop(side, &mut |item| popped = Some(item.to_vec())), wanted.is_some());
            assert_eq!(popped, wanted);
        }
        10 => check(list, model),
        _ => {
            list.push(Side::Tail, &text, limit);
            model.push(text);
        }
    }
}

fn check(list: &QuickList, model: &[Vec<u8>]) {
    assert_eq!(list.len(), model.len());
    let all = 0..usize::MAX;
    assert!(list.range(all.clone(), false).map(|item| item.to_vec()).eq(model.iter().cloned()));
    assert!(list.range(all, true).map(|item| item.to_vec()).eq(model.iter().rev().cloned()));
    for (index, text) in model.iter().enumerate() {
        assert_eq!(list.get(index).map(|item| item.to_vec()).as_ref(), Some(text));
    }
}
