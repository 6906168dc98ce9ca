use super::catalogue::Entry;
use super::rules::{RuleError, Rules, joined_selectors};
use super::*;

/// `get` reads, `set` writes, `config` has two subcommands, `debug` hides its own.
fn catalogue() -> &'static Catalogue {
    let entry = |name: &str, categories, container, is_hidden| Entry {
        name: name.to_owned(),
        categories,
        container,
        is_hidden,
    };
    let entries = vec![
        entry("get", 1, None, false),
        entry("set", 2, None, false),
        entry("config", 0, None, false),
        entry("config|get", 1, Some(2), false),
        entry("config|set", 2, Some(2), false),
        entry("debug", 2, None, false),
        entry("debug|object", 2, Some(5), true),
    ];
    Box::leak(Box::new(Catalogue::new(entries, &["read", "write"])))
}

fn ruled(rules: &str) -> Rules {
    let catalogue = catalogue();
    let mut made = Rules::new(catalogue, false);
    let words: Vec<&[u8]> = rules.split(' ').map(str::as_bytes).collect();
    for rule in joined_selectors(&words).expect("parentheses match") {
        made.apply(catalogue, &rule, false)
            .expect("a test's rules are right");
    }
    made
}

fn described(rules: &str) -> String {
    String::from_utf8(ruled(rules).describe()).expect("rules of a test are text")
}

fn ask(rules: &Rules, number: u16, words: &[&[u8]], keys: &[(&[u8], Need)]) -> Result<(), Denied> {
    rules.check(&Request {
        number: catalogue().known_as(number),
        is_always_allowed: false,
        words,
        keys: &|visit| keys.iter().for_each(|(key, need)| visit(key, *need)),
        databases: &|visit| visit(0, 0),
        channels: &[],
        channels_are_patterns: false,
    })
}

#[test]
fn rules_are_listed_without_those_that_later_ones_override() {
    for (given, listed) in [
        ("+get -get", "off sanitize-payload resetchannels -@all -get"),
        ("+config|get +config", "off sanitize-payload resetchannels -@all +config"),
        ("+@all -@read +GET", "off sanitize-payload resetchannels +@all -@read +get"),
        ("on nopass ~* &* +@all", "on nopass sanitize-payload ~* &* +@all"),
        ("%R~a %W~a ~b &c", "off sanitize-payload ~a ~b resetchannels &c -@all"),
        ("(~a +set)", "off sanitize-payload resetchannels -@all (~a resetchannels -@all +set)"),
        ("(~a +set) clearselectors", "off sanitize-payload resetchannels -@all"),
    ] {
        assert_eq!(described(given), listed, "{given}");
    }
}

#[test]
fn what_is_listed_makes_the_same_user_again() {
    for rules in [
        "on >a >b ~x %R~y &z +@read -get (~q +set) (+debug|object)",
        "+@all -config|set ~*",
    ] {
        let once = described(rules);
        assert_eq!(described(&once), once);
    }
}

#[test]
fn wrong_rules_say_why() {
    let catalogue = catalogue();
    for (rule, error) in [
        ("+nosuch", RuleError::UnknownCommand),
        ("-config|nosuch", RuleError::UnknownCommand),
        ("+@nosuch", RuleError::UnknownCommand),
        ("+config|get|x", RuleError::FirstArgOfSubcommand),
        ("+get|", RuleError::Syntax),
        ("%~a", RuleError::Syntax),
        ("~a b", RuleError::Syntax),
        ("<a", RuleError::NoSuchPassword),
        ("#12", RuleError::BadHash),
        ("((+get))", RuleError::Syntax),
        ("nosuch", RuleError::Syntax),
    ] {
        let mut rules = Rules::new(catalogue, false);
        assert_eq!(rules.apply(catalogue, rule.as_bytes(), false), Err(error), "{rule}");
    }
    assert_eq!(joined_selectors(&[b"(+get", b"~a"]), Err(b"(+get".to_vec()));
}

#[test]
fn one_selector_must_allow_all_of_a_request() {
    let rules = ruled("+get %R~a (+set ~b)");
    assert_eq!(ask(&rules, 0, &[b"get", b"a"], &[(b"a", Need::READ)]), Ok(()));
    assert_eq!(ask(&rules, 1, &[b"set", b"b"], &[(b"b", Need::WRITE)]), Ok(()));
    let denied = ask(&rules, 1, &[b"set", b"a"], &[(b"a", Need::WRITE)]);
    assert_eq!(denied, Err(Denied::Key(0, b"a".to_vec())));
    let denied = ask(&rules, 0, &[b"get", b"b"], &[(b"b", Need::READ)]);
    assert_eq!(denied, Err(Denied::Key(0, b"b".to_vec())));
    assert_eq!(ask(&rules, 3, &[b"config", b"get"], &[]), Err(Denied::Command));
}

#[test]
fn a_hidden_subcommand_goes_by_the_first_argument() {
    let rules = ruled("+debug|object");
    assert_eq!(ask(&rules, 6, &[b"debug", b"OBJECT"], &[]), Ok(()));
    assert_eq!(ask(&rules, 6, &[b"debug", b"sleep"], &[]), Err(Denied::Command));
}

#[test]
fn passwords_are_kept_as_hashes_and_a_change_is_a_new_generation() {
    let acl = Acl::new(catalogue(), b"");
    assert!(!acl.needs_login());
    let before = acl.generation();
    acl.set_default_password(b"secret");
    assert!(acl.needs_login() && acl.generation() != before);
    assert!(acl.log_in(DEFAULT, b"secret").is_some());
    assert!(acl.log_in(DEFAULT, b"Secret").is_none());
    assert!(acl.log_in(b"nobody", b"secret").is_none());
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    assert!(String::from_utf8_lossy(&acl.default_user().line()).contains(hash));
    let failed = acl.set(b"x", &[b"on".to_vec(), b"+nosuch".to_vec()], false);
    assert!(failed.is_err() && acl.get(b"x").is_none(), "all rules or none");
}

#[test]
fn a_file_is_taken_whole_or_not_at_all() {
    let text =
        b"user default on nopass ~* +@all\n\nuser a on >p (+get\nuser b +nosuch -@bad foo\nwho c\n";
    let Err(report) = file::parse(catalogue(), "f", text, false) else {
        panic!("it is wrong");
    };
    for part in [
        "f:3: Unmatched parenthesis in selector definition.",
        "f:4: Error in applying operation '+nosuch': Unknown command or category name in ACL. ",
        "f:4: Syntax error. ",
        "f:5 should start with user keyword followed by the username. ",
        "WARNING: ACL errors detected",
    ] {
        assert!(report.contains(part), "{report}");
    }
    let acl = Acl::new(catalogue(), b"");
    acl.set(b"gone", &[], false).expect("no rules are right");
    let users = file::parse(catalogue(), "f", b"user b on ~x +get\nuser a off\n", false);
    let gone = acl.replace(users.expect("it is right"));
    assert_eq!(gone.iter().map(|user| user.name()).collect::<Vec<_>>(), [b"gone"]);
    let text = file::text(&acl.all());
    assert!(
        text.starts_with(b"user default on nopass"),
        "a missing default user may do everything"
    );
    assert_eq!(text.iter().filter(|byte| **byte == b'\n').count(), 3);
}

#[test]
fn equal_refusals_within_a_minute_are_one_entry() {
    let mut log = Log::default();
    let refusal = |object: &str| log::Refusal {
        reason: "key",
        context: "toplevel",
        object: object.into(),
        username: b"u".to_vec(),
    };
    log.add(refusal("a"), 1000, b"one".to_vec(), 2);
    log.add(refusal("b"), 2000, b"one".to_vec(), 2);
    log.add(refusal("a"), 3000, b"two".to_vec(), 2);
    let entries = log.newest(10);
    assert_eq!(entries.len(), 2);
    assert_eq!((entries[0].count, entries[0].id, entries[0].created_ms), (2, 0, 1000));
    assert_eq!(entries[0].client_info, b"two");
    log.add(refusal("a"), 100_000, b"one".to_vec(), 2);
    assert_eq!(log.newest(10)[0].count, 1, "too late to be the same");
    assert_eq!(log.newest(10).len(), 2, "the oldest went");
}
