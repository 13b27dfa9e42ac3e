//! Several processes and one map, some of them killed in the middle of a change.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use tombolo::collections::map::{Entries, Options};
use tombolo::collections::{Map, MapError};
use tombolo::spawn::CommandExt;
use tombolo::{Namespace, NamespaceBuilder, OnStale};

use crate::storm::{Collection, NAME, figures, storm};
use crate::support::{Random, TestDir, alone, command, fork, start, until};

fn plan(names: &Path) -> NamespaceBuilder {
    // Of several sizes, in few buckets, and full at times only: a writer that finds no room waits,
    // and is not in the middle of a change.
    let options = Options::<u64, [u8]>::new()
        .entries(Entries { count: 12, bytes: 24 })
        .entries(Entries { count: 12, bytes: 200 })
        .entries(Entries { count: 8, bytes: 3000 });
    let notes = Options::<u64, u64>::new().max_entries(2);
    Namespace::builder().map("map", &options).map("notes", &notes).max_participants(8).directory(names)
}

const CAPACITY: usize = 32;
const SPARE: usize = 12 + 12 + 8;
const KEYS: u64 = 48;

/// A value that shows whether it is whole: each byte follows from the key and the first two.
fn value(key: u64, number: u64, length: usize) -> Vec<u8> {
    let seed = (number % 251) as u8;
    (0..length).map(|at| seed.wrapping_add((key as u8).wrapping_mul(at as u8 | 1))).collect()
}

fn assert_whole(key: u64, found: &[u8]) {
    if let Some(&first) = found.first() {
        let seed = first.wrapping_sub(key as u8);
        assert_eq!(found, value(key, seed.into(), found.len()), "torn value of {key}");
    }
}

/// Changes entries at random, and checks each that it sees.
fn change(map: &Map<u64, [u8]>, random: &mut Random) {
    let key = random.below(KEYS);
    let lengths = [0, 3, 16, 100, 190, 2000, 2990];
    let number = random.next();
    let new = value(key, number, lengths[random.below(7) as usize]);
    let done = match random.below(9) {
        0..=2 => map.insert(&key, &new).map(drop),
        3..=5 => map.remove(&key).map(|found| assert_whole(key, &found.unwrap_or_default())),
        6 => map
            .update(&key, |found| {
                assert_whole(key, &found.unwrap_or_default());
                Some(new.clone())
            })
            .map(drop),
        7 if random.below(50) == 0 => map.clear(),
        _ => map.get(&key).map(|found| assert_whole(key, &found.unwrap_or_default())),
    };
    assert!(matches!(done, Ok(()) | Err(MapError::Full | MapError::Busy)), "{done:?}");
}

#[derive(Clone)]
struct MapAndNotes {
    names: PathBuf,
    map: Map<u64, [u8]>,
    notes: Map<u64, u64>,
}

impl Collection for MapAndNotes {
    fn open(names: &Path) -> Self {
        let namespace = plan(names).open(NAME).unwrap();
        Self { names: names.into(), map: namespace.map("map").unwrap(), notes: namespace.map("notes").unwrap() }
    }

    fn change(&self, random: &mut Random) {
        change(&self.map, random);
    }

    fn note(&self, place: u64) -> u64 {
        self.notes.get(&place).unwrap().unwrap_or(0)
    }

    fn set_note(&self, place: u64, number: u64) {
        // A stopped process can have the spare blocks.
        while let Err(error) = self.notes.insert(&place, &number) {
            assert_eq!(error, MapError::Full);
        }
    }

    fn assert_nothing_is_lost(&self) {
        let entries: BTreeMap<_, _> = self.map.iter().map(Result::unwrap).collect();
        entries.iter().for_each(|(key, found)| assert_whole(*key, found));
        assert_eq!(self.map.len(), entries.len(), "a key twice");
        assert_eq!(figures(&self.names), [entries.len(), CAPACITY, CAPACITY - entries.len(), SPARE]);
    }
}

/// Forks need a process without other tests.
#[test]
fn map_writers_killed_at_random_values_are_whole_and_no_block_is_lost() {
    start("kill_writers_at_random", &[]).finish();
}

pub fn kill_writers_at_random(_: &[String]) {
    let test_dir = TestDir::new();
    let left: MapAndNotes = storm(&test_dir);
    left.map.clear().unwrap();
    left.assert_nothing_is_lost();
    // All places can be used.
    let mut inserted = 0;
    for key in 0..200 {
        inserted += usize::from(left.map.insert(&key, b"") == Ok(true));
    }
    assert_eq!(inserted, CAPACITY);
    left.assert_nothing_is_lost();
}

pub fn insert_until_killed(arguments: &[String]) {
    let map = Namespace::builder().directory(&arguments[0]).must_exist().open(NAME).unwrap();
    let map = map.map::<u64, u64>("map").unwrap();
    for number in 0.. {
        map.insert(&(number % 100), &number).unwrap();
    }
}

/// The name stays, with all entries, when the last process was killed. The next one goes on.
#[test]
fn map_last_process_killed_next_one_finds_the_entries() {
    let test_dir = TestDir::new();
    let names = test_dir.names();
    let options = Options::<u64, u64>::new().max_entries(100);
    let plan = || Namespace::builder().map("map", &options).directory(&names);
    let first = plan().open(NAME).unwrap();
    let map = first.map::<u64, u64>("map").unwrap();
    let child = start("insert_until_killed", &[names.to_str().unwrap()]);
    until(|| map.len() == 100);
    drop((map, first));
    child.kill();
    let next = plan().must_exist().open(NAME).unwrap();
    let map = next.map::<u64, u64>("map").unwrap();
    assert_eq!(map.len(), 100);
    map.iter().for_each(|entry| assert!(matches!(entry, Ok((key, number)) if number % 100 == key)));
    drop((map, next));
    assert!(test_dir.leftovers().is_empty());
    let afresh = plan().on_stale(OnStale::Recreate).open(NAME).unwrap();
    assert!(afresh.map::<u64, u64>("map").unwrap().is_empty());
}

/// Two users of one name in one process have one map, and use different intent records.
#[test]
fn map_opened_twice_is_the_same_map() {
    let test_dir = TestDir::new();
    let options = Options::<str, u64>::new();
    let plan = || Namespace::builder().map("map", &options).directory(test_dir.names());
    let (one, other) = (plan().open(NAME).unwrap(), plan().open(NAME).unwrap());
    let maps = [one.map::<str, u64>("map").unwrap(), other.map::<str, u64>("map").unwrap()];
    thread::scope(|scope| {
        for map in &maps {
            for _ in 0..2 {
                scope.spawn(move || {
                    (0..5000).for_each(|_| _ = map.update("sum", |sum| Some(sum.unwrap_or(0) + 1)).unwrap())
                });
            }
        }
    });
    assert_eq!(maps[0].get("sum"), Ok(Some(20_000)));
}

pub fn insert_passed(_: &[String]) {
    let map: Map<str, u64> = Map::take("map").unwrap();
    map.insert("child", &u64::from(std::process::id())).unwrap();
}

#[test]
fn map_passed_to_child_is_shared() {
    let _watchdog = TestDir::new();
    let map = Map::new(&Options::<str, u64>::new()).unwrap();
    let mut child = command("insert_passed", &[]).pass("map", &map).unwrap().spawn().unwrap();
    let found = map.wait_for("child", Duration::from_secs(60)).unwrap();
    assert_eq!(found, u64::from(child.id()));
    assert!(child.wait().unwrap().success());
    assert_eq!(Map::<str, u64>::from_fd(map.share().unwrap()).unwrap().get("child"), Ok(Some(found)));
}

/// A fork needs a process without other tests.
#[test]
fn map_in_forked_child_is_read_and_not_changed() {
    let _watchdog = TestDir::new();
    start("change_in_forked_child", &[]).finish();
}

pub fn change_in_forked_child(_: &[String]) {
    let map = Map::new(&Options::<str, u64>::new()).unwrap();
    map.insert("a", &1).unwrap();
    let child = fork(&alone(), || {
        assert_eq!((map.get("a"), map.len(), map.iter().count()), (Ok(Some(1)), 1, 1));
        let refused = MapError::Forked;
        assert_eq!((map.insert("a", &2), map.remove("a"), map.clear()), (Err(refused), Err(refused), Err(refused)));
        assert_eq!((map.update("a", |_| None), map.wait_for("a", Duration::ZERO)), (Err(refused), Err(refused)));
    });
    child.finish();
    assert_eq!((map.insert("a", &3), map.get("a")), (Ok(false), Ok(Some(3))));
}
