//! Sets and counters: maps with one type of values.

use std::collections::BTreeSet;
use std::thread;

use tombolo::collections::{Counter, Map, MapError, Set, counter, map, set};
use tombolo::{ErrorKind, Namespace};

use crate::support::TestDir;

#[test]
fn set_has_each_key_once() {
    let _watchdog = TestDir::new();
    let set = Set::new(&set::Options::<str>::new().max_entries(2)).unwrap();
    assert_eq!((set.insert("a"), set.insert("a"), set.insert("b")), (Ok(true), Ok(false), Ok(true)));
    assert_eq!((set.insert("c"), set.insert("b")), (Err(MapError::Full), Ok(false)));
    assert_eq!((set.contains("a"), set.contains("c")), (Ok(true), Ok(false)));
    assert_eq!(set.iter().collect::<Result<BTreeSet<_>, _>>().unwrap(), set.snapshot().unwrap().into_iter().collect());
    assert_eq!((set.len(), set.capacity()), (2, 2));
    assert_eq!((set.remove("a"), set.remove("a")), (Ok(true), Ok(false)));
    assert_eq!(set.snapshot().unwrap(), ["b"]);
    set.clear().unwrap();
    assert!(set.is_empty());
    assert_eq!(set.as_map().get("b").unwrap(), None);
}

#[test]
fn set_inserted_by_several_one_is_first() {
    let _watchdog = TestDir::new();
    let set = Set::new(&set::Options::<u64>::new()).unwrap();
    let first: usize = thread::scope(|scope| {
        let insert = || (0..500).filter(|key| set.insert(key).unwrap()).count();
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(insert)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap()).sum()
    });
    assert_eq!((first, set.len()), (500, 500));
}

#[test]
fn counter_counts_what_all_add() {
    let _watchdog = TestDir::new();
    let counter = Counter::new(&counter::Options::<u64>::new()).unwrap();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..2000).for_each(|step| _ = counter.add(&(step % 3), 2).unwrap()));
        }
    });
    assert_eq!(counter.iter().map(|entry| entry.unwrap().1).sum::<i64>(), 16_000);
    assert_eq!(counter.most_common(2).unwrap(), [(0, 5336), (1, 5336)]);
    assert_eq!((counter.add(&9, i64::MAX), counter.add(&9, 1)), (Ok(i64::MAX), Ok(i64::MAX)));
    assert_eq!((counter.add(&8, i64::MIN), counter.add(&8, -1)), (Ok(i64::MIN), Ok(i64::MIN)));
    assert_eq!((counter.remove(&9), counter.remove(&9), counter.get(&9)), (Ok(i64::MAX), Ok(0), Ok(0)));
    assert_eq!(counter.most_common(usize::MAX).unwrap().len(), counter.snapshot().unwrap().len());
}

#[test]
fn set_and_counter_in_a_namespace_are_maps_of_their_types() {
    let _watchdog = TestDir::new();
    let plan = Namespace::builder().map("tags", &set::Options::<str>::new());
    let namespace = plan.map("hits", &counter::Options::<str>::new()).create().unwrap();
    namespace.set::<str>("tags").unwrap().insert("red").unwrap();
    namespace.counter::<str>("hits").unwrap().add("/", 3).unwrap();
    let hits: Map<str, i64> = namespace.map("hits").unwrap();
    assert_eq!((hits.get("/"), Counter::from(hits.clone()).get("/")), (Ok(Some(3)), Ok(3)));
    assert_eq!(namespace.set::<str>("hits").unwrap_err().kind(), ErrorKind::WrongType);
    assert_eq!(namespace.counter::<u64>("hits").unwrap_err().kind(), ErrorKind::WrongType);
    let passed = Set::<str>::from_fd(Set::new(&map::Options::<str, ()>::new()).unwrap().share().unwrap()).unwrap();
    assert_eq!(passed.contains("red"), Ok(false));
}
