//! One key on both sides, and many at a time: what commands answer, in pieces that have a bound.

use client::connection::{Connection, Error};
use resp::decode::Value;

use super::super::args::Side;
use super::super::side::text;
use super::replies::{
    PIECE, bytes, field, is_near, is_same_payload, length_of, next_id, same_scores, scanned,
    without_idle,
};

/// Bytes of a piece of a string.
const PIECE_BYTES: usize = 1 << 20;
/// What has at most so many elements, or bytes, is compared by DUMP.
const DUMPED_MAX: i64 = 1000;
const DUMPED_BYTES_MAX: i64 = 64 << 10;
/// How much deadlines may differ that are told as times from now.
const TOLERANCE_MS: i64 = 2000;

type Command = Vec<Vec<u8>>;

/// Both servers, in the same database.
pub struct Pair {
    connections: [Connection; 2],
    names: [String; 2],
    /// PEXPIRETIME, or PTTL where one of them does not know it.
    deadline: (&'static str, i64),
    knows_fields: bool,
}

fn command(words: &[&[u8]]) -> Command {
    words.iter().map(|word| word.to_vec()).collect()
}

impl Pair {
    pub fn open(from: &Side, to: &Side) -> Result<Pair, String> {
        let mut pair = Pair {
            connections: [from.connect()?, to.connect()?],
            names: [from.named(), to.named()],
            deadline: ("PTTL", TOLERANCE_MS),
            knows_fields: false,
        };
        // Older servers do not know it, and note that keys were used.
        pair.both(&["CLIENT", "NO-TOUCH", "ON"])?;
        let answers = pair.both(&["PEXPIRETIME", "minium:migrate"])?;
        if answers.iter().all(|answer| matches!(answer, Value::Int(_))) {
            pair.deadline = ("PEXPIRETIME", 0);
        }
        let answers = pair.both(&["HPEXPIRETIME", "minium:migrate", "FIELDS", "1", "f"])?;
        pair.knows_fields = !answers
            .iter()
            .any(|answer| matches!(answer, Value::Error(_)));
        Ok(pair)
    }

    pub fn select(&mut self, database: u64) -> Result<(), String> {
        for (answer, name) in self
            .both(&["SELECT", &database.to_string()])?
            .iter()
            .zip(&self.names)
        {
            if let Value::Error(line) = answer {
                return Err(format!("{name}: {}", String::from_utf8_lossy(line)));
            }
        }
        Ok(())
    }

    fn lost(&self, side: usize) -> impl Fn(Error) -> String + use<> {
        let name = self.names[side].clone();
        move |error| format!("{name} does not answer while it is compared: {error}")
    }

    /// The answers of one side.
    pub fn ask(&mut self, side: usize, commands: &[Command]) -> Result<Vec<Value>, String> {
        let lost = self.lost(side);
        self.connections[side].pipeline(commands).map_err(lost)
    }

    /// The answers of both, which work at the same time.
    fn ask_both(&mut self, commands: &[Command]) -> Result<[Vec<Value>; 2], String> {
        for side in 0..2 {
            let lost = self.lost(side);
            let connection = &mut self.connections[side];
            let mut sent = commands.iter().map(|words| connection.send(words));
            sent.try_for_each(|sent| sent).map_err(&lost)?;
            connection.flush().map_err(&lost)?;
        }
        let mut answers = [Vec::new(), Vec::new()];
        for (side, answers) in answers.iter_mut().enumerate() {
            for _ in commands {
                let answer = self.connections[side].receive();
                answers.push(answer.map_err(self.lost(side))?);
            }
        }
        Ok(answers)
    }

    pub fn both(&mut self, words: &[impl AsRef<[u8]>]) -> Result<[Value; 2], String> {
        let words = words.iter().map(|word| word.as_ref().to_vec()).collect();
        let [source, target] = self.ask_both(&[words])?;
        let one = |answers: Vec<Value>| answers.into_iter().next().unwrap_or(Value::Null);
        Ok([one(source), one(target)])
    }

    pub fn random_keys(&mut self, side: usize, n: usize) -> Result<Vec<Vec<u8>>, String> {
        let answers = self.ask(side, &vec![command(&[b"RANDOMKEY"]); n])?;
        Ok(answers.into_iter().filter_map(bytes).collect())
    }

    pub fn scan(
        &mut self,
        side: usize,
        cursor: &str,
        n: usize,
    ) -> Result<(String, Vec<Vec<u8>>), String> {
        let words = [
            b"SCAN",
            cursor.as_bytes(),
            b"COUNT",
            n.to_string().as_bytes(),
        ]
        .map(Vec::from);
        let answer = self.ask(side, &[words.to_vec()])?.pop();
        scanned(answer).ok_or_else(|| format!("{} does not answer to SCAN", self.names[side]))
    }

    // ---- Many keys -------------------------------------------------------------------------------

    /// Those of the keys that are not the same at first sight.
    pub fn suspects(&mut self, keys: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, String> {
        let (word, tolerance) = self.deadline;
        let questions = keys
            .iter()
            .flat_map(|key| [command(&[b"TYPE", key]), command(&[word.as_bytes(), key])]);
        let [source, target] = self.ask_both(&questions.collect::<Vec<_>>())?;
        let (mut suspects, mut alike) = (Vec::new(), Vec::new());
        for (at, key) in keys.iter().enumerate() {
            let (one, other) = (&source[2 * at..2 * at + 2], &target[2 * at..2 * at + 2]);
            match one[0] == other[0] && is_near(&one[1], &other[1], tolerance) {
                true => alike.push((key, text(&one[0]))),
                false => suspects.push(key.clone()),
            }
        }
        let questions = alike
            .iter()
            .map(|(key, kind)| command(&[length_of(kind), key]));
        let [source, target] = self.ask_both(&questions.collect::<Vec<_>>())?;
        let (mut small, mut large) = (Vec::new(), Vec::new());
        for ((key, kind), answers) in alike.into_iter().zip(source.iter().zip(&target)) {
            let max = if kind == "string" {
                DUMPED_BYTES_MAX
            } else {
                DUMPED_MAX
            };
            match answers {
                (one, other) if one != other => suspects.push(key.clone()),
                (Value::Int(n), _) if *n > max => large.push(key),
                _ => small.push(key),
            }
        }
        let questions = small.iter().map(|key| command(&[b"DUMP", key]));
        let [source, target] = self.ask_both(&questions.collect::<Vec<_>>())?;
        for (key, answers) in small.into_iter().zip(source.iter().zip(&target)) {
            if !is_same_payload(answers) {
                large.push(key);
            }
        }
        for key in large {
            if self.difference(key)?.is_some() {
                suspects.push(key.clone());
            }
        }
        Ok(suspects)
    }

    /// What tells whether the source's value has changed.
    pub fn fingerprint(&mut self, key: &[u8]) -> Result<Vec<Value>, String> {
        let word = self.deadline.0.as_bytes();
        let answers = self.ask(0, &[command(&[b"DUMP", key]), command(&[word, key])])?;
        match self.deadline.1 {
            0 => Ok(answers),
            _ => Ok(answers.into_iter().take(1).collect()), // the other changes by itself
        }
    }

    // ---- One key ---------------------------------------------------------------------------------

    /// How the key differs; `None` if it is the same.
    pub fn difference(&mut self, key: &[u8]) -> Result<Option<String>, String> {
        let [source, target] = self.both(&[b"TYPE", key])?;
        let (kind, other) = (text(&source), text(&target));
        if kind != other {
            let named = |kind: &str| match kind {
                "none" => "not there".to_owned(),
                kind => format!("a {kind}"),
            };
            return Ok(Some(format!("{} / {}", named(&kind), named(&other))));
        }
        let (word, tolerance) = self.deadline;
        let [source, target] = self.both(&[word.as_bytes(), key])?;
        if !is_near(&source, &target, tolerance) {
            let (source, target) = (text(&source), text(&target));
            return Ok(Some(format!("{word} {source} / {target}")));
        }
        let [source, target] = self.both(&[length_of(&kind), key])?;
        if source != target {
            return Ok(Some(format!("{kind}, length {} / {}", text(&source), text(&target))));
        }
        let length = match source {
            Value::Int(n) => usize::try_from(n).unwrap_or(0),
            _ => 0,
        };
        let is_same = match &kind[..] {
            "none" => true,
            "string" => self.same_ranges(b"GETRANGE", key, length, PIECE_BYTES)?,
            "list" => self.same_ranges(b"LRANGE", key, length, PIECE)?,
            "zset" => self.same_ranges(b"ZRANGE", key, length, PIECE)?,
            "set" => self.same_members(key)?,
            "hash" => self.same_fields(key)?,
            "stream" => self.same_entries(key)? && self.same_groups(key)?,
            _ => {
                let [source, target] = self.both(&[b"DUMP", key])?;
                is_same_payload((&source, &target))
            }
        };
        Ok((!is_same).then(|| format!("{kind} of another content")))
    }

    /// Compares what stands in an order, piece by piece.
    fn same_ranges(
        &mut self,
        word: &[u8],
        key: &[u8],
        length: usize,
        piece: usize,
    ) -> Result<bool, String> {
        for start in (0..length).step_by(piece) {
            let (first, last) = (start.to_string(), (start + piece - 1).to_string());
            let mut words = vec![word, key, first.as_bytes(), last.as_bytes()];
            words.extend((word == b"ZRANGE").then_some(&b"WITHSCORES"[..]));
            let [source, target] = self.both(&words)?;
            let is_same = match (&source, &target) {
                (Value::Array(one), Value::Array(other)) if word == b"ZRANGE" => {
                    same_scores(one, other)
                }
                _ => source == target,
            };
            if !is_same {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// As many members there are on both sides: the source's are all there.
    fn same_members(&mut self, key: &[u8]) -> Result<bool, String> {
        self.all_pieces(b"SSCAN", key, |pair, members| {
            let questions = members
                .iter()
                .map(|member| command(&[b"SISMEMBER", key, member]));
            let answers = pair.ask(1, &questions.collect::<Vec<_>>())?;
            Ok(answers.iter().all(|answer| *answer == Value::Int(1)))
        })
    }

    fn same_fields(&mut self, key: &[u8]) -> Result<bool, String> {
        self.all_pieces(b"HSCAN", key, |pair, pairs| {
            let (fields, values): (Vec<_>, Vec<_>) = pairs
                .chunks_exact(2)
                .map(|pair| (&pair[0][..], &pair[1]))
                .unzip();
            if fields.is_empty() {
                return Ok(true);
            }
            let words = [&[&b"HMGET"[..], key], &fields[..]].concat();
            let Some(Value::Array(there)) = pair.ask(1, &[command(&words)])?.pop() else {
                return Ok(false);
            };
            let there: Vec<_> = there.into_iter().map(bytes).collect();
            if there
                .iter()
                .map(Option::as_ref)
                .ne(values.into_iter().map(Some))
            {
                return Ok(false);
            }
            if !pair.knows_fields {
                return Ok(true);
            }
            let n_fields = fields.len().to_string();
            let before = [b"HPEXPIRETIME", key, b"FIELDS", n_fields.as_bytes()];
            let [source, target] = pair.both(&[&before[..], &fields].concat())?;
            Ok(source == target)
        })
    }

    /// Whether something holds of every piece of a collection of the source.
    fn all_pieces(
        &mut self,
        word: &[u8],
        key: &[u8],
        mut holds: impl FnMut(&mut Pair, &[Vec<u8>]) -> Result<bool, String>,
    ) -> Result<bool, String> {
        let mut cursor = "0".to_owned();
        loop {
            let count = PIECE.to_string();
            let words = [word, key, cursor.as_bytes(), b"COUNT", count.as_bytes()];
            let answer = self.ask(0, &[command(&words)])?.pop();
            let Some((next, piece)) = scanned(answer) else {
                return Ok(false); // it is of another type now
            };
            if !holds(self, &piece)? {
                return Ok(false);
            }
            if next == "0" {
                return Ok(true);
            }
            cursor = next;
        }
    }

    fn same_entries(&mut self, key: &[u8]) -> Result<bool, String> {
        let count = PIECE.to_string();
        let mut start = b"-".to_vec();
        loop {
            let words = [b"XRANGE", key, &start[..], b"+", b"COUNT", count.as_bytes()];
            let [source, target] = self.both(&words)?;
            if source != target {
                return Ok(false);
            }
            match next_id(&source) {
                Some(id) => start = id,
                None => return Ok(true),
            }
        }
    }

    /// Compares what the stream remembers, its groups, and what is pending there and for whom.
    fn same_groups(&mut self, key: &[u8]) -> Result<bool, String> {
        let [source, target] = self.both(&[&b"XINFO"[..], b"STREAM", key])?;
        if field(&source, "last-generated-id") != field(&target, "last-generated-id") {
            return Ok(false);
        }
        let [source, target] = self.both(&[&b"XINFO"[..], b"GROUPS", key])?;
        let (Value::Array(source), Value::Array(target)) = (source, target) else {
            return Ok(false);
        };
        // Not how many consumers: Redis tells its replicas of none that has got nothing.
        let of =
            |group: &Value| ["name", "pending", "last-delivered-id"].map(|name| field(group, name));
        if source.iter().map(of).ne(target.iter().map(of)) {
            return Ok(false);
        }
        for group in source {
            let name = field(&group, "name").unwrap_or_default();
            if !self.same_pending(key, name.as_bytes())? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn same_pending(&mut self, key: &[u8], group: &[u8]) -> Result<bool, String> {
        let count = PIECE.to_string();
        let mut start = b"-".to_vec();
        loop {
            let words = [b"XPENDING", key, group, &start[..], b"+", count.as_bytes()];
            let [source, target] = self.both(&words)?;
            if without_idle(&source) != without_idle(&target) {
                return Ok(false);
            }
            match next_id(&source) {
                Some(id) => start = id,
                None => return Ok(true),
            }
        }
    }
}
