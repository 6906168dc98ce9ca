//! LOLWUT: a picture by chance, and the version.

use resp::reply::Reply;

use crate::command::{Args, Command, ReadCtx};
use crate::error::{Error, Result};

/// The family's table.
pub const COMMANDS: &[Command] = &[Command::read("lolwut", -1, lolwut)
    .syntax("[VERSION version]")
    .whole_keyspace()
    .fast()
    .group("server")
    .about("5.0.0", "Depends on the size", "Draws a picture by chance.")];

const COLUMNS: i64 = 64;
const ROWS: i64 = 12;
const SIDE_MAX: i64 = 200;

/// A maze of one stroke for each cell: the shortest program that ever drew one.
fn lolwut(ctx: &mut ReadCtx<'_>, args: &mut Args<'_>, reply: &mut Reply<'_>) -> Result<()> {
    if args.len() > 1 && args.eat(b"VERSION") {
        args.int()
            .map_err(|_| Error::Plain("ERR value is not an integer or out of range"))?;
    }
    // What is no number asks for nothing, as with the original's latest picture.
    let mut side = |default: i64| match args.int() {
        Ok(given) => given.clamp(1, SIDE_MAX),
        Err(_) => default,
    };
    let (columns, rows) = (side(COLUMNS), side(ROWS));
    let _ = args.rest();
    let mut text = String::new();
    for _ in 0..rows {
        let mut bits = 0;
        for column in 0..columns {
            if column % 64 == 0 {
                bits = ctx.random();
            }
            text.push(if bits & 1 == 0 {
                '\u{2571}'
            } else {
                '\u{2572}'
            });
            bits >>= 1;
        }
        text.push('\n');
    }
    text.push_str(&format!("\nMinium ver. {}\n", env!("CARGO_PKG_VERSION")));
    reply.verbatim("txt", text.as_bytes());
    Ok(())
}
