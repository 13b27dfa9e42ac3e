//! Waiting for a key, and for a change.

use std::thread;
use std::time::Duration;

use tombolo::collections::{Map, MapError, map};

use crate::support::TestDir;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn map_wait_for_key_returns_when_it_is_inserted() {
    let _watchdog = TestDir::new();
    let map = Map::new(&map::Options::<str, u64>::new()).unwrap();
    assert_eq!(map.wait_for("a", Duration::ZERO), Err(MapError::TimedOut));
    assert_eq!(map.wait_for("a", Duration::from_millis(30)), Err(MapError::TimedOut));
    let other = map.clone();
    let waiting = thread::spawn(move || other.wait_for("a", LONG));
    thread::sleep(Duration::from_millis(30));
    assert_eq!((map.insert("b", &1), map.insert("a", &2)), (Ok(true), Ok(true)));
    assert_eq!(waiting.join().unwrap(), Ok(2));
    assert_eq!(map.wait_for("a", Duration::ZERO), Ok(2));
}

#[test]
fn map_wait_for_change_returns_each_kind_of_change() {
    let _watchdog = TestDir::new();
    let map = Map::new(&map::Options::<u64, str>::new().max_entries(1)).unwrap();
    let mut current: Option<String> = None;
    for next in [Some("one"), Some("two"), None, Some("three")] {
        assert_eq!(map.wait_for_change(&5, current.as_deref(), Duration::ZERO), Err(MapError::TimedOut));
        let (other, seen) = (map.clone(), current.clone());
        let waiting = thread::spawn(move || other.wait_for_change(&5, seen.as_deref(), LONG));
        thread::sleep(Duration::from_millis(10));
        match next {
            Some(value) => drop(map.insert(&5, value).unwrap()),
            None => map.clear().unwrap(),
        }
        current = waiting.join().unwrap().unwrap();
        assert_eq!(current.as_deref(), next);
    }
}
