//! What the server tells of commands that have run: COMMANDLOG, which Redis does not have, and LATENCY.

use server::testing::{Group, Server};

fn call(group: &mut Group, place: usize, line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    String::from_utf8_lossy(&group.call(place, &words)).into_owned()
}

#[test]
fn large_requests_and_replies_are_logged_with_their_bytes() {
    let large = [
        ("commandlog-request-larger-than", "100"),
        ("commandlog-reply-larger-than", "60"),
        ("commandlog-large-reply-max-len", "1"),
    ];
    let mut group = Server::new(1, &large).group(0);
    let place = group.connect();
    let value = "x".repeat(80);
    assert_eq!(call(&mut group, place, &format!("SET k {value}")), "+OK\r\n");
    call(&mut group, place, "GET k");
    call(&mut group, place, "GET k");
    assert_eq!(call(&mut group, place, "COMMANDLOG LEN large-request"), ":1\r\n");
    assert_eq!(call(&mut group, place, "COMMANDLOG LEN LARGE-REPLY"), ":1\r\n", "the limit is one");
    let entry = call(&mut group, place, "COMMANDLOG GET 1 large-reply");
    assert!(entry.contains(":87\r\n*2\r\n$3\r\nGET\r\n$1\r\nk\r\n"), "{entry}");
    let entry = call(&mut group, place, "COMMANDLOG GET -1 large-request");
    assert!(entry.contains(":107\r\n*3\r\n$3\r\nSET\r\n$1\r\nk\r\n"), "{entry}");
    assert_eq!(call(&mut group, place, "COMMANDLOG RESET large-request"), "+OK\r\n");
    assert_eq!(call(&mut group, place, "COMMANDLOG LEN large-request"), ":0\r\n");
    assert_eq!(call(&mut group, place, "COMMANDLOG LEN slow"), ":0\r\n");
    let what = "-ERR type should be one of the following: slow, large-request, large-reply\r\n";
    assert_eq!(call(&mut group, place, "COMMANDLOG LEN nosuch"), what);
    let what = "-ERR count should be greater than or equal to -1\r\n";
    assert_eq!(call(&mut group, place, "COMMANDLOG GET -2 slow"), what);
}

#[test]
fn histograms_count_every_call_until_they_are_reset() {
    let mut group = Server::new(1, &[]).group(0);
    let place = group.connect();
    for _ in 0..3 {
        call(&mut group, place, "SET k v");
    }
    let histogram = call(&mut group, place, "LATENCY HISTOGRAM set");
    let begin = "*2\r\n$3\r\nset\r\n*4\r\n$5\r\ncalls\r\n:3\r\n$14\r\nhistogram_usec\r\n";
    assert!(histogram.starts_with(begin), "{histogram}");
    assert!(histogram.ends_with(":3\r\n"), "the last step has all: {histogram}");
    let info = call(&mut group, place, "INFO latencystats");
    assert!(info.contains("latency_percentiles_usec_set:p50="), "{info}");
    assert!(!call(&mut group, place, "INFO").contains("latency_percentiles"), "only when asked");
    call(&mut group, place, "CONFIG RESETSTAT");
    assert_eq!(call(&mut group, place, "LATENCY HISTOGRAM set"), "*0\r\n");
    let of_container = call(&mut group, place, "LATENCY HISTOGRAM config");
    assert!(of_container.contains("config|resetstat"), "{of_container}");
}

#[test]
fn who_loses_a_channel_or_its_user_loses_the_connection() {
    let mut group = Server::new(1, &[]).group(0);
    let (root, other) = (group.connect(), group.connect());
    call(&mut group, root, "ACL SETUSER u on nopass ~* +@all &a &b");
    assert_eq!(call(&mut group, other, "AUTH u x"), "+OK\r\n");
    call(&mut group, other, "SUBSCRIBE a");
    call(&mut group, root, "ACL SETUSER u resetchannels &a &c");
    assert_eq!(call(&mut group, root, "PUBLISH a 1"), ":1\r\n", "it may still hear that");
    call(&mut group, root, "ACL SETUSER u resetchannels &c");
    assert_eq!(call(&mut group, root, "PUBLISH a 1"), ":0\r\n", "it is gone");
    let other = group.connect();
    call(&mut group, other, "AUTH u x");
    assert_eq!(call(&mut group, root, "ACL DELUSER u"), ":1\r\n");
    let left = call(&mut group, root, "CLIENT LIST");
    assert!(!left.contains("user=u "), "{left}");
}

#[test]
fn a_waiting_command_is_judged_by_the_rules_of_when_it_is_served() {
    let mut group = Server::new(1, &[]).group(0);
    let (root, other) = (group.connect(), group.connect());
    call(&mut group, root, "ACL SETUSER u on nopass ~* +@all");
    call(&mut group, other, "AUTH u x");
    call(&mut group, other, "BLPOP l 0");
    call(&mut group, root, "ACL SETUSER u resetkeys");
    call(&mut group, root, "RPUSH l x");
    let refused = String::from_utf8_lossy(&group.take_output(other)).into_owned();
    assert_eq!(refused, "-NOPERM No permissions to access a key\r\n");
    assert_eq!(call(&mut group, root, "LLEN l"), ":1\r\n", "and takes nothing");
}

#[test]
fn no_log_shows_what_migrate_logs_in_with() {
    let mut group = Server::new(1, &[("slowlog-log-slower-than", "0")]).group(0);
    let (place, watcher) = (group.connect(), group.connect());
    call(&mut group, watcher, "MONITOR");
    for (asked, shown) in [
        ("AUTH secret", vec!["AUTH", "(redacted)"]),
        ("AUTH2 user secret KEYS k", vec!["AUTH2", "(redacted)", "(redacted)", "KEYS", "k"]),
        ("COPY AUTH KEYS KEYS auth secret", vec!["COPY", "AUTH", "(redacted)", "KEYS", "auth"]),
    ] {
        let key = if asked.contains(" KEYS ") { "''" } else { "k" };
        let mut words = format!("MIGRATE host 1 {key} 0 9 {asked}");
        words = words.replace("''", "");
        assert_eq!(call(&mut group, place, &words), "+NOKEY\r\n", "{asked}");
        let log = call(&mut group, place, "SLOWLOG GET 1");
        let line = String::from_utf8_lossy(&group.take_output(watcher)).into_owned();
        for word in shown {
            assert!(log.contains(word) && line.contains(&format!("\"{word}\"")), "{log} {line}");
        }
        let is_key = asked.starts_with("COPY");
        assert_eq!(log.contains("secret"), is_key, "keys are shown: {log}");
        assert_eq!(line.contains("secret"), is_key, "{line}");
    }
}

#[test]
fn errors_of_scripts_are_counted_once_and_where_they_arose() {
    let mut group = Server::new(1, &[]).group(0);
    let place = group.connect();
    let line = |command: &str, figures: &str| (command.to_owned(), figures.to_owned());
    for (script, code, failed, of_commands) in [
        // A command's error, as the script's own and as a value that was looked at.
        (
            "return redis.call('select', 99)",
            "ERR",
            1,
            Some(line("select", "calls=1 rejected=0 failed=1")),
        ),
        (
            "return redis.pcall('select', 99)",
            "ERR",
            1,
            Some(line("select", "calls=1 rejected=0 failed=1")),
        ),
        (
            "redis.pcall('select', 99) return 1",
            "ERR",
            0,
            Some(line("select", "calls=1 rejected=0 failed=1")),
        ),
        // One that does not even run.
        ("return redis.call('get')", "ERR", 1, Some(line("get", "calls=0 rejected=1 failed=0"))),
        ("redis.pcall('get') return 1", "ERR", 0, Some(line("get", "calls=0 rejected=1 failed=0"))),
        ("return redis.call('nosuch')", "ERR", 1, None),
        // What scripts make of their own accord.
        ("return redis.error_reply('MINE x')", "MINE", 1, None),
        ("error(redis.error_reply('MINE x'))", "MINE", 1, None),
        ("error('x')", "ERR", 1, None),
        ("return (", "ERR", 1, None),
    ] {
        group.call(place, &[b"CONFIG", b"RESETSTAT"]);
        group.call(place, &[b"EVAL", script.as_bytes(), b"0"]);
        let info = call(&mut group, place, "INFO everything");
        let has = |part: &str| assert!(info.contains(part), "{script}: {part} is not in {info}");
        has(&format!("errorstat_{code}:count=1\r\n"));
        has("total_error_replies:1\r\n");
        let figures = |command: &str| {
            let found = info.split(&format!("cmdstat_{command}:")).nth(1);
            let words = found
                .unwrap_or_default()
                .lines()
                .next()
                .unwrap_or_default()
                .split(',');
            let kept = words
                .filter(|word| !word.starts_with("usec"))
                .collect::<Vec<_>>();
            kept.join(" ").replace("_calls", "")
        };
        assert_eq!(figures("eval"), format!("calls=1 rejected=0 failed={failed}"), "{script}");
        if let Some((command, expected)) = of_commands {
            assert_eq!(figures(&command), expected, "{script}");
        }
    }
}
