//! Keys and values: what each operation returns, and what is there then.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tombolo::collections::{Map, MapError, map};
use tombolo::{Namespace, Shareable};

use crate::support::{Random, TestDir};

#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(C)]
struct Position {
    price: f64,
    volume: u32,
    is_open: bool,
    reserved: [u8; 3],
}

fn position(number: u32) -> Position {
    Position { price: number.into(), volume: number, is_open: number % 2 == 1, reserved: [0; 3] }
}

#[test]
fn map_operation_returns_what_was_there() {
    let map = Map::new(&map::Options::<str, u64>::new()).unwrap();
    assert_eq!((map.get("a"), map.remove("a"), map.contains_key("a")), (Ok(None), Ok(None), Ok(false)));
    assert_eq!((map.insert("a", &1), map.insert("a", &2), map.insert("", &3)), (Ok(true), Ok(false), Ok(true)));
    assert_eq!((map.get("a"), map.get(""), map.get("b"), map.len()), (Ok(Some(2)), Ok(Some(3)), Ok(None), 2));
    assert_eq!((map.replace("a", &4), map.replace("b", &5)), (Ok(Some(2)), Ok(None)));
    assert_eq!((map.remove("a"), map.remove("a"), map.len()), (Ok(Some(4)), Ok(None), 2));
    assert_eq!((map.contains_key("b"), map.is_empty(), map.capacity()), (Ok(true), false, 1024));
    assert_eq!((map.clear(), map.is_empty(), map.get("b")), (Ok(()), true, Ok(None)));
}

#[test]
fn map_update_changes_inserts_and_removes() {
    let map = Map::new(&map::Options::<u32, Position>::new()).unwrap();
    assert_eq!(map.update(&7, |found| found), Ok(None));
    assert_eq!(map.update(&7, |found| found.or(Some(position(1)))), Ok(Some(position(1))));
    let raised = |found: Option<Position>| found.map(|found| Position { price: found.price + 1.0, ..found });
    assert_eq!(map.update(&7, raised).unwrap().unwrap().price, 2.0);
    assert_eq!((map.update(&7, |_| None), map.len()), (Ok(None), 0));
    assert_eq!(map.get_or_insert_with(&8, || position(5)), Ok(position(5)));
    assert_eq!(map.get_or_insert_with(&8, || position(6)), Ok(position(5)));
}

#[test]
fn map_compare_exchange_changes_only_what_is_expected() {
    let map = Map::new(&map::Options::<u8, [u8]>::new()).unwrap();
    let (one, two): (&[u8], &[u8]) = (b"one", b"two");
    assert_eq!(map.compare_exchange(&1, Some(one), Some(two)), Ok(Err(None)));
    assert_eq!(map.compare_exchange(&1, None, None), Ok(Ok(())));
    assert_eq!(map.compare_exchange(&1, None, Some(one)), Ok(Ok(())));
    assert_eq!(map.compare_exchange(&1, None, Some(two)), Ok(Err(Some(one.to_vec()))));
    assert_eq!(map.compare_exchange(&1, Some(one), Some(two)), Ok(Ok(())));
    assert_eq!(map.compare_exchange(&1, Some(one), None), Ok(Err(Some(two.to_vec()))));
    assert_eq!((map.compare_exchange(&1, Some(two), None), map.len()), (Ok(Ok(())), 0));
}

/// Against a map of std, over all that one thread can do.
#[test]
fn map_of_many_operations_equals_map_of_std() {
    let options = map::Options::<[u8], [u8]>::new().entries(map::Entries { count: 300, bytes: 80 });
    let (map, mut expected) = (Map::new(&options).unwrap(), BTreeMap::<Vec<u8>, Vec<u8>>::new());
    let mut random = Random(77);
    let bytes = |random: &mut Random, most: u64| {
        let length = random.below(most);
        (0..length).map(|_| random.below(3) as u8).collect::<Vec<u8>>()
    };
    for _ in 0..20_000 {
        let (key, value) = (bytes(&mut random, 6), bytes(&mut random, 41));
        match random.below(8) {
            0 => assert_eq!(map.remove(&key).unwrap(), expected.remove(&key)),
            1 => assert_eq!(map.get(&key).unwrap().as_ref(), expected.get(&key)),
            2 => {
                let mut buffer = b"before".to_vec();
                let found = map.get_into(&key, &mut buffer).unwrap();
                assert_eq!(found.then_some(&buffer), expected.get(&key));
            }
            3 => {
                let append = |found: Option<Vec<u8>>| {
                    found.map(|mut found| {
                        found.truncate(30);
                        found.push(7);
                        found
                    })
                };
                let updated = map.update(&key, append).unwrap();
                assert_eq!(updated, append(expected.get(&key).cloned()));
                expected.extend(updated.map(|value| (key, value)));
            }
            4 if random.below(200) == 0 => {
                map.clear().unwrap();
                expected.clear();
            }
            _ => match map.replace(&key, &value) {
                Err(MapError::Full) => assert_eq!((expected.len(), expected.get(&key)), (300, None)),
                before => assert_eq!(before.unwrap(), expected.insert(key, value)),
            },
        }
        assert_eq!(map.len(), expected.len());
    }
    let found: BTreeMap<_, _> = map.iter().map(Result::unwrap).collect();
    assert_eq!(found, expected);
    assert_eq!((&map).into_iter().count(), expected.len());
}

/// More threads than a process has intent records.
#[test]
fn map_changed_by_many_threads_loses_no_change() {
    let _watchdog = TestDir::new();
    let map = Map::new(&map::Options::<u8, u64>::new().max_entries(4)).unwrap();
    thread::scope(|scope| {
        for thread in 0..12_u64 {
            let map = map.clone();
            scope.spawn(move || {
                for number in 0..2_000 {
                    map.update(&((thread + number) as u8 % 3), |sum| Some(sum.unwrap_or(0) + 1)).unwrap();
                }
            });
        }
    });
    assert_eq!(map.iter().map(|entry| entry.unwrap().1).sum::<u64>(), 24_000);
}

/// Each step of an iterator is about one bucket, however fast the entries come and go.
#[test]
fn map_iterated_while_everything_changes_ends_and_has_each_key_once() {
    const STABLE: u64 = 20;
    let _watchdog = TestDir::new();
    let map = Map::new(&map::Options::<u64, u64>::new().max_entries(64)).unwrap();
    (0..STABLE).for_each(|key| assert_eq!(map.insert(&key, &0), Ok(true)));
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for thread in 1..4 {
            let (map, is_over) = (&map, &is_over);
            scope.spawn(move || {
                let mut random = Random(thread);
                while !is_over.load(Ordering::Relaxed) {
                    let key = random.below(200);
                    let done = match random.below(2) {
                        _ if key < STABLE => map.insert(&key, &random.next()).map(drop),
                        0 => map.insert(&key, &key).map(drop),
                        _ => map.remove(&key).map(drop),
                    };
                    assert!(matches!(done, Ok(()) | Err(MapError::Full)), "{done:?}");
                }
            });
        }
        let iterating = scope.spawn(|| {
            for _ in 0..200 {
                let keys: Vec<u64> = map.iter().take(64 * 15 + 1).map(|entry| entry.unwrap().0).collect();
                assert!(keys.len() <= 64 * 15, "more than fit into all buckets");
                let once: BTreeSet<u64> = keys.iter().copied().collect();
                assert_eq!((once.len(), once.range(..STABLE).count()), (keys.len(), STABLE as usize));
            }
        });
        let iterated = iterating.join();
        is_over.store(true, Ordering::Relaxed);
        iterated.unwrap();
    });
}

/// A closure can use the map itself, also in all threads at once.
#[test]
fn map_used_in_update_of_itself_both_changes_are_made() {
    let map = Map::new(&map::Options::<u32, u32>::new()).unwrap();
    fn nest(map: &Map<u32, u32>, depth: u32) {
        if depth < 20 {
            // Once: both may be in one bucket, and then the closure is called again.
            let mut is_nested = false;
            map.update(&depth, |_| {
                if !std::mem::replace(&mut is_nested, true) {
                    nest(map, depth + 1);
                }
                Some(depth)
            })
            .unwrap();
        }
    }
    nest(&map, 0);
    assert_eq!(map.len(), 20);
}

/// All keys of this map are in one bucket. So what the closure changes is faster than the update.
#[test]
fn map_changed_in_each_call_of_update_closure_is_refused() {
    let map = Map::new(&map::Options::<u32, u32>::new().max_entries(1)).unwrap();
    let other = Map::new(&map::Options::<u32, u32>::new().max_entries(1)).unwrap();
    let mut calls = 0;
    let updated = map.update(&1, |_| {
        calls += 1;
        map.insert(&1, &calls).unwrap();
        Some(9)
    });
    assert_eq!((updated, calls, map.get(&1)), (Err(MapError::Nested), 2, Ok(Some(2))));
    let text = MapError::Nested.to_string();
    assert!(text.contains("changed the map itself") && text.contains("only read"), "{text}");
    // Also through an update of another map, and a handle of its own.
    let handle = map.clone();
    let updated = map.update(&1, |found| {
        other.update(&1, |_| handle.update(&1, |found| found.map(|found| found + 1)).unwrap()).unwrap();
        found
    });
    assert_eq!((updated, map.get(&1), other.get(&1)), (Err(MapError::Nested), Ok(Some(4)), Ok(Some(4))));
    // Neither a change in the first call only, nor one of another map, nor a look is refused.
    let mut calls = 0;
    let updated = map.update(&1, |_| {
        calls += 1;
        other.insert(&1, &calls).unwrap();
        if calls == 1 { map.remove(&1).unwrap() } else { map.get(&1).unwrap().or(Some(8)) }
    });
    assert_eq!((updated, calls, map.get(&1)), (Ok(Some(8)), 2, Ok(Some(8))));
    // What a closure did that panicked is forgotten.
    let panicked = thread::scope(|scope| scope.spawn(|| map.update(&1, |_| panic!("{:?}", map.insert(&1, &1)))).join());
    assert!(panicked.is_err());
    assert_eq!(map.update(&1, |found| found), Ok(Some(1)));
}

#[test]
fn map_of_another_type_is_refused_in_words() {
    let namespace = Namespace::builder().map("map", &map::Options::<str, u64>::new()).event("event").create().unwrap();
    assert!(namespace.map::<[u8], u64>("map").is_ok(), "text is bytes");
    let errors = [
        namespace.map::<str, i64>("map").unwrap_err(),
        namespace.map::<u64, u64>("map").unwrap_err(),
        namespace.map::<str, str>("map").unwrap_err(),
        namespace.event("map").unwrap_err(),
    ];
    for error in errors {
        let text = error.to_string();
        assert!(text.contains("a map of 1024 from bytes to values of 8 bytes"), "{text}");
    }
    let text = namespace.map::<str, u64>("event").unwrap_err().to_string();
    assert!(text.contains("a map from bytes to values of 8 bytes"), "{text}");
}

#[test]
fn map_key_written_as_bytes_is_no_text() {
    let namespace = Namespace::builder().map("map", &map::Options::<[u8], [u8]>::new()).create().unwrap();
    let (bytes, text) = (namespace.map::<[u8], [u8]>("map").unwrap(), namespace.map::<str, str>("map").unwrap());
    bytes.insert(b"key", b"\xff").unwrap();
    assert_eq!((text.get("key"), text.contains_key("key")), (Err(MapError::InvalidValue), Ok(true)));
    assert_eq!(text.iter().next(), Some(Err(MapError::InvalidValue)));
    assert_eq!(text.insert("key", "value"), Ok(false));
    assert_eq!(bytes.get(b"key"), Ok(Some(b"value".to_vec())));
}

#[test]
fn map_object_of_serde_round_trips() {
    let map = Map::new(&map::Options::<u64, [u8]>::new()).unwrap();
    let value = (1_u8, "text".to_string(), vec![Some(2.5), None]);
    assert_eq!((map.insert_object(&1, &value), map.insert(&2, b"")), (Ok(true), Ok(true)));
    assert_eq!(map.get_object(&1), Ok(Some(value)));
    assert_eq!(map.get_object::<String>(&2), Err(MapError::Deserialize));
    assert_eq!(map.get_object::<String>(&3), Ok(None));
}
