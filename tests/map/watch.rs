//! Following one key.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use tombolo::collections::{Map, MapError, map};
use tombolo::select::Selector;

use crate::support::TestDir;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn map_watcher_returns_the_present_value_and_then_each_latest_one() {
    let _watchdog = TestDir::new();
    let map = Map::new(&map::Options::<str, u64>::new()).unwrap();
    let mut watcher = map.watch("a");
    assert_eq!(watcher.key(), "a");
    let mut expect = |value: Option<u64>| {
        assert_eq!(watcher.next_timeout(Duration::ZERO), Ok(value));
        assert_eq!(watcher.next_timeout(Duration::ZERO), Err(MapError::TimedOut));
    };
    expect(None);
    map.insert("a", &1).unwrap();
    expect(Some(1));
    for value in [2, 3, 1] {
        map.insert("a", &value).unwrap();
    }
    assert_eq!(map.watch("a").next().unwrap(), Ok(Some(1)));
    // The watcher has seen 1 already, and has missed what was in between.
    map.insert("a", &4).unwrap();
    expect(Some(4));
    map.remove("a").unwrap();
    expect(None);
}

#[test]
fn map_watcher_waits_until_its_key_changes() {
    let _watchdog = TestDir::new();
    // One bucket, so that the other key shares it.
    let map = Map::new(&map::Options::<str, str>::new().max_entries(1)).unwrap();
    let watched = map.clone();
    let (to_writer, shown) = mpsc::channel();
    let watching = thread::spawn(move || {
        let texts = watched.watch("state").map(Result::unwrap).inspect(|_| to_writer.send(()).unwrap());
        texts.take(4).collect::<Vec<_>>()
    });
    shown.recv().unwrap();
    map.insert("state", "on").unwrap();
    shown.recv().unwrap();
    map.remove("state").unwrap();
    map.insert("other", "on").unwrap();
    shown.recv().unwrap();
    map.remove("other").unwrap();
    map.insert("state", "off").unwrap();
    let texts = watching.join().unwrap();
    assert_eq!(texts, [None, Some("on".to_string()), None, Some("off".to_string())]);
}

#[test]
fn map_watchers_of_several_keys_are_sources_of_a_selector() {
    let _watchdog = TestDir::new();
    let map = Map::new(&map::Options::<str, u64>::new()).unwrap();
    let mut watchers = ["a", "b"].map(|key| map.watch(key));
    for watcher in &mut watchers {
        assert_eq!(watcher.next_timeout(Duration::ZERO), Ok(None));
    }
    let writer = map.clone();
    let writing = thread::spawn(move || {
        writer.insert("c", &1).unwrap();
        writer.insert("b", &2).unwrap();
    });
    let [one, other] = &mut watchers;
    let mut selector = Selector::new();
    assert_eq!(selector.wait_timeout(&mut [one, other], LONG).unwrap(), 1);
    assert_eq!(watchers[1].next_timeout(Duration::ZERO), Ok(Some(2)));
    writing.join().unwrap();
}

#[test]
fn map_watcher_as_a_future_returns_each_change() {
    let _watchdog = TestDir::new();
    let map = Map::new(&map::Options::<u64, [u8]>::new()).unwrap();
    let mut watcher = map.watch(&7);
    futures_lite::future::block_on(async {
        assert_eq!(watcher.next_async().await, Ok(None));
        for value in [&b"one"[..], b"two"] {
            let writer = map.clone();
            let writing = thread::spawn(move || {
                thread::sleep(Duration::from_millis(20));
                writer.insert(&7, value).unwrap();
            });
            assert_eq!(watcher.next_async().await.unwrap().as_deref(), Some(value));
            writing.join().unwrap();
        }
    });
    assert_eq!(watcher.next_timeout(Duration::ZERO), Err(MapError::TimedOut));
}
