//! What the core commands of the five types must answer, from the collections of the standard
//! library, and how bytes become their arguments.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use resp::decode::Value;

type Text = Vec<u8>;

/// A reply that is right.
#[derive(Debug)]
pub enum Expected {
    /// This one.
    Exactly(Value),
    /// An array of these, in whatever order.
    InAnyOrder(Vec<Value>),
    /// An error that begins so.
    Error(&'static str),
}

/// Bytes to be made into arguments; zeros when they have run out.
pub struct Input<'a>(pub &'a [u8]);

impl Input<'_> {
    /// The next byte, if there is one.
    pub fn next(&mut self) -> Option<u8> {
        let (first, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(*first)
    }

    /// The next byte.
    pub fn byte(&mut self) -> u8 {
        self.next().unwrap_or(0)
    }

    /// A small number, negative ones too.
    fn number(&mut self) -> i64 {
        i64::from(self.byte() as i8 >> 3)
    }

    /// One of a few texts, numbers and long ones among them.
    fn text(&mut self) -> Text {
        let byte = self.byte();
        let number = i64::from(byte >> 3);
        match byte & 7 {
            0 | 1 => number.to_string().into_bytes(),
            2 => (-number * 70_001).to_string().into_bytes(),
            3 => vec![b'x'; number as usize],
            4 => vec![byte; 60],
            5 => format!("0{number}").into_bytes(),
            _ => vec![b'a' + (byte >> 3)],
        }
    }

    /// Any argument at all, for any command.
    pub fn word(&mut self) -> Text {
        const WORDS: &[&str] = &[
            "9223372036854775807", "-9223372036854775808", "1.5", "-inf", "nan", "(3", "[a", "+", "-",
            "NX", "XX", "GT", "LT", "CH", "EX", "PX", "GET", "COUNT", "WITHSCORES", "WITHVALUES",
            "LIMIT", "BYSCORE", "BYLEX", "REV", "FIELDS", "LEFT", "RIGHT", "BEFORE", "AFTER", "WEIGHTS",
            "AGGREGATE", "MAX", "MATCH", "*", "STORE", "BY", "DESC", "ALPHA", "w*->b", "u8", "#2",
            "OVERFLOW", "SAT", "FAIL", "SET", "INCRBY", "BIT", "AND", "XOR", "ONE", "KEEPTTL",
            "PERSIST", "REPLACE", "IDX", "HELP", "", "\0\r\n",
        ];
        let byte = self.byte();
        match byte {
            0..80 => format!("w{}", byte % 5).into_bytes(),
            80..120 => self.number().to_string().into_bytes(),
            120..160 => self.text(),
            _ => WORDS[usize::from(byte - 160) % WORDS.len()].into(),
        }
    }
}

#[derive(Clone, Debug)]
enum Held {
    String(Text),
    List(VecDeque<Text>),
    Hash(BTreeMap<Text, Text>),
    Set(BTreeSet<Text>),
    Zset(BTreeMap<Text, i64>),
}

impl Held {
    fn is_empty(&self) -> bool {
        match self {
            Held::String(_) => false,
            Held::List(list) => list.is_empty(),
            Held::Hash(hash) => hash.is_empty(),
            Held::Set(set) => set.is_empty(),
            Held::Zset(zset) => zset.is_empty(),
        }
    }
}

/// What the keys of the tame session hold.
#[derive(Default)]
pub struct Model(BTreeMap<Text, Held>);

fn int(number: impl TryInto<i64>) -> Value {
    Value::Int(number.try_into().unwrap_or(i64::MAX))
}

fn bulk(text: &[u8]) -> Value {
    Value::Bulk(text.to_vec())
}

fn bulk_or_null(text: Option<&Text>) -> Value {
    text.map_or(Value::Null, |text| bulk(text))
}

fn ok() -> Value {
    Value::Simple(b"OK".to_vec())
}

/// The part from `start` to `stop`, negative ones from the end.
fn part(len: usize, start: i64, stop: i64) -> std::ops::Range<usize> {
    let len = len as i64;
    let from_end = |at: i64| if at < 0 { at + len } else { at };
    let (start, stop) = (from_end(start).max(0), from_end(stop).min(len - 1));
    if start <= stop { start as usize..stop as usize + 1 } else { 0..0 }
}

/// A text that INCR takes for a number.
fn counter(text: &[u8]) -> Option<i64> {
    let number: i64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    (number.to_string().as_bytes() == text).then_some(number)
}

/// The right reply, or that the key holds another type.
type Answer = Result<Value, &'static str>;

const OTHER_TYPE: &str = "WRONGTYPE";

macro_rules! holder {
    ($name:ident, $kind:ident, $type:ty) => {
        fn $name(held: &mut Held) -> Result<&mut $type, &'static str> {
            match held {
                Held::$kind(inner) => Ok(inner),
                _ => Err(OTHER_TYPE),
            }
        }
    };
}

holder!(list, List, VecDeque<Text>);
holder!(hash, Hash, BTreeMap<Text, Text>);
holder!(set, Set, BTreeSet<Text>);
holder!(zset, Zset, BTreeMap<Text, i64>);

impl Model {
    /// The command that `choice` means, with arguments from `input`; and what it must answer.
    pub fn step(&mut self, choice: u8, input: &mut Input<'_>) -> (Vec<Text>, Expected) {
        let key = format!("m{}", input.byte() % 6).into_bytes();
        let mut words = vec![Vec::new(), key.clone()];
        let family = choice % 6;
        let unordered = match (family, choice / 6) {
            (2, 4) => Some("SMEMBERS"),
            (3, 4) => Some("HGETALL"),
            _ => None,
        };
        let answer = match (unordered, family) {
            (Some(name), _) => {
                words[0] = name.into();
                match self.members(&key, family) {
                    Ok(members) => return (words, Expected::InAnyOrder(members)),
                    Err(error) => Err(error),
                }
            }
            (None, 0) => self.string(choice / 6, key, input, &mut words),
            (None, 1) => self.list(choice / 6, &key, input, &mut words),
            (None, 2) => self.set(choice / 6, &key, input, &mut words),
            (None, 3) => self.hash(choice / 6, &key, input, &mut words),
            (None, 4) => self.zset(choice / 6, &key, input, &mut words),
            (None, _) => self.key(choice / 6, key, input, &mut words),
        };
        self.0.retain(|_, held| !held.is_empty());
        (words, answer.map_or_else(Expected::Error, Expected::Exactly))
    }

    fn members(&mut self, key: &[u8], family: u8) -> Result<Vec<Value>, &'static str> {
        let Some(held) = self.0.get_mut(key) else {
            return Ok(Vec::new());
        };
        Ok(match family {
            2 => set(held)?.iter().map(|text| bulk(text)).collect(),
            // A field and its value must stand together, but this much is looked at: all of them.
            _ => hash(held)?.iter().flat_map(|(field, value)| [bulk(field), bulk(value)]).collect(),
        })
    }

    fn string(&mut self, choice: u8, key: Text, input: &mut Input<'_>, words: &mut Vec<Text>) -> Answer {
        let mut name = |name: &str, more: &[&[u8]]| {
            words[0] = name.into();
            words.extend(more.iter().map(|word| word.to_vec()));
        };
        if choice < 8 {
            let text = input.text();
            name("SET", &[&text]);
            self.0.insert(key, Held::String(text));
            return Ok(ok());
        }
        let mut fresh = Text::new();
        let is_there = self.0.contains_key(&key);
        let (old, is_string) = match self.0.get_mut(&key) {
            None => (&mut fresh, true),
            Some(Held::String(text)) => (text, true),
            Some(_) => (&mut fresh, false),
        };
        let answer = match choice {
            8..12 => {
                name("GET", &[]);
                if is_there { bulk(old) } else { Value::Null }
            }
            12..16 => {
                let text = input.text();
                name("APPEND", &[&text]);
                old.extend(&text);
                int(old.len())
            }
            16..20 => {
                let delta = input.number();
                name("INCRBY", &[delta.to_string().as_bytes()]);
                let number = if is_there { counter(old) } else { Some(0) };
                match number.and_then(|number| number.checked_add(delta)) {
                    Some(sum) if is_string => {
                        *old = sum.to_string().into_bytes();
                        int(sum)
                    }
                    _ => return Err(if is_string { "ERR" } else { OTHER_TYPE }),
                }
            }
            20..24 => {
                let (at, text) = (usize::from(input.byte()), input.text());
                name("SETRANGE", &[at.to_string().as_bytes(), &text]);
                if is_string && !text.is_empty() {
                    old.resize(old.len().max(at + text.len()), 0);
                    old[at..at + text.len()].copy_from_slice(&text);
                }
                int(old.len())
            }
            24..28 => {
                let (start, stop) = (input.number().max(0), input.number().max(0));
                name("GETRANGE", &[start.to_string().as_bytes(), stop.to_string().as_bytes()]);
                bulk(&old[part(old.len(), start, stop)])
            }
            _ => {
                name("STRLEN", &[]);
                int(old.len())
            }
        };
        if !is_string {
            return Err(OTHER_TYPE);
        }
        if !is_there && (12..24).contains(&choice) && !(fresh.is_empty() && choice >= 20) {
            self.0.insert(key, Held::String(fresh));
        }
        Ok(answer)
    }

    fn list(&mut self, choice: u8, key: &[u8], input: &mut Input<'_>, words: &mut Vec<Text>) -> Answer {
        let held = self.0.entry(key.to_vec()).or_insert(Held::List(VecDeque::new()));
        let list = list(held);
        let mut name = |name: &str, more: &[&[u8]]| {
            words[0] = name.into();
            words.extend(more.iter().map(|word| word.to_vec()));
        };
        match choice {
            0..10 => {
                let text = input.text();
                let to_head = choice < 4;
                name(if to_head { "LPUSH" } else { "RPUSH" }, &[&text]);
                let list = list?;
                if to_head { list.push_front(text) } else { list.push_back(text) }
                Ok(int(list.len()))
            }
            10 => {
                name("LPOP", &[]);
                Ok(bulk_or_null(list?.pop_front().as_ref()))
            }
            11 => {
                name("RPOP", &[]);
                Ok(bulk_or_null(list?.pop_back().as_ref()))
            }
            12..16 => {
                let (start, stop) = (input.number(), input.number());
                name("LRANGE", &[start.to_string().as_bytes(), stop.to_string().as_bytes()]);
                let list = list?.make_contiguous();
                let wanted = &list[part(list.len(), start, stop)];
                Ok(Value::Array(wanted.iter().map(|text| bulk(text)).collect()))
            }
            16..19 => {
                let index = input.number();
                name("LINDEX", &[index.to_string().as_bytes()]);
                let list = list?;
                let at = if index < 0 { index + list.len() as i64 } else { index };
                Ok(bulk_or_null(usize::try_from(at).ok().and_then(|at| list.get(at))))
            }
            19..23 => {
                let (index, text) = (input.number(), input.text());
                name("LSET", &[index.to_string().as_bytes(), &text]);
                let list = list?;
                let at = if index < 0 { index + list.len() as i64 } else { index };
                let place = usize::try_from(at).ok().and_then(|at| list.get_mut(at));
                *place.ok_or("ERR")? = text;
                Ok(ok())
            }
            23..26 => {
                let (before, pivot, text) = (choice == 23, input.text(), input.text());
                name("LINSERT", &[if before { b"BEFORE" } else { b"AFTER" }, &pivot, &text]);
                let list = list?;
                let Some(at) = list.iter().position(|kept| *kept == pivot) else {
                    return Ok(int(if list.is_empty() { 0 } else { -1 }));
                };
                list.insert(at + usize::from(!before), text);
                Ok(int(list.len()))
            }
            26..28 => {
                let text = input.text();
                name("LREM", &[b"0", &text]);
                let list = list?;
                let before = list.len();
                list.retain(|kept| *kept != text);
                Ok(int(before - list.len()))
            }
            28 => {
                let (start, stop) = (input.number(), input.number());
                name("LTRIM", &[start.to_string().as_bytes(), stop.to_string().as_bytes()]);
                let list = list?;
                let kept = part(list.len(), start, stop);
                list.truncate(kept.end);
                list.drain(..kept.start);
                Ok(ok())
            }
            _ => {
                name("LLEN", &[]);
                Ok(int(list?.len()))
            }
        }
    }

    fn set(&mut self, choice: u8, key: &[u8], input: &mut Input<'_>, words: &mut Vec<Text>) -> Answer {
        let held = self.0.entry(key.to_vec()).or_insert(Held::Set(BTreeSet::new()));
        let set = set(held);
        if choice > 28 {
            words[0] = b"SCARD".to_vec();
            return Ok(int(set?.len()));
        }
        let text = input.text();
        words.push(text.clone());
        let (name, changed) = match choice {
            0..16 => ("SADD", set.map(|set| set.insert(text))),
            16..23 => ("SREM", set.map(|set| set.remove(&text))),
            _ => ("SISMEMBER", set.map(|set| set.contains(&text))),
        };
        words[0] = name.into();
        Ok(int(changed?))
    }

    fn hash(&mut self, choice: u8, key: &[u8], input: &mut Input<'_>, words: &mut Vec<Text>) -> Answer {
        let held = self.0.entry(key.to_vec()).or_insert(Held::Hash(BTreeMap::new()));
        let hash = hash(held);
        if choice > 28 {
            words[0] = b"HLEN".to_vec();
            return Ok(int(hash?.len()));
        }
        let field = input.text();
        words.push(field.clone());
        match choice {
            0..16 => {
                let value = input.text();
                words[0] = b"HSET".to_vec();
                words.push(value.clone());
                Ok(int(hash?.insert(field, value).is_none()))
            }
            16..22 => {
                words[0] = b"HDEL".to_vec();
                Ok(int(hash?.remove(&field).is_some()))
            }
            _ => {
                words[0] = b"HGET".to_vec();
                Ok(bulk_or_null(hash?.get(&field)))
            }
        }
    }

    fn zset(&mut self, choice: u8, key: &[u8], input: &mut Input<'_>, words: &mut Vec<Text>) -> Answer {
        let held = self.0.entry(key.to_vec()).or_insert(Held::Zset(BTreeMap::new()));
        let zset = zset(held);
        let mut name = |name: &str, more: &[&[u8]]| {
            words[0] = name.into();
            words.extend(more.iter().map(|word| word.to_vec()));
        };
        let ordered = |zset: &BTreeMap<Text, i64>| {
            let mut members: Vec<_> = zset.iter().map(|(name, score)| (*score, name.clone())).collect();
            members.sort();
            members
        };
        match choice {
            0..12 => {
                let (score, member) = (input.number(), input.text());
                name("ZADD", &[score.to_string().as_bytes(), &member]);
                Ok(int(zset?.insert(member, score).is_none()))
            }
            12..15 => {
                let (delta, member) = (input.number(), input.text());
                name("ZINCRBY", &[delta.to_string().as_bytes(), &member]);
                let score = zset?.entry(member).or_insert(0);
                *score += delta;
                Ok(bulk(score.to_string().as_bytes()))
            }
            15..18 => {
                let member = input.text();
                name("ZREM", &[&member]);
                Ok(int(zset?.remove(&member).is_some()))
            }
            18..21 => {
                let member = input.text();
                name("ZSCORE", &[&member]);
                let score = zset?.get(&member).map(|score| score.to_string().into_bytes());
                Ok(bulk_or_null(score.as_ref()))
            }
            21..24 => {
                let member = input.text();
                name("ZRANK", &[&member]);
                let members = ordered(zset?);
                let rank = members.iter().position(|(_, name)| *name == member);
                Ok(rank.map_or(Value::Null, int))
            }
            24..29 => {
                let (start, stop) = (input.number(), input.number());
                name("ZRANGE", &[start.to_string().as_bytes(), stop.to_string().as_bytes()]);
                let members = ordered(zset?);
                let wanted = &members[part(members.len(), start, stop)];
                Ok(Value::Array(wanted.iter().map(|(_, name)| bulk(name)).collect()))
            }
            _ => {
                name("ZCARD", &[]);
                Ok(int(zset?.len()))
            }
        }
    }

    fn key(&mut self, choice: u8, key: Text, input: &mut Input<'_>, words: &mut Vec<Text>) -> Answer {
        match choice {
            0..6 => {
                words[0] = b"DEL".to_vec();
                Ok(int(self.0.remove(&key).is_some()))
            }
            6..16 => {
                words[0] = b"EXISTS".to_vec();
                Ok(int(self.0.contains_key(&key)))
            }
            16..24 => {
                let other = format!("m{}", input.byte() % 6).into_bytes();
                words[0] = b"RENAME".to_vec();
                words.push(other.clone());
                let held = self.0.remove(&key).ok_or("ERR no such key")?;
                self.0.insert(other, held);
                Ok(ok())
            }
            _ => {
                words[0] = b"TYPE".to_vec();
                let name = match self.0.get(&key) {
                    None => "none",
                    Some(Held::String(_)) => "string",
                    Some(Held::List(_)) => "list",
                    Some(Held::Hash(_)) => "hash",
                    Some(Held::Set(_)) => "set",
                    Some(Held::Zset(_)) => "zset",
                };
                Ok(Value::Simple(name.into()))
            }
        }
    }
}
