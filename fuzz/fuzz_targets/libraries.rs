//! What the libraries of scripts take apart: JSON, MessagePack, packed structures, and whatever
//! FUNCTION RESTORE is given. Nothing may panic, and what was decoded must survive a round trip.
//!
//! Input: a byte that chooses, then the bytes that are taken apart.

#![no_main]

use std::cell::RefCell;

use libfuzzer_sys::fuzz_target;
use server::testing::{Group, Server};

/// Decodes ARGV[1]; encodes that and decodes it again: then nothing may change any more.
const JSON: &[u8] = b"
local is_ok, value = pcall(cjson.decode, ARGV[1])
if not is_ok then return 'refused' end
local is_encoded, text = pcall(cjson.encode, value)
if not is_encoded then return 'refused' end
local again = cjson.encode(cjson.decode(text))
return again == text and 'same' or {text, again}";

const MSGPACK: &[u8] = b"
local is_ok, value = pcall(cmsgpack.unpack, ARGV[1])
if not is_ok then return 'refused' end
local packed = cmsgpack.pack(value)
local again = cmsgpack.pack(cmsgpack.unpack(packed))
return #again == #packed and 'same' or {packed, again}";

/// The format is what comes before the first zero byte.
const STRUCT: &[u8] = b"
local at = string.find(ARGV[1], '\\0', 1, true) or 0
local format, data = string.sub(ARGV[1], 1, at - 1), string.sub(ARGV[1], at + 1)
pcall(struct.unpack, format, data)
pcall(struct.size, format)
pcall(struct.pack, format, data, 1, 2, 3)
return 'same'";

struct Trial {
    group: Group,
    client: usize,
}

thread_local! {
    static TRIAL: RefCell<Trial> = RefCell::new({
        let mut group = Server::new(1, &[]).group(0);
        let client = group.connect();
        Trial { group, client }
    });
}

impl Trial {
    fn run(&mut self, choice: u8, bytes: &[u8]) {
        let script = match choice % 4 {
            0 => JSON,
            1 => MSGPACK,
            2 => STRUCT,
            _ => {
                self.group.call(self.client, &[b"FUNCTION", b"RESTORE", bytes, b"FLUSH"]);
                return;
            }
        };
        let reply = self.group.call(self.client, &[b"EVAL", script, b"0", bytes]);
        let is_fine = [&b"$4\r\nsame"[..], b"$7\r\nrefused"].iter().any(|ok| reply.starts_with(ok));
        assert!(is_fine, "{}", reply.escape_ascii());
    }
}

fuzz_target!(|input: &[u8]| {
    if let Some((&choice, bytes)) = input.split_first() {
        TRIAL.with_borrow_mut(|trial| trial.run(choice, bytes));
    }
});
