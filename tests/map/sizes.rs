//! How many entries of which sizes there can be, and what a full map still does.

use tombolo::collections::map::{Entries, Options};
use tombolo::collections::{Map, MapError};
use tombolo::{ErrorKind, Namespace};

use crate::buckets::keys_of_one_bucket;
use crate::support::TestDir;

/// Also with several keys in one bucket: whatever is there can be replaced and removed.
#[test]
fn map_full_refuses_new_keys_and_changes_the_others() {
    for entries in [1, 2, 3, 7, 64, 100] {
        let map = Map::new(&Options::<u64, u64>::new().max_entries(entries)).unwrap();
        let entries = entries as u64;
        for round in 0..5 {
            for key in 0..entries {
                assert_eq!(map.insert(&key, &round), Ok(true), "{key} of {entries}");
            }
            for key in 0..entries {
                assert_eq!(map.insert(&(key + entries), &round), Err(MapError::Full));
                assert_eq!((map.insert(&key, &(round + 1)), map.get(&key)), (Ok(false), Ok(Some(round + 1))));
                assert_eq!(map.remove(&key), Ok(Some(round + 1)), "{key} of {entries}");
                assert_eq!(map.insert(&key, &round), Ok(true));
            }
            assert_eq!((map.len() as u64, map.capacity() as u64), (entries, entries));
            for key in (0..entries).rev() {
                assert_eq!(map.remove(&key), Ok(Some(round)));
            }
            assert!(map.is_empty());
        }
    }
}

#[test]
fn map_entry_of_any_size_up_to_the_limit_is_kept() {
    const LIMIT: usize = 1 << 20;
    let options = Options::<[u8], [u8]>::new()
        .entries(Entries { count: 2, bytes: LIMIT })
        .entries(Entries { count: 4, bytes: 100 })
        .entries(Entries { count: 4, bytes: 0 });
    let map = Map::new(&options).unwrap();
    for length in [0, 1, 7, 8, 9, 31, 100, 104, 105, 4097, LIMIT - 8] {
        let value: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
        assert!(map.insert(b"key", &value).is_ok());
        assert_eq!(map.get(b"key"), Ok(Some(value)), "{length}");
    }
}

#[test]
fn map_entry_beyond_the_limit_is_refused_with_both_numbers() {
    let map = Map::new(&Options::<[u8], [u8]>::new().entries(Entries { count: 3, bytes: 64 })).unwrap();
    assert_eq!(map.insert(b"a", &[1; 56]), Ok(true));
    let error = map.insert(b"a", &[2; 57]).unwrap_err();
    assert_eq!(error, MapError::TooLong { length: 72, limit: 64 });
    assert!(error.to_string().contains("72") && error.to_string().contains("64"), "{error}");
    assert_eq!(map.insert(&[0; 65], b""), Err(MapError::TooLong { length: 72, limit: 64 }));
    assert_eq!((map.get(&[0; 65]), map.get(b"a")), (Ok(None), Ok(Some(vec![1; 56]))));
}

/// A small entry may take a large block, not the other way round.
#[test]
fn map_class_full_larger_class_is_used() {
    let options =
        Options::<u8, [u8]>::new().entries(Entries { count: 1, bytes: 16 }).entries(Entries { count: 1, bytes: 200 });
    let map = Map::new(&options).unwrap();
    assert_eq!((map.insert(&1, b"small"), map.insert(&2, b"small, too")), (Ok(true), Ok(true)));
    assert_eq!(map.insert(&3, b""), Err(MapError::Full));
    assert_eq!((map.remove(&2).unwrap().is_some(), map.insert(&3, &[0; 180])), (true, Ok(true)));
    assert_eq!(map.insert(&1, &[0; 180]), Err(MapError::Full), "of another class");
    assert_eq!(map.get(&1), Ok(Some(b"small".to_vec())));
}

#[test]
fn map_of_impossible_size_is_refused() {
    let sizes = |sizes: &[Entries]| {
        let options = sizes.iter().fold(Options::<u64, [u8]>::new(), |options, &size| options.entries(size));
        Map::new(&options).map(drop)
    };
    let refused = [
        Map::new(&Options::<u8, u8>::new().max_entries(0)).map(drop),
        Map::new(&Options::<u8, u8>::new().max_entries(1 << 24)).map(drop),
        Map::new(&Options::<u8, u8>::new().max_entries(usize::MAX)).map(drop),
        sizes(&[Entries { count: 0, bytes: 8 }]),
        sizes(&[Entries { count: 1, bytes: usize::MAX }]),
        sizes(&[Entries { count: 1, bytes: 8 }; 5]),
    ];
    for (number, refused) in refused.into_iter().enumerate() {
        let error = refused.expect_err(&number.to_string());
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
        assert!(error.to_string().contains("expected"), "{error}");
    }
    // In a namespace: with the name of the object.
    let plan = Namespace::builder().map("scores", &Options::<u8, u8>::new().max_entries(0));
    assert!(plan.create().unwrap_err().to_string().contains("scores"));
}

/// Keys that a process has chosen which can read the seed. There is room for many others, but not
/// in their bucket.
#[test]
fn map_sixteenth_key_of_a_bucket_is_refused_and_nothing_is_lost() {
    const PARTICIPANTS: usize = 2;
    let test_dir = TestDir::new();
    let options = Options::<u64, [u8]>::new().entries(Entries { count: 1000, bytes: 64 });
    let plan = Namespace::builder().max_participants(PARTICIPANTS).map("map", &options).directory(test_dir.names());
    let namespace = plan.open("name").unwrap();
    let map = namespace.map::<u64, [u8]>("map").unwrap();
    let keys: Vec<u64> = keys_of_one_bucket(&test_dir.names().join("name"), PARTICIPANTS).take(20).collect();
    let (there, refused) = keys.split_at(15);
    let all_are_there = |value: &[u8]| there.iter().all(|key| map.get(key).unwrap().unwrap() == value);
    there.iter().for_each(|key| assert_eq!(map.insert(key, b"first"), Ok(true)));
    for key in refused {
        assert_eq!(
            (map.insert(key, b""), map.update(key, |_| Some(vec![]))),
            (Err(MapError::Full), Err(MapError::Full))
        );
        assert_eq!((map.get(key), map.remove(key)), (Ok(None), Ok(None)));
        assert_eq!(map.compare_exchange(key, None, Some(b"")), Err(MapError::Full));
        assert_eq!(map.get_or_insert_with(key, Vec::new), Err(MapError::Full));
    }
    assert!(all_are_there(b"first"));
    // Those that are there can be changed, the first one as well as the last one.
    there.iter().for_each(|key| assert_eq!(map.insert(key, b"second"), Ok(false)));
    assert!(all_are_there(b"second"));
    for (one, other) in [(14, 15), (0, 16), (7, 17)] {
        assert_eq!(map.remove(&keys[one]), Ok(Some(b"second".to_vec())));
        assert_eq!((map.insert(&keys[other], b"new"), map.len()), (Ok(true), 15));
        assert_eq!(map.insert(&keys[one], b"second"), Err(MapError::Full));
        assert_eq!(map.remove(&keys[other]), Ok(Some(b"new".to_vec())));
        assert_eq!(map.insert(&keys[one], b"second"), Ok(true));
    }
    assert!(all_are_there(b"second"));
    // Other buckets have room, and no block was lost.
    let others: Vec<u64> = (0..).filter(|key| !keys.contains(key)).take(2000).collect();
    let inserted = others.iter().filter(|key| map.insert(key, b"") == Ok(true)).count();
    assert_eq!((inserted, map.len()), (985, 1000));
    assert!(all_are_there(b"second"));
}

/// Values of no bytes: the map is a set.
#[test]
fn map_of_empty_values_is_a_set() {
    let map = Map::new(&Options::<u128, ()>::new().max_entries(3)).unwrap();
    assert_eq!(
        (map.insert(&1, &()), map.insert(&1, &()), map.get(&1), map.get(&2)),
        (Ok(true), Ok(false), Ok(Some(())), Ok(None))
    );
    let unit = Map::new(&Options::<(), ()>::new().max_entries(1)).unwrap();
    assert_eq!((unit.insert(&(), &()), unit.insert(&(), &()), unit.len()), (Ok(true), Ok(false), 1));
}

/// Small entries that are replaced do not move into the blocks of large ones.
#[test]
fn map_small_entries_replaced_room_for_large_ones_stays() {
    let options =
        Options::<u8, [u8]>::new().entries(Entries { count: 8, bytes: 16 }).entries(Entries { count: 2, bytes: 200 });
    let map = Map::new(&options).unwrap();
    (0..8).for_each(|key| assert_eq!(map.insert(&key, b"small"), Ok(true)));
    (0..8).for_each(|key| assert_eq!(map.insert(&key, b"changed"), Ok(false)));
    assert_eq!((map.insert(&8, &[1; 180]), map.insert(&9, &[2; 180])), (Ok(true), Ok(true)));
    assert_eq!(map.insert(&10, &[]), Err(MapError::Full));
}
