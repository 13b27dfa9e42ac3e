//! Waiting for an element, and for a change.

use std::thread;
use std::time::Duration;

use tombolo::collections::{List, ListError, list};

use crate::support::TestDir;

const LONG: Duration = Duration::from_secs(60);

#[test]
fn list_wait_for_element_returns_when_it_is_appended() {
    let _watchdog = TestDir::new();
    let list = List::new(&list::Options::<u64>::new()).unwrap();
    assert_eq!(list.wait_for(1, Duration::ZERO), Err(ListError::TimedOut));
    assert_eq!(list.wait_for(1, Duration::from_millis(30)), Err(ListError::TimedOut));
    let other = list.clone();
    let waiting = thread::spawn(move || other.wait_for(1, LONG));
    thread::sleep(Duration::from_millis(30));
    assert_eq!((list.push(&5), list.push(&6)), (Ok(()), Ok(())));
    assert_eq!(waiting.join().unwrap(), Ok(6));
    assert_eq!(list.wait_for(0, Duration::ZERO), Ok(5));
}

/// A change that others overtake each time. Nothing of it is there.
#[test]
fn list_update_overtaken_each_time_returns_busy() {
    let list = List::new(&list::Options::<u64>::new()).unwrap();
    list.extend_from_slice(&[0, 0]).unwrap();
    let mut calls = 0;
    let updated = list.update(0, |first| {
        calls += 1;
        list.set(1, &calls).unwrap();
        first + 1
    });
    assert_eq!((updated, list.to_vec()), (Err(ListError::Busy), Ok(vec![0, calls])));
    let text = ListError::Busy.to_string();
    assert!(text.contains("try again"), "{text}");
    // The same call works as soon as the others rest.
    assert_eq!((list.update(0, |first| first + 1), list.get(0)), (Ok(()), Ok(Some(1))));
}

#[test]
fn list_wait_for_change_returns_each_kind_of_change() {
    let _watchdog = TestDir::new();
    let list = List::new(&list::Options::<u32>::new()).unwrap();
    list.push(&1).unwrap();
    let mut current = None;
    for next in [Some(2), Some(3), None, Some(4)] {
        assert_eq!(list.wait_for_change(1, current.as_ref(), Duration::ZERO), Err(ListError::TimedOut));
        let other = list.clone();
        let waiting = thread::spawn(move || other.wait_for_change(1, current.as_ref(), LONG));
        thread::sleep(Duration::from_millis(10));
        match (current, next) {
            (Some(_), Some(value)) => list.set(1, &value).unwrap(),
            (None, Some(value)) => list.push(&value).unwrap(),
            (_, None) => drop(list.pop().unwrap()),
        }
        current = waiting.join().unwrap().unwrap();
        assert_eq!(current, next);
    }
}
