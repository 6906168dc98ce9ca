//! The options, one by one.

use std::net::TcpListener;

use crate::environment::{Environment, program, run};

#[test]
fn a_pipe_gets_raw_output_unless_people_are_asked_for() {
    let env = Environment::new(&[("get x", "$1\r\nv\r\n")]);
    env.assert_output(&["get", "x"], "v\n");
    env.assert_output(&["--no-raw", "get", "x"], "\"v\"\n");
}

#[test]
fn database_login_and_protocol_come_before_the_command() {
    let env = Environment::new(&[]);
    env.assert_output(&["-n", "3", "-3", "--user", "u", "--pass", "p", "ping"], "OK\n");
    assert_eq!(env.received(), ["AUTH u p", "SELECT 3", "HELLO 3", "ping"]);
}

#[test]
fn a_uri_says_it_all() {
    let env = Environment::new(&[]);
    let uri = format!("redis://bob:s%20t@127.0.0.1:{}/2", env.port());
    let mut command = program();
    command.args(["-u", &uri, "ping"]);
    assert_eq!(run(command, "").stdout, b"OK\n");
    assert_eq!(env.received(), ["AUTH bob s t", "SELECT 2", "ping"]);
}

#[test]
fn the_password_may_come_from_the_environment() {
    let env = Environment::new(&[]);
    let mut command = program();
    command
        .args(["-p", &env.port().to_string(), "ping"])
        .env("REDISCLI_AUTH", "secret");
    let output = run(command, "");
    assert_eq!(env.received(), ["AUTH secret", "ping"]);
    assert_eq!(output.stderr, b"");
}

#[test]
fn refused_preparations_are_reported_and_the_command_still_runs() {
    let env = Environment::new(&[
        ("AUTH x", "-WRONGPASS no\r\n"),
        ("SELECT 99", "-ERR range\r\n"),
    ]);
    let output = env.run(&["-a", "x", "-n", "99", "ping"], "");
    let warning = "Warning: Using a password with '-a' or '-u' option on the command line interface \
                   may not be safe.\n";
    let expected = format!("{warning}AUTH failed: WRONGPASS no\nSELECT 99 failed: ERR range\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert_eq!((output.stdout, output.status.code()), (b"OK\n".to_vec(), Some(0)));
    let output = env.run(&["-a", "x", "--no-auth-warning", "ping"], "");
    assert_eq!(output.stderr, b"AUTH failed: WRONGPASS no\n");
}

#[test]
fn repetition() {
    let env = Environment::new(&[]);
    env.assert_output(&["-r", "3", "-i", "0.001", "incr", "x"], "OK\nOK\nOK\n");
    env.assert_output(&["-r", "0", "incr", "x"], "");
    assert_eq!(env.received().len(), 3);
}

#[test]
fn the_last_argument_may_come_from_the_input() {
    let env = Environment::new(&[]);
    env.assert_output_of(&["-x", "set", "k"], "from input\n", "OK\n");
    assert_eq!(env.received(), ["set k from input\n"]);
}

#[test]
fn error_replies_count_as_failures_on_request() {
    let env = Environment::new(&[("get", "-ERR arity\r\n")]);
    assert_eq!(env.run(&["get"], "").status.code(), Some(0));
    env.assert_failure(&["-e", "get"], "ERR arity\n");
}

#[test]
fn no_server() {
    let port = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port();
    let mut command = program();
    command.args(["-p", &port.to_string(), "ping"]);
    let output = run(command, "");
    let expected = format!("Could not connect to Redis at 127.0.0.1:{port}: Connection refused\n");
    assert_eq!(String::from_utf8_lossy(&output.stderr), expected);
    assert_eq!(output.status.code(), Some(1));

    let mut command = program();
    command.args(["-s", "/nonexistent/socket", "ping"]);
    let expected = "Could not connect to Redis at /nonexistent/socket: No such file or directory\n";
    assert_eq!(String::from_utf8_lossy(&run(command, "").stderr), expected);
}

#[test]
fn a_server_that_hangs_up() {
    let env = Environment::new(&[("get x", "CLOSE")]);
    env.assert_failure(&["get", "x"], "Error: Server closed the connection\n");
}

#[test]
fn unknown_options_are_refused() {
    let env = Environment::new(&[]);
    let text = "Unrecognized option or bad number of args for: ";
    env.assert_failure(&["--bigkeys"], &format!("{text}'--bigkeys'\n"));
    env.assert_failure(&["-n"], &format!("{text}'-n'\n"));
    env.assert_failure(&["-u", "http://x", "ping"], "Invalid URI scheme\n");
    assert!(env.received().is_empty());
}

#[test]
fn help_and_version() {
    let env = Environment::new(&[]);
    assert!(
        env.run(&["--help"], "")
            .stdout
            .starts_with(b"Usage: minium cli")
    );
    env.assert_output(&["--version"], concat!("minium-cli ", env!("CARGO_PKG_VERSION"), "\n"));
}

#[test]
fn messages_are_followed() {
    let env = Environment::new(&[(
        "subscribe c",
        "*3\r\n$9\r\nsubscribe\r\n$1\r\nc\r\n:1\r\n*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$1\r\nm\r\nCLOSE",
    )]);
    let output = env.run(&["subscribe", "c"], "");
    let expected = "subscribe\nc\n1\nmessage\nc\nm\n";
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
}
