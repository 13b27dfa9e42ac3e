//! Maps and lists that are created while the namespace is used.

use std::path::Path;
use std::thread;
use std::time::Duration;

use tombolo::collections::{Map, MapError, list, map};
use tombolo::{Directory, ErrorKind, Namespace, Spec};

use crate::support::{Process, Random, TestDir, start, stress_factor, stress_random, until};
use crate::{NAME, alone_with_directory, assert_error, builder, object_files, open};

const ENTRIES: usize = 16;
const KEYS: u64 = 24;

fn options() -> map::Options<u64, [u64; 8]> {
    map::Options::new().max_entries(ENTRIES)
}

#[test]
fn namespace_map_created_is_found_and_opened_with_its_types_only() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace = open(&test_dir);
    let spec = || Spec::map(&map::Options::<str, f64>::new().max_entries(3));
    let prices = namespace.create("prices", spec()).unwrap();
    for (number, key) in ["a", "b", "c"].into_iter().enumerate() {
        assert_eq!(prices.insert(key, &(number as f64)), Ok(true));
    }
    assert_eq!(prices.insert("d", &0.0), Err(MapError::Full));

    let other = builder(&test_dir.names()).must_exist().open(NAME).unwrap();
    let found = other.map::<str, f64>("prices").unwrap();
    assert_eq!((found.get("b"), found.remove("a"), found.capacity()), (Ok(Some(1.0)), Ok(Some(0.0)), 3));
    assert_eq!((prices.len(), prices.get("a")), (2, Ok(None)));
    assert_error(other.map::<str, u64>("prices"), ErrorKind::WrongType, &["\"prices\"", "f64", "u64"]);
    assert_error(other.map::<u64, f64>("prices"), ErrorKind::WrongType, &["\"prices\"", "bytes", "u64"]);
    assert_error(other.list::<f64>("prices"), ErrorKind::WrongType, &["\"prices\"", "map", "list"]);
    assert_error(other.create("prices", spec()), ErrorKind::AlreadyExists, &["\"prices\""]);
    assert_eq!(other.open_or_create("prices", spec()).unwrap().get("c"), Ok(Some(2.0)));
    let too_many = Spec::map(&map::Options::<u64, u64>::new().max_entries(1 << 24));
    assert_error(other.create("many", too_many), ErrorKind::InvalidOptions, &["many"]);

    // A removed one works for those that hold it, and the name is free for another kind.
    other.remove("prices").unwrap();
    let next = other.create("prices", Spec::list(&list::Options::<u8>::new())).unwrap();
    assert_eq!((next.push(&1), prices.insert("b", &7.0), found.get("b")), (Ok(()), Ok(false), Ok(Some(7.0))));
    drop((prices, found, next, other, namespace));
    assert_eq!(test_dir.leftovers(), [""; 0]);
}

/// Creates the map, unless another process does, and changes it until it is killed.
pub fn change_created_map(arguments: &[String]) {
    let namespace = builder(Path::new(&arguments[0])).open(NAME).unwrap();
    let map = namespace.open_or_create("map", Spec::map(&options())).unwrap();
    let mut random = stress_random(arguments[1].parse().unwrap());
    loop {
        let (key, number) = (random.below(KEYS), random.next());
        let done = match random.below(2) {
            0 => map.insert(&key, &[number; 8]).map(drop),
            _ => map.remove(&key).map(drop),
        };
        assert!(matches!(done, Ok(()) | Err(MapError::Full)), "{done:?}");
    }
}

fn assert_no_block_lost(test_dir: &TestDir, map: &Map<u64, [u64; 8]>) {
    let entries: Vec<_> = map.iter().map(Result::unwrap).collect();
    entries.iter().for_each(|(_, found)| assert_eq!(*found, [found[0]; 8], "a torn value"));
    let info = Directory::at(test_dir.names()).inspect(NAME).unwrap();
    let (length, free) = (entries.len(), ENTRIES - entries.len());
    let expected = format!("{length} of {ENTRIES} entries; {free} blocks free, 15 spare");
    assert_eq!(info.objects.iter().map(|object| &object.state).collect::<Vec<_>>(), [&expected]);
}

#[test]
fn namespace_map_created_by_killed_processes_loses_no_block() {
    let (_alone, test_dir) = alone_with_directory();
    let namespace: Namespace = open(&test_dir);
    let mut random: Random = stress_random(11);
    let mut started = 0;
    let mut begin = || {
        started += 1;
        start("change_created_map", &[test_dir.names().to_str().unwrap(), &started.to_string()])
    };
    let mut children: Vec<_> = (0..3).map(|_| begin()).collect();
    until(|| namespace.map::<u64, [u64; 8]>("map").is_ok());
    let map = namespace.map::<u64, [u64; 8]>("map").unwrap();
    for _ in 0..8 * stress_factor() {
        until(|| !map.is_empty());
        thread::sleep(Duration::from_micros(random.below(5000)));
        children.remove(0).kill();
        children.push(begin());
    }
    children.into_iter().for_each(Process::kill);
    Directory::at(test_dir.names()).repair(NAME).unwrap();
    assert_no_block_lost(&test_dir, &map);
    map.clear().unwrap();
    assert_no_block_lost(&test_dir, &map);
    assert_eq!(object_files(&test_dir.names()).len(), 1, "several processes have created it");
}
