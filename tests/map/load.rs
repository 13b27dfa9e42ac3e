//! Honest processes that change a map all the time: what others get then.

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, SyncSender};
use std::thread;

use tombolo::Shareable;
use tombolo::collections::map::Options;
use tombolo::collections::{Map, MapError};
use tombolo::types::Shape;

/// A value whose check lets another thread change the map.
#[derive(Clone, Copy, Debug, PartialEq)]
#[repr(transparent)]
struct Checked(u64);

static OTHER: Mutex<Option<(SyncSender<()>, Receiver<()>)>> = Mutex::new(None);

// SAFETY: it is a `u64`.
unsafe impl Shareable for Checked {
    type Bits = u64;

    const SHAPE: &'static Shape = u64::SHAPE;
    const ANY_BITS: bool = false;

    fn is_valid(_: &u64) -> bool {
        if let Some((ask, answered)) = &*OTHER.lock().unwrap() {
            ask.send(()).unwrap();
            answered.recv().unwrap();
        }
        true
    }
}

/// The bucket is changed during each attempt, as it is while a long value is copied.
#[test]
fn map_get_always_overtaken_is_not_corrupt() {
    let map = Map::new(&Options::<u8, Checked>::new().max_entries(1)).unwrap();
    map.insert(&1, &Checked(1)).unwrap();
    let (ask, asked) = mpsc::sync_channel(0);
    let (answer, answered) = mpsc::sync_channel(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for () in asked {
                map.insert(&1, &Checked(2)).unwrap();
                answer.send(()).unwrap();
            }
        });
        *OTHER.lock().unwrap() = Some((ask, answered));
        let outcome = map.get(&1);
        *OTHER.lock().unwrap() = None;
        assert_ne!(outcome, Err(MapError::Corrupt));
    });
}

/// Another thread is faster each time: the call ends, and the map is as it was.
#[test]
fn map_update_always_overtaken_is_not_corrupt() {
    let map = Map::new(&Options::<u8, u64>::new().max_entries(1)).unwrap();
    map.insert(&1, &0).unwrap();
    let (ask, asked) = mpsc::sync_channel(0);
    let (answer, answered) = mpsc::sync_channel(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for () in asked {
                answer.send(map.insert(&1, &7)).unwrap();
            }
        });
        let outcome = map.update(&1, |value| {
            ask.send(()).unwrap();
            answered.recv().unwrap().unwrap();
            value
        });
        drop(ask);
        assert_ne!(outcome, Err(MapError::Corrupt));
    });
}

/// A full map: an entry that is there can be replaced.
#[test]
fn map_full_replaced_by_many_threads_is_never_full() {
    let map = Map::new(&Options::<u8, u64>::new().max_entries(1)).unwrap();
    map.insert(&1, &0).unwrap();
    thread::scope(|scope| {
        let replace = |number: u64| {
            let map = &map;
            move || (0..20_000).filter_map(|step| map.insert(&1, &(number + step)).err()).collect::<Vec<_>>()
        };
        let threads: Vec<_> = (0..6).map(|number| scope.spawn(replace(number))).collect();
        for thread in threads {
            assert_eq!(thread.join().unwrap(), []);
        }
    });
}

/// There are two places and two keys.
#[test]
fn map_with_room_while_others_replace_is_never_full() {
    let map = Map::new(&Options::<u8, u64>::new().max_entries(2)).unwrap();
    map.insert(&1, &0).unwrap();
    let is_done = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                while !is_done.load(Ordering::Relaxed) {
                    let _ = map.insert(&1, &7);
                }
            });
        }
        let outcomes: Vec<_> = (0..20_000)
            .filter_map(|step| {
                let outcome = map.insert(&2, &step).err();
                let _ = map.remove(&2);
                outcome
            })
            .collect();
        is_done.store(true, Ordering::Relaxed);
        assert!(outcomes.is_empty(), "{} times {:?}", outcomes.len(), outcomes.first());
    });
}
