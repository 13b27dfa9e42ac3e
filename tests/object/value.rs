//! `Value`: stores and loads of whole values, the only writer, waiting for a change.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytemuck::Pod;
use tombolo::Shareable;
use tombolo::sync::{SyncError, Value};

use crate::common::{MOMENT, WAITS, in_other_thread, of_every_size, sample, unwind, unwinds};
use crate::support::TestDir;

fn check_value<T: Pod + Shareable + PartialEq + Debug>() {
    let value = Value::<T>::new(sample(0)).unwrap();
    let other = value.clone();
    assert_eq!((value.load(), value.version()), (Ok(sample(0)), 0));
    for round in 0..10 {
        let number = 4 * round;
        value.store(&sample(number + 1)).unwrap();
        assert_eq!(other.load(), Ok(sample(number + 1)));
        other.try_store(&sample(number + 2)).unwrap();
        assert_eq!(value.load(), Ok(sample(number + 2)));
        value.store_timeout(&sample(number + 3), Duration::ZERO).unwrap();
        let changed = other.update(|value| {
            assert_eq!(*value, sample(number + 3));
            *value = sample(number + 4);
        });
        assert_eq!((changed, value.load()), (Ok(sample(number + 4)), Ok(sample(number + 4))));
        assert_eq!((value.version(), other.version()), (number + 4, number + 4));
    }
    assert_eq!(value.try_update(|value| *value = sample(50)), Ok(sample(50)));
    assert_eq!(value.update_timeout(Duration::MAX, |value| *value = sample(51)), Ok(sample(51)));
    assert_eq!((value.load(), value.version()), (Ok(sample(51)), 42));
}

#[test]
fn value_of_every_size_store_load_round_trips() {
    of_every_size!(check_value);
}

#[test]
fn value_wait_for_change_returns_each_unseen_version() {
    let _watchdog = TestDir::new();
    for wait in WAITS {
        let value = Value::new(1_u32).unwrap().with_wait(wait);
        assert_eq!(value.wait_for_change(Duration::ZERO), Err(SyncError::TimedOut), "it has seen the first one");
        let other = value.clone();
        value.store(&2).unwrap();
        assert_eq!(value.wait_for_change(MOMENT), Err(SyncError::TimedOut), "it was its own store");
        assert_eq!(other.wait_for_change(Duration::ZERO), Ok(2));
        assert_eq!(other.wait_for_change(Duration::ZERO), Err(SyncError::TimedOut), "it has waited for that");
        value.update(|value| *value += 1).unwrap();
        assert_eq!(other.load(), Ok(3));
        assert_eq!(other.wait_for_change(Duration::ZERO), Err(SyncError::TimedOut), "it has loaded that");
        value.store(&3).unwrap();
        assert_eq!(other.wait_for_change(Duration::MAX), Ok(3), "a version of its own, if the same value");
        other.writer().unwrap().store(&5).unwrap();
        other.writer().unwrap().update(|value| *value = 3).unwrap();
        assert_eq!(other.wait_for_change(Duration::ZERO), Err(SyncError::TimedOut), "they were its own stores");
        value.store(&6).unwrap();
        let mut copy = 0;
        assert_eq!((other.load_into(&mut copy), copy), (Ok(()), 6));
        assert_eq!(other.wait_for_change(Duration::ZERO), Err(SyncError::TimedOut), "it has loaded that");
        thread::scope(|scope| {
            let waiting = [(); 3].map(|()| {
                let handle = other.clone();
                scope.spawn(move || handle.wait_for_change(Duration::MAX))
            });
            thread::sleep(MOMENT);
            value.writer().unwrap().store(&4).unwrap();
            for waiting in waiting {
                assert_eq!(waiting.join().unwrap(), Ok(4), "{wait:?}");
            }
        });
    }
}

#[test]
fn value_update_panics_value_unchanged_and_lock_released() {
    let value = Value::new([1_u64; 20]).unwrap();
    unwinds(|| {
        let _ = value.update(|value| {
            *value = [2; 20];
            unwind()
        });
    });
    assert_eq!((value.load(), value.version()), (Ok([1; 20]), 0));
    unwinds(|| {
        let mut writer = value.writer().unwrap();
        writer.store(&[3; 20]).unwrap();
        let _ = writer.update(|value| {
            value[0] = 4;
            unwind()
        });
    });
    assert_eq!(value.load(), Ok([3; 20]), "what was stored before stays");
    assert_eq!(in_other_thread(|| value.try_store(&[5; 20])), Ok(()));
}

#[test]
fn value_writer_held_blocks_writers_not_readers() {
    let _watchdog = TestDir::new();
    let value = Value::new([0_u64; 3]).unwrap();
    let another = value.clone();
    let mut writer = value.writer().unwrap();
    writer.store(&[1; 3]).unwrap();
    assert_eq!(writer.update(|value| value[2] = 2), Ok([1, 1, 2]));
    for handle in [&value, &another] {
        assert_eq!(handle.load(), Ok([1, 1, 2]));
        assert_eq!(handle.store(&[9; 3]), Err(SyncError::WouldDeadlock));
        assert_eq!(handle.try_store(&[9; 3]), Err(SyncError::WouldDeadlock));
        assert_eq!(handle.store_timeout(&[9; 3], Duration::MAX), Err(SyncError::WouldDeadlock));
        assert_eq!(handle.update(|_| unreachable!()), Err(SyncError::WouldDeadlock));
        assert_eq!(handle.try_update(|_| unreachable!()), Err(SyncError::WouldDeadlock));
        assert_eq!(handle.update_timeout(MOMENT, |_| unreachable!()), Err(SyncError::WouldDeadlock));
        assert_eq!(handle.writer().err(), Some(SyncError::WouldDeadlock));
        assert_eq!(handle.try_writer().err(), Some(SyncError::WouldDeadlock));
    }
    in_other_thread(|| {
        assert_eq!(another.load(), Ok([1, 1, 2]));
        assert_eq!(another.try_store(&[9; 3]), Err(SyncError::WouldBlock));
        assert_eq!(another.try_update(|_| unreachable!()), Err(SyncError::WouldBlock));
        assert_eq!(another.try_writer().err(), Some(SyncError::WouldBlock));
        assert_eq!(another.store_timeout(&[9; 3], Duration::ZERO), Err(SyncError::TimedOut));
        assert_eq!(another.update_timeout(MOMENT, |_| unreachable!()), Err(SyncError::TimedOut));
    });
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            another.update(|value| value[0] += 1).unwrap();
            another.writer().map(|mut writer| writer.update(|value| value[1] += 1)).unwrap()
        });
        thread::sleep(MOMENT);
        writer.store(&[5; 3]).unwrap();
        drop(writer);
        assert_eq!(waiting.join().unwrap(), Ok([6, 6, 5]));
    });
    drop(value.try_writer().unwrap());
}

#[test]
fn value_concurrent_writers_readers_see_no_torn_value() {
    const WRITERS: u64 = 2;
    const EACH: u64 = 20_000;
    let _watchdog = TestDir::new();
    let value = Value::new([0_u64; 40]).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers = [(); 2].map(|()| {
            let (value, done) = (value.clone(), &done);
            scope.spawn(move || {
                let mut last = 0;
                while !done.load(Ordering::SeqCst) {
                    let seen = value.load().unwrap();
                    assert!(seen.iter().all(|&word| word == seen[0]), "torn: {seen:?}");
                    assert!(seen[0] >= last, "{} after {last}", seen[0]);
                    last = seen[0];
                }
            })
        });
        let writers: Vec<_> = (0..WRITERS)
            .map(|number| {
                let value = value.clone();
                scope.spawn(move || {
                    for round in 0..EACH {
                        match (number + round) % 3 {
                            0 => drop(value.writer().unwrap().update(|value| *value = [value[0] + 1; 40]).unwrap()),
                            _ => drop(value.update(|value| *value = [value[0] + 1; 40]).unwrap()),
                        }
                    }
                })
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        done.store(true, Ordering::SeqCst);
        readers.into_iter().for_each(|reader| reader.join().unwrap());
    });
    assert_eq!((value.load(), value.version()), (Ok([WRITERS * EACH; 40]), WRITERS * EACH));
}
