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

#[test]
fn each_name_of_the_library_has_errors_of_its_own() {
    let mut group = Server::new(1, &[]).group(0);
    let place = group.connect();
    let mut error = |script: &str| {
        let reply = group.call(place, &[b"EVAL", script.as_bytes(), b"0"]);
        let text = String::from_utf8_lossy(&reply).into_owned();
        text.split(" script: ")
            .next()
            .unwrap_or_default()
            .to_owned()
    };
    for (call, redis, valkey) in [
        (
            "call('nosuch')",
            "Unknown Redis command called from script",
            "Unknown command called from script",
        ),
        (
            "call('get')",
            "Wrong number of args calling Redis command from script",
            "Wrong number of args calling command from script",
        ),
        (
            "call('ping', {})",
            "Lua redis lib command arguments must be strings or integers",
            "Command arguments must be strings or integers",
        ),
        (
            "log(1)",
            "redis.log() requires two arguments or more.",
            "server.log() requires two arguments or more.",
        ),
        (
            "acl_check_cmd('nosuch')",
            "Invalid command passed to redis.acl_check_cmd()",
            "Invalid command passed to server.acl_check_cmd()",
        ),
    ] {
        assert_eq!(error(&format!("return redis.{call}")), format!("-ERR {redis}"));
        assert_eq!(error(&format!("return server.{call}")), format!("-ERR {valkey}"));
    }
    let both = error("return server.pcall('ping').ok .. server.sha1hex('')");
    assert!(both.starts_with("$44\r\nPONGda39a3ee"), "{both}");
}
