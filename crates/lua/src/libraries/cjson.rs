//! `cjson`: values into JSON and back.
//!
//! A table whose keys are all whole numbers from 1 on is an array, unless it is empty or has too
//! many holes; any other is an object. The null of JSON is `cjson.null`, a light userdata.

use std::cell::RefCell;
use std::rc::Rc;

use mlua::{LightUserData, Lua, LuaString, MultiValue, Result, Table, Value};

use super::{Arguments, array_shape, as_number};

/// Nesting that cannot be allowed: it would leave the stack.
const DEPTH_MAX: i64 = super::DEPTH_MAX as i64;

/// What scripts have set.
struct Settings {
    converts_sparse: bool,
    sparse_ratio: i64,
    sparse_safe: i64,
    encode_depth: i64,
    decode_depth: i64,
    precision: i64,
    keeps_buffer: bool,
    /// NaN and infinity in what is encoded: refused, written so, or as null.
    encodes_invalid: Invalid,
    decodes_invalid: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Invalid {
    Refused,
    Written,
    Null,
}

impl Default for Settings {
    fn default() -> Settings {
        Settings {
            converts_sparse: false,
            sparse_ratio: 2,
            sparse_safe: 10,
            encode_depth: 1000,
            decode_depth: 1000,
            precision: 14,
            keeps_buffer: true,
            encodes_invalid: Invalid::Refused,
            decodes_invalid: true,
        }
    }
}

type Shared = Rc<RefCell<Settings>>;
type Setter = fn(&Arguments<'_>, &mut Settings) -> Result<Vec<Value>>;

/// The library.
pub fn table(lua: &Lua) -> Result<Table> {
    let shared = Shared::default();
    let table = lua.create_table()?;
    let settings = Rc::clone(&shared);
    let encode = move |lua: &Lua, values| encode(lua, &settings.borrow(), values);
    table.raw_set("encode", lua.create_function(encode)?)?;
    let settings = Rc::clone(&shared);
    let decode = move |lua: &Lua, values| decode(lua, &settings.borrow(), values);
    table.raw_set("decode", lua.create_function(decode)?)?;
    let setters: [(&'static str, Setter); 7] = [
        ("encode_sparse_array", set_sparse),
        ("encode_max_depth", |args, settings| {
            set_int(args, &mut settings.encode_depth, 1..i32::MAX.into())
        }),
        ("decode_max_depth", |args, settings| {
            set_int(args, &mut settings.decode_depth, 1..i32::MAX.into())
        }),
        ("encode_number_precision", |args, settings| set_int(args, &mut settings.precision, 1..16)),
        ("encode_keep_buffer", |args, settings| set_bool(args, &mut settings.keeps_buffer)),
        ("encode_invalid_numbers", set_invalid),
        ("decode_invalid_numbers", |args, settings| set_bool(args, &mut settings.decodes_invalid)),
    ];
    for (name, setter) in setters {
        let settings = Rc::clone(&shared);
        let set = move |lua: &Lua, values| {
            let args = Arguments::new(lua, name, values);
            let answer = setter(&args, &mut settings.borrow_mut())?;
            Ok(MultiValue::from_iter(answer))
        };
        table.raw_set(name, lua.create_function(set)?)?;
    }
    table.raw_set("null", Value::LightUserData(LightUserData(std::ptr::null_mut())))?;
    table.raw_set("_NAME", "cjson")?;
    table.raw_set("_VERSION", "2.1.0")?;
    Ok(table)
}

// ---- Settings ----------------------------------------------------------------------------------

fn whole(args: &Arguments<'_>, at: usize, range: std::ops::Range<i64>) -> Result<i64> {
    let number = args.number(at)? as i64;
    // The ends are shown as the original shows them, both included.
    match (range.start..=range.end).contains(&number) {
        true => Ok(number),
        false => {
            let (start, end) = (range.start, range.end);
            Err(args.bad(at, &format!("expected integer between {start} and {end}")))
        }
    }
}

fn is_given(args: &Arguments<'_>, at: usize) -> bool {
    !matches!(args.get(at), None | Some(Value::Nil))
}

fn set_int(
    args: &Arguments<'_>,
    value: &mut i64,
    range: std::ops::Range<i64>,
) -> Result<Vec<Value>> {
    if is_given(args, 1) {
        *value = whole(args, 1, range)?;
    }
    Ok(vec![Value::Number(*value as f64)])
}

fn set_bool(args: &Arguments<'_>, value: &mut bool) -> Result<Vec<Value>> {
    match args.get(1) {
        None | Some(Value::Nil) => {}
        Some(Value::Boolean(given)) => *value = *given,
        Some(Value::String(text)) if text.as_bytes() == *b"on" => *value = true,
        Some(Value::String(text)) if text.as_bytes() == *b"off" => *value = false,
        Some(_) => return Err(args.expected(1, "boolean")),
    }
    Ok(vec![Value::Boolean(*value)])
}

fn set_invalid(args: &Arguments<'_>, settings: &mut Settings) -> Result<Vec<Value>> {
    if let Some(Value::String(text)) = args.get(1)
        && text.as_bytes() == *b"null"
    {
        settings.encodes_invalid = Invalid::Null;
    } else if is_given(args, 1) {
        let mut is_on = false;
        set_bool(args, &mut is_on)?;
        settings.encodes_invalid = if is_on {
            Invalid::Written
        } else {
            Invalid::Refused
        };
    }
    Ok(vec![match settings.encodes_invalid {
        Invalid::Refused => Value::Boolean(false),
        Invalid::Written => Value::Boolean(true),
        Invalid::Null => Value::String(args.lua.create_string("null")?),
    }])
}

fn set_sparse(args: &Arguments<'_>, settings: &mut Settings) -> Result<Vec<Value>> {
    set_bool(args, &mut settings.converts_sparse)?;
    if is_given(args, 2) {
        settings.sparse_ratio = whole(args, 2, 0..i32::MAX.into())?;
    }
    if is_given(args, 3) {
        settings.sparse_safe = whole(args, 3, 0..i32::MAX.into())?;
    }
    Ok(vec![
        Value::Boolean(settings.converts_sparse),
        Value::Number(settings.sparse_ratio as f64),
        Value::Number(settings.sparse_safe as f64),
    ])
}

// ---- Encoding ----------------------------------------------------------------------------------

fn encode(lua: &Lua, settings: &Settings, values: MultiValue) -> Result<LuaString> {
    let args = Arguments::new(lua, "encode", values);
    let value = match args.get(1) {
        Some(value) if args.len() == 1 => value,
        _ => return Err(args.bad(1, "expected 1 argument")),
    };
    let mut encoder = Encoder {
        lua,
        settings,
        out: Vec::new(),
    };
    encoder.value(value, 0)?;
    lua.create_string(&encoder.out)
}

struct Encoder<'a> {
    lua: &'a Lua,
    settings: &'a Settings,
    out: Vec<u8>,
}

impl Encoder<'_> {
    fn refuse<T>(&self, value: &Value, reason: &str) -> Result<T> {
        let kind = match value {
            Value::Integer(_) => "number",
            other => other.type_name(),
        };
        Err(super::raise(self.lua, format!("Cannot serialise {kind}: {reason}")))
    }

    fn value(&mut self, value: &Value, depth: i64) -> Result<()> {
        match value {
            Value::String(text) => self.text(&text.as_bytes()),
            Value::Integer(_) | Value::Number(_) => self.number(value)?,
            Value::Boolean(true) => self.out.extend_from_slice(b"true"),
            Value::Boolean(false) => self.out.extend_from_slice(b"false"),
            Value::Nil => self.out.extend_from_slice(b"null"),
            Value::LightUserData(pointer) if pointer.0.is_null() => {
                self.out.extend_from_slice(b"null");
            }
            Value::Table(table) => self.table(table, value, depth + 1)?,
            other => self.refuse(other, "type not supported")?,
        }
        Ok(())
    }

    fn number(&mut self, value: &Value) -> Result<()> {
        let number = as_number(value).unwrap_or_default();
        match self.settings.encodes_invalid {
            _ if number.is_finite() => self.digits(number),
            Invalid::Refused => self.refuse(value, "must not be NaN or Inf")?,
            Invalid::Null => self.out.extend_from_slice(b"null"),
            Invalid::Written if number.is_nan() => self.out.extend_from_slice(b"nan"),
            Invalid::Written => {
                let text: &[u8] = if number > 0.0 { b"inf" } else { b"-inf" };
                self.out.extend_from_slice(text);
            }
        }
        Ok(())
    }

    fn digits(&mut self, number: f64) {
        let text = general(number, self.settings.precision as usize);
        self.out.extend_from_slice(text.as_bytes());
    }

    fn table(&mut self, table: &Table, value: &Value, depth: i64) -> Result<()> {
        if depth > self.settings.encode_depth.min(DEPTH_MAX) {
            let message = format!("Cannot serialise, excessive nesting ({depth})");
            return Err(super::raise(self.lua, message));
        }
        if let Some((len, n)) = array_shape(table)?
            && len > 0
            && !self.is_sparse(len as i64, n as i64, value)?
        {
            return self.array(table, len, depth);
        }
        self.object(table, depth)
    }

    /// Whether an array has so many holes that it is an object, or refused.
    fn is_sparse(&self, len: i64, n: i64, value: &Value) -> Result<bool> {
        let settings = self.settings;
        let is_sparse = settings.sparse_ratio > 0
            && len > n.saturating_mul(settings.sparse_ratio)
            && len > settings.sparse_safe;
        match is_sparse && !settings.converts_sparse {
            true => self.refuse(value, "excessively sparse array"),
            false => Ok(is_sparse),
        }
    }

    fn array(&mut self, table: &Table, len: usize, depth: i64) -> Result<()> {
        self.out.push(b'[');
        for at in 1..=len {
            if at > 1 {
                self.out.push(b',');
            }
            let element: Value = table.raw_get(at)?;
            self.value(&element, depth)?;
        }
        self.out.push(b']');
        Ok(())
    }

    fn object(&mut self, table: &Table, depth: i64) -> Result<()> {
        self.out.push(b'{');
        for (at, pair) in table.pairs::<Value, Value>().enumerate() {
            let (key, value) = pair?;
            if at > 0 {
                self.out.push(b',');
            }
            match &key {
                Value::String(text) => self.text(&text.as_bytes()),
                Value::Integer(_) | Value::Number(_) => {
                    self.out.push(b'"');
                    self.number(&key)?;
                    self.out.push(b'"');
                }
                other => self.refuse(other, "table key must be a number or string")?,
            }
            self.out.push(b':');
            self.value(&value, depth)?;
        }
        self.out.push(b'}');
        Ok(())
    }

    fn text(&mut self, text: &[u8]) {
        self.out.push(b'"');
        for byte in text {
            let letter = match byte {
                b'"' | b'\\' | b'/' => *byte,
                8 => b'b',
                9 => b't',
                10 => b'n',
                12 => b'f',
                13 => b'r',
                0..=31 | 127 => {
                    self.out
                        .extend_from_slice(format!("\\u{byte:04x}").as_bytes());
                    continue;
                }
                plain => {
                    self.out.push(*plain);
                    continue;
                }
            };
            self.out.extend_from_slice(&[b'\\', letter]);
        }
        self.out.push(b'"');
    }
}

/// A number as `%.<precision>g` prints it.
fn general(number: f64, precision: usize) -> String {
    let scientific = format!("{number:.*e}", precision - 1);
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or_default();
    let trim = |text: &str| match text.contains('.') {
        true => text.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => text.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(mantissa), exponent.abs());
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trim(&format!("{number:.decimals$}"))
}

// ---- Decoding ----------------------------------------------------------------------------------

fn decode(lua: &Lua, settings: &Settings, values: MultiValue) -> Result<Value> {
    let args = Arguments::new(lua, "decode", values);
    if args.len() != 1 {
        return Err(args.bad(1, "expected 1 argument"));
    }
    let text = args.text(1)?;
    let text = text.as_bytes();
    if text.len() >= 2 && (text[0] == 0 || text[1] == 0) {
        return Err(super::raise(lua, "JSON parser does not support UTF-16 or UTF-32"));
    }
    let mut decoder = Decoder {
        lua,
        settings,
        text: &text,
        at: 0,
    };
    let (token, place) = decoder.token();
    let value = decoder.value(token, place, 0)?;
    match decoder.token() {
        (Token::End, _) => Ok(value),
        (token, place) => Err(decoder.unexpected("the end", &token, place)),
    }
}

enum Token {
    ObjectBegin,
    ObjectEnd,
    ArrayBegin,
    ArrayEnd,
    Text(Vec<u8>),
    Number(f64),
    Boolean(bool),
    Null,
    Colon,
    Comma,
    End,
    Error(&'static str),
}

impl Token {
    fn name(&self) -> &'static str {
        match self {
            Token::ObjectBegin => "T_OBJ_BEGIN",
            Token::ObjectEnd => "T_OBJ_END",
            Token::ArrayBegin => "T_ARR_BEGIN",
            Token::ArrayEnd => "T_ARR_END",
            Token::Text(_) => "T_STRING",
            Token::Number(_) => "T_NUMBER",
            Token::Boolean(_) => "T_BOOLEAN",
            Token::Null => "T_NULL",
            Token::Colon => "T_COLON",
            Token::Comma => "T_COMMA",
            Token::End => "T_END",
            Token::Error(reason) => reason,
        }
    }
}

struct Decoder<'a> {
    lua: &'a Lua,
    settings: &'a Settings,
    text: &'a [u8],
    at: usize,
}

impl Decoder<'_> {
    fn unexpected(&self, expected: &str, found: &Token, place: usize) -> mlua::Error {
        let (found, place) = (found.name(), place + 1);
        let message = format!("Expected {expected} but found {found} at character {place}");
        super::raise(self.lua, message)
    }

    fn value(&mut self, token: Token, place: usize, depth: i64) -> Result<Value> {
        Ok(match token {
            Token::Text(text) => Value::String(self.lua.create_string(&text)?),
            Token::Number(number) => Value::Number(number),
            Token::Boolean(value) => Value::Boolean(value),
            Token::Null => Value::LightUserData(LightUserData(std::ptr::null_mut())),
            Token::ObjectBegin => self.object(depth + 1)?,
            Token::ArrayBegin => self.array(depth + 1)?,
            token => return Err(self.unexpected("value", &token, place)),
        })
    }

    fn check_depth(&self, depth: i64) -> Result<()> {
        if depth <= self.settings.decode_depth.min(DEPTH_MAX) {
            return Ok(());
        }
        let place = self.at;
        let message =
            format!("Found too many nested data structures ({depth}) at character {place}");
        Err(super::raise(self.lua, message))
    }

    fn object(&mut self, depth: i64) -> Result<Value> {
        self.check_depth(depth)?;
        let table = self.lua.create_table()?;
        let (mut token, mut place) = self.token();
        if matches!(token, Token::ObjectEnd) {
            return Ok(Value::Table(table));
        }
        loop {
            let Token::Text(key) = token else {
                return Err(self.unexpected("object key string", &token, place));
            };
            match self.token() {
                (Token::Colon, _) => {}
                (token, place) => return Err(self.unexpected("colon", &token, place)),
            }
            (token, place) = self.token();
            let value = self.value(token, place, depth)?;
            table.raw_set(self.lua.create_string(&key)?, value)?;
            match self.token() {
                (Token::ObjectEnd, _) => return Ok(Value::Table(table)),
                (Token::Comma, _) => (token, place) = self.token(),
                (token, place) => {
                    return Err(self.unexpected("comma or object end", &token, place));
                }
            }
        }
    }

    fn array(&mut self, depth: i64) -> Result<Value> {
        self.check_depth(depth)?;
        let table = self.lua.create_table()?;
        let (mut token, mut place) = self.token();
        if matches!(token, Token::ArrayEnd) {
            return Ok(Value::Table(table));
        }
        for at in 1.. {
            let value = self.value(token, place, depth)?;
            table.raw_set(at, value)?;
            match self.token() {
                (Token::ArrayEnd, _) => break,
                (Token::Comma, _) => (token, place) = self.token(),
                (token, place) => {
                    return Err(self.unexpected("comma or array end", &token, place));
                }
            }
        }
        Ok(Value::Table(table))
    }

    /// The next token and where it begins; of some broken ones, where they break.
    fn token(&mut self) -> (Token, usize) {
        while matches!(self.text.get(self.at), Some(b' ' | b'\t' | b'\n' | b'\r')) {
            self.at += 1;
        }
        let place = self.at;
        let Some(&byte) = self.text.get(place) else {
            return (Token::End, place);
        };
        self.at += 1;
        let token = match byte {
            b'{' => Token::ObjectBegin,
            b'}' => Token::ObjectEnd,
            b'[' => Token::ArrayBegin,
            b']' => Token::ArrayEnd,
            b':' => Token::Colon,
            b',' => Token::Comma,
            b'"' => return self.text_token(place),
            b'-' | b'0'..=b'9' => self.number_token(place),
            b't' if self.eat(place, b"true") => Token::Boolean(true),
            b'f' if self.eat(place, b"false") => Token::Boolean(false),
            b'n' if self.eat(place, b"null") => Token::Null,
            _ if self.settings.decodes_invalid => match self.invalid_number(place) {
                Some(number) => Token::Number(number),
                None => Token::Error("invalid token"),
            },
            _ => Token::Error("invalid token"),
        };
        (token, place)
    }

    fn eat(&mut self, place: usize, word: &[u8]) -> bool {
        let is_there = self.text[place..].starts_with(word);
        if is_there {
            self.at = place + word.len();
        }
        is_there
    }

    /// NaN or infinity at `place`.
    fn invalid_number(&mut self, place: usize) -> Option<f64> {
        let rest = &self.text[place..];
        let (sign, digits) = match rest.first()? {
            b'-' => (-1.0, &rest[1..]),
            _ => (1.0, rest),
        };
        let words = [
            (&b"infinity"[..], f64::INFINITY),
            (b"inf", f64::INFINITY),
            (b"nan", f64::NAN),
        ];
        for (word, value) in words {
            let start = digits.get(..word.len());
            if start.is_some_and(|start| start.eq_ignore_ascii_case(word)) {
                self.at = self.text.len() - digits.len() + word.len();
                return Some(sign * value);
            }
        }
        None
    }

    fn number_token(&mut self, place: usize) -> Token {
        let rest = &self.text[place..];
        let digits = rest.strip_prefix(b"-").unwrap_or(rest);
        if self.settings.decodes_invalid {
            if let Some(number) = self.invalid_number(place) {
                return Token::Number(number);
            }
            if digits.starts_with(b"0x") || digits.starts_with(b"0X") {
                return self.hexadecimal(place, rest.len() > digits.len(), &digits[2..]);
            }
        } else if matches!(digits, [b'0', b'0'..=b'9' | b'x' | b'X', ..])
            || !starts_with_digit(digits)
        {
            return Token::Error("invalid number");
        }
        let len = decimal_len(rest);
        let number = std::str::from_utf8(&rest[..len]).ok();
        match number.and_then(|number| number.parse().ok()) {
            Some(number) => {
                self.at = place + len;
                Token::Number(number)
            }
            None => Token::Error("invalid number"),
        }
    }

    fn hexadecimal(&mut self, place: usize, is_negative: bool, digits: &[u8]) -> Token {
        let n_digits = digits
            .iter()
            .take_while(|byte| byte.is_ascii_hexdigit())
            .count();
        if n_digits == 0 {
            self.at = place + 1 + usize::from(is_negative);
            return Token::Number(0.0);
        }
        let number = digits[..n_digits].iter().fold(0.0, |number, digit| {
            let digit = char::from(*digit).to_digit(16).unwrap_or_default();
            number * 16.0 + f64::from(digit)
        });
        self.at = place + usize::from(is_negative) + 2 + n_digits;
        Token::Number(if is_negative { -number } else { number })
    }

    fn text_token(&mut self, place: usize) -> (Token, usize) {
        let mut out = Vec::new();
        loop {
            let start = self.at;
            match self.text.get(start) {
                None => return (Token::Error("unexpected end of string"), start),
                Some(b'"') => {
                    self.at += 1;
                    return (Token::Text(out), place);
                }
                Some(b'\\') => {
                    if let Err(reason) = self.escape(&mut out) {
                        return (Token::Error(reason), start);
                    }
                }
                Some(byte) => {
                    out.push(*byte);
                    self.at += 1;
                }
            }
        }
    }

    fn escape(&mut self, out: &mut Vec<u8>) -> std::result::Result<(), &'static str> {
        let letter = self.text.get(self.at + 1).copied().unwrap_or_default();
        let byte = match letter {
            b'"' | b'\\' | b'/' => letter,
            b'b' => 8,
            b't' => 9,
            b'n' => 10,
            b'f' => 12,
            b'r' => 13,
            b'u' => {
                let letter = self.unicode().ok_or("invalid unicode escape code")?;
                out.extend_from_slice(letter.encode_utf8(&mut [0; 4]).as_bytes());
                return Ok(());
            }
            _ => return Err("invalid escape code"),
        };
        out.push(byte);
        self.at += 2;
        Ok(())
    }

    /// The character of a `\uXXXX`, or of two that make up one.
    fn unicode(&mut self) -> Option<char> {
        let first = self.code_unit()?;
        if let Some(letter) = char::from_u32(first) {
            return Some(letter);
        }
        let second = self.code_unit()?;
        let is_pair = (0xd800..0xdc00).contains(&first) && (0xdc00..0xe000).contains(&second);
        is_pair
            .then(|| 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00))
            .and_then(char::from_u32)
    }

    fn code_unit(&mut self) -> Option<u32> {
        let digits = self.text[self.at..].strip_prefix(b"\\u")?.get(..4)?;
        let mut unit = 0;
        for digit in digits {
            unit = unit * 16 + char::from(*digit).to_digit(16)?;
        }
        self.at += 6;
        Some(unit)
    }
}

fn starts_with_digit(text: &[u8]) -> bool {
    text.first().is_some_and(u8::is_ascii_digit)
}

/// How many bytes of a text are a decimal number.
fn decimal_len(text: &[u8]) -> usize {
    let digits = |from: usize| {
        let rest = text.get(from..).unwrap_or_default();
        from + rest.iter().take_while(|byte| byte.is_ascii_digit()).count()
    };
    let mut end = digits(usize::from(text.first() == Some(&b'-')));
    if text.get(end) == Some(&b'.') {
        end = digits(end + 1);
    }
    if let Some(b'e' | b'E') = text.get(end) {
        let start = end + 1 + usize::from(matches!(text.get(end + 1), Some(b'+' | b'-')));
        if digits(start) > start {
            end = digits(start);
        }
    }
    end
}
