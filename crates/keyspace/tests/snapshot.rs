//! A snapshot of long collections against the state at its cut, while random commands change, rename,
//! overwrite, delete and flush them.

#![allow(clippy::unwrap_used)]

use datatypes::encoding::listpack;
use datatypes::encoding::quicklist::{NodeRef, Side};
use datatypes::encoding::table::Record;
use datatypes::hash::FieldDeadline;
use datatypes::home::{Limits, Piece};
use datatypes::stream::{self, Stream, StreamId};
use datatypes::value::ValueRef;
use keyspace::access::AccessClock;
use keyspace::db::{Db, Departed, Expiry, Terms};
use keyspace::entry::Entry;
use keyspace::keyspace::{Keyspace, Layout};
use keyspace::locked::Locked;
use keyspace::snapshot::{Sink, Walk};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

struct Random(u64);

impl Random {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % n
    }
}

type Bytes = Vec<u8>;

#[derive(Clone, Debug, PartialEq)]
enum Content {
    Text(Bytes),
    List(Vec<Bytes>),
    Set(BTreeMap<Bytes, ()>),
    Hash(BTreeMap<Bytes, Bytes>),
    Zset(BTreeMap<Bytes, f64>),
    /// Entries of one field.
    Stream(BTreeMap<StreamId, Bytes>),
}

impl Content {
    fn is_empty(&self) -> bool {
        match self {
            Content::Text(_) => false,
            Content::List(items) => items.is_empty(),
            Content::Set(members) => members.is_empty(),
            Content::Hash(fields) => fields.is_empty(),
            Content::Zset(members) => members.is_empty(),
            Content::Stream(entries) => entries.is_empty(),
        }
    }

    /// What an entry of this type starts from.
    fn empty_like(entry: &Entry) -> (Content, usize) {
        match ValueRef::new(entry.encoding(), entry.payload()) {
            ValueRef::String(text) => (Content::Text(text.to_vec()), 0),
            ValueRef::List(list) => (Content::List(vec![]), list.len()),
            ValueRef::Set(set) => (Content::Set(BTreeMap::new()), set.len()),
            ValueRef::Hash(hash) => (Content::Hash(BTreeMap::new()), hash.len()),
            ValueRef::Zset(zset) => (Content::Zset(BTreeMap::new()), zset.len()),
            ValueRef::Stream(stream) => (Content::Stream(BTreeMap::new()), stream.len()),
        }
    }

    fn add(&mut self, piece: Piece<'_>) {
        let is_new = match (self, piece) {
            (Content::List(items), Piece::Node(NodeRef::Plain(text))) => {
                items.push(text.to_vec());
                true
            }
            (Content::List(items), Piece::Node(NodeRef::Pack(pack))) => {
                items.extend(listpack::iter(pack).map(|item| item.to_vec()));
                true
            }
            (Content::Set(members), Piece::Member(member)) => {
                members.insert(member.to_vec(), ()).is_none()
            }
            (Content::Hash(fields), Piece::Field(field)) => fields
                .insert(field.field.to_vec(), field.value.to_vec())
                .is_none(),
            (Content::Zset(members), Piece::Scored(member, score)) => {
                members.insert(member.to_vec(), score).is_none()
            }
            (Content::Stream(entries), Piece::Block(base, pack)) => {
                let n_before = entries.len();
                let mut block = Stream::new();
                block.push_block(base, pack.to_vec()).unwrap();
                let block = block.range(StreamId::MIN..=StreamId::MAX);
                let value = |entry: stream::Entry<'_>| entry.fields().next().unwrap().1.to_vec();
                entries.extend(block.map(|entry| (entry.id, value(entry))));
                entries.len() > n_before
            }
            (content, piece) => panic!("{piece:?} in {content:?}"),
        };
        assert!(is_new, "a piece comes once");
    }

    fn of(entry: &Entry) -> Content {
        let (mut content, _) = Content::empty_like(entry);
        match ValueRef::new(entry.encoding(), entry.payload()) {
            ValueRef::String(_) => {}
            ValueRef::List(list) => list
                .iter()
                .for_each(|item| content.add(Piece::Node(NodeRef::Plain(&item.to_vec())))),
            ValueRef::Set(set) => set
                .iter()
                .for_each(|member| content.add(Piece::Member(&member.to_vec()))),
            ValueRef::Hash(hash) => hash
                .iter()
                .for_each(|field| content.add(Piece::Field(field))),
            ValueRef::Zset(zset) => {
                for (member, score) in zset.iter() {
                    content.add(Piece::Scored(&member.to_vec(), score));
                }
            }
            ValueRef::Stream(stream) => {
                let entries = stream.range(StreamId::MIN..=StreamId::MAX);
                let value = |entry: stream::Entry<'_>| entry.fields().next().unwrap().1.to_vec();
                content = Content::Stream(entries.map(|entry| (entry.id, value(entry))).collect());
            }
        }
        content
    }
}

type State = BTreeMap<(u16, Bytes), Content>;

/// A collection on its way: its key, what has come, and how many elements it was to have.
type Open = ((u16, Bytes), Content, usize);

#[derive(Default)]
struct Saved {
    state: Mutex<State>,
    open: Mutex<BTreeMap<u64, Open>>,
    n_begun: Mutex<usize>,
    /// Keys and pieces since the last look.
    n_recent: Mutex<usize>,
    /// The collections that pieces came of, each time another one.
    order: Mutex<Vec<u64>>,
}

impl Saved {
    fn put(&self, key: (u16, Bytes), content: Content) {
        let before = self.state.lock().unwrap().insert(key, content);
        assert!(before.is_none(), "a key is saved once");
    }
}

impl Sink for Saved {
    fn save(&self, database: u16, entry: &Entry) {
        *self.n_recent.lock().unwrap() += 1;
        self.put((database, entry.key().to_vec()), Content::of(entry));
    }

    fn begin(&self, id: u64, database: u16, entry: &Entry) {
        let (content, len) = Content::empty_like(entry);
        let open = ((database, entry.key().to_vec()), content, len);
        assert!(self.open.lock().unwrap().insert(id, open).is_none());
        *self.n_begun.lock().unwrap() += 1;
    }

    fn piece(&self, id: u64, piece: Piece<'_>) {
        *self.n_recent.lock().unwrap() += 1;
        let mut order = self.order.lock().unwrap();
        if order.last() != Some(&id) {
            order.push(id);
        }
        drop(order);
        let mut open = self.open.lock().unwrap();
        open.get_mut(&id).expect("it was begun").1.add(piece);
    }

    fn end(&self, id: u64) {
        let (key, content, len) = self.open.lock().unwrap().remove(&id).unwrap();
        let found = match &content {
            Content::Text(_) => 0,
            Content::List(items) => items.len(),
            Content::Set(members) => members.len(),
            Content::Hash(fields) => fields.len(),
            Content::Zset(members) => members.len(),
            Content::Stream(entries) => entries.len(),
        };
        assert_eq!(found, len, "as many as were announced");
        self.put(key, content);
    }
}

/// Databases, and the model of what they hold.
struct World<'k> {
    keyspace: &'k Keyspace,
    model: State,
    random: Random,
}

const DATABASES: u64 = 2;
const LONG: u64 = 4_000;

impl World<'_> {
    fn element(&mut self) -> Bytes {
        format!("an element of {}", self.random.below(2 * LONG)).into_bytes()
    }

    /// One random command, here and in the model.
    fn change(&mut self) {
        let database = self.random.below(DATABASES) as u16;
        let key = format!("key:{}", self.random.below(24)).into_bytes();
        let n = match self.random.below(40) {
            0 => LONG,
            _ => 1 + self.random.below(3),
        };
        let elements: Vec<Bytes> = (0..n).map(|_| self.element()).collect();
        let what = self.random.below(1_000);
        let pick = self.random.below(1 << 40);
        let (limits, departed) = (Limits::default(), RefCell::<Vec<Departed>>::default());
        let clock = AccessClock::default();
        let locked = Locked::transaction(self.keyspace, Duration::ZERO).unwrap();
        let terms = Terms {
            now_ms: 1,
            trace: clock.leaving(),
            limits: &limits,
            keeps_due: false,
            departed: &departed,
        };
        let mut db = Db::new(&locked, database, terms);
        let at = (database, key.clone());
        match what {
            0 => {
                db.clear();
                self.model.retain(|(other, _), _| *other != database);
            }
            1..=10 => assert_eq!(db.remove(&key), self.model.remove(&at).is_some()),
            11..=20 => {
                db.set_string(&key, b"text", Expiry::Clear);
                self.model.insert(at, Content::Text(b"text".to_vec()));
            }
            21..=23 => {
                db.swap(1 - database);
                let model = std::mem::take(&mut self.model);
                self.model = model
                    .into_iter()
                    .map(|((at, key), content)| ((1 - at, key), content))
                    .collect();
            }
            24 => {
                let other = self.keyspace.sibling();
                let by = Locked::transaction(&other, Duration::ZERO).unwrap();
                self.model.clear();
                for n in 0..pick % 50 {
                    let (key, number) = (format!("key:{n}").into_bytes(), (n % DATABASES) as u16);
                    Db::new(&by, number, terms).set_string(&key, b"other", Expiry::Clear);
                    let content = Content::Text(b"other".to_vec());
                    self.model.insert((number, key), content);
                }
                assert!(Db::replace_all(&locked, &by, terms), "it marks as this one does");
            }
            25..=80 => {
                let to = (pick % DATABASES) as u16;
                let target = format!("key:{}", pick % 24).into_bytes();
                if let Some(entry) = db.take(&key) {
                    db.other(to, |db| db.put_entry(&target, entry));
                    let content = self.model.remove(&at).unwrap();
                    self.model.insert((to, target), content);
                }
            }
            _ => edit(&mut db, &mut self.model, at, &elements, pick),
        }
    }
}

fn edit_stream(
    db: &mut Db<'_>,
    key: &[u8],
    entries: &mut BTreeMap<StreamId, Bytes>,
    elements: &[Bytes],
    adds: bool,
) {
    let limit = db.limits().stream_block;
    let mut stream = db.stream_or_new(key).unwrap();
    for element in elements {
        let last = stream.facts().last_id;
        let id = last.next().unwrap();
        if adds || entries.is_empty() {
            let field = [(&b"f"[..], &element[..])];
            stream.append(id, field.into_iter(), limit).unwrap();
            entries.insert(id, element.clone());
        } else {
            let (first, _) = entries.pop_first().unwrap();
            assert!(stream.delete(first));
        }
    }
}

/// Adds to or removes from the collection at a key, or starts one.
fn edit(db: &mut Db<'_>, model: &mut State, at: (u16, Bytes), elements: &[Bytes], pick: u64) {
    let key = at.1.clone();
    let adds = !pick.is_multiple_of(3);
    let content = model.entry(at.clone()).or_insert_with(|| match pick % 5 {
        0 => Content::List(vec![]),
        1 => Content::Set(BTreeMap::new()),
        2 => Content::Hash(BTreeMap::new()),
        3 => Content::Zset(BTreeMap::new()),
        _ => Content::Stream(BTreeMap::new()),
    });
    match content {
        Content::Text(_) | Content::Stream(_) => {}
        Content::List(items) => {
            let mut list = db.list_or_new(&key).unwrap();
            let len = items.len() as u64;
            match pick % 7 {
                _ if len == 0 || elements.len() > 100 => {
                    list.push(Side::Tail, elements.iter().map(|item| &item[..]));
                    items.extend_from_slice(elements);
                }
                0 | 1 => {
                    list.push(Side::Head, std::iter::once(&elements[0][..]));
                    items.insert(0, elements[0].clone());
                }
                2 | 3 => {
                    let index = (pick >> 8) % len;
                    list.set(index as i64, &elements[0]);
                    items[index as usize] = elements[0].clone();
                }
                4 => {
                    list.pop(Side::Head, 1, &mut |_| {});
                    items.remove(0);
                }
                5 => {
                    list.remove(&elements[0], 0);
                    items.retain(|item| *item != elements[0]);
                }
                _ => {
                    let start = ((pick >> 8) % len) as usize / 8;
                    list.trim(start..len as usize);
                    items.drain(..start);
                }
            }
        }
        Content::Set(members) => {
            let mut set = db.set_or_new(&key, b"x", elements.len()).unwrap();
            for element in elements {
                if adds {
                    assert_eq!(set.add(element), members.insert(element.clone(), ()).is_none());
                } else {
                    assert_eq!(set.remove(element), members.remove(element).is_some());
                }
            }
        }
        Content::Hash(fields) => {
            let mut hash = db.hash_or_new(&key).unwrap();
            for element in elements {
                if adds {
                    let value = pick.to_string().into_bytes();
                    hash.set(element, &value, FieldDeadline::Clear);
                    fields.insert(element.clone(), value);
                } else {
                    assert_eq!(hash.remove(element), fields.remove(element).is_some());
                }
            }
        }
        Content::Zset(members) => {
            let mut zset = db.zset_or_new(&key).unwrap();
            if !adds && pick.is_multiple_of(5) {
                zset.remove_ranks(0..3, &mut |member, _| {
                    members.remove(member);
                });
            }
            for element in elements {
                if adds {
                    zset.set_score(element, (pick % 1000) as f64);
                    members.insert(element.clone(), (pick % 1000) as f64);
                } else {
                    assert_eq!(zset.remove(element).is_some(), members.remove(element).is_some());
                }
            }
        }
    }
    if let Content::Stream(entries) = content {
        edit_stream(db, &key, entries, elements, adds);
    }
    if content.is_empty() {
        db.remove(&key);
        model.remove(&at);
    }
}

#[test]
fn long_collections_are_saved_as_they_were_at_the_cut() {
    let keyspace = Keyspace::new(Layout {
        n_databases: DATABASES as u16,
        n_shards: 4,
        n_groups: 1,
    });
    let mut world = World {
        keyspace: &keyspace,
        model: State::new(),
        random: Random(3),
    };
    let mut n_begun = 0;
    for round in 0..60 {
        (0..150).for_each(|_| world.change());
        let (sink, at_cut) = (Arc::new(Saved::default()), world.model.clone());
        let locked = Locked::transaction(&keyspace, Duration::ZERO).unwrap();
        let mut walk = Walk::cut(&locked, sink.clone()).expect("no other walk is under way");
        drop(locked);
        let is_aborted = round % 5 == 4;
        while walk.step() {
            (0..world.random.below(6)).for_each(|_| world.change());
            if is_aborted {
                walk.abort();
            }
        }
        n_begun += *sink.n_begun.lock().unwrap();
        if !is_aborted {
            assert!(sink.open.lock().unwrap().is_empty(), "what was begun was ended");
            let saved = sink.state.lock().unwrap();
            for (key, content) in &at_cut {
                assert_eq!(saved.get(key), Some(content), "round {round}, {key:?}");
            }
            assert_eq!(saved.len(), at_cut.len(), "round {round}");
        }
    }
    assert!(n_begun > 100, "only {n_begun} collections were long");
}

/// For what is done to entries in tests that are about none of their own affairs.
fn with_terms<T>(work: impl FnOnce(Terms<'_>) -> T) -> T {
    let (limits, departed) = (Limits::default(), RefCell::<Vec<Departed>>::default());
    let clock = AccessClock::default();
    work(Terms {
        now_ms: 1,
        trace: clock.leaving(),
        limits: &limits,
        keeps_due: false,
        departed: &departed,
    })
}

/// Changes database 0.
fn with_db(keyspace: &Keyspace, work: impl FnOnce(&mut Db<'_>)) {
    let locked = Locked::transaction(keyspace, Duration::ZERO).unwrap();
    with_terms(|terms| work(&mut Db::new(&locked, 0, terms)));
}

fn one_shard() -> Keyspace {
    Keyspace::new(Layout {
        n_databases: 1,
        n_shards: 1,
        n_groups: 1,
    })
}

fn add_set(keyspace: &Keyspace, key: &[u8]) {
    with_db(keyspace, |db| {
        let mut set = db.set_or_new(key, b"x", LONG as usize).unwrap();
        for n in 0..LONG {
            set.add(format!("a long member of a set, number {n}").as_bytes());
        }
    });
}

fn cut(keyspace: &Keyspace) -> (Arc<Saved>, Walk<'_>) {
    let sink = Arc::new(Saved::default());
    let locked = Locked::transaction(keyspace, Duration::ZERO).unwrap();
    (sink.clone(), Walk::cut(&locked, sink).unwrap())
}

#[test]
fn a_flushed_table_is_saved_in_slices() {
    let keyspace = one_shard();
    with_db(&keyspace, |db| {
        (0..5_000).for_each(|n| {
            db.set_string(format!("key:{n}").as_bytes(), b"text", Expiry::Clear);
        });
    });
    add_set(&keyspace, b"set");
    let (sink, mut walk) = cut(&keyspace);
    with_db(&keyspace, |db| {
        db.clear();
    });
    while walk.step() {
        let n = std::mem::take(&mut *sink.n_recent.lock().unwrap());
        assert!(n < 600, "{n} in one step");
    }
    let saved = sink.state.lock().unwrap();
    assert_eq!(saved.len(), 5_001);
    assert!(matches!(&saved[&(0, b"set".to_vec())], Content::Set(set) if set.len() == 4_000));
}

#[test]
fn a_data_set_from_before_a_cut_waits_for_the_end_of_its_walk() {
    let keyspace = one_shard();
    let set = |db: &mut Db<'_>, key: &[u8]| {
        db.set_string(key, b"text", Expiry::Clear);
    };
    with_db(&keyspace, |db| set(db, b"old"));
    let other = keyspace.sibling();
    with_db(&other, |db| set(db, b"new"));
    let replace = || {
        let locked = Locked::transaction(&keyspace, Duration::ZERO).unwrap();
        let by = Locked::transaction(&other, Duration::ZERO).unwrap();
        with_terms(|terms| Db::replace_all(&locked, &by, terms))
    };
    let names = |saved: &Saved| -> Vec<Bytes> {
        let state = saved.state.lock().unwrap();
        state.keys().map(|(_, key)| key.clone()).collect()
    };
    let (sink, mut walk) = cut(&keyspace);
    assert!(!replace());
    while walk.step() {}
    assert_eq!(names(&sink), [b"old"]);
    assert!(replace());
    let (sink, mut walk) = cut(&keyspace);
    with_db(&keyspace, |db| set(db, b"new"));
    while walk.step() {}
    assert_eq!(names(&sink), [b"new"]);
    assert_eq!((keyspace.len(0), other.len(0)), (1, 0));
}

#[test]
fn a_long_collection_is_whole_before_the_next_is_walked() {
    let keyspace = one_shard();
    let keys: [&[u8]; 4] = [b"a", b"b", b"c", b"d"];
    keys.iter().for_each(|key| add_set(&keyspace, key));
    let (sink, mut walk) = cut(&keyspace);
    let mut others = keys.iter().cycle();
    while walk.step() {
        // Somebody begins or deletes another one at each step.
        with_db(&keyspace, |db| {
            db.remove(others.next().unwrap());
        });
    }
    assert_eq!(sink.state.lock().unwrap().len(), keys.len());
    let order = sink.order.lock().unwrap();
    assert_eq!(order.len(), keys.len(), "each in one run: {order:?}");
}
