//! minium cli.
