//! `Map`: changes are cut off.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::Duration;

use tombolo::Namespace;
use tombolo::collections::{Map, MapError, map};

use crate::common::CrashState;
use crate::support::until;
use crate::sweeps::{sweep_beside_sleeper, sweep_object};

type Texts = Map<str, [u8]>;

/// Full with these keys, in few buckets: whatever is changed is copied with its neighbours.
const KEYS: [&str; 4] = ["a", "b", "c", "d"];

fn options() -> map::Options<str, [u8]> {
    map::Options::new().entries(map::Entries { count: KEYS.len(), bytes: 48 })
}

fn texts(namespace: &Namespace) -> Texts {
    namespace.map("map").unwrap()
}

fn filled(namespace: &Namespace) -> Texts {
    let map = texts(namespace);
    KEYS.iter().for_each(|key| _ = map.insert(key, &[1; 20]).unwrap());
    map
}

/// Each value is one of an operation, whole, and every place can be used.
fn works(namespace: &Namespace) {
    let map = texts(namespace);
    for entry in &map {
        let (key, value) = entry.unwrap();
        assert!(KEYS.contains(&key.as_str()) && [&[1; 20][..], &[2; 40]].contains(&&*value), "{key}: {value:?}");
    }
    map.clear().unwrap();
    for _ in 0..3 {
        filled(namespace);
        assert!(map.insert("another", b"").is_err());
        KEYS.iter().for_each(|key| assert_eq!(map.remove(key).unwrap().unwrap(), [1; 20]));
    }
    filled(namespace);
}

/// The entries are those before the operation or those after it.
fn assert_before_or_after(namespace: &Namespace, key: &str, after: Option<&[u8]>) {
    let map = texts(namespace);
    for other in KEYS.iter().filter(|other| **other != key) {
        assert_eq!(map.get(other).unwrap().unwrap(), [1; 20], "{other}");
    }
    let found = map.get(key).unwrap();
    assert!(found.as_deref() == Some(&[1; 20]) || found.as_deref() == after, "{found:?}");
}

fn sweep_change(change: impl Fn(&Texts) + Clone, after: Option<&'static [u8]>, changes: usize) {
    let swept = sweep_object(
        |plan| plan.map("map", &options()),
        |namespace| {
            let (map, change) = (filled(namespace), change.clone());
            move || change(&map)
        },
        |namespace, _: &CrashState| assert_before_or_after(namespace, "b", after),
        works,
    );
    swept.covers(0, changes);
}

/// raw/map.rs ns-map-1, ns-map-2, with spare blocks.
#[test]
fn map_insert_killed_map_is_whole() {
    sweep_change(|map| _ = map.insert("b", &[2; 40]).unwrap(), Some(&[2; 40]), 10);
}

#[test]
fn map_remove_killed_map_is_whole() {
    sweep_change(|map| _ = map.remove("b").unwrap(), None, 5);
}

/// A block that the dead one has allocated is free again for those that fill the map.
#[test]
fn map_insert_of_new_key_killed_no_place_is_lost() {
    let swept = sweep_object(
        |plan| plan.map("map", &options()),
        |namespace| {
            let map = filled(namespace);
            map.remove("b").unwrap();
            move || _ = map.insert("b", &[2; 40]).unwrap()
        },
        |namespace, _: &CrashState| {
            let found = texts(namespace).get("b").unwrap();
            assert!(found.is_none() || found.as_deref() == Some(&[2; 40]), "{found:?}");
            // A wait that ends at once has just used up the check for deaths that is due.
            let map = texts(namespace);
            assert_eq!(map.wait_for("another", Duration::ZERO), Err(MapError::TimedOut));
            map.insert("b", &[2; 40]).unwrap();
        },
        works,
    );
    swept.covers(0, 8);
}

/// The same keys, with values in extents: copies of the neighbours' are made there.
fn long_options() -> map::Options<str, [u8]> {
    map::Options::new().entries(map::Entries { count: KEYS.len(), bytes: 70_000 })
}

/// One is empty, one fills its extent, the others have a page and two.
fn long_value(key: &str) -> Vec<u8> {
    let length = match key {
        "a" => 0,
        "b" => 5000,
        "c" => 70_000,
        _ => 100,
    };
    vec![key.as_bytes()[0]; length]
}

fn long_filled(namespace: &Namespace) -> Texts {
    let map = texts(namespace);
    KEYS.iter().for_each(|key| _ = map.insert(key, &long_value(key)).unwrap());
    map
}

/// Whether no value is in any of the eight extents of 18 pages. How much memory they have shows
/// nothing here: the sweep reads what it watches, and makes pages of holes.
fn is_given_back(namespace: &Namespace) -> bool {
    let file = File::from(namespace.share().unwrap());
    let mut extents = vec![0; 8 * 73_728];
    let start = file.metadata().unwrap().len() - extents.len() as u64;
    file.read_exact_at(&mut extents, start).unwrap();
    extents.iter().all(|&byte| byte == 0)
}

fn sweep_long(change: impl Fn(&Texts) + Clone, after: Option<&'static [u8]>, counts: (usize, usize)) {
    let swept = sweep_object(
        |plan| plan.map("map", &long_options()),
        |namespace| {
            let (map, change) = (long_filled(namespace), change.clone());
            move || change(&map)
        },
        |namespace, _: &CrashState| {
            let map = texts(namespace);
            for key in KEYS {
                let found = map.get(key).unwrap();
                let is_changed = key == "b" && found.as_deref() == after;
                assert!(is_changed || found == Some(long_value(key)), "{key}: {:?}", found.map(|found| found.len()));
            }
        },
        |namespace| {
            let map = texts(namespace);
            map.clear().unwrap();
            // One that finds the map full repairs the dead, unless it has just asked who is dead.
            until(|| {
                long_filled(namespace);
                assert!(map.insert("another", b"").is_err());
                KEYS.iter().for_each(|key| assert_eq!(map.remove(key).unwrap().unwrap(), long_value(key)));
                is_given_back(namespace)
            });
            long_filled(namespace);
        },
    );
    swept.covers(counts.0, counts.1);
}

/// raw/map.rs ns-map-1, ns-map-2, ns-map-4, among system calls.
#[test]
fn map_insert_of_long_value_killed_map_is_whole_and_memory_is_given_back() {
    sweep_long(|map| _ = map.insert("b", &[2; 9000]).unwrap(), Some(&[2; 9000]), (2, 8));
}

#[test]
fn map_remove_of_long_value_killed_map_is_whole_and_memory_is_given_back() {
    sweep_long(|map| _ = map.remove("b").unwrap(), None, (1, 5));
}

/// A wake-up that died with its process: the sleeper finds the key by itself.
#[test]
fn map_insert_killed_sleeper_sees_key() {
    let swept = sweep_beside_sleeper(
        |plan| plan.map("map", &options()),
        |namespace| _ = texts(namespace).wait_for("a", crate::common::LONG).unwrap(),
        |namespace| {
            let map = texts(namespace);
            move || _ = map.insert("a", &[1; 20]).unwrap()
        },
        |survivor, _| _ = texts(survivor).insert("a", &[1; 20]).unwrap(),
        works,
    );
    swept.covers(1, 3);
}
