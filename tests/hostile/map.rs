//! Hostile peers of a map: any of its words has any value at any time.

use std::fs::{self, File};
use std::path::Path;
use std::time::Duration;

use tombolo::collections::{Map, MapError, map};
use tombolo::{Directory, Namespace};

use crate::support::{Random, TestDir};
use crate::{Intruder, NAME, soon, under_attack};

/// First word of the map in a namespace of one object and two participants.
const MAP: usize = 64 + 2 * 16 + 16;
/// From the map's beginning on.
const HEADS: usize = 32;
const EVENTS: usize = HEADS + 16;
const OWNERS: usize = EVENTS + 4 * 16;
const INTENTS: usize = OWNERS + 16;
const BLOCKS: usize = INTENTS + 2 * 8 * 48;
const BLOCK_WORDS: usize = 16;

type Bytes = Map<[u8], [u8]>;

/// Four buckets, four entries and four spare blocks.
fn open(names: &Path) -> (Namespace, Bytes) {
    let options = map::Options::<[u8], [u8]>::new().entries(map::Entries { count: 4, bytes: 14 * 8 });
    let plan = Namespace::builder().max_participants(2).map("map", &options).directory(names);
    let namespace = plan.open(NAME).unwrap();
    let map = namespace.map("map").unwrap();
    (namespace, map)
}

fn keys() -> impl Iterator<Item = [u8; 1]> {
    (0..6).map(|key| [key])
}

/// The same with values of up to 70,000 bytes in extents, and keys of up to 112 bytes.
mod long {
    use super::*;

    pub const LIMIT: usize = 70_000;
    pub const EVENTS: usize = HEADS + 32;
    pub const OWNERS: usize = EVENTS + 32 * 16;
    pub const BLOCKS: usize = OWNERS + 16 + 2 * 8 * 48;

    pub fn open(names: &Path) -> (Namespace, Bytes) {
        let entries = map::Entries { count: 4, bytes: LIMIT };
        let options = map::Options::<[u8], [u8]>::new().entries(entries).max_key_bytes(112);
        let plan = Namespace::builder().max_participants(2).map("map", &options).directory(names);
        let namespace = plan.open(NAME).unwrap();
        let map = namespace.map("map").unwrap();
        (namespace, map)
    }
}

/// Every operation ends, and none panics.
fn use_map(map: &Bytes, longest: usize, random: &mut Random) {
    let key = [random.below(6) as u8];
    let value = vec![7; random.below(longest as u64) as usize];
    soon(|| match random.below(10) {
        0 => drop(map.get(&key)),
        1 => drop(map.remove(&key)),
        2 => drop(map.update(&key, |found| found.or(Some(vec![1])))),
        3 => drop(map.clear()),
        4 => drop(map.iter().map(|entry| entry.map(|_| ())).collect::<Vec<_>>()),
        5 => drop((map.len(), map.contains_key(&key))),
        6 => drop(map.wait_for(&key, Duration::from_millis(1))),
        7 => drop(map.snapshot()),
        8 => drop(map.watch(&key).next_timeout(Duration::from_millis(1))),
        _ => drop(map.insert(&key, &value)),
    });
}

#[test]
fn map_chain_invalid_returns_corrupt() {
    let test_dir = TestDir::new();
    let (_namespace, map) = open(&test_dir.names());
    let intruder = Intruder::at(&test_dir.names().join(NAME));
    let all = |expected: MapError| {
        for key in keys() {
            assert_eq!(map.get(&key), Err(expected));
            assert_eq!((map.insert(&key, b"1"), map.remove(&key)), (Err(expected), Err(expected)));
        }
        assert_eq!((map.clear(), map.iter().count()), (Err(expected), 4));
    };
    let set_heads = |head: u64| (0..4).for_each(|bucket| intruder.set(MAP + HEADS + bucket, head));
    // No such block.
    set_heads(1 << 24 | 8);
    all(MapError::Corrupt);
    // A key, and a value, that do not fit.
    set_heads(1 << 24);
    intruder.set(MAP + BLOCKS, (14 * 8 + 1) << 24);
    all(MapError::Corrupt);
    intruder.set(MAP + BLOCKS, 0);
    intruder.set(MAP + BLOCKS + 1, u64::MAX);
    all(MapError::Corrupt);
    // A block that follows itself: as many entries as the head says.
    intruder.set(MAP + BLOCKS, 0);
    intruder.set(MAP + BLOCKS + 1, 0);
    set_heads(15 << 24);
    assert_eq!((map.len(), map.iter().count(), map.get(&[1])), (60, 60, Ok(None)));
    assert_eq!(map.insert(&[1], b""), Err(MapError::Full));
    // No entries, though all blocks seem to be taken.
    set_heads(0);
    (0..8).for_each(|block| intruder.set(MAP + OWNERS + block, 3));
    assert_eq!(map.insert(&[1], b""), Err(MapError::Full));
}

/// Intents of a dead process that name what others use, and what does not exist.
#[test]
fn map_intents_invalid_repair_frees_nothing_that_is_linked() {
    let test_dir = TestDir::new();
    let (_namespace, map) = open(&test_dir.names());
    let intruder = Intruder::at(&test_dir.names().join(NAME));
    keys().take(4).for_each(|key| assert_eq!(map.insert(&key, &key), Ok(true)));
    let record = MAP + INTENTS + 8 * 48;
    for (at, value) in [(0, u64::MAX), (32, u64::MAX), (33, 9), (34, 1 << 40)] {
        intruder.set(record + at, value);
    }
    for block in 0..8 {
        intruder.set(record + 1 + 2 * block, block as u64);
        intruder.set(record + 2 + 2 * block, intruder.get(MAP + OWNERS + block));
        intruder.set(record + 35 + block, block as u64 + 1);
    }
    // A participant that is not there any more.
    intruder.set(64 + 16 + 3, 1);
    assert_eq!(Directory::at(test_dir.names()).repair(NAME).unwrap(), 1);
    keys().take(4).for_each(|key| assert_eq!(map.get(&key), Ok(Some(key.to_vec()))));
    keys().take(4).for_each(|key| assert_eq!(map.remove(&key), Ok(Some(key.to_vec()))));
}

#[test]
fn map_header_changed_next_open_is_refused() {
    let test_dir = TestDir::new();
    let (_namespace, _map) = open(&test_dir.names());
    let intruder = Intruder::at(&test_dir.names().join(NAME));
    let refused = || Namespace::builder().directory(test_dir.names()).must_exist().open(NAME).is_err();
    // The alignment of keys and values without a size can be any.
    for word in (1..HEADS).filter(|word| ![2, 5].contains(word)) {
        let before = intruder.get(MAP + word);
        for value in [before + 1, before ^ 1 << 63, u64::MAX] {
            intruder.set(MAP + word, value);
            assert!(refused(), "word {word}: {value:#x}");
        }
        intruder.set(MAP + word, before);
    }
    assert!(!refused());
}

pub fn corrupt_map(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let mut random = Random(arguments[1].parse().unwrap());
    loop {
        let at = MAP + HEADS + random.below((BLOCKS - HEADS + 8 * BLOCK_WORDS) as u64) as usize;
        let small = random.below(9);
        let value = match random.below(5) {
            0 => random.next(),
            1 => small << 24 | small,
            2 => small,
            3 => 0xFFFF,
            _ => intruder.get(at) ^ 1 << random.below(64),
        };
        // Event words are of 32 bits.
        if !(MAP + EVENTS..MAP + OWNERS).contains(&at) {
            intruder.set(at, value);
        }
    }
}

#[test]
fn map_corrupted_constantly_calls_return() {
    under_attack("corrupt_map", |test_dir| open(&test_dir.names()), |(_, map), random| use_map(map, 120, random));
}

#[test]
fn map_long_value_invalid_returns_corrupt() {
    let test_dir = TestDir::new();
    let (_namespace, map) = long::open(&test_dir.names());
    let path = test_dir.names().join(NAME);
    let intruder = Intruder::at(&path);
    assert_eq!(map.insert(b"a", &[1; 50]), Ok(true));
    let sizes = MAP + long::BLOCKS + 1;
    let hash = intruder.get(sizes) as u32;
    let set_length = |length: usize| intruder.set(sizes, u64::from(hash) | (length as u64) << 32);
    // Longer than what was written: there is nothing.
    set_length(long::LIMIT);
    let found = map.get(b"a").unwrap().unwrap();
    assert!(found.len() == long::LIMIT && found[..50] == [1; 50] && found[50..].iter().all(|&byte| byte == 0));
    for length in [long::LIMIT + 1, 1 << 20, u32::MAX as usize] {
        set_length(length);
        let refused = MapError::Corrupt;
        assert_eq!((map.get(b"a"), map.insert(b"a", b"")), (Err(refused), Err(refused)), "{length}");
        assert_eq!((map.remove(b"a"), map.clear()), (Err(refused), Err(refused)), "{length}");
    }
    set_length(50);
    assert_eq!(map.get(b"a"), Ok(Some(vec![1; 50])));
    // Truncated: the extents are gone.
    let mapped = fs::metadata(&path).unwrap().len() - 8 * 73_728;
    drop(intruder);
    File::options().write(true).open(&path).unwrap().set_len(mapped).unwrap();
    assert_eq!(map.get(b"a"), Err(MapError::Corrupt));
    assert_eq!((map.insert(b"a", &[2; 60]), map.get(b"a")), (Ok(false), Ok(Some(vec![2; 60]))));
}

#[test]
fn map_of_long_values_header_changed_next_open_is_refused() {
    let test_dir = TestDir::new();
    let (_namespace, _map) = long::open(&test_dir.names());
    let intruder = Intruder::at(&test_dir.names().join(NAME));
    let refused = || Namespace::builder().directory(test_dir.names()).must_exist().open(NAME).is_err();
    // The bytes of all extents are in the header of the namespace.
    for word in [15].into_iter().chain((MAP + 7)..(MAP + HEADS)) {
        let before = intruder.get(word);
        for value in [before + 1, before + 8, before + 4096, before ^ 1 << 63, 0, u64::MAX] {
            // A limit that takes as many pages is another valid one.
            let is_valid = word == MAP + 16 && value.div_ceil(4096) == before.div_ceil(4096);
            if value != before && !is_valid {
                intruder.set(word, value);
                assert!(refused(), "word {word}: {value:#x}");
            }
        }
        intruder.set(word, before);
    }
    assert!(!refused());
}

pub fn corrupt_long_map(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let mut random = Random(arguments[1].parse().unwrap());
    loop {
        let at = MAP + HEADS + random.below((long::BLOCKS - HEADS + 8 * BLOCK_WORDS) as u64) as usize;
        let small = random.below(9);
        let value = match random.below(6) {
            0 => random.next(),
            1 => small << 24 | small,
            2 => small,
            3 => 0xFFFF,
            4 => random.below(100_000) << 32,
            _ => intruder.get(at) ^ 1 << random.below(64),
        };
        if !(MAP + long::EVENTS..MAP + long::OWNERS).contains(&at) {
            intruder.set(at, value);
        }
    }
}

#[test]
fn map_of_long_values_corrupted_constantly_calls_return() {
    let make = |test_dir: &TestDir| long::open(&test_dir.names());
    under_attack("corrupt_long_map", make, |(_, map), random| use_map(map, long::LIMIT + 100, random));
}
