//! `Mutex`: guards, owners, poisoning, timeouts.

use std::fmt::Debug;
use std::thread;
use std::time::Duration;

use bytemuck::Pod;
use tombolo::Namespace;
use tombolo::Shareable;
use tombolo::sync::{LockError, Mutex, RwLock, SyncError};

use crate::common::{MOMENT, NAME, WAITS, in_other_thread, of_every_size, poisoned, refusal, sample, unwind, unwinds};
use crate::support::TestDir;

fn check_mutex<T: Pod + Shareable + PartialEq + Debug + Send>() {
    let mutex = Mutex::<T>::new(sample(0)).unwrap();
    for number in 0..6 {
        assert_eq!(*mutex.lock().unwrap(), sample(number));
        *mutex.try_lock().unwrap() = sample(99);
        *mutex.lock_timeout(Duration::ZERO).unwrap() = sample(number + 1);
        let mut guard = mutex.lock().unwrap();
        *guard = sample(98);
        guard.rollback();
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
    assert_eq!(in_other_thread(|| *mutex.lock().unwrap()), sample(6));
    assert!(!mutex.is_locked());
}

#[test]
fn mutex_guard_dropped_commits_unless_rolled_back_or_unwinding() {
    check_mutex::<()>();
    of_every_size!(check_mutex);
}

#[test]
fn mutex_guard_made_while_unwinding_commits() {
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
fn mutex_relocked_by_owner_thread_is_refused_on_every_handle() {
    let namespace = Namespace::builder().mutex(NAME, 0_u8).mutex("other", 0_u8).create().unwrap();
    let [first, second] = [(); 2].map(|()| namespace.mutex::<u8>(NAME).unwrap());
    let guard = first.lock().unwrap();
    for handle in [&first, &second, &first.clone()] {
        assert_eq!(refusal(handle.lock()), SyncError::WouldDeadlock);
        assert_eq!(refusal(handle.try_lock()), SyncError::WouldDeadlock);
        assert_eq!(refusal(handle.lock_timeout(Duration::ZERO)), SyncError::WouldDeadlock);
        assert!(handle.is_locked());
    }
    assert_eq!(in_other_thread(|| refusal(second.try_lock())), SyncError::WouldBlock);
    drop(namespace.mutex::<u8>("other").unwrap().lock().unwrap());
    drop(guard);
    drop(second.lock().unwrap());
}

#[test]
fn mutex_kept_locked_owner_thread_can_unlock() {
    let mutex = Mutex::new(1_u32).unwrap();
    assert_eq!(mutex.unlock(), Err(SyncError::NotOwner));
    let mut guard = mutex.lock().unwrap();
    *guard = 2;
    guard.keep_locked();
    assert!(mutex.is_locked());
    assert_eq!(in_other_thread(|| mutex.unlock()), Err(SyncError::NotOwner));
    assert_eq!(refusal(mutex.lock()), SyncError::WouldDeadlock);
    assert_eq!(mutex.unlock(), Ok(()));
    assert!(!mutex.is_locked());
    assert_eq!(mutex.unlock(), Err(SyncError::NotOwner));
    assert_eq!(*mutex.lock().unwrap(), 2, "what was changed was committed");

    mutex.lock().unwrap().poison();
    poisoned(mutex.lock()).keep_locked();
    assert_eq!(mutex.unlock(), Ok(()));
    poisoned(mutex.lock()).clear_poison();
    drop(mutex.lock().unwrap());
}

#[test]
fn mutex_kept_locked_poison_state_is_stored() {
    let mutex = Mutex::new(1_u32).unwrap();
    let mut guard = mutex.lock().unwrap();
    guard.poison();
    guard.keep_locked();
    assert_eq!(mutex.unlock(), Ok(()));
    let mut guard = poisoned(mutex.lock());
    guard.clear_poison();
    guard.keep_locked();
    assert_eq!(mutex.unlock(), Ok(()));
    drop(mutex.lock().unwrap());
}

#[test]
fn mutex_unlock_while_guard_alive_is_refused() {
    let mutex = Mutex::new(1_u32).unwrap();
    let mut guard = mutex.lock().unwrap();
    assert_eq!(mutex.unlock(), Err(SyncError::NotOwner));
    assert!(in_other_thread(|| mutex.try_lock().is_err()));
    *guard = 2;
    drop(guard);
    assert_eq!(*mutex.lock().unwrap(), 2);
}

#[test]
fn mutex_poisoned_every_lock_reports_it_until_cleared() {
    let mutex = Mutex::new(1_u32).unwrap();
    let mut guard = mutex.lock().unwrap();
    *guard = 2;
    guard.poison();
    drop(guard);
    for _ in 0..2 {
        assert_eq!(*poisoned(mutex.lock()), 2, "what was changed was committed");
        assert_eq!(*poisoned(mutex.try_lock()), 2);
        assert_eq!(in_other_thread(|| *poisoned(mutex.lock_timeout(Duration::ZERO))), 2);
        assert_eq!(mutex.lock().or_else(LockError::into_guard).map(|guard| *guard), Ok(2));
    }
    let mut guard = poisoned(mutex.lock());
    guard.clear_poison();
    guard.poison();
    guard.clear_poison();
    guard.rollback();
    drop(mutex.lock().unwrap());
}

#[test]
fn mutex_lock_timeout_waits_as_long_as_given() {
    let _watchdog = TestDir::new();
    for wait in WAITS {
        let mutex = Mutex::new(0_u64).unwrap().with_wait(wait);
        let mut guard = mutex.lock().unwrap();
        in_other_thread(|| {
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

#[test]
fn mutex_concurrent_increments_are_exact() {
    const EACH: u64 = 5000;
    let _watchdog = TestDir::new();
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
