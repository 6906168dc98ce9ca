//! Libraries that do not behave.

use server::scripts::payload;
use server::testing::Server;

#[test]
fn a_restored_library_without_end_gives_up_and_leaves_the_others() {
    let server = Server::new(1, &[]);
    let mut group = server.group(0);
    let place = group.connect();
    let good = b"#!lua name=good\nredis.register_function('f', function() return 1 end)";
    let endless = b"#!lua name=endless\nwhile true do end";
    group.call(place, &[b"FUNCTION", b"LOAD", good]);
    let dumped = payload::dump([&endless[..]].into_iter(), false);
    let reply = group.call(place, &[b"FUNCTION", b"RESTORE", &dumped]);
    assert!(reply.starts_with(b"-ERR"), "{}", String::from_utf8_lossy(&reply));
    assert_eq!(group.call(place, &[b"FCALL", b"f", b"0"]), b":1\r\n");
}
