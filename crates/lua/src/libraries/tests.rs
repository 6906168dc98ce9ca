//! What the libraries answer, as read off Redis 8.2.

use crate::tests::check_all;

fn check(cases: &[(&str, &str)]) {
    let failing =
        |reason: &str| format!("-ERR user_script:1: {reason} script: SHA, on @user_script:1.");
    let cases: Vec<(String, String)> = cases
        .iter()
        .map(|(source, expected)| {
            let expected = match expected.strip_prefix('!') {
                Some(reason) => failing(reason),
                None => (*expected).to_owned(),
            };
            (format!("return {source}"), expected)
        })
        .collect();
    let cases: Vec<(&str, &str)> = cases.iter().map(|(a, b)| (&**a, &**b)).collect();
    check_all(false, &cases);
}

#[test]
fn bit_works_on_32_bits() {
    check(&[
        (
            "bit.tohex(65535, -2147483648)..bit.tohex(255,4)..bit.tohex(255,-4)",
            "$0000FFFF00ff00FF|",
        ),
        (
            "{bit.tobit(2^32+5),bit.bnot(0),bit.lshift(1,33),bit.rshift(-1,28),bit.arshift(-16,2), \
             bit.rol(0x12345678,8),bit.ror(1,1),bit.bswap(1)}",
            "*8|:5|:-1|:2|:15|:-4|:878082066|:-2147483648|:16777216|",
        ),
        ("bit.band('3',1.5)", ":2|"),
        ("bit.bor(1,2,4) + bit.bxor(1,3)", ":9|"),
        ("bit.band()", "!bad argument #1 to 'band' (number expected, got no value)"),
        ("bit.band('x')", "!bad argument #1 to 'band' (number expected, got string)"),
        ("bit.lshift(1)", "!bad argument #2 to 'lshift' (number expected, got no value)"),
    ]);
}

#[test]
fn cjson_encodes() {
    check(&[
        ("cjson.encode({1,2,{a=1}})", "$[1,2,{\"a\":1}]|"),
        ("cjson.encode({})", "${}|"),
        (r#"cjson.encode('a/b\\"\n\1\127')"#, r#"$"a\/b\\\"\n\u0001\u007f"|"#),
        ("cjson.encode(1.5)..' '..cjson.encode(1e20)", "$1.5 1e+20|"),
        ("cjson.encode(12345678901234567)", "$1.2345678901235e+16|"),
        (
            "cjson.encode({0.1,1e-5,1e13,123456789012345,-0.25,1e14})",
            "$[0.1,1e-05,10000000000000,1.2345678901234e+14,-0.25,1e+14]|",
        ),
        ("cjson.encode({[1]=1,[3]=2})", "$[1,null,2]|"),
        ("cjson.encode({[1]=1,[20]=2})", "!Cannot serialise table: excessively sparse array"),
        ("cjson.encode({[1.5]=1})", "${\"1.5\":1}|"),
        ("cjson.encode(cjson.null)", "$null|"),
        ("cjson.encode(0/0)", "!Cannot serialise number: must not be NaN or Inf"),
        ("cjson.encode(function() end)", "!Cannot serialise function: type not supported"),
        (
            "cjson.encode({[true]=1})",
            "!Cannot serialise boolean: table key must be a number or string",
        ),
        ("cjson.encode()", "!bad argument #1 to 'encode' (expected 1 argument)"),
        ("cjson.encode(1,2)", "!bad argument #1 to 'encode' (expected 1 argument)"),
        (
            "select(2, pcall(cjson.encode, 0/0))",
            "$Cannot serialise number: must not be NaN or Inf|",
        ),
    ]);
}

#[test]
fn cjson_decodes() {
    check(&[
        ("cjson.decode('null') == cjson.null", ":1|"),
        (r#"cjson.decode('{"a":[1,2,null,true]}').a"#, "*4|:1|:2|$-1|:1|"),
        (r#"cjson.decode('"\\u00e9\\ud83d\\ude00\\u0041"')"#, "$é😀A|"),
        ("cjson.decode('[-5e3, 0.3e-3, 1023.2, 0e10]')", "*4|:-5000|:0|:1023|:0|"),
        ("cjson.decode('01') + cjson.decode('0x10')", ":17|"),
        ("cjson.decode('')", "!Expected value but found T_END at character 1"),
        ("cjson.decode('{')", "!Expected object key string but found T_END at character 2"),
        ("cjson.decode('[1,]')", "!Expected value but found T_ARR_END at character 4"),
        ("cjson.decode('[1 2]')", "!Expected comma or array end but found T_NUMBER at character 4"),
        (r#"cjson.decode('{"a" 1}')"#, "!Expected colon but found T_NUMBER at character 6"),
        ("cjson.decode('{1:2}')", "!Expected object key string but found T_NUMBER at character 2"),
        (
            r#"cjson.decode('"abc')"#,
            "!Expected value but found unexpected end of string at character 5",
        ),
        (
            r#"cjson.decode('"\\x"')"#,
            "!Expected value but found invalid escape code at character 2",
        ),
        (
            r#"cjson.decode('"\\ud83d"')"#,
            "!Expected value but found invalid unicode escape code at character 2",
        ),
        ("cjson.decode('tru')", "!Expected value but found invalid token at character 1"),
        ("cjson.decode('-')", "!Expected value but found invalid number at character 1"),
        ("cjson.decode('1 2')", "!Expected the end but found T_NUMBER at character 3"),
        ("cjson.decode(nil)", "!bad argument #1 to 'decode' (string expected, got nil)"),
        ("cjson.decode({})", "!bad argument #1 to 'decode' (string expected, got table)"),
        ("type(cjson.decode(('['):rep(1000)..(']'):rep(1000)))", "$table|"),
        (
            "cjson.decode(('['):rep(1001))",
            "!Found too many nested data structures (1001) at character 1001",
        ),
    ]);
}

#[test]
fn cjson_can_be_set() {
    check(&[
        (
            "(function() cjson.encode_max_depth(2) return select(2, pcall(cjson.encode,{{{1}}})) end)()",
            "$Cannot serialise, excessive nesting (3)|",
        ),
        (
            "(function() cjson.encode_max_depth(1000) cjson.decode_max_depth(2) \
             return select(2, pcall(cjson.decode,'[[[1]]]')) end)()",
            "$Found too many nested data structures (3) at character 3|",
        ),
        (
            "(function() cjson.encode_number_precision(3) return cjson.encode(3.14159) end)()",
            "$3.14|",
        ),
        (
            "(function() cjson.encode_sparse_array(true) return cjson.encode({[1]=1,[20]=2}) end)()",
            r#"${"1":1,"20":2}|"#,
        ),
        (
            "cjson.encode_max_depth(0)",
            "!bad argument #1 to 'encode_max_depth' (expected integer between 1 and 2147483647)",
        ),
    ]);
}

#[test]
fn cmsgpack_packs_and_unpacks() {
    let hex = "(('%s'):gsub('.', function(c) return ('%02x'):format(c:byte()) end))";
    let hex = |value: &str| hex.replace("('%s')", &format!("cmsgpack.pack({value})"));
    let hexes = [
        ("{}", "$90|"),
        ("0.1", "$cb3fb999999999999a|"),
        ("1.5", "$ca3fc00000|"),
        ("-1099511627776", "$d3ffffff0000000000|"),
        ("-33, -32, 127, 128, 65535, 65536", "$d0dfe07fcc80cdffffce00010000|"),
        ("function() end, nil, true", "$c0c0c3|"),
        ("{a={1}}, 'x'", "$81a1619101a178|"),
    ];
    for (value, expected) in hexes {
        check(&[(&hex(value), expected)]);
    }
    check(&[
        ("{cmsgpack.unpack(cmsgpack.pack(1,'a',-7,{b=2}))}", "*4|:1|$a|:-7|*0|"),
        ("cmsgpack.unpack(cmsgpack.pack({b={x=5}})).b.x", ":5|"),
        ("{cmsgpack.unpack_limit(cmsgpack.pack(1,'a',3),2)}", "*3|:3|:1|$a|"),
        ("{cmsgpack.unpack_one('')}", "*1|:-1|"),
        ("cmsgpack.pack()", "!bad argument #0 to 'pack' (MessagePack pack needs input.)"),
        ("cmsgpack.unpack()", "!bad argument #1 to 'unpack' (string expected, got no value)"),
        ("cmsgpack.unpack('\\193')", "!Bad data format in input."),
        ("cmsgpack.unpack('\\220')", "!Missing bytes in input."),
        (
            "{cmsgpack.unpack_one(cmsgpack.pack(1,'a'),5)}",
            "!Start offset 5 greater than input length 3.",
        ),
        (
            "{cmsgpack.unpack_limit(cmsgpack.pack(1,'a'),-1,0)}",
            "!Invalid request to unpack with offset of 0 and limit of 3.",
        ),
        ("cmsgpack.unpack(('\\145'):rep(5000))", "!Bad data format in input."),
        ("cmsgpack.unpack('\\221\\255\\255\\255\\255')", "!Missing bytes in input."),
    ]);
}

#[test]
fn struct_packs_and_unpacks() {
    check(&[
        ("{struct.unpack('>I2hs',struct.pack('>I2hs',1,-2,'abc'))}", "*4|:1|:-2|$abc|:9|"),
        ("#struct.pack('>I2hs',1,-2,'abc')", ":8|"),
        ("{struct.unpack('Bc0','\\3abc')}", "*2|$abc|:5|"),
        ("{struct.unpack('I2','abcd',3)}", "*2|:25699|:5|"),
        ("{struct.unpack('<d>f', struct.pack('<d>f',1.5,2.5))}", "*3|:1|:2|:13|"),
        ("struct.size('!8bI8')", ":16|"),
        ("struct.pack('')", "$|"),
        ("struct.pack('>I2','x')", "!bad argument #2 to 'pack' (number expected, got string)"),
        ("struct.pack('z',1)", "!bad argument #1 to 'pack' (invalid format option 'z')"),
        ("struct.unpack('I','a')", "!bad argument #2 to 'unpack' (data string too short)"),
        ("struct.unpack('s','abc')", "!unfinished string in data"),
        ("struct.size('s')", "!bad argument #1 to 'size' (option 's' has no fixed size)"),
        ("struct.size('c0')", "!bad argument #1 to 'size' (option 'c0' has no fixed size)"),
        ("struct.size('I33')", "!integral size 33 is larger than limit of 32"),
        ("struct.size('!3')", "!alignment 3 is not a power of 2"),
        ("struct.pack('c5','abc')", "!bad argument #3 to 'pack' (string too short)"),
        ("{struct.unpack('c0','abc')}", "!format 'c0' needs a previous size"),
        (
            "{struct.unpack('I2','abc',0)}",
            "!bad argument #3 to 'unpack' (offset must be 1 or greater)",
        ),
        ("struct.pack()", "!bad argument #1 to 'pack' (string expected, got no value)"),
        (
            "{struct.unpack('I2','abc',1e300)}",
            "!bad argument #2 to 'unpack' (data string too short)",
        ),
    ]);
}
