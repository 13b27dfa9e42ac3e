//! `Array`: elements, sections under the lock, snapshots.

use std::fmt::Debug;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use bytemuck::Pod;
use tombolo::Shareable;
use tombolo::sync::{Array, SyncError};
use tombolo::{ErrorKind, Namespace};

use crate::common::{Line, MOMENT, in_other_thread, refusal, sample};
use crate::support::{Random, TestDir, until};

/// Compares an array with a vector after the same random operations on both.
fn check_array<T: Pod + Shareable + PartialEq + Debug>(length: usize) {
    let mut random = Random(0xA88A + (size_of::<T>() * 1000 + length) as u64);
    let mut model: Vec<T> = (0..length as u64).map(sample).collect();
    let array = Array::new(&model).unwrap();
    let other = array.clone();
    assert!(array.len() == length && !array.is_empty());
    for step in 0..300 {
        let index = random.below(length as u64) as usize;
        let count = random.below((length - index) as u64 + 1) as usize;
        let range = index..index + count;
        let fresh: Vec<T> = (0..count as u64).map(|number| sample(step * 1000 + number)).collect();
        let mut found = vec![sample(77); count];
        match random.below(8) {
            0 => {
                model[index] = sample(step);
                array.set(index, sample(step)).unwrap();
            }
            1 => assert_eq!(array.get(index), Ok(model[index])),
            2 => {
                model[range.clone()].copy_from_slice(&fresh);
                array.store_from(index, &fresh).unwrap();
            }
            3 => {
                array.load_into(index, &mut found).unwrap();
                assert_eq!(found, model[range.clone()]);
            }
            4 => {
                model[range.clone()].copy_from_slice(&fresh);
                let mut section = array.lock().unwrap();
                section.store_from(index, &fresh).unwrap();
                section.load_into(index, &mut found).unwrap();
                assert_eq!((section.to_vec(), found), (Ok(model.clone()), fresh));
                assert!(section.len() == length && !section.is_empty());
            }
            5 => {
                model[index] = sample(step);
                let mut section = array.try_lock().unwrap();
                section.set(index, sample(step)).unwrap();
                assert_eq!(section.get(index), Ok(model[index]));
            }
            6 => assert!(array.iter().eq(model.iter().copied())),
            _ => assert_eq!(array.snapshot().unwrap(), model),
        }
        assert_eq!(other.to_vec().unwrap(), model, "{} bytes, {count} elements from {index} on", size_of::<T>());
    }
    check_bounds(&array, &model);
}

fn check_bounds<T: Pod + Shareable + PartialEq + Debug>(array: &Array<T>, model: &[T]) {
    let length = model.len();
    let mut found = vec![sample(1); 2];
    let outside = |index: usize| Err(SyncError::OutOfBounds { index, length });
    let whole: Vec<T> = vec![sample(2); length + 1];
    let mut section = array.lock().unwrap();
    for index in [length, length + 1, usize::MAX] {
        assert_eq!(section.get(index).map(drop), outside(index));
        assert_eq!(section.set(index, sample(3)), outside(index));
    }
    assert_eq!(section.load_into(length - 1, &mut found), outside(length + 1));
    assert_eq!(section.store_from(0, &whole), outside(length + 1));
    assert_eq!(section.store_from(usize::MAX, &whole), outside(usize::MAX));
    assert_eq!((section.store_from(length, &[]), section.load_into(length, &mut [])), (Ok(()), Ok(())));
    drop(section);
    for index in [length, length + 1, usize::MAX] {
        assert_eq!(array.get(index).map(drop), outside(index));
        assert_eq!(array.set(index, sample(3)), outside(index));
    }
    assert_eq!(array.load_into(length - 1, &mut found), outside(length + 1));
    assert_eq!(array.load_into(usize::MAX, &mut found), outside(usize::MAX));
    assert_eq!(array.store_from(1, &whole[1..]), outside(length + 1));
    assert_eq!(array.store_from(length + 1, &[]), outside(length + 1));
    assert_eq!((array.store_from(length, &[]), array.load_into(length, &mut [])), (Ok(()), Ok(())));
    assert_eq!(array.to_vec().unwrap(), model, "nothing was changed");
    assert_eq!(found, [sample(1); 2]);
}

#[test]
fn array_random_operations_match_vec() {
    for length in [1, 2, 7, 8, 9, 37] {
        check_array::<u8>(length);
        check_array::<[u8; 2]>(length);
        check_array::<u16>(length);
        check_array::<f32>(length);
        check_array::<u64>(length);
        check_array::<[u8; 3]>(length);
        check_array::<[u32; 3]>(length);
        check_array::<[u8; 64]>(length);
        check_array::<Line>(length);
    }
    check_array::<[u8; 100]>(5);
    check_array::<[u8; 4096]>(3);
}

#[test]
fn array_of_length_zero_is_refused() {
    let error = Array::<u32>::new(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("length"), "{error}");
    let builder = Namespace::builder().array_zeroed::<u64>("a", 0);
    assert_eq!(builder.create().unwrap_err().kind(), ErrorKind::InvalidOptions);
    let zeros = Namespace::builder().array_zeroed::<[u32; 3]>("a", 1001).create().unwrap().array("a").unwrap();
    assert_eq!(zeros.to_vec(), Ok(vec![[0_u32; 3]; 1001]));
}

#[test]
fn array_locked_locking_calls_wait_plain_reads_do_not() {
    let _watchdog = TestDir::new();
    let (short, wide) = (Array::new(&[1_u8, 2, 3]).unwrap(), Array::new(&[[1_u32; 3]; 3]).unwrap());
    let (mut short_section, mut wide_section) = (short.lock().unwrap(), wide.lock().unwrap());
    assert_eq!(refusal(short.lock()), SyncError::WouldDeadlock);
    assert_eq!(refusal(short.try_lock()), SyncError::WouldDeadlock);
    assert_eq!(refusal(short.lock_timeout(Duration::MAX)), SyncError::WouldDeadlock);
    assert_eq!(short.snapshot(), Err(SyncError::WouldDeadlock));
    assert_eq!(short.store_from(0, &[9]), Err(SyncError::WouldDeadlock));
    assert_eq!(wide.set(0, [9; 3]), Err(SyncError::WouldDeadlock));
    assert_eq!((short.set(0, 7), short.get(0), wide.get(0)), (Ok(()), Ok(7), Ok([1; 3])), "these take no lock");
    in_other_thread(|| {
        assert_eq!(refusal(short.try_lock()), SyncError::WouldBlock);
        assert_eq!(refusal(short.lock_timeout(Duration::ZERO)), SyncError::TimedOut);
        assert_eq!(refusal(wide.lock_timeout(MOMENT)), SyncError::TimedOut);
        assert_eq!((short.set(1, 8), short.to_vec()), (Ok(()), Ok(vec![7, 8, 3])));
        assert_eq!(wide.to_vec(), Ok(vec![[1; 3]; 3]));
    });
    thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let seen = short.snapshot().unwrap();
            wide.set(1, [5; 3]).unwrap();
            wide.store_from(2, &[[6; 3]]).unwrap();
            (seen, wide.snapshot().unwrap())
        });
        thread::sleep(MOMENT);
        short_section.set(2, 9).unwrap();
        wide_section.set(0, [4; 3]).unwrap();
        drop((short_section, wide_section));
        assert_eq!(waiting.join().unwrap(), (vec![7, 8, 9], vec![[4; 3], [5; 3], [6; 3]]));
    });
    drop(short.lock_timeout(Duration::MAX).unwrap());
}

/// Moves amounts between elements under the lock; each snapshot must have the same sum.
fn check_sections<T: Pod + Shareable + PartialEq + Debug>(
    of: impl Fn(u8) -> T + Sync,
    number: impl Fn(T) -> u8 + Sync,
) {
    const LENGTH: usize = 13;
    let array = Array::new(&[of(10); LENGTH]).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let movers: Vec<_> = (0..2)
            .map(|seed| {
                let (array, of, number) = (&array, &of, &number);
                scope.spawn(move || {
                    let mut random = Random(seed + 1);
                    for _ in 0..3000 {
                        let [from, to] = [(); 2].map(|()| random.below(LENGTH as u64) as usize);
                        let mut section = array.lock().unwrap();
                        let left = number(section.get(from).unwrap());
                        if left > 0 {
                            section.set(from, of(left - 1)).unwrap();
                            let there = number(section.get(to).unwrap());
                            section.set(to, of(there + 1)).unwrap();
                        }
                    }
                })
            })
            .collect();
        scope.spawn(|| {
            while !done.load(Ordering::SeqCst) {
                let sum: u32 = array.snapshot().unwrap().into_iter().map(|value| u32::from(number(value))).sum();
                assert_eq!(sum, 10 * LENGTH as u32, "a section seen in part");
            }
        });
        movers.into_iter().for_each(|mover| mover.join().unwrap());
        done.store(true, Ordering::SeqCst);
    });
    // A snapshot sees all of a `store_from`, or nothing.
    array.store_from(0, &[of(0); LENGTH]).unwrap();
    thread::scope(|scope| {
        let storing =
            scope.spawn(|| (1..3000).for_each(|round: u32| array.store_from(0, &[of(round as u8); LENGTH]).unwrap()));
        until(|| {
            let seen = array.snapshot().unwrap();
            assert!(seen.iter().all(|value| *value == seen[0]), "a store seen in part: {seen:?}");
            storing.is_finished()
        });
    });
}

#[test]
fn array_snapshot_sees_whole_sections() {
    let _watchdog = TestDir::new();
    check_sections(|number| number, |value| value);
    check_sections(|number| [number; 3], |value| value[2]);
    check_sections(u64::from, |value| value as u8);
    check_sections(|number| [u32::from(number); 3], |value| value[1] as u8);
}

#[test]
fn array_elements_in_one_word_concurrent_sets_are_independent() {
    const THREADS: usize = 4;
    let (bytes, pairs) = (Array::new(&[0_u8; 8]).unwrap(), Array::new(&[0_u16; 4]).unwrap());
    thread::scope(|scope| {
        for own in 0..THREADS {
            let (bytes, pairs) = (&bytes, &pairs);
            scope.spawn(move || {
                for round in 0..20_000_u16 {
                    bytes.set(2 * own, round as u8).unwrap();
                    pairs.set(own, round).unwrap();
                    assert_eq!((bytes.get(2 * own), pairs.get(own)), (Ok(round as u8), Ok(round)));
                }
            });
        }
    });
    assert!(bytes.iter().skip(1).step_by(2).all(|byte| byte == 0));
}

/// Elements wider than a word are read whole without the lock.
#[test]
fn array_element_concurrent_set_get_is_not_torn() {
    let _watchdog = TestDir::new();
    let array = Array::new(&[[0_u64; 20]; 3]).unwrap();
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        let setting = scope.spawn(|| {
            for round in 0..20_000 {
                array.set(1, [round; 20]).unwrap();
            }
        });
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::SeqCst) {
                    let seen = array.get(1).unwrap();
                    assert!(seen.iter().all(|&word| word == seen[0]), "torn: {seen:?}");
                }
            });
        }
        setting.join().unwrap();
        done.store(true, Ordering::SeqCst);
    });
    assert_eq!(array.to_vec().unwrap(), [[0; 20], [19_999; 20], [0; 20]]);
}
