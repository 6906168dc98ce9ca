use super::*;
use proptest::prelude::*;

const LIMITS: Limits = Limits {
    max_bulk_bytes: 512 << 20,
    authenticated: true,
};
const UNAUTHENTICATED: Limits = Limits {
    authenticated: false,
    ..LIMITS
};

type Requests = (Vec<Vec<Vec<u8>>>, Result<(), ProtocolError>);

/// Parses chunks as they arrive, moving the unfinished rest to the front as a reader would.
fn parse_chunks<'a>(chunks: impl IntoIterator<Item = &'a [u8]>, limits: &Limits) -> Requests {
    let mut parser = Parser::default();
    let mut requests = Vec::new();
    let mut buf = Vec::new();
    for chunk in chunks {
        buf.extend_from_slice(chunk);
        let mut pos = 0;
        loop {
            let (mut spans, before) = (Vec::new(), pos);
            match parser.next(&mut buf, &mut pos, &mut spans, limits) {
                Ok(true) => {
                    requests.push(spans.iter().map(|span| span.of(&buf).to_vec()).collect())
                }
                Ok(false) => {
                    assert_eq!((pos, spans.len()), (before, 0));
                    break;
                }
                Err(error) => {
                    assert!(spans.is_empty());
                    return (requests, Err(error));
                }
            }
        }
        buf.drain(..pos);
    }
    (requests, Ok(()))
}

fn parse(bytes: &[u8]) -> Requests {
    let whole = parse_chunks([bytes], &LIMITS);
    assert_eq!(whole, parse_chunks(bytes.chunks(1), &LIMITS), "split into single bytes");
    whole
}

fn check(bytes: &str, expected: &[&[&str]]) {
    let (requests, result) = parse(bytes.as_bytes());
    assert_eq!(result, Ok(()));
    let expected: Vec<Vec<Vec<u8>>> = expected
        .iter()
        .map(|request| request.iter().map(|arg| arg.as_bytes().to_vec()).collect())
        .collect();
    assert_eq!(requests, expected, "{bytes:?}");
}

#[test]
fn what_is_understood_of_an_unfinished_request_is_what_stands_before_the_bulk_in_flight() {
    let mut parser = Parser::default();
    let mut request = b"*3\r\n$3\r\nSET\r\n$4\r\nab".to_vec();
    for (more, understood, bulk, hint) in [
        (&b""[..], "*3\r\n$3\r\nSET\r\n$4\r\n".len(), 6, 4),
        (b"cd\r\n$", "*3\r\n$3\r\nSET\r\n$4\r\nabcd\r\n".len(), 1, 0),
        (b"9\r\n1", "*3\r\n$3\r\nSET\r\n$4\r\nabcd\r\n$9\r\n".len(), 11, 10),
    ] {
        request.extend_from_slice(more);
        let is_whole = parser.next(&mut request, &mut 0, &mut Vec::new(), &LIMITS);
        assert_eq!(is_whole, Ok(false));
        let found = (parser.understood_bytes(), parser.bulk_bytes(request.len()), parser.hint());
        assert_eq!(found, (understood, bulk, hint), "after {more:?}");
    }
    request.extend_from_slice(b"23456789??");
    let is_whole = parser.next(&mut request, &mut 0, &mut Vec::new(), &LIMITS);
    assert_eq!(is_whole, Err(ProtocolError::InvalidCrlf));
    assert_eq!(parser.hint(), 0, "nothing is awaited any more");
}

fn check_error(bytes: &[u8], limits: &Limits, expected: &str) {
    let (_, result) = parse_chunks([bytes], limits);
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
    let text = result.map_err(|error| error.to_string());
    assert_eq!(text, Err(format!("Protocol error: {expected}")), "{shown:?}");
}

#[test]
fn arrays_of_bulks() {
    check("*1\r\n$4\r\nPING\r\n", &[&["PING"]]);
    check(
        "*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n*1\r\n$4\r\nPING\r\n",
        &[&["SET", "k", ""], &["PING"]],
    );
    check("*2\r\n$4\r\nECHO\r\n$11\r\n*1\r\n$1\r\nx\r\n\r\n", &[&["ECHO", "*1\r\n$1\r\nx\r\n"]]);
}

#[test]
fn empty_requests_pass() {
    check("*0\r\n*-1\r\n\r\n  \n*1\r\n$1\r\nx\r\n", &[&[], &[], &[], &[], &["x"]]);
    check("*-5\r\n", &[&[]]);
}

#[test]
fn inline_commands() {
    check("PING\r\nset k v\n", &[&["PING"], &["set", "k", "v"]]);
    check("set \"a b\" '\"c\"'\r\n", &[&["set", "a b", "\"c\""]]);
    check("set x\"\\x41\\n\" z\r\n*1\r\n$1\r\ny\r\n", &[&["set", "xA\n", "z"], &["y"]]);
}

#[test]
fn errors() {
    for (bytes, expected) in [
        ("*abc\r\n", "invalid multibulk length"),
        ("*\r\n", "invalid multibulk length"),
        ("*01\r\n", "invalid multibulk length"),
        ("*+1\r\n", "invalid multibulk length"),
        ("*2147483648\r\n", "invalid multibulk length"),
        ("*99999999999999999999\r\n", "invalid multibulk length"),
        ("*1\r\n$abc\r\n", "invalid bulk length"),
        ("*1\r\n$-1\r\n", "invalid bulk length"),
        ("*1\r\n$01\r\n", "invalid bulk length"),
        ("*1\r\n$536870913\r\n", "invalid bulk length"),
        ("*1\r\n$9223372036854775807\r\n", "invalid bulk length"),
        ("*2\r\n$1\r\na\r\nfoo\r\n", "expected '$', got 'f'"),
        ("*1\r\n\r\n", "expected '$', got '\r'"),
        ("set \"a\r\n", "unbalanced quotes in request"),
        ("set \"a\"b\r\n", "unbalanced quotes in request"),
    ] {
        check_error(bytes.as_bytes(), &LIMITS, expected);
        let (_, by_bytes) = parse_chunks(bytes.as_bytes().chunks(1), &LIMITS);
        assert_eq!(by_bytes, parse(bytes.as_bytes()).1);
    }
}

#[test]
fn endless_lines_are_refused_whatever_the_split() {
    let long = vec![b'1'; LINE_MAX + 1];
    for (head, expected) in [
        ("*", "too big mbulk count string"),
        ("*1\r\n$", "too big bulk count string"),
        ("", "too big inline request"),
    ] {
        let bytes = [head.as_bytes(), &long].concat();
        check_error(&bytes, &LIMITS, expected);
        check_error(&[&bytes[..], b"\r\n"].concat(), &LIMITS, expected);
        assert_eq!(parse_chunks([&bytes[..bytes.len() - 2]], &LIMITS).1, Ok(()));
    }
    let longest = [&long[..LINE_MAX], b"\n"].concat();
    assert_eq!(parse_chunks([&longest[..]], &LIMITS).0.len(), 1);
}

#[test]
fn strangers_send_little() {
    check_error(b"*11\r\n", &UNAUTHENTICATED, "unauthenticated multibulk length");
    check_error(b"*1\r\n$16385\r\n", &UNAUTHENTICATED, "unauthenticated bulk length");
    let (requests, result) =
        parse_chunks([&b"*2\r\n$4\r\nAUTH\r\n$1\r\np\r\n"[..]], &UNAUTHENTICATED);
    assert_eq!((requests.len(), result), (1, Ok(())));
}

#[test]
fn a_line_or_a_bulk_without_its_end_is_an_error() {
    check_error(b"*1\rx$4\r\nPING\r\n", &LIMITS, "invalid CRLF in request");
    check_error(b"*1\r\n$4\rxPING\r\n", &LIMITS, "invalid CRLF in request");
    check_error(b"*1\r\n$4\r\nPINGx\n", &LIMITS, "invalid CRLF in request");
    check_error(b"*1\r\n$4\r\nPING\rx", &LIMITS, "invalid CRLF in request");
    check_error(b"*1x\n$4\r\nPING\r\n", &LIMITS, "invalid multibulk length");
}

#[test]
fn the_hint_is_what_the_bulk_lacks() {
    let mut parser = Parser::default();
    let mut buf = b"*2\r\n$1\r\nx\r\n$100\r\nabc".to_vec();
    let (mut pos, mut spans) = (0, Vec::new());
    assert_eq!(parser.next(&mut buf, &mut pos, &mut spans, &LIMITS), Ok(false));
    assert_eq!(parser.hint(), 99);
    assert!(parser.is_mid_request());
    buf.extend([b'd'; 97]);
    buf.extend(b"\r\n");
    assert_eq!(parser.next(&mut buf, &mut pos, &mut spans, &LIMITS), Ok(true));
    assert_eq!((parser.hint(), spans.len(), pos), (0, 2, buf.len()));
}

#[test]
fn a_claimed_count_allocates_nothing() {
    let mut parser = Parser::default();
    let mut spans = Vec::new();
    let claim = &mut b"*2147483647\r\n$1\r\nx\r\n".to_vec();
    assert_eq!(parser.next(claim, &mut 0, &mut spans, &LIMITS), Ok(false));
    assert!(parser.partial.capacity() < 100 && spans.capacity() < 100);
}

#[test]
fn a_million_arguments_in_small_reads() {
    let n_args = 1_000_000;
    let mut bytes = format!("*{n_args}\r\n").into_bytes();
    for _ in 0..n_args {
        bytes.extend_from_slice(b"$1\r\nx\r\n");
    }
    let mut parser = Parser::default();
    let (mut buf, mut spans) = (Vec::new(), Vec::new());
    let mut done = false;
    for chunk in bytes.chunks(16 * 1024) {
        buf.extend_from_slice(chunk);
        done = parser.next(&mut buf, &mut 0, &mut spans, &LIMITS).unwrap();
    }
    assert!(done);
    assert_eq!(spans.len(), n_args);
    assert!(parser.partial.capacity() <= PARTIAL_KEPT_MAX);
}

fn stream() -> impl Strategy<Value = Vec<u8>> {
    let arg = proptest::collection::vec(any::<u8>(), 0..20);
    let array = proptest::collection::vec(arg, 0..6).prop_map(|args| {
        let mut bytes = format!("*{}\r\n", args.len()).into_bytes();
        for arg in args {
            bytes.extend_from_slice(format!("${}\r\n", arg.len()).as_bytes());
            bytes.extend_from_slice(&arg);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes
    });
    let inline = "[a-z \"'\\\\]{0,12}\r?\n".prop_map(String::into_bytes);
    let noise = "[*$\r\n0-9a-]{0,6}".prop_map(String::into_bytes);
    let piece = prop_oneof![6 => array, 2 => inline, 1 => noise];
    proptest::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_split_gives_the_same_requests(
        bytes in stream(),
        cuts in proptest::collection::vec(1usize..40, 1..20),
        authenticated: bool,
    ) {
        let limits = Limits { authenticated, ..LIMITS };
        let whole = parse_chunks([&bytes[..]], &limits);
        let mut rest = &bytes[..];
        let mut chunks = Vec::new();
        for &cut in cuts.iter().cycle() {
            if rest.is_empty() {
                break;
            }
            let (chunk, after) = rest.split_at(cut.min(rest.len()));
            chunks.push(chunk);
            rest = after;
        }
        prop_assert_eq!(parse_chunks(chunks, &limits), whole);
    }
}
