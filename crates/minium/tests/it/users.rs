//! Users from files, and what a pause and MONITOR mean to clients of several threads.

use crate::process::run;
use crate::{Server, folder, minium, text};
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

#[test]
fn users_come_from_an_acl_file_and_go_back_there() {
    let folder = folder("acl-file");
    let path = folder.join("users.acl");
    fs::write(&path, "user default on nopass ~* &* +@all\nuser alice on >secret ~a:* +get\n")
        .unwrap();
    let server = Server::start(&["--aclfile", path.to_str().unwrap()]);
    let (mut root, mut alice) = (server.client(), server.client());
    assert_eq!(text("AUTH alice secret", &mut alice), "+OK");
    assert!(text("SET a:1 x", &mut alice).contains("NOPERM"));
    assert_eq!(text("ACL SETUSER bob on nopass +ping", &mut root), "+OK");
    assert_eq!(text("ACL SAVE", &mut root), "+OK");
    let saved = fs::read_to_string(&path).unwrap();
    assert!(saved.starts_with("user default on nopass sanitize-payload ~* &* +@all\n"), "{saved}");
    assert!(
        saved.contains("user bob on nopass sanitize-payload resetchannels -@all +ping\n"),
        "{saved}"
    );
    fs::write(&path, "user alice on nosuchrule\n").unwrap();
    let refused = text("ACL LOAD", &mut root);
    assert!(refused.contains("users.acl:1: Syntax error."), "{refused}");
    assert_eq!(text("GET a:1", &mut alice), "(nil)", "and nothing has changed");
    fs::write(&path, "user carol on nopass +@all\n").unwrap();
    assert_eq!(text("ACL LOAD", &mut root), "+OK");
    let is_gone = (0..10_000).any(|_| alice.call(&["PING"]).is_err());
    assert!(is_gone, "who is no user any more loses the connection");
    let refused = text("CONFIG SET aclfile x", &mut root);
    assert!(refused.contains("immutable"), "{refused}");
}

#[test]
fn users_come_from_the_configuration_and_are_rewritten_there() {
    let folder = folder("acl-lines");
    let path = folder.join("minium.conf");
    fs::write(&path, "# mine\nuser alice on nopass +get\nuser gone on\n").unwrap();
    let mut command = minium();
    command.arg(&path);
    let server = Server::start_as(command, &[]);
    let mut root = server.client();
    assert_eq!(text("ACL DELUSER gone", &mut root), ":1");
    assert_eq!(text("CONFIG SET requirepass secret", &mut root), "+OK");
    assert_eq!(text("CONFIG REWRITE", &mut root), "+OK");
    let written = fs::read_to_string(&path).unwrap();
    let users: Vec<&str> = written
        .lines()
        .filter(|line| line.starts_with("user "))
        .collect();
    assert_eq!(users.len(), 2, "{written}");
    assert_eq!(users[0], "user alice on nopass sanitize-payload resetchannels -@all +get");
    let hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b";
    assert!(users[1].starts_with("user default on") && users[1].contains(hash), "{}", users[1]);
    assert!(written.contains("requirepass"), "{written}");
}

#[test]
fn wrong_users_end_the_start_with_a_reason() {
    let folder = folder("acl-wrong");
    let (conf, acl) = (folder.join("minium.conf"), folder.join("users.acl"));
    let conf_path = conf.to_str().unwrap();
    fs::write(&acl, "user a on +nosuch\nuser a on\n").unwrap();
    for (lines, reason) in [
        ("user a on +nosuch".to_owned(), "Error loading ACL rule '+nosuch' for the user named 'a'"),
        ("user a on\nuser a off".to_owned(), "Duplicate user found"),
        ("user".to_owned(), "Bad directive or wrong number of arguments"),
        (format!("user a on\naclfile {}", acl.display()), "at the same setting an ACL file path"),
        (format!("aclfile {}", acl.display()), "Duplicate user 'a' found on line 2"),
        ("aclfile /nosuch/file".to_owned(), "opening file '/nosuch/file': No such file"),
    ] {
        fs::write(&conf, format!("port 0\n{lines}\n")).unwrap();
        let output = run(&[conf_path], "");
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said);
        assert_eq!(output.status.code(), Some(1), "{lines}: {said}");
        assert!(said.contains(reason), "{lines}: {said}");
    }
}

#[test]
fn nothing_is_written_after_a_pause_was_answered() {
    let server = Server::start(&["--threads", "4"]);
    let mut root = server.client();
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for writer in 0..4 {
            let (server, is_over) = (&server, &is_over);
            scope.spawn(move || {
                let mut client = server.client();
                while !is_over.load(Ordering::Relaxed) {
                    text(&format!("INCR k{writer}"), &mut client);
                    text("EVAL return(redis.call('incr',KEYS[1])) 1 s", &mut client);
                }
            });
        }
        let sum = |root: &mut _| text("MGET k0 k1 k2 k3 s", root);
        for _ in 0..50 {
            assert_eq!(text("CLIENT PAUSE 60000 WRITE", &mut root), "+OK");
            let before = sum(&mut root);
            for _ in 0..20 {
                assert_eq!(sum(&mut root), before);
            }
            assert_eq!(text("CLIENT UNPAUSE", &mut root), "+OK");
        }
        is_over.store(true, Ordering::Relaxed);
    });
}

#[test]
fn memory_is_told_by_the_allocator() {
    let server = Server::start(&[]);
    let mut client = server.client();
    assert_eq!(text("MEMORY PURGE", &mut client), "+OK");
    assert!(text("MEMORY DOCTOR", &mut client).contains("too little"));
    assert!(text("MEMORY MALLOC-STATS", &mut client).contains("elapsed"));
    assert_eq!(text("SET k v", &mut client), "+OK");
    let stats = text("MEMORY STATS", &mut client);
    assert!(stats.contains("keys.count") && stats.contains("fragmentation"), "{stats}");
}
