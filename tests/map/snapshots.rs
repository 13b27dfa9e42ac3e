//! All entries at one moment, while others change them.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use tombolo::collections::{Map, MapError, map};

use crate::support::TestDir;

#[test]
fn map_snapshot_has_all_entries() {
    let _watchdog = TestDir::new();
    let map = Map::new(&map::Options::<u64, str>::new().max_entries(500)).unwrap();
    assert_eq!(map.snapshot().unwrap(), []);
    for key in 0..500 {
        map.insert(&key, &"x".repeat(key as usize % 200)).unwrap();
    }
    let mut entries = map.snapshot().unwrap();
    entries.sort_unstable();
    assert_eq!(entries, (0..500).map(|key| (key, "x".repeat(key as usize % 200))).collect::<Vec<_>>());
}

/// Money moves between accounts in two steps: it is taken from one, and then given to another. So
/// at each moment what is missing is no more than what is on its way.
#[test]
fn map_snapshot_while_others_write_is_of_one_moment() {
    const ACCOUNTS: u64 = 16;
    const WRITERS: u64 = 2;
    let _watchdog = TestDir::new();
    let map = Map::new(&map::Options::<u64, i64>::new().max_entries(ACCOUNTS as usize)).unwrap();
    (0..ACCOUNTS).for_each(|account| _ = map.insert(&account, &100).unwrap());
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        for writer in 0..WRITERS {
            let (map, is_over) = (&map, &is_over);
            scope.spawn(move || {
                for step in (writer..).step_by(7) {
                    if is_over.load(Ordering::Relaxed) {
                        return;
                    }
                    let add = |account: u64, more| map.update(&(account % ACCOUNTS), |found| Some(found? + more));
                    add(step, -1).unwrap();
                    add(step * 5 + 3, 1).unwrap();
                }
            });
        }
        let mut found = 0;
        while found < 300 {
            match map.snapshot() {
                Ok(entries) => {
                    let total: i64 = entries.iter().map(|(_, amount)| amount).sum();
                    assert_eq!(entries.len() as u64, ACCOUNTS);
                    assert!((0..=WRITERS as i64).contains(&(ACCOUNTS as i64 * 100 - total)), "{total}: {entries:?}");
                    found += 1;
                }
                Err(error) => assert_eq!(error, MapError::Busy),
            }
        }
        is_over.store(true, Ordering::Relaxed);
    });
    assert_eq!(map.snapshot().unwrap().iter().map(|(_, amount)| amount).sum::<i64>(), ACCOUNTS as i64 * 100);
}

#[test]
fn map_snapshot_busy_says_what_to_do() {
    let message = MapError::Busy.to_string();
    assert!(message.contains("try again") && message.contains("pause"), "{message}");
}
