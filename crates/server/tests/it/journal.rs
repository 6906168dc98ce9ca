//! The journal against the data set: whatever random commands do, replaying what they left in the
//! journal into an empty server gives an equal data set; and a command that fails leaves both as
//! they were.

use server::testing::{Group, Server, requests};

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % n
    }
}

/// Commands with places: `K` a key, `S` another one of the same type or not, `V` a value, `I` an
/// integer, `F` a float, `M` a member, `T` a time to live in milliseconds.
const COMMANDS: &[&str] = &[
    "SET K V",
    "SET K I",
    "SET K V PX T",
    "SET K V KEEPTTL",
    "SET K V NX",
    "SET K V XX GET",
    "GETSET K V",
    "GETDEL K",
    "GETEX K PX T",
    "GETEX K PERSIST",
    "APPEND K V",
    "INCR K",
    "INCRBY K I",
    "INCRBYFLOAT K F",
    "DECR K",
    "SETRANGE K 3 V",
    "MSET K V S V",
    "MSETNX K V S V",
    "SETEX K 100 V",
    "PSETEX K T V",
    "SETNX K V",
    "DEL K",
    "UNLINK K S",
    "EXPIRE K 100",
    "PEXPIRE K T",
    "PEXPIRE K -1",
    "PERSIST K",
    "RENAME K S",
    "RENAMENX K S",
    "COPY K S REPLACE",
    "LPUSH K V I",
    "RPUSH K V V V",
    "LPUSHX K V",
    "LPOP K",
    "RPOP K 2",
    "LINSERT K BEFORE V V",
    "LSET K 0 V",
    "LREM K 1 V",
    "LTRIM K 0 5",
    "LMOVE K S LEFT RIGHT",
    "RPOPLPUSH K S",
    "LMPOP 2 K S LEFT COUNT 2",
    "BLPOP K S 0.001",
    "BLMOVE K S RIGHT LEFT 0.001",
    "BLMPOP 0.001 2 K S RIGHT",
    "SADD K M M I",
    "SREM K M",
    "SPOP K",
    "SPOP K 3",
    "SMOVE K S M",
    "SUNIONSTORE K S K",
    "SINTERSTORE K S K",
    "SDIFFSTORE K S K",
    "HSET K M V M V",
    "HSETNX K M V",
    "HDEL K M M",
    "HINCRBY K M I",
    "HINCRBYFLOAT K M F",
    "HPEXPIRE K T FIELDS 1 M",
    "HPERSIST K FIELDS 1 M",
    "HGETDEL K FIELDS 1 M",
    "HGETEX K PX T FIELDS 1 M",
    "HSETEX K PX T FIELDS 1 M V",
    "HPEXPIRE K 0 FIELDS 1 M",
    "ZADD K F M F M",
    "ZADD K GT CH F M",
    "ZADD K INCR F M",
    "GEOADD K CH 13.4 38.1 M",
    "GEOSEARCHSTORE K S FROMLONLAT 13 38 BYRADIUS 300 km STOREDIST",
    "GEORADIUS K 13 38 300 km STORE S",
    "ZINCRBY K F M",
    "ZREM K M",
    "ZPOPMIN K",
    "ZPOPMAX K 2",
    "ZREMRANGEBYRANK K 0 1",
    "ZREMRANGEBYSCORE K 0 F",
    "ZUNIONSTORE K 2 S K WEIGHTS 2 1",
    "ZINTERSTORE K 2 S K",
    "ZDIFFSTORE K 2 S K",
    "ZRANGESTORE K S 0 -1",
    "ZMPOP 2 K S MIN COUNT 2",
    "BZPOPMIN K S 0.001",
    "BZMPOP 0.001 2 K S MAX",
    "MSETEX 2 K V S V PX T",
    "SET K V IFEQ V",
    "DELIFEQ K V",
    "SET K V IFNE V PX T",
    "SET K V IFDNE 0000000000000000",
    "DELEX K IFNE V",
    "DELEX K",
    "INCREX K BYINT I PX T ENX",
    "INCREX K BYINT I UBOUND 9 SATURATE PERSIST",
    "INCREX K BYFLOAT F LBOUND 0",
    "LMOVEM K S LEFT LEFT COUNT 2 OBO",
    "LMOVEM K K RIGHT LEFT EXACTLY 2 BULK",
    "BLMOVEM K S RIGHT LEFT 0.001 COUNT 3 BULK",
    "BLMOVEM K S LEFT RIGHT 0.001 EXACTLY 2 OBO",
    "SETBIT K 99 1",
    "BITOP XOR K S K",
    "BITFIELD K INCRBY u5 #1 I",
    "BITFIELD K OVERFLOW FAIL INCRBY u2 8 5",
    "PFADD K M M",
    "PFCOUNT K",
    "PFMERGE K S",
    "SORT K ALPHA STORE S",
    "SORT K BY k* GET # GET k* STORE S",
    "XADD K * M V",
    "XADD K MAXLEN ~ 3 * M V M V",
    "XADD K MAXLEN = 4 ACKED * M V",
    "XADD K MINID ~ 5 DELREF * M V",
    "XTRIM K MAXLEN ~ 2",
    "XTRIM K MINID ~ 9999999999999",
    "XTRIM K MAXLEN 3 ACKED",
    "XTRIM K MINID ~ 9999999999999 ACKED",
    "XDEL K 1-1",
    "XSETID K 9999999999998-7",
    "XGROUP CREATE K g 0 MKSTREAM",
    "XGROUP CREATE K h $",
    "XGROUP SETID K g 0",
    "XGROUP DESTROY K h",
    "XGROUP CREATECONSUMER K g M",
    "XGROUP DELCONSUMER K g M",
    "XREADGROUP GROUP g M COUNT 2 STREAMS K >",
    "XREADGROUP GROUP g M COUNT 2 CLAIM 5 STREAMS K >",
    "XREADGROUP GROUP g M NOACK STREAMS K >",
    "XREADGROUP GROUP g M BLOCK 1 STREAMS K S > >",
    "XREADGROUP GROUP g M STREAMS K 0",
    "XREAD BLOCK 1 STREAMS K $",
    "XAUTOCLAIM K g M 3 - COUNT 2",
    "XAUTOCLAIM K g M 0 - JUSTID",
    "XTRIM K MAXLEN 1 DELREF",
    "XADD K IDMP M I * M V",
    "XADD K IDMPAUTO M MAXLEN = 3 * M V",
    "XADD K 9999999999998-9 M V",
    "XNACK K g FAIL IDS 2 9999999999998-9 9999999999998-8",
    "XNACK K g SILENT IDS 1 9999999999998-9 FORCE",
    "XCFGSET K IDMP-MAXSIZE 2",
    "MOVE K 1",
    "SELECT 1",
    "SELECT 0",
    "SWAPDB 0 1",
    "MULTI",
    "EXEC",
    "DISCARD",
    "FLUSHDB",
    "EVAL redis.call('set',KEYS[1],ARGV[1]);redis.call('incr','n') 1 K V",
    "GET K",
    "LRANGE K 0 -1",
    "SMEMBERS K",
    "HGETALL K",
    "ZRANGE K 0 -1",
    "TTL K",
];

fn fill(template: &str, random: &mut Random) -> Vec<Vec<u8>> {
    let words = template.split(' ').map(|word| match word {
        "K" | "S" => format!("k{}", random.below(12)),
        "V" => "v".repeat(random.below(90) as usize) + &random.below(50).to_string(),
        "I" => (random.below(2000) as i64 - 1000).to_string(),
        "F" => format!("{}.25", random.below(40) as i64 - 20),
        "M" => format!("m{}", random.below(20)),
        "T" => (1 + random.below(60)).to_string(),
        word => word.to_owned(),
    });
    words.map(String::into_bytes).collect()
}

fn send(group: &mut Group, place: usize, words: &[Vec<u8>]) -> Vec<u8> {
    let words: Vec<&[u8]> = words.iter().map(Vec::as_slice).collect();
    group.call(place, &words)
}

/// Asked for in a session of its own, which has nothing else going.
fn digest(group: &mut Group) -> Vec<u8> {
    let place = group.connect();
    let digest = group.call(place, &[b"DEBUG", b"DIGEST"]);
    group.disconnect(place);
    digest
}

fn replay(into: &mut Group, place: usize, journal: &[u8]) {
    for request in requests(journal) {
        let reply = send(into, place, &request);
        let shown = || format!("{}", String::from_utf8_lossy(&request.join(&b' ')));
        assert!(!reply.starts_with(b"-"), "{} -> {:?}", shown(), String::from_utf8_lossy(&reply));
    }
}

fn run(seed: u64, n_commands: usize) {
    let directives = [("enable-debug-command", "yes")];
    let (server, copy) = (Server::new(1, &directives), Server::new(1, &directives));
    let (mut group, mut twin) = (server.group(0), copy.group(0));
    let (place, other, twin_place) = (group.connect(), group.connect(), twin.connect());
    let reader = server.state.journal.attach(64 << 20);
    let mut random = Random(seed);
    for step in 0..n_commands {
        let template = COMMANDS[random.below(COMMANDS.len() as u64) as usize];
        // Only one of the two queues and changes databases; the other blocks now and then.
        let is_stateful = ["MULTI", "EXEC", "DISCARD"].contains(&template);
        let who = if is_stateful || random.below(3) > 0 {
            place
        } else {
            other
        };
        let words = fill(template, &mut random);
        send(&mut group, who, &words);
        if random.below(10) == 0 {
            let ms = random.below(30);
            group.advance(ms);
        }
        if step % 50 == 49 {
            send(&mut group, place, &[b"DISCARD".to_vec()]);
            group.advance(2); // what blocks gives up, so that it is out of the way
            replay(&mut twin, twin_place, &reader.take().unwrap());
            // Deadlines are absolute and nothing runs out on its own there: time stands still.
            let before = digest(&mut group);
            replay(&mut twin, twin_place, &reader.take().unwrap());
            if digest(&mut twin) != before {
                panic!("seed {seed}, step {step}: {}", differences(&mut group, &mut twin));
            }
        }
    }
}

/// The keys that the two do not have in common, as both have them.
fn differences(group: &mut Group, twin: &mut Group) -> String {
    let mut text = String::new();
    for database in ["0", "1"] {
        for key in (0..12).map(|n| format!("k{n}")).chain(["n".to_owned()]) {
            let [one, two] = [&mut *group, &mut *twin].map(|group| {
                let place = group.connect();
                send(group, place, &words(&format!("SELECT {database}")));
                [
                    "DEBUG DIGEST-VALUE",
                    "TYPE",
                    "PEXPIRETIME",
                    "HGETALL",
                    "GET",
                    "LRANGE",
                ]
                .map(|line| {
                    let range = if line == "LRANGE" { " 0 -1" } else { "" };
                    let reply = send(group, place, &words(&format!("{line} {key}{range}")));
                    String::from_utf8_lossy(&reply).replace("\r\n", " ")
                })
                .to_vec()
            });
            if one[..3] != two[..3] {
                text.push_str(&format!("\n{database} {key}\n  {one:?}\n  {two:?}"));
            }
        }
    }
    text
}

#[test]
fn replaying_the_journal_gives_an_equal_data_set() {
    for seed in 1..=8 {
        run(seed, 3_000);
    }
}

#[test]
fn a_command_that_fails_changes_nothing() {
    let server = Server::new(1, &[("enable-debug-command", "yes")]);
    let mut group = server.group(0);
    let place = group.connect();
    for fill in [
        "SET s v",
        "SET n 9223372036854775807",
        "RPUSH l a",
        "SADD set m",
        "ZADD z 1 a",
        "HSET h f v",
        "HSET h n nan",
    ] {
        send(&mut group, place, &words(fill));
    }
    let reader = server.state.journal.attach(1 << 20);
    let before = digest(&mut group);
    for failing in [
        "INCR s",
        "INCR n",
        "INCRBY n 1",
        "LPUSH s x",
        "SET s v EX 0",
        "SET s v NX XX",
        "APPEND l x",
        "HINCRBY h f 1",
        "HINCRBY s f 1",
        "HSET h f",
        "ZADD z nan a",
        "ZADD z 1 b nan c",
        "ZINCRBY z inf",
        "SADD l x",
        "LSET l 5 x",
        "RENAME absent x",
        "LMOVE l s LEFT LEFT",
        "MSET a 1 b",
        "SETRANGE s -1 x",
        "EXPIRE s x",
        "SINTERSTORE d set l",
        "ZUNIONSTORE d 1 l",
        "GETEX s EX 0",
        "COPY s s",
        "SMOVE set l m",
        "RPOPLPUSH l s",
        "LINSERT l UP a b",
        "INCRBYFLOAT s 1",
        "NOSUCH x",
        "BLPOP s 0",
        "XADD s * f v",
        "XADD x 0-0 f v",
        "XADD x * f",
        "XGROUP CREATE x g 0",
        "XREADGROUP GROUP g c STREAMS x >",
        "MOVE s 99",
    ] {
        let reply = send(&mut group, place, &words(failing));
        assert!(reply.starts_with(b"-"), "{failing} -> {}", String::from_utf8_lossy(&reply));
        let journal = reader.take().unwrap();
        assert!(journal.is_empty(), "{failing} -> {}", String::from_utf8_lossy(&journal));
        assert_eq!(digest(&mut group), before, "{failing}");
    }
}

fn words(line: &str) -> Vec<Vec<u8>> {
    line.split(' ')
        .map(|word| word.as_bytes().to_vec())
        .collect()
}

#[test]
fn a_reader_that_does_not_keep_up_is_told_so() {
    let server = Server::new(1, &[]);
    let mut group = server.group(0);
    let place = group.connect();
    let reader = server.state.journal.attach(100);
    send(&mut group, place, &words("SET k v"));
    assert_eq!(requests(&reader.take().unwrap()).len(), 2); // with SELECT
    send(&mut group, place, &[b"SET".to_vec(), b"k".to_vec(), vec![b'x'; 200]]);
    assert_eq!(reader.take(), None);
    send(&mut group, place, &words("SET k v"));
    assert_eq!(reader.take(), None, "a gap does not close by itself");
}

#[test]
fn a_transaction_is_one_block() {
    let server = Server::new(1, &[]);
    let mut group = server.group(0);
    let (place, waiting) = (group.connect(), group.connect());
    let reader = server.state.journal.attach(1 << 20);
    send(&mut group, waiting, &words("BLPOP q 0"));
    for line in ["MULTI", "SET a 1", "GET a", "RPUSH q x y", "EXEC"] {
        send(&mut group, place, &words(line));
    }
    let lines: Vec<String> = requests(&reader.take().unwrap())
        .iter()
        .map(|words| String::from_utf8_lossy(&words.join(&b' ')).into_owned())
        .collect();
    assert_eq!(
        lines,
        [
            "MULTI",
            "SELECT 0",
            "SET a 1",
            "RPUSH q x y",
            "EXEC",
            "LPOP q", // whom it served is no part of it
        ]
    );
}

#[test]
fn a_script_writes_for_the_file_for_the_replicas_or_for_both() {
    let server = Server::new(1, &[]);
    let mut group = server.group(0);
    let place = group.connect();
    let reader = server.state.journal.attach(1 << 20);
    let backlog = &server.state.journal.backlog;
    let start = backlog.begin();
    let script =
        b"redis.call('SET', 'a', 1) redis.set_repl(redis.REPL_NONE) redis.call('SET', 'b', 1) \
                   redis.set_repl(redis.REPL_AOF) redis.call('SET', 'c', 1) \
                   redis.set_repl(redis.REPL_REPLICA) redis.call('SET', 'd', 1)";
    let silent = b"redis.set_repl(redis.REPL_AOF)";
    group.call(place, &[b"EVAL", script, b"0"]);
    group.call(place, &[b"EVAL", silent, b"0"]);
    group.call(place, &[b"SET", b"e", b"1"]);
    let expected = |own: &str| {
        let own = own.to_owned();
        let texts = ["MULTI", "SELECT 0", "SET a 1", &own, "EXEC", "SET e 1"];
        texts.map(words).to_vec()
    };
    let file = requests(&reader.take().expect("it keeps up"));
    assert_eq!(file, expected("SET c 1"));
    let mut stream = Vec::new();
    backlog
        .copy(start, 1 << 20, &mut stream)
        .expect("it is kept");
    assert_eq!(requests(&stream), expected("SET d 1"));
}

#[test]
fn a_due_key_that_a_silent_script_meets_is_gone_for_the_readers_too() {
    let server = Server::new(1, &[("enable-debug-command", "yes")]);
    let mut group = server.group(0);
    let place = group.connect();
    let reader = server.state.journal.attach(1 << 20);
    let script =
        b"redis.set_repl(redis.REPL_NONE) redis.call('GET', 'k') redis.call('SET', 'b', 1)";
    for line in ["DEBUG SET-ACTIVE-EXPIRE 0", "SET k v PX 5"] {
        send(&mut group, place, &words(line));
    }
    group.advance(10);
    reader.take().unwrap();
    group.call(place, &[b"EVAL", script, b"0"]);
    assert_eq!(requests(&reader.take().unwrap()), [words("DEL k")]);
}

#[test]
fn what_goes_by_itself_is_told_of_as_the_directives_say_each_key_for_itself() {
    let server = Server::new(1, &[]);
    let mut group = server.group(0);
    let place = group.connect();
    let reader = server.state.journal.attach(1 << 20);
    let told = |group: &mut Group, lines: &[&str], passes_ms: u64| {
        for line in lines {
            send(group, place, &words(line));
        }
        reader.take().unwrap();
        group.advance(passes_ms);
        let mut lines: Vec<String> = requests(&reader.take().unwrap())
            .iter()
            .map(|words| String::from_utf8_lossy(&words.join(&b' ')).into_owned())
            .collect();
        lines.sort();
        lines
    };
    let set = ["SET a 1 PX 5", "SET b 1 PX 5"];
    assert_eq!(told(&mut group, &set, 10), ["DEL a", "DEL b"]);
    send(&mut group, place, &words("CONFIG SET lazyfree-lazy-expire yes"));
    assert_eq!(told(&mut group, &set, 10), ["UNLINK a", "UNLINK b"]);
}

#[test]
fn a_transaction_is_one_block_after_a_look_at_keys_of_which_none_was_due() {
    let server = Server::new(1, &[]);
    let mut group = server.group(0);
    let place = group.connect();
    let reader = server.state.journal.attach(1 << 20);
    for line in ["SET k v PX 5", "SET k v"] {
        send(&mut group, place, &words(line));
    }
    group.advance(10); // there was a deadline in between, and it is looked for
    reader.take().unwrap();
    for line in ["MULTI", "SET a 1", "SET b 1", "EXEC"] {
        send(&mut group, place, &words(line));
    }
    let verbs: Vec<Vec<u8>> = requests(&reader.take().unwrap())
        .into_iter()
        .map(|words| words[0].clone())
        .collect();
    assert_eq!(verbs, [&b"MULTI"[..], b"SET", b"SET", b"EXEC"]);
}

#[test]
fn libraries_of_functions_are_in_the_journal_and_what_a_script_keeps_out_is_not() {
    let server = Server::new(1, &[]);
    let mut group = server.group(0);
    let place = group.connect();
    let reader = server.state.journal.attach(1 << 20);
    let code = b"#!lua name=l\nredis.register_function('f', function() return 1 end)";
    let hidden =
        b"redis.call('SET', 'a', 1) redis.set_repl(redis.REPL_NONE) redis.call('SET', 'b', 1)";
    group.call(place, &[b"FUNCTION", b"LOAD", code]);
    group.call(place, &[b"FUNCTION", b"LOAD", code]); // fails: it is there
    group.call(place, &[b"EVAL", hidden, b"0"]);
    group.call(place, &[b"SET", b"c", b"1"]);
    group.call(place, &[b"FUNCTION", b"DELETE", b"l"]);
    group.call(place, &[b"FUNCTION", b"FLUSH"]);
    let journal = requests(&reader.take().expect("it keeps up"));
    let load = [&b"FUNCTION"[..], b"LOAD", code].map(<[u8]>::to_vec);
    let expected = [
        words("SELECT 0"),
        load.to_vec(),
        words("SET a 1"),
        words("SET c 1"),
        words("FUNCTION DELETE l"),
        words("FUNCTION FLUSH"),
    ];
    assert_eq!(journal, expected);
}
