//! The structures behind the types: each file owns its bytes and draws them.

pub mod blob;
pub mod intset;
pub mod listpack;
pub mod marks;
pub mod ones;
pub mod quicklist;
pub mod ranktree;
pub mod record;
pub mod scored;
pub mod table;
pub mod zsettree;
