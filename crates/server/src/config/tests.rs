use super::directive::{Kind, Standing, find, slot};
use super::file::{FatalConfig, Loaded, load, parse};
use super::live::OutputClass;
use super::rewrite::rewritten;
use super::table::DIRECTIVES;
use super::{Config, ConfigError, value, words_of};

fn set(config: &Config, pairs: &[(&str, &str)]) -> Result<(), String> {
    let pairs: Vec<(&[u8], &[u8])> = pairs
        .iter()
        .map(|(name, value)| (name.as_bytes(), value.as_bytes()))
        .collect();
    config
        .set(&pairs, true, |_| Ok(()))
        .map_err(|error| error.to_string())
}

fn get(config: &Config, pattern: &str) -> Vec<(String, String)> {
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("ascii");
    let found = config.get(&[pattern.as_bytes()]);
    found
        .into_iter()
        .map(|(name, value)| (text(name), text(value)))
        .collect()
}

fn one(config: &Config, name: &str) -> String {
    get(config, name).remove(0).1
}

#[test]
fn every_default_parses_to_itself_and_stands() {
    for directive in DIRECTIVES {
        let words = words_of(directive.kind, directive.default.as_bytes());
        let value = value::parse(directive, b"", &words)
            .unwrap_or_else(|reason| panic!("{}: {reason}", directive.name));
        assert_eq!(&value.text[..], directive.default.as_bytes(), "{}", directive.name);
        assert_eq!(directive.note.is_empty(), directive.standing == Standing::Real);
    }
}

#[test]
fn names_are_sorted_and_met_once() {
    assert!(DIRECTIVES.is_sorted_by(|a, b| a.name < b.name));
    for directive in DIRECTIVES {
        for name in [Some(directive.name), directive.alias]
            .into_iter()
            .flatten()
        {
            let holders = DIRECTIVES
                .iter()
                .filter(|d| d.name == name || d.alias == Some(name));
            assert_eq!(holders.count(), 1, "{name}");
        }
    }
}

/// The names of all directives of Redis 8.2 and Valkey 9.1, one on a line.
const KNOWN_TO_PEERS: &str = include_str!("../../../../xtask/data/directives.txt");

#[test]
fn every_directive_of_the_peers_is_known() {
    for name in KNOWN_TO_PEERS.lines() {
        assert!(find(name.as_bytes()).is_some(), "{name}");
    }
}

#[test]
fn errors_are_the_peers() {
    let config = Config::new();
    let failed = |name: &str, text: &str, reason: &str| {
        let expected =
            format!("ERR CONFIG SET failed (possibly related to argument '{name}') - {reason}");
        assert_eq!(set(&config, &[(name, text)]), Err(expected));
    };
    failed("maxclients", "abc", "argument couldn't be parsed into an integer");
    failed("maxclients", "-1", "argument must be greater or equal to 0");
    failed("maxclients", "0", "argument must be between 1 and 4294967295 inclusive");
    failed("port", "70000", "argument must be between 0 and 65535 inclusive");
    failed("timeout", "", "argument couldn't be parsed into an integer");
    failed("databases", "5", "can't set immutable config");
    failed("appendonly", "maybe", "argument must be 'yes' or 'no'");
    failed("appendfsync", "foo", "argument(s) must be one of the following: everysec, always, no");
    failed("proto-max-bulk-len", "10zb", "argument must be a memory value");
    failed("maxmemory-clients", "101%", "percentage argument must be less or equal to 100");
    failed("maxmemory-clients", "-5", "argument must be a memory or percent value");
    failed("save", "1", "Invalid save parameters");
    failed("dbfilename", "x", "can't set protected config");
    failed(
        "client-output-buffer-limit",
        "normal 1",
        "Wrong number of arguments in buffer limit configuration.",
    );
    failed("notify-keyspace-events", "KX", "Invalid event class character. Use 'Ag$lshzxeKEtmdn'.");
    assert_eq!(
        set(&config, &[("foo", "bar")]),
        Err("ERR Unknown option or number of arguments for CONFIG SET - 'foo'".into())
    );
    let twice = set(&config, &[("lua-time-limit", "1"), ("busy-reply-threshold", "1")]);
    assert!(twice.expect_err("twice").ends_with("- duplicate parameter"));
}

#[test]
fn promises_are_refused_and_their_off_values_taken() {
    let config = Config::new();
    for (name, promise, off) in [("tls-port", "6380", "0"), ("activedefrag", "yes", "no")] {
        let refusal = set(&config, &[(name, promise)]).expect_err(name);
        assert!(refusal.contains("not available in this version"), "{refusal}");
        assert_eq!(set(&config, &[(name, off)]), Ok(()));
        assert_eq!(one(&config, name), off);
    }
    assert!(parse(b"cluster-enabled yes\n").is_err());
    assert!(parse(b"replicaof 127.0.0.1 6380\n").is_ok());
    assert!(parse(b"replicaof no one\nslaveof NO ONE\n").is_ok());
}

#[test]
fn one_bad_pair_changes_nothing() {
    let config = Config::new();
    assert!(set(&config, &[("hz", "50"), ("maxclients", "0")]).is_err());
    assert_eq!(one(&config, "hz"), "10");
}

#[test]
fn a_failed_apply_puts_everything_back() {
    let config = Config::new();
    let mut calls = Vec::new();
    let pairs: [(&[u8], &[u8]); 3] = [(b"hz", b"50"), (b"timeout", b"0"), (b"port", b"1")];
    let result = config.set(&pairs, true, |directive| {
        calls.push((directive.name, config.hz(), config.port()));
        match config.port() {
            1 if directive.name == "port" => Err("Unable to listen".into()),
            _ => Ok(()),
        }
    });
    let name = b"port".to_vec();
    assert_eq!(
        result,
        Err(ConfigError::Failed {
            name,
            reason: "Unable to listen".into()
        })
    );
    let (changed, put_back) = calls.split_at(2);
    assert_eq!(changed, [("hz", 50, 1), ("port", 50, 1)]);
    assert_eq!(put_back, [("hz", 10, 6379), ("port", 10, 6379)]);
    assert_eq!((config.hz(), config.port()), (10, 6379));
}

#[test]
fn get_finds_names_patterns_and_aliases() {
    let config = Config::new();
    assert_eq!(get(&config, "HZ"), [("HZ".into(), "10".into())]);
    assert_eq!(get(&config, "*time-limit"), [("lua-time-limit".into(), "5000".into())]);
    assert_eq!(get(&config, "key-load-delay").len(), 1);
    assert_eq!(get(&config, "key-load-d*").len(), 0);
    assert_eq!(get(&config, "hash-max*").len(), 4);
    assert_eq!(config.get(&[b"save", b"SAVE", b"sav*"]).len(), 1);
    assert!(get(&config, "*").is_sorted());
    assert!(get(&config, "*").len() > 200);
}

#[test]
fn values_are_shown_in_their_canonical_form() {
    let config = Config::new();
    for (name, given, shown) in [
        ("proto-max-bulk-len", "1mb", "1048576"),
        ("client-query-buffer-limit", "2g", "2000000000"),
        ("appendfsync", "ALWAYS", "always"),
        ("hz", "1000", "500"),
        ("notify-keyspace-events", "KEA", "AKE"),
        ("latency-tracking-info-percentiles", "50 99.99 7", "50 99.99 7"),
        ("latency-tracking-info-percentiles", "", ""),
        ("shutdown-on-sigterm", "force now", "now force"),
        ("bind", "", ""),
        (
            "client-output-buffer-limit",
            "normal 1mb 2 3 replica 4 5 6",
            "normal 1048576 2 3 slave 4 5 6 pubsub 33554432 8388608 60",
        ),
    ] {
        assert_eq!(set(&config, &[(name, given)]), Ok(()));
        assert_eq!(one(&config, name), shown);
    }
    assert_eq!(config.output_limit(OutputClass::Normal).hard_bytes, 1 << 20);
    assert_eq!(config.output_limit(OutputClass::Pubsub).soft_s, 60);
}

#[test]
fn every_shown_value_can_be_set_again() {
    let config = Config::new();
    let everything = config.get(&[b"*"]);
    for (name, text) in &everything {
        let slot = find(name).expect("shown");
        let directive = slot.directive();
        if directive.mutable && !directive.protected {
            config
                .set(&[(name, text)], true, |_| panic!("unchanged"))
                .expect(directive.name);
        }
    }
    assert_eq!(config.get(&[b"*"]), everything);
}

fn fatal(text: &str) -> (usize, String, String) {
    match parse(text.as_bytes()).err().expect(text) {
        FatalConfig::Line { place, reason } => {
            (place.line_number, String::from_utf8(place.line).expect("ascii"), reason)
        }
        other => panic!("{other}"),
    }
}

fn arguments(flags: &[&str]) -> Result<Loaded, FatalConfig> {
    load(&flags.iter().map(ToString::to_string).collect::<Vec<_>>())
}

#[test]
fn a_file_is_read_line_by_line() {
    let text = "# comment\n\n  PORT 7000\r\nport 7001\nbind 127.0.0.1   ::1\nsave ''\n\
                slave-read-only no\nrequirepass \"a \\x41\"\nlist-max-ziplist-entries 4\n\
                io-threads-do-reads yes\nrename-command GET \"\"\n\
                user default on nopass sanitize-payload ~* &* +@all\n";
    let loaded = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
    let config = &loaded.config;
    assert_eq!(config.port(), 7001);
    assert_eq!(config.bind(), ["127.0.0.1", "::1"]);
    assert_eq!(config.password(), b"a A");
    assert_eq!(one(config, "replica-read-only"), "no");
    assert_eq!(loaded.renames.len(), 1);
    assert_eq!(loaded.renames[0].place.line_number, 11);
}

#[test]
fn lines_of_save_add_up_behind_the_first() {
    let points = |text: &str| {
        let loaded = parse(text.as_bytes()).unwrap_or_else(|error| panic!("{error}"));
        one(&loaded.config, "save")
    };
    assert_eq!(points(""), "3600 1 300 100 60 10000");
    assert_eq!(points("save 900 1\nsave 60 5 10 7\n"), "900 1 60 5 10 7");
    assert_eq!(points("save 900 1\nsave \"\"\n"), "");
    assert_eq!(points("save \"\"\nsave 900 1\n"), "900 1");
}

#[test]
fn bad_lines_are_named_with_number_text_and_reason() {
    let check = |text: &str, line_number: usize, line: &str, reason: &str| {
        assert_eq!(fatal(text), (line_number, line.into(), reason.into()));
    };
    check("\n# x\nhz 10 20\n", 3, "hz 10 20", "wrong number of arguments");
    check("hz", 1, "hz", "wrong number of arguments");
    assert!(parse(b"save\nsave \nsave \"\"\n").is_ok());
    check("logfile \"x\n", 1, "logfile \"x", "Unbalanced quotes in configuration line");
    check("foo bar", 1, "foo bar", "Bad directive or wrong number of arguments");
    check("slaveof a", 1, "slaveof a", "wrong number of arguments");
    check("dir /nonexistent", 1, "dir /nonexistent", "No such file or directory");
    let octal = "argument couldn't be parsed as an octal number";
    check("unixsocketperm 999", 1, "unixsocketperm 999", octal);
    assert!(
        fatal("user bob on\nuser bob off")
            .2
            .contains("Duplicate user found")
    );
    assert!(fatal("loadmodule x.so").2.contains("modules"));
    let many = "argument must be between 1 and 65535 inclusive";
    check("databases 65536", 1, "databases 65536", many);
    assert!(parse(b"databases 65535").is_ok());
    let error = parse(b"port x").err().expect("bad").to_string();
    assert_eq!(
        error,
        "\n*** FATAL CONFIG FILE ERROR (Redis 8.2.0) ***\n\
         Reading the configuration file, at line 1\n\
         >>> 'port x'\n\
         argument couldn't be parsed into an integer"
    );
}

#[test]
fn flags_become_lines() {
    let config = |flags: &[&str]| {
        arguments(flags)
            .unwrap_or_else(|error| panic!("{flags:?}: {error}"))
            .config
    };
    let many = config(&["--port", "7000", "--bind", "a", "b", "--save"]);
    assert_eq!((many.port(), many.bind()), (7000, vec!["a".to_string(), "b".into()]));
    assert_eq!(config(&["--save", "--port", "1"]).port(), 1);
    assert_eq!(config(&["--save", "", "--port", "2"]).port(), 2);
    assert_eq!(config(&["--port 3", "--hz 20"]).hz(), 20);
    assert_eq!(config(&["--requirepass", "--abc", "--port", "4"]).password(), b"--abc");
    let words = config(&["--shutdown-on-sigterm", "nosave force"]);
    assert_eq!(one(&words, "shutdown-on-sigterm"), "nosave force");
}

#[test]
fn bad_flags_are_named_as_lines() {
    let check = |flags: &[&str], line_number: usize, line: &str| {
        let Err(FatalConfig::Line { place, .. }) = arguments(flags) else {
            panic!("{flags:?}");
        };
        assert_eq!((place.line_number, &place.line[..]), (line_number, line.as_bytes()));
    };
    check(&["--port", "abc"], 2, "port \"abc\"");
    check(&["--port", "1", "--foo"], 3, "foo");
    check(&["--hz", "10", "20"], 2, "hz \"10\" \"20\"");
    check(&["--port=1"], 2, "port=1");
    check(&["-x"], 2, "\"-x\"");
    check(&["--port", "1", "--", "x"], 3, "\"x\"");
    let missing = arguments(&["nonexistent.conf"])
        .err()
        .expect("missing")
        .to_string();
    assert!(missing.starts_with("Fatal error, can't open config file '/"), "{missing}");
    assert!(missing.ends_with("nonexistent.conf': No such file or directory"), "{missing}");
}

#[test]
fn files_include_files() {
    let directory = std::env::temp_dir().join(format!("minium-include-{}", std::process::id()));
    std::fs::create_dir_all(&directory).expect("temporary directory");
    let path = |name: &str| directory.join(name).display().to_string();
    let write = |name: &str, text: String| std::fs::write(path(name), text).expect("write");
    write("b.inc", "port 2\n".into());
    write("a.inc", "port 1\nhz 33\n".into());
    write("main.conf", format!("port 9\ninclude {}\ninclude {}\n", path("*.inc"), path("no*")));
    write("loop.conf", format!("include {}\n", path("loop.conf")));
    write("gone.conf", format!("include {}\n", path("gone")));
    let loaded = arguments(&[&path("main.conf"), "--timeout", "5"]);
    let config = loaded.unwrap_or_else(|error| panic!("{error}")).config;
    assert_eq!((config.port(), config.hz(), config.timeout_s()), (2, 33, 5));
    assert!(arguments(&[&path("loop.conf")]).is_err());
    assert!(matches!(arguments(&[&path("gone.conf")]), Err(FatalConfig::CannotOpen { .. })));
    assert_eq!(set(&config, &[("timeout", "6")]), Ok(()));
    config.rewrite(Vec::new(), false).expect("rewrite");
    let written = std::fs::read_to_string(path("main.conf")).expect("read");
    assert!(written.starts_with("port 2\ninclude "), "{written}");
    assert!(
        written.ends_with("\n\n# Generated by CONFIG REWRITE\nhz 33\ntimeout 6\n"),
        "{written}"
    );
    std::fs::remove_dir_all(directory).expect("clean up");
}

#[test]
fn rewriting_keeps_the_look() {
    let old = "# mine\nport 7000\n\n  HZ 12\nslave-read-only yes\nlogfile ''\ntimeout 0\n\
               timeout 3\nrename-command GETDEL \"\"\nproto-max-bulk-len 1073741824\n\
               client-output-buffer-limit pubsub 1mb 2 3";
    let config = parse(old.as_bytes())
        .unwrap_or_else(|error| panic!("{error}"))
        .config;
    assert_eq!(set(&config, &[("requirepass", "a b\"c"), ("port", "7001")]), Ok(()));
    let expected = "# mine\nport 7001\n\nhz 12\nreplica-read-only yes\nlogfile \"\"\ntimeout 3\n\
                    rename-command GETDEL \"\"\nproto-max-bulk-len 1gb\n\
                    client-output-buffer-limit normal 0 0 0\n\n\
                    # Generated by CONFIG REWRITE\n\
                    client-output-buffer-limit replica 256mb 64mb 60\n\
                    client-output-buffer-limit pubsub 1mb 2 3\n\
                    requirepass \"a b\\\"c\"\n";
    let new = rewritten(old.as_bytes(), &config, Vec::new(), false);
    assert_eq!(String::from_utf8_lossy(&new), expected);
    let again = parse(&new).unwrap_or_else(|error| panic!("{error}")).config;
    assert_eq!(again.get(&[b"*"]), config.get(&[b"*"]));
    let settled = rewritten(&new, &config, Vec::new(), false);
    assert_eq!(rewritten(&settled, &config, Vec::new(), false), settled);
}

#[test]
fn a_full_rewrite_reads_back() {
    let config = Config::new();
    let mut text = Vec::new();
    for directive in DIRECTIVES
        .iter()
        .filter(|d| !matches!(d.kind, Kind::Directory))
    {
        text.extend(format!("{} \"\"\n", directive.name).bytes());
    }
    let written = rewritten(&text, &config, Vec::new(), false);
    let again = parse(&written)
        .unwrap_or_else(|error| panic!("{error}"))
        .config;
    assert_eq!(again.get(&[b"*"]), config.get(&[b"*"]));
}

#[test]
fn slots_are_found_by_name() {
    assert_eq!(const { slot("maxclients") }.directive().name, "maxclients");
    assert_eq!(find(b"LUA-TIME-LIMIT"), Some(slot("busy-reply-threshold")));
}
