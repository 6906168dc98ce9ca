//! The table must agree with a map, and a scan across changes must miss nothing that stayed.
//!
//! Input: operations of three bytes: what to do, the key. Keys have 16 bits, so that they repeat.

#![no_main]

use std::collections::{HashMap, HashSet};
use std::ptr::NonNull;

use datatypes::encoding::table::{Record, Table, hash};
use libfuzzer_sys::fuzz_target;

struct Pair(Box<([u8; 2], u32)>);

// SAFETY: a box's address is stable and owned by the record.
unsafe impl Record for Pair {
    fn into_raw(self) -> NonNull<u8> {
        NonNull::from(Box::leak(self.0)).cast()
    }
    unsafe fn from_raw(raw: NonNull<u8>) -> Pair {
        // SAFETY: made by `into_raw`.
        Pair(unsafe { Box::from_raw(raw.cast().as_ptr()) })
    }
    fn key(&self) -> &[u8] {
        &self.0.0
    }
}

/// A table, what it should hold, and a scan under way.
#[derive(Default)]
struct Trial {
    table: Table<Pair>,
    model: HashMap<[u8; 2], u32>,
    cursor: u64,
    /// Keys that were there when the scan began and are there still.
    stayed: HashSet<[u8; 2]>,
    seen: HashSet<[u8; 2]>,
}

impl Trial {
    fn put(&mut self, key: [u8; 2], value: u32) {
        let pair = Pair(Box::new((key, value)));
        match self.table.find_mut(hash(&key), &key) {
            Some(mut place) => assert_eq!(place.replace(pair).0.1, self.model[&key]),
            None => drop(self.table.insert(hash(&key), pair)),
        }
        self.model.insert(key, value);
    }

    fn remove(&mut self, key: [u8; 2]) {
        let gone = self
            .table
            .find_mut(hash(&key), &key)
            .map(|place| place.remove().0.1);
        assert_eq!(gone, self.model.remove(&key));
        self.stayed.remove(&key);
    }

    fn scan(&mut self) {
        if self.cursor == 0 {
            self.stayed = self.model.keys().copied().collect();
            self.seen.clear();
        }
        let seen = &mut self.seen;
        self.cursor = self.table.scan(self.cursor, &mut |pair| {
            seen.insert(pair.0.0);
        });
        assert!(self.cursor != 0 || self.stayed.is_subset(&self.seen));
    }
}

fuzz_target!(|input: &[u8]| {
    let mut trial = Trial::default();
    for (n, step) in input.chunks_exact(3).enumerate() {
        let key = [step[1], step[2]];
        match step[0] % 8 {
            0 => trial.remove(key),
            1 => trial.scan(),
            2 => (0..=255).for_each(|low| trial.put([key[0], low], n as u32)),
            3 => (0..=255).for_each(|low| trial.remove([key[0], low])),
            _ => trial.put(key, n as u32),
        }
        let found = trial.table.get(hash(&key), &key).map(|pair| pair.0.1);
        assert_eq!(found, trial.model.get(&key).copied());
        assert_eq!(trial.table.len(), trial.model.len());
    }
    trial.table.check_invariants();
    let all: HashMap<[u8; 2], u32> = trial.table.iter().map(|pair| *pair.0).collect();
    assert_eq!(all, trial.model);
});
