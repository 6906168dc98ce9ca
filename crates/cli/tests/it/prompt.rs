//! Commands read from the input.

use crate::environment::Environment;

#[test]
fn lines_are_commands() {
    let env = Environment::new(&[("get a", "$1\r\n1\r\n"), ("nosuch", "-ERR unknown\r\n")]);
    let input = "set a 1\nget a\nbad\"\n\nnosuch\n3 incr x\nset \"a b\" 'c'\nquit\nget a\n";
    let expected = "OK\n1\nInvalid argument(s)\nERR unknown\n\nOK\nOK\nOK\nOK\n";
    env.assert_output_of(&[], input, expected);
    assert_eq!(env.received().last().unwrap(), "set a b c");
}

#[test]
fn the_first_error_ends_the_input_on_request() {
    let env = Environment::new(&[("nosuch", "-ERR unknown\r\n")]);
    let output = env.run(&["-e"], "nosuch\nget a\n");
    assert_eq!((output.stderr, output.status.code()), (b"ERR unknown\n".to_vec(), Some(1)));
    assert_eq!(env.received(), ["nosuch"]);
}

#[test]
fn a_lost_connection_is_opened_anew_and_its_state_restored() {
    let env = Environment::new(&[("get x", "CLOSE")]);
    let output = env.run(&[], "select 5\nget x\nget a\n");
    let expected = [
        "select 5", "get x", "SELECT 5", "get x", "SELECT 5", "get a",
    ];
    assert_eq!(env.received(), expected);
    assert_eq!(output.stderr, b"Error: Server closed the connection\n");
    assert_eq!(output.stdout, b"OK\nOK\n");
}
