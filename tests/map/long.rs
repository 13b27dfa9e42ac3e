//! Values in memory of their own: it is there while the value is, whoever is killed on the way.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::Duration;

use tombolo::collections::map::{Entries, Options};
use tombolo::collections::{Map, MapError};
use tombolo::{Directory, ErrorKind, Namespace, NamespaceBuilder, Shareable};

use crate::support::{
    Process, Random, SharedCounters, TestDir, alone, fork, message, number_of, start, stress_factor, stress_random,
    until,
};

const NAME: &str = "map";
const LIMIT: usize = 1 << 20;
const PAGE: usize = 4096;

fn texts(count: usize) -> Options<[u8], [u8]> {
    Options::new().entries(Entries { count, bytes: LIMIT })
}

/// Bytes of memory that the file has.
fn memory(names: &Path) -> usize {
    fs::metadata(names.join(NAME)).unwrap().blocks() as usize * 512
}

#[test]
fn map_long_value_of_any_length_up_to_the_limit_is_kept() {
    let map = Map::new(&texts(3)).unwrap();
    for length in [0, 1, 7, 8, 9, 240, PAGE - 1, PAGE, PAGE + 1, 16 << 10, 70_000, LIMIT - 1, LIMIT] {
        let value = message(length as u64, length);
        assert!(map.insert(b"key", &value).is_ok());
        assert_eq!(map.get(b"key"), Ok(Some(value.clone())), "{length}");
        assert_eq!(map.replace(b"key", &value), Ok(Some(value.clone())), "{length}");
        let mut found = vec![1; 3];
        assert_eq!((map.get_into(b"key", &mut found), found.len()), (Ok(true), length));
        assert_eq!((found, map.iter().count()), (value, 1));
    }
    let limit = LIMIT + 8;
    let error = map.insert(b"key", &[2; LIMIT + 1]).unwrap_err();
    assert_eq!(error, MapError::TooLong { length: limit + 8, limit });
    assert_eq!(map.get(b"key").unwrap().unwrap().len(), LIMIT);
}

#[test]
fn map_key_beside_a_long_value_beyond_the_limit_is_refused_with_both_numbers() {
    let map = Map::new(&texts(3)).unwrap();
    assert_eq!(map.insert(&[1; 240], &[2; 50_000]), Ok(true));
    assert_eq!(map.insert(&[1; 241], b""), Err(MapError::TooLong { length: 248, limit: 240 }));
    let map = Map::new(&texts(3).max_key_bytes(2000)).unwrap();
    assert_eq!(map.insert(&[1; 2000], &[2; LIMIT]), Ok(true));
    assert_eq!(map.get(&[1; 2000]).unwrap().unwrap().len(), LIMIT);
    assert_eq!(map.insert(&[1; 2001], b""), Err(MapError::TooLong { length: 2008, limit: 2000 }));
}

#[test]
fn map_long_values_have_memory_only_while_they_are_there() {
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let namespace = Namespace::builder().map("map", &texts(1000)).directory(&names).open(NAME).unwrap();
    let map = namespace.map::<[u8], [u8]>("map").unwrap();
    let empty = memory(&names);
    assert!(empty < 4 << 20, "{empty}");
    let used = || memory(&names) - empty;
    for number in 0..20_u64 {
        map.insert(&number.to_le_bytes(), &message(number, LIMIT)).unwrap();
    }
    assert_eq!(used(), 20 * LIMIT);
    // A shorter value has less.
    for number in 0..10_u64 {
        map.insert(&number.to_le_bytes(), &message(number, PAGE)).unwrap();
    }
    assert_eq!(used(), 10 * LIMIT + 10 * PAGE);
    for number in 0..15_u64 {
        let removed = map.remove(&number.to_le_bytes()).unwrap().unwrap();
        assert_eq!(number_of(&removed), number);
    }
    assert_eq!(used(), 5 * LIMIT);
    let state = Directory::at(&names).inspect(NAME).unwrap().objects.remove(0).state;
    assert!(state.ends_with(&format!("; {} bytes of long values", 5 * LIMIT)), "{state}");
    map.clear().unwrap();
    assert_eq!(used(), 0);
}

/// What cannot be inserted leaves no memory behind.
#[test]
fn map_of_long_entries_full_refuses_new_keys_and_keeps_no_memory_for_them() {
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let namespace = Namespace::builder().map("map", &texts(5)).directory(&names).open(NAME).unwrap();
    let map = namespace.map::<[u8], [u8]>("map").unwrap();
    let empty = memory(&names);
    for round in 0..4 {
        (0..5).for_each(|key| assert!(map.insert(&[key], &message(round, LIMIT)).is_ok()));
        assert_eq!(map.insert(b"another", &message(round, LIMIT)), Err(MapError::Full));
        assert_eq!(memory(&names) - empty, 5 * LIMIT);
        for key in 0..5 {
            assert_eq!(map.insert(&[key], &message(round + 1, 2 * PAGE)), Ok(false));
            assert_eq!(number_of(&map.get(&[key]).unwrap().unwrap()), round + 1);
        }
        assert_eq!(memory(&names) - empty, 10 * PAGE);
    }
}

/// Maps of one namespace do not share their extents, and short values stay in blocks.
#[test]
fn map_beside_others_long_values_are_its_own() {
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let mixed = texts(2).entries(Entries { count: 2, bytes: 100 });
    let plan = || {
        Namespace::builder()
            .map("one", &texts(2))
            .value("value", 7_u64)
            .map("two", &mixed)
            .map("three", &texts(2))
            .directory(&names)
    };
    let namespace = plan().open(NAME).unwrap();
    let objects = ["one", "two", "three"].map(|name| namespace.map::<[u8], [u8]>(name).unwrap());
    for (map, number) in objects.iter().zip(1..) {
        for key in 0..2 {
            map.insert(&[key], &message(number * 10 + u64::from(key), LIMIT - 9)).unwrap();
        }
    }
    objects[1].insert(b"short", b"value").unwrap();
    // Opened again, from what the file says.
    let again = plan().must_exist().open(NAME).unwrap();
    for (name, number) in ["one", "two", "three"].iter().zip(1..) {
        let map = again.map::<[u8], [u8]>(name).unwrap();
        for key in 0..2 {
            assert_eq!(map.get(&[key]).unwrap(), Some(message(number * 10 + u64::from(key), LIMIT - 9)));
        }
    }
    assert_eq!(objects[1].get(b"short"), Ok(Some(b"value".to_vec())));
    assert_eq!(again.value::<u64>("value").unwrap().load(), Ok(7));
}

#[derive(Clone, Copy, Debug, PartialEq, Shareable)]
#[repr(C)]
struct Frame {
    number: u64,
    is_last: bool,
    unused: [u8; 7],
    pixels: [[u8; 320]; 240],
}

#[test]
fn map_of_large_values_of_a_type_returns_them() {
    // Without optimisation each call has copies of its own.
    let thread = thread::Builder::new().stack_size(32 << 20).spawn(use_frames).unwrap();
    thread.join().unwrap();
}

fn use_frames() {
    let map = Map::new(&Options::<u64, Frame>::new().max_entries(3)).unwrap();
    let frame = Frame { number: 1, is_last: true, unused: [0; 7], pixels: [[9; 320]; 240] };
    assert_eq!(map.insert(&1, &frame), Ok(true));
    assert_eq!(map.get(&1), Ok(Some(frame)));
    let changed = map.update(&1, |found| found.map(|found| Frame { number: found.number + 1, ..found }));
    assert_eq!(changed.unwrap().map(|frame| frame.number), Some(2));
    assert_eq!(map.get(&2), Ok(None));
}

#[test]
fn map_of_more_long_values_than_a_region_can_have_is_refused() {
    let error = Map::new(&Options::<u64, [u8]>::new().entries(Entries { count: 1 << 23, bytes: 1 << 30 })).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    assert!(Map::new(&Options::<u64, [u8]>::new().entries(Entries { count: 1, bytes: 1 << 40 })).is_err());
}

/// A fork needs a process without other tests.
#[test]
fn map_long_value_in_forked_child_is_refused() {
    let _watchdog = TestDir::new();
    start("read_long_value_in_forked_child", &[]).finish();
}

pub fn read_long_value_in_forked_child(_: &[String]) {
    let map = Map::new(&texts(3)).unwrap();
    map.insert(b"a", &[1; 50_000]).unwrap();
    let child = fork(&alone(), || {
        assert_eq!((map.get(b"a"), map.get(b"b")), (Err(MapError::Forked), Ok(None)));
        assert_eq!(map.contains_key(b"a"), Ok(true));
    });
    child.finish();
    assert_eq!(map.get(b"a"), Ok(Some(vec![1; 50_000])));
}

const KEYS: u64 = 12;
const CAPACITY: usize = 8;

fn plan(names: &Path) -> NamespaceBuilder {
    let options = Options::<u64, [u8]>::new()
        .entries(Entries { count: 2, bytes: 100 })
        .entries(Entries { count: CAPACITY - 2, bytes: 200_000 });
    Namespace::builder().map("map", &options).max_participants(8).directory(names)
}

/// Changes entries at random, and checks each that it sees.
fn change(map: &Map<u64, [u8]>, random: &mut Random) {
    let key = random.below(KEYS);
    let lengths = [24, 60, 3000, 20_000, 100_000, 199_999];
    let new = message(random.next(), lengths[random.below(6) as usize]);
    let check = |found: Option<Vec<u8>>| _ = found.map(|found| number_of(&found));
    let done = match random.below(8) {
        0..=3 => map.insert(&key, &new).map(drop),
        4..=5 => map.remove(&key).map(check),
        6 if random.below(20) == 0 => map.clear(),
        _ => map.get(&key).map(check),
    };
    assert!(matches!(done, Ok(()) | Err(MapError::Full)), "{done:?}");
}

pub fn change_long_values_until_killed(arguments: &[String]) {
    let namespace = plan(Path::new(&arguments[0])).must_exist().open(NAME).unwrap();
    let counters = SharedCounters::at(Path::new(&arguments[1]));
    let seed: u64 = arguments[2].parse().unwrap();
    counters.word(0).fetch_add(1, Ordering::SeqCst);
    thread::scope(|scope| {
        for thread in 0..2 {
            let namespace = &namespace;
            scope.spawn(move || {
                let (map, mut random) = (namespace.map("map").unwrap(), Random(seed * 2 + thread + 1));
                loop {
                    change(&map, &mut random);
                }
            });
        }
    });
}

#[test]
fn map_writers_of_long_values_killed_at_random_values_are_whole_and_memory_is_given_back() {
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let namespace = plan(&names).open(NAME).unwrap();
    let map = namespace.map::<u64, [u8]>("map").unwrap();
    let empty = memory(&names);
    let path = test_dir.file("counters");
    let counters = SharedCounters::at(&path);
    let mut random = stress_random(5);
    let mut started = 0;
    let mut begin = || -> Process {
        started += 1;
        let arguments = [names.to_str().unwrap(), path.to_str().unwrap(), &started.to_string()];
        let child = start("change_long_values_until_killed", &arguments);
        until(|| counters.word(0).load(Ordering::SeqCst) == started);
        child
    };
    let mut children = vec![begin(), begin()];
    for _ in 0..15 * stress_factor() {
        for _ in 0..random.below(300) {
            change(&map, &mut random);
        }
        thread::sleep(Duration::from_micros(random.below(3000)));
        children.remove(0).kill();
        children.push(begin());
    }
    children.drain(..).for_each(Process::kill);
    Directory::at(&names).repair(NAME).unwrap();
    let entries: Vec<_> = map.iter().map(Result::unwrap).collect();
    let long = entries.iter().filter(|(_, value)| value.len() > 100);
    let expected: usize = long.map(|(_, value)| value.len().next_multiple_of(PAGE)).sum();
    let short = entries.iter().filter(|(_, value)| value.len() <= 100).count();
    let used = memory(&names) - empty;
    // A short value may be where long ones are.
    assert!((expected..=expected + short * PAGE).contains(&used), "{used} of {expected}, {short} short ones");
    map.clear().unwrap();
    assert_eq!(memory(&names), empty);
    // All places can be used.
    let inserted = (0..200).filter(|key| map.insert(key, &message(*key, 24)) == Ok(true)).count();
    assert_eq!(inserted, CAPACITY);
    map.clear().unwrap();
    assert_eq!(memory(&names), empty);
}
