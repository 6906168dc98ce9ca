//! A fake host answers commands by their name; what scripts return is compared as RESP2 text with
//! `|` for line ends. Expectations without a remark were read off Redis 8.2.

use crate::interpreter::{Call, Interpreter};
use crate::script::{ScriptFlags, flags, sha1_hex};
use crate::{Failure, Host, How, LogLevel, Sink};

#[derive(Default)]
struct FakeHost {
    calls: Vec<String>,
    logged: Vec<(LogLevel, String)>,
    ticks: usize,
    kill_after: Option<usize>,
}

impl Host for FakeHost {
    fn call(&mut self, args: &[&[u8]], how: How, out: &mut Vec<u8>) {
        let words: Vec<_> = args
            .iter()
            .map(|arg| String::from_utf8_lossy(arg))
            .collect();
        self.calls.push(words.join(" "));
        let reply: &[u8] = match (&*words[0], how.resp3) {
            ("ping", _) => b"+PONG\r\n",
            ("get", _) => b"$1\r\nv\r\n",
            ("int", _) => b":12\r\n",
            ("nothing", false) => b"$-1\r\n",
            ("nothing", true) => b"_\r\n",
            ("list", _) => b"*3\r\n:1\r\n$-1\r\n*1\r\n+OK\r\n",
            ("hgetall", true) => b"%1\r\n$1\r\na\r\n$1\r\n1\r\n",
            ("smembers", true) => b"~1\r\n$1\r\nx\r\n",
            ("zscore", true) => b",1.5\r\n",
            ("true", true) => b"#t\r\n",
            ("big", true) => b"(123\r\n",
            ("verbatim", true) => b"=6\r\ntxt:hi\r\n",
            ("attributed", true) => b"|1\r\n+k\r\n:1\r\n:7\r\n",
            ("broken", _) => b"*3\r\n:1",
            ("short", _) => b"$9\r\nv\r\n",
            ("panic", _) => panic!("the host's own"),
            _ => b"-WRONGTYPE Bad\r\n",
        };
        out.extend_from_slice(reply);
    }

    fn log(&mut self, level: LogLevel, message: &[u8]) {
        self.logged
            .push((level, String::from_utf8_lossy(message).into_owned()));
    }

    fn allows(&mut self, args: &[&[u8]]) -> Option<bool> {
        (args[0] != b"nosuch").then_some(args[0] != b"flushall")
    }

    fn set_journal(&mut self, file: bool, replicas: bool) {
        self.calls.push(format!("journal {file} {replicas}"));
    }

    fn tick(&mut self) -> Result<(), Vec<u8>> {
        self.ticks += 1;
        match self.kill_after {
            Some(n) if self.ticks > n => Err(b"ERR Script killed by user".to_vec()),
            _ => Ok(()),
        }
    }
}

struct Text {
    out: String,
    resp3: bool,
}

impl Text {
    fn line(&mut self, kind: &str, text: &[u8]) {
        self.out += kind;
        self.out += &String::from_utf8_lossy(text);
        self.out.push('|');
    }

    fn kind(&self, resp3: &'static str, resp2: &'static str) -> &'static str {
        if self.resp3 { resp3 } else { resp2 }
    }
}

impl Sink for Text {
    fn null(&mut self) {
        self.line(self.kind("_", "$-1"), b"");
    }
    fn int(&mut self, value: i64) {
        self.line(":", value.to_string().as_bytes());
    }
    fn boolean(&mut self, value: bool) {
        let number: &[u8] = if value { b"1" } else { b"0" };
        let letter: &[u8] = if value { b"t" } else { b"f" };
        match self.resp3 {
            true => self.line("#", letter),
            false => self.line(":", number),
        }
    }
    fn bulk(&mut self, bytes: &[u8]) {
        self.line("$", bytes);
    }
    fn status(&mut self, line: &[u8]) {
        self.line("+", line);
    }
    fn error(&mut self, line: &[u8], _: bool) {
        self.line("-", line);
    }
    fn double(&mut self, value: f64) {
        self.line(self.kind(",", "$"), value.to_string().as_bytes());
    }
    fn big_number(&mut self, digits: &[u8]) {
        self.line(self.kind("(", "$"), digits);
    }
    fn verbatim(&mut self, format: &str, text: &[u8]) {
        match self.resp3 {
            true => self.line("=", &[format.as_bytes(), b":", text].concat()),
            false => self.bulk(text),
        }
    }
    fn array(&mut self, n: usize) {
        self.line("*", n.to_string().as_bytes());
    }
    fn map(&mut self, n: usize) {
        let n_pairs = if self.resp3 { n } else { n * 2 };
        self.line(self.kind("%", "*"), n_pairs.to_string().as_bytes());
    }
    fn set(&mut self, n: usize) {
        self.line(self.kind("~", "*"), n.to_string().as_bytes());
    }
}

fn run(lua: &mut Interpreter, host: &mut FakeHost, source: &str, resp3: bool) -> String {
    let name = sha1_hex(source.as_bytes());
    let mut sink = Text {
        out: String::new(),
        resp3,
    };
    let call = Call {
        keys: &[b"key1"],
        args: &[b"arg1"],
    };
    let result = lua
        .compile(name, source.as_bytes())
        .and_then(|compiled| lua.run((compiled, &name), call, host, &mut sink));
    let name = std::str::from_utf8(&name).expect("digits");
    match result {
        Ok(()) => sink.out,
        Err(Failure { message, .. }) => {
            format!("-{}", String::from_utf8_lossy(&message)).replace(name, "SHA")
        }
    }
}

pub(crate) fn check_all(resp3: bool, cases: &[(&str, &str)]) {
    let mut lua = Interpreter::new(1).expect("starts");
    for (source, expected) in cases {
        let text = run(&mut lua, &mut FakeHost::default(), source, resp3);
        assert_eq!(&text, expected, "{source}");
    }
}

#[test]
fn results_become_replies() {
    check_all(
        false,
        &[
            ("return 1", ":1|"),
            ("return 3.99", ":3|"),
            ("return -3.99", ":-3|"),
            ("return 'a'", "$a|"),
            ("return '\\0a'", "$\0a|"),
            ("return true", ":1|"),
            ("return false", "$-1|"),
            ("return nil", "$-1|"),
            ("return", "$-1|"),
            ("return 1,2", ":1|"),
            ("return {1,2,nil,4}", "*2|:1|:2|"),
            ("return {}", "*0|"),
            ("return {a=1}", "*0|"),
            ("return {1,{2,{3,'x'}},false,true}", "*4|:1|*2|:2|*2|:3|$x|$-1|:1|"),
            ("return {ok='x'}", "+x|"),
            ("return {ok='a\\nb'}", "+a b|"),
            ("return {err='My Err'}", "-My Err|"),
            ("return {err='ERR x\\r\\ny'}", "-ERR x  y|"),
            ("return {1,2,'ok',ok='x'}", "+x|"),
            ("return {err=1}", "*0|"),
            ("return {double=3.5}", "$3.5|"),
            ("return {double='x'}", "*0|"),
            ("return {map={a=1}}", "*2|$a|:1|"),
            ("return {map=1}", "*0|"),
            ("return {set={a=true}}", "*1|$a|"),
            ("return {big_number='123'}", "$123|"),
            ("return {verbatim_string={format='txt',string='hi'}}", "$hi|"),
            ("return function() end", "$-1|"),
            ("return {function() end,1}", "*2|$-1|:1|"),
            ("return 1e100", ":-9223372036854775808|"),
            ("return 0/0", ":-9223372036854775808|"),
            ("return -2^63", ":-9223372036854775808|"),
            ("return 2^53", ":9007199254740992|"),
            ("return setmetatable({},{__index=function(t,k) return 'x' end})", "*0|"),
            ("return {KEYS[1],ARGV[1],ARGV[2]}", "*2|$key1|$arg1|"),
            ("KEYS[1]='x' return KEYS[1]", "$x|"),
            ("redis.setresp(3) return {true,false}", "*2|:1|:0|"),
            ("local a={} a[1]=a return a", "-ERR reached lua stack limit"),
        ],
    );
}

#[test]
fn results_become_resp3_replies() {
    check_all(
        true,
        &[
            ("return true", ":1|"),
            ("return false", "_|"),
            ("return {double=3.5}", ",3.5|"),
            ("return {map={a=1}}", "%1|$a|:1|"),
            ("return {set={a=true}}", "~1|$a|"),
            ("return {big_number='123'}", "(123|"),
            ("return {verbatim_string={format='txt',string='hi'}}", "=txt:hi|"),
            ("return {false,true}", "*2|_|:1|"),
            ("redis.setresp(3) return true", "#t|"),
            ("redis.setresp(3) return false", "#f|"),
            ("redis.setresp(3) return nil", "_|"),
            ("redis.setresp(3) return redis.call('hgetall','h')", "%1|$a|$1|"),
            ("redis.setresp(3) return redis.call('zscore','z','m')", ",1.5|"),
            ("redis.setresp(3) return redis.call('smembers','s')", "~1|$x|"),
            ("redis.setresp(3) return redis.call('nothing')", "_|"),
        ],
    );
}

#[test]
fn replies_become_values() {
    check_all(
        false,
        &[
            ("return redis.call('get','k')", "$v|"),
            ("return redis.call('int') + 1", ":13|"),
            ("return redis.call('ping').ok", "$PONG|"),
            ("return {type(redis.call('ping')), redis.call('ping')}", "*2|$table|+PONG|"),
            ("return tostring(redis.call('nothing'))", "$false|"),
            ("return redis.call('list')", "*3|:1|$-1|*1|+OK|"),
            ("redis.setresp(3) return tostring(redis.call('nothing'))", "$nil|"),
            ("redis.setresp(3) return redis.call('hgetall').map.a", "$1|"),
            ("redis.setresp(3) return tostring(redis.call('smembers').set.x)", "$true|"),
            ("redis.setresp(3) return tostring(redis.call('zscore').double)", "$1.5|"),
            ("redis.setresp(3) return type(redis.call('true'))", "$boolean|"),
            ("redis.setresp(3) return redis.call('big').big_number", "$123|"),
            ("redis.setresp(3) return redis.call('verbatim').verbatim_string.format", "$txt|"),
            ("redis.setresp(3) return redis.call('verbatim').verbatim_string.string", "$hi|"),
            ("redis.setresp(3) return redis.call('attributed')", ":7|"),
            ("return redis.call('broken')", "-ERR malformed reply inside the server|"),
            ("return server.call('get','k')", "$v|"),
        ],
    );
}

#[test]
fn arguments_become_text() {
    let mut lua = Interpreter::new(1).expect("starts");
    let mut host = FakeHost::default();
    let source = "redis.call('get','a b',10,1.5,0.1,1e20,2^53,-1,-0/1)";
    assert_eq!(run(&mut lua, &mut host, source, false), "$-1|");
    assert_eq!(host.calls, ["get a b 10 1.5 0.1 1e+20 9007199254740992 -1 0"]);
    let many = "local t={} for i=1,5000 do t[i]=i end return redis.call('get',unpack(t))";
    assert_eq!(run(&mut lua, &mut host, many, false), "$v|");
    assert!(host.calls[1].ends_with(" 4999 5000"));
}

#[test]
fn errors_have_the_peers_text() {
    let global = "Script attempted to access nonexistent global variable";
    let at = "script: SHA, on @user_script:1.";
    let readonly = "Attempt to modify a readonly table";
    let cases = [
        ("return redis.call('bad')".into(), format!("-WRONGTYPE Bad {at}")),
        ("return redis.pcall('bad')".into(), "-WRONGTYPE Bad|".into()),
        ("return {redis.pcall('bad'),1}".into(), "*2|-WRONGTYPE Bad|:1|".into()),
        ("return redis.pcall('bad').err".into(), "$WRONGTYPE Bad|".into()),
        ("local t=redis.pcall('bad') t.err='Other x' return t".into(), "-Other x|".into()),
        (
            "local ok,e=pcall(redis.call,'bad') return {type(e),e}".into(),
            "*2|$string|$WRONGTYPE Bad|".into(),
        ),
        (
            "local ok,e=pcall(redis.call,'bad') error(e)".into(),
            format!("-ERR user_script:1: WRONGTYPE Bad {at}"),
        ),
        (
            "local ok,e=xpcall(function() redis.call('bad') end, function(e) return e.err end) \
          return e"
                .into(),
            "$WRONGTYPE Bad|".into(),
        ),
        (
            "local ok,e=coroutine.resume(coroutine.create(function() redis.call('bad') end)) \
          return e"
                .into(),
            "-WRONGTYPE Bad|".into(),
        ),
        (
            "\n\n return redis.call('bad')".into(),
            "-WRONGTYPE Bad script: SHA, on @user_script:3.".into(),
        ),
        (
            "local function f()\n return redis.call('bad')\n end return f()".into(),
            "-WRONGTYPE Bad script: SHA, on @user_script:2.".into(),
        ),
        (
            "#!lua\nerror('boom')".into(),
            "-ERR user_script:2: boom script: SHA, on @user_script:2.".into(),
        ),
        (
            "return redis.call()".into(),
            format!("-ERR Please specify at least one argument for this redis lib call {at}"),
        ),
        (
            "return redis.pcall()".into(),
            "-ERR Please specify at least one argument for this redis lib call|".into(),
        ),
        (
            "return redis.call('set','k',{})".into(),
            format!("-ERR Lua redis lib command arguments must be strings or integers {at}"),
        ),
        ("error('boom')".into(), format!("-ERR user_script:1: boom {at}")),
        ("error('x',0)".into(), format!("-ERR x {at}")),
        ("error({err='My boom', line=3})".into(), format!("-My boom {at}")),
        ("error({})".into(), format!("-ERR unknown error {at}")),
        ("error()".into(), format!("-ERR nil {at}")),
        ("error(true)".into(), format!("-ERR true {at}")),
        ("error(redis.error_reply('My'))".into(), format!("-ERR My {at}")),
        ("return foo".into(), format!("-ERR user_script:1: {global} 'foo' {at}")),
        ("return _G.foo".into(), format!("-ERR user_script:1: {global} 'foo' {at}")),
        ("foo=1".into(), format!("-ERR user_script:1: {readonly} {at}")),
        ("KEYS={}".into(), format!("-ERR user_script:1: {readonly} {at}")),
        ("redis=nil".into(), format!("-ERR user_script:1: {readonly} {at}")),
        ("redis.foo=1".into(), format!("-ERR user_script:1: {readonly} {at}")),
        ("string.foo=1".into(), format!("-ERR user_script:1: {readonly} {at}")),
        ("getmetatable('').__index=nil".into(), format!("-ERR user_script:1: {readonly} {at}")),
        ("rawset(_G,'foo',1)".into(), format!("-ERR {readonly} {at}")),
        ("setmetatable(redis,{})".into(), format!("-ERR {readonly} {at}")),
        ("table.insert(string,1)".into(), format!("-ERR {readonly} {at}")),
        (
            "syntax error here".into(),
            "-ERR Error compiling script (new function): user_script:1: '=' expected near 'error'"
                .into(),
        ),
        (
            "return 'a".into(),
            "-ERR Error compiling script (new function): user_script:1: unfinished string near \
             '<eof>'"
                .into(),
        ),
    ];
    let cases: Vec<(&str, &str)> = cases
        .iter()
        .map(|(a, b): &(String, String)| (&**a, &**b))
        .collect();
    check_all(false, &cases);
}

#[test]
fn the_library_behaves() {
    let at = "script: SHA, on @user_script:1.";
    let log = format!("-ERR redis.log() requires two arguments or more. {at}");
    let number = format!("-ERR First argument must be a number (log level). {at}");
    let level = format!("-ERR Invalid log level. {at}");
    let resp = format!("-ERR RESP version must be 2 or 3. {at}");
    let wrong = format!("-ERR wrong number of arguments {at}");
    check_all(
        false,
        &[
            ("return redis.sha1hex('a')", "$86f7e437faa5a7fce15d1ddcb9eaeaea377667b8|"),
            ("return redis.sha1hex(1)", "$356a192b7913b04c54574d18c28d46e6395428ab|"),
            ("return redis.sha1hex()", &wrong),
            ("return redis.error_reply('x')", "-ERR x|"),
            ("return redis.error_reply('-x y')", "-x y|"),
            ("return redis.error_reply('X y')", "-X y|"),
            ("return redis.error_reply({})", "-ERR wrong number or type of arguments|"),
            ("return redis.status_reply('x')", "+x|"),
            ("return redis.status_reply()", "-ERR wrong number or type of arguments|"),
            ("return redis.log(1,'x')", "$-1|"),
            ("return redis.log('x')", &log),
            ("return redis.log('a','b')", &number),
            ("return redis.log(9,'x')", &level),
            ("return redis.setresp('3')", "$-1|"),
            ("return redis.setresp(4)", &resp),
            ("local ok,e=pcall(redis.setresp,9) return e", "$ERR RESP version must be 2 or 3.|"),
            ("return redis.replicate_commands()", ":1|"),
            ("return redis.breakpoint()", "$-1|"),
            ("return redis.set_repl(redis.REPL_ALL)", "$-1|"),
            ("return redis.set_repl(redis.REPL_NONE)", "$-1|"),
            ("return redis.REDIS_VERSION", "$8.2.0|"),
            ("return redis.REDIS_VERSION_NUM", ":524800|"),
            ("return redis.foo", "$-1|"),
        ],
    );
}

#[test]
fn the_sandbox_holds() {
    check_all(
        false,
        &[
            (
                "local t={} for k in pairs(_G) do t[#t+1]=k end table.sort(t) return table.concat(t,' ')",
                "$ARGV KEYS _G _VERSION assert bit cjson cmsgpack collectgarbage coroutine error \
                 gcinfo getmetatable ipairs load loadstring math next os pairs pcall rawequal rawget \
                 rawset redis select server setmetatable string struct table tonumber tostring type \
                 unpack xpcall|",
            ),
            ("local t={} for k in pairs(os) do t[#t+1]=k end return t", "*1|$clock|"),
            ("return loadstring('return 1')()", ":1|"),
            ("local n=0 return load(function() n=n+1 return ({'return ','7'})[n] end)()", ":7|"),
            ("return loadstring(string.dump(function() end))", "$-1|"),
            ("return pcall(loadstring('foo=1'))", "$-1|"),
            ("return getmetatable('').__index==string and ('x'):upper()", "$X|"),
            ("local f,t=pairs(redis) t.call=1 return type(redis.call)", "$function|"),
            ("return type(next(redis))", "$string|"),
            ("return rawget(redis,'LOG_DEBUG')", ":0|"),
            ("return _G._G==_G and 1", ":1|"),
            ("return tostring(getmetatable(redis))", "$false|"),
            ("return setmetatable({},{__index=function() return 5 end})[1]", ":5|"),
            ("local t={3,1,2} table.sort(t) table.insert(t,4) return t", "*4|:1|:2|:3|:4|"),
            ("return unpack({7,8})", ":7|"),
        ],
    );
}

#[test]
fn the_insecure_functions_show_nothing_behind_the_sandbox() {
    let mut lua = Interpreter::new(1).expect("starts");
    let text = run(&mut lua, &mut FakeHost::default(), "return getfenv()", false);
    assert!(text.contains("nonexistent global variable 'getfenv'"), "{text}");

    let mut lua = Interpreter::insecure(1).expect("starts");
    let mut answer = |source| run(&mut lua, &mut FakeHost::default(), source, false);
    for source in [
        "return tostring(getfenv() == _G)",
        "return tostring(getfenv(0).os.execute == nil and getfenv(redis.call) == _G)",
        "local f = function() return x end setfenv(f, {x = 'true'}) return f()",
        "return tostring(not pcall(setfenv, redis.call, {}) and not pcall(setfenv, 0, {}))",
        "return tostring(type(newproxy()) == 'userdata')",
    ] {
        assert_eq!(answer(source), "$true|", "{source}");
    }
}

#[test]
fn deep_recursion_is_an_error() {
    let mut lua = Interpreter::new(1).expect("starts");
    let source = "local function f() return 1+f() end return f()";
    let text = run(&mut lua, &mut FakeHost::default(), source, false);
    assert!(text.starts_with("-ERR user_script:1: stack overflow"), "{text}");
}

#[test]
fn the_host_can_stop_a_script_that_catches_errors() {
    let mut lua = Interpreter::new(1).expect("starts");
    for source in [
        "while true do end",
        "while true do pcall(function() while true do end end) end",
        "while true do xpcall(function() while true do end end, function() end) end",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
    ] {
        let mut host = FakeHost {
            kill_after: Some(2),
            ..FakeHost::default()
        };
        let text = run(&mut lua, &mut host, source, false);
        assert_eq!(text, "-ERR Script killed by user script: SHA, on @user_script:1.", "{source}");
    }
    assert_eq!(run(&mut lua, &mut FakeHost::default(), "return 1", false), ":1|");
}

#[test]
fn log_lines_reach_the_host() {
    let mut lua = Interpreter::new(1).expect("starts");
    let mut host = FakeHost::default();
    run(&mut lua, &mut host, "redis.log(redis.LOG_WARNING,'a','b',3)", false);
    assert_eq!(host.logged, [(LogLevel::Warning, "a b 3".into())]);
}

#[test]
fn commands_errors_are_told_from_the_scripts_own() {
    let mut lua = Interpreter::new(1).expect("starts");
    for (source, expected) in [
        ("redis.call('bad')", true),
        ("error(redis.pcall('bad'))", true),
        ("error('own')", false),
        ("redis.call()", false),
    ] {
        let name = sha1_hex(source.as_bytes());
        let compiled = lua.compile(name, source.as_bytes()).expect("compiles");
        let mut sink = Text {
            out: String::new(),
            resp3: false,
        };
        let call = Call {
            keys: &[],
            args: &[],
        };
        let result = lua.run((compiled, &name), call, &mut FakeHost::default(), &mut sink);
        assert_eq!(result.expect_err(source).from_command, expected, "{source}");
    }
}

#[test]
fn nothing_stays_from_one_script_to_the_next() {
    let mut lua = Interpreter::new(1).expect("starts");
    let mut host = FakeHost::default();
    let call = Call {
        keys: &[],
        args: &[],
    };
    let mut text = |source: &str| {
        let name = sha1_hex(source.as_bytes());
        let mut sink = Text {
            out: String::new(),
            resp3: false,
        };
        let compiled = lua.compile(name, source.as_bytes()).expect("compiles");
        lua.run((compiled, &name), call, &mut host, &mut sink)
            .expect("runs");
        sink.out
    };
    assert_eq!(text("KEYS.x=1 ARGV[1]='y' redis.setresp(3) return 1"), ":1|");
    assert_eq!(text("return {#ARGV, tostring(KEYS.x), redis.call('nothing')}"), "*3|:0|$nil|$-1|");
    assert_eq!(text("setmetatable(KEYS,{__index={5}}) return KEYS[1]"), ":5|");
    assert_eq!(text("return KEYS[1]"), "$-1|");
}

#[test]
fn every_script_gets_its_keys_and_arguments_and_nothing_else() {
    let mut lua = Interpreter::new(1).unwrap();
    let shown = "local function count(t) local n = 0 for _ in pairs(t) do n = n + 1 end return n end \
        return #KEYS .. table.concat(KEYS, ' ') .. '/' .. #ARGV .. table.concat(ARGV, ' ') \
            .. '/' .. count(KEYS) .. count(ARGV) .. tostring(getmetatable(KEYS)) .. tostring(KEYS.odd)";
    let spoils = [
        "",
        "KEYS.odd = 1",
        "KEYS[1] = nil KEYS.a, KEYS.b, KEYS.c = 1, 2, 3",
        "ARGV[0] = 1 ARGV[1.5] = 1",
        "ARGV['1'] = 1",
        "KEYS[#KEYS + 1] = 1",
        "setmetatable(KEYS, { __index = function() return 1 end })",
        "for i = 1, 100 do KEYS[i] = i end for i = 1, 100 do KEYS[i] = nil end",
        "table.remove(ARGV, 1) table.insert(KEYS, 1, 'x')",
        "error(KEYS)",
    ];
    let counts = [
        (1, 1),
        (1, 1),
        (0, 3),
        (2, 0),
        (4, 4),
        (7, 1),
        (1, 9),
        (1, 1),
    ];
    let texts: Vec<Vec<u8>> = (0..9).map(|n| vec![b'a' + n; 1 + usize::from(n)]).collect();
    for (n, spoil) in spoils.iter().cycle().take(600).enumerate() {
        let (n_keys, n_args) = counts[n / 3 % counts.len()];
        let mut words: Vec<&[u8]> = texts.iter().map(Vec::as_slice).collect();
        words.rotate_left(n % 9);
        let call = Call {
            keys: &words[..n_keys],
            args: &words[9 - n_args..],
        };
        let mut text = |source: &str| {
            let name = sha1_hex(source.as_bytes());
            let (mut host, mut out) = (FakeHost::default(), String::new());
            let mut sink = Text { out, resp3: false };
            let compiled = match lua.compiled(&name) {
                Some(compiled) => compiled,
                None => lua.compile(name, source.as_bytes()).expect("compiles"),
            };
            let _ = lua.run((compiled, &name), call, &mut host, &mut sink);
            out = sink.out;
            out
        };
        text(spoil);
        let joined = |words: &[&[u8]]| String::from_utf8_lossy(&words.join(&b' ')).into_owned();
        let (keys, args) = (joined(call.keys), joined(call.args));
        let expected = format!("${n_keys}{keys}/{n_args}{args}/{n_keys}{n_args}nilnil|");
        assert_eq!(text(shown), expected, "{n} {spoil}");
    }
}

#[test]
fn what_a_script_puts_into_its_keys_is_gone_with_it() {
    let mut lua = Interpreter::with_memory(1, 256 << 20).expect("starts");
    let run = |lua: &mut Interpreter, source: &str, keys: &[&[u8]]| {
        let name = sha1_hex(source.as_bytes());
        let mut sink = Text {
            out: String::new(),
            resp3: false,
        };
        let call = Call { keys, args: &[] };
        let compiled = lua.compile(name, source.as_bytes()).expect("compiles");
        lua.run((compiled, &name), call, &mut FakeHost::default(), &mut sink)
            .map(|()| sink.out)
    };
    let fill = "KEYS[1] = string.rep('x', 20 * 1024 * 1024) return 'full'";
    let keys: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
    for n_keys in 1..=4 {
        assert_eq!(run(&mut lua, fill, &keys[..n_keys]).expect("has room"), "$full|");
    }
    let left = "collectgarbage() return collectgarbage('count') < 16 * 1024";
    assert_eq!(run(&mut lua, left, &[]).expect("runs"), ":1|");
}

#[test]
fn a_script_that_takes_all_memory_gets_an_error() {
    let mut lua = Interpreter::with_memory(1, 32 << 20).expect("starts");
    let mut host = FakeHost::default();
    let source = "local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(2^20) .. i end";
    let text = run(&mut lua, &mut host, source, false);
    assert!(text.starts_with("-ERR not enough memory script: SHA"), "{text}");
    let caught = "return pcall(function() local t = {} for i = 1, 1e9 do t[i] = ('x'):rep(2^20) .. i end end) \
                  and 1 or 0";
    assert_eq!(run(&mut lua, &mut host, caught, false), ":0|");
    assert_eq!(run(&mut lua, &mut host, "return 1", false), ":1|");
}

/// Each of these has ended the process of one server or another.
#[test]
fn what_is_known_to_break_lua_is_an_error() {
    let mut lua = Interpreter::new(1).expect("starts");
    let too_many = "-ERR user_script:1: too many results to unpack";
    let too_complex = "-ERR pattern too complex"; // called last, so Lua has no line for it
    for (source, expected) in [
        ("return {unpack({1,2,3}, -2, 2147483647)}", too_many),
        ("return {unpack({1,2,3}, 0, 2147483647)}", too_many),
        ("return {unpack({1,2,3}, -2147483648, -2)}", too_many),
        ("return {unpack({1,2,3}, 0/0)}", too_many),
        ("return {unpack({1,2,3}, -1/0, 1/0)}", too_many),
        ("return {unpack({1,2,3}, 2147483646, 2147483647)}", "*0|"),
        ("local t = {} for i = 1, 7999 do t[i] = i end return select('#', unpack(t))", ":7999|"),
        ("local t = {} for i = 1, 8000 do t[i] = i end return {unpack(t)}", too_many),
        ("return {unpack({1,2,3}, -1, -2)}", "*0|"),
        ("return select('#', unpack({1,2,3}, -2147483648, -2147483646))", ":3|"),
        ("return ('a'):rep(3e5):find(('a?'):rep(3e5))", too_complex),
        ("return ('a'):rep(3e5):gsub(('a*'):rep(3e5), '')", too_complex),
        ("return ('a'):rep(3e5):match(('a-'):rep(3e5))", too_complex),
        ("return ('a'):rep(3e5):find(('a'):rep(3e5), 1, true)", ":1|"),
        ("return ('a'):rep(900):find(('a?'):rep(900))", ":1|"),
        ("return loadstring(('('):rep(1e6))", "$-1|"),
        ("local s = ('x'):rep(1e6) return #s:rep(1e6)", "-ERR not enough memory"),
    ] {
        let text = run(&mut lua, &mut FakeHost::default(), source, false);
        assert!(text.starts_with(expected), "{source}: {text}");
    }
}

#[test]
fn many_scripts_and_large_results_find_room() {
    let mut lua = Interpreter::new(1).expect("starts");
    let mut host = FakeHost::default();
    for n in 0..20_000 {
        let source = format!("return {n}");
        assert_eq!(run(&mut lua, &mut host, &source, false), format!(":{n}|"));
    }
    for source in [
        "local t = {} for i = 1, 20000 do t[i] = 'x' .. i end return t",
        "local t = {} for i = 1, 20000 do t[i] = {i} end return t",
        "local t = {} for i = 1, 20000 do t['x' .. i] = true end return {map = t}",
        "local t = {} for i = 1, 20000 do t['x' .. i] = true end return {set = t}",
    ] {
        let text = run(&mut lua, &mut host, source, true);
        assert!(text.contains("20000|"), "{source}: {}", &text[..text.len().min(100)]);
    }
}

#[test]
fn the_first_line_may_hold_flags() {
    assert_eq!(flags(b"return 1"), Ok(None));
    assert_eq!(flags(b"#!lua\nreturn 1"), Ok(Some(ScriptFlags::default())));
    let expected = ScriptFlags {
        no_writes: true,
        allow_stale: true,
        ..ScriptFlags::default()
    };
    assert_eq!(flags(b"#!lua flags=no-writes,allow-stale\n"), Ok(Some(expected)));
    for (source, error) in [
        ("#!lua", "ERR Invalid script shebang"),
        ("#!lua name=x\n", "ERR Unknown lua shebang option: name=x"),
        ("#!lua flags=foo\n", "ERR Unexpected flag in script shebang: foo"),
        ("#!python\n", "ERR Unexpected engine in script shebang: #!python"),
    ] {
        assert_eq!(flags(source.as_bytes()), Err(error.as_bytes().to_vec()));
    }
}

#[test]
fn an_interpreter_moves_between_threads() {
    let mut lua = Interpreter::new(1).expect("starts");
    let mut lua = std::thread::spawn(move || {
        run(&mut lua, &mut FakeHost::default(), "return 1", false);
        lua
    })
    .join()
    .expect("no panic");
    assert_eq!(
        run(&mut lua, &mut FakeHost::default(), "return redis.call('ping')", false),
        "+PONG|"
    );
}

#[test]
fn arguments_of_any_kind_and_number_reach_the_host() {
    let mut lua = Interpreter::new(1).expect("starts");
    let mut host = FakeHost::default();
    let source = "redis.call('get', '', KEYS[1]) redis.call('get', 1, 1.5)
        redis.call('int', unpack({1,2,3,4,5,6,7,8,9,10,11,12,13,14,15}))
        redis.call('int', unpack({'a','b','c','d','e','f','g','h','i','j','k','l','m','n','o','p'}))
        return coroutine.wrap(function() return {redis.call('get', 'x'), redis.call('int')} end)()";
    assert_eq!(run(&mut lua, &mut host, source, false), "*2|$v|:12|");
    let expected = [
        "get  key1",
        "get 1 1.5",
        "int 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15",
        "int a b c d e f g h i j k l m n o p",
        "get x",
        "int",
    ];
    assert_eq!(host.calls, expected);
    let malformed = "-ERR malformed reply inside the server|";
    assert_eq!(run(&mut lua, &mut host, "return redis.pcall('short')", false), malformed);
}

#[test]
fn a_panic_of_the_host_is_the_callers() {
    let mut lua = Interpreter::new(1).expect("starts");
    for source in ["redis.call('panic')", "redis.call('panic', 1)"] {
        let run = || run(&mut lua, &mut FakeHost::default(), source, false);
        let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(run));
        let panic = result.expect_err(source);
        assert_eq!(panic.downcast_ref(), Some(&"the host's own"), "{source}");
    }
    let text = run(&mut lua, &mut FakeHost::default(), "return redis.call('get')", false);
    assert_eq!(text, "$v|");
}
