//! Streams where the time and several sessions matter: who is served by one entry, who is told that a
//! key went, and what of it all the journal gets.

use server::testing::{Group, Server, requests};

fn call(group: &mut Group, place: usize, line: &str) -> String {
    let words: Vec<&[u8]> = line.split(' ').map(str::as_bytes).collect();
    String::from_utf8_lossy(&group.call(place, &words)).into_owned()
}

fn output(group: &mut Group, place: usize) -> String {
    String::from_utf8_lossy(&group.take_output(place)).into_owned()
}

#[test]
fn one_entry_serves_everybody_who_waits_for_it() {
    let mut group = Server::new(1, &[]).group(0);
    let writer = group.connect();
    let readers: Vec<_> = (0..10).map(|_| group.connect()).collect();
    call(&mut group, writer, "XADD s 1-1 f old");
    for (n, reader) in readers.iter().enumerate() {
        // Half of them wait for keys of other shards, too.
        let line = match n % 2 {
            0 => "XREAD BLOCK 0 STREAMS s $".to_owned(),
            _ => format!("XREAD BLOCK 0 STREAMS other{n} another{n} s 0 0 $"),
        };
        assert_eq!(call(&mut group, *reader, &line), "");
        assert!(group.is_blocked(*reader));
    }
    assert_eq!(call(&mut group, writer, "XADD s 1-2 f new"), "$3\r\n1-2\r\n");
    let expected = "*1\r\n*2\r\n$1\r\ns\r\n*1\r\n*2\r\n$3\r\n1-2\r\n*2\r\n$1\r\nf\r\n$3\r\nnew\r\n";
    for reader in readers {
        assert_eq!(output(&mut group, reader), expected);
        assert!(!group.is_blocked(reader));
    }
}

#[test]
fn a_group_shares_what_comes_among_those_who_wait() {
    let mut group = Server::new(1, &[]).group(0);
    let (writer, first, second) = (group.connect(), group.connect(), group.connect());
    call(&mut group, writer, "XGROUP CREATE s g $ MKSTREAM");
    call(&mut group, first, "XREADGROUP GROUP g a COUNT 1 BLOCK 0 STREAMS s >");
    call(&mut group, second, "XREADGROUP GROUP g b COUNT 1 BLOCK 0 STREAMS s >");
    for line in ["MULTI", "XADD s 1-1 f v", "XADD s 1-2 f v", "EXEC"] {
        call(&mut group, writer, line);
    }
    assert!(output(&mut group, first).contains("1-1"));
    assert!(output(&mut group, second).contains("1-2"));
    let pending = call(&mut group, writer, "XPENDING s g");
    assert!(pending.starts_with("*4\r\n:2\r\n$3\r\n1-1\r\n$3\r\n1-2\r\n"), "{pending}");
}

#[test]
fn who_waits_for_several_keys_is_told_when_one_of_them_runs_out() {
    let mut group = Server::new(1, &[]).group(0);
    let (writer, reader) = (group.connect(), group.connect());
    let keys: Vec<_> = (0..8).map(|n| format!("s{n}")).collect();
    for key in &keys {
        call(&mut group, writer, &format!("XGROUP CREATE {key} g $ MKSTREAM"));
    }
    let arrows = vec![">"; keys.len()].join(" ");
    let line = format!("XREADGROUP GROUP g a BLOCK 0 STREAMS {} {arrows}", keys.join(" "));
    assert_eq!(call(&mut group, reader, &line), "");
    call(&mut group, writer, "PEXPIRE s5 20");
    group.advance(10);
    assert!(group.is_blocked(reader));
    group.advance(20);
    let told = output(&mut group, reader);
    assert!(told.starts_with("-NOGROUP No such key 's5' or consumer group 'g'"), "{told}");
}

#[test]
fn a_wait_ends_in_time_and_by_command() {
    let mut group = Server::new(1, &[]).group(0);
    let (other, reader) = (group.connect(), group.connect());
    call(&mut group, reader, "XREAD BLOCK 100 STREAMS s $");
    group.advance(99);
    assert!(group.is_blocked(reader));
    group.advance(1);
    assert_eq!(output(&mut group, reader), "*-1\r\n");
    let id = call(&mut group, reader, "CLIENT ID");
    let id = id.trim_start_matches(':').trim_end();
    call(&mut group, reader, "XREAD BLOCK 0 STREAMS s $");
    assert_eq!(call(&mut group, other, &format!("CLIENT UNBLOCK {id} ERROR")), ":1\r\n");
    assert!(output(&mut group, reader).starts_with("-UNBLOCKED"));
}

#[test]
fn what_chance_decided_is_fixed_in_the_journal() {
    let server = Server::new(1, &[("stream-node-max-entries", "2")]);
    let mut group = server.group(0);
    let place = group.connect();
    let reader = server.state.journal.attach(1 << 20);
    let now_ms = group.engine.now_ms();
    for line in [
        "XADD s * f v",
        "XADD s 9999999999999-* f v",
        "XADD s MAXLEN ~ 1 9999999999999-5 f v",
        "XTRIM s MINID ~ 9999999999999-4",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g a COUNT 1 STREAMS s >",
        "XREADGROUP GROUP g b NOACK STREAMS s >",
        "XREADGROUP GROUP g a STREAMS s 0",
        "XCLAIM s g b 100000 9999999999999-5",
        "XAUTOCLAIM s g b 0 - JUSTID",
        "XREAD STREAMS s 0",
        "XACK s g 9-9",
        "XTRIM s MINID ~ 9999999999999-6",
    ] {
        let reply = call(&mut group, place, line);
        assert!(!reply.starts_with('-'), "{line} -> {reply}");
    }
    let found: Vec<String> = requests(&reader.take().unwrap())
        .iter()
        .map(|words| String::from_utf8_lossy(&words.join(&b' ')).into_owned())
        .collect();
    let claim = |consumer: &str, n_deliveries: u64| {
        format!(
            "XCLAIM s g {consumer} 0 9999999999999-5 TIME {now_ms} RETRYCOUNT {n_deliveries} FORCE JUSTID LASTID \
             9999999999999-5"
        )
    };
    let expected = [
        "SELECT 0".to_owned(),
        format!("XADD s {now_ms}-0 f v"),
        "XADD s 9999999999999-0 f v".to_owned(),
        "XADD s MAXLEN = 1 9999999999999-5 f v".to_owned(),
        "XGROUP CREATE s g 0-0".to_owned(),
        "MULTI".to_owned(),
        claim("a", 1),
        "XGROUP SETID s g 9999999999999-5 ENTRIESREAD 3".to_owned(),
        "EXEC".to_owned(),
        "XGROUP CREATECONSUMER s g b".to_owned(),
        claim("b", 2), // it was looked at in between
        "XTRIM s MAXLEN = 0".to_owned(),
    ];
    assert_eq!(found, expected);
}

#[test]
fn what_is_given_back_serves_who_waits_to_claim() {
    let server = Server::new(1, &[]);
    let mut group = server.group(0);
    let (place, waiting) = (group.connect(), group.connect());
    for line in [
        "XADD s 1-1 f v",
        "XGROUP CREATE s g 0",
        "XREADGROUP GROUP g a STREAMS s >",
    ] {
        call(&mut group, place, line);
    }
    let reader = server.state.journal.attach(1 << 20);
    let line = "XREADGROUP GROUP g b BLOCK 0 CLAIM 1000 STREAMS s >";
    assert_eq!(call(&mut group, waiting, line), "");
    assert_eq!(call(&mut group, place, "XNACK s g FAIL IDS 2 1-1 1-2"), ":1\r\n");
    let given = output(&mut group, waiting);
    assert!(given.contains("1-1") && given.ends_with(":-1\r\n:1\r\n"), "{given}");
    assert!(call(&mut group, place, "XPENDING s g - + 9").contains("\r\nb\r\n"));
    let journal = reader.take().unwrap();
    let found: Vec<_> = requests(&journal)
        .iter()
        .map(|words| words.join(&b' '))
        .collect();
    let found: Vec<_> = found
        .iter()
        .map(|line| String::from_utf8_lossy(line))
        .collect();
    assert!(found.contains(&"XNACK s g FAIL IDS 2 1-1 1-2".into()), "{found:?}");
    assert!(
        found
            .iter()
            .any(|line| line.starts_with("XCLAIM s g b 0 1-1")),
        "{found:?}"
    );
}

#[test]
fn the_ids_of_producers_are_in_the_journal_and_run_out() {
    let (server, copy) = (Server::new(1, &[]), Server::new(1, &[]));
    let (mut group, mut twin) = (server.group(0), copy.group(0));
    let (place, twin_place) = (group.connect(), twin.connect());
    let reader = server.state.journal.attach(1 << 20);
    let add = "XADD s IDMP p i * f v";
    let auto = "XADD s IDMPAUTO p * f v g w";
    let first = call(&mut group, place, add);
    let second = call(&mut group, place, auto);
    assert_ne!(first, second);
    assert_eq!(call(&mut group, place, "XADD s IDMP p i * other fields"), first);
    assert_eq!(call(&mut group, place, "XADD s IDMPAUTO p * g w f v"), second);
    for request in requests(&reader.take().unwrap()) {
        let words: Vec<&[u8]> = request.iter().map(Vec::as_slice).collect();
        let reply = twin.call(twin_place, &words);
        assert!(!reply.starts_with(b"-"), "{}", String::from_utf8_lossy(&reply));
    }
    assert_eq!(call(&mut twin, twin_place, "XLEN s"), ":2\r\n");
    assert_eq!(call(&mut twin, twin_place, add), first);
    assert_eq!(call(&mut twin, twin_place, auto), second);
    group.advance(99_000);
    assert_eq!(call(&mut group, place, add), first);
    group.advance(1_000);
    assert_ne!(call(&mut group, place, add), first);
}
