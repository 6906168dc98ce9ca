//! The values: strings, lists, hashes, sets, sorted sets and their encodings.
