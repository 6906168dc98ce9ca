//! What each kind of reply looks like in each format.

use crate::environment::Environment;

const NESTED: &str = "*2\r\n*2\r\n$1\r\na\r\n*1\r\n:1\r\n*2\r\n+x\r\n-ERR y\r\n";
const MAP: &str = "%2\r\n$1\r\na\r\n:1\r\n$1\r\nb\r\n*2\r\n:1\r\n:2\r\n";
const ODD_KEYS: &str = "%3\r\n:1\r\n,2.5\r\n#t\r\n$-1\r\n*2\r\n:1\r\n:2\r\n~1\r\n:3\r\n";

fn check(reply: &str, people: &str, raw: &str, csv: &str, json: &str) {
    let env = Environment::new(&[("get x", reply)]);
    env.assert_output(&["--no-raw", "get", "x"], people);
    env.assert_output(&["--raw", "get", "x"], raw);
    env.assert_output(&["--csv", "get", "x"], csv);
    env.assert_output(&["--json", "get", "x"], json);
}

#[test]
fn scalars() {
    check("+OK\r\n", "OK\n", "OK\n", "\"OK\"\n", "\"OK\"\n");
    check(
        "-ERR no\r\n",
        "(error) ERR no\n",
        "ERR no\n\n",
        "ERROR,\"ERR no\"\n",
        "error:\"ERR no\"\n",
    );
    check(":12\r\n", "(integer) 12\n", "12\n", "12\n", "12\n");
    check("$-1\r\n", "(nil)\n", "\n", "NULL\n", "null\n");
    check("_\r\n", "(nil)\n", "\n", "NULL\n", "null\n");
    check(",3.25\r\n", "(double) 3.25\n", "3.25\n", "3.25\n", "3.25\n");
    check("#t\r\n", "(true)\n", "(true)\n", "true\n", "true\n");
    check("=7\r\ntxt:a\nb\r\n", "a\nb\n", "a\nb\n", "\"a\\nb\"\n", "\"a\\nb\"\n");
    check(
        "$8\r\nh\"l\n\u{1}é\\\r\n",
        "\"h\\\"l\\n\\x01\\xc3\\xa9\\\\\"\n",
        "h\"l\n\u{1}é\\\n",
        "\"h\\\"l\\n\\x01\\xc3\\xa9\\\\\"\n",
        "\"h\\\"l\\n\\u0001é\\\\\"\n",
    );
}

#[test]
fn aggregates() {
    check("*0\r\n", "(empty array)\n", "\n", "\n", "[]\n");
    check("%0\r\n", "(empty hash)\n", "\n", "\n", "{}\n");
    check("~0\r\n", "(empty set)\n", "\n", "\n", "[]\n");
    check(
        NESTED,
        "1) 1) \"a\"\n   2) 1) (integer) 1\n2) 1) x\n   2) (error) ERR y\n",
        "a\n1\nx\nERR y\n\n",
        "\"a\",1,\"x\",ERROR,\"ERR y\"\n",
        "[[\"a\",[1]],[\"x\",error:\"ERR y\"]]\n",
    );
    check(
        MAP,
        "1# \"a\" => (integer) 1\n2# \"b\" => \n   1) (integer) 1\n   2) (integer) 2\n",
        "a 1\nb 1\n2\n",
        "\"a\",1,\"b\",1,2\n",
        "{\"a\":1,\"b\":[1,2]}\n",
    );
    check(
        ODD_KEYS,
        "1# (integer) 1 => (double) 2.5\n2# (true) => (nil)\n3# 1) (integer) 1\n   \
         2) (integer) 2 => 1~ (integer) 3\n",
        "1 2.5\n(true) \n1\n2 3\n",
        "1,2.5,true,NULL,1,2,3\n",
        "{\"1\":2.5,\"true\":null,\"[1,2]\":[3]}\n",
    );
}

#[test]
fn numbers_line_up() {
    let reply = format!("*10\r\n{}*2\r\n:1\r\n:2\r\n", ":0\r\n".repeat(9));
    let env = Environment::new(&[("get x", &reply)]);
    let lines: String = (1..10).map(|n| format!(" {n}) (integer) 0\n")).collect();
    let last = "10) 1) (integer) 1\n    2) (integer) 2\n";
    env.assert_output(&["--no-raw", "get", "x"], &format!("{lines}{last}"));
}

#[test]
fn text_for_people_is_never_quoted() {
    let env = Environment::new(&[
        ("info", "$7\r\na:1\r\nb\n\r\n"),
        ("client list", "$2\r\nx\n\r\n"),
    ]);
    env.assert_output(&["--no-raw", "info"], "a:1\r\nb\n");
    env.assert_output(&["--csv", "client", "list"], "x\n");
    env.assert_output(&["--raw", "client", "list"], "x\n\n");
}

#[test]
fn raw_separators_can_be_chosen() {
    let env = Environment::new(&[("get x", "*2\r\n:1\r\n:2\r\n")]);
    env.assert_output(&["-d", ";", "-D", "!", "get", "x"], "1;2!");
}
