//! `RwLock`: readers, writers, poisoning.

use std::cell::RefCell;
use std::fmt::Debug;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use bytemuck::Pod;
use tombolo::Namespace;
use tombolo::Shareable;
use tombolo::sync::{RwLock, RwLockReadGuard, SyncError};

use crate::common::{MOMENT, NAME, WAITS, in_other_thread, of_every_size, poisoned, refusal, sample, unwind, unwinds};
use crate::support::{TestDir, until};

fn check_rw_lock<T: Pod + Shareable + PartialEq + Debug + Send>() {
    let lock = RwLock::<T>::new(sample(0)).unwrap();
    for number in 0..5 {
        let (one, another) = (lock.read().unwrap(), lock.try_read().unwrap());
        assert_eq!((*one, *another), (sample(number), sample(number)));
        drop((one, another));
        *lock.try_write().unwrap() = sample(99);
        *lock.write_timeout(Duration::ZERO).unwrap() = sample(number + 1);
        let mut guard = lock.write().unwrap();
        *guard = sample(98);
        guard.rollback();
        unwinds(|| {
            *lock.write_timeout(Duration::MAX).unwrap() = sample(number + 1);
            let mut guard = lock.write().unwrap();
            *guard = sample(97);
            unwind()
        });
    }
    assert_eq!(in_other_thread(|| *lock.read_timeout(Duration::MAX).unwrap()), sample(5));
}

#[test]
fn rw_lock_write_guard_dropped_commits() {
    check_rw_lock::<()>();
    of_every_size!(check_rw_lock);
}

#[test]
fn rw_lock_read_by_thread_nested_read_works_upgrade_is_refused() {
    let namespace = Namespace::builder().rw_lock(NAME, 1_u32).create().unwrap();
    let [lock, another] = [(); 2].map(|()| namespace.rw_lock::<u32>(NAME).unwrap());
    let guards = [lock.read().unwrap(), another.read().unwrap(), lock.try_read().unwrap()];
    for handle in [&lock, &another] {
        assert_eq!(refusal(handle.write()), SyncError::WouldDeadlock);
        assert_eq!(refusal(handle.try_write()), SyncError::WouldDeadlock);
        assert_eq!(refusal(handle.write_timeout(Duration::ZERO)), SyncError::WouldDeadlock);
    }
    let [first, second, third] = guards;
    drop(first);
    drop(third);
    assert_eq!(in_other_thread(|| refusal(lock.try_write())), SyncError::WouldBlock, "it reads still");
    drop(second);
    let guard = another.write().unwrap();
    for handle in [&lock, &another] {
        assert_eq!(refusal(handle.write()), SyncError::WouldDeadlock);
        assert_eq!(refusal(handle.read()), SyncError::WouldDeadlock);
        assert_eq!(refusal(handle.try_read()), SyncError::WouldDeadlock);
        assert_eq!(refusal(handle.read_timeout(Duration::MAX)), SyncError::WouldDeadlock);
    }
    drop(guard);
    drop(lock.read().unwrap());
    drop(lock.write().unwrap());
}

#[test]
fn rw_lock_poisoned_every_lock_reports_it_until_cleared() {
    let lock = RwLock::new(1_u32).unwrap();
    lock.write().unwrap().poison();
    for _ in 0..2 {
        assert_eq!(*poisoned(lock.read()), 1);
        assert_eq!(*poisoned(lock.try_read()), 1);
        assert_eq!(*poisoned(lock.write()), 1);
        let _reading = poisoned(lock.read_timeout(Duration::MAX));
        assert_eq!(in_other_thread(|| *poisoned(lock.try_read())), 1);
    }
    poisoned(lock.try_write()).clear_poison();
    drop((lock.read().unwrap(), lock.read().unwrap()));
    drop(lock.write().unwrap());
}

#[test]
fn rw_lock_poisoned_nested_read_reports_it() {
    let lock = RwLock::new(1_u32).unwrap();
    lock.write().unwrap().poison();
    let _outer = poisoned(lock.read());
    assert_eq!(*poisoned(lock.read()), 1);
    assert_eq!(*poisoned(lock.try_read()), 1);
}

#[test]
fn rw_lock_readers_exclude_writers_writer_excludes_all() {
    let _watchdog = TestDir::new();
    for wait in WAITS {
        let lock = RwLock::new([0_u64; 2]).unwrap().with_wait(wait);
        let guard = lock.read().unwrap();
        in_other_thread(|| {
            assert_eq!(*lock.read().unwrap(), [0; 2], "along with us");
            assert_eq!(refusal(lock.try_write()), SyncError::WouldBlock);
            assert_eq!(refusal(lock.write_timeout(Duration::ZERO)), SyncError::TimedOut);
            assert_eq!(refusal(lock.write_timeout(MOMENT)), SyncError::TimedOut);
        });
        thread::scope(|scope| {
            let writing = scope.spawn(|| *lock.write().unwrap() = [1; 2]);
            // A waiting writer keeps out new readers, but not nested reads.
            until(|| in_other_thread(|| lock.try_read().is_err()));
            assert_eq!(*lock.read().unwrap(), [0; 2]);
            let reading = scope.spawn(|| *lock.read_timeout(Duration::MAX).unwrap());
            thread::sleep(MOMENT);
            assert!(!writing.is_finished() && !reading.is_finished());
            drop(guard);
            writing.join().unwrap();
            assert_eq!(reading.join().unwrap(), [1; 2], "its turn comes after the writer's");
        });
        let mut guard = lock.write().unwrap();
        in_other_thread(|| {
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
fn rw_lock_concurrent_readers_see_whole_writes() {
    const EACH: u64 = 2000;
    let _watchdog = TestDir::new();
    let lock = RwLock::new(0_u64).unwrap();
    // Outside the lock's own value, so that the lock alone protects them.
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

#[test]
fn rw_lock_too_many_reads_is_refused() {
    let lock = RwLock::new(1_u8).unwrap();
    let most = (1 << 15) - 1;
    let mut guards: Vec<_> = (0..most).map(|_| lock.read().unwrap()).collect();
    let crowded = SyncError::LimitExceeded { count: most + 1, limit: most };
    assert_eq!(lock.read().err().and_then(|error| error.into_guard().err()), Some(crowded));
    assert!(!in_other_thread(|| lock.try_read().is_ok()));
    guards.pop();
    assert!(in_other_thread(|| lock.try_read().is_ok()));
    drop(guards);
    drop(lock.write().unwrap());
}

/// Thread-local storage records what a thread reads. It can be destroyed before the last guards.
#[test]
fn rw_lock_read_guard_dropped_after_tls_destruction_releases() {
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
