//! Values of every encoding there and back, every older form by hand, and what must be refused.

use datatypes::encoding::quicklist::Side;
use datatypes::hash::{self, FieldDeadline, HashMut};
use datatypes::home::{Encoding, Home, Limits, NewPayload, Owned};
use datatypes::list::ListMut;
use datatypes::set::{self, SetMut};
use datatypes::stream::group::{Group, Pending};
use datatypes::stream::{Stream, StreamId, payload_of};
use datatypes::string;
use datatypes::value::ValueRef;
use datatypes::zset::ZsetMut;

use crate::code::{VERSION, VERSION_PLAIN, VERSION_VALKEY, kind};
use crate::crc::checksum;
use crate::error::Reason;
use crate::file::{self, Attributes, Part, Parts};
use crate::payload::{Demands, of_value, value, verified};
use crate::read::Reader;
use crate::write::Writer;

pub(crate) const STRICT: Demands = Demands {
    checks_sum: true,
    knows_version: true,
};

/// What a value holds, whatever its encoding: lines, sorted where there is no order.
pub(crate) fn content(home: &Owned) -> Vec<String> {
    let show = |bytes: Vec<u8>| bytes.escape_ascii().to_string();
    let mut lines: Vec<String> = match ValueRef::new(home.encoding(), home.payload()) {
        ValueRef::String(text) => return vec![show(text.to_vec())],
        ValueRef::List(list) => return list.iter().map(|item| show(item.to_vec())).collect(),
        ValueRef::Set(set) => set.iter().map(|item| show(item.to_vec())).collect(),
        ValueRef::Zset(zset) => {
            let pairs = zset.iter();
            return pairs
                .map(|(member, score)| format!("{score} {}", show(member.to_vec())))
                .collect();
        }
        ValueRef::Stream(stream) => return content_of_stream(stream),
        ValueRef::Hash(hash) => hash
            .iter()
            .map(|field| {
                let (name, value) = (show(field.field.to_vec()), show(field.value.to_vec()));
                format!("{name}={value} {:?}", field.deadline_ms)
            })
            .collect(),
    };
    lines.sort();
    lines
}

fn content_of_stream(stream: &Stream) -> Vec<String> {
    let all = || StreamId::MIN..=StreamId::MAX;
    let mut lines = vec![format!("{:?}", stream.facts())];
    for entry in stream.range(all()) {
        let fields = entry
            .fields()
            .map(|(name, value)| (name.to_vec(), value.to_vec()));
        lines.push(format!("{} {:?}", entry.id, fields.collect::<Vec<_>>()));
    }
    for (name, group) in stream.groups() {
        lines.push(format!("{name:?} {} {:?}", group.last_id, group.entries_read));
        for (_, consumer) in group.consumers() {
            let (name, seen_ms, active_ms) =
                (consumer.name(), consumer.seen_ms, consumer.active_ms);
            lines.push(format!("{name:?} {seen_ms} {active_ms:?}"));
            for id in consumer.pending(all()) {
                let pending = group.pending_at(id).unwrap();
                lines.push(format!("{id} {} {}", pending.delivered_ms, pending.n_deliveries));
            }
        }
        lines.extend(
            group
                .unowned()
                .map(|id| format!("{id} {:?}", group.pending_at(id))),
        );
    }
    lines.extend(stream.idempotency().map(|known| format!("{known:?}")));
    lines
}

/// A stream with holes, and two groups of which one has consumers.
fn stream_of(elements: &[Vec<u8>], limits: &Limits) -> Owned {
    let mut stream = Stream::new();
    for (n, element) in elements.iter().enumerate() {
        let id = StreamId::new(1 + n as u64 / 3, 1 + n as u64 % 3);
        let name = [&b"one"[..], b"other"][usize::from(n % 10 == 9)];
        let fields = [(name, &element[..]), (b"n", b"12")];
        stream
            .append(id, fields.into_iter(), limits.stream_block)
            .unwrap();
        if n % 4 == 3 {
            stream.delete(id);
        }
    }
    let mut group = Group::new(StreamId::new(7, 1), Some(4));
    for (n, name) in [&b"bob"[..], b"alice", b"carol"].iter().enumerate() {
        let (consumer, _) = group.consumer_or_new(name, 1000 + n as u64);
        if n < 2 {
            group.consumer_mut(consumer).active_ms = Some(2000);
            let pending = Pending {
                delivered_ms: 3000,
                n_deliveries: 1 + n as u64,
                consumer: Some(consumer),
            };
            group.deliver(StreamId::new(1, 1 + n as u64), pending);
        }
    }
    stream.add_group(b"read", group);
    stream.add_group(b"fresh", Group::new(StreamId::MIN, None));
    if elements.len() % 3 == 1 {
        let unowned = Pending {
            delivered_ms: 0,
            n_deliveries: i64::MAX as u64,
            consumer: None,
        };
        let group = stream.group_mut(b"read").unwrap();
        group.deliver(StreamId::new(1, 3), unowned);
    }
    if elements.len() % 3 == 2 {
        let known = stream.idempotency_mut();
        known.remember(b"p", b"first", StreamId::new(1, 1), 1);
        known.remember(b"p", b"", StreamId::new(1, 2), 1);
        known.remember(b"q", b"first", StreamId::new(2, 1), 2);
        known.n_added = 3;
    }
    let (encoding, payload) = payload_of(stream);
    Owned::new(encoding, payload)
}

fn element(n: usize) -> Vec<u8> {
    match n % 4 {
        0 => n.to_string().into_bytes(),
        1 => format!("element {n}").into_bytes(),
        2 => format!("-{}", n * 100_000_000_007).into_bytes(),
        _ => format!("{n}{}", "long ".repeat(n % 90)).into_bytes(),
    }
}

/// A value of each type with `n` elements.
pub(crate) fn values(n: usize, limits: &Limits) -> Vec<Owned> {
    let elements: Vec<Vec<u8>> = (0..n).map(element).collect();
    let mut values = Vec::new();
    for text in &elements {
        let (encoding, payload) = string::fresh(text);
        values.push(Owned::new(encoding, payload));
    }
    let empty = NewPayload::Blob(&datatypes::encoding::listpack::EMPTY);
    let mut list = Owned::new(Encoding::ListPack, empty);
    ListMut::new(&mut list, limits).push(Side::Tail, elements.iter().map(|item| &item[..]));
    values.push(list);
    for start in ["1", "x"] {
        let (encoding, payload) = set::fresh(start.as_bytes(), 1, limits);
        let mut home = Owned::new(encoding, payload);
        for (n, text) in elements.iter().enumerate() {
            let number = (n * n).to_string();
            let member = if start == "1" {
                number.as_bytes()
            } else {
                text
            };
            SetMut::new(&mut home, limits).add(member);
        }
        values.push(home);
    }
    let empty = NewPayload::Blob(&datatypes::encoding::listpack::EMPTY);
    let mut zset = Owned::new(Encoding::ZsetPack, empty);
    for (n, member) in elements.iter().enumerate() {
        let score = [n as f64, -1.5 * n as f64, f64::INFINITY, 1e300][n % 4];
        ZsetMut::new(&mut zset, limits).set_score(member, score);
    }
    values.push(zset);
    for has_deadlines in [false, true] {
        let (encoding, payload) = hash::fresh();
        let mut home = Owned::new(encoding, payload);
        for (n, field) in elements.iter().enumerate() {
            let deadline = match has_deadlines && n % 3 == 0 {
                true => FieldDeadline::At(4_000_000_000_000 - n as u64),
                false => FieldDeadline::Clear,
            };
            HashMut::new(&mut home, limits).set(field, &element(n + 1), deadline);
        }
        values.push(home);
    }
    values.push(stream_of(&elements, limits));
    values
}

fn dumped(home: &Owned, packs: bool) -> Vec<u8> {
    of_value(home.encoding(), home.payload(), packs)
}

fn restored(payload: &[u8], limits: &Limits) -> Result<Owned, Reason> {
    let (body, version) = verified(payload, STRICT).map_err(|error| error.reason)?;
    value(body, version, limits).map_err(|error| error.reason)
}

/// The value of these bytes of a version.
fn read(body: &[u8], version: u16) -> Result<Owned, Reason> {
    value(body, version, &Limits::default()).map_err(|error| error.reason)
}

#[test]
fn every_encoding_comes_back_as_it_was() {
    let limits = Limits::default();
    for n in [1, 2, 5, 60, 200, 700, 3000] {
        for home in values(n, &limits).iter().rev().take(200) {
            for packs in [true, false] {
                let payload = dumped(home, packs);
                let back = restored(&payload, &limits).unwrap();
                assert_eq!(back.encoding(), home.encoding(), "{n}");
                assert_eq!(content(&back), content(home));
                assert_eq!(back.scheduled_ms.is_some(), home.scheduled_ms.is_some());
            }
        }
    }
}

/// The code under which Valkey is sent a value, and what comes of it.
fn through_valkey(home: &Owned, limits: &Limits) -> (u8, Owned) {
    let (encoding, payload) = (home.encoding(), home.payload());
    let mut writer = Writer::new(true).for_valkey(true);
    let code = crate::save::code(&writer, encoding, payload);
    assert!(code <= kind::HASH_VALKEY, "{code}");
    writer.byte(code);
    crate::save::value(&mut writer, encoding, payload);
    (code, value(&writer.out, VERSION_VALKEY, limits).unwrap())
}

#[test]
fn a_hash_whose_deadlines_are_gone_is_one_without_for_valkey() {
    let limits = Limits::default();
    let (encoding, payload) = hash::fresh();
    let mut home = Owned::new(encoding, payload);
    for deadline in [FieldDeadline::At(4_000_000_000_000), FieldDeadline::Clear] {
        HashMut::new(&mut home, &limits).set(b"f", b"v", deadline);
    }
    assert_eq!(home.encoding(), Encoding::HashPackEx);
    let (code, read) = through_valkey(&home, &limits);
    assert_eq!(code, kind::HASH);
    assert_eq!(content(&read), content(&home));
}

#[test]
fn the_form_for_valkey_has_no_code_that_it_does_not_know() {
    let limits = Limits::default();
    let mut n_volatile = 0;
    for n in [1, 2, 5, 60, 200, 700] {
        for home in &values(n, &limits) {
            let (code, read) = through_valkey(home, &limits);
            let has_deadlines = home.scheduled_ms.is_some();
            n_volatile += usize::from(has_deadlines);
            assert_eq!(code == kind::HASH_VALKEY, has_deadlines, "{code}");
            let was_pending = |line: &String| line.contains("consumer: None");
            let is_known = |line: &String| line.starts_with("Idempotency");
            let mut lines = content(home);
            if home.encoding() == Encoding::Stream {
                lines.retain(|line| !was_pending(line) && !is_known(line)); // for which it has no room
            }
            assert_eq!(content(&read), lines);
        }
    }
    assert_eq!(n_volatile, 6, "one for each size");
}

#[test]
fn small_encodings_give_way_where_the_limits_are_lower() {
    let limits = Limits::default();
    let low = Limits {
        hash_max_listpack_entries: 2,
        set_max_intset_entries: 2,
        set_max_listpack_entries: 2,
        zset_max_listpack_entries: 2,
        list_max_listpack_size: 2,
        ..Limits::default()
    };
    for home in values(20, &limits).iter().skip(20) {
        let back = restored(&dumped(home, true), &low).unwrap();
        assert_eq!(content(&back), content(home));
        use Encoding::{HashTable, QuickList, SetTable, ZsetTree};
        assert!(matches!(
            back.encoding(),
            HashTable | QuickList | SetTable | ZsetTree | Encoding::Stream
        ));
    }
}

#[test]
fn no_payload_that_was_damaged_does_harm() {
    let limits = Limits::default();
    for home in values(12, &limits) {
        let payload = dumped(&home, true);
        for at in 0..payload.len() {
            assert!(restored(&payload[..at], &limits).is_err());
            for flip in [1, 0x80, 0xff] {
                let mut bad = payload.clone();
                bad[at] ^= flip;
                assert!(restored(&bad, &limits).is_err(), "a checksum finds it");
                // Without the checksum it is refused, or another value.
                let body = &bad[..bad.len() - 10];
                for version in [VERSION, VERSION_VALKEY] {
                    if let Ok(other) = value(body, version, &limits) {
                        assert!(
                            !ValueRef::new(other.encoding(), other.payload()).is_empty()
                                || other.encoding().kind() == datatypes::home::Kind::String
                        );
                        dumped(&other, false);
                    }
                }
            }
        }
    }
}

#[test]
fn lengths_that_nothing_follows_take_no_memory() {
    for body in [
        &b"\x00\x81\x7f\xff\xff\xff\xff\xff\xff\xff"[..],
        b"\x00\x80\xff\xff\xff\xff",
        b"\x01\x81\xff\xff\xff\xff\xff\xff\xff\xff\x01a",
        b"\x02\x80\xff\xff\xff\xff\x01a",
        b"\x05\x80\xff\xff\xff\xff\x01a",
        b"\x04\x80\xff\xff\xff\xff\x01a\x01b",
        b"\x12\x80\xff\xff\xff\xff\x01\x01a",
        b"\x00\xc3\x05\x80\xff\xff\xff\xff\x00a\xe0\xff\x00",
    ] {
        assert!(read(body, VERSION).is_err(), "{body:?}");
    }
}

fn ziplist(items: &[&[u8]]) -> Vec<u8> {
    let (mut body, mut before, mut last) = (Vec::new(), 0_usize, 10);
    for item in items {
        last = 10 + body.len();
        let start = body.len();
        match u8::try_from(before).ok().filter(|before| *before < 254) {
            Some(before) => body.push(before),
            None => {
                body.push(0xfe);
                body.extend((before as u32).to_le_bytes());
            }
        }
        body.extend_from_slice(item);
        before = body.len() - start;
    }
    let total = (10 + body.len() + 1) as u32;
    let mut bytes = total.to_le_bytes().to_vec();
    bytes.extend((last as u32).to_le_bytes());
    bytes.extend((items.len() as u16).to_le_bytes());
    bytes.extend(body);
    bytes.push(0xff);
    bytes
}

/// A body: a code, what stands before a string, and the string.
fn with_string(code: u8, before: &[u8], text: &[u8]) -> Vec<u8> {
    let mut writer = Writer::new(false);
    writer.byte(code);
    writer.raw(before);
    writer.string(text);
    writer.out
}

#[test]
fn forms_of_old_versions_are_read() {
    let long = [&[0x41, 0x2c][..], &[b'x'; 300]].concat();
    let list = ziplist(&[
        b"\x01a",
        b"\xf1",
        b"\xfd",
        b"\xfe\x80",
        b"\xc0\x00\x80",
        b"\xf0\x00\x00\x80",
        b"\xd0\x00\x00\x00\x80",
        &long,
        b"\xe0\xff\xff\xff\xff\xff\xff\xff\x7f",
    ]);
    let items = [
        "a",
        "0",
        "12",
        "-128",
        "-32768",
        "-8388608",
        "-2147483648",
        &"x".repeat(300),
        "9223372036854775807",
    ];
    let body = with_string(kind::LIST_ZIPLIST, b"", &list);
    assert_eq!(content(&read(&body, 9).unwrap()), items);
    let body = with_string(kind::LIST_QUICKLIST, b"\x01", &list);
    assert_eq!(content(&read(&body, 9).unwrap()), items);

    let pairs = ziplist(&[b"\x01b", b"\xf3", b"\x01a", b"\x031.5"]);
    let hash = read(&with_string(kind::HASH_ZIPLIST, b"", &pairs), 9).unwrap();
    assert_eq!(content(&hash), ["a=1.5 None", "b=2 None"]);
    let zset = read(&with_string(kind::ZSET_ZIPLIST, b"", &pairs), 9).unwrap();
    assert_eq!(content(&zset), ["1.5 a", "2 b"], "it is put into order");
    assert_eq!(zset.encoding(), Encoding::ZsetPack);

    let zipmap = b"\x02\x01a\x01\x03b---\x02xy\x00\x00\xff";
    let hash = read(&with_string(kind::HASH_ZIPMAP, b"", zipmap), 3).unwrap();
    assert_eq!(content(&hash), ["a=b None", "xy= None"]);

    for none in [&b"\x00\xff"[..], b"\x01\xfe\x01\0\0\0a\x01\x00b\xff"] {
        assert!(read(&with_string(kind::HASH_ZIPMAP, b"", none), 3).is_err());
    }

    let zset = read(b"\x03\x03\x01a\x011\x01b\xff\x01c\xfe", 3).unwrap();
    assert_eq!(content(&zset), ["-inf b", "1 a", "inf c"]);
    let list = read(b"\x01\x02\x01a\xc0\x05", 3).unwrap();
    assert_eq!(content(&list), ["a", "5"]);
}

#[test]
fn a_hash_with_deadlines_is_read_in_every_form() {
    let first = 1_000_u64.to_le_bytes();
    let plain = b"\x02\x00\x01a\x01b\x02\x01c\x01d";
    let wanted = ["a=b None", "c=d Some(1001)"];
    let after = [&[kind::HASH_DEADLINES][..], &first, plain].concat();
    assert_eq!(content(&read(&after, VERSION).unwrap()), wanted);
    let absolute = b"\x16\x02\x00\x01a\x01b\x43\xe9\x01c\x01d";
    assert_eq!(content(&read(absolute, VERSION).unwrap()), wanted);
    let none = (-1_i64).to_le_bytes();
    let some = 1_001_i64.to_le_bytes();
    let valkey = [&b"\x16\x02\x01a\x01b"[..], &none, b"\x01c\x01d", &some].concat();
    assert_eq!(content(&read(&valkey, VERSION_VALKEY).unwrap()), wanted);

    let mut pack = datatypes::encoding::listpack::Encoder::new();
    for text in ["a", "b", "0", "c", "d", "1001"] {
        pack.push(text.as_bytes());
    }
    let pack = pack.to_pack();
    for (code, before) in [
        (kind::HASH_PACK_EX, &first[..]),
        (kind::HASH_PACK_EX_PRE_GA, b""),
    ] {
        let home = read(&with_string(code, before, &pack), VERSION).unwrap();
        assert_eq!(content(&home), wanted);
        assert_eq!(home.scheduled_ms, Some(1001));
        let soonest = ValueRef::new(home.encoding(), home.payload());
        assert!(matches!(soonest, ValueRef::Hash(hash) if hash.next_deadline() == Some(1001)));
    }
}

#[test]
fn what_cannot_be_is_refused() {
    let pack = |texts: &[&str]| {
        let mut encoder = datatypes::encoding::listpack::Encoder::new();
        texts.iter().for_each(|text| encoder.push(text.as_bytes()));
        encoder.to_pack()
    };
    let (twice, odd) = (pack(&["a", "1", "a", "2"]), pack(&["a", "1", "b"]));
    for (code, before, text) in [
        (kind::SET_LISTPACK, &b""[..], &twice),
        (kind::HASH_LISTPACK, b"", &twice),
        (kind::HASH_LISTPACK, b"", &odd),
        (kind::ZSET_LISTPACK, b"", &twice),
        (kind::ZSET_LISTPACK, b"", &odd),
        (kind::ZSET_LISTPACK, b"", &pack(&["a", "nan"])),
        (kind::HASH_PACK_EX, &[0; 8], &twice),
        (kind::HASH_PACK_EX, &[0; 8], &pack(&["a", "b", "-1"])),
        (kind::SET_INTSET, b"", &b"\x02\0\0\0\x02\0\0\0\x01\0\x01\0".to_vec()),
    ] {
        let refusal = read(&with_string(code, before, text), VERSION).unwrap_err();
        assert!(matches!(refusal, Reason::Corrupt(_)), "{code}: {refusal}");
    }
    let none = pack(&[]);
    for code in [kind::SET_LISTPACK, kind::HASH_LISTPACK, kind::ZSET_LISTPACK] {
        assert_eq!(read(&with_string(code, b"", &none), VERSION).unwrap_err(), Reason::Empty);
    }
    for (body, reason) in [
        (&b"\x02\x00"[..], Reason::Empty),
        (b"\x02\x02\x01a\x01a", Reason::Corrupt("a member of a set stands there twice")),
        (b"\x00\x01a!", Reason::Corrupt("bytes behind the value")),
        (b"\x07", Reason::Unsupported("a value of a module")),
        (b"\x08", Reason::Unknown(8)),
        (b"", Reason::Truncated),
    ] {
        assert_eq!(read(body, VERSION).unwrap_err(), reason);
    }
    assert_eq!(read(b"\x18", VERSION_VALKEY).unwrap_err(), Reason::Unknown(0x18));
}

/// A file with a key of each kind of attribute.
pub(crate) fn small_file(version: u16) -> Vec<u8> {
    let mut writer = Writer::new(true);
    file::header(&mut writer, version);
    file::about(&mut writer, "redis-ver", "8.2.0");
    file::function(&mut writer, b"source");
    file::select(&mut writer, 3);
    file::size(&mut writer, 2, 1);
    let (encoding, payload) = string::fresh(b"text");
    let home = Owned::new(encoding, payload);
    for attributes in [
        Attributes::default(),
        Attributes {
            deadline_ms: Some(5),
            idle_s: Some(300),
            frequency: Some(7),
        },
    ] {
        let value = (home.encoding(), home.payload());
        file::key(&mut writer, attributes, b"key", value);
        crate::save::value(&mut writer, value.0, value.1);
    }
    file::end(&mut writer);
    let sum = checksum(&writer.out);
    writer.raw(&sum.to_le_bytes());
    writer.out
}

fn parts(bytes: &[u8]) -> Result<Vec<String>, crate::error::Error> {
    let (mut parts, mut lines) = (Parts::open(bytes, STRICT)?, Vec::new());
    loop {
        let part = parts.next(&Limits::default())?;
        let line = match part {
            Part::Key(key, attributes, home) => {
                let text = content(&home).join(",");
                let (deadline, idle) = (attributes.deadline_ms, attributes.idle_s);
                let (key, database) = (key.escape_ascii().to_string(), parts.database());
                format!("{database} {key} {text} {deadline:?} {idle:?} {:?}", attributes.frequency)
            }
            Part::End => return Ok(lines),
            other => format!("{other:?}"),
        };
        lines.push(line);
    }
}

#[test]
fn a_file_is_read_part_by_part() {
    for version in [VERSION_PLAIN, VERSION] {
        let bytes = small_file(version);
        let lines = parts(&bytes).unwrap();
        assert_eq!(lines.len(), 4, "{lines:?}");
        assert_eq!(lines[2], "3 key text None None None");
        assert_eq!(lines[3], "3 key text Some(5) Some(300) Some(7)");
        for at in 0..bytes.len() {
            assert!(parts(&bytes[..at]).is_err(), "cut at {at}");
            let mut bad = bytes.clone();
            bad[at] ^= 0x41;
            assert!(parts(&bad).is_err(), "changed at {at}");
        }
    }
}

#[test]
fn a_file_says_what_is_wrong_with_it() {
    let reason = |bytes: &[u8]| parts(bytes).unwrap_err().reason;
    assert_eq!(reason(b"RUBBISH00"), Reason::Signature);
    assert_eq!(reason(b"REDIS0013"), Reason::Version(13));
    assert_eq!(reason(b"VALKEY012"), Reason::Version(12));
    assert_eq!(reason(b"REDIS0012\xf1"), Reason::Unknown(0xf1));
    let mut unsummed = small_file(VERSION);
    let end = unsummed.len();
    unsummed[end - 8..].fill(0);
    assert!(parts(&unsummed).is_ok(), "a checksum of zero was not taken");
    unsummed[end - 1] = 1;
    assert!(matches!(reason(&unsummed), Reason::Checksum { .. }));
}

/// What Redis 8.2 answers to DUMP of `a`.
#[test]
fn the_checksum_is_the_originals() {
    let dumped = b"\x00\x01a\x0c\x00t\x88\xdb[u\x1c\xe3\xfd";
    assert_eq!(content(&restored(dumped, &Limits::default()).unwrap()), ["a"]);
}

#[test]
fn what_is_packed_later_has_the_bytes_of_what_is_packed_at_once() {
    let write = |writer: &mut Writer| {
        writer.length(3);
        writer.string(b"short");
        writer.string(&[b'a'; 300]);
        writer.string(b"0123456789abcdefghijklmnopqrstuvwxyz"); // nothing is saved by packing it
        writer.string(b"-1234");
        writer.string(&b"text of some length, ".repeat(5_000));
    };
    for packs in [false, true] {
        let (mut now, mut later) = (Writer::new(packs), Writer::deferring(packs));
        write(&mut now);
        write(&mut now);
        let mut behind = Writer::deferring(packs);
        write(&mut later);
        write(&mut behind);
        later.append(&behind);
        assert_eq!(now.out.len() < 10_000, packs);
        assert_eq!(later.into_bytes(), now.into_bytes());
    }
}

#[test]
fn what_packs_behind_much_that_does_not_is_found_soon() {
    let noise = |seed: u64| -> Vec<u8> {
        let mut state = seed;
        let bytes = std::iter::repeat_with(|| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1);
            (state >> 56) as u8
        });
        bytes.take(100).collect()
    };
    let texts: Vec<Vec<u8>> = (0..1000)
        .map(noise)
        .chain((0..100).map(|_| vec![b'a'; 100]))
        .collect();
    let mut writer = Writer::deferring(true);
    texts.iter().for_each(|text| writer.string(text));
    let bytes = writer.into_bytes();
    assert!(bytes.len() < 1000 * 102 + 3 * 102 + 97 * 20, "{} bytes", bytes.len());
    let mut reader = Reader::of(&bytes);
    let read: Vec<_> = texts.iter().map(|_| reader.string().unwrap()).collect();
    assert!(read == texts);
}
