use super::group::{Group, Pending};
use super::*;
use crate::encoding::listpack;
use crate::testing::Random;

type Fields = Vec<(Vec<u8>, Vec<u8>)>;

const LIMIT: BlockLimit = BlockLimit {
    bytes: 400,
    entries: 7,
};

fn add(stream: &mut Stream, id: StreamId, fields: &Fields) -> Result<(), Refused> {
    let fields = fields.iter().map(|(name, value)| (&name[..], &value[..]));
    stream.append(id, fields, LIMIT)
}

fn fields_of(entry: Entry<'_>) -> Fields {
    entry
        .fields()
        .map(|(name, value)| (name.to_vec(), value.to_vec()))
        .collect()
}

fn random_fields(random: &mut Random) -> Fields {
    let names = random.below(3);
    let n = 1 + random.below(4);
    (0..n)
        .map(|at| (format!("{names}-{at}").into_bytes(), random.item(1000)))
        .collect()
}

fn random_id(random: &mut Random) -> StreamId {
    StreamId::new(random.below(300), random.below(3))
}

/// Everything a reader can see agrees with a map of the same entries.
fn check(stream: &Stream, model: &BTreeMap<StreamId, Fields>, random: &mut Random) {
    stream.check_invariants();
    assert_eq!(stream.len(), model.len());
    let (mut from, mut to) = (random_id(random), random_id(random));
    if random.below(2) == 0 {
        (from, to) = (StreamId::MIN, StreamId::MAX);
    }
    let expected: Vec<_> = match from <= to {
        true => model
            .range(from..=to)
            .map(|(id, fields)| (*id, fields.clone()))
            .collect(),
        false => Vec::new(),
    };
    let seen = |entry: Entry<'_>| (entry.id, fields_of(entry));
    assert!(
        stream
            .range(from..=to)
            .map(seen)
            .eq(expected.iter().cloned())
    );
    assert!(
        stream
            .range(from..=to)
            .rev()
            .map(seen)
            .eq(expected.iter().rev().cloned())
    );
    let mut both = stream.range(from..=to);
    let mut left = expected.len();
    while left > 0 {
        let next = if random.below(2) == 0 {
            both.next()
        } else {
            both.next_back()
        };
        assert!(next.is_some());
        left -= 1;
    }
    assert!(both.next().is_none() && both.next_back().is_none());
}

#[test]
fn it_agrees_with_a_map() {
    let mut random = Random(7);
    for _ in 0..20 {
        let (mut stream, mut model) = (Stream::new(), BTreeMap::new());
        for _ in 0..200 {
            step(&mut stream, &mut model, &mut random);
            check(&stream, &model, &mut random);
        }
    }
}

fn step(stream: &mut Stream, model: &mut BTreeMap<StreamId, Fields>, random: &mut Random) {
    match random.below(10) {
        0 => {
            let id = random_id(random);
            assert_eq!(stream.delete(id), model.remove(&id).is_some());
        }
        1 => {
            let known = model
                .keys()
                .nth(random.below(model.len().max(1) as u64) as usize);
            if let Some(id) = known.copied() {
                assert_eq!(stream.get(id).map(|entry| fields_of(entry)), model.remove(&id));
                assert!(stream.delete(id));
            }
        }
        2 => {
            let plan = TrimPlan {
                target: match random.below(2) {
                    0 => TrimTarget::Length(random.below(model.len() as u64 + 2)),
                    _ => TrimTarget::MinId(random_id(random)),
                },
                is_approximate: random.below(2) == 0,
                limit: random.below(3) * 10,
            };
            trim(stream, model, plan, random.below(2) == 0);
        }
        _ => {
            let last = stream.facts().last_id;
            let id = StreamId::new(last.ms + random.below(3), random.below(3));
            let fields = random_fields(random);
            let is_ok = add(stream, id, &fields).is_ok();
            assert_eq!(is_ok, id > last);
            if is_ok {
                model.insert(id, fields);
            }
        }
    }
}

fn trim(
    stream: &mut Stream,
    model: &mut BTreeMap<StreamId, Fields>,
    plan: TrimPlan,
    keeps_odd: bool,
) {
    let keeps = |id: StreamId| keeps_odd && id.ms % 2 == 1;
    let mut judge = |id, _: &mut Groups| {
        if keeps(id) {
            Verdict::Keep
        } else {
            Verdict::Delete
        }
    };
    let before = model.len();
    let removed = stream.trim(plan, keeps_odd.then_some(&mut judge));
    let last_kept = stream
        .range(StreamId::MIN..=StreamId::MAX)
        .map(|entry| entry.id);
    let kept: std::collections::BTreeSet<_> = last_kept.collect();
    let gone: Vec<_> = model
        .keys()
        .filter(|id| !kept.contains(id))
        .copied()
        .collect();
    assert!(gone.iter().all(|id| !keeps(*id)));
    assert_eq!(gone.len() as u64, removed);
    let is_exact = !plan.is_approximate && plan.limit == 0 && !keeps_odd;
    match plan.target {
        TrimTarget::Length(len) => {
            let expected = before.saturating_sub(len as usize);
            assert!(gone.len() <= expected);
            assert!(!is_exact || gone.len() == expected);
        }
        TrimTarget::MinId(min) => {
            assert!(gone.iter().all(|id| *id < min));
            assert!(!is_exact || kept.iter().all(|id| *id >= min));
        }
    }
    if plan.limit > 0 {
        assert!(removed <= plan.limit);
    }
    gone.iter().for_each(|id| {
        model.remove(id);
    });
}

#[test]
fn blocks_are_those_of_the_format_and_load_again() {
    let mut stream = Stream::new();
    let fields = |value: &str| vec![(b"f".to_vec(), value.as_bytes().to_vec())];
    add(&mut stream, StreamId::new(5, 1), &fields("v")).unwrap();
    add(&mut stream, StreamId::new(7, 0), &fields("12")).unwrap();
    add(&mut stream, StreamId::new(7, 1), &vec![(b"g".to_vec(), b"w".to_vec())]).unwrap();
    assert!(stream.delete(StreamId::new(7, 0)));
    let (base, pack) = stream.blocks().next().unwrap();
    let items: Vec<_> = listpack::iter(pack).map(|item| item.to_vec()).collect();
    let items: Vec<_> = items
        .iter()
        .map(|text| std::str::from_utf8(text).unwrap())
        .collect();
    let expected = [
        "2", "1", "1", "f", "0", // the head
        "2", "0", "0", "v", "4", // the first entry, whose fields are the head's
        "3", "2", "-1", "12", "4", // deleted
        "0", "2", "0", "1", "g", "w", "6", // with fields of its own
    ];
    assert_eq!(items, expected);
    let mut copy = Stream::new();
    copy.push_block(base, pack.to_vec()).unwrap();
    copy.restore_facts(stream.facts()).unwrap();
    copy.check_invariants();
    assert!(copy.blocks().eq(stream.blocks()));
    assert_eq!(copy.first_id(), StreamId::new(5, 1));
    assert_eq!(copy.push_block(base, pack.to_vec()), Err(Corrupt { offset: 0 }));
}

#[test]
fn corrupt_blocks_are_refused() {
    let mut random = Random(11);
    let mut stream = Stream::new();
    for n in 1..6 {
        add(&mut stream, StreamId::new(n, 0), &random_fields(&mut random)).unwrap();
    }
    let (base, pack) = stream.blocks().next().unwrap();
    for _ in 0..20_000 {
        let mut bad = pack.to_vec();
        for _ in 0..=random.below(2) {
            let at = random.below(bad.len() as u64) as usize;
            bad[at] = random.next() as u8;
        }
        let mut loaded = Stream::new();
        if loaded.push_block(base, bad).is_ok() {
            let last_id = loaded
                .blocks()
                .flat_map(|(base, pack)| block::Entries::new(base, pack));
            let last_id = last_id.last().map(|entry| entry.id).unwrap();
            let facts = Facts {
                last_id,
                entries_added: 9,
                ..Facts::default()
            };
            loaded.restore_facts(facts).unwrap();
            loaded.check_invariants();
        }
    }
}

#[test]
fn groups_agree_with_a_map() {
    let mut random = Random(3);
    let mut group = Group::new(StreamId::MIN, Some(0));
    let mut model: BTreeMap<StreamId, (Vec<u8>, u64)> = BTreeMap::new();
    for n in 0..5_000 {
        let (id, name) = (random_id(&mut random), vec![b'a' + random.below(5) as u8]);
        match random.below(8) {
            0 => {
                let owned = model
                    .iter()
                    .filter(|(_, (owner, _))| *owner == name)
                    .count();
                let is_known = group.find_consumer(&name).is_some();
                assert_eq!(group.delete_consumer(&name), is_known.then_some(owned));
                model.retain(|_, (owner, _)| *owner != name);
            }
            1..3 => assert_eq!(group.acknowledge(id), model.remove(&id).is_some()),
            _ => {
                let (consumer, _) = group.consumer_or_new(&name, n);
                group.deliver(
                    id,
                    Pending {
                        delivered_ms: n,
                        n_deliveries: 1,
                        consumer: Some(consumer),
                    },
                );
                model.insert(id, (name, n));
            }
        }
        group.check_invariants();
        let seen = group
            .pending(StreamId::MIN..=StreamId::MAX)
            .map(|(id, pending)| {
                let owner = pending.consumer.unwrap();
                let name = group.consumer(owner).name().to_vec();
                (id, (name, pending.delivered_ms))
            });
        assert!(seen.eq(model.iter().map(|(id, owner)| (*id, owner.clone()))));
    }
}

#[test]
fn what_is_given_back_belongs_to_nobody_until_it_is_claimed() {
    let mut group = Group::new(StreamId::MIN, None);
    let id = StreamId::new(1, 1);
    let (a, _) = group.consumer_or_new(b"a", 0);
    let (b, _) = group.consumer_or_new(b"b", 0);
    for (consumer, unowned) in [(Some(a), 0), (None, 1), (None, 1), (Some(b), 0), (None, 1)] {
        let pending = Pending {
            delivered_ms: 0,
            n_deliveries: 1,
            consumer,
        };
        group.deliver(id, pending);
        group.check_invariants();
        assert_eq!(group.unowned().count(), unowned);
    }
    group.delete_consumer(b"a");
    assert_eq!(group.n_pending(), 1);
    assert!(group.acknowledge(id));
    group.check_invariants();
}

#[test]
fn a_group_from_a_file_owns_each_delivery_once() {
    let mut group = Group::new(StreamId::MIN, None);
    let id = StreamId::new(1, 1);
    group
        .restore_consumer(b"a", (5, None), [(id, 7, 2)].into_iter())
        .unwrap();
    assert!(
        group
            .restore_consumer(b"b", (5, None), [(id, 7, 2)].into_iter())
            .is_err()
    );
    assert!(
        group
            .restore_consumer(b"a", (5, None), std::iter::empty())
            .is_err()
    );
    assert_eq!(group.pending_at(id).map(|pending| pending.n_deliveries), Some(2));
}

#[test]
fn lag_follows_the_counters_and_gives_up_behind_gaps() {
    let mut stream = Stream::new();
    let group = Group::new(StreamId::MIN, None);
    assert_eq!(stream.lag(&group), Some(0));
    for n in 1..=5 {
        add(&mut stream, StreamId::new(n, 0), &vec![(b"f".to_vec(), b"v".to_vec())]).unwrap();
    }
    assert_eq!(stream.lag(&group), Some(5));
    let group = Group::new(StreamId::new(3, 0), Some(3));
    assert_eq!(stream.lag(&group), Some(2));
    assert!(stream.delete(StreamId::new(4, 0)));
    assert_eq!(stream.lag(&group), None);
    let group = Group::new(StreamId::new(5, 0), None);
    assert_eq!(stream.lag(&group), Some(0));
}
