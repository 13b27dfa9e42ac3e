//! The objects of namespaces within one process: values, numbers, arrays, locks, permits, meetings, and their names.

mod support;

use std::cell::RefCell;
use std::fmt::Debug;
use std::mem::forget;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::LazyLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytemuck::{Pod, Zeroable};
use support::{Process, Random, Sandbox, command, message, parts, until};
use tombolo::{
    Abandoned, Array, ArrayGuard, AtomicValue, Barrier, BarrierWaitResult, BoundedSemaphore, Condvar,
    DIRECTORY_VARIABLE, Directory, End, Error, ErrorKind, Event, LockError, LockResult, Mutex, MutexGuard, Namespace,
    NamespaceBuilder, Object, ObjectKind, Once, Permit, PipeOptions, Queue, QueueOptions, QueueSender, RecvError,
    ReentrantMutex, ReentrantMutexGuard, RwLock, RwLockReadGuard, RwLockWriteGuard, Semaphore, SendError, Standing,
    SyncError, Value, ValueWriter, Wait,
};

parts!(name_single_objects);

const NAME: &str = "name";
const MOMENT: Duration = Duration::from_millis(30);
const WAITS: [Wait; 3] = [Wait::Spin, Wait::SpinThenPark, Wait::Park];

/// In another thread, to its end.
fn elsewhere<R: Send>(action: impl FnOnce() -> R + Send) -> R {
    thread::scope(|scope| scope.spawn(action).join().unwrap())
}

fn refusal<G: Debug>(result: LockResult<G>) -> SyncError {
    match result {
        Err(LockError::Refused(error)) => error,
        other => panic!("not refused: {other:?}"),
    }
}

fn poisoned<G: Debug>(result: LockResult<G>) -> G {
    match result {
        Err(LockError::Poisoned(guard)) => guard,
        other => panic!("not poisoned: {other:?}"),
    }
}

/// A panic that nobody needs to read about.
fn unwind() -> ! {
    resume_unwind(Box::new(()))
}

fn unwinds(action: impl FnOnce()) {
    assert!(catch_unwind(AssertUnwindSafe(action)).is_err());
}

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C, align(64))]
struct Line([u64; 8]);

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C, align(128))]
struct LinePair([u64; 16]);

#[derive(Clone, Copy, Debug, PartialEq, Pod, Zeroable)]
#[repr(C, align(256))]
struct TooAligned([u64; 32]);

/// One of many values of a type.
fn sample<T: Pod>(number: u64) -> T {
    bytemuck::pod_read_unaligned(&message(number, size_of::<T>()))
}

macro_rules! of_every_size {
    ($check:ident) => {
        $check::<[u8; 1]>();
        $check::<[u8; 3]>();
        $check::<u64>();
        $check::<[u8; 8]>();
        $check::<[u32; 3]>();
        $check::<[u8; 24]>();
        $check::<[u64; 8]>();
        $check::<[u8; 100]>();
        $check::<[u8; 4096]>();
        $check::<Line>();
        $check::<LinePair>();
    };
}

// ---- values ----------------------------------------------------------------------------------------------------------

fn check_value<T: Pod + PartialEq + Debug>() {
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
    assert_eq!(value.update_timeout(|value| *value = sample(51), Duration::MAX), Ok(sample(51)));
    assert_eq!((value.load(), value.version()), (Ok(sample(51)), 42));
}

#[test]
fn values_of_every_size_are_stored_whole() {
    of_every_size!(check_value);
}

#[test]
fn a_value_of_nothing_or_of_too_much_alignment_cannot_be() {
    let errors = [
        Value::new(()).map(drop).unwrap_err(),
        Array::new(&[(); 3]).map(drop).unwrap_err(),
        Value::new(TooAligned([0; 32])).map(drop).unwrap_err(),
        Mutex::new(TooAligned([0; 32])).map(drop).unwrap_err(),
        RwLock::new(TooAligned([0; 32])).map(drop).unwrap_err(),
        Array::new(&[TooAligned([0; 32])]).map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "{error}");
    }
}

#[test]
fn a_handle_waits_for_another_version_than_it_has_seen() {
    let _watchdog = Sandbox::new();
    for wait in WAITS {
        let value = Value::new(1_u32).unwrap().with_wait(wait);
        assert_eq!(value.wait_changed(Duration::ZERO), Err(SyncError::TimedOut), "it has seen the first one");
        let other = value.clone();
        value.store(&2).unwrap();
        assert_eq!(value.wait_changed(MOMENT), Err(SyncError::TimedOut), "it was its own store");
        assert_eq!(other.wait_changed(Duration::ZERO), Ok(2));
        assert_eq!(other.wait_changed(Duration::ZERO), Err(SyncError::TimedOut), "it has waited for that");
        value.update(|value| *value += 1).unwrap();
        assert_eq!(other.load(), Ok(3));
        assert_eq!(other.wait_changed(Duration::ZERO), Err(SyncError::TimedOut), "it has loaded that");
        value.store(&3).unwrap();
        assert_eq!(other.wait_changed(Duration::MAX), Ok(3), "a version of its own, if the same value");
        other.writer().unwrap().store(&5).unwrap();
        other.writer().unwrap().update(|value| *value = 3).unwrap();
        assert_eq!(other.wait_changed(Duration::ZERO), Err(SyncError::TimedOut), "they were its own stores");
        value.store(&6).unwrap();
        let mut copy = 0;
        assert_eq!((other.load_into(&mut copy), copy), (Ok(()), 6));
        assert_eq!(other.wait_changed(Duration::ZERO), Err(SyncError::TimedOut), "it has loaded that");
        thread::scope(|scope| {
            let waiting = [(); 3].map(|()| {
                let handle = other.clone();
                scope.spawn(move || handle.wait_changed(Duration::MAX))
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
fn a_panic_in_an_update_leaves_the_value_and_the_turn() {
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
    assert_eq!(elsewhere(|| value.try_store(&[5; 20])), Ok(()));
}

#[test]
fn the_only_writer_keeps_the_others_waiting_and_readers_going() {
    let _watchdog = Sandbox::new();
    let value = Value::new([0_u64; 3]).unwrap();
    let another = value.clone();
    let mut writer = value.writer().unwrap();
    writer.store(&[1; 3]).unwrap();
    assert_eq!(writer.update(|value| value[2] = 2), Ok([1, 1, 2]));
    for handle in [&value, &another] {
        assert_eq!(handle.load(), Ok([1, 1, 2]));
        assert_eq!(handle.store(&[9; 3]), Err(SyncError::Relocked));
        assert_eq!(handle.try_store(&[9; 3]), Err(SyncError::Relocked));
        assert_eq!(handle.store_timeout(&[9; 3], Duration::MAX), Err(SyncError::Relocked));
        assert_eq!(handle.update(|_| unreachable!()), Err(SyncError::Relocked));
        assert_eq!(handle.try_update(|_| unreachable!()), Err(SyncError::Relocked));
        assert_eq!(handle.update_timeout(|_| unreachable!(), MOMENT), Err(SyncError::Relocked));
        assert_eq!(handle.writer().err(), Some(SyncError::Relocked));
        assert_eq!(handle.try_writer().err(), Some(SyncError::Relocked));
    }
    elsewhere(|| {
        assert_eq!(another.load(), Ok([1, 1, 2]));
        assert_eq!(another.try_store(&[9; 3]), Err(SyncError::WouldBlock));
        assert_eq!(another.try_update(|_| unreachable!()), Err(SyncError::WouldBlock));
        assert_eq!(another.try_writer().err(), Some(SyncError::WouldBlock));
        assert_eq!(another.store_timeout(&[9; 3], Duration::ZERO), Err(SyncError::TimedOut));
        assert_eq!(another.update_timeout(|_| unreachable!(), MOMENT), Err(SyncError::TimedOut));
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
fn readers_see_whole_values_however_fast_they_are_written() {
    const WRITERS: u64 = 2;
    const EACH: u64 = 20_000;
    let _watchdog = Sandbox::new();
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

// ---- numbers ---------------------------------------------------------------------------------------------------------

macro_rules! check_integers {
    ($($integer:ident)*) => { $({
        let mut random = Random(0xACE + size_of::<$integer>() as u64);
        let number = AtomicValue::<$integer>::new($integer::MAX).unwrap();
        let other = number.clone();
        assert_eq!((number.fetch_add(1), other.load()), ($integer::MAX, $integer::MIN));
        assert_eq!((number.fetch_sub(1), other.load()), ($integer::MIN, $integer::MAX));
        let mut model = $integer::MAX;
        for _ in 0..2000 {
            let operand = match random.below(6) {
                0 => $integer::MAX,
                1 => $integer::MIN,
                2 => model,
                _ => random.next() as $integer,
            };
            let before = model;
            let answer = match random.below(11) {
                0 => { model = model.wrapping_add(operand); number.fetch_add(operand) }
                1 => { model = model.wrapping_sub(operand); number.fetch_sub(operand) }
                2 => { model &= operand; number.fetch_and(operand) }
                3 => { model |= operand; number.fetch_or(operand) }
                4 => { model ^= operand; number.fetch_xor(operand) }
                5 => { model = model.max(operand); number.fetch_max(operand) }
                6 => { model = model.min(operand); number.fetch_min(operand) }
                7 => { model = operand; number.swap(operand) }
                8 => { number.store(operand); model = operand; before }
                9 => {
                    assert_eq!(number.compare_exchange(before.wrapping_add(1), operand), Err(before));
                    assert_eq!(number.fetch_update(|_| None), Err(before));
                    model = operand;
                    number.compare_exchange(before, operand).unwrap()
                }
                _ => {
                    model = model.wrapping_mul(3);
                    number.fetch_update(|value| Some(value.wrapping_mul(3))).unwrap()
                }
            };
            assert_eq!((answer, other.load()), (before, model));
        }
    })* };
}

#[test]
fn integers_of_every_width_behave_as_their_types_do() {
    check_integers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);
}

macro_rules! check_floats {
    ($($float:ident)*) => { $({
        let number = AtomicValue::<$float>::new(1.5).unwrap();
        assert_eq!((number.fetch_add(0.25), number.fetch_sub(2.0), number.load()), (1.5, 1.75, -0.25));
        assert_eq!((number.fetch_max(3.0), number.fetch_max(2.0), number.load()), (-0.25, 3.0, 3.0));
        assert_eq!((number.fetch_min(-1.0), number.fetch_min(2.0), number.load()), (3.0, -1.0, -1.0));
        assert_eq!((number.fetch_max($float::NAN), number.fetch_min($float::NAN)), (-1.0, -1.0));
        assert_eq!(number.swap($float::INFINITY), -1.0);
        assert_eq!(number.compare_exchange($float::NEG_INFINITY, 0.0), Err($float::INFINITY));
        assert_eq!(number.compare_exchange($float::INFINITY, 0.0), Ok($float::INFINITY));
        assert_eq!(number.compare_exchange(-0.0, 1.0), Err(0.0), "bit by bit");
        number.store($float::NAN);
        assert!(number.load().is_nan());
        let other_nan = $float::from_bits($float::NAN.to_bits() ^ 1);
        assert!(number.compare_exchange(other_nan, 1.0).is_err_and($float::is_nan));
        assert!(number.compare_exchange($float::NAN, 1.0).is_ok_and($float::is_nan));
        assert_eq!(number.fetch_update(|value| Some(value / 4.0)), Ok(1.0));
        assert_eq!(number.fetch_update(|_| None), Err(0.25));
        assert_eq!(number.load(), 0.25);
    })* };
}

#[test]
fn floats_are_compared_bit_by_bit() {
    check_floats!(f32 f64);
}

#[test]
fn threads_lose_no_step_of_a_number() {
    const EACH: usize = 20_000;
    let (long, short, float) =
        (AtomicValue::new(0_i64).unwrap(), AtomicValue::new(0_u8).unwrap(), AtomicValue::new(0.0_f32).unwrap());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    long.fetch_sub(2);
                    short.fetch_add(3);
                    float.fetch_add(1.0);
                }
            });
        }
    });
    assert_eq!((long.load(), short.load()), (-6 * EACH as i64, (9 * EACH) as u8));
    assert_eq!(float.load(), 3.0 * EACH as f32);
}

// ---- arrays ----------------------------------------------------------------------------------------------------------

/// Does the same to an array and to a vector, and finds them the same.
fn check_array<T: Pod + PartialEq + Debug>(length: usize) {
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
        assert_eq!(other.to_vec().unwrap(), model, "{} bytes, {index} and {count} on", size_of::<T>());
    }
    check_bounds(&array, &model);
}

fn check_bounds<T: Pod + PartialEq + Debug>(array: &Array<T>, model: &[T]) {
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
fn arrays_of_every_element_behave_as_vectors_do() {
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
fn an_array_has_an_element_at_least() {
    let error = Array::<u32>::new(&[]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidOptions);
    assert!(error.to_string().contains("length"), "{error}");
    let builder = Namespace::builder().zeroed_array::<u64>("a", 0);
    assert_eq!(builder.anonymous().unwrap_err().kind(), ErrorKind::InvalidOptions);
    let zeros = Namespace::builder().zeroed_array::<[u32; 3]>("a", 1001).anonymous().unwrap().array("a").unwrap();
    assert_eq!(zeros.to_vec(), Ok(vec![[0_u32; 3]; 1001]));
}

#[test]
fn a_section_keeps_others_out_of_what_takes_the_lock() {
    let _watchdog = Sandbox::new();
    let (short, wide) = (Array::new(&[1_u8, 2, 3]).unwrap(), Array::new(&[[1_u32; 3]; 3]).unwrap());
    let (mut short_section, mut wide_section) = (short.lock().unwrap(), wide.lock().unwrap());
    assert_eq!(refusal(short.lock()), SyncError::Relocked);
    assert_eq!(refusal(short.try_lock()), SyncError::Relocked);
    assert_eq!(refusal(short.lock_timeout(Duration::MAX)), SyncError::Relocked);
    assert_eq!(short.snapshot(), Err(SyncError::Relocked));
    assert_eq!(short.store_from(0, &[9]), Err(SyncError::Relocked));
    assert_eq!(wide.set(0, [9; 3]), Err(SyncError::Relocked));
    assert_eq!((short.set(0, 7), short.get(0), wide.get(0)), (Ok(()), Ok(7), Ok([1; 3])), "these take no lock");
    elsewhere(|| {
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

/// Moves what is in one element to another, in sections; the sum stays.
fn check_sections<T: Pod + PartialEq + Debug>(of: impl Fn(u8) -> T + Sync, number: impl Fn(T) -> u8 + Sync) {
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
    // What is stored together is seen together.
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
fn snapshots_see_sections_in_full_or_not_at_all() {
    let _watchdog = Sandbox::new();
    check_sections(|number| number, |value| value);
    check_sections(|number| [number; 3], |value| value[2]);
    check_sections(u64::from, |value| value as u8);
    check_sections(|number| [u32::from(number); 3], |value| value[1] as u8);
}

#[test]
fn elements_that_share_a_word_do_not_disturb_each_other() {
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

/// The elements wider than a word are whole without any lock.
#[test]
fn each_element_is_read_whole() {
    let _watchdog = Sandbox::new();
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

// ---- mutexes ---------------------------------------------------------------------------------------------------------

fn check_mutex<T: Pod + PartialEq + Debug + Send>() {
    let mutex = Mutex::<T>::new(sample(0)).unwrap();
    for number in 0..6 {
        assert_eq!(*mutex.lock().unwrap(), sample(number));
        *mutex.try_lock().unwrap() = sample(99);
        *mutex.lock_timeout(Duration::ZERO).unwrap() = sample(number + 1);
        let mut guard = mutex.lock().unwrap();
        *guard = sample(98);
        guard.discard();
        unwinds(|| {
            *mutex.lock_timeout(Duration::MAX).unwrap() = sample(97);
            let mut guard = mutex.lock().unwrap();
            *guard = sample(96);
            drop(guard);
            *mutex.lock().unwrap() = sample(number + 1);
            let mut guard = mutex.lock().unwrap();
            *guard = sample(95);
            unwind()
        });
    }
    assert_eq!(elsewhere(|| *mutex.lock().unwrap()), sample(6));
    assert!(!mutex.is_locked());
}

#[test]
fn a_guard_commits_what_was_changed_unless_told_otherwise() {
    check_mutex::<()>();
    of_every_size!(check_mutex);
}

#[test]
fn a_guard_that_is_made_while_unwinding_commits() {
    struct Account<'a>(&'a Mutex<u64>, &'a RwLock<u64>);
    impl Drop for Account<'_> {
        fn drop(&mut self) {
            *self.0.lock().unwrap() += 1;
            *self.1.write().unwrap() += 1;
        }
    }
    let (mutex, lock) = (Mutex::new(0).unwrap(), RwLock::new(0).unwrap());
    unwinds(|| {
        let _account = Account(&mutex, &lock);
        unwind()
    });
    assert_eq!((*mutex.lock().unwrap(), *lock.read().unwrap()), (1, 1));
}

#[test]
fn locking_again_in_the_same_thread_is_refused_whatever_the_handle() {
    let namespace = Namespace::builder().mutex(NAME, 0_u8).mutex("other", 0_u8).anonymous().unwrap();
    let [first, second] = [(); 2].map(|()| namespace.mutex::<u8>(NAME).unwrap());
    let guard = first.lock().unwrap();
    for handle in [&first, &second, &first.clone()] {
        assert_eq!(refusal(handle.lock()), SyncError::Relocked);
        assert_eq!(refusal(handle.try_lock()), SyncError::Relocked);
        assert_eq!(refusal(handle.lock_timeout(Duration::ZERO)), SyncError::Relocked);
        assert!(handle.is_locked());
    }
    assert_eq!(elsewhere(|| refusal(second.try_lock())), SyncError::WouldBlock);
    drop(namespace.mutex::<u8>("other").unwrap().lock().unwrap());
    drop(guard);
    drop(second.lock().unwrap());
}

#[test]
fn a_lock_whose_guard_was_leaked_can_be_given_back_by_its_thread() {
    let mutex = Mutex::new(1_u32).unwrap();
    assert_eq!(mutex.unlock(), Err(SyncError::NotOwner));
    let mut guard = mutex.lock().unwrap();
    *guard = 2;
    guard.leak();
    assert!(mutex.is_locked());
    assert_eq!(elsewhere(|| mutex.unlock()), Err(SyncError::NotOwner));
    assert_eq!(refusal(mutex.lock()), SyncError::Relocked);
    assert_eq!(mutex.unlock(), Ok(()));
    assert!(!mutex.is_locked());
    assert_eq!(mutex.unlock(), Err(SyncError::NotOwner));
    assert_eq!(*mutex.lock().unwrap(), 2, "what was changed was committed");

    mutex.lock().unwrap().poison();
    poisoned(mutex.lock()).leak();
    assert_eq!(mutex.unlock(), Ok(()));
    poisoned(mutex.lock()).heal();
    drop(mutex.lock().unwrap());
}

#[test]
fn what_a_guard_said_of_the_lock_holds_when_it_is_leaked() {
    let mutex = Mutex::new(1_u32).unwrap();
    let mut guard = mutex.lock().unwrap();
    guard.poison();
    guard.leak();
    assert_eq!(mutex.unlock(), Ok(()));
    let mut guard = poisoned(mutex.lock());
    guard.heal();
    guard.leak();
    assert_eq!(mutex.unlock(), Ok(()));
    drop(mutex.lock().unwrap());
}

#[test]
fn a_lock_cannot_be_given_back_behind_its_guard() {
    let mutex = Mutex::new(1_u32).unwrap();
    let mut guard = mutex.lock().unwrap();
    assert_eq!(mutex.unlock(), Err(SyncError::NotOwner));
    assert!(elsewhere(|| mutex.try_lock().is_err()));
    *guard = 2;
    drop(guard);
    assert_eq!(*mutex.lock().unwrap(), 2);

    let mutex = ReentrantMutex::new(1_u32).unwrap();
    let guard = mutex.lock().unwrap();
    mutex.lock().unwrap().leak();
    assert_eq!(mutex.unlock(), Ok(()));
    assert_eq!(mutex.unlock(), Err(SyncError::NotOwner), "this one has a guard");
    assert!(elsewhere(|| mutex.try_lock().is_err()));
    drop(guard);
    assert!(elsewhere(|| mutex.try_lock().is_ok()));
}

#[test]
fn everybody_is_told_of_a_poisoning_until_somebody_heals_it() {
    let mutex = Mutex::new(1_u32).unwrap();
    let mut guard = mutex.lock().unwrap();
    *guard = 2;
    guard.poison();
    drop(guard);
    for _ in 0..2 {
        assert_eq!(*poisoned(mutex.lock()), 2, "what was changed was committed");
        assert_eq!(*poisoned(mutex.try_lock()), 2);
        assert_eq!(elsewhere(|| *poisoned(mutex.lock_timeout(Duration::ZERO))), 2);
        assert_eq!(mutex.lock().or_else(LockError::recover).map(|guard| *guard), Ok(2));
    }
    let mut guard = poisoned(mutex.lock());
    guard.heal();
    guard.poison();
    guard.heal();
    guard.discard();
    drop(mutex.lock().unwrap());

    let lock = RwLock::new(1_u32).unwrap();
    lock.write().unwrap().poison();
    for _ in 0..2 {
        assert_eq!(*poisoned(lock.read()), 1);
        assert_eq!(*poisoned(lock.try_read()), 1);
        assert_eq!(*poisoned(lock.write()), 1);
        let _reading = poisoned(lock.read_timeout(Duration::MAX));
        assert_eq!(elsewhere(|| *poisoned(lock.try_read())), 1);
    }
    poisoned(lock.try_write()).heal();
    drop((lock.read().unwrap(), lock.read().unwrap()));
    drop(lock.write().unwrap());
}

#[test]
fn who_reads_already_is_told_of_a_poisoning_too() {
    let lock = RwLock::new(1_u32).unwrap();
    lock.write().unwrap().poison();
    let _outer = poisoned(lock.read());
    assert_eq!(*poisoned(lock.read()), 1);
    assert_eq!(*poisoned(lock.try_read()), 1);
}

#[test]
fn a_lock_is_waited_for_as_long_as_was_said() {
    let _watchdog = Sandbox::new();
    for wait in WAITS {
        let mutex = Mutex::new(0_u64).unwrap().with_wait(wait);
        let mut guard = mutex.lock().unwrap();
        elsewhere(|| {
            assert_eq!(refusal(mutex.try_lock()), SyncError::WouldBlock);
            assert_eq!(refusal(mutex.lock_timeout(Duration::ZERO)), SyncError::TimedOut);
            assert_eq!(refusal(mutex.lock_timeout(Duration::from_nanos(1))), SyncError::TimedOut);
            assert_eq!(refusal(mutex.lock_timeout(MOMENT)), SyncError::TimedOut);
        });
        thread::scope(|scope| {
            let waiting = [
                scope.spawn(|| *mutex.lock().unwrap() += 1),
                scope.spawn(|| *mutex.lock_timeout(Duration::MAX).unwrap() += 1),
                scope.spawn(|| *mutex.lock_timeout(Duration::from_secs(u64::MAX)).unwrap() += 1),
            ];
            thread::sleep(MOMENT);
            *guard += 10;
            drop(guard);
            waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        });
        assert_eq!(*mutex.lock().unwrap(), 13, "{wait:?}");
    }
}

/// Whoever waited long asks newcomers to stand back; when it has given up there is nobody to stand back for.
#[test]
fn what_nobody_waits_for_any_more_is_to_be_had_at_once() {
    let _watchdog = Sandbox::new();
    let mutex = Mutex::new(0_u8).unwrap();
    let guard = mutex.lock().unwrap();
    assert_eq!(elsewhere(|| refusal(mutex.lock_timeout(MOMENT))), SyncError::TimedOut);
    drop(guard);
    drop(mutex.try_lock().unwrap());

    let semaphore = Semaphore::new(0).unwrap();
    assert_eq!(semaphore.acquire_timeout(1, MOMENT), Err(SyncError::TimedOut));
    assert_eq!((semaphore.release(1), semaphore.try_acquire(1)), (Ok(()), Ok(())));
    assert_eq!(semaphore.acquire_timeout(1, MOMENT), Err(SyncError::TimedOut));
    assert_eq!((semaphore.release(1), semaphore.acquire_timeout(1, Duration::ZERO)), (Ok(()), Ok(())));

    let bounded = BoundedSemaphore::new(1).unwrap();
    let permit = bounded.permit().unwrap();
    assert_eq!(bounded.acquire_timeout(1, MOMENT), Err(SyncError::TimedOut));
    drop(permit);
    drop(bounded.try_permit().unwrap());

    let value = Value::new(0_u8).unwrap();
    let writer = value.writer().unwrap();
    assert_eq!(elsewhere(|| value.store_timeout(&1, MOMENT)), Err(SyncError::TimedOut));
    drop(writer);
    assert_eq!(value.try_store(&2), Ok(()));
}

#[test]
fn threads_take_turns_at_a_mutex() {
    const EACH: u64 = 5000;
    let _watchdog = Sandbox::new();
    for wait in WAITS {
        let mutex = Mutex::new([0_u64; 2]).unwrap().with_wait(wait);
        thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    for _ in 0..EACH {
                        let mut guard = mutex.lock().unwrap();
                        assert_eq!(guard[0], guard[1]);
                        guard[0] += 1;
                        guard[1] += 1;
                    }
                });
            }
        });
        assert_eq!(*mutex.lock().unwrap(), [3 * EACH; 2]);
    }
}

// ---- re-entrant mutexes ----------------------------------------------------------------------------------------------

fn check_reentrant_mutex<T: Pod + PartialEq + Debug + Send>() {
    let mutex = ReentrantMutex::<T>::new(sample(0)).unwrap();
    let (outer, inner) = (mutex.lock().unwrap(), mutex.try_lock().unwrap());
    for number in 1..5 {
        inner.set(&sample(number)).unwrap();
        assert_eq!((outer.get(), inner.get()), (Ok(sample(number)), Ok(sample(number))));
    }
    drop((outer, inner));
    unwinds(|| {
        mutex.lock().unwrap().set(&sample(9)).unwrap();
        unwind()
    });
    assert_eq!(elsewhere(|| mutex.lock_timeout(Duration::ZERO).unwrap().get()), Ok(sample(9)), "at once");
}

#[test]
fn a_re_entrant_mutex_keeps_what_was_set_at_once() {
    check_reentrant_mutex::<()>();
    of_every_size!(check_reentrant_mutex);
}

#[test]
fn a_re_entrant_mutex_is_free_when_the_last_guard_is_dropped_in_whatever_order() {
    let namespace = Namespace::builder().reentrant_mutex(NAME, 0_u64).anonymous().unwrap();
    let [mutex, another] = [(); 2].map(|()| namespace.reentrant_mutex::<u64>(NAME).unwrap());
    let is_free = || elsewhere(|| another.try_lock().is_ok());
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let guards = [mutex.lock(), another.try_lock(), mutex.lock_timeout(Duration::ZERO)];
        let mut guards = guards.map(|guard| Some(guard.unwrap()));
        for (dropped, index) in order.into_iter().enumerate() {
            assert!(!is_free(), "{dropped} of {order:?}");
            guards[index].as_ref().unwrap().set(&dropped.try_into().unwrap()).unwrap();
            guards[index] = None;
        }
        assert!(is_free());
        assert_eq!(mutex.lock().unwrap().get(), Ok(2));
    }
    assert_eq!(mutex.unlock(), Err(SyncError::NotOwner));
    mutex.lock().unwrap().leak();
    mutex.lock().unwrap().leak();
    assert_eq!(elsewhere(|| another.unlock()), Err(SyncError::NotOwner));
    assert_eq!((another.unlock(), is_free()), (Ok(()), false));
    assert_eq!((mutex.unlock(), is_free()), (Ok(()), true));
    assert_eq!(mutex.unlock(), Err(SyncError::NotOwner));
}

#[test]
fn threads_take_turns_at_a_re_entrant_mutex() {
    const EACH: u64 = 3000;
    let _watchdog = Sandbox::new();
    let mutex = ReentrantMutex::new(0_u64).unwrap();
    let guard = mutex.lock().unwrap();
    elsewhere(|| {
        assert_eq!(refusal(mutex.try_lock()), SyncError::WouldBlock);
        assert_eq!(refusal(mutex.lock_timeout(Duration::ZERO)), SyncError::TimedOut);
        assert_eq!(refusal(mutex.lock_timeout(MOMENT)), SyncError::TimedOut);
    });
    thread::scope(|scope| {
        for wait in WAITS {
            let mutex = mutex.clone().with_wait(wait);
            scope.spawn(move || {
                for _ in 0..EACH {
                    let outer = mutex.lock_timeout(Duration::MAX).unwrap();
                    let before = outer.get().unwrap();
                    let inner = mutex.lock().unwrap();
                    drop(outer);
                    inner.set(&(before + 1)).unwrap();
                }
            });
        }
        thread::sleep(MOMENT);
        drop(guard);
    });
    assert_eq!(mutex.lock().unwrap().get(), Ok(3 * EACH));
}

// ---- read-write locks ------------------------------------------------------------------------------------------------

fn check_rw_lock<T: Pod + PartialEq + Debug + Send>() {
    let lock = RwLock::<T>::new(sample(0)).unwrap();
    for number in 0..5 {
        let (one, another) = (lock.read().unwrap(), lock.try_read().unwrap());
        assert_eq!((*one, *another), (sample(number), sample(number)));
        drop((one, another));
        *lock.try_write().unwrap() = sample(99);
        *lock.write_timeout(Duration::ZERO).unwrap() = sample(number + 1);
        let mut guard = lock.write().unwrap();
        *guard = sample(98);
        guard.discard();
        unwinds(|| {
            *lock.write_timeout(Duration::MAX).unwrap() = sample(number + 1);
            let mut guard = lock.write().unwrap();
            *guard = sample(97);
            unwind()
        });
    }
    assert_eq!(elsewhere(|| *lock.read_timeout(Duration::MAX).unwrap()), sample(5));
}

#[test]
fn a_writers_guard_commits_and_readers_have_copies() {
    check_rw_lock::<()>();
    of_every_size!(check_rw_lock);
}

#[test]
fn a_thread_may_read_many_times_and_not_turn_into_a_writer() {
    let namespace = Namespace::builder().rw_lock(NAME, 1_u32).anonymous().unwrap();
    let [lock, another] = [(); 2].map(|()| namespace.rw_lock::<u32>(NAME).unwrap());
    let guards = [lock.read().unwrap(), another.read().unwrap(), lock.try_read().unwrap()];
    for handle in [&lock, &another] {
        assert_eq!(refusal(handle.write()), SyncError::Relocked);
        assert_eq!(refusal(handle.try_write()), SyncError::Relocked);
        assert_eq!(refusal(handle.write_timeout(Duration::ZERO)), SyncError::Relocked);
    }
    let [first, second, third] = guards;
    drop(first);
    drop(third);
    assert_eq!(elsewhere(|| refusal(lock.try_write())), SyncError::WouldBlock, "it reads still");
    drop(second);
    let guard = another.write().unwrap();
    for handle in [&lock, &another] {
        assert_eq!(refusal(handle.write()), SyncError::Relocked);
        assert_eq!(refusal(handle.read()), SyncError::Relocked);
        assert_eq!(refusal(handle.try_read()), SyncError::Relocked);
        assert_eq!(refusal(handle.read_timeout(Duration::MAX)), SyncError::Relocked);
    }
    drop(guard);
    drop(lock.read().unwrap());
    drop(lock.write().unwrap());
}

#[test]
fn readers_keep_writers_out_and_a_writer_keeps_everybody_out() {
    let _watchdog = Sandbox::new();
    for wait in WAITS {
        let lock = RwLock::new([0_u64; 2]).unwrap().with_wait(wait);
        let guard = lock.read().unwrap();
        elsewhere(|| {
            assert_eq!(*lock.read().unwrap(), [0; 2], "along with us");
            assert_eq!(refusal(lock.try_write()), SyncError::WouldBlock);
            assert_eq!(refusal(lock.write_timeout(Duration::ZERO)), SyncError::TimedOut);
            assert_eq!(refusal(lock.write_timeout(MOMENT)), SyncError::TimedOut);
        });
        thread::scope(|scope| {
            let writing = scope.spawn(|| *lock.write().unwrap() = [1; 2]);
            // A writer who waits lets no further readers in, but those who are in.
            until(|| elsewhere(|| lock.try_read().is_err()));
            assert_eq!(*lock.read().unwrap(), [0; 2]);
            let reading = scope.spawn(|| *lock.read_timeout(Duration::MAX).unwrap());
            thread::sleep(MOMENT);
            assert!(!writing.is_finished() && !reading.is_finished());
            drop(guard);
            writing.join().unwrap();
            assert_eq!(reading.join().unwrap(), [1; 2], "its turn comes after the writer's");
        });
        let mut guard = lock.write().unwrap();
        elsewhere(|| {
            assert_eq!(refusal(lock.try_read()), SyncError::WouldBlock);
            assert_eq!(refusal(lock.try_write()), SyncError::WouldBlock);
            assert_eq!(refusal(lock.read_timeout(Duration::ZERO)), SyncError::TimedOut);
            assert_eq!(refusal(lock.read_timeout(MOMENT)), SyncError::TimedOut);
            assert_eq!(refusal(lock.write_timeout(Duration::ZERO)), SyncError::TimedOut);
        });
        thread::scope(|scope| {
            let readers = [(); 3].map(|()| scope.spawn(|| *lock.read().unwrap()));
            thread::sleep(MOMENT);
            *guard = [2; 2];
            drop(guard);
            readers.into_iter().for_each(|reader| assert_eq!(reader.join().unwrap(), [2; 2]));
        });
    }
}

#[test]
fn threads_read_and_write_in_turns() {
    const EACH: u64 = 2000;
    let _watchdog = Sandbox::new();
    let lock = RwLock::new(0_u64).unwrap();
    // Beside the lock, so that it does what no cell could do.
    let (first, second) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                for _ in 0..EACH {
                    let mut guard = lock.write().unwrap();
                    *guard += 1;
                    first.store(*guard, Ordering::Relaxed);
                    second.store(*guard, Ordering::Relaxed);
                }
            });
            scope.spawn(|| {
                for round in 0..EACH {
                    let guard = lock.read().unwrap();
                    let both = [&first, &second].map(|word| word.load(Ordering::Relaxed));
                    assert_eq!(both, [*guard; 2]);
                    if round % 10 == 0 {
                        assert_eq!(*lock.read().unwrap(), *guard);
                    }
                }
            });
        }
    });
    assert_eq!(*lock.read().unwrap(), 2 * EACH);
}

// ---- semaphores ------------------------------------------------------------------------------------------------------

const MOST: u32 = i32::MAX as u32;

#[test]
fn a_semaphore_has_its_limits() {
    assert_eq!(Semaphore::new(MOST + 1).unwrap_err().kind(), ErrorKind::InvalidOptions);
    let semaphore = Semaphore::new(MOST - 2).unwrap();
    assert_eq!(semaphore.release(2), Ok(()));
    let too_many = |count| Err(SyncError::TooMany { count, limit: MOST.into() });
    assert_eq!(semaphore.release(1), too_many(u64::from(MOST) + 1));
    assert_eq!(semaphore.release(u32::MAX), too_many(u64::from(MOST) + u64::from(u32::MAX)));
    assert_eq!((semaphore.available(), semaphore.release(0)), (Ok(MOST), Ok(())));
    assert_eq!(semaphore.acquire(MOST + 1), too_many(u64::from(MOST) + 1), "never, so it does not wait");
    assert_eq!(semaphore.try_acquire(u32::MAX), too_many(u32::MAX.into()));
    assert_eq!(semaphore.acquire_timeout(u32::MAX, Duration::MAX), too_many(u32::MAX.into()));
    assert_eq!((semaphore.acquire(MOST), semaphore.available()), (Ok(()), Ok(0)));
    assert_eq!((semaphore.acquire(0), semaphore.try_acquire(0)), (Ok(()), Ok(())), "nothing is always there");
    assert_eq!(semaphore.try_acquire(1), Err(SyncError::WouldBlock));
    assert_eq!(semaphore.acquire_timeout(1, Duration::ZERO), Err(SyncError::TimedOut));
    assert_eq!(semaphore.try_permit().err(), Some(SyncError::WouldBlock));
    assert_eq!(semaphore.release(MOST), Ok(()), "whoever took them");
}

#[test]
fn permits_are_given_back_when_dropped() {
    let semaphore = Semaphore::new(2).unwrap();
    let (first, second) = (semaphore.permit().unwrap(), semaphore.try_permit().unwrap());
    assert_eq!((semaphore.try_permit().err(), semaphore.available()), (Some(SyncError::WouldBlock), Ok(0)));
    elsewhere(|| drop(first));
    assert_eq!(semaphore.available(), Ok(1));
    unwinds(|| {
        let _second = second;
        unwind()
    });
    assert_eq!(semaphore.available(), Ok(2));

    let semaphore = BoundedSemaphore::new(2).unwrap();
    let (first, second) = (semaphore.permit().unwrap(), semaphore.try_permit().unwrap());
    assert_eq!((semaphore.try_permit().err(), semaphore.available()), (Some(SyncError::WouldBlock), 0));
    elsewhere(|| drop(first));
    drop(second);
    assert_eq!(semaphore.available(), 2);
    forget(semaphore.permit().unwrap());
    assert_eq!((semaphore.release(1), semaphore.release(1)), (Ok(()), Err(SyncError::NotOwner)));
}

#[test]
fn who_wants_several_permits_gets_all_or_waits() {
    let _watchdog = Sandbox::new();
    for wait in WAITS {
        let semaphore = Semaphore::new(0).unwrap().with_wait(wait);
        thread::scope(|scope| {
            let waiting = scope.spawn(|| semaphore.acquire(3));
            for permits in 1..=2 {
                semaphore.release(1).unwrap();
                thread::sleep(MOMENT);
                assert_eq!((semaphore.available(), waiting.is_finished()), (Ok(permits), false), "it keeps none");
            }
            semaphore.release(1).unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(()));
            assert_eq!(semaphore.available(), Ok(0));
            let waiting = [1, 1, 2, 4].map(|count| {
                let semaphore = semaphore.clone();
                scope.spawn(move || semaphore.acquire_timeout(count, Duration::MAX))
            });
            thread::sleep(MOMENT);
            semaphore.release(8).unwrap();
            waiting.into_iter().for_each(|waiting| assert_eq!(waiting.join().unwrap(), Ok(())));
        });
        assert_eq!(semaphore.available(), Ok(0));
        assert_eq!(semaphore.acquire_timeout(1, MOMENT), Err(SyncError::TimedOut));

        let semaphore = BoundedSemaphore::new(4).unwrap().with_wait(wait);
        semaphore.acquire(4).unwrap();
        thread::scope(|scope| {
            let waiting = scope.spawn(|| semaphore.acquire(3));
            for permits in 1..=2 {
                semaphore.release(1).unwrap();
                thread::sleep(MOMENT);
                assert!(!waiting.is_finished(), "{permits}");
            }
            semaphore.release(1).unwrap();
            assert_eq!(waiting.join().unwrap(), Ok(()));
            assert_eq!(semaphore.available(), 0);
        });
        assert_eq!(semaphore.acquire_timeout(2, MOMENT), Err(SyncError::TimedOut));
        assert_eq!((semaphore.release(4), semaphore.available()), (Ok(()), 4));
    }
}

#[test]
fn a_bounded_semaphore_takes_back_what_was_taken_and_no_more() {
    for permits in [0, (1 << 16) + 1] {
        assert_eq!(BoundedSemaphore::new(permits).unwrap_err().kind(), ErrorKind::InvalidOptions);
    }
    let semaphore = BoundedSemaphore::new(3).unwrap();
    assert_eq!((semaphore.bound(), semaphore.available()), (3, 3));
    assert_eq!((semaphore.release(0), semaphore.acquire(0)), (Ok(()), Ok(())));
    assert_eq!(semaphore.release(1), Err(SyncError::NotOwner));
    let too_many = Err(SyncError::TooMany { count: 4, limit: 3 });
    assert_eq!((semaphore.acquire(4), semaphore.try_acquire(4)), (too_many, too_many));
    assert_eq!(semaphore.acquire_timeout(4, Duration::MAX), too_many);
    assert_eq!((semaphore.acquire(2), semaphore.available()), (Ok(()), 1));
    assert_eq!((semaphore.release(3), semaphore.available()), (Err(SyncError::NotOwner), 1), "then none");
    assert_eq!((semaphore.try_acquire(2), semaphore.available()), (Err(SyncError::WouldBlock), 1));
    assert_eq!(semaphore.try_acquire(1), Ok(()));
    assert_eq!((semaphore.acquire(0), semaphore.try_acquire(0)), (Ok(()), Ok(())), "though none is left");
    assert_eq!(elsewhere(|| semaphore.release(2)), Ok(()), "threads share what they took");
    assert_eq!((semaphore.release(1), semaphore.release(1)), (Ok(()), Err(SyncError::NotOwner)));
    for _ in 0..20 {
        assert_eq!((semaphore.acquire(3), semaphore.release(3)), (Ok(()), Ok(())));
    }
    assert_eq!(semaphore.available(), 3);
}

/// Checks that so many are within at most.
struct Room<'a> {
    inside: &'a AtomicU64,
    count: u64,
}

impl<'a> Room<'a> {
    fn enter(inside: &'a AtomicU64, count: u32, bound: u64) -> Self {
        let count = u64::from(count);
        let before = inside.fetch_add(count, Ordering::SeqCst);
        assert!(before + count <= bound, "{before} and {count} of {bound}");
        Self { inside, count }
    }
}

impl Drop for Room<'_> {
    fn drop(&mut self) {
        self.inside.fetch_sub(self.count, Ordering::SeqCst);
    }
}

#[test]
fn no_more_threads_are_in_than_there_are_permits() {
    const EACH: u32 = 2000;
    let _watchdog = Sandbox::new();
    for wait in [Wait::SpinThenPark, Wait::Park] {
        let semaphore = Semaphore::new(3).unwrap().with_wait(wait);
        let bounded = BoundedSemaphore::new(3).unwrap().with_wait(wait);
        let inside = [AtomicU64::new(0), AtomicU64::new(0)];
        thread::scope(|scope| {
            for thread in 0..4 {
                let (semaphore, bounded, inside) = (&semaphore, &bounded, &inside);
                scope.spawn(move || {
                    for round in 0..EACH {
                        let count = 1 + (thread + round) % 3;
                        semaphore.acquire(count).unwrap();
                        drop(Room::enter(&inside[0], count, 3));
                        semaphore.release(count).unwrap();
                        let permit = bounded.permit().unwrap();
                        drop(Room::enter(&inside[1], 1, 3));
                        drop(permit);
                    }
                });
            }
        });
        assert_eq!((semaphore.available(), bounded.available()), (Ok(3), 3));
    }
}

/// Permits of one process are all alike: which ones a thread gives back is nobody's business.
#[test]
fn threads_that_take_one_and_several_permits_can_give_them_back() {
    const EACH: usize = 50_000;
    let _watchdog = Sandbox::new();
    let semaphore = BoundedSemaphore::new(3).unwrap();
    thread::scope(|scope| {
        for count in [1, 2, 3, 1] {
            let semaphore = &semaphore;
            scope.spawn(move || {
                for _ in 0..EACH {
                    if semaphore.try_acquire(count).is_ok() {
                        semaphore.release(count).unwrap();
                    }
                }
            });
        }
    });
    assert_eq!(semaphore.available(), 3);
}

// ---- condition variables ---------------------------------------------------------------------------------------------

#[test]
fn a_wait_for_a_condition_ends_in_time_and_with_the_mutex() {
    let _watchdog = Sandbox::new();
    for wait in WAITS {
        let (mutex, changed) = (Mutex::new(1_u32).unwrap(), Condvar::new().unwrap().with_wait(wait));
        assert_eq!((changed.notify_one(), changed.notify_all()), (Ok(()), Ok(())), "to nobody");
        for timeout in [Duration::ZERO, Duration::from_nanos(1), MOMENT] {
            let (guard, late) = changed.wait_timeout(mutex.lock().unwrap(), timeout).unwrap();
            assert!(late && mutex.is_locked());
            let (guard, late) = changed.wait_timeout_while(guard, timeout, |&mut_value| mut_value == 1).unwrap();
            assert!(late && *guard == 1);
            let (guard, late) = changed.wait_timeout_while(guard, timeout, |value| *value == 2).unwrap();
            assert!(!late && mutex.is_locked());
            let guard = changed.wait_while(guard, |value| *value == 2).unwrap();
            assert_eq!(*guard, 1);
        }
        thread::scope(|scope| {
            let waiting = scope.spawn(|| {
                let mut guard = mutex.lock().unwrap();
                *guard = 10;
                while *guard == 10 {
                    guard = changed.wait(guard).unwrap();
                }
                let (mut guard, late) = changed.wait_timeout_while(guard, Duration::MAX, |value| *value == 11).unwrap();
                assert!(!late);
                *guard += 1;
                changed.notify_all().unwrap();
            });
            until(|| *mutex.lock().unwrap() == 10); // what was changed before the wait is committed
            for number in 11..=12 {
                *mutex.lock().unwrap() = number;
                changed.notify_one().unwrap();
            }
            let guard = changed.wait_while(mutex.lock().unwrap(), |value| *value < 13).unwrap();
            assert_eq!(*guard, 13);
            waiting.join().unwrap();
        });
    }
}

#[test]
fn whom_a_condition_concerns_is_woken() {
    const WAITERS: u32 = 4;
    let _watchdog = Sandbox::new();
    for all in [false, true] {
        let (tokens, changed) = (Mutex::new(0_u32).unwrap(), Condvar::new().unwrap());
        thread::scope(|scope| {
            let waiting: Vec<_> = (0..WAITERS)
                .map(|_| {
                    scope.spawn(|| {
                        let mut tokens = changed.wait_while(tokens.lock().unwrap(), |tokens| *tokens == 0).unwrap();
                        *tokens -= 1;
                    })
                })
                .collect();
            thread::sleep(MOMENT);
            if all {
                *tokens.lock().unwrap() = WAITERS;
                changed.notify_all().unwrap();
            } else {
                for _ in 0..WAITERS {
                    *tokens.lock().unwrap() += 1;
                    changed.notify_one().unwrap();
                }
            }
            waiting.into_iter().for_each(|waiting| waiting.join().unwrap());
        });
        assert_eq!(*tokens.lock().unwrap(), 0);
    }
}

#[test]
fn the_state_of_the_mutex_is_told_at_the_end_of_a_wait() {
    let (mutex, changed) = (Mutex::new(1_u32).unwrap(), Condvar::new().unwrap());
    mutex.lock().unwrap().poison();
    let guard = poisoned(changed.wait_timeout(poisoned(mutex.lock()), Duration::ZERO).map(|(guard, _)| guard).map_err(
        |error| match error {
            LockError::Poisoned((guard, late)) => {
                assert!(late);
                LockError::Poisoned(guard)
            }
            other => panic!("{other:?}"),
        },
    ));
    let mut guard = changed.wait_while(guard, |_| false).unwrap();
    guard.heal();
    let (guard, late) = changed.wait_timeout(guard, Duration::ZERO).unwrap();
    assert!(late);
    drop(guard);
    drop(mutex.lock().unwrap());
}

/// Each waits for the other's change, and there is one notification for each: a lost one is the end.
#[test]
fn two_who_wait_for_each_other_miss_nothing() {
    const ROUNDS: u64 = 10_000;
    let _watchdog = Sandbox::new();
    for (wait, is_within) in [(Wait::SpinThenPark, false), (Wait::Park, true), (Wait::Park, false)] {
        let turn = Mutex::new(0_u64).unwrap();
        let changed = Condvar::new().unwrap().with_wait(wait);
        thread::scope(|scope| {
            for own in 0..2 {
                let (turn, changed) = (&turn, &changed);
                scope.spawn(move || {
                    for _ in 0..ROUNDS {
                        let mut turn = changed.wait_while(turn.lock().unwrap(), |turn| *turn % 2 != own).unwrap();
                        *turn += 1;
                        if is_within {
                            changed.notify_one().unwrap();
                            drop(turn);
                        } else {
                            drop(turn);
                            changed.notify_one().unwrap();
                        }
                    }
                });
            }
        });
        assert_eq!(*turn.lock().unwrap(), 2 * ROUNDS);
    }
}

// ---- events ----------------------------------------------------------------------------------------------------------

#[test]
fn an_event_is_waited_for_until_it_is_set_and_stays_so() {
    let _watchdog = Sandbox::new();
    for wait in WAITS {
        let event = Event::new().unwrap().with_wait(wait);
        assert!(!event.is_set());
        for timeout in [Duration::ZERO, MOMENT] {
            assert_eq!(event.wait_timeout(timeout), Err(SyncError::TimedOut));
        }
        thread::scope(|scope| {
            let waiting = [(); 2].map(|()| scope.spawn(|| event.wait()));
            let another = scope.spawn(|| event.wait_timeout(Duration::MAX));
            thread::sleep(MOMENT);
            event.set().unwrap();
            waiting.into_iter().chain([another]).for_each(|waiting| assert_eq!(waiting.join().unwrap(), Ok(())));
        });
        assert_eq!((event.set(), event.wait(), event.wait_timeout(Duration::ZERO)), (Ok(()), Ok(()), Ok(())));
        assert!(event.is_set() && event.clone().is_set());
        assert_eq!((event.clear(), event.clear()), (Ok(()), Ok(())));
        assert_eq!((event.is_set(), event.wait_timeout(Duration::ZERO)), (false, Err(SyncError::TimedOut)));
    }
}

#[test]
fn what_was_done_before_an_event_is_seen_after_it() {
    const ROUNDS: u64 = 3000;
    let _watchdog = Sandbox::new();
    let events = [Event::new().unwrap(), Event::new().unwrap()];
    let value = AtomicU64::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            for round in 0..ROUNDS {
                events[0].wait().unwrap();
                events[0].clear().unwrap();
                assert_eq!(value.load(Ordering::Relaxed), round + 1);
                events[1].set().unwrap();
            }
        });
        for round in 0..ROUNDS {
            value.store(round + 1, Ordering::Relaxed);
            events[0].set().unwrap();
            events[1].wait().unwrap();
            events[1].clear().unwrap();
        }
    });
}

// ---- barriers --------------------------------------------------------------------------------------------------------

#[test]
fn all_parties_meet_again_and_again_and_the_last_one_leads() {
    const PARTIES: usize = 3;
    let _watchdog = Sandbox::new();
    for wait in WAITS {
        let barrier = Barrier::new(PARTIES).unwrap().with_wait(wait);
        assert_eq!((barrier.parties(), barrier.waiting(), barrier.is_broken()), (PARTIES, 0, false));
        // Three who spin on two cores stand in each other's way.
        let rounds = if wait == Wait::Spin { 20 } else { 300 };
        let rounds: Vec<_> = (0..rounds).map(|_| AtomicU64::new(0)).collect();
        thread::scope(|scope| {
            for _ in 0..PARTIES {
                scope.spawn(|| {
                    for (round, came) in rounds.iter().enumerate() {
                        let result = barrier.wait().unwrap();
                        assert_eq!(result.is_leader(), result.index() == PARTIES - 1);
                        came.fetch_add(1 << (8 * result.index()), Ordering::SeqCst);
                        barrier.wait_timeout(Duration::MAX).unwrap();
                        assert_eq!(came.load(Ordering::SeqCst), 0x01_01_01, "in round {round}");
                    }
                });
            }
        });
        assert_eq!((barrier.waiting(), barrier.is_broken()), (0, false));
    }
    let alone = Barrier::new(1).unwrap();
    for _ in 0..10 {
        let result: BarrierWaitResult = alone.wait_timeout(Duration::ZERO).unwrap();
        assert_eq!((result.index(), result.is_leader()), (0, true));
    }
}

#[test]
fn who_gives_up_breaks_the_barrier_for_all_until_it_is_reset() {
    let _watchdog = Sandbox::new();
    let barrier = Barrier::new(3).unwrap();
    let broken = Err(SyncError::Broken { pid: std::process::id().into() });
    for timeout in [Duration::ZERO, MOMENT] {
        thread::scope(|scope| {
            let waiting = scope.spawn(|| barrier.wait());
            until(|| barrier.waiting() == 1);
            assert_eq!(barrier.wait_timeout(timeout), Err(SyncError::TimedOut));
            assert_eq!(waiting.join().unwrap(), broken);
        });
        assert!(barrier.is_broken());
        assert_eq!((barrier.wait(), barrier.wait_timeout(Duration::ZERO)), (broken, broken), "those who come, too");
        barrier.reset().unwrap();
        assert_eq!((barrier.is_broken(), barrier.waiting()), (false, 0));
    }
    thread::scope(|scope| {
        let waiting = [(); 2].map(|()| scope.spawn(|| barrier.wait_timeout(Duration::MAX)));
        until(|| barrier.waiting() == 2);
        assert_eq!((barrier.abort(), barrier.abort()), (Ok(()), Ok(())));
        waiting.into_iter().for_each(|waiting| assert_eq!(waiting.join().unwrap(), broken));
        assert_eq!(barrier.wait(), broken);
        assert_eq!((barrier.reset(), barrier.reset()), (Ok(()), Ok(())));
        let waiting = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
        until(|| barrier.waiting() == 2);
        barrier.reset().unwrap();
        let reset = Err(SyncError::Broken { pid: 0 });
        waiting.into_iter().for_each(|waiting| assert_eq!(waiting.join().unwrap(), reset));
        let waiting = [(); 2].map(|()| scope.spawn(|| barrier.wait()));
        assert!(barrier.wait().is_ok());
        waiting.into_iter().for_each(|waiting| assert!(waiting.join().unwrap().is_ok()));
    });
    assert!(!barrier.is_broken());
}

#[test]
fn a_barrier_is_for_somebody_and_not_for_too_many() {
    for parties in [0, 1 << 13, usize::MAX] {
        assert_eq!(Barrier::new(parties).unwrap_err().kind(), ErrorKind::InvalidOptions, "{parties}");
    }
    assert_eq!(Barrier::new((1 << 13) - 1).unwrap().parties(), (1 << 13) - 1);
}

// ---- once ------------------------------------------------------------------------------------------------------------

#[test]
fn once_is_done_once_by_whoever_does_not_panic() {
    let _watchdog = Sandbox::new();
    for wait in WAITS {
        let once = Once::new().unwrap().with_wait(wait);
        let times = AtomicU64::new(0);
        assert_eq!((once.is_completed(), once.wait_timeout(Duration::ZERO)), (false, Err(SyncError::TimedOut)));
        unwinds(|| once.call_once(|| unwind()).unwrap());
        assert_eq!((once.is_completed(), once.wait_timeout(MOMENT)), (false, Err(SyncError::TimedOut)));
        thread::scope(|scope| {
            let waiting = [scope.spawn(|| once.wait()), scope.spawn(|| once.wait_timeout(Duration::MAX))];
            thread::sleep(MOMENT);
            for _ in 0..4 {
                scope.spawn(|| {
                    let done = once.call_once(|| {
                        assert_eq!(once.call_once(|| unreachable!()), Err(SyncError::Relocked));
                        thread::sleep(MOMENT);
                        times.fetch_add(1, Ordering::Relaxed);
                    });
                    assert_eq!((done, times.load(Ordering::Relaxed)), (Ok(()), 1));
                });
            }
            waiting.into_iter().for_each(|waiting| assert_eq!(waiting.join().unwrap(), Ok(())));
            assert_eq!(times.load(Ordering::Relaxed), 1);
        });
        assert_eq!(once.call_once(|| unreachable!()), Ok(()));
        assert_eq!((once.is_completed(), once.wait(), once.wait_timeout(Duration::ZERO)), (true, Ok(()), Ok(())));
    }
}

// ---- names -----------------------------------------------------------------------------------------------------------

/// One object of each kind.
fn all_kinds() -> NamespaceBuilder {
    Namespace::builder()
        .value("value", [1_u8; 100])
        .atomic("atomic", -7_i16)
        .array("array", &[[1_u32, 2, 3]; 5])
        .mutex("mutex", 2.5_f64)
        .reentrant_mutex("re-entrant", 3_u8)
        .rw_lock("rw lock", [4_u64; 9])
        .semaphore("semaphore", 5)
        .bounded_semaphore("bounded", 6)
        .condvar("condvar")
        .event("event")
        .barrier("barrier", 7)
        .once("once")
        .queue::<[u16; 3]>("queue", 8)
        .byte_queue("bytes", 4, 5000)
}

const KINDS: [(&str, ObjectKind, &str); 14] = [
    ("value", ObjectKind::Value, "value"),
    ("atomic", ObjectKind::Atomic, "atomic"),
    ("array", ObjectKind::Array, "array"),
    ("mutex", ObjectKind::Mutex, "mutex"),
    ("re-entrant", ObjectKind::ReentrantMutex, "re-entrant mutex"),
    ("rw lock", ObjectKind::RwLock, "read-write lock"),
    ("semaphore", ObjectKind::Semaphore, "semaphore"),
    ("bounded", ObjectKind::BoundedSemaphore, "bounded semaphore"),
    ("condvar", ObjectKind::Condvar, "condition variable"),
    ("event", ObjectKind::Event, "event"),
    ("barrier", ObjectKind::Barrier, "barrier"),
    ("once", ObjectKind::Once, "once"),
    ("queue", ObjectKind::Queue, "queue"),
    ("bytes", ObjectKind::Queue, "queue"),
];

/// Finds everything in a namespace as [`all_kinds`] made it.
fn check_all_kinds(namespace: &Namespace) {
    let is_listed = namespace.objects().zip(KINDS).all(|(found, (name, kind, _))| found == (name, kind));
    assert!(is_listed && namespace.objects().count() == KINDS.len());
    for (_, kind, text) in KINDS {
        assert_eq!(kind.to_string(), text);
    }
    assert_eq!(namespace.value("value").unwrap().load(), Ok([1_u8; 100]));
    assert_eq!(namespace.atomic::<i16>("atomic").unwrap().load(), -7);
    assert_eq!(namespace.array("array").unwrap().to_vec(), Ok(vec![[1_u32, 2, 3]; 5]));
    assert_eq!(*namespace.mutex::<f64>("mutex").unwrap().lock().unwrap(), 2.5);
    assert_eq!(namespace.reentrant_mutex::<u8>("re-entrant").unwrap().lock().unwrap().get(), Ok(3));
    assert_eq!(*namespace.rw_lock::<[u64; 9]>("rw lock").unwrap().read().unwrap(), [4; 9]);
    assert_eq!(namespace.semaphore("semaphore").unwrap().available(), Ok(5));
    assert_eq!(namespace.bounded_semaphore("bounded").unwrap().available(), 6);
    assert_eq!(namespace.condvar("condvar").unwrap().notify_all(), Ok(()));
    assert!(!namespace.event("event").unwrap().is_set());
    assert_eq!(namespace.barrier("barrier").unwrap().parties(), 7);
    assert!(!namespace.once("once").unwrap().is_completed());
    assert!(namespace.queue::<[u16; 3]>("queue").unwrap().is_empty());
    assert!(namespace.queue::<[u8]>("bytes").unwrap().is_empty());
}

#[test]
fn everything_in_a_namespace_is_found_by_its_name() {
    let sandbox = Sandbox::new();
    let anonymous = all_kinds().anonymous().unwrap();
    assert_eq!((anonymous.name(), anonymous.report().warnings().len()), (None, 0));
    check_all_kinds(&anonymous);
    check_all_kinds(&Namespace::from_fd(anonymous.share().unwrap()).unwrap());

    let builder = all_kinds().directory(sandbox.names());
    let named = builder.open(NAME).unwrap();
    assert_eq!(named.name(), Some(NAME));
    check_all_kinds(&named);
    let again = [
        builder.open(NAME).unwrap(),
        builder.clone().open_existing().open(NAME).unwrap(),
        Namespace::builder().directory(sandbox.names()).open_existing().open(NAME).unwrap(),
        named.clone(),
        Namespace::from_fd(named.share().unwrap()).unwrap(),
    ];
    for again in &again {
        assert_eq!(again.name(), Some(NAME));
        check_all_kinds(again);
        let event = again.event("event").unwrap();
        let namespace = (event.namespace_name(), Namespace::of(&event).objects().count());
        assert_eq!((event.kind(), event.object_name(), namespace), (ObjectKind::Event, "event", (Some(NAME), 14)));
        assert_eq!(event.report(), again.report());
        event.set().unwrap();
        assert!(named.object::<Event>("event").unwrap().is_set(), "the same one");
        event.clear().unwrap();
    }
    let lanes = Directory::at(sandbox.names()).inspect(NAME).unwrap().participants.len();
    assert_eq!(lanes, 1, "a process takes part once");
    let event = named.event("event").unwrap();
    drop((named, again));
    assert_eq!(sandbox.litter(), [NAME], "one object is enough");
    drop(event);
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn a_name_is_made_once_and_opened_if_it_is_there() {
    let sandbox = Sandbox::new();
    let builder = Namespace::builder().value("value", 1_u32).directory(sandbox.names());
    assert_eq!(builder.clone().open_existing().open(NAME).unwrap_err().kind(), ErrorKind::NotFound);
    let namespace = builder.clone().create_new().open(NAME).unwrap();
    assert_eq!(builder.clone().create_new().open(NAME).unwrap_err().kind(), ErrorKind::AlreadyExists);
    namespace.value("value").unwrap().store(&2_u32).unwrap();
    let others = Namespace::builder().value("value", 9_u32).directory(sandbox.names()).open(NAME).unwrap();
    assert_eq!(others.value::<u32>("value").unwrap().load(), Ok(2), "it was there");
    drop((namespace, others));
    assert_eq!(sandbox.litter(), [""; 0]);
    let namespace = builder.open(NAME).unwrap();
    assert_eq!(namespace.value::<u32>("value").unwrap().load(), Ok(1), "another one");
}

/// An error of that kind, whose message has all of these words.
fn tells<T: Debug>(result: Result<T, Error>, kind: ErrorKind, words: &[&str]) {
    let error = result.unwrap_err();
    let text = error.to_string();
    assert_eq!(error.kind(), kind, "{text}");
    words.iter().for_each(|word| assert!(text.contains(word), "{word:?} is not in: {text}"));
}

#[test]
fn what_is_not_there_or_something_else_is_refused_by_telling_both() {
    let _watchdog = Sandbox::new();
    let namespace = all_kinds().value("tagged", 1_u64).tag(*b"metres\0\0").anonymous().unwrap();
    let wrong = ErrorKind::WrongType;
    tells(namespace.value::<u8>("nothing"), ErrorKind::NotFound, &["nothing", "atomic", "re-entrant", "bounded"]);
    tells(namespace.queue::<u8>("nothing"), ErrorKind::NotFound, &["nothing", "queue"]);
    for (name, _, kind) in KINDS {
        let expected = if kind == "value" { "mutex" } else { "value" };
        let result = match expected {
            "mutex" => namespace.mutex::<[u8; 100]>(name).map(|_| ()),
            _ => namespace.value::<[u8; 100]>(name).map(|_| ()),
        };
        tells(result, wrong, &[name, kind, expected]);
    }
    tells(namespace.event("condvar"), wrong, &["condition variable", "event"]);
    tells(namespace.semaphore("bounded"), wrong, &["bounded semaphore of 6", "a semaphore"]);
    tells(namespace.barrier("once"), wrong, &["once", "barrier"]);
    tells(namespace.queue::<u64>("value"), wrong, &["value", "queue"]);

    tells(namespace.value::<[u8; 99]>("value"), wrong, &["100 bytes", "99 bytes"]);
    tells(namespace.value::<[u32; 25]>("value"), wrong, &["aligned to 1", "aligned to 4"]);
    tells(namespace.atomic::<u16>("atomic"), wrong, &["i16", "u16"]);
    tells(namespace.atomic::<i32>("atomic"), wrong, &["i16", "i32"]);
    tells(namespace.array::<[u32; 4]>("array"), wrong, &["array of 5", "12 bytes", "16 bytes"]);
    tells(namespace.array::<[u8; 12]>("array"), wrong, &["aligned to 4", "aligned to 1"]);
    tells(namespace.mutex::<u64>("mutex"), wrong, &["f64", "u64"]);
    tells(namespace.queue::<[u16; 2]>("queue"), wrong, &["6 bytes"]);
    tells(namespace.queue::<[u8]>("queue"), wrong, &["6 bytes", "queue"]);
    tells(namespace.queue::<u64>("bytes"), wrong, &["byte messages", "queue"]);

    let metres = namespace.tagged(*b"metres\0\0");
    assert_eq!(metres.value::<u64>("tagged").unwrap().load(), Ok(1));
    tells(namespace.value::<u64>("tagged"), wrong, &["metres", "u64"]);
    tells(namespace.tagged(*b"feet\0\0\0\0").value::<u64>("tagged"), wrong, &["metres", "feet"]);
    tells(metres.value::<[u8; 100]>("value"), wrong, &["metres"]);
}

#[test]
fn what_was_planned_must_be_there() {
    let sandbox = Sandbox::new();
    let wrong = ErrorKind::WrongType;
    let _namespace = all_kinds().directory(sandbox.names()).open(NAME).unwrap();
    let open = |plan: NamespaceBuilder| plan.directory(sandbox.names()).open(NAME);
    tells(open(Namespace::builder().event("once")), wrong, &["once", "event"]);
    tells(open(Namespace::builder().value("value", [1_u8; 101])), wrong, &["100 bytes", "101 bytes"]);
    tells(open(Namespace::builder().value("value", [1_u8; 100]).tag(*b"12345678")), wrong, &["12345678"]);
    tells(open(Namespace::builder().array("array", &[[0_u32; 3]; 6])), wrong, &["array of 5"]);
    tells(open(Namespace::builder().zeroed_array::<[u32; 3]>("array", 4)), wrong, &["array of 5"]);
    tells(open(Namespace::builder().bounded_semaphore("bounded", 5)), wrong, &["6 permits"]);
    tells(open(Namespace::builder().barrier("barrier", 8)), wrong, &["7 parties"]);
    tells(open(Namespace::builder().queue::<[u16; 4]>("queue", 8)), wrong, &["6 bytes"]);
    tells(open(Namespace::builder().byte_queue("queue", 8, 100)), wrong, &["6 bytes"]);
    assert!(open(Namespace::builder().barrier("barrier", 7).mutex("mutex", 9.0_f64)).is_ok());
    assert!(open(all_kinds()).is_ok());
}

#[test]
fn what_was_planned_and_is_missing_is_named() {
    let sandbox = Sandbox::new();
    let _namespace = all_kinds().directory(sandbox.names()).open(NAME).unwrap();
    let plan = Namespace::builder().event("event").event("another").directory(sandbox.names());
    tells(plan.open(NAME), ErrorKind::NotFound, &["another"]);
    tells(plan.clone().open_existing().open(NAME), ErrorKind::NotFound, &["another"]);
    tells(plan.create_new().open(NAME), ErrorKind::AlreadyExists, &[NAME]);
}

#[test]
fn what_cannot_be_planned() {
    let sandbox = Sandbox::new();
    let invalid = ErrorKind::InvalidOptions;
    let two = Namespace::builder().event("same").once("same");
    tells(two.anonymous(), ErrorKind::AlreadyExists, &["same"]);
    let long = "x".repeat(65);
    for name in [long.as_str(), "a\nb", "nul\0"] {
        tells(Namespace::builder().event(name).anonymous(), ErrorKind::InvalidName, &["choose another name"]);
    }
    for name in [&long[1..], "a/b", ".", "ümläut"] {
        let namespace = Namespace::builder().event(name).once("once").anonymous().unwrap();
        assert_eq!(namespace.event(name).unwrap().object_name(), name);
    }
    tells(Namespace::builder().barrier("barrier", 0).anonymous(), invalid, &["barrier", "parties"]);
    tells(Namespace::builder().bounded_semaphore("b", 0).anonymous(), invalid, &["permit"]);
    tells(Namespace::builder().queue::<u64>("q", usize::MAX).anonymous(), invalid, &["\"q\"", "capacity"]);
    tells(Namespace::builder().queue::<()>("q", 4).anonymous(), invalid, &["\"q\""]);
    tells(Namespace::builder().anonymous(), invalid, &["objects"]);
    for count in [0, 4097] {
        let plan = Namespace::builder().event("e").max_participants(count);
        tells(plan.anonymous(), invalid, &["participants"]);
    }
    for count in [1, 4096] {
        let plan = Namespace::builder().rw_lock("lock", 1_u8).barrier("b", 2).max_participants(count);
        assert_eq!(*plan.anonymous().unwrap().rw_lock::<u8>("lock").unwrap().read().unwrap(), 1);
    }
    let plan = Namespace::builder().event("e").directory(sandbox.names());
    for name in ["", "a/b", ".x", &"x".repeat(201)] {
        assert_eq!(plan.open(name).unwrap_err().kind(), ErrorKind::InvalidName, "{name:?}");
    }
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn another_length_is_refused_by_telling_both() {
    let sandbox = Sandbox::new();
    let _namespace = all_kinds().directory(sandbox.names()).open(NAME).unwrap();
    let open = |plan: NamespaceBuilder| plan.directory(sandbox.names()).open(NAME);
    let wrong = ErrorKind::WrongType;
    tells(open(Namespace::builder().array("array", &[[0_u32; 3]; 6])), wrong, &["array of 5", "array of 6"]);
    tells(open(Namespace::builder().bounded_semaphore("bounded", 9)), wrong, &["6 permits", "9 permits"]);
    tells(open(Namespace::builder().barrier("barrier", 8)), wrong, &["7 parties", "8 parties"]);
    tells(open(Namespace::builder().queue::<[u16; 4]>("queue", 8)), wrong, &["6 bytes", "8 bytes"]);
}

#[test]
fn a_name_of_another_kind_is_refused() {
    let sandbox = Sandbox::new();
    let _queue = QueueOptions::values::<u64>().directory(sandbox.names()).open("queue").unwrap();
    let _pipe = PipeOptions::values::<u64>().directory(sandbox.names()).sender("pipe").unwrap();
    let _namespace = all_kinds().directory(sandbox.names()).open("namespace").unwrap();
    let plan = Namespace::builder().directory(sandbox.names()).open_existing();
    tells(plan.open("queue"), ErrorKind::WrongType, &["queue", "namespace"]);
    tells(plan.open("pipe"), ErrorKind::WrongType, &["pipe", "namespace"]);
    let queues = QueueOptions::values::<u64>().directory(sandbox.names());
    tells(queues.open("namespace"), ErrorKind::WrongType, &["queue", "namespace"]);
    tells(queues.sender("namespace"), ErrorKind::WrongType, &["queue", "namespace"]);
    let pipes = PipeOptions::values::<u64>().directory(sandbox.names());
    tells(pipes.receiver("namespace"), ErrorKind::WrongType, &["pipe", "namespace"]);
    tells(Value::<u64>::from_fd(all_kinds().anonymous().unwrap().share().unwrap()), ErrorKind::WrongType, &["14"]);
}

#[test]
fn threads_come_and_go() {
    let sandbox = Sandbox::new();
    let plan = Namespace::builder().atomic("atomic", 0_u64).mutex("mutex", 0_u64).max_participants(4).persistent();
    let plan = plan.directory(sandbox.names());
    drop(plan.open(NAME).unwrap());
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                for _ in 0..100 {
                    let namespace = plan.open(NAME).unwrap();
                    namespace.atomic::<u64>("atomic").unwrap().fetch_add(1);
                    *namespace.mutex::<u64>("mutex").unwrap().lock().unwrap() += 1;
                }
            });
        }
    });
    let namespace = plan.open(NAME).unwrap();
    assert_eq!(namespace.atomic::<u64>("atomic").unwrap().load(), 300);
    assert_eq!(*namespace.mutex::<u64>("mutex").unwrap().lock().unwrap(), 300);
    let inspection = Directory::at(sandbox.names()).inspect(NAME).unwrap();
    let standings: Vec<_> = inspection.participants.iter().map(|participant| participant.standing).collect();
    assert_eq!(standings.iter().filter(|&&standing| standing == Standing::Alive).count(), 1, "{standings:?}");
    assert!(!standings.contains(&Standing::Dead));
}

#[test]
fn many_objects_lie_side_by_side() {
    const COUNT: u64 = 300;
    let name = |number: u64| format!("object {number}");
    let plan = (0..COUNT).fold(Namespace::builder(), |plan, number| match number % 3 {
        0 => plan.value(&name(number), number),
        1 => plan.mutex(&name(number), [number; 3]),
        _ => plan.array(&name(number), &[number as u16; 5]),
    });
    let namespace = plan.anonymous().unwrap();
    for round in 0..2 {
        for number in 0..COUNT {
            let (before, after) = (number + round, number + round + 1);
            match number % 3 {
                0 => assert_eq!(namespace.value(&name(number)).unwrap().update(|value| *value += 1), Ok(after)),
                1 => {
                    let mutex = namespace.mutex::<[u64; 3]>(&name(number)).unwrap();
                    let mut guard = mutex.lock().unwrap();
                    assert_eq!(*guard, [before; 3]);
                    *guard = [after; 3];
                }
                _ => {
                    let array = namespace.array(&name(number)).unwrap();
                    assert_eq!(array.to_vec(), Ok(vec![before as u16; 5]));
                    array.store_from(0, &[after as u16; 5]).unwrap();
                }
            }
        }
    }
}

#[test]
fn queues_in_a_namespace_are_queues() {
    let sandbox = Sandbox::new();
    let plan = Namespace::builder().queue::<[u16; 3]>("values", 5).byte_queue("bytes", 4, 5000).event("event");
    for namespace in [plan.anonymous().unwrap(), plan.directory(sandbox.names()).open(NAME).unwrap()] {
        let mut values: Queue<[u16; 3]> = namespace.queue("values").unwrap();
        let mut another = namespace.queue::<[u16; 3]>("values").unwrap();
        assert_eq!((values.capacity(), values.len()), (8, 0));
        for lap in 0..10 {
            (0..8).for_each(|number| values.try_send(&[lap, number, 0]).unwrap());
            assert_eq!(values.try_send(&[0; 3]), Err(SendError::Full));
            assert!(another.len() == 8 && another.is_full());
            (0..8).for_each(|number| assert_eq!(another.recv(), Ok([lap, number, 0])));
            assert_eq!(another.try_recv(), Err(RecvError::Empty));
        }
        let mut bytes = namespace.queue::<[u8]>("bytes").unwrap();
        let mut received = Vec::new();
        for length in [0, 1, 240, 241, 4096, 4999, 5000] {
            let sent = message(length as u64, length);
            bytes.send(&sent).unwrap();
            assert_eq!(bytes.recv(&mut received), Ok(length));
            assert!(received == sent, "{length}");
        }
        assert_eq!(bytes.send(&[0; 5001]), Err(SendError::TooLarge { length: 5001, limit: 5000 }));
        for _ in 0..10 {
            (0..4).for_each(|number| bytes.try_send(&message(number, 5000)).unwrap());
            assert_eq!(bytes.try_send(b""), Err(SendError::Full));
            (0..4).for_each(|number| {
                bytes.recv(&mut received).unwrap();
                assert!(received == message(number, 5000));
            });
        }
        thread::scope(|scope| {
            let (mut tx, mut rx) = another.split();
            scope.spawn(move || (0..5000).for_each(|number| tx.send(&[number; 3]).unwrap()));
            (0..5000).for_each(|number| assert_eq!(rx.recv(), Ok([number; 3])));
        });
        drop(namespace);
        let (tx, mut rx) = values.split();
        let error = tx.into_fd().map(drop).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidOptions, "it is not to be had apart from the others: {error}");
        rx.close().unwrap();
        assert_eq!(rx.recv(), Err(RecvError::Closed));
        assert_eq!((bytes.close(), bytes.send(b"x")), (Ok(()), Err(SendError::Closed)));
    }
    assert_eq!(sandbox.litter(), [""; 0]);
}

#[test]
fn the_queues_of_a_namespace_are_as_far_apart_as_others() {
    let namespace = Namespace::builder().queue::<u8>("first", 4).queue::<u8>("second", 4).anonymous().unwrap();
    let [mut first, mut second] = ["first", "second"].map(|name| namespace.queue::<u8>(name).unwrap());
    first.send(&1).unwrap();
    second.send(&2).unwrap();
    first.close().unwrap();
    assert_eq!((first.recv(), first.recv()), (Ok(1), Err(RecvError::Closed)));
    assert_eq!((second.recv(), second.send(&3), second.recv()), (Ok(2), Ok(()), Ok(3)));
    let other = QueueSender::<u8>::try_clone(&second.sender().unwrap()).unwrap();
    drop((namespace, second));
    assert_eq!(other.len(), 0);
}

#[test]
fn each_process_can_send_and_receive_in_each_queue_of_a_small_namespace() {
    let plan = Namespace::builder().queue::<u8>("before", 4).max_participants(1).queue::<u8>("after", 4);
    let namespace = plan.anonymous().unwrap();
    for name in ["before", "after"] {
        let mut queue = namespace.queue::<u8>(name).unwrap();
        queue.send(&1).unwrap();
        assert_eq!(queue.recv(), Ok(1));
        for error in [queue.sender().map(drop), queue.receiver().map(drop), namespace.queue::<u8>(name).map(drop)] {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::LanesTaken, "{name}");
        }
        let (mut tx, rx) = queue.split();
        drop(rx);
        tx.send(&2).unwrap();
        assert_eq!(tx.receiver().unwrap().recv(), Ok(2));
    }
}

#[test]
fn a_persistent_name_stays_with_what_is_in_it() {
    let sandbox = Sandbox::new();
    let plan = Namespace::builder().value("value", 1_u64).mutex("mutex", 1_u64).queue::<u64>("queue", 4);
    let plan = plan.directory(sandbox.names());
    plan.clone().persistent().open(NAME).unwrap().value("value").unwrap().store(&2_u64).unwrap();
    assert_eq!(sandbox.litter(), [NAME]);
    let directory = Directory::at(sandbox.names());
    assert!(directory.inspect(NAME).unwrap().is_persistent);
    for number in 2..5 {
        let namespace = plan.open(NAME).unwrap(); // whether it stays was settled when it was made
        let value = namespace.value::<u64>("value").unwrap();
        assert_eq!(value.load(), Ok(number));
        value.store(&(number + 1)).unwrap();
        let mut queue = namespace.queue::<u64>("queue").unwrap();
        if number > 2 {
            assert_eq!(queue.recv(), Ok(number));
        }
        queue.send(&(number + 1)).unwrap();
    }
    assert!(!directory.unlink_if_abandoned(NAME).unwrap());
    let replacing = plan.clone().abandoned(Abandoned::Replace).open(NAME).unwrap();
    assert_eq!(replacing.value::<u64>("value").unwrap().load(), Ok(5), "nobody has abandoned it");
    drop(replacing);
    directory.unlink(NAME, false).unwrap();
    assert_eq!(sandbox.litter(), [""; 0]);
    assert_eq!(plan.open(NAME).unwrap().value::<u64>("value").unwrap().load(), Ok(1));
}

/// Within a directory of its own, so that the default one is left alone.
fn name_single_objects(_: &[String]) {
    macro_rules! check {
        ($object:ty, $other:ty, $($argument:expr)?) => {{
            let name = stringify!($object);
            tells(<$object>::open(name), ErrorKind::NotFound, &[name]);
            let first = <$object>::create(name $(, $argument)?).unwrap();
            tells(<$object>::create(name $(, $argument)?), ErrorKind::AlreadyExists, &[name]);
            let others = [
                <$object>::open(name).unwrap(),
                <$object>::open_or_create(name $(, $argument)?).unwrap(),
                <$object>::from_fd(first.share().unwrap()).unwrap(),
                first.clone().with_wait(Wait::Park),
            ];
            for other in &others {
                assert_eq!((other.object_name(), other.namespace_name()), ("", Some(name)));
                assert_eq!((other.kind(), other.report()), (first.kind(), first.report()));
            }
            tells(<$other>::open(name), ErrorKind::WrongType, &[]);
            assert_eq!(Directory::default().names().unwrap(), [name]);
            drop((first, others));
            assert_eq!(Directory::default().names().unwrap(), [""; 0]);
            drop(<$object>::open_or_create(name $(, $argument)?).unwrap());
            tells(<$object>::open(name), ErrorKind::NotFound, &[name]);
            let alone = <$object>::new($($argument)?).unwrap();
            assert_eq!((alone.object_name(), alone.namespace_name()), ("", None));
            assert!(format!("{alone:?}").contains(name.split('<').next().unwrap()), "{alone:?}");
            drop(<$object>::from_fd(alone.share().unwrap()).unwrap());
        }};
    }
    check!(Value<u64>, Value<i64>, 1);
    check!(AtomicValue<u32>, AtomicValue<f32>, 1);
    check!(Array<u8>, Array<u16>, &[1; 10]);
    check!(Mutex<[u8; 3]>, Mutex<[u8; 4]>, [1; 3]);
    check!(ReentrantMutex<u64>, Mutex<u64>, 1);
    check!(RwLock<()>, Mutex<()>, ());
    check!(Semaphore, BoundedSemaphore, 1);
    check!(BoundedSemaphore, Semaphore, 1);
    check!(Condvar, Event,);
    check!(Event, Once,);
    check!(Barrier, Event, 2);
    check!(Once, Condvar,);

    let array = Array::create(NAME, &[1_u8; 10]).unwrap();
    tells(Array::open_or_create(NAME, &[1_u8; 11]), ErrorKind::WrongType, &["array of 10"]);
    assert_eq!(Array::<u8>::open(NAME).unwrap().len(), 10, "whatever its length");
    let namespace = Namespace::open(NAME).unwrap();
    assert_eq!(namespace.array::<u8>("").unwrap().len(), 10, "it has no name of its own");
    drop((array, namespace));
    let pair = Namespace::builder().event("first").event("second").open(NAME).unwrap();
    tells(Event::open(NAME), ErrorKind::WrongType, &["2", "one object"]);
    drop(pair);
    tells(Value::create("a/b", 1_u8), ErrorKind::InvalidName, &[]);
    assert_eq!(Directory::default().names().unwrap(), [""; 0]);
}

#[test]
fn objects_on_their_own_have_names_of_their_own() {
    let sandbox = Sandbox::new();
    let mut command = command("name_single_objects", &[]);
    Process::from(command.env(DIRECTORY_VARIABLE, sandbox.names()).spawn().unwrap()).finish();
}

// ---- what they are to the language -----------------------------------------------------------------------------------

macro_rules! are {
    ($($bound:ident)+: $($type:ty),+ $(,)?) => {
        const _: () = {
            const fn check<T: $($bound +)+ ?Sized>() {}
            $(check::<$type>();)+
        };
    };
}

/// Does not compile if one of them is: then there are two ways to read `check`.
macro_rules! are_not {
    ($bound:ident: $($type:ty),+ $(,)?) => { $(
        const _: () = {
            struct Is;
            trait Ambiguous<A> {
                fn check() {}
            }
            impl<T: ?Sized> Ambiguous<()> for T {}
            impl<T: ?Sized + $bound> Ambiguous<Is> for T {}
            let _ = <$type as Ambiguous<_>>::check;
        };
    )+ };
}

are!(Send Sync Clone Debug: Namespace, NamespaceBuilder, Value<u64>, AtomicValue<u64>, Array<u64>, Mutex<u64>,
    ReentrantMutex<u64>, RwLock<u64>, Semaphore, BoundedSemaphore, Condvar, Event, Barrier, Once);
are!(Object: Value<u64>, AtomicValue<u64>, Array<u64>, Mutex<u64>, ReentrantMutex<u64>, RwLock<u64>, Semaphore,
    BoundedSemaphore, Condvar, Event, Barrier, Once);
are!(Debug: ValueWriter<'static, u64>, ArrayGuard<'static, u64>, MutexGuard<'static, u64>,
    ReentrantMutexGuard<'static, u64>, RwLockReadGuard<'static, u64>, RwLockWriteGuard<'static, u64>,
    Permit<'static, Semaphore>, LockError<MutexGuard<'static, u64>>);
// Permits are the process's.
are!(Send Sync: Permit<'static, Semaphore>, Permit<'static, BoundedSemaphore>, BarrierWaitResult, SyncError);
are!(Copy Eq: BarrierWaitResult, SyncError, ObjectKind);
are_not!(Send: ValueWriter<'static, u64>, ArrayGuard<'static, u64>, MutexGuard<'static, u64>,
    ReentrantMutexGuard<'static, u64>, RwLockReadGuard<'static, u64>, RwLockWriteGuard<'static, u64>);
are_not!(Clone: MutexGuard<'static, u64>, RwLockReadGuard<'static, u64>, Permit<'static, BoundedSemaphore>);

#[test]
fn handles_guards_and_errors_show_themselves() {
    let namespace = all_kinds().anonymous().unwrap();
    assert!(format!("{namespace:?} {:?}", all_kinds()).contains("Namespace"));
    let mutex = namespace.mutex::<f64>("mutex").unwrap();
    assert!(format!("{mutex:?}").contains("\"mutex\""), "{mutex:?}");
    let guard = mutex.lock().unwrap();
    assert!(format!("{guard:?}").contains("2.5"), "{guard:?}");
    let refused = mutex.lock().unwrap_err();
    assert!(format!("{refused:?}").contains("Relocked") && refused.to_string().contains("this thread"));
    let lock = namespace.rw_lock::<[u64; 9]>("rw lock").unwrap();
    assert!(format!("{:?}", lock.read().unwrap()).contains("4, 4"));
    assert!(format!("{:?}", lock.write().unwrap()).contains("4, 4"));
    let reentrant = namespace.reentrant_mutex::<u8>("re-entrant").unwrap();
    assert!(format!("{:?}", reentrant.lock().unwrap()).contains("re-entrant"));
    let section = namespace.array::<[u32; 3]>("array").unwrap();
    assert!(format!("{:?}", section.lock().unwrap()).contains("length: 5"));
    let value = namespace.value::<[u8; 100]>("value").unwrap();
    assert!(format!("{:?}", value.writer().unwrap()).contains("\"value\""));
    assert_eq!(format!("{:?}", namespace.semaphore("semaphore").unwrap().permit().unwrap()), "Permit");

    let mut poisoning = Mutex::new(0_u8).unwrap();
    poisoning.lock().unwrap().poison();
    let text = poisoning.lock().unwrap_err().to_string();
    assert!(text.contains("poisoned"), "{text}");
    poisoning = poisoning.with_wait(Wait::Park);
    assert_eq!(poisoning.try_lock().unwrap_err().recover().map(|guard| *guard), Ok(0));
    assert_eq!(LockError::<()>::from(SyncError::Forked).recover(), Err(SyncError::Forked));

    let errors = [
        (SyncError::WouldBlock, std::io::ErrorKind::WouldBlock),
        (SyncError::TimedOut, std::io::ErrorKind::TimedOut),
        (SyncError::Relocked, std::io::ErrorKind::Deadlock),
        (SyncError::NotOwner, std::io::ErrorKind::PermissionDenied),
        (SyncError::TooMany { count: 9, limit: 5 }, std::io::ErrorKind::InvalidInput),
        (SyncError::OutOfBounds { index: 9, length: 5 }, std::io::ErrorKind::InvalidInput),
        (SyncError::Broken { pid: 0 }, std::io::ErrorKind::ConnectionReset),
        (SyncError::Broken { pid: 123 }, std::io::ErrorKind::ConnectionReset),
        (SyncError::Corrupt, std::io::ErrorKind::InvalidData),
        (SyncError::Forked, std::io::ErrorKind::Unsupported),
        (SyncError::LockLost, std::io::ErrorKind::ConnectionReset),
    ];
    let texts: std::collections::BTreeSet<String> = errors.iter().map(|(error, _)| error.to_string()).collect();
    assert_eq!(texts.len(), errors.len(), "each says something of its own");
    for (error, kind) in errors {
        assert_eq!(std::io::Error::from(error).kind(), kind);
    }
    assert!(texts.iter().any(|text| text.contains("123")) && texts.iter().any(|text| text.contains("array of 5")));
}

#[test]
fn a_process_reads_under_a_lock_as_often_as_can_be_counted() {
    let lock = RwLock::new(1_u8).unwrap();
    let most = (1 << 15) - 1;
    let mut guards: Vec<_> = (0..most).map(|_| lock.read().unwrap()).collect();
    let crowded = SyncError::TooMany { count: most + 1, limit: most };
    assert_eq!(lock.read().err().and_then(|error| error.recover().err()), Some(crowded));
    assert!(!elsewhere(|| lock.try_read().is_ok()));
    guards.pop();
    assert!(elsewhere(|| lock.try_read().is_ok()));
    drop(guards);
    drop(lock.write().unwrap());
}

/// A thread's memory of what it reads can be gone before its last guards are.
#[test]
fn guards_that_outlive_the_memory_of_them_let_go_of_what_they_had() {
    static LOCK: LazyLock<RwLock<u8>> = LazyLock::new(|| RwLock::new(1).unwrap());
    thread_local! {
        static GUARDS: RefCell<Vec<RwLockReadGuard<'static, u8>>> = const { RefCell::new(Vec::new()) };
    }
    let other = LOCK.read().unwrap();
    thread::spawn(|| GUARDS.with_borrow_mut(|guards| guards.extend([LOCK.read().unwrap(), LOCK.read().unwrap()])))
        .join()
        .unwrap();
    let refused = thread::spawn(|| LOCK.try_write().map(drop).is_err()).join().unwrap();
    assert!(refused, "one is left");
    drop(other);
    drop(LOCK.write().unwrap());
}
