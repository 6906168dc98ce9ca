//! Any bytes as a manifest: refused with a reason, or written and read again as the same; names stay within
//! the folder, and new ones are new.

#![no_main]

use std::path::{Path, PathBuf};

use libfuzzer_sys::fuzz_target;
use server::aof::manifest::{Manifest, Place};

fuzz_target!(|bytes: &[u8]| {
    let mut manifest = match Manifest::parse(bytes) {
        Ok(manifest) => manifest,
        Err(reason) => return assert!(!reason.is_empty()),
    };
    for part in manifest.parts().chain(&manifest.history) {
        assert_eq!(Path::new(&part.name).file_name(), Some(part.name.as_ref()));
    }
    let text = manifest.text();
    // Long names may need more room in quotes than a line has.
    if !text.is_empty() && text.split(|byte| *byte == b'\n').all(|line| line.len() < 1023) {
        assert_eq!(Manifest::parse(&text).as_ref(), Ok(&manifest));
    }
    let place = Place {
        folder: PathBuf::new(),
        name: "a".to_owned(),
    };
    let increment = manifest.new_increment(&place).clone();
    let base = manifest.new_base(&place, 1, false).clone();
    assert_eq!(manifest.parts().collect::<Vec<_>>(), [&base, &increment]);
    assert!(Manifest::parse(&manifest.text()).is_ok() || manifest.text().len() > 1000);
});
