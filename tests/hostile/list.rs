//! Hostile peers of a list: any of its words has any value at any time.

use std::path::Path;
use std::time::Duration;

use tombolo::collections::{List, ListError, list};
use tombolo::{Directory, Namespace};

use crate::support::{Random, TestDir};
use crate::{Intruder, NAME, soon, under_attack};

/// First word of the list in a namespace of one object and two participants.
const LIST: usize = 64 + 2 * 16 + 16;
/// From the list's beginning on, for ten elements of a word: 5 directories of 6 words, and 17
/// chunks of 8.
const OWNERS: usize = 16;
const RECORDS: usize = OWNERS + 32;
const RECORD_WORDS: usize = 3 + 6 * 3;
const BLOCKS: usize = RECORDS + 96;
const DIRECTORY_WORDS: usize = 6;
const END: usize = BLOCKS + 5 * DIRECTORY_WORDS + 17 * 8;

fn open(names: &Path) -> (Namespace, List<u64>) {
    let options = list::Options::<u64>::new().max_length(10);
    let plan = Namespace::builder().max_participants(2).list("list", &options).directory(names);
    let namespace = plan.open(NAME).unwrap();
    let list = namespace.list("list").unwrap();
    (namespace, list)
}

/// Every operation ends, and none panics.
fn use_list(list: &List<u64>, random: &mut Random) {
    let (index, value) = (random.below(11) as usize, random.next());
    soon(|| match random.below(12) {
        0 => drop(list.get(index)),
        1 => drop(list.remove(index)),
        2 => drop(list.update(index, |found| found + (found < 9) as u64)),
        3 => drop(list.clear()),
        4 => drop(list.to_vec()),
        5 => drop((list.len(), list.is_empty())),
        6 => drop(list.wait_for(index, Duration::from_millis(1))),
        7 => drop(list.insert(index, &value)),
        8 => drop(list.extend_from_slice(&[value; 4])),
        9 => drop(list.load_into(index, &mut [0; 4])),
        10 => drop(list.pop()),
        _ => drop(list.push(&value)),
    });
}

#[test]
fn list_root_or_directory_invalid_returns_corrupt() {
    let test_dir = TestDir::new();
    let (_namespace, list) = open(&test_dir.names());
    let intruder = Intruder::at(&test_dir.names().join(NAME));
    let numbers: Vec<u64> = (0..10).collect();
    list.extend_from_slice(&numbers).unwrap();
    let all = |what: &str| {
        let corrupt = ListError::Corrupt;
        assert_eq!((list.get(9), list.to_vec()), (Err(corrupt), Err(corrupt)), "{what}");
        assert_eq!((list.set(9, &0), list.remove(9)), (Err(corrupt), Err(corrupt)), "{what}");
    };
    let directory = LIST + BLOCKS;
    let check = |word: usize, value: u64, what: &str| {
        let before = intruder.get(word);
        intruder.set(word, value);
        all(what);
        intruder.set(word, before);
    };
    check(LIST, 6, "no such directory");
    check(LIST, u64::MAX, "no directory at all");
    check(directory, 6 << 40 | 10, "more chunks than a directory has");
    check(directory, 1 << 40 | 10, "fewer chunks than elements");
    check(directory + 2, 17 << 40 | 10, "no such chunk");
    check(directory + 2, 1 << 40 | 8, "a chunk without an element");
    assert_eq!(list.to_vec(), Ok(numbers));
    // More elements than there can be.
    intruder.set(directory, 2 << 40 | 0xFF_FFFF_FFFF);
    assert_eq!(list.to_vec(), Err(ListError::Corrupt));
    intruder.set(directory, 2 << 40 | 10);
    // All blocks seem to be taken.
    (0..22).for_each(|block| intruder.set(LIST + OWNERS + block, 3));
    assert_eq!((list.set(1, &1), list.clear()), (Err(ListError::Busy), Err(ListError::Busy)));
}

#[test]
fn list_element_invalid_is_refused() {
    let test_dir = TestDir::new();
    let options = list::Options::<bool>::new().max_length(10);
    let plan = Namespace::builder().max_participants(2).list("list", &options).directory(test_dir.names());
    let namespace = plan.open(NAME).unwrap();
    let list = namespace.list::<bool>("list").unwrap();
    list.extend_from_slice(&[true; 3]).unwrap();
    let intruder = Intruder::at(&test_dir.names().join(NAME));
    intruder.set(LIST + BLOCKS + 5 * DIRECTORY_WORDS + 2, 2);
    let invalid = ListError::InvalidValue;
    assert_eq!((list.get(1), list.get(2), list.to_vec()), (Ok(Some(true)), Err(invalid), Err(invalid)));
    assert_eq!((list.load_into(1, &mut [true; 2]), list.load_into(0, &mut [true; 2])), (Err(invalid), Ok(2)));
    assert_eq!(
        (list.pop(), list.remove(2), list.update(2, |found| !found)),
        (Err(invalid), Err(invalid), Err(invalid))
    );
    assert_eq!((list.set(2, &false), list.to_vec()), (Ok(()), Ok(vec![true, true, false])));
}

/// From the list's beginning on, for eight elements of up to eight bytes: blocks as those of ten
/// elements of a word.
fn open_bytes(names: &Path) -> (Namespace, List<[u8]>) {
    let options = list::Options::<[u8]>::new().max_length(8).max_element_bytes(8);
    let plan = Namespace::builder().max_participants(2).list("list", &options).directory(names);
    let namespace = plan.open(NAME).unwrap();
    let list = namespace.list("list").unwrap();
    (namespace, list)
}

#[test]
fn list_length_of_element_invalid_returns_corrupt() {
    let test_dir = TestDir::new();
    let (_namespace, list) = open_bytes(&test_dir.names());
    list.extend_from_slice(&[*b"one", *b"two"]).unwrap();
    let intruder = Intruder::at(&test_dir.names().join(NAME));
    let corrupt = ListError::Corrupt;
    for length in [9, 1 << 32, u64::MAX] {
        intruder.set(LIST + BLOCKS + 5 * DIRECTORY_WORDS + 2, length);
        assert_eq!((list.get(0), list.get(1)), (Ok(Some(b"one".to_vec())), Err(corrupt)));
        assert_eq!((list.to_vec(), list.get_into(1, &mut Vec::new())), (Err(corrupt), Err(corrupt)));
        assert_eq!((list.pop(), list.remove(1), list.update(1, |found| found)), {
            (Err(corrupt), Err(corrupt), Err(corrupt))
        });
        let info = Directory::at(test_dir.names()).inspect(NAME).unwrap();
        assert_eq!(info.objects[0].value.as_deref(), Some("[\"one\", invalid]"));
    }
    assert_eq!((list.set(1, b""), list.to_vec()), (Ok(()), Ok(vec![b"one".to_vec(), vec![]])));
}

/// Every operation ends, and none panics.
fn use_bytes(list: &List<[u8]>, random: &mut Random) {
    let (index, value) = (random.below(9) as usize, random.next().to_le_bytes());
    let value = value.get(..random.below(9) as usize).unwrap();
    soon(|| match random.below(8) {
        0 => drop(list.get(index)),
        1 => drop(list.remove(index)),
        2 => drop(list.update(index, |found| found)),
        3 => drop(list.to_vec()),
        4 => drop(list.insert(index, value)),
        5 => drop(list.extend_from_slice(&[value; 3])),
        6 => drop(list.get_into(index, &mut Vec::new())),
        _ => drop(list.push(value)),
    });
}

#[test]
fn list_of_bytes_corrupted_constantly_calls_return() {
    let open = |test_dir: &TestDir| open_bytes(&test_dir.names());
    under_attack("corrupt_list", open, |(_, list), random| use_bytes(list, random));
}

/// Records of a dead process that name what others use, and what does not exist.
#[test]
fn list_records_invalid_repair_frees_nothing_of_others() {
    let test_dir = TestDir::new();
    let (_namespace, list) = open(&test_dir.names());
    let intruder = Intruder::at(&test_dir.names().join(NAME));
    let numbers: Vec<u64> = (0..10).collect();
    list.extend_from_slice(&numbers).unwrap();
    let record = LIST + RECORDS + 2 * RECORD_WORDS;
    for (at, value) in [(0, 7), (1, u64::MAX), (2, u64::MAX), (8, 22), (7, 1 << 40)] {
        intruder.set(record + at, value);
    }
    for block in 0..5 {
        intruder.set(record + 3 + block, block as u64);
    }
    // A participant that is not there any more.
    intruder.set(64 + 16 + 3, 1);
    assert_eq!(Directory::at(test_dir.names()).repair(NAME).unwrap(), 1);
    assert_eq!(list.to_vec(), Ok(numbers));
    assert_eq!((list.set(0, &5), list.remove(0), list.len()), (Ok(()), Ok(5), Ok(9)));
}

pub fn corrupt_list(arguments: &[String]) {
    let intruder = Intruder::at(Path::new(&arguments[0]));
    let mut random = Random(arguments[1].parse().unwrap());
    loop {
        let at = match random.below(4) {
            0 => LIST,
            1 => LIST + BLOCKS + random.below(5 * DIRECTORY_WORDS as u64) as usize,
            _ => LIST + OWNERS + random.below((END - OWNERS) as u64) as usize,
        };
        let small = random.below(12);
        let value = match random.below(5) {
            0 => random.next(),
            1 => small << 40 | random.below(12),
            2 => small,
            3 => random.below(4) << 16 | small,
            _ => intruder.get(at) ^ 1 << random.below(64),
        };
        intruder.set(at, value);
    }
}

#[test]
fn list_corrupted_constantly_calls_return() {
    under_attack("corrupt_list", |test_dir| open(&test_dir.names()), |(_, list), random| use_list(list, random));
}
