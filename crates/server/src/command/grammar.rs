//! Grammars that several commands share.
