use super::*;
use proptest::prelude::*;

fn decode_chunks<'a>(
    chunks: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Value>, Result<(), DecodeError>) {
    let mut decoder = Decoder::default();
    let mut values = Vec::new();
    for chunk in chunks {
        decoder.feed(chunk);
        loop {
            match decoder.next_value() {
                Ok(Some(value)) => values.push(value),
                Ok(None) => break,
                Err(error) => return (values, Err(error)),
            }
        }
    }
    (values, Ok(()))
}

fn decode(bytes: &[u8]) -> Value {
    let (mut values, result) = decode_chunks([bytes]);
    assert_eq!((values.len(), result), (1, Ok(())));
    values.remove(0)
}

fn bulk(text: &str) -> Value {
    Value::Bulk(text.as_bytes().to_vec())
}

#[test]
fn scalars() {
    assert_eq!(decode(b"+OK\r\n"), Value::Simple(b"OK".to_vec()));
    assert_eq!(decode(b"-ERR x\r\n"), Value::Error(b"ERR x".to_vec()));
    assert_eq!(decode(b"!5\r\nERR\nx\r\n"), Value::Error(b"ERR\nx".to_vec()));
    assert_eq!(decode(b":-12\r\n"), Value::Int(-12));
    assert_eq!(decode(b"$3\r\na\r\n\r\n"), bulk("a\r\n"));
    assert_eq!(decode(b"$-1\r\n"), Value::Null);
    assert_eq!(decode(b"_\r\n"), Value::Null);
    assert_eq!(decode(b"*-1\r\n"), Value::NullArray);
    assert_eq!(decode(b"#t\r\n"), Value::Bool(true));
    assert_eq!(decode(b",-inf\r\n"), Value::Double(b"-inf".to_vec()));
    assert_eq!(decode(b"(123\r\n"), Value::BigNumber(b"123".to_vec()));
    assert_eq!(decode(b"=6\r\ntxt:ab\r\n"), Value::Verbatim(*b"txt", b"ab".to_vec()));
}

#[test]
fn aggregates() {
    assert_eq!(decode(b"*0\r\n"), Value::Array(Vec::new()));
    assert_eq!(
        decode(b"*3\r\n:1\r\n*2\r\n+a\r\n*0\r\n~1\r\n:2\r\n"),
        Value::Array(vec![
            Value::Int(1),
            Value::Array(vec![Value::Simple(b"a".to_vec()), Value::Array(Vec::new())]),
            Value::Set(vec![Value::Int(2)]),
        ])
    );
    assert_eq!(
        decode(b"%1\r\n$1\r\nk\r\n%0\r\n"),
        Value::Map(vec![(bulk("k"), Value::Map(Vec::new()))])
    );
    assert_eq!(
        decode(b"*1\r\n|1\r\n+ttl\r\n:3\r\n$1\r\nv\r\n"),
        Value::Array(vec![Value::Attribute(
            vec![(Value::Simple(b"ttl".to_vec()), Value::Int(3))],
            Box::new(bulk("v")),
        )])
    );
}

#[test]
fn errors() {
    for (bytes, expected) in [
        (&b"x\r\n"[..], DecodeError::UnknownType(b'x')),
        (b"\r\n", DecodeError::BadValue),
        (b"\n", DecodeError::UnknownType(b'\n')),
        (b":1x\r\n", DecodeError::BadNumber),
        (b"$-2\r\n", DecodeError::BadNumber),
        (b"*-2\r\n", DecodeError::BadNumber),
        (b"%-1\r\n", DecodeError::BadNumber),
        (b"$1\r\nabc", DecodeError::BadValue),
        (b"#x\r\n", DecodeError::BadValue),
        (b",x\r\n", DecodeError::BadValue),
        (b"=2\r\nab\r\n", DecodeError::BadValue),
    ] {
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(decode_chunks([bytes]).1, Err(expected), "{shown:?}");
    }
    assert_eq!(decode_chunks([&b"*1\r\n".repeat(DEPTH_MAX + 1)[..]]).1, Err(DecodeError::TooDeep));
    assert_eq!(decode_chunks([&[b'+'; LINE_MAX][..]]).1, Err(DecodeError::LineTooLong));
}

#[test]
fn a_claimed_length_allocates_nothing() {
    let mut decoder = Decoder::default();
    decoder.feed(b"*4611686018427387904\r\n:1\r\n$9223372036854775807\r\nx");
    assert_eq!(decoder.next_value(), Ok(None));
    assert!(decoder.is_mid_value());
    assert!(decoder.stack[0].items.capacity() < 100 && decoder.buf.capacity() < 1000);
}

#[test]
fn an_error_of_several_lines_survives_encoding() {
    let mut out = Vec::new();
    Value::Error(b"ERR a\nb".to_vec()).encode(&mut out);
    assert_eq!(decode(&out), Value::Error(b"ERR a\nb".to_vec()));
}

#[test]
fn commands() {
    assert_eq!(encode_command(&["SET", "k", ""]), b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n$0\r\n\r\n");
}

fn value() -> impl Strategy<Value = Value> {
    let line = "[a-z ]{0,8}".prop_map(String::into_bytes);
    let bytes = proptest::collection::vec(any::<u8>(), 0..12);
    let scalar = prop_oneof![
        line.clone().prop_map(Value::Simple),
        line.prop_map(Value::Error),
        any::<i64>().prop_map(Value::Int),
        bytes.clone().prop_map(Value::Bulk),
        Just(Value::Null),
        Just(Value::NullArray),
        any::<bool>().prop_map(Value::Bool),
        Just(Value::Double(b"1.5".to_vec())),
        Just(Value::BigNumber(b"-12345678901234567890".to_vec())),
        bytes.prop_map(|bytes| Value::Verbatim(*b"mkd", bytes)),
    ];
    scalar.prop_recursive(4, 40, 5, |inner| {
        let items = proptest::collection::vec(inner.clone(), 0..5);
        let pairs = proptest::collection::vec((inner.clone(), inner.clone()), 0..4);
        prop_oneof![
            items.clone().prop_map(Value::Array),
            items.clone().prop_map(Value::Set),
            items.prop_map(Value::Push),
            pairs.clone().prop_map(Value::Map),
            (pairs, inner).prop_map(|(pairs, value)| Value::Attribute(pairs, Box::new(value))),
        ]
    })
}

proptest! {
    #[test]
    fn any_split_of_what_was_encoded_gives_it_back(
        values in proptest::collection::vec(value(), 1..5),
        chunk_len in 1usize..30,
    ) {
        let mut bytes = Vec::new();
        values.iter().for_each(|value| value.encode(&mut bytes));
        prop_assert_eq!(decode_chunks(bytes.chunks(chunk_len)), (values.clone(), Ok(())));
        prop_assert_eq!(decode_chunks([&bytes[..]]), (values, Ok(())));
    }

    #[test]
    fn noise_is_refused_alike_whatever_the_split(
        bytes in "[*$%|~>_#,(=+:\r\n0-9a-]{0,40}",
        chunk_len in 1usize..10,
    ) {
        let bytes = bytes.into_bytes();
        prop_assert_eq!(decode_chunks(bytes.chunks(chunk_len)), decode_chunks([&bytes[..]]));
    }
}
