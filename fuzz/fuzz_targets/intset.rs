//! An intset must agree with a tree of integers; damaged bytes must be refused or be an intset.
//!
//! Input: operations of ten bytes: what to do, how wide the number is, the number.

#![no_main]

use std::collections::BTreeSet;

use datatypes::encoding::intset;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    if intset::validate(input).is_ok() {
        assert!(intset::iter(input).all(|n| intset::contains(input, n)));
    }
    let (mut set, mut model) = (intset::EMPTY.to_vec(), BTreeSet::new());
    for step in input.chunks_exact(10) {
        let n = number(step[1], &step[2..]);
        match step[0] % 4 {
            0 => assert_eq!(intset::remove(&mut set, n), model.remove(&n)),
            1 => assert_eq!(intset::contains(&set, n), model.contains(&n)),
            _ => assert_eq!(intset::add(&mut set, n), model.insert(n)),
        }
        assert_eq!(intset::validate(&set), Ok(()));
        assert_eq!(intset::len(&set), model.len());
    }
    assert!(intset::iter(&set).eq(model.iter().copied()));
    for (rank, n) in model.iter().enumerate() {
        assert_eq!((intset::get(&set, rank), intset::find(&set, *n)), (*n, Ok(rank)));
    }
});

/// Numbers of all widths, so that they meet and the set widens.
fn number(width: u8, bytes: &[u8]) -> i64 {
    let n = bytes.iter().fold(0, |n, &byte| n << 8 | i64::from(byte));
    n >> [60, 48, 32, 0][usize::from(width) % 4]
}
